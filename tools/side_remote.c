#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/limits.h"
#include "tools/side.h"

static struct cairn_file *file_of(struct side_file *f)
{
	return (struct cairn_file *)f;
}

static int remote_stat(const struct side *s, const char *path, bool follow, struct stat *ret)
{
	return follow ? cairn_stat(s->fs, path, ret) : cairn_lstat(s->fs, path, ret);
}

struct list {
	side_list_fn fn;
	void *arg;
	int r;
};

static int list_entry(void *arg, const char *name, uint64_t cookie, const struct cairn_attr *attr)
{
	struct list *l = arg;

	if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
		l->r = l->fn(l->arg, name);
	return l->r != 0;
}

static int remote_list(const struct side *s, const char *path, side_list_fn fn, void *arg)
{
	struct list l = {fn, arg, 0};
	struct cairn_attr attr;
	int r = cairn_resolve(s->fs, path, true, &attr);

	if (r == 0)
		r = cairn_readdir(s->fs, NULL, attr.inode, 0, list_entry, &l);
	return r < 0 ? r : l.r;
}

static ssize_t remote_readlink(const struct side *s, const char *path, char *buf, size_t bytes)
{
	return cairn_readlink(s->fs, path, buf, bytes);
}

static int remote_mkdir(const struct side *s, const char *path, mode_t mode)
{
	return cairn_mkdir(s->fs, path, mode);
}

static int remote_symlink(const struct side *s, const char *target, const char *path)
{
	return cairn_symlink(s->fs, target, path);
}

static int remote_mknod(const struct side *s, const char *path, mode_t mode, uint64_t rdev)
{
	char name[NAME_BYTES_MAX + 1];
	struct cairn_attr attr;
	uint64_t parent;
	int r = cairn_resolve_parent(s->fs, path, &parent, name);

	if (r < 0)
		return r;
	return cairn_make(s->fs, NULL, parent, name, mode, rdev, NULL, O_EXCL, &attr);
}

static int remote_rename(const struct side *s, const char *from, const char *to)
{
	return cairn_rename(s->fs, from, to);
}

static int remote_unlink(const struct side *s, const char *path)
{
	return cairn_unlink(s->fs, path);
}

static int set_meta(struct cairn *fs, uint64_t inode, const struct stat *st)
{
	struct cairn_attr want = {.mode = st->st_mode & 07777, .atime = st->st_atim,
				  .mtime = st->st_mtim};
	unsigned mask = CAIRN_SET_ATIME | CAIRN_SET_MTIME;
	struct cairn_attr now;

	if (!S_ISLNK(st->st_mode))
		mask |= CAIRN_SET_MODE;
	return cairn_setattr(fs, NULL, inode, mask, &want, &now);
}

static int remote_set_meta(const struct side *s, const char *path, const struct stat *st)
{
	struct cairn_attr attr;
	int r = cairn_resolve(s->fs, path, false, &attr);

	return r < 0 ? r : set_meta(s->fs, attr.inode, st);
}

static int remote_open(const struct side *s, const char *path, struct side_file **ret)
{
	struct cairn_file *file;
	int r = cairn_open(s->fs, path, O_RDONLY, 0, &file);

	if (r == 0)
		*ret = (struct side_file *)file;
	return r;
}

static int remote_create(const struct side *s, const char *path, struct side_file **ret)
{
	struct cairn_file *file;
	int r = cairn_open(s->fs, path, O_RDWR | O_CREAT | O_EXCL, 0600, &file);

	if (r == 0)
		*ret = (struct side_file *)file;
	return r;
}

static int remote_fstat(const struct side *s, struct side_file *f, struct stat *ret)
{
	return cairn_fstat(file_of(f), ret);
}

static ssize_t remote_pread(const struct side *s, struct side_file *f, void *buf, size_t bytes,
			    uint64_t offset)
{
	return cairn_pread(file_of(f), buf, bytes, offset);
}

static int remote_pwrite(const struct side *s, struct side_file *f, const void *buf, size_t bytes,
			 uint64_t offset)
{
	ssize_t n = cairn_pwrite(file_of(f), buf, bytes, offset);
	return n < 0 ? (int)n : 0;
}

static ssize_t remote_copy(const struct side *s, struct side_file *in, uint64_t from,
			   struct side_file *out, uint64_t to, size_t bytes)
{
	return cairn_copy_range(file_of(in), from, file_of(out), to, bytes);
}

static int remote_finish(const struct side *s, struct side_file *f, const struct stat *st)
{
	int r = cairn_fsync(file_of(f));
	return r < 0 ? r : set_meta(s->fs, cairn_file_inode(file_of(f)), st);
}

static int remote_close(const struct side *s, struct side_file *f)
{
	return cairn_close(file_of(f));
}

static bool remote_lost(const struct side *s)
{
	struct cairn_statfs space;

	if (cairn_statfs(s->fs, &space) == 0 && space.total_bytes > 0)
		return false;
	cairn_abort(s->fs);
	return true;
}

void side_init_remote(struct side *s, struct cairn *fs)
{
	*s = (struct side){
		.fs = fs, .stat = remote_stat, .list = remote_list, .readlink = remote_readlink,
		.mkdir = remote_mkdir, .symlink = remote_symlink, .mknod = remote_mknod,
		.rename = remote_rename, .unlink = remote_unlink, .set_meta = remote_set_meta,
		.open = remote_open, .create = remote_create, .fstat = remote_fstat,
		.pread = remote_pread, .pwrite = remote_pwrite, .copy = remote_copy, .finish = remote_finish,
		.close = remote_close, .lost = remote_lost,
	};
}
