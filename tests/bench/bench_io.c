/* The workloads of `make bench` (tests/bench/bench.sh), as one program that only calls the kernel.
 *
 *	bench_io write DIR BYTES STREAMS           one file a stream, 1 MiB a write(2), fsync
 *	bench_io read DIR BYTES STREAMS            the same files, 1 MiB a read(2)
 *	bench_io randread DIR COUNT IN_FLIGHT      4 KiB each, anywhere in the first of these files
 *	bench_io randwrite DIR COUNT IN_FLIGHT end|each   fsync at the end; or fdatasync after each
 *	bench_io create|stat|open|rename|unlink DIR FILES PROCESSES [BYTES]
 *	                                           small files (4 KiB), a directory for each process
 *	bench_io list|listl DIR                    read the directory; and stat every entry, as `ls -l`
 *	bench_io tree DIR FILES                    a source tree, the same each time
 *
 * Prints "SECONDS OPERATIONS BYTES": from the moment when all workers are ready until the last has
 * finished, without the start of processes. All data is random: a server that skips zeros, or a disk
 * that compresses, gains nothing. Exits with 1 and a line on stderr when any call fails. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	BLOCK = 4096,
	STREAM_IO = 1 << 20,
	POOL_BYTES = 8 << 20, /* the random data that is written, from changing offsets */
	WORKERS_MAX = 64,
	FILES_A_DIRECTORY = 15, /* of the tree: about that of a kernel source tree */
};

static uint8_t *pool;
static const char *dir;

static void die(const char *what, const char *path)
{
	fprintf(stderr, "bench_io: %s %s: %s\n", what, path, strerror(errno));
	exit(1);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* xorshift64*: seeded with the worker's number, so that every system gets the same requests. */
static uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545F4914F6CDD1DULL;
}

static uint64_t random_seed(unsigned worker)
{
	return 0x9E3779B97F4A7C15ULL * (worker + 1);
}

static void pool_fill(void)
{
	uint64_t state = random_seed(999), i, x;

	pool = malloc(POOL_BYTES);
	if (!pool)
		die("allocate", "pool");
	for (i = 0; i < POOL_BYTES; i += 8) {
		x = random_next(&state);
		memcpy(pool + i, &x, 8);
	}
}

/* `bytes` (at most STREAM_IO) of the pool that differ from call to call. */
static const uint8_t *pool_at(uint64_t n, size_t bytes)
{
	return pool + n * 4099 * 8 % (POOL_BYTES - bytes);
}

static void write_all(int fd, const char *path, uint64_t seed, uint64_t bytes)
{
	uint64_t done = 0;

	while (done < bytes) {
		size_t n = bytes - done < STREAM_IO ? bytes - done : STREAM_IO;
		ssize_t r = write(fd, pool_at(seed + done / BLOCK, n), n);

		if (r <= 0)
			die("write", path);
		done += (uint64_t)r;
	}
}

/* ---- workers: processes or threads that start together ---- */

struct worker {
	unsigned index, count;
	uint64_t amount; /* bytes, files or requests of this worker */
	void (*run)(struct worker *);
	int fd;
	bool sync_each;
	uint64_t file_bytes;
};

/* The share of worker `index` of `total`, so that the shares add up. */
static uint64_t share(uint64_t total, unsigned index, unsigned count)
{
	return total / count + (index < total % count);
}

/* Returns the seconds that all took. Each says through a pipe that it is ready, and goes when the
 * other pipe is closed. */
static double run_processes(struct worker *workers, unsigned count)
{
	int ready[2], go[2], status;
	unsigned i;
	char c = 0;
	double begun;

	if (pipe(ready) || pipe(go))
		die("make", "pipe");
	for (i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork", "worker");
		if (!pid) {
			close(go[1]);
			if (write(ready[1], &c, 1) != 1 || read(go[0], &c, 1) != 0)
				die("start", "worker");
			workers[i].run(&workers[i]);
			_exit(0);
		}
	}
	for (i = 0; i < count; i++)
		if (read(ready[0], &c, 1) != 1)
			die("wait for", "worker");
	begun = now_s();
	close(go[1]);
	for (i = 0; i < count; i++)
		if (wait(&status) < 0 || status)
			exit(1);
	return now_s() - begun;
}

static pthread_barrier_t threads_ready;

static void *thread_main(void *arg)
{
	struct worker *w = arg;

	pthread_barrier_wait(&threads_ready);
	w->run(w);
	return NULL;
}

static double run_threads(struct worker *workers, unsigned count)
{
	pthread_t threads[WORKERS_MAX];
	double begun;
	unsigned i;

	pthread_barrier_init(&threads_ready, NULL, count + 1);
	for (i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, thread_main, &workers[i]))
			die("start", "thread");
	pthread_barrier_wait(&threads_ready);
	begun = now_s();
	for (i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	return now_s() - begun;
}

/* ---- streams ---- */

static void stream_path(char *path, unsigned index)
{
	snprintf(path, PATH_MAX, "%s/stream%u", dir, index);
}

static void stream_write(struct worker *w)
{
	char path[PATH_MAX];
	int fd;

	stream_path(path, w->index);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		die("create", path);
	write_all(fd, path, w->index * 7919, w->amount);
	if (fsync(fd) || close(fd))
		die("sync", path);
}

static void stream_read(struct worker *w)
{
	char path[PATH_MAX], *buf = malloc(STREAM_IO);
	uint64_t done = 0;
	ssize_t r;
	int fd;

	stream_path(path, w->index);
	fd = open(path, O_RDONLY);
	if (fd < 0 || !buf)
		die("open", path);
	while ((r = read(fd, buf, STREAM_IO)) > 0)
		done += (uint64_t)r;
	if (r < 0 || done != w->amount)
		die("read all of", path);
	close(fd);
	free(buf);
}

/* ---- random requests ---- */

static uint64_t random_file_blocks;

static void random_read(struct worker *w)
{
	uint64_t state = random_seed(w->index), i;
	char buf[BLOCK];

	for (i = 0; i < w->amount; i++) {
		off_t at = (off_t)(random_next(&state) % random_file_blocks * BLOCK);

		if (pread(w->fd, buf, BLOCK, at) != BLOCK)
			die("read a block in", dir);
	}
}

static void random_write(struct worker *w)
{
	uint64_t state = random_seed(w->index + 100), i;

	for (i = 0; i < w->amount; i++) {
		off_t at = (off_t)(random_next(&state) % random_file_blocks * BLOCK);

		if (pwrite(w->fd, pool_at(state % 65536, BLOCK), BLOCK, at) != BLOCK)
			die("write a block in", dir);
		if (w->sync_each && fdatasync(w->fd))
			die("sync", dir);
	}
}

/* ---- small files ---- */

static void small_path(char *path, const struct worker *w, char prefix, uint64_t i)
{
	snprintf(path, PATH_MAX, "%s/p%u/%c%llu", dir, w->index, prefix, (unsigned long long)i);
}

static void small_create(struct worker *w)
{
	char path[PATH_MAX];
	uint64_t i;

	for (i = 0; i < w->amount; i++) {
		int fd;

		small_path(path, w, 'f', i);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
		if (fd < 0)
			die("create", path);
		write_all(fd, path, w->index * 1000003 + i, w->file_bytes);
		if (close(fd))
			die("close", path);
	}
}

static void small_stat(struct worker *w)
{
	char path[PATH_MAX];
	struct stat st;
	uint64_t i;

	for (i = 0; i < w->amount; i++) {
		small_path(path, w, 'f', i);
		if (stat(path, &st) || (uint64_t)st.st_size != w->file_bytes)
			die("stat", path);
	}
}

static void small_open(struct worker *w)
{
	char path[PATH_MAX], buf[2 * BLOCK];
	uint64_t i;

	for (i = 0; i < w->amount; i++) {
		int fd;

		small_path(path, w, 'f', i);
		fd = open(path, O_RDONLY);
		if (fd < 0 || read(fd, buf, sizeof(buf)) != (ssize_t)w->file_bytes)
			die("read", path);
		close(fd);
	}
}

static void small_rename(struct worker *w)
{
	char from[PATH_MAX], to[PATH_MAX];
	uint64_t i;

	for (i = 0; i < w->amount; i++) {
		small_path(from, w, 'f', i);
		small_path(to, w, 'r', i);
		if (rename(from, to))
			die("rename", from);
	}
}

static void small_unlink(struct worker *w)
{
	char path[PATH_MAX];
	uint64_t i;

	for (i = 0; i < w->amount; i++) {
		small_path(path, w, 'r', i);
		if (unlink(path))
			die("unlink", path);
	}
}

/* ---- a directory ---- */

static uint64_t list(const char *path, bool attributes)
{
	DIR *d = opendir(path);
	struct dirent *e;
	struct stat st;
	uint64_t n = 0;

	if (!d)
		die("open", path);
	for (errno = 0; (e = readdir(d)); n++)
		if (attributes && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			die("stat", e->d_name);
	if (errno)
		die("read", path);
	closedir(d);
	return n - 2; /* . and .. */
}

/* ---- a tree ---- */

/* Sizes as in a source tree: half below 5 KB, a few of 100 KB, 11 KB on average. */
static uint64_t tree_file_bytes(uint64_t *state)
{
	static const uint32_t upto[] = {300, 900, 1700, 2800, 4500, 7000, 11000, 18000, 30000, 60000};
	uint64_t r = random_next(state) >> 16;

	if (r % 200 == 0)
		return 60000 + r / 200 % 80000;
	return 1 + r / 200 % upto[r / 200 / 65536 % 10];
}

static uint64_t tree_make(uint64_t files)
{
	uint64_t state = random_seed(4711), bytes = 0, i;
	char path[PATH_MAX] = "", name[PATH_MAX + 32];

	for (i = 0; i < files; i++) {
		uint64_t size = tree_file_bytes(&state);
		int fd;

		if (i % FILES_A_DIRECTORY == 0) {
			uint64_t n = i / FILES_A_DIRECTORY;

			snprintf(path, sizeof(path), "%s/part%llu", dir, (unsigned long long)n / 32);
			if (mkdir(path, 0755) && errno != EEXIST)
				die("make", path);
			snprintf(path, sizeof(path), "%s/part%llu/module%llu", dir,
				 (unsigned long long)n / 32, (unsigned long long)n);
			if (mkdir(path, 0755))
				die("make", path);
		}
		snprintf(name, sizeof(name), "%s/file%llu.c", path, (unsigned long long)i);
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
		if (fd < 0)
			die("create", name);
		write_all(fd, name, i * 31, size);
		close(fd);
		bytes += size;
	}
	return bytes;
}

/* ---- commands ---- */

static void report(double seconds, uint64_t operations, uint64_t bytes)
{
	printf("%.6f %llu %llu\n", seconds, (unsigned long long)operations,
	       (unsigned long long)bytes);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (*end || !n) {
		fprintf(stderr, "bench_io: not a count: %s\n", text);
		exit(2);
	}
	return n;
}

static const struct command {
	const char *name;
	void (*run)(struct worker *);
	enum { STREAM, RANDOM, SMALL } kind;
} commands[] = {
	{"write", stream_write, STREAM}, {"read", stream_read, STREAM},
	{"randread", random_read, RANDOM}, {"randwrite", random_write, RANDOM},
	{"create", small_create, SMALL}, {"stat", small_stat, SMALL}, {"open", small_open, SMALL},
	{"rename", small_rename, SMALL}, {"unlink", small_unlink, SMALL},
};

static int random_open(bool write)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	stream_path(path, 0);
	fd = open(path, write ? O_RDWR : O_RDONLY);
	if (fd < 0 || fstat(fd, &st) || st.st_size < BLOCK)
		die("open", path);
	/* The kernel's read-ahead would turn scattered reads into streams. */
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	random_file_blocks = (uint64_t)st.st_size / BLOCK;
	return fd;
}

/* Directories of the processes are there before the clock starts. */
static void small_prepare(unsigned processes)
{
	char path[PATH_MAX];
	unsigned i;

	for (i = 0; i < processes; i++) {
		snprintf(path, sizeof(path), "%s/p%u", dir, i);
		if (mkdir(path, 0755) && errno != EEXIST)
			die("make", path);
	}
}

static void run_command(const struct command *c, uint64_t total, unsigned count, const char *extra)
{
	struct worker workers[WORKERS_MAX];
	bool write = c->run == random_write, end = write && extra && !strcmp(extra, "end");
	uint64_t file_bytes = c->kind == SMALL ? (extra ? strtoull(extra, NULL, 10) : BLOCK) : 0;
	int fd = c->kind == RANDOM ? random_open(write) : -1;
	double seconds, begun;
	unsigned i;

	if (c->run == small_create)
		small_prepare(count);
	for (i = 0; i < count; i++)
		workers[i] = (struct worker){
			.index = i, .count = count, .amount = share(total, i, count), .run = c->run,
			.fd = fd, .sync_each = write && !end, .file_bytes = file_bytes,
		};
	seconds = c->kind == RANDOM ? run_threads(workers, count) : run_processes(workers, count);
	begun = now_s();
	if (end && fsync(fd))
		die("sync", dir);
	seconds += now_s() - begun;
	report(seconds, total, c->kind == STREAM ? total : total * (c->kind == SMALL ? file_bytes : BLOCK));
}

int main(int argc, char **argv)
{
	double begun;
	unsigned i;

	if (argc < 3)
		goto usage;
	dir = argv[2];
	pool_fill();
	begun = now_s();
	if (argc == 3 && !strncmp(argv[1], "list", 4)) {
		uint64_t n = list(dir, !strcmp(argv[1], "listl"));

		report(now_s() - begun, n, 0);
		return 0;
	}
	if (argc == 4 && !strcmp(argv[1], "tree")) {
		uint64_t files = number(argv[3]), bytes = tree_make(files);

		report(now_s() - begun, files, bytes);
		return 0;
	}
	for (i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (argc >= 5 && !strcmp(argv[1], commands[i].name)) {
			uint64_t count = number(argv[4]);

			if (count > WORKERS_MAX)
				goto usage;
			run_command(&commands[i], number(argv[3]), (unsigned)count,
				    argc > 5 ? argv[5] : NULL);
			return 0;
		}
usage:
	fprintf(stderr, "usage: at the top of tests/bench/bench_io.c\n");
	return 2;
}
