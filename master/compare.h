/* Comparing: the replicas of each chunk against one another, by digest.
 *
 * A replica whose checksums are right may still not be what the others are: a bug, a disk that gave
 * back old blocks, an administrator who restored one server from a copy. Nobody who reads one
 * replica sees it. So the master walks through all chunks, once within compare_period, and asks all
 * members for the digest of what they have (CHUNK_CHECK). Chunks that are not whole and at rest are
 * left to repair; those that are being written are asked for again later, a few times.
 *
 * Answers that differ count only when the same members give the same answers a second time. Then it
 * is an error in the log, the replicas that are fewer are marked as in doubt (all, when none are
 * more), and a raise makes them alike: what most members have counts. Loop thread. */
#ifndef CAIRN_MASTER_COMPARE_H
#define CAIRN_MASTER_COMPARE_H

#include "common/wire.h"

struct master;
struct comparison;

enum { COMPARE_MAX = 4, COMPARE_AGAIN_MS = 1000, COMPARE_TRIES_MAX = 5 };

/* All zeros is a good beginning. */
struct compare {
	uint64_t first;	   /* chunk with which the round began: a random one after a start, so that
			    * restarts do not keep the walk from ever coming to the end */
	uint64_t next;	   /* chunk to go on with */
	bool walking;	   /* a round has begun */
	bool wrapped;	   /* it came by the end, and goes on to the first */
	int64_t begun_ms;  /* when it did */
	struct comparison *running;
	unsigned n_running;
	struct wire_compare progress; /* of the present round: `compared` are those it came by */
};

/* Goes on with the walk, as far as its time has come. */
void compare_tick(struct master *m);
/* How far it is. */
void compare_progress(struct master *m, struct wire_compare *ret);
void compare_free(struct master *m);

#endif
