/* The seed of a random test: SEED in the environment, else the time. Printed, so that what failed can
 * be run again; .ci/run sets it, so that its runs try the same. */
#ifndef CAIRN_TESTS_LIB_SEED_H
#define CAIRN_TESTS_LIB_SEED_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline uint64_t test_seed(void)
{
	const char *given = getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);

	printf("seed %llu\n", (unsigned long long)seed);
	return seed;
}

#endif
