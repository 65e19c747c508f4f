/* `cairn local up`: what is missing is made, what is down is started, then waited for. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "tools/local.h"
#include "tools/text.h"

enum {
	/* Below the kernel's own range for outgoing connections: a server that is down does not
	 * lose its port to one. */
	PORT_FIRST = 20000, PORT_COUNT = 12000,
	PORT_WAIT_MS = 3000, POLL_MS = 50, CONNECT_MS = 1000, ARGS_MAX = 32 + LOCAL_FLAGS_MAX,
};

struct up {
	struct cli *cli;
	struct local l;
	struct local_part parts[LOCAL_PARTS_MAX];
	pid_t started[LOCAL_PARTS_MAX]; /* by this call; 0: ran already */
	int n_parts;
	int failed; /* index of the part whose log tells more, or -1 */
	int64_t deadline;
};

/* ---- ports ---- */

static bool port_is_free(unsigned port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
	       bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 1) == 0;
}

static unsigned addr_port(const char *addr)
{
	const char *colon = strrchr(addr, ':');
	return colon ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
}

static bool port_is_taken(const struct local *l, unsigned port)
{
	if (addr_port(l->master_addr) == port)
		return true;
	for (int i = 0; i < l->n_chunkservers; i++)
		if (addr_port(l->chunkserver_addr[i]) == port)
			return true;
	return false;
}

static int choose_addr(const struct local *l, char *ret, struct err *err)
{
	uint32_t random;

	if (getrandom(&random, sizeof(random), 0) < 0)
		return err_set_errno(err, errno, "random number");
	for (unsigned i = 0; i < PORT_COUNT; i++) {
		unsigned port = PORT_FIRST + (random + i) % PORT_COUNT;
		if (!port_is_taken(l, port) && port_is_free(port)) {
			snprintf(ret, LOCAL_ADDR_BYTES, "127.0.0.1:%u", port);
			return 0;
		}
	}
	return err_set(err, ERR_LIMIT, "no free port from %d on", PORT_FIRST);
}

static void pause_short(void)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
	nanosleep(&pause, NULL);
}

/* Keeps an address while it can be had. Returns 1 when it changed. A server that was killed a
 * moment ago may still be closing its sockets. */
static int keep_addr(const struct local *l, char *addr, struct err *err)
{
	int64_t deadline = deadline_in(PORT_WAIT_MS);
	unsigned port = addr_port(addr);
	int r;

	while (port && deadline_left(deadline) > 0) {
		if (port_is_free(port))
			return 0;
		pause_short();
	}
	r = choose_addr(l, addr, err);
	return r < 0 ? r : 1;
}

/* ---- the description ---- */

static int replace_flags(struct local_flags *to, const struct local_flags *from)
{
	int r = 0;

	if (from->n == 0)
		return 0;
	local_flags_clear(to);
	for (size_t i = 0; r == 0 && i < from->n; i++)
		r = local_flags_add(to, from->items[i]);
	return r;
}

/* Where `mount` is, without a look at it when it is mounted: it may not answer. Heap. */
static char *resolve_mount(const char *mount)
{
	_cleanup_free_ char *given_dir = text_dir(mount);
	_cleanup_free_ char *dir = given_dir ? realpath(given_dir, NULL) : NULL;
	_cleanup_free_ char *base = text_base(mount);
	char *path = dir && base ? text_join(dir, base) : NULL;

	if (!path || local_is_mounted(path))
		return path;
	free(path);
	path = realpath(mount, NULL);
	if (!path && errno == ENOENT && mkdir(mount, 0755) == 0)
		path = realpath(mount, NULL);
	return path;
}

static int set_mount(struct local *l, const char *mount, struct err *err)
{
	_cleanup_free_ char *path = resolve_mount(mount);

	if (!path)
		return err_set_errno(err, errno, "mount point %s", mount);
	if (text_utf8_prefix(path, strlen(path)) < strlen(path))
		return err_set(err, ERR_INVAL, "mount point %s: not UTF-8", mount);
	if (l->mount && strcmp(l->mount, path) != 0 && local_is_mounted(l->mount))
		return err_set(err, ERR_BUSY, "mounted on %s already: \"cairn local down\" first",
			       l->mount);
	free(l->mount);
	l->mount = path;
	path = NULL;
	return 0;
}

/* Lays what the user asked for over what was there. */
static int merge(struct local *l, const struct local_up_options *o, struct err *err)
{
	bool fresh = l->n_chunkservers == 0;
	int servers = o->chunkservers ? o->chunkservers : fresh ? 3 : l->n_chunkservers;

	if (servers < l->n_chunkservers)
		return err_set(err, ERR_INVAL, "there are %d chunkservers already: they cannot be "
			       "made fewer", l->n_chunkservers);
	if (fresh)
		l->plain = o->plain;
	else if (o->plain && !l->plain)
		return err_set(err, ERR_INVAL, "--plain: this cluster was made with certificates");
	l->n_chunkservers = servers;
	if (o->replicas)
		l->replicas = o->replicas;
	else if (fresh)
		l->replicas = servers < 3 ? servers : 3;
	if (l->replicas > servers)
		return err_set(err, ERR_INVAL, "%d replicas need as many chunkservers, not %d",
			       l->replicas, servers);
	if (replace_flags(&l->master_flags, &o->master_flags) < 0 ||
	    replace_flags(&l->chunkserver_flags, &o->chunkserver_flags) < 0 ||
	    replace_flags(&l->mount_options, &o->mount_options) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	return o->mount ? set_mount(l, o->mount, err) : 0;
}

static int make_dir(const struct local *l, const char *name, struct err *err)
{
	_cleanup_free_ char *path = local_path(l, name, NULL, NULL);

	if (!path)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_set_errno(err, errno, "%s", path);
	return 0;
}

static int make_files(struct up *u, struct err *err)
{
	int r = local_make_credentials(&u->l, err);

	if (r == 0)
		r = make_dir(&u->l, "log", err);
	if (r == 0)
		r = make_dir(&u->l, "run", err);
	for (int i = 0; r == 0 && i < u->n_parts; i++)
		if (u->parts[i].kind != LOCAL_MOUNT)
			r = make_dir(&u->l, u->parts[i].name, err);
	return r;
}

static void release_parts(struct up *u)
{
	for (int i = 0; i < u->n_parts; i++)
		local_part_release(&u->parts[i]);
	u->n_parts = 0;
}

static int list_parts(struct up *u, struct err *err)
{
	release_parts(u);
	for (int i = 0; i < local_n_parts(&u->l); i++) {
		if (local_part(&u->l, i, &u->parts[i]) < 0)
			return err_set(err, ERR_NOMEM, "out of memory");
		u->n_parts++;
	}
	return 0;
}

/* Gives every part that is down an address that is free now. When the master has to move, those
 * that know its old address are stopped first. */
static int choose_addrs(struct up *u, struct err *err)
{
	int r = 0;

	if (!local_pid(&u->l, &u->parts[0])) {
		r = keep_addr(&u->l, u->l.master_addr, err);
		if (r == 1)
			r = local_stop(&u->l, u->parts, u->n_parts, err);
	}
	for (int i = 1; r >= 0 && i <= u->l.n_chunkservers; i++)
		if (!local_pid(&u->l, &u->parts[i]))
			r = keep_addr(&u->l, u->l.chunkserver_addr[i - 1], err);
	return r < 0 ? r : 0;
}

/* ---- starting ---- */

struct args {
	char *items[ARGS_MAX + 1]; /* heap; the last is NULL */
	size_t n;
	bool failed;
};

static void arg(struct args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void arg(struct args *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (a->n == ARGS_MAX || vasprintf(&a->items[a->n], fmt, ap) < 0) {
		a->items[a->n] = NULL;
		a->failed = true;
	} else {
		a->n++;
	}
	va_end(ap);
}

static void args_release(struct args *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->items[i]);
}

static void program_arg(struct args *a, const char *name)
{
	_cleanup_free_ char *path = local_program(name);

	if (path)
		arg(a, "%s", path);
	else
		a->failed = true;
}

/* A flag for all chunkservers, with "{dir}" replaced by the directory of this one. */
static void flag_arg(struct args *a, const char *flag, const char *dir)
{
	const char *hole = strstr(flag, "{dir}");

	if (hole)
		arg(a, "%.*s%s%s", (int)(hole - flag), flag, dir, hole + strlen("{dir}"));
	else
		arg(a, "%s", flag);
}

/* A path stands alone as an argument: local_pid looks for it. */
static void part_args(const struct local *l, const struct local_part *p, struct args *a)
{
	_cleanup_free_ char *credentials = local_credentials(l, p->name);
	const struct local_flags *flags;

	if (!credentials) {
		a->failed = true;
		return;
	}
	if (p->kind == LOCAL_MOUNT) {
		program_arg(a, "cairn-mount");
		arg(a, "%s", l->master_addr);
		arg(a, "%s", p->dir);
		arg(a, "-f");
		arg(a, "-ocredentials=%s", credentials);
		/* As a disk that root mounts: for all users, with set-id programs and devices. */
		if (geteuid() == 0)
			arg(a, "-oallow_other,suid,dev");
		for (size_t i = 0; i < l->mount_options.n; i++)
			arg(a, "-o%s", l->mount_options.items[i]);
		return;
	}
	if (p->kind == LOCAL_MASTER) {
		program_arg(a, "cairn-master");
		arg(a, "--data-dir");
		arg(a, "%s", p->dir);
		arg(a, "--replicas=%d", l->replicas);
		flags = &l->master_flags;
	} else {
		program_arg(a, "cairn-chunkserver");
		arg(a, "--data");
		arg(a, "%s", p->dir);
		arg(a, "--master=%s", l->master_addr);
		/* Each its own failure domain: copies are spread although the host is one. */
		arg(a, "--host=%s", p->name);
		flags = &l->chunkserver_flags;
	}
	arg(a, "--listen=%s", p->addr);
	arg(a, "--credentials=%s", credentials);
	arg(a, "--name=%s", p->name);
	for (size_t i = 0; i < flags->n; i++)
		flag_arg(a, flags->items[i], p->dir);
}

static int start_part(struct up *u, int index, struct err *err)
{
	struct local_part *p = &u->parts[index];
	struct args a = {0};
	int r;

	if (local_pid(&u->l, p))
		return 0;
	part_args(&u->l, p, &a);
	r = a.failed ? err_set(err, ERR_NOMEM, "%s: too many flags or out of memory", p->name)
		     : local_spawn(&u->l, p, a.items, &u->started[index], err);
	args_release(&a);
	return r;
}

/* ---- waiting ---- */

static int check_alive(struct up *u, struct err *err)
{
	for (int i = 0; i < u->n_parts; i++) {
		int status;
		if (!u->started[i] || waitpid(u->started[i], &status, WNOHANG) != u->started[i])
			continue;
		u->started[i] = 0;
		u->failed = i;
		if (WIFSIGNALED(status))
			return err_set(err, ERR_IO, "%s ended at its start: signal %d",
				       u->parts[i].name, WTERMSIG(status));
		return err_set(err, ERR_IO, "%s ended at its start: exit status %d",
			       u->parts[i].name, WEXITSTATUS(status));
	}
	return 0;
}

static bool server_is_up(const struct cairn_status *s, const char *addr)
{
	for (size_t i = 0; i < s->n_servers; i++)
		if (s->servers[i].state == CAIRN_SERVER_UP && strcmp(s->servers[i].addr, addr) == 0)
			return true;
	return false;
}

/* Just started ones may be known as up from before: they must also take connections. */
static bool addr_answers(const char *addr)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)addr_port(addr))};
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0;
}

/* The first chunkserver that is not ready, 0 when all are, or -1 when the master does not say. */
static int first_missing(struct up *u)
{
	struct cairn_status *s;
	int missing = 0;

	if (cairn_status(u->cli->fs, &s) < 0)
		return -1;
	for (int i = 1; !missing && i <= u->l.n_chunkservers; i++)
		if (!server_is_up(s, u->l.chunkserver_addr[i - 1]) ||
		    !addr_answers(u->l.chunkserver_addr[i - 1]))
			missing = i;
	cairn_status_free(s);
	return missing;
}

static int wait_master(struct up *u, struct err *err)
{
	_cleanup_free_ char *credentials = local_credentials(&u->l, "admin");
	struct cairn_options options = {.masters = u->l.master_addr, .credentials = credentials,
					.name = "cairn local", .timeout_ms = CONNECT_MS * 5,
					.connect_ms = CONNECT_MS};
	char reason[ERR_TEXT_MAX] = "out of memory";

	while (credentials && cairn_connect(&options, &u->cli->fs, reason, sizeof(reason)) < 0) {
		int r = check_alive(u, err);
		if (r < 0)
			return r;
		if (deadline_left(u->deadline) == 0) {
			u->failed = 0;
			return err_set(err, ERR_TIMEOUT, "master-1 is not ready in time: %s",
				       reason);
		}
		pause_short();
	}
	return credentials ? 0 : err_set(err, ERR_NOMEM, "%s", reason);
}

static int wait_chunkservers(struct up *u, struct err *err)
{
	int missing;

	while ((missing = first_missing(u)) != 0) {
		int r = check_alive(u, err);
		if (r < 0)
			return r;
		if (deadline_left(u->deadline) == 0) {
			u->failed = missing > 0 ? missing : 0;
			return err_set(err, ERR_TIMEOUT, "%s is not ready in time",
				       u->parts[u->failed].name);
		}
		pause_short();
	}
	return 0;
}

static int start_mount(struct up *u, struct err *err)
{
	int index = u->n_parts - 1, r;

	if (!u->l.mount)
		return 0;
	if (!local_pid(&u->l, &u->parts[index])) {
		/* Left by a mount that was killed. */
		r = local_unmount(u->l.mount, err);
		if (r < 0)
			return r;
	}
	r = start_part(u, index, err);
	while (r == 0 && !local_is_mounted(u->l.mount)) {
		r = check_alive(u, err);
		if (r == 0 && deadline_left(u->deadline) == 0) {
			u->failed = index;
			r = err_set(err, ERR_TIMEOUT, "%s is not there in time", u->l.mount);
		}
		pause_short();
	}
	return r;
}

/* ---- the whole ---- */

static int up_start(struct up *u, struct err *err)
{
	int r = choose_addrs(u, err);

	if (r == 0)
		r = local_save(&u->l, err);
	for (int i = 0; r == 0 && i <= u->l.n_chunkservers; i++)
		r = start_part(u, i, err);
	u->deadline = deadline_in(LOCAL_UP_MS);
	if (r == 0)
		r = wait_master(u, err);
	if (r == 0)
		r = wait_chunkservers(u, err);
	if (r == 0)
		r = start_mount(u, err);
	return r;
}

static void print_summary(const struct up *u)
{
	_cleanup_buf_ struct buf dir = {0};

	text_shell_quote(&dir, u->l.dir);
	printf("Cluster in %s: master %s, %d chunkserver%s, %d cop%s of each chunk, %s.\n", u->l.dir,
	       u->l.master_addr, u->l.n_chunkservers, u->l.n_chunkservers == 1 ? "" : "s",
	       u->l.replicas, u->l.replicas == 1 ? "y" : "ies",
	       u->l.plain ? "a shared key (plain)" : "TLS");
	if (u->l.mount)
		printf("Mounted on %s.\n", u->l.mount);
	printf("To use the CLI:  eval \"$(cairn local env %s)\"; cairn ls /\n"
	       "To stop:         cairn local down %s\n", buf_str(&dir), buf_str(&dir));
}

/* What this call started is not left behind when it fails. */
static void up_undo(struct up *u)
{
	struct err err = {0};

	for (int i = u->n_parts - 1; i >= 0; i--) {
		if (!u->started[i])
			continue;
		if (u->parts[i].kind == LOCAL_MOUNT)
			local_unmount(u->parts[i].dir, &err);
		local_stop(&u->l, &u->parts[i], 1, &err);
	}
}

static int up_locked(struct up *u, const char *dir, const struct local_up_options *o,
		     struct err *err)
{
	int r = local_load(dir, &u->l, err);

	if (r == ERR_NOENT) {
		err_clear(err);
		u->l.dir = realpath(dir, NULL);
		r = u->l.dir ? 0 : err_set_errno(err, errno, "%s", dir);
	}
	if (r == 0)
		r = merge(&u->l, o, err);
	if (r == 0)
		r = list_parts(u, err);
	if (r == 0)
		r = make_files(u, err);
	if (r == 0)
		r = up_start(u, err);
	return r;
}

int local_up(struct cli *cli, const char *dir, const struct local_up_options *o)
{
	struct up *u = calloc(1, sizeof(*u));
	struct err err = {0};
	_cleanup_fd_ int lock = -1;
	int r = u ? 0 : err_set(&err, ERR_NOMEM, "out of memory");

	if (r == 0) {
		u->cli = cli;
		u->failed = -1;
	}
	if (r == 0 && mkdir(dir, 0700) < 0 && errno != EEXIST)
		r = err_set_errno(&err, errno, "%s", dir);
	if (r == 0)
		r = local_lock(dir, &lock, &err);
	if (r == 0)
		r = up_locked(u, dir, o, &err);
	if (r == 0 && !cli->quiet)
		print_summary(u);
	if (r < 0) {
		cli_complain(cli, "up", "%s", err_message(&err));
		if (u && u->failed >= 0)
			local_show_log(&u->l, &u->parts[u->failed]);
		if (u)
			up_undo(u);
	}
	if (u) {
		release_parts(u);
		local_release(&u->l);
	}
	free(u);
	return cli_status(cli);
}
