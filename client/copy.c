/* Copies of ranges from file to file that do not come through this client: the servers of the
 * destination get the bytes from those of the source (chunkserver/serve_copy.c).
 *
 * To every other client a copy is a read here and writes there: locations of the source come as for a
 * read, the destination is written under W, part by part, each made visible by its WROTE. A part is what
 * lies in one chunk of both files. Where the servers cannot get at the source (a raise came between, the
 * members are away, an older server) the part is read and written by this client, with all that these
 * do about failures: so it ends well or with the right error. */
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#include "client/chunk_write.h"
#include "client/locate.h"
#include "client/result.h"
#include "common/cleanup.h"
#include "common/clock.h"

enum {
	THROUGH_BYTES = 4 << 20,
	COPY_TURN_MS = 500, /* then the caller is told how far it is */
};

/* What is copied next. */
struct copy {
	struct cairn_file *in, *out;
	uint64_t from, to;
	size_t left;
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* By this client: a count, fewer when the source became shorter meanwhile. */
static ssize_t copy_through(const struct copy *c, size_t bytes, struct err *err)
{
	_cleanup_free_ uint8_t *buf = malloc(bytes < THROUGH_BYTES ? bytes : THROUGH_BYTES);
	size_t done = 0;

	if (!buf)
		return err_set(err, ERR_NOMEM, "out of memory");
	while (done < bytes) {
		size_t want = bytes - done < THROUGH_BYTES ? bytes - done : THROUGH_BYTES;
		ssize_t n = file_pread(c->in, buf, want, c->from + done, err);
		int r;
		if (n <= 0)
			return n < 0 ? n : (ssize_t)done;
		r = file_write_at(c->out, buf, (size_t)n, c->to + done, 0,
				  client_deadline(c->out->fs), err);
		if (r < 0)
			return r;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static int copy_hole(const struct copy *c, size_t bytes, struct err *err)
{
	uint64_t end = c->to + bytes;
	int r = file_zero(c->out, c->to, end, true, err);

	return r < 0 ? r : file_tell(c->out, end, end, 0, client_deadline(c->out->fs), err);
}

static bool is_hole(const struct location *loc)
{
	return loc->id == 0 || !(loc->flags & CHUNK_WRITTEN);
}

/* One part: how many bytes, 0 at the source's end. */
static ssize_t copy_part(const struct copy *c, struct wire_attr *ret_attr, struct err *err)
{
	unsigned bits = c->in->inode->chunk_bits, n = 0;
	uint64_t in_chunk = c->from & ((1ULL << bits) - 1);
	uint64_t out_bytes = 1ULL << c->out->inode->chunk_bits;
	struct copy_source source = {.offset = (uint32_t)in_chunk};
	struct located where = {0};
	size_t bytes;
	int r = locate_for_read(c->in->fs, c->in->inode->number, c->from >> bits,
				c->left > (1ULL << bits) ? CHUNKS_PER_LOCATE_MAX : 1, &where,
				client_deadline(c->in->fs), err);

	if (r < 0)
		return r;
	*ret_attr = where.attr;
	while (n < where.n && is_hole(&where.chunks[n]))
		n++;
	source.loc = where.chunks[0];
	bytes = (size_t)smaller(((uint64_t)(n ? n : 1) << bits) - in_chunk, c->left);
	bytes = where.attr.size > c->from ? (size_t)smaller(bytes, where.attr.size - c->from) : 0;
	located_release(&where);
	if (bytes == 0)
		return 0;
	if (n > 0) {
		r = copy_hole(c, bytes, err);
		return r < 0 ? r : (ssize_t)bytes;
	}
	bytes = (size_t)smaller(bytes, out_bytes - c->to % out_bytes);
	r = file_copy_at(c->out, &source, bytes, c->to, client_deadline(c->out->fs), err);
	if (r == ERR_SOURCE) {
		err_clear(err);
		return copy_through(c, bytes, err);
	}
	return r < 0 ? r : (ssize_t)bytes;
}

static int copy_check(const struct copy *c, struct err *err)
{
	uint64_t gap = c->from < c->to ? c->to - c->from : c->from - c->to;

	if (c->in->fs != c->out->fs)
		return err_set(err, ERR_XDEV, "files of two sessions");
	if ((c->in->flags & O_ACCMODE) == O_WRONLY || (c->out->flags & O_ACCMODE) == O_RDONLY ||
	    (c->out->flags & O_APPEND))
		return err_set(err, ERR_BADF, "not open for reading, or for writing at an offset");
	if (c->from > FILE_BYTES_MAX || c->to > FILE_BYTES_MAX)
		return err_set(err, ERR_INVAL, "offset beyond the largest file");
	if (c->left > 0 && c->to == FILE_BYTES_MAX)
		return err_set(err, ERR_FBIG, "beyond the largest file");
	if (c->in->inode == c->out->inode && gap < c->left)
		return err_set(err, ERR_INVAL, "the ranges overlap");
	return 0;
}

static ssize_t file_copy(struct copy *c, struct err *err)
{
	int64_t turn = deadline_in(COPY_TURN_MS);
	struct wire_attr attr = {0};
	ssize_t done = 0;
	int r;

	if (c->left > SSIZE_MAX)
		c->left = SSIZE_MAX;
	r = copy_check(c, err);
	if (r == 0)
		r = file_settle(c->in, err);
	if (r == 0)
		r = file_settle(c->out, err);
	if (r < 0)
		return r;
	c->left = (size_t)smaller(c->left, FILE_BYTES_MAX - smaller(FILE_BYTES_MAX, c->to));
	while (c->left > 0 && (done == 0 || deadline_left(turn) > 0)) {
		ssize_t n = copy_part(c, &attr, err);
		if (n < 0 && done == 0)
			return n;
		if (n <= 0)
			break;
		c->from += (uint64_t)n;
		c->to += (uint64_t)n;
		c->left -= (size_t)n;
		done += n;
	}
	if (done > 0 && !(c->in->flags & O_NOATIME))
		atime_read(c->in->fs, &attr);
	if (done > 0 && (c->out->flags & O_DSYNC)) {
		r = file_sync(c->out, err);
		if (r < 0)
			return r;
	}
	return done;
}

ssize_t cairn_copy_range(struct cairn_file *in, uint64_t offset_in, struct cairn_file *out,
			 uint64_t offset_out, size_t bytes)
{
	struct copy c = {.in = in, .out = out, .from = offset_in, .to = offset_out, .left = bytes};
	struct err err = {0};
	return result(file_copy(&c, &err), &err);
}
