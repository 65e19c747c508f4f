/* The raise machine: carries a chunk from version v to v+1.
 *
 * It serves every change of a chunk's members: a lost one is left out, a truncation is carried to
 * all, one that was open at a crash is compared, a new one joins. For each chunk at most one runs.
 *
 *     FILL     joining servers pull a copy at v, while clients go on
 *     LOG      CHUNK_RAISE is proposed (skipped when the state says it is pending already)
 *     ASK      members, and those whose copy is complete, rename to v+1, cut, and answer with the
 *              digest of their checksums
 *     MEND     those that differ, were marked or have no copy yet pull from the best member
 *     CONFIRM  CHUNK_RAISED with those that succeeded is proposed
 *
 * From LOG on nobody gets a location of the chunk: requests for it wait here. When no member
 * answers, the raise stays pending and is tried again every RAISE_RETRY_MS. Members with marks are
 * not asked but mended; their content counts only when no unmarked member can come, or none did for
 * long (RAISE_PATIENCE). FILL gives way: a truncation, or a writer who lost a member, goes on without
 * the servers that were to join, and so does after RAISE_GIVE_WAY_MS who wants marked members compared.
 * So does MEND, when somebody waits; after twice as long where only the source is good. Who is left out
 * has an old replica then, and comes back by repair, which nobody waits for. Nobody is asked while a member that just (re)starts is expected: it
 * would be left out for nothing. */
#ifndef CAIRN_MASTER_RAISE_H
#define CAIRN_MASTER_RAISE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/waits.h"

struct master;
struct raise;

struct raise_table {
	struct raise *by_chunk;
	uint64_t fills; /* counts the FILLs: each has its own number */
};

enum {
	RAISE_RETRY_MS = 1000,
	RAISE_MEND_MS = 60000,	/* the chunk cannot be used meanwhile, unless somebody wants it: */
	RAISE_GIVE_WAY_MS = 2000, /* MEND goes on without those that have no copy yet */
	RAISE_FILL_MS = 600000, /* nobody waits; a server that hangs loses its link first */
	RAISE_UNSURE_MAX = 2,	/* rounds, until one that others could not reach is left out */
	RAISE_PATIENCE = 10,	/* repair_delays, until what one member has after a crash counts */
	RAISE_KILLED_MS = 2000, /* until that of one that lost its process and nothing else does */
};

/* Called once: 0 when the chunk has its new version, ERR_CHUNK_PENDING after RAISE_WAIT_MS
 * (common/waits.h), ERR_NO_SERVERS when no member can be asked. */
typedef void (*raise_done_fn)(void *arg, int code);

/* joining: servers that become members. leaving: members that are to go once they are not needed:
 * they are asked nothing and keep their old version, unless fewer than the wanted copies remain
 * without them. */
struct raise_plan {
	uint32_t joining[REPLICAS_MAX], leaving[REPLICAS_MAX];
	unsigned n_joining, n_leaving;
};

/* Leaves server `drop` out (0: none), and those that are down. If one runs for the chunk already,
 * only waits for it. done may be NULL. */
void raise_start(struct master *m, uint64_t chunk, uint32_t drop, raise_done_fn done, void *arg);
/* Carries out a plan, and compares replicas with marks against them. None runs for this chunk.
 * done is called when it ends, or when it can do nothing but wait for a member to come back. */
void raise_repair(struct master *m, uint64_t chunk, const struct raise_plan *plan,
		  raise_done_fn done, void *arg);
bool raise_running(struct master *m, uint64_t chunk);
/* Starts machines for all `p` rows: after a restart. */
int raise_resume(struct master *m);
void raise_tick(struct master *m);
void raise_free_all(struct master *m);

#endif
