#include "chunkserver/store_priv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "common/clock.h"
#include "common/fault.h"

enum { CHECK_WAIT_MS = 1000, DELETE_WAIT_MS = 5000, INSTALL_WAIT_MS = 10000 };

/* ---- changes of a replica's name or existence ---- */

int replica_take_alone(struct store *s, uint64_t chunk, int64_t deadline_ms, struct replica **ret)
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

void replica_let_go(struct store *s, struct replica *r)
{
	r->alone = false;
	assert(replica_valid(r));
	pthread_cond_broadcast(&s->changed);
}

void replica_end_ranges(struct replica *r)
{
	struct range *x, *next;
	DL_FOREACH_SAFE(r->ranges, x, next) {
		DL_DELETE(r->ranges, x);
		x->replica = NULL;
	}
}

/* The work on the file, for a replica that is held alone. *ret_renamed: its name is the new one. */
static int raise_file(struct store *s, struct replica *r, const struct wire_chunk_raise *req,
		      const struct settle_source *others, struct wire_chunk_state *ret,
		      bool *ret_renamed, struct err *err)
{
	char from[PATH_ROOM], to[PATH_ROOM];
	int res = 0;

	FAULT_POINT(CS_RAISE, "");
	if ((req->flags & RAISE_SETTLE) && r->unclean)
		res = settle_file(&r->file, others, err);
	if (res == 0 && req->length != CHUNK_LENGTH_KEEP)
		res = chunk_file_truncate(&r->file, req->length, err);
	if (res < 0)
		return res;
	res = chunk_file_sync(&r->file, err);
	if (res < 0) {
		replica_sync_failed(s, r, res);
		return res;
	}
	if (r->version != req->new_version) {
		replica_path(r, r->version, from);
		replica_path(r, req->new_version, to);
		res = s->o.io->rename(s->o.io, from, to);
	}
	*ret_renamed = res == 0;
	FAULT_POINT(CS_RAISE_RENAMED, "");
	if (res < 0)
		return err_set(err, res, "chunk %016llx: rename to v%u: %s",
			       (unsigned long long)r->chunk, req->new_version, err_text(res));
	res = replica_sync_name(s, r, err);
	if (res < 0)
		return res;
	ret->present = 1;
	res = chunk_file_length(&r->file, &ret->length, err);
	if (res == 0)
		res = chunk_file_digest(&r->file, &ret->digest, err);
	return res;
}

/* One that comes back as a member has a higher version by then. */
static void note_deleted(struct store *s, uint64_t chunk, uint32_t version)
{
	s->deleted[chunk % DELETED_MAX] = (struct deleted){
		.chunk = chunk, .version = version, .until_ms = deadline_in(DELETED_KEPT_MS)};
}

/* Takes the replica alone, open and fenced. */
static int raise_begin(struct store *s, const struct wire_chunk_raise *req, int64_t deadline_ms,
		       struct replica **ret, struct err *err)
{
	struct replica *r;
	int res;

	pthread_mutex_lock(&s->lock);
	res = replica_take_alone(s, req->chunk, deadline_ms, &r);
	/* A first write of the old version that comes late would be acknowledged and not found. */
	if (res == ERR_NO_CHUNK)
		note_deleted(s, req->chunk, req->new_version - 1);
	if (res < 0) {
		err_set(err, res, "chunk %016llx: %s", (unsigned long long)req->chunk,
			err_text(res));
	} else {
		if (r->version != req->version && r->version != req->new_version)
			res = err_set(err, ERR_CHUNK_VERSION,
				      "chunk %016llx is here at v%u, not v%u",
				      (unsigned long long)req->chunk, r->version, req->version);
		/* The raise ended before: who sends this does not know that, or sent it long ago.
		 * Its cut would take what was written since. */
		if (res == 0 && r->version == req->new_version && r->changed != r->raised)
			res = err_set(err, ERR_CHUNK_VERSION, "chunk %016llx v%u is in use",
				      (unsigned long long)req->chunk, r->version);
		if (res == 0)
			replica_end_ranges(r);
		/* What was told with the raise to req->version is confirmed by now. */
		if (res == 0 && r->told && r->told <= req->version)
			replica_loss_known(r);
		if (res == 0 && r->lost) {
			/* Under the new version there is nothing here: it can be copied anew. */
			res = err_set(err, ERR_NO_CHUNK, "chunk %016llx: its disk %s has failed",
				      (unsigned long long)r->chunk, r->disk->dir);
			replica_forget(s, r);
		} else if (res == 0) {
			res = replica_open(s, r, err);
			replica_error(s, r, res);
		}
		if (res < 0 && res != ERR_NO_CHUNK)
			replica_let_go(s, r);
	}
	pthread_mutex_unlock(&s->lock);
	*ret = r;
	return res;
}

int store_raise(struct store *s, const struct wire_chunk_raise *req,
		const struct settle_source *others, int64_t deadline_ms,
		struct wire_chunk_state *ret, struct err *err)
{
	struct replica *r;
	bool renamed = false;
	uint32_t bad = 0;
	int res;

	*ret = (struct wire_chunk_state){0};
	res = raise_begin(s, req, deadline_ms, &r, err);
	if (res == ERR_NO_CHUNK && !(req->flags & CHUNK_WRITTEN)) {
		err_clear(err);
		return 0; /* not made here yet, and nobody misses it */
	}
	if (res < 0)
		return res;
	res = raise_file(s, r, req, others, ret, &renamed, err);
	/* Settled, cut or written over, it may be whole now; what is not stays known as such. */
	if (res == 0 && (r->damaged || r->torn))
		res = chunk_file_verify(&r->file, &bad, NULL);
	pthread_mutex_lock(&s->lock);
	if (renamed)
		r->version = req->new_version;
	r->changed = r->raised = ++s->changes;
	replica_error(s, r, res);
	if (res == 0 && r->lost)
		res = replica_open(s, r, err); /* says which disk has failed */
	if (res == 0) {
		r->dirty = r->name_dirty = r->in_doubt = false;
		ret->lossy = r->lossy;
		r->told = r->lossy ? req->new_version : 0;
		r->damaged = r->damaged && bad > 0;
		/* Not settled, it is compared once more if the master forgets what it knew. */
		r->torn = r->torn && bad > 0;
		r->unclean = r->torn || (r->unclean && !(req->flags & RAISE_SETTLE));
	}
	replica_let_go(s, r);
	pthread_mutex_unlock(&s->lock);
	FAULT_POINT(CS_RAISE_ANSWER, "");
	return res;
}

/* On a failed disk it stays, and so does what the journal there says of it. */
static int remove_file(struct store *s, const struct replica *r, struct disk *disk, struct err *err)
{
	char path[PATH_ROOM];
	int res;

	if (disk->failed)
		return 0;
	chunk_path(disk, r->chunk, r->version, path);
	res = s->o.io->unlink(s->o.io, path);
	if (res == 0 || res == ERR_NOENT)
		return 0;
	pthread_mutex_lock(&s->lock);
	disk_error(s, disk, res, "remove a chunk", true);
	pthread_mutex_unlock(&s->lock);
	return err_set(err, res, "%s: %s", path, err_text(res));
}

/* Of a replica that is had alone. A second file of its version would be taken for one that is to be
 * kept at the next start. */
static int remove_files(struct store *s, const struct replica *r, struct err *err)
{
	int res = 0;

	for (size_t i = 0; i < s->n_disks && res == 0; i++)
		if (&s->disks[i] == r->disk || r->twice)
			res = remove_file(s, r, &s->disks[i], err);
	return res;
}

int store_delete(struct store *s, uint64_t chunk, uint32_t version, uint64_t begun,
		 struct err *err)
{
	struct replica *r = NULL;
	int res;

	pthread_mutex_lock(&s->lock);
	res = replica_take_alone(s, chunk, deadline_in(DELETE_WAIT_MS), &r);
	if (res == 0 && r->version > version) {
		replica_let_go(s, r);
		res = ERR_NO_CHUNK; /* a newer one is not meant */
	} else if (res == 0 && r->raised > begun) {
		replica_let_go(s, r);
		res = ERR_BUSY; /* it has become a member since, or was about to */
	} else if (res == 0 || res == ERR_NO_CHUNK) {
		note_deleted(s, chunk, res == 0 ? r->version : 1);
	}
	if (res == 0) {
		replica_end_ranges(r);
		replica_close(s, r);
	}
	pthread_mutex_unlock(&s->lock);
	if (res < 0)
		return res == ERR_NO_CHUNK ? 0 : err_set(err, res, "chunk %016llx: %s",
							 (unsigned long long)chunk, err_text(res));
	FAULT_POINT(CS_DELETE, "");
	res = remove_files(s, r, err);
	FAULT_POINT(CS_DELETED, "");
	pthread_mutex_lock(&s->lock);
	if (res < 0)
		replica_let_go(s, r);
	else
		replica_forget(s, r);
	pthread_mutex_unlock(&s->lock);
	return res;
}

/* ---- comparing ---- */

/* Whether a write is under way; *ret_writes tells two moments apart. */
static bool being_written(struct store *s, const struct replica *r, uint64_t *ret_writes)
{
	bool busy;

	pthread_mutex_lock(&s->lock);
	busy = r->writers > 0 || r->ranges || r->in_doubt;
	*ret_writes = r->writes;
	pthread_mutex_unlock(&s->lock);
	return busy;
}

int store_check(struct store *s, uint64_t chunk, uint32_t version, struct wire_chunk_state *ret,
		struct err *err)
{
	struct replica *r;
	struct chunk_file file;
	uint64_t before, after;
	int res = store_acquire(s, chunk, version, 0, deadline_in(CHECK_WAIT_MS), &r, &file, err);

	*ret = (struct wire_chunk_state){0};
	if (res == ERR_CHUNK_PENDING)
		return ERR_BUSY;
	if (res < 0)
		return res;
	if (being_written(s, r, &before))
		res = ERR_BUSY;
	if (res == 0)
		res = chunk_file_length(&file, &ret->length, err);
	if (res == 0)
		res = chunk_file_digest(&file, &ret->digest, err);
	if (res == 0 && (being_written(s, r, &after) || after != before))
		res = ERR_BUSY;
	ret->present = res == 0;
	store_release(s, r);
	return res == ERR_BUSY ? err_set(err, res, "chunk %016llx v%u is being written",
					 (unsigned long long)chunk, version) : res;
}

/* ---- for pull.c ---- */

int store_copy_begin(struct store *s, uint64_t chunk, uint32_t version, uint64_t bytes,
		     struct store_copy *ret, struct err *err)
{
	char name[FORMAT_NAME_BYTES + 8];
	struct replica *own;
	struct disk *disk;

	pthread_mutex_lock(&s->lock);
	own = replica_find(s, chunk);
	disk = own && !own->lost ? own->disk : NULL;
	ret->serial = ++s->copies;
	ret->lossy = false;
	pthread_mutex_unlock(&s->lock);
	if (!disk)
		disk = disk_with_most_room(s, bytes);
	if (!disk)
		return err_set(err, ERR_NOSPC, "chunk %016llx: no disk has room for a copy",
			       (unsigned long long)chunk);
	format_name_put(name, chunk, version);
	snprintf(ret->path, sizeof(ret->path), "%.3900s/chunks/%s.%llu.new", disk->dir, name,
		 (unsigned long long)ret->serial);
	ret->disk = (unsigned)(disk - s->disks);
	return 0;
}

int store_peek(struct store *s, uint64_t chunk, struct replica **ret, struct chunk_file *ret_file,
	       struct store_seen *ret_seen)
{
	struct replica *r;
	int found = 0;

	pthread_mutex_lock(&s->lock);
	*ret_seen = (struct store_seen){0};
	r = replica_find(s, chunk);
	if (r && !r->alone && replica_open(s, r, NULL) == 0) {
		r->users++;
		*ret = r;
		*ret_file = r->file;
		ret_seen->changed = r->changed;
		ret_seen->writes = r->writes;
		found = 1;
	}
	pthread_mutex_unlock(&s->lock);
	return found;
}

bool replica_is_newer(const struct replica *r, uint32_t version, uint64_t begun)
{
	return r->version > version || (r->version == version && r->changed > begun);
}

void replica_is_copy(struct store *s, struct replica *r, uint32_t version, bool lossy)
{
	r->version = version;
	r->n_recent = 0; /* what the copy has in it is not known */
	r->changed = r->raised = ++s->changes;
	r->unclean = r->torn = r->damaged = r->in_doubt = false;
	r->dirty = r->name_dirty = false;
	r->lossy = lossy;
	r->told = lossy ? version : 0;
}

/* Has the chunk's place in the table alone: a replica that is not newer, or a new entry. */
static int install_begin(struct store *s, uint64_t chunk, uint32_t version,
			 const struct store_copy *copy, struct replica **ret, struct err *err)
{
	int res = replica_take_alone(s, chunk, deadline_in(INSTALL_WAIT_MS), ret);

	if (res == ERR_NO_CHUNK) {
		*ret = replica_reserve(s, chunk, version);
		res = *ret ? 0 : ERR_NOMEM;
	}
	if (res < 0)
		return err_set(err, res, "chunk %016llx: %s", (unsigned long long)chunk,
			       err_text(res));
	if (!replica_is_newer(*ret, version, copy->begun))
		return 0;
	res = err_set(err, ERR_CHUNK_VERSION, "chunk %016llx is here at v%u, newer than the copy",
		      (unsigned long long)chunk, (*ret)->version);
	replica_let_go(s, *ret);
	return res;
}

int store_install(struct store *s, uint64_t chunk, uint32_t version,
		  const struct store_copy *copy, struct err *err)
{
	struct disk *to_disk = &s->disks[copy->disk];
	char to[PATH_ROOM], old[PATH_ROOM] = "", dir[PATH_ROOM];
	struct replica *r;
	int res;

	pthread_mutex_lock(&s->lock);
	res = install_begin(s, chunk, version, copy, &r, err);
	if (res == 0 && !r->making && !r->lost && (r->version != version || r->disk != to_disk))
		replica_path(r, r->version, old);
	pthread_mutex_unlock(&s->lock);
	if (res < 0)
		return res;
	chunk_path(to_disk, chunk, version, to);
	chunk_dir(to_disk, chunk, dir);
	FAULT_POINT(CS_PULL_INSTALL, "");
	res = s->o.io->rename(s->o.io, copy->path, to);
	FAULT_POINT(CS_PULL_INSTALLED, "");
	if (res == 0)
		res = s->o.io->sync_dir(s->o.io, dir);
	if (res == 0 && old[0])
		s->o.io->unlink(s->o.io, old); /* of two the higher version counts at a start */
	pthread_mutex_lock(&s->lock);
	disk_error(s, to_disk, res, "put a copy in its place", true);
	if (res == 0 && to_disk->failed)
		res = ERR_IO;
	if (res == 0) {
		replica_end_ranges(r);
		replica_close(s, r);
		r->disk = to_disk;
		r->lost = r->io_error = r->making = false;
		replica_is_copy(s, r, version, copy->lossy);
	} else {
		err_set(err, res, "%s: %s", to, err_text(res));
	}
	if (r->making)
		replica_forget(s, r);
	else
		replica_let_go(s, r);
	pthread_mutex_unlock(&s->lock);
	return res;
}
