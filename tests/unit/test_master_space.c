/* master: the blocks that are a file's own, against a model that has a byte for each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "tests/lib/seed.h"
#include "tests/unit/apply_fixture.h"

enum { CHUNK = 1 << 26, CHUNKS = 4, BLOCKS = CHUNKS * (CHUNK / BLOCK_BYTES) };

static int wrote_as(uint64_t inode, uint64_t offset, uint64_t end, uint8_t flags)
{
	struct cmd_wrote m = {.req = {.id = opid(), .inode = inode, .offset = offset, .end = end,
				      .flags = flags}};
	return apply(CMD_NUMBER_WROTE, &m);
}

static uint64_t blocks_of(uint64_t inode)
{
	assert_int_equal(attr_of(inode).blocks % 8, 0);
	return attr_of(inode).blocks / 8;
}

static uint64_t new_file(unsigned chunks)
{
	uint64_t f;

	make(1, "f", S_IFREG | 0644, 0, &f);
	for (unsigned i = 0; i < chunks; i++)
		chunk_make(f, i, 2, NULL);
	return f;
}

static void test_what_is_written_counts(void **state)
{
	uint64_t f = new_file(1);

	assert_int_equal(blocks_of(f), 0);
	assert_int_equal(set_size(f, 1 << 20), 0);
	assert_int_equal(blocks_of(f), 0);
	chunk_make(f, 0, 2, NULL);
	wrote(f, 600000, 600001);
	assert_int_equal(blocks_of(f), 1);
	wrote(f, 600000, 600001);
	assert_int_equal(blocks_of(f), 1);
	wrote(f, 0, 4097);
	assert_int_equal(blocks_of(f), 3);
	wrote(f, 4096, 600000);
	assert_int_equal(blocks_of(f), 147);
	assert_int_equal(set_size(f, 4097), 0);
	assert_int_equal(blocks_of(f), 2);
	assert_int_equal(set_size(f, 0), 0);
	assert_int_equal(blocks_of(f), 0);
	/* Its chunk is gone: a WROTE that comes late counts nothing. */
	wrote(f, 0, 4096);
	assert_int_equal(blocks_of(f), 0);
}

static void test_holes_give_back_whole_blocks(void **state)
{
	uint64_t f = new_file(2);

	wrote(f, 0, CHUNK + 100);
	assert_int_equal(blocks_of(f), CHUNK / BLOCK_BYTES + 1);
	wrote_as(f, 1, 4096, WROTE_HOLE | WROTE_KEEP_SIZE);
	assert_int_equal(blocks_of(f), CHUNK / BLOCK_BYTES + 1);
	wrote_as(f, 1, 8193, WROTE_HOLE | WROTE_KEEP_SIZE);
	assert_int_equal(blocks_of(f), CHUNK / BLOCK_BYTES);
	/* Up to the end of the file: its last block is whole. */
	wrote_as(f, CHUNK - 5000, CHUNK + 100, WROTE_HOLE | WROTE_KEEP_SIZE);
	assert_int_equal(blocks_of(f), CHUNK / BLOCK_BYTES - 2);
	assert_int_equal(attr_of(f).size, CHUNK + 100);
	check_invariants();
	wrote_as(f, 0, CHUNK + 100, WROTE_HOLE | WROTE_KEEP_SIZE);
	assert_int_equal(blocks_of(f), 0);
	assert_int_equal(wrote_as(f, 0, 1, WROTE_HOLE | WROTE_SET_ASIDE), ERR_INVAL);
}

/* The next chunk that is asked for from `first` on, in a file with chunks 1000 and 5000. */
static uint64_t told_next(uint64_t inode, uint64_t first, unsigned count)
{
	struct wire_locate locate = {.inode = inode, .first = first, .count = count};
	struct wire_locate_reply rep;

	assert_int_equal(query_locate(st, &locate, &rep, NULL, NULL), 0);
	return rep.next;
}

static void test_locations_tell_where_a_hole_ends(void **state)
{
	uint64_t f = new_file(0), chunk;

	assert_int_equal(set_size(f, INT64_MAX), 0);
	assert_true(told_next(f, 0, 32) == LOCATE_NO_MORE);
	assert_int_equal(chunk_make(f, 1000, 2, &chunk), 0);
	assert_int_equal(chunk_make(f, 5000, 2, &chunk), 0);
	new_file(0); /* others' chunks do not count */
	assert_int_equal(told_next(f, 0, 32), 1000);
	assert_int_equal(told_next(f, 999, 2), 0); /* the last one is no hole */
	assert_int_equal(told_next(f, 1000, 32), 5000);
	assert_true(told_next(f, 5000, 2) == LOCATE_NO_MORE);
	assert_true(told_next(f, INT64_MAX / CHUNK, 1) == LOCATE_NO_MORE);
}

static void test_what_is_set_aside_counts(void **state)
{
	uint64_t f = new_file(0), chunk;
	struct wire_locate locate = {.inode = f, .count = 8};
	struct wire_locate_reply rep;

	assert_int_equal(wrote_as(f, 0, 3ull * CHUNK, WROTE_SET_ASIDE | WROTE_KEEP_SIZE), 0);
	assert_int_equal(attr_of(f).size, 0);
	assert_int_equal(blocks_of(f), 3 * (CHUNK / BLOCK_BYTES));
	check_invariants();
	/* A longer file keeps it, and so does a chunk that is made there and goes again. */
	assert_int_equal(set_size(f, CHUNK), 0);
	assert_int_equal(blocks_of(f), 3 * (CHUNK / BLOCK_BYTES));
	assert_int_equal(chunk_make(f, 2, 2, &chunk), 0);
	assert_int_equal(chunk_row(chunk).refs, 1);
	assert_int_equal(set_size(f, CHUNK + 1), 0);
	assert_int_equal(chunk_row(chunk).refs, 0);
	assert_int_equal(blocks_of(f), 3 * (CHUNK / BLOCK_BYTES));
	check_invariants();
	/* Nobody takes it for data. */
	assert_int_equal(query_locate(st, &locate, &rep, NULL, NULL), 0);
	assert_int_equal(rep.n_chunks, 2);
	assert_int_equal(rep.chunks[0].id, 0);
	assert_int_equal(rep.chunks[0].blocks, CHUNK / BLOCK_BYTES);
	assert_int_equal(chunk_make(f, 0, 2, &chunk), 0);
	assert_false(chunk_row(chunk).flags & CHUNK_WRITTEN);
	wrote_as(f, 0, 4096, WROTE_SET_ASIDE);
	assert_false(chunk_row(chunk).flags & CHUNK_WRITTEN);
	/* The same size: what lies behind the end is given back. */
	assert_int_equal(set_size(f, CHUNK + 1), 0);
	assert_int_equal(blocks_of(f), CHUNK / BLOCK_BYTES + 1);
	assert_int_equal(unlink_name(1, "f", false, 0), 0);
	check_invariants();
}

/* ---- at random ---- */

static struct {
	uint8_t own[BLOCKS];
	bool chunk[CHUNKS];
	uint64_t size;
} model;

static void model_range(uint64_t from, uint64_t to, bool own, bool aside)
{
	for (uint64_t b = from; b < to; b++)
		if (!own || aside || model.chunk[b / (CHUNK / BLOCK_BYTES)])
			model.own[b] = own;
}

static void model_size(uint64_t size)
{
	uint64_t cut = size < model.size ? size : model.size;

	for (uint64_t i = (cut + CHUNK - 1) / CHUNK; i < CHUNKS; i++)
		model.chunk[i] = false;
	if (size <= model.size)
		model_range((size + BLOCK_BYTES - 1) / BLOCK_BYTES, BLOCKS, false, false);
	model.size = size;
}

static void random_step(uint64_t f)
{
	uint64_t all = (uint64_t)CHUNKS * CHUNK, offset, end, index = rnd64(CHUNKS);
	static const uint64_t lengths[] = {1, 4096, 5000, 100000, 1 << 20, 1 << 27};
	unsigned what = (unsigned)rnd64(6);

	offset = rnd64(2) ? rnd64(all / 4096) * 4096 : rnd64(all);
	end = offset + 1 + rnd64(lengths[rnd64(6)]);
	end = end > all ? all : end;
	switch (what) {
	case 0:
		assert_int_equal(chunk_make(f, index, 2, NULL), 0);
		model.chunk[index] = true;
		return;
	case 1:
		assert_int_equal(set_size(f, rnd64(3) ? offset : model.size), 0);
		model_size(attr_of(f).size);
		return;
	case 2:
		assert_int_equal(wrote_as(f, offset, end, WROTE_HOLE | WROTE_KEEP_SIZE), 0);
		model_range((offset + BLOCK_BYTES - 1) / BLOCK_BYTES,
			    (end + (end >= model.size ? BLOCK_BYTES - 1 : 0)) / BLOCK_BYTES, false,
			    false);
		return;
	case 3:
		assert_int_equal(wrote_as(f, offset, end, WROTE_SET_ASIDE | WROTE_KEEP_SIZE), 0);
		model_range(offset / BLOCK_BYTES, (end + BLOCK_BYTES - 1) / BLOCK_BYTES, true, true);
		return;
	default:
		assert_int_equal(wrote_as(f, offset, end, 0), 0);
		model_range(offset / BLOCK_BYTES, (end + BLOCK_BYTES - 1) / BLOCK_BYTES, true, false);
		if (end > model.size)
			model.size = end;
	}
}

static void test_random_spaces(void **state)
{
	uint64_t f = new_file(0);

	rng_state = test_seed();
	memset(&model, 0, sizeof(model));
	for (unsigned i = 0; i < 2000; i++) {
		uint64_t own = 0;
		random_step(f);
		for (unsigned b = 0; b < BLOCKS; b++)
			own += model.own[b];
		assert_int_equal(attr_of(f).size, model.size);
		assert_int_equal(blocks_of(f), own);
		if (i % 100 == 0)
			check_invariants();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_what_is_written_counts),
		T(test_holes_give_back_whole_blocks),
		T(test_locations_tell_where_a_hole_ends), T(test_what_is_set_aside_counts),
		T(test_random_spaces),
#undef T
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	buf_release(&history);
	return r;
}
