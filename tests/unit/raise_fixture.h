/* One chunk on chunkservers that are a table of replicas (tests/lib/fake_master.h): they answer
 * when told to, and all that is asked of them is written down as a story. For the tests of what the
 * master does with a chunk. Include cmocka.h first. */
#ifndef CAIRN_TESTS_RAISE_FIXTURE_H
#define CAIRN_TESTS_RAISE_FIXTURE_H

#include <stdio.h>
#include <sys/stat.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "master/schema_check.h"
#include "tests/lib/fake_master.h"

enum { SERVERS = 5, COPIES = 3, CHUNK = 1 };

/* ---- the chunkservers ---- */

struct fake {
	struct peer peer; /* only its address and next_id are used */
	struct fake_replica replica;
	bool mute;
	bool busy; /* the chunk is being written there */
	bool full; /* no copy fits there */
};

struct asked {
	unsigned server;
	struct buf message;
	struct asked *prev, *next;
};

static struct master m;
static struct fake fakes[SERVERS + 1];
static struct asked *asked;
static struct buf story;
static uint64_t file;
static uint32_t written;	      /* the content of the last write that completed */
static bool shuffle;	      /* answers come in any order */
static unsigned held;	      /* the answers of this server are kept back */

static inline void on_send(struct peer *peer, const struct buf *message)
{
	struct asked *a = calloc(1, sizeof(*a));

	a->server = (unsigned)((struct fake *)peer - fakes);
	buf_append_slice(&a->message, buf_slice(message));
	DL_APPEND(asked, a);
}

static inline int do_raise(unsigned s, const struct wire_chunk_raise *req,
			   struct wire_chunk_state *ret)
{
	buf_printf(&story, "%u:raise v%u>%u%s%s", s, req->version, req->new_version,
		   req->length != CHUNK_LENGTH_KEEP ? " cut" : "",
		   req->flags & RAISE_SETTLE ? " settle with" : "");
	for (unsigned i = 0; i < req->n_others; i++)
		buf_printf(&story, " %u", req->others[i].server);
	buf_printf(&story, "; ");
	if (req->flags & RAISE_SETTLE)
		assert_false(fakes[s].replica.damaged); /* that would make the damage valid */
	return fake_raise(&fakes[s].replica, req, ret);
}

static inline int do_pull(unsigned s, const struct wire_chunk_pull *req,
			  struct wire_chunk_state *ret)
{
	struct fake *from = &fakes[req->source.server];
	int r;

	buf_printf(&story, "%u:pull v%u from %u; ", s, req->new_version, req->source.server);
	if (from->mute)
		return ERR_TIMEOUT;
	if (fakes[s].full)
		return ERR_NOSPC;
	r = fake_readable(&from->replica, req->source_version);
	return r < 0 ? r : fake_pull(&fakes[s].replica, &from->replica,
				   fakes[s].replica.changes, req, ret);
}

static inline void do_delete(unsigned s)
{
	buf_printf(&story, "%u:delete; ", s);
	fake_delete(&fakes[s].replica, UINT32_MAX);
}

static inline int do_check(unsigned s, const struct wire_chunk_check *req,
			   struct wire_chunk_state *ret)
{
	buf_printf(&story, "%u:check; ", s);
	return fakes[s].busy ? ERR_BUSY : fake_check(&fakes[s].replica, req->version, ret);
}

static inline void answer(struct asked *a)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_chunk_state state = {0};
	struct wire_header h;
	struct cursor c = cursor_of(a->message.data + WIRE_HEADER_BYTES,
				    a->message.len - WIRE_HEADER_BYTES);
	struct wire_chunk_raise raise;
	struct wire_chunk_pull pull;
	struct wire_chunk_check check;
	int r = 0;

	assert_int_equal(wire_header_get(a->message.data, &h, NULL), 0);
	if (h.op == OP_CHUNK_RAISE) {
		assert_int_equal(wire_chunk_raise_get(&c, &raise), 0);
		r = do_raise(a->server, &raise, &state);
	} else if (h.op == OP_CHUNK_PULL) {
		assert_int_equal(wire_chunk_pull_get(&c, &pull), 0);
		r = do_pull(a->server, &pull, &state);
	} else if (h.op == OP_CHUNK_CHECK) {
		assert_int_equal(wire_chunk_check_get(&c, &check), 0);
		r = do_check(a->server, &check, &state);
	} else {
		do_delete(a->server);
	}
	if (r == 0)
		wire_chunk_state_put(&fields, &state);
	else
		wire_failure_put(&fields, &(struct wire_failure){0});
	h.flags = WIRE_REPLY;
	h.status = r;
	if (!fakes[a->server].mute && csreg_find(&m.servers, a->server)->peer)
		cs_reply(csreg_find(&m.servers, a->server), &h, buf_slice(&fields));
	buf_release(&a->message);
	free(a);
}

static inline void link_up(unsigned s, uint8_t state)
{
	struct cs *cs = csreg_find(&m.servers, s);

	fakes[s].mute = false;
	fakes[s].peer.next_id = 1 + (uint64_t)fake_ms * 1000;
	cs->peer = &fakes[s].peer;
	cs->state = state;
	cs->linked_ms = cs->seen_ms = fake_ms;
	cs->free_bytes = 1ull << 40;
}

/* What was asked on the link is done without an answer, or never done. */
static inline void link_down(unsigned s)
{
	struct asked *a, *next;

	cs_unlink(csreg_find(&m.servers, s));
	DL_FOREACH_SAFE(asked, a, next) {
		if (a->server != s)
			continue;
		DL_DELETE(asked, a);
		if (fake_draw(2)) {
			answer(a);
		} else {
			buf_release(&a->message);
			free(a);
		}
	}
}

static inline struct asked *next_asked(void)
{
	struct asked *a, *chosen = NULL;
	unsigned n = 0;

	DL_FOREACH(asked, a) {
		if (a->server != held && (!chosen || (shuffle && fake_draw(++n) == 0)))
			chosen = a;
	}
	return chosen;
}

/* One thing happens: an entry commits or a server answers. False: nothing is under way. */
static inline bool step(void)
{
	struct asked *a = next_asked();

	if (!(shuffle && a && fake_draw(2)) && fake_log_commit())
		return true;
	if (a) {
		DL_DELETE(asked, a);
		answer(a);
	}
	return a != NULL;
}

static inline void tick(unsigned ms)
{
	fake_ms += ms;
	m.ticks++;
	for (unsigned s = 1; s <= SERVERS; s++) {
		struct cs *cs = csreg_find(&m.servers, s);
		cs->seen_ms = fake_ms; /* a peer of this test cannot be closed */
	}
	csreg_tick(&m.servers);
	raise_tick(&m);
	repair_tick(&m);
	compare_tick(&m);
}

static inline void settle(void)
{
	while (step())
		;
}

static inline void run(unsigned ms)
{
	for (unsigned i = 0; i < ms; i += MASTER_TICK_MS) {
		tick(MASTER_TICK_MS);
		settle();
	}
}

/* ---- set-up ---- */

static inline void propose_now(uint16_t number, const void *record)
{
	master_propose_quietly(&m, number, record);
	settle();
}

static inline int setup(void **unused)
{
	static uint8_t id[UUID_BYTES];
	struct cmd_format format = {.cluster = slice_of(id, UUID_BYTES), .copies = COPIES,
				    .hash_key = slice_of(id, HASH_KEY_BYTES)};
	struct cmd_session_open open = {.req.nonce = 1};
	struct cmd_make make = {.req = {.id = {1, 1, 1}, .parent = ROOT_INODE,
					.mode = S_IFREG | 0644,
					.name = slice_str("file"), .flags = MAKE_CHUNK},
				.n_members = COPIES};
	struct cmd_wrote wrote = {.req = {.id = {1, 2, 1}, .end = 1 << 20}};

	log_setup("test", LOG_ERROR);
	fake_ms = 1000000;
	held = 0;
	written = 7;
	m = (struct master){.o = {.raise_timeout_ms = 3000, .repair_delay_ms = 60000,
				  .repair_max = 4}};
	memset(fakes, 0, sizeof(fakes));
	buf_clear(&story);
	csreg_init(&m.servers, 5000);
	m.servers.started_ms = fake_ms - 3600000;
	fake_hooks.sent = on_send;
	fake_log_open(&m);
	propose_now(CMD_NUMBER_FORMAT, &format);
	propose_now(CMD_NUMBER_SESSION_OPEN, &open);
	for (uint8_t s = 1; s <= SERVERS; s++) {
		uint8_t uuid[UUID_BYTES] = {s};
		struct cmd_server_register reg = {.uuid = slice_of(uuid, UUID_BYTES),
						  .addr = SLICE_LIT("127.0.0.1:1")};
		propose_now(CMD_NUMBER_SERVER_REGISTER, &reg);
		assert_non_null(csreg_add(&m.servers, s));
		snprintf(csreg_find(&m.servers, s)->addr, ADDR_BYTES_MAX, "server-%u", s);
		link_up(s, SERVER_UP);
	}
	for (unsigned i = 0; i < COPIES; i++) {
		make.members[i].server = i + 1;
		fakes[i + 1].replica = (struct fake_replica){.present = true, .version = 1,
							.length = 1 << 20, .block = {written}};
	}
	propose_now(CMD_NUMBER_MAKE, &make);
	file = wrote.req.inode = ROOT_INODE + 1;
	propose_now(CMD_NUMBER_WROTE, &wrote);
	return 0;
}

static inline int teardown(void **unused)
{
	_cleanup_buf_ struct buf report = {0};
	int wrong = schema_check(m.st, &report, 10);

	if (wrong)
		fail_msg("%d invariants do not hold:\n%s", wrong, buf_str(&report));
	for (unsigned s = 1; s <= SERVERS; s++)
		link_down(s);
	settle();
	raise_free_all(&m);
	repair_free(&m);
	compare_free(&m);
	csreg_free(&m.servers);
	state_free(m.st);
	buf_release(&story);
	return 0;
}

static inline struct row_chunk row(void)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_chunk r;
	assert_int_equal(state_get_row_chunk(m.st, key_chunk(CHUNK), &r, &backing), 1);
	return r;
}

/* "v2 1,2" or "v1>2 1,2,3" while a raise is pending. */
static inline const char *chunk_text(void)
{
	static char text[128];
	struct row_chunk r = row();
	int n = snprintf(text, sizeof(text), "v%u", r.version);

	if (r.pending_version)
		n += snprintf(text + n, sizeof(text) - (size_t)n, ">%u", r.pending_version);
	for (unsigned i = 0; i < r.n_members; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%c%u", i ? ',' : ' ',
			      r.members[i].server);
	return text;
}

static int ended; /* 1: not yet */

static inline void on_end(void *arg, int code)
{
	ended = code;
}

static inline void start(uint32_t drop)
{
	ended = 1;
	raise_start(&m, CHUNK, drop, on_end, NULL);
}

static inline void cut(uint64_t size)
{
	static uint64_t seq = 10;
	struct cmd_setattr cmd = {.req = {.id = {1, ++seq, 1}, .inode = file, .mask = SET_SIZE,
					  .size = size}};
	master_propose_quietly(&m, CMD_NUMBER_SETATTR, &cmd);
}

#define assert_story(expected)                                  \
	do {                                                    \
		assert_string_equal(buf_str(&story), expected); \
		buf_clear(&story);                              \
	} while (0)

/* The raise is logged and those that are asked for it have answered. */
static inline void step_until_raised(void)
{
	struct wire_header h = {.op = OP_CHUNK_RAISE};

	step();
	while (h.op == OP_CHUNK_RAISE) {
		step();
		assert_non_null(asked);
		assert_int_equal(wire_header_get(asked->message.data, &h, NULL), 0);
	}
}

/* The master dies, and with it what it had proposed and what it knew against replicas. */
static inline void restart(void)
{
	struct mark *mark, *next;

	m.stopping = true;
	fake_log_crash(0);
	for (unsigned s = 1; s <= SERVERS; s++) {
		link_down(s);
		csreg_find(&m.servers, s)->linked_ms = 0;
	}
	raise_free_all(&m);
	HASH_ITER(hh, m.servers.marks, mark, next)
		csreg_mark(&m.servers, mark->key.chunk, (uint32_t)mark->key.server, 0);
	m.stopping = false;
	m.servers.started_ms = fake_ms;
	buf_clear(&story);
	ended = 1;
	assert_int_equal(raise_resume(&m), 0);
}

#endif
