#include "master/schema_check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "master/ns.h"

struct check {
	struct state *st;
	struct buf *report;
	unsigned max;
	int wrong;
	struct row_meta meta;
	uint64_t inodes, chunks, under_goal, pending, garbage, sessions;
};

static void __attribute__((format(printf, 2, 3)))
wrong(struct check *c, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (c->wrong++ >= (int)c->max)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_printf(c->report, "%s\n", text);
}

/* Calls fn for each row of a key prefix. */
typedef int (*row_fn)(struct check *c, struct slice key, struct slice value);
static int each(struct check *c, struct slice prefix, row_fn fn)
{
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(c->st, prefix, (struct slice){0}, &it);

	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1) {
		r = fn(c, key, value);
		if (r < 0)
			break;
	}
	state_iter_close(it);
	return r;
}

static int each_type(struct check *c, uint8_t type, row_fn fn)
{
	return each(c, slice_of(&type, 1), fn);
}

/* How many rows a prefix has; by key tail when `tail` is given. */
static int count_rows(struct check *c, struct slice prefix, const uint8_t *tail, uint64_t *ret)
{
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(c->st, prefix, (struct slice){0}, &it);

	*ret = 0;
	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1)
		*ret += !tail || (key.len > 8 && memcmp(key.data + key.len - 8, tail, 8) == 0);
	state_iter_close(it);
	return r;
}

/* ---- names (invariant 1) ---- */

/* Names that point at an inode, and sub-directories of it: counted by scanning all dentries for
 * each inode, which is what an offline check of small states can afford. */
struct names {
	uint64_t inode, names, subdirs;
};

static int count_names(struct check *c, struct names *n)
{
	uint8_t type = KEY_DENTRY;
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(c->st, slice_of(&type, 1), (struct slice){0}, &it);

	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor cur = cursor_slice(value);
		struct row_dentries row;
		if (key.len != 17 || row_dentries_get(&cur, &row) < 0) {
			r = ERR_CORRUPT;
			break;
		}
		for (int i = 0; i < row.n_entries; i++) {
			n->names += row.entries[i].inode == n->inode;
			n->subdirs += get_be64(key.data + 1) == n->inode &&
				      S_ISDIR(row.entries[i].type);
		}
	}
	state_iter_close(it);
	return r;
}

static int check_inode(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	struct names n = {.inode = get_be64(key.data + 1)};
	struct row_inode row;
	uint64_t held;
	uint8_t type = KEY_HELD, tail[8];
	int r;

	c->inodes++;
	if (row_inode_get(&cur, &row) < 0) {
		wrong(c, "inode %" PRIx64 " does not decode", n.inode);
		return 0;
	}
	r = count_names(c, &n);
	if (r < 0)
		return r;
	if (S_ISDIR(row.mode)) {
		if (row.nlink != (row.nlink ? 2 + n.subdirs : 0))
			wrong(c, "directory %" PRIx64 " has nlink %u and %" PRIu64
			      " sub-directories", n.inode, row.nlink, n.subdirs);
		if (n.names != (n.inode != ROOT_INODE && row.nlink))
			wrong(c, "directory %" PRIx64 " has %" PRIu64 " names", n.inode, n.names);
	} else if (row.nlink != n.names) {
		wrong(c, "inode %" PRIx64 " has nlink %u and %" PRIu64 " names", n.inode, row.nlink,
		      n.names);
	}
	put_be64(tail, n.inode);
	r = count_rows(c, slice_of(&type, 1), tail, &held);
	if (r == 0 && row.nlink == 0 && held == 0)
		wrong(c, "inode %" PRIx64 " has no name and no holder", n.inode);
	if (n.inode >= c->meta.next_inode)
		wrong(c, "inode %" PRIx64 " was never given out", n.inode);
	return r;
}

static int check_dentries(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	struct row_dentries row;

	if (key.len != 17 || row_dentries_get(&cur, &row) < 0 || row.n_entries == 0) {
		wrong(c, "a dentry row does not decode or is empty");
		return 0;
	}
	for (int i = 0; i < row.n_entries; i++) {
		_cleanup_buf_ struct buf backing = {0};
		struct row_inode inode;
		uint64_t hash = 0;
		int r = ns_inode(c->st, row.entries[i].inode, &inode, &backing);
		if (r == ERR_NOENT)
			wrong(c, "a name in %" PRIx64 " points at inode %" PRIx64
			      ", which is not there", get_be64(key.data + 1), row.entries[i].inode);
		else if (r < 0)
			return r;
		else if ((inode.mode & S_IFMT) != row.entries[i].type)
			wrong(c, "a name of inode %" PRIx64 " has another type",
			      row.entries[i].inode);
		else if (S_ISDIR(inode.mode) && inode.parent != get_be64(key.data + 1))
			wrong(c, "directory %" PRIx64 " has parent %" PRIx64 ", its name is in %"
			      PRIx64, row.entries[i].inode, inode.parent, get_be64(key.data + 1));
		schema_name_hash(c->meta.hash_key.data, row.entries[i].name, &hash);
		if (hash != get_be64(key.data + 9))
			wrong(c, "a name in %" PRIx64 " is under a wrong hash",
			      get_be64(key.data + 1));
	}
	return 0;
}

/* ---- chunks (invariants 2 to 7) ---- */

static int check_file_chunk(struct check *c, struct slice key, struct slice value)
{
	_cleanup_buf_ struct buf backing = {0};
	struct cursor cur = cursor_slice(value);
	struct row_file_chunk ref;
	struct row_chunk row;
	int r;

	if (key.len != 17 || row_file_chunk_get(&cur, &ref) < 0) {
		wrong(c, "a file chunk row does not decode");
		return 0;
	}
	r = state_get_row_chunk(c->st, key_chunk(ref.chunk), &row, &backing);
	if (r == 0)
		wrong(c, "inode %" PRIx64 " index %" PRIu64 ": chunk %016" PRIx64 " is not there",
		      get_be64(key.data + 1), get_be64(key.data + 9), ref.chunk);
	return r < 0 ? r : 0;
}

static int count_refs(struct check *c, uint64_t chunk, uint64_t *ret)
{
	uint8_t type = KEY_FILE_CHUNK;
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(c->st, slice_of(&type, 1), (struct slice){0}, &it);

	*ret = 0;
	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor cur = cursor_slice(value);
		struct row_file_chunk ref;
		*ret += row_file_chunk_get(&cur, &ref) == 0 && ref.chunk == chunk;
	}
	state_iter_close(it);
	return r;
}

static int has_row(struct check *c, struct key key)
{
	_cleanup_buf_ struct buf backing = {0};
	return state_get(c->st, key_slice(&key), &backing);
}

static int check_chunk(struct check *c, struct slice key, struct slice value)
{
	_cleanup_buf_ struct buf backing = {0};
	struct cursor cur = cursor_slice(value);
	uint64_t id = get_be64(key.data + 1), refs;
	struct row_policy policy;
	struct row_chunk row;
	int r;

	c->chunks++;
	if (row_chunk_get(&cur, &row) < 0) {
		wrong(c, "chunk %016" PRIx64 " does not decode", id);
		return 0;
	}
	r = count_refs(c, id, &refs);
	if (r < 0)
		return r;
	if (row.refs == 0 || row.refs != refs)
		wrong(c, "chunk %016" PRIx64 " has refs %u, %" PRIu64 " rows name it", id, row.refs,
		      refs);
	if (row.n_members == 0)
		wrong(c, "chunk %016" PRIx64 " has no member", id);
	for (unsigned i = 0; i < row.n_members; i++) {
		uint32_t server = row.members[i].server;
		struct row_on_server on;
		r = state_get_row_on_server(c->st, key_on_server(server, id), &on, &backing);
		if (r < 0)
			return r;
		if (r == 0 || on.version != row.version)
			wrong(c, "chunk %016" PRIx64 ": server %u's row is missing or differs", id,
			      server);
		if (has_row(c, key_garbage(server, id)) == 1)
			wrong(c, "chunk %016" PRIx64 " is garbage on its member %u", id, server);
		for (unsigned j = 0; j < i; j++)
			if (row.members[j].server == server)
				wrong(c, "chunk %016" PRIx64 " has server %u twice", id, server);
	}
	r = state_get_row_policy(c->st, key_policy(row.policy), &policy, &backing);
	if (r <= 0)
		return r < 0 ? r : ERR_CORRUPT;
	for (uint8_t n = 0; n <= REPLICAS_MAX; n++)
		if (has_row(c, key_under_goal(n, id)) !=
		    (n == row.n_members && row.n_members < policy.copies))
			wrong(c, "chunk %016" PRIx64 ": wrong under-goal row for %u copies", id, n);
	if (has_row(c, key_pending(id)) != (row.pending_version != 0))
		wrong(c, "chunk %016" PRIx64 ": wrong pending row", id);
	if (row.pending_version && row.pending_version != row.version + 1)
		wrong(c, "chunk %016" PRIx64 " is pending from %u to %u", id, row.version,
		      row.pending_version);
	return 0;
}

static int check_on_server(struct check *c, struct slice key, struct slice value)
{
	_cleanup_buf_ struct buf backing = {0};
	uint32_t server = get_be32(key.data + 1);
	uint64_t id = get_be64(key.data + 5);
	struct row_chunk row;
	int r = state_get_row_chunk(c->st, key_chunk(id), &row, &backing);

	if (r < 0)
		return r;
	for (unsigned i = 0; r == 1 && i < row.n_members; i++)
		if (row.members[i].server == server)
			return 0;
	wrong(c, "server %u has a row for chunk %016" PRIx64 " and is no member", server, id);
	return 0;
}

static int count_under_goal(struct check *c, struct slice key, struct slice value)
{
	c->under_goal++;
	return 0;
}
static int count_pending(struct check *c, struct slice key, struct slice value)
{
	c->pending++;
	return 0;
}
static int count_garbage(struct check *c, struct slice key, struct slice value)
{
	c->garbage++;
	return 0;
}
static int count_session(struct check *c, struct slice key, struct slice value)
{
	c->sessions++;
	return 0;
}

static void check_counter(struct check *c, const char *name, uint64_t meta, uint64_t rows)
{
	if (meta != rows)
		wrong(c, "meta says %" PRIu64 " %s, there are %" PRIu64, meta, name, rows);
}

int schema_check(struct state *st, struct buf *report, unsigned max)
{
	_cleanup_buf_ struct buf backing = {0};
	struct check c = {.st = st, .report = report, .max = max};
	int r = ns_meta(st, &c.meta, &backing);

	if (r < 0)
		return r;
	static const struct { uint8_t type; row_fn fn; } passes[] = {
		{KEY_INODE, check_inode}, {KEY_DENTRY, check_dentries},
		{KEY_FILE_CHUNK, check_file_chunk}, {KEY_CHUNK, check_chunk},
		{KEY_ON_SERVER, check_on_server}, {KEY_UNDER_GOAL, count_under_goal},
		{KEY_PENDING, count_pending}, {KEY_GARBAGE, count_garbage},
		{KEY_SESSION, count_session},
	};
	for (size_t i = 0; i < ARRAY_LEN(passes); i++) {
		r = each_type(&c, passes[i].type, passes[i].fn);
		if (r < 0)
			return r;
	}
	check_counter(&c, "inodes", c.meta.inodes, c.inodes);
	check_counter(&c, "chunks", c.meta.chunks, c.chunks);
	check_counter(&c, "chunks under goal", c.meta.under_goal, c.under_goal);
	check_counter(&c, "pending raises", c.meta.pending, c.pending);
	check_counter(&c, "garbage rows", c.meta.garbage, c.garbage);
	check_counter(&c, "sessions", c.meta.sessions, c.sessions);
	return c.wrong;
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
