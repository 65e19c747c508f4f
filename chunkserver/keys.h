/* The keys of access tokens that this server was told by its masters (master/tokens.h). Those of a
 * master that is gone stay until newer ones take their places: what it signed is good until it runs
 * out. In memory only. Any thread. */
#ifndef CAIRN_CHUNKSERVER_KEYS_H
#define CAIRN_CHUNKSERVER_KEYS_H

#include <pthread.h>

#include "common/token.h"
#include "common/wire.h"

enum { KEYS_MAX = 16 };

struct keys {
	pthread_mutex_t lock; /* protects all below */
	struct known_key { struct token_key key; int64_t made_ms; } list[KEYS_MAX];
	unsigned n, next; /* next: whose place the next one takes when all are taken */
};

void keys_init(struct keys *k);
void keys_release(struct keys *k);
/* What a master told at now_ms, of clock_ms(). */
void keys_take(struct keys *k, const struct wire_token_key *told, unsigned n, int64_t now_ms);
/* False: it is not known here. */
bool keys_find(struct keys *k, uint64_t number, struct known_key *ret);

#endif
