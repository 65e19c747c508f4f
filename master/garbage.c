/* Garbage: replicas that are to be deleted, `g` rows. Those of removed files are due at once; those
 * of chunks that nobody knows are given time (garbage_grace), and there may be very many of them:
 * a walk over a server's rows takes a bounded step, goes on where it stopped, and rests when it
 * came round and found nothing due. */
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

/* The later of the clock and of the time that commands have carried, which not_before was counted
 * from: after a clock was set back by an hour nothing would be deleted for an hour, and a server
 * that is to delete a chunk cannot get it anew. */
static struct when garbage_time(struct master *m)
{
	_cleanup_buf_ struct buf backing = {0};
	struct when now = clock_now();
	struct row_meta meta;

	return ns_meta(m->st, &meta, &backing) == 0 && when_cmp(meta.time, now) > 0 ? meta.time
										     : now;
}

static void walk_ended(struct master *m, struct cs *cs, bool found)
{
	int64_t wait_ms = GARBAGE_REST_MS;

	/* Until the first one is due; what is new before that ends the rest (garbage_due). */
	if (!found && cs->garbage_soonest_s) {
		int64_t wait_s = cs->garbage_soonest_s - garbage_time(m).sec;
		if (wait_s > 1)
			wait_ms = (wait_s < 60 ? wait_s : 60) * 1000;
	}
	cs->garbage_next = 0;
	cs->garbage_soonest_s = 0;
	if (!found)
		cs->garbage_rest_ms = deadline_in(wait_ms);
}

/* When it became garbage its chunk had all copies; now some are missing. Then it is worth something
 * again: the chunk may lose more, and little has to be copied to make it good. */
static bool missed(struct master *m, uint64_t chunk)
{
	struct condition c;
	return repair_examine(m, chunk, &c) == 1 && c.live < c.copies;
}

static void take_back(struct master *m, struct cs *cs, const struct cmd_garbage *cmd)
{
	for (unsigned i = 0; i < cmd->n_have; i++)
		csreg_mark(&m->servers, cmd->have[i].id, cs->id, MARK_STALE);
	if (cmd->n_have > 0)
		master_propose_quietly(m, CMD_NUMBER_GARBAGE, cmd);
}

/* Gathers what is due among the next rows; what is missed again, into ret_missed. 0 or negative. */
static int garbage_gather(struct master *m, struct cs *cs, unsigned looked_at_max,
			  struct cmd_garbage *ret, struct cmd_garbage *ret_missed)
{
	struct key prefix = key_prefix(key_garbage(cs->id, 0), 5);
	struct key start = key_garbage(cs->id, cs->garbage_next);
	struct when now = garbage_time(m);
	struct state_iter *it;
	struct slice key, value;
	unsigned n = 0;
	uint64_t id;
	int r = state_iter_open(m->st, key_slice(&prefix), key_slice(&start), &it);

	if (r < 0)
		return r;
	while (n++ < looked_at_max && ret->n_have < CMD_GARBAGE_MAX &&
	       ret_missed->n_have < CMD_GARBAGE_MAX &&
	       (r = state_iter_next(it, &key, &value)) == 1) {
		struct cursor c = cursor_slice(value);
		struct row_on_server row;
		if (row_on_server_get(&c, &row) < 0)
			continue;
		id = get_be64(key.data + 5);
		cs->garbage_next = id + 1;
		if (when_cmp(row.not_before, now) <= 0) {
			struct cmd_garbage *to = missed(m, id) ? ret_missed : ret;
			to->have[to->n_have++] = (struct wire_have){.id = id,
								    .version = UINT32_MAX};
		} else if (!cs->garbage_soonest_s || row.not_before.sec < cs->garbage_soonest_s) {
			cs->garbage_soonest_s = row.not_before.sec;
		}
	}
	state_iter_close(it);
	if (r == 0)
		walk_ended(m, cs, ret->n_have > 0);
	return r < 0 ? r : 0;
}

static void garbage_collect(struct master *m, struct cs *cs, unsigned looked_at_max)
{
	_cleanup_buf_ struct buf list = {0};
	_cleanup_free_ struct deletion *d = calloc(1, sizeof(*d));
	_cleanup_free_ struct cmd_garbage *again = calloc(1, sizeof(*again));
	struct wire_chunk_delete req;
	int r;

	if (!d || !again)
		return;
	d->m = m;
	d->cmd.server = again->server = cs->id;
	d->cmd.done = again->done = 1;
	r = garbage_gather(m, cs, looked_at_max, &d->cmd, again);
	take_back(m, cs, again);
	if (r < 0 || d->cmd.n_have == 0)
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
