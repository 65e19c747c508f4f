#include "chunkserver/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>

#include "common/cleanup.h"
#include "common/err.h"

enum { DISK_TEXT_MAX = 512, DISK_PATH_MAX = 4096 };

static void put_line(struct buf *b, const char *key, const uint8_t *uuid)
{
	buf_printf(b, "%s=", key);
	for (unsigned i = 0; i < DISK_UUID_BYTES; i++)
		buf_printf(b, "%02x", uuid[i]);
	buf_u8(b, '\n');
}

/* Writes the identity beside the old one and renames: a crash leaves one or the other. */
static int identity_write(const struct io *io, const struct disk *d, struct err *err)
{
	_cleanup_buf_ struct buf b = {0};
	char path[DISK_PATH_MAX], tmp[DISK_PATH_MAX + 8];
	int fd, r;

	if (d->has_cluster)
		put_line(&b, "cluster", d->cluster);
	put_line(&b, "server", d->server);
	put_line(&b, "disk", d->uuid);
	snprintf(path, sizeof(path), "%s/cairn-disk", d->dir);
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	if (buf_status(&b) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	fd = io->open(io, tmp, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	r = fd;
	if (fd >= 0) {
		r = io->pwrite(io, fd, b.data, b.len, 0);
		if (r == 0)
			r = io->fdatasync(io, fd);
		io->close(io, fd);
	}
	if (r == 0)
		r = io->rename(io, tmp, path);
	if (r == 0)
		r = io->sync_dir(io, d->dir);
	return r < 0 ? err_set(err, r, "disk %s: identity: %s", d->dir, err_text(r)) : 0;
}

static bool parse_uuid(const char *text, const char *key, uint8_t *ret)
{
	const char *p = strstr(text, key);

	if (!p || (p > text && p[-1] != '\n'))
		return false;
	p += strlen(key);
	for (unsigned i = 0; i < DISK_UUID_BYTES; i++) {
		unsigned v;
		if (strspn(p + 2 * i, "0123456789abcdef") < 2 ||
		    sscanf(p + 2 * i, "%2x", &v) != 1)
			return false;
		ret[i] = (uint8_t)v;
	}
	return true;
}

/* 1 read, 0 a new disk. */
static int identity_read(const struct io *io, struct disk *d, struct err *err)
{
	char path[DISK_PATH_MAX], text[DISK_TEXT_MAX];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/cairn-disk", d->dir);
	fd = io->open(io, path, O_RDONLY, 0);
	if (fd == ERR_NOENT)
		return 0;
	if (fd < 0)
		return err_set(err, fd, "disk %s: %s: %s", d->dir, path, err_text(fd));
	n = io->pread(io, fd, text, sizeof(text) - 1, 0);
	io->close(io, fd);
	text[n > 0 ? n : 0] = '\0';
	d->has_server = parse_uuid(text, "server=", d->server);
	d->has_cluster = parse_uuid(text, "cluster=", d->cluster);
	if (!d->has_server || !parse_uuid(text, "disk=", d->uuid))
		return err_set(err, ERR_CORRUPT, "disk %s: %s is damaged", d->dir, path);
	return 1;
}

static int make_dirs(const struct io *io, const char *dir, struct err *err)
{
	char path[DISK_PATH_MAX];
	int r = io->mkdir(io, dir, 0700);
	bool made = false;

	if (r < 0 && r != ERR_EXIST)
		return err_set(err, r, "disk %s: %s", dir, err_text(r));
	snprintf(path, sizeof(path), "%s/chunks", dir);
	r = io->mkdir(io, path, 0700);
	/* All each time: an earlier start may have been cut short. */
	for (unsigned i = 0; i < 256 && (r == 0 || r == ERR_EXIST); i++) {
		snprintf(path, sizeof(path), "%s/chunks/%02x", dir, i);
		r = io->mkdir(io, path, 0700);
		made |= r == 0;
	}
	if (r == ERR_EXIST)
		r = 0;
	snprintf(path, sizeof(path), "%s/chunks", dir);
	if (r == 0 && made)
		r = io->sync_dir(io, path);
	if (r == 0 && made)
		r = io->sync_dir(io, dir);
	return r < 0 ? err_set(err, r, "disk %s: %s", dir, err_text(r)) : 0;
}

int disk_open(const struct io *io, const char *dir, struct disk *ret, struct err *err)
{
	char path[DISK_PATH_MAX];
	int r;

	*ret = (struct disk){.lock_fd = -1};
	if (strlen(dir) > DISK_PATH_MAX - 128)
		return err_set(err, ERR_NAMETOOLONG, "disk %s: path too long", dir);
	r = make_dirs(io, dir, err);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/lock", dir);
	ret->lock_fd = io->open(io, path, O_RDWR | O_CREAT, 0600);
	if (ret->lock_fd < 0)
		return err_set(err, ret->lock_fd, "disk %s: %s", dir, err_text(ret->lock_fd));
	ret->dir = strdup(dir);
	if (!ret->dir)
		r = err_set(err, ERR_NOMEM, "out of memory");
	else if (flock(ret->lock_fd, LOCK_EX | LOCK_NB) < 0)
		r = err_set(err, ERR_BUSY, "disk %s: another chunkserver uses it", dir);
	else
		r = identity_read(io, ret, err);
	if (r < 0)
		disk_close(io, ret);
	return r < 0 ? r : 0;
}

void disk_close(const struct io *io, struct disk *d)
{
	if (d->lock_fd >= 0)
		io->close(io, d->lock_fd);
	free(d->dir);
	*d = (struct disk){.lock_fd = -1};
}

int disks_agree(const struct io *io, struct disk *disks, size_t n, struct err *err)
{
	const struct disk *known = NULL, *failed = NULL;
	uint8_t server[DISK_UUID_BYTES];

	for (size_t i = 0; i < n; i++) {
		if (disks[i].failed)
			failed = &disks[i];
		else if (disks[i].has_server && !known)
			known = &disks[i];
	}
	if (known)
		memcpy(server, known->server, sizeof(server));
	else if (failed)
		return err_set(err, ERR_CONFIG, "disk %s cannot be used, and the others are new: "
			       "this server's id may be on it", failed->dir);
	else if (RAND_bytes(server, sizeof(server)) != 1)
		return err_set(err, ERR_IO, "no random bytes for a server id");
	for (size_t i = 0; i < n; i++) {
		struct disk *d = &disks[i];
		int r;
		if (d->failed)
			continue;
		if (d->has_server && memcmp(d->server, server, sizeof(server)) != 0)
			return err_set(err, ERR_CONFIG, "disk %s belongs to another chunkserver "
				       "than %s", d->dir, known->dir);
		if (known && d->has_cluster && known->has_cluster &&
		    memcmp(d->cluster, known->cluster, DISK_UUID_BYTES) != 0)
			return err_set(err, ERR_WRONG_CLUSTER, "disk %s belongs to another cluster "
				       "than %s", d->dir, known->dir);
		if (d->has_server)
			continue;
		memcpy(d->server, server, sizeof(server));
		if (RAND_bytes(d->uuid, sizeof(d->uuid)) != 1)
			return err_set(err, ERR_IO, "no random bytes for a disk id");
		d->has_server = true;
		r = identity_write(io, d, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int disk_join_cluster(const struct io *io, struct disk *d, struct slice cluster, struct err *err)
{
	if (cluster.len != DISK_UUID_BYTES)
		return err_set(err, ERR_PROTOCOL, "the master sent no cluster id");
	if (d->has_cluster) {
		if (memcmp(d->cluster, cluster.data, DISK_UUID_BYTES) != 0)
			return err_set(err, ERR_WRONG_CLUSTER, "disk %s belongs to another cluster",
				       d->dir);
		return 0;
	}
	memcpy(d->cluster, cluster.data, DISK_UUID_BYTES);
	d->has_cluster = true;
	return identity_write(io, d, err);
}
