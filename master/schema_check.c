/* The frame: tables, sessions, servers, counters. Rows are read type by type, in an order in which
 * what a row refers to has been seen before it; what must be counted is counted down, so that what
 * is left at the end is what is wrong. */
#include "master/schema_check_priv.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "master/ns.h"

void check_wrong(struct check *c, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (c->wrong < INT_MAX)
		c->wrong++;
	if (c->wrong > (int)c->max)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_printf(c->report, "%s\n", text);
}

int check_each(struct check *c, uint8_t type, uint32_t key_len, check_row_fn fn)
{
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(c->st, slice_of(&type, 1), (struct slice){0}, &it);

	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1) {
		if (key_len && key.len != key_len) {
			check_wrong(c, "a row of type %c has a key of %u bytes", type, key.len);
			continue;
		}
		r = fn(c, key, value);
		if (r < 0)
			break;
	}
	state_iter_close(it);
	return r;
}

int check_has(struct check *c, struct key key)
{
	_cleanup_buf_ struct buf backing = {0};
	return state_get(c->st, key_slice(&key), &backing);
}

/* ---- tables ---- */

static uint64_t seen_id(const struct seen_table *t, size_t i)
{
	uint64_t id;
	memcpy(&id, t->rows + i * t->width, sizeof(id));
	return id;
}

void *seen_add(struct seen_table *t, uint64_t id)
{
	uint8_t *row;

	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap + t->cap / 2 : 1024;
		uint8_t *rows = realloc(t->rows, cap * t->width);
		if (!rows)
			return NULL;
		t->rows = rows;
		t->cap = cap;
	}
	row = t->rows + t->n++ * t->width;
	memset(row, 0, t->width);
	memcpy(row, &id, sizeof(id));
	return row;
}

void *seen_find(struct seen_table *t, uint64_t id)
{
	size_t lo = 0, hi = t->n;

	for (size_t i = t->last; i < t->n && i < t->last + 2; i++) {
		if (seen_id(t, i) == id) {
			t->last = i;
			return t->rows + i * t->width;
		}
	}
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (seen_id(t, mid) < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == t->n || seen_id(t, lo) != id)
		return NULL;
	t->last = lo;
	return t->rows + lo * t->width;
}

/* ---- policies, servers ---- */

/* There is one, and it was read; but its older versions, of which a database holds many, shall read
 * too. */
static int see_meta(struct check *c, struct slice key, struct slice value)
{
	return 0;
}

static int see_policy(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	uint32_t id = get_be32(key.data + 1);
	struct seen_policy *p;
	struct row_policy row;

	if (row_policy_get(&cur, &row) < 0 || row.copies < 1 || row.copies > REPLICAS_MAX) {
		check_wrong(c, "policy %u does not decode or wants no possible number of copies",
			    id);
		return 0;
	}
	p = seen_add(&c->policies, id);
	if (!p)
		return ERR_NOMEM;
	p->copies = row.copies;
	return 0;
}

static int see_server(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	uint32_t id = get_be32(key.data + 1);
	struct seen_server *s;
	struct row_server row;

	if (row_server_get(&cur, &row) < 0 || row.uuid.len != UUID_BYTES) {
		check_wrong(c, "server %u does not decode", id);
		return 0;
	}
	if (id == 0 || id >= c->meta.next_server)
		check_wrong(c, "server %u was never given out", id);
	s = seen_add(&c->servers, id);
	if (!s)
		return ERR_NOMEM;
	memcpy(s->uuid, row.uuid.data, UUID_BYTES);
	return 0;
}

static int check_uuid(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	struct row_server_ref ref;
	struct seen_server *s;

	if (row_server_ref_get(&cur, &ref) < 0) {
		check_wrong(c, "a server's id row does not decode");
		return 0;
	}
	s = seen_find(&c->servers, ref.server);
	if (!s || memcmp(s->uuid, key.data + 1, UUID_BYTES) != 0)
		check_wrong(c, "a UUID names server %u, which is not there or has another one",
			    ref.server);
	else
		c->uuids++;
	return 0;
}

/* ---- sessions ---- */

static int see_session(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	uint64_t id = get_be64(key.data + 1);
	struct seen_session *s;
	struct row_session row;

	if (row_session_get(&cur, &row) < 0) {
		check_wrong(c, "session %" PRIx64 " does not decode", id);
		return 0;
	}
	if (id == 0 || id >= c->meta.next_session)
		check_wrong(c, "session %" PRIx64 " was never given out", id);
	s = seen_add(&c->sessions, id);
	if (!s)
		return ERR_NOMEM;
	s->nonce = row.nonce;
	s->floor = row.floor;
	return 0;
}

static int check_nonce(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	struct row_session_ref ref;
	struct seen_session *s;

	if (row_session_ref_get(&cur, &ref) < 0) {
		check_wrong(c, "a nonce row does not decode");
		return 0;
	}
	s = seen_find(&c->sessions, ref.session);
	if (!s || s->nonce != get_be64(key.data + 1))
		check_wrong(c, "nonce %" PRIx64 " names session %" PRIx64 ", which is not there or "
			    "has another one", get_be64(key.data + 1), ref.session);
	else
		c->nonces++;
	return 0;
}

static int check_reply(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	uint64_t session = get_be64(key.data + 1), seq = get_be64(key.data + 9);
	struct seen_session *s = seen_find(&c->sessions, session);
	struct row_reply row;

	if (row_reply_get(&cur, &row) < 0)
		check_wrong(c, "answer %" PRIu64 " of session %" PRIx64 " does not decode", seq,
			    session);
	if (!s)
		check_wrong(c, "answer %" PRIu64 " of session %" PRIx64 ", which is not there", seq,
			    session);
	else if (seq < s->floor)
		check_wrong(c, "answer %" PRIu64 " of session %" PRIx64 " is below its floor %"
			    PRIu64, seq, session, s->floor);
	return 0;
}

/* ---- the whole ---- */

static int check_unknown(struct check *c, struct slice key, struct slice value)
{
	check_wrong(c, "a row of the unknown type %02x", key.data[0]);
	return 0;
}

static int check_unknown_types(struct check *c)
{
	static const uint8_t known[] = {
		KEY_META, KEY_POLICY, KEY_INODE, KEY_DENTRY, KEY_FILE_CHUNK, KEY_CHUNK,
		KEY_ON_SERVER, KEY_UNDER_GOAL, KEY_PENDING, KEY_GARBAGE, KEY_XATTR, KEY_SESSION,
		KEY_NONCE, KEY_REPLY, KEY_HELD, KEY_RECLAIM, KEY_SERVER, KEY_SERVER_UUID,
		KEY_LOCK, KEY_SESSION_LOCK, KEY_QUOTA, KEY_EXPORT,
	};
	int r = 0;

	for (unsigned type = 0; type <= UINT8_MAX && r == 0; type++)
		if (!memchr(known, (int)type, sizeof(known)))
			r = check_each(c, (uint8_t)type, 0, check_unknown);
	return r;
}

static void check_counter(struct check *c, const char *name, uint64_t meta, uint64_t rows)
{
	if (meta != rows)
		check_wrong(c, "meta says %" PRIu64 " %s, there are %" PRIu64, meta, name, rows);
}

static void check_meta(struct check *c)
{
	if (c->meta.level > SCHEMA_LEVEL)
		check_wrong(c, "the feature level is %u, this program knows %u", c->meta.level,
			    SCHEMA_LEVEL);
	if (c->meta.cluster.len != UUID_BYTES || c->meta.hash_key.len != HASH_KEY_BYTES)
		check_wrong(c, "meta has no cluster id or no hash key");
	check_counter(c, "inodes", c->meta.inodes, c->inodes.n);
	check_counter(c, "chunks", c->meta.chunks, c->chunks.n);
	check_counter(c, "chunks under goal", c->meta.under_goal, c->under_goal);
	check_counter(c, "pending raises", c->meta.pending, c->pending);
	check_counter(c, "garbage rows", c->meta.garbage, c->garbage);
	check_counter(c, "sessions", c->meta.sessions, c->sessions.n);
	if (c->nonces != c->sessions.n)
		check_wrong(c, "%zu sessions, of which %" PRIu64 " are found by their nonce",
			    c->sessions.n, c->nonces);
	if (c->uuids != c->servers.n)
		check_wrong(c, "%zu servers, of which %" PRIu64 " are found by their UUID",
			    c->servers.n, c->uuids);
}

static int check_all(struct check *c)
{
	static const struct { uint8_t type; uint32_t key_len; check_row_fn fn; } passes[] = {
		{KEY_META, 1, see_meta}, {KEY_POLICY, 5, see_policy}, {KEY_SERVER, 5, see_server},
		{KEY_SERVER_UUID, 1 + UUID_BYTES, check_uuid}, {KEY_SESSION, 9, see_session},
		{KEY_NONCE, 9, check_nonce}, {KEY_REPLY, 17, check_reply},
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(passes) && r == 0; i++)
		r = check_each(c, passes[i].type, passes[i].key_len, passes[i].fn);
	if (r == 0)
		r = see_quotas(c);
	if (r == 0)
		r = check_names(c);
	if (r == 0)
		r = check_quotas(c);
	if (r == 0)
		r = check_exports(c);
	if (r == 0)
		r = check_chunks(c);
	if (r == 0)
		r = check_locks(c);
	if (r == 0)
		r = check_unknown_types(c);
	if (r == 0)
		check_meta(c);
	return r;
}

int schema_check(struct state *st, struct buf *report, unsigned max)
{
	_cleanup_buf_ struct buf backing = {0};
	struct check c = {
		.st = st, .report = report, .max = max,
		.inodes.width = sizeof(struct seen_inode),
		.chunks.width = sizeof(struct seen_chunk),
		.sessions.width = sizeof(struct seen_session),
		.servers.width = sizeof(struct seen_server),
		.policies.width = sizeof(struct seen_policy),
		.quotas.width = sizeof(struct seen_quota),
	};
	int r = ns_meta(st, &c.meta, &backing);

	if (r == 0)
		r = check_all(&c);
	free(c.inodes.rows);
	free(c.chunks.rows);
	free(c.sessions.rows);
	free(c.servers.rows);
	free(c.policies.rows);
	free(c.quotas.rows);
	return r < 0 ? r : c.wrong;
}

int schema_dump(struct state *st, struct buf *ret)
{
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(st, (struct slice){0}, (struct slice){0}, &it);

	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1) {
		schema_row_text(ret, key, value);
		buf_u8(ret, '\n');
	}
	state_iter_close(it);
	return r < 0 ? r : buf_status(ret);
}
