/* Sessions and exactly-once. A session's rows: S (itself), N (by nonce), r (answers at or above its
 * floor), l and y (its locks), o (files it holds open without a name). */
#include "master/apply_priv.h"

#include "common/cleanup.h"

/* How many old answers one command forgets at most; the rest go with later commands. */
enum { SESSION_FORGET_MAX = 64, SESSION_CLOSE_MAX = 200 };

static int session_get(struct apply *a, uint64_t session, struct row_session *ret,
		       struct buf *backing)
{
	int r = state_get_row_session(a->st, key_session(session), ret, backing);
	return r < 0 ? r : r ? 0 : apply_refuse(a, ERR_STALE, "session %llx is not known",
						(unsigned long long)session);
}

bool session_is_there(struct apply *a, uint64_t session)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_session row;

	return state_get_row_session(a->st, key_session(session), &row, &backing) == 1 &&
	       !row.closing;
}

int apply_session_open(struct apply *a, const struct cmd_session_open *m, struct wire_session *rep)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_session_ref ref;
	uint64_t root = ROOT_INODE;
	uint8_t checked = 0;
	int r = state_get_row_session_ref(a->st, key_nonce(m->req.nonce), &ref, &backing), e;

	e = export_enter(a, m->export, r == 0, &root, &checked);
	if (r < 0 || e < 0)
		return r < 0 ? r : e;
	if (r == 0) {
		struct row_session row = {.name = m->req.name, .nonce = m->req.nonce, .floor = 1,
					  .cached = m->req.cached != 0,
					  .credential = m->credential, .export = m->export};
		if (row.name.len > TEXT_BYTES_MAX)
			row.name.len = TEXT_BYTES_MAX;
		ref.session = a->meta.next_session++;
		a->meta.sessions++;
		state_put_row_session(a->st, key_session(ref.session), &row);
		state_put_row_session_ref(a->st, key_nonce(m->req.nonce), &ref);
	}
	*rep = (struct wire_session){.session = ref.session, .root = root,
				     .cluster = a->meta.cluster, .checked = checked};
	return 0;
}

/* The keys of a session's rows, of the type of `start` and from it on: those whose second number is
 * less than `below`, at most `max`. Returns how many, or negative. Keys are copied first: nothing
 * is written while an iterator is open. Answers are looked for from the floor on: what was
 * forgotten below it is still in LevelDB as deletions, which cost a scan as much as rows. */
static int session_rows(struct apply *a, struct key start, uint64_t below, unsigned max,
			struct key *ret)
{
	struct key prefix = key_prefix(start, 9);
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(a->st, key_slice(&prefix), key_slice(&start), &it);
	unsigned n = 0;

	if (r < 0)
		return r;
	while (n < max && (r = state_iter_next(it, &key, &value)) == 1) {
		if (key.len != 17 || get_be64(key.data + 9) >= below)
			break;
		memcpy(ret[n].bytes, key.data, key.len);
		ret[n++].len = key.len;
	}
	state_iter_close(it);
	return r < 0 ? r : (int)n;
}

int apply_session_close(struct apply *a, const struct cmd_session_close *m, struct cmd_closed *rep)
{
	_cleanup_buf_ struct buf backing = {0};
	_cleanup_free_ struct key *keys = malloc(SESSION_CLOSE_MAX * sizeof(*keys));
	struct row_session row;
	int n, r = session_get(a, m->session, &row, &backing);

	if (!keys)
		return ERR_NOMEM;
	if (r < 0)
		return r;
	/* No operation is taken any more: its answer could be among those that go first. */
	row.closing = 1;
	n = session_rows(a, key_reply(m->session, row.floor), UINT64_MAX, SESSION_CLOSE_MAX, keys);
	for (int i = 0; i < n; i++)
		state_del(a->st, key_slice(&keys[i]));
	if (n > 0)
		row.floor = get_be64(keys[n - 1].bytes + 9) + 1;
	state_put_row_session(a->st, key_session(m->session), &row);
	if (n != 0) {
		rep->more = 1;
		return n < 0 ? n : 0;
	}
	n = locks_drop(a, m->session, SESSION_CLOSE_MAX);
	if (n != 0) {
		rep->more = 1;
		return n < 0 ? n : 0;
	}
	/* One held file a command: each may free many chunks. */
	n = session_rows(a, key_held(m->session, 0), UINT64_MAX, 1, keys);
	if (n != 0) {
		rep->more = 1;
		return n < 0 ? n : apply_unhold(a, m->session, get_be64(keys[0].bytes + 9));
	}
	struct key self = key_session(m->session), nonce = key_nonce(row.nonce);
	state_del(a->st, key_slice(&self));
	state_del(a->st, key_slice(&nonce));
	a->meta.sessions--;
	return 0;
}

int session_begin(struct apply *a, const struct wire_opid *id)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_session row;
	struct row_reply reply;
	int r = session_get(a, id->session, &row, &backing);

	if (r < 0)
		return r;
	if (row.closing || id->seq < row.floor)
		return apply_refuse(a, ERR_STALE, "operation %llu was acknowledged long ago",
				    (unsigned long long)id->seq);
	r = state_get_row_reply(a->st, key_reply(id->session, id->seq), &reply, &backing);
	if (r <= 0)
		return r;
	a->res->status = reply.status;
	if (reply.status) {
		size_t n = reply.fields.len < sizeof(a->res->text) - 1 ? reply.fields.len
								      : sizeof(a->res->text) - 1;
		memcpy(a->res->text, reply.fields.data, n);
		a->res->text[n] = '\0';
	} else {
		buf_append_slice(&a->res->reply, reply.fields);
	}
	return buf_status(&a->res->reply) < 0 ? ERR_NOMEM : 1;
}

int session_end(struct apply *a, const struct wire_opid *id)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_session row;
	struct row_reply reply = {.status = a->res->status};
	struct key old[SESSION_FORGET_MAX];
	int n, r = session_get(a, id->session, &row, &backing);

	if (r < 0)
		return r == ERR_STALE ? 0 : r; /* an unknown session's refusal is not remembered */
	reply.fields = reply.status ? slice_str(a->res->text) : buf_slice(&a->res->reply);
	state_put_row_reply(a->st, key_reply(id->session, id->seq), &reply);
	if (id->floor <= row.floor || id->floor > id->seq)
		return 0;
	n = session_rows(a, key_reply(id->session, row.floor), id->floor, SESSION_FORGET_MAX, old);
	if (n < 0)
		return n;
	for (int i = 0; i < n; i++)
		state_del(a->st, key_slice(&old[i]));
	/* Only to where all below is forgotten: what is kept is found again. */
	row.floor = n < SESSION_FORGET_MAX ? id->floor : get_be64(old[n - 1].bytes + 9) + 1;
	state_put_row_session(a->st, key_session(id->session), &row);
	return 0;
}
