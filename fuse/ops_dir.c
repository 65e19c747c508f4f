/* Directory handles. The kernel asks for a page of entries at a time, libcairn gets thousands in
 * one round trip: the handle keeps those that were read ahead. POSIX lets readdir answer from the
 * state at opendir or rewinddir; reading from offset 0 always asks the master anew, and any
 * offset other than the next one does too. Only names, ids and types are kept: attributes would
 * be out of date. READDIRPLUS tells of each name what libcairn knows at that moment, and nothing of those
 * that it does not know: it has asked for the attributes with the names. */
#include "fuse/ops.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <utlist.h>
#include <string.h>

#include "common/buf.h"

enum {
	PLUS_BYTES_MAX = 64 << 10, /* all other answers wait while one is made */
	ENTRY_HEAD_BYTES = 8 + 8 + 4 + 2,	  /* cookie, inode, mode, length of the name */
};

struct dir {
	pthread_mutex_t lock; /* protects all below: several threads may share a descriptor */
	struct buf entries;   /* packed: head, name, NUL */
	size_t at;	      /* where the entry after cookie `next` starts */
	uint64_t next;
	bool ended; /* nothing follows `entries` */
	uint64_t page; /* the last answer's, which the kernel may not have taken yet (fuse/inval.h, 9) */
	struct dir *prev, *next_open;
};

/* All that are open: the kernel does not release them when the mount ends first. */
static struct dir *open_dirs; /* protected by open_dirs_lock */
static pthread_mutex_t open_dirs_lock = PTHREAD_MUTEX_INITIALIZER;

static void dir_free(struct dir *d)
{
	buf_release(&d->entries);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static struct dir *dir_of(const struct fuse_file_info *fi)
{
	return (struct dir *)(uintptr_t)fi->fh;
}

static int dir_add(void *arg, const char *name, uint64_t cookie, const struct cairn_attr *attr)
{
	struct dir *d = arg;
	size_t len = strlen(name);

	buf_le64(&d->entries, cookie);
	buf_le64(&d->entries, attr->inode);
	buf_le32(&d->entries, attr->mode);
	buf_le16(&d->entries, (uint16_t)len);
	buf_append(&d->entries, name, len + 1);
	return buf_status(&d->entries) < 0;
}

static void dir_forget(struct dir *d, uint64_t next)
{
	buf_clear(&d->entries);
	d->at = 0;
	d->next = next;
	d->ended = false;
}

static int dir_fetch(fuse_req_t req, struct dir *d, fuse_ino_t ino, bool plus)
{
	struct cairn_cred cred;
	int r;

	ops_cred(req, &cred);
	dir_forget(d, d->next);
	r = cairn_list(ops_fs(req), &cred, ino, d->next, plus, dir_add, d);
	if (r >= 0 && buf_status(&d->entries) < 0)
		r = -ENOMEM;
	if (r < 0) {
		dir_forget(d, d->next);
		return r;
	}
	d->ended = r == 1;
	return 0;
}

/* A page being answered. */
struct answer {
	fuse_req_t req;
	fuse_ino_t dir;
	char *out;
	size_t room;
	struct inval_page *page; /* NULL: names alone */
};

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* What is known of a name; e->ino stays 0 if nothing is. */
static void entry_known(const struct answer *a, const char *name, struct fuse_entry_param *e)
{
	struct fuse_entry_param known;
	int64_t name_ms, attr_ms;
	struct cairn_attr attr;

	if (is_dots(name) || !cairn_known(ops_fs(a->req), a->dir, name, &attr) ||
	    !inval_page_entry(ops_inval(a->req), a->page, &attr, &name_ms, &attr_ms))
		return;
	ops_entry(&attr, &known);
	known.entry_timeout = (double)name_ms / 1000;
	known.attr_timeout = (double)attr_ms / 1000;
	*e = known;
}

/* Adds the entry at p. The bytes that it takes: more than `room` if it does not fit. */
static size_t answer_add(const struct answer *a, size_t used, const uint8_t *p)
{
	const char *name = (const char *)p + ENTRY_HEAD_BYTES;
	struct fuse_entry_param e = {.attr = {.st_ino = get_le64(p + 8),
					      .st_mode = get_le32(p + 16)}};
	off_t cookie = (off_t)get_le64(p);
	size_t room = a->room - used;

	if (!a->page)
		return fuse_add_direntry(a->req, a->out + used, room, name, &e.attr, cookie);
	/* It is looked up only if it fits: it counts. */
	if (fuse_add_direntry_plus(a->req, NULL, 0, name, NULL, 0) <= room)
		entry_known(a, name, &e);
	return fuse_add_direntry_plus(a->req, a->out + used, room, name, &e, cookie);
}

/* Moves entries that fit into a->out; the number of bytes. */
static size_t dir_take(struct dir *d, const struct answer *a)
{
	size_t used = 0;

	while (d->at < d->entries.len) {
		const uint8_t *p = d->entries.data + d->at;
		size_t n = answer_add(a, used, p);
		if (n > a->room - used)
			break;
		used += n;
		d->next = get_le64(p);
		d->at += ENTRY_HEAD_BYTES + (size_t)get_le16(p + 20) + 1;
	}
	return used;
}

static void dir_close(struct dir *d)
{
	pthread_mutex_lock(&open_dirs_lock);
	DL_DELETE2(open_dirs, d, prev, next_open);
	pthread_mutex_unlock(&open_dirs_lock);
	/* Whoever gave the last answer may not have let go of it yet. */
	pthread_mutex_lock(&d->lock);
	pthread_mutex_unlock(&d->lock);
	dir_free(d);
}

/* The session is over: no request is in progress any more. */
void ops_destroy(void *userdata)
{
	/* Those that wait for locks are answered while there is a session to answer through. */
	cairn_lock_waits_end(((struct mount *)userdata)->fs);
	while (open_dirs)
		dir_close(open_dirs);
}

/* 0: not known. */
static uint64_t dir_change(fuse_req_t req, fuse_ino_t ino)
{
	struct cairn_attr attr;

	return cairn_known_inode(ops_fs(req), ino, &attr) ? attr.change : 0;
}

void ops_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct dir *d = calloc(1, sizeof(*d));

	if (!d) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	pthread_mutex_init(&d->lock, NULL);
	fi->fh = (uint64_t)(uintptr_t)d;
	fi->cache_readdir = 1;
	fi->keep_cache = inval_dir_opened(ops_inval(req), ino, dir_change(req, ino));
	pthread_mutex_lock(&open_dirs_lock);
	DL_APPEND2(open_dirs, d, prev, next_open);
	pthread_mutex_unlock(&open_dirs_lock);
	if (fuse_reply_open(req, fi) == -ENOENT)
		dir_close(d);
}

/* The kernel has taken what it was answered through this handle. */
static void dir_taken(fuse_req_t req, struct dir *d, fuse_ino_t ino)
{
	inval_page_taken(ops_inval(req), ino, d->page);
	d->page = 0;
}

/* Sees to it that there are entries, or none follow. */
static int dir_fill(fuse_req_t req, struct dir *d, fuse_ino_t ino, off_t off, bool plus)
{
	int r = 0;

	if (off == 0 || (uint64_t)off != d->next)
		dir_forget(d, (uint64_t)off);
	while (r == 0 && d->at == d->entries.len && !d->ended)
		r = dir_fetch(req, d, ino, plus);
	return r;
}

static int reply_names(struct dir *d, struct answer *a)
{
	size_t used = dir_take(d, a);

	if (used == 0 && d->at < d->entries.len)
		return -EINVAL; /* not even one entry fits: as getdents(2) has it */
	fuse_reply_buf(a->req, a->out, used);
	return 0;
}

static int reply_plus(struct dir *d, struct answer *a)
{
	struct inval *inval = ops_inval(a->req);
	struct inval_page page;
	size_t used;
	int r = 0;

	inval_page_begin(inval, a->dir, &page);
	a->page = &page;
	used = dir_take(d, a);
	if (used == 0 && d->at < d->entries.len)
		r = -EINVAL;
	if (r == 0)
		r = fuse_reply_buf(a->req, a->out, used) < 0;
	inval_page_end(inval, &page, r == 0);
	d->page = page.stamp;
	return r < 0 ? r : 0;
}

static void reply_page(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi, bool plus)
{
	struct dir *d = dir_of(fi);
	struct answer a = {.req = req, .dir = ino, .out = malloc(size), .room = size};
	int r = a.out ? 0 : -ENOMEM;

	pthread_mutex_lock(&d->lock);
	dir_taken(req, d, ino);
	if (r == 0)
		r = dir_fill(req, d, ino, off, plus);
	if (r == 0)
		r = plus ? reply_plus(d, &a) : reply_names(d, &a);
	pthread_mutex_unlock(&d->lock);
	if (r < 0)
		ops_fail(req, r, "readdir", ino, NULL);
	free(a.out);
}

void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		 struct fuse_file_info *fi)
{
	reply_page(req, ino, size, off, fi, false);
}

void ops_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	reply_page(req, ino, size < PLUS_BYTES_MAX ? size : PLUS_BYTES_MAX, off, fi, true);
}

void ops_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct dir *d = dir_of(fi);

	pthread_mutex_lock(&d->lock);
	dir_taken(req, d, ino);
	pthread_mutex_unlock(&d->lock);
	dir_close(d);
	fuse_reply_err(req, 0);
}
