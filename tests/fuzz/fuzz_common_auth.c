/* Connection set-up: both sides are fed a stream of hostile messages. */
#include "common/auth.h"
#include "common/cleanup.h"
#include "tests/fuzz/fuzz.h"

static const struct auth_key key = {.bytes = "0123456789abcdef", .len = 16};

static void feed(struct auth *a, const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf out = {0};

	while (size >= WIRE_HEADER_BYTES && a->state != AUTH_FAILED && a->state != AUTH_DONE) {
		struct wire_header h;
		size_t n;
		if (wire_header_get(data, &h, NULL) < 0)
			return;
		data += WIRE_HEADER_BYTES;
		size -= WIRE_HEADER_BYTES;
		n = h.fields_bytes < size ? h.fields_bytes : size;
		auth_step(a, &h, slice_of(data, n), &out, NULL);
		data += n;
		size -= n;
	}
	/* Nobody gets in without the key. */
	if (a->state == AUTH_DONE)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf out = {0};
	struct auth a;

	auth_accept(&a, &key, ROLE_MASTER);
	feed(&a, data, size);
	auth_release(&a);
	if (auth_connect(&a, &key, ROLE_CLIENT, "fuzz", &out, NULL) == 0)
		feed(&a, data, size);
	auth_release(&a);
	return 0;
}

bool fuzz_seed(unsigned i, struct buf *b)
{
	struct wire_hello hello = {.role = ROLE_CLIENT, .name = SLICE_LIT("x")};
	struct wire_challenge challenge = {.role = ROLE_MASTER};
	struct wire_prove prove;
	uint8_t zeros[AUTH_NONCE_BYTES] = {0};

	hello.nonce = challenge.nonce = challenge.proof = prove.proof =
		slice_of(zeros, sizeof(zeros));
	if (i == 0)
		return wire_put_request(b, OP_HELLO, 1, 0, &hello, 0) == 0 &&
		       wire_put_request(b, OP_PROVE, 2, 0, &prove, 0) == 0;
	return i == 1 && wire_put_reply(b, OP_HELLO, 1, 0, &challenge, 0) == 0;
}
