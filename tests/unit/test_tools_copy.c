/* The copier, between two places of this machine: trees, large files, failures half-way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "tools/copy.h"

/* ---- what the copier needs of the CLI ---- */

static char complaints[8192];
static pthread_mutex_t complaints_lock = PTHREAD_MUTEX_INITIALIZER;

void cli_complain(struct cli *cli, const char *path, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	pthread_mutex_lock(&complaints_lock);
	n = strlen(complaints);
	n += (size_t)snprintf(complaints + n, sizeof(complaints) - n, "%s: ", path);
	va_start(ap, fmt);
	vsnprintf(complaints + n, sizeof(complaints) - n, fmt, ap);
	va_end(ap);
	strcat(complaints, "\n");
	pthread_mutex_unlock(&complaints_lock);
	atomic_fetch_add(&cli->failures, 1);
}

int cli_status(struct cli *cli)
{
	return atomic_load(&cli->failures) ? CLI_FAILED : CLI_OK;
}

const char *cli_reason(int r)
{
	return strerror(-r);
}

/* ---- fixture ---- */

static char root[4096];

static char *at(const char *path)
{
	static char full[8][4300];
	static int next;

	next = (next + 1) % 8;
	snprintf(full[next], sizeof(full[next]), "%s/%s", root, path);
	return full[next];
}

static int set_up(void **state)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(root, sizeof(root), "%s/cairn-copy-XXXXXX", tmp ? tmp : "/tmp");
	complaints[0] = '\0';
	return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int tear_down(void **state)
{
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void make_file(const char *path, size_t bytes, mode_t mode, time_t mtime)
{
	const struct timespec times[2] = {{mtime, 7}, {mtime, 123456789}};
	int fd = open(at(path), O_WRONLY | O_CREAT | O_EXCL, 0600);
	char *data = malloc(bytes + 1);

	assert_true(fd >= 0);
	for (size_t i = 0; i < bytes; i++)
		data[i] = (char)(i * 31 + i / 4096);
	assert_int_equal(write(fd, data, bytes), bytes);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
	free(data);
}

static void assert_same_content(const char *a, const char *b)
{
	FILE *fa = fopen(at(a), "r"), *fb = fopen(at(b), "r");
	char ba[65536], bb[65536];
	size_t n;

	assert_non_null(fa);
	assert_non_null(fb);
	do {
		n = fread(ba, 1, sizeof(ba), fa);
		assert_int_equal(fread(bb, 1, sizeof(bb), fb), n);
		assert_memory_equal(ba, bb, n);
	} while (n > 0);
	fclose(fa);
	fclose(fb);
}

static void assert_same_meta(const char *a, const char *b)
{
	struct stat sa, sb;

	assert_int_equal(lstat(at(a), &sa), 0);
	assert_int_equal(lstat(at(b), &sb), 0);
	assert_int_equal(sa.st_mode, sb.st_mode);
	assert_int_equal(sa.st_mtim.tv_sec, sb.st_mtim.tv_sec);
	assert_int_equal(sa.st_mtim.tv_nsec, sb.st_mtim.tv_nsec);
}

static int count_names(const char *dir)
{
	DIR *d = opendir(at(dir));
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static int copy_sides(const struct side *from, const struct side *to, bool recursive,
		      char **sources, int n, const char *dst)
{
	static const struct command command = {.name = "test"};
	struct cli cli = {.command = &command, .quiet = true};
	struct copy_request request = {.cli = &cli, .from = from, .to = to,
				       .recursive = recursive, .workers = 3};

	return copy_run(&request, sources, n, dst);
}

static int copy_one(bool recursive, const char *src, const char *dst)
{
	char *sources[] = {at(src)};
	struct side local;

	side_init_local(&local);
	return copy_sides(&local, &local, recursive, sources, 1, at(dst));
}

/* ---- tests ---- */

static void test_tree(void **state)
{
	struct timespec old[2] = {{1000, 1}, {2000, 2}};
	char target[64];

	mkdir(at("src"), 0755);
	mkdir(at("src/dir"), 0755);
	mkdir(at("src/empty"), 0710);
	make_file("src/a", 5, 0640, 1111);
	make_file("src/dir/b", 0, 0444, 2222);
	make_file("src/dir/c", 9 << 20, 0755, 3333);
	assert_int_equal(symlink("dir/c", at("src/link")), 0);
	assert_int_equal(mkfifo(at("src/fifo"), 0622), 0);
	assert_int_equal(chmod(at("src/fifo"), 0622), 0);
	assert_int_equal(chmod(at("src/dir"), 0555), 0);
	assert_int_equal(utimensat(AT_FDCWD, at("src/dir"), old, 0), 0);
	assert_int_equal(utimensat(AT_FDCWD, at("src"), old, 0), 0);

	assert_int_equal(copy_one(true, "src", "dst"), CLI_OK);
	assert_string_equal(complaints, "");
	static const char *const names[][2] = {
		{"src", "dst"}, {"src/a", "dst/a"}, {"src/dir", "dst/dir"},
		{"src/dir/b", "dst/dir/b"}, {"src/dir/c", "dst/dir/c"}, {"src/link", "dst/link"},
		{"src/fifo", "dst/fifo"}, {"src/empty", "dst/empty"}};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_same_meta(names[i][0], names[i][1]);
	assert_same_content("src/a", "dst/a");
	assert_same_content("src/dir/c", "dst/dir/c");
	assert_int_equal(readlink(at("dst/link"), target, sizeof(target)), 5);
	assert_int_equal(count_names("dst"), 5); /* no temporary file */
	assert_int_equal(count_names("dst/dir"), 2);

	/* Again: into the directory that is there now. */
	assert_int_equal(copy_one(true, "src", "dst"), CLI_OK);
	assert_same_content("src/dir/c", "dst/src/dir/c");
	/* And over what is there. */
	assert_int_equal(copy_one(true, "src/.", "dst"), CLI_OK);
	assert_int_equal(count_names("dst"), 6);
}

/* Three ranges, the last one short: copied by several workers. */
static void test_large_file(void **state)
{
	make_file("big", (128 << 20) + 12345, 0600, 99);
	assert_int_equal(copy_one(false, "big", "copy"), CLI_OK);
	assert_same_content("big", "copy");
	assert_same_meta("big", "copy");
}

static void test_refusals(void **state)
{
	char *two[2];
	struct side local;

	side_init_local(&local);
	mkdir(at("d"), 0755);
	make_file("f", 3, 0644, 5);
	make_file("g", 3, 0644, 5);
	assert_int_equal(copy_one(false, "d", "x"), CLI_FAILED);
	assert_non_null(strstr(complaints, "is a directory (use -r)"));
	assert_int_equal(copy_one(false, "f", "f"), CLI_FAILED);
	assert_non_null(strstr(complaints, "is the same file"));
	assert_int_equal(copy_one(false, "missing", "x"), CLI_FAILED);
	assert_non_null(strstr(complaints, "missing: cannot look at it: No such file"));
	two[0] = at("f");
	two[1] = at("g");
	assert_int_equal(copy_sides(&local, &local, false, two, 2, at("x")), CLI_FAILED);
	assert_non_null(strstr(complaints, "x: is not a directory"));
	assert_int_equal(access(at("x"), F_OK), -1);
	/* What is no file is not replaced by one, not through a link either. */
	assert_int_equal(mkfifo(at("fifo"), 0600), 0);
	assert_int_equal(symlink("fifo", at("to_fifo")), 0);
	assert_int_equal(copy_one(false, "f", "fifo"), CLI_FAILED);
	assert_int_equal(copy_one(false, "f", "to_fifo"), CLI_FAILED);
	assert_non_null(strstr(complaints, "to_fifo is a fifo"));
	struct stat st;
	assert_int_equal(lstat(at("fifo"), &st), 0);
	assert_true(S_ISFIFO(st.st_mode));
	assert_int_equal(lstat(at("to_fifo"), &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	/* A tree into itself ends, and leaves the copy out of the copy. */
	complaints[0] = '\0';
	assert_int_equal(copy_one(true, "d", "d/inner"), CLI_FAILED);
	assert_non_null(strstr(complaints, "is the copy itself"));
	assert_int_equal(access(at("d/inner/inner"), F_OK), -1);
}

/* A target whose disk is full after some bytes, for names that contain "bad". */
static struct side full_disk;
static atomic_int full_writes;

static int full_pwrite(const struct side *s, struct side_file *f, const void *buf, size_t bytes,
		       uint64_t offset)
{
	struct side local;

	side_init_local(&local);
	if (bytes == 777) {
		atomic_fetch_add(&full_writes, 1);
		return -ENOSPC;
	}
	return local.pwrite(&local, f, buf, bytes, offset);
}

static void test_one_failure_does_not_stop_the_others(void **state)
{
	char *sources[] = {at("src")};
	struct side local;

	side_init_local(&local);
	side_init_local(&full_disk);
	full_disk.pwrite = full_pwrite;
	mkdir(at("src"), 0755);
	make_file("src/a", 100, 0644, 1);
	make_file("src/bad", 777, 0644, 1);
	make_file("src/z", 100, 0644, 1);
	make_file("old", 1, 0644, 1);
	assert_int_equal(copy_sides(&local, &full_disk, true, sources, 1, at("dst")), CLI_FAILED);
	assert_int_equal(atomic_load(&full_writes), 1);
	assert_non_null(strstr(complaints, "src/bad: cannot write"));
	assert_non_null(strstr(complaints, "No space left on device"));
	assert_null(strchr(strchr(complaints, '\n') + 1, '\n')); /* one line */
	assert_same_content("src/a", "dst/a");
	assert_same_content("src/z", "dst/z");
	assert_int_equal(count_names("dst"), 2); /* neither bad nor a temporary file */
}

/* A source that ends before the size that it said. */
static ssize_t short_pread(const struct side *s, struct side_file *f, void *buf, size_t bytes,
			   uint64_t offset)
{
	struct side local;
	ssize_t n;

	side_init_local(&local);
	n = local.pread(&local, f, buf, bytes, offset);
	return offset > 0 ? 0 : n > 10 ? 10 : n;
}

static void test_source_that_changes(void **state)
{
	char *sources[] = {at("f")};
	struct side local, shrinking;

	side_init_local(&local);
	side_init_local(&shrinking);
	shrinking.pread = short_pread;
	make_file("f", 20, 0644, 1);
	make_file("dst", 3, 0644, 1);
	assert_int_equal(copy_sides(&shrinking, &local, false, sources, 1, at("dst")), CLI_FAILED);
	assert_non_null(strstr(complaints, "became shorter while it was read"));
	struct stat st;
	assert_int_equal(stat(at("dst"), &st), 0);
	assert_int_equal(st.st_size, 3); /* what was there stays */
	assert_int_equal(count_names("."), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tree, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_large_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_one_failure_does_not_stop_the_others, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_source_that_changes, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
