/* Reads. Each call finds the file's attributes and chunk locations first, in what is leased or at the
 * master: size and `change` come from there, which is what makes reads coherent. */
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

/* How many of the bytes at offset one LOCATE's answer for `count` chunks tells about. */
static size_t located_bytes(const struct located *where, uint32_t count, unsigned bits,
			    size_t bytes, uint64_t offset)
{
	uint64_t limit = ((offset >> bits) + count) << bits;

	if (limit > where->attr.size)
		limit = where->attr.size;
	if (offset >= limit)
		return 0;
	return bytes < limit - offset ? bytes : (size_t)(limit - offset);
}

static int read_located(struct cairn *fs, uint64_t inode, unsigned bits,
			const struct located *where, uint8_t *buf, size_t bytes,
			uint64_t offset, int64_t deadline_ms, struct err *err)
{
	for (size_t done = 0; done < bytes;) {
		struct span s = span_first(offset + done, bytes - done, bits);
		struct location loc = where->chunks[s.index - where->first];
		int r = chunk_read(fs, inode, &loc, s.offset, s.len, buf + done, deadline_ms, err);
		if (r < 0)
			return r;
		done += s.len;
	}
	return 0;
}

static struct readahead_stamp stamp_at(const struct located *where, uint64_t offset, unsigned bits)
{
	uint64_t i = (offset >> bits) - where->first;
	const struct location *loc = i < where->n ? &where->chunks[i] : NULL;

	/* A file that ends before has no chunk there, a hole none at all: nothing of them can be lost. */
	return (struct readahead_stamp){.change = where->attr.change, .settled = loc ? loc->settled : 0,
					.served = !loc || loc->id == 0 || loc->n_replicas > 0};
}

ssize_t inode_read(struct cairn *fs, uint64_t inode, unsigned chunk_bits, void *buf, size_t bytes,
		   uint64_t offset, int64_t deadline_ms, struct readahead_stamp *ret_stamp,
		   struct err *err)
{
	struct located where = {0};
	uint32_t count = chunks_touched(offset, bytes, chunk_bits);
	int r = locate_for_read(fs, inode, offset >> chunk_bits, count, &where, deadline_ms, err);

	if (r < 0)
		return r;
	bytes = located_bytes(&where, count, chunk_bits, bytes, offset);
	r = read_located(fs, inode, chunk_bits, &where, buf, bytes, offset, deadline_ms, err);
	*ret_stamp = stamp_at(&where, offset, chunk_bits);
	located_release(&where);
	return r < 0 ? r : (ssize_t)bytes;
}

/* What was read ahead, and the gaps from the servers. */
static int read_ahead(struct cairn_file *file, const struct located *where, uint8_t *buf,
		      size_t bytes, uint64_t offset, int64_t deadline_ms, struct err *err)
{
	struct readahead_pool *pool = &file->fs->readahead;
	struct inode *inode = file->inode;

	readahead_plan(pool, &file->readahead, inode->number, inode->chunk_bits, offset, bytes,
		       where->attr.size);
	for (size_t done = 0; done < bytes;) {
		struct readahead_stamp stamp = stamp_at(where, offset + done, inode->chunk_bits);
		size_t gap, n = readahead_take(pool, &file->readahead, offset + done, bytes - done,
					       &stamp, buf + done, &gap);
		int r = 0;
		if (n == 0) {
			n = gap;
			r = read_located(file->fs, inode->number, inode->chunk_bits, where,
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
	int64_t deadline = client_deadline(file->fs);
	struct inode *inode = file->inode;
	struct located where = {0};
	size_t done = 0;
	int r;

	if ((file->flags & O_ACCMODE) == O_WRONLY)
		return err_set(err, ERR_BADF, "the file is open for writing only");
	if (bytes > SSIZE_MAX)
		bytes = SSIZE_MAX;
	if (offset > FILE_BYTES_MAX)
		return err_set(err, ERR_INVAL, "offset beyond the largest file");
	if (bytes > FILE_BYTES_MAX - offset)
		bytes = (size_t)(FILE_BYTES_MAX - offset);
	r = writeback_read(&file->fs->writeback, inode->number, buf, bytes, offset, &done, deadline);
	if (r < 0)
		return err_set(err, r, "what was written is not with the servers yet");
	if (r == 1) {
		if (bytes > 0 && !(file->flags & O_NOATIME))
			atime_read_cached(file->fs, inode->number);
		return (ssize_t)done;
	}
	done = 0;
	while (done < bytes) {
		uint64_t at = offset + done;
		uint32_t count = chunks_touched(at, bytes - done, inode->chunk_bits);
		uint8_t *to = (uint8_t *)buf + done;
		size_t n;
		r = locate_for_read(file->fs, inode->number, at >> inode->chunk_bits, count, &where,
				    deadline, err);
		if (r < 0)
			return r;
		n = located_bytes(&where, count, inode->chunk_bits, bytes - done, at);
		if (file->fs->readahead_bytes > 0)
			r = read_ahead(file, &where, to, n, at, deadline, err);
		else
			r = read_located(file->fs, inode->number, inode->chunk_bits, &where, to, n,
					 at, deadline, err);
		located_release(&where);
		if (r < 0)
			return r;
		done += n;
		if (n == 0 || at + n >= where.attr.size)
			break;
	}
	if (bytes > 0 && !(file->flags & O_NOATIME))
		atime_read(file->fs, &where.attr);
	return (ssize_t)done;
}

ssize_t cairn_pread(struct cairn_file *file, void *buf, size_t bytes, uint64_t offset)
{
	struct err err = {0};
	return result(file_pread(file, buf, bytes, offset, &err), &err);
}
