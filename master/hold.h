/* Hold: a restored state deletes nothing that it does not know, and takes over what is newer.
 *
 * After an import (master/offline.h) the servers have more than the state: chunks of files made
 * since the backup, and newer versions of chunks that it knows. While meta.held:
 *
 *  - No replica that is reported becomes garbage. Those of unknown chunks, and those newer than a
 *    chunk that was changed since the import, are kept and counted.
 *  - A chunk that was not changed since (CHUNK_RESTORED) takes over the highest version that the
 *    servers have (CHUNK_ADOPT): its members are then the servers that reported it, of which the
 *    others are compared with the first.
 *  - Which is the highest is known only when every server has reported. Until dead_after after the
 *    start, and until no server is reporting, the master is not open: clients are answered
 *    ERR_NOT_LEADER and ask again, nothing is raised or repaired. A server that comes later is
 *    adopted from all the same, as long as the chunk was not changed.
 *
 * Sizes of files are those of the backup: data behind the end is on the servers and not shown.
 *
 * The administrator ends it (`cairn hold off`). Replicas of chunks that the state does not know are
 * then deleted after garbage_grace. Loop thread. */
#ifndef CAIRN_MASTER_HOLD_H
#define CAIRN_MASTER_HOLD_H

#include <uthash.h>

#include "master/schema.h"

struct master;
struct cs;

/* Replicas of one chunk that the state does not know: of the highest version reported. */
struct kept {
	uint64_t chunk;
	uint32_t version;
	bool adopt;    /* newer than a chunk that may take it over */
	bool proposed; /* CHUNK_ADOPT is under way */
	unsigned n;
	uint32_t servers[REPLICAS_MAX];
	uint8_t marks[REPLICAS_MAX]; /* what was reported against each */
	struct kept *next_due;
	UT_hash_handle hh;
};

struct hold {
	bool on;   /* meta.held */
	bool open; /* clients may be served: what can be adopted at the start has been */
	unsigned adopting;
	struct kept *kept;
	struct kept *due; /* to be adopted: linked by next_due */
	bool overflow; /* there were more than could be remembered */
	int64_t again_until_ms; /* ... so servers were asked again, and are given until then */
};

/* The state is there, servers are not yet. */
int hold_start(struct master *m);
/* Not held, or open. */
bool hold_open(const struct master *m);
void hold_tick(struct master *m);
/* A reported replica: true when it was taken care of here and nothing else shall be made of it. row
 * NULL: there is no such chunk. marks: what the report says against it. */
bool hold_report(struct master *m, struct cs *cs, const struct wire_have *have, uint8_t marks,
		 const struct row_chunk *row);
/* meta.held has changed: see OP_HOLD. */
void hold_changed(struct master *m);
/* Replicas and chunks that are kept: at least so many. */
void hold_count(const struct master *m, uint64_t *ret_replicas, uint64_t *ret_chunks);
void hold_free(struct master *m);

#endif
