#include "chunkserver/keys.h"

#include <openssl/crypto.h>

void keys_init(struct keys *k)
{
	*k = (struct keys){.n = 0};
	pthread_mutex_init(&k->lock, NULL);
}

void keys_release(struct keys *k)
{
	pthread_mutex_destroy(&k->lock);
	OPENSSL_cleanse(k, sizeof(*k));
}

static struct known_key *find(struct keys *k, uint64_t number)
{
	for (unsigned i = 0; i < k->n; i++)
		if (k->list[i].key.number == number)
			return &k->list[i];
	return NULL;
}

void keys_take(struct keys *k, const struct wire_token_key *told, unsigned n, int64_t now_ms)
{
	pthread_mutex_lock(&k->lock);
	for (unsigned i = 0; i < n; i++) {
		struct known_key *place;
		if (told[i].secret.len != TOKEN_SECRET_BYTES || find(k, told[i].number))
			continue;
		place = &k->list[k->n < KEYS_MAX ? k->n++ : k->next++ % KEYS_MAX];
		place->key.number = told[i].number;
		place->made_ms = now_ms - (int64_t)told[i].age_ms;
		memcpy(place->key.secret, told[i].secret.data, TOKEN_SECRET_BYTES);
	}
	pthread_mutex_unlock(&k->lock);
}

bool keys_find(struct keys *k, uint64_t number, struct known_key *ret)
{
	const struct known_key *found;

	pthread_mutex_lock(&k->lock);
	found = find(k, number);
	if (found)
		*ret = *found;
	pthread_mutex_unlock(&k->lock);
	return found != NULL;
}
