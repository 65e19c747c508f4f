/* Locks on files: what this session may hold, and its line to the master for those that wait.
 *
 * Records of what may be held are made before a lock is asked for and go when all of it was given
 * back, so that closing a file on which there is no lock asks nobody (lock.c). A wait is first a
 * LOCK like any other; refused, it goes to the line (lockline.c): one thread and one connection of
 * its own, so that waiting takes neither a caller's thread nor a pooled connection. What the line
 * sends changes nothing at the master, so it asks again whenever it is in doubt.
 *
 * locks.lock protects the records; line.lock protects what it says; neither is held across I/O or
 * while done() is called. */
#ifndef CAIRN_CLIENT_LOCK_H
#define CAIRN_CLIENT_LOCK_H

#include <pthread.h>
#include <uthash.h>

#include "client/cairn.h"
#include "common/err.h"

struct lock_record_key {
	uint64_t inode, owner, kind;
};
struct lock_record {
	struct lock_record_key key;
	uint64_t uses;	   /* locks asked for */
	uint64_t *handles; /* through which they were set */
	unsigned n_handles;
	UT_hash_handle hh;
};

struct lock_line {
	pthread_mutex_t lock;		  /* protects what follows */
	struct cairn_lock_wait *incoming; /* started, not yet seen by the thread */
	pthread_t thread;
	bool runs, ended;
	int wake_fd; /* eventfd; -1 before the thread was started */
};

struct locks {
	pthread_mutex_t lock; /* protects the records */
	struct lock_record *records;
	struct lock_line line;
};

void locks_init(struct locks *l);
/* Ends the waits. */
void locks_release(struct locks *l);

/* One LOCK: 0, ERR_AGAIN when another's is in the way, or another failure. */
int lock_attempt(struct cairn *fs, uint64_t inode, const struct cairn_lock *lock, struct err *err);

void lock_line_end(struct lock_line *line);

#endif
