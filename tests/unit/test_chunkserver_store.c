/* chunkserver: the store of replicas on a real directory: use, ranges, raises, recovery, faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "tests/unit/store_fixture.h"

static void test_versions_and_absence(void **state)
{
	struct err err = {0};
	uint8_t fill;

	assert_int_equal(read_block(1, 0, &fill, &err), ERR_NO_CHUNK);
	assert_int_equal(write_block(0, 7, &err), 0);
	assert_int_equal(read_block(1, 0, &fill, &err), 0);
	assert_int_equal(fill, 7);
	assert_int_equal(read_block(2, 0, &fill, &err), ERR_CHUNK_VERSION);
	assert_non_null(strstr(err.text, "v1"));
}

static void test_clean_restart_keeps_everything(void **state)
{
	struct err err = {0};
	uint8_t fill;

	assert_int_equal(write_block(3, 9, &err), 0);
	store_close(store);
	assert_int_equal(open_store(&err), 0);
	assert_int_equal(read_block(1, 3, &fill, &err), 0);
	assert_int_equal(fill, 9);
}

static void test_a_crash_makes_open_chunks_suspect(void **state)
{
	_cleanup_free_ struct wire_have *list = NULL;
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = 1, .new_version = 2,
					 .length = CHUNK_LENGTH_KEEP, .flags = CHUNK_WRITTEN};
	struct wire_chunk_state answer;
	struct err err = {0};
	uint8_t fill;
	size_t n;

	assert_int_equal(write_block(0, 7, &err), 0);
	crash();
	assert_int_equal(read_block(1, 0, &fill, &err), ERR_CHUNK_PENDING);
	assert_int_equal(store_list(store, &list, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(list[0].flags, HAVE_UNCLEAN);
	/* A raise alone does not make it a good one; that its content counts does. */
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &answer, &err), 0);
	assert_int_equal(read_block(2, 0, &fill, &err), ERR_CHUNK_PENDING);
	raise.flags |= RAISE_SETTLE;
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &answer, &err), 0);
	assert_int_equal(answer.present, 1);
	assert_int_equal(answer.length, BLOCK_BYTES);
	assert_int_equal(read_block(2, 0, &fill, &err), 0);
	assert_int_equal(fill, 7);
	/* Synced chunks are above suspicion. */
	store_sync_all(store);
	crash();
	assert_int_equal(read_block(2, 0, &fill, &err), 0);
}

/* Another replica, which has block 1 whole and nothing else. */
static int fetch_block_1(void *arg, uint32_t first, uint32_t n, uint8_t *data, uint8_t *sums)
{
	(*(unsigned *)arg)++;
	if (first != 1 || n != 1)
		return ERR_CHECKSUM;
	memset(data, 'o', BLOCK_BYTES);
	crc_sums(sums, data, 0, BLOCK_BYTES);
	return 0;
}

static void test_torn_blocks_are_settled(void **state)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = 1, .new_version = 2,
					 .length = CHUNK_LENGTH_KEEP,
					 .flags = CHUNK_WRITTEN | RAISE_SETTLE};
	unsigned asked = 0;
	struct settle_source others = {.fetch = fetch_block_1, .arg = &asked};
	struct wire_chunk_state answer;
	struct err err = {0};
	uint8_t fill;

	for (uint32_t block = 0; block < 5; block++)
		assert_int_equal(write_block(block, 7, &err), 0);
	overwrite(1, BLOCK_BYTES, "torn");
	overwrite(1, 2 * BLOCK_BYTES, "torn");
	overwrite(1, 4 * BLOCK_BYTES, "torn");
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_TORN);
	assert_int_equal(store_raise(store, &raise, &others, deadline_in(1000), &answer, &err), 0);
	assert_true(asked >= 3);
	assert_int_equal(flags_now(), 0);
	assert_int_equal(read_block(2, 0, &fill, &err), 0);
	assert_int_equal(fill, 7);
	assert_int_equal(read_block(2, 1, &fill, &err), 0);
	assert_int_equal(fill, 'o');
	assert_int_equal(read_block(2, 2, &fill, &err), 0);
	assert_int_equal(fill, 't');
	assert_int_equal(read_block(2, 3, &fill, &err), 0);
	assert_int_equal(fill, 7);
	assert_int_equal(read_block(2, 4, &fill, &err), 0);
	assert_int_equal(fill, 't');
}

/* A power loss can keep the checksums, which share the header's page, and lose the file's end. */
static void test_checksums_without_data_are_torn_too(void **state)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = 1, .new_version = 2,
					 .length = CHUNK_LENGTH_KEEP,
					 .flags = CHUNK_WRITTEN | RAISE_SETTLE};
	struct wire_chunk_state answer;
	struct err err = {0};
	char path[200], name[64];
	uint8_t fill = 99;

	assert_int_equal(write_block(0, 7, &err), 0);
	assert_int_equal(write_block(1, 8, &err), 0);
	format_name_put(name, CHUNK, 1);
	snprintf(path, sizeof(path), "%s/chunks/%s", disk, name);
	assert_int_equal(truncate(path, format_data_offset(BITS) + BLOCK_BYTES), 0);
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_TORN);
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &answer, &err), 0);
	assert_int_equal(answer.length, BLOCK_BYTES);
	assert_int_equal(flags_now(), 0);
	assert_int_equal(read_block(2, 0, &fill, &err), 0);
	assert_int_equal(fill, 7);
	assert_int_equal(read_block(2, 1, &fill, &err), 0);
	assert_int_equal(fill, 0);
}

static void test_what_is_torn_helps_others_and_serves_nobody_else(void **state)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = 1, .new_version = 2,
					 .length = CHUNK_LENGTH_KEEP, .flags = CHUNK_WRITTEN};
	struct wire_chunk_state answer;
	struct err err = {0};
	struct replica *r;
	struct chunk_file f;
	uint8_t fill;

	assert_int_equal(write_block(0, 7, &err), 0);
	assert_int_equal(write_block(1, 7, &err), 0);
	overwrite(1, BLOCK_BYTES, "torn");
	crash();
	assert_int_equal(store_acquire_unclean(store, CHUNK, 1, deadline_in(100), &r, &f, &err), 0);
	store_release(store, r);
	/* Raised, but not the one that counts: it is to be brought up to date by a pull. */
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &answer, &err), 0);
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_TORN);
	assert_int_equal(read_block(2, 0, &fill, &err), ERR_CHUNK_PENDING);
	assert_int_equal(store_acquire_unclean(store, CHUNK, 1, deadline_in(100), &r, &f, &err), 0);
	store_release(store, r);
	assert_int_equal(store_acquire_unclean(store, CHUNK, 3, deadline_in(100), &r, &f, &err),
			 ERR_CHUNK_VERSION);
	/* It is still torn when it comes back from one more crash. */
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_TORN);
}

static void test_rot_is_no_torn_write(void **state)
{
	struct err err = {0};
	uint8_t fill;

	assert_int_equal(write_block(0, 7, &err), 0);
	store_sync_all(store);
	overwrite(1, 0, "rot");
	crash();
	assert_int_equal(flags_now(), 0);
	assert_int_equal(read_block(1, 0, &fill, &err), ERR_CHECKSUM);
}

static void test_raise_fences_and_repeats(void **state)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = 1, .new_version = 2,
					 .length = 100, .flags = CHUNK_WRITTEN};
	struct wire_chunk_state first, again;
	struct err err = {0};
	struct replica *r;
	struct chunk_file f;
	struct range range;
	uint8_t fill;

	/* Nothing here and nothing missed; but a written chunk is missed. */
	raise.chunk = CHUNK + 1;
	raise.flags = 0;
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(100), &first, &err), 0);
	assert_int_equal(first.present, 0);
	raise.flags = CHUNK_WRITTEN;
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(100), &first, &err),
			 ERR_NO_CHUNK);
	raise.chunk = CHUNK;

	assert_int_equal(write_block(0, 7, &err), 0);
	assert_int_equal(write_block(5, 7, &err), 0);
	/* An uncommitted write's range ends with its version; local work is waited for. */
	assert_int_equal(store_acquire(store, CHUNK, 1, 0, deadline_in(100), &r, &f, &err), 0);
	assert_int_equal(store_range_lock(store, r, 0, 0, false, 0, &range), 0);
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(50), &first, &err),
			 ERR_CHUNK_PENDING);
	store_release(store, r);
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &first, &err), 0);
	assert_null(range.replica);
	assert_int_equal(first.length, BLOCK_BYTES);
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &again, &err), 0);
	assert_int_equal(first.digest, again.digest);
	assert_int_equal(read_block(1, 0, &fill, &err), ERR_CHUNK_VERSION);
	assert_int_equal(read_block(2, 0, &fill, &err), 0);
	raise.version = 7;
	raise.new_version = 8;
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(100), &again, &err),
			 ERR_CHUNK_VERSION);
}

/* A raise that was sent twice, and came the second time when the chunk was written to again. (Found by
 * the simulation of the master: its cut took an acknowledged write.) */
static void test_a_late_raise_cuts_nothing(void **state)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = 1, .new_version = 2,
					 .length = BLOCK_BYTES, .flags = CHUNK_WRITTEN};
	struct wire_chunk_state answer;
	struct err err = {0};
	uint8_t fill;

	assert_int_equal(write_block(5, 7, &err), 0);
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &answer, &err), 0);
	assert_int_equal(write_chunk(CHUNK, 2, 5, 8, &err), 0);
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &answer, &err),
			 ERR_CHUNK_VERSION);
	assert_int_equal(read_block(2, 5, &fill, &err), 0);
	assert_int_equal(fill, 8);
}

/* A write of the whole chain: its range stays locked until the others have answered. */
static void write_of_chain(struct range *range)
{
	struct err err = {0};
	struct replica *r;
	struct chunk_file f;

	assert_int_equal(write_block(0, 7, &err), 0);
	assert_int_equal(store_acquire(store, CHUNK, 1, 0, deadline_in(100), &r, &f, &err), 0);
	assert_int_equal(store_range_lock(store, r, 0, 0, false, 0, range), 0);
	assert_true(store_range_apply(store, range));
	store_release(store, r);
	assert_int_equal(write_block(0, 8, &err), 0);
	store_sync_all(store);
}

/* Synced here, but the rest of the chain may not have it. (Simulation, seed 2270.) */
static void test_a_write_under_way_is_compared_after_a_crash(void **state)
{
	struct range range;

	write_of_chain(&range);
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN);
}

static void test_a_write_in_doubt_is_told_of_and_not_forgotten(void **state)
{
	struct err err = {0};
	struct range range;

	write_of_chain(&range);
	store_in_doubt(store, &range);
	store_range_unlock(store, &range);
	assert_int_equal(damage_reports, 1);
	assert_int_equal(flags_now(), HAVE_IN_DOUBT);
	store_sync_all(store);
	store_close(store);
	assert_int_equal(open_store(&err), 0);
	assert_int_equal(flags_now(), HAVE_UNCLEAN);
}

/* A chunk that nobody synced, after a power loss of all: ext4 may have the name without the header,
 * or not even the name. (Fault suite: it could not be read or written ever again.) */
static void lose_unsynced_file(const char *command)
{
	struct wire_chunk_raise settle = {.chunk = CHUNK, .version = 1, .new_version = 2,
					  .length = CHUNK_LENGTH_KEEP,
					  .flags = CHUNK_WRITTEN | RAISE_SETTLE};
	struct wire_chunk_state answer;
	struct err err = {0};
	uint8_t fill;

	assert_int_equal(write_block(3, 7, &err), 0);
	crash_with(command);
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_TORN);
	assert_int_equal(read_block(1, 3, &fill, &err), ERR_CHUNK_PENDING);
	if (store_raise(store, &settle, NULL, deadline_in(1000), &answer, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(answer.present, 1);
	assert_int_equal(write_chunk(CHUNK, 2, 3, 9, &err), 0);
	assert_int_equal(read_block(2, 3, &fill, &err), 0);
	assert_int_equal(fill, 9);
}

static void test_a_lost_header_is_made_anew(void **state)
{
	lose_unsynced_file("dd if=/dev/zero of=\"$f\" bs=512 count=1 conv=notrunc status=none");
}

static void test_a_lost_file_is_made_anew(void **state)
{
	lose_unsynced_file("rm \"$f\"");
}

/* Anything else than zeros is rot, and stays known as such. */
static void test_a_rotten_header_is_not_made_anew(void **state)
{
	struct err err = {0};

	assert_int_equal(write_block(3, 7, &err), 0);
	crash_with("printf x | dd of=\"$f\" bs=1 seek=9 conv=notrunc status=none");
	assert_int_equal(flags_now() & HAVE_DAMAGED, HAVE_DAMAGED);
}

static void test_ranges(void **state)
{
	struct err err = {0};
	struct range a, b;
	struct replica *r;
	struct chunk_file f;

	assert_int_equal(write_block(0, 1, &err), 0);
	assert_int_equal(store_acquire(store, CHUNK, 1, 0, deadline_in(100), &r, &f, &err), 0);
	assert_int_equal(store_range_lock(store, r, 2, 4, false, 0, &a), 0);
	assert_int_equal(store_range_lock(store, r, 4, 9, false, 0, &b), ERR_BUSY);
	assert_int_equal(store_range_lock(store, r, 4, 9, true, deadline_in(30), &b),
			 ERR_CHUNK_PENDING);
	assert_int_equal(store_range_lock(store, r, 5, 9, false, 0, &b), 0);
	assert_int_equal(store_wait_committed(store, r, 0, 1, deadline_in(30)), 0);
	/* Locked, but nothing of it is here yet: readers go on. */
	assert_int_equal(store_wait_committed(store, r, 0, 2, deadline_in(30)), 0);
	assert_true(store_range_apply(store, &a));
	assert_int_equal(store_wait_committed(store, r, 0, 2, deadline_in(30)), ERR_CHUNK_PENDING);
	store_range_unlock(store, &a);
	assert_int_equal(store_wait_committed(store, r, 0, 4, deadline_in(30)), 0);
	/* The chain failed: nobody reads what may not be everywhere. */
	store_in_doubt(store, &b);
	store_range_unlock(store, &b);
	assert_int_equal(store_wait_committed(store, r, 0, 1, deadline_in(30)), ERR_CHUNK_PENDING);
	store_release(store, r);
}

static void test_a_check_answers_only_what_stands_still(void **state)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = 1, .new_version = 2,
					 .length = CHUNK_LENGTH_KEEP, .flags = CHUNK_WRITTEN};
	struct wire_chunk_state raised, checked;
	struct err err = {0};
	struct replica *r;
	struct chunk_file f;
	struct range range;

	assert_int_equal(store_check(store, CHUNK, 1, &checked, &err), ERR_NO_CHUNK);
	assert_int_equal(write_block(2, 7, &err), 0);
	assert_int_equal(store_check(store, CHUNK, 2, &checked, &err), ERR_CHUNK_VERSION);
	/* Written and not yet synced is no hindrance; a write under way is. */
	assert_int_equal(store_check(store, CHUNK, 1, &checked, &err), 0);
	assert_int_equal(checked.length, 3 * BLOCK_BYTES);
	assert_int_equal(store_acquire(store, CHUNK, 1, 0, deadline_in(100), &r, &f, &err), 0);
	assert_int_equal(store_range_lock(store, r, 0, 0, false, 0, &range), 0);
	assert_int_equal(store_check(store, CHUNK, 1, &checked, &err), ERR_BUSY);
	store_range_unlock(store, &range);
	assert_int_equal(store_will_write(store, r, &err), 0);
	assert_int_equal(store_check(store, CHUNK, 1, &checked, &err), ERR_BUSY);
	store_did_write(store, r);
	store_release(store, r);
	assert_int_equal(store_check(store, CHUNK, 1, &checked, &err), 0);
	crash();
	assert_int_equal(store_check(store, CHUNK, 1, &checked, &err), ERR_BUSY);
	raise.flags |= RAISE_SETTLE;
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &raised, &err), 0);
	assert_int_equal(store_check(store, CHUNK, 2, &checked, &err), 0);
	assert_int_equal(checked.present, 1);
	assert_int_equal(checked.length, raised.length);
	assert_int_equal(checked.digest, raised.digest);
}

static void test_faults_are_answers(void **state)
{
	struct err err = {0};
	unsigned journal, full;
	uint8_t fill;

	/* No journal, no write. */
	journal = io_faulty_add(&faulty, (struct io_fault){.kind = IO_FDATASYNC, .nth = 1,
							   .eno = EIO, .match = "journal"});
	assert_int_equal(write_block(0, 7, &err), ERR_IO);
	assert_int_equal(faulty.fired[journal], 1);
	/* A full disk says so, and what was there stays good. */
	faulty.n_faults = 0;
	store_close(store);
	assert_int_equal(open_store(&err), 0);
	assert_int_equal(write_chunk(CHUNK + 1, 1, 0, 7, &err), 0);
	full = io_faulty_add(&faulty, (struct io_fault){.kind = IO_PWRITE, .nth = 1, .sticky = true,
							.eno = ENOSPC, .match = "chunks/"});
	assert_int_equal(write_chunk(CHUNK + 1, 1, 1, 8, &err), ERR_NOSPC);
	assert_true(faulty.fired[full] >= 1);
	faulty.n_faults = 0;
	assert_int_equal(read_chunk(CHUNK + 1, 1, 0, &fill, &err), 0);
	assert_int_equal(fill, 7);
}

static int begin_copy(uint32_t version, uint8_t fill, struct store_copy *ret)
{
	uint8_t data[BLOCK_BYTES], sum[4];
	struct err err = {0};
	struct chunk_file f;
	bool torn;

	assert_int_equal(store_copy_begin(store, CHUNK, version, BLOCK_BYTES, ret, &err), 0);
	ret->begun = store_moment(store);
	assert_int_equal(chunk_file_create(&faulty.io, ret->path, CHUNK, BITS, &f, &err), 0);
	memset(data, fill, sizeof(data));
	crc_sums(sum, data, 0, sizeof(data));
	assert_int_equal(chunk_file_write(&f, data, 0, BLOCK_BYTES, sum, &torn, &err), 0);
	chunk_file_close(&f);
	return 0;
}

static void test_a_late_copy_undoes_nothing(void **state)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = 2, .new_version = 3,
					 .length = CHUNK_LENGTH_KEEP, .flags = CHUNK_WRITTEN};
	struct wire_chunk_state answer;
	struct store_copy one, two, three, four;
	struct err err = {0};
	uint8_t fill;

	/* Two copies of one version, each on its own: the one that ends last came too late. */
	begin_copy(2, 1, &one);
	begin_copy(2, 2, &two);
	assert_string_not_equal(one.path, two.path);
	assert_int_equal(store_install(store, CHUNK, 2, &two, &err), 0);
	assert_int_equal(store_install(store, CHUNK, 2, &one, &err), ERR_CHUNK_VERSION);
	assert_int_equal(read_block(2, 0, &fill, &err), 0);
	assert_int_equal(fill, 2);
	/* A write since then counts, and so does a raise. */
	begin_copy(2, 3, &three);
	assert_int_equal(write_chunk(CHUNK, 2, 0, 9, &err), 0);
	assert_int_equal(store_install(store, CHUNK, 2, &three, &err), ERR_CHUNK_VERSION);
	begin_copy(3, 3, &four);
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &answer, &err), 0);
	assert_int_equal(store_install(store, CHUNK, 3, &four, &err), ERR_CHUNK_VERSION);
	assert_int_equal(store_install(store, CHUNK, 2, &three, &err), ERR_CHUNK_VERSION);
	assert_int_equal(read_block(3, 0, &fill, &err), 0);
	assert_int_equal(fill, 9);
	/* What is begun after them is wanted. */
	begin_copy(3, 4, &four);
	assert_int_equal(store_install(store, CHUNK, 3, &four, &err), 0);
	assert_int_equal(read_block(3, 0, &fill, &err), 0);
	assert_int_equal(fill, 4);
}

static void test_a_copy_that_cannot_be_put_in_place_leaves_nothing(void **state)
{
	_cleanup_free_ struct wire_have *list = NULL;
	struct store_copy copy;
	struct err err = {0};
	unsigned fault;
	uint8_t fill;
	size_t n;

	begin_copy(1, 1, &copy);
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = IO_RENAME, .nth = 1,
							 .eno = ENOSPC, .match = ".new"});
	assert_int_equal(store_install(store, CHUNK, 1, &copy, &err), ERR_NOSPC);
	assert_int_equal(faulty.fired[fault], 1);
	assert_int_equal(store_list(store, &list, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(read_block(1, 0, &fill, &err), ERR_NO_CHUNK);
}

static int seen_now(struct store_seen *ret)
{
	struct chunk_file f;
	struct replica *r;

	assert_int_equal(store_peek(store, CHUNK, &r, &f, ret), 1);
	store_release(store, r);
	return 0;
}

/* A pull compares, fetches, and may copy whole at the end: that is of what was there before. */
static void test_a_copy_is_as_old_as_its_order(void **state)
{
	struct store_copy copy;
	uint64_t ordered;
	struct err err = {0};
	uint8_t fill;

	assert_int_equal(write_block(0, 1, &err), 0);
	ordered = store_moment(store);
	assert_int_equal(write_block(0, 9, &err), 0);
	begin_copy(1, 2, &copy);
	copy.begun = ordered;
	assert_int_equal(store_install(store, CHUNK, 1, &copy, &err), ERR_CHUNK_VERSION);
	assert_int_equal(read_block(1, 0, &fill, &err), 0);
	assert_int_equal(fill, 9);
}

static void patch_block(struct store_patch *p, uint32_t block, uint8_t fill)
{
	uint8_t data[BLOCK_BYTES], sum[4];
	struct err err = {0};

	memset(data, fill, sizeof(data));
	crc_sums(sum, data, 0, sizeof(data));
	assert_int_equal(chunk_file_write(&p->file, data, block * BLOCK_BYTES, BLOCK_BYTES, sum,
					  &p->torn, &err), 0);
}

/* Ordered just now. */
static int patch_begin(uint32_t version, const struct store_seen *seen, struct store_patch *ret)
{
	struct err err = {0};
	return store_patch_begin(store, CHUNK, version, seen, store_moment(store), ret, &err);
}

static void test_a_replica_is_brought_up_to_date_in_its_place(void **state)
{
	struct store_patch patch;
	struct store_seen seen;
	struct err err = {0};
	uint8_t fill;

	assert_int_equal(write_block(0, 1, &err), 0);
	assert_int_equal(write_block(1, 1, &err), 0);
	store_sync_all(store);
	seen_now(&seen);
	assert_int_equal(patch_begin(3, &seen, &patch), 0);
	/* It serves nobody meanwhile, and nobody waits for it. */
	assert_int_equal(read_block(1, 0, &fill, &err), ERR_CHUNK_PENDING);
	patch_block(&patch, 1, 2);
	assert_int_equal(store_patch_end(store, &patch, 0, &err), 0);
	assert_int_equal(flags_now(), 0);
	assert_int_equal(read_block(3, 0, &fill, &err), 0);
	assert_int_equal(fill, 1);
	assert_int_equal(read_block(3, 1, &fill, &err), 0);
	assert_int_equal(fill, 2);
	assert_int_equal(read_block(1, 1, &fill, &err), ERR_CHUNK_VERSION);
	/* What was written since it was seen is newer than what would be put over it. */
	seen_now(&seen);
	assert_int_equal(write_chunk(CHUNK, 3, 0, 9, &err), 0);
	assert_int_equal(patch_begin(4, &seen, &patch), ERR_BUSY);
	seen_now(&seen);
	assert_int_equal(patch_begin(2, &seen, &patch), ERR_BUSY);
	assert_int_equal(read_block(3, 0, &fill, &err), 0);
	assert_int_equal(fill, 9);
}

static void test_a_replica_that_was_being_brought_up_to_date_is_compared(void **state)
{
	struct store_patch patch;
	struct store_seen seen;
	struct err err = {0};
	unsigned fault;
	uint8_t fill;

	/* Synced and out of the journal: a crash alone would not put it in question. */
	assert_int_equal(write_block(0, 1, &err), 0);
	store_sync_all(store);
	seen_now(&seen);
	assert_int_equal(patch_begin(2, &seen, &patch), 0);
	patch_block(&patch, 0, 2);
	/* The new name does not get onto the disk. */
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = IO_RENAME, .nth = 1,
							 .eno = ENOSPC, .match = "chunks/"});
	assert_int_equal(store_patch_end(store, &patch, 0, &err), ERR_NOSPC);
	assert_int_equal(faulty.fired[fault], 1);
	assert_int_equal(flags_now(), HAVE_UNCLEAN);
	assert_int_equal(read_block(1, 0, &fill, &err), ERR_CHUNK_PENDING);
	store_sync_all(store); /* begins the journal anew, which must go on naming it */
	faulty.n_faults = 0;
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN);
	/* And then it can be. */
	seen_now(&seen);
	assert_int_equal(patch_begin(2, &seen, &patch), 0);
	patch_block(&patch, 0, 3);
	assert_int_equal(store_patch_end(store, &patch, 0, &err), 0);
	assert_int_equal(flags_now(), 0);
	store_sync_all(store);
	crash();
	assert_int_equal(read_block(2, 0, &fill, &err), 0);
	assert_int_equal(fill, 3);
}

/* The answer of a pull says that all is there: a crash after it puts nothing in question, though the
 * journal may name the replica still (member_settled in master/raise.c rests on it). */
static void test_what_was_brought_up_to_date_outlives_a_crash(void **state)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = 2, .new_version = 3,
					 .length = CHUNK_LENGTH_KEEP,
					 .flags = CHUNK_WRITTEN | RAISE_SETTLE};
	struct wire_chunk_state answer;
	struct store_patch patch;
	struct store_seen seen;
	struct err err = {0};
	uint8_t fill;

	assert_int_equal(write_block(0, 1, &err), 0);
	crash();
	seen_now(&seen);
	assert_int_equal(patch_begin(2, &seen, &patch), 0);
	patch_block(&patch, 0, 3);
	assert_int_equal(store_patch_end(store, &patch, 0, &err), 0);
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN);
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &answer, &err), 0);
	assert_int_equal(read_block(3, 0, &fill, &err), 0);
	assert_int_equal(fill, 3);
}

/* ---- two syncs at a time ---- */

static atomic_uint in_sync;

/* The first one fails, when another one has come into it or should have: the kernel has told of the failure
 * then, and tells no other of it. */
static int fdatasync_once(const struct io *io, int fd)
{
	int64_t end = deadline_in(300);

	if (atomic_fetch_add(&in_sync, 1) > 0)
		return 0;
	while (atomic_load(&in_sync) < 2 && deadline_left(end) > 0)
		usleep(1000);
	return ERR_IO;
}

static void *sync_chunk(void *arg)
{
	struct replica *r;
	struct chunk_file f;
	int *res = arg;

	*res = store_acquire(store, CHUNK, 1, 0, deadline_in(1000), &r, &f, NULL);
	if (*res == 0) {
		*res = store_sync(store, r, &f, NULL);
		store_release(store, r);
	}
	return NULL;
}

static void test_a_failed_sync_is_everybodys(void **state)
{
	struct err err = {0};
	pthread_t threads[2];
	int res[2];

	assert_int_equal(write_block(0, 1, &err), 0);
	atomic_store(&in_sync, 0);
	faulty.io.fdatasync = fdatasync_once; /* until the next set-up */
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, sync_chunk, &res[i]), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_true(atomic_load(&in_sync) > 0);
	assert_true(res[0] < 0 && res[1] < 0);
}

/* Two pulls of one chunk, of which one was given up by the master: what ends first counts, and the other
 * one changes nothing, whichever way each of them goes. */
static void test_pulls_side_by_side(void **state)
{
	struct store_patch patch, late;
	struct store_seen seen;
	struct store_copy before, between;
	struct err err = {0};
	uint64_t ordered;
	uint8_t fill;

	assert_int_equal(write_block(0, 1, &err), 0);
	seen_now(&seen);
	ordered = store_moment(store);
	begin_copy(2, 8, &before);
	assert_int_equal(patch_begin(2, &seen, &patch), 0);
	assert_int_equal(patch_begin(2, &seen, &late), ERR_BUSY);
	patch_block(&patch, 0, 3);
	assert_int_equal(store_patch_end(store, &patch, 0, &err), 0);
	assert_int_equal(patch_begin(2, &seen, &late), ERR_BUSY);
	assert_int_equal(store_install(store, CHUNK, 2, &before, &err), ERR_CHUNK_VERSION);
	assert_int_equal(read_block(2, 0, &fill, &err), 0);
	assert_int_equal(fill, 3);
	/* A copy comes between what a patch has seen and its beginning. */
	seen_now(&seen);
	begin_copy(3, 9, &between);
	assert_int_equal(store_install(store, CHUNK, 3, &between, &err), 0);
	assert_int_equal(store_patch_begin(store, CHUNK, 3, &seen, ordered, &late, &err), ERR_BUSY);
	assert_int_equal(read_block(3, 0, &fill, &err), 0);
	assert_int_equal(fill, 9);
}

/* A patch in which that cannot be done once. */
static void patch_with_a_failed(enum io_kind kind)
{
	struct store_patch patch;
	struct store_seen seen;
	struct err err = {0};
	unsigned fault;

	assert_int_equal(write_block(0, 1, &err), 0);
	seen_now(&seen);
	assert_int_equal(patch_begin(2, &seen, &patch), 0);
	patch_block(&patch, 1, 2);
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = kind, .nth = 1, .eno = EIO,
							 .match = "chunks/"});
	assert_int_equal(store_patch_end(store, &patch, 0, &err), ERR_IO);
	assert_int_equal(faulty.fired[fault], 1);
}

/* What it had itself may be gone with what was put into it. */
static void test_a_replica_that_cannot_be_synced_has_lost_something(void **state)
{
	patch_with_a_failed(IO_FDATASYNC);
	faulty.n_faults = 0;
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_LOSSY);
}

static void test_a_replica_whose_name_cannot_be_synced_ends_the_disk(void **state)
{
	patch_with_a_failed(IO_SYNC_DIR);
	assert_int_equal(disk_failures, 1);
}

static void raise_to(uint32_t version)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = version - 1,
					 .new_version = version, .length = CHUNK_LENGTH_KEEP,
					 .flags = CHUNK_WRITTEN};
	struct wire_chunk_state answer;
	struct err err = {0};

	if (store_raise(store, &raise, NULL, deadline_in(1000), &answer, &err) != 0)
		fail_msg("%s", err.text);
}

/* A copy was ordered to make this one as another; then the master gave it up, asked anew, and took
 * this one for the source. Only then, after a long time without a connection, is looked at what is
 * here, which has not changed since. */
static void test_an_order_does_not_outlive_the_raise_that_follows_it(void **state)
{
	struct store_patch patch;
	struct store_seen seen;
	struct err err = {0};
	uint64_t ordered;
	uint8_t fill;

	assert_int_equal(write_block(0, 1, &err), 0);
	raise_to(2);
	ordered = store_moment(store);
	raise_to(2);
	seen_now(&seen);
	assert_int_equal(store_patch_begin(store, CHUNK, 2, &seen, ordered, &patch, &err), ERR_BUSY);
	/* For a later version it is what comes next, whatever has been written at the old one. */
	assert_int_equal(store_patch_begin(store, CHUNK, 3, &seen, ordered, &patch, &err), 0);
	assert_int_equal(store_patch_end(store, &patch, 0, &err), 0);
	assert_int_equal(read_block(3, 0, &fill, &err), 0);
	assert_int_equal(fill, 1);
}

/* The list of a link that broke is worked off while the next link brings the chunk back. */
static void test_a_late_deletion_spares_what_has_come_back(void **state)
{
	struct store_copy copy;
	struct err err = {0};
	uint64_t ordered;
	uint8_t fill;

	assert_int_equal(write_block(0, 1, &err), 0);
	ordered = store_moment(store);
	assert_int_equal(store_delete(store, CHUNK, UINT32_MAX, ordered, &err), 0);
	begin_copy(5, 9, &copy);
	assert_int_equal(store_install(store, CHUNK, 5, &copy, &err), 0);
	assert_int_equal(store_delete(store, CHUNK, UINT32_MAX, ordered, &err), ERR_BUSY);
	assert_int_equal(read_block(5, 0, &fill, &err), 0);
	assert_int_equal(fill, 9);
	/* A write of a client is no wish of the master's: what it wants deleted is. */
	ordered = store_moment(store);
	assert_int_equal(write_chunk(CHUNK, 5, 1, 7, &err), 0);
	assert_int_equal(store_delete(store, CHUNK, UINT32_MAX, ordered, &err), 0);
	assert_int_equal(read_block(5, 0, &fill, &err), ERR_NO_CHUNK);
}

static void test_deletion_spares_newer(void **state)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = 1, .new_version = 2,
					 .length = CHUNK_LENGTH_KEEP, .flags = CHUNK_WRITTEN};
	struct wire_chunk_state answer;
	struct err err = {0};
	uint8_t fill;

	assert_int_equal(write_block(0, 7, &err), 0);
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &answer, &err), 0);
	assert_int_equal(store_delete(store, CHUNK, 1, UINT64_MAX, &err), 0);
	assert_int_equal(read_block(2, 0, &fill, &err), 0);
	assert_int_equal(store_delete(store, CHUNK, 2, UINT64_MAX, &err), 0);
	assert_int_equal(read_block(2, 0, &fill, &err), ERR_NO_CHUNK);
	assert_int_equal(store_delete(store, CHUNK, 2, UINT64_MAX, &err), 0);
}

static void test_a_late_first_write_makes_nothing_again(void **state)
{
	struct store_copy copy;
	struct err err = {0};
	uint8_t fill;

	assert_int_equal(write_chunk(CHUNK, 2, 0, 7, &err), 0);
	assert_int_equal(store_delete(store, CHUNK, UINT32_MAX, UINT64_MAX, &err), 0);
	assert_int_equal(write_chunk(CHUNK, 2, 0, 7, &err), ERR_NO_CHUNK);
	assert_int_equal(write_chunk(CHUNK, 1, 0, 7, &err), ERR_NO_CHUNK);
	assert_int_equal(read_block(2, 0, &fill, &err), ERR_NO_CHUNK);
	/* As a member again, at a higher version, it may be written; and a copy may be put here. */
	assert_int_equal(write_chunk(CHUNK, 3, 0, 8, &err), 0);
	assert_int_equal(store_delete(store, CHUNK, UINT32_MAX, UINT64_MAX, &err), 0);
	begin_copy(3, 9, &copy);
	assert_int_equal(store_install(store, CHUNK, 3, &copy, &err), 0);
	assert_int_equal(read_block(3, 0, &fill, &err), 0);
	assert_int_equal(fill, 9);
	/* One that was deleted before its first write came. */
	assert_int_equal(store_delete(store, CHUNK + 1, UINT32_MAX, UINT64_MAX, &err), 0);
	assert_int_equal(write_chunk(CHUNK + 1, 1, 0, 7, &err), ERR_NO_CHUNK);
	assert_int_equal(write_chunk(CHUNK + 2, 1, 0, 7, &err), 0);
	/* One that was raised before its first write came. */
	assert_int_equal(store_raise(store, &(struct wire_chunk_raise){
			.chunk = CHUNK + 3, .version = 1, .new_version = 2,
			.length = CHUNK_LENGTH_KEEP}, NULL, deadline_in(1000),
			&(struct wire_chunk_state){0}, &err), 0);
	assert_int_equal(write_chunk(CHUNK + 3, 1, 0, 7, &err), ERR_NO_CHUNK);
	assert_int_equal(write_chunk(CHUNK + 3, 2, 0, 7, &err), 0);
}

static void test_disks_are_guarded(void **state)
{
	struct store *mine = store;
	struct err err = {0};
	char path[200];
	int fd;

	/* In use by us: another store is refused, with the name. */
	assert_int_equal(open_store(&err), ERR_BUSY);
	assert_non_null(strstr(err.text, disk));
	store = mine;
	assert_int_equal(store_join_cluster(store, SLICE_LIT("0123456789abcdef"), &err), 0);
	assert_int_equal(store_join_cluster(store, SLICE_LIT("0123456789abcdeX"), &err),
			 ERR_WRONG_CLUSTER);
	store_close(store);
	store = NULL;
	snprintf(path, sizeof(path), "%s/cairn-disk", disk);
	fd = open(path, O_WRONLY | O_TRUNC);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(open_store(&err), ERR_CORRUPT);
	assert_non_null(strstr(err.text, disk));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_versions_and_absence),
		T(test_clean_restart_keeps_everything),
		T(test_a_crash_makes_open_chunks_suspect),
		T(test_torn_blocks_are_settled),
		T(test_checksums_without_data_are_torn_too),
		T(test_what_is_torn_helps_others_and_serves_nobody_else),
		T(test_rot_is_no_torn_write),
		T(test_raise_fences_and_repeats),
		T(test_a_late_raise_cuts_nothing),
		T(test_a_write_under_way_is_compared_after_a_crash),
		T(test_a_write_in_doubt_is_told_of_and_not_forgotten),
		T(test_a_lost_header_is_made_anew),
		T(test_a_lost_file_is_made_anew),
		T(test_a_rotten_header_is_not_made_anew),
		T(test_ranges),
		T(test_a_check_answers_only_what_stands_still),
		T(test_faults_are_answers),
		T(test_a_late_copy_undoes_nothing),
		T(test_a_copy_that_cannot_be_put_in_place_leaves_nothing),
		T(test_a_copy_is_as_old_as_its_order),
		T(test_a_replica_is_brought_up_to_date_in_its_place),
		T(test_a_replica_that_was_being_brought_up_to_date_is_compared),
		T(test_what_was_brought_up_to_date_outlives_a_crash),
		T(test_a_failed_sync_is_everybodys),
		T(test_pulls_side_by_side),
		T(test_a_replica_that_cannot_be_synced_has_lost_something),
		T(test_a_replica_whose_name_cannot_be_synced_ends_the_disk),
		T(test_an_order_does_not_outlive_the_raise_that_follows_it),
		T(test_a_late_deletion_spares_what_has_come_back),
		T(test_deletion_spares_newer),
		T(test_a_late_first_write_makes_nothing_again),
		T(test_disks_are_guarded),
#undef T
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
