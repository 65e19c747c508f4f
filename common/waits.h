/* Who waits how long for whom: the budget of a stall, in one place.
 *
 * A server that answers late is either busy (a slow disk: it shall be waited for, long) or it does
 * not run (frozen, powered off, cut off: nothing shall be waited for). The two are told apart by
 * asking: whoever has waited for PROBE_QUIET_MS dials the server anew. A connection is accepted and
 * HELLO answered by threads that do no disk work, so a server that is merely busy answers that. One
 * that does not within PROBE_MS is given up at once, whatever the limit of the wait; one that does
 * is asked again after every PROBE_QUIET_MS (common/conn.h, conn_watch).
 *
 *   who             waits for                  a server that does not run     a busy one at most
 *   client          a new connection           PEER_DIAL_MS                   the same
 *   client          READ                       NOTICE_MS, the hedge sooner    READ_BUSY_MS
 *   client          WRITE's answer             NOTICE_MS                      write_busy_ms(behind)
 *   client          SYNC's answer              NOTICE_MS                      sync_busy_ms(behind)
 *   chain member    a connection to the next   PEER_DIAL_MS                   the same
 *   chain member    the next one's answer      NOTICE_MS                      with one less behind
 *   master          a member it raises         raise_timeout (option)         the same
 *   client          the master, one attempt    MASTER_ATTEMPT_MS              the same
 *
 * So a write that meets a server that does not run stalls for NOTICE_MS, then for the raise of the
 * chunk's version on the others, which need no more than a rename and its sync: STALL_MS_MAX is the
 * promise. The master need not be told twice: it takes a member that was reported so as absent until
 * it hears from it again. */
#ifndef CAIRN_COMMON_WAITS_H
#define CAIRN_COMMON_WAITS_H

#include <assert.h>
#include <stdint.h>

#include "common/limits.h"

enum {
	PROBE_QUIET_MS = 500,
	PROBE_MS = 700,
	NOTICE_MS = PROBE_QUIET_MS + PROBE_MS,
	PEER_DIAL_MS = NOTICE_MS,
	RAISE_EXPECTED_MS = 1000, /* of members that run */
	STALL_MS_MAX = 3000,

	/* Of the last server of a chain, and more for each one before it, so that the one nearest to
	 * the fault finds it first and can say who it is. */
	WRITE_BUSY_MS = 10000,
	SYNC_BUSY_MS = 15000,
	CHAIN_STEP_MS = 700,
	READ_BUSY_MS = 10000,

	/* The master itself may hold a request while it raises a chunk's version (master/raise.h)
	 * or waits for a server that is starting. */
	RAISE_WAIT_MS = 8000,
	MASTER_ATTEMPT_MS = 10000,

	CLIENT_TIMEOUT_DEFAULT_MS = 30000,

	/* Who waits for a lock is told so often that it is still held. A client that has heard
	 * nothing for LOCK_SILENT_MS asks on a new connection. */
	LOCK_TOLD_MS = 5000,
	LOCK_SILENT_MS = 8000,
};

/* How long the answer of a server with `behind` others further down its chain may take. */
static inline int64_t write_busy_ms(unsigned behind)
{
	return WRITE_BUSY_MS + CHAIN_STEP_MS * (int64_t)behind;
}

static inline int64_t sync_busy_ms(unsigned behind)
{
	return SYNC_BUSY_MS + CHAIN_STEP_MS * (int64_t)behind;
}

static_assert(NOTICE_MS + RAISE_EXPECTED_MS < STALL_MS_MAX, "a write's stall keeps the promise");
static_assert(2 * NOTICE_MS < STALL_MS_MAX, "so does a read that meets two such servers");
static_assert(RAISE_WAIT_MS < MASTER_ATTEMPT_MS, "the master answers before it is given up");
/* What is left after the longest wait suffices for a raise and another attempt. */
static_assert(SYNC_BUSY_MS + CHAIN_STEP_MS * (REPLICAS_MAX - 1) + RAISE_WAIT_MS <
	      CLIENT_TIMEOUT_DEFAULT_MS, "a slow server is left in time");

#endif
