/* master: garbage that is given time, and a restored state that is held; without sockets or real
 * time (tests/lib/fake_master.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "common/log.h"
#include "master/schema_check.h"
#include "tests/lib/fake_master.h"
#include "tests/unit/sample_state.h"

enum { SERVERS = 4, GRACE_S = 100, DEAD_MS = 5000, UNKNOWN = 100000 };

static struct master m;
static struct peer peers[SERVERS + 1];
static uint64_t deleted[20000]; /* chunk ids, in the order of deletion */
static unsigned n_deleted;

/* A chunkserver: deletes what it is asked to, and says so at the end of the step. */
static struct buf asked[SERVERS + 1];

static void on_send(struct peer *peer, const struct buf *message)
{
	struct wire_header h;

	assert_int_equal(wire_header_get(message->data, &h, NULL), 0);
	if (h.op != OP_CHUNK_DELETE)
		return; /* raises that go on: not answered here */
	buf_clear(&asked[peer - peers]);
	buf_append_slice(&asked[peer - peers], buf_slice(message));
}

static void answer(uint32_t server)
{
	struct buf *message = &asked[server];
	struct wire_header h;
	struct wire_chunk_delete req;
	struct cursor c, item;

	if (message->len == 0)
		return;
	assert_int_equal(wire_header_get(message->data, &h, NULL), 0);
	c = cursor_of(message->data + WIRE_HEADER_BYTES, message->len - WIRE_HEADER_BYTES);
	assert_int_equal(wire_chunk_delete_get(&c, &req), 0);
	c = cursor_slice(req.have);
	while (wire_list_next(&c, &item) == 1) {
		struct wire_have have;
		assert_int_equal(wire_have_get(&item, &have), 0);
		deleted[n_deleted++] = have.id;
	}
	h.flags = WIRE_REPLY;
	buf_clear(message);
	cs_reply(csreg_find(&m.servers, server), &h, (struct slice){0});
}

static void step(void)
{
	fake_ms += MASTER_TICK_MS;
	garbage_tick(&m);
	hold_tick(&m);
	for (uint32_t s = 1; s <= SERVERS; s++)
		answer(s);
	while (fake_log_commit())
		;
}

static void run(int64_t ms)
{
	for (int64_t end = fake_ms + ms; fake_ms < end;)
		step();
}

static void propose(uint16_t number, const void *record)
{
	master_propose_quietly(&m, number, record);
	while (fake_log_commit())
		;
}

static struct row_meta meta_now(void)
{
	static struct buf backing;
	struct row_meta meta;
	assert_int_equal(ns_meta(m.st, &meta, &backing), 0);
	return meta;
}

/* The state of the sample, with room for ids of unknown chunks. */
static int setup(void **unused)
{
	struct sample sample;
	struct state_iter *it;
	struct slice key, value;
	struct row_meta meta;

	log_setup("test", LOG_ERROR);
	fake_ms = 1000000;
	n_deleted = 0;
	for (unsigned s = 0; s <= SERVERS; s++)
		buf_clear(&asked[s]);
	m = (struct master){.o = {.garbage_grace_ms = GRACE_S * 1000}};
	csreg_init(&m.servers, DEAD_MS);
	fake_hooks = (struct fake_hooks){.sent = on_send};
	fake_log_open(&m);
	sample_new(&sample);
	assert_int_equal(state_iter_open(sample.st, (struct slice){0}, (struct slice){0}, &it), 0);
	state_begin(m.st);
	while (state_iter_next(it, &key, &value) == 1)
		if (key.data[0] != KEY_GARBAGE)
			state_put(m.st, key, value);
	state_iter_close(it);
	assert_int_equal(state_commit(m.st), 0);
	meta = meta_now();
	meta.applied = meta.garbage = 0;
	meta.next_chunk = 2 * UNKNOWN;
	state_begin(m.st);
	state_put_row_meta(m.st, key_meta(), &meta);
	assert_int_equal(state_commit(m.st), 0);
	state_free(sample.st);
	for (uint32_t s = 1; s <= SERVERS; s++) {
		struct cs *cs = csreg_add(&m.servers, s);
		peers[s] = (struct peer){0};
		cs->peer = &peers[s];
		cs->state = SERVER_UP;
		cs->linked_ms = fake_ms;
	}
	return 0;
}

static int teardown(void **unused)
{
	_cleanup_buf_ struct buf report = {0};

	if (schema_check(m.st, &report, 10) != 0)
		fail_msg("%s", buf_str(&report));
	for (uint32_t s = 1; s <= SERVERS; s++)
		cs_unlink(csreg_find(&m.servers, s));
	hold_free(&m);
	raise_free_all(&m);
	repair_free(&m);
	csreg_free(&m.servers);
	fake_log_close();
	state_free(m.st);
	return 0;
}

static void make_garbage(uint32_t server, uint64_t first, unsigned n, uint32_t grace_s)
{
	for (unsigned done = 0; done < n;) {
		struct cmd_garbage cmd = {.server = server, .grace_s = grace_s};
		while (done < n && cmd.n_have < CMD_GARBAGE_MAX)
			cmd.have[cmd.n_have++] = (struct wire_have){.id = first + done++,
								     .version = 1};
		propose(CMD_NUMBER_GARBAGE, &cmd);
	}
}

/* ---- garbage ---- */

static void test_grace_is_waited_for_and_not_extended(void **unused)
{
	make_garbage(1, UNKNOWN, 10, GRACE_S);
	run(GRACE_S * 1000 / 2);
	assert_int_equal(n_deleted, 0);
	/* The server tells of them again: no new time. */
	make_garbage(1, UNKNOWN, 10, GRACE_S);
	assert_int_equal(meta_now().garbage, 10);
	run(GRACE_S * 1000 / 2 - 1000);
	assert_int_equal(n_deleted, 0);
	run(3000);
	assert_int_equal(n_deleted, 10);
	assert_int_equal(meta_now().garbage, 0);
	run(200000);
	assert_int_equal(n_deleted, 10);
}

/* (Fault suite, seed 101: nothing was deleted, and nothing copied to where something was to be
 * deleted, for an hour.) */
static void test_a_clock_set_back_delays_nothing(void **unused)
{
	make_garbage(1, UNKNOWN, 1, 0);
	fake_set_s = -3600;
	make_garbage(1, UNKNOWN + 1, 10, 0);
	run(5000);
	fake_set_s = 0;
	assert_int_equal(n_deleted, 11);
}

static void test_what_is_due_is_found_among_many_that_are_not(void **unused)
{
	enum { MANY = 15000 };

	make_garbage(2, UNKNOWN, MANY, 10 * GRACE_S);
	run(20000);
	make_garbage(2, UNKNOWN + MANY, 1, 0);
	run(5000);
	assert_int_equal(n_deleted, 1);
	assert_int_equal(deleted[0], UNKNOWN + MANY);
	/* No longer than the shortest of its two times: asked for by a removed file's end too. */
	make_garbage(2, UNKNOWN + 5, 1, 0);
	run(5000);
	assert_int_equal(n_deleted, 2);
	run(10 * GRACE_S * 1000);
	assert_int_equal(n_deleted, MANY + 1);
}

static void test_a_refused_deletion_is_tried_again(void **unused)
{
	struct cs *cs = csreg_find(&m.servers, 3);

	make_garbage(3, UNKNOWN, 5, 0);
	fake_ms += MASTER_TICK_MS;
	garbage_tick(&m);
	assert_true(asked[3].len > 0);
	cs_unlink(cs); /* the link breaks before the answer */
	buf_clear(&asked[3]);
	run(5000);
	assert_int_equal(n_deleted, 0);
	cs->peer = &peers[3];
	cs->state = SERVER_UP;
	run(5000);
	assert_int_equal(n_deleted, 5);
}

/* ---- hold ---- */

/* The chunks of the sample as after an import. */
static void restore(void)
{
	_cleanup_buf_ struct buf backing = {0};
	struct cmd_hold hold = {.held = 1};

	for (uint64_t id = 1; id <= SAMPLE_WHOLE; id++) {
		struct row_chunk row;
		assert_int_equal(state_get_row_chunk(m.st, key_chunk(id), &row, &backing), 1);
		row.flags |= CHUNK_RESTORED;
		state_begin(m.st);
		state_put_row_chunk(m.st, key_chunk(id), &row);
		assert_int_equal(state_commit(m.st), 0);
	}
	propose(CMD_NUMBER_HOLD, &hold);
	m.servers.started_ms = fake_ms;
	assert_int_equal(hold_start(&m), 0);
	assert_false(hold_open(&m));
}

static bool report(uint32_t server, uint64_t chunk, uint32_t version, uint8_t marks)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_have have = {.id = chunk, .version = version};
	struct row_chunk row;
	int r = state_get_row_chunk(m.st, key_chunk(chunk), &row, &backing);

	return hold_report(&m, csreg_find(&m.servers, server), &have, marks, r == 1 ? &row : NULL);
}

static const char *chunk_text(uint64_t chunk)
{
	static struct buf text;
	_cleanup_buf_ struct buf backing = {0};
	struct row_chunk row;

	assert_int_equal(state_get_row_chunk(m.st, key_chunk(chunk), &row, &backing), 1);
	buf_clear(&text);
	buf_printf(&text, "v%u", row.version);
	if (row.pending_version)
		buf_printf(&text, ">%u", row.pending_version);
	for (unsigned i = 0; i < row.n_members; i++)
		buf_printf(&text, "%c%u", i ? ',' : ' ', row.members[i].server);
	return buf_str(&text);
}

static void test_the_highest_version_is_taken_over_when_all_have_reported(void **unused)
{
	assert_string_equal(chunk_text(SAMPLE_FEW), "v1 1,2");
	restore();
	assert_false(report(1, SAMPLE_FEW, 1, 0)); /* as the state has it: nothing special */
	assert_true(report(2, SAMPLE_FEW, 3, MARK_UNCLEAN));
	assert_true(report(3, SAMPLE_FEW, 5, MARK_UNCLEAN));
	run(DEAD_MS - 1000);
	assert_string_equal(chunk_text(SAMPLE_FEW), "v1 1,2");
	assert_false(hold_open(&m));
	/* One that is reporting is waited for. */
	csreg_find(&m.servers, 4)->state = SERVER_REPORTING;
	csreg_find(&m.servers, 4)->linked_ms = fake_ms;
	run(3000);
	assert_false(hold_open(&m));
	assert_true(report(4, SAMPLE_FEW, 5, 0));
	csreg_find(&m.servers, 4)->state = SERVER_UP;
	run(1000);
	assert_true(hold_open(&m));
	/* The clean one first; the other is to be compared with it. */
	assert_string_equal(chunk_text(SAMPLE_FEW), "v5 4,3");
	assert_int_equal(csreg_marked(&m.servers, SAMPLE_FEW, 4), 0);
	assert_int_equal(csreg_marked(&m.servers, SAMPLE_FEW, 3), MARK_UNCLEAN);
	/* From now on it is this state's: what is newer still is kept, nothing is made of it. */
	assert_true(report(1, SAMPLE_FEW, 9, 0));
	run(10000);
	assert_string_equal(chunk_text(SAMPLE_FEW), "v5 4,3");
	assert_int_equal(meta_now().garbage, 0);
}

static void test_a_late_server_is_adopted_from_while_nothing_has_changed(void **unused)
{
	restore();
	run(DEAD_MS + 1000);
	assert_true(hold_open(&m));
	assert_true(report(3, SAMPLE_FEW, 2, 0));
	assert_true(report(4, SAMPLE_FEW, 2, MARK_DAMAGED)); /* of no use */
	run(1000);
	assert_string_equal(chunk_text(SAMPLE_FEW), "v2 3");
}

/* What was pending in the backup has been settled since. */
static void test_a_raise_of_the_backup_is_over(void **unused)
{
	assert_string_equal(chunk_text(SAMPLE_WHOLE), "v1>2 1,2,3");
	restore();
	assert_false(report(3, SAMPLE_WHOLE, 1, 0));
	assert_true(report(1, SAMPLE_WHOLE, 2, 0));
	assert_true(report(4, SAMPLE_WHOLE, 2, 0));
	run(DEAD_MS + 1000);
	assert_string_equal(chunk_text(SAMPLE_WHOLE), "v2 1,4");
}

static void test_the_unknown_is_kept_until_the_hold_ends(void **unused)
{
	struct cmd_hold off = {.held = 0};
	uint64_t replicas, chunks;

	restore();
	for (uint64_t i = 0; i < 1000; i++) {
		assert_true(report(1, UNKNOWN + i, 1, 0));
		assert_true(report(2, UNKNOWN + i, 1, MARK_DAMAGED));
	}
	assert_true(report(1, UNKNOWN, 1, 0)); /* told of again */
	assert_true(report(4, SAMPLE_BIG_CHUNKS, 9, 0)); /* newer than a chunk that was changed */
	run(GRACE_S * 2000);
	assert_int_equal(n_deleted, 0);
	assert_int_equal(meta_now().garbage, 0);
	hold_count(&m, &replicas, &chunks);
	assert_int_equal(replicas, 2001);
	assert_int_equal(chunks, 1001);
	propose(CMD_NUMBER_HOLD, &off);
	hold_changed(&m);
	run(GRACE_S * 1000 - 5000);
	assert_int_equal(meta_now().garbage, 2000);
	assert_int_equal(n_deleted, 0);
	run(10000);
	assert_int_equal(n_deleted, 2000);
	hold_count(&m, &replicas, &chunks);
	assert_int_equal(chunks, 0);
	assert_false(report(1, UNKNOWN, 1, 0)); /* not held any more: as always */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_grace_is_waited_for_and_not_extended),
		T(test_a_clock_set_back_delays_nothing),
		T(test_what_is_due_is_found_among_many_that_are_not),
		T(test_a_refused_deletion_is_tried_again),
		T(test_the_highest_version_is_taken_over_when_all_have_reported),
		T(test_a_late_server_is_adopted_from_while_nothing_has_changed),
		T(test_a_raise_of_the_backup_is_over),
		T(test_the_unknown_is_kept_until_the_hold_ends),
#undef T
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
