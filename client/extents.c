#include "client/extents.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

enum { EXTENT_OVERHEAD = 64 }; /* of memory, about */

static uint64_t end_of(const struct extent *x)
{
	return x->offset + x->len;
}

/* The first one that ends at or behind offset. */
static size_t find(const struct extents *e, uint64_t offset)
{
	size_t lo = 0, hi = e->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (end_of(&e->v[mid]) < offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int insert(struct extents *e, size_t at)
{
	if (e->n == e->cap) {
		size_t cap = e->cap ? 2 * e->cap : 4;
		struct extent *v = realloc(e->v, cap * sizeof(*v));
		if (!v)
			return ERR_NOMEM;
		e->v = v;
		e->cap = cap;
	}
	memmove(e->v + at + 1, e->v + at, (e->n - at) * sizeof(*e->v));
	e->v[at] = (struct extent){0};
	e->n++;
	e->bytes += EXTENT_OVERHEAD;
	return 0;
}

static void take_out(struct extents *e, size_t at, size_t n)
{
	for (size_t i = at; i < at + n; i++) {
		e->bytes -= e->v[i].cap + EXTENT_OVERHEAD;
		free(e->v[i].data);
	}
	e->n -= n;
	if (e->n == at)
		return; /* nothing follows; there may be no array at all */
	memmove(e->v + at, e->v + at + n, (e->n - at) * sizeof(*e->v));
}

/* Room for len bytes: doubled, so that a stream of small writes is copied twice on average. */
static int reserve(struct extents *e, struct extent *x, size_t len, size_t unit)
{
	size_t cap = x->cap ? x->cap : len;
	uint8_t *data;

	if (len <= x->cap)
		return 0;
	while (cap < len)
		cap *= 2;
	if (cap > unit)
		cap = unit;
	data = realloc(x->data, cap);
	if (!data)
		return ERR_NOMEM;
	e->bytes += cap - x->cap;
	x->data = data;
	x->cap = cap;
	return 0;
}

/* One unit's part. */
static int put_part(struct extents *e, const uint8_t *data, size_t len, uint64_t offset, size_t unit)
{
	uint64_t first = offset - offset % unit, start = offset, end = offset + len;
	size_t from = find(e, offset), to;
	struct extent *x, old;
	int r;

	/* One that ends here in the unit before is none to join. */
	while (from < e->n && e->v[from].offset < first)
		from++;
	for (to = from; to < e->n && e->v[to].offset <= offset + len &&
			e->v[to].offset < first + unit; to++) {
		if (e->v[to].offset < start)
			start = e->v[to].offset;
		if (end_of(&e->v[to]) > end)
			end = end_of(&e->v[to]);
	}
	if (to == from) {
		r = insert(e, from);
		if (r < 0)
			return r;
		e->v[from].offset = offset;
		to = from + 1;
	}
	x = &e->v[from];
	r = reserve(e, x, end - start, unit);
	if (r < 0) {
		if (x->len == 0)
			take_out(e, from, 1);
		return r;
	}
	old = *x;
	memmove(x->data + (old.offset - start), x->data, old.len);
	for (size_t i = from + 1; i < to; i++)
		memcpy(x->data + (e->v[i].offset - start), e->v[i].data, e->v[i].len);
	memcpy(x->data + (offset - start), data, len);
	x->offset = start;
	x->len = end - start;
	take_out(e, from + 1, to - from - 1);
	return 0;
}

int extents_put(struct extents *e, const void *data, size_t len, uint64_t offset, size_t unit)
{
	const uint8_t *p = data;

	assert(len > 0 && unit > 0 && (unit & (unit - 1)) == 0);
	while (len > 0) {
		size_t room = unit - offset % unit, part = len < room ? len : room;
		int r = put_part(e, p, part, offset, unit);
		if (r < 0)
			return r;
		p += part;
		len -= part;
		offset += part;
	}
	return 0;
}

bool extents_get(const struct extents *e, void *dest, size_t len, uint64_t offset)
{
	size_t first = find(e, offset);
	uint64_t at = offset;

	for (size_t i = first; at < offset + len; i++) {
		if (i == e->n || e->v[i].offset > at)
			return false;
		at = end_of(&e->v[i]) > at ? end_of(&e->v[i]) : at;
	}
	at = offset;
	for (size_t i = first; at < offset + len; i++) {
		const struct extent *x = &e->v[i];
		uint64_t until = end_of(x) < offset + len ? end_of(x) : offset + len;
		if (until <= at)
			continue;
		memcpy((uint8_t *)dest + (at - offset), x->data + (at - x->offset), until - at);
		at = until;
	}
	return true;
}

bool extents_touch(const struct extents *e, size_t len, uint64_t offset)
{
	size_t i = find(e, offset + 1);

	return i < e->n && e->v[i].offset < offset + len;
}

uint64_t extents_end(const struct extents *e)
{
	return e->n ? end_of(&e->v[e->n - 1]) : 0;
}

void extents_clear(struct extents *e)
{
	take_out(e, 0, e->n);
	free(e->v);
	*e = (struct extents){0};
}
