/* The inside of the store, shared by its files: store.c (the table, and use), store_open.c (start,
 * recovery, end), store_disk.c (disks, and how they fail), store_sync.c (durability),
 * store_change.c (changes of name or existence), store_patch.c (a replica that is brought up to date
 * in its place). */
#ifndef CAIRN_CHUNKSERVER_STORE_PRIV_H
#define CAIRN_CHUNKSERVER_STORE_PRIV_H

#include <pthread.h>

#include "chunkserver/disk.h"
#include "chunkserver/store.h"

enum { OPEN_FILES_MAX = 512, PATH_ROOM = STORE_PATH_ROOM };

/* A write that the content of a replica has in it. */
enum { RECENT_MAX = 64 };
struct recent {
	uint64_t session, seq;
	uint32_t version; /* at which it was applied */
	bool committed;	  /* the whole chain has it */
};

/* An entry of the table. What holds at every moment at which the lock is free is replica_valid():
 *
 *     making   its place is reserved while its file is being made or a first copy put in place:
 *              alone, no users, not listed, no disk until it has one
 *     alone    a change of name or existence has it: new users wait, the old ones have ended
 *     users    reads and writes; `writers` of them may have written what is not synced
 *     dirty    may have unsynced bytes: in the journal (invariant 1 of format.h)
 *     syncing  one of the users syncs it; others wait for their turn
 *     unclean  was open at a crash: serves nobody before it is compared; torn: blocks of it that
 *              were being written then do not verify
 *     damaged  blocks that nobody was writing do not verify, or it cannot be read; lost: because
 *              its disk has failed, and so nobody can use it
 *     in_doubt has a write that not every member may have: no reads before a raise
 *     lossy    unsynced bytes of it may be gone (format.h); told: the raise that told the master,
 *              0: none yet
 *
 * Only `alone` of a change that has ended, and `users` of the last one, lead to the entry's end. */
struct replica {
	uint64_t chunk;
	uint32_t version;
	struct disk *disk; /* NULL: making */
	struct chunk_file file; /* fd -1: not open */
	bool making;
	bool twice; /* at the start another disk had a file of the same version, too */
	bool unclean, torn, damaged, lost, in_doubt, lossy;
	uint32_t told;
	bool io_error; /* counted against its disk already */
	bool alone;
	unsigned users;
	unsigned writers; /* those between will_write and did_write */
	bool dirty, journaled, syncing;
	bool name_dirty; /* its directory entry is not synced */
	uint64_t writes; /* counted, to see whether one came during a sync */
	uint64_t changed; /* store.changes at the last write, raise or copy */
	uint64_t raised;  /* the same, at the last raise or copy */
	struct range *ranges;
	struct recent *recent; /* ring of RECENT_MAX; NULL: none yet */
	unsigned n_recent;     /* ever remembered of the present content */
	UT_hash_handle hh;
};

/* A chunk that was deleted lately, so that a late first write does not make it again. */
enum { DELETED_MAX = 4096, DELETED_KEPT_MS = 600000 };
struct deleted {
	uint64_t chunk;
	uint32_t version; /* the highest that is not made again */
	int64_t until_ms;
};

struct store {
	struct store_options o;
	struct disk *disks;
	size_t n_disks; /* failed ones included */
	pthread_mutex_t lock; /* protects all below and the replicas' fields */
	pthread_cond_t changed;
	struct replica *replicas;
	unsigned open_files;
	struct deleted deleted[DELETED_MAX]; /* by id modulo its size: the newest is kept */
	uint64_t copies;  /* counts the copies begun: each has a path of its own */
	uint64_t changes; /* counts changes of content: tells what came after what */
};

/* The file and the directory of a chunk or replica; ret has PATH_ROOM bytes. */
void chunk_path(const struct disk *disk, uint64_t chunk, uint32_t version, char *ret);
void chunk_dir(const struct disk *disk, uint64_t chunk, char *ret);
void replica_path(const struct replica *r, uint32_t version, char *ret);
void replica_dir(const struct replica *r, char *ret);
/* The lock is held for all that follow, or nobody else has the store yet. */
struct replica *replica_find(struct store *s, uint64_t chunk);
struct replica *replica_add(struct store *s, uint64_t chunk, uint32_t version, struct disk *disk);
/* An entry for a replica that is to be made; NULL: out of memory. */
struct replica *replica_reserve(struct store *s, uint64_t chunk, uint32_t version);
/* Ends an entry that the caller has alone. */
void replica_forget(struct store *s, struct replica *r);
bool replica_valid(const struct replica *r);
int replica_open(struct store *s, struct replica *r, struct err *err);
void replica_close(struct store *s, struct replica *r);
/* What it lost is in the master's books. */
static inline void replica_loss_known(struct replica *r)
{
	r->lossy = false;
	r->told = 0;
}
void replica_text(const struct replica *r, struct wire_have *ret);
/* Finds the replica and waits until nobody has it alone. */
int replica_wait(struct store *s, uint64_t chunk, int64_t deadline_ms, struct replica **ret);
/* Waits on the condition until the deadline: false when it has passed. */
bool wait_changed(struct store *s, int64_t deadline_ms);
/* Has it alone: waits for local work to end. ERR_NO_CHUNK, ERR_CHUNK_PENDING after the deadline. */
int replica_take_alone(struct store *s, uint64_t chunk, int64_t deadline_ms, struct replica **ret);
void replica_let_go(struct store *s, struct replica *r);
/* Writers of the old version are fenced: their uncommitted ranges end. */
void replica_end_ranges(struct replica *r);
/* Whether a copy for `version`, ordered at the moment `begun`, is older than what is here: it must
 * not undo what was written, raised or copied since. */
bool replica_is_newer(const struct replica *r, uint32_t version, uint64_t begun);
/* It has become a copy of another one, at this version: what was known of its content is void. */
void replica_is_copy(struct store *s, struct replica *r, uint32_t version, bool lossy);

/* Something failed on a disk, or on a replica's: decides whether the disk is failed (disk.h). code
 * may be 0. Lock held. */
void disk_error(struct store *s, struct disk *disk, int code, const char *what, bool at_once);
void replica_error(struct store *s, struct replica *r, int code);

/* The disk to put `bytes` more on; NULL: none has room. Without the lock. */
struct disk *disk_with_most_room(struct store *s, uint64_t bytes);
/* The kernel may drop what it could not write: the replica, which the caller uses or has alone, is not
 * used before it is compared, and the journal says so to a process that follows this one. Without the
 * lock. */
void replica_sync_failed(struct store *s, struct replica *r, int code);
/* After a rename of its file: where that fails, nothing that the disk says it has can be relied on, and
 * the sync has failed (replica_sync_failed). Without the lock. */
int replica_sync_name(struct store *s, struct replica *r, struct err *err);
/* Begins a disk's journal anew with what is still dirty there. Without the lock. */
int disk_begin(struct store *s, struct disk *disk, bool clean, struct err *err);

#endif
