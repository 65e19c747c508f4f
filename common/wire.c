#include "common/wire.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/crc.h"

WIRE_RECORDS(RECORD_DEFINE)
WIRE_RECORDS(RECORD_UNTYPED)

static const struct record_codec wire_failure_codec = RECORD_CODEC(wire_failure);

static const struct wire_message wire_table[] = {
#define WIRE_X_ROW(number, NAME, req, rep) {number, #NAME, RECORD_CODEC(req), RECORD_CODEC(rep)},
	WIRE_MESSAGES(WIRE_X_ROW)
#undef WIRE_X_ROW
};
enum { WIRE_TABLE_ROWS = sizeof(wire_table) / sizeof(wire_table[0]) };

const struct wire_message *wire_messages(size_t *ret_n)
{
	*ret_n = WIRE_TABLE_ROWS;
	return wire_table;
}

const struct wire_message *wire_message_find(uint16_t op)
{
	/* The table is in rising order of opcode: WIRE_MESSAGES says so, the unit test checks. */
	size_t lo = 0, hi = WIRE_TABLE_ROWS;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (wire_table[mid].op < op)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < WIRE_TABLE_ROWS && wire_table[lo].op == op ? &wire_table[lo] : NULL;
}

const char *wire_op_name(uint16_t op)
{
	const struct wire_message *m = wire_message_find(op);
	return m ? m->name : "?";
}

int wire_header_get(const uint8_t *p, struct wire_header *ret, struct err *err)
{
	struct wire_header h;

	if (get_le32(p) != WIRE_MAGIC)
		return err_set(err, ERR_PROTOCOL, "not a Cairn message (magic %08" PRIx32 ")",
			       get_le32(p));
	h.version = p[4];
	h.flags = p[5];
	h.op = get_le16(p + 6);
	h.id = get_le64(p + 8);
	h.fields_bytes = get_le32(p + 16);
	h.data_bytes = get_le32(p + 20);
	h.status = (int32_t)get_le32(p + 24);
	h.trace = get_le64(p + 28);
	h.crc = get_le32(p + 36);
	if (h.version != WIRE_VERSION)
		return err_set(err, ERR_VERSION, "protocol version %u, this side speaks %u",
			       h.version, WIRE_VERSION);
	if (h.fields_bytes > FIELDS_BYTES_MAX || h.data_bytes > DATA_BYTES_MAX)
		return err_set(err, ERR_PROTOCOL, "%s: message of %" PRIu32 "+%" PRIu32
			       " bytes is over the limit", wire_op_name(h.op), h.fields_bytes,
			       h.data_bytes);
	*ret = h;
	return 0;
}

int wire_check(const uint8_t *header, const struct wire_header *h, struct slice fields,
	       struct err *err)
{
	uint32_t crc = crc32c(crc32c(0, header, WIRE_HEADER_BYTES - 4), fields.data, fields.len);
	if (crc != h->crc)
		return err_set(err, ERR_PROTOCOL, "%s: message checksum %08" PRIx32
			       ", computed %08" PRIx32, wire_op_name(h->op), h->crc, crc);
	return 0;
}

static int wire_put(struct buf *b, const struct wire_header *h, const struct record_codec *codec,
		    const void *m)
{
	size_t start = b->len;
	uint8_t *p = buf_extend(b, WIRE_HEADER_BYTES);
	size_t fields_bytes;

	if (p)
		codec->put(b, m);
	if (buf_status(b) < 0) {
		b->len = start;
		return ERR_NOMEM;
	}
	fields_bytes = b->len - start - WIRE_HEADER_BYTES;
	if (fields_bytes > FIELDS_BYTES_MAX) {
		b->len = start;
		return ERR_LIMIT;
	}
	p = b->data + start;
	put_le32(p, WIRE_MAGIC);
	p[4] = WIRE_VERSION;
	p[5] = h->flags;
	put_le16(p + 6, h->op);
	put_le64(p + 8, h->id);
	put_le32(p + 16, (uint32_t)fields_bytes);
	put_le32(p + 20, h->data_bytes);
	put_le32(p + 24, (uint32_t)h->status);
	put_le64(p + 28, h->trace);
	put_le32(p + 36, crc32c(crc32c(0, p, WIRE_HEADER_BYTES - 4), p + WIRE_HEADER_BYTES,
				fields_bytes));
	return 0;
}

int wire_put_request(struct buf *b, uint16_t op, uint64_t id, uint64_t trace, const void *m,
		     uint32_t data_bytes)
{
	const struct wire_message *row = wire_message_find(op);
	struct wire_header h = {.op = op, .id = id, .trace = trace, .data_bytes = data_bytes};

	assert(row && data_bytes <= DATA_BYTES_MAX);
	return wire_put(b, &h, &row->request, m);
}

int wire_put_reply(struct buf *b, uint16_t op, uint64_t id, uint64_t trace, const void *m,
		   uint32_t data_bytes)
{
	const struct wire_message *row = wire_message_find(op);
	struct wire_header h = {.op = op, .flags = WIRE_REPLY, .id = id, .trace = trace,
				.data_bytes = data_bytes};

	assert(row && data_bytes <= DATA_BYTES_MAX);
	return wire_put(b, &h, &row->reply, m);
}

int wire_put_failure(struct buf *b, uint16_t op, uint64_t id, uint64_t trace, int code,
		     const char *text, uint32_t server)
{
	struct wire_header h = {.op = op, .flags = WIRE_REPLY, .id = id, .trace = trace,
				.status = code};
	struct wire_failure f = {.text = slice_str(text), .server = server};

	assert(code < 0);
	if (f.text.len > TEXT_BYTES_MAX)
		f.text.len = TEXT_BYTES_MAX;
	return wire_put(b, &h, &wire_failure_codec, &f);
}

static void wire_put_bytes(struct buf *b, const void *m)
{
	buf_append_slice(b, *(const struct slice *)m);
}

int wire_put_reply_raw(struct buf *b, uint16_t op, uint64_t id, uint64_t trace,
		       struct slice fields)
{
	struct wire_header h = {.op = op, .flags = WIRE_REPLY, .id = id, .trace = trace};
	struct record_codec codec = {.put = wire_put_bytes};

	return wire_put(b, &h, &codec, &fields);
}

void wire_set_leased(struct buf *b, size_t start, uint8_t leased)
{
	uint8_t *p = b->data + start;

	assert(b->len >= start + WIRE_HEADER_BYTES && (p[5] & WIRE_REPLY));
	p[5] |= leased;
	put_le32(p + 36, crc32c(crc32c(0, p, WIRE_HEADER_BYTES - 4), p + WIRE_HEADER_BYTES,
				get_le32(p + 16)));
}

int wire_get_reply(const struct wire_header *h, struct slice fields, void *ret,
		   uint32_t *ret_server, struct err *err)
{
	const struct wire_message *row = wire_message_find(h->op);
	struct cursor c = cursor_slice(fields);

	if (ret_server)
		*ret_server = 0;
	if (!row || !(h->flags & WIRE_REPLY))
		return err_set(err, ERR_PROTOCOL, "unexpected message %s (%#x)",
			       wire_op_name(h->op), h->op);
	if (h->status) {
		struct wire_failure f;
		int code = h->status < 0 ? err_from_wire(h->status) : ERR_PROTOCOL;
		if (wire_failure_get(&c, &f) < 0)
			return err_set(err, ERR_PROTOCOL, "%s: malformed failure", row->name);
		if (ret_server)
			*ret_server = f.server;
		if (f.text.len > TEXT_BYTES_MAX)
			f.text.len = TEXT_BYTES_MAX;
		return err_set(err, code, "%.*s", (int)f.text.len, (const char *)f.text.data);
	}
	if (row->reply.get(&c, ret) < 0)
		return err_set(err, ERR_PROTOCOL, "%s: malformed reply", row->name);
	return 0;
}

int wire_list_next(struct cursor *c, struct cursor *ret)
{
	if (cursor_left(c) == 0)
		return 0;
	return record_get_nested(c, ret) < 0 ? ERR_PROTOCOL : 1;
}

/* The finalizer of splitmix64: every bit of x reaches every bit of the result. */
static uint64_t wire_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

uint64_t wire_have_digest(uint64_t id, uint32_t version, uint8_t flags)
{
	uint64_t state = (uint64_t)version << 8 | flags;
	return wire_mix(wire_mix(id) ^ state);
}

void wire_text(struct buf *b, const struct wire_header *h, struct slice fields)
{
	const struct wire_message *row = wire_message_find(h->op);
	struct cursor c = cursor_slice(fields);
	const struct record_codec *codec;
	void *m;

	buf_printf(b, "%s%s id=%" PRIu64 " data=%" PRIu32, wire_op_name(h->op),
		   h->flags & WIRE_REPLY ? " reply" : "", h->id, h->data_bytes);
	if (h->flags & ~WIRE_REPLY)
		buf_printf(b, " leased=%u", h->flags & ~WIRE_REPLY);
	if (!row)
		return;
	codec = h->flags & WIRE_REPLY ? &row->reply : &row->request;
	if (h->status) {
		buf_printf(b, " status=%s", err_name(h->status));
		codec = &wire_failure_codec;
	}
	m = malloc(codec->bytes ? codec->bytes : 1);
	if (m && codec->get(&c, m) == 0)
		codec->text(b, m);
	else
		buf_printf(b, " (malformed)");
	free(m);
}
