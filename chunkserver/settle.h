/* Torn blocks: what a crash left of a write. Data and checksum of a block do not change in one
 * step, so after a crash of every replica there may be blocks that verify nowhere. */
#ifndef CAIRN_CHUNKSERVER_SETTLE_H
#define CAIRN_CHUNKSERVER_SETTLE_H

#include "chunkserver/chunk_file.h"

enum { SETTLE_BLOCKS_MAX = 64 };

/* Other replicas of the chunk. fetch: n <= SETTLE_BLOCKS_MAX blocks that all verify on one of them,
 * with their checksums; negative when no other has them so. */
struct settle_source {
	int (*fetch)(void *arg, uint32_t first, uint32_t n, uint8_t *data, uint8_t *sums);
	void *arg;
};

/* Makes every block verify: each that does not is taken from `others` (NULL: none), or else gets
 * the checksum of what it holds: bytes of it that were synced before are what they were. Nobody
 * else uses the file. May be repeated. */
int settle_file(const struct chunk_file *f, const struct settle_source *others, struct err *err);

#endif
