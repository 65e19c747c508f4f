/* Pooled connections to chunkservers, and a memory of which of them failed or were slow lately.
 * Safe from any thread; no lock is held while a connection is made or used. */
#ifndef CAIRN_CLIENT_PEER_H
#define CAIRN_CLIENT_PEER_H

#include <pthread.h>

#include "common/conn.h"

enum {
	PEER_IDLE_MAX = 8,	/* connections kept for each server */
	PEER_AVOID_MS = 5000,	/* how long a failed server is asked last, a slow one late */
	/* Slow is who takes longer to answer than the quickest by this factor and this much. */
	PEER_SLOW_FACTOR = 4,
	PEER_SLOW_US = 5000,
};

struct peer;

struct peers {
	const struct cred *cred; /* not owned */
	int64_t connect_ms;
	pthread_mutex_t lock; /* protects what follows */
	struct peer *by_addr;
};

void peers_init(struct peers *p, const struct cred *cred, int64_t connect_ms);
void peers_release(struct peers *p);

/* A connection to the server at addr: an idle one that is still open (*ret_pooled), or a new one
 * within connect_ms and the deadline. fresh: a new one in any case; idle ones are closed.
 * A failure to connect makes the server avoided; *ret_pooled is false then. */
int peers_take(struct peers *p, const char *addr, bool fresh, int64_t deadline_ms,
	       struct conn **ret, bool *ret_pooled, struct err *err);
/* Gives it back: kept if it is good, closed if it is broken. NULL is fine. */
void peers_put(struct peers *p, struct conn *c);
/* Remembers that the server works, or that it failed. */
void peers_mark(struct peers *p, const char *addr, bool works);
/* It began an answer after so long. */
void peers_took(struct peers *p, const char *addr, int64_t us);
/* Another server was quicker, though it was asked later. */
void peers_slow(struct peers *p, const char *addr);

/* How n servers that have the same have done within PEER_AVOID_MS. */
enum peer_health { PEER_GOOD, PEER_SLOW, PEER_FAILED };
void peers_health(struct peers *p, const char *const *addrs, unsigned n, enum peer_health *ret);

#endif
