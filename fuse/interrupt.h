/* Calls whose callers do not wait any more.
 *
 * The kernel tells once that a signal has come to a process that waits for a request (FUSE_INTERRUPT),
 * and goes on waiting for the answer, even when the process is to die. So:
 *  - Who is to die (SIGKILL, or a signal that he does not handle) is answered at once: the waits of the
 *    thread that works for him end as if their time were over, which everything in libcairn bears.
 *  - Who handles the signal has his call ended with EINTR when it has taken INTERRUPT_AFTER_MS: longer
 *    than any failure takes that is survived. Sooner it would surprise programs that use files as they
 *    are on a local disk, whose calls no signal ends.
 * Waits for locks have their own way (fuse/ops_lock.c). What the kernel sends without a chance to be
 * interrupted (FLUSH, RELEASE, FORGET) is not; and a read of pages waits for them in the kernel, where
 * only death ends it. */
#ifndef CAIRN_FUSE_INTERRUPT_H
#define CAIRN_FUSE_INTERRUPT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/waits.h"

enum { INTERRUPT_AFTER_MS = STALL_MS_MAX };

/* One thread that serves requests. Protected by the lock of its interrupts, but for cut. */
struct interruptible {
	pthread_t thread;
	uint64_t unique; /* of the request that it serves; 0: none */
	uint32_t pid;	 /* whose it is: a thread's number */
	int64_t begun_ms;
	bool signalled;
	atomic_bool cut; /* its waits end (common/clock.h) */
	struct interruptible *prev, *next;
};

struct interrupts;
/* NULL: out of memory. The thread that watches gets no signals. */
struct interrupts *interrupts_new(void);
/* All threads have left. */
void interrupts_free(struct interrupts *x);
/* The calling thread serves requests, until it leaves. It must not block INTERRUPT_SIGNAL, whose handler
 * does nothing and has no SA_RESTART. */
void interrupts_join(struct interrupts *x, struct interruptible *me);
void interrupts_leave(struct interrupts *x, struct interruptible *me);
/* Around the work for one request. */
void interrupts_begin(struct interrupts *x, struct interruptible *me, uint64_t unique,
		      uint32_t pid);
void interrupts_end(struct interrupts *x, struct interruptible *me);
/* FUSE_INTERRUPT of this request has come. */
void interrupts_signal(struct interrupts *x, uint64_t unique);

#endif
