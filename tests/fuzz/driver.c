/* Runs a fuzz target without libFuzzer: `TARGET [RUNS]` (SEED in the environment), or
 * `TARGET --seeds DIR` to write its seeds as a corpus. All seeds are run as they are, and what is kept of
 * libFuzzer's runs: $FUZZ_CORPUS/TARGET.hex, an input on each line. Each further run takes one of them,
 * changes a few bytes, cuts or doubles it, and hands an exactly sized heap copy to the target, so that
 * AddressSanitizer sees every overrun. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/seed.h"

enum { KEPT_MAX = 1000 };

static uint64_t rng_state;
static struct buf kept[KEPT_MAX];
static unsigned n_seeds, n_kept;

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

static bool hex_get(const char *line, ssize_t n, struct buf *ret)
{
	for (ssize_t i = 0; i + 1 < n; i += 2) {
		unsigned byte;
		if (sscanf(line + i, "%2x", &byte) != 1)
			return false;
		buf_u8(ret, (uint8_t)byte);
	}
	return n % 2 == 0 && buf_status(ret) == 0;
}

/* False, and told, when what is kept is damaged. A target may have nothing. */
static bool kept_load(const char *program)
{
	const char *dir = getenv("FUZZ_CORPUS"), *name = strrchr(program, '/');
	_cleanup_free_ char *line = NULL;
	size_t room = 0;
	char path[4096];
	bool good = true;
	ssize_t n;
	FILE *f;

	if (!dir)
		return true;
	snprintf(path, sizeof(path), "%s/%s.hex", dir, name ? name + 1 : program);
	f = fopen(path, "re");
	if (!f)
		return errno == ENOENT;
	while (good && (n = getline(&line, &room, f)) > 0)
		good = n_kept < KEPT_MAX && hex_get(line, n - (line[n - 1] == '\n'), &kept[n_kept++]);
	if (!good)
		fprintf(stderr, "%s: line %u is no input, or one too many\n", path, n_kept);
	fclose(f);
	return good;
}

/* Input i of the seeds and of what is kept. */
static void input(unsigned i, struct buf *b)
{
	if (i < n_seeds)
		fuzz_seed(i, b);
	else
		buf_append(b, kept[i - n_seeds].data, kept[i - n_seeds].len);
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
	unsigned n;

	if (argc > 2 && strcmp(argv[1], "--seeds") == 0)
		return write_seeds(argv[2]);
	rng_state = test_seed();
	if (!kept_load(argv[0]))
		return 1;
	for (bool more = true; more; n_seeds += more) {
		_cleanup_buf_ struct buf b = {0};
		more = fuzz_seed(n_seeds, &b);
	}
	n = n_seeds + n_kept;
	printf("%s: %u inputs, %lu runs\n", argv[0], n, runs);
	for (unsigned i = 0; i < n; i++) {
		_cleanup_buf_ struct buf b = {0};
		input(i, &b);
		run_one(&b);
	}
	for (unsigned long i = 0; i < runs; i++) {
		_cleanup_buf_ struct buf b = {0};
		if (n > 0)
			input((unsigned)(rng() % n), &b);
		mutate(&b);
		run_one(&b);
	}
	printf("%s: %lu runs, no crash\n", argv[0], runs + n);
	for (unsigned i = 0; i < n_kept; i++)
		buf_release(&kept[i]);
	return 0;
}
