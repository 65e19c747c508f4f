/* The sequence numbers of one session: which were given out, which are answered.
 *
 * Pure; the caller locks. `floor` is the lowest number still unanswered, or `next` when none is:
 * it travels with every mutation and lets the master forget the answers below it. The distance
 * from floor to next never exceeds SESSION_WINDOW_MAX. */
#ifndef CAIRN_CLIENT_OPIDS_H
#define CAIRN_CLIENT_OPIDS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/limits.h"

struct opids {
	uint64_t next;
	uint64_t floor;
	uint64_t answered[SESSION_WINDOW_MAX / 64]; /* a bit for each number, by its remainder */
};

void opids_init(struct opids *o);
/* True and the next number; false when the window is full: wait for opids_done. */
bool opids_take(struct opids *o, uint64_t *ret_seq);
/* The operation is over: answered, or given up for good. True when the floor moved. */
bool opids_done(struct opids *o, uint64_t seq);

#endif
