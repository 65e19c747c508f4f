/* Writes that are not held back (client/writeback.h), or not any more. The bytes go to the chunks'
 * servers first, then WROTE makes them visible; then the call returns. What guards against chunks that
 * another session replaced meanwhile is described in client/inode.h. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#include "client/chunk_write.h"
#include "client/locate.h"
#include "client/pieces.h"
#include "client/result.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"

enum {
	/* How often a write may find its chunks replaced by other sessions' truncations. */
	WRITE_AGAIN_MAX = 16,
};

/* What one WROTE is about. */
struct write_op {
	struct cairn *fs;
	struct inode *inode;
	const struct extent *ext; /* in order */
	size_t n_ext;		  /* 0: nothing is written, only told */
	const struct copy_source *from; /* then ext has one, without data, in one chunk */
	uint64_t offset, end;
	int64_t deadline_ms;
	uint64_t since; /* see client/inode.h */
	uint8_t flags;	/* of WROTE */
	struct when mtime; /* with WROTE_HELD */
	bool sync; /* a sync of the file follows */
	uint8_t leased; /* of WROTE's answer */
	bool unsure;	/* a WROTE was left without an answer */
	unsigned n_used;
	struct {
		uint64_t index, id;
		uint32_t version;
		unsigned n_replicas;
		size_t first, n; /* of ext: those that reach into it */
		bool again; /* its bytes are not where they belong */
	} used[WROTE_CHUNKS_MAX];
};

/* Writes what belongs into used[i]. */
static int op_send_chunk(struct write_op *op, unsigned i, struct err *err)
{
	struct chunk_part one, *parts = op->used[i].n == 1 ? &one
						: calloc(op->used[i].n, sizeof(*parts));
	uint64_t from = op->used[i].index << op->inode->chunk_bits;
	uint64_t to = from + (1ULL << op->inode->chunk_bits), since;
	struct location loc;
	int r;

	if (!parts)
		return err_set(err, ERR_NOMEM, "out of memory");
	for (size_t k = 0; k < op->used[i].n; k++) {
		const struct extent *x = &op->ext[op->used[i].first + k];
		uint64_t a = x->offset > from ? x->offset : from;
		uint64_t b = x->offset + x->len < to ? x->offset + x->len : to;
		parts[k] = (struct chunk_part){.offset = (uint32_t)(a - from),
					       .len = (uint32_t)(b - a),
					       .data = x->data ? x->data + (a - x->offset) : NULL};
	}
	if (op->from)
		r = chunk_copy(op->fs, op->inode, op->used[i].index, parts[0].offset, parts[0].len,
			       op->from, &loc, &since, op->deadline_ms, err);
	else
		r = chunk_write(op->fs, op->inode, op->used[i].index, parts,
				(unsigned)op->used[i].n, op->sync && op->n_used == 1, &loc, &since,
				op->deadline_ms, err);
	if (parts != &one)
		free(parts);
	if (r < 0)
		return r;
	if (since < op->since)
		op->since = since;
	op->used[i].id = loc.id;
	op->used[i].version = loc.version;
	op->used[i].n_replicas = loc.n_replicas;
	op->used[i].again = false;
	return 0;
}

static int op_send(struct write_op *op, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; i < op->n_used && r == 0; i++)
		if (op->used[i].again)
			r = op_send_chunk(op, i, err);
	return r;
}

/* What was written, if there are gaps. */
static void op_runs(const struct write_op *op, struct wire_wrote *req)
{
	for (size_t i = 0; i < op->n_ext; i++) {
		uint64_t from = op->ext[i].offset, end = from + op->ext[i].len;
		if (req->n_runs == 0 || req->runs[req->n_runs - 1] != from) {
			assert(req->n_runs < 2 * WROTE_RUNS_MAX);
			req->runs[req->n_runs++] = from;
			req->n_runs++;
		}
		req->runs[req->n_runs - 1] = end;
	}
	if (req->n_runs == 2)
		req->n_runs = 0;
}

static int op_tell(struct write_op *op, struct wire_attr *ret, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_wrote req = {.inode = op->inode->number, .offset = op->offset,
				 .end = op->end, .flags = op->flags, .mtime = op->mtime};
	struct wire_attr_reply rep;
	bool unsure;
	int r;

	for (unsigned i = 0; i < op->n_used; i++) {
		req.chunks[req.n_chunks++] = op->used[i].id;
		req.versions[req.n_versions++] = op->used[i].version;
	}
	op_runs(op, &req);
	inodes_cred(&op->fs->inodes, &op->fs->session, op->inode->number, true, &req.cred);
	FAULT_POINT(CLIENT_WRITE_DONE, "");
	r = session_mutate_leased(&op->fs->session, OP_WROTE, &req, &req.id, &rep, &fields,
				  op->deadline_ms, &op->leased, &unsure, err);
	op->unsure |= unsure;
	FAULT_POINT(CLIENT_WROTE, "");
	if (r == ERR_NOENT)
		return err_set(err, ERR_STALE, "inode %llx is gone",
			       (unsigned long long)op->inode->number);
	if (r == 0)
		*ret = rep.attr;
	return r;
}

/* Somebody else changed the file: are the bytes in its chunks? Marks those that must be written
 * again; *ret_any: there are some. What LOCATE tells serves as a write location only when it names
 * as many replicas as we wrote to: it leaves out members that are down, and a write must reach all
 * members of its version. */
static int op_verify(struct write_op *op, bool *ret_any, struct err *err)
{
	*ret_any = false;
	op->since = UINT64_MAX;
	for (unsigned i = 0; i < op->n_used; i++) {
		struct location loc;
		uint64_t change;
		int r = locate_one(op->fs, op->inode->number, op->used[i].index, &loc, &change,
				   op->deadline_ms, err);
		if (r < 0)
			return r;
		if (loc.id == op->used[i].id && loc.version == op->used[i].version) {
			if (loc.n_replicas == op->used[i].n_replicas)
				inode_location_put(op->inode, &loc, change);
			if (change < op->since)
				op->since = change;
			continue;
		}
		op->used[i].again = true;
		*ret_any = true;
	}
	return 0;
}

static void op_begin(struct write_op *op)
{
	unsigned bits = op->inode->chunk_bits, n = 0;

	op->since = UINT64_MAX;
	for (size_t i = 0; i < op->n_ext; i++) {
		uint64_t first = op->ext[i].offset >> bits;
		uint64_t last = (op->ext[i].offset + op->ext[i].len - 1) >> bits;
		for (uint64_t index = first; index <= last; index++) {
			if (n == 0 || op->used[n - 1].index != index) {
				assert(n < WROTE_CHUNKS_MAX);
				op->used[n].index = index;
				op->used[n].again = true;
				op->used[n].first = i;
				op->used[n++].n = 0;
			}
			op->used[n - 1].n++;
		}
	}
	op->n_used = n;
}

/* What was written may not be where it belongs: all again, at locations that are asked for anew. */
static void op_again(struct write_op *op)
{
	inode_locations_cut(op->inode, op->used[0].index);
	op->since = UINT64_MAX;
	for (unsigned i = 0; i < op->n_used; i++)
		op->used[i].again = true;
}

/* At most WROTE_CHUNKS_MAX chunks. */
static int op_run(struct write_op *op, struct wire_attr *ret, struct err *err)
{
	op_begin(op);
	for (int i = 0; i < WRITE_AGAIN_MAX; i++) {
		bool again;
		int r = op_send(op, err);
		if (r == 0)
			r = op_tell(op, ret, err);
		if (r == ERR_CHUNK_VERSION || r == ERR_CHUNK_PENDING) {
			op_again(op);
			continue;
		}
		if (r < 0)
			return r;
		/* It is appended: what may follow only puts its bytes where they belong. */
		op->flags &= (uint8_t)~(WROTE_APPEND | WROTE_APPEND_END);
		if (inode_wrote(op->inode, op->since, ret->change)) {
			for (unsigned u = 0; u < op->n_used; u++)
				inode_written(op->inode, op->used[u].index, op->used[u].id);
			return 0;
		}
		r = op_verify(op, &again, err);
		if (r < 0 || !again)
			return r;
	}
	return err_set(err, ERR_AGAIN, "inode %llx: other clients truncate it all the time",
		       (unsigned long long)op->inode->number);
}

/* As an own change of the file (client/cache.h, rule 3), under W. What was held back changes nothing that
 * others may have seen: the attributes as they were, with what client/writeback.c adds to them, are right
 * until the answer is there. */
static int op_run_leased(struct write_op *op, struct wire_attr *ret, struct err *err)
{
	struct lease *lease = &op->fs->lease;
	bool held = op->flags & WROTE_HELD, put = false;
	struct wire_attr attr = {0};
	struct edit edit;
	uint64_t ticket;
	int r = lease_write_begin(lease, op->inode->number, op->deadline_ms, err);

	if (r < 0)
		return r;
	op->leased = 0;
	op->unsure = false;
	edit_begin(&edit, &lease->cache);
	edit_inode(&edit, op->inode->number,
		   CACHED_DATA | CACHED_XATTRS_SET | (held ? 0 : CACHED_ATTR));
	r = op_run(op, &attr, err);
	lease_write_end(lease, op->inode->number);
	ticket = op->unsure ? 0 : edit_end(&edit);
	if (op->unsure)
		edit_doubt(&edit);
	if (r == 0 && ticket && (op->leased & WIRE_LEASED_INODE))
		put = cache_put_attr(&lease->cache, ticket, &attr);
	if (held && !put)
		cache_recall(&lease->cache, op->inode->number);
	if (r == 0 && ret)
		*ret = attr;
	return r;
}

int file_write_at(struct cairn_file *file, const uint8_t *data, size_t bytes, uint64_t offset,
		  uint8_t flags, int64_t deadline_ms, struct err *err)
{
	struct write_op op = {.fs = file->fs, .inode = file->inode, .deadline_ms = deadline_ms,
			      .sync = file->flags & O_DSYNC, .n_ext = 1};
	unsigned bits = file->inode->chunk_bits;

	while (bytes > 0) {
		uint64_t chunk_bytes = 1ULL << bits;
		uint64_t room = chunk_bytes * WROTE_CHUNKS_MAX - offset % chunk_bytes;
		size_t n = bytes < room ? bytes : (size_t)room;
		/* Not written to. */
		struct extent one = {.offset = offset, .len = n, .data = (uint8_t *)(uintptr_t)data};
		int r;
		op.ext = &one;
		op.offset = offset;
		op.end = offset + n;
		op.flags = flags;
		if ((flags & WROTE_APPEND) && n == bytes)
			op.flags |= WROTE_APPEND_END;
		r = op_run_leased(&op, NULL, err);
		if (r < 0)
			return r;
		data += n;
		bytes -= n;
		offset += n;
	}
	return 0;
}

int file_copy_at(struct cairn_file *file, const struct copy_source *from, size_t bytes,
		 uint64_t offset, int64_t deadline_ms, struct err *err)
{
	struct extent one = {.offset = offset, .len = bytes};
	struct write_op op = {.fs = file->fs, .inode = file->inode, .deadline_ms = deadline_ms,
			      .from = from, .ext = &one, .n_ext = 1, .offset = offset,
			      .end = offset + bytes};

	return op_run_leased(&op, NULL, err);
}

int file_tell(struct cairn_file *file, uint64_t offset, uint64_t end, uint8_t flags,
	      int64_t deadline_ms, struct err *err)
{
	struct write_op op = {.fs = file->fs, .inode = file->inode, .deadline_ms = deadline_ms,
			      .flags = flags};
	uint64_t most = (uint64_t)WROTE_CHUNKS_MAX << file->inode->chunk_bits;
	int r;

	do {
		op.offset = offset;
		op.end = end - offset < most - offset % most ? end : offset + (most - offset % most);
		r = op_run_leased(&op, NULL, err);
		offset = op.end;
	} while (r == 0 && offset < end);
	return r;
}

int inode_write_held(struct cairn *fs, struct inode *inode, const struct extents *held,
		     uint8_t flags, struct when mtime, bool sync, struct wire_attr *ret,
		     struct err *err)
{
	uint64_t reach = (uint64_t)WROTE_CHUNKS_MAX << inode->chunk_bits;

	for (size_t i = 0; i < held->n;) {
		uint64_t base = held->v[i].offset >> inode->chunk_bits << inode->chunk_bits;
		struct write_op op = {.fs = fs, .inode = inode, .ext = held->v + i,
				      .offset = held->v[i].offset, .mtime = mtime,
				      .sync = sync && held->n == 1,
				      .flags = flags, .deadline_ms = client_deadline(fs)};
		int r;
		while (i + op.n_ext < held->n && op.n_ext < WROTE_RUNS_MAX &&
		       held->v[i + op.n_ext].offset < base + reach)
			op.n_ext++;
		i += op.n_ext;
		op.end = held->v[i - 1].offset + held->v[i - 1].len;
		r = op_run_leased(&op, ret, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Through to the servers, behind what is held back. */
static int write_through(struct cairn_file *file, const void *buf, size_t bytes, uint64_t offset,
			 struct err *err)
{
	int64_t deadline = client_deadline(file->fs);
	int r = file_settle(file, err);

	if (r < 0)
		return r;
	if (file->flags & O_APPEND)
		r = file_append(file, buf, bytes, &offset, err);
	else
		r = file_write_at(file, buf, bytes, offset, 0, deadline, err);
	/* O_SYNC includes O_DSYNC's bit. */
	if (r == 0 && (file->flags & O_DSYNC))
		r = file_sync(file, err);
	return r;
}

ssize_t file_pwrite(struct cairn_file *file, const void *buf, size_t bytes, uint64_t offset,
		    struct err *err)
{
	int r = 0;

	if ((file->flags & O_ACCMODE) == O_RDONLY)
		return err_set(err, ERR_BADF, "the file is open for reading only");
	if (bytes == 0)
		return 0;
	if (bytes > SSIZE_MAX)
		return err_set(err, ERR_INVAL, "more than SSIZE_MAX bytes");
	if (!(file->flags & O_APPEND) &&
	    (offset > FILE_BYTES_MAX || bytes > FILE_BYTES_MAX - offset))
		return err_set(err, ERR_FBIG, "beyond the largest file");
	if (!(file->flags & (O_APPEND | O_DSYNC | O_DIRECT)))
		r = writeback_put(&file->fs->writeback, file->inode, buf, bytes, offset,
				  client_deadline(file->fs));
	if (r == 0)
		r = write_through(file, buf, bytes, offset, err);
	return r < 0 ? r : (ssize_t)bytes;
}

ssize_t cairn_pwrite(struct cairn_file *file, const void *buf, size_t bytes, uint64_t offset)
{
	struct err err = {0};
	return result(file_pwrite(file, buf, bytes, offset, &err), &err);
}
