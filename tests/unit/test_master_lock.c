/* master: locks on files. Lists of ranges against a model of single bytes, the lock command,
 * sessions that end, circles of those who wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <utlist.h>

#include "common/cleanup.h"
#include "master/lock.h"
#include "master/schema_check.h"
#include "tests/unit/sample_state.h"

enum { BYTES = 64, ROUNDS = 20000, LOCKED = SAMPLE_SUB };

static struct sample sample;
static struct apply_result result;
static uint64_t seq = 1000;

static uint64_t random_next(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return *state >> 33;
}

static void list_is_model(const struct lock_list *l, const uint8_t *model)
{
	uint8_t seen[BYTES] = {0};

	for (unsigned i = 0; i < l->n; i++) {
		const struct lock_range *r = &l->ranges[i];
		assert_true(r->start <= r->end && r->end < BYTES && r->type != LOCK_FREE);
		assert_true(i == 0 || r[-1].end < r->start);
		assert_false(i > 0 && r[-1].end + 1 == r->start && r[-1].type == r->type);
		for (uint64_t b = r->start; b <= r->end; b++)
			seen[b] = r->type;
	}
	assert_memory_equal(seen, model, BYTES);
}

static void test_list_against_bytes(void **state)
{
	uint8_t model[BYTES] = {0};
	struct lock_list l = {0};
	uint64_t seed = 4711;

	for (int i = 0; i < ROUNDS; i++) {
		_cleanup_buf_ struct buf bytes = {0};
		uint64_t a = random_next(&seed) % BYTES, b = random_next(&seed) % BYTES;
		struct lock_range want = {a < b ? a : b, a < b ? b : a,
					  (uint8_t)(random_next(&seed) % 3)};
		bool weaker, expected = false;
		for (uint64_t at = want.start; at <= want.end; at++) {
			expected |= model[at] > want.type;
			model[at] = want.type;
		}
		assert_int_equal(lock_list_set(&l, want, &weaker), 0);
		assert_int_equal(weaker, expected);
		list_is_model(&l, model);
		lock_list_put(&l, &bytes);
		lock_list_release(&l);
		assert_int_equal(lock_list_get(buf_slice(&bytes), &l), 0);
		list_is_model(&l, model);
	}
	lock_list_release(&l);
}

static void test_list_ends(void **state)
{
	struct lock_list l = {0};
	bool weaker;

	assert_int_equal(lock_list_set(&l, (struct lock_range){0, UINT64_MAX, LOCK_SHARED},
				       &weaker), 0);
	assert_int_equal(lock_list_set(&l, (struct lock_range){5, UINT64_MAX, LOCK_EXCLUSIVE},
				       &weaker), 0);
	assert_int_equal(l.n, 2);
	assert_int_equal(lock_list_set(&l, (struct lock_range){0, 4, LOCK_EXCLUSIVE}, &weaker), 0);
	assert_int_equal(l.n, 1);
	assert_false(weaker);
	assert_int_equal(lock_list_set(&l, (struct lock_range){0, UINT64_MAX, LOCK_FREE},
				       &weaker), 0);
	assert_int_equal(l.n, 0);
	assert_true(weaker);
	lock_list_release(&l);
	assert_int_equal(lock_list_get(SLICE_LIT("short"), &l), ERR_CORRUPT);
}

/* ---- the command ---- */

static int run(uint16_t number, const void *m)
{
	_cleanup_buf_ struct buf entry = {0};
	struct err err = {0};

	apply_result_release(&result);
	assert_int_equal(cmd_put(&entry, number, (struct when){.sec = 5000}, m), 0);
	if (apply_entry(sample.st, ++sample.index, buf_slice(&entry), &result, &err) != 0)
		fail_msg("%s", err.text);
	return result.status;
}

static uint64_t session_new(uint64_t nonce)
{
	struct cmd_session_open m = {.req = {.nonce = nonce, .name = SLICE_LIT("test")}};
	struct wire_session rep;
	struct cursor c;

	assert_int_equal(run(CMD_NUMBER_SESSION_OPEN, &m), 0);
	c = cursor_slice(buf_slice(&result.reply));
	assert_int_equal(wire_session_get(&c, &rep), 0);
	return rep.session;
}

/* 1 granted, 0 not, or the refusal. */
static int lock_kind(uint64_t session, uint64_t owner, uint8_t kind, uint8_t type, uint64_t start,
		     uint64_t end)
{
	struct cmd_lock m = {.req = {.inode = LOCKED, .owner = owner, .kind = kind,
				     .type = type, .start = start, .end = end, .pid = 7}};
	struct wire_lock_reply rep;
	struct cursor c;
	int r;

	m.req.id = (struct wire_opid){.session = session, .seq = ++seq, .floor = seq};
	r = run(CMD_NUMBER_LOCK, &m);
	if (r < 0)
		return r;
	c = cursor_slice(buf_slice(&result.reply));
	assert_int_equal(wire_lock_reply_get(&c, &rep), 0);
	return rep.granted;
}

static int lock(uint64_t session, uint64_t owner, uint8_t type, uint64_t start, uint64_t end)
{
	return lock_kind(session, owner, LOCK_RANGE, type, start, end);
}

static void sound(void)
{
	_cleanup_buf_ struct buf report = {0};

	if (schema_check(sample.st, &report, 10) != 0)
		fail_msg("%s", buf_str(&report));
}

static int setup(void **state)
{
	sample_new(&sample);
	return 0;
}

static int teardown(void **state)
{
	apply_result_release(&result);
	state_free(sample.st);
	return 0;
}

static void test_command(void **state)
{
	uint64_t a = session_new(1001), b = session_new(1002);

	assert_int_equal(lock(a, 1, LOCK_SHARED, 0, 99), 1);
	assert_int_equal(lock(b, 1, LOCK_SHARED, 50, 149), 1);
	assert_int_equal(lock(b, 1, LOCK_EXCLUSIVE, 99, 99), 0);
	assert_int_equal(lock(b, 1, LOCK_EXCLUSIVE, 100, 200), 1);
	assert_int_equal(lock(a, 1, LOCK_EXCLUSIVE, 0, 49), 1);
	assert_int_equal(lock(a, 2, LOCK_SHARED, 49, 49), 0); /* an owner of the same session */
	assert_int_equal(lock(a, 1, LOCK_FREE, 10, 49), 1);
	assert_true(result.unlocked);
	assert_int_equal(result.unlocked_inode, LOCKED);
	assert_int_equal(lock(a, 2, LOCK_EXCLUSIVE, 10, 49), 1);
	assert_false(result.unlocked);
	sound();
	assert_int_equal(lock(a, 1, LOCK_SHARED, 5, 4), ERR_INVAL);
	assert_int_equal(lock(a, 1, 3, 0, 4), ERR_INVAL);
	/* flock does not see fcntl's, and loses its old lock when it cannot have the new one. */
	assert_int_equal(lock_kind(a, 9, LOCK_WHOLE, LOCK_SHARED, 0, UINT64_MAX), 1);
	assert_int_equal(lock_kind(b, 9, LOCK_WHOLE, LOCK_SHARED, 0, UINT64_MAX), 1);
	assert_int_equal(lock_kind(b, 9, LOCK_WHOLE, LOCK_EXCLUSIVE, 0, UINT64_MAX), 0);
	assert_int_equal(lock_kind(a, 9, LOCK_WHOLE, LOCK_EXCLUSIVE, 0, UINT64_MAX), 1);
	sound();
}

static void test_session_end(void **state)
{
	uint64_t a = session_new(1001), b = session_new(1002);
	struct cmd_session_close close = {.session = a};
	struct cmd_closed rep = {.more = 1};
	bool unlocked = false;

	for (uint64_t owner = 1; owner <= 500; owner++)
		assert_int_equal(lock(a, owner, LOCK_SHARED, 0, 10), 1);
	assert_int_equal(lock(b, 1, LOCK_EXCLUSIVE, 0, 0), 0);
	while (rep.more) {
		assert_int_equal(run(CMD_NUMBER_SESSION_CLOSE, &close), 0);
		struct cursor c = cursor_slice(buf_slice(&result.reply));
		assert_int_equal(cmd_closed_get(&c, &rep), 0);
		unlocked |= result.unlocked && result.unlocked_inode == 0;
	}
	assert_true(unlocked);
	assert_int_equal(lock(b, 1, LOCK_EXCLUSIVE, 0, 0), 1);
	sound();
}

static void test_limits(void **state)
{
	uint64_t a = session_new(1001);
	int r = 1;
	uint64_t i;

	for (i = 0; r == 1; i++)
		r = lock(a, 1, LOCK_SHARED, 2 * i, 2 * i);
	assert_int_equal(r, ERR_NOLCK);
	assert_int_equal(i, LOCK_RANGES_MAX + 1);
	assert_int_equal(lock(a, 1, LOCK_EXCLUSIVE, 0, UINT64_MAX), 1);
	assert_int_equal(lock(a, 1, LOCK_FREE, 0, UINT64_MAX), 1);
	sound();
}

/* ---- appending ---- */

static int append(uint64_t session, uint8_t type, uint64_t *ret_end)
{
	struct cmd_lock m = {.req = {.inode = SAMPLE_FILE, .kind = LOCK_APPEND, .type = type,
				     .end = UINT64_MAX}};
	struct wire_lock_reply rep;
	struct cursor c;

	m.req.id = (struct wire_opid){.session = session, .seq = ++seq, .floor = seq};
	assert_int_equal(run(CMD_NUMBER_LOCK, &m), 0);
	c = cursor_slice(buf_slice(&result.reply));
	assert_int_equal(wire_lock_reply_get(&c, &rep), 0);
	*ret_end = rep.attr.size;
	return rep.granted;
}

static int wrote(uint64_t session, uint64_t offset, uint64_t end, uint8_t flags)
{
	struct cmd_wrote m = {.req = {.inode = SAMPLE_FILE, .offset = offset, .end = end,
				      .flags = flags}};

	m.req.id = (struct wire_opid){.session = session, .seq = ++seq, .floor = seq};
	return run(CMD_NUMBER_WROTE, &m);
}

static uint64_t change_of(uint64_t inode)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;

	assert_int_equal(state_get_row_inode(sample.st, key_inode(inode), &row, &backing), 1);
	return row.change;
}

static void test_append(void **state)
{
	uint64_t a = session_new(1001), b = session_new(1002), end, at, change;
	const uint8_t both = WROTE_APPEND | WROTE_APPEND_END;
	struct cmd_chunk_make chunk = {.n_members = 1, .members = {{.server = 1}}};

	assert_int_equal(append(a, LOCK_EXCLUSIVE, &at), 1);
	assert_int_equal(append(b, LOCK_EXCLUSIVE, &end), 0);
	assert_int_equal(wrote(b, at, at + 10, both), ERR_AGAIN); /* not its turn */
	assert_int_equal(wrote(a, at - 1, at + 9, both), ERR_AGAIN); /* not the end */
	chunk.req = (struct wire_chunk_for_write){.inode = SAMPLE_FILE, .index = at >> 26};
	chunk.req.id = (struct wire_opid){.session = a, .seq = ++seq, .floor = seq};
	assert_int_equal(run(CMD_NUMBER_CHUNK_MAKE, &chunk), 0);
	assert_int_equal(wrote(a, at, at + 10, WROTE_APPEND), 0);
	assert_int_equal(append(b, LOCK_EXCLUSIVE, &end), 0);
	assert_int_equal(wrote(a, at + 10, at + 20, both), 0);
	assert_true(result.unlocked);
	assert_int_equal(append(b, LOCK_EXCLUSIVE, &end), 1);
	assert_int_equal(end, at + 20);
	sound();
	/* Given up: the last chunk, which ends inside, is cut where the file ends. */
	change = change_of(SAMPLE_FILE);
	assert_int_equal(append(b, LOCK_FREE, &end), 1);
	assert_int_equal(result.n_raises, 1);
	assert_int_equal(change_of(SAMPLE_FILE), change + 1);
	sound();
}

/* A session that dies while it appends: the same. */
static void test_append_session_end(void **state)
{
	uint64_t a = session_new(1001), b = session_new(1002), end, change;
	struct cmd_session_close close = {.session = a};
	struct cmd_closed rep = {.more = 1};

	assert_int_equal(append(a, LOCK_EXCLUSIVE, &end), 1);
	assert_int_equal(lock(a, 1, LOCK_SHARED, 0, 10), 1);
	change = change_of(SAMPLE_FILE);
	while (rep.more) {
		assert_int_equal(run(CMD_NUMBER_SESSION_CLOSE, &close), 0);
		struct cursor c = cursor_slice(buf_slice(&result.reply));
		assert_int_equal(cmd_closed_get(&c, &rep), 0);
	}
	assert_int_equal(change_of(SAMPLE_FILE), change + 1);
	assert_int_equal(append(b, LOCK_EXCLUSIVE, &end), 1);
	sound();
}

/* ---- circles ---- */

static struct lock_waiter waiters[8];
static struct lock_waiter *waiting;

static struct lock_claim claim(uint64_t session, uint64_t owner, uint64_t at)
{
	return (struct lock_claim){.session = session, .inode = LOCKED, .owner = owner,
				   .kind = LOCK_RANGE, .range = {at, at, LOCK_EXCLUSIVE}};
}

static void waits(int i, struct lock_claim c)
{
	waiters[i] = (struct lock_waiter){.claim = c};
	DL_APPEND(waiting, &waiters[i]);
}

static void test_deadlock(void **state)
{
	uint64_t a = session_new(1001), b = session_new(1002);
	struct lock_claim last = claim(a, 1, 2), ofd;
	struct lock_holder holder;

	waiting = NULL;
	assert_int_equal(lock(a, 1, LOCK_EXCLUSIVE, 0, 0), 1);
	assert_int_equal(lock(b, 1, LOCK_EXCLUSIVE, 1, 1), 1);
	assert_int_equal(lock(b, 2, LOCK_EXCLUSIVE, 2, 2), 1);
	waits(0, claim(b, 1, 0)); /* b/1 for a/1 */
	assert_int_equal(lock_deadlock(sample.st, waiting, &last), 0);
	waits(1, claim(b, 2, 1)); /* b/2 for b/1: the circle a/1, b/2, b/1 */
	assert_int_equal(lock_deadlock(sample.st, waiting, &last), 1);
	ofd = last;
	ofd.flags = LOCK_NO_DEADLOCK;
	assert_int_equal(lock_deadlock(sample.st, waiting, &ofd), 0);
	waiters[1].claim.flags = LOCK_NO_DEADLOCK;
	assert_int_equal(lock_deadlock(sample.st, waiting, &last), 0);
	assert_int_equal(lock_blocker(sample.st, &last, &holder), 1);
	assert_true(holder.session == b && holder.owner == 2 && holder.pid == 7 &&
		    holder.range.start == 2 && holder.range.type == LOCK_EXCLUSIVE);
	assert_int_equal(lock(b, 2, LOCK_FREE, 2, 2), 1);
	assert_int_equal(lock_blocker(sample.st, &last, &holder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list_against_bytes),
		cmocka_unit_test(test_list_ends),
		cmocka_unit_test_setup_teardown(test_command, setup, teardown),
		cmocka_unit_test_setup_teardown(test_session_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_append, setup, teardown),
		cmocka_unit_test_setup_teardown(test_append_session_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadlock, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
