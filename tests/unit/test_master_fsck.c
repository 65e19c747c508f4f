/* master: fsck names the chunks that are not well, and their files, page by page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "master/query_fsck.h"
#include "tests/unit/sample_state.h"

static struct sample sample;
static uint8_t states[8]; /* of servers 1 .. 4; 0: good */

static uint8_t replica(void *ctx, uint64_t chunk, uint32_t server)
{
	return states[server] ? states[server] : FSCK_REPLICA_GOOD;
}

static const char *addr(void *ctx, uint32_t server)
{
	static char text[16];
	snprintf(text, sizeof(text), "server:%u", server);
	return text;
}

static const struct fsck_view view = {.replica = replica, .addr = addr};

/* All pages, a row as "PATH[INDEX] problem live/copies". Returns the number of pages. */
static unsigned fsck(uint32_t max_rows, struct buf *ret, uint64_t *ret_looked_at)
{
	struct wire_fsck req = {.max_rows = max_rows};
	unsigned pages = 0;

	buf_clear(ret);
	*ret_looked_at = 0;
	do {
		_cleanup_buf_ struct buf backing = {0};
		struct wire_fsck_reply rep;
		struct cursor list, item;
		struct err err = {0};
		if (query_fsck(sample.st, &view, &req, &rep, &backing, &err) < 0)
			fail_msg("%s", err.text);
		list = cursor_slice(rep.rows);
		while (wire_list_next(&list, &item) == 1) {
			struct wire_fsck_row row;
			assert_int_equal(wire_fsck_row_get(&item, &row), 0);
			assert_int_equal(row.n_states, row.n_replicas);
			buf_printf(ret, "%.*s[%d] %d %u/%u\n", (int)row.path.len,
				   (const char *)row.path.data, (int)row.index, row.problem,
				   row.live, row.copies);
		}
		assert_true(rep.next == 0 || rep.next > req.from);
		*ret_looked_at += rep.looked_at;
		req.from = rep.next;
		pages++;
	} while (req.from);
	return pages;
}

static void expect(const char *text)
{
	_cleanup_buf_ struct buf got = {0};
	uint64_t looked_at;

	assert_int_equal(fsck(0, &got, &looked_at), 1);
	assert_string_equal(buf_str(&got), text);
	assert_int_equal(fsck(1, &got, &looked_at), *text ? 3 : 1);
	assert_string_equal(buf_str(&got), text);
}

static int setup(void **unused)
{
	memset(states, 0, sizeof(states));
	sample_new(&sample);
	return 0;
}

static int teardown(void **unused)
{
	state_free(sample.st);
	return 0;
}

static void test_problems(void **unused)
{
	/* The first chunk has two members of three, the second one is being raised; those of the
	 * removed file are nobody's business. */
	expect("/dir/file[0] 2 2/3\n/dir/file[1] 4 3/3\n");
	states[1] = FSCK_REPLICA_AWAY;
	expect("/dir/file[0] 2 1/3\n/dir/file[1] 2 2/3\n");
	states[1] = FSCK_REPLICA_DAMAGED;
	expect("/dir/file[0] 2 1/3\n/dir/file[1] 3 2/3\n");
	states[1] = FSCK_REPLICA_UNCLEAN;
	expect("/dir/file[0] 2 2/3\n/dir/file[1] 5 3/3\n");
	states[2] = FSCK_REPLICA_DAMAGED;
	expect("/dir/file[0] 2 1/3\n/dir/file[1] 3 2/3\n");
	states[1] = FSCK_REPLICA_AWAY;
	states[2] = FSCK_REPLICA_DAMAGED;
	expect("/dir/file[0] 1 0/3\n/dir/file[1] 2 1/3\n");
	states[3] = FSCK_REPLICA_AWAY;
	expect("/dir/file[0] 1 0/3\n/dir/file[1] 1 0/3\n");
}

static void test_a_chunk_that_was_never_written_is_not_missing(void **unused)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_chunk row;

	assert_int_equal(state_get_row_chunk(sample.st, key_chunk(SAMPLE_FEW), &row, &backing), 1);
	row.flags = 0;
	state_begin(sample.st);
	state_put_row_chunk(sample.st, key_chunk(SAMPLE_FEW), &row);
	assert_int_equal(state_commit(sample.st), 0);
	states[1] = states[2] = FSCK_REPLICA_AWAY;
	expect("/dir/file[0] 2 0/3\n/dir/file[1] 2 1/3\n");
}

static void test_names_follow_renames(void **unused)
{
	struct cmd_rename m = {.req = {.parent = SAMPLE_DIR, .name = SLICE_LIT("file"),
				       .new_parent = SAMPLE_SUB, .new_name = SLICE_LIT("moved")}};
	struct cmd_unlink first = {.req = {.parent = SAMPLE_SUB, .name = SLICE_LIT("moved")}};

	m.req.id = sample_id(&sample);
	sample_apply(&sample, CMD_NUMBER_RENAME, &m);
	expect("/dir/sub/moved[0] 2 2/3\n/dir/sub/moved[1] 4 3/3\n");
	m.req = (struct wire_rename){.parent = ROOT_INODE, .name = SLICE_LIT("dir"),
				     .new_parent = ROOT_INODE, .new_name = SLICE_LIT("elsewhere"),
				     .id = sample_id(&sample)};
	sample_apply(&sample, CMD_NUMBER_RENAME, &m);
	expect("/elsewhere/sub/moved[0] 2 2/3\n/elsewhere/sub/moved[1] 4 3/3\n");
	/* The name that its parent was remembered for is gone: told without one. */
	first.req.id = sample_id(&sample);
	sample_apply(&sample, CMD_NUMBER_UNLINK, &first);
	expect("[0] 2 2/3\n[1] 4 3/3\n");
}

/* A directory with more names than are looked at for a page: every chunk is told of once, those
 * that were found with their names, and a page goes on although one name is not found. */
static void test_large_directories_are_bounded(void **unused)
{
	enum { FILES = 600 };
	_cleanup_buf_ struct buf got = {0};
	unsigned lines = 0, named = 0, pages;
	uint64_t looked_at;
	char name[32];

	for (unsigned i = 0; i < FILES; i++) {
		struct cmd_make m = {.req = {.parent = SAMPLE_DIR, .mode = S_IFREG | 0644,
					     .name = slice_str(name), .flags = MAKE_CHUNK},
				     .n_members = 1, .members = {{.server = 1}}};
		snprintf(name, sizeof(name), "file-%u", i);
		m.req.name = slice_str(name);
		sample_apply(&sample, CMD_NUMBER_MAKE, &m);
	}
	pages = fsck(0, &got, &looked_at);
	assert_true(pages > 3); /* 600 files at 300 names each, 20,000 names a page */
	for (char *line = (char *)buf_str(&got); *line; line = strchr(line, '\n') + 1) {
		lines++;
		named += strncmp(line, "/dir/file", 9) == 0;
	}
	assert_int_equal(lines, FILES + 2);
	assert_int_equal(named, FILES + 2);
	assert_int_equal(looked_at, FILES + 2 + SAMPLE_BIG_CHUNKS - CHUNKS_FREED_MAX);
}

static void test_a_name_that_is_not_found_in_time(void **unused)
{
	unsigned budget = 1;
	_cleanup_buf_ struct buf path = {0};

	for (unsigned i = 0; i < 50; i++) {
		char name[16];
		snprintf(name, sizeof(name), "n%u", i);
		sample_make(&sample, SAMPLE_DIR, name, S_IFREG);
	}
	assert_int_equal(query_path(sample.st, SAMPLE_FILE, &budget, &path), 0);
	budget = 1000;
	buf_clear(&path);
	assert_int_equal(query_path(sample.st, SAMPLE_FILE, &budget, &path), 1);
	assert_string_equal(buf_str(&path), "/dir/file");
	buf_clear(&path);
	assert_int_equal(query_path(sample.st, ROOT_INODE, &budget, &path), 1);
	assert_string_equal(buf_str(&path), "/");
	assert_int_equal(query_path(sample.st, SAMPLE_OPEN, &budget, &path), 0);
	assert_int_equal(query_path(sample.st, 9999, &budget, &path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_problems),
		T(test_a_chunk_that_was_never_written_is_not_missing),
		T(test_names_follow_renames),
		T(test_large_directories_are_bounded),
		T(test_a_name_that_is_not_found_in_time),
#undef T
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
