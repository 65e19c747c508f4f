/* Backups of the metadata, and holding. */
#include <string.h>

#include "client/client.h"
#include "client/result.h"
#include "common/backup.h"
#include "common/cleanup.h"

/* One page of the master's rows into the file. */
static int backup_page(struct backup_writer *w, struct slice rows, struct err *err)
{
	struct cursor c = cursor_slice(rows), key, value;

	while (cursor_left(&c) > 0) {
		int r;
		if (record_get_nested(&c, &key) < 0 || record_get_nested(&c, &value) < 0)
			return err_set(err, ERR_PROTOCOL, "malformed rows");
		r = backup_put(w, slice_of(key.p, cursor_left(&key)),
			       slice_of(value.p, cursor_left(&value)), err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int backup_begin(struct backup_writer *w, const char *path,
			const struct wire_backup_reply *first, struct err *err)
{
	struct backup_info info = {.applied = first->applied};

	if (first->cluster.len != BACKUP_CLUSTER_BYTES)
		return err_set(err, ERR_PROTOCOL, "the master did not say whose state it is");
	memcpy(info.cluster, first->cluster.data, BACKUP_CLUSTER_BYTES);
	return backup_create(w, path, &info, err);
}

/* All pages come over one connection: the view belongs to it. */
static int backup_take(struct cairn *fs, struct conn *conn, const char *path,
		       struct backup_writer *w, struct err *err)
{
	struct wire_backup req = {.start = 1};
	struct wire_backup_reply rep = {0};

	while (!rep.end) {
		_cleanup_buf_ struct buf fields = {0};
		int r = conn_call(conn, OP_BACKUP, 0, &req, &rep, &fields, client_deadline(fs),
				  err);
		if (r == 0 && req.start)
			r = backup_begin(w, path, &rep, err);
		if (r == 0)
			r = backup_page(w, rep.rows, err);
		if (r < 0)
			return r;
		req.start = 0;
	}
	return backup_finish(w, err);
}

int cairn_backup(struct cairn *fs, const char *path, struct cairn_backup_info *ret)
{
	struct backup_writer w = {0};
	struct conn *conn = NULL;
	struct err err = {0};
	int r = master_dial(&fs->master, client_deadline(fs), &conn, &err);

	if (r == 0)
		r = backup_take(fs, conn, path, &w, &err);
	if (r == 0)
		*ret = (struct cairn_backup_info){.applied = w.info.applied, .rows = w.info.rows,
						  .bytes = w.info.bytes};
	backup_release(&w);
	conn_free(conn);
	return (int)result(r, &err);
}

int cairn_hold(struct cairn *fs, bool on)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_hold req = {.held = on};
	struct wire_empty empty;
	struct err err = {0};
	int r = master_call(&fs->master, OP_HOLD, &req, &empty, &fields, client_deadline(fs), NULL,
			    &err);

	return (int)result(r, &err);
}
