/* The last attributes of inodes that this session removed. Who still has a reference that the master
 * does not know of (a working directory, an O_PATH descriptor, an open fifo) may ask for them, as on
 * a local disk. Safe from any thread. */
#ifndef CAIRN_CLIENT_GONE_H
#define CAIRN_CLIENT_GONE_H

#include <pthread.h>

#include "common/wire.h"

enum { GONE_MAX = 512 }; /* the oldest is forgotten */

struct gone {
	pthread_mutex_t lock; /* protects what follows */
	struct wire_attr attrs[GONE_MAX];
	unsigned next;
};

void gone_init(struct gone *g);
void gone_release(struct gone *g);
/* Inode 0: nothing was removed. */
void gone_put(struct gone *g, const struct wire_attr *attr);
/* False: it is not known as one that was removed here. */
bool gone_get(struct gone *g, uint64_t inode, struct wire_attr *ret);

#endif
