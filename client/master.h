/* Calls to the master: pooled connections, retries, fail-over along the list of masters.
 *
 * A call takes an idle connection or dials one; MASTER_CONNS_MAX at most are in use, further
 * callers wait. A call that finds its pooled connection stale (the master restarted) goes on at
 * once on a fresh one. Otherwise broken connections, time-outs and masters that cannot serve now
 * are retried with growing pauses, on the next master of the list, until the deadline. The very
 * same request is sent each time: mutations carry a wire_opid and are executed once.
 * Safe from any thread; no lock is held while a connection is used. */
#ifndef CAIRN_CLIENT_MASTER_H
#define CAIRN_CLIENT_MASTER_H

#include <pthread.h>

#include "common/conn.h"

enum {
	MASTERS_MAX = 16,
	MASTER_CONNS_MAX = 64,
};

struct master {
	const struct cred *cred; /* not owned */
	int64_t connect_ms;
	char addrs[MASTERS_MAX][ADDR_BYTES_MAX];
	unsigned n_addrs;
	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t room;
	struct conn *idle[MASTER_CONNS_MAX];
	unsigned n_idle;
	unsigned n_out;	  /* in use or being dialled */
	struct conn *out[MASTER_CONNS_MAX]; /* those in use, in no order; NULL: none */
	int64_t end_ms;	  /* no call lasts longer than until then; 0: no such limit */
	unsigned current; /* the master to try first: the last one that answered */
};

/* list: "host:port[,host:port...]". ERR_INVAL with the reason. cred must outlive it. */
int master_init(struct master *m, const char *list, const struct cred *cred,
		int64_t connect_ms, struct err *err);
/* No call may be in progress. */
void master_release(struct master *m);

/* A connection of the caller's own, to the master that answered last: for what goes on over several
 * requests. conn_free() it. */
int master_dial(struct master *m, int64_t deadline_ms, struct conn **ret, struct err *err);

/* One request and its answer: 0, the master's failure, or (ERR_TIMEOUT and others that mean EIO)
 * no answer until the deadline, with "master HOST:PORT: reason". `fields` backs the slices in
 * ret. *ret_unsure (may be NULL): an attempt was sent and left without an answer, so that the
 * master may have executed it. */
int master_call(struct master *m, uint16_t op, const void *req, void *ret, struct buf *fields,
		int64_t deadline_ms, bool *ret_unsure, struct err *err);
/* The same. *ret_leased: WIRE_LEASED_* of the answer, be it a failure; 0 without an answer. */
int master_call_leased(struct master *m, uint16_t op, const void *req, void *ret,
		       struct buf *fields, int64_t deadline_ms, bool *ret_unsure,
		       uint8_t *ret_leased, struct err *err);

/* No call, present or future, lasts beyond end_ms. When that has passed already, those that wait for
 * an answer fail now. */
void master_end(struct master *m, int64_t end_ms);

#endif
