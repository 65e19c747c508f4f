/* Checks the invariants at the top of master/schema.h over a whole state.
 *
 * Each row is read once, and a few rows again that something is wrong with. Memory: 32 bytes for
 * each inode, 24 for each chunk and session, twice that for a moment while a table grows: about 80 MB
 * for a million files of one chunk. */
#ifndef CAIRN_MASTER_SCHEMA_CHECK_H
#define CAIRN_MASTER_SCHEMA_CHECK_H

#include "master/state.h"

/* Appends a line for each thing that is wrong to `report` (at most `max` lines). Returns how many
 * there are, or negative: a storage error, or no memory. */
int schema_check(struct state *st, struct buf *report, unsigned max);

/* Every row as a line of text, in key order. */
int schema_dump(struct state *st, struct buf *ret);

#endif
