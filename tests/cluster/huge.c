/* huge MOUNT OTHER: files of the largest sizes that offsets can name, through one mount and seen through
 * another one. Each case says what was expected when it fails; the exit status is the number of failures. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGEST INT64_MAX /* 8 EiB - 1 */
#define MIDDLE ((off_t)1 << 61)

enum { PATH_BYTES = 4000, LIMIT = 100000 };

static char path[PATH_BYTES], other[PATH_BYTES];
static int failures;

static void expect(bool held, const char *what)
{
	if (held)
		return;
	failures++;
	printf("huge: %s: errno says %s\n", what, strerror(errno));
}

/* The call failed with this error. */
static void refused(long long r, int error, const char *what)
{
	expect(r < 0 && errno == error, what);
}

static off_t size_of(const char *name)
{
	struct stat st;
	return stat(name, &st) == 0 ? st.st_size : -1;
}

static void data_at(int fd, off_t offset, const char *what)
{
	char byte = 0;
	expect(pwrite(fd, "x", 1, offset) == 1 && pread(fd, &byte, 1, offset) == 1 && byte == 'x', what);
}

static void sizes(int fd)
{
	char byte = 'z';

	expect(ftruncate(fd, LARGEST) == 0 && size_of(other) == LARGEST, "the largest size, on both mounts");
	expect(ftruncate(fd, 0) == 0 && size_of(other) == 0, "cut to nothing");
	data_at(fd, LARGEST - 1, "the last byte that a file can have");
	expect(size_of(path) == LARGEST && size_of(other) == LARGEST, "makes the largest size");
	/* Linux lets no call name an offset behind it. */
	refused(pwrite(fd, "x", 1, LARGEST), EINVAL, "a write behind it");
	refused(pwrite(fd, "x", 1, -1), EINVAL, "a negative offset");
	refused(fallocate(fd, 0, LARGEST - 1, 10), EFBIG, "fallocate beyond it");
	expect(ftruncate(fd, MIDDLE) == 0 && ftruncate(fd, LARGEST) == 0 &&
	       pread(fd, &byte, 1, LARGEST - 1) == 1 && byte == 0, "cut and grown again: zeros");
}

static void holes(int fd)
{
	int seen = open(other, O_RDONLY);

	expect(ftruncate(fd, 0) == 0 && ftruncate(fd, LARGEST) == 0, "a hole of the largest size");
	refused(lseek(seen, 0, SEEK_DATA), ENXIO, "no data in it");
	expect(lseek(seen, 0, SEEK_HOLE) == 0, "a hole from the start");
	expect(lseek(seen, MIDDLE, SEEK_HOLE) == MIDDLE, "and in the middle");
	data_at(fd, MIDDLE, "data in the middle");
	expect(lseek(seen, 0, SEEK_DATA) == MIDDLE, "is found from the start");
	expect(lseek(seen, MIDDLE, SEEK_HOLE) == MIDDLE + 4096, "ends");
	refused(lseek(seen, MIDDLE + 4096, SEEK_DATA), ENXIO, "nothing behind it");
	data_at(fd, LARGEST - 1, "data at the end");
	expect(lseek(seen, MIDDLE + 4096, SEEK_DATA) == LARGEST / 4096 * 4096, "is found from the middle");
	expect(lseek(seen, LARGEST - 1, SEEK_HOLE) == LARGEST, "the end is a hole");
	refused(lseek(seen, LARGEST, SEEK_DATA), ENXIO, "nothing at the end");
	expect(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, LARGEST) == 0, "all is punched");
	refused(lseek(seen, 0, SEEK_DATA), ENXIO, "no data is left");
	expect(size_of(other) == LARGEST, "the size stays");
	expect(fsync(fd) == 0, "synced");
	close(seen);
}

static volatile sig_atomic_t signalled;

static void on_signal(int sig)
{
	(void)sig;
	signalled++;
}

/* RLIMIT_FSIZE: up to the limit, then EFBIG and SIGXFSZ. */
static void limited(int fd)
{
	struct rlimit none, limit;
	char data[10];

	memset(data, 'd', sizeof(data));
	signal(SIGXFSZ, on_signal);
	getrlimit(RLIMIT_FSIZE, &none);
	limit = none;
	limit.rlim_cur = LIMIT;
	expect(ftruncate(fd, 0) == 0 && setrlimit(RLIMIT_FSIZE, &limit) == 0, "a limit");
	expect(pwrite(fd, data, 10, LIMIT - 4) == 4 && signalled == 0, "written up to the limit");
	refused(pwrite(fd, data, 10, LIMIT), EFBIG, "not behind it");
	expect(signalled == 1, "with a signal");
	refused(ftruncate(fd, LIMIT + 1), EFBIG, "nor grown");
	expect(signalled == 2, "with a signal");
	refused(fallocate(fd, 0, 0, LIMIT + 1), EFBIG, "nor set aside");
	expect(size_of(other) == LIMIT, "the size is the limit");
	setrlimit(RLIMIT_FSIZE, &none);
	signal(SIGXFSZ, SIG_DFL);
}

int main(int argc, char **argv)
{
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: huge MOUNT OTHER\n");
		return 2;
	}
	snprintf(path, sizeof(path), "%s/huge", argv[1]);
	snprintf(other, sizeof(other), "%s/huge", argv[2]);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (fd < 0) {
		perror(path);
		return 1;
	}
	sizes(fd);
	holes(fd);
	limited(fd);
	close(fd);
	unlink(path);
	return failures > 100 ? 100 : failures;
}
