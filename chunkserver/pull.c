#include "chunkserver/pull.h"

#include <stdlib.h>

#include "chunkserver/fetch.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/crc.h"
#include "common/log.h"

enum { PULL_IO_MS = 10000 };

struct pull {
	const struct io *io;
	struct conn *source;
	const struct wire_chunk_pull *req;
	uint64_t length;       /* of the source, in bytes */
	struct buf sums;       /* of the source */
	struct chunk_file own; /* fd -1: none */
	struct chunk_file copy;
	uint8_t *data;         /* DATA_BYTES_MAX */
	uint64_t fetched;
	int disk_code; /* of the last write of the copy: what fails there is not the source */
};

static int fetch_sums(struct pull *p, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_sums req = {.chunk = p->req->chunk, .version = p->req->source_version};
	struct wire_sums_reply rep;
	int r = conn_call(p->source, OP_SUMS, 0, &req, &rep, &fields, deadline_in(PULL_IO_MS), err);

	if (r < 0)
		return r;
	if (rep.length % BLOCK_BYTES || rep.length > 1ull << p->req->chunk_bits ||
	    rep.sums.len != rep.length / BLOCK_BYTES * 4)
		return err_set(err, ERR_PROTOCOL, "%s: malformed checksum table", p->source->peer);
	p->length = rep.length;
	buf_append_slice(&p->sums, rep.sums);
	return buf_status(&p->sums);
}

/* The block from the own replica, if it is the source's: 1 and the data, 0. */
static int own_block(struct pull *p, uint32_t block, uint8_t *ret)
{
	uint8_t sum[4];
	size_t n;

	if (p->own.fd < 0 || chunk_file_sums(&p->own, block, 1, sum, NULL) < 0 ||
	    memcmp(sum, p->sums.data + 4ull * block, 4) != 0)
		return 0;
	return chunk_file_read(&p->own, block * BLOCK_BYTES, BLOCK_BYTES, ret, sum, &n, NULL) == 0 &&
	       n == BLOCK_BYTES && memcmp(sum, p->sums.data + 4ull * block, 4) == 0;
}

/* Blocks first .. first+n-1 from the source, verified. They may have been written to since its table
 * was fetched: then they come as they are now, with their checksums. What is written during a copy
 * reaches this server when the master compares it with the others, before it becomes a member. */
static int fetch_verified(struct pull *p, uint32_t first, uint32_t n, uint8_t *ret,
			  struct err *err)
{
	struct wire_read req = {.chunk = p->req->chunk, .version = p->req->source_version,
				.offset = first * BLOCK_BYTES, .len = n * BLOCK_BYTES,
				.flags = READ_STABLE};
	uint8_t *sums = p->sums.data + 4ull * first;
	int r = fetch_blocks(p->source, &req, ret, sums, deadline_in(PULL_IO_MS), err);

	if (r == 0 && crc_sums_check(sums, ret, 0, n * BLOCK_BYTES) >= 0)
		r = err_set(err, ERR_CHECKSUM, "%s: chunk %016llx was damaged on its way",
			    p->source->peer, (unsigned long long)p->req->chunk);
	p->fetched += r == 0 ? n : 0;
	return r;
}

static int put_blocks(struct pull *p, uint32_t first, uint32_t n, uint8_t *data, struct err *err)
{
	bool torn;

	p->disk_code = chunk_file_write(&p->copy, data, first * BLOCK_BYTES, n * BLOCK_BYTES,
					p->sums.data + 4ull * first, &torn, err);
	return p->disk_code;
}

static int end_copy(struct pull *p, struct err *err)
{
	int r = p->io->ftruncate(p->io, p->copy.fd, p->copy.data_offset + p->length);

	if (r < 0)
		err_set(err, r, "chunk %016llx: %s", (unsigned long long)p->req->chunk,
			err_text(r));
	else
		r = chunk_file_sync(&p->copy, err);
	p->disk_code = r;
	return r;
}

/* Walks the table: own blocks one by one, others in runs; zeros are left as holes. */
static int copy_blocks(struct pull *p, struct err *err)
{
	static const uint8_t zero_sum[4];
	uint32_t blocks = (uint32_t)(p->length / BLOCK_BYTES), at = 0;
	int r = 0;

	while (r == 0 && at < blocks) {
		uint32_t n = 0;
		while (at + n < blocks && n < DATA_BYTES_MAX / BLOCK_BYTES &&
		       memcmp(p->sums.data + 4ull * (at + n), zero_sum, 4) != 0 &&
		       !own_block(p, at + n, p->data))
			n++;
		if (n > 0) {
			r = fetch_verified(p, at, n, p->data, err);
			if (r == 0)
				r = put_blocks(p, at, n, p->data, err);
			at += n;
		} else {
			if (memcmp(p->sums.data + 4ull * at, zero_sum, 4) != 0)
				r = put_blocks(p, at, 1, p->data, err);
			at++;
		}
	}
	return r == 0 ? end_copy(p, err) : r;
}

static int pull_into(struct store *s, struct pull *p, struct wire_chunk_state *ret,
		     struct err *err)
{
	struct store_copy copy;
	int r = store_copy_begin(s, p->req->chunk, p->req->new_version, p->length, &copy, err);

	if (r < 0)
		return r;
	r = chunk_file_create(p->io, copy.path, p->req->chunk, p->req->chunk_bits, &p->copy, err);
	if (r < 0) {
		store_disk_error(s, copy.disk, r, true);
		return r;
	}
	r = copy_blocks(p, err);
	store_disk_error(s, copy.disk, p->disk_code, false);
	*ret = (struct wire_chunk_state){.present = 1, .length = p->length};
	if (r == 0)
		r = chunk_file_digest(&p->copy, &ret->digest, err);
	chunk_file_close(&p->copy);
	if (r == 0)
		r = store_install(s, p->req->chunk, p->req->new_version, &copy, err);
	if (r < 0)
		p->io->unlink(p->io, copy.path);
	return r;
}

int pull_chunk(struct store *s, const struct auth_key *key, const char *name,
	       const struct wire_chunk_pull *req, struct wire_chunk_state *ret, struct err *err)
{
	struct pull p = {.io = store_io(s), .req = req, .own = {.fd = -1}};
	char addr[ADDR_BYTES_MAX];
	struct replica *own = NULL;
	int r;

	if (req->chunk_bits < CHUNK_BITS_MIN || req->chunk_bits > CHUNK_BITS_MAX ||
	    req->source.addr.len >= sizeof(addr))
		return err_set(err, ERR_PROTOCOL, "malformed pull");
	memcpy(addr, req->source.addr.data, req->source.addr.len);
	addr[req->source.addr.len] = '\0';
	p.data = malloc(DATA_BYTES_MAX + BLOCK_BYTES);
	if (!p.data)
		return err_set(err, ERR_NOMEM, "out of memory");
	r = conn_dial(addr, key, ROLE_CHUNKSERVER, name, deadline_in(PULL_IO_MS), &p.source, err);
	if (r == 0)
		r = fetch_sums(&p, err);
	/* The own file is only looked at, so its user must be gone before it is replaced. */
	if (r == 0 && store_peek(s, req->chunk, &own, &p.own) == 1) {
		p.own.fd = dup(p.own.fd);
		store_release(s, own);
	}
	if (r == 0)
		r = pull_into(s, &p, ret, err);
	if (p.own.fd >= 0)
		close(p.own.fd);
	if (r == 0)
		log_info("chunk %016llx v%u: copied from %s, %llu of %llu blocks sent",
			 (unsigned long long)req->chunk, req->new_version, addr,
			 (unsigned long long)p.fetched,
			 (unsigned long long)(p.length / BLOCK_BYTES));
	conn_free(p.source);
	buf_release(&p.sums);
	free(p.data);
	return r < 0 ? err_prefix(err, r, "pull of chunk %016llx from %s",
				  (unsigned long long)req->chunk, addr) : 0;
}
