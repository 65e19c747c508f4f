/* The link: attaching, pings, recalls.
 *
 *     state       event                        then
 *     down        dialled, attached            up: the cache is started, empty
 *     up          a ping is answered           up, until later
 *     up          a recall                     forgotten here and in the kernel, answered
 *     up          a ping is answered `lost`    down: forgotten, dialled again at once
 *     up          broken, silent, new session  down: forgotten, dialled again
 *
 * Attaching asks first whether anything was lost. If so, what is open and the writes in progress are
 * listed; nothing is entered into the cache before the last list is answered. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/lease_priv.h"
#include "client/wait.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"

enum { LINK_IO_MS = 1000, LINK_PAUSE_FIRST_MS = 20, LINK_PAUSE_MAX_MS = 500, LEASE_MS_MIN = 100 };

struct link {
	struct lease *l;
	struct conn *c;
	uint64_t session, incarnation;
	uint32_t lease_ms;
	int64_t next_ping_ms, ping_sent_ms; /* ping_sent_ms 0: none is unanswered */
	uint64_t ping_id;
	struct buf fields;
};

static bool stopped(struct lease *l)
{
	bool stop;

	pthread_mutex_lock(&l->lock);
	stop = l->stop;
	pthread_mutex_unlock(&l->lock);
	return stop;
}

static void set_until(struct link *k, int64_t sent_ms)
{
	int64_t until = sent_ms + k->lease_ms - k->lease_ms / 10;

	pthread_mutex_lock(&k->l->lock);
	k->l->until_ms = until;
	pthread_mutex_unlock(&k->l->lock);
	cache_until(&k->l->cache, until);
}

/* Nothing that is known may be used any more, here or in the kernel. */
static void forget(struct link *k)
{
	struct lease *l = k->l;

	pthread_mutex_lock(&l->lock);
	l->n_returned = 0; /* what is recalled still is recalled again on the next link */
	pthread_mutex_unlock(&l->lock);
	cache_stop(&l->cache);
	if (l->watch.dropped)
		l->watch.dropped(l->watch.arg);
}

/* ---- attaching ---- */

static int attach_ask(struct link *k, struct wire_lease_attach *req,
		      struct wire_lease_attached *ret, struct err *err)
{
	int r;

	req->session = k->session;
	req->incarnation = k->incarnation;
	r = conn_call(k->c, OP_LEASE_ATTACH, 0, req, ret, &k->fields, deadline_in(LINK_IO_MS), err);
	if (r == 0 && ret->lease_ms < LEASE_MS_MIN)
		r = err_set(err, ERR_PROTOCOL, "a lease of %u ms", ret->lease_ms);
	return r;
}

struct listing {
	struct link *k;
	struct wire_lease_attach req;
	struct wire_lease_attached rep;
	struct err *err;
};

static int list_one(struct listing *g, uint64_t inode, uint8_t flags)
{
	int r = 0;

	if (g->req.n_inodes == LEASES_PER_MESSAGE_MAX) {
		r = attach_ask(g->k, &g->req, &g->rep, g->err);
		g->req.n_inodes = g->req.n_flags = 0;
	}
	g->req.inodes[g->req.n_inodes++] = inode;
	g->req.flags[g->req.n_flags++] = flags;
	return r;
}

static int list_writers(struct listing *g)
{
	struct lease *l = g->k->l;
	struct { uint64_t inode; uint8_t flags; } *list;
	struct writer *w, *next;
	unsigned n = 0;
	int r = 0;

	pthread_mutex_lock(&l->lock);
	list = calloc(HASH_COUNT(l->writers) + 1, sizeof(*list));
	if (list)
		HASH_ITER(hh, l->writers, w, next)
			if (w->listed || w->lists_buffer) {
				list[n].inode = w->inode;
				list[n++].flags = LEASE_WRITES |
						  (w->lists_buffer ? LEASE_BUFFERS : 0);
			}
	pthread_mutex_unlock(&l->lock);
	if (!list)
		return err_set(g->err, ERR_NOMEM, "out of memory");
	for (unsigned i = 0; i < n && r == 0; i++)
		r = list_one(g, list[i].inode, list[i].flags);
	free(list);
	return r;
}

static int list_opens(struct listing *g)
{
	uint64_t *inodes = NULL;
	size_t n = 0;
	int r = inodes_tell_open(g->k->l->inodes, &inodes, &n);

	for (size_t i = 0; i < n && r == 0; i++)
		r = list_one(g, inodes[i], LEASE_OPENED);
	free(inodes);
	return r < 0 ? err_set(g->err, r, "list what is open: %s", err_text(r)) : 0;
}

/* The writes that went on through the loss have what was listed. */
static void writers_listed(struct lease *l)
{
	struct writer *w, *next;

	pthread_mutex_lock(&l->lock);
	HASH_ITER(hh, l->writers, w, next)
		w->listed = w->lists_buffer = false;
	pthread_mutex_unlock(&l->lock);
	l->flush(l->flush_arg, 0);
}

static int attach_anew(struct link *k, uint64_t incarnation, int64_t *ret_sent, struct err *err)
{
	struct listing g = {.k = k, .err = err};
	int r;

	k->incarnation = incarnation;
	pthread_mutex_lock(&k->l->lock);
	writers_lose(k->l);
	pthread_mutex_unlock(&k->l->lock);
	r = list_writers(&g);
	if (r == 0)
		r = list_opens(&g);
	if (r < 0)
		return r;
	g.req.last = 1;
	*ret_sent = clock_ms();
	r = attach_ask(k, &g.req, &g.rep, err);
	if (r == 0) {
		k->lease_ms = g.rep.lease_ms;
		writers_listed(k->l);
	}
	return r;
}

static int attach(struct link *k, struct err *err)
{
	struct wire_lease_attach req = {0};
	struct wire_lease_attached rep;
	int64_t sent = clock_ms();
	int r;

	k->session = session_id(k->l->session);
	r = attach_ask(k, &req, &rep, err);
	if (r < 0)
		return r;
	k->lease_ms = rep.lease_ms;
	if (rep.lost)
		r = attach_anew(k, rep.incarnation, &sent, err);
	k->incarnation = rep.incarnation;
	if (r < 0)
		return r;
	k->next_ping_ms = sent; /* at once: it tells the time, and whether there is room */
	k->ping_sent_ms = 0;
	cache_start(&k->l->cache);
	set_until(k, sent);
	log_info("leases of %u ms, session %llx%s", k->lease_ms, (unsigned long long)k->session,
		 rep.lost ? "" : ", as before");
	return 0;
}

static void conn_set(struct link *k, struct conn *c)
{
	struct conn *old = k->c;

	pthread_mutex_lock(&k->l->lock);
	k->c = k->l->conn = c;
	pthread_mutex_unlock(&k->l->lock);
	conn_free(old);
}

static int connect_link(struct link *k, struct err *err)
{
	struct conn *c;
	int r = master_dial(k->l->master, deadline_in(k->l->master->connect_ms), &c, err);

	if (r < 0)
		return r;
	conn_set(k, c);
	if (stopped(k->l))
		return ERR_SHUTDOWN;
	r = attach(k, err);
	if (r == ERR_STALE && !conn_broken(c))
		session_renew(k->l->session, k->session, deadline_in(LINK_IO_MS), NULL);
	return r;
}

/* ---- pings ---- */

/* What was closed and is not open again; what is held back no longer. */
static void pings_tell(struct lease *l, struct wire_lease_ping *req)
{
	pthread_mutex_lock(&l->lock);
	while (l->n_closed > 0 && req->n_closed < LEASES_PER_MESSAGE_MAX) {
		uint64_t inode = l->closed[--l->n_closed];
		/* Under the lock: an open that comes later waits for the answer. */
		if (!inode_tell_open(l->inodes, inode))
			req->closed[req->n_closed++] = inode;
	}
	while (l->n_returned > 0 && req->n_returned < LEASES_PER_MESSAGE_MAX)
		req->returned[req->n_returned++] = l->returned[--l->n_returned];
	memcpy(l->closing, req->closed, req->n_closed * sizeof(l->closing[0]));
	l->n_closing = req->n_closed;
	pthread_mutex_unlock(&l->lock);
}

/* again: it is not known whether the ping arrived. */
static void closing_ends(struct lease *l, bool again)
{
	uint64_t closing[LEASES_PER_MESSAGE_MAX];
	unsigned n;

	pthread_mutex_lock(&l->lock);
	n = l->n_closing;
	memcpy(closing, l->closing, n * sizeof(closing[0]));
	l->n_closing = 0;
	pthread_cond_broadcast(&l->answered);
	pthread_mutex_unlock(&l->lock);
	for (unsigned i = 0; again && i < n; i++)
		lease_closed(l, closing[i]);
}

static int ping_send(struct link *k, struct err *err)
{
	struct wire_lease_ping req = {.session = k->session};
	int r;

	pings_tell(k->l, &req);
	k->ping_id = k->c->next_id++;
	k->ping_sent_ms = clock_ms();
	buf_clear(&k->c->out);
	r = wire_put_request(&k->c->out, OP_LEASE_PING, k->ping_id, 0, &req, 0);
	if (r == 0)
		r = conn_send(k->c, buf_slice(&k->c->out), NULL, 0, deadline_in(LINK_IO_MS), err);
	return r;
}

static void set_clock(struct lease *l, const struct wire_lease_pong *rep)
{
	pthread_mutex_lock(&l->lock);
	l->master_now = rep->now;
	l->master_us = clock_us();
	l->full = rep->full;
	pthread_mutex_unlock(&l->lock);
}

static int ping_answered(struct link *k, const struct wire_header *h, struct err *err)
{
	struct wire_lease_pong rep;
	int r = wire_get_reply(h, buf_slice(&k->fields), &rep, NULL, err);

	if (r == 0 && h->id != k->ping_id)
		r = err_set(err, ERR_PROTOCOL, "answer to another ping");
	if (r == 0 && rep.lost)
		r = err_set(err, ERR_STALE, "the lease has run out at the master");
	if (r < 0)
		return r;
	closing_ends(k->l, false);
	set_clock(k->l, &rep);
	set_until(k, k->ping_sent_ms);
	k->next_ping_ms = k->ping_sent_ms + k->lease_ms / 4;
	k->ping_sent_ms = 0;
	return 0;
}

/* ---- recalls ---- */

static int recall_answer(struct link *k, const struct wire_header *h, struct err *err)
{
	struct lease *l = k->l;
	struct cursor c = cursor_slice(buf_slice(&k->fields));
	struct wire_lease_recall req;
	struct wire_lease_recalled rep = {0};
	uint64_t reads[LEASES_PER_MESSAGE_MAX];
	unsigned n = 0;
	int r;

	if (h->op != OP_LEASE_RECALL || wire_lease_recall_get(&c, &req) < 0 ||
	    req.n_inodes != req.n_what)
		return err_set(err, ERR_PROTOCOL, "unexpected %s", wire_op_name(h->op));
	for (unsigned i = 0; i < req.n_inodes; i++)
		if (req.what[i] & RECALL_READ) {
			cache_recall(&l->cache, req.inodes[i]);
			reads[n++] = req.inodes[i];
		}
	if (n > 0 && l->watch.recalled)
		l->watch.recalled(l->watch.arg, reads, n);
	for (unsigned i = 0; i < req.n_inodes; i++) {
		uint8_t flags = inode_tell_open(l->inodes, req.inodes[i]) ? RECALLED_OPEN : 0;
		if (req.what[i] & (RECALL_WRITE | RECALL_BUFFER))
			flags |= writer_recalled(l, req.inodes[i], req.what[i]);
		rep.flags[rep.n_flags++] = flags;
	}
	buf_clear(&k->c->out);
	r = wire_put_reply(&k->c->out, h->op, h->id, h->trace, &rep, 0);
	if (r == 0)
		r = conn_send(k->c, buf_slice(&k->c->out), NULL, 0, deadline_in(LINK_IO_MS), err);
	return r;
}

/* ---- the loop ---- */

static int receive(struct link *k, struct err *err)
{
	struct wire_header h;
	int r = conn_recv(k->c, &h, &k->fields, deadline_in(LINK_IO_MS), err);

	if (r < 0)
		return r;
	if (h.data_bytes > 0)
		return err_set(err, ERR_PROTOCOL, "%s with data", wire_op_name(h.op));
	if (h.flags & WIRE_REPLY)
		return ping_answered(k, &h, err);
	return recall_answer(k, &h, err);
}

static void wait_link(struct link *k, int64_t until_ms)
{
	struct pollfd p[2] = {{.fd = k->l->wake_fd, .events = POLLIN},
			      {.fd = k->c ? k->c->fd : -1, .events = POLLIN}};
	uint64_t count;

	if (k->c && conn_buffered(k->c))
		return;
	poll(p, 2, deadline_left(until_ms));
	if (p[0].revents && read(k->l->wake_fd, &count, sizeof(count)) < 0)
		return;
}

static bool has_returned(struct lease *l)
{
	bool has;

	pthread_mutex_lock(&l->lock);
	has = l->n_returned > 0;
	pthread_mutex_unlock(&l->lock);
	return has;
}

/* One turn while the link is up. Others wait for what is returned: that goes at once. */
static int link_turn(struct link *k, struct err *err)
{
	int64_t silent_at = k->ping_sent_ms + k->lease_ms * 3 / 4;

	if (k->ping_sent_ms || !has_returned(k->l))
		wait_link(k, k->ping_sent_ms ? silent_at : k->next_ping_ms);
	if (session_id(k->l->session) != k->session)
		return err_set(err, ERR_STALE, "the session was replaced");
	if (conn_readable(k->c))
		return receive(k, err);
	if (k->ping_sent_ms && clock_ms() >= silent_at)
		return err_set(err, ERR_TIMEOUT, "no answer to a ping");
	if (!k->ping_sent_ms && (clock_ms() >= k->next_ping_ms || has_returned(k->l)))
		return ping_send(k, err);
	return 0;
}

void *lease_link(void *arg)
{
	struct link k = {.l = arg};
	int64_t pause_ms = LINK_PAUSE_FIRST_MS;

	while (!stopped(k.l)) {
		struct err err = {0};
		int r = connect_link(&k, &err);
		bool was_up = r == 0;
		while (r == 0 && !stopped(k.l))
			r = link_turn(&k, &err);
		forget(&k);
		closing_ends(k.l, true);
		conn_set(&k, NULL);
		if (stopped(k.l))
			break;
		if (was_up) {
			log_warn("lease link: %s", err_message(&err));
			pause_ms = LINK_PAUSE_FIRST_MS;
		}
		wait_link(&k, deadline_in(pause_ms));
		pause_ms = pause_ms * 2 < LINK_PAUSE_MAX_MS ? pause_ms * 2 : LINK_PAUSE_MAX_MS;
	}
	buf_release(&k.fields);
	return NULL;
}
