#include "master/tokens.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

static int key_make(struct token_made *ret, int64_t now_ms)
{
	uint8_t number[8];

	if (RAND_bytes(ret->key.secret, sizeof(ret->key.secret)) != 1 ||
	    RAND_bytes(number, sizeof(number)) != 1)
		return ERR_IO;
	ret->key.number = get_le64(number);
	ret->made_ms = now_ms;
	return 0;
}

int tokens_init(struct token_ring *ring, int64_t life_ms, int64_t now_ms)
{
	*ring = (struct token_ring){.life_ms = life_ms};
	/* The first one was never the next. */
	if (key_make(&ring->keys[0], now_ms - life_ms) < 0 || key_make(&ring->keys[1], now_ms) < 0)
		return ERR_IO;
	ring->n = 2;
	return 0;
}

void tokens_clear(struct token_ring *ring)
{
	OPENSSL_cleanse(ring, sizeof(*ring));
}

int tokens_tick(struct token_ring *ring, int64_t now_ms)
{
	struct token_made *next = &ring->keys[ring->n - 1], made;

	if (ring->n == 0 || now_ms - next->made_ms < ring->life_ms)
		return 0;
	if (key_make(&made, now_ms) < 0)
		return ERR_IO;
	if (ring->n == WIRE_TOKEN_KEYS_MAX)
		memmove(&ring->keys[0], &ring->keys[1], --ring->n * sizeof(made));
	ring->keys[ring->n++] = made;
	ring->current = ring->n - 2;
	OPENSSL_cleanse(&made, sizeof(made));
	return 0;
}

uint16_t tokens_keys(const struct token_ring *ring, int64_t now_ms, struct wire_token_key *ret)
{
	for (unsigned i = 0; i < ring->n; i++)
		ret[i] = (struct wire_token_key){
			.number = ring->keys[i].key.number,
			.age_ms = (uint64_t)(now_ms - ring->keys[i].made_ms),
			.secret = slice_of(ring->keys[i].key.secret, TOKEN_SECRET_BYTES)};
	return (uint16_t)ring->n;
}

const struct token_key *tokens_current(const struct token_ring *ring)
{
	return ring->n > 0 ? &ring->keys[ring->current].key : NULL;
}

uint32_t tokens_seal(const struct token_ring *ring, struct token *t, struct slice holder,
		     int64_t now_ms, uint8_t *ret)
{
	if (ring->n == 0)
		return 0;
	t->expires_ms = (uint32_t)(now_ms - ring->keys[ring->current].made_ms + ring->life_ms);
	return token_seal(&ring->keys[ring->current].key, t, holder, ret);
}
