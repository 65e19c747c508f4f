#include "master/server.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

#include "common/audit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"
#include "common/fault_net.h"
#include "common/log.h"
#include "master/audit.h"

struct server {
	uv_loop_t *loop;
	uv_tcp_t listener;
	uv_timer_t timer;
	const struct cred *cred;
	struct server_handlers handlers;
	int64_t max_connections;
	int64_t n_peers, n_setup; /* all; those that are not authenticated yet */
	unsigned n_evicted; /* since the last line in the log about it */
	unsigned n_failed; /* before they had authenticated, with a reason; in this tick */
	struct peer *peers;
	struct peer *gathering; /* those with messages in `gathered`; each holds a reference */
	bool paused;
	bool closing;
	uint8_t read_buf[SERVER_READ_BYTES]; /* lent to libuv from alloc to read */
};

enum { FAILED_NAMED = 3 }; /* in the log, each tick: a flood is not to fill the disk */

/* ---- peers ---- */

static void peer_free_if_done(struct peer *p)
{
	if (p->refs > 0)
		return;
	audit_gone(p);
	auth_release(&p->auth);
	if (p->tls)
		tls_conn_release(p->tls);
	free(p->tls);
	buf_release(&p->in);
	buf_release(&p->gathered);
	free(p);
}

static void peer_read(struct peer *p, bool on);

/* Bytes are counted too: many replies may leave in one write, which is one reference. */
static bool peer_owes_more(const struct peer *p, unsigned calls, size_t bytes)
{
	return p->refs > calls || p->queued_bytes > bytes;
}

void peer_ref(struct peer *p)
{
	p->refs++;
}

void peer_unref(struct peer *p)
{
	assert(p->refs > 0);
	p->refs--;
	if (p->throttled && !peer_owes_more(p, SERVER_CALLS_MAX / 2, SERVER_UNSENT_BYTES / 2)) {
		p->throttled = false;
		peer_read(p, !p->server->paused);
	}
	peer_free_if_done(p);
}

static void peer_closed(uv_handle_t *handle)
{
	peer_unref(handle->data); /* the handle's own reference */
}

static void peer_flush(struct peer *p);

void peer_close(struct peer *p, const char *why)
{
	if (!p->closing)
		peer_flush(p); /* which may have closed it */
	if (p->closing)
		return;
	p->closing = true;
	if (why && (!p->in_setup || p->server->n_failed++ < FAILED_NAMED))
		log_warn("%s: %s", p->name, why);
	if (why && p->in_setup)
		audit_refused("connection from %s: %s", p->name, why);
	p->server->n_peers--;
	p->server->n_setup -= p->in_setup;
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

/* Bytes for the socket, as they are. */
static void peer_send_bytes(struct peer *p, const struct buf *message)
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

/* What TLS has to say goes out; its buffer is kept small. */
static void peer_tls_flush(struct peer *p)
{
	if (p->tls->out.len == 0)
		return;
	peer_send_bytes(p, &p->tls->out);
	if (p->tls->out.cap > SERVER_READ_BYTES)
		buf_release(&p->tls->out);
	else
		buf_clear(&p->tls->out);
}

static void peer_write(struct peer *p, const struct buf *message)
{
	struct err err = {0};

	if (!p->tls)
		peer_send_bytes(p, message);
	else if (p->closing)
		return;
	else if (tls_conn_write(p->tls, message->data, message->len, &err) < 0)
		peer_close(p, err_message(&err));
	else
		peer_tls_flush(p);
}

/* A system call a message is most of the cost of a read. So what goes to one peer while its requests are
 * being taken, or while others of them are still to be answered, is gathered and leaves in one write:
 * when they have been taken (on_read), with the last answer, or at the end of the loop's turn, whichever
 * comes first. A peer with one request at a time is answered at once. */
static void peer_flush(struct peer *p)
{
	struct buf message = p->gathered;

	if (message.len == 0)
		return;
	p->gathered = (struct buf){0};
	peer_write(p, &message);
	if (p->closing || p->gathered.data) {
		buf_release(&message);
		return;
	}
	buf_clear(&message);
	p->gathered = message; /* its memory is used again */
}

void server_flush(struct server *s)
{
	struct peer *p;

	while ((p = s->gathering)) {
		LL_DELETE2(s->gathering, p, gather_next);
		p->in_gathering = false;
		peer_flush(p);
		peer_unref(p);
	}
}

/* Requests that hold the peer until they are answered; one may be the one being answered now. */
static unsigned peer_unanswered(const struct peer *p)
{
	return p->refs - 1 - p->in_gathering;
}

static void peer_send_plain(struct peer *p, const struct buf *message)
{
	bool more = p->taking || peer_unanswered(p) > 1;

	if (p->closing || message->len == 0)
		return;
	if (!more && p->gathered.len == 0) {
		peer_write(p, message);
		return;
	}
	buf_append(&p->gathered, message->data, message->len);
	if (buf_status(&p->gathered) < 0) {
		p->gathered.len = 0;
		peer_close(p, "out of memory");
		return;
	}
	if (!more || p->gathered.len >= SERVER_GATHER_BYTES) {
		peer_flush(p);
	} else if (!p->in_gathering) {
		p->in_gathering = true;
		LL_PREPEND2(p->server->gathering, p, gather_next);
		peer_ref(p);
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

/* What the peer's certificate says, and what it calls itself. */
static void peer_name_proved(struct peer *p)
{
	size_t n = strlen(p->name);

	if (p->tls)
		snprintf(p->name + n, sizeof(p->name) - n, " (%s %s, %s)",
			 identity_role_name(p->tls->peer.role), p->tls->peer.name, p->auth.peer_name);
	else
		snprintf(p->name + n, sizeof(p->name) - n, " (%s)", p->auth.peer_name);
}

static void peer_set_up(struct peer *p, const struct wire_header *h, struct slice fields)
{
	_cleanup_buf_ struct buf out = {0};
	struct err err = {0};
	int r = auth_step(&p->auth, h, fields, &out, &err);

	peer_send(p, &out);
	if (p->closing)
		return;
	if (r < 0) {
		peer_close(p, err_message(&err));
	} else if (r == 1) {
		peer_name_proved(p);
		p->in_setup = false;
		p->server->n_setup--;
		if (p->server->n_peers - p->server->n_setup > p->server->max_connections) {
			peer_close(p, "refused: max_connections reached");
			return;
		}
		log_debug("%s: connected", p->name);
		if (p->server->paused && p->auth.peer_role != ROLE_CHUNKSERVER)
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

/* Encrypted bytes that came: what they hold goes to `in`. Also what TLS answers, when it refuses too. */
static int peer_decrypt(struct peer *p, struct slice came, struct err *err)
{
	int r = 1;

	p->tls->in = came;
	if (!p->tls->done) {
		r = tls_conn_handshake(p->tls, err);
		if (r == 1)
			cred_auth_accept(p->server->cred, p->tls, &p->auth);
	}
	while (r == 1) {
		size_t n = 0;
		int got = buf_reserve(&p->in, TLS_RECORD_BYTES);
		if (got == 0)
			got = tls_conn_read(p->tls, p->in.data + p->in.len, TLS_RECORD_BYTES, &n, err);
		p->in.len += n;
		if (got < 0 || n == 0)
			r = got < 0 ? got : 0;
	}
	peer_tls_flush(p);
	return r;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct peer *p = stream->data;
	struct err err = {0};

	if (n == 0)
		return;
	if (n < 0) {
		peer_close(p, NULL);
		return;
	}
	if (p->tls && peer_decrypt(p, slice_of(buf->base, (size_t)n), &err) < 0) {
		peer_close(p, err.code == ERR_CLOSED ? NULL : err_message(&err));
		return;
	}
	if (!p->tls)
		buf_append(&p->in, buf->base, (size_t)n);
	if (buf_status(&p->in) < 0) {
		peer_close(p, "out of memory");
		return;
	}
	if (p->closing)
		return;
	peer_ref(p);
	p->taking = true;
	while (peer_next(p))
		;
	p->taking = false;
	if (!p->closing)
		peer_flush(p);
	if (!p->closing) {
		if (p->in_pos > 0) {
			/* Keep only the part of a message that has come so far. */
			memmove(p->in.data, p->in.data + p->in_pos, p->in.len - p->in_pos);
			p->in.len -= p->in_pos;
			p->in_pos = 0;
			p->partial_ticks = 0;
		}
		if (p->in.len == 0 && p->in.cap > SERVER_READ_BYTES)
			buf_release(&p->in);
		if (p->auth.peer_role != ROLE_CHUNKSERVER &&
		    peer_owes_more(p, SERVER_CALLS_MAX, SERVER_UNSENT_BYTES)) {
			p->throttled = true;
			peer_read(p, false);
		}
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

/* Makes room for a newer connection. */
static void evict_oldest(struct server *s)
{
	struct peer *p;

	DL_FOREACH(s->peers, p) {
		if (p->in_setup) {
			s->n_evicted++;
			peer_close(p, NULL);
			return;
		}
	}
}

static int peer_begin(struct peer *p)
{
	const struct cred *cred = p->server->cred;

	if (!cred->tls) {
		cred_auth_accept(cred, NULL, &p->auth);
		return 0;
	}
	p->tls = calloc(1, sizeof(*p->tls));
	return p->tls ? tls_conn_init(p->tls, cred->tls, NULL, NULL) : ERR_NOMEM;
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
	p->in_setup = true;
	if (++s->n_setup > SERVER_SETUP_MAX)
		evict_oldest(s);
	if (uv_accept(listener, (uv_stream_t *)&p->tcp) < 0) {
		peer_close(p, "cannot accept");
		return;
	}
	peer_name_from_socket(p);
	if (peer_begin(p) < 0) {
		peer_close(p, "out of memory");
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

	if (s->cred->tls)
		tls_look_if_due(s->cred->tls);
	DL_FOREACH_SAFE(s->peers, p, next) {
		struct err err = {0};
		if (p->in_setup && now > p->auth_deadline_ms)
			peer_close(p, "did not authenticate in time");
		else if (!p->in_setup && !p->paused && p->in.len > 0 &&
			 ++p->partial_ticks > SERVER_MESSAGE_TICKS)
			peer_close(p, "a message did not come to its end in time");
		else if (p->tls && p->tls->done && tls_conn_recheck(p->tls, &err) < 0)
			peer_close(p, err_message(&err));
	}
	if (s->n_failed > FAILED_NAMED)
		log_warn("%u more connections failed before they had authenticated",
			 s->n_failed - FAILED_NAMED);
	s->n_failed = 0;
	if (s->n_evicted > 0)
		log_warn("%u connections were given up for newer ones before they had authenticated",
			 s->n_evicted);
	s->n_evicted = 0;
}

int server_open(uv_loop_t *loop, int fd, const char *addr, const struct cred *cred,
		int64_t max_connections, const struct server_handlers *handlers,
		struct server **ret, struct err *err)
{
	struct server *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		close(fd);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	*s = (struct server){.loop = loop, .cred = cred, .handlers = *handlers,
			     .max_connections = max_connections};
	uv_tcp_init(loop, &s->listener);
	uv_timer_init(loop, &s->timer);
	s->listener.data = s->timer.data = s;
	r = uv_tcp_open(&s->listener, fd);
	if (r == 0)
		r = uv_listen((uv_stream_t *)&s->listener, 512, on_connection);
	if (r == 0)
		r = uv_timer_start(&s->timer, on_timer, SERVER_TICK_MS, SERVER_TICK_MS);
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
	DL_FOREACH_SAFE(s->peers, p, next)
		peer_close(p, NULL);
	server_flush(s); /* nothing is left to send: it gives their references back */
	uv_close((uv_handle_t *)&s->timer, NULL);
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
		if (p->auth.state == AUTH_DONE && p->auth.peer_role != ROLE_CHUNKSERVER)
			peer_read(p, !pause && !p->throttled);
	}
}
