/* One call on a file system that does not answer, and a signal that its caller handles.
 *
 *   signalled mkdir|write PATH GO
 *
 * Begins when somebody opens the fifo GO. A SIGALRM comes after 300 ms. Prints "ERRNO-NAME MS", with "ok" for a call that succeeded. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static void on_alarm(int signal_number)
{
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	struct sigaction act = {.sa_handler = on_alarm}; /* without SA_RESTART */
	struct itimerval soon = {.it_value.tv_usec = 300000};
	static char bytes[65536];
	int fd = -1, r, eno;
	int64_t begun;

	if (argc != 4)
		return 2;
	if (*argv[1] == 'w' && (fd = open(argv[2], O_RDWR)) < 0)
		return 2;
	printf("ready\n");
	fflush(stdout);
	if (open(argv[3], O_RDONLY) < 0) /* the file system is silent by then */
		return 2;
	sigaction(SIGALRM, &act, NULL);
	begun = now_ms();
	setitimer(ITIMER_REAL, &soon, NULL);
	r = *argv[1] == 'm' ? mkdir(argv[2], 0755) : (int)pwrite(fd, bytes, sizeof(bytes), 0);
	eno = errno;
	printf("%s %lld\n", r >= 0 ? "ok" : strerrorname_np(eno), (long long)(now_ms() - begun));
	return 0;
}
