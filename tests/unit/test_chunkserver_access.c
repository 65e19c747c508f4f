/* chunkserver: what a token allows its holder, and what it does not. The clock is the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "chunkserver/access.h"

enum { NOW_MS = 100000, AGE_MS = 2000, LEFT_MS = 500, CHUNK = 0x77, SESSION = 4 };

static const struct token_key key = {.number = 7, .secret = "of the master"};
static const struct wire_replica member = {.server = 2, .addr = SLICE_LIT("10.0.0.2:7411")};
static struct keys keys;
static struct access access;
static uint8_t bytes[TOKEN_BYTES_MAX];

static void tell(const struct token_key *k)
{
	struct wire_token_key told = {.number = k->number, .age_ms = AGE_MS,
				      .secret = slice_of(k->secret, sizeof(k->secret))};
	keys_take(&keys, &told, 1, NOW_MS);
}

static int setup(void **state)
{
	keys_init(&keys);
	access = (struct access){.keys = &keys, .holder = SLICE_LIT("mount-1")};
	tell(&key);
	return 0;
}

static int teardown(void **state)
{
	keys_release(&keys);
	return 0;
}

/* Signed by k: it runs out LEFT_MS after NOW_MS. */
static struct slice token_by(const struct token_key *k, uint8_t rights, const char *holder)
{
	struct token t = {.rights = rights, .version = 3, .chunk = CHUNK, .session = SESSION,
			  .expires_ms = AGE_MS + LEFT_MS, .n_members = 1};

	assert_true(token_tag(k, member.server, member.addr, t.members[0]));
	return slice_of(bytes, token_seal(k, &t, slice_str(holder), bytes));
}

static struct access_wish wish_of(struct slice token)
{
	return (struct access_wish){.token = token, .chunk = CHUNK, .version = 3,
				    .rights = TOKEN_READ, .session = SESSION, .servers = &member,
				    .n_servers = 1};
}

static void refused(struct access_wish wish, const char *why)
{
	struct err err = {0};

	assert_int_equal(access_check(&access, &wish, NOW_MS, &err), ERR_TOKEN);
	assert_non_null(strstr(err.text, why));
}

static void allowed(struct access_wish wish)
{
	assert_int_equal(access_check(&access, &wish, NOW_MS, NULL), 0);
}

static void test_what_it_is_for(void **state)
{
	struct access_wish good = wish_of(token_by(&key, TOKEN_READ, "mount-1")), wish = good;

	allowed(good);
	wish.chunk++;
	refused(wish, "another chunk");
	/* The same place among those that are remembered. */
	wish.chunk = CHUNK + ACCESS_TOKENS;
	refused(wish, "another chunk");
	wish = good;
	wish.version = 4;
	refused(wish, "version");
	wish = good;
	wish.rights = TOKEN_WRITE;
	refused(wish, "right");
	wish = good;
	wish.session = SESSION + 1;
	refused(wish, "session");
	allowed(good);
	wish.session = 0; /* a request that does not say */
	allowed(wish);
	wish.rights = TOKEN_READ | TOKEN_WRITE; /* either will do */
	allowed(wish);
}

static void test_what_is_no_token(void **state)
{
	static const uint8_t zeros[TOKEN_BYTES_MAX];
	struct slice good = token_by(&key, TOKEN_READ, "mount-1"), bad = good;

	refused(wish_of((struct slice){0}), "none");
	refused(wish_of(slice_of(zeros, sizeof(zeros))), "malformed");
	bad.len--;
	refused(wish_of(bad), "malformed");
	bytes[good.len - 1] ^= 1;
	refused(wish_of(good), "forged");
	bytes[good.len - 1] ^= 1;
	allowed(wish_of(good));
	/* Also when the true one is remembered. */
	bytes[1] |= TOKEN_WRITE;
	refused(wish_of(good), "forged");
}

static void test_another_clients(void **state)
{
	refused(wish_of(token_by(&key, TOKEN_READ, "mount-2")), "another client's");
	refused(wish_of(token_by(&key, TOKEN_READ, "")), "another client's");
}

static void test_it_runs_out(void **state)
{
	struct access_wish wish = wish_of(token_by(&key, TOKEN_READ, "mount-1"));

	assert_int_equal(access_check(&access, &wish, NOW_MS + LEFT_MS - 1, NULL), 0);
	assert_int_equal(access_check(&access, &wish, NOW_MS + LEFT_MS, NULL), ERR_TOKEN);
	access = (struct access){.keys = &keys, .holder = SLICE_LIT("mount-1")};
	assert_int_equal(access_check(&access, &wish, NOW_MS + LEFT_MS, NULL), ERR_TOKEN);
}

static void test_keys_come_and_go(void **state)
{
	struct token_key other = {.number = 8, .secret = "the next one"};
	struct slice good;

	refused(wish_of(token_by(&other, TOKEN_READ, "mount-1")), "not known");
	tell(&other);
	allowed(wish_of(token_by(&other, TOKEN_READ, "mount-1")));
	/* What the previous one signed is good still. */
	good = token_by(&key, TOKEN_READ, "mount-1");
	allowed(wish_of(good));
	/* Told again, with an age that would make its tokens live longer. */
	keys_take(&keys, &(struct wire_token_key){.number = key.number,
		  .secret = slice_of(key.secret, sizeof(key.secret))}, 1, NOW_MS + 10 * LEFT_MS);
	assert_int_equal(access_check(&access, &(struct access_wish){.token = good, .chunk = CHUNK,
				      .version = 3, .rights = TOKEN_READ}, NOW_MS + LEFT_MS, NULL),
			 ERR_TOKEN);
	/* Many masters later it is forgotten, by who has not seen the token. */
	for (uint64_t n = 100; n < 100 + KEYS_MAX; n++)
		tell(&(struct token_key){.number = n, .secret = "more"});
	allowed(wish_of(good));
	access = (struct access){.keys = &keys, .holder = SLICE_LIT("mount-1")};
	refused(wish_of(good), "not known");
}

static void test_members_only(void **state)
{
	struct access_wish wish = wish_of(token_by(&key, TOKEN_READ, "mount-1"));
	struct wire_replica other = {.server = 2, .addr = SLICE_LIT("10.0.0.3:7411")};
	struct wire_replica none = {.server = 2};
	struct wire_replica list[REPLICAS_MAX];

	wish.servers = &other;
	refused(wish, "does not name");
	refused(wish, "does not name"); /* remembered as what it is */
	other = (struct wire_replica){.server = 3, .addr = member.addr};
	refused(wish, "does not name");
	wish.servers = &none;
	refused(wish, "does not name");
	for (unsigned i = 0; i < REPLICAS_MAX; i++)
		list[i] = member;
	wish.servers = list;
	wish.n_servers = REPLICAS_MAX;
	allowed(wish);
	list[REPLICAS_MAX - 1].server++;
	refused(wish, "does not name");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_what_it_is_for),
		T(test_what_is_no_token),
		T(test_another_clients),
		T(test_it_runs_out),
		T(test_keys_come_and_go),
		T(test_members_only),
#undef T
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
