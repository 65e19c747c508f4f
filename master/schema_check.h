/* Checks the invariants at the top of master/schema.h over a whole state. */
#ifndef CAIRN_MASTER_SCHEMA_CHECK_H
#define CAIRN_MASTER_SCHEMA_CHECK_H

#include "master/state.h"

/* Appends a line for each thing that is wrong to `report` (at most `max` lines). Returns how many
 * there are, or negative for a storage error. Reads every row: for tests and offline checks. */
int schema_check(struct state *st, struct buf *report, unsigned max);

/* Every row as a line of text, in key order. */
int schema_dump(struct state *st, struct buf *ret);

#endif
