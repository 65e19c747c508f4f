/* The files that this session has open, and what it knows of them: write locations, chunks not
 * yet synced, whether the session holds a removed file.
 *
 * The rule of cached write locations
 * ----------------------------------
 * A server refuses a write at an old version, but a chunk that another session freed (truncation)
 * would go on taking writes until it is deleted, and they would be lost. So:
 *  1. Cached locations are right at the file's change counter `known`: the value that came with
 *     them, moved on by changes that this session itself made (its WROTE and SETATTR answers, `own`).
 *  2. A write remembers `since`, the lowest such value of the locations it used. When its WROTE
 *     answers with change c, and every change in (since, c] is our own, nobody else changed the
 *     file meanwhile, and the bytes are in the file's chunks.
 *  3. Otherwise all cached locations are dropped, and the writer asks for the chunks it wrote
 *     to: where id and version are still the same they were neither freed nor cut, and the
 *     bytes are there; where not, it writes them again and says WROTE again (write.c).
 *
 * Unsynced chunks are remembered by index, not by location (a chunk may have moved by the time
 * of the fsync), for the inode and not for one handle (fsync(2) covers what other handles
 * wrote), and beyond the last close: up to INODES_CLOSED_MAX closed inodes are kept for that.
 * When one is forgotten, `forgot` makes every file that is opened later count as wholly dirty.
 *
 * With each goes the lowest version of the chunk at which bytes were written that are not synced.
 * When the chunk was settled with a loss at a higher one (every server lost its power: wire_chunk),
 * they may be gone: `losses` counts that, and fsync of every open file that has not been told of it
 * fails once. The same for what was held back (client/writeback.h) and could not be written; if nobody
 * has it open then, the next one who opens it is told.
 *
 * Locks: inodes.lock protects the table, refs and held; inode.lock the rest. Neither is held
 * across I/O. */
#ifndef CAIRN_CLIENT_INODE_H
#define CAIRN_CLIENT_INODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>

#include "client/cairn.h"
#include "client/location.h"
#include "client/session.h"

enum {
	INODE_LOCATIONS_MAX = 1024, /* cached for each inode; the oldest goes */
	INODE_OWN_MAX = 64,	    /* our own latest changes remembered */
	INODE_DIRTY_MAX = 65536,    /* unsynced chunks remembered; more: all of them */
	INODES_CLOSED_MAX = 4096,
};

struct dirty {
	uint64_t index;
	uint64_t mark; /* of the latest write to it */
	uint64_t chunk;	  /* its id then, and the lowest version; 0: not known */
	uint32_t version;
};

struct cached_location;

struct inode {
	uint64_t number;
	uint8_t chunk_bits;
	UT_hash_handle hh;
	unsigned refs; /* handles and calls in progress */
	bool held;     /* lost its last name while open here: RELEASE at the last close */
	bool gone;     /* with held: that is certain */
	bool told;     /* the master knows that it is open: `closed` is to be called */
	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t append_ended;
	bool appending;
	struct cached_location *locations;
	uint64_t known;
	uint64_t own[INODE_OWN_MAX];
	unsigned own_at;
	struct dirty *dirty; /* sorted by index */
	size_t n_dirty, dirty_cap;
	uint64_t mark;	   /* counts calls of inode_dirty_mark */
	uint64_t dirty_all; /* 0, or the mark at which every chunk became dirty */
	unsigned losses;   /* of bytes that were written: found by syncs, or failures of flushes */
	int loss_code;	   /* of the latest */
	bool loss_seen;	   /* it was told to somebody, or there is none */
	struct opener *openers; /* NULL: as the process itself */
};

struct inodes {
	pthread_mutex_t lock; /* protects what follows */
	struct inode *by_number;
	unsigned n_open;   /* inodes with refs > 0 */
	unsigned n_closed; /* dirty ones kept */
	bool forgot;
	/* Called without a lock after the last close of a `told` one; set before first use, or NULL. */
	void (*closed)(void *arg, uint64_t number);
	void *closed_arg;
};

void inodes_init(struct inodes *t);
/* All references must be gone. */
void inodes_release(struct inodes *t);

/* The inode with one reference more, made if need be: NULL when out of memory. fresh: just
 * created, so that nothing of it can be dirty. */
struct inode *inode_open(struct inodes *t, uint64_t number, uint8_t chunk_bits, bool fresh);
/* The inode with one reference more if it is open here, else NULL. */
struct inode *inode_find(struct inodes *t, uint64_t number);
bool inodes_any_open(struct inodes *t);
/* Where the master checks who reads and writes (session_is_checked), that is whoever opened the file for
 * it last, also for what others do by descriptors of the same file: each of them was permitted to. NULL:
 * the process itself. 0 or ERR_NOMEM. */
int inode_opened_by(struct inode *inode, const struct cairn_cred *cred, int flags);
/* That, for a request. */
void inodes_cred(struct inodes *t, struct session *s, uint64_t number, bool writing,
		 struct wire_cred *ret);
/* One reference less. True: it was the last one of a held inode: send RELEASE for it. */
bool inode_close(struct inodes *t, struct inode *inode);
/* gone: it has no name left, for sure; else what is dirty is remembered beyond the last close. */
void inode_hold(struct inodes *t, struct inode *inode, bool gone);
/* Whether it is open here; if so, the master is being told now. */
bool inode_tell_open(struct inodes *t, uint64_t number);
/* The same for all that are: their numbers (heap, the caller frees). 0 or ERR_NOMEM. */
int inodes_tell_open(struct inodes *t, uint64_t **ret, size_t *ret_n);

/* Makes O_APPEND writes of this session follow each other. False: another one has not ended by the
 * deadline. */
bool inode_append_begin(struct inode *inode, int64_t deadline_ms);
void inode_append_end(struct inode *inode);

/* ---- write locations ---- */

/* The cached location and the change counter at which it is right. False: ask the master. */
bool inode_location_get(struct inode *inode, uint64_t index, struct location *ret,
			uint64_t *ret_since);
/* A location that an answer with this change counter gave. */
void inode_location_put(struct inode *inode, const struct location *loc, uint64_t change);
/* Forgets one chunk's location, if it is still that version of that chunk. */
void inode_location_drop(struct inode *inode, const struct location *loc);
/* Forgets the locations from an index on (a truncation). */
void inode_locations_cut(struct inode *inode, uint64_t from_index);
/* Our WROTE was answered with `change`. True when the locations that were right at `since` were
 * right all the time; false: they were dropped, see the rule. */
bool inode_wrote(struct inode *inode, uint64_t since, uint64_t change);
/* This session changed something else than the data: the answer has `change`. */
void inode_changed(struct inode *inode, uint64_t change);
/* The chunk is known to be written from now on. */
void inode_written(struct inode *inode, uint64_t index, uint64_t id);

/* ---- unsynced chunks ---- */

/* After a write that was done at that version of the chunk or, in parts, at higher ones too. */
void inode_dirty_mark(struct inode *inode, uint64_t index, uint64_t chunk, uint32_t version);
/* Unsynced bytes were lost, by a sync that is done: with it the chunk counts as clean. */
void inode_lost(struct inode *inode);
/* Bytes that were held back could not be written. */
void inode_fail(struct inode *inode, int code);
/* What a new handle begins with: it is told of a loss that nobody was told of. */
unsigned inode_losses_sample(struct inode *inode);
/* 0, or the code of the latest loss: *seen (of inode_losses_sample) is brought up to date. */
int inode_losses_check(struct inode *inode, atomic_uint *seen);
/* A copy of the unsynced chunks (heap, the caller frees; NULL when there are none), and whether
 * all count as such: *ret_all is 0 or what inode_clean_all wants. 0 or ERR_NOMEM. */
int inode_dirty_list(struct inode *inode, struct dirty **ret, size_t *ret_n, uint64_t *ret_all);
/* Synced, unless it was written to again meanwhile. */
void inode_clean(struct inode *inode, const struct dirty *d);
void inode_clean_all(struct inode *inode, uint64_t all);

#endif
