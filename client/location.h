/* Where one chunk of a file is: an owned copy of a wire_chunk. */
#ifndef CAIRN_CLIENT_LOCATION_H
#define CAIRN_CLIENT_LOCATION_H

#include "common/wire.h"

struct location_replica {
	uint32_t server;
	uint8_t part;
	char addr[ADDR_BYTES_MAX];
};

struct location {
	uint64_t index;
	uint64_t id; /* 0: a hole */
	uint32_t version;
	uint32_t settled; /* as in wire_chunk */
	uint8_t flags; /* CHUNK_WRITTEN */
	uint8_t token_len;
	uint8_t token[TOKEN_BYTES_MAX];
	unsigned n_replicas; /* in chain order; replicas without an address are left out */
	struct location_replica replicas[REPLICAS_MAX];
};

/* ERR_PROTOCOL when an address or the token is too long. */
int location_from_wire(struct location *ret, const struct wire_chunk *chunk, struct err *err);
/* The replicas after the first one, as a message wants them: slices into loc. */
uint16_t location_chain(const struct location *loc, struct wire_replica *ret);
/* Address of a server of this chunk; "?" when it is none. */
const char *location_addr(const struct location *loc, uint32_t server);

static inline struct slice location_token(const struct location *loc)
{
	return slice_of(loc->token, loc->token_len);
}

/* The same bytes: nobody freed, replaced or cut the chunk between the two. */
static inline bool location_same(const struct location *a, const struct location *b)
{
	return a->id == b->id && a->version == b->version;
}

#endif
