#include "common/clock.h"

#include <limits.h>
#include <time.h>

static struct timespec clock_read(clockid_t id)
{
	struct timespec ts = {0};
	/* Cannot fail for these clocks on Linux with a valid pointer (clock_gettime(2)). */
	clock_gettime(id, &ts);
	return ts;
}

int64_t clock_ms(void)
{
	struct timespec ts = clock_read(CLOCK_BOOTTIME);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t clock_us(void)
{
	struct timespec ts = clock_read(CLOCK_BOOTTIME);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

struct when clock_now(void)
{
	struct timespec ts = clock_read(CLOCK_REALTIME);
	return (struct when){ts.tv_sec, (uint32_t)ts.tv_nsec};
}

int deadline_left(int64_t deadline_ms)
{
	int64_t left = deadline_ms - clock_ms();
	if (left <= 0)
		return 0;
	return left > INT_MAX ? INT_MAX : (int)left;
}
