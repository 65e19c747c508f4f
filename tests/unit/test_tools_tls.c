/* TLS between real sockets, with certificates of a real authority: who is let in, who is not, and what
 * a reload changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"
#include "common/log.h"
#include "tools/ca.h"

enum { CALL_MS = 5000, FILE_BYTES = 300000, YEAR_S = 365 * CA_DAY_S };

static char root[200];
static struct ca ca;

/* ---- the authority ---- */

/* Issues one and returns its credentials directory. host NULL: none. */
static const char *give(uint16_t role, const char *name, const char *host, int64_t lifetime_s)
{
	const char *const hosts[] = {host};
	struct ca_request req = {.role = role, .name = name, .hosts = hosts, .n_hosts = host ? 1 : 0,
				 .now_s = (int64_t)time(NULL), .lifetime_s = lifetime_s};
	const struct ca_entry *e;
	struct err err = {0};

	if (ca_issue(&ca, &req, &e, &err) != 0)
		fail_msg("%s", err.text);
	return e->out;
}

static void take_back(const char *which)
{
	unsigned n;

	assert_int_equal(ca_revoke(&ca, which, (int64_t)time(NULL), &n, NULL), 0);
}

static struct cred load(const char *path, uint16_t role)
{
	struct cred cred = {.role = 0};
	struct err err = {0};

	if (cred_load(&cred, path, NULL, 1u << role, "test", &err) != 0)
		fail_msg("%s", err.text);
	return cred;
}

static int set_up(void **state)
{
	char dir[256];

	log_setup("test", LOG_ERROR);
	snprintf(root, sizeof(root), "%s/cairn-tls-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert_non_null(mkdtemp(root));
	snprintf(dir, sizeof(dir), "%s/ca", root);
	assert_int_equal(ca_init(dir, (int64_t)time(NULL), NULL), 0);
	assert_int_equal(ca_open(dir, &ca, NULL), 0);
	return 0;
}

static int tear_down(void **state)
{
	char command[256];

	ca_close(&ca);
	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command);
}

/* ---- a server: answers LOOKUP with a failure, READ with FILE_BYTES of this program ---- */

struct server {
	int fd;
	char addr[ADDR_BYTES_MAX];
	const struct cred *cred;
	unsigned connections; /* that it takes before it ends */
	int accepted;	      /* how the last set-up ended */
	char why[ERR_TEXT_MAX];
	bool resumed;
	int ended; /* why the last connection ended */
	pthread_t thread;
};

static int answer(struct conn *c, const struct wire_header *h, struct err *err)
{
	struct wire_read_reply rep = {.sums = SLICE_LIT("")};
	_cleanup_fd_ int file = -1;

	buf_clear(&c->out);
	if (h->op != OP_READ) {
		wire_put_failure(&c->out, h->op, h->id, 0, ERR_NOENT, "not here", 0);
		return conn_send(c, buf_slice(&c->out), NULL, 0, deadline_in(CALL_MS), err);
	}
	file = open("/proc/self/exe", O_RDONLY);
	wire_put_reply(&c->out, h->op, h->id, 0, &rep, FILE_BYTES);
	return conn_send_file(c, buf_slice(&c->out), file, 4096, FILE_BYTES, deadline_in(CALL_MS), err);
}

static void *serve(void *arg)
{
	struct server *s = arg;

	for (unsigned i = 0; i < s->connections; i++) {
		_cleanup_buf_ struct buf fields = {0};
		struct pollfd p = {.fd = s->fd, .events = POLLIN};
		struct conn *c = NULL;
		struct wire_header h;
		struct err err = {0};
		poll(&p, 1, CALL_MS);
		s->accepted = conn_accept(accept(s->fd, NULL, NULL), s->cred, deadline_in(CALL_MS), &c,
					  &err);
		snprintf(s->why, sizeof(s->why), "%s", err.text);
		s->resumed = c && c->tls && c->tls->resumed;
		s->ended = 0;
		while (c && s->ended == 0) {
			s->ended = conn_recv(c, &h, &fields, deadline_in(CALL_MS), &err);
			if (s->ended == 0)
				s->ended = answer(c, &h, &err);
		}
		conn_free(c);
	}
	return NULL;
}

static void server_start(struct server *s, const struct cred *cred, unsigned connections)
{
	*s = (struct server){.cred = cred, .connections = connections};
	assert_int_equal(conn_listen("127.0.0.1:0", &s->fd, s->addr, NULL), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_join(struct server *s)
{
	pthread_join(s->thread, NULL);
	close(s->fd);
}

static int call(struct conn *c, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_name_ref lookup = {.name = SLICE_LIT("nobody")};
	struct wire_attr_reply attr;

	return conn_call(c, OP_LOOKUP, 0, &lookup, &attr, &fields, deadline_in(CALL_MS), err);
}

/* Dials and calls once. 0, or why not. */
static int visit(const char *addr, const struct cred *cred, uint16_t want, struct err *err)
{
	struct conn *c;
	int r = conn_dial(addr, cred, want, deadline_in(CALL_MS), &c, err);

	if (r < 0)
		return r;
	r = call(c, err);
	conn_free(c);
	return r == ERR_NOENT ? 0 : r;
}

/* ---- the tests ---- */

static void test_let_in(void **state)
{
	struct cred master = load(give(ROLE_MASTER, "m", "127.0.0.1", YEAR_S), ROLE_MASTER);
	struct cred client = load(give(ROLE_CLIENT, "c", NULL, YEAR_S), ROLE_CLIENT);
	_cleanup_free_ uint8_t *got = malloc(FILE_BYTES), *want = malloc(FILE_BYTES);
	_cleanup_fd_ int file = open("/proc/self/exe", O_RDONLY);
	_cleanup_buf_ struct buf out = {0}, fields = {0};
	struct wire_read read = {.chunk = 1};
	struct wire_header h;
	struct err err = {0};
	struct server s;
	struct conn *c;

	server_start(&s, &master, 2);
	assert_int_equal(conn_dial(s.addr, &client, ROLE_MASTER, deadline_in(CALL_MS), &c, &err), 0);
	assert_int_equal(c->peer_role, ROLE_MASTER);
	assert_string_equal(c->tls->peer.name, "m");
	assert_false(c->tls->resumed);
	assert_int_equal(call(c, &err), ERR_NOENT);
	assert_false(conn_readable(c));
	/* Data from a file, more than one record and more than one buffer. */
	assert_int_equal(wire_put_request(&out, OP_READ, c->next_id++, 0, &read, 0), 0);
	assert_int_equal(conn_send(c, buf_slice(&out), NULL, 0, deadline_in(CALL_MS), &err), 0);
	assert_int_equal(conn_recv(c, &h, &fields, deadline_in(CALL_MS), &err), 0);
	assert_int_equal(h.data_bytes, FILE_BYTES);
	assert_int_equal(conn_recv_data(c, got, FILE_BYTES, deadline_in(CALL_MS), &err), 0);
	assert_int_equal(pread(file, want, FILE_BYTES, 4096), FILE_BYTES);
	assert_memory_equal(got, want, FILE_BYTES);
	conn_free(c);
	/* The next one goes on with the session, and is who it was. */
	assert_int_equal(conn_dial(s.addr, &client, ROLE_MASTER, deadline_in(CALL_MS), &c, &err), 0);
	assert_true(c->tls->resumed);
	assert_string_equal(c->tls->peer.name, "m");
	assert_int_equal(call(c, &err), ERR_NOENT);
	conn_free(c);
	server_join(&s);
	assert_true(s.resumed);
	cred_release(&client);
	cred_release(&master);
}

static void test_wrong_peers(void **state)
{
	struct cred master = load(give(ROLE_MASTER, "m", "127.0.0.1", YEAR_S), ROLE_MASTER);
	struct cred elsewhere = load(give(ROLE_MASTER, "e", "10.9.9.9", YEAR_S), ROLE_MASTER);
	struct cred chunkserver = load(give(ROLE_CHUNKSERVER, "cs", "127.0.0.1", YEAR_S), ROLE_CHUNKSERVER);
	struct cred client = load(give(ROLE_CLIENT, "c", NULL, YEAR_S), ROLE_CLIENT);
	struct cred other = load(give(ROLE_CLIENT, "o", NULL, YEAR_S), ROLE_CLIENT);
	struct cred plain = {.key = {.bytes = "0123456789abcdef", .len = 16}, .role = ROLE_CLIENT};
	struct cred plain_master = plain;
	const struct { const struct cred *server, *client; int want; const char *text; } cases[] = {
		{&chunkserver, &client, ERR_WRONG_CLUSTER, "not a master"},
		{&other, &client, ERR_AUTH, "purpose"}, /* a client's certificate does not serve */
		{&elsewhere, &client, ERR_AUTH, "not for host 127.0.0.1"},
		{&master, &plain, ERR_AUTH, "speaks TLS"},
		{&plain_master, &client, 0, ""},
	};

	plain_master.role = ROLE_MASTER;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err = {0};
		struct server s;
		int r;
		server_start(&s, cases[i].server, 1);
		r = visit(s.addr, cases[i].client, ROLE_MASTER, &err);
		if (cases[i].want ? r != cases[i].want : r >= 0)
			fail_msg("case %zu: %d %s", i, r, err.text);
		if (!strstr(err.text, cases[i].text) || !strstr(err.text, s.addr))
			fail_msg("case %zu: %s", i, err.text);
		server_join(&s);
	}
	cred_release(&master);
	cred_release(&elsewhere);
	cred_release(&chunkserver);
	cred_release(&client);
	cred_release(&other);
}

/* Another authority's certificates, on either side. */
static void test_other_cluster(void **state)
{
	struct cred master = load(give(ROLE_MASTER, "m", "127.0.0.1", YEAR_S), ROLE_MASTER);
	struct ca ours = ca;
	struct cred stranger;
	struct err err = {0};
	char dir[256];
	struct server s;

	snprintf(dir, sizeof(dir), "%s/other", root);
	assert_int_equal(ca_init(dir, (int64_t)time(NULL), NULL), 0);
	assert_int_equal(ca_open(dir, &ca, NULL), 0);
	stranger = load(give(ROLE_CLIENT, "c", NULL, YEAR_S), ROLE_CLIENT);
	ca_close(&ca);
	ca = ours;
	server_start(&s, &master, 1);
	assert_int_equal(visit(s.addr, &stranger, ROLE_MASTER, &err), ERR_AUTH);
	server_join(&s);
	assert_true(s.accepted < 0);
	cred_release(&stranger);
	cred_release(&master);
}

static void test_revoked(void **state)
{
	struct cred master = load(give(ROLE_MASTER, "m", "127.0.0.1", YEAR_S), ROLE_MASTER);
	struct cred client = load(give(ROLE_CLIENT, "c", NULL, YEAR_S), ROLE_CLIENT);
	struct err err = {0};
	struct server s;
	struct conn *c;

	/* Who is refused looks at its own files, finds the new list, and tries once more: three. */
	server_start(&s, &master, 3);
	assert_int_equal(conn_dial(s.addr, &client, ROLE_MASTER, deadline_in(CALL_MS), &c, &err), 0);
	assert_int_equal(call(c, &err), ERR_NOENT);
	take_back("client/c");
	/* Not known to the server yet. */
	assert_int_equal(call(c, &err), ERR_NOENT);
	assert_int_equal(tls_reload(master.tls, &err), 0);
	/* The connection that is there ends with the next message, and no other is made. */
	assert_true(call(c, &err) == ERR_NOENT || conn_broken(c));
	if (!conn_broken(c))
		assert_int_not_equal(call(c, &err), ERR_NOENT);
	assert_true(conn_broken(c));
	conn_free(c);
	assert_int_equal(visit(s.addr, &client, ROLE_MASTER, &err), ERR_AUTH);
	assert_non_null(strstr(err.text, "revoked"));
	server_join(&s);
	assert_int_equal(s.accepted, ERR_AUTH);
	assert_non_null(strstr(s.why, "revoked"));
	cred_release(&client);
	cred_release(&master);
}

/* A ticket of when the certificate was good does not outlive it. */
static void test_expired_is_not_resumed(void **state)
{
	struct cred master = load(give(ROLE_MASTER, "m", "127.0.0.1", YEAR_S), ROLE_MASTER);
	int64_t until_s = (int64_t)time(NULL) + 2;
	struct cred client = load(give(ROLE_CLIENT, "c", NULL, 2), ROLE_CLIENT);
	struct err err = {0};
	struct server s;
	struct conn *c;
	int r;

	server_start(&s, &master, 2);
	assert_int_equal(conn_dial(s.addr, &client, ROLE_MASTER, deadline_in(CALL_MS), &c, &err), 0);
	assert_int_equal(call(c, &err), ERR_NOENT);
	while ((int64_t)time(NULL) <= until_s + 1)
		usleep(50000); /* what is waited for is the clock */
	/* Two: the server may have waited for the first one since before. */
	r = call(c, &err);
	if (r == ERR_NOENT)
		r = call(c, &err);
	assert_int_not_equal(r, ERR_NOENT);
	conn_free(c);
	assert_int_not_equal(visit(s.addr, &client, ROLE_MASTER, &err), 0);
	server_join(&s);
	assert_int_equal(s.accepted, ERR_AUTH);
	assert_non_null(strstr(s.why, "expired"));
	cred_release(&client);
	cred_release(&master);
}

static void test_reload(void **state)
{
	const char *dir = give(ROLE_CLIENT, "c", NULL, YEAR_S);
	struct cred master = load(give(ROLE_MASTER, "m", "127.0.0.1", YEAR_S), ROLE_MASTER);
	struct cred client;
	const struct ca_entry *e;
	struct err err = {0};
	struct server s;
	char path[300], away[310];
	size_t index;

	dir = ca.entries[0].out;
	client = load(dir, ROLE_CLIENT);
	server_start(&s, &master, 3);
	assert_int_equal(visit(s.addr, &client, ROLE_MASTER, &err), 0);
	/* Files that do not load change nothing. */
	snprintf(path, sizeof(path), "%s/identity.pem", dir);
	snprintf(away, sizeof(away), "%s.away", path);
	assert_int_equal(rename(path, away), 0);
	assert_int_equal(tls_reload(client.tls, &err), ERR_NOENT);
	assert_int_equal(visit(s.addr, &client, ROLE_MASTER, &err), 0);
	assert_int_equal(rename(away, path), 0);
	/* A renewed certificate is shown from then on: the old one may be revoked. */
	assert_int_equal(ca_find(&ca, "client/c", (int64_t)time(NULL), &index, &err), 0);
	assert_int_equal(ca_renew(&ca, index, (int64_t)time(NULL), 0, &e, &err), 0);
	assert_int_equal(tls_reload(client.tls, &err), 0);
	take_back(ca.entries[0].serial);
	assert_int_equal(tls_reload(master.tls, &err), 0);
	if (visit(s.addr, &client, ROLE_MASTER, &err) != 0)
		fail_msg("%s", err.text);
	server_join(&s);
	cred_release(&client);
	cred_release(&master);
}

/* A list of another authority: refused when it is read, not with each peer. */
static void test_foreign_list(void **state)
{
	const char *dir = give(ROLE_CLIENT, "f", NULL, YEAR_S);
	struct cred client = load(dir, ROLE_CLIENT);
	unsigned generation = tls_generation(client.tls);
	char other[256], command[700];
	struct err err = {0};

	snprintf(other, sizeof(other), "%s/foreign", root);
	assert_int_equal(ca_init(other, (int64_t)time(NULL), NULL), 0);
	for (int i = 0; i < 2; i++) {
		snprintf(command, sizeof(command), "cp '%s/%s' '%s'", other, i ? "ca.pem" : "crl.pem", dir);
		assert_int_equal(system(command), 0);
		assert_int_equal(tls_reload(client.tls, &err), ERR_CONFIG);
		assert_non_null(strstr(err.text, "do not belong together"));
		assert_int_equal(tls_generation(client.tls), generation);
	}
	cred_release(&client);
}

/* A server tells others the host that it was given, which is what its certificate is for. */
static void test_advertised_host(void **state)
{
	struct cred server = load(give(ROLE_CHUNKSERVER, "cs", "localhost", YEAR_S), ROLE_CHUNKSERVER);
	char addr[ADDR_BYTES_MAX];
	struct err err = {0};
	int fd;

	assert_int_equal(conn_bind("localhost:0", &fd, addr, &err), 0);
	assert_int_equal(strncmp(addr, "localhost:", 10), 0);
	assert_int_not_equal(atoi(addr + 10), 0);
	close(fd);
	assert_int_equal(cred_check_advertised(&server, addr, &err), 0);
	assert_int_equal(conn_bind(":0", &fd, addr, &err), 0);
	close(fd);
	assert_int_equal(cred_check_advertised(&server, addr, &err), ERR_CONFIG);
	assert_int_equal(cred_check_advertised(&server, "127.0.0.1:7410", &err), ERR_CONFIG);
	assert_non_null(strstr(err.text, "not for host 127.0.0.1"));
	cred_release(&server);
}

static void test_bad_files(void **state)
{
	const char *dir = give(ROLE_CLIENT, "c", NULL, YEAR_S);
	struct cred cred;
	struct err err = {0};
	char path[300];
	int fd;

	assert_int_equal(cred_load(&cred, dir, "plain", CRED_ROLES_CLIENT, "t", &err), ERR_CONFIG);
	assert_int_equal(cred_load(&cred, dir, NULL, 1 << ROLE_MASTER, "t", &err), ERR_CONFIG);
	assert_non_null(strstr(err.text, "role client"));
	snprintf(path, sizeof(path), "%s/identity.pem", dir);
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(cred_load(&cred, dir, NULL, CRED_ROLES_CLIENT, "t", &err), ERR_CONFIG);
	assert_non_null(strstr(err.text, "only its owner"));
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(cred_load(&cred, dir, "tls", CRED_ROLES_CLIENT, "t", &err), 0);
	cred_release(&cred);
	snprintf(path, sizeof(path), "%s/crl.pem", dir);
	fd = open(path, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, "nothing\n", 8), 8);
	close(fd);
	assert_int_equal(cred_load(&cred, dir, NULL, CRED_ROLES_CLIENT, "t", &err), ERR_CONFIG);
	unlink(path); /* no list is not "nobody is revoked" */
	assert_int_equal(cred_load(&cred, dir, NULL, CRED_ROLES_CLIENT, "t", &err), ERR_NOENT);
}

/* Two ends without sockets, set up with bytes that come one at a time. */
struct ends {
	struct cred master, client;
	struct tls_conn side[2]; /* of the master, of the client */
};

static void ends_make(struct ends *e)
{
	struct buf wire[2] = {{0}, {0}}; /* to side i */
	int done[2] = {0, 0};
	struct err err = {0};
	char text[8];
	size_t n;

	e->master = load(give(ROLE_MASTER, "m", "127.0.0.1", YEAR_S), ROLE_MASTER);
	e->client = load(give(ROLE_CLIENT, "c", NULL, YEAR_S), ROLE_CLIENT);
	assert_int_equal(tls_conn_init(&e->side[0], e->master.tls, NULL, &err), 0);
	assert_int_equal(tls_conn_init(&e->side[1], e->client.tls, "127.0.0.1:1", &err), 0);
	/* Also what is said after the set-up: tickets. */
	for (int turn = 0; turn < 20 && !(done[0] && done[1] && !wire[0].len && !wire[1].len); turn++) {
		int i = turn % 2 == 0;
		struct tls_conn *c = &e->side[i];
		for (size_t at = 0; at < wire[i].len || (at == 0 && turn == 0); at++) {
			c->in = slice_of(wire[i].data + at, at < wire[i].len);
			if (!done[i])
				done[i] = tls_conn_handshake(c, &err);
			else
				tls_conn_read(c, text, sizeof(text), &n, &err);
			assert_true(done[i] >= 0);
		}
		buf_clear(&wire[i]);
		buf_append_slice(&wire[!i], buf_slice(&c->out));
		buf_clear(&c->out);
	}
	assert_true(done[0] && done[1]);
	buf_release(&wire[0]);
	buf_release(&wire[1]);
}

static void ends_release(struct ends *e)
{
	tls_conn_release(&e->side[0]);
	tls_conn_release(&e->side[1]);
	cred_release(&e->client);
	cred_release(&e->master);
}

/* What one side has to say is read by the other one, `step` bytes at a time. */
static void hears(struct ends *e, int from, size_t step, const char *text)
{
	struct tls_conn *to = &e->side[!from];
	struct buf *out = &e->side[from].out;
	struct err err = {0};
	char got[64] = "";
	size_t n = 0, len = 0;

	for (size_t at = 0; at < out->len; at += step) {
		to->in = slice_of(out->data + at, (uint32_t)(out->len - at < step ? out->len - at : step));
		do {
			assert_int_equal(tls_conn_read(to, got + len, sizeof(got) - len, &n, &err), 0);
			len += n;
		} while (n > 0);
	}
	buf_clear(out);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(got, text, len);
}

static void test_byte_by_byte(void **state)
{
	struct err err = {0};
	struct ends e = {0};
	char text[8];
	size_t n;

	ends_make(&e);
	assert_int_equal(tls_conn_write(&e.side[1], "hello", 5, &err), 0);
	hears(&e, 1, 1, "hello");
	/* One bit changed on the way ends it. */
	assert_int_equal(tls_conn_write(&e.side[1], "hello", 5, &err), 0);
	e.side[1].out.data[e.side[1].out.len - 1] ^= 1;
	e.side[0].in = buf_slice(&e.side[1].out);
	assert_int_equal(tls_conn_read(&e.side[0], text, sizeof(text), &n, &err), ERR_CLOSED);
	ends_release(&e);
}

/* Keys are changed after so many bytes, time and again, and the other side follows. */
static void test_keys_change(void **state)
{
	struct err err = {0};
	struct ends e = {0};
	size_t plain;

	ends_make(&e);
	assert_int_equal(tls_conn_write(&e.side[1], "hello", 5, &err), 0);
	plain = e.side[1].out.len;
	hears(&e, 1, plain, "hello");
	for (int i = 0; i < 6; i++) {
		int from = i % 2;
		e.side[from].key_bytes = UINT64_MAX / 2;
		assert_int_equal(tls_conn_write(&e.side[from], "again", 5, &err), 0);
		assert_true(e.side[from].out.len > plain); /* the message about the key, too */
		assert_int_equal(e.side[from].key_bytes, 5);
		hears(&e, from, TLS_RECORD_BYTES, "again");
		assert_int_equal(tls_conn_write(&e.side[!from], "hello", 5, &err), 0);
		assert_int_equal(e.side[!from].out.len, plain); /* nobody was asked to change his */
		hears(&e, !from, 1, "hello");
	}
	ends_release(&e);
}

/* Who asks for our new keys all the time gets at most one answer for each time that he asked: he cannot make
 * us hold more than he sent. */
static void test_keys_asked_for(void **state)
{
	enum { TIMES = 1000 };
	struct err err = {0};
	struct ends e = {0};
	size_t asked;

	ends_make(&e);
	for (int i = 0; i < TIMES; i++) {
		assert_int_equal(SSL_key_update(e.side[1].ssl, SSL_KEY_UPDATE_REQUESTED), 1);
		assert_int_equal(SSL_do_handshake(e.side[1].ssl), 1);
	}
	asked = e.side[1].out.len;
	assert_true(asked > TIMES);
	hears(&e, 1, TLS_RECORD_BYTES, "");
	assert_in_range(e.side[0].out.len, 1, asked);
	assert_int_equal(tls_conn_write(&e.side[0], "still", 5, &err), 0);
	hears(&e, 0, TLS_RECORD_BYTES, "still");
	ends_release(&e);
}

/* Beyond loopback nothing goes unencrypted, unless somebody said so. */
static void test_plaintext(void **state)
{
	struct cred cred = {.key = {.bytes = "0123456789abcdef", .len = 16}, .role = ROLE_CLIENT};
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct err err = {0};
	struct conn *c;

	assert_int_equal(inet_pton(AF_INET, "127.1.2.3", &a.sin_addr), 1);
	assert_int_equal(cred_check_address(&cred, (struct sockaddr *)&a, "x", &err), 0);
	assert_int_equal(inet_pton(AF_INET, "0.0.0.0", &a.sin_addr), 1);
	assert_int_equal(cred_check_address(&cred, (struct sockaddr *)&a, "x", &err), ERR_CONFIG);
	assert_int_equal(conn_dial("192.0.2.1:1", &cred, ROLE_MASTER, deadline_in(10), &c, &err), ERR_CONFIG);
	assert_non_null(strstr(err.text, "allow_plaintext"));
	cred.allow_plaintext = true;
	assert_int_equal(cred_check_address(&cred, (struct sockaddr *)&a, "x", &err), 0);
}

/* A HELLO that claims another role than the certificate's. */
static void test_claimed_role(void **state)
{
	static const struct { uint16_t certified, claimed; int want; } cases[] = {
		{ROLE_CLIENT, ROLE_CLIENT, 1}, {ROLE_CLIENT, ROLE_CHUNKSERVER, ERR_AUTH},
		{ROLE_CLIENT, ROLE_ADMIN, ERR_AUTH}, {ROLE_CHUNKSERVER, ROLE_CLIENT, ERR_AUTH},
		{0, 0, ERR_AUTH},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf hello = {0}, out = {0};
		struct auth a, b;
		struct wire_header h;
		assert_int_equal(auth_connect_certified(&a, cases[i].claimed, "x", ROLE_MASTER, &hello,
							NULL), 0);
		assert_int_equal(wire_header_get(hello.data, &h, NULL), 0);
		auth_accept_certified(&b, ROLE_MASTER, cases[i].certified);
		assert_int_equal(auth_step(&b, &h, slice_of(hello.data + WIRE_HEADER_BYTES,
							    h.fields_bytes), &out, NULL), cases[i].want);
		auth_release(&a);
		auth_release(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_let_in, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wrong_peers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_other_cluster, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_revoked, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_expired_is_not_resumed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reload, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bad_files, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_foreign_list, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_advertised_host, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_byte_by_byte, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_keys_change, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_keys_asked_for, set_up, tear_down),
		cmocka_unit_test(test_plaintext),
		cmocka_unit_test(test_claimed_role),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
