/* master: attributes, extended attributes and access control lists by command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "master/acl.h"
#include "tests/unit/apply_fixture.h"

static int set(uint64_t inode, uint32_t mask, uint32_t mode, uint32_t uid)
{
	struct cmd_setattr m = {.req = {.id = opid(), .inode = inode, .mask = mask, .mode = mode,
					.uid = uid}};
	return apply(CMD_NUMBER_SETATTR, &m);
}

static int xattr(uint64_t inode, const char *name, struct slice value, uint8_t flags)
{
	struct cmd_xattr_set m = {.req = {.id = opid(), .inode = inode, .name = slice_str(name),
					  .value = value, .flags = flags,
					  .cred = {.uid = 5, .gid = 6}}};
	return apply(CMD_NUMBER_XATTR_SET, &m);
}

static int value_of(uint64_t inode, const char *name, struct buf *value)
{
	struct wire_xattr_get get = {.inode = inode, .name = slice_str(name)};
	struct wire_xattr_reply rep;
	return query_xattr_get(st, &get, &rep, value, NULL);
}

static int64_t ctime_of(uint64_t inode)
{
	return attr_of(inode).ctime.sec;
}

static void test_names_of_xattrs(void **state)
{
	char name[300] = "user.";
	uint64_t s;

	make(1, "s", S_IFLNK | 0777, 0, &s);
	assert_int_equal(xattr(1, "", SLICE_LIT("v"), 0), ERR_RANGE);
	assert_int_equal(xattr(1, "user.", SLICE_LIT("v"), 0), ERR_INVAL);
	assert_int_equal(xattr(1, "other.x", SLICE_LIT("v"), 0), ERR_NOTSUP);
	assert_int_equal(xattr(1, "system.x", SLICE_LIT("v"), 0), ERR_NOTSUP);
	memset(name + 5, 'n', 251);
	assert_int_equal(xattr(1, name, SLICE_LIT("v"), 0), ERR_RANGE);
	name[255] = '\0';
	assert_int_equal(xattr(1, name, SLICE_LIT("v"), 0), 0);
	assert_int_equal(xattr(s, "user.x", SLICE_LIT("v"), 0), ERR_PERM);
	assert_int_equal(xattr(s, "trusted.x", SLICE_LIT("v"), 0), 0);
}

static void test_what_a_change_takes_away(void **state)
{
	_cleanup_buf_ struct buf value = {0};
	uint64_t f;

	make(1, "f", S_IFREG | 06755, 0, &f);
	xattr(f, "security.capability", SLICE_LIT("cap"), 0);
	assert_int_equal(set(f, SET_UID, 0, 77), 0);
	assert_int_equal(attr_of(f).mode & 07777, 0755);
	assert_int_equal(value_of(f, "security.capability", &value), ERR_NODATA);
	set(f, SET_MODE, 06755, 0);
	xattr(f, "security.capability", SLICE_LIT("cap"), 0);
	assert_int_equal(wrote(f, 0, 0), 0); /* by root */
	assert_int_equal(attr_of(f).mode & 07777, 06755);
	assert_int_equal(value_of(f, "security.capability", &value), ERR_NODATA);
	/* By others; without execution by the group the bit stays. */
	set(f, SET_MODE, 06745, 0);
	struct cmd_wrote w = {.req = {.id = opid(), .inode = f, .cred = {.uid = 5}}};
	assert_int_equal(apply(CMD_NUMBER_WROTE, &w), 0);
	assert_int_equal(attr_of(f).mode & 07777, 02745);
}

static void test_times_of_access(void **state)
{
	struct wire_attr before;
	uint64_t f;

	make(1, "f", S_IFREG | 0644, 0, &f);
	before = attr_of(f);
	assert_int_equal(set(f, SET_ACCESSED, 0, 0), 0);
	assert_true(attr_of(f).atime.sec > before.atime.sec);
	assert_int_equal(attr_of(f).change, before.change);
	assert_int_equal(ctime_of(f), before.ctime.sec);
	assert_int_equal(set(f, SET_ACCESSED | SET_MODE, 0, 0), ERR_INVAL);
	assert_int_equal(set(f, 0, 0, 0), 0); /* chown(-1, -1) */
	assert_true(ctime_of(f) > before.ctime.sec);
}

/* ---- access control lists ---- */

enum { U_OBJ = 1, U = 2, G_OBJ = 4, G = 8, MASK = 16, O = 32 };

static struct slice list(const struct acl_entry *entries, unsigned n)
{
	static struct buf value;

	buf_clear(&value);
	acl_encode(&(struct acl){n, (struct acl_entry *)(uintptr_t)entries}, &value);
	return buf_slice(&value);
}
#define LIST(...)                                                  \
	list((struct acl_entry[]){__VA_ARGS__},                    \
	     sizeof((struct acl_entry[]){__VA_ARGS__}) / sizeof(struct acl_entry))

static void assert_list(uint64_t inode, const char *name, struct slice expected)
{
	_cleanup_buf_ struct buf value = {0};

	assert_int_equal(value_of(inode, name, &value), 0);
	assert_true(slice_eq(buf_slice(&value), expected));
}

static const char access_list[] = "system.posix_acl_access";
static const char default_list[] = "system.posix_acl_default";

static void test_lists_and_modes(void **state)
{
	_cleanup_buf_ struct buf value = {0};
	uint64_t f, s;

	make(1, "f", S_IFREG | 02640, 0, &f);
	make(1, "s", S_IFLNK | 0777, 0, &s);
	assert_int_equal(xattr(f, access_list, LIST({U_OBJ, 7, 0}, {U, 6, 9}, {G_OBJ, 5, 0},
						    {MASK, 6, 0}, {O, 1, 0}), 0), 0);
	/* Not in the group: the set-group-id bit goes. */
	assert_int_equal(attr_of(f).mode & 07777, 0761);
	assert_int_equal(set(f, SET_MODE, 0640, 0), 0);
	assert_list(f, access_list, LIST({U_OBJ, 6, 0}, {U, 6, 9}, {G_OBJ, 5, 0}, {MASK, 4, 0},
					 {O, 0, 0}));
	assert_int_equal(xattr(f, access_list, LIST({U_OBJ, 6, 0}, {G_OBJ, 4, 0}, {O, 4, 0}), 0),
			 0);
	assert_int_equal(value_of(f, access_list, &value), ERR_NODATA);
	assert_int_equal(attr_of(f).mode & 07777, 0644);
	assert_int_equal(xattr(f, access_list, (struct slice){0}, XATTR_F_REMOVE), 0);
	assert_int_equal(xattr(s, access_list, LIST({U_OBJ, 6, 0}, {G_OBJ, 4, 0}, {O, 4, 0}), 0),
			 ERR_NOTSUP);
	assert_int_equal(xattr(f, default_list, LIST({U_OBJ, 6, 0}, {G_OBJ, 4, 0}, {O, 4, 0}), 0),
			 ERR_ACCES);
}

/* Who never had an extended attribute is known to have none; after that nothing is. */
static void test_bare(void **state)
{
	uint64_t d, f, in;

	make(1, "d", S_IFDIR | 0755, 0, &d);
	make(d, "f", S_IFREG | 0644, 0, &f);
	assert_true(attr_of(d).bare && attr_of(f).bare);
	assert_int_equal(xattr(f, "user.x", SLICE_LIT("v"), XATTR_F_REPLACE), ERR_NODATA);
	assert_true(attr_of(f).bare);
	assert_int_equal(xattr(f, "user.x", SLICE_LIT("v"), 0), 0);
	assert_false(attr_of(f).bare);
	assert_int_equal(xattr(f, "user.x", (struct slice){0}, XATTR_F_REMOVE), 0);
	assert_false(attr_of(f).bare);
	assert_int_equal(xattr(d, default_list, LIST({U_OBJ, 7, 0}, {U, 6, 9}, {G_OBJ, 5, 0},
						     {MASK, 6, 0}, {O, 1, 0}), 0), 0);
	assert_false(attr_of(d).bare);
	make(d, "in", S_IFREG | 0644, 0, &in);
	assert_false(attr_of(in).bare);
}

static void test_lists_that_are_none(void **state)
{
	static const uint8_t version[] = {1, 0, 0, 0};
	struct acl acl;

	assert_int_equal(acl_decode(SLICE_LIT("x"), &acl), ERR_INVAL);
	assert_int_equal(acl_decode(slice_of(version, 4), &acl), ERR_INVAL);
	assert_int_equal(acl_decode(LIST({U_OBJ, 7, 0}, {G_OBJ, 7, 0}), &acl), ERR_INVAL);
	assert_int_equal(acl_decode(LIST({U_OBJ, 8, 0}, {G_OBJ, 7, 0}, {O, 7, 0}), &acl),
			 ERR_INVAL);
	assert_int_equal(acl_decode(LIST({G_OBJ, 7, 0}, {U_OBJ, 7, 0}, {O, 7, 0}), &acl),
			 ERR_INVAL);
	assert_int_equal(acl_decode(LIST({U_OBJ, 7, 0}, {G_OBJ, 7, 0}, {3, 7, 0}, {O, 7, 0}),
				    &acl), ERR_INVAL);
	assert_int_equal(acl_decode(LIST({U_OBJ, 7, 0}, {U, 7, 1}, {G_OBJ, 7, 0}, {O, 7, 0}),
				    &acl), ERR_INVAL);
	assert_int_equal(acl_decode(LIST({U_OBJ, 7, 0}, {U_OBJ, 7, 0}, {G_OBJ, 7, 0}, {O, 7, 0}),
				    &acl), ERR_INVAL);
	assert_int_equal(acl_decode(LIST({U_OBJ, 7, 0}, {U, 7, UINT32_MAX}, {G_OBJ, 7, 0},
					 {MASK, 7, 0}, {O, 7, 0}), &acl), ERR_INVAL);
	assert_int_equal(acl_decode(list(NULL, 0), &acl), 0);
	assert_int_equal(acl.n, 0);
}

static int make_masked(uint64_t parent, const char *name, uint32_t mode, uint64_t *ret)
{
	struct cmd_make m = {.req = {.id = opid(), .parent = parent, .name = slice_str(name),
				     .mode = mode, .cred = {.umask = 077}}};
	int r = apply(CMD_NUMBER_MAKE, &m);

	*ret = r == 0 ? reply_wire_make_reply().attr.inode : 0;
	return r;
}

static void test_lists_are_inherited(void **state)
{
	_cleanup_buf_ struct buf value = {0};
	uint64_t d, f, sub;

	make(1, "d", S_IFDIR | 0755, 0, &d);
	assert_int_equal(make_masked(d, "masked", S_IFREG | 0666, &f), 0);
	assert_int_equal(attr_of(f).mode & 07777, 0600);
	xattr(d, default_list, LIST({U_OBJ, 7, 0}, {G_OBJ, 7, 0}, {G, 5, 3}, {MASK, 7, 0},
				    {O, 4, 0}), 0);
	assert_int_equal(make_masked(d, "f", S_IFREG | 0664, &f), 0);
	assert_int_equal(attr_of(f).mode & 07777, 0664);
	assert_list(f, access_list, LIST({U_OBJ, 6, 0}, {G_OBJ, 7, 0}, {G, 5, 3}, {MASK, 6, 0},
					 {O, 4, 0}));
	assert_int_equal(value_of(f, default_list, &value), ERR_NODATA);
	assert_int_equal(make_masked(d, "sub", S_IFDIR | 0700, &sub), 0);
	assert_int_equal(attr_of(sub).mode & 07777, 0700);
	assert_list(sub, default_list, LIST({U_OBJ, 7, 0}, {G_OBJ, 7, 0}, {G, 5, 3}, {MASK, 7, 0},
					    {O, 4, 0}));
	/* Gone with the inode. */
	assert_int_equal(unlink_name(d, "f", false, 0), 0);
	assert_int_equal(unlink_name(d, "sub", true, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_names_of_xattrs),
		T(test_what_a_change_takes_away),
		T(test_times_of_access),
		T(test_lists_and_modes),
		T(test_bare),
		T(test_lists_that_are_none),
		T(test_lists_are_inherited),
#undef T
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	buf_release(&history);
	return r;
}
