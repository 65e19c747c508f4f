/* What cairn-master does with the database of a master that does not run, instead of serving:
 * --check, --export, --import. LevelDB's lock keeps a running master and them apart. */
#ifndef CAIRN_MASTER_OFFLINE_H
#define CAIRN_MASTER_OFFLINE_H

#include <stdbool.h>

#include "common/err.h"

struct master_options;
struct state;

enum { OFFLINE_SOUND = 0, OFFLINE_WRONG = 1, OFFLINE_FAILED = 2 };

/* Whether the options ask for something of this kind; does it and returns the exit status. */
bool offline_wanted(const struct master_options *o);
int offline_run(const struct master_options *o);

/* Checks every invariant of master/schema.h. Prints a line for each thing that is wrong and a
 * summary; damage of the database's own files counts as wrong. The state is that after the last
 * entry that reached the database: entries that only the log holds are not part of it. */
int offline_check(const struct master_options *o);

/* Writes the rows of the database to a backup file (common/backup.h). */
int offline_export(const struct master_options *o);

/* Makes data_dir/db from a backup file. data_dir must be empty: what is there already is never
 * mixed with it. The file is read to its end, checked and written aside before it is put in place;
 * a database that an interrupted import left aside is made anew by the next one.
 *
 * The restored state is that of the backup, but:
 *  - the log begins anew (applied 0), sessions are ended, as clients must not go on with numbers
 *    that the state does not remember: they open new ones;
 *  - meta.held is set, and what was to be deleted from servers then is forgotten: the lost master
 *    may have given those very replicas a new use;
 *  - ids go on IMPORT_SKIP_IDS (servers: IMPORT_SKIP_SERVERS) later, so that none that was given
 *    out after the backup is given out again;
 *  - chunks are marked CHUNK_RESTORED: see master/hold.h. */
int offline_import(const struct master_options *o);
#define IMPORT_SKIP_IDS (1ULL << 32)
enum { IMPORT_SKIP_SERVERS = 64 };

/* ERR_BUSY when an import into data_dir was interrupted: a master that started there would be that
 * of a new, empty cluster. */
int offline_unfinished(const struct master_options *o, struct err *err);

/* The part of an import that is about rows: for tests. Rows of a backup go through import_row()
 * into an open transaction of st; import_finish() then makes of them what is said above, and needs a
 * state without an open transaction. */
struct import {
	struct state *st;
	bool has_meta;
};
struct slice;
int import_row(struct import *im, struct slice key, struct slice value, struct err *err);
int import_finish(struct import *im, struct err *err);

#endif
