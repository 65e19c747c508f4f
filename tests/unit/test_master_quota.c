/* master: directory quotas, against a recount (schema_check) and a model of what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "master/access.h"
#include "tests/lib/seed.h"
#include "tests/unit/apply_fixture.h"

static int quota(uint64_t dir, uint64_t blocks, uint64_t inodes)
{
	struct cmd_quota_set m = {.req = {.inode = dir, .bytes_max = blocks * BLOCK_BYTES,
					  .inodes_max = inodes}};
	return apply(CMD_NUMBER_QUOTA_SET, &m);
}

static int quota_remove(uint64_t dir)
{
	struct cmd_quota_set m = {.req = {.inode = dir, .flags = QUOTA_REMOVE}};
	return apply(CMD_NUMBER_QUOTA_SET, &m);
}

static int count(uint64_t dir, const char *name)
{
	struct cmd_quota_count m = {.req = {.parent = dir, .n_names = 1, .names = {slice_str(name)}}};
	return apply(CMD_NUMBER_QUOTA_COUNT, &m);
}

static struct row_quota quota_row(uint32_t id)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_quota row = {0};
	assert_true(state_get_row_quota(st, key_quota(id), &row, &backing) >= 0);
	return row;
}

static void expect_used(uint32_t id, uint64_t blocks, uint64_t inodes)
{
	assert_int_equal(quota_row(id).blocks, blocks);
	assert_int_equal(quota_row(id).inodes, inodes);
	check_invariants();
}

static uint64_t make_dir(uint64_t parent, const char *name)
{
	uint64_t dir;
	assert_int_equal(make(parent, name, S_IFDIR | 0755, 0, &dir), 0);
	return dir;
}

static uint64_t make_file(uint64_t parent, const char *name, uint64_t blocks)
{
	uint64_t f;
	assert_int_equal(make(parent, name, S_IFREG | 0644, 0, &f), 0);
	if (blocks) {
		assert_int_equal(chunk_make(f, 0, 2, NULL), 0);
		assert_int_equal(wrote(f, 0, blocks * BLOCK_BYTES), 0);
	}
	return f;
}

static void test_limits(void **state)
{
	uint64_t d = make_dir(1, "d"), f, chunk;

	assert_int_equal(quota(d, 10, 3), 0);
	expect_used(1, 0, 1);
	f = make_file(d, "f", 10);
	expect_used(1, 10, 2);
	assert_int_equal(query_quota_left(st, f), 0);
	assert_int_equal(wrote(f, 0, 10 * BLOCK_BYTES), 0); /* over what it has */
	assert_int_equal(wrote(f, 0, 10 * BLOCK_BYTES + 1), ERR_DQUOT);
	assert_int_equal(attr_of(f).size, 10 * BLOCK_BYTES);
	assert_int_equal(chunk_make(f, 1, 2, &chunk), ERR_DQUOT);
	assert_int_equal(set_size(f, 1 << 30), 0); /* a hole takes no block */
	make_file(d, "g", 0);
	assert_int_equal(make(d, "h", S_IFREG | 0644, 0, NULL), ERR_DQUOT);
	assert_int_equal(make(d, "h", S_IFDIR | 0755, 0, NULL), ERR_DQUOT);
	assert_int_equal(make(d, "", S_IFREG | 0644, MAKE_TMPFILE, NULL), ERR_DQUOT);
	expect_used(1, 10, 3);
	/* Less is used, or more is allowed. */
	assert_int_equal(set_size(f, BLOCK_BYTES), 0);
	expect_used(1, 1, 3);
	assert_int_equal(wrote(f, 0, 2 * BLOCK_BYTES), 0);
	assert_int_equal(unlink_name(d, "g", false, 0), 0);
	expect_used(1, 2, 2);
	assert_int_equal(quota(d, 1, 0), 0); /* below what is used: only no more */
	assert_int_equal(wrote(f, 0, 3 * BLOCK_BYTES), ERR_DQUOT);
	assert_int_equal(wrote(f, 0, 2 * BLOCK_BYTES), 0);
	assert_int_equal(quota(d, 0, 0), 0);
	assert_int_equal(wrote(f, 0, 30 * BLOCK_BYTES), 0);
	expect_used(1, 30, 2);
	/* A file without a name counts until it is closed. */
	assert_int_equal(unlink_name(d, "f", false, f), 0);
	expect_used(1, 30, 2);
	struct cmd_release rel = {.req = {.id = opid(), .inode = f}};
	assert_int_equal(apply(CMD_NUMBER_RELEASE, &rel), 0);
	expect_used(1, 0, 1);
	/* One that only lingers does not. */
	make_file(d, "f", 4);
	struct cmd_unlink lingers = {.req = {.id = opid(), .parent = d, .name = SLICE_LIT("f")},
				     .linger = true};
	assert_int_equal(apply(CMD_NUMBER_UNLINK, &lingers), 0);
	expect_used(1, 0, 1);
	assert_int_equal(unlink_name(1, "d", true, 0), 0);
	expect_used(1, 0, 0);
	assert_int_equal(quota(d, 1, 1), ERR_NOENT);
	assert_int_equal(quota(make_file(1, "x", 0), 1, 1), ERR_NOTDIR);
	assert_int_equal(quota_remove(1), ERR_NODATA);
}

static void test_one_in_another(void **state)
{
	uint64_t a = make_dir(1, "a"), b = make_dir(a, "b"), deep = make_dir(b, "deep"), f;

	assert_int_equal(quota(b, 100, 0), 0);
	assert_int_equal(count(b, "deep"), 0);
	expect_used(1, 0, 2);
	assert_int_equal(quota(a, 20, 0), 0);
	assert_int_equal(count(a, "b"), 0);
	expect_used(2, 0, 3);
	assert_int_equal(quota_row(1).parent, 2);
	f = make_file(deep, "f", 15);
	expect_used(1, 15, 3);
	expect_used(2, 15, 4);
	assert_int_equal(query_quota_left(st, f), 5 * BLOCK_BYTES); /* the outer one's */
	assert_int_equal(query_quota_left(st, 1), UINT64_MAX);
	assert_int_equal(wrote(f, 0, 21 * BLOCK_BYTES), ERR_DQUOT); /* the outer one */
	/* The inner one goes with its directory, the other way it would not fit. */
	assert_int_equal(rename_name(a, "b", 1, "b", 0), 0);
	expect_used(2, 0, 1);
	expect_used(1, 15, 3);
	assert_int_equal(wrote(f, 0, 21 * BLOCK_BYTES), 0);
	assert_int_equal(rename_name(1, "b", a, "b", 0), ERR_DQUOT);
	assert_int_equal(set_size(f, 5 * BLOCK_BYTES), 0);
	assert_int_equal(rename_name(1, "b", a, "b", 0), 0);
	expect_used(2, 5, 4);
	/* Removed: what it counted is the outer one's, its parts as they are found. */
	assert_int_equal(quota_remove(b), 0);
	assert_int_equal(quota_row(1).inode, 0);
	expect_used(2, 5, 4);
	assert_int_equal(count(b, "deep"), 0);
	assert_int_equal(count(deep, "f"), 0);
	assert_int_equal(count(deep, "gone"), 0);
	expect_used(2, 5, 4);
	expect_used(1, 0, 0);
}

static void test_what_is_moved(void **state)
{
	uint64_t a = make_dir(1, "a"), b = make_dir(1, "b"), full = make_dir(b, "full"), f;

	assert_int_equal(quota(a, 10, 4), 0);
	assert_int_equal(quota(b, 0, 0), 0);
	assert_int_equal(count(b, "full"), 0);
	f = make_file(b, "f", 8);
	expect_used(2, 8, 3);
	assert_int_equal(rename_name(b, "f", a, "f", 0), 0);
	expect_used(1, 8, 2);
	expect_used(2, 0, 2);
	make_file(b, "g", 3);
	assert_int_equal(rename_name(b, "g", a, "g", 0), ERR_DQUOT);
	assert_true(lookup(b, "g") != 0 && lookup(a, "g") == 0);
	/* It replaces what goes: it is counted before that is. */
	assert_int_equal(set_size(f, BLOCK_BYTES), 0);
	assert_int_equal(rename_name(b, "g", a, "f", 0), 0);
	expect_used(1, 3, 2);
	assert_int_equal(link_name(lookup(a, "f"), b, "l"), ERR_XDEV);
	assert_int_equal(link_name(lookup(a, "f"), a, "l"), 0);
	expect_used(1, 3, 2);
	/* Directories: empty ones. */
	make_dir(full, "in it");
	assert_int_equal(rename_name(b, "full", a, "full", 0), ERR_XDEV);
	assert_int_equal(rename_name(full, "in it", a, "in it", 0), 0);
	expect_used(1, 3, 3);
	assert_int_equal(rename_name(b, "full", a, "full", 0), 0);
	expect_used(1, 3, 4);
	make_file(b, "x", 1);
	assert_int_equal(rename_name(b, "x", a, "x", 0), ERR_DQUOT);
	assert_int_equal(rename_name(b, "x", a, "l", RENAME_F_EXCHANGE), ERR_DQUOT); /* inodes are full */
	assert_int_equal(quota(a, 10, 9), 0);
	assert_int_equal(rename_name(b, "x", a, "l", RENAME_F_EXCHANGE), 0);
	expect_used(1, 1, 4);
	expect_used(2, 3, 2);
}

static void test_what_was_there_before(void **state)
{
	uint64_t d = make_dir(1, "d"), e = make_dir(d, "e");

	make_file(d, "f", 5);
	make_file(e, "g", 7);
	assert_int_equal(quota(d, 6, 0), 0);
	expect_used(1, 0, 1);
	make_file(e, "late", 0); /* e is not counted yet, nor is what is made in it */
	expect_used(1, 0, 1);
	assert_int_equal(count(d, "f"), 0);
	assert_int_equal(count(d, "f"), 0);
	expect_used(1, 5, 2);
	assert_int_equal(count(d, "e"), 0);
	make_file(e, "later", 0);
	expect_used(1, 5, 4);
	/* Moved before its turn: counted where it is. */
	assert_int_equal(rename_name(e, "g", 1, "g", 0), 0);
	assert_int_equal(count(e, "g"), 0);
	assert_int_equal(count(e, "late"), 0);
	expect_used(1, 5, 5);
	/* What is there is never refused, only more of it. */
	assert_int_equal(quota(d, 1, 1), 0);
	assert_int_equal(quota_remove(d), 0);
	assert_int_equal(count(1, "g"), 0);
	expect_used(1, 5, 4);
	assert_int_equal(count(d, "f"), 0);
	assert_int_equal(count(d, "e"), 0);
	assert_int_equal(count(e, "late"), 0);
	assert_int_equal(count(e, "later"), 0);
	expect_used(1, 0, 0);
}

static void test_too_deep(void **state)
{
	uint64_t dir = 1, last = 0;
	char name[8];

	for (unsigned i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		dir = make_dir(dir, name);
		last = dir;
		assert_int_equal(quota(dir, 100, 0), 0);
	}
	dir = make_dir(dir, "deeper");
	assert_int_equal(quota(dir, 100, 0), ERR_INVAL);
	make_file(last, "f", 3);
	for (uint32_t q = 1; q <= 8; q++)
		assert_int_equal(quota_row(q).blocks, 3);
	make_dir(1, "x");
	assert_int_equal(quota(lookup(1, "x"), 0, 0), 0);
	assert_int_equal(rename_name(1, "x", last, "x", 0), ERR_XDEV);
}

/* ---- at random ---- */

static int refused; /* with EDQUOT */

static void random_step(void)
{
	uint64_t dir = random_inode(true, 60), to = random_inode(true, 60), file = random_inode(false, 60);
	char name[8], other[8];
	int r = 0;

	snprintf(name, sizeof(name), "n%u", rnd(5));
	snprintf(other, sizeof(other), "n%u", rnd(5));
	switch (rnd(12)) {
	case 0: r = make(dir, name, S_IFDIR | 0755, 0, NULL); break;
	case 1: r = make(dir, name, S_IFREG | 0644, rnd(2) ? MAKE_CHUNK : 0, NULL); break;
	case 2: r = make(dir, "", S_IFREG | 0644, MAKE_TMPFILE, NULL); break;
	case 3: {
		struct cmd_unlink m = {.req = {.id = opid(), .parent = dir, .name = slice_str(name),
					       .dir = rnd(3) == 0}, .linger = rnd(2) != 0};
		m.req.hold = rnd(3) ? 0 : lookup(dir, name);
		apply(CMD_NUMBER_UNLINK, &m);
		break;
	}
	case 4: case 5:
		r = rename_name(dir, name, to, other, rnd(3) ? 0 : RENAME_F_EXCHANGE);
		break;
	case 6: link_name(file, dir, name); break;
	case 7: r = chunk_make(file, rnd(3), 2, NULL); break;
	case 8: r = wrote(file, rnd(1 << 27), (uint64_t)rnd(1 << 27)); break;
	case 9: set_size(file, rnd(1 << 27)); break;
	case 10: rnd(3) ? quota(dir, rnd(60000), rnd(20)) : quota_remove(dir); break;
	default: count(dir, name);
	}
	refused += r == ERR_DQUOT;
}

static void test_random_quotas(void **state)
{
	rng_state = test_seed();
	refused = 0;
	for (unsigned i = 0; i < 4000; i++) {
		random_step();
		if (i % 20 == 0)
			check_invariants();
	}
	assert_true(refused > 20);
}

/* The state was damaged: what is counted in a quota without a row goes on without a limit, until one is
 * set anew. */
static void test_a_lost_row_stops_nothing(void **state)
{
	uint64_t d = make_dir(1, "d"), f;
	struct wire_cred of_export = {.within = 9};
	struct key lost = key_quota(1);

	assert_int_equal(quota(d, 10, 3), 0);
	f = make_file(d, "f", 4);
	state_begin(st);
	state_del(st, key_slice(&lost));
	assert_int_equal(state_commit(st), 0);
	/* It is not known in what it lay: those who see an export only do not see it. */
	assert_int_equal(access_project(st, &of_export, 1), ERR_NOENT);
	make_file(d, "g", 20);
	make_dir(d, "sub");
	assert_int_equal(wrote(f, 0, 5 * BLOCK_BYTES), 0);
	assert_int_equal(unlink_name(d, "g", false, 0), 0);
	assert_int_equal(quota_remove(d), ERR_NODATA);
	assert_int_equal(quota(d, 100, 3), 0);
	assert_int_equal(count(d, "f"), 0);
	assert_int_equal(count(d, "sub"), 0);
	expect_used(2, 5, 3);
	assert_int_equal(make(d, "h", S_IFREG | 0644, 0, NULL), ERR_DQUOT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_limits),
		T(test_one_in_another),
		T(test_what_is_moved),
		T(test_what_was_there_before),
		T(test_too_deep),
		T(test_a_lost_row_stops_nothing),
		T(test_random_quotas),
#undef T
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	buf_release(&history);
	return r;
}
