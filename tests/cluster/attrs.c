/* Attributes as POSIX and Linux have them: see tests/lib/cases.h. */
#include <dirent.h>
#include <sys/xattr.h>
#include <time.h>

#include "tests/lib/cases.h"

enum { OWNER = 12001, OTHER = 12002, GROUP = 12003 };

/* A path through /proc, for calls that have no *at form. */
static const char *at(int dir, const char *name)
{
	static char paths[4][512];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "/proc/self/fd/%d/%s", dir, name);
	return path;
}

static int write_to(int dir, const char *name, int flags)
{
	int fd = openat(dir, name, O_WRONLY | O_CLOEXEC | flags);
	int r = fd < 0 || write(fd, "x", 1) != 1 ? -1 : 0;

	if (fd >= 0 && close(fd) < 0)
		r = -1;
	return r;
}

/* ---- what other users may ---- */

static int chmod_f(void) { return fchmodat(there, "f", 0640, 0); }
static int chown_f_uid(void) { return fchownat(there, "f", OTHER, -1, 0); }
static int chown_f_gid(void) { return fchownat(there, "f", -1, GROUP, 0); }
static int chown_f_nothing(void) { return fchownat(there, "f", -1, -1, 0); }
static int times_now(void) { return utimensat(there, "f", NULL, 0); }
static int times_set(void)
{
	struct timespec t[2] = {{1, 2}, {3, 4}};
	return utimensat(there, "f", t, 0);
}
static int times_omit(void)
{
	struct timespec t[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
	return utimensat(there, "f", t, 0);
}
static int truncate_f(void) { return truncate(at(there, "f"), 1); }
static int open_trunc_f(void) { return openat(there, "f", O_WRONLY | O_TRUNC); }
static int write_f(void) { return write_to(there, "f", 0); }
static int append_f(void) { return write_to(there, "f", O_APPEND); }
static int direct_f(void)
{
	void *page = aligned_alloc(4096, 4096);
	int fd = openat(there, "f", O_WRONLY | O_DIRECT | O_CLOEXEC);
	ssize_t n = page && fd >= 0 ? pwrite(fd, memset(page, 'd', 4096), 4096, 0) : -1;

	if (fd >= 0)
		close(fd);
	free(page);
	return n == 4096 ? 0 : -1;
}
static int unlink_s(void) { return unlinkat(there, "sticky/f", 0); }
static int rename_s(void) { return renameat(there, "sticky/f", there, "sticky/g"); }
static int rename_over_s(void) { return renameat(there, "sticky/mine", there, "sticky/f"); }
static int make_mine(void) { return touch(there, "sticky/mine", 0600); }
static int rmdir_s(void) { return unlinkat(there, "sticky/d", AT_REMOVEDIR); }
static int read_f(void) { return openat(there, "f", O_RDONLY); }
static int make_here(void) { return touch(there, "new", 0600); }

static void who_may(void)
{
	WORKS(touch(here, "f", 0600));
	WORKS(fchownat(here, "f", OWNER, OWNER, 0));
	FAILS(as_user(OTHER, OTHER, 0, chmod_f), EPERM);
	FAILS(as_user(OTHER, OTHER, 0, chown_f_uid), EPERM);
	FAILS(as_user(OWNER, OWNER, 0, chown_f_uid), EPERM);
	FAILS(as_user(OWNER, OWNER, 0, chown_f_gid), EPERM);
	WORKS(as_user(OWNER, OWNER, GROUP, chown_f_gid));
	CHECK(stat_of(here, "f").st_gid == GROUP);
	WORKS(as_user(OWNER, OWNER, 0, chown_f_nothing));
	WORKS(as_user(OWNER, OWNER, 0, chmod_f));
	FAILS(as_user(OTHER, OTHER, 0, times_now), EACCES);
	FAILS(as_user(OTHER, OTHER, 0, times_set), EPERM);
	WORKS(as_user(OTHER, OTHER, 0, times_omit));
	FAILS(as_user(OTHER, OTHER, 0, truncate_f), EACCES);
	FAILS(as_user(OTHER, OTHER, 0, make_here), EACCES);
	WORKS(fchmodat(here, "f", 0646, 0));
	WORKS(as_user(OTHER, OTHER, 0, times_now));
	FAILS(as_user(OTHER, OTHER, 0, times_set), EPERM);
	WORKS(as_user(OWNER, OWNER, 0, times_set));
	WORKS(as_user(OTHER, OTHER, 0, truncate_f));
	/* The group's bits count for a supplementary group, and before those of others. */
	WORKS(fchmodat(here, "f", 0604, 0));
	FAILS(as_user(OTHER, OTHER, GROUP, read_f), EACCES);
	WORKS(as_user(OTHER, OTHER, 0, read_f));
	WORKS(fchmodat(here, "f", 0640, 0));
	WORKS(as_user(OTHER, OTHER, GROUP, read_f));
}

static void sticky(void)
{
	WORKS(mkdirat(here, "sticky", 0755));
	WORKS(fchmodat(here, "sticky", 01777, 0));
	WORKS(touch(here, "sticky/f", 0666));
	WORKS(mkdirat(here, "sticky/d", 0777));
	WORKS(fchownat(here, "sticky/f", OWNER, OWNER, 0));
	WORKS(fchownat(here, "sticky/d", OWNER, OWNER, 0));
	WORKS(as_user(OTHER, OTHER, 0, make_mine));
	FAILS(as_user(OTHER, OTHER, 0, unlink_s), EPERM);
	FAILS(as_user(OTHER, OTHER, 0, rename_s), EPERM);
	FAILS(as_user(OTHER, OTHER, 0, rename_over_s), EPERM);
	FAILS(as_user(OTHER, OTHER, 0, rmdir_s), EPERM);
	WORKS(as_user(OWNER, OWNER, 0, rename_s));
	WORKS(as_user(OWNER, OWNER, 0, rmdir_s));
}

/* ---- set-id bits and capabilities ---- */

static int give_capability(int dir, const char *name)
{
	/* VFS_CAP_REVISION_2, cap_net_raw */
	static const unsigned char cap[20] = {0, 0, 0, 2, 0, 0x20};
	return setxattr(at(dir, name), "security.capability", cap, sizeof(cap), 0);
}

static bool has_capability(int dir, const char *name)
{
	return getxattr(at(dir, name), "security.capability", NULL, 0) > 0;
}

static void set_id(void)
{
	static int (*const how[])(void) = {write_f, append_f, truncate_f, open_trunc_f,
					   direct_f};

	WORKS(touch(here, "f", 0644));
	for (size_t i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
		WORKS(fchmodat(here, "f", 06777, 0));
		WORKS(give_capability(here, "f"));
		CHECK(has_capability(there, "f"));
		WORKS(as_user(OTHER, OTHER, 0, how[i]));
		if (!CHECK(mode_of(here, "f") == 0777) || !CHECK(!has_capability(here, "f")))
			printf("#   way %zu\n", i);
	}
	/* Without execution by the group the bit means something else; root keeps both. */
	WORKS(fchmodat(here, "f", 06767, 0));
	WORKS(write_f());
	CHECK(mode_of(there, "f") == 06767);
	WORKS(fchmodat(here, "f", 06777, 0));
	WORKS(give_capability(here, "f"));
	WORKS(fchownat(here, "f", OWNER, GROUP, 0));
	CHECK(mode_of(there, "f") == 0777 && !has_capability(there, "f"));
	WORKS(mkdirat(here, "d", 0755));
	WORKS(fchmodat(here, "d", 06777, 0));
	WORKS(fchownat(here, "d", OWNER, GROUP, 0));
	CHECK(mode_of(there, "d") == 06777);
}

static int chmod_2755(void) { return fchmodat(there, "f", 02755, 0); }
static int mkdir_in(void) { return mkdirat(there, "d/sub", 0755); }
static int touch_in(void) { return touch(there, "d/f", 0644); }
static int set_gid_in(void)
{
	int fd = openat(there, "d/x", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 02755);
	return fd < 0 ? fd : close(fd);
}

static void set_gid_directories(void)
{
	WORKS(mkdirat(here, "d", 0777));
	WORKS(fchownat(here, "d", OWNER, GROUP, 0));
	WORKS(fchmodat(here, "d", 02777, 0));
	WORKS(as_user(OTHER, OTHER, 0, mkdir_in));
	WORKS(as_user(OTHER, OTHER, 0, touch_in));
	WORKS(as_user(OTHER, OTHER, 0, set_gid_in));
	CHECK(stat_of(here, "d/sub").st_gid == GROUP && mode_of(here, "d/sub") == 02755);
	CHECK(stat_of(here, "d/f").st_gid == GROUP && mode_of(here, "d/f") == 0644);
	CHECK(mode_of(here, "d/x") == 0755);
	/* chmod by an owner who is not in the group. */
	WORKS(touch(here, "f", 0755));
	WORKS(fchownat(here, "f", OWNER, GROUP, 0));
	WORKS(as_user(OWNER, OWNER, 0, chmod_2755));
	CHECK(mode_of(here, "f") == 0755);
	WORKS(as_user(OWNER, OWNER, GROUP, chmod_2755));
	CHECK(mode_of(here, "f") == 02755);
}

static void umasks(void)
{
	struct stat st;
	int fd;

	umask(027);
	WORKS(mkdirat(here, "d", 0777));
	WORKS(touch(here, "f", 0666));
	WORKS(mkfifoat(here, "p", 0666));
	fd = openat(here, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
	CHECK(fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0640);
	close(fd);
	umask(022);
	CHECK(mode_of(there, "d") == 0750 && mode_of(there, "f") == 0640 &&
	      mode_of(there, "p") == 0640);
}

/* ---- times ---- */

enum { M = 1, C = 2 };

static struct stat before[2];
static void look(const char *a, const char *b)
{
	before[0] = stat_of(there, a);
	before[1] = stat_of(there, b);
	nanosleep(&(struct timespec){.tv_nsec = 12000000}, NULL); /* ext4's clock has ticks */
}
static unsigned moved(const char *name, const struct stat *was)
{
	struct stat st = stat_of(there, name);
	return (later(st.st_mtim, was->st_mtim) ? M : 0) | (later(st.st_ctim, was->st_ctim) ? C : 0);
}
/* That the call moves these times of two names, and no others. */
#define MOVES(call, a, what_a, b, what_b)                                         \
	do {                                                                      \
		look(a, b);                                                       \
		WORKS(call);                                                      \
		CHECK(moved(a, &before[0]) == (what_a));                          \
		CHECK(moved(b, &before[1]) == (what_b));                          \
	} while (0)

static void change_times(void)
{
	struct timespec t[2] = {{.tv_sec = 5, .tv_nsec = 123456789}, {.tv_nsec = UTIME_OMIT}};
	struct stat st;

	WORKS(touch(here, "f", 0644));
	WORKS(mkdirat(here, "d", 0755));
	WORKS(mkdirat(here, "e", 0755));
	MOVES(touch(here, "d/x", 0644), "d", M | C, "e", 0);
	MOVES(write_to(here, "f", 0), "f", M | C, ".", 0);
	MOVES(truncate(at(here, "f"), 10), "f", M | C, ".", 0);
	MOVES(close(openat(here, "f", O_WRONLY | O_TRUNC)), "f", M | C, ".", 0);
	MOVES(close(openat(here, "f", O_WRONLY | O_TRUNC)), "f", M | C, ".", 0);
	MOVES(fchmodat(here, "f", 0600, 0), "f", C, ".", 0);
	MOVES(fchownat(here, "f", -1, -1, 0), "f", C, ".", 0);
	MOVES(linkat(here, "f", here, "d/f2", 0), "f", C, "d", M | C);
	MOVES(unlinkat(here, "d/f2", 0), "f", C, "d", M | C);
	MOVES(renameat(here, "d/x", here, "e/x"), "d", M | C, "e", M | C);
	MOVES(renameat(here, "f", here, "g"), ".", M | C, "e", 0);
	MOVES(setxattr(at(here, "g"), "user.x", "1", 1, 0), "g", C, ".", 0);
	MOVES(removexattr(at(here, "g"), "user.x"), "g", C, ".", 0);
	MOVES(unlinkat(here, "e/x", 0), "e", M | C, ".", 0);
	MOVES(mkdirat(here, "e/y", 0755), "e", M | C, ".", 0);
	MOVES(unlinkat(here, "e/y", AT_REMOVEDIR), "e", M | C, ".", 0);
	MOVES(utimensat(here, "g", t, 0), "g", C, ".", 0);
	st = stat_of(there, "g");
	CHECK(st.st_atim.tv_sec == 5 && st.st_atim.tv_nsec == 123456789);
	t[1] = (struct timespec){.tv_sec = -7, .tv_nsec = 999999999};
	t[0].tv_nsec = UTIME_NOW;
	WORKS(utimensat(here, "g", t, 0));
	st = stat_of(there, "g");
	CHECK(st.st_mtim.tv_sec == -7 && st.st_mtim.tv_nsec == 999999999);
	CHECK(st.st_atim.tv_sec > 1000000);
	WORKS(symlinkat("g", here, "s"));
	t[0] = t[1] = (struct timespec){.tv_sec = 77};
	WORKS(utimensat(here, "s", t, AT_SYMLINK_NOFOLLOW));
	CHECK(stat_of(there, "s").st_mtim.tv_sec == 77 && stat_of(there, "g").st_mtim.tv_sec == -7);
}

static int list_names(int dir, const char *name)
{
	DIR *d = fdopendir(openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n > 0 ? 0 : -1;
}

/* relatime: once after each change. */
static void access_times(void)
{
	struct timespec t[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
	char buf[8];
	struct stat st;
	int fd;

	WORKS(touch(here, "f", 0644));
	WORKS(utimensat(here, "f", t, 0));
	nanosleep(&(struct timespec){.tv_nsec = 12000000}, NULL);
	fd = openat(here, "f", O_RDONLY | O_CLOEXEC);
	CHECK(read(fd, buf, sizeof(buf)) == 3);
	st = stat_of(here, "f");
	CHECK(st.st_atim.tv_sec > 1000000 && later(st.st_atim, st.st_ctim));
	CHECK(st.st_mtim.tv_sec == 1000000);
	close(fd);
	st = stat_of(there, "f");
	CHECK(later(st.st_atim, st.st_ctim));
	fd = openat(there, "f", O_RDONLY | O_CLOEXEC);
	CHECK(read(fd, buf, sizeof(buf)) == 3);
	CHECK(!later(stat_of(there, "f").st_atim, st.st_atim));
	close(fd);
	WORKS(utimensat(here, "f", t, 0));
	fd = openat(there, "f", O_RDONLY | O_NOATIME | O_CLOEXEC);
	CHECK(read(fd, buf, sizeof(buf)) == 3);
	CHECK(stat_of(here, "f").st_atim.tv_sec == 1000000);
	close(fd);
	WORKS(mkdirat(here, "d", 0755));
	WORKS(utimensat(here, "d", t, 0));
	WORKS(list_names(there, "d"));
	CHECK(stat_of(here, "d").st_atim.tv_sec > 1000000);
	WORKS(symlinkat("f", here, "s"));
	WORKS(utimensat(here, "s", t, AT_SYMLINK_NOFOLLOW));
	CHECK(readlinkat(there, "s", buf, sizeof(buf)) == 1);
	CHECK(stat_of(here, "s").st_atim.tv_sec > 1000000);
}

/* ---- extended attributes ---- */

static int list_trusted(void)
{
	char list[4096];
	ssize_t n = listxattr(at(there, "f"), list, sizeof(list));

	errno = EBADMSG;
	return n > 0 && memmem(list, (size_t)n, "user.a", 7) &&
	       !memmem(list, (size_t)n, "trusted.", 8) ? 0 : -1;
}
static int get_trusted(void)
{
	return (int)getxattr(at(there, "f"), "trusted.t", NULL, 0);
}
static int set_user_on_sticky(void)
{
	return setxattr(at(there, "sticky"), "user.x", "1", 1, 0);
}

static void xattrs(void)
{
	static char big[65537], got[65537];
	char name[260] = "user.", list[4096];

	WORKS(touch(here, "f", 0644));
	WORKS(setxattr(at(here, "f"), "user.a", "one", 3, XATTR_CREATE));
	FAILS(setxattr(at(here, "f"), "user.a", "two", 3, XATTR_CREATE), EEXIST);
	FAILS(setxattr(at(here, "f"), "user.b", "two", 3, XATTR_REPLACE), ENODATA);
	WORKS(setxattr(at(here, "f"), "user.a", "two", 3, XATTR_REPLACE));
	CHECK(getxattr(at(there, "f"), "user.a", got, sizeof(got)) == 3 && !memcmp(got, "two", 3));
	CHECK(getxattr(at(there, "f"), "user.a", NULL, 0) == 3);
	FAILS(getxattr(at(there, "f"), "user.a", got, 2), ERANGE);
	FAILS(getxattr(at(there, "f"), "user.none", got, 2), ENODATA);
	FAILS(removexattr(at(here, "f"), "user.none"), ENODATA);
	FAILS(setxattr(at(here, "f"), "nokind", "1", 1, 0), EOPNOTSUPP);
	FAILS(getxattr(at(here, "f"), "nokind", got, 1), EOPNOTSUPP);
	FAILS(setxattr(at(here, "f"), "user.", "1", 1, 0), EINVAL);
	WORKS(setxattr(at(here, "f"), "user.empty", "", 0, 0));
	CHECK(getxattr(at(there, "f"), "user.empty", got, sizeof(got)) == 0);
	memset(name + 5, 'n', 250);
	WORKS(setxattr(at(here, "f"), name, "1", 1, 0));
	WORKS(removexattr(at(there, "f"), name));
	name[255] = 'n';
	FAILS(setxattr(at(here, "f"), name, "1", 1, 0), ERANGE);
	FAILS(setxattr(at(here, "f"), "user.big", big, 65537, 0), E2BIG);
	CHECK(listxattr(at(there, "f"), list, sizeof(list)) == 7 + 11);
	CHECK(listxattr(at(there, "f"), NULL, 0) == 7 + 11);
	FAILS(listxattr(at(there, "f"), list, 5), ERANGE);
	WORKS(removexattr(at(there, "f"), "user.a"));
	FAILS(getxattr(at(here, "f"), "user.a", got, 2), ENODATA);
	WORKS(symlinkat("f", here, "s"));
	WORKS(mkfifoat(here, "p", 0644));
	FAILS(lsetxattr(at(here, "s"), "user.a", "1", 1, 0), EPERM);
	FAILS(setxattr(at(here, "p"), "user.a", "1", 1, 0), EPERM);
	FAILS(lgetxattr(at(here, "s"), "user.a", got, 1), ENODATA);
	WORKS(setxattr(at(here, ""), "user.dir", "1", 1, 0));
}

static void xattrs_of_root(void)
{
	WORKS(touch(here, "f", 0644));
	WORKS(symlinkat("f", here, "s"));
	WORKS(setxattr(at(here, "f"), "user.a", "one", 3, 0));
	WORKS(setxattr(at(here, "f"), "trusted.t", "t", 1, 0));
	WORKS(setxattr(at(here, "f"), "security.x", "s", 1, 0));
	WORKS(lsetxattr(at(here, "s"), "trusted.l", "t", 1, 0));
	CHECK(listxattr(at(there, "f"), NULL, 0) == 7 + 10 + 11);
	WORKS(as_user(OTHER, OTHER, 0, list_trusted));
	FAILS(as_user(OTHER, OTHER, 0, get_trusted), ENODATA);
	WORKS(mkdirat(here, "sticky", 0755));
	WORKS(fchmodat(here, "sticky", 01777, 0));
	FAILS(as_user(OTHER, OTHER, 0, set_user_on_sticky), EPERM);
}

/* Larger than ext4 takes: Cairn's own limits. */
static void xattr_limits(void)
{
	static char big[65536], got[65536];

	memset(big, 'b', sizeof(big));
	WORKS(touch(here, "f", 0644));
	WORKS(setxattr(at(here, "f"), "user.big", big, sizeof(big), 0));
	CHECK(getxattr(at(there, "f"), "user.big", got, sizeof(got)) == sizeof(got) &&
	      memcmp(big, got, sizeof(got)) == 0);
}

static const struct fs_case cases[] = {
	{"who_may", who_may, true}, {"sticky", sticky, true}, {"set_id", set_id, true},
	{"set_gid_directories", set_gid_directories, true}, {"umasks", umasks, false},
	{"change_times", change_times, false}, {"access_times", access_times, false},
	{"xattrs", xattrs, false}, {"xattrs_of_root", xattrs_of_root, true},
	{"xattr_limits", xattr_limits, false},
};

int main(int argc, char **argv)
{
	return cases_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
