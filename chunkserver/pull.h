/* Becoming a copy of another server's replica. */
#ifndef CAIRN_CHUNKSERVER_PULL_H
#define CAIRN_CHUNKSERVER_PULL_H

#include "chunkserver/store.h"
#include "common/cred.h"

/* Blocks of what is here that verify and have the source's checksum stay, the others are fetched. Few
 * of them are put into the own replica (store_patch_begin); else a copy is built beside it, synced, and
 * put in its place (invariant 5). begun: store_moment() when the command came. ERR_CHUNK_VERSION:
 * what is here is newer, or was changed since at the version that it is to have. */
int pull_chunk(struct store *s, const struct cred *cred,
	       const struct wire_chunk_pull *req, uint64_t begun, struct wire_chunk_state *ret,
	       struct err *err);

#endif
