/* Extended attributes. The kernel has checked who may: owner and mode for user., CAP_SYS_ADMIN for
 * trusted. (but for their names in a list, which it passes on as they are: ops_listxattr). */
#include "fuse/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/limits.h"

/* With the caller's groups if an access control list is set: one who is not in the file's group
 * loses its set-group-id bit. */
static void cred_with_groups(fuse_req_t req, const char *name, struct cairn_cred *ret)
{
	ops_cred(req, ret);
	if (strcmp(name, "system.posix_acl_access") == 0)
		ops_groups(req, ret);
}

void ops_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		  size_t size, int flags)
{
	struct cairn_cred cred;

	inval_dir_locked(ops_inval(req), ino);
	cred_with_groups(req, name, &cred);
	ops_reply_done(req, cairn_setxattr_inode(ops_fs(req), &cred, ino, name, value, size,
						 flags), "setxattr", ino, name);
}

/* size 0 asks for the size. */
static void reply_value(fuse_req_t req, const char *value, size_t bytes, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, bytes);
	else if (bytes > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, bytes);
}

void ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	char *value = malloc(XATTR_VALUE_BYTES_MAX);
	struct cairn_cred cred;
	ssize_t n;

	if (!value) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	ops_cred(req, &cred);
	n = cairn_getxattr_inode(ops_fs(req), &cred, ino, name, value, XATTR_VALUE_BYTES_MAX);
	if (n < 0)
		ops_fail(req, (int)n, "getxattr", ino, name);
	else
		reply_value(req, value, (size_t)n, size);
	free(value);
}

/* Takes the names out that begin with trusted. What is left, in bytes. */
static size_t hide_trusted(char *list, size_t bytes)
{
	static const char prefix[] = "trusted.";
	size_t kept = 0;

	for (size_t at = 0, len; at < bytes; at += len) {
		len = strnlen(list + at, bytes - at) + 1;
		if (len > bytes - at)
			break;
		if (strncmp(list + at, prefix, sizeof(prefix) - 1) == 0)
			continue;
		memmove(list + kept, list + at, len);
		kept += len;
	}
	return kept;
}

void ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	char *list = malloc(XATTR_LIST_BYTES_MAX);
	ssize_t n;

	if (!list) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	n = cairn_listxattr_inode(ops_fs(req), ino, list, XATTR_LIST_BYTES_MAX);
	if (n > 0 && fuse_req_ctx(req)->uid != 0)
		n = (ssize_t)hide_trusted(list, (size_t)n);
	if (n < 0)
		ops_fail(req, (int)n, "listxattr", ino, NULL);
	else
		reply_value(req, list, (size_t)n, size);
	free(list);
}

void ops_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct cairn_cred cred;

	inval_dir_locked(ops_inval(req), ino);
	ops_cred(req, &cred);
	ops_reply_done(req, cairn_removexattr_inode(ops_fs(req), &cred, ino, name),
		       "removexattr", ino, name);
}
