/* The two places that files are copied between: this machine and the cluster, behind one table.
 *
 * Functions return 0 or a count, or a negative errno; side_reason() of the same thread then has
 * the words. Sides are immutable and used from any thread; a file may be read and written at
 * different offsets by several threads at once. */
#ifndef CAIRN_TOOLS_SIDE_H
#define CAIRN_TOOLS_SIDE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "client/cairn.h"

struct side_file; /* of the side that opened it */

typedef int (*side_list_fn)(void *arg, const char *name); /* not for "." and ".."; <0 stops */

struct side {
	struct cairn *fs; /* NULL: this machine */
	int (*stat)(const struct side *s, const char *path, bool follow, struct stat *ret);
	int (*list)(const struct side *s, const char *path, side_list_fn fn, void *arg);
	ssize_t (*readlink)(const struct side *s, const char *path, char *buf, size_t bytes);
	int (*mkdir)(const struct side *s, const char *path, mode_t mode);
	int (*symlink)(const struct side *s, const char *target, const char *path);
	int (*mknod)(const struct side *s, const char *path, mode_t mode, uint64_t rdev);
	int (*rename)(const struct side *s, const char *from, const char *to);
	int (*unlink)(const struct side *s, const char *path);
	/* Mode (not of symbolic links) and the times of *st. */
	int (*set_meta)(const struct side *s, const char *path, const struct stat *st);

	int (*open)(const struct side *s, const char *path, struct side_file **ret);
	/* A new file, mode 0600; -EEXIST when the name is taken. */
	int (*create)(const struct side *s, const char *path, struct side_file **ret);
	int (*fstat)(const struct side *s, struct side_file *f, struct stat *ret);
	ssize_t (*pread)(const struct side *s, struct side_file *f, void *buf, size_t bytes,
			 uint64_t offset); /* fewer than asked only at the end */
	int (*pwrite)(const struct side *s, struct side_file *f, const void *buf, size_t bytes,
		      uint64_t offset);
	/* Between two files of this side, without carrying the bytes: a count, fewer only at the end or
	 * when it takes long. NULL: cannot be done. */
	ssize_t (*copy)(const struct side *s, struct side_file *in, uint64_t from,
			struct side_file *out, uint64_t to, size_t bytes);
	/* Makes the bytes durable, then sets mode and times as st has them. */
	int (*finish)(const struct side *s, struct side_file *f, const struct stat *st);
	int (*close)(const struct side *s, struct side_file *f);
	/* Whether no server answers; then later calls fail at once. NULL: cannot happen. */
	bool (*lost)(const struct side *s);
};

void side_init_local(struct side *s);
void side_init_remote(struct side *s, struct cairn *fs);
const char *side_reason(const struct side *s, int r);

#endif
