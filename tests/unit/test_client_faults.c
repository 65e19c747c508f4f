/* client: what it does when masters and chunkservers fail, against a cluster of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

#include "tests/unit/client_fixture.h"

static struct cairn_file *create(void)
{
	struct cairn_attr attr;
	struct cairn_file *f;

	assert_int_equal(cairn_create_at(fs, NULL, 1, "f", 0644, O_RDWR, &attr, &f), 0);
	assert_int_equal(cairn_file_inode(f), FAKE_FILE);
	return f;
}

/* A file with "hello" in it, and an empty trace. */
static struct cairn_file *hello(void)
{
	struct cairn_file *f = create();

	assert_int_equal(cairn_pwrite(f, "hello", 5, 0), 5);
	fake_trace_clear(&c);
	return f;
}

static void assert_reads(struct cairn_file *f, const char *expected)
{
	char buf[64];
	ssize_t n = cairn_pread(f, buf, sizeof(buf), 0);

	if (n < 0)
		fail_msg("pread: %s", cairn_error());
	assert_int_equal(n, strlen(expected));
	assert_memory_equal(buf, expected, strlen(expected));
}

static void assert_on_server(unsigned i, const char *expected)
{
	char has[64];

	pthread_mutex_lock(&c.lock);
	memcpy(has, c.servers[i].data[0], sizeof(has));
	pthread_mutex_unlock(&c.lock);
	assert_memory_equal(has, expected, strlen(expected));
}

/* ---- the master ---- */

/* A small file costs one message for each of its three steps. */
static void test_small_file(void **state)
{
	struct cairn_file *f = create();

	assert_int_equal(cairn_pwrite(f, "hello", 5, 0), 5);
	assert_trace(&c, "MAKE #1\nWRITE 0+5 v1 chain 1 on 1 create\nWROTE #2\n");
	assert_int_equal(cairn_pwrite(f, "you", 3, 2), 3);
	assert_trace(&c, "WRITE 2+3 v1 chain 1 on 1\nWROTE #3\n");
	assert_reads(f, "heyou");
	assert_int_equal(cairn_fsync(f), 0);
	fake_trace_clear(&c);
	assert_int_equal(cairn_fsync(f), 0); /* nothing is left to sync */
	assert_trace(&c, "");
	assert_int_equal(cairn_close(f), 0);
}

static void test_dropped_reply(void **state)
{
	struct cairn_file *f = create();

	fake_trace_clear(&c);
	c.master.drop_op = OP_WROTE;
	c.master.drops = 2;
	assert_int_equal(cairn_pwrite(f, "hello", 5, 0), 5);
	assert_trace(&c, "WRITE 0+5 v1 chain 1 on 1 create\nWROTE #2\nWROTE #2 again\n"
			 "WROTE #2 again\n");
	assert_int_equal(c.change, 2); /* executed once */
	cairn_close(f);
}

static void test_stale_connection(void **state)
{
	struct cairn_attr attr;
	int64_t best = INT64_MAX;

	/* At once: the first pause of a retry is 20 ms. One of several tries is not disturbed by
	 * whatever else this machine does. */
	for (int i = 0; i < 10; i++) {
		int64_t begin;
		assert_int_equal(cairn_getattr(fs, FAKE_FILE, &attr), 0);
		fake_hang_up(&c.master);
		begin = clock_ms();
		assert_int_equal(cairn_getattr(fs, FAKE_FILE, &attr), 0);
		best = clock_ms() - begin < best ? clock_ms() - begin : best;
	}
	assert_in_range(best, 0, 15);
}

static void test_expired_session(void **state)
{
	struct cairn_file *f = create();

	fake_trace_clear(&c);
	c.session = 77;
	assert_int_equal(cairn_pwrite(f, "hello", 5, 0), 5);
	assert_trace(&c, "WRITE 0+5 v1 chain 1 on 1 create\nWROTE #2 stale\nSESSION_OPEN\n"
			 "WROTE #1\n");
	cairn_close(f);
}

/* When an earlier attempt may have been executed, the new session must not do it again. */
static void test_expired_session_unsure(void **state)
{
	struct cairn_file *f = create();

	c.session = 77;
	c.master.drop_op = OP_WROTE;
	c.master.drops = 1;
	assert_int_equal(cairn_pwrite(f, "hello", 5, 0), -ESTALE);
	assert_non_null(strstr(cairn_error(), "outcome"));
	cairn_close(f);
}

static void test_not_leader(void **state)
{
	struct cairn_attr attr;

	c.master.fail_op = OP_GETATTR;
	c.master.fails = 2;
	c.master.fail_code = ERR_NOT_LEADER;
	assert_int_equal(cairn_getattr(fs, FAKE_FILE, &attr), 0);
	assert_trace(&c, "GETATTR fails\nGETATTR fails\nGETATTR\n");
}

static void test_second_master(void **state)
{
	struct cairn_options o = {.credentials = c.credentials, .timeout_ms = 5000};
	struct cairn *other;
	char list[512], dead[ADDR_BYTES_MAX], text[256];
	int fd;

	assert_int_equal(conn_listen("127.0.0.1:0", &fd, dead, NULL), 0);
	close(fd);
	snprintf(list, sizeof(list), "%s,%s", dead, c.masters);
	o.masters = list;
	assert_int_equal(cairn_connect(&o, &other, text, sizeof(text)), 0);
	cairn_disconnect(other);
	/* Nobody there: a line that names the master, within the time-out. */
	o.masters = dead;
	o.timeout_ms = 200;
	assert_int_equal(cairn_connect(&o, &other, text, sizeof(text)), -EIO);
	assert_null(other);
	assert_non_null(strstr(text, dead));
}

static void test_wrong_key(void **state)
{
	struct cairn_options o = {.masters = c.masters, .timeout_ms = 5000};
	struct cairn *other;
	char path[128], text[256];
	int64_t begin = clock_ms();

	snprintf(path, sizeof(path), "%s/other", c.dir);
	assert_int_equal(auth_key_create(path, NULL), 0);
	o.credentials = path;
	assert_int_equal(cairn_connect(&o, &other, text, sizeof(text)), -EACCES);
	assert_in_range(clock_ms() - begin, 0, 1000);
	unlink(path);
}

static void test_hold(void **state)
{
	struct cairn_file *f = hello();

	assert_int_equal(cairn_unlink_at(fs, NULL, 1, "f", false), 0);
	assert_trace(&c, "LOOKUP\nUNLINK #3\nhold 2\n");
	assert_reads(f, "hello");
	fake_trace_clear(&c);
	assert_int_equal(cairn_close(f), 0);
	assert_trace(&c, "RELEASE #4\n");
	assert_int_equal(cairn_unlink_at(fs, NULL, 1, "f", false), 0);
	assert_trace(&c, "UNLINK #5\nhold 0\n");
}

/* ---- every call ends ---- */

static void slow_master(unsigned op, unsigned ms)
{
	pthread_mutex_lock(&c.lock);
	c.master.slow_op = op;
	c.master.slow_ms = ms;
	pthread_mutex_unlock(&c.lock);
}

static struct cairn *impatient(int64_t timeout_ms)
{
	struct cairn_options o = {.masters = c.masters, .credentials = c.credentials, .name = "other",
				  .timeout_ms = timeout_ms, .readahead_bytes = -1};
	struct cairn *other;

	assert_int_equal(cairn_connect(&o, &other, NULL, 0), 0);
	return other;
}

struct caller {
	struct cairn *fs;
	struct cairn_file *file;
	pthread_t thread;
	int64_t took_ms;
	ssize_t result;
};

static void *append_one(void *arg)
{
	struct caller *a = arg;
	int64_t begin = clock_ms();

	a->result = cairn_pwrite(a->file, "x", 1, 0);
	a->took_ms = clock_ms() - begin;
	return NULL;
}

/* Appends follow each other: those behind one that gets no answer do not add up their time-outs. */
static void test_appends_end(void **state)
{
	struct cairn *other = impatient(700);
	struct caller callers[4] = {0};
	struct cairn_file *f;

	cairn_close(create());
	assert_int_equal(cairn_open_inode(other, NULL, FAKE_FILE, O_WRONLY | O_APPEND, &f), 0);
	slow_master(OP_LOCK, 30000);
	for (int i = 0; i < 4; i++) {
		callers[i].file = f;
		pthread_create(&callers[i].thread, NULL, append_one, &callers[i]);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(callers[i].thread, NULL);
		assert_int_equal(callers[i].result, -EIO);
		assert_in_range(callers[i].took_ms, 0, 1500);
	}
	cairn_close(f);
	cairn_disconnect(other);
}

static void *getattr_one(void *arg)
{
	struct caller *a = arg;
	struct cairn_attr attr;
	int64_t begin = clock_ms();

	a->result = cairn_getattr(a->fs, FAKE_FILE, &attr);
	a->took_ms = clock_ms() - begin;
	return NULL;
}

static bool asked_master(const char *what)
{
	char *trace = fake_trace_copy(&c);
	bool found = strstr(trace, what) != NULL;

	free(trace);
	return found;
}

static void test_abort(void **state)
{
	struct cairn *other = impatient(30000);
	struct caller callers[2] = {{.fs = other}, {.fs = other}};
	struct cairn_attr attr;
	int64_t begin;

	slow_master(OP_GETATTR, 30000);
	for (int i = 0; i < 2; i++)
		pthread_create(&callers[i].thread, NULL, getattr_one, &callers[i]);
	begin = clock_ms();
	while (!fake_is_slow(&c.master, 2) && clock_ms() - begin < 5000)
		poll(NULL, 0, 1);
	cairn_abort(other);
	for (int i = 0; i < 2; i++) {
		pthread_join(callers[i].thread, NULL);
		assert_int_equal(callers[i].result, -EIO);
		assert_in_range(callers[i].took_ms, 0, 6000);
	}
	begin = clock_ms();
	assert_int_equal(cairn_getattr(other, FAKE_FILE, &attr), -EIO);
	cairn_disconnect(other);
	assert_in_range(clock_ms() - begin, 0, 1000);
}

/* A file without a name is still open: there is something to tell the master, which is gone. */
static void test_disconnect_without_master(void **state)
{
	struct cairn *other = impatient(30000);
	struct cairn_file *f;
	int64_t begin;

	cairn_close(create());
	assert_int_equal(cairn_open_inode(other, NULL, FAKE_FILE, O_RDONLY, &f), 0);
	assert_int_equal(cairn_unlink_at(other, NULL, 1, "f", false), 0);
	assert_true(asked_master("hold 2"));
	fake_node_stop(&c.master);
	begin = clock_ms();
	cairn_disconnect(other);
	assert_in_range(clock_ms() - begin, 0, CLIENT_DISCONNECT_MS + 2000);
}

/* ---- reading ---- */

/* The replica that this session's reads of the first chunk begin with, 0 or 1. */
static unsigned first_replica(void)
{
	return (100 + c.session) % 2;
}

/* What the master cannot say just now is asked again: a raise that takes long, a chunk that was cut
 * away while the master waited for it. */
static void test_locate_passing(void **state)
{
	static const int codes[] = {ERR_CHUNK_PENDING, ERR_NO_CHUNK, ERR_CHUNK_VERSION,
				    ERR_NO_SERVERS};
	struct cairn_file *f = hello();

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		pthread_mutex_lock(&c.lock);
		c.master.fail_op = OP_LOCATE;
		c.master.fails = 2;
		c.master.fail_code = codes[i];
		pthread_mutex_unlock(&c.lock);
		assert_reads(f, "hello");
		assert_int_equal(c.master.fails, 0);
	}
	cairn_close(f);
}

static void test_read_unstable(void **state)
{
	struct cairn_file *f = hello();
	unsigned first = first_replica();
	char expected[256];

	c.servers[first].damaged_unstable = true;
	assert_reads(f, "hello");
	snprintf(expected, sizeof(expected),
		 "LOCATE\nREAD 0+4096 on %u\nREAD stable 0+4096 on %u\n", first + 1, first + 1);
	assert_trace(&c, expected);
	cairn_close(f);
}

static void test_read_damaged(void **state)
{
	struct cairn_file *f = hello();
	unsigned first = first_replica();
	char expected[256];

	c.servers[first].damaged = true;
	assert_reads(f, "hello");
	snprintf(expected, sizeof(expected),
		 "LOCATE\nREAD 0+4096 on %u\nREAD stable 0+4096 on %u\n"
		 "CHUNK_FAULT server %u writing 0 CHECKSUM\nREAD 0+4096 on %u\n",
		 first + 1, first + 1, first + 1, 2 - first);
	assert_trace(&c, expected);
	/* Both are damaged: an error that says where, never wrong bytes. */
	c.servers[1 - first].damaged = true;
	assert_int_equal(cairn_pread(f, expected, 5, 0), -EIO);
	assert_non_null(strstr(cairn_error(), "read chunk 64 v1 of inode 2 on 127.0.0.1:"));
	assert_non_null(strstr(cairn_error(), "checksum mismatch"));
	cairn_close(f);
}

/* A server that is out of contact with the master: no damage, others serve. */
static void test_lease(void **state)
{
	struct cairn_file *f = hello();
	struct fake_node *first = &c.servers[first_replica()];
	char expected[128];

	first->fail_op = OP_READ;
	first->fails = 1;
	first->fail_code = ERR_LEASE;
	assert_reads(f, "hello");
	snprintf(expected, sizeof(expected), "LOCATE\nREAD fails on %u\nREAD 0+4096 on %u\n",
		 first->number, 3 - first->number);
	assert_trace(&c, expected);
	c.servers[0].fail_op = OP_WRITE;
	c.servers[0].fails = 1;
	c.servers[0].fail_code = ERR_LEASE;
	assert_int_equal(cairn_pwrite(f, "HE", 2, 0), 2);
	assert_trace(&c, "WRITE fails on 1\nCHUNK_FAULT server 1 writing 1 LEASE\n"
			 "CHUNK_FOR_WRITE #3\nWRITE 0+2 v2 chain 0 on 2\nWROTE #4\n");
	cairn_close(f);
}

static void test_read_dead_server(void **state)
{
	struct cairn_file *f = hello();
	int64_t begin;

	assert_reads(f, "hello");
	fake_node_stop(&c.servers[first_replica()]);
	begin = clock_ms();
	for (int i = 0; i < 20; i++)
		assert_reads(f, "hello");
	assert_in_range(clock_ms() - begin, 0, 2000);
	cairn_close(f);
}

/* A restarted server has closed the pooled connections; that is no failure of it. */
static void test_read_restarted_server(void **state)
{
	struct cairn_file *f = hello();
	unsigned first = first_replica();
	char expected[128];

	assert_reads(f, "hello");
	fake_hang_up(&c.servers[first]);
	fake_trace_clear(&c);
	assert_reads(f, "hello");
	snprintf(expected, sizeof(expected), "LOCATE\nREAD 0+4096 on %u\n", first + 1);
	assert_trace(&c, expected);
	cairn_close(f);
}

/* A connection that was not made was not an idle one either, whatever the caller's variable held:
 * who takes it for one asks a dead server again. */
static void test_a_failure_is_not_pooled(void **state)
{
	bool pooled = true;
	struct conn *conn;

	/* Nobody listens on port 1 of loopback. */
	assert_true(peers_take(&fs->peers, "127.0.0.1:1", false, deadline_in(1000), &conn, &pooled,
			       NULL) < 0);
	assert_false(pooled);
}

/* Holes, unwritten chunks and what lies behind the servers' files are zeros; edges are exact. */
static void test_read_edges(void **state)
{
	enum { BYTES = FAKE_CHUNK_BYTES + (2 << 20) + 777 };
	struct cairn_file *f = create();
	uint8_t *out = malloc(BYTES), *in = malloc(BYTES + 10);

	for (size_t i = 0; i < BYTES; i++)
		out[i] = (uint8_t)(i * 31 + i / 4096);
	assert_int_equal(cairn_pwrite(f, out, BYTES, 0), BYTES);
	assert_int_equal(cairn_pread(f, in, BYTES + 10, 0), BYTES);
	assert_memory_equal(in, out, BYTES);
	assert_int_equal(cairn_pread(f, in, 10000, FAKE_CHUNK_BYTES - 5001), 10000);
	assert_memory_equal(in, out + FAKE_CHUNK_BYTES - 5001, 10000);
	assert_int_equal(cairn_pread(f, in, 10, 4090), 10);
	assert_memory_equal(in, out + 4090, 10);
	assert_int_equal(cairn_pread(f, in, 100, BYTES - 3), 3);
	assert_int_equal(cairn_pread(f, in, 100, BYTES), 0);
	/* A write beyond the end leaves a hole: chunk 2 does not exist. */
	assert_int_equal(cairn_pwrite(f, "x", 1, 3ull * FAKE_CHUNK_BYTES), 1);
	memset(in, 1, 100);
	assert_int_equal(cairn_pread(f, in, 100, 2ull * FAKE_CHUNK_BYTES + 50), 100);
	for (int i = 0; i < 100; i++)
		assert_int_equal(in[i], 0);
	free(out);
	free(in);
	cairn_close(f);
}

static void test_access_modes(void **state)
{
	struct cairn_file *f, *g;
	char b;

	cairn_close(hello());
	assert_int_equal(cairn_open_inode(fs, NULL, FAKE_FILE, O_RDONLY, &f), 0);
	assert_int_equal(cairn_open_inode(fs, NULL, FAKE_FILE, O_WRONLY | O_APPEND, &g), 0);
	assert_int_equal(cairn_pwrite(f, "x", 1, 0), -EBADF);
	assert_int_equal(cairn_pread(g, &b, 1, 0), -EBADF);
	assert_int_equal(cairn_pwrite(g, "!", 1, 0), 1);
	assert_reads(f, "hello!");
	cairn_close(f); /* g is left to cairn_disconnect */
}

/* ---- writing ---- */

static void test_head_dies(void **state)
{
	struct cairn_file *f = hello();

	fake_node_stop(&c.servers[0]);
	assert_int_equal(cairn_pwrite(f, "HE", 2, 0), 2);
	assert_trace(&c, "CHUNK_FAULT server 1 writing 1 UNREACHABLE\nCHUNK_FOR_WRITE #3\n"
			 "WRITE 0+2 v2 chain 0 on 2\nWROTE #4\n");
	assert_reads(f, "HEllo");
	cairn_close(f);
}

/* It dies with a piece in its hands: the piece is sent again, to the new head. */
static void test_head_dies_in_write(void **state)
{
	struct cairn_file *f = hello();

	c.servers[0].drop_op = OP_WRITE;
	c.servers[0].drops = 2; /* also the second try, on a fresh connection */
	assert_int_equal(cairn_pwrite(f, "HE", 2, 0), 2);
	assert_trace(&c, "WRITE dropped on 1\nWRITE dropped on 1\n"
			 "CHUNK_FAULT server 1 writing 1 CLOSED\nCHUNK_FOR_WRITE #3\n"
			 "WRITE 0+2 v2 chain 0 on 2\nWROTE #4\n");
	assert_on_server(1, "HEllo");
	cairn_close(f);
}

/* A token that has run out: asked anew, nobody is blamed, and no other replica is asked. */
static void test_token(void **state)
{
	struct cairn_file *f = hello();
	struct fake_node *first = &c.servers[first_replica()];
	char expected[128];

	first->fail_op = OP_READ;
	first->fails = 1;
	first->fail_code = ERR_TOKEN;
	assert_reads(f, "hello");
	snprintf(expected, sizeof(expected), "LOCATE\nREAD fails on %u\nLOCATE\nREAD 0+4096 on %u\n",
		 first->number, first->number);
	assert_trace(&c, expected);
	c.servers[0].fail_op = OP_WRITE;
	c.servers[0].fails = 5;
	c.servers[0].fail_code = ERR_TOKEN;
	assert_int_equal(cairn_pwrite(f, "HE", 2, 0), 2);
	assert_trace(&c, "WRITE fails on 1\nCHUNK_FOR_WRITE #3\nWRITE fails on 1\n"
			 "CHUNK_FOR_WRITE #4\nWRITE fails on 1\nCHUNK_FOR_WRITE #5\n"
			 "WRITE fails on 1\nCHUNK_FOR_WRITE #6\nWRITE fails on 1\n"
			 "CHUNK_FOR_WRITE #7\nWRITE 0+2 v1 chain 1 on 1\nWROTE #8\n");
	c.servers[0].fail_op = OP_SYNC;
	c.servers[0].fails = 1;
	assert_int_equal(cairn_fsync(f), 0);
	assert_trace(&c, "SYNC fails on 1\nLOCATE\nCHUNK_FOR_WRITE #9\nSYNC v1 on 1\n");
	cairn_close(f);
}

/* One that refuses a fresh token, too, is no reason to go without the others. */
static void test_a_server_that_refuses_every_token(void **state)
{
	struct cairn_file *f = hello();
	unsigned first = first_replica() + 1;
	char expected[256];

	c.servers[first - 1].fail_op = OP_READ;
	c.servers[first - 1].fails = 1000;
	c.servers[first - 1].fail_code = ERR_TOKEN;
	assert_reads(f, "hello");
	snprintf(expected, sizeof(expected),
		 "LOCATE\nREAD fails on %u\nLOCATE\nREAD fails on %u\nREAD 0+4096 on %u\n", first,
		 first, 3 - first);
	assert_trace(&c, expected);
	cairn_close(f);
}

static void test_chain_member_fails(void **state)
{
	struct cairn_file *f = hello();

	c.servers[0].fail_op = OP_WRITE;
	c.servers[0].fails = 1;
	c.servers[0].fail_code = ERR_PEER;
	c.servers[0].fail_server = 2;
	assert_int_equal(cairn_pwrite(f, "HE", 2, 0), 2);
	assert_trace(&c, "WRITE fails on 1\nCHUNK_FAULT server 2 writing 1 PEER\n"
			 "CHUNK_FOR_WRITE #3\nWRITE 0+2 v2 chain 0 on 1\nWROTE #4\n");
	cairn_close(f);
}

/* A raise that we have not heard of: asked again, nobody is blamed. */
static void test_write_version(void **state)
{
	struct cairn_file *f = hello();

	c.chunks[0].version = 5;
	assert_int_equal(cairn_pwrite(f, "HE", 2, 0), 2);
	assert_trace(&c, "WRITE 0+2 v1 chain 1 on 1\nCHUNK_FOR_WRITE #3\n"
			 "WRITE 0+2 v5 chain 1 on 1\nWROTE #4\n");
	/* It is the same write, and another one than hello's. */
	assert_int_equal(c.servers[0].n_seqs, 3);
	assert_true(c.servers[0].seqs[1] > c.servers[0].seqs[0]);
	assert_int_equal(c.servers[0].seqs[2], c.servers[0].seqs[1]);
	cairn_close(f);
}

static void test_write_checksum(void **state)
{
	struct cairn_file *f = hello();

	c.servers[0].fail_op = OP_WRITE;
	c.servers[0].fails = 2;
	c.servers[0].fail_code = ERR_CHECKSUM;
	assert_int_equal(cairn_pwrite(f, "HE", 2, 0), 2);
	assert_trace(&c, "WRITE fails on 1\nCHUNK_FOR_WRITE #3\nWRITE fails on 1\n"
			 "CHUNK_FAULT server 1 writing 1 CHECKSUM\nCHUNK_FOR_WRITE #4\n"
			 "WRITE 0+2 v2 chain 0 on 2\nWROTE #5\n");
	cairn_close(f);
}

static void test_write_no_space(void **state)
{
	struct cairn_file *f = hello();

	c.servers[0].fail_op = OP_WRITE;
	c.servers[0].fails = 100;
	c.servers[0].fail_code = ERR_NOSPC;
	c.master.fail_op = OP_CHUNK_FAULT;
	c.master.fails = 100;
	c.master.fail_code = ERR_NOSPC;
	assert_int_equal(cairn_pwrite(f, "HE", 2, 0), -ENOSPC);
	assert_trace(&c, "WRITE fails on 1\nCHUNK_FAULT fails\n");
	cairn_close(f);
}

static void test_fsync_moves(void **state)
{
	struct cairn_file *f = hello();

	fake_node_stop(&c.servers[0]);
	assert_int_equal(cairn_fsync(f), 0);
	assert_trace(&c, "CHUNK_FAULT server 1 writing 1 UNREACHABLE\nLOCATE\nCHUNK_FOR_WRITE #3\n"
			 "SYNC v2 on 2\n");
	cairn_close(f);
}

static void test_fsync_fails(void **state)
{
	struct cairn_file *f = hello();
	char *trace;

	c.servers[0].fail_op = c.servers[1].fail_op = OP_SYNC;
	c.servers[0].fails = c.servers[1].fails = 1000;
	c.servers[0].fail_code = c.servers[1].fail_code = ERR_IO;
	assert_int_equal(cairn_fsync(f), -EIO);
	assert_non_null(strstr(cairn_error(), "sync chunk 64"));
	/* It stays dirty: the next fsync tries again, and does not say that all is well. */
	c.servers[0].fails = c.servers[1].fails = 0;
	c.chunks[0].members[1] = true;
	fake_trace_clear(&c);
	assert_int_equal(cairn_fsync(f), 0);
	trace = fake_trace_copy(&c);
	assert_non_null(strstr(trace, "SYNC v"));
	free(trace);
	cairn_close(f);
}

/* Another session truncates and writes a new chunk: the old one would take our bytes still. */
static void test_write_after_foreign_truncate(void **state)
{
	struct cairn_file *f = hello();

	pthread_mutex_lock(&c.lock);
	fake_truncate(&c);
	fake_chunk_make(&c, 0);
	c.chunks[0].written = true;
	for (int i = 0; i < 2; i++) {
		memcpy(c.servers[i].data[0], "other", 5);
		c.servers[i].has[0] = true;
	}
	c.size = 5;
	c.change++;
	pthread_mutex_unlock(&c.lock);
	assert_int_equal(cairn_pwrite(f, "HE", 2, 0), 2);
	assert_trace(&c, "WRITE 0+2 v1 chain 1 on 1\nWROTE #3\nLOCATE\nCHUNK_FOR_WRITE #4\n"
			 "WRITE 0+2 v1 chain 1 on 1\nWROTE #5\n");
	/* Another write: a server that remembers the first one must not leave this one out. */
	assert_int_equal(c.servers[0].n_seqs, 3);
	assert_true(c.servers[0].seqs[2] > c.servers[0].seqs[1]);
	assert_reads(f, "HEher");
	cairn_close(f);
}

/* A foreign change that moved nothing costs one question, and nothing is sent again. */
static void test_write_after_foreign_chmod(void **state)
{
	struct cairn_file *f = hello();

	c.change++;
	assert_int_equal(cairn_pwrite(f, "HE", 2, 0), 2);
	assert_trace(&c, "WRITE 0+2 v1 chain 1 on 1\nWROTE #3\nLOCATE\n");
	assert_int_equal(cairn_pwrite(f, "hE", 2, 0), 2);
	assert_trace(&c, "WRITE 0+2 v1 chain 1 on 1\nWROTE #4\n");
	cairn_close(f);
}

/* ---- threads ---- */

enum { THREADS = 8, EACH = 40 };

static void *write_many(void *arg)
{
	struct cairn_file *f = arg;
	static atomic_int next;
	int n = atomic_fetch_add(&next, 1) % THREADS;

	for (int i = 0; i < EACH; i++) {
		uint64_t off = (uint64_t)(n * EACH + i) * 100;
		char text[100], back[100];
		memset(text, 'a' + n, sizeof(text));
		if (cairn_pwrite(f, text, 100, off) != 100 ||
		    cairn_pread(f, back, 100, off) != 100 || memcmp(text, back, 100) != 0)
			return (void *)1;
		if (i % 10 == 0 && cairn_fsync(f) != 0)
			return (void *)1;
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct cairn_file *f = create();
	pthread_t t[THREADS];
	void *failed;

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, write_many, f), 0);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(t[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(c.change, 1 + THREADS * EACH);
	assert_int_equal(c.size, THREADS * EACH * 100);
	cairn_close(f);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_small_file), TEST(test_dropped_reply), TEST(test_stale_connection),
		TEST(test_expired_session), TEST(test_expired_session_unsure),
		TEST(test_not_leader), TEST(test_second_master), TEST(test_wrong_key),
		TEST(test_appends_end), TEST(test_abort), TEST(test_disconnect_without_master),
		TEST(test_hold), TEST(test_locate_passing), TEST(test_read_unstable),
		TEST(test_read_damaged), TEST(test_lease), TEST(test_read_dead_server),
		TEST(test_read_restarted_server), TEST(test_a_failure_is_not_pooled),
		TEST(test_read_edges), TEST(test_access_modes), TEST(test_head_dies),
		TEST(test_head_dies_in_write), TEST(test_token),
		TEST(test_a_server_that_refuses_every_token),
		TEST(test_chain_member_fails),
		TEST(test_write_version), TEST(test_write_checksum), TEST(test_write_no_space),
		TEST(test_fsync_moves), TEST(test_fsync_fails),
		TEST(test_write_after_foreign_truncate), TEST(test_write_after_foreign_chmod),
		TEST(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
