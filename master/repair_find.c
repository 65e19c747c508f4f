/* Finds what is to be repaired: a walk in three parts, again and again.
 *
 *     UNDER_GOAL  all `u` rows: fewest members first
 *     SERVERS     the `s` rows of each server that is lost or draining
 *     MARKS       what is held against replicas
 *
 * A step takes a few hundred rows, so that the loop is never held up. A walk that found room for
 * all is followed by a pause, unless a server went or came meanwhile: what was seen counts no more
 * then. */
#include "master/master.h"

#include "common/clock.h"

/* A batch may have to be read from the disk, a chunk's row each. */
enum { FIND_ROWS = 512, FIND_BATCH = 16, FIND_US = 5000, FIND_AGAIN_MS = 5000 };
enum find_phase { FIND_UNDER_GOAL, FIND_SERVERS, FIND_MARKS, FIND_END };

/* What of a server matters here. */
enum { SEEN_UP = 1, SEEN_LOST = 2, SEEN_DRAINING = 4, SEEN_TAKES = 8 };

static uint8_t server_seen(struct master *m, struct cs *cs)
{
	return (uint8_t)((cs_up(cs) ? SEEN_UP : 0) | (cs_takes(cs) ? SEEN_TAKES : 0) |
			 (cs->draining ? SEEN_DRAINING : 0) |
			 (csreg_lost(&m->servers, cs->id, m->o.repair_delay_ms) ? SEEN_LOST : 0));
}

static void watch_servers(struct master *m)
{
	struct cs *cs, *next;

	HASH_ITER(hh, m->servers.by_id, cs, next) {
		uint8_t seen = server_seen(m, cs);
		if (seen != cs->find_seen) {
			cs->find_seen = seen;
			m->repair.find.at_once = true;
		}
	}
}

/* Up to max chunk ids, the last 8 bytes of the keys of a range. Sets *ret_last to the last key. */
static unsigned ids_read(struct master *m, struct key prefix, struct key start, uint64_t *ret,
			 unsigned max, struct key *ret_last)
{
	struct state_iter *it;
	struct slice key, value;
	unsigned n = 0;

	if (state_iter_open(m->st, key_slice(&prefix), key_slice(&start), &it) < 0)
		return 0;
	while (n < max && state_iter_next(it, &key, &value) == 1) {
		ret[n++] = get_be64(key.data + key.len - 8);
		memcpy(ret_last->bytes, key.data, key.len);
		ret_last->len = key.len;
	}
	state_iter_close(it);
	return n;
}

static unsigned find_under_goal(struct master *m, uint64_t *ret, unsigned max)
{
	struct repair_find *f = &m->repair.find;
	struct key prefix = key_prefix(key_under_goal(0, 0), 1), last = {0};
	unsigned n = ids_read(m, prefix, key_under_goal(f->copies, f->next), ret, max, &last);

	if (n > 0) {
		f->copies = last.bytes[1];
		f->next = ret[n - 1] + 1;
	}
	if (n < max)
		f->phase = FIND_SERVERS;
	return n;
}

/* The first server with an id above `id` whose chunks are to be replaced. */
static struct cs *server_after(struct master *m, uint32_t id)
{
	struct cs *cs, *next, *best = NULL;

	HASH_ITER(hh, m->servers.by_id, cs, next) {
		if (cs->id > id && (cs->find_seen & (SEEN_LOST | SEEN_DRAINING)) &&
		    (!best || cs->id < best->id))
			best = cs;
	}
	return best;
}

static unsigned find_on_servers(struct master *m, uint64_t *ret, unsigned max)
{
	struct repair_find *f = &m->repair.find;
	struct cs *cs = server_after(m, f->server);
	struct key last;
	unsigned n;

	if (!cs) {
		f->phase = FIND_MARKS;
		m->servers.next_mark = m->servers.marks;
		return 0;
	}
	n = ids_read(m, key_prefix(key_on_server(cs->id, 0), 5), key_on_server(cs->id, f->next),
		     ret, max, &last);
	f->next = n > 0 ? ret[n - 1] + 1 : 0;
	if (n < max) {
		f->server = cs->id;
		f->next = 0;
	}
	return n;
}

static unsigned find_marks(struct master *m, uint64_t *ret, unsigned max)
{
	struct csreg *reg = &m->servers;
	unsigned n = 0;

	for (; n < max && reg->next_mark; reg->next_mark = reg->next_mark->hh.next)
		ret[n++] = reg->next_mark->key.chunk;
	if (!reg->next_mark)
		m->repair.find.phase = FIND_END;
	return n;
}

static unsigned find_some(struct master *m, uint64_t *ret, unsigned max)
{
	struct repair_find *f = &m->repair.find;

	if (f->phase == FIND_UNDER_GOAL) {
		unsigned n = find_under_goal(m, ret, max);
		if (f->phase == FIND_SERVERS)
			f->next = 0;
		return n;
	}
	return f->phase == FIND_SERVERS ? find_on_servers(m, ret, max) : find_marks(m, ret, max);
}

void repair_find_tick(struct master *m)
{
	struct repair_find *f = &m->repair.find;
	uint64_t found[FIND_BATCH];
	int64_t begun = clock_us();
	bool beginning = f->phase == FIND_UNDER_GOAL && !f->copies && !f->next;

	watch_servers(m);
	if (beginning && !f->at_once && clock_ms() < f->again_ms)
		return;
	if (beginning)
		f->at_once = m->repair.queue.overflowed = false;
	for (unsigned rows = 0; rows < FIND_ROWS && clock_us() - begun < FIND_US;) {
		unsigned n = find_some(m, found, FIND_BATCH);
		for (unsigned i = 0; i < n; i++)
			repair_look(m, found[i]);
		rows += n;
		if (f->phase == FIND_END) {
			bool at_once = f->at_once || m->repair.queue.overflowed;
			*f = (struct repair_find){.at_once = at_once,
						  .again_ms = deadline_in(FIND_AGAIN_MS)};
			break;
		}
	}
}
