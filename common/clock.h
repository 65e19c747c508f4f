/* Clocks. Deadlines are absolute milliseconds of CLOCK_BOOTTIME, which goes on in suspend and
 * is never set; times of files are CLOCK_REALTIME. */
#ifndef CAIRN_COMMON_CLOCK_H
#define CAIRN_COMMON_CLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/record.h"

int64_t clock_ms(void);		/* boottime, milliseconds */
int64_t clock_us(void);		/* boottime, microseconds */
struct when clock_now(void);	/* realtime */

static inline int64_t deadline_in(int64_t ms)
{
	return clock_ms() + ms;
}
/* What is left until a deadline, as poll(2) takes it: 0 when it has passed. */
int deadline_left(int64_t deadline_ms);
/* While *cut is true all deadlines of this thread have passed: who it works for does not wait any more.
 * NULL: nobody can say so. *cut must live as long as the thread, or until this is called again. A wait
 * that has begun ends at the next signal, or within WAIT_SLICE_MS (common/wait.h). */
void deadline_cut_by(const atomic_bool *cut);
bool deadline_is_cut(void);
/* Somebody may say so. */
bool deadline_may_be_cut(void);

/* -1, 0 or 1. */
static inline int when_cmp(struct when a, struct when b)
{
	if (a.sec != b.sec)
		return a.sec < b.sec ? -1 : 1;
	return a.nsec == b.nsec ? 0 : a.nsec < b.nsec ? -1 : 1;
}

#endif
