/* The chunkservers as the master knows them now: links, health, load. In memory only; what must
 * survive is in the state (`v`, `s` rows). Loop thread.
 *
 * Clocks of a server that falls silent, as parts of dead_ms (all of CLOCK_BOOTTIME):
 *
 *     heartbeat  <= 1/4   it says something, and has its lease renewed by the answer
 *     suspect       1/2   it stays a member; nothing new goes there, readers go to others first
 *     lease         3/4   the server itself neither serves nor acknowledges any more
 *     dead          1/1   its link is closed; a writer does without it
 *
 * A link that breaks makes a server down at once, although its lease may go on for a while: it may
 * be alive and cut off from this master only. Leaving it out of a chunk then is safe, because
 * nothing that is decided here rests on its silence:
 *  - A write counts only when every member of its version has it. Once the version is raised on the
 *    others, they refuse the old one, so a chain with the lost server in it completes nothing.
 *  - A read asks this master for locations first, and gets none of a server that is down. One that
 *    had asked before may still be answered by the lost server with what was there when it asked:
 *    the read began before the later write was complete, so it may be put before it.
 * Whoever keeps locations from one read to the next has no such excuse: before a write completes
 * without a server that is cut off, that server's lease must have run out. */
#ifndef CAIRN_MASTER_CSREG_H
#define CAIRN_MASTER_CSREG_H

#include <uthash.h>

#include "common/token.h"
#include "master/schema.h"
#include "master/server.h"

/* A request sent to a chunkserver. done: code 0 and the reply's fields, or an error. Once. */
typedef void (*cs_done_fn)(void *arg, int code, struct slice fields);
struct cs_request {
	uint64_t id;
	uint16_t op;
	int64_t deadline_ms;
	unsigned unheard; /* heartbeats that did not tell that it is in hand */
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
	uint8_t state;	   /* SERVER_DOWN, SERVER_REPORTING, SERVER_UP, SERVER_SUSPECT */
	bool draining;	   /* as in its `v` row */
	int64_t seen_ms;
	uint64_t total_bytes, free_bytes, chunks;
	uint32_t disks, disks_bad, load;
	struct wire_scrub scrub;
	uint64_t refused; /* requests of clients, for want of a token */
	uint64_t tag_key; /* tag is its address's under this key of access tokens; 0: there is none */
	uint8_t tag[TOKEN_TAG_BYTES];
	int64_t linked_ms; /* when the link was set up last; 0: never by this master */
	int64_t blamed_ms; /* when somebody got no answer from it last; 0: never */
	int64_t down_ms;   /* while it is not up: when it was last, or this master started */
	unsigned tries;	   /* registrations since it was up last */
	bool deleting;	   /* a CHUNK_DELETE is under way */
	/* garbage.c: where its walk goes on; the soonest it came by that is not due; not before. */
	uint64_t garbage_next;
	int64_t garbage_soonest_s, garbage_rest_ms;
	/* Copies for repair and balance under way: from it, to it. */
	unsigned feeding, filling;
	uint8_t find_seen; /* repair_find.c: what was known of it in the last tick */
	/* balance.c: chunks it is a member of, as of the last walk; counted by this one so far. Where
	 * looking for chunks to move goes on, not before when; whether any was found this time. */
	uint64_t members, counting, balance_next;
	int64_t balance_ms;
	bool balance_moved;
	struct cs_request *requests;
	UT_hash_handle hh;
};

/* What is known against a replica, by (chunk, server). */
enum {
	MARK_UNCLEAN = 1, /* was open at a crash: to be compared with the others */
	MARK_DAMAGED = 2, /* missing, unreadable or of an old version: no source for others */
	MARK_STALE = 4,	  /* of a server that is no member: an old replica, cheap to bring up to date */
	MARK_TORN = 8,	  /* with UNCLEAN: blocks that were being written then do not verify */
	MARK_IN_DOUBT = 16, /* as good as any, but serves no reads before a raise */
	MARK_LOSSY = 32, /* with UNCLEAN: it may have lost unsynced bytes, as after a power loss */
};
struct mark {
	struct { uint64_t chunk; uint64_t server; } key;
	uint8_t flags;
	UT_hash_handle hh;
};

struct csreg {
	struct cs *by_id;
	struct mark *marks;
	unsigned stale_marks;
	int64_t started_ms; /* of this master: servers need a moment to register with it */
	int64_t dead_ms;    /* a server silent for so long is down */
	int64_t overdue_ms; /* silent for so long: a heartbeat has not come */
	struct mark *next_mark; /* repair_find.c: where looking through the marks goes on */
};

void csreg_init(struct csreg *reg, int64_t dead_ms);

struct cs *csreg_find(struct csreg *reg, uint32_t id);
/* The server's entry, made on first use. NULL: out of memory. */
struct cs *csreg_add(struct csreg *reg, uint32_t id);
void csreg_free(struct csreg *reg);
/* It is off the list: closes its link, and forgets it with what is known against its replicas. */
void csreg_remove(struct csreg *reg, uint32_t id);
static inline bool cs_up(const struct cs *cs)
{
	return cs && (cs->state == SERVER_UP || cs->state == SERVER_SUSPECT);
}
/* A message of it has come. */
void cs_heard(struct cs *cs);
/* It is up: it has registered and reported. */
void cs_ready(struct cs *cs);

/* See the top of this file. */
static inline int64_t csreg_suspect_ms(const struct csreg *reg)
{
	return reg->dead_ms / 2;
}
static inline int64_t csreg_lease_ms(const struct csreg *reg)
{
	return reg->dead_ms / 4 * 3;
}
int64_t csreg_heartbeat_ms(const struct csreg *reg, int64_t wanted_ms);
/* Not up for delay_ms, and not about to be: its copies are made up for. */
bool csreg_lost(struct csreg *reg, uint32_t id, int64_t delay_ms);

/* Somebody could not get an answer from it, for `reason`, or it said that it hears nothing from here
 * (ERR_LEASE). Until it is heard of again nothing new is placed there. */
void csreg_blame(struct csreg *reg, uint32_t id, int reason);
static inline bool cs_blamed(const struct cs *cs)
{
	return cs->blamed_ms > cs->seen_ms;
}
/* New replicas may go there. */
static inline bool cs_takes(const struct cs *cs)
{
	return cs->state == SERVER_UP && !cs->draining && !cs_blamed(cs);
}
/* Down; or blamed, and a heartbeat is overdue: long before dead_ms clients do without it. Not for
 * the blame alone: one who is cut off blames servers that others can use. */
bool cs_absent(const struct csreg *reg, const struct cs *cs);

/* Not up, but likely to be within dead_ms: it is reporting, or this master has just started and has
 * not heard of it. Nothing is decided without such a server yet. One that registers again and again
 * and never gets up is not waited for. */
bool csreg_expected(struct csreg *reg, uint32_t id);

/* Sends a request; done is called from the loop: with the reply, ERR_TIMEOUT, or ERR_CLOSED when
 * the link breaks. Returns negative, and calls nothing, when there is no link. */
int cs_call(struct csreg *reg, struct cs *cs, uint16_t op, const void *record,
	    int64_t timeout_ms, cs_done_fn done, void *arg);
/* A reply has come. */
void cs_reply(struct cs *cs, const struct wire_header *h, struct slice fields);
/* Copies and deletions take long, and their deadlines are far away: what the server does not have in
 * hand was lost on the way. The next tick ends it. */
void cs_working(struct cs *cs, const struct wire_cs_heartbeat *beat);
/* The link is gone: all its requests fail. */
void cs_unlink(struct cs *cs);
/* Fails what is overdue; closes the link of servers silent for dead_ms. */
void csreg_tick(struct csreg *reg);

/* flags 0 clears. Marks are hints that reports and readers bring again, so those of strangers are
 * bounded: a server of millions of chunks that comes back when all have been replaced would fill the
 * memory with them. A replica whose mark finds no room is found by the server's next report. */
enum { STALE_MARKS_MAX = 1 << 20 };
void csreg_mark(struct csreg *reg, uint64_t chunk, uint32_t server, uint8_t flags);
uint8_t csreg_marked(struct csreg *reg, uint64_t chunk, uint32_t server);

#endif
