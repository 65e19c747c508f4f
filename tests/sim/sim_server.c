/* Chunkservers: what chunkserver/link.c and store.c do, seen from outside. Commands are taken by a
 * few workers and last a while; one that runs when the link breaks still has its effect, but nobody
 * hears of it. A copy connects, reads the source's table, fetches what differs and is put in place,
 * each some time after the other. */
#include <stdio.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "tests/sim/sim.h"

enum { HEARTBEAT_MS = 1000, SYNC_MS = 3000, RECONNECT_MAX_MS = 2000, PULL_DIAL_MS = 10000 };

struct sim_command {
	struct sim_server *server;
	struct sim_conn *conn;
	uint64_t life;
	struct wire_header h;
	struct buf_copy {
		uint32_t len;
		uint8_t *data;
	} fields;
	struct wire_chunk_pull pull;
	int read_code; /* of a pull: how reading the source went */
	/* The source's table, with blocks as they were when they were fetched; what was here. */
	struct fake_replica read, own;
	uint32_t *changes; /* of each replica, when the command came */
	struct sim_command *prev, *next;
};

struct sim_server *sim_server_of(uint32_t id)
{
	for (unsigned i = 0; i < sim.n_servers; i++)
		if (sim.servers[i].id == id && id)
			return &sim.servers[i];
	return NULL;
}

/* ---- requests to the master ---- */

static uint64_t request(struct sim_server *s, uint16_t op, const void *record)
{
	_cleanup_buf_ struct buf out = {0};

	if (!s->conn || wire_put_request(&out, op, ++s->next_id, 0, record, 0) < 0)
		return 0;
	sim_send_up(s->conn, &out);
	return s->next_id;
}

/* One that the registration waits for. */
static void call(struct sim_server *s, enum sim_stage stage, uint16_t op, const void *record)
{
	s->stage = stage;
	s->call_id = request(s, op, record);
}

static struct wire_have have_of(const struct sim_server *s, uint64_t chunk)
{
	const struct fake_replica *r = &s->slots[chunk].r;
	return (struct wire_have){.id = chunk, .version = r->version,
				  .flags = (uint8_t)((r->unclean ? HAVE_UNCLEAN : 0) |
						     (r->damaged ? HAVE_DAMAGED : 0) |
						     (r->in_doubt ? HAVE_IN_DOUBT : 0) |
						     (r->unclean && r->lossy ? HAVE_LOSSY : 0))};
}

void sim_server_tells(struct sim_server *s, uint64_t chunk)
{
	_cleanup_buf_ struct buf list = {0};
	struct wire_have have;
	struct wire_cs_damage m;

	have = have_of(s, chunk);
	WIRE_LIST_PUT(wire_have, &list, &have);
	m.have = buf_slice(&list);
	request(s, OP_CS_DAMAGE, &m);
}

void sim_server_damaged(struct sim_server *s, uint64_t chunk)
{
	s->slots[chunk].r.damaged = true;
	sim_server_tells(s, chunk);
}

void sim_server_fault(struct sim_server *s, uint64_t chunk, uint32_t version, uint32_t server,
		      int reason)
{
	struct wire_chunk_fault m = {.chunk = chunk, .version = version, .server = server,
				     .writing = 1, .reason = reason};
	request(s, OP_CHUNK_FAULT, &m);
}

static void heartbeat_fields(const struct sim_server *s, struct wire_cs_heartbeat *ret)
{
	*ret = (struct wire_cs_heartbeat){.total_bytes = 1ull << 40, .disks = 1,
					  .free_bytes = s->full ? 0 : 1ull << (30 + s->n % 3)};
	for (unsigned i = 0; i < SIM_CHUNKS_MAX; i++)
		ret->chunks += s->slots[i].r.present;
}

/* ---- registration ---- */

static void connect_again(void *arg, uint64_t life);

static void connect_later(struct sim_server *s)
{
	sim_after(100 + fake_draw(RECONNECT_MAX_MS), connect_again, s, s->life);
}

static void heartbeat(void *arg, uint64_t life)
{
	struct sim_server *s = arg;
	struct wire_cs_heartbeat m;

	if (life != s->life || s->stage != STAGE_UP)
		return;
	if (!sim_frozen(s)) {
		heartbeat_fields(s, &m);
		request(s, OP_CS_HEARTBEAT, &m);
	}
	sim_after(HEARTBEAT_MS, heartbeat, s, life);
}

static void connect_again(void *arg, uint64_t life)
{
	struct sim_server *s = arg;
	struct wire_cs_register m = {.uuid = slice_of(s->uuid, UUID_BYTES),
				     .addr = slice_str(s->addr), .rack = slice_str(s->rack),
				     .host = slice_str(s->host)};

	if (life != s->life || s->conn)
		return;
	if (!sim_frozen(s))
		s->conn = sim_connect(s, NULL);
	if (s->conn)
		call(s, STAGE_REGISTER, OP_CS_REGISTER, &m);
	else
		connect_later(s);
}

static void send_digest(struct sim_server *s)
{
	_cleanup_free_ struct wire_cs_digest *m = calloc(1, sizeof(*m));

	if (!m)
		sim_fail("out of memory");
	s->n_list = 0;
	s->list = sim_alloc(SIM_CHUNKS_MAX * sizeof(*s->list));
	m->last = 1;
	for (unsigned i = 1; i < SIM_CHUNKS_MAX; i++) {
		struct wire_have have = have_of(s, i);
		if (!s->slots[i].r.present)
			continue;
		s->list[s->n_list++] = have;
		m->n_ranges = 1;
		m->ranges[0].count++;
		m->ranges[0].digest ^= wire_have_digest(have.id, have.version, have.flags);
	}
	call(s, STAGE_DIGEST, OP_CS_DIGEST, m);
}

static void send_report(struct sim_server *s)
{
	_cleanup_buf_ struct buf list = {0};
	struct wire_cs_report m = {0};

	for (unsigned i = 0; i < s->n_list; i++)
		WIRE_LIST_PUT(wire_have, &list, &s->list[i]);
	m.have = buf_slice(&list);
	call(s, STAGE_REPORT, OP_CS_REPORT, &m);
}

static void registration_goes_on(struct sim_server *s, struct slice fields)
{
	_cleanup_free_ struct wire_cs_digest_reply *differ = NULL;
	struct cursor c = cursor_slice(fields);
	struct wire_cs_registered registered;
	struct wire_cs_heartbeat space;
	struct wire_empty empty;

	switch (s->stage) {
	case STAGE_REGISTER:
		if (wire_cs_registered_get(&c, &registered) < 0 ||
		    (s->id && s->id != registered.server))
			sim_fail("server %u was registered as %u", s->id, registered.server);
		s->id = registered.server;
		heartbeat_fields(s, &space);
		call(s, STAGE_SPACE, OP_CS_HEARTBEAT, &space);
		break;
	case STAGE_SPACE:
		send_digest(s);
		break;
	case STAGE_DIGEST:
		differ = calloc(1, sizeof(*differ));
		if (!differ || wire_cs_digest_reply_get(&c, differ) < 0)
			sim_fail("malformed reply");
		if (differ->n_differ > 0)
			send_report(s);
		else
			call(s, STAGE_READY, OP_CS_READY, &empty);
		break;
	case STAGE_REPORT:
		call(s, STAGE_READY, OP_CS_READY, &empty);
		break;
	case STAGE_READY:
		sim_trace("server %u is up", s->id);
		s->stage = STAGE_UP;
		heartbeat(s, s->life);
		break;
	default:
		break;
	}
}

void sim_server_unlinked(struct sim_server *s, struct sim_conn *c)
{
	if (s->conn != c)
		return;
	s->conn = NULL;
	s->stage = STAGE_NONE;
	s->commands = NULL; /* those that wait are forgotten; those that run go on */
	if (s->running)
		connect_later(s);
}

/* ---- commands ---- */

static void command_done(void *arg, uint64_t n);

static void command_reply(struct sim_command *cmd, int code, const struct wire_chunk_state *state)
{
	_cleanup_buf_ struct buf out = {0};
	struct wire_empty empty;

	if (cmd->conn != cmd->server->conn)
		return;
	if (code < 0)
		wire_put_failure(&out, cmd->h.op, cmd->h.id, 0, code, err_text(code), 0);
	else if (cmd->h.op == OP_CHUNK_DELETE)
		wire_put_reply(&out, cmd->h.op, cmd->h.id, 0, &empty, 0);
	else
		wire_put_reply(&out, cmd->h.op, cmd->h.id, 0, state, 0);
	sim_send_up(cmd->conn, &out);
}

static int do_delete(struct sim_command *cmd, struct slice fields)
{
	struct sim_server *s = cmd->server;
	struct wire_chunk_delete req;
	struct cursor c = cursor_slice(fields), list, item;
	struct wire_have have;

	if (wire_chunk_delete_get(&c, &req) < 0)
		return ERR_PROTOCOL;
	list = cursor_slice(req.have);
	while (wire_list_next(&list, &item) == 1 && wire_have_get(&item, &have) == 0) {
		/* It has been raised or copied since the command came, perhaps on another link. */
		if (s->slots[have.id].r.raised > cmd->changes[have.id])
			return ERR_BUSY;
		sim_deleting(s, have.id, have.version);
		fake_delete(&s->slots[have.id].r, have.version);
		sim_touched(have.id);
		sim.count.deleted++;
	}
	return 0;
}

static int do_raise(struct sim_server *s, struct slice fields, struct wire_chunk_state *ret)
{
	struct cursor c = cursor_slice(fields);
	struct wire_chunk_raise req;
	int r;

	if (wire_chunk_raise_get(&c, &req) < 0)
		return ERR_PROTOCOL;
	if ((req.flags & RAISE_SETTLE) && s->slots[req.chunk].r.damaged)
		sim_fail("chunk %llu: damage on server %u is to be made valid",
			 (unsigned long long)req.chunk, s->id);
	r = fake_raise(&s->slots[req.chunk].r, &req, ret);
	sim_touched(req.chunk);
	sim_trace("server %u: chunk %llu raised v%u>%u: %s", s->id, (unsigned long long)req.chunk,
		  req.version, req.new_version, r < 0 ? err_text(r) : "ok");
	return r;
}

/* The source as a pull finds it now. */
static struct fake_replica *pull_source(struct sim_command *cmd)
{
	struct sim_server *from = sim_server_of(cmd->pull.source.server);
	struct fake_replica *r = from ? &from->slots[cmd->pull.chunk].r : NULL;

	cmd->read_code = ERR_UNREACHABLE;
	if (!from || !from->running || sim_frozen(from))
		return NULL;
	cmd->read_code = fake_readable(r, cmd->pull.source_version);
	if (cmd->read_code == ERR_CHECKSUM)
		sim_server_damaged(from, cmd->pull.chunk);
	return cmd->read_code == 0 ? r : NULL;
}

/* True when its server is frozen: it goes on later. */
static bool command_sleeps(struct sim_command *cmd, sim_fn fn)
{
	if (!sim_frozen(cmd->server))
		return false;
	sim_after(cmd->server->frozen_ms - fake_ms, fn, cmd, 0);
	return true;
}

/* The blocks that are not here come as they are by now: they may have been written to since. */
static void pull_blocks(void *arg, uint64_t n)
{
	struct sim_command *cmd = arg;
	const struct fake_replica *from;

	if (cmd->life != cmd->server->life || command_sleeps(cmd, pull_blocks))
		return;
	from = cmd->read_code == 0 ? pull_source(cmd) : NULL;
	for (unsigned b = 0; from && b < REPLICA_BLOCKS; b++)
		if (!cmd->own.present || cmd->own.block[b] != cmd->read.block[b])
			cmd->read.block[b] = from->block[b];
	sim_after(1 + fake_draw(fake_draw(3) ? 100 : 4000), command_done, cmd, 0);
}

/* It has connected, which may have lasted. Looks at what is here, and reads the source's table. */
static void pull_table(void *arg, uint64_t n)
{
	struct sim_command *cmd = arg;
	const struct fake_replica *from;

	if (cmd->life != cmd->server->life || command_sleeps(cmd, pull_table))
		return;
	cmd->own = cmd->server->slots[cmd->pull.chunk].r;
	from = pull_source(cmd);
	if (from)
		cmd->read = *from;
	sim_after(fake_draw(fake_draw(3) ? 5 : 300), pull_blocks, cmd, 0);
}

static void pull_begin(struct sim_command *cmd)
{
	struct cursor c = cursor_of(cmd->fields.data, cmd->fields.len);

	if (wire_chunk_pull_get(&c, &cmd->pull) < 0)
		sim_fail("malformed pull");
	sim_after(fake_draw(fake_draw(8) ? 10 : PULL_DIAL_MS), pull_table, cmd, 0);
}

static int do_pull(struct sim_command *cmd, struct wire_chunk_state *ret)
{
	struct sim_server *s = cmd->server;
	int r = cmd->read_code;

	if (r == 0)
		r = fake_pull(&s->slots[cmd->pull.chunk].r, &cmd->read,
			      cmd->changes[cmd->pull.chunk], &cmd->pull, ret);
	sim_touched(cmd->pull.chunk);
	sim_trace("server %u: chunk %llu v%u pulled from %u: %s", s->id,
		  (unsigned long long)cmd->pull.chunk, cmd->pull.new_version,
		  cmd->pull.source.server, r < 0 ? err_text(r) : "ok");
	return r;
}

static int do_check(struct sim_server *s, struct slice fields, struct wire_chunk_state *ret)
{
	struct cursor c = cursor_slice(fields);
	struct wire_chunk_check req;
	struct sim_slot *slot;

	if (wire_chunk_check_get(&c, &req) < 0)
		return ERR_PROTOCOL;
	slot = &s->slots[req.chunk];
	if (slot->r.unclean || sim_write_locked(slot))
		return ERR_BUSY;
	return fake_check(&slot->r, req.version, ret);
}

static void command_begin(struct sim_server *s)
{
	struct sim_command *cmd = s->commands;
	int64_t ms = 1 + fake_draw(30);

	if (!cmd || s->busy >= SIM_WORKERS)
		return;
	DL_DELETE(s->commands, cmd);
	s->busy++;
	if (cmd->h.op == OP_CHUNK_PULL) {
		pull_begin(cmd);
		return;
	}
	if (fake_draw(40) == 0)
		ms = 1 + fake_draw(5000); /* a slow disk */
	sim_after(ms, command_done, cmd, 0);
}

static void command_done(void *arg, uint64_t n)
{
	struct sim_command *cmd = arg;
	struct sim_server *s = cmd->server;
	struct slice fields = slice_of(cmd->fields.data, cmd->fields.len);
	struct wire_chunk_state state = {0};
	int r;

	if (cmd->life != s->life || command_sleeps(cmd, command_done))
		return;
	s->busy--;
	switch (cmd->h.op) {
	case OP_CHUNK_RAISE: r = do_raise(s, fields, &state); break;
	case OP_CHUNK_PULL: r = do_pull(cmd, &state); break;
	case OP_CHUNK_DELETE: r = do_delete(cmd, fields); break;
	case OP_CHUNK_CHECK: r = do_check(s, fields, &state); break;
	default: r = ERR_PROTOCOL;
	}
	command_reply(cmd, r, &state);
	command_begin(s);
}

void sim_server_message(struct sim_server *s, struct sim_conn *c, const struct wire_header *h,
			struct slice fields)
{
	struct sim_command *cmd;

	if (h->flags & WIRE_REPLY) {
		if (h->id != s->call_id || s->stage == STAGE_UP)
			return;
		if (h->status == 0) {
			registration_goes_on(s, fields);
			return;
		}
		sim_disconnect(c, false);
		sim_server_unlinked(s, c);
		return;
	}
	cmd = sim_alloc(sizeof(*cmd));
	*cmd = (struct sim_command){.server = s, .conn = c, .life = s->life, .h = *h};
	cmd->fields.data = sim_alloc(fields.len + 1);
	cmd->fields.len = fields.len;
	memcpy(cmd->fields.data, fields.data, fields.len);
	cmd->changes = sim_alloc(SIM_CHUNKS_MAX * sizeof(*cmd->changes));
	for (unsigned i = 0; i < SIM_CHUNKS_MAX; i++)
		cmd->changes[i] = s->slots[i].r.changes;
	DL_APPEND(s->commands, cmd);
	command_begin(s);
}

/* ---- life ---- */

static void sync_all(void *arg, uint64_t life)
{
	struct sim_server *s = arg;

	if (life != s->life)
		return;
	for (unsigned i = 1; !sim_frozen(s) && i < SIM_CHUNKS_MAX; i++) {
		struct fake_replica *r = &s->slots[i].r;
		if (r->unclean)
			continue;
		fake_sync(r);
		/* What others may not have stays named. */
		r->open = r->in_doubt || sim_write_uncommitted(&s->slots[i]);
	}
	sim_after(SYNC_MS, sync_all, s, life);
}

void sim_server_start(struct sim_server *s)
{
	if (s->running || s->gone)
		return;
	s->running = true;
	s->life++;
	s->frozen_ms = 0;
	s->conn = NULL;
	s->commands = NULL;
	s->busy = 0;
	for (unsigned i = 1; i < SIM_CHUNKS_MAX; i++) {
		struct fake_replica *r = &s->slots[i].r;
		/* What the journal names is read again; the rest is taken for good. */
		r->unclean = r->present && r->open;
		if (r->unclean && s->lost_power) {
			r->lossy = true;
			r->told = 0;
		}
		r->damaged = r->unclean && fake_rotten(r);
		r->in_doubt = false;
		r->epoch++;
		memset(s->slots[i].lock, 0, sizeof(s->slots[i].lock));
	}
	s->lost_power = false;
	connect_later(s);
	sync_all(s, s->life);
}

static void lose_unsynced(struct fake_replica *r)
{
	for (unsigned b = 0; r->open && b < REPLICA_BLOCKS; b++)
		if (fake_draw(2))
			r->block[b] = r->synced[b];
}

void sim_server_stop(struct sim_server *s, enum sim_stop how)
{
	if (!s->running)
		return;
	s->running = false;
	s->life++;
	s->lost_power = how == STOP_POWER;
	for (unsigned i = 1; i < SIM_CHUNKS_MAX; i++) {
		struct fake_replica *r = &s->slots[i].r;
		if (how == STOP_CLEAN && !r->unclean) {
			fake_sync(r);
			r->open = r->in_doubt || sim_write_uncommitted(&s->slots[i]);
		}
		if (how == STOP_POWER)
			lose_unsynced(r);
		if (r->present)
			sim_touched(i);
	}
	sim_disconnect(s->conn, how == STOP_POWER && fake_draw(2));
	s->conn = NULL;
	s->stage = STAGE_NONE;
	sim_write_server_died(s);
}

void sim_server_add(void)
{
	struct sim_server *s = &sim.servers[sim.n_servers];
	unsigned rack = sim.n_servers % sim.racks;

	*s = (struct sim_server){.n = sim.n_servers, .exists = true};
	sim.n_servers++;
	for (unsigned i = 0; i < UUID_BYTES; i++)
		s->uuid[i] = (uint8_t)fake_random();
	snprintf(s->addr, sizeof(s->addr), "10.0.0.%u:7411", s->n + 1);
	if (sim.racks > 1)
		snprintf(s->rack, sizeof(s->rack), "rack%u", rack);
	/* Some hosts run two servers. */
	snprintf(s->host, sizeof(s->host), "host%u", s->n / (sim.racks * 2) * sim.racks + rack);
	sim_server_start(s);
}
