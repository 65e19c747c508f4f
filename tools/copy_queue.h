/* Regular files on their way: a queue of ranges, the workers that copy them. */
#ifndef CAIRN_TOOLS_COPY_QUEUE_H
#define CAIRN_TOOLS_COPY_QUEUE_H

#include <stdatomic.h>
#include <stdint.h>

#include "tools/copy.h"
#include "tools/progress.h"

struct copy_queue;

/* request and progress outlive the queue. NULL when threads cannot be started. */
struct copy_queue *copy_queue_new(const struct copy_request *request, struct progress *progress);
/* Takes over src and dst (heap). Waits while the queue is full. 0 or -ENOMEM (then they stay the
 * caller's). */
int copy_queue_add(struct copy_queue *q, char *src, char *dst, uint64_t size);
/* Waits until all is copied (or, after a signal, given up) and frees. */
void copy_queue_finish(struct copy_queue *q);
/* A free temporary name beside dst, heap; NULL when out of memory. */
char *copy_temp_path(const char *dst);

/* Set by SIGINT and SIGTERM, and when the cluster is gone: what is under way is removed, nothing
 * new begins. */
bool copy_stopped(void);
/* Stopped because the cluster does not answer. */
bool copy_lost(void);
void copy_catch_signals(void);

#endif
