/* cairn-master: wiring only. */
#include <errno.h>
#include <limits.h>
#include <openssl/rand.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/audit.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conf.h"
#include "common/conn.h"
#include "common/fault.h"
#include "common/io.h"
#include "common/log.h"
#include "common/privs.h"
#include "master/master.h"
#include "master/offline.h"

/* Above this much unwritten state clients are not read from until the store has caught up. */
enum { ACTIVE_BYTES_MAX = 64 << 20 };

static struct master master;

static const struct conf_option master_option_rows[] = {
	{"data_dir", CONF_STRING, &master.o.data_dir, "/var/lib/cairn/master", 0, 0,
	 "where the log and the database are"},
	{"listen", CONF_STRING, &master.o.listen, "127.0.0.1:7400", 0, 0, "HOST:PORT to serve on"},
	{"credentials", CONF_STRING, &master.o.credentials, "/etc/cairn/tls", 0, 0,
	 "the directory of our certificate (cairn ca), or the file of a shared key"},
	{"transport", CONF_STRING, &master.o.transport, "", 0, 0,
	 "tls or plain: refuse credentials of the other kind"},
	{"allow_plaintext", CONF_BOOL, &master.o.allow_plaintext, "no", 0, 0,
	 "with a shared key: unencrypted beyond loopback, on a trusted network"},
	{"replicas", CONF_INT, &master.o.replicas, "3", 1, REPLICAS_MAX, "copies of each chunk"},
	{"heartbeat", CONF_TIME, &master.o.heartbeat_ms, "1s", 10, 60000,
	 "how often chunkservers report"},
	{"dead_after", CONF_TIME, &master.o.dead_after_ms, "5s", 50, 600000,
	 "a chunkserver silent for so long is down"},
	{"session_ttl", CONF_TIME, &master.o.session_ttl_ms, "60s", 1000, 3600000,
	 "a client silent for so long is gone"},
	{"cache_size", CONF_SIZE, &master.o.cache_bytes, "64M", 1 << 20, INT64_MAX,
	 "memory for database blocks"},
	{"raise_timeout", CONF_TIME, &master.o.raise_timeout_ms, "3s", 50, 600000,
	 "how long a member may take to answer a change of a chunk's version"},
	{"repair_delay", CONF_TIME, &master.o.repair_delay_ms, "60s", 0, 86400000,
	 "how long a chunkserver is down before its copies are made up for"},
	{"repair_max", CONF_INT, &master.o.repair_max, "16", 1, 1000, "chunks mended at once"},
	{"repair_per_server", CONF_INT, &master.o.repair_per_server, "8", 1, 1000,
	 "copies at once from, and to, each chunkserver"},
	{"balance_threshold", CONF_INT, &master.o.balance_threshold, "10", 0, 100,
	 "difference of fullness, in percent, from which chunks are moved; 0: never"},
	{"balance_max", CONF_INT, &master.o.balance_max, "2", 0, 1000,
	 "chunks moved at once, for balance or failure domains"},
	{"compare_period", CONF_TIME, &master.o.compare_period_ms, "14d", 0, 31536000000,
	 "the replicas of every chunk are compared once in so long; 0: never"},
	{"garbage_grace", CONF_TIME, &master.o.garbage_grace_ms, "1h", 0, 864000000,
	 "how long a replica of an unknown chunk is kept before it is deleted"},
	{"max_connections", CONF_INT, &master.o.max_connections, "4096", 4, 1000000,
	 "connections at once"},
	{"log_level", CONF_STRING, &master.o.log_level, "info", 0, 0, "error, warn, info or debug"},
	{"name", CONF_STRING, &master.o.name, "master", 0, 0, "shown in the log"},
	{"check", CONF_BOOL, &master.o.check, "no", 0, 0,
	 "check the database of a master that does not run: exit status 0 it is sound, 1 something "
	 "is wrong (a line for each), 2 it could not be checked"},
	{"lease", CONF_TIME, &master.o.lease_ms, "5s", 200, 600000,
	 "how long a client may answer from memory without having heard from the master"},
	{"lease_quarantine", CONF_TIME, &master.o.lease_quarantine_ms, "300s", 0, 86400000,
	 "how long files are not cached that a lost client was writing: data on its way may be late"},
	{"lease_max", CONF_INT, &master.o.lease_max, "2000000", 100, 100000000,
	 "leases kept at most; the oldest are recalled"},
	{"orphan_linger", CONF_TIME, &master.o.orphan_linger_ms, "10s", 0, 3600000,
	 "how long a file that lost its last name can still be opened by other clients"},
	{"token_life", CONF_TIME, &master.o.token_life_ms, "10m", 500, 86400000,
	 "how long a client may use what it was told of a chunk's place before it asks again; the keys of "
	 "access tokens change as often"},
	PRIVS_OPTIONS(&master.o.user, &master.o.core_dumps),
	AUDIT_OPTIONS(&master.o.audit_bytes, &master.o.audit_keep),
	{"buffer_room", CONF_SIZE, &master.o.buffer_free_min, "256M", 0, INT64_MAX,
	 "while a server, or the quota of a file, has less room than this, clients hold no writes back: "
	 "that it is full is told by write(2) itself"},
	{"json", CONF_BOOL, &master.o.json, "no", 0, 0, "with --check: output for programs"},
	{"export", CONF_STRING, &master.o.export_file, NULL, 0, 0,
	 "write the database of a master that does not run to this file (-: standard output)"},
	{"import", CONF_STRING, &master.o.import_file, NULL, 0, 0,
	 "make the database from such a file or one of `cairn backup` (-: standard input), in an "
	 "empty data_dir; the master then keeps all that servers have and it does not know, until "
	 "`cairn hold off`"},
	{0},
};
static const struct conf master_conf = {
	.program = "cairn-master", .section = "master",
	.default_path = "/etc/cairn/master.conf",
	.usage = "cairn-master [OPTION...]: keeps a cluster's names and chunk locations.",
	.options = master_option_rows,
};

/* ---- what the log asks for ---- */

static int log_apply(void *arg, uint64_t index, struct slice entry, struct apply_result *ret,
		     struct err *err)
{
	struct master *m = arg;
	int r;

	FAULT_POINT(MASTER_APPLY, "");
	r = apply_entry(m->st, index, entry, ret, err);

	if (r >= 0 && index > m->applied)
		m->applied = index;
	return r;
}

static int log_wait_durable(void *arg, uint64_t index)
{
	struct master *m = arg;
	return store_wait_durable(m->store, index);
}

/* ---- state to disk ---- */

static void on_written(uv_async_t *async)
{
	struct master *m = async->data;
	struct err err = {0};

	if (batch_ended(m, &err) < 0) {
		log_error("%s", err_message(&err));
		exit(1);
	}
}

static void wake_loop(void *arg)
{
	struct master *m = arg;
	uv_async_send(&m->written);
}

static void on_flush(uv_prepare_t *prepare)
{
	struct master *m = prepare->data;

	if (m->ready && !m->stopping)
		rpc_client_flush(m);
	batch_push(m);
	if (m->ready && !m->stopping && m->repair.due && hold_open(m))
		repair_pick(m);
	if (m->server)
		server_pause(m->server, state_active_bytes(m->st) > ACTIVE_BYTES_MAX);
	if (m->server)
		server_flush(m->server);
}

/* ---- messages ---- */

static void on_message(void *arg, struct peer *peer, const struct wire_header *h,
		       struct slice fields)
{
	struct master *m = arg;

	if (!m->ready || m->stopping)
		peer_fail(peer, h, ERR_NOT_LEADER, m->stopping ? "the master is stopping"
							       : "the master is starting");
	else if (peer->auth.peer_role == ROLE_CHUNKSERVER)
		rpc_cs_message(m, peer, h, fields);
	else if (peer->auth.peer_role == ROLE_CLIENT || peer->auth.peer_role == ROLE_ADMIN)
		rpc_client_message(m, peer, h, fields);
	else
		peer_close(peer, "has no role here");
}

static void on_gone(void *arg, struct peer *peer)
{
	struct cs *cs = peer->owner;

	rpc_recovery_gone(&master, peer);
	rpc_lock_gone(&master, peer);
	rpc_lease_gone(&master, peer);
	if (!cs)
		return;
	log_warn("chunkserver %s (%u): connection lost", cs->addr, cs->id);
	cs_unlink(cs);
}

/* ---- life ---- */

static void closed_all(struct master *m);

static void on_tick(uv_timer_t *timer)
{
	struct master *m = timer->data;

	m->ticks++;
	if (m->stopping) {
		closed_all(m);
		return;
	}
	csreg_tick(&m->servers);
	if (!m->ready)
		return;
	if (tokens_tick(&m->tokens, clock_ms()) < 0)
		log_error("no random bytes for a new key of access tokens");
	session_tick(m);
	rpc_lease_tick(m);
	hold_tick(m);
	if (!hold_open(m))
		return;
	raise_tick(m);
	rpc_client_tick(m);
	rpc_recovery_tick(m);
	rpc_lock_tick(m);
	repair_tick(m);
	compare_tick(m);
}

static void on_log_closed(void *arg)
{
	struct master *m = arg;
	m->log_closed = true;
}

/* Stopping, step by step, looked at in every tick: connections are closed, what was proposed has
 * ended, the state is written, the log is closed; then the loop has nothing left and ends. */
static void closed_all(struct master *m)
{
	if (m->in_flight > 0 || !store_idle(m->store))
		return;
	batch_push(m);
	if (!store_idle(m->store))
		return;
	if (!m->log_closing) {
		m->log_closing = true;
		rlog_close(m->log, on_log_closed, m);
		return;
	}
	if (!m->log_closed)
		return;
	uv_close((uv_handle_t *)&m->tick, NULL);
	uv_close((uv_handle_t *)&m->written, NULL);
	uv_close((uv_handle_t *)&m->flush, NULL);
}

/* Certificates and the list of revoked ones, anew. */
static void on_hangup(uv_signal_t *signal, int signum)
{
	struct master *m = signal->data;
	struct err err = {0};

	if (!m->cred.tls)
		return;
	if (tls_reload(m->cred.tls, &err) < 0)
		log_error("credentials are not reloaded: %s", err_message(&err));
	else
		log_info("credentials reloaded");
}

static void on_signal(uv_signal_t *signal, int signum)
{
	struct master *m = signal->data;

	if (m->stopping)
		return;
	log_info("stopping");
	m->stopping = true;
	if (m->server)
		server_close(m->server);
	for (size_t i = 0; i < ARRAY_LEN(m->signals); i++)
		uv_close((uv_handle_t *)&m->signals[i], NULL);
}

static void fatal(const char *what)
{
	log_error("%s", what);
	exit(1);
}

static void on_policy_set(struct master *m, void *arg, struct apply_result *result)
{
	if (result && result->status < 0)
		log_warn("replicas = %lld is not taken over: %s", (long long)m->o.replicas,
			 result->text);
}

static void serve(struct master *m)
{
	static const struct server_handlers handlers = {on_message, on_gone, &master};
	_cleanup_buf_ struct buf backing = {0};
	struct cmd_set_policy policy = {.copies = (uint32_t)m->o.replicas};
	struct row_policy row;
	struct err err = {0};

	if (tokens_init(&m->tokens, m->o.token_life_ms, clock_ms()) < 0)
		fatal("no random bytes");
	csreg_init(&m->servers, m->o.dead_after_ms);
	m->servers.overdue_ms = csreg_heartbeat_ms(&m->servers, m->o.heartbeat_ms) * 11 / 10;
	if (session_load(m, &err) < 0 || rpc_cs_load(m, &err) < 0 ||
	    server_open(m->loop, m->listen_fd, m->addr, &m->cred, m->o.max_connections, &handlers,
			&m->server, &err) < 0)
		fatal(err_message(&err));
	m->ready = true;
	if (hold_start(m) < 0)
		fatal("reading the state failed");
	if (hold_open(m) && raise_resume(m) < 0)
		fatal("reading the pending raises failed");
	if (state_get_row_policy(m->st, key_policy(0), &row, &backing) == 1 &&
	    row.copies != policy.copies)
		master_propose(m, CMD_NUMBER_SET_POLICY, &policy, on_policy_set, NULL);
	log_info("ready on %s, entry %llu", m->addr, (unsigned long long)m->applied);
}

static void on_formatted(struct master *m, void *arg, struct apply_result *result)
{
	if (!result || result->status < 0)
		fatal("a new cluster could not be set up");
	if (!m->stopping)
		serve(m);
}

/* All old entries are applied. */
static void on_log_ready(void *arg)
{
	struct master *m = arg;
	_cleanup_buf_ struct buf backing = {0};
	uint8_t random[UUID_BYTES + HASH_KEY_BYTES];
	struct cmd_format cmd = {.copies = (uint32_t)m->o.replicas};
	struct row_meta meta;

	if (m->stopping)
		return;
	if (ns_meta(m->st, &meta, &backing) == 0 && meta.next_inode) {
		serve(m);
		return;
	}
	if (RAND_bytes(random, sizeof(random)) != 1)
		fatal("no random bytes");
	cmd.cluster = slice_of(random, UUID_BYTES);
	cmd.hash_key = slice_of(random + UUID_BYTES, HASH_KEY_BYTES);
	log_info("new cluster, %u replicas", cmd.copies);
	master_propose(m, CMD_NUMBER_FORMAT, &cmd, on_formatted, NULL);
}

/* Makes a directory if it is absent; its name is on stable storage then. */
static int make_dir(const char *path, struct err *err)
{
	char parent[PATH_MAX];
	int r;

	if (mkdir(path, 0700) < 0)
		return errno == EEXIST ? 0 : err_set_errno(err, errno, "data directory %s", path);
	snprintf(parent, sizeof(parent), "%s/..", path);
	r = io_real.sync_dir(&io_real, parent);
	return r < 0 ? err_set(err, r, "sync of %s: %s", parent, err_text(r)) : 0;
}

static int open_state(struct master *m, struct err *err)
{
	_cleanup_buf_ struct buf backing = {0};
	char db[PATH_MAX];
	struct row_meta meta;
	int r;

	if (strlen(m->o.data_dir) > PATH_MAX - 16)
		return err_set(err, ERR_CONFIG, "data_dir: too long");
	snprintf(db, sizeof(db), "%s/db", m->o.data_dir);
	r = make_dir(m->o.data_dir, err);
	if (r == 0)
		r = offline_unfinished(&m->o, err);
	if (r == 0)
		r = make_dir(db, err);
	if (r == 0)
		r = store_open(db, STORE_MAKE, m->o.cache_bytes, &m->store, err);
	if (r == 0)
		r = state_new(store_base(m->store), &m->st);
	if (r < 0)
		return r;
	r = ns_meta(m->st, &meta, &backing);
	if (r < 0 && r != ERR_NOENT)
		return err_set(err, r, "database %s: %s", db, err_text(r));
	m->applied = r == 0 ? meta.applied : 0;
	if (r == 0 && schema_level_check(&meta, db, err) < 0)
		return ERR_VERSION;
	return store_start(m->store, m->applied, wake_loop, m, err);
}

static int open_log(struct master *m, struct err *err)
{
	char dir[PATH_MAX];
	struct rlog_options options = {.loop = m->loop, .dir = dir, .applied = m->applied,
				       .apply = log_apply, .wait_durable = log_wait_durable,
				       .arg = m};
	int r;

	snprintf(dir, sizeof(dir), "%s/raft", m->o.data_dir);
	r = make_dir(dir, err);
	return r < 0 ? r : rlog_open(&options, on_log_ready, &m->log, err);
}

/* What only root may do, if that is who started us; then its rights are given up. */
static int take_and_drop(struct master *m, struct err *err)
{
	int r = 0;

	if (!offline_wanted(&m->o)) {
		r = cred_load(&m->cred, m->o.credentials, m->o.transport, 1 << ROLE_MASTER, m->o.name,
			      err);
		m->cred.allow_plaintext = m->o.allow_plaintext;
		if (r == 0)
			r = conn_bind(m->o.listen, &m->listen_fd, m->addr, err);
	}
	if (r == 0 && !offline_wanted(&m->o))
		r = cred_check_listener(&m->cred, m->listen_fd, m->addr, err);
	if (r == 0)
		r = privs_make_dir(m->o.user, m->o.data_dir, err);
	if (r == 0)
		r = privs_drop(m->o.user, m->o.core_dumps, err);
	return r < 0 ? r : cred_check_user(&m->cred, m->o.credentials, m->o.user, err);
}

static void open_loop(struct master *m)
{
	static const struct { int number; uv_signal_cb call; } signals[] = {
		{SIGTERM, on_signal}, {SIGINT, on_signal}, {SIGHUP, on_hangup}};

	m->loop = uv_default_loop();
	uv_async_init(m->loop, &m->written, on_written);
	uv_timer_init(m->loop, &m->tick);
	uv_prepare_init(m->loop, &m->flush);
	m->written.data = m->tick.data = m->flush.data = m;
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		uv_signal_init(m->loop, &m->signals[i]);
		m->signals[i].data = m;
		uv_signal_start(&m->signals[i], signals[i].call, signals[i].number);
	}
	uv_timer_start(&m->tick, on_tick, MASTER_TICK_MS, MASTER_TICK_MS);
	uv_prepare_start(&m->flush, on_flush);
	signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
	struct master *m = &master;
	enum log_level level;
	struct err err = {0};
	int r = conf_load(&master_conf, argc, argv, NULL, &err);

	if (r > 0)
		return 0;
	if (r == 0 && log_level_parse(m->o.log_level, &level) < 0)
		r = err_set(&err, ERR_CONFIG, "log_level: \"%s\" is none of error, warn, info, debug",
			    m->o.log_level);
	if (r == 0 && m->o.heartbeat_ms * 2 > m->o.dead_after_ms)
		r = err_set(&err, ERR_CONFIG, "dead_after: less than two heartbeats");
	/* A server that still may serve has been told of a key before it signs. */
	if (r == 0 && m->o.token_life_ms < m->o.dead_after_ms)
		r = err_set(&err, ERR_CONFIG, "token_life: shorter than dead_after");
	if (r == 0) {
		log_setup(m->o.name, level);
		r = fault_setup(m->o.name, &err);
	}
	if (r == 0)
		r = take_and_drop(m, &err);
	if (r == 0 && offline_wanted(&m->o))
		return offline_run(&m->o);
	if (r == 0) {
		privs_raise_files();
		open_loop(m);
		r = open_state(m, &err);
	}
	if (r == 0)
		r = audit_open(m->o.data_dir, m->o.audit_bytes, m->o.audit_keep, &err);
	if (r == 0)
		r = open_log(m, &err);
	if (r < 0) {
		log_error("%s", err_message(&err));
		return offline_wanted(&m->o) ? OFFLINE_FAILED : 1;
	}
	uv_run(m->loop, UV_RUN_DEFAULT);
	rlog_free(m->log);
	raise_free_all(m);
	rpc_client_free(m);
	rpc_recovery_free(m);
	rpc_lock_free(m);
	hold_free(m);
	repair_free(m);
	compare_free(m);
	session_free_all(m);
	csreg_free(&m->servers);
	tokens_clear(&m->tokens);
	state_free(m->st);
	store_close(m->store);
	server_free(m->server);
	audit_close();
	cred_release(&m->cred);
	conf_release(&master_conf);
	uv_loop_close(m->loop);
	log_info("stopped");
	return m->exit_status;
}
