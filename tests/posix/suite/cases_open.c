/* open: each set of flags on each type, and what an open file allows. */
#include <dirent.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include "tests/posix/suite/suite.h"

enum { FOR_FILE = 1, WRITES = 2, MAKES = 4, EXCLUSIVE = 8, NEEDS_DIR = 16, NOFOLLOW = 32, PATH = 64,
       TMPFILE = 128, READS = 256 };

static const struct flag_set {
	const char *name;
	int flags, kind;
} flag_sets[] = {
	{"rdonly", O_RDONLY, READS},
	{"wronly", O_WRONLY, WRITES},
	{"rdwr", O_RDWR, READS | WRITES},
	{"append", O_WRONLY | O_APPEND, WRITES},
	{"trunc", O_WRONLY | O_TRUNC, WRITES},
	{"rdonly_trunc", O_RDONLY | O_TRUNC, WRITES | READS},
	{"creat", O_RDWR | O_CREAT, READS | WRITES | MAKES},
	{"creat_rdonly", O_RDONLY | O_CREAT, READS | MAKES},
	{"creat_trunc", O_RDWR | O_CREAT | O_TRUNC, READS | WRITES | MAKES},
	{"excl", O_RDWR | O_CREAT | O_EXCL, READS | WRITES | MAKES | EXCLUSIVE},
	{"directory", O_RDONLY | O_DIRECTORY, READS | NEEDS_DIR},
	{"nofollow", O_RDONLY | O_NOFOLLOW, READS | NOFOLLOW},
	{"creat_nofollow", O_RDWR | O_CREAT | O_NOFOLLOW, READS | WRITES | MAKES | NOFOLLOW},
	{"directory_nofollow", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, READS | NEEDS_DIR | NOFOLLOW},
	{"path", O_PATH, PATH},
	{"path_nofollow", O_PATH | O_NOFOLLOW, PATH | NOFOLLOW},
	{"path_directory", O_PATH | O_DIRECTORY, PATH | NEEDS_DIR},
	{"tmpfile", O_RDWR | O_TMPFILE, READS | WRITES | TMPFILE},
	{"tmpfile_wronly", O_WRONLY | O_TMPFILE, WRITES | TMPFILE},
	{"sync", O_RDWR | O_SYNC, READS | WRITES},
	{"dsync", O_WRONLY | O_DSYNC, WRITES},
	{"cloexec", O_RDONLY | O_CLOEXEC, READS},
	{"noatime", O_RDONLY | O_NOATIME, READS},
};

static int expected_open(const struct flag_set *f, enum type type)
{
	enum type end = type_followed(type);
	int k = f->kind;

	if (type == T_NONE)
		return k & MAKES ? 0 : ENOENT;
	if (k & EXCLUSIVE)
		return EEXIST;
	if (type_is_link(type) && k & NOFOLLOW)
		return k & PATH ? 0 : k & NEEDS_DIR ? ENOTDIR : ELOOP;
	if (type == T_LOOP)
		return ELOOP;
	if (end == T_NONE)
		return k & MAKES ? 0 : ENOENT;
	if (k & TMPFILE)
		return type_is_dir(end) ? 0 : ENOTDIR;
	if (type_is_dir(end))
		return k & (WRITES | MAKES) ? EISDIR : 0;
	if (k & NEEDS_DIR)
		return ENOTDIR;
	if (k & PATH)
		return 0;
	if (end == T_SOCK || end == T_BLK)
		return ENXIO;
	/* Nobody reads it; O_NONBLOCK is given for fifos. */
	if (end == T_FIFO && k & WRITES && !(k & READS))
		return ENXIO;
	return 0;
}

static void open_type(const struct args *x)
{
	const struct flag_set *f = x->p;
	enum type type = (enum type)x->a, end = type_followed(type);
	int eno = expected_open(f, type), fd, flags = f->flags;
	struct stat st;

	make(type, "t");
	if (end == T_FIFO)
		flags |= O_NONBLOCK;
	fd = (int)want(eno, open("t", flags, 0640));
	if (eno != 0)
		return;
	want(0, fstat(fd, &st));
	if (f->kind & TMPFILE) {
		same(st.st_mode, S_IFREG | 0640);
		same(st.st_nlink, 0);
	} else if (f->kind & PATH && f->kind & NOFOLLOW) {
		same(st.st_mode & S_IFMT, type_format(type));
	} else if (type == T_NONE || type == T_DANGLING) {
		same(st.st_mode, S_IFREG | 0640);
		there(T_REG, type == T_NONE ? "t" : "t.t");
	} else {
		same(st.st_mode & S_IFMT, type_format(end));
		if (end == T_REG)
			same(st.st_size, f->flags & O_TRUNC ? 0 : 4);
	}
}

/* ---- what a descriptor allows ---- */

static void allows(const struct args *x)
{
	const struct flag_set *f = x->p;
	bool path = (f->kind & PATH) != 0, reads, writes;
	char byte;
	int fd, mode = f->flags & O_ACCMODE;

	make(T_REG, "f");
	fd = (int)want(0, open("f", f->flags, 0600));
	reads = !path && mode != O_WRONLY;
	writes = !path && mode != O_RDONLY;
	want(reads ? 0 : EBADF, read(fd, &byte, 1));
	want(reads ? 0 : EBADF, pread(fd, &byte, 1, 0));
	want(writes ? 0 : EBADF, write(fd, "x", 1));
	want(writes ? 0 : EBADF, pwrite(fd, "x", 1, 0));
	want(writes ? 0 : path ? EBADF : EINVAL, ftruncate(fd, 2));
	want(path ? EBADF : 0, fchmod(fd, 0600));
	want(path ? EBADF : 0, fchown(fd, 0, 0));
	want(path ? EBADF : 0, lseek(fd, 0, SEEK_SET));
	want(path ? EBADF : 0, fsync(fd));
	want(path ? EBADF : 0, fsetxattr(fd, "user.a", "b", 1, 0));
	want(path ? EBADF : 0, futimens(fd, NULL));
	same(fcntl(fd, F_GETFL) & O_ACCMODE, path ? 0 : mode);
}

static void on_directory(const struct args *x)
{
	char bytes[8] = "";
	int fd = (int)want(0, open(".", O_RDONLY));

	want(EISDIR, read(fd, bytes, 1));
	want(EISDIR, pread(fd, bytes, 1, 0));
	want(EBADF, write(fd, bytes, 1));
	want(EINVAL, ftruncate(fd, 0));
	want(0, fsync(fd));
	want(0, fdatasync(fd));
	want(0, fchmod(fd, 0755));
	want(EISDIR, truncate(".", 0));
	want(EBADF, posix_fallocate(fd, 0, 1) == 0 ? 0 : (errno = posix_fallocate(fd, 0, 1), -1));
}

static void on_closed(const struct args *x)
{
	struct stat st;
	struct statfs fs;
	char byte = 0;
	int fd = (int)want(0, open(".", O_RDONLY));

	close(fd);
	want(EBADF, read(fd, &byte, 1));
	want(EBADF, write(fd, &byte, 1));
	want(EBADF, fstat(fd, &st));
	want(EBADF, fstatfs(fd, &fs));
	want(EBADF, fchmod(fd, 0));
	want(EBADF, fchown(fd, 0, 0));
	want(EBADF, ftruncate(fd, 0));
	want(EBADF, fsync(fd));
	want(EBADF, fdatasync(fd));
	want(EBADF, fchdir(fd));
	want(EBADF, lseek(fd, 0, SEEK_SET));
	want(EBADF, close(fd));
	want(EBADF, openat(fd, "x", O_RDONLY));
	want(EBADF, mkdirat(fd, "x", 0755));
	want(EBADF, unlinkat(fd, "x", 0));
	want(EBADF, renameat(fd, "x", fd, "y"));
}

/* The mode of a creating open holds for later opens, not for its own descriptor. */
static void open_own_mode(const struct args *x)
{
	mode_t mode = (mode_t)x->a;
	int fd;

	want(0, chmod(".", 0777));
	user(ALICE, TEAM, 0);
	fd = (int)want(0, open("f", O_RDWR | O_CREAT | O_EXCL, mode));
	same(want(0, write(fd, "abc", 3)), 3);
	same(status_of("f").st_mode, S_IFREG | mode);
	want(mode & 0400 ? 0 : EACCES, open("f", O_RDONLY));
	want(mode & 0200 ? 0 : EACCES, open("f", O_WRONLY));
	want((mode & 0600) == 0600 ? 0 : EACCES, open("f", O_RDWR | O_CREAT, 0666));
}

static void open_umask(const struct args *x)
{
	umask((mode_t)x->a);
	want(0, open("f", O_RDWR | O_CREAT, 0777));
	same(status_of("f").st_mode, S_IFREG | (0777 & ~x->a));
	want(0, mkdir("d", 0777));
	same(status_of("d").st_mode, S_IFDIR | (0777 & ~x->a));
}

static void open_special_bits(const struct args *x)
{
	want(0, open("f", O_RDWR | O_CREAT, (mode_t)x->a));
	same(status_of("f").st_mode, S_IFREG | x->a);
}

static void open_excl_race(const struct args *x)
{
	want(0, symlink("missing", "l"));
	want(EEXIST, open("l", O_RDWR | O_CREAT | O_EXCL, 0644));
	gone("missing");
}

static void open_trunc_keeps_attributes(const struct args *x)
{
	struct stat a, b;

	put("f", "12345678");
	want(0, chmod("f", 0640));
	a = status_of("f");
	want(0, open("f", O_WRONLY | O_CREAT | O_TRUNC, 0777));
	b = status_of("f");
	same(b.st_size, 0);
	same(b.st_ino, a.st_ino);
	same(b.st_mode, a.st_mode);
	same(b.st_blocks, 0);
}

static void open_offsets(const struct args *x)
{
	char a[3], b[3];
	int one, two, copy;

	put("f", "abcdef");
	one = (int)want(0, open("f", O_RDONLY));
	two = (int)want(0, open("f", O_RDONLY));
	copy = (int)want(0, dup(one));
	same(read(one, a, 3), 3);
	same(read(two, b, 3), 3);
	that(memcmp(a, b, 3) == 0);
	same(lseek(copy, 0, SEEK_CUR), 3); /* shared with what it copies */
	same(read(copy, a, 3), 3);
	same(lseek(one, 0, SEEK_CUR), 6);
}

static void open_many(const struct args *x)
{
	int fds[300];
	char byte;

	put("f", "z");
	for (int i = 0; i < 300; i++)
		fds[i] = (int)want(0, open("f", i % 2 ? O_RDONLY : O_RDWR));
	for (int i = 0; i < 300; i++) {
		same(pread(fds[i], &byte, 1, 0), 1);
		want(0, close(fds[i]));
	}
}

static void open_noatime_of_others(const struct args *x)
{
	put("f", "z");
	want(0, chmod("f", 0666));
	user(ALICE, TEAM, 0);
	want(EPERM, open("f", O_RDONLY | O_NOATIME));
	want(0, open("f", O_RDONLY));
}

static void open_in_removed(const struct args *x)
{
	int fd;

	make(T_DIR, "d");
	fd = (int)want(0, open("d", O_RDONLY | O_DIRECTORY));
	want(0, rmdir("d"));
	want(ENOENT, openat(fd, "f", O_RDWR | O_CREAT, 0644));
	want(ENOENT, openat(fd, "f", O_RDONLY));
	want(ENOENT, mkdirat(fd, "f", 0755));
}

void suite_add_open(void)
{
	static const struct args none;
	static const long masks[] = {0, 022, 027, 077, 0777, 0111};
	static const long modes[] = {0, 0200, 0400, 0444, 0600, 0222};
	static const long special[] = {01644, 02755, 04755, 06755, 07777};

	for (size_t i = 0; i < ARRAY_LEN(flag_sets); i++)
		for (int t = T_NONE; t < TYPES; t++)
			if (t != T_NONE || !(flag_sets[i].kind & TMPFILE))
				suite_add(open_type, (struct args){.p = &flag_sets[i], .a = t},
					  "open/%s_%s", flag_sets[i].name, type_names[t]);
	for (size_t i = 0; i < ARRAY_LEN(flag_sets); i++)
		if (!(flag_sets[i].kind & (TMPFILE | NEEDS_DIR | EXCLUSIVE)))
			suite_add(allows, (struct args){.p = &flag_sets[i]}, "descriptor/%s",
				  flag_sets[i].name);
	suite_add(on_directory, none, "descriptor/of_directory");
	suite_add(on_closed, none, "descriptor/closed");
	for (size_t i = 0; i < ARRAY_LEN(modes); i++)
		suite_add(open_own_mode, (struct args){.a = modes[i]}, "open/creat_mode_%03lo", modes[i]);
	for (size_t i = 0; i < ARRAY_LEN(masks); i++)
		suite_add(open_umask, (struct args){.a = masks[i]}, "open/umask_%03lo", masks[i]);
	for (size_t i = 0; i < ARRAY_LEN(special); i++)
		suite_add(open_special_bits, (struct args){.a = special[i]}, "open/creat_mode_%04lo",
			  special[i]);
	suite_add(open_excl_race, none, "open/excl_on_dangling_link");
	suite_add(open_trunc_keeps_attributes, none, "open/trunc_keeps_attributes");
	suite_add(open_offsets, none, "open/offsets");
	suite_add(open_many, none, "open/many_descriptors");
	suite_add(open_noatime_of_others, none, "open/noatime_of_others");
	suite_add(open_in_removed, none, "open/in_removed_dir");
}
