/* The checker of the fault suite finds what it is there to find: its model of a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <string.h>

#include "tests/fault/checker/content.h"
#include "tests/fault/checker/model.h"

enum { FILE_NUMBER = 7, ROOM = 20000 };

static struct model *m;
static uint8_t bytes[ROOM];
static char why[MODEL_TEXT_BYTES];

static int setup(void **state)
{
	m = model_new(FILE_NUMBER);
	memset(bytes, 0, sizeof(bytes));
	return 0;
}

static int teardown(void **state)
{
	model_free(m);
	return 0;
}

/* A write that the file took. */
static uint32_t write_in(uint64_t offset, size_t len)
{
	uint32_t w = model_next_write(m);
	content_fill(FILE_NUMBER, w, offset, bytes + offset, len);
	model_wrote(m, w, offset, len, len);
	return w;
}

static bool reads(uint64_t offset, size_t len, size_t n)
{
	return model_read(m, offset, len, bytes + offset, n, why) == 0;
}

static void test_right(void **state)
{
	write_in(0, 1000);
	write_in(5, 3);
	write_in(500, 9000);
	write_in(12000, 1);
	assert_true(reads(0, ROOM, 12001));
	assert_true(reads(777, 1000, 1000));
	assert_int_equal(model_saw_size(m, 12001, why), 0);
	model_truncated(m, 600, true);
	memset(bytes + 600, 0, ROOM - 600);
	assert_true(reads(0, 1000, 600));
	model_truncated(m, 5000, true);
	assert_true(reads(0, 5000, 5000));
}

static void test_wrong_bytes(void **state)
{
	write_in(0, 8192);
	memset(bytes + 4096, 0, 4096);
	assert_false(reads(0, 8192, 8192));
	assert_non_null(strstr(why, "at 4096 holds 4096 zeros"));
	content_fill(9, 3, 0, bytes + 4096, 4096);
	assert_false(reads(4096, 4096, 4096));
	assert_non_null(strstr(why, "bytes of file 9, write 3, offset 0"));
}

static void test_old_bytes(void **state)
{
	uint8_t old[100];

	write_in(0, 100);
	memcpy(old, bytes, 100);
	write_in(0, 100);
	memcpy(bytes, old, 100);
	assert_false(reads(0, 100, 100));
	assert_non_null(strstr(why, "write 1, offset 0, not write 2"));
}

static void test_size(void **state)
{
	write_in(0, 100);
	assert_false(reads(0, 100, 99));
	assert_int_equal(model_saw_size(m, 101, why), -1);
	/* A write that may have come in: any part of it, nothing more. */
	model_wrote(m, model_next_write(m), 200, 0, 50);
	assert_int_equal(model_saw_size(m, 251, why), -1);
	assert_int_equal(model_saw_size(m, 220, why), 0);
	assert_int_equal(model_saw_size(m, 100, why), -1); /* not back again */
	assert_int_equal(model_size_max(m), 220);
}

/* After a failure: the old bytes or the new, never anything else; and once new, not old again. */
static void test_unknown_outcome(void **state)
{
	uint8_t old[4096];
	uint32_t w;

	write_in(0, 4096);
	memcpy(old, bytes, sizeof(old));
	w = model_next_write(m);
	model_wrote(m, w, 0, 0, 4096);
	assert_true(reads(0, 4096, 4096));
	content_fill(FILE_NUMBER, w, 1000, bytes + 1000, 96);
	assert_true(reads(0, 4096, 4096));
	memcpy(bytes, old, sizeof(old));
	assert_false(reads(0, 4096, 4096));
	assert_true(reads(0, 992, 992));
	assert_true(reads(1120, 100, 100));
	/* What is acknowledged after it is not undone by it. */
	write_in(0, 4096);
	content_fill(FILE_NUMBER, w, 0, bytes, 4096);
	assert_false(reads(0, 4096, 4096));
}

static void test_power(void **state)
{
	uint8_t synced[4096];
	uint32_t w;

	write_in(0, 4096);
	model_synced(m);
	memcpy(synced, bytes, sizeof(synced));
	write_in(0, 4096);
	write_in(4096, 4096);
	memcpy(bytes, synced, sizeof(synced));
	assert_false(reads(0, 4096, 4096));
	/* Unsynced bytes may be lost, to what was there; the size is not. */
	model_power_lost(m);
	assert_true(reads(0, 4096, 4096));
	memset(bytes + 4096, 0, 4096);
	assert_true(reads(0, 8192, 8192));
	assert_int_equal(model_saw_size(m, 4096, why), -1);
	/* Synced ones are not. */
	w = write_in(0, 4096);
	model_synced(m);
	model_power_lost(m);
	memcpy(bytes, synced, sizeof(synced));
	assert_false(reads(0, 4096, 4096));
	content_fill(FILE_NUMBER, w, 0, bytes, 4096);
	assert_true(reads(0, 4096, 4096));
	/* What a truncation cut off does not come back. */
	model_truncated(m, 0, true);
	model_power_lost(m);
	model_truncated(m, 4096, true);
	assert_false(reads(0, 4096, 4096));
}

/* An fsync that succeeds after every server lost its power says that nothing was lost; one that
 * failed before it says that something may be. */
static void test_sync_after_power(void **state)
{
	uint8_t synced[4096];

	for (int failed = 0; failed < 2; failed++) {
		write_in(0, 4096);
		model_synced(m);
		memcpy(synced, bytes, sizeof(synced));
		write_in(0, 4096);
		model_power_lost(m);
		if (failed)
			model_sync_failed(m);
		model_synced(m);
		memcpy(bytes, synced, sizeof(synced));
		assert_int_equal(reads(0, 4096, 4096), failed);
	}
}

static void test_crowded(void **state)
{
	unsigned n = 0;

	while (!model_crowded(m) && n++ < 1000)
		model_wrote(m, model_next_write(m), 0, 0, 100);
	assert_in_range(n, 3, MODEL_VALUES_MAX);
	write_in(0, 100);
	assert_int_equal(model_saw_size(m, 100, why), 0);
	model_synced(m);
	assert_false(model_crowded(m));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_right, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_old_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_size, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unknown_outcome, setup, teardown),
		cmocka_unit_test_setup_teardown(test_power, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sync_after_power, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crowded, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
