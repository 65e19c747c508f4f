/* The blocks that are a file's own: what st_blocks and du tell, and quotas count.
 *
 * As on a local file system: what was written or set aside counts, a hole does not, and zeros that
 * were written count though the chunkservers make holes of them. So it is known from the requests
 * alone, is the same on every replay, and nobody has to ask a server. A file that was written from its
 * beginning has all of it in two numbers (`solid` of its `c` rows, `blocks` of its own row), which are
 * in rows that a WROTE changes anyway or nearly so; only what has holes has maps, a bit a block. */
#include "master/apply_priv.h"

#include "common/cleanup.h"

static bool map_get(const uint8_t *map, uint32_t block)
{
	return map[block / 8] >> block % 8 & 1;
}

static void map_set(uint8_t *map, uint32_t from, uint32_t to, bool own)
{
	for (uint32_t b = from; b < to; b++) {
		if (b % 8 == 0 && to - b >= 8) {
			map[b / 8] = own ? 0xff : 0;
			b += 7;
		} else if (own) {
			map[b / 8] |= (uint8_t)(1u << b % 8);
		} else {
			map[b / 8] &= (uint8_t)~(1u << b % 8);
		}
	}
}

/* The row's blocks from..to-1 become the file's own, or not. map: room for the row's. */
static void space_change(struct row_file_chunk *ref, uint8_t map[SPACE_MAP_BYTES_MAX], uint32_t from,
			 uint32_t to, bool own)
{
	uint32_t max = SPACE_MAP_BYTES_MAX * 8, len = SPACE_MAP_BYTES_MAX, solid = 0;

	if (own && ref->map.len == 0 && from <= ref->solid) {
		if (to > ref->solid)
			ref->solid = to;
		return;
	}
	memset(map, 0, SPACE_MAP_BYTES_MAX);
	if (ref->map.len)
		memcpy(map, ref->map.data, ref->map.len);
	map_set(map, 0, ref->solid, true);
	map_set(map, from, to, own);
	while (solid < max && map_get(map, solid))
		solid++;
	map_set(map, 0, solid, false);
	while (len > 0 && map[len - 1] == 0)
		len--;
	ref->solid = solid;
	ref->map = slice_of(map, len);
}

/* The same in the state. aside: the row is made where there is none. */
static int space_update(struct apply *a, uint64_t inode, struct row_inode *file, uint64_t index,
			uint32_t from, uint32_t to, bool own, bool aside)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key key = key_file_chunk(inode, index);
	uint8_t map[SPACE_MAP_BYTES_MAX];
	struct row_file_chunk ref;
	uint32_t before, after;
	int r = state_get_row_file_chunk(a->st, key, &ref, &backing);

	if (r == 0)
		ref = (struct row_file_chunk){0};
	if (r == 1 && (ref.map.len > sizeof(map) || ref.solid > sizeof(map) * 8))
		return ERR_CORRUPT;
	/* What was written to may have been cut off since: then it is nobody's. */
	if (r < 0 || from >= to || (own && !aside && !ref.chunk))
		return r < 0 ? r : 0;
	before = ns_space_blocks(&ref);
	space_change(&ref, map, from, to, own);
	after = ns_space_blocks(&ref);
	if (before == after)
		return 0;
	if (after == 0 && !ref.chunk)
		state_del(a->st, key_slice(&key));
	else
		state_put_row_file_chunk(a->st, key, &ref);
	file->blocks += after;
	file->blocks -= before;
	return quota_charge(a, file->project, (int64_t)after - before, 0);
}

static int space_run(struct apply *a, const struct wire_wrote *req, struct row_inode *file,
		     uint64_t from, uint64_t end)
{
	bool hole = (req->flags & WROTE_HOLE) != 0, aside = (req->flags & WROTE_SET_ASIDE) != 0;
	uint64_t chunk_bytes = 1ULL << file->chunk_bits;
	/* A hole has whole blocks only; the last block of the file is whole at the file's end. */
	uint64_t round_from = hole ? BLOCK_BYTES - 1 : 0;
	uint64_t round_to = !hole || end >= file->size ? BLOCK_BYTES - 1 : 0;

	while (from < end) {
		uint64_t base = from & ~(chunk_bytes - 1);
		uint64_t to = end - base < chunk_bytes ? end - base : chunk_bytes;
		int r = space_update(a, req->inode, file, from >> file->chunk_bits,
				     (uint32_t)((from - base + round_from) / BLOCK_BYTES),
				     (uint32_t)((to + round_to) / BLOCK_BYTES), !hole, aside);
		if (r < 0)
			return r;
		from = base + to;
	}
	return 0;
}

int space_wrote(struct apply *a, const struct wire_wrote *req, struct row_inode *file)
{
	uint64_t at = req->offset;
	int r = 0;

	if (req->n_runs == 0)
		return space_run(a, req, file, req->offset, req->end);
	if (req->n_runs % 2 != 0)
		return ERR_INVAL;
	for (unsigned i = 0; r == 0 && i < req->n_runs; i += 2) {
		if (req->runs[i] < at || req->runs[i + 1] < req->runs[i] ||
		    req->runs[i + 1] > req->end)
			return ERR_INVAL;
		r = space_run(a, req, file, req->runs[i], req->runs[i + 1]);
		at = req->runs[i + 1];
	}
	return r;
}

int space_cut(struct apply *a, uint64_t inode, struct row_inode *file, uint64_t size)
{
	uint64_t chunk_bytes = 1ULL << file->chunk_bits;

	return space_update(a, inode, file, size >> file->chunk_bits,
			    (uint32_t)((size % chunk_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES),
			    (uint32_t)(chunk_bytes / BLOCK_BYTES), false, false);
}
