/* chunkserver: the disks of one server fail one at a time; the others go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>

#include "chunkserver/disk.h"
#include "tests/unit/store_fixture.h"

enum { CHUNKS = 40 };

/* Enough chunks that every disk has some. */
static void fill_disks(size_t n)
{
	struct err err = {0};

	if (open_disks(n, &err) != 0)
		fail_msg("%s", err.text);
	/* The emptiest disk gets the next one, and here all lie on one file system: so that chance
	 * decides nothing, the others say that they have no room. */
	for (uint64_t c = 1; c <= CHUNKS; c++) {
		unsigned full = io_faulty_add(&faulty, (struct io_fault){
			.kind = IO_SPACE, .nth = 1, .sticky = true, .eno = EIO,
			.match = disks[(c + 1) % n]});
		if (n > 2)
			io_faulty_add(&faulty, (struct io_fault){
				.kind = IO_SPACE, .nth = 1, .sticky = true, .eno = EIO,
				.match = disks[(c + 2) % n]});
		assert_int_equal(write_chunk(c, 1, 0, (uint8_t)c, &err), 0);
		assert_true(faulty.fired[full] > 0);
		io_faulty_init(&faulty, &io_real);
	}
	store_sync_all(store);
}

/* Chunk c lies on disk c % n. Those of `failed` are lost, the others are served and written. */
static void expect_lost(size_t n, unsigned failed)
{
	_cleanup_free_ struct wire_have *list = NULL;
	struct wire_cs_heartbeat beat = {0};
	struct err err = {0};
	uint8_t fill = 0;
	size_t total;

	store_space(store, &beat);
	assert_int_equal(beat.disks, n);
	assert_int_equal(beat.disks_bad, 1);
	for (uint64_t c = 1; c <= CHUNKS; c++) {
		int r = read_chunk(c, 1, 0, &fill, &err);
		if (c % n == failed) {
			assert_true(r == ERR_IO || r == ERR_NO_CHUNK);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(fill, (uint8_t)c);
		assert_int_equal(write_chunk(c, 1, 1, 7, &err), 0);
	}
	assert_int_equal(store_list(store, &list, &total), 0);
	for (size_t i = 0; i < total; i++)
		assert_int_equal(list[i].flags, list[i].id % n == failed ? HAVE_DAMAGED : 0);
	/* New chunks find room. */
	assert_int_equal(write_chunk(1000, 1, 0, 5, &err), 0);
	assert_int_equal(read_chunk(1000, 1, 0, &fill, &err), 0);
}

static void test_one_bad_sector_is_no_bad_disk(void **state)
{
	struct err err = {0};
	unsigned fault;
	uint8_t fill;
	char file[128];

	fill_disks(2);
	snprintf(file, sizeof(file), "%s/chunks/02", disks[0]);
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = IO_PREAD, .nth = 1, .sticky = true,
							 .eno = EIO, .match = file});
	for (unsigned i = 0; i < 3 * DISK_ERRORS_MAX; i++)
		assert_int_equal(read_chunk(2, 1, 0, &fill, &err), ERR_IO);
	assert_true(faulty.fired[fault] >= 3 * DISK_ERRORS_MAX);
	assert_int_equal(disk_failures, 0);
	assert_true(damage_reports >= 1);
	assert_int_equal(read_chunk(4, 1, 0, &fill, &err), 0);
}

static void test_many_bad_sectors_are(void **state)
{
	struct err err = {0};
	unsigned fault;
	uint8_t fill;

	fill_disks(2);
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = IO_PREAD, .nth = 1, .sticky = true,
							 .eno = EIO, .match = disks[1]});
	for (uint64_t c = 1; c <= CHUNKS; c += 2)
		assert_int_equal(read_chunk(c, 1, 0, &fill, &err), ERR_IO);
	assert_true(faulty.fired[fault] >= DISK_ERRORS_MAX);
	assert_int_equal(disk_failures, 1);
	expect_lost(2, 1);
}

static void test_a_disk_that_cannot_name_its_writes(void **state)
{
	char journal[128];
	struct err err = {0};
	unsigned fault;

	fill_disks(3);
	snprintf(journal, sizeof(journal), "%s/journal", disks[2]);
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = IO_FDATASYNC, .nth = 1,
							 .eno = EIO, .match = journal});
	assert_int_equal(write_chunk(5, 1, 1, 1, &err), ERR_IO);
	assert_int_equal(faulty.fired[fault], 1);
	assert_int_equal(disk_failures, 1);
	expect_lost(3, 2);
}

static void test_a_disk_that_becomes_read_only(void **state)
{
	struct err err = {0};
	unsigned fault;

	fill_disks(2);
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = IO_PWRITE, .nth = 1, .eno = EROFS,
							 .sticky = true, .match = disks[0]});
	assert_int_equal(write_chunk(2, 1, 1, 1, &err), ERR_ROFS);
	assert_true(faulty.fired[fault] >= 1);
	assert_int_equal(disk_failures, 1);
	expect_lost(2, 0);
}

static void test_a_full_disk_has_not_failed(void **state)
{
	struct err err = {0};
	unsigned fault;
	uint8_t fill;

	fill_disks(2);
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = IO_PWRITE, .nth = 1, .eno = ENOSPC,
							 .sticky = true, .match = disks[0]});
	for (uint64_t c = 2; c <= CHUNKS; c += 2)
		assert_int_equal(write_chunk(c, 1, 1, 1, &err), ERR_NOSPC);
	assert_true(faulty.fired[fault] >= DISK_ERRORS_MAX);
	assert_int_equal(disk_failures, 0);
	assert_int_equal(read_chunk(2, 1, 0, &fill, &err), 0);
}

static void test_what_is_lost_is_copied_to_another_disk(void **state)
{
	struct wire_chunk_raise raise = {.chunk = 5, .version = 1, .new_version = 2,
					 .length = CHUNK_LENGTH_KEEP, .flags = CHUNK_WRITTEN};
	struct wire_chunk_state answer;
	struct err err = {0};
	struct store_copy copy;
	struct chunk_file f;
	uint8_t fill = 9;

	fill_disks(2);
	io_faulty_add(&faulty, (struct io_fault){.kind = IO_PWRITE, .nth = 1, .sticky = true,
						 .eno = EROFS, .match = disks[1]});
	assert_int_equal(write_chunk(5, 1, 1, 1, &err), ERR_ROFS);
	/* The master is told that it is gone, and sends a copy, which goes to the other disk. */
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(1000), &answer, &err),
			 ERR_NO_CHUNK);
	assert_int_equal(store_copy_begin(store, 5, 2, 0, &copy, &err), 0);
	copy.begun = store_moment(store);
	assert_non_null(strstr(copy.path, disks[0]));
	assert_int_equal(chunk_file_create(&faulty.io, copy.path, 5, BITS, &f, &err), 0);
	chunk_file_close(&f);
	assert_int_equal(store_install(store, 5, 2, &copy, &err), 0);
	assert_int_equal(read_chunk(5, 2, 0, &fill, &err), 0);
	assert_int_equal(fill, 0);
	assert_int_equal(store_delete(store, 7, 1, UINT64_MAX, &err), 0); /* is on the failed disk */
	assert_int_equal(read_chunk(7, 1, 0, &fill, &err), ERR_NO_CHUNK);
}

/* Chunk 2 of disk 0, which fails while it is being written; a copy of one block, at this version, comes
 * to disk 1. Then the server stops. */
static void copy_to_another_disk(uint32_t version)
{
	struct err err = {0};
	struct store_copy copy;
	struct chunk_file f;
	uint8_t data[BLOCK_BYTES], sum[4];
	bool torn;

	fill_disks(2);
	assert_int_equal(write_chunk(2, 1, 1, 1, &err), 0);
	io_faulty_add(&faulty, (struct io_fault){.kind = IO_PWRITE, .nth = 1, .sticky = true,
						 .eno = EROFS, .match = disks[0]});
	assert_int_equal(write_chunk(4, 1, 1, 1, &err), ERR_ROFS);
	assert_int_equal(disk_failures, 1);
	assert_int_equal(store_copy_begin(store, 2, version, 0, &copy, &err), 0);
	copy.begun = store_moment(store);
	assert_non_null(strstr(copy.path, disks[1]));
	assert_int_equal(chunk_file_create(&faulty.io, copy.path, 2, BITS, &f, &err), 0);
	memset(data, 77, sizeof(data));
	crc_sums(sum, data, 0, sizeof(data));
	assert_int_equal(chunk_file_write(&f, data, 0, BLOCK_BYTES, sum, &torn, &err), 0);
	chunk_file_close(&f);
	assert_int_equal(store_install(store, 2, version, &copy, &err), 0);
	store_close(store);
	io_faulty_init(&faulty, &io_real);
}

/* And it starts again, and disk 0 is there. */
static void copy_beside_a_failed_disk(uint32_t version)
{
	struct err err = {0};

	copy_to_another_disk(version);
	if (open_disks(2, &err) != 0)
		fail_msg("%s", err.text);
}

static uint8_t flags_of(uint64_t chunk)
{
	struct wire_have have;

	assert_int_equal(store_next(store, chunk, 1, &have), 1);
	assert_int_equal(have.id, chunk);
	return have.flags;
}

/* What the old disk's journal says of the old replica does not hold for the copy, and what is written
 * goes into the copy's file: not into the old one, which has no name any more. */
static void test_a_failed_disk_comes_back_beside_a_newer_copy(void **state)
{
	struct err err = {0};
	uint8_t fill = 0;

	copy_beside_a_failed_disk(2);
	assert_int_equal(flags_of(2), 0);
	assert_int_equal(read_chunk(2, 2, 0, &fill, &err), 0);
	assert_int_equal(fill, 77);
	assert_int_equal(write_chunk(2, 2, 1, 78, &err), 0);
	store_close(store);
	assert_int_equal(open_disks(2, &err), 0);
	assert_int_equal(read_chunk(2, 2, 0, &fill, &err), 0);
	assert_int_equal(fill, 77);
	assert_int_equal(read_chunk(2, 2, 1, &fill, &err), 0);
	assert_int_equal(fill, 78);
}

/* The same, where the disk with the copy is looked at first. */
static void test_a_failed_disk_comes_back_behind_a_newer_copy(void **state)
{
	struct err err = {0};
	char names[2][sizeof(disks[0])];
	uint8_t fill = 0;

	copy_to_another_disk(2);
	memcpy(names, disks, sizeof(names));
	memcpy(disks[0], names[1], sizeof(names[0]));
	memcpy(disks[1], names[0], sizeof(names[0]));
	assert_int_equal(open_disks(2, &err), 0);
	assert_int_equal(flags_of(2), 0);
	assert_int_equal(read_chunk(2, 2, 0, &fill, &err), 0);
	assert_int_equal(fill, 77);
}

/* Nobody can tell which of the two is the newer: it serves nobody before it is compared, and has less
 * to say than those that are sure. */
static void test_a_failed_disk_comes_back_beside_a_copy_of_its_version(void **state)
{
	copy_beside_a_failed_disk(1);
	assert_int_equal(flags_of(2), HAVE_UNCLEAN | HAVE_LOSSY);
	/* So it is after the next start. */
	store_close(store);
	assert_int_equal(open_disks(2, &(struct err){0}), 0);
	assert_int_equal(flags_of(2), HAVE_UNCLEAN | HAVE_LOSSY);
}

/* Nor does the other one come back when the one that is used was deleted. */
static void test_both_copies_of_one_version_are_deleted(void **state)
{
	struct err err = {0};
	uint8_t fill;

	copy_beside_a_failed_disk(1);
	assert_int_equal(store_delete(store, 2, 1, UINT64_MAX, &err), 0);
	store_close(store);
	assert_int_equal(open_disks(2, &err), 0);
	assert_int_equal(read_chunk(2, 1, 0, &fill, &err), ERR_NO_CHUNK);
}

static void test_a_disk_that_is_missing_at_start(void **state)
{
	struct err err = {0};
	char cmd[400];
	uint8_t fill;

	fill_disks(2);
	store_close(store);
	snprintf(cmd, sizeof(cmd), "mv '%s' '%s.away' && ln -s '%s/nowhere/x' '%s'", disks[1],
		 disks[1], root, disks[1]);
	assert_int_equal(system(cmd), 0);
	if (open_disks(2, &err) != 0)
		fail_msg("%s", err.text);
	expect_lost(2, 1);
	store_close(store);
	/* It is back: so is what it has. */
	snprintf(cmd, sizeof(cmd), "rm '%s' && mv '%s.away' '%s'", disks[1], disks[1], disks[1]);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(open_disks(2, &err), 0);
	assert_int_equal(read_chunk(3, 1, 0, &fill, &err), 0);
	assert_int_equal(fill, 3);
}

static void test_a_server_without_disks_does_not_start(void **state)
{
	struct err err = {0};
	char cmd[200];
	unsigned fault;

	/* New disks beside one that may hold the server's id: it would get another one. */
	snprintf(cmd, sizeof(cmd), "ln -s '%s/nowhere/x' '%s'", root, disks[1]);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(open_disks(2, &err), ERR_CONFIG);
	assert_non_null(strstr(err.text, disks[1]));
	store = NULL;
	snprintf(cmd, sizeof(cmd), "rm '%s'", disks[1]);
	assert_int_equal(system(cmd), 0);
	err_clear(&err);
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = IO_LIST, .nth = 1, .sticky = true,
							 .eno = EIO});
	assert_int_equal(open_disks(2, &err), ERR_IO);
	assert_int_equal(faulty.fired[fault], 2);
	assert_non_null(strstr(err.text, disks[0]));
	store = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup_dirs, teardown)
		T(test_one_bad_sector_is_no_bad_disk),
		T(test_many_bad_sectors_are),
		T(test_a_disk_that_cannot_name_its_writes),
		T(test_a_disk_that_becomes_read_only),
		T(test_a_full_disk_has_not_failed),
		T(test_what_is_lost_is_copied_to_another_disk),
		T(test_a_failed_disk_comes_back_beside_a_newer_copy),
		T(test_a_failed_disk_comes_back_behind_a_newer_copy),
		T(test_a_failed_disk_comes_back_beside_a_copy_of_its_version),
		T(test_both_copies_of_one_version_are_deleted),
		T(test_a_disk_that_is_missing_at_start),
		T(test_a_server_without_disks_does_not_start),
#undef T
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
