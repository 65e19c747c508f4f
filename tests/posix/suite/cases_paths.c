/* Every call that takes a path, times every way in which a path can be wrong. */
#include <dirent.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

#include "tests/posix/suite/suite.h"

/* ---- the calls: 0 or more, or -1 with errno ---- */

static long closed(int fd)
{
	if (fd >= 0)
		close(fd);
	return fd;
}
static long call_open(const char *p) { return closed(open(p, O_RDONLY)); }
static long call_open_write(const char *p) { return closed(open(p, O_WRONLY)); }
static long call_open_path(const char *p) { return closed(open(p, O_PATH)); }
static long call_open_creat(const char *p) { return closed(open(p, O_CREAT | O_RDWR, 0644)); }
static long call_open_excl(const char *p) { return closed(open(p, O_CREAT | O_EXCL | O_RDWR, 0644)); }
static long call_creat(const char *p) { return closed(creat(p, 0644)); }
static long call_opendir(const char *p) { return closed(open(p, O_RDONLY | O_DIRECTORY)); }
static long call_mkdir(const char *p) { return mkdir(p, 0755); }
static long call_mkfifo(const char *p) { return mkfifo(p, 0644); }
static long call_mknod(const char *p) { return mknod(p, S_IFREG | 0644, 0); }
static long call_link_from(const char *p) { return link(p, "made"); }
static long call_link_to(const char *p) { return link("source", p); }
static long call_symlink(const char *p) { return symlink("anything", p); }
static long call_readlink(const char *p) { char b[10]; return readlink(p, b, sizeof(b)); }
static long call_unlink(const char *p) { return unlink(p); }
static long call_rmdir(const char *p) { return rmdir(p); }
static long call_rename_from(const char *p) { return rename(p, "made"); }
static long call_rename_to(const char *p) { return rename("source", p); }
static long call_exchange(const char *p)
{
	return renameat2(AT_FDCWD, "source", AT_FDCWD, p, RENAME_EXCHANGE);
}
static long call_noreplace(const char *p)
{
	return renameat2(AT_FDCWD, "source", AT_FDCWD, p, RENAME_NOREPLACE);
}
static long call_chmod(const char *p) { return chmod(p, 0600); }
static long call_chown(const char *p) { return chown(p, 1, 1); }
static long call_lchown(const char *p) { return lchown(p, 1, 1); }
static long call_utimensat(const char *p) { return utimensat(AT_FDCWD, p, NULL, 0); }
static long call_lutimes(const char *p) { return utimensat(AT_FDCWD, p, NULL, AT_SYMLINK_NOFOLLOW); }
static long call_truncate(const char *p) { return truncate(p, 3); }
static long call_stat(const char *p) { struct stat s; return stat(p, &s); }
static long call_lstat(const char *p) { struct stat s; return lstat(p, &s); }
static long call_statx(const char *p)
{
	struct statx s;
	return statx(AT_FDCWD, p, 0, STATX_ALL, &s);
}
static long call_access(const char *p) { return access(p, F_OK); }
static long call_statfs(const char *p) { struct statfs s; return statfs(p, &s); }
static long call_chdir(const char *p) { return chdir(p); }
static long call_setxattr(const char *p) { return setxattr(p, "user.a", "v", 1, 0); }
static long call_getxattr(const char *p) { char b[10]; return getxattr(p, "user.a", b, sizeof(b)); }
static long call_listxattr(const char *p) { char b[100]; return listxattr(p, b, sizeof(b)); }
static long call_removexattr(const char *p) { return removexattr(p, "user.a"); }

enum {
	MAKES = 1,   /* makes the name: that it is missing is no error */
	DIRS = 2,    /* of directories: a trailing slash is right */
	NOFOLLOW = 4, /* acts on a symbolic link itself */
};

static const struct path_call {
	const char *name;
	long (*call)(const char *path);
	int flags;
} calls[] = {
	{"open", call_open, 0},
	{"open_write", call_open_write, 0},
	{"open_path", call_open_path, 0},
	{"open_creat", call_open_creat, MAKES},
	{"open_excl", call_open_excl, MAKES | NOFOLLOW},
	{"creat", call_creat, MAKES},
	{"opendir", call_opendir, DIRS},
	{"mkdir", call_mkdir, MAKES | DIRS | NOFOLLOW},
	{"mkfifo", call_mkfifo, MAKES | NOFOLLOW},
	{"mknod", call_mknod, MAKES | NOFOLLOW},
	{"link_from", call_link_from, NOFOLLOW},
	{"link_to", call_link_to, MAKES | NOFOLLOW},
	{"symlink", call_symlink, MAKES | NOFOLLOW},
	{"readlink", call_readlink, NOFOLLOW},
	{"unlink", call_unlink, NOFOLLOW},
	{"rmdir", call_rmdir, DIRS | NOFOLLOW},
	{"rename_from", call_rename_from, NOFOLLOW},
	{"rename_to", call_rename_to, MAKES | NOFOLLOW},
	{"exchange", call_exchange, NOFOLLOW},
	{"noreplace", call_noreplace, MAKES | NOFOLLOW},
	{"chmod", call_chmod, 0},
	{"chown", call_chown, 0},
	{"lchown", call_lchown, NOFOLLOW},
	{"utimensat", call_utimensat, 0},
	{"lutimes", call_lutimes, NOFOLLOW},
	{"truncate", call_truncate, 0},
	{"stat", call_stat, 0},
	{"lstat", call_lstat, NOFOLLOW},
	{"statx", call_statx, 0},
	{"access", call_access, 0},
	{"statfs", call_statfs, 0},
	{"chdir", call_chdir, DIRS},
	{"setxattr", call_setxattr, 0},
	{"getxattr", call_getxattr, 0},
	{"listxattr", call_listxattr, 0},
	{"removexattr", call_removexattr, 0},
};

/* ---- the ways ---- */

/* A component of the path is not a directory. */
static void path_through(const struct args *x)
{
	const struct path_call *c = x->p;
	enum type type = (enum type)x->a;

	make(T_REG, "source");
	make(type, "t");
	want(type == T_LOOP ? ELOOP : type_followed(type) == T_NONE ? ENOENT : ENOTDIR,
	     c->call("t/name"));
}

static void path_long_name(const struct args *x)
{
	const struct path_call *c = x->p;
	char name[NAME_MAX + 2];

	make(T_REG, "source");
	memset(name, 'n', NAME_MAX + 1);
	name[NAME_MAX + 1] = '\0';
	want(ENAMETOOLONG, c->call(name));
}

static void path_long_path(const struct args *x)
{
	const struct path_call *c = x->p;
	char path[PATH_MAX + 10];

	make(T_REG, "source");
	for (int i = 0; i < PATH_MAX; i += 2)
		memcpy(path + i, "./", 2);
	strcpy(path + PATH_MAX, "name");
	want(ENAMETOOLONG, c->call(path));
}

/* As long as a path may be: PATH_MAX bytes with the NUL. */
static void path_longest(const struct args *x)
{
	const struct path_call *c = x->p;
	bool dir = (c->flags & DIRS) != 0;
	char path[PATH_MAX];
	int i;

	make(T_REG, "source");
	if (!(c->flags & MAKES))
		make(dir ? T_DIR : T_REG, "object");
	for (i = 0; i + 8 < PATH_MAX; i += 2)
		memcpy(path + i, "./", 2);
	/* 4088 bytes so far; the name takes seven at most. */
	strcpy(path + i, "object");
	if (c->call == call_readlink)
		want(EINVAL, c->call(path));
	else if (c->call == call_getxattr || c->call == call_removexattr)
		want(ENODATA, c->call(path));
	else
		want(0, c->call(path));
}

static void path_missing(const struct args *x)
{
	const struct path_call *c = x->p;

	make(T_REG, "source");
	want(ENOENT, c->call("nothing"));
}

static void path_empty(const struct args *x)
{
	const struct path_call *c = x->p;

	make(T_REG, "source");
	want(ENOENT, c->call(""));
}

static void path_fault(const struct args *x)
{
	const struct path_call *c = x->p;

	make(T_REG, "source");
	want(EFAULT, c->call((const char *)8));
}

static void path_loop(const struct args *x)
{
	const struct path_call *c = x->p;

	make(T_REG, "source");
	make(T_LOOP, "loop");
	want(ELOOP, c->call("loop"));
}

static void path_slash(const struct args *x)
{
	const struct path_call *c = x->p;

	make(T_REG, "source");
	make(T_REG, "file");
	/* Making a name with a slash is refused for the slash or for what is there. */
	if (c->call == call_open_creat || c->call == call_creat || c->call == call_open_excl)
		want(EISDIR, c->call("file/"));
	else if (c->flags & MAKES && c->call != call_rename_to)
		want(EEXIST, c->call("file/"));
	else
		want(ENOTDIR, c->call("file/"));
}

static void path_no_search(const struct args *x)
{
	const struct path_call *c = x->p;

	want(0, chmod(".", 0777));
	make(T_REG, "source");
	want(0, chmod("source", 0777));
	want(0, mkdir("closed", 0777));
	make((c->flags & DIRS) ? T_DIR : T_REG, "closed/name");
	want(0, chmod("closed/name", 0777));
	want(0, chmod("closed", 0666));
	user(ALICE, TEAM, 0);
	want(EACCES, c->call("closed/name"));
}

void suite_add_paths(void)
{
	static const enum type through[] = {T_REG, T_FIFO, T_SOCK, T_CHR, T_BLK, T_LINK, T_DANGLING,
					    T_LOOP};

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		const struct path_call *c = &calls[i];
		struct args x = {.p = c};

		for (size_t k = 0; k < ARRAY_LEN(through); k++)
			suite_add(path_through, (struct args){.p = c, .a = through[k]},
				  "%s/path_through_%s", c->name, type_names[through[k]]);
		suite_add(path_long_name, x, "%s/name_too_long", c->name);
		suite_add(path_long_path, x, "%s/path_too_long", c->name);
		if (c->call != call_exchange)
			suite_add(path_longest, x, "%s/path_longest", c->name);
		suite_add(path_empty, x, "%s/path_empty", c->name);
		suite_add(path_fault, x, "%s/path_fault", c->name);
		suite_add(path_slash, x, "%s/slash_behind_file", c->name);
		suite_add(path_no_search, x, "%s/no_search_permission", c->name);
		if (!(c->flags & MAKES))
			suite_add(path_missing, x, "%s/missing", c->name);
		if (!(c->flags & NOFOLLOW) && c->call != call_open_path)
			suite_add(path_loop, x, "%s/loop", c->name);
	}
}
