/* cairn-chunkserver: wiring only. */
#include <errno.h>
#include <signal.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "chunkserver/link.h"
#include "chunkserver/scrub.h"
#include "chunkserver/serve.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conf.h"
#include "common/conn.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/audit.h"
#include "common/privs.h"

static struct {
	struct conf_list data, master;
	char *listen, *advertise, *credentials, *transport, *rack, *host, *log_level, *name, *user;
	bool core_dumps;
	int64_t sync_interval_ms, report_interval_ms, scrub_period_ms, reserve_bytes;
	int64_t max_connections, io_timeout_ms;
	int64_t audit_bytes, audit_keep;
	bool allow_plaintext;
} o;

static const struct conf_option option_rows[] = {
	{"data", CONF_LIST, &o.data, "/var/lib/cairn/chunkserver", 0, 0,
	 "data directories, one for each disk"},
	{"listen", CONF_STRING, &o.listen, "127.0.0.1:7410", 0, 0, "HOST:PORT to serve on"},
	{"advertise", CONF_STRING, &o.advertise, "", 0, 0,
	 "HOST:PORT told to clients, if another than listen"},
	{"master", CONF_LIST, &o.master, "127.0.0.1:7400", 0, 0, "the masters"},
	{"credentials", CONF_STRING, &o.credentials, "/etc/cairn/tls", 0, 0,
	 "the directory of our certificate (cairn ca), or the file of a shared key"},
	{"transport", CONF_STRING, &o.transport, "", 0, 0,
	 "tls or plain: refuse credentials of the other kind"},
	{"allow_plaintext", CONF_BOOL, &o.allow_plaintext, "no", 0, 0,
	 "with a shared key: unencrypted beyond loopback, on a trusted network"},
	{"rack", CONF_STRING, &o.rack, "", 0, 0, "failure domain above the host"},
	{"host", CONF_STRING, &o.host, "", 0, 0, "failure domain, if another than the host name"},
	{"sync_interval", CONF_TIME, &o.sync_interval_ms, "5s", 10, 3600000,
	 "how long data may stay unsynced when nobody asks for it"},
	{"report_interval", CONF_TIME, &o.report_interval_ms, "1h", 100, 366LL * 86400000,
	 "how often what is here is compared with what the master knows"},
	{"scrub_period", CONF_TIME, &o.scrub_period_ms, "14d", 100, 10LL * 366 * 86400000,
	 "within which every block that is stored is read and verified"},
	{"reserve", CONF_SIZE, &o.reserve_bytes, "64M", 0, INT64_MAX, "space left free on a disk"},
	{"max_connections", CONF_INT, &o.max_connections, "1024", 4, 100000,
	 "connections at once"},
	{"io_timeout", CONF_TIME, &o.io_timeout_ms, "10s", 100, 600000,
	 "how long one exchange with a peer may take"},
	PRIVS_OPTIONS(&o.user, &o.core_dumps),
	AUDIT_OPTIONS(&o.audit_bytes, &o.audit_keep),
	{"log_level", CONF_STRING, &o.log_level, "info", 0, 0, "error, warn, info or debug"},
	{"name", CONF_STRING, &o.name, "chunkserver", 0, 0, "shown in the log"},
	{0},
};
static const struct conf conf = {
	.program = "cairn-chunkserver", .section = "chunkserver",
	.default_path = "/etc/cairn/chunkserver.conf",
	.usage = "cairn-chunkserver [OPTION...]: keeps chunks of files on this host's disks.",
	.options = option_rows,
};

static struct link *link_to_master;
static struct scrub *_Atomic scrubber;
static struct lease lease;
static struct keys keys;
static struct cred cred;

static void on_damaged(void *arg, const struct wire_have *have)
{
	if (link_to_master)
		link_damage(link_to_master, have);
}

static void on_disk_failed(void *arg)
{
	if (link_to_master)
		link_report_anew(link_to_master);
}

static void scrub_so_far(struct wire_scrub *ret)
{
	struct scrub *x = scrubber;
	if (x)
		scrub_progress(x, ret);
}

static void on_fault(void *arg, uint64_t chunk, uint32_t version, uint32_t server, int reason)
{
	log_warn("chunk %016llx v%u: server %u, the next of the chain, failed: %s",
		 (unsigned long long)chunk, version, server, err_text(reason));
	link_fault(link_to_master, chunk, version, server, reason);
}

/* Certificates and the list of revoked ones, anew. */
static void on_hangup(void *arg)
{
	struct err err = {0};

	if (!cred.tls)
		return;
	if (tls_reload(cred.tls, &err) < 0)
		log_error("credentials are not reloaded: %s", err_message(&err));
	else
		log_info("credentials reloaded");
}

struct syncer {
	struct store *store;
	int stop_fds[2]; /* a pipe: closing the write end stops it */
};

static void *sync_thread(void *arg)
{
	struct syncer *s = arg;
	struct pollfd p = {.fd = s->stop_fds[0], .events = POLLIN};

	while (poll(&p, 1, (int)o.sync_interval_ms) == 0)
		store_sync_all(s->store);
	return NULL;
}

static int settings_check(struct err *err)
{
	enum log_level level;
	static char host_name[256];

	if (log_level_parse(o.log_level, &level) < 0)
		return err_set(err, ERR_CONFIG, "log_level: \"%s\" is none of error, warn, info, "
			       "debug", o.log_level);
	if (o.data.n == 0 || o.data.n > DISKS_MAX)
		return err_set(err, ERR_CONFIG, "data: 1 to %d directories", DISKS_MAX);
	if (o.master.n == 0)
		return err_set(err, ERR_CONFIG, "master: none given");
	log_setup(o.name, level);
	if (fault_setup(o.name, err) < 0)
		return err->code;
	if (!o.host[0] && gethostname(host_name, sizeof(host_name) - 1) == 0) {
		free(o.host);
		o.host = strdup(host_name);
	}
	if (!o.host)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (cred_load(&cred, o.credentials, o.transport, 1 << ROLE_CHUNKSERVER, o.name, err) < 0)
		return err->code;
	cred.allow_plaintext = o.allow_plaintext;
	return 0;
}

/* Signals come through a descriptor; every thread started later has them blocked too. */
static int block_signals(int *ret_hangup_fd, struct err *err)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	signal(SIGPIPE, SIG_IGN);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	*ret_hangup_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (*ret_hangup_fd < 0)
		return err_set_errno(err, errno, "signalfd");
	return fd < 0 ? err_set_errno(err, errno, "signalfd") : fd;
}

static int run(struct store *store, int listen_fd, const char *addr, int signal_fd, int hangup_fd,
	       struct err *err)
{
	struct link_options link_options = {.masters = &o.master, .cred = &cred,
					    .addr = o.advertise[0] ? o.advertise : addr,
					    .rack = o.rack, .host = o.host, .lease = &lease,
					    .keys = &keys, .refused = serve_refused,
					    .load = serve_load, .scrub = scrub_so_far,
					    .report_interval_ms = o.report_interval_ms};
	struct serve_options serve_options = {.store = store, .lease = &lease, .keys = &keys, .cred = &cred,
					      .io_timeout_ms = o.io_timeout_ms,
					      .max_connections = o.max_connections,
					      .hangup_fd = hangup_fd, .hangup = on_hangup, .fault = on_fault};
	struct syncer syncer = {.store = store};
	struct scrub *scrub;
	pthread_t thread;
	int r;

	keys_init(&keys);
	if (pipe(syncer.stop_fds) < 0)
		return err_set_errno(err, errno, "pipe");
	r = link_start(&link_options, store, &link_to_master, err);
	if (r < 0)
		return r;
	if (pthread_create(&thread, NULL, sync_thread, &syncer) != 0)
		return err_set(err, ERR_NOMEM, "cannot start the sync thread");
	r = scrub_start(store, o.scrub_period_ms, &scrub, err);
	if (r < 0)
		return r;
	scrubber = scrub;
	log_info("ready on %s", addr);
	serve(&serve_options, listen_fd, signal_fd);
	log_info("stopping");
	close(syncer.stop_fds[1]);
	pthread_join(thread, NULL);
	close(syncer.stop_fds[0]);
	link_stop(link_to_master);
	link_to_master = NULL;
	scrub_stop(scrub);
	keys_release(&keys);
	return 0;
}

/* On the first disk that takes it: neither one that is missing nor all being read-only keeps the server
 * from giving what it has. */
static void audit_begin(void)
{
	for (size_t i = 0; i < o.data.n; i++) {
		struct err err = {0};
		if (audit_open(o.data.items[i], o.audit_bytes, o.audit_keep, &err) == 0)
			return;
		log_error("%s", err_message(&err));
	}
}

int main(int argc, char **argv)
{
	struct store_options store_options = {.damaged = on_damaged, .disk_failed = on_disk_failed};
	_cleanup_fd_ int listen_fd = -1, signal_fd = -1, hangup_fd = -1;
	char addr[ADDR_BYTES_MAX];
	struct store *store = NULL;
	struct err err = {0};
	int r = conf_load(&conf, argc, argv, NULL, &err);

	if (r > 0)
		return 0;
	if (r == 0)
		r = settings_check(&err);
	if (r == 0) {
		privs_raise_files();
		r = signal_fd = block_signals(&hangup_fd, &err);
	}
	if (r >= 0)
		r = conn_listen(o.listen, &listen_fd, addr, &err);
	if (r == 0)
		r = cred_check_listener(&cred, listen_fd, addr, &err);
	if (r == 0)
		r = cred_check_advertised(&cred, o.advertise[0] ? o.advertise : addr, &err);
	for (size_t i = 0; r == 0 && i < o.data.n; i++)
		r = privs_make_dir(o.user, o.data.items[i], &err);
	if (r == 0)
		r = privs_drop(o.user, o.core_dumps, &err);
	if (r == 0)
		r = cred_check_user(&cred, o.credentials, o.user, &err);
	if (r == 0) {
		store_options.io = io_system();
		store_options.dirs = o.data.items;
		store_options.n_dirs = o.data.n;
		store_options.reserve_bytes = (uint64_t)o.reserve_bytes;
		r = store_open(&store_options, &store, &err);
	}
	if (r == 0)
		audit_begin();
	if (r == 0)
		r = run(store, listen_fd, addr, signal_fd, hangup_fd, &err);
	if (r < 0)
		log_error("%s", err_message(&err));
	if (store)
		store_close(store);
	audit_close();
	cred_release(&cred);
	conf_release(&conf);
	if (r == 0)
		log_info("stopped");
	return r < 0 ? 1 : 0;
}
