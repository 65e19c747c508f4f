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

/* Reads what one LOCATE's answer tells about: a count, 0 at the end of the file. */
static ssize_t read_located(struct cairn_file *file, const struct wire_locate_reply *rep,
			    uint32_t count, uint8_t *buf, size_t bytes, uint64_t offset,
			    int64_t deadline_ms, struct err *err)
{
	unsigned bits = file->inode->chunk_bits;
	uint64_t limit = ((offset >> bits) + count) << bits; /* what the answer covers */
	size_t done = 0;

	if (limit > rep->attr.size)
		limit = rep->attr.size;
	if (offset >= limit)
		return 0;
	if (bytes > limit - offset)
		bytes = (size_t)(limit - offset);
	while (done < bytes) {
		struct span s = span_first(offset + done, bytes - done, bits);
		struct location loc;
		int r = location_in_reply(rep, s.index, &loc, err);
		if (r == 0)
			r = chunk_read(file->fs, file->inode->number, &loc, s.offset, s.len,
				       buf + done, deadline_ms, err);
		if (r < 0)
			return r;
		done += s.len;
	}
	return (ssize_t)done;
}

ssize_t file_pread(struct cairn_file *file, void *buf, size_t bytes, uint64_t offset,
		   struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	int64_t deadline = client_deadline(file->fs);
	struct wire_locate_reply rep;
	unsigned bits = file->inode->chunk_bits;
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
		uint32_t count = chunks_touched(at, bytes - done, bits);
		ssize_t n = locate_chunks(file->fs, file->inode->number, at >> bits, count, &rep,
					  &fields, deadline, err);
		if (n == 0)
			n = read_located(file, &rep, count, (uint8_t *)buf + done, bytes - done, at,
					 deadline, err);
		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
		if (at + (uint64_t)n >= rep.attr.size)
			break;
	}
	return (ssize_t)done;
}

ssize_t cairn_pread(struct cairn_file *file, void *buf, size_t bytes, uint64_t offset)
{
	struct err err = {0};
	return result(file_pread(file, buf, bytes, offset, &err), &err);
}
