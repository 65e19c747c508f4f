/* Access control lists in the state: attributes that follow the mode and are followed by it. */
#include "master/apply_priv.h"

#include <sys/stat.h>

#include "common/cleanup.h"
#include "master/acl.h"

static int list_put(struct apply *a, uint64_t inode, struct slice name, const struct acl *acl)
{
	_cleanup_buf_ struct buf value = {0};
	struct key key = key_xattr(inode, name);

	acl_encode(acl, &value);
	if (buf_status(&value) < 0)
		return ERR_NOMEM;
	state_put(a->st, key_slice(&key), buf_slice(&value));
	return 0;
}

static void list_del(struct apply *a, uint64_t inode, struct slice name)
{
	struct key key = key_xattr(inode, name);
	state_del(a->st, key_slice(&key));
}

int apply_inherit(struct apply *a, const struct wire_cred *cred, uint64_t parent, uint64_t inode,
		  struct row_inode *row)
{
	struct acl acl;
	int r;

	if (S_ISLNK(row->mode))
		return 0;
	r = ns_acl(a->st, parent, ACL_DEFAULT, &acl);
	if (r == 0)
		row->mode &= ~(cred->umask & 0777);
	if (r <= 0)
		return r;
	row->bare = 0;
	r = S_ISDIR(row->mode) ? list_put(a, inode, ACL_DEFAULT, &acl) : 0;
	if (!acl_inherit(&acl, &row->mode) && r == 0)
		r = list_put(a, inode, ACL_ACCESS, &acl);
	acl_release(&acl);
	return r;
}

int apply_acl_follow_mode(struct apply *a, uint64_t inode, const struct row_inode *row)
{
	struct acl acl;
	int r = ns_acl(a->st, inode, ACL_ACCESS, &acl);

	if (r <= 0)
		return r;
	acl_follow_mode(&acl, row->mode);
	r = list_put(a, inode, ACL_ACCESS, &acl);
	acl_release(&acl);
	return r;
}

static int list_there(struct apply *a, uint64_t inode, struct slice name)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key key = key_xattr(inode, name);

	return state_get(a->st, key_slice(&key), &backing);
}

int apply_acl_set(struct apply *a, const struct wire_xattr_set *req, struct row_inode *row)
{
	bool access = slice_eq(req->name, ACL_ACCESS);
	struct acl acl = {0};
	int r = 0;

	if (S_ISLNK(row->mode))
		return ERR_NOTSUP;
	if (!(req->flags & XATTR_F_REMOVE))
		r = acl_decode(req->value, &acl);
	if (r < 0)
		return r;
	if (acl.n > 0 && !access && !S_ISDIR(row->mode)) {
		r = ERR_ACCES;
	} else if (acl.n == 0) {
		r = list_there(a, req->inode, req->name);
		if (r == 1)
			list_del(a, req->inode, req->name);
		r = r < 0 ? r : !r;
	} else if (!access) {
		r = list_put(a, req->inode, req->name, &acl);
	} else {
		if (acl_to_mode(&acl, &row->mode))
			list_del(a, req->inode, req->name);
		else
			r = list_put(a, req->inode, req->name, &acl);
		if (req->cred.uid != 0 && !acl_in_group(&req->cred, row->gid))
			row->mode &= ~(uint32_t)S_ISGID;
	}
	acl_release(&acl);
	return r;
}
