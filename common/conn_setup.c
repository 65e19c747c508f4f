/* Dialling, listening, accepting. The set-up of a connection is steps that do not wait: TLS if there is
 * any, then the messages of common/auth.h. */
#include "common/conn_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
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

/* The host as it was given, with the socket's port: a certificate names hosts as people write them.
 * Numeric when none was given. */
static void bound_format(const char *addr, const struct sockaddr *sa, socklen_t len, char *ret)
{
	char host[ADDR_BYTES_MAX], port[8], given[ADDR_BYTES_MAX];
	const char *colon;

	addr_format(sa, len, ret);
	colon = strrchr(ret, ':');
	if (colon && addr_split(addr, host, port, NULL) == 0 && host[0] &&
	    snprintf(given, sizeof(given), strchr(host, ':') ? "[%s]%s" : "%s%s", host, colon) <
		    (int)sizeof(given))
		strcpy(ret, given);
}

int conn_bind(const char *addr, int *ret_fd, char *ret_addr, struct err *err)
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
	    bind(fd, list->ai_addr, list->ai_addrlen) < 0 ||
	    getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		r = err_set_errno(err, errno, "listen on %s", addr);
	freeaddrinfo(list);
	if (r < 0)
		return r;
	if (ret_addr)
		bound_format(addr, (struct sockaddr *)&ss, len, ret_addr);
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int conn_listen(const char *addr, int *ret_fd, char *ret_addr, struct err *err)
{
	int fd, r = conn_bind(addr, &fd, ret_addr, err);

	if (r < 0)
		return r;
	if (listen(fd, CONN_BACKLOG) < 0) {
		r = err_set_errno(err, errno, "listen on %s", addr);
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* ---- set-up ---- */

static struct conn *conn_new(int fd, const struct cred *cred)
{
	struct conn *c = calloc(1, sizeof(*c));
	int one = 1;

	if (!c)
		return NULL;
	c->fd = fd;
	c->cred = cred;
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
	if (c->tls)
		tls_conn_release(c->tls);
	free(c->tls);
	free(c->tls_in);
	auth_release(&c->auth);
	buf_release(&c->out);
	free(c);
}

/* addr: what was dialled; NULL: accepted. */
static int conn_tls_begin(struct conn *c, const char *addr, struct err *err)
{
	if (!c->cred->tls)
		return 0;
	c->tls = calloc(1, sizeof(*c->tls));
	c->tls_in = malloc(CONN_TLS_BYTES);
	if (!c->tls || !c->tls_in)
		return err_set(err, ERR_NOMEM, "%s: out of memory", c->peer);
	return tls_conn_init(c->tls, c->cred->tls, addr, err);
}

/* The set-up messages follow TLS; the side that dialled begins, and sends its own with the last of
 * TLS's. */
static int conn_auth_begin(struct conn *c, bool dialled, struct err *err)
{
	_cleanup_buf_ struct buf hello = {0};
	int r;

	if (!dialled) {
		cred_auth_accept(c->cred, c->tls, &c->auth);
		return 0;
	}
	r = cred_auth_connect(c->cred, c->tls, &c->auth, &hello, err);
	return r < 0 ? r : conn_send(c, buf_slice(&hello), NULL, 0, deadline_in(0), err);
}

/* 1: TLS is set up, or there is none. */
static int conn_tls_step(struct conn *c, struct err *err)
{
	int r = 0;

	for (;;) {
		ssize_t n;
		r = tls_conn_handshake(c->tls, err);
		/* Also what tells the peer that it is refused. A flight is a few KiB and fits a new
		 * socket's buffer: who does not even take that is not waited for. */
		if (c->tls->out.len > 0 && (r != 1 || c->tls->accepting)) {
			int sent = conn_flush(c, deadline_in(0), r < 0 ? NULL : err);
			if (r >= 0 && sent < 0)
				return sent;
		}
		if (r != 0)
			return r;
		n = recv(c->fd, c->tls_in, CONN_TLS_BYTES, 0);
		if (n == 0)
			return err_set(err, ERR_CLOSED, "connection closed during set-up");
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : conn_lost(c, errno, err);
		c->tls->in = slice_of(c->tls_in, (size_t)n);
	}
}

/* One set-up message in rbuf, if it is whole: as auth_step, or 0 and *ret_more. */
static int conn_auth_message(struct conn *c, bool *ret_more, struct err *err)
{
	const uint8_t *at = c->rbuf + c->rpos;
	size_t have = c->rend - c->rpos;
	struct wire_header h;
	struct slice fields;
	int r = 0, sent = 0;

	/* The beginning of a TLS alert, which is shorter than any message. */
	if (!c->tls && have >= 2 && at[0] == 0x15 && at[1] == 3)
		return err_set(err, ERR_AUTH, "it speaks TLS: certificates are needed, not a shared key");
	*ret_more = have < WIRE_HEADER_BYTES;
	if (*ret_more)
		return 0;
	r = wire_header_get(at, &h, err);
	if (r == 0 && h.fields_bytes > c->fields_max)
		r = err_set(err, ERR_PROTOCOL, "message of %u bytes during connection set-up",
			    h.fields_bytes);
	if (r < 0)
		return r;
	*ret_more = have < WIRE_HEADER_BYTES + h.fields_bytes;
	if (*ret_more)
		return 0;
	fields = slice_of(at + WIRE_HEADER_BYTES, h.fields_bytes);
	r = wire_check(at, &h, fields, err);
	c->rpos += WIRE_HEADER_BYTES + h.fields_bytes;
	if (r == 0 && fault_map)
		r = conn_recv_fault(c, at, &h, err);
	if (r != 0)
		return r < 0 ? r : 0; /* lost: as if it had not come */
	buf_clear(&c->out);
	r = auth_step(&c->auth, &h, fields, &c->out, err);
	if (c->out.len > 0)
		sent = conn_send(c, buf_slice(&c->out), NULL, 0, deadline_in(0), r < 0 ? NULL : err);
	return r >= 0 && sent < 0 ? sent : r;
}

static int conn_auth_step(struct conn *c, struct err *err)
{
	for (;;) {
		bool more;
		size_t n;
		int r = conn_auth_message(c, &more, err);
		if (r != 0)
			return r;
		if (!more)
			continue;
		if (c->rpos > 0) {
			memmove(c->rbuf, c->rbuf + c->rpos, c->rend - c->rpos);
			c->rend -= c->rpos;
			c->rpos = 0;
		}
		/* A set-up message fits: fields_max is checked before more of it is waited for. */
		r = conn_read_now(c, c->rbuf + c->rend, sizeof(c->rbuf) - c->rend, &n, err);
		if (r < 0 || n == 0)
			return r;
		c->rend += n;
	}
}

/* As far as it goes without waiting: 1 set up, 0 more must come, negative. */
static int conn_setup_step(struct conn *c, bool dialled, struct err *err)
{
	int r = 1;

	if (c->tls && !c->tls->done)
		r = conn_tls_step(c, err);
	if (r == 1 && c->auth.state == AUTH_START) {
		r = conn_auth_begin(c, dialled, err);
		r = r < 0 ? r : 1;
	}
	if (r == 1)
		r = conn_auth_step(c, err);
	if (r == 1) {
		c->peer_role = c->auth.peer_role;
		c->fields_max = FIELDS_BYTES_MAX;
		snprintf(c->peer_name, sizeof(c->peer_name), "%s", c->auth.peer_name);
	}
	if (r < 0 && !c->broken)
		err_prefix(err, r, "%s", c->peer); /* what broke it named the peer itself */
	if (r < 0)
		c->broken = true;
	return r;
}

static int conn_set_up(struct conn *c, bool dialled, int64_t deadline_ms, struct err *err)
{
	int r;

	while ((r = conn_setup_step(c, dialled, err)) == 0) {
		r = conn_wait(c, POLLIN, deadline_ms, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : 0;
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

static int conn_connect(const char *addr, const struct cred *cred, int64_t deadline_ms, int *ret_fd,
			struct err *err)
{
	struct addrinfo *list = NULL;
	int fd = -1, r = addr_lookup(addr, 0, &list, err);

	if (r < 0)
		return r;
	for (const struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
		r = cred_check_address(cred, ai->ai_addr, addr, err);
		if (r == 0)
			r = conn_connect_one(ai, addr, deadline_ms, &fd, err);
	}
	freeaddrinfo(list);
	*ret_fd = fd;
	return fd < 0 ? r : 0;
}

static int conn_dial_once(const char *addr, const struct cred *cred, uint16_t want,
			  int64_t deadline_ms, struct conn **ret, struct err *err)
{
	struct conn *c;
	int fd, r = conn_connect(addr, cred, deadline_ms, &fd, err);

	if (r < 0)
		return r;
	c = conn_new(fd, cred);
	if (!c) {
		close(fd);
		return err_set(err, ERR_NOMEM, "%s: out of memory", addr);
	}
	snprintf(c->peer, sizeof(c->peer), "%s", addr);
	r = conn_tls_begin(c, addr, err);
	if (r == 0)
		r = conn_set_up(c, true, deadline_ms, err);
	if (r == 0 && c->peer_role != want)
		r = err_set(err, ERR_WRONG_CLUSTER, "%s: this is not a %s", addr,
			    identity_role_name(want));
	if (r < 0) {
		conn_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

int conn_dial(const char *addr, const struct cred *cred, uint16_t want, int64_t deadline_ms,
	      struct conn **ret, struct err *err)
{
	unsigned generation = cred->tls ? tls_generation(cred->tls) : 0;
	int r = conn_dial_once(addr, cred, want, deadline_ms, ret, err);

	if (r != ERR_AUTH || !cred->tls)
		return r;
	/* Refused with a certificate, or a list of revoked ones, that has just been replaced? Another
	 * thread may have found that out first. */
	tls_look(cred->tls);
	if (tls_generation(cred->tls) != generation)
		r = conn_dial_once(addr, cred, want, deadline_ms, ret, err);
	return r;
}

void conn_watch(struct conn *c)
{
	c->watched = true;
}

int conn_probe(struct conn *c, struct err *err)
{
	struct conn *other;
	int r;

	if (!c->watched || conn_readable(c))
		return 0;
	r = conn_dial(c->peer, c->cred, c->peer_role, deadline_in(PROBE_MS), &other, NULL);
	if (r == 0)
		conn_free(other);
	/* Whatever else it says, or that it hangs up: it runs. */
	if ((r != ERR_TIMEOUT && r != ERR_UNREACHABLE) || conn_readable(c))
		return 0;
	return conn_break(c, err_set(err, ERR_UNREACHABLE, "%s: no answer, and none to a new "
				     "connection either", c->peer));
}

int conn_accept_begin(int fd, const struct cred *cred, struct conn **ret, struct err *err)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct conn *c = conn_new(fd, cred);
	int r = 0;

	if (!c || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		r = err_set(err, ERR_NOMEM, "accept: cannot set up the connection");
	if (r == 0 && getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
		addr_format((struct sockaddr *)&ss, len, c->peer);
	if (r == 0)
		r = conn_tls_begin(c, NULL, err);
	if (r < 0) {
		if (c)
			conn_free(c);
		else
			close(fd);
		return r;
	}
	*ret = c;
	return 0;
}

int conn_accept_step(struct conn *c, struct err *err)
{
	return conn_setup_step(c, false, err);
}

int conn_accept(int fd, const struct cred *cred, int64_t deadline_ms, struct conn **ret,
		struct err *err)
{
	struct conn *c;
	int r = conn_accept_begin(fd, cred, &c, err);

	if (r < 0)
		return r;
	r = conn_set_up(c, false, deadline_ms, err);
	if (r < 0) {
		conn_free(c);
		return r;
	}
	*ret = c;
	return 0;
}
