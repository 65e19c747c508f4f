/* The end of a file: its last name, those that keep it open without one, and its rows. */
#include "master/apply_priv.h"

#include <sys/stat.h>

#include "common/cleanup.h"

/* No name and no holder is left: rows go, chunks are freed, as many as one command may. */
static int inode_remove_some(struct apply *a, uint64_t inode, const struct row_inode *row,
			     unsigned *budget)
{
	struct key key = key_inode(inode);
	int r = apply_xattrs_remove(a, inode);

	if (r == 0)
		r = quota_inode_gone(a, inode, row);
	if (r < 0)
		return r;
	state_del(a->st, key_slice(&key));
	a->meta.inodes--;
	if (!S_ISREG(row->mode))
		return 0;
	r = chunks_free_from(a, inode, NULL, 0, false, budget);
	if (r == 0) {
		struct row_reclaim rest = {.from_index = 0};
		state_put_row_reclaim(a->st, key_reclaim(inode), &rest);
		a->res->reclaim = true;
	}
	return r < 0 ? r : 0;
}

static int inode_remove(struct apply *a, uint64_t inode, const struct row_inode *row)
{
	unsigned budget = CHUNKS_FREED_MAX;
	return inode_remove_some(a, inode, row, &budget);
}

/* Leaves the `o` rows. */
enum kept { KEPT_NOT, KEPT_LINGERING, KEPT_HELD };
static enum kept inode_keep(struct apply *a, uint64_t inode, const struct keepers *k)
{
	struct row_linger since = {.since = a->now};
	struct key held = key_held(k->session, inode);
	bool own = k->hold == inode && k->session;

	if (own)
		state_put(a->st, key_slice(&held), (struct slice){0});
	for (unsigned i = 0; i < k->n_others; i++) {
		if (session_is_there(a, k->others[i])) {
			held = key_held(k->others[i], inode);
			state_put(a->st, key_slice(&held), (struct slice){0});
			own = true;
		}
	}
	if (k->linger == LINGER_ALL || (!own && k->linger))
		state_put_row_linger(a->st, key_held(0, inode), &since);
	return own ? KEPT_HELD : k->linger ? KEPT_LINGERING : KEPT_NOT;
}

int inode_unname(struct apply *a, uint64_t inode, struct row_inode *row,
			const struct keepers *keepers)
{
	enum kept kept = KEPT_HELD;
	int r = 0;

	apply_touch(a, row, false);
	if (S_ISDIR(row->mode))
		row->nlink = 0;
	else
		row->nlink--;
	if (row->nlink == 0)
		kept = inode_keep(a, inode, keepers);
	if (kept == KEPT_NOT)
		return inode_remove(a, inode, row);
	/* What nobody has open is removed for its user, who may need the room. */
	if (kept == KEPT_LINGERING) {
		r = quota_inode_gone(a, inode, row);
		row->project = 0;
	}
	apply_inode_put(a, inode, row);
	return r;
}

/* Rows of holders are few, one for each unlinked open file; those that linger are not looked
 * through. */
int apply_is_held(struct apply *a, uint64_t inode)
{
	struct key lingers = key_held(0, inode), start = key_held(1, 0);
	struct key prefix = key_prefix(start, 1);
	_cleanup_buf_ struct buf backing = {0};
	struct state_iter *it;
	struct slice key, value;
	int r = state_get(a->st, key_slice(&lingers), &backing), found = r == 1;

	if (r < 0 || found)
		return r;
	r = state_iter_open(a->st, key_slice(&prefix), key_slice(&start), &it);
	if (r < 0)
		return r;
	while (!found && (r = state_iter_next(it, &key, &value)) == 1)
		found = key.len == 17 && get_be64(key.data + 9) == inode;
	state_iter_close(it);
	return r < 0 ? r : found;
}

int apply_unhold(struct apply *a, uint64_t session, uint64_t inode)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key held = key_held(session, inode);
	struct row_inode row;
	int r = state_get(a->st, key_slice(&held), &backing);

	if (r <= 0)
		return r; /* not held: nothing to do */
	state_del(a->st, key_slice(&held));
	r = ns_inode(a->st, inode, &row, &backing);
	if (r == ERR_NOENT || (r == 0 && row.nlink > 0))
		return 0;
	if (r == 0)
		r = apply_is_held(a, inode);
	return r == 0 ? inode_remove(a, inode, &row) : r < 0 ? r : 0;
}

int apply_release(struct apply *a, const struct cmd_release *m, struct wire_empty *rep)
{
	return apply_unhold(a, m->req.id.session ? m->req.id.session : m->holder, m->req.inode);
}

/* Opened between the loss of its last name and its end, or while others hold it. */
int apply_lease_open(struct apply *a, const struct cmd_lease_open *m, struct wire_attr_reply *rep)
{
	struct key held = key_held(m->req.id.session, m->req.inode);
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	int r = apply_inode_get(a, m->req.inode, &row, &backing);

	if (r < 0)
		return r == ERR_NOENT ? ERR_STALE : r;
	if (row.nlink == 0)
		state_put(a->st, key_slice(&held), (struct slice){0});
	ns_attr(m->req.inode, &row, &rep->attr);
	return 0;
}

/* How many keys the removal of one more inode may write at most. */
static unsigned removal_keys(unsigned budget)
{
	return budget * (4 + 2 * REPLICAS_MAX) + XATTRS_MAX + 10;
}

int apply_linger(struct apply *a, const struct cmd_linger *m, struct wire_empty *rep)
{
	unsigned budget = CHUNKS_FREED_MAX;

	for (unsigned i = 0; i < m->n_inodes && budget > 0 &&
			     state_txn_keys(a->st) + removal_keys(budget) <= COMMAND_KEYS_MAX; i++) {
		struct key lingers = key_held(0, m->inodes[i]);
		_cleanup_buf_ struct buf backing = {0};
		struct row_inode row;
		int r = state_get(a->st, key_slice(&lingers), &backing);
		if (r < 0)
			return r;
		if (r == 0)
			continue; /* opened since, or removed by an earlier command */
		state_del(a->st, key_slice(&lingers));
		r = ns_inode(a->st, m->inodes[i], &row, &backing);
		if (r == 0 && row.nlink == 0)
			r = apply_is_held(a, m->inodes[i]);
		if (r == 0 && row.nlink == 0)
			r = inode_remove_some(a, m->inodes[i], &row, &budget);
		if (r < 0 && r != ERR_NOENT)
			return r;
	}
	return 0;
}
