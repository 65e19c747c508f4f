/* FUSE requests answered through libcairn: each handler sends exactly one reply. */
#ifndef CAIRN_FUSE_OPS_H
#define CAIRN_FUSE_OPS_H

#include "fuse/fuse.h"

#include <stdint.h>

#include "client/cairn.h"
#include "fuse/inval.h"

/* A FUSE session's user data: immutable while the session runs; handlers run on any thread. */
struct mount {
	struct cairn *fs; /* owned by main */
	struct inval *inval; /* owned by main */
};

extern const struct fuse_lowlevel_ops mount_ops;

/* Of every node: ids are never reused. */
enum { OPS_GENERATION = 1 };

/* ---- for the handlers in ops.c, ops_file.c, ops_dir.c and raw.c ---- */

struct cairn *ops_fs(fuse_req_t req);
struct inval *ops_inval(fuse_req_t req);
/* Who asks. The kernel has checked permissions (default_permissions): supplementary groups only when the
 * master does not take its word.
 * umask: only in requests that make something. */
void ops_cred(fuse_req_t req, struct cairn_cred *ret);
/* The same's groups. */
void ops_groups(fuse_req_t req, struct cairn_cred *ret);
/* Answers with an error (r: negative errno) and logs those that are no ordinary answer. */
/* -EINTR for a failure that only comes from the wait being ended (fuse/interrupt.h); else r. */
int ops_interrupted(int r);
void ops_log_failure(int r, const char *what, uint64_t inode, const char *name);
void ops_fail(fuse_req_t req, int r, const char *what, uint64_t inode, const char *name);
void ops_reply_done(fuse_req_t req, int r, const char *what, uint64_t inode, const char *name);
void ops_entry(const struct cairn_attr *attr, struct fuse_entry_param *ret);

void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		struct fuse_file_info *fi);
/* O_TMPFILE: a new file without a name in `parent`. fi: flags in; fh and direct_io out. */
int ops_open_tmpfile(struct cairn *fs, struct inval *inval, const struct cairn_cred *cred, uint64_t parent,
		     uint32_t mode, struct fuse_file_info *fi, struct cairn_attr *ret);
/* inval_entry_opened for its handle. */
void ops_entry_opened(struct inval *inval, const struct inval_entry *told,
		      const struct fuse_file_info *fi, uint64_t change);
/* For an open whose caller has gone: no release will follow. */
void ops_open_undo(struct inval *inval, struct fuse_file_info *fi);
void ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void ops_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
	       struct fuse_file_info *fi);
void ops_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* ops_data.c */
void ops_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		   struct fuse_file_info *fi);
void ops_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void ops_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			 struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			 struct fuse_file_info *fi_out, size_t len, int flags);
/* The handle's file as it was opened. */
int ops_file(fuse_req_t req, struct fuse_file_info *fi, struct cairn_file **ret);

/* ops_lock.c */
void ops_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock);
void ops_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock,
	       int sleep);
void ops_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op);
/* Before the handle goes: what was locked through it. */
int ops_lock_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* ops_xattr.c */
void ops_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		  size_t size, int flags);
void ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void ops_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* ops_dir.c */
void ops_destroy(void *userdata);
void ops_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		 struct fuse_file_info *fi);
void ops_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi);
void ops_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

#endif
