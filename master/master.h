/* The master's parts wired together: what runs on the loop thread and may call one another. */
#ifndef CAIRN_MASTER_MASTER_H
#define CAIRN_MASTER_MASTER_H

#include <uthash.h>

#include "master/compare.h"
#include "master/csreg.h"
#include "master/hold.h"
#include "master/ns.h"
#include "master/raise.h"
#include "master/repair.h"
#include "master/rlog.h"
#include "master/server.h"
#include "master/store.h"

struct master_options {
	char *data_dir, *listen, *key_file, *log_level, *name;
	int64_t replicas, heartbeat_ms, dead_after_ms, session_ttl_ms, cache_bytes;
	int64_t raise_timeout_ms, repair_delay_ms, repair_max, repair_per_server, max_connections;
	int64_t balance_threshold, balance_max;
	int64_t garbage_grace_ms, compare_period_ms;
	bool check, json;
	char *export_file, *import_file;
};

/* A client session's clock: everything else of it is in the state. */
struct session_clock {
	uint64_t session;
	int64_t seen_ms;
	bool closing; /* SESSION_CLOSE is proposed */
	UT_hash_handle hh;
};

struct master {
	struct master_options o;
	uv_loop_t *loop;
	uv_timer_t tick;      /* every MASTER_TICK_MS */
	uv_async_t written;   /* the store thread has ended a batch */
	uv_prepare_t flush;   /* before the loop sleeps: what was applied goes to the store */
	uv_signal_t signals[2];
	struct auth_key key;
	struct state *st;
	struct store *store;
	struct rlog *log;
	struct server *server;
	struct csreg servers;
	struct raise_table raises;
	struct session_clock *sessions;
	struct hold hold;
	struct compare compare;
	struct backup_view *backups; /* rpc_recovery.c */
	struct call *parked; /* rpc_client.c */
	uint64_t applied;     /* index of the last entry applied */
	unsigned in_flight;   /* proposals not answered */
	unsigned ticks;
	bool ready, stopping, log_closed;
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

/* rpc_client.c, rpc_cs.c: messages by role. Requests that wait for servers to come back after a
 * start are looked at again in each tick. */
void rpc_client_message(struct master *m, struct peer *peer, const struct wire_header *h,
			struct slice fields);
/* What only administrators ask (rpc_admin.c). False: it is no such message. */
bool rpc_admin_message(struct master *m, struct peer *peer, const struct wire_header *h,
		       struct slice fields);
void rpc_client_tick(struct master *m);
void rpc_client_free(struct master *m);
/* rpc_recovery.c: hold, backups, fsck. False: it is no such message. */
bool rpc_recovery_message(struct master *m, struct peer *peer, const struct wire_header *h,
			  struct slice fields);
void rpc_recovery_gone(struct master *m, struct peer *peer);
void rpc_recovery_tick(struct master *m);
void rpc_recovery_free(struct master *m);
/* Enters the servers of the state, as down. */
int rpc_cs_load(struct master *m, struct err *err);
void rpc_cs_message(struct master *m, struct peer *peer, const struct wire_header *h,
		    struct slice fields);

/* session.c */
void session_seen(struct master *m, uint64_t session);
int session_load(struct master *m, struct err *err);
void session_tick(struct master *m);
void session_close(struct master *m, uint64_t session);
void session_forget(struct master *m, uint64_t session);
void session_free_all(struct master *m);

/* For place_choose(). */
uint64_t random_u64(void *arg);

#endif
