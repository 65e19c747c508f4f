/* Copies ranges between files of two mounts, at random, and compares with a model in memory.
 *     copy_ops MOUNT OTHER SEED SECONDS      ends earlier at SIGTERM, after the operation in hand
 * Files have data at their beginning and around the border of their first two chunks, and a hole
 * between. Each copy is made through one mount and looked at through the other. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 3, PART = 3 << 20, SECOND_PART = (64 << 20) - PART / 2, BYTES = SECOND_PART + PART };

static uint8_t *model[FILES], back[PART];
static int fds[FILES][2];
static uint64_t rng_state;

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static void fail(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vprintf(format, list);
	va_end(list);
	printf(": %s\n", strerror(errno));
	exit(1);
}

static uint64_t rnd(uint64_t n)
{
	uint64_t z = rng_state += 0x9e3779b97f4a7c15ULL;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return (z ^ z >> 31) % n;
}

static off_t offset(void)
{
	off_t at = (off_t)rnd(PART) & (rnd(2) ? ~4095L : ~0L);
	return rnd(2) ? SECOND_PART + at : at;
}

static size_t length(void)
{
	static const unsigned most[] = {1, 5000, 100000, PART};
	return 1 + rnd(most[rnd(4)]);
}

static void compare_part(int file, int mount, off_t from)
{
	ssize_t n = pread(fds[file][mount], back, PART, from);

	if (n != PART)
		fail("file %d through mount %d: read %zd of %d bytes at %ld", file, mount, n, PART,
		     (long)from);
	for (long i = 0; i < PART; i++)
		if (back[i] != model[file][from + i])
			fail("file %d through mount %d: byte %ld is %02x, should be %02x", file, mount,
			     (long)from + i, back[i], model[file][from + i]);
}

static void compare(int file, int mount)
{
	compare_part(file, mount, 0);
	compare_part(file, mount, SECOND_PART);
}

static void do_write(void)
{
	int file = (int)rnd(FILES), mount = (int)rnd(2);
	off_t at = offset();
	size_t n = length();

	n = n < (size_t)(BYTES - at) ? n : (size_t)(BYTES - at);
	for (size_t i = 0; i < n; i++)
		model[file][at + (off_t)i] = (uint8_t)rnd(256);
	if (pwrite(fds[file][mount], model[file] + at, n, at) != (ssize_t)n)
		fail("write %zu bytes at %ld of file %d", n, (long)at, file);
}

static void do_copy(void)
{
	int in = (int)rnd(FILES), out = (int)rnd(FILES), mount = (int)rnd(2);
	off_t from = offset(), to = offset();
	size_t n = length(), done = 0;
	struct stat st;

	n = n < (size_t)(BYTES - from) ? n : (size_t)(BYTES - from);
	n = n < (size_t)(BYTES - to) ? n : (size_t)(BYTES - to);
	if (in == out && labs(from - to) < (long)n)
		return;
	memcpy(model[out] + to, model[in] + from, n);
	/* The kernel copies no more than the size that it knows, and learns it here, as cp(1) does. */
	if (fstat(fds[in][mount], &st) < 0 || st.st_size != BYTES)
		fail("size of file %d is %ld", in, (long)st.st_size);
	while (done < n) {
		ssize_t r = copy_file_range(fds[in][mount], &from, fds[out][mount], &to, n - done, 0);
		if (r <= 0)
			fail("copy %zu bytes from %ld of %d to %ld of %d: %zd", n - done, (long)from, in,
			     (long)to, out, r);
		done += (size_t)r;
	}
	compare(out, 1 - mount);
}

static void open_files(char *const *mounts)
{
	for (int f = 0; f < FILES; f++) {
		model[f] = calloc(1, BYTES);
		for (int m = 0; m < 2; m++) {
			char path[300];
			snprintf(path, sizeof(path), "%s/copied-%d", mounts[m], f);
			fds[f][m] = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
			if (!model[f] || fds[f][m] < 0)
				fail("open %s", path);
		}
		if (ftruncate(fds[f][0], BYTES) < 0)
			fail("truncate file %d", f);
	}
}

/* It is blocked, so that it interrupts no system call. */
static bool told_to_end(void)
{
	sigset_t pending;

	sigpending(&pending);
	return sigismember(&pending, SIGTERM) == 1;
}

int main(int argc, char **argv)
{
	time_t end;
	unsigned n = 0;
	sigset_t term;

	if (argc != 5)
		return 2;
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	rng_state = strtoull(argv[3], NULL, 0);
	open_files(argv + 1);
	for (end = time(NULL) + atoi(argv[4]); time(NULL) < end && !told_to_end(); n++) {
		if (rnd(3))
			do_copy();
		else
			do_write();
	}
	for (int f = 0; f < FILES; f++)
		for (int m = 0; m < 2; m++)
			compare(f, m);
	printf("%u operations\n", n);
	return 0;
}
