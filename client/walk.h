/* Path resolution as path_resolution(7) has it: "/"-separated components, ".", "..", symbolic
 * links (at most WALK_LINKS_MAX), trailing slashes. */
#ifndef CAIRN_CLIENT_WALK_H
#define CAIRN_CLIENT_WALK_H

#include "client/client.h"

enum { WALK_LINKS_MAX = 40, WALK_PATH_MAX = 4096 };

/* ---- pure: how a path is taken apart ---- */

struct walk_step {
	struct slice name; /* empty: the path is at its end */
	bool last;	   /* only slashes follow */
	bool slash;	   /* at least one slash follows */
};

/* The next component of *path, which is moved behind it (to the slash, or the end). */
struct walk_step walk_next(const char **path);
/* What is still to be walked after a symbolic link: target, then rest. ERR_NAMETOOLONG. */
int walk_splice(char ret[3 * WALK_PATH_MAX], const char *target, const char *rest);

/* ---- walking ---- */

/* From directory `start` (the root, or where a relative link points from). follow: also when
 * the last component is a symbolic link; a trailing slash follows it always and wants a
 * directory. */
int walk_to(struct cairn *fs, uint64_t start, const char *path, bool follow,
	    struct wire_attr *ret, struct err *err);
/* The directory of the last component, and that component (NAME_BYTES_MAX + 1); *ret_slash: a
 * slash follows it. ERR_BUSY for the root, ERR_INVAL when it is "." or "..". */
int walk_parent(struct cairn *fs, uint64_t start, const char *path, uint64_t *ret_parent,
		char *ret_name, bool *ret_slash, struct err *err);

#endif
