/* A writer or a reader that never stops by itself, and times each of its calls.
 *
 *   stall_io write|sync|read FILE REPORT
 *
 * Works through the first SPAN bytes of FILE again and again in pieces of 1 MiB, whose content
 * depends on nothing but their place; "sync" is a write and an fsync; a reader drops the kernel's
 * pages first and compares. After each call REPORT holds "calls N longest MS ms errors E" (replaced
 * whole, so that it can be read at any time). Ends on SIGTERM; the exit status is 1 if a call failed
 * or bytes were wrong. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 1 << 20, SPAN = 200 << 20 };

static volatile sig_atomic_t stop;

static void on_term(int signal_number)
{
	stop = 1;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void fill(uint8_t *p, off_t at)
{
	uint64_t x = (uint64_t)at * 0x9e3779b97f4a7c15ULL + 1;

	for (size_t i = 0; i < PIECE; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(p + i, &x, 8);
	}
}

static int report(int fd, unsigned long calls, int64_t longest, unsigned long errors)
{
	char text[96];

	/* Of one length, so that a reader never sees half of an older one. */
	snprintf(text, sizeof(text), "calls %9lu longest %9lld ms errors %9lu\n", calls,
		 (long long)longest, errors);
	return pwrite(fd, text, strlen(text), 0) < 0 ? -1 : 0;
}

/* 0, or 1 after a line that says what is wrong. */
static int one_call(int fd, const char *mode, uint8_t *buf, const uint8_t *right, off_t at)
{
	int reading = *mode == 'r';
	ssize_t n = reading ? pread(fd, buf, PIECE, at) : pwrite(fd, right, PIECE, at);

	if (n == PIECE && *mode == 's' && fsync(fd) < 0)
		n = -1;
	if (n != PIECE) {
		fprintf(stderr, "%s at %lld: %s\n", mode, (long long)at,
			n < 0 ? strerror(errno) : "short");
		return 1;
	}
	if (reading && memcmp(buf, right, PIECE) != 0) {
		fprintf(stderr, "read at %lld: wrong bytes\n", (long long)at);
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static uint8_t buf[PIECE], right[PIECE];
	struct sigaction term = {.sa_handler = on_term, .sa_flags = SA_RESTART};
	unsigned long calls = 0, errors = 0;
	int64_t longest = 0;
	int fd, out, reading = argc == 4 && *argv[1] == 'r';

	if (argc != 4)
		return 2;
	sigaction(SIGTERM, &term, NULL);
	fd = open(argv[2], reading ? O_RDONLY : O_RDWR | O_CREAT, 0644);
	out = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || out < 0) {
		perror(fd < 0 ? argv[2] : argv[3]);
		return 2;
	}
	for (off_t at = 0; !stop; at = (at + PIECE) % SPAN) {
		int64_t begin, took;
		fill(right, at);
		if (reading)
			posix_fadvise(fd, at, PIECE, POSIX_FADV_DONTNEED);
		begin = now_ms();
		errors += (unsigned long)one_call(fd, argv[1], buf, right, at);
		took = now_ms() - begin;
		longest = took > longest ? took : longest;
		if (report(out, ++calls, longest, errors) < 0)
			return 2;
	}
	return errors > 0;
}
