/* LevelDB values of every kind: the first byte chooses the kind. What decodes must encode, and
 * decode again to the same text; a row of a database that decodes is also looked at by the checker,
 * which must find nothing it cannot bear. */
#include <stdlib.h>

#include "common/cleanup.h"
#include "master/schema.h"
#include "master/schema_check.h"
#include "tests/fuzz/fuzz.h"

SCHEMA_RECORDS(RECORD_UNTYPED)
#define KIND(NAME, FIELDS) RECORD_CODEC(NAME),
static const struct record_codec kinds[] = {SCHEMA_RECORDS(KIND)};

static void round_trip(const struct record_codec *kind, struct slice value)
{
	_cleanup_free_ void *m = calloc(1, kind->bytes), *again = calloc(1, kind->bytes);
	_cleanup_buf_ struct buf encoded = {0}, text = {0}, text_again = {0};
	struct cursor c = cursor_slice(value);

	if (!m || !again || kind->get(&c, m) < 0)
		return;
	kind->text(&text, m);
	kind->put(&encoded, m);
	c = cursor_slice(buf_slice(&encoded));
	if (kind->get(&c, again) < 0)
		abort();
	kind->text(&text_again, again);
	if (!slice_eq(buf_slice(&text), buf_slice(&text_again)))
		abort();
}

/* A database that holds this one row, under a key of bytes that came. */
static void check_alone(struct slice key, struct slice value)
{
	_cleanup_buf_ struct buf report = {0}, text = {0};
	struct state *st;

	schema_row_text(&text, key, value);
	if (key.len == 0 || key.len > SCHEMA_KEY_BYTES_MAX || state_new(NULL, &st) < 0)
		return;
	state_begin(st);
	state_put(st, key, value);
	if (state_commit(st) == 0)
		schema_check(st, &report, 5);
	state_free(st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest;
	size_t key;

	if (size < 2)
		return 0;
	rest = slice_of(data + 2, size - 2);
	round_trip(&kinds[data[0] % ARRAY_LEN(kinds)], rest);
	key = data[1] < rest.len ? data[1] : rest.len;
	check_alone(slice_of(rest.data, key), slice_of(rest.data + key, rest.len - key));
	return 0;
}

/* An empty record of each kind, then one of each under a key of each type. */
bool fuzz_seed(unsigned i, struct buf *b)
{
	static const char types[] = "MPidckrsupgxSNlyoRvV";
	const struct record_codec *kind = &kinds[i % ARRAY_LEN(kinds)];
	_cleanup_free_ void *m = calloc(1, kind->bytes);
	const uint8_t key_bytes = i < ARRAY_LEN(kinds) ? 0 : 9;
	uint8_t *at;

	if (!m || i >= ARRAY_LEN(kinds) * 2)
		return false;
	at = buf_extend(b, 2 + (size_t)key_bytes);
	memset(at, 0, 2 + (size_t)key_bytes);
	at[0] = (uint8_t)(i % ARRAY_LEN(kinds));
	at[1] = key_bytes;
	if (key_bytes)
		at[2] = (uint8_t)types[i % (sizeof(types) - 1)];
	kind->put(b, m);
	return true;
}
