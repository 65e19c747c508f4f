#include "chunkserver/store_priv.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/log.h"
#include "common/wait.h"

struct scan {
	struct store *s;
	struct disk *disk;
	char dir[PATH_ROOM];
	unsigned sub;
};

/* A second file of one chunk. A crash leaves two between two names, and a disk that had failed comes
 * back beside the copy that another disk got: the higher version counts. Nothing that was found out
 * about the lower one holds for it, and a file of that one which is open is not its file. Two of
 * one version differ in who was written to last, which nobody can tell: both stay, and the one that is
 * used serves nobody before it is compared, and may lack what was acknowledged. */
static int scan_second(struct scan *x, struct replica *r, uint32_t version, const char *path)
{
	struct store *s = x->s;
	uint64_t chunk = r->chunk;
	char old[PATH_ROOM];

	if (r->version == version) {
		log_warn("chunk %016llx v%u is on the disks %s and %s: it must be compared",
			 (unsigned long long)chunk, version, r->disk->dir, x->disk->dir);
		r->unclean = r->lossy = r->twice = true;
		r->told = 0;
		return 0;
	}
	if (r->version > version) {
		s->o.io->unlink(s->o.io, path);
		return 0;
	}
	replica_path(r, r->version, old);
	s->o.io->unlink(s->o.io, old);
	r->alone = true;
	replica_forget(s, r);
	return replica_add(s, chunk, version, x->disk) ? 0 : ERR_NOMEM;
}

static int scan_name(void *arg, const char *name)
{
	struct scan *x = arg;
	char path[PATH_ROOM + 300];
	uint64_t chunk;
	uint32_t version;
	struct replica *r;

	snprintf(path, sizeof(path), "%s/%s", x->dir, name);
	if (!format_name_get(name, &chunk, &version) || (chunk & 0xff) != x->sub) {
		size_t n = strlen(name);
		if (n > 4 && strcmp(name + n - 4, ".new") == 0)
			x->s->o.io->unlink(x->s->o.io, path);
		else
			log_warn("disk %s: %s is no chunk; left alone", x->disk->dir, path);
		return 0;
	}
	r = replica_find(x->s, chunk);
	if (!r)
		return replica_add(x->s, chunk, version, x->disk) ? 0 : ERR_NOMEM;
	return scan_second(x, r, version, path);
}

static int scan_disk(struct store *s, struct disk *disk, struct err *err)
{
	struct scan *x = calloc(1, sizeof(*x));
	int r = 0;

	if (!x)
		return err_set(err, ERR_NOMEM, "out of memory");
	x->s = s;
	x->disk = disk;
	for (x->sub = 0; x->sub < 256 && r == 0; x->sub++) {
		snprintf(x->dir, sizeof(x->dir), "%.3900s/chunks/%02x", disk->dir, x->sub);
		r = s->o.io->list(s->o.io, x->dir, scan_name, x);
		if (r < 0)
			err_set(err, r, "disk %s: cannot list %s: %s", disk->dir, x->dir,
				err_text(r));
	}
	free(x);
	return r;
}

/* A power loss can take a file that was never synced: its name, or its header (zeros). What the
 * journal tells of it is enough to make it anew, empty; if others have more, it is taken from them,
 * and if nobody has, it was fsynced by nobody. Without it nobody could use the chunk ever again. */
static struct replica *renew(struct store *s, struct disk *disk, const struct journal_record *j,
			     bool *ret_renewed)
{
	struct replica *r = replica_find(s, j->chunk);
	char path[PATH_ROOM];
	struct err err = {0};

	*ret_renewed = false;
	if (j->chunk_bits < CHUNK_BITS_MIN || j->chunk_bits > CHUNK_BITS_MAX ||
	    (r && (r->disk != disk || r->version != j->version || r->unclean ||
		   replica_open(s, r, NULL) != ERR_CORRUPT)))
		return r;
	chunk_path(disk, j->chunk, j->version, path);
	if (chunk_file_renew(s->o.io, path, j->chunk, j->chunk_bits, &err) < 0) {
		log_warn("%s", err.text);
		return r;
	}
	*ret_renewed = true;
	return r ? r : replica_add(s, j->chunk, j->version, disk);
}

/* A name of an older version in this life's journal: a raise has come since, and was answered. */
static void recall_loss(struct replica *r, const struct journal_record *j)
{
	r->lossy = j->lossy;
	r->told = r->lossy && j->in_this_life && (j->told || j->version < r->version) ? r->version
										      : 0;
}

/* After an unclean stop: what the journal names is read again. */
static void recover(struct store *s, struct disk *disk, const struct journal_names *names)
{
	for (size_t i = 0; i < names->n; i++) {
		bool renewed;
		struct replica *r = renew(s, disk, &names->items[i], &renewed);
		struct err err = {0};
		uint32_t bad = 0;
		if (r && r->unclean && r->disk == disk)
			recall_loss(r, &names->items[i]); /* the last one counts */
		/* Another disk has a newer one: this journal says nothing about that. */
		if (!r || r->unclean || r->disk != disk)
			continue;
		r->unclean = true;
		r->dirty = r->journaled = r->name_dirty = true;
		recall_loss(r, &names->items[i]);
		/* Data and checksum do not change in one step: what does not verify now was being
		 * written, and its neighbours were not. */
		if (replica_open(s, r, &err) < 0 || chunk_file_verify(&r->file, &bad, &err) < 0)
			r->damaged = true;
		r->torn = bad > 0 || renewed;
		log_info("chunk %016llx v%u was open at the crash%s: %u blocks do not verify%s%s%s",
			 (unsigned long long)r->chunk, r->version,
			 renewed ? ", and is made anew" : "", bad,
			 r->lossy ? "; the page cache was lost" : "", err.text[0] ? ": " : "",
			 err.text);
	}
}

/* A mistake of the administrator's is told, not worked around. */
static bool can_go_without(int code)
{
	return code != ERR_BUSY && code != ERR_CONFIG && code != ERR_WRONG_CLUSTER &&
	       code != ERR_NAMETOOLONG && code != ERR_NOMEM && code != ERR_MFILE;
}

/* A disk that cannot be used stays in the list, failed and without replicas. */
static int give_up_disk(struct store *s, struct disk *disk, const char *dir)
{
	struct replica *r, *next;

	HASH_ITER(hh, s->replicas, r, next) {
		if (r->disk != disk)
			continue;
		replica_close(s, r);
		HASH_DEL(s->replicas, r);
		free(r);
	}
	journal_free(disk->journal);
	disk_close(s->o.io, disk);
	disk->failed = true;
	disk->dir = strdup(dir);
	return disk->dir ? 0 : ERR_NOMEM;
}

static int open_disk(struct store *s, struct disk *disk, const char *dir, struct err *err)
{
	struct journal_names names = {0};
	int r = disk_open(s->o.io, dir, disk, err);

	if (r < 0)
		return r;
	r = scan_disk(s, disk, err);
	if (r == 0)
		r = journal_open(s->o.io, dir, &disk->journal, &names, err);
	if (r == 0) {
		recover(s, disk, &names);
		r = disk_begin(s, disk, false, err);
	}
	free(names.items);
	return r;
}

/* Every disk that can be used; none is an error, the first one's. */
static int open_disks(struct store *s, const struct store_options *o, struct err *err)
{
	struct err first = {0};
	size_t good = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->n_dirs; i++) {
		struct err local = {0};
		s->n_disks++;
		r = open_disk(s, &s->disks[i], o->dirs[i], &local);
		good += r == 0;
		if (r == 0)
			continue;
		if (!can_go_without(r))
			return err_set(err, r, "%s", local.text);
		if (!first.code)
			first = local;
		if (o->n_dirs > 1)
			log_error("%s: the server starts without this disk", local.text);
		r = give_up_disk(s, &s->disks[i], o->dirs[i]);
	}
	return r == 0 && good == 0 ? err_set(err, first.code, "%s", first.text) : r;
}

int store_open(const struct store_options *options, struct store **ret, struct err *err)
{
	struct store *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s || wait_cond_init(&s->changed) < 0) {
		free(s);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	s->o = *options;
	pthread_mutex_init(&s->lock, NULL);
	s->disks = calloc(options->n_dirs, sizeof(*s->disks));
	if (!s->disks)
		r = err_set(err, ERR_NOMEM, "out of memory");
	if (r == 0)
		r = open_disks(s, options, err);
	if (r == 0)
		r = disks_agree(s->o.io, s->disks, s->n_disks, err);
	if (r < 0) {
		s->o.damaged = NULL; /* not open: nothing is to be said at the end */
		s->o.disk_failed = NULL;
		store_close(s);
		return r;
	}
	log_info("%u chunks on %zu disks", HASH_COUNT(s->replicas), s->n_disks);
	*ret = s;
	return 0;
}

void store_close(struct store *s)
{
	struct replica *r, *next;
	bool opened = s->o.damaged != NULL;

	if (opened)
		store_sync_all(s);
	for (size_t i = 0; i < s->n_disks; i++) {
		struct err err = {0};
		if (opened && !s->disks[i].failed && disk_begin(s, &s->disks[i], true, &err) < 0)
			log_warn("%s", err.text);
		journal_free(s->disks[i].journal);
		disk_close(s->o.io, &s->disks[i]);
	}
	HASH_ITER(hh, s->replicas, r, next) {
		replica_close(s, r);
		HASH_DEL(s->replicas, r);
		free(r->recent);
		free(r);
	}
	free(s->disks);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
