/* The session's rights (common/wire.h, 6) as the client keeps them: the link to the master, on which
 * they are renewed and recalled, the right to write, and what is open.
 *
 * The rules
 * ---------
 *  1. One thread owns the link. It never waits for anything but the network: a recall is answered when
 *     the cache (client/cache.h) and the watcher (the mount, for the kernel) have forgotten. It takes
 *     no lock that is held across I/O or across a request to the master.
 *  2. The lease ends lease_ms after the last answered ping was SENT, less a tenth. What is in the
 *     cache is not used after that; it is again when the master says that nothing was lost. When the
 *     link breaks everything is forgotten, and nothing is entered before it is attached again.
 *  3. Before data of a file goes to a chunk server, by any operation, the session must have W for it:
 *     lease_write_begin before, lease_write_end after it, lease_write_check before each new attempt in
 *     between. W is given up when the master asks and no operation is between begin and end. A request
 *     that may bring W counts as such an operation: so a recall that overtakes its answer finds it.
 *     With B, writes may be held back: each, and all that is held back, is between lease_buffer_begin and
 *     lease_buffer_end. When B is recalled the master hears at once that nothing is held back or that it
 *     is being flushed (`flush` is told to do so), and in a ping when that is done.
 *     When all was lost, what is held back is listed and flushed, if nobody has changed the file since.
 *  4. A file that is open lives: either the session has R of it (a recall asks whether it is open) or
 *     the master was told (lease_open). References are counted before R is looked at, and a recall
 *     looks at references after it took R away: one of the two sees the other. What the master knows
 *     as open is named in a ping after its last close, and is not opened again before that is answered.
 *
 * A session without a link (`on` false) never uses a cache; W is kept until the session ends.
 * Any thread. */
#ifndef CAIRN_CLIENT_LEASE_H
#define CAIRN_CLIENT_LEASE_H

#include "client/cache.h"
#include "client/cairn.h"
#include "client/inode.h"
#include "client/session.h"

struct writer;

enum { LEASE_RECALLED_MAX = 256 };

struct lease {
	struct cache cache;
	struct inodes *inodes;	 /* not owned, nor the next two */
	struct session *session;
	struct master *master;
	bool on;
	struct cairn_watch watch; /* functions NULL: nobody */
	pthread_t thread;
	bool runs;
	int wake_fd;
	/* B of this inode (0: of all) was recalled or lost: to be flushed. Called without a lock; never
	 * waits. */
	void (*flush)(void *arg, uint64_t inode);
	void *flush_arg;
	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t answered;
	bool stop;
	struct conn *conn;	/* the thread's; here for lease_stop to shut it down */
	int64_t until_ms;	/* of W; the cache has its own copy */
	uint64_t epoch;		/* of W and B: how often all was lost */
	uint64_t write_recalls; /* how many came, of W and B */
	uint64_t recalled[LEASE_RECALLED_MAX]; /* the latest of them: a ring */
	uint64_t *returned; /* to be told in the next ping: of B */
	size_t n_returned, returned_cap;
	struct when master_now; /* at clock_us() master_us; sec 0: not known */
	int64_t master_us;
	bool full; /* the servers */
	struct writer *writers;
	uint64_t *closed; /* to be told in the next ping */
	size_t n_closed, closed_cap;
	uint64_t closing[LEASES_PER_MESSAGE_MAX]; /* told in a ping that is not answered yet */
	unsigned n_closing;
};

/* For a session that is open. watch (may be NULL) is copied. 0, or an error: then it is released. */
int lease_init(struct lease *l, struct session *session, struct master *master,
	       struct inodes *inodes, bool on, const struct cairn_watch *watch,
	       void (*flush)(void *arg, uint64_t inode), void *flush_arg, struct err *err);
/* Ends the thread, within a few seconds: nothing is cached any more. Then lease_release. */
void lease_stop(struct lease *l);
void lease_release(struct lease *l);

/* What reads put into their `session`: take the cache's ticket before. Also while the link is down: the
 * master does not make us wait for what we hold back ourselves. */
static inline uint64_t lease_reader(struct lease *l)
{
	return l->on ? session_id(l->session) : 0;
}

/* The time by the master's clock, never ahead of it but for the drift of a ping's interval. */
struct when lease_master_now(struct lease *l);

/* ---- W ---- */

/* Waits for W if need be, at most until the deadline. On success lease_write_end must follow. ERR_STALE:
 * the file is gone. */
int lease_write_begin(struct lease *l, uint64_t inode, int64_t deadline_ms, struct err *err);
/* Between the two: still, or again. */
int lease_write_check(struct lease *l, uint64_t inode, int64_t deadline_ms, struct err *err);
void lease_write_end(struct lease *l, uint64_t inode);

/* For an answer that brings W by the way (MAKE): taken before the request, given with the answer. */
struct lease_mark {
	uint64_t epoch, write_recalls;
};
struct lease_mark lease_mark(struct lease *l);
/* leased: WIRE_LEASED_WRITE, WIRE_LEASED_BUFFER. */
void lease_write_granted(struct lease *l, uint64_t inode, struct lease_mark mark, uint8_t leased);

/* ---- B ---- */

/* Whether a write may be held back now; the master is asked for B if need be. True: lease_buffer_end must
 * follow. *ret_epoch: of lease_mark. */
bool lease_buffer_begin(struct lease *l, uint64_t inode, int64_t deadline_ms, uint64_t *ret_epoch);
void lease_buffer_end(struct lease *l, uint64_t inode);
/* Nothing was lost since then. */
bool lease_epoch_is(struct lease *l, uint64_t epoch);
/* The master says that W is lost, or `epoch` moved: the next lease_write_begin asks for it. */
void lease_write_lost(struct lease *l, uint64_t inode);
/* The servers have little room: a write that is held back may fail for it later. */
bool lease_full(struct lease *l);

/* ---- what is open ---- */

/* To be called when a reference of the inode has been taken for an open. nameless: it has lost its last
 * name already. ERR_STALE: it is gone. */
int lease_open(struct lease *l, uint64_t inode, bool nameless, int64_t deadline_ms,
	       struct err *err);
/* inodes' `closed` function: arg is the lease. */
void lease_closed(void *arg, uint64_t inode);

#endif
