/* Path calls, each as the system call of its name. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "client/result.h"
#include "client/walk.h"

/* A place in the name space: what most of these calls need of a path. */
struct place {
	uint64_t parent;
	char name[NAME_BYTES_MAX + 1];
	bool slash;
};

static int place_find(struct cairn *fs, const char *path, struct place *ret, struct err *err)
{
	return walk_parent(fs, session_root(&fs->session), path, &ret->parent, ret->name, &ret->slash, err);
}

/* For a name that is to be made: "/", "." and ".." are there already. */
static int place_find_new(struct cairn *fs, const char *path, bool dir, struct place *ret,
			  struct err *err)
{
	int r = place_find(fs, path, ret, err);

	if (r == ERR_BUSY || r == ERR_INVAL)
		return err_set(err, ERR_EXIST, "%s: file exists", path);
	if (r == 0 && ret->slash && !dir)
		return err_set(err, ERR_NOENT, "%s: only a directory's name ends with a slash",
			       path);
	return r;
}

/* A trailing slash says that it is a directory. */
static int place_check_slash(struct cairn *fs, const struct place *p, const char *path,
			     struct err *err)
{
	struct wire_attr attr;
	int r;

	if (!p->slash)
		return 0;
	r = meta_lookup(fs, NULL, p->parent, slice_str(p->name), &attr, err);
	if (r == 0 && !S_ISDIR(attr.mode))
		r = err_set(err, ERR_NOTDIR, "%s: not a directory", path);
	return r;
}

int cairn_resolve(struct cairn *fs, const char *path, bool follow, struct cairn_attr *ret)
{
	struct err err = {0};
	struct wire_attr attr;
	int r = walk_to(fs, session_root(&fs->session), path, follow, &attr, &err);

	if (r == 0)
		client_attr(&attr, ret);
	return (int)result(r, &err);
}

int cairn_resolve_parent(struct cairn *fs, const char *path, uint64_t *ret_parent, char *ret_name)
{
	struct err err = {0};
	bool slash;
	return (int)result(walk_parent(fs, session_root(&fs->session), path, ret_parent, ret_name, &slash, &err),
			   &err);
}

/* ---- open ---- */

static int open_existing(struct cairn *fs, const char *path, int flags, struct cairn_file **ret,
			 struct err *err)
{
	struct wire_attr attr;
	int r = walk_to(fs, session_root(&fs->session), path, !(flags & O_NOFOLLOW), &attr, err);

	return r < 0 ? r : handle_open(fs, NULL, attr.inode, flags, ret, err);
}

/* O_CREAT. Without O_EXCL a symbolic link is followed, also to a name that is still to be made. */
static int open_create(struct cairn *fs, const char *path, int flags, mode_t mode,
		       struct cairn_file **ret, struct err *err)
{
	char target[SYMLINK_BYTES_MAX + 1];
	uint64_t start = session_root(&fs->session);

	for (int links = 0; links <= WALK_LINKS_MAX; links++) {
		struct held held;
	struct wire_attr attr;
		struct place p;
		ssize_t n;
		int r = walk_parent(fs, start, path, &p.parent, p.name, &p.slash, err);
		if (r == ERR_BUSY || r == ERR_INVAL || (r == 0 && p.slash))
			return err_set(err, ERR_ISDIR, "%s: is a directory", path);
		if (r == 0)
			r = handle_create(fs, NULL, p.parent, slice_str(p.name), mode, flags, &attr, &held,
					  ret, err);
		if (r != ERR_EXIST || (flags & O_EXCL))
			return r;
		r = meta_lookup(fs, NULL, p.parent, slice_str(p.name), &attr, err);
		if (r < 0)
			return r;
		if (!S_ISLNK(attr.mode) || (flags & O_NOFOLLOW))
			return handle_open(fs, NULL, attr.inode, flags, ret, err);
		n = meta_readlink(fs, attr.inode, target, sizeof(target), err);
		if (n < 0)
			return (int)n;
		path = target;
		start = p.parent;
	}
	return err_set(err, ERR_LOOP, "%s: more than %d symbolic links", path, WALK_LINKS_MAX);
}

int cairn_open(struct cairn *fs, const char *path, int flags, mode_t mode,
	       struct cairn_file **ret)
{
	struct err err = {0};
	int r = flags & O_CREAT ? open_create(fs, path, flags, mode, ret, &err)
				: open_existing(fs, path, flags, ret, &err);
	return (int)result(r, &err);
}

/* ---- attributes ---- */

static int path_stat(struct cairn *fs, const char *path, bool follow, struct stat *ret)
{
	struct cairn_attr attr;
	int r = cairn_resolve(fs, path, follow, &attr);

	if (r == 0)
		cairn_attr_to_stat(&attr, ret);
	return r;
}

int cairn_stat(struct cairn *fs, const char *path, struct stat *ret)
{
	return path_stat(fs, path, true, ret);
}

int cairn_lstat(struct cairn *fs, const char *path, struct stat *ret)
{
	return path_stat(fs, path, false, ret);
}

static int path_setattr(struct cairn *fs, const char *path, unsigned mask,
			const struct cairn_attr *set)
{
	struct err err = {0};
	struct wire_attr attr;
	int r = walk_to(fs, session_root(&fs->session), path, true, &attr, &err);

	if (r == 0)
		r = meta_setattr(fs, NULL, attr.inode, mask, set, &attr, &err);
	return (int)result(r, &err);
}

int cairn_truncate(struct cairn *fs, const char *path, uint64_t size)
{
	struct cairn_attr set = {.size = size};
	struct err err = {0};
	struct wire_attr attr;
	int r = walk_to(fs, session_root(&fs->session), path, true, &attr, &err);

	if (r == 0)
		r = meta_getattr_to_open(fs, NULL, attr.inode, O_WRONLY, &attr, &err);
	if (r == 0)
		r = meta_setattr(fs, NULL, attr.inode, CAIRN_SET_SIZE, &set, &attr, &err);
	return (int)result(r, &err);
}

int cairn_chmod(struct cairn *fs, const char *path, mode_t mode)
{
	struct cairn_attr set = {.mode = mode};
	return path_setattr(fs, path, CAIRN_SET_MODE, &set);
}

/* (uid_t)-1 and (gid_t)-1 leave as it is, as in chown(2). */
int cairn_chown(struct cairn *fs, const char *path, uid_t uid, gid_t gid)
{
	struct cairn_attr set = {.uid = uid, .gid = gid};
	unsigned mask = (uid != (uid_t)-1 ? CAIRN_SET_UID : 0) |
			(gid != (gid_t)-1 ? CAIRN_SET_GID : 0);
	return path_setattr(fs, path, mask, &set);
}

static unsigned time_mask(const struct timespec *t, unsigned set, unsigned now)
{
	if (!t || t->tv_nsec == UTIME_NOW)
		return now;
	return t->tv_nsec == UTIME_OMIT ? 0 : set;
}

int cairn_utimens(struct cairn *fs, const char *path, const struct timespec times[2])
{
	struct cairn_attr set = {0};
	unsigned mask = time_mask(times ? &times[0] : NULL, CAIRN_SET_ATIME, CAIRN_SET_ATIME_NOW) |
			time_mask(times ? &times[1] : NULL, CAIRN_SET_MTIME, CAIRN_SET_MTIME_NOW);

	if (mask & CAIRN_SET_ATIME)
		set.atime = times[0];
	if (mask & CAIRN_SET_MTIME)
		set.mtime = times[1];
	if (mask == 0) {
		struct stat st;
		return cairn_stat(fs, path, &st);
	}
	return path_setattr(fs, path, mask, &set);
}

/* ---- names ---- */

int cairn_mkdir(struct cairn *fs, const char *path, mode_t mode)
{
	struct err err = {0};
	struct wire_attr attr;
	struct place p;
	int r = place_find_new(fs, path, true, &p, &err);

	if (r == 0)
		r = meta_make(fs, NULL, p.parent, slice_str(p.name), S_IFDIR | (mode & 07777), 0,
			      NULL, MAKE_EXCL, &attr, NULL, NULL, NULL, &err);
	return (int)result(r, &err);
}

int cairn_symlink(struct cairn *fs, const char *target, const char *path)
{
	struct err err = {0};
	struct wire_attr attr;
	struct place p;
	int r = place_find_new(fs, path, false, &p, &err);

	if (r == 0)
		r = meta_make(fs, NULL, p.parent, slice_str(p.name), S_IFLNK | 0777, 0, target,
			      MAKE_EXCL, &attr, NULL, NULL, NULL, &err);
	return (int)result(r, &err);
}

int cairn_rmdir(struct cairn *fs, const char *path)
{
	struct err err = {0};
	struct place p;
	int r = place_find(fs, path, &p, &err);

	if (r == 0)
		r = meta_unlink(fs, NULL, p.parent, slice_str(p.name), true, &err);
	return (int)result(r, &err);
}

int cairn_unlink(struct cairn *fs, const char *path)
{
	struct err err = {0};
	struct place p;
	int r = place_find(fs, path, &p, &err);

	if (r == ERR_BUSY || r == ERR_INVAL)
		r = err_set(&err, ERR_ISDIR, "%s: is a directory", path);
	if (r == 0)
		r = place_check_slash(fs, &p, path, &err);
	if (r == 0)
		r = meta_unlink(fs, NULL, p.parent, slice_str(p.name), false, &err);
	return (int)result(r, &err);
}

int cairn_rename(struct cairn *fs, const char *from, const char *to)
{
	struct err err = {0};
	struct place a, b;
	int r = place_find(fs, from, &a, &err);

	if (r == 0)
		r = place_find(fs, to, &b, &err);
	if (r == ERR_INVAL)
		r = ERR_BUSY; /* what rename(2) says of "." and ".." */
	/* A slash behind either name wants a directory to be moved. */
	if (r == 0) {
		a.slash |= b.slash;
		r = place_check_slash(fs, &a, from, &err);
	}
	if (r == 0)
		r = meta_rename(fs, NULL, a.parent, slice_str(a.name), b.parent, slice_str(b.name),
				0, &err);
	return (int)result(r, &err);
}

int cairn_link(struct cairn *fs, const char *from, const char *to)
{
	struct err err = {0};
	struct wire_attr attr;
	struct place p;
	int r = walk_to(fs, session_root(&fs->session), from, false, &attr, &err);

	if (r == 0)
		r = place_find_new(fs, to, false, &p, &err);
	if (r == 0)
		r = meta_link(fs, NULL, attr.inode, p.parent, slice_str(p.name), &attr, NULL, &err);
	return (int)result(r, &err);
}

ssize_t cairn_readlink(struct cairn *fs, const char *path, char *buf, size_t bytes)
{
	struct err err = {0};
	struct wire_attr attr;
	ssize_t r = walk_to(fs, session_root(&fs->session), path, false, &attr, &err);

	if (r == 0 && !S_ISLNK(attr.mode))
		r = err_set(&err, ERR_INVAL, "%s: not a symbolic link", path);
	if (r == 0)
		r = meta_readlink(fs, attr.inode, buf, bytes, &err);
	return result(r, &err);
}

int cairn_append(struct cairn *fs, const char *path, const void *buf, size_t bytes)
{
	struct err err = {0};
	struct cairn_file *file;
	int r = open_create(fs, path, O_WRONLY | O_APPEND, 0644, &file, &err);

	if (r == 0) {
		ssize_t n = file_pwrite(file, buf, bytes, 0, &err);
		r = handle_close(file, n < 0 ? NULL : &err);
		if (n < 0)
			r = (int)n;
	}
	return (int)result(r, &err);
}
