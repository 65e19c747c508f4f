/* The data port: READ, WRITE with its chain, COPY, SYNC, SUMS. One thread for each connection that is set
 * up. Clients need access tokens (chunkserver/access.h). */
#ifndef CAIRN_CHUNKSERVER_SERVE_H
#define CAIRN_CHUNKSERVER_SERVE_H

#include "chunkserver/keys.h"
#include "chunkserver/lease.h"
#include "chunkserver/store.h"
#include "common/cred.h"

struct serve_options {
	struct store *store;
	const struct lease *lease; /* without it nothing is served or acknowledged: ERR_LEASE */
	struct keys *keys;	 /* of access tokens; not owned */
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
/* Requests refused for want of a valid access token, since the start. */
uint64_t serve_refused(void);

#endif
