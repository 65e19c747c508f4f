/* chunkserver: the scrubber finds what rots, and does not take a write for rot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>
#include <poll.h>

#include "chunkserver/scrub.h"
#include "tests/unit/store_fixture.h"

static struct scrub *scrub;

static bool wait_for(bool (*what)(void))
{
	int64_t deadline = deadline_in(20000);

	while (!what() && clock_ms() < deadline)
		poll(NULL, 0, 5); /* between two looks at a condition that has a deadline */
	return what();
}

static struct wire_scrub progress(void)
{
	struct wire_scrub p;
	scrub_progress(scrub, &p);
	return p;
}

static bool two_rounds(void)
{
	return progress().rounds >= 2;
}

static bool one_is_bad(void)
{
	return progress().bad >= 1;
}

static void test_a_replica_is_judged(void **state)
{
	struct err err = {0};
	char path[200], name[64];

	assert_int_equal(scrub_chunk(store, CHUNK, 1, NULL, NULL), SCRUB_GONE);
	for (uint32_t block = 0; block < 200; block += 3)
		assert_int_equal(write_block(block, 7, &err), 0);
	assert_int_equal(scrub_chunk(store, CHUNK, 1, NULL, NULL), SCRUB_GOOD);
	assert_int_equal(scrub_chunk(store, CHUNK, 2, NULL, NULL), SCRUB_BUSY);
	assert_int_equal(damage_reports, 0);
	overwrite(1, 150 * BLOCK_BYTES + 77, "x");
	assert_int_equal(scrub_chunk(store, CHUNK, 1, NULL, NULL), SCRUB_BAD);
	assert_int_equal(damage_reports, 1);
	assert_int_equal(flags_now(), HAVE_DAMAGED);
	/* The end of the file is lost, and with it blocks that have checksums. */
	assert_int_equal(write_chunk(CHUNK + 1, 1, 0, 7, &err), 0);
	assert_int_equal(write_chunk(CHUNK + 1, 1, 9, 7, &err), 0);
	format_name_put(name, CHUNK + 1, 1);
	snprintf(path, sizeof(path), "%s/chunks/%s", disk, name);
	assert_int_equal(truncate(path, format_data_offset(BITS) + BLOCK_BYTES), 0);
	assert_int_equal(scrub_chunk(store, CHUNK + 1, 1, NULL, NULL), SCRUB_BAD);
	assert_int_equal(damage_reports, 2);
}

/* A header is read when the file is opened, and never again while it stays open. */
static void test_a_rotten_header_is_found_though_the_file_is_open(void **state)
{
	struct err err = {0};
	char path[200], name[64];
	uint8_t byte = 0xff;
	int fd;

	assert_int_equal(write_block(0, 7, &err), 0);
	store_sync_all(store);
	assert_int_equal(scrub_chunk(store, CHUNK, 1, NULL, NULL), SCRUB_GOOD);
	format_name_put(name, CHUNK, 1);
	snprintf(path, sizeof(path), "%s/chunks/%s", disk, name);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &byte, 1, 200), 1); /* of the reserved part */
	close(fd);
	assert_int_equal(scrub_chunk(store, CHUNK, 1, NULL, NULL), SCRUB_BAD);
	assert_int_equal(damage_reports, 1);
	assert_int_equal(flags_now(), HAVE_DAMAGED);
}

/* With nothing to read it waits a period, each time. A round ends with a note in the file `scrub`. */
static void test_an_empty_server_rests(void **state)
{
	unsigned notes = io_faulty_add(&faulty, (struct io_fault){
		.kind = IO_OPEN, .nth = UINT32_MAX, .match = "/scrub"}), before;
	struct err err = {0};
	int64_t begun;

	assert_int_equal(scrub_start(store, 100, &scrub, &err), 0);
	begun = clock_ms();
	while (faulty.seen[notes] < 5)
		poll(NULL, 0, 5); /* past the first period */
	before = faulty.seen[notes];
	poll(NULL, 0, 500);
	notes = faulty.seen[notes] - before;
	scrub_stop(scrub);
	assert_in_range(notes, 0, (clock_ms() - begun) / 100 + 2);
}

static void test_an_unreadable_sector_is_found(void **state)
{
	struct err err = {0};
	unsigned fault;

	assert_int_equal(write_block(0, 7, &err), 0);
	store_sync_all(store);
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = IO_PREAD, .nth = 1, .eno = EIO,
							 .sticky = true, .match = "chunks/"});
	assert_int_equal(scrub_chunk(store, CHUNK, 1, NULL, NULL), SCRUB_BAD);
	assert_true(faulty.fired[fault] >= 1);
	assert_int_equal(damage_reports, 1);
}

/* Between data and checksum a write looks like rot; its range is locked until it has both. */
static void test_a_write_is_no_rot(void **state)
{
	struct err err = {0};
	struct replica *r;
	struct chunk_file f;
	struct range range;

	assert_int_equal(write_block(0, 7, &err), 0);
	assert_int_equal(store_acquire(store, CHUNK, 1, 0, deadline_in(100), &r, &f, &err), 0);
	assert_int_equal(store_range_lock(store, r, 0, 0, false, 0, &range), 0);
	overwrite(1, 0, "half of a write");
	assert_int_equal(scrub_chunk(store, CHUNK, 1, NULL, NULL), SCRUB_BUSY);
	assert_int_equal(damage_reports, 0);
	store_range_unlock(store, &range);
	store_release(store, r);
}

static void test_it_goes_round_by_itself(void **state)
{
	struct err err = {0};

	for (uint64_t c = 0; c < 600; c++) /* more than one batch */
		assert_int_equal(write_chunk(CHUNK + c, 1, 0, 7, &err), 0);
	store_sync_all(store);
	assert_int_equal(scrub_start(store, 300, &scrub, &err), 0);
	assert_true(wait_for(two_rounds));
	assert_int_equal(progress().total, 600);
	assert_int_equal(progress().bad, 0);
	assert_true(progress().ended.sec > 0);
	overwrite(1, 5, "rot");
	assert_true(wait_for(one_is_bad));
	assert_int_equal(damage_reports, 1);
	scrub_stop(scrub);
	/* What it knows outlives it. */
	assert_int_equal(scrub_start(store, 3600000, &scrub, &err), 0);
	assert_true(progress().rounds >= 2);
	assert_int_equal(progress().bad, 1);
	scrub_stop(scrub);
}

static uint32_t seen_blocks;

static bool stop_half_way(void *arg, uint32_t done, uint32_t blocks)
{
	seen_blocks = done;
	return done < blocks / 2;
}

/* It holds a replica for one part at a time: a raise in between is not held up, and is noticed. */
static bool raise_half_way(void *arg, uint32_t done, uint32_t blocks)
{
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = 1, .new_version = 2,
					 .length = CHUNK_LENGTH_KEEP, .flags = CHUNK_WRITTEN};
	struct wire_chunk_state answer;

	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &answer, NULL), 0);
	return true;
}

static void test_it_gives_way(void **state)
{
	struct err err = {0};

	assert_int_equal(write_block(255, 7, &err), 0);
	assert_int_equal(scrub_chunk(store, CHUNK, 1, stop_half_way, NULL), SCRUB_GOOD);
	assert_int_equal(seen_blocks, 128);
	assert_int_equal(scrub_chunk(store, CHUNK, 1, raise_half_way, NULL), SCRUB_BUSY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_a_replica_is_judged),
		T(test_a_rotten_header_is_found_though_the_file_is_open),
		T(test_an_unreadable_sector_is_found),
		T(test_a_write_is_no_rot),
		T(test_it_goes_round_by_itself),
		T(test_it_gives_way),
		T(test_an_empty_server_rests),
#undef T
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
