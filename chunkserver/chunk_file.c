#include "chunkserver/chunk_file.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/crc.h"
#include "common/fault.h"

enum { VERIFY_BLOCKS = 64 };

static int file_fail(const struct chunk_file *f, int code, const char *what, struct err *err)
{
	return err_set(err, code, "chunk %016" PRIx64 ": %s: %s", f->chunk, what, err_text(code));
}

static int file_bad_block(const struct chunk_file *f, uint32_t block, uint32_t stored,
			  uint32_t computed, struct err *err)
{
	return err_set(err, ERR_CHECKSUM, "chunk %016" PRIx64 " block %" PRIu32
		       ": checksum mismatch (stored %08" PRIx32 ", computed %08" PRIx32 ")",
		       f->chunk, block, stored, computed);
}

static uint64_t sum_offset(uint32_t block)
{
	return FORMAT_SUMS_OFFSET + 4ull * block;
}

/* ---- opening ---- */

int chunk_file_create(const struct io *io, const char *path, uint64_t chunk, uint8_t chunk_bits,
		      struct chunk_file *ret, struct err *err)
{
	struct chunk_file f = {io, -1, chunk, chunk_bits, format_data_offset(chunk_bits)};
	struct format_header h = {.chunk = chunk, .chunk_bits = chunk_bits,
				  .data_offset = f.data_offset};
	uint8_t header[FORMAT_HEADER_BYTES];
	int r;

	f.fd = io->open(io, path, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (f.fd < 0)
		return err_set(err, f.fd, "create %s: %s", path, err_text(f.fd));
	format_header_put(header, &h);
	r = io->pwrite(io, f.fd, header, sizeof(header), 0);
	if (r == 0)
		r = io->ftruncate(io, f.fd, f.data_offset);
	if (r < 0) {
		chunk_file_close(&f);
		io->unlink(io, path);
		return err_set(err, r, "create %s: %s", path, err_text(r));
	}
	*ret = f;
	return 0;
}

int chunk_file_renew(const struct io *io, const char *path, uint64_t chunk, uint8_t chunk_bits,
		     struct err *err)
{
	static const uint8_t zeros[FORMAT_HEADER_BYTES];
	struct format_header h = {.chunk = chunk, .chunk_bits = chunk_bits,
				  .data_offset = format_data_offset(chunk_bits)};
	uint8_t header[FORMAT_HEADER_BYTES] = {0};
	int fd = io->open(io, path, O_RDWR | O_CREAT, 0600);
	ssize_t n;
	int r;

	if (fd < 0)
		return err_set(err, fd, "open %s: %s", path, err_text(fd));
	n = io->pread(io, fd, header, sizeof(header), 0);
	r = n < 0 ? (int)n : memcmp(header, zeros, sizeof(header)) != 0 ? ERR_CORRUPT : 0;
	if (r == 0) {
		format_header_put(header, &h);
		r = io->pwrite(io, fd, header, sizeof(header), 0);
	}
	io->close(io, fd);
	return r < 0 ? err_set(err, r, "renew %s: %s", path, err_text(r)) : 0;
}

/* A crash can leave a size inside a block: the rest of that block is zeros by definition. */
static int file_settle_size(const struct chunk_file *f, struct err *err)
{
	int64_t size = f->io->size(f->io, f->fd);
	uint64_t whole;
	int r = 0;

	if (size < 0)
		return file_fail(f, (int)size, "size", err);
	whole = ((uint64_t)size + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
	if (whole < f->data_offset)
		whole = f->data_offset;
	if (whole != (uint64_t)size)
		r = f->io->ftruncate(f->io, f->fd, whole);
	return r < 0 ? file_fail(f, r, "extend to a whole block", err) : 0;
}

int chunk_file_header(const uint8_t *header, size_t n, uint64_t chunk, struct format_header *ret,
		      struct err *err)
{
	int r;

	if (n < FORMAT_HEADER_BYTES)
		return err_set(err, ERR_CORRUPT, "header cut off after %zu bytes", n);
	r = format_header_get(header, ret, err);
	if (r == 0 && ret->chunk != chunk)
		r = err_set(err, ERR_CORRUPT, "header of chunk %016" PRIx64, ret->chunk);
	return r;
}

int chunk_file_open(const struct io *io, const char *path, uint64_t chunk,
		    struct chunk_file *ret, struct err *err)
{
	struct chunk_file f = {.io = io, .chunk = chunk};
	uint8_t header[FORMAT_HEADER_BYTES];
	struct format_header h;
	ssize_t n;
	int r;

	f.fd = io->open(io, path, O_RDWR, 0);
	if (f.fd < 0)
		return err_set(err, f.fd, "open %s: %s", path, err_text(f.fd));
	n = io->pread(io, f.fd, header, sizeof(header), 0);
	if (n < 0)
		r = err_set(err, (int)n, "read %s: %s", path, err_text((int)n));
	else if ((r = chunk_file_header(header, (size_t)n, chunk, &h, err)) < 0)
		err_prefix(err, r, "%s", path);
	if (r == 0) {
		f.chunk_bits = h.chunk_bits;
		f.data_offset = h.data_offset;
		r = file_settle_size(&f, err);
	}
	if (r < 0) {
		chunk_file_close(&f);
		return r;
	}
	*ret = f;
	return 0;
}

void chunk_file_close(struct chunk_file *f)
{
	if (f->fd >= 0)
		f->io->close(f->io, f->fd);
	f->fd = -1;
}

/* ---- reading ---- */

int chunk_file_length(const struct chunk_file *f, uint64_t *ret, struct err *err)
{
	int64_t size = f->io->size(f->io, f->fd);

	if (size < 0)
		return file_fail(f, (int)size, "size", err);
	*ret = (uint64_t)size <= f->data_offset ? 0
		: ((uint64_t)size - f->data_offset) / BLOCK_BYTES * BLOCK_BYTES;
	return 0;
}

/* n bytes at a file offset; what lies past the end is zeros. *ret_n (may be NULL): the rest. */
static int file_get(const struct chunk_file *f, void *data, size_t n, uint64_t offset,
		    size_t *ret_n, struct err *err)
{
	ssize_t got = f->io->pread(f->io, f->fd, data, n, offset);

	if (got < 0)
		return file_fail(f, (int)got, "read", err);
	memset((uint8_t *)data + got, 0, n - (size_t)got);
	if (ret_n)
		*ret_n = (size_t)got;
	return 0;
}

int chunk_file_sums(const struct chunk_file *f, uint32_t first, uint32_t n, uint8_t *ret,
		    struct err *err)
{
	assert(first + n <= chunk_file_blocks_max(f));
	return n == 0 ? 0 : file_get(f, ret, 4ull * n, sum_offset(first), NULL, err);
}

static bool is_zeros(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Holes are read, too: the kernel gives their zeros faster than it tells where they are. */
int chunk_file_hidden(const struct chunk_file *f, uint32_t n, const uint8_t *sums, uint8_t *ret,
		      struct err *err)
{
	enum { PART = 64 };
	_cleanup_free_ uint8_t *data = malloc(PART * BLOCK_BYTES);
	int any = 0;

	if (!data)
		return err_set(err, ERR_NOMEM, "out of memory");
	memset(ret, 0, CHUNK_HIDDEN_BYTES);
	for (uint32_t at = 0, run; at < n; at += run ? run : 1) {
		ssize_t got;
		for (run = 0; run < PART && at + run < n && get_le32(sums + 4ull * (at + run)) == 0;)
			run++;
		if (run == 0)
			continue;
		got = f->io->pread(f->io, f->fd, data, (size_t)run * BLOCK_BYTES,
				   f->data_offset + (uint64_t)at * BLOCK_BYTES);
		if (got < 0)
			return err_set(err, (int)got, "chunk %016llx block %u: %s",
				       (unsigned long long)f->chunk, at, err_text((int)got));
		memset(data + got, 0, (size_t)run * BLOCK_BYTES - (size_t)got);
		if (is_zeros(data, (size_t)run * BLOCK_BYTES))
			continue;
		for (uint32_t i = 0; i < run; i++) {
			if (is_zeros(data + (size_t)i * BLOCK_BYTES, BLOCK_BYTES))
				continue;
			ret[(at + i) / 8] |= (uint8_t)(1u << (at + i) % 8);
			any = 1;
		}
	}
	return any;
}

int chunk_file_digest(const struct chunk_file *f, uint32_t *ret, struct err *err)
{
	_cleanup_free_ uint8_t *table = malloc(4ull * chunk_file_blocks_max(f));
	int r;

	if (!table)
		return file_fail(f, ERR_NOMEM, "digest", err);
	r = chunk_file_sums(f, 0, chunk_file_blocks_max(f), table, err);
	if (r == 0)
		*ret = crc32c(0, table, 4ull * chunk_file_blocks_max(f));
	return r;
}

/* Data of n blocks with their checksums; *ret_bad of them do not verify, err names the first.
 * A block past the end of the file is zeros and verifies only if its checksum says so: else
 * the file has lost data. */
static int file_get_blocks(const struct chunk_file *f, uint32_t first, uint32_t n, uint8_t *data,
			   uint8_t *sums, size_t *ret_len, uint32_t *ret_bad, struct err *err)
{
	size_t len = (size_t)n * BLOCK_BYTES;
	int r = chunk_file_sums(f, first, n, sums, err);

	if (r == 0)
		r = file_get(f, data, len, f->data_offset + (uint64_t)first * BLOCK_BYTES,
			     ret_len, err);
	if (r < 0)
		return r;
	*ret_bad = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t stored = get_le32(sums + 4 * i);
		uint32_t computed = crc_stored(data + (size_t)i * BLOCK_BYTES, 0, BLOCK_BYTES);
		if (stored != computed && (*ret_bad)++ == 0)
			file_bad_block(f, first + i, stored, computed, err);
	}
	return 0;
}

int chunk_file_read(const struct chunk_file *f, uint32_t offset, uint32_t len, uint8_t *data,
		    uint8_t *sums, size_t *ret_len, struct err *err)
{
	uint32_t first = offset / BLOCK_BYTES, n = len / BLOCK_BYTES, bad;
	size_t got;
	int r;

	assert(offset % BLOCK_BYTES == 0 && len % BLOCK_BYTES == 0);
	if (first >= chunk_file_blocks_max(f)) {
		*ret_len = 0;
		return 0;
	}
	if (n > chunk_file_blocks_max(f) - first)
		n = chunk_file_blocks_max(f) - first;
	r = file_get_blocks(f, first, n, data, sums, &got, &bad, err);
	if (r < 0)
		return r;
	if (bad > 0)
		return ERR_CHECKSUM;
	*ret_len = (got + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
	return 0;
}

int chunk_file_verify(const struct chunk_file *f, uint32_t *ret_bad, struct err *err)
{
	_cleanup_free_ uint8_t *data = malloc(VERIFY_BLOCKS * (BLOCK_BYTES + 4));
	uint32_t blocks = chunk_file_blocks_max(f), total = 0;

	if (!data)
		return file_fail(f, ERR_NOMEM, "verify", err);
	for (uint32_t first = 0; first < blocks; first += VERIFY_BLOCKS) {
		uint32_t n = blocks - first < VERIFY_BLOCKS ? blocks - first : VERIFY_BLOCKS;
		uint32_t bad;
		size_t got;
		/* err keeps the first bad block. */
		int r = file_get_blocks(f, first, n, data, data + VERIFY_BLOCKS * BLOCK_BYTES,
					&got, &bad, total ? NULL : err);
		if (r < 0)
			return total ? file_fail(f, r, "verify", err) : r;
		total += bad;
	}
	*ret_bad = total;
	return 0;
}

/* ---- writing ---- */

/* Fills in what the message leaves of one of its blocks, which are at p: `from`..`to` come from
 * the message. Computes the checksum of the merged block into sum. */
static int file_merge_block(const struct chunk_file *f, uint32_t block, uint8_t *p, size_t from,
			    size_t to, uint8_t *sum, struct err *err)
{
	uint8_t old[BLOCK_BYTES], old_sum[4];
	size_t got;
	uint32_t bad;
	int r = file_get_blocks(f, block, 1, old, old_sum, &got, &bad, err);

	if (r < 0)
		return r;
	if (bad > 0)
		return ERR_CHECKSUM;
	memcpy(p, old, from);
	memcpy(p + to, old + to, BLOCK_BYTES - to);
	put_le32(sum, crc_stored(p, 0, BLOCK_BYTES));
	return 0;
}

static int file_merge_edges(const struct chunk_file *f, uint8_t *blocks, uint32_t offset,
			    uint32_t len, uint8_t *sums, struct err *err)
{
	uint32_t first = offset / BLOCK_BYTES, last = (offset + len - 1) / BLOCK_BYTES;
	size_t from = offset % BLOCK_BYTES, to = (offset + len - 1) % BLOCK_BYTES + 1;
	uint32_t i = last - first;
	int r = 0;

	if (first == last)
		return from > 0 || to < BLOCK_BYTES
			       ? file_merge_block(f, first, blocks, from, to, sums, err) : 0;
	if (from > 0)
		r = file_merge_block(f, first, blocks, from, BLOCK_BYTES, sums, err);
	if (r == 0 && to < BLOCK_BYTES)
		r = file_merge_block(f, last, blocks + (size_t)i * BLOCK_BYTES, 0, to,
				     sums + 4 * i, err);
	return r;
}

/* After a write that failed part-way: gives each block the checksum of what it holds, if that
 * is its old or its new content. False when some block is neither. */
static bool file_settle_blocks(const struct chunk_file *f, uint32_t first, uint32_t n,
			       const uint8_t *new_sums)
{
	uint8_t block[BLOCK_BYTES], stored[4];
	bool whole = file_settle_size(f, NULL) == 0;

	for (uint32_t i = 0; i < n && whole; i++) {
		uint64_t at = f->data_offset + (uint64_t)(first + i) * BLOCK_BYTES;
		uint32_t sum;
		if (file_get(f, block, BLOCK_BYTES, at, NULL, NULL) < 0 ||
		    chunk_file_sums(f, first + i, 1, stored, NULL) < 0)
			return false;
		sum = crc_stored(block, 0, BLOCK_BYTES);
		if (sum == get_le32(stored))
			continue;
		whole = sum == get_le32(new_sums + 4 * i) &&
			f->io->pwrite(f->io, f->fd, new_sums + 4 * i, 4,
				      sum_offset(first + i)) == 0;
	}
	return whole;
}

static bool block_is_zero(const uint8_t *block, const uint8_t *sum)
{
	return get_le32(sum) == 0 && block[0] == 0 && memcmp(block, block + 1, BLOCK_BYTES - 1) == 0;
}

/* Blocks of zeros become holes where the file reaches beyond them: so punching a hole is writing
 * zeros. (A block that another write appends meanwhile only makes the file longer.) */
static int file_put_blocks(const struct chunk_file *f, const uint8_t *blocks, uint32_t first,
			   uint32_t n, const uint8_t *sums)
{
	uint64_t at = f->data_offset + (uint64_t)first * BLOCK_BYTES;
	uint32_t i = 0;

	while (i < n) {
		bool zero = block_is_zero(blocks + (size_t)i * BLOCK_BYTES, sums + 4 * i);
		uint32_t from = i;
		uint64_t end;
		int r = ERR_NOTSUP;
		while (i < n && zero == block_is_zero(blocks + (size_t)i * BLOCK_BYTES, sums + 4 * i))
			i++;
		end = at + (uint64_t)i * BLOCK_BYTES;
		if (zero && f->io->size(f->io, f->fd) >= (int64_t)end)
			r = f->io->punch(f->io, f->fd, at + (uint64_t)from * BLOCK_BYTES,
					 (size_t)(i - from) * BLOCK_BYTES);
		if (r < 0)
			r = f->io->pwrite(f->io, f->fd, blocks + (size_t)from * BLOCK_BYTES,
					  (size_t)(i - from) * BLOCK_BYTES,
					  at + (uint64_t)from * BLOCK_BYTES);
		if (r < 0)
			return r;
	}
	return 0;
}

int chunk_file_write(const struct chunk_file *f, uint8_t *blocks, uint32_t offset, uint32_t len,
		     const uint8_t *sums, bool *ret_torn, struct err *err)
{
	uint8_t new_sums[PIECE_BLOCKS_MAX * 4];
	uint32_t first = offset / BLOCK_BYTES;
	uint32_t n = (uint32_t)crc_sums_count(offset, len);
	int r;

	*ret_torn = false;
	assert(len > 0 && len <= DATA_BYTES_MAX);
	if ((uint64_t)offset + len > 1ull << f->chunk_bits)
		return err_set(err, ERR_INVAL, "chunk %016" PRIx64 ": write of %" PRIu32
			       " bytes at %" PRIu32 " passes the chunk's end", f->chunk, len,
			       offset);
	memcpy(new_sums, sums, 4ull * n);
	r = file_merge_edges(f, blocks, offset, len, new_sums, err);
	if (r < 0)
		return r;
	/* Invariant 3: data first; a checksum whose data did not arrive would be a lie, while
	 * data whose checksum did not arrive is found and reconciled. */
	r = file_put_blocks(f, blocks, first, n, new_sums);
	FAULT_POINT(CS_WRITE_DATA, "");
	if (r == 0)
		r = f->io->pwrite(f->io, f->fd, new_sums, 4ull * n, sum_offset(first));
	if (r < 0) {
		*ret_torn = !file_settle_blocks(f, first, n, new_sums);
		return file_fail(f, r, "write", err);
	}
	return 0;
}

/* ---- cutting ---- */

/* Gives the block that the cut goes through the checksum it will have, unless it is damaged. */
static int file_cut_sum(const struct chunk_file *f, uint32_t block, uint32_t keep,
			struct err *err)
{
	uint8_t data[BLOCK_BYTES], sum[4];
	uint32_t stored, before, after;
	int r = file_get(f, data, BLOCK_BYTES, f->data_offset + (uint64_t)block * BLOCK_BYTES,
			 NULL, err);

	if (r == 0)
		r = chunk_file_sums(f, block, 1, sum, err);
	if (r < 0)
		return r;
	stored = get_le32(sum);
	before = crc_stored(data, 0, BLOCK_BYTES);
	after = crc_stored(data, 0, keep);
	if (stored == after || stored != before)
		return 0; /* a cut that a crash interrupted; or damage, which must stay visible */
	put_le32(sum, after);
	r = f->io->pwrite(f->io, f->fd, sum, 4, sum_offset(block));
	return r < 0 ? file_fail(f, r, "cut", err) : 0;
}

/* The checksums are durable before the data goes: so a crash in between leaves blocks whose
 * data is to be cut away, and the repeated cut finds everything it needs. */
int chunk_file_truncate(const struct chunk_file *f, uint64_t length, struct err *err)
{
	uint32_t max = chunk_file_blocks_max(f), keep = (uint32_t)(length % BLOCK_BYTES);
	uint32_t first_gone;
	uint64_t present;
	int r = chunk_file_length(f, &present, err);

	if (r < 0 || length >= present)
		return r;
	first_gone = (uint32_t)((length + BLOCK_BYTES - 1) / BLOCK_BYTES);
	if (keep > 0)
		r = file_cut_sum(f, first_gone - 1, keep, err);
	if (r == 0 && first_gone < max) {
		_cleanup_free_ uint8_t *zeros = calloc(max - first_gone, 4);
		r = zeros ? f->io->pwrite(f->io, f->fd, zeros, 4ull * (max - first_gone),
					  sum_offset(first_gone))
			  : ERR_NOMEM;
		if (r < 0)
			return file_fail(f, r, "cut", err);
	}
	if (r == 0)
		r = chunk_file_sync(f, err);
	if (r < 0)
		return r;
	r = f->io->ftruncate(f->io, f->fd, f->data_offset + length);
	if (r == 0 && keep > 0)
		r = f->io->ftruncate(f->io, f->fd,
				     f->data_offset + (uint64_t)first_gone * BLOCK_BYTES);
	if (r < 0)
		return file_fail(f, r, "cut", err);
	return chunk_file_sync(f, err);
}

int chunk_file_sync(const struct chunk_file *f, struct err *err)
{
	int r = f->io->fdatasync(f->io, f->fd);
	return r < 0 ? file_fail(f, r, "sync", err) : 0;
}
