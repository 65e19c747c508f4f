#include "common/wait.h"

#include <errno.h>
#include <time.h>

#include "common/clock.h"
#include "common/err.h"

int wait_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	int eno = pthread_condattr_init(&attr);

	if (eno == 0) {
		eno = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
		if (eno == 0)
			eno = pthread_cond_init(cond, &attr);
		pthread_condattr_destroy(&attr);
	}
	return eno == 0 ? 0 : ERR_NOMEM;
}

bool wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline_ms)
{
	int64_t left = deadline_left(deadline_ms);
	struct timespec at;

	if (left == 0)
		return false;
	if (deadline_may_be_cut() && left > WAIT_SLICE_MS)
		left = WAIT_SLICE_MS;
	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += left / 1000;
	at.tv_nsec += left % 1000 * 1000000;
	if (at.tv_nsec >= 1000000000) {
		at.tv_sec++;
		at.tv_nsec -= 1000000000;
	}
	return pthread_cond_timedwait(cond, lock, &at) != ETIMEDOUT || deadline_left(deadline_ms) > 0;
}
