/* client: the cache and its rules (client/cache.h), without a master. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "client/cache.h"
#include "common/clock.h"

enum { DIR = 100, FILE_A = 200, FILE_B = 300, LEASE_MS = 600000 };

static struct cache cache;

static int set_up(void **state)
{
	cache_init(&cache);
	cache_start(&cache);
	cache_until(&cache, deadline_in(LEASE_MS));
	return 0;
}

static int tear_down(void **state)
{
	cache_release(&cache);
	return 0;
}

static bool put_attr(uint64_t ticket, uint64_t inode, uint64_t size)
{
	struct wire_attr attr = {.inode = inode, .size = size};
	return cache_put_attr(&cache, ticket, &attr);
}

/* Size of the cached attributes; -1: none. */
static int64_t size_of(uint64_t inode)
{
	struct wire_attr attr;
	return cache_get_attr(&cache, inode, &attr) ? (int64_t)attr.size : -1;
}

static const struct slice a = SLICE_LIT("a"), b = SLICE_LIT("b");

/* The inode cached for a name, 0 for absence; -1: not known. */
static int64_t inode_of(struct slice name)
{
	uint64_t inode;
	return cache_get_name(&cache, DIR, name, &inode) ? (int64_t)inode : -1;
}

static void test_answers_are_used_until_recalled(void **state)
{
	uint64_t t = cache_ticket(&cache);

	assert_true(put_attr(t, FILE_A, 1));
	assert_true(cache_put_name(&cache, t, DIR, a, FILE_A));
	assert_true(cache_put_name(&cache, t, DIR, b, 0));
	assert_int_equal(size_of(FILE_A), 1);
	assert_int_equal(inode_of(a), FILE_A);
	assert_int_equal(inode_of(b), 0);
	cache_recall(&cache, DIR);
	assert_int_equal(inode_of(a), -1);
	assert_int_equal(inode_of(b), -1);
	assert_int_equal(size_of(FILE_A), 1);
	cache_recall(&cache, FILE_A);
	assert_int_equal(size_of(FILE_A), -1);
}

static void test_an_answer_that_comes_after_the_recall_is_refused(void **state)
{
	uint64_t t = cache_ticket(&cache);

	cache_recall(&cache, FILE_A);
	assert_false(put_attr(t, FILE_A, 1));
	assert_true(put_attr(t, FILE_B, 2));
	assert_true(put_attr(cache_ticket(&cache), FILE_A, 3));
	assert_int_equal(size_of(FILE_A), 3);
}

static void test_nothing_is_used_after_the_lease_has_run_out(void **state)
{
	put_attr(cache_ticket(&cache), FILE_A, 1);
	assert_true(cache_left_ms(&cache) > 0);
	cache_until(&cache, clock_ms());
	assert_int_equal(size_of(FILE_A), -1);
	assert_int_equal(cache_left_ms(&cache), 0);
	/* Renewed, and not told that it was lost: as before. */
	cache_until(&cache, deadline_in(LEASE_MS));
	assert_int_equal(size_of(FILE_A), 1);
}

static void test_drop_and_stop(void **state)
{
	uint64_t t = cache_ticket(&cache);

	put_attr(t, FILE_A, 1);
	cache_drop(&cache);
	assert_int_equal(size_of(FILE_A), -1);
	assert_false(put_attr(t, FILE_B, 1));
	cache_stop(&cache);
	t = cache_ticket(&cache);
	assert_false(put_attr(t, FILE_B, 1));
	cache_start(&cache);
	cache_until(&cache, deadline_in(LEASE_MS));
	/* Asked before the link was attached: leased by an attachment that is gone. */
	assert_false(put_attr(t, FILE_B, 1));
	assert_true(put_attr(cache_ticket(&cache), FILE_B, 1));
}

static void test_own_change_hides_what_was_known(void **state)
{
	uint64_t before = cache_ticket(&cache), during, t;
	struct edit e;

	put_attr(before, FILE_A, 1);
	edit_begin(&e, &cache);
	edit_inode(&e, FILE_A, CACHED_ATTR | CACHED_DATA);
	assert_int_equal(size_of(FILE_A), -1);
	during = cache_ticket(&cache);
	assert_false(put_attr(during, FILE_A, 1));
	t = edit_end(&e);
	assert_true(t != 0);
	/* A read that was sent before the end may have seen the state before the change. */
	assert_false(put_attr(before, FILE_A, 1));
	assert_false(put_attr(during, FILE_A, 1));
	assert_true(put_attr(t, FILE_A, 2));
	assert_int_equal(size_of(FILE_A), 2);
}

static void test_own_change_and_a_recall(void **state)
{
	struct edit e;
	uint64_t t;

	edit_begin(&e, &cache);
	edit_inode(&e, FILE_A, CACHED_ATTR);
	cache_recall(&cache, FILE_A);
	assert_int_equal(edit_end(&e), 0);
	/* Between the end and the entering of the answer. */
	edit_begin(&e, &cache);
	edit_inode(&e, FILE_A, CACHED_ATTR);
	t = edit_end(&e);
	cache_recall(&cache, FILE_A);
	assert_false(put_attr(t, FILE_A, 2));
	/* The lease was lost meanwhile. */
	edit_begin(&e, &cache);
	edit_inode(&e, FILE_A, CACHED_ATTR);
	cache_drop(&cache);
	assert_int_equal(edit_end(&e), 0);
}

static void test_two_changes_at_once(void **state)
{
	struct edit e, f;

	edit_begin(&e, &cache);
	edit_inode(&e, FILE_A, CACHED_ATTR);
	edit_begin(&f, &cache);
	edit_inode(&f, FILE_A, CACHED_ATTR);
	assert_int_equal(edit_end(&e), 0);
	assert_false(put_attr(cache_ticket(&cache), FILE_A, 1));
	assert_int_equal(edit_end(&f), 0);
	assert_true(put_attr(cache_ticket(&cache), FILE_A, 2));
}

static void test_a_name_is_made(void **state)
{
	uint64_t t = cache_ticket(&cache);
	struct edit e;

	put_attr(t, DIR, 1);
	cache_put_name(&cache, t, DIR, a, 0);
	cache_put_name(&cache, t, DIR, b, FILE_B);
	edit_begin(&e, &cache);
	edit_name(&e, DIR, a, false);
	assert_int_equal(inode_of(a), -1);
	assert_int_equal(inode_of(b), FILE_B);
	assert_int_equal(size_of(DIR), -1);
	edit_also(&e, FILE_A);
	t = edit_end(&e);
	assert_true(t != 0);
	assert_true(cache_put_name(&cache, t, DIR, a, FILE_A));
	assert_true(put_attr(t, FILE_A, 0));
	assert_int_equal(inode_of(a), FILE_A);
}

/* A directory that this session made: what it does not know is not there, but for names that it changes. */
static void test_a_new_directory_is_known_whole(void **state)
{
	char long_name[NAME_BYTES_MAX + 1];
	struct edit e, f;
	uint64_t t;

	assert_int_equal(inode_of(a), -1);
	assert_true(cache_put_empty(&cache, cache_ticket(&cache), DIR));
	assert_int_equal(inode_of(a), 0);
	edit_begin(&e, &cache);
	edit_name(&e, DIR, a, false);
	assert_int_equal(inode_of(a), -1);
	assert_int_equal(inode_of(b), 0);
	t = edit_end(&e);
	/* It is not known what came of it, until that is entered. */
	assert_int_equal(inode_of(a), -1);
	assert_true(cache_put_name(&cache, t, DIR, a, FILE_A));
	assert_int_equal(inode_of(a), FILE_A);
	/* A second change of a name that is being changed does not know what it removes. */
	edit_begin(&e, &cache);
	edit_begin(&f, &cache);
	edit_name(&e, DIR, a, true);
	edit_name(&f, DIR, a, true);
	assert_true(f.blind);
	edit_end(&e);
	edit_end(&f);
	assert_int_equal(inode_of(a), -1);
	/* One of a name that is known to be absent removes nothing. */
	edit_begin(&e, &cache);
	edit_name(&e, DIR, b, true);
	assert_false(e.blind);
	edit_end(&e);
	/* What is too long for a name is refused, not absent. */
	memset(long_name, 'x', sizeof(long_name));
	edit_begin(&e, &cache);
	edit_name(&e, DIR, slice_of(long_name, sizeof(long_name)), false);
	edit_end(&e);
	assert_int_equal(inode_of(slice_of(long_name, sizeof(long_name))), -1);
	assert_int_equal(inode_of(SLICE_LIT("c")), 0);
	/* Others may have made names. */
	t = cache_ticket(&cache);
	cache_recall(&cache, DIR);
	assert_int_equal(inode_of(b), -1);
	assert_false(cache_put_empty(&cache, t, DIR));
	assert_int_equal(inode_of(b), -1);
}

static void test_what_a_removed_name_named_is_changed_too(void **state)
{
	uint64_t t = cache_ticket(&cache);
	struct edit e;

	put_attr(t, FILE_A, 1);
	cache_put_name(&cache, t, DIR, a, FILE_A);
	edit_begin(&e, &cache);
	edit_name(&e, DIR, a, true);
	assert_int_equal(size_of(FILE_A), -1);
	assert_false(put_attr(cache_ticket(&cache), FILE_A, 1));
	assert_true(put_attr(cache_ticket(&cache), FILE_B, 1));
	edit_also(&e, FILE_A);
	assert_true(edit_end(&e) != 0);
}

static void test_blind_changes(void **state)
{
	uint64_t t = cache_ticket(&cache);
	struct edit e;

	/* The name is not known: any inode may be the one. */
	put_attr(t, FILE_A, 1);
	put_attr(t, FILE_B, 1);
	edit_begin(&e, &cache);
	edit_name(&e, DIR, a, true);
	assert_int_equal(size_of(FILE_A), -1);
	edit_also(&e, FILE_A);
	edit_end(&e);
	assert_int_equal(size_of(FILE_A), -1);
	assert_int_equal(size_of(FILE_B), 1);
	/* Known, but then somebody else moved another file there. */
	cache_put_name(&cache, cache_ticket(&cache), DIR, a, FILE_A);
	edit_begin(&e, &cache);
	edit_name(&e, DIR, a, true);
	assert_int_equal(size_of(FILE_B), 1);
	cache_recall(&cache, DIR);
	cache_recall(&cache, FILE_B);
	assert_false(put_attr(cache_ticket(&cache), FILE_B, 1));
	edit_also(&e, FILE_B);
	assert_int_equal(edit_end(&e), 0);
	assert_true(put_attr(cache_ticket(&cache), FILE_B, 2));
}

static void test_an_unknown_outcome_keeps_the_inode_out(void **state)
{
	struct edit e;

	edit_begin(&e, &cache);
	edit_inode(&e, FILE_A, CACHED_ATTR);
	edit_doubt(&e);
	assert_false(put_attr(cache_ticket(&cache), FILE_A, 1));
	assert_true(put_attr(cache_ticket(&cache), FILE_B, 1));
	/* A name that is not known: it may be any inode that is removed later. */
	edit_begin(&e, &cache);
	edit_name(&e, DIR, a, true);
	edit_doubt(&e);
	assert_int_equal(size_of(FILE_B), -1);
	assert_false(put_attr(cache_ticket(&cache), FILE_B, 1));
}

static void test_a_write_takes_what_is_set(void **state)
{
	uint64_t t = cache_ticket(&cache);
	struct buf value = {0};
	struct edit e;

	cache_put_xattr(&cache, t, FILE_A, a, SLICE_LIT("value"), false);
	cache_put_xattr(&cache, t, FILE_A, b, (struct slice){0}, true);
	edit_begin(&e, &cache);
	edit_inode(&e, FILE_A, CACHED_ATTR | CACHED_DATA | CACHED_XATTRS_SET);
	edit_end(&e);
	assert_int_equal(cache_get_xattr(&cache, FILE_A, a, &value), 0);
	assert_int_equal(cache_get_xattr(&cache, FILE_A, b, &value), ERR_NODATA);
	buf_release(&value);
}

static void test_listing(void **state)
{
	struct buf all = {0}, part = {0};
	struct cache_entry e;
	bool eof = false;
	unsigned n = 0;
	uint64_t cookie = 0;

	assert_int_equal(cache_get_listing(&cache, DIR, 0, 100, &part, &eof), 0);
	for (uint64_t i = 1; i <= 100; i++) {
		char name[16];
		snprintf(name, sizeof(name), "n%d", (int)i);
		/* Two names share each cookie. */
		e = (struct cache_entry){.cookie = (i + 1) / 2, .inode = i, .mode = 0100000,
					 .name = slice_str(name)};
		cache_entry_put(&all, &e);
	}
	assert_true(cache_put_listing(&cache, cache_ticket(&cache), DIR, &all));
	while (!eof) {
		size_t at = 0;
		assert_int_equal(cache_get_listing(&cache, DIR, cookie, 50, &part, &eof), 1);
		while (cache_entry_next(buf_slice(&part), &at, &e)) {
			assert_int_equal(e.inode, ++n);
			cookie = e.cookie;
		}
		assert_int_equal(n % 2, 0);
	}
	assert_int_equal(n, 100);
	/* From the middle, backwards. */
	assert_int_equal(cache_get_listing(&cache, DIR, 10, 1, &part, &eof), 1);
	assert_true(cache_entry_next(buf_slice(&part), &(size_t){0}, &e));
	assert_int_equal(e.inode, 21);
	assert_int_equal(cache_get_listing(&cache, DIR, 50, 1, &part, &eof), 1);
	assert_true(eof && part.len == 0);
	cache_recall(&cache, DIR);
	assert_int_equal(cache_get_listing(&cache, DIR, 0, 100, &part, &eof), 0);
	buf_release(&part);
	buf_release(&all);
}

static void test_locations(void **state)
{
	struct wire_attr attr = {.inode = FILE_A, .size = 7}, got;
	struct location locs[2] = {{.index = 3, .id = 9, .version = 1}, {.index = 4}}, ret[2];
	struct location other = {.index = 3, .id = 9, .version = 2};
	uint64_t t = cache_ticket(&cache);

	assert_false(cache_get_locations(&cache, FILE_A, 3, 1, &got, ret));
	assert_true(cache_put_locations(&cache, t, &attr, locs, 2));
	assert_true(cache_get_locations(&cache, FILE_A, 3, 2, &got, ret));
	assert_int_equal(got.size, 7);
	assert_int_equal(ret[0].id, 9);
	assert_int_equal(ret[1].id, 0);
	assert_false(cache_get_locations(&cache, FILE_A, 4, 2, &got, ret));
	cache_drop_location(&cache, FILE_A, &other);
	assert_true(cache_get_locations(&cache, FILE_A, 3, 1, &got, ret));
	cache_drop_location(&cache, FILE_A, &locs[0]);
	assert_false(cache_get_locations(&cache, FILE_A, 3, 1, &got, ret));
}

static void test_targets_and_xattrs(void **state)
{
	uint64_t t = cache_ticket(&cache);
	struct buf got = {0};

	assert_int_equal(cache_get_target(&cache, FILE_A, &got), 0);
	assert_true(cache_put_target(&cache, t, FILE_A, SLICE_LIT("there")));
	assert_int_equal(cache_get_target(&cache, FILE_A, &got), 1);
	assert_string_equal(buf_str(&got), "there");
	assert_true(cache_put_xattr(&cache, t, FILE_A, a, SLICE_LIT("1"), false));
	assert_true(cache_put_xattr(&cache, t, FILE_A, b, SLICE_LIT(""), true));
	assert_true(cache_put_xattr(&cache, t, FILE_A, SLICE_LIT(""), SLICE_LIT("a\0"), false));
	assert_int_equal(cache_get_xattr(&cache, FILE_A, a, &got), 1);
	assert_string_equal(buf_str(&got), "1");
	assert_int_equal(cache_get_xattr(&cache, FILE_A, b, &got), ERR_NODATA);
	assert_int_equal(cache_get_xattr(&cache, FILE_A, SLICE_LIT(""), &got), 1);
	assert_int_equal(got.len, 2);
	cache_recall(&cache, FILE_A);
	assert_int_equal(cache_get_xattr(&cache, FILE_A, b, &got), 0);
	buf_release(&got);
}

static void test_limits(void **state)
{
	uint64_t t = cache_ticket(&cache);
	unsigned known = 0;

	for (uint64_t i = 1; i <= CACHE_INODES_MAX + 1000; i++)
		assert_true(put_attr(t, i, i));
	for (uint64_t i = 1; i <= CACHE_INODES_MAX + 1000; i++)
		known += size_of(i) >= 0;
	assert_int_equal(known, CACHE_INODES_MAX);
	assert_int_equal(size_of(CACHE_INODES_MAX + 1000), CACHE_INODES_MAX + 1000);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_answers_are_used_until_recalled),
		T(test_an_answer_that_comes_after_the_recall_is_refused),
		T(test_nothing_is_used_after_the_lease_has_run_out),
		T(test_drop_and_stop),
		T(test_own_change_hides_what_was_known),
		T(test_own_change_and_a_recall),
		T(test_two_changes_at_once),
		T(test_a_name_is_made),
		T(test_a_new_directory_is_known_whole),
		T(test_what_a_removed_name_named_is_changed_too),
		T(test_blind_changes),
		T(test_an_unknown_outcome_keeps_the_inode_out),
		T(test_a_write_takes_what_is_set),
		T(test_listing),
		T(test_locations),
		T(test_targets_and_xattrs),
		T(test_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
