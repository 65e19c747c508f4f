/* cairn-mount: options, daemonising, the session's life.
 *
 * Without -f the parent waits on a pipe until the child has reached the cluster and the mount is
 * there: so `cairn-mount ... && ls MOUNTPOINT` works, and a failure has an exit status and a line
 * on the terminal. The fork comes first because connecting starts threads. */
#include "fuse/options.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/cairn.h"
#include "common/clock.h"
#include "common/cluster.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/privs.h"
#include "fuse/init.h"
#include "fuse/loop.h"

static const char program[] = "cairn-mount";

enum {
	THREADS_MAX = 32, KICK_MS = 20, FLUSH_MS = 4000, END_MS = 2000, CONNECT_ERROR_BYTES = 512,
};

/* ---- the parent's side of daemonising ---- */

/* In the parent: waits for the child's word and exits. In the child: the pipe's end. */
static int daemon_fork(int *ret_fd)
{
	int fds[2], status = 0;
	ssize_t n;
	char word;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;
		close(fds[0]);
		close(fds[1]);
		return r;
	}
	if (pid == 0) {
		close(fds[0]);
		setsid();
		*ret_fd = fds[1];
		return 0;
	}
	close(fds[1]);
	do {
		n = read(fds[0], &word, 1);
	} while (n < 0 && errno == EINTR);
	if (n == 1)
		_exit(0);
	/* The pipe ended without a word: the child has said why and is going. */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	_exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1);
}

/* Lets go of the terminal and tells the parent. */
static int daemon_ready(int fd, const char *log_file)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int log = log_file ? open(log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640) : null;

	if (null < 0 || log < 0) {
		fprintf(stderr, "%s: %s: %s\n", program, null < 0 ? "/dev/null" : log_file,
			strerror(errno));
		return -1;
	}
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	if (chdir("/") < 0)
		return -1;
	if (write(fd, "1", 1) != 1)
		log_warn("cannot tell the starting process that the mount is ready");
	close(fd);
	return 0;
}

/* ---- signals ---- */

struct stopper {
	struct cairn *fs;
	const char *mountpoint;
	pthread_t main_thread;
	sigset_t signals;
	_Atomic int64_t stop_ms; /* the loop is to end (fuse/loop.h) */
	atomic_bool done; /* it has ended */
};

static void stop_signals(sigset_t *ret)
{
	sigemptyset(ret);
	sigaddset(ret, SIGTERM);
	sigaddset(ret, SIGINT);
	sigaddset(ret, SIGHUP);
}

static void on_kick(int signal_number)
{
}

/* Writes out what the kernel still holds (pages of shared mappings), for at most FLUSH_MS. A
 * process of its own asks for it: a thread of ours that waits for an answer of our own could not
 * even be killed, since the kernel gives such requests up only when the last of our descriptors
 * of /dev/fuse is closed. */
static void flush_mount(const char *mountpoint)
{
	struct pollfd done = {.events = POLLIN};
	pid_t pid = fork();

	if (pid == 0) {
		int fd;
		close_range(3, ~0U, 0);
		fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		/* Not there: unmounted already, or hidden under another mount. */
		_exit(fd >= 0 && syncfs(fd) < 0);
	}
	if (pid < 0) {
		log_warn("flush before unmounting %s: %s", mountpoint, strerror(errno));
		return;
	}
	done.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (done.fd < 0 || poll(&done, 1, FLUSH_MS) <= 0) {
		/* It ends with the connection; init takes it then. */
		log_warn("flush before unmounting %s: not done in %d ms", mountpoint, FLUSH_MS);
	} else {
		int status = 0;
		if (waitpid(pid, &status, 0) == pid && status != 0)
			log_warn("flush before unmounting %s: failed", mountpoint);
	}
	if (done.fd >= 0)
		close(done.fd);
}

/* Waits for a signal to stop, then ends the loop. Its main thread sleeps in sem_wait, which a
 * signal interrupts; sent until it is seen, since it may come between its check and its sleep.
 * Requests under way have END_MS to end; then those that wait for a dead master are given up. */
static void *stop_thread(void *arg)
{
	struct stopper *s = arg;
	const struct timespec pause = {.tv_nsec = KICK_MS * 1000000L};
	int signal_number = 0;

	while (sigwait(&s->signals, &signal_number) != 0)
		;
	if (atomic_load(&s->done))
		return NULL;
	log_info("signal %d: unmounting %s", signal_number, s->mountpoint);
	flush_mount(s->mountpoint);
	atomic_store(&s->stop_ms, deadline_in(FLUSH_MS));
	for (int ms = 0; !atomic_load(&s->done); ms += KICK_MS) {
		pthread_kill(s->main_thread, LOOP_KICK_SIGNAL);
		nanosleep(&pause, NULL);
		if (ms == END_MS) {
			log_warn("unmounting %s: some requests have not ended in %d ms",
				 s->mountpoint, END_MS);
			cairn_abort(s->fs);
		}
	}
	return NULL;
}

/* ---- serving ---- */

static int serve(struct fuse_session *session, struct mount *mount, const struct mount_options *o)
{
	struct stopper s = {.fs = mount->fs, .mountpoint = o->mountpoint,
			    .main_thread = pthread_self()};
	struct sigaction kick = {.sa_handler = on_kick};
	pthread_t thread;
	int r;

	stop_signals(&s.signals);
	sigemptyset(&kick.sa_mask);
	sigaction(LOOP_KICK_SIGNAL, &kick, NULL); /* without SA_RESTART: it is to interrupt */
	r = pthread_create(&thread, NULL, stop_thread, &s);
	if (r != 0)
		return -r;
	r = loop_run(session, mount, o->single_thread ? 1 : THREADS_MAX, &s.stop_ms);
	atomic_store(&s.done, true);
	/* Unmounted by somebody else: the thread still waits for a signal. */
	pthread_kill(thread, SIGTERM);
	pthread_join(thread, NULL);
	return r;
}

/* Mounts and serves until unmounted or told to stop. */
static int run_session(struct fuse_session *session, struct mount *mount,
		       const struct mount_options *o, int ready_fd)
{
	int r;

	if (fuse_session_mount(session, o->mountpoint) != 0) {
		fprintf(stderr, "%s: cannot mount on %s\n", program, o->mountpoint);
		return 1;
	}
	r = init_watch(session);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", program, strerror(-r));
		fuse_session_unmount(session);
		return 1;
	}
	if (ready_fd >= 0 && daemon_ready(ready_fd, o->log_file) < 0) {
		fuse_session_unmount(session);
		return 1;
	}
	inval_start(mount->inval, session, cairn_root(mount->fs));
	log_info("mounted on %s", o->mountpoint);
	r = serve(session, mount, o);
	inval_stop(mount->inval, END_MS);
	fuse_session_unmount(session);
	if (r < 0)
		log_error("serving %s: %s", o->mountpoint, strerror(-r));
	else
		log_info("unmounted %s", o->mountpoint);
	return r < 0;
}

static int connect_cluster(const struct mount_options *o, const struct cluster *cluster,
			   struct mount *mount)
{
	const struct cairn_watch watch = {.arg = mount->inval, .recalled = inval_recalled,
					  .dropped = inval_dropped};
	struct cairn_options options = {
		.masters = cluster->masters,
		.credentials = cluster->credentials,
		.allow_plaintext = cluster->allow_plaintext,
		.timeout_ms = o->timeout_ms ? o->timeout_ms : cluster->timeout_ms,
		.write_buffer_bytes = o->write_buffer_bytes,
		.write_buffer_ms = o->write_buffer_ms,
		.readahead_bytes = o->readahead_bytes ? o->readahead_bytes
						      : cluster->readahead_bytes,
		.cache = !o->no_lease, .watch = &watch,
		.atime = o->read_only ? CAIRN_ATIME_NONE : o->atime,
		.kernel_checks = true,
	};
	char reason[CONNECT_ERROR_BYTES] = "";

	if (cairn_connect(&options, &mount->fs, reason, sizeof(reason)) == 0)
		return 0;
	fprintf(stderr, "%s: %s\n", program, reason);
	return -1;
}

static int mount_and_serve(struct mount_options *o, const struct cluster *cluster)
{
	struct mount mount = {.inval = inval_new(!o->no_lease)};
	struct fuse_session *session;
	sigset_t signals;
	int ready_fd = -1, status = 1, r;

	if (!mount.inval)
		return 1;
	session = fuse_session_new(&o->args, &mount_ops, sizeof(mount_ops), &mount);
	if (!session) {
		inval_free(mount.inval);
		return 1; /* libfuse has said why */
	}
	r = o->foreground ? 0 : daemon_fork(&ready_fd);
	if (r < 0) {
		fprintf(stderr, "%s: cannot start: %s\n", program, strerror(-r));
	} else {
		/* Blocked in every thread from here on: stop_thread takes them. */
		stop_signals(&signals);
		pthread_sigmask(SIG_BLOCK, &signals, NULL);
		signal(SIGPIPE, SIG_IGN);
		if (connect_cluster(o, cluster, &mount) == 0)
			status = run_session(session, &mount, o, ready_fd);
	}
	fuse_session_destroy(session);
	cairn_disconnect(mount.fs);
	inval_free(mount.inval);
	return status;
}

int main(int argc, char **argv)
{
	struct mount_options options;
	struct cluster cluster;
	struct err err;
	int r, status = 1;

	r = mount_options_parse(argc, argv, &options, &err);
	if (r < 0)
		fprintf(stderr, "%s: %s\n", program, err_message(&err));
	if (r != 0)
		return r < 0;
	log_setup(program, options.log_level);
	if (!options.core_dumps)
		privs_no_core();
	r = fault_setup(program, &err);
	if (r == 0)
		r = cluster_find(program, options.masters, options.credentials, &cluster, &err);
	if (r == 0) {
		r = mount_options_fuse_args(&options, cluster.masters, &err);
		if (r == 0)
			status = mount_and_serve(&options, &cluster);
		cluster_release(&cluster);
	}
	if (r < 0)
		fprintf(stderr, "%s: %s\n", program, err_message(&err));
	mount_options_release(&options);
	return status;
}
