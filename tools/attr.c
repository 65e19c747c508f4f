#include "tools/attr.h"

#include <stdio.h>
#include <sys/sysmacros.h>

#include "common/limits.h"
#include "tools/text.h"

/* A double has no room for nanoseconds of this century. */
static json_t *time_json(struct timespec t)
{
	char text[48];

	snprintf(text, sizeof(text), "%lld.%09ld", (long long)t.tv_sec, t.tv_nsec);
	return json_string(text);
}

json_t *attr_to_json(struct cairn *fs, const struct cairn_attr *a)
{
	char mode[8], target[SYMLINK_BYTES_MAX + 1];
	json_t *o;

	snprintf(mode, sizeof(mode), "%04o", a->mode & 07777);
	o = json_pack("{s:I, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:I}", "inode",
		      (json_int_t)a->inode, "type", text_type(a->mode), "mode", mode, "nlink",
		      (int)a->nlink, "uid", (json_int_t)a->uid, "gid", (json_int_t)a->gid, "size",
		      (json_int_t)a->size, "blocks", (json_int_t)a->blocks, "atime",
		      time_json(a->atime), "mtime", time_json(a->mtime), "ctime",
		      time_json(a->ctime), "btime", time_json(a->btime), "change",
		      (json_int_t)a->change);
	if (!o)
		return NULL;
	if (S_ISBLK(a->mode) || S_ISCHR(a->mode)) {
		json_object_set_new(o, "major", json_integer(major(a->rdev)));
		json_object_set_new(o, "minor", json_integer(minor(a->rdev)));
	}
	/* Gone since it was listed: the entry then has no target. */
	if (S_ISLNK(a->mode) && cairn_readlink_inode(fs, a->inode, target, sizeof(target)) >= 0)
		text_json_name(o, "target", target);
	return o;
}
