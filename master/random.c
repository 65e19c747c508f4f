/* Random numbers for placement: apart, so that tests can put others in their place. */
#include "master/master.h"

uint64_t random_u64(void *arg)
{
	uint64_t v = 0;
	/* uv_random without a callback is synchronous and does not fail on Linux. */
	uv_random(NULL, NULL, &v, sizeof(v), 0, NULL);
	return v;
}
