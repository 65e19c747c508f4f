#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "tools/cli.h"
#include "tools/side.h"

/* A file is its descriptor + 1, so that NULL stays "none". */
static struct side_file *file_of(int fd)
{
	return (struct side_file *)(intptr_t)(fd + 1);
}

static int fd_of(struct side_file *f)
{
	return (int)(intptr_t)f - 1;
}

static int result(int r)
{
	return r < 0 ? -errno : 0;
}

static int local_stat(const struct side *s, const char *path, bool follow, struct stat *ret)
{
	return result(follow ? stat(path, ret) : lstat(path, ret));
}

static int local_list(const struct side *s, const char *path, side_list_fn fn, void *arg)
{
	DIR *dir = opendir(path);
	int r = 0;

	if (!dir)
		return -errno;
	while (r == 0) {
		const struct dirent *e;
		errno = 0;
		e = readdir(dir);
		if (!e) {
			r = -errno;
			break;
		}
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = fn(arg, e->d_name);
	}
	closedir(dir);
	return r;
}

static ssize_t local_readlink(const struct side *s, const char *path, char *buf, size_t bytes)
{
	ssize_t n = readlink(path, buf, bytes - 1);

	if (n < 0)
		return -errno;
	if ((size_t)n == bytes - 1)
		return -ENAMETOOLONG;
	buf[n] = '\0';
	return n;
}

static int local_mkdir(const struct side *s, const char *path, mode_t mode)
{
	return result(mkdir(path, mode));
}

static int local_symlink(const struct side *s, const char *target, const char *path)
{
	return result(symlink(target, path));
}

static int local_mknod(const struct side *s, const char *path, mode_t mode, uint64_t rdev)
{
	return result(mknod(path, mode, (dev_t)rdev));
}

static int local_rename(const struct side *s, const char *from, const char *to)
{
	return result(rename(from, to));
}

static int local_unlink(const struct side *s, const char *path)
{
	return result(unlink(path));
}

static int local_set_meta(const struct side *s, const char *path, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};

	if (!S_ISLNK(st->st_mode) && chmod(path, st->st_mode & 07777) < 0)
		return -errno;
	return result(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW));
}

static int local_open(const struct side *s, const char *path, struct side_file **ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret = file_of(fd);
	return 0;
}

static int local_create(const struct side *s, const char *path, struct side_file **ret)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	*ret = file_of(fd);
	return 0;
}

static int local_fstat(const struct side *s, struct side_file *f, struct stat *ret)
{
	return result(fstat(fd_of(f), ret));
}

static ssize_t local_pread(const struct side *s, struct side_file *f, void *buf, size_t bytes,
			   uint64_t offset)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = pread(fd_of(f), (char *)buf + done, bytes - done,
				  (off_t)(offset + done));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		if (n > 0)
			done += (size_t)n;
	}
	return (ssize_t)done;
}

static int local_pwrite(const struct side *s, struct side_file *f, const void *buf, size_t bytes,
			uint64_t offset)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = pwrite(fd_of(f), (const char *)buf + done, bytes - done,
				   (off_t)(offset + done));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

static int local_finish(const struct side *s, struct side_file *f, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};

	if (fsync(fd_of(f)) < 0 || fchmod(fd_of(f), st->st_mode & 07777) < 0)
		return -errno;
	return result(futimens(fd_of(f), times));
}

static int local_close(const struct side *s, struct side_file *f)
{
	return result(close(fd_of(f)));
}

void side_init_local(struct side *s)
{
	*s = (struct side){
		.stat = local_stat, .list = local_list, .readlink = local_readlink,
		.mkdir = local_mkdir, .symlink = local_symlink, .mknod = local_mknod,
		.rename = local_rename, .unlink = local_unlink, .set_meta = local_set_meta,
		.open = local_open, .create = local_create, .fstat = local_fstat,
		.pread = local_pread, .pwrite = local_pwrite, .finish = local_finish,
		.close = local_close,
	};
}

const char *side_reason(const struct side *s, int r)
{
	return s->fs ? cli_reason(r) : strerror(-r);
}
