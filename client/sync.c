/* fsync: SYNC along the chain of each chunk written since the last one. Several chunks are asked
 * at once, each on its own connection, so that the disks work in parallel; what fails then goes the
 * slow way, alone, with the same treatment of faults as a write. A chunk stays dirty until its
 * sync succeeded on every replica. One that was settled with a loss since it was written may have
 * lost what was written; there is nothing left to sync then, and whoever has the file open is told
 * once (client/inode.h). */
#include <inttypes.h>
#include <stdlib.h>

#include "client/chunk_write.h"
#include "client/locate.h"
#include "client/result.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"

enum { SYNC_PARALLEL = 8 };

/* One SYNC on its way. */
struct sync {
	struct dirty dirty;
	struct location loc;
	struct conn *conn; /* NULL: not sent */
	uint64_t id;	   /* of the request */
};

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int sync_send(struct cairn *fs, struct sync *s, bool fresh, bool *ret_pooled,
		     int64_t deadline_ms, struct err *err)
{
	struct wire_sync req = {.chunk = s->loc.id, .version = s->loc.version,
				.token = location_token(&s->loc)};
	struct conn *conn;
	int r = peers_take(&fs->peers, s->loc.replicas[0].addr, fresh, deadline_ms, &conn,
			   ret_pooled, err);

	if (r < 0)
		return r;
	FAULT_POINT(CLIENT_SYNC, "");
	req.n_chain = location_chain(&s->loc, req.chain);
	buf_clear(&conn->out);
	s->id = conn->next_id++;
	r = wire_put_request(&conn->out, OP_SYNC, s->id, 0, &req, 0);
	if (r == 0)
		r = conn_send(conn, buf_slice(&conn->out), NULL, 0, deadline_ms, err);
	if (r < 0) {
		peers_put(&fs->peers, conn);
		return r;
	}
	s->conn = conn;
	return 0;
}

static int sync_receive(struct cairn *fs, struct sync *s, int64_t deadline_ms,
			uint32_t *ret_server, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	int64_t limit = deadline_in(sync_busy_ms(s->loc.n_replicas - 1));
	int r = chain_ack(s->conn, OP_SYNC, s->id, &s->loc, &fields, sooner(limit, deadline_ms),
			  ret_server, err);

	peers_put(&fs->peers, s->conn);
	s->conn = NULL;
	return r;
}

/* Where the chunk is: from the cache of write locations, or the master. id 0: a hole now. A sync
 * must reach all members, so it takes a write location; but it must not make a chunk. */
static int sync_locate(struct cairn *fs, struct inode *inode, struct sync *s, int64_t deadline_ms,
		       struct err *err)
{
	uint64_t since;
	int r;

	if (inode_location_get(inode, s->dirty.index, &s->loc, &since))
		return 0;
	r = locate_one(fs, inode->number, s->dirty.index, &s->loc, NULL, deadline_ms, err);
	if (r < 0 || s->loc.id == 0)
		return r;
	return locate_for_write(fs, inode, s->dirty.index, &s->loc, &since, deadline_ms, err);
}

/* One attempt: 0, or a failure and who is to blame. */
static int sync_once(struct cairn *fs, struct sync *s, int64_t deadline_ms, uint32_t *ret_server,
		     struct err *err)
{
	bool fresh = false, pooled;
	int r;

	for (;;) {
		*ret_server = s->loc.replicas[0].server;
		r = sync_send(fs, s, fresh, &pooled, deadline_ms, err);
		if (r == 0)
			r = sync_receive(fs, s, deadline_ms, ret_server, err);
		if (r != ERR_CLOSED || fresh || !pooled)
			return r;
		fresh = true;
	}
}

/* Until it succeeds or the deadline; err NULL: another one's failure is told already. A chunk that is
 * not there any more needs no sync: one that was never made known as written, or one that a
 * truncation freed. */
static int sync_alone(struct cairn *fs, struct inode *inode, struct sync *s, int64_t deadline_ms,
		      struct err *err)
{
	struct chain_faults faults;
	struct err failure = {0};
	int r;

	chain_faults_init(&faults, deadline_ms);
	for (;;) {
		uint32_t server;
		r = sync_locate(fs, inode, s, faults.give_up_ms, err);
		if (r == ERR_CHUNK_PENDING || r == ERR_NO_SERVERS) {
			if (!backoff_pause(&faults.pause, faults.give_up_ms))
				break;
			continue;
		}
		if (r < 0 || s->loc.id == 0)
			break;
		err_clear(&failure);
		r = sync_once(fs, s, faults.give_up_ms, &server, &failure);
		if (r == 0 || (r == ERR_NO_CHUNK && !(s->loc.flags & CHUNK_WRITTEN))) {
			r = 0;
			break;
		}
		result_strip(&failure, location_addr(&s->loc, server));
		err_prefix(&failure, r, "sync chunk %" PRIx64 " v%u of inode %" PRIx64 " on %s",
			   s->loc.id, s->loc.version, inode->number,
			   location_addr(&s->loc, server));
		inode_location_drop(inode, &s->loc);
		r = chain_failed(fs, &faults, &s->loc, r, server, &failure);
		if (r < 0)
			break;
	}
	if (r < 0 && failure.code && err)
		*err = failure;
	return r;
}

/* Synced at s->loc: whether all that was written was there still. */
static void sync_done(struct inode *inode, const struct sync *s)
{
	if (s->loc.id == s->dirty.chunk && s->loc.settled > s->dirty.version)
		inode_lost(inode);
	inode_clean(inode, &s->dirty);
}

/* Up to SYNC_PARALLEL chunks: all are asked before the first answer is waited for. */
static int sync_batch(struct cairn *fs, struct inode *inode, const struct dirty *list, size_t n,
		      int64_t deadline_ms, struct err *err)
{
	_cleanup_free_ struct sync *batch = calloc(n, sizeof(*batch));
	int first = 0;

	if (!batch)
		return err_set(err, ERR_NOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		bool pooled;
		batch[i].dirty = list[i];
		if (n > 1 && sync_locate(fs, inode, &batch[i], deadline_ms, NULL) == 0 &&
		    batch[i].loc.id)
			sync_send(fs, &batch[i], false, &pooled, deadline_ms, NULL);
	}
	for (size_t i = 0; i < n; i++) {
		struct sync *s = &batch[i];
		uint32_t server;
		int r = -1;
		if (s->conn)
			r = sync_receive(fs, s, deadline_ms, &server, NULL);
		if (r < 0)
			r = sync_alone(fs, inode, s, deadline_ms, first ? NULL : err);
		if (r == 0)
			sync_done(inode, s);
		else if (first == 0)
			first = r;
	}
	return first;
}

static int sync_list(struct cairn *fs, struct inode *inode, const struct dirty *list, size_t n,
		     int64_t deadline_ms, struct err *err)
{
	int first = 0;

	for (size_t i = 0; i < n; i += SYNC_PARALLEL) {
		size_t part = n - i < SYNC_PARALLEL ? n - i : SYNC_PARALLEL;
		int r = sync_batch(fs, inode, list + i, part, deadline_ms, first ? NULL : err);
		if (first == 0)
			first = r;
	}
	return first;
}

/* Every chunk that the file has. */
static int sync_all(struct cairn *fs, struct inode *inode, int64_t deadline_ms, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_locate_reply rep;
	uint64_t first = 0;

	do {
		struct dirty list[CHUNKS_PER_LOCATE_MAX] = {0};
		size_t n = 0;
		int r = locate_chunks(fs, inode->number, first, CHUNKS_PER_LOCATE_MAX, &rep,
				      &fields, deadline_ms, err);
		for (unsigned i = 0; r == 0 && i < rep.n_chunks; i++)
			if (rep.chunks[i].id && (rep.chunks[i].flags & CHUNK_WRITTEN))
				list[n++].index = rep.chunks[i].index;
		/* mark 0 is older than any write: inode_clean leaves what was written meanwhile. */
		for (size_t i = 0; i < n; i++)
			list[i].mark = 0;
		if (r == 0)
			r = sync_list(fs, inode, list, n, deadline_ms, err);
		if (r < 0)
			return r;
		first = locate_next(&rep, first);
	} while (first << inode->chunk_bits < rep.attr.size);
	return 0;
}

static int settle(struct cairn_file *file, bool sync, struct err *err)
{
	int r = writeback_settle(&file->fs->writeback, file->inode->number, sync,
				 client_deadline(file->fs));

	return r == 0 ? 0 : err_set(err, r, "inode %" PRIx64 ": what was written is not with the "
				    "servers yet", file->inode->number);
}

int file_settle(struct cairn_file *file, struct err *err)
{
	return settle(file, false, err);
}

int file_sync(struct cairn_file *file, struct err *err)
{
	_cleanup_free_ struct dirty *list = NULL;
	int64_t deadline = client_deadline(file->fs);
	struct inode *inode = file->inode;
	struct err local = {0};
	uint64_t all;
	size_t n;
	int r, lost;

	if (!err)
		err = &local;
	r = settle(file, true, err);
	if (r < 0)
		return r;
	r = inode_dirty_list(inode, &list, &n, &all);
	if (r < 0)
		return err_set(err, r, "out of memory");
	r = sync_list(file->fs, inode, list, n, deadline, err);
	if (r == 0 && all) {
		r = sync_all(file->fs, inode, deadline, err);
		if (r == 0)
			inode_clean_all(inode, all);
	}
	lost = file_told(file, r == 0 ? err : NULL);
	return r < 0 ? r : lost;
}

int file_told(struct cairn_file *file, struct err *err)
{
	int code = inode_losses_check(file->inode, &file->losses);

	if (code < 0)
		return err_set(err, code, "inode %" PRIx64 ": bytes that were written and not synced "
			       "were lost (every server of them lost its power, or none could take "
			       "them)", file->inode->number);
	return 0;
}

int file_flush(struct cairn_file *file, struct err *err)
{
	struct cairn *fs = file->fs;

	if (lease_full(&fs->lease))
		writeback_settle(&fs->writeback, file->inode->number, false, client_deadline(fs));
	return file_told(file, err);
}

int cairn_flush(struct cairn_file *file)
{
	struct err err = {0};
	return (int)result(file_flush(file, &err), &err);
}

int cairn_fsync(struct cairn_file *file)
{
	struct err err = {0};
	return (int)result(file_sync(file, &err), &err);
}
