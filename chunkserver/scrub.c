#include "chunkserver/scrub.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/crc.h"
#include "common/log.h"
#include "common/wait.h"

enum {
	PART_BLOCKS = 64,
	PARTS_ALIGN = 4096,	/* what direct reads want of memory */
	BATCH = 256,		/* replicas looked up at once */
	LATER_MAX = 4096,	/* remembered for the end of the round */
	LOCK_WAIT_MS = 200,	/* a raise waits meanwhile */
	ACQUIRE_WAIT_MS = 1000,
	IDLE_WAIT_MS = 60000,	/* with nothing to read: how soon to look again, at most */
	NOTE_EVERY_MS = 5000,	/* how often the position is written down, at most */
	IOPRIO_WHO_THREAD = 1,	/* linux/ioprio.h: IOPRIO_WHO_PROCESS, with 0: this thread */
	IOPRIO_IDLE = 3 << 13,
};

/* ---- one replica ---- */

/* The data of a replica for reading past the page cache. */
struct direct {
	const struct io *io;
	int fd;
	bool cached; /* the file system has no direct reads */
	uint8_t *data, *sums;
};

static int direct_open(struct direct *d, const struct chunk_file *f)
{
	char path[64];

	if (d->fd >= 0)
		d->io->close(d->io, d->fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	d->io = f->io;
	d->fd = f->io->open(f->io, path, O_RDONLY | O_DIRECT, 0);
	if (d->fd < 0) {
		d->cached = true;
		d->fd = f->io->open(f->io, path, O_RDONLY, 0);
	}
	return d->fd < 0 ? d->fd : 0;
}

static void direct_close(struct direct *d)
{
	if (d->fd >= 0)
		d->io->close(d->io, d->fd);
	free(d->data);
}

/* Blocks that lie in the file, against their checksums: ERR_CHECKSUM, ERR_IO. */
static int verify_part(struct direct *d, const struct chunk_file *f, uint32_t first, uint32_t n,
		       struct err *err)
{
	uint64_t offset = f->data_offset + (uint64_t)first * BLOCK_BYTES;
	size_t len = (size_t)n * BLOCK_BYTES;
	int r = chunk_file_sums(f, first, n, d->sums, err);
	ssize_t got;
	long bad;

	if (r < 0)
		return r;
	got = d->io->pread(d->io, d->fd, d->data, len, offset);
	if (got < 0)
		return err_set(err, (int)got, "chunk %016llx: read: %s",
			       (unsigned long long)f->chunk, err_text((int)got));
	memset(d->data + got, 0, len - (size_t)got);
	if (d->cached)
		posix_fadvise(d->fd, (off_t)offset, (off_t)len, POSIX_FADV_DONTNEED);
	bad = crc_sums_check(d->sums, d->data, 0, len);
	return bad < 0 ? 0 : err_set(err, ERR_CHECKSUM, "chunk %016llx block %u: checksum mismatch",
				     (unsigned long long)f->chunk, first + (uint32_t)bad);
}

/* No block past the end of the file may have a checksum: the file would have lost data. */
static int verify_rest(const struct chunk_file *f, uint32_t first, struct err *err)
{
	uint32_t n = chunk_file_blocks_max(f) - first;
	_cleanup_free_ uint8_t *sums = calloc(n + 1, 4);
	int r = sums ? chunk_file_sums(f, first, n, sums, err) : ERR_NOMEM;

	for (uint32_t i = 0; r == 0 && i < n; i++)
		if (get_le32(sums + 4 * i))
			r = err_set(err, ERR_CHECKSUM, "chunk %016llx block %u: the data is gone",
				    (unsigned long long)f->chunk, first + i);
	return r;
}

/* Written once, when the file was made: what does not verify now was not being written. While the file
 * is open nobody else looks at it again. */
static int verify_header(struct direct *d, const struct chunk_file *f)
{
	struct format_header h;
	struct err err = {0};
	ssize_t got = d->io->pread(d->io, d->fd, d->data, BLOCK_BYTES, 0);
	int r = got < 0 ? (int)got : chunk_file_header(d->data, (size_t)got, f->chunk, &h, &err);

	if (r == 0 && (h.chunk_bits != f->chunk_bits || h.data_offset != f->data_offset))
		r = ERR_CORRUPT;
	if (r < 0)
		log_error("scrub: chunk %016llx: header: %s", (unsigned long long)f->chunk,
			  err.text[0] ? err.text : err_text(r));
	return r;
}

/* One part of a replica that is held. A mismatch may be a write under way: it counts when it is
 * still there with the range locked. n 0: what follows the file's end. */
static enum scrub_result scrub_part(struct store *s, struct direct *d, struct replica *r,
				    const struct chunk_file *f, uint32_t first, uint32_t n)
{
	uint32_t last = n ? first + n - 1 : chunk_file_blocks_max(f) - 1;
	struct range range;
	struct err err = {0};
	int res = n ? verify_part(d, f, first, n, &err) : verify_rest(f, first, &err);

	if (res == 0)
		return SCRUB_GOOD;
	if (store_range_lock(s, r, first, last, true, deadline_in(LOCK_WAIT_MS), &range) < 0)
		return SCRUB_BUSY;
	/* In the file as it is now: it may have grown, and a copy may have taken its place. */
	err_clear(&err);
	res = direct_open(d, f);
	if (res == 0 && n) {
		res = verify_part(d, f, first, n, &err);
	} else if (res == 0) {
		uint64_t length;
		res = chunk_file_length(f, &length, &err);
		if (res == 0)
			res = verify_rest(f, (uint32_t)(length / BLOCK_BYTES), &err);
	}
	store_range_unlock(s, &range);
	if (res == 0)
		return SCRUB_GOOD;
	if (res == ERR_NOMEM || res == ERR_MFILE)
		return SCRUB_BUSY;
	log_error("scrub: %s", err.text[0] ? err.text : err_text(res));
	store_damaged(s, r, res);
	return SCRUB_BAD;
}

/* The replica is held for one part at a time: a raise waits for those who hold it. */
static enum scrub_result scrub_step(struct store *s, struct direct *d, uint64_t chunk,
				    uint32_t version, uint32_t first, uint32_t *ret_blocks,
				    uint32_t *ret_n)
{
	enum scrub_result result = SCRUB_BUSY;
	struct chunk_file f;
	struct replica *r;
	uint64_t length;
	uint32_t n;
	int res = store_acquire(s, chunk, version, 0, deadline_in(ACQUIRE_WAIT_MS), &r, &f, NULL);

	if (res == ERR_CHUNK_PENDING || res == ERR_CHUNK_VERSION || res == ERR_MFILE ||
	    res == ERR_NOMEM)
		return SCRUB_BUSY;
	if (res < 0)
		return res == ERR_NO_CHUNK ? SCRUB_GONE : SCRUB_BAD; /* which was reported */
	res = chunk_file_length(&f, &length, NULL);
	if (res == 0 && d->fd < 0)
		res = direct_open(d, &f);
	if (res == 0 && first == 0)
		res = verify_header(d, &f);
	if (res == 0) {
		*ret_blocks = (uint32_t)(length / BLOCK_BYTES);
		n = *ret_blocks > first ? *ret_blocks - first : 0;
		*ret_n = n = n < PART_BLOCKS ? n : PART_BLOCKS;
		result = scrub_part(s, d, r, &f, first, n);
	} else if (res == ERR_IO || res == ERR_NODEV || res == ERR_CORRUPT || res == ERR_VERSION) {
		store_damaged(s, r, res);
		result = SCRUB_BAD;
	}
	store_release(s, r);
	return result;
}

enum scrub_result scrub_chunk(struct store *s, uint64_t chunk, uint32_t version,
			      bool (*pause)(void *arg, uint32_t done, uint32_t blocks), void *arg)
{
	struct direct d = {.fd = -1};
	enum scrub_result result;
	uint32_t at = 0, blocks = 0, n = 0;

	d.data = aligned_alloc(PARTS_ALIGN, PART_BLOCKS * BLOCK_BYTES + PARTS_ALIGN);
	if (!d.data)
		return SCRUB_BUSY;
	d.sums = d.data + PART_BLOCKS * BLOCK_BYTES;
	do {
		result = scrub_step(s, &d, chunk, version, at, &blocks, &n);
		at += n;
	} while (result == SCRUB_GOOD && n > 0 && (!pause || pause(arg, at, blocks)));
	direct_close(&d);
	return result;
}

/* ---- the thread ---- */

struct scrub {
	struct store *store;
	int64_t period_ms;
	pthread_t thread;
	/* The thread's own. */
	uint64_t position; /* the last id that was looked at */
	int64_t slot_ms, slot_from; /* the present replica's share of the period, its beginning */
	int64_t noted_ms;
	struct wire_have *later;
	unsigned n_later;
	/* Protected by lock. */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stopping;
	struct wire_scrub progress;
};

/* Waits until then. False: the scrubber is to stop. */
static bool rest_until(struct scrub *x, int64_t deadline_ms)
{
	bool go_on;

	pthread_mutex_lock(&x->lock);
	while (!x->stopping && wait_until(&x->wake, &x->lock, deadline_ms))
		;
	go_on = !x->stopping;
	pthread_mutex_unlock(&x->lock);
	return go_on;
}

static bool pace(void *arg, uint32_t done, uint32_t blocks)
{
	struct scrub *x = arg;
	return rest_until(x, x->slot_from + (blocks ? x->slot_ms * done / blocks : 0));
}

static void count(struct scrub *x, enum scrub_result result)
{
	pthread_mutex_lock(&x->lock);
	x->progress.checked += result != SCRUB_BUSY;
	x->progress.bad += result == SCRUB_BAD;
	pthread_mutex_unlock(&x->lock);
}

static void note_position(struct scrub *x, bool now)
{
	struct wire_scrub p;

	if (!now && clock_ms() - x->noted_ms < NOTE_EVERY_MS)
		return;
	x->noted_ms = clock_ms();
	scrub_progress(x, &p);
	store_scrub_note(x->store, x->position, &p);
}

/* One replica in its share of the period. False: stop. */
static bool scrub_one(struct scrub *x, const struct wire_have *have, bool again)
{
	enum scrub_result result = SCRUB_GOOD;

	/* What is known to be bad is the master's to mend. */
	if (!again && store_dirty(x->store, have->id))
		result = SCRUB_BUSY;
	else if (!(have->flags & HAVE_DAMAGED))
		result = scrub_chunk(x->store, have->id, have->version, pace, x);
	if (result == SCRUB_BUSY && !again && x->n_later < LATER_MAX)
		x->later[x->n_later++] = *have;
	count(x, result);
	x->slot_from += x->slot_ms;
	/* Late: the time that is lost is not made up for in one go. */
	if (clock_ms() > x->slot_from + x->slot_ms)
		x->slot_from = clock_ms();
	note_position(x, false);
	return rest_until(x, x->slot_from);
}

/* Those that were being changed. What still is has been written lately, and is read next time. */
static bool scrub_later(struct scrub *x)
{
	bool go_on = true;

	for (unsigned i = 0; go_on && i < x->n_later; i++) {
		struct wire_have have;
		if (store_next(x->store, x->later[i].id, 1, &have) == 1 &&
		    have.id == x->later[i].id)
			go_on = scrub_one(x, &have, true);
	}
	x->n_later = 0;
	return go_on;
}

static bool round_end(struct scrub *x)
{
	bool go_on = scrub_later(x);

	pthread_mutex_lock(&x->lock);
	if (go_on && x->progress.total > 0) {
		x->progress.rounds++;
		x->progress.ended = clock_now();
	}
	x->progress.checked = 0;
	pthread_mutex_unlock(&x->lock);
	/* Without a replica no share of the period has passed. */
	if (store_count(x->store) == 0)
		x->slot_from = clock_ms();
	x->position = 0;
	note_position(x, true);
	return go_on;
}

static void *scrub_thread(void *arg)
{
	struct scrub *x = arg;
	struct wire_have batch[BATCH];
	int64_t idle_ms = x->period_ms < IDLE_WAIT_MS ? x->period_ms : IDLE_WAIT_MS;
	bool go_on = true;

	syscall(SYS_ioprio_set, IOPRIO_WHO_THREAD, 0, IOPRIO_IDLE);
	x->slot_from = clock_ms();
	while (go_on) {
		size_t total = store_count(x->store);
		size_t n = store_next(x->store, x->position + 1, BATCH, batch);
		pthread_mutex_lock(&x->lock);
		x->progress.total = total;
		pthread_mutex_unlock(&x->lock);
		x->slot_ms = x->period_ms / (int64_t)(total + 1);
		for (size_t i = 0; go_on && i < n; i++) {
			go_on = scrub_one(x, &batch[i], false);
			x->position = batch[i].id;
		}
		if (go_on && n == 0)
			go_on = round_end(x) && rest_until(x, x->slot_from + (total ? x->slot_ms
										: idle_ms));
	}
	note_position(x, true);
	return NULL;
}

void scrub_progress(struct scrub *x, struct wire_scrub *ret)
{
	pthread_mutex_lock(&x->lock);
	*ret = x->progress;
	pthread_mutex_unlock(&x->lock);
}

int scrub_start(struct store *s, int64_t period_ms, struct scrub **ret, struct err *err)
{
	struct scrub *x = calloc(1, sizeof(*x));

	if (!x || !(x->later = calloc(LATER_MAX, sizeof(*x->later))) ||
	    wait_cond_init(&x->wake) < 0) {
		if (x)
			free(x->later);
		free(x);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	x->store = s;
	x->period_ms = period_ms;
	store_scrub_noted(s, &x->position, &x->progress);
	pthread_mutex_init(&x->lock, NULL);
	if (pthread_create(&x->thread, NULL, scrub_thread, x) != 0) {
		free(x->later);
		free(x);
		return err_set(err, ERR_NOMEM, "cannot start the scrubber");
	}
	*ret = x;
	return 0;
}

void scrub_stop(struct scrub *x)
{
	if (!x)
		return;
	pthread_mutex_lock(&x->lock);
	x->stopping = true;
	pthread_cond_broadcast(&x->wake);
	pthread_mutex_unlock(&x->lock);
	pthread_join(x->thread, NULL);
	pthread_cond_destroy(&x->wake);
	pthread_mutex_destroy(&x->lock);
	free(x->later);
	free(x);
}
