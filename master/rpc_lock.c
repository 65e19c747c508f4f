/* Waiting for locks. What is held is in the state; who waits is known only here, and asks again
 * after a restart. A waiter is answered when nothing is in its way any more; it then sends LOCK,
 * and whoever comes first has it: a waiter that dies meanwhile keeps nobody from it. */
#include <stdlib.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/waits.h"
#include "master/lock.h"
#include "master/query_fsck.h"
#include "master/rpc_client.h"

enum { LOCKS_PAGE_ROWS = 500, LOCKS_PAGE_BYTES = 256 << 10, LOCKS_NAMES_MAX = 20000 };

/* `waiter` first: the list is of these. */
struct lock_call {
	struct lock_waiter waiter;
	struct peer *peer;
	struct wire_header h;
	int64_t until_ms;
	bool gone; /* its connection is: forgotten at the next tick */
};

static struct lock_call *call_of(struct lock_waiter *w)
{
	return (struct lock_call *)w;
}

/* Answers (0: try now) and forgets. */
static void waiter_end(struct master *m, struct lock_call *c, int code)
{
	struct wire_empty empty;

	DL_DELETE(m->lock_waiters, &c->waiter);
	if (code < 0)
		peer_fail(c->peer, &c->h, code, NULL);
	else
		peer_reply(c->peer, &c->h, &empty);
	peer_unref(c->peer);
	free(c);
}

/* 1: it goes on waiting; else what to answer. */
static int waiter_look(struct master *m, const struct lock_claim *claim)
{
	int r = lock_blocker(m->st, claim, NULL);

	if (r != 1)
		return r;
	r = lock_deadlock(m->st, m->lock_waiters, claim);
	return r < 0 ? r : r == 1 ? ERR_DEADLK : 1;
}

static int by_age(struct lock_waiter *a, struct lock_waiter *b)
{
	return a->since_ms < b->since_ms ? -1 : a->since_ms > b->since_ms;
}

static void on_lock_wait(struct call *call, struct slice fields)
{
	const struct wire_header *h = &call->h;
	struct master *m = call->m;
	struct peer *peer = call->peer;
	_cleanup_buf_ struct buf backing = {0};
	struct row_session session;
	struct wire_empty empty;
	struct lock_call *c;
	int r;
	PEER_DECODE(wire_lock_wait, req);
	struct lock_claim claim = {.session = req.session, .inode = req.inode, .owner = req.owner,
				   .kind = req.kind, .flags = req.flags,
				   .range = {req.start, req.end, req.type}};

	if (!call_owns(call, req.session))
		return;
	scope_identify(&call->scope, &req.cred);
	if (!call_may(call, access_lock_look(m->st, &req.cred, req.inode)))
		return;
	r = state_get_row_session(m->st, key_session(req.session), &session, &backing);
	if (r != 1 || !lock_claim_valid(req.kind, req.type, req.start, req.end)) {
		peer_fail(peer, h, r < 0 ? r : r ? ERR_INVAL : ERR_STALE, NULL);
		return;
	}
	session_seen(m, req.session);
	r = waiter_look(m, &claim);
	c = r == 1 ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		if (r == 0)
			peer_reply(peer, h, &empty);
		else
			peer_fail(peer, h, r < 0 ? r : ERR_NOMEM, NULL);
		return;
	}
	*c = (struct lock_call){.peer = peer, .h = *h, .until_ms = deadline_in(LOCK_TOLD_MS)};
	c->waiter.claim = claim;
	c->waiter.since_ms = clock_ms() - (int64_t)(req.waited_ms & INT32_MAX);
	peer_ref(peer);
	struct lock_waiter *w = &c->waiter;
	DL_INSERT_INORDER(m->lock_waiters, w, by_age);
}

static void on_lock_cancel(struct master *m, struct peer *peer, const struct wire_header *h,
			   struct slice fields)
{
	struct lock_waiter *w, *next;
	struct wire_empty empty;
	PEER_DECODE(wire_lock_cancel, req);

	DL_FOREACH_SAFE(m->lock_waiters, w, next)
		if (call_of(w)->peer == peer && call_of(w)->h.id == req.request)
			waiter_end(m, call_of(w), ERR_INTR);
	peer_reply(peer, h, &empty);
}

void rpc_lock_changed(struct master *m, uint64_t inode)
{
	struct lock_waiter *w, *next;

	DL_FOREACH_SAFE(m->lock_waiters, w, next) {
		bool concerned = !call_of(w)->gone && (inode == 0 || inode == w->claim.inode);
		int r = concerned ? waiter_look(m, &w->claim) : 1;
		if (r != 1)
			waiter_end(m, call_of(w), r);
	}
}

void rpc_lock_gone(struct master *m, struct peer *peer)
{
	struct lock_waiter *w;

	/* It may be told in the middle of a walk over the list: nothing is taken off it here. */
	DL_FOREACH(m->lock_waiters, w) {
		if (call_of(w)->peer == peer) {
			call_of(w)->gone = true;
			w->claim.flags |= LOCK_NO_DEADLOCK;
		}
	}
}

void rpc_lock_tick(struct master *m)
{
	int64_t now = m->lock_waiters ? clock_ms() : 0;
	struct lock_waiter *w, *next;

	DL_FOREACH_SAFE(m->lock_waiters, w, next)
		if (call_of(w)->gone || now >= call_of(w)->until_ms)
			waiter_end(m, call_of(w), ERR_AGAIN);
}

void rpc_lock_free(struct master *m)
{
	struct lock_waiter *w, *next;

	DL_FOREACH_SAFE(m->lock_waiters, w, next) {
		DL_DELETE(m->lock_waiters, w);
		peer_unref(call_of(w)->peer);
		free(call_of(w));
	}
}

/* ---- tests and lists ---- */

static void on_lock_test(struct call *call, struct slice fields)
{
	const struct wire_header *h = &call->h;
	struct master *m = call->m;
	struct peer *peer = call->peer;
	struct wire_lock_state rep = {0};
	struct lock_holder holder;
	int r;
	PEER_DECODE(wire_lock_test, req);
	struct lock_claim claim = {.session = req.session, .inode = req.inode, .owner = req.owner,
				   .kind = req.kind, .range = {req.start, req.end, req.type}};

	if (!call_owns(call, req.session))
		return;
	scope_identify(&call->scope, &req.cred);
	if (!call_may(call, access_lock_look(m->st, &req.cred, req.inode)))
		return;
	if (!lock_claim_valid(req.kind, req.type, req.start, req.end)) {
		peer_fail(peer, h, ERR_INVAL, NULL);
		return;
	}
	r = lock_blocker(m->st, &claim, &holder);
	if (r == 1)
		rep = (struct wire_lock_state){
			.session = holder.session, .pid = holder.pid, .type = holder.range.type,
			.start = holder.range.start, .end = holder.range.end};
	if (r < 0)
		peer_fail(peer, h, r, NULL);
	else
		peer_reply(peer, h, &rep);
}

/* A page of the list being made. */
struct locks_page {
	struct master *m;
	struct buf rows;
	unsigned n, names;
};

static void page_put(struct locks_page *p, struct wire_lock_row *row)
{
	_cleanup_buf_ struct buf path = {0}, backing = {0};
	struct row_session session;

	if (query_path(p->m->st, row->inode, &p->names, &path) == 1)
		row->path = buf_slice(&path);
	if (state_get_row_session(p->m->st, key_session(row->session), &session, &backing) == 1)
		row->client = session.name;
	WIRE_LIST_PUT(wire_lock_row, &p->rows, row);
	p->n++;
}

static int page_put_owner(struct locks_page *p, struct slice key, const struct row_lock *held)
{
	struct wire_lock_row row = {.inode = get_be64(key.data + 1),
				    .session = get_be64(key.data + 9),
				    .owner = get_be64(key.data + 17), .kind = key.data[25],
				    .pid = held->pid};
	struct lock_list list;
	int r = lock_list_get(held->ranges, &list);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < list.n; i++) {
		row.type = list.ranges[i].type;
		row.start = list.ranges[i].start;
		row.end = list.ranges[i].end;
		row.path = (struct slice){0};
		page_put(p, &row);
	}
	lock_list_release(&list);
	return 0;
}

static void page_put_waiters(struct locks_page *p)
{
	struct lock_waiter *w;

	DL_FOREACH(p->m->lock_waiters, w) {
		struct wire_lock_row row = {
			.inode = w->claim.inode, .session = w->claim.session,
			.owner = w->claim.owner, .kind = w->claim.kind, .waits = 1,
			.type = w->claim.range.type, .start = w->claim.range.start,
			.end = w->claim.range.end};
		if (p->rows.len < LOCKS_PAGE_BYTES)
			page_put(p, &row);
	}
}

/* Held ones from a key on; ret_next: where the next page begins, none at the end. */
static int page_fill(struct locks_page *p, struct slice from, struct key *ret_next)
{
	uint8_t type = KEY_LOCK;
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(p->m->st, slice_of(&type, 1), from, &it);

	ret_next->len = 0;
	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		struct row_lock row;
		if (key.len != 26 || row_lock_get(&c, &row) < 0) {
			r = ERR_CORRUPT;
			break;
		}
		if (p->n >= LOCKS_PAGE_ROWS || p->rows.len >= LOCKS_PAGE_BYTES) {
			memcpy(ret_next->bytes, key.data, key.len);
			ret_next->len = key.len;
			break;
		}
		r = page_put_owner(p, key, &row);
		if (r < 0)
			break;
	}
	state_iter_close(it);
	return r < 0 ? r : 0;
}

static void on_locks(struct master *m, struct peer *peer, const struct wire_header *h,
		     struct slice fields)
{
	struct locks_page p = {.m = m, .names = LOCKS_NAMES_MAX};
	struct wire_locks_reply rep = {0};
	struct key next;
	int r;
	PEER_DECODE(wire_locks, req);

	if (req.from.len == 0)
		page_put_waiters(&p);
	r = page_fill(&p, req.from, &next);
	if (r == 0)
		r = buf_status(&p.rows);
	rep.rows = buf_slice(&p.rows);
	rep.next = key_slice(&next);
	if (r < 0)
		peer_fail(peer, h, r, NULL);
	else
		peer_reply(peer, h, &rep);
	buf_release(&p.rows);
}

/* ---- dispatch ---- */

bool rpc_lock_message(struct call *c, struct slice fields)
{
	switch (c->h.op) {
	case OP_LOCK_WAIT: on_lock_wait(c, fields); return true;
	case OP_LOCK_CANCEL: on_lock_cancel(c->m, c->peer, &c->h, fields); return true;
	case OP_LOCK_TEST: on_lock_test(c, fields); return true;
	case OP_LOCKS: on_locks(c->m, c->peer, &c->h, fields); return true;
	default: return false;
	}
}
