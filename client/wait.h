/* Condition variables with the deadlines of common/clock.h, and pauses between retries. */
#ifndef CAIRN_CLIENT_WAIT_H
#define CAIRN_CLIENT_WAIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* A condition for wait_until. 0 or ERR_NOMEM. */
int wait_cond_init(pthread_cond_t *cond);

/* One pthread_cond_wait that ends at the deadline. False when the deadline has passed. */
bool wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline_ms);

/* Growing pauses: first_ms, then doubling up to max_ms. */
struct backoff {
	int64_t next_ms;
	int64_t max_ms;
};

/* Sleeps and returns true; false at once when the pause would end after the deadline. */
bool backoff_pause(struct backoff *b, int64_t deadline_ms);

#endif
