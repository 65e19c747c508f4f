/* A connection's thread takes requests in order and answers them in order. A write that is to be
 * forwarded is answered when the next server has answered: until then it waits in a queue, and the
 * thread goes on taking writes, so that several are under way. Anything else first empties the
 * queue. The thread never blocks on a range that another connection has locked while it holds
 * locks itself: it empties its own queue first; so two connections cannot wait for each other. */
#include "chunkserver/serve.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"
#include "common/crc.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/waits.h"

enum {
	WINDOW = 8,		    /* writes whose chain has not answered */
	PIECE_BYTES = 128 << 10,    /* forwarded while it is received */
	TICK_MS = 500,		    /* how often a waiting thread looks whether it should stop */
};

/* A write under way. Ring in arrival order. */
struct pending {
	struct wire_header h;
	uint64_t chunk;
	uint32_t version;
	uint32_t next_server;
	int code; /* of the local part */
	char text[TEXT_BYTES_MAX];
	const char *place; /* in the chain, for its fault points */
	struct range range; /* locked when it was applied here */
	int64_t deadline_ms;
};

struct session {
	const struct serve_options *o;
	struct conn *up, *down;
	char down_addr[ADDR_BYTES_MAX];
	struct pending ring[WINDOW];
	unsigned first, n;
	int64_t quiet_since_ms; /* when the next server was last heard of, or asked about */
	uint8_t *blocks; /* PIECE_BYTES_MAX: a piece at its place in its blocks */
	struct buf fields, reply_fields, out;
};

static atomic_uint connections, in_progress;
static atomic_bool stopping;

unsigned serve_load(void)
{
	return atomic_load(&in_progress);
}

/* What is wrong with the replica, and not with the request or for lack of room. */
static bool is_damage(int code)
{
	return code == ERR_CHECKSUM || code == ERR_IO || code == ERR_ROFS || code == ERR_NODEV;
}

static bool out_of_contact(const struct session *s)
{
	return !lease_held(s->o->lease, clock_ms());
}

/* ---- answers ---- */

static int answer(struct session *s, const struct wire_header *h, int code, const char *text,
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
		r = conn_recv(s->down, &h, &s->reply_fields, p->deadline_ms, err);
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
static int finish_one(struct session *s, struct err *err)
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
	store_range_unlock(s->o->store, &p->range);
	FAULT_POINT(CS_WRITE_ANSWER, p->place);
	r = p->code < 0 ? answer(s, &p->h, p->code, p->text, 0, err)
			: answer(s, &p->h, code, chain.text, server, err);
	s->first = (s->first + 1) % WINDOW;
	s->n--;
	s->quiet_since_ms = clock_ms();
	atomic_fetch_sub(&in_progress, 1);
	return r;
}

static int finish_all(struct session *s, struct err *err)
{
	int r = 0;
	while (s->n > 0 && r == 0)
		r = finish_one(s, err);
	return r;
}

/* ---- WRITE ---- */

static int write_check(const struct wire_header *h, const struct wire_write *m, struct err *err)
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
	r = finish_all(s, err);
	if (r < 0)
		return r;
	down_drop(s);
	snprintf(s->down_addr, sizeof(s->down_addr), "%s", addr);
	r = conn_dial(addr, s->o->key, ROLE_CHUNKSERVER, s->o->name, deadline_in(PEER_DIAL_MS),
		      &s->down, err);
	if (r == 0)
		conn_watch(s->down, s->o->key, ROLE_CHUNKSERVER, s->o->name);
	return r;
}

/* Sends the head of the message on, with the rest of the chain. */
static int forward_head(struct session *s, const struct wire_header *h, struct wire_write m,
			struct err *err)
{
	_cleanup_buf_ struct buf out = {0};
	int r = down_dial(s, &m.chain[0], err);

	if (r < 0)
		return r;
	memmove(&m.chain[0], &m.chain[1], (m.n_chain - 1u) * sizeof(m.chain[0]));
	m.n_chain--;
	r = wire_put_request(&out, OP_WRITE, h->id, h->trace, &m, h->data_bytes);
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
		r = finish_all(s, err);
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

	*p = (struct pending){.h = *h, .chunk = m->chunk, .version = m->version};
	p->place = s->up->peer_role == ROLE_CLIENT ? "head" : m->n_chain > 0 ? "middle" : "tail";
	if (m->n_chain > 0)
		p->next_server = m->chain[0].server;
	return p;
}

static int on_write(struct session *s, const struct wire_header *h, struct err *err)
{
	struct cursor c = cursor_slice(buf_slice(&s->fields));
	struct err local = {0}, chain = {0};
	struct wire_write m;
	struct pending *p;
	int r = wire_write_get(&c, &m), forward = -1, code;

	if (r == 0)
		r = write_check(h, &m, err);
	if (r < 0)
		return r; /* what follows cannot be trusted: the connection ends */
	if (s->n == WINDOW) {
		r = finish_one(s, err);
		if (r < 0)
			return r;
	}
	p = pending_new(s, h, &m);
	FAULT_POINT(CS_WRITE_RECEIVED, p->place);
	code = out_of_contact(s) ? ERR_LEASE : lock_write(s, h, &m, p, &local);
	FAULT_POINT(CS_WRITE_LOCKED, p->place);
	if (m.n_chain > 0 && code == 0)
		forward = forward_head(s, h, m, &chain);
	r = receive_data(s, s->blocks + m.offset % BLOCK_BYTES, h->data_bytes, &forward, &chain,
			 err);
	FAULT_POINT(CS_WRITE_FORWARDED, p->place);
	if (r < 0) {
		store_range_unlock(s->o->store, &p->range);
		while (s->n > 0) /* what is whole is answered for before the connection goes */
			finish_one(s, NULL);
		down_drop(s); /* it must not take a part for the whole */
		return r;
	}
	if (code == 0 && forward < 0 && m.n_chain > 0)
		code = ERR_PEER;
	if (code == 0 && crc_sums_check(m.sums.data, s->blocks + m.offset % BLOCK_BYTES, m.offset,
			   h->data_bytes) >= 0)
		code = err_set(&local, ERR_CHECKSUM, "chunk %016llx: the data came damaged",
			       (unsigned long long)m.chunk);
	if (code == 0)
		code = apply_write(s, h, &m, p, &local);
	if (code == 0 && out_of_contact(s)) {
		code = ERR_LEASE;
		store_in_doubt(s->o->store, &p->range);
	}
	if (m.n_chain == 0 || forward < 0) {
		if (code == ERR_PEER) {
			down_drop(s);
			s->o->fault(s->o->arg, m.chunk, m.version, m.chain[0].server, forward);
			snprintf(local.text, sizeof(local.text), "%s", chain.text);
		}
		r = finish_all(s, err); /* answers keep their order */
		store_range_unlock(s->o->store, &p->range);
		FAULT_POINT(CS_WRITE_ANSWER, p->place);
		return r < 0 ? r : answer(s, h, code, local.text,
					  code == ERR_PEER ? m.chain[0].server : 0, err);
	}
	p->code = code;
	snprintf(p->text, sizeof(p->text), "%s", local.text);
	p->deadline_ms = deadline_in(m.flags & WRITE_SYNC ? sync_busy_ms(m.n_chain - 1u)
							  : write_busy_ms(m.n_chain - 1u));
	if (s->n++ == 0)
		s->quiet_since_ms = clock_ms();
	atomic_fetch_add(&in_progress, 1);
	return 0;
}

/* ---- READ, SUMS, SYNC ---- */

static int send_stable(struct session *s, const struct wire_header *h, const struct wire_read *m,
		       const struct chunk_file *file, struct replica *replica, struct err *err)
{
	_cleanup_free_ uint8_t *sums = malloc(PIECE_BLOCKS_MAX * 4);
	struct wire_read_reply rep;
	struct err local = {0};
	struct range range;
	size_t len = 0;
	int r;

	if (!sums)
		return answer(s, h, ERR_NOMEM, NULL, 0, err);
	r = store_range_lock(s->o->store, replica, m->offset / BLOCK_BYTES,
			     (m->offset + m->len - 1) / BLOCK_BYTES, true,
			     deadline_in(s->o->io_timeout_ms), &range);
	if (r == 0) {
		r = chunk_file_read(file, m->offset, m->len, s->blocks, sums, &len, &local);
		store_range_unlock(s->o->store, &range);
	}
	if (is_damage(r) && !(m->flags & READ_RECOVER))
		store_damaged(s->o->store, replica, r);
	if (r < 0)
		return answer(s, h, r, local.text, 0, err);
	rep.sums = slice_of(sums, len / BLOCK_BYTES * 4);
	buf_clear(&s->out);
	r = wire_put_reply(&s->out, h->op, h->id, h->trace, &rep, (uint32_t)len);
	return r < 0 ? r : conn_send(s->up, buf_slice(&s->out), s->blocks, len,
				     deadline_in(s->o->io_timeout_ms), err);
}

/* Sending broke off: if that was for the file's sake, it is to be known. */
static void look_again(struct session *s, const struct wire_read *m)
{
	_cleanup_free_ uint8_t *sums = malloc(PIECE_BLOCKS_MAX * 4);
	struct replica *replica;
	struct chunk_file file;
	size_t len;
	int r;

	if (!sums || store_acquire(s->o->store, m->chunk, m->version, 0,
				   deadline_in(s->o->io_timeout_ms), &replica, &file, NULL) < 0)
		return;
	r = chunk_file_read(&file, m->offset, m->len, s->blocks, sums, &len, NULL);
	if (is_damage(r) && r != ERR_CHECKSUM) /* which may be a write under way */
		store_damaged(s->o->store, replica, r);
	store_release(s->o->store, replica);
}

/* Sends the file's pages as they are, with the stored checksums: the reader verifies. */
static int send_pages(struct session *s, const struct wire_header *h, const struct wire_read *m,
		      const struct chunk_file *file, uint64_t length, int fd, struct err *err)
{
	_cleanup_free_ uint8_t *sums = malloc(PIECE_BLOCKS_MAX * 4);
	uint64_t left = m->offset < length ? length - m->offset : 0;
	uint32_t len = m->len < left ? m->len : (uint32_t)left;
	struct wire_read_reply rep;
	struct err local = {0};
	int r = sums ? chunk_file_sums(file, m->offset / BLOCK_BYTES, len / BLOCK_BYTES, sums, &local)
		     : ERR_NOMEM;

	if (r < 0) {
		if (is_damage(r))
			look_again(s, m);
		return answer(s, h, r, local.text, 0, err);
	}
	rep.sums = slice_of(sums, len / BLOCK_BYTES * 4);
	buf_clear(&s->out);
	r = wire_put_reply(&s->out, h->op, h->id, h->trace, &rep, len);
	return r < 0 ? r : conn_send_file(s->up, buf_slice(&s->out), fd,
					  file->data_offset + m->offset, len,
					  deadline_in(s->o->io_timeout_ms), err);
}

static int acquire_for_read(struct session *s, const struct wire_read *m, struct replica **ret,
			    struct chunk_file *ret_file, struct err *err)
{
	int64_t deadline = deadline_in(s->o->io_timeout_ms);

	if (!(m->flags & READ_RECOVER))
		return store_acquire(s->o->store, m->chunk, m->version, 0, deadline, ret, ret_file,
				     err);
	/* What is not known to be current is for the members that settle it among themselves. */
	if (s->up->peer_role != ROLE_CHUNKSERVER || !(m->flags & READ_STABLE))
		return err_set(err, ERR_PERM, "READ_RECOVER is for chunkservers, and stable");
	return store_acquire_unclean(s->o->store, m->chunk, m->version, deadline, ret, ret_file,
				     err);
}

static int on_read(struct session *s, const struct wire_header *h, struct err *err)
{
	struct cursor c = cursor_slice(buf_slice(&s->fields));
	struct err local = {0};
	struct replica *replica;
	struct chunk_file file;
	struct wire_read m;
	uint64_t length = 0;
	int r = wire_read_get(&c, &m), fd;

	if (r == 0 && (m.offset % BLOCK_BYTES || m.len % BLOCK_BYTES || m.len == 0 ||
		       m.len > DATA_BYTES_MAX || m.offset > 1u << CHUNK_BITS_MAX))
		r = ERR_PROTOCOL;
	if (r == 0)
		r = acquire_for_read(s, &m, &replica, &file, &local);
	if (r < 0)
		return answer(s, h, r, local.text, 0, err);
	if ((uint64_t)m.offset + m.len > 1ull << file.chunk_bits)
		r = ERR_PROTOCOL;
	if (r == 0)
		r = store_wait_committed(s->o->store, replica, m.offset / BLOCK_BYTES,
					 (m.offset + m.len - 1) / BLOCK_BYTES,
					 deadline_in(s->o->io_timeout_ms / 2));
	if (r == 0 && (m.flags & READ_STABLE)) {
		r = send_stable(s, h, &m, &file, replica, err);
		store_release(s->o->store, replica);
		return r;
	}
	if (r == 0)
		r = chunk_file_length(&file, &length, &local);
	if (r == 0 && out_of_contact(s))
		r = ERR_LEASE;
	/* Sent from a descriptor of its own: a slow reader must not hold up a raise. */
	fd = r == 0 ? dup(file.fd) : -1;
	if (r == 0 && fd < 0)
		r = ERR_MFILE;
	file.fd = fd;
	store_release(s->o->store, replica);
	if (r < 0)
		return answer(s, h, r, local.text, 0, err);
	r = send_pages(s, h, &m, &file, length, fd, err);
	close(fd);
	if (r == ERR_IO)
		look_again(s, &m);
	return r;
}

static int on_sums(struct session *s, const struct wire_header *h, struct err *err)
{
	struct cursor c = cursor_slice(buf_slice(&s->fields));
	_cleanup_free_ uint8_t *sums = malloc(SUMS_BYTES_MAX);
	struct wire_sums_reply rep = {0};
	struct err local = {0};
	struct replica *replica;
	struct chunk_file file;
	struct wire_sums m;
	int r = sums ? wire_sums_get(&c, &m) : ERR_NOMEM;

	if (r == 0)
		r = store_acquire(s->o->store, m.chunk, m.version, 0,
				  deadline_in(s->o->io_timeout_ms), &replica, &file, &local);
	if (r < 0)
		return answer(s, h, r, local.text, 0, err);
	r = chunk_file_length(&file, &rep.length, &local);
	if (r == 0)
		r = chunk_file_sums(&file, 0, (uint32_t)(rep.length / BLOCK_BYTES), sums, &local);
	store_release(s->o->store, replica);
	if (r < 0)
		return answer(s, h, r, local.text, 0, err);
	rep.sums = slice_of(sums, rep.length / BLOCK_BYTES * 4);
	buf_clear(&s->out);
	r = wire_put_reply(&s->out, h->op, h->id, h->trace, &rep, 0);
	return r < 0 ? r : conn_send(s->up, buf_slice(&s->out), NULL, 0,
				     deadline_in(s->o->io_timeout_ms), err);
}

static int forward_sync(struct session *s, const struct wire_header *h, struct wire_sync m,
			struct err *err)
{
	_cleanup_buf_ struct buf out = {0};
	int r = m.chain[0].addr.len && m.chain[0].addr.len < ADDR_BYTES_MAX
			? down_dial(s, &m.chain[0], err) : ERR_PROTOCOL;

	if (r < 0)
		return r;
	memmove(&m.chain[0], &m.chain[1], (m.n_chain - 1u) * sizeof(m.chain[0]));
	m.n_chain--;
	r = wire_put_request(&out, OP_SYNC, h->id, h->trace, &m, 0);
	return r < 0 ? r : conn_send(s->down, buf_slice(&out), NULL, 0,
				     deadline_in(s->o->io_timeout_ms), err);
}

static int on_sync(struct session *s, const struct wire_header *h, struct err *err)
{
	struct cursor c = cursor_slice(buf_slice(&s->fields));
	struct err local = {0}, chain = {0};
	struct replica *replica;
	struct chunk_file file;
	struct wire_sync m;
	struct pending p = {.h = *h};
	uint32_t server = 0;
	int r = wire_sync_get(&c, &m), forward = 0;

	if (r < 0)
		return answer(s, h, r, NULL, 0, err);
	/* The others sync while this one does. */
	if (m.n_chain > 0)
		forward = forward_sync(s, h, m, &chain);
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
	return answer(s, h, r, local.text, server, err);
}

/* ---- a connection ---- */

static int on_message(struct session *s, const struct wire_header *h, struct err *err)
{
	int r = 0;

	if (h->flags & WIRE_REPLY)
		return err_set(err, ERR_PROTOCOL, "sent a reply to nothing");
	if (h->op == OP_WRITE)
		return on_write(s, h, err);
	r = finish_all(s, err);
	if (r == 0 && h->data_bytes > 0)
		r = err_set(err, ERR_PROTOCOL, "%s with data", wire_op_name(h->op));
	if (r < 0)
		return r;
	if (out_of_contact(s))
		return answer(s, h, ERR_LEASE, NULL, 0, err);
	atomic_fetch_add(&in_progress, 1);
	switch (h->op) {
	case OP_READ: r = on_read(s, h, err); break;
	case OP_SUMS: r = on_sums(s, h, err); break;
	case OP_SYNC: r = on_sync(s, h, err); break;
	default: r = answer(s, h, ERR_PROTOCOL, "not a request of the data port", 0, err);
	}
	atomic_fetch_sub(&in_progress, 1);
	return r;
}

/* Waits for the next request or the next answer of the chain: 1 a request, 0 look again. */
static int next_event(struct session *s, struct err *err)
{
	struct pollfd p[2] = {{.fd = s->up->fd, .events = POLLIN},
			      {.fd = s->down && s->n > 0 ? s->down->fd : -1, .events = POLLIN}};
	int wait = TICK_MS;

	if (s->n > 0 && !s->down)
		return finish_one(s, err);
	if (s->n > 0) {
		int left = deadline_left(s->ring[s->first].deadline_ms);
		int quiet = deadline_left(s->quiet_since_ms + PROBE_QUIET_MS);
		if (left == 0 || s->down->rpos < s->down->rend)
			return finish_one(s, err);
		if (quiet == 0) {
			if (conn_probe(s->down, NULL) < 0)
				return finish_one(s, err);
			s->quiet_since_ms = clock_ms();
			return 0;
		}
		wait = left < wait ? left : wait;
		wait = quiet < wait ? quiet : wait;
	}
	if (s->up->rpos < s->up->rend)
		return 1;
	if (poll(p, 2, wait) < 0)
		return errno == EINTR ? 0 : err_set_errno(err, errno, "poll");
	if (p[1].revents)
		return finish_one(s, err);
	return p[0].revents ? 1 : 0;
}

static void session_run(struct session *s)
{
	struct err err = {0};
	int r = 0;

	while (r == 0 && !(atomic_load(&stopping) && s->n == 0)) {
		struct wire_header h;
		r = next_event(s, &err);
		if (r <= 0)
			continue;
		r = conn_recv(s->up, &h, &s->fields, deadline_in(s->o->io_timeout_ms), &err);
		if (r == 0)
			r = on_message(s, &h, &err);
	}
	if (r < 0 && r != ERR_CLOSED)
		log_warn("%s (%s): %s", s->up->peer, s->up->peer_name, err_message(&err));
	/* Writes that were received whole are finished, whoever asked for them. */
	while (s->n > 0)
		finish_one(s, &err);
}

struct start {
	const struct serve_options *o;
	int fd;
};

static void *connection_thread(void *arg)
{
	struct start *start = arg;
	struct session *s = calloc(1, sizeof(*s));
	struct err err = {0};

	if (s) {
		s->o = start->o;
		s->blocks = malloc(PIECE_BYTES_MAX);
	}
	if (!s || !s->blocks)
		close(start->fd);
	else if (conn_accept(start->fd, start->o->key, ROLE_CHUNKSERVER,
			     deadline_in(start->o->io_timeout_ms), &s->up, &err) == 0)
		session_run(s);
	else if (err.code != ERR_CLOSED) /* somebody only looked whether the port is open */
		log_warn("%s", err_message(&err));
	if (s) {
		conn_free(s->up);
		conn_free(s->down);
		free(s->blocks);
		buf_release(&s->fields);
		buf_release(&s->reply_fields);
		buf_release(&s->out);
	}
	free(s);
	free(start);
	atomic_fetch_sub(&connections, 1);
	return NULL;
}

static void accept_one(const struct serve_options *o, int listen_fd)
{
	struct start *start;
	pthread_t thread;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			log_warn("accept: %s", strerror(errno));
			poll(NULL, 0, 10); /* out of descriptors: give others time to end */
		}
		return;
	}
	start = malloc(sizeof(*start));
	if (!start || atomic_load(&connections) >= (unsigned)o->max_connections) {
		log_warn("connection refused: %s", start ? "max_connections reached" : "no memory");
		free(start);
		close(fd);
		return;
	}
	*start = (struct start){o, fd};
	atomic_fetch_add(&connections, 1);
	if (pthread_create(&thread, NULL, connection_thread, start) != 0) {
		atomic_fetch_sub(&connections, 1);
		close(fd);
		free(start);
		return;
	}
	pthread_detach(thread);
}

void serve(const struct serve_options *options, int listen_fd, int stop_fd)
{
	struct pollfd p[2] = {{.fd = listen_fd, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};

	while (!(p[1].revents & POLLIN)) {
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[0].revents & POLLIN)
			accept_one(options, listen_fd);
	}
	atomic_store(&stopping, true);
	while (atomic_load(&connections) > 0)
		poll(NULL, 0, 20);
}
