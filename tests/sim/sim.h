/* The simulation: the real master (apply, raise, repair, place, registration, requests) in a world
 * of made-up chunkservers, clients, links and disks, under virtual time. All that happens, and
 * when, follows from a seed.
 *
 *     sim_net.c      events in order of time; connections, with their delays and breaks
 *     sim_server.c   chunkservers: registration, commands, crashes (the rules of one replica are in
 *                    tests/lib/fake_master.h)
 *     sim_write.c    a write on its way along the chain, as chunkserver/serve.c does it
 *     sim_client.c   sessions, operations, retries
 *     sim_cache.c    clients that cache what they are leased
 *     sim_check.c    what must hold after each step, and when everything has come to rest
 *     sim_main.c     what goes wrong when; restarts of the master; seeds
 *
 * Everything that an event points to lives until the seed ends (sim_alloc). */
#ifndef CAIRN_TESTS_SIM_H
#define CAIRN_TESTS_SIM_H

#include "tests/lib/fake_master.h"

enum {
	SIM_SERVERS_MAX = 9,
	SIM_CLIENTS = 4,
	SIM_CACHERS = 5,
	SIM_CHUNKS_MAX = 160, /* chunk ids that a seed may use up */
	SIM_FILE_CHUNKS = 3,
	SIM_NAMES = 6,
	SIM_ALL_NAMES = 10, /* the rest: of files that are not written to without leases */
	SIM_WORKERS = 4,
};

/* ---- sim_net.c ---- */

typedef void (*sim_fn)(void *arg, uint64_t n);
void *sim_alloc(size_t bytes); /* zeros */
void sim_after(int64_t ms, sim_fn fn, void *arg, uint64_t n);
/* The next event; false when there is none before `until`, which is then the time. */
bool sim_step(int64_t until);
void sim_net_clear(void);

/* A connection to the master. Its peer is the master's side. */
struct sim_conn {
	struct peer peer; /* first: freed as one */
	struct sim_server *server;
	struct sim_client *client;
	struct sim_cacher *cacher;
	bool closed;	       /* the other side has ended it, or knows that it has ended */
	int64_t up_ms, down_ms; /* when the last message of each direction arrives */
	int64_t stall_up_ms, stall_down_ms; /* nothing arrives before */
	struct sim_conn *next;
};
/* NULL while the master is down. */
struct sim_conn *sim_connect(struct sim_server *server, struct sim_client *client);
/* The server's or client's side ends it. `silent`: the master is not told (its host is gone). */
void sim_disconnect(struct sim_conn *c, bool silent);
void sim_send_up(struct sim_conn *c, const struct buf *message);
/* All connections end because the master does. */
void sim_net_master_gone(void);
void sim_net_hooks(void);

/* ---- sim_server.c ---- */

struct sim_hop;
struct sim_slot {
	struct fake_replica r;
	struct sim_hop *lock[REPLICA_BLOCKS];
};

enum sim_stage { STAGE_NONE, STAGE_REGISTER, STAGE_SPACE, STAGE_DIGEST, STAGE_REPORT, STAGE_READY,
		 STAGE_UP };

struct sim_command;
struct sim_server {
	unsigned n;
	uint32_t id; /* given by the master; 0: not known yet */
	uint8_t uuid[UUID_BYTES];
	char addr[24], rack[16], host[16];
	bool exists, running, full;
	bool gone; /* for good */
	bool lost_power; /* when it stopped last */
	int64_t frozen_ms; /* until then it does nothing */
	uint64_t life; /* counts starts: what an earlier process began is not gone on with */
	struct sim_conn *conn;
	enum sim_stage stage;
	uint64_t next_id, call_id;
	struct wire_have *list; /* as taken for the report that is under way */
	unsigned n_list;
	struct sim_command *commands;
	unsigned busy;
	struct sim_slot slots[SIM_CHUNKS_MAX];
};

enum sim_stop { STOP_CLEAN, STOP_KILL, STOP_POWER };
void sim_server_add(void);
void sim_server_start(struct sim_server *s);
void sim_server_stop(struct sim_server *s, enum sim_stop how);
void sim_server_message(struct sim_server *s, struct sim_conn *c, const struct wire_header *h,
			struct slice fields);
void sim_server_unlinked(struct sim_server *s, struct sim_conn *c);
/* It tells how a replica is. */
void sim_server_tells(struct sim_server *s, uint64_t chunk);
/* It has found out that a replica is damaged. */
void sim_server_damaged(struct sim_server *s, uint64_t chunk);
void sim_server_fault(struct sim_server *s, uint64_t chunk, uint32_t version, uint32_t server,
		      int reason);
struct sim_server *sim_server_of(uint32_t id);
static inline bool sim_frozen(const struct sim_server *s)
{
	return fake_ms < s->frozen_ms;
}

/* ---- sim_write.c ---- */

struct sim_write;
typedef void (*sim_wrote_fn)(struct sim_client *c, uint64_t op, int code, uint32_t server);
/* The bytes of write `number` for blocks first..last of the chunk, along its replicas. */
void sim_write(struct sim_client *c, uint64_t op, uint32_t number, const struct wire_chunk *chunk,
	       unsigned first, unsigned last, sim_wrote_fn done);
/* A write of it is applied here and not known to be everywhere: readers wait. */
bool sim_write_uncommitted(const struct sim_slot *slot);
bool sim_write_locked(const struct sim_slot *slot);
bool sim_write_uncommitted_block(const struct sim_slot *slot, unsigned block);
/* Connections of a process that has died break. */
void sim_write_server_died(struct sim_server *s);
void sim_write_clear(void);

/* ---- sim_client.c ---- */

struct sim_op;
struct sim_client {
	unsigned n;
	uint64_t session, seq;
	uint64_t held; /* a file without a name that it has open, or 0 */
	struct sim_conn *conn;
	uint64_t next_id;
	bool dead;
	struct sim_op *op;
	uint64_t op_serial;
};
void sim_client_act(struct sim_client *c); /* begins an operation, if none is under way */
void sim_client_die(struct sim_client *c); /* its session is left to expire */
void sim_client_ping(struct sim_client *c);
/* As an administrator. False when the master is not there. */
bool sim_client_drain(struct sim_client *c, uint32_t server, bool draining);
/* The lowest number of the writes of this block that are under way; UINT32_MAX for none. */
uint32_t sim_client_outstanding(uint64_t chunk, unsigned block);
bool sim_client_idle(const struct sim_client *c);
void sim_client_message(struct sim_client *c, struct sim_conn *conn, const struct wire_header *h,
			struct slice fields);
void sim_client_unlinked(struct sim_client *c, struct sim_conn *conn);

struct slice sim_name(unsigned n);
/* The file of this name, by a look into the state: 0 when there is none. */
uint64_t sim_file(unsigned n);

/* ---- sim_cache.c ---- */

struct sim_cacher;
void sim_cacher_act(void);
void sim_cacher_ping(void);
void sim_cacher_trouble(void);
void sim_cacher_message(struct sim_cacher *c, struct sim_conn *conn, const struct wire_header *h,
			struct slice fields);
/* The master sends this to it now. */
void sim_cacher_told(const struct sim_cacher *c, const struct sim_conn *conn,
		     const struct wire_header *h, struct slice fields);
void sim_cacher_unlinked(struct sim_cacher *c, struct sim_conn *conn);
/* A change that one of them has asked for is under way. */
bool sim_cacher_may_lag(void);
void sim_cachers_check(void);
bool sim_cachers_idle(void);
void sim_cachers_clear(void);

/* ---- sim_check.c ---- */

/* What a block of a chunk must hold at least: the write of this number, or one that came later; or
 * zeros, if they are allowed. */
struct sim_floor {
	uint32_t number;
	bool zeros;
};
struct sim_expect {
	bool made, gone;
	uint32_t version; /* the highest seen */
	uint32_t cuts[REPLICA_BLOCKS]; /* counts the truncations that took a block */
	struct sim_floor acked[REPLICA_BLOCKS];
	struct sim_floor seen[REPLICA_BLOCKS]; /* by readers */
	uint32_t reached[REPLICA_BLOCKS]; /* writes that all members had: about to be promised */
	bool dirty;
};
void sim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void sim_trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool sim_row(uint64_t chunk, struct row_chunk *ret);
bool sim_is_member(const struct row_chunk *row, uint32_t server);
bool sim_floor_kept(const struct sim_floor *f, uint32_t content);
/* Whether the loss of this server's replicas (or, with how: a stop of it) leaves what was promised
 * of every chunk. */
bool sim_may_lose(const struct sim_server *s);
bool sim_may_stop(const struct sim_server *s, enum sim_stop how);
/* Whether the others of its chunks can do without it for a while: none of them rots unnoticed. */
bool sim_may_be_away(const struct sim_server *s);
bool sim_may_rot(const struct sim_server *s, uint64_t chunk);
void sim_touched(uint64_t chunk);
void sim_deleting(const struct sim_server *s, uint64_t chunk, uint32_t version);
void sim_acked(uint64_t chunk, unsigned first, unsigned last, uint32_t number,
	       const uint32_t cuts[REPLICA_BLOCKS]);
void sim_reached(uint64_t chunk, unsigned first, unsigned last, uint32_t number);
void sim_check_step(void);
void sim_check_schema(void);
/* NULL when all is as it should be at rest, else what is not. */
const char *sim_check_rest(void);
void sim_check_applied(uint16_t number, struct slice entry, const struct apply_result *result);

/* ---- the world ---- */

struct sim {
	struct master m;
	bool master_up, tracing, calm; /* calm: nothing goes wrong any more */
	uint64_t seed, steps, commits;
	uint32_t copies;
	unsigned racks, n_servers;
	uint32_t writes; /* numbers given to writes and truncations, in one row */
	struct sim_server servers[SIM_SERVERS_MAX];
	struct sim_client clients[SIM_CLIENTS];
	struct sim_expect expect[SIM_CHUNKS_MAX];
	struct { uint64_t acked, reads, raised, deleted, restarts, crashes, lost, recalls, hits,
		data; } count;
};
extern struct sim sim;

#endif
