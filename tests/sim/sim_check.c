/* What must hold.
 *
 * After each step, of every chunk that the step touched:
 *  1. its version never falls, and one that is gone never comes back;
 *  2. one of its members has all that was promised: each block holds the last acknowledged write of
 *     it, or a later one;
 *  3. no member that would serve a reader now has less than that;
 *  4. a replica is deleted only on a server that is no member.
 * After some steps: the invariants of master/schema.h (counts, indexes, references).
 * At rest, when every server is back and nothing goes wrong any more:
 *  5. no raise, garbage, repair or reclaiming is left, and nobody waits;
 *  6. every chunk has as many members as its goal, or as there are servers; their replicas are
 *     equal, undamaged and hold what was promised;
 *  7. no server has a replica that it should not have;
 *  8. members are in as many failure domains as there are to choose from. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "master/schema_check.h"
#include "tests/sim/sim.h"

/* ---- telling ---- */

void sim_trace(const char *fmt, ...)
{
	va_list ap;

	if (!sim.tracing)
		return;
	fprintf(stderr, "%8.3f ", (double)fake_ms / 1000);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* Instead of common/log.c: the master's words about what goes wrong are told when asked for. */
enum log_level log_level_current = LOG_DEBUG;

void log_setup(const char *name, enum log_level level)
{
}

int log_level_parse(const char *text, enum log_level *ret)
{
	return ERR_INVAL;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (!sim.tracing)
		return;
	fprintf(stderr, "%8.3f master: ", (double)fake_ms / 1000);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static void tell_chunk(uint64_t chunk)
{
	struct row_chunk row;

	if (!sim_row(chunk, &row))
		return;
	fprintf(stderr, "  chunk %llu v%u>%u cut %lld written %u members",
		(unsigned long long)chunk, row.version, row.pending_version, (long long)row.cut,
		row.flags);
	for (unsigned i = 0; i < row.n_members; i++)
		fprintf(stderr, " %u", row.members[i].server);
	fprintf(stderr, "\n  promised");
	for (unsigned b = 0; b < REPLICA_BLOCKS; b++)
		fprintf(stderr, " %u%s", sim.expect[chunk].acked[b].number,
			sim.expect[chunk].acked[b].zeros ? " or 0" : "");
	fputc('\n', stderr);
	for (unsigned i = 0; i < sim.n_servers; i++) {
		const struct sim_server *s = &sim.servers[i];
		const struct fake_replica *r = &s->slots[chunk].r;
		if (!r->present)
			continue;
		fprintf(stderr, "  server %u%s: v%u length %llu:", s->id,
			s->gone ? " (gone)" : s->running ? "" : " (stopped)", r->version,
			(unsigned long long)r->length);
		for (unsigned b = 0; b < REPLICA_BLOCKS; b++)
			fprintf(stderr, " %u%s", r->block[b], r->rotten[b] ? "!" : "");
		fprintf(stderr, "%s%s%s%s\n", r->unclean ? " unclean" : "", r->open ? " open" : "",
			r->damaged ? " damaged" : "", r->in_doubt ? " in doubt" : "");
	}
}

static uint64_t failing_chunk;

void sim_fail(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "not ok - seed %llu at %.3f s, step %llu: ", (unsigned long long)sim.seed,
		(double)fake_ms / 1000, (unsigned long long)sim.steps);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	if (failing_chunk)
		tell_chunk(failing_chunk);
	fprintf(stderr, "again, with what happened: SEED=%llu SEEDS=1 TRACE=1\n",
		(unsigned long long)sim.seed);
	exit(1);
}

/* ---- rows ---- */

bool sim_row(uint64_t chunk, struct row_chunk *ret)
{
	_cleanup_buf_ struct buf backing = {0};
	return sim.m.st && state_get_row_chunk(sim.m.st, key_chunk(chunk), ret, &backing) == 1;
}

bool sim_is_member(const struct row_chunk *row, uint32_t server)
{
	for (unsigned i = 0; i < row->n_members; i++)
		if (row->members[i].server == server)
			return true;
	return false;
}

static bool is_joining(const struct row_chunk *row, uint32_t server)
{
	for (unsigned i = 0; i < row->n_joining; i++)
		if (row->joining[i].server == server)
			return true;
	return false;
}

/* ---- content ---- */

bool sim_floor_kept(const struct sim_floor *f, uint32_t content)
{
	return content >= f->number || (f->zeros && content == 0);
}

/* Whether it has what was promised, leaving out what a pending truncation takes. */
static bool content_good(const struct sim_expect *e, const struct row_chunk *row,
			 const uint32_t block[REPLICA_BLOCKS])
{
	for (unsigned b = 0; b < REPLICA_BLOCKS; b++)
		if ((uint64_t)b * REPLICA_BLOCK_BYTES < row->cut &&
		    !sim_floor_kept(&e->acked[b], block[b]))
			return false;
	return true;
}

static bool rotten(const struct row_chunk *row, const struct fake_replica *r)
{
	for (unsigned b = 0; b < REPLICA_BLOCKS; b++)
		if ((uint64_t)b * REPLICA_BLOCK_BYTES < row->cut && r->rotten[b])
			return true;
	return false;
}

static bool version_valid(const struct row_chunk *row, uint32_t version)
{
	return version == row->version || (row->pending_version && version == row->pending_version);
}

/* A replica that can give back what was promised. An absent one can while nothing was. */
static bool replica_good(uint64_t chunk, const struct row_chunk *row, const struct sim_server *s)
{
	const struct fake_replica *r = &s->slots[chunk].r;

	/* One of an older version serves nobody, and gives way when the chunk is raised. */
	if (!r->present || (r->version < row->version && !(row->flags & CHUNK_WRITTEN)))
		return !(row->flags & CHUNK_WRITTEN) &&
		       content_good(&sim.expect[chunk], row, (uint32_t[REPLICA_BLOCKS]){0});
	return version_valid(row, r->version) && !rotten(row, r) &&
	       content_good(&sim.expect[chunk], row, r->block);
}

/* It has what is about to be promised, too: nothing may go wrong that takes it. */
static bool replica_best(uint64_t chunk, const struct row_chunk *row, const struct sim_server *s)
{
	const struct fake_replica *r = &s->slots[chunk].r;

	for (unsigned b = 0; b < REPLICA_BLOCKS; b++)
		if ((uint64_t)b * REPLICA_BLOCK_BYTES < row->cut &&
		    r->block[b] < sim.expect[chunk].reached[b])
			return false;
	return r->present && replica_good(chunk, row, s);
}

/* And will, whatever stops now: no crash puts it in question. */
static bool replica_clean(uint64_t chunk, const struct row_chunk *row, const struct sim_server *s)
{
	const struct fake_replica *r = &s->slots[chunk].r;
	return replica_best(chunk, row, s) && !r->unclean && (s->running || !r->open);
}

/* Up, and the master thinks so. */
static bool is_there(const struct sim_server *s)
{
	return s->running && !sim_frozen(s) && s->stage == STAGE_UP &&
	       fake_ms >= s->conn->stall_up_ms && fake_ms >= s->conn->stall_down_ms;
}

static unsigned clean_others(uint64_t chunk, const struct row_chunk *row,
			     const struct sim_server *s, bool there)
{
	unsigned n = 0;

	for (unsigned i = 0; i < row->n_members; i++) {
		const struct sim_server *t = sim_server_of(row->members[i].server);
		n += t && t != s && !t->gone && (!there || is_there(t)) &&
		     replica_clean(chunk, row, t);
	}
	return n;
}

/* ---- what may go wrong: never so much at once that the promise does not hold ---- */

/* So many other members are there, and good. */
static bool others_are_there(const struct sim_server *s, uint64_t chunk, bool all)
{
	struct row_chunk row;
	unsigned n;

	if (!sim_row(chunk, &row) || !(sim_is_member(&row, s->id) || is_joining(&row, s->id)))
		return true;
	n = clean_others(chunk, &row, s, true);
	return !row.pending_version && !raise_running(&sim.m, chunk) && n > 0 &&
	       (!all || n + 1 >= row.n_members);
}

bool sim_may_rot(const struct sim_server *s, uint64_t chunk)
{
	return others_are_there(s, chunk, true);
}

static bool all_sound(uint64_t chunk, const struct row_chunk *row)
{
	for (unsigned i = 0; i < row->n_members; i++) {
		const struct sim_server *t = sim_server_of(row->members[i].server);
		if (!t || rotten(row, &t->slots[chunk].r))
			return false;
	}
	return true;
}

bool sim_may_be_away(const struct sim_server *s)
{
	for (uint64_t chunk = 1; chunk < SIM_CHUNKS_MAX; chunk++) {
		struct row_chunk row;
		if (sim_row(chunk, &row) && sim_is_member(&row, s->id) && !all_sound(chunk, &row))
			return false;
	}
	return true;
}

bool sim_may_lose(const struct sim_server *s)
{
	for (uint64_t chunk = 1; chunk < SIM_CHUNKS_MAX; chunk++)
		if (!others_are_there(s, chunk, false))
			return false;
	return true;
}

/* All the members' replicas could be taken for the right one. */
static bool any_will_do(uint64_t chunk, const struct row_chunk *row)
{
	for (unsigned i = 0; i < row->n_members; i++) {
		const struct sim_server *t = sim_server_of(row->members[i].server);
		if (t && !t->gone && t->slots[chunk].r.present && !replica_best(chunk, row, t))
			return false;
	}
	return true;
}

/* Members other than s that crashed, or will be found to have. */
static unsigned in_question(uint64_t chunk, const struct row_chunk *row, const struct sim_server *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < row->n_members; i++) {
		const struct sim_server *t = sim_server_of(row->members[i].server);
		const struct fake_replica *r = t ? &t->slots[chunk].r : NULL;
		n += t && t != s && r->present && (r->unclean || (r->open && !t->running));
	}
	return n;
}

/* One crash costs nothing that was acknowledged; a second one, before the first was mended, nothing
 * that was synced. So it comes only when nothing else could be lost. */
bool sim_may_stop(const struct sim_server *s, enum sim_stop how)
{
	for (uint64_t chunk = 1; chunk < SIM_CHUNKS_MAX; chunk++) {
		const struct fake_replica *r = &s->slots[chunk].r;
		struct row_chunk row;
		if (!r->open || !sim_row(chunk, &row) || !sim_is_member(&row, s->id) ||
		    (in_question(chunk, &row, s) == 0 && clean_others(chunk, &row, s, false) > 0))
			continue;
		if (!any_will_do(chunk, &row) ||
		    (how == STOP_POWER && memcmp(r->block, r->synced, sizeof(r->block)) != 0))
			return false;
	}
	return true;
}

/* ---- events ---- */

void sim_touched(uint64_t chunk)
{
	sim.expect[chunk].dirty = true;
}

void sim_deleting(const struct sim_server *s, uint64_t chunk, uint32_t version)
{
	const struct fake_replica *r = &s->slots[chunk].r;
	struct row_chunk row;

	sim_trace("server %u deletes chunk %llu up to v%u, has v%u", s->id,
		  (unsigned long long)chunk, version, r->present ? r->version : 0);
	if (!r->present || r->version > version || !sim_row(chunk, &row))
		return;
	failing_chunk = chunk;
	if (sim_is_member(&row, s->id) ? r->version >= row.version :
	    is_joining(&row, s->id) && (row.flags & CHUNK_WRITTEN))
		sim_fail("server %u deletes its replica of chunk %llu, of which it is a member",
			 s->id, (unsigned long long)chunk);
	failing_chunk = 0;
}

void sim_reached(uint64_t chunk, unsigned first, unsigned last, uint32_t number)
{
	for (unsigned b = first; b <= last; b++)
		sim.expect[chunk].reached[b] = number;
}

void sim_acked(uint64_t chunk, unsigned first, unsigned last, uint32_t number,
	       const uint32_t cuts[REPLICA_BLOCKS])
{
	struct sim_expect *e = &sim.expect[chunk];

	for (unsigned b = first; b <= last; b++)
		if (number >= e->acked[b].number)
			e->acked[b] = (struct sim_floor){.number = number,
							 .zeros = e->cuts[b] != cuts[b]};
	e->dirty = true;
}

static void was_cut(uint64_t chunk)
{
	struct sim_expect *e = &sim.expect[chunk];
	uint32_t number = ++sim.writes;
	struct row_chunk row;

	if (!sim_row(chunk, &row))
		return;
	for (unsigned b = 0; b < REPLICA_BLOCKS; b++) {
		uint32_t out = sim_client_outstanding(chunk, b);
		if ((uint64_t)b * REPLICA_BLOCK_BYTES < row.cut)
			continue;
		e->cuts[b]++;
		e->reached[b] = 0;
		e->acked[b] = e->seen[b] = (struct sim_floor){
			.number = out < number ? out : number, .zeros = true};
	}
}

void sim_check_applied(uint16_t number, struct slice entry, const struct apply_result *result)
{
	sim.commits++;
	if (sim.tracing) {
		_cleanup_buf_ struct buf text = {0};
		cmd_text(&text, entry);
		sim_trace("applied %.300s: %s", buf_str(&text),
			  result->status ? err_text(result->status) : "ok");
	}
	for (unsigned i = 0; i < result->n_raises; i++)
		was_cut(result->raises[i]);
	for (unsigned i = 0; i < SIM_CHUNKS_MAX; i++)
		sim.expect[i].dirty |= sim.expect[i].made && !sim.expect[i].gone;
	if (number == CMD_NUMBER_MAKE || number == CMD_NUMBER_CHUNK_MAKE)
		for (unsigned i = 0; i < SIM_CHUNKS_MAX; i++)
			sim.expect[i].dirty |= !sim.expect[i].made;
	sim.count.raised += number == CMD_NUMBER_CHUNK_RAISED && result->status == 0;
}

/* ---- after each step ---- */

static void check_serving(uint64_t chunk, const struct row_chunk *row)
{
	const struct sim_expect *e = &sim.expect[chunk];

	for (unsigned i = 0; i < row->n_members; i++) {
		const struct sim_server *s = sim_server_of(row->members[i].server);
		const struct sim_slot *slot = s ? &s->slots[chunk] : NULL;
		if (!s || !s->running || row->pending_version || !slot->r.present ||
		    slot->r.version != row->version || slot->r.unclean || slot->r.in_doubt)
			continue;
		for (unsigned b = 0; b < REPLICA_BLOCKS; b++)
			if (!slot->r.rotten[b] && !sim_write_uncommitted_block(slot, b) &&
			    !sim_floor_kept(&e->acked[b], slot->r.block[b]))
				sim_fail("chunk %llu v%u block %u: server %u would serve write %u, "
					 "%u was acknowledged", (unsigned long long)chunk,
					 row->version, b, s->id, slot->r.block[b],
					 e->acked[b].number);
	}
}

static void check_chunk(uint64_t chunk)
{
	struct sim_expect *e = &sim.expect[chunk];
	struct row_chunk row;
	bool good = false;

	e->dirty = false;
	if (!sim_row(chunk, &row)) {
		e->gone |= e->made;
		return;
	}
	failing_chunk = chunk;
	if (e->gone)
		sim_fail("chunk %llu is there again", (unsigned long long)chunk);
	if (row.version < e->version)
		sim_fail("chunk %llu went from v%u to v%u", (unsigned long long)chunk, e->version,
			 row.version);
	e->made = true;
	e->version = row.version;
	for (unsigned i = 0; !good && i < row.n_members; i++) {
		const struct sim_server *s = sim_server_of(row.members[i].server);
		good = s && !s->gone && replica_good(chunk, &row, s);
	}
	/* One that was just made may be on servers that are gone: nobody has written to it. */
	good |= !(row.flags & CHUNK_WRITTEN) &&
		content_good(e, &row, (uint32_t[REPLICA_BLOCKS]){0});
	if (!good)
		sim_fail("chunk %llu: no member has what was promised", (unsigned long long)chunk);
	check_serving(chunk, &row);
	failing_chunk = 0;
}

void sim_check_step(void)
{
	for (uint64_t chunk = 1; chunk < SIM_CHUNKS_MAX; chunk++)
		if (sim.expect[chunk].dirty)
			check_chunk(chunk);
}

void sim_check_schema(void)
{
	_cleanup_buf_ struct buf report = {0};
	int wrong = schema_check(sim.m.st, &report, 10);

	if (wrong)
		sim_fail("%d invariants do not hold: %s", wrong, buf_str(&report));
}

/* ---- at rest ---- */

static char why[256];

#define NOT_YET(...)                                    \
	do {                                            \
		snprintf(why, sizeof(why), __VA_ARGS__); \
		return why;                             \
	} while (0)

/* That of servers which never come back stays. */
static bool garbage_left(void)
{
	uint8_t type = KEY_GARBAGE;
	struct state_iter *it;
	struct slice key, value;
	bool left = false;

	if (state_iter_open(sim.m.st, slice_of(&type, 1), (struct slice){0}, &it) < 0)
		return true;
	while (!left && state_iter_next(it, &key, &value) == 1) {
		const struct sim_server *s = sim_server_of(get_be32(key.data + 1));
		left = s && !s->gone;
	}
	state_iter_close(it);
	return left;
}

static const char *check_master_rests(void)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_meta meta;
	struct mark *mark, *next;

	if (ns_meta(sim.m.st, &meta, &backing) < 0)
		return "no meta row";
	if (meta.pending || sim.m.raises.by_chunk)
		NOT_YET("raises are running (%u), pending: %llu", sim.m.raises.by_chunk ? 1u : 0u,
			(unsigned long long)meta.pending);
	if (garbage_left())
		NOT_YET("%llu rows of garbage are left", (unsigned long long)meta.garbage);
	if (sim.m.repairs || sim.m.in_flight || sim.m.parked || sim.m.waiting || sim.m.reclaim_busy)
		NOT_YET("%u repairs, %u proposals are under way", sim.m.repairs, sim.m.in_flight);
	HASH_ITER(hh, sim.m.servers.marks, mark, next) {
		struct row_chunk row;
		if (!sim_row(mark->key.chunk, &row))
			continue;
		failing_chunk = mark->key.chunk;
		NOT_YET("chunk %llu on server %llu is still marked %u",
			(unsigned long long)mark->key.chunk, (unsigned long long)mark->key.server,
			mark->flags);
	}
	return NULL;
}

static unsigned usable_servers(void)
{
	unsigned n = 0;
	for (unsigned i = 0; i < sim.n_servers; i++)
		n += !sim.servers[i].gone;
	return n;
}

static const char *check_replica_rests(uint64_t chunk, const struct row_chunk *row,
				       const struct sim_server *s, const struct fake_replica *first)
{
	const struct fake_replica *r = &s->slots[chunk].r;

	if (r->unclean || r->damaged || r->in_doubt)
		NOT_YET("chunk %llu on server %u is %s", (unsigned long long)chunk, s->id,
			r->unclean ? "unclean" : r->damaged ? "damaged" : "in doubt");
	if (r->present && r->version != row->version)
		NOT_YET("chunk %llu on server %u is at v%u, not v%u", (unsigned long long)chunk,
			s->id, r->version, row->version);
	if (!replica_good(chunk, row, s))
		NOT_YET("chunk %llu on server %u is not what was promised",
			(unsigned long long)chunk, s->id);
	if (memcmp(r->block, first->block, sizeof(r->block)) != 0)
		NOT_YET("chunk %llu on server %u differs from its other replicas",
			(unsigned long long)chunk, s->id);
	return NULL;
}

static bool same_domain(const struct sim_server *a, const struct sim_server *b)
{
	return a->rack[0] ? strcmp(a->rack, b->rack) == 0 : strcmp(a->host, b->host) == 0;
}

static unsigned domains(const struct sim_server *const *list, unsigned n)
{
	unsigned found = 0;

	for (unsigned i = 0; i < n; i++) {
		bool first = true;
		for (unsigned j = 0; j < i; j++)
			first &= !same_domain(list[i], list[j]);
		found += first;
	}
	return found;
}

static const char *check_domains(uint64_t chunk, const struct row_chunk *row)
{
	const struct sim_server *members[REPLICAS_MAX], *all[SIM_SERVERS_MAX];
	unsigned n = 0, n_all = 0, could, are;

	for (unsigned i = 0; i < row->n_members; i++)
		members[n++] = sim_server_of(row->members[i].server);
	for (unsigned i = 0; i < sim.n_servers; i++)
		if (!sim.servers[i].gone)
			all[n_all++] = &sim.servers[i];
	could = domains(all, n_all);
	if (could > n)
		could = n;
	are = domains(members, n);
	if (are < could)
		NOT_YET("chunk %llu is in %u failure domains, it could be in %u",
			(unsigned long long)chunk, are, could);
	return NULL;
}

static bool all_gone(const struct row_chunk *row)
{
	for (unsigned i = 0; i < row->n_members; i++) {
		const struct sim_server *s = sim_server_of(row->members[i].server);
		if (s && !s->gone)
			return false;
	}
	return true;
}

static const char *check_chunk_rests(uint64_t chunk)
{
	unsigned goal = usable_servers() < sim.copies ? usable_servers() : sim.copies;
	const struct fake_replica *first = NULL;
	struct row_chunk row;
	const char *r = NULL;
	bool there = sim_row(chunk, &row);

	for (unsigned i = 0; i < sim.n_servers; i++) {
		const struct sim_server *s = &sim.servers[i];
		if (!s->gone && s->slots[chunk].r.present && !(there && sim_is_member(&row, s->id)))
			NOT_YET("server %u still has v%u of chunk %llu", s->id,
				s->slots[chunk].r.version, (unsigned long long)chunk);
	}
	/* One that was never written, on servers that never come back: nobody can be missed. */
	if (!there || (!(row.flags & CHUNK_WRITTEN) && all_gone(&row)))
		return NULL;
	if (row.n_members != goal)
		NOT_YET("chunk %llu has %u members", (unsigned long long)chunk, row.n_members);
	for (unsigned i = 0; !r && i < row.n_members; i++) {
		const struct sim_server *s = sim_server_of(row.members[i].server);
		if (!s || s->gone)
			NOT_YET("chunk %llu has a lost member", (unsigned long long)chunk);
		if (!first)
			first = &s->slots[chunk].r;
		r = check_replica_rests(chunk, &row, s, first);
	}
	return r ? r : check_domains(chunk, &row);
}

const char *sim_check_rest(void)
{
	const char *r;

	failing_chunk = 0;
	r = check_master_rests();
	for (uint64_t chunk = 1; !r && chunk < SIM_CHUNKS_MAX; chunk++) {
		r = check_chunk_rests(chunk);
		if (r)
			failing_chunk = chunk;
	}
	return r;
}
