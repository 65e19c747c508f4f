/* Recovery: hold, backups, fsck.
 *
 * A backup is a view of LevelDB, whose content is always the state after some entry: the overlay is
 * not part of it. Pages are bounded in bytes and rows, so that the loop is never held up; views are
 * few, and closed with their connection or when nobody asks for a while, as LevelDB keeps all that
 * they can see. */
#include <stdlib.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/master.h"
#include "master/query_fsck.h"

enum {
	BACKUPS_MAX = 2,
	BACKUP_PAGE_BYTES = 512 << 10,
	BACKUP_PAGE_ROWS = 5000,
	BACKUP_IDLE_MS = 60000,
};

/* ---- hold ---- */

struct hold_call {
	struct peer *peer;
	struct wire_header h;
};

static void hold_set(struct master *m, void *arg, struct apply_result *result)
{
	_cleanup_free_ struct hold_call *c = arg;
	struct wire_empty empty;

	if (!result) {
		peer_close(c->peer, "outcome unknown");
	} else if (result->status < 0) {
		peer_fail(c->peer, &c->h, result->status, result->text);
	} else {
		hold_changed(m);
		peer_reply(c->peer, &c->h, &empty);
	}
	peer_unref(c->peer);
}

static void on_hold(struct master *m, struct peer *peer, const struct wire_header *h,
		    struct slice fields)
{
	struct hold_call *c;
	struct cmd_hold cmd;
	PEER_DECODE(wire_hold, req);

	if (!hold_open(m)) {
		peer_fail(peer, h, ERR_NOT_LEADER, "a restored master waits for the chunkservers");
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		peer_fail(peer, h, ERR_NOMEM, NULL);
		return;
	}
	*c = (struct hold_call){.peer = peer, .h = *h};
	cmd.held = req.held != 0;
	peer_ref(peer);
	master_propose(m, CMD_NUMBER_HOLD, &cmd, hold_set, c);
}

/* ---- backups ---- */

struct backup_view {
	struct peer *peer; /* not referenced: the view goes with it */
	void *rows;	   /* an iterator of the store */
	uint64_t applied;
	uint8_t cluster[UUID_BYTES];
	int64_t asked_ms;
	struct backup_view *prev, *next;
};

static void view_close(struct master *m, struct backup_view *v)
{
	DL_DELETE(m->backups, v);
	store_base(m->store)->iter_close(v->rows);
	free(v);
}

static struct backup_view *view_of(struct master *m, const struct peer *peer)
{
	struct backup_view *v;
	DL_SEARCH_SCALAR(m->backups, v, peer, peer);
	return v;
}

/* The view's own first row says what it is a view of. */
static int view_meta(struct master *m, struct backup_view *v)
{
	struct slice key, value;
	struct row_meta meta;
	struct cursor c;
	int r = store_base(m->store)->iter_row(v->rows, &key, &value);

	if (r == 0)
		return ERR_AGAIN; /* the first entry is not written yet */
	if (r < 0)
		return r;
	c = cursor_slice(value);
	if (key.len != 1 || key.data[0] != KEY_META || row_meta_get(&c, &meta) < 0 ||
	    meta.cluster.len != UUID_BYTES)
		return ERR_CORRUPT;
	v->applied = meta.applied;
	memcpy(v->cluster, meta.cluster.data, UUID_BYTES);
	return 0;
}

static int view_open(struct master *m, struct peer *peer, struct backup_view **ret)
{
	struct backup_view *v = view_of(m, peer);
	unsigned n = 0;
	int r;

	if (v)
		view_close(m, v);
	DL_COUNT(m->backups, v, n);
	if (n >= BACKUPS_MAX)
		return ERR_BUSY;
	v = calloc(1, sizeof(*v));
	if (!v)
		return ERR_NOMEM;
	v->peer = peer;
	r = batch_all(m, NULL); /* whatever was answered is in the backup */
	if (r == 0)
		r = store_view_open(m->store, &v->rows);
	if (r < 0) {
		free(v);
		return r;
	}
	DL_APPEND(m->backups, v);
	r = view_meta(m, v);
	if (r < 0) {
		view_close(m, v);
		return r;
	}
	log_info("%s takes a backup of the state after entry %llu", peer->name,
		 (unsigned long long)v->applied);
	*ret = v;
	return 0;
}

/* 1: there is more, 0: that was the end. */
static int view_page(struct master *m, struct backup_view *v, struct buf *ret)
{
	const struct state_base *base = store_base(m->store);
	struct slice key, value;
	unsigned n = 0;
	int r;

	while ((r = base->iter_row(v->rows, &key, &value)) == 1) {
		if (n > 0 && (n == BACKUP_PAGE_ROWS ||
			      ret->len + key.len + value.len + 8 > BACKUP_PAGE_BYTES))
			break;
		buf_le32(ret, key.len);
		buf_append_slice(ret, key);
		buf_le32(ret, value.len);
		buf_append_slice(ret, value);
		base->iter_next(v->rows);
		n++;
	}
	return r < 0 ? r : buf_status(ret) < 0 ? ERR_NOMEM : r;
}

static void on_backup(struct master *m, struct peer *peer, const struct wire_header *h,
		      struct slice fields)
{
	_cleanup_buf_ struct buf rows = {0};
	struct wire_backup_reply rep;
	struct backup_view *v = NULL;
	int r = 0;
	PEER_DECODE(wire_backup, req);

	if (req.start)
		r = view_open(m, peer, &v);
	else if ((v = view_of(m, peer)) == NULL)
		r = ERR_STALE;
	if (r == 0)
		r = view_page(m, v, &rows);
	if (r < 0) {
		peer_fail(peer, h, r, r == ERR_BUSY ? "other backups are being taken"
				      : r == ERR_STALE ? "this backup was not begun, or ended"
						       : NULL);
		if (v)
			view_close(m, v);
		return;
	}
	v->asked_ms = clock_ms();
	rep = (struct wire_backup_reply){.applied = v->applied, .end = r == 0,
					 .rows = buf_slice(&rows),
					 .cluster = slice_of(v->cluster, UUID_BYTES)};
	peer_reply(peer, h, &rep);
	/* The reply may have closed the peer, and the view with it. */
	if (r == 0 && (v = view_of(m, peer)) != NULL)
		view_close(m, v);
}

void rpc_recovery_gone(struct master *m, struct peer *peer)
{
	struct backup_view *v = view_of(m, peer);
	if (v)
		view_close(m, v);
}

void rpc_recovery_tick(struct master *m)
{
	struct backup_view *v, *next;

	DL_FOREACH_SAFE(m->backups, v, next) {
		if (clock_ms() - v->asked_ms > BACKUP_IDLE_MS) {
			log_warn("%s does not go on with its backup", v->peer->name);
			view_close(m, v);
		}
	}
}

void rpc_recovery_free(struct master *m)
{
	while (m->backups)
		view_close(m, m->backups);
}

/* ---- fsck ---- */

static uint8_t replica_state(void *ctx, uint64_t chunk, uint32_t server)
{
	struct master *m = ctx;
	uint8_t marks = csreg_marked(&m->servers, chunk, server);

	if (!cs_up(csreg_find(&m->servers, server)))
		return FSCK_REPLICA_AWAY;
	return marks & MARK_DAMAGED ? FSCK_REPLICA_DAMAGED
	       : marks & MARK_UNCLEAN ? FSCK_REPLICA_UNCLEAN : FSCK_REPLICA_GOOD;
}

static const char *server_addr(void *ctx, uint32_t server)
{
	struct master *m = ctx;
	const struct cs *cs = csreg_find(&m->servers, server);
	return cs ? cs->addr : "";
}

static void on_fsck(struct master *m, struct peer *peer, const struct wire_header *h,
		    struct slice fields)
{
	const struct fsck_view view = {.ctx = m, .replica = replica_state, .addr = server_addr};
	_cleanup_buf_ struct buf rows = {0};
	struct wire_fsck_reply rep;
	struct err err = {0};
	int r;
	PEER_DECODE(wire_fsck, req);

	/* What a server has is known when it has reported. */
	if (!hold_open(m)) {
		peer_fail(peer, h, ERR_NOT_LEADER, "a restored master waits for the chunkservers");
		return;
	}
	r = query_fsck(m->st, &view, &req, &rep, &rows, &err);
	if (r < 0) {
		peer_fail(peer, h, r, err.text);
		return;
	}
	rep.held = m->hold.on;
	if (!rep.next)
		hold_count(m, &rep.kept_replicas, &rep.kept_chunks);
	peer_reply(peer, h, &rep);
}

/* ---- dispatch ---- */

bool rpc_recovery_message(struct master *m, struct peer *peer, const struct wire_header *h,
		       struct slice fields)
{
	static const struct {
		uint16_t op;
		void (*handle)(struct master *m, struct peer *peer, const struct wire_header *h,
			       struct slice fields);
	} handlers[] = {{OP_HOLD, on_hold}, {OP_BACKUP, on_backup}, {OP_FSCK, on_fsck}};

	for (size_t i = 0; i < ARRAY_LEN(handlers); i++) {
		if (handlers[i].op == h->op) {
			handlers[i].handle(m, peer, h, fields);
			return true;
		}
	}
	return false;
}
