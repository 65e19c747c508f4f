#include "client/readahead.h"

#include <stdlib.h>
#include <string.h>

#include "client/client.h"
#include "client/wait.h"
#include "common/clock.h"
#include "common/wait.h"

/*  state     in the queue  in the handle's list  data belongs to
 *  QUEUED    yes           yes                   -
 *  FETCHING  no            unless dropped        the worker
 *  READY     no            unless dropped        readers (counted in users)
 * A slot that is dropped while a worker or readers have it is freed by the last of them. */
enum { FETCH_LOOK_MS = 1000 };
enum slot_state { SLOT_QUEUED, SLOT_FETCHING, SLOT_READY };

struct readahead_slot {
	struct readahead_slot *next;  /* of the handle */
	struct readahead_slot *queue; /* the next one in the queue */
	enum slot_state state;
	bool dropped;
	unsigned users;
	uint64_t inode;
	unsigned chunk_bits;
	uint64_t offset;
	uint32_t len;
	uint32_t got;	 /* READY: bytes from offset on; 0: the fetch failed */
	struct readahead_stamp stamp; /* READY: of before the fetch */
	uint8_t *data;
};

/* ---- all with the lock held, but the worker's fetch ---- */

static void slot_free_unused(struct readahead_pool *p, struct readahead_slot *s)
{
	if (!s->dropped || s->users > 0 || s->state == SLOT_FETCHING)
		return;
	p->bytes -= s->len;
	free(s->data);
	free(s);
}

static void queue_remove(struct readahead_pool *p, struct readahead_slot *s)
{
	struct readahead_slot **at = &p->queue;

	while (*at != s)
		at = &(*at)->queue;
	*at = s->queue;
	if (p->queue_end == &s->queue)
		p->queue_end = at;
}

static void slot_drop(struct readahead_pool *p, struct readahead *ra, struct readahead_slot *s)
{
	struct readahead_slot **at = &ra->slots;

	if (s->dropped)
		return;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	if (s->state == SLOT_QUEUED)
		queue_remove(p, s);
	s->dropped = true;
	slot_free_unused(p, s);
}

static void slots_drop_all(struct readahead_pool *p, struct readahead *ra)
{
	while (ra->slots)
		slot_drop(p, ra, ra->slots);
}

static void *readahead_work(void *arg)
{
	struct readahead_pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct readahead_slot *s;
		struct readahead_stamp stamp = {0};
		ssize_t n;
		while (!p->queue && !p->stop) {
			p->n_idle++;
			pthread_cond_wait(&p->work, &p->lock);
			p->n_idle--;
		}
		if (p->stop)
			break;
		s = p->queue;
		queue_remove(p, s);
		s->state = SLOT_FETCHING;
		pthread_mutex_unlock(&p->lock);
		n = inode_read(p->fs, s->inode, s->chunk_bits, s->data, s->len, s->offset,
			       deadline_in(READAHEAD_FETCH_MS), &stamp, NULL);
		pthread_mutex_lock(&p->lock);
		s->state = SLOT_READY;
		s->got = n > 0 ? (uint32_t)n : 0;
		s->stamp = stamp;
		pthread_cond_broadcast(&p->done);
		slot_free_unused(p, s);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void work_wanted(struct readahead_pool *p)
{
	if (p->n_idle > 0)
		pthread_cond_signal(&p->work);
	else if (p->n_threads < READAHEAD_THREADS &&
		 pthread_create(&p->threads[p->n_threads], NULL, readahead_work, p) == 0)
		p->n_threads++;
	/* Without a thread the slot stays queued until a reader takes it out again. */
}

/* False: no memory for it now. */
static bool slot_order(struct readahead_pool *p, struct readahead *ra, uint64_t inode,
		       unsigned chunk_bits, uint64_t offset, uint32_t len)
{
	struct readahead_slot *s, **end = &ra->slots;

	if (p->bytes + len > READAHEAD_SESSION_BYTES)
		return false;
	s = calloc(1, sizeof(*s));
	if (s)
		s->data = malloc(len);
	if (!s || !s->data) {
		free(s);
		return false;
	}
	s->inode = inode;
	s->chunk_bits = chunk_bits;
	s->offset = offset;
	s->len = len;
	p->bytes += len;
	while (*end)
		end = &(*end)->next;
	*end = s;
	*p->queue_end = s;
	p->queue_end = &s->queue;
	work_wanted(p);
	return true;
}

/* Whether the read goes on where the stream is; keeps the stream's place. */
static bool stream_follow(struct readahead *ra, uint64_t offset, size_t bytes)
{
	uint64_t end = offset + bytes;
	bool near = offset <= ra->next + READAHEAD_SLACK && offset + READAHEAD_SLACK >= ra->next;

	if (!near || end > ra->next)
		ra->next = end;
	ra->streak = near ? ra->streak + 1 : 1;
	return near;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void readahead_plan(struct readahead_pool *p, struct readahead *ra, uint64_t inode,
		    unsigned chunk_bits, uint64_t offset, size_t bytes, uint64_t size)
{
	uint64_t limit = (uint64_t)p->fs->readahead_bytes, target, piece;
	struct readahead_slot *s, *next;

	pthread_mutex_lock(&p->lock);
	if (!stream_follow(ra, offset, bytes)) {
		slots_drop_all(p, ra);
		ra->window = ra->ahead = 0;
	}
	for (s = ra->slots; s; s = next) {
		next = s->next;
		if (s->offset + s->len + READAHEAD_SLACK < offset)
			slot_drop(p, ra, s);
	}
	if (ra->streak >= 2) {
		ra->window = min_u64(ra->window ? ra->window * 2 : READAHEAD_FIRST, limit);
		piece = min_u64(ra->window / 2 < READAHEAD_FIRST ? READAHEAD_FIRST : ra->window / 2,
				DATA_BYTES_MAX);
		piece = min_u64(piece, limit);
		target = min_u64(ra->next + ra->window, size);
		if (ra->ahead < ra->next)
			ra->ahead = ra->next;
		/* Whole pieces, but for the file's end. */
		while (ra->ahead + piece <= target || (target == size && ra->ahead < target)) {
			uint64_t chunk = 1ULL << chunk_bits, in_chunk = chunk - ra->ahead % chunk;
			uint32_t len = (uint32_t)min_u64(min_u64(piece, target - ra->ahead), in_chunk);
			if (!slot_order(p, ra, inode, chunk_bits, ra->ahead, len))
				break;
			ra->ahead += len;
		}
	}
	pthread_mutex_unlock(&p->lock);
}

/* The slot that has the byte at offset; else *ret_gap is brought down to the next slot's start. */
static struct readahead_slot *slot_at(struct readahead *ra, uint64_t offset, size_t *ret_gap)
{
	for (struct readahead_slot *s = ra->slots; s; s = s->next) {
		if (s->offset <= offset && offset < s->offset + s->len)
			return s;
		if (s->offset > offset && s->offset - offset < *ret_gap)
			*ret_gap = (size_t)(s->offset - offset);
	}
	return NULL;
}

/* Waits until s (pinned) is fetched. A queued one is quicker read by the reader itself. */
static bool slot_ready(struct readahead_pool *p, struct readahead_slot *s)
{
	while (s->state == SLOT_FETCHING && !deadline_is_cut())
		wait_until(&p->done, &p->lock, deadline_in(FETCH_LOOK_MS)); /* a fetch is bounded */
	return s->state == SLOT_READY;
}

size_t readahead_take(struct readahead_pool *p, struct readahead *ra, uint64_t offset,
		      size_t bytes, const struct readahead_stamp *stamp, uint8_t *dest,
		      size_t *ret_gap)
{
	struct readahead_slot *s;
	size_t n = 0, at;

	*ret_gap = bytes;
	pthread_mutex_lock(&p->lock);
	s = slot_at(ra, offset, ret_gap);
	if (!s) {
		pthread_mutex_unlock(&p->lock);
		return 0;
	}
	at = (size_t)(offset - s->offset);
	*ret_gap = (size_t)min_u64(bytes, s->len - at);
	s->users++;
	if (slot_ready(p, s) && stamp->served && s->stamp.change == stamp->change &&
	    s->stamp.settled == stamp->settled && s->got > at) {
		n = (size_t)min_u64(bytes, s->got - at);
		pthread_mutex_unlock(&p->lock);
		memcpy(dest, s->data + at, n);
		pthread_mutex_lock(&p->lock);
	}
	s->users--;
	/* Used up, or of no use. */
	if (n == 0 || at + n == s->len) {
		if (!s->dropped) {
			slot_drop(p, ra, s); /* and frees it, if nobody else is reading it */
			s = NULL;
		}
	}
	if (s)
		slot_free_unused(p, s);
	pthread_mutex_unlock(&p->lock);
	return n;
}

void readahead_clear(struct readahead_pool *p, struct readahead *ra)
{
	pthread_mutex_lock(&p->lock);
	slots_drop_all(p, ra);
	pthread_mutex_unlock(&p->lock);
}

/* ---- the pool ---- */

int readahead_pool_init(struct readahead_pool *p, struct cairn *fs)
{
	memset(p, 0, sizeof(*p));
	p->fs = fs;
	p->queue_end = &p->queue;
	if (pthread_cond_init(&p->work, NULL) != 0)
		return ERR_NOMEM;
	if (wait_cond_init(&p->done) != 0) {
		pthread_cond_destroy(&p->work);
		return ERR_NOMEM;
	}
	pthread_mutex_init(&p->lock, NULL);
	return 0;
}

void readahead_pool_release(struct readahead_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->done);
	pthread_mutex_destroy(&p->lock);
}
