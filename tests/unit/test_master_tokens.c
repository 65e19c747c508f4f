/* master: the keys of access tokens, rotated by a clock of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "master/tokens.h"

enum { LIFE_MS = 1000, START_MS = 50000 };

static struct token_ring ring;
static int64_t now_ms;

static int setup(void **state)
{
	now_ms = START_MS;
	return tokens_init(&ring, LIFE_MS, now_ms);
}

static void pass(int64_t ms)
{
	for (; ms > 0; ms -= 100) {
		now_ms += 100;
		assert_int_equal(tokens_tick(&ring, now_ms), 0);
	}
}

static bool handed_out(uint64_t number, uint64_t *ret_age_ms)
{
	struct wire_token_key keys[WIRE_TOKEN_KEYS_MAX];
	unsigned n = tokens_keys(&ring, now_ms, keys);

	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(keys[i].secret.len, TOKEN_SECRET_BYTES);
		if (keys[i].number == number) {
			*ret_age_ms = keys[i].age_ms;
			return true;
		}
	}
	return false;
}

static struct token seal(void)
{
	struct token t = {.rights = TOKEN_READ, .version = 1, .chunk = 5}, got;
	uint8_t bytes[TOKEN_BYTES_MAX];
	struct slice token = slice_of(bytes, tokens_seal(&ring, &t, SLICE_LIT("me"), now_ms, bytes));

	assert_true(token_parse(token, &got));
	assert_true(token_genuine(tokens_current(&ring), token, SLICE_LIT("me")));
	return got;
}

static void test_a_token_lives_for_a_life_under_a_known_key(void **state)
{
	for (int64_t at = 0; at < 5 * LIFE_MS; at += 100) {
		struct token t = seal();
		uint64_t age = 0;
		assert_true(handed_out(t.key, &age));
		assert_int_equal(t.expires_ms, age + LIFE_MS);
		/* The key is handed out for as long as the token lives. */
		for (int64_t left = LIFE_MS - 100; left > 0; left -= 100) {
			struct token_ring before = ring;
			int64_t before_ms = now_ms;
			pass(left);
			assert_true(handed_out(t.key, &age));
			ring = before;
			now_ms = before_ms;
		}
		pass(100);
	}
}

static void test_a_key_is_told_before_it_signs(void **state)
{
	for (unsigned i = 0; i < 5; i++) {
		uint64_t next = ring.keys[ring.n - 1].key.number, age;
		assert_true(seal().key != next);
		assert_true(handed_out(next, &age));
		pass(LIFE_MS);
		assert_true(seal().key == next);
		assert_true(handed_out(next, &age));
		assert_true(age >= LIFE_MS);
	}
}

static void test_an_old_key_goes(void **state)
{
	uint64_t first = seal().key, age;

	pass(LIFE_MS);
	assert_true(handed_out(first, &age));
	pass(2 * LIFE_MS);
	assert_false(handed_out(first, &age));
}

static void test_masters_do_not_share_keys(void **state)
{
	uint64_t first = seal().key, age;

	assert_int_equal(tokens_init(&ring, LIFE_MS, now_ms), 0);
	assert_true(seal().key != first);
	assert_false(handed_out(first, &age));
}

static void test_without_keys_there_are_no_tokens(void **state)
{
	struct token t = {.rights = TOKEN_READ};
	uint8_t bytes[TOKEN_BYTES_MAX];

	tokens_clear(&ring);
	assert_null(tokens_current(&ring));
	assert_int_equal(tokens_seal(&ring, &t, SLICE_LIT("me"), now_ms, bytes), 0);
	assert_int_equal(tokens_tick(&ring, now_ms), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup(name, setup)
		T(test_a_token_lives_for_a_life_under_a_known_key),
		T(test_a_key_is_told_before_it_signs),
		T(test_an_old_key_goes),
		T(test_masters_do_not_share_keys),
		T(test_without_keys_there_are_no_tokens),
#undef T
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
