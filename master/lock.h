/* Locks on files, without I/O: lists of ranges, what is in whose way, who waits for whom.
 *
 * Linux's rules (fs/locks.c): ranges of one owner split, merge and change their type; shared ones
 * of different owners go together; a claim that would close a circle of waiting owners is refused.
 * Belongs to the master's loop thread.
 */
#ifndef CAIRN_MASTER_LOCK_H
#define CAIRN_MASTER_LOCK_H

#include "master/state.h"

enum {
	LOCK_RANGE_BYTES = 17,	/* in row_lock.ranges: start, end, type, little-endian */
	LOCK_OWNERS_MAX = 1024, /* looked at for one deadlock; beyond: none is seen */
};

/* Bytes start..end, both included; LOCK_SHARED or LOCK_EXCLUSIVE, LOCK_FREE where it says so. */
struct lock_range {
	uint64_t start, end;
	uint8_t type;
};

/* What one owner has of one file: rising, apart (or of different types where they touch). */
struct lock_list {
	struct lock_range *ranges;
	unsigned n;
};
void lock_list_release(struct lock_list *l);
/* 0, ERR_CORRUPT or ERR_NOMEM. */
int lock_list_get(struct slice bytes, struct lock_list *ret);
void lock_list_put(const struct lock_list *l, struct buf *b);
/* Sets a range to a type, LOCK_FREE: gives it back. *ret_weaker: something went or became weaker.
 * 0 or ERR_NOMEM. */
int lock_list_set(struct lock_list *l, struct lock_range want, bool *ret_weaker);
bool lock_ranges_conflict(const struct lock_range *a, const struct lock_range *b);

/* Somebody's wish for a lock. */
struct lock_claim {
	uint64_t session, inode, owner;
	uint8_t kind, flags; /* LOCK_NO_DEADLOCK */
	struct lock_range range;
};
struct lock_holder {
	uint64_t session, owner;
	uint32_t pid;
	struct lock_range range; /* the first one that is in the way */
};
/* kind, type and range are ones that there are. */
bool lock_claim_valid(uint8_t kind, uint8_t type, uint64_t start, uint64_t end);
/* The lock of another owner that is in the way and starts first: 1, 0: none is, or negative. */
int lock_blocker(struct state *st, const struct lock_claim *claim, struct lock_holder *ret);
/* The same for a request; of LOCK_FREE nothing is in the way. */
int lock_is_blocked(struct state *st, const struct wire_lock *req);

/* Who waits, longest first. */
struct lock_waiter {
	struct lock_claim claim;
	int64_t since_ms;
	struct lock_waiter *prev, *next;
};
/* 1: an owner in the claim's way waits, over others or not, for the claim's own. 0, negative. */
int lock_deadlock(struct state *st, const struct lock_waiter *waiters,
		  const struct lock_claim *claim);

#endif
