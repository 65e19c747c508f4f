/* Moves of whole chunks that nobody waits for: to another failure domain, or to an emptier server.
 *
 * A move is a raise in which one server joins and another leaves: the old copy goes only when the
 * new one is confirmed. Moves run a few at once, and only while nothing waits for repair. Each
 * makes something better for good: a chunk's failure domains never get worse by one, and what is
 * moved for fullness is too little to turn the difference round, so they end.
 *
 * The walk through all chunks also counts the members of each server, for the status. */
#include "master/master.h"

#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/place.h"

enum {
	WALK_ROWS = 256,
	WALK_US = 2000,
	WALK_AGAIN_MS = 5000,
	SPREAD_MAX = 32,
	BALANCE_ROWS = 16,
	BALANCE_SKIP_MS = 60000, /* a server none of whose chunks can go elsewhere */
	MOVE_RETRY_MS = 5000,
};

/* ---- moves ---- */

struct move {
	struct master *m;
	uint64_t chunk;
	struct raise_plan plan;
};

static double chunk_bytes(const struct cs *cs)
{
	return (double)(cs->total_bytes - cs->free_bytes) / (double)(cs->chunks ? cs->chunks : 1);
}

/* Taken into account before their heartbeats say so: else too much would be moved meanwhile. */
static void moved(struct cs *from, struct cs *to)
{
	uint64_t bytes = (uint64_t)chunk_bytes(from);

	from->free_bytes += bytes;
	to->free_bytes -= bytes < to->free_bytes ? bytes : to->free_bytes;
}

static void move_done(void *arg, int code)
{
	struct move *move = arg;
	struct master *m = move->m;

	m->moves--;
	if (code < 0)
		m->repair.moves_ms = deadline_in(MOVE_RETRY_MS);
	else
		moved(csreg_find(&m->servers, move->plan.leaving[0]),
		      csreg_find(&m->servers, move->plan.joining[0]));
	free(move);
}

/* Chunks of which no copy is left wait for a server that may never come back: not for that. */
static bool may_move(const struct master *m)
{
	const struct repair_queue *q = &m->repair.queue;

	return m->moves < m->o.balance_max && m->repairs == 0 &&
	       repair_queue_waiting(q) == q->live[0] && clock_ms() >= m->repair.moves_ms;
}

static void move_start(struct master *m, uint64_t chunk, const struct cs *from,
		       const struct cs *to, const char *why)
{
	struct move *move = malloc(sizeof(*move));

	if (!move)
		return;
	log_info("chunk %016llx: moved from %s (%u) to %s (%u), %s", (unsigned long long)chunk,
		 from->addr, from->id, to->addr, to->id, why);
	*move = (struct move){.m = m, .chunk = chunk,
			      .plan = {.joining = {to->id}, .n_joining = 1,
				       .leaving = {from->id}, .n_leaving = 1}};
	m->moves++;
	raise_repair(m, chunk, &move->plan, move_done, move);
}

static bool is_member(const struct row_chunk *row, uint32_t server)
{
	for (unsigned i = 0; i < row->n_members; i++)
		if (row->members[i].server == server)
			return true;
	return false;
}

static bool can_take(struct master *m, uint64_t chunk, const struct row_chunk *row,
		     const struct cs *to)
{
	return cs_takes(to) && !is_member(row, to->id) && !repair_busy(m, to->filling) &&
	       to->free_bytes >= PLACE_FREE_BYTES_MIN && !repair_has_garbage(m, chunk, to->id);
}

/* A chunk that lacks nothing: only such ones are moved. */
static bool examine_whole(struct master *m, uint64_t chunk, struct condition *ret)
{
	return repair_examine(m, chunk, ret) == 1 && repair_whole(ret) && !raise_running(m, chunk);
}

/* ---- failure domains ---- */

/* The member that is closest to the others. */
static struct cs *closest_member(struct master *m, const struct row_chunk *row,
				 unsigned *ret_closeness)
{
	struct cs *closest = NULL;

	*ret_closeness = 0;
	for (unsigned i = 0; i < row->n_members; i++) {
		struct cs *cs = csreg_find(&m->servers, row->members[i].server);
		unsigned close = cs ? repair_closeness(m, row, cs->id, cs) : 0;
		if (close > *ret_closeness) {
			*ret_closeness = close;
			closest = cs;
		}
	}
	return closest;
}

static bool spread_chunk(struct master *m, uint64_t chunk)
{
	struct cs *from, *to = NULL, *cs, *next;
	struct condition c;
	unsigned close;

	if (!examine_whole(m, chunk, &c))
		return false;
	from = closest_member(m, &c.row, &close);
	if (!from)
		return false;
	HASH_ITER(hh, m->servers.by_id, cs, next) {
		unsigned closeness = repair_closeness(m, &c.row, from->id, cs);
		if (closeness < close && can_take(m, chunk, &c.row, cs)) {
			to = cs;
			close = closeness;
		}
	}
	if (to)
		move_start(m, chunk, from, to, "to another failure domain");
	return to != NULL;
}

/* ---- the walk ---- */

static void walk_row(struct master *m, uint64_t chunk, const struct row_chunk *row)
{
	struct repair *r = &m->repair;
	unsigned close;

	for (unsigned i = 0; i < row->n_members; i++) {
		struct cs *cs = csreg_find(&m->servers, row->members[i].server);
		if (cs)
			cs->counting++;
	}
	if (!closest_member(m, row, &close))
		return;
	if (r->n_misplaced < REPAIR_MISPLACED_MAX)
		r->misplaced[r->n_misplaced++] = chunk;
	else
		r->more_misplaced = true;
}

static void walk_ended(struct master *m)
{
	struct cs *cs, *next;

	HASH_ITER(hh, m->servers.by_id, cs, next) {
		cs->members = cs->counting;
		cs->counting = 0;
	}
	m->repair.walk_next = 0;
	m->repair.walk_ms = deadline_in(WALK_AGAIN_MS);
}

static void walk(struct master *m)
{
	struct key prefix = key_prefix(key_chunk(0), 1), start = key_chunk(m->repair.walk_next);
	struct state_iter *it;
	struct slice key, value;
	int64_t begun = clock_us();
	unsigned rows = 0;
	int r = 1;

	if (state_iter_open(m->st, key_slice(&prefix), key_slice(&start), &it) < 0)
		return;
	while (rows < WALK_ROWS && clock_us() - begun < WALK_US &&
	       (r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		struct row_chunk row;
		rows++;
		m->repair.walk_next = get_be64(key.data + 1) + 1;
		if (row_chunk_get(&c, &row) == 0)
			walk_row(m, get_be64(key.data + 1), &row);
	}
	state_iter_close(it);
	if (r == 0)
		walk_ended(m);
}

/* Those that the walk found; when there were more, and it helped, it comes again at once. */
static void spread(struct master *m)
{
	struct repair *r = &m->repair;

	for (unsigned i = 0; i < SPREAD_MAX && r->n_misplaced > 0 && may_move(m); i++)
		r->spread_helps |= spread_chunk(m, r->misplaced[--r->n_misplaced]);
	if (r->n_misplaced > 0 || !r->more_misplaced)
		return;
	r->more_misplaced = false;
	if (r->spread_helps)
		r->walk_ms = 0;
	r->spread_helps = false;
}

/* ---- fullness ---- */

static double fullness(const struct cs *cs)
{
	return (double)(cs->total_bytes - cs->free_bytes) / (double)cs->total_bytes;
}

static bool counts(const struct cs *cs)
{
	return cs_takes(cs) && cs->total_bytes > 0 && cs->free_bytes <= cs->total_bytes;
}

/* The fullest server that has something to give, while the emptiest one is so much emptier that
 * something should be done: from a difference above the threshold on, until half of it is left. */
static struct cs *overfull(struct master *m)
{
	struct cs *cs, *next, *full = NULL, *empty = NULL;
	double threshold = (double)m->o.balance_threshold / 100, gap;
	int64_t now = clock_ms();

	HASH_ITER(hh, m->servers.by_id, cs, next) {
		if (!counts(cs))
			continue;
		if (now >= cs->balance_ms && (!full || fullness(cs) > fullness(full)))
			full = cs;
		if (!empty || fullness(cs) < fullness(empty))
			empty = cs;
	}
	gap = full ? fullness(full) - fullness(empty) : 0;
	m->repair.balancing = gap > (m->repair.balancing ? threshold / 2 : threshold);
	return m->repair.balancing ? full : NULL;
}

/* The emptiest server for one of `from`'s chunks that is no worse a place for it. */
static struct cs *emptier(struct master *m, uint64_t chunk, const struct row_chunk *row,
			  const struct cs *from)
{
	double least = (double)m->o.balance_threshold / 200, bytes = chunk_bytes(from);
	unsigned close = repair_closeness(m, row, from->id, from);
	struct cs *cs, *next, *best = NULL;

	HASH_ITER(hh, m->servers.by_id, cs, next) {
		if (!counts(cs) || fullness(from) - fullness(cs) < least ||
		    fullness(from) - bytes / (double)from->total_bytes <
			    fullness(cs) + bytes / (double)cs->total_bytes)
			continue;
		if ((!best || fullness(cs) < fullness(best)) && can_take(m, chunk, row, cs) &&
		    repair_closeness(m, row, from->id, cs) <= close)
			best = cs;
	}
	return best;
}

static void balance(struct master *m)
{
	struct cs *from = overfull(m), *to;
	uint64_t found[BALANCE_ROWS];
	struct key prefix, start;
	struct state_iter *it;
	struct slice key, value;
	struct condition c;
	unsigned n = 0;

	if (!from)
		return;
	prefix = key_prefix(key_on_server(from->id, 0), 5);
	start = key_on_server(from->id, from->balance_next);
	if (state_iter_open(m->st, key_slice(&prefix), key_slice(&start), &it) < 0)
		return;
	while (n < BALANCE_ROWS && state_iter_next(it, &key, &value) == 1)
		found[n++] = get_be64(key.data + 5);
	state_iter_close(it);
	for (unsigned i = 0; i < n && may_move(m); i++) {
		from->balance_next = found[i] + 1;
		to = examine_whole(m, found[i], &c) ? emptier(m, found[i], &c.row, from) : NULL;
		if (!to)
			continue;
		from->balance_moved = true;
		move_start(m, found[i], from, to, "which is emptier");
	}
	if (n == BALANCE_ROWS || !may_move(m))
		return;
	if (!from->balance_moved)
		from->balance_ms = deadline_in(BALANCE_SKIP_MS);
	from->balance_next = 0;
	from->balance_moved = false;
}

void balance_tick(struct master *m)
{
	if (clock_ms() >= m->repair.walk_ms)
		walk(m);
	spread(m);
	if (m->o.balance_threshold > 0 && may_move(m))
		balance(m);
}
