#include "master/place.h"

#include <string.h>

static bool same(const char *a, const char *b)
{
	return a[0] && strcmp(a, b) == 0;
}

/* How close the candidate is to those used: 0 another rack, 1 the same rack, 2 the same host. */
static unsigned closeness(const struct place_server *servers, unsigned n,
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

unsigned place_choose(struct place_server *servers, unsigned n, unsigned want,
		      uint64_t (*random)(void *arg), void *arg, uint32_t *ret)
{
	unsigned chosen = 0;

	while (chosen < want) {
		unsigned best = 3;
		uint64_t sum = 0, pick;
		for (unsigned pass = 0; pass < 2; pass++) {
			for (unsigned i = 0; i < n; i++) {
				unsigned c;
				if (servers[i].used || servers[i].free_bytes < PLACE_FREE_BYTES_MIN)
					continue;
				c = closeness(servers, n, &servers[i]);
				if (pass == 0 && c < best)
					best = c;
				else if (pass == 1 && c == best)
					sum += weight(&servers[i]);
			}
		}
		if (sum == 0)
			break;
		pick = random(arg) % sum;
		for (unsigned i = 0; i < n; i++) {
			if (servers[i].used || servers[i].free_bytes < PLACE_FREE_BYTES_MIN ||
			    closeness(servers, n, &servers[i]) != best)
				continue;
			if (pick < weight(&servers[i])) {
				servers[i].used = true;
				ret[chosen++] = servers[i].id;
				break;
			}
			pick -= weight(&servers[i]);
		}
	}
	return chosen;
}
