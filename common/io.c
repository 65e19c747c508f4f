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

#include "common/cleanup.h"
#include "common/err.h"

/* ---- the system ---- */

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

const struct io io_real = {
	.open = real_open, .close = real_close, .pread = real_pread, .pwrite = real_pwrite,
	.fdatasync = real_fdatasync, .ftruncate = real_ftruncate, .size = real_size,
	.rename = real_rename, .unlink = real_unlink, .mkdir = real_mkdir,
	.sync_dir = real_sync_dir, .space = real_space, .list = real_list,
};

/* ---- faults ---- */

static struct io_faulty *faulty(const struct io *io)
{
	/* io is the first member; the counters behind it are atomics, so that a table that is
	 * otherwise immutable can be shared. */
	return (struct io_faulty *)(uintptr_t)io;
}

static bool fault_matches(const struct io_fault *fault, enum io_kind kind, const char *path)
{
	return fault->kind == kind && (!fault->match || (path && strstr(path, fault->match)));
}

/* The fault that strikes this call, or NULL. */
static const struct io_fault *fault_take(struct io_faulty *f, enum io_kind kind, const char *path)
{
	for (unsigned i = 0; i < f->n_faults; i++) {
		const struct io_fault *fault = &f->faults[i];
		unsigned nth;
		if (!fault_matches(fault, kind, path))
			continue;
		nth = atomic_fetch_add(&f->seen[i], 1) + 1;
		if (nth == fault->nth || (fault->sticky && nth > fault->nth)) {
			atomic_fetch_add(&f->fired[i], 1);
			return fault;
		}
	}
	return NULL;
}

static const struct io_fault *fault_take_fd(struct io_faulty *f, enum io_kind kind, int fd)
{
	char link[64], path[4096];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	return fault_take(f, kind, path);
}

static int fault_code(const struct io_fault *fault)
{
	return err_from_errno(fault->eno);
}

static int faulty_open(const struct io *io, const char *path, int flags, mode_t mode)
{
	const struct io_fault *x = fault_take(faulty(io), IO_OPEN, path);
	return x ? fault_code(x) : faulty(io)->below->open(faulty(io)->below, path, flags, mode);
}

static int faulty_close(const struct io *io, int fd)
{
	const struct io_fault *x = fault_take_fd(faulty(io), IO_CLOSE, fd);
	int r = faulty(io)->below->close(faulty(io)->below, fd);
	return x ? fault_code(x) : r;
}

static ssize_t faulty_pread(const struct io *io, int fd, void *data, size_t n, uint64_t offset)
{
	const struct io_fault *x = fault_take_fd(faulty(io), IO_PREAD, fd);
	return x ? fault_code(x)
		 : faulty(io)->below->pread(faulty(io)->below, fd, data, n, offset);
}

static int faulty_pwrite(const struct io *io, int fd, const void *data, size_t n, uint64_t offset)
{
	struct io_faulty *f = faulty(io);
	const struct io_fault *x = fault_take_fd(f, IO_PWRITE, fd);

	if (!x)
		return f->below->pwrite(f->below, fd, data, n, offset);
	if (x->short_bytes > 0) {
		size_t part = x->short_bytes < n ? x->short_bytes : n;
		int r = f->below->pwrite(f->below, fd, data, part, offset);
		if (r < 0)
			return r;
	}
	return fault_code(x);
}

static int faulty_fdatasync(const struct io *io, int fd)
{
	const struct io_fault *x = fault_take_fd(faulty(io), IO_FDATASYNC, fd);
	return x ? fault_code(x) : faulty(io)->below->fdatasync(faulty(io)->below, fd);
}

static int faulty_ftruncate(const struct io *io, int fd, uint64_t size)
{
	const struct io_fault *x = fault_take_fd(faulty(io), IO_FTRUNCATE, fd);
	return x ? fault_code(x) : faulty(io)->below->ftruncate(faulty(io)->below, fd, size);
}

static int64_t faulty_size(const struct io *io, int fd)
{
	const struct io_fault *x = fault_take_fd(faulty(io), IO_SIZE, fd);
	return x ? fault_code(x) : faulty(io)->below->size(faulty(io)->below, fd);
}

static int faulty_rename(const struct io *io, const char *from, const char *to)
{
	const struct io_fault *x = fault_take(faulty(io), IO_RENAME, from);
	return x ? fault_code(x) : faulty(io)->below->rename(faulty(io)->below, from, to);
}

static int faulty_unlink(const struct io *io, const char *path)
{
	const struct io_fault *x = fault_take(faulty(io), IO_UNLINK, path);
	return x ? fault_code(x) : faulty(io)->below->unlink(faulty(io)->below, path);
}

static int faulty_mkdir(const struct io *io, const char *path, mode_t mode)
{
	const struct io_fault *x = fault_take(faulty(io), IO_MKDIR, path);
	return x ? fault_code(x) : faulty(io)->below->mkdir(faulty(io)->below, path, mode);
}

static int faulty_sync_dir(const struct io *io, const char *path)
{
	const struct io_fault *x = fault_take(faulty(io), IO_SYNC_DIR, path);
	return x ? fault_code(x) : faulty(io)->below->sync_dir(faulty(io)->below, path);
}

static int faulty_space(const struct io *io, const char *path, struct io_space *ret)
{
	const struct io_fault *x = fault_take(faulty(io), IO_SPACE, path);
	return x ? fault_code(x) : faulty(io)->below->space(faulty(io)->below, path, ret);
}

static int faulty_list(const struct io *io, const char *path, io_list_fn fn, void *arg)
{
	const struct io_fault *x = fault_take(faulty(io), IO_LIST, path);
	return x ? fault_code(x) : faulty(io)->below->list(faulty(io)->below, path, fn, arg);
}

void io_faulty_init(struct io_faulty *f, const struct io *below)
{
	*f = (struct io_faulty){
		.io = {
			.open = faulty_open, .close = faulty_close, .pread = faulty_pread,
			.pwrite = faulty_pwrite, .fdatasync = faulty_fdatasync,
			.ftruncate = faulty_ftruncate, .size = faulty_size,
			.rename = faulty_rename, .unlink = faulty_unlink, .mkdir = faulty_mkdir,
			.sync_dir = faulty_sync_dir, .space = faulty_space, .list = faulty_list,
		},
		.below = below,
	};
}

unsigned io_faulty_add(struct io_faulty *f, struct io_fault fault)
{
	unsigned i = f->n_faults;
	if (i == IO_FAULTS_MAX)
		abort(); /* a test that needs more raises the limit */
	f->faults[i] = fault;
	f->n_faults++;
	return i;
}
