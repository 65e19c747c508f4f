/* The checker of the fault suite blames nobody for what may be: a worker in a directory that loses all
 * that is not synced, in the middle of its reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "tests/fault/checker/worker.h"
#include "tests/lib/seed.h"

enum { STEPS = 3000, READS_TO_A_LOSS = 8, NO_LIMIT_MS = 600000 };

struct file {
	int fd;
	int whole_fd; /* for reading and writing anywhere, whatever fd is for */
	ino_t ino;
};

/* What a write that is not synced wrote over. */
struct undo {
	ino_t ino;
	int fd;
	uint64_t offset;
	size_t len;
	uint8_t *old;
	bool lost; /* it was undone, and fsync is to say so */
	struct undo *prev, *next;
};

static struct undo *undos;
static unsigned n_reads, n_undone;
static bool unsafe; /* power goes now and then */

static void undo_free(struct undo *u)
{
	DL_DELETE(undos, u);
	close(u->fd);
	free(u->old);
	free(u);
}

/* What is there now stays. False: something was lost before. */
static bool keep(ino_t ino)
{
	struct undo *u, *next;
	bool lost = false;

	DL_FOREACH_SAFE(undos, u, next) {
		if (u->ino != ino)
			continue;
		lost |= u->lost;
		undo_free(u);
	}
	return !lost;
}

/* Sizes stay. The last write is undone first. */
static void lose_power(void)
{
	struct undo *u = undos;

	atomic_fetch_add(&power_losses, 1);
	for (size_t i = 0; u && (i == 0 || u != undos); i++) {
		u = u->prev;
		if (u->lost)
			continue;
		assert_int_equal(pwrite(u->fd, u->old, u->len, (off_t)u->offset), u->len);
		u->lost = true;
		n_undone++;
	}
}

static int fake_open(struct backend *b, const char *path, int flags, void **ret)
{
	struct file *f = calloc(1, sizeof(*f));
	struct stat st;

	assert_non_null(f);
	f->fd = openat(b->root_fd, path, flags | O_CLOEXEC, 0644);
	f->whole_fd = openat(b->root_fd, path, O_RDWR | O_CLOEXEC);
	assert_true(f->fd >= 0 && f->whole_fd >= 0);
	assert_int_equal(fstat(f->fd, &st), 0);
	f->ino = st.st_ino;
	*ret = f;
	return 0;
}

static ssize_t fake_pread(void *file, void *data, size_t n, uint64_t offset)
{
	struct file *f = file;
	ssize_t r = pread(f->fd, data, n, (off_t)offset);

	if (unsafe && ++n_reads % READS_TO_A_LOSS == 0)
		lose_power();
	return r;
}

static ssize_t fake_pwrite(void *file, const void *data, size_t n, uint64_t offset)
{
	struct undo *u = calloc(1, sizeof(*u));
	struct file *f = file;
	struct stat st;

	assert_non_null(u);
	assert_int_equal(fstat(f->fd, &st), 0);
	if (fcntl(f->fd, F_GETFL) & O_APPEND)
		offset = (uint64_t)st.st_size;
	*u = (struct undo){.ino = f->ino, .fd = dup(f->whole_fd), .offset = offset, .len = n,
			   .old = calloc(1, n)};
	assert_true(u->fd >= 0 && u->old);
	assert_true(pread(u->fd, u->old, n, (off_t)offset) >= 0);
	DL_APPEND(undos, u);
	return pwrite(f->fd, data, n, (off_t)offset);
}

static int fake_fsync(void *file)
{
	return keep(((struct file *)file)->ino) ? 0 : -EIO;
}

static int fake_ftruncate(void *file, uint64_t size)
{
	struct file *f = file;

	struct undo *u;

	/* Metadata: older bytes do not come back. */
	DL_FOREACH(undos, u)
		u->lost |= u->ino == f->ino;
	return ftruncate(f->fd, (off_t)size);
}

static int fake_fstat(void *file, struct stat *ret)
{
	return fstat(((struct file *)file)->fd, ret);
}

static int fake_close(void *file)
{
	struct file *f = file;

	close(f->fd);
	close(f->whole_fd);
	free(f);
	return 0;
}

static void test_what_was_read_before_a_loss_may_be_gone_after_it(void **state)
{
	const char *tmp = getenv("TMPDIR");
	char dir[200], command[220];
	struct backend_ops ops = backend_mount; /* whose names are those of a directory that is open */
	struct backend b = {.ops = &ops};
	struct worker w;

	ops.open = fake_open;
	ops.pread = fake_pread;
	ops.pwrite = fake_pwrite;
	ops.fsync = fake_fsync;
	ops.ftruncate = fake_ftruncate;
	ops.fstat = fake_fstat;
	ops.close = fake_close;
	snprintf(dir, sizeof(dir), "%s/cairn-checker-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	b.root_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(b.root_fd >= 0);
	worker_init(&w, 0, test_seed(), &b, ".", NO_LIMIT_MS);
	unsafe = true;
	for (int i = 0; i < STEPS; i++)
		worker_step(&w); /* false: an fsync told of a loss */
	unsafe = false;
	worker_verify(&w, &b, 0);
	assert_int_equal(atomic_load(&counts.violations), 0);
	assert_true(n_undone > 0);
	worker_rest(&w);
	worker_release(&w);
	while (undos)
		undo_free(undos);
	close(b.root_fd);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_read_before_a_loss_may_be_gone_after_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
