#include "client/master.h"

#include <stdio.h>

#include "client/result.h"
#include "client/wait.h"
#include "common/clock.h"
#include "common/waits.h"

enum { MASTER_BACKOFF_FIRST_MS = 20, MASTER_BACKOFF_MAX_MS = 500 };

static int master_parse(struct master *m, const char *list, struct err *err)
{
	while (*list) {
		char host[ADDR_BYTES_MAX], port[8];
		size_t len = strcspn(list, ",");
		char *addr = m->addrs[m->n_addrs];
		int r;
		if (m->n_addrs == MASTERS_MAX)
			return err_set(err, ERR_INVAL, "more than %d masters", MASTERS_MAX);
		if (len >= ADDR_BYTES_MAX)
			return err_set(err, ERR_INVAL, "master address is too long");
		memcpy(addr, list, len);
		addr[len] = '\0';
		r = addr_split(addr, host, port, err);
		if (r < 0)
			return r;
		m->n_addrs++;
		list += len + (list[len] == ',');
	}
	return m->n_addrs > 0 ? 0 : err_set(err, ERR_INVAL, "no master address given");
}

int master_init(struct master *m, const char *list, const struct cred *cred,
		int64_t connect_ms, struct err *err)
{
	int r;

	memset(m, 0, sizeof(*m));
	m->cred = cred;
	m->connect_ms = connect_ms;
	r = master_parse(m, list, err);
	if (r < 0)
		return r;
	r = wait_cond_init(&m->room);
	if (r < 0)
		return err_set(err, r, "out of memory");
	pthread_mutex_init(&m->lock, NULL);
	return 0;
}

void master_release(struct master *m)
{
	for (unsigned i = 0; i < m->n_idle; i++)
		conn_free(m->idle[i]);
	m->n_idle = 0;
	pthread_cond_destroy(&m->room);
	pthread_mutex_destroy(&m->lock);
}

static void master_leave(struct master *m)
{
	pthread_mutex_lock(&m->lock);
	m->n_out--;
	pthread_cond_signal(&m->room);
	pthread_mutex_unlock(&m->lock);
}

/* Lock held. The place of c, or of none for NULL, among those in use. */
static struct conn **out_find(struct master *m, const struct conn *c)
{
	unsigned i = 0;

	while (m->out[i] != c)
		i++;
	return &m->out[i];
}

/* From here on master_end can interrupt those who wait on it. */
static void master_use(struct master *m, struct conn *c)
{
	pthread_mutex_lock(&m->lock);
	*out_find(m, NULL) = c; /* there is room: n_out counts it */
	if (m->end_ms && m->end_ms <= clock_ms())
		shutdown(c->fd, SHUT_RDWR);
	pthread_mutex_unlock(&m->lock);
}

static void master_drop(struct master *m, struct conn *c)
{
	pthread_mutex_lock(&m->lock);
	*out_find(m, c) = NULL;
	pthread_mutex_unlock(&m->lock);
	conn_free(c);
	master_leave(m);
}

static void master_put(struct master *m, struct conn *c)
{
	pthread_mutex_lock(&m->lock);
	*out_find(m, c) = NULL;
	m->n_out--;
	m->idle[m->n_idle++] = c; /* n_idle + n_out <= MASTER_CONNS_MAX always */
	pthread_cond_signal(&m->room);
	pthread_mutex_unlock(&m->lock);
}

void master_end(struct master *m, int64_t end_ms)
{
	pthread_mutex_lock(&m->lock);
	m->end_ms = end_ms > 0 ? end_ms : 1;
	if (end_ms <= clock_ms())
		for (unsigned i = 0; i < MASTER_CONNS_MAX; i++)
			if (m->out[i])
				shutdown(m->out[i]->fd, SHUT_RDWR);
	pthread_mutex_unlock(&m->lock);
}

/* The call's own deadline, or the end of all. */
static int64_t master_deadline(struct master *m, int64_t deadline_ms)
{
	pthread_mutex_lock(&m->lock);
	if (m->end_ms && m->end_ms < deadline_ms)
		deadline_ms = m->end_ms;
	pthread_mutex_unlock(&m->lock);
	return deadline_ms;
}

/* The next attempt shall go to another master, unless somebody has moved on already. */
static void master_rotate(struct master *m, const char *failed)
{
	pthread_mutex_lock(&m->lock);
	if (strcmp(m->addrs[m->current], failed) == 0)
		m->current = (m->current + 1) % m->n_addrs;
	pthread_mutex_unlock(&m->lock);
}

/* A place among those in use, and an idle connection to the current master or NULL to dial one.
 * fresh: idle ones are of a master that is gone; they are closed. addr: ADDR_BYTES_MAX. */
static int master_enter(struct master *m, bool fresh, int64_t deadline_ms, struct conn **ret,
			char *addr, struct err *err)
{
	struct conn *stale[MASTER_CONNS_MAX], *c = NULL;
	unsigned n_stale = 0;
	int r = 0;

	pthread_mutex_lock(&m->lock);
	while (r == 0 && m->n_idle == 0 && m->n_out == MASTER_CONNS_MAX)
		if (!wait_until(&m->room, &m->lock, deadline_ms))
			r = ERR_TIMEOUT;
	memcpy(addr, m->addrs[m->current], ADDR_BYTES_MAX);
	while (r == 0 && !c && m->n_idle > 0) {
		c = m->idle[--m->n_idle];
		if (fresh || strcmp(c->peer, addr) != 0) {
			stale[n_stale++] = c;
			c = NULL;
		}
	}
	if (r == 0)
		m->n_out++;
	pthread_mutex_unlock(&m->lock);
	for (unsigned i = 0; i < n_stale; i++)
		conn_free(stale[i]);
	if (r < 0)
		return err_set(err, r, "all %d connections are busy", MASTER_CONNS_MAX);
	*ret = c;
	return 0;
}

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int master_connect(struct master *m, const char *addr, int64_t deadline_ms,
			  struct conn **ret, struct err *err)
{
	return conn_dial(addr, m->cred, ROLE_MASTER, sooner(deadline_in(m->connect_ms), deadline_ms),
			 ret, err);
}

int master_dial(struct master *m, int64_t deadline_ms, struct conn **ret, struct err *err)
{
	char addr[ADDR_BYTES_MAX];

	pthread_mutex_lock(&m->lock);
	memcpy(addr, m->addrs[m->current], ADDR_BYTES_MAX);
	pthread_mutex_unlock(&m->lock);
	return master_connect(m, addr, deadline_ms, ret, err);
}

/* addr: the master that was chosen, also on failure. */
static int master_take(struct master *m, bool fresh, int64_t deadline_ms, struct conn **ret,
		       bool *ret_pooled, char *addr, struct err *err)
{
	struct conn *c = NULL;
	int r = master_enter(m, fresh, deadline_ms, &c, addr, err);

	if (r < 0)
		return r;
	*ret_pooled = c != NULL;
	if (!c)
		r = master_connect(m, addr, deadline_ms, &c, err);
	if (r < 0) {
		master_leave(m);
		return r;
	}
	master_use(m, c);
	*ret = c;
	return 0;
}

/* No other attempt will do better. */
static bool master_refused(int code)
{
	return code == ERR_AUTH || code == ERR_VERSION || code == ERR_WRONG_CLUSTER ||
	       code == ERR_NOMEM || code == ERR_INVAL;
}

/* Answers that mean: not now, or not here. */
static bool master_cannot_serve(int code)
{
	return code == ERR_NOT_LEADER || code == ERR_SHUTDOWN || code == ERR_UNKNOWN_OUTCOME;
}

enum attempt { ATTEMPT_ANSWERED, ATTEMPT_FAILED, ATTEMPT_STALE, ATTEMPT_REFUSED };

static enum attempt master_attempt(struct master *m, bool fresh, uint16_t op, const void *req,
				   void *ret, struct buf *fields, int64_t deadline_ms,
				   char *addr, bool *unsure, uint8_t *leased, int *ret_code,
				   struct err *err)
{
	struct conn *c;
	bool pooled, broken;
	int r = master_take(m, fresh, deadline_ms, &c, &pooled, addr, err);

	*ret_code = r;
	if (r < 0)
		return master_refused(r) ? ATTEMPT_REFUSED : ATTEMPT_FAILED;
	r = conn_call(c, op, 0, req, ret, fields,
		      sooner(deadline_in(MASTER_ATTEMPT_MS), deadline_ms), err);
	*ret_code = r;
	broken = conn_broken(c);
	if (!broken && !master_cannot_serve(r)) {
		*leased = c->reply_flags & (WIRE_LEASED_INODE | WIRE_LEASED_PARENT |
					    WIRE_LEASED_WRITE | WIRE_LEASED_BUFFER);
		master_put(m, c);
		return ATTEMPT_ANSWERED;
	}
	if (broken || r == ERR_UNKNOWN_OUTCOME)
		*unsure = true;
	master_drop(m, c);
	return broken && pooled && r != ERR_TIMEOUT ? ATTEMPT_STALE : ATTEMPT_FAILED;
}

int master_call(struct master *m, uint16_t op, const void *req, void *ret, struct buf *fields,
		int64_t deadline_ms, bool *ret_unsure, struct err *err)
{
	uint8_t leased;

	return master_call_leased(m, op, req, ret, fields, deadline_ms, ret_unsure, &leased, err);
}

int master_call_leased(struct master *m, uint16_t op, const void *req, void *ret,
		       struct buf *fields, int64_t deadline_ms, bool *ret_unsure,
		       uint8_t *ret_leased, struct err *err)
{
	struct backoff pause = {MASTER_BACKOFF_FIRST_MS, MASTER_BACKOFF_MAX_MS};
	bool fresh = false, unsure = false;
	char addr[ADDR_BYTES_MAX] = "";
	int r;

	*ret_leased = 0;
	for (;;) {
		int64_t limit = master_deadline(m, deadline_ms);
		enum attempt a = master_attempt(m, fresh, op, req, ret, fields, limit, addr,
						&unsure, ret_leased, &r, err);
		if (ret_unsure)
			*ret_unsure = unsure;
		if (a == ATTEMPT_ANSWERED)
			return r;
		if (a == ATTEMPT_STALE && !fresh) {
			fresh = true;
			continue;
		}
		if (a != ATTEMPT_REFUSED)
			master_rotate(m, addr);
		if (a == ATTEMPT_REFUSED ||
		    !backoff_pause(&pause, master_deadline(m, deadline_ms))) {
			result_strip(err, addr);
			return err_prefix(err, r, "master %s", addr);
		}
	}
}
