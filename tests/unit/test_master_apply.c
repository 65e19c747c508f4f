/* master: apply and query, first by example, then by a random history with every invariant
 * checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "tests/lib/seed.h"
#include "tests/unit/apply_fixture.h"

static void test_names(void **state)
{
	uint64_t d, f, l;
	char long_name[300];

	assert_int_equal(make(1, "d", S_IFDIR | 0755, 0, &d), 0);
	assert_int_equal(make(1, "d", S_IFDIR | 0755, 0, NULL), ERR_EXIST);
	assert_int_equal(make(d, "f", S_IFREG | 0644, MAKE_EXCL, &f), 0);
	assert_int_equal(make(d, "f", S_IFREG | 0644, MAKE_EXCL, NULL), ERR_EXIST);
	assert_int_equal(make(d, "f", S_IFREG | 0644, 0, &l), 0);
	assert_int_equal(l, f);
	assert_int_equal(reply_wire_make_reply().existed, 1);
	assert_int_equal(make(1, "d", S_IFREG | 0644, 0, NULL), ERR_ISDIR);
	assert_int_equal(make(f, "x", S_IFREG, 0, NULL), ERR_NOTDIR);
	assert_int_equal(make(999, "x", S_IFREG, 0, NULL), ERR_NOENT);
	assert_int_equal(make(1, "..", S_IFREG, 0, NULL), ERR_INVAL);
	assert_int_equal(make(1, "a/b", S_IFREG, 0, NULL), ERR_INVAL);
	assert_int_equal(make(1, "", S_IFREG, 0, NULL), ERR_NOENT);
	memset(long_name, 'x', sizeof(long_name));
	long_name[256] = '\0';
	assert_int_equal(make(1, long_name, S_IFREG, 0, NULL), ERR_NAMETOOLONG);
	long_name[255] = '\0';
	assert_int_equal(make(1, long_name, S_IFREG, 0, NULL), 0);
	assert_int_equal(attr_of(1).nlink, 3);
	assert_int_equal(lookup(d, "f"), f);
	assert_int_equal(lookup(d, ".."), 1);
	assert_int_equal(link_name(f, 1, "hard"), 0);
	assert_int_equal(attr_of(f).nlink, 2);
	assert_int_equal(link_name(d, 1, "harddir"), ERR_PERM);
	assert_int_equal(unlink_name(1, "d", true, 0), ERR_NOTEMPTY);
	assert_int_equal(unlink_name(1, "d", false, 0), ERR_ISDIR);
	assert_int_equal(unlink_name(d, "f", true, 0), ERR_NOTDIR);
	assert_int_equal(unlink_name(d, "f", false, 0), 0);
	assert_int_equal(unlink_name(d, "f", false, 0), ERR_NOENT);
	assert_int_equal(unlink_name(1, "d", true, 0), 0);
	assert_int_equal(attr_of(1).nlink, 2);
	assert_int_equal(lookup(1, "hard"), f);
	assert_int_equal(make(1, "s", S_IFLNK | 0777, 0, &l), 0);
	assert_int_equal(attr_of(l).size, 6);
}

static void test_renames(void **state)
{
	uint64_t a, b, sub, f, g;

	make(1, "a", S_IFDIR | 0755, 0, &a);
	make(1, "b", S_IFDIR | 0755, 0, &b);
	make(a, "sub", S_IFDIR | 0755, 0, &sub);
	make(1, "f", S_IFREG | 0644, 0, &f);
	make(1, "g", S_IFREG | 0644, 0, &g);
	assert_int_equal(rename_name(1, "a", sub, "x", 0), ERR_INVAL);
	assert_int_equal(rename_name(1, "a", a, "x", 0), ERR_INVAL);
	assert_int_equal(rename_name(a, "sub", 1, "a", 0), ERR_NOTEMPTY);
	assert_int_equal(rename_name(1, "b", 1, "a", 0), ERR_NOTEMPTY);
	assert_int_equal(rename_name(1, "f", 1, "a", 0), ERR_ISDIR);
	assert_int_equal(rename_name(1, "a", 1, "f", 0), ERR_NOTDIR);
	assert_int_equal(rename_name(1, "nope", 1, "f", 0), ERR_NOENT);
	assert_int_equal(rename_name(1, "f", 1, "g", RENAME_F_NOREPLACE), ERR_EXIST);
	assert_int_equal(rename_name(1, "f", 1, "none", RENAME_F_EXCHANGE), ERR_NOENT);
	assert_int_equal(rename_name(1, "f", 1, "g", RENAME_F_NOREPLACE | RENAME_F_EXCHANGE),
			 ERR_INVAL);
	assert_int_equal(rename_name(1, "f", 1, "f", 0), 0);
	assert_int_equal(rename_name(a, "sub", b, "moved", 0), 0);
	assert_int_equal(attr_of(sub).parent, b);
	assert_int_equal(attr_of(a).nlink, 2);
	assert_int_equal(attr_of(b).nlink, 3);
	assert_int_equal(rename_name(1, "f", b, "moved", RENAME_F_EXCHANGE), 0);
	assert_int_equal(lookup(b, "moved"), f);
	assert_int_equal(lookup(1, "f"), sub);
	assert_int_equal(attr_of(sub).parent, 1);
	assert_int_equal(attr_of(1).nlink, 5);
	assert_int_equal(attr_of(b).nlink, 2);
	assert_int_equal(rename_name(1, "f", 1, "a", 0), 0); /* over an empty directory */
	assert_int_equal(lookup(1, "a"), sub);
	assert_int_equal(attr_of(1).nlink, 4);
	assert_int_equal(rename_name(b, "moved", 1, "g", 0), 0);
	assert_int_equal(reply_wire_rename_reply().replaced, g);
	assert_int_equal(lookup(1, "g"), f);
	/* Two names of one file: nothing happens. */
	assert_int_equal(link_name(f, 1, "h"), 0);
	assert_int_equal(rename_name(1, "g", 1, "h", 0), 0);
	assert_int_equal(lookup(1, "g"), f);
	assert_int_equal(attr_of(f).nlink, 2);
}

static void test_retry_gets_the_first_answer(void **state)
{
	struct cmd_make m = {.req = {.id = opid(), .parent = 1, .name = SLICE_LIT("once"),
				     .mode = S_IFREG | 0644, .flags = MAKE_EXCL}};
	struct cmd_rename mv = {.req = {.parent = 1, .name = SLICE_LIT("once"), .new_parent = 1,
					.new_name = SLICE_LIT("moved")}};
	uint64_t inode;

	assert_int_equal(apply(CMD_NUMBER_MAKE, &m), 0);
	inode = reply_wire_make_reply().attr.inode;
	assert_int_equal(apply(CMD_NUMBER_MAKE, &m), 0);
	assert_int_equal(reply_wire_make_reply().attr.inode, inode);
	mv.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_RENAME, &mv), 0);
	assert_int_equal(apply(CMD_NUMBER_RENAME, &mv), 0);
	assert_int_equal(reply_wire_rename_reply().inode, inode);
	/* A refusal is remembered too, with its words. */
	mv.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_RENAME, &mv), ERR_NOENT);
	make(1, "once", S_IFREG, 0, NULL);
	assert_int_equal(apply(CMD_NUMBER_RENAME, &mv), ERR_NOENT);
	/* Acknowledged long ago; a session nobody knows. */
	for (int i = 0; i < 60; i++)
		make(1, "again", S_IFREG, 0, NULL);
	m.req.id.seq = 1;
	assert_int_equal(apply(CMD_NUMBER_MAKE, &m), ERR_STALE);
	m.req.id = (struct wire_opid){.session = 999, .seq = 1};
	assert_int_equal(apply(CMD_NUMBER_MAKE, &m), ERR_STALE);
}

/* A session that had many operations unanswered and then learns of all the answers at once: they go
 * in steps, none is left behind. */
static void test_many_answers_are_forgotten_in_steps(void **state)
{
	enum { OPERATIONS = 300 };
	_cleanup_buf_ struct buf backing = {0};
	struct row_session row;
	uint64_t first = seq + 1;

	for (unsigned i = 0; i < OPERATIONS; i++) {
		struct cmd_release m = {.req = {.id = {session, ++seq, 1}, .inode = 1}};
		apply(CMD_NUMBER_RELEASE, &m);
	}
	for (unsigned i = 0; i < OPERATIONS / 50; i++) {
		struct cmd_release m = {.req = {.id = {session, ++seq, first + OPERATIONS}}};
		apply(CMD_NUMBER_RELEASE, &m);
	}
	assert_int_equal(state_get_row_session(st, key_session(session), &row, &backing), 1);
	assert_int_equal(row.floor, first + OPERATIONS);
	for (uint64_t i = first; i <= seq; i++) {
		struct key key = key_reply(session, i);
		assert_int_equal(state_get(st, key_slice(&key), &backing), i >= row.floor);
	}
}

static void test_replay_is_skipped_and_time_goes_forward(void **state)
{
	_cleanup_buf_ struct buf entry = {0}, before = {0}, after = {0};
	struct cmd_make m = {.req = {.parent = 1, .name = SLICE_LIT("x"), .mode = S_IFREG}};
	struct apply_result res;
	struct when old = {.sec = 5};

	m.req.id = opid();
	cmd_put(&entry, CMD_NUMBER_MAKE, old, &m);
	schema_dump(st, &before);
	assert_int_equal(apply_entry(st, next_index, buf_slice(&entry), &res, NULL), 1);
	apply_result_release(&res);
	schema_dump(st, &after);
	assert_string_equal(buf_str(&before), buf_str(&after));
	assert_int_equal(apply_entry(st, ++next_index, buf_slice(&entry), &res, NULL), 0);
	apply_result_release(&res);
	assert_true(attr_of(lookup(1, "x")).mtime.sec >= 1000);
	/* Damaged entries end the process rather than being guessed at. */
	struct err err = {0};
	assert_true(apply_entry(st, next_index + 1, slice_of(entry.data, 5), &res, &err) < 0);
	assert_true(err.text[0]);
	apply_result_release(&res);
}

/* The one that was written to was cut away meanwhile, and another one made in its place: that one
 * has no byte anywhere, and must not be missed. (Found by the simulation, seed 4594.) */
static void test_only_what_was_written_is_marked_as_written(void **state)
{
	struct cmd_wrote m = {.req = {.end = 100, .n_chunks = 1}};
	uint64_t f, now;

	make(1, "f", S_IFREG | 0644, MAKE_CHUNK, &f);
	m.req.inode = f;
	m.req.chunks[0] = reply_wire_make_reply().chunk.id;
	assert_int_equal(wrote(f, 0, 100), 0);
	assert_int_equal(set_size(f, 0), 0);
	assert_int_equal(chunk_make(f, 0, 3, &now), 0);
	m.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_WROTE, &m), 0);
	assert_int_equal(attr_of(f).size, 100);
	assert_int_equal(chunk_row(now).flags, 0);
	m.req.chunks[0] = now;
	m.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_WROTE, &m), 0);
	assert_int_equal(chunk_row(now).flags, CHUNK_WRITTEN);
}

/* Behind the end lies what was written and never made known: it is cut off wherever the new end is. */
static void test_a_new_size_cuts_at_the_old_end(void **state)
{
	uint64_t f, chunk, behind;

	make(1, "f", S_IFREG | 0644, MAKE_CHUNK, &f);
	chunk = reply_wire_make_reply().chunk.id;
	assert_int_equal(wrote(f, 0, 100), 0);
	assert_int_equal(chunk_make(f, 1, 3, &behind), 0);
	assert_int_equal(set_size(f, 5000), 0);
	assert_int_equal(attr_of(f).size, 5000);
	assert_int_equal(chunk_row(chunk).cut, 100);
	assert_int_equal(chunk_row(chunk).pending_version, 2);
	assert_int_equal(chunk_row(behind).version, 0);
	assert_int_equal(set_size(f, 5000), 0);
	assert_int_equal(chunk_row(chunk).cut, 100);
}

/* Servers that had nothing of the chunk when it was raised have taken it at the old version: the
 * members of the new one have nothing. (Simulation, seed 149.) */
static void test_a_first_write_that_a_raise_overtook_does_not_count(void **state)
{
	struct cmd_wrote m = {.req = {.end = 100, .n_chunks = 1, .n_versions = 1,
				      .versions = {1}}};
	struct cmd_chunk_raise raise = {.version = 1, .n_members = 1, .members = {{.server = 2}}};
	struct cmd_chunk_raised raised = {.new_version = 2, .n_members = 1,
					  .members = {{.server = 2}}, .cut = CHUNK_LENGTH_KEEP};

	make(1, "f", S_IFREG | 0644, MAKE_CHUNK, &m.req.inode);
	m.req.chunks[0] = raise.chunk = raised.chunk = reply_wire_make_reply().chunk.id;
	assert_int_equal(apply(CMD_NUMBER_CHUNK_RAISE, &raise), 0);
	m.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_WROTE, &m), ERR_CHUNK_PENDING);
	assert_int_equal(apply(CMD_NUMBER_CHUNK_RAISED, &raised), 0);
	m.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_WROTE, &m), ERR_CHUNK_VERSION);
	assert_int_equal(chunk_row(raise.chunk).flags, 0);
	assert_int_equal(attr_of(m.req.inode).size, 0);
	m.req.versions[0] = 2;
	m.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_WROTE, &m), 0);
	assert_int_equal(chunk_row(raise.chunk).flags, CHUNK_WRITTEN);
	/* Later ones do: who took them had the chunk, and a raise keeps what it has. */
	m.req.versions[0] = 1;
	m.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_WROTE, &m), 0);
}

static void test_chunks_live_and_die(void **state)
{
	uint64_t f, c0, c1, again;
	struct row_chunk row;

	make(1, "f", S_IFREG | 0644, MAKE_CHUNK, &f);
	c0 = reply_wire_make_reply().chunk.id;
	assert_int_not_equal(c0, 0);
	assert_int_equal(chunk_make(f, 0, 3, &again), 0);
	assert_int_equal(again, c0);
	assert_int_equal(chunk_make(f, 1, 3, &c1), 0);
	assert_int_equal(wrote(f, 100, 70 << 20), 0);
	assert_int_equal(attr_of(f).size, 70 << 20);
	assert_int_equal(chunk_row(c0).flags, CHUNK_WRITTEN);
	assert_int_equal(chunk_row(c1).flags, CHUNK_WRITTEN);
	assert_int_equal(chunk_make(f, 2, 0, NULL), ERR_NO_SERVERS);
	/* A cut inside the second chunk: a raise is pending with that length. */
	assert_int_equal(set_size(f, 65 << 20), 0);
	assert_int_equal(result.n_raises, 1);
	assert_int_equal(result.raises[0], c1);
	row = chunk_row(c1);
	assert_int_equal(row.cut, 1 << 20);
	assert_int_equal(row.pending_version, 2);
	check_invariants();
	/* Confirmed with another cut: not accepted; with this one: done. */
	struct cmd_chunk_raised done = {.chunk = c1, .new_version = 2, .n_members = 1,
					.members = {{.server = 2}}, .cut = CHUNK_LENGTH_KEEP};
	assert_int_equal(apply(CMD_NUMBER_CHUNK_RAISED, &done), ERR_CHUNK_PENDING);
	done.cut = 1 << 20;
	assert_int_equal(apply(CMD_NUMBER_CHUNK_RAISED, &done), 0);
	assert_int_equal(chunk_row(c1).version, 2);
	assert_int_equal(chunk_row(c1).n_members, 1);
	check_invariants();
	/* A lost member is replaced by a joining one. */
	struct cmd_chunk_raise raise = {.chunk = c1, .version = 2, .n_members = 1,
					.members = {{.server = 2}}, .n_joining = 1,
					.joining = {{.server = 4}}};
	assert_int_equal(apply(CMD_NUMBER_CHUNK_RAISE, &raise), 0);
	assert_int_equal(apply(CMD_NUMBER_CHUNK_RAISE, &raise), ERR_CHUNK_PENDING);
	done = (struct cmd_chunk_raised){.chunk = c1, .new_version = 3, .n_members = 2,
					 .members = {{.server = 2}, {.server = 4}},
					 .cut = CHUNK_LENGTH_KEEP};
	assert_int_equal(apply(CMD_NUMBER_CHUNK_RAISED, &done), 0);
	raise.version = 2;
	assert_int_equal(apply(CMD_NUMBER_CHUNK_RAISE, &raise), ERR_CHUNK_VERSION);
	raise.version = 3;
	raise.members[0].server = 1;
	assert_int_equal(apply(CMD_NUMBER_CHUNK_RAISE, &raise), ERR_INVAL);
	/* Truncated to nothing, then removed: garbage for each member, no chunk. */
	assert_int_equal(set_size(f, 0), 0);
	assert_true(result.garbage);
	assert_int_equal(chunk_row(c0).version, 0);
	assert_int_equal(unlink_name(1, "f", false, 0), 0);
	assert_int_equal(reply_wire_unlink_reply().nlink, 0);
	struct cmd_garbage gone = {.server = 4, .done = 1, .n_have = 1, .have = {{.id = c1}}};
	assert_int_equal(apply(CMD_NUMBER_GARBAGE, &gone), 0);
}

static void test_what_is_wanted_of_a_server_outlives_its_registration(void **state)
{
	_cleanup_buf_ struct buf backing = {0};
	struct cmd_server_set set = {.server = 2, .flags = SERVER_DRAINING};
	struct cmd_server_register reg = {.uuid = SLICE_LIT("server-uuid-0002"),
					  .addr = SLICE_LIT("127.0.0.1:2")};
	struct row_server row;

	assert_int_equal(apply(CMD_NUMBER_SERVER_SET, &set), 0);
	assert_int_equal(apply(CMD_NUMBER_SERVER_REGISTER, &reg), 0);
	assert_int_equal(state_get_row_server(st, key_server(2), &row, &backing), 1);
	assert_int_equal(row.flags, SERVER_DRAINING);
	assert_true(slice_eq(row.addr, reg.addr));
	set.flags = 0;
	assert_int_equal(apply(CMD_NUMBER_SERVER_SET, &set), 0);
	assert_int_equal(state_get_row_server(st, key_server(2), &row, &backing), 1);
	assert_int_equal(row.flags, 0);
	set.flags = 128;
	assert_int_equal(apply(CMD_NUMBER_SERVER_SET, &set), ERR_INVAL);
	set.server = 99;
	assert_int_equal(apply(CMD_NUMBER_SERVER_SET, &set), ERR_NOENT);
}

/* Who registers a server first has it: another certificate does not get it by saying its UUID. */
static void test_a_server_is_its_certificates(void **state)
{
	static const struct { const char *holder; int code; } rows[] = {
		{"", 0}, {"cs-a", 0}, {"cs-b", ERR_PERM}, {"cs-a", 0}, {"", 0}, {"cs-b", ERR_PERM},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_buf_ struct buf backing = {0};
		struct cmd_server_register reg = {.uuid = SLICE_LIT("server-uuid-0002"),
						  .addr = SLICE_LIT("127.0.0.1:2"),
						  .holder = slice_str(rows[i].holder)};
		struct row_server row;
		if (rows[i].code)
			reg.addr = SLICE_LIT("127.0.0.1:666");
		assert_int_equal(apply(CMD_NUMBER_SERVER_REGISTER, &reg), rows[i].code);
		assert_int_equal(state_get_row_server(st, key_server(2), &row, &backing), 1);
		assert_true(slice_eq(row.addr, SLICE_LIT("127.0.0.1:2")));
		assert_true(slice_eq(row.holder, i ? SLICE_LIT("cs-a") : SLICE_LIT("")));
	}
}

static void test_large_files_go_in_steps(void **state)
{
	enum { CHUNKS = 250 };
	uint64_t f;
	unsigned steps = 0;

	make(1, "big", S_IFREG | 0644, 0, &f);
	for (uint64_t i = 0; i < CHUNKS; i++)
		assert_int_equal(chunk_make(f, i, 3, NULL), 0);
	assert_int_equal(wrote(f, (CHUNKS - 1) * (64ULL << 20), CHUNKS * (64ULL << 20)), 0);
	assert_int_equal(set_size(f, 10), ERR_TOOBIG);
	assert_int_equal(attr_of(f).size, CHUNKS * (64ULL << 20));
	assert_int_equal(unlink_name(1, "big", false, 0), 0);
	assert_true(result.reclaim);
	for (;;) {
		struct cmd_reclaim m = {.inode = f};
		struct cmd_closed rep;
		struct cursor c;
		assert_int_equal(apply(CMD_NUMBER_RECLAIM, &m), 0);
		c = cursor_slice(buf_slice(&result.reply));
		assert_int_equal(cmd_closed_get(&c, &rep), 0);
		steps++;
		if (!rep.more)
			break;
		assert_true(steps < 10);
	}
	assert_true(steps >= 2);
}

static void test_open_files_outlive_their_names(void **state)
{
	struct cmd_release rel = {.req = {.id = opid()}};
	struct cmd_session_close close = {.session = session};
	struct wire_attr attr;
	uint64_t f, g;

	make(1, "f", S_IFREG | 0644, 0, &f);
	make(1, "g", S_IFREG | 0644, 0, &g);
	assert_int_equal(unlink_name(1, "f", false, f), 0);
	assert_int_equal(attr_of(f).nlink, 0);
	check_invariants();
	rel.req.inode = f;
	assert_int_equal(apply(CMD_NUMBER_RELEASE, &rel), 0);
	assert_int_equal(query_getattr(st, f, &attr, NULL), ERR_NOENT);
	/* The session ends without a release: the file goes with it. */
	assert_int_equal(unlink_name(1, "g", false, g), 0);
	for (int i = 0; i < 10; i++) {
		int r = apply(CMD_NUMBER_SESSION_CLOSE, &close);
		struct cmd_closed rep;
		struct cursor c = cursor_slice(buf_slice(&result.reply));
		assert_int_equal(r, 0);
		assert_int_equal(cmd_closed_get(&c, &rep), 0);
		if (!rep.more)
			break;
	}
	assert_int_equal(query_getattr(st, g, &attr, NULL), ERR_NOENT);
	assert_int_equal(make(1, "late", S_IFREG, 0, NULL), ERR_STALE);
}

static void test_readdir_pages(void **state)
{
	enum { FILES = 500 };
	_cleanup_buf_ struct buf backing = {0};
	struct wire_readdir req = {.inode = 1, .max_bytes = 4000};
	unsigned seen = 0, pages = 0;
	char name[32];

	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "file-%u", i);
		assert_int_equal(make(1, name, S_IFREG, 0, NULL), 0);
	}
	for (;;) {
		struct wire_readdir_reply rep = {0};
		struct cursor list, item;
		assert_int_equal(query_readdir(st, &req, NULL, &rep, &backing, NULL), 0);
		list = cursor_slice(rep.entries);
		while (wire_list_next(&list, &item) == 1) {
			struct wire_dirent e;
			assert_int_equal(wire_dirent_get(&item, &e), 0);
			assert_true(e.cookie > req.cookie);
			req.cookie = e.cookie;
			seen++;
		}
		pages++;
		/* Entries that come and go elsewhere do not disturb the position. */
		snprintf(name, sizeof(name), "extra-%u", pages);
		if (rep.eof)
			break;
		assert_true(rep.entries.len <= 4000);
	}
	assert_int_equal(seen, FILES + 2);
	assert_true(pages > 10);
}

/* Names that share a cookie must not be parted by the end of a page: the next one begins behind it.
 * The hash is 63 bits, so the rows are made by hand. */
static void test_readdir_keeps_names_of_one_hash_together(void **state)
{
	enum { SLOTS = 20 };
	static const char *const names[] = {"first", "second", "third"};
	_cleanup_buf_ struct buf backing = {0};
	struct wire_readdir req = {.inode = 1};

	state_begin(st);
	for (uint64_t i = 0; i < SLOTS; i++) {
		struct row_dentries row = {.n_entries = 3};
		for (unsigned j = 0; j < 3; j++)
			row.entries[j] = (struct row_dentry){slice_str(names[j]), 1, S_IFDIR};
		state_put_row_dentries(st, key_dentry(1, 1000 + i), &row);
	}
	assert_int_equal(state_commit(st), 0);
	/* Pages of every size: for one name and less, for parts of a slot, for several. */
	for (req.max_bytes = 0; req.max_bytes < 3000; req.max_bytes += 37) {
		struct wire_readdir_reply rep = {0};
		unsigned seen = 0;
		for (req.cookie = 0; !rep.eof;) {
			struct cursor list, item;
			assert_int_equal(query_readdir(st, &req, NULL, &rep, &backing, NULL), 0);
			list = cursor_slice(rep.entries);
			while (wire_list_next(&list, &item) == 1) {
				struct wire_dirent e;
				assert_int_equal(wire_dirent_get(&item, &e), 0);
				req.cookie = e.cookie;
				seen++;
			}
		}
		assert_int_equal(seen, 2 + 3 * SLOTS);
	}
	state_begin(st);
	for (uint64_t i = 0; i < SLOTS; i++) {
		struct key key = key_dentry(1, 1000 + i);
		state_del(st, key_slice(&key));
	}
	assert_int_equal(state_commit(st), 0);
}

static void test_xattrs(void **state)
{
	_cleanup_buf_ struct buf backing = {0};
	struct cmd_xattr_set set = {.req = {.id = opid(), .inode = 1, .name = SLICE_LIT("user.a"),
					    .value = SLICE_LIT("v")}};
	struct wire_xattr_get get = {.inode = 1, .name = SLICE_LIT("user.a")};
	struct wire_inode_ref list = {.inode = 1};
	struct wire_xattr_reply rep;

	assert_int_equal(apply(CMD_NUMBER_XATTR_SET, &set), 0);
	assert_int_equal(query_xattr_get(st, &get, &rep, &backing, NULL), 0);
	assert_true(slice_eq(rep.value, SLICE_LIT("v")));
	set.req.id = opid();
	set.req.flags = XATTR_F_CREATE;
	assert_int_equal(apply(CMD_NUMBER_XATTR_SET, &set), ERR_EXIST);
	assert_int_equal(query_xattr_list(st, &list, &rep, &backing, NULL), 0);
	assert_int_equal(rep.value.len, 7);
	set.req.id = opid();
	set.req.flags = XATTR_F_REMOVE;
	assert_int_equal(apply(CMD_NUMBER_XATTR_SET, &set), 0);
	set.req.id = opid();
	assert_int_equal(apply(CMD_NUMBER_XATTR_SET, &set), ERR_NODATA);
	assert_int_equal(query_xattr_get(st, &get, &rep, &backing, NULL), ERR_NODATA);
}

/* ---- a random history ---- */

static void random_raise(void)
{
	uint64_t chunk = 1 + rnd(100);
	struct row_chunk row = chunk_row(chunk);
	if (!row.version)
		return;
	if (row.pending_version) {
		struct cmd_chunk_raised m = {.chunk = chunk, .new_version = row.pending_version,
					     .cut = row.cut};
		for (unsigned i = 0; i < row.n_members; i++)
			if (m.n_members == 0 || rnd(3))
				m.members[m.n_members++] = row.members[i];
		for (unsigned i = 0; i < row.n_joining; i++)
			m.members[m.n_members++] = row.joining[i];
		apply(CMD_NUMBER_CHUNK_RAISED, &m);
	} else {
		struct cmd_chunk_raise m = {.chunk = chunk, .version = row.version};
		for (unsigned i = 0; i < row.n_members; i++)
			if (m.n_members == 0 || rnd(2))
				m.members[m.n_members++] = row.members[i];
		if (rnd(2))
			m.joining[m.n_joining++].server = 1 + rnd(4);
		apply(CMD_NUMBER_CHUNK_RAISE, &m);
	}
}

static void random_step(void)
{
	char name[16], other[16];
	uint64_t dir = random_inode(true, 80), to = random_inode(true, 80), file = random_inode(false, 80);

	snprintf(name, sizeof(name), "n%u", rnd(6));
	snprintf(other, sizeof(other), "n%u", rnd(6));
	switch (rnd(13)) {
	case 0: make(dir, name, S_IFDIR | 0755, 0, NULL); break;
	case 1:
		if (!rnd(8))
			name[0] = '\0';
		make(dir, name, S_IFREG | 0644, name[0] ? rnd(4) : MAKE_TMPFILE, NULL);
		break;
	case 2: make(dir, name, S_IFLNK | 0777, 0, NULL); break;
	case 3: unlink_name(dir, name, false, rnd(3) ? 0 : lookup(dir, name)); break;
	case 4: unlink_name(dir, name, true, 0); break;
	case 5:
	case 6: rename_name(dir, name, to, other, rnd(6)); break;
	case 7: link_name(file, dir, name); break;
	case 8: chunk_make(file, rnd(3), 1 + rnd(3), NULL); break;
	case 9: {
		static const uint8_t flags[] = {0, WROTE_KEEP_SIZE, WROTE_HOLE, WROTE_SET_ASIDE,
						WROTE_HOLE | WROTE_KEEP_SIZE};
		struct cmd_wrote w = {.req = {.id = opid(), .inode = file, .offset = rnd(1 << 28),
					      .end = rnd(1 << 28), .flags = flags[rnd(5)]}};
		apply(CMD_NUMBER_WROTE, &w);
		break;
	}
	case 10: set_size(file, rnd(1 << 28)); break;
	case 11: random_raise(); break;
	default: {
		struct cmd_release rel = {.req = {.id = opid(), .inode = random_inode(false, 80)}};
		apply(CMD_NUMBER_RELEASE, &rel);
	}
	}
}

/* Applies the recorded entries to a new state, some with freezes in between (which must not show),
 * and compares the dumps. */
static void check_deterministic(void)
{
	_cleanup_buf_ struct buf dump = {0}, again = {0};
	struct cursor c = cursor_slice(buf_slice(&history));
	struct state *copy;
	uint64_t index = 0;

	assert_int_equal(state_new(NULL, &copy), 0);
	while (cursor_left(&c) > 0) {
		uint32_t len = get_le32(cursor_take(&c, 4));
		struct apply_result res;
		struct slice entry = slice_of(cursor_take(&c, len), len);
		assert_int_equal(apply_entry(copy, ++index, entry, &res, NULL), 0);
		apply_result_release(&res);
		if (index == next_index / 2)
			assert_true(state_freeze(copy));
	}
	assert_int_equal(schema_dump(st, &dump), 0);
	assert_int_equal(schema_dump(copy, &again), 0);
	assert_string_equal(buf_str(&dump), buf_str(&again));
	state_free(copy);
}

static void test_random_histories(void **state)
{
	rng_state = test_seed();
	for (int i = 0; i < 3000; i++) {
		random_step();
		if (i % 50 == 0)
			check_invariants();
	}
	check_deterministic();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_names),
		T(test_renames),
		T(test_retry_gets_the_first_answer),
		T(test_many_answers_are_forgotten_in_steps),
		T(test_replay_is_skipped_and_time_goes_forward),
		T(test_chunks_live_and_die),
		T(test_only_what_was_written_is_marked_as_written),
		T(test_a_new_size_cuts_at_the_old_end),
		T(test_a_first_write_that_a_raise_overtook_does_not_count),
		T(test_what_is_wanted_of_a_server_outlives_its_registration),
		T(test_a_server_is_its_certificates),
		T(test_large_files_go_in_steps),
		T(test_open_files_outlive_their_names),
		T(test_readdir_pages),
		T(test_readdir_keeps_names_of_one_hash_together),
		T(test_xattrs),
		T(test_random_histories),
#undef T
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	buf_release(&history);
	return r;
}
