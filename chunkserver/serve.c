/* A connection's thread takes requests in order and answers them in order. A write that is to be
 * forwarded is answered when the next server has answered: until then it waits in a queue, and the
 * thread goes on taking writes, so that several are under way. Anything else first empties the
 * queue. The thread never blocks on a range that another connection has locked while it holds
 * locks itself: it empties its own queue first; so two connections cannot wait for each other. */
#include "chunkserver/serve_priv.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/audit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/waits.h"

atomic_uint serve_in_progress;
static _Atomic uint64_t refused;

enum {
	N_FIXED = 3, /* descriptors beside those being set up: listener, stop, hangup */
	/* Of connections that have not shown yet who they are: how many, and how long. They cost a socket
	 * and a little memory, no thread, so that nobody is kept out by those who never go on. */
	WAITING_MAX = 256,
	SETUP_MS = 5000,
	/* Those that fail before are named in the log up to so many in so long: a flood is not to fill the
	 * disk. */
	FAILED_NAMED = 3,
	FAILED_MS = 1000,
	WHO_BYTES = ADDR_BYTES_MAX + 160,
};

struct waiting {
	struct conn *conn;
	int64_t deadline_ms;
};

/* One port that is served. */
struct port {
	const struct serve_options *o;
	struct waiting waiting[WAITING_MAX]; /* the accepting thread's, oldest first */
	unsigned n_waiting;
	unsigned n_failed; /* until failed_until_ms; the accepting thread's too */
	int64_t failed_until_ms;
	atomic_uint connections; /* set up, each with its thread */
	atomic_bool stopping;
};

unsigned serve_load(void)
{
	return atomic_load(&serve_in_progress);
}

uint64_t serve_refused(void)
{
	return atomic_load(&refused);
}

/* "127.0.0.1:4711 (client mount-1, cairn 12)" */
static const char *who(const struct conn *c, char *ret, size_t room)
{
	if (c->tls)
		snprintf(ret, room, "%s (%s %s, %s)", c->peer, identity_role_name(c->tls->peer.role),
			 c->tls->peer.name, c->peer_name);
	else
		snprintf(ret, room, "%s (%s)", c->peer, c->peer_name);
	return ret;
}

int session_allowed(struct session *s, const struct wire_header *h, const struct access_wish *wish,
		    struct err *err)
{
	char name[WHO_BYTES];
	int r;

	if (s->up->peer_role == ROLE_CHUNKSERVER)
		return 0;
	r = access_check(&s->access, wish, clock_ms(), err);
	if (r == 0)
		return 0;
	atomic_fetch_add(&refused, 1);
	if (!s->access.ran_out)
		audit_refused("%s by %s: chunk %016llx v%u: %s", wire_op_name(h->op),
			      who(s->up, name, sizeof(name)), (unsigned long long)wish->chunk,
			      wish->version, err_message(err));
	return r;
}

static int on_message(struct session *s, const struct wire_header *h, struct err *err)
{
	int r = 0;

	if (h->flags & WIRE_REPLY)
		return err_set(err, ERR_PROTOCOL, "sent a reply to nothing");
	if (h->op == OP_WRITE)
		return session_write(s, h, err);
	r = session_finish_all(s, err);
	if (r == 0 && h->data_bytes > 0)
		r = err_set(err, ERR_PROTOCOL, "%s with data", wire_op_name(h->op));
	if (r < 0)
		return r;
	if (out_of_contact(s))
		return session_answer(s, h, ERR_LEASE, NULL, 0, err);
	atomic_fetch_add(&serve_in_progress, 1);
	switch (h->op) {
	case OP_COPY: r = session_copy(s, h, err); break;
	case OP_READ: r = session_read(s, h, err); break;
	case OP_SUMS: r = session_sums(s, h, err); break;
	case OP_SYNC: r = session_sync(s, h, err); break;
	default: r = session_answer(s, h, ERR_PROTOCOL, "not a request of the data port", 0, err);
	}
	atomic_fetch_sub(&serve_in_progress, 1);
	return r;
}

/* Waits for the next request or the next answer of the chain: 1 a request, 0 look again. */
static int next_event(struct session *s, struct err *err)
{
	struct pollfd p[2] = {{.fd = s->up->fd, .events = POLLIN},
			      {.fd = s->down && s->n > 0 ? s->down->fd : -1, .events = POLLIN}};
	int wait = TICK_MS;

	if (s->n > 0 && !s->down)
		return session_finish_one(s, err);
	if (s->n > 0) {
		int left = deadline_left(s->ring[s->first].deadline_ms);
		int quiet = deadline_left(s->quiet_since_ms + PROBE_QUIET_MS);
		if (left == 0 || conn_buffered(s->down))
			return session_finish_one(s, err);
		if (quiet == 0) {
			if (conn_probe(s->down, NULL) < 0)
				return session_finish_one(s, err);
			s->quiet_since_ms = clock_ms();
			return 0;
		}
		wait = left < wait ? left : wait;
		wait = quiet < wait ? quiet : wait;
	}
	if (conn_buffered(s->up))
		return 1;
	if (poll(p, 2, wait) < 0)
		return errno == EINTR ? 0 : err_set_errno(err, errno, "poll");
	if (p[1].revents)
		return session_finish_one(s, err);
	return p[0].revents ? 1 : 0;
}

static void session_run(struct session *s)
{
	char name[WHO_BYTES];
	struct err err = {0};
	int r = 0;

	while (r == 0 && !(atomic_load(s->stopping) && s->n == 0)) {
		struct wire_header h;
		r = next_event(s, &err);
		if (r <= 0)
			continue;
		r = conn_recv(s->up, &h, &s->fields, deadline_in(s->o->io_timeout_ms), &err);
		if (r == 0)
			r = on_message(s, &h, &err);
	}
	if (r < 0 && r != ERR_CLOSED)
		log_warn("%s: %s", who(s->up, name, sizeof(name)), err_message(&err));
	/* Writes that were received whole are finished, whoever asked for them. */
	while (s->n > 0)
		session_finish_one(s, &err);
}

struct start {
	struct port *port;
	struct conn *conn;
};

static void *connection_thread(void *arg)
{
	struct start *start = arg;
	struct port *port = start->port;
	struct session *s = calloc(1, sizeof(*s));

	if (s) {
		s->o = port->o;
		s->stopping = &port->stopping;
		s->access.keys = port->o->keys;
		s->access.holder = slice_str(start->conn->tls ? start->conn->tls->peer.name : "");
		s->blocks = malloc(PIECE_BYTES_MAX);
		s->up = start->conn;
		if (s->blocks)
			session_run(s);
		conn_free(s->down);
		for (unsigned i = 0; i < OTHERS; i++)
			conn_free(s->others[i]);
		conn_free(s->source);
		free(s->blocks);
		buf_release(&s->fields);
		buf_release(&s->reply_fields);
		buf_release(&s->out);
	}
	conn_free(start->conn);
	free(s);
	free(start);
	atomic_fetch_sub(&port->connections, 1); /* the last use of it */
	return NULL;
}

/* A connection that is set up gets a thread of its own, if there may be another one. */
static void start_connection(struct port *port, struct conn *conn)
{
	struct start *start = malloc(sizeof(*start));
	char name[WHO_BYTES];
	pthread_t thread;

	if (conn->peer_role == ROLE_MASTER || !start ||
	    atomic_load(&port->connections) >= (unsigned)port->o->max_connections) {
		log_warn("%s: refused: %s", who(conn, name, sizeof(name)),
			 !start ? "no memory" : conn->peer_role == ROLE_MASTER
			 ? "masters have no business here" : "max_connections reached");
		free(start);
		conn_free(conn);
		return;
	}
	*start = (struct start){port, conn};
	atomic_fetch_add(&port->connections, 1);
	if (pthread_create(&thread, NULL, connection_thread, start) != 0) {
		atomic_fetch_sub(&port->connections, 1);
		conn_free(conn);
		free(start);
		return;
	}
	pthread_detach(thread);
}

/* ---- connections whose set-up is under way: all on the accepting thread ---- */

/* Those that were not named, when their time is over. */
static void failed_count(struct port *port)
{
	if (port->n_failed == 0 || deadline_left(port->failed_until_ms) > 0)
		return;
	if (port->n_failed > FAILED_NAMED)
		log_warn("%u more connections failed before they had authenticated",
			 port->n_failed - FAILED_NAMED);
	port->n_failed = 0;
}

/* Whether the next failure is to be named. */
static bool failed_named(struct port *port)
{
	failed_count(port);
	if (port->n_failed == 0)
		port->failed_until_ms = deadline_in(FAILED_MS);
	return port->n_failed++ < FAILED_NAMED;
}

static void waiting_remove(struct port *port, unsigned i)
{
	port->n_waiting--;
	memmove(&port->waiting[i], &port->waiting[i + 1],
		(port->n_waiting - i) * sizeof(port->waiting[0]));
}

static void waiting_give_up(struct port *port, unsigned i, const char *why)
{
	if (failed_named(port))
		log_warn("%s: %s", port->waiting[i].conn->peer, why);
	conn_free(port->waiting[i].conn);
	waiting_remove(port, i);
}

/* True when it has left the list. */
static bool waiting_step(struct port *port, unsigned i)
{
	struct conn *conn = port->waiting[i].conn;
	struct err err = {0};
	int r = conn_accept_step(conn, &err);

	if (r == 0)
		return false;
	waiting_remove(port, i);
	if (r == 1) {
		start_connection(port, conn);
		return true;
	}
	if (err.code != ERR_CLOSED)
		audit_refused("connection from %s", err_message(&err));
	/* ERR_CLOSED: somebody only looked whether the port is open. */
	if (err.code != ERR_CLOSED && failed_named(port))
		log_warn("%s", err_message(&err));
	conn_free(conn);
	return true;
}

/* The oldest come first, so the first one's deadline is the next. */
static void waiting_expire(struct port *port)
{
	while (port->n_waiting > 0 && deadline_left(port->waiting[0].deadline_ms) == 0)
		waiting_give_up(port, 0, "was not set up in time");
}

static void accept_one(struct port *port, int listen_fd)
{
	struct err err = {0};
	struct conn *conn;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			log_warn("accept: %s", strerror(errno));
			poll(NULL, 0, 10); /* out of descriptors: give others time to end */
		}
		return;
	}
	if (conn_accept_begin(fd, port->o->cred, &conn, &err) < 0) {
		if (failed_named(port))
			log_warn("%s", err_message(&err));
		return;
	}
	/* Those that are what they say take milliseconds. */
	if (port->n_waiting == WAITING_MAX)
		waiting_give_up(port, 0, "too many connections are being set up");
	port->waiting[port->n_waiting++] = (struct waiting){conn, deadline_in(SETUP_MS)};
	waiting_step(port, port->n_waiting - 1);
}

/* Until the next deadline, line in the log, or look at the credentials. */
static int serve_wait(const struct port *port)
{
	int left = port->n_waiting > 0 ? deadline_left(port->waiting[0].deadline_ms) : TLS_LOOK_MS;

	if (port->n_failed > 0 && deadline_left(port->failed_until_ms) < left)
		left = deadline_left(port->failed_until_ms);
	return left < TLS_LOOK_MS ? left : TLS_LOOK_MS;
}

static void take_hangup(const struct serve_options *o)
{
	struct signalfd_siginfo info;

	if (read(o->hangup_fd, &info, sizeof(info)) == sizeof(info))
		o->hangup(o->arg);
}

void serve(const struct serve_options *options, int listen_fd, int stop_fd)
{
	struct port port = {.o = options};
	struct pollfd p[N_FIXED + WAITING_MAX] = {
		{.fd = listen_fd, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN},
		{.fd = options->hangup_fd, .events = POLLIN}};

	while (!(p[1].revents & POLLIN)) {
		unsigned n = port.n_waiting;
		for (unsigned i = 0; i < n; i++)
			p[N_FIXED + i] = (struct pollfd){.fd = port.waiting[i].conn->fd, .events = POLLIN};
		if (poll(p, N_FIXED + n, serve_wait(&port)) < 0) {
			p[1].revents = 0;
			continue;
		}
		if (options->cred->tls)
			tls_look_if_due(options->cred->tls);
		/* From behind: a removal moves only what was looked at. */
		for (unsigned i = n; i-- > 0;)
			if (p[N_FIXED + i].revents)
				waiting_step(&port, i);
		waiting_expire(&port);
		failed_count(&port);
		if (p[2].revents & POLLIN)
			take_hangup(options);
		if (p[0].revents & POLLIN)
			accept_one(&port, listen_fd);
	}
	while (port.n_waiting > 0) {
		conn_free(port.waiting[0].conn);
		waiting_remove(&port, 0);
	}
	atomic_store(&port.stopping, true);
	while (atomic_load(&port.connections) > 0)
		poll(NULL, 0, 20);
}
