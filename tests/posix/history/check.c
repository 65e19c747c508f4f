/* The checker: Wing and Gong's search with Lowe's memory of what has been tried. */
#include "tests/posix/history/history.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct config {
	uint16_t done[WORKERS_MAX];
	int64_t state;
};

struct search {
	const struct event **events[WORKERS_MAX]; /* of this object */
	int n[WORKERS_MAX];
	int n_workers;
	struct config *tried; /* a hash table; used[] tells which places are taken */
	bool *used;
	size_t capacity, count;
	struct config *stack;
	size_t depth, stack_capacity;
	struct config furthest;
	int furthest_done;
};

static uint64_t config_hash(const struct config *c)
{
	uint64_t h = (uint64_t)c->state * 0x9e3779b97f4a7c15u;

	for (int i = 0; i < WORKERS_MAX; i++)
		h = (h ^ c->done[i]) * 0x100000001b3u + (h >> 29);
	return h ^ h >> 31;
}

static bool config_equal(const struct config *a, const struct config *b)
{
	return a->state == b->state && memcmp(a->done, b->done, sizeof(a->done)) == 0;
}

static void *grown(void *p, size_t n, size_t size)
{
	p = reallocarray(p, n, size);
	if (!p)
		abort();
	return p;
}

static bool tried_add(struct search *s, const struct config *c);

static void tried_grow(struct search *s)
{
	struct config *old = s->tried;
	bool *old_used = s->used;
	size_t n = s->capacity;

	s->capacity = n ? 2 * n : 1024;
	s->tried = grown(NULL, s->capacity, sizeof(*s->tried));
	s->used = calloc(s->capacity, 1);
	if (!s->used)
		abort();
	s->count = 0;
	for (size_t i = 0; i < n; i++)
		if (old_used[i])
			tried_add(s, &old[i]);
	free(old);
	free(old_used);
}

/* False when it was there. */
static bool tried_add(struct search *s, const struct config *c)
{
	size_t at;

	if (2 * s->count >= s->capacity)
		tried_grow(s);
	for (at = config_hash(c) % s->capacity; s->used[at]; at = (at + 1) % s->capacity)
		if (config_equal(&s->tried[at], c))
			return false;
	s->used[at] = true;
	s->tried[at] = *c;
	s->count++;
	return true;
}

static void push(struct search *s, const struct config *c)
{
	if (!tried_add(s, c))
		return;
	if (s->depth == s->stack_capacity) {
		s->stack_capacity = s->stack_capacity ? 2 * s->stack_capacity : 1024;
		s->stack = grown(s->stack, s->stack_capacity, sizeof(*s->stack));
	}
	s->stack[s->depth++] = *c;
}

static bool name_step(int64_t *state, int64_t name, int64_t result, bool wanted, int eno, bool after)
{
	bool is = *state >> name & 1;

	if (result == 0 ? is != wanted : result != eno || is == wanted)
		return false;
	if (result == 0)
		*state = after ? *state | 1 << name : *state & ~((int64_t)1 << name);
	return true;
}

/* What the operation does in this state; false when its result cannot be. */
static bool step(int64_t *state, const struct event *e)
{
	int64_t from, to;

	switch ((enum event_kind)e->kind) {
	case EV_WRITE:
		*state = e->arg;
		return true;
	case EV_READ: return *state == e->result;
	case EV_CREATE: return name_step(state, e->arg, e->result, false, EEXIST, true);
	case EV_UNLINK: return name_step(state, e->arg, e->result, true, ENOENT, false);
	case EV_STAT: return name_step(state, e->arg, e->result, true, ENOENT, true);
	case EV_RENAME:
		/* The kernel looks both names up one after the other before it asks, so EEXIST
		 * says nothing about the first. */
		from = e->arg / NAMES;
		to = e->arg % NAMES;
		if (e->result != 0)
			return e->result == EEXIST ? *state >> to & 1 : !(*state >> from & 1);
		if (!(*state >> from & 1) || *state >> to & 1)
			return false;
		*state = (*state & ~((int64_t)1 << from)) | 1 << to;
		return true;
	case EV_LIST: return *state == e->result;
	case EV_LINK: return name_step(state, e->arg, e->result, false, EEXIST, true);
	case EV_NLINK: return e->result == 1 + __builtin_popcountll((unsigned long long)*state);
	case EV_APPEND:
		*state = history_records((*state >> 32) + 1, e->arg);
		return true;
	case EV_TAIL: return *state == e->result;
	case EV_TRY_LOCK:
		if (e->result != 0)
			return *state != 0;
		if (*state != 0)
			return false;
		*state = e->worker + 1;
		return true;
	case EV_UNLOCK:
		if (*state != e->worker + 1)
			return false;
		*state = 0;
		return true;
	}
	return false;
}

/* Puts the next operations of each worker, as far as they may be the next one of all. One that leaves
 * the state as it is may as well come first: then nothing else needs to be tried. */
static void expand(struct search *s, const struct config *c)
{
	struct config nexts[WORKERS_MAX];
	uint64_t first_return = UINT64_MAX;
	int n = 0;

	for (int w = 0; w < s->n_workers; w++)
		if (c->done[w] < s->n[w] && s->events[w][c->done[w]]->returned < first_return)
			first_return = s->events[w][c->done[w]]->returned;
	for (int w = 0; w < s->n_workers; w++) {
		struct config next = *c;
		const struct event *e;

		if (c->done[w] == s->n[w])
			continue;
		e = s->events[w][c->done[w]];
		if (e->invoked > first_return || !step(&next.state, e))
			continue;
		next.done[w]++;
		if (next.state == c->state) {
			push(s, &next);
			return;
		}
		nexts[n++] = next;
	}
	for (int i = 0; i < n; i++)
		push(s, &nexts[i]);
}

static bool search_run(struct search *s, int total)
{
	while (s->depth > 0) {
		struct config c = s->stack[--s->depth];
		int done = 0;

		for (int w = 0; w < s->n_workers; w++)
			done += c.done[w];
		if (done == total)
			return true;
		if (done >= s->furthest_done) {
			s->furthest_done = done;
			s->furthest = c;
		}
		expand(s, &c);
	}
	return false;
}

static void tell(const struct search *s, int object, char *text, size_t n)
{
	static const char *const names[] = {"write", "read", "create", "unlink", "stat", "rename", "list",
					    "link", "nlink", "append", "tail", "try_lock", "unlock"};
	int at = snprintf(text, n, "object %d: after %d operations the state is %lld, but then:", object,
			  s->furthest_done, (long long)s->furthest.state);

	for (int w = 0; w < s->n_workers && at > 0 && (size_t)at < n; w++)
		for (int i = s->furthest.done[w]; i < s->n[w] && i < s->furthest.done[w] + 2; i++) {
			const struct event *e = s->events[w][i];
			at += snprintf(text + at, n - (size_t)at,
				       " [%d: %s %lld = %lld, %.3f to %.3f ms]", w, names[e->kind],
				       (long long)e->arg, (long long)e->result,
				       (double)(e->invoked % 100000000000u) / 1e6,
				       (double)(e->returned % 100000000000u) / 1e6);
			if ((size_t)at >= n)
				break;
		}
}

bool history_check(const struct history *h, int object, int64_t initial, char *text, size_t n)
{
	struct search s = {.n_workers = h->n_workers};
	struct config start = {.state = initial};
	int total = 0;
	bool ok;

	for (int w = 0; w < h->n_workers; w++) {
		s.events[w] = grown(NULL, (size_t)h->n_events[w] + 1, sizeof(*s.events[w]));
		for (int i = 0; i < h->n_events[w]; i++)
			if (h->events[w][i].object == object)
				s.events[w][s.n[w]++] = &h->events[w][i];
		total += s.n[w];
	}
	push(&s, &start);
	ok = search_run(&s, total);
	if (!ok)
		tell(&s, object, text, n);
	for (int w = 0; w < h->n_workers; w++)
		free(s.events[w]);
	free(s.tried);
	free(s.used);
	free(s.stack);
	return ok;
}
