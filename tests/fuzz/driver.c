/* Runs a fuzz target without libFuzzer: `TARGET [RUNS]` (SEED in the environment), or
 * `TARGET --seeds DIR` to write its seeds as a corpus. Each run takes a seed input, changes a few bytes, cuts or doubles it, and
 * hands an exactly sized heap copy to the target, so that AddressSanitizer sees every overrun. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/seed.h"

static uint64_t rng_state;

static uint64_t rng(void)
{
	/* splitmix64 (Steele, Lea, Flood 2014): the same stream on every machine. */
	uint64_t z = rng_state += 0x9e3779b97f4a7c15ULL;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static void mutate(struct buf *b)
{
	static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff};
	unsigned n = (unsigned)(rng() % 8);

	for (unsigned i = 0; i < n && b->len > 0; i++) {
		size_t at = rng() % b->len;
		switch (rng() % 4) {
		case 0:
			b->data[at] ^= (uint8_t)(1 << rng() % 8);
			break;
		case 1:
			b->data[at] = edges[rng() % sizeof(edges)];
			break;
		case 2:
			b->data[at] = (uint8_t)rng();
			break;
		default:
			if (b->len - at >= 4)
				memset(b->data + at, edges[rng() % sizeof(edges)], 4);
		}
	}
	if (rng() % 4 == 0 && b->len > 0)
		b->len = rng() % (b->len + 1);
	else if (rng() % 16 == 0 && b->len > 0 && b->len < 65536 && buf_reserve(b, b->len) == 0)
		buf_append(b, b->data, b->len);
}

static void run_one(const struct buf *b)
{
	_cleanup_free_ uint8_t *copy = malloc(b->len ? b->len : 1);
	if (!copy)
		abort();
	memcpy(copy, b->data ? b->data : (const uint8_t *)"", b->len);
	LLVMFuzzerTestOneInput(copy, b->len);
}

static int write_seeds(const char *dir)
{
	for (unsigned i = 0;; i++) {
		_cleanup_buf_ struct buf b = {0};
		char path[4096];
		FILE *f;
		if (!fuzz_seed(i, &b))
			return 0;
		snprintf(path, sizeof(path), "%s/seed-%03u", dir, i);
		f = fopen(path, "we");
		if (!f || fwrite(b.data, 1, b.len, f) != b.len || fclose(f) != 0)
			return 1;
	}
}

int main(int argc, char **argv)
{
	unsigned long runs = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000;
	unsigned seeds = 0;

	if (argc > 2 && strcmp(argv[1], "--seeds") == 0)
		return write_seeds(argv[2]);
	rng_state = test_seed();
	printf("%s: %lu runs\n", argv[0], runs);
	for (;; seeds++) {
		_cleanup_buf_ struct buf b = {0};
		if (!fuzz_seed(seeds, &b))
			break;
		run_one(&b);
	}
	for (unsigned long i = 0; i < runs; i++) {
		_cleanup_buf_ struct buf b = {0};
		if (seeds > 0)
			fuzz_seed((unsigned)(rng() % seeds), &b);
		mutate(&b);
		run_one(&b);
	}
	printf("%s: %lu runs, no crash\n", argv[0], runs + seeds);
	return 0;
}
