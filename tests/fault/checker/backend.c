#include "tests/fault/checker/backend.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { FUSE_MAGIC = 0x65735546, PATH_ROOM = 1024 };

/* ---- a mount ---- */

/* The mount may be dead, or gone: what lies under it must never be taken for it. */
static int mount_root(struct backend *b)
{
	struct statfs s;
	int fd;

	if (b->root_fd >= 0)
		return b->root_fd;
	fd = open(b->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstatfs(fd, &s) < 0 || s.f_type != FUSE_MAGIC) {
		close(fd);
		return -ENOTCONN;
	}
	b->root_fd = fd;
	return fd;
}

static int mount_result(struct backend *b, long r)
{
	int eno = errno;

	if (r >= 0)
		return (int)r;
	if ((eno == ENOTCONN || eno == ECONNABORTED) && b->root_fd >= 0) {
		close(b->root_fd);
		b->root_fd = -1;
	}
	return -eno;
}

struct mount_file {
	int fd;
};

static long file_result(long r)
{
	return r < 0 ? -errno : r;
}

static int mount_open(struct backend *b, const char *path, int flags, void **ret)
{
	struct mount_file *f;
	int root = mount_root(b), fd;

	if (root < 0)
		return root;
	fd = mount_result(b, openat(root, path, flags | O_CLOEXEC, 0644));
	if (fd < 0)
		return fd;
	f = malloc(sizeof(*f));
	if (!f)
		abort();
	f->fd = fd;
	*ret = f;
	return 0;
}

/* The kernel splits a read into several requests. When the mount dies between two of them, the
 * first part is given as if the file ended there: only the rest tells. */
static ssize_t mount_pread(void *file, void *data, size_t n, uint64_t offset)
{
	int fd = ((struct mount_file *)file)->fd;
	size_t done = 0;

	while (done < n) {
		ssize_t r = file_result(pread(fd, (uint8_t *)data + done, n - done,
					      (off_t)(offset + done)));
		if (r < 0)
			return r;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

static ssize_t mount_pwrite(void *file, const void *data, size_t n, uint64_t offset)
{
	return file_result(pwrite(((struct mount_file *)file)->fd, data, n, (off_t)offset));
}

static int mount_fsync(void *file)
{
	return (int)file_result(fsync(((struct mount_file *)file)->fd));
}

static int mount_ftruncate(void *file, uint64_t size)
{
	return (int)file_result(ftruncate(((struct mount_file *)file)->fd, (off_t)size));
}

static int mount_fstat(void *file, struct stat *ret)
{
	return (int)file_result(fstat(((struct mount_file *)file)->fd, ret));
}

static int mount_close(void *file)
{
	int r = (int)file_result(close(((struct mount_file *)file)->fd));
	free(file);
	return r;
}

static int mount_lstat(struct backend *b, const char *path, struct stat *ret)
{
	int root = mount_root(b);
	return root < 0 ? root : mount_result(b, fstatat(root, path, ret, AT_SYMLINK_NOFOLLOW));
}

static int mount_mkdir(struct backend *b, const char *path)
{
	int root = mount_root(b);
	return root < 0 ? root : mount_result(b, mkdirat(root, path, 0755));
}

static int mount_rmdir(struct backend *b, const char *path)
{
	int root = mount_root(b);
	return root < 0 ? root : mount_result(b, unlinkat(root, path, AT_REMOVEDIR));
}

static int mount_unlink(struct backend *b, const char *path)
{
	int root = mount_root(b);
	return root < 0 ? root : mount_result(b, unlinkat(root, path, 0));
}

static int mount_rename(struct backend *b, const char *from, const char *to)
{
	int root = mount_root(b);
	return root < 0 ? root : mount_result(b, renameat(root, from, root, to));
}

static int mount_link(struct backend *b, const char *from, const char *to)
{
	int root = mount_root(b);
	return root < 0 ? root : mount_result(b, linkat(root, from, root, to, 0));
}

static int mount_symlink(struct backend *b, const char *target, const char *path)
{
	int root = mount_root(b);
	return root < 0 ? root : mount_result(b, symlinkat(target, root, path));
}

static ssize_t mount_readlink(struct backend *b, const char *path, char *ret, size_t room)
{
	int root = mount_root(b);
	return root < 0 ? root : mount_result(b, readlinkat(root, path, ret, room));
}

static int mount_list(struct backend *b, const char *path, backend_list_fn fn, void *arg)
{
	int root = mount_root(b), fd, r = 0;
	const struct dirent *e;
	DIR *dir;

	if (root < 0)
		return root;
	fd = mount_result(b, openat(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir)
		abort();
	while (r == 0 && (errno = 0, e = readdir(dir)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = fn(arg, e->d_name);
	if (r == 0 && errno)
		r = mount_result(b, -1);
	closedir(dir);
	return r;
}

const struct backend_ops backend_mount = {
	"mount", mount_open, mount_pread, mount_pwrite, mount_fsync, mount_ftruncate, mount_fstat,
	mount_close, mount_lstat, mount_mkdir, mount_rmdir, mount_unlink, mount_rename, mount_link,
	mount_symlink, mount_readlink, mount_list,
};

/* ---- libcairn ---- */

static const char *rooted(const char *path, char *ret)
{
	snprintf(ret, PATH_ROOM, "/%s", path);
	return ret;
}

static int lib_open(struct backend *b, const char *path, int flags, void **ret)
{
	char p[PATH_ROOM];
	struct cairn_file *f;
	int r = cairn_open(b->fs, rooted(path, p), flags, 0644, &f);

	if (r == 0)
		*ret = f;
	return r;
}

static ssize_t lib_pread(void *file, void *data, size_t n, uint64_t offset)
{
	return cairn_pread(file, data, n, offset);
}

static ssize_t lib_pwrite(void *file, const void *data, size_t n, uint64_t offset)
{
	return cairn_pwrite(file, data, n, offset);
}

static int lib_fsync(void *file)
{
	return cairn_fsync(file);
}

static int lib_ftruncate(void *file, uint64_t size)
{
	return cairn_ftruncate(file, size);
}

static int lib_fstat(void *file, struct stat *ret)
{
	return cairn_fstat(file, ret);
}

static int lib_close(void *file)
{
	return cairn_close(file);
}

static int lib_lstat(struct backend *b, const char *path, struct stat *ret)
{
	char p[PATH_ROOM];
	return cairn_lstat(b->fs, rooted(path, p), ret);
}

static int lib_mkdir(struct backend *b, const char *path)
{
	char p[PATH_ROOM];
	return cairn_mkdir(b->fs, rooted(path, p), 0755);
}

static int lib_rmdir(struct backend *b, const char *path)
{
	char p[PATH_ROOM];
	return cairn_rmdir(b->fs, rooted(path, p));
}

static int lib_unlink(struct backend *b, const char *path)
{
	char p[PATH_ROOM];
	return cairn_unlink(b->fs, rooted(path, p));
}

static int lib_rename(struct backend *b, const char *from, const char *to)
{
	char p[PATH_ROOM], q[PATH_ROOM];
	return cairn_rename(b->fs, rooted(from, p), rooted(to, q));
}

static int lib_link(struct backend *b, const char *from, const char *to)
{
	char p[PATH_ROOM], q[PATH_ROOM];
	return cairn_link(b->fs, rooted(from, p), rooted(to, q));
}

static int lib_symlink(struct backend *b, const char *target, const char *path)
{
	char p[PATH_ROOM];
	return cairn_symlink(b->fs, target, rooted(path, p));
}

static ssize_t lib_readlink(struct backend *b, const char *path, char *ret, size_t room)
{
	char p[PATH_ROOM];
	return cairn_readlink(b->fs, rooted(path, p), ret, room);
}

struct lib_list {
	backend_list_fn fn;
	void *arg;
	int r;
};

static int lib_entry(void *arg, const char *name, uint64_t cookie, const struct cairn_attr *attr)
{
	struct lib_list *l = arg;

	if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
		l->r = l->fn(l->arg, name);
	return l->r;
}

static int lib_list(struct backend *b, const char *path, backend_list_fn fn, void *arg)
{
	struct lib_list l = {fn, arg, 0};
	struct cairn_attr attr;
	char p[PATH_ROOM];
	int r = cairn_resolve(b->fs, rooted(path, p), false, &attr);

	if (r == 0)
		r = cairn_readdir(b->fs, NULL, attr.inode, 0, lib_entry, &l);
	return r < 0 ? r : l.r;
}

const struct backend_ops backend_libcairn = {
	"libcairn", lib_open, lib_pread, lib_pwrite, lib_fsync, lib_ftruncate, lib_fstat,
	lib_close, lib_lstat, lib_mkdir, lib_rmdir, lib_unlink, lib_rename, lib_link,
	lib_symlink, lib_readlink, lib_list,
};
