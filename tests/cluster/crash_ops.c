/* A stream of creates and renames by several threads, each remembering what it was told.
 *
 *     crash_ops run DIRECTORY THREADS
 *
 * Makes DIRECTORY/tT-N for N = 0, 1, ... and renames every second one to DIRECTORY/rT-N (O_EXCL
 * and RENAME_NOREPLACE, so that a thing done twice is an error), while somebody kills the master.
 * On SIGTERM the threads end, and it reads the directory and compares: every operation that returned success is there,
 * nothing else is. Prints "operations N" and exits 0, or says what is wrong. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cairn.h"

enum { THREADS_MAX = 64, FILES_MAX = 200000 };

/* What a thread knows of its Nth file. */
enum fate { FATE_NONE, FATE_MADE, FATE_RENAMED };

static struct worker {
	pthread_t thread;
	unsigned number;
	unsigned n; /* files made */
	uint8_t fate[FILES_MAX];
	uint8_t seen[FILES_MAX];
	int failure;
	char what[256];
} workers[THREADS_MAX];

static struct cairn *fs;
static uint64_t dir_inode;
static volatile sig_atomic_t stop;

static void on_term(int signal_number)
{
	stop = 1;
}

static void fail(struct worker *w, int r, const char *op, unsigned n)
{
	w->failure = 1;
	snprintf(w->what, sizeof(w->what), "thread %u %s %u: %s (%s)", w->number, op, n,
		 strerror(-r), cairn_error());
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!stop && w->n < FILES_MAX) {
		char name[64], other[64];
		struct cairn_attr attr;
		unsigned n = w->n;
		int r;

		snprintf(name, sizeof(name), "t%u-%u", w->number, n);
		r = cairn_make(fs, NULL, dir_inode, name, S_IFREG | 0644, 0, NULL, O_EXCL, &attr);
		if (r < 0) {
			fail(w, r, "create", n);
			break;
		}
		w->fate[n] = FATE_MADE;
		w->n++;
		if (n % 2 == 0)
			continue;
		snprintf(other, sizeof(other), "r%u-%u", w->number, n);
		r = cairn_rename_at(fs, NULL, dir_inode, name, dir_inode, other,
				    1 /* RENAME_NOREPLACE */);
		if (r < 0) {
			fail(w, r, "rename", n);
			break;
		}
		w->fate[n] = FATE_RENAMED;
	}
	return NULL;
}

static int problems;

static int look(void *arg, const char *name, uint64_t cookie, const struct cairn_attr *attr)
{
	unsigned t, n, limit = *(unsigned *)arg;
	char kind;

	if (name[0] == '.')
		return 0;
	if (sscanf(name, "%c%u-%u", &kind, &t, &n) != 3 || t >= limit || n >= FILES_MAX ||
	    workers[t].fate[n] != (kind == 'r' ? FATE_RENAMED : FATE_MADE) ||
	    workers[t].seen[n]++) {
		if (problems++ < 10)
			fprintf(stderr, "%s is there and should not be\n", name);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct cairn_options options = {.masters = getenv("CAIRN_MASTER"),
					.credentials = getenv("CAIRN_CREDENTIALS"),
					.name = "crash_ops", .timeout_ms = 60000};
	struct sigaction term = {.sa_handler = on_term, .sa_flags = SA_RESTART};
	struct cairn_attr attr;
	uint64_t parent, total = 0;
	unsigned threads;
	char error[512], name[256];
	int r;

	if (argc != 4 || (threads = (unsigned)atoi(argv[3])) > THREADS_MAX)
		return 2;
	sigaction(SIGTERM, &term, NULL);
	if (cairn_connect(&options, &fs, error, sizeof(error)) < 0) {
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	r = cairn_resolve_parent(fs, argv[2], &parent, name);
	if (r == 0)
		r = cairn_make(fs, NULL, parent, name, S_IFDIR | 0755, 0, NULL, 0, &attr);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", argv[2], cairn_error());
		return 1;
	}
	dir_inode = attr.inode;
	for (unsigned i = 0; i < threads; i++) {
		workers[i].number = i;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
			return 1;
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		total += workers[i].n;
		if (workers[i].failure && problems++ < 10)
			fprintf(stderr, "%s\n", workers[i].what);
	}
	r = cairn_readdir(fs, NULL, dir_inode, 0, look, &threads);
	if (r < 0) {
		fprintf(stderr, "readdir: %s\n", cairn_error());
		problems++;
	}
	for (unsigned i = 0; i < threads; i++)
		for (unsigned n = 0; n < workers[i].n; n++)
			if (!workers[i].seen[n] && problems++ < 10)
				fprintf(stderr, "%c%u-%u was acknowledged and is not there\n",
					workers[i].fate[n] == FATE_RENAMED ? 'r' : 't', i, n);
	printf("operations %" PRIu64 " problems %d\n", total + total / 2, problems);
	cairn_disconnect(fs);
	return problems ? 1 : 0;
}
