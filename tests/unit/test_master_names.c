/* master: what names and inodes do beyond the ordinary (test_master_apply.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "tests/unit/apply_fixture.h"

static int release(uint64_t inode)
{
	struct cmd_release m = {.req = {.id = opid(), .inode = inode}};
	return apply(CMD_NUMBER_RELEASE, &m);
}

static void test_whiteouts(void **state)
{
	uint64_t f, d, white;

	make(1, "f", S_IFREG | 0644, 0, &f);
	make(1, "d", S_IFDIR | 0755, 0, &d);
	assert_int_equal(rename_name(1, "f", d, "g", RENAME_F_WHITEOUT), 0);
	assert_int_equal(lookup(d, "g"), f);
	white = lookup(1, "f");
	assert_int_equal(attr_of(white).mode, S_IFCHR);
	assert_int_equal(attr_of(white).rdev, 0);
	assert_int_equal(rename_name(1, "d", 1, "f", RENAME_F_WHITEOUT | RENAME_F_NOREPLACE),
			 ERR_EXIST);
	assert_int_equal(rename_name(1, "d", 1, "f", RENAME_F_WHITEOUT | RENAME_F_EXCHANGE),
			 ERR_INVAL);
	assert_int_equal(rename_name(1, "d", 1, "e", RENAME_F_WHITEOUT), 0);
	assert_int_equal(attr_of(1).nlink, 3);
	assert_int_equal(lookup(1, "e"), d);
	assert_int_equal(unlink_name(1, "d", false, 0), 0);
	assert_int_equal(rename_name(1, "e", 1, "x", 8), ERR_INVAL);
}

static void test_files_without_a_name(void **state)
{
	struct cmd_session_close end = {.session = session};
	uint64_t t, u;

	assert_int_equal(make(1, "name", S_IFREG | 0600, MAKE_TMPFILE, NULL), ERR_INVAL);
	assert_int_equal(make(1, "", S_IFDIR | 0700, MAKE_TMPFILE, NULL), ERR_INVAL);
	assert_int_equal(make(1, "", S_IFREG | 0600, MAKE_TMPFILE | MAKE_EXCL, &t), 0);
	assert_int_equal(attr_of(t).nlink, 0);
	check_invariants();
	assert_int_equal(link_name(t, 1, "t"), 0);
	assert_int_equal(attr_of(t).nlink, 1);
	assert_int_equal(release(t), 0);
	assert_int_equal(lookup(1, "t"), t);
	assert_int_equal(make(1, "", S_IFREG | 0600, MAKE_TMPFILE, &u), 0);
	assert_int_equal(chunk_make(u, 0, 2, NULL), 0);
	assert_int_equal(release(u), 0);
	assert_int_equal(link_name(u, 1, "u"), ERR_NOENT);
	/* The session's end takes those that got no name. */
	assert_int_equal(make(1, "", S_IFREG | 0600, MAKE_TMPFILE, &u), 0);
	do
		assert_int_equal(apply(CMD_NUMBER_SESSION_CLOSE, &end), 0);
	while (reply_cmd_closed().more);
	assert_int_equal(query_getattr(st, u, &(struct wire_attr){0}, NULL), ERR_NOENT);
}

static void test_what_is_removed_is_told(void **state)
{
	struct wire_attr attr;
	uint64_t f, d;

	make(1, "f", S_IFREG | 0644, 0, &f);
	make(1, "d", S_IFDIR | 0755, 0, &d);
	make(1, "e", S_IFDIR | 0755, 0, NULL);
	link_name(f, 1, "g");
	assert_int_equal(unlink_name(1, "f", false, 0), 0);
	assert_int_equal(reply_wire_unlink_reply().attr.inode, 0);
	assert_int_equal(unlink_name(1, "g", false, 0), 0);
	attr = reply_wire_unlink_reply().attr;
	assert_int_equal(attr.inode, f);
	assert_int_equal(attr.nlink, 0);
	assert_int_equal(attr.mode, S_IFREG | 0644);
	assert_int_equal(rename_name(1, "e", 1, "d", 0), 0);
	attr = reply_wire_rename_reply().attr;
	assert_int_equal(attr.inode, d);
	assert_int_equal(attr.nlink, 0);
	make(1, "x", S_IFDIR | 0755, 0, NULL);
	assert_int_equal(rename_name(1, "x", 1, "d", RENAME_F_EXCHANGE), 0);
	assert_int_equal(reply_wire_rename_reply().attr.inode, 0);
}

static void nlink_put(uint64_t inode, uint32_t nlink)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;

	assert_int_equal(state_get_row_inode(st, key_inode(inode), &row, &backing), 1);
	row.nlink = nlink;
	state_begin(st);
	state_put_row_inode(st, key_inode(inode), &row);
	assert_int_equal(state_commit(st), 0);
}

static void test_too_many_links(void **state)
{
	uint64_t f, d;

	make(1, "f", S_IFREG | 0644, 0, &f);
	make(1, "d", S_IFDIR | 0755, 0, &d);
	nlink_put(f, NLINK_MAX);
	nlink_put(d, NLINK_MAX);
	assert_int_equal(link_name(f, 1, "g"), ERR_MLINK);
	assert_int_equal(make(d, "sub", S_IFDIR | 0755, 0, NULL), ERR_MLINK);
	assert_int_equal(make(d, "file", S_IFREG | 0644, 0, NULL), 0);
	make(1, "e", S_IFDIR | 0755, 0, NULL);
	assert_int_equal(rename_name(1, "e", d, "e", 0), ERR_MLINK);
	nlink_put(f, 1);
	nlink_put(d, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_whiteouts),
		T(test_files_without_a_name),
		T(test_what_is_removed_is_told),
		T(test_too_many_links),
#undef T
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	buf_release(&history);
	return r;
}
