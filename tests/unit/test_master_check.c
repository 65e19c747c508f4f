/* master: schema_check finds every kind of damage, one planted at a time in a sound state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "master/schema_check.h"
#include "tests/unit/sample_state.h"

static struct sample sample;
static struct state *st;

/* Changes one row: EDIT(record, key, what happens to `row`). */
#define EDIT(record, at, ...)                                                   \
	do {                                                                       \
		_cleanup_buf_ struct buf edit_backing = {0};                       \
		struct record row;                                                 \
		assert_int_equal(state_get_##record(st, at, &row, &edit_backing), 1); \
		__VA_ARGS__;                                                       \
		state_put_##record(st, at, &row);                                  \
	} while (0)

static void del(struct key key)
{
	_cleanup_buf_ struct buf backing = {0};
	assert_int_equal(state_get(st, key_slice(&key), &backing), 1);
	state_del(st, key_slice(&key));
}

static void put_empty(struct key key)
{
	state_put(st, key_slice(&key), (struct slice){0});
}

static struct key name_key(uint64_t parent, const char *name)
{
	uint64_t hash;
	schema_name_hash((const uint8_t *)"fedcba9876543210", slice_str(name), &hash);
	return key_dentry(parent, hash);
}

static struct key uuid_key(const char *uuid)
{
	return key_server_uuid((const uint8_t *)uuid);
}

/* ---- names ---- */

static void inode_lost(void) { del(key_inode(SAMPLE_LINK)); }
static void name_lost(void) { del(name_key(1, "hard")); }
static void nlink_wrong(void) { EDIT(row_inode, key_inode(SAMPLE_FILE), row.nlink = 3); }
static void dir_nlink_wrong(void) { EDIT(row_inode, key_inode(SAMPLE_DIR), row.nlink = 2); }
static void dir_name_lost(void) { del(name_key(SAMPLE_DIR, "sub")); }
static void name_type(void)
{
	EDIT(row_dentries, name_key(1, "link"), row.entries[0].type = S_IFREG);
}
static void name_hash(void)
{
	EDIT(row_dentries, name_key(1, "link"), row.entries[0].name = SLICE_LIT("other"));
}
static void name_bad(void)
{
	EDIT(row_dentries, name_key(1, "link"), row.entries[0].name = SLICE_LIT("a/b"));
}
static void name_twice(void)
{
	EDIT(row_dentries, name_key(1, "link"),
	     row.n_entries = 2, row.entries[1] = row.entries[0]);
}
static void names_empty(void) { EDIT(row_dentries, name_key(1, "link"), row.n_entries = 0); }
static void name_in_file(void)
{
	EDIT(row_dentries, name_key(1, "link"),
	     state_put_row_dentries(st, name_key(SAMPLE_FILE, "link"), &row));
}
static void parent_wrong(void) { EDIT(row_inode, key_inode(SAMPLE_SUB), row.parent = 1); }
static void dir_two_names(void)
{
	EDIT(row_dentries, name_key(SAMPLE_DIR, "sub"),
	     state_put_row_dentries(st, name_key(1, "sub"), &row));
}
/* dir and its sub-directory contain each other; names and counts are right. */
static void cycle(void)
{
	EDIT(row_dentries, name_key(1, "dir"),
	     state_put_row_dentries(st, name_key(SAMPLE_SUB, "dir"), &row));
	del(name_key(1, "dir"));
	EDIT(row_inode, key_inode(SAMPLE_DIR), row.parent = SAMPLE_SUB);
	EDIT(row_inode, key_inode(SAMPLE_SUB), row.nlink = 3);
	EDIT(row_inode, key_inode(1), row.nlink = 2);
}
/* sub lies in a directory that is not there. */
static void unreachable(void)
{
	EDIT(row_dentries, name_key(SAMPLE_DIR, "sub"),
	     state_put_row_dentries(st, name_key(77, "sub"), &row));
	del(name_key(SAMPLE_DIR, "sub"));
	EDIT(row_inode, key_inode(SAMPLE_SUB), row.parent = 77);
	EDIT(row_inode, key_inode(SAMPLE_DIR), row.nlink = 2);
}
static void root_lost(void) { del(key_inode(ROOT_INODE)); }
static void holder_lost(void) { del(key_held(1, SAMPLE_OPEN)); }
static void held_named(void) { put_empty(key_held(1, SAMPLE_FILE)); }
static void held_by_nobody(void) { put_empty(key_held(99, SAMPLE_OPEN)); }
/* The sample's lock, and another one. */
static struct key lock_key(uint64_t session)
{
	return key_lock(SAMPLE_FILE, session, 5, LOCK_WHOLE);
}
static struct key lock_pair(uint64_t session)
{
	return key_session_lock(session, SAMPLE_FILE, 5, LOCK_WHOLE);
}
static void lock_lost(void) { del(lock_key(1)); }
static void lock_pair_lost(void) { del(lock_pair(1)); }
static void lock_of_nobody(void)
{
	EDIT(row_lock, lock_key(1), state_put_row_lock(st, lock_key(99), &row));
	put_empty(lock_pair(99));
}
static void lock_garbled(void)
{
	EDIT(row_lock, lock_key(1), row.ranges.len--);
}
static void lock_empty(void)
{
	EDIT(row_lock, lock_key(1), row.ranges.len = 0);
}
static void locks_conflict(void)
{
	static const uint8_t exclusive[17] = {[8] = 9, [16] = LOCK_EXCLUSIVE};
	EDIT(row_lock, lock_key(1), row.ranges = slice_of(exclusive, 17),
	     state_put_row_lock(st, lock_key(2), &row));
	put_empty(lock_pair(2));
}
static void xattr_stray(void)
{
	struct key key = key_xattr(77, SLICE_LIT("user.a"));
	state_put(st, key_slice(&key), SLICE_LIT("value"));
}
static void xattr_of_bare(void) { EDIT(row_inode, key_inode(SAMPLE_FILE), row.bare = 1); }
static void xattr_many(void)
{
	for (unsigned i = 0; i < XATTRS_MAX; i++) {
		char name[16];
		snprintf(name, sizeof(name), "user.%u", i);
		put_empty(key_xattr(SAMPLE_FILE, slice_str(name)));
	}
}
static void reclaim_live(void)
{
	struct row_reclaim row = {0};
	state_put_row_reclaim(st, key_reclaim(SAMPLE_FILE), &row);
}
static void inode_garbled(void)
{
	struct key key = key_inode(SAMPLE_LINK);
	state_put(st, key_slice(&key), SLICE_LIT("x"));
}
static void inode_policy(void) { EDIT(row_inode, key_inode(SAMPLE_FILE), row.policy = 9); }
static void inode_bits(void) { EDIT(row_inode, key_inode(SAMPLE_FILE), row.chunk_bits = 40); }
static void symlink_size(void) { EDIT(row_inode, key_inode(SAMPLE_LINK), row.size = 1); }
static void inode_future(void) { EDIT(row_meta, key_meta(), row.next_inode = SAMPLE_FILE); }

/* ---- chunks ---- */

static void chunk_lost(void) { del(key_chunk(SAMPLE_FEW)); }
static void refs_many(void) { EDIT(row_chunk, key_chunk(SAMPLE_FEW), row.refs = 2); }
static void refs_few(void) { del(key_file_chunk(SAMPLE_FILE, 0)); }
static void refs_none(void) { EDIT(row_chunk, key_chunk(SAMPLE_FEW), row.refs = 0); }
static void file_gone(void)
{
	struct row_file_chunk ref = {.chunk = SAMPLE_FEW};
	EDIT(row_chunk, key_chunk(SAMPLE_FEW), row.refs = 2);
	state_put_row_file_chunk(st, key_file_chunk(77, 0), &ref);
}
static void file_is_dir(void)
{
	struct row_file_chunk ref = {.chunk = SAMPLE_FEW};
	EDIT(row_chunk, key_chunk(SAMPLE_FEW), row.refs = 2);
	state_put_row_file_chunk(st, key_file_chunk(SAMPLE_DIR, 0), &ref);
}
static void blocks_many(void) { EDIT(row_inode, key_inode(SAMPLE_FILE), row.blocks++); }
static void blocks_in_map(void)
{
	EDIT(row_file_chunk, key_file_chunk(SAMPLE_FILE, 0), row.solid = 5, row.map = SLICE_LIT("\x21"));
}
static void blocks_beyond(void)
{
	EDIT(row_file_chunk, key_file_chunk(SAMPLE_FILE, 0), row.solid++);
}
static void blocks_none(void)
{
	struct row_file_chunk ref = {0};
	state_put_row_file_chunk(st, key_file_chunk(SAMPLE_FILE, 9), &ref);
}
static void quota_lost(void) { del(key_quota(1)); }
static void quota_more(void) { EDIT(row_quota, key_quota(1), row.blocks++); }
static void quota_in_itself(void) { EDIT(row_quota, key_quota(1), row.parent = 1); }
static void quota_elsewhere(void) { EDIT(row_quota, key_quota(1), row.inode = SAMPLE_DIR); }
static void quota_future(void) { EDIT(row_meta, key_meta(), row.next_quota = 1); }
static void export_odd(void) { EDIT(row_export, key_export(SLICE_LIT("x")), row.inode = SAMPLE_DIR); }
static void reclaim_lost(void) { del(key_reclaim(SAMPLE_BIG)); }
static void on_server_lost(void) { del(key_on_server(2, SAMPLE_WHOLE)); }
static void on_server_old(void)
{
	EDIT(row_on_server, key_on_server(2, SAMPLE_WHOLE), row.version = 7);
}
static void on_server_stray(void)
{
	struct row_on_server row = {.version = 1};
	state_put_row_on_server(st, key_on_server(4, SAMPLE_WHOLE), &row);
}
static void on_server_no_chunk(void)
{
	struct row_on_server row = {.version = 1};
	state_put_row_on_server(st, key_on_server(4, 77), &row);
}
static void member_unknown(void)
{
	EDIT(row_chunk, key_chunk(SAMPLE_FEW), row.members[1].server = 9);
}
static void member_twice(void)
{
	EDIT(row_chunk, key_chunk(SAMPLE_FEW), row.members[1] = row.members[0]);
}
static void members_none(void) { EDIT(row_chunk, key_chunk(SAMPLE_FEW), row.n_members = 0); }
static void under_goal_lost(void) { del(key_under_goal(2, SAMPLE_FEW)); }
static void under_goal_other(void)
{
	del(key_under_goal(2, SAMPLE_FEW));
	put_empty(key_under_goal(1, SAMPLE_FEW));
}
static void under_goal_stray(void) { put_empty(key_under_goal(3, SAMPLE_WHOLE)); }
static void pending_lost(void) { del(key_pending(SAMPLE_WHOLE)); }
static void pending_stray(void) { put_empty(key_pending(SAMPLE_FEW)); }
static void pending_skips(void)
{
	EDIT(row_chunk, key_chunk(SAMPLE_WHOLE), row.pending_version = 5);
}
static void cut_without_raise(void) { EDIT(row_chunk, key_chunk(SAMPLE_FEW), row.cut = 5); }
static void chunk_policy(void) { EDIT(row_chunk, key_chunk(SAMPLE_FEW), row.policy = 9); }
static void chunk_future(void)
{
	EDIT(row_meta, key_meta(), row.next_chunk = SAMPLE_BIG_CHUNKS);
}
static void garbage_member(void)
{
	struct row_on_server on = {.version = 1};
	state_put_row_on_server(st, key_garbage(1, SAMPLE_FEW), &on);
	EDIT(row_meta, key_meta(), row.garbage++);
}
static void garbage_no_server(void)
{
	struct row_on_server on = {.version = 1};
	state_put_row_on_server(st, key_garbage(9, SAMPLE_BIG_CHUNK), &on);
	EDIT(row_meta, key_meta(), row.garbage++);
}

/* ---- sessions, servers, meta ---- */

static void session_lost(void) { del(key_session(1)); }
static void nonce_lost(void) { del(key_nonce(1)); }
static void nonce_other(void) { EDIT(row_session, key_session(1), row.nonce = 55); }
static void reply_below_floor(void) { EDIT(row_session, key_session(1), row.floor = 3); }
static void session_future(void) { EDIT(row_meta, key_meta(), row.next_session = 1); }
static void server_lost(void) { del(key_server(4)); }
static void uuid_lost(void) { del(uuid_key("server-uuid-0004")); }
static void server_future(void) { EDIT(row_meta, key_meta(), row.next_server = 4); }
static void policy_bad(void) { EDIT(row_policy, key_policy(0), row.copies = 99); }
static void unknown_row(void)
{
	state_put(st, SLICE_LIT("?what"), SLICE_LIT("x"));
}
static void key_short(void) { state_put(st, SLICE_LIT("k12"), SLICE_LIT("x")); }
static void count_inodes(void) { EDIT(row_meta, key_meta(), row.inodes++); }
static void count_chunks(void) { EDIT(row_meta, key_meta(), row.chunks--); }
static void count_under_goal(void) { EDIT(row_meta, key_meta(), row.under_goal = 9); }
static void count_pending(void) { EDIT(row_meta, key_meta(), row.pending = 0); }
static void count_garbage(void) { EDIT(row_meta, key_meta(), row.garbage++); }
static void count_sessions(void) { EDIT(row_meta, key_meta(), row.sessions = 5); }
static void level_future(void) { EDIT(row_meta, key_meta(), row.level = 99); }

static const struct damage {
	void (*plant)(void);
	const char *says;
} damages[] = {
	{inode_lost, "points at inode 5, which is not there"},
	{name_lost, "inode 4 has nlink 2 and 1 names"},
	{nlink_wrong, "inode 4 has nlink 3 and 2 names"},
	{dir_nlink_wrong, "directory 2 has nlink 2 and 1 sub-directories"},
	{dir_name_lost, "directory 3 has no name"},
	{name_type, "a name of inode 5 has another type"},
	{name_hash, "a name in 1 is under a wrong hash"},
	{name_bad, "a name in 1 is none that may be made"},
	{name_twice, "a name in 1 is there twice"},
	{names_empty, "a row of names in 1 does not decode or is empty"},
	{name_in_file, "names in 4, which is no directory"},
	{parent_wrong, "directory 3 has parent 1, its name is in 2"},
	{dir_two_names, "directory 3 has a name too many"},
	{cycle, "directory 2 lies in itself"},
	{unreachable, "directory 3 cannot be reached from the root"},
	{root_lost, "there is no root directory"},
	{holder_lost, "inode 6 has no name and no holder"},
	{held_named, "session 1 holds inode 4, which is not there or has a name"},
	{lock_lost, "session 1 is to have a lock of inode 4, which is not there"},
	{lock_pair_lost, "a lock of inode 4 is not found by its session"},
	{lock_of_nobody, "a lock of inode 4 is of session 63, which is not there"},
	{lock_garbled, "a lock of inode 4 does not decode"},
	{lock_empty, "a lock of inode 4 has no range"},
	{locks_conflict, "locks of inode 4 conflict"},
	{held_by_nobody, "inode 6 is held by session 63, which is not there"},
	{xattr_stray, "an extended attribute of inode 4d, which is not there"},
	{xattr_of_bare, "an extended attribute of inode 4, which is to have none"},
	{xattr_many, "inode 4 has more than 256 extended attributes"},
	{reclaim_live, "inode 4 is being freed and is still there"},
	{inode_garbled, "inode 5 does not decode"},
	{inode_policy, "inode 4 has policy 9, which is not there"},
	{inode_bits, "inode 4 has chunks of 2^40 bytes"},
	{symlink_size, "inode 5 has a wrong size, 1"},
	{inode_future, "inode 4 was never given out"},
	{chunk_lost, "inode 4 index 0: chunk 0000000000000001 is not there"},
	{refs_many, "chunk 0000000000000001 has 1 references more than rows name it"},
	{refs_few, "chunk 0000000000000001 has 1 references more than rows name it"},
	{refs_none, "chunk 0000000000000001 has no references"},
	{file_gone, "index 0 of inode 4d, which is not there"},
	{file_is_dir, "inode 2 has a chunk at index 0 and cannot"},
	{blocks_many, "inode 4 counts 1 blocks more than it has"},
	{blocks_in_map, "inode 4 index 0: byte 0 of the map has blocks that are told already"},
	{blocks_beyond, "inode 4 index 0 has blocks beyond its end"},
	{blocks_none, "inode 4 index 9 has no chunk and no blocks"},
	{quota_lost, "inode 3 is counted in quota 1, which is not there"},
	{quota_more, "quota 1 counts 0 inodes and 1 blocks more than there are"},
	{quota_in_itself, "quota 1 lies in one that is not there, or in itself"},
	{quota_elsewhere, "quota 1 is of directory 2, which is not there or counted elsewhere"},
	{quota_future, "quota 1 was never given out"},
	{export_odd, "export x is of directory 2, which has no quota of its own"},
	{reclaim_lost, "of inode 7, which is not there"},
	{on_server_lost, "chunk 0000000000000002: server 2's row is missing or differs"},
	{on_server_old, "chunk 0000000000000002: server 2's row is missing or differs"},
	{on_server_stray, "server 4 has a row for chunk 0000000000000002 and is no member"},
	{on_server_no_chunk, "chunk 000000000000004d, which is not there"},
	{member_unknown, "chunk 0000000000000001 has member 9, which is no server"},
	{member_twice, "chunk 0000000000000001 has server 1 twice"},
	{members_none, "chunk 0000000000000001 has no member"},
	{under_goal_lost, "chunk 0000000000000001: no under-goal row for 2 copies"},
	{under_goal_other, "chunk 0000000000000001: wrong under-goal row for 1 copies"},
	{under_goal_stray, "chunk 0000000000000002: wrong under-goal row for 3 copies"},
	{pending_lost, "chunk 0000000000000002: no pending row"},
	{pending_stray, "chunk 0000000000000001: wrong pending row"},
	{pending_skips, "chunk 0000000000000002 is pending from 1 to 5"},
	{cut_without_raise, "chunk 0000000000000001 is to be cut or joined"},
	{chunk_policy, "chunk 0000000000000001 has policy 9, which is not there"},
	{chunk_future, "was never given out"},
	{garbage_member, "chunk 0000000000000001 is garbage on its member 1"},
	{garbage_no_server, "garbage on server 9, which is not there"},
	{session_lost, "of session 1, which is not there"},
	{nonce_lost, "2 sessions, of which 1 are found by their nonce"},
	{nonce_other, "nonce 1 names session 1, which is not there or has another one"},
	{reply_below_floor, "answer 2 of session 1 is below its floor 3"},
	{session_future, "session 2 was never given out"},
	{server_lost, "a UUID names server 4, which is not there"},
	{uuid_lost, "4 servers, of which 3 are found by their UUID"},
	{server_future, "server 4 was never given out"},
	{policy_bad, "policy 0 does not decode or wants no possible number of copies"},
	{unknown_row, "a row of the unknown type 3f"},
	{key_short, "a row of type k has a key of 3 bytes"},
	{count_inodes, "meta says 7 inodes, there are 6"},
	{count_chunks, "chunks, there are"},
	{count_under_goal, "meta says 9 chunks under goal, there are 1"},
	{count_pending, "meta says 0 pending raises, there are 1"},
	{count_garbage, "garbage rows, there are"},
	{count_sessions, "meta says 5 sessions, there are 2"},
	{level_future, "the feature level is 99"},
};

static void check_damage(const struct damage *d, unsigned i)
{
	_cleanup_buf_ struct buf before = {0}, report = {0};

	sample_new(&sample);
	st = sample.st;
	assert_int_equal(schema_check(st, &before, 10), 0);
	state_begin(st);
	d->plant();
	assert_int_equal(state_commit(st), 0);
	if (schema_check(st, &report, 1000) <= 0 || !strstr(buf_str(&report), d->says))
		fail_msg("damage %u: expected \"%s\", got:\n%s", i, d->says, buf_str(&report));
	state_free(st);
}

static void test_every_damage_is_found(void **state)
{
	for (unsigned i = 0; i < sizeof(damages) / sizeof(damages[0]); i++)
		check_damage(&damages[i], i);
}

/* The sample has a row of each type, or the tests above would not look at all there is. */
static void test_the_sample_has_every_type(void **state)
{
	static const char types[] = "MPidckspugxSNrvVoR";

	sample_new(&sample);
	for (const char *type = types; *type; type++) {
		struct state_iter *it;
		struct slice key, value;
		assert_int_equal(state_iter_open(sample.st, slice_of(type, 1), (struct slice){0},
						 &it), 0);
		if (state_iter_next(it, &key, &value) != 1)
			fail_msg("no row of type %c", *type);
		state_iter_close(it);
	}
	state_free(sample.st);
}

/* More than may be listed: counted all the same. */
static void test_the_list_is_bounded(void **state)
{
	_cleanup_buf_ struct buf report = {0};
	unsigned lines = 0;

	sample_new(&sample);
	st = sample.st;
	state_begin(st);
	for (uint64_t i = 0; i < 50; i++)
		put_empty(key_pending(1000 + i));
	assert_int_equal(state_commit(st), 0);
	assert_int_equal(schema_check(st, &report, 10), 51); /* and the counter of them */
	for (size_t i = 0; i < report.len; i++)
		lines += report.data[i] == '\n';
	assert_int_equal(lines, 10);
	state_free(st);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_sample_has_every_type),
		cmocka_unit_test(test_every_damage_is_found),
		cmocka_unit_test(test_the_list_is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
