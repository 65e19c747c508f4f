#include "client/wait.h"

#include <errno.h>
#include <time.h>

#include "common/clock.h"

bool backoff_pause(struct backoff *b, int64_t deadline_ms)
{
	struct timespec ts = {b->next_ms / 1000, b->next_ms % 1000 * 1000000};

	if (deadline_left(deadline_ms) <= b->next_ms)
		return false;
	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		if (deadline_is_cut())
			return false;
	b->next_ms = b->next_ms * 2 < b->max_ms ? b->next_ms * 2 : b->max_ms;
	return true;
}
