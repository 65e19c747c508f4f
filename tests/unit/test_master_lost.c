/* master: a command or its answer is lost on a link that works. The heartbeats tell what a server
 * has in hand; nobody waits for what it has not until the command's own, long deadline. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "tests/unit/raise_fixture.h"

/* What was asked of a server and not done yet: its opcode and id; 0: nothing. */
static uint16_t asked_of(unsigned s, uint64_t *ret_id)
{
	struct wire_header h;
	struct asked *a;

	DL_FOREACH(asked, a) {
		if (a->server != s)
			continue;
		assert_int_equal(wire_header_get(a->message.data, &h, NULL), 0);
		*ret_id = h.id;
		return h.op;
	}
	return 0;
}

static void lose(unsigned s)
{
	struct asked *a, *next;

	DL_FOREACH_SAFE(asked, a, next) {
		if (a->server != s)
			continue;
		DL_DELETE(asked, a);
		buf_release(&a->message);
		free(a);
	}
}

static void beat(unsigned s, uint64_t id)
{
	struct wire_cs_heartbeat b = {.tells = 1};

	if (id)
		b.working[b.n_working++] = id;
	cs_working(csreg_find(&m.servers, s), &b);
	tick(MASTER_TICK_MS);
}

/* Server 4 gets a copy in the place of server 3's; the command is under way. */
static uint64_t copy_to_4(void)
{
	uint64_t id = 0;

	link_down(3);
	link_down(5);
	start(3);
	settle();
	assert_string_equal(chunk_text(), "v2 1,2");
	held = 4;
	run(70000); /* server 3 does not come back */
	assert_int_equal(asked_of(4, &id), OP_CHUNK_PULL);
	return id;
}

static void test_what_is_in_hand_is_waited_for(void **unused)
{
	uint64_t id = copy_to_4();

	for (unsigned i = 0; i < 10 * HEARTBEATS_UNTIL_LOST; i++)
		beat(4, id);
	held = 0;
	settle();
	assert_string_equal(chunk_text(), "v3 1,2,4");
}

static void test_what_is_lost_is_asked_for_again(void **unused)
{
	uint64_t id = copy_to_4(), again;

	lose(4);
	for (unsigned i = 0; i < HEARTBEATS_UNTIL_LOST - 1; i++)
		beat(4, 0);
	beat(4, id); /* it came late, and is there for a moment */
	for (unsigned i = 0; i < HEARTBEATS_UNTIL_LOST - 1; i++)
		beat(4, 0);
	run(10000);
	assert_int_equal(asked_of(4, &again), 0); /* it is still waited for */
	beat(4, 0);
	run(10000);
	assert_int_equal(asked_of(4, &again), OP_CHUNK_PULL);
	assert_int_not_equal(again, id);
	held = 0;
	settle();
	assert_string_equal(chunk_text(), "v3 1,2,4");
}

/* A server that cannot tell is given the whole time. */
static void test_who_does_not_tell_is_waited_for(void **unused)
{
	struct wire_cs_heartbeat silent = {0};

	copy_to_4();
	for (unsigned i = 0; i < 10 * HEARTBEATS_UNTIL_LOST; i++) {
		cs_working(csreg_find(&m.servers, 4), &silent);
		tick(MASTER_TICK_MS);
	}
	held = 0;
	settle();
	assert_string_equal(chunk_text(), "v3 1,2,4");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_what_is_in_hand_is_waited_for),
		T(test_what_is_lost_is_asked_for_again),
		T(test_who_does_not_tell_is_waited_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
