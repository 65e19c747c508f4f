#include "chunkserver/store_priv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/wait.h"

enum { CREATE_ROOM_BYTES = 1 << 20 };

/* ---- small parts ---- */

const struct io *store_io(struct store *s)
{
	return s->o.io;
}

uint64_t store_moment(struct store *s)
{
	uint64_t now;

	pthread_mutex_lock(&s->lock);
	now = s->changes;
	pthread_mutex_unlock(&s->lock);
	return now;
}

void chunk_path(const struct disk *disk, uint64_t chunk, uint32_t version, char *ret)
{
	char name[FORMAT_NAME_BYTES + 8];
	format_name_put(name, chunk, version);
	snprintf(ret, PATH_ROOM, "%s/chunks/%s", disk->dir, name);
}

void chunk_dir(const struct disk *disk, uint64_t chunk, char *ret)
{
	snprintf(ret, PATH_ROOM, "%s/chunks/%02x", disk->dir, (unsigned)(chunk & 0xff));
}

void replica_path(const struct replica *r, uint32_t version, char *ret)
{
	chunk_path(r->disk, r->chunk, version, ret);
}

void replica_dir(const struct replica *r, char *ret)
{
	chunk_dir(r->disk, r->chunk, ret);
}

bool replica_valid(const struct replica *r)
{
	return (!r->making || (r->alone && r->users == 0 && !r->dirty)) &&
	       (r->making || r->disk) && (!r->torn || r->unclean) && (!r->lost || r->damaged) &&
	       r->writers <= r->users && (!r->dirty || r->journaled || r->lost) &&
	       (r->lossy || !r->told);
}

struct replica *replica_find(struct store *s, uint64_t chunk)
{
	struct replica *r;
	HASH_FIND(hh, s->replicas, &chunk, sizeof(chunk), r);
	return r;
}

struct replica *replica_add(struct store *s, uint64_t chunk, uint32_t version, struct disk *disk)
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

struct replica *replica_reserve(struct store *s, uint64_t chunk, uint32_t version)
{
	struct replica *r = replica_add(s, chunk, version, NULL);
	if (r)
		r->alone = r->making = true;
	return r;
}

void replica_forget(struct store *s, struct replica *r)
{
	assert(r->alone && r->users == 0 && !r->ranges);
	replica_close(s, r);
	HASH_DEL(s->replicas, r);
	free(r->recent);
	free(r);
	pthread_cond_broadcast(&s->changed);
}

void replica_close(struct store *s, struct replica *r)
{
	if (r->file.fd >= 0) {
		chunk_file_close(&r->file);
		r->file.fd = -1;
		s->open_files--;
	}
}

bool wait_changed(struct store *s, int64_t deadline_ms)
{
	return wait_until(&s->changed, &s->lock, deadline_ms);
}

void replica_text(const struct replica *r, struct wire_have *ret)
{
	*ret = (struct wire_have){.id = r->chunk, .version = r->version,
				  .flags = (uint8_t)((r->unclean ? HAVE_UNCLEAN : 0) |
						     (r->damaged ? HAVE_DAMAGED : 0) |
						     (r->torn ? HAVE_TORN : 0) |
						     (r->in_doubt ? HAVE_IN_DOUBT : 0) |
						     (r->unclean && r->lossy ? HAVE_LOSSY : 0))};
}

int replica_open(struct store *s, struct replica *r, struct err *err)
{
	char path[PATH_ROOM];
	int res;

	if (r->lost)
		return err_set(err, ERR_IO, "chunk %016llx v%u: its disk %s has failed",
			       (unsigned long long)r->chunk, r->version, r->disk->dir);
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

/* ---- lists ---- */

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
		HASH_ITER(hh, s->replicas, r, next) {
			if (!r->making)
				replica_text(r, &list[n++]);
		}
	}
	pthread_mutex_unlock(&s->lock);
	if (!list)
		return ERR_NOMEM;
	qsort(list, n, sizeof(*list), have_cmp);
	*ret = list;
	*ret_n = n;
	return 0;
}

size_t store_count(struct store *s)
{
	size_t n;

	pthread_mutex_lock(&s->lock);
	n = HASH_COUNT(s->replicas);
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* Puts one into a sorted array of at most `max`, which loses its greatest when it is full. */
static void insert_sorted(struct wire_have *list, size_t *n, size_t max,
			  const struct wire_have *have)
{
	size_t at = 0, high = *n;

	if (*n == max && list[max - 1].id < have->id)
		return;
	while (at < high) {
		size_t mid = (at + high) / 2;
		if (list[mid].id < have->id)
			at = mid + 1;
		else
			high = mid;
	}
	if (*n < max)
		(*n)++;
	memmove(&list[at + 1], &list[at], (*n - at - 1) * sizeof(*list));
	list[at] = *have;
}

size_t store_next(struct store *s, uint64_t from, size_t max, struct wire_have *ret)
{
	struct replica *r, *next;
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	HASH_ITER(hh, s->replicas, r, next) {
		struct wire_have have;
		if (r->making || r->chunk < from)
			continue;
		replica_text(r, &have);
		insert_sorted(ret, &n, max, &have);
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

bool store_dirty(struct store *s, uint64_t chunk)
{
	struct replica *r;
	bool dirty;

	pthread_mutex_lock(&s->lock);
	r = replica_find(s, chunk);
	dirty = r && r->dirty;
	pthread_mutex_unlock(&s->lock);
	return dirty;
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

static bool was_deleted(const struct store *s, uint64_t chunk, uint32_t version)
{
	const struct deleted *d = &s->deleted[chunk % DELETED_MAX];
	return d->chunk == chunk && version <= d->version && clock_ms() < d->until_ms;
}

/* Makes an absent replica. Its place in the table is taken first, so that two of one chunk do not
 * meet; the lock, which is held, is given up for the work on the file. */
static int replica_create(struct store *s, uint64_t chunk, uint32_t version, uint8_t chunk_bits,
			  struct replica **ret, struct err *err)
{
	struct replica *r = replica_reserve(s, chunk, version);
	struct chunk_file file;
	struct disk *disk;
	char path[PATH_ROOM];
	int res;

	if (!r)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (was_deleted(s, chunk, version)) {
		replica_forget(s, r);
		return err_set(err, ERR_NO_CHUNK, "chunk %016llx was deleted here: its write comes "
			       "late", (unsigned long long)chunk);
	}
	pthread_mutex_unlock(&s->lock);
	disk = disk_with_most_room(s, CREATE_ROOM_BYTES);
	if (disk) {
		chunk_path(disk, chunk, version, path);
		res = chunk_file_create(s->o.io, path, chunk, chunk_bits, &file, err);
	} else {
		res = err_set(err, ERR_NOSPC, "chunk %016llx: no disk has room",
			      (unsigned long long)chunk);
	}
	FAULT_POINT(CS_CREATED, "");
	pthread_mutex_lock(&s->lock);
	if (res < 0) {
		if (disk)
			disk_error(s, disk, res, "create a chunk", true);
		replica_forget(s, r);
		return res;
	}
	r->disk = disk;
	r->file = file;
	s->open_files++;
	r->name_dirty = true;
	r->making = r->alone = false;
	r->lost = r->damaged = disk->failed;
	r->changed = ++s->changes;
	pthread_cond_broadcast(&s->changed);
	*ret = r;
	return 0;
}

int replica_wait(struct store *s, uint64_t chunk, int64_t deadline_ms, struct replica **ret)
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

/* Counts a user of r's file, which is opened. Lock held. */
static int replica_use(struct store *s, struct replica *r, struct chunk_file *ret_file,
		       struct err *err)
{
	int res = replica_open(s, r, err);

	if (res < 0)
		replica_error(s, r, res);
	if (res < 0 && !r->damaged) {
		struct wire_have have;
		r->damaged = true;
		replica_text(r, &have);
		s->o.damaged(s->o.arg, &have);
	}
	if (res < 0)
		return res;
	r->users++;
	*ret_file = r->file;
	return 0;
}

int store_acquire(struct store *s, uint64_t chunk, uint32_t version, uint8_t create_bits,
		  int64_t deadline_ms, struct replica **ret, struct chunk_file *ret_file,
		  struct err *err)
{
	struct replica *r = NULL;
	int res;

	pthread_mutex_lock(&s->lock);
	close_idle(s);
	r = replica_find(s, chunk);
	/* It serves nobody: no need to wait for what is done to it. */
	if (r && r->alone && r->unclean)
		res = ERR_CHUNK_PENDING;
	else
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
	if (res == 0)
		res = replica_use(s, r, ret_file, err);
	if (res == 0)
		*ret = r;
	pthread_mutex_unlock(&s->lock);
	return res;
}

int store_acquire_unclean(struct store *s, uint64_t chunk, uint32_t version, int64_t deadline_ms,
			  struct replica **ret, struct chunk_file *ret_file, struct err *err)
{
	struct replica *r = NULL;
	int res;

	pthread_mutex_lock(&s->lock);
	res = replica_wait(s, chunk, deadline_ms, &r);
	/* Its own raise may have come before. */
	if (res == 0 && r->version != version && r->version != version + 1)
		res = ERR_CHUNK_VERSION;
	if (res < 0)
		err_set(err, res, "chunk %016llx v%u: %s", (unsigned long long)chunk, version,
			err_text(res));
	else
		res = replica_use(s, r, ret_file, err);
	if (res == 0)
		*ret = r;
	pthread_mutex_unlock(&s->lock);
	return res;
}

void store_release(struct store *s, struct replica *r)
{
	pthread_mutex_lock(&s->lock);
	assert(r->users > 0 && replica_valid(r));
	if (--r->users == 0)
		pthread_cond_broadcast(&s->changed);
	if (r->lost && r->users == 0 && !r->alone)
		replica_close(s, r);
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
	struct wire_have have;
	bool doubt;

	pthread_mutex_lock(&s->lock);
	doubt = range->replica && !range->replica->in_doubt;
	if (doubt) {
		range->replica->in_doubt = true;
		replica_text(range->replica, &have);
	}
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	if (doubt) /* nobody else may know: without a raise it serves no reads any more */
		s->o.damaged(s->o.arg, &have);
}

/* ---- writes that come again ---- */

static struct recent *recent_find(const struct replica *r, uint64_t session, uint64_t seq)
{
	unsigned n = r->n_recent < RECENT_MAX ? r->n_recent : RECENT_MAX;

	for (unsigned i = 0; r->recent && i < n; i++)
		if (r->recent[i].session == session && r->recent[i].seq == seq)
			return &r->recent[i];
	return NULL;
}

bool store_has_write(struct store *s, const struct range *range, uint64_t session, uint64_t seq)
{
	const struct recent *x;
	bool has = false;

	pthread_mutex_lock(&s->lock);
	if (session && range->replica) {
		x = recent_find(range->replica, session, seq);
		/* A raise has made the others what this one was, with the write in it. */
		has = x && (x->committed || x->version < range->replica->version);
	}
	pthread_mutex_unlock(&s->lock);
	return has;
}

void store_note_write(struct store *s, const struct range *range, uint64_t session, uint64_t seq,
		      bool committed)
{
	struct replica *r;
	struct recent *x;

	if (!session)
		return;
	pthread_mutex_lock(&s->lock);
	r = range->replica;
	if (r && !r->recent)
		r->recent = calloc(RECENT_MAX, sizeof(*r->recent));
	if (r && r->recent) { /* without memory it is forgotten, as after a restart */
		x = recent_find(r, session, seq);
		if (!x)
			x = &r->recent[r->n_recent++ % RECENT_MAX];
		*x = (struct recent){session, seq, r->version, committed};
	}
	pthread_mutex_unlock(&s->lock);
}

void store_damaged(struct store *s, struct replica *r, int code)
{
	struct wire_have have;
	bool known, lost;

	pthread_mutex_lock(&s->lock);
	replica_error(s, r, code);
	known = r->damaged;
	lost = r->lost; /* told with the whole disk */
	r->damaged = true;
	replica_text(r, &have);
	pthread_mutex_unlock(&s->lock);
	if (!known)
		log_error("chunk %016llx v%u on disk %s is damaged: %s",
			  (unsigned long long)have.id, have.version, r->disk->dir, err_text(code));
	if (!lost)
		s->o.damaged(s->o.arg, &have);
}
