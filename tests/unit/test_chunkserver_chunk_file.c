/* chunkserver: one chunk file, against a model in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chunkserver/chunk_file.h"
#include "common/cleanup.h"
#include "common/crc.h"
#include "tests/lib/seed.h"

enum { BITS = 16, CHUNK_BYTES = 1 << BITS, BLOCKS = CHUNK_BYTES / BLOCK_BYTES };

struct fixture {
	char dir[64], path[80];
	struct io_faulty faulty;
	struct chunk_file f;
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));
	const char *tmp = getenv("TMPDIR");

	if (!x)
		return -1;
	snprintf(x->dir, sizeof(x->dir), "%.40s/cairn-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(x->dir))
		return -1;
	snprintf(x->path, sizeof(x->path), "%s/chunk", x->dir);
	io_faulty_init(&x->faulty, &io_real);
	*state = x;
	return chunk_file_create(&x->faulty.io, x->path, 0x9f3, BITS, &x->f, NULL);
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	chunk_file_close(&x->f);
	unlink(x->path);
	rmdir(x->dir);
	free(x);
	return 0;
}

static unsigned fault(struct fixture *x, struct io_fault f)
{
	x->faulty.n_faults = 0;
	memset(x->faulty.seen, 0, sizeof(x->faulty.seen));
	memset(x->faulty.fired, 0, sizeof(x->faulty.fired));
	return io_faulty_add(&x->faulty, f);
}

static int write_torn(struct fixture *x, uint32_t offset, const void *data, uint32_t len,
		      bool *ret_torn)
{
	_cleanup_free_ uint8_t *blocks = malloc(PIECE_BYTES_MAX);
	uint8_t sums[PIECE_BLOCKS_MAX * 4];

	memset(blocks, 0xee, PIECE_BYTES_MAX); /* what the merge must fill in */
	memcpy(blocks + offset % BLOCK_BYTES, data, len);
	crc_sums(sums, data, offset, len);
	return chunk_file_write(&x->f, blocks, offset, len, sums, ret_torn, NULL);
}

static int write_at(struct fixture *x, uint32_t offset, const void *data, uint32_t len)
{
	bool torn;
	int r = write_torn(x, offset, data, len, &torn);
	assert_false(torn);
	return r;
}

static int write_fill(struct fixture *x, uint32_t offset, uint8_t fill, uint32_t len)
{
	_cleanup_free_ uint8_t *data = malloc(len);
	memset(data, fill, len);
	return write_at(x, offset, data, len);
}

/* Reads everything verified; what is past the end is zeros. */
static int read_all(struct fixture *x, uint8_t *data)
{
	uint8_t sums[BLOCKS * 4];
	size_t len;
	int r = chunk_file_read(&x->f, 0, CHUNK_BYTES, data, sums, &len, NULL);
	if (r == 0)
		memset(data + len, 0, CHUNK_BYTES - len);
	return r;
}

static void expect(struct fixture *x, const uint8_t *model)
{
	uint8_t data[CHUNK_BYTES];
	assert_int_equal(read_all(x, data), 0);
	assert_memory_equal(data, model, CHUNK_BYTES);
}

static uint64_t length(struct fixture *x)
{
	uint64_t n;
	assert_int_equal(chunk_file_length(&x->f, &n, NULL), 0);
	return n;
}

static uint32_t bad_blocks(struct fixture *x)
{
	uint32_t bad;
	assert_int_equal(chunk_file_verify(&x->f, &bad, NULL), 0);
	return bad;
}

static void flip(struct fixture *x, uint64_t file_offset)
{
	uint8_t c;
	assert_int_equal(pread(x->f.fd, &c, 1, (off_t)file_offset), 1);
	c ^= 0x10;
	assert_int_equal(pwrite(x->f.fd, &c, 1, (off_t)file_offset), 1);
}

/* ---- */

static void test_holes_and_lengths(void **state)
{
	struct fixture *x = *state;
	uint8_t model[CHUNK_BYTES] = {0};

	assert_int_equal(length(x), 0);
	assert_int_equal(bad_blocks(x), 0);
	expect(x, model);
	/* Far from the start: the hole before it verifies as zeros, the length is whole blocks. */
	assert_int_equal(write_fill(x, 5 * BLOCK_BYTES + 100, 'a', 10), 0);
	memset(model + 5 * BLOCK_BYTES + 100, 'a', 10);
	assert_int_equal(length(x), 6 * BLOCK_BYTES);
	expect(x, model);
	assert_int_equal(bad_blocks(x), 0);
	/* It is all there after a reopening. */
	chunk_file_close(&x->f);
	assert_int_equal(chunk_file_open(&x->faulty.io, x->path, 0x9f3, &x->f, NULL), 0);
	expect(x, model);
}

static void test_bounds(void **state)
{
	struct fixture *x = *state;
	uint8_t data[BLOCK_BYTES], sums[4];
	size_t len = 1;

	assert_int_equal(write_fill(x, CHUNK_BYTES - 1, 'a', 1), 0);
	assert_int_equal(write_fill(x, CHUNK_BYTES - 1, 'a', 2), ERR_INVAL);
	assert_int_equal(write_fill(x, CHUNK_BYTES, 'a', 1), ERR_INVAL);
	assert_int_equal(chunk_file_read(&x->f, CHUNK_BYTES, BLOCK_BYTES, data, sums, &len, NULL),
			 0);
	assert_int_equal(len, 0);
}

/* Random writes and cuts at any alignment against a plain array. */
static void test_random_history(void **state)
{
	struct fixture *x = *state;
	uint8_t model[CHUNK_BYTES] = {0}, data[CHUNK_BYTES];
	unsigned seed = (unsigned)test_seed();

	for (int i = 0; i < 400; i++) {
		uint32_t offset = (uint32_t)rand_r(&seed) % CHUNK_BYTES;
		uint32_t len = 1 + (uint32_t)rand_r(&seed) % (i % 3 ? 3 * BLOCK_BYTES : 50);
		if (rand_r(&seed) % 4 == 0) {
			uint64_t before = length(x);
			assert_int_equal(chunk_file_truncate(&x->f, offset, NULL), 0);
			memset(model + offset, 0, CHUNK_BYTES - offset);
			assert_true(length(x) <= before && length(x) < offset + BLOCK_BYTES);
			continue;
		}
		if (len > CHUNK_BYTES - offset)
			len = CHUNK_BYTES - offset;
		for (uint32_t k = 0; k < len; k++)
			data[k] = (uint8_t)rand_r(&seed);
		assert_int_equal(write_at(x, offset, data, len), 0);
		memcpy(model + offset, data, len);
		if (i % 10 == 0)
			expect(x, model);
	}
	expect(x, model);
	assert_int_equal(bad_blocks(x), 0);
}

static void test_corruption(void **state)
{
	struct fixture *x = *state;
	uint8_t data[CHUNK_BYTES], sums[BLOCKS * 4];
	struct err err = {0};
	uint32_t bad;
	size_t len;

	assert_int_equal(write_fill(x, 0, 'a', 4 * BLOCK_BYTES), 0);
	flip(x, x->f.data_offset + 2 * BLOCK_BYTES + 77);
	assert_int_equal(chunk_file_read(&x->f, 0, CHUNK_BYTES, data, sums, &len, &err),
			 ERR_CHECKSUM);
	assert_non_null(strstr(err.text, "chunk 00000000000009f3 block 2"));
	assert_int_equal(chunk_file_read(&x->f, 0, 2 * BLOCK_BYTES, data, sums, &len, NULL), 0);
	assert_int_equal(chunk_file_verify(&x->f, &bad, NULL), 0);
	assert_int_equal(bad, 1);
	/* Bytes that do not verify are never merged under a new checksum ... */
	assert_int_equal(write_fill(x, 2 * BLOCK_BYTES, 'b', 100), ERR_CHECKSUM);
	assert_int_equal(write_fill(x, BLOCK_BYTES, 'b', BLOCK_BYTES + 100), ERR_CHECKSUM);
	assert_int_equal(bad_blocks(x), 1);
	assert_int_equal(chunk_file_read(&x->f, BLOCK_BYTES, BLOCK_BYTES, data, sums, &len, NULL),
			 0);
	assert_int_equal(data[0], 'a');
	/* ... but a whole block replaces them. */
	assert_int_equal(write_fill(x, 2 * BLOCK_BYTES, 'b', BLOCK_BYTES), 0);
	assert_int_equal(bad_blocks(x), 0);
	/* A damaged checksum is damage too. */
	flip(x, FORMAT_SUMS_OFFSET + 4);
	assert_int_equal(bad_blocks(x), 1);
}

/* Blocks that the table knows and the file has lost are not zeros. */
static void test_lost_end(void **state)
{
	struct fixture *x = *state;
	uint8_t data[CHUNK_BYTES];

	assert_int_equal(write_fill(x, 0, 'a', 4 * BLOCK_BYTES), 0);
	assert_int_equal(ftruncate(x->f.fd, x->f.data_offset + BLOCK_BYTES), 0);
	assert_int_equal(read_all(x, data), ERR_CHECKSUM);
	assert_int_equal(bad_blocks(x), 3);
}

static void test_header_damage(void **state)
{
	struct fixture *x = *state;
	struct chunk_file f;
	struct err err = {0};

	assert_int_equal(chunk_file_open(&io_real, x->path, 0x9f4, &f, &err), ERR_CORRUPT);
	flip(x, 70);
	assert_int_equal(chunk_file_open(&io_real, x->path, 0x9f3, &f, &err), ERR_CORRUPT);
	assert_non_null(strstr(err.text, x->path));
	assert_int_equal(ftruncate(x->f.fd, 100), 0);
	assert_int_equal(chunk_file_open(&io_real, x->path, 0x9f3, &f, &err), ERR_CORRUPT);
	assert_int_equal(chunk_file_create(&io_real, x->path, 0x9f3, BITS, &f, &err), ERR_EXIST);
}

/* ---- cutting ---- */

static void test_cut_never_brings_old_bytes_back(void **state)
{
	struct fixture *x = *state;
	uint8_t model[CHUNK_BYTES] = {0};

	assert_int_equal(write_fill(x, 0, 'a', 4 * BLOCK_BYTES), 0);
	assert_int_equal(chunk_file_truncate(&x->f, BLOCK_BYTES + 10, NULL), 0);
	assert_int_equal(length(x), 2 * BLOCK_BYTES);
	memset(model, 'a', BLOCK_BYTES + 10);
	expect(x, model);
	/* Growing again over the cut region, by a write far behind it. */
	assert_int_equal(write_fill(x, 6 * BLOCK_BYTES, 'b', 1), 0);
	model[6 * BLOCK_BYTES] = 'b';
	expect(x, model);
	/* And by a merge into the block that was cut. */
	assert_int_equal(write_fill(x, BLOCK_BYTES + 20, 'c', 1), 0);
	model[BLOCK_BYTES + 20] = 'c';
	expect(x, model);
	/* To nothing; cutting what is short already changes nothing. */
	assert_int_equal(chunk_file_truncate(&x->f, CHUNK_BYTES, NULL), 0);
	expect(x, model);
	assert_int_equal(chunk_file_truncate(&x->f, 0, NULL), 0);
	assert_int_equal(length(x), 0);
	assert_int_equal(bad_blocks(x), 0);
}

/* A cut that fails (or crashes) after any of its steps is completed by doing it again. */
static void test_cut_interrupted(void **state)
{
	static const struct { enum io_kind kind; unsigned nth; } steps[] = {
		{IO_PWRITE, 1}, {IO_PWRITE, 2}, {IO_FDATASYNC, 1}, {IO_FTRUNCATE, 1},
		{IO_FTRUNCATE, 2}, {IO_FDATASYNC, 2},
	};
	struct fixture *x = *state;

	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		uint8_t model[CHUNK_BYTES] = {0};
		x->faulty.n_faults = 0;
		assert_int_equal(write_fill(x, 0, 'a', 4 * BLOCK_BYTES), 0);
		fault(x, (struct io_fault){.kind = steps[i].kind, .nth = steps[i].nth, .eno = EIO});
		assert_int_equal(chunk_file_truncate(&x->f, BLOCK_BYTES + 10, NULL), ERR_IO);
		assert_int_equal(x->faulty.fired[0], 1);
		x->faulty.n_faults = 0;
		chunk_file_close(&x->f);
		assert_int_equal(chunk_file_open(&x->faulty.io, x->path, 0x9f3, &x->f, NULL), 0);
		assert_int_equal(chunk_file_truncate(&x->f, BLOCK_BYTES + 10, NULL), 0);
		memset(model, 'a', BLOCK_BYTES + 10);
		expect(x, model);
		assert_int_equal(bad_blocks(x), 0);
		assert_int_equal(length(x), 2 * BLOCK_BYTES);
	}
}

/* The block under the cut was damaged: it stays known as damaged. */
static void test_cut_keeps_damage_visible(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(write_fill(x, 0, 'a', 2 * BLOCK_BYTES), 0);
	flip(x, x->f.data_offset + BLOCK_BYTES + 5);
	assert_int_equal(chunk_file_truncate(&x->f, BLOCK_BYTES + 10, NULL), 0);
	assert_int_equal(bad_blocks(x), 1);
}

/* ---- failures ---- */

static void test_create_fails_without_trace(void **state)
{
	static const enum io_kind kinds[] = {IO_OPEN, IO_PWRITE, IO_FTRUNCATE};
	struct fixture *x = *state;

	chunk_file_close(&x->f);
	assert_int_equal(unlink(x->path), 0);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		fault(x, (struct io_fault){.kind = kinds[i], .nth = 1, .eno = ENOSPC});
		assert_int_equal(chunk_file_create(&x->faulty.io, x->path, 1, BITS, &x->f, NULL),
				 ERR_NOSPC);
		assert_int_equal(x->faulty.fired[0], 1);
		assert_int_equal(access(x->path, F_OK), -1);
	}
	x->f.fd = -1;
}

/* The disk fills up inside a write: each block is old or new, and verifies. */
static void test_write_no_space(void **state)
{
	struct fixture *x = *state;
	uint8_t model[CHUNK_BYTES] = {0}, data[4 * BLOCK_BYTES];
	bool torn = true;

	assert_int_equal(write_fill(x, 0, 'a', 3 * BLOCK_BYTES), 0);
	memset(data, 'b', sizeof(data));
	fault(x, (struct io_fault){.kind = IO_PWRITE, .nth = 1, .eno = ENOSPC,
				   .short_bytes = 2 * BLOCK_BYTES});
	assert_int_equal(write_torn(x, BLOCK_BYTES, data, sizeof(data), &torn), ERR_NOSPC);
	assert_int_equal(x->faulty.fired[0], 1);
	assert_false(torn);
	memset(model, 'a', BLOCK_BYTES);
	memset(model + BLOCK_BYTES, 'b', 2 * BLOCK_BYTES);
	expect(x, model);
	/* The checksums fail to be written once: they are settled afterwards. */
	fault(x, (struct io_fault){.kind = IO_PWRITE, .nth = 2, .eno = ENOSPC});
	assert_int_equal(write_torn(x, 0, data, BLOCK_BYTES, &torn), ERR_NOSPC);
	assert_int_equal(x->faulty.fired[0], 1);
	assert_false(torn);
	memset(model, 'b', BLOCK_BYTES);
	expect(x, model);
}

/* A block that is neither old nor new is said to be torn, and does not verify. */
static void test_write_torn(void **state)
{
	struct fixture *x = *state;
	uint8_t data[2 * BLOCK_BYTES];
	bool torn = false;

	assert_int_equal(write_fill(x, 0, 'a', 3 * BLOCK_BYTES), 0);
	memset(data, 'b', sizeof(data));
	fault(x, (struct io_fault){.kind = IO_PWRITE, .nth = 1, .eno = EIO,
				   .short_bytes = BLOCK_BYTES + 1000});
	assert_int_equal(write_torn(x, 0, data, sizeof(data), &torn), ERR_IO);
	assert_true(torn);
	assert_int_equal(bad_blocks(x), 1);
}

static void test_read_error(void **state)
{
	struct fixture *x = *state;
	uint8_t data[CHUNK_BYTES];

	assert_int_equal(write_fill(x, 0, 'a', BLOCK_BYTES), 0);
	fault(x, (struct io_fault){.kind = IO_PREAD, .nth = 2, .eno = EIO});
	assert_int_equal(read_all(x, data), ERR_IO);
	assert_int_equal(x->faulty.fired[0], 1);
	/* A merge that cannot read the old block writes nothing. */
	fault(x, (struct io_fault){.kind = IO_PREAD, .nth = 1, .eno = EIO});
	assert_int_equal(write_fill(x, 10, 'b', 10), ERR_IO);
	assert_int_equal(x->faulty.fired[0], 1);
	x->faulty.n_faults = 0;
	assert_int_equal(read_all(x, data), 0);
	assert_int_equal(data[10], 'a');
}

static void test_digest(void **state)
{
	struct fixture *x = *state;
	uint32_t empty, one, again;

	assert_int_equal(chunk_file_digest(&x->f, &empty, NULL), 0);
	assert_int_equal(write_fill(x, 0, 'a', 5000), 0);
	assert_int_equal(chunk_file_digest(&x->f, &one, NULL), 0);
	assert_int_not_equal(empty, one);
	assert_int_equal(chunk_file_truncate(&x->f, 0, NULL), 0);
	assert_int_equal(chunk_file_digest(&x->f, &again, NULL), 0);
	assert_int_equal(empty, again);
}

/* Blocks of zeros that are written over data become a hole, and read and verify as before. */
static void test_zeros_are_holes(void **state)
{
	struct fixture *x = *state;
	static uint8_t data[CHUNK_BYTES], zeros[CHUNK_BYTES], back[CHUNK_BYTES], sums[BLOCKS * 4];
	struct stat before, after;
	uint64_t length;
	uint32_t bad;
	size_t len;

	memset(data, 'd', sizeof(data));
	assert_int_equal(write_at(x, 0, data, CHUNK_BYTES - BLOCK_BYTES), 0);
	assert_int_equal(fstat(x->f.fd, &before), 0);
	/* From inside a block to inside another one: the blocks between them. */
	assert_int_equal(write_at(x, 100, zeros, 8 * BLOCK_BYTES), 0);
	memset(data + 100, 0, 8 * BLOCK_BYTES);
	assert_int_equal(fstat(x->f.fd, &after), 0);
	assert_int_equal(before.st_blocks - after.st_blocks, 7 * BLOCK_BYTES / 512);
	assert_int_equal(after.st_size, before.st_size);
	/* Beyond the end of the file: it grows. */
	assert_int_equal(write_at(x, CHUNK_BYTES - BLOCK_BYTES, zeros, BLOCK_BYTES), 0);
	memset(data + CHUNK_BYTES - BLOCK_BYTES, 0, BLOCK_BYTES);
	assert_int_equal(chunk_file_length(&x->f, &length, NULL), 0);
	assert_int_equal(length, CHUNK_BYTES);
	assert_int_equal(chunk_file_verify(&x->f, &bad, NULL), 0);
	assert_int_equal(bad, 0);
	assert_int_equal(chunk_file_read(&x->f, 0, CHUNK_BYTES, back, sums, &len, NULL), 0);
	assert_int_equal(len, CHUNK_BYTES);
	assert_memory_equal(back, data, CHUNK_BYTES);
	for (unsigned i = 1; i < 8; i++)
		assert_int_equal(get_le32(sums + 4 * i), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_zeros_are_holes),
		TEST(test_holes_and_lengths), TEST(test_bounds), TEST(test_random_history),
		TEST(test_corruption), TEST(test_lost_end), TEST(test_header_damage),
		TEST(test_cut_never_brings_old_bytes_back), TEST(test_cut_interrupted),
		TEST(test_cut_keeps_damage_visible), TEST(test_create_fails_without_trace),
		TEST(test_write_no_space), TEST(test_write_torn), TEST(test_read_error),
		TEST(test_digest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
