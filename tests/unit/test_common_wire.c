/* common: err, buf, record, wire. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>

#include "common/cleanup.h"
#include "common/wire.h"

static void test_err_numbers_are_unique_and_round_trip(void **state)
{
	static const int codes[] = {
#define ROW(name, number, eno, text) ERR_##name,
		ERR_TABLE(ROW)
#undef ROW
	};
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		for (size_t j = i + 1; j < ARRAY_LEN(codes); j++)
			assert_int_not_equal(codes[i], codes[j]);
		assert_int_equal(err_from_wire(codes[i]), codes[i]);
		assert_true(err_to_errno(codes[i]) > 0);
		assert_string_not_equal(err_name(codes[i]), "UNKNOWN");
	}
	assert_int_equal(err_from_wire(-9999), ERR_REMOTE);
	assert_int_equal(err_from_errno(ENOSPC), ERR_NOSPC);
	assert_int_equal(err_from_errno(EACCES), ERR_ACCES);
	assert_int_equal(err_from_errno(EIO), ERR_IO);
	assert_int_equal(err_from_errno(ENOTTY), ERR_IO);
}

static void test_err_context_grows_to_the_front(void **state)
{
	struct err err = {0};

	assert_int_equal(err_set(&err, ERR_CHECKSUM, "block %d", 12), ERR_CHECKSUM);
	err_prefix(&err, ERR_CHECKSUM, "read chunk %x on %s", 0x9f3, "127.0.0.1:7411");
	assert_string_equal(err_message(&err), "read chunk 9f3 on 127.0.0.1:7411: block 12");
	err_clear(&err);
	err_prefix(&err, ERR_NOSPC, "disk /d");
	assert_string_equal(err_message(&err), "disk /d: no space left");
	assert_int_equal(err.code, ERR_NOSPC);
	assert_int_equal(err_set(NULL, ERR_IO, "nobody listens"), ERR_IO);
	for (int i = 0; i < 100; i++)
		err_prefix(&err, ERR_IO, "long enough to reach the end some time %d", i);
	assert_true(strlen(err.text) < ERR_TEXT_MAX);
}

static void test_buf_remembers_failure(void **state)
{
	_cleanup_buf_ struct buf b = {0};

	buf_printf(&b, "%s %d", "a", 7);
	assert_string_equal(buf_str(&b), "a 7");
	assert_int_equal(buf_reserve(&b, SIZE_MAX / 2), ERR_NOMEM);
	buf_append(&b, "x", 1);
	assert_int_equal(buf_status(&b), ERR_NOMEM);
	assert_int_equal(b.len, 3);
	buf_clear(&b);
	buf_text(&b, SLICE_LIT("ok\n\\\xff"));
	assert_string_equal(buf_str(&b), "ok\\x0a\\x5c\\xff");
}

static void fill_make(struct wire_make *m)
{
	*m = (struct wire_make){
		.id = {.session = 1, .seq = 2, .floor = 3},
		.cred = {.uid = 10, .gid = 20, .umask = 022, .n_groups = 2, .groups = {5, 6}},
		.parent = 0x123456789abcdef0, .name = SLICE_LIT("name"), .mode = 0100644,
		.rdev = 77, .target = SLICE_LIT("t"), .flags = MAKE_EXCL,
	};
}

static void test_record_round_trip(void **state)
{
	_cleanup_buf_ struct buf b = {0};
	struct wire_make in, out;
	struct cursor c;

	fill_make(&in);
	wire_make_put(&b, &in);
	c = cursor_slice(buf_slice(&b));
	assert_int_equal(wire_make_get(&c, &out), 0);
	assert_int_equal(cursor_left(&c), 0);
	assert_int_equal(out.id.floor, 3);
	assert_int_equal(out.cred.n_groups, 2);
	assert_int_equal(out.cred.groups[1], 6);
	assert_true(slice_eq(out.name, in.name));
	assert_true(slice_eq(out.target, in.target));
	assert_int_equal(out.parent, in.parent);
	assert_int_equal(out.flags, MAKE_EXCL);
}

/* Old and new versions: what follows is skipped, what is missing reads as zero, and what ends
 * inside a field is refused: at every length exactly one of the last two. */
static void test_record_every_truncation(void **state)
{
	_cleanup_buf_ struct buf b = {0};
	struct wire_make in, out;
	size_t whole, accepted = 0;

	fill_make(&in);
	wire_make_put(&b, &in);
	whole = b.len;
	for (size_t n = 0; n < whole; n++) {
		/* An exact copy, so that AddressSanitizer sees a read past the end. */
		_cleanup_free_ uint8_t *copy = malloc(n ? n : 1);
		struct cursor c = cursor_of(copy, n);
		memcpy(copy, b.data, n);
		if (wire_make_get(&c, &out) == 0) {
			accepted++;
			assert_int_equal(out.flags, 0);
		}
	}
	assert_int_equal(accepted, 8); /* at the border before each of the eight fields */
	buf_append(&b, "from the future", 15);
	struct cursor c = cursor_slice(buf_slice(&b));
	assert_int_equal(wire_make_get(&c, &out), 0);
	assert_int_equal(out.flags, MAKE_EXCL);
}

static void test_record_array_limit(void **state)
{
	_cleanup_buf_ struct buf b = {0};
	struct wire_cred out;
	struct cursor c;

	for (int i = 0; i < 3; i++)
		buf_le32(&b, 0);
	buf_le16(&b, GROUPS_MAX + 1);
	for (int i = 0; i < GROUPS_MAX + 1; i++)
		buf_le32(&b, 1);
	c = cursor_slice(buf_slice(&b));
	assert_int_equal(wire_cred_get(&c, &out), ERR_PROTOCOL);
}

static void test_wire_table_is_sorted_and_complete(void **state)
{
	size_t n;
	const struct wire_message *rows = wire_messages(&n);

	for (size_t i = 0; i < n; i++) {
		assert_ptr_equal(wire_message_find(rows[i].op), &rows[i]);
		if (i > 0)
			assert_true(rows[i - 1].op < rows[i].op);
	}
	assert_null(wire_message_find(0));
	assert_null(wire_message_find(0xffff));
}

static void test_wire_message_round_trip(void **state)
{
	_cleanup_buf_ struct buf b = {0}, text = {0};
	struct err err = {0};
	struct wire_header h;
	struct wire_make in;
	struct slice fields;

	fill_make(&in);
	assert_int_equal(wire_put_request(&b, OP_MAKE, 42, 99, &in, 0), 0);
	assert_int_equal(wire_header_get(b.data, &h, &err), 0);
	assert_int_equal(h.id, 42);
	assert_int_equal(h.trace, 99);
	assert_int_equal(h.fields_bytes, b.len - WIRE_HEADER_BYTES);
	fields = slice_of(b.data + WIRE_HEADER_BYTES, h.fields_bytes);
	assert_int_equal(wire_check(b.data, &h, fields, &err), 0);
	wire_text(&text, &h, fields);
	assert_non_null(strstr(buf_str(&text), "MAKE id=42"));
	assert_non_null(strstr(buf_str(&text), "name=\"name\""));
	/* Any flipped bit is noticed. */
	for (size_t bit = 0; bit < b.len * 8; bit++) {
		b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (wire_header_get(b.data, &h, &err) == 0 &&
		    h.fields_bytes == b.len - WIRE_HEADER_BYTES)
			assert_int_not_equal(wire_check(b.data, &h, fields, &err), 0);
		b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void test_wire_header_refuses(void **state)
{
	_cleanup_buf_ struct buf b = {0};
	struct wire_empty empty = {};
	struct err err = {0};
	struct wire_header h;

	wire_put_request(&b, OP_CS_READY, 1, 0, &empty, 0);
	b.data[4] = 9;
	assert_int_equal(wire_header_get(b.data, &h, &err), ERR_VERSION);
	b.data[4] = WIRE_VERSION;
	put_le32(b.data + 16, FIELDS_BYTES_MAX + 1);
	assert_int_equal(wire_header_get(b.data, &h, &err), ERR_PROTOCOL);
	put_le32(b.data + 16, 0);
	put_le32(b.data + 20, UINT32_MAX);
	assert_int_equal(wire_header_get(b.data, &h, &err), ERR_PROTOCOL);
	b.data[0] = 'X';
	assert_int_equal(wire_header_get(b.data, &h, &err), ERR_PROTOCOL);
	assert_non_null(strstr(err.text, "not a Cairn message"));
}

static void test_wire_failure_reply(void **state)
{
	_cleanup_buf_ struct buf b = {0};
	struct wire_empty empty;
	struct err err = {0};
	struct wire_header h;
	uint32_t server = 0;

	wire_put_failure(&b, OP_WRITE, 5, 0, ERR_PEER, "127.0.0.1:1: refused", 3);
	assert_int_equal(wire_header_get(b.data, &h, &err), 0);
	assert_int_equal(wire_get_reply(&h, slice_of(b.data + WIRE_HEADER_BYTES, h.fields_bytes),
					&empty, &server, &err), ERR_PEER);
	assert_int_equal(server, 3);
	assert_string_equal(err.text, "127.0.0.1:1: refused");
	/* A status this build does not know, and a positive one. */
	h.status = -5000;
	assert_int_equal(wire_get_reply(&h, (struct slice){0}, &empty, NULL, &err), ERR_REMOTE);
	h.status = 5;
	assert_int_equal(wire_get_reply(&h, (struct slice){0}, &empty, NULL, &err), ERR_PROTOCOL);
}

/* What is leased is told in the header: of answers that are stored, and of failures. */
static void test_wire_leased_replies(void **state)
{
	_cleanup_buf_ struct buf b = {0}, text = {0};
	struct wire_attr_reply rep = {.attr.inode = 77}, got;
	struct err err = {0};
	struct wire_header h;
	struct slice fields;
	size_t second;

	wire_put_reply(&b, OP_GETATTR, 4, 0, &rep, 0);
	second = b.len;
	wire_put_failure(&b, OP_LOOKUP, 5, 0, ERR_NOENT, "no", 0);
	wire_set_leased(&b, 0, WIRE_LEASED_INODE);
	wire_set_leased(&b, second, WIRE_LEASED_PARENT);
	assert_int_equal(wire_header_get(b.data, &h, &err), 0);
	fields = slice_of(b.data + WIRE_HEADER_BYTES, h.fields_bytes);
	assert_int_equal(wire_check(b.data, &h, fields, &err), 0);
	assert_int_equal(h.flags, WIRE_REPLY | WIRE_LEASED_INODE);
	assert_int_equal(wire_get_reply(&h, fields, &got, NULL, &err), 0);
	assert_int_equal(got.attr.inode, 77);
	wire_text(&text, &h, fields);
	assert_non_null(strstr(buf_str(&text), "GETATTR reply id=4 data=0 leased=2"));
	assert_int_equal(wire_header_get(b.data + second, &h, &err), 0);
	fields = slice_of(b.data + second + WIRE_HEADER_BYTES, h.fields_bytes);
	assert_int_equal(wire_check(b.data + second, &h, fields, &err), 0);
	assert_int_equal(h.flags, WIRE_REPLY | WIRE_LEASED_PARENT);
	assert_int_equal(wire_get_reply(&h, fields, &got, NULL, &err), ERR_NOENT);
}

/* Requests of clients that know of no leases ask for none. */
static void test_wire_reads_without_a_session(void **state)
{
	_cleanup_buf_ struct buf b = {0};
	struct wire_name_ref in = {.parent = 1, .name = SLICE_LIT("x"), .session = 9}, out;
	struct cursor c;

	wire_name_ref_put(&b, &in);
	c = cursor_slice(slice_of(b.data, b.len - sizeof(in.session)));
	assert_int_equal(wire_name_ref_get(&c, &out), 0);
	assert_true(slice_eq(out.name, in.name));
	assert_int_equal(out.session, 0);
}

static void test_wire_too_long_is_refused(void **state)
{
	_cleanup_buf_ struct buf b = {0};
	_cleanup_free_ uint8_t *big = calloc(1, FIELDS_BYTES_MAX + 1);
	struct wire_xattr_reply m = {.value = slice_of(big, FIELDS_BYTES_MAX + 1)};

	assert_int_equal(wire_put_reply(&b, OP_XATTR_GET, 1, 0, &m, 0), ERR_LIMIT);
	assert_int_equal(b.len, 0);
}

static void test_wire_list(void **state)
{
	_cleanup_buf_ struct buf b = {0};
	struct cursor list, item;
	unsigned seen = 0;

	for (uint64_t i = 0; i < 5; i++) {
		struct wire_have have = {.id = i, .version = 7};
		WIRE_LIST_PUT(wire_have, &b, &have);
	}
	list = cursor_slice(buf_slice(&b));
	while (wire_list_next(&list, &item) == 1) {
		struct wire_have have;
		assert_int_equal(wire_have_get(&item, &have), 0);
		assert_int_equal(have.id, seen++);
	}
	assert_int_equal(seen, 5);
	list = cursor_of(b.data, b.len - 1);
	while ((seen = (unsigned)wire_list_next(&list, &item)) == 1)
		;
	assert_int_equal((int)seen, ERR_PROTOCOL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_err_numbers_are_unique_and_round_trip),
		cmocka_unit_test(test_err_context_grows_to_the_front),
		cmocka_unit_test(test_buf_remembers_failure),
		cmocka_unit_test(test_record_round_trip),
		cmocka_unit_test(test_record_every_truncation),
		cmocka_unit_test(test_record_array_limit),
		cmocka_unit_test(test_wire_table_is_sorted_and_complete),
		cmocka_unit_test(test_wire_message_round_trip),
		cmocka_unit_test(test_wire_header_refuses),
		cmocka_unit_test(test_wire_failure_reply),
		cmocka_unit_test(test_wire_leased_replies),
		cmocka_unit_test(test_wire_reads_without_a_session),
		cmocka_unit_test(test_wire_too_long_is_refused),
		cmocka_unit_test(test_wire_list),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
