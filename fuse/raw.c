#include "fuse/raw.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include "common/log.h"

/* As linux/fuse.h has it since Linux 6.6; the headers of Debian 12 are older. */
enum { RAW_STATX = 52 };

struct raw_statx_in {
	uint32_t getattr_flags, reserved;
	uint64_t fh;
	uint32_t sx_flags, sx_mask;
};
struct raw_time {
	int64_t sec;
	uint32_t nsec;
	int32_t reserved;
};
struct raw_statx {
	uint32_t mask, blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, spare0;
	uint64_t ino, size, blocks, attributes_mask;
	struct raw_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t spare2[14];
};
struct raw_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec, flags;
	uint64_t spare[2];
	struct raw_statx stat;
};
static_assert(sizeof(struct raw_statx_out) == 288, "as the kernel's struct fuse_statx_out");

/* A request being answered. */
struct raw {
	struct fuse_session *session;
	struct mount *mount;
	struct fuse_in_header head;
	const uint8_t *body;
	size_t body_bytes;
};

/* 0 or a negative errno: -ENOENT when the caller was interrupted and has gone. */
static int raw_reply(const struct raw *q, int error, const void *data, size_t bytes)
{
	struct fuse_out_header out = {.len = (uint32_t)(sizeof(out) + bytes), .error = error,
				      .unique = q->head.unique};
	struct iovec iov[2] = {{&out, sizeof(out)}, {(void *)(uintptr_t)data, bytes}};

	int eno;

	if (writev(fuse_session_fd(q->session), iov, bytes ? 2 : 1) >= 0)
		return 0;
	eno = errno;
	if (eno != ENOENT)
		log_warn("answer to the kernel: %s", strerror(eno));
	return -eno;
}

static void raw_fail(const struct raw *q, int r, const char *what)
{
	r = ops_interrupted(r);
	ops_log_failure(r, what, q->head.nodeid, NULL);
	raw_reply(q, r, NULL, 0);
}

/* The body's fixed part. False: it is shorter, and the request was answered. */
static bool raw_body(const struct raw *q, void *ret, size_t bytes)
{
	if (q->body_bytes < bytes) {
		raw_reply(q, -EIO, NULL, 0);
		return false;
	}
	memcpy(ret, q->body, bytes);
	return true;
}

static struct raw_time raw_time_of(struct timespec ts)
{
	return (struct raw_time){.sec = ts.tv_sec, .nsec = (uint32_t)ts.tv_nsec};
}

static void raw_statx_answer(const struct raw *q)
{
	struct inval *inval = q->mount->inval;
	uint64_t ticket = inval_ticket(inval);
	struct raw_statx_in in;
	struct cairn_attr a;
	struct stat st;
	int64_t ms;
	int r;

	if (!raw_body(q, &in, sizeof(in)))
		return;
	r = cairn_getattr(q->mount->fs, q->head.nodeid, &a);
	if (r < 0) {
		raw_fail(q, r, "statx");
		return;
	}
	cairn_attr_to_stat(&a, &st);
	struct raw_statx_out out = {.stat = {
		.mask = STATX_BASIC_STATS | STATX_BTIME, .blksize = (uint32_t)st.st_blksize,
		.nlink = a.nlink, .uid = a.uid, .gid = a.gid, .mode = (uint16_t)a.mode,
		.ino = a.inode, .size = a.size, .blocks = a.blocks,
		.atime = raw_time_of(a.atime), .btime = raw_time_of(a.btime),
		.ctime = raw_time_of(a.ctime), .mtime = raw_time_of(a.mtime),
		.rdev_major = major(st.st_rdev), .rdev_minor = minor(st.st_rdev),
	}};
	ms = inval_attr_begin(inval, ticket, &a, true);
	out.attr_valid = (uint64_t)ms / 1000;
	out.attr_valid_nsec = (uint32_t)(ms % 1000) * 1000000;
	raw_reply(q, 0, &out, sizeof(out));
	inval_attr_end(inval, a.inode);
}

static void raw_attr(const struct cairn_attr *a, struct fuse_attr *ret)
{
	struct stat st;

	cairn_attr_to_stat(a, &st);
	*ret = (struct fuse_attr){
		.ino = a->inode, .size = a->size, .blocks = a->blocks,
		.atime = (uint64_t)a->atime.tv_sec, .atimensec = (uint32_t)a->atime.tv_nsec,
		.mtime = (uint64_t)a->mtime.tv_sec, .mtimensec = (uint32_t)a->mtime.tv_nsec,
		.ctime = (uint64_t)a->ctime.tv_sec, .ctimensec = (uint32_t)a->ctime.tv_nsec,
		.mode = a->mode, .nlink = a->nlink, .uid = a->uid, .gid = a->gid,
		.rdev = (uint32_t)st.st_rdev, .blksize = (uint32_t)st.st_blksize,
	};
}

static void raw_tmpfile(const struct raw *q)
{
	struct cairn_cred cred = {.uid = q->head.uid, .gid = q->head.gid};
	struct fuse_create_in in;
	struct fuse_file_info fi = {0};
	struct inval_entry told;
	struct cairn_attr attr;
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = {0};
	int r;

	if (!raw_body(q, &in, sizeof(in)))
		return;
	cred.umask = in.umask;
	fi.flags = (int)in.flags;
	r = ops_open_tmpfile(q->mount->fs, q->mount->inval, &cred, q->head.nodeid, in.mode, &fi, &attr);
	if (r < 0) {
		raw_fail(q, r, "tmpfile in");
		return;
	}
	out.entry.nodeid = attr.inode;
	out.entry.generation = OPS_GENERATION;
	raw_attr(&attr, &out.entry.attr);
	out.open.fh = fi.fh;
	out.open.open_flags = fi.direct_io ? FOPEN_DIRECT_IO : 0;
	attr.name_ms = 0; /* it has none */
	inval_entry_begin(q->mount->inval, 0, q->head.nodeid, &attr, false, &told);
	ops_entry_opened(q->mount->inval, &told, &fi, attr.change);
	r = raw_reply(q, 0, &out, sizeof(out));
	inval_entry_end(q->mount->inval, &told);
	if (r == -ENOENT)
		ops_open_undo(q->mount->inval, &fi);
	if (r < 0)
		inval_entry_undo(q->mount->inval, &told);
}

bool raw_process(struct fuse_session *session, struct mount *mount, const struct fuse_buf *buf)
{
	struct raw q = {.session = session, .mount = mount};

	if (buf->size < sizeof(q.head))
		return false;
	memcpy(&q.head, buf->mem, sizeof(q.head));
	q.body = (const uint8_t *)buf->mem + sizeof(q.head);
	q.body_bytes = buf->size - sizeof(q.head);
	switch (q.head.opcode) {
	case RAW_STATX: raw_statx_answer(&q); return true;
	case FUSE_TMPFILE: raw_tmpfile(&q); return true;
	default: return false;
	}
}
