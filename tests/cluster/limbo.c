/* limbo READER WRITER: two mounts of one directory that READER's kernel has not looked at yet. A process lists it
 * through READER into memory of which a page is missing, so that the kernel has the daemon's answer (names
 * and attributes: READDIRPLUS) in hand but has not taken it when another one changes, through WRITER, what it
 * tells about. When the change has returned and the page is there, READER must show what was changed. Ends with
 * 0 if it does, 1 if it shows what was before, 2 if this could not be tried. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 20, BUFFER = 64 << 10, FAULT_MS = 10000, HELD_MS = 1500, LOOK_MS = 10 };

static const char *reader, *writer;
static void *buffer;
static atomic_bool changed;

static void path_of(const char *dir, const char *kind, int i, char *ret)
{
	snprintf(ret, 4096, "%s/%s%d", dir, kind, i);
}

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return 2;
}

/* Memory in which the kernel waits for us at the first touch. The userfaultfd, or -1. */
static int buffer_missing(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register area = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	buffer = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fd < 0 || buffer == MAP_FAILED || ioctl(fd, UFFDIO_API, &api) < 0)
		return -1;
	area.range.start = (uintptr_t)buffer;
	area.range.len = BUFFER;
	return ioctl(fd, UFFDIO_REGISTER, &area) < 0 ? -1 : fd;
}

static void *list(void *arg)
{
	int fd = *(int *)arg;
	static long n;

	n = syscall(SYS_getdents64, fd, buffer, BUFFER);
	return &n;
}

/* The mode of one, the name of another. */
static void *change(void *arg)
{
	char from[4096], to[4096];
	static bool ok;

	path_of(writer, "f", 3, from);
	ok = chmod(from, 0600) == 0;
	path_of(writer, "f", 4, from);
	path_of(writer, "g", 4, to);
	ok = rename(from, to) == 0 && ok;
	atomic_store(&changed, true);
	return &ok;
}

/* What the reader must see now. By its open directory: on the way through a path the kernel may drop the
 * directory with all that it has of it. */
static bool is_new(int dir)
{
	struct stat st;
	bool ok = true;

	if (fstatat(dir, "f3", &st, 0) < 0 || (st.st_mode & 07777) != 0600) {
		printf("the old mode %o\n", st.st_mode & 07777);
		ok = false;
	}
	if (fstatat(dir, "f4", &st, 0) == 0 || errno != ENOENT) {
		printf("the old name\n");
		ok = false;
	}
	return ok;
}

static int run(int uffd, int dir)
{
	struct uffdio_zeropage fill = {.range = {(uintptr_t)buffer, BUFFER}};
	struct pollfd p = {.fd = uffd, .events = POLLIN};
	const struct timespec look = {.tv_nsec = LOOK_MS * 1000000L};
	pthread_t lister, changer;
	void *listed, *done;

	if (pthread_create(&lister, NULL, list, &dir) != 0)
		return fail("thread");
	if (poll(&p, 1, FAULT_MS) != 1)
		return fail("the kernel did not come to the missing page");
	if (pthread_create(&changer, NULL, change, NULL) != 0)
		return fail("thread");
	/* Right is that the change waits for us. */
	for (int ms = 0; ms < HELD_MS && !atomic_load(&changed); ms += LOOK_MS)
		nanosleep(&look, NULL);
	printf("the change %s for the reader\n", atomic_load(&changed) ? "did not wait" : "waited");
	if (ioctl(uffd, UFFDIO_ZEROPAGE, &fill) < 0)
		return fail("fill the page");
	pthread_join(lister, &listed);
	pthread_join(changer, &done);
	if (*(long *)listed <= 0 || !*(bool *)done)
		return fail("list and change");
	return is_new(dir) ? 0 : 1;
}

int main(int argc, char **argv)
{
	char path[4096];
	int uffd, dir;

	if (argc != 3)
		return 2;
	reader = argv[1];
	writer = argv[2];
	for (int i = 0; i < FILES; i++) {
		path_of(writer, "f", i, path);
		/* Not a file: who makes one may write it, and others know it under no lease at first. */
		if (mknod(path, S_IFIFO | 0644, 0) < 0)
			return fail(path);
	}
	uffd = buffer_missing();
	if (uffd < 0)
		return fail("userfaultfd");
	dir = open(reader, O_RDONLY | O_DIRECTORY);
	return dir < 0 ? fail(reader) : run(uffd, dir);
}
