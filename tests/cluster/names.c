/* Names and inodes as POSIX and Linux have them: see tests/lib/cases.h. */
#include <dirent.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "tests/lib/cases.h"

static int rename2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

static int bind_socket(int dir, const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s", dir, name);
	r = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	close(fd);
	return r;
}

static void types(void)
{
	char buf[4];
	int fd;

	WORKS(mkfifoat(here, "fifo", 0640));
	WORKS(bind_socket(here, "socket"));
	WORKS(symlinkat("target", here, "link"));
	WORKS(mkdirat(here, "dir", 0751));
	WORKS(mknodat(here, "file", S_IFREG | 0604, 0));
	CHECK(stat_of(there, "fifo").st_mode == (S_IFIFO | 0640));
	CHECK(S_ISSOCK(stat_of(there, "socket").st_mode));
	CHECK(stat_of(there, "link").st_mode == (S_IFLNK | 0777));
	CHECK(stat_of(there, "dir").st_mode == (S_IFDIR | 0751));
	CHECK(stat_of(there, "file").st_mode == (S_IFREG | 0604));
	fd = openat(here, "fifo", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	WORKS(fd);
	CHECK(write(fd, "abc", 3) == 3 && read(fd, buf, sizeof(buf)) == 3);
	close(fd);
	FAILS(mkfifoat(here, "dir", 0600), EEXIST);
	FAILS(mkdirat(here, "link", 0700), EEXIST);
	FAILS(symlinkat("x", here, "file"), EEXIST);
	FAILS(openat(here, "socket", O_RDONLY), ENXIO);
	FAILS(openat(here, "link", O_RDONLY | O_NOFOLLOW), ELOOP);
	FAILS(openat(here, "file", O_RDONLY | O_DIRECTORY), ENOTDIR);
	FAILS(openat(here, "dir", O_WRONLY), EISDIR);
	FAILS(openat(here, "file/x", O_RDONLY), ENOTDIR);
}

static void devices(void)
{
	WORKS(mknodat(here, "char", S_IFCHR | 0600, makedev(1, 3)));
	WORKS(mknodat(here, "block", S_IFBLK | 0600, makedev(259, 70000)));
	CHECK(stat_of(there, "char").st_rdev == makedev(1, 3));
	CHECK(stat_of(there, "block").st_rdev == makedev(259, 70000));
}

static void symlinks(void)
{
	char target[4097], got[5000];

	memset(target, 't', sizeof(target));
	target[4095] = '\0';
	WORKS(symlinkat(target, here, "long"));
	CHECK(readlinkat(there, "long", got, sizeof(got)) == 4095);
	CHECK(memcmp(target, got, 4095) == 0);
	CHECK(stat_of(there, "long").st_size == 4095);
	CHECK(readlinkat(there, "long", got, 10) == 10);
	target[4095] = 't';
	target[4096] = '\0';
	FAILS(symlinkat(target, here, "longer"), ENAMETOOLONG);
	FAILS(symlinkat("", here, "empty"), ENOENT);
	WORKS(symlinkat("loop", here, "loop"));
	FAILS(openat(here, "loop", O_RDONLY), ELOOP);
	FAILS(readlinkat(here, ".", got, sizeof(got)), EINVAL);
}

static void any_byte(void)
{
	char name[257] = {0};

	for (int c = 1; c < 256; c++) {
		name[0] = (char)c;
		if (c == '/' || c == '.')
			continue;
		if (!CHECK(mknodat(here, name, S_IFREG | 0600, 0) == 0) ||
		    !CHECK(S_ISREG(stat_of(there, name).st_mode)))
			printf("#   byte %d\n", c);
	}
	memset(name, '\xff', 255);
	WORKS(mkdirat(here, name, 0700));
	CHECK(S_ISDIR(stat_of(there, name).st_mode));
	name[255] = 'x';
	FAILS(mkdirat(here, name, 0700), ENAMETOOLONG);
	FAILS(faccessat(here, name, F_OK, 0), ENAMETOOLONG);
	FAILS(renameat(here, "a", here, name), ENAMETOOLONG);
	FAILS(linkat(here, "a", here, name, 0), ENAMETOOLONG);
	FAILS(unlinkat(here, name, 0), ENAMETOOLONG);
	FAILS(unlinkat(here, ".", AT_REMOVEDIR), EINVAL);
	FAILS(unlinkat(here, "..", AT_REMOVEDIR), ENOTEMPTY);
}

static void links(void)
{
	struct stat before, after;

	WORKS(touch(here, "f", 0644));
	before = stat_of(here, "f");
	WORKS(linkat(here, "f", here, "g", 0));
	after = stat_of(there, "g");
	CHECK(after.st_ino == before.st_ino && after.st_nlink == 2);
	CHECK(later(after.st_ctim, before.st_ctim) && !later(after.st_mtim, before.st_mtim));
	WORKS(mkdirat(here, "d", 0755));
	FAILS(linkat(here, "d", here, "e", 0), EPERM);
	FAILS(linkat(here, "f", here, "g", 0), EEXIST);
	FAILS(linkat(here, "none", here, "h", 0), ENOENT);
	WORKS(unlinkat(there, "f", 0));
	CHECK(stat_of(here, "g").st_nlink == 1);
	WORKS(symlinkat("g", here, "s"));
	WORKS(linkat(here, "s", here, "s2", 0));
	CHECK(S_ISLNK(stat_of(there, "s2").st_mode));
	WORKS(linkat(here, "s", here, "g2", AT_SYMLINK_FOLLOW));
	CHECK(S_ISREG(stat_of(there, "g2").st_mode));
}

static void directory_links(void)
{
	WORKS(mkdirat(here, "a", 0755));
	WORKS(mkdirat(here, "b", 0755));
	WORKS(mkdirat(here, "a/sub", 0755));
	WORKS(mkdirat(here, "a/sub/x", 0755));
	CHECK(stat_of(there, "a").st_nlink == 3 && stat_of(there, "a/sub").st_nlink == 3);
	WORKS(renameat(here, "a/sub", here, "b/moved"));
	CHECK(stat_of(there, "a").st_nlink == 2 && stat_of(there, "b").st_nlink == 3);
	CHECK(stat_of(there, "b/moved/..").st_ino == stat_of(here, "b").st_ino);
	CHECK(stat_of(here, "b/moved/..").st_ino == stat_of(here, "b").st_ino);
	FAILS(unlinkat(here, "b", AT_REMOVEDIR), ENOTEMPTY);
	FAILS(unlinkat(here, "b", 0), EISDIR);
	WORKS(unlinkat(here, "b/moved/x", AT_REMOVEDIR));
	WORKS(unlinkat(here, "b/moved", AT_REMOVEDIR));
	CHECK(stat_of(there, "b").st_nlink == 2);
}

/* What may replace what: kinds f(ile), e(mpty directory), n(ot empty), s(ymlink), -: absent. */
static void put(const char *name, char kind)
{
	char path[64];

	switch (kind) {
	case 'f': WORKS(touch(here, name, 0644)); break;
	case 's': WORKS(symlinkat("dangling", here, name)); break;
	case 'e': WORKS(mkdirat(here, name, 0755)); break;
	case 'n':
		WORKS(mkdirat(here, name, 0755));
		snprintf(path, sizeof(path), "%s/in", name);
		WORKS(touch(here, path, 0644));
		break;
	default: break;
	}
}

static void take(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/in", name);
	unlinkat(here, path, 0);
	if (unlinkat(here, name, 0) < 0)
		unlinkat(here, name, AT_REMOVEDIR);
}

static void rename_kinds(void)
{
	static const struct { char from, to; int eno; } rows[] = {
		{'f', '-', 0}, {'f', 'f', 0}, {'f', 's', 0}, {'f', 'e', EISDIR}, {'f', 'n', EISDIR},
		{'s', 'f', 0}, {'s', 's', 0}, {'s', 'e', EISDIR}, {'e', '-', 0}, {'e', 'e', 0},
		{'e', 'n', ENOTEMPTY}, {'e', 'f', ENOTDIR}, {'e', 's', ENOTDIR}, {'n', 'e', 0},
		{'n', 'n', ENOTEMPTY}, {'n', 'f', ENOTDIR}, {'-', 'f', ENOENT}, {'-', '-', ENOENT},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct stat moved;
		int r;
		put("from", rows[i].from);
		put("to", rows[i].to);
		moved = stat_of(there, "from");
		r = renameat(here, "from", here, "to");
		if (!CHECK(rows[i].eno ? r < 0 && errno == rows[i].eno : r == 0) ||
		    (rows[i].eno == 0 && (!CHECK(stat_of(there, "to").st_ino == moved.st_ino) ||
					  !CHECK(stat_of(there, "from").st_ino == 0))))
			printf("#   %c over %c\n", rows[i].from, rows[i].to);
		take("from");
		take("to");
	}
	WORKS(mkdirat(here, "d", 0755));
	WORKS(mkdirat(here, "d/e", 0755));
	FAILS(renameat(here, "d", here, "d/e/x"), EINVAL);
	FAILS(renameat(here, "d", here, "d/e"), EINVAL);
	FAILS(renameat(here, "d/e", here, "d"), ENOTEMPTY);
	FAILS(renameat(here, "d/.", here, "x"), EBUSY);
	WORKS(renameat(here, "d", here, "d"));
	WORKS(touch(here, "f", 0644));
	WORKS(linkat(here, "f", here, "g", 0));
	WORKS(renameat(here, "f", here, "g"));
	CHECK(stat_of(there, "f").st_nlink == 2);
}

static void rename_flags(void)
{
	ino_t f, d;

	WORKS(touch(here, "f", 0644));
	WORKS(mkdirat(here, "d", 0755));
	WORKS(mkdirat(here, "d/e", 0755));
	f = stat_of(here, "f").st_ino;
	d = stat_of(here, "d/e").st_ino;
	FAILS(rename2(here, "f", here, "d", RENAME_NOREPLACE), EEXIST);
	FAILS(rename2(here, "f", here, "none", RENAME_EXCHANGE), ENOENT);
	FAILS(rename2(here, "f", here, "d", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
	FAILS(rename2(here, "d", here, "d/e", RENAME_EXCHANGE), EINVAL);
	WORKS(rename2(here, "f", here, "d/e", RENAME_EXCHANGE));
	CHECK(stat_of(there, "f").st_ino == d && stat_of(there, "d/e").st_ino == f);
	CHECK(stat_of(there, "d").st_nlink == 2 && stat_of(there, "f/..").st_ino ==
	      stat_of(there, ".").st_ino);
	WORKS(rename2(here, "d/e", here, "new", RENAME_NOREPLACE));
	CHECK(stat_of(there, "new").st_ino == f);
}

static void whiteouts(void)
{
	struct stat st;

	WORKS(touch(here, "f", 0644));
	WORKS(touch(here, "g", 0644));
	WORKS(rename2(here, "f", here, "g", RENAME_WHITEOUT));
	st = stat_of(there, "f");
	CHECK(S_ISCHR(st.st_mode) && st.st_rdev == 0 && st.st_nlink == 1);
	CHECK(S_ISREG(stat_of(there, "g").st_mode));
	WORKS(mkdirat(here, "d", 0755));
	WORKS(rename2(here, "d", here, "e", RENAME_WHITEOUT | RENAME_NOREPLACE));
	CHECK(S_ISCHR(stat_of(there, "d").st_mode) && S_ISDIR(stat_of(there, "e").st_mode));
	FAILS(rename2(here, "g", here, "e", RENAME_WHITEOUT | RENAME_EXCHANGE), EINVAL);
	WORKS(unlinkat(here, "d", 0));
}

static void tmpfiles(void)
{
	char path[64], buf[4];
	struct stat st;
	int fd = openat(here, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0640);

	if (!WORKS(fd))
		return;
	CHECK(write(fd, "abc", 3) == 3 && pread(fd, buf, 4, 0) == 3);
	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 3 &&
	      st.st_mode == (S_IFREG | 0640));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	WORKS(linkat(AT_FDCWD, path, here, "named", AT_SYMLINK_FOLLOW));
	close(fd);
	st = stat_of(there, "named");
	CHECK(st.st_nlink == 1 && st.st_size == 3);
	fd = openat(here, ".", O_TMPFILE | O_WRONLY | O_EXCL | O_CLOEXEC, 0600);
	WORKS(fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	FAILS(linkat(AT_FDCWD, path, here, "never", AT_SYMLINK_FOLLOW), ENOENT);
	close(fd);
	FAILS(openat(here, ".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
}

static void birth_time(void)
{
	struct statx a = {0}, b = {0};

	WORKS(touch(here, "f", 0644));
	WORKS(statx(there, "f", 0, STATX_BTIME | STATX_BASIC_STATS, &a));
	CHECK((a.stx_mask & STATX_BTIME) && a.stx_btime.tv_sec > 1000000000);
	CHECK(a.stx_size == 3 && a.stx_mode == (S_IFREG | 0644));
	WORKS(fchmodat(here, "f", 0600, 0));
	WORKS(statx(there, "f", 0, STATX_BTIME | STATX_BASIC_STATS, &b));
	CHECK(a.stx_btime.tv_sec == b.stx_btime.tv_sec && a.stx_btime.tv_nsec == b.stx_btime.tv_nsec);
	CHECK(b.stx_mode == (S_IFREG | 0600));
}

/* Every name that was there all the time is told once, whatever comes and goes meanwhile, also
 * after going back to a place that was remembered. */
static void directory_places(void)
{
	enum { N = 500 };
	static unsigned char seen[N], again[N];
	DIR *d = fdopendir(openat(there, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *e;
	long place = -1;
	unsigned n = 0;
	char name[32];

	memset(seen, 0, sizeof(seen));
	memset(again, 0, sizeof(again));
	for (unsigned i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "keep%u", i);
		CHECK(mknodat(here, name, S_IFREG | 0600, 0) == 0);
		snprintf(name, sizeof(name), "go%u", i);
		CHECK(mknodat(here, name, S_IFREG | 0600, 0) == 0);
	}
	while ((e = readdir(d))) {
		unsigned i;
		if (sscanf(e->d_name, "keep%u", &i) == 1 && i < N) {
			seen[i]++;
			again[i] += place >= 0;
			n++;
		}
		snprintf(name, sizeof(name), "go%u", n);
		unlinkat(here, name, 0);
		snprintf(name, sizeof(name), "come%u", n);
		mknodat(here, name, S_IFREG | 0600, 0);
		if (n == N / 2 && place < 0)
			place = telldir(d);
	}
	for (unsigned i = 0; i < N; i++)
		CHECK(seen[i] == 1);
	seekdir(d, place);
	memset(seen, 0, sizeof(seen));
	while ((e = readdir(d))) {
		unsigned i;
		if (sscanf(e->d_name, "keep%u", &i) == 1 && i < N)
			seen[i]++;
	}
	for (unsigned i = 0; i < N; i++)
		CHECK(seen[i] == again[i]);
	closedir(d);
}

/* As an NFS server does it. */
static void handles(void)
{
	struct {
		struct file_handle h;
		unsigned char bytes[128];
	} f = {.h = {.handle_bytes = 128}}, d = {.h = {.handle_bytes = 128}};
	char buf[4], link[64], target[4096];
	struct stat st;
	int id, fd;

	WORKS(mkdirat(here, "d", 0755));
	WORKS(mkdirat(here, "d/e", 0755));
	WORKS(touch(here, "d/e/f", 0644));
	WORKS(name_to_handle_at(here, "d/e/f", &f.h, &id, 0));
	WORKS(name_to_handle_at(here, "d/e", &d.h, &id, 0));
	fd = open_by_handle_at(there, &f.h, O_RDONLY);
	WORKS(fd);
	CHECK(read(fd, buf, 4) == 3);
	close(fd);
	WORKS(renameat(here, "d/e", here, "moved"));
	fd = open_by_handle_at(there, &d.h, O_RDONLY | O_DIRECTORY);
	WORKS(fd);
	CHECK(fstatat(fd, "..", &st, 0) == 0 && st.st_ino == stat_of(there, ".").st_ino);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	CHECK(readlink(link, target, sizeof(target)) > 0);
	close(fd);
	WORKS(unlinkat(here, "moved/f", 0));
	FAILS(open_by_handle_at(there, &f.h, O_RDONLY), ESTALE);
}

/* What was removed while somebody still refers to it. */
static void removed(void)
{
	int dir, link, fifo, file, status = -1;
	struct stat st;
	pid_t pid;

	WORKS(mkdirat(here, "d", 0755));
	WORKS(mkdirat(here, "e", 0755));
	WORKS(symlinkat("x", here, "s"));
	WORKS(mkfifoat(here, "p", 0600));
	WORKS(touch(here, "f", 0600));
	dir = openat(here, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	link = openat(here, "s", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	fifo = openat(here, "p", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	file = openat(here, "f", O_PATH | O_CLOEXEC);
	WORKS(unlinkat(here, "s", 0));
	WORKS(unlinkat(here, "p", 0));
	WORKS(renameat(here, "e", here, "d"));
	WORKS(unlinkat(here, "f", 0));
	CHECK(fstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_nlink == 0);
	CHECK(fstat(link, &st) == 0 && S_ISLNK(st.st_mode) && st.st_nlink == 0);
	CHECK(fstat(fifo, &st) == 0 && S_ISFIFO(st.st_mode) && st.st_nlink == 0);
	CHECK(fstat(file, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 0);
	FAILS(openat(dir, "new", O_CREAT | O_WRONLY, 0600), ENOENT);
	FAILS(mkdirat(dir, "new", 0700), ENOENT);
	close(dir);
	close(link);
	close(fifo);
	close(file);
	/* A working directory. */
	pid = fork();
	if (pid == 0)
		_exit(fchdir(here) < 0 || chdir("d") < 0 || rmdir("../d") < 0 ||
		      stat(".", &st) < 0 || stat("..", &st) < 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void directory_sync(void)
{
	int fd;

	WORKS(touch(here, "f", 0644));
	WORKS(fsync(here));
	WORKS(fdatasync(here));
	fd = openat(here, "f", O_RDONLY | O_CLOEXEC);
	WORKS(fsync(fd));
	close(fd);
	WORKS(syncfs(here));
}

static const struct fs_case cases[] = {
	{"types", types, false}, {"devices", devices, true}, {"symlinks", symlinks, false},
	{"any_byte", any_byte, false}, {"links", links, false},
	{"directory_links", directory_links, false}, {"rename_kinds", rename_kinds, false},
	{"rename_flags", rename_flags, false}, {"whiteouts", whiteouts, true},
	{"tmpfiles", tmpfiles, false}, {"birth_time", birth_time, false},
	{"directory_places", directory_places, false}, {"handles", handles, true},
	{"removed", removed, false}, {"directory_sync", directory_sync, false},
};

int main(int argc, char **argv)
{
	return cases_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
