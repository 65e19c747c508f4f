/* Exports: setting and telling them. */
#include <errno.h>
#include <stdio.h>

#include "client/client.h"
#include "client/result.h"
#include "common/cleanup.h"

static const uint8_t squash_flags[] = {
	[CAIRN_SQUASH_ROOT] = EXPORT_ROOT_SQUASH, [CAIRN_SQUASH_ALL] = EXPORT_ALL_SQUASH,
};

static int export_ask(struct cairn *fs, const struct wire_export_set *req, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_empty rep;

	return master_call(&fs->master, OP_EXPORT_SET, req, &rep, &fields, client_deadline(fs), NULL,
			   err);
}

static int on_innermost(void *arg, const struct cairn_quota *quota)
{
	*(struct cairn_quota *)arg = *quota;
	return 1;
}

/* The directory's own quota, without limits if it had none. What is in there is counted in any case: an
 * earlier attempt may have been interrupted. */
static int quota_ensure(struct cairn *fs, uint64_t inode)
{
	struct cairn_quota own = {0};
	int r = cairn_quotas(fs, inode, on_innermost, &own);

	if (r < 0)
		return r;
	if (own.inode != inode)
		own = (struct cairn_quota){0};
	return cairn_quota_set(fs, inode, own.bytes_max, own.inodes_max);
}

int cairn_export_set(struct cairn *fs, const struct cairn_export *x)
{
	struct wire_export_set req = {
		.name = slice_str(x->name), .inode = x->inode, .uid = x->uid, .gid = x->gid,
		.rate_max = x->rate_max, .sessions_max = x->sessions_max,
		.flags = x->read_only ? EXPORT_READ_ONLY : 0,
	};
	struct err err = {0};

	if (x->squash < CAIRN_SQUASH_NONE || x->squash > CAIRN_SQUASH_ALL)
		return (int)result(err_set(&err, ERR_INVAL, "squash %d", x->squash), &err);
	req.flags |= squash_flags[x->squash];
	return (int)result(export_ask(fs, &req, &err), &err);
}

int cairn_export_add(struct cairn *fs, const struct cairn_export *x)
{
	int r = quota_ensure(fs, x->inode);

	return r < 0 ? r : cairn_export_set(fs, x);
}

int cairn_export_remove(struct cairn *fs, const char *name)
{
	struct wire_export_set req = {.name = slice_str(name), .flags = EXPORT_REMOVE};
	struct err err = {0};

	return (int)result(export_ask(fs, &req, &err), &err);
}

static void text_take(char *ret, size_t room, struct slice from)
{
	if (from.len < room)
		memcpy(ret, from.data, from.len);
}

static int exports_page(struct slice rows, cairn_export_fn fn, void *arg, struct err *err)
{
	struct cursor list = cursor_slice(rows), item;
	int r;

	while ((r = wire_list_next(&list, &item)) == 1) {
		struct wire_export row;
		if (wire_export_get(&item, &row) < 0)
			return err_set(err, ERR_PROTOCOL, "a malformed export");
		struct cairn_export x = {
			.inode = row.inode, .uid = row.uid, .gid = row.gid, .rate_max = row.rate_max,
			.sessions_max = row.sessions_max, .sessions = row.sessions,
			.read_only = row.flags & EXPORT_READ_ONLY,
			.squash = row.flags & EXPORT_ALL_SQUASH    ? CAIRN_SQUASH_ALL
				  : row.flags & EXPORT_ROOT_SQUASH ? CAIRN_SQUASH_ROOT
								   : CAIRN_SQUASH_NONE,
		};
		text_take(x.name, sizeof(x.name), row.name);
		text_take(x.path, sizeof(x.path), row.path);
		r = fn(arg, &x);
		if (r != 0)
			return r;
	}
	return r < 0 ? err_set(err, r, "a malformed list of exports") : 0;
}

int cairn_exports(struct cairn *fs, cairn_export_fn fn, void *arg)
{
	_cleanup_buf_ struct buf fields = {0}, from = {0};
	struct wire_exports_reply rep;
	struct err err = {0};
	int r;

	do {
		struct wire_exports req = {.from = buf_slice(&from)};
		r = master_call(&fs->master, OP_EXPORTS, &req, &rep, &fields, client_deadline(fs), NULL,
				&err);
		if (r == 0)
			r = exports_page(rep.rows, fn, arg, &err);
		buf_clear(&from);
		if (r == 0)
			buf_append_slice(&from, rep.next);
	} while (r == 0 && from.len > 0);
	return r < 0 ? (int)result(r, &err) : 0;
}
