#include "master/lock.h"

#include <stdlib.h>

#include "common/cleanup.h"

/* ---- lists ---- */

void lock_list_release(struct lock_list *l)
{
	free(l->ranges);
	*l = (struct lock_list){0};
}

int lock_list_get(struct slice bytes, struct lock_list *ret)
{
	struct lock_list l = {.n = bytes.len / LOCK_RANGE_BYTES};

	if (bytes.len % LOCK_RANGE_BYTES || l.n > LOCK_RANGES_MAX)
		return ERR_CORRUPT;
	l.ranges = calloc(l.n + 1, sizeof(*l.ranges));
	if (!l.ranges)
		return ERR_NOMEM;
	for (unsigned i = 0; i < l.n; i++) {
		const uint8_t *p = bytes.data + i * LOCK_RANGE_BYTES;
		struct lock_range *r = &l.ranges[i];
		*r = (struct lock_range){get_le64(p), get_le64(p + 8), p[16]};
		if (r->end < r->start || (r->type != LOCK_SHARED && r->type != LOCK_EXCLUSIVE) ||
		    (i > 0 && r[-1].end >= r->start)) {
			lock_list_release(&l);
			return ERR_CORRUPT;
		}
	}
	*ret = l;
	return 0;
}

void lock_list_put(const struct lock_list *l, struct buf *b)
{
	for (unsigned i = 0; i < l->n; i++) {
		buf_le64(b, l->ranges[i].start);
		buf_le64(b, l->ranges[i].end);
		buf_u8(b, l->ranges[i].type);
	}
}

static bool overlap(const struct lock_range *a, const struct lock_range *b)
{
	return a->start <= b->end && b->start <= a->end;
}

bool lock_ranges_conflict(const struct lock_range *a, const struct lock_range *b)
{
	return overlap(a, b) && (a->type == LOCK_EXCLUSIVE || b->type == LOCK_EXCLUSIVE);
}

/* Appends in rising order; what continues the last one becomes part of it. */
static void list_add(struct lock_list *l, struct lock_range r)
{
	struct lock_range *last = l->n > 0 ? &l->ranges[l->n - 1] : NULL;

	if (r.type == LOCK_FREE)
		return;
	if (last && last->type == r.type && last->end + 1 == r.start)
		last->end = r.end;
	else
		l->ranges[l->n++] = r;
}

int lock_list_set(struct lock_list *l, struct lock_range want, bool *ret_weaker)
{
	struct lock_list out = {.ranges = calloc(l->n + 2, sizeof(*out.ranges))};
	bool added = false;

	if (!out.ranges)
		return ERR_NOMEM;
	*ret_weaker = false;
	for (unsigned i = 0; i < l->n; i++) {
		struct lock_range r = l->ranges[i];
		if (!overlap(&r, &want)) {
			if (r.start > want.end && !added) {
				list_add(&out, want);
				added = true;
			}
			list_add(&out, r);
			continue;
		}
		*ret_weaker |= r.type > want.type;
		if (r.start < want.start)
			list_add(&out, (struct lock_range){r.start, want.start - 1, r.type});
		if (!added)
			list_add(&out, want);
		added = true;
		if (r.end > want.end)
			list_add(&out, (struct lock_range){want.end + 1, r.end, r.type});
	}
	if (!added)
		list_add(&out, want);
	free(l->ranges);
	*l = out;
	return 0;
}

/* ---- what is in the way ---- */

bool lock_claim_valid(uint8_t kind, uint8_t type, uint64_t start, uint64_t end)
{
	return kind >= LOCK_RANGE && kind <= LOCK_APPEND && type <= LOCK_EXCLUSIVE && start <= end;
}

/* Calls fn for each owner whose locks are in the claim's way, until it returns non-zero. */
static int each_blocker(struct state *st, const struct lock_claim *claim,
			int (*fn)(void *arg, const struct lock_holder *holder), void *arg)
{
	struct key prefix = key_prefix(key_lock(claim->inode, 0, 0, 0), 9);
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(st, key_slice(&prefix), (struct slice){0}, &it), stop = 0;

	if (r < 0)
		return r;
	while (!stop && (r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		struct lock_holder h = {.session = get_be64(key.data + 9),
					.owner = get_be64(key.data + 17)};
		struct lock_list list = {0};
		struct row_lock row;
		if (key.len != 26 || key.data[25] != claim->kind ||
		    (h.session == claim->session && h.owner == claim->owner))
			continue;
		r = row_lock_get(&c, &row) < 0 ? ERR_CORRUPT : lock_list_get(row.ranges, &list);
		if (r < 0)
			break;
		h.pid = row.pid;
		for (unsigned i = 0; i < list.n && !stop; i++) {
			if (!lock_ranges_conflict(&list.ranges[i], &claim->range))
				continue;
			h.range = list.ranges[i];
			stop = fn(arg, &h);
			break;
		}
		lock_list_release(&list);
	}
	state_iter_close(it);
	return r < 0 ? r : stop;
}

static int keep_first(void *arg, const struct lock_holder *holder)
{
	struct lock_holder *first = arg;

	if (!first->range.type || holder->range.start < first->range.start)
		*first = *holder;
	return 0;
}

int lock_blocker(struct state *st, const struct lock_claim *claim, struct lock_holder *ret)
{
	struct lock_holder first = {0};
	int r = each_blocker(st, claim, keep_first, &first);

	if (r < 0 || !first.range.type)
		return r < 0 ? r : 0;
	if (ret)
		*ret = first;
	return 1;
}

int lock_is_blocked(struct state *st, const struct wire_lock *req)
{
	struct lock_claim claim = {.session = req->id.session, .inode = req->inode,
				   .owner = req->owner, .kind = req->kind,
				   .range = {req->start, req->end, req->type}};

	return req->type == LOCK_FREE ? 0 : lock_blocker(st, &claim, NULL);
}

/* ---- deadlocks ---- */

struct owner {
	uint64_t session, owner;
};
struct owners {
	struct owner list[LOCK_OWNERS_MAX];
	unsigned n;
};

static int owners_add(void *arg, const struct lock_holder *holder)
{
	struct owners *o = arg;

	for (unsigned i = 0; i < o->n; i++)
		if (o->list[i].session == holder->session && o->list[i].owner == holder->owner)
			return 0;
	if (o->n == LOCK_OWNERS_MAX)
		return 1;
	o->list[o->n++] = (struct owner){holder->session, holder->owner};
	return 0;
}

static bool searched(const struct lock_claim *claim)
{
	return claim->kind == LOCK_RANGE && !(claim->flags & LOCK_NO_DEADLOCK);
}

int lock_deadlock(struct state *st, const struct lock_waiter *waiters,
		  const struct lock_claim *claim)
{
	_cleanup_free_ struct owners *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return ERR_NOMEM;
	r = searched(claim) ? each_blocker(st, claim, owners_add, o) : 0;
	for (unsigned i = 0; r == 0 && i < o->n; i++) {
		struct owner at = o->list[i];
		if (at.session == claim->session && at.owner == claim->owner)
			return 1;
		for (const struct lock_waiter *w = waiters; w && r == 0; w = w->next)
			if (w->claim.session == at.session && w->claim.owner == at.owner &&
			    searched(&w->claim))
				r = each_blocker(st, &w->claim, owners_add, o);
	}
	return r < 0 ? r : 0;
}
