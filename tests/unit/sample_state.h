/* A small state with a row of every type, made by apply: for tests of what reads whole states.
 * Includers have cmocka.h. */
#ifndef CAIRN_TESTS_SAMPLE_STATE_H
#define CAIRN_TESTS_SAMPLE_STATE_H

#include <stdio.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "master/apply.h"

/* Inodes and chunks by name. /dir/file (also /hard) has two chunks: whole is pending, few is under
 * goal; open is unlinked and held; big is removed and being freed. */
enum {
	SAMPLE_DIR = 2, SAMPLE_SUB, SAMPLE_FILE, SAMPLE_LINK, SAMPLE_OPEN, SAMPLE_BIG,
	SAMPLE_FEW = 1, SAMPLE_WHOLE, SAMPLE_BIG_CHUNK,
	SAMPLE_BIG_CHUNKS = CHUNKS_FREED_MAX + 8,
};

struct sample {
	struct state *st;
	uint64_t index, seq;
};

static void sample_apply(struct sample *s, uint16_t number, const void *m)
{
	_cleanup_buf_ struct buf entry = {0};
	struct apply_result result;
	struct err err = {0};
	int r;

	assert_int_equal(cmd_put(&entry, number, (struct when){.sec = 1000 + (int64_t)s->index}, m),
			 0);
	r = apply_entry(s->st, ++s->index, buf_slice(&entry), &result, &err);
	if (r != 0 || result.status != 0)
		fail_msg("%s: %s %s", cmd_name(number), err.text, result.text);
	apply_result_release(&result);
}

static struct wire_opid sample_id(struct sample *s)
{
	s->seq++;
	return (struct wire_opid){.session = 1, .seq = s->seq, .floor = 1};
}

static void sample_make(struct sample *s, uint64_t parent, const char *name, uint32_t mode)
{
	struct cmd_make m = {.req = {.id = sample_id(s), .parent = parent, .mode = mode,
				     .name = slice_str(name)}};
	if (S_ISLNK(mode))
		m.req.target = SLICE_LIT("dir/file");
	sample_apply(s, CMD_NUMBER_MAKE, &m);
}

static void sample_chunk(struct sample *s, uint64_t inode, uint64_t index, unsigned copies)
{
	struct cmd_chunk_make m = {.req = {.id = sample_id(s), .inode = inode, .index = index}};
	struct cmd_wrote w = {.req = {.id = sample_id(s), .inode = inode, .offset = index << 26,
				      .end = (index + 1) << 26}};
	while (m.n_members < copies) {
		m.members[m.n_members].server = 1 + m.n_members;
		m.n_members++;
	}
	sample_apply(s, CMD_NUMBER_CHUNK_MAKE, &m);
	sample_apply(s, CMD_NUMBER_WROTE, &w);
}

static void sample_unlink(struct sample *s, const char *name, uint64_t hold)
{
	struct cmd_unlink m = {.req = {.id = sample_id(s), .parent = ROOT_INODE, .hold = hold,
				       .name = slice_str(name)}};
	sample_apply(s, CMD_NUMBER_UNLINK, &m);
}

static void sample_cluster(struct sample *s)
{
	struct cmd_format format = {.cluster = SLICE_LIT("0123456789abcdef"),
				    .hash_key = SLICE_LIT("fedcba9876543210"), .copies = 3};

	sample_apply(s, CMD_NUMBER_FORMAT, &format);
	for (unsigned i = 1; i <= 4; i++) {
		struct cmd_server_register reg = {.addr = SLICE_LIT("127.0.0.1:1")};
		char uuid[17];
		snprintf(uuid, sizeof(uuid), "server-uuid-%04u", i);
		reg.uuid = slice_of(uuid, UUID_BYTES);
		sample_apply(s, CMD_NUMBER_SERVER_REGISTER, &reg);
	}
	for (unsigned i = 1; i <= 2; i++) {
		struct cmd_session_open open = {.req = {.name = SLICE_LIT("test"), .nonce = i}};
		sample_apply(s, CMD_NUMBER_SESSION_OPEN, &open);
	}
}

static void sample_new(struct sample *s)
{
	struct cmd_link hard = {.req = {.inode = SAMPLE_FILE, .parent = ROOT_INODE,
					.name = SLICE_LIT("hard")}};
	struct cmd_xattr_set xattr = {.req = {.inode = SAMPLE_FILE, .name = SLICE_LIT("user.a"),
					      .value = SLICE_LIT("value")}};
	struct cmd_chunk_raise raise = {.chunk = SAMPLE_WHOLE, .version = 1, .n_members = 2,
					.members = {{.server = 1}, {.server = 2}}};

	struct cmd_quota_set quota = {.req = {.inode = SAMPLE_SUB, .bytes_max = 1ull << 40}};
	struct cmd_export_set export = {.req = {.name = SLICE_LIT("x"), .inode = SAMPLE_SUB}};
	struct cmd_lock lock = {.req = {.inode = SAMPLE_FILE, .owner = 5, .kind = LOCK_WHOLE,
					.type = LOCK_SHARED, .end = UINT64_MAX, .pid = 7}};

	*s = (struct sample){0};
	assert_int_equal(state_new(NULL, &s->st), 0);
	sample_cluster(s);
	sample_make(s, ROOT_INODE, "dir", S_IFDIR | 0755);
	sample_make(s, SAMPLE_DIR, "sub", S_IFDIR | 0755);
	sample_make(s, SAMPLE_DIR, "file", S_IFREG | 0644);
	sample_make(s, ROOT_INODE, "link", S_IFLNK | 0777);
	sample_make(s, ROOT_INODE, "open", S_IFREG | 0644);
	sample_make(s, ROOT_INODE, "big", S_IFREG | 0644);
	sample_chunk(s, SAMPLE_FILE, 0, 2);
	sample_chunk(s, SAMPLE_FILE, 1, 3);
	for (unsigned i = 0; i < SAMPLE_BIG_CHUNKS; i++)
		sample_chunk(s, SAMPLE_BIG, i, 3);
	hard.req.id = sample_id(s);
	sample_apply(s, CMD_NUMBER_LINK, &hard);
	xattr.req.id = sample_id(s);
	sample_apply(s, CMD_NUMBER_XATTR_SET, &xattr);
	sample_unlink(s, "open", SAMPLE_OPEN);
	sample_unlink(s, "big", 0);
	sample_apply(s, CMD_NUMBER_CHUNK_RAISE, &raise);
	lock.req.id = sample_id(s);
	sample_apply(s, CMD_NUMBER_LOCK, &lock);
	sample_apply(s, CMD_NUMBER_QUOTA_SET, &quota);
	sample_apply(s, CMD_NUMBER_EXPORT_SET, &export);
}

#endif
