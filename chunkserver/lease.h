/* The right to serve. A server that has had no answer from the master for its lease, counted from
 * when it sent the request that was answered last, may have been left out of its chunks: it neither
 * serves nor acknowledges. Before the first answer it holds none. Any thread. */
#ifndef CAIRN_CHUNKSERVER_LEASE_H
#define CAIRN_CHUNKSERVER_LEASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct lease {
	_Atomic int64_t until_ms; /* of clock_ms(); 0: never held */
};

/* A request sent at sent_ms was answered. lease_ms 0: this master gives none, and asks for none. */
static inline void lease_renew(struct lease *l, int64_t sent_ms, int64_t lease_ms)
{
	l->until_ms = lease_ms ? sent_ms + lease_ms : INT64_MAX;
}

static inline bool lease_held(const struct lease *l, int64_t now_ms)
{
	return now_ms < l->until_ms;
}

#endif
