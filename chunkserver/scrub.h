/* The scrubber: reads every block of every replica within a period, at idle I/O priority, and
 * reports what does not verify.
 *
 * A thread of its own goes through the replicas in the order of their ids, spreading the reads over
 * the period. Where it is is kept in DIR/scrub of the first good disk, so that a restart goes on
 * there. Reads go past the page cache where the file system can: what is on the disk is checked,
 * and nothing is driven out of memory. A replica that is being written or changed is come back to
 * at the end of the round; one that is known to be damaged is not read again. */
#ifndef CAIRN_CHUNKSERVER_SCRUB_H
#define CAIRN_CHUNKSERVER_SCRUB_H

#include "chunkserver/store.h"

struct scrub;

/* Errors: out of memory or threads. */
int scrub_start(struct store *s, int64_t period_ms, struct scrub **ret, struct err *err);
void scrub_stop(struct scrub *x);
/* Any thread. */
void scrub_progress(struct scrub *x, struct wire_scrub *ret);

enum scrub_result {
	SCRUB_GOOD,
	SCRUB_BAD,  /* and it was reported */
	SCRUB_BUSY, /* being changed: to be looked at again */
	SCRUB_GONE,
};
/* Reads one replica. pause (NULL: none) is called between its parts, with how much of it is done;
 * false stops. For the thread, and for tests. */
enum scrub_result scrub_chunk(struct store *s, uint64_t chunk, uint32_t version,
			      bool (*pause)(void *arg, uint32_t done, uint32_t blocks), void *arg);

#endif
