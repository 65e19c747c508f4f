/* Bringing a replica up to date where it is. Most that come back lack a few blocks: to build a whole
 * copy beside it costs the disk as much as the chunk is long, during which there is one copy less, and
 * the next server may fail.
 *
 * What is here is changed under its old name. So it is in the journal before, as one that is open for
 * writing: after a crash it is compared, whatever it has. Each block is then its own or the
 * source's, and either of them has every write that was acknowledged to this replica. */
#include "chunkserver/store_priv.h"

#include "common/clock.h"
#include "common/fault.h"

enum { PATCH_WAIT_MS = 200 };

/* Lock held. */
static bool is_fit(const struct replica *r, uint32_t version, const struct store_seen *seen,
		   uint64_t begun)
{
	return !replica_is_newer(r, version, begun) && r->changed == seen->changed &&
	       r->writes == seen->writes && !r->writers && !r->ranges && !r->lost &&
	       !r->io_error && !r->damaged && !r->disk->failed;
}

/* Lock held; the replica is had alone. */
static int be_open(struct store *s, struct replica *r, struct err *err)
{
	bool journaled = r->journaled;
	int res = replica_open(s, r, NULL);

	if (res < 0)
		return ERR_BUSY;
	r->unclean = true; /* so that a journal that is begun anew meanwhile names it */
	pthread_mutex_unlock(&s->lock);
	if (!journaled)
		res = journal_append(r->disk->journal, r->chunk, r->version, r->file.chunk_bits,
				     err);
	pthread_mutex_lock(&s->lock);
	disk_error(s, r->disk, res, "append to its journal", true);
	if (res == 0)
		r->journaled = r->dirty = true;
	return res;
}

int store_patch_begin(struct store *s, uint64_t chunk, uint32_t version,
		      const struct store_seen *seen, uint64_t begun, struct store_patch *ret,
		      struct err *err)
{
	struct replica *r;
	int res;

	pthread_mutex_lock(&s->lock);
	res = replica_take_alone(s, chunk, deadline_in(PATCH_WAIT_MS), &r);
	if (res < 0) {
		res = ERR_BUSY;
	} else {
		res = is_fit(r, version, seen, begun) ? be_open(s, r, err) : ERR_BUSY;
		if (res == 0)
			*ret = (struct store_patch){.replica = r, .file = r->file,
						    .version = version};
		else
			replica_let_go(s, r);
	}
	pthread_mutex_unlock(&s->lock);
	return res;
}

/* Invariant 5 of format.h: the new name comes when all is there and synced. */
static int rename_patched(struct store *s, const struct store_patch *p, bool *ret_renamed,
			  struct err *err)
{
	struct replica *r = p->replica;
	char from[PATH_ROOM], to[PATH_ROOM];
	int res = chunk_file_sync(&p->file, err);

	if (res < 0) {
		replica_sync_failed(s, r, res);
		return res;
	}
	FAULT_POINT(CS_PULL_INSTALL, "");
	if (r->version != p->version) {
		replica_path(r, r->version, from);
		replica_path(r, p->version, to);
		res = s->o.io->rename(s->o.io, from, to);
	}
	*ret_renamed = res == 0;
	FAULT_POINT(CS_PULL_INSTALLED, "");
	if (res < 0)
		return err_set(err, res, "chunk %016llx: rename to v%u: %s",
			       (unsigned long long)r->chunk, p->version, err_text(res));
	return replica_sync_name(s, r, err);
}

int store_patch_end(struct store *s, struct store_patch *p, int code, struct err *err)
{
	struct replica *r = p->replica;
	bool renamed = false;
	int res = code < 0 ? code : rename_patched(s, p, &renamed, err);

	pthread_mutex_lock(&s->lock);
	replica_end_ranges(r);
	replica_error(s, r, res);
	if (res == 0 && r->lost)
		res = replica_open(s, r, err); /* says which disk has failed */
	if (res == 0) {
		replica_is_copy(s, r, p->version, p->lossy);
	} else {
		if (renamed)
			r->version = p->version;
		r->torn |= p->torn;
		r->changed = ++s->changes;
	}
	replica_let_go(s, r);
	pthread_mutex_unlock(&s->lock);
	return res;
}
