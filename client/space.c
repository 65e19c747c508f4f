/* Space and holes: fallocate, SEEK_DATA, SEEK_HOLE.
 *
 * A chunk that is not there is a hole; of one that is there the servers' checksum tables tell: the
 * stored checksum of a block of zeros is 0. Punching and zeroing are writes of zeros, with all that
 * makes writes safe; the servers make holes of them. Chunks that are not there are left out. Which
 * blocks count as the file's own is the master's book-keeping (WROTE_HOLE, WROTE_SET_ASIDE). */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/client.h"
#include "client/locate.h"
#include "client/result.h"
#include "common/cleanup.h"

enum { ZEROS_BYTES = 8 << 20 };

/* ---- fallocate ---- */

/* Zeros in one chunk's part, WROTE in pieces of ZEROS_BYTES. */
static int zero_part(struct cairn_file *file, const uint8_t *zeros, uint64_t from, uint64_t end,
		     uint8_t flags, struct err *err)
{
	int r = 0;

	while (r == 0 && from < end) {
		size_t n = end - from < ZEROS_BYTES ? (size_t)(end - from) : ZEROS_BYTES;
		r = file_write_at(file, zeros, n, from, flags, client_deadline(file->fs), err);
		from += n;
	}
	return r;
}

int file_zero(struct cairn_file *file, uint64_t from, uint64_t end, bool hole, struct err *err)
{
	_cleanup_free_ uint8_t *zeros = calloc(1, ZEROS_BYTES);
	uint8_t flags = WROTE_KEEP_SIZE | (hole ? WROTE_HOLE : 0);
	unsigned bits = file->inode->chunk_bits;
	int r = zeros ? 0 : err_set(err, ERR_NOMEM, "out of memory");

	while (r == 0 && from < end) {
		_cleanup_buf_ struct buf fields = {0};
		struct wire_locate_reply rep;
		uint64_t first = from >> bits;
		r = locate_chunks(file->fs, file->inode->number, first, CHUNKS_PER_LOCATE_MAX,
				  &rep, &fields, client_deadline(file->fs), err);
		if (r == 0 && end > rep.attr.size)
			end = rep.attr.size;
		for (unsigned i = 0; r == 0 && i < rep.n_chunks; i++) {
			const struct wire_chunk *c = &rep.chunks[i];
			uint64_t a = c->index << bits, b = a + (1ULL << bits);
			a = a > from ? a : from;
			b = b < end ? b : end;
			if (c->id && (c->flags & CHUNK_WRITTEN))
				r = zero_part(file, zeros, a, b, flags, err);
			else if (c->blocks && hole && a < b)
				r = file_tell(file, a, b, flags, client_deadline(file->fs), err);
		}
		if (r == 0)
			from = locate_next(&rep, first) << bits;
	}
	return r;
}

/* There is room now; the servers set nothing aside. */
static int room_check(struct cairn_file *file, uint64_t bytes, struct err *err)
{
	struct cairn_statfs s;

	if (cairn_statfs(file->fs, &s) == 0 && bytes > s.free_bytes)
		return err_set(err, ERR_NOSPC, "%llu bytes are free, not %llu",
			       (unsigned long long)s.free_bytes, (unsigned long long)bytes);
	return 0;
}

static int file_allocate(struct cairn_file *file, int mode, uint64_t offset, uint64_t bytes,
			 struct err *err)
{
	bool punch = mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	bool zero = (mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE;
	uint8_t flags = WROTE_SET_ASIDE | (mode & FALLOC_FL_KEEP_SIZE ? WROTE_KEEP_SIZE : 0);
	int r = 0;

	if ((file->flags & O_ACCMODE) == O_RDONLY)
		return err_set(err, ERR_BADF, "the file is open for reading only");
	if (!punch && !zero && (mode & ~FALLOC_FL_KEEP_SIZE))
		return err_set(err, ERR_NOTSUP, "fallocate mode %x", (unsigned)mode);
	if (bytes == 0 || offset > FILE_BYTES_MAX)
		return err_set(err, ERR_INVAL, "no range of a file");
	if (bytes > FILE_BYTES_MAX - offset)
		return err_set(err, ERR_FBIG, "beyond the largest file");
	r = file_settle(file, err);
	if (r < 0)
		return r;
	if (punch || zero)
		r = file_zero(file, offset, offset + bytes, punch, err);
	else
		r = room_check(file, bytes, err);
	if (r == 0 && !punch)
		r = file_tell(file, offset, offset + bytes, flags, client_deadline(file->fs), err);
	if (r == 0 && (file->flags & O_DSYNC))
		r = file_sync(file, err);
	return r;
}

int cairn_fallocate(struct cairn_file *file, int mode, uint64_t offset, uint64_t bytes)
{
	struct err err = {0};
	return (int)result(file_allocate(file, mode, offset, bytes, &err), &err);
}

/* ---- holes ---- */

/* A chunk's checksum table from any replica; false: none could tell. */
static bool chunk_sums(struct cairn *fs, const struct location *loc, struct buf *fields,
		       struct wire_sums_reply *ret)
{
	struct wire_sums req = {.chunk = loc->id, .version = loc->version,
				.token = location_token(loc)};

	for (unsigned i = 0; i < loc->n_replicas; i++) {
		struct conn *conn;
		bool pooled;
		int r = peers_take(&fs->peers, loc->replicas[i].addr, false, client_deadline(fs),
				   &conn, &pooled, NULL);
		if (r < 0)
			continue;
		r = conn_call(conn, OP_SUMS, 0, &req, ret, fields, client_deadline(fs), NULL);
		peers_put(&fs->peers, conn);
		if (r == 0)
			return true;
	}
	return false;
}

/* The first block of [from, end) of a chunk that is data (or none): its offset, or end. What cannot
 * be found out counts as data, which is always true enough. */
static uint64_t chunk_seek(struct cairn *fs, const struct location *loc, bool data, uint64_t from,
			   uint64_t end)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_sums_reply rep = {0};

	if (loc->id == 0 || !(loc->flags & CHUNK_WRITTEN))
		return data ? end : from;
	if (!chunk_sums(fs, loc, &fields, &rep))
		return data ? from : end;
	for (uint64_t block = from / BLOCK_BYTES; block * BLOCK_BYTES < end; block++) {
		bool is_data = (block + 1) * 4 <= rep.sums.len &&
			       get_le32(rep.sums.data + block * 4) != 0;
		if (is_data == data)
			return block * BLOCK_BYTES > from ? block * BLOCK_BYTES : from;
	}
	return end;
}

/* The first place from *at on, in the chunks that were asked for, that is data (or none): 1. 0: there
 * is none, *at is where to go on. */
static int seek_answered(struct cairn *fs, const struct wire_locate_reply *rep, bool data,
			 uint64_t *at, struct err *err)
{
	unsigned bits = rep->attr.chunk_bits;
	uint64_t first = *at >> bits;

	for (unsigned i = 0; i < rep->n_chunks && *at < rep->attr.size; i++) {
		uint64_t base = (first + i) << bits, end = 1ULL << bits;
		struct location loc;
		int r = location_from_wire(&loc, &rep->chunks[i], err);
		if (r < 0)
			return r;
		if (end > rep->attr.size - base)
			end = rep->attr.size - base;
		*at = base + chunk_seek(fs, &loc, data, *at - base, end);
		if (*at < base + end)
			return 1;
	}
	/* What follows up to the next chunk is a hole. */
	if (!data && *at < rep->attr.size && locate_next(rep, first) << bits > *at)
		return 1;
	*at = locate_next(rep, first) << bits;
	return 0;
}

static int64_t file_seek(struct cairn_file *file, uint64_t offset, int whence, struct err *err)
{
	const uint64_t start = offset;
	bool data = whence == SEEK_DATA;
	struct wire_locate_reply rep;
	int r;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return err_set(err, ERR_INVAL, "not SEEK_DATA or SEEK_HOLE");
	r = file_settle(file, err);
	if (r < 0)
		return r;
	do {
		_cleanup_buf_ struct buf fields = {0};
		r = locate_chunks(file->fs, file->inode->number, offset >> file->inode->chunk_bits,
				  CHUNKS_PER_LOCATE_MAX, &rep, &fields,
				  client_deadline(file->fs), err);
		if (r == 0 && offset < rep.attr.size)
			r = seek_answered(file->fs, &rep, data, &offset, err);
	} while (r == 0 && offset < rep.attr.size);
	if (r != 0)
		return r < 0 ? r : (int64_t)offset;
	if (!data && start < rep.attr.size)
		return (int64_t)rep.attr.size; /* the end is a hole */
	return err_set(err, ERR_NXIO, "the file has no more %s", data ? "data" : "bytes");
}

int64_t cairn_seek(struct cairn_file *file, uint64_t offset, int whence)
{
	struct err err = {0};
	return (int64_t)result((ssize_t)file_seek(file, offset, whence, &err), &err);
}
