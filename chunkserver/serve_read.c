#include "chunkserver/serve_priv.h"

#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"

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
		return session_answer(s, h, ERR_NOMEM, NULL, 0, err);
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
		return session_answer(s, h, r, local.text, 0, err);
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
		return session_answer(s, h, r, local.text, 0, err);
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

int session_read(struct session *s, const struct wire_header *h, struct err *err)
{
	struct cursor c = cursor_slice(buf_slice(&s->fields));
	struct err local = {0};
	struct replica *replica;
	struct chunk_file file;
	struct wire_read m;
	uint64_t length = 0;
	int r = wire_read_get(&c, &m), fd;

	if (r == 0)
		r = session_allowed(s, h, &(struct access_wish){.token = m.token, .chunk = m.chunk,
				    .version = m.version, .rights = TOKEN_READ}, &local);
	if (r == 0 && (m.offset % BLOCK_BYTES || m.len % BLOCK_BYTES || m.len == 0 ||
		       m.len > DATA_BYTES_MAX || m.offset > 1u << CHUNK_BITS_MAX))
		r = ERR_PROTOCOL;
	if (r == 0)
		r = acquire_for_read(s, &m, &replica, &file, &local);
	if (r < 0)
		return session_answer(s, h, r, local.text, 0, err);
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
		return session_answer(s, h, r, local.text, 0, err);
	r = send_pages(s, h, &m, &file, length, fd, err);
	close(fd);
	if (r == ERR_IO)
		look_again(s, &m);
	return r;
}

int session_sums(struct session *s, const struct wire_header *h, struct err *err)
{
	struct cursor c = cursor_slice(buf_slice(&s->fields));
	_cleanup_free_ uint8_t *sums = malloc(SUMS_BYTES_MAX);
	struct wire_sums_reply rep = {0};
	uint8_t hidden[CHUNK_HIDDEN_BYTES];
	struct err local = {0};
	struct replica *replica;
	struct chunk_file file;
	struct wire_sums m;
	int r = sums ? wire_sums_get(&c, &m) : ERR_NOMEM;

	if (r == 0)
		r = session_allowed(s, h, &(struct access_wish){.token = m.token, .chunk = m.chunk,
				    .version = m.version, .rights = TOKEN_READ}, &local);
	if (r == 0)
		r = store_acquire(s->o->store, m.chunk, m.version, 0,
				  deadline_in(s->o->io_timeout_ms), &replica, &file, &local);
	if (r < 0)
		return session_answer(s, h, r, local.text, 0, err);
	r = chunk_file_length(&file, &rep.length, &local);
	if (r == 0)
		r = chunk_file_sums(&file, 0, (uint32_t)(rep.length / BLOCK_BYTES), sums, &local);
	if (r == 0)
		r = chunk_file_hidden(&file, (uint32_t)(rep.length / BLOCK_BYTES), sums, hidden,
				      &local);
	store_release(s->o->store, replica);
	if (r < 0)
		return session_answer(s, h, r, local.text, 0, err);
	rep.sums = slice_of(sums, rep.length / BLOCK_BYTES * 4);
	if (r > 0)
		rep.hidden = slice_of(hidden, sizeof(hidden));
	buf_clear(&s->out);
	r = wire_put_reply(&s->out, h->op, h->id, h->trace, &rep, 0);
	return r < 0 ? r : conn_send(s->up, buf_slice(&s->out), NULL, 0,
				     deadline_in(s->o->io_timeout_ms), err);
}
