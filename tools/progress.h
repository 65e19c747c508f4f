/* One line on the terminal about how far a copy is, four times a second. */
#ifndef CAIRN_TOOLS_PROGRESS_H
#define CAIRN_TOOLS_PROGRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tools/cli.h"

struct progress {
	atomic_uint_least64_t files, files_done, bytes, bytes_done;
	struct cli *cli;
	bool running; /* a thread shows it: standard error is a terminal */
	int64_t start_ms;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop; /* protected by lock */
};

void progress_start(struct progress *p, struct cli *cli);
void progress_stop(struct progress *p);
/* The line: "12/40 files, 1.2G/3.4G 35%, 120M/s". */
void progress_text(uint64_t files_done, uint64_t files, uint64_t bytes_done, uint64_t bytes,
		   int64_t elapsed_ms, char *ret, size_t room);

#endif
