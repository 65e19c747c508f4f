/* client/extents.c: ranges that are held back, against a plain array of bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <string.h>

#include "client/extents.h"
#include "tests/lib/seed.h"

enum { UNIT = 64, SPACE = 1000, ROUNDS = 20000 };

static void check(const struct extents *e)
{
	size_t bytes = 0;

	for (size_t i = 0; i < e->n; i++) {
		const struct extent *x = &e->v[i];
		assert_true(x->len > 0 && x->len <= x->cap);
		assert_int_equal(x->offset / UNIT, (x->offset + x->len - 1) / UNIT);
		/* In order; ranges of one unit do not touch. */
		if (i > 0) {
			uint64_t end = x[-1].offset + x[-1].len;
			assert_true(end < x->offset || (end == x->offset && end % UNIT == 0));
		}
		bytes += x->cap;
	}
	assert_true(e->bytes >= bytes);
}

static void test_neighbours_join(void **state)
{
	struct extents e = {0};
	char got[12];

	assert_int_equal(extents_put(&e, "bbb", 3, 3, UNIT), 0);
	assert_int_equal(extents_put(&e, "ddd", 3, 9, UNIT), 0);
	assert_int_equal(e.n, 2);
	assert_false(extents_get(&e, got, 12, 0));
	assert_true(extents_touch(&e, 3, 1));
	assert_false(extents_touch(&e, 3, 6));
	assert_int_equal(extents_put(&e, "aaa", 3, 0, UNIT), 0);
	assert_int_equal(extents_put(&e, "ccc", 3, 6, UNIT), 0);
	assert_int_equal(e.n, 1);
	assert_true(extents_get(&e, got, 12, 0));
	assert_memory_equal(got, "aaabbbcccddd", 12);
	assert_int_equal(extents_end(&e), 12);
	extents_clear(&e);
	assert_int_equal(extents_end(&e), 0);
	assert_int_equal(e.bytes, 0);
}

static void test_units_do_not_join(void **state)
{
	struct extents e = {0};
	uint8_t bytes[3 * UNIT], got[3 * UNIT];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	assert_int_equal(extents_put(&e, bytes, 2 * UNIT + 2, UNIT - 1, UNIT), 0);
	assert_int_equal(e.n, 4);
	check(&e);
	assert_true(extents_get(&e, got, 2 * UNIT + 2, UNIT - 1));
	assert_memory_equal(got, bytes, 2 * UNIT + 2);
	extents_clear(&e);
}

static void test_random_writes(void **state)
{
	struct extents e = {0};
	uint8_t is[SPACE] = {0}, data[SPACE], got[SPACE];
	bool there[SPACE] = {0};

	srand((unsigned)test_seed());
	for (int i = 0; i < ROUNDS; i++) {
		size_t at = (size_t)rand() % SPACE, len = 1 + (size_t)rand() % 90;
		bool all = true, any = false;
		if (len > SPACE - at)
			len = SPACE - at;
		for (size_t k = 0; k < len; k++) {
			all &= there[at + k];
			any |= there[at + k];
		}
		assert_int_equal(extents_get(&e, got, len, at), all);
		assert_int_equal(extents_touch(&e, len, at), any);
		if (all)
			assert_memory_equal(got, is + at, len);
		for (size_t k = 0; k < len; k++)
			data[k] = (uint8_t)rand();
		assert_int_equal(extents_put(&e, data, len, at, UNIT), 0);
		memcpy(is + at, data, len);
		memset(there + at, true, len);
		check(&e);
		if (rand() % 40 == 0) {
			extents_clear(&e);
			memset(there, 0, sizeof(there));
		}
	}
	extents_clear(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_neighbours_join),
		cmocka_unit_test(test_units_do_not_join),
		cmocka_unit_test(test_random_writes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
