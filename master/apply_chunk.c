/* Chunks and their members; servers; garbage. Every change of a chunk row goes through
 * chunk_store(), which keeps the index rows (s, u, p) and the counters in step (invariants 3, 4). */
#include "master/apply_priv.h"

#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"

static int policy_copies(struct apply *a, uint32_t policy, uint32_t *ret)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_policy row;
	int r = state_get_row_policy(a->st, key_policy(policy), &row, &backing);

	if (r <= 0)
		return r < 0 ? r : ERR_CORRUPT;
	*ret = row.copies;
	return 0;
}

static bool member_of(const struct row_member *list, unsigned n, uint32_t server)
{
	for (unsigned i = 0; i < n; i++)
		if (list[i].server == server)
			return true;
	return false;
}

static int server_check(struct apply *a, uint32_t server)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key key = key_server(server);
	int r = state_get(a->st, key_slice(&key), &backing);

	return r == 0 ? apply_refuse(a, ERR_INVAL, "there is no chunkserver %u", server)
	       : r < 0 ? r : 0;
}

static int chunk_get(struct apply *a, uint64_t chunk, struct row_chunk *ret)
{
	_cleanup_buf_ struct buf backing = {0}; /* the row has no slices: it may go */
	return state_get_row_chunk(a->st, key_chunk(chunk), ret, &backing);
}

/* Removes a garbage row if there is one. */
static int garbage_forget(struct apply *a, uint32_t server, uint64_t chunk)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key key = key_garbage(server, chunk);
	int r = state_get(a->st, key_slice(&key), &backing);

	if (r == 1) {
		state_del(a->st, key_slice(&key));
		a->meta.garbage--;
	}
	return r < 0 ? r : 0;
}

static int garbage_put(struct apply *a, uint32_t server, uint64_t chunk, uint32_t version,
		       uint32_t grace_s)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_on_server row = {.version = version, .not_before = a->now}, old;
	int r = state_get_row_on_server(a->st, key_garbage(server, chunk), &old, &backing);

	if (r >= 0 && row.not_before.sec <= INT64_MAX - grace_s)
		row.not_before.sec += grace_s;
	/* Told of again: that gives it no more time. */
	if (r == 1 && when_cmp(old.not_before, row.not_before) < 0)
		row.not_before = old.not_before;
	if (r >= 0)
		r = garbage_forget(a, server, chunk);
	if (r < 0)
		return r;
	state_put_row_on_server(a->st, key_garbage(server, chunk), &row);
	a->meta.garbage++;
	a->res->garbage = true;
	return 0;
}

static int index_under_goal(struct apply *a, uint64_t chunk, const struct row_chunk *row, bool put)
{
	struct key key = key_under_goal(row->n_members, chunk);
	uint32_t copies;
	int r = policy_copies(a, row->policy, &copies);

	if (r < 0 || row->n_members >= copies)
		return r;
	if (put)
		state_put(a->st, key_slice(&key), (struct slice){0});
	else
		state_del(a->st, key_slice(&key));
	a->meta.under_goal += put ? 1 : -1;
	return 0;
}

static void index_pending(struct apply *a, uint64_t chunk, const struct row_chunk *row, bool put)
{
	struct key key = key_pending(chunk);

	if (!row->pending_version)
		return;
	if (put)
		state_put(a->st, key_slice(&key), (struct slice){0});
	else
		state_del(a->st, key_slice(&key));
	a->meta.pending += put ? 1 : -1;
}

/* Writes a chunk's new row over the old one (NULL: a new chunk; new NULL: it goes). */
static int chunk_store(struct apply *a, uint64_t chunk, const struct row_chunk *old,
		       const struct row_chunk *new)
{
	struct key key = key_chunk(chunk);
	int r = 0;

	if (old) {
		r = index_under_goal(a, chunk, old, false);
		index_pending(a, chunk, old, false);
		for (unsigned i = 0; i < old->n_members; i++) {
			struct key on = key_on_server(old->members[i].server, chunk);
			state_del(a->st, key_slice(&on));
		}
	}
	if (!new) {
		state_del(a->st, key_slice(&key));
		a->meta.chunks--;
		return r;
	}
	if (r == 0)
		r = index_under_goal(a, chunk, new, true);
	index_pending(a, chunk, new, true);
	for (unsigned i = 0; r == 0 && i < new->n_members; i++) {
		struct row_on_server on = {.version = new->version};
		r = garbage_forget(a, new->members[i].server, chunk);
		state_put_row_on_server(a->st, key_on_server(new->members[i].server, chunk), &on);
	}
	if (r < 0)
		return r;
	state_put_row_chunk(a->st, key, new);
	if (!old)
		a->meta.chunks++;
	return 0;
}

int chunk_create(struct apply *a, uint64_t inode, const struct row_inode *file, uint64_t index,
		 const struct row_member *members, unsigned n_members, struct wire_chunk *rep)
{
	struct row_chunk row = {
		.version = 1, .refs = 1, .policy = file->policy, .chunk_bits = file->chunk_bits,
		.inode = inode, .index = index, .cut = CHUNK_LENGTH_KEEP,
	};
	_cleanup_buf_ struct buf backing = {0};
	struct row_file_chunk ref;
	int r = state_get_row_file_chunk(a->st, key_file_chunk(inode, index), &ref, &backing);

	if (r < 0)
		return r;
	if (r == 0)
		ref = (struct row_file_chunk){0}; /* else blocks were set aside */
	ref.chunk = a->meta.next_chunk++;
	r = 0;
	for (unsigned i = 0; i < n_members && r == 0; i++) {
		r = server_check(a, members[i].server);
		if (!member_of(row.members, row.n_members, members[i].server))
			row.members[row.n_members++] = members[i];
	}
	if (r == 0)
		r = chunk_store(a, ref.chunk, NULL, &row);
	if (r < 0)
		return r;
	state_put_row_file_chunk(a->st, key_file_chunk(inode, index), &ref);
	ns_chunk(ref.chunk, index, &row, rep);
	return 0;
}

int apply_chunk_make(struct apply *a, const struct cmd_chunk_make *m, struct wire_chunk_reply *rep)
{
	const struct wire_chunk_for_write *req = &m->req;
	_cleanup_buf_ struct buf backing = {0}, ref_backing = {0};
	struct row_file_chunk ref;
	struct row_inode file;
	struct row_chunk row;
	int r = ns_inode(a->st, req->inode, &file, &backing);

	if (r < 0)
		return r;
	if ((file.mode & S_IFMT) != S_IFREG)
		return (file.mode & S_IFMT) == S_IFDIR ? ERR_ISDIR : ERR_INVAL;
	if (req->index > FILE_BYTES_MAX >> file.chunk_bits)
		return ERR_FBIG;
	r = apply_strip(a, &req->cred, req->inode, &file);
	if (r < 0)
		return r;
	ns_attr(req->inode, &file, &rep->attr);
	r = state_get_row_file_chunk(a->st, key_file_chunk(req->inode, req->index), &ref,
				     &ref_backing);
	if (r < 0)
		return r;
	if (r == 1 && ref.chunk) {
		r = chunk_get(a, ref.chunk, &row);
		if (r <= 0)
			return r < 0 ? r : ERR_CORRUPT;
		ns_chunk(ref.chunk, req->index, &row, &rep->chunk);
		return 0;
	}
	if (m->n_members == 0)
		return apply_refuse(a, ERR_NO_SERVERS, "no chunkserver can take a new chunk");
	/* Of what was set aside the blocks are counted already. */
	r = r == 1 ? 0 : quota_room(a, file.project);
	if (r < 0)
		return r;
	return chunk_create(a, req->inode, &file, req->index, m->members, m->n_members,
			    &rep->chunk);
}

/* One reference less; at the last one the chunk goes and its replicas become garbage. */
static int chunk_unref(struct apply *a, uint64_t chunk)
{
	struct row_chunk row, less;
	int r = chunk_get(a, chunk, &row);

	if (r <= 0)
		return r < 0 ? r : ERR_CORRUPT;
	if (row.refs > 1) {
		less = row;
		less.refs--;
		return chunk_store(a, chunk, &row, &less);
	}
	r = chunk_store(a, chunk, &row, NULL);
	for (unsigned i = 0; r == 0 && i < row.n_members; i++)
		r = garbage_put(a, row.members[i].server, chunk, UINT32_MAX, 0);
	for (unsigned i = 0; r == 0 && i < row.n_joining; i++)
		r = garbage_put(a, row.joining[i].server, chunk, UINT32_MAX, 0);
	return r;
}

/* Takes one chunk out of a file. */
static int file_chunk_free(struct apply *a, uint64_t inode, struct row_inode *file, uint64_t index,
			   bool keep_space)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key key = key_file_chunk(inode, index);
	struct row_file_chunk ref;
	int r = state_get_row_file_chunk(a->st, key, &ref, &backing);
	uint32_t blocks;

	if (r <= 0)
		return r < 0 ? r : ERR_CORRUPT;
	if (ref.chunk)
		r = chunk_unref(a, ref.chunk);
	if (r < 0)
		return r;
	blocks = ns_space_blocks(&ref);
	if (keep_space && blocks > 0) {
		ref.chunk = 0;
		state_put_row_file_chunk(a->st, key, &ref);
		return 0;
	}
	state_del(a->st, key_slice(&key));
	if (!file)
		return 0;
	file->blocks -= blocks;
	return quota_charge(a, file->project, -(int64_t)blocks, 0);
}

int chunks_free_from(struct apply *a, uint64_t inode, struct row_inode *file, uint64_t from,
		     bool keep_space, unsigned *budget)
{
	struct key prefix = key_prefix(key_file_chunk(inode, 0), 9);
	struct key start = key_file_chunk(inode, from);
	uint64_t found[CHUNKS_FREED_MAX];
	struct state_iter *it;
	struct slice key, value;
	unsigned n = 0;
	int r = state_iter_open(a->st, key_slice(&prefix), key_slice(&start), &it);

	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1 && n < *budget) {
		struct cursor c = cursor_slice(value);
		struct row_file_chunk ref;
		if (key.len != 17 || row_file_chunk_get(&c, &ref) < 0) {
			r = ERR_CORRUPT;
			break;
		}
		if (ref.chunk || !keep_space)
			found[n++] = get_be64(key.data + 9);
	}
	state_iter_close(it);
	if (r < 0)
		return r;
	*budget -= n;
	for (unsigned i = 0; i < n; i++) {
		int s = file_chunk_free(a, inode, file, found[i], keep_space);
		if (s < 0)
			return s;
	}
	return r == 0; /* 1: the iterator still had a row */
}

int apply_reclaim(struct apply *a, const struct cmd_reclaim *m, struct cmd_closed *rep)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key key = key_reclaim(m->inode);
	unsigned budget = CHUNKS_FREED_MAX;
	int r = state_get(a->st, key_slice(&key), &backing);

	if (r <= 0)
		return r; /* done already */
	r = chunks_free_from(a, m->inode, NULL, 0, false, &budget);
	if (r == 1)
		state_del(a->st, key_slice(&key));
	rep->more = r == 0;
	return r < 0 ? r : 0;
}

int chunk_cut(struct apply *a, uint64_t chunk, uint64_t length)
{
	struct row_chunk row, cut;
	int r = chunk_get(a, chunk, &row);

	if (r <= 0)
		return r < 0 ? r : ERR_CORRUPT;
	/* An unwritten chunk may still hold bytes of a write that was never completed. */
	cut = row;
	if (!row.pending_version) {
		cut.pending_version = row.version + 1;
		cut.flags &= (uint8_t)~CHUNK_RESTORED;
	}
	if (length < row.cut)
		cut.cut = length;
	r = chunk_store(a, chunk, &row, &cut);
	if (r == 0 && a->res->n_raises < APPLY_RAISES_MAX)
		a->res->raises[a->res->n_raises++] = chunk;
	return r;
}

/* Marks a chunk that the request names as written; one that names none means those that are there.
 * A first write that was overtaken by a raise is refused: servers that had nothing of the chunk
 * when they were raised cannot tell that it came late. */
static int mark_written(struct apply *a, const struct wire_wrote *req, uint64_t chunk,
			struct row_chunk *row)
{
	unsigned i = 0;

	while (i < req->n_chunks && req->chunks[i] != chunk)
		i++;
	if ((row->flags & CHUNK_WRITTEN) || (req->n_chunks > 0 && i == req->n_chunks))
		return 0;
	if (i < req->n_versions && req->versions[i] != row->version)
		return apply_refuse(a, ERR_CHUNK_VERSION, "chunk %016llx is at v%u, not v%u",
				    (unsigned long long)chunk, row->version, req->versions[i]);
	if (i < req->n_versions && row->pending_version)
		return apply_refuse(a, ERR_CHUNK_PENDING, "chunk %016llx is being raised",
				    (unsigned long long)chunk);
	row->flags |= CHUNK_WRITTEN;
	state_put_row_chunk(a->st, key_chunk(chunk), row);
	return 0;
}

int chunks_mark_written(struct apply *a, const struct wire_wrote *req,
			const struct row_inode *file)
{
	uint64_t index = req->offset >> file->chunk_bits;

	for (; req->end > req->offset && index <= (req->end - 1) >> file->chunk_bits; index++) {
		_cleanup_buf_ struct buf backing = {0};
		struct row_file_chunk ref;
		struct row_chunk row;
		int r = state_get_row_file_chunk(a->st, key_file_chunk(req->inode, index), &ref,
						 &backing);
		if (r == 1)
			r = ref.chunk ? chunk_get(a, ref.chunk, &row) : 0;
		if (r == 1)
			r = mark_written(a, req, ref.chunk, &row);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- raises ---- */

int apply_chunk_raise(struct apply *a, const struct cmd_chunk_raise *m, struct wire_empty *rep)
{
	struct row_chunk row, raised;
	int r = chunk_get(a, m->chunk, &row);

	if (r <= 0)
		return r < 0 ? r : ERR_NO_CHUNK;
	if (row.version != m->version)
		return apply_refuse(a, ERR_CHUNK_VERSION, "chunk %016llx is at version %u",
				    (unsigned long long)m->chunk, row.version);
	if (row.pending_version)
		return apply_refuse(a, ERR_CHUNK_PENDING, "chunk %016llx is being raised",
				    (unsigned long long)m->chunk);
	if (m->n_members == 0)
		return ERR_INVAL;
	for (unsigned i = 0; i < m->n_members; i++)
		if (!member_of(row.members, row.n_members, m->members[i].server))
			return apply_refuse(a, ERR_INVAL, "server %u is no member",
					    m->members[i].server);
	raised = row;
	raised.pending_version = row.version + 1;
	raised.flags &= (uint8_t)~CHUNK_RESTORED;
	raised.n_joining = 0;
	for (unsigned i = 0; i < m->n_joining; i++) {
		_cleanup_buf_ struct buf backing = {0};
		struct key doomed = key_garbage(m->joining[i].server, m->chunk);
		r = server_check(a, m->joining[i].server);
		if (r == 0)
			r = state_get(a->st, key_slice(&doomed), &backing);
		if (r < 0)
			return r;
		/* A deletion of its old replica may be on the way: it would take the new one. */
		if (r == 1)
			return apply_refuse(a, ERR_BUSY, "server %u still has garbage of this chunk",
					    m->joining[i].server);
		if (!member_of(m->members, m->n_members, m->joining[i].server))
			raised.joining[raised.n_joining++] = m->joining[i];
	}
	/* The members stay until RAISED: while the raise is pending those left out are only not
	 * asked, so that a master that dies here has lost nothing. */
	return chunk_store(a, m->chunk, &row, &raised);
}

int apply_chunk_raised(struct apply *a, const struct cmd_chunk_raised *m, struct wire_empty *rep)
{
	struct row_chunk row, done;
	int r = chunk_get(a, m->chunk, &row);

	if (r <= 0)
		return r < 0 ? r : ERR_NO_CHUNK;
	if (!row.pending_version || row.pending_version != m->new_version || m->n_members == 0)
		return apply_refuse(a, ERR_CHUNK_VERSION, "chunk %016llx: no raise to %u is "
				    "pending", (unsigned long long)m->chunk, m->new_version);
	if (row.cut != m->cut)
		return apply_refuse(a, ERR_CHUNK_PENDING, "chunk %016llx was cut again meanwhile",
				    (unsigned long long)m->chunk);
	done = row;
	done.version = m->new_version;
	if (m->lossy)
		done.settled = m->new_version;
	done.pending_version = 0;
	done.flags &= (uint8_t)~CHUNK_RESTORED;
	done.cut = CHUNK_LENGTH_KEEP;
	done.n_joining = 0;
	done.n_members = 0;
	for (unsigned i = 0; i < m->n_members; i++) {
		uint32_t server = m->members[i].server;
		if (!member_of(row.members, row.n_members, server) &&
		    !member_of(row.joining, row.n_joining, server))
			return apply_refuse(a, ERR_INVAL, "server %u is neither member nor joining",
					    server);
		if (!member_of(done.members, done.n_members, server))
			done.members[done.n_members++] = m->members[i];
	}
	return chunk_store(a, m->chunk, &row, &done);
}

int apply_chunk_adopt(struct apply *a, const struct cmd_chunk_adopt *m, struct wire_empty *rep)
{
	struct row_chunk row, newer;
	int r = chunk_get(a, m->chunk, &row);

	if (r <= 0)
		return r < 0 ? r : ERR_NO_CHUNK;
	if (!a->meta.held || !(row.flags & CHUNK_RESTORED))
		return apply_refuse(a, ERR_BUSY, "chunk %016llx was changed since the import, or "
				    "nothing is held", (unsigned long long)m->chunk);
	if (m->version <= row.version)
		return apply_refuse(a, ERR_CHUNK_VERSION, "chunk %016llx is at version %u",
				    (unsigned long long)m->chunk, row.version);
	if (m->n_members == 0)
		return ERR_INVAL;
	newer = row;
	newer.version = m->version;
	newer.flags &= (uint8_t)~CHUNK_RESTORED;
	newer.pending_version = 0;
	newer.cut = CHUNK_LENGTH_KEEP;
	newer.n_joining = newer.n_members = 0;
	for (unsigned i = 0; i < m->n_members; i++) {
		r = server_check(a, m->members[i].server);
		if (r < 0)
			return r;
		if (!member_of(newer.members, newer.n_members, m->members[i].server))
			newer.members[newer.n_members++] = m->members[i];
	}
	return chunk_store(a, m->chunk, &row, &newer);
}

/* ---- garbage, servers, policies ---- */

int apply_garbage(struct apply *a, const struct cmd_garbage *m, struct wire_empty *rep)
{
	int r = server_check(a, m->server);

	for (unsigned i = 0; i < m->n_have && r == 0; i++) {
		struct row_chunk row;
		/* A chunk this state never gave out is not garbage: the state may be an old one. */
		if (m->have[i].id == 0 || m->have[i].id >= a->meta.next_chunk)
			return ERR_INVAL;
		r = chunk_get(a, m->have[i].id, &row);
		if (r < 0)
			return r;
		if (m->done)
			r = garbage_forget(a, m->server, m->have[i].id);
		else if (r == 1 && (member_of(row.members, row.n_members, m->server) ||
				    member_of(row.joining, row.n_joining, m->server)))
			r = 0;
		else
			r = garbage_put(a, m->server, m->have[i].id, m->have[i].version,
					m->grace_s);
	}
	return r;
}

int apply_hold(struct apply *a, const struct cmd_hold *m, struct wire_empty *rep)
{
	a->meta.held = m->held != 0;
	return 0;
}

/* The under-goal rows follow the policy in later raises; the ones that are there are left. */
int apply_set_policy(struct apply *a, const struct cmd_set_policy *m, struct wire_empty *rep)
{
	struct row_policy row = {.copies = m->copies};

	if (m->copies < 1 || m->copies > REPLICAS_MAX)
		return ERR_INVAL;
	if (a->meta.chunks > 0)
		return apply_refuse(a, ERR_NOTSUP, "the number of copies cannot be changed while "
				    "there are chunks");
	state_put_row_policy(a->st, key_policy(m->policy), &row);
	return 0;
}
