/* Appending: one client at a time, by the lock LOCK_APPEND of the file (common/wire.h).
 *
 * The lock's answer tells where the file ends; the bytes go there; WROTE makes them visible and
 * gives the lock back in one log entry. So a record is there whole or not at all, once (WROTE is
 * done once, however often it is sent), and nobody sees a gap. When it fails, giving the lock
 * back cuts off what may have been written; when the client dies, the end of its session does.
 * WROTE is refused when the file has another end by then, which writers that do not append can
 * bring about: all again. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "client/client.h"
#include "client/result.h"
#include "common/cleanup.h"
#include "common/clock.h"

enum { APPEND_AGAIN_MAX = 64 };

/* LOCK. *ret_end: the file's end, when it is granted. */
static int append_lock(struct cairn_file *file, uint8_t type, bool *ret_granted, uint64_t *ret_end,
		       int64_t deadline_ms, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_lock req = {.inode = file->inode->number, .kind = LOCK_APPEND, .type = type,
				.end = UINT64_MAX};
	struct wire_lock_reply rep;
	int r;

	inodes_cred(&file->fs->inodes, &file->fs->session, req.inode, true, &req.cred);
	r = session_mutate(&file->fs->session, OP_LOCK, &req, &req.id, &rep, &fields, deadline_ms,
			   err);
	if (r == 0) {
		*ret_granted = rep.granted;
		*ret_end = rep.attr.size;
	}
	return r;
}

/* Until it may be free. The file's other appends of this session wait for this one, so few pooled
 * connections are taken up by it. */
static int append_wait(struct cairn_file *file, int64_t since_ms, int64_t deadline_ms,
		       struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_lock_wait req = {
		.session = session_id(&file->fs->session), .inode = file->inode->number,
		.kind = LOCK_APPEND, .type = LOCK_EXCLUSIVE, .end = UINT64_MAX,
		.flags = LOCK_NO_DEADLOCK, .waited_ms = (uint64_t)(clock_ms() - since_ms)};
	struct wire_empty empty;
	int r;

	inodes_cred(&file->fs->inodes, &file->fs->session, req.inode, true, &req.cred);
	r = master_call(&file->fs->master, OP_LOCK_WAIT, &req, &empty, &fields, deadline_ms, NULL,
			err);
	/* ERR_STALE: the next LOCK renews the session. */
	return r == ERR_AGAIN || r == ERR_STALE ? 0 : r;
}

/* *deadline moves on while others have the lock and the master answers: a client that died with it
 * keeps it until its session has ended. */
static int append_begin(struct cairn_file *file, uint64_t *ret_end, int64_t *deadline,
			struct err *err)
{
	int64_t since = clock_ms(), give_up = *deadline + session_ttl_ms(&file->fs->session);
	bool granted;
	int r;

	for (;;) {
		r = append_lock(file, LOCK_EXCLUSIVE, &granted, ret_end, *deadline, err);
		if (r < 0 || granted)
			return r;
		if (deadline_left(give_up) == 0)
			return err_set(err, ERR_TIMEOUT, "inode %llx: another client appends to it",
				       (unsigned long long)file->inode->number);
		*deadline = client_deadline(file->fs);
		r = append_wait(file, since, *deadline, err);
		if (r < 0)
			return r;
	}
}

/* ---- giving up ---- */

/* The lock may be held and nothing will follow. The line gives it back when the master answers;
 * until then no other append of this session begins. */
struct append_debt {
	struct cairn *fs;
	struct inode *inode;
};

static void debt_paid(void *arg, int r)
{
	struct append_debt *d = arg;
	uint64_t number = d->inode->number;

	inode_append_end(d->inode);
	if (inode_close(&d->fs->inodes, d->inode))
		meta_release(d->fs, number, NULL);
	free(d);
}

static void append_give_up(struct cairn_file *file)
{
	struct cairn_lock lock = {.kind = LOCK_APPEND, .type = CAIRN_UNLOCK,
				  .end = CAIRN_LOCK_END};
	struct append_debt *d = calloc(1, sizeof(*d));
	struct cairn_lock_wait *wait;

	if (!d) {
		/* The next append takes the lock over, with the cut. */
		inode_append_end(file->inode);
		return;
	}
	d->fs = file->fs;
	d->inode = inode_open(&d->fs->inodes, file->inode->number, file->inode->chunk_bits, false);
	wait = cairn_lock_wait_new(file->fs, file->inode->number, &lock, debt_paid, d);
	if (wait)
		cairn_lock_wait_start(wait);
	else
		debt_paid(d, -ENOMEM);
}

static int append_once(struct cairn_file *file, const uint8_t *data, size_t bytes,
		       uint64_t *ret_offset, int64_t *deadline, struct err *err)
{
	uint64_t end;
	int r = append_begin(file, &end, deadline, err);

	if (r < 0)
		return r;
	if (bytes > FILE_BYTES_MAX - end)
		r = err_set(err, ERR_FBIG, "beyond the largest file");
	if (r == 0)
		r = file_write_at(file, data, bytes, end, WROTE_APPEND, *deadline, err);
	if (r == 0)
		*ret_offset = end;
	return r;
}

int file_append(struct cairn_file *file, const uint8_t *data, size_t bytes, uint64_t *ret_offset,
		struct err *err)
{
	struct inode *inode = file->inode;
	bool one = bytes <= (WROTE_CHUNKS_MAX - 1ULL) << inode->chunk_bits;
	int64_t deadline = client_deadline(file->fs);
	int r = file_settle(file, err);

	if (r < 0)
		return r;
	r = ERR_AGAIN;
	if (!inode_append_begin(inode, deadline))
		return err_set(err, ERR_TIMEOUT, "inode %llx: waiting for another append",
			       (unsigned long long)inode->number);
	/* The lock is still ours and taken anew with the cut. What takes more than one WROTE may be
	 * there in part: then it is not repeated. */
	for (int i = 0; r == ERR_AGAIN && i < APPEND_AGAIN_MAX && (i == 0 || one); i++) {
		err_clear(err);
		r = append_once(file, data, bytes, ret_offset, &deadline, err);
	}
	if (r < 0)
		append_give_up(file); /* ends it later */
	else
		inode_append_end(inode);
	return r;
}

int cairn_record_append(struct cairn_file *file, const void *buf, size_t bytes,
			uint64_t *ret_offset)
{
	struct err err = {0};
	int r;

	if ((file->flags & O_ACCMODE) == O_RDONLY)
		r = err_set(&err, ERR_BADF, "the file is open for reading only");
	else if (bytes == 0 || bytes > (1ULL << file->inode->chunk_bits))
		r = err_set(&err, ERR_INVAL, "a record has 1 byte to a chunk's size");
	else
		r = file_append(file, buf, bytes, ret_offset, &err);
	if (r == 0 && (file->flags & O_DSYNC))
		r = file_sync(file, &err);
	return (int)result(r, &err);
}
