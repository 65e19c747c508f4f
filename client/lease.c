/* W and what is open; the link is in lease_link.c. */
#include "client/lease.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "client/lease_priv.h"
#include "client/wait.h"
#include "common/cleanup.h"
#include "common/clock.h"

int lease_init(struct lease *l, struct session *session, struct master *master,
	       struct inodes *inodes, bool on, const struct cairn_watch *watch,
	       void (*flush)(void *arg, uint64_t inode), void *flush_arg, struct err *err)
{
	int r;

	memset(l, 0, sizeof(*l));
	l->session = session;
	l->master = master;
	l->inodes = inodes;
	l->on = on;
	l->flush = flush;
	l->flush_arg = flush_arg;
	l->full = true; /* until we know */
	if (watch)
		l->watch = *watch;
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0)
		return err_set_errno(err, errno, "eventfd");
	if (wait_cond_init(&l->answered) < 0) {
		close(l->wake_fd);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	pthread_mutex_init(&l->lock, NULL);
	cache_init(&l->cache);
	if (!on)
		return 0;
	r = pthread_create(&l->thread, NULL, lease_link, l);
	if (r != 0) {
		lease_release(l);
		return err_set_errno(err, r, "start the lease thread");
	}
	l->runs = true;
	return 0;
}

void lease_wake(struct lease *l)
{
	uint64_t one = 1;

	if (write(l->wake_fd, &one, sizeof(one)) < 0)
		return; /* it is awake */
}

void lease_stop(struct lease *l)
{
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	if (l->conn)
		shutdown(l->conn->fd, SHUT_RDWR);
	pthread_cond_broadcast(&l->answered);
	pthread_mutex_unlock(&l->lock);
	lease_wake(l);
	if (l->runs)
		pthread_join(l->thread, NULL);
	l->runs = false;
}

static void writer_free(struct lease *l, struct writer *w)
{
	HASH_DEL(l->writers, w);
	free(w);
}

void lease_release(struct lease *l)
{
	struct writer *w, *next;

	HASH_ITER(hh, l->writers, w, next)
		writer_free(l, w);
	free(l->closed);
	free(l->returned);
	cache_release(&l->cache);
	pthread_cond_destroy(&l->answered);
	pthread_mutex_destroy(&l->lock);
	close(l->wake_fd);
}

/* ---- W ---- */

struct writer *writer_find(struct lease *l, uint64_t inode)
{
	struct writer *w;

	HASH_FIND(hh, l->writers, &inode, sizeof(inode), w);
	return w;
}

/* Lock held. The oldest idle one goes when there are too many: the master may go on believing that
 * we have it. */
static struct writer *writer_make(struct lease *l, uint64_t inode)
{
	struct writer *w = writer_find(l, inode), *old, *next;

	if (w)
		return w;
	if (HASH_COUNT(l->writers) >= WRITERS_MAX)
		HASH_ITER(hh, l->writers, old, next)
			if (old->busy == 0 && old->holding == 0) {
				writer_free(l, old);
				break;
			}
	w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->inode = inode;
	HASH_ADD(hh, l->writers, inode, sizeof(w->inode), w);
	return w;
}

void writers_lose(struct lease *l)
{
	struct writer *w, *next;

	l->epoch++;
	l->n_returned = 0;
	HASH_ITER(hh, l->writers, w, next) {
		if (w->busy == 0 && w->holding == 0) {
			writer_free(l, w);
			continue;
		}
		w->listed = w->held; /* goes on: see lease_link.c */
		w->lists_buffer = w->holding > 0;
		w->returning = w->holding > 0;
		w->buffers = false;
		if (w->busy == 0)
			w->held = false;
	}
}

/* Lock held. */
static void recall_note(struct lease *l, uint64_t inode)
{
	l->recalled[l->write_recalls++ % LEASE_RECALLED_MAX] = inode;
}

/* Lock held. Whether one of this inode may have come since then. */
static bool recalled_since(const struct lease *l, uint64_t inode, uint64_t write_recalls)
{
	if (l->write_recalls - write_recalls > LEASE_RECALLED_MAX)
		return true;
	for (uint64_t i = write_recalls; i < l->write_recalls; i++)
		if (l->recalled[i % LEASE_RECALLED_MAX] == inode)
			return true;
	return false;
}

uint8_t writer_recalled(struct lease *l, uint64_t inode, uint8_t what)
{
	struct writer *w;
	uint8_t flags = 0;

	pthread_mutex_lock(&l->lock);
	recall_note(l, inode);
	w = writer_find(l, inode);
	if (w && (what & RECALL_BUFFER)) {
		w->buffers = false;
		if (w->holding > 0) {
			w->returning = true;
			flags |= RECALLED_FLUSHING;
		}
	}
	if (w && (what & RECALL_WRITE)) {
		if (w->busy > 0 || w->holding > 0)
			flags |= RECALLED_WRITING;
		else
			writer_free(l, w);
	}
	pthread_mutex_unlock(&l->lock);
	if (flags & RECALLED_FLUSHING)
		l->flush(l->flush_arg, inode);
	return flags;
}

/* *ret_leased: of the answer. */
static int write_ask(struct lease *l, uint64_t inode, bool buffer, uint8_t *ret_leased,
		     int64_t deadline_ms, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_lease_write req = {.inode = inode, .buffer = buffer};
	uint64_t ticket = cache_ticket(&l->cache);
	struct wire_attr_reply rep;
	int r;

	inodes_cred(l->inodes, l->session, inode, true, &req.cred);
	for (bool renewed = false;; renewed = true) {
		req.session = session_id(l->session);
		r = master_call_leased(l->master, OP_LEASE_WRITE, &req, &rep, &fields, deadline_ms,
				       NULL, ret_leased, err);
		if (r != ERR_STALE || renewed ||
		    session_renew(l->session, req.session, deadline_ms, err) < 0)
			break;
	}
	if (r == 0 && (*ret_leased & WIRE_LEASED_INODE))
		cache_put_attr(&l->cache, ticket, &rep.attr);
	if (r == ERR_NOENT)
		r = err_set(err, ERR_STALE, "inode %llx is gone", (unsigned long long)inode);
	return r;
}

int lease_write_check(struct lease *l, uint64_t inode, int64_t deadline_ms, struct err *err)
{
	for (;;) {
		struct writer *w;
		uint64_t epoch;
		uint8_t leased;
		bool has;
		int r;
		pthread_mutex_lock(&l->lock);
		w = writer_find(l, inode);
		assert(w && w->busy > 0);
		epoch = l->epoch;
		has = w->held && (!l->on || clock_ms() < l->until_ms);
		pthread_mutex_unlock(&l->lock);
		if (has)
			return 0;
		r = write_ask(l, inode, false, &leased, deadline_ms, err);
		if (r < 0)
			return r;
		pthread_mutex_lock(&l->lock);
		has = epoch == l->epoch;
		w->held |= has;
		pthread_mutex_unlock(&l->lock);
		if (has)
			return 0;
	}
}

int lease_write_begin(struct lease *l, uint64_t inode, int64_t deadline_ms, struct err *err)
{
	struct writer *w;
	int r;

	pthread_mutex_lock(&l->lock);
	w = writer_make(l, inode);
	if (w)
		w->busy++;
	pthread_mutex_unlock(&l->lock);
	if (!w)
		return err_set(err, ERR_NOMEM, "out of memory");
	r = lease_write_check(l, inode, deadline_ms, err);
	if (r < 0)
		lease_write_end(l, inode);
	return r;
}

void lease_write_end(struct lease *l, uint64_t inode)
{
	struct writer *w;

	pthread_mutex_lock(&l->lock);
	w = writer_find(l, inode);
	assert(w && w->busy > 0);
	if (--w->busy == 0 && !w->held && w->holding == 0)
		writer_free(l, w);
	pthread_mutex_unlock(&l->lock);
}

void lease_write_lost(struct lease *l, uint64_t inode)
{
	struct writer *w;

	pthread_mutex_lock(&l->lock);
	w = writer_find(l, inode);
	if (w)
		w->held = w->buffers = false;
	pthread_mutex_unlock(&l->lock);
}

struct lease_mark lease_mark(struct lease *l)
{
	struct lease_mark mark;

	pthread_mutex_lock(&l->lock);
	mark = (struct lease_mark){l->epoch, l->write_recalls};
	pthread_mutex_unlock(&l->lock);
	return mark;
}

void lease_write_granted(struct lease *l, uint64_t inode, struct lease_mark mark, uint8_t leased)
{
	struct writer *w;

	pthread_mutex_lock(&l->lock);
	if (mark.epoch == l->epoch && (leased & WIRE_LEASED_WRITE) &&
	    !recalled_since(l, inode, mark.write_recalls)) {
		w = writer_make(l, inode);
		if (w) {
			w->held = true;
			w->buffers = leased & WIRE_LEASED_BUFFER;
		}
	}
	pthread_mutex_unlock(&l->lock);
}

/* ---- B ---- */

enum { BUFFER_REFUSED_MS = 300 };

/* Lock held. */
static bool may_buffer(const struct lease *l, const struct writer *w)
{
	return w && w->held && w->buffers && !w->returning && clock_ms() < l->until_ms;
}

/* Lock held, released while the master is asked. */
static bool buffer_ask(struct lease *l, uint64_t inode, int64_t deadline_ms)
{
	struct lease_mark mark = {l->epoch, l->write_recalls};
	struct writer *w = writer_make(l, inode);
	uint8_t leased = 0;
	bool may;
	int r;

	if (!w)
		return false;
	w->busy++; /* a recall of W that overtakes the answer finds it */
	pthread_mutex_unlock(&l->lock);
	r = write_ask(l, inode, true, &leased, deadline_ms, NULL);
	pthread_mutex_lock(&l->lock);
	if (r == 0 && mark.epoch == l->epoch) {
		w->held = true;
		w->buffers = (leased & WIRE_LEASED_BUFFER) && !w->returning &&
			     !recalled_since(l, inode, mark.write_recalls);
	}
	may = may_buffer(l, w);
	if (!may)
		w->refused_ms = clock_ms() + BUFFER_REFUSED_MS;
	w->busy--;
	return may;
}

bool lease_buffer_begin(struct lease *l, uint64_t inode, int64_t deadline_ms, uint64_t *ret_epoch)
{
	struct writer *w;
	bool may;

	if (!l->on)
		return false;
	pthread_mutex_lock(&l->lock);
	w = writer_find(l, inode);
	may = may_buffer(l, w);
	if (!may && clock_ms() < l->until_ms &&
	    !(w && (w->returning || clock_ms() < w->refused_ms)))
		may = buffer_ask(l, inode, deadline_ms);
	if (may) {
		writer_find(l, inode)->holding++;
		*ret_epoch = l->epoch;
	}
	pthread_mutex_unlock(&l->lock);
	return may;
}

/* Lock held. True: the link is to be woken. */
static bool returned_put(struct lease *l, uint64_t inode)
{
	if (l->n_returned == l->returned_cap) {
		size_t cap = l->returned_cap ? 2 * l->returned_cap : 64;
		uint64_t *more = realloc(l->returned, cap * sizeof(*more));
		if (!more)
			return false; /* others wait until the lease ends */
		l->returned = more;
		l->returned_cap = cap;
	}
	l->returned[l->n_returned++] = inode;
	return true;
}

void lease_buffer_end(struct lease *l, uint64_t inode)
{
	struct writer *w;
	bool wake = false;

	pthread_mutex_lock(&l->lock);
	w = writer_find(l, inode);
	assert(w && w->holding > 0);
	if (--w->holding == 0) {
		if (w->returning)
			wake = returned_put(l, inode);
		w->returning = w->lists_buffer = false;
		if (w->busy == 0 && !w->held)
			writer_free(l, w);
	}
	pthread_mutex_unlock(&l->lock);
	if (wake)
		lease_wake(l);
}

bool lease_epoch_is(struct lease *l, uint64_t epoch)
{
	bool is;

	pthread_mutex_lock(&l->lock);
	is = epoch == l->epoch;
	pthread_mutex_unlock(&l->lock);
	return is;
}

bool lease_full(struct lease *l)
{
	bool full;

	pthread_mutex_lock(&l->lock);
	full = l->full;
	pthread_mutex_unlock(&l->lock);
	return full;
}

struct when lease_master_now(struct lease *l)
{
	struct when now;
	int64_t us;

	pthread_mutex_lock(&l->lock);
	now = l->master_now;
	us = clock_us() - l->master_us;
	pthread_mutex_unlock(&l->lock);
	if (!now.sec)
		return clock_now();
	us += now.nsec / 1000;
	return (struct when){.sec = now.sec + us / 1000000,
			     .nsec = (uint32_t)(us % 1000000) * 1000 + now.nsec % 1000};
}

/* ---- what is open ---- */

/* Lock held. */
static bool is_closing(const struct lease *l, uint64_t inode)
{
	for (unsigned i = 0; i < l->n_closing; i++)
		if (l->closing[i] == inode)
			return true;
	return false;
}

static int closing_wait(struct lease *l, uint64_t inode, int64_t deadline_ms, struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&l->lock);
	while (r == 0 && !l->stop && is_closing(l, inode))
		if (!wait_until(&l->answered, &l->lock, deadline_ms))
			r = err_set(err, ERR_TIMEOUT, "inode %llx is being closed",
				    (unsigned long long)inode);
	pthread_mutex_unlock(&l->lock);
	return r;
}

int lease_open(struct lease *l, uint64_t inode, bool nameless, int64_t deadline_ms,
	       struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_lease_open req = {.inode = inode};
	struct wire_attr_reply rep;
	struct wire_attr attr;
	int r;

	if (!l->on)
		return 0;
	r = closing_wait(l, inode, deadline_ms, err);
	if (r < 0 || (!nameless && cache_get_attr(&l->cache, inode, &attr)))
		return r;
	inode_tell_open(l->inodes, inode);
	r = session_mutate(l->session, OP_LEASE_OPEN, &req, &req.id, &rep, &fields, deadline_ms,
			   err);
	if (r == ERR_NOENT)
		r = err_set(err, ERR_STALE, "inode %llx is gone", (unsigned long long)inode);
	return r;
}

void lease_closed(void *arg, uint64_t inode)
{
	struct lease *l = arg;

	pthread_mutex_lock(&l->lock);
	if (l->n_closed == l->closed_cap) {
		size_t cap = l->closed_cap ? 2 * l->closed_cap : 64;
		uint64_t *more = realloc(l->closed, cap * sizeof(*more));
		if (more) {
			l->closed = more;
			l->closed_cap = cap;
		}
	}
	/* Out of memory: the master takes it for open until the session ends. */
	if (l->n_closed < l->closed_cap)
		l->closed[l->n_closed++] = inode;
	pthread_mutex_unlock(&l->lock);
}
