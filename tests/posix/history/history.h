/* The history test: what several processes on two mounts saw of few objects must be what some order
 * of their operations on one local disk could have shown.
 *
 * Each object is linearizable by itself exactly if the whole is, so each is checked alone. A
 * worker's own operations follow each other: a set of operations that have taken effect is a count
 * for each worker, which keeps the search small.
 */
#ifndef CAIRN_TESTS_POSIX_HISTORY_H
#define CAIRN_TESTS_POSIX_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WORKERS_MAX = 8, EVENTS_MAX = 20000, OBJECTS = 13, NAMES = 3 };

enum event_kind {
	EV_WRITE, /* register: arg is the new value */
	EV_READ,  /* register: result is the value */
	/* Names of one directory: arg is the name, result 0 or an errno. */
	EV_CREATE,
	EV_UNLINK,
	EV_STAT,
	/* Without replacing: arg is from * NAMES + to. (A rename that replaces does nothing when
	 * the kernel found the same file under both names, which it looked up one after the other.) */
	EV_RENAME,
	/* The whole directory: result has a bit for each name. */
	EV_LIST,
	/* The names are links to one file: arg as above; result: of how many names the file tells. */
	EV_LINK,
	EV_NLINK,
	/* A file of records: arg is the record; result is the number of records and the last one, as
	 * history_records has it. */
	EV_APPEND,
	EV_TAIL,
	/* A lock: result 0 or an errno. */
	EV_TRY_LOCK,
	EV_UNLOCK,
};

/* Times are CLOCK_MONOTONIC, in nanoseconds. */
struct event {
	uint64_t invoked, returned;
	int64_t arg, result;
	uint8_t kind, object, worker;
};

struct history {
	struct event events[WORKERS_MAX][EVENTS_MAX];
	int n_events[WORKERS_MAX];
	int n_workers;
};

static inline int64_t history_records(int64_t n, int64_t last)
{
	return n << 32 | last;
}

/* Whether the operations on the object can be put in an order; if not, tells why in text. The
 * object's first state is `initial`. Uses memory of its own, not for threads. */
bool history_check(const struct history *h, int object, int64_t initial, char *text, size_t n);

#endif
