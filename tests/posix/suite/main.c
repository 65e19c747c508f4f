/* posix_suite DIR [--only PATTERN] [--list] [--jobs N] [--known FILE]... [--strict]: runs the
 * cases in DIR.
 *
 * "ok NAME" or "not ok NAME: what"; a case named in a --known file (name, then the reason) may
 * fail, and is told as "known". With --strict it has to: so the long form keeps the lists true.
 * The last line counts; the exit status is 1 when anything failed. */
#include <fnmatch.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/posix/suite/suite.h"

enum { CASES_MAX = 8192, JOBS_MAX = 16, KNOWN_MAX = 1024, LIMIT_S = 60, TEXT_BYTES = 1000 };

struct suite_case {
	char *name;
	case_fn fn;
	struct args args;
};

struct job {
	pid_t pid;
	int index;
	time_t end;
	char dir[40];
	char *text; /* shared with the child: why it failed */
};

static struct suite_case cases[CASES_MAX];
static int n_cases;
static struct {
	char *name, *reason;
} known[KNOWN_MAX];
static int n_known;
static bool strict;
static char *failure_text; /* in a child */
static struct {
	int ok, failed, known;
} count;

void suite_add(case_fn fn, struct args x, const char *format, ...)
{
	char name[200];
	va_list list;

	va_start(list, format);
	vsnprintf(name, sizeof(name), format, list);
	va_end(list);
	if (n_cases == CASES_MAX)
		abort();
	cases[n_cases++] = (struct suite_case){strdup(name), fn, x};
}

void suite_fail(const char *file, int line, const char *format, ...)
{
	const char *base = strrchr(file, '/');
	va_list list;
	int n = snprintf(failure_text, TEXT_BYTES, "%s:%d: ", base ? base + 1 : file, line);

	va_start(list, format);
	vsnprintf(failure_text + n, TEXT_BYTES - (size_t)n, format, list);
	va_end(list);
	_exit(1);
}

/* ---- known failures ---- */

static int known_read(const char *path)
{
	FILE *f = fopen(path, "r");
	char line[500];

	if (!f) {
		fprintf(stderr, "posix_suite: %s: %s\n", path, strerror(errno));
		return -1;
	}
	while (fgets(line, sizeof(line), f)) {
		size_t n = strcspn(line, " \t\n");

		if (line[0] == '#' || n == 0)
			continue;
		if (n_known == KNOWN_MAX)
			abort();
		known[n_known].name = strndup(line, n);
		known[n_known].reason = strdup(line + n + strspn(line + n, " \t"));
		known[n_known].reason[strcspn(known[n_known].reason, "\n")] = '\0';
		n_known++;
	}
	fclose(f);
	return 0;
}

static const char *known_reason(const char *name)
{
	for (int i = 0; i < n_known; i++)
		if (strcmp(known[i].name, name) == 0)
			return known[i].reason;
	return NULL;
}

/* A name in a list that no case bears would hide nothing and say something untrue. */
static void known_check_names(void)
{
	for (int i = 0; i < n_known; i++) {
		int k = 0;

		while (k < n_cases && strcmp(cases[k].name, known[i].name) != 0)
			k++;
		if (k == n_cases) {
			printf("not ok %s: listed as known, but there is no such case\n",
			       known[i].name);
			count.failed++;
		}
	}
}

/* ---- running ---- */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void remove_tree(const char *path)
{
	nftw(path, remove_one, 20, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void __attribute__((noreturn)) case_child(const struct suite_case *c, const char *dir)
{
	const struct rlimit none = {0, 0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	setrlimit(RLIMIT_CORE, &none);
	alarm(LIMIT_S);
	umask(0);
	if (mkdir(dir, 0755) < 0 || chdir(dir) < 0)
		suite_fail(__FILE__, __LINE__, "cannot prepare %s: %s", dir, strerror(errno));
	c->fn(&c->args);
	_exit(0);
}

static void job_start(struct job *job, int index)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	job->index = index;
	job->end = now.tv_sec + 2 * LIMIT_S;
	snprintf(job->dir, sizeof(job->dir), "posix-%d-%d", (int)getpid(), index);
	job->text[0] = '\0';
	fflush(stdout);
	job->pid = fork();
	if (job->pid == 0) {
		failure_text = job->text;
		case_child(&cases[index], job->dir);
	}
	if (job->pid < 0) {
		perror("posix_suite: fork");
		exit(2);
	}
	setpgid(job->pid, job->pid);
}

static void job_report(struct job *job, int status)
{
	const char *name = cases[job->index].name, *reason = known_reason(name);
	bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;

	if (!ok && job->text[0] == '\0') {
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
			snprintf(job->text, TEXT_BYTES, "not done after %d s", LIMIT_S);
		else
			snprintf(job->text, TEXT_BYTES, "ended with %s %d",
				 WIFSIGNALED(status) ? "signal" : "status",
				 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	}
	if (ok && !reason) {
		count.ok++;
		printf("ok %s\n", name);
	} else if (ok && !strict) {
		count.ok++;
		printf("ok %s\n# %s passes and may be taken out of the list\n", name, name);
	} else if (ok) {
		count.failed++;
		printf("not ok %s: passes, but is listed as known: %s\n", name, reason);
	} else if (reason) {
		count.known++;
		printf("known %s: %s (%s)\n", name, job->text, reason);
	} else {
		count.failed++;
		printf("not ok %s: %s\n", name, job->text);
	}
}

static void job_finish(struct job *job, int status)
{
	kill(-job->pid, SIGKILL); /* what the case left behind */
	job_report(job, status);
	remove_tree(job->dir);
	job->pid = 0;
}

/* Waits until one job has ended; one that not even its alarm ends is killed. */
static void jobs_wait(struct job *jobs, int n_jobs)
{
	const struct timespec second = {.tv_sec = 1};
	struct timespec now;
	sigset_t child;
	int status;
	pid_t pid;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	while ((pid = waitpid(-1, &status, WNOHANG)) == 0) {
		sigtimedwait(&child, NULL, &second);
		clock_gettime(CLOCK_MONOTONIC, &now);
		for (int i = 0; i < n_jobs; i++)
			if (jobs[i].pid > 0 && now.tv_sec > jobs[i].end)
				kill(jobs[i].pid, SIGKILL);
	}
	for (int i = 0; i < n_jobs; i++)
		if (jobs[i].pid == pid)
			job_finish(&jobs[i], status);
}

static void run_all(const char *only, int n_jobs)
{
	struct job jobs[JOBS_MAX] = {0};
	char *text = mmap(NULL, JOBS_MAX * TEXT_BYTES, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int running = 0;

	if (text == MAP_FAILED)
		abort();
	for (int i = 0; i < n_cases; i++) {
		int k = 0;

		if (only && fnmatch(only, cases[i].name, 0) != 0)
			continue;
		while (running == n_jobs) {
			jobs_wait(jobs, n_jobs);
			running--;
		}
		while (jobs[k].pid > 0)
			k++;
		jobs[k].text = text + k * TEXT_BYTES;
		job_start(&jobs[k], i);
		running++;
	}
	for (; running > 0; running--)
		jobs_wait(jobs, n_jobs);
}

static void add_all(void)
{
	suite_add_paths();
	suite_add_types();
	suite_add_open();
	suite_add_rename();
	suite_add_attributes();
	suite_add_times();
	suite_add_permissions();
	suite_add_data();
	suite_add_space();
	suite_add_directories();
	suite_add_xattrs();
	suite_add_acls();
	suite_add_locks();
	suite_add_mmap();
	suite_add_unlinked();
}

int main(int argc, char **argv)
{
	const char *dir = NULL, *only = NULL;
	bool list = false;
	int n_jobs = 1;
	sigset_t child;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
			only = argv[++i];
		else if (strcmp(argv[i], "--jobs") == 0 && i + 1 < argc)
			n_jobs = atoi(argv[++i]);
		else if (strcmp(argv[i], "--known") == 0 && i + 1 < argc) {
			if (known_read(argv[++i]) < 0)
				return 2;
		} else if (strcmp(argv[i], "--strict") == 0)
			strict = true;
		else if (strcmp(argv[i], "--list") == 0)
			list = true;
		else
			dir = argv[i];
	}
	add_all();
	for (int i = 0; list && i < n_cases; i++)
		printf("%s\n", cases[i].name);
	if (list)
		return 0;
	if (!dir || n_jobs < 1 || n_jobs > JOBS_MAX || geteuid() != 0) {
		fprintf(stderr, "usage: posix_suite DIR [--only PATTERN] [--list] [--jobs N] "
				"[--known FILE]... [--strict] (as root)\n");
		return 2;
	}
	if (chdir(dir) < 0) {
		perror(dir);
		return 2;
	}
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	known_check_names();
	run_all(only, n_jobs);
	printf("# %d cases: %d passed, %d failed, %d known\n", count.ok + count.failed + count.known,
	       count.ok, count.failed, count.known);
	return count.failed > 0;
}
