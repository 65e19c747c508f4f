/* Copies trees between two sides, several files and several ranges of a file at a time.
 *
 * The calling thread walks the sources, makes directories, links and special files, and queues
 * regular files; workers copy them. A file is written under a temporary name in its directory and
 * renamed when it is complete and durable, so a name never shows half a file; what fails leaves
 * no temporary file and does not stop the others. Directories get their modes and times last.
 * Hard links become files of their own; owners are those of the caller.
 */
#ifndef CAIRN_TOOLS_COPY_H
#define CAIRN_TOOLS_COPY_H

#include <stdbool.h>

#include "tools/cli.h"
#include "tools/side.h"

enum { COPY_WORKERS_DEFAULT = 4, COPY_WORKERS_MAX = 64 };

struct copy_request {
	struct cli *cli; /* failures are told through it */
	const struct side *from, *to;
	bool recursive;
	unsigned workers;
};

/* As cp(1): into dst when it is a directory; several sources need one. Exit status. */
int copy_run(const struct copy_request *request, char **sources, int n_sources, const char *dst);

#endif
