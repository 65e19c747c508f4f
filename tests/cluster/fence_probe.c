/* fence_probe NEAR FAR: one process changes things through the mount NEAR, others look at them through the
 * mount FAR, where they may meet errors but never what was before a change that had returned when
 * they asked.
 *
 * Each thing counts: the bytes of a file, the size of another one, the highest name in a directory. The
 * changer notes the number when its call has returned (`done`); a looker takes that number before its call,
 * and an answer with a smaller one is stale. A line on stdin is answered with "done N answers N errors N
 * stale N" (done, answers: of the thing and the way of looking that have come least far), "end" ends
 * everything. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum thing { BYTES, SIZE, NAMES, THINGS };
enum look { OF_OPEN_FILE, OF_OPENED, OF_SIZE, OF_NAME, LOOKS };
enum { PATH_BYTES = 4000, PAUSE_US = 20000 };

static const enum thing looked_at[LOOKS] = {BYTES, BYTES, SIZE, NAMES};

static struct shared {
	atomic_ullong done[THINGS];
	atomic_ullong answers[LOOKS], errors[LOOKS], stale[LOOKS];
} *shared;

static void __attribute__((noreturn)) fail(const char *what)
{
	fprintf(stderr, "fence_probe: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static const char *path_of(const char *mount, const char *name, unsigned long long number)
{
	static char path[PATH_BYTES];

	snprintf(path, sizeof(path), number ? "%s/%s%llu" : "%s/%s", mount, name, number);
	return path;
}

/* ---- through NEAR ---- */

static void change(const char *near, enum thing thing, uint64_t number, int fd)
{
	if (thing == BYTES && pwrite(fd, &number, sizeof(number), 0) != sizeof(number))
		fail("write");
	if (thing == SIZE && truncate(path_of(near, "size", 0), (off_t)number) < 0)
		fail("truncate");
	if (thing == NAMES && mknod(path_of(near, "name", number), S_IFREG | 0644, 0) < 0)
		fail("create");
}

static void __attribute__((noreturn)) changer(const char *near, enum thing thing)
{
	int fd = open(path_of(near, "bytes", 0), O_WRONLY);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fd < 0)
		fail("open");
	for (uint64_t number = 1;; number++) {
		change(near, thing, number, fd);
		atomic_store(&shared->done[thing], number);
		usleep(PAUSE_US); /* so that what is looked at is cached in between */
	}
}

/* ---- through FAR ---- */

/* Whether there was an answer; *ret: the number it tells. */
static bool look(const char *far, enum look how, uint64_t before, int fd, uint64_t *ret)
{
	struct stat st;
	bool answered;

	if (how == OF_SIZE) {
		answered = stat(path_of(far, "size", 0), &st) == 0;
		*ret = (uint64_t)st.st_size;
		return answered;
	}
	if (how == OF_NAME) {
		*ret = before;
		if (stat(path_of(far, "name", before + 1), &st) < 0 && errno != ENOENT)
			return false; /* its absence is cached, when it is absent */
		answered = before == 0 || stat(path_of(far, "name", before), &st) == 0;
		if (!answered && errno == ENOENT)
			*ret = before - 1;
		return answered || errno == ENOENT;
	}
	if (how == OF_OPENED)
		fd = open(path_of(far, "bytes", 0), O_RDONLY);
	answered = fd >= 0 && pread(fd, ret, sizeof(*ret), 0) == sizeof(*ret);
	if (how == OF_OPENED && fd >= 0)
		close(fd);
	return answered;
}

static void __attribute__((noreturn)) looker(const char *far, enum look how)
{
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while ((fd = open(path_of(far, "bytes", 0), O_RDONLY)) < 0)
		atomic_fetch_add(&shared->errors[how], 1);
	for (;;) {
		uint64_t before = atomic_load(&shared->done[looked_at[how]]), number = 0;
		if (!look(far, how, before, fd, &number))
			atomic_fetch_add(&shared->errors[how], 1);
		else if (number < before)
			atomic_fetch_add(&shared->stale[how], 1);
		else
			atomic_fetch_add(&shared->answers[how], 1);
	}
}

/* ---- */

static void prepare(const char *near)
{
	uint64_t zero = 0;
	int fd = open(path_of(near, "bytes", 0), O_WRONLY | O_CREAT, 0644);

	if (fd < 0 || write(fd, &zero, sizeof(zero)) != sizeof(zero) || close(fd) < 0 ||
	    mknod(path_of(near, "size", 0), S_IFREG | 0644, 0) < 0)
		fail("make the files");
}

static void tell(void)
{
	unsigned long long done = atomic_load(&shared->done[0]), answers = UINT64_MAX, errors = 0, stale = 0;

	for (int i = 1; i < THINGS; i++)
		if (atomic_load(&shared->done[i]) < done)
			done = atomic_load(&shared->done[i]);
	for (int i = 0; i < LOOKS; i++) {
		if (atomic_load(&shared->answers[i]) < answers)
			answers = atomic_load(&shared->answers[i]);
		errors += atomic_load(&shared->errors[i]);
		stale += atomic_load(&shared->stale[i]);
	}
	printf("done %llu answers %llu errors %llu stale %llu\n", done, answers, errors, stale);
	fflush(stdout);
}

static pid_t start(void (*body)(const char *, int), const char *mount, int what)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid == 0)
		body(mount, what);
	return pid;
}

static void be_changer(const char *mount, int what)
{
	changer(mount, (enum thing)what);
}

static void be_looker(const char *mount, int what)
{
	looker(mount, (enum look)what);
}

int main(int argc, char **argv)
{
	pid_t pids[THINGS + LOOKS];
	char line[80];
	int n = 0;

	if (argc != 3) {
		fprintf(stderr, "usage: fence_probe NEAR FAR\n");
		return 2;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		fail("mmap");
	prepare(argv[1]);
	for (int i = 0; i < THINGS; i++)
		pids[n++] = start(be_changer, argv[1], i);
	for (int i = 0; i < LOOKS; i++)
		pids[n++] = start(be_looker, argv[2], i);
	while (fgets(line, sizeof(line), stdin) && strcmp(line, "end\n") != 0) {
		if (waitpid(-1, NULL, WNOHANG) > 0)
			return 1; /* one of them has said why */
		tell();
	}
	while (n > 0)
		kill(pids[--n], SIGKILL);
	return 0;
}
