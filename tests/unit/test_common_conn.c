/* common: auth and conn, over real loopback sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"
#include "common/waits.h"

static const struct auth_key good_key = {.bytes = "0123456789abcdef", .len = 16};
static const struct auth_key bad_key = {.bytes = "0123456789abcdeX", .len = 16};
static const struct cred client_cred = {.key = {.bytes = "0123456789abcdef", .len = 16},
					.role = ROLE_CLIENT, .name = "t"};
static const struct cred master_cred = {.key = {.bytes = "0123456789abcdef", .len = 16},
					.role = ROLE_MASTER};
static const struct cred bad_cred = {.key = {.bytes = "0123456789abcdeX", .len = 16},
				     .role = ROLE_MASTER};

/* Runs both sides in memory until one is done or refuses. */
static int shake(const struct auth_key *client_key, const struct auth_key *server_key,
		 void (*tamper)(struct buf *), struct auth *client, struct auth *server)
{
	_cleanup_buf_ struct buf to_server = {0}, to_client = {0};
	struct buf *in[2] = {&to_server, &to_client};
	struct auth *side[2] = {server, client};
	int done[2] = {0, 0};

	auth_accept(server, server_key, ROLE_MASTER);
	assert_int_equal(auth_connect(client, client_key, ROLE_CLIENT, "me", &to_server, NULL), 0);
	if (tamper)
		tamper(&to_server);
	for (int turn = 0; turn < 10 && !(done[0] && done[1]); turn++) {
		int i = turn % 2;
		struct wire_header h;
		struct err err = {0};
		_cleanup_buf_ struct buf message = *in[i];
		*in[i] = (struct buf){0};
		if (message.len == 0)
			continue;
		assert_int_equal(wire_header_get(message.data, &h, NULL), 0);
		done[i] = auth_step(side[i], &h, slice_of(message.data + WIRE_HEADER_BYTES,
							  h.fields_bytes), in[1 - i], &err);
		if (done[i] < 0)
			return done[i];
	}
	return done[0] && done[1] ? 1 : 0;
}

static void test_auth(void **state)
{
	struct auth a, b;

	assert_int_equal(shake(&good_key, &good_key, NULL, &a, &b), 1);
	assert_int_equal(a.peer_role, ROLE_MASTER);
	assert_int_equal(b.peer_role, ROLE_CLIENT);
	assert_string_equal(b.peer_name, "me");
	auth_release(&a);
	auth_release(&b);
	/* The connecting side finds out first, and sends no proof to a server without the key. */
	assert_int_equal(shake(&good_key, &bad_key, NULL, &a, &b), ERR_AUTH);
	assert_int_equal(a.state, AUTH_FAILED);
	assert_int_equal(b.state, AUTH_WAIT_PROVE);
	auth_release(&a);
	auth_release(&b);
}

/* A man in the middle turns the client into a chunkserver (and mends the message's CRC). */
static void tamper_role(struct buf *hello)
{
	struct cursor c = cursor_of(hello->data + WIRE_HEADER_BYTES, hello->len - WIRE_HEADER_BYTES);
	_cleanup_buf_ struct buf old = *hello;
	struct wire_hello m;
	assert_int_equal(wire_hello_get(&c, &m), 0);
	m.role = ROLE_CHUNKSERVER;
	*hello = (struct buf){0};
	wire_put_request(hello, OP_HELLO, 1, 0, &m, 0);
}

static void test_auth_role_is_protected(void **state)
{
	struct auth a, b;
	assert_int_equal(shake(&good_key, &good_key, tamper_role, &a, &b), ERR_AUTH);
	auth_release(&a);
	auth_release(&b);
}

static void test_auth_refuses_other_messages(void **state)
{
	_cleanup_buf_ struct buf b = {0}, out = {0};
	struct wire_empty empty;
	struct wire_header h;
	struct auth a;

	auth_accept(&a, &good_key, ROLE_MASTER);
	wire_put_request(&b, OP_CLUSTER_STATUS, 1, 0, &empty, 0);
	assert_int_equal(wire_header_get(b.data, &h, NULL), 0);
	assert_int_equal(auth_step(&a, &h, (struct slice){0}, &out, NULL), ERR_PROTOCOL);
	assert_int_equal(a.state, AUTH_FAILED);
	auth_release(&a);
}

/* ---- connections ---- */

struct server {
	int fd;
	char addr[ADDR_BYTES_MAX];
	const struct cred *cred;
	int accepted; /* result of conn_accept */
	pthread_t thread;
};

/* Serves one connection: answers XATTR_GET with its name; READ with a file's content. */
static void *serve(void *arg)
{
	struct server *s = arg;
	struct pollfd p = {.fd = s->fd, .events = POLLIN};
	struct conn *c = NULL;
	_cleanup_buf_ struct buf fields = {0};
	struct wire_header h;
	int fd;

	poll(&p, 1, 5000);
	fd = accept(s->fd, NULL, NULL);
	assert_true(fd >= 0);
	s->accepted = conn_accept(fd, s->cred, deadline_in(2000), &c, NULL);
	while (c && conn_recv(c, &h, &fields, deadline_in(5000), NULL) == 0) {
		struct cursor cur = cursor_slice(buf_slice(&fields));
		buf_clear(&c->out);
		if (h.op == OP_XATTR_GET) {
			struct wire_xattr_get req;
			struct wire_xattr_reply rep;
			assert_int_equal(wire_xattr_get_get(&cur, &req), 0);
			rep.value = req.name;
			wire_put_reply(&c->out, h.op, h.id, 0, &rep, 0);
			conn_send(c, buf_slice(&c->out), NULL, 0, deadline_in(1000), NULL);
		} else if (h.op == OP_READ) {
			struct wire_read_reply rep = {.sums = SLICE_LIT("")};
			_cleanup_fd_ int file = open("/proc/self/exe", O_RDONLY);
			wire_put_reply(&c->out, h.op, h.id, 0, &rep, 100000);
			conn_send_file(c, buf_slice(&c->out), file, 4096, 100000,
				       deadline_in(1000), NULL);
		} else if (h.op == OP_GETATTR) {
			continue; /* never answered */
		} else {
			wire_put_failure(&c->out, h.op, h.id, 0, ERR_NOENT, "not here", 0);
			conn_send(c, buf_slice(&c->out), NULL, 0, deadline_in(1000), NULL);
		}
	}
	conn_free(c);
	return NULL;
}

static void server_start(struct server *s, const struct cred *cred)
{
	*s = (struct server){.cred = cred};
	assert_int_equal(conn_listen("127.0.0.1:0", &s->fd, s->addr, NULL), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct server *s)
{
	pthread_join(s->thread, NULL);
	close(s->fd);
}

static void test_conn_calls(void **state)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_xattr_get get = {.name = SLICE_LIT("user.x")};
	struct wire_name_ref lookup = {.name = SLICE_LIT("nobody")};
	struct wire_xattr_reply xattr;
	struct wire_attr_reply attr;
	struct err err = {0};
	struct server s;
	struct conn *c;

	server_start(&s, &master_cred);
	assert_int_equal(conn_dial(s.addr, &client_cred, ROLE_MASTER, deadline_in(2000), &c,
				   &err), 0);
	assert_int_equal(c->peer_role, ROLE_MASTER);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(conn_call(c, OP_XATTR_GET, 0, &get, &xattr, &fields,
					   deadline_in(2000), &err), 0);
		assert_true(slice_eq(xattr.value, get.name));
	}
	/* A refusal leaves the connection good. */
	assert_int_equal(conn_call(c, OP_LOOKUP, 0, &lookup, &attr, &fields, deadline_in(2000),
				   &err), ERR_NOENT);
	assert_string_equal(err.text, "not here");
	assert_false(conn_broken(c));
	/* A silent server costs the deadline, then the connection is done. */
	struct wire_inode_ref ref = {.inode = 1};
	assert_int_equal(conn_call(c, OP_GETATTR, 0, &ref, &attr, &fields, deadline_in(50), &err),
			 ERR_TIMEOUT);
	assert_non_null(strstr(err.text, s.addr));
	assert_true(conn_broken(c));
	conn_free(c);
	server_stop(&s);
}

/* It does not answer, not even new connections: noticed long before the deadline. */
static void test_conn_watch_frozen(void **state)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_inode_ref ref = {.inode = 1};
	struct wire_attr_reply attr;
	struct err err = {0};
	int64_t begin;
	struct server s;
	struct conn *c;

	server_start(&s, &master_cred); /* which takes one connection */
	assert_int_equal(conn_dial(s.addr, &client_cred, ROLE_MASTER, deadline_in(2000), &c,
				   &err), 0);
	conn_watch(c);
	begin = clock_ms();
	assert_int_equal(conn_call(c, OP_GETATTR, 0, &ref, &attr, &fields, deadline_in(30000),
				   &err), ERR_UNREACHABLE);
	assert_in_range(clock_ms() - begin, NOTICE_MS - 50, NOTICE_MS + 1500);
	assert_non_null(strstr(err.text, "none to a new connection"));
	assert_true(conn_broken(c));
	conn_free(c);
	server_stop(&s);
}

/* Takes one request, serves others until it was asked by two of them, then answers. */
static void *serve_late(void *arg)
{
	struct server *s = arg;
	struct pollfd p = {.fd = s->fd, .events = POLLIN};
	struct wire_attr_reply attr = {.attr.inode = 7};
	_cleanup_buf_ struct buf fields = {0};
	struct conn *c = NULL, *other;
	struct wire_header h;

	poll(&p, 1, 5000);
	s->accepted = conn_accept(accept(s->fd, NULL, NULL), s->cred, deadline_in(2000), &c, NULL);
	assert_int_equal(conn_recv(c, &h, &fields, deadline_in(5000), NULL), 0);
	for (int i = 0; i < 2; i++) {
		poll(&p, 1, 5000);
		if (conn_accept(accept(s->fd, NULL, NULL), s->cred, deadline_in(2000),
				&other, NULL) == 0) {
			s->accepted++;
			conn_free(other);
		}
	}
	buf_clear(&c->out);
	wire_put_reply(&c->out, h.op, h.id, 0, &attr, 0);
	conn_send(c, buf_slice(&c->out), NULL, 0, deadline_in(1000), NULL);
	conn_free(c);
	return NULL;
}

/* A busy one is waited for as long as the caller likes. */
static void test_conn_watch_busy(void **state)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_inode_ref ref = {.inode = 1};
	struct server s = {.cred = &master_cred};
	struct wire_attr_reply attr;
	struct err err = {0};
	int64_t begin;
	struct conn *c;

	assert_int_equal(conn_listen("127.0.0.1:0", &s.fd, s.addr, NULL), 0);
	assert_int_equal(pthread_create(&s.thread, NULL, serve_late, &s), 0);
	assert_int_equal(conn_dial(s.addr, &client_cred, ROLE_MASTER, deadline_in(2000), &c,
				   &err), 0);
	conn_watch(c);
	begin = clock_ms();
	assert_int_equal(conn_call(c, OP_GETATTR, 0, &ref, &attr, &fields, deadline_in(20000),
				   &err), 0);
	assert_int_equal(attr.attr.inode, 7);
	assert_true(clock_ms() - begin >= 2 * PROBE_QUIET_MS);
	server_stop(&s);
	assert_int_equal(s.accepted, 2);
	conn_free(c);
}

static void test_conn_sends_files(void **state)
{
	_cleanup_buf_ struct buf fields = {0}, message = {0};
	_cleanup_free_ uint8_t *got = malloc(100000), *want = malloc(100000);
	_cleanup_fd_ int exe = open("/proc/self/exe", O_RDONLY);
	struct wire_read read = {.chunk = 1};
	struct wire_header h;
	struct server s;
	struct conn *c;

	server_start(&s, &master_cred);
	assert_int_equal(conn_dial(s.addr, &client_cred, ROLE_MASTER, deadline_in(2000), &c,
				   NULL), 0);
	wire_put_request(&message, OP_READ, 7, 0, &read, 0);
	/* Two requests in flight: the answers come one after the other. */
	for (int i = 0; i < 2; i++)
		assert_int_equal(conn_send(c, buf_slice(&message), NULL, 0, deadline_in(1000),
					   NULL), 0);
	assert_int_equal(pread(exe, want, 100000, 4096), 100000);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(conn_recv(c, &h, &fields, deadline_in(2000), NULL), 0);
		assert_int_equal(h.data_bytes, 100000);
		assert_int_equal(conn_recv_data(c, got, 100000, deadline_in(2000), NULL), 0);
		assert_memory_equal(got, want, 100000);
	}
	conn_free(c);
	server_stop(&s);
}

static void test_conn_wrong_key(void **state)
{
	struct err err = {0};
	struct server s;
	struct conn *c = NULL;

	server_start(&s, &bad_cred);
	assert_int_equal(conn_dial(s.addr, &client_cred, ROLE_MASTER, deadline_in(2000), &c,
				   &err), ERR_AUTH);
	assert_null(c);
	assert_non_null(strstr(err.text, s.addr));
	server_stop(&s);
	assert_true(s.accepted < 0);
}

static void test_conn_hostile_hello(void **state)
{
	struct server s;
	struct conn raw = {0};
	uint8_t junk[64];

	server_start(&s, &master_cred);
	raw.fd = socket(AF_INET, SOCK_STREAM, 0);
	char host[ADDR_BYTES_MAX], port[8];
	assert_int_equal(addr_split(s.addr, host, port, NULL), 0);
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htobe16((uint16_t)atoi(port)),
				  .sin_addr.s_addr = htobe32(0x7f000001)};
	assert_int_equal(connect(raw.fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	memset(junk, 'G', sizeof(junk));
	assert_int_equal(write(raw.fd, junk, sizeof(junk)), sizeof(junk));
	server_stop(&s);
	assert_int_equal(s.accepted, ERR_PROTOCOL);
	close(raw.fd);
}

static void test_conn_nobody_there(void **state)
{
	char addr[ADDR_BYTES_MAX];
	struct err err = {0};
	struct conn *c = NULL;
	int fd;

	assert_int_equal(conn_listen("127.0.0.1:0", &fd, addr, NULL), 0);
	/* The port in use: said with its address. */
	int fd2 = -1;
	assert_true(conn_listen(addr, &fd2, NULL, &err) < 0);
	assert_non_null(strstr(err.text, addr));
	close(fd);
	assert_int_equal(conn_dial(addr, &client_cred, ROLE_MASTER, deadline_in(1000), &c, &err),
			 ERR_UNREACHABLE);
	assert_non_null(strstr(err.text, addr));
}

static void test_addr_split(void **state)
{
	static const char *const bad[] = {"", "host", "host:", "host:x", "host:70000", "::1:80",
					  "h:123456"};
	char host[ADDR_BYTES_MAX], port[8];

	assert_int_equal(addr_split("[::1]:80", host, port, NULL), 0);
	assert_string_equal(host, "::1");
	assert_int_equal(addr_split(":0", host, port, NULL), 0);
	assert_string_equal(host, "");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(addr_split(bad[i], host, port, NULL), ERR_INVAL);
}

static void test_key_files(void **state)
{
	char dir[] = "/tmp/cairn-test-XXXXXX", path[64];
	struct auth_key key, again;
	struct err err = {0};

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/key", dir);
	assert_int_equal(auth_key_create(path, &err), 0);
	assert_int_equal(auth_key_create(path, &err), ERR_EXIST);
	assert_int_equal(auth_key_load(path, &key, &err), 0);
	assert_int_equal(key.len, 32);
	assert_int_equal(auth_key_load(path, &again, &err), 0);
	assert_memory_equal(key.bytes, again.bytes, 32);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(auth_key_load(path, &key, &err), ERR_CONFIG);
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(truncate(path, 20), 0);
	assert_int_equal(auth_key_load(path, &key, &err), ERR_CONFIG);
	assert_non_null(strstr(err.text, path));
	unlink(path);
	assert_int_equal(auth_key_load(path, &key, &err), ERR_NOENT);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_auth),
		cmocka_unit_test(test_auth_role_is_protected),
		cmocka_unit_test(test_auth_refuses_other_messages),
		cmocka_unit_test(test_conn_calls),
		cmocka_unit_test(test_conn_watch_frozen),
		cmocka_unit_test(test_conn_watch_busy),
		cmocka_unit_test(test_conn_sends_files),
		cmocka_unit_test(test_conn_wrong_key),
		cmocka_unit_test(test_conn_hostile_hello),
		cmocka_unit_test(test_conn_nobody_there),
		cmocka_unit_test(test_addr_split),
		cmocka_unit_test(test_key_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
