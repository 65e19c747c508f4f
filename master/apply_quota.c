/* Directory quotas.
 *
 * Every inode names the innermost quota that it is counted in (`project`), so a change finds it without
 * a look at any directory: it costs a row for each quota around the inode (QUOTA_DEPTH_MAX at most, one
 * as a rule), and nothing where there is none. What is made in a directory is counted where the
 * directory is; files and empty directories that are moved are counted anew; a directory with something
 * in it does not go from one quota to another (ERR_XDEV, as with project quotas elsewhere: mv(1) copies
 * then), but for one that has a quota itself, which goes as a whole. A name in another quota is ERR_XDEV.
 *
 * What was in a directory before it got a quota is counted in steps, from the top down (QUOTA_COUNT), by
 * whoever sets it: each step takes names as they are then, so nothing that is moved meanwhile is
 * counted where it is not. A row whose directory is gone stays until nothing is counted in it. */
#include "master/apply_priv.h"

#include <sys/stat.h>

#include "common/cleanup.h"

enum { QUOTA_DEPTH_MAX = 8 };

/* Rows have no slices: they may go with their backing. One that is lost (the state was damaged) reads as
 * zeros: it limits nothing, counts nothing and lies in nothing, until somebody sets a quota anew. A
 * limit that is gone is no reason to stop all metadata; cairn-master --check tells of it. */
static int quota_get(struct apply *a, uint32_t quota, struct row_quota *ret)
{
	_cleanup_buf_ struct buf backing = {0};
	int r = state_get_row_quota(a->st, key_quota(quota), ret, &backing);

	if (r == 0)
		*ret = (struct row_quota){0};
	return r < 0 ? r : 0;
}

/* No row that is there looks so: see quota_put. */
static bool quota_is_lost(const struct row_quota *row)
{
	return row->inode == 0 && row->inodes == 0;
}

static void quota_put(struct apply *a, uint32_t quota, const struct row_quota *row)
{
	struct key key = key_quota(quota);

	if (quota_is_lost(row)) /* nothing is counted in it, and its directory is gone */
		state_del(a->st, key_slice(&key));
	else
		state_put_row_quota(a->st, key, row);
}

static int over(struct apply *a, uint32_t quota, const struct row_quota *row, int64_t blocks,
		int64_t inodes)
{
	if (blocks > 0 && row->bytes_max && row->blocks > row->bytes_max / BLOCK_BYTES)
		return apply_refuse(a, ERR_DQUOT, "quota %u: %llu bytes are the limit", quota,
				    (unsigned long long)row->bytes_max);
	if (inodes > 0 && row->inodes_max && row->inodes > row->inodes_max)
		return apply_refuse(a, ERR_DQUOT, "quota %u: %llu inodes are the limit", quota,
				    (unsigned long long)row->inodes_max);
	return 0;
}

/* Adds to a quota and those around it. */
static int quota_add(struct apply *a, uint32_t quota, int64_t blocks, int64_t inodes, bool enforce)
{
	while (quota) {
		struct row_quota row;
		uint32_t next;
		int r = quota_get(a, quota, &row);
		if (r < 0 || quota_is_lost(&row))
			return r;
		row.blocks += (uint64_t)blocks;
		row.inodes += (uint64_t)inodes;
		next = row.parent;
		r = enforce ? over(a, quota, &row, blocks, inodes) : 0;
		if (r < 0)
			return r;
		quota_put(a, quota, &row);
		quota = next;
	}
	return 0;
}

int quota_charge(struct apply *a, uint32_t project, int64_t blocks, int64_t inodes)
{
	return quota_add(a, project, blocks, inodes, true);
}

int quota_room(struct apply *a, uint32_t project)
{
	while (project) {
		struct row_quota row;
		int r = quota_get(a, project, &row);
		if (r < 0)
			return r;
		row.blocks++;
		r = over(a, project, &row, 1, 0);
		if (r < 0)
			return r;
		project = row.parent;
	}
	return 0;
}

/* 1: quota is `of` or around it; 0; negative. */
static int quota_is_around(struct apply *a, uint32_t quota, uint32_t of)
{
	while (of && of != quota) {
		struct row_quota row;
		int r = quota_get(a, of, &row);
		if (r < 0)
			return r;
		of = row.parent;
	}
	return of == quota && quota != 0;
}

/* What is counted in `from` (0: nowhere) is counted in `to`. Limits hold for quotas that have it new.
 * First it is added: a row that nothing is counted in is gone. */
static int quota_transfer(struct apply *a, uint32_t from, uint32_t to, int64_t blocks,
			  int64_t inodes, bool enforce)
{
	int r = quota_add(a, to, blocks, inodes, false);

	for (uint32_t q = to; r == 0 && enforce && q;) {
		struct row_quota row;
		int there = quota_is_around(a, q, from);
		r = there < 0 ? there : quota_get(a, q, &row);
		if (r == 0 && !there)
			r = over(a, q, &row, blocks, inodes);
		q = r == 0 ? row.parent : 0;
	}
	return r < 0 ? r : quota_add(a, from, -blocks, -inodes, false);
}

static int quota_depth(struct apply *a, uint32_t quota, unsigned *ret)
{
	for (*ret = 0; quota; ++*ret) {
		struct row_quota row;
		int r = quota_get(a, quota, &row);
		if (r < 0)
			return r;
		quota = row.parent;
	}
	return 0;
}

/* The quota's directory is in `to` now, with all that is counted. */
static int quota_move(struct apply *a, uint32_t quota, struct row_quota *row, uint32_t to,
		      bool enforce)
{
	unsigned depth;
	int r = quota_depth(a, to, &depth);

	if (r == 0 && depth >= QUOTA_DEPTH_MAX)
		return apply_refuse(a, ERR_XDEV, "more than %d quotas in one another", QUOTA_DEPTH_MAX);
	if (r == 0)
		r = quota_transfer(a, row->parent, to, (int64_t)row->blocks, (int64_t)row->inodes,
				   enforce);
	if (r < 0)
		return r;
	row->parent = to;
	quota_put(a, quota, row);
	return 0;
}

/* The inode is in a directory that is counted in `to`. */
static int quota_take(struct apply *a, uint64_t inode, struct row_inode *file, uint32_t to,
		      bool enforce)
{
	struct row_quota own;
	int r;

	if (file->project == to)
		return 0;
	if (file->project) {
		r = quota_get(a, file->project, &own);
		if (r < 0)
			return r;
		if (own.inode == inode)
			return own.parent == to ? 0 : quota_move(a, file->project, &own, to, enforce);
	}
	r = quota_transfer(a, file->project, to, (int64_t)file->blocks, 1, enforce);
	if (r == 0)
		file->project = to;
	return r;
}

int quota_rehome(struct apply *a, uint64_t inode, struct row_inode *file, uint64_t dir)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode parent;
	struct row_quota own = {0};
	int r = ns_inode(a->st, dir, &parent, &backing);

	if (r < 0 || file->project == parent.project)
		return r;
	if (S_ISDIR(file->mode)) {
		r = file->project ? quota_get(a, file->project, &own) : 0;
		if (r == 0 && own.inode != inode) {
			r = ns_dir_empty(a->st, inode);
			if (r == 0)
				return apply_refuse(a, ERR_XDEV, "the directory is counted in another "
						    "quota");
		}
	}
	return r < 0 ? r : quota_take(a, inode, file, parent.project, true);
}

int quota_inode_gone(struct apply *a, uint64_t inode, const struct row_inode *row)
{
	struct row_quota own;
	int r;

	if (!row->project)
		return 0;
	r = quota_get(a, row->project, &own);
	if (r < 0)
		return r;
	if (own.inode == inode) {
		own.inode = own.bytes_max = own.inodes_max = 0;
		quota_put(a, row->project, &own);
	}
	return quota_add(a, row->project, -(int64_t)row->blocks, -1, false);
}

/* ---- commands ---- */

static int quota_make(struct apply *a, const struct wire_quota_set *req, struct row_inode *dir)
{
	struct row_quota row = {.inode = req->inode, .parent = dir->project,
				.bytes_max = req->bytes_max, .inodes_max = req->inodes_max};
	uint32_t quota = a->meta.next_quota ? a->meta.next_quota : 1;
	unsigned depth;
	int r = quota_depth(a, dir->project, &depth);

	if (r == 0 && depth >= QUOTA_DEPTH_MAX)
		r = apply_refuse(a, ERR_INVAL, "more than %d quotas in one another", QUOTA_DEPTH_MAX);
	if (r < 0)
		return r;
	a->meta.next_quota = quota + 1;
	quota_put(a, quota, &row);
	r = quota_transfer(a, dir->project, quota, (int64_t)dir->blocks, 1, false);
	dir->project = quota;
	apply_inode_put(a, req->inode, dir);
	return r;
}

static int quota_remove(struct apply *a, uint64_t inode, struct row_inode *dir,
			struct row_quota *row)
{
	uint32_t quota = dir->project;
	int r = quota_transfer(a, quota, row->parent, (int64_t)dir->blocks, 1, false);

	if (r == 0)
		r = quota_get(a, quota, row);
	if (r < 0)
		return r;
	row->inode = row->bytes_max = row->inodes_max = 0;
	quota_put(a, quota, row);
	dir->project = row->parent;
	apply_inode_put(a, inode, dir);
	return 0;
}

int apply_quota_set(struct apply *a, const struct cmd_quota_set *m, struct wire_empty *rep)
{
	const struct wire_quota_set *req = &m->req;
	_cleanup_buf_ struct buf backing = {0};
	struct row_quota row = {0};
	struct row_inode dir;
	int r = apply_inode_get(a, req->inode, &dir, &backing);

	if (r == 0 && !S_ISDIR(dir.mode))
		r = ERR_NOTDIR;
	if (r == 0 && dir.nlink == 0)
		r = ERR_NOENT;
	if (r == 0 && dir.project)
		r = quota_get(a, dir.project, &row);
	if (r < 0)
		return r;
	if (quota_is_lost(&row))
		dir.project = 0;
	if (row.inode != req->inode)
		return req->flags & QUOTA_REMOVE ? ERR_NODATA : quota_make(a, req, &dir);
	if (req->flags & QUOTA_REMOVE) {
		r = export_is_of(a, req->inode);
		if (r != 0)
			return r < 0 ? r : apply_refuse(a, ERR_BUSY, "an export is of this directory");
		return quota_remove(a, req->inode, &dir, &row);
	}
	row.bytes_max = req->bytes_max;
	row.inodes_max = req->inodes_max;
	quota_put(a, dir.project, &row);
	return 0;
}

/* One name, if it is there still. */
static int count_name(struct apply *a, uint64_t parent, struct slice name, uint32_t to)
{
	_cleanup_buf_ struct buf backing = {0};
	struct ns_slot slot;
	struct row_inode row;
	uint64_t inode = 0;
	int r = ns_slot_find(a->st, &a->meta, parent, name, &slot);

	if (r < 0)
		return r;
	if (slot.at >= 0)
		inode = slot.row.entries[slot.at].inode;
	ns_slot_release(&slot);
	r = inode ? ns_inode(a->st, inode, &row, &backing) : 0;
	if (r < 0 || !inode || row.project == to)
		return r;
	r = quota_take(a, inode, &row, to, false);
	if (r == 0)
		apply_inode_put(a, inode, &row);
	return r;
}

int apply_quota_count(struct apply *a, const struct cmd_quota_count *m, struct wire_empty *rep)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode dir;
	int r = apply_inode_get(a, m->req.parent, &dir, &backing);

	if (r == 0 && !S_ISDIR(dir.mode))
		r = ERR_NOTDIR;
	for (unsigned i = 0; i < m->req.n_names && r == 0; i++)
		r = count_name(a, m->req.parent, m->req.names[i], dir.project);
	return r;
}
