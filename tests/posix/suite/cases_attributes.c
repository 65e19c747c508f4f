/* chmod, chown, utimensat, truncate, stat, statfs on each type. */
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <time.h>

#include "tests/posix/suite/suite.h"

/* Where an operation that follows links ends. */
static const char *end_of(enum type type)
{
	return type_is_link(type) ? "t.t" : "t";
}

static void chmod_type(const struct args *x)
{
	enum type type = (enum type)x->a, end = type_followed(type);

	make(type, "t");
	want(type == T_LOOP ? ELOOP : end == T_NONE ? ENOENT : 0, chmod("t", (mode_t)x->b));
	if (end != T_NONE && type != T_LOOP)
		same(status_of(end_of(type)).st_mode, type_format(end) | x->b);
}

static void chown_type(const struct args *x)
{
	enum type type = (enum type)x->a, end = type_followed(type);
	struct stat st;

	make(type, "t");
	want(type == T_LOOP ? ELOOP : end == T_NONE ? ENOENT : 0, chown("t", ALICE, TEAM));
	if (end != T_NONE && type != T_LOOP) {
		st = status_of(end_of(type));
		same(st.st_uid, ALICE);
		same(st.st_gid, TEAM);
		want(0, chown("t", (uid_t)-1, CREW));
		want(0, chown("t", BOB, (gid_t)-1));
		want(0, chown("t", (uid_t)-1, (gid_t)-1));
		st = status_of(end_of(type));
		same(st.st_uid, BOB);
		same(st.st_gid, CREW);
	}
	want(0, lchown("t", 12, 34));
	same(status_of("t").st_uid, 12);
	same(status_of("t").st_gid, 34);
}

static void utimens_type(const struct args *x)
{
	enum type type = (enum type)x->a, end = type_followed(type);
	const struct timespec set[2] = {{1000000000, 123456789}, {1500000000, 987654321}};
	struct stat st;

	make(type, "t");
	want(type == T_LOOP ? ELOOP : end == T_NONE ? ENOENT : 0, utimensat(AT_FDCWD, "t", set, 0));
	if (end != T_NONE && type != T_LOOP) {
		st = status_of(end_of(type));
		same(st.st_atim.tv_sec, 1000000000);
		same(st.st_atim.tv_nsec, 123456789);
		same(st.st_mtim.tv_sec, 1500000000);
		same(st.st_mtim.tv_nsec, 987654321);
	}
	want(0, utimensat(AT_FDCWD, "t", set, AT_SYMLINK_NOFOLLOW));
	same(status_of("t").st_mtim.tv_nsec, 987654321);
}

static void truncate_type(const struct args *x)
{
	enum type type = (enum type)x->a, end = type_followed(type);
	int eno = type == T_LOOP ? ELOOP : end == T_NONE ? ENOENT : type_is_dir(end) ? EISDIR
		: end == T_REG ? 0 : EINVAL;

	make(type, "t");
	want(eno, truncate("t", x->b));
	if (eno == 0)
		same(size_of(end_of(type)), x->b);
}

static void stat_type(const struct args *x)
{
	enum type type = (enum type)x->a;
	struct stat st;
	struct statx sx;
	time_t now;

	make(type, "t");
	now = time(NULL);
	st = status_of("t");
	same(st.st_mode & S_IFMT, type_format(type));
	same(st.st_nlink, type_is_dir(type) ? 2 : 1);
	if (type == T_REG)
		same(st.st_size, 4);
	if (type == T_CHR)
		same(st.st_rdev, makedev(1, 3));
	else if (type == T_BLK)
		same(st.st_rdev, makedev(254, 255));
	else
		same(st.st_rdev, 0);
	that(st.st_ino != 0);
	that(st.st_blksize >= 512);
	that(st.st_mtim.tv_sec >= now - 60 && st.st_mtim.tv_sec <= now + 60);
	same(time_order(st.st_mtim, st.st_ctim) <= 0, 1);
	want(0, statx(AT_FDCWD, "t", AT_SYMLINK_NOFOLLOW, STATX_ALL, &sx));
	same(sx.stx_ino, st.st_ino);
	same(sx.stx_mode, st.st_mode);
	same(sx.stx_size, st.st_size);
	same(sx.stx_mtime.tv_nsec, st.st_mtim.tv_nsec);
	same(sx.stx_rdev_major, major(st.st_rdev));
	same(sx.stx_rdev_minor, minor(st.st_rdev));
}

static void birth_type(const struct args *x)
{
	struct statx a, b;

	make((enum type)x->a, "t");
	want(0, statx(AT_FDCWD, "t", AT_SYMLINK_NOFOLLOW, STATX_BTIME, &a));
	that(a.stx_mask & STATX_BTIME);
	tick();
	want(0, lchown("t", 1, 1));
	want(0, rename("t", "u"));
	want(0, statx(AT_FDCWD, "u", AT_SYMLINK_NOFOLLOW, STATX_BTIME, &b));
	same(b.stx_btime.tv_sec, a.stx_btime.tv_sec);
	same(b.stx_btime.tv_nsec, a.stx_btime.tv_nsec);
}

static void utimens_values(const struct args *x)
{
	struct timespec set[2] = {{x->a, x->b}, {x->a, x->b}};
	struct stat st;

	make(T_REG, "f");
	want((int)x->c, utimensat(AT_FDCWD, "f", set, 0));
	if (x->c != 0)
		return;
	st = status_of("f");
	same(st.st_atim.tv_sec, x->a);
	same(st.st_atim.tv_nsec, x->b);
	same(st.st_mtim.tv_sec, x->a);
	same(st.st_mtim.tv_nsec, x->b);
}

/* a and b: what is done with atime and mtime: 0 set, UTIME_NOW, UTIME_OMIT. */
static void utimens_special(const struct args *x)
{
	struct timespec old[2] = {{1000, 1}, {2000, 2}}, set[2] = {{3000, 3}, {4000, 4}};
	struct stat st;
	time_t now = time(NULL);

	make(T_REG, "f");
	want(0, utimensat(AT_FDCWD, "f", old, 0));
	if (x->a)
		set[0].tv_nsec = x->a;
	if (x->b)
		set[1].tv_nsec = x->b;
	want(0, utimensat(AT_FDCWD, "f", set, 0));
	st = status_of("f");
	if (x->a == UTIME_NOW)
		that(st.st_atim.tv_sec >= now - 60);
	else
		same(st.st_atim.tv_sec, x->a == UTIME_OMIT ? 1000 : 3000);
	if (x->b == UTIME_NOW)
		that(st.st_mtim.tv_sec >= now - 60);
	else
		same(st.st_mtim.tv_sec, x->b == UTIME_OMIT ? 2000 : 4000);
}

static void utimens_open(const struct args *x)
{
	const struct timespec set[2] = {{7, 7}, {8, 8}};
	int fd;

	make(T_REG, "f");
	fd = (int)want(0, open("f", O_RDWR));
	same(write(fd, "0123456789", 10), 10);
	want(0, futimens(fd, set));
	same(status_of("f").st_mtim.tv_sec, 8);
	want(0, close(fd));
	same(status_of("f").st_mtim.tv_sec, 8); /* nothing written late moves it */
	same(status_of("f").st_size, 10);
	holds("f", "0123456789");
}

static void chmod_bits(const struct args *x)
{
	make((enum type)x->b, "t");
	want(0, chmod("t", (mode_t)x->a));
	same(status_of("t").st_mode & 07777, x->a);
}

static void statfs_makes_sense(const struct args *x)
{
	struct statfs fs;
	struct statvfs v;

	want(0, statfs(".", &fs));
	that(fs.f_bsize >= 512);
	that(fs.f_blocks > 0);
	that(fs.f_bfree <= fs.f_blocks);
	that(fs.f_bavail <= fs.f_bfree);
	that(fs.f_ffree <= fs.f_files || fs.f_files == 0);
	same(fs.f_namelen, NAME_MAX);
	want(0, statvfs(".", &v));
	same(v.f_namemax, NAME_MAX);
	same(v.f_blocks, fs.f_blocks);
}

static void pathconf_values(const struct args *x)
{
	same(pathconf(".", _PC_NAME_MAX), NAME_MAX);
	same(pathconf(".", _PC_PATH_MAX), PATH_MAX);
	same(pathconf(".", _PC_NO_TRUNC), 1);
}

static void inode_numbers_differ(const struct args *x)
{
	ino_t seen[60];
	char name[16];

	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "t%d", i);
		make(i % 2 ? T_REG : T_DIR, name);
		seen[i] = status_of(name).st_ino;
		for (int k = 0; k < i; k++)
			that(seen[k] != seen[i]);
	}
}

static void same_device(const struct args *x)
{
	make(T_DIR, "d");
	make((enum type)x->a, "d/t");
	same(status_of("d/t").st_dev, status_of(".").st_dev);
}

static void chown_clears(const struct args *x)
{
	mode_t mode = (mode_t)x->a;

	make(T_REG, "f");
	want(0, chmod("f", mode));
	if (x->b) {
		want(0, chown("f", ALICE, TEAM));
		want(0, chmod("f", mode));
		user(ALICE, TEAM, CREW);
		want(0, chown("f", (uid_t)-1, CREW));
	} else {
		want(0, chown("f", ALICE, TEAM));
	}
	/* The kernel does the same for root. Set-gid without group execution stays. */
	mode &= ~(mode_t)S_ISUID;
	if (mode & S_IXGRP)
		mode &= ~(mode_t)S_ISGID;
	else if (x->b && mode & S_ISGID)
		mode |= S_ISGID;
	same(status_of("f").st_mode & 07777, mode);
}

static void chown_dir_keeps(const struct args *x)
{
	make(T_DIR, "d");
	want(0, chmod("d", 06755));
	want(0, chown("d", ALICE, TEAM));
	same(status_of("d").st_mode & 07777, 06755);
}

/* Ways to change a file's data, done by somebody without CAP_FSETID. */
static void change_by(int how)
{
	int fd = (int)want(0, open("f", how == 2 ? O_RDWR | O_TRUNC : how == 4 ? O_RDWR | O_APPEND
									       : O_RDWR));

	switch (how) {
	case 0: want(0, write(fd, "x", 1)); break;
	case 1: want(0, ftruncate(fd, 1)); break;
	case 3: want(0, fallocate(fd, 0, 0, 100)); break;
	case 4: want(0, write(fd, "x", 1)); break;
	case 5: want(0, truncate("f", 1)); break;
	case 6: want(0, pwrite(fd, "x", 1, 9000)); break;
	default: break;
	}
	want(0, close(fd));
}

static void write_clears(const struct args *x)
{
	mode_t mode = (mode_t)x->a, expected = mode & ~(mode_t)S_ISUID;

	make(T_REG, "f");
	want(0, chown("f", 0, TEAM));
	want(0, chmod("f", mode));
	user(ALICE, TEAM, 0);
	change_by((int)x->b);
	if (mode & S_IXGRP)
		expected &= ~(mode_t)S_ISGID;
	same(status_of("f").st_mode & 07777, expected);
}

static void write_by_root_keeps(const struct args *x)
{
	make(T_REG, "f");
	want(0, chmod("f", 06777));
	change_by((int)x->b);
	same(status_of("f").st_mode & 07777, 06777);
}

void suite_add_attributes(void)
{
	static const struct args none;
	static const struct { long sec, nsec, eno; const char *name; } times[] = {
		{0, 0, 0, "epoch"}, {-1, 999999999, 0, "before_epoch"}, {1, 999999999, 0, "nanosecond"},
		{2147483648, 1, 0, "after_2038"}, {4294967296, 5, 0, "over_32_bits"},
		{-2147483648, 0, 0, "1901"}, {5, 1000000000, EINVAL, "nanoseconds_too_many"},
		{5, -1, EINVAL, "nanoseconds_negative"},
	};
	static const struct { long value; const char *name; } special[] = {
		{0, "set"}, {UTIME_NOW, "now"}, {UTIME_OMIT, "omit"}};
	static const char *const changes[] = {"write", "ftruncate", "o_trunc", "fallocate", "append",
					      "truncate", "write_far"};
	static const long setid[] = {04777, 02777, 06777, 02767, 06767};

	for (int t = T_REG; t < TYPES; t++) {
		const char *name = type_names[t];

		suite_add(chmod_type, (struct args){.a = t, .b = 0640}, "chmod/%s", name);
		suite_add(chown_type, (struct args){.a = t}, "chown/%s", name);
		suite_add(utimens_type, (struct args){.a = t}, "utimensat/%s", name);
		suite_add(truncate_type, (struct args){.a = t, .b = 2}, "truncate/%s_down", name);
		suite_add(truncate_type, (struct args){.a = t, .b = 9000}, "truncate/%s_up", name);
		suite_add(stat_type, (struct args){.a = t}, "stat/%s", name);
		suite_add(birth_type, (struct args){.a = t}, "statx_birth/%s", name);
		suite_add(same_device, (struct args){.a = t}, "stat/device_of_%s", name);
	}
	for (long m = 0; m < 4096; m = m * 2 + (m == 0))
		for (int t = T_REG; t <= T_DIR; t++)
			suite_add(chmod_bits, (struct args){.a = m, .b = t}, "chmod/%s_%04lo",
				  type_names[t], m);
	for (size_t i = 0; i < ARRAY_LEN(times); i++)
		suite_add(utimens_values,
			  (struct args){.a = times[i].sec, .b = times[i].nsec, .c = times[i].eno},
			  "utimensat/%s", times[i].name);
	for (size_t a = 0; a < 3; a++)
		for (size_t m = 0; m < 3; m++)
			suite_add(utimens_special,
				  (struct args){.a = special[a].value, .b = special[m].value},
				  "utimensat/atime_%s_mtime_%s", special[a].name, special[m].name);
	suite_add(utimens_open, none, "utimensat/after_write");
	suite_add(statfs_makes_sense, none, "statfs/values");
	suite_add(pathconf_values, none, "pathconf/values");
	suite_add(inode_numbers_differ, none, "stat/inode_numbers_differ");
	for (size_t i = 0; i < ARRAY_LEN(setid); i++) {
		suite_add(chown_clears, (struct args){.a = setid[i]}, "chown/clears_%04lo_root",
			  setid[i]);
		suite_add(chown_clears, (struct args){.a = setid[i], .b = 1}, "chown/clears_%04lo",
			  setid[i]);
		for (size_t k = 0; k < ARRAY_LEN(changes); k++)
			suite_add(write_clears, (struct args){.a = setid[i], .b = (long)k},
				  "%s/clears_%04lo", changes[k], setid[i]);
	}
	for (size_t k = 0; k < ARRAY_LEN(changes); k++)
		suite_add(write_by_root_keeps, (struct args){.b = (long)k}, "%s/by_root_keeps_setid",
			  changes[k]);
	suite_add(chown_dir_keeps, none, "chown/dir_keeps_setid");
}
