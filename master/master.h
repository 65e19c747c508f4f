/* The master's parts wired together: what runs on the loop thread and may call one another. */
#ifndef CAIRN_MASTER_MASTER_H
#define CAIRN_MASTER_MASTER_H

#include <uthash.h>

#include "master/compare.h"
#include "master/csreg.h"
#include "master/hold.h"
#include "master/lease.h"
#include "master/ns.h"
#include "master/raise.h"
#include "master/repair.h"
#include "master/rlog.h"
#include "master/server.h"
#include "master/store.h"
#include "master/tokens.h"

struct master_options {
	char *data_dir, *listen, *credentials, *transport, *log_level, *name, *user;
	bool core_dumps;
	int64_t replicas, heartbeat_ms, dead_after_ms, session_ttl_ms, cache_bytes;
	int64_t raise_timeout_ms, repair_delay_ms, repair_max, repair_per_server, max_connections;
	int64_t balance_threshold, balance_max;
	int64_t garbage_grace_ms, compare_period_ms;
	int64_t lease_ms, lease_quarantine_ms, lease_max, orphan_linger_ms;
	int64_t buffer_free_min; /* bytes */
	int64_t token_life_ms;
	int64_t audit_bytes, audit_keep;
	bool check, json, allow_plaintext;
	char *export_file, *import_file;
};

enum { CREDENTIAL_BYTES = IDENTITY_NAME_BYTES + 16 };

/* A client session's clock, and whose it is: everything else of it is in the state. */
struct session_clock {
	uint64_t session;
	int64_t seen_ms;
	char credential[CREDENTIAL_BYTES], export[IDENTITY_NAME_BYTES]; /* as in row_session */
	bool closing; /* SESSION_CLOSE is proposed */
	struct peer *link;  /* where recalls go, or NULL */
	uint64_t recall_id; /* of the batch that was sent last */
	UT_hash_handle hh;
};

struct master {
	struct master_options o;
	uv_loop_t *loop;
	uv_timer_t tick;      /* every MASTER_TICK_MS */
	uv_async_t written;   /* the store thread has ended a batch */
	uv_prepare_t flush;   /* before the loop sleeps: what was applied goes to the store */
	uv_signal_t signals[3];
	struct cred cred;
	int listen_fd; /* bound; the server's from when it listens */
	char addr[ADDR_BYTES_MAX];
	struct state *st;
	struct store *store;
	struct rlog *log;
	struct server *server;
	struct csreg servers;
	struct token_ring tokens;
	struct raise_table raises;
	struct session_clock *sessions;
	struct hold hold;
	struct compare compare;
	struct backup_view *backups; /* rpc_recovery.c */
	struct call *parked; /* rpc_client.c */
	struct lock_waiter *lock_waiters; /* rpc_lock.c */
	struct lease_table leases;
	struct call *waiting; /* lease_gate.c */
	struct call *limited; /* rpc_export.c: they wait for their export's rate */
	struct export_rate *rates;
	struct gate_busy_name *busy_names;
	uint64_t incarnation; /* of this process: leases do not outlive it */
	bool linger_busy;
	uint64_t applied;     /* index of the last entry applied */
	uint64_t storing;     /* the last one of the batch that the store thread has, or had */
	int64_t active_since_ms; /* since when something waits to become a batch; 0: nothing does */
	unsigned in_flight;   /* proposals not answered */
	unsigned ticks;
	bool ready, stopping, log_closing, log_closed;
	/* repair.c */
	bool garbage_due, reclaim_busy, reclaim_due;
	struct repair repair;
	unsigned repairs, moves; /* raises that repair.c, balance.c have started and that run */
	int exit_status;
};
enum { MASTER_TICK_MS = 100 };

/* Proposes a command (record as cmd.h's table says), stamped with the time. done(arg, result):
 * result NULL: unknown outcome. On failure to propose, done is called with NULL too, so that every
 * caller has one way out. */
void master_propose(struct master *m, uint16_t number, const void *record,
		    void (*done)(struct master *m, void *arg, struct apply_result *result),
		    void *arg);
/* When nobody waits for it. */
void master_propose_quietly(struct master *m, uint16_t number, const void *record);

/* batch.c: what was applied goes to the database in batches, when there is enough of it or it is old.
 * push: in every turn of the loop. ended: the store thread has called; negative when it failed.
 * all: waits until all that is applied is there. It blocks the loop for a sync or two: for what is
 * rare and looks at the database itself. */
void batch_push(struct master *m);
int batch_ended(struct master *m, struct err *err);
int batch_all(struct master *m, struct err *err);

/* rpc_client.c, rpc_cs.c: messages by role. Requests that wait for servers to come back after a
 * start are looked at again in each tick. */
void rpc_client_message(struct master *m, struct peer *peer, const struct wire_header *h,
			struct slice fields);
/* What only administrators ask (rpc_admin.c). False: it is no such message. */
bool rpc_admin_message(struct master *m, struct peer *peer, const struct wire_header *h,
		       struct slice fields);
void rpc_client_tick(struct master *m);
/* Before the loop sleeps: those go on that waited for what has come, recalls are sent. */
void rpc_client_flush(struct master *m);
void rpc_client_free(struct master *m);
/* rpc_lease.c: the links of sessions. */
void rpc_lease_flush(struct master *m);
void rpc_lease_tick(struct master *m);
void rpc_lease_gone(struct master *m, struct peer *peer);
/* rpc_recovery.c: hold, backups, fsck. False: it is no such message. */
bool rpc_recovery_message(struct master *m, struct peer *peer, const struct wire_header *h,
			  struct slice fields);
void rpc_recovery_gone(struct master *m, struct peer *peer);
void rpc_recovery_tick(struct master *m);
void rpc_recovery_free(struct master *m);
/* Quotas. */
bool rpc_quota_message(struct master *m, struct peer *peer, const struct wire_header *h,
		       struct slice fields);
/* rpc_lock.c. Locks of this file (0: of any) went or became weaker. */
void rpc_lock_changed(struct master *m, uint64_t inode);
void rpc_lock_gone(struct master *m, struct peer *peer);
void rpc_lock_tick(struct master *m);
void rpc_lock_free(struct master *m);
/* Enters the servers of the state, as down. */
int rpc_cs_load(struct master *m, struct err *err);
void rpc_cs_message(struct master *m, struct peer *peer, const struct wire_header *h,
		    struct slice fields);

/* session.c */
struct session_clock *session_find(struct master *m, uint64_t session);
void session_seen(struct master *m, uint64_t session);
/* It is in the state since now. */
void session_opened(struct master *m, uint64_t session);
int session_load(struct master *m, struct err *err);
void session_tick(struct master *m);
/* clean: the client says so; else nothing was heard of it. */
void session_close(struct master *m, uint64_t session, bool clean);
void session_forget(struct master *m, uint64_t session);
void session_free_all(struct master *m);

/* For place_choose(). */
uint64_t random_u64(void *arg);

#endif
