/* The inside of the store, shared by its files: store.c (the table, and use), store_open.c (start,
 * recovery, end), store_sync.c (durability), store_change.c (changes of name or existence). */
#ifndef CAIRN_CHUNKSERVER_STORE_PRIV_H
#define CAIRN_CHUNKSERVER_STORE_PRIV_H

#include <pthread.h>

#include "chunkserver/disk.h"
#include "chunkserver/store.h"

enum { OPEN_FILES_MAX = 512, PATH_ROOM = 4096 };

struct replica {
	uint64_t chunk;
	uint32_t version;
	struct disk *disk;
	struct chunk_file file; /* fd -1: not open */
	bool unclean; /* was open at a crash: serves nobody before it is compared */
	bool torn;    /* unclean, and blocks that were being written then do not verify */
	bool damaged; /* blocks do not verify that nobody was writing, or it cannot be read */
	bool in_doubt;
	bool alone;	  /* a raise, delete or install has it */
	unsigned users;	  /* local reads and writes */
	unsigned writers; /* those between will_write and did_write */
	bool dirty;	  /* has unsynced bytes, and is in the journal */
	bool journaled;
	bool name_dirty; /* its directory entry is not synced */
	uint64_t writes; /* counted, to see whether one came during a sync */
	struct range *ranges;
	UT_hash_handle hh;
};

struct store {
	struct store_options o;
	struct disk *disks;
	size_t n_disks;
	pthread_mutex_t lock; /* protects all below and the replicas' fields */
	pthread_cond_t changed;
	struct replica *replicas;
	unsigned open_files;
};

/* The file and the directory of a replica; ret has PATH_ROOM bytes. */
void replica_path(const struct replica *r, uint32_t version, char *ret);
void replica_dir(const struct replica *r, char *ret);
/* The lock is held for all that follow, or nobody else has the store yet. */
struct replica *replica_find(struct store *s, uint64_t chunk);
struct replica *replica_add(struct store *s, uint64_t chunk, uint32_t version, struct disk *disk);
int replica_open(struct store *s, struct replica *r, struct err *err);
void replica_close(struct store *s, struct replica *r);
void replica_text(const struct replica *r, struct wire_have *ret);
/* Finds the replica and waits until nobody has it alone. */
int replica_wait(struct store *s, uint64_t chunk, int64_t deadline_ms, struct replica **ret);
/* Waits on the condition until the deadline: false when it has passed. */
bool wait_changed(struct store *s, int64_t deadline_ms);

/* The disk to put `bytes` more on; NULL: none has room. Without the lock. */
struct disk *disk_with_most_room(struct store *s, uint64_t bytes);
/* Begins a disk's journal anew with what is still dirty there. Without the lock. */
int disk_begin(struct store *s, struct disk *disk, bool clean, struct err *err);

#endif
