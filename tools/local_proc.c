#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "tools/local.h"
#include "tools/text.h"

enum { LOG_TAIL_LINES = 12, LOG_TAIL_BYTES = 8192, POLL_MS = 50 };

extern char **environ;

/* ---- which process ---- */

static pid_t read_pid_file(const struct local *l, const struct local_part *p)
{
	_cleanup_free_ char *path = local_path(l, "run", p->name, ".pid");
	FILE *file = path ? fopen(path, "re") : NULL;
	int pid = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%d", &pid) != 1 || pid <= 1)
		pid = 0;
	fclose(file);
	return pid;
}

/* A zombie's command line is empty: so it does not count as running. */
static bool process_names(pid_t pid, const char *arg)
{
	char path[64];
	char *line = NULL;
	size_t room = 0;
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (!found && getdelim(&line, &room, '\0', file) > 0)
		found = strcmp(line, arg) == 0;
	free(line);
	fclose(file);
	return found;
}

/* A descriptor for the part's process, so that what is verified is what is signalled; or -1. */
static int open_process(const struct local *l, const struct local_part *p, pid_t *ret_pid)
{
	pid_t pid = read_pid_file(l, p);
	int fd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	if (fd >= 0 && !process_names(pid, p->dir)) {
		close(fd);
		fd = -1;
	}
	if (fd >= 0)
		*ret_pid = pid;
	return fd;
}

pid_t local_pid(const struct local *l, const struct local_part *p)
{
	pid_t pid = 0;
	_cleanup_fd_ int fd = open_process(l, p, &pid);

	return fd >= 0 ? pid : 0;
}

/* ---- starting ---- */

static int write_pid_file(const struct local *l, const struct local_part *p, pid_t pid,
			  struct err *err)
{
	_cleanup_free_ char *path = local_path(l, "run", p->name, ".pid");
	FILE *file = path ? fopen(path, "we") : NULL;
	bool ok;

	if (!file)
		return err_set_errno(err, errno, "pid file of %s", p->name);
	ok = fprintf(file, "%d\n", (int)pid) > 0;
	if (fclose(file) != 0 || !ok)
		return err_set_errno(err, errno, "pid file of %s", p->name);
	return 0;
}

/* In the child: only calls that are safe after a fork in a program with threads. */
static void run_child(char *const *argv, const char *log_path)
{
	static const char text[] = "cannot be started: no such program or no log file\n";
	int null, log;
	sigset_t none;

	setsid();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (null >= 0 && log >= 0 && dup2(null, 0) >= 0 && dup2(log, 1) >= 0 && dup2(log, 2) >= 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
		execvp(argv[0], argv);
	}
	if (log >= 0 && (write(log, argv[0], strlen(argv[0])) < 0 || write(log, " ", 1) < 0 ||
			 write(log, text, sizeof(text) - 1) < 0))
		_exit(126);
	_exit(127);
}

int local_spawn(const struct local *l, const struct local_part *p, char *const *argv,
		pid_t *ret_pid, struct err *err)
{
	_cleanup_free_ char *log_path = local_path(l, "log", p->name, ".log");
	pid_t pid;
	int r;

	if (!log_path)
		return err_set(err, ERR_NOMEM, "out of memory");
	pid = fork();
	if (pid < 0)
		return err_set_errno(err, errno, "start %s", p->name);
	if (pid == 0)
		run_child(argv, log_path);
	r = write_pid_file(l, p, pid, err);
	if (r < 0) {
		/* Nobody would find it again. */
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return r;
	}
	*ret_pid = pid;
	return 0;
}

char *local_program(const char *name)
{
	static const char *const places[] = {"", "../sbin/"}; /* built; installed */
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	_cleanup_free_ char *dir = NULL;

	if (n > 0) {
		self[n] = '\0';
		dir = text_dir(self);
	}
	for (size_t i = 0; dir && i < ARRAY_LEN(places); i++) {
		char *path;
		if (asprintf(&path, "%s/%s%s", dir, places[i], name) < 0)
			return NULL;
		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return strdup(name);
}

void local_show_log(const struct local *l, const struct local_part *p)
{
	_cleanup_free_ char *path = local_path(l, "log", p->name, ".log");
	char text[LOG_TAIL_BYTES + 1];
	_cleanup_fd_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	off_t end = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	ssize_t n;
	char *from;
	int lines = 0;

	if (fd < 0 || end <= 0)
		return;
	n = pread(fd, text, LOG_TAIL_BYTES, end > LOG_TAIL_BYTES ? end - LOG_TAIL_BYTES : 0);
	if (n <= 0)
		return;
	text[n] = '\0';
	for (from = text + n; from > text; from--)
		if (from[-1] == '\n' && from < text + n && ++lines == LOG_TAIL_LINES)
			break;
	fprintf(stderr, "the end of %s:\n%s", path, from);
	if (text[n - 1] != '\n')
		fputc('\n', stderr);
}

/* ---- stopping ---- */

static bool wait_process(int fd, int64_t deadline)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int r;

	do {
		r = poll(&p, 1, deadline_left(deadline));
	} while (r < 0 && errno == EINTR);
	return r > 0;
}

static void remove_pid_file(const struct local *l, const struct local_part *p)
{
	_cleanup_free_ char *path = local_path(l, "run", p->name, ".pid");

	if (path)
		unlink(path);
}

static int send_signal(int fd, int signal_number)
{
	return (int)syscall(SYS_pidfd_send_signal, fd, signal_number, NULL, 0);
}

int local_stop(const struct local *l, const struct local_part *parts, int n, struct err *err)
{
	int fds[LOCAL_PARTS_MAX], result = 0;
	int64_t deadline = deadline_in(LOCAL_STOP_MS);

	for (int i = 0; i < n; i++) {
		pid_t pid = 0;
		fds[i] = open_process(l, &parts[i], &pid);
		if (fds[i] >= 0)
			send_signal(fds[i], SIGTERM);
	}
	for (int i = 0; i < n; i++) {
		bool gone = fds[i] < 0 || wait_process(fds[i], deadline);
		if (!gone) {
			fprintf(stderr, "cairn: %s does not stop: killed\n", parts[i].name);
			send_signal(fds[i], SIGKILL);
			gone = wait_process(fds[i], deadline_in(LOCAL_STOP_MS));
		}
		if (gone)
			remove_pid_file(l, &parts[i]);
		else
			result = err_set(err, ERR_TIMEOUT, "%s does not end", parts[i].name);
		if (fds[i] >= 0)
			close(fds[i]);
	}
	return result;
}

/* ---- mounts ---- */

/* mountinfo writes space, tab, newline and backslash as \ooo. In place. */
static void unescape(char *s)
{
	char *out = s;

	while (*s) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = '\0';
}

/* One line: id parent dev root MOUNTPOINT options [fields] - TYPE source options. */
static bool mountinfo_matches(char *line, const char *mountpoint)
{
	char *type = strstr(line, " - "), *field = line, *end;

	if (!type)
		return false;
	type += 3;
	for (int i = 0; i < 4; i++) {
		field = strchr(field, ' ');
		if (!field)
			return false;
		field++;
	}
	end = strchr(field, ' ');
	if (!end || strncmp(type, "fuse.cairn ", 11) != 0)
		return false;
	*end = '\0';
	unescape(field);
	return strcmp(field, mountpoint) == 0;
}

bool local_is_mounted(const char *mountpoint)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t room = 0;
	bool found = false;

	if (!file)
		return false;
	while (!found && getline(&line, &room, file) > 0)
		found = mountinfo_matches(line, mountpoint);
	free(line);
	fclose(file);
	return found;
}

static void try_unmount(const char *mountpoint, bool lazy)
{
	char *argv[] = {(char *)"fusermount3", (char *)(lazy ? "-uzq" : "-uq"), (char *)"--",
			(char *)mountpoint, NULL};
	pid_t pid;

	if (geteuid() == 0) {
		umount2(mountpoint, lazy ? MNT_DETACH | UMOUNT_NOFOLLOW : UMOUNT_NOFOLLOW);
		return;
	}
	pid = fork();
	if (pid == 0) {
		execvp(argv[0], argv);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

int local_unmount(const char *mountpoint, struct err *err)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
	int64_t deadline = deadline_in(LOCAL_UNMOUNT_MS);

	while (local_is_mounted(mountpoint)) {
		bool lazy = deadline_left(deadline) == 0;
		try_unmount(mountpoint, lazy);
		if (!local_is_mounted(mountpoint))
			break;
		if (lazy)
			return err_set(err, ERR_BUSY, "cannot unmount %s", mountpoint);
		nanosleep(&pause, NULL);
	}
	return 0;
}
