/* Quotas: setting, counting what was there before, telling. Limits are kept in apply_quota.c. */
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "master/master.h"
#include "master/query_fsck.h"

enum { QUOTAS_PAGE_ROWS = 200, QUOTAS_PAGE_BYTES = 256 << 10 };

/* ---- changes ---- */

struct quota_change {
	struct peer *peer;
	struct wire_header h;
};

static void quota_changed(struct master *m, void *arg, struct apply_result *result)
{
	struct quota_change *x = arg;
	struct wire_empty empty;

	if (!result)
		peer_close(x->peer, "outcome unknown");
	else if (result->status < 0)
		peer_fail(x->peer, &x->h, result->status, result->text);
	else
		peer_reply(x->peer, &x->h, &empty);
	peer_unref(x->peer);
	free(x);
}

/* Both are done again harmlessly, so no session names them. */
static void quota_propose(struct master *m, struct peer *peer, const struct wire_header *h,
			  uint16_t number, const void *cmd)
{
	struct quota_change *x = malloc(sizeof(*x));

	if (!x) {
		peer_fail(peer, h, ERR_NOMEM, NULL);
		return;
	}
	*x = (struct quota_change){.peer = peer, .h = *h};
	peer_ref(peer);
	master_propose(m, number, cmd, quota_changed, x);
}

static void on_quota_set(struct master *m, struct peer *peer, const struct wire_header *h,
			 struct slice fields)
{
	struct cmd_quota_set cmd;
	PEER_DECODE(wire_quota_set, req);

	cmd.req = req;
	log_info("quota of directory %llx: %s, %llu bytes, %llu inodes",
		 (unsigned long long)req.inode, req.flags & QUOTA_REMOVE ? "removed" : "set",
		 (unsigned long long)req.bytes_max, (unsigned long long)req.inodes_max);
	quota_propose(m, peer, h, CMD_NUMBER_QUOTA_SET, &cmd);
}

static void on_quota_count(struct master *m, struct peer *peer, const struct wire_header *h,
			   struct slice fields)
{
	struct cmd_quota_count cmd;
	PEER_DECODE(wire_quota_count, req);

	cmd.req = req;
	quota_propose(m, peer, h, CMD_NUMBER_QUOTA_COUNT, &cmd);
}

/* ---- telling ---- */

struct quotas_page {
	struct state *st;
	struct buf rows;
	unsigned n, names;
};

static int page_put(struct quotas_page *p, uint32_t id, const struct row_quota *row)
{
	_cleanup_buf_ struct buf path = {0};
	struct wire_quota q = {.id = id, .inode = row->inode, .bytes_max = row->bytes_max,
			       .inodes_max = row->inodes_max, .bytes = row->blocks * BLOCK_BYTES,
			       .inodes = row->inodes};
	int r = row->inode == ROOT_INODE ? 0 : row->inode
			? query_path(p->st, row->inode, &p->names, &path) : 0;

	if (r < 0)
		return r;
	q.path = row->inode == ROOT_INODE ? SLICE_LIT("/") : buf_slice(&path);
	WIRE_LIST_PUT(wire_quota, &p->rows, &q);
	p->n++;
	return buf_status(&p->rows);
}

/* Those that an inode is counted in. */
static int page_of_inode(struct quotas_page *p, uint64_t inode)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_inode row;
	int r = ns_inode(p->st, inode, &row, &backing);

	for (uint32_t id = r == 0 ? row.project : 0; id && r == 0;) {
		struct row_quota quota;
		r = state_get_row_quota(p->st, key_quota(id), &quota, &backing);
		if (r <= 0)
			return r < 0 ? r : ERR_CORRUPT;
		r = page_put(p, id, &quota);
		id = quota.parent;
	}
	return r;
}

static int page_of_all(struct quotas_page *p, uint32_t from, uint32_t *ret_next)
{
	struct key start = key_quota(from), prefix = key_prefix(start, 1);
	struct slice key, value;
	struct state_iter *it;
	int r = state_iter_open(p->st, key_slice(&prefix), key_slice(&start), &it);

	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		struct row_quota row;
		uint32_t id = get_be32(key.data + 1);
		if (row_quota_get(&c, &row) < 0) {
			r = ERR_CORRUPT;
			break;
		}
		if (p->n >= QUOTAS_PAGE_ROWS || p->rows.len >= QUOTAS_PAGE_BYTES) {
			*ret_next = id;
			break;
		}
		r = page_put(p, id, &row);
		if (r < 0)
			break;
	}
	state_iter_close(it);
	return r < 0 ? r : 0;
}

static void on_quotas(struct master *m, struct peer *peer, const struct wire_header *h,
		      struct slice fields)
{
	struct quotas_page p = {.st = m->st, .names = FSCK_NAMES_MAX};
	struct wire_quotas_reply rep = {0};
	int r;
	PEER_DECODE(wire_quotas, req);

	r = req.inode ? page_of_inode(&p, req.inode) : page_of_all(&p, req.from, &rep.next);
	rep.rows = buf_slice(&p.rows);
	if (r < 0)
		peer_fail(peer, h, r, NULL);
	else
		peer_reply(peer, h, &rep);
	buf_release(&p.rows);
}

bool rpc_quota_message(struct master *m, struct peer *peer, const struct wire_header *h,
		       struct slice fields)
{
	switch (h->op) {
	case OP_QUOTA_SET: on_quota_set(m, peer, h, fields); return true;
	case OP_QUOTA_COUNT: on_quota_count(m, peer, h, fields); return true;
	case OP_QUOTAS: on_quotas(m, peer, h, fields); return true;
	default: return false;
	}
}
