/* Who may do what: mode bits, access control lists, groups, the sticky bit, set-group-id and what only
 * root may, as Linux has it (fs/namei.c, fs/attr.c, fs/xattr.c, fs/posix_acl.c).
 *
 * Pure functions of the state and a request, one for each kind of request that names an inode. Reads are
 * checked when they are answered; changes by the leader before it proposes them, so that what is refused
 * disturbs nobody, and again where they are applied: that is the check that counts, since what an earlier
 * entry changed is seen by it. Nothing is asked of root, nor without CRED_CHECK, which the leader sets for
 * those who were not checked by a kernel that is believed (rpc_export.c, scope_identify). With
 * cred->within each inode that is named must also be in an export, whoever asks.
 *
 * Return 0, ERR_ACCES, ERR_PERM, or what reading the state said. What is refused for another reason is
 * told by whoever does the request: a name that is not there is ERR_NOENT, not ERR_ACCES.
 *
 * Known from an open file, bytes are read and written without asking what the mode is by then. The master
 * knows no open files; so, as NFS has it, a file's owner may always read, write and cut it: open(2) asks
 * with GETATTR (wire_inode_ref.access), which knows no such exception. */
#ifndef CAIRN_MASTER_ACCESS_H
#define CAIRN_MASTER_ACCESS_H

#include "master/state.h"

/* An inode: ERR_NOENT when it is not counted in the quota that cred is confined to, as if it were not there.
 * The same by the quota that it is counted in. */
int access_inode(struct state *st, const struct wire_cred *cred, uint64_t inode);
int access_project(struct state *st, const struct wire_cred *cred, uint32_t project);
/* That directory is all that cred can see: its own `..`. */
bool access_is_root(struct state *st, const struct wire_cred *cred, uint64_t dir);

/* Whether setting the set-group-id bit on something of this group is ignored for them. */
bool access_drops_setgid(const struct wire_cred *cred, uint32_t gid);

/* An extended attribute that is for them as if it were not there, in lists too: trusted. (xattr(7)). */
bool access_hides_xattr(const struct wire_cred *cred, struct slice name);

/* Set-id bits and capabilities of a file go when somebody writes to it (Linux: file_remove_privs). Of who
 * could set them anyway they go with the WROTE, and WROTE_KEEP_PRIV is believed; of others they go before
 * they are told where to write, so that no byte of theirs is ever in a file that still has them.
 * access_strips: ACCESS_STRIPS_*, what is there and must go first, or negative. */
enum { ACCESS_STRIPS_SET_ID = 1, ACCESS_STRIPS_CAPABILITY = 2 };
bool access_keeps_set_id(const struct wire_cred *cred, uint32_t mode, uint32_t uid, uint32_t gid);
bool access_keeps_capability(const struct wire_cred *cred);
int access_strips(struct state *st, const struct wire_cred *cred, uint64_t inode);

/* GETATTR and others that need nothing but the inode. */
int access_getattr(struct state *st, const struct wire_inode_ref *req);
int access_lookup(struct state *st, const struct wire_name_ref *req);
int access_readdir(struct state *st, const struct wire_readdir *req);
int access_xattr_get(struct state *st, const struct wire_xattr_get *req);
int access_locate(struct state *st, const struct wire_locate *req);
int access_lease_write(struct state *st, const struct wire_lease_write *req);

int access_make(struct state *st, const struct wire_make *req);
int access_link(struct state *st, const struct wire_link *req);
int access_unlink(struct state *st, const struct wire_unlink *req);
int access_rename(struct state *st, const struct wire_rename *req);
int access_setattr(struct state *st, const struct wire_setattr *req);
int access_xattr_set(struct state *st, const struct wire_xattr_set *req);
int access_chunk_make(struct state *st, const struct wire_chunk_for_write *req);
int access_wrote(struct state *st, const struct wire_wrote *req);
int access_lock(struct state *st, const struct wire_lock *req);
/* To wait for locks and to be told who has them: whoever may have the file open. */
int access_lock_look(struct state *st, const struct wire_cred *cred, uint64_t inode);

#endif
