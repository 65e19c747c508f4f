/* One chunk_read goes over the replicas in an order of preference. On each it asks for the pieces
 * that are still missing, several in flight on one connection. A piece whose checksums do not
 * match is asked for once more with READ_STABLE (the server then verifies under its range lock: a
 * page may have changed while sendfile sent it); if that fails too, the replica is reported and the
 * next one is taken. When no replica serves, the master is asked again where the chunk is. */
#include "client/chunk_read.h"

#include <inttypes.h>

#include "client/locate.h"
#include "client/pieces.h"
#include "client/result.h"
#include "client/wait.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/crc.h"

enum {
	READ_BACKOFF_FIRST_MS = 10,
	READ_BACKOFF_MAX_MS = 500,
	/* Damage does not go away by asking again, but the master may know another replica. */
	READ_ROUNDS_DAMAGED_MAX = 2,
};

enum piece_state { PIECE_MISSING, PIECE_ASKED, PIECE_SUSPECT, PIECE_DONE };

struct chunk_reader {
	struct cairn *fs;
	uint64_t inode;
	struct location *loc;
	uint8_t *dest;
	struct piece pieces[PIECES_MAX];
	enum piece_state state[PIECES_MAX];
	unsigned n;
	int64_t deadline_ms;
	struct buf fields;
};

static uint32_t block_floor(uint32_t v)
{
	return v & ~(uint32_t)(BLOCK_BYTES - 1);
}

static uint32_t block_ceil(uint32_t v)
{
	return block_floor(v + BLOCK_BYTES - 1);
}

static int64_t reply_deadline(const struct chunk_reader *c)
{
	int64_t d = deadline_in(READ_BUSY_MS);
	return d < c->deadline_ms ? d : c->deadline_ms;
}

static int piece_send(struct chunk_reader *c, struct conn *conn, unsigned i, uint8_t flags,
		      struct err *err)
{
	const struct piece *p = &c->pieces[i];
	uint32_t from = block_floor(p->offset);
	struct wire_read req = {
		.chunk = c->loc->id, .version = c->loc->version, .offset = from,
		.len = block_ceil(p->offset + p->len) - from, .flags = flags,
		.token = location_token(c->loc),
	};
	int r;

	buf_clear(&conn->out);
	/* The id is the piece's number: replies come in the order of requests. */
	r = wire_put_request(&conn->out, OP_READ, i, 0, &req, 0);
	if (r < 0)
		return err_set(err, r, "%s: %s", conn->peer, err_text(r));
	return conn_send(conn, buf_slice(&conn->out), NULL, 0, reply_deadline(c), err);
}

/* The zeros that the server left out: from block offset `from` of the chunk to the piece's end. */
static void piece_zero(struct chunk_reader *c, const struct piece *p, uint32_t from)
{
	if (from < p->offset)
		from = p->offset;
	if (from < p->offset + p->len)
		memset(c->dest + p->at + (from - p->offset), 0, p->offset + p->len - from);
}

/* Receives the reply's data: whole blocks go straight to their place, the ones that the piece
 * covers in part go over a buffer. *ret_ok: all checksums match. */
static int piece_data(struct chunk_reader *c, struct conn *conn, const struct piece *p,
		      uint32_t data_bytes, const uint8_t *sums, bool *ret_ok, struct err *err)
{
	uint32_t first = block_floor(p->offset), pos = first, end = first + data_bytes;
	int64_t deadline = reply_deadline(c);

	*ret_ok = true;
	while (pos < end) {
		uint8_t edge[BLOCK_BYTES], *to = edge;
		uint32_t n = BLOCK_BYTES, stop = block_floor(p->offset + p->len);
		int r;
		if (pos >= p->offset && pos < stop) {
			to = c->dest + p->at + (pos - p->offset);
			n = (end < stop ? end : stop) - pos;
		}
		r = conn_recv_data(conn, to, n, deadline, err);
		if (r < 0)
			return r;
		if (crc_sums_check(sums + (pos - first) / BLOCK_BYTES * 4, to, 0, n) >= 0)
			*ret_ok = false;
		if (to == edge) {
			uint32_t from = pos > p->offset ? pos : p->offset;
			uint32_t till = p->offset + p->len < pos + n ? p->offset + p->len : pos + n;
			memcpy(c->dest + p->at + (from - p->offset), edge + (from - pos),
			       till - from);
		}
		pos += n;
	}
	piece_zero(c, p, end);
	return 0;
}

/* Receives the reply of piece i. 0 (done, or suspect), the server's failure, or a broken conn. */
static int piece_receive(struct chunk_reader *c, struct conn *conn, unsigned i, struct err *err)
{
	const struct piece *p = &c->pieces[i];
	uint32_t len = block_ceil(p->offset + p->len) - block_floor(p->offset);
	struct wire_header h;
	struct wire_read_reply rep;
	bool ok;
	int r = conn_recv(conn, &h, &c->fields, reply_deadline(c), err);

	if (r < 0)
		return r;
	if (h.id != i || h.op != OP_READ || !(h.flags & WIRE_REPLY) ||
	    (h.status && h.data_bytes > 0)) {
		conn->broken = true;
		return err_set(err, ERR_PROTOCOL, "%s: answer to another question", conn->peer);
	}
	r = wire_get_reply(&h, buf_slice(&c->fields), &rep, NULL, err);
	if (r == ERR_NO_CHUNK && h.status && !(c->loc->flags & CHUNK_WRITTEN)) {
		/* Placed, but not written yet. */
		piece_zero(c, p, 0);
		c->state[i] = PIECE_DONE;
		return 0;
	}
	if (r < 0) {
		conn->broken |= h.status == 0;
		return r;
	}
	if (h.data_bytes > len || h.data_bytes % BLOCK_BYTES != 0 ||
	    rep.sums.len != h.data_bytes / BLOCK_BYTES * 4) {
		conn->broken = true;
		return err_set(err, ERR_PROTOCOL, "%s: READ of %u bytes was answered with %u and "
			       "%u bytes of checksums", conn->peer, len, h.data_bytes,
			       rep.sums.len);
	}
	r = piece_data(c, conn, p, h.data_bytes, rep.sums.data, &ok, err);
	if (r == 0)
		c->state[i] = ok ? PIECE_DONE : PIECE_SUSPECT;
	return r;
}

static unsigned next_in_state(const struct chunk_reader *c, unsigned i, enum piece_state state)
{
	while (i < c->n && c->state[i] != state)
		i++;
	return i;
}

/* Asks for all missing pieces. A refused one does not keep the others from being received. */
static int pieces_fetch(struct chunk_reader *c, struct conn *conn, struct err *err)
{
	unsigned ask = next_in_state(c, 0, PIECE_MISSING), in_flight = 0;
	unsigned get = ask;
	int refused = 0, r = 0;

	while (r == 0 && (in_flight > 0 || (ask < c->n && refused == 0))) {
		if (ask < c->n && in_flight < READ_WINDOW && refused == 0) {
			c->state[ask] = PIECE_ASKED;
			r = piece_send(c, conn, ask, 0, err);
			ask = next_in_state(c, ask + 1, PIECE_MISSING);
			in_flight++;
			continue;
		}
		get = next_in_state(c, get, PIECE_ASKED);
		c->state[get] = PIECE_MISSING; /* unless it comes */
		r = piece_receive(c, conn, get, refused ? NULL : err);
		in_flight--;
		if (r < 0 && !conn_broken(conn)) {
			refused = refused ? refused : r;
			r = 0;
		}
		get++;
	}
	for (unsigned i = 0; i < c->n; i++)
		if (c->state[i] == PIECE_ASKED)
			c->state[i] = PIECE_MISSING;
	return r < 0 ? r : refused;
}

static int pieces_verify(struct chunk_reader *c, struct conn *conn, struct err *err)
{
	for (unsigned i = next_in_state(c, 0, PIECE_SUSPECT); i < c->n;
	     i = next_in_state(c, i, PIECE_SUSPECT)) {
		int r = piece_send(c, conn, i, READ_STABLE, err);
		if (r == 0)
			r = piece_receive(c, conn, i, err);
		if (r < 0)
			return r;
		if (c->state[i] == PIECE_SUSPECT)
			return err_set(err, ERR_CHECKSUM, "%s", err_text(ERR_CHECKSUM));
	}
	return 0;
}

/* What a reader's report can help with; other failures are the master's own to notice. */
static bool is_damage(int code)
{
	return code == ERR_CHECKSUM || code == ERR_CORRUPT || code == ERR_NO_CHUNK ||
	       code == ERR_IO;
}

static int replica_try(struct chunk_reader *c, const struct location_replica *from, bool fresh,
		       bool *ret_stale, struct err *err)
{
	struct peers *peers = &c->fs->peers;
	struct conn *conn;
	bool pooled, broken;
	int r = peers_take(peers, from->addr, fresh, c->deadline_ms, &conn, &pooled, err);

	*ret_stale = false;
	if (r < 0)
		return r;
	r = pieces_fetch(c, conn, err);
	if (r == 0)
		r = pieces_verify(c, conn, err);
	broken = conn_broken(conn);
	peers_put(peers, conn);
	*ret_stale = broken && pooled && r == ERR_CLOSED;
	if (!*ret_stale)
		peers_mark(peers, from->addr, !broken);
	return r;
}

/* All missing pieces from one replica, or its failure with the place in the text. */
static int replica_read(struct chunk_reader *c, const struct location_replica *from,
			struct err *err)
{
	bool stale;
	int r = replica_try(c, from, false, &stale, err);

	if (stale)
		r = replica_try(c, from, true, &stale, err);
	for (unsigned i = 0; i < c->n; i++)
		if (c->state[i] == PIECE_SUSPECT)
			c->state[i] = PIECE_MISSING;
	if (r == 0)
		return 0;
	result_strip(err, from->addr);
	err_prefix(err, r, "read chunk %" PRIx64 " v%u of inode %" PRIx64 " on %s", c->loc->id,
		   c->loc->version, c->inode, from->addr);
	/* The report is for others: whether it arrives changes nothing here. */
	if (is_damage(r))
		locate_fault(c->fs, c->loc, from->server, false, r, err_message(err),
			     reply_deadline(c), NULL);
	return r;
}

/* Tries each replica once: those that failed lately last. Different sessions begin with different
 * replicas, one session always with the same one (whose cache has the chunk then). */
static int replicas_read(struct chunk_reader *c, struct err *err)
{
	const struct location *loc = c->loc;
	unsigned n = loc->n_replicas, first;
	bool tried[REPLICAS_MAX] = {false};
	int r = err_set(err, ERR_NO_SERVERS, "read chunk %" PRIx64 " v%u of inode %" PRIx64
			": no server has it now", loc->id, loc->version, c->inode);

	first = n ? (unsigned)((loc->id + c->fs->salt) % n) : 0;
	for (int avoided = 0; avoided < 2; avoided++) {
		for (unsigned i = 0; i < n; i++) {
			unsigned at = (first + i) % n;
			if (tried[at] || (!avoided && peers_avoid(&c->fs->peers,
								  loc->replicas[at].addr)))
				continue;
			tried[at] = true;
			err_clear(err);
			r = replica_read(c, &loc->replicas[at], err);
			if (r == 0)
				return 0;
		}
	}
	return r;
}

static int chunk_read_rounds(struct chunk_reader *c, struct err *err)
{
	struct backoff pause = {READ_BACKOFF_FIRST_MS, READ_BACKOFF_MAX_MS};
	unsigned damaged = 0;

	for (;;) {
		struct location now;
		struct err again = {0};
		int r, s;
		if (c->loc->id == 0) {
			for (unsigned i = 0; i < c->n; i++)
				if (c->state[i] != PIECE_DONE)
					piece_zero(c, &c->pieces[i], 0);
			return 0;
		}
		r = replicas_read(c, err);
		if (r == 0)
			return 0;
		damaged += is_damage(r);
		if (damaged >= READ_ROUNDS_DAMAGED_MAX || !backoff_pause(&pause, c->deadline_ms))
			return r;
		s = locate_one(c->fs, c->inode, c->loc->index, &now, NULL, c->deadline_ms, &again);
		if (s == ERR_STALE) {
			*err = again;
			return s;
		}
		if (s < 0)
			return r; /* why the chunk could not be read says more */
		*c->loc = now;
	}
}

int chunk_read(struct cairn *fs, uint64_t inode, struct location *loc, uint32_t offset,
	       uint32_t len, uint8_t *dest, int64_t deadline_ms, struct err *err)
{
	struct chunk_reader c = {.fs = fs, .inode = inode, .loc = loc, .dest = dest,
				 .deadline_ms = deadline_ms};
	struct err local = {0};
	int r;

	c.n = pieces_split(c.pieces, offset, len);
	r = chunk_read_rounds(&c, err ? err : &local);
	buf_release(&c.fields);
	return r;
}
