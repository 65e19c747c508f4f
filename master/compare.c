#include "master/master.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"

enum { WALK_ROWS = 256, COMPARE_CHECK_MS = 10000 };

/* What a member said. */
struct said {
	struct comparison *of;
	uint32_t server;
	int code; /* 0, or ERR_NO_CHUNK: it has nothing */
	struct wire_chunk_state state;
};

/* One chunk being compared. */
struct comparison {
	struct master *m;
	uint64_t chunk;
	uint32_t version;
	unsigned n, outstanding, tries;
	bool useless; /* somebody could not answer: no result this time */
	bool differed; /* so they said last time */
	struct said now[REPLICAS_MAX], before[REPLICAS_MAX];
	int64_t due_ms; /* asked for again then; 0: under way */
	struct comparison *prev, *next;
};

/* ---- one chunk ---- */

static void comparison_end(struct comparison *c)
{
	struct compare *all = &c->m->compare;

	DL_DELETE(all->running, c);
	all->n_running--;
	free(c);
}

static bool same(const struct said *a, const struct said *b)
{
	return a->code == b->code && a->state.present == b->state.present &&
	       a->state.length == b->state.length && a->state.digest == b->state.digest;
}

static bool all_alike(const struct comparison *c)
{
	for (unsigned i = 1; i < c->n; i++)
		if (!same(&c->now[0], &c->now[i]))
			return false;
	return true;
}

static bool as_before(const struct comparison *c)
{
	for (unsigned i = 0; i < c->n; i++)
		if (!same(&c->now[i], &c->before[i]))
			return false;
	return true;
}

/* How many members say what this one says. */
static unsigned alike(const struct comparison *c, const struct said *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->n; i++)
		n += same(&c->now[i], s);
	return n;
}

static void tell(const struct comparison *c)
{
	_cleanup_buf_ struct buf text = {0};

	for (unsigned i = 0; i < c->n; i++) {
		const struct said *s = &c->now[i];
		struct cs *cs = csreg_find(&c->m->servers, s->server);
		buf_printf(&text, "%s %s (%u)", i ? "," : "", cs ? cs->addr : "?", s->server);
		if (s->code == 0)
			buf_printf(&text, " has %llu bytes with digest %08x",
				   (unsigned long long)s->state.length, s->state.digest);
		else
			buf_printf(&text, " has nothing");
	}
	log_error("chunk %016llx v%u: replicas differ although each is sound:%s",
		  (unsigned long long)c->chunk, c->version, buf_str(&text));
}

/* They do differ: a raise is to make them alike. */
static void differ(struct comparison *c)
{
	unsigned most = 0;

	for (unsigned i = 0; i < c->n; i++)
		if (alike(c, &c->now[i]) > most)
			most = alike(c, &c->now[i]);
	tell(c);
	c->m->compare.progress.differed++;
	for (unsigned i = 0; i < c->n; i++) {
		bool odd = 2 * most <= c->n || alike(c, &c->now[i]) < most;
		if (odd && !csreg_marked(&c->m->servers, c->chunk, c->now[i].server))
			csreg_mark(&c->m->servers, c->chunk, c->now[i].server, MARK_IN_DOUBT);
	}
	repair_now(c->m, c->chunk);
}

static void ask_later(struct comparison *c)
{
	if (++c->tries >= COMPARE_TRIES_MAX)
		comparison_end(c);
	else
		c->due_ms = deadline_in(COMPARE_AGAIN_MS);
}

static void answered(struct comparison *c)
{
	if (c->useless) {
		c->differed = false;
		ask_later(c);
	} else if (all_alike(c)) {
		comparison_end(c);
	} else if (c->differed && as_before(c)) {
		differ(c);
		comparison_end(c);
	} else {
		/* A write may have come between the answers. */
		memcpy(c->before, c->now, sizeof(c->before));
		c->differed = true;
		ask_later(c);
	}
}

static void check_done(void *arg, int code, struct slice fields)
{
	struct said *s = arg;
	struct comparison *c = s->of;
	struct cursor cur = cursor_slice(fields);

	if (code == 0 && wire_chunk_state_get(&cur, &s->state) < 0)
		code = ERR_PROTOCOL;
	s->code = code;
	/* What is damaged its server tells by itself. */
	c->useless |= code < 0 && code != ERR_NO_CHUNK;
	if (--c->outstanding == 0)
		answered(c);
}

/* Whole and at rest: all members are up, nothing is held against any, nothing is being changed. */
static bool can_be_compared(struct master *m, uint64_t chunk, const struct row_chunk *row)
{
	if (row->n_members < 2 || row->pending_version || raise_running(m, chunk))
		return false;
	for (unsigned i = 0; i < row->n_members; i++) {
		struct cs *cs = csreg_find(&m->servers, row->members[i].server);
		if (!cs || cs->state != SERVER_UP || csreg_marked(&m->servers, chunk, cs->id))
			return false;
	}
	return true;
}

static void ask_all(struct comparison *c, const struct row_chunk *row)
{
	struct wire_chunk_check req = {.chunk = c->chunk, .version = row->version};
	struct csreg *servers = &c->m->servers;

	c->due_ms = 0;
	c->useless = false;
	c->version = row->version;
	c->n = row->n_members;
	c->outstanding = 1; /* so that the last answer comes after the loop */
	for (unsigned i = 0; i < c->n; i++) {
		struct said *s = &c->now[i];
		*s = (struct said){.of = c, .server = row->members[i].server};
		c->outstanding++; /* before the call: a broken link ends it at once */
		if (cs_call(servers, csreg_find(servers, s->server), OP_CHUNK_CHECK, &req,
			    COMPARE_CHECK_MS, check_done, s) < 0) {
			c->outstanding--;
			c->useless = true;
		}
	}
	if (--c->outstanding == 0)
		answered(c);
}

static void ask_again(struct comparison *c)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_chunk row;

	if (state_get_row_chunk(c->m->st, key_chunk(c->chunk), &row, &backing) != 1 ||
	    !can_be_compared(c->m, c->chunk, &row)) {
		comparison_end(c); /* gone, or others take care of it */
		return;
	}
	c->differed &= row.version == c->version;
	ask_all(c, &row);
}

static void comparison_new(struct master *m, uint64_t chunk, const struct row_chunk *row)
{
	struct comparison *c = calloc(1, sizeof(*c));

	if (!c)
		return; /* in the next round */
	c->m = m;
	c->chunk = chunk;
	DL_APPEND(m->compare.running, c);
	m->compare.n_running++;
	ask_all(c, row);
}

/* ---- the walk ---- */

/* How many chunks the walk should have come by at this time. */
static uint64_t should_have(const struct compare *all, int64_t period_ms)
{
	int64_t spent = clock_ms() - all->begun_ms;

	if (spent >= period_ms || all->progress.compared >= all->progress.total)
		return UINT64_MAX;
	return (uint64_t)((double)all->progress.total * (double)spent / (double)period_ms) + 1;
}

static void round_begin(struct master *m)
{
	_cleanup_buf_ struct buf backing = {0};
	struct compare *all = &m->compare;
	struct row_meta meta;

	if (ns_meta(m->st, &meta, &backing) < 0 || meta.chunks == 0)
		return;
	all->walking = true;
	all->begun_ms = clock_ms();
	all->first = all->progress.rounds ? 0 : random_u64(NULL) % meta.next_chunk;
	all->next = all->first;
	all->wrapped = false;
	all->progress.compared = 0;
	all->progress.total = meta.chunks;
}

/* The next round begins when this one's time is over. */
static void round_end(struct compare *all)
{
	all->walking = false;
	all->progress.total = all->progress.compared;
	all->progress.rounds++;
	all->progress.ended = clock_now();
}

/* The next rows: those to be compared into ret. False at the end of the round. */
static bool walk(struct master *m, uint64_t until, uint64_t *ret_chunks, struct row_chunk *ret,
		 unsigned room, unsigned *ret_n)
{
	struct compare *all = &m->compare;
	struct key prefix = key_prefix(key_chunk(0), 1), start = key_chunk(all->next);
	struct state_iter *it;
	struct slice key, value;
	unsigned rows = 0, n = 0;
	int r = 1;

	*ret_n = 0;
	if (state_iter_open(m->st, key_slice(&prefix), key_slice(&start), &it) < 0)
		return true;
	while (rows < WALK_ROWS && n < room && all->progress.compared < until &&
	       (r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor cur = cursor_slice(value);
		ret_chunks[n] = get_be64(key.data + 1);
		if (all->wrapped && ret_chunks[n] >= all->first) {
			r = 0;
			break;
		}
		rows++;
		all->progress.compared++;
		all->next = ret_chunks[n] + 1;
		n += row_chunk_get(&cur, &ret[n]) == 0 &&
		     can_be_compared(m, ret_chunks[n], &ret[n]);
	}
	state_iter_close(it);
	*ret_n = n;
	if (r == 0 && !all->wrapped) {
		all->wrapped = true;
		all->next = 0;
		return true;
	}
	return r != 0;
}

static void walk_on(struct master *m)
{
	struct compare *all = &m->compare;
	uint64_t chunks[COMPARE_MAX];
	struct row_chunk rows[COMPARE_MAX];
	unsigned n;

	if (all->n_running >= COMPARE_MAX)
		return;
	if (!walk(m, should_have(all, m->o.compare_period_ms), chunks, rows,
		  COMPARE_MAX - all->n_running, &n))
		round_end(all);
	for (unsigned i = 0; i < n; i++)
		comparison_new(m, chunks[i], &rows[i]);
}

void compare_tick(struct master *m)
{
	struct compare *all = &m->compare;
	struct comparison *c, *next, *due = NULL;
	int64_t now = clock_ms();

	if (m->o.compare_period_ms == 0)
		return;
	/* One a tick: what it ends may be the next one. */
	DL_FOREACH_SAFE(all->running, c, next) {
		if (!due && c->due_ms && now >= c->due_ms)
			due = c;
	}
	if (due)
		ask_again(due);
	if (all->walking)
		walk_on(m);
	else if (!all->progress.rounds || now - all->begun_ms >= m->o.compare_period_ms)
		round_begin(m);
}

void compare_progress(struct master *m, struct wire_compare *ret)
{
	*ret = m->compare.progress;
	if (ret->total < ret->compared)
		ret->total = ret->compared; /* made since the round began */
}

void compare_free(struct master *m)
{
	while (m->compare.running)
		comparison_end(m->compare.running);
}
