/* Every wire decoder: the header, and each message as request, reply and failure. What decodes
 * must encode, and decode again to the same text. */
#include <assert.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/crc.h"
#include "common/wire.h"
#include "tests/fuzz/fuzz.h"

static void round_trip(const struct record_codec *codec, struct slice fields)
{
	_cleanup_free_ void *m = calloc(1, codec->bytes + 1), *again = calloc(1, codec->bytes + 1);
	_cleanup_buf_ struct buf encoded = {0}, text = {0}, text_again = {0};
	struct cursor c = cursor_slice(fields);

	if (!m || !again || codec->get(&c, m) < 0)
		return;
	codec->text(&text, m);
	codec->put(&encoded, m);
	c = cursor_slice(buf_slice(&encoded));
	if (codec->get(&c, again) < 0)
		abort();
	codec->text(&text_again, again);
	if (!slice_eq(buf_slice(&text), buf_slice(&text_again)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf text = {0};
	struct wire_header h;
	struct slice fields;
	const struct wire_message *row;

	if (size < WIRE_HEADER_BYTES || wire_header_get(data, &h, NULL) < 0)
		return 0;
	/* The checksum is not what is tested here: take the fields as they are. */
	fields = slice_of(data + WIRE_HEADER_BYTES, size - WIRE_HEADER_BYTES);
	wire_check(data, &h, fields, NULL);
	wire_text(&text, &h, fields);
	row = wire_message_find(h.op);
	if (row) {
		struct err err = {0};
		_cleanup_free_ void *reply = calloc(1, row->reply.bytes + 1);
		round_trip(&row->request, fields);
		round_trip(&row->reply, fields);
		if (reply)
			wire_get_reply(&h, fields, reply, NULL, &err);
	}
	return 0;
}

bool fuzz_seed(unsigned i, struct buf *b)
{
	size_t n;
	const struct wire_message *rows = wire_messages(&n);
	const struct record_codec *codec;
	_cleanup_free_ void *m = NULL;

	if (i / 3 >= n)
		return false;
	if (i % 3 == 2)
		return wire_put_failure(b, rows[i / 3].op, i, 0, ERR_PEER, "text", 7) == 0;
	codec = i % 3 ? &rows[i / 3].reply : &rows[i / 3].request;
	m = calloc(1, codec->bytes + 1);
	if (!m)
		return false;
	return (i % 3 ? wire_put_reply(b, rows[i / 3].op, i, 0, m, 0)
		      : wire_put_request(b, rows[i / 3].op, i, 0, m, 0)) == 0;
}
