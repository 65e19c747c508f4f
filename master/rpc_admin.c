/* What administrators ask: how the cluster is, and what they want of its servers. */
#include <stdio.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/master.h"

/* ---- status ---- */

/* What a drain has left is counted on the spot, as far as it can be done without holding up the
 * loop; of others it is known from the last walk (balance.c). */
enum { MEMBERS_COUNTED_MAX = 1000 };

static uint64_t members_of(struct master *m, const struct cs *cs)
{
	struct key prefix = key_prefix(key_on_server(cs->id, 0), 5);
	struct state_iter *it;
	struct slice key, value;
	uint64_t n = 0;

	if (!cs->draining ||
	    state_iter_open(m->st, key_slice(&prefix), (struct slice){0}, &it) < 0)
		return cs->members;
	while (n < MEMBERS_COUNTED_MAX && state_iter_next(it, &key, &value) == 1)
		n++;
	state_iter_close(it);
	return n < MEMBERS_COUNTED_MAX || cs->members < n ? n : cs->members;
}

static void put_server_status(struct master *m, struct buf *list, const struct cs *cs)
{
	char uuid[2 * UUID_BYTES + 1];
	struct wire_server_status s = {
		.id = cs->id, .addr = slice_str(cs->addr), .rack = slice_str(cs->rack),
		.state = cs->state, .total_bytes = cs->total_bytes, .free_bytes = cs->free_bytes,
		.chunks = cs->chunks, .disks = cs->disks, .disks_bad = cs->disks_bad,
		.host = slice_str(cs->host), .draining = cs->draining,
		.silent_ms = (uint64_t)(clock_ms() - (cs->linked_ms ? cs->seen_ms : cs->down_ms)),
		.members = members_of(m, cs), .scrub = cs->scrub, .refused = cs->refused,
	};

	for (unsigned i = 0; i < UUID_BYTES; i++)
		snprintf(uuid + 2 * i, 3, "%02x", cs->uuid[i]);
	s.uuid = slice_str(uuid);
	WIRE_LIST_PUT(wire_server_status, list, &s);
}

static void put_queue(struct master *m, struct wire_cluster_status *rep)
{
	rep->n_queue = REPLICAS_MAX;
	for (unsigned live = 0; live <= REPAIR_LIVE_MAX; live++)
		rep->queue[live < REPLICAS_MAX ? live : REPLICAS_MAX - 1] +=
			m->repair.queue.live[live];
}

static void on_cluster_status(struct master *m, struct peer *peer, const struct wire_header *h,
			      struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0}, list = {0};
	struct wire_cluster_status rep;
	struct row_meta meta;
	struct cs *cs, *next;
	int r = ns_meta(m->st, &meta, &backing);

	if (r < 0) {
		peer_fail(peer, h, r, NULL);
		return;
	}
	HASH_ITER(hh, m->servers.by_id, cs, next)
		put_server_status(m, &list, cs);
	rep = (struct wire_cluster_status){
		.cluster = meta.cluster, .applied = meta.applied,
		.durable = store_durable(m->store), .inodes = meta.inodes,
		.chunks = meta.chunks, .chunks_under_goal = meta.under_goal,
		.chunks_pending = meta.pending, .garbage = meta.garbage,
		.sessions = meta.sessions, .servers = buf_slice(&list), .held = meta.held,
		.repairs = m->repairs, .moves = m->moves, .leases = m->leases.count,
		.links = m->leases.links,
	};
	put_queue(m, &rep);
	compare_progress(m, &rep.compare);
	peer_reply(peer, h, &rep);
}

/* ---- what is wanted of a server ---- */

struct setting {
	struct peer *peer;
	struct wire_header h;
	struct cmd_server_set cmd;
};

static void server_was_set(struct master *m, void *arg, struct apply_result *result)
{
	struct setting *s = arg;
	struct cs *cs = csreg_find(&m->servers, s->cmd.server);
	struct wire_empty empty;

	if (!result) {
		peer_close(s->peer, "outcome unknown");
	} else if (result->status < 0) {
		peer_fail(s->peer, &s->h, result->status, result->text);
	} else {
		if (cs) {
			cs->draining = s->cmd.flags & SERVER_DRAINING;
			log_info("chunkserver %s (%u): %s", cs->addr, cs->id,
				 cs->draining ? "is being emptied" : "is not being emptied");
		}
		peer_reply(s->peer, &s->h, &empty);
	}
	peer_unref(s->peer);
	free(s);
}

static void on_server_set(struct master *m, struct peer *peer, const struct wire_header *h,
			  struct slice fields)
{
	struct cursor c = cursor_slice(fields);
	struct wire_server_set req;
	struct setting *s;

	if (wire_server_set_get(&c, &req) < 0) {
		peer_fail(peer, h, ERR_PROTOCOL, "malformed request");
		return;
	}
	s = malloc(sizeof(*s));
	if (!s) {
		peer_fail(peer, h, ERR_NOMEM, NULL);
		return;
	}
	*s = (struct setting){.peer = peer, .h = *h,
			      .cmd = {.server = req.server, .flags = req.flags}};
	peer_ref(peer);
	master_propose(m, CMD_NUMBER_SERVER_SET, &s->cmd, server_was_set, s);
}

/* ---- taking a server off the list ---- */

struct removal {
	struct peer *peer;
	struct wire_header h;
	struct cmd_server_remove cmd;
};

static void server_was_removed(struct master *m, void *arg, struct apply_result *result)
{
	struct removal *x = arg;
	struct wire_empty empty;
	struct cmd_closed closed = {0};
	struct cursor c = result ? cursor_slice(buf_slice(&result->reply)) : cursor_of(NULL, 0);

	if (result && result->status == 0 && cmd_closed_get(&c, &closed) == 0 && closed.more) {
		master_propose(m, CMD_NUMBER_SERVER_REMOVE, &x->cmd, server_was_removed, x);
		return;
	}
	if (!result) {
		peer_close(x->peer, "outcome unknown");
	} else if (result->status < 0) {
		peer_fail(x->peer, &x->h, result->status, result->text);
	} else {
		log_info("chunkserver %u was taken off the list", x->cmd.server);
		csreg_remove(&m->servers, x->cmd.server);
		peer_reply(x->peer, &x->h, &empty);
	}
	peer_unref(x->peer);
	free(x);
}

static void on_server_remove(struct master *m, struct peer *peer, const struct wire_header *h,
			     struct slice fields)
{
	struct cs *cs;
	struct removal *x;
	PEER_DECODE(wire_server_remove, req);

	cs = csreg_find(&m->servers, req.server);
	if (cs && cs->peer) {
		peer_fail(peer, h, ERR_BUSY, "the chunkserver is running: stop it first");
		return;
	}
	x = malloc(sizeof(*x));
	if (!x) {
		peer_fail(peer, h, ERR_NOMEM, NULL);
		return;
	}
	*x = (struct removal){.peer = peer, .h = *h, .cmd = {.server = req.server}};
	peer_ref(peer);
	master_propose(m, CMD_NUMBER_SERVER_REMOVE, &x->cmd, server_was_removed, x);
}

/* ---- dispatch ---- */

bool rpc_admin_message(struct master *m, struct peer *peer, const struct wire_header *h,
		       struct slice fields)
{
	static const struct {
		uint16_t op;
		void (*handle)(struct master *m, struct peer *peer, const struct wire_header *h,
			       struct slice fields);
	} handlers[] = {
		{OP_CLUSTER_STATUS, on_cluster_status}, {OP_SERVER_SET, on_server_set},
		{OP_SERVER_REMOVE, on_server_remove},
	};

	for (size_t i = 0; i < ARRAY_LEN(handlers); i++) {
		if (handlers[i].op == h->op) {
			handlers[i].handle(m, peer, h, fields);
			return true;
		}
	}
	return false;
}
