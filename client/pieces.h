/* How a range of a chunk is cut into messages. Pure. */
#ifndef CAIRN_CLIENT_PIECES_H
#define CAIRN_CLIENT_PIECES_H

#include <stddef.h>
#include <stdint.h>

#include "common/limits.h"

/* Pieces end at multiples of DATA_BYTES_MAX of the chunk, so that only the first and the last
 * one of a range can begin or end inside a block. */
enum { PIECES_MAX = (1 << CHUNK_BITS_MAX) / DATA_BYTES_MAX };

struct piece {
	uint32_t offset; /* in the chunk */
	uint32_t len;
	size_t at; /* of its first byte in the caller's range */
};

/* Cuts [offset, offset+len) of a chunk; returns how many (at most PIECES_MAX). offset + len must
 * not be above 1 << CHUNK_BITS_MAX. */
unsigned pieces_split(struct piece ret[PIECES_MAX], uint32_t offset, uint32_t len);

/* The part of a file's range that lies in one chunk. */
struct span {
	uint64_t index;	 /* of the chunk in the file */
	uint32_t offset; /* in the chunk */
	uint32_t len;
};

/* The first part of [offset, offset+bytes) of a file with chunks of 1 << chunk_bits. */
struct span span_first(uint64_t offset, uint64_t bytes, unsigned chunk_bits);

#endif
