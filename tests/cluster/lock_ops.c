/* Locks, for test_locks.sh.
 *
 *     lock_ops hold FILE WAYS...   takes locks one after the other, prints "locked" or the errno's
 *                                  name for each, and keeps them until SIGTERM
 *     lock_ops try FILE WAYS...    the same, and ends at once
 *     lock_ops get FILE FIRST LENGTH   what F_GETLK tells: TYPE FIRST LENGTH PID, or u
 *     lock_ops compare A B LOCAL SEED ROUNDS
 *                                  the same random locks of four processes on a file of two
 *                                  mounts (A and B) and on a local one: the same answers
 *
 * A way: KIND:TYPE[:FIRST:LENGTH], KIND one of fcntl, fcntlw, ofd, ofdw, flock, flockw (w: waits),
 * TYPE r, w or u; close: another descriptor of the file is opened and closed; pause: until SIGUSR2;
 * SIGUSR1 interrupts. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 4, SPAN = 40 };

static void say(const char *what)
{
	printf("%s\n", what);
	fflush(stdout);
}

static void wait_for_signal(int wanted)
{
	sigset_t set;
	int got;

	sigemptyset(&set);
	sigaddset(&set, wanted);
	while (sigwait(&set, &got) != 0)
		;
}

static int one(int fd, const char *file, const char *way)
{
	char kind[16] = "", type = 'u';
	long long first = 0, length = 0;
	struct flock lock = {.l_whence = SEEK_SET};
	bool wait;

	if (strcmp(way, "pause") == 0) {
		wait_for_signal(SIGUSR2);
		return 0;
	}
	if (strcmp(way, "close") == 0)
		return close(open(file, O_RDONLY));
	sscanf(way, "%15[^:]:%c:%lld:%lld", kind, &type, &first, &length);
	wait = kind[strlen(kind) - 1] == 'w';
	if (strncmp(kind, "flock", 5) == 0)
		return flock(fd, (type == 'w' ? LOCK_EX : type == 'r' ? LOCK_SH : LOCK_UN) |
					 (wait ? 0 : LOCK_NB));
	lock.l_type = type == 'w' ? F_WRLCK : type == 'r' ? F_RDLCK : F_UNLCK;
	lock.l_start = first;
	lock.l_len = length;
	if (strncmp(kind, "ofd", 3) == 0)
		return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock);
	return fcntl(fd, wait ? F_SETLKW : F_SETLK, &lock);
}

static void on_alarm(int number)
{
}

static int hold(int argc, char **argv, bool keep)
{
	sigset_t blocked;
	struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART: it interrupts */
	int fd = open(argv[0], O_RDWR | O_CREAT, 0666);

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	sigaction(SIGUSR1, &action, NULL);
	if (fd < 0) {
		say(strerrorname_np(errno));
		return 1;
	}
	for (int i = 1; i < argc; i++)
		say(one(fd, argv[0], argv[i]) < 0 ? strerrorname_np(errno) : "locked");
	if (keep)
		wait_for_signal(SIGTERM);
	return 0;
}

static int get(const char *file, long long first, long long length)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first,
			     .l_len = length};
	int fd = open(file, O_RDWR);

	if (fcntl(fd, F_GETLK, &lock) < 0)
		say(strerrorname_np(errno));
	else if (lock.l_type == F_UNLCK)
		say("u");
	else
		printf("%c %lld %lld %d\n", lock.l_type == F_WRLCK ? 'w' : 'r',
		       (long long)lock.l_start, (long long)lock.l_len, (int)lock.l_pid);
	return 0;
}

/* ---- comparing ---- */

struct order {
	int kind, type; /* kind 0 fcntl, 1 flock, 2 F_GETLK, 3 open and close, 4 OFD */
	long start, len;
};
struct answer {
	int code, locked;
};

static struct answer obey(int fd, const char *file, const struct order *o)
{
	static const short types[] = {F_UNLCK, F_RDLCK, F_WRLCK};
	static const int flocks[] = {LOCK_UN, LOCK_SH, LOCK_EX};
	struct flock lock = {.l_type = types[o->type], .l_whence = SEEK_SET, .l_start = o->start,
			     .l_len = o->len};
	struct answer a = {0};
	int r;

	switch (o->kind) {
	case 1: r = flock(fd, flocks[o->type] | LOCK_NB); break;
	case 2: r = fcntl(fd, F_GETLK, &lock); break;
	case 3: r = close(open(file, O_RDWR)); break;
	case 4: r = fcntl(fd, F_OFD_SETLK, &lock); break;
	default: r = fcntl(fd, F_SETLK, &lock);
	}
	a.code = r < 0 ? errno : 0;
	/* Which of several is told is not defined: only whether there is one. */
	if (r == 0 && o->kind == 2)
		a.locked = lock.l_type != F_UNLCK;
	return a;
}

static void serve(int channel, const char *file)
{
	int fd = open(file, O_RDWR | O_CREAT, 0666);
	struct order o;

	while (fd >= 0 && read(channel, &o, sizeof(o)) == sizeof(o)) {
		struct answer a = obey(fd, file, &o);
		if (write(channel, &a, sizeof(a)) != sizeof(a))
			break;
	}
	_exit(0);
}

static int start(const char *file)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		exit(2);
	if (fork() == 0) {
		close(pair[0]);
		serve(pair[1], file);
	}
	close(pair[1]);
	return pair[0];
}

static struct answer ask(int channel, const struct order *o)
{
	struct answer a = {.code = -1};

	if (write(channel, o, sizeof(*o)) != sizeof(*o) ||
	    read(channel, &a, sizeof(a)) != sizeof(a))
		fprintf(stderr, "a process has ended\n");
	return a;
}

static unsigned random_below(unsigned long *seed, unsigned n)
{
	*seed = *seed * 6364136223846793005UL + 1442695040888963407UL;
	return (unsigned)(*seed >> 33) % n;
}

static int compare(const char *a, const char *b, const char *local, unsigned long seed, int rounds)
{
	int there[PROCESSES], here[PROCESSES], different = 0;

	for (int i = 0; i < PROCESSES; i++) {
		there[i] = start(i % 2 ? b : a);
		here[i] = start(local);
	}
	for (int n = 0; n < rounds && !different; n++) {
		unsigned who = random_below(&seed, PROCESSES), what = random_below(&seed, 40);
		struct order o = {.kind = what < 20 ? 0 : what < 28 ? 1 : what < 34 ? 2 :
					  what < 35 ? 3 : 4,
				  .type = (int)random_below(&seed, 3),
				  .start = random_below(&seed, SPAN),
				  .len = random_below(&seed, SPAN)};
		if (o.kind == 2 && o.type == 0)
			o.type = 1;
		struct answer x = ask(there[who], &o), y = ask(here[who], &o);
		different = x.code != y.code || x.locked != y.locked;
		if (different)
			printf("round %d: process %u kind %d type %d %ld+%ld: here errno %d locked "
			       "%d, there errno %d locked %d\n", n, who, o.kind, o.type, o.start,
			       o.len,
			       y.code, y.locked, x.code, x.locked);
	}
	for (int i = 0; i < PROCESSES; i++) {
		close(there[i]);
		close(here[i]);
	}
	while (wait(NULL) > 0)
		;
	return different;
}

int main(int argc, char **argv)
{
	if (argc > 3 && (strcmp(argv[1], "hold") == 0 || strcmp(argv[1], "try") == 0))
		return hold(argc - 2, argv + 2, argv[1][0] == 'h');
	if (argc == 7 && strcmp(argv[1], "compare") == 0)
		return compare(argv[2], argv[3], argv[4], strtoul(argv[5], NULL, 10),
			       atoi(argv[6]));
	if (argc == 5 && strcmp(argv[1], "get") == 0)
		return get(argv[2], atoll(argv[3]), atoll(argv[4]));
	return 2;
}
