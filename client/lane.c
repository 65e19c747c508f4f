#include "client/lane.h"

#include <stdlib.h>

#include "common/clock.h"
#include "common/crc.h"

static uint32_t block_floor(uint32_t v)
{
	return v & ~(uint32_t)(BLOCK_BYTES - 1);
}

static uint32_t block_ceil(uint32_t v)
{
	return block_floor(v + BLOCK_BYTES - 1);
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static int64_t reply_deadline(const struct lane *l)
{
	int64_t d = deadline_in(READ_BUSY_MS);
	return d < l->job->deadline_ms ? d : l->job->deadline_ms;
}

int lane_open(struct lane *l, struct lane_job *job, unsigned replica, bool fresh, bool second,
	      int64_t dial_ms, struct err *err)
{
	int64_t limit = deadline_in(dial_ms);
	int r;

	memset(l, 0, sizeof(*l));
	l->job = job;
	l->replica = replica;
	if (second) {
		l->aside = malloc(DATA_BYTES_MAX + 2 * BLOCK_BYTES);
		if (!l->aside) {
			l->job = NULL;
			return err_set(err, ERR_NOMEM, "out of memory");
		}
	}
	r = peers_take(&job->fs->peers, lane_from(l)->addr, fresh,
		       limit < job->deadline_ms ? limit : job->deadline_ms, &l->conn, &l->pooled,
		       err);
	if (r < 0) {
		free(l->aside);
		l->job = NULL;
	}
	return r;
}

void lane_close(struct lane *l)
{
	if (!l->job)
		return;
	l->conn->broken |= !lane_idle(l);
	peers_put(&l->job->fs->peers, l->conn);
	buf_release(&l->fields);
	free(l->aside);
	l->job = NULL;
}

/* ---- asking ---- */

static int piece_send(struct lane *l, unsigned i, bool stable, struct err *err)
{
	const struct piece *p = &l->job->pieces[i];
	const struct location *loc = l->job->loc;
	uint32_t from = block_floor(p->offset);
	struct wire_read req = {
		.chunk = loc->id, .version = loc->version, .offset = from,
		.len = block_ceil(p->offset + p->len) - from, .flags = stable ? READ_STABLE : 0,
		.token = location_token(loc),
	};
	unsigned at = (l->first + l->n_flight) % (READ_WINDOW + 1);
	int r;

	buf_clear(&l->conn->out);
	l->flight[at].id = l->conn->next_id++;
	r = wire_put_request(&l->conn->out, OP_READ, l->flight[at].id, 0, &req, 0);
	if (r < 0)
		return err_set(err, r, "%s: %s", l->conn->peer, err_text(r));
	if (l->n_flight == 0)
		l->moved_us = clock_us();
	l->flight[at].piece = i;
	l->flight[at].stable = stable;
	l->flight[at].sent_us = clock_us();
	l->n_flight++;
	return conn_send(l->conn, buf_slice(&l->conn->out), NULL, 0, reply_deadline(l), err);
}

int lane_ask(struct lane *l, struct err *err)
{
	for (unsigned i = 0; i < l->job->n && l->n_flight < READ_WINDOW && !l->refused; i++) {
		int r;
		if (l->job->done[i] || l->asked[i])
			continue;
		l->asked[i] = true;
		r = piece_send(l, i, false, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- receiving ---- */

/* The zeros that the server left out: from block offset `from` of the chunk to the piece's end. */
static void piece_zero(struct lane *l, const struct piece *p, uint32_t from)
{
	if (from < p->offset)
		from = p->offset;
	if (from < p->offset + p->len)
		memset(l->job->dest + p->at + (from - p->offset), 0, p->offset + p->len - from);
}

/* Copies what the piece wants of the chunk's bytes [from, till) which are at `bytes`. */
static void piece_copy(struct lane *l, const struct piece *p, const uint8_t *bytes, uint32_t from,
		       uint32_t till)
{
	uint32_t a = from > p->offset ? from : p->offset, b = min_u32(till, p->offset + p->len);

	if (a < b)
		memcpy(l->job->dest + p->at + (a - p->offset), bytes + (a - from), b - a);
}

/* Chooses where the bytes from pos on go: l->run_begin .. l->run_end. */
static void run_begin(struct lane *l, const struct piece *p)
{
	uint32_t whole = block_floor(p->offset + p->len);

	l->run_begin = l->pos;
	if (l->aside_now)
		l->run_end = l->end;
	else if (l->pos >= p->offset && l->pos < whole)
		l->run_end = min_u32(l->end, whole);
	else
		l->run_end = l->pos + BLOCK_BYTES;
}

static uint8_t *run_place(struct lane *l, const struct piece *p)
{
	if (l->aside_now)
		return l->aside;
	if (l->run_begin >= p->offset && l->run_begin < block_floor(p->offset + p->len))
		return l->job->dest + p->at + (l->run_begin - p->offset);
	return l->edge;
}

static void run_end(struct lane *l, const struct piece *p)
{
	const uint8_t *bytes = run_place(l, p);

	if (crc_sums_check(l->sums.data + (l->run_begin - l->begin) / BLOCK_BYTES * 4, bytes, 0,
			   l->run_end - l->run_begin) >= 0)
		l->bad = true;
	if (bytes == l->edge || (l->aside_now && !l->bad))
		piece_copy(l, p, bytes, l->run_begin, l->run_end);
}

/* The oldest request has been answered. */
static void flight_end(struct lane *l)
{
	l->first = (l->first + 1) % (READ_WINDOW + 1);
	l->n_flight--;
	l->moved_us = clock_us();
}

/* A page may have changed while sendfile sent it: asked for once more, verified by the server. */
static int piece_suspect(struct lane *l, unsigned i, bool stable, struct err *err)
{
	if (stable)
		return err_set(err, ERR_CHECKSUM, "%s", err_text(ERR_CHECKSUM));
	return piece_send(l, i, true, err);
}

static int reply_end(struct lane *l, struct err *err)
{
	unsigned i = l->flight[l->first].piece;
	bool stable = l->flight[l->first].stable;

	l->receiving = false;
	flight_end(l);
	if (l->bad)
		return piece_suspect(l, i, stable, err);
	piece_zero(l, &l->job->pieces[i], l->end);
	l->job->done[i] = true;
	return 1;
}

static void sample(struct lane *l)
{
	int64_t sent = l->flight[l->first].sent_us;
	int64_t us = clock_us() - (sent > l->moved_us ? sent : l->moved_us);

	hedge_sample(&l->job->fs->hedge, us);
	peers_took(&l->job->fs->peers, lane_from(l)->addr, us);
}

/* A refusal does not keep the others from being received. */
static int reply_refused(struct lane *l, unsigned i, int code, struct err *err)
{
	flight_end(l);
	if (code == ERR_NO_CHUNK && !(l->job->loc->flags & CHUNK_WRITTEN)) {
		/* Placed, but not written yet. */
		piece_zero(l, &l->job->pieces[i], 0);
		l->job->done[i] = true;
		return 1;
	}
	if (!l->refused) {
		l->refused = code;
		l->why = *err;
	}
	return 0;
}

static int reply_begin(struct lane *l, struct err *err)
{
	unsigned i = l->flight[l->first].piece;
	const struct piece *p = &l->job->pieces[i];
	uint32_t len = block_ceil(p->offset + p->len) - block_floor(p->offset);
	struct wire_header h;
	struct wire_read_reply rep;
	int r = conn_recv(l->conn, &h, &l->fields, reply_deadline(l), err);

	if (r < 0)
		return r;
	if (h.id != l->flight[l->first].id || h.op != OP_READ || !(h.flags & WIRE_REPLY) ||
	    (h.status && h.data_bytes > 0)) {
		l->conn->broken = true;
		return err_set(err, ERR_PROTOCOL, "%s: answer to another question", l->conn->peer);
	}
	r = wire_get_reply(&h, buf_slice(&l->fields), &rep, NULL, err);
	if (r < 0 && h.status)
		return reply_refused(l, i, r, err);
	if (r < 0 || h.data_bytes > len || h.data_bytes % BLOCK_BYTES != 0 ||
	    rep.sums.len != h.data_bytes / BLOCK_BYTES * 4) {
		l->conn->broken = true;
		return r < 0 ? r : err_set(err, ERR_PROTOCOL, "%s: READ of %u bytes was answered "
					   "with %u and %u bytes of checksums", l->conn->peer, len,
					   h.data_bytes, rep.sums.len);
	}
	sample(l);
	l->sums = rep.sums;
	l->begin = l->pos = block_floor(p->offset);
	l->end = l->begin + h.data_bytes;
	l->bad = false;
	l->aside_now = l->aside && !l->alone;
	l->receiving = true;
	run_begin(l, p);
	return l->pos == l->end ? reply_end(l, err) : 0;
}

static int reply_data(struct lane *l, struct err *err)
{
	const struct piece *p = &l->job->pieces[l->flight[l->first].piece];
	size_t n;
	int r = conn_recv_some(l->conn, run_place(l, p) + (l->pos - l->run_begin),
			       l->run_end - l->pos, &n, reply_deadline(l), err);

	if (r < 0)
		return r;
	l->moved_us = clock_us();
	l->pos += (uint32_t)n;
	if (l->pos == l->run_end) {
		run_end(l, p);
		if (l->pos == l->end)
			return reply_end(l, err);
		run_begin(l, p);
	}
	return 0;
}

int lane_step(struct lane *l, struct err *err)
{
	int r = l->receiving ? reply_data(l, err) : reply_begin(l, err);

	if (r >= 0 && l->refused && lane_idle(l)) {
		if (err)
			*err = l->why;
		return l->refused;
	}
	return r;
}
