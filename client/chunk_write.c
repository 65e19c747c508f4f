/* A write goes to the head of the chunk's chain in pieces, several in flight on one connection; a
 * piece is done when the head answered it, which is when every replica has it. After a failure the
 * pieces without an answer are sent again, to wherever the chunk is then: the same bytes at the
 * same place, so that once more does no harm. */
#include "client/chunk_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/locate.h"
#include "client/pieces.h"
#include "client/result.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/crc.h"
#include "common/fault.h"

enum {
	WRITE_BACKOFF_FIRST_MS = 10,
	WRITE_BACKOFF_MAX_MS = 500,
	/* A server may say "not at that version" for as long as a raise is under way; one that says
	 * so again and again about what the master tells us is at fault itself. */
	SOFT_FAILURES_MAX = 3,
	SUMS_MAX = DATA_BYTES_MAX / BLOCK_BYTES + 1,
};

/* ---- what follows a failure ---- */

void chain_faults_init(struct chain_faults *f, int64_t deadline_ms)
{
	*f = (struct chain_faults){.pause = {WRITE_BACKOFF_FIRST_MS, WRITE_BACKOFF_MAX_MS},
				   .give_up_ms = deadline_ms};
}

static bool is_soft(int code)
{
	return code == ERR_CHUNK_VERSION || code == ERR_CHUNK_PENDING || code == ERR_NO_CHUNK;
}

/* Whether the failure is to be reported, as one of `server`, before the attempt is repeated. */
static bool fault_due(struct chain_faults *f, const struct location *loc, int code)
{
	if (f->id != loc->id || f->version != loc->version) {
		f->id = loc->id;
		f->version = loc->version;
		f->soft = f->checksums = 0;
	}
	if (is_soft(code))
		return ++f->soft >= SOFT_FAILURES_MAX;
	if (code == ERR_TOKEN) /* the master gives a new one */
		return false;
	/* The bytes may have changed under us while they were sent (a mapped buffer). */
	if (code == ERR_CHECKSUM)
		return ++f->checksums > 1;
	return true;
}

int chain_failed(struct cairn *fs, struct chain_faults *f, const struct location *loc, int code,
		 uint32_t server, struct err *err)
{
	struct err asked = {0};
	char text[ERR_TEXT_MAX];
	int r = 0;

	if (code == ERR_NOMEM || code == ERR_LIMIT || code == ERR_INVAL || code == ERR_AUTH ||
	    code == ERR_SOURCE)
		return code;
	if (fault_due(f, loc, code)) {
		snprintf(text, sizeof(text), "%s", err_message(err));
		r = locate_fault(fs, loc, server, true, code, text, f->give_up_ms, &asked);
		/* The master knows no server with more room. */
		if (r == ERR_NOSPC)
			return r;
	}
	if (!backoff_pause(&f->pause, f->give_up_ms))
		return code;
	return 0;
}

/* ---- messages ---- */

int chain_ack(struct conn *conn, uint16_t op, uint64_t id, const struct location *loc,
	      struct buf *fields, int64_t deadline_ms, uint32_t *ret_server, struct err *err)
{
	struct wire_header h;
	struct wire_empty empty;
	uint32_t named = 0;
	int r = conn_recv_reply(conn, op, id, &h, fields, deadline_ms, err);

	*ret_server = loc->replicas[0].server;
	if (r < 0)
		return r;
	r = wire_get_reply(&h, buf_slice(fields), &empty, &named, err);
	if (r < 0 && named)
		*ret_server = named;
	return r;
}

/* What one message carries. */
struct write_piece {
	uint32_t offset, len; /* in the chunk */
	const uint8_t *data; /* NULL: copied */
	size_t at;	     /* of its first byte in its part */
	bool done;
};

struct chunk_writer {
	struct cairn *fs;
	const struct location *loc;
	const struct copy_source *from; /* NULL: the pieces have data */
	uint8_t chunk_bits;
	bool sync; /* the piece is asked to be durable when it is answered */
	unsigned attempts;
	struct write_piece *pieces, few[PIECES_MAX]; /* pieces: few, or on the heap */
	unsigned n;
	uint64_t session, seq; /* names of the pieces: seq + i */
	uint64_t first_id;     /* of the requests: first_id + i */
	int64_t deadline_ms;
	struct buf fields;
	uint32_t failed; /* the server to blame for the last failure */
};

static int64_t ack_deadline(const struct chunk_writer *w)
{
	unsigned behind = w->loc->n_replicas - 1;
	int64_t d = deadline_in((w->sync ? sync_busy_ms(behind) : write_busy_ms(behind)) +
				(w->from ? READ_BUSY_MS : 0));
	return d < w->deadline_ms ? d : w->deadline_ms;
}

static void piece_fields(const struct chunk_writer *w, unsigned i, struct wire_write *ret)
{
	*ret = (struct wire_write){
		.chunk = w->loc->id, .version = w->loc->version, .offset = w->pieces[i].offset,
		.flags = (w->loc->flags & CHUNK_WRITTEN ? 0 : WRITE_CREATE) |
			 (w->sync ? WRITE_SYNC : 0),
		.chunk_bits = w->chunk_bits, .token = location_token(w->loc),
		.session = w->session, .seq = w->seq + i,
	};
	ret->n_chain = location_chain(w->loc, ret->chain);
}

/* A WRITE's fields: the data follows. */
static int piece_put(struct chunk_writer *w, struct conn *conn, unsigned i)
{
	const struct write_piece *p = &w->pieces[i];
	uint8_t sums[4 * SUMS_MAX];
	struct wire_write req;

	piece_fields(w, i, &req);
	req.sums = slice_of(sums, 4 * crc_sums(sums, p->data, p->offset, p->len));
	return wire_put_request(&conn->out, OP_WRITE, w->first_id + i, 0, &req, p->len);
}

static int piece_put_copy(struct chunk_writer *w, struct conn *conn, unsigned i)
{
	const struct write_piece *p = &w->pieces[i];
	const struct location *from = &w->from->loc;
	struct wire_copy req = {
		.len = p->len, .source = from->id, .source_version = from->version,
		.source_offset = w->from->offset + (uint32_t)p->at,
		.source_token = location_token(from), .n_from = (uint16_t)from->n_replicas,
	};

	piece_fields(w, i, &req.to);
	for (unsigned k = 0; k < from->n_replicas; k++)
		req.from[k] = (struct wire_replica){.server = from->replicas[k].server,
						    .part = from->replicas[k].part,
						    .addr = slice_str(from->replicas[k].addr)};
	return wire_put_request(&conn->out, OP_COPY, w->first_id + i, 0, &req, 0);
}

static int piece_send(struct chunk_writer *w, struct conn *conn, unsigned i, struct err *err)
{
	const struct write_piece *p = &w->pieces[i];
	int r;

	buf_clear(&conn->out);
	r = w->from ? piece_put_copy(w, conn, i) : piece_put(w, conn, i);
	if (r < 0)
		return err_set(err, r, "%s: %s", conn->peer, err_text(r));
	FAULT_POINT(CLIENT_WRITE_SEND, "");
	r = conn_send(conn, buf_slice(&conn->out), p->data, p->data ? p->len : 0, ack_deadline(w),
		      err);
	FAULT_POINT(CLIENT_WRITE_SENT, "");
	return r;
}

static unsigned next_not_done(const struct chunk_writer *w, unsigned i)
{
	while (i < w->n && w->pieces[i].done)
		i++;
	return i;
}

/* The head hung up while we sent. It may have said before which server made it do so. */
static int send_failed(struct chunk_writer *w, struct conn *conn, bool in_flight, unsigned ack,
		       int code, struct err *err)
{
	struct err said = {0};
	uint32_t server;
	int r;

	w->failed = w->loc->replicas[0].server;
	if (!in_flight)
		return code;
	r = chain_ack(conn, w->from ? OP_COPY : OP_WRITE, w->first_id + ack, w->loc, &w->fields, clock_ms(), &server,
		      &said);
	if (r != ERR_PEER)
		return code;
	w->failed = server;
	if (err)
		*err = said;
	return r;
}

/* Sends what is not done and takes the answers. The first failure counts; answers of pieces that
 * were in flight behind it are still taken while the connection works. */
static int pieces_write(struct chunk_writer *w, struct conn *conn, struct err *err)
{
	unsigned send = next_not_done(w, 0), ack = send, in_flight = 0;
	int failed = 0;

	while (in_flight > 0 || (send < w->n && failed == 0)) {
		uint32_t server;
		int r;
		if (send < w->n && in_flight < WRITE_WINDOW && failed == 0) {
			r = piece_send(w, conn, send, err);
			if (r < 0)
				return send_failed(w, conn, in_flight > 0, ack, r, err);
			send = next_not_done(w, send + 1);
			in_flight++;
			continue;
		}
		r = chain_ack(conn, w->from ? OP_COPY : OP_WRITE, w->first_id + ack, w->loc, &w->fields,
			      ack_deadline(w), &server, failed ? NULL : err);
		in_flight--;
		if (r == 0) {
			w->pieces[ack].done = true;
		} else if (failed == 0) {
			failed = r;
			w->failed = server;
		}
		if (conn_broken(conn))
			break;
		ack = next_not_done(w, ack + 1);
	}
	return failed;
}

/* One attempt over one connection. *ret_stale: it failed because a pooled one had died. */
static int head_write(struct chunk_writer *w, bool fresh, bool *ret_stale, struct err *err)
{
	const struct location_replica *head = &w->loc->replicas[0];
	struct peers *peers = &w->fs->peers;
	struct conn *conn;
	bool pooled, broken;
	int r = peers_take(peers, head->addr, fresh, w->deadline_ms, &conn, &pooled, err);

	w->attempts++;
	*ret_stale = false;
	if (r < 0) {
		w->failed = head->server;
		return r;
	}
	w->first_id = conn->next_id;
	conn->next_id += w->n;
	r = pieces_write(w, conn, err);
	broken = conn_broken(conn);
	peers_put(peers, conn);
	*ret_stale = broken && pooled && r == ERR_CLOSED;
	if (!*ret_stale)
		peers_mark(peers, head->addr, !broken);
	return r;
}

static int chunk_write_at(struct chunk_writer *w, uint64_t inode, struct err *err)
{
	bool stale;
	int r;

	err_clear(err);
	r = head_write(w, false, &stale, err);
	if (stale)
		r = head_write(w, true, &stale, err);
	if (r == 0)
		return 0;
	result_strip(err, location_addr(w->loc, w->failed));
	return err_prefix(err, r, "write chunk %" PRIx64 " v%u of inode %" PRIx64 " on %s",
			  w->loc->id, w->loc->version, inode, location_addr(w->loc, w->failed));
}

/* Pieces that were done before a failure are in the chunk still if it is the same chunk and nobody
 * changed the file since: a truncation may have cut them off, under the same id. Then they are new
 * writes: a head that remembers them by their names would take them for done. */
static void keep_done(struct chunk_writer *w, uint64_t id, uint64_t new_id, uint64_t since,
		      uint64_t new_since)
{
	if (id == new_id && since == new_since)
		return;
	for (unsigned i = 0; i < w->n; i++)
		w->pieces[i].done = false;
	w->seq = session_number_writes(&w->fs->session, w->n, &w->session);
}

static bool any_done(const struct chunk_writer *w)
{
	for (unsigned i = 0; i < w->n; i++)
		if (w->pieces[i].done)
			return true;
	return false;
}

/* Cuts the parts into messages. False: out of memory. */
static bool pieces_make(struct chunk_writer *w, const struct chunk_part *parts, unsigned n)
{
	struct piece cut[PIECES_MAX];
	unsigned room = PIECES_MAX;

	w->pieces = w->few;
	for (unsigned i = 0; i < n; i++) {
		unsigned k = pieces_split(cut, parts[i].offset, parts[i].len);
		if (w->n + k > room) {
			/* Each part has one piece, and one more for each DATA_BYTES_MAX of the chunk. */
			room = n + PIECES_MAX;
			w->pieces = calloc(room, sizeof(*w->pieces));
			if (!w->pieces)
				return false;
			memcpy(w->pieces, w->few, w->n * sizeof(*w->pieces));
		}
		for (unsigned j = 0; j < k; j++)
			w->pieces[w->n++] = (struct write_piece){
				.offset = cut[j].offset, .len = cut[j].len,
				.data = parts[i].data ? parts[i].data + cut[j].at : NULL,
				.at = cut[j].at};
	}
	return true;
}

/* Every member has synced what this call wrote. Not when it was sent twice: a head that takes a piece for
 * done answers at once. */
static bool is_synced(const struct chunk_writer *w)
{
	return w->sync && w->attempts == 1 && w->pieces[0].done;
}

/* The parts' data, or `from`. */
static int chunk_put(struct cairn *fs, struct inode *inode, uint64_t index,
		     const struct chunk_part *parts, unsigned n, const struct copy_source *from,
		     bool sync, struct location *ret_loc, uint64_t *ret_since, int64_t deadline_ms,
		     struct err *err)
{
	struct chunk_writer w = {.fs = fs, .loc = ret_loc, .from = from,
				 .chunk_bits = inode->chunk_bits};
	struct chain_faults faults;
	struct err failure = {0};
	uint64_t since = 0, id = 0;
	uint32_t first = 0; /* the lowest version of that chunk at which a piece was done */
	int r, code;

	chain_faults_init(&faults, deadline_ms);
	w.deadline_ms = faults.give_up_ms;
	if (!pieces_make(&w, parts, n))
		return err_set(err, ERR_NOMEM, "out of memory");
	w.sync = sync && w.n == 1;
	for (;;) {
		uint64_t now_since;
		r = lease_write_check(&fs->lease, inode->number, faults.give_up_ms, err);
		if (r < 0)
			break;
		r = locate_for_write(fs, inode, index, ret_loc, &now_since, faults.give_up_ms, err);
		if ((is_soft(r) || r == ERR_NO_SERVERS) &&
		    backoff_pause(&faults.pause, faults.give_up_ms))
			continue;
		if (r < 0)
			break;
		keep_done(&w, id, ret_loc->id, since, now_since);
		if (!any_done(&w))
			first = 0;
		id = ret_loc->id;
		since = now_since;
		code = chunk_write_at(&w, inode->number, &failure);
		if (first == 0 && any_done(&w))
			first = ret_loc->version;
		if (code == 0)
			break;
		/* A server that does not know COPY is not at fault. */
		if (from && code == ERR_PROTOCOL)
			code = ERR_SOURCE;
		inode_location_drop(inode, ret_loc);
		r = chain_failed(fs, &faults, ret_loc, code, w.failed, &failure);
		if (r < 0)
			break;
	}
	/* Why the servers did not take it says more than why no other place was found. */
	if (r < 0 && failure.code)
		*err = failure;
	/* Not before: a sync of another thread meanwhile did not have it all. */
	if (first && !is_synced(&w))
		inode_dirty_mark(inode, index, id, first);
	buf_release(&w.fields);
	if (w.pieces != w.few)
		free(w.pieces);
	if (r == 0)
		*ret_since = since;
	return r;
}

int chunk_write(struct cairn *fs, struct inode *inode, uint64_t index,
		const struct chunk_part *parts, unsigned n, bool sync, struct location *ret_loc,
		uint64_t *ret_since, int64_t deadline_ms, struct err *err)
{
	return chunk_put(fs, inode, index, parts, n, NULL, sync, ret_loc, ret_since, deadline_ms, err);
}

int chunk_copy(struct cairn *fs, struct inode *inode, uint64_t index, uint32_t offset, uint32_t len,
	       const struct copy_source *from, struct location *ret_loc, uint64_t *ret_since,
	       int64_t deadline_ms, struct err *err)
{
	struct chunk_part part = {.offset = offset, .len = len};

	return chunk_put(fs, inode, index, &part, 1, from, false, ret_loc, ret_since, deadline_ms,
			 err);
}
