/* seccomp_exec NUMBERS PROGRAM [ARG...]: runs a program that may make only the system calls whose
 * numbers stand in the file; any other one kills it (SIGSYS), so that a filter which is too narrow
 * cannot be overlooked. */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { FILTER_MAX = 2000 };

static struct sock_filter filter[FILTER_MAX];
static unsigned short n;

static void add(struct sock_filter f)
{
	if (n < FILTER_MAX)
		filter[n++] = f;
}

int main(int argc, char **argv)
{
	struct sock_fprog program = {.filter = filter};
	FILE *numbers = argc > 2 ? fopen(argv[1], "re") : NULL;
	unsigned number, allowed = 0;

	if (!numbers)
		return 125;
	add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
					 offsetof(struct seccomp_data, nr)));
	for (; fscanf(numbers, "%u", &number) == 1; allowed++) {
		add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
		add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	}
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
	program.len = n;
	if (allowed == 0 || n == FILTER_MAX || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return 125;
	execv(argv[2], argv + 2);
	return 126;
}
