/* Work that the master finds for itself: chunks with too few copies, garbage, files that are being
 * freed. Everything is driven by rows of the state, so it goes on after a restart. */
#include "master/master.h"

#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/place.h"

enum { REPAIR_LOOKED_AT_MAX = 256, REPAIR_RETRY_MS = 5000, GARBAGE_MS = 20000 };

/* When a chunk was first seen below its goal. */
struct under_goal {
	uint64_t chunk;
	int64_t since_ms;
	int64_t retry_ms; /* tried, and not to be tried again before */
	bool urgent;
	UT_hash_handle hh;
};

static struct under_goal *under_goal_note(struct master *m, uint64_t chunk)
{
	struct under_goal *u;

	HASH_FIND(hh, m->under_goal, &chunk, sizeof(chunk), u);
	if (u)
		return u;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	*u = (struct under_goal){.chunk = chunk, .since_ms = clock_ms()};
	HASH_ADD(hh, m->under_goal, chunk, sizeof(u->chunk), u);
	return u;
}

void repair_now(struct master *m, uint64_t chunk)
{
	struct under_goal *u = under_goal_note(m, chunk);
	if (u) {
		u->urgent = true;
		u->retry_ms = 0;
	}
}

void repair_free(struct master *m)
{
	struct under_goal *u, *next;
	HASH_ITER(hh, m->under_goal, u, next) {
		HASH_DEL(m->under_goal, u);
		free(u);
	}
}

static uint64_t random_u64(void *arg)
{
	uint64_t v = 0;
	/* uv_random without a callback is synchronous and does not fail on Linux. */
	uv_random(NULL, NULL, &v, sizeof(v), 0, NULL);
	return v;
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
		bool member = false;
		for (unsigned i = 0; i < row->n_members; i++)
			member |= row->members[i].server == cs->id;
		if (!member && !cs_up(cs))
			continue;
		if (!member && chosen < want &&
		    (csreg_marked(&m->servers, chunk, cs->id) & MARK_STALE)) {
			ret[chosen++] = cs->id;
			member = true;
		}
		list[n++] = (struct place_server){.id = cs->id, .free_bytes = cs->free_bytes,
						  .load = cs->load, .rack = cs->rack,
						  .host = cs->host, .used = member};
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

/* A chunk that lacks copies, or whose replicas must be compared. Returns whether work began. */
static bool repair_chunk(struct master *m, uint64_t chunk)
{
	_cleanup_buf_ struct buf backing = {0};
	struct under_goal *u = under_goal_note(m, chunk);
	struct row_policy policy;
	struct row_chunk row;
	uint32_t targets[REPLICAS_MAX];
	unsigned n = 0;
	bool marked = false, patient;

	if (!u || raise_running(m, chunk) || clock_ms() < u->retry_ms)
		return false;
	if (state_get_row_chunk(m->st, key_chunk(chunk), &row, &backing) != 1 ||
	    state_get_row_policy(m->st, key_policy(row.policy), &policy, &backing) != 1) {
		HASH_DEL(m->under_goal, u);
		free(u);
		return false;
	}
	for (unsigned i = 0; i < row.n_members; i++)
		marked |= cs_up(csreg_find(&m->servers, row.members[i].server)) &&
			  (csreg_marked(&m->servers, chunk, row.members[i].server) &
			   (MARK_UNCLEAN | MARK_DAMAGED));
	patient = clock_ms() - u->since_ms < m->o.repair_delay_ms;
	if (row.n_members < policy.copies)
		n = choose_targets(m, chunk, &row, policy.copies - row.n_members, patient, targets);
	if (n == 0 && !marked) {
		if (row.n_members >= policy.copies) {
			HASH_DEL(m->under_goal, u);
			free(u);
		}
		return false;
	}
	u->retry_ms = deadline_in(REPAIR_RETRY_MS);
	u->urgent = false;
	m->repairs++;
	raise_start(m, chunk, 0, targets, n, repair_done, m);
	return true;
}

/* Few at once: a server that is asked for hundreds of changes answers late, and one that answers
 * late is taken for a failed one. Goes on through the `u` rows where it stopped: fewest copies first, then rising id. */
static void repair_scan(struct master *m)
{
	uint64_t found[REPAIR_LOOKED_AT_MAX];
	uint8_t type = KEY_UNDER_GOAL;
	struct key start = key_under_goal(m->repair_copies, m->repair_next);
	struct state_iter *it;
	struct slice key, value;
	unsigned n = 0;

	if (state_iter_open(m->st, slice_of(&type, 1), key_slice(&start), &it) < 0)
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
	unsigned n = 0;

	HASH_ITER(hh, m->under_goal, u, next) {
		if (u->urgent && n < REPAIR_LOOKED_AT_MAX)
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
	if (cs_call(cs, OP_CHUNK_DELETE, &req, GARBAGE_MS, deletion_done, d) < 0) {
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
