/* The checker: random work on a Cairn file system while somebody else injects faults.
 *
 *     checker --mount DIR --seed N [--workers N] [--pause-ms N] [--timeout-ms N]
 *
 * N workers (6), in turn through the mount and through libcairn; two of three have a directory of
 * their own, the others share one. --pause-ms: between two operations of a worker; --timeout-ms:
 * of libcairn here; the mount must have the same. Commands, one a line on standard input, are
 * answered by one line each:
 *
 *     pause    no worker is in an operation: "paused"
 *     go       on with the work: "going"
 *     power    every server lost its power, and none is back yet: "noted"
 *     power mount   the same, and the mount was killed with them
 *     verify   (paused) reads everything back, through the mount and through libcairn: "verified"
 *     counts   "operations N reads N bytes N fsyncs N unknown N violations N longest_ms N"
 *     end      as end of file
 *
 * Violations are told as they are found. The exit status is 0 when there was none. */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/cluster.h"
#include "common/fault.h"
#include "common/log.h"
#include "tests/fault/checker/worker.h"

enum { WORKERS_MAX = 32, VERIFY_WAIT_MS = 30000, LIMIT_SLACK_MS = 10000,
       FAILED_PAUSE_MS = 50 };

static struct worker workers[WORKERS_MAX];
static unsigned n_workers = 6;
static long pause_ms = 5, timeout_ms = 15000;
static struct backend mount_backend = {.ops = &backend_mount, .root_fd = -1};
static struct backend lib_backend = {.ops = &backend_libcairn, .root_fd = -1};

/* Protected by lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool pausing, ending;
static unsigned resting;

static void die(const char *what, const char *why)
{
	fprintf(stderr, "checker: %s: %s\n", what, why);
	exit(2);
}

/* ---- workers ---- */

/* Waits as long as work is to rest, and a little between two operations. False at the end. */
static bool may_go_on(bool worked)
{
	long pause = worked ? pause_ms : pause_ms + FAILED_PAUSE_MS;
	struct timespec until;
	bool go;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += pause * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&lock);
	while (!pausing && !ending && pause > 0 &&
	       pthread_cond_timedwait(&changed, &lock, &until) == 0)
		;
	if (pausing) {
		resting++;
		pthread_cond_broadcast(&changed);
		while (pausing && !ending)
			pthread_cond_wait(&changed, &lock);
		resting--;
	}
	go = !ending;
	pthread_mutex_unlock(&lock);
	return go;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	bool worked = true;

	while (may_go_on(worked))
		worked = worker_step(w);
	worker_rest(w);
	return NULL;
}

static void set(bool *flag, bool to)
{
	pthread_mutex_lock(&lock);
	*flag = to;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void wait_resting(void)
{
	pthread_mutex_lock(&lock);
	while (resting < n_workers)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

/* ---- commands ---- */

static void verify(void)
{
	for (unsigned i = 0; i < n_workers; i++) {
		worker_rest(&workers[i]);
		worker_verify(&workers[i], &mount_backend, VERIFY_WAIT_MS);
		worker_verify(&workers[i], &lib_backend, VERIFY_WAIT_MS);
	}
}

static void print_counts(void)
{
	printf("operations %llu reads %llu bytes %llu fsyncs %llu unknown %llu violations %llu "
	       "longest_ms %llu\n", atomic_load(&counts.operations), atomic_load(&counts.reads),
	       atomic_load(&counts.bytes_read), atomic_load(&counts.fsyncs),
	       atomic_load(&counts.unknown), atomic_load(&counts.violations),
	       atomic_load(&counts.longest_ms));
}

/* False at the end. */
static bool command(const char *line)
{
	if (strcmp(line, "pause\n") == 0) {
		set(&pausing, true);
		wait_resting();
		puts("paused");
	} else if (strcmp(line, "go\n") == 0) {
		set(&pausing, false);
		puts("going");
	} else if (strcmp(line, "power\n") == 0 || strcmp(line, "power mount\n") == 0) {
		if (line[5] == ' ')
			atomic_fetch_add(&mount_losses, 1);
		atomic_fetch_add(&power_losses, 1);
		puts("noted");
	} else if (strcmp(line, "verify\n") == 0) {
		verify();
		puts("verified");
	} else if (strcmp(line, "counts\n") == 0) {
		print_counts();
	} else {
		return false;
	}
	fflush(stdout);
	return true;
}

/* ---- set-up ---- */

static void connect_lib(const char *name)
{
	struct cairn_options o = {.name = name, .timeout_ms = timeout_ms};
	struct cluster cluster;
	struct err err = {0};
	char why[256] = "";

	if (fault_setup(name, &err) < 0 || cluster_find("checker", NULL, NULL, &cluster, &err) < 0)
		die("set-up", err.text);
	o.masters = cluster.masters;
	o.credentials = cluster.credentials;
	if (cairn_connect(&o, &lib_backend.fs, why, sizeof(why)) < 0)
		die("connect", why);
	cluster_release(&cluster);
}

static void make_dir(const char *dir)
{
	int r = cairn_mkdir(lib_backend.fs, dir, 0755);
	if (r < 0 && r != -EEXIST)
		die(dir, cairn_error());
}

static void start_workers(uint64_t seed)
{
	make_dir("/shared");
	for (unsigned i = 0; i < n_workers; i++) {
		char dir[32] = "/shared";
		if (i % 3 != 2)
			snprintf(dir, sizeof(dir), "/own%u", i);
		make_dir(dir);
		worker_init(&workers[i], i, seed, i % 2 ? &lib_backend : &mount_backend, dir + 1,
			    2 * timeout_ms + LIMIT_SLACK_MS);
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
			die("thread", strerror(errno));
	}
}

static int usage(void)
{
	fprintf(stderr, "usage: checker --mount DIR --seed N [--workers N] [--pause-ms N] "
			"[--timeout-ms N]\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"mount", required_argument, NULL, 'm'}, {"seed", required_argument, NULL, 's'},
		{"workers", required_argument, NULL, 'w'}, {"pause-ms", required_argument, NULL, 'p'},
		{"timeout-ms", required_argument, NULL, 't'}, {0},
	};
	uint64_t seed = 0;
	char line[64];
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'm': mount_backend.mountpoint = optarg; break;
		case 's': seed = strtoull(optarg, NULL, 0); break;
		case 'w': n_workers = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'p': pause_ms = strtol(optarg, NULL, 0); break;
		case 't': timeout_ms = strtol(optarg, NULL, 0); break;
		default: return usage();
		}
	}
	if (!mount_backend.mountpoint || n_workers == 0 || n_workers > WORKERS_MAX || optind != argc)
		return usage();
	log_setup("checker", LOG_WARN);
	connect_lib("checker");
	start_workers(seed);
	while (fgets(line, sizeof(line), stdin) && command(line))
		;
	set(&ending, true);
	for (unsigned i = 0; i < n_workers; i++) {
		pthread_join(workers[i].thread, NULL);
		worker_release(&workers[i]);
	}
	cairn_disconnect(lib_backend.fs);
	print_counts();
	return atomic_load(&counts.violations) > 0;
}
