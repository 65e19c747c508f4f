/* Sending along a chunk's chain: writes and syncs, and what follows a failure. */
#ifndef CAIRN_CLIENT_CHUNK_WRITE_H
#define CAIRN_CLIENT_CHUNK_WRITE_H

#include "client/client.h"
#include "client/wait.h"

enum {
	WRITE_WINDOW = 8, /* pieces in flight on one connection */
};

/* ---- what follows a failure, for write.c and sync.c ---- */

/* Of one operation on one chunk. Zero-initialise, then chain_faults_init. */
struct chain_faults {
	struct backoff pause;
	int64_t give_up_ms;
	uint64_t id; /* the chunk and version that the counters are about */
	uint32_t version;
	unsigned soft, checksums;
};

void chain_faults_init(struct chain_faults *f, int64_t deadline_ms);
/* `code`, said by (or found on) `server` of loc, ended an attempt. 0: the place is to be asked for
 * anew and the attempt repeated; negative: the operation fails with it. */
int chain_failed(struct cairn *fs, struct chain_faults *f, const struct location *loc, int code,
		 uint32_t server, struct err *err);

/* ---- messages ---- */

/* Receives the answer of a WRITE or SYNC with this id. *ret_server: the server that failed (the
 * head when the answer names none). */
int chain_ack(struct conn *conn, uint16_t op, uint64_t id, const struct location *loc,
	      struct buf *fields, int64_t deadline_ms, uint32_t *ret_server, struct err *err);

/* Bytes for one chunk. */
struct chunk_part {
	uint32_t offset, len; /* in the chunk */
	const uint8_t *data;
};

/* Writes n parts of the chunk at `index`, which do not overlap, through whatever failures the servers
 * have, until every replica has them or the deadline. *ret_loc: where it is now; *ret_since: see
 * client/inode.h. The chunk is marked dirty. sync: who calls syncs it next; if all fits into one message
 * the servers do so before they answer, and it is not marked. Only between lease_write_begin and
 * lease_write_end. */
int chunk_write(struct cairn *fs, struct inode *inode, uint64_t index,
		const struct chunk_part *parts, unsigned n, bool sync, struct location *ret_loc,
		uint64_t *ret_since, int64_t deadline_ms, struct err *err);

/* Where bytes are copied from: they begin at `offset` of the chunk. */
struct copy_source {
	struct location loc;
	uint32_t offset;
};
/* As chunk_write, but the chunk's head gets the bytes from the source's servers. ERR_SOURCE: it cannot;
 * any part of the range may have been written all the same. */
int chunk_copy(struct cairn *fs, struct inode *inode, uint64_t index, uint32_t offset, uint32_t len,
	       const struct copy_source *from, struct location *ret_loc, uint64_t *ret_since,
	       int64_t deadline_ms, struct err *err);

#endif
