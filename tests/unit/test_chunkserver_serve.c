/* chunkserver: the data port, driven as clients and other chunkservers do it: two servers in one
 * process, each with a store of its own, on loopback ports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chunkserver/pull.h"
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
static struct cred client_cred, server_cred;
static struct keys keys;
static struct token_key key = {.number = 7, .secret = "of the master"};
static unsigned faults; /* reports of a failed next server */
static int fault_reason;
static struct conn *conn; /* to the head */

/* The disks, but that a file's fdatasync is counted and may fail. */
static struct io disk;
static atomic_uint syncs;
static atomic_int sync_fails; /* with this, each of them */

static int disk_fdatasync(const struct io *io, int fd)
{
	int code = atomic_load(&sync_fails);

	atomic_fetch_add(&syncs, 1);
	return code < 0 ? code : io_real.fdatasync(&io_real, fd);
}

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
	struct store_options o = {.io = &disk, .dirs = dirs, .n_dirs = 1, .damaged = on_damaged};

	snprintf(s->dir, sizeof(s->dir), "%s/%u", root, i);
	if (store_open(&o, &s->store, &err) != 0 ||
	    conn_listen("127.0.0.1:0", &s->listen_fd, s->addr, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(pipe(s->stop_fds), 0);
	lease_renew(&s->lease, clock_ms(), 0);
	s->options = (struct serve_options){.store = s->store, .lease = &s->lease, .keys = &keys,
					    .cred = &server_cred,
					    .io_timeout_ms = 3000,
					    .max_connections = 16, .hangup_fd = -1, .fault = on_fault};
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

	if (conn_dial(servers[i].addr, role == ROLE_CLIENT ? &client_cred : &server_cred,
		      ROLE_CHUNKSERVER, deadline_in(CALL_MS), &c, &err) != 0)
		fail_msg("%s", err.text);
	return c;
}

static void setup_keys(void)
{
	struct wire_token_key told = {.number = key.number,
				      .secret = slice_of(key.secret, sizeof(key.secret))};

	keys_init(&keys);
	keys_take(&keys, &told, 1, clock_ms());
}

static int setup(void **state)
{
	log_setup("test", LOG_ERROR);
	client_cred = (struct cred){.key.len = 32, .role = ROLE_CLIENT, .name = "test"};
	memset(client_cred.key.bytes, 'k', client_cred.key.len);
	server_cred = client_cred;
	server_cred.role = ROLE_CHUNKSERVER;
	snprintf(root, sizeof(root), "%s/cairn-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR")
									     : "/tmp");
	assert_non_null(mkdtemp(root));
	faults = 0;
	disk = io_real;
	disk.fdatasync = disk_fdatasync;
	atomic_store(&sync_fails, 0);
	setup_keys();
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
	keys_release(&keys);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", root);
	return system(cmd);
}

/* ---- requests ---- */

/* As the master gives one, good for a minute. The bytes last for a few calls. */
static struct slice token_of(uint64_t chunk, uint32_t version, uint64_t session,
			     const struct wire_replica *members, unsigned n)
{
	static uint8_t room[8][TOKEN_BYTES_MAX];
	static unsigned next;
	uint8_t *bytes = room[next++ % 8];
	struct token t = {.rights = TOKEN_READ | TOKEN_WRITE, .version = version, .chunk = chunk,
			  .session = session, .expires_ms = 60000};

	for (unsigned i = 0; i < n; i++)
		assert_true(token_tag(&key, members[i].server, members[i].addr,
				      t.members[t.n_members++]));
	return slice_of(bytes, token_seal(&key, &t, (struct slice){0}, bytes));
}

static struct slice write_token(const struct wire_write *m)
{
	return token_of(m->chunk, m->version, m->session, m->chain, m->n_chain);
}

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
	m.token = write_token(&m);
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
				.flags = flags, .token = token_of(CHUNK, version, 0, NULL, 0)};
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
	struct wire_sums sums = {.chunk = CHUNK, .version = 1,
				 .token = token_of(CHUNK, 1, 0, NULL, 0)};
	struct wire_sums_reply table;
	struct wire_empty empty;

	sync.chain[0] = write_of(1, 0, true).chain[0];
	sync.token = token_of(CHUNK, 1, 0, sync.chain, 1);
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

/* Every member has synced when the answer comes, and what could not be synced is no success. */
static void test_a_write_that_is_to_be_synced(void **state)
{
	struct wire_write m = write_of(1, 0, true);
	unsigned before;

	assert_int_equal(write_text(conn, m, "hello"), 0);
	before = atomic_load(&syncs);
	m.flags |= WRITE_SYNC;
	assert_int_equal(write_text(conn, m, "HELLO"), 0);
	/* At least: the stores sync by themselves now and then. */
	assert_true(atomic_load(&syncs) >= before + SERVERS);
	expect_bytes(0, 1, "HELLO");
	expect_bytes(1, 1, "HELLO");

	before = atomic_load(&syncs);
	atomic_store(&sync_fails, ERR_IO);
	assert_true(write_text(conn, m, "again") < 0);
	assert_true(atomic_load(&syncs) > before);
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
	struct wire_sums sums = {.chunk = CHUNK, .version = 1,
				 .token = token_of(CHUNK, 1, 0, NULL, 0)};
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
	m.token = write_token(&m);
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

/* Server 1 is told to pull, and does. */
static int pull_now(const struct wire_chunk_pull *req, struct wire_chunk_state *ret,
		    struct err *err)
{
	return pull_chunk(servers[1].store, &server_cred, req, store_moment(servers[1].store), ret,
			  err);
}

/* Data whose checksum is that of zeros is no hole. (The bytes are the polynomial itself.) */
static void test_a_copy_has_what_looks_like_a_hole(void **state)
{
	static const char hidden[] = "\xf1\x76\xec\x05\x01";
	struct wire_chunk_pull pull = {.chunk = CHUNK, .source_version = 1, .new_version = 1,
				       .chunk_bits = BITS, .source = {.server = 1}};
	struct wire_write m = write_of(1, 0, false);
	struct wire_chunk_state copied;
	struct err err = {0};
	uint8_t sum[4];

	crc_sums(sum, hidden, 0, strlen(hidden));
	assert_int_equal(get_le32(sum), 0);
	assert_int_equal(write_text(conn, m, hidden), 0);
	m.offset = 7 * BLOCK_BYTES; /* after holes */
	assert_int_equal(write_text(conn, m, "end"), 0);
	/* Also where the copy is made over something that looks the same. */
	for (unsigned i = 0; i < 2; i++) {
		pull.source.addr = slice_str(servers[0].addr);
		if (pull_now(&pull, &copied, &err) != 0)
			fail_msg("%s", err.text);
		assert_int_equal(copied.length, 8 * BLOCK_BYTES);
		expect_bytes(1, 1 + i, hidden);
		raise_both(1 + i);
		pull.source_version = pull.new_version = 2 + i;
	}
}

/* The inode of the chunk's file on server i: another one when it was built anew. */
static ino_t file_of(unsigned i, uint32_t version)
{
	char path[256], name[64];
	struct stat st;

	format_name_put(name, CHUNK, version);
	snprintf(path, sizeof(path), "%s/chunks/%s", servers[i].dir, name);
	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

static uint32_t digest_of(unsigned i, uint32_t version)
{
	struct wire_chunk_state state;
	struct err err = {0};

	if (store_check(servers[i].store, CHUNK, version, &state, &err) != 0)
		fail_msg("%s", err.text);
	return state.digest;
}

static void raise_first(uint32_t version, uint64_t length)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = version,
					 .new_version = version + 1, .flags = CHUNK_WRITTEN,
					 .length = length};
	struct wire_chunk_state answer;
	struct err err = {0};

	assert_int_equal(store_raise(servers[0].store, &raise, NULL, deadline_in(3000), &answer,
				     &err), 0);
}

/* What comes back lacks a few blocks: they are put into its file. Building another one would cost
 * the disk the whole chunk, and the next server may fail meanwhile. */
static void test_what_lacks_a_few_blocks_is_not_copied_whole(void **state)
{
	struct wire_chunk_pull pull = {.chunk = CHUNK, .chunk_bits = BITS, .source = {.server = 1}};
	struct wire_chunk_state copied;
	struct err err = {0};
	ino_t file;

	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(write_text(conn, write_of(1, i * BLOCK_BYTES, true), "old"), 0);
	file = file_of(1, 1);
	raise_first(1, CHUNK_LENGTH_KEEP);
	assert_int_equal(write_text(conn, write_of(2, 0, false), "new"), 0);
	assert_int_equal(write_text(conn, write_of(2, 17 * BLOCK_BYTES, false), "new"), 0);
	assert_int_equal(write_text(conn, write_of(2, 60 * BLOCK_BYTES, false), "longer"), 0);
	pull.source.addr = slice_str(servers[0].addr);
	pull.source_version = pull.new_version = 2;
	if (pull_now(&pull, &copied, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(copied.length, 61 * BLOCK_BYTES);
	assert_int_equal(copied.digest, digest_of(0, 2));
	assert_int_equal(digest_of(1, 2), digest_of(0, 2));
	assert_int_equal(file_of(1, 2), file);
	expect_bytes(1, 2, "new");
	/* Shorter, with a hole in it, and already of the version that it is to have. */
	raise_first(2, 30 * BLOCK_BYTES + 1);
	pull.source_version = pull.new_version = 3;
	for (unsigned i = 0; i < 2; i++) {
		if (pull_now(&pull, &copied, &err) != 0)
			fail_msg("%s", err.text);
		assert_int_equal(copied.length, 31 * BLOCK_BYTES);
		assert_int_equal(digest_of(1, 3), digest_of(0, 3));
		assert_int_equal(file_of(1, 3), file);
	}
}

/* ---- copies ---- */

enum { SOURCE = 0x99, SOURCE_BYTES = 3 * BLOCK_BYTES + 100 };

static uint8_t source_bytes[1 << BITS];

/* The source's replica on server i, with a hole in it and an end before the chunk's. */
static void put_source(unsigned i)
{
	struct conn *c = dial(i, ROLE_CLIENT);
	struct wire_write m = write_of(1, 0, false);
	uint32_t server;

	m.chunk = SOURCE;
	memset(source_bytes, 0, sizeof(source_bytes));
	for (unsigned b = 0; b < SOURCE_BYTES; b++)
		if (b < BLOCK_BYTES || b >= 2 * BLOCK_BYTES)
			source_bytes[b] = (uint8_t)(b * 7 + b / 256 + 1);
	send_write(c, m, source_bytes, BLOCK_BYTES);
	assert_int_equal(take_answer(c, &server), 0);
	m.offset = 2 * BLOCK_BYTES;
	send_write(c, m, source_bytes + m.offset, SOURCE_BYTES - m.offset);
	assert_int_equal(take_answer(c, &server), 0);
	conn_free(c);
}

static struct wire_copy copy_of(uint32_t from, uint32_t to, uint32_t len)
{
	struct wire_copy m = {.to = write_of(1, to, true), .len = len, .source = SOURCE,
			      .source_version = 1, .source_offset = from, .n_from = 1};

	m.from[0] = (struct wire_replica){.server = 2, .addr = slice_str(servers[1].addr)};
	return m;
}

static int copy(const struct wire_copy *with)
{
	struct wire_copy copy = *with, *m = &copy;
	_cleanup_buf_ struct buf fields = {0};
	struct wire_empty empty;

	m->to.token = write_token(&m->to);
	m->source_token = token_of(m->source, m->source_version, 0, m->from, m->n_from);
	return call(OP_COPY, m, &empty, &fields);
}

/* Both servers' replicas of the destination have these bytes there. */
static void expect_copied(const uint8_t *bytes, uint32_t offset, uint32_t len)
{
	for (unsigned i = 0; i < SERVERS; i++) {
		uint8_t data[8 * BLOCK_BYTES], sums[4 * 8];
		struct replica *replica;
		struct chunk_file file;
		size_t n;

		assert_int_equal(store_acquire(servers[i].store, CHUNK, 1, 0, deadline_in(CALL_MS),
					       &replica, &file, NULL), 0);
		assert_int_equal(chunk_file_read(&file, offset / BLOCK_BYTES * BLOCK_BYTES,
						 sizeof(data), data, sums, &n, NULL), 0);
		memset(data + n, 0, sizeof(data) - n);
		assert_memory_equal(data + offset % BLOCK_BYTES, bytes, len);
		store_release(servers[i].store, replica);
	}
}

static void test_a_copy_goes_down_the_chain(void **state)
{
	static const struct { uint32_t from, to, len; } parts[] = {
		{0, 0, 4 * BLOCK_BYTES}, {0, 5, 3}, {100, 50, BLOCK_BYTES}, {50, 9000, 2 * BLOCK_BYTES},
		{BLOCK_BYTES + 1, 3 * BLOCK_BYTES - 1, 20}, {SOURCE_BYTES - 10, 7, 30},
		{0, 20 * BLOCK_BYTES, 1}, {BLOCK_BYTES, 0, BLOCK_BYTES}};

	/* The source is with the other server only, then here too. */
	for (unsigned round = 0; round < 2; round++) {
		put_source(1 - round);
		for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
			struct wire_copy m = copy_of(parts[i].from, parts[i].to, parts[i].len);
			if (round == 1)
				m.n_from = 0;
			assert_int_equal(copy(&m), 0);
			expect_copied(source_bytes + parts[i].from, parts[i].to, parts[i].len);
		}
	}
	assert_int_equal(faults, 0);
}

static void test_a_copy_within_one_chunk(void **state)
{
	struct wire_copy m = copy_of(0, 5, 4);

	assert_int_equal(write_text(conn, write_of(1, 0, true), "0123456789"), 0);
	m.source = CHUNK;
	m.n_from = 0;
	assert_int_equal(copy(&m), 0);
	expect_bytes(0, 1, "0123401239");
	expect_bytes(1, 1, "0123401239");
}

/* What only some members have may be taken back: it is not to live on in a copy. */
static void test_a_source_in_doubt(void **state)
{
	struct wire_copy m = copy_of(0, 0, 10);
	struct replica *replica;
	struct chunk_file file;
	struct range range;

	assert_int_equal(write_text(conn, write_of(1, 0, true), "as it was."), 0);
	put_source(0);
	assert_int_equal(store_acquire(servers[0].store, SOURCE, 1, 0, deadline_in(CALL_MS), &replica,
				       &file, NULL), 0);
	assert_int_equal(store_range_lock(servers[0].store, replica, 0, 0, false, 0, &range), 0);
	store_in_doubt(servers[0].store, &range);
	store_range_unlock(servers[0].store, &range);
	store_release(servers[0].store, replica);
	assert_int_equal(copy(&m), ERR_SOURCE);
	expect_bytes(0, 1, "as it was.");
	/* Another server's replica is asked instead. */
	put_source(1);
	assert_int_equal(copy(&m), 0);
	expect_copied(source_bytes, 0, 10);
}

static void test_a_source_that_cannot_be_read(void **state)
{
	struct wire_copy m = copy_of(0, 0, 10);
	struct replica *replica;
	struct chunk_file file;
	struct err err = {0};

	assert_int_equal(write_text(conn, write_of(1, 0, true), "as it was."), 0);
	assert_int_equal(copy(&m), ERR_SOURCE);
	put_source(0);
	put_source(1);
	m.source_version = 2;
	assert_int_equal(copy(&m), ERR_SOURCE);
	m.source_version = 1;
	m.from[0].addr = SLICE_LIT("127.0.0.1:1");
	/* Damaged here: the other one's counts, if it can be had. */
	assert_int_equal(store_acquire(servers[0].store, SOURCE, 1, 0, deadline_in(CALL_MS), &replica,
				       &file, &err), 0);
	assert_int_equal(pwrite(file.fd, "X", 1, file.data_offset + 3), 1);
	store_release(servers[0].store, replica);
	assert_int_equal(copy(&m), ERR_SOURCE);
	expect_bytes(0, 1, "as it was.");
	m = copy_of(0, 0, 10);
	assert_int_equal(copy(&m), 0);
	expect_copied(source_bytes, 0, 10);
	assert_int_equal(faults, 0);
}

static void test_copies_that_cannot_be_meant(void **state)
{
	struct wire_copy m;

	put_source(0);
	m = copy_of(0, 0, 0);
	assert_int_equal(copy(&m), ERR_PROTOCOL);
	m = copy_of(0, 0, DATA_BYTES_MAX + 1);
	assert_int_equal(copy(&m), ERR_PROTOCOL);
	m = copy_of(0, (1 << BITS) - 1, 2);
	assert_int_equal(copy(&m), ERR_PROTOCOL);
	m = copy_of(1u << BITS, 0, 2);
	m.n_from = 0;
	assert_int_equal(copy(&m), ERR_SOURCE);
	m = copy_of(0xfffff000, 0, 2);
	assert_int_equal(copy(&m), ERR_PROTOCOL);
	m = copy_of(0, 0, 10);
	assert_int_equal(copy(&m), 0); /* the connection is still good */
}

static void test_the_chain_fails_under_a_copy(void **state)
{
	struct wire_copy m = copy_of(0, 0, 10);

	put_source(0);
	assert_int_equal(copy(&m), 0);
	stop(&servers[1]);
	assert_int_equal(copy(&m), ERR_PEER);
	assert_true(faults >= 1);
}

/* ---- a next server that says what the test wants ---- */

struct tail {
	int listen_fd;
	char addr[ADDR_BYTES_MAX];
};

/* Takes two writes; says twice that the first one is done, then that the second one is not. */
static void *answer_twice(void *arg)
{
	_cleanup_buf_ struct buf fields = {0}, out = {0};
	struct tail *tail = arg;
	struct wire_header h[2];
	struct wire_empty empty;
	struct err err = {0};
	struct conn *c = NULL;
	char data[8];
	int fd = accept(tail->listen_fd, NULL, NULL);

	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (conn_accept(fd, &server_cred, deadline_in(CALL_MS), &c, &err) != 0)
		return "accept";
	for (unsigned i = 0; i < 2; i++)
		if (conn_recv(c, &h[i], &fields, deadline_in(CALL_MS), &err) != 0 ||
		    conn_recv_data(c, data, h[i].data_bytes, deadline_in(CALL_MS), &err) != 0)
			return "receive";
	wire_put_reply(&out, OP_WRITE, h[0].id, 0, &empty, 0);
	wire_put_reply(&out, OP_WRITE, h[0].id, 0, &empty, 0);
	wire_put_failure(&out, OP_WRITE, h[1].id, 0, ERR_NOSPC, "full", 0);
	conn_send(c, buf_slice(&out), NULL, 0, deadline_in(CALL_MS), &err);
	conn_recv(c, &h[0], &fields, deadline_in(CALL_MS), &err); /* until it is closed */
	conn_free(c);
	return NULL;
}

static void test_an_answer_that_comes_twice_counts_once(void **state)
{
	struct wire_write m = write_of(1, 0, true);
	struct tail tail;
	struct err err = {0};
	uint32_t server = 0;
	pthread_t thread;
	void *wrong;

	assert_int_equal(conn_listen("127.0.0.1:0", &tail.listen_fd, tail.addr, &err), 0);
	fcntl(tail.listen_fd, F_SETFL, 0); /* accept() waits */
	assert_int_equal(pthread_create(&thread, NULL, answer_twice, &tail), 0);
	m.chain[0].addr = slice_str(tail.addr);
	send_write(conn, m, "one", 3);
	m.offset = BLOCK_BYTES;
	send_write(conn, m, "two", 3);
	assert_int_equal(take_answer(conn, &server), 0);
	assert_int_equal(take_answer(conn, &server), ERR_PEER);
	assert_int_equal(server, 2);
	assert_int_equal(fault_reason, ERR_NOSPC);
	conn_free(conn);
	conn = dial(0, ROLE_CLIENT);
	pthread_join(thread, &wrong);
	assert_null(wrong);
	close(tail.listen_fd);
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

/* A client that was told nothing by the master. What it does not get it has not done. */
static void test_no_token_no_service(void **state)
{
	_cleanup_buf_ struct buf fields = {0}, out = {0};
	struct wire_write m = write_of(1, 0, true), other = write_of(2, 0, true);
	struct wire_sync sync = {.chunk = CHUNK, .version = 1, .n_chain = 1};
	struct wire_sums sums = {.chunk = CHUNK, .version = 1};
	struct wire_read read = {.chunk = CHUNK, .version = 1, .len = BLOCK_BYTES};
	struct wire_copy copied = copy_of(0, 0, 1);
	struct wire_read_reply bytes;
	struct wire_sums_reply table;
	struct wire_empty empty;
	uint64_t before = serve_refused();
	uint8_t sum[4];
	uint32_t server;

	assert_int_equal(write_text(conn, m, "mine"), 0);
	put_source(0);
	m.sums = slice_of(sum, 4 * crc_sums(sum, "late", 0, 4));
	m.token = write_token(&other);
	assert_int_equal(wire_put_request(&out, OP_WRITE, conn->next_id++, 0, &m, 4), 0);
	assert_int_equal(conn_send(conn, buf_slice(&out), "late", 4, deadline_in(CALL_MS), NULL), 0);
	assert_int_equal(take_answer(conn, &server), ERR_TOKEN);
	sync.chain[0] = m.chain[0];
	assert_int_equal(call(OP_SYNC, &sync, &empty, &fields), ERR_TOKEN);
	assert_int_equal(call(OP_SUMS, &sums, &table, &fields), ERR_TOKEN);
	assert_int_equal(call(OP_READ, &read, &bytes, &fields), ERR_TOKEN);
	/* To a chunk that it may write to, from one that it may not read. */
	copied.to.token = write_token(&copied.to);
	assert_int_equal(call(OP_COPY, &copied, &empty, &fields), ERR_SOURCE);
	assert_int_equal(serve_refused() - before, 5);
	expect_bytes(0, 1, "mine");
	expect_bytes(1, 1, "mine");
	/* Another chunkserver needs none. */
	conn_free(conn);
	conn = dial(0, ROLE_CHUNKSERVER);
	assert_int_equal(call(OP_SUMS, &sums, &table, &fields), 0);
	assert_int_equal(faults, 0);
}

/* Servers that the master did not name are not connected to, whoever the client is. */
static void test_only_members_are_dialled(void **state)
{
	_cleanup_buf_ struct buf fields = {0}, out = {0};
	struct wire_write m = write_of(1, 0, true);
	struct wire_sync sync = {.chunk = CHUNK, .version = 1, .n_chain = 1};
	struct wire_copy copied = copy_of(0, 0, 1);
	struct wire_empty empty;
	struct err err = {0};
	char addr[ADDR_BYTES_MAX];
	uint8_t sum[4];
	uint32_t server;
	int fd;

	assert_int_equal(write_text(conn, m, "mine"), 0);
	assert_int_equal(conn_listen("127.0.0.1:0", &fd, addr, &err), 0);
	m.sums = slice_of(sum, 4 * crc_sums(sum, "late", 0, 4));
	m.token = write_token(&m);
	m.chain[0].addr = slice_str(addr);
	assert_int_equal(wire_put_request(&out, OP_WRITE, conn->next_id++, 0, &m, 4), 0);
	assert_int_equal(conn_send(conn, buf_slice(&out), "late", 4, deadline_in(CALL_MS), NULL), 0);
	assert_int_equal(take_answer(conn, &server), ERR_TOKEN);
	/* Nor is a member's address good under another number, which would be blamed for it. */
	sync.chain[0] = (struct wire_replica){.server = 3, .addr = slice_str(servers[1].addr)};
	sync.token = m.token;
	assert_int_equal(call(OP_SYNC, &sync, &empty, &fields), ERR_TOKEN);
	copied.to.token = write_token(&copied.to);
	copied.source_token = token_of(SOURCE, 1, 0, copied.from, 1);
	copied.from[0].addr = slice_str(addr);
	assert_int_equal(call(OP_COPY, &copied, &empty, &fields), ERR_SOURCE);
	assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0), 0);
	close(fd);
	expect_bytes(0, 1, "mine");
	assert_int_equal(faults, 0);
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
		T(test_a_write_that_is_to_be_synced),
		T(test_many_are_under_way_and_answered_in_order),
		T(test_refusals),
		T(test_damaged_on_the_way),
		T(test_the_next_server_fails),
		T(test_a_copy_has_what_looks_like_a_hole),
		T(test_what_lacks_a_few_blocks_is_not_copied_whole),
		T(test_a_copy_goes_down_the_chain),
		T(test_a_copy_within_one_chunk),
		T(test_a_source_in_doubt),
		T(test_a_source_that_cannot_be_read),
		T(test_copies_that_cannot_be_meant),
		T(test_the_chain_fails_under_a_copy),
		T(test_an_answer_that_comes_twice_counts_once),
		T(test_a_committed_write_is_not_applied_again),
		T(test_what_only_the_head_has_is_sent_again),
		T(test_no_token_no_service),
		T(test_only_members_are_dialled),
		T(test_no_lease_no_service),
#undef T
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
