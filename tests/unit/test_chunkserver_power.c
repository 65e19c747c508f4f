/* chunkserver: what it knows of its page cache. The death of a process loses no byte that was
 * written; a power loss does, and the master is told until it has made a note of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/unit/store_fixture.h"

/* As crash(), and the machine or the mount is another one afterwards. */
static void power_loss(void)
{
	faulty.life++;
	crash();
}

static bool raise_is_lossy(uint32_t version)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = version,
					 .new_version = version + 1, .length = CHUNK_LENGTH_KEEP,
					 .flags = CHUNK_WRITTEN | RAISE_SETTLE};
	struct wire_chunk_state answer;
	struct err err = {0};

	if (store_raise(store, &raise, NULL, deadline_in(1000), &answer, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(flags_now(), 0);
	return answer.lossy;
}

static void test_the_death_of_the_process_loses_nothing(void **state)
{
	struct err err = {0};

	assert_int_equal(write_block(0, 7, &err), 0);
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN);
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN);
	assert_false(raise_is_lossy(1));
}

static void test_a_power_loss_is_told(void **state)
{
	struct err err = {0};

	assert_int_equal(write_block(0, 7, &err), 0);
	power_loss();
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_LOSSY);
	/* The process dies before it was asked: it is still known. */
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_LOSSY);
	assert_true(raise_is_lossy(1));
	/* The master did not get the answer, or forgot it before it was in its log. */
	assert_true(raise_is_lossy(1));
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_LOSSY);
	assert_true(raise_is_lossy(1));
	/* It goes on from the version that was told: it knows. */
	assert_false(raise_is_lossy(2));
	assert_false(raise_is_lossy(3));
}

/* What a failed sync may have cost is known to the process that comes after a kill, too. */
static void test_a_failed_sync_is_told_by_the_next_process(void **state)
{
	struct err err = {0};
	unsigned fault;

	assert_int_equal(write_block(0, 7, &err), 0);
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = IO_FDATASYNC, .nth = 1, .eno = EIO,
							 .match = "chunks/"});
	store_sync_all(store);
	assert_int_equal(faulty.fired[fault], 1);
	assert_int_equal(disk_failures, 0);
	faulty.n_faults = 0;
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_LOSSY);
	assert_true(raise_is_lossy(1));
}

/* A raise in which that cannot be done once. */
static void raise_with_a_failed(enum io_kind kind)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = 1, .new_version = 2,
					 .length = CHUNK_LENGTH_KEEP, .flags = CHUNK_WRITTEN};
	struct wire_chunk_state answer;
	struct err err = {0};
	unsigned fault;

	assert_int_equal(write_block(0, 7, &err), 0);
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = kind, .nth = 1, .eno = EIO,
							 .match = "chunks/"});
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &answer, &err), ERR_IO);
	assert_int_equal(faulty.fired[fault], 1);
}

/* Nor may the master, which asks again, take what a raise could not sync for what was written. */
static void test_a_raise_that_cannot_sync_is_told(void **state)
{
	raise_with_a_failed(IO_FDATASYNC);
	assert_int_equal(damage_reports, 1);
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_LOSSY | HAVE_DAMAGED);
	faulty.n_faults = 0;
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_LOSSY);
	assert_true(raise_is_lossy(1));
}

/* The next process is told once there is room to write it down. */
static void test_a_journal_that_found_no_room_is_begun_later(void **state)
{
	struct err err = {0};
	unsigned fault;

	assert_int_equal(write_block(0, 7, &err), 0);
	io_faulty_add(&faulty, (struct io_fault){.kind = IO_FDATASYNC, .nth = 1, .eno = EIO,
						 .match = "chunks/"});
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = IO_PWRITE, .nth = 1, .eno = ENOSPC,
							 .match = "journal"});
	store_sync_all(store);
	assert_int_equal(faulty.fired[0], 1);
	assert_int_equal(faulty.fired[fault], 1);
	assert_int_equal(disk_failures, 0);
	store_sync_all(store);
	faulty.n_faults = 0;
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_LOSSY);
}

/* A name that cannot be synced is no matter of one chunk: what else the directory says may go, too. */
static void test_a_raise_whose_name_cannot_be_synced_ends_the_disk(void **state)
{
	raise_with_a_failed(IO_SYNC_DIR);
	assert_int_equal(disk_failures, 1);
}

static void test_who_writes_at_the_new_version_shows_that_it_is_known(void **state)
{
	struct err err = {0};

	assert_int_equal(write_block(0, 7, &err), 0);
	power_loss();
	assert_true(raise_is_lossy(1));
	assert_int_equal(write_chunk(CHUNK, 2, 0, 8, &err), 0);
	assert_false(raise_is_lossy(2));
	/* A process that dies after it does not bring the old loss back; another loss is one. */
	assert_int_equal(write_chunk(CHUNK, 3, 0, 8, &err), 0);
	crash();
	assert_int_equal(flags_now(), HAVE_UNCLEAN);
	power_loss();
	assert_int_equal(flags_now(), HAVE_UNCLEAN | HAVE_LOSSY);
	assert_true(raise_is_lossy(3));
}

/* The journal is written anew by every start: it still says what was told, and what not. */
static void test_the_loss_outlives_the_journal(void **state)
{
	struct err err = {0};

	assert_int_equal(write_block(0, 7, &err), 0);
	power_loss();
	store_sync_all(store);
	crash();
	assert_true(raise_is_lossy(1));
	store_sync_all(store);
	crash();
	assert_true(raise_is_lossy(1));
	store_close(store);
	assert_int_equal(open_store(&err), 0);
	assert_true(raise_is_lossy(1));
	assert_false(raise_is_lossy(2));
	store_sync_all(store);
	crash();
	assert_int_equal(flags_now(), 0);
}

static void test_what_was_synced_is_not_lost(void **state)
{
	struct err err = {0};

	assert_int_equal(write_block(0, 7, &err), 0);
	store_sync_all(store);
	power_loss();
	assert_int_equal(flags_now(), 0);
	assert_false(raise_is_lossy(1));
	store_close(store);
	faulty.life++;
	assert_int_equal(open_store(&err), 0);
	assert_int_equal(flags_now(), 0);
}

/* A copy of one that is lossy, in a raise that is not confirmed: whoever is asked says so. */
static void test_a_copy_of_what_is_lossy_is_too(void **state)
{
	struct store_copy copy;
	struct chunk_file f;
	struct err err = {0};

	for (unsigned lossy = 0; lossy < 2; lossy++) {
		uint32_t version = 2 + lossy;
		assert_int_equal(store_copy_begin(store, CHUNK, version, 0, &copy, &err), 0);
		copy.begun = store_moment(store);
		copy.lossy = lossy;
		assert_int_equal(chunk_file_create(&faulty.io, copy.path, CHUNK, BITS, &f, &err),
				 0);
		chunk_file_close(&f);
		assert_int_equal(store_install(store, CHUNK, version, &copy, &err), 0);
		assert_int_equal(raise_is_lossy(version - 1), lossy);
	}
	assert_false(raise_is_lossy(3));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_the_death_of_the_process_loses_nothing),
		T(test_a_power_loss_is_told),
		T(test_a_failed_sync_is_told_by_the_next_process),
		T(test_a_raise_that_cannot_sync_is_told),
		T(test_a_journal_that_found_no_room_is_begun_later),
		T(test_a_raise_whose_name_cannot_be_synced_ends_the_disk),
		T(test_who_writes_at_the_new_version_shows_that_it_is_known),
		T(test_the_loss_outlives_the_journal),
		T(test_what_was_synced_is_not_lost),
		T(test_a_copy_of_what_is_lossy_is_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
