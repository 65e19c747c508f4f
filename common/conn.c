#include "common/conn_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault_net.h"
#include "common/waits.h"

enum { CONN_CRYPT_BYTES = 64 << 10 }; /* encrypted, then sent, at a time */

/* ---- raw bytes ---- */

int conn_break(struct conn *c, int code)
{
	c->broken = true;
	return code;
}

bool conn_broken(const struct conn *c)
{
	return c->broken;
}

int conn_wait(struct conn *c, short events, int64_t deadline_ms, struct err *err)
{
	struct pollfd p = {.fd = c->fd, .events = events};

	for (;;) {
		int left = deadline_left(deadline_ms), r;
		bool probe = c->watched && left > PROBE_QUIET_MS;
		r = poll(&p, 1, probe ? PROBE_QUIET_MS : left);
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return conn_break(c, err_set_errno(err, errno, "%s", c->peer));
		if (r == 0 && !probe)
			return conn_break(c, err_set(err, ERR_TIMEOUT, "%s: timed out", c->peer));
		r = r == 0 ? conn_probe(c, err) : 0;
		if (r < 0)
			return r;
	}
}

int conn_lost(struct conn *c, int eno, struct err *err)
{
	int code = eno == ECONNREFUSED || eno == EHOSTUNREACH || eno == ENETUNREACH
			   ? ERR_UNREACHABLE : ERR_CLOSED;
	char text[128];
	return conn_break(c, err_set(err, code, "%s: %s", c->peer,
				     strerror_r(eno, text, sizeof(text))));
}

static int conn_write(struct conn *c, struct iovec *iov, int n_iov, int64_t deadline_ms,
		      struct err *err)
{
	while (n_iov > 0) {
		struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)n_iov};
		ssize_t n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			int r = conn_wait(c, POLLOUT, deadline_ms, err);
			if (r < 0)
				return r;
			continue;
		}
		if (n < 0)
			return conn_lost(c, errno, err);
		while (n_iov > 0 && (size_t)n >= iov->iov_len) {
			n -= (ssize_t)iov->iov_len;
			iov++;
			n_iov--;
		}
		if (n_iov > 0) {
			iov->iov_base = (uint8_t *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

/* Over TLS: what is encrypted and waits to be sent. */
int conn_flush(struct conn *c, int64_t deadline_ms, struct err *err)
{
	struct iovec iov = {c->tls->out.data, c->tls->out.len};
	int r = iov.iov_len > 0 ? conn_write(c, &iov, 1, deadline_ms, err) : 0;

	buf_clear(&c->tls->out);
	return r;
}

static int conn_crypt(struct conn *c, const uint8_t *data, size_t len, int64_t deadline_ms,
		      struct err *err)
{
	int r = 0;

	while (r == 0 && len > 0) {
		size_t room = c->tls->out.len < CONN_CRYPT_BYTES
				      ? CONN_CRYPT_BYTES - c->tls->out.len : 0;
		size_t n = len < room ? len : room;
		r = tls_conn_write(c->tls, data, n, err);
		if (r < 0)
			return conn_break(c, err_prefix(err, r, "%s", c->peer));
		data += n;
		len -= n;
		if (len > 0)
			r = conn_flush(c, deadline_ms, err);
	}
	return r;
}

static int conn_send_plain(struct conn *c, struct slice message, const void *data,
			   size_t data_len, int64_t deadline_ms, struct err *err)
{
	struct iovec iov[2] = {
		{(void *)(uintptr_t)message.data, message.len},
		{(void *)(uintptr_t)data, data_len},
	};
	int r;

	if (!c->tls)
		return conn_write(c, iov, data_len > 0 ? 2 : 1, deadline_ms, err);
	r = conn_crypt(c, message.data, message.len, deadline_ms, err);
	if (r == 0)
		r = conn_crypt(c, data, data_len, deadline_ms, err);
	return r < 0 ? r : conn_flush(c, deadline_ms, err);
}

static int conn_send_flipped(struct conn *c, struct slice message, const void *data,
			     size_t data_len, uint64_t bit, int64_t deadline_ms, struct err *err)
{
	_cleanup_free_ uint8_t *copy = malloc(data_len);

	if (!copy)
		return conn_break(c, err_set(err, ERR_NOMEM, "%s: out of memory", c->peer));
	memcpy(copy, data, data_len);
	copy[bit / 8 % data_len] ^= (uint8_t)(1u << bit % 8);
	return conn_send_plain(c, message, copy, data_len, deadline_ms, err);
}

/* As the fault file says. Data that is to follow a message is known from its header. */
static int conn_send_faulty(struct conn *c, struct slice message, const void *data,
			    size_t data_len, int64_t deadline_ms, struct err *err)
{
	size_t promised = get_le32(message.data + 20);
	unsigned mask = 1u << FAULT_DO_ERROR | 1u << FAULT_DO_DROP | 1u << FAULT_DO_CUT;
	struct fault f;
	int r;

	if (promised == data_len)
		mask |= 1u << FAULT_DO_TWICE;
	if (data_len > 0)
		mask |= 1u << FAULT_DO_FLIP;
	if (!fault_message(FAULT_NET_SEND, message.data, c->peer, mask, &f))
		return conn_send_plain(c, message, data, data_len, deadline_ms, err);
	switch (f.action) {
	case FAULT_DO_DROP:
		c->lost_bytes = promised - data_len;
		return 0;
	case FAULT_DO_TWICE:
		r = conn_send_plain(c, message, data, data_len, deadline_ms, err);
		return r < 0 ? r : conn_send_plain(c, message, data, data_len, deadline_ms, err);
	case FAULT_DO_FLIP:
		return conn_send_flipped(c, message, data, data_len, (uint64_t)f.arg, deadline_ms,
					 err);
	case FAULT_DO_CUT:
		shutdown(c->fd, SHUT_RDWR);
		return conn_lost(c, ECONNRESET, err);
	default:
		return conn_lost(c, (int)f.arg, err);
	}
}

int conn_send(struct conn *c, struct slice message, const void *data, size_t data_len,
	      int64_t deadline_ms, struct err *err)
{
	return fault_map ? conn_send_faulty(c, message, data, data_len, deadline_ms, err)
			 : conn_send_plain(c, message, data, data_len, deadline_ms, err);
}

int conn_send_raw(struct conn *c, const void *data, size_t len, int64_t deadline_ms,
		  struct err *err)
{
	if (c->lost_bytes > 0) {
		c->lost_bytes -= len < c->lost_bytes ? len : c->lost_bytes;
		return 0;
	}
	return conn_send_plain(c, slice_of(data, len), NULL, 0, deadline_ms, err);
}

static int conn_file_ended(struct conn *c, struct err *err)
{
	/* The file became shorter: the promised bytes cannot be sent any more. */
	return conn_break(c, err_set(err, ERR_IO, "%s: file ended early", c->peer));
}

static int conn_sendfile(struct conn *c, int file_fd, off_t at, size_t len, int64_t deadline_ms,
			 struct err *err)
{
	int r = 0;

	while (r == 0 && len > 0) {
		ssize_t n = sendfile(c->fd, file_fd, &at, len);
		if (n > 0)
			len -= (size_t)n;
		else if (n == 0)
			r = conn_file_ended(c, err);
		else if (errno == EAGAIN || errno == EINTR)
			r = conn_wait(c, POLLOUT, deadline_ms, err);
		else
			r = conn_lost(c, errno, err);
	}
	return r;
}

/* There is no kernel TLS here: the file's bytes are read, encrypted and sent. */
static int conn_cryptfile(struct conn *c, int file_fd, off_t at, size_t len, int64_t deadline_ms,
			  struct err *err)
{
	_cleanup_free_ uint8_t *piece = malloc(CONN_CRYPT_BYTES);
	int r = piece ? 0 : conn_break(c, err_set(err, ERR_NOMEM, "%s: out of memory", c->peer));

	while (r == 0 && len > 0) {
		ssize_t n = pread(file_fd, piece, len < CONN_CRYPT_BYTES ? len : CONN_CRYPT_BYTES, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return conn_file_ended(c, err);
		r = conn_crypt(c, piece, (size_t)n, deadline_ms, err);
		at += n;
		len -= (size_t)n;
	}
	return r < 0 ? r : conn_flush(c, deadline_ms, err);
}

int conn_send_file(struct conn *c, struct slice message, int file_fd, uint64_t offset,
		   size_t data_len, int64_t deadline_ms, struct err *err)
{
	int cork = 1, r;

	if (data_len > 0)
		setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &cork, sizeof(cork));
	r = conn_send(c, message, NULL, 0, deadline_ms, err);
	if (c->lost_bytes > 0)
		data_len = c->lost_bytes = 0;
	if (r == 0 && data_len > 0)
		r = (c->tls ? conn_cryptfile : conn_sendfile)(c, file_fd, (off_t)offset, data_len,
							      deadline_ms, err);
	cork = 0;
	setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &cork, sizeof(cork));
	return r;
}

/* What the socket has, without waiting: *ret_n 0 when that is nothing. */
static int conn_socket_read(struct conn *c, void *data, size_t len, size_t *ret_n, struct err *err)
{
	ssize_t n;

	do {
		n = recv(c->fd, data, len, 0);
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		return conn_break(c, err_set(err, ERR_CLOSED, "%s: connection closed", c->peer));
	if (n < 0 && errno != EAGAIN)
		return conn_lost(c, errno, err);
	*ret_n = n < 0 ? 0 : (size_t)n;
	return 0;
}

/* What came is decrypted. What TLS itself has to answer goes out at once: it is little, and a peer that
 * takes nothing is found by what follows. */
static int conn_decrypt(struct conn *c, void *data, size_t len, size_t *ret_n, struct err *err)
{
	int r = tls_conn_read(c->tls, data, len, ret_n, err);

	if (c->tls->out.len > 0)
		conn_flush(c, deadline_in(0), NULL);
	return r < 0 ? conn_break(c, err_prefix(err, r, "%s", c->peer)) : 0;
}

/* The socket is read once: a peer whose records hold no data, however fast it sends them, does not keep
 * the caller from its deadline, nor a thread that accepts from other connections. */
static int conn_tls_read(struct conn *c, void *data, size_t len, size_t *ret_n, struct err *err)
{
	size_t came;
	int r = conn_decrypt(c, data, len, ret_n, err);

	if (r < 0 || *ret_n > 0)
		return r;
	r = conn_socket_read(c, c->tls_in, CONN_TLS_BYTES, &came, err);
	if (r < 0 || came == 0)
		return r;
	c->tls->in = slice_of(c->tls_in, came);
	return conn_decrypt(c, data, len, ret_n, err);
}

int conn_read_now(struct conn *c, void *data, size_t len, size_t *ret_n, struct err *err)
{
	*ret_n = 0;
	return c->tls ? conn_tls_read(c, data, len, ret_n, err)
		      : conn_socket_read(c, data, len, ret_n, err);
}

/* What was read ahead, else what the socket has: at least one byte. */
int conn_recv_some(struct conn *c, void *data, size_t len, size_t *ret_n, int64_t deadline_ms,
		   struct err *err)
{
	size_t have = c->rend - c->rpos;

	if (have > 0) {
		*ret_n = have < len ? have : len;
		memcpy(data, c->rbuf + c->rpos, *ret_n);
		c->rpos += *ret_n;
		return 0;
	}
	for (;;) {
		int r = conn_read_now(c, data, len, ret_n, err);
		if (r < 0 || *ret_n > 0)
			return r;
		r = conn_wait(c, POLLIN, deadline_ms, err);
		if (r < 0)
			return r;
	}
}

int conn_recv_data(struct conn *c, void *data, size_t len, int64_t deadline_ms, struct err *err)
{
	uint8_t *p = data;

	while (len > 0) {
		size_t n;
		int r = conn_recv_some(c, p, len, &n, deadline_ms, err);
		if (r < 0)
			return r;
		p += n;
		len -= n;
	}
	return 0;
}

/* Small parts (headers, fields) come through rbuf, so that a message costs one recv. */
static int conn_recv_buffered(struct conn *c, uint8_t *p, size_t len, int64_t deadline_ms,
			      struct err *err)
{
	while (len > 0) {
		size_t n;
		int r;
		if (c->rpos == c->rend && len < sizeof(c->rbuf)) {
			c->rpos = c->rend = 0;
			r = conn_recv_some(c, c->rbuf, sizeof(c->rbuf), &n, deadline_ms, err);
			if (r < 0)
				return r;
			c->rend = n;
		}
		r = conn_recv_some(c, p, len, &n, deadline_ms, err);
		if (r < 0)
			return r;
		p += n;
		len -= n;
	}
	return 0;
}

static int conn_recv_one(struct conn *c, uint8_t *header, struct wire_header *ret,
			 struct buf *fields, int64_t deadline_ms, struct err *err)
{
	uint8_t *p;
	int r = conn_recv_buffered(c, header, WIRE_HEADER_BYTES, deadline_ms, err);

	if (r < 0)
		return r;
	buf_clear(fields);
	r = wire_header_get(header, ret, err);
	if (r == 0 && ret->fields_bytes > c->fields_max)
		r = err_set(err, ERR_PROTOCOL, "message of %u bytes during connection set-up",
			    ret->fields_bytes);
	if (r < 0)
		return conn_break(c, err_prefix(err, r, "%s", c->peer));
	p = buf_extend(fields, ret->fields_bytes);
	if (!p && ret->fields_bytes > 0)
		return conn_break(c, err_set(err, ERR_NOMEM, "%s: out of memory", c->peer));
	r = conn_recv_buffered(c, p, ret->fields_bytes, deadline_ms, err);
	if (r < 0)
		return r;
	r = wire_check(header, ret, buf_slice(fields), err);
	if (r < 0)
		return conn_break(c, err_prefix(err, r, "%s", c->peer));
	return 0;
}

/* What the fault file says of a message that came: 1 it is lost, 0, or a broken connection. */
int conn_recv_fault(struct conn *c, const uint8_t *header, const struct wire_header *h,
			   struct err *err)
{
	unsigned mask = 1u << FAULT_DO_CUT | (h->data_bytes == 0 ? 1u << FAULT_DO_DROP : 0);
	struct fault f;

	if (!fault_message(FAULT_NET_RECV, header, c->peer, mask, &f))
		return 0;
	if (f.action == FAULT_DO_DROP)
		return 1;
	shutdown(c->fd, SHUT_RDWR);
	return conn_lost(c, ECONNRESET, err);
}

int conn_recv(struct conn *c, struct wire_header *ret, struct buf *fields, int64_t deadline_ms,
	      struct err *err)
{
	uint8_t header[WIRE_HEADER_BYTES];
	int r = c->tls ? tls_conn_recheck(c->tls, err) : 0;

	if (r < 0)
		return conn_break(c, err_prefix(err, r, "%s", c->peer));
	do {
		r = conn_recv_one(c, header, ret, fields, deadline_ms, err);
		if (r == 0 && fault_map)
			r = conn_recv_fault(c, header, ret, err);
	} while (r > 0);
	return r;
}

bool conn_buffered(struct conn *c)
{
	size_t n = 0;

	if (c->rpos < c->rend || c->broken)
		return true;
	if (!c->tls)
		return false;
	if (tls_conn_read(c->tls, c->rbuf, sizeof(c->rbuf), &n, NULL) < 0)
		return true; /* a conn_recv finds that too */
	c->rpos = 0;
	c->rend = n;
	return n > 0;
}

bool conn_readable(struct conn *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	return conn_buffered(c) || poll(&p, 1, 0) != 0;
}

int conn_recv_reply(struct conn *c, uint16_t op, uint64_t id, struct wire_header *ret,
		    struct buf *fields, int64_t deadline_ms, struct err *err)
{
	int r;

	do {
		r = conn_recv(c, ret, fields, deadline_ms, err);
	} while (r == 0 && (ret->flags & WIRE_REPLY) && ret->id < id && ret->data_bytes == 0);
	if (r < 0)
		return r;
	if (ret->id != id || ret->op != op || !(ret->flags & WIRE_REPLY) || ret->data_bytes > 0)
		return conn_break(c, err_set(err, ERR_PROTOCOL, "%s: answer to another question",
					     c->peer));
	return 0;
}

int conn_call(struct conn *c, uint16_t op, uint64_t trace, const void *m, void *ret,
	      struct buf *fields, int64_t deadline_ms, struct err *err)
{
	uint64_t id = c->next_id++;
	struct wire_header h;
	int r;

	buf_clear(&c->out);
	r = wire_put_request(&c->out, op, id, trace, m, 0);
	if (r < 0)
		return err_set(err, r, "%s to %s: %s", wire_op_name(op), c->peer, err_text(r));
	r = conn_send(c, buf_slice(&c->out), NULL, 0, deadline_ms, err);
	if (r == 0)
		r = conn_recv_reply(c, op, id, &h, fields, deadline_ms, err);
	if (r < 0)
		return err_prefix(err, r, "%s", wire_op_name(op));
	c->reply_flags = h.flags;
	return wire_get_reply(&h, buf_slice(fields), ret, NULL, err);
}
