/* client: read-ahead, against a cluster of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <fcntl.h>
#include <string.h>

#include "tests/unit/fake_cluster.h"

enum { STEP = 64 << 10, BYTES = 3 << 20 };

static struct fake_cluster c;
static struct cairn *fs;
static struct cairn_file *file;
static uint8_t content[BYTES], buf[BYTES];

static int setup(void **state)
{
	struct cairn_attr attr;

	fake_start(&c, 2);
	fs = fake_client(&c, 1 << 20);
	assert_int_equal(cairn_create_at(fs, NULL, 1, "f", 0644, O_RDWR, &attr, &file), 0);
	for (size_t i = 0; i < BYTES; i++)
		content[i] = (uint8_t)(i % 251 + i / STEP);
	assert_int_equal(cairn_pwrite(file, content, BYTES, 0), BYTES);
	fake_trace_clear(&c);
	return 0;
}

static int teardown(void **state)
{
	cairn_close(file);
	cairn_disconnect(fs);
	fake_stop(&c);
	return 0;
}

static void read_step(uint64_t offset, size_t bytes)
{
	ssize_t n = cairn_pread(file, buf, bytes, offset);

	if (n < 0)
		fail_msg("pread: %s", cairn_error());
	assert_int_equal(n, bytes);
	assert_memory_equal(buf, content + offset, bytes);
}

static unsigned reads_seen(void)
{
	char *trace = fake_trace_copy(&c);
	unsigned n = 0;

	for (const char *p = trace; (p = strstr(p, "READ ")); p += 4)
		n++;
	free(trace);
	return n;
}

/* Until a READ that covers the byte at offset has arrived and been answered. */
static void wait_fetched(uint64_t offset)
{
	int64_t deadline = deadline_in(5000);
	bool there = false;

	while (!there && clock_ms() < deadline) {
		char *trace = fake_trace_copy(&c);
		for (const char *p = trace; (p = strstr(p, "READ ")); p += 4) {
			unsigned from, len;
			if (sscanf(p, "READ %u+%u", &from, &len) == 2 && from <= offset &&
			    offset < (uint64_t)from + len)
				there = true;
		}
		free(trace);
		usleep(1000);
	}
	assert_true(there);
}

static void test_sequential(void **state)
{
	unsigned n;

	for (uint64_t off = 0; off < BYTES; off += STEP)
		read_step(off, STEP);
	/* Far fewer messages than reads: pieces of the window, not of the caller. */
	n = reads_seen();
	assert_in_range(n, 1, BYTES / STEP * 2 / 3);
}

static void test_small_reads_at_random(void **state)
{
	static const uint64_t at[] = {2 << 20, 5, 2500000, 1000, 3000000, 70000};

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++)
		read_step(at[i], 100);
	assert_int_equal(reads_seen(), sizeof(at) / sizeof(at[0])); /* nothing was read ahead */
}

/* What was read ahead becomes `fill` at the servers, for the reason that `why` tells; then it is read. */
static void read_what_changed(uint8_t fill, void (*why)(void))
{
	read_step(0, STEP);
	read_step(STEP, STEP);
	wait_fetched(2 * STEP);
	pthread_mutex_lock(&c.lock);
	for (int i = 0; i < 2; i++)
		memset(c.servers[i].data[0] + 2 * STEP, fill, STEP);
	memset(content + 2 * STEP, fill, STEP);
	why();
	pthread_mutex_unlock(&c.lock);
	for (uint64_t off = 2 * STEP; off < BYTES; off += STEP)
		read_step(off, STEP);
}

static void was_written(void)
{
	c.change++;
}

static void was_lost(void)
{
	c.chunks[0].settled = ++c.chunks[0].version;
}

/* Another session writes what was read ahead here: seen at once. */
static void test_foreign_write(void **state)
{
	read_what_changed('N', was_written);
}

/* Every server loses its power, and with it what was read ahead here and not synced: who reads it now
 * would see it go later. */
static void test_lost_bytes(void **state)
{
	read_what_changed(0, was_lost);
}

static void test_foreign_truncate(void **state)
{
	read_step(0, STEP);
	read_step(STEP, STEP);
	wait_fetched(2 * STEP);
	pthread_mutex_lock(&c.lock);
	c.size = 2 * STEP + 7;
	c.change++;
	pthread_mutex_unlock(&c.lock);
	assert_int_equal(cairn_pread(file, buf, STEP, 2 * STEP), 7);
	assert_memory_equal(buf, content + 2 * STEP, 7);
	assert_int_equal(cairn_pread(file, buf, STEP, 3 * STEP), 0);
}

/* And our own. */
static void test_own_write(void **state)
{
	read_step(0, STEP);
	read_step(STEP, STEP);
	wait_fetched(2 * STEP);
	memset(content + 2 * STEP + 10, 'X', 20);
	assert_int_equal(cairn_pwrite(file, content + 2 * STEP + 10, 20, 2 * STEP + 10), 20);
	read_step(2 * STEP, STEP);
	read_step(3 * STEP, STEP);
}

/* A server dies behind the read-ahead: the reader does not notice. */
static void test_server_dies(void **state)
{
	for (uint64_t off = 0; off < BYTES; off += STEP) {
		if (off == BYTES / 2)
			fake_node_stop(&c.servers[(100 + c.session) % 2]);
		read_step(off, STEP);
	}
}

enum { READERS = 6 };

static void *read_all(void *arg)
{
	uint8_t *mine = malloc(STEP);
	void *bad = NULL;

	for (uint64_t off = (uintptr_t)arg * STEP; off < BYTES && !bad; off += READERS * STEP)
		if (cairn_pread(file, mine, STEP, off) != STEP ||
		    memcmp(mine, content + off, STEP) != 0)
			bad = (void *)1;
	free(mine);
	return bad;
}

/* As the kernel does it: one stream, read by several threads. */
static void test_parallel_stream(void **state)
{
	pthread_t t[READERS];
	void *bad;

	for (uintptr_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, read_all, (void *)i), 0);
	for (int i = 0; i < READERS; i++) {
		pthread_join(t[i], &bad);
		assert_null(bad);
	}
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sequential), TEST(test_small_reads_at_random), TEST(test_foreign_write),
		TEST(test_lost_bytes), TEST(test_foreign_truncate), TEST(test_own_write), TEST(test_server_dies),
		TEST(test_parallel_stream),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
