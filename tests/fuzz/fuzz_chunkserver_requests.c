/* What a client sends to a data port: the five requests, and the token in each. Only what this master
 * signed for this client opens anything, and only what it names. */
#include <stdlib.h>

#include "chunkserver/access.h"
#include "chunkserver/serve_priv.h"
#include "common/cleanup.h"
#include "tests/fuzz/fuzz.h"

enum { CHUNK = 0x77, VERSION = 3, SESSION = 4, LIFE_MS = 1000 };

static const struct token_key key = {.number = 7, .secret = "no secret: of a fuzz seed"};
static const struct wire_replica member = {.server = 2, .addr = SLICE_LIT("10.0.0.2:7411")};

static uint32_t seal(uint8_t *ret)
{
	struct token t = {.rights = TOKEN_READ | TOKEN_WRITE, .version = VERSION, .chunk = CHUNK,
			  .session = SESSION, .expires_ms = LIFE_MS, .n_members = 1};

	if (!token_tag(&key, member.server, member.addr, t.members[0]))
		abort();
	return token_seal(&key, &t, SLICE_LIT("fuzz"), ret);
}

static struct keys *known_keys(void)
{
	static struct keys keys;
	struct wire_token_key told = {.number = key.number,
				      .secret = slice_of(key.secret, sizeof(key.secret))};

	if (keys.n == 0) {
		keys_init(&keys);
		keys_take(&keys, &told, 1, 0);
	}
	return &keys;
}

static void check(struct access *a, struct slice token, uint64_t chunk, uint32_t version,
		  uint64_t session, const struct wire_replica *servers, unsigned n)
{
	struct access_wish wish = {.token = token, .chunk = chunk, .version = version,
				   .rights = TOKEN_READ, .session = session, .servers = servers,
				   .n_servers = n};

	if (access_check(a, &wish, LIFE_MS, NULL) == 0)
		abort(); /* it has run out */
	if (access_check(a, &wish, LIFE_MS - 1, NULL) < 0)
		return;
	if (chunk != CHUNK || version != VERSION || (session && session != SESSION))
		abort();
	for (unsigned i = 0; i < n; i++)
		if (servers[i].server != member.server || !slice_eq(servers[i].addr, member.addr))
			abort();
}

static void check_write(struct access *a, uint32_t data_bytes, const struct wire_write *m)
{
	struct wire_header h = {.op = OP_WRITE, .data_bytes = data_bytes};

	check(a, m->token, m->chunk, m->version, m->session, m->chain, m->n_chain);
	if (write_check(&h, m, NULL) < 0)
		return;
	/* What follows goes to its place in a piece of whole blocks. */
	if (m->offset % BLOCK_BYTES + data_bytes > DATA_BYTES_MAX + BLOCK_BYTES)
		abort();
	for (unsigned i = 0; i < m->n_chain; i++)
		if (m->chain[i].addr.len >= ADDR_BYTES_MAX)
			abort();
}

#define DECODED(record, m)                                    \
	struct record m;                                      \
	struct cursor m##_cursor = cursor_slice(fields);      \
	if (record##_get(&m##_cursor, &m) < 0)                \
		return

static void request(struct access *a, const struct wire_header *h, struct slice fields)
{
	if (h->op == OP_READ) {
		DECODED(wire_read, m);
		check(a, m.token, m.chunk, m.version, 0, NULL, 0);
	} else if (h->op == OP_SUMS) {
		DECODED(wire_sums, m);
		check(a, m.token, m.chunk, m.version, 0, NULL, 0);
	} else if (h->op == OP_SYNC) {
		DECODED(wire_sync, m);
		check(a, m.token, m.chunk, m.version, 0, m.chain, m.n_chain);
	} else if (h->op == OP_WRITE) {
		DECODED(wire_write, m);
		check_write(a, h->data_bytes, &m);
	} else if (h->op == OP_COPY) {
		DECODED(wire_copy, m);
		check_write(a, m.len, &m.to);
		check(a, m.source_token, m.source, m.source_version, 0, m.from, m.n_from);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ struct access *a = calloc(1, sizeof(*a));
	struct wire_header h;

	if (!a || size < WIRE_HEADER_BYTES || wire_header_get(data, &h, NULL) < 0)
		return 0;
	a->keys = known_keys();
	a->holder = SLICE_LIT("fuzz");
	/* Twice: from memory too. */
	for (unsigned i = 0; i < 2; i++)
		request(a, &h, slice_of(data + WIRE_HEADER_BYTES, size - WIRE_HEADER_BYTES));
	return 0;
}

bool fuzz_seed(unsigned i, struct buf *b)
{
	uint8_t bytes[TOKEN_BYTES_MAX], sums[4] = {0};
	struct slice token = slice_of(bytes, seal(bytes));
	struct wire_read read = {.chunk = CHUNK, .version = VERSION, .len = BLOCK_BYTES, .token = token};
	struct wire_sums table = {.chunk = CHUNK, .version = VERSION, .token = token};
	struct wire_sync sync = {.chunk = CHUNK, .version = VERSION, .token = token, .n_chain = 1,
				 .chain = {member}};
	struct wire_write write = {.chunk = CHUNK, .version = VERSION, .token = token, .n_chain = 1,
				   .chain = {member}, .chunk_bits = CHUNK_BITS_MIN, .session = SESSION,
				   .sums = slice_of(sums, sizeof(sums))};
	struct wire_copy copy = {.to = write, .len = 1, .source = CHUNK, .source_version = VERSION,
				 .source_token = token, .n_from = 1, .from = {member}};

	switch (i) {
	case 0: return wire_put_request(b, OP_READ, 1, 0, &read, 0) == 0;
	case 1: return wire_put_request(b, OP_SUMS, 1, 0, &table, 0) == 0;
	case 2: return wire_put_request(b, OP_SYNC, 1, 0, &sync, 0) == 0;
	case 3: return wire_put_request(b, OP_WRITE, 1, 0, &write, 1) == 0;
	case 4: return wire_put_request(b, OP_COPY, 1, 0, &copy, 0) == 0;
	default: return false;
	}
}
