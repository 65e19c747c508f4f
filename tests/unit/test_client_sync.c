/* client: what fsync promises when servers lost what was not synced, and when others write
 * meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "tests/unit/client_fixture.h"

static struct cairn_file *hello(void)
{
	struct cairn_attr attr;
	struct cairn_file *f;

	assert_int_equal(cairn_create_at(fs, NULL, 1, "f", 0644, O_RDWR, &attr, &f), 0);
	assert_int_equal(cairn_pwrite(f, "hello", 5, 0), 5);
	return f;
}

/* The chunk's version is raised; after a loss of all that was not synced, or without one. */
static void raised(bool loss)
{
	pthread_mutex_lock(&c.lock);
	c.chunks[0].version++;
	if (loss)
		c.chunks[0].settled = c.chunks[0].version;
	pthread_mutex_unlock(&c.lock);
}

static void test_a_loss_is_told_once_to_each(void **state)
{
	struct cairn_file *f = hello(), *g, *later;

	assert_int_equal(cairn_open_inode(fs, NULL, FAKE_FILE, O_RDONLY, &g), 0);
	raised(true);
	assert_int_equal(cairn_fsync(f), -EIO);
	assert_non_null(strstr(cairn_error(), "lost"));
	assert_int_equal(cairn_fsync(f), 0);
	assert_int_equal(cairn_open_inode(fs, NULL, FAKE_FILE, O_RDONLY, &later), 0);
	assert_int_equal(cairn_fsync(g), -EIO);
	assert_int_equal(cairn_fsync(g), 0);
	assert_int_equal(cairn_fsync(later), 0);
	/* What is written after it is another matter. */
	assert_int_equal(cairn_pwrite(f, "HELLO", 5, 0), 5);
	assert_int_equal(cairn_fsync(f), 0);
	cairn_close(f);
	cairn_close(g);
	cairn_close(later);
}

static void test_what_was_synced_was_not_lost(void **state)
{
	struct cairn_file *f = hello();

	assert_int_equal(cairn_fsync(f), 0);
	raised(true);
	assert_int_equal(cairn_fsync(f), 0);
	assert_int_equal(cairn_pwrite(f, "HELLO", 5, 0), 5);
	assert_int_equal(cairn_fsync(f), 0);
	cairn_close(f);
}

static void test_a_raise_without_a_loss_loses_nothing(void **state)
{
	struct cairn_file *f = hello();

	raised(false);
	assert_int_equal(cairn_fsync(f), 0);
	/* Neither does an earlier loss. */
	raised(true);
	raised(false);
	assert_int_equal(cairn_pwrite(f, "HELLO", 5, 0), 5);
	raised(false);
	assert_int_equal(cairn_fsync(f), 0);
	cairn_close(f);
}

/* Bytes of before the loss are not covered by those of after it. */
static void test_a_later_write_does_not_hide_the_loss(void **state)
{
	struct cairn_file *f = hello();

	raised(true);
	raised(false);
	assert_int_equal(cairn_pwrite(f, "HE", 2, 0), 2);
	assert_int_equal(cairn_fsync(f), -EIO);
	assert_int_equal(cairn_fsync(f), 0);
	cairn_close(f);
}

static void test_a_write_with_o_dsync_fails_too(void **state)
{
	struct cairn_file *f = hello(), *g;

	raised(true);
	assert_int_equal(cairn_open_inode(fs, NULL, FAKE_FILE, O_RDWR | O_DSYNC, &g), 0);
	assert_int_equal(cairn_pwrite(g, "x", 1, 9), -EIO);
	assert_int_equal(cairn_pwrite(g, "x", 1, 9), 1);
	cairn_close(g);
	cairn_close(f);
}

static struct cairn_file *hello_dsync(void)
{
	struct cairn_file *f = hello(), *g;

	assert_int_equal(cairn_fsync(f), 0);
	assert_int_equal(cairn_open_inode(fs, NULL, FAKE_FILE, O_RDWR | O_DSYNC, &g), 0);
	cairn_close(f);
	fake_trace_clear(&c);
	return g;
}

/* The servers sync before they answer: no message more. */
static void test_o_dsync_is_one_message_to_the_chain(void **state)
{
	struct cairn_file *g = hello_dsync();

	assert_int_equal(cairn_pwrite(g, "x", 1, 9), 1);
	assert_trace(&c, "WRITE 9+1 v1 chain 1 on 1 sync\nWROTE #3\n");
	assert_int_equal(cairn_fsync(g), 0); /* nothing is left to sync */
	assert_trace(&c, "");
	cairn_close(g);
}

/* A head that got the first one and does not do it again, nor syncs again: who has sent twice asks. */
static void test_o_dsync_that_was_sent_twice(void **state)
{
	struct cairn_file *g = hello_dsync();

	pthread_mutex_lock(&c.lock);
	c.servers[0].drop_op = OP_WRITE;
	c.servers[0].drops = 1;
	pthread_mutex_unlock(&c.lock);
	assert_int_equal(cairn_pwrite(g, "x", 1, 9), 1);
	assert_int_equal(c.servers[0].drops, 0);
	assert_trace(&c, "WRITE dropped on 1\nWRITE 9+1 v1 chain 1 on 1 sync\nWROTE #3\n"
			 "SYNC v1 on 1\n");
	cairn_close(g);
}

/* It is known beyond the last close. */
static void test_a_closed_file(void **state)
{
	struct cairn_file *f = hello();

	cairn_close(f);
	assert_int_equal(cairn_open_inode(fs, NULL, FAKE_FILE, O_RDWR, &f), 0);
	raised(true);
	assert_int_equal(cairn_fsync(f), -EIO);
	assert_int_equal(cairn_fsync(f), 0);
	cairn_close(f);
}

/* Two chunks, and neither can be synced: the first failure is the one that is told. */
static void test_several_chunks_that_cannot_be_synced(void **state)
{
	struct cairn_file *f = hello();

	assert_int_equal(cairn_pwrite(f, "hello", 5, 1u << FAKE_CHUNK_BITS), 5);
	pthread_mutex_lock(&c.lock);
	for (unsigned i = 0; i < FAKE_SERVERS; i++) {
		c.servers[i].fail_op = OP_SYNC;
		c.servers[i].fail_code = ERR_INVAL; /* which is not tried again */
		c.servers[i].fails = UINT32_MAX;
	}
	pthread_mutex_unlock(&c.lock);
	assert_int_equal(cairn_fsync(f), -EINVAL);
	assert_non_null(strstr(cairn_error(), "sync chunk"));
	pthread_mutex_lock(&c.lock);
	for (unsigned i = 0; i < FAKE_SERVERS; i++)
		c.servers[i].fail_op = 0;
	pthread_mutex_unlock(&c.lock);
	assert_int_equal(cairn_fsync(f), 0);
	cairn_close(f);
}

/* ---- a sync while another thread writes ---- */

static void *write_slowly(void *arg)
{
	assert_int_equal(cairn_pwrite(arg, "HELLO", 5, 0), 5);
	return NULL;
}

static void test_a_sync_during_a_write_leaves_it_dirty(void **state)
{
	struct cairn_file *f = hello();
	pthread_t thread;
	char *trace;

	assert_int_equal(cairn_fsync(f), 0);
	pthread_mutex_lock(&c.lock);
	c.servers[0].slow_op = OP_WRITE;
	c.servers[0].slow_ms = 60000; /* until it is let go */
	pthread_mutex_unlock(&c.lock);
	assert_int_equal(pthread_create(&thread, NULL, write_slowly, f), 0);
	while (!fake_is_slow(&c.servers[0], 1))
		usleep(1000);
	/* The server has nothing of it yet. */
	assert_int_equal(cairn_fsync(f), 0);
	pthread_mutex_lock(&c.lock);
	c.servers[0].slow_op = 0;
	pthread_cond_broadcast(&c.changed);
	pthread_mutex_unlock(&c.lock);
	pthread_join(thread, NULL);
	fake_trace_clear(&c);
	assert_int_equal(cairn_fsync(f), 0);
	trace = fake_trace_copy(&c);
	assert_string_equal(trace, "SYNC v1 on 1\n");
	free(trace);
	cairn_close(f);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_loss_is_told_once_to_each),
		TEST(test_what_was_synced_was_not_lost),
		TEST(test_a_raise_without_a_loss_loses_nothing),
		TEST(test_a_later_write_does_not_hide_the_loss),
		TEST(test_a_write_with_o_dsync_fails_too),
		TEST(test_o_dsync_is_one_message_to_the_chain),
		TEST(test_o_dsync_that_was_sent_twice),
		TEST(test_a_closed_file),
		TEST(test_several_chunks_that_cannot_be_synced),
		TEST(test_a_sync_during_a_write_leaves_it_dirty),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
