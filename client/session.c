#include "client/session.h"

#include <errno.h>
#include <sys/random.h>
#include <unistd.h>

#include "client/cairn.h"
#include "client/wait.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"

enum {
	SESSION_TTL_DEFAULT_MS = 30000,
	SESSION_PING_MIN_MS = 100,
	/* Limit of one ping, and of saying goodbye: cairn_disconnect may wait for both. */
	SESSION_PING_LIMIT_MS = 2000,
};

/* ---- who asks ---- */

static void cred_of_process(struct wire_cred *ret)
{
	gid_t groups[GROUPS_MAX];
	int n = getgroups(GROUPS_MAX, groups);

	*ret = (struct wire_cred){.uid = geteuid(), .gid = getegid()};
	/* A process in more groups than a message can tell of: it acts with none of them. */
	for (int i = 0; i < n; i++)
		ret->groups[ret->n_groups++] = groups[i];
}

static void cred_given(const struct cairn_cred *cred, struct wire_cred *ret)
{
	*ret = (struct wire_cred){.uid = cred->uid, .gid = cred->gid, .umask = cred->umask};
	ret->n_groups = (uint16_t)(cred->n_groups < GROUPS_MAX ? cred->n_groups : GROUPS_MAX);
	for (unsigned i = 0; i < ret->n_groups; i++)
		ret->groups[i] = cred->groups[i];
}

void session_cred(const struct session *s, const struct cairn_cred *cred, struct wire_cred *ret)
{
	if (cred)
		cred_given(cred, ret);
	else
		cred_of_process(ret);
	ret->flags = s->kernel_checks ? CRED_KERNEL : 0;
}

/* ---- the session ---- */

static int session_nonce(uint64_t *ret, struct err *err)
{
	ssize_t n;

	do {
		n = getrandom(ret, sizeof(*ret), 0);
	} while (n < 0 && errno == EINTR);
	return n == sizeof(*ret) ? 0 : err_set(err, ERR_IO, "no random bytes");
}

/* The nonce makes a retry find the session that a lost answer told of. */
static int session_ask(struct session *s, struct wire_session *ret, int64_t deadline_ms,
		       struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_session_open req = {.name = slice_str(s->master->cred->name), .cached = s->cached};
	int r = session_nonce(&req.nonce, err);

	if (r == 0)
		r = master_call(s->master, OP_SESSION_OPEN, &req, ret, &fields, deadline_ms, NULL,
				err);
	if (r == 0 && ret->session == 0)
		r = err_set(err, ERR_PROTOCOL, "the master gave no session");
	if (r < 0)
		return err_prefix(err, r, "open a session");
	if (ret->ttl_ms == 0)
		ret->ttl_ms = SESSION_TTL_DEFAULT_MS;
	ret->cluster = (struct slice){0}; /* it pointed into fields */
	return 0;
}

static void session_install(struct session *s, const struct wire_session *m)
{
	s->id = m->session;
	s->ttl_ms = m->ttl_ms;
	s->root = m->root ? m->root : CAIRN_ROOT;
	s->checked = m->checked || !s->kernel_checks;
	opids_init(&s->ops);
}

static int session_ping(struct session *s, uint64_t id, int64_t deadline_ms, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_session_ref req = {.session = id};
	struct wire_empty empty;

	return master_call(s->master, OP_SESSION_PING, &req, &empty, &fields, deadline_ms, NULL,
			   err);
}

uint64_t session_id(struct session *s)
{
	uint64_t id;

	pthread_mutex_lock(&s->lock);
	id = s->id;
	pthread_mutex_unlock(&s->lock);
	return id;
}

int session_renew(struct session *s, uint64_t old, int64_t deadline_ms, struct err *err)
{
	struct wire_session opened;
	bool mine;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	while (s->renewing && s->id == old && r == 0)
		if (!wait_until(&s->changed, &s->lock, deadline_ms))
			r = err_set(err, ERR_TIMEOUT, "waiting for a new session");
	mine = r == 0 && s->id == old;
	if (mine)
		s->renewing = true;
	pthread_mutex_unlock(&s->lock);
	if (!mine)
		return r;

	r = session_ping(s, old, deadline_ms, err);
	if (r == 0)
		r = ERR_STALE;
	else if (r == ERR_STALE)
		r = session_ask(s, &opened, deadline_ms, err);
	pthread_mutex_lock(&s->lock);
	if (r == 0)
		session_install(s, &opened);
	s->renewing = false;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	if (r == 0)
		log_warn("session %llx has expired at the master; going on as session %llx",
			 (unsigned long long)old, (unsigned long long)opened.session);
	return r;
}

static void *session_keep(void *arg)
{
	struct session *s = arg;

	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		int64_t every = s->ttl_ms / 4 > SESSION_PING_MIN_MS ? s->ttl_ms / 4
								    : SESSION_PING_MIN_MS;
		int64_t next = deadline_in(every);
		uint64_t id;
		int r;
		while (!s->stop && wait_until(&s->changed, &s->lock, next))
			;
		if (s->stop)
			break;
		id = s->id;
		pthread_mutex_unlock(&s->lock);
		r = session_ping(s, id, deadline_in(SESSION_PING_LIMIT_MS), NULL);
		if (r == ERR_STALE)
			session_renew(s, id, deadline_in(SESSION_PING_LIMIT_MS), NULL);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static void session_release(struct session *s)
{
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
}

int session_open(struct session *s, struct master *master, bool cached, bool kernel_checks,
		 int64_t deadline_ms, struct err *err)
{
	struct wire_session opened;
	int r;

	memset(s, 0, sizeof(*s));
	s->master = master;
	s->cached = cached;
	s->kernel_checks = kernel_checks;
	r = wait_cond_init(&s->changed);
	if (r < 0)
		return err_set(err, r, "out of memory");
	pthread_mutex_init(&s->lock, NULL);
	r = session_ask(s, &opened, deadline_ms, err);
	if (r == 0) {
		session_install(s, &opened);
		r = pthread_create(&s->keeper, NULL, session_keep, s);
		if (r != 0)
			r = err_set_errno(err, r, "start the keep-alive thread");
	}
	if (r < 0)
		session_release(s);
	s->keeper_runs = r == 0;
	return r;
}

void session_close(struct session *s)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_session_ref req;
	struct wire_empty empty;

	pthread_mutex_lock(&s->lock);
	s->stop = true;
	req.session = s->id;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	if (s->keeper_runs)
		pthread_join(s->keeper, NULL);
	/* If the master cannot be reached the session ends by expiry. */
	master_call(s->master, OP_SESSION_CLOSE, &req, &empty, &fields,
		    deadline_in(SESSION_PING_LIMIT_MS), NULL, NULL);
	session_release(s);
}

/* Fills *id; waits while the window is full. */
static int session_take(struct session *s, struct wire_opid *id, int64_t deadline_ms,
			struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&s->lock);
	while (r == 0 && !opids_take(&s->ops, &id->seq))
		if (!wait_until(&s->changed, &s->lock, deadline_ms))
			r = err_set(err, ERR_TIMEOUT, "%d operations are unanswered",
				    SESSION_WINDOW_MAX);
	id->session = s->id;
	id->floor = s->ops.floor;
	pthread_mutex_unlock(&s->lock);
	return r;
}

uint32_t session_ttl_ms(struct session *s)
{
	uint32_t ttl;

	pthread_mutex_lock(&s->lock);
	ttl = s->ttl_ms;
	pthread_mutex_unlock(&s->lock);
	return ttl;
}

uint64_t session_root(struct session *s)
{
	uint64_t root;

	pthread_mutex_lock(&s->lock);
	root = s->root;
	pthread_mutex_unlock(&s->lock);
	return root;
}

bool session_is_checked(struct session *s)
{
	bool checked;

	pthread_mutex_lock(&s->lock);
	checked = s->checked;
	pthread_mutex_unlock(&s->lock);
	return checked;
}

uint64_t session_number_writes(struct session *s, unsigned n, uint64_t *ret_session)
{
	uint64_t first;

	pthread_mutex_lock(&s->lock);
	*ret_session = s->id;
	first = s->writes + 1;
	s->writes += n;
	pthread_mutex_unlock(&s->lock);
	return first;
}

static void session_done(struct session *s, const struct wire_opid *id)
{
	pthread_mutex_lock(&s->lock);
	/* Numbers of a session that was replaced meanwhile went with it. Waiters are few: only a
	 * full window has any. */
	if (s->id == id->session) {
		bool full = s->ops.next - s->ops.floor >= SESSION_WINDOW_MAX;
		if (opids_done(&s->ops, id->seq) && full)
			pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
}

int session_mutate(struct session *s, uint16_t op, void *req, struct wire_opid *id, void *ret,
		   struct buf *fields, int64_t deadline_ms, struct err *err)
{
	uint8_t leased;
	bool unsure;

	return session_mutate_leased(s, op, req, id, ret, fields, deadline_ms, &leased, &unsure,
				     err);
}

/* Whether the failure r leaves open what became, or becomes, of the operation. */
static bool outcome_is_open(int r, bool unsure)
{
	return r == ERR_STALE ? unsure : r < 0 && err_to_errno(r) == EIO;
}

int session_mutate_leased(struct session *s, uint16_t op, void *req, struct wire_opid *id, void *ret,
			  struct buf *fields, int64_t deadline_ms, uint8_t *ret_leased,
			  bool *ret_unsure, struct err *err)
{
	*ret_unsure = false;
	for (bool renewed = false;; renewed = true) {
		bool unsure = false;
		int r = session_take(s, id, deadline_ms, err);
		if (r < 0)
			return r;
		r = master_call_leased(s->master, op, req, ret, fields, deadline_ms, &unsure,
				       ret_leased, err);
		*ret_unsure = outcome_is_open(r, unsure);
		session_done(s, id);
		if (r != ERR_STALE || renewed)
			return r;
		r = session_renew(s, id->session, deadline_ms, err);
		if (r < 0)
			return r;
		if (unsure)
			return err_set(err, ERR_STALE, "%s: the session has expired, the outcome "
				       "is not known", wire_op_name(op));
	}
}
