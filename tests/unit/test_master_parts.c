/* master: the state's levels, LevelDB below them, command codec, placement. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "master/cmd.h"
#include "master/csreg.h"
#include "master/place.h"
#include "master/store.h"
#include "tests/lib/seed.h"

static struct slice str(const char *s)
{
	return slice_str(s);
}

static const char *get(struct state *st, const char *key, struct buf *b)
{
	return state_get(st, str(key), b) == 1 ? buf_str(b) : NULL;
}

/* "k=v k=v" of all rows with the prefix. */
static const char *rows(struct state *st, const char *prefix, struct buf *b)
{
	struct state_iter *it;
	struct slice k, v;

	buf_clear(b);
	assert_int_equal(state_iter_open(st, str(prefix), (struct slice){0}, &it), 0);
	while (state_iter_next(it, &k, &v) == 1) {
		buf_append_slice(b, k);
		buf_printf(b, "=");
		buf_append_slice(b, v);
		buf_printf(b, " ");
	}
	state_iter_close(it);
	return buf_str(b);
}

static void test_levels_hide_each_other(void **unused)
{
	_cleanup_buf_ struct buf b = {0};
	struct state *st;

	assert_int_equal(state_new(NULL, &st), 0);
	state_begin(st);
	state_put(st, str("a1"), str("old"));
	state_put(st, str("a2"), str("kept"));
	state_put(st, str("a3"), str("gone"));
	assert_int_equal(state_commit(st), 0);
	assert_true(state_freeze(st));
	assert_false(state_freeze(st)); /* one at a time */
	state_begin(st);
	state_put(st, str("a1"), str("new"));
	state_del(st, str("a3"));
	state_put(st, str("b"), str("x"));
	assert_string_equal(rows(st, "a", &b), "a1=new a2=kept ");
	assert_null(get(st, "a3", &b));
	assert_int_equal(state_txn_keys(st), 3);
	state_abort(st);
	assert_string_equal(rows(st, "a", &b), "a1=old a2=kept a3=gone ");
	state_begin(st);
	state_del(st, str("a3"));
	assert_int_equal(state_commit(st), 0);
	assert_null(get(st, "a3", &b));
	assert_string_equal(get(st, "a1", &b), "old");
	state_free(st);
}

static int wake_fd;

static void on_written(void *arg)
{
	uint64_t one = 1;
	assert_int_equal(write(wake_fd, &one, sizeof(one)), sizeof(one));
}

static void push(struct state *st, struct store *store, uint64_t index)
{
	struct pollfd p = {.fd = wake_fd, .events = POLLIN};
	struct err err = {0};
	uint64_t n;

	assert_true(state_freeze(st));
	store_submit(store, st, index);
	assert_int_equal(store_wait_durable(store, index), 0);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(read(wake_fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(store_collect(store, &err), 1);
	state_thaw(st);
}

static void put(struct state *st, const char *key, const char *value)
{
	state_begin(st);
	if (value)
		state_put(st, str(key), str(value));
	else
		state_del(st, str(key));
	assert_int_equal(state_commit(st), 0);
}

static void test_leveldb_below(void **unused)
{
	char dir[] = "/tmp/cairn-test-XXXXXX", db[64], cmd[96];
	_cleanup_buf_ struct buf b = {0};
	struct store *store, *second;
	struct err err = {0};
	struct state *st;

	assert_non_null(mkdtemp(dir));
	snprintf(db, sizeof(db), "%s/db", dir);
	wake_fd = eventfd(0, EFD_NONBLOCK);
	assert_int_equal(store_open(db, STORE_MAKE, 8 << 20, &store, &err), 0);
	assert_int_equal(store_start(store, 0, on_written, NULL, &err), 0);
	assert_int_equal(state_new(store_base(store), &st), 0);
	put(st, "a1", "one");
	put(st, "a2", "two");
	put(st, "a3", "three");
	push(st, store, 3);
	put(st, "a2", NULL);
	put(st, "a25", "between");
	assert_string_equal(rows(st, "a", &b), "a1=one a25=between a3=three ");
	push(st, store, 5);
	assert_int_equal(store_durable(store), 5);
	assert_string_equal(rows(st, "a", &b), "a1=one a25=between a3=three ");
	put(st, "a9", "never written");
	/* Nobody else may open it; the error names it. */
	assert_true(store_open(db, STORE_MAKE, 8 << 20, &second, &err) < 0);
	assert_non_null(strstr(err.text, db));
	state_free(st);
	store_close(store);
	assert_int_equal(store_open(db, STORE_MAKE, 8 << 20, &store, &err), 0);
	assert_int_equal(state_new(store_base(store), &st), 0);
	assert_string_equal(rows(st, "a", &b), "a1=one a25=between a3=three ");
	state_free(st);
	store_close(store);
	close(wake_fd);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	assert_int_equal(system(cmd), 0);
}

static void flip_byte(const char *dir)
{
	char cmd[256];

	/* The table file: rows of the recovered log are in it since the second opening. */
	snprintf(cmd, sizeof(cmd), "f=$(ls '%s'/*.ldb) && printf '\\252' | "
		 "dd of=\"$f\" bs=1 seek=20000 conv=notrunc 2>/dev/null", dir);
	assert_int_equal(system(cmd), 0);
}

static struct store *open_again(const char *db, struct state **ret_st)
{
	struct store *store;
	struct err err = {0};

	if (store_open(db, STORE_EXISTING, 8 << 20, &store, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(state_new(store_base(store), ret_st), 0);
	return store;
}

/* LevelDB's iterator steps over a block that does not read: an emptier directory, a chunk without
 * its members. That must be an error. */
static void test_a_damaged_block_is_no_gap(void **unused)
{
	enum { ROWS = 3000 };
	char dir[] = "/tmp/cairn-test-XXXXXX", db[64], cmd[96];
	struct slice key, value;
	struct state_iter *it;
	struct store *store;
	struct err err = {0};
	struct state *st;
	unsigned n = 0;
	int r;

	assert_non_null(mkdtemp(dir));
	snprintf(db, sizeof(db), "%s/db", dir);
	assert_true(store_open(db, STORE_EXISTING, 8 << 20, &store, &err) < 0);
	assert_int_equal(store_open(db, STORE_NEW, 8 << 20, &store, &err), 0);
	assert_int_equal(state_new(store_base(store), &st), 0);
	for (unsigned i = 0; i < ROWS; i++) {
		char name[16];
		snprintf(name, sizeof(name), "k%08u", i * 2654435761u);
		put(st, name, "a value of some bytes");
	}
	assert_true(state_freeze(st));
	assert_int_equal(store_write(store, st, &err), 0);
	state_free(st);
	store_close(store);
	assert_true(store_open(db, STORE_NEW, 8 << 20, &store, &err) < 0);
	store = open_again(db, &st);
	state_free(st);
	store_close(store);
	flip_byte(db);
	store = open_again(db, &st);
	assert_int_equal(state_iter_open(st, str("k"), (struct slice){0}, &it), 0);
	while ((r = state_iter_next(it, &key, &value)) == 1)
		n++;
	assert_int_equal(r, ERR_CORRUPT);
	assert_true(n > 0 && n < ROWS);
	state_iter_close(it);
	state_free(st);
	store_close(store);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	assert_int_equal(system(cmd), 0);
}

static void test_commands_round_trip(void **unused)
{
	_cleanup_buf_ struct buf b = {0}, text = {0};
	struct cmd_chunk_raised in = {.chunk = 9, .new_version = 4, .n_members = 2, .cut = 77,
				      .members = {{.server = 3}, {.server = 5}}}, out;
	struct when now = {.sec = 12, .nsec = 34};
	struct cmd_head head;
	struct cursor body;
	uint16_t number;

	assert_int_equal(cmd_put(&b, CMD_NUMBER_CHUNK_RAISED, now, &in), 0);
	assert_int_equal(b.len % 8, 0);
	assert_int_equal(cmd_get(buf_slice(&b), &number, &head, &body, NULL), 0);
	assert_int_equal(number, CMD_NUMBER_CHUNK_RAISED);
	assert_int_equal(head.time.nsec, 34);
	assert_int_equal(cmd_chunk_raised_get(&body, &out), 0);
	assert_int_equal(out.members[1].server, 5);
	assert_int_equal(out.cut, 77);
	cmd_text(&text, buf_slice(&b));
	assert_non_null(strstr(buf_str(&text), "CHUNK_RAISED time=12.000000034 chunk=9"));
	for (size_t n = 0; n < b.len; n++) {
		buf_clear(&text);
		cmd_text(&text, slice_of(b.data, n)); /* must not crash */
	}
}

static uint64_t rng_state;
static uint64_t next_random(void *arg)
{
	uint64_t z = rng_state += 0x9e3779b97f4a7c15ULL;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static void test_placement_spreads(void **unused)
{
	enum { ROUNDS = 3000 };
	unsigned big = 0, small = 0;

	rng_state = test_seed();
	for (int i = 0; i < ROUNDS; i++) {
		struct place_server s[] = {
			{.id = 1, .free_bytes = 300ull << 30, .rack = "a", .host = "h1"},
			{.id = 2, .free_bytes = 100ull << 30, .rack = "a", .host = "h2"},
			{.id = 3, .free_bytes = 100ull << 30, .rack = "b", .host = "h3"},
			{.id = 4, .free_bytes = 100ull << 30, .rack = "b", .host = "h3"},
			{.id = 5, .free_bytes = 0, .rack = "c", .host = "h5"},
		};
		uint32_t ret[5];
		bool rack_a, rack_b, h3_twice;
		assert_int_equal(place_choose(s, 5, 2, next_random, NULL, ret), 2);
		rack_a = ret[0] <= 2 || ret[1] <= 2;
		rack_b = ret[0] >= 3 || ret[1] >= 3;
		assert_true(rack_a && rack_b); /* two racks */
		assert_true(ret[0] != 5 && ret[1] != 5); /* no room */
		big += ret[0] == 1;
		small += ret[0] == 2;
		for (unsigned j = 0; j < 5; j++)
			s[j].used = false;
		assert_int_equal(place_choose(s, 5, 3, next_random, NULL, ret), 3);
		h3_twice = (ret[0] >= 3) + (ret[1] >= 3) + (ret[2] >= 3) > 1;
		assert_false(h3_twice); /* three hosts before one twice */
		for (unsigned j = 0; j < 5; j++)
			s[j].used = false;
		assert_int_equal(place_choose(s, 5, 5, next_random, NULL, ret), 4);
	}
	/* About three to one by free space: far from both one to one and one to none. */
	assert_true(big > 2 * small && small > 0);
}

/* Absent is who was blamed and whose heartbeat is overdue; neither alone, and not for an error that
 * says nothing about the server as a whole. */
static void test_blame(void **unused)
{
	struct csreg reg;
	struct cs *cs;

	csreg_init(&reg, 5000);
	reg.overdue_ms = 1100;
	cs = csreg_add(&reg, 7);
	assert_non_null(cs);
	assert_true(cs_absent(&reg, cs)); /* down */
	cs->state = SERVER_UP;
	cs->seen_ms = clock_ms() - 2000;
	assert_false(cs_absent(&reg, cs));
	csreg_blame(&reg, 7, ERR_CHECKSUM);
	csreg_blame(&reg, 8, ERR_UNREACHABLE); /* nobody */
	assert_false(cs_blamed(cs));
	csreg_blame(&reg, 7, ERR_UNREACHABLE);
	assert_true(cs_blamed(cs));
	assert_true(cs_absent(&reg, cs));
	cs->seen_ms = clock_ms() + 1; /* it is heard of */
	assert_false(cs_blamed(cs) || cs_absent(&reg, cs));
	/* One client is cut off: the server's heartbeats come. */
	cs->seen_ms = clock_ms() - 500;
	csreg_blame(&reg, 7, ERR_TIMEOUT);
	assert_true(cs_blamed(cs));
	assert_false(cs_absent(&reg, cs));
	csreg_free(&reg);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels_hide_each_other),
		cmocka_unit_test(test_leveldb_below),
		cmocka_unit_test(test_a_damaged_block_is_no_gap),
		cmocka_unit_test(test_commands_round_trip),
		cmocka_unit_test(test_placement_spreads),
		cmocka_unit_test(test_blame),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
