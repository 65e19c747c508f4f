/* File operations that fail on demand: as a list in this process says (unit tests), or as the
 * mapped fault file says (common/fault.h). */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/io.h"

static_assert((int)FAULT_IO_OPEN + IO_KINDS - 1 == (int)FAULT_IO_LIST, "a point for each kind");

/* What strikes a call. code 0: nothing but `flip` or `lost`. */
struct strike {
	int code;
	size_t short_bytes;
	bool flip, lost;
	uint64_t bit; /* with flip */
};

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

static bool take_listed(struct io_faulty *f, enum io_kind kind, const char *path,
			struct strike *ret)
{
	for (unsigned i = 0; i < f->n_faults; i++) {
		const struct io_fault *fault = &f->faults[i];
		unsigned nth;
		if (!fault_matches(fault, kind, path))
			continue;
		nth = atomic_fetch_add(&f->seen[i], 1) + 1;
		if (nth == fault->nth || (fault->sticky && nth > fault->nth)) {
			atomic_fetch_add(&f->fired[i], 1);
			*ret = (struct strike){.code = err_from_errno(fault->eno),
					       .short_bytes = fault->short_bytes};
			return true;
		}
	}
	return false;
}

static unsigned actions_of(enum io_kind kind)
{
	unsigned mask = 1u << FAULT_DO_ERROR;

	if (kind == IO_PWRITE)
		mask |= 1u << FAULT_DO_SHORT | 1u << FAULT_DO_FLIP;
	if (kind == IO_PREAD)
		mask |= 1u << FAULT_DO_FLIP;
	if (kind == IO_FDATASYNC || kind == IO_SYNC_DIR)
		mask |= 1u << FAULT_DO_LOST;
	return mask;
}

static bool take_mapped(enum io_kind kind, const char *path, struct strike *ret)
{
	struct fault x;

	if (!fault_take((enum fault_point)(FAULT_IO_OPEN + kind), path, actions_of(kind), &x))
		return false;
	*ret = (struct strike){0};
	if (x.action == FAULT_DO_ERROR)
		ret->code = err_from_errno((int)x.arg);
	else if (x.action == FAULT_DO_SHORT)
		*ret = (struct strike){.code = ERR_IO, .short_bytes = (size_t)x.arg};
	else if (x.action == FAULT_DO_FLIP)
		*ret = (struct strike){.flip = true, .bit = (uint64_t)x.arg};
	else
		ret->lost = true;
	return true;
}

static bool strikes(struct io_faulty *f, enum io_kind kind, const char *path, struct strike *ret)
{
	return take_listed(f, kind, path, ret) || (f->mapped && take_mapped(kind, path, ret));
}

static bool strikes_fd(struct io_faulty *f, enum io_kind kind, int fd, struct strike *ret)
{
	char link[64], path[4096];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	return strikes(f, kind, path, ret);
}

static void flip_bit(uint8_t *data, size_t n, uint64_t bit)
{
	if (n > 0)
		data[bit / 8 % n] ^= (uint8_t)(1u << bit % 8);
}

/* ---- the table ---- */

static int faulty_open(const struct io *io, const char *path, int flags, mode_t mode)
{
	const struct io *below = faulty(io)->below;
	struct strike x;
	return strikes(faulty(io), IO_OPEN, path, &x) ? x.code
						      : below->open(below, path, flags, mode);
}

static int faulty_close(const struct io *io, int fd)
{
	const struct io *below = faulty(io)->below;
	struct strike x = {0};
	bool struck = strikes_fd(faulty(io), IO_CLOSE, fd, &x);
	int r = below->close(below, fd);
	return struck ? x.code : r;
}

static ssize_t faulty_pread(const struct io *io, int fd, void *data, size_t n, uint64_t offset)
{
	const struct io *below = faulty(io)->below;
	struct strike x = {0};
	ssize_t r;

	if (strikes_fd(faulty(io), IO_PREAD, fd, &x) && !x.flip)
		return x.code;
	r = below->pread(below, fd, data, n, offset);
	if (x.flip && r > 0)
		flip_bit(data, (size_t)r, x.bit);
	return r;
}

static int pwrite_flipped(const struct io *below, int fd, const void *data, size_t n,
			  uint64_t offset, uint64_t bit)
{
	_cleanup_free_ uint8_t *copy = malloc(n);

	if (!copy)
		return ERR_NOMEM;
	memcpy(copy, data, n);
	flip_bit(copy, n, bit);
	return below->pwrite(below, fd, copy, n, offset);
}

static int faulty_pwrite(const struct io *io, int fd, const void *data, size_t n, uint64_t offset)
{
	const struct io *below = faulty(io)->below;
	struct strike x;

	if (!strikes_fd(faulty(io), IO_PWRITE, fd, &x))
		return below->pwrite(below, fd, data, n, offset);
	if (x.flip)
		return pwrite_flipped(below, fd, data, n, offset, x.bit);
	if (x.short_bytes > 0) {
		size_t part = x.short_bytes < n ? x.short_bytes : n;
		int r = below->pwrite(below, fd, data, part, offset);
		if (r < 0)
			return r;
	}
	return x.code;
}

static int faulty_fdatasync(const struct io *io, int fd)
{
	const struct io *below = faulty(io)->below;
	struct strike x;
	return strikes_fd(faulty(io), IO_FDATASYNC, fd, &x) ? x.code : below->fdatasync(below, fd);
}

static int faulty_ftruncate(const struct io *io, int fd, uint64_t size)
{
	const struct io *below = faulty(io)->below;
	struct strike x;
	return strikes_fd(faulty(io), IO_FTRUNCATE, fd, &x) ? x.code
							     : below->ftruncate(below, fd, size);
}

static int faulty_punch(const struct io *io, int fd, uint64_t offset, size_t n)
{
	const struct io *below = faulty(io)->below;
	return below->punch(below, fd, offset, n);
}

static int64_t faulty_size(const struct io *io, int fd)
{
	const struct io *below = faulty(io)->below;
	struct strike x;
	return strikes_fd(faulty(io), IO_SIZE, fd, &x) ? x.code : below->size(below, fd);
}

static int faulty_rename(const struct io *io, const char *from, const char *to)
{
	const struct io *below = faulty(io)->below;
	struct strike x;
	return strikes(faulty(io), IO_RENAME, from, &x) ? x.code : below->rename(below, from, to);
}

static int faulty_unlink(const struct io *io, const char *path)
{
	const struct io *below = faulty(io)->below;
	struct strike x;
	return strikes(faulty(io), IO_UNLINK, path, &x) ? x.code : below->unlink(below, path);
}

static int faulty_mkdir(const struct io *io, const char *path, mode_t mode)
{
	const struct io *below = faulty(io)->below;
	struct strike x;
	return strikes(faulty(io), IO_MKDIR, path, &x) ? x.code : below->mkdir(below, path, mode);
}

static int faulty_sync_dir(const struct io *io, const char *path)
{
	const struct io *below = faulty(io)->below;
	struct strike x;
	return strikes(faulty(io), IO_SYNC_DIR, path, &x) ? x.code : below->sync_dir(below, path);
}

static int faulty_life(const struct io *io, const char *path, uint8_t ret[IO_LIFE_BYTES])
{
	const struct io *below = faulty(io)->below;
	int r = below->life(below, path, ret);

	if (r == 0)
		put_le64(ret + 16, get_le64(ret + 16) ^ faulty(io)->life);
	return r;
}

static int faulty_space(const struct io *io, const char *path, struct io_space *ret)
{
	const struct io *below = faulty(io)->below;
	struct strike x;
	return strikes(faulty(io), IO_SPACE, path, &x) ? x.code : below->space(below, path, ret);
}

static int faulty_list(const struct io *io, const char *path, io_list_fn fn, void *arg)
{
	const struct io *below = faulty(io)->below;
	struct strike x;
	return strikes(faulty(io), IO_LIST, path, &x) ? x.code : below->list(below, path, fn, arg);
}

void io_faulty_init(struct io_faulty *f, const struct io *below)
{
	*f = (struct io_faulty){
		.io = {
			.open = faulty_open, .close = faulty_close, .pread = faulty_pread,
			.pwrite = faulty_pwrite, .fdatasync = faulty_fdatasync,
			.ftruncate = faulty_ftruncate, .punch = faulty_punch,
			.size = faulty_size,
			.rename = faulty_rename, .unlink = faulty_unlink, .mkdir = faulty_mkdir,
			.sync_dir = faulty_sync_dir, .space = faulty_space, .list = faulty_list,
			.life = faulty_life,
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

const struct io *io_system(void)
{
	static struct io_faulty mapped;

	if (!fault_map)
		return &io_real;
	io_faulty_init(&mapped, &io_real);
	mapped.mapped = true;
	return &mapped.io;
}
