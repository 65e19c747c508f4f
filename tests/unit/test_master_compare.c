/* master: comparing the replicas of each chunk, over tests/unit/raise_fixture.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "tests/unit/raise_fixture.h"

enum { PERIOD_MS = 20000 };

static int setup_compare(void **unused)
{
	setup(unused);
	m.o.compare_period_ms = PERIOD_MS;
	return 0;
}

static struct wire_compare progress(void)
{
	struct wire_compare p;
	compare_progress(&m, &p);
	return p;
}

static void assert_content(uint32_t content)
{
	for (unsigned s = 1; s <= COPIES; s++)
		assert_int_equal(fakes[s].replica.block[0], content);
}

static void test_what_is_alike_is_left_alone(void **unused)
{
	run(1000);
	assert_story("1:check; 2:check; 3:check; ");
	assert_int_equal(progress().compared, 1);
	assert_int_equal(progress().rounds, 1);
	assert_int_equal(progress().differed, 0);
	/* Once in a period. */
	run(PERIOD_MS - 2000);
	assert_story("");
	run(2000);
	assert_story("1:check; 2:check; 3:check; ");
	assert_int_equal(progress().rounds, 2);
}

static void test_the_odd_one_is_mended_from_the_others(void **unused)
{
	fakes[1].replica.block[0] = 99; /* the head: not the first one counts, but what most have */
	run(PERIOD_MS);
	assert_story("1:check; 2:check; 3:check; 1:check; 2:check; 3:check; "
		     "1:raise v1>2; 2:raise v1>2; 3:raise v1>2; 1:pull v2 from 2; ");
	assert_content(written);
	assert_int_equal(progress().differed, 1);
	assert_int_equal(csreg_marked(&m.servers, CHUNK, 1), 0);
	/* The next round finds nothing. */
	run(PERIOD_MS);
	assert_story("1:check; 2:check; 3:check; ");
	assert_int_equal(progress().differed, 1);
}

static void test_a_lost_file_is_found(void **unused)
{
	fakes[2].replica = (struct fake_replica){0};
	run(PERIOD_MS);
	assert_content(written);
	assert_int_equal(progress().differed, 1);
}

static void test_all_three_differ(void **unused)
{
	fakes[2].replica.block[0] = 98;
	fakes[3].replica.block[0] = 99;
	run(PERIOD_MS);
	assert_content(fakes[1].replica.block[0]);
	assert_int_equal(progress().differed, 1);
	assert_int_equal(m.servers.marks ? 1 : 0, 0);
}

/* A write between the answers makes them differ once, not twice in the same way. */
static void test_a_write_under_way_is_no_difference(void **unused)
{
	fakes[1].replica.block[0] = 8;
	run(200);
	assert_story("1:check; 2:check; 3:check; ");
	fakes[2].replica.block[0] = fakes[3].replica.block[0] = 8;
	fakes[1].replica.block[0] = 9;
	run(1100);
	assert_story("1:check; 2:check; 3:check; ");
	fakes[2].replica.block[0] = fakes[3].replica.block[0] = 9;
	run(PERIOD_MS - 5000);
	assert_story("1:check; 2:check; 3:check; ");
	assert_int_equal(progress().differed, 0);
	assert_string_equal(chunk_text(), "v1 1,2,3");
}

static void test_a_busy_chunk_is_asked_for_again(void **unused)
{
	fakes[3].busy = true;
	fakes[2].replica.block[0] = 99;
	run(1500);
	assert_story("1:check; 2:check; 3:check; 1:check; 2:check; 3:check; ");
	assert_int_equal(progress().differed, 0);
	fakes[3].busy = false;
	run(PERIOD_MS - 2000);
	assert_int_equal(progress().differed, 1);
	assert_content(written);
}

static void test_a_busy_chunk_is_left_for_the_next_round(void **unused)
{
	fakes[3].busy = true;
	run(PERIOD_MS - 1000);
	buf_clear(&story);
	assert_null(m.compare.running);
	run(2000);
	assert_null(strstr(buf_str(&story), "raise"));
	assert_int_equal(progress().differed, 0);
}

static void test_chunks_that_are_not_whole_are_left_to_repair(void **unused)
{
	link_down(3);
	run(3000);
	assert_story("");
	link_up(3, SERVER_UP);
	csreg_mark(&m.servers, CHUNK, 2, MARK_DAMAGED);
	repair_now(&m, CHUNK);
	fakes[1].mute = true; /* the raise takes its time */
	run(PERIOD_MS);
	assert_null(strstr(buf_str(&story), "check"));
}

static void test_a_link_that_breaks_ends_it(void **unused)
{
	fakes[1].mute = fakes[2].mute = true;
	run(200);
	link_down(1);
	link_down(2);
	settle();
	run(10000);
	assert_null(m.compare.running);
	assert_int_equal(progress().differed, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_compare, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_alike_is_left_alone),
		TEST(test_the_odd_one_is_mended_from_the_others),
		TEST(test_a_lost_file_is_found),
		TEST(test_all_three_differ),
		TEST(test_a_write_under_way_is_no_difference),
		TEST(test_a_busy_chunk_is_asked_for_again),
		TEST(test_a_busy_chunk_is_left_for_the_next_round),
		TEST(test_chunks_that_are_not_whole_are_left_to_repair),
		TEST(test_a_link_that_breaks_ends_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
