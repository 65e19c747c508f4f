/* Locks on files. A lock is an owner's row `l` (its ranges) and its pair `y`, by which the end of
 * the session finds it. A file's locks do not need the file: who gives them back may come late. */
#include "master/apply_priv.h"

#include "common/cleanup.h"
#include "master/lock.h"

static void lock_rows_del(struct apply *a, uint64_t inode, uint64_t session, uint64_t owner,
			  uint8_t kind)
{
	struct key lock = key_lock(inode, session, owner, kind);
	struct key pair = key_session_lock(session, inode, owner, kind);

	state_del(a->st, key_slice(&lock));
	state_del(a->st, key_slice(&pair));
}

static void lock_rows_put(struct apply *a, const struct wire_lock *req,
			  const struct lock_list *list)
{
	_cleanup_buf_ struct buf ranges = {0};
	struct row_lock row = {.pid = req->pid};
	struct key pair = key_session_lock(req->id.session, req->inode, req->owner, req->kind);

	lock_list_put(list, &ranges);
	row.ranges = buf_slice(&ranges);
	state_put_row_lock(a->st, key_lock(req->inode, req->id.session, req->owner, req->kind),
			   &row);
	state_put(a->st, key_slice(&pair), (struct slice){0});
}

static void unlocked(struct apply *a, uint64_t inode)
{
	a->res->unlocked = true;
	a->res->unlocked_inode = inode;
}

/* 1: they have changed to what is asked for. */
static int lock_change(struct apply *a, const struct wire_lock *req, struct lock_list *list)
{
	struct lock_range want = {req->start, req->end, req->type};
	unsigned before = list->n;
	bool weaker;
	int r = lock_list_set(list, want, &weaker);

	if (r < 0)
		return r;
	if (list->n > LOCK_RANGES_MAX)
		return apply_refuse(a, ERR_NOLCK, "more than %d locks of one owner in one file",
				    LOCK_RANGES_MAX);
	if (list->n > 0)
		lock_rows_put(a, req, list);
	else if (before > 0)
		lock_rows_del(a, req->inode, req->id.session, req->owner, req->kind);
	if (weaker)
		unlocked(a, req->inode);
	return 1;
}

/* The other lock is in the way. flock(2) gives the old one up before it looks for the new one. */
static int lock_denied(struct apply *a, const struct wire_lock *req, struct lock_list *list)
{
	struct wire_lock give_up = *req;
	int r;

	if (req->kind != LOCK_WHOLE || list->n == 0 || list->ranges[0].type == req->type)
		return 0;
	give_up.type = LOCK_FREE;
	r = lock_change(a, &give_up, list);
	return r < 0 ? r : 0;
}

/* ---- appending ---- */

int append_check(struct apply *a, const struct wire_wrote *req, const struct row_inode *file)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_lock row;
	int r = state_get_row_lock(a->st, key_lock(req->inode, req->id.session, 0, LOCK_APPEND),
				   &row, &backing);

	if (r < 0)
		return r;
	if (r == 0 || file->size != req->offset)
		return apply_refuse(a, ERR_AGAIN, "inode %llx does not end at %llu any more",
				    (unsigned long long)req->inode,
				    (unsigned long long)req->offset);
	return 0;
}

void append_end(struct apply *a, const struct wire_wrote *req)
{
	lock_rows_del(a, req->inode, req->id.session, 0, LOCK_APPEND);
	unlocked(a, req->inode);
}

/* Given back without a WROTE, or taken again by a session that could not give it back. Not granted:
 * again, there is more to cut off. */
static int append_change(struct apply *a, const struct wire_lock *req, struct lock_list *list)
{
	int r = list->n > 0 ? file_fence(a, req->inode) : 1;

	return r == 1 ? lock_change(a, req, list) : r;
}

static int append_attr(struct apply *a, const struct wire_lock *req, struct wire_lock_reply *rep)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode file;
	int r = ns_inode(a->st, req->inode, &file, &backing);

	if (r == 0)
		ns_attr(req->inode, &file, &rep->attr);
	return r == ERR_NOENT ? 0 : r;
}

int apply_lock(struct apply *a, const struct cmd_lock *m, struct wire_lock_reply *rep)
{
	_cleanup_buf_ struct buf backing = {0}, file_backing = {0};
	const struct wire_lock *req = &m->req;
	struct lock_list list = {0};
	struct row_lock row;
	struct row_inode file;
	int r;

	if (!lock_claim_valid(req->kind, req->type, req->start, req->end))
		return apply_refuse(a, ERR_INVAL, "no such lock");
	r = req->type == LOCK_FREE ? 0 : ns_inode(a->st, req->inode, &file, &file_backing);
	if (r == ERR_NOENT)
		r = apply_refuse(a, ERR_STALE, "inode %llx is gone",
				 (unsigned long long)req->inode);
	if (r == 0)
		r = state_get_row_lock(a->st, key_lock(req->inode, req->id.session, req->owner,
						       req->kind), &row, &backing);
	if (r == 1)
		r = lock_list_get(row.ranges, &list);
	if (r == 0)
		r = lock_is_blocked(a->st, req);
	if (r == 1)
		r = lock_denied(a, req, &list);
	else if (r == 0 && req->kind == LOCK_APPEND)
		r = append_change(a, req, &list);
	else if (r == 0)
		r = lock_change(a, req, &list);
	lock_list_release(&list);
	if (r < 0)
		return r;
	rep->granted = r == 1;
	return r == 1 && req->kind == LOCK_APPEND ? append_attr(a, req, rep) : 0;
}

int locks_drop(struct apply *a, uint64_t session, unsigned max)
{
	struct key prefix = key_prefix(key_session_lock(session, 0, 0, 0), 9);
	_cleanup_free_ struct key *keys = malloc(max * sizeof(*keys));
	int n = keys ? apply_keys(a, &prefix, keys, max) : ERR_NOMEM, r;

	for (int i = 0; i < n; i++) {
		/* It was appending: one such file a command. What is left comes with the next. */
		if (keys[i].bytes[25] == LOCK_APPEND) {
			if (i > 0)
				break;
			r = file_fence(a, get_be64(keys[0].bytes + 9));
			if (r <= 0)
				return r < 0 ? r : 1;
			n = 1;
		}
		lock_rows_del(a, get_be64(keys[i].bytes + 9), session,
			      get_be64(keys[i].bytes + 17), keys[i].bytes[25]);
	}
	a->res->unlocked |= n > 0;
	return n;
}
