/* Appending, for test_append.sh.
 *
 *     append_ops mount FILE ID COUNT    COUNT records through a mount, one write(2) each, O_APPEND
 *     append_ops record /PATH ID COUNT  the same by cairn_record_append; checks that each record is
 *                                       where it was said to be
 *     append_ops check FILE DONE MAYBE  FILE is records and nothing else, each once, in order of
 *                                       their writers; of those in DONE ("ID:COUNT,...") all, of
 *                                       those in MAYBE ("ID,...") any first ones
 *
 * A record: '[', ID and number and length in hex, ':', letters up to the length, ']'. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cairn.h"

enum { HEAD = 1 + 4 + 8 + 8 + 1, LENGTH_MAX = 20000, WRITERS_MAX = 64 };

static size_t make(char *p, unsigned id, unsigned n)
{
	/* Mostly small, some over several blocks. */
	unsigned mix = (id * 7919 + n) * 2654435761u >> 8;
	size_t length = HEAD + 1 + (mix % 16 ? mix % 200 : mix % (LENGTH_MAX - HEAD - 1));

	snprintf(p, HEAD + 1, "[%04x%08x%08zx:", id, n, length);
	memset(p + HEAD, 'a' + (int)(mix % 26), length - HEAD - 1);
	p[length - 1] = ']';
	return length;
}

static int by_mount(const char *file, unsigned id, unsigned count)
{
	static char record[LENGTH_MAX];
	int fd = open(file, O_WRONLY | O_CREAT | O_APPEND, 0666);

	for (unsigned n = 0; fd >= 0 && n < count; n++) {
		size_t length = make(record, id, n);
		ssize_t r = write(fd, record, length);
		if (r != (ssize_t)length) {
			fprintf(stderr, "write: %zd %s\n", r, strerror(errno));
			return 1;
		}
	}
	return fd < 0;
}

static int by_record(const char *path, unsigned id, unsigned count)
{
	static char record[LENGTH_MAX], back[LENGTH_MAX];
	struct cairn_options options = {.masters = getenv("CAIRN_MASTER"),
					.credentials = getenv("CAIRN_CREDENTIALS"),
					.readahead_bytes = -1};
	struct cairn_file *file;
	struct cairn *fs;
	char reason[512];
	int r = cairn_connect(&options, &fs, reason, sizeof(reason));

	if (r < 0) {
		fprintf(stderr, "%s\n", reason);
		return 1;
	}
	r = cairn_open(fs, path, O_RDWR | O_CREAT, 0666, &file);
	for (unsigned n = 0; r == 0 && n < count; n++) {
		size_t length = make(record, id, n);
		uint64_t offset;
		r = cairn_record_append(file, record, length, &offset);
		if (r == 0 && (cairn_pread(file, back, length, offset) != (ssize_t)length ||
			       memcmp(record, back, length) != 0))
			r = -EILSEQ;
	}
	if (r < 0)
		fprintf(stderr, "append: %s (%s)\n", strerror(-r), cairn_error());
	cairn_disconnect(fs);
	return r < 0;
}

/* ---- checking ---- */

static struct writer {
	unsigned id, count, seen;
	bool maybe;
} writers[WRITERS_MAX];
static unsigned n_writers;

static void writers_add(char *list, bool maybe)
{
	for (char *p = strtok(list, ","); p; p = strtok(NULL, ",")) {
		struct writer *w = &writers[n_writers++];
		w->maybe = maybe;
		sscanf(p, "%u:%u", &w->id, &w->count);
	}
}

static int bad(size_t at, const char *what)
{
	printf("at %zu: %s\n", at, what);
	return 1;
}

static int check_record(const char *p, size_t left, size_t at, size_t *ret_length)
{
	static char expected[LENGTH_MAX];
	struct writer *w = NULL;
	unsigned id, n;
	size_t length;

	if (left < HEAD || sscanf(p, "[%4x%8x%8zx:", &id, &n, &length) != 3)
		return bad(at, "no record");
	for (unsigned i = 0; i < n_writers; i++)
		if (writers[i].id == id)
			w = &writers[i];
	if (!w)
		return bad(at, "a record of nobody");
	if (n != w->seen)
		return bad(at, n < w->seen ? "a record twice" : "a record is missing before this");
	w->seen++;
	*ret_length = make(expected, id, n);
	if (*ret_length > left || memcmp(p, expected, *ret_length) != 0)
		return bad(at, "a broken record");
	return 0;
}

static int check(const char *file, char *done, char *maybe)
{
	struct stat st;
	int fd = open(file, O_RDONLY), r = 0;
	char *all;
	size_t at = 0, length;

	if (fd < 0 || fstat(fd, &st) < 0)
		return bad(0, strerror(errno));
	writers_add(done, false);
	writers_add(maybe, true);
	all = malloc((size_t)st.st_size + 1);
	for (ssize_t n = 1; n > 0 && at < (size_t)st.st_size; at += (size_t)n) {
		n = read(fd, all + at, (size_t)st.st_size - at);
		if (n < 0)
			return bad(at, strerror(errno));
	}
	all[at] = '\0';
	for (size_t size = at, p = 0; r == 0 && p < size; p += length)
		r = check_record(all + p, size - p, p, &length);
	for (unsigned i = 0; r == 0 && i < n_writers; i++)
		if (!writers[i].maybe && writers[i].seen != writers[i].count)
			r = bad(at, "records of one are missing at the end");
	free(all);
	close(fd);
	return r;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "mount") == 0)
		return by_mount(argv[2], (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
	if (argc == 5 && strcmp(argv[1], "record") == 0)
		return by_record(argv[2], (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
	if (argc == 5 && strcmp(argv[1], "check") == 0)
		return check(argv[2], argv[3], argv[4]);
	return 2;
}
