#include "chunkserver/pull.h"

#include <stdlib.h>

#include "chunkserver/fetch.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/crc.h"
#include "common/log.h"

/* Up to PATCH_BLOCKS_MAX blocks that differ are held in memory, and put into the own replica. */
enum { PULL_IO_MS = 10000, PATCH_BLOCKS_MAX = 2048, RUN_BLOCKS_MAX = DATA_BYTES_MAX / BLOCK_BYTES };

struct pull {
	const struct io *io;
	struct conn *source;
	const struct wire_chunk_pull *req;
	uint64_t length;       /* of the source, in bytes */
	struct buf sums;       /* of the source */
	struct buf hidden;     /* as in wire_sums_reply */
	struct chunk_file own; /* fd -1: none */
	struct store_seen seen; /* how that was */
	uint64_t begun;		/* the moment when the copy was ordered */
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
	    rep.sums.len != rep.length / BLOCK_BYTES * 4 ||
	    (rep.hidden.len && rep.hidden.len < (rep.length / BLOCK_BYTES + 7) / 8))
		return err_set(err, ERR_PROTOCOL, "%s: malformed checksum table", p->source->peer);
	p->length = rep.length;
	buf_append_slice(&p->sums, rep.sums);
	buf_append_slice(&p->hidden, rep.hidden);
	r = buf_status(&p->hidden);
	return r < 0 ? r : buf_status(&p->sums);
}

static bool is_hidden(const struct pull *p, uint32_t block)
{
	return p->hidden.len && (p->hidden.data[block / 8] >> block % 8 & 1);
}

static bool is_hole(const struct pull *p, uint32_t block)
{
	return get_le32(p->sums.data + 4ull * block) == 0 && !is_hidden(p, block);
}

/* The block from the own replica, if it is the source's: 1 and the data, 0. */
static int own_block(struct pull *p, uint32_t block, uint8_t *ret)
{
	uint8_t sum[4];
	size_t n;

	if (p->own.fd < 0 || is_hidden(p, block) || chunk_file_sums(&p->own, block, 1, sum, NULL) < 0 ||
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

/* ---- a whole copy ---- */

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
	uint32_t blocks = (uint32_t)(p->length / BLOCK_BYTES), at = 0;
	int r = 0;

	while (r == 0 && at < blocks) {
		uint32_t n = 0;
		while (at + n < blocks && n < RUN_BLOCKS_MAX &&
		       !is_hole(p, at + n) && !own_block(p, at + n, p->data))
			n++;
		if (n > 0) {
			r = fetch_verified(p, at, n, p->data, err);
			if (r == 0)
				r = put_blocks(p, at, n, p->data, err);
			at += n;
		} else {
			if (!is_hole(p, at))
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
	copy.lossy = p->req->lossy;
	copy.begun = p->begun;
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

/* ---- what differs, in place ---- */

/* Blocks first .. first+n-1 of the source, of which the own replica has something else. */
struct run {
	uint32_t first, n;
};

struct patch {
	struct run *runs; /* PATCH_BLOCKS_MAX, as `data` has room for so many blocks */
	uint8_t *data;
	uint32_t n_runs, n_blocks;
};

/* The own block is the source's, or both are zeros past the end. */
static bool same_block(struct pull *p, uint32_t block, uint32_t own_blocks)
{
	uint8_t sum[4];

	if (block < own_blocks)
		return own_block(p, block, p->data) == 1;
	return is_hole(p, block) && chunk_file_sums(&p->own, block, 1, sum, NULL) == 0 &&
	       get_le32(sum) == 0;
}

/* False: too many. */
static bool find_runs(struct pull *p, struct patch *x)
{
	uint32_t blocks = (uint32_t)(p->length / BLOCK_BYTES);
	uint64_t own_bytes;

	if (chunk_file_length(&p->own, &own_bytes, NULL) < 0)
		return false;
	for (uint32_t at = 0; at < blocks; at++) {
		struct run *last = x->n_runs ? &x->runs[x->n_runs - 1] : NULL;
		if (same_block(p, at, (uint32_t)(own_bytes / BLOCK_BYTES)))
			continue;
		if (x->n_blocks++ == PATCH_BLOCKS_MAX)
			return false;
		if (last && last->first + last->n == at && last->n < RUN_BLOCKS_MAX)
			last->n++;
		else
			x->runs[x->n_runs++] = (struct run){at, 1};
	}
	return true;
}

static int fetch_runs(struct pull *p, struct patch *x, struct err *err)
{
	uint8_t *to = x->data;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < x->n_runs; i++) {
		r = fetch_verified(p, x->runs[i].first, x->runs[i].n, to, err);
		to += (size_t)x->runs[i].n * BLOCK_BYTES;
	}
	return r;
}

static int write_runs(struct pull *p, struct patch *x, struct store_patch *at, struct err *err)
{
	uint8_t *from = x->data;
	uint64_t length;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < x->n_runs; i++) {
		const struct run *run = &x->runs[i];
		r = chunk_file_write(&at->file, from, run->first * BLOCK_BYTES, run->n * BLOCK_BYTES,
				     p->sums.data + 4ull * run->first, &at->torn, err);
		from += (size_t)run->n * BLOCK_BYTES;
	}
	if (r == 0)
		r = chunk_file_length(&at->file, &length, err);
	if (r == 0 && length > p->length)
		r = chunk_file_truncate(&at->file, p->length, err);
	if (r == 0 && length < p->length) {
		r = p->io->ftruncate(p->io, at->file.fd, at->file.data_offset + p->length);
		if (r < 0)
			err_set(err, r, "chunk %016llx: %s", (unsigned long long)p->req->chunk,
				err_text(r));
	}
	return r;
}

/* Nobody has the replica alone while the source is waited for. 1: done; 0: a whole copy is to be made. */
static int patch_own(struct store *s, struct pull *p, struct patch *x, struct wire_chunk_state *ret,
		     struct err *err)
{
	struct store_patch at;
	int r;

	if (!find_runs(p, x))
		return 0;
	r = fetch_runs(p, x, err);
	if (r < 0)
		return r;
	r = store_patch_begin(s, p->req->chunk, p->req->new_version, &p->seen, p->begun,
			      &at, err);
	if (r < 0) {
		p->fetched = 0;
		return r == ERR_BUSY ? 0 : r;
	}
	at.lossy = p->req->lossy;
	r = write_runs(p, x, &at, err);
	*ret = (struct wire_chunk_state){.present = 1, .length = p->length};
	if (r == 0)
		r = chunk_file_digest(&at.file, &ret->digest, err);
	r = store_patch_end(s, &at, r, err);
	return r < 0 ? r : 1;
}

static int pull_patch(struct store *s, struct pull *p, struct wire_chunk_state *ret, struct err *err)
{
	struct patch x = {0};
	int r = 0;

	if (p->own.fd < 0 || p->own.chunk_bits != p->req->chunk_bits)
		return 0;
	x.runs = malloc(PATCH_BLOCKS_MAX * sizeof(*x.runs));
	x.data = malloc((size_t)PATCH_BLOCKS_MAX * BLOCK_BYTES);
	if (x.runs && x.data)
		r = patch_own(s, p, &x, ret, err);
	free(x.runs);
	free(x.data);
	return r;
}

int pull_chunk(struct store *s, const struct cred *cred,
	       const struct wire_chunk_pull *req, uint64_t begun, struct wire_chunk_state *ret,
	       struct err *err)
{
	struct pull p = {.io = store_io(s), .req = req, .own = {.fd = -1}, .begun = begun};
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
	r = conn_dial(addr, cred, ROLE_CHUNKSERVER, deadline_in(PULL_IO_MS), &p.source, err);
	/* The own file is only looked at, so its user must be gone before it is replaced. What is done to
	 * it from here on is newer than the source's table. */
	if (r == 0 && store_peek(s, req->chunk, &own, &p.own, &p.seen) == 1) {
		p.own.fd = dup(p.own.fd);
		store_release(s, own);
	}
	if (r == 0)
		r = fetch_sums(&p, err);
	if (r == 0)
		r = pull_patch(s, &p, ret, err);
	if (r == 0)
		r = pull_into(s, &p, ret, err);
	r = r < 0 ? r : 0;
	if (p.own.fd >= 0)
		close(p.own.fd);
	if (r == 0)
		log_info("chunk %016llx v%u: copied from %s, %llu of %llu blocks sent",
			 (unsigned long long)req->chunk, req->new_version, addr,
			 (unsigned long long)p.fetched,
			 (unsigned long long)(p.length / BLOCK_BYTES));
	conn_free(p.source);
	buf_release(&p.sums);
	buf_release(&p.hidden);
	free(p.data);
	return r < 0 ? err_prefix(err, r, "pull of chunk %016llx from %s",
				  (unsigned long long)req->chunk, addr) : 0;
}
