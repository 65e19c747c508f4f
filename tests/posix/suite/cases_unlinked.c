/* Files that are open without a name. */
#include <sys/xattr.h>

#include "tests/posix/suite/suite.h"

static int unlinked(void)
{
	int fd;

	put("f", "content");
	fd = (int)want(0, open("f", O_RDWR));
	want(0, unlink("f"));
	return fd;
}

static void reads_and_writes(const struct args *x)
{
	char bytes[20];
	int fd = unlinked();

	same(want(0, pread(fd, bytes, 20, 0)), 7);
	same(want(0, pwrite(fd, "more", 4, 7)), 4);
	same(want(0, pread(fd, bytes, 20, 0)), 11);
	that(memcmp(bytes, "contentmore", 11) == 0);
	want(0, fsync(fd));
}

static void attributes(const struct args *x)
{
	const struct timespec set[2] = {{1, 2}, {3, 4}};
	struct stat st;
	int fd = unlinked();

	want(0, fstat(fd, &st));
	same(st.st_nlink, 0);
	same(st.st_size, 7);
	want(0, fchmod(fd, 0600));
	want(0, fchown(fd, 5, 6));
	want(0, futimens(fd, set));
	want(0, ftruncate(fd, 3));
	want(0, fsetxattr(fd, "user.a", "v", 1, 0));
	want(0, fstat(fd, &st));
	same(st.st_mode, S_IFREG | 0600);
	same(st.st_uid, 5);
	same(st.st_gid, 6);
	same(st.st_size, 3);
}

static void name_is_free(const struct args *x)
{
	struct stat a, b;
	int fd = unlinked();

	put("f", "another");
	holds("f", "another");
	want(0, fstat(fd, &a));
	b = status_of("f");
	that(a.st_ino != b.st_ino);
	same(a.st_nlink, 0);
}

static void opened_again(const struct args *x)
{
	char path[50], byte;
	int fd = unlinked(), again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = (int)want(0, open(path, O_RDWR));
	close(fd);
	same(want(0, pread(again, &byte, 1, 0)), 1);
	same(want(0, pwrite(again, "z", 1, 0)), 1);
}

static void big_file(const struct args *x)
{
	static char data[300000], back[300000];
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));

	want(0, unlink("f"));
	memset(data, 'u', sizeof(data));
	same(want(0, write(fd, data, sizeof(data))), (long)sizeof(data));
	same(want(0, pread(fd, back, sizeof(back), 0)), (long)sizeof(back));
	that(memcmp(data, back, sizeof(data)) == 0);
}

static void parent_removed(const struct args *x)
{
	char byte;
	int fd;

	make(T_DIR, "d");
	put("d/f", "x");
	fd = (int)want(0, open("d/f", O_RDWR));
	want(0, unlink("d/f"));
	want(0, rmdir("d"));
	same(want(0, pread(fd, &byte, 1, 0)), 1);
	same(want(0, pwrite(fd, "y", 1, 1)), 1);
}

static void tmpfile_linked(const struct args *x)
{
	char path[50];
	int fd = (int)want(0, open(".", O_TMPFILE | O_RDWR | (x->a ? O_EXCL : 0), 0640));

	same(want(0, write(fd, "unnamed", 7)), 7);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	want(x->a ? ENOENT : 0, linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	if (x->a)
		return;
	holds("named", "unnamed");
	same(status_of("named").st_nlink, 1);
	same(status_of("named").st_mode, S_IFREG | 0640);
}

static void tmpfile_leaves_nothing(const struct args *x)
{
	int fd;

	make(T_DIR, "d");
	fd = (int)want(0, open("d", O_TMPFILE | O_RDWR, 0600));
	same(want(0, write(fd, "x", 1)), 1);
	want(0, close(fd));
	want(0, rmdir("d"));
}

static void rmdir_open_cwd(const struct args *x)
{
	struct stat st;

	make(T_DIR, "d");
	want(0, chdir("d"));
	want(0, rmdir("../d"));
	want(ENOENT, open("f", O_CREAT | O_RDWR, 0644));
	want(0, stat(".", &st));
	same(st.st_nlink, 0);
}

void suite_add_unlinked(void)
{
	static const struct args none;

	suite_add(reads_and_writes, none, "unlinked/data");
	suite_add(attributes, none, "unlinked/attributes");
	suite_add(name_is_free, none, "unlinked/name_is_free");
	suite_add(opened_again, none, "unlinked/opened_again");
	suite_add(big_file, none, "unlinked/big");
	suite_add(parent_removed, none, "unlinked/parent_removed");
	suite_add(tmpfile_linked, none, "tmpfile/linked");
	suite_add(tmpfile_linked, (struct args){.a = 1}, "tmpfile/excl_not_linked");
	suite_add(tmpfile_leaves_nothing, none, "tmpfile/leaves_nothing");
	suite_add(rmdir_open_cwd, none, "unlinked/current_dir");
}
