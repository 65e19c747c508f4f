/* One chunk_read goes over the replicas in an order of preference, on one lane (client/lane.h).
 * When a lane has been silent for as long as hardly any answer takes (client/hedge.h), the next
 * replica is asked for the missing pieces as well, on a second lane; the one that completes a piece
 * first goes on alone, the other is closed, and if it was the first one its server is remembered as
 * slow. A lane that fails is replaced by one to the next replica; damage is reported. When no
 * replica serves, the master is asked again where the chunk is.
 *
 *     lanes          event                          then
 *     first          silent for the hedge's delay   first, second
 *     first          fails                          first (the next replica), or no replica is left
 *     first, second  one completes a piece          first (that one)
 *     first, second  one fails                      first (the other one)
 *     any            all silent, process is gone    as if it failed (common/waits.h) */
#include "client/chunk_read.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>

#include "client/lane.h"
#include "client/locate.h"
#include "client/result.h"
#include "client/wait.h"
#include "common/clock.h"

enum {
	READ_BACKOFF_FIRST_MS = 10,
	READ_BACKOFF_MAX_MS = 500,
	/* Damage does not go away by asking again, but the master may know another replica. */
	READ_ROUNDS_DAMAGED_MAX = 2,
	/* A connection to a server that can be replaced by another; later rounds are patient. */
	READ_DIAL_FIRST_MS = 300,
	READ_REPORT_MS = 1000,
	LANES = 2,
};

struct chunk_reader {
	struct lane_job job;
	uint64_t inode;
	struct location *loc;
	struct lane lanes[LANES]; /* the first is open while any is */
	unsigned order[REPLICAS_MAX], n_order, next; /* replicas, best first; next: not tried yet */
	int64_t hedge_ms, dial_ms;
	bool renewed; /* the token was found to have run out, and asked for anew */
};

/* What a reader's report can help with; other failures are the master's own to notice. */
static bool is_damage(int code)
{
	return code == ERR_CHECKSUM || code == ERR_CORRUPT || code == ERR_NO_CHUNK ||
	       code == ERR_IO;
}

/* Those that failed lately last, then those that were slow. Different sessions begin with different
 * replicas, one session always with the same one (whose cache has the chunk then). */
static void order_replicas(struct chunk_reader *c)
{
	const struct location *loc = c->loc;
	enum peer_health health[REPLICAS_MAX];
	const char *addrs[REPLICAS_MAX];
	unsigned n = loc->n_replicas;
	unsigned first = n ? (unsigned)((loc->id + c->job.fs->salt) % n) : 0;

	for (unsigned i = 0; i < n; i++)
		addrs[i] = loc->replicas[i].addr;
	peers_health(&c->job.fs->peers, addrs, n, health);
	c->n_order = c->next = 0;
	for (enum peer_health h = PEER_GOOD; h <= PEER_FAILED; h++)
		for (unsigned i = 0; i < n; i++)
			if (health[(first + i) % n] == h)
				c->order[c->n_order++] = (first + i) % n;
}

static bool all_done(const struct lane_job *job)
{
	for (unsigned i = 0; i < job->n; i++)
		if (!job->done[i])
			return false;
	return true;
}

/* ---- lanes ---- */

/* Puts the place into the text, and tells the master what it can mend. */
static int replica_failed(struct chunk_reader *c, unsigned replica, int code, struct err *err)
{
	const struct location_replica *from = &c->loc->replicas[replica];

	result_strip(err, from->addr);
	err_prefix(err, code, "read chunk %" PRIx64 " v%u of inode %" PRIx64 " on %s", c->loc->id,
		   c->loc->version, c->inode, from->addr);
	/* The report is for others: whether it arrives changes nothing here. */
	if (is_damage(code)) {
		int64_t limit = deadline_in(READ_REPORT_MS);
		locate_fault(c->job.fs, c->loc, from->server, false, code, err_message(err),
			     limit < c->job.deadline_ms ? limit : c->job.deadline_ms, NULL);
	}
	return code;
}

/* Opens lane l to a replica and asks it. A pooled connection may have died unnoticed. */
static int lane_begin(struct chunk_reader *c, struct lane *l, unsigned replica, bool fresh,
		      struct err *err)
{
	int r = lane_open(l, &c->job, replica, fresh, l != c->lanes, c->dial_ms, err);

	if (r == 0)
		r = lane_ask(l, err);
	if (r == ERR_CLOSED && l->job && l->pooled) {
		lane_close(l);
		return lane_begin(c, l, replica, true, err);
	}
	if (r < 0 && l->job) {
		peers_mark(&c->job.fs->peers, lane_from(l)->addr, !conn_broken(l->conn));
		lane_close(l);
	}
	return r < 0 ? replica_failed(c, replica, r, err) : 0;
}

/* The second lane becomes the only one. */
static void lane_promote(struct chunk_reader *c)
{
	lane_close(&c->lanes[0]);
	if (!c->lanes[1].job)
		return;
	c->lanes[0] = c->lanes[1];
	c->lanes[0].alone = true;
	c->lanes[1].job = NULL;
}

static void lane_end(struct chunk_reader *c, unsigned which)
{
	if (which == 0)
		lane_promote(c);
	else
		lane_close(&c->lanes[1]);
}

/* The lane has ended with `code`. 0: something else is open or was opened; negative: nobody is
 * left. */
static int lane_failed(struct chunk_reader *c, unsigned which, int code, struct err *err)
{
	struct lane *l = &c->lanes[which];
	unsigned replica = l->replica;
	bool broken = conn_broken(l->conn);

	if (code == ERR_CLOSED && l->pooled) {
		/* It may have been closed by a restart since it was used last. */
		lane_close(l);
		code = lane_begin(c, l, replica, true, err);
		if (code == 0)
			return 0;
	} else {
		peers_mark(&c->job.fs->peers, lane_from(l)->addr, !broken);
		replica_failed(c, replica, code, err);
		/* What has run out here has run out everywhere; a fresh one is this server's trouble. */
		if (code == ERR_TOKEN && !c->renewed)
			c->next = c->n_order;
	}
	lane_end(c, which);
	while (!c->lanes[0].job && c->next < c->n_order) {
		err_clear(err);
		code = lane_begin(c, &c->lanes[0], c->order[c->next++], false, err);
	}
	return c->lanes[0].job ? 0 : code;
}

/* A piece was completed on lane `which`: the race, if there was one, is over. */
static void lane_won(struct chunk_reader *c, unsigned which)
{
	if (which == 1) {
		peers_slow(&c->job.fs->peers, lane_from(&c->lanes[0])->addr);
		lane_promote(c);
	} else if (c->lanes[1].job) {
		lane_close(&c->lanes[1]);
	}
}

/* Nothing has come for the hedge's delay: asks another replica too, if there is one that may be. */
static void hedge(struct chunk_reader *c)
{
	struct err err = {0};

	while (!c->lanes[1].job && c->next < c->n_order && hedge_spend(&c->job.fs->hedge))
		lane_begin(c, &c->lanes[1], c->order[c->next++], false, &err);
	c->hedge_ms = INT64_MAX; /* once for each replica that is waited for */
}

/* ---- waiting ---- */

static int64_t silent_ms(const struct lane *l)
{
	return (clock_us() - l->moved_us) / 1000;
}

/* Which lane can be received from now; -1: none, look again. */
static int lanes_wait(struct chunk_reader *c, int64_t wait_ms)
{
	struct pollfd p[LANES];

	for (int i = 0; i < LANES; i++) {
		const struct lane *l = &c->lanes[i];
		p[i] = (struct pollfd){.fd = l->job ? l->conn->fd : -1, .events = POLLIN};
		if (l->job && conn_buffered(l->conn))
			return i;
	}
	if (poll(p, LANES, (int)wait_ms) <= 0)
		return -1;
	return p[0].revents ? 0 : 1;
}

/* Is somebody there still? */
static int lane_check(struct lane *l, struct err *err)
{
	if (silent_ms(l) >= READ_BUSY_MS) {
		l->conn->broken = true;
		return err_set(err, ERR_TIMEOUT, "no answer in %d ms", READ_BUSY_MS);
	}
	if (clock_ms() - l->probed_ms < PROBE_QUIET_MS)
		return 0;
	l->probed_ms = clock_ms();
	return conn_probe(l->conn, err);
}

/* When all lanes are silent, since the question takes a while. */
static int lanes_check(struct chunk_reader *c, struct err *err)
{
	for (unsigned i = 0; i < LANES; i++)
		if (c->lanes[i].job && silent_ms(&c->lanes[i]) < PROBE_QUIET_MS)
			return 0;
	for (unsigned i = 0; i < LANES; i++) {
		int r;
		if (!c->lanes[i].job)
			continue;
		err_clear(err);
		r = lane_check(&c->lanes[i], err);
		if (r < 0)
			return lane_failed(c, i, r, err);
	}
	return 0;
}

/* One step of the race. 0, or negative: nobody is left. */
static int lanes_step(struct chunk_reader *c, struct err *err)
{
	int64_t left = deadline_left(c->job.deadline_ms);
	int64_t until_hedge = c->hedge_ms == INT64_MAX ? PROBE_QUIET_MS
						       : c->hedge_ms - silent_ms(&c->lanes[0]);
	int64_t wait = until_hedge < PROBE_QUIET_MS ? until_hedge : PROBE_QUIET_MS;
	int which, r = 0;

	if (left == 0)
		return replica_failed(c, c->lanes[0].replica,
				      err_set(err, ERR_TIMEOUT, "%s", err_text(ERR_TIMEOUT)), err);
	which = lanes_wait(c, wait < 0 ? 0 : wait < left ? wait : left);
	if (which >= 0) {
		struct lane *l = &c->lanes[which];
		err_clear(err);
		r = lane_step(l, err);
		if (r > 0) {
			lane_won(c, (unsigned)which);
			l = &c->lanes[0];
			which = 0;
			r = lane_ask(l, err);
		}
		return r < 0 ? lane_failed(c, (unsigned)which, r, err) : 0;
	}
	if (silent_ms(&c->lanes[0]) >= c->hedge_ms)
		hedge(c);
	return lanes_check(c, err);
}

/* All missing pieces, each replica tried once. */
static int replicas_read(struct chunk_reader *c, struct err *err)
{
	int r = err_set(err, ERR_NO_SERVERS, "read chunk %" PRIx64 " v%u of inode %" PRIx64
			": no server has it now", c->loc->id, c->loc->version, c->inode);

	order_replicas(c);
	c->hedge_ms = hedge_delay_ms(&c->job.fs->hedge);
	while (!c->lanes[0].job && c->next < c->n_order) {
		err_clear(err);
		r = lane_begin(c, &c->lanes[0], c->order[c->next++], false, err);
	}
	while (r == 0 && !all_done(&c->job))
		r = lanes_step(c, err);
	if (r == 0)
		peers_mark(&c->job.fs->peers, lane_from(&c->lanes[0])->addr, true);
	for (unsigned i = 0; i < LANES; i++)
		lane_close(&c->lanes[i]);
	return r;
}

/* ---- rounds ---- */

static void zero_missing(struct chunk_reader *c)
{
	for (unsigned i = 0; i < c->job.n; i++)
		if (!c->job.done[i])
			memset(c->job.dest + c->job.pieces[i].at, 0, c->job.pieces[i].len);
}

static int chunk_read_rounds(struct chunk_reader *c, struct err *err)
{
	struct backoff pause = {READ_BACKOFF_FIRST_MS, READ_BACKOFF_MAX_MS};
	unsigned damaged = 0;

	for (;;) {
		struct location now;
		struct err again = {0};
		int r, s;
		if (c->loc->id == 0) {
			zero_missing(c);
			return 0;
		}
		r = replicas_read(c, err);
		if (r == 0)
			return 0;
		c->dial_ms = PEER_DIAL_MS;
		cache_drop_location(&c->job.fs->lease.cache, c->inode, c->loc);
		damaged += is_damage(r);
		if (damaged >= READ_ROUNDS_DAMAGED_MAX)
			return r;
		/* A token that has run out is no failure: the first time nobody waits. */
		if ((c->renewed || r != ERR_TOKEN) && !backoff_pause(&pause, c->job.deadline_ms))
			return r;
		c->renewed |= r == ERR_TOKEN;
		s = locate_one(c->job.fs, c->inode, c->loc->index, &now, NULL, c->job.deadline_ms,
			       &again);
		if (s == ERR_STALE) {
			*err = again;
			return s;
		}
		if (s < 0)
			return r; /* why the chunk could not be read says more */
		*c->loc = now;
	}
}

int chunk_read(struct cairn *fs, uint64_t inode, struct location *loc, uint32_t offset,
	       uint32_t len, uint8_t *dest, int64_t deadline_ms, struct err *err)
{
	struct chunk_reader *c = calloc(1, sizeof(*c));
	struct err local = {0};
	int r;

	if (!c)
		return err_set(err, ERR_NOMEM, "out of memory");
	c->job = (struct lane_job){.fs = fs, .loc = loc, .dest = dest, .deadline_ms = deadline_ms};
	c->inode = inode;
	c->loc = loc;
	c->dial_ms = loc->n_replicas > 1 ? READ_DIAL_FIRST_MS : PEER_DIAL_MS;
	c->job.n = pieces_split(c->job.pieces, offset, len);
	r = chunk_read_rounds(c, err ? err : &local);
	free(c);
	return r;
}
