/* What clients ask. Reads are answered from the state, at once but for those that see what another
 * session has changed and holds back or may not have taken note of (master/lease.h, 9 and 10).
 * Mutations become commands: the request record itself, with the time and the placement added. A
 * request that meets a chunk whose raise is pending, or leases of others (lease_gate.c), waits and is
 * then looked at again from the start. */
#include "master/rpc_client.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "master/audit.h"

struct call *call_keep(const struct call *c, struct slice fields)
{
	struct call *kept = calloc(1, sizeof(*kept));

	if (!kept)
		return NULL;
	*kept = *c;
	kept->fields = (struct buf){0};
	kept->gate = (struct gate){0};
	buf_append_slice(&kept->fields, fields);
	if (buf_status(&kept->fields) < 0) {
		free(kept);
		return NULL;
	}
	kept->asked = buf_slice(&kept->fields);
	peer_ref(kept->peer);
	return kept;
}

void call_free(struct call *c)
{
	peer_unref(c->peer);
	buf_release(&c->fields);
	free(c);
}

void call_fail(struct call *c, int code, const char *text)
{
	if (audit_is_refusal(code))
		audit_refusal(c->peer, &c->h, c->asked, code, text);
	peer_fail(c->peer, &c->h, code, text);
}

void call_reply(struct call *c, const void *reply, uint8_t leased)
{
	peer_reply_leased(c->peer, &c->h, reply, leased);
}

void call_park(struct call *c, struct slice fields)
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

	rate_tick(m);
	m->parked = NULL;
	DL_FOREACH_SAFE(list, c, next) {
		DL_DELETE(list, c);
		if (!c->peer->closing)
			call_resume(c);
		call_free(c);
	}
	/* What waits has a limit, and its connection may have ended. */
	m->leases.changed |= m->waiting != NULL;
	rpc_client_flush(m);
}

void rpc_client_flush(struct master *m)
{
	gate_run(m);
	rpc_lease_flush(m);
}

void rpc_client_free(struct master *m)
{
	struct call *c, *next;

	gate_free(m);
	rate_free(m);
	DL_FOREACH_SAFE(m->parked, c, next) {
		DL_DELETE(m->parked, c);
		call_free(c);
	}
}

/* ---- answers of commands ----
 * Only the first answer is leased: what is sent again tells how things were. */

/* R of the directory whose names were changed, with its attributes: they were changed too, and are looked
 * at next. */
static uint8_t lease_dir(struct call *c, struct wire_attr *ret)
{
	uint8_t leased = lease_parent(c->m, c->session, c->parent);

	if (leased && query_getattr(c->m->st, c->parent, ret, NULL) < 0)
		*ret = (struct wire_attr){0};
	return leased;
}

static void reply_make(struct call *c, struct slice fields, bool first)
{
	struct cursor cur = cursor_slice(fields);
	struct wire_make_reply rep;
	uint8_t leased = 0, token[TOKEN_BYTES_MAX];

	if (wire_make_reply_get(&cur, &rep) < 0) {
		call_fail(c, ERR_CORRUPT, NULL);
		return;
	}
	/* A set that is not whole now must be changed first: the client asks for it then. So it does when
	 * this is told again: the right to write may have gone since. */
	if (!first || !chunk_whole(c->m, &rep.chunk))
		rep.chunk = (struct wire_chunk){0};
	chunk_addresses(c, &rep.chunk, TOKEN_READ | TOKEN_WRITE, c->session, token);
	if (first && !rep.existed && S_ISREG(rep.attr.mode)) {
		lease_write(&c->m->leases, c->session, rep.attr.inode);
		if (lease_has(&c->m->leases, c->session, rep.attr.inode, LEASE_W))
			leased |= WIRE_LEASED_WRITE;
		if (c->buffer)
			leased |= lease_buffering(c->m, c->session, rep.attr.inode);
	}
	if (first)
		leased |= lease_inode(c->m, c->session, rep.attr.inode) |
			  lease_dir(c, &rep.parent);
	call_reply(c, &rep, leased);
}

static void reply_unlink(struct call *c, struct slice fields, bool first)
{
	struct cursor cur = cursor_slice(fields);
	struct wire_unlink_reply rep;

	if (wire_unlink_reply_get(&cur, &rep) < 0)
		call_fail(c, ERR_CORRUPT, NULL);
	else
		call_reply(c, &rep, first ? lease_dir(c, &rep.parent) : 0);
}

static void reply_rename(struct call *c, struct slice fields, bool first)
{
	struct cursor cur = cursor_slice(fields);
	struct wire_rename_reply rep;

	if (wire_rename_reply_get(&cur, &rep) < 0)
		call_fail(c, ERR_CORRUPT, NULL);
	else
		call_reply(c, &rep, first ? lease_dir(c, &rep.parent) : 0);
}

static void reply_chunk(struct call *c, struct slice fields, bool first)
{
	struct cursor cur = cursor_slice(fields);
	struct wire_chunk_reply rep;
	uint8_t token[TOKEN_BYTES_MAX];

	if (wire_chunk_reply_get(&cur, &rep) < 0) {
		call_fail(c, ERR_CORRUPT, NULL);
		return;
	}
	chunk_addresses(c, &rep.chunk, TOKEN_READ | TOKEN_WRITE, c->session, token);
	call_reply(c, &rep, first ? lease_writer(c->m, c->session, c->inode) : 0);
}

/* Replies with chunks get their addresses when they are sent: those may change, the answer not. */
static void reply_with_result(struct call *c, int status, const char *text, struct slice fields,
			      bool first)
{
	uint8_t leased = 0;

	if (status < 0) {
		call_fail(c, status, text);
	} else if (c->h.op == OP_MAKE) {
		reply_make(c, fields, first);
	} else if (c->h.op == OP_UNLINK) {
		reply_unlink(c, fields, first);
	} else if (c->h.op == OP_RENAME) {
		reply_rename(c, fields, first);
	} else if (c->h.op == OP_CHUNK_FOR_WRITE) {
		reply_chunk(c, fields, first);
	} else {
		if (first && c->inode)
			leased |= lease_inode(c->m, c->session, c->inode);
		if (first && c->parent)
			leased |= lease_parent(c->m, c->session, c->parent);
		peer_reply_raw(c->peer, &c->h, fields, leased);
		if (first && c->h.op == OP_WROTE)
			lease_unbuffer_short(c->m, c->inode);
	}
}

static void reply_session(struct call *c, struct slice fields)
{
	struct cursor cur = cursor_slice(fields);
	struct wire_session rep;

	if (wire_session_get(&cur, &rep) < 0) {
		call_fail(c, ERR_CORRUPT, NULL);
		return;
	}
	session_opened(c->m, rep.session);
	rep.ttl_ms = (uint32_t)c->m->o.session_ttl_ms;
	peer_reply(c->peer, &c->h, &rep);
}

static void command_done(struct master *m, void *arg, struct apply_result *result)
{
	struct call *c = arg;

	gate_leave(c);
	/* Unknown outcome: no answer is the only true one. The client asks again. */
	if (!result)
		peer_close(c->peer, "outcome unknown");
	else if (c->h.op == OP_SESSION_OPEN && result->status == 0)
		reply_session(c, buf_slice(&result->reply));
	else
		reply_with_result(c, result->status, result->text, buf_slice(&result->reply),
				  true);
	call_free(c);
}

void call_propose(struct call *c, struct slice fields, uint16_t number, const void *record)
{
	struct call *kept = call_keep(c, fields);

	if (!kept) {
		call_fail(c, ERR_NOMEM, NULL);
		return;
	}
	gate_changes(c);
	kept->gate = c->gate;
	c->gate = (struct gate){0};
	master_propose(c->m, number, record, command_done, kept);
}

bool call_owns(struct call *c, uint64_t session)
{
	bool owns = peer_owns(c->m, c->peer, session);

	if (!owns)
		call_fail(c, ERR_PERM, "the session is of another credential");
	return owns;
}

bool call_sees(struct call *c, uint64_t inode)
{
	struct wire_cred cred = {0};

	scope_identify(&c->scope, &cred);
	return call_may(c, access_inode(c->m->st, &cred, inode));
}

bool call_may(struct call *c, int code)
{
	if (code < 0)
		call_fail(c, code, NULL);
	return code == 0;
}

int opid_check(struct call *c, const struct wire_opid *id, struct row_reply *ret,
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

bool answered_before(struct call *c, const struct wire_opid *id)
{
	_cleanup_buf_ struct buf backing = {0};
	char text[TEXT_BYTES_MAX + 1] = "";
	struct row_reply reply;
	int r = opid_check(c, id, &reply, &backing);

	if (r == 1) {
		if (reply.status)
			memcpy(text, reply.fields.data, reply.fields.len < TEXT_BYTES_MAX ?
							reply.fields.len : TEXT_BYTES_MAX);
		reply_with_result(c, reply.status, text, reply.fields, false);
	}
	return r != 0;
}

/* ---- waiting for a raise ---- */

static void raise_waited(void *arg, int code)
{
	struct call *c = arg;

	/* A chunk that was cut away meanwhile is none to wait for. */
	if ((code == 0 || code == ERR_NO_CHUNK) && ++c->attempts < CALL_ATTEMPTS_MAX)
		call_resume(c);
	else
		call_fail(c, code ? code : ERR_CHUNK_PENDING, NULL);
	call_free(c);
}

void wait_for_raise(struct call *c, struct slice fields, uint64_t chunk, uint32_t drop)
{
	struct call *kept = call_keep(c, fields);

	if (!kept)
		call_fail(c, ERR_NOMEM, NULL);
	else
		raise_start(c->m, chunk, drop, raise_waited, kept);
}

/* ---- sessions ---- */

static void on_session_open(struct call *c, struct slice fields)
{
	struct cmd_session_open cmd;
	char credential[CREDENTIAL_BYTES];
	CALL_DECODE(wire_session_open, req);

	peer_credential(c->peer, credential);
	cmd = (struct cmd_session_open){.req = req, .credential = slice_str(credential),
					.export = slice_str(peer_export(c->peer))};
	call_propose(c, fields, CMD_NUMBER_SESSION_OPEN, &cmd);
}

static void on_session_ping(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_session row;
	struct wire_empty empty;
	int r;
	CALL_DECODE(wire_session_ref, req);

	if (!call_owns(c, req.session))
		return;
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
	CALL_DECODE(wire_session_ref, req);

	if (!call_owns(c, req.session))
		return;
	session_close(c->m, req.session, true);
	peer_reply(c->peer, &c->h, &empty);
}

/* ---- reads ---- */

/* inode: what the answer tells of. */
static void answer(struct call *c, int r, const struct err *err, const void *reply,
		   uint64_t session, uint64_t inode)
{
	if (r < 0)
		call_fail(c, r, err->text);
	else
		call_reply(c, reply, lease_inode(c->m, session, inode));
}

static void on_lookup(struct call *c, struct slice fields)
{
	struct wire_attr_reply rep = {0};
	struct err err = {0};
	CALL_DECODE_CRED(wire_name_ref, req, req.session);
	if (!call_may(c, access_lookup(c->m->st, &req)) ||
	    !gate_read(c, fields, req.session, req.parent))
		return;
	int r = query_lookup(c->m->st, &req, &rep, &err);
	if (r == 0 && !call_may(c, access_project(c->m->st, &req.cred, rep.attr.project)))
		return;
	if (r == 0 && !gate_read(c, fields, req.session, rep.attr.inode))
		return;
	bool is_name = !slice_eq(req.name, SLICE_LIT(".")) && !slice_eq(req.name, SLICE_LIT(".."));
	uint8_t leased = 0;

	/* That a name is not there is known as long as its directory is leased. */
	if (is_name && (r == 0 || r == ERR_NOENT))
		leased |= lease_parent(c->m, req.session, req.parent);
	if (r == 0)
		call_reply(c, &rep, leased | lease_inode(c->m, req.session, rep.attr.inode));
	else
		peer_fail_leased(c->peer, &c->h, r, err.text, leased);
}

static void on_getattr(struct call *c, struct slice fields)
{
	struct wire_attr_reply rep = {0};
	struct err err = {0};
	CALL_DECODE_CRED(wire_inode_ref, req, req.session);
	if (!call_may(c, access_getattr(c->m->st, &req)) ||
	    !gate_read(c, fields, req.session, req.inode))
		return;
	answer(c, query_getattr(c->m->st, req.inode, &rep.attr, &err), &err, &rep, req.session,
	       req.inode);
}

/* Who does not cache believes the attributes as they are told: all that hold them back are asked, and
 * the first one is waited for. Those who do cache ask for them. */
static bool readdir_gate(struct call *c, struct slice fields, struct slice entries)
{
	struct cursor page = cursor_slice(entries), one;
	uint64_t first = 0;

	while (wire_list_next(&page, &one) == 1) {
		struct wire_dirent d;
		if (wire_dirent_get(&one, &d) == 0 && S_ISREG(d.attr.mode) &&
		    lease_recall_buffer(&c->m->leases, d.attr.inode, 0) && !first)
			first = d.attr.inode;
	}
	return !first || gate_read(c, fields, 0, first);
}

static bool readdir_grant(void *arg, uint64_t inode)
{
	struct call *c = arg;

	/* It has a name: no file without one, which only those that hold it may know (rpc_lease.c). */
	return lease_read(&c->m->leases, c->session, inode, clock_ms());
}

static void on_readdir(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	const struct query_grant grant = {readdir_grant, c};
	struct wire_readdir_reply rep = {0};
	struct err err = {0};
	int r;
	CALL_DECODE_CRED(wire_readdir, req, req.session);

	if (!call_may(c, access_readdir(c->m->st, &req)) ||
	    !gate_read(c, fields, req.session, req.inode))
		return;
	c->session = req.session;
	r = query_readdir(c->m->st, &req, &grant, &rep, &backing, &err);
	if (r == 0 && !req.session && !(req.flags & READDIR_NAMES) &&
	    !readdir_gate(c, fields, rep.entries))
		return;
	answer(c, r, &err, &rep, req.session, req.inode);
}

static void on_readlink(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_readlink_reply rep = {0};
	struct err err = {0};
	CALL_DECODE_CRED(wire_inode_ref, req, req.session);
	if (!call_may(c, access_getattr(c->m->st, &req)))
		return;
	answer(c, query_readlink(c->m->st, req.inode, &rep, &backing, &err), &err, &rep, req.session,
	       req.inode);
}

static void on_xattr_get(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_xattr_reply rep = {0};
	struct err err = {0};
	CALL_DECODE_CRED(wire_xattr_get, req, req.session);
	if (!call_may(c, access_xattr_get(c->m->st, &req)) ||
	    !gate_read(c, fields, req.session, req.inode))
		return;
	int r = query_xattr_get(c->m->st, &req, &rep, &backing, &err);

	/* That there is none is known too. */
	if (r == ERR_NODATA)
		peer_fail_leased(c->peer, &c->h, r, err.text,
				 lease_inode(c->m, req.session, req.inode));
	else
		answer(c, r, &err, &rep, req.session, req.inode);
}

static void on_xattr_list(struct call *c, struct slice fields)
{
	_cleanup_buf_ struct buf backing = {0};
	struct wire_xattr_reply rep = {0};
	struct err err = {0};
	CALL_DECODE_CRED(wire_inode_ref, req, req.session);
	if (!call_may(c, access_getattr(c->m->st, &req)) ||
	    !gate_read(c, fields, req.session, req.inode))
		return;
	answer(c, query_xattr_list(c->m->st, &req, &rep, &backing, &err), &err, &rep, req.session,
	       req.inode);
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
	{OP_CHUNK_FAULT, on_chunk_fault}, {OP_LEASE_ATTACH, on_lease_attach},
	{OP_LEASE_PING, on_lease_ping}, {OP_LEASE_WRITE, on_lease_write},
	{OP_LEASE_OPEN, on_lease_open}, {OP_LOCK, on_lock},
};

void client_handle(struct call *c, struct slice fields)
{
	c->gate = (struct gate){0};
	c->session = c->inode = c->parent = 0;
	c->buffer = false;
	for (size_t i = 0; i < ARRAY_LEN(client_handlers); i++) {
		if (client_handlers[i].op == c->h.op) {
			client_handlers[i].handle(c, fields);
			gate_leave(c); /* what was not handed on */
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

/* An administrator's certificate, or the shared key, which does not tell them apart. */
static bool peer_is_admin(const struct peer *p)
{
	return p->auth.peer_role == ROLE_ADMIN || !p->tls;
}

/* What changes the cluster, or shows all of it. */
static bool is_administration(uint16_t op)
{
	return op == OP_SERVER_SET || op == OP_SERVER_REMOVE || op == OP_HOLD || op == OP_BACKUP ||
	       op == OP_QUOTA_SET || op == OP_QUOTA_COUNT || op == OP_EXPORT_SET;
}

void call_dispatch(struct call *c, struct slice fields)
{
	struct master *m = c->m;

	if (rpc_admin_message(m, c->peer, &c->h, fields) ||
	    rpc_recovery_message(m, c->peer, &c->h, fields) ||
	    rpc_quota_message(m, c->peer, &c->h, fields) || rpc_export_message(c, fields))
		return;
	if (!hold_open(m) && !answered_while_waiting(c->h.op))
		call_fail(c, ERR_NOT_LEADER, "a restored master waits for the chunkservers");
	else if (!rpc_lock_message(c, fields))
		client_handle(c, fields);
}

bool call_admitted(struct call *c)
{
	int r = peer_scope(c->m, c->peer, &c->scope);

	if (r == ERR_PERM) {
		call_fail(c, r, "this credential is for an export that is not there");
		return false;
	}
	return call_may(c, r) && call_may(c, scope_admits(&c->scope, c->h.op));
}

void call_resume(struct call *c)
{
	if (call_admitted(c))
		client_handle(c, buf_slice(&c->fields));
}

/* Administration that comes in many requests is written down once: a backup when it begins, the count of
 * a quota with the QUOTA_SET before it. */
static bool is_one_of_many(const struct wire_header *h, struct slice fields)
{
	struct cursor c = cursor_slice(fields);
	struct wire_backup backup;

	if (h->op == OP_BACKUP)
		return wire_backup_get(&c, &backup) == 0 && !backup.start;
	return h->op == OP_QUOTA_COUNT;
}

void rpc_client_message(struct master *m, struct peer *peer, const struct wire_header *h,
			struct slice fields)
{
	struct call c = {.m = m, .peer = peer, .h = *h, .asked = fields};

	if ((h->flags & WIRE_REPLY) && h->op == OP_LEASE_RECALL) {
		rpc_lease_recalled(m, peer, h, fields);
		return;
	}
	if (h->flags & WIRE_REPLY) {
		peer_close(peer, "sent a reply to nothing");
		return;
	}
	if (is_administration(h->op) && !peer_is_admin(peer)) {
		call_fail(&c, ERR_PERM, "that needs the certificate of an administrator");
		return;
	}
	if (is_administration(h->op) && !is_one_of_many(h, fields))
		audit_asked(peer, h, fields);
	if (call_admitted(&c) && rate_admits(&c, fields))
		call_dispatch(&c, fields);
}
