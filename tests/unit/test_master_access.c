/* master: who may do what (master/access.h), against what Linux documents of modes, lists, groups, the
 * sticky bit and owners; that apply asks too; exports: what lies outside is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "master/access.h"
#include "master/acl.h"
#include "master/rpc_client.h"
#include "tests/unit/apply_fixture.h"

enum { OWNER = 1000, MATE = 1001, GUEST = 1002, GROUP = 50, OTHER_GROUP = 60,
       R = ACCESS_READ, W = ACCESS_WRITE, X = ACCESS_EXEC };

static struct wire_cred who(uint32_t uid, uint32_t gid)
{
	return (struct wire_cred){.uid = uid, .gid = gid, .flags = CRED_CHECK};
}

static uint64_t make_as(struct wire_cred cred, uint64_t parent, const char *name, uint32_t mode)
{
	struct cmd_make m = {.req = {.id = opid(), .cred = cred, .parent = parent,
				     .name = slice_str(name), .mode = mode}};
	assert_int_equal(apply(CMD_NUMBER_MAKE, &m), 0);
	return reply_wire_make_reply().attr.inode;
}

/* Of OWNER and GROUP, in the root, whoever may write there. */
static uint64_t owned(const char *name, uint32_t mode)
{
	struct wire_cred cred = {.uid = OWNER, .gid = GROUP};
	return make_as(cred, ROOT_INODE, name, mode);
}

static int opens(struct wire_cred cred, uint64_t inode, uint8_t access)
{
	struct wire_inode_ref req = {.cred = cred, .inode = inode, .access = access};
	return access_getattr(st, &req);
}

static void set_acl(uint64_t inode, struct slice name, const struct acl_entry *entries, unsigned n)
{
	struct acl acl = {.n = n, .entries = (struct acl_entry *)(uintptr_t)entries};
	_cleanup_buf_ struct buf value = {0};
	struct cmd_xattr_set m = {.req = {.id = opid(), .inode = inode, .name = name}};

	acl_encode(&acl, &value);
	m.req.value = buf_slice(&value);
	assert_int_equal(apply(CMD_NUMBER_XATTR_SET, &m), 0);
}

/* ---- one inode ---- */

static void test_modes(void **state)
{
	static const struct { uint32_t uid, gid, group, mode; uint8_t want; int code; } rows[] = {
		{OWNER, 1, 0, 0400, R, 0}, {OWNER, 1, 0, 0400, W, ERR_ACCES},
		{OWNER, GROUP, 0, 0077, R, ERR_ACCES}, /* the owner's own bits count, no others */
		{MATE, GROUP, 0, 0040, R, 0}, {MATE, GROUP, 0, 0704, R, ERR_ACCES},
		{MATE, 1, GROUP, 0020, W, 0}, {MATE, 1, OTHER_GROUP, 0020, W, ERR_ACCES},
		{GUEST, 1, 0, 0006, R | W, 0}, {GUEST, 1, 0, 0004, R | W, ERR_ACCES},
		{GUEST, 1, 0, 0770, X, ERR_ACCES}, {0, 0, 0, 0000, R | W, 0},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct wire_cred cred = who(rows[i].uid, rows[i].gid);
		char name[16];
		uint64_t f;
		snprintf(name, sizeof(name), "f%zu", i);
		f = owned(name, S_IFREG | rows[i].mode);
		cred.groups[0] = rows[i].group;
		cred.n_groups = rows[i].group != 0;
		if (opens(cred, f, rows[i].want) != rows[i].code)
			fail_msg("row %zu: %d", i, opens(cred, f, rows[i].want));
		cred.flags = 0;
		assert_int_equal(opens(cred, f, rows[i].want), 0); /* nobody is asked */
	}
}

static void test_lists(void **state)
{
	static const struct acl_entry list[] = {
		{0x01, 7, UINT32_MAX}, {0x02, 7, MATE}, {0x02, 0, GUEST}, {0x04, 4, UINT32_MAX},
		{0x08, 6, OTHER_GROUP}, {0x10, 6, UINT32_MAX}, {0x20, 1, UINT32_MAX}};
	uint64_t f = owned("f", S_IFREG | 0600);
	struct wire_cred both = who(2000, GROUP);

	set_acl(f, ACL_ACCESS, list, ARRAY_LEN(list));
	assert_int_equal(opens(who(OWNER, 1), f, R | W | X), 0); /* the mask is not for the owner */
	assert_int_equal(opens(who(MATE, 1), f, R | W), 0);
	assert_int_equal(opens(who(MATE, 1), f, X), ERR_ACCES); /* the mask */
	assert_int_equal(opens(who(GUEST, GROUP), f, R), ERR_ACCES); /* the user's entry decides */
	assert_int_equal(opens(who(2000, GROUP), f, R), 0);
	assert_int_equal(opens(who(2000, GROUP), f, W), ERR_ACCES);
	assert_int_equal(opens(who(2000, GROUP), f, X), ERR_ACCES); /* in a group: not others' entry */
	assert_int_equal(opens(who(2000, 1), f, X), 0);
	both.groups[both.n_groups++] = OTHER_GROUP;
	assert_int_equal(opens(both, f, R | W), 0); /* any one group's will do */
}

/* ---- names ---- */

static int makes(struct wire_cred cred, uint64_t parent, const char *name, uint32_t mode)
{
	struct wire_make req = {.cred = cred, .parent = parent, .name = slice_str(name),
				.mode = mode};
	return access_make(st, &req);
}
static int unlinks(struct wire_cred cred, uint64_t parent, const char *name)
{
	struct wire_unlink req = {.cred = cred, .parent = parent, .name = slice_str(name)};
	return access_unlink(st, &req);
}
static int renames(struct wire_cred cred, uint64_t from, const char *a, uint64_t to, const char *b)
{
	struct wire_rename req = {.cred = cred, .parent = from, .name = slice_str(a),
				  .new_parent = to, .new_name = slice_str(b)};
	return access_rename(st, &req);
}
static int looks_up(struct wire_cred cred, uint64_t parent, const char *name)
{
	struct wire_name_ref req = {.cred = cred, .parent = parent, .name = slice_str(name)};
	return access_lookup(st, &req);
}

static void test_names(void **state)
{
	uint64_t shut = owned("shut", S_IFDIR | 0700), see = owned("see", S_IFDIR | 0755);
	uint64_t tmp = owned("tmp", S_IFDIR | 01777), dir;
	struct wire_readdir list = {.cred = who(GUEST, 1), .inode = shut};

	make_as(who(OWNER, GROUP), see, "f", S_IFREG | 0644);
	assert_int_equal(looks_up(who(GUEST, 1), shut, "f"), ERR_ACCES);
	assert_int_equal(looks_up(who(GUEST, 1), see, "f"), 0);
	assert_int_equal(access_readdir(st, &list), ERR_ACCES);
	assert_int_equal(makes(who(GUEST, 1), see, "new", S_IFREG), ERR_ACCES);
	assert_int_equal(makes(who(GUEST, 1), see, "f", S_IFREG), 0); /* it exists: told so */
	assert_int_equal(unlinks(who(GUEST, 1), see, "f"), ERR_ACCES);
	assert_int_equal(unlinks(who(GUEST, 1), see, "none"), 0); /* nothing to refuse */
	assert_int_equal(makes(who(OWNER, 1), see, "dev", S_IFCHR), ERR_PERM);
	assert_int_equal(makes(who(OWNER, 1), see, "fifo", S_IFIFO), 0);

	/* The sticky bit: only the owners of the name's inode and of the directory. */
	make_as(who(MATE, GROUP), tmp, "mates", S_IFREG | 0666);
	assert_int_equal(unlinks(who(GUEST, GROUP), tmp, "mates"), ERR_PERM);
	assert_int_equal(unlinks(who(MATE, 1), tmp, "mates"), 0);
	assert_int_equal(unlinks(who(OWNER, 1), tmp, "mates"), 0);
	assert_int_equal(renames(who(GUEST, 1), tmp, "mates", tmp, "x"), ERR_PERM);
	make_as(who(GUEST, 1), tmp, "guests", S_IFREG | 0666);
	assert_int_equal(renames(who(GUEST, 1), tmp, "guests", tmp, "mates"), ERR_PERM);
	assert_int_equal(renames(who(GUEST, 1), tmp, "guests", tmp, "x"), 0);

	/* Nobody keeps what is another's by a name of his own, unless he could change it anyway. */
	struct wire_link link = {.cred = who(GUEST, 1), .parent = tmp, .name = SLICE_LIT("kept"),
				 .inode = lookup(see, "f")};
	assert_int_equal(access_link(st, &link), ERR_PERM);
	link.inode = lookup(tmp, "mates");
	assert_int_equal(access_link(st, &link), 0);

	/* A directory that moves gets another `..`: it is written to. */
	dir = make_as(who(MATE, GROUP), tmp, "dir", S_IFDIR | 0500);
	make_as(who(MATE, GROUP), tmp, "to", S_IFDIR | 0700);
	assert_int_equal(renames(who(MATE, 1), tmp, "dir", tmp, "dir2"), 0);
	assert_int_equal(renames(who(MATE, 1), tmp, "dir", lookup(tmp, "to"), "dir"), ERR_ACCES);
	assert_int_not_equal(dir, 0);
}

/* ---- attributes, data ---- */

static int sets(struct wire_cred cred, uint64_t inode, uint32_t mask, uint32_t uid, uint32_t gid)
{
	struct wire_setattr req = {.cred = cred, .inode = inode, .mask = mask, .uid = uid, .gid = gid};
	return access_setattr(st, &req);
}

static void test_attributes(void **state)
{
	uint64_t f = owned("f", S_IFREG | 0464);
	struct wire_cred owner = who(OWNER, 1), mate = who(MATE, GROUP);

	owner.groups[owner.n_groups++] = OTHER_GROUP;
	assert_int_equal(sets(owner, f, SET_MODE, 0, 0), 0);
	assert_int_equal(sets(mate, f, SET_MODE, 0, 0), ERR_PERM);
	assert_int_equal(sets(owner, f, SET_GID, 0, OTHER_GROUP), 0);
	assert_int_equal(sets(owner, f, SET_GID, 0, 77), ERR_PERM);
	assert_int_equal(sets(owner, f, SET_GID, 0, GROUP), 0); /* as it is */
	assert_int_equal(sets(owner, f, SET_UID, MATE, 0), ERR_PERM);
	assert_int_equal(sets(owner, f, SET_UID, OWNER, 0), 0);
	assert_int_equal(sets(who(0, 0), f, SET_UID | SET_GID, MATE, 77), 0);
	assert_int_equal(sets(mate, f, SET_MTIME, 0, 0), ERR_PERM);
	assert_int_equal(sets(mate, f, SET_MTIME_NOW, 0, 0), 0); /* who may write may touch */
	assert_int_equal(sets(who(GUEST, 1), f, SET_ATIME_NOW, 0, 0), ERR_ACCES);
	assert_int_equal(sets(mate, f, SET_SIZE, 0, 0), 0);
	assert_int_equal(sets(who(GUEST, 1), f, SET_SIZE, 0, 0), ERR_ACCES);
}

static void test_xattrs(void **state)
{
	static const struct { const char *name; uint32_t uid; int set, get; } rows[] = {
		{"user.a", OWNER, 0, 0}, {"user.a", GUEST, ERR_ACCES, 0},
		{"trusted.a", OWNER, ERR_PERM, ERR_NODATA}, {"trusted.a", 0, 0, 0},
		{"security.a", OWNER, ERR_PERM, 0},
		{"system.posix_acl_access", OWNER, 0, 0}, {"system.posix_acl_access", GUEST, ERR_PERM, 0},
	};
	uint64_t f = owned("f", S_IFREG | 0644), hidden = owned("h", S_IFREG | 0600);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct wire_xattr_set set = {.cred = who(rows[i].uid, 1), .inode = f,
					     .name = slice_str(rows[i].name)};
		struct wire_xattr_get get = {.cred = set.cred, .inode = f, .name = set.name};
		assert_int_equal(access_xattr_set(st, &set), rows[i].set);
		assert_int_equal(access_xattr_get(st, &get), rows[i].get);
		get.inode = hidden;
		if (rows[i].uid == GUEST && rows[i].name[0] == 'u')
			assert_int_equal(access_xattr_get(st, &get), ERR_ACCES);
	}
}

/* What xattr(7) says of trusted.: others do not even learn the names. */
static void test_xattr_names(void **state)
{
	static const struct { uint32_t uid; uint8_t flags; bool all; } rows[] = {
		{OWNER, CRED_CHECK, false}, {GUEST, CRED_CHECK, false}, {0, CRED_CHECK, true},
		{OWNER, 0, true}, /* its kernel hides them from whom it has to */
	};
	static const char *const names[] = {"trusted.a", "user.b", "trusted.c"};
	uint64_t f = owned("f", S_IFREG | 0644);

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct cmd_xattr_set m = {.req = {.id = opid(), .inode = f,
						  .name = slice_str(names[i])}};
		assert_int_equal(apply(CMD_NUMBER_XATTR_SET, &m), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct wire_inode_ref req = {
			.inode = f, .cred = {.uid = rows[i].uid, .flags = rows[i].flags}};
		_cleanup_buf_ struct buf backing = {0};
		struct wire_xattr_reply rep;
		struct slice want = rows[i].all ? SLICE_LIT("trusted.a\0trusted.c\0user.b\0")
						: SLICE_LIT("user.b\0");
		assert_int_equal(query_xattr_list(st, &req, &rep, &backing, NULL), 0);
		if (!slice_eq(rep.value, want))
			fail_msg("row %zu: %u bytes", i, rep.value.len);
	}
}

static void test_data(void **state)
{
	uint64_t f = owned("f", S_IFREG | 0040);
	struct wire_locate locate = {.cred = who(MATE, GROUP), .inode = f};
	struct wire_wrote wrote = {.cred = who(MATE, GROUP), .inode = f};
	struct wire_lock lock = {.cred = who(MATE, GROUP), .inode = f, .kind = LOCK_RANGE,
				 .type = LOCK_SHARED};

	assert_int_equal(access_locate(st, &locate), 0);
	assert_int_equal(access_wrote(st, &wrote), ERR_ACCES);
	assert_int_equal(access_lock(st, &lock), 0);
	lock.type = LOCK_EXCLUSIVE;
	assert_int_equal(access_lock(st, &lock), ERR_ACCES);
	lock.kind = LOCK_APPEND;
	assert_int_equal(access_lock(st, &lock), ERR_ACCES);
	lock.type = LOCK_FREE; /* got when it was permitted: others wait for it */
	assert_int_equal(access_lock(st, &lock), 0);
	/* Who has none may wait for one, or ask whose it is, when he could have the file open. */
	assert_int_equal(access_lock_look(st, &lock.cred, f), 0);
	lock.cred = who(GUEST, 1);
	assert_int_equal(access_lock_look(st, &lock.cred, f), ERR_ACCES);
	assert_int_equal(access_lock_look(st, &lock.cred, owned("w", S_IFREG | 0002)), 0);
	/* An owner may have it open since before the mode was this; but does not open it now. */
	locate.cred = wrote.cred = who(OWNER, 1);
	assert_int_equal(access_locate(st, &locate), 0);
	assert_int_equal(access_wrote(st, &wrote), 0);
	assert_int_equal(opens(who(OWNER, 1), f, R), ERR_ACCES);
	locate.cred = who(GUEST, 1);
	assert_int_equal(access_locate(st, &locate), ERR_ACCES);
}

/* The check that counts is where it is applied: what was permitted when it was proposed may not be any
 * more. */
static void test_apply_asks(void **state)
{
	uint64_t dir = owned("dir", S_IFDIR | 0777), f = owned("f", S_IFREG | 02755);
	struct cmd_make make = {.req = {.cred = who(GUEST, 1), .parent = dir, .name = SLICE_LIT("a"),
					.mode = S_IFREG | 0644}};
	struct cmd_setattr shut = {.req = {.cred = who(OWNER, 1), .inode = dir, .mask = SET_MODE,
					   .mode = 0755}};
	struct cmd_setattr mode = {.req = {.cred = who(OWNER, 1), .inode = f, .mask = SET_MODE,
					   .mode = 02755}};

	make.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_MAKE, &make), 0);
	shut.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_SETATTR, &shut), 0);
	make.req.name = SLICE_LIT("b");
	make.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_MAKE, &make), ERR_ACCES);
	assert_int_equal(lookup(dir, "b"), 0);
	assert_int_equal(apply(CMD_NUMBER_MAKE, &make), ERR_ACCES); /* a retry: the same answer */
	/* Not in the file's group: set-group-id is not set. */
	mode.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_SETATTR, &mode), 0);
	assert_int_equal(attr_of(f).mode & 07777, 0755);
}

/* That set-id bits were set after what was written is believed of who can set them. */
static void test_keeps_privileges(void **state)
{
	uint64_t f = owned("f", S_IFREG | 04777);
	struct cmd_wrote wrote = {.req = {.cred = who(OWNER, GROUP), .inode = f,
					  .flags = WROTE_KEEP_PRIV}};

	wrote.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_WROTE, &wrote), 0);
	assert_int_equal(attr_of(f).mode & 07777, 04777);
	wrote.req.cred = who(GUEST, 1);
	wrote.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_WROTE, &wrote), 0);
	assert_int_equal(attr_of(f).mode & 07777, 0777);
}

static int has_capability(uint64_t inode)
{
	struct wire_xattr_get get = {.inode = inode, .name = SLICE_LIT("security.capability")};
	_cleanup_buf_ struct buf backing = {0};
	struct wire_xattr_reply rep;
	return query_xattr_get(st, &get, &rep, &backing, NULL) == 0;
}

/* Who could not set them gets no place to write to while they are there: the entry that makes the chunk,
 * or tells of the one that is there, takes them. */
static void test_strips_before_bytes(void **state)
{
	static const struct { struct wire_cred cred; uint32_t mode; bool capability; } rows[] = {
		{{.uid = GUEST, .flags = CRED_CHECK}, 0777, false},
		{{.uid = OWNER, .gid = GROUP, .flags = CRED_CHECK}, 06777, false}, /* with his WROTE */
		{{.uid = OWNER, .flags = CRED_CHECK}, 0777, false}, /* another group's is not his to set */
		{{.uid = 0, .flags = CRED_CHECK}, 06777, true},
		{{.uid = GUEST}, 06777, true}, /* by his kernel */
	};

	for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
		const size_t row = i / 2;
		struct cmd_chunk_make chunk = {.req = {.cred = rows[row].cred}, .n_members = 1};
		struct cmd_xattr_set set = {.req = {.name = SLICE_LIT("security.capability")}};
		struct cmd_setattr mode = {.req = {.mask = SET_MODE, .mode = 06777}};
		char name[16];
		uint64_t f;

		snprintf(name, sizeof(name), "f%zu", i);
		f = chunk.req.inode = set.req.inode = mode.req.inode = owned(name, S_IFREG | 0777);
		chunk.members[0].server = 1;
		if (i % 2) { /* there is a chunk already */
			chunk.req.id = opid();
			assert_int_equal(apply(CMD_NUMBER_CHUNK_MAKE, &chunk), 0);
		}
		mode.req.id = opid();
		assert_int_equal(apply(CMD_NUMBER_SETATTR, &mode), 0);
		set.req.id = opid();
		assert_int_equal(apply(CMD_NUMBER_XATTR_SET, &set), 0);
		assert_int_equal(access_strips(st, &rows[row].cred, f) != 0, !rows[row].capability);
		chunk.req.id = opid();
		assert_int_equal(apply(CMD_NUMBER_CHUNK_MAKE, &chunk), 0);
		if ((attr_of(f).mode & 07777) != rows[row].mode ||
		    has_capability(f) != rows[row].capability)
			fail_msg("row %zu: mode %o", row, attr_of(f).mode);
		assert_int_equal(reply_wire_chunk_reply().attr.change, attr_of(f).change);
		assert_int_equal(access_strips(st, &rows[row].cred, f), 0);
	}
}

/* A capability is root's to set: an owner's word does not keep it. */
static void test_keeps_capability(void **state)
{
	uint64_t f = owned("f", S_IFREG | 0777);
	struct cmd_xattr_set set = {.req = {.id = opid(), .inode = f,
					    .name = SLICE_LIT("security.capability")}};
	struct cmd_wrote wrote = {.req = {.inode = f, .flags = WROTE_KEEP_PRIV}};

	assert_int_equal(apply(CMD_NUMBER_XATTR_SET, &set), 0);
	wrote.req.cred = who(0, 0);
	wrote.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_WROTE, &wrote), 0);
	assert_true(has_capability(f));
	wrote.req.cred = who(OWNER, GROUP);
	wrote.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_WROTE, &wrote), 0);
	assert_false(has_capability(f));
}

/* ---- exports ---- */

static int export_set(const char *name, uint64_t dir, uint8_t flags, uint32_t sessions)
{
	struct cmd_export_set m = {.req = {.name = slice_str(name), .inode = dir, .flags = flags,
					   .uid = 9, .gid = 9, .sessions_max = sessions}};
	return apply(CMD_NUMBER_EXPORT_SET, &m);
}

static int quota_set(uint64_t dir, uint8_t flags)
{
	struct cmd_quota_set m = {.req = {.inode = dir, .flags = flags}};
	return apply(CMD_NUMBER_QUOTA_SET, &m);
}

static int session_open(const char *export, uint64_t nonce)
{
	struct cmd_session_open m = {.req = {.name = SLICE_LIT("t"), .nonce = nonce},
				     .credential = SLICE_LIT("client/c"),
				     .export = slice_str(export)};
	return apply(CMD_NUMBER_SESSION_OPEN, &m);
}

static void test_export_rows(void **state)
{
	uint64_t d = owned("d", S_IFDIR | 0755), f = owned("f", S_IFREG | 0644);
	uint64_t d2 = owned("d2", S_IFDIR | 0755);
	struct wire_session told;

	assert_int_equal(export_set("x", d, 0, 2), ERR_NODATA); /* no quota */
	assert_int_equal(quota_set(d, 0), 0);
	assert_int_equal(export_set("x", d, 0, 2), 0);
	assert_int_equal(export_set("x", f, 0, 2), ERR_NOTDIR);
	assert_int_equal(export_set("../x", d, 0, 2), ERR_INVAL);
	assert_int_equal(export_set("x", d, EXPORT_ROOT_SQUASH | EXPORT_ALL_SQUASH, 2), ERR_INVAL);
	assert_int_equal(quota_set(d, QUOTA_REMOVE), ERR_BUSY);
	assert_int_equal(session_open("y", 20), ERR_PERM);
	assert_int_equal(session_open("x", 21), 0);
	told = reply_wire_session();
	assert_int_equal(told.root, d);
	assert_int_equal(told.checked, 0);
	assert_int_equal(session_open("x", 22), 0);
	assert_int_equal(session_open("x", 23), ERR_LIMIT);
	assert_int_equal(session_open("x", 22), 0); /* asked again: the same one */
	/* Its sessions end when it is of others than it was (or of none), not by a limit. */
	assert_int_equal(export_set("x", d, EXPORT_READ_ONLY, 3), 0);
	assert_false(result.remapped);
	assert_int_equal(export_set("x", d, EXPORT_ROOT_SQUASH, 3), 0);
	assert_true(result.remapped);
	assert_int_equal(export_set("x", f, EXPORT_ROOT_SQUASH, 3), ERR_NOTDIR);
	assert_false(result.remapped);
	assert_int_equal(session_open("x", 23), 0);
	assert_int_equal(reply_wire_session().checked, 1);
	assert_int_equal(quota_set(d2, 0), 0);
	assert_int_equal(export_set("x", d2, EXPORT_ROOT_SQUASH, 3), 0);
	assert_true(result.remapped);
	assert_int_equal(export_set("x", d, EXPORT_ROOT_SQUASH, 3), 0);
	assert_int_equal(export_set("x", 0, EXPORT_REMOVE, 0), 0);
	assert_true(result.remapped);
	assert_int_equal(export_set("x", 0, EXPORT_REMOVE, 0), ERR_NODATA);
	assert_int_equal(session_open("x", 24), ERR_PERM);
	assert_int_equal(quota_set(d, QUOTA_REMOVE), 0);
}

/* A session is its credential's. One of a master that did not note whose it is goes on, but not for
 * an export's clients, who had none then. */
static void test_sessions_owner(void **state)
{
	struct master m = {0};
	struct tls_conn tls = {.peer = {.role = ROLE_CLIENT, .name = "c"}};
	struct peer peer = {.tls = &tls};
	struct session_clock *s;

	assert_true(peer_owns(&m, &peer, 7)); /* there is none */
	session_seen(&m, 7);
	s = session_find(&m, 7);
	assert_non_null(s);
	assert_true(peer_owns(&m, &peer, 7));
	snprintf(s->credential, sizeof(s->credential), "client/other");
	assert_false(peer_owns(&m, &peer, 7));
	snprintf(s->credential, sizeof(s->credential), "client/c");
	assert_true(peer_owns(&m, &peer, 7));
	snprintf(tls.peer.export, sizeof(tls.peer.export), "x");
	assert_false(peer_owns(&m, &peer, 7));
	s->credential[0] = '\0';
	assert_false(peer_owns(&m, &peer, 7));
	session_forget(&m, 7);
}

/* Whoever asks, root too: what is not counted in the export's quota, or one in it, is not there. */
static void test_confined(void **state)
{
	uint64_t in = owned("in", S_IFDIR | 0777), out = owned("out", S_IFDIR | 0777), deep, f, g;
	struct wire_cred cred = {.within = 1};
	struct wire_link link = {.cred = cred, .parent = in, .name = SLICE_LIT("l")};
	struct cmd_wrote wrote = {.req = {.cred = cred}};
	struct wire_name_ref up = {.cred = cred, .parent = in, .name = SLICE_LIT("..")};
	struct wire_attr_reply rep;

	assert_int_equal(quota_set(in, 0), 0);
	deep = make_as(cred, in, "deep", S_IFDIR | 0777);
	f = make_as(cred, deep, "f", S_IFREG | 0600);
	g = owned("g", S_IFREG | 0666);
	assert_int_equal(quota_set(deep, 0), 0); /* one in the other */
	assert_int_equal(access_inode(st, &cred, f), 0);
	assert_int_equal(access_inode(st, &cred, in), 0);
	assert_int_equal(access_inode(st, &cred, deep), 0);
	assert_int_equal(access_inode(st, &cred, g), ERR_NOENT);
	assert_int_equal(access_inode(st, &cred, out), ERR_NOENT);
	assert_int_equal(access_inode(st, &cred, ROOT_INODE), ERR_NOENT);
	assert_int_equal(access_inode(st, &cred, 1 << 20), ERR_NOENT); /* as if it were not there */
	assert_int_equal(opens(cred, g, 0), ERR_NOENT);
	assert_int_equal(looks_up(cred, ROOT_INODE, "g"), ERR_NOENT);
	assert_int_equal(makes(cred, out, "new", S_IFREG), ERR_NOENT);
	assert_int_equal(unlinks(cred, ROOT_INODE, "g"), ERR_NOENT);
	assert_int_equal(renames(cred, in, "deep", out, "deep"), ERR_NOENT);
	assert_int_equal(renames(cred, out, "x", in, "x"), ERR_NOENT);
	assert_int_equal(sets(cred, g, SET_MODE, 0, 0), ERR_NOENT);
	link.inode = g;
	assert_int_equal(access_link(st, &link), ERR_NOENT);
	link.inode = f;
	assert_int_equal(access_link(st, &link), 0);
	wrote.req.inode = g;
	wrote.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_WROTE, &wrote), ERR_NOENT);
	/* Its own `..`, and no way on. */
	assert_int_equal(query_lookup(st, &up, &rep, NULL), 0);
	assert_int_equal(rep.attr.inode, in);
	up.parent = deep;
	assert_int_equal(query_lookup(st, &up, &rep, NULL), 0);
	assert_int_equal(rep.attr.inode, in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_modes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lists, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attributes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_xattrs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_xattr_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_data, setup, teardown),
		cmocka_unit_test_setup_teardown(test_apply_asks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keeps_privileges, setup, teardown),
		cmocka_unit_test_setup_teardown(test_strips_before_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keeps_capability, setup, teardown),
		cmocka_unit_test_setup_teardown(test_export_rows, setup, teardown),
		cmocka_unit_test(test_sessions_owner),
		cmocka_unit_test_setup_teardown(test_confined, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
