/* A connection's thread takes requests in order and answers them in order. A write that is to be
 * forwarded is answered when the next server has answered: until then it waits in a queue, and the
 * thread goes on taking writes, so that several are under way. Anything else first empties the
 * queue. The thread never blocks on a range that another connection has locked while it holds
 * locks itself: it empties its own queue first; so two connections cannot wait for each other. */
#include "chunkserver/serve_priv.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/waits.h"

atomic_uint serve_in_progress;

/* One port that is served. */
struct port {
	const struct serve_options *o;
	atomic_uint connections;
	atomic_bool stopping;
};

unsigned serve_load(void)
{
	return atomic_load(&serve_in_progress);
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
		if (left == 0 || s->down->rpos < s->down->rend)
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
	if (s->up->rpos < s->up->rend)
		return 1;
	if (poll(p, 2, wait) < 0)
		return errno == EINTR ? 0 : err_set_errno(err, errno, "poll");
	if (p[1].revents)
		return session_finish_one(s, err);
	return p[0].revents ? 1 : 0;
}

static void session_run(struct session *s)
{
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
		log_warn("%s (%s): %s", s->up->peer, s->up->peer_name, err_message(&err));
	/* Writes that were received whole are finished, whoever asked for them. */
	while (s->n > 0)
		session_finish_one(s, &err);
}

struct start {
	struct port *port;
	int fd;
};

static void *connection_thread(void *arg)
{
	struct start *start = arg;
	struct port *port = start->port;
	struct session *s = calloc(1, sizeof(*s));
	struct err err = {0};

	if (s) {
		s->o = port->o;
		s->stopping = &port->stopping;
		s->blocks = malloc(PIECE_BYTES_MAX);
	}
	if (!s || !s->blocks)
		close(start->fd);
	else if (conn_accept(start->fd, port->o->key, ROLE_CHUNKSERVER,
			     deadline_in(port->o->io_timeout_ms), &s->up, &err) == 0)
		session_run(s);
	else if (err.code != ERR_CLOSED) /* somebody only looked whether the port is open */
		log_warn("%s", err_message(&err));
	if (s) {
		conn_free(s->up);
		conn_free(s->down);
		free(s->blocks);
		buf_release(&s->fields);
		buf_release(&s->reply_fields);
		buf_release(&s->out);
	}
	free(s);
	free(start);
	atomic_fetch_sub(&port->connections, 1); /* the last use of it */
	return NULL;
}

static void accept_one(struct port *port, int listen_fd)
{
	struct start *start;
	pthread_t thread;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			log_warn("accept: %s", strerror(errno));
			poll(NULL, 0, 10); /* out of descriptors: give others time to end */
		}
		return;
	}
	start = malloc(sizeof(*start));
	if (!start || atomic_load(&port->connections) >= (unsigned)port->o->max_connections) {
		log_warn("connection refused: %s", start ? "max_connections reached" : "no memory");
		free(start);
		close(fd);
		return;
	}
	*start = (struct start){port, fd};
	atomic_fetch_add(&port->connections, 1);
	if (pthread_create(&thread, NULL, connection_thread, start) != 0) {
		atomic_fetch_sub(&port->connections, 1);
		close(fd);
		free(start);
		return;
	}
	pthread_detach(thread);
}

void serve(const struct serve_options *options, int listen_fd, int stop_fd)
{
	struct port port = {.o = options};
	struct pollfd p[2] = {{.fd = listen_fd, .events = POLLIN},
			      {.fd = stop_fd, .events = POLLIN}};

	while (!(p[1].revents & POLLIN)) {
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[0].revents & POLLIN)
			accept_one(&port, listen_fd);
	}
	atomic_store(&port.stopping, true);
	while (atomic_load(&port.connections) > 0)
		poll(NULL, 0, 20);
}
