/* Group commit: a thread that appends puts a waiter into the queue. The first that finds nobody
 * writing takes the whole queue, writes and syncs it, and wakes the others; those that came
 * meanwhile form the next batch.
 *
 * A new journal is filled with zeros some way ahead, so that most appends change no file size
 * and fdatasync has no metadata to write. Zeros do not verify as a record. */
#include "chunkserver/journal.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/fault.h"

enum { JOURNAL_AHEAD_BYTES = 32 << 10, JOURNAL_READ_RECORDS = 2048, JOURNAL_BATCH_MAX = 1024 };

struct waiter {
	struct journal_record record;
	int result;
	bool done;
	struct waiter *next;
};

struct journal {
	const struct io *io;
	char *dir, *path, *path_new;
	uint8_t life[IO_LIFE_BYTES]; /* the present one */
	int fd; /* -1 before the first journal_begin and after it failed */
	uint64_t end; /* where the next record goes; belongs to the writing thread */
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	/* protected by mutex */
	bool writing;
	struct waiter *head, **tail;
};

void journal_free(struct journal *j)
{
	if (!j)
		return;
	if (j->fd >= 0)
		j->io->close(j->io, j->fd);
	pthread_mutex_destroy(&j->mutex);
	pthread_cond_destroy(&j->cond);
	free(j->dir);
	free(j->path);
	free(j->path_new);
	free(j);
}

static int names_add(struct journal_names *names, const struct journal_record *r)
{
	if ((names->n & (names->n - 1)) == 0) {
		size_t cap = names->n ? names->n * 2 : 1;
		void *p = realloc(names->items, cap * sizeof(*names->items));
		if (!p)
			return ERR_NOMEM;
		names->items = p;
	}
	names->items[names->n++] = *r;
	return 0;
}

/* Reads records until one does not verify; a clean stop takes back all names before it. A journal
 * that names no life before its chunks is of another one. */
static int journal_read(const struct io *io, int fd, const uint8_t *life, struct journal_names *ret)
{
	bool same_life = false;
	_cleanup_free_ uint8_t *piece = malloc(JOURNAL_READ_RECORDS * JOURNAL_RECORD_BYTES);
	uint64_t offset = 0;

	if (!piece)
		return ERR_NOMEM;
	for (;;) {
		ssize_t n = io->pread(io, fd, piece, JOURNAL_READ_RECORDS * JOURNAL_RECORD_BYTES,
				      offset);
		if (n < 0)
			return (int)n;
		for (ssize_t at = 0; at + JOURNAL_RECORD_BYTES <= n; at += JOURNAL_RECORD_BYTES) {
			struct journal_record r;
			if (journal_record_get(piece + at, &r) < 0)
				return 0;
			r.in_this_life = same_life;
			r.lossy |= !same_life;
			if (r.kind == JOURNAL_CLEAN)
				ret->n = 0;
			else if (r.kind == JOURNAL_LIFE)
				same_life = memcmp(r.life, life, IO_LIFE_BYTES) == 0;
			else if (names_add(ret, &r) < 0)
				return ERR_NOMEM;
		}
		if (n < JOURNAL_READ_RECORDS * JOURNAL_RECORD_BYTES)
			return 0;
		offset += (uint64_t)n;
	}
}

int journal_open(const struct io *io, const char *dir, struct journal **ret,
		 struct journal_names *ret_names, struct err *err)
{
	struct journal *j = calloc(1, sizeof(*j));
	struct journal_names names = {0};
	int fd, r = 0;

	if (!j)
		return err_set(err, ERR_NOMEM, "%s: out of memory", dir);
	j->io = io;
	j->fd = -1;
	j->tail = &j->head;
	pthread_mutex_init(&j->mutex, NULL);
	pthread_cond_init(&j->cond, NULL);
	j->dir = strdup(dir);
	if (asprintf(&j->path, "%s/journal", dir) < 0)
		j->path = NULL;
	if (asprintf(&j->path_new, "%s/journal.new", dir) < 0)
		j->path_new = NULL;
	if (!j->dir || !j->path || !j->path_new) {
		journal_free(j);
		return err_set(err, ERR_NOMEM, "%s: out of memory", dir);
	}
	r = io->life(io, dir, j->life);
	if (r < 0) {
		journal_free(j);
		return err_set(err, r, "%s: cannot tell its mount: %s", dir, err_text(r));
	}
	fd = io->open(io, j->path, O_RDONLY, 0);
	if (fd >= 0) {
		r = journal_read(io, fd, j->life, &names);
		io->close(io, fd);
	} else if (fd != ERR_NOENT) {
		r = fd;
	}
	if (r < 0) {
		r = err_set(err, r, "read %s: %s", j->path, err_text(r));
		free(names.items);
		journal_free(j);
		return r;
	}
	*ret = j;
	*ret_names = names;
	return 0;
}

/* ---- appending ---- */

/* Writes at most JOURNAL_BATCH_MAX waiters of the list; *ret_end: the first one not written. */
static int journal_write_batch(struct journal *j, struct waiter *list, struct waiter **ret_end)
{
	uint8_t batch[64 * JOURNAL_RECORD_BYTES];
	struct waiter *w = list;
	unsigned total = 0;
	int r = j->fd < 0 ? ERR_IO : 0;

	while (r == 0 && w && total < JOURNAL_BATCH_MAX) {
		unsigned n = 0;
		for (; w && n < 64; w = w->next, n++)
			journal_record_put(batch + n * JOURNAL_RECORD_BYTES, &w->record);
		r = j->io->pwrite(j->io, j->fd, batch, n * JOURNAL_RECORD_BYTES, j->end);
		/* Records of a failed batch may stay behind: they name chunks in excess, which
		 * is harmless; but what follows must be joined to what is valid. */
		if (r == 0)
			j->end += n * JOURNAL_RECORD_BYTES;
		total += n;
	}
	if (r == 0) {
		r = j->io->fdatasync(j->io, j->fd);
		if (r < 0) {
			/* What the kernel failed to write it takes for written from now on: a gap
			 * may be left, and would end the journal for its reader. */
			j->io->close(j->io, j->fd);
			j->fd = -1;
		}
	}
	*ret_end = r == 0 ? w : NULL;
	return r;
}

/* Called with the mutex held and j->writing set by this thread. */
static void journal_write_queue(struct journal *j)
{
	struct waiter *list = j->head, *end, *next;
	int r;

	j->head = NULL;
	j->tail = &j->head;
	while (list) {
		pthread_mutex_unlock(&j->mutex);
		r = journal_write_batch(j, list, &end);
		pthread_mutex_lock(&j->mutex);
		for (; list != end; list = next) {
			/* A waiter lives on its thread's stack: done ends our use of it. */
			next = list->next;
			list->result = r;
			list->done = true;
		}
	}
}

int journal_append(struct journal *j, uint64_t chunk, uint32_t version, uint8_t chunk_bits,
		   struct err *err)
{
	struct waiter w = {.record = {.kind = JOURNAL_OPEN, .chunk = chunk, .version = version,
				      .chunk_bits = chunk_bits}};

	pthread_mutex_lock(&j->mutex);
	*j->tail = &w;
	j->tail = &w.next;
	while (!w.done) {
		if (j->writing) {
			pthread_cond_wait(&j->cond, &j->mutex);
			continue;
		}
		j->writing = true;
		journal_write_queue(j);
		j->writing = false;
		pthread_cond_broadcast(&j->cond);
	}
	pthread_mutex_unlock(&j->mutex);
	if (w.result < 0)
		err_set(err, w.result, "append to %s: %s", j->path, err_text(w.result));
	return w.result;
}

/* ---- beginning anew ---- */

/* The new journal's file under its temporary name, synced. */
static int journal_write_new(struct journal *j, const struct journal_names *names, bool clean,
			     int *ret_fd, uint64_t *ret_end)
{
	size_t n = 1 + names->n + (clean && names->n == 0 ? 1 : 0);
	size_t bytes = n * JOURNAL_RECORD_BYTES + JOURNAL_AHEAD_BYTES;
	_cleanup_free_ uint8_t *content = calloc(1, bytes);
	struct journal_record r = {.kind = JOURNAL_LIFE};
	int fd, code;

	if (!content)
		return ERR_NOMEM;
	memcpy(r.life, j->life, IO_LIFE_BYTES);
	journal_record_put(content, &r);
	r = (struct journal_record){.kind = JOURNAL_CLEAN};
	if (n > 1 + names->n)
		journal_record_put(content + JOURNAL_RECORD_BYTES, &r);
	for (size_t i = 0; i < names->n; i++) {
		r = names->items[i];
		r.kind = JOURNAL_OPEN;
		journal_record_put(content + (1 + i) * JOURNAL_RECORD_BYTES, &r);
	}
	fd = j->io->open(j->io, j->path_new, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return fd;
	code = j->io->pwrite(j->io, fd, content, bytes, 0);
	if (code == 0)
		code = j->io->fdatasync(j->io, fd);
	if (code == 0)
		code = j->io->rename(j->io, j->path_new, j->path);
	if (code < 0) {
		j->io->close(j->io, fd);
		return code;
	}
	*ret_fd = fd;
	*ret_end = n * JOURNAL_RECORD_BYTES;
	return 0;
}

int journal_begin(struct journal *j, journal_keep_fn keep, void *arg, bool clean,
		  struct err *err)
{
	struct journal_names names = {0};
	uint64_t end = 0;
	int fd = -1, r;

	pthread_mutex_lock(&j->mutex);
	while (j->writing)
		pthread_cond_wait(&j->cond, &j->mutex);
	j->writing = true;
	pthread_mutex_unlock(&j->mutex);

	r = keep(arg, &names);
	if (r == 0)
		r = journal_write_new(j, &names, clean, &fd, &end);
	if (r == 0) {
		if (j->fd >= 0)
			j->io->close(j->io, j->fd);
		j->fd = fd;
		j->end = end;
		FAULT_POINT(CS_JOURNAL_ANEW, "");
		r = j->io->sync_dir(j->io, j->dir);
		if (r < 0) {
			/* After a power loss the old journal may come back, without what would
			 * be appended to this one. */
			j->io->close(j->io, j->fd);
			j->fd = -1;
		}
	}
	free(names.items);
	if (r < 0)
		err_set(err, r, "begin %s: %s", j->path, err_text(r));

	pthread_mutex_lock(&j->mutex);
	j->writing = false;
	pthread_cond_broadcast(&j->cond);
	pthread_mutex_unlock(&j->mutex);
	return r;
}
