/* Connecting, disconnecting, and conversions between the public and the wire's structs. */
#include "client/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "client/result.h"
#include "common/clock.h"

int64_t client_deadline(const struct cairn *fs)
{
	return deadline_in(fs->timeout_ms);
}

static void cred_of_process(struct wire_cred *ret)
{
	gid_t groups[GROUPS_MAX];
	int n = getgroups(GROUPS_MAX, groups);

	*ret = (struct wire_cred){.uid = geteuid(), .gid = getegid()};
	/* A process in more groups than a message can tell of: it acts with none of them. */
	for (int i = 0; i < n; i++)
		ret->groups[ret->n_groups++] = groups[i];
}

void client_cred(const struct cairn_cred *cred, struct wire_cred *ret)
{
	if (!cred) {
		cred_of_process(ret);
		return;
	}
	*ret = (struct wire_cred){.uid = cred->uid, .gid = cred->gid, .umask = cred->umask};
	ret->n_groups = (uint16_t)(cred->n_groups < GROUPS_MAX ? cred->n_groups : GROUPS_MAX);
	for (unsigned i = 0; i < ret->n_groups; i++)
		ret->groups[i] = cred->groups[i];
}

static struct timespec timespec_of(struct when w)
{
	return (struct timespec){.tv_sec = (time_t)w.sec, .tv_nsec = (long)w.nsec};
}

void client_attr(const struct wire_attr *from, struct cairn_attr *ret)
{
	*ret = (struct cairn_attr){
		.inode = from->inode, .mode = from->mode, .nlink = from->nlink,
		.uid = from->uid, .gid = from->gid, .rdev = from->rdev, .size = from->size,
		.blocks = from->blocks, .atime = timespec_of(from->atime),
		.mtime = timespec_of(from->mtime), .ctime = timespec_of(from->ctime),
		.btime = timespec_of(from->btime), .change = from->change,
		.parent = from->parent,
	};
}

void cairn_attr_to_stat(const struct cairn_attr *attr, struct stat *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->st_ino = attr->inode;
	ret->st_mode = attr->mode;
	ret->st_nlink = attr->nlink;
	ret->st_uid = attr->uid;
	ret->st_gid = attr->gid;
	ret->st_rdev = attr->rdev;
	ret->st_size = (off_t)attr->size;
	ret->st_blksize = DATA_BYTES_MAX;
	ret->st_blocks = (blkcnt_t)attr->blocks;
	ret->st_atim = attr->atime;
	ret->st_mtim = attr->mtime;
	ret->st_ctim = attr->ctime;
}

static int64_t or_default(int64_t value, int64_t def)
{
	return value > 0 ? value : def;
}

static void options_take(struct cairn *fs, const struct cairn_options *o)
{
	fs->timeout_ms = or_default(o->timeout_ms, CLIENT_TIMEOUT_DEFAULT_MS);
	fs->readahead_bytes = o->readahead_bytes < 0
				      ? 0
				      : or_default(o->readahead_bytes,
						   CLIENT_READAHEAD_DEFAULT);
	if (o->name)
		snprintf(fs->name, sizeof(fs->name), "%s", o->name);
	else
		snprintf(fs->name, sizeof(fs->name), "%.40s:%d", program_invocation_short_name,
			 (int)getpid());
}

static int connect_session(struct cairn *fs, const struct cairn_options *o, struct err *err)
{
	int64_t connect_ms = or_default(o->connect_ms, CLIENT_CONNECT_DEFAULT_MS);
	int r;

	if (!o->masters || !o->key_file)
		return err_set(err, ERR_INVAL, "masters and key_file must be given");
	r = auth_key_load(o->key_file, &fs->key, err);
	if (r < 0)
		return r;
	options_take(fs, o);
	r = master_init(&fs->master, o->masters, &fs->key, fs->name, connect_ms, err);
	if (r < 0)
		return r;
	r = readahead_pool_init(&fs->readahead, fs);
	if (r == 0) {
		r = session_open(&fs->session, &fs->master, client_deadline(fs), err);
		if (r < 0)
			readahead_pool_release(&fs->readahead);
	}
	if (r < 0) {
		master_release(&fs->master);
		return r;
	}
	fs->salt = fs->session.id;
	peers_init(&fs->peers, &fs->key, fs->name, connect_ms);
	hedge_init(&fs->hedge);
	inodes_init(&fs->inodes);
	pthread_mutex_init(&fs->files_lock, NULL);
	return 0;
}

int cairn_connect(const struct cairn_options *options, struct cairn **ret, char *errbuf,
		  size_t errbuf_bytes)
{
	struct err err = {0};
	struct cairn *fs = calloc(1, sizeof(*fs));
	int r = fs ? connect_session(fs, options, &err) : ERR_NOMEM;

	*ret = NULL;
	if (r < 0) {
		if (fs)
			auth_key_clear(&fs->key);
		free(fs);
		r = (int)result(r, &err);
		if (errbuf && errbuf_bytes > 0)
			snprintf(errbuf, errbuf_bytes, "%s", cairn_error());
		return r;
	}
	*ret = fs;
	return 0;
}

void cairn_abort(struct cairn *fs)
{
	master_end(&fs->master, clock_ms());
}

void cairn_disconnect(struct cairn *fs)
{
	if (!fs)
		return;
	if (!fs->master.end_ms)
		master_end(&fs->master, deadline_in(CLIENT_DISCONNECT_MS));
	/* No call is in progress any more: the list is ours. */
	while (fs->files)
		handle_close(fs->files, NULL);
	readahead_pool_release(&fs->readahead);
	session_close(&fs->session);
	peers_release(&fs->peers);
	hedge_release(&fs->hedge);
	inodes_release(&fs->inodes);
	master_release(&fs->master);
	pthread_mutex_destroy(&fs->files_lock);
	auth_key_clear(&fs->key);
	free(fs);
}
