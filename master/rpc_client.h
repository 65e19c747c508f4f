/* What the handlers of clients' requests share: rpc_client.c (sessions, reads, dispatch),
 * rpc_change.c (mutations), rpc_chunk.c (locations, writing, faults), rpc_lease.c (links, leases),
 * lease_gate.c (who may go on). */
#ifndef CAIRN_MASTER_RPC_CLIENT_H
#define CAIRN_MASTER_RPC_CLIENT_H

#include "master/access.h"
#include "master/master.h"
#include "master/query.h"

enum { CALL_ATTEMPTS_MAX = 4, PARK_MS = 8000, GATE_INODES_MAX = 4, GATE_NAMES_MAX = 2 };

/* What a request is about to change. */
struct gate {
	struct gate_inode { uint64_t id; bool recall, names; } inodes[GATE_INODES_MAX];
	struct gate_name { uint64_t parent, hash; } names[GATE_NAMES_MAX];
	unsigned n_inodes, n_names;
	uint64_t opens; /* it waits until nobody changes the names of this inode; 0: none */
	uint64_t reads; /* it waits until others let this inode be read (gate_read); 0: none */
	bool marked;	/* its inodes are busy through it */
	bool in_flight; /* its names are, too */
};

/* What a peer may see and do, by its certificate's export as that is now. */
struct scope {
	struct row_export row;
	uint32_t within; /* the quota of the export's directory; 0: all, and then the row is nothing */
};

/* A request; kept (call_keep) when it is not answered at once. */
struct call {
	struct master *m;
	struct peer *peer;
	struct wire_header h;
	struct buf fields;
	struct slice asked; /* the fields again, for as long as a handler runs; kept: `fields` */
	unsigned attempts;
	int64_t park_until_ms; /* 0: was never parked */
	int64_t gate_until_ms; /* 0: never waited for others' leases */
	struct gate gate;
	struct scope scope;
	/* What its answer may be leased with, and to whom. inode 0: the answer tells. */
	uint64_t session, inode, parent;
	bool buffer; /* MAKE asks for B */
	struct call *prev, *next;
};

/* In a handler: declares m and decodes it; a malformed request is told so. CALL_DECODE_CRED: one with a
 * cred, which is then as the master believes it; s: the session that it names, which must be the peer's. */
#define CALL_DECODE(record, m)                                                  \
	struct record m;                                                        \
	do {                                                                    \
		struct cursor decode_cursor = cursor_slice(fields);             \
		if (record##_get(&decode_cursor, &m) < 0) {                     \
			call_fail(c, ERR_PROTOCOL, "malformed request");        \
			return;                                                 \
		}                                                               \
	} while (0)

#define CALL_DECODE_CRED(record, m, s)                                          \
	CALL_DECODE(record, m);                                                 \
	if (!call_owns(c, s))                                                   \
		return;                                                         \
	scope_identify(&c->scope, &m.cred)

/* ---- rpc_client.c ---- */

void client_handle(struct call *c, struct slice fields);
/* A copy that outlives the handler, without what is in `gate`; NULL without memory. */
struct call *call_keep(const struct call *c, struct slice fields);
void call_free(struct call *c);
void call_fail(struct call *c, int code, const char *text);
void call_reply(struct call *c, const void *reply, uint8_t leased);
/* Looked at again in the next tick: a server that this master waits for may be back by then. */
void call_park(struct call *c, struct slice fields);
/* Proposes a command; its answer goes out when it is applied. Takes over what is in c->gate. */
void call_propose(struct call *c, struct slice fields, uint16_t number, const void *record);
/* Finds out what the peer may see now, and whether it may ask this. False: it is refused, and told. */
bool call_admitted(struct call *c);
/* One that was kept is looked at from the start, as things are now: its export may have been changed. */
void call_resume(struct call *c);
/* The handler by the request's opcode, once it is admitted. */
void call_dispatch(struct call *c, struct slice fields);
/* False: the session is another credential's. It is refused, and told. */
bool call_owns(struct call *c, uint64_t session);
/* What access.h said. False: it is refused, and told. */
bool call_may(struct call *c, int code);
/* Of an inode that a request without a cred names. */
bool call_sees(struct call *c, uint64_t inode);
/* 1: this operation has an answer, which is in ret; 0: it has none; negative: refused, and told. */
int opid_check(struct call *c, const struct wire_opid *id, struct row_reply *ret,
	       struct buf *backing);
/* A retry of what was done is answered from memory. True: it is answered. */
bool answered_before(struct call *c, const struct wire_opid *id);
/* The request is looked at again when the raise that is begun or under way has ended. */
void wait_for_raise(struct call *c, struct slice fields, uint64_t chunk, uint32_t drop);

/* ---- rpc_export.c ---- */

/* "": not limited to one. */
const char *peer_export(const struct peer *peer);
/* "role/name", or "" with a shared key. */
void peer_credential(const struct peer *peer, char ret[CREDENTIAL_BYTES]);
/* Whether the session was opened with the same credential; also when there is none. */
bool peer_owns(struct master *m, const struct peer *peer, uint64_t session);
/* ERR_PERM: there is no such export (any more). */
int peer_scope(struct master *m, const struct peer *peer, struct scope *ret);
/* ERR_PERM, ERR_ROFS: not such requests. */
int scope_admits(const struct scope *scope, uint16_t op);
/* Who asks, as the master believes it, in place of what the request says. */
void scope_identify(const struct scope *scope, struct wire_cred *cred);
/* False: its export has had its share of requests; it waits, and is dispatched later. */
bool rate_admits(struct call *c, struct slice fields);
void rate_tick(struct master *m);
void rate_free(struct master *m);
/* Setting and telling exports. False: it is no such message. */
bool rpc_export_message(struct call *c, struct slice fields);

/* ---- rpc_lock.c ---- */

/* Waiting for locks, tests and lists of them. False: it is no such message. */
bool rpc_lock_message(struct call *c, struct slice fields);

/* ---- rpc_change.c ---- */

void on_make(struct call *c, struct slice fields);
void on_link(struct call *c, struct slice fields);
void on_unlink(struct call *c, struct slice fields);
void on_rename(struct call *c, struct slice fields);
void on_release(struct call *c, struct slice fields);
void on_setattr(struct call *c, struct slice fields);
void on_xattr_set(struct call *c, struct slice fields);
void on_wrote(struct call *c, struct slice fields);
void on_lock(struct call *c, struct slice fields);

/* ---- rpc_chunk.c ---- */

/* Members for a new chunk. 0 with none: *ret_code says why (no room, or nobody up). *ret_wait: a
 * server that could complete the set is about to come up. */
uint16_t place_new(struct master *m, struct row_member *ret, int *ret_code, bool *ret_wait);
/* For the client that c is a call of: the addresses of the chunk's replicas, and an access token with
 * these rights (TOKEN_READ, TOKEN_WRITE) for the session. room (TOKEN_BYTES_MAX) is to last as long as
 * the chunk. */
void chunk_addresses(struct call *c, struct wire_chunk *chunk, uint8_t rights, uint64_t session,
		     uint8_t *room);
/* Whether it may be written to as it is. */
bool chunk_whole(struct master *m, const struct wire_chunk *chunk);
void on_locate(struct call *c, struct slice fields);
void on_chunk_for_write(struct call *c, struct slice fields);
void on_chunk_fault(struct call *c, struct slice fields);
void on_statfs(struct call *c, struct slice fields);

/* ---- lease_gate.c ---- */

/* What the request will change, before gate_enter. mark: it changes nothing that others may know,
 * but stands in their way as if it did. */
void gate_add(struct call *c, uint64_t inode);
/* The same for one that gets or loses a name: who has it open must stay as it is until then. */
void gate_add_named(struct call *c, uint64_t inode);
void gate_mark(struct call *c, uint64_t inode);
/* A name whose inode decides about the set: nobody else may be changing it. */
void gate_name(struct call *c, uint64_t parent, struct slice name);
/* True: go on, and propose in this turn. False: it waits and will be looked at from the start. */
bool gate_enter(struct call *c, struct slice fields, uint64_t session);
void gate_leave(struct call *c);
/* For a request that tells of this inode and changes nothing, before it tells. True: go on. False: another
 * session holds back what was written to it, or is behind with what it changed itself (master/lease.h, 9
 * and 10); it waits and will be looked at from the start. */
bool gate_read(struct call *c, struct slice fields, uint64_t session, uint64_t inode);
/* A change of what is in the gate is proposed now. */
void gate_changes(struct call *c);
/* Looks at those that wait. */
void gate_run(struct master *m);
void gate_free(struct master *m);

/* ---- rpc_lease.c ---- */

/* Grants R of an inode with an answer that was read in this turn: WIRE_LEASED_INODE or 0. */
uint8_t lease_inode(struct master *m, uint64_t session, uint64_t inode);
uint8_t lease_parent(struct master *m, uint64_t session, uint64_t parent);
/* With an answer to a writer: the above, and WIRE_LEASED_WRITE when it has W. */
uint8_t lease_writer(struct master *m, uint64_t session, uint64_t inode);
/* WIRE_LEASED_BUFFER if B is granted, else 0: it is not where a quota has less than `buffer_room` left, so
 * that write(2) itself is refused there. */
uint8_t lease_buffering(struct master *m, uint64_t session, uint64_t inode);
/* After a WROTE: where a quota has less than `buffer_room` left, nothing more of the file is held back. */
void lease_unbuffer_short(struct master *m, uint64_t inode);
void on_lease_attach(struct call *c, struct slice fields);
void on_lease_ping(struct call *c, struct slice fields);
void on_lease_write(struct call *c, struct slice fields);
void on_lease_open(struct call *c, struct slice fields);
/* The answer to a recall. */
void rpc_lease_recalled(struct master *m, struct peer *peer, const struct wire_header *h,
			struct slice fields);

#endif
