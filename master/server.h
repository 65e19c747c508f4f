/* The master's connections on its libuv loop: TLS, framing, set-up, limits and queues. What messages
 * mean is not known here: it is in rpc_client.c and rpc_cs.c.
 *
 * Limits, so that nobody can keep others out:
 * - Before a peer is authenticated: SERVER_AUTH_MS in all, however it spends them; small set-up
 *   messages only; SERVER_SETUP_MAX such connections at once, beyond which the oldest goes for the
 *   newest. They do not count towards max_connections.
 * - After: a message must be there whole within SERVER_MESSAGE_TICKS of the timer. Ticks, not
 *   milliseconds: a master that was frozen itself does not hold it against its peers.
 * - A client (or administrator) with SERVER_CALLS_MAX requests unanswered, or SERVER_UNSENT_BYTES of
 *   replies that it has not read, is not read from until both are down to half.
 * - What waits for a peer in spite of that is bounded: SERVER_QUEUE_BYTES_MAX closes it.
 * Bytes that are no message close the connection with a line in the log, and disturb nobody else.
 */
#ifndef CAIRN_MASTER_SERVER_H
#define CAIRN_MASTER_SERVER_H

#include <uv.h>

#include "common/cred.h"

enum {
	SERVER_AUTH_MS = 5000, SERVER_QUEUE_BYTES_MAX = 16 << 20, SERVER_READ_BYTES = 64 << 10,
	SERVER_TICK_MS = 500, SERVER_SETUP_MAX = 256, SERVER_MESSAGE_TICKS = 20,
	SERVER_CALLS_MAX = 1024, SERVER_UNSENT_BYTES = 1 << 20, SERVER_GATHER_BYTES = 64 << 10,
};

struct server;

/* One connection. Freed when it is closed and its last reference is gone. */
struct peer {
	struct server *server;
	uv_tcp_t tcp;
	struct tls_conn *tls; /* NULL: plain */
	struct auth auth;
	struct buf in;
	size_t in_pos;
	struct buf gathered; /* to be sent in one write: see peer_flush */
	bool taking;	     /* its requests are being handled */
	bool in_gathering;
	struct peer *gather_next;
	size_t queued_bytes;
	unsigned refs;
	bool closing;
	bool paused;
	bool in_setup;	/* counted as such by the server */
	bool throttled; /* not read from until it has fewer requests unanswered */
	unsigned partial_ticks; /* how long a part of a message has waited for the rest */
	int64_t auth_deadline_ms;
	char name[ADDR_BYTES_MAX + 160]; /* "127.0.0.1:4711 (client mount-1, cairn 123)" */
	uint64_t next_id;	/* for requests to the peer */
	void *owner;		/* rpc_cs: the chunkserver at the other end */
	uint64_t link_of;	/* rpc_lease: the session whose link it is, or 0 */
	struct asked *asked;	/* audit.c: what is written down when it is answered */
	struct peer *prev, *next;
};

struct server_handlers {
	/* A checked message of an authenticated peer; the fields live until the call returns. */
	void (*message)(void *arg, struct peer *peer, const struct wire_header *h,
			struct slice fields);
	/* The peer is gone: once, before it is freed. */
	void (*gone)(void *arg, struct peer *peer);
	void *arg;
};

/* Listens on a socket of conn_bind, which is taken over; addr names it in errors. */
int server_open(uv_loop_t *loop, int fd, const char *addr, const struct cred *cred,
		int64_t max_connections, const struct server_handlers *handlers,
		struct server **ret, struct err *err);
/* Closes the listener and every peer; the loop runs until their handles are closed, then
 * server_free() may be called. */
void server_close(struct server *s);
void server_free(struct server *s);
/* Sends what is gathered for any peer: to be called last before the loop waits. */
void server_flush(struct server *s);
/* Stops or goes on reading from clients (not from chunkservers). */
void server_pause(struct server *s, bool pause);

/* Sends encoded messages; the buffer is copied where it cannot be sent at once. Closed peers are
 * ignored. */
void peer_send(struct peer *p, const struct buf *message);
void peer_reply(struct peer *p, const struct wire_header *request, const void *reply);
/* leased: WIRE_LEASED_*, for the header. */
void peer_reply_leased(struct peer *p, const struct wire_header *request, const void *reply,
		       uint8_t leased);
void peer_reply_raw(struct peer *p, const struct wire_header *request, struct slice fields,
		    uint8_t leased);
void peer_fail(struct peer *p, const struct wire_header *request, int code, const char *text);
void peer_fail_leased(struct peer *p, const struct wire_header *request, int code,
		      const char *text, uint8_t leased);
void peer_close(struct peer *p, const char *why);
void peer_ref(struct peer *p);
void peer_unref(struct peer *p);

/* In a handler with `peer`, `h` and `fields`: declares m and decodes it; a malformed request is told
 * so, and the handler returns. */
#define PEER_DECODE(record, m)                                                         \
	struct record m;                                                               \
	do {                                                                           \
		struct cursor decode_cursor = cursor_slice(fields);                    \
		if (record##_get(&decode_cursor, &m) < 0) {                            \
			peer_fail(peer, h, ERR_PROTOCOL, "malformed request");         \
			return;                                                        \
		}                                                                      \
	} while (0)

#endif
