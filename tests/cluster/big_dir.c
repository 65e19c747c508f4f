/* big_dir DIR COUNT WHAT...: what can be done with the COUNT entries of one large directory (fill_dir made them), and
 * how long each takes for one entry. WHAT, in the order given; each checks what it sees:
 *     list     all entries are there, once
 *     stat     so are their attributes
 *     absent   looks for names that are not there, a fiftieth as many
 *     churn    goes back and forth while other entries come and go
 *     unlink   removes and makes again a fiftieth of them
 * Ends with 1 if anything is not as it should be. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CHURN = 20, PART = 50 };

static const char *dir;
static unsigned count;

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000LL + ts.tv_nsec / 1000;
}

static bool fail(const char *what, const char *name)
{
	fprintf(stderr, "%s %s: %s\n", what, name, strerror(errno));
	return false;
}

static void path_of(unsigned i, char *ret)
{
	sprintf(ret, "%s/entry-%08u", dir, i);
}

static bool unlink_some(void)
{
	char path[4096];

	for (unsigned i = 0; i < count; i += PART) {
		path_of(i, path);
		if (unlink(path) < 0)
			return fail("unlink", path);
		if (unlink(path) == 0 || errno != ENOENT)
			return fail("unlinked", path);
	}
	for (unsigned i = 0; i < count; i += PART) {
		path_of(i, path);
		if (mknod(path, S_IFREG | 0644, 0) < 0)
			return fail("make", path);
	}
	return true;
}

/* The number in a name that is ours, or -1. */
static long number_of(const char *name)
{
	char *end;
	long n;

	if (strncmp(name, "entry-", 6) != 0)
		return -1;
	n = strtol(name + 6, &end, 10);
	return *end || n < 0 ? -1 : n;
}

/* Reads the whole directory: each name of ours once. with: done with each entry. */
static bool read_all(bool (*with)(int fd, const char *name))
{
	uint8_t *seen = calloc(count, 1);
	unsigned n = 0, twice = 0, odd = 0;
	DIR *d = opendir(dir);
	struct dirent *e;
	bool ok = true;

	if (!d || !seen)
		return fail("opendir", dir);
	errno = 0;
	while (ok && (e = readdir(d))) {
		long i = number_of(e->d_name);
		if (i < 0 || i >= count) {
			odd += strncmp(e->d_name, "passing-", 8) != 0;
			continue;
		}
		n += !seen[i];
		twice += seen[i]++;
		if (with)
			ok = with(dirfd(d), e->d_name);
		errno = 0;
	}
	if (errno)
		ok = fail("readdir", dir);
	closedir(d);
	free(seen);
	if (n == count && twice == 0 && odd == 2)
		return ok;
	fprintf(stderr, "%u of %u seen, %u again, %u others\n", n, count, twice, odd);
	return false;
}

static bool stat_one(int fd, const char *name)
{
	struct stat st;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail("stat", name);
	return S_ISREG(st.st_mode) || fail("no file", name);
}

static bool absent_all(void)
{
	for (unsigned i = 0; i < count; i += PART) {
		char path[4096];
		struct stat st;
		snprintf(path, sizeof(path), "%s/absent-%08u", dir, i);
		if (stat(path, &st) == 0 || errno != ENOENT)
			return fail("absent", path);
	}
	return true;
}

/* A reader that goes back to where it was while others come and go sees each that stays exactly once. */
static bool churn(void)
{
	uint8_t *seen = calloc(count, 1);
	unsigned n = 0, steps = 0, made = 0, pause = count < CHURN ? 1 : count / CHURN;
	DIR *d = opendir(dir);
	struct dirent *e;
	char path[4096];

	if (!d || !seen)
		return fail("opendir", dir);
	while ((e = readdir(d))) {
		long i = number_of(e->d_name), at;
		if (i >= 0 && i < count && seen[i]++)
			return fail("seen twice", e->d_name);
		n += i >= 0 && i < count;
		if (++steps % pause != 0 || made >= CHURN)
			continue;
		at = telldir(d);
		snprintf(path, sizeof(path), "%s/passing-%u", dir, made);
		if (mknod(path, S_IFREG | 0644, 0) < 0)
			return fail("make", path);
		/* Of those that came only the last one is there. */
		if (made++ > 0) {
			snprintf(path, sizeof(path), "%s/passing-%u", dir, made - 2);
			if (unlink(path) < 0)
				return fail("unlink", path);
		}
		if (steps % (2 * pause) == 0) {
			rewinddir(d);
			if (!readdir(d))
				return fail("rewound", dir);
		}
		seekdir(d, at);
	}
	snprintf(path, sizeof(path), "%s/passing-%u", dir, made - 1);
	if (made > 0 && unlink(path) < 0)
		return fail("unlink", path);
	closedir(d);
	free(seen);
	if (n == count && made > 0)
		return true;
	fprintf(stderr, "%u of %u seen, %u passed by\n", n, count, made);
	return false;
}

static bool run(const char *what)
{
	if (strcmp(what, "list") == 0)
		return read_all(NULL);
	if (strcmp(what, "stat") == 0)
		return read_all(stat_one);
	if (strcmp(what, "absent") == 0)
		return absent_all();
	if (strcmp(what, "churn") == 0)
		return churn();
	if (strcmp(what, "unlink") == 0)
		return unlink_some();
	fprintf(stderr, "what is %s?\n", what);
	return false;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	dir = argv[1];
	count = (unsigned)strtoul(argv[2], NULL, 10);
	for (int i = 3; i < argc; i++) {
		int64_t begun = now_us();
		if (!run(argv[i]))
			return 1;
		printf("%s %.2f us\n", argv[i], (double)(now_us() - begun) / count);
		fflush(stdout);
	}
	return 0;
}
