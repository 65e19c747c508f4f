/* client: the parts without sockets: opid window, pieces, paths, the inode table and its rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "client/inode.h"
#include "client/opids.h"
#include "client/pieces.h"
#include "client/walk.h"

/* ---- opids ---- */

static void test_opids_floor(void **state)
{
	struct opids o;
	uint64_t a, b, c;

	opids_init(&o);
	assert_true(opids_take(&o, &a));
	assert_true(opids_take(&o, &b));
	assert_true(opids_take(&o, &c));
	assert_int_equal(a, 1);
	assert_int_equal(c, 3);
	assert_int_equal(o.floor, 1);
	/* The middle one first: the floor stays at the oldest without an answer. */
	assert_false(opids_done(&o, b));
	assert_int_equal(o.floor, 1);
	assert_true(opids_done(&o, a));
	assert_int_equal(o.floor, 3);
	assert_true(opids_done(&o, c));
	assert_int_equal(o.floor, o.next);
}

static void test_opids_window(void **state)
{
	struct opids o;
	uint64_t seq, first;

	opids_init(&o);
	assert_true(opids_take(&o, &first));
	for (int i = 1; i < SESSION_WINDOW_MAX; i++) {
		assert_true(opids_take(&o, &seq));
		opids_done(&o, seq);
	}
	/* One old operation without an answer holds up the window, however many are done. */
	assert_false(opids_take(&o, &seq));
	assert_true(opids_done(&o, first));
	assert_int_equal(o.floor, SESSION_WINDOW_MAX + 1);
	/* The bits of the last round do not count in the next one. */
	for (int i = 0; i < SESSION_WINDOW_MAX; i++)
		assert_true(opids_take(&o, &seq));
	assert_int_equal(o.floor, SESSION_WINDOW_MAX + 1);
	assert_false(opids_take(&o, &seq));
}

/* ---- pieces ---- */

static void test_pieces(void **state)
{
	struct piece p[PIECES_MAX];
	unsigned n = pieces_split(p, 100, 3 << 20);

	assert_int_equal(n, 4);
	assert_int_equal(p[0].len, DATA_BYTES_MAX - 100);
	assert_int_equal(p[1].offset, DATA_BYTES_MAX);
	assert_int_equal(p[1].at, DATA_BYTES_MAX - 100);
	assert_int_equal(p[1].len, DATA_BYTES_MAX);
	assert_int_equal(p[3].offset + p[3].len, 100 + (3 << 20));
	assert_int_equal(p[3].len, 100);
	assert_int_equal(pieces_split(p, 0, 1 << CHUNK_BITS_MAX), PIECES_MAX);
	assert_int_equal(pieces_split(p, 5, 0), 0);
	assert_int_equal(pieces_split(p, (1 << CHUNK_BITS_MAX) - 1, 1), 1);
	assert_int_equal(p[0].len, 1);
}

static void test_spans(void **state)
{
	struct span s = span_first((5ULL << 16) + 10, 1 << 20, 16);

	assert_int_equal(s.index, 5);
	assert_int_equal(s.offset, 10);
	assert_int_equal(s.len, (1 << 16) - 10);
	s = span_first(FILE_BYTES_MAX - 1, 1, CHUNK_BITS_MAX);
	assert_int_equal(s.index, FILE_BYTES_MAX >> CHUNK_BITS_MAX);
	assert_int_equal(s.len, 1);
}

/* ---- paths ---- */

static void assert_step(const char **path, const char *name, bool last, bool slash)
{
	struct walk_step step = walk_next(path);

	assert_int_equal(step.name.len, strlen(name));
	assert_memory_equal(step.name.data, name, step.name.len);
	assert_int_equal(step.last, last);
	assert_int_equal(step.slash, slash);
}

static void test_walk_next(void **state)
{
	const char *p = "//usr///lib/";

	assert_step(&p, "usr", false, true);
	assert_step(&p, "lib", true, true);
	assert_step(&p, "", true, false);
	p = "a";
	assert_step(&p, "a", true, false);
	p = "///";
	assert_int_equal(walk_next(&p).name.len, 0);
}

static void test_walk_splice(void **state)
{
	static char big[WALK_PATH_MAX], buf[3 * WALK_PATH_MAX];

	strcpy(buf, "link/rest/of/it");
	assert_int_equal(walk_splice(buf, "../target", buf + 4), 0);
	assert_string_equal(buf, "../target/rest/of/it");
	memset(big, 'x', sizeof(big) - 1);
	strcpy(buf, big);
	assert_int_equal(walk_splice(buf, big, buf), 0);
	assert_int_equal(walk_splice(buf, big, buf), 0);
	assert_int_equal(strlen(buf), 3 * (WALK_PATH_MAX - 1));
	assert_int_equal(walk_splice(buf, "1234", buf), ERR_NAMETOOLONG);
}

/* ---- the inode table ---- */

static void test_inodes_hold(void **state)
{
	struct inodes t;
	struct inode *a, *b;

	inodes_init(&t);
	assert_false(inodes_any_open(&t));
	a = inode_open(&t, 7, 26, false);
	assert_ptr_equal(inode_open(&t, 7, 26, false), a);
	assert_true(inodes_any_open(&t));
	assert_null(inode_find(&t, 8));
	b = inode_find(&t, 7);
	assert_ptr_equal(b, a);
	inode_hold(&t, a, true);
	assert_false(inode_close(&t, a));
	assert_false(inode_close(&t, a));
	assert_true(inode_close(&t, a)); /* the last one: RELEASE */
	assert_null(inode_find(&t, 7));
	assert_false(inodes_any_open(&t));
	inodes_release(&t);
}

/* A file that loses a name and keeps another one keeps what is dirty; of one that is gone nothing. */
static void test_inodes_that_lose_a_name(void **state)
{
	struct dirty *list;
	struct inodes t;
	struct inode *i;
	uint64_t all;
	size_t n;

	inodes_init(&t);
	for (int gone = 0; gone < 2; gone++) {
		i = inode_open(&t, 7, 26, true);
		inode_dirty_mark(i, 3, 1, 1);
		inode_hold(&t, i, gone);
		assert_true(inode_close(&t, i));
		i = inode_open(&t, 7, 26, false);
		assert_int_equal(inode_dirty_list(i, &list, &n, &all), 0);
		assert_int_equal(n, gone ? 0 : 1);
		if (n)
			inode_clean(i, &list[0]);
		free(list);
		assert_false(inode_close(&t, i)); /* RELEASE was said */
	}
	inodes_release(&t);
}

/* The lowest version counts, of the chunk that is there now. */
static void test_inodes_remember_versions(void **state)
{
	struct dirty *list;
	struct inodes t;
	struct inode *i;
	uint64_t all;
	size_t n;

	inodes_init(&t);
	i = inode_open(&t, 7, 26, true);
	inode_dirty_mark(i, 0, 100, 4);
	inode_dirty_mark(i, 0, 100, 2);
	inode_dirty_mark(i, 0, 100, 9);
	inode_dirty_mark(i, 1, 101, 5);
	inode_dirty_mark(i, 1, 102, 7);
	assert_int_equal(inode_dirty_list(i, &list, &n, &all), 0);
	assert_int_equal(n, 2);
	assert_int_equal(list[0].chunk, 100);
	assert_int_equal(list[0].version, 2);
	assert_int_equal(list[1].chunk, 102);
	assert_int_equal(list[1].version, 7);
	inode_clean(i, &list[0]);
	inode_clean(i, &list[1]);
	free(list);
	inode_close(&t, i);
	inodes_release(&t);
}

static void test_inodes_remember_dirty(void **state)
{
	struct inodes t;
	struct inode *i;
	struct dirty *list;
	uint64_t all;
	size_t n;

	inodes_init(&t);
	i = inode_open(&t, 7, 26, true);
	inode_dirty_mark(i, 9, 1, 1);
	inode_dirty_mark(i, 3, 1, 1);
	inode_dirty_mark(i, 9, 1, 1);
	inode_close(&t, i);
	assert_null(inode_find(&t, 7)); /* closed, but not forgotten */
	i = inode_open(&t, 7, 26, false);
	assert_int_equal(inode_dirty_list(i, &list, &n, &all), 0);
	assert_int_equal(n, 2);
	assert_int_equal(all, 0);
	assert_int_equal(list[0].index, 3);
	assert_int_equal(list[1].index, 9);
	/* Written again during the sync: it stays dirty. */
	inode_dirty_mark(i, 3, 1, 1);
	inode_clean(i, &list[0]);
	inode_clean(i, &list[1]);
	free(list);
	assert_int_equal(inode_dirty_list(i, &list, &n, &all), 0);
	assert_int_equal(n, 1);
	assert_int_equal(list[0].index, 3);
	free(list);
	inode_close(&t, i);
	/* More closed dirty ones than are kept: from then on an unknown file counts as dirty. */
	for (uint64_t k = 100; k < 100 + INODES_CLOSED_MAX + 1; k++) {
		i = inode_open(&t, k, 26, true);
		inode_dirty_mark(i, 0, 1, 1);
		inode_close(&t, i);
	}
	i = inode_open(&t, 7, 26, false);
	assert_int_equal(inode_dirty_list(i, &list, &n, &all), 0);
	assert_int_equal(n, 0);
	assert_int_not_equal(all, 0);
	inode_clean_all(i, all);
	assert_int_equal(inode_dirty_list(i, &list, &n, &all), 0);
	assert_int_equal(all, 0);
	inode_close(&t, i);
	inodes_release(&t);
}

static struct location at(uint64_t index, uint64_t id)
{
	return (struct location){.index = index, .id = id, .version = 1, .n_replicas = 1};
}

static bool cached(struct inode *i, uint64_t index)
{
	struct location loc;
	uint64_t since;
	return inode_location_get(i, index, &loc, &since);
}

/* A chmod between a write's location and its WROTE makes nobody ask where the chunk is. */
static void test_location_own_attributes(void **state)
{
	struct inodes t;
	struct inode *i;
	struct location a = at(0, 100);

	inodes_init(&t);
	i = inode_open(&t, 7, 16, true);
	inode_location_put(i, &a, 10);
	inode_changed(i, 11);
	assert_true(inode_wrote(i, 10, 12));
	assert_true(cached(i, 0));
	/* Somebody else's is not explained by it: 14 is ours, 13 is not. */
	inode_changed(i, 14);
	assert_false(inode_wrote(i, 12, 15));
	assert_false(cached(i, 0));
	inode_close(&t, i);
	inodes_release(&t);
}

/* The rule at the top of client/inode.h. */
static void test_location_rule(void **state)
{
	struct inodes t;
	struct inode *i;
	struct location a = at(0, 100), b = at(1, 101), got;
	uint64_t since;

	inodes_init(&t);
	i = inode_open(&t, 7, 16, true);
	inode_location_put(i, &a, 10);
	assert_true(inode_location_get(i, 0, &got, &since));
	assert_int_equal(got.id, 100);
	assert_int_equal(since, 10);
	/* Our own changes keep it right, and other answers of the same state join it. */
	assert_true(inode_wrote(i, since, 11));
	assert_true(inode_location_get(i, 0, &got, &since));
	assert_int_equal(since, 11);
	inode_location_put(i, &b, 11);
	assert_true(cached(i, 0));
	/* Two writers of this session, answered in the wrong order: the second knows only after
	 * the first; what it cannot explain it must check. */
	assert_false(inode_wrote(i, 11, 13));
	assert_false(cached(i, 0));
	assert_true(inode_wrote(i, 11, 12));
	assert_true(inode_wrote(i, 11, 13));
	/* A foreign change between: 15 is ours, 14 is not. */
	inode_location_put(i, &a, 13);
	inode_location_put(i, &b, 13);
	assert_false(inode_wrote(i, 13, 15));
	assert_false(cached(i, 0));
	assert_false(cached(i, 1));
	/* A newer answer shows a foreign change: what was cached goes. */
	inode_location_put(i, &a, 15);
	inode_location_put(i, &b, 20);
	assert_false(cached(i, 0));
	assert_true(cached(i, 1));
	/* An older answer that arrives late does not join newer ones. */
	inode_location_put(i, &a, 17);
	assert_false(cached(i, 0));
	assert_true(cached(i, 1));
	inode_locations_cut(i, 1);
	assert_false(cached(i, 1));
	inode_location_put(i, &a, 20);
	b = a;
	b.version = 2;
	inode_location_drop(i, &b); /* another version of it: not the one meant */
	assert_true(cached(i, 0));
	inode_location_drop(i, &a);
	assert_false(cached(i, 0));
	inode_close(&t, i);
	inodes_release(&t);
}

static void test_location_limits(void **state)
{
	struct inodes t;
	struct inode *i;
	struct wire_chunk w = {.id = 1, .version = 2, .n_replicas = 2};
	struct location loc;
	char addr[ADDR_BYTES_MAX + 1];

	inodes_init(&t);
	i = inode_open(&t, 7, 16, true);
	for (uint64_t k = 0; k <= INODE_LOCATIONS_MAX; k++) {
		loc = at(k, k + 1);
		inode_location_put(i, &loc, 1);
	}
	assert_false(cached(i, 0)); /* the oldest made room */
	assert_true(cached(i, INODE_LOCATIONS_MAX));
	inode_close(&t, i);
	inodes_release(&t);

	w.replicas[0].addr = SLICE_LIT("");
	w.replicas[1] = (struct wire_replica){.server = 5, .addr = SLICE_LIT("h:1")};
	assert_int_equal(location_from_wire(&loc, &w, NULL), 0);
	assert_int_equal(loc.n_replicas, 1);
	assert_int_equal(loc.replicas[0].server, 5);
	assert_string_equal(location_addr(&loc, 5), "h:1");
	assert_string_equal(location_addr(&loc, 6), "?");
	memset(addr, 'a', sizeof(addr));
	w.replicas[0].addr = slice_of(addr, sizeof(addr));
	assert_int_equal(location_from_wire(&loc, &w, NULL), ERR_PROTOCOL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_opids_floor),
		cmocka_unit_test(test_opids_window),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_spans),
		cmocka_unit_test(test_walk_next),
		cmocka_unit_test(test_walk_splice),
		cmocka_unit_test(test_inodes_hold),
		cmocka_unit_test(test_inodes_remember_dirty),
		cmocka_unit_test(test_inodes_that_lose_a_name),
		cmocka_unit_test(test_inodes_remember_versions),
		cmocka_unit_test(test_location_rule),
		cmocka_unit_test(test_location_own_attributes),
		cmocka_unit_test(test_location_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
