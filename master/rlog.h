/* The replicated log: C-Raft, and the only user of it.
 *
 * One voter for now; entries are proposed, made durable, applied in order and answered through the
 * same path that a group of three will use. Everything here belongs to the loop thread, except
 * `wait_durable`, which C-Raft's pool thread calls while it takes a snapshot.
 *
 * C-Raft's apply gets no index: it is raft_last_applied() + 1, as barriers and configuration
 * changes take indices too. A snapshot holds the index of the last command only: the state is in
 * LevelDB, and the snapshot waits until LevelDB has durably passed that index, so that the log is
 * never cut before it.
 */
#ifndef CAIRN_MASTER_RLOG_H
#define CAIRN_MASTER_RLOG_H

#include <uv.h>

#include "master/apply.h"

struct rlog;

struct rlog_options {
	uv_loop_t *loop;
	const char *dir;
	uint64_t applied; /* the index that LevelDB holds: earlier entries are skipped */
	/* Applies one entry: see apply_entry. A negative result ends the process. */
	int (*apply)(void *arg, uint64_t index, struct slice entry, struct apply_result *ret,
		     struct err *err);
	int (*wait_durable)(void *arg, uint64_t index);
	void *arg;
};

/* Opens the log, making it on first use; replays what follows `applied`. Refuses a log that ends
 * before it (ERR_CORRUPT). `ready` is called when all old entries are applied, unless the log is
 * closed before that. */
int rlog_open(const struct rlog_options *options, void (*ready)(void *arg), struct rlog **ret,
	      struct err *err);
/* Stops: entries in flight end or are answered with an unknown outcome; `closed` is called once, when
 * nothing more of them will be. The log still has handles in the loop then. */
void rlog_close(struct rlog *log, void (*closed)(void *arg), void *arg);
/* Of a closed log, when uv_run has returned because no handle is left. */
void rlog_free(struct rlog *log);

/* Proposes an entry (copied). done is called once: with the result of apply, or with NULL when the
 * outcome is unknown: then nobody may be told anything. Returns 0, or negative and no call. */
typedef void (*rlog_done_fn)(void *arg, struct apply_result *result);
int rlog_propose(struct rlog *log, struct slice entry, rlog_done_fn done, void *arg,
		 struct err *err);

#endif
