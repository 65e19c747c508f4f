/* Exactly once. A client sends a write again when it got no answer, or when the chain failed,
 * perhaps to a new head at the next version. Another client's write of the same bytes may have come
 * between: so the head does not apply again what every member has already (store_has_write). That
 * is so when the whole chain answered; and when the head itself had applied it before the last
 * raise, since that made the members equal, to this one's content (one that was given another's has
 * forgotten its writes). All members remember, since each may become the head; only the head, which
 * is asked by the client, decides.
 *
 * It is remembered in memory, the last 64 writes of a chunk. What remains possible: a write is
 * applied twice when every member that remembers it restarted, or got a copy, or saw 64 others,
 * between the two. That shows only if somebody read the first and another write of the same bytes
 * came between. */
#include "chunkserver/serve_priv.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/crc.h"
#include "common/fault.h"
#include "common/waits.h"

bool is_damage(int code)
{
	return code == ERR_CHECKSUM || code == ERR_IO || code == ERR_ROFS || code == ERR_NODEV;
}

bool out_of_contact(const struct session *s)
{
	return !lease_held(s->o->lease, clock_ms());
}

/* ---- answers ---- */

int session_answer(struct session *s, const struct wire_header *h, int code, const char *text,
		  uint32_t server, struct err *err)
{
	struct wire_empty empty;
	int r;

	buf_clear(&s->out);
	r = code < 0 ? wire_put_failure(&s->out, h->op, h->id, h->trace, code,
					text && text[0] ? text : err_text(code), server)
		     : wire_put_reply(&s->out, h->op, h->id, h->trace, &empty, 0);
	return r < 0 ? r : conn_send(s->up, buf_slice(&s->out), NULL, 0,
				     deadline_in(s->o->io_timeout_ms), err);
}

static void down_drop(struct session *s)
{
	conn_free(s->down);
	s->down = NULL;
}

/* What the next server said about the oldest write. ERR_PEER: it failed; *ret_server who. */
static int down_result(struct session *s, const struct pending *p, uint32_t *ret_server,
		       struct err *err)
{
	struct wire_empty empty;
	struct wire_header h;
	bool broken;
	int r;

	if (!s->down)
		r = err_set(err, ERR_CLOSED, "connection to the next server lost");
	else if (conn_broken(s->down)) /* next_event found out */
		r = err_set(err, ERR_UNREACHABLE, "%s: does not answer any more", s->down_addr);
	else
		r = conn_recv_reply(s->down, p->down_op, p->down_id, &h, &s->reply_fields,
				    p->deadline_ms, err);
	broken = r < 0;
	*ret_server = 0;
	if (r == 0)
		r = wire_get_reply(&h, buf_slice(&s->reply_fields), &empty, ret_server, err);
	if (broken)
		down_drop(s);
	if (r == 0 || (r == ERR_PEER && *ret_server))
		return r;
	/* These are about the chunk, not the server: the writer asks the master again. */
	if (!broken && (r == ERR_CHUNK_VERSION || r == ERR_CHUNK_PENDING))
		return r;
	if (!broken && r == ERR_CHECKSUM && p->code == ERR_CHECKSUM)
		return r; /* what came was bad already */
	*ret_server = p->next_server;
	if (!broken && r == ERR_LEASE)
		return ERR_PEER; /* the master knows better than we who has its contact */
	s->o->fault(s->o->arg, p->chunk, p->version, p->next_server, r);
	return ERR_PEER;
}

/* Takes the oldest write's outcome and answers it. */
int session_finish_one(struct session *s, struct err *err)
{
	struct pending *p = &s->ring[s->first];
	struct err chain = {0};
	uint32_t server = 0;
	int code = down_result(s, p, &server, &chain), r;

	/* Others may have gone on without this server meanwhile: it cannot say that this counts. */
	if (code == 0 && p->code == 0 && out_of_contact(s))
		p->code = ERR_LEASE;
	if (code < 0 || p->code < 0) /* not on every member alike */
		store_in_doubt(s->o->store, &p->range);
	else
		store_note_write(s->o->store, &p->range, p->session, p->seq, true);
	store_range_unlock(s->o->store, &p->range);
	FAULT_POINT(CS_WRITE_ANSWER, p->place);
	r = p->code < 0 ? session_answer(s, &p->h, p->code, p->text, 0, err)
			: session_answer(s, &p->h, code, chain.text, server, err);
	s->first = (s->first + 1) % WINDOW;
	s->n--;
	s->quiet_since_ms = clock_ms();
	atomic_fetch_sub(&serve_in_progress, 1);
	return r;
}

int session_finish_all(struct session *s, struct err *err)
{
	int r = 0;
	while (s->n > 0 && r == 0)
		r = session_finish_one(s, err);
	return r;
}

/* ---- WRITE ---- */

int write_check(const struct wire_header *h, const struct wire_write *m, struct err *err)
{
	if (m->chunk_bits < CHUNK_BITS_MIN || m->chunk_bits > CHUNK_BITS_MAX ||
	    h->data_bytes == 0 || m->offset > 1u << m->chunk_bits ||
	    h->data_bytes > (1u << m->chunk_bits) - m->offset || m->version == 0 ||
	    m->sums.len != 4 * crc_sums_count(m->offset, h->data_bytes))
		return err_set(err, ERR_PROTOCOL, "malformed WRITE of chunk %016llx",
			       (unsigned long long)m->chunk);
	for (unsigned i = 0; i < m->n_chain; i++)
		if (m->chain[i].addr.len == 0 || m->chain[i].addr.len >= ADDR_BYTES_MAX)
			return err_set(err, ERR_PROTOCOL, "malformed chain");
	return 0;
}

/* A writer's chunks have chains of their own: the connections that they alternate between are kept, for a
 * new one costs a handshake. Nothing is outstanding on the present one. */
static void down_put_aside(struct session *s)
{
	if (!s->down)
		return;
	conn_free(s->others[OTHERS - 1]);
	memmove(&s->others[1], &s->others[0], (OTHERS - 1) * sizeof(s->others[0]));
	s->others[0] = s->down;
	s->down = NULL;
}

/* The one that goes to addr, if it is kept and still open: an idle one that is readable has ended. */
static struct conn *down_take_back(struct session *s, const char *addr)
{
	for (unsigned i = 0; i < OTHERS && s->others[i]; i++) {
		struct conn *c = s->others[i];
		if (strcmp(c->peer, addr) != 0)
			continue;
		memmove(&s->others[i], &s->others[i + 1], (OTHERS - 1 - i) * sizeof(s->others[0]));
		s->others[OTHERS - 1] = NULL;
		if (!conn_broken(c) && !conn_readable(c))
			return c;
		conn_free(c);
		return NULL;
	}
	return NULL;
}

/* Connects to the next server, unless that is where the connection goes already. */
static int down_dial(struct session *s, const struct wire_replica *next, struct err *err)
{
	char addr[ADDR_BYTES_MAX];
	int r;

	memcpy(addr, next->addr.data, next->addr.len);
	addr[next->addr.len] = '\0';
	if (s->down && strcmp(addr, s->down_addr) == 0 && (s->n > 0 || !conn_readable(s->down)))
		return 0;
	/* Answers that the old connection owes come first. A readable one without a question
	 * outstanding has been closed by its other end. */
	r = session_finish_all(s, err);
	if (r < 0)
		return r;
	if (s->down && strcmp(addr, s->down_addr) == 0)
		down_drop(s); /* it has ended */
	down_put_aside(s);
	snprintf(s->down_addr, sizeof(s->down_addr), "%s", addr);
	s->down = down_take_back(s, addr);
	if (s->down)
		return 0;
	r = conn_dial(addr, s->o->cred, ROLE_CHUNKSERVER, deadline_in(PEER_DIAL_MS), &s->down, err);
	if (r == 0)
		conn_watch(s->down);
	return r;
}

/* Sends the head of the message on, with the rest of the chain. */
static int forward_head(struct session *s, struct pending *p, struct wire_write m,
			struct err *err)
{
	_cleanup_buf_ struct buf out = {0};
	const struct wire_header *h = &p->h;
	int r = down_dial(s, &m.chain[0], err);

	if (r < 0)
		return r;
	p->down_id = s->down->next_id++;
	memmove(&m.chain[0], &m.chain[1], (m.n_chain - 1u) * sizeof(m.chain[0]));
	m.n_chain--;
	r = wire_put_request(&out, OP_WRITE, p->down_id, h->trace, &m, h->data_bytes);
	return r < 0 ? r : conn_send(s->down, buf_slice(&out), NULL, 0,
				     deadline_in(s->o->io_timeout_ms), err);
}

/* Receives the data, forwarding it while it comes. *forward is cleared when that fails. */
static int receive_data(struct session *s, uint8_t *to, uint32_t left, int *forward,
			struct err *forward_err, struct err *err)
{
	int64_t deadline = deadline_in(s->o->io_timeout_ms);

	while (left > 0) {
		size_t n, want = left < PIECE_BYTES ? left : PIECE_BYTES;
		int r = conn_recv_some(s->up, to, want, &n, deadline, err);
		if (r < 0)
			return r;
		if (*forward == 0)
			*forward = conn_send_raw(s->down, to, n, deadline, forward_err);
		to += n;
		left -= (uint32_t)n;
	}
	return 0;
}

/* Locks the blocks of a write before anything is forwarded: the head's order of locks is the order
 * in which the rest of the chain sees writes of one block. */
static int lock_write(struct session *s, const struct wire_header *h, const struct wire_write *m,
		      struct pending *p, struct err *err)
{
	struct store *store = s->o->store;
	int64_t deadline = deadline_in(s->o->io_timeout_ms);
	uint32_t first = m->offset / BLOCK_BYTES, last = (m->offset + h->data_bytes - 1) / BLOCK_BYTES;
	struct replica *replica;
	struct chunk_file file;
	struct range range = {0};

	for (bool wait = false;; wait = true) {
		int r = store_acquire(store, m->chunk, m->version,
				      m->flags & WRITE_CREATE ? m->chunk_bits : 0, deadline,
				      &replica, &file, err);
		if (r < 0)
			return r;
		if (file.chunk_bits != m->chunk_bits)
			r = err_set(err, ERR_PROTOCOL, "chunk %016llx has another size",
				    (unsigned long long)m->chunk);
		if (r == 0)
			r = store_range_lock(store, replica, first, last, wait, deadline, &p->range);
		if (r < 0)
			p->range = range;
		store_release(store, replica);
		if (r != ERR_BUSY || wait)
			return r;
		/* Not while others may be waiting for what this connection has locked. */
		r = session_finish_all(s, err);
		if (r < 0)
			return r;
	}
}

/* Writes the piece in s->blocks into the own replica; its range stays locked. */
static int apply_write(struct session *s, const struct wire_header *h, const struct wire_write *m,
		       struct pending *p, struct err *err)
{
	struct store *store = s->o->store;
	struct replica *replica;
	struct chunk_file file;
	bool torn = false;
	int r = store_acquire(store, m->chunk, m->version, 0, deadline_in(s->o->io_timeout_ms),
			      &replica, &file, err);

	if (r < 0)
		return r;
	r = store_will_write(store, replica, err);
	FAULT_POINT(CS_WRITE_JOURNALED, p->place);
	if (r == 0) {
		r = store_range_apply(store, &p->range)
			    ? chunk_file_write(&file, s->blocks, m->offset, h->data_bytes,
					       m->sums.data, &torn, err)
			    : err_set(err, ERR_CHUNK_VERSION, "chunk %016llx was raised meanwhile",
				      (unsigned long long)m->chunk);
		FAULT_POINT(CS_WRITE_APPLIED, p->place);
		store_did_write(store, replica);
		if (r == 0 && (m->flags & WRITE_SYNC))
			r = store_sync(store, replica, &file, err);
	}
	if (torn || is_damage(r))
		store_damaged(store, replica, r);
	store_release(store, replica);
	return r;
}

/* The range struct is linked into the replica's list: it must be in its final place. */
static struct pending *pending_new(struct session *s, const struct wire_header *h,
				   const struct wire_write *m)
{
	struct pending *p = &s->ring[(s->first + s->n) % WINDOW];

	*p = (struct pending){.h = *h, .chunk = m->chunk, .version = m->version,
			      .session = m->session, .seq = m->seq};
	p->down_op = OP_WRITE;
	p->place = s->up->peer_role != ROLE_CHUNKSERVER ? "head" : m->n_chain > 0 ? "middle" : "tail";
	if (m->n_chain > 0)
		p->next_server = m->chain[0].server;
	return p;
}

/* The part of a write that is for this server, once it was received whole. */
static int write_here(struct session *s, const struct wire_header *h, const struct wire_write *m,
		      struct pending *p, struct err *err)
{
	int r;

	if (crc_sums_check(m->sums.data, s->blocks + m->offset % BLOCK_BYTES, m->offset,
			   h->data_bytes) >= 0)
		return err_set(err, ERR_CHECKSUM, "chunk %016llx: the data came damaged",
			       (unsigned long long)m->chunk);
	r = apply_write(s, h, m, p, err);
	if (r == 0 && out_of_contact(s)) {
		store_in_doubt(s->o->store, &p->range);
		return ERR_LEASE;
	}
	if (r == 0)
		store_note_write(s->o->store, &p->range, m->session, m->seq, m->n_chain == 0);
	return r;
}

/* Answers a write that waits for nobody. */
static int write_answer(struct session *s, struct pending *p, int code, const char *text,
			struct err *err)
{
	struct wire_header h = p->h;
	uint32_t server = code == ERR_PEER ? p->next_server : 0;
	int r = session_finish_all(s, err); /* answers keep their order */

	store_range_unlock(s->o->store, &p->range);
	FAULT_POINT(CS_WRITE_ANSWER, p->place);
	return r < 0 ? r : session_answer(s, &h, code, text, server, err);
}

int session_write(struct session *s, const struct wire_header *h, struct err *err)
{
	struct cursor c = cursor_slice(buf_slice(&s->fields));
	struct wire_write m;
	int r = wire_write_get(&c, &m);

	if (r == 0)
		r = write_check(h, &m, err);
	/* Else what follows cannot be trusted: the connection ends. */
	return r < 0 ? r : session_put(s, h, &m, false, err);
}

static int write_allowed(struct session *s, const struct wire_header *h,
			 const struct wire_write *m, struct err *err)
{
	struct access_wish wish = {.token = m->token, .chunk = m->chunk, .version = m->version,
				   .rights = TOKEN_WRITE, .session = m->session,
				   .servers = m->chain, .n_servers = m->n_chain};
	return session_allowed(s, h, &wish, err);
}

int session_put(struct session *s, const struct wire_header *h, const struct wire_write *m, bool here,
		struct err *err)
{
	uint8_t *data = s->blocks + m->offset % BLOCK_BYTES;
	struct err local = {0}, chain = {0};
	struct pending *p;
	int r = 0, forward = -1, code;
	bool again = false;

	if (s->n == WINDOW) {
		r = session_finish_one(s, err);
		if (r < 0)
			return r;
	}
	p = pending_new(s, h, m);
	FAULT_POINT(CS_WRITE_RECEIVED, p->place);
	code = out_of_contact(s) ? ERR_LEASE : write_allowed(s, h, m, &local);
	if (code == 0)
		code = lock_write(s, h, m, p, &local);
	FAULT_POINT(CS_WRITE_LOCKED, p->place);
	if (code == 0 && s->up->peer_role != ROLE_CHUNKSERVER)
		again = store_has_write(s->o->store, &p->range, m->session, m->seq);
	if (m->n_chain > 0 && code == 0 && !again)
		forward = forward_head(s, p, *m, &chain);
	if (!here)
		r = receive_data(s, data, h->data_bytes, &forward, &chain, err);
	else if (forward == 0)
		forward = conn_send_raw(s->down, data, h->data_bytes, deadline_in(s->o->io_timeout_ms),
					&chain);
	FAULT_POINT(CS_WRITE_FORWARDED, p->place);
	if (r < 0) {
		store_range_unlock(s->o->store, &p->range);
		while (s->n > 0) /* what is whole is answered for before the connection goes */
			session_finish_one(s, NULL);
		down_drop(s); /* it must not take a part for the whole */
		return r;
	}
	if (code == 0 && again)
		return write_answer(s, p, out_of_contact(s) ? ERR_LEASE : 0, NULL, err);
	if (code == 0 && forward < 0 && m->n_chain > 0) {
		down_drop(s);
		s->o->fault(s->o->arg, m->chunk, m->version, m->chain[0].server, forward);
		return write_answer(s, p, ERR_PEER, chain.text, err);
	}
	if (code == 0)
		code = write_here(s, h, m, p, &local);
	if (forward < 0)
		return write_answer(s, p, code, local.text, err);
	p->code = code;
	snprintf(p->text, sizeof(p->text), "%s", local.text);
	p->deadline_ms = deadline_in(m->flags & WRITE_SYNC ? sync_busy_ms(m->n_chain - 1u)
							  : write_busy_ms(m->n_chain - 1u));
	if (s->n++ == 0)
		s->quiet_since_ms = clock_ms();
	atomic_fetch_add(&serve_in_progress, 1);
	return 0;
}

/* ---- SYNC ---- */

static int forward_sync(struct session *s, struct pending *p, struct wire_sync m, struct err *err)
{
	_cleanup_buf_ struct buf out = {0};
	int r = m.chain[0].addr.len && m.chain[0].addr.len < ADDR_BYTES_MAX
			? down_dial(s, &m.chain[0], err) : ERR_PROTOCOL;

	if (r < 0)
		return r;
	memmove(&m.chain[0], &m.chain[1], (m.n_chain - 1u) * sizeof(m.chain[0]));
	m.n_chain--;
	p->down_id = s->down->next_id++;
	r = wire_put_request(&out, OP_SYNC, p->down_id, p->h.trace, &m, 0);
	return r < 0 ? r : conn_send(s->down, buf_slice(&out), NULL, 0,
				     deadline_in(s->o->io_timeout_ms), err);
}

int session_sync(struct session *s, const struct wire_header *h, struct err *err)
{
	struct cursor c = cursor_slice(buf_slice(&s->fields));
	struct err local = {0}, chain = {0};
	struct replica *replica;
	struct chunk_file file;
	struct wire_sync m;
	struct pending p = {.h = *h, .down_op = OP_SYNC};
	uint32_t server = 0;
	int r = wire_sync_get(&c, &m), forward = 0;

	if (r == 0)
		r = session_allowed(s, h, &(struct access_wish){.token = m.token, .chunk = m.chunk,
				    .version = m.version, .rights = TOKEN_READ | TOKEN_WRITE,
				    .servers = m.chain, .n_servers = m.n_chain}, &local);
	if (r < 0)
		return session_answer(s, h, r, local.text, 0, err);
	/* The others sync while this one does. */
	if (m.n_chain > 0)
		forward = forward_sync(s, &p, m, &chain);
	FAULT_POINT(CS_SYNC, "");
	r = store_acquire(s->o->store, m.chunk, m.version, 0, deadline_in(s->o->io_timeout_ms),
			  &replica, &file, &local);
	if (r == 0) {
		r = store_sync(s->o->store, replica, &file, &local);
		store_release(s->o->store, replica);
	}
	if (m.n_chain > 0) {
		int code;
		p.chunk = m.chunk;
		p.version = m.version;
		p.next_server = m.chain[0].server;
		p.deadline_ms = deadline_in(sync_busy_ms(m.n_chain - 1u));
		if (forward < 0)
			down_drop(s);
		code = down_result(s, &p, &server, &chain);
		if (r == 0 && code < 0) {
			r = code;
			local = chain;
		}
	}
	if (r == 0 && out_of_contact(s))
		r = ERR_LEASE;
	FAULT_POINT(CS_SYNC_ANSWER, "");
	return session_answer(s, h, r, local.text, server, err);
}
