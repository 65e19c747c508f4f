#include "master/access.h"

#include <sys/stat.h>

#include "common/cleanup.h"
#include "master/acl.h"
#include "master/ns.h"

/* ---- one inode ---- */

/* An inode that a request names. */
struct target {
	uint64_t inode;
	struct row_inode row;
	struct buf backing;
};
static void target_release(struct target *t)
{
	buf_release(&t->backing);
}
#define TARGET __attribute__((cleanup(target_release))) struct target

/* Root may all that is asked here. */
static bool is_checked(const struct wire_cred *cred)
{
	return (cred->flags & CRED_CHECK) && cred->uid != 0;
}

/* Nothing is to be looked at. */
static bool is_free(const struct wire_cred *cred)
{
	return !is_checked(cred) && !cred->within;
}

int access_project(struct state *st, const struct wire_cred *cred, uint32_t project)
{
	while (cred->within && project != cred->within) {
		_cleanup_buf_ struct buf backing = {0};
		struct row_quota row;
		int r = project ? state_get_row_quota(st, key_quota(project), &row, &backing) : 0;
		if (r <= 0)
			return r < 0 ? r : ERR_NOENT; /* a lost row lies in nothing (apply_quota.c) */
		project = row.parent;
	}
	return 0;
}

static int target_get(struct state *st, const struct wire_cred *cred, uint64_t inode,
		      struct target *ret)
{
	int r = ns_inode(st, inode, &ret->row, &ret->backing);

	ret->inode = inode;
	return r < 0 ? r : access_project(st, cred, ret->row.project);
}

int access_inode(struct state *st, const struct wire_cred *cred, uint64_t inode)
{
	TARGET t = {0};

	return cred->within ? target_get(st, cred, inode, &t) : 0;
}

bool access_is_root(struct state *st, const struct wire_cred *cred, uint64_t dir)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_quota row;

	return cred->within && state_get_row_quota(st, key_quota(cred->within), &row, &backing) == 1 &&
	       row.inode == dir;
}

/* What a name stands for: 1, 0: it is not there, negative. */
static int child_get(struct state *st, const struct wire_cred *cred, uint64_t parent,
		     struct slice name, struct target *ret)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_meta meta;
	struct ns_slot slot;
	uint64_t inode = 0;
	int r = ns_name_check(name) < 0 ? 1 : ns_meta(st, &meta, &backing);

	if (r == 0)
		r = ns_slot_find(st, &meta, parent, name, &slot);
	if (r != 0)
		return r < 0 ? r : 0;
	if (slot.at >= 0)
		inode = slot.row.entries[slot.at].inode;
	ns_slot_release(&slot);
	r = inode ? target_get(st, cred, inode, ret) : 0;
	return r < 0 ? r : inode != 0;
}

bool access_drops_setgid(const struct wire_cred *cred, uint32_t gid)
{
	return is_checked(cred) && !acl_in_group(cred, gid);
}

static bool owns(const struct wire_cred *cred, const struct target *t)
{
	return !is_checked(cred) || cred->uid == t->row.uid;
}

/* Of those who do not own it. */
static int others_may(struct state *st, const struct wire_cred *cred, const struct target *t,
		      unsigned want)
{
	uint32_t mode = t->row.mode;
	struct acl acl = {0};
	/* A list does not count where the mode gives its group class nothing: as Linux has it. */
	int r = !t->row.bare && (mode & S_IRWXG) ? ns_acl(st, t->inode, ACL_ACCESS, &acl) : 0;
	bool may;

	if (r < 0)
		return r;
	if (r == 1) {
		may = acl_permits(&acl, cred, t->row.gid, want);
		acl_release(&acl);
	} else {
		may = ((acl_in_group(cred, t->row.gid) ? mode >> 3 : mode) & want) == want;
	}
	return may ? 0 : ERR_ACCES;
}

static int may(struct state *st, const struct wire_cred *cred, const struct target *t, unsigned want)
{
	if (!is_checked(cred))
		return 0;
	if (owns(cred, t))
		return (t->row.mode >> 6 & want) == want ? 0 : ERR_ACCES;
	return others_may(st, cred, t, want);
}

static int may_data(struct state *st, const struct wire_cred *cred, uint64_t inode, unsigned want)
{
	TARGET t = {0};
	int r;

	if (is_free(cred))
		return 0;
	r = target_get(st, cred, inode, &t);
	return r < 0 ? r : owns(cred, &t) ? 0 : may(st, cred, &t, want);
}

/* A directory to be searched. What is no directory is refused by whoever looks into it. */
static int may_search(struct state *st, const struct wire_cred *cred, uint64_t dir,
		      struct target *ret)
{
	int r = target_get(st, cred, dir, ret);
	return r < 0 || !S_ISDIR(ret->row.mode) ? r : may(st, cred, ret, ACCESS_EXEC);
}

/* A name is to go from dir. */
static int may_remove(struct state *st, const struct wire_cred *cred, const struct target *dir,
		      const struct target *child)
{
	int r = may(st, cred, dir, ACCESS_WRITE | ACCESS_EXEC);

	if (r == 0 && (dir->row.mode & S_ISVTX) && !owns(cred, dir) && !owns(cred, child))
		r = ERR_PERM;
	return r;
}

/* ---- reads ---- */

int access_getattr(struct state *st, const struct wire_inode_ref *req)
{
	TARGET t = {0};
	int r;

	if (is_free(&req->cred))
		return 0;
	r = target_get(st, &req->cred, req->inode, &t);
	return r < 0 ? r : may(st, &req->cred, &t, req->access);
}

int access_lookup(struct state *st, const struct wire_name_ref *req)
{
	TARGET dir = {0};

	return is_free(&req->cred) ? 0 : may_search(st, &req->cred, req->parent, &dir);
}

int access_readdir(struct state *st, const struct wire_readdir *req)
{
	TARGET dir = {0};
	int r;

	if (is_free(&req->cred))
		return 0;
	r = target_get(st, &req->cred, req->inode, &dir);
	return r < 0 ? r : may(st, &req->cred, &dir, ACCESS_READ);
}

int access_locate(struct state *st, const struct wire_locate *req)
{
	return may_data(st, &req->cred, req->inode, ACCESS_READ);
}

int access_lease_write(struct state *st, const struct wire_lease_write *req)
{
	return may_data(st, &req->cred, req->inode, ACCESS_WRITE);
}

bool access_hides_xattr(const struct wire_cred *cred, struct slice name)
{
	return is_checked(cred) && slice_starts(name, SLICE_LIT("trusted."));
}

int access_xattr_get(struct state *st, const struct wire_xattr_get *req)
{
	TARGET t = {0};
	int r;

	if (is_free(&req->cred))
		return 0;
	r = target_get(st, &req->cred, req->inode, &t);
	if (r == 0 && access_hides_xattr(&req->cred, req->name))
		r = ERR_NODATA;
	if (r == 0 && slice_starts(req->name, SLICE_LIT("user.")))
		r = may(st, &req->cred, &t, ACCESS_READ);
	return r;
}

/* ---- names ---- */

/* A name is to be made in dir; if it is there already, that is the answer. */
static int may_add(struct state *st, const struct wire_cred *cred, uint64_t parent,
		   struct slice name)
{
	TARGET dir = {0}, child = {0};
	int r = may_search(st, cred, parent, &dir);

	if (r == 0)
		r = child_get(st, cred, parent, name, &child);
	return r != 0 ? (r < 0 ? r : 0) : may(st, cred, &dir, ACCESS_WRITE | ACCESS_EXEC);
}

int access_make(struct state *st, const struct wire_make *req)
{
	int r;

	if (is_free(&req->cred))
		return 0;
	r = may_add(st, &req->cred, req->parent, req->name);
	if (r == 0 && is_checked(&req->cred) && (S_ISCHR(req->mode) || S_ISBLK(req->mode)))
		r = ERR_PERM;
	return r;
}

/* Of what others own only what one could change anyway, as fs.protected_hardlinks has it. */
static int may_link(struct state *st, const struct wire_cred *cred, const struct target *t)
{
	uint32_t mode = t->row.mode;

	if (owns(cred, t))
		return 0;
	if (!S_ISREG(mode) || (mode & S_ISUID) || ((mode & S_ISGID) && (mode & S_IXGRP)))
		return ERR_PERM;
	return may(st, cred, t, ACCESS_READ | ACCESS_WRITE) == 0 ? 0 : ERR_PERM;
}

int access_link(struct state *st, const struct wire_link *req)
{
	TARGET t = {0};
	int r;

	if (is_free(&req->cred))
		return 0;
	r = target_get(st, &req->cred, req->inode, &t);
	if (r == 0)
		r = may_link(st, &req->cred, &t);
	return r < 0 ? r : may_add(st, &req->cred, req->parent, req->name);
}

int access_unlink(struct state *st, const struct wire_unlink *req)
{
	TARGET dir = {0}, child = {0};
	int r;

	if (is_free(&req->cred))
		return 0;
	r = may_search(st, &req->cred, req->parent, &dir);
	if (r == 0)
		r = child_get(st, &req->cred, req->parent, req->name, &child);
	return r == 1 ? may_remove(st, &req->cred, &dir, &child) : r;
}

/* What comes to another directory has its `..` changed. */
static int may_move(struct state *st, const struct wire_rename *req, const struct target *child)
{
	return S_ISDIR(child->row.mode) && req->parent != req->new_parent
		       ? may(st, &req->cred, child, ACCESS_WRITE) : 0;
}

static int rename_target(struct state *st, const struct wire_rename *req, const struct target *dir)
{
	TARGET child = {0};
	int r = child_get(st, &req->cred, req->new_parent, req->new_name, &child);

	if (r == 0)
		return may(st, &req->cred, dir, ACCESS_WRITE | ACCESS_EXEC);
	if (r == 1)
		r = may_remove(st, &req->cred, dir, &child);
	if (r == 0 && (req->flags & RENAME_F_EXCHANGE))
		r = may_move(st, req, &child);
	return r;
}

int access_rename(struct state *st, const struct wire_rename *req)
{
	TARGET from = {0}, to = {0}, child = {0};
	int r;

	if (is_free(&req->cred))
		return 0;
	r = may_search(st, &req->cred, req->parent, &from);
	if (r == 0)
		r = may_search(st, &req->cred, req->new_parent, &to);
	if (r == 0)
		r = child_get(st, &req->cred, req->parent, req->name, &child);
	if (r <= 0)
		return r; /* there is nothing to rename */
	r = may_remove(st, &req->cred, &from, &child);
	if (r == 0)
		r = rename_target(st, req, &to);
	return r < 0 ? r : may_move(st, req, &child);
}

/* ---- attributes ---- */

static int may_chown(const struct wire_setattr *req, const struct target *t)
{
	const struct wire_cred *cred = &req->cred;

	if (!is_checked(cred))
		return 0;
	if ((req->mask & SET_UID) && (cred->uid != t->row.uid || req->uid != t->row.uid))
		return ERR_PERM;
	if ((req->mask & SET_GID) && (cred->uid != t->row.uid ||
				      (req->gid != t->row.gid && !acl_in_group(cred, req->gid))))
		return ERR_PERM;
	return 0;
}

int access_setattr(struct state *st, const struct wire_setattr *req)
{
	const uint32_t owners = SET_MODE | SET_ATIME | SET_MTIME,
		       writers = SET_SIZE | SET_ATIME_NOW | SET_MTIME_NOW;
	TARGET t = {0};
	int r;

	if (is_free(&req->cred))
		return 0;
	r = target_get(st, &req->cred, req->inode, &t);
	if (r == 0)
		r = may_chown(req, &t);
	if (r < 0 || owns(&req->cred, &t))
		return r;
	if (req->mask & owners)
		return ERR_PERM;
	if (req->mask & writers)
		r = may(st, &req->cred, &t, ACCESS_WRITE);
	if (r == 0 && (req->mask & SET_ACCESSED))
		r = may(st, &req->cred, &t, ACCESS_READ);
	return r;
}

int access_xattr_set(struct state *st, const struct wire_xattr_set *req)
{
	TARGET t = {0};
	int r;

	if (is_free(&req->cred))
		return 0;
	r = target_get(st, &req->cred, req->inode, &t);
	if (r < 0)
		return r;
	if (slice_eq(req->name, ACL_ACCESS) || slice_eq(req->name, ACL_DEFAULT))
		return owns(&req->cred, &t) ? 0 : ERR_PERM;
	if (is_checked(&req->cred) && !slice_starts(req->name, SLICE_LIT("user.")))
		return ERR_PERM;
	if (S_ISDIR(t.row.mode) && (t.row.mode & S_ISVTX) && !owns(&req->cred, &t))
		return ERR_PERM;
	return may(st, &req->cred, &t, ACCESS_WRITE);
}

/* ---- data ---- */

int access_chunk_make(struct state *st, const struct wire_chunk_for_write *req)
{
	return may_data(st, &req->cred, req->inode, ACCESS_WRITE);
}

int access_wrote(struct state *st, const struct wire_wrote *req)
{
	return may_data(st, &req->cred, req->inode, ACCESS_WRITE);
}

/* What goes with a write is there to be kept by who could set it: chmod(2) of an owner who is not in the
 * file's group takes set-group-id away. */
bool access_keeps_set_id(const struct wire_cred *cred, uint32_t mode, uint32_t uid, uint32_t gid)
{
	if (!is_checked(cred))
		return true;
	return cred->uid == uid && (!(mode & S_ISGID) || !(mode & S_IXGRP) || acl_in_group(cred, gid));
}

bool access_keeps_capability(const struct wire_cred *cred)
{
	return !is_checked(cred);
}

int access_strips(struct state *st, const struct wire_cred *cred, uint64_t inode)
{
	_cleanup_buf_ struct buf value = {0};
	TARGET t = {0};
	int what = 0, r;

	if (!is_checked(cred))
		return 0;
	r = target_get(st, cred, inode, &t);
	if (r < 0 || !S_ISREG(t.row.mode))
		return r;
	if (!access_keeps_set_id(cred, t.row.mode, t.row.uid, t.row.gid) &&
	    ns_drop_set_id(t.row.mode) != t.row.mode)
		what |= ACCESS_STRIPS_SET_ID;
	if (!t.row.bare) {
		struct key key = key_xattr(inode, XATTR_CAPABILITY);
		r = state_get(st, key_slice(&key), &value);
	}
	return r < 0 ? r : r == 1 ? what | ACCESS_STRIPS_CAPABILITY : what;
}

int access_lock_look(struct state *st, const struct wire_cred *cred, uint64_t inode)
{
	int r = may_data(st, cred, inode, ACCESS_READ);
	return r == ERR_ACCES ? may_data(st, cred, inode, ACCESS_WRITE) : r;
}

/* As fcntl(2) and flock(2) want the file open: an append lock is a writer's. Nothing is asked of who
 * gives one back: whoever may not write any more must not keep others from it. */
int access_lock(struct state *st, const struct wire_lock *req)
{
	int r;

	if (req->type == LOCK_FREE)
		return access_inode(st, &req->cred, req->inode);
	r = may_data(st, &req->cred, req->inode, ACCESS_WRITE);
	if (r == ERR_ACCES && req->kind != LOCK_APPEND &&
	    (req->kind == LOCK_WHOLE || req->type == LOCK_SHARED))
		r = may_data(st, &req->cred, req->inode, ACCESS_READ);
	return r;
}
