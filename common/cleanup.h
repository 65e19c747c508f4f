/* Scope-bound cleanup (systemd's style): set the variable to NULL or -1 to hand it over. */
#ifndef CAIRN_COMMON_CLEANUP_H
#define CAIRN_COMMON_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#include "common/buf.h"

static inline void cleanup_freep(void *p) { free(*(void **)p); }
static inline void cleanup_fdp(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define _cleanup_free_ __attribute__((cleanup(cleanup_freep)))
#define _cleanup_fd_ __attribute__((cleanup(cleanup_fdp)))
#define _cleanup_buf_ __attribute__((cleanup(buf_release)))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
