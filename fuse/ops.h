/* FUSE requests answered through libcairn: each handler sends exactly one reply. */
#ifndef CAIRN_FUSE_OPS_H
#define CAIRN_FUSE_OPS_H

#include "fuse/fuse.h"

#include <stdint.h>

#include "client/cairn.h"

/* A FUSE session's user data: immutable while the session runs; handlers run on any thread. */
struct mount {
	struct cairn *fs; /* owned by main */
};

extern const struct fuse_lowlevel_ops mount_ops;

/* ---- for the handlers in ops.c, ops_file.c and ops_dir.c ---- */

struct cairn *ops_fs(fuse_req_t req);
/* Who asks. The kernel has checked permissions (default_permissions): no supplementary groups. */
void ops_cred(fuse_req_t req, struct cairn_cred *ret);
/* Answers with an error (r: negative errno) and logs those that are no ordinary answer. */
void ops_fail(fuse_req_t req, int r, const char *what, uint64_t inode, const char *name);
void ops_reply_done(fuse_req_t req, int r, const char *what, uint64_t inode, const char *name);
void ops_entry(const struct cairn_attr *attr, struct fuse_entry_param *ret);

void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		struct fuse_file_info *fi);
void ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void ops_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
	       struct fuse_file_info *fi);
void ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

void ops_destroy(void *userdata);
void ops_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		 struct fuse_file_info *fi);
void ops_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

#endif
