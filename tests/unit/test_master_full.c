/* master: a server without room for a copy. Trying again at once would help nobody, and cost those
 * who write: each try raises the chunk's version. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "tests/unit/raise_fixture.h"

/* A write is under way that was never completed: nobody has told of it. */
static void unwrite(void)
{
	struct row_chunk r = row();

	r.flags = 0;
	state_begin(m.st);
	state_put_row_chunk(m.st, key_chunk(CHUNK), &r);
	assert_int_equal(state_commit(m.st), 0);
}

static void test_a_target_without_room_is_left_alone_for_a_while(void **unused)
{
	fakes[3].full = fakes[4].full = fakes[5].full = true;
	unwrite();
	link_down(3);
	start(3);
	settle();
	assert_string_equal(chunk_text(), "v2 1,2");
	link_up(3, SERVER_UP);
	run(60000);
	/* Every server was tried, each at most once in five seconds. */
	assert_in_range(row().version, 3, 2 + 60 / 5 + 1);
	/* When there is room, all is well. */
	fakes[3].full = fakes[4].full = fakes[5].full = false;
	run(30000);
	assert_int_equal(row().n_members, 3);
}

static void test_nor_is_a_written_chunk_raised_for_nothing(void **unused)
{
	fakes[3].full = fakes[4].full = fakes[5].full = true;
	link_down(3);
	start(3);
	settle();
	link_up(3, SERVER_UP);
	run(60000);
	assert_string_equal(chunk_text(), "v2 1,2");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_target_without_room_is_left_alone_for_a_while),
		T(test_nor_is_a_written_chunk_raised_for_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
