#include "chunkserver/settle.h"

#include <stdlib.h>

#include "common/cleanup.h"
#include "common/crc.h"
#include "common/log.h"

struct settle {
	const struct chunk_file *f;
	const struct settle_source *others;
	uint8_t *data, *sums; /* SETTLE_BLOCKS_MAX */
	unsigned taken, kept; /* blocks: from others; as they are */
};

/* What the block holds counts. Past the end of the file that is zeros. */
static int keep_block(struct settle *x, uint32_t block, struct err *err)
{
	const struct chunk_file *f = x->f;
	ssize_t n = f->io->pread(f->io, f->fd, x->data, BLOCK_BYTES,
				 f->data_offset + (uint64_t)block * BLOCK_BYTES);
	int r = n < 0 ? (int)n : 0;

	if (r == 0) {
		memset(x->data + n, 0, BLOCK_BYTES - (size_t)n);
		crc_sums(x->sums, x->data, 0, BLOCK_BYTES);
		r = f->io->pwrite(f->io, f->fd, x->sums, 4, FORMAT_SUMS_OFFSET + 4ull * block);
	}
	x->kept += r == 0;
	return r < 0 ? err_set(err, r, "chunk %016llx block %u: %s", (unsigned long long)f->chunk,
			       block, err_text(r)) : 0;
}

/* A run of blocks that do not verify: together from one other replica, else in halves. */
static int settle_run(struct settle *x, uint32_t first, uint32_t n, struct err *err)
{
	bool torn;
	int r;

	if (x->others && x->others->fetch(x->others->arg, first, n, x->data, x->sums) == 0) {
		x->taken += n;
		return chunk_file_write(x->f, x->data, first * BLOCK_BYTES, n * BLOCK_BYTES,
					x->sums, &torn, err);
	}
	if (n == 1)
		return keep_block(x, first, err);
	r = settle_run(x, first, n / 2, err);
	return r < 0 ? r : settle_run(x, first + n / 2, n - n / 2, err);
}

/* 1 verifies, 0 does not. */
static int verifies(struct settle *x, uint32_t first, uint32_t n, struct err *err)
{
	struct err mismatch = {0};
	size_t len;
	int r = chunk_file_read(x->f, first * BLOCK_BYTES, n * BLOCK_BYTES, x->data, x->sums, &len,
				&mismatch);

	if (r == ERR_CHECKSUM)
		return 0;
	return r < 0 ? err_set(err, r, "%s", err_message(&mismatch)) : 1;
}

/* The bad blocks among first .. first+n-1, in runs. */
static int settle_part(struct settle *x, uint32_t first, uint32_t n, struct err *err)
{
	uint32_t run = 0;
	int r = 0;

	for (uint32_t i = 0; i <= n && r >= 0; i++) {
		int good = i < n ? verifies(x, first + i, 1, err) : 1;
		if (good < 0)
			return good;
		if (good && run > 0)
			r = settle_run(x, first + i - run, run, err);
		run = good ? 0 : run + 1;
	}
	return r;
}

int settle_file(const struct chunk_file *f, const struct settle_source *others, struct err *err)
{
	_cleanup_free_ uint8_t *room = malloc(SETTLE_BLOCKS_MAX * (BLOCK_BYTES + 4));
	struct settle x = {.f = f, .others = others, .data = room};
	uint32_t blocks = chunk_file_blocks_max(f);
	int r = 0;

	if (!room)
		return err_set(err, ERR_NOMEM, "out of memory");
	x.sums = room + SETTLE_BLOCKS_MAX * BLOCK_BYTES;
	/* All of the table: a checksum can be there whose data and file size were lost. */
	for (uint32_t first = 0; r >= 0 && first < blocks; first += SETTLE_BLOCKS_MAX) {
		uint32_t n = blocks - first < SETTLE_BLOCKS_MAX ? blocks - first
								: SETTLE_BLOCKS_MAX;
		r = verifies(&x, first, n, err);
		if (r == 0)
			r = settle_part(&x, first, n, err);
	}
	if (r >= 0 && x.taken + x.kept > 0)
		log_warn("chunk %016llx: of the blocks torn by the crash %u were taken from other "
			 "replicas, %u count as they are", (unsigned long long)f->chunk, x.taken,
			 x.kept);
	return r < 0 ? r : 0;
}
