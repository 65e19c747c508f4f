/* The master alone: requests of the client's protocol, sent raw and pipelined, without mounts, chunks
 * or client library in the way. So it shows the master's own limit.
 *
 *	master_load create|lookup|getattr|unlink PREFIX COUNT CONNECTIONS DEPTH
 *
 * Each connection has a thread, a session and a directory PREFIX-N below the root; it keeps DEPTH
 * requests in flight, on the names 0, 1, 2... of its directory. `create` makes empty files, and the
 * directory; the others find what it made. CAIRN_MASTER and CAIRN_CREDENTIALS name the cluster.
 * Prints "SECONDS OPERATIONS 0"; any failure ends it with 1. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"

enum { ROOT = 1, CONNECTIONS_MAX = 256, DEPTH_MAX = 4096, LIMIT_MS = 60000 };

struct stream {
	struct conn *c;
	uint64_t session, dir, count;
	uint64_t sent, answered;
	struct buf out, fields;
	pthread_t thread;
};

static struct cred cred;
static uint16_t op;
static unsigned depth;
static pthread_barrier_t ready;

static void die(const char *what, const struct err *err)
{
	fprintf(stderr, "master_load: %s: %s\n", what, err_message(err));
	exit(1);
}

static void call(struct stream *s, uint16_t code, const void *m, void *ret, const char *what)
{
	struct err err = {0};

	if (conn_call(s->c, code, 0, m, ret, &s->fields, deadline_in(LIMIT_MS), &err) < 0)
		die(what, &err);
}

static void stream_open(struct stream *s, const char *prefix, unsigned index)
{
	struct wire_session_open open = {.name = SLICE_LIT("master_load"),
					 .nonce = (uint64_t)clock_ms() << 16 | index};
	struct wire_session session;
	struct err err = {0};
	char name[200];

	snprintf(name, sizeof(name), "%s-%u", prefix, index);
	if (conn_dial(getenv("CAIRN_MASTER"), &cred, ROLE_MASTER, deadline_in(LIMIT_MS),
		      &s->c, &err) < 0)
		die("connect", &err);
	call(s, OP_SESSION_OPEN, &open, &session, "open a session");
	s->session = session.session;
	if (op == OP_MAKE) {
		struct wire_make make = {.id = {s->session, 1, 1}, .parent = ROOT,
					 .name = slice_str(name), .mode = S_IFDIR | 0755};
		struct wire_make_reply made;

		call(s, OP_MAKE, &make, &made, "make a directory");
		s->dir = made.attr.inode;
	} else {
		struct wire_name_ref ref = {.parent = ROOT, .name = slice_str(name)};
		struct wire_attr_reply reply;

		call(s, OP_LOOKUP, &ref, &reply, "find the directory");
		s->dir = reply.attr.inode;
	}
}

/* Sequence numbers of a session begin at 1, which made the directory. */
static void put_request(struct stream *s, uint64_t i)
{
	struct wire_opid id = {s->session, 2 + i, 2 + s->answered};
	char name[24];
	int r = 0;

	snprintf(name, sizeof(name), "%" PRIu64, i);
	if (op == OP_MAKE) {
		struct wire_make m = {.id = id, .parent = s->dir, .name = slice_str(name),
				      .mode = S_IFREG | 0644, .flags = MAKE_EXCL};
		r = wire_put_request(&s->out, op, s->c->next_id++, 0, &m, 0);
	} else if (op == OP_UNLINK) {
		struct wire_unlink m = {.id = id, .parent = s->dir, .name = slice_str(name)};
		r = wire_put_request(&s->out, op, s->c->next_id++, 0, &m, 0);
	} else if (op == OP_LOOKUP) {
		struct wire_name_ref m = {.parent = s->dir, .name = slice_str(name)};
		r = wire_put_request(&s->out, op, s->c->next_id++, 0, &m, 0);
	} else {
		struct wire_inode_ref m = {.inode = s->dir};
		r = wire_put_request(&s->out, op, s->c->next_id++, 0, &m, 0);
	}
	if (r < 0)
		abort();
}

static void take_reply(struct stream *s)
{
	struct err err = {0};
	struct wire_header h;

	if (conn_recv(s->c, &h, &s->fields, deadline_in(LIMIT_MS), &err) < 0)
		die("receive", &err);
	if (h.status != 0) {
		err_set(&err, h.status, "request %" PRIu64, h.id);
		die("an answer", &err);
	}
	s->answered++;
}

/* The queue is refilled when half of it is answered, so that requests leave in batches. */
static void *stream_run(void *arg)
{
	struct stream *s = arg;
	struct err err = {0};

	pthread_barrier_wait(&ready);
	while (s->answered < s->count) {
		buf_clear(&s->out);
		while (s->sent < s->count && s->sent - s->answered < depth)
			put_request(s, s->sent++);
		if (s->out.len > 0 && conn_send(s->c, buf_slice(&s->out), NULL, 0,
						deadline_in(LIMIT_MS), &err) < 0)
			die("send", &err);
		do
			take_reply(s);
		while (s->answered < s->sent && s->sent - s->answered > depth / 2);
	}
	return NULL;
}

static int op_of(const char *name)
{
	return !strcmp(name, "create") ? OP_MAKE : !strcmp(name, "lookup") ? OP_LOOKUP :
	       !strcmp(name, "getattr") ? OP_GETATTR : !strcmp(name, "unlink") ? OP_UNLINK : 0;
}

int main(int argc, char **argv)
{
	static struct stream streams[CONNECTIONS_MAX];
	uint64_t count = argc == 6 ? strtoull(argv[3], NULL, 10) : 0;
	unsigned n = argc == 6 ? (unsigned)atoi(argv[4]) : 0, i;
	struct err err = {0};
	int64_t begun;

	depth = argc == 6 ? (unsigned)atoi(argv[5]) : 0;
	if (argc != 6 || !(op = (uint16_t)op_of(argv[1])) || !n || n > CONNECTIONS_MAX || !depth ||
	    depth > DEPTH_MAX || count < n || !getenv("CAIRN_MASTER") || !getenv("CAIRN_CREDENTIALS")) {
		fprintf(stderr, "usage: at the top of tests/bench/master_load.c\n");
		return 2;
	}
	if (cred_load(&cred, getenv("CAIRN_CREDENTIALS"), NULL, CRED_ROLES_CLIENT, "master_load", &err) < 0)
		die("key", &err);
	pthread_barrier_init(&ready, NULL, n + 1);
	for (i = 0; i < n; i++) {
		streams[i].count = count / n + (i < count % n);
		stream_open(&streams[i], argv[2], i);
		if (pthread_create(&streams[i].thread, NULL, stream_run, &streams[i]))
			return 1;
	}
	pthread_barrier_wait(&ready);
	begun = clock_us();
	for (i = 0; i < n; i++)
		pthread_join(streams[i].thread, NULL);
	printf("%.6f %" PRIu64 " 0\n", (double)(clock_us() - begun) / 1e6, count);
	for (i = 0; i < n; i++) {
		conn_free(streams[i].c);
		buf_release(&streams[i].out);
		buf_release(&streams[i].fields);
	}
	return 0;
}
