/* Names and inodes: make, link, unlink, rename, attributes. */
#include "master/apply_priv.h"

#include <sys/stat.h>

#include "common/cleanup.h"

enum { RENAME_DEPTH_MAX = 100000 };

/* ---- helpers ---- */

static void touch(struct apply *a, struct row_inode *row, bool content)
{
	if (content)
		row->mtime = a->now;
	row->ctime = a->now;
	row->change++;
}

static int inode_get(struct apply *a, uint64_t inode, struct row_inode *ret, struct buf *backing)
{
	int r = ns_inode(a->st, inode, ret, backing);
	return r == ERR_NOENT ? apply_refuse(a, r, "inode %llx is gone", (unsigned long long)inode)
			      : r;
}

static void inode_put(struct apply *a, uint64_t inode, const struct row_inode *row)
{
	state_put_row_inode(a->st, key_inode(inode), row);
}

static int dir_get(struct apply *a, uint64_t inode, struct row_inode *ret, struct buf *backing)
{
	int r = inode_get(a, inode, ret, backing);
	if (r < 0)
		return r;
	return S_ISDIR(ret->mode) ? 0 : ERR_NOTDIR;
}

static int dentry_add(struct apply *a, struct ns_slot *slot, struct slice name, uint64_t inode,
		      uint32_t mode)
{
	struct row_dentries row = slot->row;

	if (row.n_entries == DENTRIES_PER_HASH_MAX)
		return apply_refuse(a, ERR_NOSPC, "too many names with one hash");
	row.entries[row.n_entries++] =
		(struct row_dentry){.name = name, .inode = inode, .type = mode & S_IFMT};
	state_put_row_dentries(a->st, slot->key, &row);
	return 0;
}

static void dentry_remove(struct apply *a, struct ns_slot *slot)
{
	struct row_dentries row = slot->row;

	for (int i = slot->at; i + 1 < row.n_entries; i++)
		row.entries[i] = row.entries[i + 1];
	if (--row.n_entries > 0)
		state_put_row_dentries(a->st, slot->key, &row);
	else
		state_del(a->st, key_slice(&slot->key));
}

static void dentry_retarget(struct apply *a, struct ns_slot *slot, uint64_t inode, uint32_t mode)
{
	slot->row.entries[slot->at].inode = inode;
	slot->row.entries[slot->at].type = mode & S_IFMT;
	state_put_row_dentries(a->st, slot->key, &slot->row);
}

static int name_check(struct apply *a, struct slice name)
{
	int r = ns_name_check(name);
	return r < 0 ? apply_refuse(a, r, "name of %u bytes: %s", name.len, err_text(r)) : 0;
}

/* ---- the end of a file ---- */

static int xattrs_remove(struct apply *a, uint64_t inode)
{
	struct key prefix = key_prefix(key_xattr(inode, (struct slice){0}), 9);
	_cleanup_free_ struct key *keys = malloc(XATTRS_MAX * sizeof(*keys));
	struct state_iter *it;
	struct slice key, value;
	unsigned n = 0;
	int r;

	if (!keys)
		return ERR_NOMEM;
	r = state_iter_open(a->st, key_slice(&prefix), (struct slice){0}, &it);
	if (r < 0)
		return r;
	while (n < XATTRS_MAX && (r = state_iter_next(it, &key, &value)) == 1) {
		memcpy(keys[n].bytes, key.data, key.len);
		keys[n++].len = key.len;
	}
	state_iter_close(it);
	for (unsigned i = 0; i < n; i++)
		state_del(a->st, key_slice(&keys[i]));
	return r < 0 ? r : 0;
}

/* No name and no holder is left: rows go, chunks are freed, as many as one command may. */
static int inode_remove(struct apply *a, uint64_t inode, const struct row_inode *row)
{
	struct key key = key_inode(inode);
	unsigned budget = CHUNKS_FREED_MAX;
	int r = xattrs_remove(a, inode);

	if (r < 0)
		return r;
	state_del(a->st, key_slice(&key));
	a->meta.inodes--;
	if (!S_ISREG(row->mode))
		return 0;
	r = chunks_free_from(a, inode, 0, &budget);
	if (r == 0) {
		struct row_reclaim rest = {.from_index = 0};
		state_put_row_reclaim(a->st, key_reclaim(inode), &rest);
		a->res->reclaim = true;
	}
	return r < 0 ? r : 0;
}

/* One name less. At the last one the file goes, unless the asking session holds it open. */
static int inode_unname(struct apply *a, uint64_t inode, struct row_inode *row, uint64_t session,
			uint64_t hold)
{
	touch(a, row, false);
	if (S_ISDIR(row->mode))
		row->nlink = 0;
	else
		row->nlink--;
	if (row->nlink > 0) {
		inode_put(a, inode, row);
		return 0;
	}
	if (hold == inode && session) {
		struct key held = key_held(session, inode);
		state_put(a->st, key_slice(&held), (struct slice){0});
		inode_put(a, inode, row);
		return 0;
	}
	return inode_remove(a, inode, row);
}

/* Whether any session holds it: `o` rows are few, one for each unlinked open file. */
static int is_held(struct apply *a, uint64_t inode)
{
	uint8_t type = KEY_HELD;
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(a->st, slice_of(&type, 1), (struct slice){0}, &it), found = 0;

	if (r < 0)
		return r;
	while (!found && (r = state_iter_next(it, &key, &value)) == 1)
		found = key.len == 17 && get_be64(key.data + 9) == inode;
	state_iter_close(it);
	return r < 0 ? r : found;
}

int apply_unhold(struct apply *a, uint64_t session, uint64_t inode)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key held = key_held(session, inode);
	struct row_inode row;
	int r = state_get(a->st, key_slice(&held), &backing);

	if (r <= 0)
		return r; /* not held: nothing to do */
	state_del(a->st, key_slice(&held));
	r = ns_inode(a->st, inode, &row, &backing);
	if (r == ERR_NOENT || (r == 0 && row.nlink > 0))
		return 0;
	if (r == 0)
		r = is_held(a, inode);
	return r == 0 ? inode_remove(a, inode, &row) : r < 0 ? r : 0;
}

int apply_release(struct apply *a, const struct cmd_release *m, struct wire_empty *rep)
{
	return apply_unhold(a, m->req.id.session, m->req.inode);
}

/* ---- make ---- */

int apply_format(struct apply *a, const struct cmd_format *m, struct wire_empty *rep)
{
	struct row_policy policy = {.copies = m->copies};
	struct row_inode root = {
		.mode = S_IFDIR | 0755, .nlink = 2, .uid = m->uid, .gid = m->gid,
		.atime = a->now, .mtime = a->now, .ctime = a->now, .btime = a->now,
		.parent = ROOT_INODE, .chunk_bits = CHUNK_BITS_DEFAULT, .change = 1,
	};

	if (a->meta.next_inode)
		return apply_refuse(a, ERR_EXIST, "this cluster is formatted already");
	if (m->cluster.len != UUID_BYTES || m->hash_key.len != HASH_KEY_BYTES ||
	    m->copies < 1 || m->copies > REPLICAS_MAX)
		return ERR_INVAL;
	a->meta = (struct row_meta){
		.level = SCHEMA_LEVEL, .cluster = m->cluster, .hash_key = m->hash_key,
		.next_inode = ROOT_INODE + 1, .next_chunk = 1, .next_session = 1,
		.next_server = 1, .inodes = 1,
	};
	inode_put(a, ROOT_INODE, &root);
	state_put_row_policy(a->st, key_policy(0), &policy);
	return 0;
}

static int make_check(struct apply *a, const struct wire_make *req)
{
	uint32_t type = req->mode & S_IFMT;
	int r = name_check(a, req->name);

	if (r < 0)
		return r;
	if (type != S_IFREG && type != S_IFDIR && type != S_IFLNK && type != S_IFIFO &&
	    type != S_IFSOCK && type != S_IFCHR && type != S_IFBLK)
		return apply_refuse(a, ERR_INVAL, "file type %o", type);
	if (type == S_IFLNK && req->target.len == 0)
		return ERR_NOENT;
	if (req->target.len > (type == S_IFLNK ? SYMLINK_BYTES_MAX : 0))
		return ERR_NAMETOOLONG;
	if (req->target.len && memchr(req->target.data, '\0', req->target.len))
		return ERR_INVAL;
	return 0;
}

static void make_row(struct apply *a, const struct cmd_make *m, uint64_t parent,
		     const struct row_inode *dir, struct row_inode *ret)
{
	const struct wire_make *req = &m->req;

	*ret = (struct row_inode){
		.mode = req->mode & (S_IFMT | 07777), .uid = req->cred.uid, .gid = req->cred.gid,
		.nlink = S_ISDIR(req->mode) ? 2 : 1, .size = req->target.len,
		.atime = a->now, .mtime = a->now, .ctime = a->now, .btime = a->now, .change = 1,
		.parent = parent, .project = dir->project, .policy = dir->policy,
		.chunk_bits = m->chunk_bits ? m->chunk_bits : dir->chunk_bits,
		.target = req->target,
	};
	if (S_ISCHR(req->mode) || S_ISBLK(req->mode))
		ret->rdev = req->rdev;
	if (dir->mode & S_ISGID) {
		ret->gid = dir->gid;
		if (S_ISDIR(req->mode))
			ret->mode |= S_ISGID;
	}
}

/* The name is there: a regular file may be answered with, for open(O_CREAT) without O_EXCL. */
static int make_existing(struct apply *a, const struct wire_make *req, const struct ns_slot *slot,
			 struct wire_make_reply *rep)
{
	const struct row_dentry *e = &slot->row.entries[slot->at];
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	int r;

	if ((req->flags & MAKE_EXCL) || !S_ISREG(req->mode))
		return ERR_EXIST;
	if (e->type != S_IFREG)
		return S_ISDIR(e->type) ? ERR_ISDIR : ERR_EXIST;
	r = inode_get(a, e->inode, &row, &backing);
	if (r < 0)
		return r;
	rep->existed = 1;
	ns_attr(e->inode, &row, &rep->attr);
	return 0;
}

static int make_new(struct apply *a, const struct cmd_make *m, struct ns_slot *slot,
		    struct row_inode *dir, struct wire_make_reply *rep)
{
	const struct wire_make *req = &m->req;
	struct row_inode row;
	uint64_t inode = a->meta.next_inode;
	int r;

	if (m->chunk_bits && (m->chunk_bits < CHUNK_BITS_MIN || m->chunk_bits > CHUNK_BITS_MAX))
		return ERR_INVAL;
	if (S_ISDIR(req->mode) && dir->nlink >= NLINK_MAX)
		return ERR_MLINK;
	make_row(a, m, req->parent, dir, &row);
	r = dentry_add(a, slot, req->name, inode, row.mode);
	if (r < 0)
		return r;
	a->meta.next_inode++;
	a->meta.inodes++;
	inode_put(a, inode, &row);
	if (S_ISDIR(req->mode))
		dir->nlink++;
	touch(a, dir, true);
	inode_put(a, req->parent, dir);
	ns_attr(inode, &row, &rep->attr);
	if ((req->flags & MAKE_CHUNK) && S_ISREG(row.mode) && m->n_members > 0)
		return chunk_create(a, inode, &row, 0, m->members, m->n_members, &rep->chunk);
	return 0;
}

int apply_make(struct apply *a, const struct cmd_make *m, struct wire_make_reply *rep)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode dir;
	struct ns_slot slot;
	int r = make_check(a, &m->req);

	if (r == 0)
		r = dir_get(a, m->req.parent, &dir, &backing);
	if (r < 0)
		return r;
	/* A removed directory that is still held takes no new names. */
	if (dir.nlink == 0)
		return ERR_NOENT;
	r = ns_slot_find(a->st, &a->meta, m->req.parent, m->req.name, &slot);
	if (r < 0)
		return r;
	r = slot.at >= 0 ? make_existing(a, &m->req, &slot, rep)
			 : make_new(a, m, &slot, &dir, rep);
	ns_slot_release(&slot);
	return r;
}

/* ---- link, unlink ---- */

int apply_link(struct apply *a, const struct cmd_link *m, struct wire_attr_reply *rep)
{
	_cleanup_buf_ struct buf dir_backing = {0}, backing = {0};
	struct row_inode dir, row;
	struct ns_slot slot;
	int r = name_check(a, m->req.name);

	if (r == 0)
		r = dir_get(a, m->req.parent, &dir, &dir_backing);
	if (r == 0)
		r = inode_get(a, m->req.inode, &row, &backing);
	if (r < 0)
		return r;
	if (S_ISDIR(row.mode))
		return ERR_PERM;
	if (row.nlink == 0 || dir.nlink == 0)
		return ERR_NOENT;
	if (row.nlink >= NLINK_MAX)
		return ERR_MLINK;
	if (row.project != dir.project)
		return ERR_XDEV;
	r = ns_slot_find(a->st, &a->meta, m->req.parent, m->req.name, &slot);
	if (r < 0)
		return r;
	r = slot.at >= 0 ? ERR_EXIST
			 : dentry_add(a, &slot, m->req.name, m->req.inode, row.mode);
	ns_slot_release(&slot);
	if (r < 0)
		return r;
	row.nlink++;
	touch(a, &row, false);
	inode_put(a, m->req.inode, &row);
	touch(a, &dir, true);
	inode_put(a, m->req.parent, &dir);
	ns_attr(m->req.inode, &row, &rep->attr);
	return 0;
}

static int unlink_slot(struct apply *a, const struct wire_unlink *req, struct ns_slot *slot,
		       struct row_inode *dir, struct wire_unlink_reply *rep)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	uint64_t inode;
	int r;

	if (slot->at < 0)
		return ERR_NOENT;
	inode = slot->row.entries[slot->at].inode;
	r = inode_get(a, inode, &row, &backing);
	if (r < 0)
		return r == ERR_NOENT ? ERR_CORRUPT : r;
	if (req->dir && !S_ISDIR(row.mode))
		return ERR_NOTDIR;
	if (!req->dir && S_ISDIR(row.mode))
		return ERR_ISDIR;
	if (req->dir) {
		r = ns_dir_empty(a->st, inode);
		if (r <= 0)
			return r < 0 ? r : ERR_NOTEMPTY;
		dir->nlink--;
	}
	dentry_remove(a, slot);
	touch(a, dir, true);
	inode_put(a, req->parent, dir);
	r = inode_unname(a, inode, &row, req->id.session, req->hold);
	*rep = (struct wire_unlink_reply){.inode = inode, .nlink = row.nlink};
	return r;
}

int apply_unlink(struct apply *a, const struct cmd_unlink *m, struct wire_unlink_reply *rep)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode dir;
	struct ns_slot slot;
	int r = name_check(a, m->req.name);

	if (r == 0)
		r = dir_get(a, m->req.parent, &dir, &backing);
	if (r == 0)
		r = ns_slot_find(a->st, &a->meta, m->req.parent, m->req.name, &slot);
	if (r < 0)
		return r;
	r = unlink_slot(a, &m->req, &slot, &dir, rep);
	ns_slot_release(&slot);
	return r;
}

/* ---- rename ----
 * Rows are read, decided on and written one after the other, because source and target may share
 * a directory, an inode or a hash slot: each step reads what the step before wrote. */

/* Whether `dir` lies in the tree under `top` (or is it). */
static int is_below(struct apply *a, uint64_t dir, uint64_t top)
{
	for (unsigned depth = 0; depth < RENAME_DEPTH_MAX; depth++) {
		_cleanup_buf_ struct buf backing = {0};
		struct row_inode row;
		int r;
		if (dir == top)
			return 1;
		if (dir == ROOT_INODE)
			return 0;
		r = ns_inode(a->st, dir, &row, &backing);
		if (r < 0)
			return r;
		dir = row.parent;
	}
	return apply_refuse(a, ERR_LOOP, "directories nested too deeply");
}

/* A name's inode and row. */
struct named {
	uint64_t inode; /* 0: the name is not there */
	struct row_inode row;
	struct buf backing;
};

static int named_get(struct apply *a, uint64_t parent, struct slice name, struct named *ret)
{
	struct ns_slot slot;
	int r = ns_slot_find(a->st, &a->meta, parent, name, &slot);

	*ret = (struct named){0};
	if (r < 0)
		return r;
	if (slot.at >= 0) {
		ret->inode = slot.row.entries[slot.at].inode;
		r = ns_inode(a->st, ret->inode, &ret->row, &ret->backing);
		if (r == ERR_NOENT)
			r = ERR_CORRUPT;
	}
	ns_slot_release(&slot);
	return r;
}

static int rename_check(struct apply *a, const struct wire_rename *req, const struct named *from,
			const struct named *to)
{
	bool exchange = req->flags & RENAME_F_EXCHANGE;
	int r;

	if (!from->inode || (exchange && !to->inode))
		return ERR_NOENT;
	if (to->inode && (req->flags & RENAME_F_NOREPLACE))
		return ERR_EXIST;
	if (S_ISDIR(from->row.mode)) {
		r = is_below(a, req->new_parent, from->inode);
		if (r != 0)
			return r < 0 ? r : apply_refuse(a, ERR_INVAL, "a directory cannot be moved "
							"into itself");
	}
	if (to->inode && S_ISDIR(to->row.mode)) {
		/* The target is an ancestor of the source: not empty, or a loop by exchange. */
		r = is_below(a, req->parent, to->inode);
		if (r != 0)
			return r < 0 ? r : exchange ? ERR_INVAL : ERR_NOTEMPTY;
	}
	if (exchange || !to->inode || to->inode == from->inode)
		return 0;
	if (S_ISDIR(from->row.mode) && !S_ISDIR(to->row.mode))
		return ERR_NOTDIR;
	if (!S_ISDIR(from->row.mode) && S_ISDIR(to->row.mode))
		return ERR_ISDIR;
	if (S_ISDIR(to->row.mode)) {
		r = ns_dir_empty(a->st, to->inode);
		if (r <= 0)
			return r < 0 ? r : ERR_NOTEMPTY;
	}
	return 0;
}

/* Points the name at `to` (inode 0: removes it; absent: adds it). */
static int rename_point(struct apply *a, uint64_t parent, struct slice name,
			const struct named *to)
{
	struct ns_slot slot;
	int r = ns_slot_find(a->st, &a->meta, parent, name, &slot);

	if (r < 0)
		return r;
	if (!to)
		dentry_remove(a, &slot);
	else if (slot.at >= 0)
		dentry_retarget(a, &slot, to->inode, to->row.mode);
	else
		r = dentry_add(a, &slot, name, to->inode, to->row.mode);
	ns_slot_release(&slot);
	return r;
}

/* Adds `links` sub-directories to a directory's count and marks it changed. */
static int dir_adjust(struct apply *a, uint64_t inode, int links)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	int r = ns_inode(a->st, inode, &row, &backing);

	if (r < 0)
		return r;
	row.nlink = (uint32_t)((int64_t)row.nlink + links);
	touch(a, &row, true);
	inode_put(a, inode, &row);
	return 0;
}

/* The moved inode: new parent, new ctime. */
static void moved(struct apply *a, struct named *n, uint64_t parent)
{
	touch(a, &n->row, false);
	n->row.parent = parent;
	inode_put(a, n->inode, &n->row);
}

static int rename_do(struct apply *a, const struct wire_rename *req, struct named *from,
		     struct named *to)
{
	bool exchange = req->flags & RENAME_F_EXCHANGE;
	int from_dir = S_ISDIR(from->row.mode), to_dir = to->inode && S_ISDIR(to->row.mode);
	int r;

	/* Directories gained and lost by each parent. */
	int lost = from_dir - (exchange && to_dir), gained = from_dir - to_dir;
	if (req->parent == req->new_parent) {
		lost -= gained;
		gained = 0;
	}
	r = rename_point(a, req->new_parent, req->new_name, from);
	if (r == 0)
		r = rename_point(a, req->parent, req->name, exchange ? to : NULL);
	if (r == 0)
		r = dir_adjust(a, req->parent, -lost);
	if (r == 0 && req->parent != req->new_parent)
		r = dir_adjust(a, req->new_parent, gained);
	if (r < 0)
		return r;
	moved(a, from, req->new_parent);
	if (exchange)
		moved(a, to, req->parent);
	else if (to->inode)
		r = inode_unname(a, to->inode, &to->row, req->id.session, req->hold);
	return r;
}

static int rename_parents_check(struct apply *a, const struct wire_rename *req)
{
	_cleanup_buf_ struct buf backing = {0}, new_backing = {0};
	struct row_inode dir, new_dir;
	int r = name_check(a, req->name);

	if (r == 0)
		r = name_check(a, req->new_name);
	if (r == 0)
		r = dir_get(a, req->parent, &dir, &backing);
	if (r == 0)
		r = dir_get(a, req->new_parent, &new_dir, &new_backing);
	if (r < 0)
		return r;
	if ((req->flags & ~(uint32_t)(RENAME_F_NOREPLACE | RENAME_F_EXCHANGE)) ||
	    req->flags == (RENAME_F_NOREPLACE | RENAME_F_EXCHANGE))
		return ERR_INVAL;
	if (dir.project != new_dir.project)
		return ERR_XDEV;
	return new_dir.nlink == 0 ? ERR_NOENT : 0;
}

int apply_rename(struct apply *a, const struct cmd_rename *m, struct wire_rename_reply *rep)
{
	const struct wire_rename *req = &m->req;
	struct named from = {0}, to = {0};
	int r = rename_parents_check(a, req);

	if (r == 0)
		r = named_get(a, req->parent, req->name, &from);
	if (r == 0)
		r = named_get(a, req->new_parent, req->new_name, &to);
	if (r == 0)
		r = rename_check(a, req, &from, &to);
	if (r == 0) {
		rep->inode = from.inode;
		rep->replaced = to.inode && to.inode != from.inode &&
				!(req->flags & RENAME_F_EXCHANGE) ? to.inode : 0;
		/* Two names of one file: POSIX has rename(2) do nothing. */
		if (from.inode != to.inode)
			r = rename_do(a, req, &from, &to);
	}
	buf_release(&from.backing);
	buf_release(&to.backing);
	return r;
}

/* ---- attributes ---- */

static int set_size(struct apply *a, uint64_t inode, struct row_inode *row, uint64_t size)
{
	uint64_t chunk_bytes = 1ULL << row->chunk_bits;
	unsigned budget = CHUNKS_FREED_MAX;
	_cleanup_buf_ struct buf backing = {0};
	struct row_file_chunk ref;
	int r;

	if (!S_ISREG(row->mode))
		return S_ISDIR(row->mode) ? ERR_ISDIR : ERR_INVAL;
	if (size > FILE_BYTES_MAX)
		return ERR_FBIG;
	if (size < row->size) {
		r = chunks_free_from(a, inode, (size + chunk_bytes - 1) / chunk_bytes, &budget);
		if (r <= 0)
			return r < 0 ? r : apply_refuse(a, ERR_TOOBIG, "more than %d chunks lie "
							"beyond the new end", CHUNKS_FREED_MAX);
		if (size % chunk_bytes) {
			r = state_get_row_file_chunk(
				a->st, key_file_chunk(inode, size / chunk_bytes), &ref, &backing);
			if (r < 0)
				return r;
			if (r == 1)
				r = chunk_cut(a, ref.chunk, size % chunk_bytes);
			if (r < 0)
				return r;
		}
	}
	row->size = size;
	touch(a, row, true);
	return 0;
}

/* What a change of owner or content takes from the mode (Linux fs/attr.c, notify_change). */
static void drop_suid(struct row_inode *row)
{
	if (S_ISDIR(row->mode))
		return;
	row->mode &= ~(uint32_t)S_ISUID;
	if (row->mode & S_IXGRP)
		row->mode &= ~(uint32_t)S_ISGID;
}

int apply_setattr(struct apply *a, const struct cmd_setattr *m, struct wire_attr_reply *rep)
{
	const struct wire_setattr *req = &m->req;
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	int r = inode_get(a, req->inode, &row, &backing);

	if (r == 0 && (req->mask & ~(uint32_t)SET_ALL))
		r = ERR_INVAL;
	if (r == 0 && (req->mask & SET_SIZE))
		r = set_size(a, req->inode, &row, req->size);
	if (r < 0)
		return r;
	if (req->mask & (SET_UID | SET_GID)) {
		if (req->mask & SET_UID)
			row.uid = req->uid;
		if (req->mask & SET_GID)
			row.gid = req->gid;
		if (!(req->mask & SET_MODE))
			drop_suid(&row);
	}
	if (req->mask & SET_MODE)
		row.mode = (row.mode & S_IFMT) | (req->mode & 07777);
	if (req->mask & (SET_ATIME | SET_ATIME_NOW))
		row.atime = req->mask & SET_ATIME_NOW ? a->now : req->atime;
	if (req->mask & (SET_MTIME | SET_MTIME_NOW))
		row.mtime = req->mask & SET_MTIME_NOW ? a->now : req->mtime;
	touch(a, &row, false);
	inode_put(a, req->inode, &row);
	ns_attr(req->inode, &row, &rep->attr);
	return 0;
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

int apply_xattr_set(struct apply *a, const struct cmd_xattr_set *m, struct wire_empty *rep)
{
	const struct wire_xattr_set *req = &m->req;
	_cleanup_buf_ struct buf backing = {0}, old = {0};
	struct row_inode row;
	struct key key;
	int r = inode_get(a, req->inode, &row, &backing), there;

	if (r < 0)
		return r;
	if (req->name.len == 0 || req->name.len > XATTR_NAME_BYTES_MAX)
		return ERR_RANGE;
	if (memchr(req->name.data, '\0', req->name.len))
		return ERR_INVAL;
	if (req->value.len > XATTR_VALUE_BYTES_MAX)
		return ERR_TOOBIG;
	key = key_xattr(req->inode, req->name);
	there = state_get(a->st, key_slice(&key), &old);
	if (there < 0)
		return there;
	if (there && (req->flags & XATTR_F_CREATE))
		return ERR_EXIST;
	if (!there && (req->flags & (XATTR_F_REPLACE | XATTR_F_REMOVE)))
		return ERR_NODATA;
	if (!there) {
		r = xattrs_count(a, req->inode);
		if (r < 0 || r >= XATTRS_MAX)
			return r < 0 ? r : ERR_NOSPC;
	}
	if (req->flags & XATTR_F_REMOVE)
		state_del(a->st, key_slice(&key));
	else
		state_put(a->st, key_slice(&key), req->value);
	touch(a, &row, false);
	inode_put(a, req->inode, &row);
	return 0;
}

int apply_wrote(struct apply *a, const struct cmd_wrote *m, struct wire_attr_reply *rep)
{
	const struct wire_wrote *req = &m->req;
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	int r = inode_get(a, req->inode, &row, &backing);

	if (r < 0)
		return r;
	if (S_ISDIR(row.mode))
		return ERR_ISDIR;
	if (!S_ISREG(row.mode) || req->end < req->offset)
		return ERR_INVAL;
	if (req->end > FILE_BYTES_MAX)
		return ERR_FBIG;
	if (req->end > req->offset &&
	    ((req->end - 1) >> row.chunk_bits) - (req->offset >> row.chunk_bits) >=
		    WROTE_CHUNKS_MAX)
		return ERR_TOOBIG;
	r = chunks_mark_written(a, req, &row);
	if (r < 0)
		return r;
	if (req->end > row.size)
		row.size = req->end;
	if (req->cred.uid != 0)
		drop_suid(&row);
	touch(a, &row, true);
	inode_put(a, req->inode, &row);
	ns_attr(req->inode, &row, &rep->attr);
	return 0;
}
