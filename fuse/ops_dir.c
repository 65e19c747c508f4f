/* Directory handles. The kernel asks for a page of entries at a time, libcairn gets hundreds in
 * one round trip: the handle keeps those that were read ahead. POSIX lets readdir answer from the
 * state at opendir or rewinddir; reading from offset 0 always asks the master anew, and any
 * offset other than the next one does too. Only names, ids and types are kept: attributes would
 * be out of date. */
#include "fuse/ops.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <utlist.h>
#include <string.h>

#include "common/buf.h"

enum {
	DIR_AHEAD_BYTES = 64 << 10,		  /* a few hundred to 2,500 entries */
	ENTRY_HEAD_BYTES = 8 + 8 + 4 + 2,	  /* cookie, inode, mode, length of the name */
};

struct dir {
	pthread_mutex_t lock; /* protects all below: several threads may share a descriptor */
	struct buf entries;   /* packed: head, name, NUL */
	size_t at;	      /* where the entry after cookie `next` starts */
	uint64_t next;
	bool ended; /* nothing follows `entries` */
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
	return buf_status(&d->entries) < 0 || d->entries.len >= DIR_AHEAD_BYTES;
}

static void dir_forget(struct dir *d, uint64_t next)
{
	buf_clear(&d->entries);
	d->at = 0;
	d->next = next;
	d->ended = false;
}

static int dir_fetch(fuse_req_t req, struct dir *d, fuse_ino_t ino)
{
	struct cairn_cred cred;
	int r;

	ops_cred(req, &cred);
	dir_forget(d, d->next);
	r = cairn_readdir(ops_fs(req), &cred, ino, d->next, dir_add, d);
	if (r >= 0 && buf_status(&d->entries) < 0)
		r = -ENOMEM;
	if (r < 0) {
		dir_forget(d, d->next);
		return r;
	}
	d->ended = r == 1;
	return 0;
}

/* Moves entries that fit into out; the number of bytes. */
static size_t dir_take(fuse_req_t req, struct dir *d, char *out, size_t room)
{
	size_t used = 0;

	while (d->at < d->entries.len) {
		const uint8_t *p = d->entries.data + d->at;
		const char *name = (const char *)p + ENTRY_HEAD_BYTES;
		struct stat st = {.st_ino = get_le64(p + 8), .st_mode = get_le32(p + 16)};
		size_t n = fuse_add_direntry(req, out + used, room - used, name, &st,
					     (off_t)get_le64(p));
		if (n > room - used)
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
	dir_free(d);
}

/* The session is over: no request is in progress any more. */
void ops_destroy(void *userdata)
{
	while (open_dirs)
		dir_close(open_dirs);
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
	pthread_mutex_lock(&open_dirs_lock);
	DL_APPEND2(open_dirs, d, prev, next_open);
	pthread_mutex_unlock(&open_dirs_lock);
	if (fuse_reply_open(req, fi) == -ENOENT)
		dir_close(d);
}

void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		 struct fuse_file_info *fi)
{
	struct dir *d = dir_of(fi);
	char *out = malloc(size);
	size_t used = 0;
	int r = out ? 0 : -ENOMEM;

	pthread_mutex_lock(&d->lock);
	if (off == 0 || (uint64_t)off != d->next)
		dir_forget(d, (uint64_t)off);
	while (r == 0 && used == 0) {
		if (d->at == d->entries.len && !d->ended)
			r = dir_fetch(req, d, ino);
		if (r == 0)
			used = dir_take(req, d, out, size);
		if (used == 0 && d->at < d->entries.len)
			r = -EINVAL; /* not even one entry fits: as getdents(2) has it */
		if (d->ended && d->at == d->entries.len)
			break;
	}
	pthread_mutex_unlock(&d->lock);
	if (r < 0)
		ops_fail(req, r, "readdir", ino, NULL);
	else
		fuse_reply_buf(req, out, used);
	free(out);
}

void ops_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	dir_close(dir_of(fi));
	fuse_reply_err(req, 0);
}
