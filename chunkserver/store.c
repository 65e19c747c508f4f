#include "chunkserver/store_priv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"

/* ---- small parts ---- */

const struct io *store_io(struct store *s)
{
	return s->o.io;
}

void replica_path(const struct replica *r, uint32_t version, char *ret)
{
	char name[FORMAT_NAME_BYTES + 8];
	format_name_put(name, r->chunk, version);
	snprintf(ret, PATH_ROOM, "%s/chunks/%s", r->disk->dir, name);
}

void replica_dir(const struct replica *r, char *ret)
{
	snprintf(ret, PATH_ROOM, "%s/chunks/%02x", r->disk->dir, (unsigned)(r->chunk & 0xff));
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

void replica_text(const struct replica *r, struct wire_have *ret)
{
	*ret = (struct wire_have){.id = r->chunk, .version = r->version,
				  .flags = (uint8_t)((r->unclean ? HAVE_UNCLEAN : 0) |
						     (r->damaged ? HAVE_DAMAGED : 0) |
						     (r->torn ? HAVE_TORN : 0))};
}

int replica_open(struct store *s, struct replica *r, struct err *err)
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

struct disk *disk_with_most_room(struct store *s, uint64_t bytes)
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
	FAULT_POINT(CS_CREATED, "");
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
