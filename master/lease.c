#include "master/lease.h"

#include <assert.h>
#include <stdlib.h>
#include <utlist.h>

#include "common/wire.h"

/* A writer is asked to give up W no more often than this; a tick that comes later than this found
 * the process stopped, and what was sent to it meanwhile unread. */
enum { ASK_WRITER_MS = 200, STALLED_MS = 1000, SWEEP_MS = 10000 };

/* The rights of one session on one inode. */
struct lease_hold {
	struct lease_inode *inode;
	struct lease_session *session;
	uint8_t rights;
	uint8_t recalled; /* RECALL_*: asked for and not answered */
	bool queued;	  /* in the session's queue */
	bool behind;	  /* with R: the session has changed the inode since it has it */
	bool kept;	  /* W was granted again since it was recalled */
	bool listed;	  /* by the attach that is under way, or granted since all was lost */
	struct lease_hold *i_prev, *i_next; /* of the inode */
	struct lease_hold *s_prev, *s_next; /* of the session */
	struct lease_hold *q_prev, *q_next; /* of the session's queue */
	struct lease_hold *r_prev, *r_next; /* of all R */
};

void lease_init(struct lease_table *l, const struct lease_options *o, int64_t now)
{
	*l = (struct lease_table){.o = *o, .ticked_ms = now, .grace_ms = now + o->lease_ms,
				  .uncached_ms = now + o->quarantine_ms};
}

/* ---- the table ---- */

static struct lease_inode *inode_find(struct lease_table *l, uint64_t id)
{
	struct lease_inode *i;
	HASH_FIND(hh, l->inodes, &id, sizeof(id), i);
	return i;
}

static struct lease_inode *inode_get(struct lease_table *l, uint64_t id)
{
	struct lease_inode *i = inode_find(l, id);

	if (!i) {
		i = calloc(1, sizeof(*i));
		if (!i)
			return NULL;
		i->id = id;
		HASH_ADD(hh, l->inodes, id, sizeof(i->id), i);
	}
	return i;
}

static void inode_drop(struct lease_table *l, struct lease_inode *i)
{
	if (i->busy || i->holds || i->quarantine_ms > l->ticked_ms)
		return;
	HASH_DEL(l->inodes, i);
	free(i);
}

static struct lease_hold *hold_find(struct lease_inode *i, uint64_t session)
{
	struct lease_hold *h;
	DL_FOREACH2(i->holds, h, i_next) {
		if (h->session->id == session)
			return h;
	}
	return NULL;
}

static struct lease_hold *hold_get(struct lease_inode *i, struct lease_session *s)
{
	struct lease_hold *h = hold_find(i, s->id);

	if (h)
		return h;
	h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	h->inode = i;
	h->session = s;
	DL_APPEND2(i->holds, h, i_prev, i_next);
	DL_APPEND2(s->holds, h, s_prev, s_next);
	return h;
}

static void read_add(struct lease_table *l, struct lease_hold *h)
{
	if (h->rights & LEASE_R)
		DL_DELETE2(l->oldest, h, r_prev, r_next);
	else
		l->count++;
	h->rights |= LEASE_R;
	h->session->granted = true;
	DL_APPEND2(l->oldest, h, r_prev, r_next);
}

static void queue_add(struct lease_table *l, struct lease_hold *h)
{
	if (!h->queued)
		DL_APPEND2(h->session->queue, h, q_prev, q_next);
	h->queued = l->queued = true;
	if (!h->session->recalling)
		h->session->recall_ms = l->ticked_ms;
	h->session->recalling = true;
}

static void queue_remove(struct lease_hold *h)
{
	if (h->queued)
		DL_DELETE2(h->session->queue, h, q_prev, q_next);
	h->queued = false;
}

/* Takes rights away; a hold without any is freed, its inode too when nothing keeps it. */
static void rights_drop(struct lease_table *l, struct lease_hold *h, uint8_t rights)
{
	struct lease_inode *i = h->inode;

	if (rights & LEASE_W)
		rights |= LEASE_B;
	rights &= h->rights;
	if (rights & LEASE_R)
		DL_DELETE2(l->oldest, h, r_prev, r_next);
	l->count -= (unsigned)__builtin_popcount(rights);
	h->rights &= (uint8_t)~rights;
	if (rights)
		l->changed = true;
	if (!(h->rights & LEASE_R)) {
		h->recalled &= (uint8_t)~RECALL_READ;
		h->behind = false;
	}
	if (!(h->rights & LEASE_W)) {
		h->recalled &= (uint8_t)~RECALL_WRITE;
		h->kept = false;
	}
	if (!(h->rights & LEASE_B))
		h->recalled &= (uint8_t)~RECALL_BUFFER;
	if (!h->recalled)
		queue_remove(h);
	if (h->rights)
		return;
	DL_DELETE2(i->holds, h, i_prev, i_next);
	DL_DELETE2(h->session->holds, h, s_prev, s_next);
	free(h);
	inode_drop(l, i);
}

static void right_add(struct lease_table *l, struct lease_hold *h, uint8_t right)
{
	if (!(h->rights & right))
		l->count++;
	h->rights |= right;
	h->session->granted |= right == LEASE_W;
}

static void recall(struct lease_table *l, struct lease_hold *h, uint8_t what)
{
	if ((h->recalled & what) == what)
		return; /* of B perhaps answered, and not returned yet */
	h->recalled |= what;
	queue_add(l, h);
}

void lease_free(struct lease_table *l)
{
	struct lease_session *s, *s_next;
	struct lease_inode *i, *i_next;

	HASH_ITER(hh, l->sessions, s, s_next)
		lease_session_end(l, s->id, true, 0);
	HASH_ITER(hh, l->inodes, i, i_next) {
		HASH_DEL(l->inodes, i);
		free(i);
	}
}

/* ---- sessions ---- */

struct lease_session *lease_session_find(struct lease_table *l, uint64_t session)
{
	struct lease_session *s;
	HASH_FIND(hh, l->sessions, &session, sizeof(session), s);
	return s;
}

void lease_session_add(struct lease_table *l, uint64_t session, bool cached, bool old, int64_t now)
{
	struct lease_session *s = lease_session_find(l, session);

	if (s)
		return;
	s = calloc(1, sizeof(*s));
	if (!s)
		return; /* it is granted nothing */
	*s = (struct lease_session){.id = session, .cached = cached, .old = old,
				    .expires_ms = now + l->o.lease_ms};
	HASH_ADD(hh, l->sessions, id, sizeof(s->id), s);
	l->waited_for += old && cached;
	l->unsettled += old;
}

static void quarantine(struct lease_table *l, struct lease_inode *i, int64_t now)
{
	if (i->quarantine_ms < now + l->o.quarantine_ms)
		i->quarantine_ms = now + l->o.quarantine_ms;
	if (!l->swept_ms)
		l->swept_ms = i->quarantine_ms;
}

static void settled(struct lease_table *l, struct lease_session *s, bool known)
{
	if (!s->old)
		return;
	s->old = false;
	l->waited_for -= s->cached;
	l->unsettled -= known;
	l->changed = true;
}

void lease_session_end(struct lease_table *l, uint64_t session, bool clean, int64_t now)
{
	struct lease_session *s = lease_session_find(l, session);
	struct lease_hold *h, *next;

	if (!s)
		return;
	DL_FOREACH_SAFE2(s->holds, h, next, s_next) {
		if ((h->rights & LEASE_W) && !clean)
			quarantine(l, h->inode, now);
		rights_drop(l, h, LEASE_R | LEASE_W | LEASE_O);
	}
	settled(l, s, clean);
	l->links -= s->linked;
	HASH_DEL(l->sessions, s);
	free(s);
	l->changed = true;
}

void lease_link(struct lease_table *l, struct lease_session *s, bool linked)
{
	struct lease_hold *h;

	l->links += (unsigned)linked - s->linked;
	s->linked = linked;
	s->n_batch = 0;
	DL_FOREACH2(s->holds, h, s_next) {
		if (h->recalled)
			queue_add(l, h);
	}
}

bool lease_renew(struct lease_table *l, struct lease_session *s, int64_t now)
{
	if (!s->attached || now >= s->expires_ms)
		return false;
	if (s->recalling && now - s->recall_ms > l->o.lease_ms)
		return false; /* it hears us, or somebody does for it, but does not do its part */
	s->expires_ms = now + l->o.lease_ms;
	return true;
}

void lease_list_begin(struct lease_session *s)
{
	s->attached = false;
}

static bool writer_besides(const struct lease_inode *i, uint64_t session)
{
	struct lease_hold *h;

	DL_FOREACH2(i->holds, h, i_next) {
		if (h->session->id != session && (h->rights & LEASE_W))
			return true;
	}
	return false;
}

void lease_list(struct lease_table *l, struct lease_session *s, uint64_t inode, uint8_t rights)
{
	struct lease_inode *i = inode_get(l, inode);
	struct lease_hold *h = i ? hold_get(i, s) : NULL;

	s->expires_ms = l->ticked_ms + l->o.lease_ms;
	if (!h)
		return;
	if (rights & LEASE_W) {
		/* None has R: it is in quarantine, or nobody has any (7). If one has, its W is too old
		 * to count, and is only remembered as open. */
		if (lease_blocked(l, inode, s->id))
			rights = LEASE_O;
		else
			right_add(l, h, LEASE_W);
	}
	/* Then others wait for what it holds back, which it flushes and returns at once. */
	if ((rights & LEASE_B) && (h->rights & LEASE_W) && !writer_besides(i, s->id))
		right_add(l, h, LEASE_B);
	else if (h->rights & LEASE_W)
		rights_drop(l, h, LEASE_B);
	right_add(l, h, LEASE_O);
	h->listed = true;
}

void lease_list_end(struct lease_table *l, struct lease_session *s, int64_t now)
{
	struct lease_hold *h, *next;

	DL_FOREACH_SAFE2(s->holds, h, next, s_next) {
		bool listed = h->listed;
		h->listed = false;
		h->recalled &= (uint8_t)~RECALL_BUFFER;
		rights_drop(l, h, listed ? LEASE_R : LEASE_R | LEASE_W | LEASE_O);
	}
	settled(l, s, true);
	s->n_batch = 0;
	s->recalling = false;
	s->attached = s->cached = true;
	s->expires_ms = now + l->o.lease_ms;
	l->changed = true;
}

/* All its rights end: R may have been an open file, W may have data on the way. */
static void session_lost(struct lease_table *l, struct lease_session *s, int64_t now)
{
	struct lease_hold *h, *next;

	if (!s->attached && !s->granted)
		return;
	s->attached = s->granted = false;
	s->n_batch = 0;
	s->recalling = false;
	DL_FOREACH_SAFE2(s->holds, h, next, s_next) {
		if (h->rights & LEASE_R)
			right_add(l, h, LEASE_O);
		if (h->rights & LEASE_W)
			quarantine(l, h->inode, now);
		rights_drop(l, h, LEASE_R | LEASE_W);
	}
}

/* Inodes that nothing but a quarantine kept, once it is over. */
static void sweep(struct lease_table *l, int64_t now)
{
	struct lease_inode *i, *next;

	l->swept_ms = 0;
	HASH_ITER(hh, l->inodes, i, next) {
		if (i->quarantine_ms > now && (!l->swept_ms || i->quarantine_ms < l->swept_ms))
			l->swept_ms = i->quarantine_ms;
		inode_drop(l, i);
	}
	/* Not for each of them by itself. */
	if (l->swept_ms)
		l->swept_ms += SWEEP_MS;
}

void lease_tick(struct lease_table *l, int64_t now)
{
	int64_t gap = now - l->ticked_ms;
	struct lease_session *s, *next;

	l->ticked_ms = now;
	HASH_ITER(hh, l->sessions, s, next) {
		if (gap > STALLED_MS)
			s->expires_ms += gap;
		if (s->cached && now >= s->expires_ms)
			session_lost(l, s, now);
	}
	if (gap > STALLED_MS)
		l->grace_ms += gap;
	if (l->swept_ms && now >= l->swept_ms)
		sweep(l, now);
	/* Those that are waited for in vain stay unsettled. */
	if (l->waited_for > 0 && now >= l->grace_ms) {
		l->waited_for = 0;
		HASH_ITER(hh, l->sessions, s, next) {
			if (s->old && s->cached)
				s->cached = false;
		}
		l->changed = true;
	}
}

bool lease_open(const struct lease_table *l)
{
	return l->waited_for == 0;
}

/* ---- rights ---- */

/* Others that write are asked whether they still do: the next reader is granted. */
static bool others_write(struct lease_table *l, struct lease_inode *i, uint64_t session,
			 int64_t now)
{
	bool ask = now - i->asked_ms >= ASK_WRITER_MS, found = false;
	struct lease_hold *h;

	DL_FOREACH2(i->holds, h, i_next) {
		if (h->session->id == session || !(h->rights & LEASE_W))
			continue;
		found = true;
		if (ask && h->session->linked)
			recall(l, h, RECALL_WRITE);
	}
	if (found && ask)
		i->asked_ms = now;
	return found;
}

static bool others_are_behind(const struct lease_inode *i, uint64_t session)
{
	const struct lease_hold *h;

	DL_FOREACH2(i->holds, h, i_next) {
		if (h->session->id != session && h->behind)
			return true;
	}
	return false;
}

/* Makes room: the oldest R that is not being recalled already. */
static void recall_oldest(struct lease_table *l)
{
	struct lease_hold *h;
	unsigned looked_at = 0;

	DL_FOREACH2(l->oldest, h, r_next) {
		if (!(h->recalled & RECALL_READ)) {
			recall(l, h, RECALL_READ);
			return;
		}
		if (++looked_at == LEASES_PER_MESSAGE_MAX)
			return;
	}
}

bool lease_read(struct lease_table *l, uint64_t session, uint64_t inode, int64_t now)
{
	struct lease_session *s = session ? lease_session_find(l, session) : NULL;
	struct lease_inode *i;
	struct lease_hold *h;

	if (!s || !s->attached || !s->linked || now >= s->expires_ms || !lease_open(l) ||
	    (l->unsettled > 0 && now < l->uncached_ms))
		return false;
	i = inode_get(l, inode);
	if (!i)
		return false;
	h = NULL;
	if (!others_write(l, i, session, now) && !others_are_behind(i, session) && !i->busy &&
	    now >= i->quarantine_ms)
		h = hold_get(i, s);
	if (!h || (h->recalled & RECALL_READ)) {
		inode_drop(l, i);
		return false;
	}
	read_add(l, h);
	if (l->count > l->o.max)
		recall_oldest(l);
	return true;
}

void lease_write(struct lease_table *l, uint64_t session, uint64_t inode)
{
	struct lease_session *s = lease_session_find(l, session);
	struct lease_inode *i = s ? inode_get(l, inode) : NULL;
	struct lease_hold *h = i ? hold_get(i, s) : NULL;

	assert(!lease_blocked(l, inode, session));
	if (h) {
		h->kept = h->recalled & RECALL_WRITE;
		h->listed |= !s->attached;
		right_add(l, h, LEASE_W);
	} else if (i)
		inode_drop(l, i);
}

bool lease_buffer(struct lease_table *l, uint64_t session, uint64_t inode, int64_t now)
{
	struct lease_inode *i = inode_find(l, inode);
	struct lease_hold *h = i ? hold_find(i, session) : NULL;
	struct lease_session *s = h ? h->session : NULL;

	if (!h || !(h->rights & LEASE_W) || (h->recalled & RECALL_BUFFER) || !s->attached ||
	    !s->linked || now >= s->expires_ms || !lease_open(l) || i->busy ||
	    now < i->quarantine_ms)
		return false;
	if (others_write(l, i, session, now))
		return false;
	right_add(l, h, LEASE_B);
	return true;
}

void lease_returned(struct lease_table *l, uint64_t session, uint64_t inode)
{
	struct lease_inode *i = inode_find(l, inode);
	struct lease_hold *h = i ? hold_find(i, session) : NULL;

	if (h)
		rights_drop(l, h, LEASE_B);
}

void lease_opened(struct lease_table *l, uint64_t session, uint64_t inode)
{
	struct lease_session *s = lease_session_find(l, session);
	struct lease_inode *i = s ? inode_get(l, inode) : NULL;
	struct lease_hold *h = i ? hold_get(i, s) : NULL;

	if (h) {
		h->listed |= !s->attached;
		right_add(l, h, LEASE_O);
	}
}

void lease_closed(struct lease_table *l, uint64_t session, uint64_t inode)
{
	struct lease_inode *i = inode_find(l, inode);
	struct lease_hold *h = i ? hold_find(i, session) : NULL;

	if (h)
		rights_drop(l, h, LEASE_O);
}

bool lease_has(struct lease_table *l, uint64_t session, uint64_t inode, uint8_t right)
{
	struct lease_inode *i = inode_find(l, inode);
	struct lease_hold *h = i ? hold_find(i, session) : NULL;

	return h && (h->rights & right);
}

unsigned lease_holders(struct lease_table *l, uint64_t inode, uint64_t session, uint64_t *ret,
		       unsigned max)
{
	struct lease_inode *i = inode_find(l, inode);
	struct lease_hold *h;
	unsigned n = 0;

	if (!i)
		return 0;
	DL_FOREACH2(i->holds, h, i_next) {
		if (n < max && h->session->id != session && (h->rights & LEASE_O))
			ret[n++] = h->session->id;
	}
	return n;
}

void lease_changes(struct lease_table *l, uint64_t session, uint64_t inode)
{
	struct lease_inode *i = inode_find(l, inode);
	struct lease_hold *h = i ? hold_find(i, session) : NULL;

	if (h && (h->rights & LEASE_R))
		h->behind = true;
}

void lease_busy(struct lease_table *l, uint64_t inode, bool names)
{
	struct lease_inode *i = inode_get(l, inode);

	if (!i)
		return;
	i->busy++;
	i->naming += names;
}

void lease_idle(struct lease_table *l, uint64_t inode, bool names)
{
	struct lease_inode *i = inode_find(l, inode);

	if (!i || !i->busy)
		return;
	i->busy--;
	i->naming -= names && i->naming;
	l->changed = true;
	inode_drop(l, i);
}

bool lease_is_naming(struct lease_table *l, uint64_t inode)
{
	struct lease_inode *i = inode_find(l, inode);
	return i && i->naming;
}

/* ---- recalls ---- */

void lease_recall_left_out(struct lease_table *l, uint64_t inode, uint64_t session)
{
	struct lease_inode *i = inode_find(l, inode);
	struct lease_hold *h, *next;

	if (!i)
		return;
	DL_FOREACH_SAFE2(i->holds, h, next, i_next) {
		if (h->session->id != session)
			rights_drop(l, h, LEASE_R);
	}
}

bool lease_blocked(struct lease_table *l, uint64_t inode, uint64_t session)
{
	struct lease_inode *i = inode_find(l, inode);
	struct lease_hold *h;

	if (!i)
		return false;
	DL_FOREACH2(i->holds, h, i_next) {
		if (h->session->id != session && (h->rights & (LEASE_R | LEASE_B)))
			return true;
	}
	return false;
}

bool lease_recall(struct lease_table *l, uint64_t inode, uint64_t session)
{
	struct lease_inode *i = inode_find(l, inode);
	struct lease_hold *h;
	bool found = false;

	if (!i)
		return false;
	DL_FOREACH2(i->holds, h, i_next) {
		if (h->session->id == session || !(h->rights & (LEASE_R | LEASE_B)))
			continue;
		recall(l, h, (h->rights & LEASE_R ? RECALL_READ : 0) |
			     (h->rights & LEASE_B ? RECALL_BUFFER : 0));
		found = true;
	}
	return found;
}

bool lease_is_buffered(struct lease_table *l, uint64_t inode, uint64_t session)
{
	struct lease_inode *i = inode_find(l, inode);
	struct lease_hold *h;

	if (!i)
		return false;
	DL_FOREACH2(i->holds, h, i_next) {
		if (h->session->id != session && (h->rights & LEASE_B))
			return true;
	}
	return false;
}

/* W is asked for too: the next reader may cache. */
bool lease_recall_buffer(struct lease_table *l, uint64_t inode, uint64_t session)
{
	struct lease_inode *i = inode_find(l, inode);
	struct lease_hold *h;

	if (!i)
		return false;
	DL_FOREACH2(i->holds, h, i_next) {
		if (h->session->id == session || !(h->rights & LEASE_B))
			continue;
		if (!(h->recalled & RECALL_BUFFER))
			recall(l, h, RECALL_BUFFER | RECALL_WRITE);
		return true; /* nobody else has it */
	}
	return false;
}

bool lease_behind(struct lease_table *l, uint64_t inode, uint64_t session)
{
	struct lease_inode *i = inode_find(l, inode);
	struct lease_hold *h;

	if (!i || !others_are_behind(i, session))
		return false;
	DL_FOREACH2(i->holds, h, i_next) {
		if (h->session->id != session && h->behind)
			recall(l, h, RECALL_READ);
	}
	return true;
}

unsigned lease_batch(struct lease_table *l, struct lease_session *s)
{
	struct lease_hold *h, *next;

	if (!s->linked || !s->attached || s->n_batch > 0)
		return 0;
	DL_FOREACH_SAFE2(s->queue, h, next, q_next) {
		if (s->n_batch == LEASES_PER_MESSAGE_MAX)
			break;
		s->batch[s->n_batch] = h->inode->id;
		s->batch_what[s->n_batch++] = h->recalled;
		queue_remove(h);
	}
	return s->n_batch;
}

void lease_answered(struct lease_table *l, struct lease_session *s, const uint8_t *flags,
		    unsigned n)
{
	unsigned n_batch = s->n_batch;

	s->n_batch = 0;
	for (unsigned k = 0; k < n_batch; k++) {
		struct lease_inode *i = inode_find(l, s->batch[k]);
		struct lease_hold *h = i ? hold_find(i, s->id) : NULL;
		uint8_t flag = k < n ? flags[k] : 0, gone = 0;
		if (!h)
			continue;
		if (flag & RECALLED_OPEN)
			right_add(l, h, LEASE_O);
		if (s->batch_what[k] & RECALL_READ)
			gone |= LEASE_R;
		if ((s->batch_what[k] & RECALL_WRITE) && !(flag & RECALLED_WRITING) && !h->kept)
			gone |= LEASE_W;
		if (s->batch_what[k] & RECALL_WRITE)
			h->kept = false;
		/* Asked for more since: that goes with the next batch. */
		h->recalled &= (uint8_t)~s->batch_what[k];
		if ((s->batch_what[k] & RECALL_BUFFER) && (flag & RECALLED_FLUSHING)) {
			h->recalled |= RECALL_BUFFER;
			gone &= (uint8_t)~LEASE_W;
		} else if (s->batch_what[k] & RECALL_BUFFER) {
			gone |= LEASE_B;
		}
		rights_drop(l, h, gone);
	}
	s->recalling = s->queue != NULL;
	s->recall_ms = l->ticked_ms;
	if (s->queue)
		l->queued = true;
}
