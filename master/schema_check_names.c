/* Inodes, names, extended attributes, open files, files being freed. */
#include "master/schema_check_priv.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "master/ns.h"

static bool seen_is(const struct seen_inode *s, uint32_t type)
{
	return s->type == type >> 12;
}

static void check_inode_fields(struct check *c, uint64_t id, const struct row_inode *row)
{
	if (id == 0 || id >= c->meta.next_inode)
		check_wrong(c, "inode %" PRIx64 " was never given out", id);
	if (!seen_find(&c->policies, row->policy))
		check_wrong(c, "inode %" PRIx64 " has policy %u, which is not there", id,
			    row->policy);
	if (row->chunk_bits < CHUNK_BITS_MIN || row->chunk_bits > CHUNK_BITS_MAX)
		check_wrong(c, "inode %" PRIx64 " has chunks of 2^%u bytes", id, row->chunk_bits);
	if (row->size > FILE_BYTES_MAX ||
	    (S_ISLNK(row->mode) && row->size != row->target.len))
		check_wrong(c, "inode %" PRIx64 " has a wrong size, %" PRIu64, id, row->size);
	if (row->nlink > NLINK_MAX || (S_ISDIR(row->mode) && row->nlink == 1))
		check_wrong(c, "inode %" PRIx64 " has nlink %u", id, row->nlink);
}

static int see_inode(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	uint64_t id = get_be64(key.data + 1);
	struct seen_inode *s = seen_add(&c->inodes, id);
	struct row_inode row;

	if (!s)
		return ERR_NOMEM;
	if (row_inode_get(&cur, &row) < 0) {
		check_wrong(c, "inode %" PRIx64 " does not decode", id);
		return 0;
	}
	check_inode_fields(c, id, &row);
	check_quota_inode(c, id, &row);
	s->type = (uint8_t)(row.mode >> 12 & 0xf);
	s->chunk_bits = row.chunk_bits;
	if (row.nlink == 0)
		s->flags = SEEN_UNLINKED;
	if (row.bare)
		s->flags |= SEEN_BARE;
	s->blocks = row.blocks;
	s->left = (int32_t)row.nlink;
	if (S_ISDIR(row.mode)) {
		s->parent = row.parent;
		s->left = row.nlink ? (int32_t)row.nlink - 2 : 0;
	}
	return 0;
}

/* One name that points at s. */
static void check_name(struct check *c, uint64_t parent, const struct row_dentry *e,
		       struct seen_inode *s)
{
	if (!seen_is(s, e->type))
		check_wrong(c, "a name of inode %" PRIx64 " has another type", s->id);
	if (!seen_is(s, S_IFDIR)) {
		s->left--;
		return;
	}
	if (s->parent != parent)
		check_wrong(c, "directory %" PRIx64 " has parent %" PRIx64 ", its name is in %"
			    PRIx64, s->id, s->parent, parent);
	if ((s->flags & (SEEN_NAMED | SEEN_UNLINKED)) || s->id == ROOT_INODE)
		check_wrong(c, "directory %" PRIx64 " has a name too many", s->id);
	s->flags |= SEEN_NAMED;
}

static int check_dentry(struct check *c, uint64_t parent, uint64_t hash,
			const struct row_dentry *e)
{
	struct seen_inode *s = seen_find(&c->inodes, e->inode), *dir;
	uint64_t own = 0;
	int r = schema_name_hash(c->meta.hash_key.data, e->name, &own);

	if (r < 0)
		return r;
	if (own != hash)
		check_wrong(c, "a name in %" PRIx64 " is under a wrong hash", parent);
	if (ns_name_check(e->name) < 0)
		check_wrong(c, "a name in %" PRIx64 " is none that may be made", parent);
	if (!s)
		check_wrong(c, "a name in %" PRIx64 " points at inode %" PRIx64
			    ", which is not there", parent, e->inode);
	else
		check_name(c, parent, e, s);
	dir = seen_find(&c->inodes, parent);
	if (dir && S_ISDIR(e->type))
		dir->left--;
	return 0;
}

static int check_dentries(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	uint64_t parent = get_be64(key.data + 1);
	struct seen_inode *dir = seen_find(&c->inodes, parent);
	struct row_dentries row;
	int r = 0;

	if (row_dentries_get(&cur, &row) < 0 || row.n_entries == 0) {
		check_wrong(c, "a row of names in %" PRIx64 " does not decode or is empty", parent);
		return 0;
	}
	if (!dir || !seen_is(dir, S_IFDIR) || (dir->flags & SEEN_UNLINKED))
		check_wrong(c, "names in %" PRIx64 ", which is no directory or was removed",
			    parent);
	for (int i = 0; i < row.n_entries && r == 0; i++) {
		for (int j = 0; j < i; j++)
			if (slice_eq(row.entries[i].name, row.entries[j].name))
				check_wrong(c, "a name in %" PRIx64 " is there twice", parent);
		r = check_dentry(c, parent, get_be64(key.data + 9), &row.entries[i]);
	}
	return r;
}

static int check_xattr(struct check *c, struct slice key, struct slice value)
{
	const struct seen_inode *s;
	uint64_t inode;

	if (key.len <= 9 || key.len > 9 + XATTR_NAME_BYTES_MAX ||
	    value.len > XATTR_VALUE_BYTES_MAX) {
		check_wrong(c, "an extended attribute with a key of %u bytes and a value of %u",
			    key.len, value.len);
		return 0;
	}
	inode = get_be64(key.data + 1);
	s = seen_find(&c->inodes, inode);
	if (!s)
		check_wrong(c, "an extended attribute of inode %" PRIx64 ", which is not there",
			    inode);
	else if (s->flags & SEEN_BARE)
		check_wrong(c, "an extended attribute of inode %" PRIx64 ", which is to have none",
			    inode);
	if (inode != c->xattrs_of)
		c->xattrs = 0;
	c->xattrs_of = inode;
	if (++c->xattrs == XATTRS_MAX + 1)
		check_wrong(c, "inode %" PRIx64 " has more than %d extended attributes", inode,
			    XATTRS_MAX);
	return 0;
}

static int check_held(struct check *c, struct slice key, struct slice value)
{
	uint64_t session = get_be64(key.data + 1), inode = get_be64(key.data + 9);
	struct seen_inode *s = seen_find(&c->inodes, inode);

	if (session && !seen_find(&c->sessions, session))
		check_wrong(c, "inode %" PRIx64 " is held by session %" PRIx64
			    ", which is not there", inode, session);
	else if (s)
		s->flags |= SEEN_HELD;
	if (!s || !(s->flags & SEEN_UNLINKED))
		check_wrong(c, "session %" PRIx64 " holds inode %" PRIx64
			    ", which is not there or has a name", session, inode);
	return 0;
}

static int check_reclaim(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	uint64_t inode = get_be64(key.data + 1);
	struct row_reclaim row;

	if (row_reclaim_get(&cur, &row) < 0)
		check_wrong(c, "the reclaim row of %" PRIx64 " does not decode", inode);
	if (inode >= c->meta.next_inode || seen_find(&c->inodes, inode))
		check_wrong(c, "inode %" PRIx64 " is being freed and is still there, or never was",
			    inode);
	return 0;
}

/* ---- at the end ---- */

/* How many the row says, for a message. */
static uint32_t nlink_of(struct check *c, uint64_t inode)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	return ns_inode(c->st, inode, &row, &backing) == 0 ? row.nlink : 0;
}

static void check_links(struct check *c, struct seen_inode *s)
{
	bool dir = seen_is(s, S_IFDIR);

	if (s->left != 0) {
		uint32_t nlink = nlink_of(c, s->id);
		check_wrong(c, "%s %" PRIx64 " has nlink %u and %" PRId64 " %s",
			    dir ? "directory" : "inode", s->id, nlink,
			    (int64_t)nlink - s->left - (dir && nlink ? 2 : 0),
			    dir ? "sub-directories" : "names");
	}
	if (dir && s->id != ROOT_INODE && !(s->flags & (SEEN_NAMED | SEEN_UNLINKED)))
		check_wrong(c, "directory %" PRIx64 " has no name", s->id);
	if ((s->flags & SEEN_UNLINKED) && !(s->flags & SEEN_HELD))
		check_wrong(c, "inode %" PRIx64 " has no name and no holder", s->id);
}

/* Walks up from a directory until something is known, then writes down what it means for all on
 * the way: each directory is walked over twice in all. */
static void check_reached(struct check *c, struct seen_inode *s)
{
	struct seen_inode *at = s;
	unsigned verdict;

	while (at && seen_is(at, S_IFDIR) &&
	       !(at->flags & (SEEN_REACHED | SEEN_LOST | SEEN_ON_PATH)) && at->id != ROOT_INODE) {
		at->flags |= SEEN_ON_PATH;
		at = seen_find(&c->inodes, at->parent);
	}
	if (at && (at->flags & SEEN_ON_PATH))
		check_wrong(c, "directory %" PRIx64 " lies in itself", at->id);
	verdict = at && (at->id == ROOT_INODE || (at->flags & SEEN_REACHED)) ? SEEN_REACHED
									      : SEEN_LOST;
	if (verdict == SEEN_LOST && s != at)
		check_wrong(c, "directory %" PRIx64 " cannot be reached from the root", s->id);
	for (at = s; at && (at->flags & SEEN_ON_PATH); at = seen_find(&c->inodes, at->parent))
		at->flags = (uint8_t)((at->flags & ~SEEN_ON_PATH) | verdict);
}

int check_names(struct check *c)
{
	static const struct { uint8_t type; uint32_t key_len; check_row_fn fn; } passes[] = {
		{KEY_INODE, 9, see_inode}, {KEY_DENTRY, 17, check_dentries},
		{KEY_XATTR, 0, check_xattr}, {KEY_HELD, 17, check_held},
		{KEY_RECLAIM, 9, check_reclaim},
	};
	struct seen_inode *rows, *root;
	int r = c->meta.hash_key.len == HASH_KEY_BYTES ? 0 : ERR_CORRUPT;

	for (size_t i = 0; i < ARRAY_LEN(passes) && r == 0; i++)
		r = check_each(c, passes[i].type, passes[i].key_len, passes[i].fn);
	if (r < 0)
		return r;
	root = seen_find(&c->inodes, ROOT_INODE);
	if (!root || !seen_is(root, S_IFDIR) || root->parent != ROOT_INODE)
		check_wrong(c, "there is no root directory");
	rows = (struct seen_inode *)c->inodes.rows;
	for (size_t i = 0; i < c->inodes.n; i++) {
		check_links(c, &rows[i]);
		if (seen_is(&rows[i], S_IFDIR) && !(rows[i].flags & SEEN_UNLINKED))
			check_reached(c, &rows[i]);
	}
	return 0;
}
