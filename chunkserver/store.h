/* The replicas of this chunkserver: which there are, who may use them, and what must survive.
 *
 * One lock and one condition guard the table; file work is done outside. A replica is used by
 * reads and writes side by side (store_acquire) or by one change of its name or existence alone
 * (raise, pull, delete: inside this file), which waits until the local work of the others has
 * ended. Block ranges being written are locked until the rest of the chain has answered, so that
 * nobody reads what is not committed; a raise ends those locks, because it fences their writers.
 */
#ifndef CAIRN_CHUNKSERVER_STORE_H
#define CAIRN_CHUNKSERVER_STORE_H

#include <uthash.h>

#include "chunkserver/chunk_file.h"
#include "chunkserver/journal.h"
#include "chunkserver/settle.h"
#include "common/io.h"
#include "common/wire.h"

struct store;
struct replica;

/* A range of blocks with an uncommitted write. Owned by the connection that writes. */
struct range {
	struct replica *replica; /* NULL: not locked, or ended by a raise */
	uint32_t first, last;
	bool applied; /* bytes may have been written: readers wait */
	struct range *prev, *next;
};

struct store_options {
	const struct io *io;
	char *const *dirs; /* the disks */
	size_t n_dirs;
	uint64_t reserve_bytes;
	/* A replica was found damaged while running. Any thread; must not call the store. */
	void (*damaged)(void *arg, const struct wire_have *have);
	/* A disk has failed: all is to be reported anew. Any thread; must not call the store. */
	void (*disk_failed)(void *arg);
	void *arg;
};

/* Locks and scans the disks, recovers after an unclean stop. Goes on without disks that cannot be
 * used as long as one can (disk.h). Errors name the directory. */
int store_open(const struct store_options *options, struct store **ret, struct err *err);
/* Syncs everything, says so in the journals, and frees. No other thread uses it any more. */
void store_close(struct store *s);

/* The server's uuid (16 bytes), and the cluster's: empty before store_join_cluster. */
struct slice store_uuid(struct store *s);
struct slice store_cluster(struct store *s);
/* Writes the cluster's uuid to disks that have none. */
int store_join_cluster(struct store *s, struct slice cluster, struct err *err);
void store_space(struct store *s, struct wire_cs_heartbeat *ret);

/* Counts changes of content. What a command of the master was about is what there was at the moment
 * when it came: it may be carried out late, after the master has given it up, or by a process
 * that another master has followed, and must not undo what was ordered since. Any thread. */
uint64_t store_moment(struct store *s);

/* Uses a replica for local work: ERR_NO_CHUNK, ERR_CHUNK_VERSION, ERR_CHUNK_PENDING (it was open
 * at a crash, or is being changed for too long), ERR_CORRUPT, ERR_IO (its disk has failed, too).
 * With create_bits != 0 an absent replica is made (version 1 or later): ERR_NOSPC. ret_file is good
 * until store_release. */
int store_acquire(struct store *s, uint64_t chunk, uint32_t version, uint8_t create_bits,
		  int64_t deadline_ms, struct replica **ret, struct chunk_file *ret_file,
		  struct err *err);
/* As store_acquire, to help another member that was open at a crash: a replica that was too will
 * do, and the next version. Only blocks that verify may be taken from it. */
int store_acquire_unclean(struct store *s, uint64_t chunk, uint32_t version, int64_t deadline_ms,
			  struct replica **ret, struct chunk_file *ret_file, struct err *err);
void store_release(struct store *s, struct replica *r);

/* Locks blocks first..last for a write. wait false: ERR_BUSY at once when others write there. */
int store_range_lock(struct store *s, struct replica *r, uint32_t first, uint32_t last, bool wait,
		     int64_t deadline_ms, struct range *ret);
void store_range_unlock(struct store *s, struct range *range);
/* Before bytes of a locked range are written. False: a raise has ended the lock. */
bool store_range_apply(struct store *s, struct range *range);
/* Waits until no uncommitted write touches the blocks. ERR_CHUNK_PENDING after the deadline or
 * when the replica is in doubt. */
int store_wait_committed(struct store *s, struct replica *r, uint32_t first, uint32_t last,
			 int64_t deadline_ms);
/* A write is here that the rest of the chain may not have: no reads until a raise. */
void store_in_doubt(struct store *s, struct range *range);

/* Exactly once: a replica remembers the last writes that it has applied, by (session, seq); session
 * 0 is none. store_has_write, with the range locked: whether every member has it, so that it must
 * not be applied again. Kept in memory: what remains possible is written in serve_write.c. */
bool store_has_write(struct store *s, const struct range *range, uint64_t session, uint64_t seq);
void store_note_write(struct store *s, const struct range *range, uint64_t session, uint64_t seq,
		      bool committed);

/* Before a write, between acquire and release: names the chunk in the synced journal. */
int store_will_write(struct store *s, struct replica *r, struct err *err);
void store_did_write(struct store *s, struct replica *r);
/* Data, checksums and name onto stable storage. Waits for another's sync of it; fails also when that
 * did. */
int store_sync(struct store *s, struct replica *r, const struct chunk_file *f, struct err *err);
/* One round of the background: syncs what is dirty, begins the journals anew. */
void store_sync_all(struct store *s);
/* Blocks do not verify or cannot be read or written: `code` says which. */
void store_damaged(struct store *s, struct replica *r, int code);

/* others: where blocks may be whole that do not verify here (RAISE_SETTLE); NULL: nowhere. */
int store_raise(struct store *s, const struct wire_chunk_raise *req,
		const struct settle_source *others, int64_t deadline_ms,
		struct wire_chunk_state *ret, struct err *err);
/* begun: store_moment() when the command came. ERR_BUSY: a raise or a copy has come since. */
int store_delete(struct store *s, uint64_t chunk, uint32_t version, uint64_t begun,
		 struct err *err);
/* What is here, to be compared with other replicas. ERR_BUSY: it is being written or changed, or
 * was open at a crash, and so has no state of its own now. */
int store_check(struct store *s, uint64_t chunk, uint32_t version, struct wire_chunk_state *ret,
		struct err *err);

/* For pull.c: where a copy of `bytes` is built, beside what is there. */
enum { STORE_PATH_ROOM = 4096 };
struct store_copy {
	char path[STORE_PATH_ROOM]; /* of no other copy */
	unsigned disk;
	uint64_t serial;
	uint64_t begun; /* set by the caller: what came after that moment is newer than the copy */
	bool lossy; /* set by the caller: its source told so, in a raise that is not confirmed */
};
int store_copy_begin(struct store *s, uint64_t chunk, uint32_t version, uint64_t bytes,
		     struct store_copy *ret, struct err *err);
/* Own replica at any version, as a source of good blocks: 1, 0 none. ret_seen: to tell later whether
 * its content has changed since. */
struct store_seen {
	uint64_t changed, writes;
};
int store_peek(struct store *s, uint64_t chunk, struct replica **ret, struct chunk_file *ret_file,
	       struct store_seen *ret_seen);
/* Puts the copy in the place of what is there. ERR_CHUNK_VERSION: that is newer, by its version or
 * because it was changed since the copy was begun. */
int store_install(struct store *s, uint64_t chunk, uint32_t version,
		  const struct store_copy *copy, struct err *err);
/* Has the own replica alone, to bring it up to date in its place; from here on it is `unclean`, and the
 * journal names it. ERR_BUSY: it is used, has changed since it was seen, or since `begun` at this
 * very version, or is not fit for it: a whole copy is to be made, and may be refused. Between begin
 * and end the caller writes what differs into patch->file. */
struct store_patch {
	struct replica *replica;
	struct chunk_file file;
	uint32_t version; /* that it is to have */
	bool lossy;	  /* as in store_copy */
	bool torn;	  /* set by the caller: a write failed in the middle of a block */
};
int store_patch_begin(struct store *s, uint64_t chunk, uint32_t version,
		      const struct store_seen *seen, uint64_t begun, struct store_patch *ret,
		      struct err *err);
/* code 0: all is written; it is synced and gets its new version. Returns code, or what failed then:
 * it stays as one that was open at a crash. */
int store_patch_end(struct store *s, struct store_patch *patch, int code, struct err *err);
/* Writing a copy there ended with `code`, which may be 0. at_once: it could not even be begun. */
void store_disk_error(struct store *s, unsigned disk, int code, bool at_once);
const struct io *store_io(struct store *s);

/* Everything there is, sorted by id (heap). */
int store_list(struct store *s, struct wire_have **ret, size_t *ret_n);
/* How many there are; the first `max` with an id of `from` or more, sorted: how many. */
size_t store_count(struct store *s);
size_t store_next(struct store *s, uint64_t from, size_t max, struct wire_have *ret);
/* Whether it has bytes that are not synced. */
bool store_dirty(struct store *s, uint64_t chunk);

/* Where the scrubber is, on the first good disk: a hint, without a promise to survive. */
void store_scrub_note(struct store *s, uint64_t position, const struct wire_scrub *progress);
void store_scrub_noted(struct store *s, uint64_t *ret_position, struct wire_scrub *ret);

#endif
