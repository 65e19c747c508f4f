/* POSIX access control lists: what they make of modes, and modes of them (acl(5); Linux
 * fs/posix_acl.c), and whom they permit what. Pure. The lists are kept as the extended attributes in
 * which the kernel hands them over, and reads them where it decides itself (see ARCHITECTURE.md). */
#ifndef CAIRN_MASTER_ACL_H
#define CAIRN_MASTER_ACL_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/wire.h"

#define ACL_ACCESS SLICE_LIT("system.posix_acl_access")
#define ACL_DEFAULT SLICE_LIT("system.posix_acl_default")

enum { ACL_ENTRIES_MAX = 8000 };

struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};
struct acl {
	unsigned n;
	struct acl_entry *entries; /* acl_release() */
};
void acl_release(struct acl *acl);

/* From an attribute's value: 0, ERR_INVAL when it is not a valid list, ERR_NOMEM. Without entries:
 * n 0. */
int acl_decode(struct slice value, struct acl *ret);
void acl_encode(const struct acl *acl, struct buf *b);

/* The permission bits that a list stands for, in place of those in *mode. True: it says no more
 * than they do. */
bool acl_to_mode(const struct acl *acl, uint32_t *mode);
/* Whether the list permits `want` (bits of rwx) to one who does not own the inode; gid: the inode's. */
bool acl_permits(const struct acl *acl, const struct wire_cred *cred, uint32_t gid, unsigned want);
/* The effective group or one of the others. */
bool acl_in_group(const struct wire_cred *cred, uint32_t gid);
/* chmod: the list follows the mode. */
void acl_follow_mode(struct acl *acl, uint32_t mode);
/* A new inode that is made with `*mode` under a default list: acl, a copy of that, becomes its
 * access list, and *mode what both allow. True: the mode says it all. */
bool acl_inherit(struct acl *acl, uint32_t *mode);

#endif
