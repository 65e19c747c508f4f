/* The keys that access tokens (common/token.h) are signed with, and signing. A key lives for three
 * lives of a token: it is handed to the chunkservers as the next one, then it signs, then what it
 * signed runs out:
 *
 *     state      handed out   signs   until
 *     next       yes          no      a life after it was made
 *     current    yes          yes     another life
 *     previous   yes          no      another life: the last token that it signed has run out
 *
 * Keys are this process's own, random, and never stored: a new master, or one that was started again,
 * makes its own, and a server is not up before it has registered and so got them. What the old master
 * signed is good until it runs out, for the servers keep its keys; a server that has not got them
 * any more refuses it, and the client asks anew. So the state, the log and backups hold no secret.
 *
 * Belongs to the loop thread. now_ms: of clock_ms(), or a test's own.
 */
#ifndef CAIRN_MASTER_TOKENS_H
#define CAIRN_MASTER_TOKENS_H

#include "common/err.h"
#include "common/token.h"
#include "common/wire.h"

struct token_ring {
	struct token_made { struct token_key key; int64_t made_ms; } keys[WIRE_TOKEN_KEYS_MAX];
	unsigned n, current; /* oldest first; keys[current] signs, and the last one is the next */
	int64_t life_ms;
};

/* ERR_IO: no random bytes. */
int tokens_init(struct token_ring *ring, int64_t life_ms, int64_t now_ms);
void tokens_clear(struct token_ring *ring);
/* Time has passed. ERR_IO: a key is due and there are no random bytes; the old one goes on. */
int tokens_tick(struct token_ring *ring, int64_t now_ms);
/* Those that chunkservers should know: slices into the ring. */
uint16_t tokens_keys(const struct token_ring *ring, int64_t now_ms, struct wire_token_key *ret);
/* The key that signs now; NULL before tokens_init. */
const struct token_key *tokens_current(const struct token_ring *ring);
/* A token of the current key, good for a life from now. 0: none could be made. */
uint32_t tokens_seal(const struct token_ring *ring, struct token *t, struct slice holder,
		     int64_t now_ms, uint8_t *ret);

#endif
