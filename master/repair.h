/* Repair: chunks that are not as they should be are found, queued and mended.
 *
 * Found: in rows of the state, so that a restart forgets nothing: `u` rows (fewer members than
 * wanted), `s` rows of servers that are lost (not up for repair_delay) or draining; and in the
 * marks that reports and readers left. repair_find.c walks through them in small steps.
 *
 * Queued: by the number of live copies, fewest first, then by age. The queue is bounded: what does
 * not fit is found again.
 *
 * Mended: by raises (master/raise.h) that let new servers join and others leave. At most
 * repair_max run at once, and repair_per_server copies from and to each server. */
#ifndef CAIRN_MASTER_REPAIR_H
#define CAIRN_MASTER_REPAIR_H

#include <uthash.h>

#include "master/schema.h"

struct master;
struct cs;

/* ---- the queue: repair_queue.c ---- */

enum { REPAIR_QUEUE_MAX = 1 << 16, REPAIR_LIVE_MAX = REPLICAS_MAX };

/* READY: in the order of the queue. WAITING: nothing can be done now, or something was tried:
 * looked at again when its time comes. RUNNING: a raise was started for it. */
enum repair_entry_state { REPAIR_READY, REPAIR_WAIT_AGAIN, REPAIR_WAIT_RETRY, REPAIR_RUNNING };
enum { REPAIR_AGAIN_MS = 1000, REPAIR_RETRY_MS = 5000 };

struct repair_entry {
	uint64_t chunk;
	enum repair_entry_state state;
	uint8_t live;	   /* copies when it was queued: see struct condition */
	bool again;	   /* something new came up while it was RUNNING */
	bool failed;	   /* and a copy for it failed: it rests all the same */
	uint32_t avoid;	   /* a server to which copying failed last, or 0 */
	int64_t since_ms;  /* when it was found */
	int64_t due_ms;	   /* WAITING: until when */
	struct repair_entry *prev, *next;
	UT_hash_handle hh;
};

/* All zeros is an empty one. */
struct repair_queue {
	struct repair_entry *by_chunk;
	struct repair_entry *ready[REPAIR_LIVE_MAX + 1];
	struct repair_entry *waiting[2];
	uint64_t live[REPAIR_LIVE_MAX + 1]; /* how many have so many copies; without RUNNING ones */
	bool overflowed; /* something did not fit since this was cleared */
};

struct repair_entry *repair_queue_find(struct repair_queue *q, uint64_t chunk);
/* A new entry, READY. NULL: no memory, or full of chunks with no more copies. */
struct repair_entry *repair_queue_add(struct repair_queue *q, uint64_t chunk, unsigned live);
/* Moves an entry; to the end of where it belongs. */
void repair_queue_set(struct repair_queue *q, struct repair_entry *e,
		      enum repair_entry_state state, unsigned live);
void repair_queue_remove(struct repair_queue *q, struct repair_entry *e);
/* The first READY entries that have a live copy, in order. Returns how many, at most max. */
unsigned repair_queue_first(const struct repair_queue *q, uint64_t *ret_chunks, unsigned max);
/* WAITING entries whose time has come. */
unsigned repair_queue_due(const struct repair_queue *q, uint64_t *ret_chunks, unsigned max);
/* Entries that are READY or WAITING. */
uint64_t repair_queue_waiting(const struct repair_queue *q);
void repair_queue_free(struct repair_queue *q);

/* ---- how a chunk stands: repair.c ---- */

struct condition {
	struct row_chunk row;
	unsigned copies;  /* wanted */
	unsigned up;	  /* members */
	unsigned live;	  /* members that are up and not known to be damaged: copies that count */
	unsigned sound;	  /* of them: nothing is held against, they can be copied from */
	unsigned marked;  /* members that are up and must be compared or mended */
	unsigned away;	  /* members that are not up, but are expected back */
	bool expected;	  /* one of them within moments: nothing is decided without it */
	unsigned n_leaving; /* members to be replaced: lost or draining */
	uint32_t leaving[REPLICAS_MAX];
};
/* 1, or 0: there is no such chunk; negative: the row cannot be read. */
int repair_examine(struct master *m, uint64_t chunk, struct condition *ret);
/* Nothing is to be done for it. */
bool repair_nothing(const struct condition *c);
/* Nor is anything missing: every member is up and good. */
bool repair_whole(const struct condition *c);
/* How close `cs` would be to the members other than `without` (place_closeness). */
unsigned repair_closeness(struct master *m, const struct row_chunk *row, uint32_t without,
			  const struct cs *cs);
/* Copies to or from it are at their limit. */
bool repair_busy(const struct master *m, unsigned copies_under_way);
/* It is to delete its old replica first. */
bool repair_has_garbage(struct master *m, uint64_t chunk, uint32_t server);

/* ---- driving it ---- */

struct repair_find {
	uint8_t phase, copies;	/* where the walk goes on: see repair_find.c */
	uint64_t next;
	uint32_t server;
	bool at_once;		/* something changed: walk again without a pause */
	int64_t again_ms;
};

enum { REPAIR_MISPLACED_MAX = 1024 };

/* All zeros is a good beginning. */
struct repair {
	struct repair_queue queue;
	struct repair_find find;
	bool due; /* a raise has ended: another one may begin */
	/* balance.c: where the walk through all chunks goes on, and when; chunks with members close
	 * to each other that it found; when the next move may begin, after one that failed. */
	uint64_t walk_next, misplaced[REPAIR_MISPLACED_MAX];
	unsigned n_misplaced;
	int64_t walk_ms, moves_ms;
	bool balancing, more_misplaced, spread_helps;
};

void repair_tick(struct master *m);
/* Starts what may be started now. Called when `due`, from the loop and not from a callback. */
void repair_pick(struct master *m);
/* Something is to be looked at soon: a replica that needs comparing or replacing, a new state. */
void repair_now(struct master *m, uint64_t chunk);
/* A copy that its repair wanted could not be made, for lack of room or other reasons: the next try
 * waits, whatever else comes up meanwhile. Each try may raise the chunk, and stop those who write.
 * A source that went away is no such reason: there are fewer copies now, and less time. */
void repair_copy_failed(struct master *m, uint64_t chunk, int code);
/* The same for what a walk came by: no more urgent than it was. */
void repair_look(struct master *m, uint64_t chunk);
void repair_free(struct master *m);
/* garbage.c */
void garbage_tick(struct master *m);
/* repair_find.c: one step of the walk. */
void repair_find_tick(struct master *m);
/* balance.c: chunks are moved for the failure domains' and the disks' sake, when nothing waits. */
void balance_tick(struct master *m);

#endif
