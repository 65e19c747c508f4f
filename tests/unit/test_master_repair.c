/* master: repair, draining and balance of many chunks, over tests/lib/fake_master.h. What the
 * servers are asked is done at once or, when a test says so, one thing at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "master/schema_check.h"
#include "tests/lib/fake_master.h"

enum { SERVERS = 8, CHUNKS_MAX = 3000, COPIES = 3, CHUNK_BYTES = 1 << 20 };

/* ---- the chunkservers ---- */

struct fake {
	struct peer peer;
	struct fake_replica replicas[CHUNKS_MAX + 1];
	uint64_t total_bytes;
	bool present; /* of this test's cluster */
};

struct asked {
	unsigned server;
	struct buf message;
	struct asked *prev, *next;
};

static struct master m;
static struct fake fakes[SERVERS + 1];
static struct asked *asked;
static unsigned chunks; /* made so far */
static unsigned order[CHUNKS_MAX + 1], copied; /* of the first copy of each chunk; how many */
static unsigned from_max, to_max, total_max; /* most copies under way at once */

static void on_send(struct peer *peer, const struct buf *message)
{
	struct asked *a = calloc(1, sizeof(*a));

	a->server = (unsigned)((struct fake *)peer - fakes);
	buf_append_slice(&a->message, buf_slice(message));
	DL_APPEND(asked, a);
}

static void count_copies(void)
{
	struct cs *cs, *next;
	unsigned total = 0;

	HASH_ITER(hh, m.servers.by_id, cs, next) {
		from_max = cs->feeding > from_max ? cs->feeding : from_max;
		to_max = cs->filling > to_max ? cs->filling : to_max;
		total += cs->filling;
	}
	total_max = total > total_max ? total : total_max;
}

static int do_pull(unsigned s, const struct wire_chunk_pull *req, struct wire_chunk_state *ret)
{
	struct fake_replica *from = &fakes[req->source.server].replicas[req->chunk];
	int r = fake_readable(from, req->source_version);

	if (!order[req->chunk])
		order[req->chunk] = ++copied;
	return r < 0 ? r : fake_pull(&fakes[s].replicas[req->chunk], from,
				   fakes[s].replicas[req->chunk].changes, req, ret);
}

/* Every deletion is looked at: enough good copies must be up. */
static void do_delete(unsigned s, struct slice list)
{
	struct cursor c = cursor_slice(list), item;

	while (wire_list_next(&c, &item) == 1) {
		struct wire_have have;
		struct condition condition;
		assert_int_equal(wire_have_get(&item, &have), 0);
		fake_delete(&fakes[s].replicas[have.id], have.version);
		assert_int_equal(repair_examine(&m, have.id, &condition), 1);
		for (unsigned i = 0; i < condition.row.n_members; i++) {
			unsigned member = condition.row.members[i].server;
			assert_int_not_equal(member, s);
			assert_true(fakes[member].replicas[have.id].present);
		}
	}
}

static void answer(struct asked *a)
{
	_cleanup_buf_ struct buf fields = {0};
	struct cs *cs = csreg_find(&m.servers, a->server);
	struct cursor c = cursor_of(a->message.data + WIRE_HEADER_BYTES,
				    a->message.len - WIRE_HEADER_BYTES);
	struct wire_chunk_state state = {0};
	struct wire_chunk_raise raise;
	struct wire_chunk_pull pull;
	struct wire_chunk_delete delete;
	struct wire_header h;
	int r = 0;

	assert_int_equal(wire_header_get(a->message.data, &h, NULL), 0);
	if (h.op == OP_CHUNK_RAISE) {
		assert_int_equal(wire_chunk_raise_get(&c, &raise), 0);
		r = fake_raise(&fakes[a->server].replicas[raise.chunk], &raise, &state);
	} else if (h.op == OP_CHUNK_PULL) {
		assert_int_equal(wire_chunk_pull_get(&c, &pull), 0);
		r = do_pull(a->server, &pull, &state);
	} else {
		assert_int_equal(wire_chunk_delete_get(&c, &delete), 0);
		do_delete(a->server, delete.have);
	}
	if (r == 0)
		wire_chunk_state_put(&fields, &state);
	else
		wire_failure_put(&fields, &(struct wire_failure){0});
	h.flags = WIRE_REPLY;
	h.status = r;
	if (cs->peer)
		cs_reply(cs, &h, buf_slice(&fields));
	buf_release(&a->message);
	free(a);
}

static bool step(void)
{
	struct asked *a = asked;

	count_copies();
	if (fake_log_commit())
		return true;
	if (a) {
		DL_DELETE(asked, a);
		answer(a);
	}
	return a != NULL;
}

/* Their heartbeats: what they hold is one CHUNK_BYTES for each replica. */
static void heartbeats(void)
{
	for (unsigned s = 1; s <= SERVERS; s++) {
		struct cs *cs = csreg_find(&m.servers, s);
		if (!cs || !cs->peer)
			continue;
		cs_heard(cs);
		cs->chunks = 0;
		for (unsigned i = 1; i <= chunks; i++)
			cs->chunks += fakes[s].replicas[i].present;
		cs->total_bytes = fakes[s].total_bytes;
		cs->free_bytes = cs->total_bytes - cs->chunks * CHUNK_BYTES;
	}
}

static void tick(void)
{
	fake_ms += MASTER_TICK_MS;
	m.ticks++;
	if (m.ticks % 10 == 0)
		heartbeats();
	csreg_tick(&m.servers);
	raise_tick(&m);
	repair_tick(&m);
}

static void settle(void)
{
	while (step()) {
		if (m.repair.due)
			repair_pick(&m);
	}
}

static void run(unsigned seconds)
{
	for (unsigned i = 0; i < seconds * 1000; i += MASTER_TICK_MS) {
		tick();
		settle();
	}
}

/* ---- set-up ---- */

static void propose_now(uint16_t number, const void *record)
{
	master_propose_quietly(&m, number, record);
	while (fake_log_commit())
		;
}

static void link_up(unsigned s)
{
	struct cs *cs = csreg_find(&m.servers, s);

	fakes[s].peer = (struct peer){.next_id = 1 + (uint64_t)fake_ms * 1000};
	cs->peer = &fakes[s].peer;
	cs->linked_ms = fake_ms;
	cs_ready(cs);
	cs_heard(cs);
}

static void link_down(unsigned s)
{
	struct asked *a, *next;

	cs_unlink(csreg_find(&m.servers, s));
	DL_FOREACH_SAFE(asked, a, next) {
		if (a->server != s)
			continue;
		DL_DELETE(asked, a);
		buf_release(&a->message);
		free(a);
	}
}

static void add_server(uint8_t s, const char *rack, const char *host)
{
	uint8_t uuid[UUID_BYTES] = {s};
	struct cmd_server_register reg = {.uuid = slice_of(uuid, UUID_BYTES),
					  .addr = SLICE_LIT("127.0.0.1:1")};
	struct cs *cs;

	propose_now(CMD_NUMBER_SERVER_REGISTER, &reg);
	cs = csreg_add(&m.servers, s);
	assert_non_null(cs);
	snprintf(cs->addr, sizeof(cs->addr), "server-%u", s);
	snprintf(cs->rack, sizeof(cs->rack), "%s", rack);
	snprintf(cs->host, sizeof(cs->host), "%s", host);
	fakes[s].total_bytes = 4ull << 30;
	fakes[s].present = true;
	link_up(s);
	heartbeats();
}

/* A written chunk on these servers (0 ends). Returns its number. */
static unsigned add_chunk(unsigned a, unsigned b, unsigned c)
{
	char name[32];
	unsigned servers[COPIES] = {a, b, c};
	struct cmd_make make = {.req = {.id = {1, 2 * chunks + 1, 2 * chunks + 1},
					.parent = ROOT_INODE, .mode = S_IFREG | 0644,
					.flags = MAKE_CHUNK}};
	struct cmd_wrote wrote = {.req = {.id = {1, 2 * chunks + 2, 2 * chunks + 1},
					  .inode = ROOT_INODE + 1 + chunks, .end = CHUNK_BYTES}};

	snprintf(name, sizeof(name), "file%u", chunks);
	make.req.name = slice_str(name);
	chunks++;
	for (unsigned i = 0; i < COPIES && servers[i]; i++) {
		make.members[make.n_members++].server = servers[i];
		fakes[servers[i]].replicas[chunks] = (struct fake_replica){
			.present = true, .version = 1, .length = CHUNK_BYTES,
			.block = {chunks}};
	}
	propose_now(CMD_NUMBER_MAKE, &make);
	propose_now(CMD_NUMBER_WROTE, &wrote);
	return chunks;
}

static int setup(void **unused)
{
	static uint8_t id[UUID_BYTES];
	struct cmd_format format = {.cluster = slice_of(id, UUID_BYTES), .copies = COPIES,
				    .hash_key = slice_of(id, HASH_KEY_BYTES)};
	struct cmd_session_open open = {.req.nonce = 1};

	log_setup("test", LOG_ERROR);
	fake_ms = 1000000;
	fake_seed(1);
	chunks = copied = from_max = to_max = total_max = 0;
	memset(order, 0, sizeof(order));
	memset(fakes, 0, sizeof(fakes));
	m = (struct master){.o = {.raise_timeout_ms = 3000, .repair_delay_ms = 60000,
				  .repair_max = 8, .repair_per_server = 3, .balance_max = 2}};
	csreg_init(&m.servers, 5000);
	m.servers.started_ms = fake_ms - 3600000;
	fake_hooks.sent = on_send;
	fake_log_open(&m);
	propose_now(CMD_NUMBER_FORMAT, &format);
	propose_now(CMD_NUMBER_SESSION_OPEN, &open);
	return 0;
}

static int teardown(void **unused)
{
	_cleanup_buf_ struct buf report = {0};
	int wrong = schema_check(m.st, &report, 10);

	if (wrong)
		fail_msg("%d invariants do not hold:\n%s", wrong, buf_str(&report));
	for (unsigned s = 1; s <= SERVERS; s++)
		if (fakes[s].present)
			link_down(s);
	settle();
	raise_free_all(&m);
	repair_free(&m);
	csreg_free(&m.servers);
	state_free(m.st);
	return 0;
}

static struct condition condition_of(unsigned chunk)
{
	struct condition c;
	assert_int_equal(repair_examine(&m, chunk, &c), 1);
	return c;
}

static bool on(unsigned chunk, unsigned server)
{
	struct condition c = condition_of(chunk);
	for (unsigned i = 0; i < c.row.n_members; i++)
		if (c.row.members[i].server == server)
			return true;
	return false;
}

/* All is as it should be, and every copy holds what was written. */
static void assert_all_whole(void)
{
	for (unsigned chunk = 1; chunk <= chunks; chunk++) {
		struct condition c = condition_of(chunk);
		if (!repair_whole(&c))
			fail_msg("chunk %u: %u members, %u live", chunk, c.row.n_members, c.live);
		for (unsigned i = 0; i < c.row.n_members; i++) {
			struct fake_replica *r =
				&fakes[c.row.members[i].server].replicas[chunk];
			assert_true(r->present && r->version == c.row.version);
			assert_int_equal(r->block[0], chunk);
		}
	}
	assert_int_equal(m.repairs + m.moves, 0);
	assert_null(m.raises.by_chunk);
	assert_int_equal(repair_queue_waiting(&m.repair.queue), 0);
}

static unsigned members_on(unsigned server)
{
	unsigned n = 0;
	for (unsigned chunk = 1; chunk <= chunks; chunk++)
		n += on(chunk, server);
	return n;
}

static void drain(unsigned s)
{
	struct cmd_server_set cmd = {.server = s, .flags = SERVER_DRAINING};

	propose_now(CMD_NUMBER_SERVER_SET, &cmd);
	csreg_find(&m.servers, s)->draining = true;
}

/* ---- repair ---- */

/* Servers 1 and 2 are lost at the same moment: what was on both goes first, wherever it is found. */
static void test_fewest_copies_first(void **unused)
{
	unsigned single = 0;

	for (uint8_t s = 1; s <= 8; s++)
		add_server(s, "", "");
	for (unsigned i = 0; i < 150; i++)
		add_chunk(1 + i % 2, 3 + i % 3, 6 + i % 3);
	for (unsigned i = 0; i < 50; i++) /* below its goal in the state, too */
		add_chunk(3 + i % 3, 6 + i % 3, 0);
	for (unsigned i = 0; i < 60; i++)
		add_chunk(1, 2, 3 + i % 6);
	link_down(1);
	link_down(2);
	run(59);
	assert_int_equal(copied, 0);
	for (unsigned i = 0; i < 4; i++)
		run(30);
	assert_all_whole();
	for (unsigned chunk = 1; chunk <= 260; chunk++)
		single += order[chunk] <= 60 && chunk > 200;
	assert_int_equal(single, 60);
}

static void test_copies_are_limited(void **unused)
{
	for (uint8_t s = 1; s <= 6; s++)
		add_server(s, "", "");
	for (unsigned i = 0; i < 300; i++)
		add_chunk(1, 2 + i % 2, 4 + i % 3);
	link_down(1);
	run(120);
	assert_all_whole();
	assert_int_equal(total_max, 8);
	assert_true(from_max <= 3 && to_max <= 3);
	/* The least busy source and all targets were used. */
	assert_int_equal(to_max, 3);
}

static void test_thousands_of_chunks(void **unused)
{
	unsigned begun;

	for (uint8_t s = 1; s <= 4; s++)
		add_server(s, "", "");
	for (unsigned i = 0; i < CHUNKS_MAX; i++)
		add_chunk(1 + i % 4, 1 + (i + 1) % 4, 1 + (i + 2) % 4);
	m.o.repair_delay_ms = 1000;
	link_down(2);
	run(3);
	begun = copied;
	assert_true(begun > 0);
	run(30);
	assert_all_whole();
	assert_int_equal(members_on(2), 0);
	/* It comes back with nothing that is wanted. */
	link_up(2);
	run(10);
	for (unsigned chunk = 1; chunk <= chunks; chunk++)
		assert_false(fakes[2].replicas[chunk].present);
}

/* After a restart of the master everything is found again in the state. */
static void test_a_restart_forgets_nothing(void **unused)
{
	for (uint8_t s = 1; s <= 5; s++)
		add_server(s, "", "");
	for (unsigned i = 0; i < 100; i++)
		add_chunk(1, 2, 3 + i % 2);
	m.o.repair_delay_ms = 1000;
	link_down(1);
	for (unsigned i = 0; i < 20; i++)
		tick();
	for (unsigned i = 0; i < 25; i++)
		step();
	assert_true(m.repairs > 0);
	for (unsigned s = 2; s <= 5; s++) /* the master dies: nobody gets an answer */
		link_down(s);
	while (fake_log_commit())
		;
	raise_free_all(&m);
	repair_free(&m);
	m.repair = (struct repair){0};
	m.repairs = 0;
	m.servers.started_ms = fake_ms;
	for (unsigned s = 1; s <= 5; s++)
		csreg_find(&m.servers, s)->linked_ms = 0;
	assert_int_equal(raise_resume(&m), 0);
	for (unsigned s = 2; s <= 5; s++)
		link_up(s);
	run(30);
	assert_all_whole();
}

static void test_the_queue_is_bounded(void **unused)
{
	struct repair_queue q = {0};
	uint64_t first[2];

	for (uint64_t chunk = 1; chunk <= REPAIR_QUEUE_MAX; chunk++)
		assert_non_null(repair_queue_add(&q, chunk, 2));
	assert_false(q.overflowed);
	assert_null(repair_queue_add(&q, 1000000, 2)); /* found again later */
	assert_true(q.overflowed);
	assert_non_null(repair_queue_add(&q, 1000001, 1));
	assert_null(repair_queue_find(&q, REPAIR_QUEUE_MAX)); /* the last one made room */
	assert_int_equal(repair_queue_waiting(&q), REPAIR_QUEUE_MAX);
	assert_int_equal(repair_queue_first(&q, first, 2), 2);
	assert_int_equal(first[0], 1000001);
	assert_int_equal(first[1], 1);
	/* What can do nothing but wait is not in the way. */
	repair_queue_set(&q, repair_queue_find(&q, 1), REPAIR_WAIT_RETRY, 2);
	assert_int_equal(repair_queue_first(&q, first, 2), 2);
	assert_int_equal(first[1], 2);
	assert_int_equal(repair_queue_due(&q, first, 2), 0);
	fake_ms += REPAIR_RETRY_MS;
	assert_int_equal(repair_queue_due(&q, first, 2), 1);
	repair_queue_free(&q);
}

/* What had become garbage while all copies were there is taken back when they are not. */
static void test_garbage_that_is_missed_again(void **unused)
{
	for (uint8_t s = 1; s <= 4; s++)
		add_server(s, "", "");
	for (unsigned i = 0; i < 20; i++)
		add_chunk(1, 2, 3);
	link_down(3);
	run(70);
	assert_all_whole();
	assert_int_equal(members_on(4), 20);
	link_down(4);
	link_down(2);
	link_up(3);
	run(30); /* its old replicas are all there is beside server 1's */
	for (unsigned chunk = 1; chunk <= chunks; chunk++)
		assert_true(fakes[3].replicas[chunk].present);
	run(40);
	assert_int_equal(members_on(3), 20);
	link_up(2);
	run(70);
	assert_all_whole();
	assert_int_equal(members_on(1) + members_on(2) + members_on(3), 60);
}

/* ---- draining ---- */

static void test_a_drained_server_is_empty(void **unused)
{
	for (uint8_t s = 1; s <= 5; s++)
		add_server(s, "", "");
	for (unsigned i = 0; i < 200; i++)
		add_chunk(1 + i % 5, 1 + (i + 1) % 5, 1 + (i + 2) % 5);
	drain(3);
	run(60);
	assert_all_whole();
	assert_int_equal(members_on(3), 0);
	for (unsigned chunk = 1; chunk <= chunks; chunk++)
		assert_false(fakes[3].replicas[chunk].present);
	/* Nothing comes back by itself. */
	m.o.balance_threshold = 1;
	run(60);
	assert_int_equal(members_on(3), 0);
}

/* A server is lost while another is being emptied: what has fewer copies goes first. */
static void test_a_loss_goes_before_a_drain(void **unused)
{
	unsigned lost_first = 0;

	for (uint8_t s = 1; s <= 6; s++)
		add_server(s, "", "");
	for (unsigned i = 0; i < 100; i++)
		add_chunk(1, 3, 4);
	for (unsigned i = 0; i < 100; i++)
		add_chunk(2, 3, 4);
	link_down(2);
	run(59);
	drain(1);
	m.o.repair_max = 1;
	while (!csreg_lost(&m.servers, 2, m.o.repair_delay_ms)) {
		tick();
		step();
	}
	copied = 0;
	memset(order, 0, sizeof(order));
	m.o.repair_max = 8;
	run(60);
	assert_all_whole();
	assert_int_equal(members_on(1) + members_on(2), 0);
	for (unsigned chunk = 101; chunk <= 200; chunk++)
		lost_first += order[chunk] <= 100 + 8;
	assert_int_equal(lost_first, 100);
}

/* ---- failure domains ---- */

static unsigned racks_of(unsigned chunk)
{
	struct condition c = condition_of(chunk);
	unsigned seen = 0;

	for (unsigned i = 0; i < c.row.n_members; i++)
		seen |= 1u << (csreg_find(&m.servers, c.row.members[i].server)->rack[1] - '0');
	return (unsigned)__builtin_popcount(seen);
}

static void test_copies_go_to_other_racks(void **unused)
{
	static const char *racks[] = {"r1", "r1", "r1", "r2", "r2", "r3"};

	for (uint8_t s = 1; s <= 6; s++)
		add_server(s, racks[s - 1], "");
	for (unsigned i = 0; i < 50; i++)
		add_chunk(1 + i % 3, 4 + i % 2, 6);
	link_down(6);
	run(120);
	assert_all_whole(); /* in two racks: there is no third */
	for (unsigned chunk = 1; chunk <= chunks; chunk++)
		assert_int_equal(racks_of(chunk), 2);
	link_up(6);
	run(60);
	assert_all_whole();
	for (unsigned chunk = 1; chunk <= chunks; chunk++)
		assert_int_equal(racks_of(chunk), 3);
}

/* ---- balance ---- */

static void test_a_new_server_takes_its_share(void **unused)
{
	unsigned after;

	m.o.balance_threshold = 10;
	for (uint8_t s = 1; s <= 4; s++) {
		add_server(s, "", "");
		fakes[s].total_bytes = 500ull << 20;
	}
	for (unsigned i = 0; i < 300; i++)
		add_chunk(1, 2, 3);
	run(30); /* 300 of 500 MiB on three, nothing on the fourth */
	assert_all_whole();
	after = members_on(4);
	assert_true(after >= 200 && after <= 230);
	run(60);
	assert_int_equal(members_on(4), after); /* and that is the end of it */
}

static void test_nothing_is_moved_for_little(void **unused)
{
	m.o.balance_threshold = 10;
	for (uint8_t s = 1; s <= 4; s++) {
		add_server(s, "", "");
		fakes[s].total_bytes = 500ull << 20;
	}
	for (unsigned i = 0; i < 40; i++)
		add_chunk(1, 2, 3); /* 8 % */
	run(60);
	assert_int_equal(copied, 0);
}

/* One chunk is a fifth of a disk: moving it would only turn the difference round. */
static void test_no_ping_pong_with_large_chunks(void **unused)
{
	m.o.balance_threshold = 10;
	for (uint8_t s = 1; s <= 4; s++) {
		add_server(s, "", "");
		fakes[s].total_bytes = 5ull << 20;
	}
	add_chunk(1, 2, 3);
	run(120);
	assert_int_equal(copied, 0);
	assert_all_whole();
}

static void test_balance_keeps_failure_domains(void **unused)
{
	static const char *racks[] = {"r1", "r2", "r3", "r1"};

	m.o.balance_threshold = 10;
	for (uint8_t s = 1; s <= 4; s++) {
		add_server(s, racks[s - 1], "");
		fakes[s].total_bytes = 500ull << 20;
	}
	for (unsigned i = 0; i < 200; i++)
		add_chunk(1, 2, 3);
	run(60);
	assert_all_whole();
	assert_true(members_on(4) > 80 && members_on(4) < 120);
	assert_int_equal(members_on(2) + members_on(3), 400);
	for (unsigned chunk = 1; chunk <= chunks; chunk++)
		assert_int_equal(racks_of(chunk), 3);
}

/* ---- detection ---- */

static void on_closed(struct peer *peer)
{
	cs_unlink(csreg_find(&m.servers, (unsigned)((struct fake *)peer - fakes)));
}

static void test_suspect_then_dead(void **unused)
{
	struct cs *cs;

	fake_hooks.closed = on_closed;
	add_server(1, "", "");
	cs = csreg_find(&m.servers, 1);
	assert_true(cs_takes(cs));
	fake_ms += 2400;
	csreg_tick(&m.servers);
	assert_int_equal(cs->state, SERVER_UP);
	fake_ms += 200; /* more than half of dead_after */
	csreg_tick(&m.servers);
	assert_int_equal(cs->state, SERVER_SUSPECT);
	assert_true(cs_up(cs));
	assert_false(cs_takes(cs));
	cs_heard(cs);
	assert_int_equal(cs->state, SERVER_UP);
	fake_ms += 5100;
	csreg_tick(&m.servers);
	assert_int_equal(cs->state, SERVER_DOWN);
	assert_false(csreg_lost(&m.servers, 1, 60000));
	fake_ms += 60000;
	assert_true(csreg_lost(&m.servers, 1, 60000));
}

static void test_leases_end_before_death(void **unused)
{
	for (int64_t dead = 50; dead <= 600000; dead += 37) {
		struct csreg reg = {.dead_ms = dead};
		assert_true(csreg_lease_ms(&reg) < dead);
		assert_true(csreg_suspect_ms(&reg) < csreg_lease_ms(&reg));
		assert_true(csreg_heartbeat_ms(&reg, 1000) < csreg_suspect_ms(&reg));
	}
}

/* One that registers and fails, over and over, does not hold up what others need. */
static void test_a_server_that_never_gets_up(void **unused)
{
	struct cs *cs;

	for (uint8_t s = 1; s <= 4; s++)
		add_server(s, "", "");
	add_chunk(1, 2, 3);
	link_down(3);
	cs = csreg_find(&m.servers, 3);
	for (unsigned i = 0; i < 40; i++) {
		fakes[3].peer = (struct peer){.next_id = 1};
		cs->peer = &fakes[3].peer;
		cs->state = SERVER_REPORTING;
		cs->linked_ms = cs->seen_ms = fake_ms;
		cs->tries++;
		run(2);
		link_down(3);
	}
	assert_true(on(1, 4));
	assert_all_whole();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_fewest_copies_first),
		TEST(test_copies_are_limited),
		TEST(test_thousands_of_chunks),
		TEST(test_a_restart_forgets_nothing),
		TEST(test_the_queue_is_bounded),
		TEST(test_garbage_that_is_missed_again),
		TEST(test_a_drained_server_is_empty),
		TEST(test_a_loss_goes_before_a_drain),
		TEST(test_copies_go_to_other_racks),
		TEST(test_a_new_server_takes_its_share),
		TEST(test_nothing_is_moved_for_little),
		TEST(test_no_ping_pong_with_large_chunks),
		TEST(test_balance_keeps_failure_domains),
		TEST(test_suspect_then_dead),
		TEST(test_leases_end_before_death),
		TEST(test_a_server_that_never_gets_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
