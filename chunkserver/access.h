/* Who may do what with a chunk: a client shows a token of the master (common/token.h); other
 * chunkservers are believed by their role, for what they do a client has asked their like with a token.
 *
 * An access belongs to one connection and remembers the tokens that it has seen last, and the members
 * that they name: a signature is computed once for each of them.
 */
#ifndef CAIRN_CHUNKSERVER_ACCESS_H
#define CAIRN_CHUNKSERVER_ACCESS_H

#include "chunkserver/keys.h"
#include "common/err.h"

enum { ACCESS_TOKENS = 64, ACCESS_MEMBERS = 16 };

struct access {
	struct keys *keys;   /* not owned */
	struct slice holder; /* the name in the peer's certificate; lives as long as the connection */
	struct access_token {
		uint8_t bytes[TOKEN_BYTES_MAX];
		uint8_t len; /* 0: none */
		struct token t;
		int64_t until_ms;
	} tokens[ACCESS_TOKENS]; /* by chunk */
	struct access_member {
		uint64_t key;
		uint32_t server;
		char addr[ADDR_BYTES_MAX];
		uint8_t tag[TOKEN_TAG_BYTES];
	} members[ACCESS_MEMBERS];
	unsigned next_member;
	bool ran_out; /* that is all that was wrong when a request was refused last */
};

/* What a request wants to do. */
struct access_wish {
	struct slice token;
	uint64_t chunk;
	uint32_t version;
	uint8_t rights;	  /* any of these will do */
	uint64_t session; /* that it says it is of; 0: of none */
	/* The servers that it makes us connect to: all members. */
	const struct wire_replica *servers;
	unsigned n_servers;
};

/* Whether the token allows it. ERR_TOKEN, with the reason: it is for something else, of nobody we know,
 * or has run out at now_ms (of clock_ms()). */
int access_check(struct access *a, const struct access_wish *wish, int64_t now_ms, struct err *err);

#endif
