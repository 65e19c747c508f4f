/* Exports: rows that say which directory a certificate's holder sees as all there is, as whom, and how
 * much of it. What lies in an export is what is counted in its directory's quota: one look at an inode
 * tells, no directory is walked, and quotas see to it that no name leads from one into another. */
#include "master/apply_priv.h"

#include <sys/stat.h>

#include "common/cleanup.h"

static bool name_ok(struct slice name)
{
	char text[IDENTITY_NAME_BYTES];

	if (name.len == 0 || name.len >= sizeof(text))
		return false;
	memcpy(text, name.data, name.len);
	text[name.len] = '\0';
	return identity_name_ok(text);
}

/* The directory must have a quota of its own. */
static int dir_check(struct apply *a, uint64_t inode)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_quota quota = {0};
	struct row_inode dir;
	int r = apply_inode_get(a, inode, &dir, &backing);

	if (r == 0 && !S_ISDIR(dir.mode))
		r = ERR_NOTDIR;
	if (r == 0 && dir.project)
		r = state_get_row_quota(a->st, key_quota(dir.project), &quota, &backing);
	if (r < 0)
		return r;
	return quota.inode == inode ? 0 : apply_refuse(a, ERR_NODATA, "the directory has no quota, by "
						       "which to know what lies in it");
}

int apply_export_set(struct apply *a, const struct cmd_export_set *m, struct wire_empty *rep)
{
	const struct wire_export_set *req = &m->req;
	const uint8_t both = EXPORT_ROOT_SQUASH | EXPORT_ALL_SQUASH;
	struct row_export row = {.inode = req->inode, .flags = req->flags, .uid = req->uid,
				 .gid = req->gid, .sessions_max = req->sessions_max,
				 .rate_max = req->rate_max};
	_cleanup_buf_ struct buf backing = {0};
	struct row_export old;
	struct key key;
	int r, there;

	if (!name_ok(req->name) || (req->flags & ~(both | EXPORT_READ_ONLY | EXPORT_REMOVE)) ||
	    (req->flags & both) == both)
		return ERR_INVAL;
	key = key_export(req->name);
	there = state_get_row_export(a->st, key, &old, &backing);
	if (there < 0)
		return there;
	if (req->flags & EXPORT_REMOVE) {
		if (!there)
			return ERR_NODATA;
		state_del(a->st, key_slice(&key));
		a->res->remapped = true;
		return 0;
	}
	r = dir_check(a, req->inode);
	if (r < 0)
		return r;
	state_put_row_export(a->st, key, &row);
	a->res->remapped = there && (old.inode != row.inode || old.uid != row.uid ||
				     old.gid != row.gid || (old.flags & both) != (row.flags & both));
	return 0;
}

int export_is_of(struct apply *a, uint64_t inode)
{
	uint8_t type = KEY_EXPORT;
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(a->st, slice_of(&type, 1), (struct slice){0}, &it), found = 0;

	if (r < 0)
		return r;
	while (!found && (r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		struct row_export row;
		if (row_export_get(&c, &row) < 0) {
			r = ERR_CORRUPT;
			break;
		}
		found = row.inode == inode;
	}
	state_iter_close(it);
	return r < 0 ? r : found;
}

/* Opening is rare: they are counted when it is asked. */
static int sessions_count(struct apply *a, struct slice name, uint32_t *ret)
{
	uint8_t type = KEY_SESSION;
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(a->st, slice_of(&type, 1), (struct slice){0}, &it);

	*ret = 0;
	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		struct row_session row;
		if (row_session_get(&c, &row) < 0) {
			r = ERR_CORRUPT;
			break;
		}
		*ret += !row.closing && slice_eq(row.export, name);
	}
	state_iter_close(it);
	return r < 0 ? r : 0;
}

int export_enter(struct apply *a, struct slice name, bool is_new, uint64_t *ret_root,
		 uint8_t *ret_checked)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_export row;
	uint32_t n = 0;
	int r;

	if (name.len == 0)
		return 0;
	r = name_ok(name) ? state_get_row_export(a->st, key_export(name), &row, &backing) : 0;
	if (r == 0)
		return apply_refuse(a, ERR_PERM, "there is no export %.*s", (int)name.len,
				    (const char *)name.data);
	if (r == 1 && is_new && row.sessions_max)
		r = sessions_count(a, name, &n);
	if (r < 0)
		return r;
	if (row.sessions_max && n >= row.sessions_max)
		return apply_refuse(a, ERR_LIMIT, "export %.*s has %u sessions, as many as it may",
				    (int)name.len, (const char *)name.data, n);
	*ret_root = row.inode;
	*ret_checked = (row.flags & (EXPORT_ROOT_SQUASH | EXPORT_ALL_SQUASH)) != 0;
	return 0;
}
