#include "master/raise.h"

#include <assert.h>
#include <stdlib.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/master.h"

enum { PARTS_MAX = 2 * REPLICAS_MAX };

enum part_state { PART_IDLE, PART_ASKED, PART_GOOD, PART_BEHIND, PART_FAILED };

/* A server that takes part. BEHIND: it answers, but needs the source's content. */
struct part {
	struct raise *raise;
	uint32_t server;
	bool joining;
	enum part_state state;
	struct wire_chunk_state answer;
};

struct waiter {
	raise_done_fn done;
	void *arg;
	int64_t deadline_ms;
	struct waiter *prev, *next;
};

enum phase { PHASE_FILL, PHASE_LOG, PHASE_ASK, PHASE_MEND, PHASE_CONFIRM, PHASE_RETRY };

struct raise {
	struct master *m;
	uint64_t chunk;
	struct row_chunk row; /* as read when the phase began */
	enum phase phase;
	struct part parts[PARTS_MAX];
	unsigned n_parts;
	unsigned outstanding;
	uint32_t drop;
	bool filling;
	int64_t retry_ms;
	struct waiter *waiters;
	UT_hash_handle hh;
};

static void enter_log(struct raise *x);
static void enter_ask(struct raise *x);

static struct raise *raise_find(struct master *m, uint64_t chunk)
{
	struct raise *x;
	HASH_FIND(hh, m->raises.by_chunk, &chunk, sizeof(chunk), x);
	return x;
}

bool raise_running(struct master *m, uint64_t chunk)
{
	return raise_find(m, chunk) != NULL;
}

/* ---- the end ---- */

static void waiters_wake(struct waiter *list, int code)
{
	struct waiter *w, *next;

	DL_FOREACH_SAFE(list, w, next) {
		DL_DELETE(list, w);
		w->done(w->arg, code);
		free(w);
	}
}

/* Frees the machine first: those who waited may start another for the same chunk. */
static void finish(struct raise *x, int code)
{
	struct waiter *waiters = x->waiters;

	assert(x->outstanding == 0);
	HASH_DEL(x->m->raises.by_chunk, x);
	free(x);
	waiters_wake(waiters, code);
}

static void retry_later(struct raise *x)
{
	x->phase = PHASE_RETRY;
	x->retry_ms = deadline_in(RAISE_RETRY_MS);
}

static int row_read(struct raise *x)
{
	_cleanup_buf_ struct buf backing = {0};
	int r = state_get_row_chunk(x->m->st, key_chunk(x->chunk), &x->row, &backing);
	return r < 0 ? r : r ? 0 : ERR_NO_CHUNK;
}

static uint32_t copies_wanted(struct raise *x)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_policy policy = {0};

	state_get_row_policy(x->m->st, key_policy(x->row.policy), &policy, &backing);
	return policy.copies;
}

/* ---- parts ---- */

static struct part *part_of(struct raise *x, uint32_t server)
{
	for (unsigned i = 0; i < x->n_parts; i++)
		if (x->parts[i].server == server)
			return &x->parts[i];
	return NULL;
}

static void part_add(struct raise *x, uint32_t server, bool joining)
{
	if (x->n_parts < PARTS_MAX && !part_of(x, server))
		x->parts[x->n_parts++] = (struct part){.raise = x, .server = server,
						       .joining = joining};
}

static bool part_reachable(const struct part *p)
{
	struct cs *cs = csreg_find(&p->raise->m->servers, p->server);
	return cs && cs->peer;
}

static uint8_t part_marks(const struct part *p)
{
	return csreg_marked(&p->raise->m->servers, p->raise->chunk, p->server) &
	       (MARK_UNCLEAN | MARK_DAMAGED);
}

/* The best member to copy from, among those in `state`: unmarked before unclean before damaged. */
static struct part *best_source(struct raise *x, enum part_state state)
{
	struct part *best = NULL;
	unsigned best_rank = 8;

	for (unsigned i = 0; i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		unsigned marks = part_marks(p), rank = (marks & MARK_DAMAGED ? 4 : 0) +
						       (marks & MARK_UNCLEAN ? 2 : 0);
		if (p->joining || p->state != state || !part_reachable(p))
			continue;
		if (state == PART_GOOD && !p->answer.present)
			rank++;
		if (rank < best_rank) {
			best = p;
			best_rank = rank;
		}
	}
	return best;
}

static int pull(struct part *p, const struct part *source, uint32_t source_version,
		uint32_t new_version, cs_done_fn done)
{
	struct master *m = p->raise->m;
	struct cs *from = csreg_find(&m->servers, source->server);
	struct wire_chunk_pull req = {
		.chunk = p->raise->chunk, .source_version = source_version,
		.new_version = new_version, .chunk_bits = p->raise->row.chunk_bits,
		.source = {.server = source->server, .addr = slice_str(from->addr)},
	};
	return cs_call(csreg_find(&m->servers, p->server), OP_CHUNK_PULL, &req, RAISE_PULL_MS,
		       done, p);
}

/* ---- FILL ---- */

static void fill_done(void *arg, int code, struct slice fields)
{
	struct part *p = arg;
	struct raise *x = p->raise;

	if (code < 0) {
		log_warn("chunk %016llx v%u: copy to server %u: %s", (unsigned long long)x->chunk,
			 x->row.version, p->server, err_text(code));
		p->state = PART_FAILED;
	}
	if (--x->outstanding == 0)
		enter_log(x);
}

static void enter_fill(struct raise *x)
{
	struct part *source;

	x->phase = PHASE_FILL;
	source = best_source(x, PART_IDLE);
	x->outstanding = 1; /* so that the last answer comes after the loop */
	for (unsigned i = 0; source && (x->row.flags & CHUNK_WRITTEN) && i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		if (!p->joining)
			continue;
		x->outstanding++; /* before the call: a broken link ends it at once */
		if (pull(p, source, x->row.version, x->row.version, fill_done) < 0) {
			x->outstanding--;
			p->state = PART_FAILED;
		}
	}
	if (--x->outstanding == 0)
		enter_log(x);
}

/* ---- LOG ---- */

static void log_done(struct master *m, void *arg, struct apply_result *result)
{
	struct raise *x = arg;

	x->outstanding--;
	if (!result) {
		finish(x, ERR_CHUNK_PENDING);
	} else if (result->status == 0 || result->status == ERR_CHUNK_PENDING) {
		enter_ask(x);
	} else {
		log_info("chunk %016llx: not raised: %s", (unsigned long long)x->chunk,
			 result->text);
		finish(x, result->status);
	}
}

static void enter_log(struct raise *x)
{
	struct cmd_chunk_raise cmd = {.chunk = x->chunk};
	int r = row_read(x);
	bool joined = false;

	x->phase = PHASE_LOG;
	if (r < 0) {
		finish(x, r);
		return;
	}
	if (x->row.pending_version) {
		enter_ask(x);
		return;
	}
	cmd.version = x->row.version;
	for (unsigned i = 0; i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		struct row_member member = {.server = p->server};
		if (!p->joining)
			cmd.members[cmd.n_members++] = member;
		else if (p->state != PART_FAILED && cmd.n_joining < REPLICAS_MAX)
			cmd.joining[cmd.n_joining++] = member;
		joined |= p->joining && p->state != PART_FAILED;
	}
	/* A repair whose copy failed has nothing to raise for. */
	if (!joined && x->filling) {
		finish(x, ERR_NO_SERVERS);
		return;
	}
	x->outstanding++;
	master_propose(x->m, CMD_NUMBER_CHUNK_RAISE, &cmd, log_done, x);
}

/* ---- CONFIRM ---- */

/* Servers outside the set that still have a replica: wanted for repair while copies are missing,
 * garbage when none is. */
static void settle_strangers(struct raise *x, const struct cmd_chunk_raised *cmd)
{
	struct cs *cs, *next;
	bool complete = cmd->n_members >= copies_wanted(x);

	HASH_ITER(hh, x->m->servers.by_id, cs, next) {
		bool member = false;
		for (unsigned i = 0; i < cmd->n_members; i++)
			member |= cmd->members[i].server == cs->id;
		if (member) {
			csreg_mark(&x->m->servers, x->chunk, cs->id, 0);
			continue;
		}
		/* One that was left out and can be reached has the old version. */
		if (part_of(x, cs->id) || cs->id == x->drop)
			csreg_mark(&x->m->servers, x->chunk, cs->id, MARK_STALE);
		if (complete && csreg_marked(&x->m->servers, x->chunk, cs->id)) {
			struct cmd_garbage garbage = {.server = cs->id, .n_have = 1};
			garbage.have[0] = (struct wire_have){.id = x->chunk,
							     .version = cmd->new_version};
			csreg_mark(&x->m->servers, x->chunk, cs->id, 0);
			master_propose_quietly(x->m, CMD_NUMBER_GARBAGE, &garbage);
		}
	}
	if (!complete)
		repair_now(x->m, x->chunk);
}

struct confirm {
	struct raise *raise;
	struct cmd_chunk_raised cmd;
};

static void confirm_done(struct master *m, void *arg, struct apply_result *result)
{
	struct confirm *c = arg;
	struct raise *x = c->raise;
	int status = result ? result->status : ERR_CHUNK_PENDING;

	x->outstanding--;
	if (status == 0) {
		log_info("chunk %016llx is at v%u with %u replicas", (unsigned long long)x->chunk,
			 c->cmd.new_version, c->cmd.n_members);
		settle_strangers(x, &c->cmd);
		finish(x, 0);
	} else if (result && status == ERR_CHUNK_PENDING) {
		enter_ask(x); /* it was cut again meanwhile */
	} else {
		finish(x, status);
	}
	free(c);
}

static void enter_confirm(struct raise *x)
{
	struct confirm *c = calloc(1, sizeof(*c));

	x->phase = PHASE_CONFIRM;
	if (!c) {
		retry_later(x);
		return;
	}
	c->raise = x;
	c->cmd = (struct cmd_chunk_raised){.chunk = x->chunk, .cut = x->row.cut,
					   .new_version = x->row.pending_version};
	for (unsigned i = 0; i < x->n_parts; i++)
		if (x->parts[i].state == PART_GOOD && c->cmd.n_members < REPLICAS_MAX)
			c->cmd.members[c->cmd.n_members++].server = x->parts[i].server;
	x->outstanding++;
	master_propose(x->m, CMD_NUMBER_CHUNK_RAISED, &c->cmd, confirm_done, c);
}

/* ---- MEND ---- */

static void mend_done(void *arg, int code, struct slice fields)
{
	struct part *p = arg;
	struct raise *x = p->raise;

	p->state = code < 0 ? PART_FAILED : PART_GOOD;
	if (code < 0)
		log_warn("chunk %016llx v%u: server %u cannot be brought up to date: %s",
			 (unsigned long long)x->chunk, x->row.pending_version, p->server,
			 err_text(code));
	if (--x->outstanding == 0)
		enter_confirm(x);
}

static void enter_mend(struct raise *x)
{
	struct part *source = best_source(x, PART_GOOD);

	x->phase = PHASE_MEND;
	if (!source) {
		log_warn("chunk %016llx v%u: no member can be raised now",
			 (unsigned long long)x->chunk, x->row.version);
		retry_later(x);
		return;
	}
	x->outstanding = 1;
	for (unsigned i = 0; i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		bool same = p->answer.present == source->answer.present &&
			    p->answer.length == source->answer.length &&
			    p->answer.digest == source->answer.digest;
		if (p == source || p->state == PART_FAILED)
			continue;
		if (p->state == PART_GOOD && same && !part_marks(p))
			continue;
		if (!source->answer.present) {
			/* Never written: absent everywhere, so there is nothing to copy. */
			p->state = PART_GOOD;
			continue;
		}
		x->outstanding++;
		if (pull(p, source, x->row.pending_version, x->row.pending_version, mend_done) < 0) {
			x->outstanding--;
			p->state = PART_FAILED;
		}
	}
	if (--x->outstanding == 0)
		enter_confirm(x);
}

/* ---- ASK ---- */

static void ask_done(void *arg, int code, struct slice fields)
{
	struct part *p = arg;
	struct raise *x = p->raise;
	struct cursor c = cursor_slice(fields);

	if (code == 0 && wire_chunk_state_get(&c, &p->answer) < 0)
		code = ERR_PROTOCOL;
	if (code == 0)
		p->state = PART_GOOD;
	else if (code == ERR_NO_CHUNK || code == ERR_CHUNK_VERSION || code == ERR_CORRUPT ||
		 code == ERR_CHECKSUM)
		p->state = PART_BEHIND;
	else
		p->state = PART_FAILED;
	if (code < 0)
		log_warn("chunk %016llx v%u: server %u: %s", (unsigned long long)x->chunk,
			 x->row.version, p->server, err_text(code));
	if (--x->outstanding == 0)
		enter_mend(x);
}

static void enter_ask(struct raise *x)
{
	struct wire_chunk_raise req = {.chunk = x->chunk};
	struct part *settle = NULL;
	int r = row_read(x);

	x->phase = PHASE_ASK;
	if (r < 0 || !x->row.pending_version) {
		finish(x, r);
		return;
	}
	for (unsigned i = 0; i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		p->answer = (struct wire_chunk_state){0};
		/* A joining server whose fill failed stays out. */
		if (p->joining)
			p->state = p->state == PART_FAILED ? PART_FAILED : PART_BEHIND;
		else
			p->state = PART_IDLE;
	}
	/* Every member was open at a crash: the best one's content counts. */
	settle = best_source(x, PART_IDLE);
	if (settle && !part_marks(settle))
		settle = NULL;
	req.version = x->row.version;
	req.new_version = x->row.pending_version;
	req.length = x->row.cut;
	x->outstanding = 1;
	for (unsigned i = 0; i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		if (p->joining)
			continue;
		req.flags = (x->row.flags & CHUNK_WRITTEN) | (p == settle ? RAISE_SETTLE : 0);
		p->state = PART_ASKED;
		x->outstanding++;
		if (cs_call(csreg_find(&x->m->servers, p->server), OP_CHUNK_RAISE, &req,
			    x->m->o.raise_timeout_ms, ask_done, p) < 0) {
			x->outstanding--;
			p->state = PART_FAILED;
		}
	}
	if (--x->outstanding == 0)
		enter_mend(x);
}

/* ---- the beginning ---- */

static int wait_add(struct raise *x, raise_done_fn done, void *arg)
{
	struct waiter *w;

	if (!done)
		return 0;
	w = calloc(1, sizeof(*w));
	if (!w)
		return ERR_NOMEM;
	*w = (struct waiter){.done = done, .arg = arg, .deadline_ms = deadline_in(RAISE_WAIT_MS)};
	DL_APPEND(x->waiters, w);
	return 0;
}

/* Sets up the parts from the row. Negative when there is nobody to ask. */
static int raise_parts(struct raise *x, const uint32_t *joining, unsigned n_joining)
{
	bool reachable = false;
	int r = row_read(x);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < x->row.n_members; i++)
		if (x->row.members[i].server != x->drop)
			part_add(x, x->row.members[i].server, false);
	for (unsigned i = 0; i < x->row.n_joining; i++)
		part_add(x, x->row.joining[i].server, true);
	for (unsigned i = 0; i < n_joining; i++)
		part_add(x, joining[i], true);
	for (unsigned i = 0; i < x->n_parts; i++)
		reachable |= !x->parts[i].joining && part_reachable(&x->parts[i]);
	/* A pending raise goes on by itself when a member comes back. */
	return reachable || x->row.pending_version ? 0 : ERR_NO_SERVERS;
}

void raise_start(struct master *m, uint64_t chunk, uint32_t drop, const uint32_t *joining,
		 unsigned n_joining, raise_done_fn done, void *arg)
{
	struct raise *x = raise_find(m, chunk);
	int r;

	if (x) {
		r = wait_add(x, done, arg);
		if (r < 0)
			done(arg, r);
		return;
	}
	x = calloc(1, sizeof(*x));
	if (!x) {
		if (done)
			done(arg, ERR_NOMEM);
		return;
	}
	x->m = m;
	x->chunk = chunk;
	x->drop = drop;
	r = raise_parts(x, joining, n_joining);
	if (r == 0)
		r = wait_add(x, done, arg);
	if (r < 0) {
		free(x);
		if (done)
			done(arg, r);
		return;
	}
	HASH_ADD(hh, m->raises.by_chunk, chunk, sizeof(x->chunk), x);
	log_debug("chunk %016llx v%u: raise, leaving out %u, adding %u",
		  (unsigned long long)chunk, x->row.version, drop, n_joining);
	if (n_joining > 0 && !x->row.pending_version) {
		x->filling = true;
		enter_fill(x);
	} else {
		enter_log(x);
	}
}

int raise_resume(struct master *m)
{
	uint8_t type = KEY_PENDING;
	struct state_iter *it;
	struct slice key, value;
	_cleanup_buf_ struct buf chunks = {0};
	int r = state_iter_open(m->st, slice_of(&type, 1), (struct slice){0}, &it);

	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1)
		buf_be64(&chunks, get_be64(key.data + 1));
	state_iter_close(it);
	if (r < 0 || buf_status(&chunks) < 0)
		return r < 0 ? r : ERR_NOMEM;
	for (size_t i = 0; i < chunks.len; i += 8)
		raise_start(m, get_be64(chunks.data + i), 0, NULL, 0, NULL, NULL);
	return 0;
}

static void waiters_expire(struct raise *x, int64_t now)
{
	struct waiter *w, *next, *late = NULL;

	DL_FOREACH_SAFE(x->waiters, w, next) {
		if (now < w->deadline_ms)
			continue;
		DL_DELETE(x->waiters, w);
		DL_APPEND(late, w);
	}
	waiters_wake(late, ERR_CHUNK_PENDING);
}

void raise_tick(struct master *m)
{
	struct raise *x, *next;
	int64_t now = clock_ms();

	HASH_ITER(hh, m->raises.by_chunk, x, next)
		waiters_expire(x, now);
	HASH_ITER(hh, m->raises.by_chunk, x, next) {
		if (x->phase != PHASE_RETRY || now < x->retry_ms)
			continue;
		/* The members may be others by now; a server that was left out may be all there is. */
		x->n_parts = 0;
		x->drop = 0;
		if (raise_parts(x, NULL, 0) == 0)
			enter_log(x);
		else
			finish(x, ERR_NO_CHUNK);
		break; /* the table may have changed: one machine a tick */
	}
}

void raise_free_all(struct master *m)
{
	struct raise *x, *next;

	HASH_ITER(hh, m->raises.by_chunk, x, next) {
		struct waiter *w, *next_w;
		HASH_DEL(m->raises.by_chunk, x);
		DL_FOREACH_SAFE(x->waiters, w, next_w)
			free(w);
		free(x);
	}
}
