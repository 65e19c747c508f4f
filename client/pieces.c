#include "client/pieces.h"

#include <assert.h>

static_assert(1 << CHUNK_BITS_MIN <= DATA_BYTES_MAX, "small chunks are one piece");

unsigned pieces_split(struct piece ret[PIECES_MAX], uint32_t offset, uint32_t len)
{
	size_t at = 0;
	unsigned n = 0;

	assert((uint64_t)offset + len <= 1ULL << CHUNK_BITS_MAX);
	while (len > 0) {
		uint32_t room = DATA_BYTES_MAX - offset % DATA_BYTES_MAX;
		uint32_t part = len < room ? len : room;
		ret[n++] = (struct piece){.offset = offset, .len = part, .at = at};
		offset += part;
		len -= part;
		at += part;
	}
	return n;
}

struct span span_first(uint64_t offset, uint64_t bytes, unsigned chunk_bits)
{
	uint64_t chunk_bytes = 1ULL << chunk_bits;
	uint64_t in_chunk = offset % chunk_bytes, room = chunk_bytes - in_chunk;

	assert(chunk_bits <= CHUNK_BITS_MAX);
	return (struct span){.index = offset >> chunk_bits, .offset = (uint32_t)in_chunk,
			     .len = (uint32_t)(bytes < room ? bytes : room)};
}
