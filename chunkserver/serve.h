/* The data port: READ, WRITE with its chain, SYNC, SUMS. One thread for each connection that is set up. */
#ifndef CAIRN_CHUNKSERVER_SERVE_H
#define CAIRN_CHUNKSERVER_SERVE_H

#include "chunkserver/lease.h"
#include "chunkserver/store.h"
#include "common/cred.h"

struct serve_options {
	struct store *store;
	const struct lease *lease; /* without it nothing is served or acknowledged: ERR_LEASE */
	const struct cred *cred; /* not owned */
	int64_t io_timeout_ms;
	int64_t max_connections;
	int hangup_fd; /* a non-blocking signalfd(2); -1: none */
	void (*hangup)(void *arg); /* called on the accepting thread when there was a signal */
	/* The next server of a chain failed. */
	void (*fault)(void *arg, uint64_t chunk, uint32_t version, uint32_t server, int reason);
	void *arg;
};

/* Accepts on listen_fd until `stop_fd` is readable; returns when every connection's thread has
 * ended. */
void serve(const struct serve_options *options, int listen_fd, int stop_fd);
/* Requests in progress now. */
unsigned serve_load(void);

#endif
