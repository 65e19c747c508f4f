/* The inside of the data port, shared by its files: serve.c (connections), serve_write.c (WRITE and
 * SYNC with their chains), serve_copy.c (COPY), serve_read.c (READ and SUMS). */
#ifndef CAIRN_CHUNKSERVER_SERVE_PRIV_H
#define CAIRN_CHUNKSERVER_SERVE_PRIV_H

#include <stdatomic.h>

#include "chunkserver/access.h"
#include "chunkserver/serve.h"
#include "common/conn.h"

enum {
	OTHERS = 3,		    /* idle connections to other next servers that are kept */
	WINDOW = 8,		    /* writes whose chain has not answered */
	PIECE_BYTES = 128 << 10,    /* forwarded while it is received */
	TICK_MS = 500,		    /* how often a waiting thread looks whether it should stop */
};

/* A write under way. Ring in arrival order. */
struct pending {
	struct wire_header h;
	uint16_t down_op; /* what the next server was asked */
	uint64_t down_id; /* the id of that request */
	uint64_t chunk;
	uint32_t version;
	uint32_t next_server;
	uint64_t session, seq; /* 0: it is not remembered */
	int code; /* of the local part */
	char text[TEXT_BYTES_MAX];
	const char *place; /* in the chain, for its fault points */
	struct range range; /* locked when it was applied here */
	int64_t deadline_ms;
};

struct session {
	const struct serve_options *o;
	const atomic_bool *stopping;
	struct conn *up, *down;
	char down_addr[ADDR_BYTES_MAX];
	struct conn *others[OTHERS]; /* idle, the last used first; NULLs at the end */
	struct pending ring[WINDOW];
	unsigned first, n;
	int64_t quiet_since_ms; /* when the next server was last heard of, or asked about */
	uint8_t *blocks; /* PIECE_BYTES_MAX: a piece at its place in its blocks */
	struct conn *source; /* another server, of the last copy */
	char source_addr[ADDR_BYTES_MAX];
	struct buf fields, reply_fields, out;
	struct access access;
};

/* Requests in progress, over all connections. */
extern atomic_uint serve_in_progress;

/* What is wrong with the replica, and not with the request or for lack of room. */
bool is_damage(int code);
bool out_of_contact(const struct session *s);

/* Whether the peer may: ERR_TOKEN, written into the audit log. Other chunkservers may do what a client's token allowed their like. */
int session_allowed(struct session *s, const struct wire_header *h, const struct access_wish *wish,
		    struct err *err);

/* Answers a request without fields: code 0, or a failure that `server` caused (0: nobody else). */
int session_answer(struct session *s, const struct wire_header *h, int code, const char *text,
		   uint32_t server, struct err *err);
/* Takes the outcome of the oldest write under way, or of all, and answers. */
int session_finish_one(struct session *s, struct err *err);
int session_finish_all(struct session *s, struct err *err);

/* One request whose header and fields have come. Negative: the connection ends. */
int session_write(struct session *s, const struct wire_header *h, struct err *err);
int session_copy(struct session *s, const struct wire_header *h, struct err *err);
int session_read(struct session *s, const struct wire_header *h, struct err *err);
int session_sums(struct session *s, const struct wire_header *h, struct err *err);
int session_sync(struct session *s, const struct wire_header *h, struct err *err);

/* A piece of h->data_bytes for this server and the rest of the chain. here: it is in s->blocks already;
 * else it comes behind the message. */
int session_put(struct session *s, const struct wire_header *h, const struct wire_write *m, bool here,
		struct err *err);
int write_check(const struct wire_header *h, const struct wire_write *m, struct err *err);

#endif
