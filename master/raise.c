#include "master/raise.h"

#include <assert.h>
#include <stdlib.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "master/raise_priv.h"

enum { RETRIES_PER_TICK = 64 };

static void enter_log(struct raise *x);
static int raise_parts(struct raise *x);

struct raise *raise_find(struct master *m, uint64_t chunk)
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
void raise_finish(struct raise *x, int code)
{
	struct waiter *waiters = x->waiters;

	assert(x->outstanding == 0);
	HASH_DEL(x->m->raises.by_chunk, x);
	free(x);
	waiters_wake(waiters, code);
}

/* Wakes those whose time is over. `now` 0: those who wait only while work is done. */
static void waiters_expire(struct raise *x, int64_t now)
{
	struct waiter *w, *next, *late = NULL;

	DL_FOREACH_SAFE(x->waiters, w, next) {
		if (now ? !w->deadline_ms || now < w->deadline_ms : w->deadline_ms > 0)
			continue;
		DL_DELETE(x->waiters, w);
		DL_APPEND(late, w);
	}
	waiters_wake(late, ERR_CHUNK_PENDING);
}

void raise_retry_later(struct raise *x, int64_t ms)
{
	x->phase = PHASE_RETRY;
	x->retry_ms = deadline_in(ms);
	waiters_expire(x, 0);
}

int raise_row_read(struct raise *x)
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

/* ---- FILL ---- */

/* A copy under way. It outlives the machine's interest in it: copying takes long, and a writer who
 * lost a member must not wait for it. */
struct fill {
	struct master *m;
	uint64_t chunk, serial;
	uint32_t server, source;
};

/* The load that copies are for their two servers: what the limits of repair count. */
static void fill_count(const struct fill *f, int n)
{
	struct cs *from = csreg_find(&f->m->servers, f->source);
	struct cs *to = csreg_find(&f->m->servers, f->server);

	if (from)
		from->feeding += (unsigned)n;
	if (to)
		to->filling += (unsigned)n;
}

static void fill_done(void *arg, int code, struct slice fields)
{
	struct fill *f = arg;
	struct raise *x = raise_find(f->m, f->chunk);
	struct part *p = x && x->serial == f->serial ? raise_part_of(x, f->server) : NULL;

	fill_count(f, -1);
	if (code < 0)
		log_warn("chunk %016llx: copy to server %u: %s", (unsigned long long)f->chunk,
			 f->server, err_text(code));
	free(f);
	if (!p)
		return;
	if (code < 0)
		repair_copy_failed(x->m, x->chunk, code);
	/* Whether it has the copy is not known: if so, it is cheap to join later, or too many. */
	if (code == ERR_TIMEOUT)
		csreg_mark(&x->m->servers, x->chunk, p->server, MARK_STALE);
	p->state = code < 0 ? PART_FAILED : PART_IDLE;
	p->filled = code == 0;
	if (--x->outstanding == 0)
		enter_log(x);
}

static int fill_start(struct raise *x, uint32_t server, const struct part *source)
{
	struct fill *f = malloc(sizeof(*f));
	int r;

	if (!f)
		return ERR_NOMEM;
	*f = (struct fill){.m = x->m, .chunk = x->chunk, .serial = x->serial, .server = server,
			   .source = source->server};
	fill_count(f, 1); /* before the call: a broken link ends it at once */
	r = raise_pull(x, server, source, x->row.version, RAISE_FILL_MS, fill_done, f);
	if (r < 0) {
		fill_count(f, -1);
		free(f);
	}
	return r;
}

static void enter_fill(struct raise *x)
{
	struct part *source = raise_best_source(x, PART_IDLE);

	FAULT_POINT(MASTER_RAISE_FILL, "");
	x->phase = PHASE_FILL;
	x->copy_ms = clock_ms();
	x->filled = true;
	x->serial = ++x->m->raises.fills;
	x->outstanding = 1; /* so that the last answer comes after the loop */
	for (unsigned i = 0; source && (x->row.flags & CHUNK_WRITTEN) && i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		if (!p->joining)
			continue;
		x->outstanding++; /* before the call: a broken link ends it at once */
		if (fill_start(x, p->server, source) < 0) {
			x->outstanding--;
			p->state = PART_FAILED;
		}
	}
	if (--x->outstanding == 0)
		enter_log(x);
}

/* Servers that were to join and do not: what they have got so far makes them cheap to add later. */
static void joining_let_go(struct raise *x)
{
	for (unsigned i = 0; i < x->n_parts; i++)
		if (x->parts[i].joining)
			csreg_mark(&x->m->servers, x->chunk, x->parts[i].server, MARK_STALE);
}

/* Something cannot wait for the copies: go on without those who were to join. */
static void fill_cancel(struct raise *x)
{
	int r;

	log_info("chunk %016llx: copying gives way to a change of its members",
		 (unsigned long long)x->chunk);
	joining_let_go(x);
	x->plan = (struct raise_plan){0};
	x->filled = false;
	x->serial = 0;
	x->outstanding = 0;
	r = raise_parts(x);
	if (r == 0)
		enter_log(x);
	else
		raise_finish(x, r);
}

/* ---- LOG ---- */

static void log_done(struct master *m, void *arg, struct apply_result *result)
{
	struct raise *x = arg;

	x->outstanding--;
	if (!result) {
		raise_finish(x, ERR_CHUNK_PENDING);
	} else if (result->status == 0) {
		raise_ask(x);
	} else if (result->status == ERR_CHUNK_PENDING) {
		enter_log(x); /* another one came first: it is taken over there */
	} else {
		log_info("chunk %016llx: not raised: %s", (unsigned long long)x->chunk,
			 result->text);
		raise_finish(x, result->status);
	}
}

/* A raise is pending in the state: its members and joining servers count, not ours. */
static void adopt(struct raise *x)
{
	int r;

	joining_let_go(x);
	x->plan = (struct raise_plan){0};
	r = raise_parts(x);
	if (r == 0)
		raise_ask(x);
	else
		raise_finish(x, r);
}

/* What is to be deleted there may be deleted at any moment: such a server cannot join yet. */
static bool is_garbage(struct raise *x, uint32_t server)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key key = key_garbage(server, x->chunk);
	return state_get(x->m->st, key_slice(&key), &backing) != 0;
}

static void enter_log(struct raise *x)
{
	struct cmd_chunk_raise cmd = {.chunk = x->chunk};
	int r = raise_row_read(x);

	FAULT_POINT(MASTER_RAISE_LOG, "");
	x->phase = PHASE_LOG;
	x->serial = 0;
	if (r < 0) {
		raise_finish(x, r);
		return;
	}
	if (x->row.pending_version) {
		adopt(x);
		return;
	}
	cmd.version = x->row.version;
	for (unsigned i = 0; i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		struct row_member member = {.server = p->server};
		if (!p->joining && cmd.n_members < REPLICAS_MAX)
			cmd.members[cmd.n_members++] = member;
		else if (p->joining && p->state != PART_FAILED && !is_garbage(x, p->server) &&
			 cmd.n_joining < REPLICAS_MAX)
			cmd.joining[cmd.n_joining++] = member;
		else
			p->state = PART_FAILED;
	}
	/* A repair whose copies failed has nothing to raise for. */
	if (x->filled && cmd.n_joining == 0) {
		raise_finish(x, ERR_NO_SERVERS);
		return;
	}
	x->outstanding++;
	master_propose(x->m, CMD_NUMBER_CHUNK_RAISE, &cmd, log_done, x);
}

/* ---- CONFIRM ---- */

/* What was known against a member is settled, unless it came up after the member was asked, or its
 * own content was what the others were given. One that was mended and crashed again says the same once
 * more, and it is settled all the same: a pull answers when all is synced under the pending version, at
 * which nobody writes before this. */
static void member_settled(struct raise *x, const struct part *p)
{
	uint8_t now = raise_marks_of(x, p->server);

	if (now && (!p->mended || now != p->marks))
		repair_now(x->m, x->chunk);
	else
		csreg_mark(&x->m->servers, x->chunk, p->server, 0);
}

static bool is_confirmed(const struct cmd_chunk_raised *cmd, uint32_t server)
{
	for (unsigned i = 0; i < cmd->n_members; i++)
		if (cmd->members[i].server == server)
			return true;
	return false;
}

/* Those that were left out have the old version, if they have any: it is worth something until the
 * set is known to be whole (repair.c). */
static void settle_strangers(struct raise *x, const struct cmd_chunk_raised *cmd)
{
	for (unsigned i = 0; i < cmd->n_members; i++)
		member_settled(x, raise_part_of(x, cmd->members[i].server));
	for (unsigned i = 0; i < x->n_parts; i++)
		if (!is_confirmed(cmd, x->parts[i].server))
			csreg_mark(&x->m->servers, x->chunk, x->parts[i].server, MARK_STALE);
	if (x->drop && !is_confirmed(cmd, x->drop))
		csreg_mark(&x->m->servers, x->chunk, x->drop, MARK_STALE);
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
		raise_finish(x, 0);
	} else if (result && status == ERR_CHUNK_PENDING) {
		raise_ask(x); /* it was cut again meanwhile */
	} else {
		if (result)
			log_warn("chunk %016llx v%u: not confirmed: %s",
				 (unsigned long long)x->chunk, c->cmd.new_version, result->text);
		raise_retry_later(x, RAISE_RETRY_MS); /* which sees whether it is still pending */
	}
	free(c);
}

static unsigned good_parts(struct raise *x, bool leaving)
{
	unsigned n = 0;
	for (unsigned i = 0; i < x->n_parts; i++)
		n += x->parts[i].state == PART_GOOD && x->parts[i].leaving == leaving;
	return n;
}

static void confirm_members(struct raise *x, struct cmd_chunk_raised *cmd)
{
	unsigned wanted = copies_wanted(x);

	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < x->n_parts; i++) {
			struct part *p = &x->parts[i];
			if (p->state != PART_GOOD || p->leaving != pass ||
			    cmd->n_members == REPLICAS_MAX || (pass && cmd->n_members >= wanted))
				continue;
			cmd->members[cmd->n_members++].server = p->server;
		}
	}
}

void raise_confirm(struct raise *x)
{
	unsigned good = good_parts(x, false) + good_parts(x, true), wanted = copies_wanted(x);
	const struct part *source = raise_part_of(x, x->source);
	struct confirm *c;

	/* Too few without those that leave: they stay. */
	if (good < wanted && raise_ask_leaving(x, wanted - good))
		return;
	FAULT_POINT(MASTER_RAISE_CONFIRM, "");
	x->phase = PHASE_CONFIRM;
	c = calloc(1, sizeof(*c));
	if (!c) {
		raise_retry_later(x, RAISE_RETRY_MS);
		return;
	}
	c->raise = x;
	c->cmd = (struct cmd_chunk_raised){.chunk = x->chunk, .cut = x->row.cut,
					   .new_version = x->row.pending_version};
	confirm_members(x, &c->cmd);
	c->cmd.lossy = source && source->answer.lossy;
	if (c->cmd.lossy)
		log_warn("chunk %016llx v%u: every replica that counts lost its page cache: what "
			 "was written and not synced may be gone", (unsigned long long)x->chunk,
			 x->row.pending_version);
	x->outstanding++;
	master_propose(x->m, CMD_NUMBER_CHUNK_RAISED, &c->cmd, confirm_done, c);
}

/* ---- the beginning ---- */

static int wait_add(struct raise *x, bool patient, raise_done_fn done, void *arg)
{
	struct waiter *w;

	if (!done)
		return 0;
	w = calloc(1, sizeof(*w));
	if (!w)
		return ERR_NOMEM;
	*w = (struct waiter){.done = done, .arg = arg,
			      .deadline_ms = patient ? 0 : deadline_in(RAISE_WAIT_MS)};
	DL_APPEND(x->waiters, w);
	return 0;
}

static bool can_be_source(struct raise *x, uint32_t server, uint8_t marks)
{
	return cs_up(csreg_find(&x->m->servers, server)) && !(raise_marks_of(x, server) & marks);
}

/* Sets up the parts from the row. Negative when there is nobody whose content could count; a
 * pending raise has no choice, and goes on by itself when a member comes back. */
static int raise_parts(struct raise *x)
{
	bool source = false, others = false;
	int r = raise_row_read(x);

	x->n_parts = 0;
	if (r < 0)
		return r;
	for (unsigned i = 0; i < x->row.n_members; i++) {
		uint32_t server = x->row.members[i].server;
		if (server == x->drop)
			continue;
		source |= can_be_source(x, server, MARK_DAMAGED);
		others |= can_be_source(x, server, MARK_DAMAGED | MARK_UNCLEAN);
	}
	if (!source && !x->row.pending_version)
		return ERR_NO_SERVERS;
	/* The one to be left out may be all there is that is sure to have the last writes. */
	if (!others)
		x->drop = 0;
	for (unsigned i = 0; i < x->row.n_members; i++)
		if (x->row.members[i].server != x->drop)
			raise_part_add(x, x->row.members[i].server, false);
	for (unsigned i = 0; i < x->row.n_joining; i++)
		raise_part_add(x, x->row.joining[i].server, true);
	/* What is pending has its own. */
	for (unsigned i = 0; !x->row.pending_version && i < x->plan.n_joining; i++)
		raise_part_add(x, x->plan.joining[i], true);
	for (unsigned i = 0; i < x->plan.n_leaving; i++)
		if (raise_part_of(x, x->plan.leaving[i]))
			raise_part_of(x, x->plan.leaving[i])->leaving = true;
	return 0;
}

/* A machine runs already: wait for it. Copying gives way to what somebody waits for. */
static void raise_join(struct raise *x, uint32_t drop, raise_done_fn done, void *arg)
{
	int r = wait_add(x, false, done, arg);

	if (r < 0)
		done(arg, r);
	if (x->phase != PHASE_FILL)
		return;
	if (raise_row_read(x) < 0 || x->row.pending_version || drop) {
		x->drop = drop;
		fill_cancel(x);
	}
}

/* plan NULL: somebody waits for it, so that it has a time-out. */
static void raise_new(struct master *m, uint64_t chunk, uint32_t drop,
		      const struct raise_plan *plan, raise_done_fn done, void *arg)
{
	struct raise *x = calloc(1, sizeof(*x));
	int r = x ? 0 : ERR_NOMEM;

	if (r == 0) {
		x->m = m;
		x->chunk = chunk;
		x->drop = drop;
		x->begun_ms = clock_ms();
		x->plan = plan ? *plan : (struct raise_plan){0};
		r = raise_parts(x);
	}
	if (r == 0)
		r = wait_add(x, plan != NULL, done, arg);
	if (r < 0) {
		free(x);
		if (done)
			done(arg, r);
		return;
	}
	HASH_ADD(hh, m->raises.by_chunk, chunk, sizeof(x->chunk), x);
	log_debug("chunk %016llx v%u: raise, leaving out %u, adding %u",
		  (unsigned long long)chunk, x->row.version, drop, x->plan.n_joining);
	if (x->plan.n_joining > 0 && !x->row.pending_version)
		enter_fill(x);
	else
		enter_log(x);
}

void raise_start(struct master *m, uint64_t chunk, uint32_t drop, raise_done_fn done, void *arg)
{
	struct raise *x = raise_find(m, chunk);

	if (x)
		raise_join(x, drop, done, arg);
	else
		raise_new(m, chunk, drop, NULL, done, arg);
}

void raise_repair(struct master *m, uint64_t chunk, const struct raise_plan *plan,
		  raise_done_fn done, void *arg)
{
	assert(!raise_running(m, chunk));
	raise_new(m, chunk, 0, plan, done, arg);
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
		raise_start(m, get_be64(chunks.data + i), 0, NULL, NULL);
	return 0;
}

/* The members may be others by now. */
static void retry(struct raise *x)
{
	int r = raise_parts(x);

	if (r == 0 && x->row.pending_version)
		raise_ask(x);
	else
		raise_finish(x, r == ERR_NO_SERVERS ? 0 : r); /* not pending: it was confirmed */
}

/* Somebody waits for it who is not to wait long. */
static bool is_wanted(const struct raise *x)
{
	const struct waiter *w;

	DL_FOREACH(x->waiters, w)
		if (w->deadline_ms)
			return true;
	return false;
}

static bool is_copying(const struct raise *x)
{
	return x->phase == PHASE_FILL || x->phase == PHASE_MEND;
}

void raise_tick(struct master *m)
{
	uint64_t due[RETRIES_PER_TICK];
	struct raise *x, *next;
	int64_t now = clock_ms();
	unsigned n = 0;

	HASH_ITER(hh, m->raises.by_chunk, x, next) {
		waiters_expire(x, now);
		if (n < RETRIES_PER_TICK && ((x->phase == PHASE_RETRY && now >= x->retry_ms) ||
					     (is_copying(x) && is_wanted(x) &&
					      now - x->copy_ms >= RAISE_GIVE_WAY_MS)))
			due[n++] = x->chunk;
	}
	/* By number: what one of them starts may end another. */
	for (unsigned i = 0; i < n; i++) {
		x = raise_find(m, due[i]);
		if (x && x->phase == PHASE_RETRY)
			retry(x);
		else if (x && x->phase == PHASE_MEND)
			raise_mend_give_way(x, now);
		else if (x && x->phase == PHASE_FILL)
			fill_cancel(x);
	}
}

void raise_free_all(struct master *m)
{
	struct raise *x, *next;

	HASH_ITER(hh, m->raises.by_chunk, x, next) {
		HASH_DEL(m->raises.by_chunk, x);
		waiters_wake(x->waiters, ERR_SHUTDOWN);
		free(x);
	}
}
