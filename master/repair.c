/* Work that the master finds for itself: chunks with too few copies, garbage, files that are being
 * freed. Everything is driven by rows of the state, so it goes on after a restart. */
#include "master/master.h"

#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/place.h"

enum {
	REPAIR_LOOKED_AT_MAX = 256,
	REPAIR_AGAIN_MS = 1000, /* a chunk for which nothing could be done is looked at again */
	REPAIR_RETRY_MS = 5000, /* one for which something was tried */
	UNDER_GOAL_MAX = 1 << 20,
	/* Long: a deletion given up here would still be done there, some time later, to a replica
	 * that may be wanted again by then. A server that hangs loses its link first. */
	GARBAGE_MS = 600000,
};

/* A chunk that is not as it should be: since when, and when it is looked at again. Only what is
 * waited for is here; the `u` rows of the state bring back what does not fit. */
struct under_goal {
	uint64_t chunk;
	int64_t since_ms, next_ms;
	bool urgent; /* looked at by itself, not only when the scan comes by */
	UT_hash_handle hh;
};

static struct under_goal *under_goal_note(struct master *m, uint64_t chunk)
{
	struct under_goal *u;

	HASH_FIND(hh, m->under_goal, &chunk, sizeof(chunk), u);
	if (u)
		return u;
	if (HASH_COUNT(m->under_goal) >= UNDER_GOAL_MAX)
		return NULL;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	*u = (struct under_goal){.chunk = chunk, .since_ms = clock_ms()};
	HASH_ADD(hh, m->under_goal, chunk, sizeof(u->chunk), u);
	return u;
}

static void under_goal_forget(struct master *m, struct under_goal *u)
{
	HASH_DEL(m->under_goal, u);
	free(u);
}

void repair_now(struct master *m, uint64_t chunk)
{
	struct under_goal *u = under_goal_note(m, chunk);
	if (u) {
		u->urgent = true;
		u->next_ms = 0;
	}
}

void repair_free(struct master *m)
{
	struct under_goal *u, *next;
	HASH_ITER(hh, m->under_goal, u, next)
		under_goal_forget(m, u);
}

static bool is_member(const struct row_chunk *row, uint32_t server)
{
	for (unsigned i = 0; i < row->n_members; i++)
		if (row->members[i].server == server)
			return true;
	return false;
}

/* It is to delete its old replica first. */
static bool has_garbage(struct master *m, uint64_t chunk, uint32_t server)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key key = key_garbage(server, chunk);
	return state_get(m->st, key_slice(&key), &backing) != 0;
}

/* Servers to add: those with an old replica first (a small copy), then by placement. */
static unsigned choose_targets(struct master *m, uint64_t chunk, const struct row_chunk *row,
			       unsigned want, bool old_only, uint32_t *ret)
{
	struct place_server *list = calloc(HASH_COUNT(m->servers.by_id) + 1, sizeof(*list));
	struct cs *cs, *next;
	unsigned n = 0, chosen = 0;

	if (!list)
		return 0;
	HASH_ITER(hh, m->servers.by_id, cs, next) {
		bool used = is_member(row, cs->id);
		if (!used && (!cs_up(cs) || has_garbage(m, chunk, cs->id)))
			continue;
		if (!used && chosen < want && cs->free_bytes >= PLACE_FREE_BYTES_MIN &&
		    (csreg_marked(&m->servers, chunk, cs->id) & MARK_STALE)) {
			ret[chosen++] = cs->id;
			used = true;
		}
		list[n++] = (struct place_server){.id = cs->id, .free_bytes = cs->free_bytes,
						  .load = cs->load, .rack = cs->rack,
						  .host = cs->host, .used = used};
	}
	if (!old_only)
		chosen += place_choose(list, n, want - chosen, random_u64, NULL, ret + chosen);
	free(list);
	return chosen;
}

static void repair_done(void *arg, int code)
{
	struct master *m = arg;
	m->repairs--;
}

/* What is known of a chunk's members now. */
struct health {
	unsigned up, source, marked;
	bool expected; /* one that (re)starts: wait for it */
};

static struct health health_of(struct master *m, uint64_t chunk, const struct row_chunk *row)
{
	struct health h = {0};

	for (unsigned i = 0; i < row->n_members; i++) {
		uint32_t id = row->members[i].server;
		uint8_t marks = csreg_marked(&m->servers, chunk, id);
		bool up = cs_up(csreg_find(&m->servers, id));
		h.up += up;
		h.source += up && !(marks & MARK_DAMAGED);
		h.marked += up && (marks & (MARK_UNCLEAN | MARK_DAMAGED));
		h.expected |= csreg_expected(&m->servers, id);
	}
	return h;
}

/* A chunk that lacks copies, or whose replicas must be compared. */
static void repair_chunk(struct master *m, uint64_t chunk)
{
	_cleanup_buf_ struct buf backing = {0};
	struct under_goal *u = under_goal_note(m, chunk);
	struct row_policy policy;
	struct row_chunk row;
	struct health health;
	uint32_t targets[REPLICAS_MAX];
	unsigned n = 0;
	bool patient, compare;

	if (!u || clock_ms() < u->next_ms || raise_running(m, chunk))
		return;
	if (state_get_row_chunk(m->st, key_chunk(chunk), &row, &backing) != 1 ||
	    state_get_row_policy(m->st, key_policy(row.policy), &policy, &backing) != 1) {
		under_goal_forget(m, u);
		return;
	}
	u->next_ms = deadline_in(REPAIR_AGAIN_MS);
	health = health_of(m, chunk, &row);
	if (health.marked == 0 && row.n_members >= policy.copies) {
		under_goal_forget(m, u);
		return;
	}
	if (health.expected || health.source == 0)
		return;
	/* A comparison leaves out members that are down: it gives them time to come back. Readers
	 * who have no other replica start it at once (rpc_client.c). */
	patient = clock_ms() - u->since_ms < m->o.repair_delay_ms;
	compare = health.marked > 0 && (health.up == row.n_members || !patient);
	if (row.n_members < policy.copies)
		n = choose_targets(m, chunk, &row, policy.copies - row.n_members, patient, targets);
	if (n == 0 && !compare)
		return;
	u->next_ms = deadline_in(REPAIR_RETRY_MS);
	m->repairs++;
	raise_repair(m, chunk, targets, n, repair_done, m);
}

/* Few at once: a server that is asked for hundreds of changes answers late, and one that answers
 * late is taken for a failed one. Goes on through the `u` rows where it stopped: fewest copies
 * first, then rising id. */
static void repair_scan(struct master *m)
{
	uint64_t found[REPAIR_LOOKED_AT_MAX];
	uint8_t type = KEY_UNDER_GOAL;
	struct key start = key_under_goal(m->repair_copies, m->repair_next);
	struct state_iter *it;
	struct slice key, value;
	unsigned n = 0;

	if (m->repairs >= (unsigned)m->o.repair_max ||
	    state_iter_open(m->st, slice_of(&type, 1), key_slice(&start), &it) < 0)
		return;
	while (n < REPAIR_LOOKED_AT_MAX && state_iter_next(it, &key, &value) == 1) {
		m->repair_copies = key.data[1];
		found[n] = get_be64(key.data + 2);
		m->repair_next = found[n++] + 1;
	}
	state_iter_close(it);
	if (n < REPAIR_LOOKED_AT_MAX)
		m->repair_copies = 0, m->repair_next = 0;
	for (unsigned i = 0; i < n && m->repairs < (unsigned)m->o.repair_max; i++)
		repair_chunk(m, found[i]);
}

static void repair_urgent(struct master *m)
{
	struct under_goal *u, *next;
	uint64_t found[REPAIR_LOOKED_AT_MAX];
	int64_t now = clock_ms();
	unsigned n = 0;

	HASH_ITER(hh, m->under_goal, u, next) {
		if (u->urgent && now >= u->next_ms && n < REPAIR_LOOKED_AT_MAX)
			found[n++] = u->chunk;
	}
	for (unsigned i = 0; i < n && m->repairs < (unsigned)m->o.repair_max; i++)
		repair_chunk(m, found[i]);
}

/* ---- garbage ---- */

struct deletion {
	struct master *m;
	struct cmd_garbage cmd; /* what was asked for, to be confirmed */
};

static void deletion_done(void *arg, int code, struct slice fields)
{
	struct deletion *d = arg;
	struct cs *cs = csreg_find(&d->m->servers, d->cmd.server);

	if (cs)
		cs->deleting = false;
	if (code == 0) {
		for (unsigned i = 0; i < d->cmd.n_have; i++)
			csreg_mark(&d->m->servers, d->cmd.have[i].id, d->cmd.server, 0);
		master_propose_quietly(d->m, CMD_NUMBER_GARBAGE, &d->cmd);
		d->m->garbage_due = true; /* there may be more */
	}
	free(d);
}

static bool garbage_collect(struct master *m, struct cs *cs)
{
	struct key prefix = key_prefix(key_garbage(cs->id, 0), 5);
	_cleanup_buf_ struct buf list = {0};
	struct deletion *d = calloc(1, sizeof(*d));
	struct wire_chunk_delete req;
	struct state_iter *it;
	struct slice key, value;

	if (!d)
		return false;
	*d = (struct deletion){.m = m, .cmd = {.server = cs->id, .done = 1}};
	if (state_iter_open(m->st, key_slice(&prefix), (struct slice){0}, &it) < 0) {
		free(d);
		return false;
	}
	while (d->cmd.n_have < CMD_GARBAGE_MAX && state_iter_next(it, &key, &value) == 1) {
		struct wire_have *have = &d->cmd.have[d->cmd.n_have++];
		have->id = get_be64(key.data + 5);
		have->version = UINT32_MAX;
		WIRE_LIST_PUT(wire_have, &list, have);
	}
	state_iter_close(it);
	req.have = buf_slice(&list);
	if (d->cmd.n_have == 0 || buf_status(&list) < 0) {
		free(d);
		return false;
	}
	cs->deleting = true;
	if (cs_call(&m->servers, cs, OP_CHUNK_DELETE, &req, GARBAGE_MS, deletion_done, d) < 0) {
		cs->deleting = false;
		free(d);
	}
	return true;
}

/* ---- removed files with many chunks ---- */

static void reclaim_done(struct master *m, void *arg, struct apply_result *result)
{
	m->reclaim_busy = false;
	if (result && result->status == 0) {
		m->garbage_due = true;
		m->reclaim_due = true;
	}
}

static void reclaim_next(struct master *m)
{
	uint8_t type = KEY_RECLAIM;
	struct cmd_reclaim cmd = {0};
	struct state_iter *it;
	struct slice key, value;

	if (m->reclaim_busy || state_iter_open(m->st, slice_of(&type, 1), (struct slice){0}, &it) < 0)
		return;
	if (state_iter_next(it, &key, &value) == 1)
		cmd.inode = get_be64(key.data + 1);
	state_iter_close(it);
	m->reclaim_due = cmd.inode != 0;
	if (!cmd.inode)
		return;
	m->reclaim_busy = true;
	master_propose(m, CMD_NUMBER_RECLAIM, &cmd, reclaim_done, NULL);
}

void repair_tick(struct master *m)
{
	struct cs *cs, *next;
	bool whole_second = m->ticks % (1000 / MASTER_TICK_MS) == 0;

	if (m->reclaim_due || whole_second)
		reclaim_next(m);
	if (m->garbage_due || whole_second) {
		m->garbage_due = false;
		HASH_ITER(hh, m->servers.by_id, cs, next) {
			if (cs_up(cs) && !cs->deleting)
				garbage_collect(m, cs);
		}
	}
	repair_urgent(m);
	repair_scan(m);
}
