/* The operations of the differential test. */
#include "tests/posix/differ/differ.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { DATA_BYTES = 1 << 18, USER = 40001, GROUP = 40010, NAMES_MAX = 200 };

struct run {
	struct side *side;
	const struct op *op;
	char path[PATH_BYTES], other[PATH_BYTES];
	char *text;
	size_t left;
};

static char data[DATA_BYTES], back[DATA_BYTES];

static void say(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct run *r, const char *format, ...)
{
	va_list list;
	int n;

	va_start(list, format);
	n = vsnprintf(r->text, r->left, format, list);
	va_end(list);
	if (n > 0 && (size_t)n < r->left) {
		r->text += n;
		r->left -= (size_t)n;
	}
}

static long result(struct run *r, long value)
{
	if (value < 0)
		say(r, "%s ", strerrorname_np(errno));
	else
		say(r, "%ld ", value);
	return value;
}

static uint32_t checksum(const char *bytes, long n)
{
	uint32_t h = 2166136261u;

	for (long i = 0; i < n; i++)
		h = (h ^ (uint8_t)bytes[i]) * 16777619u;
	return h;
}

static const char *data_of(uint32_t seed, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525u + 1013904223u;
		data[i] = (char)(seed >> 24);
	}
	return data;
}

static size_t length_of(uint32_t x)
{
	return x % 8 == 0 ? x % DATA_BYTES : x % 8 < 4 ? x % 9000 : x % 100;
}

static off_t offset_of(uint32_t y)
{
	return y % 4 == 0 ? y % 300000 : y % 4 == 1 ? (y % 20) * 4096 : y % 6000;
}

static int *slot(struct run *r)
{
	return &r->side->slots[r->op->slot % SLOTS];
}

static void say_stat(struct run *r, const struct stat *st)
{
	say(r, "mode %o uid %u gid %u rdev %lx ", st->st_mode, st->st_uid, st->st_gid,
	    (unsigned long)st->st_rdev);
	/* Sizes of directories are each file system's own. */
	if (!S_ISDIR(st->st_mode))
		say(r, "size %ld ", (long)st->st_size);
	say(r, "nlink %lu ", (unsigned long)st->st_nlink);
}

/* Known difference: the locks of an open file go a moment after its last close (ARCHITECTURE.md, Known
 * gaps), so they are given back before. */
static void close_slot(int fd)
{
	struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	fcntl(fd, F_OFD_SETLK, &all);
	flock(fd, LOCK_UN);
}

/* ---- operations: they say what came of them ---- */

static void do_open(struct run *r)
{
	static const int kinds[] = {O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_EXCL,
				    O_WRONLY | O_TRUNC, O_RDWR | O_CREAT | O_TRUNC, O_WRONLY | O_APPEND,
				    O_RDWR | O_APPEND | O_CREAT, O_RDONLY | O_DIRECTORY,
				    O_RDONLY | O_NOFOLLOW};
	static const mode_t modes[] = {0644, 0600, 0666, 0777, 0400};
	struct stat st;
	int fd = open(r->path, kinds[r->op->x % 10] | O_NONBLOCK, modes[r->op->y % 5]);

	result(r, fd < 0 ? -1 : 0);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0)
		say_stat(r, &st);
	if (*slot(r) >= 0) {
		close_slot(*slot(r));
		close(*slot(r));
	}
	*slot(r) = fd;
	r->side->slot_mount[r->op->slot % SLOTS] = r->op->mount;
}
static void do_close(struct run *r)
{
	close_slot(*slot(r));
	result(r, close(*slot(r)));
	*slot(r) = -1;
}
static void do_read(struct run *r)
{
	long n = result(r, read(*slot(r), back, length_of(r->op->x)));
	say(r, "%08x", n > 0 ? checksum(back, n) : 0);
}
static void do_pread(struct run *r)
{
	long n = result(r, pread(*slot(r), back, length_of(r->op->x), offset_of(r->op->y)));
	say(r, "%08x", n > 0 ? checksum(back, n) : 0);
}
static void do_write(struct run *r)
{
	size_t n = length_of(r->op->x);
	result(r, write(*slot(r), data_of(r->op->y, n), n));
	/* Known difference: after an append the position is the kernel's idea of the end, which
	 * another mount may have moved; FUSE's answer to a write cannot tell another one. */
	if (!(fcntl(*slot(r), F_GETFL) & O_APPEND))
		result(r, lseek(*slot(r), 0, SEEK_CUR));
}
static void do_pwrite(struct run *r)
{
	size_t n = length_of(r->op->x);
	result(r, pwrite(*slot(r), data_of(r->op->x, n), n, offset_of(r->op->y)));
}
static void do_lseek(struct run *r)
{
	result(r, lseek(*slot(r), (long)offset_of(r->op->x) - 1000, (int)(r->op->y % 3)));
}
static void do_ftruncate(struct run *r) { result(r, ftruncate(*slot(r), offset_of(r->op->x))); }
static void do_truncate(struct run *r) { result(r, truncate(r->path, offset_of(r->op->x))); }
static void do_fsync(struct run *r)
{
	result(r, r->op->x % 2 ? fsync(*slot(r)) : fdatasync(*slot(r)));
}
static void do_fstat(struct run *r)
{
	struct stat st;
	if (result(r, fstat(*slot(r), &st)) == 0)
		say_stat(r, &st);
}
static void do_stat(struct run *r)
{
	struct stat st;
	if (result(r, r->op->x % 2 ? stat(r->path, &st) : lstat(r->path, &st)) == 0)
		say_stat(r, &st);
}
static void do_access(struct run *r) { result(r, access(r->path, (int)(r->op->x % 8))); }
static void do_mkdir(struct run *r) { result(r, mkdir(r->path, r->op->x % 4 ? 0755 : 01777)); }
static void do_rmdir(struct run *r) { result(r, rmdir(r->path)); }
static void do_unlink(struct run *r) { result(r, unlink(r->path)); }
static void do_mknod(struct run *r)
{
	result(r, mknod(r->path, (r->op->x % 2 ? S_IFIFO : S_IFREG) | 0644, 0));
}
static void do_symlink(struct run *r)
{
	char target[PATH_BYTES];
	path_text(target, sizeof(target), r->op->x % 3 == 0 ? r->op->other % 4 : r->op->other);
	result(r, symlink(target, r->path));
}
static void do_readlink(struct run *r)
{
	long n = result(r, readlink(r->path, back, DATA_BYTES));
	say(r, "%.*s", n > 0 ? (int)n : 0, back);
}
static void do_link(struct run *r) { result(r, link(r->path, r->other)); }
static void do_rename(struct run *r)
{
	static const unsigned flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
	result(r, renameat2(AT_FDCWD, r->path, AT_FDCWD, r->other, flags[r->op->x % 5]));
}
static void do_chmod(struct run *r)
{
	static const mode_t modes[] = {0644, 0755, 0600, 0777, 0, 01777, 02755, 04755, 0444, 0711};
	result(r, chmod(r->path, modes[r->op->x % 10]));
}
static void do_chown(struct run *r)
{
	static const unsigned ids[] = {0, USER, (unsigned)-1, GROUP, 40002};
	result(r, lchown(r->path, ids[r->op->x % 5], ids[r->op->y % 5]));
}
static void do_utimens(struct run *r)
{
	const struct timespec set[2] = {{r->op->x, (long)(r->op->y % 1000000000)},
					{r->op->y, r->op->x % 3 ? 5 : UTIME_OMIT}};
	struct stat st;
	if (result(r, utimensat(AT_FDCWD, r->path, set, AT_SYMLINK_NOFOLLOW)) < 0)
		return;
	if (result(r, lstat(r->path, &st)) == 0 && r->op->x % 3)
		say(r, "mtime %ld", (long)st.st_mtim.tv_sec);
}
static const char *xattr_name(uint32_t n)
{
	static const char *const names[] = {"user.a", "user.b", "trusted.c"};
	return names[n % 3];
}
static void do_setxattr(struct run *r)
{
	size_t n = r->op->y % 300;
	result(r, lsetxattr(r->path, xattr_name(r->op->x), data_of(r->op->y, n), n,
			    (int)(r->op->x / 3 % 3)));
}
static void do_getxattr(struct run *r)
{
	long n = result(r, lgetxattr(r->path, xattr_name(r->op->x), back, r->op->y % 600));
	say(r, "%08x", n > 0 ? checksum(back, n) : 0);
}
static void do_removexattr(struct run *r)
{
	result(r, lremovexattr(r->path, xattr_name(r->op->x)));
}
static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}
static void do_listxattr(struct run *r)
{
	char *names[NAMES_MAX];
	long n = result(r, llistxattr(r->path, back, DATA_BYTES));
	int count = 0;

	for (long at = 0; at < n && count < NAMES_MAX; at += (long)strlen(back + at) + 1)
		names[count++] = back + at;
	qsort(names, (size_t)count, sizeof(names[0]), compare_names);
	for (int i = 0; i < count; i++)
		say(r, "%s ", names[i]);
}
static void do_readdir(struct run *r)
{
	char *names[NAMES_MAX];
	int n = 0;
	struct dirent *e;
	DIR *dir = opendir(r->path);

	result(r, dir ? 0 : -1);
	if (!dir)
		return;
	while ((e = readdir(dir)) && n < NAMES_MAX)
		if (asprintf(&names[n], "%s:%d", e->d_name, e->d_type) > 0)
			n++;
	closedir(dir);
	qsort(names, (size_t)n, sizeof(names[0]), compare_names);
	for (int i = 0; i < n; i++) {
		say(r, "%s ", names[i]);
		free(names[i]);
	}
}
static void do_copy(struct run *r)
{
	off_t from = offset_of(r->op->x), to = offset_of(r->op->y);
	int out = r->side->slots[r->op->other % SLOTS];
	struct stat st;

	/* Known difference: the kernel copies no more than the size that it knows, which another mount may
	 * have changed; it learns it by this, as from cp(1). */
	if (fstat(*slot(r), &st) < 0 || fstat(out, &st) < 0)
		say(r, "nothing to copy ");
	result(r, copy_file_range(*slot(r), &from, out, &to, r->op->x % 50000, 0));
}
static void do_map(struct run *r)
{
	struct stat st;
	char *p;

	if (fstat(*slot(r), &st) < 0 || st.st_size == 0 || !S_ISREG(st.st_mode)) {
		say(r, "nothing to map");
		return;
	}
	p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, *slot(r), 0);
	result(r, p == MAP_FAILED ? -1 : 0);
	if (p == MAP_FAILED)
		return;
	say(r, "%08x ", checksum(p, st.st_size));
	p[r->op->x % (uint32_t)st.st_size] = (char)r->op->y;
	result(r, msync(p, (size_t)st.st_size, MS_SYNC));
	munmap(p, (size_t)st.st_size);
}
static void do_mode_of_slot(struct run *r)
{
	result(r, r->op->x % 2 ? fchmod(*slot(r), r->op->y % 2 ? 0640 : 0604)
			       : fchown(*slot(r), USER, r->op->y % 2 ? GROUP : 0));
}

static void do_fallocate(struct run *r)
{
	static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE};
	struct stat st;

	result(r, fallocate(*slot(r), modes[r->op->x / 8 % 7], offset_of(r->op->y),
			    (off_t)length_of(r->op->x)));
	if (fstat(*slot(r), &st) == 0)
		say_stat(r, &st);
}
static bool zeros(int fd, off_t from, off_t to)
{
	while (from < to) {
		size_t n = to - from < DATA_BYTES ? (size_t)(to - from) : DATA_BYTES;
		ssize_t got = pread(fd, back, n, from);
		if (got <= 0)
			return got == 0;
		for (ssize_t i = 0; i < got; i++)
			if (back[i])
				return false;
		from += got;
	}
	return true;
}
/* Where holes begin is each file system's own; that what is called one reads as zeros is not. */
static void do_seek_hole(struct run *r)
{
	off_t at = offset_of(r->op->x), now = lseek(*slot(r), 0, SEEK_CUR), hole, data_at;
	struct stat st;

	if (fstat(*slot(r), &st) < 0 || !S_ISREG(st.st_mode) ||
	    (fcntl(*slot(r), F_GETFL) & O_ACCMODE) == O_WRONLY) {
		say(r, "not looked at");
		return;
	}
	hole = lseek(*slot(r), at, SEEK_HOLE);
	if (hole < 0) {
		result(r, hole);
		return;
	}
	data_at = lseek(*slot(r), hole, SEEK_DATA);
	say(r, "%s ", hole >= at && hole <= st.st_size ? "in the file" : "elsewhere");
	say(r, "%s ", zeros(*slot(r), hole, data_at < 0 ? st.st_size : data_at) ? "a hole" : "no hole");
	data_at = lseek(*slot(r), at, SEEK_DATA);
	say(r, "%s", zeros(*slot(r), at, data_at < 0 ? st.st_size : data_at) ? "zeros" : "skipped data");
	lseek(*slot(r), now, SEEK_SET);
}
static bool is_regular(struct run *r)
{
	struct stat st;
	bool regular = fstat(*slot(r), &st) == 0 && S_ISREG(st.st_mode);

	if (!regular)
		say(r, "not a regular file");
	return regular;
}
/* Of open file descriptions: what a process has through two mounts is two owners'. */
static void do_lock(struct run *r)
{
	static const short types[] = {F_RDLCK, F_WRLCK, F_UNLCK};
	struct flock lock = {.l_type = types[r->op->x % 3], .l_whence = SEEK_SET,
			     .l_start = r->op->y % 50, .l_len = r->op->y / 64 % 4 * 10};

	if (is_regular(r))
		result(r, fcntl(*slot(r), F_OFD_SETLK, &lock));
}
static void do_test_lock(struct run *r)
{
	struct flock lock = {.l_type = r->op->x % 2 ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET,
			     .l_start = r->op->y % 50, .l_len = r->op->y / 64 % 4 * 10};

	if (is_regular(r) && result(r, fcntl(*slot(r), F_OFD_GETLK, &lock)) == 0)
		say(r, "%s", lock.l_type == F_UNLCK ? "free" : "taken");
}
static void do_flock(struct run *r)
{
	static const int kinds[] = {LOCK_SH, LOCK_EX, LOCK_UN};

	if (is_regular(r))
		result(r, flock(*slot(r), kinds[r->op->x % 3] | LOCK_NB));
}
static const char *acl_name(uint32_t n)
{
	return n % 3 ? "system.posix_acl_access" : "system.posix_acl_default";
}
/* user::, user:USER:, group::, mask::, other:: (linux/posix_acl_xattr.h); now and then without a mask,
 * which is none, or short, which is the mode. */
static void do_setacl(struct run *r)
{
	const struct { uint16_t tag, perm; uint32_t id; } entries[] = {
		{0x01, r->op->y % 8, (uint32_t)-1}, {0x02, r->op->y / 8 % 8, USER},
		{0x04, r->op->y / 64 % 8, (uint32_t)-1}, {0x10, r->op->y / 512 % 8, (uint32_t)-1},
		{0x20, r->op->y / 4096 % 8, (uint32_t)-1}};
	bool brief = r->op->x % 5 == 0, maskless = r->op->x % 11 == 0;
	const uint32_t version = 2;
	char value[64];
	size_t n = sizeof(version);

	memcpy(value, &version, n);
	for (int i = 0; i < 5; i++) {
		if ((brief && (i == 1 || i == 3)) || (maskless && i == 3))
			continue;
		memcpy(value + n, &entries[i], sizeof(entries[i]));
		n += sizeof(entries[i]);
	}
	result(r, lsetxattr(r->path, acl_name(r->op->x), value, n, 0));
}
static void do_getacl(struct run *r)
{
	long n = result(r, lgetxattr(r->path, acl_name(r->op->x), back, DATA_BYTES));
	say(r, "%08x", n > 0 ? checksum(back, n) : 0);
}
static void do_removeacl(struct run *r)
{
	result(r, lremovexattr(r->path, acl_name(r->op->x)));
}

/* Kinds, how often they come, and what text they need. */
static const struct kind {
	const char *name;
	void (*run)(struct run *r);
	int weight;
	char uses; /* p path, s slot */
} kinds[] = {
	{"open", do_open, 14, 'p'}, {"close", do_close, 4, 's'}, {"read", do_read, 5, 's'},
	{"pread", do_pread, 5, 's'}, {"write", do_write, 9, 's'}, {"pwrite", do_pwrite, 9, 's'},
	{"lseek", do_lseek, 3, 's'}, {"ftruncate", do_ftruncate, 4, 's'},
	{"truncate", do_truncate, 4, 'p'}, {"fsync", do_fsync, 2, 's'}, {"fstat", do_fstat, 4, 's'},
	{"stat", do_stat, 6, 'p'}, {"access", do_access, 3, 'p'}, {"mkdir", do_mkdir, 9, 'p'},
	{"rmdir", do_rmdir, 4, 'p'}, {"unlink", do_unlink, 6, 'p'}, {"mknod", do_mknod, 2, 'p'},
	{"symlink", do_symlink, 4, 'p'}, {"readlink", do_readlink, 3, 'p'}, {"link", do_link, 5, 'p'},
	{"rename", do_rename, 10, 'p'}, {"chmod", do_chmod, 4, 'p'}, {"chown", do_chown, 3, 'p'},
	{"utimens", do_utimens, 3, 'p'}, {"setxattr", do_setxattr, 4, 'p'},
	{"getxattr", do_getxattr, 3, 'p'}, {"removexattr", do_removexattr, 2, 'p'},
	{"listxattr", do_listxattr, 2, 'p'}, {"readdir", do_readdir, 5, 'p'},
	{"copy", do_copy, 6, 's'}, {"fallocate", do_fallocate, 6, 's'},
	{"seek_hole", do_seek_hole, 4, 's'}, {"lock", do_lock, 5, 's'},
	{"test_lock", do_test_lock, 3, 's'}, {"flock", do_flock, 3, 's'},
	{"setacl", do_setacl, 4, 'p'}, {"getacl", do_getacl, 3, 'p'},
	{"removeacl", do_removeacl, 1, 'p'}, {"map", do_map, 3, 's'}, {"fchmod", do_mode_of_slot, 2, 's'},
};
const int op_kinds = sizeof(kinds) / sizeof(kinds[0]);

/* ---- drawing ---- */

static uint32_t draw(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 32);
}

void ops_draw(uint64_t seed, struct op *ops, int n)
{
	uint64_t state = seed * 2654435761u + 12345;
	int total = 0;

	for (int k = 0; k < op_kinds; k++)
		total += kinds[k].weight;
	for (int i = 0; i < n; i++) {
		struct op *op = &ops[i];
		int at = (int)(draw(&state) % (uint32_t)total);

		for (op->kind = 0; at >= kinds[op->kind].weight; op->kind++)
			at -= kinds[op->kind].weight;
		op->mount = draw(&state) % 2;
		op->user = draw(&state) % 8 == 0;
		op->timed = draw(&state) % 16 == 0;
		op->path = draw(&state);
		op->other = draw(&state);
		op->slot = draw(&state);
		op->x = draw(&state);
		op->y = draw(&state);
	}
}

/* Four names in a tree of three levels, most often near its root. */
void path_text(char *text, size_t n, uint32_t number)
{
	unsigned a = number / 64 % 4, b = number / 256 % 4, c = number / 1024 % 4;

	switch (number % 8) {
	case 0: case 1: case 2: snprintf(text, n, "%c", "abcd"[a]); break;
	case 7: snprintf(text, n, "%c/%c/%c", "abcd"[a], "abcd"[b], "abcd"[c]); break;
	default: snprintf(text, n, "%c/%c", "abcd"[a], "abcd"[b]); break;
	}
}

void op_to_text(const struct op *op, char *text, size_t n)
{
	const struct kind *k = &kinds[op->kind];
	char path[PATH_BYTES], other[PATH_BYTES];

	path_text(path, sizeof(path), op->path);
	path_text(other, sizeof(other), op->other);
	if (k->uses == 'p')
		snprintf(text, n, "%s %s (%s) slot %u x %u y %u mount %u%s%s", k->name, path, other,
			 op->slot % SLOTS, op->x, op->y, op->mount, op->user ? " user" : "",
			 op->timed ? " timed" : "");
	else
		snprintf(text, n, "%s slot %u (%u) x %u y %u%s", k->name, op->slot % SLOTS,
			 op->other % SLOTS, op->x, op->y, op->user ? " user" : "");
}

/* ---- running ---- */

static void become(bool user)
{
	const gid_t none = 0;

	if (user) {
		if (setgroups(0, &none) < 0 || setresgid(GROUP, GROUP, 0) < 0 ||
		    setresuid(USER, USER, 0) < 0)
			abort();
	} else if (setresuid(0, 0, 0) < 0 || setresgid(0, 0, 0) < 0) {
		abort();
	}
}

static void parent_of(const char *path, char *parent)
{
	strcpy(parent, path);
	*strrchr(parent, '/') = '\0';
}

static void say_changed(struct run *r, const char *what, const struct stat *a, bool was,
			const struct stat *b, bool is)
{
	if (!was || !is)
		return;
	say(r, " %s mtime %s ctime %s", what,
	    memcmp(&a->st_mtim, &b->st_mtim, sizeof(a->st_mtim)) ? "moved" : "same",
	    memcmp(&a->st_ctim, &b->st_ctim, sizeof(a->st_ctim)) ? "moved" : "same");
}

static void run_timed(struct run *r, const struct kind *k)
{
	const struct timespec pause = {.tv_nsec = 12000000};
	struct stat own[2], dir[2];
	char parent[PATH_BYTES];
	bool had[2], had_dir[2];

	parent_of(r->path, parent);
	had[0] = lstat(r->path, &own[0]) == 0;
	had_dir[0] = lstat(parent, &dir[0]) == 0;
	nanosleep(&pause, NULL); /* longer than the local clock's tick */
	become(r->op->user);
	k->run(r);
	become(false);
	had[1] = lstat(r->path, &own[1]) == 0;
	had_dir[1] = lstat(parent, &dir[1]) == 0;
	if (had[0] && had[1] && own[0].st_ino == own[1].st_ino)
		say_changed(r, "object", &own[0], true, &own[1], true);
	say_changed(r, "directory", &dir[0], had_dir[0], &dir[1], had_dir[1]);
}

void op_run(struct side *side, const struct op *op, char *text, size_t n)
{
	const struct kind *k = &kinds[op->kind];
	struct run r = {.side = side, .op = op, .text = text, .left = n};
	char name[PATH_BYTES / 2];

	text[0] = '\0';
	path_text(name, sizeof(name), op->path);
	snprintf(r.path, sizeof(r.path), "%s/%s", side->roots[op->mount], name);
	path_text(name, sizeof(name), op->other);
	snprintf(r.other, sizeof(r.other), "%s/%s", side->roots[op->mount], name);
	if (op->timed && k->uses == 'p') {
		run_timed(&r, k);
		return;
	}
	become(op->user);
	k->run(&r);
	become(false);
}

/* ---- known differences, with their reasons ---- */

/* An open file whose last name goes through the other mount is gone for the one that has it open
 * (ARCHITECTURE.md, Known gaps). Of an open fifo FUSE is told nothing: the kernel opens it itself. */
static bool takes_last_name_elsewhere(const struct side *local, const struct op *op)
{
	char name[PATH_BYTES / 2], path[PATH_BYTES];
	struct stat target, open_file;
	bool removes = kinds[op->kind].run == do_unlink, renames = kinds[op->kind].run == do_rename;

	if (!removes && !renames && kinds[op->kind].run != do_rmdir)
		return false;
	path_text(name, sizeof(name), renames ? op->other : op->path);
	snprintf(path, sizeof(path), "%s/%s", local->roots[0], name);
	if (lstat(path, &target) < 0)
		return false;
	for (int i = 0; i < SLOTS; i++)
		if (local->slots[i] >= 0 && fstat(local->slots[i], &open_file) == 0 &&
		    open_file.st_ino == target.st_ino &&
		    (!S_ISREG(target.st_mode) ||
		     (target.st_nlink == 1 && local->slot_mount[i] != op->mount)))
			return true;
	return false;
}

/* Positions in directories are each file system's own. After reading and writing through O_APPEND
 * they are the kernel's (see do_write), and such files are direct I/O, which FUSE does not map. */
static bool place_of_directory_or_append(const struct side *local, const struct op *op)
{
	int fd = local->slots[op->slot % SLOTS];
	bool reads = kinds[op->kind].run == do_lseek || kinds[op->kind].run == do_read;
	struct stat st;

	if ((!reads && kinds[op->kind].run != do_map) || fstat(fd, &st) < 0)
		return false;
	return S_ISDIR(st.st_mode) || fcntl(fd, F_GETFL) & O_APPEND;
}

/* A fifo connects the processes of one mount: the kernel keeps what is in it. */
static bool opens_fifo(const struct side *local, const struct op *op)
{
	char name[PATH_BYTES / 2], path[PATH_BYTES];
	struct stat st;

	path_text(name, sizeof(name), op->path);
	snprintf(path, sizeof(path), "%s/%s", local->roots[0], name);
	return kinds[op->kind].run == do_open && stat(path, &st) == 0 && S_ISFIFO(st.st_mode);
}

bool op_is_known(const struct side *local, const struct op *op)
{
	static bool (*const known_differences[])(const struct side *, const struct op *) = {
		takes_last_name_elsewhere, place_of_directory_or_append, opens_fifo};

	for (size_t i = 0; i < sizeof(known_differences) / sizeof(known_differences[0]); i++)
		if (known_differences[i](local, op))
			return true;
	return false;
}
