/* The simulation of the master's decisions: seeds, and what goes wrong in each.
 *
 *     SEED=N    the first seed (default 1)          SEEDS=N   how many (default 200)
 *     STEPS=N   events before things calm down      TRACE=1   tells what happens
 *     LEAVE_OUT=master.lease.recall, .busy, .behind, .grace: must be found
 *     SECONDS=N goes on for so long instead of SEEDS
 *
 * Prints one line per result; the exit status is 1 when anything did not hold. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/fault.h"
#include "tests/sim/sim.h"

struct sim sim;

enum { COMMIT_MAX_MS = 6, CHAOS_MAX_MS = 250, STEPS_DEFAULT = 4500, CALM_MS = 1800000,
       LOOK_MS = 2000, SCHEMA_EVERY_COMMITS = 50, LOST_ANSWER_ONE_IN = 100, PING_MS = 3000, LEASE_PING_MS = 700 };

/* ---- the master's life ---- */

static bool commit_waits;

static void commit(void *arg, uint64_t n)
{
	commit_waits = false;
	for (unsigned k = 1 + fake_draw(4); k > 0 && sim.master_up && fake_log_commit(); k--)
		;
}

static void tick(void *arg, uint64_t restarts)
{
	struct master *m = &sim.m;

	if (restarts != sim.count.restarts || !sim.master_up)
		return;
	m->ticks++;
	csreg_tick(&m->servers);
	raise_tick(m);
	rpc_client_tick(m);
	session_tick(m);
	rpc_lease_tick(m);
	repair_tick(m);
	compare_tick(m);
	sim_after(MASTER_TICK_MS, tick, NULL, restarts);
}

static void master_start(void *arg, uint64_t n)
{
	struct master *m = &sim.m;
	struct err err = {0};

	if (sim.master_up)
		return;
	csreg_init(&m->servers, m->o.dead_after_ms);
	m->servers.overdue_ms = csreg_heartbeat_ms(&m->servers, m->o.heartbeat_ms) * 11 / 10;
	if (session_load(m, &err) < 0 || rpc_cs_load(m, &err) < 0)
		sim_fail("%s", err.text);
	m->ready = true;
	sim.master_up = true;
	if (raise_resume(m) < 0)
		sim_fail("reading the pending raises");
	sim_after(MASTER_TICK_MS, tick, NULL, sim.count.restarts);
}

/* All that it had in memory is gone; of what it had proposed the log kept the first so many. */
static void master_stop(void)
{
	struct master *m = &sim.m;

	sim_trace("the master dies");
	m->stopping = true;
	fake_log_crash(fake_draw(fake_log_waiting() + 1));
	sim_net_master_gone();
	raise_free_all(m);
	rpc_client_free(m);
	repair_free(m);
	compare_free(m);
	session_free_all(m);
	csreg_free(&m->servers);
	*m = (struct master){.o = m->o, .st = m->st, .applied = m->applied};
	sim.master_up = false;
	sim.count.restarts++;
}

static void master_new(void)
{
	static uint8_t id[UUID_BYTES];
	struct cmd_format format = {.cluster = slice_of(id, UUID_BYTES), .copies = sim.copies,
				    .hash_key = slice_of(id, HASH_KEY_BYTES)};

	sim.m.o = (struct master_options){
		.replicas = sim.copies, .heartbeat_ms = 1000, .dead_after_ms = 5000,
		.session_ttl_ms = 15000, .raise_timeout_ms = 3000, .repair_max = 4,
		.repair_per_server = 2,
		.compare_period_ms = 60000,
		.garbage_grace_ms = fake_draw(2) ? 0 : 15000,
		.lease_ms = 3000, .lease_quarantine_ms = 40000, .lease_max = fake_draw(4) ? 1000 : 20,
		.orphan_linger_ms = 2000,
		.balance_threshold = 10, .balance_max = 2,
		.repair_delay_ms = fake_draw(2) ? 20000 : 6000};
	fake_log_open(&sim.m);
	master_propose_quietly(&sim.m, CMD_NUMBER_FORMAT, &format);
	fake_log_commit();
	master_start(NULL, 0);
}

/* ---- what goes wrong ---- */

static struct sim_server *some_server(void)
{
	return &sim.servers[fake_draw(sim.n_servers)];
}

static void server_starts(void *arg, uint64_t life)
{
	struct sim_server *s = arg;
	if (s->life == life)
		sim_server_start(s);
}

static void stop_server(struct sim_server *s, enum sim_stop how)
{
	static const char *const words[] = {"is stopped", "is killed", "loses power"};

	if (!s->running || !sim_may_stop(s, how) || !sim_may_be_away(s))
		return;
	sim_trace("server %u %s", s->id, words[how]);
	sim_server_stop(s, how);
	sim.count.crashes++;
	sim_after(200 + fake_draw(fake_draw(3) ? 4000 : 40000), server_starts, s, s->life);
}

/* Its disks are gone. It comes back empty, or never. */
static void lose_server(struct sim_server *s)
{
	unsigned left = 0;
	bool back = fake_draw(2);

	for (unsigned i = 0; i < sim.n_servers; i++)
		left += !sim.servers[i].gone;
	if (s->gone || !sim_may_lose(s) || (!back && left <= sim.copies + 1))
		return;
	sim_trace("server %u loses its disks%s", s->id, back ? "" : ", for good");
	if (s->running)
		sim_server_stop(s, STOP_KILL);
	for (unsigned i = 1; i < SIM_CHUNKS_MAX; i++) {
		s->slots[i].r = (struct fake_replica){.epoch = s->slots[i].r.epoch + 1,
						      .changes = s->slots[i].r.changes + 1};
		sim_touched(i);
	}
	s->gone = !back;
	sim.count.lost++;
	if (back)
		sim_after(1000 + fake_draw(20000), server_starts, s, s->life);
}

/* What rots is found in time. */
static void scrub(void *arg, uint64_t n)
{
	struct sim_server *s = arg;

	for (uint64_t chunk = 1; s->running && chunk < SIM_CHUNKS_MAX; chunk++)
		if (s->slots[chunk].r.present && fake_rotten(&s->slots[chunk].r))
			sim_server_damaged(s, chunk);
	if (!s->running && !s->gone)
		sim_after(3000, scrub, s, 0);
}

static void rot_block(struct sim_server *s)
{
	uint64_t chunk = 1 + fake_draw(SIM_CHUNKS_MAX - 1);
	struct fake_replica *r;

	while (chunk < SIM_CHUNKS_MAX && !s->slots[chunk].r.present)
		chunk++;
	if (chunk == SIM_CHUNKS_MAX || !sim_may_rot(s, chunk))
		return;
	r = &s->slots[chunk].r;
	r->rotten[fake_draw(REPLICA_BLOCKS)] = true;
	sim_touched(chunk);
	sim_trace("server %u: chunk %llu rots", s->id, (unsigned long long)chunk);
	if (s->running && fake_draw(2))
		sim_server_damaged(s, chunk);
	else
		sim_after(3000, scrub, s, 0);
}

static void stall(struct sim_server *s)
{
	int64_t until = fake_ms + fake_draw(8000);

	if (!s->conn || !sim_may_be_away(s))
		return;
	if (fake_draw(2))
		s->conn->stall_up_ms = until;
	else
		s->conn->stall_down_ms = until;
}

static void move_server(struct sim_server *s)
{
	if (s->running || s->gone)
		return;
	snprintf(s->addr, sizeof(s->addr), "10.0.1.%u:%u", s->n + 1, 7000 + fake_draw(1000));
}

/* As an administrator does it; the wish is a row of the state. */
static void drain_server(const struct sim_server *s, bool draining)
{
	if (s->id && !s->gone)
		sim_client_drain(&sim.clients[fake_draw(SIM_CLIENTS)], s->id, draining);
}

static void master_restarts(void)
{
	master_stop();
	sim_after(100 + fake_draw(fake_draw(4) ? 2000 : 20000), master_start, NULL, 0);
}

static void something_goes_wrong(void)
{
	struct sim_server *s = some_server();
	unsigned n = fake_draw(100);

	if (n < 22) {
		stop_server(s, n < 6 ? STOP_CLEAN : n < 16 ? STOP_KILL : STOP_POWER);
	} else if (n < 36) {
		if (s->running && !sim_frozen(s) && sim_may_be_away(s)) {
			s->frozen_ms = fake_ms + 200 + fake_draw(fake_draw(2) ? 2000 : 15000);
			sim_trace("server %u freezes until %.3f", s->id,
				  (double)s->frozen_ms / 1000);
		}
	} else if (n < 48) {
		if (s->conn && sim_may_be_away(s)) {
			struct sim_conn *c = s->conn;
			sim_trace("server %u loses its link", s->id);
			sim_disconnect(c, fake_draw(2));
			sim_server_unlinked(s, c);
		}
	} else if (n < 58) {
		stall(s);
	} else if (n < 63) {
		lose_server(s);
	} else if (n < 68) {
		if (sim.n_servers < SIM_SERVERS_MAX)
			sim_server_add();
	} else if (n < 76) {
		rot_block(s);
	} else if (n < 80) {
		s->full = !s->full;
	} else if (n < 82) {
		drain_server(s, fake_draw(3) == 0);
	} else if (n < 84) {
		move_server(s);
	} else if (n < 90) {
		sim_client_die(&sim.clients[fake_draw(SIM_CLIENTS)]);
	} else if (n < 94 && sim.master_up) {
		master_restarts();
	}
}

static void chaos(void *arg, uint64_t n)
{
	if (sim.calm)
		return;
	for (unsigned i = 0; i < 2; i++)
		sim_client_act(&sim.clients[fake_draw(SIM_CLIENTS)]);
	for (unsigned i = 0; i < 6; i++)
		sim_cacher_act();
	if (fake_draw(5) == 0)
		something_goes_wrong();
	if (fake_draw(25) == 0)
		sim_cacher_trouble();
	sim_after(1 + fake_draw(CHAOS_MAX_MS), chaos, NULL, 0);
}

static void ping(void *arg, uint64_t n)
{
	for (unsigned i = 0; i < SIM_CLIENTS && !sim.calm; i++)
		sim_client_ping(&sim.clients[i]);
	sim_after(PING_MS, ping, NULL, 0);
}

static void lease_ping(void *arg, uint64_t n)
{
	sim_cacher_ping();
	sim_after(LEASE_PING_MS, lease_ping, NULL, 0);
}

/* ---- calm ---- */

/* Every server tells once more what it has. */
static void report_all(void *arg, uint64_t n)
{
	for (unsigned i = 0; i < sim.n_servers; i++) {
		struct sim_conn *c = sim.servers[i].conn;
		if (!c)
			continue;
		sim_disconnect(c, false);
		sim_server_unlinked(&sim.servers[i], c);
	}
}

static void drain_none(void *arg, uint64_t n)
{
	for (unsigned i = 0; i < sim.n_servers; i++)
		if (sim.servers[i].id &&
		    !sim_client_drain(&sim.clients[0], sim.servers[i].id, false)) {
			sim_after(1000, drain_none, NULL, 0);
			return;
		}
}

static void calm_down(void)
{
	sim_trace("all calm from here on");
	sim.calm = true;
	if (!sim.master_up)
		sim_after(500, master_start, NULL, 0);
	for (unsigned i = 0; i < sim.n_servers; i++) {
		struct sim_server *s = &sim.servers[i];
		s->full = false;
		sim_server_start(s);
	}
	for (unsigned i = 0; i < SIM_CLIENTS; i++)
		if (fake_draw(2))
			sim_client_die(&sim.clients[i]);
	for (unsigned i = 0; i < sim.n_servers; i++)
		sim_after(30000, scrub, &sim.servers[i], 0);
	/* Twice: a copy that runs while the link breaks is put in place all the same, and told of
	 * the next time. */
	sim_after(60000, report_all, NULL, 0);
	sim_after(400000, report_all, NULL, 0);
	sim_after(3000, drain_none, NULL, 0);
}

/* ---- one seed ---- */

static void after_step(void)
{
	static uint64_t checked;

	if (!commit_waits && sim.master_up && fake_log_waiting() > 0) {
		commit_waits = true;
		sim_after(fake_draw(COMMIT_MAX_MS), commit, NULL, 0);
	}
	/* Who asked for a change that the log keeps hears nothing of it. */
	if (sim.master_up && !sim.calm && fake_log_waiting() > 0 && sim_cacher_may_lag() &&
	    fake_draw(LOST_ANSWER_ONE_IN) == 0)
		master_restarts();
	if (sim.master_up)
		rpc_client_flush(&sim.m);
	sim_check_step();
	sim_cachers_check();
	if (sim.commits / SCHEMA_EVERY_COMMITS != checked) {
		checked = sim.commits / SCHEMA_EVERY_COMMITS;
		sim_check_schema();
	}
}

static void set_up(uint64_t seed, bool tracing)
{
	sim = (struct sim){.seed = seed, .tracing = tracing, .count = sim.count};
	fake_seed(seed);
	fake_ms = 1000000;
	commit_waits = false;
	sim_net_hooks();
	sim.copies = 2 + fake_draw(2);
	sim.racks = 1 + fake_draw(3);
	master_new();
	for (unsigned n = sim.copies + 1 + fake_draw(3); n > 0; n--)
		sim_server_add();
	for (unsigned i = 0; i < SIM_CLIENTS; i++)
		sim.clients[i].n = i;
	sim_after(5000, chaos, NULL, 0);
	sim_after(PING_MS, ping, NULL, 0);
	sim_after(LEASE_PING_MS, lease_ping, NULL, 0);
}

static void tear_down(void)
{
	sim_cachers_clear();
	for (unsigned i = 0; i < SIM_CLIENTS; i++)
		sim_client_die(&sim.clients[i]);
	master_stop();
	fake_log_close();
	state_free(sim.m.st);
	sim_write_clear();
	sim_net_clear();
}

static bool clients_idle(void)
{
	for (unsigned i = 0; i < SIM_CLIENTS; i++)
		if (!sim_client_idle(&sim.clients[i]))
			return false;
	return sim_cachers_idle();
}

static void run_seed(uint64_t seed, uint64_t steps, bool tracing)
{
	const char *why = NULL;
	int64_t end, look;

	set_up(seed, tracing);
	while (sim.steps < steps && sim_step(INT64_MAX))
		after_step();
	calm_down();
	end = fake_ms + CALM_MS;
	for (look = fake_ms + LOOK_MS; look < end; look += LOOK_MS) {
		while (sim_step(look))
			after_step();
		why = clients_idle() ? sim_check_rest() : "clients are not done";
		if (!why)
			break;
	}
	if (why)
		sim_fail("not at rest after %d s of calm: %s", CALM_MS / 1000, why);
	sim_check_schema();
	tear_down();
}

static uint64_t option(const char *name, uint64_t value)
{
	const char *text = getenv(name);
	return text && *text ? strtoull(text, NULL, 0) : value;
}

static void on_abort(int signum)
{
	fprintf(stderr, "not ok - seed %llu at step %llu: signal %d\n",
		(unsigned long long)sim.seed, (unsigned long long)sim.steps, signum);
	_exit(1);
}

/* A step of the protocol that is not done, by the name of its fault point: the checks must notice. */
static void leave_out(const char *name)
{
	static struct fault_map map;
	struct fault_slot slot = {.action = FAULT_DO_ERROR, .nth = 1, .times = FAULT_FOR_EVER};

	if (!name || !*name)
		return;
	slot.point = fault_point_find(name);
	if (slot.point == FAULT_POINTS || fault_arm(&map, &slot) < 0)
		sim_fail("no fault point %s", name);
	fault_map = &map;
}

int main(void)
{
	uint64_t seed = option("SEED", 1), seeds = option("SEEDS", 200), first = seed;
	uint64_t steps = option("STEPS", STEPS_DEFAULT), seconds = option("SECONDS", 0);
	bool tracing = option("TRACE", 0);
	struct timespec begun, now;
	double spent;

	leave_out(getenv("LEAVE_OUT"));
	signal(SIGABRT, on_abort);
	signal(SIGSEGV, on_abort);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	do {
		run_seed(seed++, steps, tracing);
		clock_gettime(CLOCK_MONOTONIC, &now);
		spent = (double)(now.tv_sec - begun.tv_sec) +
			(double)(now.tv_nsec - begun.tv_nsec) / 1e9;
	} while (seconds ? spent < (double)seconds : seed < first + seeds);
	printf("ok - seeds %llu to %llu in %.1f s, %.0f a minute\n", (unsigned long long)first,
	       (unsigned long long)seed - 1, spent, (double)(seed - first) / spent * 60);
	printf("# %llu writes acknowledged, %llu reads, %llu raises, %llu deletions; %llu server "
	       "stops, %llu disks lost, %llu master restarts\n",
	       (unsigned long long)sim.count.acked, (unsigned long long)sim.count.reads,
	       (unsigned long long)sim.count.raised, (unsigned long long)sim.count.deleted,
	       (unsigned long long)sim.count.crashes, (unsigned long long)sim.count.lost,
	       (unsigned long long)sim.count.restarts);
	printf("# leases: %llu answers from memory, %llu writes under W, %llu recalls answered\n",
	       (unsigned long long)sim.count.hits, (unsigned long long)sim.count.data,
	       (unsigned long long)sim.count.recalls);
	return 0;
}
