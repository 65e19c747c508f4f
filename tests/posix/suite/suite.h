/* The POSIX suite: cases, each a small function with a name, generated from tables.
 *
 * A case runs as root in a forked child of its own, in a fresh directory, with umask 0 and a time
 * limit. It ends at its first failed check, which is told with what was got and what was expected.
 * Cases are added by the suite_add_* functions, one in each cases_*.c; main.c runs them.
 */
#ifndef CAIRN_TESTS_POSIX_SUITE_H
#define CAIRN_TESTS_POSIX_SUITE_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* What a generated case is told; the meaning is the case's own. */
struct args {
	long a, b, c;
	const char *s;
	const void *p; /* static storage */
};

typedef void (*case_fn)(const struct args *x);

/* Adds a case; its name is "CALL/WHAT". */
void suite_add(case_fn fn, struct args x, const char *name, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- checks ---- */

void suite_want(const char *file, int line, const char *text, long got, int eno, int expected);
void suite_same(const char *file, int line, const char *text, long long got, long long expected);
void suite_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4), noreturn));

/* The call gives anything but -1 (expected 0), or -1 with this errno; its value is the call's. */
#define want(expected, call)                                                            \
	({                                                                              \
		errno = 0;                                                              \
		long want_r_ = (long)(call);                                            \
		suite_want(__FILE__, __LINE__, #call, want_r_, errno, (expected));      \
		want_r_;                                                                \
	})
#define same(got, expected) \
	suite_same(__FILE__, __LINE__, #got, (long long)(got), (long long)(expected))
#define that(condition)                                                                 \
	do {                                                                            \
		if (!(condition))                                                       \
			suite_fail(__FILE__, __LINE__, "%s does not hold", #condition); \
	} while (0)

/* The symbolic name of an errno, "ok" for 0. */
const char *suite_errno(int eno);

/* ---- objects ---- */

enum type {
	T_NONE, T_REG, T_DIR, T_FULL, T_FIFO, T_SOCK, T_CHR, T_BLK,
	T_LINK,	    /* to a regular file */
	T_DIRLINK,  /* to an empty directory */
	T_DANGLING, /* to nothing */
	T_LOOP,	    /* to itself */
	TYPES
};
extern const char *const type_names[TYPES];

/* Makes an object; targets of links stand beside it with the suffix ".t". */
void make(enum type type, const char *path);
/* Whether there is still an object of this type. */
void there(enum type type, const char *path);
void gone(const char *path);
bool type_is_dir(enum type type);
bool type_is_link(enum type type);
/* The type after following links; T_NONE for a dangling one. */
enum type type_followed(enum type type);
mode_t type_format(enum type type);

void put(const char *path, const char *text);
void holds(const char *path, const char *text);
struct stat status_of(const char *path); /* of the object itself, links not followed */
long long size_of(const char *path);
/* Waits so long that a clock as coarse as the kernel's tick has moved on. */
void tick(void);
/* The relation of two times: -1, 0, 1. */
int time_order(struct timespec a, struct timespec b);

/* ---- users ---- */

enum { ALICE = 40001, BOB = 40002, TEAM = 40010, CREW = 40011 };

/* Becomes somebody, with at most one supplementary group (0: none); user_root goes back. */
void user(uid_t uid, gid_t gid, gid_t extra);
void user_root(void);

/* ---- processes ---- */

/* Runs fn in a child; its exit status, which is 0 unless a check in it failed, ends the case. */
void in_child(void (*fn)(const struct args *x), const struct args *x);
/* Waits for a child that was forked; as above. */
void wait_for_child(pid_t pid);

void suite_add_paths(void);
void suite_add_types(void);
void suite_add_open(void);
void suite_add_rename(void);
void suite_add_attributes(void);
void suite_add_times(void);
void suite_add_permissions(void);
void suite_add_data(void);
void suite_add_space(void);
void suite_add_directories(void);
void suite_add_xattrs(void);
void suite_add_acls(void);
void suite_add_locks(void);
void suite_add_mmap(void);
void suite_add_unlinked(void);

#endif
