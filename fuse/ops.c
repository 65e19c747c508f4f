/* The name space: lookup, attributes, making, moving and removing names.
 *
 * The node id is the inode id, which is never reused. How long the kernel may remember a name or
 * attributes, and how it is told to forget them, is in fuse/inval.h.
 *
 * Requests left to libfuse's ENOSYS, which the kernel remembers for the life of the mount:
 * fsyncdir (name space changes are durable when answered),
 * access (default_permissions), copy_file_range (the callers' fallbacks work).
 */
#include "fuse/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/limits.h"
#include "common/log.h"
#include "fuse/options.h"

/* ---- helpers ---- */

struct cairn *ops_fs(fuse_req_t req)
{
	return ((struct mount *)fuse_req_userdata(req))->fs;
}

struct inval *ops_inval(fuse_req_t req)
{
	return ((struct mount *)fuse_req_userdata(req))->inval;
}

void ops_cred(fuse_req_t req, struct cairn_cred *ret)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	ret->uid = ctx->uid;
	ret->gid = ctx->gid;
	ret->umask = ctx->umask; /* of requests that make something */
	ret->n_groups = 0;
	/* Costs a look into /proc. */
	if (cairn_is_checked(ops_fs(req)))
		ops_groups(req, ret);
}

void ops_groups(fuse_req_t req, struct cairn_cred *ret)
{
	gid_t groups[CAIRN_GROUPS_MAX];
	/* In more groups than a message can tell of: those that are told count. */
	int n = fuse_req_getgroups(req, CAIRN_GROUPS_MAX, groups);

	ret->n_groups = 0;
	for (int i = 0; i < n && i < CAIRN_GROUPS_MAX; i++)
		ret->groups[ret->n_groups++] = groups[i];
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

void ops_log_failure(int r, const char *what, uint64_t inode, const char *name)
{
	if (!failure_is_ordinary(-r))
		log_warn("%s inode %llu%s%s: %s", what, (unsigned long long)inode,
			 name ? " name " : "", name ? name : "", cairn_error());
}

int ops_interrupted(int r)
{
	return deadline_is_cut() && r < 0 && !failure_is_ordinary(-r) ? -EINTR : r;
}

void ops_fail(fuse_req_t req, int r, const char *what, uint64_t inode, const char *name)
{
	r = ops_interrupted(r);
	ops_log_failure(r, what, inode, name);
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
	ret->generation = OPS_GENERATION;
	cairn_attr_to_stat(attr, &ret->attr);
}

/* ticket: from before libcairn was asked. looked_up: LOOKUP's answer, to which -ENOENT may belong. */
static void reply_entry(fuse_req_t req, int r, const struct cairn_attr *attr, uint64_t ticket,
			bool looked_up, const char *what, uint64_t inode, const char *name)
{
	struct inval *inval = ops_inval(req);
	struct fuse_entry_param e = {0};
	struct inval_entry told;

	if (r < 0 && !(looked_up && r == -ENOENT && attr->name_ms > 0)) {
		ops_fail(req, r, what, inode, name);
		return;
	}
	if (r == 0)
		ops_entry(attr, &e);
	if (e.ino == cairn_root(ops_fs(req)))
		e.ino = FUSE_ROOT_ID;
	inval_entry_begin(inval, ticket, inode, attr, looked_up, &told);
	e.entry_timeout = (double)told.name_ms / 1000;
	e.attr_timeout = (double)told.attr_ms / 1000;
	r = r < 0 && told.name_ms == 0 ? fuse_reply_err(req, ENOENT) : fuse_reply_entry(req, &e);
	inval_entry_end(inval, &told);
	if (r < 0)
		inval_entry_undo(inval, &told);
}

/* lasting: see fuse/inval.h, rule 4. */
static void reply_attr(fuse_req_t req, int r, const struct cairn_attr *attr, uint64_t ticket,
		       bool lasting, const char *what, uint64_t inode)
{
	struct inval *inval = ops_inval(req);
	struct stat st;
	int64_t ms;

	if (r < 0) {
		ops_fail(req, r, what, inode, NULL);
		return;
	}
	cairn_attr_to_stat(attr, &st);
	ms = inval_attr_begin(inval, ticket, attr, lasting);
	fuse_reply_attr(req, &st, (double)ms / 1000);
	inval_attr_end(inval, attr->inode);
}

/* To a read that asks whether the kernel's pages may be used (fuse/inval.h, 6). */
static void reply_read_attr(fuse_req_t req, struct cairn_attr *attr, uint64_t ticket)
{
	struct inval *inval = ops_inval(req);
	struct stat st;
	int64_t ms = inval_read_begin(inval, ticket, attr);

	cairn_attr_to_stat(attr, &st);
	fuse_reply_attr(req, &st, (double)ms / 1000);
	inval_attr_end(inval, attr->inode);
}

/* ---- life cycle ---- */

static void ops_init(void *data, struct fuse_conn_info *conn)
{
	unsigned on = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_EXPORT_SUPPORT |
		      FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS |
		      FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK | FUSE_CAP_READDIRPLUS |
		      FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS;
	/* POSIX_ACL: the kernel asks for the access control lists and decides by them; the master
	 * keeps them and the modes in step. DONT_MASK: a default list replaces the umask.
	 * CACHE_SYMLINKS: where a link leads never changes, and ids are not used again.
	 * HANDLE_KILLPRIV off: the kernel clears set-id bits with a SETATTR. WRITEBACK_CACHE
	 * off: the kernel must not own sizes. Splicing off: data goes from and to our buffers. */
	unsigned off = FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_HANDLE_KILLPRIV |
		       FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE;

	conn->want = (conn->want | (on & conn->capable)) & ~off;
	conn->max_write = MOUNT_IO_BYTES;
	conn->max_read = MOUNT_IO_BYTES;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
}

static void ops_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	inval_forget(ops_inval(req), ino, nlookup);
	fuse_reply_none(req);
}

static void ops_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		inval_forget(ops_inval(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* ---- names and attributes ---- */

/* "." and ".." come from NFS exports and open_by_handle_at, which ask for a bare inode. */
static int lookup_dots(struct cairn *fs, uint64_t inode, const char *name, struct cairn_attr *ret)
{
	int r = cairn_getattr(fs, inode, ret);

	if (r == 0 && ret->nlink == 0)
		return -ENOENT;
	if (r == 0 && strcmp(name, "..") == 0 && inode != cairn_root(fs))
		r = cairn_getattr(fs, ret->parent, ret);
	return r;
}

static void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	uint64_t ticket = inval_ticket(ops_inval(req));
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
	reply_entry(req, r, &attr, ticket, true, "lookup", parent, name);
}

static void ops_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	uint64_t ticket = inval_ticket(ops_inval(req));
	struct cairn_attr attr;
	int r = cairn_getattr(ops_fs(req), ino, &attr);

	if (r == 0 && fi && S_ISREG(attr.mode))
		reply_read_attr(req, &attr, ticket);
	else
		reply_attr(req, r, &attr, ticket, true, "getattr", ino);
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

	inval_dir_locked(ops_inval(req), ino);
	ops_cred(req, &cred);
	if (mask & CAIRN_SET_SIZE)
		inval_change_begin(ops_inval(req), ino);
	/* An empty mask is chown(-1, -1): a change of ctime. */
	r = cairn_setattr(ops_fs(req), &cred, ino, mask, &want, &attr);
	if (mask & CAIRN_SET_SIZE)
		inval_change_end(ops_inval(req), ino);
	reply_attr(req, r, &attr, 0, false, "setattr", ino);
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
	uint64_t ticket = inval_ticket(ops_inval(req));
	struct cairn_attr attr;
	struct cairn_cred cred;
	int r;

	inval_dir_locked(ops_inval(req), parent);
	ops_cred(req, &cred);
	r = cairn_make(ops_fs(req), &cred, parent, name, mode, rdev, target, O_EXCL, &attr);
	reply_entry(req, r, &attr, ticket, false, "make", parent, name);
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

	inval_dir_locked(ops_inval(req), parent);
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

	inval_dir_locked(ops_inval(req), parent);
	inval_dir_locked(ops_inval(req), new_parent);
	ops_cred(req, &cred);
	ops_reply_done(req, cairn_rename_at(ops_fs(req), &cred, parent, name, new_parent,
					    new_name, flags), "rename", parent, name);
}

static void ops_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	uint64_t ticket = inval_ticket(ops_inval(req));
	struct cairn_attr attr;
	struct cairn_cred cred;
	int r;

	inval_dir_locked(ops_inval(req), new_parent);
	ops_cred(req, &cred);
	r = cairn_link_inode(ops_fs(req), &cred, ino, new_parent, new_name, &attr);
	reply_entry(req, r, &attr, ticket, false, "link", new_parent, new_name);
}

/* ---- the file system ---- */

static void ops_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct cairn_statfs s;
	struct statvfs v = {.f_bsize = BLOCK_BYTES, .f_frsize = BLOCK_BYTES,
			    .f_namemax = NAME_BYTES_MAX};
	int r = cairn_statfs_at(ops_fs(req), ino, &s);

	if (r < 0) {
		ops_fail(req, r, "statfs", ino, NULL);
		return;
	}
	v.f_blocks = s.total_bytes / BLOCK_BYTES;
	v.f_bfree = v.f_bavail = s.free_bytes / BLOCK_BYTES;
	/* There is no table of inodes to fill up: without a quota as many as blocks are free. */
	v.f_ffree = v.f_bfree;
	if (s.inodes_max)
		v.f_ffree = s.inodes < s.inodes_max ? s.inodes_max - s.inodes : 0;
	v.f_favail = v.f_ffree;
	v.f_files = s.inodes + v.f_ffree;
	fuse_reply_statfs(req, &v);
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
	.flush = ops_flush,
	.fallocate = ops_fallocate,
	.lseek = ops_lseek,
	.copy_file_range = ops_copy_file_range,
	.getlk = ops_getlk,
	.setlk = ops_setlk,
	.flock = ops_flock,
	.destroy = ops_destroy,
	.opendir = ops_opendir,
	.readdir = ops_readdir,
	.readdirplus = ops_readdirplus,
	.releasedir = ops_releasedir,
	.statfs = ops_statfs,
	.setxattr = ops_setxattr,
	.getxattr = ops_getxattr,
	.listxattr = ops_listxattr,
	.removexattr = ops_removexattr,
};
