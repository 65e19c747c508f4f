/* Work that the master finds for itself: chunks with too few copies, garbage, files that are being
 * freed. Everything is driven by rows of the state, so it goes on after a restart. */
#include "master/master.h"

#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/place.h"

enum {
	LOOKED_AT_MAX = 256, /* of those that wait, in a tick */
	PICK_MAX = 256,	     /* of those that are ready */
	PICK_BUSY_MAX = 16,  /* so many in vain are enough */
};

/* ---- how a chunk stands ---- */

static void examine_member(struct master *m, uint64_t chunk, uint32_t server, struct condition *c)
{
	struct cs *cs = csreg_find(&m->servers, server);
	uint8_t marks = csreg_marked(&m->servers, chunk, server);
	bool up = cs_up(cs);

	c->up += up;
	c->live += up && !(marks & MARK_DAMAGED);
	c->marked += up && (marks & ~MARK_STALE);
	c->sound += up && !(marks & ~MARK_STALE);
	c->expected |= csreg_expected(&m->servers, server);
	if ((cs && cs->draining) || csreg_lost(&m->servers, server, m->o.repair_delay_ms))
		c->leaving[c->n_leaving++] = server;
	else
		c->away += !up;
}

int repair_examine(struct master *m, uint64_t chunk, struct condition *ret)
{
	_cleanup_buf_ struct buf backing = {0}, policy_backing = {0};
	struct row_policy policy;
	int r;

	*ret = (struct condition){0};
	r = state_get_row_chunk(m->st, key_chunk(chunk), &ret->row, &backing);
	if (r == 1)
		r = state_get_row_policy(m->st, key_policy(ret->row.policy), &policy,
					 &policy_backing);
	if (r <= 0)
		return r;
	ret->copies = policy.copies;
	for (unsigned i = 0; i < ret->row.n_members; i++)
		examine_member(m, chunk, ret->row.members[i].server, ret);
	return 1;
}

bool repair_nothing(const struct condition *c)
{
	return c->marked == 0 && c->n_leaving == 0 && c->row.n_members == c->copies;
}

bool repair_whole(const struct condition *c)
{
	return repair_nothing(c) && c->live == c->copies && !c->row.pending_version;
}

static bool is_member(const struct row_chunk *row, uint32_t server)
{
	for (unsigned i = 0; i < row->n_members; i++)
		if (row->members[i].server == server)
			return true;
	return false;
}

static bool is_leaving(const struct condition *c, uint32_t server)
{
	for (unsigned i = 0; i < c->n_leaving; i++)
		if (c->leaving[i] == server)
			return true;
	return false;
}

bool repair_has_garbage(struct master *m, uint64_t chunk, uint32_t server)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key key = key_garbage(server, chunk);
	return state_get(m->st, key_slice(&key), &backing) != 0;
}

bool repair_busy(const struct master *m, unsigned copies_under_way)
{
	return m->o.repair_per_server > 0 && copies_under_way >= m->o.repair_per_server;
}

unsigned repair_closeness(struct master *m, const struct row_chunk *row, uint32_t without,
			  const struct cs *cs)
{
	struct place_server others[REPLICAS_MAX];
	struct place_server candidate = {.rack = cs->rack, .host = cs->host};
	unsigned n = 0;

	for (unsigned i = 0; i < row->n_members; i++) {
		struct cs *member = csreg_find(&m->servers, row->members[i].server);
		if (member && member->id != without && member->id != cs->id)
			others[n++] = (struct place_server){.rack = member->rack, .used = true,
							    .host = member->host};
	}
	return place_closeness(others, n, &candidate);
}

/* Servers outside the set that still have a replica. They are kept as long as a copy might be
 * missed: the set must be complete, every member up and good. */
static void trim_strangers(struct master *m, uint64_t chunk, const struct condition *c)
{
	struct cs *cs, *next;

	if (!repair_whole(c) || raise_running(m, chunk))
		return;
	HASH_ITER(hh, m->servers.by_id, cs, next) {
		struct cmd_garbage garbage = {.server = cs->id, .n_have = 1};
		if (is_member(&c->row, cs->id) || !csreg_marked(&m->servers, chunk, cs->id))
			continue;
		garbage.have[0] = (struct wire_have){.id = chunk, .version = c->row.version};
		csreg_mark(&m->servers, chunk, cs->id, 0);
		master_propose_quietly(m, CMD_NUMBER_GARBAGE, &garbage);
	}
}

/* ---- what is to be done ---- */

enum verdict { VERDICT_WAIT, VERDICT_BUSY, VERDICT_GO };

struct choice {
	unsigned want;
	bool old_only;	/* only servers with an old replica: a small copy */
	uint32_t avoid; /* not this one, if there is another */
};

/* Servers to join, into ret. *ret_busy: there is one, but it has enough to do. */
static unsigned choose_targets(struct master *m, uint64_t chunk, const struct condition *c,
			       const struct choice *choice, uint32_t *ret, bool *ret_busy)
{
	_cleanup_free_ struct place_server *list =
		calloc(HASH_COUNT(m->servers.by_id) + 1, sizeof(*list));
	struct cs *cs, *next;
	unsigned n = 0;

	if (!list)
		return 0;
	HASH_ITER(hh, m->servers.by_id, cs, next) {
		bool member = is_member(&c->row, cs->id);
		bool old = csreg_marked(&m->servers, chunk, cs->id) & MARK_STALE;
		struct place_server s = {.id = cs->id, .free_bytes = cs->free_bytes,
					 .load = cs->load + cs->filling, .rack = cs->rack,
					 .host = cs->host, .used = member, .old = old,
					 .busy = repair_busy(m, cs->filling)};
		/* Those that leave are no candidates, and no reason to go elsewhere. */
		if (member ? is_leaving(c, cs->id)
			   : !cs_takes(cs) || (choice->old_only && !old) ||
			     cs->id == choice->avoid || repair_has_garbage(m, chunk, cs->id))
			continue;
		*ret_busy |= !member && s.busy;
		list[n++] = s;
	}
	return place_choose(list, n, choice->want, random_u64, NULL, ret);
}

static bool sources_busy(struct master *m, uint64_t chunk, const struct row_chunk *row)
{
	for (unsigned i = 0; i < row->n_members; i++) {
		struct cs *cs = csreg_find(&m->servers, row->members[i].server);
		if (cs_up(cs) && !repair_busy(m, cs->feeding) &&
		    !(csreg_marked(&m->servers, chunk, cs->id) & MARK_DAMAGED))
			return false;
	}
	return row->flags & CHUNK_WRITTEN;
}

/* The member that is missed least: close to another one, on a full server. */
static uint32_t surplus_member(struct master *m, const struct row_chunk *row)
{
	struct cs *best = NULL;
	unsigned best_close = 0;

	for (unsigned i = 0; i < row->n_members; i++) {
		struct cs *cs = csreg_find(&m->servers, row->members[i].server);
		unsigned close = cs ? repair_closeness(m, row, cs->id, cs) : 0;
		if (cs && (!best || close > best_close ||
			   (close == best_close && cs->free_bytes < best->free_bytes))) {
			best = cs;
			best_close = close;
		}
	}
	return best ? best->id : 0;
}

/* More members than wanted, or those that leave are replaced already: is there one to leave? */
static bool plan_leaving(struct master *m, const struct condition *c, struct raise_plan *ret)
{
	unsigned staying = 0;

	for (unsigned i = 0; i < c->row.n_members; i++)
		staying += !is_leaving(c, c->row.members[i].server) &&
			   cs_up(csreg_find(&m->servers, c->row.members[i].server));
	if (c->row.n_members <= c->copies || c->marked > 0 || staying < c->copies)
		return false;
	memcpy(ret->leaving, c->leaving, sizeof(ret->leaving));
	ret->n_leaving = c->n_leaving;
	if (ret->n_leaving == 0)
		ret->leaving[ret->n_leaving++] = surplus_member(m, &c->row);
	return true;
}

/* Any change leaves out the members that are down: those that are only away get time to come back,
 * unless what is left is a single copy. That one gets company at once, and where nobody has an old
 * replica a whole copy is worth it: the next server that fails may be its own. Readers who have no other replica start a comparison at
 * once (rpc_client.c); what is to be compared cannot be copied from before. */
static enum verdict make_plan(struct master *m, const struct repair_entry *e,
			      const struct condition *c, struct raise_plan *ret)
{
	unsigned staying = c->row.n_members - c->n_leaving;
	bool young = clock_ms() - e->since_ms < m->o.repair_delay_ms, busy = false;
	bool compare = c->marked > 0 && (c->up == c->row.n_members || !young);
	struct choice choice = {.want = staying < c->copies ? c->copies - staying : 0,
				.old_only = young && c->n_leaving == 0, .avoid = e->avoid};

	*ret = (struct raise_plan){0};
	if (c->expected || c->live == 0 || (c->away > 0 && c->live > 1))
		return VERDICT_WAIT;
	if (c->sound == 0)
		return compare ? VERDICT_GO : VERDICT_WAIT;
	ret->n_joining = choose_targets(m, e->chunk, c, &choice, ret->joining, &busy);
	if (ret->n_joining == 0 && choice.old_only && c->live == 1 && choice.want > 0 && !busy) {
		choice.old_only = false;
		choice.want = 1;
		ret->n_joining = choose_targets(m, e->chunk, c, &choice, ret->joining, &busy);
	}
	choice.avoid = 0;
	if (ret->n_joining == 0 && e->avoid && !busy)
		ret->n_joining = choose_targets(m, e->chunk, c, &choice, ret->joining, &busy);
	if (ret->n_joining > 0) {
		memcpy(ret->leaving, c->leaving, sizeof(ret->leaving));
		ret->n_leaving = c->n_leaving;
		return sources_busy(m, e->chunk, &c->row) ? VERDICT_BUSY : VERDICT_GO;
	}
	if (plan_leaving(m, c, ret) || compare)
		return VERDICT_GO;
	return busy ? VERDICT_BUSY : VERDICT_WAIT;
}

/* ---- doing it ---- */

struct job {
	struct master *m;
	uint64_t chunk;
	struct raise_plan plan;
	struct condition before;
};

/* Puts an entry where it belongs by what is known now; false when it is gone. */
static bool review(struct master *m, struct repair_entry *e, struct condition *c)
{
	int r = repair_examine(m, e->chunk, c);
	enum repair_entry_state state = c->live ? REPAIR_READY : REPAIR_WAIT_AGAIN;

	if (r == 1)
		trim_strangers(m, e->chunk, c);
	if (r == 0 || (r == 1 && repair_nothing(c))) {
		repair_queue_remove(&m->repair.queue, e);
		return false;
	}
	if (e->state != state || e->live != c->live)
		repair_queue_set(&m->repair.queue, e, state, c->live);
	return true;
}

/* A server that was to join and did not is not asked again at once. */
static void blame_targets(struct repair_entry *e, const struct job *job, const struct condition *c)
{
	e->avoid = 0;
	for (unsigned i = 0; i < job->plan.n_joining; i++)
		if (!is_member(&c->row, job->plan.joining[i]))
			e->avoid = job->plan.joining[i];
}

static bool same_trouble(const struct condition *a, const struct condition *b)
{
	return a->row.n_members == b->row.n_members && a->marked == b->marked &&
	       a->n_leaving == b->n_leaving;
}

static void job_done(void *arg, int code)
{
	struct job *job = arg;
	struct master *m = job->m;
	struct repair_entry *e = repair_queue_find(&m->repair.queue, job->chunk);
	struct condition c;

	m->repairs--;
	m->repair.due = true;
	if (e && e->state == REPAIR_RUNNING && review(m, e, &c)) {
		blame_targets(e, job, &c);
		if ((e->failed && e->avoid) ||
		    (!e->again && (code < 0 || e->avoid || same_trouble(&c, &job->before))))
			repair_queue_set(&m->repair.queue, e, REPAIR_WAIT_RETRY, c.live);
	}
	free(job);
}

static void job_start(struct master *m, struct repair_entry *e, const struct condition *c,
		      const struct raise_plan *plan)
{
	struct job *job = malloc(sizeof(*job));

	if (!job) {
		repair_queue_set(&m->repair.queue, e, REPAIR_WAIT_RETRY, e->live);
		return;
	}
	*job = (struct job){.m = m, .chunk = e->chunk, .plan = *plan, .before = *c};
	m->repairs++;
	e->again = e->failed = false;
	repair_queue_set(&m->repair.queue, e, REPAIR_RUNNING, e->live);
	raise_repair(m, job->chunk, &job->plan, job_done, job);
}

/* False when the servers that it needs have enough to do. */
static bool try_entry(struct master *m, struct repair_entry *e)
{
	uint8_t live = e->live;
	struct raise_plan plan;
	struct condition c;

	/* With fewer copies it comes first, with more it was not its turn. */
	if (!review(m, e, &c) || e->live > live || e->state != REPAIR_READY)
		return true;
	if (raise_running(m, e->chunk) || c.row.pending_version) {
		repair_queue_set(&m->repair.queue, e, REPAIR_WAIT_AGAIN, c.live);
		return true;
	}
	switch (make_plan(m, e, &c, &plan)) {
	case VERDICT_GO:
		job_start(m, e, &c, &plan);
		return true;
	case VERDICT_WAIT:
		repair_queue_set(&m->repair.queue, e, REPAIR_WAIT_AGAIN, c.live);
		return true;
	case VERDICT_BUSY: break;
	}
	return false;
}

/* By number: what one of them starts may end another. */
void repair_pick(struct master *m)
{
	uint64_t found[PICK_MAX];
	unsigned busy = 0, n = m->repairs >= m->o.repair_max ? 0 :
			       repair_queue_first(&m->repair.queue, found, PICK_MAX);

	m->repair.due = false;
	for (unsigned i = 0; i < n && busy < PICK_BUSY_MAX && m->repairs < m->o.repair_max; i++) {
		struct repair_entry *e = repair_queue_find(&m->repair.queue, found[i]);
		if (e && e->state == REPAIR_READY)
			busy += !try_entry(m, e);
	}
}

static void wake_waiting(struct master *m)
{
	uint64_t found[LOOKED_AT_MAX];
	unsigned n = repair_queue_due(&m->repair.queue, found, LOOKED_AT_MAX);
	struct condition c;

	for (unsigned i = 0; i < n; i++) {
		struct repair_entry *e = repair_queue_find(&m->repair.queue, found[i]);
		if (e)
			review(m, e, &c);
	}
}

static void queue_new(struct master *m, uint64_t chunk, const struct condition *c)
{
	struct repair_entry *e = repair_queue_add(&m->repair.queue, chunk, c->live);

	if (e && c->live == 0)
		repair_queue_set(&m->repair.queue, e, REPAIR_WAIT_AGAIN, 0);
}

void repair_look(struct master *m, uint64_t chunk)
{
	struct repair_entry *e = repair_queue_find(&m->repair.queue, chunk);
	struct condition c;

	if (e && e->state == REPAIR_READY) {
		review(m, e, &c);
	} else if (!e && repair_examine(m, chunk, &c) == 1) {
		trim_strangers(m, chunk, &c);
		if (!repair_nothing(&c))
			queue_new(m, chunk, &c);
	}
}

/* Queued even when all is well: a raise that is about to end leaves strangers to trim. */
void repair_now(struct master *m, uint64_t chunk)
{
	struct repair_entry *e = repair_queue_find(&m->repair.queue, chunk);
	struct condition c;

	if (e && e->state == REPAIR_RUNNING)
		e->again = true;
	else if (e && !(e->state == REPAIR_WAIT_RETRY && e->failed))
		review(m, e, &c);
	else if (e)
		return;
	else if (repair_examine(m, chunk, &c) == 1)
		queue_new(m, chunk, &c);
}

void repair_copy_failed(struct master *m, uint64_t chunk, int code)
{
	struct repair_entry *e = repair_queue_find(&m->repair.queue, chunk);
	bool gone = code == ERR_UNREACHABLE || code == ERR_CLOSED || code == ERR_TIMEOUT ||
		    code == ERR_PEER || code == ERR_LEASE;

	if (!gone && e && e->state == REPAIR_RUNNING)
		e->failed = true;
}

void repair_free(struct master *m)
{
	repair_queue_free(&m->repair.queue);
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
	bool whole_second = m->ticks % (1000 / MASTER_TICK_MS) == 0;

	if (m->reclaim_due || whole_second)
		reclaim_next(m);
	garbage_tick(m);
	repair_find_tick(m);
	wake_waiting(m);
	repair_pick(m);
	balance_tick(m);
}
