#include "chunkserver/link_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"

/* ---- queues ---- */

void link_item_free(struct item *i)
{
	if (i)
		buf_release(&i->bytes);
	free(i);
}

bool link_queue_add(struct queue *q, struct item *i)
{
	if (!i || buf_status(&i->bytes) < 0 || q->n >= LINK_QUEUE_MAX) {
		link_item_free(i);
		return false;
	}
	DL_APPEND(q->items, i);
	q->n++;
	return true;
}

struct item *link_queue_take(struct queue *q)
{
	struct item *i = q->items;
	if (i) {
		DL_DELETE(q->items, i);
		q->n--;
	}
	return i;
}

static void queue_clear(struct queue *q)
{
	struct item *i;
	while ((i = link_queue_take(q)) != NULL)
		link_item_free(i);
}

void link_wake(struct link *l)
{
	uint64_t one = 1;
	if (write(l->wake_fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: it is awake */
}

/* Queues a request for the link thread to send, if there is a link: its id, or 0. Lock held. */
static uint64_t send_later(struct link *l, uint16_t op, const void *m)
{
	struct item *i = l->up ? calloc(1, sizeof(*i)) : NULL;
	uint64_t id = l->next_id++;

	if (!i)
		return 0;
	/* What does not fit is said again with everything. */
	if (wire_put_request(&i->bytes, op, id, 0, m, 0) < 0 || !link_queue_add(&l->out, i)) {
		l->report_due = true;
		return 0;
	}
	return id;
}

void link_damage(struct link *l, const struct wire_have *have)
{
	_cleanup_buf_ struct buf list = {0};
	struct wire_cs_damage m;
	uint64_t id;

	WIRE_LIST_PUT(wire_have, &list, have);
	m.have = buf_slice(&list);
	pthread_mutex_lock(&l->lock);
	id = send_later(l, OP_CS_DAMAGE, &m);
	if (id) {
		l->damages++;
		l->last_damage = id;
	}
	pthread_mutex_unlock(&l->lock);
	link_wake(l);
}

/* A master answers both in the order in which they were sent: when a heartbeat is answered and damage
 * that was told before it is not, that was lost on the way, or refused. All is told then, by digests,
 * once; that is answered or the link is given up. */
static void damage_heard(struct link *l, const struct wire_header *h)
{
	pthread_mutex_lock(&l->lock);
	if (h->op == OP_CS_DAMAGE && h->status == 0 && l->damages > 0)
		l->damages--;
	if (h->op == OP_CS_HEARTBEAT && l->damages > 0 && h->id > l->last_damage) {
		l->damages = 0;
		l->report_due = true;
	}
	pthread_mutex_unlock(&l->lock);
}

static void chain_fault_forget(struct link *l, struct chain_fault *f)
{
	DL_DELETE(l->faults, f);
	l->n_faults--;
	free(f);
}

void link_fault(struct link *l, uint64_t chunk, uint32_t version, uint32_t server, int reason)
{
	struct wire_chunk_fault m = {.chunk = chunk, .version = version, .server = server,
				     .writing = 1, .reason = reason};
	struct chain_fault *f;

	pthread_mutex_lock(&l->lock);
	DL_FOREACH(l->faults, f) {
		if (f->m.chunk == chunk && f->m.version == version && f->m.server == server)
			break;
	}
	if (!f && (f = calloc(1, sizeof(*f))) != NULL) {
		DL_APPEND(l->faults, f);
		l->n_faults++;
	}
	if (f) {
		f->m = m;
		f->id = send_later(l, OP_CHUNK_FAULT, &f->m);
	}
	if (l->n_faults > FAULTS_MAX)
		chain_fault_forget(l, l->faults);
	pthread_mutex_unlock(&l->lock);
	link_wake(l);
}

void link_report_anew(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->report_due = true;
	pthread_mutex_unlock(&l->lock);
	link_wake(l);
}

/* ---- the link thread ---- */

static void note_sent(struct link *l, uint64_t id)
{
	l->sent[l->n_sent % SENT_MAX].id = id;
	l->sent[l->n_sent++ % SENT_MAX].ms = clock_ms();
}

/* An answer has come: the lease goes on, counted from the question. */
static void answered(struct link *l, uint64_t id)
{
	struct chain_fault *f, *next;

	l->answered_ms = clock_ms();
	for (unsigned i = 0; i < SENT_MAX; i++)
		if (l->sent[i].id == id && id)
			lease_renew(l->o.lease, l->sent[i].ms, l->lease_ms);
	pthread_mutex_lock(&l->lock);
	DL_FOREACH_SAFE(l->faults, f, next) {
		if (f->id == id)
			chain_fault_forget(l, f);
	}
	pthread_mutex_unlock(&l->lock);
}

/* What no master has answered yet is said to the present one. */
static void send_faults(struct link *l)
{
	struct chain_fault *f;

	pthread_mutex_lock(&l->lock);
	DL_FOREACH(l->faults, f)
		f->id = send_later(l, OP_CHUNK_FAULT, &f->m);
	pthread_mutex_unlock(&l->lock);
}

static bool stopping(struct link *l)
{
	bool stop;
	pthread_mutex_lock(&l->lock);
	stop = l->stopping;
	pthread_mutex_unlock(&l->lock);
	return stop;
}

static int flush_out(struct link *l, struct err *err)
{
	for (;;) {
		struct item *i;
		int r;
		pthread_mutex_lock(&l->lock);
		i = link_queue_take(&l->out);
		pthread_mutex_unlock(&l->lock);
		if (!i)
			return 0;
		r = conn_send(l->conn, buf_slice(&i->bytes), NULL, 0, deadline_in(LINK_IO_MS), err);
		link_item_free(i);
		if (r < 0)
			return r;
	}
}

/* How long a master may say nothing before it is given up for another connection. */
static int64_t silence_max_ms(const struct link *l)
{
	return l->lease_ms ? l->lease_ms : LINK_IO_MS;
}

/* To a request that nobody waits for. */
static void link_answer(struct link *l, const struct wire_header *h, const struct buf *fields)
{
	struct wire_cs_beat beat;

	answered(l, h->id);
	damage_heard(l, h);
	if (h->op == OP_CS_HEARTBEAT && wire_get_reply(h, buf_slice(fields), &beat, NULL, NULL) == 0)
		keys_take(l->o.keys, beat.keys, beat.n_keys, clock_ms());
}

/* A request whose answer is needed before going on; commands that come meanwhile are taken. */
static int link_call(struct link *l, uint16_t op, const void *m, void *ret, struct buf *fields,
		     struct err *err)
{
	_cleanup_buf_ struct buf out = {0};
	int64_t deadline = deadline_in(l->serving ? silence_max_ms(l) : LINK_REPORT_MS);
	struct wire_header h;
	uint64_t id;
	int r;

	pthread_mutex_lock(&l->lock);
	id = l->next_id++;
	pthread_mutex_unlock(&l->lock);
	note_sent(l, id);
	r = wire_put_request(&out, op, id, 0, m, 0);
	if (r == 0)
		r = conn_send(l->conn, buf_slice(&out), NULL, 0, deadline, err);
	while (r == 0) {
		r = conn_recv(l->conn, &h, fields, deadline, err);
		if (r < 0)
			break;
		if (!(h.flags & WIRE_REPLY))
			link_take_command(l, &h, fields);
		else if (h.id == id)
			break;
		else
			link_answer(l, &h, fields);
		r = flush_out(l, err);
	}
	if (r == 0)
		r = wire_get_reply(&h, buf_slice(fields), ret, NULL, err);
	/* Registering is what tells how long the lease is. */
	if (r == 0 && op != OP_CS_REGISTER)
		answered(l, id);
	return r;
}

static int link_register(struct link *l, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_cs_register req = {
		.uuid = store_uuid(l->store), .cluster = store_cluster(l->store),
		.addr = slice_str(l->o.addr), .rack = slice_str(l->o.rack),
		.host = slice_str(l->o.host),
	};
	struct wire_cs_registered rep;
	int64_t sent_ms = clock_ms();
	int r = link_call(l, OP_CS_REGISTER, &req, &rep, &fields, err);

	if (r < 0)
		return r;
	keys_take(l->o.keys, rep.keys, rep.n_keys, clock_ms());
	l->heartbeat_ms = rep.heartbeat_ms ? rep.heartbeat_ms : 1000;
	l->lease_ms = rep.lease_ms;
	lease_renew(l->o.lease, sent_ms, l->lease_ms);
	return store_join_cluster(l->store, rep.cluster, err);
}

static uint64_t range_of(uint64_t id)
{
	return id / REPORT_RANGE_IDS * REPORT_RANGE_IDS;
}

static int report_range(struct link *l, const struct wire_have *list, size_t n, uint64_t first,
			struct err *err)
{
	_cleanup_buf_ struct buf have = {0}, fields = {0};
	_cleanup_free_ struct wire_have *now = NULL;
	struct wire_cs_report req = {.first_id = first};
	struct wire_empty empty;

	/* While chunks are in use the list is old by now, and old versions look like damage. What
	 * is listed here is sent before anything that a later change makes this server say. */
	if (l->serving) {
		int r = store_list(l->store, &now, &n);
		if (r < 0)
			return r;
		list = now;
	}
	for (size_t i = 0; i < n; i++)
		if (range_of(list[i].id) == first)
			WIRE_LIST_PUT(wire_have, &have, &list[i]);
	if (buf_status(&have) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	req.have = buf_slice(&have);
	return link_call(l, OP_CS_REPORT, &req, &empty, &fields, err);
}

/* One page of digests, from list[*at] on; the ranges that differ are reported at once. */
static int report_page(struct link *l, const struct wire_have *list, size_t n, size_t *at,
		       uint64_t *from_id, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	_cleanup_free_ struct wire_cs_digest *req = calloc(1, sizeof(*req));
	_cleanup_free_ struct wire_cs_digest_reply *rep = calloc(1, sizeof(*rep));
	int r;

	if (!req || !rep)
		return err_set(err, ERR_NOMEM, "out of memory");
	req->from_id = *from_id;
	while (*at < n) {
		uint64_t first = range_of(list[*at].id);
		struct wire_range *range;
		if (req->n_ranges == 0 || req->ranges[req->n_ranges - 1].first_id != first) {
			if (req->n_ranges == REPORT_RANGES_MAX / 2)
				break;
			req->ranges[req->n_ranges++].first_id = first;
		}
		range = &req->ranges[req->n_ranges - 1];
		range->count++;
		range->digest ^= wire_have_digest(list[*at].id, list[*at].version,
						  list[*at].flags);
		(*at)++;
	}
	req->last = *at == n;
	*from_id = *at < n ? range_of(list[*at].id) : UINT64_MAX;
	r = link_call(l, OP_CS_DIGEST, req, rep, &fields, err);
	for (unsigned i = 0; r == 0 && i < rep->n_differ; i++)
		r = report_range(l, list, n, rep->differ[i], err);
	return r;
}

static void send_heartbeat(struct link *l)
{
	struct wire_cs_heartbeat m = {.load = l->o.load(), .refused = l->o.refused()};
	uint64_t id;

	store_space(l->store, &m);
	l->o.scrub(&m.scrub);
	pthread_mutex_lock(&l->lock);
	link_working(l, &m);
	id = send_later(l, OP_CS_HEARTBEAT, &m); /* after the answers of what is not in hand any more */
	pthread_mutex_unlock(&l->lock);
	link_wake(l);
	note_sent(l, id);
}

/* What is here, by digests. */
static int report_all(struct link *l, struct err *err)
{
	_cleanup_free_ struct wire_have *list = NULL;
	uint64_t from_id = 0;
	size_t n = 0, at = 0;
	int r;

	pthread_mutex_lock(&l->lock);
	l->report_due = false; /* what comes up from now on is not in the list */
	pthread_mutex_unlock(&l->lock);
	r = store_list(l->store, &list, &n);
	do {
		if (r == 0)
			r = report_page(l, list, n, &at, &from_id, err);
	} while (r == 0 && at < n);
	return r;
}

static int link_report(struct link *l, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_cs_heartbeat space = {.refused = l->o.refused()};
	struct wire_cs_beat beat;
	struct wire_empty empty;
	int r;

	store_space(l->store, &space);
	r = link_call(l, OP_CS_HEARTBEAT, &space, &beat, &fields, err);
	if (r == 0)
		keys_take(l->o.keys, beat.keys, beat.n_keys, clock_ms());
	if (r == 0)
		r = report_all(l, err);
	if (r == 0)
		r = link_call(l, OP_CS_READY, &empty, &empty, &fields, err);
	return r;
}

static bool report_due(struct link *l)
{
	bool due;
	pthread_mutex_lock(&l->lock);
	due = l->report_due;
	pthread_mutex_unlock(&l->lock);
	return due;
}

/* Until the link breaks. */
static int link_serve(struct link *l, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	int64_t next_beat = clock_ms(), silence_ms = silence_max_ms(l);
	int64_t next_report;
	int r = 0;

	next_report = deadline_in(l->o.report_interval_ms);
	l->answered_ms = clock_ms();
	l->serving = true;
	send_faults(l);
	while (r == 0 && !stopping(l)) {
		struct pollfd p[2] = {{.fd = l->conn->fd, .events = POLLIN},
				      {.fd = l->wake_fd, .events = POLLIN}};
		uint64_t count;
		if (clock_ms() >= next_beat) {
			send_heartbeat(l);
			next_beat = deadline_in(l->heartbeat_ms);
		}
		r = flush_out(l, err);
		if (r == 0 && (report_due(l) || clock_ms() >= next_report)) {
			r = report_all(l, err);
			next_report = deadline_in(l->o.report_interval_ms);
		}
		if (r < 0)
			break;
		if (!conn_readable(l->conn) &&
		    poll(p, 2, deadline_left(next_beat)) < 0 && errno != EINTR)
			return err_set_errno(err, errno, "poll");
		if ((p[1].revents & POLLIN) && read(l->wake_fd, &count, sizeof(count)) < 0)
			continue;
		while (r == 0 && conn_readable(l->conn)) {
			struct wire_header h;
			r = conn_recv(l->conn, &h, &fields, deadline_in(LINK_IO_MS), err);
			if (r == 0 && !(h.flags & WIRE_REPLY))
				link_take_command(l, &h, &fields);
			else if (r == 0)
				link_answer(l, &h, &fields);
		}
		if (r == 0 && clock_ms() - l->answered_ms > silence_ms)
			r = err_set(err, ERR_TIMEOUT, "no answer for %lld ms",
				    (long long)silence_ms);
	}
	return r;
}

static void link_up(struct link *l, bool up)
{
	pthread_mutex_lock(&l->lock);
	l->up = up;
	l->damages = 0; /* the report on the new link says it again */
	l->generation++;
	queue_clear(&l->out);
	if (!up) {
		queue_clear(&l->commands);
		queue_clear(&l->slow);
	}
	pthread_mutex_unlock(&l->lock);
}

static int link_once(struct link *l, const char *master, struct err *err)
{
	int r = conn_dial(master, l->o.cred, ROLE_MASTER, deadline_in(LINK_IO_MS), &l->conn, err);

	if (r < 0)
		return r;
	link_up(l, true);
	l->serving = false;
	r = link_register(l, err);
	FAULT_POINT(CS_REGISTERED, "");
	if (r == 0)
		r = link_report(l, err);
	FAULT_POINT(CS_REPORTED, "");
	if (r == 0) {
		log_info("registered with master %s", master);
		r = link_serve(l, err);
	}
	link_up(l, false);
	conn_free(l->conn);
	l->conn = NULL;
	return r;
}

static void *link_thread(void *arg)
{
	struct link *l = arg;
	int64_t backoff = LINK_BACKOFF_MIN_MS;
	char last[ERR_TEXT_MAX] = "";

	for (size_t i = 0; !stopping(l); i++) {
		const char *master = l->o.masters->items[i % l->o.masters->n];
		struct err err = {0};
		struct pollfd p = {.fd = l->wake_fd, .events = POLLIN};
		int64_t begun = clock_ms();
		int r = link_once(l, master, &err);
		if (r == 0)
			break;
		/* The same trouble is told once. */
		if (strcmp(last, err_message(&err)) != 0)
			log_warn("master %s: %s", master, err_message(&err));
		snprintf(last, sizeof(last), "%s", err_message(&err));
		if (clock_ms() - begun > LINK_BACKOFF_MAX_MS)
			backoff = LINK_BACKOFF_MIN_MS;
		poll(&p, 1, (int)backoff);
		backoff = backoff * 2 > LINK_BACKOFF_MAX_MS ? LINK_BACKOFF_MAX_MS : backoff * 2;
	}
	return NULL;
}

int link_start(const struct link_options *options, struct store *store, struct link **ret,
	       struct err *err)
{
	struct link *l = calloc(1, sizeof(*l));

	if (!l)
		return err_set(err, ERR_NOMEM, "out of memory");
	l->o = *options;
	l->store = store;
	l->next_id = 1;
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->work, NULL);
	if (l->wake_fd < 0 || pthread_create(&l->thread, NULL, link_thread, l) != 0) {
		free(l);
		return err_set(err, ERR_NOMEM, "cannot start the link to the master");
	}
	for (unsigned i = 0; i < LINK_WORKERS; i++)
		if (pthread_create(&l->workers[l->n_workers], NULL, link_worker, l) == 0)
			l->n_workers++;
	*ret = l;
	return 0;
}

void link_stop(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->stopping = true;
	pthread_cond_broadcast(&l->work);
	pthread_mutex_unlock(&l->lock);
	link_wake(l);
	pthread_join(l->thread, NULL);
	for (unsigned i = 0; i < l->n_workers; i++)
		pthread_join(l->workers[i], NULL);
	queue_clear(&l->commands);
	queue_clear(&l->slow);
	queue_clear(&l->out);
	while (l->faults)
		chain_fault_forget(l, l->faults);
	close(l->wake_fd);
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->work);
	free(l);
}
