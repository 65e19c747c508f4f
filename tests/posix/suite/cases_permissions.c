/* Who may do what: mode bits by class, sticky directories, owners' rights. */
#include <dirent.h>
#include <sys/xattr.h>

#include "tests/posix/suite/suite.h"

enum who { OWNER, GROUP, EXTRA, OTHER, WHOS };
static const char *const who_names[WHOS] = {"owner", "group", "extra_group", "other"};

/* Becomes somebody to whom an object of ALICE:TEAM has this relation. */
static void become(enum who who)
{
	switch (who) {
	case OWNER: user(ALICE, CREW, 0); break;
	case GROUP: user(BOB, TEAM, 0); break;
	case EXTRA: user(BOB, CREW, TEAM); break;
	default: user(BOB, CREW, 0); break;
	}
}

/* A mode in which only this class has the bits, all others their complement. */
static mode_t mode_for(enum who who, mode_t bits)
{
	int shift = who == OWNER ? 6 : who == OTHER ? 0 : 3;
	mode_t all = ((bits ^ 7) << 6) | ((bits ^ 7) << 3) | (bits ^ 7);

	return (all & ~(mode_t)(7 << shift)) | bits << shift;
}

static void file_mode(const struct args *x)
{
	mode_t bits = (mode_t)x->b;
	bool r = bits & 4, w = bits & 2, e = bits & 1;

	make(T_REG, "f");
	want(0, chown("f", ALICE, TEAM));
	want(0, chmod("f", mode_for((enum who)x->a, bits)));
	become((enum who)x->a);
	want(r ? 0 : EACCES, open("f", O_RDONLY));
	want(w ? 0 : EACCES, open("f", O_WRONLY));
	want(r && w ? 0 : EACCES, open("f", O_RDWR));
	want(w ? 0 : EACCES, open("f", O_WRONLY | O_APPEND));
	want(w ? 0 : EACCES, truncate("f", 2));
	want(r ? 0 : EACCES, access("f", R_OK));
	want(w ? 0 : EACCES, access("f", W_OK));
	want(e ? 0 : EACCES, access("f", X_OK));
	want(0, access("f", F_OK));
	want(w ? 0 : EACCES, setxattr("f", "user.a", "b", 1, 0));
	want(r && w ? 0 : r ? ENODATA : EACCES, getxattr("f", "user.a", NULL, 0));
	want(w || x->a == OWNER ? 0 : EACCES, utimensat(AT_FDCWD, "f", NULL, 0));
}

static void file_execute(const struct args *x)
{
	static char *const argv[] = {(char *)"f", NULL};

	put("f", "no program\n");
	want(0, chown("f", ALICE, TEAM));
	want(0, chmod("f", mode_for((enum who)x->a, (mode_t)x->b)));
	become((enum who)x->a);
	want(x->b & 1 ? ENOEXEC : EACCES, execv("f", argv));
}

static void dir_mode(const struct args *x)
{
	mode_t bits = (mode_t)x->b;
	bool r = bits & 4, w = bits & 2, e = bits & 1;
	int change = w && e ? 0 : EACCES, fd;
	struct stat st;
	char buffer[1024];

	make(T_DIR, "d");
	make(T_REG, "d/f");
	make(T_REG, "d/g");
	make(T_DIR, "d/sub");
	want(0, chmod("d/f", 0666));
	want(0, chown("d/f", ALICE, TEAM));
	want(0, chown("d", ALICE, TEAM));
	want(0, chmod("d", mode_for((enum who)x->a, bits)));
	want(0, chmod(".", 0777));
	put("outside", "o");
	want(0, chmod("outside", 0666));
	become((enum who)x->a);
	fd = (int)want(r ? 0 : EACCES, open("d", O_RDONLY | O_DIRECTORY));
	if (r)
		that(getdents64(fd, buffer, sizeof(buffer)) > 0);
	want(e ? 0 : EACCES, stat("d/f", &st));
	want(e ? ENOENT : EACCES, stat("d/missing", &st));
	want(e ? 0 : EACCES, open("d/f", O_RDONLY));
	want(e ? 0 : EACCES, chdir("d"));
	if (e)
		want(0, chdir(".."));
	want(change, open("d/new", O_CREAT | O_WRONLY, 0644));
	want(change, mkdir("d/newdir", 0755));
	want(change, symlink("x", "d/newlink"));
	want(change, mkfifo("d/newfifo", 0644));
	want(change, link("outside", "d/hard"));
	want(change, rename("d/g", "d/h"));
	want(change, rename("outside", "d/in"));
	want(change, unlink("d/f"));
	want(change, rmdir("d/sub"));
}

/* ---- sticky directories: x.a: who owns the file, x.b: who the directory, x.c: who comes ---- */

static uid_t person(long n)
{
	return n == 0 ? 0 : n == 1 ? ALICE : BOB;
}

static void sticky(const struct args *x)
{
	uid_t file = person(x->a), dir = person(x->b), me = person(x->c);
	int eno = me == 0 || me == file || me == dir ? 0 : EPERM;

	want(0, chmod(".", 0777));
	make(T_DIR, "d");
	make(T_REG, "d/f");
	make(T_DIR, "d/sub");
	make(T_REG, "d/g");
	want(0, chown("d/f", file, TEAM));
	want(0, chown("d/sub", file, TEAM));
	want(0, chown("d/g", file, TEAM));
	want(0, chmod("d/f", 0666));
	want(0, chown("d", dir, TEAM));
	want(0, chmod("d", 01777));
	user(me, CREW, 0);
	put("mine", "m");
	want(eno, rename("d/f", "d/f2"));
	if (eno == 0)
		want(0, rename("d/f2", "d/f"));
	want(eno, rename("mine", "d/g"));
	want(eno, rmdir("d/sub"));
	want(eno, unlink("d/f"));
	want(0, open("d/own", O_CREAT | O_WRONLY, 0644));
	want(0, rename("d/own", "d/own2"));
	want(0, unlink("d/own2"));
}

/* ---- owners' rights ---- */

static void chmod_by(const struct args *x)
{
	make((enum type)x->b, "t");
	want(0, chown("t", ALICE, TEAM));
	want(0, chmod("t", 0777));
	become((enum who)x->a);
	want(x->a == OWNER ? 0 : EPERM, chmod("t", 0700));
}

static void chown_by(const struct args *x)
{
	bool owner = x->a == OWNER;

	make(T_REG, "t");
	want(0, chown("t", ALICE, TEAM));
	want(0, chmod("t", 0777));
	become((enum who)x->a);
	want(EPERM, chown("t", BOB, (gid_t)-1));
	want(owner ? 0 : EPERM, chown("t", ALICE, (gid_t)-1));
	want(owner ? 0 : EPERM, chown("t", (uid_t)-1, CREW)); /* the owner is of it */
	want(EPERM, chown("t", (uid_t)-1, 40099));
	want(EPERM, chown("t", 0, 0));
}

static void utimens_by(const struct args *x)
{
	const struct timespec set[2] = {{1, 0}, {2, 0}};
	const struct timespec half[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
	const struct timespec none[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
	bool owner = x->a == OWNER;

	make(T_REG, "t");
	want(0, chown("t", ALICE, TEAM));
	want(0, chmod("t", (mode_t)x->b));
	become((enum who)x->a);
	want(owner ? 0 : EPERM, utimensat(AT_FDCWD, "t", set, 0));
	want(owner ? 0 : x->b & 0222 ? 0 : EACCES, utimensat(AT_FDCWD, "t", NULL, 0));
	want(owner ? 0 : EPERM, utimensat(AT_FDCWD, "t", half, 0));
	want(0, utimensat(AT_FDCWD, "t", none, 0));
}

/* Set-gid by one who is not of the group is dropped. */
static void chmod_setgid(const struct args *x)
{
	make((enum type)x->b, "t");
	want(0, chown("t", ALICE, x->a ? TEAM : CREW));
	user(ALICE, CREW, x->a == 2 ? TEAM : 0);
	want(0, chmod("t", 02755));
	same(status_of("t").st_mode & 07777, x->a == 1 ? 0755 : 02755);
}

/* Moving a directory changes its "..": it needs the right to write to it. */
static void rename_dir_of_others(const struct args *x)
{
	want(0, chmod(".", 0777));
	want(0, mkdir("p", 0777));
	want(0, mkdir("q", 0777));
	want(0, mkdir("p/d", 0755));
	user(ALICE, TEAM, 0);
	want(EACCES, rename("p/d", "q/d"));
	want(0, rename("p/d", "p/e")); /* the same parent */
}

static void link_to_others(const struct args *x)
{
	want(0, chmod(".", 0777));
	put("f", "x");
	want(0, chmod("f", 0666));
	user(ALICE, TEAM, 0);
	want(0, link("f", "g")); /* fs.protected_hardlinks allows what may be read and written */
}

static void mknod_by_user(const struct args *x)
{
	want(0, chmod(".", 0777));
	user(ALICE, TEAM, 0);
	want(x->b ? EPERM : 0, mknod("t", (mode_t)x->a | 0644, 0x0103));
}

/* Rights that were there when the file was opened go on. */
static void open_outlives_chmod(const struct args *x)
{
	char byte;
	int fd;

	put("f", "abc");
	want(0, chmod("f", 0666));
	user(ALICE, TEAM, 0);
	fd = (int)want(0, open("f", O_RDWR));
	user_root();
	want(0, chmod("f", 0));
	user(ALICE, TEAM, 0);
	same(pread(fd, &byte, 1, 0), 1);
	same(pwrite(fd, "x", 1, 0), 1);
	want(0, ftruncate(fd, 1));
	want(EACCES, open("f", O_RDONLY));
}

static void root_passes(const struct args *x)
{
	make(T_REG, "f");
	want(0, chown("f", ALICE, TEAM));
	want(0, chmod("f", 0));
	want(0, open("f", O_RDWR));
	want(EACCES, access("f", X_OK));
	make(T_DIR, "d");
	want(0, chown("d", ALICE, TEAM));
	want(0, chmod("d", 0));
	want(0, mkdir("d/e", 0755));
	want(0, access("d", X_OK));
}

static void xattr_trusted(const struct args *x)
{
	make(T_REG, "f");
	want(0, chmod("f", 0666));
	want(0, setxattr("f", "trusted.a", "v", 1, 0));
	user(ALICE, TEAM, 0);
	want(EPERM, setxattr("f", "trusted.b", "v", 1, 0));
	want(ENODATA, getxattr("f", "trusted.a", NULL, 0));
	same(listxattr("f", NULL, 0), 0);
}

void suite_add_permissions(void)
{
	static const struct args none;
	static const char *const persons[] = {"root", "alice", "bob"};

	for (int who = 0; who < WHOS; who++)
		for (int bits = 0; bits < 8; bits++) {
			struct args x = {.a = who, .b = bits};

			suite_add(file_mode, x, "permission/file_%s_%d", who_names[who], bits);
			suite_add(file_execute, x, "permission/execute_%s_%d", who_names[who], bits);
			suite_add(dir_mode, x, "permission/dir_%s_%d", who_names[who], bits);
		}
	for (int file = 0; file < 3; file++)
		for (int dir = 0; dir < 3; dir++)
			for (int me = 0; me < 3; me++)
				suite_add(sticky, (struct args){.a = file, .b = dir, .c = me},
					  "sticky/file_of_%s_dir_of_%s_by_%s", persons[file],
					  persons[dir], persons[me]);
	for (int who = 0; who < WHOS; who++) {
		for (int t = T_REG; t <= T_BLK; t++)
			suite_add(chmod_by, (struct args){.a = who, .b = t}, "chmod/%s_by_%s",
				  type_names[t], who_names[who]);
		suite_add(chown_by, (struct args){.a = who}, "chown/by_%s", who_names[who]);
		suite_add(utimens_by, (struct args){.a = who, .b = 0777}, "utimensat/writable_by_%s",
			  who_names[who]);
		suite_add(utimens_by, (struct args){.a = who, .b = 0444}, "utimensat/readable_by_%s",
			  who_names[who]);
	}
	for (int t = T_REG; t <= T_DIR; t++) {
		suite_add(chmod_setgid, (struct args){.a = 0, .b = t}, "chmod/setgid_%s_of_group",
			  type_names[t]);
		suite_add(chmod_setgid, (struct args){.a = 1, .b = t}, "chmod/setgid_%s_not_of_group",
			  type_names[t]);
		suite_add(chmod_setgid, (struct args){.a = 2, .b = t}, "chmod/setgid_%s_extra_group",
			  type_names[t]);
	}
	suite_add(rename_dir_of_others, none, "permission/move_dir_of_others");
	suite_add(link_to_others, none, "permission/link_to_others");
	suite_add(mknod_by_user, (struct args){.a = S_IFREG}, "permission/mknod_file");
	suite_add(mknod_by_user, (struct args){.a = S_IFIFO}, "permission/mknod_fifo");
	suite_add(mknod_by_user, (struct args){.a = S_IFCHR, .b = 1}, "permission/mknod_char");
	suite_add(mknod_by_user, (struct args){.a = S_IFBLK, .b = 1}, "permission/mknod_block");
	suite_add(open_outlives_chmod, none, "permission/open_outlives_chmod");
	suite_add(root_passes, none, "permission/root");
	suite_add(xattr_trusted, none, "permission/trusted_xattr");
}
