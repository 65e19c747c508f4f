#include "master/rlog.h"

#include <assert.h>
#include <raft.h>
#include <raft/uv.h>
#include <stdlib.h>

#include "common/log.h"

enum {
	RLOG_ID = 1,
	RLOG_SNAPSHOT_THRESHOLD = 8192, /* entries between two snapshots */
	RLOG_SNAPSHOT_TRAILING = 1024,
};
static const char rlog_address[] = "1"; /* of the single voter: nobody connects to it */

struct rlog {
	struct rlog_options o;
	struct raft raft;
	struct raft_io io;
	struct raft_fsm fsm;
	struct raft_uv_transport transport;
	raft_uv_transport_close_cb transport_closed;
	struct raft_barrier barrier;
	struct apply_result result; /* of the entry applied last: read by its callback */
	uint64_t command_index;	 /* of the last command applied: what the state can hold */
	uint64_t snapshot_index;
	bool refused; /* restore found LevelDB behind */
	void (*ready)(void *arg);
	void (*closed)(void *arg);
	void *closed_arg;
	void (*io_close)(struct raft_io *io, raft_io_close_cb cb); /* C-Raft's own */
	raft_io_close_cb io_closed; /* NULL once called */
};

/* ---- no network: one voter ---- */

static int transport_init(struct raft_uv_transport *t, raft_id id, const char *address)
{
	return 0;
}

static int transport_listen(struct raft_uv_transport *t, raft_uv_accept_cb cb)
{
	return 0;
}

static int transport_connect(struct raft_uv_transport *t, struct raft_uv_connect *req, raft_id id,
			     const char *address, raft_uv_connect_cb cb)
{
	return RAFT_NOCONNECTION;
}

static void transport_close(struct raft_uv_transport *t, raft_uv_transport_close_cb cb)
{
	cb(t);
}

/* ---- the state machine's side ---- */

/* A storage error must not be survived: C-Raft would go on without the entry. */
static void rlog_die(const struct err *err)
{
	log_error("%s", err_message(err));
	exit(1);
}

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
	struct rlog *log = fsm->data;
	uint64_t index = raft_last_applied(&log->raft) + 1;
	struct err err = {0};

	apply_result_release(&log->result);
	if (log->o.apply(log->o.arg, index, slice_of(buf->base, buf->len), &log->result, &err) < 0)
		rlog_die(&err);
	log->command_index = index;
	*result = &log->result;
	return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
	struct rlog *log = fsm->data;

	/* Barriers and configurations leave no trace in the state: waiting for one never ends. */
	log->snapshot_index = log->command_index;
	*bufs = NULL;
	*n_bufs = 0;
	return 0;
}

/* On a pool thread. */
static int fsm_snapshot_async(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
	struct rlog *log = fsm->data;

	if (log->o.wait_durable(log->o.arg, log->snapshot_index) < 0)
		return RAFT_CANCELED;
	*bufs = raft_malloc(sizeof(**bufs));
	if (!*bufs)
		return RAFT_NOMEM;
	(*bufs)->len = 8;
	(*bufs)->base = raft_malloc((*bufs)->len);
	if (!(*bufs)->base) {
		raft_free(*bufs);
		*bufs = NULL;
		return RAFT_NOMEM;
	}
	put_le64((*bufs)->base, log->snapshot_index);
	*n_bufs = 1;
	return 0;
}

static int fsm_snapshot_finalize(struct raft_fsm *fsm, struct raft_buffer *bufs[],
				 unsigned *n_bufs)
{
	for (unsigned i = 0; *bufs && i < *n_bufs; i++)
		raft_free((*bufs)[i].base);
	raft_free(*bufs);
	*bufs = NULL;
	*n_bufs = 0;
	return 0;
}

/* The state is in LevelDB: nothing to load, but it must not be older than the snapshot. */
static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
	struct rlog *log = fsm->data;
	uint64_t index = buf->len == 8 ? get_le64(buf->base) : UINT64_MAX;

	if (index > log->o.applied) {
		log->refused = true;
		return RAFT_CORRUPT;
	}
	raft_free(buf->base);
	return 0;
}

/* ---- life ---- */

static void barrier_done(struct raft_barrier *req, int status)
{
	struct rlog *log = req->data;

	if (log->closed)
		return; /* stopped before it was ready */
	if (status != 0) {
		log_error("log: barrier: %s", raft_strerror(status));
		exit(1);
	}
	log->ready(log->o.arg);
}

static int rlog_refuse(struct rlog *log, int r, const char *what, struct err *err)
{
	return err_set(err, r == RAFT_NOMEM ? ERR_NOMEM : ERR_CORRUPT, "log %s: %s: %s%s",
		       log->o.dir, what, raft_errmsg(&log->raft),
		       log->refused ? " (the database is older than the log's snapshot)" : "");
}

static int rlog_bootstrap(struct rlog *log, struct err *err)
{
	struct raft_configuration conf;
	int r;

	raft_configuration_init(&conf);
	r = raft_configuration_add(&conf, RLOG_ID, rlog_address, RAFT_VOTER);
	if (r == 0)
		r = raft_bootstrap(&log->raft, &conf);
	raft_configuration_close(&conf);
	/* It was made before: the usual case. */
	if (r != 0 && r != RAFT_CANTBOOTSTRAP)
		return rlog_refuse(log, r, "bootstrap", err);
	return 0;
}

/* The last segment's writer has handles to close, for which C-Raft does not wait before it says that it
 * is closed. When they close after that, it says so again; but what it frees then is freed. So only the
 * first time counts, and what it reads meanwhile stays until the loop has ended: see rlog_free. */
static void io_closed_once(struct raft_io *io)
{
	struct raft *raft = io->data;
	struct rlog *log = raft->data;
	raft_io_close_cb closed = log->io_closed;

	log->io_closed = NULL;
	if (closed)
		closed(io);
}

static void io_close(struct raft_io *io, raft_io_close_cb cb)
{
	struct raft *raft = io->data;
	struct rlog *log = raft->data;

	log->io_closed = cb;
	log->io_close(io, io_closed_once);
}

static int rlog_start(struct rlog *log, struct err *err)
{
	int r;

	r = raft_uv_init(&log->io, log->o.loop, log->o.dir, &log->transport);
	if (r != 0)
		return err_set(err, ERR_IO, "log %s: %s", log->o.dir, log->io.errmsg);
	log->io.version = 2; /* it has async_work, and does not say so */
	log->io_close = log->io.close;
	log->io.close = io_close;
	raft_uv_set_auto_recovery(&log->io, false);
	r = raft_init(&log->raft, &log->io, &log->fsm, RLOG_ID, rlog_address);
	if (r != 0)
		return rlog_refuse(log, r, "init", err);
	log->raft.data = log;
	raft_set_pre_vote(&log->raft, true);
	raft_set_snapshot_threshold(&log->raft, RLOG_SNAPSHOT_THRESHOLD);
	raft_set_snapshot_trailing(&log->raft, RLOG_SNAPSHOT_TRAILING);
	/* A lost log is not made anew beside a database that has seen another one. */
	r = log->o.applied == 0 ? rlog_bootstrap(log, err) : 0;
	if (r < 0)
		return r;
	r = raft_start(&log->raft);
	if (r != 0)
		return rlog_refuse(log, r, "start", err);
	if (raft_last_index(&log->raft) < log->o.applied)
		return err_set(err, ERR_CORRUPT, "log %s ends at entry %llu, but the database holds "
			       "entry %llu: the log is not this database's", log->o.dir,
			       (unsigned long long)raft_last_index(&log->raft),
			       (unsigned long long)log->o.applied);
	log->barrier.data = log;
	r = raft_barrier(&log->raft, &log->barrier, barrier_done);
	return r != 0 ? rlog_refuse(log, r, "barrier", err) : 0;
}

int rlog_open(const struct rlog_options *options, void (*ready)(void *arg), struct rlog **ret,
	      struct err *err)
{
	struct rlog *log = calloc(1, sizeof(*log));
	int r;

	if (!log)
		return err_set(err, ERR_NOMEM, "out of memory");
	log->o = *options;
	log->command_index = options->applied;
	log->ready = ready;
	log->transport = (struct raft_uv_transport){
		.data = log, .init = transport_init, .listen = transport_listen,
		.connect = transport_connect, .close = transport_close,
	};
	log->fsm = (struct raft_fsm){
		.version = 3, .data = log, .apply = fsm_apply, .snapshot = fsm_snapshot,
		.restore = fsm_restore, .snapshot_finalize = fsm_snapshot_finalize,
		.snapshot_async = fsm_snapshot_async,
	};
	r = rlog_start(log, err);
	/* A log that did not start ends the process: what C-Raft has open goes with it. */
	if (r == 0)
		*ret = log;
	return r;
}

static void raft_closed(struct raft *raft)
{
	struct rlog *log = raft->data;

	log->closed(log->closed_arg);
}

void rlog_close(struct rlog *log, void (*closed)(void *arg), void *arg)
{
	log->closed = closed;
	log->closed_arg = arg;
	raft_close(&log->raft, raft_closed);
}

void rlog_free(struct rlog *log)
{
	raft_uv_close(&log->io);
	apply_result_release(&log->result);
	free(log);
}

/* ---- proposals ---- */

struct proposal {
	struct raft_apply req;
	rlog_done_fn done;
	void *arg;
};

static void proposal_done(struct raft_apply *req, int status, void *result)
{
	struct proposal *p = req->data;

	if (status != 0)
		log_warn("log: outcome of entry %llu is unknown: %s",
			 (unsigned long long)req->index, raft_strerror(status));
	p->done(p->arg, status == 0 ? result : NULL);
	free(p);
	/* After a failed append nothing that follows can be trusted: a restart reads the log. */
	if (status != 0 && status != RAFT_SHUTDOWN && status != RAFT_LEADERSHIPLOST) {
		log_error("log: append failed: %s", raft_strerror(status));
		exit(1);
	}
}

int rlog_propose(struct rlog *log, struct slice entry, rlog_done_fn done, void *arg,
		 struct err *err)
{
	struct proposal *p = malloc(sizeof(*p));
	struct raft_buffer buf = {.len = entry.len, .base = raft_malloc(entry.len)};
	int r;

	assert(entry.len % 8 == 0);
	if (!p || !buf.base) {
		free(p);
		raft_free(buf.base);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	memcpy(buf.base, entry.data, entry.len);
	*p = (struct proposal){.done = done, .arg = arg};
	p->req.data = p;
	r = raft_apply(&log->raft, &p->req, &buf, 1, proposal_done);
	if (r != 0) {
		raft_free(buf.base);
		free(p);
		return err_set(err, r == RAFT_NOTLEADER ? ERR_NOT_LEADER : ERR_SHUTDOWN,
			       "log: %s", raft_errmsg(&log->raft));
	}
	return 0;
}
