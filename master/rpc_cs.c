/* Chunkservers: registration, what they have against what they should have, heartbeats. */
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/audit.h"
#include "master/master.h"

static struct cs *peer_cs(struct peer *peer)
{
	return peer->owner;
}

/* ---- registration ---- */

struct registration {
	struct peer *peer;
	struct wire_header h;
	uint8_t uuid[UUID_BYTES];
	char addr[ADDR_BYTES_MAX], rack[TEXT_BYTES_MAX + 1], host[TEXT_BYTES_MAX + 1];
};

static void text_keep(char *ret, size_t room, struct slice s)
{
	size_t n = s.len < room ? s.len : room - 1;
	memcpy(ret, s.data ? s.data : (const uint8_t *)"", n);
	ret[n] = '\0';
}

static void registered(struct master *m, void *arg, struct apply_result *result)
{
	struct registration *reg = arg;
	struct wire_cs_registered rep;
	struct cursor c = result ? cursor_slice(buf_slice(&result->reply)) : (struct cursor){0};
	struct cs *cs = NULL;

	if (!result || reg->peer->closing) {
		peer_close(reg->peer, NULL);
	} else if (result->status < 0) {
		peer_fail(reg->peer, &reg->h, result->status, result->text);
	} else if (wire_cs_registered_get(&c, &rep) == 0 &&
		   (cs = csreg_add(&m->servers, rep.server)) != NULL) {
		/* One server a link, one link a server: a new one means that the old one is dead
		 * and does not know. */
		if (reg->peer->owner && reg->peer->owner != cs)
			cs_unlink(reg->peer->owner);
		if (cs->peer && cs->peer != reg->peer)
			peer_close(cs->peer, "replaced by a new connection of the same server");
		memcpy(cs->uuid, reg->uuid, sizeof(cs->uuid));
		memcpy(cs->addr, reg->addr, sizeof(cs->addr));
		cs->tag_key = 0;
		memcpy(cs->rack, reg->rack, sizeof(cs->rack));
		memcpy(cs->host, reg->host, sizeof(cs->host));
		cs->peer = reg->peer;
		cs->peer->owner = cs;
		cs->state = SERVER_REPORTING;
		cs->seen_ms = cs->linked_ms = clock_ms();
		cs->tries++;
		rep.heartbeat_ms = (uint32_t)csreg_heartbeat_ms(&m->servers, m->o.heartbeat_ms);
		rep.dead_ms = (uint32_t)m->servers.dead_ms;
		rep.lease_ms = (uint32_t)csreg_lease_ms(&m->servers);
		rep.n_keys = tokens_keys(&m->tokens, clock_ms(), rep.keys);
		log_info("chunkserver %s (%u): registered", cs->addr, cs->id);
		peer_reply(reg->peer, &reg->h, &rep);
	} else {
		peer_fail(reg->peer, &reg->h, ERR_NOMEM, NULL);
	}
	peer_unref(reg->peer);
	free(reg);
}

int rpc_cs_load(struct master *m, struct err *err)
{
	uint8_t type = KEY_SERVER;
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(m->st, slice_of(&type, 1), (struct slice){0}, &it);

	if (r < 0)
		return err_set(err, r, "reading the servers: %s", err_text(r));
	while ((r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		struct row_server row;
		struct cs *cs;
		if (row_server_get(&c, &row) < 0 || row.uuid.len != UUID_BYTES) {
			r = ERR_CORRUPT;
			break;
		}
		cs = csreg_add(&m->servers, get_be32(key.data + 1));
		if (!cs) {
			r = ERR_NOMEM;
			break;
		}
		memcpy(cs->uuid, row.uuid.data, UUID_BYTES);
		text_keep(cs->addr, sizeof(cs->addr), row.addr);
		text_keep(cs->rack, sizeof(cs->rack), row.rack);
		text_keep(cs->host, sizeof(cs->host), row.host);
		cs->draining = row.flags & SERVER_DRAINING;
	}
	state_iter_close(it);
	return r < 0 ? err_set(err, r, "reading the servers: %s", err_text(r)) : 0;
}

static void on_register(struct master *m, struct peer *peer, const struct wire_header *h,
			struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct cmd_server_register cmd;
	struct registration *reg;
	struct row_meta meta;
	int r;
	PEER_DECODE(wire_cs_register, req);

	r = ns_meta(m->st, &meta, &backing);
	if (r < 0 || req.uuid.len != UUID_BYTES || req.addr.len == 0) {
		peer_fail(peer, h, r < 0 ? r : ERR_PROTOCOL, "registration without id or address");
		return;
	}
	if (req.cluster.len && !slice_eq(req.cluster, meta.cluster)) {
		log_warn("%s: its disks belong to another cluster", peer->name);
		peer_fail(peer, h, ERR_WRONG_CLUSTER, "these disks belong to another cluster");
		return;
	}
	reg = calloc(1, sizeof(*reg));
	if (!reg) {
		peer_fail(peer, h, ERR_NOMEM, NULL);
		return;
	}
	reg->peer = peer;
	reg->h = *h;
	memcpy(reg->uuid, req.uuid.data, UUID_BYTES);
	text_keep(reg->addr, sizeof(reg->addr), req.addr);
	text_keep(reg->rack, sizeof(reg->rack), req.rack);
	text_keep(reg->host, sizeof(reg->host), req.host);
	peer_ref(peer);
	cmd = (struct cmd_server_register){.uuid = req.uuid, .addr = slice_str(reg->addr),
					   .rack = slice_str(reg->rack),
					   .host = slice_str(reg->host),
					   .holder = slice_str(peer->tls ? peer->tls->peer.name : "")};
	master_propose(m, CMD_NUMBER_SERVER_REGISTER, &cmd, registered, reg);
}

/* ---- what a server has ---- */

/* What a report says against a replica. Rot weighs more than what a crash left. */
static uint8_t marks_for(const struct wire_have *have)
{
	uint8_t lossy = have->flags & HAVE_LOSSY ? MARK_LOSSY : 0;

	if (have->flags & HAVE_DAMAGED)
		return MARK_DAMAGED;
	if (have->flags & HAVE_TORN)
		return MARK_UNCLEAN | MARK_TORN | lossy;
	if (have->flags & HAVE_UNCLEAN)
		return MARK_UNCLEAN | lossy;
	return have->flags & HAVE_IN_DOUBT ? MARK_IN_DOUBT : 0;
}

/* A replica that should be there and is not, or is not to be trusted: compared soon. */
static void replica_suspect(struct master *m, struct cs *cs, uint64_t chunk, uint8_t mark,
			    const char *what)
{
	log_warn("chunk %016llx on %s (%u): %s", (unsigned long long)chunk, cs->addr, cs->id, what);
	csreg_mark(&m->servers, chunk, cs->id, mark);
	repair_now(m, chunk);
}

static bool is_member(const struct row_chunk *row, uint32_t server)
{
	for (unsigned i = 0; i < row->n_members; i++)
		if (row->members[i].server == server)
			return true;
	return false;
}

/* A replica that this server should not have: kept while a copy may be missed, else garbage. Never
 * one that this master has not given out: then it is the master that has lost something. */
static void replica_stray(struct master *m, struct cs *cs, const struct wire_have *have,
			  const struct row_chunk *row)
{
	_cleanup_buf_ struct buf backing = {0}, g = {0};
	struct cmd_garbage cmd = {.server = cs->id, .n_have = 1, .have = {*have}};
	struct key garbage = key_garbage(cs->id, have->id);
	struct condition c;
	struct row_meta meta;

	if (ns_meta(m->st, &meta, &backing) < 0)
		return;
	if (have->id >= meta.next_chunk || (row && have->version > row->version)) {
		log_error("chunk %016llx v%u on %s (%u) is newer than anything this master knows; "
			  "it is kept", (unsigned long long)have->id, have->version, cs->addr,
			  cs->id);
		return;
	}
	if (row && !(repair_examine(m, have->id, &c) == 1 && repair_whole(&c))) {
		csreg_mark(&m->servers, have->id, cs->id, MARK_STALE);
		repair_now(m, have->id);
		return;
	}
	/* Nobody knows what an unknown one is: there is time to find out. */
	if (!row)
		cmd.grace_s = (uint32_t)(m->o.garbage_grace_ms / 1000);
	if (state_get(m->st, key_slice(&garbage), &g) == 0)
		master_propose_quietly(m, CMD_NUMBER_GARBAGE, &cmd);
}

static void replica_check(struct master *m, struct cs *cs, const struct wire_have *have)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_chunk row;
	int r = state_get_row_chunk(m->st, key_chunk(have->id), &row, &backing);

	if (r < 0 || hold_report(m, cs, have, marks_for(have), r == 1 ? &row : NULL))
		return;
	if (r == 0) {
		replica_stray(m, cs, have, NULL);
		return;
	}
	/* A raise that runs settles what is here; what is known against it counts all the same. */
	if (row.pending_version && have->version <= row.pending_version) {
		if (is_member(&row, cs->id) && marks_for(have))
			csreg_mark(&m->servers, have->id, cs->id, marks_for(have));
		return;
	}
	if (!is_member(&row, cs->id) || have->version > row.version)
		replica_stray(m, cs, have, &row);
	else if (have->version < row.version)
		/* Of a chunk that was never written it is what a late first write left. */
		replica_suspect(m, cs, have->id,
				row.flags & CHUNK_WRITTEN ? MARK_DAMAGED : MARK_IN_DOUBT,
				"has an old version");
	else if (have->flags & HAVE_DAMAGED)
		replica_suspect(m, cs, have->id, MARK_DAMAGED, "checksum mismatch or unreadable");
	else if (marks_for(have))
		replica_suspect(m, cs, have->id, marks_for(have),
				have->flags & HAVE_TORN ? "was open at a crash, blocks are torn" :
				have->flags & HAVE_UNCLEAN ? "was open at a crash" :
				"has a write that others may not have");
}

/* ---- digests ---- */

struct expected {
	uint64_t first_id; /* of the range */
	uint32_t count;
	uint64_t digest;
};

/* The next range of the master's own list at or after *id. 1, 0 at the end. */
static int expected_next(struct master *m, uint32_t server, uint64_t id, struct expected *ret)
{
	struct key prefix = key_prefix(key_on_server(server, 0), 5);
	struct key start = key_on_server(server, id);
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(m->st, key_slice(&prefix), key_slice(&start), &it);

	*ret = (struct expected){0};
	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		uint64_t chunk = get_be64(key.data + 5);
		struct row_on_server row;
		if (row_on_server_get(&c, &row) < 0) {
			r = ERR_CORRUPT;
			break;
		}
		if (ret->count == 0)
			ret->first_id = chunk / REPORT_RANGE_IDS * REPORT_RANGE_IDS;
		else if (chunk >= ret->first_id + REPORT_RANGE_IDS)
			break;
		ret->count++;
		ret->digest ^= wire_have_digest(chunk, row.version, 0);
	}
	state_iter_close(it);
	return r < 0 ? r : ret->count > 0;
}

struct seen {
	uint64_t id;
	UT_hash_handle hh;
};

/* Chunks of the range that should be there and were not in the report. */
static void report_missing(struct master *m, struct cs *cs, uint64_t first, struct seen *seen)
{
	struct key prefix = key_prefix(key_on_server(cs->id, 0), 5);
	struct key start = key_on_server(cs->id, first);
	_cleanup_buf_ struct buf missing = {0};
	struct state_iter *it;
	struct slice key, value;

	if (state_iter_open(m->st, key_slice(&prefix), key_slice(&start), &it) < 0)
		return;
	while (state_iter_next(it, &key, &value) == 1) {
		uint64_t id = get_be64(key.data + 5);
		struct seen *found;
		if (id >= first + REPORT_RANGE_IDS)
			break;
		HASH_FIND(hh, seen, &id, sizeof(id), found);
		if (!found)
			buf_be64(&missing, id);
	}
	state_iter_close(it);
	for (size_t i = 0; i + 8 <= missing.len; i += 8) {
		_cleanup_buf_ struct buf backing = {0};
		uint64_t id = get_be64(missing.data + i);
		struct row_chunk row;
		if (state_get_row_chunk(m->st, key_chunk(id), &row, &backing) != 1 ||
		    row.pending_version)
			continue;
		/* Made, but never written to: the file comes with the first write. */
		if (row.flags & CHUNK_WRITTEN)
			replica_suspect(m, cs, id, MARK_DAMAGED, "is missing");
	}
}

/* Both lists rise: walk them together. What only one side has differs too. */
static void on_digest(struct master *m, struct peer *peer, const struct wire_header *h,
		      struct slice fields)
{
	_cleanup_free_ struct wire_cs_digest_reply *rep = calloc(1, sizeof(*rep));
	struct cs *cs = peer_cs(peer);
	struct expected e;
	unsigned i = 0;
	int have;
	PEER_DECODE(wire_cs_digest, req);

	if (!rep) {
		peer_fail(peer, h, ERR_NOMEM, NULL);
		return;
	}
	have = expected_next(m, cs->id, req.from_id, &e);
	while (have >= 0 && (i < req.n_ranges || (have == 1 && req.last))) {
		bool mine = have == 1 && (i == req.n_ranges ||
					  e.first_id <= req.ranges[i].first_id);
		bool theirs = i < req.n_ranges &&
			      (have != 1 || req.ranges[i].first_id <= e.first_id);
		uint64_t first = mine ? e.first_id : req.ranges[i].first_id;
		if (!theirs)
			/* Nothing there: no need to be told. */
			report_missing(m, cs, first, NULL);
		else if (!mine || e.count != req.ranges[i].count ||
			 e.digest != req.ranges[i].digest)
			rep->differ[rep->n_differ++] = first;
		i += theirs;
		if (mine)
			have = expected_next(m, cs->id, first + REPORT_RANGE_IDS, &e);
	}
	if (have < 0)
		peer_fail(peer, h, have, NULL);
	else
		peer_reply(peer, h, rep);
}

/* ---- reports ---- */

static void on_report(struct master *m, struct peer *peer, const struct wire_header *h,
		      struct slice fields)
{
	struct cs *cs = peer_cs(peer);
	struct seen *seen = NULL, *s, *next;
	struct wire_empty empty;
	struct cursor list, item;
	bool bad;
	int r;
	PEER_DECODE(wire_cs_report, req);

	list = cursor_slice(req.have);
	bad = req.first_id % REPORT_RANGE_IDS || req.first_id > UINT64_MAX - REPORT_RANGE_IDS;
	while (!bad && (r = wire_list_next(&list, &item)) != 0) {
		struct wire_have have;
		bad = r < 0 || wire_have_get(&item, &have) < 0 || have.id < req.first_id ||
		      have.id - req.first_id >= REPORT_RANGE_IDS ||
		      (s = calloc(1, sizeof(*s))) == NULL;
		if (bad)
			break;
		s->id = have.id;
		HASH_ADD(hh, seen, id, sizeof(s->id), s);
		replica_check(m, cs, &have);
	}
	/* A list that was not read to its end says nothing about what is missing. */
	if (!bad)
		report_missing(m, cs, req.first_id, seen);
	HASH_ITER(hh, seen, s, next) {
		HASH_DEL(seen, s);
		free(s);
	}
	if (bad)
		peer_fail(peer, h, ERR_PROTOCOL, "malformed report");
	else
		peer_reply(peer, h, &empty);
}

static void on_damage(struct master *m, struct peer *peer, const struct wire_header *h,
		      struct slice fields)
{
	struct wire_empty empty;
	struct cursor list, item;
	PEER_DECODE(wire_cs_damage, req);

	list = cursor_slice(req.have);
	while (wire_list_next(&list, &item) == 1) {
		struct wire_have have;
		if (wire_have_get(&item, &have) == 0)
			replica_check(m, peer_cs(peer), &have);
	}
	peer_reply(peer, h, &empty);
}

static void on_ready(struct master *m, struct peer *peer, const struct wire_header *h,
		     struct slice fields)
{
	struct cs *cs = peer_cs(peer);
	struct wire_empty empty;

	cs_ready(cs);
	m->garbage_due = true;
	log_info("chunkserver %s (%u): up", cs->addr, cs->id);
	peer_reply(peer, h, &empty);
}

static void on_heartbeat(struct master *m, struct peer *peer, const struct wire_header *h,
			 struct slice fields)
{
	struct cs *cs = peer_cs(peer);
	struct wire_cs_beat rep;
	PEER_DECODE(wire_cs_heartbeat, req);

	cs->total_bytes = req.total_bytes;
	cs->free_bytes = req.free_bytes;
	cs->chunks = req.chunks;
	cs->disks = req.disks;
	cs->disks_bad = req.disks_bad;
	cs->load = req.load;
	cs->scrub = req.scrub;
	cs->refused = req.refused;
	cs_working(cs, &req);
	rep.n_keys = tokens_keys(&m->tokens, clock_ms(), rep.keys);
	peer_reply(peer, h, &rep);
}

/* A chain member could not reach or use the next one. */
static void on_chain_fault(struct master *m, struct peer *peer, const struct wire_header *h,
			   struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_empty empty;
	struct row_chunk row;
	PEER_DECODE(wire_chunk_fault, req);

	log_warn("%s: chunk %016llx v%u: server %u failed in the chain: %s", peer->name,
		 (unsigned long long)req.chunk, req.version, req.server, err_text(req.reason));
	csreg_blame(&m->servers, req.server, req.reason);
	if (state_get_row_chunk(m->st, key_chunk(req.chunk), &row, &backing) == 1 &&
	    row.version == req.version && !row.pending_version && is_member(&row, req.server) &&
	    row.n_members > 1 && hold_open(m))
		raise_start(m, req.chunk, req.server, NULL, NULL);
	peer_reply(peer, h, &empty);
}

void rpc_cs_message(struct master *m, struct peer *peer, const struct wire_header *h,
		    struct slice fields)
{
	static const struct {
		uint16_t op;
		void (*handle)(struct master *m, struct peer *peer, const struct wire_header *h,
			       struct slice fields);
	} handlers[] = {
		{OP_CS_DIGEST, on_digest}, {OP_CS_REPORT, on_report}, {OP_CS_READY, on_ready},
		{OP_CS_HEARTBEAT, on_heartbeat}, {OP_CS_DAMAGE, on_damage},
		{OP_CHUNK_FAULT, on_chain_fault},
	};
	struct cs *cs = peer_cs(peer);

	if (cs)
		cs_heard(cs);
	if (h->flags & WIRE_REPLY) {
		if (cs)
			cs_reply(cs, h, fields);
		return;
	}
	if (h->op == OP_CS_REGISTER) {
		audit_asked(peer, h, fields);
		on_register(m, peer, h, fields);
		return;
	}
	for (size_t i = 0; cs && i < ARRAY_LEN(handlers); i++) {
		if (handlers[i].op == h->op) {
			handlers[i].handle(m, peer, h, fields);
			return;
		}
	}
	peer_fail(peer, h, ERR_PROTOCOL, cs ? "not a request of chunkservers" : "register first");
}
