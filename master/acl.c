#include "master/acl.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "common/err.h"

/* The kernel's numbers: linux/posix_acl.h, linux/posix_acl_xattr.h. */
enum {
	ACL_VERSION = 2,
	ACL_HEAD_BYTES = 4,
	ACL_ENTRY_BYTES = 8,
	TAG_USER_OBJ = 0x01, TAG_USER = 0x02, TAG_GROUP_OBJ = 0x04, TAG_GROUP = 0x08,
	TAG_MASK = 0x10, TAG_OTHER = 0x20,
};

void acl_release(struct acl *acl)
{
	free(acl->entries);
	*acl = (struct acl){0};
}

/* In the order of the tags: one USER_OBJ, USERs, one GROUP_OBJ, GROUPs, a MASK if there are any,
 * one OTHER. */
static bool acl_is_valid(const struct acl *acl)
{
	unsigned counts[TAG_OTHER + 1] = {0}, last = 0;

	for (unsigned i = 0; i < acl->n; i++) {
		const struct acl_entry *e = &acl->entries[i];
		bool named = e->tag == TAG_USER || e->tag == TAG_GROUP;
		if (e->tag == 0 || e->tag > TAG_OTHER || (e->tag & (e->tag - 1)) || e->perm > 7 ||
		    e->tag < last || (e->tag == last && !named) ||
		    (named && e->id == UINT32_MAX))
			return false;
		last = e->tag;
		counts[e->tag]++;
	}
	return counts[TAG_USER_OBJ] == 1 && counts[TAG_GROUP_OBJ] == 1 && counts[TAG_OTHER] == 1 &&
	       (counts[TAG_MASK] == 1 || (counts[TAG_USER] == 0 && counts[TAG_GROUP] == 0));
}

int acl_decode(struct slice value, struct acl *ret)
{
	struct acl acl = {0};

	*ret = acl;
	if (value.len < ACL_HEAD_BYTES || get_le32(value.data) != ACL_VERSION ||
	    (value.len - ACL_HEAD_BYTES) % ACL_ENTRY_BYTES)
		return ERR_INVAL;
	acl.n = (value.len - ACL_HEAD_BYTES) / ACL_ENTRY_BYTES;
	if (acl.n == 0)
		return 0;
	if (acl.n > ACL_ENTRIES_MAX)
		return ERR_INVAL;
	acl.entries = calloc(acl.n, sizeof(*acl.entries));
	if (!acl.entries)
		return ERR_NOMEM;
	for (unsigned i = 0; i < acl.n; i++) {
		const uint8_t *p = value.data + ACL_HEAD_BYTES + i * ACL_ENTRY_BYTES;
		acl.entries[i] = (struct acl_entry){get_le16(p), get_le16(p + 2), get_le32(p + 4)};
	}
	if (!acl_is_valid(&acl)) {
		acl_release(&acl);
		return ERR_INVAL;
	}
	*ret = acl;
	return 0;
}

void acl_encode(const struct acl *acl, struct buf *b)
{
	buf_le32(b, ACL_VERSION);
	for (unsigned i = 0; i < acl->n; i++) {
		buf_le16(b, acl->entries[i].tag);
		buf_le16(b, acl->entries[i].perm);
		buf_le32(b, acl->entries[i].id);
	}
}

static struct acl_entry *acl_find(const struct acl *acl, uint16_t tag)
{
	for (unsigned i = 0; i < acl->n; i++)
		if (acl->entries[i].tag == tag)
			return &acl->entries[i];
	return NULL;
}

/* The entry that the mode's group bits are: the mask, or the owning group's without one. */
static struct acl_entry *acl_group_class(const struct acl *acl)
{
	struct acl_entry *mask = acl_find(acl, TAG_MASK);
	return mask ? mask : acl_find(acl, TAG_GROUP_OBJ);
}

bool acl_to_mode(const struct acl *acl, uint32_t *mode)
{
	*mode = (*mode & ~0777U) | (uint32_t)acl_find(acl, TAG_USER_OBJ)->perm << 6 |
		(uint32_t)acl_group_class(acl)->perm << 3 | acl_find(acl, TAG_OTHER)->perm;
	return acl->n == 3;
}

void acl_follow_mode(struct acl *acl, uint32_t mode)
{
	acl_find(acl, TAG_USER_OBJ)->perm = mode >> 6 & 7;
	acl_group_class(acl)->perm = mode >> 3 & 7;
	acl_find(acl, TAG_OTHER)->perm = mode & 7;
}

bool acl_inherit(struct acl *acl, uint32_t *mode)
{
	acl_find(acl, TAG_USER_OBJ)->perm &= *mode >> 6 & 7;
	acl_group_class(acl)->perm &= *mode >> 3 & 7;
	acl_find(acl, TAG_OTHER)->perm &= *mode & 7;
	return acl_to_mode(acl, mode);
}

bool acl_in_group(const struct wire_cred *cred, uint32_t gid)
{
	bool in = cred->gid == gid;

	for (unsigned i = 0; i < cred->n_groups; i++)
		in |= cred->groups[i] == gid;
	return in;
}

/* The entry for a user counts before those for groups, of which any one that permits will do, and
 * those for groups before the one for others. The mask limits all but that. */
bool acl_permits(const struct acl *acl, const struct wire_cred *cred, uint32_t gid, unsigned want)
{
	const struct acl_entry *mask = acl_find(acl, TAG_MASK);
	unsigned limit = mask ? mask->perm : 7;
	bool in_any = false;

	for (unsigned i = 0; i < acl->n; i++) {
		const struct acl_entry *e = &acl->entries[i];
		bool group = e->tag == TAG_GROUP || e->tag == TAG_GROUP_OBJ;
		if (e->tag == TAG_USER && e->id == cred->uid)
			return (e->perm & limit & want) == want;
		if (!group || !acl_in_group(cred, e->tag == TAG_GROUP ? e->id : gid))
			continue;
		if ((e->perm & limit & want) == want)
			return true;
		in_any = true;
	}
	return !in_any && (acl_find(acl, TAG_OTHER)->perm & want) == want;
}
