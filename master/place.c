#include "master/place.h"

#include <string.h>

static bool same(const char *a, const char *b)
{
	return a[0] && strcmp(a, b) == 0;
}

unsigned place_closeness(const struct place_server *servers, unsigned n,
			 const struct place_server *candidate)
{
	unsigned worst = 0;

	for (unsigned i = 0; i < n; i++) {
		if (!servers[i].used)
			continue;
		if (same(servers[i].host, candidate->host))
			return 2;
		if (same(servers[i].rack, candidate->rack))
			worst = 1;
	}
	return worst;
}

static uint64_t weight(const struct place_server *s)
{
	/* In MiB, so that the sum over all servers stays far from overflow. */
	return (s->free_bytes >> 20) / (1 + s->load) + 1;
}

/* Sorts candidates: the smaller the better; RANK_NONE: it is none. */
enum { RANK_BUSY = 2, RANK_DOMAIN = 4, RANK_NONE = 1 << 8 };

static unsigned rank(const struct place_server *servers, unsigned n, const struct place_server *s)
{
	if (s->used || s->free_bytes < PLACE_FREE_BYTES_MIN)
		return RANK_NONE;
	return place_closeness(servers, n, s) * RANK_DOMAIN + (s->busy ? RANK_BUSY : 0) + !s->old;
}

static struct place_server *draw(struct place_server *servers, unsigned n, unsigned best,
				 uint64_t pick)
{
	for (unsigned i = 0; i < n; i++) {
		if (rank(servers, n, &servers[i]) != best)
			continue;
		if (pick < weight(&servers[i]))
			return &servers[i];
		pick -= weight(&servers[i]);
	}
	return NULL;
}

unsigned place_choose(struct place_server *servers, unsigned n, unsigned want,
		      uint64_t (*random)(void *arg), void *arg, uint32_t *ret)
{
	unsigned chosen = 0;

	while (chosen < want) {
		unsigned best = RANK_NONE;
		uint64_t sum = 0;
		struct place_server *s;
		for (unsigned i = 0; i < n; i++) {
			unsigned r = rank(servers, n, &servers[i]);
			if (r < best) {
				best = r;
				sum = 0;
			}
			if (r == best)
				sum += weight(&servers[i]);
		}
		if (best == RANK_NONE || (best & RANK_BUSY))
			break;
		s = draw(servers, n, best, random(arg) % sum);
		s->used = true;
		ret[chosen++] = s->id;
	}
	return chosen;
}
