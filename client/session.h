/* The session: its identity, its keep-alive thread, and mutations that are executed once.
 *
 * Each mutation gets the next sequence number and keeps it over all retries. When the master has
 * forgotten the session (ERR_STALE), a new one is opened, once for all threads; an operation of
 * which no earlier attempt could have been executed then goes on in the new session, others
 * fail with ERR_STALE. What the old session held open without a name is gone then.
 * Safe from any thread; no lock is held while the master is asked. */
#ifndef CAIRN_CLIENT_SESSION_H
#define CAIRN_CLIENT_SESSION_H

#include "client/master.h"
#include "client/opids.h"

struct session {
	struct master *master; /* not owned */
	pthread_t keeper;
	bool keeper_runs;
	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t changed;
	uint64_t id;
	uint32_t ttl_ms;
	uint64_t root;
	struct opids ops;
	uint64_t writes; /* numbered so far */
	bool renewing;
	bool stop;
};

/* Opens the session and starts the keep-alive thread. On failure s is released. */
int session_open(struct session *s, struct master *master, int64_t deadline_ms, struct err *err);
/* Stops the thread and tells the master. No mutation may be in progress. */
void session_close(struct session *s);

/* Names n pieces of writes to chunkservers: (*ret_session, the returned number and the n-1 after
 * it). Never used for anything else. */
uint64_t session_number_writes(struct session *s, unsigned n, uint64_t *ret_session);

/* Calls the master with the mutation `req`, whose own wire_opid is `id` (a member of req: it is
 * filled in here). As master_call otherwise. */
int session_mutate(struct session *s, uint16_t op, void *req, struct wire_opid *id, void *ret,
		   struct buf *fields, int64_t deadline_ms, struct err *err);

#endif
