/* Garbage: replicas that are to be deleted, `g` rows. Those of removed files are due at once; those
 * of chunks that nobody knows are given time (garbage_grace), and there may be very many of them, so
 * a walk over a server's rows takes a bounded step, goes on where it stopped, and rests when it came
 * round and found nothing due. */
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "master/master.h"

enum {
	GARBAGE_LOOKED_AT_MAX = 4000, /* rows in a tick, of all servers together */
	GARBAGE_LOOKED_AT_MIN = 100,  /* of one server */
	GARBAGE_REST_MS = 1000,
	/* Long: a deletion given up here would still be done there, some time later, to a replica
	 * that may be wanted again by then. A server that hangs loses its link first. */
	GARBAGE_MS = 600000,
};

struct deletion {
	struct master *m;
	struct cmd_garbage cmd; /* what was asked for, to be confirmed */
};

static void deletion_done(void *arg, int code, struct slice fields)
{
	_cleanup_free_ struct deletion *d = arg;
	struct cs *cs = csreg_find(&d->m->servers, d->cmd.server);

	if (cs) {
		cs->deleting = false;
		cs->garbage_rest_ms = code == 0 ? 0 : deadline_in(GARBAGE_REST_MS);
	}
	if (code != 0)
		return;
	for (unsigned i = 0; i < d->cmd.n_have; i++)
		csreg_mark(&d->m->servers, d->cmd.have[i].id, d->cmd.server, 0);
	master_propose_quietly(d->m, CMD_NUMBER_GARBAGE, &d->cmd);
}

static void walk_ended(struct cs *cs, bool found)
{
	int64_t wait_ms = GARBAGE_REST_MS;

	/* Until the first one is due; what is new before that ends the rest (garbage_due). */
	if (!found && cs->garbage_soonest_s) {
		int64_t wait_s = cs->garbage_soonest_s - clock_now().sec;
		if (wait_s > 1)
			wait_ms = (wait_s < 60 ? wait_s : 60) * 1000;
	}
	cs->garbage_next = 0;
	cs->garbage_soonest_s = 0;
	if (!found)
		cs->garbage_rest_ms = deadline_in(wait_ms);
}

/* Gathers what is due among the next rows. 0, or negative. */
static int garbage_gather(struct master *m, struct cs *cs, unsigned looked_at_max,
			  struct cmd_garbage *ret)
{
	struct key prefix = key_prefix(key_garbage(cs->id, 0), 5);
	struct key start = key_garbage(cs->id, cs->garbage_next);
	struct when now = clock_now();
	struct state_iter *it;
	struct slice key, value;
	unsigned n = 0;
	int r = state_iter_open(m->st, key_slice(&prefix), key_slice(&start), &it);

	if (r < 0)
		return r;
	while (n++ < looked_at_max && ret->n_have < CMD_GARBAGE_MAX &&
	       (r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		struct row_on_server row;
		if (row_on_server_get(&c, &row) < 0)
			continue;
		cs->garbage_next = get_be64(key.data + 5) + 1;
		if (when_cmp(row.not_before, now) <= 0)
			ret->have[ret->n_have++] = (struct wire_have){
				.id = get_be64(key.data + 5), .version = UINT32_MAX};
		else if (!cs->garbage_soonest_s || row.not_before.sec < cs->garbage_soonest_s)
			cs->garbage_soonest_s = row.not_before.sec;
	}
	state_iter_close(it);
	if (r == 0)
		walk_ended(cs, ret->n_have > 0);
	return r < 0 ? r : 0;
}

static void garbage_collect(struct master *m, struct cs *cs, unsigned looked_at_max)
{
	_cleanup_buf_ struct buf list = {0};
	_cleanup_free_ struct deletion *d = calloc(1, sizeof(*d));
	struct wire_chunk_delete req;

	if (!d)
		return;
	d->m = m;
	d->cmd.server = cs->id;
	d->cmd.done = 1;
	if (garbage_gather(m, cs, looked_at_max, &d->cmd) < 0 || d->cmd.n_have == 0)
		return;
	for (unsigned i = 0; i < d->cmd.n_have; i++)
		WIRE_LIST_PUT(wire_have, &list, &d->cmd.have[i]);
	req.have = buf_slice(&list);
	if (buf_status(&list) < 0)
		return;
	cs->deleting = true;
	if (cs_call(&m->servers, cs, OP_CHUNK_DELETE, &req, GARBAGE_MS, deletion_done, d) < 0)
		cs->deleting = false;
	else
		d = NULL;
}

void garbage_tick(struct master *m)
{
	unsigned n = HASH_COUNT(m->servers.by_id);
	unsigned each = n ? GARBAGE_LOOKED_AT_MAX / n : 0;
	struct cs *cs, *next;

	if (each < GARBAGE_LOOKED_AT_MIN)
		each = GARBAGE_LOOKED_AT_MIN;
	HASH_ITER(hh, m->servers.by_id, cs, next) {
		if (m->garbage_due)
			cs->garbage_rest_ms = 0;
		if (cs_up(cs) && !cs->deleting && clock_ms() >= cs->garbage_rest_ms)
			garbage_collect(m, cs, each);
	}
	m->garbage_due = false;
}
