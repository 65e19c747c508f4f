/* Condition variables with the deadlines of common/clock.h. */
#ifndef CAIRN_COMMON_WAIT_H
#define CAIRN_COMMON_WAIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* A condition for wait_until. 0 or ERR_NOMEM. */
enum { WAIT_SLICE_MS = 100 };
int wait_cond_init(pthread_cond_t *cond);

/* One pthread_cond_wait that ends at the deadline. False when the deadline has passed. True says
 * nothing: look at what is waited for. */
bool wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline_ms);

#endif
