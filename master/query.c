#include "master/query.h"

#include <sys/stat.h>

#include "common/cleanup.h"
#include "master/access.h"
#include "master/ns.h"

static int no_inode(struct err *err, int r, uint64_t inode)
{
	return err_set(err, r, "inode %llx: %s", (unsigned long long)inode, err_text(r));
}

int query_getattr(struct state *st, uint64_t inode, struct wire_attr *ret, struct err *err)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	int r = ns_inode(st, inode, &row, &backing);

	if (r < 0)
		return no_inode(err, r, inode);
	ns_attr(inode, &row, ret);
	return 0;
}

static int query_dir(struct state *st, uint64_t inode, struct row_inode *ret, struct buf *backing,
		     struct err *err)
{
	int r = ns_inode(st, inode, ret, backing);
	if (r == 0 && !S_ISDIR(ret->mode))
		r = ERR_NOTDIR;
	return r < 0 ? no_inode(err, r, inode) : 0;
}

int query_lookup(struct state *st, const struct wire_name_ref *req, struct wire_attr_reply *ret,
		 struct err *err)
{
	_cleanup_buf_ struct buf backing = {0}, meta_backing = {0};
	struct row_inode dir;
	struct row_meta meta;
	struct ns_slot slot;
	uint64_t inode = 0;
	int r = query_dir(st, req->parent, &dir, &backing, err);

	if (r < 0)
		return r;
	if (slice_eq(req->name, SLICE_LIT(".")))
		return query_getattr(st, req->parent, &ret->attr, err);
	if (slice_eq(req->name, SLICE_LIT("..")))
		return query_getattr(st, access_is_root(st, &req->cred, req->parent) ? req->parent
										: dir.parent,
				     &ret->attr, err);
	r = ns_name_check(req->name);
	if (r < 0)
		return err_set(err, r, "name of %u bytes: %s", req->name.len, err_text(r));
	r = ns_meta(st, &meta, &meta_backing);
	if (r == 0)
		r = ns_slot_find(st, &meta, req->parent, req->name, &slot);
	if (r < 0)
		return err_set(err, r, "lookup: %s", err_text(r));
	if (slot.at >= 0)
		inode = slot.row.entries[slot.at].inode;
	ns_slot_release(&slot);
	if (!inode)
		return err_set(err, ERR_NOENT, "%.*s: %s", (int)req->name.len,
			       (const char *)req->name.data, err_text(ERR_NOENT));
	r = query_getattr(st, inode, &ret->attr, err);
	return r == ERR_NOENT ? ERR_CORRUPT : r;
}

/* ---- readdir ---- */

struct page {
	struct buf *out;
	uint32_t max;
	uint8_t flags; /* READDIR_* */
	const struct wire_cred *cred;
	const struct query_grant *grant;
	unsigned n;
	bool full;
};

static void page_put_name(struct page *page, const struct row_dentry *row, uint64_t cookie)
{
	struct wire_name e = {.cookie = cookie, .inode = row->inode, .type = row->type,
			      .name = row->name};
	WIRE_LIST_PUT(wire_name, page->out, &e);
}

/* The lease is entered before the inode is read, as everywhere. */
static int page_put(struct state *st, struct page *page, const struct row_dentry *row,
		    uint64_t cookie)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_dirent e = {.cookie = cookie, .name = row->name};
	struct row_inode inode;
	int r;

	if (page->flags & READDIR_NAMES) {
		page_put_name(page, row, cookie);
		return buf_status(page->out);
	}
	/* A name from before the export was one, of a file that is counted elsewhere. */
	r = access_inode(st, page->cred, row->inode);
	if (r < 0)
		return r == ERR_NOENT ? 0 : r;
	if ((page->flags & READDIR_LEASE) && page->grant)
		e.leased = page->grant->fn(page->grant->arg, row->inode);
	r = ns_inode(st, row->inode, &inode, &backing);
	if (r < 0)
		return r == ERR_NOENT ? ERR_CORRUPT : r;
	ns_attr(row->inode, &inode, &e.attr);
	WIRE_LIST_PUT(wire_dirent, page->out, &e);
	return buf_status(page->out);
}

/* Adds the names of one cookie. They go out together or not at all, as the next page begins behind
 * the last cookie: those that come first on a page go out even when they are more than it may hold
 * (DENTRIES_PER_HASH_MAX names at most). */
static int page_add(struct state *st, struct page *page, const struct row_dentries *row,
		    uint64_t cookie)
{
	size_t before = page->out->len;
	int r = 0;

	for (int i = 0; i < row->n_entries && r == 0; i++)
		r = page_put(st, page, &row->entries[i], cookie);
	if (r < 0)
		return r;
	if (page->n > 0 && page->out->len > page->max) {
		page->out->len = before;
		page->full = true;
	} else {
		page->n++;
	}
	return 0;
}

static int page_add_dot(struct state *st, struct page *page, struct slice name, uint64_t inode,
			uint64_t cookie)
{
	struct row_dentries row = {.n_entries = 1, .entries = {{name, inode, S_IFDIR}}};
	return page_add(st, page, &row, cookie);
}

static int page_add_row(struct state *st, struct page *page, struct slice key, struct slice value)
{
	struct cursor c = cursor_slice(value);
	struct row_dentries row;

	if (key.len != 17 || row_dentries_get(&c, &row) < 0)
		return ERR_CORRUPT;
	return page_add(st, page, &row, get_be64(key.data + 9));
}

int query_readdir(struct state *st, const struct wire_readdir *req,
		  const struct query_grant *grant, struct wire_readdir_reply *ret,
		  struct buf *backing, struct err *err)
{
	_cleanup_buf_ struct buf dir_backing = {0};
	struct page page = {.out = backing, .max = req->max_bytes, .flags = req->flags,
			    .cred = &req->cred, .grant = grant};
	struct key prefix = key_prefix(key_dentry(req->inode, 0), 9);
	struct key start = key_dentry(req->inode, req->cookie + 1);
	struct slice key, value;
	struct state_iter *it = NULL;
	struct row_inode dir;
	int r = query_dir(st, req->inode, &dir, &dir_backing, err);

	if (r < 0)
		return r;
	if (access_is_root(st, &req->cred, req->inode))
		dir.parent = req->inode;
	if (req->cookie > INT64_MAX)
		return err_set(err, ERR_INVAL, "no such directory position");
	buf_clear(backing);
	if (page.max > READDIR_BYTES_MAX)
		page.max = READDIR_BYTES_MAX;
	if (req->cookie < 1)
		r = page_add_dot(st, &page, SLICE_LIT("."), req->inode, 1);
	if (r == 0 && req->cookie < 2 && !page.full)
		r = page_add_dot(st, &page, SLICE_LIT(".."), dir.parent, 2);
	if (r == 0)
		r = state_iter_open(st, key_slice(&prefix), key_slice(&start), &it);
	while (r == 0 && !page.full) {
		int more = state_iter_next(it, &key, &value);
		if (more <= 0) {
			r = more;
			ret->eof = more == 0;
			break;
		}
		r = page_add_row(st, &page, key, value);
	}
	state_iter_close(it);
	if (r < 0)
		return err_set(err, r, "directory %llx: %s", (unsigned long long)req->inode,
			       err_text(r));
	ret->entries = buf_slice(backing);
	ns_attr(req->inode, &dir, &ret->attr);
	return 0;
}

/* ---- links, attributes ---- */

int query_readlink(struct state *st, uint64_t inode, struct wire_readlink_reply *ret,
		   struct buf *backing, struct err *err)
{
	struct row_inode row;
	int r = ns_inode(st, inode, &row, backing);

	if (r == 0 && !S_ISLNK(row.mode))
		r = ERR_INVAL;
	if (r < 0)
		return no_inode(err, r, inode);
	ret->target = row.target;
	ns_attr(inode, &row, &ret->attr);
	return 0;
}

int query_xattr_get(struct state *st, const struct wire_xattr_get *req,
		    struct wire_xattr_reply *ret, struct buf *backing, struct err *err)
{
	struct row_inode row;
	struct key key;
	int r = ns_inode(st, req->inode, &row, backing);

	if (r < 0)
		return no_inode(err, r, req->inode);
	r = ns_xattr_name_check(req->name);
	if (r < 0)
		return err_set(err, r, "attribute name of %u bytes: %s", req->name.len,
			       err_text(r));
	key = key_xattr(req->inode, req->name);
	r = state_get(st, key_slice(&key), backing);
	if (r <= 0)
		return no_inode(err, r < 0 ? r : ERR_NODATA, req->inode);
	ret->value = buf_slice(backing);
	return 0;
}

int query_xattr_list(struct state *st, const struct wire_inode_ref *req,
		     struct wire_xattr_reply *ret, struct buf *backing, struct err *err)
{
	struct key prefix = key_prefix(key_xattr(req->inode, (struct slice){0}), 9);
	struct slice key, value;
	struct state_iter *it;
	struct row_inode row;
	int r = ns_inode(st, req->inode, &row, backing);

	if (r == 0)
		r = state_iter_open(st, key_slice(&prefix), (struct slice){0}, &it);
	if (r < 0)
		return no_inode(err, r, req->inode);
	buf_clear(backing);
	while ((r = state_iter_next(it, &key, &value)) == 1) {
		struct slice name = slice_of(key.data + 9, key.len - 9);
		if (access_hides_xattr(&req->cred, name))
			continue;
		buf_append_slice(backing, name);
		buf_u8(backing, 0);
		if (backing->len > XATTR_LIST_BYTES_MAX) {
			r = ERR_TOOBIG;
			break;
		}
	}
	state_iter_close(it);
	if (r == 0)
		r = buf_status(backing);
	if (r < 0)
		return no_inode(err, r, req->inode);
	ret->value = buf_slice(backing);
	return 0;
}

/* ---- chunks ---- */

/* 1 and the chunk at index, 0 a hole. */
static int chunk_at(struct state *st, uint64_t inode, uint64_t index, struct wire_chunk *ret,
		    uint64_t *ret_pending)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_file_chunk ref;
	struct row_chunk row;
	uint32_t blocks;
	int r = state_get_row_file_chunk(st, key_file_chunk(inode, index), &ref, &backing);

	*ret = (struct wire_chunk){.index = index};
	if (r <= 0)
		return r;
	blocks = ret->blocks = ns_space_blocks(&ref);
	if (!ref.chunk)
		return 0;
	r = state_get_row_chunk(st, key_chunk(ref.chunk), &row, &backing);
	if (r <= 0)
		return r < 0 ? r : ERR_CORRUPT;
	ns_chunk(ref.chunk, index, &row, ret);
	ret->blocks = blocks;
	if (row.pending_version && ret_pending)
		*ret_pending = ref.chunk;
	return 1;
}

/* The first chunk from `from` on of which the file has anything. */
static int next_chunk(struct state *st, uint64_t inode, uint64_t from, uint64_t *ret)
{
	struct key prefix = key_prefix(key_file_chunk(inode, 0), 9);
	struct key start = key_file_chunk(inode, from);
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(st, key_slice(&prefix), key_slice(&start), &it);

	if (r < 0)
		return r;
	r = state_iter_next(it, &key, &value);
	if (r == 1 && key.len != 17)
		r = ERR_CORRUPT;
	if (r >= 0)
		*ret = r == 1 ? get_be64(key.data + 9) : LOCATE_NO_MORE;
	state_iter_close(it);
	return r < 0 ? r : 0;
}

int query_locate(struct state *st, const struct wire_locate *req, struct wire_locate_reply *ret,
		 uint64_t *ret_pending, struct err *err)
{
	int r = query_getattr(st, req->inode, &ret->attr, err);

	if (ret_pending)
		*ret_pending = 0;
	if (r < 0)
		return r;
	ret->n_chunks = 0;
	ret->next = 0;
	if (!S_ISREG(ret->attr.mode))
		return err_set(err, S_ISDIR(ret->attr.mode) ? ERR_ISDIR : ERR_INVAL,
			       "inode %llx is no regular file", (unsigned long long)req->inode);
	while (ret->n_chunks < req->count && ret->n_chunks < CHUNKS_PER_LOCATE_MAX) {
		uint64_t index = req->first + ret->n_chunks;
		/* Past the end there is nothing to tell. */
		if (index > (ret->attr.size ? ret->attr.size - 1 : 0) >> ret->attr.chunk_bits)
			break;
		r = chunk_at(st, req->inode, index, &ret->chunks[ret->n_chunks], ret_pending);
		if (r < 0)
			return no_inode(err, r, req->inode);
		ret->n_chunks++;
	}
	if (ret->n_chunks == 0 || ret->chunks[ret->n_chunks - 1].id)
		return 0;
	r = next_chunk(st, req->inode, req->first + ret->n_chunks, &ret->next);
	return r < 0 ? no_inode(err, r, req->inode) : 0;
}

int query_chunk_at(struct state *st, uint64_t inode, uint64_t index, struct wire_chunk *ret,
		   uint64_t *ret_pending, struct err *err)
{
	int r;

	if (ret_pending)
		*ret_pending = 0;
	r = chunk_at(st, inode, index, ret, ret_pending);
	return r < 0 ? no_inode(err, r, inode) : r;
}

uint64_t query_quota_left(struct state *st, uint64_t inode)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	struct row_quota q;
	uint32_t id = ns_inode(st, inode, &row, &backing) == 0 ? row.project : 0;
	uint64_t least = UINT64_MAX;

	for (; id && state_get_row_quota(st, key_quota(id), &q, &backing) == 1; id = q.parent) {
		uint64_t used = q.blocks * BLOCK_BYTES;
		uint64_t left = used < q.bytes_max ? q.bytes_max - used : 0;
		if (q.bytes_max && left < least)
			least = left;
	}
	return least;
}

int query_reply(struct state *st, const struct wire_opid *id, struct row_reply *ret,
		struct buf *backing, struct err *err)
{
	struct row_session session;
	int r = state_get_row_session(st, key_session(id->session), &session, backing);

	if (r == 0 || (r == 1 && (session.closing || id->seq < session.floor)))
		return err_set(err, ERR_STALE, "session %llx has expired",
			       (unsigned long long)id->session);
	if (r < 0)
		return r;
	return state_get_row_reply(st, key_reply(id->session, id->seq), ret, backing);
}
