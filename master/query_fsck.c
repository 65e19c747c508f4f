#include "master/query_fsck.h"

#include <sys/stat.h>

#include "common/cleanup.h"

enum { PATH_DEPTH_MAX = 256 };

/* ---- paths ---- */

/* The name in `dir` that points at inode, appended: 1, 0 or negative. */
static int name_in(struct state *st, uint64_t dir, uint64_t inode, unsigned *budget,
		   struct buf *ret)
{
	struct key prefix = key_prefix(key_dentry(dir, 0), 9);
	struct state_iter *it;
	struct slice key, value;
	bool found = false;
	int r = state_iter_open(st, key_slice(&prefix), (struct slice){0}, &it);

	if (r < 0)
		return r;
	while (!found && *budget > 0 && (r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		struct row_dentries row;
		if (row_dentries_get(&c, &row) < 0) {
			r = ERR_CORRUPT;
			break;
		}
		--*budget;
		for (int i = 0; i < row.n_entries && !found; i++) {
			found = row.entries[i].inode == inode;
			if (found)
				buf_append_slice(ret, row.entries[i].name);
		}
	}
	state_iter_close(it);
	return r < 0 ? r : found;
}

/* The names from the inode up to the root: 1, 0 or negative. */
static int names_up(struct state *st, uint64_t inode, unsigned *budget, struct slice *ret,
		    unsigned *ret_n, struct buf *names)
{
	size_t starts[PATH_DEPTH_MAX];
	unsigned n = 0;

	while (inode != ROOT_INODE) {
		_cleanup_buf_ struct buf backing = {0};
		struct row_inode row;
		int r = ns_inode(st, inode, &row, &backing);
		if (r < 0)
			return r == ERR_NOENT ? 0 : r;
		if (n == PATH_DEPTH_MAX || row.nlink == 0 || names->len > FSCK_PATH_BYTES_MAX)
			return 0;
		starts[n++] = names->len;
		r = name_in(st, row.parent, inode, budget, names);
		if (r <= 0)
			return r;
		inode = row.parent;
	}
	if (buf_status(names) < 0)
		return ERR_NOMEM;
	for (unsigned i = 0; i < n; i++)
		ret[i] = slice_of(names->data + starts[i],
				  (i + 1 < n ? starts[i + 1] : names->len) - starts[i]);
	*ret_n = n;
	return 1;
}

int query_path(struct state *st, uint64_t inode, unsigned *budget, struct buf *ret)
{
	_cleanup_buf_ struct buf names = {0};
	struct slice list[PATH_DEPTH_MAX];
	unsigned n = 0;
	int r = names_up(st, inode, budget, list, &n, &names);

	if (r <= 0 || names.len + n > FSCK_PATH_BYTES_MAX)
		return r < 0 ? r : 0;
	if (n == 0)
		buf_u8(ret, '/');
	while (n > 0) {
		buf_u8(ret, '/');
		buf_append_slice(ret, list[--n]);
	}
	return buf_status(ret) < 0 ? ERR_NOMEM : 1;
}

/* ---- chunks ---- */

struct fsck {
	struct state *st;
	const struct fsck_view *view;
	struct wire_fsck_reply *ret;
	struct buf *rows;
	unsigned n_rows, max_rows, names;
	uint64_t path_of; /* the inode whose path is kept: a file's chunks follow each other */
	struct buf path;
	bool put_back; /* the chunk looked at last belongs to the next page */
};

static bool has_state(const struct wire_fsck_row *row, uint8_t state)
{
	for (unsigned i = 0; i < row->n_states; i++)
		if (row->states[i] == state)
			return true;
	return false;
}

static uint8_t problem_of(const struct wire_fsck_row *row, const struct row_chunk *chunk)
{
	unsigned away = 0;

	for (unsigned i = 0; i < row->n_states; i++)
		away += row->states[i] == FSCK_REPLICA_AWAY;
	/* What was never written to is not missed by anybody. */
	if (row->live == 0 && (chunk->flags & CHUNK_WRITTEN))
		return FSCK_MISSING;
	if (row->members - away < row->copies)
		return FSCK_UNDER_GOAL;
	/* What was open at a crash is likely whole: to call it damaged would alarm for nothing. */
	if (has_state(row, FSCK_REPLICA_DAMAGED))
		return FSCK_DAMAGED;
	if (has_state(row, FSCK_REPLICA_UNCLEAN))
		return FSCK_UNCLEAN;
	return chunk->pending_version ? FSCK_PENDING : 0;
}

static void row_fill(struct fsck *f, uint64_t chunk, const struct row_chunk *row,
		     uint32_t copies, struct wire_fsck_row *ret)
{
	*ret = (struct wire_fsck_row){
		.chunk = chunk, .version = row->version, .inode = row->inode, .index = row->index,
		.members = (uint8_t)row->n_members, .copies = (uint8_t)copies,
		.n_replicas = row->n_members, .n_states = row->n_members,
	};
	for (unsigned i = 0; i < row->n_members; i++) {
		uint32_t server = row->members[i].server;
		ret->states[i] = f->view->replica(f->view->ctx, chunk, server);
		ret->replicas[i] = (struct wire_replica){
			.server = server, .part = row->members[i].part,
			.addr = slice_str(f->view->addr(f->view->ctx, server))};
		ret->live += ret->states[i] == FSCK_REPLICA_GOOD ||
			     ret->states[i] == FSCK_REPLICA_UNCLEAN;
	}
	ret->problem = problem_of(ret, row);
}

static int path_fill(struct fsck *f, struct wire_fsck_row *row)
{
	if (row->inode != f->path_of) {
		int r;
		buf_clear(&f->path);
		f->path_of = row->inode;
		r = query_path(f->st, row->inode, &f->names, &f->path);
		if (r < 0)
			return r;
		if (r == 0)
			buf_clear(&f->path);
	}
	row->path = buf_slice(&f->path);
	return 0;
}

/* 1 when the page is full with it or before it. */
static int fsck_chunk(struct fsck *f, uint64_t chunk, const struct row_chunk *row)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_policy policy;
	struct row_inode file;
	struct wire_fsck_row out;
	int r = state_get_row_policy(f->st, key_policy(row->policy), &policy, &backing);

	if (r <= 0)
		return r < 0 ? r : ERR_CORRUPT;
	row_fill(f, chunk, row, policy.copies, &out);
	if (!out.problem)
		return 0;
	r = ns_inode(f->st, row->inode, &file, &backing);
	if (r == ERR_NOENT)
		return 0; /* it was removed and is being freed */
	if (r == 0)
		r = path_fill(f, &out);
	if (r < 0)
		return r;
	/* Those before it have used up what may be looked at: it comes first on the next page. */
	if (f->names == 0 && f->path.len == 0 && f->n_rows > 0) {
		f->put_back = true;
		return 1;
	}
	WIRE_LIST_PUT(wire_fsck_row, f->rows, &out);
	f->n_rows++;
	return f->n_rows == f->max_rows || f->rows->len > FSCK_ROWS_BYTES_MAX || f->names == 0;
}

static int fsck_page(struct fsck *f, uint64_t from)
{
	uint8_t type = KEY_CHUNK;
	struct key start = key_chunk(from);
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(f->st, slice_of(&type, 1), key_slice(&start), &it), full = 0;

	if (r < 0)
		return r;
	while (!full && (r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		struct row_chunk row;
		uint64_t chunk = get_be64(key.data + 1);
		if (key.len != 9 || row_chunk_get(&c, &row) < 0)
			full = ERR_CORRUPT;
		else
			full = fsck_chunk(f, chunk, &row);
		f->ret->next = chunk + !f->put_back;
		f->ret->looked_at -= f->put_back;
		if (++f->ret->looked_at == FSCK_CHUNKS_MAX && full == 0)
			full = 1;
	}
	state_iter_close(it);
	if (r == 0)
		f->ret->next = 0;
	return r < 0 ? r : full < 0 ? full : buf_status(f->rows);
}

int query_fsck(struct state *st, const struct fsck_view *view, const struct wire_fsck *req,
	       struct wire_fsck_reply *ret, struct buf *backing, struct err *err)
{
	struct fsck f = {.st = st, .view = view, .ret = ret, .rows = backing,
			 .max_rows = req->max_rows, .names = FSCK_NAMES_MAX};
	int r;

	if (f.max_rows == 0 || f.max_rows > FSCK_ROWS_MAX)
		f.max_rows = FSCK_ROWS_MAX;
	*ret = (struct wire_fsck_reply){0};
	buf_clear(backing);
	r = fsck_page(&f, req->from);
	buf_release(&f.path);
	if (r < 0)
		return err_set(err, r, "looking for chunks from %llx on: %s",
			       (unsigned long long)req->from, err_text(r));
	ret->rows = buf_slice(backing);
	return 0;
}
