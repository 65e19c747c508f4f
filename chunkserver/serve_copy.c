/* COPY: a write whose bytes this server gets itself. It has them from its own replica of the source, if
 * it is a member there (a client's files have heads in common often enough), else from another
 * server; verified in any case. Then it is as if a client had sent them, with checksums made of the
 * verified bytes: the rest of the chain gets a WRITE, so all replicas are alike whatever becomes of
 * the source meanwhile.
 *
 * Nothing is locked while the source is read: the queue of this connection is empty then (serve.c),
 * so two copies never wait for each other. */
#include "chunkserver/serve_priv.h"

#include <stdlib.h>

#include "chunkserver/fetch.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/crc.h"
#include "common/fault.h"
#include "common/waits.h"

/* The whole blocks of the source that a copy touches. */
struct source {
	uint32_t offset, len; /* at most PIECE_BYTES_MAX */
	uint8_t *data, *sums;
};

static int source_here(struct session *s, const struct wire_copy *m, struct source *src,
		       struct err *err)
{
	struct store *store = s->o->store;
	int64_t deadline = deadline_in(PEER_DIAL_MS);
	struct replica *replica;
	struct chunk_file file;
	struct range range;
	size_t len = 0;
	uint32_t last = (uint32_t)((src->offset + src->len) / BLOCK_BYTES - 1);
	int r = store_acquire(store, m->source, m->source_version, 0, deadline, &replica, &file, err);

	if (r < 0)
		return r;
	if ((uint64_t)src->offset + src->len > 1ull << file.chunk_bits)
		r = err_set(err, ERR_PROTOCOL, "a copy from behind the end of a chunk");
	else
		r = store_range_lock(store, replica, src->offset / BLOCK_BYTES, last, true, deadline,
				     &range);
	if (r == 0) {
		/* As for a reader: what is in doubt may be taken back. */
		r = store_wait_committed(store, replica, src->offset / BLOCK_BYTES, last, deadline);
		if (r == 0)
			r = chunk_file_read(&file, src->offset, src->len, src->data, src->sums,
					    &len, err);
		store_range_unlock(store, &range);
	}
	if (is_damage(r))
		store_damaged(store, replica, r);
	store_release(store, replica);
	if (r == 0 && out_of_contact(s))
		r = ERR_LEASE;
	if (r == 0)
		memset(src->data + len, 0, src->len - len);
	return r;
}

/* Connects to another server, unless that is where the connection goes already. */
static int source_dial(struct session *s, const struct wire_replica *from, struct err *err)
{
	char addr[ADDR_BYTES_MAX];
	int r;

	if (from->addr.len == 0 || from->addr.len >= sizeof(addr))
		return err_set(err, ERR_PROTOCOL, "malformed address of a source");
	memcpy(addr, from->addr.data, from->addr.len);
	addr[from->addr.len] = '\0';
	if (s->source && strcmp(addr, s->source_addr) == 0 && !conn_broken(s->source) &&
	    !conn_readable(s->source))
		return 0;
	conn_free(s->source);
	s->source = NULL;
	r = conn_dial(addr, s->o->cred, ROLE_CHUNKSERVER, deadline_in(PEER_DIAL_MS), &s->source, err);
	if (r < 0)
		return r;
	memcpy(s->source_addr, addr, sizeof(addr));
	conn_watch(s->source);
	return 0;
}

static int source_there(struct session *s, const struct wire_copy *m,
			const struct wire_replica *from, struct source *src, int64_t deadline_ms,
			struct err *err)
{
	int r = source_dial(s, from, err);

	for (uint32_t at = 0; r == 0 && at < src->len;) {
		struct wire_read req = {.chunk = m->source, .version = m->source_version,
					.offset = src->offset + at, .flags = READ_STABLE,
					.token = m->source_token};
		req.len = src->len - at < DATA_BYTES_MAX ? src->len - at : DATA_BYTES_MAX;
		r = fetch_padded(s->source, &req, src->data + at, src->sums + at / BLOCK_BYTES * 4,
				 deadline_ms, err);
		at += req.len;
	}
	if (r == 0 && crc_sums_check(src->sums, src->data, 0, src->len) >= 0)
		r = err_set(err, ERR_CHECKSUM, "chunk %016llx of %s came damaged",
			    (unsigned long long)m->source, s->source_addr);
	/* What else it may send on this connection is not known. */
	if (r < 0) {
		conn_free(s->source);
		s->source = NULL;
	}
	return r;
}

/* Puts the bytes at their place in s->blocks. */
static int source_read(struct session *s, const struct wire_copy *m, struct err *err)
{
	_cleanup_free_ uint8_t *room = malloc(PIECE_BYTES_MAX + 4 * PIECE_BLOCKS_MAX);
	int64_t deadline = deadline_in(READ_BUSY_MS);
	uint32_t skip = m->source_offset % BLOCK_BYTES;
	struct source src = {
		.offset = m->source_offset - skip,
		.len = (skip + m->len + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES,
		.data = room, .sums = room + PIECE_BYTES_MAX,
	};
	int r;

	if (!room)
		return err_set(err, ERR_NOMEM, "out of memory");
	r = source_here(s, m, &src, err);
	for (unsigned i = 0; r < 0 && i < m->n_from && deadline_left(deadline) > 0; i++)
		r = source_there(s, m, &m->from[i], &src, deadline, err);
	FAULT_POINT(CS_COPY_READ, r < 0 ? "failed" : "");
	if (r == 0)
		memcpy(s->blocks + m->to.offset % BLOCK_BYTES, src.data + skip, m->len);
	return r;
}

static int copy_check(const struct wire_header *h, const struct wire_copy *m, struct err *err)
{
	if (h->data_bytes > 0 || m->len == 0 || m->len > DATA_BYTES_MAX || m->source_version == 0 ||
	    m->source_offset > 1u << CHUNK_BITS_MAX)
		return err_set(err, ERR_PROTOCOL, "malformed COPY to chunk %016llx",
			       (unsigned long long)m->to.chunk);
	return 0;
}

/* It reads the source for the client; what it writes is looked at in session_put. */
static int source_allowed(struct session *s, const struct wire_header *h,
			  const struct wire_copy *m, struct err *err)
{
	struct access_wish wish = {.token = m->source_token, .chunk = m->source,
				   .version = m->source_version, .rights = TOKEN_READ,
				   .servers = m->from, .n_servers = m->n_from};
	return session_allowed(s, h, &wish, err);
}

int session_copy(struct session *s, const struct wire_header *h, struct err *err)
{
	struct cursor c = cursor_slice(buf_slice(&s->fields));
	uint8_t sums[4 * PIECE_BLOCKS_MAX];
	struct wire_header piece = *h;
	struct err local = {0};
	struct wire_copy m;
	int r = wire_copy_get(&c, &m);

	if (r == 0)
		r = copy_check(h, &m, &local);
	if (r == 0) {
		piece.data_bytes = m.len;
		m.to.sums = slice_of(sums, 4 * (uint32_t)crc_sums_count(m.to.offset, m.len));
		r = write_check(&piece, &m.to, &local);
	}
	if (r < 0)
		return session_answer(s, h, r, local.text, 0, err);
	r = source_allowed(s, h, &m, &local);
	if (r == 0)
		r = source_read(s, &m, &local);
	if (r < 0)
		return session_answer(s, h, ERR_SOURCE, local.text, 0, err);
	crc_sums(sums, s->blocks + m.to.offset % BLOCK_BYTES, m.to.offset, m.len);
	return session_put(s, &piece, &m.to, true, err);
}
