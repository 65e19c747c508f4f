/* Read-ahead of sequential readers.
 *
 * Each handle finds out whether it is read sequentially, and then has worker threads of the session
 * fetch what follows: a window that doubles from READAHEAD_FIRST up to the session's limit, in
 * slots of at most a message's data, each within one chunk. A worker asks LOCATE itself and keeps the
 * stamp of that answer with the data. The reader has asked LOCATE too, and takes data only when both
 * are equal: then no write was completed, and nothing was lost (every server's power), between the fetch
 * and the read, whichever of the two came first. So a read gives what it would have given without
 * read-ahead.
 *
 * One lock for all handles of a session protects everything; it is held for a few list operations,
 * never while data is fetched or copied. */
#ifndef CAIRN_CLIENT_READAHEAD_H
#define CAIRN_CLIENT_READAHEAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cairn;
struct readahead_slot;

enum {
	READAHEAD_FIRST = 128 << 10,
	READAHEAD_THREADS = 4,
	READAHEAD_SESSION_BYTES = 128 << 20, /* all handles together */
	READAHEAD_SLACK = 1 << 20, /* the kernel's parallel reads of one stream come out of order */
	READAHEAD_FETCH_MS = 5000, /* a slower fetch is given up: the reader asks itself */
};

/* As of when bytes of a chunk are: the file's change counter, and its location's `settled`. served: some
 * replica can be read; when none can, what is there may be found to be lost. */
struct readahead_stamp {
	uint64_t change;
	uint32_t settled;
	bool served;
};

struct readahead_pool {
	struct cairn *fs;
	pthread_mutex_t lock; /* protects what follows, and all slots and handles */
	pthread_cond_t work;  /* the queue has something, or stop */
	pthread_cond_t done;  /* a slot has been fetched */
	pthread_t threads[READAHEAD_THREADS];
	unsigned n_threads, n_idle;
	struct readahead_slot *queue, **queue_end;
	size_t bytes;
	bool stop;
};

/* Of one handle. Zero-initialise. */
struct readahead {
	struct readahead_slot *slots;
	uint64_t next;	 /* the end of what was read */
	uint64_t ahead;	 /* the end of what was ordered */
	uint64_t window; /* 0: not sequential */
	unsigned streak; /* sequential reads in a row */
};

int readahead_pool_init(struct readahead_pool *p, struct cairn *fs);
/* All handles must have been cleared. Waits for fetches under way. */
void readahead_pool_release(struct readahead_pool *p);

/* [offset, offset+bytes) of a file of this size is about to be read: orders what will follow. */
void readahead_plan(struct readahead_pool *p, struct readahead *ra, uint64_t inode,
		    unsigned chunk_bits, uint64_t offset, size_t bytes, uint64_t size);
/* Copies what the buffer has at offset as of the stamp, after waiting for it if it is under way:
 * a count. 0: *ret_gap bytes (1..bytes) are to be read without read-ahead. */
size_t readahead_take(struct readahead_pool *p, struct readahead *ra, uint64_t offset,
		      size_t bytes, const struct readahead_stamp *stamp, uint8_t *dest,
		      size_t *ret_gap);
/* Forgets everything. */
void readahead_clear(struct readahead_pool *p, struct readahead *ra);

#endif
