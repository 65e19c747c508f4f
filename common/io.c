#include "common/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"

static int io_result(int r)
{
	return r < 0 ? err_from_errno(errno) : r;
}

static int real_open(const struct io *io, const char *path, int flags, mode_t mode)
{
	return io_result(open(path, flags | O_CLOEXEC, mode));
}

static int real_close(const struct io *io, int fd)
{
	return io_result(close(fd));
}

static ssize_t real_pread(const struct io *io, int fd, void *data, size_t n, uint64_t offset)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pread(fd, (uint8_t *)data + done, n - done, (off_t)(offset + done));
		if (r == 0)
			break;
		if (r < 0 && errno != EINTR)
			return err_from_errno(errno);
		if (r > 0)
			done += (size_t)r;
	}
	return (ssize_t)done;
}

static int real_pwrite(const struct io *io, int fd, const void *data, size_t n, uint64_t offset)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pwrite(fd, (const uint8_t *)data + done, n - done,
				   (off_t)(offset + done));
		if (r < 0 && errno != EINTR)
			return err_from_errno(errno);
		if (r > 0)
			done += (size_t)r;
	}
	return 0;
}

static int real_fdatasync(const struct io *io, int fd)
{
	return io_result(fdatasync(fd));
}

static int real_ftruncate(const struct io *io, int fd, uint64_t size)
{
	return io_result(ftruncate(fd, (off_t)size));
}

static int real_punch(const struct io *io, int fd, uint64_t offset, size_t n)
{
	return io_result(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
				   (off_t)n));
}

static int64_t real_size(const struct io *io, int fd)
{
	struct stat st;
	return fstat(fd, &st) < 0 ? err_from_errno(errno) : (int64_t)st.st_size;
}

static int real_rename(const struct io *io, const char *from, const char *to)
{
	return io_result(rename(from, to));
}

static int real_unlink(const struct io *io, const char *path)
{
	return io_result(unlink(path));
}

static int real_mkdir(const struct io *io, const char *path, mode_t mode)
{
	return io_result(mkdir(path, mode));
}

static int real_sync_dir(const struct io *io, const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_from_errno(errno) : io_result(fsync(fd));
}

static int real_space(const struct io *io, const char *path, struct io_space *ret)
{
	struct statvfs v;

	if (statvfs(path, &v) < 0)
		return err_from_errno(errno);
	ret->total_bytes = (uint64_t)v.f_blocks * v.f_frsize;
	ret->free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	return 0;
}

static int real_list(const struct io *io, const char *path, io_list_fn fn, void *arg)
{
	DIR *dir = opendir(path);
	int r = 0;

	if (!dir)
		return err_from_errno(errno);
	while (r == 0) {
		const struct dirent *e;
		errno = 0;
		e = readdir(dir);
		if (!e) {
			r = errno ? err_from_errno(errno) : 0;
			break;
		}
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = fn(arg, e->d_name);
	}
	closedir(dir);
	return r < 0 ? r : 0;
}

/* Linux 6.8 gives each mount a number that is never used again. Older kernels use numbers anew, so
 * that a file system mounted again without a boot may look like the same mount. */
#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U
#endif

static int real_life(const struct io *io, const char *path, uint8_t ret[IO_LIFE_BYTES])
{
	static const char hex[] = "0123456789abcdef";
	_cleanup_fd_ int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char text[64];
	struct statx st = {0};
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	unsigned digits = 0;

	if (n < 0 || statx(AT_FDCWD, path, 0, STATX_MNT_ID | STATX_MNT_ID_UNIQUE, &st) < 0)
		return err_from_errno(errno);
	memset(ret, 0, IO_LIFE_BYTES);
	for (ssize_t i = 0; i < n && digits < 32; i++) {
		const char *at = memchr(hex, text[i], 16);
		if (!at)
			continue;
		ret[digits / 2] |= (uint8_t)((at - hex) << (digits % 2 ? 0 : 4));
		digits++;
	}
	put_le64(ret + 16, st.stx_mnt_id);
	return digits == 32 ? 0 : ERR_IO;
}

const struct io io_real = {
	.open = real_open, .close = real_close, .pread = real_pread, .pwrite = real_pwrite,
	.fdatasync = real_fdatasync, .ftruncate = real_ftruncate, .punch = real_punch, .size = real_size,
	.rename = real_rename, .unlink = real_unlink, .mkdir = real_mkdir,
	.sync_dir = real_sync_dir, .space = real_space, .list = real_list,
	.life = real_life,
};
