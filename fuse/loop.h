/* The threads that take requests from /dev/fuse. */
#ifndef CAIRN_FUSE_LOOP_H
#define CAIRN_FUSE_LOOP_H

#include <signal.h>

#include "fuse/ops.h"

/* Ends waits for a request at the loop's end. The caller installs a handler that does nothing, without
 * SA_RESTART. */
enum { LOOP_KICK_SIGNAL = SIGUSR1 };

/* Serves the mounted session until it is unmounted or fuse_session_exit() was called and the
 * calling thread got LOOP_KICK_SIGNAL. One thread receives, does and answers a request; another one is
 * started when all are at work, up to max_threads; none ends before the loop does. All read from
 * and write to the session's own descriptor, so any thread may answer any request later.
 * 0 or a negative errno. */
int loop_run(struct fuse_session *session, struct mount *mount, unsigned max_threads);

#endif
