/* master: a server is taken off the list, when no chunk needs it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "tests/unit/raise_fixture.h"

enum { GARBAGE = 3 * CMD_GARBAGE_MAX + 7 };

static bool listed(uint32_t server)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_server r;

	return state_get_row_server(m.st, key_server(server), &r, &backing) == 1;
}

static void remove_server(uint32_t server)
{
	struct cmd_server_remove cmd = {.server = server};

	propose_now(CMD_NUMBER_SERVER_REMOVE, &cmd);
}

/* The ids were given out, and the chunks are gone. */
static void add_garbage(uint32_t server)
{
	struct cmd_make make = {.req = {.parent = ROOT_INODE, .mode = S_IFREG | 0644,
					.flags = MAKE_CHUNK}, .n_members = 1};
	struct cmd_unlink gone = {.req = {.parent = ROOT_INODE}};
	char name[16];

	for (uint64_t i = 0; i < GARBAGE; i++) {
		snprintf(name, sizeof(name), "f%u", (unsigned)i);
		make.req.name = gone.req.name = slice_str(name);
		make.req.id = (struct wire_opid){1, 10 + 2 * i, 10 + 2 * i};
		gone.req.id = (struct wire_opid){1, 11 + 2 * i, 11 + 2 * i};
		make.members[0].server = server;
		propose_now(CMD_NUMBER_MAKE, &make);
		propose_now(CMD_NUMBER_UNLINK, &gone);
	}
}

static uint64_t garbage_rows(void)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_meta meta;

	assert_int_equal(state_get_row_meta(m.st, key_meta(), &meta, &backing), 1);
	return meta.garbage;
}

static void test_a_member_stays(void **unused)
{
	remove_server(1);
	assert_true(listed(1));
	remove_server(99);
	remove_server(5);
	assert_false(listed(5));
}

static void test_one_that_is_joining_stays(void **unused)
{
	struct cmd_chunk_raise raise = {.chunk = CHUNK, .version = 1, .n_members = 1,
					.members = {{.server = 1}}, .n_joining = 1,
					.joining = {{.server = 4}}};

	propose_now(CMD_NUMBER_CHUNK_RAISE, &raise);
	remove_server(4);
	assert_true(listed(4));
	remove_server(5);
	assert_false(listed(5));
}

/* In steps, each of which touches a bounded number of rows. */
static void test_what_was_to_be_deleted_there_is_forgotten(void **unused)
{
	unsigned steps = 0;

	add_garbage(5);
	assert_int_equal(garbage_rows(), GARBAGE);
	while (listed(5) && steps++ < 10)
		remove_server(5);
	assert_in_range(steps, 2, 5);
	assert_int_equal(garbage_rows(), 0);
}

static void test_nothing_is_placed_there_any_more(void **unused)
{
	struct cmd_chunk_raise raise = {.chunk = CHUNK, .version = 1, .n_members = 1,
					.members = {{.server = 1}}, .n_joining = 1,
					.joining = {{.server = 4}}};
	static uint8_t uuid[UUID_BYTES] = {4};
	struct cmd_server_register again = {.uuid = slice_of(uuid, UUID_BYTES),
					    .addr = SLICE_LIT("127.0.0.1:1")};

	remove_server(4);
	propose_now(CMD_NUMBER_CHUNK_RAISE, &raise);
	assert_string_equal(chunk_text(), "v1 1,2,3");
	/* One that comes back is another one. */
	propose_now(CMD_NUMBER_SERVER_REGISTER, &again);
	assert_false(listed(4));
	assert_true(listed(6));
}

static void test_what_is_known_of_it_is_forgotten(void **unused)
{
	csreg_mark(&m.servers, CHUNK, 5, MARK_STALE);
	csreg_mark(&m.servers, CHUNK, 1, MARK_STALE);
	link_down(5);
	csreg_remove(&m.servers, 5);
	assert_null(csreg_find(&m.servers, 5));
	assert_int_equal(csreg_marked(&m.servers, CHUNK, 5), 0);
	assert_int_equal(csreg_marked(&m.servers, CHUNK, 1), MARK_STALE);
	assert_non_null(csreg_add(&m.servers, 5)); /* for the end of the test */
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_member_stays),
		T(test_one_that_is_joining_stays),
		T(test_what_was_to_be_deleted_there_is_forgotten),
		T(test_nothing_is_placed_there_any_more),
		T(test_what_is_known_of_it_is_forgotten),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
