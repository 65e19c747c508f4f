/* Reading blocks of another server's replica. */
#ifndef CAIRN_CHUNKSERVER_FETCH_H
#define CAIRN_CHUNKSERVER_FETCH_H

#include "common/conn.h"

/* Exactly req->len bytes into data, and into sums (NULL: not wanted) their checksums as the other
 * one has them: the caller verifies. A shorter replica is ERR_CHECKSUM. */
int fetch_blocks(struct conn *from, const struct wire_read *req, uint8_t *data, uint8_t *sums,
		 int64_t deadline_ms, struct err *err);
/* The same, but what lies behind the replica's end is zeros. */
int fetch_padded(struct conn *from, const struct wire_read *req, uint8_t *data, uint8_t *sums,
		 int64_t deadline_ms, struct err *err);

#endif
