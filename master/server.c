#include "master/server.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"
#include "common/fault_net.h"
#include "common/log.h"

struct server {
	uv_loop_t *loop;
	uv_tcp_t listener;
	uv_timer_t timer;
	const struct auth_key *key;
	struct server_handlers handlers;
	int64_t max_connections;
	int64_t n_peers;
	struct peer *peers;
	bool paused;
	bool closing;
	uint8_t read_buf[SERVER_READ_BYTES]; /* lent to libuv from alloc to read */
};

/* ---- peers ---- */

static void peer_free_if_done(struct peer *p)
{
	if (p->refs > 0)
		return;
	auth_release(&p->auth);
	buf_release(&p->in);
	free(p);
}

void peer_ref(struct peer *p)
{
	p->refs++;
}

void peer_unref(struct peer *p)
{
	assert(p->refs > 0);
	p->refs--;
	peer_free_if_done(p);
}

static void peer_closed(uv_handle_t *handle)
{
	peer_unref(handle->data); /* the handle's own reference */
}

void peer_close(struct peer *p, const char *why)
{
	if (p->closing)
		return;
	p->closing = true;
	if (why)
		log_warn("%s: %s", p->name, why);
	p->server->n_peers--;
	DL_DELETE(p->server->peers, p);
	if (p->auth.state == AUTH_DONE)
		p->server->handlers.gone(p->server->handlers.arg, p);
	uv_close((uv_handle_t *)&p->tcp, peer_closed);
}

/* ---- sending ---- */

struct send_req {
	uv_write_t req;
	struct peer *peer;
	size_t bytes;
	uint8_t data[];
};

static void send_done(uv_write_t *req, int status)
{
	struct send_req *s = (struct send_req *)req;
	struct peer *p = s->peer;

	p->queued_bytes -= s->bytes;
	if (status < 0 && status != UV_ECANCELED)
		peer_close(p, NULL);
	peer_unref(p);
	free(s);
}

static void peer_send_plain(struct peer *p, const struct buf *message)
{
	uv_buf_t b = uv_buf_init((char *)message->data, (unsigned)message->len);
	struct send_req *s;
	int n = 0;

	if (p->closing || message->len == 0)
		return;
	if (p->queued_bytes == 0) {
		n = uv_try_write((uv_stream_t *)&p->tcp, &b, 1);
		if (n == (int)message->len)
			return;
		if (n == UV_EAGAIN)
			n = 0;
		if (n < 0) {
			peer_close(p, NULL);
			return;
		}
	}
	s = malloc(sizeof(*s) + message->len - (size_t)n);
	if (!s || p->queued_bytes + message->len > SERVER_QUEUE_BYTES_MAX) {
		free(s);
		peer_close(p, "does not read its replies");
		return;
	}
	s->peer = p;
	s->bytes = message->len - (size_t)n;
	memcpy(s->data, message->data + n, s->bytes);
	b = uv_buf_init((char *)s->data, (unsigned)s->bytes);
	peer_ref(p);
	p->queued_bytes += s->bytes;
	if (uv_write(&s->req, (uv_stream_t *)&p->tcp, &b, 1, send_done) < 0) {
		p->queued_bytes -= s->bytes;
		free(s);
		peer_close(p, NULL);
		peer_unref(p);
	}
}

void peer_send(struct peer *p, const struct buf *message)
{
	unsigned mask = 1u << FAULT_DO_DROP | 1u << FAULT_DO_TWICE | 1u << FAULT_DO_CUT;
	struct fault f;

	if (fault_map && !p->closing && message->len >= WIRE_HEADER_BYTES &&
	    fault_message(FAULT_NET_SEND, message->data, p->name, mask, &f)) {
		if (f.action == FAULT_DO_DROP)
			return;
		if (f.action == FAULT_DO_CUT) {
			peer_close(p, NULL);
			return;
		}
		peer_send_plain(p, message);
	}
	peer_send_plain(p, message);
}

/* ---- receiving ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);
static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void peer_read(struct peer *p, bool on)
{
	if (p->closing || p->paused == !on)
		return;
	p->paused = !on;
	if (on)
		uv_read_start((uv_stream_t *)&p->tcp, on_alloc, on_read);
	else
		uv_read_stop((uv_stream_t *)&p->tcp);
}

static void peer_set_up(struct peer *p, const struct wire_header *h, struct slice fields)
{
	_cleanup_buf_ struct buf out = {0};
	struct err err = {0};
	int r = auth_step(&p->auth, h, fields, &out, &err);

	peer_send(p, &out);
	if (r < 0) {
		peer_close(p, err_message(&err));
	} else if (r == 1) {
		size_t n = strlen(p->name);
		snprintf(p->name + n, sizeof(p->name) - n, " (%s)", p->auth.peer_name);
		log_debug("%s: connected", p->name);
		if (p->server->paused && p->auth.peer_role == ROLE_CLIENT)
			peer_read(p, false);
	}
}

static void peer_handle(struct peer *p, const struct wire_header *h, struct slice fields)
{
	if (p->auth.state == AUTH_DONE)
		p->server->handlers.message(p->server->handlers.arg, p, h, fields);
	else
		peer_set_up(p, h, fields);
}

/* How often a message that came is to be handled, as the fault file says. */
static int received_times(struct peer *p, const uint8_t *header)
{
	unsigned mask = 1u << FAULT_DO_DROP | 1u << FAULT_DO_CUT;
	struct fault f;

	if (p->auth.state == AUTH_DONE)
		mask |= 1u << FAULT_DO_TWICE;
	if (!fault_message(FAULT_NET_RECV, header, p->name, mask, &f))
		return 1;
	if (f.action == FAULT_DO_CUT)
		peer_close(p, NULL);
	return f.action == FAULT_DO_TWICE ? 2 : 0;
}

/* One message at the front of `in`, if it is whole: 1 handled, 0 more bytes needed. */
static int peer_next(struct peer *p)
{
	const uint8_t *at = p->in.data + p->in_pos;
	size_t left = p->in.len - p->in_pos;
	struct wire_header h;
	struct slice fields;
	struct err err = {0};
	int r;

	if (left < WIRE_HEADER_BYTES)
		return 0;
	r = wire_header_get(at, &h, &err);
	/* Nobody sends the master raw data; and little before the set-up is done. */
	if (r == 0 && (h.data_bytes > 0 || (p->auth.state != AUTH_DONE &&
					    h.fields_bytes > AUTH_FIELDS_BYTES_MAX)))
		r = err_set(&err, ERR_PROTOCOL, "%s: %u+%u bytes are not accepted here",
			    wire_op_name(h.op), h.fields_bytes, h.data_bytes);
	if (r == 0 && left < WIRE_HEADER_BYTES + (size_t)h.fields_bytes)
		return 0;
	fields = slice_of(at + WIRE_HEADER_BYTES, r == 0 ? h.fields_bytes : 0);
	if (r == 0)
		r = wire_check(at, &h, fields, &err);
	if (r < 0) {
		peer_close(p, err_message(&err));
		return 0;
	}
	p->in_pos += WIRE_HEADER_BYTES + h.fields_bytes;
	for (int times = fault_map ? received_times(p, at) : 1; times > 0 && !p->closing; times--)
		peer_handle(p, &h, fields);
	return !p->closing;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct peer *p = handle->data;
	*buf = uv_buf_init((char *)p->server->read_buf, SERVER_READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct peer *p = stream->data;

	if (n == 0)
		return;
	if (n < 0) {
		peer_close(p, NULL);
		return;
	}
	buf_append(&p->in, buf->base, (size_t)n);
	if (buf_status(&p->in) < 0) {
		peer_close(p, "out of memory");
		return;
	}
	peer_ref(p);
	while (peer_next(p))
		;
	if (!p->closing) {
		/* Keep only the part of a message that has come so far. */
		memmove(p->in.data, p->in.data + p->in_pos, p->in.len - p->in_pos);
		p->in.len -= p->in_pos;
		p->in_pos = 0;
		if (p->in.len == 0 && p->in.cap > SERVER_READ_BYTES)
			buf_release(&p->in);
	}
	peer_unref(p);
}

/* ---- accepting ---- */

static void peer_name_from_socket(struct peer *p)
{
	struct sockaddr_storage ss;
	int len = sizeof(ss);
	char host[64] = "?";

	if (uv_tcp_getpeername(&p->tcp, (struct sockaddr *)&ss, &len) < 0)
		return;
	if (ss.ss_family == AF_INET6) {
		uv_ip6_name((struct sockaddr_in6 *)&ss, host, sizeof(host));
		snprintf(p->name, sizeof(p->name), "[%s]:%u", host,
			 be16toh(((struct sockaddr_in6 *)&ss)->sin6_port));
	} else {
		uv_ip4_name((struct sockaddr_in *)&ss, host, sizeof(host));
		snprintf(p->name, sizeof(p->name), "%s:%u", host,
			 be16toh(((struct sockaddr_in *)&ss)->sin_port));
	}
}

static void on_connection(uv_stream_t *listener, int status)
{
	struct server *s = listener->data;
	struct peer *p;

	if (status < 0 || s->closing)
		return;
	p = calloc(1, sizeof(*p));
	if (!p)
		return; /* libuv keeps the connection for the next call */
	p->server = s;
	p->refs = 1;
	p->next_id = 1;
	p->paused = true;
	p->auth_deadline_ms = deadline_in(SERVER_AUTH_MS);
	uv_tcp_init(s->loop, &p->tcp);
	p->tcp.data = p;
	DL_APPEND(s->peers, p);
	s->n_peers++;
	auth_accept(&p->auth, s->key, ROLE_MASTER);
	if (uv_accept(listener, (uv_stream_t *)&p->tcp) < 0) {
		peer_close(p, "cannot accept");
		return;
	}
	peer_name_from_socket(p);
	if (s->n_peers > s->max_connections) {
		peer_close(p, "refused: max_connections reached");
		return;
	}
	uv_tcp_nodelay(&p->tcp, 1);
	peer_read(p, true);
}

static void on_timer(uv_timer_t *timer)
{
	struct server *s = timer->data;
	struct peer *p, *next;
	int64_t now = clock_ms();

	DL_FOREACH_SAFE(s->peers, p, next) {
		if (p->auth.state != AUTH_DONE && now > p->auth_deadline_ms)
			peer_close(p, "did not authenticate in time");
	}
}

int server_open(uv_loop_t *loop, const char *addr, const struct auth_key *key,
		int64_t max_connections, const struct server_handlers *handlers,
		struct server **ret, char *ret_addr, struct err *err)
{
	struct server *s;
	int fd, r = conn_listen(addr, &fd, ret_addr, err);

	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s) {
		close(fd);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	*s = (struct server){.loop = loop, .key = key, .handlers = *handlers,
			     .max_connections = max_connections};
	uv_tcp_init(loop, &s->listener);
	uv_timer_init(loop, &s->timer);
	s->listener.data = s->timer.data = s;
	r = uv_tcp_open(&s->listener, fd);
	if (r == 0)
		r = uv_listen((uv_stream_t *)&s->listener, 512, on_connection);
	if (r == 0)
		r = uv_timer_start(&s->timer, on_timer, 500, 500);
	if (r < 0)
		return err_set(err, ERR_IO, "listen on %s: %s", addr, uv_strerror(r));
	*ret = s;
	return 0;
}

void server_close(struct server *s)
{
	struct peer *p, *next;

	if (s->closing)
		return;
	s->closing = true;
	uv_close((uv_handle_t *)&s->listener, NULL);
	uv_close((uv_handle_t *)&s->timer, NULL);
	DL_FOREACH_SAFE(s->peers, p, next)
		peer_close(p, NULL);
}

void server_free(struct server *s)
{
	free(s);
}

void server_pause(struct server *s, bool pause)
{
	struct peer *p, *next;

	if (s->paused == pause)
		return;
	s->paused = pause;
	DL_FOREACH_SAFE(s->peers, p, next) {
		if (p->auth.state == AUTH_DONE && p->auth.peer_role == ROLE_CLIENT)
			peer_read(p, !pause);
	}
}
