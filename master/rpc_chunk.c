/* Where chunks are: for readers, for writers, and when a member could not be used. */
#include "master/rpc_client.h"

#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/place.h"

/* ---- locations ---- */

static bool replica_usable(struct master *m, uint64_t chunk, uint32_t server)
{
	return !cs_absent(&m->servers, csreg_find(&m->servers, server)) &&
	       !(csreg_marked(&m->servers, chunk, server) & ~MARK_STALE);
}

/* A server's place in a token; false: it has no address, or no tag could be made. */
static bool cs_tag(struct cs *cs, const struct token_key *key, uint8_t *ret)
{
	if (!cs || !cs->addr[0])
		return false;
	if (cs->tag_key != key->number || key->number == 0) {
		if (!token_tag(key, cs->id, slice_str(cs->addr), cs->tag))
			return false;
		cs->tag_key = key->number;
	}
	memcpy(ret, cs->tag, sizeof(cs->tag));
	return true;
}

/* The name in its certificate; with a shared key nobody has one. */
static struct slice peer_holder(const struct peer *p)
{
	return slice_str(p->tls ? p->tls->peer.name : "");
}

void chunk_addresses(struct call *c, struct wire_chunk *chunk, uint8_t rights, uint64_t session,
		     uint8_t *room)
{
	const struct token_key *key = tokens_current(&c->m->tokens);
	struct token t = {.rights = rights, .version = chunk->version, .chunk = chunk->id,
			  .session = session};

	for (unsigned i = 0; i < chunk->n_replicas; i++) {
		struct cs *cs = csreg_find(&c->m->servers, chunk->replicas[i].server);
		chunk->replicas[i].addr = slice_str(cs ? cs->addr : "");
		if (key && cs_tag(cs, key, t.members[t.n_members]))
			t.n_members++;
	}
	if (chunk->id)
		chunk->token = slice_of(room, tokens_seal(&c->m->tokens, &t, peer_holder(c->peer),
							  clock_ms(), room));
}

/* For readers: replicas that cannot serve are left out, those of suspect servers come last; if none
 * can serve, all stay, so that the client sees who should have had it. Writers always get the whole
 * set: one that is left out would keep old bytes under a valid version. */
static void chunk_for_read(struct call *c, struct wire_chunk *chunk, uint64_t session, uint8_t *room)
{
	struct master *m = c->m;
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
	chunk_addresses(c, chunk, TOKEN_READ, session, room);
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

bool chunk_whole(struct master *m, const struct wire_chunk *chunk)
{
	return members_of(m, chunk).usable == chunk->n_replicas;
}

uint16_t place_new(struct master *m, struct row_member *ret, int *ret_code, bool *ret_wait)
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

/* ---- writing ---- */

/* there: only the file changes; its chunk is made if it was cut away just now. */
static void chunk_make(struct call *c, struct slice fields, const struct wire_chunk_for_write *req,
		       bool there)
{
	struct cmd_chunk_make cmd = {.req = *req};
	bool wait;
	int code;

	c->inode = req->inode;
	cmd.n_members = place_new(c->m, cmd.members, &code, &wait);
	if (there)
		call_propose(c, fields, CMD_NUMBER_CHUNK_MAKE, &cmd);
	else if (wait)
		call_park(c, fields);
	else if (cmd.n_members == 0)
		call_fail(c, code, NULL);
	else
		call_propose(c, fields, CMD_NUMBER_CHUNK_MAKE, &cmd);
}

void on_chunk_for_write(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_chunk_reply rep = {0};
	uint8_t token[TOKEN_BYTES_MAX];
	struct row_reply before;
	struct members members;
	uint64_t pending = 0;
	struct err err = {0};
	int r, strips;
	CALL_DECODE_CRED(wire_chunk_for_write, req, req.id.session);

	r = opid_check(c, &req.id, &before, &backing);
	if (r < 0 || !call_may(c, access_chunk_make(c->m->st, &req)))
		return;
	/* Who writes has W before the first byte goes out. */
	gate_add(c, req.inode);
	if (!gate_enter(c, fields, req.id.session))
		return;
	r = query_getattr(c->m->st, req.inode, &rep.attr, &err);
	if (r == 0)
		lease_write(&c->m->leases, req.id.session, req.inode);
	if (r == 0)
		r = query_chunk_at(c->m->st, req.inode, req.index, &rep.chunk, &pending, &err);
	if (r < 0) {
		call_fail(c, r, err.text);
		return;
	}
	strips = access_strips(c->m->st, &req.cred, req.inode);
	if (strips < 0) {
		call_fail(c, strips, NULL);
		return;
	}
	/* A retry gets the chunk as it is now; one that was cut away since must not be written, nor one of a
	 * file that got set-id bits since. */
	if ((r == 0 || strips) && opid_check(c, &req.id, &before, &backing) == 1) {
		call_fail(c, before.status < 0 ? before.status : ERR_CHUNK_VERSION, NULL);
		return;
	}
	if (r == 0) {
		chunk_make(c, fields, &req, false);
		return;
	}
	/* Writers get only whole sets. A member that is down is left out first, one with marks is
	 * compared; when all that are left are damaged, writing may go on where it can. */
	members = members_of(c->m, &rep.chunk);
	if (members.expected)
		call_park(c, fields);
	else if (pending || members.down || (members.usable < members.up && members.sound > 0))
		wait_for_raise(c, fields, rep.chunk.id, members.down);
	else if (strips)
		chunk_make(c, fields, &req, true);
	else {
		chunk_addresses(c, &rep.chunk, TOKEN_READ | TOKEN_WRITE, req.id.session, token);
		gate_leave(c);
		call_reply(c, &rep, lease_writer(c->m, req.id.session, req.inode));
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

/* Of a chunk of another export, or a writer's where nothing may be written, nothing is believed. */
static bool fault_is_admitted(struct call *c, const struct wire_chunk_fault *req)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_chunk row;
	int r;

	if (!c->scope.within)
		return true;
	r = state_get_row_chunk(c->m->st, key_chunk(req->chunk), &row, &backing);
	if (r != 1)
		return call_may(c, r < 0 ? r : ERR_NO_CHUNK);
	if (req->writing && (c->scope.row.flags & EXPORT_READ_ONLY))
		return call_may(c, ERR_ROFS);
	return call_sees(c, row.inode);
}

void on_chunk_fault(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_empty empty;
	struct row_chunk row;
	struct call *kept;
	struct cs *cs;
	bool member = false, content;
	CALL_DECODE(wire_chunk_fault, req);

	if (!fault_is_admitted(c, &req))
		return;
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

/* ---- reading ---- */

void on_locate(struct call *c, struct slice fields)
{
	uint8_t tokens[CHUNKS_PER_LOCATE_MAX][TOKEN_BYTES_MAX];
	struct wire_locate_reply rep = {0};
	struct err err = {0};
	uint64_t pending;
	int r;
	CALL_DECODE_CRED(wire_locate, req, req.session);

	if (!call_may(c, access_locate(c->m->st, &req)) ||
	    !gate_read(c, fields, req.session, req.inode))
		return;
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
		chunk_for_read(c, &rep.chunks[i], req.session, tokens[i]);
	}
	if (r < 0)
		call_fail(c, r, err.text);
	else
		call_reply(c, &rep, lease_inode(c->m, req.session, req.inode));
}

/* Of the quotas around an inode the tightest limit of bytes, and of inodes, counts. What an export's
 * clients see ends with its own directory's: how much is in there, and how much may come. */
static void statfs_quotas(struct state *st, uint64_t inode, uint32_t within,
			  struct wire_statfs_reply *rep)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	uint32_t id = ns_inode(st, inode, &row, &backing) == 0 ? row.project : 0;

	while (id) {
		uint64_t left, used;
		struct row_quota q;
		if (state_get_row_quota(st, key_quota(id), &q, &backing) != 1)
			return;
		used = q.blocks * BLOCK_BYTES;
		left = used < q.bytes_max ? q.bytes_max - used : 0;
		if (q.bytes_max && left < rep->free_bytes)
			rep->free_bytes = left;
		if (q.bytes_max && q.bytes_max < rep->total_bytes)
			rep->total_bytes = q.bytes_max;
		if (q.inodes_max && (!rep->inodes_max ||
				     (int64_t)(q.inodes_max - q.inodes) <
					     (int64_t)(rep->inodes_max - rep->inodes))) {
			rep->inodes_max = q.inodes_max;
			rep->inodes = q.inodes;
		}
		if (id == within && !q.bytes_max)
			rep->total_bytes = used + rep->free_bytes;
		if (id == within && !rep->inodes_max)
			rep->inodes = q.inodes;
		id = q.parent;
	}
}

void on_statfs(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_statfs_reply rep = {0};
	struct row_policy policy;
	struct row_meta meta;
	struct cs *cs, *next;
	CALL_DECODE_CRED(wire_inode_ref, req, req.session);

	/* The whole, for these, is their export. */
	if (c->scope.within && req.inode == 0)
		req.inode = c->scope.row.inode;
	if (req.inode && !call_may(c, access_inode(c->m->st, &req.cred, req.inode)))
		return;
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
	statfs_quotas(c->m->st, req.inode, c->scope.within, &rep);
	peer_reply(c->peer, &c->h, &rep);
}
