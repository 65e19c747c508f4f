/* Open files. A handle keeps up to two libcairn files of the same inode: one that appends and one
 * that does not, because fcntl(F_SETFL) may switch O_APPEND at any time: each write request tells
 * the flag as it is now. The second one is opened when it is first needed. */
#include "fuse/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/log.h"
#include "fuse/init.h"
#include "fuse/options.h"

enum { FILE_PLAIN = 0, FILE_APPEND = 1 };

struct handle {
	uint64_t inode;
	int flags; /* of open(2), without O_APPEND, O_TRUNC and those of creation */
	int opened_as; /* FILE_PLAIN or FILE_APPEND: the one that is there from the start */
	bool direct;   /* the kernel does not cache */
	enum inval_use use;
	struct cairn_cred cred; /* who opened it */
	pthread_mutex_t lock;
	struct cairn_file *files[2]; /* protected by lock until set, then constant */
};

enum {
	OPEN_FLAGS = O_ACCMODE | O_APPEND | O_TRUNC | O_SYNC | O_DSYNC | O_DIRECT | O_NOATIME,
};

/* The kernel's fh is our pointer, from open to release. */
static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

static struct handle *handle_new(uint64_t inode, int flags, const struct cairn_cred *cred)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->inode = inode;
	h->opened_as = flags & O_APPEND ? FILE_APPEND : FILE_PLAIN;
	h->flags = flags & (O_ACCMODE | O_SYNC | O_DSYNC | O_DIRECT | O_NOATIME);
	h->cred = *cred;
	pthread_mutex_init(&h->lock, NULL);
	return h;
}

static int handle_close_files(struct handle *h)
{
	int r = 0;

	for (int i = 0; i < 2; i++) {
		int rc = h->files[i] ? cairn_close(h->files[i]) : 0;
		if (rc < 0)
			r = rc;
		h->files[i] = NULL;
	}
	return r;
}

static void handle_free(struct handle *h)
{
	if (!h)
		return;
	handle_close_files(h);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* The file of that kind, opened when it is not there yet. */
static int handle_file(struct cairn *fs, struct handle *h, int kind, struct cairn_file **ret)
{
	int r = 0;

	pthread_mutex_lock(&h->lock);
	if (!h->files[kind]) {
		r = cairn_open_inode(fs, &h->cred, h->inode,
				     h->flags | (kind == FILE_APPEND ? O_APPEND : 0),
				     &h->files[kind]);
		if (r < 0)
			h->files[kind] = NULL;
	}
	*ret = h->files[kind];
	pthread_mutex_unlock(&h->lock);
	return r;
}

/* What is written goes past the kernel's page cache: there it would be seen by the mount's other
 * processes before it is sent to us, when other mounts still read what was before. And where an append
 * lands is the master's choice, not the kernel's idea of the size. */
static void handle_publish(struct inval *inval, struct handle *h, struct fuse_file_info *fi)
{
	bool writes = (fi->flags & O_ACCMODE) != O_RDONLY;

	fi->fh = (uint64_t)(uintptr_t)h;
	if (init_direct_mmap())
		h->direct = writes || inval_is_written(inval, h->inode);
	else
		h->direct = writes && (fi->flags & O_APPEND);
	h->use = writes ? INVAL_WRITES : h->direct ? INVAL_READS : INVAL_PAGES;
	fi->direct_io = h->direct;
}

/* The kernel drops set-id bits when others than root change a file, but not in two cases that it
 * leaves to us: direct writes (our appends) and the truncation that is part of an open. */
static int drop_set_id(fuse_req_t req, uint64_t inode)
{
	struct cairn_attr attr;
	struct cairn_cred cred;
	uint32_t mode;
	int r;

	ops_cred(req, &cred);
	if (cred.uid == 0)
		return 0;
	r = cairn_getattr(ops_fs(req), inode, &attr);
	if (r < 0)
		return r;
	mode = attr.mode & ~(uint32_t)S_ISUID;
	if (mode & S_IXGRP) /* without it the bit means something else */
		mode &= ~(uint32_t)S_ISGID;
	if (mode == attr.mode)
		return 0;
	attr.mode = mode;
	r = cairn_setattr(ops_fs(req), &cred, inode, CAIRN_SET_MODE, &attr, &attr);
	inval_attr_now(ops_inval(req), inode);
	/* Where the master checks (exports that squash) it is the owner's; of others' writes it takes the bits
	 * itself. */
	return r == -EPERM ? 0 : r;
}

/* For a handle that was published. */
static void handle_end(struct inval *inval, struct handle *h)
{
	inval_closed(inval, h->inode, h->use);
	handle_free(h);
}

void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct inval *inval = ops_inval(req);
	struct cairn_cred cred;
	struct handle *h;
	int r;

	ops_cred(req, &cred);
	h = handle_new(ino, fi->flags, &cred);
	if (!h) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	if (fi->flags & O_TRUNC)
		inval_change_begin(inval, ino);
	r = fi->flags & O_TRUNC ? drop_set_id(req, ino) : 0;
	if (r == 0)
		r = cairn_open_inode(ops_fs(req), &cred, ino, fi->flags & OPEN_FLAGS,
				     &h->files[h->opened_as]);
	if (fi->flags & O_TRUNC)
		inval_change_end(inval, ino);
	if (r < 0) {
		h->files[h->opened_as] = NULL;
		handle_free(h);
		ops_fail(req, r, "open", ino, NULL);
		return;
	}
	handle_publish(inval, h, fi);
	/* Also of one without pages: splice(2) reads through them all the same. */
	fi->keep_cache = inval_opened(inval, ino, cairn_file_change(h->files[h->opened_as]), h->use);
	/* -ENOENT: the open was interrupted, so no release will follow. */
	if (fuse_reply_open(req, fi) == -ENOENT)
		handle_end(inval, h);
}

void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		struct fuse_file_info *fi)
{
	struct inval *inval = ops_inval(req);
	uint64_t ticket = inval_ticket(inval);
	struct fuse_entry_param e;
	struct inval_entry told;
	struct cairn_attr attr;
	struct cairn_cred cred;
	struct handle *h;
	int r;

	inval_dir_locked(inval, parent);
	ops_cred(req, &cred);
	h = handle_new(0, fi->flags, &cred);
	if (!h) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	r = cairn_create_at(ops_fs(req), &cred, parent, name, mode & 07777,
			    fi->flags & (OPEN_FLAGS | O_EXCL), &attr,
			    &h->files[h->opened_as]);
	if (r < 0) {
		h->files[h->opened_as] = NULL;
		handle_free(h);
		ops_fail(req, r, "create in", parent, name);
		return;
	}
	h->inode = attr.inode;
	handle_publish(inval, h, fi);
	ops_entry(&attr, &e);
	inval_entry_begin(inval, ticket, parent, &attr, false, &told);
	e.entry_timeout = (double)told.name_ms / 1000;
	inval_entry_opened(inval, &told, attr.change, h->use);
	r = fuse_reply_create(req, &e, fi); /* from here on the handle is the kernel's to release */
	inval_entry_end(inval, &told);
	if (r == -ENOENT)
		handle_end(inval, h);
	if (r < 0)
		inval_entry_undo(inval, &told);
}

void ops_entry_opened(struct inval *inval, const struct inval_entry *told,
		      const struct fuse_file_info *fi, uint64_t change)
{
	inval_entry_opened(inval, told, change, handle_of(fi)->use);
}

int ops_open_tmpfile(struct cairn *fs, struct inval *inval, const struct cairn_cred *cred, uint64_t parent,
		     uint32_t mode, struct fuse_file_info *fi, struct cairn_attr *ret)
{
	struct handle *h = handle_new(0, fi->flags, cred);
	int r;

	if (!h)
		return -ENOMEM;
	r = cairn_tmpfile(fs, cred, parent, mode & 07777, fi->flags & OPEN_FLAGS, ret,
			  &h->files[h->opened_as]);
	if (r < 0) {
		h->files[h->opened_as] = NULL;
		handle_free(h);
		return r;
	}
	h->inode = ret->inode;
	handle_publish(inval, h, fi);
	return 0;
}

void ops_open_undo(struct inval *inval, struct fuse_file_info *fi)
{
	handle_end(inval, handle_of(fi));
}

/* ---- data ---- */

static pthread_key_t read_key;
static pthread_once_t read_once = PTHREAD_ONCE_INIT;

static void read_key_make(void)
{
	if (pthread_key_create(&read_key, free) != 0)
		abort(); /* at the first read: out of keys means a broken process */
}

/* A page-aligned buffer of the calling thread, freed with it. */
static void *read_buffer(void)
{
	void *buf;

	pthread_once(&read_once, read_key_make);
	buf = pthread_getspecific(read_key);
	if (buf)
		return buf;
	if (posix_memalign(&buf, 4096, MOUNT_IO_BYTES) != 0)
		return NULL;
	if (pthread_setspecific(read_key, buf) != 0) {
		free(buf);
		return NULL;
	}
	return buf;
}

int ops_file(fuse_req_t req, struct fuse_file_info *fi, struct cairn_file **ret)
{
	struct handle *h = handle_of(fi);
	return handle_file(ops_fs(req), h, h->opened_as, ret);
}

void ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	struct cairn_file *file;
	/* One of a page names no owner of locks (the kernel's fuse_send_read). */
	bool page = fi->lock_owner == 0;
	struct inval *inval = ops_inval(req);
	uint64_t ticket = inval_ticket(inval);
	bool leased = page && cairn_leased(ops_fs(req), ino);
	void *buf = read_buffer();
	ssize_t n;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	if (size > MOUNT_IO_BYTES)
		size = MOUNT_IO_BYTES;
	n = handle_file(ops_fs(req), h, h->opened_as, &file);
	if (n == 0)
		n = cairn_pread(file, buf, size, (uint64_t)off);
	if (page)
		inval_filled(inval, ticket, ino, leased);
	if (n < 0)
		ops_fail(req, (int)n, "read", ino, NULL);
	else
		fuse_reply_buf(req, buf, (size_t)n);
}

void ops_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
	       struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	struct cairn_file *file;
	bool append = (fi->flags & O_APPEND) && !fi->writepage;
	ssize_t n;

	n = handle_file(ops_fs(req), h, append ? FILE_APPEND : FILE_PLAIN, &file);
	if (n == 0 && h->direct)
		n = drop_set_id(req, ino);
	inval_change_begin(ops_inval(req), ino);
	if (n == 0)
		n = cairn_pwrite(file, data, size, (uint64_t)off);
	inval_change_end(ops_inval(req), ino);
	if (n < 0)
		ops_fail(req, (int)n, "write", ino, NULL);
	else
		fuse_reply_write(req, (size_t)n);
}

/* Both, also after a failure: what is told once to each is one thing to the caller. */
static int both_files(struct handle *h, int (*call)(struct cairn_file *file))
{
	struct cairn_file *files[2];
	int r = 0;

	pthread_mutex_lock(&h->lock);
	files[0] = h->files[0];
	files[1] = h->files[1];
	pthread_mutex_unlock(&h->lock);
	for (int i = 0; i < 2; i++) {
		int one = files[i] ? call(files[i]) : 0;
		r = r ? r : one;
	}
	return r;
}

void ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	ops_reply_done(req, both_files(handle_of(fi), cairn_fsync), "fsync", ino, NULL);
}

void ops_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int locks = cairn_unlock_owner(ops_fs(req), ino, fi->lock_owner);
	int r = both_files(handle_of(fi), cairn_flush);

	ops_reply_done(req, r < 0 ? r : locks, "flush", ino, NULL);
}

void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	int locks = ops_lock_release(req, ino, fi), r = handle_close_files(h);

	handle_end(ops_inval(req), h);
	if (r == 0)
		r = locks;
	ops_reply_done(req, r, "release", ino, NULL);
}
