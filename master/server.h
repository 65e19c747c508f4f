/* The master's connections on its libuv loop: framing, set-up, limits and queues. What messages
 * mean is not known here: it is in rpc_client.c and rpc_cs.c.
 *
 * A peer must be authenticated within SERVER_AUTH_MS, may send only small set-up messages before,
 * and must read its replies: more than SERVER_QUEUE_BYTES_MAX waiting closes it. Bytes that are
 * no message close the connection with a line in the log, and disturb nobody else.
 */
#ifndef CAIRN_MASTER_SERVER_H
#define CAIRN_MASTER_SERVER_H

#include <uv.h>

#include "common/auth.h"

enum { SERVER_AUTH_MS = 5000, SERVER_QUEUE_BYTES_MAX = 16 << 20, SERVER_READ_BYTES = 64 << 10 };

struct server;

/* One connection. Freed when it is closed and its last reference is gone. */
struct peer {
	struct server *server;
	uv_tcp_t tcp;
	struct auth auth;
	struct buf in;
	size_t in_pos;
	size_t queued_bytes;
	unsigned refs;
	bool closing;
	bool paused;
	int64_t auth_deadline_ms;
	char name[ADDR_BYTES_MAX + 80]; /* "127.0.0.1:4711 (cairn 123)" */
	uint64_t next_id;	/* for requests to the peer */
	void *owner;		/* rpc_cs: the chunkserver at the other end */
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

/* Listens; *ret_addr (ADDR_BYTES_MAX) is the real address. */
int server_open(uv_loop_t *loop, const char *addr, const struct auth_key *key,
		int64_t max_connections, const struct server_handlers *handlers,
		struct server **ret, char *ret_addr, struct err *err);
/* Closes the listener and every peer; the loop runs until their handles are closed, then
 * server_free() may be called. */
void server_close(struct server *s);
void server_free(struct server *s);
/* Stops or goes on reading from clients (not from chunkservers). */
void server_pause(struct server *s, bool pause);

/* Sends encoded messages; the buffer is copied where it cannot be sent at once. Closed peers are
 * ignored. */
void peer_send(struct peer *p, const struct buf *message);
void peer_reply(struct peer *p, const struct wire_header *request, const void *reply);
void peer_reply_raw(struct peer *p, const struct wire_header *request, struct slice fields);
void peer_fail(struct peer *p, const struct wire_header *request, int code, const char *text);
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
