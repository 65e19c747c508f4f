/* Chunks, who has them, and the index rows. */
#include "master/schema_check_priv.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "master/ns.h"

/* (server, version) mixed by the finalizer of SplitMix64: sums of them are equal when the lists
 * are, but for accidents that do not happen. */
static uint64_t member_digest(uint32_t server, uint32_t version)
{
	uint64_t z = ((uint64_t)server << 32 | version) + 0x9e3779b97f4a7c15ULL;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static bool has_member(const struct row_member *list, unsigned n, uint32_t server)
{
	for (unsigned i = 0; i < n; i++)
		if (list[i].server == server)
			return true;
	return false;
}

static void check_members(struct check *c, uint64_t id, const struct row_chunk *row)
{
	if (row->n_members == 0)
		check_wrong(c, "chunk %016" PRIx64 " has no member", id);
	for (unsigned i = 0; i < row->n_members; i++) {
		if (!seen_find(&c->servers, row->members[i].server))
			check_wrong(c, "chunk %016" PRIx64 " has member %u, which is no server", id,
				    row->members[i].server);
		if (has_member(row->members, i, row->members[i].server))
			check_wrong(c, "chunk %016" PRIx64 " has server %u twice", id,
				    row->members[i].server);
	}
	for (unsigned i = 0; i < row->n_joining; i++)
		if (!seen_find(&c->servers, row->joining[i].server))
			check_wrong(c, "chunk %016" PRIx64 " is joined by %u, which is no server",
				    id, row->joining[i].server);
}

static void check_pending(struct check *c, uint64_t id, const struct row_chunk *row)
{
	if (row->version == 0 ||
	    (row->pending_version && row->pending_version != row->version + 1))
		check_wrong(c, "chunk %016" PRIx64 " is pending from %u to %u", id, row->version,
			    row->pending_version);
	if (row->settled > row->version)
		check_wrong(c, "chunk %016" PRIx64 " was settled at %u, but is at %u", id,
			    row->settled, row->version);
	if (!row->pending_version && (row->n_joining || row->cut != CHUNK_LENGTH_KEEP))
		check_wrong(c, "chunk %016" PRIx64 " is to be cut or joined, but no raise is "
			    "pending", id);
}

static int see_chunk(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	uint64_t id = get_be64(key.data + 1);
	struct seen_chunk *s = seen_add(&c->chunks, id);
	struct seen_policy *policy;
	struct row_chunk row;

	if (!s)
		return ERR_NOMEM;
	s->under_goal = SEEN_GOAL_REACHED;
	if (row_chunk_get(&cur, &row) < 0) {
		check_wrong(c, "chunk %016" PRIx64 " does not decode", id);
		return 0;
	}
	if (id == 0 || id >= c->meta.next_chunk)
		check_wrong(c, "chunk %016" PRIx64 " was never given out", id);
	check_members(c, id, &row);
	check_pending(c, id, &row);
	policy = seen_find(&c->policies, row.policy);
	if (!policy)
		check_wrong(c, "chunk %016" PRIx64 " has policy %u, which is not there", id,
			    row.policy);
	else if (row.n_members < policy->copies)
		s->under_goal = (uint8_t)row.n_members;
	s->pending = row.pending_version != 0;
	s->refs = row.refs > INT32_MAX ? INT32_MAX : (int32_t)row.refs;
	if (row.refs == 0)
		check_wrong(c, "chunk %016" PRIx64 " has no references", id);
	for (unsigned i = 0; i < row.n_members; i++)
		s->members += member_digest(row.members[i].server, row.version);
	return 0;
}

/* The blocks of a file's part: counted down in the file's; in the one form that they have. */
static void check_space(struct check *c, struct seen_inode *file, uint64_t inode, uint64_t index,
			const struct row_file_chunk *ref)
{
	uint32_t blocks = ns_space_blocks(ref), max;

	if (blocks == 0 && !ref->chunk)
		check_wrong(c, "inode %" PRIx64 " index %" PRIu64 " has no chunk and no blocks", inode,
			    index);
	if (!file)
		return;
	file->blocks -= blocks;
	max = 1u << (file->chunk_bits - BLOCK_BITS);
	if (ref->solid > max || ref->map.len > max / 8 ||
	    (ref->map.len > 0 && ref->map.data[ref->map.len - 1] == 0))
		check_wrong(c, "inode %" PRIx64 " index %" PRIu64 " has blocks beyond its end or a map "
			    "that is too long", inode, index);
	for (uint32_t i = 0; i < ref->map.len && i * 8 <= ref->solid; i++)
		if (ref->map.data[i] & ((2u << (ref->solid - i * 8 > 7 ? 7 : ref->solid - i * 8)) - 1))
			check_wrong(c, "inode %" PRIx64 " index %" PRIu64 ": byte %" PRIu32
				    " of the map has blocks that are told already", inode, index, i);
}

/* Behind all `c` rows. */
static void check_space_left(struct check *c)
{
	const struct seen_inode *rows = (const struct seen_inode *)c->inodes.rows;

	for (size_t i = 0; i < c->inodes.n; i++)
		if (rows[i].blocks != 0)
			check_wrong(c, "inode %" PRIx64 " counts %" PRId64 " blocks more than it has",
				    rows[i].id, (int64_t)rows[i].blocks);
}

/* A file's chunk: of a regular file, or of one that was removed and is being freed. */
static int check_file_chunk(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	uint64_t inode = get_be64(key.data + 1), index = get_be64(key.data + 9);
	struct seen_inode *file = seen_find(&c->inodes, inode);
	struct seen_chunk *s;
	struct row_file_chunk ref;

	if (row_file_chunk_get(&cur, &ref) < 0) {
		check_wrong(c, "inode %" PRIx64 " index %" PRIu64 " does not decode", inode, index);
		return 0;
	}
	check_space(c, file, inode, index, &ref);
	s = ref.chunk ? seen_find(&c->chunks, ref.chunk) : NULL;
	if (s)
		s->refs--;
	else if (ref.chunk)
		check_wrong(c, "inode %" PRIx64 " index %" PRIu64 ": chunk %016" PRIx64
			    " is not there", inode, index, ref.chunk);
	if (!file) {
		int r = check_has(c, key_reclaim(inode));
		if (r < 0)
			return r;
		if (r == 0)
			check_wrong(c, "index %" PRIu64 " of inode %" PRIx64 ", which is not there",
				    index, inode);
	} else if (file->type != S_IFREG >> 12 || index > FILE_BYTES_MAX >> file->chunk_bits) {
		check_wrong(c, "inode %" PRIx64 " has a chunk at index %" PRIu64 " and cannot",
			    inode, index);
	}
	return 0;
}

static int check_on_server(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	uint32_t server = get_be32(key.data + 1);
	uint64_t id = get_be64(key.data + 5);
	struct seen_chunk *s = seen_find(&c->chunks, id);
	struct row_on_server row;

	if (row_on_server_get(&cur, &row) < 0)
		check_wrong(c, "server %u's row for chunk %016" PRIx64 " does not decode", server,
			    id);
	else if (!s)
		check_wrong(c, "server %u has a row for chunk %016" PRIx64 ", which is not there",
			    server, id);
	else
		s->members -= member_digest(server, row.version);
	return 0;
}

static int check_under_goal(struct check *c, struct slice key, struct slice value)
{
	uint64_t id = get_be64(key.data + 2);
	struct seen_chunk *s = seen_find(&c->chunks, id);

	c->under_goal++;
	if (!s || s->under_goal != key.data[1])
		check_wrong(c, "chunk %016" PRIx64 ": wrong under-goal row for %u copies", id,
			    key.data[1]);
	else
		s->under_goal = SEEN_GOAL_REACHED;
	return 0;
}

static int check_pending_row(struct check *c, struct slice key, struct slice value)
{
	uint64_t id = get_be64(key.data + 1);
	struct seen_chunk *s = seen_find(&c->chunks, id);

	c->pending++;
	if (!s || !s->pending)
		check_wrong(c, "chunk %016" PRIx64 ": wrong pending row", id);
	else
		s->pending = 0;
	return 0;
}

static int check_garbage(struct check *c, struct slice key, struct slice value)
{
	_cleanup_buf_ struct buf backing = {0};
	struct cursor cur = cursor_slice(value);
	uint32_t server = get_be32(key.data + 1);
	uint64_t id = get_be64(key.data + 5);
	struct row_on_server row;
	struct row_chunk chunk;
	int r;

	c->garbage++;
	if (row_on_server_get(&cur, &row) < 0)
		check_wrong(c, "garbage row %u %016" PRIx64 " does not decode", server, id);
	if (!seen_find(&c->servers, server))
		check_wrong(c, "garbage on server %u, which is not there", server);
	if (id == 0 || id >= c->meta.next_chunk)
		check_wrong(c, "chunk %016" PRIx64 " is garbage and was never given out", id);
	if (!seen_find(&c->chunks, id))
		return 0;
	r = state_get_row_chunk(c->st, key_chunk(id), &chunk, &backing);
	if (r <= 0)
		return r == ERR_CORRUPT ? 0 : r; /* told already */
	if (has_member(chunk.members, chunk.n_members, server) ||
	    has_member(chunk.joining, chunk.n_joining, server))
		check_wrong(c, "chunk %016" PRIx64 " is garbage on its member %u", id, server);
	return 0;
}

/* ---- at the end ---- */

/* The `s` rows are not those of the members: says which. */
static int explain_members(struct check *c, uint64_t id)
{
	_cleanup_buf_ struct buf backing = {0};
	const struct seen_server *servers = (const struct seen_server *)c->servers.rows;
	int before = c->wrong;
	struct row_on_server on;
	struct row_chunk row;
	int r = state_get_row_chunk(c->st, key_chunk(id), &row, &backing);

	for (unsigned i = 0; r == 1 && i < row.n_members; i++) {
		int s = state_get_row_on_server(c->st, key_on_server(row.members[i].server, id),
						&on, &backing);
		if (s != 1 || on.version != row.version)
			check_wrong(c, "chunk %016" PRIx64 ": server %u's row is missing or "
				    "differs", id, row.members[i].server);
	}
	for (size_t i = 0; r == 1 && i < c->servers.n; i++) {
		uint32_t server = (uint32_t)servers[i].id;
		if (!has_member(row.members, row.n_members, server) &&
		    check_has(c, key_on_server(server, id)) == 1)
			check_wrong(c, "server %u has a row for chunk %016" PRIx64
				    " and is no member", server, id);
	}
	if (r != ERR_CORRUPT && r < 0)
		return r;
	if (c->wrong == before)
		check_wrong(c, "chunk %016" PRIx64 ": the servers' rows are not its members'", id);
	return 0;
}

static int check_left(struct check *c, const struct seen_chunk *s)
{
	if (s->refs != 0)
		check_wrong(c, "chunk %016" PRIx64 " has %d references %s than rows name it", s->id,
			    s->refs > 0 ? s->refs : -s->refs, s->refs > 0 ? "more" : "fewer");
	if (s->under_goal != SEEN_GOAL_REACHED)
		check_wrong(c, "chunk %016" PRIx64 ": no under-goal row for %u copies", s->id,
			    s->under_goal);
	if (s->pending)
		check_wrong(c, "chunk %016" PRIx64 ": no pending row", s->id);
	return s->members ? explain_members(c, s->id) : 0;
}

int check_chunks(struct check *c)
{
	static const struct { uint8_t type; uint32_t key_len; check_row_fn fn; } passes[] = {
		{KEY_CHUNK, 9, see_chunk}, {KEY_FILE_CHUNK, 17, check_file_chunk},
		{KEY_ON_SERVER, 13, check_on_server}, {KEY_UNDER_GOAL, 10, check_under_goal},
		{KEY_PENDING, 9, check_pending_row}, {KEY_GARBAGE, 13, check_garbage},
	};
	const struct seen_chunk *rows;
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(passes) && r == 0; i++)
		r = check_each(c, passes[i].type, passes[i].key_len, passes[i].fn);
	if (r == 0)
		check_space_left(c);
	rows = (const struct seen_chunk *)c->chunks.rows;
	for (size_t i = 0; i < c->chunks.n && r == 0; i++)
		r = check_left(c, &rows[i]);
	return r;
}
