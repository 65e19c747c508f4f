/* Programs of cases on a file system: PROGRAM DIRECTORY [THE SAME DIRECTORY THROUGH ANOTHER MOUNT]
 * [CASE...]. Each case runs in a fresh directory and prints `ok NAME` or `not ok NAME`, before that
 * a line for everything that did not hold. It must hold on any local file system of Linux too. */
#ifndef CAIRN_TESTS_CASES_H
#define CAIRN_TESTS_CASES_H

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>


static int here, there; /* the case's directory, through each mount */
static int case_failures;

struct fs_case {
	const char *name;
	void (*run)(void);
	bool root; /* only root can do it */
};

static inline bool case_check(bool ok, int line, const char *what, const char *text)
{
	if (!ok) {
		printf("#   line %d: %s%s\n", line, what, text);
		case_failures++;
	}
	return ok;
}

/* Goes on after a failure, so that a case tells all that is wrong. */
#define CHECK(condition) case_check((condition), __LINE__, #condition, "")
/* The call succeeds; it fails with this errno. */
#define WORKS(call) case_check((call) >= 0, __LINE__, #call ": ", strerror(errno))
#define FAILS(call, eno)                                                              \
	do {                                                                          \
		bool failed_ = (call) < 0;                                            \
		int errno_ = errno;                                                   \
		case_check(failed_ && errno_ == (eno), __LINE__, #call " not " #eno ": ", \
			   failed_ ? strerror(errno_) : "no error");                  \
	} while (0)

/* A file of three bytes: 0 or -1. */
static inline int touch(int dir, const char *name, mode_t mode)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	int r = fd < 0 ? -1 : write(fd, "abc", 3) == 3 ? 0 : -1;

	if (fd >= 0 && close(fd) < 0)
		r = -1;
	return r;
}

/* Of the name itself, links not followed; all zero when it is not there. */
static inline struct stat stat_of(int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		memset(&st, 0, sizeof(st));
	return st;
}

static inline mode_t mode_of(int dir, const char *name)
{
	return stat_of(dir, name).st_mode & 07777;
}

static inline bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

/* Runs fn with other ids, and one more group (0: none), in a process of its own: its result, with
 * its errno. */
static inline int as_user(uid_t uid, gid_t gid, gid_t more, int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (setgroups(more ? 1 : 0, &more) < 0 || setresgid(gid, gid, gid) < 0 ||
		    setresuid(uid, uid, uid) < 0)
			_exit(255);
		_exit(fn() < 0 ? errno : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
		errno = ECHILD;
		return -1;
	}
	errno = WEXITSTATUS(status);
	return errno ? -1 : 0;
}

static inline bool case_wanted(int argc, char **argv, const char *name)
{
	for (int i = 3; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return argc <= 3;
}

static inline int case_directory(const char *top, const char *name, bool make)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", top, name);
	if (make && mkdir(path, 0755) < 0)
		return -1;
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static inline int cases_main(int argc, char **argv, const struct fs_case *cases, size_t n)
{
	int bad = 0;

	if (argc < 2)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	umask(022);
	for (size_t i = 0; i < n; i++) {
		if (!case_wanted(argc, argv, cases[i].name) || (cases[i].root && geteuid() != 0))
			continue;
		case_failures = 0;
		here = case_directory(argv[1], cases[i].name, true);
		there = case_directory(argc > 2 ? argv[2] : argv[1], cases[i].name, false);
		if (WORKS(here) && WORKS(there))
			cases[i].run();
		close(here);
		close(there);
		printf("%s %s\n", case_failures ? "not ok" : "ok", cases[i].name);
		bad += case_failures > 0;
	}
	return bad > 0;
}

#endif
