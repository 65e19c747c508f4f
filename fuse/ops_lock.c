/* Locks. fcntl's, OFD and flock locks are asked of the master; one that must wait leaves the
 * thread of the request at once and is answered by libcairn's line (client/lock.h) when it is
 * granted, refused or interrupted.
 *
 * The kernel tells of a close by FLUSH with the closing process's owner: its fcntl locks go then.
 * It does not tell that the last descriptor of an open file description with OFD locks went, but
 * by the RELEASE of the handle: what was set through the handle and is still there goes then. */
#include "fuse/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"

static int lock_type(int type)
{
	return type == F_WRLCK ? CAIRN_LOCK_EXCLUSIVE :
	       type == F_RDLCK ? CAIRN_LOCK_SHARED : CAIRN_UNLOCK;
}

static struct cairn_lock lock_of(const struct fuse_file_info *fi, const struct flock *lock)
{
	return (struct cairn_lock){
		.owner = fi->lock_owner, .handle = fi->fh, .kind = CAIRN_LOCK_RANGE,
		.type = lock_type(lock->l_type), .start = (uint64_t)lock->l_start,
		.end = lock->l_len ? (uint64_t)lock->l_start + (uint64_t)lock->l_len - 1
				   : CAIRN_LOCK_END,
		.pid = (uint32_t)lock->l_pid};
}

void ops_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	struct cairn_lock want = lock_of(fi, lock), found;
	int r = cairn_lock_test(ops_fs(req), ino, &want, &found);
	struct flock answer = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	if (r < 0) {
		ops_fail(req, r, "getlk", ino, NULL);
		return;
	}
	if (found.type != CAIRN_UNLOCK) {
		answer.l_type = found.type == CAIRN_LOCK_EXCLUSIVE ? F_WRLCK : F_RDLCK;
		answer.l_start = (off_t)found.start;
		answer.l_len = found.end >= CAIRN_LOCK_END ? 0
							   : (off_t)(found.end - found.start + 1);
		answer.l_pid = (pid_t)found.pid;
	}
	fuse_reply_lock(req, &answer);
}

/* ---- waiting ---- */

struct lock_call {
	fuse_req_t req;
	fuse_ino_t ino;
	struct cairn_lock_wait *wait;
};

static void on_interrupt(fuse_req_t req, void *data)
{
	struct lock_call *c = data;

	cairn_lock_wait_cancel(c->wait);
}

static void on_done(void *arg, int r)
{
	struct lock_call *c = arg;

	/* Returns when no interrupt of this request is being handled: c is ours then. */
	fuse_req_interrupt_func(c->req, NULL, NULL);
	ops_reply_done(c->req, r, "lock", c->ino, NULL);
	free(c);
}

/* OFD locks are no different from fcntl's in the request, but Linux leaves them out of its search
 * for deadlocks. The caller's thread still is in the system call that says which it is; where
 * that cannot be seen it counts as fcntl's. */
static bool is_ofd(fuse_req_t req)
{
	unsigned long fd, command;
	char path[64];
	long number;
	FILE *f;
	int n;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)fuse_req_ctx(req)->pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	n = fscanf(f, "%ld %lx %lx", &number, &fd, &command);
	fclose(f);
	return n == 3 && number == SYS_fcntl && (command & 0xffffffff) == F_OFD_SETLKW;
}

static void lock_wait(fuse_req_t req, fuse_ino_t ino, struct cairn_lock *lock)
{
	struct lock_call *c = calloc(1, sizeof(*c));

	lock->no_deadlock = lock->kind == CAIRN_LOCK_WHOLE || is_ofd(req);
	if (c) {
		c->req = req;
		c->ino = ino;
		c->wait = cairn_lock_wait_new(ops_fs(req), ino, lock, on_done, c);
	}
	if (!c || !c->wait) {
		free(c);
		fuse_reply_err(req, ENOLCK);
		return;
	}
	struct cairn_lock_wait *wait = c->wait;
	fuse_req_interrupt_func(req, on_interrupt, c);
	cairn_lock_wait_start(wait);
}

static void lock_set(fuse_req_t req, fuse_ino_t ino, struct cairn_lock *lock, bool wait)
{
	int r = cairn_lock(ops_fs(req), ino, lock);

	if (r == -EAGAIN && wait)
		lock_wait(req, ino, lock);
	else
		ops_reply_done(req, r, "lock", ino, NULL);
}

void ops_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock,
	       int sleep)
{
	struct cairn_lock want = lock_of(fi, lock);

	lock_set(req, ino, &want, sleep);
}

void ops_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	int type = op & LOCK_EX ? CAIRN_LOCK_EXCLUSIVE :
		   op & LOCK_SH ? CAIRN_LOCK_SHARED : CAIRN_UNLOCK;
	struct cairn_lock want = {
		.owner = fi->lock_owner, .handle = fi->fh, .kind = CAIRN_LOCK_WHOLE, .type = type,
		.end = CAIRN_LOCK_END, .pid = (uint32_t)fuse_req_ctx(req)->pid};

	lock_set(req, ino, &want, !(op & LOCK_NB));
}

/* ---- closing ---- */

int ops_lock_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	return cairn_unlock_handle(ops_fs(req), ino, fi->fh);
}
