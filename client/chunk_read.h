/* Reading a range of one chunk from whichever replica gives it, verified. */
#ifndef CAIRN_CLIENT_CHUNK_READ_H
#define CAIRN_CLIENT_CHUNK_READ_H

#include "client/client.h"

/* Fills dest with bytes [offset, offset+len) of the chunk; a hole and what lies behind the end of
 * the chunk's file are zeros. loc is where the chunk was; it is brought up to date when no replica
 * serves at that version. 0, or the last replica's failure when none can serve in time, with
 * "read chunk C vV of inode I on HOST:PORT: reason"; dest is undefined then. */
int chunk_read(struct cairn *fs, uint64_t inode, struct location *loc, uint32_t offset,
	       uint32_t len, uint8_t *dest, int64_t deadline_ms, struct err *err);

#endif
