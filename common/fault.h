/* Faults on demand, in real processes.
 *
 * Always compiled in. A process started with CAIRN_FAULTS=DIR maps the file DIR/NAME (its --name;
 * "cairn-mount" for a mount), which a test has made before (tests/fault/fault_ctl.c); without the
 * variable or the file nothing is mapped, and a point costs one load of a NULL pointer. The test
 * arms slots of the file from outside while the process runs, and reads the counters, which outlive
 * the process: a slot counts how often it was passed and how often it struck, a point how often it
 * was passed.
 *
 * A slot strikes at one point, at those passes whose text contains `match`: from the nth on,
 * `times` times. What the text is stands beside the points. Any thread; no lock.
 */
#ifndef CAIRN_COMMON_FAULT_H
#define CAIRN_COMMON_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* X(NAME, "name", WHO). WHO: STEP_* are the named steps of the work of one role, at which it is to
 * be killed by the tests; OTHER are points that every role may have.
 *
 * Texts: of a write, where in the chain the server is: "head", "middle", "tail"; of the master's
 * log, the command's name; of io, the path; of net, "request OP to PEER", "reply OP to PEER" or
 * "... from PEER"; elsewhere "". */
#define FAULT_TABLE(X)                                                  \
	X(CLIENT_WRITE_SEND, "client.write.send", STEP_CLIENT)          \
	X(CLIENT_WRITE_SENT, "client.write.sent", STEP_CLIENT)          \
	X(CLIENT_WRITE_DONE, "client.write.done", STEP_CLIENT)          \
	X(CLIENT_WROTE, "client.wrote", STEP_CLIENT)                    \
	X(CLIENT_SYNC, "client.sync", STEP_CLIENT)                      \
	X(CS_WRITE_RECEIVED, "cs.write.received", STEP_CHAIN)           \
	X(CS_WRITE_LOCKED, "cs.write.locked", STEP_CHAIN)               \
	X(CS_WRITE_FORWARDED, "cs.write.forwarded", STEP_CHAIN)         \
	X(CS_WRITE_JOURNALED, "cs.write.journaled", STEP_CHAIN)         \
	X(CS_WRITE_APPLIED, "cs.write.applied", STEP_CHAIN)             \
	X(CS_WRITE_ANSWER, "cs.write.answer", STEP_CHAIN)               \
	X(CS_WRITE_DATA, "cs.write.data", STEP_CHUNKSERVER)             \
	X(CS_CREATED, "cs.created", STEP_CHUNKSERVER)                   \
	X(CS_COPY_READ, "cs.copy.read", OTHER)                          \
	X(CS_SYNC, "cs.sync", STEP_CHUNKSERVER)                         \
	X(CS_SYNC_ANSWER, "cs.sync.answer", STEP_CHUNKSERVER)           \
	X(CS_RAISE, "cs.raise", STEP_CHUNKSERVER)                       \
	X(CS_RAISE_RENAMED, "cs.raise.renamed", STEP_CHUNKSERVER)       \
	X(CS_RAISE_ANSWER, "cs.raise.answer", STEP_CHUNKSERVER)         \
	X(CS_PULL_INSTALL, "cs.pull.install", STEP_CHUNKSERVER)         \
	X(CS_PULL_INSTALLED, "cs.pull.installed", STEP_CHUNKSERVER)     \
	X(CS_DELETE, "cs.delete", STEP_CHUNKSERVER)                     \
	X(CS_DELETED, "cs.deleted", STEP_CHUNKSERVER)                   \
	X(CS_JOURNAL_ANEW, "cs.journal.anew", STEP_CHUNKSERVER)         \
	X(CS_REGISTERED, "cs.registered", STEP_CHUNKSERVER)             \
	X(CS_REPORTED, "cs.reported", STEP_CHUNKSERVER)                 \
	X(MASTER_PROPOSE, "master.propose", STEP_MASTER)                \
	X(MASTER_APPLY, "master.apply", STEP_MASTER)                    \
	X(MASTER_COMMITTED, "master.committed", STEP_MASTER)            \
	X(MASTER_STORE_WRITE, "master.store.write", STEP_MASTER)        \
	X(MASTER_STORE_WRITTEN, "master.store.written", STEP_MASTER)    \
	X(MASTER_RAISE_FILL, "master.raise.fill", STEP_MASTER)          \
	X(MASTER_RAISE_LOG, "master.raise.log", STEP_MASTER)            \
	X(MASTER_RAISE_ASK, "master.raise.ask", STEP_MASTER)            \
	X(MASTER_RAISE_MEND, "master.raise.mend", STEP_MASTER)          \
	X(MASTER_RAISE_CONFIRM, "master.raise.confirm", STEP_MASTER)    \
	/* Left out, as ERROR: the tests of coherence must notice. */    \
	X(MASTER_LEASE_RECALL, "master.lease.recall", OTHER)            \
	X(MASTER_LEASE_BUSY, "master.lease.busy", OTHER)                \
	X(MASTER_LEASE_BEHIND, "master.lease.behind", OTHER)            \
	X(MASTER_LEASE_GRACE, "master.lease.grace", OTHER)              \
	X(MASTER_LEASE_BUFFER, "master.lease.buffer", OTHER)            \
	/* In the order of enum io_kind. */                             \
	X(IO_OPEN, "io.open", OTHER)                                    \
	X(IO_CLOSE, "io.close", OTHER)                                  \
	X(IO_PREAD, "io.pread", OTHER)                                  \
	X(IO_PWRITE, "io.pwrite", OTHER)                                \
	X(IO_FDATASYNC, "io.fdatasync", OTHER)                          \
	X(IO_FTRUNCATE, "io.ftruncate", OTHER)                          \
	X(IO_SIZE, "io.size", OTHER)                                    \
	X(IO_RENAME, "io.rename", OTHER)                                \
	X(IO_UNLINK, "io.unlink", OTHER)                                \
	X(IO_MKDIR, "io.mkdir", OTHER)                                  \
	X(IO_SYNC_DIR, "io.sync_dir", OTHER)                            \
	X(IO_SPACE, "io.space", OTHER)                                  \
	X(IO_LIST, "io.list", OTHER)                                    \
	X(NET_SEND, "net.send", OTHER)                                  \
	X(NET_RECV, "net.recv", OTHER)                                  \
	/* Coherence: DROP leaves the step out (tests/cluster/test_history.sh must notice). */ \
	X(CLIENT_LEASE_DROP, "client.lease.drop", OTHER)                \
	X(CLIENT_LEASE_TIME, "client.lease.time", OTHER)                \
	X(FUSE_INVAL_ATTR, "fuse.inval.attr", OTHER)                    \
	X(FUSE_INVAL_PAGES, "fuse.inval.pages", OTHER)                  \
	X(FUSE_INVAL_EPOCH, "fuse.inval.epoch", OTHER)                  \
	X(FUSE_INVAL_LIMBO, "fuse.inval.limbo", OTHER)

enum fault_point {
#define FAULT_X_ENUM(name, text, who) FAULT_##name,
	FAULT_TABLE(FAULT_X_ENUM)
#undef FAULT_X_ENUM
	FAULT_POINTS
};

/* X(NAME, "name"). CRASH, DELAY and POWEROFF work at every point, ERROR at those of io and net. */
#define FAULT_ACTIONS(X)                                                                  \
	X(CRASH, "crash")	  /* SIGKILL to itself */                                 \
	X(DELAY, "delay")	  /* sleeps `arg` ms, then goes on */                     \
	X(POWEROFF, "poweroff")	  /* shuts the file system at `path` down, then SIGKILL */ \
	X(ERROR, "error")	  /* fails with errno `arg` */                            \
	X(DROP, "drop")		  /* net: the message is lost */                          \
	X(TWICE, "twice")	  /* net: the message is sent twice */                    \
	X(CUT, "cut")		  /* net: the connection breaks before the message */     \
	X(FLIP, "flip")		  /* net, pread, pwrite: bit `arg` of the data is inverted */ \
	X(SHORT, "short")	  /* pwrite: `arg` bytes are written, then EIO */         \
	X(LOST, "lost")		  /* fdatasync, sync_dir: says yes, does nothing */

enum fault_action {
#define FAULT_X_ENUM(name, text) FAULT_DO_##name,
	FAULT_ACTIONS(FAULT_X_ENUM)
#undef FAULT_X_ENUM
	FAULT_ACTION_KINDS
};

enum { FAULT_SLOTS = 16, FAULT_MATCH_BYTES = 96, FAULT_PATH_BYTES = 256 };
#define FAULT_FOR_EVER UINT64_MAX

struct fault_slot {
	atomic_uint armed; /* what follows it is written before and read after it is 1 */
	uint32_t point;
	uint32_t action;
	char match[FAULT_MATCH_BYTES]; /* "": any text */
	char path[FAULT_PATH_BYTES];   /* for POWEROFF */
	uint64_t nth, times;
	int64_t arg;
	atomic_ullong seen, fired; /* passes that matched; those it struck */
};

/* The mapped file: shared by processes of one build, as `bytes` makes sure. */
struct fault_map {
	char magic[8];
	uint64_t bytes;
	/* Added to clock_ms() and clock_now(); the reads that were changed by it. */
	atomic_llong boot_ms, real_ms;
	atomic_ullong boot_read, real_read;
	atomic_ullong passed[FAULT_POINTS];
	struct fault_slot slots[FAULT_SLOTS];
};

extern struct fault_map *fault_map; /* NULL: no faults */

/* Call once in main, before other threads start. An unusable file is refused: a test that asked
 * for faults must not run without. */
int fault_setup(const char *name, struct err *err);

/* What strikes this pass, of the actions in `mask` (bits 1 << FAULT_DO_*); CRASH, DELAY and
 * POWEROFF are done inside, whatever the mask. */
struct fault {
	enum fault_action action;
	int64_t arg;
};
bool fault_take(enum fault_point point, const char *text, unsigned mask, struct fault *ret);
/* A named step: a place to die, or to be slow. */
static inline void fault_step(enum fault_point point, const char *text)
{
	struct fault none;
	if (fault_map)
		fault_take(point, text, 0, &none);
}
#define FAULT_POINT(name, text) fault_step(FAULT_##name, text)

/* ---- the test's side ---- */

int fault_file_create(const char *path, struct err *err);
/* Maps an existing file. */
int fault_file_map(const char *path, struct fault_map **ret, struct err *err);
/* Arms a free slot with a copy of *slot (its counters begin at 0): its index, or ERR_LIMIT. */
int fault_arm(struct fault_map *map, const struct fault_slot *slot);
void fault_disarm(struct fault_map *map, unsigned index);
const char *fault_point_name(enum fault_point point);
const char *fault_action_name(enum fault_action action);
/* FAULT_POINTS, FAULT_ACTION_KINDS when there is none of that name. */
enum fault_point fault_point_find(const char *name);
enum fault_action fault_action_find(const char *name);
/* "STEP_CLIENT", ... */
const char *fault_point_who(enum fault_point point);

#endif
