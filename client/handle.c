/* Open files. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "client/client.h"
#include "client/result.h"

static void file_link(struct cairn_file *file)
{
	struct cairn *fs = file->fs;

	pthread_mutex_lock(&fs->files_lock);
	file->next = fs->files;
	if (file->next)
		file->next->prev = file;
	fs->files = file;
	pthread_mutex_unlock(&fs->files_lock);
}

static void file_unlink(struct cairn_file *file)
{
	struct cairn *fs = file->fs;

	pthread_mutex_lock(&fs->files_lock);
	if (file->prev)
		file->prev->next = file->next;
	else
		fs->files = file->next;
	if (file->next)
		file->next->prev = file->prev;
	pthread_mutex_unlock(&fs->files_lock);
}

static int file_new(struct cairn *fs, const struct cairn_cred *cred, const struct wire_attr *attr,
		    int flags, bool fresh, struct cairn_file **ret, struct err *err)
{
	struct cairn_file *file;

	if (attr->chunk_bits < CHUNK_BITS_MIN || attr->chunk_bits > CHUNK_BITS_MAX)
		return err_set(err, ERR_PROTOCOL, "inode %llx: chunks of 2^%u bytes",
			       (unsigned long long)attr->inode, attr->chunk_bits);
	file = calloc(1, sizeof(*file));
	if (file) {
		file->fs = fs;
		file->flags = flags;
		file->change = attr->change;
		file->inode = inode_open(&fs->inodes, attr->inode, attr->chunk_bits, fresh);
	}
	if (!file || !file->inode) {
		free(file);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	if (session_is_checked(&fs->session) && inode_opened_by(file->inode, cred, flags) < 0) {
		inode_close(&fs->inodes, file->inode);
		free(file);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	file->losses = inode_losses_sample(file->inode);
	file_link(file);
	*ret = file;
	return 0;
}

static int type_check(uint32_t mode, struct err *err)
{
	if (S_ISREG(mode))
		return 0;
	if (S_ISDIR(mode))
		return err_set(err, ERR_ISDIR, "a directory is not opened as a file");
	if (S_ISLNK(mode))
		return err_set(err, ERR_LOOP, "a symbolic link is not opened as a file");
	return err_set(err, ERR_NOTSUP, "fifos, sockets and devices have no data here");
}

static bool truncates(int flags)
{
	return (flags & O_TRUNC) != 0; /* with O_RDONLY too, as on Linux */
}

/* What O_TRUNC asks for. On failure the file is closed. */
static int file_truncate(struct cairn_file *file, const struct cairn_cred *cred,
			 struct wire_attr *attr, struct err *err)
{
	struct cairn_attr size = {.size = 0};
	int r = meta_setattr(file->fs, cred, file->inode->number, CAIRN_SET_SIZE, &size, attr, err);

	if (r < 0)
		handle_close(file, NULL);
	else
		file->change = attr->change;
	return r;
}

/* So that it lives until it is closed. On failure the file is closed. */
static int file_lease(struct cairn_file *file, bool nameless, struct err *err)
{
	struct cairn *fs = file->fs;
	int r = lease_open(&fs->lease, file->inode->number, nameless, client_deadline(fs), err);

	if (r < 0)
		handle_close(file, NULL);
	return r;
}

int handle_open(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, int flags,
		struct cairn_file **ret, struct err *err)
{
	struct cairn_file *file;
	struct wire_attr attr;
	int r = meta_getattr_to_open(fs, cred, inode, flags, &attr, err);

	if (r == 0)
		r = type_check(attr.mode, err);
	if (r == 0)
		r = file_new(fs, cred, &attr, flags, false, &file, err);
	if (r == 0)
		r = file_lease(file, attr.nlink == 0, err);
	if (r == 0 && truncates(flags))
		r = file_truncate(file, cred, &attr, err);
	if (r == 0)
		*ret = file;
	return r;
}

int handle_create(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		  struct slice name, uint32_t mode, int flags, struct wire_attr *ret_attr,
		  struct held *ret_held, struct cairn_file **ret, struct err *err)
{
	unsigned make_flags = flags & O_EXCL ? MAKE_EXCL : 0;
	struct cairn_file *file;
	struct location chunk;
	struct wire_attr attr;
	bool existed;
	int r;

	if ((flags & O_ACCMODE) != O_RDONLY) {
		make_flags |= MAKE_CHUNK;
		if (fs->writeback.limit_bytes > 0 && !lease_full(&fs->lease))
			make_flags |= MAKE_BUFFER;
	}
	r = meta_make(fs, cred, parent, name, S_IFREG | (mode & 07777), 0, NULL, make_flags, &attr,
		      &existed, &chunk, ret_held, err);
	if (r == 0 && existed && session_is_checked(&fs->session))
		r = meta_getattr_to_open(fs, cred, attr.inode, flags, &attr, err);
	if (r == 0)
		r = file_new(fs, cred, &attr, flags, !existed, &file, err);
	if (r < 0)
		return r;
	/* The chunk that came with the creation: a small file needs no other question. */
	if (!existed && chunk.id && chunk.n_replicas > 0)
		inode_location_put(file->inode, &chunk, attr.change);
	r = file_lease(file, false, err);
	if (r == 0 && existed && truncates(flags))
		r = file_truncate(file, cred, &attr, err);
	if (r < 0)
		return r;
	*ret_attr = attr;
	*ret = file;
	return 0;
}

static int handle_tmpfile(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
			  uint32_t mode, int flags, struct wire_attr *ret_attr,
			  struct cairn_file **ret, struct err *err)
{
	struct cairn_file *file;
	struct held held;
	int r = meta_make(fs, cred, parent, (struct slice){0}, S_IFREG | (mode & 07777), 0, NULL,
			  MAKE_EXCL | MAKE_TMPFILE, ret_attr, NULL, NULL, &held, err);

	if (r == 0)
		r = file_new(fs, cred, ret_attr, flags, true, &file, err);
	if (r < 0)
		return r;
	inode_hold(&fs->inodes, file->inode, false); /* it may get a name */
	*ret = file;
	return 0;
}

int handle_close(struct cairn_file *file, struct err *err)
{
	struct cairn *fs = file->fs;
	uint64_t number = file->inode->number;
	int r = 0, told = file_told(file, err);

	file_unlink(file);
	readahead_clear(&fs->readahead, &file->readahead);
	if (inode_close(&fs->inodes, file->inode))
		r = meta_release(fs, number, told ? NULL : err);
	free(file);
	return told ? told : r;
}

/* ---- errno values ---- */

int cairn_open_inode(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, int flags,
		     struct cairn_file **ret)
{
	struct err err = {0};
	int r = handle_open(fs, cred, inode, flags, ret, &err);

	/* It went since its name was looked up, which may stand for another one now. */
	return (int)result(r == ERR_NOENT ? ERR_STALE : r, &err);
}

int cairn_create_at(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		    const char *name, uint32_t mode, int flags, struct cairn_attr *ret_attr,
		    struct cairn_file **ret)
{
	struct err err = {0};
	struct held held = {0};
	struct wire_attr attr;
	int r = handle_create(fs, cred, parent, slice_str(name), mode, flags, &attr, &held, ret,
			      &err);

	if (r == 0 && ret_attr) {
		client_attr(&attr, ret_attr);
		client_held(fs, ret_attr, &held);
	}
	return (int)result(r, &err);
}

int cairn_tmpfile(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent, uint32_t mode,
		  int flags, struct cairn_attr *ret_attr, struct cairn_file **ret)
{
	struct err err = {0};
	struct wire_attr attr;
	int r = handle_tmpfile(fs, cred, parent, mode, flags, &attr, ret, &err);

	if (r == 0 && ret_attr)
		client_attr(&attr, ret_attr);
	return (int)result(r, &err);
}

uint64_t cairn_file_change(const struct cairn_file *file)
{
	return file->change;
}

uint64_t cairn_file_inode(const struct cairn_file *file)
{
	return file->inode->number;
}

int cairn_ftruncate(struct cairn_file *file, uint64_t size)
{
	struct err err = {0};
	struct cairn_attr attr = {.size = size};
	struct wire_attr got;
	int r;

	if ((file->flags & O_ACCMODE) == O_RDONLY)
		r = err_set(&err, ERR_INVAL, "the file is open for reading only");
	else
		r = meta_setattr(file->fs, NULL, file->inode->number, CAIRN_SET_SIZE, &attr, &got,
				 &err);
	return (int)result(r == ERR_NOENT ? ERR_STALE : r, &err);
}

int cairn_fstat(struct cairn_file *file, struct stat *ret)
{
	struct err err = {0};
	struct cairn_attr attr;
	struct wire_attr got;
	int r = meta_getattr(file->fs, file->inode->number, &got, client_deadline(file->fs), &err);

	if (r == 0) {
		client_attr(&got, &attr);
		cairn_attr_to_stat(&attr, ret);
	}
	return (int)result(r == ERR_NOENT ? ERR_STALE : r, &err);
}

int cairn_close(struct cairn_file *file)
{
	struct err err = {0};
	return (int)result(handle_close(file, &err), &err);
}
