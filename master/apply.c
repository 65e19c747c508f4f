/* The life of a command: decode, check that it is new, hand it to its subject's file
 * (apply_ns.c names, apply_chunk.c chunks, apply_session.c sessions), remember the answer.
 *
 * Two transactions at most. A command's own writes are one; when it is refused they are dropped,
 * and a second one records only that the entry was applied and what was answered. So a refused
 * command changes nothing else, and every entry leaves meta.applied behind it (invariant 8). */
#include "master/apply_priv.h"
#include "master/access.h"

#include <assert.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "common/clock.h"

void apply_result_release(struct apply_result *r)
{
	buf_release(&r->reply);
}

int apply_refuse(struct apply *a, int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(a->res->text, sizeof(a->res->text), fmt, ap);
	va_end(ap);
	return code;
}

int apply_keys(struct apply *a, const struct key *prefix, struct key *ret, unsigned max)
{
	struct state_iter *it;
	struct slice key, value;
	unsigned n = 0;
	int r = state_iter_open(a->st, key_slice(prefix), (struct slice){0}, &it);

	if (r < 0)
		return r;
	while (n < max && (r = state_iter_next(it, &key, &value)) == 1) {
		memcpy(ret[n].bytes, key.data, key.len);
		ret[n++].len = key.len;
	}
	state_iter_close(it);
	return r < 0 ? r : (int)n;
}

/* Storage errors are no answer: the process must end. All others are what the client gets. The
 * state remembers a failed read or write of it, whatever code came through. */
static bool is_fatal(struct apply *a, int code)
{
	return code == ERR_CORRUPT || code == ERR_NOMEM || state_error(a->st) < 0;
}

/* Client mutations carry an opid, at the same place in every request: first. Session 0 is the
 * master itself: executed, not remembered. */
static const struct wire_opid *opid_none(const void *m)
{
	return NULL;
}
#define OPID_OF(record)                                                             \
	static const struct wire_opid *opid_##record(const struct record *m)        \
	{                                                                           \
		return m->req.id.session ? &m->req.id : NULL;                       \
	}
OPID_OF(cmd_make)
OPID_OF(cmd_link)
OPID_OF(cmd_unlink)
OPID_OF(cmd_rename)
OPID_OF(cmd_setattr)
OPID_OF(cmd_xattr_set)
OPID_OF(cmd_release)
OPID_OF(cmd_wrote)
OPID_OF(cmd_chunk_make)
OPID_OF(cmd_lock)
OPID_OF(cmd_lease_open)
#define opid_cmd_linger opid_none
#define opid_cmd_quota_set opid_none
#define opid_cmd_quota_count opid_none
#define opid_cmd_export_set opid_none
#define opid_cmd_format opid_none
#define opid_cmd_set_policy opid_none
#define opid_cmd_session_open opid_none
#define opid_cmd_session_close opid_none
#define opid_cmd_chunk_raise opid_none
#define opid_cmd_chunk_raised opid_none
#define opid_cmd_garbage opid_none
#define opid_cmd_reclaim opid_none
#define opid_cmd_server_register opid_none
#define opid_cmd_server_set opid_none
#define opid_cmd_server_remove opid_none
#define opid_cmd_hold opid_none
#define opid_cmd_chunk_adopt opid_none

/* Who may: looked at again here, where all that came before has been applied (master/access.h). The others
 * are the master's own, an administrator's, or give something back. */
static int may_all(struct apply *a, const void *m)
{
	return 0;
}
#define MAY_OF(record, check)                                                \
	static int may_##record(struct apply *a, const struct record *m)     \
	{                                                                    \
		return check(a->st, &m->req);                                \
	}
MAY_OF(cmd_make, access_make)
MAY_OF(cmd_link, access_link)
MAY_OF(cmd_unlink, access_unlink)
MAY_OF(cmd_rename, access_rename)
MAY_OF(cmd_setattr, access_setattr)
MAY_OF(cmd_xattr_set, access_xattr_set)
MAY_OF(cmd_wrote, access_wrote)
MAY_OF(cmd_chunk_make, access_chunk_make)
MAY_OF(cmd_lock, access_lock)
#define may_cmd_release may_all
#define may_cmd_lease_open may_all
#define may_cmd_linger may_all
#define may_cmd_quota_set may_all
#define may_cmd_quota_count may_all
#define may_cmd_export_set may_all
#define may_cmd_format may_all
#define may_cmd_set_policy may_all
#define may_cmd_session_open may_all
#define may_cmd_session_close may_all
#define may_cmd_chunk_raise may_all
#define may_cmd_chunk_raised may_all
#define may_cmd_garbage may_all
#define may_cmd_reclaim may_all
#define may_cmd_server_register may_all
#define may_cmd_server_set may_all
#define may_cmd_server_remove may_all
#define may_cmd_hold may_all
#define may_cmd_chunk_adopt may_all

/* The records are large (lists of chunks and groups): kept off the stack frame of the others. */
#define APPLY_RUNNER(record, handler, reply_record)                                        \
	static int run_##handler(struct apply *a, struct cursor *body, struct wire_opid *ret_id) \
	{                                                                                  \
		struct record m;                                                           \
		struct reply_record rep = {};                                              \
		const struct wire_opid *id;                                                \
		int r = record##_get(body, &m);                                            \
		if (r < 0)                                                                 \
			return ERR_CORRUPT;                                                \
		id = opid_##record(&m);                                                    \
		if (id) {                                                                  \
			*ret_id = *id;                                                     \
			r = session_begin(a, id);                                          \
			if (r != 0)                                                        \
				return r;                                                  \
		}                                                                          \
		r = may_##record(a, &m);                                                   \
		if (r == 0)                                                                \
			r = handler(a, &m, &rep);                                          \
		if (r < 0)                                                                 \
			return r;                                                          \
		reply_record##_put(&a->res->reply, &rep);                                  \
		return buf_status(&a->res->reply);                                         \
	}
APPLY_RUNNER(cmd_format, apply_format, wire_empty)
APPLY_RUNNER(cmd_set_policy, apply_set_policy, wire_empty)
APPLY_RUNNER(cmd_session_open, apply_session_open, wire_session)
APPLY_RUNNER(cmd_session_close, apply_session_close, cmd_closed)
APPLY_RUNNER(cmd_make, apply_make, wire_make_reply)
APPLY_RUNNER(cmd_link, apply_link, wire_attr_reply)
APPLY_RUNNER(cmd_unlink, apply_unlink, wire_unlink_reply)
APPLY_RUNNER(cmd_rename, apply_rename, wire_rename_reply)
APPLY_RUNNER(cmd_setattr, apply_setattr, wire_attr_reply)
APPLY_RUNNER(cmd_xattr_set, apply_xattr_set, wire_empty)
APPLY_RUNNER(cmd_release, apply_release, wire_empty)
APPLY_RUNNER(cmd_wrote, apply_wrote, wire_attr_reply)
APPLY_RUNNER(cmd_chunk_make, apply_chunk_make, wire_chunk_reply)
APPLY_RUNNER(cmd_chunk_raise, apply_chunk_raise, wire_empty)
APPLY_RUNNER(cmd_chunk_raised, apply_chunk_raised, wire_empty)
APPLY_RUNNER(cmd_garbage, apply_garbage, wire_empty)
APPLY_RUNNER(cmd_reclaim, apply_reclaim, cmd_closed)
APPLY_RUNNER(cmd_server_register, apply_server_register, wire_cs_registered)
APPLY_RUNNER(cmd_server_set, apply_server_set, wire_empty)
APPLY_RUNNER(cmd_server_remove, apply_server_remove, cmd_closed)
APPLY_RUNNER(cmd_hold, apply_hold, wire_empty)
APPLY_RUNNER(cmd_chunk_adopt, apply_chunk_adopt, wire_empty)
APPLY_RUNNER(cmd_lock, apply_lock, wire_lock_reply)
APPLY_RUNNER(cmd_lease_open, apply_lease_open, wire_attr_reply)
APPLY_RUNNER(cmd_linger, apply_linger, wire_empty)
APPLY_RUNNER(cmd_quota_set, apply_quota_set, wire_empty)
APPLY_RUNNER(cmd_quota_count, apply_quota_count, wire_empty)
APPLY_RUNNER(cmd_export_set, apply_export_set, wire_empty)

static int apply_run(struct apply *a, uint16_t number, struct cursor *body,
		     struct wire_opid *ret_id)
{
	switch (number) {
	case CMD_NUMBER_FORMAT: return run_apply_format(a, body, ret_id);
	case CMD_NUMBER_SET_POLICY: return run_apply_set_policy(a, body, ret_id);
	case CMD_NUMBER_SESSION_OPEN: return run_apply_session_open(a, body, ret_id);
	case CMD_NUMBER_SESSION_CLOSE: return run_apply_session_close(a, body, ret_id);
	case CMD_NUMBER_MAKE: return run_apply_make(a, body, ret_id);
	case CMD_NUMBER_LINK: return run_apply_link(a, body, ret_id);
	case CMD_NUMBER_UNLINK: return run_apply_unlink(a, body, ret_id);
	case CMD_NUMBER_RENAME: return run_apply_rename(a, body, ret_id);
	case CMD_NUMBER_SETATTR: return run_apply_setattr(a, body, ret_id);
	case CMD_NUMBER_XATTR_SET: return run_apply_xattr_set(a, body, ret_id);
	case CMD_NUMBER_RELEASE: return run_apply_release(a, body, ret_id);
	case CMD_NUMBER_WROTE: return run_apply_wrote(a, body, ret_id);
	case CMD_NUMBER_CHUNK_MAKE: return run_apply_chunk_make(a, body, ret_id);
	case CMD_NUMBER_CHUNK_RAISE: return run_apply_chunk_raise(a, body, ret_id);
	case CMD_NUMBER_CHUNK_RAISED: return run_apply_chunk_raised(a, body, ret_id);
	case CMD_NUMBER_GARBAGE: return run_apply_garbage(a, body, ret_id);
	case CMD_NUMBER_RECLAIM: return run_apply_reclaim(a, body, ret_id);
	case CMD_NUMBER_SERVER_REGISTER: return run_apply_server_register(a, body, ret_id);
	case CMD_NUMBER_SERVER_SET: return run_apply_server_set(a, body, ret_id);
	case CMD_NUMBER_SERVER_REMOVE: return run_apply_server_remove(a, body, ret_id);
	case CMD_NUMBER_HOLD: return run_apply_hold(a, body, ret_id);
	case CMD_NUMBER_CHUNK_ADOPT: return run_apply_chunk_adopt(a, body, ret_id);
	case CMD_NUMBER_LOCK: return run_apply_lock(a, body, ret_id);
	case CMD_NUMBER_LEASE_OPEN: return run_apply_lease_open(a, body, ret_id);
	case CMD_NUMBER_QUOTA_SET: return run_apply_quota_set(a, body, ret_id);
	case CMD_NUMBER_QUOTA_COUNT: return run_apply_quota_count(a, body, ret_id);
	case CMD_NUMBER_EXPORT_SET: return run_apply_export_set(a, body, ret_id);
	case CMD_NUMBER_LINGER: return run_apply_linger(a, body, ret_id);
	default: return ERR_CORRUPT;
	}
}

static int apply_meta_read(struct apply *a)
{
	int r;

	buf_clear(&a->meta_backing);
	r = state_get_row_meta(a->st, key_meta(), &a->meta, &a->meta_backing);
	return r < 0 ? r : 0; /* absent: all zero, before FORMAT */
}

/* Ends the open transaction with the entry's index and the latest time in it. */
static int apply_close(struct apply *a, uint64_t index)
{
	a->meta.applied = index;
	a->meta.time = a->now;
	state_put_row_meta(a->st, key_meta(), &a->meta);
	assert(state_txn_keys(a->st) <= COMMAND_KEYS_MAX);
	return state_commit(a->st);
}

/* Runs the command in a transaction; a refusal leaves only its remembered answer. */
static int apply_transact(struct apply *a, uint64_t index, uint16_t number, struct cursor *body)
{
	struct apply_result *res = a->res;
	struct wire_opid id = {0};
	int r;

	state_begin(a->st);
	r = apply_run(a, number, body, &id);
	if (is_fatal(a, r)) {
		state_abort(a->st);
		return r < 0 ? r : ERR_CORRUPT;
	}
	if (r < 0) {
		res->status = r;
		res->n_raises = 0;
		res->reclaim = res->garbage = res->unlocked = res->remapped = false;
		buf_clear(&res->reply);
		state_abort(a->st);
		if (!res->text[0])
			snprintf(res->text, sizeof(res->text), "%s", err_text(r));
		r = apply_meta_read(a);
		if (r < 0)
			return r;
		if (when_cmp(a->meta.time, a->now) > 0)
			a->now = a->meta.time;
		state_begin(a->st);
	}
	/* r == 1: the remembered answer was found; nothing is executed or remembered again. */
	if (r == 0 && id.session && res->status != ERR_STALE) {
		r = session_end(a, &id);
		if (r < 0) {
			state_abort(a->st);
			return r;
		}
	}
	return apply_close(a, index);
}

int apply_entry(struct state *st, uint64_t index, struct slice entry, struct apply_result *ret,
		struct err *err)
{
	struct apply a = {.st = st, .res = ret};
	struct cmd_head head;
	struct cursor body;
	int r;

	*ret = (struct apply_result){0};
	r = cmd_get(entry, &ret->number, &head, &body, err);
	if (r == 0)
		r = apply_meta_read(&a);
	if (r == 0 && index <= a.meta.applied)
		r = 1;
	if (r == 0 && (ret->number == CMD_NUMBER_FORMAT ? false : !a.meta.next_inode))
		r = err_set(err, ERR_CORRUPT, "the log does not begin with FORMAT");
	if (r == 0 && a.meta.level > SCHEMA_LEVEL)
		r = ERR_VERSION;
	if (r == 0) {
		a.now = when_cmp(head.time, a.meta.time) > 0 ? head.time : a.meta.time;
		r = apply_transact(&a, index, ret->number, &body);
	}
	if (r < 0) {
		_cleanup_buf_ struct buf text = {0};
		cmd_text(&text, entry);
		err_set(err, r, "apply entry %llu (%.200s): %s", (unsigned long long)index,
			buf_str(&text), err_text(r));
	}
	buf_release(&a.meta_backing);
	return r;
}
