/* Directories: READDIR a page at a time, and listings from memory.
 *
 * A page of names alone costs the master a row for each; one with attributes a second row, somewhere else.
 * So attributes are fetched where they are wanted (a readdirplus), with leases for all that is named: a
 * page of them saves a thousand LOOKUPs. */
#include "client/client.h"
#include "client/result.h"
#include "common/cleanup.h"

#define FIELDS _cleanup_buf_ struct buf fields = {0}

enum {
	LIST_BYTES = 64 << 10, /* taken from a cached listing at a time */
	/* A leased directory is read on to its end, and then cached, unless it is larger than this: whoever
	 * asks waits for it. */
	LIST_WHOLE_BYTES = 1 << 20,
	LIST_WHOLE_PAGES = 8,
	LIST_MISSING_PART = 4, /* fetched anew if this part of the attributes is not known */
};

/* ---- from the master ---- */

/* Hands the entries of one page to fn. 1: all; 0: fn stopped it; *cookie follows. */
static int readdir_page(struct cairn *fs, struct slice entries, cairn_dirent_fn fn, void *arg,
			uint64_t *cookie, bool *any, struct err *err)
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
		/* The directory itself, when it is read from the start. */
		if (slice_eq(d.name, SLICE_LIT(".")))
			atime_read(fs, &d.attr);
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

	session_cred(&fs->session, cred, &req.cred);
	do {
		req.cookie = cookie;
		r = master_call(&fs->master, OP_READDIR, &req, &rep, &fields, client_deadline(fs),
				NULL, &err);
		if (r == 0)
			r = readdir_page(fs, rep.entries, fn, arg, &cookie, &any, &err);
		if (r == 1 && !rep.eof && !any)
			r = err_set(&err, ERR_PROTOCOL, "an empty page of an unfinished directory");
	} while (r == 1 && !rep.eof);
	return (int)result(r, &err);
}

/* ---- listings ---- */

/* One listing being fetched, page by page. */
struct listing {
	struct cairn *fs;
	struct wire_readdir req;
	uint64_t ticket; /* of before the first page */
	uint8_t leased;	 /* with the present page */
	struct buf *entries; /* in cache_entry_put's form */
};

static bool is_dots(struct slice name)
{
	return slice_eq(name, SLICE_LIT(".")) || slice_eq(name, SLICE_LIT(".."));
}

static int list_name(struct listing *l, struct cursor *one, struct cache_entry *ret)
{
	struct wire_name n;

	if (wire_name_get(one, &n) < 0)
		return ERR_PROTOCOL;
	*ret = (struct cache_entry){n.cookie, n.inode, n.type, n.name};
	return 0;
}

/* One with attributes: they and the name are entered if they were leased. */
static int list_dirent(struct listing *l, struct cursor *one, struct cache_entry *ret)
{
	struct cache *cache = &l->fs->lease.cache;
	struct wire_dirent d;

	if (wire_dirent_get(one, &d) < 0)
		return ERR_PROTOCOL;
	*ret = (struct cache_entry){d.cookie, d.attr.inode, d.attr.mode & S_IFMT, d.name};
	if (d.leased)
		cache_put_attr(cache, l->ticket, &d.attr);
	if ((l->leased & WIRE_LEASED_INODE) && !is_dots(d.name))
		cache_put_name(cache, l->ticket, l->req.inode, d.name, d.attr.inode);
	return 0;
}

static int list_page(struct listing *l, struct slice entries, struct err *err)
{
	struct cursor page = cursor_slice(entries), one;
	uint64_t before = l->req.cookie;
	int r;

	while ((r = wire_list_next(&page, &one)) == 1) {
		struct cache_entry e;
		r = l->req.flags & READDIR_NAMES ? list_name(l, &one, &e)
						 : list_dirent(l, &one, &e);
		if (r < 0 || e.name.len > NAME_BYTES_MAX || e.cookie < before)
			return err_set(err, ERR_PROTOCOL, "malformed directory entry");
		cache_entry_put(l->entries, &e);
		l->req.cookie = e.cookie;
	}
	if (r < 0)
		return err_set(err, r, "malformed directory page");
	return buf_status(l->entries) < 0 ? err_set(err, ERR_NOMEM, "out of memory") : 0;
}

/* The entries behind `cookie`: a page, or all while the directory is leased and not too large: then
 * they are cached. *eof: nothing follows. */
static int list_fetch(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
		      uint64_t cookie, bool attrs, struct buf *entries, bool *eof,
		      struct err *err)
{
	FIELDS;
	struct cache *cache = &fs->lease.cache;
	struct listing l = {.fs = fs, .ticket = cache_ticket(cache), .entries = entries,
			    .req = {.inode = inode, .cookie = cookie,
				    .max_bytes = READDIR_BYTES_MAX,
				    .flags = attrs ? READDIR_LEASE : READDIR_NAMES}};
	struct wire_readdir_reply rep;
	struct wire_attr own = {0};
	bool whole = cookie == 0;
	int r;

	buf_clear(entries);
	l.req.session = lease_reader(&fs->lease);
	session_cred(&fs->session, cred, &l.req.cred);
	for (unsigned pages = 1;; pages++) {
		size_t before = entries->len;
		r = master_call_leased(&fs->master, OP_READDIR, &l.req, &rep, &fields,
				       client_deadline(fs), NULL, &l.leased, err);
		if (r < 0)
			return r;
		if (l.req.cookie == 0) {
			/* Of another inode: from a master that does not tell them. */
			own = rep.attr;
			if ((l.leased & WIRE_LEASED_INODE) && own.inode == inode)
				cache_put_attr(cache, l.ticket, &own);
		}
		r = list_page(&l, rep.entries, err);
		if (r < 0)
			return r;
		if (entries->len == before && !rep.eof)
			return err_set(err, ERR_PROTOCOL, "an empty page of an unfinished directory");
		whole = whole && (l.leased & WIRE_LEASED_INODE);
		if (rep.eof || !whole || entries->len >= LIST_WHOLE_BYTES ||
		    pages == LIST_WHOLE_PAGES)
			break;
	}
	*eof = rep.eof;
	if (whole && rep.eof) {
		struct buf copy = {0};
		buf_append(&copy, entries->data, entries->len);
		if (!cache_put_listing(cache, l.ticket, inode, &copy))
			buf_release(&copy);
	}
	/* It changes the directory: what was read before would not be entered after it. */
	if (own.inode == inode)
		atime_read(fs, &own);
	return 0;
}

/* Whether enough of what the entries name is known here. */
static bool list_attrs_known(struct cairn *fs, struct slice entries)
{
	unsigned n = 0, missing = 0;
	struct cache_entry e;
	struct wire_attr attr;
	size_t at = 0;

	while (cache_entry_next(entries, &at, &e)) {
		n++;
		missing += !cache_get_attr(&fs->lease.cache, e.inode, &attr);
	}
	return missing * LIST_MISSING_PART <= n;
}

/* Hands the entries to fn. 1: all; 0: fn stopped it. */
static int list_give(struct slice entries, cairn_dirent_fn fn, void *arg)
{
	struct cache_entry e;
	size_t at = 0;

	while (cache_entry_next(entries, &at, &e)) {
		struct cairn_attr attr = {.inode = e.inode, .mode = e.mode};
		char name[NAME_BYTES_MAX + 1];
		memcpy(name, e.name.data, e.name.len);
		name[e.name.len] = '\0';
		if (fn(arg, name, e.cookie, &attr))
			return 0;
	}
	return 1;
}

int cairn_list(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, uint64_t cookie,
	       bool attrs, cairn_dirent_fn fn, void *arg)
{
	FIELDS;
	struct err err = {0};
	bool eof = false;
	int r = cache_get_listing(&fs->lease.cache, inode, cookie, LIST_BYTES, &fields, &eof);

	if (r == 1 && attrs && !list_attrs_known(fs, buf_slice(&fields)))
		r = 0;
	if (r == 1 && cookie == 0)
		atime_read_cached(fs, inode);
	if (r == 0)
		r = list_fetch(fs, cred, inode, cookie, attrs, &fields, &eof, &err);
	if (r >= 0)
		r = list_give(buf_slice(&fields), fn, arg) && eof;
	return (int)result(r, &err);
}

bool cairn_known_inode(struct cairn *fs, uint64_t inode, struct cairn_attr *ret)
{
	const struct held held = {.attr = true};
	struct wire_attr attr;
	bool before = writeback_has(&fs->writeback, inode);

	if (!cache_get_attr(&fs->lease.cache, inode, &attr) ||
	    (!writeback_attr(&fs->writeback, &attr) && before))
		return false;
	client_attr(&attr, ret);
	client_held(fs, ret, &held);
	return true;
}

bool cairn_known(struct cairn *fs, uint64_t parent, const char *name, struct cairn_attr *ret)
{
	uint64_t inode;

	if (!cache_get_name(&fs->lease.cache, parent, slice_str(name), &inode) || !inode ||
	    !cairn_known_inode(fs, inode, ret) || ret->nlink == 0)
		return false;
	ret->name_ms = ret->attr_ms;
	return true;
}
