/* Attributes: modes and owners, times, sizes, extended attributes and access control lists. */
#include "master/apply_priv.h"

#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "master/access.h"
#include "master/acl.h"

/* ---- helpers ---- */

void apply_touch(struct apply *a, struct row_inode *row, bool content)
{
	/* Strictly later: the kernel drops a file's pages when mtime or size has changed. */
	if (content) {
		struct when next = row->mtime;
		if (++next.nsec == 1000000000)
			next = (struct when){next.sec + 1, 0};
		bool soon = when_cmp(next, a->now) > 0 && next.sec <= a->now.sec + 1;
		row->mtime = soon ? next : a->now;
	}
	row->ctime = a->now;
	row->change++;
}

int apply_inode_get(struct apply *a, uint64_t inode, struct row_inode *ret, struct buf *backing)
{
	int r = ns_inode(a->st, inode, ret, backing);
	return r == ERR_NOENT ? apply_refuse(a, r, "inode %llx is gone", (unsigned long long)inode)
			      : r;
}

void apply_inode_put(struct apply *a, uint64_t inode, const struct row_inode *row)
{
	state_put_row_inode(a->st, key_inode(inode), row);
}

int apply_xattrs_remove(struct apply *a, uint64_t inode)
{
	struct key prefix = key_prefix(key_xattr(inode, (struct slice){0}), 9);
	_cleanup_free_ struct key *keys = malloc(XATTRS_MAX * sizeof(*keys));
	int n = keys ? apply_keys(a, &prefix, keys, XATTRS_MAX) : ERR_NOMEM;

	for (int i = 0; i < n; i++)
		state_del(a->st, key_slice(&keys[i]));
	return n < 0 ? n : 0;
}

/* ---- attributes ---- */

/* Nothing of the file's chunks is left beyond `size`: 1, 0: something still is, or negative.
 * keep_space: what was set aside there stays so. */
static int cut_chunks(struct apply *a, uint64_t inode, struct row_inode *row, uint64_t size,
		      bool keep_space)
{
	uint64_t chunk_bytes = 1ULL << row->chunk_bits;
	unsigned budget = CHUNKS_FREED_MAX;
	_cleanup_buf_ struct buf backing = {0};
	struct row_file_chunk ref;
	int r = chunks_free_from(a, inode, row, (size + chunk_bytes - 1) / chunk_bytes, keep_space,
				 &budget);

	if (r <= 0 || size % chunk_bytes == 0)
		return r;
	if (!keep_space)
		r = space_cut(a, inode, row, size);
	if (r < 0)
		return r;
	r = state_get_row_file_chunk(a->st, key_file_chunk(inode, size / chunk_bytes), &ref,
				     &backing);
	if (r == 1 && ref.chunk)
		r = chunk_cut(a, ref.chunk, size % chunk_bytes);
	return r < 0 ? r : 1;
}

int file_fence(struct apply *a, uint64_t inode)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	int r = ns_inode(a->st, inode, &row, &backing);

	if (r == ERR_NOENT || (r == 0 && !S_ISREG(row.mode)))
		return 1;
	if (r == 0)
		r = cut_chunks(a, inode, &row, row.size, true);
	if (r < 0)
		return r;
	/* Others that write behind the end at this moment notice by it that their chunks went. */
	row.change++;
	apply_inode_put(a, inode, &row);
	return r;
}

static int set_size(struct apply *a, uint64_t inode, struct row_inode *row, uint64_t size,
		    uint64_t session)
{
	int r;

	if (!S_ISREG(row->mode))
		return S_ISDIR(row->mode) ? ERR_ISDIR : ERR_INVAL;
	if (size > FILE_BYTES_MAX)
		return ERR_FBIG;
	/* Also where it grows: behind the old end there may be bytes of a write that was never completed,
	 * which must not appear. */
	r = cut_chunks(a, inode, row, size < row->size ? size : row->size, size > row->size);
	/* A step of the master (setattr_step): the next one goes on. */
	if (r == 0 && size == row->size && session == 0)
		r = 1;
	if (r <= 0)
		return r < 0 ? r : apply_refuse(a, ERR_TOOBIG, "more than %d chunks lie beyond the "
						"end", CHUNKS_FREED_MAX);
	row->size = size;
	apply_touch(a, row, true);
	return 0;
}

/* Capabilities go with what they were given to (Linux: security_inode_killpriv). */
static int drop_capabilities(struct apply *a, uint64_t inode, const struct row_inode *row)
{
	_cleanup_buf_ struct buf value = {0};
	struct key key = key_xattr(inode, XATTR_CAPABILITY);
	int r = S_ISREG(row->mode) ? state_get(a->st, key_slice(&key), &value) : 0;

	if (r == 1)
		state_del(a->st, key_slice(&key));
	return r < 0 ? r : 0;
}

int apply_strip(struct apply *a, const struct wire_cred *cred, uint64_t inode,
		struct row_inode *row)
{
	int what = access_strips(a->st, cred, inode), r = 0;

	if (what <= 0)
		return what;
	if (what & ACCESS_STRIPS_SET_ID)
		row->mode = ns_drop_set_id(row->mode);
	if (what & ACCESS_STRIPS_CAPABILITY)
		r = drop_capabilities(a, inode, row);
	apply_touch(a, row, false);
	apply_inode_put(a, inode, row);
	return r;
}

/* A read: no change of the file, so neither ctime nor `change` move. */
static void set_accessed(struct apply *a, uint64_t inode, struct row_inode *row)
{
	if (when_cmp(a->now, row->atime) <= 0)
		return;
	row->atime = a->now;
	apply_inode_put(a, inode, row);
}

static int set_owner(struct apply *a, const struct wire_setattr *req, struct row_inode *row)
{
	if (req->mask & SET_UID)
		row->uid = req->uid;
	if (req->mask & SET_GID)
		row->gid = req->gid;
	row->mode = ns_drop_set_id(row->mode);
	return drop_capabilities(a, req->inode, row);
}

static int set_mode(struct apply *a, const struct wire_setattr *req, struct row_inode *row)
{
	row->mode = (row->mode & S_IFMT) | (req->mode & 07777);
	if (access_drops_setgid(&req->cred, row->gid))
		row->mode &= ~(uint32_t)S_ISGID;
	return apply_acl_follow_mode(a, req->inode, row);
}

static void set_times(struct apply *a, const struct wire_setattr *req, struct row_inode *row)
{
	if (req->mask & (SET_ATIME | SET_ATIME_NOW))
		row->atime = req->mask & SET_ATIME_NOW ? a->now : req->atime;
	if (req->mask & (SET_MTIME | SET_MTIME_NOW))
		row->mtime = req->mask & SET_MTIME_NOW ? a->now : req->mtime;
}

int apply_setattr(struct apply *a, const struct cmd_setattr *m, struct wire_attr_reply *rep)
{
	const struct wire_setattr *req = &m->req;
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	int r = apply_inode_get(a, req->inode, &row, &backing);

	if (r == 0 && ((req->mask & ~(uint32_t)SET_ALL) ||
		       ((req->mask & SET_ACCESSED) && req->mask != SET_ACCESSED)))
		r = ERR_INVAL;
	if (r == 0 && (req->mask & SET_SIZE)) {
		r = set_size(a, req->inode, &row, req->size, req->id.session);
		if (r == 0)
			r = drop_capabilities(a, req->inode, &row);
		if (req->cred.uid != 0)
			row.mode = ns_drop_set_id(row.mode);
	}
	if (r < 0)
		return r;
	if (req->mask == SET_ACCESSED) {
		set_accessed(a, req->inode, &row);
		ns_attr(req->inode, &row, &rep->attr);
		return 0;
	}
	if (req->mask & (SET_UID | SET_GID))
		r = set_owner(a, req, &row);
	if (r == 0 && (req->mask & SET_MODE))
		r = set_mode(a, req, &row);
	set_times(a, req, &row);
	apply_touch(a, &row, false);
	apply_inode_put(a, req->inode, &row);
	ns_attr(req->inode, &row, &rep->attr);
	return r;
}

static int xattrs_count(struct apply *a, uint64_t inode)
{
	struct key prefix = key_prefix(key_xattr(inode, (struct slice){0}), 9);
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(a->st, key_slice(&prefix), (struct slice){0}, &it), n = 0;

	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1)
		n++;
	state_iter_close(it);
	return r < 0 ? r : n;
}

static int xattr_put(struct apply *a, const struct wire_xattr_set *req)
{
	_cleanup_buf_ struct buf old = {0};
	struct key key = key_xattr(req->inode, req->name);
	int there = state_get(a->st, key_slice(&key), &old), n;

	if (there < 0)
		return there;
	if (there && (req->flags & XATTR_F_CREATE))
		return ERR_EXIST;
	if (!there && (req->flags & (XATTR_F_REPLACE | XATTR_F_REMOVE)))
		return ERR_NODATA;
	if (!there) {
		n = xattrs_count(a, req->inode);
		if (n < 0 || n >= XATTRS_MAX)
			return n < 0 ? n : ERR_NOSPC;
	}
	if (req->flags & XATTR_F_REMOVE)
		state_del(a->st, key_slice(&key));
	else
		state_put(a->st, key_slice(&key), req->value);
	return 0;
}

int apply_xattr_set(struct apply *a, const struct cmd_xattr_set *m, struct wire_empty *rep)
{
	const struct wire_xattr_set *req = &m->req;
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	int r = apply_inode_get(a, req->inode, &row, &backing);

	if (r == 0)
		r = ns_xattr_name_check(req->name);
	if (r < 0)
		return r;
	if (slice_starts(req->name, SLICE_LIT("user.")) && !S_ISREG(row.mode) &&
	    !S_ISDIR(row.mode))
		return ERR_PERM;
	if (req->value.len > XATTR_VALUE_BYTES_MAX)
		return ERR_TOOBIG;
	r = slice_eq(req->name, ACL_ACCESS) || slice_eq(req->name, ACL_DEFAULT)
		    ? apply_acl_set(a, req, &row) : xattr_put(a, req);
	if (r != 0)
		return r < 0 ? r : 0;
	row.bare = 0;
	apply_touch(a, &row, false);
	apply_inode_put(a, req->inode, &row);
	return 0;
}

/* Writes that were held back: the times that their client has told meanwhile. One whose idea of the time
 * is ahead of ours by more than the step of apply_touch is not believed. */
static void touch_held(struct apply *a, struct row_inode *row, const struct wire_wrote *req)
{
	struct when t = req->mtime;

	row->change++;
	if (req->flags & WROTE_KEEP_TIMES)
		return;
	if (t.sec > a->now.sec + 1)
		t = a->now;
	row->mtime = t;
	if (when_cmp(t, row->ctime) > 0)
		row->ctime = t;
}

int apply_wrote(struct apply *a, const struct cmd_wrote *m, struct wire_attr_reply *rep)
{
	const struct wire_wrote *req = &m->req;
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	bool keep;
	int r = apply_inode_get(a, req->inode, &row, &backing);

	if (r < 0)
		return r;
	if (S_ISDIR(row.mode))
		return ERR_ISDIR;
	keep = req->flags & WROTE_KEEP_PRIV;
	if (!S_ISREG(row.mode) || req->end < req->offset ||
	    ((req->flags & WROTE_HOLE) && (req->flags & WROTE_SET_ASIDE)))
		return ERR_INVAL;
	if (req->end > FILE_BYTES_MAX)
		return ERR_FBIG;
	if (req->end > req->offset &&
	    ((req->end - 1) >> row.chunk_bits) - (req->offset >> row.chunk_bits) >=
		    WROTE_CHUNKS_MAX)
		return ERR_TOOBIG;
	r = req->flags & WROTE_APPEND ? append_check(a, req, &row) : 0;
	/* Where no bytes were written no chunk is marked by it. */
	if (r == 0 && !(req->flags & WROTE_SET_ASIDE) &&
	    !((req->flags & WROTE_HOLE) && req->n_chunks == 0))
		r = chunks_mark_written(a, req, &row);
	if (r == 0)
		r = space_wrote(a, req, &row);
	if (r == 0 && !(keep && access_keeps_capability(&req->cred)))
		r = drop_capabilities(a, req->inode, &row);
	if (r < 0)
		return r;
	if (req->flags & WROTE_APPEND_END)
		append_end(a, req);
	if (req->end > row.size && !(req->flags & WROTE_KEEP_SIZE))
		row.size = req->end;
	if (req->cred.uid != 0 &&
	    !(keep && access_keeps_set_id(&req->cred, row.mode, row.uid, row.gid)))
		row.mode = ns_drop_set_id(row.mode);
	if (req->flags & WROTE_HELD)
		touch_held(a, &row, req);
	else
		apply_touch(a, &row, true);
	apply_inode_put(a, req->inode, &row);
	ns_attr(req->inode, &row, &rep->attr);
	return 0;
}
