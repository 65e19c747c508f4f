/* Works in a directory and writes down, in a file elsewhere, what was acknowledged; later checks.
 *
 *     power_ops DIRECTORY TOLD           works until killed
 *     power_ops --check DIRECTORY TOLD   every line of TOLD must hold
 *
 * Lines: "made NAME" after mkdir returned, "synced NAME BYTES SEED" after write and fsync returned,
 * "renamed NAME NEW". The content of a file follows from its seed. Plain system calls: what is
 * tested is the mount. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BYTES_MAX = 300000 };

static uint8_t content[BYTES_MAX], found[BYTES_MAX];

static void fill(unsigned seed, size_t n)
{
	uint32_t x = seed * 2654435761u + 1;
	for (size_t i = 0; i < n; i++) {
		x = x * 1664525u + 1013904223u;
		content[i] = (uint8_t)(x >> 24);
	}
}

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static _Noreturn void work(int dir, FILE *told)
{
	for (unsigned i = 0;; i++) {
		char name[32], other[32];
		size_t n = (i * 7919u) % BYTES_MAX + 1;
		int fd;

		snprintf(name, sizeof(name), "d%u", i);
		if (mkdirat(dir, name, 0755) < 0)
			die("mkdir");
		fprintf(told, "made %s\n", name);
		fflush(told);
		snprintf(name, sizeof(name), "f%u", i);
		fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
		fill(i, n);
		if (fd < 0 || write(fd, content, n) != (ssize_t)n || fsync(fd) < 0)
			die("write");
		fprintf(told, "synced %s %zu %u\n", name, n, i);
		fflush(told);
		/* Beyond what was promised: more bytes that are not synced. */
		if (write(fd, content, n / 2) < 0)
			die("append");
		close(fd);
		if (i % 3 == 0) {
			snprintf(other, sizeof(other), "g%u", i);
			if (renameat(dir, name, dir, other) < 0)
				die("rename");
			fprintf(told, "renamed %s %s\n", name, other);
			fflush(told);
		}
	}
}

static int check_file(int dir, const char *name, size_t n, unsigned seed)
{
	int fd = openat(dir, name, O_RDONLY);
	ssize_t got = fd < 0 ? -1 : read(fd, found, n);

	if (fd >= 0)
		close(fd);
	fill(seed, n);
	if (n <= sizeof(found) && got == (ssize_t)n && memcmp(found, content, n) == 0)
		return 0;
	fprintf(stderr, "%s: fsynced %zu bytes, found %zd%s\n", name, n, got,
		got < 0 ? strerror(errno) : "");
	return 1;
}

static int check(int dir, FILE *told)
{
	char line[256], a[64], b[64];
	char pending[64] = "";
	size_t n = 0, checked = 0;
	unsigned seed = 0;
	int bad = 0;
	struct stat st;

	while (fgets(line, sizeof(line), told)) {
		if (!strchr(line, '\n'))
			break;
		if (sscanf(line, "renamed %63s %63s", a, b) == 2) {
			bad += check_file(dir, b, n, seed);
			bad += fstatat(dir, a, &st, 0) == 0;
			pending[0] = '\0';
		} else if (pending[0]) {
			/* The rename after it may have happened without being told. */
			char other[64];
			snprintf(other, sizeof(other), "g%s", pending + 1);
			if (faccessat(dir, pending, F_OK, 0) < 0)
				snprintf(pending, sizeof(pending), "%s", other);
			bad += check_file(dir, pending, n, seed);
			pending[0] = '\0';
		}
		if (sscanf(line, "made %63s", a) == 1 && fstatat(dir, a, &st, 0) < 0) {
			fprintf(stderr, "%s was made and is not there\n", a);
			bad++;
		}
		if (sscanf(line, "synced %63s %zu %u", a, &n, &seed) == 3)
			snprintf(pending, sizeof(pending), "%s", a);
		checked++;
	}
	printf("checked %zu lines, %d bad\n", checked, bad);
	return checked > 0 && bad == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	int checking = argc == 4 && strcmp(argv[1], "--check") == 0;
	int dir;
	FILE *told;

	if (argc != 3 && !checking)
		return 2;
	dir = open(argv[argc - 2], O_RDONLY | O_DIRECTORY);
	told = fopen(argv[argc - 1], checking ? "re" : "we");
	if (dir < 0 || !told)
		die(argv[argc - 2]);
	if (checking)
		return check(dir, told);
	work(dir, told);
}
