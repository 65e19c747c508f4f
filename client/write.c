/* Writes. The bytes go to the chunks' servers first, then WROTE makes them visible; then the call
 * returns. What guards against chunks that another session replaced meanwhile is described in
 * client/inode.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>

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
	const uint8_t *data;
	size_t bytes;
	uint64_t offset;
	int64_t deadline_ms;
	uint64_t since; /* see client/inode.h */
	unsigned n_used;
	struct {
		uint64_t index, id;
		uint32_t version;
		unsigned n_replicas;
		bool again; /* its bytes are not where they belong */
	} used[WROTE_CHUNKS_MAX];
};

/* The part of the operation that lies in used[i]. */
static struct span op_span(const struct write_op *op, unsigned i, size_t *ret_at)
{
	unsigned bits = op->inode->chunk_bits;
	uint64_t from = op->used[i].index << bits;

	if (from < op->offset)
		from = op->offset;
	*ret_at = (size_t)(from - op->offset);
	return span_first(from, op->bytes - *ret_at, bits);
}

static int op_send(struct write_op *op, struct err *err)
{
	for (unsigned i = 0; i < op->n_used; i++) {
		struct location loc;
		uint64_t since;
		size_t at;
		struct span s = op_span(op, i, &at);
		int r;
		if (!op->used[i].again)
			continue;
		r = chunk_write(op->fs, op->inode, s.index, s.offset, s.len, op->data + at, &loc,
				&since, op->deadline_ms, err);
		if (r < 0)
			return r;
		if (since < op->since)
			op->since = since;
		op->used[i].id = loc.id;
		op->used[i].version = loc.version;
		op->used[i].n_replicas = loc.n_replicas;
		op->used[i].again = false;
	}
	return 0;
}

static int op_tell(struct write_op *op, uint64_t *ret_change, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_wrote req = {.inode = op->inode->number, .offset = op->offset,
				 .end = op->offset + op->bytes};
	struct wire_attr_reply rep;
	int r;

	for (unsigned i = 0; i < op->n_used; i++) {
		req.chunks[req.n_chunks++] = op->used[i].id;
		req.versions[req.n_versions++] = op->used[i].version;
	}
	client_cred(NULL, &req.cred);
	FAULT_POINT(CLIENT_WRITE_DONE, "");
	r = session_mutate(&op->fs->session, OP_WROTE, &req, &req.id, &rep, &fields,
			   op->deadline_ms, err);
	FAULT_POINT(CLIENT_WROTE, "");
	if (r == ERR_NOENT)
		return err_set(err, ERR_STALE, "inode %llx is gone",
			       (unsigned long long)op->inode->number);
	if (r == 0)
		*ret_change = rep.attr.change;
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
	unsigned bits = op->inode->chunk_bits;
	uint64_t first = op->offset >> bits, last = (op->offset + op->bytes - 1) >> bits;

	op->since = UINT64_MAX;
	op->n_used = 0;
	for (uint64_t index = first; index <= last; index++) {
		op->used[op->n_used].index = index;
		op->used[op->n_used++].again = true;
	}
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
static int op_run(struct write_op *op, struct err *err)
{
	op_begin(op);
	for (int i = 0; i < WRITE_AGAIN_MAX; i++) {
		uint64_t change = 0;
		bool again;
		int r = op_send(op, err);
		if (r == 0)
			r = op_tell(op, &change, err);
		if (r == ERR_CHUNK_VERSION || r == ERR_CHUNK_PENDING) {
			op_again(op);
			continue;
		}
		if (r < 0)
			return r;
		if (inode_wrote(op->inode, op->since, change)) {
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

static int write_at(struct cairn_file *file, const uint8_t *data, size_t bytes, uint64_t offset,
		    int64_t deadline_ms, struct err *err)
{
	struct write_op op = {.fs = file->fs, .inode = file->inode, .deadline_ms = deadline_ms};
	unsigned bits = file->inode->chunk_bits;

	while (bytes > 0) {
		uint64_t chunk_bytes = 1ULL << bits;
		uint64_t room = chunk_bytes * WROTE_CHUNKS_MAX - offset % chunk_bytes;
		int r;
		op.data = data;
		op.bytes = bytes < room ? bytes : (size_t)room;
		op.offset = offset;
		r = op_run(&op, err);
		if (r < 0)
			return r;
		data += op.bytes;
		bytes -= op.bytes;
		offset += op.bytes;
	}
	return 0;
}

/* Appends of this session follow each other; see cairn.h. */
static int append(struct cairn_file *file, const uint8_t *data, size_t bytes,
		  int64_t deadline_ms, struct err *err)
{
	struct inode *inode = file->inode;
	struct wire_attr attr;
	int r;

	if (!inode_append_begin(inode, deadline_ms))
		return err_set(err, ERR_TIMEOUT, "inode %llx: waiting for another append",
			       (unsigned long long)inode->number);
	r = meta_getattr(file->fs, inode->number, &attr, deadline_ms, err);
	if (r == ERR_NOENT)
		r = err_set(err, ERR_STALE, "inode %llx is gone",
			    (unsigned long long)inode->number);
	if (r == 0 && bytes > FILE_BYTES_MAX - attr.size)
		r = err_set(err, ERR_FBIG, "beyond the largest file");
	if (r == 0)
		r = write_at(file, data, bytes, attr.size, deadline_ms, err);
	inode_append_end(inode);
	return r;
}

ssize_t file_pwrite(struct cairn_file *file, const void *buf, size_t bytes, uint64_t offset,
		    struct err *err)
{
	int64_t deadline = client_deadline(file->fs);
	int r;

	if ((file->flags & O_ACCMODE) == O_RDONLY)
		return err_set(err, ERR_BADF, "the file is open for reading only");
	if (bytes == 0)
		return 0;
	if (bytes > SSIZE_MAX)
		return err_set(err, ERR_INVAL, "more than SSIZE_MAX bytes");
	if (!(file->flags & O_APPEND) &&
	    (offset > FILE_BYTES_MAX || bytes > FILE_BYTES_MAX - offset))
		return err_set(err, ERR_FBIG, "beyond the largest file");
	if (file->flags & O_APPEND)
		r = append(file, buf, bytes, deadline, err);
	else
		r = write_at(file, buf, bytes, offset, deadline, err);
	/* O_SYNC includes O_DSYNC's bit. */
	if (r == 0 && (file->flags & O_DSYNC))
		r = file_sync(file, err);
	return r < 0 ? r : (ssize_t)bytes;
}

ssize_t cairn_pwrite(struct cairn_file *file, const void *buf, size_t bytes, uint64_t offset)
{
	struct err err = {0};
	return result(file_pwrite(file, buf, bytes, offset, &err), &err);
}
