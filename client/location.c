#include "client/location.h"

#include <string.h>

int location_from_wire(struct location *ret, const struct wire_chunk *chunk, struct err *err)
{
	if (chunk->token.len > TOKEN_BYTES_MAX)
		return err_set(err, ERR_PROTOCOL, "chunk %llx: token of %u bytes",
			       (unsigned long long)chunk->id, chunk->token.len);
	ret->index = chunk->index;
	ret->id = chunk->id;
	ret->version = chunk->version;
	ret->settled = chunk->settled;
	ret->flags = chunk->flags;
	ret->token_len = (uint8_t)chunk->token.len;
	if (chunk->token.len > 0)
		memcpy(ret->token, chunk->token.data, chunk->token.len);
	ret->n_replicas = 0;
	for (unsigned i = 0; i < chunk->n_replicas; i++) {
		const struct wire_replica *from = &chunk->replicas[i];
		struct location_replica *to = &ret->replicas[ret->n_replicas];
		if (from->addr.len >= ADDR_BYTES_MAX)
			return err_set(err, ERR_PROTOCOL, "chunk %llx: address of %u bytes",
				       (unsigned long long)chunk->id, from->addr.len);
		if (from->addr.len == 0)
			continue; /* the master does not know where that server is now */
		to->server = from->server;
		to->part = from->part;
		memcpy(to->addr, from->addr.data, from->addr.len);
		to->addr[from->addr.len] = '\0';
		ret->n_replicas++;
	}
	return 0;
}

uint16_t location_chain(const struct location *loc, struct wire_replica *ret)
{
	uint16_t n = 0;

	for (unsigned i = 1; i < loc->n_replicas; i++)
		ret[n++] = (struct wire_replica){.server = loc->replicas[i].server,
						 .part = loc->replicas[i].part,
						 .addr = slice_str(loc->replicas[i].addr)};
	return n;
}

const char *location_addr(const struct location *loc, uint32_t server)
{
	for (unsigned i = 0; i < loc->n_replicas; i++)
		if (loc->replicas[i].server == server)
			return loc->replicas[i].addr;
	return "?";
}
