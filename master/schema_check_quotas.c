/* What quotas count; exports, which rest on them. */
#include "master/schema_check_priv.h"

#include <inttypes.h>

#include "common/cleanup.h"
#include "master/ns.h"

static int see_quota(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	uint32_t id = get_be32(key.data + 1);
	struct seen_quota *q;
	struct row_quota row;

	if (row_quota_get(&cur, &row) < 0) {
		check_wrong(c, "quota %" PRIu32 " does not decode", id);
		return 0;
	}
	if (id == 0 || id >= c->meta.next_quota)
		check_wrong(c, "quota %" PRIu32 " was never given out", id);
	q = seen_add(&c->quotas, id);
	if (!q)
		return ERR_NOMEM;
	q->inode = row.inode;
	q->parent = row.parent;
	q->blocks = row.blocks;
	q->inodes = row.inodes;
	if (row.inodes == 0)
		check_wrong(c, "quota %" PRIu32 " counts nothing and is there", id);
	return 0;
}

/* Leaves no circle for those who walk up. */
static void check_parents(struct check *c)
{
	struct seen_quota *rows = (struct seen_quota *)c->quotas.rows;

	for (size_t i = 0; i < c->quotas.n; i++) {
		struct seen_quota *q = &rows[i];
		size_t steps = 0;
		while (q && q->parent && steps++ <= c->quotas.n)
			q = seen_find(&c->quotas, q->parent);
		if (q && !q->parent)
			continue;
		check_wrong(c, "quota %" PRIu64 " lies in one that is not there, or in itself",
			    rows[i].id);
		rows[i].parent = 0;
	}
}

int see_quotas(struct check *c)
{
	int r = check_each(c, KEY_QUOTA, 5, see_quota);

	if (r == 0)
		check_parents(c);
	return r;
}

void check_quota_inode(struct check *c, uint64_t inode, const struct row_inode *row)
{
	struct seen_quota *q;

	if (!row->project)
		return;
	q = seen_find(&c->quotas, row->project);
	if (!q)
		check_wrong(c, "inode %" PRIx64 " is counted in quota %" PRIu32 ", which is not there",
			    inode, row->project);
	for (; q; q = q->parent ? seen_find(&c->quotas, q->parent) : NULL) {
		q->inodes--;
		q->blocks -= row->blocks;
	}
}

int check_quotas(struct check *c)
{
	const struct seen_quota *rows = (const struct seen_quota *)c->quotas.rows;

	for (size_t i = 0; i < c->quotas.n; i++) {
		_cleanup_buf_ struct buf backing = {0};
		const struct seen_quota *q = &rows[i];
		struct row_inode dir = {0};
		int r = q->inode ? ns_inode(c->st, q->inode, &dir, &backing) : 0;
		if (r < 0 && r != ERR_NOENT && r != ERR_CORRUPT)
			return r;
		if (q->inode && (r < 0 || dir.project != q->id))
			check_wrong(c, "quota %" PRIu64 " is of directory %" PRIx64
				    ", which is not there or counted elsewhere", q->id, q->inode);
		if (q->blocks || q->inodes)
			check_wrong(c, "quota %" PRIu64 " counts %" PRId64 " inodes and %" PRId64
				    " blocks more than there are", q->id, (int64_t)q->inodes,
				    (int64_t)q->blocks);
	}
	return 0;
}

static int check_export(struct check *c, struct slice key, struct slice value)
{
	_cleanup_buf_ struct buf backing = {0};
	struct cursor cur = cursor_slice(value);
	const struct seen_quota *q = NULL;
	int name_bytes = (int)key.len - 1;
	const char *name = (const char *)key.data + 1;
	struct row_export row;
	struct row_inode dir;
	int r;

	if (row_export_get(&cur, &row) < 0) {
		check_wrong(c, "export %.*s does not decode", name_bytes, name);
		return 0;
	}
	r = ns_inode(c->st, row.inode, &dir, &backing);
	if (r < 0)
		return r == ERR_NOENT || r == ERR_CORRUPT ? 0 : r;
	q = dir.project ? seen_find(&c->quotas, dir.project) : NULL;
	if (!q || q->inode != row.inode)
		check_wrong(c, "export %.*s is of directory %" PRIx64 ", which has no quota of its own",
			    name_bytes, name, row.inode);
	return 0;
}

int check_exports(struct check *c)
{
	return check_each(c, KEY_EXPORT, 0, check_export);
}
