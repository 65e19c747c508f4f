/* The executable form of the invariants at the top of master/schema.h: used by the tests after
 * random commands and by `cairn-master --check` on a stopped master's state. */
#ifndef CAIRN_MASTER_SCHEMA_CHECK_H
#define CAIRN_MASTER_SCHEMA_CHECK_H

#include "master/state.h"

/* Texts kept of one check; the count goes on. */
enum { SCHEMA_CHECK_LINES_MAX = 1000 };

/* Reads every row, checks it against the others and the counters of the meta row. Appends a line
 * to `text` for each thing that is wrong, and counts them. Needs 16 bytes of memory for each
 * name and each chunk of a file. 0 when all could be read (*ret_wrong says what came out), or
 * negative: a storage error or out of memory. */
int schema_check(struct state *st, struct buf *text, uint64_t *ret_wrong);

/* Appends every row as a line of text, in key order: equal states have equal dumps.
 * 0 or negative. */
int schema_dump(struct state *st, struct buf *text);

#endif
