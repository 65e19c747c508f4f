/* Access tokens: what the master gives a client with the location of a chunk, and what a chunkserver
 * wants to see of a client before it does anything with that chunk.
 *
 *     0  u8  format         TOKEN_FORMAT; another one is refused
 *     1  u8  rights         TOKEN_READ, TOKEN_WRITE
 *     2  u8  members        how many tags follow
 *     3  u8  0
 *     4  u32 version        of the chunk: a token is good for no other
 *     8  u64 key            number of the key that it is signed with
 *    16  u64 chunk
 *    24  u64 session        that it was given to
 *    32  u32 expires_ms     counted from when the key was made
 *    36  TOKEN_TAG_BYTES for each member of the chunk that the client was told of
 *        TOKEN_MAC_BYTES: of HMAC-SHA256(key, all before | the holder's name)
 *
 * A member's tag is a part of HMAC-SHA256(key, "member" | server | address): only who has the key can
 * make one, so a client can make a server connect to the members of its chunk and to nobody else.
 * The holder is the name in the client's certificate ("" with a shared key), which both sides know
 * of their connections: a token is of no use to another client. Keys are made by the master's memory
 * (master/tokens.h) and known to chunkservers (chunkserver/keys.h); they are never stored.
 *
 * Times are those of the key's age, not of a clock that can be set. Pure functions.
 */
#ifndef CAIRN_COMMON_TOKEN_H
#define CAIRN_COMMON_TOKEN_H

#include <stdbool.h>

#include "common/bytes.h"
#include "common/limits.h"

enum {
	TOKEN_FORMAT = 1,
	TOKEN_READ = 1, /* rights */
	TOKEN_WRITE = 2,
	TOKEN_SECRET_BYTES = 32,
	TOKEN_TAG_BYTES = 8,
	TOKEN_MAC_BYTES = 16,
	TOKEN_FIXED_BYTES = 36,
};
static_assert(TOKEN_FIXED_BYTES + REPLICAS_MAX * TOKEN_TAG_BYTES + TOKEN_MAC_BYTES <= TOKEN_BYTES_MAX,
	      "a token of a chunk with all its members");

struct token_key {
	uint64_t number; /* random: keys of different masters are not taken for each other */
	uint8_t secret[TOKEN_SECRET_BYTES];
};

struct token {
	uint8_t rights, n_members;
	uint32_t version, expires_ms;
	uint64_t key, chunk, session;
	uint8_t members[REPLICAS_MAX][TOKEN_TAG_BYTES];
};

/* False: no HMAC could be computed (no memory). */
bool token_tag(const struct token_key *key, uint32_t server, struct slice addr,
	       uint8_t ret[TOKEN_TAG_BYTES]);
/* Signs t with key (t->key is not looked at) for the holder: the token's length in ret, or 0 when no
 * HMAC could be computed. ret: TOKEN_BYTES_MAX. */
uint32_t token_seal(const struct token_key *key, const struct token *t, struct slice holder,
		    uint8_t *ret);
/* What the bytes say, believed or not. False: they are no token. */
bool token_parse(struct slice bytes, struct token *ret);
/* Whether this key made these bytes, which token_parse has taken, for this holder. In constant time. */
bool token_genuine(const struct token_key *key, struct slice bytes, struct slice holder);

#endif
