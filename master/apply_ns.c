/* Names and inodes: make, link, unlink, rename. */
#include "master/apply_priv.h"

#include <sys/stat.h>

#include "common/cleanup.h"
#include "master/access.h"

enum { RENAME_DEPTH_MAX = 100000 };

/* ---- helpers ---- */

static int dir_get(struct apply *a, uint64_t inode, struct row_inode *ret, struct buf *backing)
{
	int r = apply_inode_get(a, inode, ret, backing);
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

/* ---- make ---- */

int apply_format(struct apply *a, const struct cmd_format *m, struct wire_empty *rep)
{
	struct row_policy policy = {.copies = m->copies};
	struct row_inode root = {
		.mode = S_IFDIR | 0755, .nlink = 2, .uid = m->uid, .gid = m->gid,
		.atime = a->now, .mtime = a->now, .ctime = a->now, .btime = a->now,
		.parent = ROOT_INODE, .chunk_bits = CHUNK_BITS_DEFAULT, .change = 1, .bare = 1,
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
	apply_inode_put(a, ROOT_INODE, &root);
	state_put_row_policy(a->st, key_policy(0), &policy);
	return 0;
}

static int make_check(struct apply *a, const struct wire_make *req)
{
	uint32_t type = req->mode & S_IFMT;
	bool unnamed = req->flags & MAKE_TMPFILE;
	int r = unnamed ? 0 : name_check(a, req->name);

	if (unnamed && (type != S_IFREG || req->name.len != 0 || !req->id.session))
		return ERR_INVAL;
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
		.target = req->target, .bare = 1,
	};
	if (S_ISCHR(req->mode) || S_ISBLK(req->mode))
		ret->rdev = req->rdev;
	if (dir->mode & S_ISGID) {
		ret->gid = dir->gid;
		if (S_ISDIR(req->mode))
			ret->mode |= S_ISGID;
		else if ((ret->mode & S_IXGRP) && access_drops_setgid(&req->cred, dir->gid))
			ret->mode &= ~(uint32_t)S_ISGID;
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
	r = apply_inode_get(a, e->inode, &row, &backing);
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
	r = apply_inherit(a, &req->cred, req->parent, inode, &row);
	if (r == 0)
		r = quota_charge(a, row.project, 0, 1);
	if (r == 0)
		r = dentry_add(a, slot, req->name, inode, row.mode);
	if (r < 0)
		return r;
	a->meta.next_inode++;
	a->meta.inodes++;
	apply_inode_put(a, inode, &row);
	if (S_ISDIR(req->mode))
		dir->nlink++;
	apply_touch(a, dir, true);
	apply_inode_put(a, req->parent, dir);
	ns_attr(inode, &row, &rep->attr);
	if ((req->flags & MAKE_CHUNK) && S_ISREG(row.mode) && m->n_members > 0)
		return chunk_create(a, inode, &row, 0, m->members, m->n_members, &rep->chunk);
	return 0;
}

/* O_TMPFILE: as a file that has lost its last name while the session has it open. */
static int make_unnamed(struct apply *a, const struct cmd_make *m, const struct row_inode *dir,
			struct wire_make_reply *rep)
{
	uint64_t inode = a->meta.next_inode++;
	struct key held = key_held(m->req.id.session, inode);
	struct row_inode row;
	int r;

	make_row(a, m, m->req.parent, dir, &row);
	r = apply_inherit(a, &m->req.cred, m->req.parent, inode, &row);
	if (r == 0)
		r = quota_charge(a, row.project, 0, 1);
	if (r < 0)
		return r;
	row.nlink = 0;
	a->meta.inodes++;
	apply_inode_put(a, inode, &row);
	state_put(a->st, key_slice(&held), (struct slice){0});
	ns_attr(inode, &row, &rep->attr);
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
	if (m->req.flags & MAKE_TMPFILE)
		return make_unnamed(a, m, &dir, rep);
	r = ns_slot_find(a->st, &a->meta, m->req.parent, m->req.name, &slot);
	if (r < 0)
		return r;
	r = slot.at >= 0 ? make_existing(a, &m->req, &slot, rep)
			 : make_new(a, m, &slot, &dir, rep);
	ns_slot_release(&slot);
	return r;
}

/* ---- link, unlink ---- */

/* A file without a name may get one from the session that made it (the kernel lets only those
 * opened with O_TMPFILE through); it is not held any more then. ERR_NOENT: it may not. */
static int unnamed_take(struct apply *a, const struct wire_link *req)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key held = key_held(req->id.session, req->inode);
	int r = state_get(a->st, key_slice(&held), &backing);

	if (r <= 0)
		return r < 0 ? r : ERR_NOENT;
	state_del(a->st, key_slice(&held));
	/* Not one that others hold too: it lost its names and gets none again. */
	r = apply_is_held(a, req->inode);
	return r == 0 ? 0 : r < 0 ? r : ERR_NOENT;
}

int apply_link(struct apply *a, const struct cmd_link *m, struct wire_attr_reply *rep)
{
	_cleanup_buf_ struct buf dir_backing = {0}, backing = {0};
	struct row_inode dir, row;
	struct ns_slot slot;
	int r = name_check(a, m->req.name);

	if (r == 0)
		r = dir_get(a, m->req.parent, &dir, &dir_backing);
	if (r == 0)
		r = apply_inode_get(a, m->req.inode, &row, &backing);
	if (r < 0)
		return r;
	if (S_ISDIR(row.mode))
		return ERR_PERM;
	if (dir.nlink == 0)
		return ERR_NOENT;
	if (row.nlink == 0)
		r = unnamed_take(a, &m->req);
	if (r < 0)
		return r;
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
	apply_touch(a, &row, false);
	apply_inode_put(a, m->req.inode, &row);
	apply_touch(a, &dir, true);
	apply_inode_put(a, m->req.parent, &dir);
	ns_attr(m->req.inode, &row, &rep->attr);
	return 0;
}

static int unlink_slot(struct apply *a, const struct cmd_unlink *m, struct ns_slot *slot,
		       struct row_inode *dir, struct wire_unlink_reply *rep)
{
	const struct wire_unlink *req = &m->req;
	struct keepers keepers = {req->id.session, req->hold, m->holders, m->n_holders, m->linger};
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	uint64_t inode;
	int r;

	if (slot->at < 0)
		return ERR_NOENT;
	inode = slot->row.entries[slot->at].inode;
	r = apply_inode_get(a, inode, &row, &backing);
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
	apply_touch(a, dir, true);
	apply_inode_put(a, req->parent, dir);
	r = inode_unname(a, inode, &row, &keepers);
	*rep = (struct wire_unlink_reply){.inode = inode, .nlink = row.nlink};
	if (row.nlink == 0)
		ns_attr(inode, &row, &rep->attr);
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
	r = unlink_slot(a, m, &slot, &dir, rep);
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
	if (links > 0 && row.nlink >= NLINK_MAX)
		return ERR_MLINK;
	row.nlink = (uint32_t)((int64_t)row.nlink + links);
	apply_touch(a, &row, true);
	apply_inode_put(a, inode, &row);
	return 0;
}

/* The moved inode: new parent, new ctime. */
static int moved(struct apply *a, struct named *n, uint64_t old_parent, uint64_t parent)
{
	int r = parent == old_parent ? 0 : quota_rehome(a, n->inode, &n->row, parent);

	if (r < 0)
		return r;
	apply_touch(a, &n->row, false);
	n->row.parent = parent;
	apply_inode_put(a, n->inode, &n->row);
	return 0;
}

/* What RENAME_WHITEOUT leaves behind at the old name: a device 0:0, which overlay file systems
 * take for "not there". */
static int whiteout_make(struct apply *a, const struct wire_rename *req, const struct named *from,
			 struct named *ret)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode dir; /* which counts it; what is moved may have a quota of its own */
	int r = apply_inode_get(a, req->parent, &dir, &backing);

	if (r < 0)
		return r;
	*ret = (struct named){.inode = a->meta.next_inode++, .row = {
		.mode = S_IFCHR, .nlink = 1, .uid = req->cred.uid, .gid = req->cred.gid,
		.atime = a->now, .mtime = a->now, .ctime = a->now, .btime = a->now, .change = 1,
		.parent = req->parent, .project = dir.project, .policy = from->row.policy,
		.chunk_bits = from->row.chunk_bits,
	}};
	a->meta.inodes++;
	apply_inode_put(a, ret->inode, &ret->row);
	return quota_charge(a, ret->row.project, 0, 1);
}

static int rename_do(struct apply *a, const struct cmd_rename *m, struct named *from,
		     struct named *to)
{
	const struct wire_rename *req = &m->req;
	struct keepers keepers = {req->id.session, req->hold, m->holders, m->n_holders, m->linger};
	bool exchange = req->flags & RENAME_F_EXCHANGE;
	struct named white, *left = exchange ? to : NULL; /* at the old name */
	int from_dir = S_ISDIR(from->row.mode), to_dir = to->inode && S_ISDIR(to->row.mode);
	int r = 0;

	/* Directories gained and lost by each parent. */
	int lost = from_dir - (exchange && to_dir), gained = from_dir - to_dir;
	if (req->parent == req->new_parent) {
		lost -= gained;
		gained = 0;
	}
	if (req->flags & RENAME_F_WHITEOUT) {
		r = whiteout_make(a, req, from, &white);
		left = &white;
	}
	if (r == 0)
		r = rename_point(a, req->new_parent, req->new_name, from);
	if (r == 0)
		r = rename_point(a, req->parent, req->name, left);
	if (r == 0)
		r = dir_adjust(a, req->parent, -lost);
	if (r == 0 && req->parent != req->new_parent)
		r = dir_adjust(a, req->new_parent, gained);
	if (r == 0)
		r = moved(a, from, req->parent, req->new_parent);
	if (r < 0)
		return r;
	if (exchange)
		r = moved(a, to, req->new_parent, req->parent);
	else if (to->inode)
		r = inode_unname(a, to->inode, &to->row, &keepers);
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
	if ((req->flags & ~(uint32_t)(RENAME_F_NOREPLACE | RENAME_F_EXCHANGE |
				      RENAME_F_WHITEOUT)) ||
	    ((req->flags & RENAME_F_EXCHANGE) && req->flags != RENAME_F_EXCHANGE))
		return ERR_INVAL;
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
			r = rename_do(a, m, &from, &to);
		rep->nlink = rep->replaced ? to.row.nlink : 0;
		if (rep->replaced && rep->nlink == 0)
			ns_attr(to.inode, &to.row, &rep->attr);
	}
	buf_release(&from.backing);
	buf_release(&to.backing);
	return r;
}
