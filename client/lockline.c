/* The line: those that wait for a lock. See client/lock.h.
 *
 *     new ── start ──> queued ── LOCK_WAIT sent ──> asked ── "may succeed" ──> LOCK ── granted: done
 *                        ^────── connection lost, ask again, no answer ──┴───────┘ refused
 *
 * A wait belongs to the thread from its start on; others only set `cancelled`. */
#include "client/lock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utlist.h>

#include "client/client.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/waits.h"

enum { LINE_DIAL_MS = 2000, LINE_PAUSE_MS = 200, LINE_SEND_MS = 2000 };

struct cairn_lock_wait {
	struct cairn *fs;
	uint64_t inode;
	struct cairn_lock lock;
	cairn_lock_fn done;
	void *arg;
	bool cancelled; /* protected by the line's lock */
	int64_t since_ms, asked_ms;
	uint64_t request; /* 0: queued; else the id of its LOCK_WAIT */
	struct cairn_lock_wait *prev, *next;
};

/* The thread's own. */
struct line {
	struct cairn *fs;
	struct lock_line *shared;
	struct cairn_lock_wait *waits;
	struct conn *conn;
	uint64_t next_request;
	int64_t not_before_ms; /* of the next attempt to connect */
};

/* ---- the ends of a wait ---- */

static void wait_end(struct line *l, struct cairn_lock_wait *w, int code)
{
	DL_DELETE(l->waits, w);
	w->done(w->arg, code < 0 ? -err_to_errno(code) : 0);
	free(w);
}

/* LOCK, now that it may succeed. Without an answer the outcome is not known: what may be held is
 * in the records and goes when the file is closed. */
static void wait_try(struct line *l, struct cairn_lock_wait *w)
{
	struct err err = {0};
	int r = lock_attempt(l->fs, w->inode, &w->lock, &err);

	if (r == ERR_AGAIN)
		w->request = 0;
	else
		wait_end(l, w, r);
}

/* A lock to be given back (client/append.c): nobody is in its way, only the master may be away.
 * With the session it is gone too. */
static void wait_unlock(struct line *l, struct cairn_lock_wait *w)
{
	struct err err = {0};
	int r = lock_attempt(l->fs, w->inode, &w->lock, &err);

	w->asked_ms = clock_ms();
	if (r == 0 || r == ERR_STALE)
		wait_end(l, w, 0);
}

/* ---- the connection ---- */

static void line_drop(struct line *l)
{
	struct cairn_lock_wait *w;

	conn_free(l->conn);
	l->conn = NULL;
	l->not_before_ms = deadline_in(LINE_PAUSE_MS);
	DL_FOREACH(l->waits, w)
		w->request = 0;
}

static int line_send(struct line *l, uint16_t op, uint64_t id, const void *req)
{
	int r;

	buf_clear(&l->conn->out);
	r = wire_put_request(&l->conn->out, op, id, 0, req, 0);
	if (r == 0)
		r = conn_send(l->conn, buf_slice(&l->conn->out), NULL, 0,
			      deadline_in(LINE_SEND_MS), NULL);
	if (r < 0)
		line_drop(l);
	return r;
}

static int wait_ask(struct line *l, struct cairn_lock_wait *w)
{
	struct wire_lock_wait req = {
		.session = session_id(&l->fs->session), .inode = w->inode, .owner = w->lock.owner,
		.kind = (uint8_t)w->lock.kind, .type = (uint8_t)w->lock.type,
		.start = w->lock.start, .end = w->lock.end,
		.flags = w->lock.no_deadlock ? LOCK_NO_DEADLOCK : 0,
		.waited_ms = (uint64_t)(clock_ms() - w->since_ms)};

	inodes_cred(&l->fs->inodes, &l->fs->session, w->inode, false, &req.cred);
	w->request = ++l->next_request;
	w->asked_ms = clock_ms();
	return line_send(l, OP_LOCK_WAIT, w->request, &req);
}

static void line_ask(struct line *l)
{
	struct cairn_lock_wait *w, *next;
	bool asks = false;

	DL_FOREACH_SAFE(l->waits, w, next) {
		if (w->lock.type != CAIRN_UNLOCK)
			asks = true;
		else if (clock_ms() >= w->asked_ms + LINE_PAUSE_MS)
			wait_unlock(l, w);
	}
	if (!l->conn && asks && clock_ms() >= l->not_before_ms &&
	    master_dial(&l->fs->master, deadline_in(LINE_DIAL_MS), &l->conn, NULL) < 0) {
		l->conn = NULL;
		l->not_before_ms = deadline_in(LINE_PAUSE_MS);
	}
	DL_FOREACH(l->waits, w) {
		if (!l->conn)
			return;
		if (w->lock.type != CAIRN_UNLOCK && !w->request && wait_ask(l, w) < 0)
			return;
	}
}

static struct cairn_lock_wait *wait_of(struct line *l, uint64_t request)
{
	struct cairn_lock_wait *w;

	DL_SEARCH_SCALAR(l->waits, w, request, request);
	return w;
}

static void line_answer(struct line *l)
{
	_cleanup_buf_ struct buf fields = {0};
	struct cairn_lock_wait *w;
	struct wire_header h;
	struct wire_empty empty;
	int r = conn_recv(l->conn, &h, &fields, deadline_in(LINE_SEND_MS), NULL);

	if (r < 0) {
		line_drop(l);
		return;
	}
	r = wire_get_reply(&h, buf_slice(&fields), &empty, NULL, NULL);
	w = h.op == OP_LOCK_WAIT ? wait_of(l, h.id) : NULL;
	if (!w)
		return; /* of one that was cancelled */
	switch (r) {
	case 0:
	case ERR_STALE: /* LOCK finds out what has become of the session */
		wait_try(l, w);
		return;
	case ERR_AGAIN:
		w->request = 0;
		return;
	case ERR_NOT_LEADER:
	case ERR_SHUTDOWN:
	case ERR_PROTOCOL:
		line_drop(l);
		return;
	default:
		wait_end(l, w, r);
	}
}

/* ---- the thread ---- */

/* Takes over what was started and ends what was cancelled. False: nothing is left and none comes.
 */
static bool line_look(struct line *l)
{
	struct cairn_lock_wait *w, *next;
	bool ended;

	pthread_mutex_lock(&l->shared->lock);
	DL_CONCAT(l->waits, l->shared->incoming);
	l->shared->incoming = NULL;
	ended = l->shared->ended;
	pthread_mutex_unlock(&l->shared->lock);
	DL_FOREACH_SAFE(l->waits, w, next) {
		bool cancelled;
		pthread_mutex_lock(&l->shared->lock);
		cancelled = w->cancelled || ended;
		pthread_mutex_unlock(&l->shared->lock);
		if (!cancelled)
			continue;
		if (w->request && l->conn) {
			struct wire_lock_cancel req = {.request = w->request};
			line_send(l, OP_LOCK_CANCEL, ++l->next_request, &req);
		}
		wait_end(l, w, ERR_INTR);
	}
	return l->waits || !ended;
}

/* Until when the line may sleep. */
static int64_t line_until(struct line *l)
{
	struct cairn_lock_wait *w;
	int64_t until = INT64_MAX;

	DL_FOREACH(l->waits, w) {
		int64_t at = w->lock.type == CAIRN_UNLOCK ? w->asked_ms + LINE_PAUSE_MS :
			     !l->conn ? l->not_before_ms :
			     w->request ? w->asked_ms + LOCK_SILENT_MS : INT64_MAX;
		if (at < until)
			until = at;
	}
	return until;
}

/* The master would have said something by now. */
static void line_check(struct line *l)
{
	struct cairn_lock_wait *w;
	bool silent = false;

	DL_FOREACH(l->waits, w)
		silent |= w->request && clock_ms() >= w->asked_ms + LOCK_SILENT_MS;
	if (l->conn && silent)
		line_drop(l);
}

static void line_sleep(struct line *l)
{
	struct pollfd fds[2] = {{.fd = l->shared->wake_fd, .events = POLLIN},
				{.fd = l->conn ? l->conn->fd : -1, .events = POLLIN}};
	int64_t until = line_until(l);
	uint64_t count;

	if (l->conn && conn_readable(l->conn)) {
		line_answer(l);
		return;
	}
	if (poll(fds, 2, until == INT64_MAX ? -1 : deadline_left(until)) < 0)
		return;
	if (fds[0].revents && read(l->shared->wake_fd, &count, sizeof(count)) < 0)
		return; /* somebody has taken it: there is no other reader, so it is EINTR */
	if (l->conn && fds[1].revents)
		line_answer(l);
	else
		line_check(l);
}

static void *line_run(void *arg)
{
	struct cairn *fs = arg;
	struct line l = {.fs = fs, .shared = &fs->locks.line};

	while (line_look(&l)) {
		line_ask(&l);
		line_sleep(&l);
	}
	conn_free(l.conn);
	return NULL;
}

/* Called with the line's lock held. */
static int line_start(struct cairn *fs, struct lock_line *line)
{
	if (line->runs)
		return 0;
	if (line->wake_fd < 0)
		line->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (line->wake_fd < 0)
		return -errno;
	line->runs = pthread_create(&line->thread, NULL, line_run, fs) == 0;
	return line->runs ? 0 : -EAGAIN;
}

static void line_wake(struct lock_line *line)
{
	uint64_t one = 1;
	ssize_t n;

	do {
		n = write(line->wake_fd, &one, sizeof(one));
	} while (n < 0 && errno == EINTR);
}

void lock_line_end(struct lock_line *line)
{
	bool runs;

	pthread_mutex_lock(&line->lock);
	line->ended = true;
	runs = line->runs;
	line->runs = false;
	if (runs)
		line_wake(line);
	pthread_mutex_unlock(&line->lock);
	if (runs)
		pthread_join(line->thread, NULL);
}

/* ---- for callers ---- */

struct cairn_lock_wait *cairn_lock_wait_new(struct cairn *fs, uint64_t inode,
					    const struct cairn_lock *lock, cairn_lock_fn done,
					    void *arg)
{
	struct cairn_lock_wait *w = calloc(1, sizeof(*w));

	if (w) {
		w->fs = fs;
		w->inode = inode;
		w->lock = *lock;
		w->done = done;
		w->arg = arg;
		w->since_ms = clock_ms();
	}
	return w;
}

void cairn_lock_wait_start(struct cairn_lock_wait *w)
{
	struct lock_line *line = &w->fs->locks.line;
	int r = -EINTR;

	pthread_mutex_lock(&line->lock);
	if (!line->ended)
		r = line_start(w->fs, line);
	if (r == 0) {
		DL_APPEND(line->incoming, w);
		line_wake(line);
	}
	pthread_mutex_unlock(&line->lock);
	if (r < 0) {
		w->done(w->arg, r);
		free(w);
	}
}

void cairn_lock_wait_cancel(struct cairn_lock_wait *w)
{
	struct lock_line *line = &w->fs->locks.line;

	pthread_mutex_lock(&line->lock);
	w->cancelled = true;
	if (line->runs)
		line_wake(line);
	pthread_mutex_unlock(&line->lock);
}

void cairn_lock_waits_end(struct cairn *fs)
{
	lock_line_end(&fs->locks.line);
}
