/* Blocking connections with deadlines: what clients and chunkservers use. (The master serves
 * its own connections from a libuv loop.) This is the one place where a connection is dialled,
 * accepted and authenticated, over TLS or plainly as the credentials say (common/cred.h).
 *
 * A conn belongs to one thread at a time. After any error other than a failure reply the conn is
 * broken: free it. Every call that waits takes an absolute deadline (common/clock.h) and returns
 * ERR_TIMEOUT after it. Errors name the peer.
 */
#ifndef CAIRN_COMMON_CONN_H
#define CAIRN_COMMON_CONN_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "common/cred.h"

enum { CONN_RBUF_BYTES = 16384, CONN_TLS_BYTES = 64 << 10 };

struct conn {
	int fd;
	char peer[ADDR_BYTES_MAX]; /* "127.0.0.1:7411" */
	uint16_t peer_role;	   /* over TLS as its certificate says */
	char peer_name[64];
	struct tls_conn *tls;	   /* NULL: plain */
	uint8_t *tls_in;	   /* CONN_TLS_BYTES: what came, encrypted; tls->in points into it */
	uint64_t next_id; /* of the next request: never the same twice on a connection */
	uint8_t rbuf[CONN_RBUF_BYTES];
	size_t rpos, rend;
	uint32_t fields_max; /* small until the peer is authenticated */
	bool broken;
	uint8_t reply_flags; /* of the reply that conn_call got last, a failure too: WIRE_LEASED_* */
	struct buf out; /* reused for what is sent */
	size_t lost_bytes; /* faults: data still to come that belongs to a lost message */
	const struct cred *cred; /* not owned */
	struct auth auth;	 /* until the set-up is done */
	bool watched;		 /* conn_watch */
};

/* Addresses: "host:port", "[v6]:port", ":port" (any address, to listen).
 * addr_split: host in a buffer of ADDR_BYTES_MAX. ERR_INVAL with a reason. */
int addr_split(const char *addr, char *ret_host, char *ret_port, struct err *err);

/* A socket that has the address but does not listen yet, so that who connects is refused
 * (non-blocking, close-on-exec). Port 0 takes a free one. ret_addr (ADDR_BYTES_MAX, or NULL): the
 * address with the real port, its host as given (numeric if none is). Errors name the address. */
int conn_bind(const char *addr, int *ret_fd, char *ret_addr, struct err *err);
/* One that listens. */
int conn_listen(const char *addr, int *ret_fd, char *ret_addr, struct err *err);

/* Connects and authenticates both sides; the other one must have the role `want`. cred must outlive
 * the connection. */
int conn_dial(const char *addr, const struct cred *cred, uint16_t want, int64_t deadline_ms,
	      struct conn **ret, struct err *err);
/* From now on no wait on this connection, which conn_dial made, outlasts the process at its other
 * end: when nothing moves for PROBE_QUIET_MS (common/waits.h) a new connection is dialled; if that is
 * not answered the wait ends with ERR_UNREACHABLE. */
void conn_watch(struct conn *c);
/* One such question, for those that wait with poll(2) themselves: 0, or ERR_UNREACHABLE and c is
 * broken. 0 for a connection that is not watched. Takes at most PROBE_MS. */
int conn_probe(struct conn *c, struct err *err);
/* Takes over an accepted socket (closed on failure) and authenticates the other side. */
int conn_accept(int fd, const struct cred *cred, int64_t deadline_ms, struct conn **ret,
		struct err *err);
/* The same without waiting, for one thread that accepts many: begin, then a step whenever the socket
 * is readable. A step: 1 set up; 0 more must come; negative: free it. */
int conn_accept_begin(int fd, const struct cred *cred, struct conn **ret, struct err *err);
int conn_accept_step(struct conn *c, struct err *err);
void conn_free(struct conn *c);

/* Sends header+fields (already encoded) followed by data_len bytes of data. */
int conn_send(struct conn *c, struct slice message, const void *data, size_t data_len,
	      int64_t deadline_ms, struct err *err);
/* Sends data_len bytes of a file after the message, without copying where the transport can. */
int conn_send_file(struct conn *c, struct slice message, int file_fd, uint64_t offset,
		   size_t data_len, int64_t deadline_ms, struct err *err);
/* Sends bytes that belong to a message begun before (a write forwarded piece by piece). */
int conn_send_raw(struct conn *c, const void *data, size_t len, int64_t deadline_ms,
		  struct err *err);

/* Receives a header and its fields into `fields` (cleared first), checksum checked. The caller
 * then takes exactly h->data_bytes with conn_recv_data, in one or several calls.
 * ERR_CLOSED when the peer closed between messages. */
int conn_recv(struct conn *c, struct wire_header *ret, struct buf *fields, int64_t deadline_ms,
	      struct err *err);
int conn_recv_data(struct conn *c, void *data, size_t len, int64_t deadline_ms, struct err *err);
/* At least 1 and at most len bytes: *ret_n. */
int conn_recv_some(struct conn *c, void *data, size_t len, size_t *ret_n, int64_t deadline_ms,
		   struct err *err);
/* The reply, without data, to the request of this opcode and id. A reply that came twice, to a request
 * with a lower id, is passed over; anything else is ERR_PROTOCOL, and ends the connection. */
int conn_recv_reply(struct conn *c, uint16_t op, uint64_t id, struct wire_header *ret,
		    struct buf *fields, int64_t deadline_ms, struct err *err);
/* True when a conn_recv would find something without waiting (data, end or error). */
bool conn_readable(struct conn *c);
/* The same without a look at the socket: what a poll(2) of c->fd would not tell of. Ask before each. */
bool conn_buffered(struct conn *c);

/* One round trip: request op with record m, reply record into ret; `fields` backs the slices in
 * ret. 0, the peer's failure (the conn stays good: see conn_broken), or a broken conn. */
int conn_call(struct conn *c, uint16_t op, uint64_t trace, const void *m, void *ret,
	      struct buf *fields, int64_t deadline_ms, struct err *err);
/* Whether the last call left the conn unusable. */
bool conn_broken(const struct conn *c);

#endif
