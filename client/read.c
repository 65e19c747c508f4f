/* Reads. Each call asks the master for the file's attributes and chunk locations first: size and
 * `change` come from that answer, which is what makes reads coherent. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "client/chunk_read.h"
#include "client/locate.h"
#include "client/pieces.h"
#include "client/result.h"
#include "common/cleanup.h"

/* The chunks that [offset, offset+bytes) touches, as many as one LOCATE may ask for. */
static uint32_t chunks_touched(uint64_t offset, uint64_t bytes, unsigned chunk_bits)
{
	uint64_t n = ((offset + bytes - 1) >> chunk_bits) - (offset >> chunk_bits) + 1;
	return (uint32_t)(n < CHUNKS_PER_LOCATE_MAX ? n : CHUNKS_PER_LOCATE_MAX);
}

/* The location of a chunk in a LOCATE's answer; one that is not named is a hole. */
static int location_in_reply(const struct wire_locate_reply *rep, uint64_t index,
			     struct location *ret, struct err *err)
{
	for (unsigned i = 0; i < rep->n_chunks; i++)
		if (rep->chunks[i].index == index)
			return location_from_wire(ret, &rep->chunks[i], err);
	*ret = (struct location){.index = index};
	return 0;
}

/* How many of the bytes at offset one LOCATE's answer for `count` chunks tells about. */
static size_t located_bytes(const struct wire_locate_reply *rep, uint32_t count, unsigned bits,
			    size_t bytes, uint64_t offset)
{
	uint64_t limit = ((offset >> bits) + count) << bits;

	if (limit > rep->attr.size)
		limit = rep->attr.size;
	if (offset >= limit)
		return 0;
	return bytes < limit - offset ? bytes : (size_t)(limit - offset);
}

static int read_located(struct cairn *fs, uint64_t inode, unsigned bits,
			const struct wire_locate_reply *rep, uint8_t *buf, size_t bytes,
			uint64_t offset, int64_t deadline_ms, struct err *err)
{
	for (size_t done = 0; done < bytes;) {
		struct span s = span_first(offset + done, bytes - done, bits);
		struct location loc;
		int r = location_in_reply(rep, s.index, &loc, err);
		if (r == 0)
			r = chunk_read(fs, inode, &loc, s.offset, s.len, buf + done, deadline_ms,
				       err);
		if (r < 0)
			return r;
		done += s.len;
	}
	return 0;
}

ssize_t inode_read(struct cairn *fs, uint64_t inode, unsigned chunk_bits, void *buf, size_t bytes,
		   uint64_t offset, int64_t deadline_ms, uint64_t *ret_change, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_locate_reply rep;
	uint32_t count = chunks_touched(offset, bytes, chunk_bits);
	int r = locate_chunks(fs, inode, offset >> chunk_bits, count, &rep, &fields, deadline_ms,
			      err);

	if (r < 0)
		return r;
	bytes = located_bytes(&rep, count, chunk_bits, bytes, offset);
	r = read_located(fs, inode, chunk_bits, &rep, buf, bytes, offset, deadline_ms, err);
	*ret_change = rep.attr.change;
	return r < 0 ? r : (ssize_t)bytes;
}

/* What was read ahead, and the gaps from the servers. */
static int read_ahead(struct cairn_file *file, const struct wire_locate_reply *rep, uint8_t *buf,
		      size_t bytes, uint64_t offset, int64_t deadline_ms, struct err *err)
{
	struct readahead_pool *pool = &file->fs->readahead;
	struct inode *inode = file->inode;

	readahead_plan(pool, &file->readahead, inode->number, inode->chunk_bits, offset, bytes,
		       rep->attr.size);
	for (size_t done = 0; done < bytes;) {
		size_t gap, n = readahead_take(pool, &file->readahead, offset + done, bytes - done,
					       rep->attr.change, buf + done, &gap);
		int r = 0;
		if (n == 0) {
			n = gap;
			r = read_located(file->fs, inode->number, inode->chunk_bits, rep,
					 buf + done, n, offset + done, deadline_ms, err);
		}
		if (r < 0)
			return r;
		done += n;
	}
	return 0;
}

ssize_t file_pread(struct cairn_file *file, void *buf, size_t bytes, uint64_t offset,
		   struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	int64_t deadline = client_deadline(file->fs);
	struct inode *inode = file->inode;
	struct wire_locate_reply rep;
	size_t done = 0;

	if ((file->flags & O_ACCMODE) == O_WRONLY)
		return err_set(err, ERR_BADF, "the file is open for writing only");
	if (bytes > SSIZE_MAX)
		bytes = SSIZE_MAX;
	if (offset > FILE_BYTES_MAX)
		return err_set(err, ERR_INVAL, "offset beyond the largest file");
	if (bytes > FILE_BYTES_MAX - offset)
		bytes = (size_t)(FILE_BYTES_MAX - offset);
	while (done < bytes) {
		uint64_t at = offset + done;
		uint32_t count = chunks_touched(at, bytes - done, inode->chunk_bits);
		int r = locate_chunks(file->fs, inode->number, at >> inode->chunk_bits, count, &rep,
				      &fields, deadline, err);
		uint8_t *to = (uint8_t *)buf + done;
		size_t n;
		if (r < 0)
			return r;
		n = located_bytes(&rep, count, inode->chunk_bits, bytes - done, at);
		if (file->fs->readahead_bytes > 0)
			r = read_ahead(file, &rep, to, n, at, deadline, err);
		else
			r = read_located(file->fs, inode->number, inode->chunk_bits, &rep, to, n,
					 at, deadline, err);
		if (r < 0)
			return r;
		done += n;
		if (n == 0 || at + n >= rep.attr.size)
			break;
	}
	return (ssize_t)done;
}

ssize_t cairn_pread(struct cairn_file *file, void *buf, size_t bytes, uint64_t offset)
{
	struct err err = {0};
	return result(file_pread(file, buf, bytes, offset, &err), &err);
}
