/* fill_dir /PATH COUNT: makes COUNT empty files in a directory, for tests of large ones: by libcairn and many
 * threads at once, since the master's log takes many entries in one go. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>

#include "client/cairn.h"

enum { THREADS = 64 };

static struct cairn *fs;
static uint64_t parent;
static unsigned count;
static atomic_uint next;
static atomic_int failure;

static void *fill(void *arg)
{
	const struct cairn_cred cred = {0};
	struct cairn_attr attr;
	unsigned i;

	while ((i = atomic_fetch_add(&next, 1)) < count && !atomic_load(&failure)) {
		char name[64];
		int r;
		snprintf(name, sizeof(name), "entry-%08u", i);
		r = cairn_make(fs, &cred, parent, name, S_IFREG | 0644, 0, NULL, O_EXCL, &attr);
		if (r < 0) {
			fprintf(stderr, "%s: %s\n", name, cairn_error());
			atomic_store(&failure, r);
		}
	}
	return arg;
}

int main(int argc, char **argv)
{
	struct cairn_options options = {.masters = getenv("CAIRN_MASTER"),
					.credentials = getenv("CAIRN_CREDENTIALS")};
	pthread_t threads[THREADS];
	struct stat st;
	char reason[512];
	unsigned n = 0;

	if (argc != 3)
		return 2;
	count = (unsigned)strtoul(argv[2], NULL, 10);
	if (cairn_connect(&options, &fs, reason, sizeof(reason)) < 0) {
		fprintf(stderr, "%s\n", reason);
		return 1;
	}
	if (cairn_stat(fs, argv[1], &st) < 0) {
		fprintf(stderr, "%s: %s\n", argv[1], cairn_error());
		return 1;
	}
	parent = st.st_ino;
	while (n < THREADS && pthread_create(&threads[n], NULL, fill, NULL) == 0)
		n++;
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	cairn_disconnect(fs);
	return n < THREADS || atomic_load(&failure);
}
