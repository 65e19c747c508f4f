/* One data directory: its lock and its identity (format.h). */
#ifndef CAIRN_CHUNKSERVER_DISK_H
#define CAIRN_CHUNKSERVER_DISK_H

#include "chunkserver/journal.h"
#include "common/io.h"

enum { DISK_UUID_BYTES = 16 };

struct disk {
	char *dir; /* heap */
	int lock_fd;
	uint8_t server[DISK_UUID_BYTES], uuid[DISK_UUID_BYTES], cluster[DISK_UUID_BYTES];
	bool has_server, has_cluster;
	struct journal *journal;
};

/* Makes the directory (its parent must be there) and what belongs in it, locks it, reads its
 * identity if it has one. Errors name the directory. */
int disk_open(const struct io *io, const char *dir, struct disk *ret, struct err *err);
void disk_close(const struct io *io, struct disk *d);
/* All disks belong to one server (a new one gets its id) and not to two clusters. */
int disks_agree(const struct io *io, struct disk *disks, size_t n, struct err *err);
int disk_join_cluster(const struct io *io, struct disk *d, struct slice cluster, struct err *err);

#endif
