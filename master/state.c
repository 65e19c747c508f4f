/* A level is a vector of heap entries sorted by key: a search is a dozen comparisons, an insert
 * moves at most some ten thousand pointers (active is frozen as soon as the store thread is free).
 * Levels are few and looked at in order, newest first. */
#include "master/state.h"

#include <assert.h>
#include <stdlib.h>

struct entry {
	uint32_t key_len;
	uint32_t value_len;
	bool deleted;
	uint8_t bytes[]; /* key, value */
};

struct level {
	struct entry **entries;
	size_t n, cap;
	size_t bytes;
};

enum { LEVEL_TXN, LEVEL_ACTIVE, LEVEL_FROZEN, LEVELS };

struct state {
	const struct state_base *base;
	struct level levels[LEVELS];
	bool frozen; /* levels[LEVEL_FROZEN] is with the store thread */
	int error; /* the first failure of a read or a write since state_begin() */
};

static struct slice entry_key(const struct entry *e)
{
	return slice_of(e->bytes, e->key_len);
}

static struct slice entry_value(const struct entry *e)
{
	return slice_of(e->bytes + e->key_len, e->value_len);
}

static int key_cmp(struct slice a, struct slice b)
{
	uint32_t n = a.len < b.len ? a.len : b.len;
	int r = n ? memcmp(a.data, b.data, n) : 0;
	return r ? r : (a.len > b.len) - (a.len < b.len);
}

/* The first entry >= key. */
static size_t level_lower(const struct level *l, struct slice key)
{
	size_t lo = 0, hi = l->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (key_cmp(entry_key(l->entries[mid]), key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct entry *level_find(const struct level *l, struct slice key)
{
	size_t i = level_lower(l, key);
	return i < l->n && key_cmp(entry_key(l->entries[i]), key) == 0 ? l->entries[i] : NULL;
}

static void level_clear(struct level *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->entries[i]);
	l->n = 0;
	l->bytes = 0;
}

static int level_room(struct level *l, size_t more)
{
	size_t cap = l->cap ? l->cap : 64;
	struct entry **entries;

	while (cap < l->n + more)
		cap *= 2;
	if (cap == l->cap)
		return 0;
	entries = realloc(l->entries, cap * sizeof(struct entry *));
	if (!entries)
		return ERR_NOMEM;
	l->entries = entries;
	l->cap = cap;
	return 0;
}

/* Takes the entry over, replacing one of the same key. There is room. */
static void level_insert(struct level *l, struct entry *e)
{
	size_t i = level_lower(l, entry_key(e));

	l->bytes += sizeof(*e) + e->key_len + e->value_len;
	if (i < l->n && key_cmp(entry_key(l->entries[i]), entry_key(e)) == 0) {
		struct entry *old = l->entries[i];
		l->bytes -= sizeof(*old) + old->key_len + old->value_len;
		free(old);
		l->entries[i] = e;
		return;
	}
	assert(l->n < l->cap);
	memmove(l->entries + i + 1, l->entries + i, (l->n - i) * sizeof(l->entries[0]));
	l->entries[i] = e;
	l->n++;
}

int state_new(const struct state_base *base, struct state **ret)
{
	struct state *st = calloc(1, sizeof(*st));
	if (!st)
		return ERR_NOMEM;
	st->base = base;
	*ret = st;
	return 0;
}

void state_free(struct state *st)
{
	if (!st)
		return;
	for (int i = 0; i < LEVELS; i++) {
		level_clear(&st->levels[i]);
		free(st->levels[i].entries);
	}
	free(st);
}

static int state_failed(struct state *st, int r)
{
	if (r < 0 && !st->error)
		st->error = r;
	return r;
}

int state_get(struct state *st, struct slice key, struct buf *ret)
{
	for (int i = 0; i < LEVELS; i++) {
		const struct entry *e = level_find(&st->levels[i], key);
		if (!e)
			continue;
		if (e->deleted)
			return 0;
		buf_clear(ret);
		buf_append_slice(ret, entry_value(e));
		return buf_status(ret) < 0 ? state_failed(st, ERR_NOMEM) : 1;
	}
	return st->base ? state_failed(st, st->base->get(st->base->ctx, key, ret)) : 0;
}

static void state_write(struct state *st, struct slice key, struct slice value, bool deleted)
{
	struct level *txn = &st->levels[LEVEL_TXN];
	struct entry *e = malloc(sizeof(*e) + key.len + value.len);

	if (!e || level_room(txn, 1) < 0) {
		free(e);
		state_failed(st, ERR_NOMEM);
		return;
	}
	*e = (struct entry){.key_len = key.len, .value_len = value.len, .deleted = deleted};
	memcpy(e->bytes, key.data, key.len);
	if (value.len)
		memcpy(e->bytes + key.len, value.data, value.len);
	level_insert(txn, e);
}

void state_put(struct state *st, struct slice key, struct slice value)
{
	state_write(st, key, value, false);
}

void state_del(struct state *st, struct slice key)
{
	state_write(st, key, (struct slice){0}, true);
}

void state_begin(struct state *st)
{
	assert(st->levels[LEVEL_TXN].n == 0);
	st->error = 0;
}

void state_abort(struct state *st)
{
	level_clear(&st->levels[LEVEL_TXN]);
}

int state_error(const struct state *st)
{
	return st->error;
}

int state_commit(struct state *st)
{
	struct level *txn = &st->levels[LEVEL_TXN], *active = &st->levels[LEVEL_ACTIVE];

	if (!st->error)
		state_failed(st, level_room(active, txn->n));
	if (st->error) {
		state_abort(st);
		return st->error;
	}
	for (size_t i = 0; i < txn->n; i++)
		level_insert(active, txn->entries[i]);
	txn->n = 0;
	txn->bytes = 0;
	return 0;
}

size_t state_txn_keys(const struct state *st)
{
	return st->levels[LEVEL_TXN].n;
}

size_t state_active_bytes(const struct state *st)
{
	return st->levels[LEVEL_ACTIVE].bytes;
}

bool state_freeze(struct state *st)
{
	struct level *active = &st->levels[LEVEL_ACTIVE], *frozen = &st->levels[LEVEL_FROZEN];
	struct level swap;

	assert(st->levels[LEVEL_TXN].n == 0);
	if (st->frozen || active->n == 0)
		return false;
	swap = *frozen;
	*frozen = *active;
	*active = swap;
	st->frozen = true;
	return true;
}

void state_frozen_visit(const struct state *st,
			void (*fn)(void *arg, struct slice key, struct slice value), void *arg)
{
	const struct level *frozen = &st->levels[LEVEL_FROZEN];

	for (size_t i = 0; i < frozen->n; i++) {
		const struct entry *e = frozen->entries[i];
		fn(arg, entry_key(e), e->deleted ? (struct slice){0} : entry_value(e));
	}
}

void state_thaw(struct state *st)
{
	level_clear(&st->levels[LEVEL_FROZEN]);
	st->frozen = false;
}

/* ---- iteration: a merge of the levels and the base, the newest level winning ---- */

struct state_iter {
	struct state *st;
	struct key prefix;
	size_t at[LEVELS];
	void *base;
	struct buf key, value; /* the row handed out, as levels may not move but the base does */
};

int state_iter_open(struct state *st, struct slice prefix, struct slice start,
		    struct state_iter **ret)
{
	struct state_iter *it = calloc(1, sizeof(*it));
	int r = 0;

	if (!it)
		return state_failed(st, ERR_NOMEM);
	assert(prefix.len <= sizeof(it->prefix.bytes));
	it->st = st;
	if (prefix.len)
		memcpy(it->prefix.bytes, prefix.data, prefix.len);
	it->prefix.len = prefix.len;
	if (start.len == 0)
		start = key_slice(&it->prefix);
	for (int i = 0; i < LEVELS; i++)
		it->at[i] = level_lower(&st->levels[i], start);
	if (st->base)
		r = st->base->iter_open(st->base->ctx, start, &it->base);
	if (r < 0) {
		free(it);
		return state_failed(st, r);
	}
	*ret = it;
	return 0;
}

static bool iter_in_prefix(const struct state_iter *it, struct slice key)
{
	return key.len >= it->prefix.len &&
	       memcmp(key.data, it->prefix.bytes, it->prefix.len) == 0;
}

/* Keeps the smallest next row of all sources in it->key/value and moves every source past it.
 * 1 a row, 0 the end; *ret_deleted: the newest source says it is gone. */
static int iter_step(struct state_iter *it, bool *ret_deleted)
{
	const struct entry *best = NULL;
	struct slice base_key = {0}, base_value = {0};
	int have_base = 0;

	if (it->base) {
		have_base = it->st->base->iter_row(it->base, &base_key, &base_value);
		if (have_base < 0)
			return have_base;
	}
	for (int i = 0; i < LEVELS; i++) {
		const struct level *l = &it->st->levels[i];
		const struct entry *e = it->at[i] < l->n ? l->entries[it->at[i]] : NULL;
		if (e && (!best || key_cmp(entry_key(e), entry_key(best)) < 0))
			best = e;
	}
	if (!best && !have_base)
		return 0;
	buf_clear(&it->key);
	buf_clear(&it->value);
	*ret_deleted = false;
	if (best && (!have_base || key_cmp(entry_key(best), base_key) <= 0)) {
		buf_append_slice(&it->key, entry_key(best));
		buf_append_slice(&it->value, entry_value(best));
		*ret_deleted = best->deleted;
	} else {
		buf_append_slice(&it->key, base_key);
		buf_append_slice(&it->value, base_value);
	}
	if (buf_status(&it->key) < 0 || buf_status(&it->value) < 0)
		return ERR_NOMEM;
	for (int i = 0; i < LEVELS; i++) {
		const struct level *l = &it->st->levels[i];
		if (it->at[i] < l->n &&
		    key_cmp(entry_key(l->entries[it->at[i]]), buf_slice(&it->key)) == 0)
			it->at[i]++;
	}
	if (have_base && key_cmp(base_key, buf_slice(&it->key)) == 0)
		it->st->base->iter_next(it->base);
	return 1;
}

int state_iter_next(struct state_iter *it, struct slice *ret_key, struct slice *ret_value)
{
	for (;;) {
		bool deleted = false;
		int r = iter_step(it, &deleted);
		if (r <= 0)
			return state_failed(it->st, r);
		if (!iter_in_prefix(it, buf_slice(&it->key)))
			return 0;
		if (deleted)
			continue;
		*ret_key = buf_slice(&it->key);
		*ret_value = buf_slice(&it->value);
		return 1;
	}
}

void state_iter_close(struct state_iter *it)
{
	if (!it)
		return;
	if (it->base)
		it->st->base->iter_close(it->base);
	buf_release(&it->key);
	buf_release(&it->value);
	free(it);
}

/* ---- typed rows ---- */

#define STATE_X_TYPED(record, fields)                                                        \
	int state_get_##record(struct state *st, struct key key, struct record *ret,         \
			       struct buf *backing)                                          \
	{                                                                                    \
		struct cursor c;                                                             \
		int r = state_get(st, key_slice(&key), backing);                             \
		if (r <= 0)                                                                  \
			return r;                                                            \
		c = cursor_slice(buf_slice(backing));                                        \
		return record##_get(&c, ret) < 0 ? state_failed(st, ERR_CORRUPT) : 1;        \
	}                                                                                    \
	void state_put_##record(struct state *st, struct key key, const struct record *row)  \
	{                                                                                    \
		struct buf b = {0};                                                          \
		record##_put(&b, row);                                                       \
		if (buf_status(&b) < 0)                                                      \
			state_failed(st, ERR_NOMEM);                                         \
		else                                                                         \
			state_put(st, key_slice(&key), buf_slice(&b));                       \
		buf_release(&b);                                                             \
	}
SCHEMA_RECORDS(STATE_X_TYPED)
