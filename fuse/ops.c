/* The name space: lookup, attributes, making, moving and removing names, extended attributes.
 *
 * The node id is the inode id, which is never reused: so nothing has to be kept per node, and
 * forget has nothing to do. Time-outs are 0: the kernel asks for every name and attribute, so
 * that another mount's completed change is seen at once (ARCHITECTURE.md, Coherence).
 *
 * Requests left to libfuse's ENOSYS, which the kernel remembers for the life of the mount:
 * flush (every completed write is visible already; the kernel still launders mmap pages and
 * reports their errors at close), fsyncdir (name space changes are durable when answered),
 * access (default_permissions), lseek, fallocate, copy_file_range (the callers' fallbacks work).
 * There is no readdirplus: with time-outs of 0 the kernel looks every name up again before it
 * uses it, so the attributes would be fetched for nothing; and those that a directory handle
 * read ahead could undo a newer size.
 */
#include "fuse/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/limits.h"
#include "common/log.h"
#include "fuse/options.h"

/* ---- helpers ---- */

struct cairn *ops_fs(fuse_req_t req)
{
	return ((struct mount *)fuse_req_userdata(req))->fs;
}

void ops_cred(fuse_req_t req, struct cairn_cred *ret)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	ret->uid = ctx->uid;
	ret->gid = ctx->gid;
	/* The kernel has applied it to the mode already: FUSE_CAP_DONT_MASK stays off. */
	ret->umask = 0;
	ret->n_groups = 0;
}

static bool failure_is_ordinary(int eno)
{
	switch (eno) {
	case EIO: case ESTALE: case ETIMEDOUT: case EPROTO: case ENOMEM: case EPROTONOSUPPORT:
		return false;
	default:
		return true;
	}
}

void ops_fail(fuse_req_t req, int r, const char *what, uint64_t inode, const char *name)
{
	if (!failure_is_ordinary(-r))
		log_warn("%s inode %llu%s%s: %s", what, (unsigned long long)inode,
			 name ? " name " : "", name ? name : "", cairn_error());
	fuse_reply_err(req, -r);
}

void ops_reply_done(fuse_req_t req, int r, const char *what, uint64_t inode, const char *name)
{
	if (r < 0)
		ops_fail(req, r, what, inode, name);
	else
		fuse_reply_err(req, 0);
}

void ops_entry(const struct cairn_attr *attr, struct fuse_entry_param *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->ino = attr->inode;
	ret->generation = 1; /* ids are never reused */
	cairn_attr_to_stat(attr, &ret->attr);
}

static void reply_entry(fuse_req_t req, int r, const struct cairn_attr *attr, const char *what,
			uint64_t inode, const char *name)
{
	struct fuse_entry_param e;

	if (r < 0) {
		ops_fail(req, r, what, inode, name);
		return;
	}
	ops_entry(attr, &e);
	fuse_reply_entry(req, &e);
}

static void reply_attr(fuse_req_t req, int r, const struct cairn_attr *attr, const char *what,
		       uint64_t inode)
{
	struct stat st;

	if (r < 0) {
		ops_fail(req, r, what, inode, NULL);
		return;
	}
	cairn_attr_to_stat(attr, &st);
	fuse_reply_attr(req, &st, 0);
}

/* ---- life cycle ---- */

static void ops_init(void *data, struct fuse_conn_info *conn)
{
	unsigned on = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_EXPORT_SUPPORT |
		      FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS;
	/* HANDLE_KILLPRIV off: the kernel clears set-id bits with a SETATTR. WRITEBACK_CACHE
	 * off: the kernel must not own sizes. Splicing off: data goes from and to our buffers. */
	unsigned off = FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_DONT_MASK |
		       FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE;

	conn->want = (conn->want | (on & conn->capable)) & ~off;
	conn->max_write = MOUNT_IO_BYTES;
	conn->max_read = MOUNT_IO_BYTES;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
}

static void ops_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	fuse_reply_none(req);
}

static void ops_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	fuse_reply_none(req);
}

/* ---- names and attributes ---- */

/* "." and ".." come from NFS exports and open_by_handle_at, which ask for a bare inode. */
static int lookup_dots(struct cairn *fs, uint64_t inode, const char *name, struct cairn_attr *ret)
{
	int r = cairn_getattr(fs, inode, ret);

	if (r == 0 && strcmp(name, "..") == 0)
		r = cairn_getattr(fs, ret->parent ? ret->parent : CAIRN_ROOT, ret);
	return r;
}

static void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct cairn_attr attr;
	struct cairn_cred cred;
	int r;

	ops_cred(req, &cred);
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		r = lookup_dots(ops_fs(req), parent, name, &attr);
		if (r == -ENOENT)
			r = -ESTALE; /* a handle to what is gone */
	} else {
		r = cairn_lookup(ops_fs(req), &cred, parent, name, &attr);
	}
	reply_entry(req, r, &attr, "lookup", parent, name);
}

static void ops_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct cairn_attr attr;
	int r = cairn_getattr(ops_fs(req), ino, &attr);

	reply_attr(req, r, &attr, "getattr", ino);
}

static unsigned setattr_mask(int to_set)
{
	static const struct { int fuse; unsigned cairn; } bits[] = {
		{FUSE_SET_ATTR_MODE, CAIRN_SET_MODE}, {FUSE_SET_ATTR_UID, CAIRN_SET_UID},
		{FUSE_SET_ATTR_GID, CAIRN_SET_GID}, {FUSE_SET_ATTR_SIZE, CAIRN_SET_SIZE},
		{FUSE_SET_ATTR_ATIME, CAIRN_SET_ATIME}, {FUSE_SET_ATTR_MTIME, CAIRN_SET_MTIME},
		{FUSE_SET_ATTR_ATIME_NOW, CAIRN_SET_ATIME_NOW},
		{FUSE_SET_ATTR_MTIME_NOW, CAIRN_SET_MTIME_NOW},
	};
	unsigned mask = 0;

	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		if (to_set & bits[i].fuse)
			mask |= bits[i].cairn;
	/* The kernel sets both; "now" is the master's clock. */
	if (mask & CAIRN_SET_ATIME_NOW)
		mask &= ~(unsigned)CAIRN_SET_ATIME;
	if (mask & CAIRN_SET_MTIME_NOW)
		mask &= ~(unsigned)CAIRN_SET_MTIME;
	return mask;
}

static void ops_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
			struct fuse_file_info *fi)
{
	struct cairn_attr want = {.mode = st->st_mode, .uid = st->st_uid, .gid = st->st_gid,
				  .size = (uint64_t)st->st_size, .atime = st->st_atim,
				  .mtime = st->st_mtim};
	unsigned mask = setattr_mask(to_set);
	struct cairn_attr attr;
	struct cairn_cred cred;
	int r;

	ops_cred(req, &cred);
	r = mask ? cairn_setattr(ops_fs(req), &cred, ino, mask, &want, &attr)
		 : cairn_getattr(ops_fs(req), ino, &attr);
	reply_attr(req, r, &attr, "setattr", ino);
}

static void ops_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char target[SYMLINK_BYTES_MAX + 1];
	ssize_t n = cairn_readlink_inode(ops_fs(req), ino, target, sizeof(target));

	if (n < 0)
		ops_fail(req, (int)n, "readlink", ino, NULL);
	else
		fuse_reply_readlink(req, target);
}

/* ---- making and removing ---- */

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
		 const char *target)
{
	struct cairn_attr attr;
	struct cairn_cred cred;
	int r;

	ops_cred(req, &cred);
	r = cairn_make(ops_fs(req), &cred, parent, name, mode, rdev, target, O_EXCL, &attr);
	reply_entry(req, r, &attr, "make", parent, name);
}

static void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      dev_t rdev)
{
	make(req, parent, name, mode, rdev, NULL);
}

static void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, S_IFDIR | (mode & 07777), 0, NULL);
}

static void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make(req, parent, name, S_IFLNK | 0777, 0, target);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, bool dir)
{
	struct cairn_cred cred;

	ops_cred(req, &cred);
	ops_reply_done(req, cairn_unlink_at(ops_fs(req), &cred, parent, name, dir),
		       dir ? "rmdir" : "unlink", parent, name);
}

static void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, false);
}

static void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, true);
}

static void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		       const char *new_name, unsigned flags)
{
	struct cairn_cred cred;

	ops_cred(req, &cred);
	ops_reply_done(req, cairn_rename_at(ops_fs(req), &cred, parent, name, new_parent,
					    new_name, flags), "rename", parent, name);
}

static void ops_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	struct cairn_attr attr;
	struct cairn_cred cred;
	int r;

	ops_cred(req, &cred);
	r = cairn_link_inode(ops_fs(req), &cred, ino, new_parent, new_name, &attr);
	reply_entry(req, r, &attr, "link", ino, new_name);
}

/* ---- the file system, extended attributes ---- */

static void ops_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct cairn_statfs s;
	struct statvfs v = {.f_bsize = BLOCK_BYTES, .f_frsize = BLOCK_BYTES,
			    .f_namemax = NAME_BYTES_MAX};
	int r = cairn_statfs(ops_fs(req), &s);

	if (r < 0) {
		ops_fail(req, r, "statfs", ino, NULL);
		return;
	}
	v.f_blocks = s.total_bytes / BLOCK_BYTES;
	v.f_bfree = v.f_bavail = s.free_bytes / BLOCK_BYTES;
	/* There is no table of inodes to fill up: as many as blocks are free. */
	v.f_ffree = v.f_favail = v.f_bfree;
	v.f_files = s.inodes + v.f_ffree;
	fuse_reply_statfs(req, &v);
}

/* Access control lists are not enforced, so they must not look as if they were stored. */
static bool xattr_is_refused(const char *name)
{
	return strncmp(name, "system.posix_acl_", 17) == 0;
}

static void ops_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			 size_t size, int flags)
{
	struct cairn_cred cred;

	if (xattr_is_refused(name)) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	ops_cred(req, &cred);
	ops_reply_done(req, cairn_setxattr_inode(ops_fs(req), &cred, ino, name, value, size,
						 flags), "setxattr", ino, name);
}

/* name NULL: list. size 0 asks for the size. */
static void read_xattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	size_t room = size < XATTR_VALUE_BYTES_MAX ? size : XATTR_VALUE_BYTES_MAX;
	char *buf = room ? malloc(room) : NULL;
	ssize_t n;

	if (room && !buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	n = name ? cairn_getxattr_inode(ops_fs(req), ino, name, buf, room)
		 : cairn_listxattr_inode(ops_fs(req), ino, buf, room);
	if (n < 0)
		ops_fail(req, (int)n, name ? "getxattr" : "listxattr", ino, name);
	else if (room == 0)
		fuse_reply_xattr(req, (size_t)n);
	else
		fuse_reply_buf(req, buf, (size_t)n);
	free(buf);
}

static void ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	if (xattr_is_refused(name))
		fuse_reply_err(req, EOPNOTSUPP);
	else
		read_xattr(req, ino, name, size);
}

static void ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	read_xattr(req, ino, NULL, size);
}

static void ops_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct cairn_cred cred;

	if (xattr_is_refused(name)) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	ops_cred(req, &cred);
	ops_reply_done(req, cairn_removexattr_inode(ops_fs(req), &cred, ino, name),
		       "removexattr", ino, name);
}

const struct fuse_lowlevel_ops mount_ops = {
	.init = ops_init,
	.lookup = ops_lookup,
	.forget = ops_forget,
	.forget_multi = ops_forget_multi,
	.getattr = ops_getattr,
	.setattr = ops_setattr,
	.readlink = ops_readlink,
	.mknod = ops_mknod,
	.mkdir = ops_mkdir,
	.symlink = ops_symlink,
	.unlink = ops_unlink,
	.rmdir = ops_rmdir,
	.rename = ops_rename,
	.link = ops_link,
	.open = ops_open,
	.create = ops_create,
	.read = ops_read,
	.write = ops_write,
	.fsync = ops_fsync,
	.release = ops_release,
	.destroy = ops_destroy,
	.opendir = ops_opendir,
	.readdir = ops_readdir,
	.releasedir = ops_releasedir,
	.statfs = ops_statfs,
	.setxattr = ops_setxattr,
	.getxattr = ops_getxattr,
	.listxattr = ops_listxattr,
	.removexattr = ops_removexattr,
};
