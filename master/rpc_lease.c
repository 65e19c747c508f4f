/* Links of sessions, and what is granted and recalled over them (common/wire.h, 6). */
#include "master/rpc_client.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"

/* ---- granting ---- */

/* What a file without a name tells may be used again only by those that hold it: for others it ends
 * without a word. */
static bool may_know(struct master *m, uint64_t session, uint64_t inode)
{
	_cleanup_buf_ struct buf backing = {0}, held_backing = {0};
	struct key held = key_held(session, inode);
	struct row_inode row;

	if (ns_inode(m->st, inode, &row, &backing) < 0)
		return false;
	return row.nlink > 0 || state_get(m->st, key_slice(&held), &held_backing) == 1;
}

static bool grant(struct master *m, uint64_t session, uint64_t inode)
{
	return session && inode && lease_session_find(&m->leases, session) &&
	       may_know(m, session, inode) && lease_read(&m->leases, session, inode, clock_ms());
}

uint8_t lease_inode(struct master *m, uint64_t session, uint64_t inode)
{
	return grant(m, session, inode) ? WIRE_LEASED_INODE : 0;
}

uint8_t lease_parent(struct master *m, uint64_t session, uint64_t parent)
{
	return grant(m, session, parent) ? WIRE_LEASED_PARENT : 0;
}

uint8_t lease_writer(struct master *m, uint64_t session, uint64_t inode)
{
	bool w = lease_has(&m->leases, session, inode, LEASE_W);
	return lease_inode(m, session, inode) | (w ? WIRE_LEASED_WRITE : 0);
}

static bool quota_is_short(struct master *m, uint64_t inode)
{
	return query_quota_left(m->st, inode) < (uint64_t)m->o.buffer_free_min;
}

uint8_t lease_buffering(struct master *m, uint64_t session, uint64_t inode)
{
	bool may = !quota_is_short(m, inode) && lease_buffer(&m->leases, session, inode, clock_ms());

	return may ? WIRE_LEASED_BUFFER : 0;
}

void lease_unbuffer_short(struct master *m, uint64_t inode)
{
	if (quota_is_short(m, inode))
		lease_recall_buffer(&m->leases, inode, 0);
}

void on_lease_write(struct call *c, struct slice fields)
{
	uint8_t buffer = 0;
	struct wire_attr_reply rep = {0};
	struct err err = {0};
	int r;
	CALL_DECODE_CRED(wire_lease_write, req, req.session);

	if (!lease_session_find(&c->m->leases, req.session)) {
		call_fail(c, ERR_STALE, "this session has expired");
		return;
	}
	if (!call_may(c, access_lease_write(c->m->st, &req)))
		return;
	gate_add(c, req.inode);
	if (!gate_enter(c, fields, req.session))
		return;
	r = query_getattr(c->m->st, req.inode, &rep.attr, &err);
	if (r < 0) {
		call_fail(c, r, err.text);
		return;
	}
	lease_write(&c->m->leases, req.session, req.inode);
	gate_leave(c);
	if (req.buffer && S_ISREG(rep.attr.mode))
		buffer = lease_buffering(c->m, req.session, req.inode);
	call_reply(c, &rep, buffer | lease_writer(c->m, req.session, req.inode));
}

void on_lease_open(struct call *c, struct slice fields)
{
	struct cmd_lease_open cmd = {0};
	struct wire_attr_reply rep = {0};
	struct err err = {0};
	int r;
	CALL_DECODE(wire_lease_open, req);

	if (!call_owns(c, req.id.session) || !call_sees(c, req.inode) || answered_before(c, &req.id))
		return;
	if (!gate_read(c, fields, req.id.session, req.inode))
		return;
	c->gate.opens = req.inode;
	if (!gate_enter(c, fields, req.id.session))
		return;
	r = query_getattr(c->m->st, req.inode, &rep.attr, &err);
	if (r < 0) {
		call_fail(c, r == ERR_NOENT ? ERR_STALE : r, err.text);
		return;
	}
	lease_opened(&c->m->leases, req.id.session, req.inode);
	if (rep.attr.nlink > 0) {
		call_reply(c, &rep, lease_inode(c->m, req.id.session, req.inode));
		return;
	}
	/* It lives on as long as somebody holds it: that must be in the log. */
	cmd.req = req;
	c->inode = req.inode;
	call_propose(c, fields, CMD_NUMBER_LEASE_OPEN, &cmd);
}

/* ---- links ---- */

static void link_end(struct master *m, struct session_clock *s)
{
	struct lease_session *ls = lease_session_find(&m->leases, s->session);

	s->link->link_of = 0;
	s->link = NULL;
	if (ls)
		lease_link(&m->leases, ls, false);
}

void rpc_lease_gone(struct master *m, struct peer *peer)
{
	struct session_clock *s = peer->link_of ? session_find(m, peer->link_of) : NULL;

	if (s && s->link == peer)
		link_end(m, s);
}

/* This connection is the session's link from now on. */
static void link_begin(struct call *c, struct session_clock *s)
{
	struct peer *old = s->link;

	if (old == c->peer)
		return;
	if (old) {
		link_end(c->m, s);
		peer_close(old, NULL);
	}
	if (c->peer->link_of)
		rpc_lease_gone(c->m, c->peer);
	s->link = c->peer;
	c->peer->link_of = s->session;
}

static uint8_t listed_rights(uint8_t flags)
{
	uint8_t w = flags & LEASE_WRITES ? LEASE_W : LEASE_O;

	return flags & LEASE_BUFFERS ? LEASE_W | LEASE_B : w;
}

/* What a client must not have it does not get by saying that it has it. Of which of its users the master
 * knows only where all are one. */
static void attach_one(struct call *c, struct lease_session *ls, uint64_t inode, uint8_t flags)
{
	struct wire_lease_write write = {.inode = inode};

	scope_identify(&c->scope, &write.cred);
	if (c->scope.within && access_inode(c->m->st, &write.cred, inode) < 0)
		return;
	if ((c->scope.row.flags & EXPORT_READ_ONLY) ||
	    ((c->scope.row.flags & EXPORT_ALL_SQUASH) && access_lease_write(c->m->st, &write) < 0))
		flags &= LEASE_OPENED;
	lease_list(&c->m->leases, ls, inode, listed_rights(flags));
}

void on_lease_attach(struct call *c, struct slice fields)
{
	struct lease_table *l = &c->m->leases;
	struct wire_lease_attached rep = {.incarnation = c->m->incarnation,
					  .lease_ms = (uint32_t)c->m->o.lease_ms};
	struct lease_session *ls;
	struct session_clock *s;
	bool lists;
	CALL_DECODE(wire_lease_attach, req);

	if (!call_owns(c, req.session))
		return;
	s = session_find(c->m, req.session);
	ls = lease_session_find(l, req.session);
	if (!s || !ls || s->closing) {
		call_fail(c, ERR_STALE, "this session has expired");
		return;
	}
	session_seen(c->m, req.session);
	link_begin(c, s);
	lists = req.incarnation == c->m->incarnation && (req.last || req.n_inodes > 0);
	if (lists) {
		for (unsigned i = 0; i < req.n_inodes; i++)
			attach_one(c, ls, req.inodes[i], i < req.n_flags ? req.flags[i] : 0);
		if (req.last)
			lease_list_end(l, ls, clock_ms());
	} else if (req.incarnation != c->m->incarnation || !lease_renew(l, ls, clock_ms())) {
		rep.lost = 1;
		lease_list_begin(ls);
	}
	if (!rep.lost && (req.last || !lists))
		lease_link(l, ls, true);
	call_reply(c, &rep, 0);
}

/* A holder of a file without a name that does not have it open any more. When the unlink is still
 * on its way, the release follows it in the log. */
static void release_held(struct master *m, uint64_t session, uint64_t inode)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key held = key_held(session, inode);
	struct cmd_release cmd = {.req.inode = inode, .holder = session};

	if (state_get(m->st, key_slice(&held), &backing) == 1 || lease_is_naming(&m->leases, inode))
		master_propose_quietly(m, CMD_NUMBER_RELEASE, &cmd);
}

/* What sessions hold back might not find room when it comes. */
static bool room_is_short(struct master *m)
{
	struct cs *cs, *next;

	HASH_ITER(hh, m->servers.by_id, cs, next) {
		if (cs_up(cs) && cs->free_bytes < (uint64_t)m->o.buffer_free_min)
			return true;
	}
	return false;
}

void on_lease_ping(struct call *c, struct slice fields)
{
	struct wire_lease_pong rep = {.now = clock_now(), .full = room_is_short(c->m)};
	struct session_clock *s;
	CALL_DECODE(wire_lease_ping, req);

	s = session_find(c->m, req.session);
	if (!s || s->link != c->peer || s->closing) {
		call_fail(c, ERR_STALE, "not the link of this session");
		return;
	}
	session_seen(c->m, req.session);
	for (unsigned i = 0; i < req.n_closed; i++) {
		lease_closed(&c->m->leases, req.session, req.closed[i]);
		release_held(c->m, req.session, req.closed[i]);
	}
	for (unsigned i = 0; i < req.n_returned; i++)
		lease_returned(&c->m->leases, req.session, req.returned[i]);
	rep.lost = !lease_renew(&c->m->leases, lease_session_find(&c->m->leases, req.session),
				clock_ms());
	call_reply(c, &rep, 0);
}

/* ---- recalls ---- */

static void send_batch(struct session_clock *s, const struct lease_session *ls)
{
	struct wire_lease_recall req = {.session = ls->id, .n_inodes = (uint16_t)ls->n_batch,
					.n_what = (uint16_t)ls->n_batch};
	_cleanup_buf_ struct buf out = {0};

	memcpy(req.inodes, ls->batch, ls->n_batch * sizeof(req.inodes[0]));
	memcpy(req.what, ls->batch_what, ls->n_batch);
	s->recall_id = s->link->next_id++;
	if (wire_put_request(&out, OP_LEASE_RECALL, s->recall_id, 0, &req, 0) < 0)
		peer_close(s->link, "out of memory");
	else
		peer_send(s->link, &out);
}

void rpc_lease_flush(struct master *m)
{
	struct session_clock *s, *next;

	if (!m->leases.queued)
		return;
	m->leases.queued = false;
	HASH_ITER(hh, m->sessions, s, next) {
		struct lease_session *ls = s->link ? lease_session_find(&m->leases, s->session)
						   : NULL;
		if (ls && lease_batch(&m->leases, ls) > 0)
			send_batch(s, ls);
	}
}

void rpc_lease_recalled(struct master *m, struct peer *peer, const struct wire_header *h,
			struct slice fields)
{
	struct session_clock *s = peer->link_of ? session_find(m, peer->link_of) : NULL;
	struct cursor cur = cursor_slice(fields);
	struct wire_lease_recalled rep;

	/* Of a batch that was sent anew, or of a session that is being closed: it has no rights. */
	if (!s || s->link != peer || s->closing || h->id != s->recall_id)
		return;
	if (h->status || wire_lease_recalled_get(&cur, &rep) < 0) {
		peer_close(peer, "a recall was not answered as it should be");
		return;
	}
	s->recall_id = 0;
	lease_answered(&m->leases, lease_session_find(&m->leases, s->session), rep.flags,
		       rep.n_flags);
}

/* ---- files without a name that nobody holds ---- */

enum { LINGER_TICKS = 2 };

static void lingered(struct master *m, void *arg, struct apply_result *result)
{
	m->linger_busy = false;
}

/* Those whose time is over are removed, some at once. */
void rpc_lease_tick(struct master *m)
{
	struct key prefix = key_prefix(key_held(0, 0), 9);
	struct cmd_linger cmd = {.n_inodes = 0};
	struct when now = clock_now();
	struct state_iter *it;
	struct slice key, value;

	lease_tick(&m->leases, clock_ms());
	if (m->linger_busy || (m->ticks % LINGER_TICKS) != 0 ||
	    state_iter_open(m->st, key_slice(&prefix), (struct slice){0}, &it) < 0)
		return;
	while (cmd.n_inodes < LINGER_MAX && state_iter_next(it, &key, &value) == 1) {
		struct cursor cur = cursor_slice(value);
		struct row_linger row;
		if (row_linger_get(&cur, &row) < 0 || key.len != 17)
			continue;
		/* A clock that is set back must not keep them for that long. */
		if (now.sec - row.since.sec > m->o.orphan_linger_ms / 1000 ||
		    now.sec < row.since.sec - 1)
			cmd.inodes[cmd.n_inodes++] = get_be64(key.data + 9);
	}
	state_iter_close(it);
	if (cmd.n_inodes == 0)
		return;
	m->linger_busy = true;
	master_propose(m, CMD_NUMBER_LINGER, &cmd, lingered, NULL);
}
