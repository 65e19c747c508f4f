/* chunkserver: the data port, driven as clients and other chunkservers do it: two servers in one
 * process, each with a store of its own, on loopback ports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "chunkserver/serve.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"
#include "common/crc.h"
#include "common/log.h"

enum { BITS = 20, CHUNK = 0x77, SERVERS = 2, CALL_MS = 10000 };

struct server {
	struct store *store;
	struct serve_options options;
	struct lease lease;
	int listen_fd, stop_fds[2];
	char addr[ADDR_BYTES_MAX], dir[128];
	pthread_t thread;
};

static char root[64];
static struct server servers[SERVERS];
static struct auth_key key;
static unsigned faults; /* reports of a failed next server */
static int fault_reason;
static struct conn *conn; /* to the head */

static void on_damaged(void *arg, const struct wire_have *have)
{
}

static void on_fault(void *arg, uint64_t chunk, uint32_t version, uint32_t server, int reason)
{
	assert_int_equal(server, 2);
	faults++;
	fault_reason = reason;
}

static void *serve_thread(void *arg)
{
	struct server *s = arg;
	serve(&s->options, s->listen_fd, s->stop_fds[0]);
	return NULL;
}

static void start(struct server *s, unsigned i)
{
	struct err err = {0};
	char *dirs[] = {s->dir};
	struct store_options o = {.io = &io_real, .dirs = dirs, .n_dirs = 1, .damaged = on_damaged};

	snprintf(s->dir, sizeof(s->dir), "%s/%u", root, i);
	if (store_open(&o, &s->store, &err) != 0 ||
	    conn_listen("127.0.0.1:0", &s->listen_fd, s->addr, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(pipe(s->stop_fds), 0);
	lease_renew(&s->lease, clock_ms(), 0);
	s->options = (struct serve_options){.store = s->store, .lease = &s->lease, .key = &key,
					    .name = "test", .io_timeout_ms = 3000,
					    .max_connections = 16, .fault = on_fault};
	assert_int_equal(pthread_create(&s->thread, NULL, serve_thread, s), 0);
}

static void stop(struct server *s)
{
	if (!s->store)
		return;
	assert_int_equal(write(s->stop_fds[1], "x", 1), 1);
	pthread_join(s->thread, NULL);
	close(s->listen_fd);
	close(s->stop_fds[0]);
	close(s->stop_fds[1]);
	store_close(s->store);
	s->store = NULL;
}

static struct conn *dial(unsigned i, uint16_t role)
{
	struct err err = {0};
	struct conn *c;

	if (conn_dial(servers[i].addr, &key, role, "test", deadline_in(CALL_MS), &c, &err) != 0)
		fail_msg("%s", err.text);
	return c;
}

static int setup(void **state)
{
	log_setup("test", LOG_ERROR);
	key = (struct auth_key){.len = 32};
	memset(key.bytes, 'k', key.len);
	snprintf(root, sizeof(root), "%s/cairn-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR")
									     : "/tmp");
	assert_non_null(mkdtemp(root));
	faults = 0;
	for (unsigned i = 0; i < SERVERS; i++)
		start(&servers[i], i);
	conn = dial(0, ROLE_CLIENT);
	return 0;
}

static int teardown(void **state)
{
	char cmd[128];

	conn_free(conn);
	for (unsigned i = 0; i < SERVERS; i++)
		stop(&servers[i]);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", root);
	return system(cmd);
}

/* ---- requests ---- */

static struct wire_write write_of(uint32_t version, uint32_t offset, bool chain)
{
	struct wire_write m = {.chunk = CHUNK, .version = version, .offset = offset,
			       .chunk_bits = BITS, .flags = WRITE_CREATE};
	if (chain) {
		m.n_chain = 1;
		m.chain[0] = (struct wire_replica){.server = 2, .addr = slice_str(servers[1].addr)};
	}
	return m;
}

static void send_write(struct conn *c, struct wire_write m, const void *data, uint32_t len)
{
	_cleanup_buf_ struct buf out = {0};
	uint8_t sums[64];
	struct err err = {0};

	m.sums = slice_of(sums, 4 * crc_sums(sums, data, m.offset, len));
	assert_int_equal(wire_put_request(&out, OP_WRITE, c->next_id++, 0, &m, len), 0);
	if (conn_send(c, buf_slice(&out), data, len, deadline_in(CALL_MS), &err) != 0)
		fail_msg("%s", err.text);
}

static int take_answer(struct conn *c, uint32_t *ret_server)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_empty empty;
	struct wire_header h;
	struct err err = {0};

	if (conn_recv(c, &h, &fields, deadline_in(CALL_MS), &err) != 0)
		return err.code;
	return wire_get_reply(&h, buf_slice(&fields), &empty, ret_server, &err);
}

static int write_text(struct conn *c, struct wire_write m, const char *text)
{
	uint32_t server;

	send_write(c, m, text, (uint32_t)strlen(text));
	return take_answer(c, &server);
}

static int read_flags(struct conn *c, uint32_t version, uint8_t flags, char *ret, size_t n)
{
	_cleanup_buf_ struct buf out = {0}, fields = {0};
	struct wire_read req = {.chunk = CHUNK, .version = version, .len = BLOCK_BYTES,
				.flags = flags};
	struct wire_read_reply rep;
	uint8_t data[BLOCK_BYTES] = {0};
	struct wire_header h;
	struct err err = {0};
	int r;

	assert_int_equal(wire_put_request(&out, OP_READ, c->next_id++, 0, &req, 0), 0);
	assert_int_equal(conn_send(c, buf_slice(&out), NULL, 0, deadline_in(CALL_MS), &err), 0);
	assert_int_equal(conn_recv(c, &h, &fields, deadline_in(CALL_MS), &err), 0);
	r = wire_get_reply(&h, buf_slice(&fields), &rep, NULL, &err);
	if (r < 0)
		return r;
	assert_int_equal(conn_recv_data(c, data, h.data_bytes, deadline_in(CALL_MS), &err), 0);
	assert_int_equal(rep.sums.len, h.data_bytes / BLOCK_BYTES * 4);
	assert_int_equal(crc_sums_check(rep.sums.data, data, 0, h.data_bytes), -1);
	memcpy(ret, data, n);
	ret[n] = '\0';
	return 0;
}

/* The first bytes of the chunk on server i. */
static void expect_bytes(unsigned i, uint32_t version, const char *text)
{
	struct conn *c = dial(i, ROLE_CLIENT);
	char got[64];

	assert_int_equal(read_flags(c, version, 0, got, strlen(text)), 0);
	assert_string_equal(got, text);
	assert_int_equal(read_flags(c, version, READ_STABLE, got, strlen(text)), 0);
	assert_string_equal(got, text);
	conn_free(c);
}

static void raise_both(uint32_t version)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = version,
					 .new_version = version + 1, .flags = CHUNK_WRITTEN,
					 .length = CHUNK_LENGTH_KEEP};
	struct wire_chunk_state answer;
	struct err err = {0};

	for (unsigned i = 0; i < SERVERS; i++)
		if (servers[i].store && store_raise(servers[i].store, &raise, NULL,
						    deadline_in(3000), &answer, &err) != 0)
			fail_msg("%s", err.text);
}

static int call(uint16_t op, const void *m, void *ret, struct buf *fields)
{
	struct err err = {0};
	return conn_call(conn, op, 0, m, ret, fields, deadline_in(CALL_MS), &err);
}

/* ---- the tests ---- */

static void test_a_write_goes_down_the_chain(void **state)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_sync sync = {.chunk = CHUNK, .version = 1, .n_chain = 1};
	struct wire_sums sums = {.chunk = CHUNK, .version = 1};
	struct wire_sums_reply table;
	struct wire_empty empty;

	sync.chain[0] = write_of(1, 0, true).chain[0];
	assert_int_equal(write_text(conn, write_of(1, 0, true), "hello"), 0);
	assert_int_equal(write_text(conn, write_of(1, 5, true), ", world"), 0);
	expect_bytes(0, 1, "hello, world");
	expect_bytes(1, 1, "hello, world");
	assert_int_equal(call(OP_SYNC, &sync, &empty, &fields), 0);
	assert_int_equal(call(OP_SUMS, &sums, &table, &fields), 0);
	assert_int_equal(table.length, BLOCK_BYTES);
	assert_int_equal(table.sums.len, 4);
	assert_int_equal(faults, 0);
}

static void test_many_are_under_way_and_answered_in_order(void **state)
{
	enum { N = 40 };
	char text[16];
	uint32_t server;

	for (unsigned i = 0; i < N; i++) {
		snprintf(text, sizeof(text), "%02u", i);
		send_write(conn, write_of(1, 2 * i, true), text, 2);
	}
	/* One that is refused among them. */
	send_write(conn, write_of(7, 0, true), "xx", 2);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(take_answer(conn, &server), 0);
	assert_int_equal(take_answer(conn, &server), ERR_CHUNK_VERSION);
	expect_bytes(1, 1, "000102030405060708091011121314");
}

static void test_refusals(void **state)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_write m = write_of(1, 0, false);
	struct wire_sums sums = {.chunk = CHUNK, .version = 1};
	struct wire_sums_reply table;
	char got[8];

	assert_int_equal(read_flags(conn, 1, 0, got, 1), ERR_NO_CHUNK);
	assert_int_equal(call(OP_SUMS, &sums, &table, &fields), ERR_NO_CHUNK);
	m.flags = 0;
	assert_int_equal(write_text(conn, m, "x"), ERR_NO_CHUNK);
	assert_int_equal(write_text(conn, write_of(1, 0, false), "x"), 0);
	assert_int_equal(write_text(conn, write_of(2, 0, false), "x"), ERR_CHUNK_VERSION);
	assert_int_equal(read_flags(conn, 2, 0, got, 1), ERR_CHUNK_VERSION);
	/* Only chunkservers may ask for what is not known to be current. */
	assert_int_equal(read_flags(conn, 1, READ_RECOVER | READ_STABLE, got, 1), ERR_PERM);
	/* A write that cannot be what its sender means ends the connection; others go on. */
	m = write_of(1, 1u << BITS, false);
	m.flags = WRITE_CREATE;
	assert_int_equal(write_text(conn, m, "x"), ERR_CLOSED);
	expect_bytes(0, 1, "x");
}

static void test_damaged_on_the_way(void **state)
{
	_cleanup_buf_ struct buf out = {0};
	struct wire_write m = write_of(1, 0, true);
	uint8_t sums[4];
	struct err err = {0};
	uint32_t server;
	char got[8];

	crc_sums(sums, "good", 0, 4);
	m.sums = slice_of(sums, 4);
	assert_int_equal(wire_put_request(&out, OP_WRITE, conn->next_id++, 0, &m, 4), 0);
	assert_int_equal(conn_send(conn, buf_slice(&out), "goof", 4, deadline_in(CALL_MS), &err), 0);
	assert_int_equal(take_answer(conn, &server), ERR_CHECKSUM);
	assert_int_equal(faults, 0); /* nobody in the chain is to blame */
	raise_both(1);
	assert_int_equal(read_flags(conn, 2, 0, got, 1), 0);
	assert_int_equal(got[0], 0);
}

static void test_the_next_server_fails(void **state)
{
	uint32_t server = 0;
	char got[8];

	assert_int_equal(write_text(conn, write_of(1, 0, true), "one"), 0);
	stop(&servers[1]);
	send_write(conn, write_of(1, 0, true), "two", 3);
	assert_int_equal(take_answer(conn, &server), ERR_PEER);
	assert_int_equal(server, 2);
	assert_true(faults >= 1);
	/* Whether "two" counts is for the raise to say. */
	raise_both(1);
	assert_int_equal(read_flags(conn, 2, 0, got, 3), 0);
	assert_int_equal(write_text(conn, write_of(2, 0, false), "six"), 0);
	expect_bytes(0, 2, "six");
}

static void test_a_committed_write_is_not_applied_again(void **state)
{
	struct conn *other = dial(0, ROLE_CLIENT);
	struct wire_write m = write_of(1, 0, true);

	m.session = 5;
	m.seq = 1;
	assert_int_equal(write_text(conn, m, "first"), 0);
	assert_int_equal(write_text(other, write_of(1, 0, true), "other"), 0);
	/* The answer was lost: it comes again, and must not undo what came between. */
	assert_int_equal(write_text(conn, m, "first"), 0);
	expect_bytes(0, 1, "other");
	expect_bytes(1, 1, "other");
	/* Also at the next version, and to the member that is the head then. */
	raise_both(1);
	m = write_of(2, 0, true);
	m.session = 5;
	m.seq = 1;
	assert_int_equal(write_text(conn, m, "first"), 0);
	expect_bytes(0, 2, "other");
	m.n_chain = 0;
	conn_free(other);
	other = dial(1, ROLE_CLIENT);
	assert_int_equal(write_text(other, m, "first"), 0);
	expect_bytes(1, 2, "other");
	/* Another one is. */
	m = write_of(2, 0, true);
	m.session = 5;
	m.seq = 2;
	assert_int_equal(write_text(conn, m, "after"), 0);
	expect_bytes(1, 2, "after");
	conn_free(other);
}

static void test_what_only_the_head_has_is_sent_again(void **state)
{
	struct wire_write m = write_of(1, 0, true);
	uint32_t server = 0;

	assert_int_equal(write_text(conn, m, "start"), 0);
	servers[1].lease.until_ms = 0; /* applies nothing */
	m.session = 5;
	m.seq = 1;
	send_write(conn, m, "again", 5);
	assert_int_equal(take_answer(conn, &server), ERR_PEER);
	assert_int_equal(server, 2);
	lease_renew(&servers[1].lease, clock_ms(), 0);
	/* At the same version the head has it and the other has not: it goes there again. */
	assert_int_equal(write_text(conn, m, "again"), 0);
	raise_both(1);
	expect_bytes(1, 2, "again");
	expect_bytes(0, 2, "again");
}

static void test_no_lease_no_service(void **state)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_sync sync = {.chunk = CHUNK, .version = 1};
	struct wire_sums sums = {.chunk = CHUNK, .version = 1};
	struct wire_sums_reply table;
	struct wire_empty empty;
	char got[8];

	assert_int_equal(write_text(conn, write_of(1, 0, true), "data"), 0);
	lease_renew(&servers[0].lease, clock_ms() - 100, 100);
	assert_int_equal(read_flags(conn, 1, 0, got, 4), ERR_LEASE);
	assert_int_equal(read_flags(conn, 1, READ_STABLE, got, 4), ERR_LEASE);
	assert_int_equal(write_text(conn, write_of(1, 0, true), "none"), ERR_LEASE);
	assert_int_equal(call(OP_SYNC, &sync, &empty, &fields), ERR_LEASE);
	assert_int_equal(call(OP_SUMS, &sums, &table, &fields), ERR_LEASE);
	/* The connection is good: as soon as the master answers, it goes on. */
	lease_renew(&servers[0].lease, clock_ms(), 60000);
	expect_bytes(0, 1, "data");
	expect_bytes(1, 1, "data");
	assert_int_equal(write_text(conn, write_of(1, 0, true), "more"), 0);
	assert_int_equal(faults, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_a_write_goes_down_the_chain),
		T(test_many_are_under_way_and_answered_in_order),
		T(test_refusals),
		T(test_damaged_on_the_way),
		T(test_the_next_server_fails),
		T(test_a_committed_write_is_not_applied_again),
		T(test_what_only_the_head_has_is_sent_again),
		T(test_no_lease_no_service),
#undef T
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
