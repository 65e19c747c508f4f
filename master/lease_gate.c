/* The gate in front of the log: a request that changes something is proposed when nobody else may
 * use again what it changes (master/lease.h, 2 and 3).
 *
 * The set of inodes is computed from the state at the moment of the proposal. It is still right when
 * the command is applied, because a name from which it follows is changed by one command in flight
 * at a time; commands on other names of a directory go on side by side. A request that has waited is
 * looked at again from the start: the answer may be known by now, the set another one.
 *
 * A read waits only for sessions that have changed what it looks at and hold it back, or have not taken
 * note of it themselves (master/lease.h, 9 and 10); after a start this is not known before all have attached.
 *
 * Nothing here waits without a bound: a recall ends with the lease of whom it was sent to, a command
 * in flight with the log's append, the grace after a start by the clock. What is waited for never
 * waits for the gate itself: clients answer recalls without asking the master anything. */
#include <stdlib.h>
#include <utlist.h>

#include "common/clock.h"
#include "common/fault.h"
#include "master/rpc_client.h"

/* Rounds of one turn: a request that went on may have made way for another one. */
enum { GATE_ROUNDS_MAX = 8 };

/* A name that a command in flight changes. */
struct gate_busy_name {
	struct gate_name key;
	UT_hash_handle hh;
};

static struct gate_busy_name *name_find(struct master *m, const struct gate_name *key)
{
	struct gate_busy_name *n;
	HASH_FIND(hh, m->busy_names, key, sizeof(*key), n);
	return n;
}

static void gate_put(struct call *c, uint64_t inode, bool recall, bool names)
{
	struct gate *g = &c->gate;

	for (unsigned i = 0; i < g->n_inodes; i++) {
		if (g->inodes[i].id == inode) {
			g->inodes[i].recall |= recall;
			g->inodes[i].names |= names;
			return;
		}
	}
	if (inode && g->n_inodes < GATE_INODES_MAX)
		g->inodes[g->n_inodes++] = (struct gate_inode){inode, recall, names};
}

void gate_add(struct call *c, uint64_t inode)
{
	gate_put(c, inode, true, false);
}

void gate_add_named(struct call *c, uint64_t inode)
{
	gate_put(c, inode, true, true);
}

void gate_mark(struct call *c, uint64_t inode)
{
	gate_put(c, inode, false, false);
}

void gate_name(struct call *c, uint64_t parent, struct slice name)
{
	struct gate *g = &c->gate;
	uint64_t hash = 0xcbf29ce484222325ull; /* FNV-1a: equal hashes only wait for each other */

	for (uint32_t i = 0; i < name.len; i++)
		hash = (hash ^ name.data[i]) * 0x100000001b3ull;
	for (unsigned i = 0; i < g->n_names; i++) {
		if (g->names[i].parent == parent && g->names[i].hash == hash)
			return;
	}
	if (g->n_names < GATE_NAMES_MAX)
		g->names[g->n_names++] = (struct gate_name){parent, hash};
}

/* Whether something other than leases is in the way. */
static bool gate_early(struct master *m, const struct gate *g)
{
	if (!lease_open(&m->leases) || (g->opens && lease_is_naming(&m->leases, g->opens)))
		return true;
	for (unsigned i = 0; i < g->n_names; i++) {
		if (name_find(m, &g->names[i]))
			return true;
	}
	return false;
}

static bool gate_blocked(struct call *c, bool ask)
{
	struct lease_table *l = &c->m->leases;
	struct fault f;
	bool blocked = false;

	bool left_out = ask && fault_map &&
			fault_take(FAULT_MASTER_LEASE_RECALL, "", 1u << FAULT_DO_ERROR, &f);

	for (unsigned i = 0; i < c->gate.n_inodes; i++) {
		uint64_t inode = c->gate.inodes[i].id;
		if (c->gate.inodes[i].recall && left_out)
			lease_recall_left_out(l, inode, c->session);
		else if (c->gate.inodes[i].recall)
			blocked |= ask ? lease_recall(l, inode, c->session)
				       : lease_blocked(l, inode, c->session);
	}
	return blocked;
}

static bool left_out(enum fault_point point)
{
	struct fault f;
	return fault_map && fault_take(point, "", 1u << FAULT_DO_ERROR, &f);
}

/* Who is in the way is asked each time: nothing keeps another session from being granted anew, and from
 * changing it, while this one waits. */
static bool read_blocked(struct call *c, bool held_back, bool behind)
{
	struct lease_table *l = &c->m->leases;
	uint64_t inode = c->gate.reads;

	/* After a start nobody has told yet what it holds back, and who has had no answer to a change that
	 * this master's predecessor logged may not know that it is behind. */
	if (!lease_open(l))
		return held_back || behind;
	held_back = held_back && lease_recall_buffer(l, inode, c->session);
	behind = behind && lease_behind(l, inode, c->session);
	return held_back || behind;
}

static void gate_marks(struct call *c)
{
	struct fault f;

	c->gate.marked = true;
	if (fault_map && fault_take(FAULT_MASTER_LEASE_BUSY, "", 1u << FAULT_DO_ERROR, &f)) {
		c->gate.n_inodes = 0;
		return;
	}
	for (unsigned i = 0; i < c->gate.n_inodes; i++)
		lease_busy(&c->m->leases, c->gate.inodes[i].id, c->gate.inodes[i].names);
}

static void gate_wait(struct call *c, struct slice fields)
{
	struct call *kept;

	if (!c->gate_until_ms)
		c->gate_until_ms = deadline_in(c->m->o.lease_ms + PARK_MS);
	kept = call_keep(c, fields);
	if (!kept) {
		call_fail(c, ERR_NOMEM, NULL);
		return; /* client_handle takes the marks back */
	}
	kept->gate = c->gate;
	c->gate = (struct gate){0};
	DL_APPEND(c->m->waiting, kept);
}

bool gate_enter(struct call *c, struct slice fields, uint64_t session)
{
	struct gate *g = &c->gate;

	c->session = session;
	if (gate_early(c->m, g)) {
		gate_wait(c, fields);
		return false;
	}
	gate_marks(c);
	if (gate_blocked(c, true)) {
		gate_wait(c, fields);
		return false;
	}
	g->in_flight = true;
	for (unsigned i = 0; i < g->n_names; i++) {
		struct gate_busy_name *n = calloc(1, sizeof(*n));
		if (!n) {
			g->n_names = i;
			gate_leave(c);
			call_fail(c, ERR_NOMEM, NULL);
			return false;
		}
		n->key = g->names[i];
		HASH_ADD(hh, c->m->busy_names, key, sizeof(n->key), n);
	}
	return true;
}

bool gate_read(struct call *c, struct slice fields, uint64_t session, uint64_t inode)
{
	c->session = session;
	c->gate.reads = inode;
	if (!read_blocked(c, !left_out(FAULT_MASTER_LEASE_BUFFER),
			  !left_out(FAULT_MASTER_LEASE_BEHIND))) {
		c->gate.reads = 0;
		return true;
	}
	gate_wait(c, fields);
	return false;
}

void gate_changes(struct call *c)
{
	for (unsigned i = 0; i < c->gate.n_inodes; i++)
		lease_changes(&c->m->leases, c->session, c->gate.inodes[i].id);
}

void gate_leave(struct call *c)
{
	struct gate *g = &c->gate;

	for (unsigned i = 0; g->marked && i < g->n_inodes; i++)
		lease_idle(&c->m->leases, g->inodes[i].id, g->inodes[i].names);
	for (unsigned i = 0; g->in_flight && i < g->n_names; i++) {
		struct gate_busy_name *n = name_find(c->m, &g->names[i]);
		if (n) {
			HASH_DEL(c->m->busy_names, n);
			free(n);
		}
		c->m->leases.changed = true;
	}
	*g = (struct gate){0};
}

static bool gate_waits(struct call *c)
{
	const struct gate *g = &c->gate;

	if (g->reads)
		return read_blocked(c, true, true);
	return gate_early(c->m, g) || (g->marked && gate_blocked(c, false));
}

/* One that waits: true when it has ended or was looked at again. Without marks it has recalled nothing
 * yet: it waited for something else. */
static bool gate_look(struct call *c)
{
	if (!c->peer->closing && clock_ms() < c->gate_until_ms && gate_waits(c))
		return false;
	gate_leave(c);
	if (!c->peer->closing && clock_ms() >= c->gate_until_ms)
		call_fail(c, ERR_TIMEOUT, "waited too long for other clients");
	else if (!c->peer->closing)
		call_resume(c);
	return true;
}

void gate_run(struct master *m)
{
	for (unsigned rounds = 0; m->leases.changed && rounds < GATE_ROUNDS_MAX; rounds++) {
		struct call *list = m->waiting, *still = NULL, *c, *next;
		m->leases.changed = false;
		m->waiting = NULL;
		DL_FOREACH_SAFE(list, c, next) {
			DL_DELETE(list, c);
			if (gate_look(c))
				call_free(c);
			else
				DL_APPEND(still, c);
		}
		DL_CONCAT(still, m->waiting);
		m->waiting = still;
	}
}

void gate_free(struct master *m)
{
	struct call *c, *next;

	DL_FOREACH_SAFE(m->waiting, c, next) {
		DL_DELETE(m->waiting, c);
		gate_leave(c);
		call_free(c);
	}
}
