/* posix_differ [--seed N] [--ops K] [--seeds M] [--minimise] MOUNT MOUNT LOCAL
 *
 * Runs M sequences of K operations from seeds N, N+1, ... on two mounts of one file system
 * (operations alternate at random; twice the same for one mount) and on a local directory, and
 * compares what each operation said, and every 40 operations and at the end both whole trees. */
#include "tests/posix/differ/differ.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OPS_MAX = 100000, INODES_MAX = 4096, COMPARE_EVERY = 40, LIMIT_S = 240 };

struct outcome {
	int failed_at; /* -1: all alike */
	char text[3 * TEXT_BYTES];
};

static const char *roots[3];
static struct outcome *outcome; /* shared with the child that runs */

static void __attribute__((noreturn)) differ_at(int i)
{
	outcome->failed_at = i;
	_exit(0);
}

/* ---- whole trees ---- */

static struct {
	ino_t a, b;
} inodes[INODES_MAX];
static int n_inodes;

static int entry_filter(const struct dirent *e)
{
	return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static bool same_links(ino_t a, ino_t b)
{
	for (int i = 0; i < n_inodes; i++)
		if ((inodes[i].a == a) != (inodes[i].b == b))
			return false;
	if (n_inodes < INODES_MAX) {
		inodes[n_inodes].a = a;
		inodes[n_inodes++].b = b;
	}
	return true;
}

static bool same_bytes(const char *a, const char *b)
{
	static char x[65536], y[65536];
	int fa = open(a, O_RDONLY), fb = open(b, O_RDONLY);
	long n = 1, m;
	bool same = fa >= 0 && fb >= 0;

	while (same && n > 0) {
		n = read(fa, x, sizeof(x));
		m = read(fb, y, sizeof(y));
		same = n == m && (n <= 0 || memcmp(x, y, (size_t)n) == 0);
	}
	if (fa >= 0)
		close(fa);
	if (fb >= 0)
		close(fb);
	return same && n == 0;
}

static bool same_tree(const char *a, const char *b);

static bool same_object(const char *a, const char *b)
{
	struct stat x, y;

	if (lstat(a, &x) < 0 || lstat(b, &y) < 0 || x.st_mode != y.st_mode || x.st_uid != y.st_uid ||
	    x.st_gid != y.st_gid || x.st_nlink != y.st_nlink ||
	    (!S_ISDIR(x.st_mode) && x.st_size != y.st_size) || !same_links(x.st_ino, y.st_ino)) {
		snprintf(outcome->text, sizeof(outcome->text),
			 "tree: %s: mode %o size %ld nlink %lu uid %u, expected %o %ld %lu %u", a,
			 x.st_mode, (long)x.st_size, (unsigned long)x.st_nlink, x.st_uid, y.st_mode,
			 (long)y.st_size, (unsigned long)y.st_nlink, y.st_uid);
		return false;
	}
	if (S_ISREG(x.st_mode) && !same_bytes(a, b)) {
		snprintf(outcome->text, sizeof(outcome->text), "tree: %s: other bytes", a);
		return false;
	}
	return !S_ISDIR(x.st_mode) || same_tree(a, b);
}

static bool same_tree(const char *a, const char *b)
{
	struct dirent **x = NULL, **y = NULL;
	int n = scandir(a, &x, entry_filter, alphasort), m = scandir(b, &y, entry_filter, alphasort);
	char p[PATH_BYTES], q[PATH_BYTES];
	bool same = n == m;

	for (int i = 0; same && i < n; i++) {
		same = strcmp(x[i]->d_name, y[i]->d_name) == 0;
		snprintf(p, sizeof(p), "%s/%s", a, x[i]->d_name);
		snprintf(q, sizeof(q), "%s/%s", b, y[i]->d_name);
		if (same && !same_object(p, q))
			return false;
	}
	if (!same)
		snprintf(outcome->text, sizeof(outcome->text), "tree: %s: other names", a);
	for (int i = 0; i < n; i++)
		free(x[i]);
	for (int i = 0; i < m; i++)
		free(y[i]);
	free(x);
	free(y);
	return same;
}

static bool same_trees(char places[3][PATH_BYTES])
{
	for (int m = 0; m < 2; m++) {
		n_inodes = 0;
		if (!same_tree(places[m], places[2]))
			return false;
	}
	return true;
}

/* ---- one sequence ---- */

static void __attribute__((noreturn)) run_child(const struct op *ops, int n, bool loud,
						char places[3][PATH_BYTES])
{
	static char got[TEXT_BYTES], expected[TEXT_BYTES], what[TEXT_BYTES];
	struct side cairn = {.roots = {places[0], places[1]}};
	struct side local = {.roots = {places[2], places[2]}};

	signal(SIGPIPE, SIG_IGN);
	alarm(LIMIT_S);
	umask(0);
	for (int i = 0; i < SLOTS; i++)
		cairn.slots[i] = local.slots[i] = -1;
	outcome->failed_at = -1;
	for (int i = 0; i < n; i++) {
		outcome->failed_at = i; /* should it hang */
		if (op_is_known(&local, &ops[i]))
			continue;
		op_run(&cairn, &ops[i], got, sizeof(got));
		op_run(&local, &ops[i], expected, sizeof(expected));
		op_to_text(&ops[i], what, sizeof(what));
		if (loud)
			printf("# %d %s: %s\n", i, what, expected);
		if (strcmp(got, expected) != 0) {
			snprintf(outcome->text, sizeof(outcome->text), "%.600s: got \"%.1000s\", "
				 "expected \"%.1000s\"", what, got, expected);
			differ_at(i);
		}
		if ((i % COMPARE_EVERY == COMPARE_EVERY - 1 || i == n - 1) && !same_trees(places))
			differ_at(i);
	}
	differ_at(-1);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

/* Returns the index of the first operation that differs, -1 for none. */
static int run(const struct op *ops, int n, bool loud)
{
	static int count;
	char places[3][PATH_BYTES];
	int status = 0;
	pid_t pid;

	count++;
	for (int i = 0; i < 3; i++)
		snprintf(places[i], PATH_BYTES, "%s/differ-%d-%d", roots[i], (int)getpid(), count);
	if (mkdir(places[0], 0777) < 0 || mkdir(places[2], 0777) < 0 ||
	    chmod(places[0], 0777) < 0 || chmod(places[2], 0777) < 0) {
		perror("posix_differ");
		exit(2);
	}
	outcome->text[0] = '\0';
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		run_child(ops, n, loud, places);
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		exit(2);
	if (status != 0)
		snprintf(outcome->text, sizeof(outcome->text), "operation %d: ended with status %x",
			 outcome->failed_at, (unsigned)status);
	nftw(places[0], remove_one, 20, FTW_DEPTH | FTW_PHYS);
	nftw(places[2], remove_one, 20, FTW_DEPTH | FTW_PHYS);
	return outcome->failed_at;
}

/* Takes pieces out, halves first, for as long as the rest still differs somewhere. */
static int minimise(struct op *ops, int n)
{
	struct op *less = malloc((size_t)n * sizeof(*less));

	if (!less)
		exit(2);
	for (int piece = n / 2; piece > 0; piece /= 2)
		for (int from = n - piece; from >= 0; from -= piece) {
			int m = n - piece, at;

			memcpy(less, ops, (size_t)from * sizeof(*ops));
			memcpy(less + from, ops + from + piece,
			       (size_t)(n - from - piece) * sizeof(*ops));
			at = run(less, m, false);
			if (at < 0)
				continue;
			n = at + 1;
			memcpy(ops, less, (size_t)n * sizeof(*ops));
			if (from > n)
				from = n;
		}
	free(less);
	return n;
}

static int run_seed(uint64_t seed, int n, bool smaller)
{
	struct op *ops = calloc((size_t)n, sizeof(*ops));
	int at;

	if (!ops)
		exit(2);
	ops_draw(seed, ops, n);
	at = run(ops, n, false);
	if (at < 0) {
		printf("ok seed %llu, %d operations\n", (unsigned long long)seed, n);
	} else {
		printf("not ok seed %llu: operation %d: %s\n", (unsigned long long)seed, at,
		       outcome->text);
		if (smaller) {
			n = minimise(ops, at + 1);
			run(ops, n, true);
			printf("# %d operations are left: %s\n", n, outcome->text);
		}
	}
	free(ops);
	return at >= 0;
}

int main(int argc, char **argv)
{
	unsigned long long seed = 1;
	int n = 400, seeds = 1, n_roots = 0, failed = 0;
	bool smaller = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--ops") == 0 && i + 1 < argc)
			n = atoi(argv[++i]);
		else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
			seeds = atoi(argv[++i]);
		else if (strcmp(argv[i], "--minimise") == 0)
			smaller = true;
		else if (n_roots < 3)
			roots[n_roots++] = argv[i];
	}
	if (n_roots != 3 || n < 1 || n > OPS_MAX || geteuid() != 0) {
		fprintf(stderr, "usage: posix_differ [--seed N] [--ops K] [--seeds M] [--minimise] "
				"MOUNT MOUNT LOCAL (as root)\n");
		return 2;
	}
	outcome = mmap(NULL, sizeof(*outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		       0);
	if (outcome == MAP_FAILED)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; i < seeds; i++)
		failed += run_seed(seed + (unsigned)i, n, smaller);
	return failed > 0;
}
