/* master: the log on real files: it stops without an accident, and keeps what it acknowledged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <ftw.h>
#include <semaphore.h>
#include <stdio.h>
#include <unistd.h>

#include "common/log.h"
#include "master/rlog.h"

enum {
	STOPS = 8,
	ENTRIES = 3, /* proposed between a start and the stop */
	ENTRY_BYTES = 64,
	TICK_MS = 1,
};

static char dir[64];
static uv_loop_t loop;
static uv_timer_t tick;
static sem_t pool_idle;
static struct rlog *log_;
static bool wait_for_pool; /* between the call of rlog_close and the loop's next step */
static unsigned to_propose, readied, answered, applied, closed;
static uint64_t last_applied;

static int apply(void *arg, uint64_t index, struct slice entry, struct apply_result *ret,
		 struct err *err)
{
	if (entry.len != ENTRY_BYTES || index <= last_applied)
		return err_set(err, ERR_CORRUPT, "entry %llu", (unsigned long long)index);
	last_applied = index;
	applied++;
	*ret = (struct apply_result){0};
	return 0;
}

static int wait_durable(void *arg, uint64_t index)
{
	return 0;
}

static void on_closed(void *arg)
{
	closed++;
	uv_close((uv_handle_t *)&tick, NULL);
}

static void pool_work(uv_work_t *work)
{
	sem_post(&pool_idle);
}

static void pool_worked(uv_work_t *work, int status)
{
}

/* The pool has one thread (see main): when it gets here, all that was asked of it before is done, and
 * the loop will see that in the turn under way. */
static void wait_pool(void)
{
	static uv_work_t work;

	assert_int_equal(uv_queue_work(&loop, &work, pool_work, pool_worked), 0);
	assert_int_equal(sem_wait(&pool_idle), 0);
}

/* The master closes its log in a tick as well. */
static void on_tick(uv_timer_t *timer)
{
	uv_timer_stop(timer);
	rlog_close(log_, on_closed, NULL);
	if (wait_for_pool)
		wait_pool();
}

static void stop_soon(void)
{
	uv_timer_start(&tick, on_tick, TICK_MS, TICK_MS);
}

static void on_answered(void *arg, struct apply_result *result)
{
	assert_non_null(result);
	if (++answered == to_propose)
		stop_soon();
}

static void on_ready(void *arg)
{
	static const uint8_t bytes[ENTRY_BYTES];
	struct err err = {0};

	readied++;
	for (unsigned i = 0; i < to_propose; i++)
		assert_int_equal(rlog_propose(log_, slice_of(bytes, sizeof(bytes)), on_answered,
					      NULL, &err), 0);
	if (to_propose == 0)
		stop_soon();
}

/* One life of the log, from opening to the end of the loop; its old entries are applied again. */
static void live(unsigned n_entries, bool close_at_once)
{
	struct rlog_options o = {.loop = &loop, .dir = dir, .apply = apply,
				 .wait_durable = wait_durable};
	struct err err = {0};

	to_propose = n_entries;
	readied = answered = applied = closed = 0;
	last_applied = 0;
	assert_int_equal(uv_loop_init(&loop), 0);
	uv_timer_init(&loop, &tick);
	assert_int_equal(rlog_open(&o, on_ready, &log_, &err), 0);
	if (close_at_once)
		rlog_close(log_, on_closed, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(closed, 1);
	assert_int_equal(readied, !close_at_once);
	assert_int_equal(answered, n_entries);
	rlog_free(log_);
	assert_int_equal(uv_loop_close(&loop), 0);
}

static void live_and_stop_often(bool pool_is_fast)
{
	wait_for_pool = pool_is_fast;
	for (unsigned i = 0; i < STOPS; i++) {
		live(i % 2 ? 0 : ENTRIES, false);
		/* What was acknowledged in earlier lives is there, and so is this one's. */
		assert_int_equal(applied, (i / 2 + 1) * ENTRIES);
	}
}

/* The last segment is renamed by the pool while the loop still has the handles of its writer to
 * close: either may be first. */
static void test_stop_when_files_close_late(void **unused)
{
	live_and_stop_often(false);
}

static void test_stop_when_files_close_before_handles(void **unused)
{
	live_and_stop_often(true);
}

static void test_stop_before_ready(void **unused)
{
	wait_for_pool = false;
	live(ENTRIES, false);
	live(0, true);
	live(0, false);
	assert_int_equal(applied, ENTRIES);
}

static int setup(void **unused)
{
	log_setup("test", LOG_ERROR);
	snprintf(dir, sizeof(dir), "%s/cairn-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR")
									   : "/tmp");
	return mkdtemp(dir) && sem_init(&pool_idle, 0, 0) == 0 ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **unused)
{
	sem_destroy(&pool_idle);
	return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_stop_when_files_close_late),
		T(test_stop_when_files_close_before_handles),
		T(test_stop_before_ready),
	};
	/* libuv reads it once, before its first work: see wait_pool. */
	if (setenv("UV_THREADPOOL_SIZE", "1", 1) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
