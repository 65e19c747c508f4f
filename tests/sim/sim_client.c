/* Clients: each has a session and does one operation after the other through the real rpc_client.c.
 * A request that gets no answer is sent again, the same bytes with the same operation id, over a
 * new connection. Writes go along the chain (sim_write.c) and are made visible by WROTE; only after
 * its answer are they promised. */
#include <stdio.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "master/query.h"
#include "tests/sim/sim.h"

enum { REPLY_MS = 12000, RECONNECT_MS = 300, ATTEMPTS_MAX = 8, SOFT_FAILURES_MAX = 3,
       READ_WAIT_MS = 2000, ASK_AGAIN_MS = 30 };

enum kind { OP_KIND_OPEN, OP_KIND_MAKE, OP_KIND_WRITE, OP_KIND_READ, OP_KIND_CUT, OP_KIND_UNLINK,
	    OP_KIND_RENAME, OP_KIND_LINK, OP_KIND_RELEASE, OP_KIND_CLOSE };

struct sim_op {
	enum kind kind;
	uint64_t serial;
	/* The request that waits for its answer. */
	uint16_t opcode;
	uint64_t call_id;
	struct buf_kept {
		uint32_t len;
		uint8_t *data;
	} message;
	unsigned attempts, soft;
	/* reads and writes */
	uint64_t inode, index;
	unsigned first, last;
	uint32_t number;
	struct wire_chunk chunk;
	int64_t read_until_ms;
	unsigned replica;
	uint64_t cuts_of; /* this chunk: when the operation began */
	uint32_t cuts[REPLICA_BLOCKS];
	struct sim_floor acked[REPLICA_BLOCKS], seen[REPLICA_BLOCKS];
};

static void op_answered(struct sim_client *c, int code, struct slice fields);

/* ---- requests ---- */

static void late(void *arg, uint64_t call_id);

static void send_kept(struct sim_client *c)
{
	struct sim_op *op = c->op;
	struct buf b = {.data = op->message.data, .len = op->message.len};

	if (!c->conn)
		c->conn = sim_connect(NULL, c);
	if (c->conn)
		sim_send_up(c->conn, &b);
	sim_after(c->conn ? REPLY_MS : RECONNECT_MS, late, c, op->call_id);
}

/* No answer came: over a new connection. */
static void late(void *arg, uint64_t call_id)
{
	struct sim_client *c = arg;

	if (!c->op || c->op->call_id != call_id)
		return;
	sim_disconnect(c->conn, false);
	c->conn = NULL;
	send_kept(c);
}

static void again(void *arg, uint64_t call_id)
{
	struct sim_client *c = arg;

	if (c->op && c->op->call_id == call_id && !c->conn)
		send_kept(c);
}

void sim_client_unlinked(struct sim_client *c, struct sim_conn *conn)
{
	if (c->conn != conn)
		return;
	c->conn = NULL;
	if (c->op && c->op->call_id)
		sim_after(1 + fake_draw(RECONNECT_MS), again, c, c->op->call_id);
}

static void call(struct sim_client *c, uint16_t opcode, const void *record)
{
	_cleanup_buf_ struct buf out = {0};
	struct sim_op *op = c->op;

	op->opcode = opcode;
	op->call_id = ++c->next_id;
	wire_put_request(&out, opcode, op->call_id, 0, record, 0);
	op->message.data = sim_alloc(out.len);
	op->message.len = (uint32_t)out.len;
	memcpy(op->message.data, out.data, out.len);
	send_kept(c);
}

void sim_client_message(struct sim_client *c, struct sim_conn *conn, const struct wire_header *h,
			struct slice fields)
{
	if (c->conn != conn || !c->op || c->op->call_id != h->id || c->op->opcode != h->op)
		return;
	c->op->call_id = 0;
	op_answered(c, h->status, fields);
}

static struct wire_opid opid(struct sim_client *c)
{
	c->seq++;
	return (struct wire_opid){c->session, c->seq, c->seq};
}

static void op_end(struct sim_client *c)
{
	c->op = NULL;
}

/* ---- names ---- */

struct slice sim_name(unsigned n)
{
	static char text[SIM_ALL_NAMES][8];

	snprintf(text[n], sizeof(text[n]), "n%u", n);
	return slice_str(text[n]);
}

uint64_t sim_file(unsigned n)
{
	struct wire_name_ref req = {.parent = ROOT_INODE, .name = sim_name(n)};
	struct wire_attr_reply rep;

	return query_lookup(sim.m.st, &req, &rep, NULL) == 0 && S_ISREG(rep.attr.mode)
		       ? rep.attr.inode : 0;
}

static bool chunk_at(uint64_t inode, uint64_t index, struct wire_chunk *ret)
{
	return query_chunk_at(sim.m.st, inode, index, ret, NULL, NULL) == 1;
}

static bool ids_left(void)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_meta meta;
	return ns_meta(sim.m.st, &meta, &backing) == 0 &&
	       meta.next_chunk + 2 * SIM_CLIENTS < SIM_CHUNKS_MAX;
}

static void begin_names(struct sim_client *c, enum kind kind)
{
	unsigned a = fake_draw(SIM_NAMES), b = fake_draw(SIM_NAMES);
	uint64_t inode = sim_file(a);
	struct wire_make make = {.parent = ROOT_INODE, .name = sim_name(a), .mode = S_IFREG | 0644,
				 .flags = MAKE_CHUNK};
	struct wire_unlink unlink = {.parent = ROOT_INODE, .name = sim_name(a),
				     .hold = fake_draw(2) ? inode : 0};
	struct wire_rename rename = {.parent = ROOT_INODE, .name = sim_name(a),
				     .new_parent = ROOT_INODE, .new_name = sim_name(b),
				     .flags = fake_draw(4) ? 0 : RENAME_F_EXCHANGE};
	struct wire_link link = {.inode = inode, .parent = ROOT_INODE, .name = sim_name(b)};

	c->op->inode = inode;
	if (kind == OP_KIND_MAKE) {
		make.id = opid(c);
		call(c, OP_MAKE, &make);
	} else if (kind == OP_KIND_UNLINK) {
		unlink.id = opid(c);
		call(c, OP_UNLINK, &unlink);
	} else if (kind == OP_KIND_RENAME) {
		rename.id = opid(c);
		call(c, OP_RENAME, &rename);
	} else {
		link.id = opid(c);
		call(c, OP_LINK, &link);
	}
}

static void begin_cut(struct sim_client *c)
{
	uint64_t index = fake_draw(SIM_FILE_CHUNKS), block = fake_draw(REPLICA_BLOCKS);
	struct wire_setattr req = {.inode = c->op->inode, .mask = SET_SIZE,
				   .size = (index << CHUNK_BITS_DEFAULT) +
					   block * REPLICA_BLOCK_BYTES};
	req.id = opid(c);
	call(c, OP_SETATTR, &req);
}

/* ---- writing ---- */

/* One write of a block at a time: which of two came last would not be known. */
static bool blocks_busy(const struct sim_client *self)
{
	const struct sim_op *mine = self->op;

	for (unsigned i = 0; i < SIM_CLIENTS; i++) {
		const struct sim_op *op = sim.clients[i].op;
		if (op && op != mine && op->kind == OP_KIND_WRITE && op->inode == mine->inode &&
		    op->index == mine->index && op->first <= mine->last && mine->first <= op->last)
			return true;
	}
	return false;
}

uint32_t sim_client_outstanding(uint64_t chunk, unsigned block)
{
	uint32_t lowest = UINT32_MAX;

	for (unsigned i = 0; i < SIM_CLIENTS; i++) {
		const struct sim_op *op = sim.clients[i].op;
		struct wire_chunk at;
		if (op && op->kind == OP_KIND_WRITE && op->first <= block && block <= op->last &&
		    op->number < lowest && chunk_at(op->inode, op->index, &at) && at.id == chunk)
			lowest = op->number;
	}
	return lowest;
}

static void ask_location(struct sim_client *c)
{
	struct wire_chunk_for_write req = {.inode = c->op->inode, .index = c->op->index};
	struct wire_chunk at;

	/* A truncation from now on may come after the write in the order of things. */
	c->op->cuts_of = chunk_at(req.inode, req.index, &at) ? at.id : 0;
	if (c->op->cuts_of)
		memcpy(c->op->cuts, sim.expect[at.id].cuts, sizeof(c->op->cuts));
	req.id = opid(c);
	call(c, OP_CHUNK_FOR_WRITE, &req);
}

static void ask_location_again(void *arg, uint64_t serial)
{
	struct sim_client *c = arg;
	if (c->op && c->op->serial == serial)
		ask_location(c);
}

static void report_fault(struct sim_client *c, uint32_t server, int reason, bool writing)
{
	struct wire_chunk_fault req = {.chunk = c->op->chunk.id, .version = c->op->chunk.version,
				       .server = server, .writing = writing, .reason = reason};
	call(c, OP_CHUNK_FAULT, &req);
}

static void chain_ended(struct sim_client *c, uint64_t serial, int code, uint32_t server)
{
	struct wire_wrote wrote = {0};
	struct sim_op *op = c->op;
	uint64_t start;

	if (!op || op->serial != serial)
		return;
	start = op->index << CHUNK_BITS_DEFAULT;
	if (code == 0) {
		sim_reached(op->chunk.id, op->first, op->last, op->number);
		wrote.inode = op->inode;
		wrote.offset = start + op->first * (uint64_t)REPLICA_BLOCK_BYTES;
		wrote.end = start + (op->last + 1) * (uint64_t)REPLICA_BLOCK_BYTES;
		wrote.chunks[wrote.n_chunks++] = op->chunk.id;
		wrote.versions[wrote.n_versions++] = op->chunk.version;
		wrote.id = opid(c);
		call(c, OP_WROTE, &wrote);
	} else if (++op->attempts >= ATTEMPTS_MAX) {
		op_end(c); /* the caller got an error: the bytes may be there or not */
	} else if ((code == ERR_CHUNK_VERSION || code == ERR_CHUNK_PENDING ||
		    code == ERR_NO_CHUNK) && ++op->soft < SOFT_FAILURES_MAX) {
		sim_after(ASK_AGAIN_MS, ask_location_again, c, serial);
	} else {
		report_fault(c, server ? server : op->chunk.replicas[0].server, code, true);
	}
}

/* As the client does when somebody else changed the file: the chunk must be the one, at the
 * version, that was written to, or the bytes are written again. */
static bool is_where_written(const struct sim_op *op)
{
	const struct sim_expect *e = &sim.expect[op->chunk.id];
	struct wire_chunk at;
	uint64_t pending = 0;

	if (query_chunk_at(sim.m.st, op->inode, op->index, &at, &pending, NULL) != 1 ||
	    at.id != op->chunk.id)
		return false;
	return memcmp(e->cuts, op->cuts, sizeof(e->cuts)) == 0 ||
	       (!pending && at.version == op->chunk.version);
}

static void write_answered(struct sim_client *c, int code, struct slice fields)
{
	struct cursor cur = cursor_slice(fields);
	struct sim_op *op = c->op;
	struct wire_chunk_reply rep;

	if (op->opcode == OP_CHUNK_FAULT) {
		ask_location(c);
	} else if (op->opcode == OP_WROTE) {
		if (code == ERR_CHUNK_VERSION || code == ERR_CHUNK_PENDING ||
		    (code == 0 && !is_where_written(op))) {
			if (++op->attempts < ATTEMPTS_MAX)
				ask_location(c);
			else
				op_end(c);
			return;
		}
		if (code == 0) {
			sim.count.acked++;
			sim_trace("client %u: write %u of chunk %llu acknowledged", c->n,
				  op->number, (unsigned long long)op->chunk.id);
			sim_acked(op->chunk.id, op->first, op->last, op->number, op->cuts);
		}
		op_end(c);
	} else if (code < 0 || wire_chunk_reply_get(&cur, &rep) < 0 || !rep.chunk.id) {
		if (code == ERR_CHUNK_PENDING && ++op->attempts < ATTEMPTS_MAX)
			ask_location(c);
		else
			op_end(c);
	} else {
		op->chunk = rep.chunk;
		/* Made since: every truncation of it came after the write began. */
		if (op->cuts_of != op->chunk.id)
			memset(op->cuts, 0, sizeof(op->cuts));
		op->cuts_of = op->chunk.id;
		sim_trace("client %u: write %u goes to chunk %llu v%u, %u replicas", c->n,
			  op->number, (unsigned long long)op->chunk.id, op->chunk.version,
			  op->chunk.n_replicas);
		sim_write(c, op->serial, op->number, &op->chunk, op->first, op->last, chain_ended);
	}
}

/* ---- reading ---- */

static void begin_read(struct sim_client *c)
{
	struct wire_locate req = {.inode = c->op->inode, .first = c->op->index, .count = 1};
	struct sim_op *op = c->op;
	struct wire_chunk at;

	/* What is promised when the read begins is what it must return. */
	if (chunk_at(op->inode, op->index, &at)) {
		const struct sim_expect *e = &sim.expect[at.id];
		op->number = (uint32_t)at.id;
		memcpy(op->cuts, e->cuts, sizeof(op->cuts));
		memcpy(op->acked, e->acked, sizeof(op->acked));
		memcpy(op->seen, e->seen, sizeof(op->seen));
	}
	call(c, OP_LOCATE, &req);
}

static void read_checked(struct sim_client *c, const struct fake_replica *r, uint32_t server)
{
	struct sim_op *op = c->op;
	struct sim_expect *e = &sim.expect[op->chunk.id];

	for (unsigned b = 0; b < REPLICA_BLOCKS && op->number == op->chunk.id; b++) {
		if (e->cuts[b] != op->cuts[b])
			continue;
		if (!sim_floor_kept(&op->acked[b], r->block[b]) ||
		    !sim_floor_kept(&op->seen[b], r->block[b]))
			sim_fail("chunk %llu v%u block %u: server %u gave write %u to a reader, "
				 "%u was acknowledged and %u read before",
				 (unsigned long long)op->chunk.id, op->chunk.version, b, server,
				 r->block[b], op->acked[b].number, op->seen[b].number);
		if (r->block[b] > e->seen[b].number)
			e->seen[b] = (struct sim_floor){.number = r->block[b]};
	}
	sim.count.reads++;
	op_end(c);
}

static void read_arrives(void *arg, uint64_t serial)
{
	struct sim_client *c = arg;
	struct sim_op *op = c->op;
	struct sim_server *s;
	struct sim_slot *slot;
	int r = ERR_UNREACHABLE;

	if (!op || op->serial != serial)
		return;
	s = sim_server_of(op->chunk.replicas[op->replica].server);
	if (!s)
		sim_fail("a location names a server that there is not");
	slot = &s->slots[op->chunk.id];
	if (s->running && !sim_frozen(s))
		r = fake_readable(&slot->r, op->chunk.version);
	if (r == 0 && sim_write_uncommitted(slot)) {
		if (fake_ms < op->read_until_ms) {
			sim_after(10, read_arrives, c, serial);
			return;
		}
		r = ERR_CHUNK_PENDING;
	}
	if (r == ERR_NO_CHUNK && !(op->chunk.flags & CHUNK_WRITTEN)) {
		read_checked(c, &(struct fake_replica){0}, s->id);
	} else if (r == 0) {
		read_checked(c, &slot->r, s->id);
	} else {
		if (r == ERR_CHECKSUM)
			sim_server_damaged(s, op->chunk.id);
		report_fault(c, s->id, r, false);
	}
}

static void read_answered(struct sim_client *c, int code, struct slice fields)
{
	struct cursor cur = cursor_slice(fields);
	struct sim_op *op = c->op;
	struct wire_locate_reply rep;

	if (op->opcode == OP_CHUNK_FAULT) {
		if (++op->attempts < 3)
			begin_read(c);
		else
			op_end(c);
		return;
	}
	if (code < 0 || wire_locate_reply_get(&cur, &rep) < 0 || rep.n_chunks == 0 ||
	    !rep.chunks[0].id) {
		op_end(c);
		return;
	}
	op->chunk = rep.chunks[0];
	op->replica = fake_draw(op->chunk.n_replicas);
	op->read_until_ms = fake_ms + READ_WAIT_MS;
	sim_after(1 + fake_draw(20), read_arrives, c, op->serial);
}

/* ---- operations ---- */

static void op_answered(struct sim_client *c, int code, struct slice fields)
{
	struct cursor cur = cursor_slice(fields);
	struct sim_op *op = c->op;
	struct wire_session session;

	if (code == ERR_STALE && op->kind != OP_KIND_OPEN) { /* it has expired */
		c->session = 0;
		c->held = 0;
		op_end(c);
		return;
	}
	switch (op->kind) {
	case OP_KIND_OPEN:
		if (code == 0 && wire_session_get(&cur, &session) == 0)
			c->session = session.session;
		op_end(c);
		break;
	case OP_KIND_WRITE: write_answered(c, code, fields); break;
	case OP_KIND_READ: read_answered(c, code, fields); break;
	case OP_KIND_UNLINK:
		if (code == 0)
			c->held = op->inode;
		op_end(c);
		break;
	default: op_end(c);
	}
}

static enum kind choose_kind(struct sim_client *c)
{
	unsigned n = fake_draw(100);

	if (!c->session)
		return OP_KIND_OPEN;
	if (c->held && n < 10)
		return OP_KIND_RELEASE;
	return n < 50 ? OP_KIND_WRITE : n < 68 ? OP_KIND_READ : n < 78 ? OP_KIND_CUT :
	       n < 90 ? OP_KIND_MAKE : n < 94 ? OP_KIND_UNLINK : n < 97 ? OP_KIND_RENAME :
		    OP_KIND_LINK;
}

static void begin_write(struct sim_client *c)
{
	struct sim_op *op = c->op;
	struct wire_chunk at;

	op->first = fake_draw(REPLICA_BLOCKS);
	op->last = op->first + fake_draw(REPLICA_BLOCKS - op->first);
	if (blocks_busy(c) || (!chunk_at(op->inode, op->index, &at) && !ids_left())) {
		op_end(c);
		return;
	}
	op->number = ++sim.writes;
	ask_location(c);
}

void sim_client_act(struct sim_client *c)
{
	struct wire_session_open open = {.name = SLICE_LIT("sim")};
	struct wire_release release = {.inode = c->held};
	enum kind kind;

	if (c->op || c->dead)
		return;
	kind = choose_kind(c);
	c->op = sim_alloc(sizeof(*c->op));
	c->op->kind = kind;
	c->op->serial = ++c->op_serial;
	c->op->index = fake_draw(SIM_FILE_CHUNKS);
	if (kind == OP_KIND_WRITE || kind == OP_KIND_READ || kind == OP_KIND_CUT) {
		c->op->inode = sim_file(fake_draw(SIM_NAMES));
		if (!c->op->inode) {
			op_end(c);
			return;
		}
	}
	switch (kind) {
	case OP_KIND_OPEN:
		open.nonce = fake_random();
		c->seq = 0;
		call(c, OP_SESSION_OPEN, &open);
		break;
	case OP_KIND_RELEASE:
		c->held = 0;
		release.id = opid(c);
		call(c, OP_RELEASE, &release);
		break;
	case OP_KIND_WRITE: begin_write(c); break;
	case OP_KIND_READ: begin_read(c); break;
	case OP_KIND_CUT: begin_cut(c); break;
	case OP_KIND_MAKE:
		if (ids_left())
			begin_names(c, kind);
		else
			op_end(c);
		break;
	default: begin_names(c, kind);
	}
}

bool sim_client_idle(const struct sim_client *c)
{
	return !c->op;
}

/* What it was doing is not gone on with; what it sent is still on its way. */
void sim_client_die(struct sim_client *c)
{
	sim_trace("client %u dies", c->n);
	sim_disconnect(c->conn, false);
	c->conn = NULL;
	c->op = NULL;
	c->session = c->held = 0;
}

void sim_client_ping(struct sim_client *c)
{
	_cleanup_buf_ struct buf out = {0};
	struct wire_session_ref ref = {c->session};

	if (c->conn && c->session &&
	    wire_put_request(&out, OP_SESSION_PING, ++c->next_id, 0, &ref, 0) == 0)
		sim_send_up(c->conn, &out);
}

bool sim_client_drain(struct sim_client *c, uint32_t server, bool draining)
{
	_cleanup_buf_ struct buf out = {0};
	struct wire_server_set req = {.server = server, .flags = draining ? SERVER_DRAINING : 0};

	if (!c->conn)
		c->conn = sim_connect(NULL, c);
	if (!c->conn || wire_put_request(&out, OP_SERVER_SET, ++c->next_id, 0, &req, 0) < 0)
		return false;
	sim_trace("server %u is %s", server, draining ? "to be emptied" : "not to be emptied");
	sim_send_up(c->conn, &out);
	return true;
}
