/* lease_rates CACHED PLAIN stat|absent|read|list: how often in a second each can be done in a directory through
 * a mount with leases and through one without, and the ratio. Ends with 1 if an operation fails. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RUN_MS = 400, FILES = 100 };

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000LL + ts.tv_nsec / 1000;
}

static bool do_stat(const char *dir, unsigned i)
{
	char path[4096];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%u", dir, i % FILES + 1);
	return stat(path, &st) == 0;
}

static bool do_absent(const char *dir, unsigned i)
{
	char path[4096];
	struct stat st;

	snprintf(path, sizeof(path), "%s/none%u", dir, i % FILES);
	return stat(path, &st) < 0 && errno == ENOENT;
}

static bool do_read(const char *dir, unsigned i)
{
	char path[4096], data[64];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "%s/%u", dir, i % FILES + 1);
	fd = open(path, O_RDONLY);
	ok = fd >= 0 && read(fd, data, sizeof(data)) > 0;
	return close(fd) == 0 && ok;
}

static bool do_list(const char *dir, unsigned i)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	return d && closedir(d) == 0 && n == FILES + 2;
}

static const struct {
	const char *name;
	bool (*run)(const char *dir, unsigned i);
} kinds[] = {{"stat", do_stat}, {"absent", do_absent}, {"read", do_read}, {"list", do_list}};

/* Operations in a second; 0: one failed. */
static double rate(bool (*run)(const char *, unsigned), const char *dir)
{
	int64_t start = now_us(), end = start + RUN_MS * 1000;
	unsigned n = 0;

	while (now_us() < end)
		if (!run(dir, n++))
			return 0;
	return n * 1e6 / (double)(now_us() - start);
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 4 && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		double cached, plain;
		if (strcmp(kinds[i].name, argv[3]) != 0)
			continue;
		rate(kinds[i].run, argv[1]); /* warms */
		cached = rate(kinds[i].run, argv[1]);
		plain = rate(kinds[i].run, argv[2]);
		printf("%s: %.0f/s with leases, %.0f/s without: x%.1f\n", argv[3], cached, plain,
		       plain > 0 ? cached / plain : 0);
		return cached > 0 && plain > 0 ? 0 : 1;
	}
	fprintf(stderr, "usage: lease_rates CACHED PLAIN stat|absent|read|list\n");
	return 2;
}
