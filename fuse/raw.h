/* FUSE requests that libfuse 3.14 does not know, decoded and answered here. */
#ifndef CAIRN_FUSE_RAW_H
#define CAIRN_FUSE_RAW_H

#include "fuse/ops.h"

#include <stdbool.h>

/* Answers the request in buf, as it was read from /dev/fuse, if it is one of ours: STATX (for the
 * birth time), TMPFILE (O_TMPFILE). False: it is libfuse's. Any thread. */
bool raw_process(struct fuse_session *session, struct mount *mount, const struct fuse_buf *buf);

#endif
