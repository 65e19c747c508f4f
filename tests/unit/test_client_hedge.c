/* client: a second replica is asked when the first one is late. */
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

static struct fake_cluster c;
static struct cairn *fs;
static struct cairn_file *f;
enum {
	BYTES = 3 * DATA_BYTES_MAX - 1234,
	SLOW_MS = 10000, /* nobody waits for one that is so slow, not on a busy machine either */
};
static uint8_t out[BYTES], in[BYTES];

/* A file of three pieces, on both servers. */
static int setup(void **state)
{
	struct cairn_attr attr;

	fake_start(&c, 2);
	fs = fake_client(&c, -1);
	for (size_t i = 0; i < BYTES; i++)
		out[i] = (uint8_t)(i * 7 + i / 4096);
	memset(in, 0, sizeof(in));
	assert_int_equal(cairn_create_at(fs, NULL, 1, "f", 0644, O_RDWR, &attr, &f), 0);
	assert_int_equal(cairn_pwrite(f, out, BYTES, 0), BYTES);
	fake_trace_clear(&c);
	return 0;
}

static int teardown(void **state)
{
	cairn_close(f);
	cairn_disconnect(fs);
	fake_stop(&c);
	return 0;
}

/* The replica that this session begins with, and the other one. */
static struct fake_node *first(void)
{
	return &c.servers[(100 + c.session) % 2];
}

static struct fake_node *second(void)
{
	return &c.servers[(101 + c.session) % 2];
}

static void slow_reads(struct fake_node *node, unsigned ms)
{
	pthread_mutex_lock(&c.lock);
	node->slow_op = OP_READ;
	node->slow_ms = ms;
	pthread_mutex_unlock(&c.lock);
}

static unsigned reads_on(const struct fake_node *node)
{
	char *trace = fake_trace_copy(&c), end[16];
	unsigned n = 0;

	snprintf(end, sizeof(end), "on %u\n", node->number);
	for (const char *p = trace; (p = strstr(p, "READ")); p++) {
		const char *line_end = strchr(p, '\n') + 1;
		n += strncmp(line_end - strlen(end), end, strlen(end)) == 0;
	}
	free(trace);
	return n;
}

/* So many from here on, however late a busy machine makes the servers. */
static void allow_hedges(unsigned n)
{
	pthread_mutex_lock(&fs->hedge.lock);
	fs->hedge.credit = n * HEDGE_COST;
	pthread_mutex_unlock(&fs->hedge.lock);
}

static void assert_reads_all(void)
{
	ssize_t n = cairn_pread(f, in, BYTES, 0);

	if (n < 0)
		fail_msg("pread: %s", cairn_error());
	assert_int_equal(n, BYTES);
	assert_memory_equal(in, out, BYTES);
}

/* One of several tries is not disturbed by whatever else this machine does. */
static void test_quick_servers_are_not_doubled(void **state)
{
	bool undisturbed = false;

	for (int i = 0; i < 20 && !undisturbed; i++) {
		uint64_t asked = fs->hedge.asked;
		allow_hedges(HEDGE_BURST);
		fake_trace_clear(&c);
		for (int n = 0; n < 20; n++)
			assert_reads_all();
		undisturbed = fs->hedge.asked == asked &&
			      (reads_on(first()) == 60 || reads_on(second()) == 60) &&
			      reads_on(first()) + reads_on(second()) == 60;
	}
	assert_true(undisturbed);
}

/* The other one answers, and is asked first from then on. */
static void test_slow_replica(void **state)
{
	int64_t begin;

	allow_hedges(1);
	slow_reads(first(), SLOW_MS);
	begin = clock_ms();
	assert_reads_all();
	assert_in_range(clock_ms() - begin, HEDGE_FIRST_MS, SLOW_MS - 1);
	assert_int_equal(fs->hedge.asked, 1);
	assert_int_equal(reads_on(second()), 3);
	for (int i = 0; i < 5; i++)
		assert_reads_all();
	assert_int_equal(fs->hedge.asked, 1);
	assert_int_equal(reads_on(second()), 18);
}

/* One byte in the middle of a block: the second lane's own copying. */
static void test_slow_replica_edges(void **state)
{
	allow_hedges(1);
	slow_reads(first(), SLOW_MS);
	assert_int_equal(cairn_pread(f, in, 5000, DATA_BYTES_MAX - 2500), 5000);
	assert_memory_equal(in, out + DATA_BYTES_MAX - 2500, 5000);
	assert_int_equal(fs->hedge.asked, 1);
	assert_int_equal(cairn_pread(f, in, 3, BYTES - 2), 2);
	assert_memory_equal(in, out + BYTES - 2, 2);
}

/* One piece of three is refused: the rest is taken, and the refused one asked for elsewhere. */
static void test_one_piece_refused(void **state)
{
	int64_t begin = clock_ms();

	allow_hedges(0);
	first()->fail_op = OP_READ;
	first()->fails = 1;
	first()->fail_code = ERR_LEASE;
	assert_reads_all();
	assert_in_range(clock_ms() - begin, 0, SLOW_MS - 1); /* it was not waited for */
	assert_int_equal(reads_on(first()), 3);
	assert_int_equal(reads_on(second()), 1);
}

/* The first one's wrong bytes come while the second one is still at it: never returned, reported. */
static void test_late_and_damaged(void **state)
{
	char *trace;

	allow_hedges(1);
	first()->damaged = true;
	slow_reads(first(), 150);
	slow_reads(second(), 700);
	assert_reads_all();
	assert_int_equal(fs->hedge.asked, 1);
	trace = fake_trace_copy(&c);
	assert_non_null(strstr(trace, "writing 0 CHECKSUM"));
	assert_non_null(strstr(trace, "READ stable"));
	free(trace);
}

/* The second one's wrong bytes come first: they must not get into what the first one fills in. */
static void test_second_damaged(void **state)
{
	allow_hedges(1);
	second()->damaged = true;
	slow_reads(first(), 500);
	assert_reads_all();
	assert_int_equal(fs->hedge.asked, 1);
}

static void test_both_slow(void **state)
{
	int64_t begin = clock_ms();

	allow_hedges(1);
	slow_reads(first(), 300);
	slow_reads(second(), 300);
	assert_reads_all();
	assert_true(clock_ms() - begin >= 300);
	assert_int_equal(fs->hedge.asked, 1);
}

/* Slow as everything is, no more than the burst and one in HEDGE_COST. */
static void test_hedges_are_limited(void **state)
{
	enum { READS = 60 };
	uint8_t b[8];

	slow_reads(first(), 130);
	slow_reads(second(), 130);
	for (int i = 0; i < READS; i++)
		assert_int_equal(cairn_pread(f, b, sizeof(b), 0), 8);
	assert_true(fs->hedge.asked <= HEDGE_BURST + READS / HEDGE_COST);
	assert_true(fs->hedge.asked > 0);
}

/* Nobody runs the first one any more (connections stay open): without a hedge to spare, the
 * question whether it runs takes over. */
static void test_frozen_without_credit(void **state)
{
	int64_t begin;

	assert_reads_all(); /* there is an idle connection to it now */
	allow_hedges(0);
	fake_freeze(first());
	slow_reads(first(), SLOW_MS);
	begin = clock_ms();
	assert_reads_all();
	assert_in_range(clock_ms() - begin, NOTICE_MS - 50, SLOW_MS - 1);
	assert_int_equal(fs->hedge.asked, 0);
	fake_thaw(first());
}

/* ---- pure ---- */

static void test_delay_follows_latency(void **state)
{
	struct hedge h;

	hedge_init(&h);
	assert_int_equal(hedge_delay_ms(&h), HEDGE_FIRST_MS);
	for (int i = 0; i < 1000; i++)
		hedge_sample(&h, i % 100 < 97 ? 200 : 900000);
	assert_int_equal(hedge_delay_ms(&h), HEDGE_MIN_MS);
	/* One in ten takes 40 ms: that is what is usual now. */
	for (int i = 0; i < 5000; i++)
		hedge_sample(&h, i % 10 ? 200 : 40000);
	assert_in_range(hedge_delay_ms(&h), 3 * 40, 3 * 50);
	for (int i = 0; i < 5000; i++)
		hedge_sample(&h, 5000000);
	assert_int_equal(hedge_delay_ms(&h), HEDGE_MAX_MS);
	hedge_sample(&h, INT64_MAX);
	hedge_sample(&h, -1);
	hedge_release(&h);
}

static void test_credit(void **state)
{
	struct hedge h;
	unsigned n = 0;

	hedge_init(&h);
	while (hedge_spend(&h))
		n++;
	assert_int_equal(n, HEDGE_BURST);
	for (unsigned i = 0; i < HEDGE_COST - 1; i++)
		hedge_delay_ms(&h);
	assert_false(hedge_spend(&h));
	hedge_delay_ms(&h);
	assert_true(hedge_spend(&h));
	hedge_release(&h);
}

static void test_health(void **state)
{
	const char *addrs[] = {"a:1", "b:1", "c:1", "d:1"};
	enum peer_health health[4];
	struct peers p;

	peers_init(&p, NULL, 100);
	peers_took(&p, "a:1", 300);
	peers_took(&p, "b:1", 20000);
	peers_mark(&p, "c:1", false);
	peers_health(&p, addrs, 4, health);
	assert_int_equal(health[0], PEER_GOOD);
	assert_int_equal(health[1], PEER_SLOW);
	assert_int_equal(health[2], PEER_FAILED);
	assert_int_equal(health[3], PEER_GOOD);
	peers_slow(&p, "d:1");
	peers_mark(&p, "c:1", true);
	for (int i = 0; i < 60; i++)
		peers_took(&p, "b:1", 300);
	peers_health(&p, addrs, 4, health);
	assert_int_equal(health[1], PEER_GOOD);
	assert_int_equal(health[2], PEER_GOOD);
	assert_int_equal(health[3], PEER_SLOW);
	peers_release(&p);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_quick_servers_are_not_doubled),
		T(test_slow_replica),
		T(test_slow_replica_edges),
		T(test_one_piece_refused),
		T(test_late_and_damaged),
		T(test_second_damaged),
		T(test_both_slow),
		T(test_hedges_are_limited),
		T(test_frozen_without_credit),
		cmocka_unit_test(test_delay_follows_latency),
		cmocka_unit_test(test_credit),
		cmocka_unit_test(test_health),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
