#include "common/clock.h"

#include <limits.h>
#include <time.h>

#include "common/fault.h"

static struct timespec clock_read(clockid_t id)
{
	struct timespec ts = {0};
	/* Cannot fail for these clocks on Linux with a valid pointer (clock_gettime(2)). */
	clock_gettime(id, &ts);
	return ts;
}

/* What a test has set the clock forward by. */
static int64_t clock_fault(atomic_llong *offset_ms, atomic_ullong *reads)
{
	int64_t ms = atomic_load_explicit(offset_ms, memory_order_relaxed);
	if (ms)
		atomic_fetch_add_explicit(reads, 1, memory_order_relaxed);
	return ms;
}

int64_t clock_us(void)
{
	struct timespec ts = clock_read(CLOCK_BOOTTIME);
	int64_t us = (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
	if (fault_map)
		us += clock_fault(&fault_map->boot_ms, &fault_map->boot_read) * 1000;
	return us;
}

int64_t clock_ms(void)
{
	return clock_us() / 1000;
}

struct when clock_now(void)
{
	struct timespec ts = clock_read(CLOCK_REALTIME);
	if (fault_map) {
		int64_t ms = clock_fault(&fault_map->real_ms, &fault_map->real_read);
		ts.tv_sec += ms / 1000; /* whole seconds are enough for a test */
	}
	return (struct when){ts.tv_sec, (uint32_t)ts.tv_nsec};
}

static _Thread_local const atomic_bool *deadline_cut;

void deadline_cut_by(const atomic_bool *cut)
{
	deadline_cut = cut;
}

bool deadline_may_be_cut(void)
{
	return deadline_cut != NULL;
}

bool deadline_is_cut(void)
{
	return deadline_cut && atomic_load(deadline_cut);
}

int deadline_left(int64_t deadline_ms)
{
	int64_t left = deadline_ms - clock_ms();
	if (left <= 0 || deadline_is_cut())
		return 0;
	return left > INT_MAX ? INT_MAX : (int)left;
}
