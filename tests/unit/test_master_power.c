/* master: it knows when unsynced bytes of a chunk may be gone: when every replica that could count
 * had lost its page cache, and only then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "tests/unit/raise_fixture.h"

/* As a server reports a replica after a crash of its process, or of its machine. */
static void crashed(unsigned s, bool power)
{
	fakes[s].replica.unclean = true;
	fakes[s].replica.lossy |= power;
	if (power)
		fakes[s].replica.told = 0;
	csreg_mark(&m.servers, CHUNK, s, MARK_UNCLEAN | (power ? MARK_LOSSY : 0));
}

static void mend(void)
{
	repair_now(&m, CHUNK);
	run(2000);
}

static void test_all_lose_their_power(void **unused)
{
	for (unsigned s = 1; s <= 3; s++)
		crashed(s, true);
	mend();
	assert_string_equal(chunk_text(), "v2 1,2,3");
	assert_int_equal(row().settled, 2);
	/* Who is asked where it is gets told. */
	{
		struct wire_chunk wire;
		struct row_chunk r = row();
		ns_chunk(CHUNK, 0, &r, &wire);
		assert_int_equal(wire.settled, 2);
	}
	/* It is not told of again: a raise for another reason leaves it as it is. */
	start(0);
	settle();
	assert_string_equal(chunk_text(), "v3 1,2,3");
	assert_int_equal(row().settled, 2);
}

static void test_all_processes_die(void **unused)
{
	for (unsigned s = 1; s <= 3; s++)
		crashed(s, false);
	mend();
	assert_string_equal(chunk_text(), "v2 1,2,3");
	assert_int_equal(row().settled, 0);
}

static void test_one_or_two_of_three_lose_their_power(void **unused)
{
	crashed(1, true);
	mend();
	assert_story("2:raise v1>2; 3:raise v1>2; 1:pull v2 from 2; ");
	crashed(1, true);
	crashed(2, true);
	mend();
	assert_story("3:raise v2>3; 1:pull v3 from 3; 2:pull v3 from 3; ");
	assert_string_equal(chunk_text(), "v3 1,2,3");
	assert_int_equal(row().settled, 0);
}

/* One whose process died has everything that was acknowledged, even if a block is torn; and it
 * takes no block from those that do not. */
static void test_one_keeps_its_page_cache(void **unused)
{
	crashed(1, true);
	crashed(2, true);
	crashed(3, false);
	csreg_mark(&m.servers, CHUNK, 3, MARK_UNCLEAN | MARK_TORN);
	mend();
	assert_story("3:raise v1>2 settle with; 1:pull v2 from 3; 2:pull v2 from 3; ");
	assert_int_equal(row().settled, 0);
}

/* The master dies when the one that counts has settled and the others have copied it, or not: the
 * next one must not take them for good. */
static void test_the_master_dies_before_it_has_made_a_note(void **unused)
{
	for (unsigned s = 1; s <= 3; s++)
		crashed(s, true);
	start(0);
	step_until_raised();
	step(); /* one copy */
	restart();
	for (unsigned s = 1; s <= 3; s++) {
		link_up(s, SERVER_UP);
		if (fakes[s].replica.unclean)
			crashed(s, true); /* as it reports itself */
	}
	run(5000);
	assert_string_equal(chunk_text(), "v2 1,2,3");
	assert_int_equal(row().settled, 2);
}

static void test_the_one_that_settled_is_gone_with_the_master(void **unused)
{
	for (unsigned s = 1; s <= 3; s++)
		crashed(s, true);
	start(0);
	step_until_raised();
	step();
	step();
	restart();
	for (unsigned s = 2; s <= 3; s++)
		link_up(s, SERVER_UP);
	run(10 * 60000);
	assert_string_equal(chunk_text(), "v2 2,3");
	assert_int_equal(row().settled, 2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_all_lose_their_power),
		T(test_all_processes_die),
		T(test_one_or_two_of_three_lose_their_power),
		T(test_one_keeps_its_page_cache),
		T(test_the_master_dies_before_it_has_made_a_note),
		T(test_the_one_that_settled_is_gone_with_the_master),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
