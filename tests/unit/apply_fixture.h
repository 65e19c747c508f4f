/* Apply and query on a state in memory: one call for each command, with the answer at hand. For the
 * tests of the master's state machine. Include cmocka.h first. */
#ifndef CAIRN_TESTS_APPLY_FIXTURE_H
#define CAIRN_TESTS_APPLY_FIXTURE_H

#include <stdio.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "master/apply.h"
#include "master/query.h"
#include "master/schema_check.h"

static struct state *st;
static uint64_t next_index;
static uint64_t session, seq;
static struct apply_result result;
/* Every entry applied, for the replay that must give the same state. */
static struct buf history;

static inline int apply(uint16_t number, const void *m)
{
	_cleanup_buf_ struct buf entry = {0};
	struct err err = {0};
	struct when time = {.sec = 1000 + (int64_t)next_index};
	int r;

	assert_int_equal(cmd_put(&entry, number, time, m), 0);
	assert_int_equal(entry.len % 8, 0);
	buf_le32(&history, (uint32_t)entry.len);
	buf_append_slice(&history, buf_slice(&entry));
	apply_result_release(&result);
	r = apply_entry(st, ++next_index, buf_slice(&entry), &result, &err);
	if (r != 0)
		fail_msg("entry %llu: %d %s", (unsigned long long)next_index, r, err.text);
	return result.status;
}

static inline struct wire_opid opid(void)
{
	seq++;
	return (struct wire_opid){.session = session, .seq = seq, .floor = seq > 20 ? seq - 20 : 1};
}

#define REPLY(record)                                                          \
	static inline struct record reply_##record(void)                       \
	{                                                                      \
		struct cursor c = cursor_slice(buf_slice(&result.reply));      \
		struct record rep;                                             \
		assert_int_equal(record##_get(&c, &rep), 0);                   \
		return rep;                                                    \
	}
REPLY(wire_session)
REPLY(wire_attr_reply)
REPLY(cmd_closed)
REPLY(wire_make_reply)
REPLY(wire_unlink_reply)
REPLY(wire_rename_reply)
REPLY(wire_chunk_reply)
REPLY(wire_cs_registered)

static inline int make(uint64_t parent, const char *name, uint32_t mode, uint8_t flags,
		       uint64_t *ret)
{
	struct cmd_make m = {.req = {.id = opid(), .parent = parent, .name = slice_str(name),
				     .mode = mode, .flags = flags,
				     .cred = {.uid = 1000, .gid = 1000}}};
	int r;
	if (ret)
		*ret = 0;
	if (S_ISLNK(mode))
		m.req.target = SLICE_LIT("target");
	if (flags & MAKE_CHUNK) {
		m.n_members = 2;
		m.members[0].server = 1;
		m.members[1].server = 2;
	}
	r = apply(CMD_NUMBER_MAKE, &m);
	if (r == 0 && ret)
		*ret = reply_wire_make_reply().attr.inode;
	return r;
}

static inline int unlink_name(uint64_t parent, const char *name, bool dir, uint64_t hold)
{
	struct cmd_unlink m = {.req = {.id = opid(), .parent = parent, .name = slice_str(name),
				       .dir = dir, .hold = hold}};
	return apply(CMD_NUMBER_UNLINK, &m);
}

static inline int rename_name(uint64_t parent, const char *name, uint64_t to,
			      const char *new_name, uint32_t flags)
{
	struct cmd_rename m = {.req = {.id = opid(), .parent = parent, .name = slice_str(name),
				       .new_parent = to, .new_name = slice_str(new_name),
				       .flags = flags}};
	return apply(CMD_NUMBER_RENAME, &m);
}

static inline int link_name(uint64_t inode, uint64_t parent, const char *name)
{
	struct cmd_link m = {.req = {.id = opid(), .inode = inode, .parent = parent,
				     .name = slice_str(name)}};
	return apply(CMD_NUMBER_LINK, &m);
}

static inline int set_size(uint64_t inode, uint64_t size)
{
	struct cmd_setattr m = {.req = {.id = opid(), .inode = inode, .mask = SET_SIZE,
					.size = size}};
	return apply(CMD_NUMBER_SETATTR, &m);
}

static inline int wrote(uint64_t inode, uint64_t offset, uint64_t end)
{
	struct cmd_wrote m = {.req = {.id = opid(), .inode = inode, .offset = offset, .end = end}};
	return apply(CMD_NUMBER_WROTE, &m);
}

static inline int chunk_make(uint64_t inode, uint64_t index, unsigned copies, uint64_t *ret)
{
	struct cmd_chunk_make m = {.req = {.id = opid(), .inode = inode, .index = index}};
	int r;
	if (ret)
		*ret = 0;
	for (unsigned i = 0; i < copies; i++)
		m.members[m.n_members++].server = 1 + (i + (unsigned)index) % 4;
	r = apply(CMD_NUMBER_CHUNK_MAKE, &m);
	if (r == 0 && ret)
		*ret = reply_wire_chunk_reply().chunk.id;
	return r;
}

static inline struct wire_attr attr_of(uint64_t inode)
{
	struct wire_attr attr = {0};
	assert_int_equal(query_getattr(st, inode, &attr, NULL), 0);
	return attr;
}

static inline uint64_t lookup(uint64_t parent, const char *name)
{
	struct wire_name_ref ref = {.parent = parent, .name = slice_str(name)};
	struct wire_attr_reply rep;
	return query_lookup(st, &ref, &rep, NULL) == 0 ? rep.attr.inode : 0;
}

static inline struct row_chunk chunk_row(uint64_t chunk)
{
	_cleanup_buf_ struct buf b = {0};
	struct row_chunk row = {0};
	state_get_row_chunk(st, key_chunk(chunk), &row, &b);
	return row;
}

static inline void check_invariants(void)
{
	_cleanup_buf_ struct buf report = {0};
	int n = schema_check(st, &report, 10);
	if (n != 0)
		fail_msg("%d wrong: %s", n, buf_str(&report));
}

static inline int setup(void **state)
{
	struct cmd_format format = {.cluster = SLICE_LIT("0123456789abcdef"),
				    .hash_key = SLICE_LIT("fedcba9876543210"), .copies = 3};
	struct cmd_session_open open = {.req = {.name = SLICE_LIT("test"), .nonce = 7}};

	assert_int_equal(state_new(NULL, &st), 0);
	next_index = seq = session = 0;
	buf_clear(&history);
	assert_int_equal(apply(CMD_NUMBER_FORMAT, &format), 0);
	assert_int_equal(apply(CMD_NUMBER_FORMAT, &format), ERR_EXIST);
	for (unsigned i = 1; i <= 4; i++) {
		char uuid[17];
		struct cmd_server_register reg = {.addr = SLICE_LIT("127.0.0.1:1")};
		snprintf(uuid, sizeof(uuid), "server-uuid-%04u", i);
		reg.uuid = slice_of(uuid, 16);
		assert_int_equal(apply(CMD_NUMBER_SERVER_REGISTER, &reg), 0);
		assert_int_equal(reply_wire_cs_registered().server, i);
		assert_int_equal(apply(CMD_NUMBER_SERVER_REGISTER, &reg), 0);
		assert_int_equal(reply_wire_cs_registered().server, i);
	}
	assert_int_equal(apply(CMD_NUMBER_SESSION_OPEN, &open), 0);
	session = reply_wire_session().session;
	assert_int_equal(apply(CMD_NUMBER_SESSION_OPEN, &open), 0);
	assert_int_equal(reply_wire_session().session, session);
	return 0;
}

static inline int teardown(void **state)
{
	check_invariants();
	apply_result_release(&result);
	state_free(st);
	return 0;
}

/* ---- at random ---- */

static uint64_t rng_state; /* SplitMix64 (Steele, Lea, Flood 2014) */

static inline uint64_t rnd64(uint64_t n)
{
	uint64_t z = rng_state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return (z ^ z >> 31) % n;
}

static inline unsigned rnd(unsigned n)
{
	return (unsigned)rnd64(n);
}

/* One of the first `inodes`, a directory or not as wanted; the root if none was found soon. */
static inline uint64_t random_inode(bool want_dir, unsigned inodes)
{
	for (unsigned i = 0; i < 8; i++) {
		_cleanup_buf_ struct buf backing = {0};
		struct row_inode row;
		uint64_t inode = 1 + rnd(inodes);
		if (state_get_row_inode(st, key_inode(inode), &row, &backing) == 1 &&
		    S_ISDIR(row.mode) == want_dir)
			return inode;
	}
	return 1;
}

#endif
