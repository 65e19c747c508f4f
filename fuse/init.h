/* What INIT agrees on with the kernel and libfuse 3.14 does not know. */
#ifndef CAIRN_FUSE_INIT_H
#define CAIRN_FUSE_INIT_H

#include "fuse/fuse.h"

#include <stdbool.h>

/* When the session is mounted, before its first request is read. 0 or a negative errno. */
int init_watch(struct fuse_session *session);
/* Once INIT is answered: a handle without the page cache (FOPEN_DIRECT_IO) can be mapped shared all
 * the same (Linux 6.6). Any thread. */
bool init_direct_mmap(void);

#endif
