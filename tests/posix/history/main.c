/* posix_history [--seed N] [--seconds S] [--workers W] [--with WORDS] [--busy] MOUNT MOUNT
 *
 * Rounds of about a second until the time is over: W processes, half on each mount, work on a dozen
 * objects; then every object's history is checked. WORDS: block, size, mtime, replace, names, links,
 * append, lock; all by default. Exit status 1 when a history could not be.
 *
 * --busy: the processes create and remove names in one directory that both mounts know, and the
 * longest operation is printed. */
#include "tests/posix/history/history.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, ROUND_MS = 1000, TEXT_BYTES = 2000, PATH_BYTES = 400 };

enum object_kind { OBJ_BLOCK, OBJ_SIZE, OBJ_MTIME, OBJ_REPLACE, OBJ_NAMES, OBJ_LINKS, OBJ_APPEND, OBJ_LOCK,
		   OBJ_KINDS };
static const char *const kind_names[OBJ_KINDS] = {"block", "size", "mtime", "replace", "names", "links",
						  "append", "lock"};
static const enum object_kind objects[OBJECTS] = {
	OBJ_BLOCK, OBJ_BLOCK, OBJ_BLOCK, OBJ_SIZE, OBJ_SIZE, OBJ_MTIME, OBJ_REPLACE, OBJ_NAMES, OBJ_NAMES,
	OBJ_LINKS, OBJ_APPEND, OBJ_APPEND, OBJ_LOCK};

static struct shared {
	struct history history;
	char failure[TEXT_BYTES]; /* an operation that gave what none may */
	uint64_t longest[WORKERS_MAX];
} *shared;
static bool chosen[OBJ_KINDS] = {true, true, true, true, true, true, true, true};
static const char *mounts[2];

struct worker {
	int number;
	char dir[PATH_BYTES]; /* the round's, on this worker's mount */
	uint64_t random, end;
	int64_t unique;
	bool holds_lock;
	/* Open all the time: an open would drop the kernel's pages. A reading one too: it goes through
	 * them. */
	int fds[OBJECTS], read_fds[OBJECTS];
	int64_t records[OBJECTS]; /* that were seen: there are no fewer */
};

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint32_t draw(struct worker *w)
{
	w->random = w->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(w->random >> 33);
}

static void __attribute__((noreturn)) impossible(struct worker *w, int object, const char *what)
{
	snprintf(shared->failure, TEXT_BYTES, "object %d (%s), worker %d: %s: %s", object,
		 kind_names[objects[object]], w->number, what, strerror(errno));
	_exit(1);
}

static const char *object_path(struct worker *w, int object, const char *suffix)
{
	static char path[2 * PATH_BYTES];

	snprintf(path, sizeof(path), "%s/%d%s", w->dir, object, suffix);
	return path;
}

/* ---- operations: they fill the event's result ---- */

static void block_op(struct worker *w, struct event *e)
{
	int64_t block[BLOCK / 8];
	int fd = w->fds[e->object];

	if (e->kind == EV_WRITE) {
		for (int i = 0; i < BLOCK / 8; i++)
			block[i] = e->arg;
		if (pwrite(fd, block, BLOCK, BLOCK) != BLOCK)
			impossible(w, e->object, "pwrite");
	} else {
		if (draw(w) % 2 == 0)
			fd = w->read_fds[e->object];
		if (pread(fd, block, BLOCK, BLOCK) != BLOCK)
			impossible(w, e->object, "pread");
		for (int i = 1; i < BLOCK / 8; i++)
			if (block[i] != block[0])
				impossible(w, e->object, "a block of two writes");
		e->result = block[0];
	}
}

static void size_op(struct worker *w, struct event *e)
{
	struct stat st;

	if (e->kind == EV_WRITE ? truncate(object_path(w, e->object, ""), e->arg)
				: stat(object_path(w, e->object, ""), &st))
		impossible(w, e->object, "truncate or stat");
	if (e->kind == EV_READ)
		e->result = st.st_size;
}

static void mtime_op(struct worker *w, struct event *e)
{
	const struct timespec set[2] = {{.tv_sec = e->arg}, {.tv_sec = e->arg}};
	struct stat st;

	if (e->kind == EV_WRITE ? utimensat(AT_FDCWD, object_path(w, e->object, ""), set, 0)
				: stat(object_path(w, e->object, ""), &st))
		impossible(w, e->object, "utimensat or stat");
	if (e->kind == EV_READ)
		e->result = st.st_mtim.tv_sec;
}

/* A file is replaced by another one by rename; readers find the one or the other, never none. */
static void replace_op(struct worker *w, struct event *e)
{
	char made[2 * PATH_BYTES], suffix[30];
	int fd;

	if (e->kind == EV_READ) {
		fd = open(object_path(w, e->object, ""), O_RDONLY);
		if (fd < 0 || pread(fd, &e->result, 8, 0) != 8)
			impossible(w, e->object, "read of a replaced file");
		close(fd);
		return;
	}
	snprintf(suffix, sizeof(suffix), ".new%d", w->number);
	strcpy(made, object_path(w, e->object, suffix));
	fd = open(made, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, &e->arg, 8) != 8 || close(fd) < 0)
		impossible(w, e->object, "making a file");
	e->invoked = now(); /* the rename is what counts */
	if (rename(made, object_path(w, e->object, "")) < 0)
		impossible(w, e->object, "rename over a file");
}

/* One getdents(2) of few names: what was there at one moment. */
static int64_t names_list(struct worker *w, int object)
{
	DIR *dir = opendir(object_path(w, object, ".d"));
	struct dirent *d;
	int64_t names = 0;

	if (!dir)
		impossible(w, object, "opendir");
	errno = 0;
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.')
			names |= (int64_t)1 << atoi(d->d_name);
	if (errno)
		impossible(w, object, "readdir");
	closedir(dir);
	return names;
}

static void names_op(struct worker *w, struct event *e)
{
	char suffix[2][20];
	struct stat st;
	char from[2 * PATH_BYTES];
	int r;

	snprintf(suffix[0], sizeof(suffix[0]), ".d/%d",
		 (int)(e->kind == EV_RENAME ? e->arg / NAMES : e->arg));
	snprintf(suffix[1], sizeof(suffix[1]), ".d/%d", (int)(e->arg % NAMES));
	strcpy(from, object_path(w, e->object, suffix[0]));
	switch ((enum event_kind)e->kind) {
	case EV_LIST: e->result = names_list(w, e->object); return;
	case EV_NLINK:
		if (stat(object_path(w, e->object, ""), &st) < 0)
			impossible(w, e->object, "stat of what is linked");
		e->result = (int64_t)st.st_nlink;
		return;
	case EV_LINK: r = link(object_path(w, e->object, ""), from); break;
	case EV_CREATE: r = mknod(from, S_IFREG | 0644, 0); break;
	case EV_UNLINK: r = unlink(from); break;
	case EV_STAT: r = stat(from, &st); break;
	default:
		r = renameat2(AT_FDCWD, from, AT_FDCWD, object_path(w, e->object, suffix[1]),
			      RENAME_NOREPLACE);
		break;
	}
	e->result = r < 0 ? errno : 0;
	if (e->result != 0 && e->result != (e->kind == EV_CREATE || e->kind == EV_LINK ? EEXIST : ENOENT) &&
	    (e->kind != EV_RENAME || e->result != EEXIST))
		impossible(w, e->object, "an operation on a name");
}

/* Records never change, so what was read behind the ones that are known is what was there when the
 * last one was the last. */
static void append_op(struct worker *w, struct event *e)
{
	int64_t *seen = &w->records[e->object], from = *seen ? *seen - 1 : 0, records[512];
	ssize_t n;

	if (e->kind == EV_APPEND) {
		if (write(w->fds[e->object], &e->arg, sizeof(e->arg)) != sizeof(e->arg))
			impossible(w, e->object, "append");
		return;
	}
	for (;; from += n / 8) {
		n = pread(w->read_fds[e->object], records, sizeof(records), from * 8);
		if (n < 0 || n % 8 || (n == 0 && from > 0))
			impossible(w, e->object, "read of records");
		if (n < (ssize_t)sizeof(records))
			break;
	}
	*seen = from + n / 8;
	e->result = n ? history_records(*seen, records[n / 8 - 1]) : 0;
}

static void lock_op(struct worker *w, struct event *e)
{
	struct flock l = {.l_type = e->kind == EV_UNLOCK ? F_UNLCK : F_WRLCK, .l_whence = SEEK_SET};

	e->result = fcntl(w->fds[e->object], F_SETLK, &l) < 0 ? errno : 0;
	if (e->result != 0 && (e->result != EAGAIN || e->kind == EV_UNLOCK))
		impossible(w, e->object, "a lock");
	w->holds_lock = e->kind == EV_TRY_LOCK && e->result == 0;
}

/* ---- workers ---- */

/* Draws what to do with the object. */
static void event_draw(struct worker *w, struct event *e)
{
	static const uint8_t names[] = {EV_CREATE, EV_UNLINK, EV_RENAME, EV_STAT, EV_STAT, EV_LIST};
	static const uint8_t links[] = {EV_LINK, EV_UNLINK, EV_NLINK, EV_NLINK, EV_STAT, EV_LIST};

	switch (objects[e->object]) {
	case OBJ_NAMES:
	case OBJ_LINKS:
		e->kind = (objects[e->object] == OBJ_LINKS ? links : names)[draw(w) % 6];
		e->arg = draw(w) % NAMES;
		if (e->kind == EV_RENAME)
			e->arg = e->arg * NAMES + (e->arg + 1) % NAMES;
		break;
	case OBJ_APPEND:
		e->kind = draw(w) % 4 == 0 ? EV_APPEND : EV_TAIL;
		e->arg = ++w->unique * WORKERS_MAX + w->number;
		break;
	case OBJ_LOCK: e->kind = w->holds_lock ? EV_UNLOCK : EV_TRY_LOCK; break;
	default:
		/* Reads more often than writes, so that caches are warm. */
		e->kind = draw(w) % 4 == 0 ? EV_WRITE : EV_READ;
		e->arg = ++w->unique * WORKERS_MAX + w->number;
		break;
	}
}

static void worker_step(struct worker *w, uint32_t object)
{
	static void (*const ops[OBJ_KINDS])(struct worker *, struct event *) = {
		block_op, size_op, mtime_op, replace_op, names_op, names_op, append_op, lock_op};
	struct event e = {.worker = (uint8_t)w->number, .object = (uint8_t)object};
	int *n = &shared->history.n_events[w->number];

	if (!chosen[objects[object]])
		return;
	event_draw(w, &e);
	e.invoked = now();
	ops[objects[e.object]](w, &e);
	e.returned = now();
	if (e.returned - e.invoked > shared->longest[w->number])
		shared->longest[w->number] = e.returned - e.invoked;
	shared->history.events[w->number][(*n)++] = e;
}

static void __attribute__((noreturn)) worker_main(struct worker *w)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(100);
	for (int i = 0; i < OBJECTS; i++)
		if (objects[i] == OBJ_BLOCK || objects[i] == OBJ_LOCK || objects[i] == OBJ_APPEND) {
			w->fds[i] = open(object_path(w, i, ""),
					 objects[i] == OBJ_APPEND ? O_WRONLY | O_APPEND : O_RDWR);
			w->read_fds[i] = open(object_path(w, i, ""), O_RDONLY);
			if (w->fds[i] < 0 || w->read_fds[i] < 0)
				impossible(w, i, "open");
		}
	while (now() < w->end && shared->history.n_events[w->number] < EVENTS_MAX - 1)
		worker_step(w, draw(w) % OBJECTS);
	if (w->holds_lock)
		worker_step(w, OBJECTS - 1);
	_exit(0);
}

/* In one directory: create, look at, remove a name of its own and look at the others'. */
static void __attribute__((noreturn)) busy_main(struct worker *w)
{
	struct stat st;
	char own[30], others[30];
	uint64_t begun, took;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; now() < w->end; i++) {
		snprintf(own, sizeof(own), "-busy-%d-%d", w->number, i % 3);
		snprintf(others, sizeof(others), "-busy-%d-%d", (w->number + 1) % 4, i % 3);
		for (int k = 0; k < 3; k++) {
			int r;

			begun = now();
			r = k == 0 ? mknod(object_path(w, 0, own), S_IFREG | 0644, 0)
			    : k == 1 ? (stat(object_path(w, 0, others), &st), 0)
				     : unlink(object_path(w, 0, own));
			took = now() - begun;
			if (r < 0)
				impossible(w, 0, k == 0 ? "create" : "unlink");
			if (took > shared->longest[w->number])
				shared->longest[w->number] = took;
		}
	}
	_exit(0);
}

/* ---- rounds ---- */

static void fail(const char *what)
{
	fprintf(stderr, "posix_history: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void objects_make(const char *dir)
{
	static const char zeros[2 * BLOCK];
	char path[2 * PATH_BYTES];

	for (int i = 0; i < OBJECTS; i++) {
		const struct timespec zero[2] = {{0}};
		int fd;

		snprintf(path, sizeof(path), "%s/%d", dir, i);
		fd = open(path, O_RDWR | O_CREAT, 0644);
		if (fd < 0)
			fail(path);
		if (objects[i] != OBJ_SIZE && objects[i] != OBJ_APPEND && write(fd, zeros, sizeof(zeros)) != sizeof(zeros))
			fail(path);
		if (futimens(fd, zero) < 0 || close(fd) < 0)
			fail(path);
		strcat(path, ".d");
		if (mkdir(path, 0755) < 0)
			fail(path);
	}
}

static bool round_run(uint64_t seed, int n_workers, bool busy, char *text)
{
	struct worker workers[WORKERS_MAX] = {0};
	pid_t pids[WORKERS_MAX];
	char name[60], dir[PATH_BYTES];
	uint64_t end;
	bool ok = true;

	memset(shared, 0, sizeof(*shared));
	shared->history.n_workers = n_workers;
	snprintf(name, sizeof(name), "history-%d-%llx", (int)getpid(), (unsigned long long)seed);
	snprintf(dir, sizeof(dir), "%s/%s", mounts[0], name);
	if (mkdir(dir, 0755) < 0)
		fail(dir);
	objects_make(dir);
	end = now() + ROUND_MS * 1000000u;
	for (int i = 0; i < n_workers; i++) {
		struct worker *w = &workers[i];

		w->number = i;
		w->end = end;
		w->random = seed * 1000003u + (uint64_t)i * 7919u;
		snprintf(w->dir, sizeof(w->dir), "%s/%s", mounts[i % 2], name);
		pids[i] = fork();
		if (pids[i] == 0) {
			if (busy)
				busy_main(w);
			worker_main(w);
		}
	}
	for (int i = 0; i < n_workers; i++) {
		int status = 0;

		if (waitpid(pids[i], &status, 0) < 0 || status != 0) {
			ok = false;
			snprintf(text, TEXT_BYTES, "%.1900s (status %x)", shared->failure,
				 (unsigned)status);
		}
	}
	for (int i = 0; ok && !busy && i < OBJECTS; i++)
		ok = history_check(&shared->history, i, 0, text, TEXT_BYTES);
	return ok;
}

static void kinds_choose(const char *words)
{
	for (int k = 0; k < OBJ_KINDS; k++)
		chosen[k] = strstr(words, kind_names[k]) != NULL;
}

static double longest_ms(int n)
{
	uint64_t longest = 0;

	for (int i = 0; i < n; i++)
		if (shared->longest[i] > longest)
			longest = shared->longest[i];
	return (double)longest / 1e6;
}

int main(int argc, char **argv)
{
	unsigned long long seed = (unsigned long long)getpid();
	int seconds = 10, n_workers = 4, n_mounts = 0, rounds = 0;
	long operations = 0;
	double longest = 0;
	bool busy = false;
	char text[TEXT_BYTES] = "";
	uint64_t begun = now();

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
			seconds = atoi(argv[++i]);
		else if (strcmp(argv[i], "--workers") == 0 && i + 1 < argc)
			n_workers = atoi(argv[++i]);
		else if (strcmp(argv[i], "--with") == 0 && i + 1 < argc)
			kinds_choose(argv[++i]);
		else if (strcmp(argv[i], "--busy") == 0)
			busy = true;
		else if (n_mounts < 2)
			mounts[n_mounts++] = argv[i];
	}
	if (n_mounts != 2 || n_workers < 1 || n_workers > WORKERS_MAX) {
		fprintf(stderr, "usage: posix_history [--seed N] [--seconds S] [--workers W] "
				"[--with WORDS] [--busy] MOUNT MOUNT\n");
		return 2;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		fail("mmap");
	printf("# seed %llu\n", seed);
	do {
		if (!round_run(seed + (unsigned)rounds, n_workers, busy, text)) {
			printf("violation after %.1f s: %s\n", (double)(now() - begun) / 1e9, text);
			return 1;
		}
		rounds++;
		if (longest_ms(n_workers) > longest)
			longest = longest_ms(n_workers);
		for (int i = 0; i < n_workers; i++)
			operations += shared->history.n_events[i];
		if (busy)
			printf("longest %.0f ms\n", longest_ms(n_workers));
	} while (now() - begun < (uint64_t)seconds * 1000000000u);
	if (!busy)
		printf("%d rounds, %ld operations, the longest %.0f ms, linearizable\n", rounds,
		       operations, longest);
	return 0;
}
