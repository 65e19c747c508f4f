/* client: writes that are held back under a lease: when they are sent, what is told of them before that,
 * and what becomes of them when something fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "client/client.h"
#include "tests/unit/fake_cluster.h"

enum { AGE_NEVER_MS = 600000, WAIT_MS = 10000 };

static struct fake_cluster c;
static struct cairn *fs;

static void wait_for(bool (*is)(void))
{
	int64_t until = deadline_in(WAIT_MS);

	while (!is() && clock_ms() < until)
		usleep(1000);
	assert_true(is());
}

static bool ready(void)
{
	return !lease_full(&fs->lease); /* the first pong has come */
}

static void connect_with(int64_t age_ms)
{
	struct cairn_options o = {.masters = c.masters, .credentials = c.credentials, .name = "test",
				  .timeout_ms = 3000, .readahead_bytes = -1, .cache = true,
				  .write_buffer_bytes = 64 << 20,
				  .write_buffer_ms = age_ms};
	char text[256] = "";

	if (cairn_connect(&o, &fs, text, sizeof(text)) != 0)
		fail_msg("connect: %s", text);
	wait_for(ready);
	fake_trace_clear(&c);
}

static int setup(void **state)
{
	fake_start(&c, 2);
	connect_with(AGE_NEVER_MS);
	return 0;
}

static int teardown(void **state)
{
	cairn_disconnect(fs);
	fake_stop(&c);
	return 0;
}

static struct cairn_file *file_with(const char *text)
{
	struct cairn_attr attr;
	struct cairn_file *f;

	assert_int_equal(cairn_create_at(fs, NULL, 1, "f", 0644, O_RDWR, &attr, &f), 0);
	assert_int_equal(cairn_pwrite(f, text, strlen(text), 0), strlen(text));
	return f;
}

static uint64_t master_size(void)
{
	uint64_t size;

	pthread_mutex_lock(&c.lock);
	size = c.size;
	pthread_mutex_unlock(&c.lock);
	return size;
}

static void test_a_write_is_held_back_until_fsync(void **state)
{
	struct cairn_file *f = file_with("hello");
	struct stat before, after;
	char got[8] = "";

	assert_trace(&c, "MAKE #1\n");
	assert_int_equal(cairn_pwrite(f, "HE", 2, 0), 2);
	assert_int_equal(cairn_pread(f, got, sizeof(got), 0), 5);
	assert_string_equal(got, "HEllo");
	assert_int_equal(cairn_fstat(f, &before), 0);
	assert_int_equal(before.st_size, 5);
	assert_true(before.st_mtim.tv_sec >= 5000 && before.st_mtim.tv_sec < 5100);
	assert_trace(&c, "");
	assert_int_equal(cairn_fsync(f), 0);
	assert_trace(&c, "WRITE 0+5 v1 chain 1 on 1 create sync\nWROTE #2\n");
	assert_int_equal(master_size(), 5);
	/* What was told stays true: the master is given the time. */
	assert_int_equal(c.wrote_flags, WROTE_HELD);
	assert_int_equal(c.wrote_mtime.sec, before.st_mtim.tv_sec);
	assert_int_equal(c.wrote_mtime.nsec, before.st_mtim.tv_nsec);
	assert_int_equal(cairn_fstat(f, &after), 0);
	assert_int_equal(after.st_size, 5);
	cairn_close(f);
}

static bool told(void)
{
	return master_size() == 5;
}

static void test_age_flushes(void **state)
{
	struct cairn_file *f;

	cairn_disconnect(fs);
	connect_with(30);
	f = file_with("hello");
	cairn_close(f);
	wait_for(told);
}

static void test_close_waits_for_nothing_and_the_end_of_the_session_sends_it(void **state)
{
	struct cairn_file *f = file_with("hello");

	assert_int_equal(cairn_close(f), 0);
	assert_int_equal(master_size(), 0);
	cairn_disconnect(fs);
	assert_int_equal(master_size(), 5);
	connect_with(AGE_NEVER_MS);
}

static bool returned(void)
{
	unsigned n;

	pthread_mutex_lock(&c.lock);
	n = c.returned;
	pthread_mutex_unlock(&c.lock);
	return n > 0;
}

static void test_a_recall_flushes_before_the_right_is_returned(void **state)
{
	struct cairn_file *f = file_with("hello");

	fake_recall(&c, RECALL_BUFFER | RECALL_WRITE);
	wait_for(returned);
	assert_int_equal(c.flushing, 1);
	assert_int_equal(master_size(), 5);
	cairn_close(f);
}

static void test_what_is_written_in_pieces_is_sent_in_one(void **state)
{
	struct cairn_file *f = file_with("0");
	char digit[2] = "";

	for (int i = 1; i < 10; i++) {
		digit[0] = (char)('0' + i);
		assert_int_equal(cairn_pwrite(f, digit, 1, (uint64_t)i), 1);
	}
	fake_trace_clear(&c);
	assert_int_equal(cairn_fsync(f), 0);
	assert_trace(&c, "WRITE 0+10 v1 chain 1 on 1 create sync\nWROTE #2\n");
	assert_memory_equal(c.servers[1].data[0], "0123456789", 10);
	cairn_close(f);
}

/* One sync for all that is in several messages, and none by the way when nobody asked for one. */
static void test_several_pieces_are_synced_together(void **state)
{
	struct cairn_file *f = file_with("hello");

	assert_int_equal(cairn_pwrite(f, "world", 5, 10), 5);
	fake_trace_clear(&c);
	assert_int_equal(cairn_fsync(f), 0);
	assert_trace(&c, "WRITE 0+5 v1 chain 1 on 1 create\nWRITE 10+5 v1 chain 1 on 1 create\n"
			 "WROTE #2\nSYNC v1 on 1\n");
	assert_int_equal(cairn_pwrite(f, "W", 1, 10), 1);
	assert_int_equal(file_settle(f, NULL), 0);
	assert_int_equal(cairn_fsync(f), 0);
	assert_trace(&c, "WRITE 10+1 v1 chain 1 on 1\nWROTE #3\nSYNC v1 on 1\n");
	cairn_close(f);
}

static void test_a_lasting_failure_is_told_once_to_each(void **state)
{
	struct cairn_file *f = file_with("hello"), *g, *later;
	struct stat st;

	assert_int_equal(cairn_open_inode(fs, NULL, FAKE_FILE, O_RDONLY, &g), 0);
	pthread_mutex_lock(&c.lock);
	c.master.fail_op = OP_WROTE;
	c.master.fail_code = ERR_NOSPC;
	c.master.fails = 1;
	pthread_mutex_unlock(&c.lock);
	assert_int_equal(cairn_fsync(f), -ENOSPC);
	assert_int_equal(c.master.fails, 0); /* it was injected */
	assert_int_equal(cairn_fsync(f), 0);
	assert_int_equal(cairn_open_inode(fs, NULL, FAKE_FILE, O_RDONLY, &later), 0);
	assert_int_equal(cairn_flush(g), -ENOSPC);
	assert_int_equal(cairn_close(g), 0);
	assert_int_equal(cairn_close(later), 0);
	assert_int_equal(cairn_fstat(f, &st), 0);
	assert_int_equal(st.st_size, 0); /* the bytes are gone, and nobody says otherwise */
	assert_int_equal(cairn_pwrite(f, "again", 5, 0), 5);
	assert_int_equal(cairn_fsync(f), 0);
	assert_int_equal(master_size(), 5);
	cairn_close(f);
}

static void test_a_failure_that_nobody_saw_waits_for_the_next_open(void **state)
{
	struct cairn_file *f = file_with("hello"), *g;

	pthread_mutex_lock(&c.lock);
	c.master.fail_op = OP_WROTE;
	c.master.fail_code = ERR_NOSPC;
	c.master.fails = 1;
	pthread_mutex_unlock(&c.lock);
	assert_int_equal(cairn_close(f), 0);
	writeback_settle(&fs->writeback, FAKE_FILE, false, deadline_in(WAIT_MS));
	assert_int_equal(cairn_open_inode(fs, NULL, FAKE_FILE, O_RDONLY, &g), 0);
	assert_int_equal(cairn_fsync(g), -ENOSPC);
	assert_int_equal(cairn_fsync(g), 0);
	cairn_close(g);
}

static bool attached_anew(void)
{
	bool is;

	pthread_mutex_lock(&c.lock);
	is = !c.lost && c.listed > 0;
	pthread_mutex_unlock(&c.lock);
	return is;
}

static void lease_lost(void)
{
	pthread_mutex_lock(&c.lock);
	c.lost = true;
	pthread_mutex_unlock(&c.lock);
	wait_for(attached_anew);
}

static void test_after_a_lost_lease_it_is_flushed_if_nobody_changed_the_file(void **state)
{
	struct cairn_file *f = file_with("hello");

	lease_lost();
	wait_for(returned);
	assert_int_equal(master_size(), 5);
	assert_int_equal(cairn_fsync(f), 0);
	cairn_close(f);
}

static void test_after_a_lost_lease_another_clients_change_stays(void **state)
{
	struct cairn_file *f = file_with("hello");

	pthread_mutex_lock(&c.lock);
	c.change++; /* another client has been there */
	pthread_mutex_unlock(&c.lock);
	lease_lost();
	wait_for(returned);
	assert_int_equal(master_size(), 0);
	assert_int_equal(cairn_fsync(f), -EIO);
	assert_int_equal(cairn_fsync(f), 0);
	cairn_close(f);
}

static void test_osync_is_not_held_back(void **state)
{
	struct cairn_file *f = file_with("hello"), *g;

	assert_int_equal(cairn_open_inode(fs, NULL, FAKE_FILE, O_RDWR | O_DSYNC, &g), 0);
	assert_int_equal(cairn_pwrite(g, "J", 1, 0), 1);
	/* What was held back went before it. */
	assert_memory_equal(c.servers[0].data[0], "Jello", 5);
	assert_memory_equal(c.servers[1].data[0], "Jello", 5);
	assert_int_equal(master_size(), 5);
	cairn_close(g);
	cairn_close(f);
}

static void test_a_read_of_what_is_not_in_memory_flushes(void **state)
{
	struct cairn_file *f = file_with("hello");
	char got[12] = "";

	assert_int_equal(cairn_pwrite(f, "world", 5, 7), 5);
	assert_int_equal(cairn_pread(f, got, sizeof(got), 0), 12);
	assert_memory_equal(got, "hello\0\0world", 12);
	assert_int_equal(master_size(), 12);
	cairn_close(f);
}

static void test_of_a_shared_file_nothing_is_asked_that_only_a_held_back_write_needs(void **state)
{
	struct cairn_file *f;

	c.shared = true;
	f = file_with("hello");
	assert_trace(&c, "MAKE #1\nWRITE 0+5 v1 chain 1 on 1 create\nWROTE #2\n");
	cairn_close(f);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_write_is_held_back_until_fsync),
		TEST(test_age_flushes),
		TEST(test_close_waits_for_nothing_and_the_end_of_the_session_sends_it),
		TEST(test_a_recall_flushes_before_the_right_is_returned),
		TEST(test_what_is_written_in_pieces_is_sent_in_one),
		TEST(test_several_pieces_are_synced_together),
		TEST(test_a_lasting_failure_is_told_once_to_each),
		TEST(test_a_failure_that_nobody_saw_waits_for_the_next_open),
		TEST(test_after_a_lost_lease_it_is_flushed_if_nobody_changed_the_file),
		TEST(test_after_a_lost_lease_another_clients_change_stays),
		TEST(test_osync_is_not_held_back),
		TEST(test_a_read_of_what_is_not_in_memory_flushes),
		TEST(test_of_a_shared_file_nothing_is_asked_that_only_a_held_back_write_needs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
