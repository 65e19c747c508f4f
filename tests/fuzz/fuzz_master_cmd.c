/* Log entries and LevelDB rows: decoding and printing; applying a decodable entry to a small state
 * must not crash, and must keep every invariant. */
#include <stdlib.h>

#include "common/cleanup.h"
#include "master/apply.h"
#include "master/schema_check.h"
#include "tests/fuzz/fuzz.h"

static void apply_one(struct state *st, uint64_t index, struct slice entry)
{
	struct apply_result result;
	apply_entry(st, index, entry, &result, NULL);
	apply_result_release(&result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf text = {0}, report = {0};
	struct state *st;
	uint64_t index = 0;

	cmd_text(&text, slice_of(data, size));
	if (size > 4)
		schema_row_text(&text, slice_of(data, size / 4), slice_of(data + size / 4,
									   size - size / 4));
	if (state_new(NULL, &st) < 0)
		return 0;
	/* A cluster with two servers, and then what came. */
	for (unsigned i = 0; i < 3; i++) {
		_cleanup_buf_ struct buf first = {0};
		fuzz_seed(i, &first);
		apply_one(st, ++index, buf_slice(&first));
	}
	apply_one(st, ++index, slice_of(data, size));
	if (schema_check(st, &report, 5) != 0)
		abort();
	state_free(st);
	return 0;
}

bool fuzz_seed(unsigned i, struct buf *b)
{
	struct cmd_format format = {.cluster = SLICE_LIT("0123456789abcdef"),
				    .hash_key = SLICE_LIT("fedcba9876543210"), .copies = 3};
	struct cmd_make make = {.req = {.parent = 1, .name = SLICE_LIT("n"), .mode = 0100644,
					.flags = MAKE_CHUNK},
				.n_members = 2, .members = {{.server = 1}, {.server = 2}}};
	struct cmd_rename rename = {.req = {.parent = 1, .name = SLICE_LIT("n"), .new_parent = 1,
					    .new_name = SLICE_LIT("m")}};
	struct cmd_setattr setattr = {.req = {.inode = 1, .mask = SET_MODE}};
	struct cmd_chunk_raise raise = {.chunk = 1, .version = 1, .n_members = 1};
	struct cmd_garbage garbage = {.server = 1, .n_have = 1};
	struct cmd_server_register server = {.uuid = i == 1 ? SLICE_LIT("server-uuid-0001")
							    : SLICE_LIT("server-uuid-0002"),
					     .addr = SLICE_LIT("127.0.0.1:1")};
	struct when now = {.sec = 1};

	switch (i) {
	case 0: return cmd_put(b, CMD_NUMBER_FORMAT, now, &format) == 0;
	case 1:
	case 2: return cmd_put(b, CMD_NUMBER_SERVER_REGISTER, now, &server) == 0;
	case 3: return cmd_put(b, CMD_NUMBER_MAKE, now, &make) == 0;
	case 4: return cmd_put(b, CMD_NUMBER_RENAME, now, &rename) == 0;
	case 5: return cmd_put(b, CMD_NUMBER_SETATTR, now, &setattr) == 0;
	case 6: return cmd_put(b, CMD_NUMBER_CHUNK_RAISE, now, &raise) == 0;
	case 7: return cmd_put(b, CMD_NUMBER_GARBAGE, now, &garbage) == 0;
	default: return false;
	}
}
