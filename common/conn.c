#include "common/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
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

enum { CONN_BACKLOG = 512 };

/* ---- addresses ---- */

int addr_split(const char *addr, char *ret_host, char *ret_port, struct err *err)
{
	const char *colon = strrchr(addr, ':'), *host = addr;
	size_t host_len, port_len;

	if (!colon)
		return err_set(err, ERR_INVAL, "address \"%s\" has no port (HOST:PORT)", addr);
	host_len = (size_t)(colon - addr);
	port_len = strlen(colon + 1);
	if (host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']') {
		host++;
		host_len -= 2;
	} else if (memchr(host, ':', host_len)) {
		return err_set(err, ERR_INVAL, "address \"%s\": write IPv6 as [HOST]:PORT", addr);
	}
	if (host_len >= ADDR_BYTES_MAX || port_len == 0 || port_len > 5 ||
	    strspn(colon + 1, "0123456789") != port_len || atoi(colon + 1) > 65535)
		return err_set(err, ERR_INVAL, "address \"%s\" is not HOST:PORT", addr);
	memcpy(ret_host, host, host_len);
	ret_host[host_len] = '\0';
	memcpy(ret_port, colon + 1, port_len + 1);
	return 0;
}

static int addr_lookup(const char *addr, int flags, struct addrinfo **ret, struct err *err)
{
	char host[ADDR_BYTES_MAX], port[8];
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
	int r = addr_split(addr, host, port, err);

	if (r < 0)
		return r;
	r = getaddrinfo(host[0] ? host : NULL, port, &hints, ret);
	if (r != 0)
		return err_set(err, ERR_UNREACHABLE, "address %s: %s", addr, gai_strerror(r));
	return 0;
}

static void addr_format(const struct sockaddr *sa, socklen_t len, char *ret)
{
	char host[ADDR_BYTES_MAX - 10], port[8];

	if (getnameinfo(sa, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		snprintf(ret, ADDR_BYTES_MAX, "?");
	else
		snprintf(ret, ADDR_BYTES_MAX, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

int conn_listen(const char *addr, int *ret_fd, char *ret_addr, struct err *err)
{
	struct addrinfo *list = NULL;
	_cleanup_fd_ int fd = -1;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int one = 1, r = addr_lookup(addr, AI_PASSIVE, &list, err);

	if (r < 0)
		return r;
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, list->ai_addr, list->ai_addrlen) < 0 || listen(fd, CONN_BACKLOG) < 0 ||
	    getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		r = err_set_errno(err, errno, "listen on %s", addr);
	freeaddrinfo(list);
	if (r < 0)
		return r;
	if (ret_addr)
		addr_format((struct sockaddr *)&ss, len, ret_addr);
	*ret_fd = fd;
	fd = -1;
	return 0;
}

/* ---- raw bytes ---- */

static int conn_break(struct conn *c, int code)
{
	c->broken = true;
	return code;
}

bool conn_broken(const struct conn *c)
{
	return c->broken;
}

static int conn_wait(struct conn *c, short events, int64_t deadline_ms, struct err *err)
{
	struct pollfd p = {.fd = c->fd, .events = events};

	for (;;) {
		int left = deadline_left(deadline_ms), r;
		bool probe = c->watch.key && left > PROBE_QUIET_MS;
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

static int conn_lost(struct conn *c, int eno, struct err *err)
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

static int conn_send_plain(struct conn *c, struct slice message, const void *data,
			   size_t data_len, int64_t deadline_ms, struct err *err)
{
	struct iovec iov[2] = {
		{(void *)(uintptr_t)message.data, message.len},
		{(void *)(uintptr_t)data, data_len},
	};
	return conn_write(c, iov, data_len > 0 ? 2 : 1, deadline_ms, err);
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

int conn_send_file(struct conn *c, struct slice message, int file_fd, uint64_t offset,
		   size_t data_len, int64_t deadline_ms, struct err *err)
{
	off_t at = (off_t)offset;
	int cork = 1, r;

	if (data_len > 0)
		setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &cork, sizeof(cork));
	r = conn_send(c, message, NULL, 0, deadline_ms, err);
	if (c->lost_bytes > 0)
		data_len = c->lost_bytes = 0;
	while (r == 0 && data_len > 0) {
		ssize_t n = sendfile(c->fd, file_fd, &at, data_len);
		if (n > 0)
			data_len -= (size_t)n;
		else if (n == 0)
			/* The file became shorter: the promised bytes cannot be sent any more. */
			r = conn_break(c, err_set(err, ERR_IO, "%s: file ended early", c->peer));
		else if (errno == EAGAIN || errno == EINTR)
			r = conn_wait(c, POLLOUT, deadline_ms, err);
		else
			r = conn_lost(c, errno, err);
	}
	cork = 0;
	setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &cork, sizeof(cork));
	return r;
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
		ssize_t n = recv(c->fd, data, len, 0);
		int r;
		if (n > 0) {
			*ret_n = (size_t)n;
			return 0;
		}
		if (n == 0)
			return conn_break(c, err_set(err, ERR_CLOSED, "%s: connection closed",
						     c->peer));
		if (errno != EAGAIN && errno != EINTR)
			return conn_lost(c, errno, err);
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
static int conn_recv_fault(struct conn *c, const uint8_t *header, const struct wire_header *h,
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
	int r;

	do {
		r = conn_recv_one(c, header, ret, fields, deadline_ms, err);
		if (r == 0 && fault_map)
			r = conn_recv_fault(c, header, ret, err);
	} while (r > 0);
	return r;
}

bool conn_readable(struct conn *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	return c->rpos < c->rend || poll(&p, 1, 0) != 0;
}

/* ---- set-up ---- */

static struct conn *conn_new(int fd)
{
	struct conn *c = calloc(1, sizeof(*c));
	int one = 1;

	if (!c)
		return NULL;
	c->fd = fd;
	c->next_id = 1;
	c->fields_max = AUTH_FIELDS_BYTES_MAX;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return c;
}

void conn_free(struct conn *c)
{
	if (!c)
		return;
	close(c->fd);
	buf_release(&c->out);
	free(c);
}

/* Exchanges set-up messages until auth is done; what auth has to say is in c->out. */
static int conn_authenticate(struct conn *c, struct auth *auth, int64_t deadline_ms,
			     struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	int r = 0, sent;

	for (;;) {
		struct wire_header h;
		if (c->out.len > 0) {
			sent = conn_send(c, buf_slice(&c->out), NULL, 0, deadline_ms,
					 r < 0 ? NULL : err);
			buf_clear(&c->out);
			if (r == 0 && sent < 0)
				r = sent;
		}
		if (r != 0)
			break;
		r = conn_recv(c, &h, &fields, deadline_ms, err);
		if (r < 0)
			break;
		r = auth_step(auth, &h, buf_slice(&fields), &c->out, err);
		if (r < 0)
			err_prefix(err, r, "%s", c->peer);
	}
	if (r < 0) {
		c->broken = true;
		return r;
	}
	c->peer_role = auth->peer_role;
	c->fields_max = FIELDS_BYTES_MAX;
	snprintf(c->peer_name, sizeof(c->peer_name), "%s", auth->peer_name);
	return 0;
}

static int conn_connect_one(const struct addrinfo *ai, const char *addr, int64_t deadline_ms,
			    int *ret_fd, struct err *err)
{
	_cleanup_fd_ int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int eno = 0;
	socklen_t len = sizeof(eno);

	if (fd < 0)
		return err_set_errno(err, errno, "%s", addr);
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
		struct pollfd p = {.fd = fd, .events = POLLOUT};
		int r;
		if (errno != EINPROGRESS)
			return err_set(err, ERR_UNREACHABLE, "%s: %s", addr, strerror(errno));
		do {
			r = poll(&p, 1, deadline_left(deadline_ms));
		} while (r < 0 && errno == EINTR);
		if (r == 0)
			return err_set(err, ERR_TIMEOUT, "%s: no connection in time", addr);
		if (r < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &eno, &len) < 0)
			eno = errno;
		if (eno != 0)
			return err_set(err, ERR_UNREACHABLE, "%s: %s", addr, strerror(eno));
	}
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int conn_dial(const char *addr, const struct auth_key *key, uint16_t role, const char *name,
	      int64_t deadline_ms, struct conn **ret, struct err *err)
{
	struct addrinfo *list = NULL;
	struct auth auth = {0};
	struct conn *c;
	int fd = -1, r = addr_lookup(addr, 0, &list, err);

	if (r < 0)
		return r;
	for (const struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next)
		r = conn_connect_one(ai, addr, deadline_ms, &fd, err);
	freeaddrinfo(list);
	if (fd < 0)
		return r;
	c = conn_new(fd);
	if (!c) {
		close(fd);
		return err_set(err, ERR_NOMEM, "%s: out of memory", addr);
	}
	snprintf(c->peer, sizeof(c->peer), "%s", addr);
	r = auth_connect(&auth, key, role, name, &c->out, err);
	if (r == 0)
		r = conn_authenticate(c, &auth, deadline_ms, err);
	auth_release(&auth);
	if (r < 0) {
		conn_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void conn_watch(struct conn *c, const struct auth_key *key, uint16_t role, const char *name)
{
	c->watch.key = key;
	c->watch.role = role;
	c->watch.name = name;
}

int conn_probe(struct conn *c, struct err *err)
{
	struct conn *other;
	int r;

	if (!c->watch.key || conn_readable(c))
		return 0;
	r = conn_dial(c->peer, c->watch.key, c->watch.role, c->watch.name, deadline_in(PROBE_MS),
		      &other, NULL);
	if (r == 0)
		conn_free(other);
	/* Whatever else it says, or that it hangs up: it runs. */
	if ((r != ERR_TIMEOUT && r != ERR_UNREACHABLE) || conn_readable(c))
		return 0;
	return conn_break(c, err_set(err, ERR_UNREACHABLE, "%s: no answer, and none to a new "
				     "connection either", c->peer));
}

int conn_accept(int fd, const struct auth_key *key, uint16_t role, int64_t deadline_ms,
		struct conn **ret, struct err *err)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct auth auth = {0};
	struct conn *c = conn_new(fd);
	int r;

	if (!c || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		r = err_set(err, ERR_NOMEM, "accept: cannot set up the connection");
		if (c)
			conn_free(c);
		else
			close(fd);
		return r;
	}
	if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
		addr_format((struct sockaddr *)&ss, len, c->peer);
	auth_accept(&auth, key, role);
	r = conn_authenticate(c, &auth, deadline_ms, err);
	auth_release(&auth);
	if (r < 0) {
		conn_free(c);
		return r;
	}
	*ret = c;
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
		r = conn_recv(c, &h, fields, deadline_ms, err);
	if (r < 0)
		return err_prefix(err, r, "%s", wire_op_name(op));
	if (h.id != id || h.op != op || !(h.flags & WIRE_REPLY) || h.data_bytes > 0)
		return conn_break(c, err_set(err, ERR_PROTOCOL, "%s: answer to another question",
					     c->peer));
	return wire_get_reply(&h, buf_slice(fields), ret, NULL, err);
}
