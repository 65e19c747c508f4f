/* Which times each call changes, of the object and of its directory; none when it fails. */
#include <dirent.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <time.h>

#include "tests/posix/suite/suite.h"

enum { A = 1, M = 2, C = 4 };

static void closed(int fd)
{
	want(0, fd);
	close(fd);
}
static void do_nothing(void) { status_of("d/f"); }
static void do_open_close(void) { closed(open("d/f", O_RDWR)); }
static void do_write(void)
{
	int fd = (int)want(0, open("d/f", O_WRONLY));
	want(0, write(fd, "x", 1));
	close(fd);
}
static void do_write_none(void)
{
	int fd = (int)want(0, open("d/f", O_WRONLY));
	want(0, write(fd, "", 0));
	close(fd);
}
static void do_append(void)
{
	int fd = (int)want(0, open("d/f", O_WRONLY | O_APPEND));
	want(0, write(fd, "x", 1));
	close(fd);
}
static void do_pwrite_far(void)
{
	int fd = (int)want(0, open("d/f", O_WRONLY));
	want(0, pwrite(fd, "x", 1, 100000));
	close(fd);
}
static void do_truncate_down(void) { want(0, truncate("d/f", 1)); }
static void do_truncate_up(void) { want(0, truncate("d/f", 1000)); }
static void do_truncate_same(void) { want(0, truncate("d/f", 4)); }
static void do_ftruncate_same(void)
{
	int fd = (int)want(0, open("d/f", O_WRONLY));
	want(0, ftruncate(fd, 4));
	close(fd);
}
static void do_open_trunc(void) { closed(open("d/f", O_WRONLY | O_TRUNC)); }
static void do_chmod(void) { want(0, chmod("d/f", 0600)); }
static void do_chmod_same(void) { want(0, chmod("d/f", 0644)); }
static void do_chown(void) { want(0, chown("d/f", 1, 1)); }
static void do_chown_none(void) { want(0, chown("d/f", (uid_t)-1, (gid_t)-1)); }
static void do_setxattr(void) { want(0, setxattr("d/f", "user.a", "b", 1, 0)); }
static void do_getxattr(void) { char b[9]; want(ENODATA, getxattr("d/f", "user.a", b, 9)); }
static void do_link(void) { want(0, link("d/f", "d/g")); }
static void do_link_elsewhere(void) { want(0, link("d/f", "g")); }
static void do_unlink_one(void) { want(0, unlink("d/h")); }
static void do_rename_here(void) { want(0, rename("d/f", "d/e")); want(0, link("d/e", "d/f")); }
static void do_create(void) { closed(open("d/new", O_CREAT | O_WRONLY, 0644)); }
static void do_mkdir(void) { want(0, mkdir("d/new", 0755)); }
static void do_mkfifo(void) { want(0, mkfifo("d/new", 0755)); }
static void do_symlink(void) { want(0, symlink("x", "d/new")); }
static void do_rmdir(void) { want(0, rmdir("d/sub")); }
static void do_rename_in(void) { want(0, rename("out", "d/new")); }
static void do_rename_out(void) { want(0, rename("d/sub", "sub")); }
static void do_rename_over(void) { want(0, rename("out", "d/other")); }
static void do_fsync(void)
{
	int fd = (int)want(0, open("d/f", O_WRONLY));
	want(0, fsync(fd));
	close(fd);
}
static void do_fallocate(void)
{
	int fd = (int)want(0, open("d/f", O_WRONLY));
	want(0, fallocate(fd, 0, 0, 1000));
	close(fd);
}
static void do_copy_range(void)
{
	int in = (int)want(0, open("out", O_RDONLY)), fd = (int)want(0, open("d/f", O_WRONLY));
	same(want(0, copy_file_range(in, NULL, fd, NULL, 4, 0)), 4);
	close(fd);
}
static void do_mmap_write(void)
{
	int fd = (int)want(0, open("d/f", O_RDWR));
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	that(p != MAP_FAILED);
	p[0] = 'y';
	want(0, msync(p, 4096, MS_SYNC));
	munmap(p, 4096);
	close(fd);
}
/* That fail. */
static void do_create_exists(void) { want(EEXIST, open("d/f", O_CREAT | O_EXCL, 0644)); }
static void do_mkdir_exists(void) { want(EEXIST, mkdir("d/f", 0644)); }
static void do_link_exists(void) { want(EEXIST, link("d/f", "d/other")); }
static void do_symlink_exists(void) { want(EEXIST, symlink("d/f", "d/other")); }
static void do_unlink_missing(void) { want(ENOENT, unlink("d/missing")); }
static void do_unlink_dir(void) { want(EISDIR, unlink("d/sub")); }
static void do_rmdir_file(void) { want(ENOTDIR, rmdir("d/f")); }
static void do_rename_refused(void) { want(ENOTDIR, rename("d/sub", "d/f")); }
static void do_noreplace(void)
{
	want(EEXIST, renameat2(AT_FDCWD, "d/f", AT_FDCWD, "d/other", RENAME_NOREPLACE));
}
static void do_truncate_negative(void) { want(EINVAL, truncate("d/f", -1)); }
static void do_setxattr_refused(void)
{
	want(ENODATA, setxattr("d/f", "user.a", "b", 1, XATTR_REPLACE));
}
static void as_other(void (*fn)(void))
{
	user(ALICE, TEAM, 0);
	fn();
	user_root();
}
static void chmod_refused(void) { want(EPERM, chmod("d/f", 0)); }
static void chown_refused(void) { want(EPERM, chown("d/f", ALICE, TEAM)); }
static void unlink_refused(void) { want(EACCES, unlink("d/f")); }
static void truncate_refused(void) { want(EACCES, truncate("d/f", 0)); }
static void do_chmod_refused(void) { as_other(chmod_refused); }
static void do_chown_refused(void) { as_other(chown_refused); }
static void do_unlink_refused(void) { as_other(unlink_refused); }
static void do_truncate_refused(void) { as_other(truncate_refused); }

/* The times of d/f, and of d, that must change; the others must not. atime of d/f may. */
static const struct time_case {
	const char *name;
	void (*call)(void);
	int file, dir;
} time_cases[] = {
	{"nothing", do_nothing, 0, 0},
	{"open_close", do_open_close, 0, 0},
	{"write", do_write, M | C, 0},
	{"write_of_none", do_write_none, 0, 0},
	{"append", do_append, M | C, 0},
	{"pwrite_far", do_pwrite_far, M | C, 0},
	{"truncate_down", do_truncate_down, M | C, 0},
	{"truncate_up", do_truncate_up, M | C, 0},
	{"truncate_same", do_truncate_same, M | C, 0},
	{"ftruncate_same", do_ftruncate_same, M | C, 0},
	{"open_trunc", do_open_trunc, M | C, 0},
	{"chmod", do_chmod, C, 0},
	{"chmod_same", do_chmod_same, C, 0},
	{"chown", do_chown, C, 0},
	{"chown_none", do_chown_none, C, 0},
	{"setxattr", do_setxattr, C, 0},
	{"getxattr", do_getxattr, 0, 0},
	{"link", do_link, C, M | C},
	{"link_elsewhere", do_link_elsewhere, C, 0},
	{"unlink_one_of_two", do_unlink_one, C, M | C},
	{"rename_here", do_rename_here, C, M | C},
	{"create", do_create, 0, M | C},
	{"mkdir", do_mkdir, 0, M | C},
	{"mkfifo", do_mkfifo, 0, M | C},
	{"symlink", do_symlink, 0, M | C},
	{"rmdir", do_rmdir, 0, M | C},
	{"rename_in", do_rename_in, 0, M | C},
	{"rename_out", do_rename_out, 0, M | C},
	{"rename_over", do_rename_over, 0, M | C},
	{"fsync", do_fsync, 0, 0},
	{"fallocate", do_fallocate, M | C, 0},
	{"copy_file_range", do_copy_range, M | C, 0},
	{"mmap_write", do_mmap_write, M | C, 0},
	{"create_exists", do_create_exists, 0, 0},
	{"mkdir_exists", do_mkdir_exists, 0, 0},
	{"link_exists", do_link_exists, 0, 0},
	{"symlink_exists", do_symlink_exists, 0, 0},
	{"unlink_missing", do_unlink_missing, 0, 0},
	{"unlink_dir", do_unlink_dir, 0, 0},
	{"rmdir_file", do_rmdir_file, 0, 0},
	{"rename_refused", do_rename_refused, 0, 0},
	{"noreplace_refused", do_noreplace, 0, 0},
	{"truncate_negative", do_truncate_negative, 0, 0},
	{"setxattr_refused", do_setxattr_refused, 0, 0},
	{"chmod_refused", do_chmod_refused, 0, 0},
	{"chown_refused", do_chown_refused, 0, 0},
	{"unlink_refused", do_unlink_refused, 0, 0},
	{"truncate_refused", do_truncate_refused, 0, 0},
};

static void times_prepare(void)
{
	want(0, mkdir("d", 0755));
	put("d/f", "data");
	put("d/other", "data");
	put("out", "data");
	want(0, mkdir("d/sub", 0755));
	want(0, link("d/f", "d/h"));
}

static void times_of(const struct args *x)
{
	const struct time_case *t = x->p;
	struct stat f, d, f2, d2;

	times_prepare();
	f = status_of("d/f");
	d = status_of("d");
	tick();
	t->call();
	f2 = status_of("d/f");
	d2 = status_of("d");
	same(time_order(f2.st_mtim, f.st_mtim), (t->file & M) != 0);
	same(time_order(f2.st_ctim, f.st_ctim), (t->file & C) != 0);
	same(time_order(d2.st_mtim, d.st_mtim), (t->dir & M) != 0);
	same(time_order(d2.st_ctim, d.st_ctim), (t->dir & C) != 0);
}

/* Renaming changes the ctime of what is moved (ext4 does, and tools rely on it). */
static void times_rename(const struct args *x)
{
	struct stat a, b;

	make((enum type)x->a, "a");
	a = status_of("a");
	tick();
	want(0, rename("a", "b"));
	b = status_of("b");
	same(time_order(b.st_ctim, a.st_ctim), 1);
	same(time_order(b.st_mtim, a.st_mtim), 0);
}

/* The exchanged directories and their objects. */
static void times_exchange(const struct args *x)
{
	struct stat p, q, a, b;

	make(T_DIR, "p");
	make(T_DIR, "q");
	make(T_REG, "p/a");
	make(T_REG, "q/b");
	p = status_of("p");
	q = status_of("q");
	a = status_of("p/a");
	b = status_of("q/b");
	tick();
	want(0, renameat2(AT_FDCWD, "p/a", AT_FDCWD, "q/b", RENAME_EXCHANGE));
	same(time_order(status_of("p").st_mtim, p.st_mtim), 1);
	same(time_order(status_of("q").st_mtim, q.st_mtim), 1);
	same(time_order(status_of("q/b").st_ctim, a.st_ctim), 1);
	same(time_order(status_of("p/a").st_ctim, b.st_ctim), 1);
}

static void times_new(const struct args *x)
{
	struct stat d, t;

	make(T_DIR, "d");
	d = status_of("d");
	tick();
	make((enum type)x->a, "d/t");
	t = status_of("d/t");
	same(time_order(t.st_ctim, d.st_ctim), 1);
	same(time_order(t.st_mtim, d.st_mtim), 1);
	same(time_order(t.st_atim, d.st_ctim), 1);
	same(time_order(status_of("d").st_mtim, d.st_mtim), 1);
}

/* relatime: reading moves an atime that is not later than mtime and ctime. */
static void times_relatime(const struct args *x)
{
	struct timespec set[2] = {{.tv_sec = x->a}, {.tv_sec = x->b}};
	struct stat before, after;
	char byte;
	int fd;

	if (x->a <= 0)
		set[0].tv_sec = time(NULL) + (x->a == 0 ? 1000 : x->a);
	if (x->b < 0)
		set[1].tv_sec = time(NULL) + x->b;
	make(x->s ? T_FULL : T_REG, "t");
	want(0, utimensat(AT_FDCWD, "t", set, 0));
	before = status_of("t");
	if (x->s) {
		char buffer[4096];
		fd = (int)want(0, open("t", O_RDONLY | O_DIRECTORY));
		that(getdents64(fd, buffer, sizeof(buffer)) > 0);
	} else {
		fd = (int)want(0, open("t", O_RDONLY));
		same(read(fd, &byte, 1), 1);
	}
	close(fd);
	after = status_of("t");
	same(time_order(after.st_atim, before.st_atim), x->c);
	same(time_order(after.st_mtim, before.st_mtim), 0);
}

static void times_noatime(const struct args *x)
{
	struct timespec set[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
	char byte;
	int fd;

	make(T_REG, "t");
	want(0, utimensat(AT_FDCWD, "t", set, 0));
	fd = (int)want(0, open("t", O_RDONLY | O_NOATIME));
	same(read(fd, &byte, 1), 1);
	close(fd);
	same(status_of("t").st_atim.tv_sec, 1000);
}

static void times_ascend(const struct args *x)
{
	struct stat last, now;
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));

	want(0, fstat(fd, &last));
	for (int i = 0; i < 20; i++) {
		want(0, write(fd, "x", 1));
		want(0, fstat(fd, &now));
		that(time_order(now.st_mtim, last.st_mtim) >= 0);
		that(time_order(now.st_ctim, last.st_ctim) >= 0);
		last = now;
	}
}

void suite_add_times(void)
{
	static const struct args none;

	for (size_t i = 0; i < ARRAY_LEN(time_cases); i++)
		suite_add(times_of, (struct args){.p = &time_cases[i]}, "times/%s", time_cases[i].name);
	for (int t = T_REG; t < TYPES; t++) {
		suite_add(times_rename, (struct args){.a = t}, "times/rename_%s", type_names[t]);
		suite_add(times_new, (struct args){.a = t}, "times/new_%s", type_names[t]);
	}
	suite_add(times_exchange, none, "times/exchange");
	suite_add(times_noatime, none, "times/o_noatime");
	suite_add(times_ascend, none, "times/ascend");
	/* atime (0: later than now), mtime; below 0 relative to now; whether atime moves */
	for (int dir = 0; dir < 2; dir++) {
		const char *s = dir ? "dir" : NULL, *name = dir ? "dir" : "file";

		suite_add(times_relatime, (struct args){.a = 1000, .b = 2000, .c = 1, .s = s},
			  "times/relatime_%s_before_mtime", name);
		suite_add(times_relatime, (struct args){.a = 0, .b = -2000, .c = 0, .s = s},
			  "times/relatime_%s_after_ctime", name);
		suite_add(times_relatime, (struct args){.a = -100000, .b = -200000, .c = 1, .s = s},
			  "times/relatime_%s_after_mtime", name);
	}
}
