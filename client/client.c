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

void client_held(struct cairn *fs, struct cairn_attr *attr, const struct held *held)
{
	int64_t left = held->attr || held->name ? cache_left_ms(&fs->lease.cache) : 0;

	attr->attr_ms = held->attr ? left : 0;
	attr->name_ms = held->name ? left : 0;
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
	fs->atime = o->atime;
	if (o->name)
		snprintf(fs->name, sizeof(fs->name), "%s", o->name);
	else
		snprintf(fs->name, sizeof(fs->name), "%.40s:%d", program_invocation_short_name,
			 (int)getpid());
}

static int connect_leases(struct cairn *fs, const struct cairn_options *o, struct err *err)
{
	int r = session_open(&fs->session, &fs->master, o->cache, o->kernel_checks,
			     client_deadline(fs), err);

	if (r < 0)
		return r;
	fs->inodes.closed = lease_closed;
	fs->inodes.closed_arg = &fs->lease;
	r = lease_init(&fs->lease, &fs->session, &fs->master, &fs->inodes, o->cache, o->watch,
		       writeback_kick, &fs->writeback, err);
	if (r < 0)
		session_close(&fs->session);
	return r;
}

static int connect_pools(struct cairn *fs, const struct cairn_options *o, struct err *err)
{
	size_t hold = (size_t)or_default(o->write_buffer_bytes, 0);
	int r = readahead_pool_init(&fs->readahead, fs);

	if (r < 0)
		return r;
	r = writeback_init(&fs->writeback, fs, hold,
			   or_default(o->write_buffer_ms, WRITEBACK_DEFAULT_MS));
	if (r == 0) {
		r = connect_leases(fs, o, err);
		if (r < 0)
			writeback_release(&fs->writeback);
	}
	if (r < 0)
		readahead_pool_release(&fs->readahead);
	return r;
}

static int connect_session(struct cairn *fs, const struct cairn_options *o, struct err *err)
{
	int64_t connect_ms = or_default(o->connect_ms, CLIENT_CONNECT_DEFAULT_MS);
	int r;

	if (!o->masters || !o->credentials)
		return err_set(err, ERR_INVAL, "masters and credentials must be given");
	options_take(fs, o);
	r = cred_load(&fs->cred, o->credentials, NULL, CRED_ROLES_CLIENT, fs->name, err);
	if (r < 0)
		return r;
	fs->cred.allow_plaintext = o->allow_plaintext;
	r = master_init(&fs->master, o->masters, &fs->cred, connect_ms, err);
	if (r < 0)
		return r;
	inodes_init(&fs->inodes);
	r = connect_pools(fs, o, err);
	if (r < 0) {
		inodes_release(&fs->inodes);
		master_release(&fs->master);
		return r;
	}
	fs->salt = fs->session.id;
	peers_init(&fs->peers, &fs->cred, connect_ms);
	hedge_init(&fs->hedge);
	gone_init(&fs->gone);
	locks_init(&fs->locks);
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
			cred_release(&fs->cred);
		free(fs);
		r = (int)result(r, &err);
		if (errbuf && errbuf_bytes > 0)
			snprintf(errbuf, errbuf_bytes, "%s", cairn_error());
		return r;
	}
	*ret = fs;
	return 0;
}

uint64_t cairn_root(struct cairn *fs)
{
	return session_root(&fs->session);
}

bool cairn_is_checked(struct cairn *fs)
{
	return session_is_checked(&fs->session);
}

void cairn_abort(struct cairn *fs)
{
	master_end(&fs->master, clock_ms());
}

void cairn_disconnect(struct cairn *fs)
{
	if (!fs)
		return;
	writeback_stop(&fs->writeback, fs->master.end_ms ? fs->master.end_ms : client_deadline(fs));
	if (!fs->master.end_ms)
		master_end(&fs->master, deadline_in(CLIENT_DISCONNECT_MS));
	/* No call is in progress any more: the list is ours. */
	while (fs->files)
		handle_close(fs->files, NULL);
	readahead_pool_release(&fs->readahead);
	locks_release(&fs->locks);
	lease_stop(&fs->lease);
	session_close(&fs->session);
	peers_release(&fs->peers);
	hedge_release(&fs->hedge);
	lease_release(&fs->lease);
	writeback_release(&fs->writeback);
	inodes_release(&fs->inodes);
	gone_release(&fs->gone);
	master_release(&fs->master);
	pthread_mutex_destroy(&fs->files_lock);
	cred_release(&fs->cred);
	free(fs);
}
