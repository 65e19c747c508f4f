/* The chunkservers as the master knows them now: links, health, load. In memory only; what must
 * survive is in the state (`v`, `s` rows). Loop thread. */
#ifndef CAIRN_MASTER_CSREG_H
#define CAIRN_MASTER_CSREG_H

#include <uthash.h>

#include "master/schema.h"
#include "master/server.h"

/* A request sent to a chunkserver. done: code 0 and the reply's fields, or an error. Once. */
typedef void (*cs_done_fn)(void *arg, int code, struct slice fields);
struct cs_request {
	uint64_t id;
	uint16_t op;
	int64_t deadline_ms;
	cs_done_fn done;
	void *arg;
	UT_hash_handle hh;
};

struct cs {
	uint32_t id;
	uint8_t uuid[UUID_BYTES];
	char addr[ADDR_BYTES_MAX];
	char rack[TEXT_BYTES_MAX + 1];
	char host[TEXT_BYTES_MAX + 1];
	struct peer *peer; /* NULL: no link */
	uint8_t state;	   /* SERVER_DOWN, SERVER_REPORTING, SERVER_UP */
	int64_t seen_ms;
	uint64_t total_bytes, free_bytes, chunks;
	uint32_t disks, disks_bad, load;
	int64_t linked_ms; /* when the link was set up last; 0: not since this master started */
	int64_t blamed_ms; /* when somebody got no answer from it last; 0: never */
	bool deleting;	   /* a CHUNK_DELETE is under way */
	struct cs_request *requests;
	UT_hash_handle hh;
};

/* What is known against a replica, by (chunk, server). */
enum {
	MARK_UNCLEAN = 1, /* was open at a crash: to be compared with the others */
	MARK_DAMAGED = 2, /* missing, unreadable or of an old version: no source for others */
	MARK_STALE = 4,	  /* of a server that is no member: an old replica, cheap to bring up to date */
	MARK_TORN = 8,	  /* with UNCLEAN: blocks that were being written then do not verify */
};
struct mark {
	struct { uint64_t chunk; uint64_t server; } key;
	uint8_t flags;
	UT_hash_handle hh;
};

struct csreg {
	struct cs *by_id;
	struct mark *marks;
	int64_t started_ms; /* of this master: servers need a moment to register with it */
	int64_t dead_ms;    /* a server silent for so long is down */
	int64_t overdue_ms; /* silent for so long: a heartbeat has not come */
};

void csreg_init(struct csreg *reg, int64_t dead_ms);

struct cs *csreg_find(struct csreg *reg, uint32_t id);
/* The server's entry, made on first use. NULL: out of memory. */
struct cs *csreg_add(struct csreg *reg, uint32_t id);
void csreg_free(struct csreg *reg);
static inline bool cs_up(const struct cs *cs)
{
	return cs && cs->state == SERVER_UP;
}

/* Somebody could not get an answer from it, for `reason`. Until it is heard of again nothing new is
 * placed there. */
void csreg_blame(struct csreg *reg, uint32_t id, int reason);
static inline bool cs_blamed(const struct cs *cs)
{
	return cs->blamed_ms > cs->seen_ms;
}
/* Down; or blamed, and a heartbeat is overdue: long before dead_ms clients do without it. Not for
 * the blame alone: one who is cut off blames servers that others can use. */
bool cs_absent(const struct csreg *reg, const struct cs *cs);

/* Not up, but likely to be within dead_ms: it is reporting, or this master has just started and has
 * not heard of it. Nothing is decided without such a server yet. */
bool csreg_expected(struct csreg *reg, uint32_t id);

/* Sends a request; done is called from the loop: with the reply, ERR_TIMEOUT, or ERR_CLOSED when
 * the link breaks. Returns negative, and calls nothing, when there is no link. */
int cs_call(struct csreg *reg, struct cs *cs, uint16_t op, const void *record,
	    int64_t timeout_ms, cs_done_fn done, void *arg);
/* A reply has come. */
void cs_reply(struct cs *cs, const struct wire_header *h, struct slice fields);
/* The link is gone: all its requests fail. */
void cs_unlink(struct cs *cs);
/* Fails what is overdue; closes the link of servers silent for dead_ms. */
void csreg_tick(struct csreg *reg);

/* flags 0 clears. */
void csreg_mark(struct csreg *reg, uint64_t chunk, uint32_t server, uint8_t flags);
uint8_t csreg_marked(struct csreg *reg, uint64_t chunk, uint32_t server);

#endif
