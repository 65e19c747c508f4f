#include "client/writeback.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <utlist.h>

#include "client/client.h"
#include "client/extents.h"
#include "client/wait.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"

enum { RETRY_FIRST_MS = 50, RETRY_MAX_MS = 1000 };

enum queue { QUEUE_NONE, QUEUE_URGENT, QUEUE_AGING };

/* What is held back of one file. */
struct writeback_buf {
	uint64_t number;
	struct inode *inode; /* a reference */
	UT_hash_handle hh;
	struct extents dirty;
	struct extents flushing; /* not changed while `busy` */
	bool busy;	 /* a thread flushes it */
	unsigned frozen; /* requests that change its attributes */
	unsigned waiters;
	bool wanted;	 /* somebody waits for the next flush */
	bool sync;	 /* with wanted: for a sync of the file */
	bool drain;	 /* B was recalled or lost */
	uint64_t begun, ended; /* flushes */
	int64_t since_ms; /* of the oldest byte in dirty */
	uint64_t epoch;	  /* of the lease under which it was written */
	uint64_t base;	  /* the file's change counter, as the master has it */
	uint64_t base_size;
	uint64_t end; /* what the size will be at least */
	bool times;   /* mtime is told as the file's */
	bool keep_priv;
	struct when mtime; /* of the last write, or of the file before it */
	enum queue queue;
	struct writeback_buf *prev, *next; /* of its queue */
};

/* ---- queues; the lock is held ---- */

static struct writeback_buf *buf_find(struct writeback *w, uint64_t inode)
{
	struct writeback_buf *b;

	HASH_FIND(hh, w->by_inode, &inode, sizeof(inode), b);
	return b;
}

static void unqueue(struct writeback *w, struct writeback_buf *b)
{
	if (b->queue == QUEUE_URGENT)
		DL_DELETE(w->urgent, b);
	else if (b->queue == QUEUE_AGING)
		DL_DELETE(w->aging, b);
	b->queue = QUEUE_NONE;
}

static bool is_urgent(const struct writeback_buf *b)
{
	return b->wanted || b->drain || b->dirty.bytes >= WRITEBACK_RUN_BYTES;
}

static void *writeback_work(void *arg);

static void wake_worker(struct writeback *w)
{
	if (w->n_idle > 0)
		pthread_cond_signal(&w->work);
	else if (w->n_threads < WRITEBACK_THREADS &&
		 pthread_create(&w->threads[w->n_threads], NULL, writeback_work, w) == 0)
		w->n_threads++;
}

/* Where it belongs now. */
static void requeue(struct writeback *w, struct writeback_buf *b)
{
	enum queue to = QUEUE_NONE;
	bool first;

	if (!b->busy && !b->frozen && b->dirty.n > 0)
		to = is_urgent(b) ? QUEUE_URGENT : QUEUE_AGING;
	if (to == b->queue)
		return;
	unqueue(w, b);
	b->queue = to;
	first = !w->aging;
	if (to == QUEUE_URGENT)
		DL_APPEND(w->urgent, b);
	else if (to == QUEUE_AGING)
		DL_APPEND(w->aging, b);
	if (to == QUEUE_URGENT || (to == QUEUE_AGING && first))
		wake_worker(w);
}

static bool is_over(const struct writeback *w)
{
	return w->drain || w->bytes > w->limit_bytes / 2;
}

/* What is to be flushed now, or NULL: *ret_ms is when to look again. */
static struct writeback_buf *next_due(struct writeback *w, int64_t *ret_ms)
{
	if (w->urgent)
		return w->urgent;
	*ret_ms = INT64_MAX;
	if (!w->aging)
		return NULL;
	*ret_ms = w->aging->since_ms + w->age_ms;
	return is_over(w) || clock_ms() >= *ret_ms ? w->aging : NULL;
}

/* True: it is out of the table, and the caller's to release without the lock. */
static bool buf_retire(struct writeback *w, struct writeback_buf *b)
{
	if (b->dirty.n > 0 || b->busy || b->frozen || b->waiters)
		return false;
	unqueue(w, b);
	HASH_DEL(w->by_inode, b);
	w->ended++;
	return true;
}

/* Not with the lock. */
static void wbuf_release(struct writeback *w, struct writeback_buf *b)
{
	uint64_t number = b->number;

	lease_buffer_end(&w->fs->lease, number);
	if (inode_close(&w->fs->inodes, b->inode))
		meta_release(w->fs, number, NULL);
	extents_clear(&b->dirty);
	free(b);
}

/* ---- flushing ---- */

/* What one flush takes along. */
struct flush {
	struct extents *held;
	bool sync;
	uint8_t flags;
	struct when mtime;
	struct wire_attr attr; /* of the last WROTE; inode 0: none was answered */
	bool lost;
};

/* Rule 4. */
static int flush_may(struct writeback *w, struct writeback_buf *b, struct flush *f, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct lease *lease = &w->fs->lease;
	struct wire_inode_ref req = {.inode = b->number, .session = lease_reader(lease)};
	uint64_t epoch = lease_mark(lease).epoch;
	struct wire_attr_reply rep;
	int r;

	if (epoch == b->epoch)
		return 0;
	session_cred(&w->fs->session, NULL, &req.cred);
	r = master_call(&w->fs->master, OP_GETATTR, &req, &rep, &fields, client_deadline(w->fs), NULL,
			err);
	if (r < 0)
		return r;
	f->lost = rep.attr.change != b->base;
	if (f->lost)
		return err_set(err, ERR_IO, "the lease was lost, and the file was changed since");
	pthread_mutex_lock(&w->lock);
	b->epoch = epoch;
	pthread_mutex_unlock(&w->lock);
	return 0;
}

static int flush_once(struct writeback *w, struct writeback_buf *b, struct flush *f, struct err *err)
{
	struct lease *lease = &w->fs->lease;
	int r = lease_write_begin(lease, b->number, client_deadline(w->fs), err);

	if (r < 0)
		return r;
	r = flush_may(w, b, f, err);
	if (r == 0)
		r = inode_write_held(w->fs, b->inode, f->held, f->flags, f->mtime, f->sync,
				     &f->attr, err);
	lease_write_end(lease, b->number);
	if (r == ERR_LEASE)
		lease_write_lost(lease, b->number);
	if (f->attr.inode) {
		pthread_mutex_lock(&w->lock);
		b->base = f->attr.change;
		pthread_mutex_unlock(&w->lock);
	}
	return r;
}

static bool stopped(struct writeback *w)
{
	bool stop;

	pthread_mutex_lock(&w->lock);
	stop = w->stop;
	pthread_mutex_unlock(&w->lock);
	return stop;
}

static bool may_pass(int code)
{
	int eno = err_to_errno(code);

	return eno == EIO || eno == ETIMEDOUT;
}

static int flush_send(struct writeback *w, struct writeback_buf *b, struct flush *f, struct err *err)
{
	struct backoff pause = {RETRY_FIRST_MS, RETRY_MAX_MS};
	int64_t give_up = deadline_in(WRITEBACK_GIVE_UP_MS);
	int r;

	for (;;) {
		err_clear(err);
		r = flush_once(w, b, f, err);
		if (r == 0 || f->lost || !may_pass(r) || stopped(w) ||
		    !backoff_pause(&pause, give_up))
			return r;
		log_warn("inode %" PRIx64 ": what was written is kept and will be sent again: %s",
			 b->number, err_message(err));
	}
}

/* The size and times that were told are not true. */
static void told_wrongly(struct writeback *w, uint64_t inode)
{
	const struct cairn_watch *watch = &w->fs->lease.watch;

	cache_recall(&w->fs->lease.cache, inode);
	if (watch->recalled)
		watch->recalled(watch->arg, &inode, 1);
}

/* Lock held. */
static void flush_end(struct writeback *w, struct writeback_buf *b, const struct flush *f, int r)
{
	if (f->attr.inode)
		b->base_size = f->attr.size;
	if (r < 0) {
		b->end = extents_end(&b->dirty);
		b->times &= b->dirty.n > 0;
	}
	w->bytes -= b->flushing.bytes;
	extents_clear(&b->flushing);
	b->busy = false;
	b->ended++;
	pthread_cond_broadcast(&w->done);
}

/* Lock held, released in between. */
static void flush(struct writeback *w, struct writeback_buf *b)
{
	struct flush f = {.held = &b->flushing, .mtime = b->mtime, .flags = WROTE_HELD,
			  .sync = b->sync};
	uint64_t number = b->number;
	struct err err = {0};
	bool retired;
	int r;

	if (!b->times)
		f.flags |= WROTE_KEEP_TIMES;
	if (b->keep_priv)
		f.flags |= WROTE_KEEP_PRIV;
	b->flushing = b->dirty;
	b->dirty = (struct extents){0};
	b->busy = true;
	b->wanted = b->sync = b->keep_priv = false;
	b->begun++;
	pthread_mutex_unlock(&w->lock);

	r = flush_send(w, b, &f, &err);
	if (r < 0) {
		log_error("inode %" PRIx64 ": bytes that were written are lost: %s", number,
			  err_message(&err));
		inode_fail(b->inode, r);
	}

	pthread_mutex_lock(&w->lock);
	flush_end(w, b, &f, r);
	retired = buf_retire(w, b);
	if (!retired)
		requeue(w, b);
	if (!retired && r == 0)
		return;
	pthread_mutex_unlock(&w->lock);
	if (retired)
		wbuf_release(w, b);
	if (r < 0)
		told_wrongly(w, number);
	pthread_mutex_lock(&w->lock);
}

static void *writeback_work(void *arg)
{
	struct writeback *w = arg;

	pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		int64_t until;
		struct writeback_buf *b = next_due(w, &until);
		if (b) {
			unqueue(w, b);
			if (next_due(w, &until))
				wake_worker(w); /* which does the same */
			flush(w, b);
			continue;
		}
		w->n_idle++;
		if (until == INT64_MAX)
			pthread_cond_wait(&w->work, &w->lock);
		else
			wait_until(&w->work, &w->lock, until);
		w->n_idle--;
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* ---- life ---- */

int writeback_init(struct writeback *w, struct cairn *fs, size_t limit_bytes, int64_t age_ms)
{
	*w = (struct writeback){.fs = fs, .limit_bytes = limit_bytes, .age_ms = age_ms};
	if (wait_cond_init(&w->work) < 0)
		return ERR_NOMEM;
	if (wait_cond_init(&w->done) < 0) {
		pthread_cond_destroy(&w->work);
		return ERR_NOMEM;
	}
	pthread_mutex_init(&w->lock, NULL);
	return 0;
}

void writeback_stop(struct writeback *w, int64_t deadline_ms)
{
	struct writeback_buf *b, *next;

	pthread_mutex_lock(&w->lock);
	w->drain = true;
	pthread_cond_broadcast(&w->work);
	while (w->by_inode && wait_until(&w->done, &w->lock, deadline_ms))
		;
	w->stop = true;
	pthread_cond_broadcast(&w->work);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->n_threads; i++)
		pthread_join(w->threads[i], NULL);
	HASH_ITER(hh, w->by_inode, b, next) {
		log_error("inode %" PRIx64 ": bytes that were written are lost: the session ends",
			  b->number);
		HASH_DEL(w->by_inode, b);
		wbuf_release(w, b);
	}
}

void writeback_release(struct writeback *w)
{
	pthread_cond_destroy(&w->work);
	pthread_cond_destroy(&w->done);
	pthread_mutex_destroy(&w->lock);
}

/* ---- writing ---- */

/* As the master's apply_touch: strictly later than what was told before, but for a time that somebody
 * set far ahead. */
static void touch(struct writeback *w, struct writeback_buf *b)
{
	struct when now = lease_master_now(&w->fs->lease), next = b->mtime;

	if (++next.nsec == 1000000000)
		next = (struct when){next.sec + 1, 0};
	b->mtime = when_cmp(next, now) > 0 && next.sec <= now.sec + 1 ? next : now;
	b->times = true;
}

/* Lock held. NULL: it cannot be held back. */
static struct writeback_buf *buf_make(struct writeback *w, struct inode *inode, uint64_t epoch)
{
	struct writeback_buf *b;
	struct wire_attr attr;

	/* Set-id bits go with a write at once, by the master. */
	if (!cache_get_attr(&w->fs->lease.cache, inode->number, &attr) || !S_ISREG(attr.mode) ||
	    (attr.mode & (S_ISUID | S_ISGID)))
		return NULL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->number = inode->number;
	b->inode = inode_find(&w->fs->inodes, inode->number);
	assert(b->inode); /* the caller has it open */
	b->epoch = epoch;
	b->base = attr.change;
	b->base_size = attr.size;
	b->mtime = attr.mtime;
	HASH_ADD(hh, w->by_inode, number, sizeof(b->number), b);
	return b;
}

/* Lock held. */
static int buf_put(struct writeback *w, struct writeback_buf *b, const void *data, size_t bytes,
		   uint64_t offset)
{
	size_t unit = 1ULL << b->inode->chunk_bits, before = b->dirty.bytes;
	bool first = b->dirty.n == 0;
	int r = extents_put(&b->dirty, data, bytes, offset,
			    unit < WRITEBACK_UNIT_BYTES ? unit : WRITEBACK_UNIT_BYTES);

	w->bytes += b->dirty.bytes - before;
	if (r < 0)
		return r;
	if (first)
		b->since_ms = clock_ms();
	if (offset + bytes > b->end)
		b->end = offset + bytes;
	touch(w, b);
	return 1;
}

static bool room_wait(struct writeback *w, size_t bytes, int64_t deadline_ms)
{
	bool room;

	pthread_mutex_lock(&w->lock);
	while (w->bytes + bytes > w->limit_bytes && wait_until(&w->done, &w->lock, deadline_ms))
		;
	room = w->bytes + bytes <= w->limit_bytes;
	pthread_mutex_unlock(&w->lock);
	return room;
}

int writeback_put(struct writeback *w, struct inode *inode, const void *data, size_t bytes,
		  uint64_t offset, int64_t deadline_ms)
{
	struct lease *lease = &w->fs->lease;
	struct writeback_buf *b;
	bool made = false, retired = false;
	uint64_t epoch;
	int r = 0;

	if (bytes > w->limit_bytes / 2 || lease_full(lease) || !room_wait(w, bytes, deadline_ms) ||
	    !lease_buffer_begin(lease, inode->number, deadline_ms, &epoch))
		return 0;
	/* Asked under B, where the answer stays in the cache. */
	if (meta_has_capability(w->fs, inode->number)) {
		lease_buffer_end(lease, inode->number);
		return 0;
	}
	pthread_mutex_lock(&w->lock);
	b = buf_find(w, inode->number);
	if (!b && !w->drain) {
		b = buf_make(w, inode, epoch);
		made = b != NULL;
	}
	/* keep_priv: what was written before mode or owner were set goes first, by itself. */
	if (b && b->epoch == epoch && !b->keep_priv)
		r = buf_put(w, b, data, bytes, offset);
	if (b)
		requeue(w, b);
	if (is_over(w) && w->aging)
		wake_worker(w);
	if (made)
		retired = buf_retire(w, b);
	pthread_mutex_unlock(&w->lock);
	if (retired)
		wbuf_release(w, b);
	else if (!made)
		lease_buffer_end(lease, inode->number);
	return r;
}

/* ---- waiting ---- */

/* Lock held; released in the end. */
static int buf_settle(struct writeback *w, struct writeback_buf *b, bool sync, int64_t deadline_ms)
{
	uint64_t target = b->begun + (b->dirty.n > 0);
	bool settled;

	b->waiters++;
	b->wanted = b->dirty.n > 0;
	b->sync |= b->wanted && sync;
	requeue(w, b);
	while (b->ended < target && wait_until(&w->done, &w->lock, deadline_ms))
		;
	settled = b->ended >= target;
	b->waiters--;
	if (buf_retire(w, b)) {
		pthread_mutex_unlock(&w->lock);
		wbuf_release(w, b);
	} else {
		pthread_mutex_unlock(&w->lock);
	}
	return settled ? 0 : ERR_TIMEOUT;
}

int writeback_settle(struct writeback *w, uint64_t inode, bool sync, int64_t deadline_ms)
{
	struct writeback_buf *b;

	pthread_mutex_lock(&w->lock);
	b = buf_find(w, inode);
	if (b)
		return buf_settle(w, b, sync, deadline_ms);
	pthread_mutex_unlock(&w->lock);
	return 0;
}

static void buf_drain(struct writeback *w, struct writeback_buf *b)
{
	b->drain = true;
	requeue(w, b);
}

void writeback_kick(void *arg, uint64_t inode)
{
	struct writeback *w = arg;
	struct writeback_buf *b;

	pthread_mutex_lock(&w->lock);
	b = inode ? buf_find(w, inode) : NULL;
	if (b)
		buf_drain(w, b);
	for (b = inode ? NULL : w->by_inode; b; b = b->hh.next)
		buf_drain(w, b);
	pthread_mutex_unlock(&w->lock);
}

/* Lock held. From memory, in one piece. */
static bool buf_read(struct writeback_buf *b, void *dest, size_t bytes, uint64_t offset)
{
	if (extents_get(&b->dirty, dest, bytes, offset))
		return true;
	return b->busy && !extents_touch(&b->dirty, bytes, offset) &&
	       extents_get(&b->flushing, dest, bytes, offset);
}

int writeback_read(struct writeback *w, uint64_t inode, void *dest, size_t bytes, uint64_t offset,
		   size_t *ret_n, int64_t deadline_ms)
{
	struct writeback_buf *b;
	bool done = false;

	pthread_mutex_lock(&w->lock);
	b = buf_find(w, inode);
	if (b && lease_epoch_is(&w->fs->lease, b->epoch)) {
		uint64_t size = b->end > b->base_size ? b->end : b->base_size;
		size_t n = offset >= size ? 0 : bytes < size - offset ? bytes : size - offset;
		done = n == 0 || buf_read(b, dest, n, offset);
		*ret_n = n;
	}
	if (b && !done)
		return buf_settle(w, b, false, deadline_ms);
	pthread_mutex_unlock(&w->lock);
	return done;
}

/* ---- attributes ---- */

bool writeback_has(struct writeback *w, uint64_t inode)
{
	bool has;

	pthread_mutex_lock(&w->lock);
	has = buf_find(w, inode) != NULL;
	pthread_mutex_unlock(&w->lock);
	return has;
}

uint64_t writeback_ended(struct writeback *w)
{
	uint64_t ended;

	pthread_mutex_lock(&w->lock);
	ended = w->ended;
	pthread_mutex_unlock(&w->lock);
	return ended;
}

static void attr_add(const struct writeback_buf *b, struct wire_attr *attr)
{
	if (b->end > attr->size) {
		attr->size = b->end;
		attr->blocks = (b->end / BLOCK_BYTES + (b->end % BLOCK_BYTES != 0)) *
			       (BLOCK_BYTES / 512);
	}
	if (!b->times)
		return;
	attr->mtime = b->mtime;
	if (when_cmp(b->mtime, attr->ctime) > 0)
		attr->ctime = b->mtime;
}

bool writeback_attr(struct writeback *w, struct wire_attr *attr)
{
	struct writeback_buf *b;

	pthread_mutex_lock(&w->lock);
	b = buf_find(w, attr->inode);
	if (b && (lease_epoch_is(&w->fs->lease, b->epoch) || attr->change == b->base))
		attr_add(b, attr);
	pthread_mutex_unlock(&w->lock);
	return b != NULL;
}

int writeback_freeze(struct writeback *w, uint64_t inode, int64_t deadline_ms)
{
	struct writeback_buf *b;
	int r = 0;

	pthread_mutex_lock(&w->lock);
	b = buf_find(w, inode);
	if (b) {
		b->frozen++;
		requeue(w, b);
		while (b->busy && wait_until(&w->done, &w->lock, deadline_ms))
			;
		if (b->busy) {
			b->frozen--;
			r = ERR_TIMEOUT;
		}
	}
	pthread_mutex_unlock(&w->lock);
	return r;
}

void writeback_thaw(struct writeback *w, uint64_t inode, bool done, unsigned set,
		    const struct wire_attr *attr)
{
	struct writeback_buf *b;
	bool retired = false;

	pthread_mutex_lock(&w->lock);
	b = buf_find(w, inode);
	if (b && b->frozen) {
		b->frozen--;
		if (done) {
			b->base = attr->change;
			b->keep_priv = b->dirty.n > 0;
		}
		if (done && (set & (CAIRN_SET_MTIME | CAIRN_SET_MTIME_NOW))) {
			b->times = false;
			b->mtime = attr->mtime;
		}
		retired = buf_retire(w, b);
		if (!retired)
			requeue(w, b);
	}
	pthread_mutex_unlock(&w->lock);
	if (retired)
		wbuf_release(w, b);
}

void writeback_renamed(struct writeback *w, uint64_t inode)
{
	struct writeback_buf *b;

	pthread_mutex_lock(&w->lock);
	b = buf_find(w, inode);
	if (b)
		b->base++;
	pthread_mutex_unlock(&w->lock);
}
