/* common: access tokens, what they say and who can make them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "common/token.h"

static const struct token_key key = {.number = 0x1122334455667788, .secret = "a key of the master"};
static const struct slice holder = SLICE_LIT("mount-1");

static struct token sample(void)
{
	struct token t = {.rights = TOKEN_READ | TOKEN_WRITE, .n_members = REPLICAS_MAX, .version = 3,
			  .expires_ms = 1234, .chunk = 0x77, .session = 9};

	for (unsigned i = 0; i < REPLICAS_MAX; i++)
		assert_true(token_tag(&key, i + 1, SLICE_LIT("10.0.0.1:7411"), t.members[i]));
	return t;
}

static void test_says_what_was_sealed(void **state)
{
	struct token t = sample(), got;
	uint8_t bytes[TOKEN_BYTES_MAX];
	struct slice token = slice_of(bytes, token_seal(&key, &t, holder, bytes));

	assert_in_range(token.len, 1, TOKEN_BYTES_MAX);
	assert_true(token_parse(token, &got));
	assert_true(token_genuine(&key, token, holder));
	assert_int_equal(got.key, key.number);
	assert_int_equal(got.chunk, t.chunk);
	assert_int_equal(got.version, t.version);
	assert_int_equal(got.session, t.session);
	assert_int_equal(got.rights, t.rights);
	assert_int_equal(got.expires_ms, t.expires_ms);
	assert_int_equal(got.n_members, REPLICAS_MAX);
	assert_memory_equal(got.members, t.members, sizeof(t.members));
}

static void test_every_bit_counts(void **state)
{
	struct token t = sample(), got;
	uint8_t bytes[TOKEN_BYTES_MAX];
	uint32_t len = token_seal(&key, &t, holder, bytes);

	for (uint32_t bit = 0; bit < 8 * len; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(token_parse(slice_of(bytes, len), &got) &&
			     token_genuine(&key, slice_of(bytes, len), holder));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(token_genuine(&key, slice_of(bytes, len), holder));
}

static void test_no_other_length(void **state)
{
	struct token t = sample(), got;
	uint8_t bytes[TOKEN_BYTES_MAX + 8] = {0};
	uint32_t len = token_seal(&key, &t, holder, bytes);

	for (uint32_t n = 0; n <= sizeof(bytes); n++)
		assert_int_equal(token_parse(slice_of(bytes, n), &got), n == len);
}

static void test_of_one_key_and_one_holder(void **state)
{
	struct token_key other = key;
	struct token t = sample();
	uint8_t bytes[TOKEN_BYTES_MAX];
	struct slice token = slice_of(bytes, token_seal(&key, &t, holder, bytes));

	assert_false(token_genuine(&key, token, SLICE_LIT("mount-2")));
	assert_false(token_genuine(&key, token, SLICE_LIT("mount-10")));
	assert_false(token_genuine(&key, token, (struct slice){0}));
	other.secret[31] ^= 1;
	assert_false(token_genuine(&other, token, holder));
	/* With a shared key nobody has a name. */
	token = slice_of(bytes, token_seal(&key, &t, (struct slice){0}, bytes));
	assert_true(token_genuine(&key, token, (struct slice){0}));
}

static void test_tags_name_one_server_at_one_address(void **state)
{
	struct token_key other = {.secret = "another"};
	uint8_t a[TOKEN_TAG_BYTES], b[TOKEN_TAG_BYTES];

	assert_true(token_tag(&key, 1, SLICE_LIT("10.0.0.1:7411"), a));
	assert_true(token_tag(&key, 1, SLICE_LIT("10.0.0.1:7411"), b));
	assert_memory_equal(a, b, sizeof(a));
	assert_true(token_tag(&key, 2, SLICE_LIT("10.0.0.1:7411"), b));
	assert_memory_not_equal(a, b, sizeof(a));
	assert_true(token_tag(&key, 1, SLICE_LIT("10.0.0.1:74110"), b));
	assert_memory_not_equal(a, b, sizeof(a));
	assert_true(token_tag(&other, 1, SLICE_LIT("10.0.0.1:7411"), b));
	assert_memory_not_equal(a, b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_says_what_was_sealed),
		cmocka_unit_test(test_every_bit_counts),
		cmocka_unit_test(test_no_other_length),
		cmocka_unit_test(test_of_one_key_and_one_holder),
		cmocka_unit_test(test_tags_name_one_server_at_one_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
