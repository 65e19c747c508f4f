/* Write buffering: what was written and is not with the servers yet.
 *
 * A session that is a file's only writer (its right B, client/lease.h) keeps completed writes in memory
 * and owns the file's size and times meanwhile. They are sent, and told to the master (WROTE), in large
 * pieces by threads of the session:
 *  - when they are old (age_ms) or many (limit_bytes in all; a run of RUN_BYTES of one file);
 *  - when somebody waits for it: fsync, a read of this session that the buffer cannot answer, a change
 *    of the size, another client (the recall of B);
 *  - when the session ends.
 *
 * The rules
 * ---------
 *  1. A buffer exists between lease_buffer_begin and lease_buffer_end, so B is returned only when nothing
 *     is held back. It is made with the file's attributes from the cache, and what it adds to them
 *     (writeback_attr) is what WROTE will make of them, the times included: nothing that was told
 *     before changes by the flush.
 *  2. One thread flushes a file at a time, in the order of the file, and then WROTE: the size never
 *     covers bytes that were not sent. What is written meanwhile is gathered for the next time.
 *  3. A write that is not held back waits for what is (writeback_settle): the file's writes arrive in
 *     their order.
 *  4. After the lease was lost (its epoch has moved) the buffer is flushed only if the file's change
 *     counter is still `base`: nobody else has changed it. Otherwise it is dropped.
 *  5. What fails for good is dropped, as Linux drops pages that it cannot write: the log says which file,
 *     fsync and close of each handle fail once (client/inode.h). What may pass (servers or master away)
 *     is tried again for GIVE_UP_MS; fsync ends in its own time.
 *  6. A change of mode, owner or times by this session keeps its place: what was written before is told
 *     to the master without touching them (writeback_freeze, writeback_thaw).
 *
 * Any thread. One lock, above those of the cache, the lease and the inodes, never held across I/O. */
#ifndef CAIRN_CLIENT_WRITEBACK_H
#define CAIRN_CLIENT_WRITEBACK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct cairn;
struct inode;
struct wire_attr;
struct writeback_buf;

enum {
	WRITEBACK_THREADS = 6,
	WRITEBACK_RUN_BYTES = 4 << 20,
	WRITEBACK_UNIT_BYTES = 1 << 20, /* a message's data */
	WRITEBACK_GIVE_UP_MS = 300000,
	WRITEBACK_DEFAULT_MS = 1000,
};

struct writeback {
	struct cairn *fs;
	size_t limit_bytes; /* 0: nothing is held back */
	int64_t age_ms;
	pthread_mutex_t lock; /* protects what follows, and all buffers */
	pthread_cond_t work, done;
	pthread_t threads[WRITEBACK_THREADS];
	unsigned n_threads, n_idle;
	struct writeback_buf *by_inode;
	struct writeback_buf *urgent, *aging; /* to be flushed; aging: oldest first */
	size_t bytes; /* held back, by all */
	uint64_t ended; /* buffers that were there and are not any more */
	bool drain; /* all is urgent */
	bool stop;
};

int writeback_init(struct writeback *w, struct cairn *fs, size_t limit_bytes, int64_t age_ms);
/* Flushes all, at most until the deadline; what is left is dropped, and the log says so. Nothing may be
 * written meanwhile. */
void writeback_stop(struct writeback *w, int64_t deadline_ms);
void writeback_release(struct writeback *w);

/* 1: held back; 0: it must go through to the servers (as one that takes a capability away, which others
 * see at once); ERR_NOMEM. Waits for room. */
int writeback_put(struct writeback *w, struct inode *inode, const void *data, size_t bytes,
		  uint64_t offset, int64_t deadline_ms);
/* 1: [offset, offset+bytes), up to the file's end, was read from memory: *ret_n bytes. 0: the servers
 * have all of the file. ERR_TIMEOUT: neither by the deadline. */
int writeback_read(struct writeback *w, uint64_t inode, void *dest, size_t bytes, uint64_t offset,
		   size_t *ret_n, int64_t deadline_ms);
/* Everything that was held back before the call is with the servers and the master, or has failed and
 * been told to the inode. sync: who calls syncs the file next. ERR_TIMEOUT: not by the deadline. */
int writeback_settle(struct writeback *w, uint64_t inode, bool sync, int64_t deadline_ms);
/* Wants it flushed soon. inode 0: all. For lease->flush. */
void writeback_kick(void *arg, uint64_t inode);

bool writeback_has(struct writeback *w, uint64_t inode);
/* Adds what is held back to the attributes that the master has. False: nothing is. */
bool writeback_attr(struct writeback *w, struct wire_attr *attr);
/* How many buffers have ended: attributes that were asked for before the last of them may be older than
 * what writeback_attr told meanwhile. */
uint64_t writeback_ended(struct writeback *w);

/* Around a request that changes mode, owner or times: it waits for a flush that is under way, and none
 * begins in between. ERR_TIMEOUT: no thaw. thaw: whether it was done, what was set (CAIRN_SET_) and the
 * answer's attributes. */
int writeback_freeze(struct writeback *w, uint64_t inode, int64_t deadline_ms);
void writeback_thaw(struct writeback *w, uint64_t inode, bool done, unsigned set,
		    const struct wire_attr *attr);
/* This session has changed the file's names: its change counter moved by one. */
void writeback_renamed(struct writeback *w, uint64_t inode);

#endif
