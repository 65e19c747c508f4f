#include "chunkserver/store.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "chunkserver/disk.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/crc.h"
#include "common/log.h"

enum { OPEN_FILES_MAX = 512, PATH_ROOM = 4096 };

struct replica {
	uint64_t chunk;
	uint32_t version;
	struct disk *disk;
	struct chunk_file file; /* fd -1: not open */
	bool unclean, damaged, in_doubt, gone;
	bool alone;	  /* a raise, delete or install has it */
	unsigned users;	  /* local reads and writes */
	unsigned writers; /* those between will_write and did_write */
	bool dirty;	  /* has unsynced bytes, and is in the journal */
	bool journaled;
	bool name_dirty; /* its directory entry is not synced */
	uint64_t writes; /* counted, to see whether one came during a sync */
	struct range *ranges;
	UT_hash_handle hh;
};

struct store {
	struct store_options o;
	struct disk *disks;
	size_t n_disks;
	pthread_mutex_t lock; /* protects all below and the replicas' fields */
	pthread_cond_t changed;
	struct replica *replicas;
	unsigned open_files;
};

/* ---- small parts ---- */

const struct io *store_io(struct store *s)
{
	return s->o.io;
}

static void replica_path(const struct replica *r, uint32_t version, char *ret)
{
	char name[FORMAT_NAME_BYTES + 8];
	format_name_put(name, r->chunk, version);
	snprintf(ret, PATH_ROOM, "%s/chunks/%s", r->disk->dir, name);
}

static void replica_dir(const struct replica *r, char *ret)
{
	snprintf(ret, PATH_ROOM, "%s/chunks/%02x", r->disk->dir, (unsigned)(r->chunk & 0xff));
}

static struct replica *replica_find(struct store *s, uint64_t chunk)
{
	struct replica *r;
	HASH_FIND(hh, s->replicas, &chunk, sizeof(chunk), r);
	return r;
}

static struct replica *replica_add(struct store *s, uint64_t chunk, uint32_t version,
				   struct disk *disk)
{
	struct replica *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->chunk = chunk;
	r->version = version;
	r->disk = disk;
	r->file.fd = -1;
	HASH_ADD(hh, s->replicas, chunk, sizeof(r->chunk), r);
	return r;
}

static void replica_close(struct store *s, struct replica *r)
{
	if (r->file.fd >= 0) {
		chunk_file_close(&r->file);
		r->file.fd = -1;
		s->open_files--;
	}
}

/* Waits on the condition until the deadline: false when it has passed. Lock held. */
static bool wait_changed(struct store *s, int64_t deadline_ms)
{
	int64_t left = deadline_ms - clock_ms();
	struct timespec ts;

	if (left <= 0)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += left / 1000;
	ts.tv_nsec += left % 1000 * 1000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	pthread_cond_timedwait(&s->changed, &s->lock, &ts);
	return true;
}

static void replica_text(const struct replica *r, struct wire_have *ret)
{
	*ret = (struct wire_have){.id = r->chunk, .version = r->version,
				  .flags = (uint8_t)((r->unclean ? HAVE_UNCLEAN : 0) |
						     (r->damaged ? HAVE_DAMAGED : 0))};
}

/* ---- start ---- */

struct scan {
	struct store *s;
	struct disk *disk;
	char dir[PATH_ROOM];
	unsigned sub;
};

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
	/* A crash between two names of one chunk: the higher version counts. */
	if (r->version >= version) {
		x->s->o.io->unlink(x->s->o.io, path);
	} else {
		char old[PATH_ROOM];
		replica_path(r, r->version, old);
		x->s->o.io->unlink(x->s->o.io, old);
		r->version = version;
		r->disk = x->disk;
	}
	return 0;
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

static int replica_open(struct store *s, struct replica *r, struct err *err)
{
	char path[PATH_ROOM];
	int res;

	if (r->file.fd >= 0)
		return 0;
	replica_path(r, r->version, path);
	res = chunk_file_open(s->o.io, path, r->chunk, &r->file, err);
	if (res < 0) {
		r->file.fd = -1;
		return res;
	}
	s->open_files++;
	return 0;
}

/* After an unclean stop: what the journal names is read again. */
static void recover(struct store *s, const struct journal_names *names)
{
	for (size_t i = 0; i < names->n; i++) {
		struct replica *r = replica_find(s, names->items[i].chunk);
		struct err err = {0};
		uint32_t bad = 0;
		if (!r || r->unclean)
			continue;
		r->unclean = true;
		r->dirty = r->journaled = r->name_dirty = true;
		if (replica_open(s, r, &err) < 0 || chunk_file_verify(&r->file, &bad, &err) < 0 ||
		    bad > 0)
			r->damaged = true;
		log_info("chunk %016llx v%u was open at the crash: %u blocks do not verify%s%s",
			 (unsigned long long)r->chunk, r->version, bad, err.text[0] ? ": " : "",
			 err.text);
	}
}

static int keep_dirty(void *arg, struct journal_names *ret);

struct keep {
	struct store *s;
	struct disk *disk;
};

static int disk_begin(struct store *s, struct disk *disk, bool clean, struct err *err)
{
	struct keep keep = {s, disk};
	return journal_begin(disk->journal, keep_dirty, &keep, clean, err);
}

static int open_disk(struct store *s, struct disk *disk, const char *dir, struct err *err)
{
	struct journal_names names = {0};
	int r = disk_open(s->o.io, dir, disk, err);

	if (r < 0)
		return r;
	s->n_disks++;
	r = scan_disk(s, disk, err);
	if (r == 0)
		r = journal_open(s->o.io, dir, &disk->journal, &names, err);
	if (r == 0) {
		recover(s, &names);
		r = disk_begin(s, disk, false, err);
	}
	free(names.items);
	return r;
}

int store_open(const struct store_options *options, struct store **ret, struct err *err)
{
	struct store *s = calloc(1, sizeof(*s));
	pthread_condattr_t attr;
	int r = 0;

	if (!s)
		return err_set(err, ERR_NOMEM, "out of memory");
	s->o = *options;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->changed, &attr);
	pthread_condattr_destroy(&attr);
	s->disks = calloc(options->n_dirs, sizeof(*s->disks));
	if (!s->disks)
		r = err_set(err, ERR_NOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < options->n_dirs; i++)
		r = open_disk(s, &s->disks[i], options->dirs[i], err);
	if (r == 0)
		r = disks_agree(s->o.io, s->disks, s->n_disks, err);
	if (r < 0) {
		s->o.damaged = NULL; /* not open: nothing is to be said at the end */
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
		if (opened && disk_begin(s, &s->disks[i], true, &err) < 0)
			log_warn("%s", err.text);
		journal_free(s->disks[i].journal);
		disk_close(s->o.io, &s->disks[i]);
	}
	HASH_ITER(hh, s->replicas, r, next) {
		replica_close(s, r);
		HASH_DEL(s->replicas, r);
		free(r);
	}
	free(s->disks);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- identity, space, lists ---- */

struct slice store_uuid(struct store *s)
{
	return slice_of(s->disks[0].server, sizeof(s->disks[0].server));
}

struct slice store_cluster(struct store *s)
{
	return s->disks[0].has_cluster ? slice_of(s->disks[0].cluster, sizeof(s->disks[0].cluster))
				       : (struct slice){0};
}

int store_join_cluster(struct store *s, struct slice cluster, struct err *err)
{
	for (size_t i = 0; i < s->n_disks; i++) {
		int r = disk_join_cluster(s->o.io, &s->disks[i], cluster, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static uint64_t disk_free(struct store *s, struct disk *disk)
{
	struct io_space space;

	if (s->o.io->space(s->o.io, disk->dir, &space) < 0)
		return 0;
	return space.free_bytes > s->o.reserve_bytes ? space.free_bytes - s->o.reserve_bytes : 0;
}

void store_space(struct store *s, struct wire_cs_heartbeat *ret)
{
	for (size_t i = 0; i < s->n_disks; i++) {
		struct io_space space;
		ret->disks++;
		if (s->o.io->space(s->o.io, s->disks[i].dir, &space) < 0) {
			ret->disks_bad++;
			continue;
		}
		ret->total_bytes += space.total_bytes;
		ret->free_bytes += disk_free(s, &s->disks[i]);
	}
	pthread_mutex_lock(&s->lock);
	ret->chunks = HASH_COUNT(s->replicas);
	pthread_mutex_unlock(&s->lock);
}

static struct disk *disk_with_most_room(struct store *s, uint64_t bytes)
{
	struct disk *best = NULL;
	uint64_t best_free = 0;

	for (size_t i = 0; i < s->n_disks; i++) {
		uint64_t room = disk_free(s, &s->disks[i]);
		if (room > best_free) {
			best = &s->disks[i];
			best_free = room;
		}
	}
	return best_free > bytes ? best : NULL;
}

static int have_cmp(const void *a, const void *b)
{
	const struct wire_have *x = a, *y = b;
	return (x->id > y->id) - (x->id < y->id);
}

int store_list(struct store *s, struct wire_have **ret, size_t *ret_n)
{
	struct wire_have *list;
	struct replica *r, *next;
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	list = malloc((HASH_COUNT(s->replicas) + 1) * sizeof(*list));
	if (list) {
		HASH_ITER(hh, s->replicas, r, next)
			replica_text(r, &list[n++]);
	}
	pthread_mutex_unlock(&s->lock);
	if (!list)
		return ERR_NOMEM;
	qsort(list, n, sizeof(*list), have_cmp);
	*ret = list;
	*ret_n = n;
	return 0;
}

/* ---- use ---- */

/* Closes files that nobody uses when many are open. Lock held. */
static void close_idle(struct store *s)
{
	struct replica *r, *next;

	if (s->open_files < OPEN_FILES_MAX)
		return;
	HASH_ITER(hh, s->replicas, r, next) {
		if (r->users == 0 && !r->alone && !r->dirty && r->file.fd >= 0)
			replica_close(s, r);
	}
}

/* Makes the file of an absent replica. Lock held: creations are short, and two of one chunk must
 * not meet. */
static int replica_create(struct store *s, uint64_t chunk, uint32_t version, uint8_t chunk_bits,
			  struct replica **ret, struct err *err)
{
	struct disk *disk = disk_with_most_room(s, 1 << 20);
	struct replica *r;
	char path[PATH_ROOM];
	int res;

	if (!disk)
		return err_set(err, ERR_NOSPC, "chunk %016llx: no disk has room",
			       (unsigned long long)chunk);
	r = replica_add(s, chunk, version, disk);
	if (!r)
		return err_set(err, ERR_NOMEM, "out of memory");
	replica_path(r, version, path);
	res = chunk_file_create(s->o.io, path, chunk, chunk_bits, &r->file, err);
	if (res < 0) {
		HASH_DEL(s->replicas, r);
		free(r);
		return res;
	}
	s->open_files++;
	r->name_dirty = true;
	*ret = r;
	return 0;
}

/* Finds the replica and waits until nobody has it alone. Lock held. */
static int replica_wait(struct store *s, uint64_t chunk, int64_t deadline_ms, struct replica **ret)
{
	for (;;) {
		struct replica *r = replica_find(s, chunk);
		if (!r || !r->alone) {
			*ret = r;
			return r ? 0 : ERR_NO_CHUNK;
		}
		if (!wait_changed(s, deadline_ms))
			return ERR_CHUNK_PENDING;
	}
}

int store_acquire(struct store *s, uint64_t chunk, uint32_t version, uint8_t create_bits,
		  int64_t deadline_ms, struct replica **ret, struct chunk_file *ret_file,
		  struct err *err)
{
	struct replica *r = NULL;
	int res;

	pthread_mutex_lock(&s->lock);
	close_idle(s);
	res = replica_wait(s, chunk, deadline_ms, &r);
	if (res == ERR_NO_CHUNK && create_bits)
		res = replica_create(s, chunk, version, create_bits, &r, err);
	else if (res < 0)
		err_set(err, res, "chunk %016llx v%u: %s", (unsigned long long)chunk, version,
			err_text(res));
	if (res == 0 && r->version != version)
		res = err_set(err, ERR_CHUNK_VERSION, "chunk %016llx is here at v%u, not v%u",
			      (unsigned long long)chunk, r->version, version);
	if (res == 0 && r->unclean)
		res = err_set(err, ERR_CHUNK_PENDING, "chunk %016llx v%u must be compared first",
			      (unsigned long long)chunk, version);
	if (res == 0) {
		res = replica_open(s, r, err);
		if (res < 0 && !r->damaged) {
			struct wire_have have;
			r->damaged = true;
			replica_text(r, &have);
			s->o.damaged(s->o.arg, &have);
		}
	}
	if (res == 0) {
		r->users++;
		*ret = r;
		*ret_file = r->file;
	}
	pthread_mutex_unlock(&s->lock);
	return res;
}

void store_release(struct store *s, struct replica *r)
{
	pthread_mutex_lock(&s->lock);
	assert(r->users > 0);
	if (--r->users == 0)
		pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static bool range_conflicts(const struct replica *r, uint32_t first, uint32_t last,
			    bool applied_only)
{
	const struct range *x;
	DL_FOREACH(r->ranges, x) {
		if (x->first <= last && first <= x->last && (x->applied || !applied_only))
			return true;
	}
	return false;
}

int store_range_lock(struct store *s, struct replica *r, uint32_t first, uint32_t last, bool wait,
		     int64_t deadline_ms, struct range *ret)
{
	int res = 0;

	pthread_mutex_lock(&s->lock);
	while (res == 0 && range_conflicts(r, first, last, false)) {
		if (!wait)
			res = ERR_BUSY;
		else if (!wait_changed(s, deadline_ms))
			res = ERR_CHUNK_PENDING;
	}
	if (res == 0) {
		*ret = (struct range){.replica = r, .first = first, .last = last};
		DL_APPEND(r->ranges, ret);
	}
	pthread_mutex_unlock(&s->lock);
	return res;
}

void store_range_unlock(struct store *s, struct range *range)
{
	pthread_mutex_lock(&s->lock);
	if (range->replica) {
		DL_DELETE(range->replica->ranges, range);
		range->replica = NULL;
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
}

bool store_range_apply(struct store *s, struct range *range)
{
	pthread_mutex_lock(&s->lock);
	range->applied = range->replica != NULL;
	pthread_mutex_unlock(&s->lock);
	return range->applied;
}

int store_wait_committed(struct store *s, struct replica *r, uint32_t first, uint32_t last,
			 int64_t deadline_ms)
{
	int res = 0;

	pthread_mutex_lock(&s->lock);
	while (!r->in_doubt && range_conflicts(r, first, last, true) && res == 0)
		if (!wait_changed(s, deadline_ms))
			res = ERR_CHUNK_PENDING;
	if (r->in_doubt)
		res = ERR_CHUNK_PENDING;
	pthread_mutex_unlock(&s->lock);
	return res;
}

void store_in_doubt(struct store *s, struct range *range)
{
	pthread_mutex_lock(&s->lock);
	if (range->replica)
		range->replica->in_doubt = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

void store_damaged(struct store *s, struct replica *r)
{
	struct wire_have have;

	pthread_mutex_lock(&s->lock);
	r->damaged = true;
	replica_text(r, &have);
	pthread_mutex_unlock(&s->lock);
	log_error("chunk %016llx v%u on disk %s is damaged", (unsigned long long)have.id,
		  have.version, r->disk->dir);
	s->o.damaged(s->o.arg, &have);
}

/* ---- durability ---- */

int store_will_write(struct store *s, struct replica *r, struct err *err)
{
	bool journaled;
	uint32_t version;
	int res = 0;

	pthread_mutex_lock(&s->lock);
	r->writers++;
	journaled = r->journaled;
	version = r->version;
	pthread_mutex_unlock(&s->lock);
	/* Two first writers both append: one sync serves both. */
	if (!journaled)
		res = journal_append(r->disk->journal, r->chunk, version, err);
	pthread_mutex_lock(&s->lock);
	if (res == 0)
		r->journaled = r->dirty = true;
	else
		r->writers--;
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

int store_sync(struct store *s, struct replica *r, const struct chunk_file *f, struct err *err)
{
	char dir[PATH_ROOM];
	uint64_t writes;
	bool name_dirty;
	int res;

	pthread_mutex_lock(&s->lock);
	writes = r->writes;
	name_dirty = r->name_dirty;
	replica_dir(r, dir);
	pthread_mutex_unlock(&s->lock);
	res = chunk_file_sync(f, err);
	if (res == 0 && name_dirty) {
		res = s->o.io->sync_dir(s->o.io, dir);
		if (res < 0)
			err_set(err, res, "directory %s: %s", dir, err_text(res));
	}
	pthread_mutex_lock(&s->lock);
	if (res < 0) {
		/* The kernel may drop what it could not write: not used before it is compared. */
		r->unclean = true;
		pthread_mutex_unlock(&s->lock);
		return res;
	}
	r->name_dirty = false;
	/* A write that began meanwhile may have missed the sync. */
	if (r->writers == 0 && r->writes == writes)
		r->dirty = false;
	pthread_mutex_unlock(&s->lock);
	return 0;
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
		if (r->dirty || r->writers > 0 || r->unclean)
			ret->items[ret->n++] = (struct journal_record){
				.kind = JOURNAL_OPEN, .chunk = r->chunk, .version = r->version};
		else
			r->journaled = false;
	}
	pthread_mutex_unlock(&keep->s->lock);
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
		stale |= r->journaled && !r->dirty && r->writers == 0;
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
		if (store_sync(s, r, &file, &err) < 0) {
			log_error("sync: %s", err_message(&err));
			store_damaged(s, r);
		}
		store_release(s, r);
	}
	any = journal_stale(s);
	for (size_t i = 0; any && i < s->n_disks; i++) {
		struct err err = {0};
		if (disk_begin(s, &s->disks[i], false, &err) < 0)
			log_error("disk %s: journal: %s", s->disks[i].dir, err_message(&err));
	}
}

/* ---- changes of a replica's name or existence ---- */

/* Has it alone: waits for local work to end. Lock held; let_go() ends it. */
static int take_alone(struct store *s, uint64_t chunk, int64_t deadline_ms, struct replica **ret)
{
	struct replica *r;
	int res = replica_wait(s, chunk, deadline_ms, &r);

	if (res < 0)
		return res;
	r->alone = true;
	while (r->users > 0) {
		if (!wait_changed(s, deadline_ms)) {
			r->alone = false;
			pthread_cond_broadcast(&s->changed);
			return ERR_CHUNK_PENDING;
		}
	}
	*ret = r;
	return 0;
}

static void let_go(struct store *s, struct replica *r)
{
	r->alone = false;
	pthread_cond_broadcast(&s->changed);
}

/* Writers of the old version are fenced: their uncommitted ranges end. Lock held. */
static void end_ranges(struct replica *r)
{
	struct range *x, *next;
	DL_FOREACH_SAFE(r->ranges, x, next) {
		DL_DELETE(r->ranges, x);
		x->replica = NULL;
	}
}

/* Gives blocks that do not verify the checksum of what they hold. */
static int settle(const struct chunk_file *f, struct err *err)
{
	uint64_t length;
	uint8_t block[BLOCK_BYTES], sum[4];
	int r = chunk_file_length(f, &length, err);

	for (uint32_t i = 0; r == 0 && i < length / BLOCK_BYTES; i++) {
		size_t n;
		struct err local = {0};
		r = chunk_file_read(f, i * BLOCK_BYTES, BLOCK_BYTES, block, sum, &n, &local);
		if (r != ERR_CHECKSUM)
			continue;
		if (f->io->pread(f->io, f->fd, block, BLOCK_BYTES,
				 f->data_offset + (uint64_t)i * BLOCK_BYTES) != BLOCK_BYTES)
			return err_set(err, ERR_IO, "chunk %016llx: cannot read block %u",
				       (unsigned long long)f->chunk, i);
		crc_sums(sum, block, 0, BLOCK_BYTES);
		r = f->io->pwrite(f->io, f->fd, sum, sizeof(sum), FORMAT_SUMS_OFFSET + 4ull * i);
	}
	return r;
}

static int raise_file(struct store *s, struct replica *r, const struct wire_chunk_raise *req,
		      struct wire_chunk_state *ret, struct err *err)
{
	char from[PATH_ROOM], to[PATH_ROOM], dir[PATH_ROOM];
	int res = replica_open(s, r, err);

	if (res == 0 && (req->flags & RAISE_SETTLE) && r->unclean)
		res = settle(&r->file, err);
	if (res == 0 && req->length != CHUNK_LENGTH_KEEP)
		res = chunk_file_truncate(&r->file, req->length, err);
	if (res == 0)
		res = chunk_file_sync(&r->file, err);
	if (res < 0)
		return res;
	if (r->version != req->new_version) {
		replica_path(r, r->version, from);
		replica_path(r, req->new_version, to);
		res = s->o.io->rename(s->o.io, from, to);
	}
	replica_dir(r, dir);
	if (res == 0) {
		r->version = req->new_version;
		res = s->o.io->sync_dir(s->o.io, dir);
	}
	if (res < 0)
		return err_set(err, res, "chunk %016llx: rename to v%u: %s",
			       (unsigned long long)r->chunk, req->new_version, err_text(res));
	ret->present = 1;
	res = chunk_file_length(&r->file, &ret->length, err);
	if (res == 0)
		res = chunk_file_digest(&r->file, &ret->digest, err);
	return res;
}

int store_raise(struct store *s, const struct wire_chunk_raise *req, int64_t deadline_ms,
		struct wire_chunk_state *ret, struct err *err)
{
	struct replica *r = NULL;
	uint32_t bad = 0;
	int res;

	*ret = (struct wire_chunk_state){0};
	pthread_mutex_lock(&s->lock);
	res = take_alone(s, req->chunk, deadline_ms, &r);
	if (res == 0 && r->version != req->version && r->version != req->new_version) {
		res = err_set(err, ERR_CHUNK_VERSION, "chunk %016llx is here at v%u, not v%u",
			      (unsigned long long)req->chunk, r->version, req->version);
		let_go(s, r);
		r = NULL;
	}
	if (res == 0)
		end_ranges(r);
	pthread_mutex_unlock(&s->lock);
	if (res == ERR_NO_CHUNK && !(req->flags & CHUNK_WRITTEN))
		return 0; /* not made here yet, and nobody misses it */
	if (res < 0)
		return err && err->text[0] ? res : err_set(err, res, "chunk %016llx: %s",
							   (unsigned long long)req->chunk,
							   err_text(res));
	res = raise_file(s, r, req, ret, err);
	/* Settled, cut or written over, it may be whole now; rot stays known as such. */
	if (res == 0 && r->damaged)
		res = chunk_file_verify(&r->file, &bad, NULL);
	pthread_mutex_lock(&s->lock);
	if (res == 0) {
		r->dirty = r->name_dirty = r->unclean = r->in_doubt = false;
		r->damaged = bad > 0;
	}
	let_go(s, r);
	pthread_mutex_unlock(&s->lock);
	return res;
}

int store_delete(struct store *s, uint64_t chunk, uint32_t version, struct err *err)
{
	struct replica *r = NULL;
	char path[PATH_ROOM];
	int res;

	pthread_mutex_lock(&s->lock);
	res = take_alone(s, chunk, deadline_in(5000), &r);
	if (res == 0 && r->version > version) {
		let_go(s, r);
		res = ERR_NO_CHUNK; /* a newer one is not meant */
	}
	if (res == 0) {
		replica_path(r, r->version, path);
		end_ranges(r);
		replica_close(s, r);
		HASH_DEL(s->replicas, r);
		res = s->o.io->unlink(s->o.io, path);
		if (res < 0 && res != ERR_NOENT)
			err_set(err, res, "%s: %s", path, err_text(res));
		free(r);
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
	return res == ERR_NO_CHUNK || res == ERR_NOENT ? 0 : res;
}

/* ---- for pull.c ---- */

int store_new_path(struct store *s, uint64_t chunk, uint32_t version, uint64_t bytes, char *ret,
		   size_t room, unsigned *ret_disk, struct err *err)
{
	char name[FORMAT_NAME_BYTES + 8];
	struct replica *own;
	struct disk *disk;

	pthread_mutex_lock(&s->lock);
	own = replica_find(s, chunk);
	disk = own ? own->disk : NULL;
	pthread_mutex_unlock(&s->lock);
	if (!disk)
		disk = disk_with_most_room(s, bytes);
	if (!disk)
		return err_set(err, ERR_NOSPC, "chunk %016llx: no disk has room for a copy",
			       (unsigned long long)chunk);
	format_name_put(name, chunk, version);
	snprintf(ret, room, "%s/chunks/%s.new", disk->dir, name);
	*ret_disk = (unsigned)(disk - s->disks);
	return 0;
}

int store_peek(struct store *s, uint64_t chunk, struct replica **ret, struct chunk_file *ret_file)
{
	struct replica *r;
	int found = 0;

	pthread_mutex_lock(&s->lock);
	r = replica_find(s, chunk);
	if (r && !r->alone && replica_open(s, r, NULL) == 0) {
		r->users++;
		*ret = r;
		*ret_file = r->file;
		found = 1;
	}
	pthread_mutex_unlock(&s->lock);
	return found;
}

int store_install(struct store *s, uint64_t chunk, uint32_t version, unsigned disk,
		  const char *path, struct err *err)
{
	char to[PATH_ROOM], old[PATH_ROOM] = "", dir[PATH_ROOM];
	struct replica *r = NULL;
	int res;

	pthread_mutex_lock(&s->lock);
	res = take_alone(s, chunk, deadline_in(10000), &r);
	if (res == ERR_NO_CHUNK) {
		r = replica_add(s, chunk, version, &s->disks[disk]);
		res = r ? 0 : ERR_NOMEM;
		if (r)
			r->alone = true;
	}
	if (res < 0) {
		pthread_mutex_unlock(&s->lock);
		return err_set(err, res, "chunk %016llx: %s", (unsigned long long)chunk,
			       err_text(res));
	}
	if (r->version != version)
		replica_path(r, r->version, old);
	r->disk = &s->disks[disk];
	replica_path(r, version, to);
	replica_dir(r, dir);
	res = s->o.io->rename(s->o.io, path, to);
	if (res == 0)
		res = s->o.io->sync_dir(s->o.io, dir);
	if (res == 0) {
		end_ranges(r);
		replica_close(s, r);
		r->version = version;
		r->unclean = r->damaged = r->in_doubt = r->dirty = r->name_dirty = false;
		if (old[0])
			s->o.io->unlink(s->o.io, old);
	} else {
		err_set(err, res, "%s: %s", to, err_text(res));
	}
	let_go(s, r);
	pthread_mutex_unlock(&s->lock);
	return res;
}
