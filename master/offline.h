/* What cairn-master does with the database of a master that does not run, instead of serving:
 * --check. The functions return the program's exit status; LevelDB's lock keeps a running master
 * and them apart. */
#ifndef CAIRN_MASTER_OFFLINE_H
#define CAIRN_MASTER_OFFLINE_H

struct master_options;

enum { OFFLINE_SOUND = 0, OFFLINE_WRONG = 1, OFFLINE_FAILED = 2 };

/* Checks every invariant of master/schema.h. Prints a line for each thing that is wrong and a
 * summary; damage of the database's own files counts as wrong. The state is that after the last
 * entry that reached the database: entries that only the log holds are not part of it. */
int offline_check(const struct master_options *o);

#endif
