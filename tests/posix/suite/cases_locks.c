/* Locks: fcntl, OFD and flock; each kind against each, ranges, blocking, deadlock, release. */
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/posix/suite/suite.h"

enum kind { POSIX_LOCK, OFD_LOCK };

static long lock(int fd, enum kind kind, int type, long start, long length, bool wait)
{
	struct flock l = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

	if (kind == OFD_LOCK)
		return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &l);
	return fcntl(fd, wait ? F_SETLKW : F_SETLK, &l);
}

static int open_file(void)
{
	return (int)want(0, open("f", O_RDWR | O_CREAT, 0644));
}

/* In another process: whether it gets a lock of that type on the range at once. */
struct probe {
	enum kind kind;
	int type;
	long start, length;
	int eno;
};

static void probe_child(const struct args *x)
{
	const struct probe *p = x->p;

	int fd = open_file();

	want(p->eno, lock(fd, p->kind, p->type, p->start, p->length, false));
	/* Not left to the end of the process, which may be seen a moment later. */
	if (p->eno == 0)
		want(0, lock(fd, p->kind, F_UNLCK, p->start, p->length, false));
}

static void probe(enum kind kind, int type, long start, long length, int eno)
{
	const struct probe p = {kind, type, start, length, eno};

	in_child(probe_child, &(struct args){.p = &p});
}

/* a: kind and type held, b: asked for; ranges as the names say. */
static void conflict(const struct args *x)
{
	static const struct { long start, length; bool overlaps; } ranges[] = {
		{0, 10, true}, {5, 1, true}, {9, 5, true}, {10, 5, false}, {0, 0, true}, {10, 0, false},
	};
	int held = x->b & 1 ? F_WRLCK : F_RDLCK, asked = x->b & 2 ? F_WRLCK : F_RDLCK;
	enum kind mine = x->a & 1 ? OFD_LOCK : POSIX_LOCK, other = x->a & 2 ? OFD_LOCK : POSIX_LOCK;
	bool shared = held == F_RDLCK && asked == F_RDLCK;
	int fd = open_file();

	want(0, lock(fd, mine, held, 0, 10, false));
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
		probe(other, asked, ranges[i].start, ranges[i].length,
		      ranges[i].overlaps && !shared ? EAGAIN : 0);
	want(0, lock(fd, mine, F_UNLCK, 0, 0, false));
	probe(other, asked, 0, 0, 0);
}

static void split_and_join(const struct args *x)
{
	enum kind kind = (enum kind)x->a;
	int fd = open_file();

	want(0, lock(fd, kind, F_WRLCK, 0, 100, false));
	want(0, lock(fd, kind, F_UNLCK, 40, 20, false));
	probe(kind, F_WRLCK, 39, 1, EAGAIN);
	probe(kind, F_WRLCK, 40, 20, 0);
	probe(kind, F_WRLCK, 60, 1, EAGAIN);
	want(0, lock(fd, kind, F_WRLCK, 40, 20, false));
	probe(kind, F_WRLCK, 45, 1, EAGAIN);
	want(0, lock(fd, kind, F_RDLCK, 10, 80, false)); /* weaker in the middle */
	probe(kind, F_RDLCK, 10, 80, 0);
	probe(kind, F_RDLCK, 5, 2, EAGAIN);
	probe(kind, F_RDLCK, 90, 2, EAGAIN);
}

static void get_lock(const struct args *x)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 50};

	want(0, fcntl(open_file(), F_GETLK, &l));
	same(l.l_type, x->a == F_UNLCK ? F_UNLCK : x->a);
	if (x->a != F_UNLCK) {
		same(l.l_start, 5);
		same(l.l_len, 10);
		same(l.l_pid, x->b);
	}
}

static void get_lock_of(const struct args *x)
{
	int fd = open_file();

	if (x->a != F_UNLCK)
		want(0, lock(fd, POSIX_LOCK, (int)x->a, 5, 10, false));
	in_child(get_lock, &(struct args){.a = x->a, .b = getpid()});
}

static void own_locks_do_not_conflict(const struct args *x)
{
	int one = open_file(), two = open_file();

	want(0, lock(one, POSIX_LOCK, F_WRLCK, 0, 10, false));
	want(0, lock(two, POSIX_LOCK, F_WRLCK, 0, 10, false));
	probe(POSIX_LOCK, F_RDLCK, 0, 1, EAGAIN);
	close(two); /* any close of the file drops the process's locks */
	probe(POSIX_LOCK, F_WRLCK, 0, 10, 0);
}

static void ofd_belong_to_opens(const struct args *x)
{
	int one = open_file(), two = open_file(), copy = (int)want(0, dup(one));

	want(0, lock(one, OFD_LOCK, F_WRLCK, 0, 10, false));
	want(EAGAIN, lock(two, OFD_LOCK, F_WRLCK, 0, 10, false));
	want(0, lock(copy, OFD_LOCK, F_WRLCK, 0, 10, false));
	close(one);
	want(EAGAIN, lock(two, OFD_LOCK, F_WRLCK, 0, 10, false));
	close(copy);
	want(0, lock(two, OFD_LOCK, F_WRLCK, 0, 10, true));
}

static void inherited_child(const struct args *x)
{
	want(EAGAIN, lock((int)x->a, POSIX_LOCK, F_RDLCK, 0, 1, false));
}

static void not_inherited(const struct args *x)
{
	int fd = open_file();

	want(0, lock(fd, POSIX_LOCK, F_WRLCK, 0, 10, false));
	in_child(inherited_child, &(struct args){.a = fd});
	/* The child's end drops none of ours. */
	probe(POSIX_LOCK, F_WRLCK, 0, 10, EAGAIN);
}

static void mode_needed(const struct args *x)
{
	int r, w;

	make(T_REG, "f");
	r = (int)want(0, open("f", O_RDONLY));
	w = (int)want(0, open("f", O_WRONLY));
	want(EBADF, lock(r, (enum kind)x->a, F_WRLCK, 0, 1, false));
	want(EBADF, lock(w, (enum kind)x->a, F_RDLCK, 0, 1, false));
	want(0, lock(r, (enum kind)x->a, F_RDLCK, 0, 1, false));
	want(0, lock(w, (enum kind)x->a, F_WRLCK, 5, 1, false));
	want(EINVAL, lock(w, (enum kind)x->a, F_WRLCK, -5, 1, false));
	want(EINVAL, lock(w, (enum kind)x->a, 77, 0, 1, false));
}

/* ---- blocking ---- */


/* A child that holds a lock until told (fd) and one that waits for it. */
static void wait_for_lock(const struct args *x)
{
	bool by_flock = x->a == 2;
	int fd = open_file(), done[2];
	char byte = 0;
	pid_t pid;

	want(0, pipe(done));
	if (by_flock)
		want(0, flock(fd, LOCK_EX));
	else
		want(0, lock(fd, (enum kind)x->a, F_WRLCK, 0, 10, false));
	pid = fork();
	if (pid == 0) {
		int mine = open_file();
		if (by_flock)
			want(0, flock(mine, x->b ? LOCK_SH : LOCK_EX));
		else
			want(0, lock(mine, (enum kind)x->a, x->b ? F_RDLCK : F_WRLCK, 5, 1, true));
		want(0, write(done[1], "d", 1));
		_exit(0);
	}
	want(0, fcntl(done[0], F_SETFL, O_NONBLOCK));
	for (int i = 0; i < 10; i++) {
		tick();
		want(EAGAIN, read(done[0], &byte, 1));
	}
	if (by_flock)
		want(0, flock(fd, LOCK_UN));
	else
		want(0, lock(fd, (enum kind)x->a, F_UNLCK, 0, 0, false));
	wait_for_child(pid);
	same(want(0, read(done[0], &byte, 1)), 1);
}

static void on_alarm(int n)
{
}

static void interrupt_child(const struct args *x)
{
	struct sigaction action = {.sa_handler = on_alarm}; /* without SA_RESTART */
	const struct timespec second = {.tv_nsec = 200000000};
	const struct itimerspec once = {.it_value = second};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	timer_t timer;
	int fd = open_file();

	sigaction(SIGUSR1, &action, NULL);
	want(0, timer_create(CLOCK_MONOTONIC, &event, &timer));
	want(0, timer_settime(timer, 0, &once, NULL));
	if (x->a == 2)
		want(EINTR, flock(fd, LOCK_EX));
	else
		want(EINTR, lock(fd, (enum kind)x->a, F_WRLCK, 0, 1, true));
}

static void interrupted(const struct args *x)
{
	int fd = open_file();

	if (x->a == 2)
		want(0, flock(fd, LOCK_EX));
	else
		want(0, lock(fd, (enum kind)x->a, F_WRLCK, 0, 10, false));
	in_child(interrupt_child, x);
	/* Nothing of the one who gave up is left in the way. */
	if (x->a == 2) {
		want(0, flock(fd, LOCK_UN));
		want(0, flock(open_file(), LOCK_EX | LOCK_NB));
	} else {
		want(0, lock(fd, (enum kind)x->a, F_UNLCK, 0, 0, false));
		probe((enum kind)x->a, F_WRLCK, 0, 10, 0);
	}
}

/* Two processes, each holding what the other asks for: one of them gets EDEADLK. */
static void deadlock(const struct args *x)
{
	int fd = open_file(), up[2];
	char byte;
	pid_t pid;
	long r;

	want(0, pipe(up));
	want(0, lock(fd, POSIX_LOCK, F_WRLCK, 0, 1, false));
	pid = fork();
	if (pid == 0) {
		want(0, lock(fd, POSIX_LOCK, F_WRLCK, 1, 1, false));
		want(0, write(up[1], "h", 1));
		r = lock(fd, POSIX_LOCK, F_WRLCK, 0, 1, true);
		that(r == 0 || errno == EDEADLK);
		_exit(r == 0 ? 0 : 3);
	}
	same(want(0, read(up[0], &byte, 1)), 1);
	r = lock(fd, POSIX_LOCK, F_WRLCK, 1, 1, true);
	if (r == 0) {
		int status;
		want(0, waitpid(pid, &status, 0));
		same(WEXITSTATUS(status), 3);
	} else {
		same(errno, EDEADLK);
		want(0, lock(fd, POSIX_LOCK, F_UNLCK, 0, 0, false));
		wait_for_child(pid);
	}
}

static void death_child(const struct args *x)
{
	int fd = open_file();

	if (x->a == 2)
		want(0, flock(fd, LOCK_EX));
	else
		want(0, lock(fd, (enum kind)x->a, F_WRLCK, 0, 0, false));
	raise(SIGKILL);
}

static void released_by_death(const struct args *x)
{
	int status, fd = open_file();
	pid_t pid = fork();

	if (pid == 0)
		death_child(x);
	want(0, waitpid(pid, &status, 0));
	same(WTERMSIG(status), SIGKILL);
	if (x->a == 2)
		want(0, flock(fd, LOCK_EX));
	else
		want(0, lock(fd, (enum kind)x->a, F_WRLCK, 0, 0, true));
}

/* ---- flock ---- */

static void flock_probe(const struct args *x)
{
	int fd = open_file();

	want((int)x->b, flock(fd, (int)x->a | LOCK_NB));
	if (x->b == 0)
		want(0, flock(fd, LOCK_UN));
}

static void flock_matrix(const struct args *x)
{
	int held = x->a ? LOCK_EX : LOCK_SH, asked = x->b ? LOCK_EX : LOCK_SH;
	int fd = open_file();

	want(0, flock(fd, held));
	in_child(flock_probe, &(struct args){.a = asked, .b = held == LOCK_SH && asked == LOCK_SH
									? 0 : EWOULDBLOCK});
	want(held == LOCK_SH && asked == LOCK_SH ? 0 : EWOULDBLOCK, flock(open_file(), asked | LOCK_NB));
	want(0, flock(fd, LOCK_UN));
	in_child(flock_probe, &(struct args){.a = LOCK_SH});
}

static void flock_converted(const struct args *x)
{
	int one = open_file(), two = open_file();

	want(0, flock(one, LOCK_EX));
	want(0, flock(one, LOCK_SH));
	want(0, flock(two, LOCK_SH | LOCK_NB));
	want(EWOULDBLOCK, flock(one, LOCK_EX | LOCK_NB));
	want(0, flock(two, LOCK_UN));
	want(0, flock(one, LOCK_EX | LOCK_NB));
}

static void flock_of_copies(const struct args *x)
{
	int one = open_file(), copy = (int)want(0, dup(one));

	want(0, flock(one, LOCK_EX));
	want(0, flock(copy, LOCK_EX | LOCK_NB));
	close(one);
	in_child(flock_probe, &(struct args){.a = LOCK_EX, .b = EWOULDBLOCK});
	close(copy);
	want(0, flock(open_file(), LOCK_EX)); /* waits, if it must, for the close to be told */
}

static void flock_and_fcntl(const struct args *x)
{
	int fd = open_file();

	want(0, flock(fd, LOCK_EX));
	probe(POSIX_LOCK, F_WRLCK, 0, 0, 0); /* they do not see each other */
}

static void flock_read_only(const struct args *x)
{
	int fd;

	make(T_REG, "f");
	fd = (int)want(0, open("f", O_RDONLY));
	want(0, flock(fd, LOCK_EX));
}

static void big_ranges(const struct args *x)
{
	int fd = open_file();

	want(0, lock(fd, POSIX_LOCK, F_WRLCK, LONG_MAX - 1, 1, false));
	want(0, lock(fd, POSIX_LOCK, F_WRLCK, 1L << 40, 1, false));
	probe(POSIX_LOCK, F_WRLCK, 0, 1L << 40, 0);
	probe(POSIX_LOCK, F_WRLCK, 0, (1L << 40) + 1, EAGAIN);
	probe(POSIX_LOCK, F_WRLCK, 0, 0, EAGAIN);
	want(EOVERFLOW, lock(fd, POSIX_LOCK, F_WRLCK, LONG_MAX, 2, false));
}

void suite_add_locks(void)
{
	static const struct args none;
	static const char *const kinds[] = {"fcntl", "ofd", "flock"};

	for (int pair = 0; pair < 4; pair++)
		for (int types = 0; types < 4; types++)
			suite_add(conflict, (struct args){.a = pair, .b = types},
				  "lock/%s_%s_against_%s_%s", types & 1 ? "write" : "read",
				  kinds[pair & 1], types & 2 ? "write" : "read", kinds[pair >> 1]);
	for (long k = 0; k < 3; k++) {
		suite_add(wait_for_lock, (struct args){.a = k}, "lock/%s_waits", kinds[k]);
		suite_add(wait_for_lock, (struct args){.a = k, .b = 1}, "lock/%s_waits_shared", kinds[k]);
		suite_add(interrupted, (struct args){.a = k}, "lock/%s_interrupted", kinds[k]);
		suite_add(released_by_death, (struct args){.a = k}, "lock/%s_released_by_death",
			  kinds[k]);
		if (k == 2)
			continue;
		suite_add(split_and_join, (struct args){.a = k}, "lock/%s_split_and_join", kinds[k]);
		suite_add(mode_needed, (struct args){.a = k}, "lock/%s_mode_needed", kinds[k]);
	}
	suite_add(get_lock_of, (struct args){.a = F_UNLCK}, "lock/getlk_free");
	suite_add(get_lock_of, (struct args){.a = F_RDLCK}, "lock/getlk_read");
	suite_add(get_lock_of, (struct args){.a = F_WRLCK}, "lock/getlk_write");
	suite_add(own_locks_do_not_conflict, none, "lock/fcntl_own");
	suite_add(ofd_belong_to_opens, none, "lock/ofd_of_opens");
	suite_add(not_inherited, none, "lock/fcntl_not_inherited");
	suite_add(deadlock, none, "lock/deadlock");
	for (int m = 0; m < 4; m++)
		suite_add(flock_matrix, (struct args){.a = m & 1, .b = m >> 1}, "flock/%s_against_%s",
			  m & 1 ? "exclusive" : "shared", m >> 1 ? "exclusive" : "shared");
	suite_add(flock_converted, none, "flock/converted");
	suite_add(flock_of_copies, none, "flock/of_copies");
	suite_add(flock_and_fcntl, none, "flock/and_fcntl");
	suite_add(flock_read_only, none, "flock/read_only");
	suite_add(big_ranges, none, "lock/big_ranges");
}
