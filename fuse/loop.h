/* The threads that take requests from /dev/fuse. */
#ifndef CAIRN_FUSE_LOOP_H
#define CAIRN_FUSE_LOOP_H

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#include "fuse/ops.h"

/* Ends waits at the loop's end. The caller installs a handler that does nothing, without SA_RESTART. */
enum { LOOP_KICK_SIGNAL = SIGUSR1 };

/* Serves the mounted session until it is unmounted. One thread receives, does and answers a
 * request; another one is started when all are at work, up to max_threads; none ends before the loop
 * does. All read from and write to the session's own descriptor, so any thread may answer any
 * request later.
 * *stop_ms ends it too, when it is not 0 any more and the calling thread got LOOP_KICK_SIGNAL: what
 * the kernel has queued by then is still done, but nothing is begun after that time (clock_ms).
 * fuse_session_exit() would throw away what is read next, such as a page that syncfs(2) has sent
 * and did not wait for. 0 or a negative errno. */
int loop_run(struct fuse_session *session, struct mount *mount, unsigned max_threads,
	     const _Atomic int64_t *stop_ms);

#endif
