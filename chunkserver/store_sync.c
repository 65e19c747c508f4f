#include "chunkserver/store_priv.h"

#include <stdlib.h>
#include <utlist.h>

#include "common/log.h"

int store_will_write(struct store *s, struct replica *r, struct err *err)
{
	bool journaled;
	uint32_t version;
	int res = 0;

	pthread_mutex_lock(&s->lock);
	r->writers++;
	/* A client knows this version, so that the raise to it, which told of a loss, is confirmed: the
	 * journal is to say so too. */
	journaled = r->journaled && !r->lossy;
	version = r->version;
	if (r->lost)
		res = replica_open(s, r, err); /* says which disk has failed */
	pthread_mutex_unlock(&s->lock);
	/* Two first writers both append: one sync serves both. */
	if (res == 0 && !journaled)
		res = journal_append(r->disk->journal, r->chunk, version, r->file.chunk_bits,
				     err);
	pthread_mutex_lock(&s->lock);
	disk_error(s, r->disk, res, "append to its journal", true);
	if (res == 0 && r->lost)
		res = replica_open(s, r, err);
	if (res == 0) {
		r->journaled = r->dirty = true;
		r->changed = ++s->changes;
		replica_loss_known(r);
	} else {
		r->writers--;
	}
	pthread_mutex_unlock(&s->lock);
	return res;
}

void store_did_write(struct store *s, struct replica *r)
{
	pthread_mutex_lock(&s->lock);
	r->writers--;
	r->writes++;
	pthread_mutex_unlock(&s->lock);
}

struct keep {
	struct store *s;
	struct disk *disk;
};

/* Whether a crash now would leave in question what the replica has: bytes that are not synced, or a
 * write, synced or not, that the rest of the chain may not have. */
static bool must_be_named(const struct replica *r)
{
	const struct range *x;

	DL_FOREACH(r->ranges, x)
		if (x->applied)
			return true;
	return r->dirty || r->writers > 0 || r->unclean || r->in_doubt || r->lossy;
}

/* The journal's next content. `journaled` follows it, so it is settled under the same lock. */
static int keep_dirty(void *arg, struct journal_names *ret)
{
	struct keep *keep = arg;
	struct replica *r, *next;
	int res = 0;

	*ret = (struct journal_names){0};
	pthread_mutex_lock(&keep->s->lock);
	ret->items = malloc((HASH_COUNT(keep->s->replicas) + 1) * sizeof(*ret->items));
	if (!ret->items)
		res = ERR_NOMEM;
	HASH_ITER(hh, keep->s->replicas, r, next) {
		if (res < 0 || r->disk != keep->disk)
			continue;
		if (must_be_named(r))
			ret->items[ret->n++] = (struct journal_record){
				.kind = JOURNAL_OPEN, .chunk = r->chunk, .version = r->version,
				.chunk_bits = r->file.chunk_bits, .lossy = r->lossy,
				.told = r->told};
		else
			r->journaled = false;
	}
	pthread_mutex_unlock(&keep->s->lock);
	return res;
}

int disk_begin(struct store *s, struct disk *disk, bool clean, struct err *err)
{
	struct keep keep = {s, disk};
	return journal_begin(disk->journal, keep_dirty, &keep, clean, err);
}

static void journal_anew(struct store *s, struct disk *disk)
{
	struct err err = {0};
	int res = disk->failed ? 0 : disk_begin(s, disk, false, &err);

	if (res < 0)
		log_error("disk %s: journal: %s", disk->dir, err_message(&err));
	/* store_sync_all tries again, unless the disk has failed. It is not for one that has succeeded to take
	 * that back: another's failure may be of a name that came after it had looked. */
	if (res < 0)
		disk->journal_due = true;
	pthread_mutex_lock(&s->lock);
	disk_error(s, disk, res, "begin its journal anew", true);
	pthread_mutex_unlock(&s->lock);
}

void replica_sync_failed(struct store *s, struct replica *r, int code)
{
	pthread_mutex_lock(&s->lock);
	r->unclean = r->lossy = true;
	r->told = 0;
	pthread_mutex_unlock(&s->lock);
	store_damaged(s, r, code);
	journal_anew(s, r->disk);
}

/* The directory of its file; a disk that cannot do that has failed. */
static int sync_dir(struct store *s, struct replica *r, struct err *err)
{
	char dir[PATH_ROOM];
	int res;

	replica_dir(r, dir);
	res = s->o.io->sync_dir(s->o.io, dir);
	if (res == 0)
		return 0;
	pthread_mutex_lock(&s->lock);
	disk_error(s, r->disk, res, "sync a directory", true);
	pthread_mutex_unlock(&s->lock);
	return err_set(err, res, "directory %s: %s", dir, err_text(res));
}

int replica_sync_name(struct store *s, struct replica *r, struct err *err)
{
	int res = sync_dir(s, r, err);

	if (res < 0)
		replica_sync_failed(s, r, res);
	return res;
}

static int sync_now(struct store *s, struct replica *r, const struct chunk_file *f, struct err *err)
{
	uint64_t writes;
	bool name_dirty;
	int res;

	pthread_mutex_lock(&s->lock);
	writes = r->writes;
	name_dirty = r->name_dirty;
	pthread_mutex_unlock(&s->lock);
	res = chunk_file_sync(f, err);
	if (res == 0 && name_dirty)
		res = sync_dir(s, r, err);
	pthread_mutex_lock(&s->lock);
	if (res == 0 && r->lost)
		res = replica_open(s, r, err); /* says which disk has failed */
	if (res < 0) {
		pthread_mutex_unlock(&s->lock);
		replica_sync_failed(s, r, res);
		return res;
	}
	r->name_dirty = false;
	/* A write that began meanwhile may have missed the sync. */
	if (r->writers == 0 && r->writes == writes)
		r->dirty = false;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

/* One at a time: the kernel tells once for each open file that it could not write something, and all who
 * use a replica share one. Of two that sync it together one would be told that all is well. */
int store_sync(struct store *s, struct replica *r, const struct chunk_file *f, struct err *err)
{
	int res = 0;

	pthread_mutex_lock(&s->lock);
	while (r->syncing)
		wait_changed(s, INT64_MAX);
	if (r->unclean)
		res = err_set(err, ERR_IO, "chunk %016llx v%u: what was written may be lost: a sync has "
			      "failed", (unsigned long long)r->chunk, r->version);
	r->syncing = res == 0;
	pthread_mutex_unlock(&s->lock);
	if (res < 0)
		return res;
	res = sync_now(s, r, f, err);
	pthread_mutex_lock(&s->lock);
	r->syncing = false;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return res;
}

/* A dirty replica to sync, acquired; NULL when there is none after `from`. */
static struct replica *next_dirty(struct store *s, uint64_t *from, struct chunk_file *ret_file)
{
	struct replica *r, *next, *best = NULL;

	pthread_mutex_lock(&s->lock);
	HASH_ITER(hh, s->replicas, r, next) {
		if (r->dirty && !r->unclean && !r->alone && r->chunk >= *from &&
		    (!best || r->chunk < best->chunk) && replica_open(s, r, NULL) == 0)
			best = r;
	}
	if (best) {
		best->users++;
		*ret_file = best->file;
		*from = best->chunk + 1;
	}
	pthread_mutex_unlock(&s->lock);
	return best;
}

/* Whether the journals name more than they must: what a sync or a raise has settled since. */
static bool journal_stale(struct store *s)
{
	struct replica *r, *next;
	bool stale = false;

	pthread_mutex_lock(&s->lock);
	HASH_ITER(hh, s->replicas, r, next)
		stale |= r->journaled && !must_be_named(r);
	pthread_mutex_unlock(&s->lock);
	return stale;
}

void store_sync_all(struct store *s)
{
	struct chunk_file file;
	struct replica *r;
	uint64_t from = 0;
	bool any;

	while ((r = next_dirty(s, &from, &file)) != NULL) {
		struct err err = {0};
		if (store_sync(s, r, &file, &err) < 0)
			log_error("sync: %s", err_message(&err));
		store_release(s, r);
	}
	any = journal_stale(s);
	for (size_t i = 0; i < s->n_disks; i++)
		if (atomic_exchange(&s->disks[i].journal_due, false) || any)
			journal_anew(s, &s->disks[i]);
}
