/* One data directory: its lock and its identity (format.h).
 *
 * Disks fail one at a time; the others go on. A disk is failed
 *  - at start, when it cannot be opened or listed, or its journal not read or begun (but what the
 *    administrator must mend is an error: in use, of another server or cluster);
 *  - at once, when its file system is or becomes read-only, the device is gone, a directory of it
 *    is missing, or its journal or a directory cannot be written or synced (so when a chunk
 *    cannot be made or removed): what it says about the past can no longer be relied on;
 *  - after input/output errors on DISK_ERRORS_MAX different replicas. One such error makes only
 *    that replica damaged.
 * A full disk is not failed. The replicas of a failed disk are lost: nobody can use them, the
 * master is told and has them copied anew, to another disk. Its journal stays as it is, nothing is
 * placed on it, and a restart of the server takes it back if it can be used again. When all disks
 * fail at start, the server does not start. */
#ifndef CAIRN_CHUNKSERVER_DISK_H
#define CAIRN_CHUNKSERVER_DISK_H

#include <stdatomic.h>

#include "chunkserver/journal.h"
#include "common/io.h"

enum { DISK_UUID_BYTES = 16, DISK_ERRORS_MAX = 10 };

struct disk {
	char *dir; /* heap */
	int lock_fd;
	uint8_t server[DISK_UUID_BYTES], uuid[DISK_UUID_BYTES], cluster[DISK_UUID_BYTES];
	bool has_server, has_cluster;
	struct journal *journal;
	atomic_bool journal_due; /* to be begun anew: for want of room it could not be when it had to */
	atomic_bool failed; /* never cleared; set under the store's lock */
	unsigned io_errors; /* on different replicas; protected by the store's lock */
};

/* Makes the directory (its parent must be there) and what belongs in it, locks it, reads its
 * identity if it has one. Errors name the directory. */
int disk_open(const struct io *io, const char *dir, struct disk *ret, struct err *err);
void disk_close(const struct io *io, struct disk *d);
/* All disks belong to one server (a new one gets its id) and not to two clusters. Failed ones are
 * not looked at; but none gets a new server's id while one that may have it is failed. */
int disks_agree(const struct io *io, struct disk *disks, size_t n, struct err *err);
int disk_join_cluster(const struct io *io, struct disk *d, struct slice cluster, struct err *err);

#endif
