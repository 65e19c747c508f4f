/* The two ways to a Cairn file system: a mount, by system calls, and libcairn. Functions return 0
 * or a count, or a negative errno. Paths have no leading slash. A backend belongs to one thread;
 * the sessions of libcairn under it are shared. */
#ifndef CAIRN_TESTS_CHECKER_BACKEND_H
#define CAIRN_TESTS_CHECKER_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "client/cairn.h"

struct backend {
	const struct backend_ops *ops;
	const char *mountpoint; /* mount */
	int root_fd;		/* mount; -1: to be opened (anew) */
	struct cairn *fs;	/* libcairn */
};

typedef int (*backend_list_fn)(void *arg, const char *name);

struct backend_ops {
	const char *name;
	int (*open)(struct backend *b, const char *path, int flags, void **ret);
	ssize_t (*pread)(void *file, void *data, size_t n, uint64_t offset);
	ssize_t (*pwrite)(void *file, const void *data, size_t n, uint64_t offset);
	int (*fsync)(void *file);
	int (*ftruncate)(void *file, uint64_t size);
	int (*fstat)(void *file, struct stat *ret);
	int (*close)(void *file);
	int (*lstat)(struct backend *b, const char *path, struct stat *ret);
	int (*mkdir)(struct backend *b, const char *path);
	int (*rmdir)(struct backend *b, const char *path);
	int (*unlink)(struct backend *b, const char *path);
	int (*rename)(struct backend *b, const char *from, const char *to);
	int (*link)(struct backend *b, const char *from, const char *to);
	int (*symlink)(struct backend *b, const char *target, const char *path);
	ssize_t (*readlink)(struct backend *b, const char *path, char *ret, size_t room);
	int (*list)(struct backend *b, const char *path, backend_list_fn fn, void *arg);
};

extern const struct backend_ops backend_mount, backend_libcairn;

#endif
