/* Becoming a copy of another server's replica. */
#ifndef CAIRN_CHUNKSERVER_PULL_H
#define CAIRN_CHUNKSERVER_PULL_H

#include "chunkserver/store.h"
#include "common/auth.h"

/* Builds the copy beside what is here (blocks of it that verify and have the source's checksum are
 * taken over, the others are fetched), syncs it, and puts it in its place (invariant 5). */
int pull_chunk(struct store *s, const struct auth_key *key, const char *name,
	       const struct wire_chunk_pull *req, struct wire_chunk_state *ret, struct err *err);

#endif
