/* coherence DIR_A DIR_B CASE ROUNDS: DIR_A and DIR_B are the same directory through two mounts. Each round
 * warms the caches of both, changes something through one and looks through the other at once. Ends
 * with 1 and a line that says what was seen where something else was due. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { TEXT_BYTES = 64, PATH_BYTES = 4096 };

static const char *dirs[2]; /* as seen by the one that changes, and by the one that looks */
static int round_nr;

#define DUE(what)                                                                     \
	do {                                                                          \
		if (!(what)) {                                                        \
			printf("round %d, line %d: not %s (%s)\n", round_nr, __LINE__, #what, \
			       strerror(errno));                                      \
			exit(1);                                                      \
		}                                                                     \
	} while (0)

/* `name` as side 0 (changes) or 1 (looks) has it: four at a time. */
static const char *at(int side, const char *name)
{
	static char paths[4][PATH_BYTES];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, PATH_BYTES, "%s/%s", dirs[side], name);
	return path;
}

static struct stat stat_of(int side, const char *name)
{
	struct stat st;

	DUE(lstat(at(side, name), &st) == 0);
	return st;
}

static bool is_there(int side, const char *name)
{
	struct stat st;

	if (lstat(at(side, name), &st) == 0)
		return true;
	DUE(errno == ENOENT);
	return false;
}

static void write_text(int side, const char *name, const char *text, int flags)
{
	int fd = open(at(side, name), O_WRONLY | O_CREAT | flags, 0644);

	DUE(fd >= 0);
	DUE(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	DUE(close(fd) == 0);
}

static void read_fd(int fd, char *ret)
{
	ssize_t n = pread(fd, ret, TEXT_BYTES - 1, 0);

	DUE(n >= 0);
	ret[n] = '\0';
}

static bool reads(int side, const char *name, const char *text)
{
	char got[TEXT_BYTES];
	int fd = open(at(side, name), O_RDONLY);

	DUE(fd >= 0);
	read_fd(fd, got);
	close(fd);
	if (strcmp(got, text) != 0)
		printf("%s reads '%s' where '%s' is due\n", at(side, name), got, text);
	return strcmp(got, text) == 0;
}

static unsigned entries(int side, const char *name)
{
	DIR *d = opendir(at(side, name));
	unsigned n = 0;

	DUE(d != NULL);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static bool same_attributes(const char *name)
{
	struct stat a = stat_of(0, name), b = stat_of(1, name);

	return a.st_ino == b.st_ino && a.st_mode == b.st_mode && a.st_nlink == b.st_nlink &&
	       a.st_uid == b.st_uid && a.st_gid == b.st_gid && a.st_size == b.st_size &&
	       a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec &&
	       a.st_ctim.tv_sec == b.st_ctim.tv_sec && a.st_ctim.tv_nsec == b.st_ctim.tv_nsec;
}

static void text_of_round(char *ret, const char *word)
{
	snprintf(ret, TEXT_BYTES, "%s %06d", word, round_nr);
}

/* ---- cases: one round each ---- */

static void case_names(void)
{
	unsigned before = entries(1, ".");

	DUE(!is_there(1, "n") && !is_there(0, "n"));
	write_text(0, "n", "x", O_EXCL);
	DUE(is_there(1, "n"));
	DUE(entries(1, ".") == before + 1);
	DUE(rename(at(0, "n"), at(0, "m")) == 0);
	DUE(!is_there(1, "n") && is_there(1, "m"));
	DUE(unlink(at(0, "m")) == 0);
	DUE(!is_there(1, "m") && entries(1, ".") == before);
	DUE(same_attributes("."));
}

static void case_directories(void)
{
	struct stat up;

	DUE(mkdir(at(0, "d"), 0755) == 0 && mkdir(at(0, "e"), 0755) == 0);
	DUE(mkdir(at(1, "d/sub"), 0755) == 0);
	DUE(stat(at(1, "d/sub/.."), &up) == 0 && up.st_ino == stat_of(1, "d").st_ino);
	DUE(entries(1, "d") == 1 && entries(1, "e") == 0);
	DUE(rename(at(0, "d/sub"), at(0, "e/sub")) == 0);
	DUE(stat(at(1, "e/sub/.."), &up) == 0 && up.st_ino == stat_of(1, "e").st_ino);
	DUE(entries(1, "d") == 0 && entries(1, "e") == 1);
	DUE(same_attributes("d") && same_attributes("e"));
	DUE(rmdir(at(1, "e")) == -1 && errno == ENOTEMPTY);
	DUE(rmdir(at(0, "e/sub")) == 0 && rmdir(at(1, "e")) == 0 && rmdir(at(1, "d")) == 0);
	DUE(!is_there(0, "d") && !is_there(0, "e"));
}

static void case_data(void)
{
	char text[TEXT_BYTES], got[TEXT_BYTES];
	int fd;

	text_of_round(text, "first");
	write_text(0, "f", text, O_TRUNC);
	DUE(reads(1, "f", text) && same_attributes("f"));
	fd = open(at(1, "f"), O_RDONLY);
	DUE(fd >= 0);
	read_fd(fd, got);
	text_of_round(text, "other"); /* as many bytes */
	write_text(0, "f", text, 0);
	read_fd(fd, got);
	DUE(strcmp(got, text) == 0);
	DUE(reads(1, "f", text) && same_attributes("f"));
	DUE(truncate(at(0, "f"), 3) == 0);
	read_fd(fd, got);
	DUE(strcmp(got, "oth") == 0 && same_attributes("f"));
	write_text(0, "f", "er", O_APPEND);
	DUE(reads(1, "f", "other") && same_attributes("f"));
	close(fd);
}

/* Data changes, then the time of change and the size are what they were. */
static void case_time_set_back(void)
{
	char text[TEXT_BYTES];
	struct timespec times[2];
	struct stat st;

	text_of_round(text, "aaaa");
	write_text(0, "t", text, O_TRUNC);
	DUE(reads(1, "t", text));
	st = stat_of(1, "t");
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	text_of_round(text, "bbbb");
	write_text(0, "t", text, 0);
	DUE(utimensat(AT_FDCWD, at(0, "t"), times, 0) == 0);
	DUE(stat_of(1, "t").st_mtim.tv_nsec == times[1].tv_nsec);
	DUE(reads(1, "t", text));
}

static void case_attributes(void)
{
	struct timespec times[2] = {{.tv_sec = round_nr + 1}, {.tv_sec = round_nr + 2}};
	char value[TEXT_BYTES], got[TEXT_BYTES] = "";

	write_text(0, "a", "x", O_TRUNC);
	stat_of(1, "a");
	DUE(chmod(at(0, "a"), round_nr % 2 ? 0600 : 0640) == 0 && same_attributes("a"));
	DUE(utimensat(AT_FDCWD, at(0, "a"), times, 0) == 0 && same_attributes("a"));
	DUE(stat_of(1, "a").st_mtim.tv_sec == round_nr + 2);
	DUE(link(at(0, "a"), at(0, "b")) == 0 && stat_of(1, "a").st_nlink == 2);
	DUE(unlink(at(0, "b")) == 0 && stat_of(1, "a").st_nlink == 1);
	text_of_round(value, "v");
	DUE(getxattr(at(1, "a"), "user.x", got, sizeof(got)) == -1 && errno == ENODATA);
	DUE(setxattr(at(0, "a"), "user.x", value, strlen(value) + 1, 0) == 0);
	DUE(getxattr(at(1, "a"), "user.x", got, sizeof(got)) > 0 && strcmp(got, value) == 0);
	DUE(removexattr(at(0, "a"), "user.x") == 0);
	DUE(listxattr(at(1, "a"), NULL, 0) == 0);
	DUE(unlink(at(0, "a")) == 0);
}

static void case_links(void)
{
	char target[TEXT_BYTES], got[TEXT_BYTES] = "";

	text_of_round(target, "to");
	DUE(symlink(target, at(0, "l")) == 0);
	DUE(readlink(at(1, "l"), got, sizeof(got) - 1) > 0 && strcmp(got, target) == 0);
	DUE(unlink(at(0, "l")) == 0);
	DUE(symlink("elsewhere", at(0, "l")) == 0);
	memset(got, 0, sizeof(got));
	DUE(readlink(at(1, "l"), got, sizeof(got) - 1) > 0 && strcmp(got, "elsewhere") == 0);
	DUE(unlink(at(0, "l")) == 0);
}

static void case_replaced(void)
{
	char text[TEXT_BYTES];
	struct stat was;

	write_text(0, "r", "old", O_TRUNC);
	DUE(reads(1, "r", "old"));
	was = stat_of(1, "r");
	text_of_round(text, "new");
	write_text(0, "r.new", text, O_TRUNC);
	DUE(rename(at(0, "r.new"), at(0, "r")) == 0);
	DUE(reads(1, "r", text) && stat_of(1, "r").st_ino != was.st_ino);
	DUE(same_attributes("r") && !is_there(1, "r.new"));
}

/* Open through one, unlinked (or replaced) through the other. */
static void case_open_unlinked(void)
{
	char got[TEXT_BYTES];
	struct stat st;
	int fd, writer;

	write_text(0, "u", "alive", O_TRUNC);
	DUE(reads(0, "u", "alive"));
	fd = open(at(1, "u"), O_RDWR);
	writer = round_nr % 2 ? open(at(1, "u"), O_WRONLY) : -1;
	DUE(fd >= 0);
	if (round_nr % 3) {
		DUE(unlink(at(0, "u")) == 0);
		DUE(!is_there(1, "u"));
	} else {
		write_text(0, "u2", "another", O_TRUNC);
		DUE(rename(at(0, "u2"), at(0, "u")) == 0);
		DUE(reads(1, "u", "another"));
	}
	read_fd(fd, got);
	DUE(strcmp(got, "alive") == 0);
	DUE(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 5);
	DUE(pwrite(fd, "A", 1, 0) == 1);
	read_fd(fd, got);
	DUE(strcmp(got, "Alive") == 0);
	DUE(close(fd) == 0 && (writer < 0 || close(writer) == 0));
	unlink(at(0, "u"));
}

/* Of two that create the same name exclusively one succeeds; both then see the same file. */
static void case_exclusive(void)
{
	int a, b;

	DUE(!is_there(0, "x") && !is_there(1, "x"));
	a = open(at(round_nr % 2, "x"), O_WRONLY | O_CREAT | O_EXCL, 0644);
	b = open(at(1 - round_nr % 2, "x"), O_WRONLY | O_CREAT | O_EXCL, 0644);
	DUE(a >= 0);
	DUE(b < 0 && errno == EEXIST);
	close(a);
	DUE(same_attributes("x"));
	DUE(unlink(at(0, "x")) == 0 && !is_there(1, "x"));
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* What is mapped is current after the file was looked at, by stat(2) here (fuse/inval.h, 5). */
static void case_mapped(void)
{
	struct stat st;
	char text[TEXT_BYTES];
	const char *p;
	int fd;

	text_of_round(text, "before");
	write_text(0, "map", text, O_TRUNC);
	fd = open(at(1, "map"), O_RDONLY);
	DUE(fd >= 0);
	p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	DUE(p != MAP_FAILED);
	DUE(memcmp(p, text, strlen(text)) == 0);
	text_of_round(text, "after!");
	write_text(0, "map", text, 0);
	DUE(fstat(fd, &st) == 0);
	DUE(memcmp(p, text, strlen(text)) == 0);
	munmap((void *)(uintptr_t)p, 4096);
	close(fd);
}

/* One side replaces a name all the time, the other one opens and reads it: never an error, and never
 * an older file than before. */
static void case_replaced_all_the_time(void)
{
	unsigned last = 0;
	int status;
	pid_t pid;

	write_text(0, "busy", "0", O_TRUNC);
	pid = fork();
	if (pid == 0) {
		for (unsigned i = 1; i <= 300; i++) {
			char text[TEXT_BYTES];
			snprintf(text, sizeof(text), "%u", i);
			write_text(0, "busy.new", text, O_TRUNC);
			DUE(rename(at(0, "busy.new"), at(0, "busy")) == 0);
		}
		exit(0);
	}
	while (waitpid(pid, &status, WNOHANG) == 0) {
		char got[TEXT_BYTES];
		unsigned seen;
		int fd = open(at(1, "busy"), O_RDONLY);
		DUE(fd >= 0);
		read_fd(fd, got);
		close(fd);
		seen = (unsigned)strtoul(got, NULL, 10);
		DUE(seen >= last);
		last = seen;
	}
	DUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	DUE(reads(1, "busy", "300"));
}

static atomic_ullong *longest_ms; /* of the processes together */

static void timed(int64_t start)
{
	unsigned long long took = (unsigned long long)(now_ms() - start);
	unsigned long long longest = atomic_load(longest_ms);

	while (took > longest && !atomic_compare_exchange_weak(longest_ms, &longest, took))
		;
}

static void busy_directory(int me)
{
	for (int i = 0; i < 100; i++) {
		int64_t start = now_ms();
		char name[TEXT_BYTES];
		snprintf(name, sizeof(name), "p%d", me % 2 ? me : i % 4);
		int fd = open(at(me / 2, name), O_WRONLY | O_CREAT, 0644);
		timed(start);
		DUE(fd >= 0 || errno == ENOENT);
		if (fd >= 0)
			close(fd);
		start = now_ms();
		DUE(unlink(at(me / 2, name)) == 0 || errno == ENOENT);
		timed(start);
		start = now_ms();
		entries(me / 2, ".");
		timed(start);
	}
}

/* Four processes create, unlink and list in one directory through both mounts. Each round tells its
 * longest call: test_coherence.sh decides. */
static void case_busy_directory(void)
{
	pid_t pids[4];
	bool all = true;

	longest_ms = mmap(NULL, sizeof(*longest_ms), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	DUE(longest_ms != MAP_FAILED);
	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			busy_directory(i);
			exit(0);
		}
	}
	for (int i = 0; i < 4; i++) {
		int status;
		all = waitpid(pids[i], &status, 0) == pids[i] && status == 0 && all;
	}
	DUE(all);
	printf("longest %llu ms\n", atomic_load(longest_ms));
	munmap(longest_ms, sizeof(*longest_ms));
	for (int i = 0; i < 4; i++) {
		char name[TEXT_BYTES];
		snprintf(name, sizeof(name), "p%d", i);
		DUE(is_there(0, name) == is_there(1, name));
		unlink(at(0, name));
	}
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{"names", case_names},
	{"directories", case_directories},
	{"data", case_data},
	{"time-set-back", case_time_set_back},
	{"attributes", case_attributes},
	{"links", case_links},
	{"replaced", case_replaced},
	{"open-unlinked", case_open_unlinked},
	{"exclusive", case_exclusive},
	{"mapped", case_mapped},
	{"replaced-all-the-time", case_replaced_all_the_time},
	{"busy-directory", case_busy_directory},
};

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; argc == 5 && i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (strcmp(cases[i].name, argv[3]) != 0)
			continue;
		for (round_nr = 0; round_nr < atoi(argv[4]); round_nr++) {
			dirs[0] = argv[1 + round_nr % 2];
			dirs[1] = argv[2 - round_nr % 2];
			cases[i].run();
		}
		return 0;
	}
	fprintf(stderr, "usage: coherence DIR_A DIR_B CASE ROUNDS\n");
	return 2;
}
