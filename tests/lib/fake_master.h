/* The master's parts without sockets, disk or real time: for tests of what the master decides.
 *
 * Linked instead of common/clock.c, master/random.c, the sending half of master/server.c and
 * master/rlog.c. The clock stands until a test moves it, random numbers come from a seed, messages
 * to peers go to a hook, and proposals wait until the test commits them: through the real apply,
 * over a state in memory. One master at a time. */
#ifndef CAIRN_TESTS_FAKE_MASTER_H
#define CAIRN_TESTS_FAKE_MASTER_H

#include "master/master.h"

struct fake_hooks {
	void (*sent)(struct peer *peer, const struct buf *message);
	/* The master has closed it (peer->closing is set): what main.c's on_gone does, and more. */
	void (*closed)(struct peer *peer);
	/* An entry was applied; those who proposed it are not told yet. */
	void (*applied)(uint16_t number, struct slice entry, const struct apply_result *result);
};
extern struct fake_hooks fake_hooks;

/* ---- time and chance ---- */

extern int64_t fake_ms;
extern int64_t fake_set_s; /* by how much the clock of files was set */
void fake_seed(uint64_t seed);
uint64_t fake_random(void);
uint32_t fake_draw(uint32_t n); /* 0 .. n-1; n > 0 */

/* ---- the log ---- */

/* An empty state and log; proposals go to `m` from now on. */
void fake_log_open(struct master *m);
/* Commits the oldest proposal: false when there is none. A storage error or a refused entry index
 * ends the test. */
bool fake_log_commit(void);
unsigned fake_log_waiting(void);
/* The master dies: the oldest `keep` of the waiting proposals are in the log all the same, the
 * others are gone; nobody learns which. Set m->stopping first. */
void fake_log_crash(unsigned keep);
/* Drops what waits. The state is the test's to free. */
void fake_log_close(void);

/* ---- a replica, by the rules of chunkserver/store.h ---- */

enum { REPLICA_BLOCKS = 4, REPLICA_BLOCK_BYTES = 16384 };

/* block: the number of the write that each block holds, 0 for zeros. rotten: a block does not
 * verify; damaged: and the server knows. unclean: it was open at a crash; in_doubt: it has a write
 * that the others may not have; open: the journal names it, so that a crash makes it unclean. epoch
 * counts the changes that end the locks of writers; changes: those of content, raised: as it was at
 * the last raise. */
struct fake_replica {
	bool present, unclean, damaged, in_doubt, open;
	bool lossy;    /* it may have lost unsynced bytes */
	uint32_t told; /* the raise that said so; 0: none yet */
	bool rotten[REPLICA_BLOCKS];
	uint32_t version;
	uint32_t epoch, changes, raised;
	uint64_t length;
	uint32_t block[REPLICA_BLOCKS];
	uint32_t synced[REPLICA_BLOCKS]; /* what of it is on stable storage */
};
int fake_raise(struct fake_replica *r, const struct wire_chunk_raise *req,
	       struct wire_chunk_state *ret);
/* `from` as it was when it was read; changes: those of r when the copy was ordered. */
int fake_pull(struct fake_replica *r, const struct fake_replica *from, uint32_t changes,
	      const struct wire_chunk_pull *req, struct wire_chunk_state *ret);
/* Whether r may be read at this version by another server. */
int fake_readable(struct fake_replica *r, uint32_t version);
int fake_check(const struct fake_replica *r, uint32_t version, struct wire_chunk_state *ret);
void fake_delete(struct fake_replica *r, uint32_t version);
/* All that it holds goes to stable storage. */
void fake_sync(struct fake_replica *r);
bool fake_rotten(const struct fake_replica *r);

#endif
