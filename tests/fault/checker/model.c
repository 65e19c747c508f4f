#include "tests/fault/checker/model.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "tests/fault/checker/content.h"

enum { SIZES_MAX = 32, CROWDED = MODEL_VALUES_MAX - 3, SIZES_CROWDED = SIZES_MAX / 4 };

struct value {
	uint32_t write; /* 0: a hole */
	bool now;	/* a read may return it */
	bool certain;	/* acknowledged: an fsync that succeeds rules out what is older */
};

/* Bytes with the same list. The extents of a file cover 0..MODEL_END without a gap. */
struct extent {
	uint64_t from, to;
	unsigned n;
	struct value values[MODEL_VALUES_MAX];
	struct extent *prev, *next;
};

struct size_range {
	uint64_t lo, hi;
};

struct model {
	uint32_t file;
	uint32_t writes;
	struct extent *extents;
	struct size_range sizes[SIZES_MAX]; /* that may be, oldest first */
	unsigned n_sizes;
};

struct model *model_new(uint32_t file)
{
	struct model *m = calloc(1, sizeof(*m));
	struct extent *x = calloc(1, sizeof(*x));

	if (!m || !x)
		abort();
	m->file = file;
	m->n_sizes = 1;
	x->to = MODEL_END;
	x->n = 1;
	x->values[0].now = true;
	DL_APPEND(m->extents, x);
	return m;
}

void model_free(struct model *m)
{
	struct extent *x, *next;

	if (!m)
		return;
	DL_FOREACH_SAFE(m->extents, x, next)
		free(x);
	free(m);
}

uint32_t model_file(const struct model *m)
{
	return m->file;
}

uint32_t model_next_write(struct model *m)
{
	return ++m->writes;
}

/* ---- extents ---- */

static struct extent *extent_at(const struct model *m, uint64_t offset)
{
	struct extent *x = m->extents;
	while (x->to <= offset)
		x = x->next;
	return x;
}

/* Makes `at` a border. */
static void cut(struct model *m, uint64_t at)
{
	struct extent *x, *rest;

	if (at == MODEL_END)
		return;
	x = extent_at(m, at);
	if (x->from == at)
		return;
	rest = malloc(sizeof(*rest));
	if (!rest)
		abort();
	*rest = *x;
	rest->from = x->to = at;
	DL_APPEND_ELEM(m->extents, x, rest);
}

static bool same_values(const struct extent *a, const struct extent *b)
{
	if (a->n != b->n)
		return false;
	for (unsigned i = 0; i < a->n; i++)
		if (a->values[i].write != b->values[i].write ||
		    a->values[i].now != b->values[i].now ||
		    a->values[i].certain != b->values[i].certain)
			return false;
	return true;
}

static void join(struct model *m)
{
	for (struct extent *x = m->extents; x && x->next;) {
		struct extent *next = x->next;
		if (!same_values(x, next)) {
			x = next;
			continue;
		}
		x->to = next->to;
		DL_DELETE(m->extents, next);
		free(next);
	}
}

static void drop_older(struct extent *x, unsigned than)
{
	for (unsigned i = 0; i < than; i++)
		x->values[i].now = false;
}

static void add_value(struct extent *x, uint32_t write, bool only)
{
	assert(x->n < MODEL_VALUES_MAX);
	if (only)
		drop_older(x, x->n);
	x->values[x->n++] = (struct value){write, true, only};
}

static void add_range(struct model *m, uint64_t from, uint64_t to, uint32_t write, bool only)
{
	if (from >= to)
		return;
	cut(m, from);
	cut(m, to);
	for (struct extent *x = extent_at(m, from); x && x->from < to; x = x->next)
		add_value(x, write, only);
	join(m);
}

/* ---- sizes ---- */

static void add_size(struct model *m, uint64_t lo, uint64_t hi)
{
	struct size_range *last = &m->sizes[m->n_sizes - 1];

	if (m->n_sizes > 0 && last->lo == lo && last->hi == hi)
		return;
	assert(m->n_sizes < SIZES_MAX);
	m->sizes[m->n_sizes++] = (struct size_range){lo, hi};
}

static uint64_t largest(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t smallest_size(const struct model *m)
{
	uint64_t min = MODEL_END;
	for (unsigned i = 0; i < m->n_sizes; i++)
		min = m->sizes[i].lo < min ? m->sizes[i].lo : min;
	return min;
}

uint64_t model_size_max(const struct model *m)
{
	uint64_t max = 0;
	for (unsigned i = 0; i < m->n_sizes; i++)
		max = largest(max, m->sizes[i].hi);
	return max;
}

bool model_size_known(const struct model *m)
{
	return smallest_size(m) == model_size_max(m);
}

static void grow_size(struct model *m, uint64_t end)
{
	unsigned n = m->n_sizes;

	m->n_sizes = 0;
	for (unsigned i = 0; i < n; i++) {
		struct size_range s = m->sizes[i]; /* never overtaken by what is added */
		add_size(m, largest(s.lo, end), largest(s.hi, end));
	}
}

/* The size lies in lo..hi: what is older than the first range that can be is not any more. */
static int saw_size(struct model *m, uint64_t lo, uint64_t hi)
{
	unsigned first = 0, n = 0;

	while (first < m->n_sizes && (m->sizes[first].hi < lo || m->sizes[first].lo > hi))
		first++;
	if (first == m->n_sizes)
		return -1;
	for (unsigned i = first; i < m->n_sizes; i++) {
		struct size_range s = m->sizes[i];
		if (i == first) {
			s.lo = largest(s.lo, lo);
			s.hi = s.hi < hi ? s.hi : hi;
		}
		m->sizes[n++] = s;
	}
	m->n_sizes = n;
	return 0;
}

static void sizes_text(const struct model *m, char *ret, size_t room)
{
	size_t at = 0;

	ret[0] = '\0';
	for (unsigned i = 0; i < m->n_sizes && at + 48 < room; i++)
		at += (size_t)snprintf(ret + at, room - at, "%s%" PRIu64 "..%" PRIu64,
				       i ? ", " : "", m->sizes[i].lo, m->sizes[i].hi);
}

/* ---- what was done ---- */

void model_wrote(struct model *m, uint32_t write, uint64_t offset, size_t acked, size_t len)
{
	add_range(m, offset, offset + acked, write, true);
	add_range(m, offset + acked, offset + len, write, false);
	if (acked > 0)
		grow_size(m, offset + acked);
	if (acked < len) {
		uint64_t from = largest(smallest_size(m), offset + acked);
		if (from < offset + len)
			add_size(m, from + 1, offset + len);
	}
}

void model_truncated(struct model *m, uint64_t size, bool acked)
{
	cut(m, size);
	for (struct extent *x = extent_at(m, size); x; x = x->next) {
		/* The truncation is in the master's log: older bytes never come back. */
		if (acked)
			x->n = 0;
		if (acked || x->n > 1 || x->values[0].write)
			add_value(x, 0, acked);
	}
	join(m);
	if (acked)
		m->n_sizes = 0;
	if (acked || m->n_sizes == 0)
		m->sizes[m->n_sizes++] = (struct size_range){size, size};
	else
		add_size(m, size, size);
}

void model_synced(struct model *m)
{
	for (struct extent *x = m->extents; x; x = x->next) {
		unsigned n = 0, first = x->n;
		/* Also when every server lost its power meanwhile: else it had to fail. */
		while (first > 0 && !x->values[first - 1].certain)
			first--;
		for (unsigned i = first ? first - 1 : 0; i < x->n; i++)
			if (x->values[i].now)
				x->values[n++] = x->values[i];
		x->n = n;
	}
	join(m);
}

void model_sync_failed(struct model *m)
{
	for (struct extent *x = m->extents; x; x = x->next)
		for (unsigned i = 0; i < x->n; i++)
			x->values[i].certain = false;
	join(m);
}

void model_power_lost(struct model *m)
{
	for (struct extent *x = m->extents; x; x = x->next)
		for (unsigned i = 0; i < x->n; i++)
			x->values[i].now = true;
	join(m);
}

bool model_crowded(const struct model *m)
{
	for (const struct extent *x = m->extents; x; x = x->next)
		if (x->n >= CROWDED)
			return true;
	return m->n_sizes >= SIZES_CROWDED;
}

/* ---- what was seen ---- */

/* The oldest value that n bytes at offset (within one record) may be, or x->n. */
static unsigned match(const struct model *m, const struct extent *x, uint64_t offset,
		      const uint8_t *data, size_t n)
{
	for (unsigned i = 0; i < x->n; i++) {
		uint8_t expected[RECORD_BYTES];
		if (!x->values[i].now)
			continue;
		content_fill(m->file, x->values[i].write, offset, expected, n);
		if (memcmp(expected, data, n) == 0)
			return i;
	}
	return x->n;
}

static void say_wrong(const struct model *m, const struct extent *x, uint64_t offset,
		      const uint8_t *data, size_t n, char *why)
{
	char found[128];
	size_t at;

	content_describe(offset, data, n, found, sizeof(found));
	at = (size_t)snprintf(why, MODEL_TEXT_BYTES, "file %" PRIx32 " at %" PRIu64 " holds %s, not "
			      "write", m->file, offset, found);
	for (unsigned i = 0; i < x->n && at + 16 < MODEL_TEXT_BYTES; i++)
		if (x->values[i].now)
			at += (size_t)snprintf(why + at, MODEL_TEXT_BYTES - at, " %" PRIu32,
					       x->values[i].write);
}

/* n bytes of one extent. Where a newer value was seen, older ones are ruled out. */
static int read_extent(struct model *m, struct extent *x, uint64_t offset, const uint8_t *data,
		       size_t n, char *why)
{
	size_t done = 0;

	while (done < n) {
		uint64_t at = offset + done;
		size_t part = RECORD_BYTES - at % RECORD_BYTES;
		unsigned i;
		part = part < n - done ? part : n - done;
		i = match(m, x, at, data + done, part);
		if (i == x->n) {
			say_wrong(m, x, at, data + done, n - done, why);
			return -1;
		}
		for (unsigned k = 0; k < i; k++) {
			if (!x->values[k].now)
				continue;
			cut(m, at);
			cut(m, at + part);
			drop_older(extent_at(m, at), i);
			x = extent_at(m, at);
			break;
		}
		done += part;
		if (offset + done == x->to && done < n)
			x = x->next;
	}
	return 0;
}

int model_read(struct model *m, uint64_t offset, size_t len, const uint8_t *data, size_t n,
	       char *why)
{
	char sizes[256];
	uint64_t lo = offset + n, hi = n == len ? MODEL_END : offset + n;
	int r = 0;

	sizes_text(m, sizes, sizeof(sizes));
	if (saw_size(m, n == 0 ? 0 : lo, hi) < 0) {
		snprintf(why, MODEL_TEXT_BYTES, "file %" PRIx32 ": read of %zu at %" PRIu64
			 " gave %zu, the size may be %s", m->file, len, offset, n, sizes);
		return -1;
	}
	for (uint64_t at = offset; r == 0 && at < offset + n;) {
		struct extent *x = extent_at(m, at);
		uint64_t to = x->to < offset + n ? x->to : offset + n;
		r = read_extent(m, x, at, data + (at - offset), (size_t)(to - at), why);
		at = to;
	}
	join(m);
	return r;
}

int model_saw_size(struct model *m, uint64_t size, char *why)
{
	char sizes[256];

	sizes_text(m, sizes, sizeof(sizes));
	if (saw_size(m, size, size) == 0)
		return 0;
	snprintf(why, MODEL_TEXT_BYTES, "file %" PRIx32 " has %" PRIu64 " bytes, the size may be %s",
		 m->file, size, sizes);
	return -1;
}

bool model_next_data(const struct model *m, uint64_t offset, uint64_t *ret_from,
		     uint64_t *ret_to)
{
	for (const struct extent *x = extent_at(m, offset); x; x = x->next) {
		if (x->n == 1 && x->values[0].write == 0)
			continue;
		*ret_from = largest(x->from, offset);
		*ret_to = x->to;
		return *ret_from < MODEL_END;
	}
	return false;
}
