/* CHUNK_RAISE, with the help of the other members where blocks were torn by a crash. */
#ifndef CAIRN_CHUNKSERVER_RAISE_H
#define CAIRN_CHUNKSERVER_RAISE_H

#include "chunkserver/store.h"
#include "common/cred.h"

int raise_chunk(struct store *s, const struct cred *cred,
		const struct wire_chunk_raise *req, struct wire_chunk_state *ret, struct err *err);

#endif
