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
	bool cached; /* it wants leases: client/lease.h */
	bool kernel_checks; /* a kernel has checked who may */
	pthread_t keeper;
	bool keeper_runs;
	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t changed;
	uint64_t id;
	uint32_t ttl_ms;
	uint64_t root;
	bool checked;
	struct opids ops;
	uint64_t writes; /* numbered so far */
	bool renewing;
	bool stop;
};

/* Opens the session and starts the keep-alive thread. cached: it will attach a link for leases.
 * kernel_checks: see cairn_options. On failure s is released. */
int session_open(struct session *s, struct master *master, bool cached, bool kernel_checks,
		 int64_t deadline_ms, struct err *err);
/* Stops the thread and tells the master. No mutation may be in progress. */
void session_close(struct session *s);

/* Who asks, for a request: cred, or the process's own for NULL. */
struct cairn_cred;
void session_cred(const struct session *s, const struct cairn_cred *cred, struct wire_cred *ret);

/* The present id: it changes when the session has to be opened anew. */
uint64_t session_id(struct session *s);
/* The directory that is its `/`. */
uint64_t session_root(struct session *s);
/* Whether the master checks who may, whatever a kernel has checked. */
bool session_is_checked(struct session *s);
/* How long the master keeps a session that it does not hear of. */
uint32_t session_ttl_ms(struct session *s);
/* Replaces session `old`, of which ERR_STALE was said. 0: there is another one now. ERR_STALE:
 * the master knows `old` well, so the answer meant something else. */
int session_renew(struct session *s, uint64_t old, int64_t deadline_ms, struct err *err);

/* Names n pieces of writes to chunkservers: (*ret_session, the returned number and the n-1 after
 * it). Never used for anything else. */
uint64_t session_number_writes(struct session *s, unsigned n, uint64_t *ret_session);

/* Calls the master with the mutation `req`, whose own wire_opid is `id` (a member of req: it is
 * filled in here). As master_call otherwise. */
int session_mutate(struct session *s, uint16_t op, void *req, struct wire_opid *id, void *ret,
		   struct buf *fields, int64_t deadline_ms, struct err *err);
/* The same. *ret_leased, *ret_unsure: as master_call_leased has them; with a failure, *ret_unsure tells
 * that it may be executed still. */
int session_mutate_leased(struct session *s, uint16_t op, void *req, struct wire_opid *id, void *ret,
			  struct buf *fields, int64_t deadline_ms, uint8_t *ret_leased,
			  bool *ret_unsure, struct err *err);

#endif
