/* Making and removing names of each type, in each parent state. */
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "tests/posix/suite/suite.h"

static long make_by(int how, const char *path)
{
	int fd;

	switch (how) {
	case 0: return mkdir(path, 0755);
	case 1: return mkfifo(path, 0644);
	case 2: return mknod(path, S_IFREG | 0644, 0);
	case 3: return mknod(path, S_IFCHR | 0644, makedev(1, 3));
	case 4: return mknod(path, S_IFBLK | 0644, makedev(254, 255));
	case 5: return mknod(path, S_IFSOCK | 0644, 0);
	case 6: return symlink("somewhere", path);
	case 7: return link("source", path);
	default:
		fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
		if (fd >= 0)
			close(fd);
		return fd;
	}
}
static const struct {
	const char *name;
	mode_t format;
} makers[] = {
	{"mkdir", S_IFDIR}, {"mkfifo", S_IFIFO}, {"mknod_file", S_IFREG}, {"mknod_char", S_IFCHR},
	{"mknod_block", S_IFBLK}, {"mknod_socket", S_IFSOCK}, {"symlink", S_IFLNK},
	{"link", S_IFREG}, {"open_excl", S_IFREG},
};

static void make_over(const struct args *x)
{
	make(T_REG, "source");
	make((enum type)x->b, "name");
	want(EEXIST, make_by((int)x->a, "name"));
	there((enum type)x->b, "name");
}

static void make_plain(const struct args *x)
{
	struct stat parent = status_of("."), st;

	make(T_REG, "source");
	want(0, make_by((int)x->a, "name"));
	st = status_of("name");
	same(st.st_mode & S_IFMT, makers[x->a].format);
	same(st.st_nlink, x->a == 0 || x->a == 7 ? 2 : 1);
	same(st.st_uid, 0);
	same(st.st_gid, 0);
	same(status_of(".").st_nlink, parent.st_nlink + (x->a == 0));
	if (x->a == 3)
		same(st.st_rdev, makedev(1, 3));
	if (x->a == 4)
		same(st.st_rdev, makedev(254, 255));
	if (x->a == 6)
		same(st.st_size, 9);
}

static void make_in_removed(const struct args *x)
{
	make(T_REG, "source");
	want(0, mkdir("d", 0755));
	want(0, chdir("d"));
	want(0, rmdir("../d"));
	if (x->a == 7)
		want(ENOENT, link("../source", "name"));
	else
		want(ENOENT, make_by((int)x->a, "name"));
}

/* Owner, group and mode of what is made, in a plain and a set-gid directory. */
static void make_owner(const struct args *x)
{
	struct stat st;
	mode_t mode;

	want(0, mkdir("d", 0777));
	want(0, chown("d", BOB, CREW));
	want(0, chmod("d", x->b ? 02777 : 0777));
	umask(027);
	user(ALICE, TEAM, 0);
	want(0, make_by((int)x->a, "d/name"));
	st = status_of("d/name");
	same(st.st_uid, ALICE);
	same(st.st_gid, x->b ? CREW : TEAM);
	mode = x->a == 0 ? 0750 : x->a == 6 ? 0777 : 0640;
	if (x->b && x->a == 0)
		mode |= S_ISGID;
	same(st.st_mode & 07777, mode);
}

static void make_long_name(const struct args *x)
{
	char name[NAME_MAX + 1];

	make(T_REG, "source");
	memset(name, 'x', NAME_MAX);
	name[NAME_MAX] = '\0';
	want(0, make_by((int)x->a, name));
	same(status_of(name).st_mode & S_IFMT, makers[x->a].format);
}

static void make_dots(const struct args *x)
{
	make(T_REG, "source");
	want(EEXIST, make_by((int)x->a, x->s));
}

/* ---- removing ---- */

static void unlink_type(const struct args *x)
{
	enum type type = (enum type)x->a;

	make(type, "t");
	if (type_is_dir(type)) {
		want(EISDIR, unlink("t"));
		there(type, "t");
		return;
	}
	want(0, unlink("t"));
	gone("t");
	if (type_followed(type) != T_NONE && type_is_link(type) && type != T_LOOP)
		there(type_followed(type), "t.t");
	make(T_REG, "t"); /* the name is free */
}

static void rmdir_type(const struct args *x)
{
	enum type type = (enum type)x->a;

	make(type, "t");
	want(type == T_DIR ? 0 : type == T_FULL ? ENOTEMPTY : ENOTDIR, rmdir("t"));
	there(type == T_DIR ? T_NONE : type, "t");
}

static void unlinkat_dir(const struct args *x)
{
	make((enum type)x->a, "t");
	want(x->a == T_DIR ? 0 : x->a == T_FULL ? ENOTEMPTY : ENOTDIR,
	     unlinkat(AT_FDCWD, "t", AT_REMOVEDIR));
}

/* A directory with one entry of each type is not empty until that is gone. */
static void rmdir_with(const struct args *x)
{
	want(0, mkdir("d", 0755));
	want(0, mkdir("aside", 0755));
	make((enum type)x->a, "aside/t");
	want(0, rename("aside/t", "d/t"));
	want(ENOTEMPTY, rmdir("d"));
	want(0, remove("d/t"));
	want(0, rmdir("d"));
}

static void rmdir_dots(const struct args *x)
{
	make(T_DIR, "d");
	make(T_DIR, "d/e");
	want((int)x->a, rmdir(x->s));
}

static void unlink_dots(const struct args *x)
{
	make(T_DIR, "d");
	want((int)x->a, unlink(x->s));
}

static void rmdir_nlink(const struct args *x)
{
	make(T_DIR, "d");
	same(status_of("d").st_nlink, 2);
	make(T_DIR, "d/a");
	make(T_DIR, "d/b");
	make(T_REG, "d/f");
	same(status_of("d").st_nlink, 4);
	want(0, rmdir("d/a"));
	same(status_of("d").st_nlink, 3);
	want(0, unlink("d/f"));
	same(status_of("d").st_nlink, 3);
}

/* ---- links ---- */

static void link_type(const struct args *x)
{
	enum type type = (enum type)x->a;
	struct stat a, b;

	make(type, "t");
	if (type_is_dir(type)) {
		want(EPERM, link("t", "other"));
		gone("other");
		return;
	}
	want(0, link("t", "other"));
	a = status_of("t");
	b = status_of("other");
	same(a.st_ino, b.st_ino);
	same(a.st_nlink, 2);
	same(b.st_mode, a.st_mode);
	want(0, unlink("t"));
	same(status_of("other").st_nlink, 1);
	there(type, "other");
}

static void link_follow(const struct args *x)
{
	enum type followed = type_followed((enum type)x->a);

	make((enum type)x->a, "t");
	if (x->a == T_LOOP) {
		want(ELOOP, linkat(AT_FDCWD, "t", AT_FDCWD, "other", AT_SYMLINK_FOLLOW));
		return;
	}
	want(followed == T_NONE ? ENOENT : type_is_dir(followed) ? EPERM : 0,
	     linkat(AT_FDCWD, "t", AT_FDCWD, "other", AT_SYMLINK_FOLLOW));
	if (followed == T_REG)
		same(status_of("other").st_ino, status_of("t.t").st_ino);
}

static void link_many(const struct args *x)
{
	char name[20];

	make(T_REG, "f");
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		want(0, link("f", name));
	}
	same(status_of("f").st_nlink, 101);
	put("l50", "changed");
	holds("f", "changed");
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		want(0, unlink(name));
	}
	same(status_of("f").st_nlink, 1);
}

static void link_opened(const struct args *x)
{
	int fd;
	char path[40];

	make(T_REG, "f");
	fd = (int)want(0, open("f", O_RDWR));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	want(0, linkat(AT_FDCWD, path, AT_FDCWD, "g", AT_SYMLINK_FOLLOW));
	want(0, linkat(fd, "", AT_FDCWD, "h", AT_EMPTY_PATH));
	same(status_of("h").st_nlink, 3);
	want(0, unlink("f"));
	want(0, unlink("g"));
	want(0, unlink("h"));
	/* The last name is gone: there is nothing to come back from. */
	want(ENOENT, linkat(fd, "", AT_FDCWD, "again", AT_EMPTY_PATH));
}

/* ---- symbolic links ---- */

static void readlink_type(const struct args *x)
{
	char text[100];
	long n;

	make((enum type)x->a, "t");
	if (!type_is_link((enum type)x->a)) {
		want(EINVAL, readlink("t", text, sizeof(text)));
		return;
	}
	n = want(0, readlink("t", text, sizeof(text)));
	same(n, x->a == T_LOOP ? 1 : 3);
	that(memcmp(text, "t.t", (size_t)n) == 0);
	same(status_of("t").st_size, n);
}

static void symlink_length(const struct args *x)
{
	char text[PATH_MAX + 2], back[PATH_MAX + 2];

	memset(text, 's', (size_t)x->a);
	text[x->a] = '\0';
	want((int)x->b, symlink(text, "l"));
	if (x->b != 0)
		return;
	same(want(0, readlink("l", back, sizeof(back))), x->a);
	that(memcmp(back, text, (size_t)x->a) == 0);
	same(size_of("l"), x->a);
	/* Cut to the buffer without an error. */
	same(want(0, readlink("l", back, 1)), 1);
	want(EINVAL, readlink("l", back, 0));
}

static void symlink_chain(const struct args *x)
{
	char from[20], to[20];
	struct stat st;

	make(T_REG, "l0");
	for (int i = 1; i <= x->a; i++) {
		snprintf(from, sizeof(from), "l%d", i);
		snprintf(to, sizeof(to), "l%d", i - 1);
		want(0, symlink(to, from));
	}
	want((int)x->b, stat(from, &st));
}

static void symlink_parts(const struct args *x)
{
	make(T_DIR, "d");
	put("d/f", "through");
	want(0, symlink(x->s, "l"));
	holds(x->a ? "l/f" : "l", "through");
}

/* ---- names ---- */

static void name_byte(const struct args *x)
{
	char name[4] = {'a', (char)x->a, 'b', '\0'};

	put(name, "odd name");
	holds(name, "odd name");
	want(0, rename(name, "plain"));
	gone(name);
	want(0, link("plain", name));
	want(0, unlink(name));
}

static void mknod_invalid(const struct args *x)
{
	want((int)x->b, mknod("t", (mode_t)x->a, 0));
}

void suite_add_types(void)
{
	static const struct args none;

	for (size_t i = 0; i < ARRAY_LEN(makers); i++) {
		const char *name = makers[i].name;
		struct args x = {.a = (long)i};

		for (int t = T_REG; t < TYPES; t++)
			suite_add(make_over, (struct args){.a = (long)i, .b = t}, "%s/over_%s", name,
				  type_names[t]);
		suite_add(make_plain, x, "%s/plain", name);
		suite_add(make_in_removed, x, "%s/in_removed_dir", name);
		suite_add(make_long_name, x, "%s/name_of_255", name);
		suite_add(make_dots, (struct args){.a = (long)i, .s = "."}, "%s/dot", name);
		suite_add(make_dots, (struct args){.a = (long)i, .s = ".."}, "%s/dot_dot", name);
		if (i == 3 || i == 4 || i == 7)
			continue; /* not for everybody, or not a new inode */
		suite_add(make_owner, (struct args){.a = (long)i, .b = 0}, "%s/owner", name);
		suite_add(make_owner, (struct args){.a = (long)i, .b = 1}, "%s/owner_in_setgid_dir",
			  name);
	}
	for (int t = T_REG; t < TYPES; t++) {
		struct args x = {.a = t};
		const char *name = type_names[t];

		suite_add(unlink_type, x, "unlink/%s", name);
		suite_add(rmdir_type, x, "rmdir/%s", name);
		suite_add(unlinkat_dir, x, "unlinkat_removedir/%s", name);
		suite_add(link_type, x, "link/%s", name);
		suite_add(readlink_type, x, "readlink/%s", name);
		if (type_is_link((enum type)t))
			suite_add(link_follow, x, "link_follow/%s", name);
		if (t != T_FULL)
			suite_add(rmdir_with, x, "rmdir/holding_%s", name);
	}
	suite_add(rmdir_dots, (struct args){.a = EINVAL, .s = "d/."}, "rmdir/dot");
	suite_add(rmdir_dots, (struct args){.a = ENOTEMPTY, .s = "d/e/.."}, "rmdir/dot_dot");
	suite_add(rmdir_dots, (struct args){.a = EBUSY, .s = "/"}, "rmdir/root");
	suite_add(unlink_dots, (struct args){.a = EISDIR, .s = "d/."}, "unlink/dot");
	suite_add(unlink_dots, (struct args){.a = EISDIR, .s = "d/.."}, "unlink/dot_dot");
	suite_add(unlink_dots, (struct args){.a = EISDIR, .s = "d/"}, "unlink/dir_slash");
	suite_add(rmdir_nlink, none, "rmdir/nlink");
	suite_add(link_many, none, "link/many");
	suite_add(link_opened, none, "link/by_descriptor");
	for (size_t i = 0; i < 7; i++) {
		static const long lengths[] = {1, 59, 60, 255, 256, 1000, PATH_MAX - 1};
		suite_add(symlink_length, (struct args){.a = lengths[i]}, "symlink/length_%ld",
			  lengths[i]);
	}
	suite_add(symlink_length, (struct args){.a = PATH_MAX, .b = ENAMETOOLONG},
		  "symlink/length_too_long");
	suite_add(symlink_chain, (struct args){.a = 40}, "symlink/chain_of_40");
	suite_add(symlink_chain, (struct args){.a = 41, .b = ELOOP}, "symlink/chain_of_41");
	suite_add(symlink_parts, (struct args){.a = 1, .s = "d"}, "symlink/to_dir");
	suite_add(symlink_parts, (struct args){.a = 1, .s = "./d/"}, "symlink/to_dir_slash");
	suite_add(symlink_parts, (struct args){.a = 0, .s = "d/../d/./f"}, "symlink/dots");
	for (int c = 1; c < 256; c++)
		if (c != '/' && (c < 32 || c >= 127 || c % 16 == 10))
			suite_add(name_byte, (struct args){.a = c}, "name/byte_%02x", c);
	suite_add(mknod_invalid, (struct args){.a = S_IFDIR | 0755, .b = EPERM}, "mknod/dir");
	suite_add(mknod_invalid, (struct args){.a = S_IFLNK | 0755, .b = EINVAL}, "mknod/link");
	suite_add(mknod_invalid, (struct args){.a = 0644, .b = 0}, "mknod/no_type");
}
