/* Checks, objects of each type, users. */
#include <grp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/posix/suite/suite.h"

const char *suite_errno(int eno)
{
	const char *name = eno == 0 ? "ok" : strerrorname_np(eno);

	return name ? name : "?";
}

void suite_want(const char *file, int line, const char *text, long got, int eno, int expected)
{
	int result = got == -1 ? eno : 0;

	if (result != expected)
		suite_fail(file, line, "%s: got %s, expected %s", text, suite_errno(result),
			   suite_errno(expected));
}

void suite_same(const char *file, int line, const char *text, long long got, long long expected)
{
	if (got != expected)
		suite_fail(file, line, "%s: got %lld (0%llo), expected %lld (0%llo)", text, got, got,
			   expected, expected);
}

/* ---- objects ---- */

const char *const type_names[TYPES] = {
	"none", "file", "dir", "full_dir", "fifo", "socket", "char_dev", "block_dev",
	"link", "dir_link", "dangling_link", "loop_link",
};

static void make_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = (int)want(0, socket(AF_UNIX, SOCK_STREAM, 0));

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	want(0, bind(fd, (struct sockaddr *)&address, sizeof(address)));
	close(fd);
}

static void make_link(const char *path, enum type target)
{
	const char *base = strrchr(path, '/');
	char beside[PATH_MAX], text[NAME_MAX];

	base = base ? base + 1 : path;
	snprintf(beside, sizeof(beside), "%s.t", path);
	snprintf(text, sizeof(text), "%s.t", base);
	if (target != T_NONE)
		make(target, beside);
	want(0, symlink(text, path));
}

void make(enum type type, const char *path)
{
	char inside[PATH_MAX];

	switch (type) {
	case T_REG: put(path, "data"); break;
	case T_DIR: want(0, mkdir(path, 0755)); break;
	case T_FULL:
		want(0, mkdir(path, 0755));
		snprintf(inside, sizeof(inside), "%s/inside", path);
		put(inside, "inside");
		break;
	case T_FIFO: want(0, mkfifo(path, 0644)); break;
	case T_SOCK: make_socket(path); break;
	case T_CHR: want(0, mknod(path, S_IFCHR | 0644, makedev(1, 3))); break;
	/* A device that nobody has: opening it gives ENXIO. */
	case T_BLK: want(0, mknod(path, S_IFBLK | 0644, makedev(254, 255))); break;
	case T_LINK: make_link(path, T_REG); break;
	case T_DIRLINK: make_link(path, T_DIR); break;
	case T_DANGLING: make_link(path, T_NONE); break;
	case T_LOOP: {
		const char *base = strrchr(path, '/');
		want(0, symlink(base ? base + 1 : path, path));
		break;
	}
	case T_NONE:
	case TYPES: break;
	}
}

bool type_is_dir(enum type type)
{
	return type == T_DIR || type == T_FULL;
}

bool type_is_link(enum type type)
{
	return type >= T_LINK && type < TYPES;
}

enum type type_followed(enum type type)
{
	if (type == T_LINK)
		return T_REG;
	if (type == T_DIRLINK)
		return T_DIR;
	return type == T_DANGLING ? T_NONE : type;
}

mode_t type_format(enum type type)
{
	switch (type) {
	case T_REG: return S_IFREG;
	case T_DIR:
	case T_FULL: return S_IFDIR;
	case T_FIFO: return S_IFIFO;
	case T_SOCK: return S_IFSOCK;
	case T_CHR: return S_IFCHR;
	case T_BLK: return S_IFBLK;
	case T_NONE: return 0;
	default: return S_IFLNK;
	}
}

void there(enum type type, const char *path)
{
	struct stat st;

	if (type == T_NONE) {
		gone(path);
		return;
	}
	want(0, lstat(path, &st));
	same(st.st_mode & S_IFMT, type_format(type));
}

void gone(const char *path)
{
	struct stat st;

	want(ENOENT, lstat(path, &st));
}

void put(const char *path, const char *text)
{
	int fd = (int)want(0, open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));

	same(write(fd, text, strlen(text)), (long)strlen(text));
	want(0, close(fd));
}

void holds(const char *path, const char *text)
{
	char bytes[1024];
	int fd = (int)want(0, open(path, O_RDONLY));
	long n = want(0, read(fd, bytes, sizeof(bytes)));

	close(fd);
	if (n != (long)strlen(text) || memcmp(bytes, text, (size_t)n) != 0)
		suite_fail(__FILE__, __LINE__, "%s holds \"%.*s\", expected \"%s\"", path, (int)n,
			   bytes, text);
}

struct stat status_of(const char *path)
{
	struct stat st = {0};

	want(0, lstat(path, &st));
	return st;
}

long long size_of(const char *path)
{
	return status_of(path).st_size;
}

void tick(void)
{
	const struct timespec pause = {.tv_nsec = 12 * 1000 * 1000};

	nanosleep(&pause, NULL);
}

int time_order(struct timespec a, struct timespec b)
{
	if (a.tv_sec != b.tv_sec)
		return a.tv_sec < b.tv_sec ? -1 : 1;
	return (a.tv_nsec > b.tv_nsec) - (a.tv_nsec < b.tv_nsec);
}

/* ---- users and processes ---- */

void user(uid_t uid, gid_t gid, gid_t extra)
{
	user_root();
	want(0, setgroups(extra != 0, &extra));
	want(0, setresgid(gid, gid, 0));
	/* The saved id stays root's, so that user_root can go back. */
	want(0, setresuid(uid, uid, 0));
}

void user_root(void)
{
	want(0, setresuid(0, 0, 0));
	want(0, setresgid(0, 0, 0));
	want(0, setgroups(0, NULL));
}

void wait_for_child(pid_t pid)
{
	int status = 0;

	want(0, waitpid(pid, &status, 0));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
		_exit(1); /* it has told why */
	if (status != 0)
		suite_fail(__FILE__, __LINE__, "the child ended with status %x", (unsigned)status);
}

void in_child(void (*fn)(const struct args *x), const struct args *x)
{
	pid_t pid = fork();

	if (pid == 0) {
		fn(x);
		_exit(0);
	}
	want(0, pid);
	wait_for_child(pid);
}
