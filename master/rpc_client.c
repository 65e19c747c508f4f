/* What clients ask. Reads are answered at once from the state. Mutations become commands: the
 * request record itself, with the time and the placement added. A request that meets a chunk whose
 * raise is pending waits for it and is then looked at again from the start. */
#include <stdlib.h>
#include <sys/stat.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/master.h"
#include "master/place.h"
#include "master/query.h"

enum { CALL_ATTEMPTS_MAX = 4, PARK_MS = 8000 };

/* A request that is not answered at once. */
struct call {
	struct master *m;
	struct peer *peer;
	struct wire_header h;
	struct buf fields;
	unsigned attempts;
	int64_t park_until_ms; /* 0: was never parked */
	struct call *prev, *next;
};

static void client_handle(struct call *c, struct slice fields);

static struct call *call_keep(const struct call *c, struct slice fields)
{
	struct call *kept = calloc(1, sizeof(*kept));

	if (!kept)
		return NULL;
	*kept = *c;
	kept->fields = (struct buf){0};
	buf_append_slice(&kept->fields, fields);
	if (buf_status(&kept->fields) < 0) {
		free(kept);
		return NULL;
	}
	peer_ref(kept->peer);
	return kept;
}

static void call_free(struct call *c)
{
	peer_unref(c->peer);
	buf_release(&c->fields);
	free(c);
}

static void call_fail(struct call *c, int code, const char *text)
{
	peer_fail(c->peer, &c->h, code, text);
}

/* Looked at again in the next tick: a server that this master waits for may be back by then. */
static void call_park(struct call *c, struct slice fields)
{
	struct call *kept;

	if (!c->park_until_ms)
		c->park_until_ms = deadline_in(PARK_MS);
	if (clock_ms() >= c->park_until_ms) {
		call_fail(c, ERR_NO_SERVERS, NULL);
		return;
	}
	kept = call_keep(c, fields);
	if (kept)
		DL_APPEND(c->m->parked, kept);
	else
		call_fail(c, ERR_NOMEM, NULL);
}

void rpc_client_tick(struct master *m)
{
	struct call *list = m->parked, *c, *next;

	m->parked = NULL;
	DL_FOREACH_SAFE(list, c, next) {
		DL_DELETE(list, c);
		if (!c->peer->closing)
			client_handle(c, buf_slice(&c->fields));
		call_free(c);
	}
}

void rpc_client_free(struct master *m)
{
	struct call *c, *next;

	DL_FOREACH_SAFE(m->parked, c, next) {
		DL_DELETE(m->parked, c);
		call_free(c);
	}
}

/* ---- locations ---- */

static bool replica_usable(struct master *m, uint64_t chunk, uint32_t server)
{
	return !cs_absent(&m->servers, csreg_find(&m->servers, server)) &&
	       !(csreg_marked(&m->servers, chunk, server) & ~MARK_STALE);
}

static void chunk_addresses(struct master *m, struct wire_chunk *chunk)
{
	for (unsigned i = 0; i < chunk->n_replicas; i++) {
		struct cs *cs = csreg_find(&m->servers, chunk->replicas[i].server);
		chunk->replicas[i].addr = slice_str(cs ? cs->addr : "");
	}
}

/* For readers: replicas that cannot serve are left out, those of suspect servers come last; if none
 * can serve, all stay, so that the client sees who should have had it. Writers always get the whole
 * set: one that is left out would keep old bytes under a valid version. */
static void chunk_for_read(struct master *m, struct wire_chunk *chunk)
{
	struct wire_replica last[REPLICAS_MAX];
	unsigned n = 0, n_last = 0;

	for (unsigned i = 0; i < chunk->n_replicas; i++) {
		uint32_t server = chunk->replicas[i].server;
		if (!replica_usable(m, chunk->id, server))
			continue;
		if (csreg_find(&m->servers, server)->state == SERVER_SUSPECT)
			last[n_last++] = chunk->replicas[i];
		else
			chunk->replicas[n++] = chunk->replicas[i];
	}
	for (unsigned i = 0; i < n_last; i++)
		chunk->replicas[n++] = last[i];
	if (n > 0)
		chunk->n_replicas = (uint16_t)n;
	chunk_addresses(m, chunk);
}

/* How a chunk's members are now. */
struct members {
	unsigned usable, up, sound; /* sound: up, and not known to be damaged */
	unsigned doubtful;	    /* up and sound, to be compared */
	uint32_t down;		    /* one that is down or does not answer, or 0 */
	bool expected;		    /* one is not up but (re)starting */
};

static struct members members_of(struct master *m, const struct wire_chunk *chunk)
{
	struct members r = {0};

	for (unsigned i = 0; i < chunk->n_replicas; i++) {
		uint32_t id = chunk->replicas[i].server;
		uint8_t marks = csreg_marked(&m->servers, chunk->id, id);
		if (cs_absent(&m->servers, csreg_find(&m->servers, id))) {
			r.down = id;
			r.expected |= csreg_expected(&m->servers, id);
			continue;
		}
		r.up++;
		r.usable += !(marks & ~MARK_STALE);
		r.sound += !(marks & MARK_DAMAGED);
		r.doubtful += (marks & ~MARK_STALE) && !(marks & MARK_DAMAGED);
	}
	return r;
}

/* Members for a new chunk. 0 with none: *ret_code says why (no room, or nobody up). *ret_wait: a
 * server that could complete the set is about to come up. */
static uint16_t place_new(struct master *m, struct row_member *ret, int *ret_code, bool *ret_wait)
{
	_cleanup_free_ struct place_server *list =
		calloc(HASH_COUNT(m->servers.by_id) + 1, sizeof(*list));
	_cleanup_buf_ struct buf backing = {0};
	struct row_policy policy = {0};
	uint32_t ids[REPLICAS_MAX];
	struct cs *cs, *next;
	unsigned n = 0, chosen;
	bool expected = false;

	*ret_code = ERR_NO_SERVERS;
	*ret_wait = false;
	if (!list || state_get_row_policy(m->st, key_policy(0), &policy, &backing) != 1)
		return 0;
	HASH_ITER(hh, m->servers.by_id, cs, next) {
		if (cs_takes(cs))
			list[n++] = (struct place_server){
				.id = cs->id, .free_bytes = cs->free_bytes, .load = cs->load,
				.rack = cs->rack, .host = cs->host};
		else
			expected |= csreg_expected(&m->servers, cs->id);
	}
	if (n > 0)
		*ret_code = ERR_NOSPC;
	chosen = place_choose(list, n, policy.copies, random_u64, NULL, ids);
	for (unsigned i = 0; i < chosen; i++)
		ret[i] = (struct row_member){.server = ids[i]};
	*ret_wait = expected && chosen < policy.copies;
	return (uint16_t)chosen;
}

/* ---- answers of commands ---- */

static void reply_make(struct call *c, struct slice fields)
{
	struct cursor cur = cursor_slice(fields);
	struct wire_make_reply rep;
	struct members members;

	if (wire_make_reply_get(&cur, &rep) < 0) {
		call_fail(c, ERR_CORRUPT, NULL);
		return;
	}
	members = members_of(c->m, &rep.chunk);
	/* A set that is not whole now must be changed first: the client asks for it then. */
	if (members.usable < rep.chunk.n_replicas)
		rep.chunk = (struct wire_chunk){0};
	chunk_addresses(c->m, &rep.chunk);
	peer_reply(c->peer, &c->h, &rep);
}

static void reply_chunk(struct call *c, struct slice fields)
{
	struct cursor cur = cursor_slice(fields);
	struct wire_chunk_reply rep;

	if (wire_chunk_reply_get(&cur, &rep) < 0) {
		call_fail(c, ERR_CORRUPT, NULL);
		return;
	}
	chunk_addresses(c->m, &rep.chunk);
	peer_reply(c->peer, &c->h, &rep);
}

/* Replies with chunks get their addresses when they are sent: those may change, the answer not. */
static void reply_with_result(struct call *c, int status, const char *text, struct slice fields)
{
	if (status < 0)
		call_fail(c, status, text);
	else if (c->h.op == OP_MAKE)
		reply_make(c, fields);
	else if (c->h.op == OP_CHUNK_FOR_WRITE)
		reply_chunk(c, fields);
	else
		peer_reply_raw(c->peer, &c->h, fields);
}

static void session_opened(struct call *c, struct slice fields)
{
	struct cursor cur = cursor_slice(fields);
	struct wire_session rep;

	if (wire_session_get(&cur, &rep) < 0) {
		call_fail(c, ERR_CORRUPT, NULL);
		return;
	}
	session_seen(c->m, rep.session);
	rep.ttl_ms = (uint32_t)c->m->o.session_ttl_ms;
	peer_reply(c->peer, &c->h, &rep);
}

static void command_done(struct master *m, void *arg, struct apply_result *result)
{
	struct call *c = arg;

	/* Unknown outcome: no answer is the only true one. The client asks again. */
	if (!result)
		peer_close(c->peer, "outcome unknown");
	else if (c->h.op == OP_SESSION_OPEN && result->status == 0)
		session_opened(c, buf_slice(&result->reply));
	else
		reply_with_result(c, result->status, result->text, buf_slice(&result->reply));
	call_free(c);
}

static void call_propose(struct call *c, struct slice fields, uint16_t number, const void *record)
{
	struct call *kept = call_keep(c, fields);

	if (!kept)
		call_fail(c, ERR_NOMEM, NULL);
	else
		master_propose(c->m, number, record, command_done, kept);
}

/* 1: this operation has an answer, which is in ret; 0: it has none; negative: refused, and told. */
static int opid_check(struct call *c, const struct wire_opid *id, struct row_reply *ret,
		      struct buf *backing)
{
	struct err err = {0};
	int r;

	if (!id->session || !id->seq) {
		call_fail(c, ERR_PROTOCOL, "a mutation needs a session and a number");
		return ERR_PROTOCOL;
	}
	r = query_reply(c->m->st, id, ret, backing, &err);
	if (r < 0)
		call_fail(c, r, err.text);
	else
		session_seen(c->m, id->session);
	return r;
}

/* A retry of what was done is answered from memory. True: it is answered. */
static bool answered_before(struct call *c, const struct wire_opid *id)
{
	_cleanup_buf_ struct buf backing = {0};
	char text[TEXT_BYTES_MAX + 1] = "";
	struct row_reply reply;
	int r = opid_check(c, id, &reply, &backing);

	if (r == 1) {
		if (reply.status)
			memcpy(text, reply.fields.data, reply.fields.len < TEXT_BYTES_MAX ?
							reply.fields.len : TEXT_BYTES_MAX);
		reply_with_result(c, reply.status, text, reply.fields);
	}
	return r != 0;
}

/* ---- waiting for a raise ---- */

static void raise_waited(void *arg, int code)
{
	struct call *c = arg;

	/* A chunk that was cut away meanwhile is none to wait for. */
	if ((code == 0 || code == ERR_NO_CHUNK) && ++c->attempts < CALL_ATTEMPTS_MAX)
		client_handle(c, buf_slice(&c->fields));
	else
		call_fail(c, code ? code : ERR_CHUNK_PENDING, NULL);
	call_free(c);
}

static void wait_for_raise(struct call *c, struct slice fields, uint64_t chunk, uint32_t drop)
{
	struct call *kept = call_keep(c, fields);

	if (!kept)
		call_fail(c, ERR_NOMEM, NULL);
	else
		raise_start(c->m, chunk, drop, raise_waited, kept);
}

/* ---- mutations ---- */

#define DECODE(record, m)                                                       \
	struct record m;                                                        \
	do {                                                                    \
		struct cursor decode_cursor = cursor_slice(fields);             \
		if (record##_get(&decode_cursor, &m) < 0) {                     \
			call_fail(c, ERR_PROTOCOL, "malformed request");        \
			return;                                                 \
		}                                                               \
	} while (0)

/* Those whose command is the request and nothing else. */
#define SIMPLE_MUTATION(name, NAME)                                             \
	static void on_##name(struct call *c, struct slice fields)              \
	{                                                                       \
		struct cmd_##name cmd = {0};                                    \
		DECODE(wire_##name, req);                                       \
		if (answered_before(c, &req.id))                                \
			return;                                                 \
		cmd.req = req;                                                  \
		call_propose(c, fields, CMD_NUMBER_##NAME, &cmd);               \
	}
SIMPLE_MUTATION(link, LINK)
SIMPLE_MUTATION(unlink, UNLINK)
SIMPLE_MUTATION(rename, RENAME)
SIMPLE_MUTATION(xattr_set, XATTR_SET)
SIMPLE_MUTATION(release, RELEASE)
SIMPLE_MUTATION(wrote, WROTE)

static void on_make(struct call *c, struct slice fields)
{
	struct cmd_make cmd = {0};
	bool wait = false;
	int code;
	DECODE(wire_make, req);

	if (answered_before(c, &req.id))
		return;
	cmd.req = req;
	/* No server for a first chunk is no reason to refuse the name: an empty file needs none. */
	if ((req.flags & MAKE_CHUNK) && S_ISREG(req.mode))
		cmd.n_members = place_new(c->m, cmd.members, &code, &wait);
	if (wait)
		cmd.n_members = 0;
	call_propose(c, fields, CMD_NUMBER_MAKE, &cmd);
}

/* How far a truncation may go in one command: *ret is the size to cut to first, or `size`. */
static int setattr_step(struct master *m, const struct wire_setattr *req, uint64_t *ret)
{
	_cleanup_buf_ struct buf backing = {0};
	uint64_t last[CHUNKS_FREED_MAX], n = 0;
	struct row_inode row;
	struct state_iter *it;
	struct slice key, value;
	struct key prefix, start;
	int r = ns_inode(m->st, req->inode, &row, &backing);

	*ret = req->size;
	if (r < 0 || !S_ISREG(row.mode) || req->size >= row.size)
		return 0; /* apply gives the answer */
	start = key_file_chunk(req->inode, (req->size >> row.chunk_bits) +
					       (req->size % (1ULL << row.chunk_bits) != 0));
	prefix = key_prefix(start, 9);
	r = state_iter_open(m->st, key_slice(&prefix), key_slice(&start), &it);
	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1)
		last[n++ % CHUNKS_FREED_MAX] = get_be64(key.data + 9);
	state_iter_close(it);
	if (n > CHUNKS_FREED_MAX)
		*ret = last[n % CHUNKS_FREED_MAX] << row.chunk_bits;
	return r;
}

static void setattr_step_done(struct master *m, void *arg, struct apply_result *result)
{
	struct call *c = arg;

	if (result && result->status == 0)
		client_handle(c, buf_slice(&c->fields));
	else
		call_fail(c, result ? result->status : ERR_SHUTDOWN, result ? result->text : NULL);
	call_free(c);
}

static void on_setattr(struct call *c, struct slice fields)
{
	struct cmd_setattr cmd = {0};
	uint64_t step;
	DECODE(wire_setattr, req);

	if (answered_before(c, &req.id))
		return;
	cmd.req = req;
	if ((req.mask & SET_SIZE) && setattr_step(c->m, &req, &step) == 0 && step != req.size) {
		struct call *kept = call_keep(c, fields);
		if (!kept) {
			call_fail(c, ERR_NOMEM, NULL);
			return;
		}
		/* From the tail, as the master's own command; then the request again. */
		cmd.req = (struct wire_setattr){.inode = req.inode, .mask = SET_SIZE, .size = step};
		master_propose(c->m, CMD_NUMBER_SETATTR, &cmd, setattr_step_done, kept);
		return;
	}
	call_propose(c, fields, CMD_NUMBER_SETATTR, &cmd);
}

static void chunk_make(struct call *c, struct slice fields, const struct wire_chunk_for_write *req)
{
	struct cmd_chunk_make cmd = {.req = *req};
	bool wait;
	int code;

	cmd.n_members = place_new(c->m, cmd.members, &code, &wait);
	if (wait)
		call_park(c, fields);
	else if (cmd.n_members == 0)
		call_fail(c, code, NULL);
	else
		call_propose(c, fields, CMD_NUMBER_CHUNK_MAKE, &cmd);
}

static void on_chunk_for_write(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_chunk_reply rep = {0};
	struct row_reply before;
	struct members members;
	uint64_t pending = 0;
	struct err err = {0};
	int r;
	DECODE(wire_chunk_for_write, req);

	r = opid_check(c, &req.id, &before, &backing);
	if (r < 0)
		return;
	r = query_getattr(c->m->st, req.inode, &rep.attr, &err);
	if (r == 0)
		r = query_chunk_at(c->m->st, req.inode, req.index, &rep.chunk, &pending, &err);
	if (r < 0) {
		call_fail(c, r, err.text);
		return;
	}
	/* A retry gets the chunk as it is now; one that was cut away since must not be written. */
	if (r == 0 && opid_check(c, &req.id, &before, &backing) == 1) {
		call_fail(c, before.status < 0 ? before.status : ERR_CHUNK_VERSION, NULL);
		return;
	}
	if (r == 0) {
		chunk_make(c, fields, &req);
		return;
	}
	/* Writers get only whole sets. A member that is down is left out first, one with marks is
	 * compared; when all that are left are damaged, writing may go on where it can. */
	members = members_of(c->m, &rep.chunk);
	if (members.expected)
		call_park(c, fields);
	else if (pending || members.down || (members.usable < members.up && members.sound > 0))
		wait_for_raise(c, fields, rep.chunk.id, members.down);
	else {
		chunk_addresses(c->m, &rep.chunk);
		peer_reply(c->peer, &c->h, &rep);
	}
}

static void fault_done(void *arg, int code)
{
	struct call *c = arg;
	struct wire_empty empty;

	if (code < 0)
		call_fail(c, code, NULL);
	else
		peer_reply(c->peer, &c->h, &empty);
	call_free(c);
}

static bool members_without_room(struct master *m, const struct row_chunk *row)
{
	for (unsigned i = 0; i < row->n_members; i++) {
		struct cs *cs = csreg_find(&m->servers, row->members[i].server);
		if (cs_up(cs) && cs->free_bytes >= PLACE_FREE_BYTES_MIN)
			return false;
	}
	return true;
}

static void on_chunk_fault(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_empty empty;
	struct row_chunk row;
	struct call *kept;
	struct cs *cs;
	bool member = false, content;
	DECODE(wire_chunk_fault, req);

	cs = csreg_find(&c->m->servers, req.server);
	log_warn("%s: chunk %016llx v%u on %s (%u): %s: %s (%.*s)", c->peer->name,
		 (unsigned long long)req.chunk, req.version, cs ? cs->addr : "?", req.server,
		 req.writing ? "write" : "read", err_text(req.reason),
		 (int)(req.text.len < 200 ? req.text.len : 200), (const char *)req.text.data);
	if (state_get_row_chunk(c->m->st, key_chunk(req.chunk), &row, &backing) == 1 &&
	    row.version == req.version) {
		for (unsigned i = 0; i < row.n_members; i++)
			member |= row.members[i].server == req.server;
	}
	content = req.reason == ERR_CHECKSUM || req.reason == ERR_CORRUPT ||
		  req.reason == ERR_NO_CHUNK || req.reason == ERR_IO;
	csreg_blame(&c->m->servers, req.server, req.reason);
	if (!member || (!req.writing && !content)) {
		peer_reply(c->peer, &c->h, &empty);
		return;
	}
	if (req.reason == ERR_NOSPC && members_without_room(c->m, &row)) {
		call_fail(c, ERR_NOSPC, NULL);
		return;
	}
	if (content)
		csreg_mark(&c->m->servers, req.chunk, req.server, MARK_DAMAGED);
	if (!req.writing) {
		/* Readers have others to go to: mended in the background. */
		repair_now(c->m, req.chunk);
		peer_reply(c->peer, &c->h, &empty);
		return;
	}
	kept = call_keep(c, fields);
	if (!kept)
		call_fail(c, ERR_NOMEM, NULL);
	else
		raise_start(c->m, req.chunk, req.server, fault_done, kept);
}

/* ---- sessions ---- */

static void on_session_open(struct call *c, struct slice fields)
{
	struct cmd_session_open cmd;
	DECODE(wire_session_open, req);

	cmd.req = req;
	call_propose(c, fields, CMD_NUMBER_SESSION_OPEN, &cmd);
}

static void on_session_ping(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_session row;
	struct wire_empty empty;
	int r;
	DECODE(wire_session_ref, req);

	r = state_get_row_session(c->m->st, key_session(req.session), &row, &backing);
	if (r != 1) {
		call_fail(c, r < 0 ? r : ERR_STALE, "this session has expired");
		return;
	}
	session_seen(c->m, req.session);
	peer_reply(c->peer, &c->h, &empty);
}

static void on_session_close(struct call *c, struct slice fields)
{
	struct wire_empty empty;
	DECODE(wire_session_ref, req);

	session_close(c->m, req.session);
	peer_reply(c->peer, &c->h, &empty);
}

/* ---- reads ---- */

static void answer(struct call *c, int r, const struct err *err, const void *reply)
{
	if (r < 0)
		call_fail(c, r, err->text);
	else
		peer_reply(c->peer, &c->h, reply);
}

static void on_lookup(struct call *c, struct slice fields)
{
	struct wire_attr_reply rep = {0};
	struct err err = {0};
	DECODE(wire_name_ref, req);
	answer(c, query_lookup(c->m->st, &req, &rep, &err), &err, &rep);
}

static void on_getattr(struct call *c, struct slice fields)
{
	struct wire_attr_reply rep = {0};
	struct err err = {0};
	DECODE(wire_inode_ref, req);
	answer(c, query_getattr(c->m->st, req.inode, &rep.attr, &err), &err, &rep);
}

static void on_readdir(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_readdir_reply rep = {0};
	struct err err = {0};
	DECODE(wire_readdir, req);
	answer(c, query_readdir(c->m->st, &req, &rep, &backing, &err), &err, &rep);
}

static void on_readlink(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_readlink_reply rep = {0};
	struct err err = {0};
	DECODE(wire_inode_ref, req);
	answer(c, query_readlink(c->m->st, req.inode, &rep, &backing, &err), &err, &rep);
}

static void on_xattr_get(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_xattr_reply rep = {0};
	struct err err = {0};
	DECODE(wire_xattr_get, req);
	answer(c, query_xattr_get(c->m->st, &req, &rep, &backing, &err), &err, &rep);
}

static void on_xattr_list(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_xattr_reply rep = {0};
	struct err err = {0};
	DECODE(wire_inode_ref, req);
	answer(c, query_xattr_list(c->m->st, req.inode, &rep, &backing, &err), &err, &rep);
}

static void on_locate(struct call *c, struct slice fields)
{
	struct wire_locate_reply rep = {0};
	struct err err = {0};
	uint64_t pending;
	int r;
	DECODE(wire_locate, req);

	r = query_locate(c->m->st, &req, &rep, &pending, &err);
	if (r == 0 && pending) {
		wait_for_raise(c, fields, pending, 0);
		return;
	}
	for (unsigned i = 0; r == 0 && i < rep.n_chunks; i++) {
		struct members members = members_of(c->m, &rep.chunks[i]);
		if (members.usable == 0 && members.expected) {
			call_park(c, fields);
			return;
		}
		/* All are in question: which of them counts is decided before one is read. */
		if (members.usable == 0 && members.doubtful > 0) {
			wait_for_raise(c, fields, rep.chunks[i].id, 0);
			return;
		}
		chunk_for_read(c->m, &rep.chunks[i]);
	}
	answer(c, r, &err, &rep);
}

static void on_statfs(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_statfs_reply rep = {0};
	struct row_policy policy;
	struct row_meta meta;
	struct cs *cs, *next;

	HASH_ITER(hh, c->m->servers.by_id, cs, next) {
		if (cs_up(cs)) {
			rep.total_bytes += cs->total_bytes;
			rep.free_bytes += cs->free_bytes;
		}
	}
	if (state_get_row_policy(c->m->st, key_policy(0), &policy, &backing) == 1) {
		rep.total_bytes /= policy.copies;
		rep.free_bytes /= policy.copies;
	}
	if (ns_meta(c->m->st, &meta, &backing) == 0)
		rep.inodes = meta.inodes;
	peer_reply(c->peer, &c->h, &rep);
}

/* ---- dispatch ---- */

static const struct {
	uint16_t op;
	void (*handle)(struct call *c, struct slice fields);
} client_handlers[] = {
	{OP_SESSION_OPEN, on_session_open}, {OP_SESSION_PING, on_session_ping},
	{OP_SESSION_CLOSE, on_session_close}, {OP_LOOKUP, on_lookup}, {OP_GETATTR, on_getattr},
	{OP_SETATTR, on_setattr}, {OP_READDIR, on_readdir}, {OP_MAKE, on_make},
	{OP_LINK, on_link}, {OP_UNLINK, on_unlink}, {OP_RENAME, on_rename},
	{OP_RELEASE, on_release}, {OP_READLINK, on_readlink}, {OP_XATTR_SET, on_xattr_set},
	{OP_XATTR_GET, on_xattr_get}, {OP_XATTR_LIST, on_xattr_list}, {OP_STATFS, on_statfs},
	{OP_LOCATE, on_locate}, {OP_CHUNK_FOR_WRITE, on_chunk_for_write}, {OP_WROTE, on_wrote},
	{OP_CHUNK_FAULT, on_chunk_fault},
};

static void client_handle(struct call *c, struct slice fields)
{
	for (size_t i = 0; i < ARRAY_LEN(client_handlers); i++) {
		if (client_handlers[i].op == c->h.op) {
			client_handlers[i].handle(c, fields);
			return;
		}
	}
	call_fail(c, ERR_PROTOCOL, "not a request of clients");
}

/* Before a restored master is open: see master/hold.h. */
static bool answered_while_waiting(uint16_t op)
{
	return op == OP_SESSION_OPEN || op == OP_SESSION_PING || op == OP_SESSION_CLOSE;
}

void rpc_client_message(struct master *m, struct peer *peer, const struct wire_header *h,
			struct slice fields)
{
	struct call c = {.m = m, .peer = peer, .h = *h};

	if (h->flags & WIRE_REPLY) {
		peer_close(peer, "sent a reply to nothing");
		return;
	}
	if (rpc_admin_message(m, peer, h, fields) || rpc_recovery_message(m, peer, h, fields))
		return;
	if (!hold_open(m) && !answered_while_waiting(h->op))
		call_fail(&c, ERR_NOT_LEADER, "a restored master waits for the chunkservers");
	else
		client_handle(&c, fields);
}
