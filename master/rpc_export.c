/* Exports: what a peer may ask, by its certificate and the export's row as it is now; setting and telling
 * them. Rows are made in apply_export.c.
 *
 * How many requests a second an export takes is counted here, by this leader, for all its clients
 * together: up to a second's worth at once. What comes beyond waits, in its order. What keeps a session or
 * answers for one is not counted. */
#include <stdlib.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/query_fsck.h"
#include "master/rpc_client.h"

enum { EXPORTS_PAGE_ROWS = 200, EXPORTS_PAGE_BYTES = 256 << 10, RATE_UNIT = 1000 };

/* ---- who a peer is ---- */

const char *peer_export(const struct peer *peer)
{
	return peer->tls ? peer->tls->peer.export : "";
}

void peer_credential(const struct peer *peer, char ret[CREDENTIAL_BYTES])
{
	ret[0] = '\0';
	if (peer->tls)
		snprintf(ret, CREDENTIAL_BYTES, "%s/%s", identity_role_name(peer->tls->peer.role),
			 peer->tls->peer.name);
}

/* For each request: nothing is formatted. */
static bool is_credential(const struct peer *peer, const char *credential)
{
	const char *role, *rest;

	if (!peer->tls)
		return credential[0] == '\0';
	role = identity_role_name(peer->tls->peer.role);
	rest = credential + strcspn(credential, "/");
	return *rest && strncmp(credential, role, (size_t)(rest - credential)) == 0 &&
	       !role[rest - credential] && strcmp(rest + 1, peer->tls->peer.name) == 0;
}

bool peer_owns(struct master *m, const struct peer *peer, uint64_t session)
{
	const struct session_clock *s = session ? session_find(m, session) : NULL;

	/* Whoever asks for one that is not there finds that out by himself. Without a credential: of a
	 * master that did not note it yet. */
	return !s || ((!s->credential[0] || is_credential(peer, s->credential)) &&
		      strcmp(s->export, peer_export(peer)) == 0);
}

/* ---- what it may see ---- */

int peer_scope(struct master *m, const struct peer *peer, struct scope *ret)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_quota quota = {0};
	struct row_inode dir;
	int r;

	*ret = (struct scope){0};
	if (!peer_export(peer)[0])
		return 0;
	r = state_get_row_export(m->st, key_export(slice_str(peer_export(peer))), &ret->row,
				 &backing);
	if (r <= 0)
		return r < 0 ? r : ERR_PERM;
	r = ns_inode(m->st, ret->row.inode, &dir, &backing);
	if (r < 0)
		return r == ERR_NOENT ? ERR_STALE : r;
	r = dir.project ? state_get_row_quota(m->st, key_quota(dir.project), &quota, &backing) : 0;
	if (r < 0 || quota.inode != ret->row.inode)
		return r < 0 ? r : ERR_PERM;
	ret->within = dir.project;
	return 0;
}

/* Everybody's names, sizes or counts: not for those who see a part. */
static bool tells_of_all(uint16_t op)
{
	return op == OP_CLUSTER_STATUS || op == OP_FSCK || op == OP_QUOTAS || op == OP_LOCKS ||
	       op == OP_EXPORTS;
}

static bool changes_something(uint16_t op)
{
	return op == OP_SETATTR || op == OP_MAKE || op == OP_LINK || op == OP_UNLINK ||
	       op == OP_RENAME || op == OP_XATTR_SET || op == OP_CHUNK_FOR_WRITE || op == OP_WROTE ||
	       op == OP_LEASE_WRITE;
}

int scope_admits(const struct scope *scope, uint16_t op)
{
	if (!scope->within)
		return 0;
	if (tells_of_all(op))
		return ERR_PERM;
	return (scope->row.flags & EXPORT_READ_ONLY) && changes_something(op) ? ERR_ROFS : 0;
}

void scope_identify(const struct scope *scope, struct wire_cred *cred)
{
	bool squash = scope->within &&
		      (scope->row.flags & (EXPORT_ROOT_SQUASH | EXPORT_ALL_SQUASH));
	const struct row_export *x = &scope->row;

	/* A kernel's word is worth as much as root's: it is believed from those who may be root. */
	cred->flags = (cred->flags & CRED_KERNEL) && !squash ? 0 : CRED_CHECK;
	cred->within = scope->within;
	if (!squash)
		return;
	if (x->flags & EXPORT_ALL_SQUASH) {
		cred->uid = x->uid;
		cred->gid = x->gid;
		cred->n_groups = 0;
	}
	cred->uid = cred->uid == 0 ? x->uid : cred->uid;
	cred->gid = cred->gid == 0 ? x->gid : cred->gid;
	for (unsigned i = 0; i < cred->n_groups; i++)
		cred->groups[i] = cred->groups[i] == 0 ? x->gid : cred->groups[i];
}

/* ---- how much ---- */

/* Protected by the loop. */
struct export_rate {
	char name[IDENTITY_NAME_BYTES];
	int64_t left; /* in thousandths of a request */
	int64_t at_ms;
	unsigned waiting;
	UT_hash_handle hh;
};

static struct export_rate *rate_of(struct master *m, const char *name, uint32_t rate_max)
{
	struct export_rate *x;

	HASH_FIND_STR(m->rates, name, x);
	if (!x) {
		x = calloc(1, sizeof(*x));
		if (!x)
			return NULL;
		snprintf(x->name, sizeof(x->name), "%s", name);
		x->left = (int64_t)rate_max * RATE_UNIT;
		x->at_ms = clock_ms();
		HASH_ADD_STR(m->rates, name, x);
	}
	return x;
}

static bool rate_take(struct export_rate *x, uint32_t rate_max)
{
	int64_t now = clock_ms(), most = (int64_t)rate_max * RATE_UNIT;

	x->left += (now - x->at_ms) * rate_max;
	x->at_ms = now;
	if (x->left > most)
		x->left = most;
	if (rate_max && x->left < RATE_UNIT)
		return false;
	x->left -= rate_max ? RATE_UNIT : 0;
	return true;
}

static bool is_counted(uint16_t op)
{
	return op != OP_SESSION_OPEN && op != OP_SESSION_PING && op != OP_SESSION_CLOSE &&
	       op != OP_LEASE_ATTACH && op != OP_LEASE_PING && op != OP_LOCK_CANCEL;
}

bool rate_admits(struct call *c, struct slice fields)
{
	uint32_t max = c->scope.within ? c->scope.row.rate_max : 0;
	struct export_rate *x = max && is_counted(c->h.op)
					? rate_of(c->m, peer_export(c->peer), max) : NULL;
	struct call *kept;

	if (!x || (x->waiting == 0 && rate_take(x, max)))
		return true;
	kept = call_keep(c, fields);
	if (!kept) {
		call_fail(c, ERR_NOMEM, NULL);
		return false;
	}
	x->waiting++;
	DL_APPEND(c->m->limited, kept);
	return false;
}

void rate_tick(struct master *m)
{
	struct call *c, *next;

	DL_FOREACH_SAFE(m->limited, c, next) {
		struct export_rate *x = rate_of(m, peer_export(c->peer), 0);
		/* As it is now: it may have been changed, or removed. */
		int r = peer_scope(m, c->peer, &c->scope);
		if (!c->peer->closing && r == 0 && x && !rate_take(x, c->scope.row.rate_max))
			continue;
		DL_DELETE(m->limited, c);
		if (x)
			x->waiting--;
		/* Without its export it sees nothing, not all. */
		if (!c->peer->closing && call_admitted(c))
			call_dispatch(c, buf_slice(&c->fields));
		call_free(c);
	}
}

void rate_free(struct master *m)
{
	struct export_rate *x, *next_rate;
	struct call *c, *next;

	DL_FOREACH_SAFE(m->limited, c, next) {
		DL_DELETE(m->limited, c);
		call_free(c);
	}
	HASH_ITER(hh, m->rates, x, next_rate) {
		HASH_DEL(m->rates, x);
		free(x);
	}
}

/* ---- setting ---- */

/* What its clients hold and remember is of what they saw before: they attach again, as others. */
static void sessions_end(struct call *c)
{
	struct cursor cur = cursor_slice(buf_slice(&c->fields));
	struct session_clock *s, *next;
	struct wire_export_set req;

	if (wire_export_set_get(&cur, &req) < 0)
		return;
	HASH_ITER(hh, c->m->sessions, s, next)
		if (slice_eq(slice_str(s->export), req.name))
			session_close(c->m, s->session, false);
}

static void export_changed(struct master *m, void *arg, struct apply_result *result)
{
	struct call *c = arg;
	struct wire_empty empty;

	if (result && result->remapped)
		sessions_end(c);

	if (!result)
		peer_close(c->peer, "outcome unknown");
	else if (result->status < 0)
		call_fail(c, result->status, result->text);
	else
		peer_reply(c->peer, &c->h, &empty);
	call_free(c);
}

/* Done again harmlessly, so no session names it. */
static void on_export_set(struct call *c, struct slice fields)
{
	struct cmd_export_set cmd;
	struct call *kept;
	CALL_DECODE(wire_export_set, req);

	cmd.req = req;
	log_info("%s: export %.*s of directory %llx: %s", c->peer->name, (int)req.name.len,
		 (const char *)req.name.data, (unsigned long long)req.inode,
		 req.flags & EXPORT_REMOVE ? "removed" : "set");
	kept = call_keep(c, fields);
	if (!kept)
		call_fail(c, ERR_NOMEM, NULL);
	else
		master_propose(c->m, CMD_NUMBER_EXPORT_SET, &cmd, export_changed, kept);
}

/* ---- telling ---- */

struct exports_page {
	struct master *m;
	struct buf rows;
	unsigned n, names;
};

static uint32_t sessions_of(struct master *m, struct slice name)
{
	struct session_clock *s, *next;
	uint32_t n = 0;

	HASH_ITER(hh, m->sessions, s, next)
		n += slice_eq(slice_str(s->export), name);
	return n;
}

static int page_put(struct exports_page *p, struct slice name, const struct row_export *row)
{
	_cleanup_buf_ struct buf path = {0};
	struct wire_export x = {.name = name, .inode = row->inode, .flags = row->flags,
				.uid = row->uid, .gid = row->gid,
				.sessions_max = row->sessions_max, .rate_max = row->rate_max,
				.sessions = sessions_of(p->m, name)};
	int r = row->inode == ROOT_INODE ? 0 : query_path(p->m->st, row->inode, &p->names, &path);

	if (r < 0 && r != ERR_NOENT)
		return r;
	x.path = row->inode == ROOT_INODE ? SLICE_LIT("/") : buf_slice(&path);
	WIRE_LIST_PUT(wire_export, &p->rows, &x);
	p->n++;
	return buf_status(&p->rows);
}

static int page_fill(struct exports_page *p, struct slice from, struct key *ret_next)
{
	struct key prefix = key_export((struct slice){0}), start = key_export(from);
	struct slice key, value;
	struct state_iter *it;
	int r = state_iter_open(p->m->st, key_slice(&prefix), key_slice(&start), &it);

	ret_next->len = 1;
	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		struct row_export row;
		if (row_export_get(&c, &row) < 0) {
			r = ERR_CORRUPT;
			break;
		}
		if (p->n >= EXPORTS_PAGE_ROWS || p->rows.len >= EXPORTS_PAGE_BYTES) {
			memcpy(ret_next->bytes, key.data, key.len);
			ret_next->len = key.len;
			break;
		}
		r = page_put(p, slice_of(key.data + 1, key.len - 1), &row);
		if (r < 0)
			break;
	}
	state_iter_close(it);
	return r < 0 ? r : 0;
}

static void on_exports(struct call *c, struct slice fields)
{
	struct exports_page p = {.m = c->m, .names = FSCK_NAMES_MAX};
	struct wire_exports_reply rep = {0};
	struct key next;
	int r;
	CALL_DECODE(wire_exports, req);

	r = req.from.len < IDENTITY_NAME_BYTES ? page_fill(&p, req.from, &next) : ERR_INVAL;
	if (r < 0) {
		call_fail(c, r, NULL);
	} else {
		rep.rows = buf_slice(&p.rows);
		rep.next = slice_of(next.bytes + 1, next.len - 1);
		peer_reply(c->peer, &c->h, &rep);
	}
	buf_release(&p.rows);
}

bool rpc_export_message(struct call *c, struct slice fields)
{
	switch (c->h.op) {
	case OP_EXPORT_SET: on_export_set(c, fields); return true;
	case OP_EXPORTS: on_exports(c, fields); return true;
	default: return false;
	}
}
