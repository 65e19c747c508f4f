/* Namespace calls: one message to the master each. The meta_ functions speak codes of err.h; the
 * public ones below them turn those into errno values. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/client.h"
#include "client/result.h"
#include "common/cleanup.h"

#define FIELDS _cleanup_buf_ struct buf fields = {0}

static int ask(struct cairn *fs, uint16_t op, const void *req, void *ret, struct buf *fields,
	       struct err *err)
{
	return master_call(&fs->master, op, req, ret, fields, client_deadline(fs), NULL, err);
}

static int mutate(struct cairn *fs, uint16_t op, void *req, struct wire_opid *id, void *ret,
		  struct buf *fields, struct err *err)
{
	return session_mutate(&fs->session, op, req, id, ret, fields, client_deadline(fs), err);
}

/* ---- codes of err.h ---- */

int meta_getattr(struct cairn *fs, uint64_t inode, struct wire_attr *ret, int64_t deadline_ms,
		 struct err *err)
{
	FIELDS;
	struct wire_inode_ref req = {.inode = inode};
	struct wire_attr_reply rep;
	int r;

	client_cred(NULL, &req.cred);
	r = master_call(&fs->master, OP_GETATTR, &req, &rep, &fields, deadline_ms, NULL, err);
	if (r == 0)
		*ret = rep.attr;
	return r;
}

int meta_lookup(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		struct slice name, struct wire_attr *ret, struct err *err)
{
	FIELDS;
	struct wire_name_ref req = {.parent = parent, .name = name};
	struct wire_attr_reply rep;
	int r;

	client_cred(cred, &req.cred);
	r = ask(fs, OP_LOOKUP, &req, &rep, &fields, err);
	if (r == 0)
		*ret = rep.attr;
	return r;
}

static struct when when_of(struct timespec ts)
{
	return (struct when){.sec = ts.tv_sec, .nsec = (uint32_t)ts.tv_nsec};
}

/* A size that was set: what was cached at and behind the cut may be gone. */
static void locations_follow_cut(struct cairn *fs, uint64_t number, uint64_t size)
{
	struct inode *inode = inode_find(&fs->inodes, number);

	if (!inode)
		return;
	inode_locations_cut(inode, size >> inode->chunk_bits);
	if (inode_close(&fs->inodes, inode))
		meta_release(fs, number, NULL);
}

int meta_setattr(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, unsigned mask,
		 const struct cairn_attr *attr, struct wire_attr *ret, struct err *err)
{
	FIELDS;
	struct wire_setattr req = {
		.inode = inode, .mask = mask, .mode = attr->mode, .uid = attr->uid,
		.gid = attr->gid, .size = attr->size, .atime = when_of(attr->atime),
		.mtime = when_of(attr->mtime),
	};
	struct wire_attr_reply rep;
	int r;

	client_cred(cred, &req.cred);
	r = mutate(fs, OP_SETATTR, &req, &req.id, &rep, &fields, err);
	/* Also after a failure: it may have been done without our knowing. */
	if (mask & CAIRN_SET_SIZE)
		locations_follow_cut(fs, inode, attr->size);
	if (r == 0)
		*ret = rep.attr;
	return r;
}

int meta_make(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
	      struct slice name, uint32_t mode, uint64_t rdev, const char *target, unsigned flags,
	      struct wire_attr *ret, bool *ret_existed, struct location *ret_chunk,
	      struct err *err)
{
	FIELDS;
	struct wire_make req = {.parent = parent, .name = name, .mode = mode, .rdev = rdev,
				.target = slice_str(target ? target : ""),
				.flags = (uint8_t)flags};
	struct wire_make_reply rep;
	int r;

	client_cred(cred, &req.cred);
	r = mutate(fs, OP_MAKE, &req, &req.id, &rep, &fields, err);
	if (r == 0 && ret_chunk)
		r = location_from_wire(ret_chunk, &rep.chunk, err);
	if (r < 0)
		return r;
	*ret = rep.attr;
	if (ret_existed)
		*ret_existed = rep.existed;
	return 0;
}

int meta_link(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, uint64_t parent,
	      struct slice name, struct wire_attr *ret, struct err *err)
{
	FIELDS;
	struct wire_link req = {.inode = inode, .parent = parent, .name = name};
	struct wire_attr_reply rep;
	int r;

	client_cred(cred, &req.cred);
	r = mutate(fs, OP_LINK, &req, &req.id, &rep, &fields, err);
	if (r == 0)
		*ret = rep.attr;
	return r;
}

/* The inode of a name if this session has it open, with a reference: it shall be held when it loses
 * its name. The reference keeps the last close from coming between. */
static struct inode *open_inode_named(struct cairn *fs, const struct cairn_cred *cred,
				      uint64_t parent, struct slice name)
{
	struct wire_attr attr;

	if (!inodes_any_open(&fs->inodes) || meta_lookup(fs, cred, parent, name, &attr, NULL) < 0)
		return NULL;
	return inode_find(&fs->inodes, attr.inode);
}

static void unhold(struct cairn *fs, struct inode *inode)
{
	uint64_t number = inode->number;

	if (inode_close(&fs->inodes, inode))
		meta_release(fs, number, NULL); /* if it fails, the session's end does it */
}

int meta_unlink(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		struct slice name, bool dir, struct err *err)
{
	FIELDS;
	struct wire_unlink req = {.parent = parent, .name = name, .dir = dir};
	struct wire_unlink_reply rep;
	struct inode *open = dir ? NULL : open_inode_named(fs, cred, parent, name);
	int r;

	client_cred(cred, &req.cred);
	if (open)
		req.hold = open->number;
	r = mutate(fs, OP_UNLINK, &req, &req.id, &rep, &fields, err);
	if (open) {
		/* Of an unknown outcome the release does no harm where nothing is held. */
		if (r < 0 ? err_to_errno(r) == EIO : rep.inode == open->number && rep.nlink == 0)
			inode_hold(&fs->inodes, open);
		unhold(fs, open);
	}
	return r;
}

int meta_rename(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		struct slice name, uint64_t new_parent, struct slice new_name, unsigned flags,
		struct err *err)
{
	FIELDS;
	struct wire_rename req = {.parent = parent, .name = name, .new_parent = new_parent,
				  .new_name = new_name, .flags = flags};
	struct wire_rename_reply rep;
	struct inode *open = flags & (RENAME_NOREPLACE | RENAME_EXCHANGE)
				     ? NULL : open_inode_named(fs, cred, new_parent, new_name);
	int r;

	client_cred(cred, &req.cred);
	if (open)
		req.hold = open->number;
	r = mutate(fs, OP_RENAME, &req, &req.id, &rep, &fields, err);
	if (open) {
		if (r < 0 ? err_to_errno(r) == EIO : rep.replaced == open->number)
			inode_hold(&fs->inodes, open);
		unhold(fs, open);
	}
	return r;
}

int meta_release(struct cairn *fs, uint64_t inode, struct err *err)
{
	FIELDS;
	struct wire_release req = {.inode = inode};
	struct wire_empty empty;

	return mutate(fs, OP_RELEASE, &req, &req.id, &empty, &fields, err);
}

ssize_t meta_readlink(struct cairn *fs, uint64_t inode, char *buf, size_t bytes, struct err *err)
{
	FIELDS;
	struct wire_inode_ref req = {.inode = inode};
	struct wire_readlink_reply rep;
	int r;

	client_cred(NULL, &req.cred);
	r = ask(fs, OP_READLINK, &req, &rep, &fields, err);
	if (r < 0)
		return r;
	if (rep.target.len >= bytes)
		return err_set(err, ERR_RANGE, "the target has %u bytes", rep.target.len);
	memcpy(buf, rep.target.data, rep.target.len);
	buf[rep.target.len] = '\0';
	return rep.target.len;
}

/* ---- errno values ---- */

int cairn_lookup(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		 const char *name, struct cairn_attr *ret)
{
	struct err err = {0};
	struct wire_attr attr;
	int r = meta_lookup(fs, cred, parent, slice_str(name), &attr, &err);

	if (r == 0)
		client_attr(&attr, ret);
	return (int)result(r, &err);
}

int cairn_getattr(struct cairn *fs, uint64_t inode, struct cairn_attr *ret)
{
	struct err err = {0};
	struct wire_attr attr;
	int r = meta_getattr(fs, inode, &attr, client_deadline(fs), &err);

	if (r == 0)
		client_attr(&attr, ret);
	return (int)result(r, &err);
}

int cairn_setattr(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
		  unsigned mask, const struct cairn_attr *attr, struct cairn_attr *ret)
{
	struct err err = {0};
	struct wire_attr got;
	int r = meta_setattr(fs, cred, inode, mask, attr, &got, &err);

	if (r == 0 && ret)
		client_attr(&got, ret);
	return (int)result(r, &err);
}

int cairn_make(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
	       const char *name, uint32_t mode, uint64_t rdev, const char *target, int flags,
	       struct cairn_attr *ret)
{
	struct err err = {0};
	struct wire_attr attr;
	int r = meta_make(fs, cred, parent, slice_str(name), mode, rdev, target,
			  flags & O_EXCL ? MAKE_EXCL : 0, &attr, NULL, NULL, &err);

	if (r == 0 && ret)
		client_attr(&attr, ret);
	return (int)result(r, &err);
}

int cairn_link_inode(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
		     uint64_t parent, const char *name, struct cairn_attr *ret)
{
	struct err err = {0};
	struct wire_attr attr;
	int r = meta_link(fs, cred, inode, parent, slice_str(name), &attr, &err);

	if (r == 0 && ret)
		client_attr(&attr, ret);
	return (int)result(r, &err);
}

int cairn_unlink_at(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		    const char *name, bool dir)
{
	struct err err = {0};
	return (int)result(meta_unlink(fs, cred, parent, slice_str(name), dir, &err), &err);
}

int cairn_rename_at(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		    const char *name, uint64_t new_parent, const char *new_name, unsigned flags)
{
	struct err err = {0};
	int r = meta_rename(fs, cred, parent, slice_str(name), new_parent, slice_str(new_name),
			    flags, &err);
	return (int)result(r, &err);
}

ssize_t cairn_readlink_inode(struct cairn *fs, uint64_t inode, char *buf, size_t bytes)
{
	struct err err = {0};
	return result(meta_readlink(fs, inode, buf, bytes, &err), &err);
}

int cairn_statfs(struct cairn *fs, struct cairn_statfs *ret)
{
	FIELDS;
	struct err err = {0};
	struct wire_inode_ref req = {.inode = CAIRN_ROOT};
	struct wire_statfs_reply rep;
	int r;

	client_cred(NULL, &req.cred);
	r = ask(fs, OP_STATFS, &req, &rep, &fields, &err);
	if (r == 0)
		*ret = (struct cairn_statfs){rep.total_bytes, rep.free_bytes, rep.inodes};
	return (int)result(r, &err);
}

/* ---- directories ---- */

/* Hands the entries of one page to fn. 1: all; 0: fn stopped it; *cookie follows. */
static int readdir_page(struct slice entries, cairn_dirent_fn fn, void *arg, uint64_t *cookie,
			bool *any, struct err *err)
{
	struct cursor page = cursor_slice(entries), one;
	int r;

	*any = false;
	while ((r = wire_list_next(&page, &one)) == 1) {
		char name[NAME_BYTES_MAX + 1];
		struct wire_dirent d;
		struct cairn_attr attr;
		if (wire_dirent_get(&one, &d) < 0 || d.name.len > NAME_BYTES_MAX)
			return err_set(err, ERR_PROTOCOL, "malformed directory entry");
		memcpy(name, d.name.data, d.name.len);
		name[d.name.len] = '\0';
		client_attr(&d.attr, &attr);
		*any = true;
		*cookie = d.cookie;
		if (fn(arg, name, d.cookie, &attr))
			return 0;
	}
	return r < 0 ? err_set(err, r, "malformed directory page") : 1;
}

int cairn_readdir(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
		  uint64_t cookie, cairn_dirent_fn fn, void *arg)
{
	FIELDS;
	struct err err = {0};
	struct wire_readdir req = {.inode = inode, .max_bytes = READDIR_BYTES_MAX};
	struct wire_readdir_reply rep;
	bool any = false;
	int r;

	client_cred(cred, &req.cred);
	do {
		req.cookie = cookie;
		r = ask(fs, OP_READDIR, &req, &rep, &fields, &err);
		if (r == 0)
			r = readdir_page(rep.entries, fn, arg, &cookie, &any, &err);
		if (r == 1 && !rep.eof && !any)
			r = err_set(&err, ERR_PROTOCOL, "an empty page of an unfinished directory");
	} while (r == 1 && !rep.eof);
	return (int)result(r, &err);
}

/* ---- extended attributes ---- */

static ssize_t value_copy(struct slice value, void *buf, size_t bytes, struct err *err)
{
	if (bytes == 0)
		return value.len;
	if (value.len > bytes)
		return err_set(err, ERR_RANGE, "the value has %u bytes", value.len);
	if (value.len > 0)
		memcpy(buf, value.data, value.len);
	return value.len;
}

ssize_t cairn_getxattr_inode(struct cairn *fs, uint64_t inode, const char *name, void *buf,
			     size_t bytes)
{
	FIELDS;
	struct err err = {0};
	struct wire_xattr_get req = {.inode = inode, .name = slice_str(name)};
	struct wire_xattr_reply rep;
	int r;

	client_cred(NULL, &req.cred);
	r = ask(fs, OP_XATTR_GET, &req, &rep, &fields, &err);
	return result(r < 0 ? r : value_copy(rep.value, buf, bytes, &err), &err);
}

ssize_t cairn_listxattr_inode(struct cairn *fs, uint64_t inode, char *buf, size_t bytes)
{
	FIELDS;
	struct err err = {0};
	struct wire_inode_ref req = {.inode = inode};
	struct wire_xattr_reply rep;
	int r;

	client_cred(NULL, &req.cred);
	r = ask(fs, OP_XATTR_LIST, &req, &rep, &fields, &err);
	return result(r < 0 ? r : value_copy(rep.value, buf, bytes, &err), &err);
}

static int xattr_set(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
		     const char *name, struct slice value, unsigned flags)
{
	FIELDS;
	struct err err = {0};
	struct wire_xattr_set req = {.inode = inode, .name = slice_str(name), .value = value,
				     .flags = (uint8_t)flags};
	struct wire_empty empty;

	client_cred(cred, &req.cred);
	return (int)result(mutate(fs, OP_XATTR_SET, &req, &req.id, &empty, &fields, &err), &err);
}

int cairn_setxattr_inode(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
			 const char *name, const void *value, size_t bytes, int flags)
{
	struct err err = {0};

	if (bytes > XATTR_VALUE_BYTES_MAX)
		return (int)result(err_set(&err, ERR_TOOBIG, "a value of %zu bytes", bytes), &err);
	if (flags & ~(XATTR_F_CREATE | XATTR_F_REPLACE))
		return (int)result(err_set(&err, ERR_INVAL, "flags %#x", flags), &err);
	return xattr_set(fs, cred, inode, name, slice_of(value, bytes), (unsigned)flags);
}

int cairn_removexattr_inode(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
			    const char *name)
{
	return xattr_set(fs, cred, inode, name, (struct slice){0}, XATTR_F_REMOVE);
}
