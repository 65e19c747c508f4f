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

/* A read whose answer may be entered into the cache, with the ticket that was taken before. */
static int ask_leased(struct cairn *fs, uint16_t op, const void *req, void *ret,
		      struct buf *fields, int64_t deadline_ms, uint8_t *ret_leased,
		      struct err *err)
{
	return master_call_leased(&fs->master, op, req, ret, fields, deadline_ms, NULL, ret_leased,
				  err);
}

static int mutate(struct cairn *fs, uint16_t op, void *req, struct wire_opid *id, void *ret,
		  struct buf *fields, struct err *err)
{
	return session_mutate(&fs->session, op, req, id, ret, fields, client_deadline(fs), err);
}

/* A mutation that changes what may be cached (client/cache.h, rule 3). */
struct change {
	struct edit edit;
	uint8_t leased;
	bool unsure;
};

static int change_run(struct cairn *fs, struct change *ch, uint16_t op, void *req,
		      struct wire_opid *id, void *ret, struct buf *fields, struct err *err)
{
	return session_mutate_leased(&fs->session, op, req, id, ret, fields, client_deadline(fs),
				     &ch->leased, &ch->unsure, err);
}

/* The ticket for what the answer tells, or 0. */
static uint64_t change_end(struct change *ch)
{
	if (!ch->unsure)
		return edit_end(&ch->edit);
	edit_doubt(&ch->edit);
	return 0;
}

/* As change_end; the attributes that the answer carries are entered. True: they were. */
static bool change_end_attr(struct cairn *fs, struct change *ch, int r,
			    const struct wire_attr *attr)
{
	uint64_t ticket = change_end(ch);

	return r == 0 && ticket && (ch->leased & WIRE_LEASED_INODE) &&
	       cache_put_attr(&fs->lease.cache, ticket, attr);
}

/* ---- codes of err.h ---- */

/* As the master has it, or had it when it was asked. access: what must be permitted to cred (of ACCESS_;
 * only the master knows that). */
static int getattr_plain(struct cairn *fs, const struct cairn_cred *cred, uint8_t access,
			 uint64_t inode, struct wire_attr *ret, bool *ret_held, int64_t deadline_ms,
			 struct err *err)
{
	FIELDS;
	struct cache *cache = &fs->lease.cache;
	struct wire_inode_ref req = {.inode = inode, .access = access};
	struct wire_attr_reply rep;
	uint64_t ticket;
	uint8_t leased;
	int r;

	*ret_held = !access && cache_get_attr(cache, inode, ret);
	if (*ret_held)
		return 0;
	ticket = cache_ticket(cache);
	req.session = lease_reader(&fs->lease);
	session_cred(&fs->session, cred, &req.cred);
	r = ask_leased(fs, OP_GETATTR, &req, &rep, &fields, deadline_ms, &leased, err);
	if (r < 0)
		return r;
	if (leased & WIRE_LEASED_INODE)
		*ret_held = cache_put_attr(cache, ticket, &rep.attr);
	*ret = rep.attr;
	return 0;
}

/* With what is held back. If that was flushed while the master was asked, its answer may be from before
 * that: it is asked again. */
static int getattr_full(struct cairn *fs, const struct cairn_cred *cred, uint8_t access,
			uint64_t inode, struct wire_attr *ret, bool *ret_held, int64_t deadline_ms,
			struct err *err)
{
	bool before;
	int r;

	do {
		before = writeback_has(&fs->writeback, inode);
		r = getattr_plain(fs, cred, access, inode, ret, ret_held, deadline_ms, err);
	} while (r == 0 && !writeback_attr(&fs->writeback, ret) && before);
	return r;
}

int meta_getattr_held(struct cairn *fs, uint64_t inode, struct wire_attr *ret, bool *ret_held,
		      int64_t deadline_ms, struct err *err)
{
	return getattr_full(fs, NULL, 0, inode, ret, ret_held, deadline_ms, err);
}

int meta_getattr(struct cairn *fs, uint64_t inode, struct wire_attr *ret, int64_t deadline_ms,
		 struct err *err)
{
	bool held;
	return meta_getattr_held(fs, inode, ret, &held, deadline_ms, err);
}

int meta_getattr_to_open(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, int flags,
			 struct wire_attr *ret, struct err *err)
{
	int mode = flags & O_ACCMODE;
	uint8_t access = 0;
	bool held;

	if (session_is_checked(&fs->session)) {
		access |= mode != O_WRONLY ? ACCESS_READ : 0;
		access |= mode != O_RDONLY || (flags & O_TRUNC) ? ACCESS_WRITE : 0;
	}
	return getattr_full(fs, cred, access, inode, ret, &held, client_deadline(fs), err);
}

/* 1: the cache knows; 0: ask; ERR_NOENT: it knows that there is none. */
static int lookup_cached(struct cairn *fs, uint64_t parent, struct slice name,
			 struct wire_attr *ret, struct held *held, struct err *err)
{
	uint64_t inode;
	int r;

	if (!cache_get_name(&fs->lease.cache, parent, name, &inode))
		return 0;
	held->name = true;
	if (!inode)
		return err_set(err, ERR_NOENT, "%.*s: %s", (int)name.len, (const char *)name.data,
			       err_text(ERR_NOENT));
	r = meta_getattr_held(fs, inode, ret, &held->attr, client_deadline(fs), err);
	if (r == 0 && ret->nlink > 0)
		return 1;
	/* It went while we looked: the name names something else now, or nothing. */
	*held = (struct held){0};
	return r == ERR_NOENT || r == 0 ? 0 : r;
}

static bool is_dots(struct slice name)
{
	return slice_eq(name, SLICE_LIT(".")) || slice_eq(name, SLICE_LIT(".."));
}

/* As the master has it, or had it when it was asked. */
static int lookup_plain(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
			struct slice name, struct wire_attr *ret, struct held *held,
			struct err *err)
{
	FIELDS;
	struct cache *cache = &fs->lease.cache;
	struct wire_name_ref req = {.parent = parent, .name = name};
	struct wire_attr_reply rep;
	uint64_t ticket;
	uint8_t leased;
	int r;

	*held = (struct held){0};
	r = is_dots(name) ? 0 : lookup_cached(fs, parent, name, ret, held, err);
	if (r != 0)
		return r < 0 ? r : 0;
	ticket = cache_ticket(cache);
	req.session = lease_reader(&fs->lease);
	session_cred(&fs->session, cred, &req.cred);
	r = ask_leased(fs, OP_LOOKUP, &req, &rep, &fields, client_deadline(fs), &leased, err);
	if ((r == 0 || r == ERR_NOENT) && (leased & WIRE_LEASED_PARENT) && !is_dots(name))
		held->name = cache_put_name(cache, ticket, parent, name, r ? 0 : rep.attr.inode);
	if (r == 0 && (leased & WIRE_LEASED_INODE))
		held->attr = cache_put_attr(cache, ticket, &rep.attr);
	if (r == 0)
		*ret = rep.attr;
	return r;
}

/* As meta_getattr_held; which file it is is not known before, nor whether it has that name still when
 * its attributes are asked for. */
int meta_lookup_held(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		     struct slice name, struct wire_attr *ret, struct held *held, struct err *err)
{
	struct writeback *w = &fs->writeback;
	int64_t deadline = client_deadline(fs);

	for (;;) {
		uint64_t ended = writeback_ended(w);
		int r = lookup_plain(fs, cred, parent, name, ret, held, err);
		if (r < 0 || writeback_attr(w, ret) || writeback_ended(w) == ended ||
		    !S_ISREG(ret->mode))
			return r;
		r = meta_getattr_held(fs, ret->inode, ret, &held->attr, deadline, err);
		if (r != ERR_NOENT && (r < 0 || ret->nlink > 0))
			return r;
	}
}

int meta_lookup(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		struct slice name, struct wire_attr *ret, struct err *err)
{
	struct held held;
	return meta_lookup_held(fs, cred, parent, name, ret, &held, err);
}

static struct when when_of(struct timespec ts)
{
	return (struct when){.sec = ts.tv_sec, .nsec = (uint32_t)ts.tv_nsec};
}

/* Attributes were set, r the outcome. What is known of the file's chunks stays right, unless its size
 * was set (also after a failure: it may have been done without our knowing): what was cached at and
 * behind the cut, which may be at the old end, may be gone. */
static void locations_follow(struct cairn *fs, uint64_t number, unsigned mask, int r,
			     uint64_t change)
{
	struct inode *inode = mask == SET_ACCESSED ? NULL : inode_find(&fs->inodes, number);

	if (!inode)
		return;
	if (mask & CAIRN_SET_SIZE)
		inode_locations_cut(inode, 0);
	else if (r == 0)
		inode_changed(inode, change);
	if (inode_close(&fs->inodes, inode))
		meta_release(fs, number, NULL);
}

static int setattr_plain(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
			 unsigned mask, const struct cairn_attr *attr, struct wire_attr *ret,
			 struct err *err)
{
	FIELDS;
	struct wire_setattr req = {
		.inode = inode, .mask = mask, .mode = attr->mode, .uid = attr->uid,
		.gid = attr->gid, .size = attr->size, .atime = when_of(attr->atime),
		.mtime = when_of(attr->mtime),
	};
	struct wire_attr_reply rep = {0};
	struct change ch;
	int r;

	session_cred(&fs->session, cred, &req.cred);
	edit_begin(&ch.edit, &fs->lease.cache);
	edit_inode(&ch.edit, inode, CACHED_ATTR | CACHED_XATTRS |
				    (mask & CAIRN_SET_SIZE ? CACHED_DATA : 0));
	r = change_run(fs, &ch, OP_SETATTR, &req, &req.id, &rep, &fields, err);
	change_end_attr(fs, &ch, r, &rep.attr);
	locations_follow(fs, inode, mask, r, rep.attr.change);
	if (r == 0)
		*ret = rep.attr;
	return r;
}

int meta_setattr(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, unsigned mask,
		 const struct cairn_attr *attr, struct wire_attr *ret, struct err *err)
{
	struct writeback *w = &fs->writeback;
	int r;

	if (mask == SET_ACCESSED)
		return setattr_plain(fs, cred, inode, mask, attr, ret, err);
	/* A size is set behind what was written before. */
	if (mask & CAIRN_SET_SIZE)
		r = writeback_settle(w, inode, false, client_deadline(fs));
	else
		r = writeback_freeze(w, inode, client_deadline(fs));
	if (r < 0)
		return err_set(err, r, "what was written before is not with the servers yet");
	r = setattr_plain(fs, cred, inode, mask, attr, ret, err);
	if (!(mask & CAIRN_SET_SIZE))
		writeback_thaw(w, inode, r == 0, mask, ret);
	if (r == 0)
		writeback_attr(w, ret);
	return r;
}

/* To the attributes of an answer from before now. If it cannot be told what they are by now, they are
 * what they were then, and not to be used again. */
static void add_held_back(struct cairn *fs, struct wire_attr *attr, struct held *held)
{
	struct wire_attr now;

	if (!S_ISREG(attr->mode) || writeback_attr(&fs->writeback, attr))
		return;
	held->attr = false;
	if (meta_getattr_held(fs, attr->inode, &now, &held->attr, client_deadline(fs), NULL) == 0)
		*attr = now;
}

/* The directory of names that were changed, as the answer tells it. */
static void put_dir(struct cairn *fs, struct change *ch, uint64_t ticket, int r, uint64_t dir,
		    const struct wire_attr *attr)
{
	if (r == 0 && ticket && (ch->leased & WIRE_LEASED_PARENT) && attr->inode == dir)
		cache_put_attr(&fs->lease.cache, ticket, attr);
}

int meta_make(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
	      struct slice name, uint32_t mode, uint64_t rdev, const char *target, unsigned flags,
	      struct wire_attr *ret, bool *ret_existed, struct location *ret_chunk,
	      struct held *held, struct err *err)
{
	FIELDS;
	struct cache *cache = &fs->lease.cache;
	struct lease_mark mark = lease_mark(&fs->lease);
	struct wire_make req = {.parent = parent, .name = name, .mode = mode, .rdev = rdev,
				.target = slice_str(target ? target : ""),
				.flags = (uint8_t)flags};
	struct wire_make_reply rep;
	struct change ch;
	struct held none;
	uint64_t ticket;
	int r;

	session_cred(&fs->session, cred, &req.cred);
	edit_begin(&ch.edit, cache);
	if (!(flags & MAKE_TMPFILE))
		edit_name(&ch.edit, parent, name, false);
	r = change_run(fs, &ch, OP_MAKE, &req, &req.id, &rep, &fields, err);
	if (r == 0)
		edit_also(&ch.edit, rep.attr.inode);
	ticket = change_end(&ch);
	if (!held)
		held = &none;
	*held = (struct held){0};
	if (r == 0 && ticket && (ch.leased & WIRE_LEASED_INODE))
		held->attr = cache_put_attr(cache, ticket, &rep.attr);
	if (r == 0 && ticket && (ch.leased & WIRE_LEASED_PARENT) && !(flags & MAKE_TMPFILE))
		held->name = cache_put_name(cache, ticket, parent, name, rep.attr.inode);
	put_dir(fs, &ch, ticket, r, parent, &rep.parent);
	if (held->attr && S_ISDIR(rep.attr.mode) && !rep.existed)
		cache_put_empty(cache, ticket, rep.attr.inode);
	if (r == 0)
		lease_write_granted(&fs->lease, rep.attr.inode, mark, ch.leased);
	if (r == 0 && ret_chunk)
		r = location_from_wire(ret_chunk, &rep.chunk, err);
	if (r < 0)
		return r;
	*ret = rep.attr;
	if (rep.existed)
		add_held_back(fs, ret, held);
	if (ret_existed)
		*ret_existed = rep.existed;
	return r;
}

int meta_link(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, uint64_t parent,
	      struct slice name, struct wire_attr *ret, struct held *held, struct err *err)
{
	FIELDS;
	struct wire_link req = {.inode = inode, .parent = parent, .name = name};
	struct wire_attr_reply rep;
	struct change ch;
	struct held none;
	uint64_t ticket;
	int r;

	session_cred(&fs->session, cred, &req.cred);
	edit_begin(&ch.edit, &fs->lease.cache);
	edit_name(&ch.edit, parent, name, false);
	edit_inode(&ch.edit, inode, CACHED_ATTR);
	r = change_run(fs, &ch, OP_LINK, &req, &req.id, &rep, &fields, err);
	ticket = change_end(&ch);
	if (!held)
		held = &none;
	*held = (struct held){0};
	if (r == 0 && ticket && (ch.leased & WIRE_LEASED_INODE))
		held->attr = cache_put_attr(&fs->lease.cache, ticket, &rep.attr);
	if (r == 0 && ticket && (ch.leased & WIRE_LEASED_PARENT))
		held->name = cache_put_name(&fs->lease.cache, ticket, parent, name, inode);
	if (r < 0)
		return r;
	writeback_renamed(&fs->writeback, inode);
	*ret = rep.attr;
	add_held_back(fs, ret, held);
	return 0;
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

/* The name is known to be absent afterwards, if the directory is leased. */
static void change_end_removed(struct cairn *fs, struct change *ch, int r, uint64_t parent,
			       struct slice name, const struct wire_attr *dir)
{
	uint64_t ticket = change_end(ch);

	if (r == 0 && ticket && (ch->leased & WIRE_LEASED_PARENT))
		cache_put_name(&fs->lease.cache, ticket, parent, name, 0);
	put_dir(fs, ch, ticket, r, parent, dir);
}

int meta_unlink(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		struct slice name, bool dir, struct err *err)
{
	FIELDS;
	struct wire_unlink req = {.parent = parent, .name = name, .dir = dir};
	struct wire_unlink_reply rep;
	struct inode *open = dir ? NULL : open_inode_named(fs, cred, parent, name);
	struct change ch;
	int r;

	session_cred(&fs->session, cred, &req.cred);
	if (open)
		req.hold = open->number;
	edit_begin(&ch.edit, &fs->lease.cache);
	edit_name(&ch.edit, parent, name, true);
	r = change_run(fs, &ch, OP_UNLINK, &req, &req.id, &rep, &fields, err);
	if (r == 0) {
		gone_put(&fs->gone, &rep.attr);
		edit_also(&ch.edit, rep.inode);
		writeback_renamed(&fs->writeback, rep.inode);
	}
	change_end_removed(fs, &ch, r, parent, name, &rep.parent);
	if (open) {
		/* Of an unknown outcome the release does no harm where nothing is held. */
		if (r < 0 ? err_to_errno(r) == EIO : rep.inode == open->number && rep.nlink == 0)
			inode_hold(&fs->inodes, open, r == 0);
		unhold(fs, open);
	}
	return r;
}

/* Programs replace a file by a new one that they did not fsync, and local file systems keep them from
 * ending up with neither. */
static void settle_replacement(struct cairn *fs, uint64_t parent, struct slice name,
			       uint64_t new_parent, struct slice new_name)
{
	struct cache *cache = &fs->lease.cache;
	uint64_t inode, replaced;

	if (cache_get_name(cache, parent, name, &inode) &&
	    !(cache_get_name(cache, new_parent, new_name, &replaced) && !replaced))
		writeback_settle(&fs->writeback, inode, false, client_deadline(fs));
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
	struct change ch;
	int r;

	session_cred(&fs->session, cred, &req.cred);
	if (open)
		req.hold = open->number;
	settle_replacement(fs, parent, name, new_parent, new_name);
	edit_begin(&ch.edit, &fs->lease.cache);
	edit_name(&ch.edit, parent, name, true);
	edit_name(&ch.edit, new_parent, new_name, true);
	r = change_run(fs, &ch, OP_RENAME, &req, &req.id, &rep, &fields, err);
	if (r == 0) {
		gone_put(&fs->gone, &rep.attr);
		edit_also(&ch.edit, rep.inode);
		edit_also(&ch.edit, rep.replaced);
		writeback_renamed(&fs->writeback, rep.inode);
		writeback_renamed(&fs->writeback, rep.replaced);
	}
	put_dir(fs, &ch, change_end(&ch), r, parent, &rep.parent);
	if (open) {
		if (r < 0 ? err_to_errno(r) == EIO
			  : rep.replaced == open->number && rep.nlink == 0)
			inode_hold(&fs->inodes, open, r == 0);
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
	struct cache *cache = &fs->lease.cache;
	struct wire_inode_ref req = {.inode = inode};
	struct wire_readlink_reply rep;
	uint64_t ticket;
	uint8_t leased;
	int r = cache_get_target(cache, inode, &fields);

	if (r == 1) {
		rep.target = buf_slice(&fields);
		rep.attr.inode = 0;
		atime_read_cached(fs, inode);
	} else {
		ticket = cache_ticket(cache);
		req.session = lease_reader(&fs->lease);
		session_cred(&fs->session, NULL, &req.cred);
		r = ask_leased(fs, OP_READLINK, &req, &rep, &fields, client_deadline(fs), &leased,
			       err);
		if (r == 0 && (leased & WIRE_LEASED_INODE))
			cache_put_target(cache, ticket, inode, rep.target);
	}
	if (r < 0)
		return r;
	if (rep.target.len >= bytes)
		return err_set(err, ERR_RANGE, "the target has %u bytes", rep.target.len);
	if (rep.attr.inode)
		atime_read(fs, &rep.attr);
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
	struct held held;
	int r = meta_lookup_held(fs, cred, parent, slice_str(name), &attr, &held, &err);

	if (r < 0)
		memset(ret, 0, sizeof(*ret));
	else
		client_attr(&attr, ret);
	client_held(fs, ret, &held);
	return (int)result(r, &err);
}

int cairn_getattr(struct cairn *fs, uint64_t inode, struct cairn_attr *ret)
{
	struct err err = {0};
	struct held held = {0};
	struct wire_attr attr;
	int r = meta_getattr_held(fs, inode, &attr, &held.attr, client_deadline(fs), &err);

	if (r == ERR_NOENT && gone_get(&fs->gone, inode, &attr))
		r = 0;
	if (r == 0) {
		client_attr(&attr, ret);
		client_held(fs, ret, &held);
	}
	return (int)result(r, &err);
}

bool cairn_leased(struct cairn *fs, uint64_t inode)
{
	struct wire_attr attr;

	return cache_get_attr(&fs->lease.cache, inode, &attr);
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
	struct held held;
	int r = meta_make(fs, cred, parent, slice_str(name), mode, rdev, target,
			  flags & O_EXCL ? MAKE_EXCL : 0, &attr, NULL, NULL, &held, &err);

	if (r == 0 && ret) {
		client_attr(&attr, ret);
		client_held(fs, ret, &held);
	}
	return (int)result(r, &err);
}

int cairn_link_inode(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
		     uint64_t parent, const char *name, struct cairn_attr *ret)
{
	struct err err = {0};
	struct wire_attr attr;
	struct held held;
	int r = meta_link(fs, cred, inode, parent, slice_str(name), &attr, &held, &err);

	if (r == 0 && ret) {
		client_attr(&attr, ret);
		client_held(fs, ret, &held);
	}
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
	return cairn_statfs_at(fs, 0, ret);
}

int cairn_statfs_at(struct cairn *fs, uint64_t inode, struct cairn_statfs *ret)
{
	FIELDS;
	struct err err = {0};
	struct wire_inode_ref req = {.inode = inode};
	struct wire_statfs_reply rep;
	int r;

	session_cred(&fs->session, NULL, &req.cred);
	r = ask(fs, OP_STATFS, &req, &rep, &fields, &err);
	if (r == 0)
		*ret = (struct cairn_statfs){rep.total_bytes, rep.free_bytes, rep.inodes,
					     rep.inodes_max};
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

/* One that a file may have. */
static bool is_xattr_name(struct slice name)
{
	return slice_starts(name, SLICE_LIT("user.")) || slice_starts(name, SLICE_LIT("trusted.")) ||
	       slice_starts(name, SLICE_LIT("security.")) ||
	       slice_eq(name, SLICE_LIT("system.posix_acl_access")) ||
	       slice_eq(name, SLICE_LIT("system.posix_acl_default"));
}

/* As cache_get_xattr; of an inode that has none at all nothing else need be known. */
static int xattr_known(struct cache *cache, uint64_t inode, struct slice name, struct buf *ret)
{
	struct wire_attr attr;

	if (!cache_get_attr(cache, inode, &attr) || !attr.bare ||
	    (name.len > 0 && !is_xattr_name(name)))
		return cache_get_xattr(cache, inode, name, ret);
	buf_clear(ret);
	return name.len > 0 ? ERR_NODATA : 1;
}

/* name "": of the list. */
static ssize_t xattr_read(struct cairn *fs, uint64_t inode, uint16_t op, const void *req,
			  struct slice name, struct buf *fields, void *buf, size_t bytes,
			  struct err *err)
{
	struct cache *cache = &fs->lease.cache;
	uint64_t ticket = cache_ticket(cache);
	struct wire_xattr_reply rep;
	uint8_t leased;
	int r = xattr_known(cache, inode, name, fields);

	if (r == 1) {
		rep.value = buf_slice(fields);
	} else if (r == 0) {
		r = ask_leased(fs, op, req, &rep, fields, client_deadline(fs), &leased, err);
		if ((r == 0 || r == ERR_NODATA) && (leased & WIRE_LEASED_INODE))
			cache_put_xattr(cache, ticket, inode, name,
					r == 0 ? rep.value : (struct slice){0}, r < 0);
	}
	return result(r < 0 ? r : value_copy(rep.value, buf, bytes, err), err);
}

ssize_t cairn_getxattr_inode(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
			     const char *name, void *buf, size_t bytes)
{
	FIELDS;
	struct err err = {0};
	struct wire_xattr_get req = {.inode = inode, .name = slice_str(name)};

	session_cred(&fs->session, cred, &req.cred);
	req.session = lease_reader(&fs->lease);
	return xattr_read(fs, inode, OP_XATTR_GET, &req, req.name, &fields, buf, bytes, &err);
}

bool meta_has_capability(struct cairn *fs, uint64_t inode)
{
	return cairn_getxattr_inode(fs, NULL, inode, "security.capability", NULL, 0) != -ENODATA;
}

ssize_t cairn_listxattr_inode(struct cairn *fs, uint64_t inode, char *buf, size_t bytes)
{
	FIELDS;
	struct err err = {0};
	struct wire_inode_ref req = {.inode = inode};

	session_cred(&fs->session, NULL, &req.cred);
	req.session = lease_reader(&fs->lease);
	return xattr_read(fs, inode, OP_XATTR_LIST, &req, SLICE_LIT(""), &fields, buf, bytes, &err);
}

static int xattr_set(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
		     const char *name, struct slice value, unsigned flags)
{
	FIELDS;
	struct err err = {0};
	struct wire_xattr_set req = {.inode = inode, .name = slice_str(name), .value = value,
				     .flags = (uint8_t)flags};
	struct wire_empty empty;
	struct change ch;
	int r;

	session_cred(&fs->session, cred, &req.cred);
	/* A write takes capabilities away: one of before must not come after. */
	r = writeback_settle(&fs->writeback, inode, false, client_deadline(fs));
	if (r < 0)
		return (int)result(err_set(&err, r, "what was written before is not with the "
					   "servers yet"), &err);
	edit_begin(&ch.edit, &fs->lease.cache);
	edit_inode(&ch.edit, inode, CACHED_ATTR | CACHED_XATTRS);
	r = change_run(fs, &ch, OP_XATTR_SET, &req, &req.id, &empty, &fields, &err);
	change_end(&ch);
	return (int)result(r, &err);
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
