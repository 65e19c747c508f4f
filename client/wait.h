/* Pauses between retries; and common/wait.h. */
#ifndef CAIRN_CLIENT_WAIT_H
#define CAIRN_CLIENT_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wait.h"

/* Growing pauses: first_ms, then doubling up to max_ms. */
struct backoff {
	int64_t next_ms;
	int64_t max_ms;
};

/* Sleeps and returns true; false at once when the pause would end after the deadline. */
bool backoff_pause(struct backoff *b, int64_t deadline_ms);

#endif
