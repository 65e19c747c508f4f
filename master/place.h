/* Where new replicas go. Pure: the random numbers are passed in.
 *
 * Each replica goes to the failure domain used least so far: another rack if there is one, else
 * another host, else another server; among those, one that has an old replica if there is one, else
 * a server is drawn with a probability in proportion to its free space, less the busier it is.
 * Servers without room are no candidates. */
#ifndef CAIRN_MASTER_PLACE_H
#define CAIRN_MASTER_PLACE_H

#include "master/csreg.h"

enum { PLACE_FREE_BYTES_MIN = 1 << 20 };

struct place_server {
	uint32_t id;
	uint64_t free_bytes;
	uint32_t load;
	const char *rack, *host; /* "" when not known: then the server is its own domain */
	bool used;		 /* it has a replica already: counts as domain, is not chosen */
	bool old;		 /* it has an old replica: little is to be copied */
	bool busy;		 /* not now: rather none is chosen than one in a worse domain */
};

/* How close a candidate is to the servers that are `used`: 2 the same host as one of them, 1 the
 * same rack, 0 neither. */
unsigned place_closeness(const struct place_server *servers, unsigned n,
			 const struct place_server *candidate);

/* Chooses up to `want` servers into ret; fewer when there are no more. `random(arg)` gives a
 * uniform 64-bit number. Returns how many. */
unsigned place_choose(struct place_server *servers, unsigned n, unsigned want,
		      uint64_t (*random)(void *arg), void *arg, uint32_t *ret);

#endif
