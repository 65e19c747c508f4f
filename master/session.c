/* The clocks of client sessions. That a session exists is in the state; when it was heard of last
 * is known only here, so after a restart each has its whole time again. */
#include "master/master.h"

#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"

struct session_clock *session_find(struct master *m, uint64_t session)
{
	struct session_clock *s;
	HASH_FIND(hh, m->sessions, &session, sizeof(session), s);
	return s;
}

void session_seen(struct master *m, uint64_t session)
{
	struct session_clock *s = session_find(m, session);

	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return; /* it lives on in the state; the next request tries again */
		s->session = session;
		HASH_ADD(hh, m->sessions, session, sizeof(s->session), s);
	}
	s->seen_ms = clock_ms();
}

void session_forget(struct master *m, uint64_t session)
{
	struct session_clock *s = session_find(m, session);

	if (s) {
		if (s->link)
			s->link->link_of = 0;
		HASH_DEL(m->sessions, s);
		free(s);
	}
}

static void text_take(char *ret, size_t room, struct slice from)
{
	size_t n = from.len < room ? from.len : room - 1;

	memcpy(ret, from.data, n);
	ret[n] = '\0';
}

static void session_known(struct master *m, uint64_t session, const struct row_session *row)
{
	struct session_clock *s;

	session_seen(m, session);
	s = session_find(m, session);
	if (!s)
		return;
	text_take(s->credential, sizeof(s->credential), row->credential);
	text_take(s->export, sizeof(s->export), row->export);
}

static void session_enter(struct master *m, uint64_t session, const struct row_session *row,
			  bool old)
{
	session_known(m, session, row);
	lease_session_add(&m->leases, session, row->cached, old, clock_ms());
}

void session_opened(struct master *m, uint64_t session)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_session row;

	if (state_get_row_session(m->st, key_session(session), &row, &backing) == 1)
		session_enter(m, session, &row, false);
}

int session_load(struct master *m, struct err *err)
{
	uint8_t type = KEY_SESSION;
	struct state_iter *it;
	struct slice key, value;
	struct fault f;
	bool old = !fault_map || !fault_take(FAULT_MASTER_LEASE_GRACE, "", 1u << FAULT_DO_ERROR,
					     &f);
	int r = state_iter_open(m->st, slice_of(&type, 1), (struct slice){0}, &it);

	m->incarnation = random_u64(NULL);
	lease_init(&m->leases, &(struct lease_options){.lease_ms = m->o.lease_ms,
						       .quarantine_ms = m->o.lease_quarantine_ms,
						       .max = (uint64_t)m->o.lease_max}, clock_ms());
	if (r < 0)
		return err_set(err, r, "reading the sessions: %s", err_text(r));
	while ((r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		struct row_session row;
		if (row_session_get(&c, &row) < 0) {
			r = ERR_CORRUPT;
			break;
		}
		if (!row.closing)
			session_enter(m, get_be64(key.data + 1), &row, old);
		else
			session_known(m, get_be64(key.data + 1), &row);
	}
	state_iter_close(it);
	return r < 0 ? err_set(err, r, "reading the sessions: %s", err_text(r)) : 0;
}

static void close_done(struct master *m, void *arg, struct apply_result *result)
{
	uint64_t session = (uint64_t)(uintptr_t)arg;
	struct cursor c;
	struct cmd_closed rep;

	if (result && result->status == 0) {
		c = cursor_slice(buf_slice(&result->reply));
		if (cmd_closed_get(&c, &rep) == 0 && rep.more) {
			struct cmd_session_close cmd = {.session = session};
			master_propose(m, CMD_NUMBER_SESSION_CLOSE, &cmd, close_done, arg);
			return;
		}
	}
	session_forget(m, session);
}

void session_close(struct master *m, uint64_t session, bool clean)
{
	struct cmd_session_close cmd = {.session = session};
	struct session_clock *s = session_find(m, session);

	if (s && s->closing)
		return;
	if (s)
		s->closing = true;
	lease_session_end(&m->leases, session, clean, clock_ms());
	master_propose(m, CMD_NUMBER_SESSION_CLOSE, &cmd, close_done, (void *)(uintptr_t)session);
}

void session_tick(struct master *m)
{
	struct session_clock *s, *next;
	int64_t now = clock_ms();

	HASH_ITER(hh, m->sessions, s, next) {
		if (!s->closing && now - s->seen_ms > m->o.session_ttl_ms) {
			log_warn("session %llx: nothing heard for %lld ms, closed",
				 (unsigned long long)s->session, (long long)(now - s->seen_ms));
			session_close(m, s->session, false);
		}
	}
}

void session_free_all(struct master *m)
{
	struct session_clock *s, *next;

	HASH_ITER(hh, m->sessions, s, next) {
		HASH_DEL(m->sessions, s);
		free(s);
	}
	lease_free(&m->leases);
}
