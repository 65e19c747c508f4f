#include "master/raise.h"

#include <assert.h>
#include <stdlib.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "master/master.h"

enum { PARTS_MAX = 2 * REPLICAS_MAX, RETRIES_PER_TICK = 64, RAISE_SOON_MS = 200 };

enum part_state { PART_IDLE, PART_ASKED, PART_GOOD, PART_BEHIND, PART_FAILED };

/* A server that takes part. BEHIND: it answers, but needs the source's content. */
struct part {
	struct raise *raise;
	uint32_t server;
	bool joining, leaving;
	bool filled;   /* joining: it has a copy of the old version */
	bool asked;
	bool mended;   /* it has the content that counts: what was held against it is settled */
	uint8_t marks; /* as they were when it was asked; later ones stand */
	enum part_state state;
	struct wire_chunk_state answer;
};

struct waiter {
	raise_done_fn done;
	void *arg;
	int64_t deadline_ms; /* 0: waits as long as work is done */
	struct waiter *prev, *next;
};

enum phase { PHASE_FILL, PHASE_LOG, PHASE_ASK, PHASE_MEND, PHASE_CONFIRM, PHASE_RETRY };

struct raise {
	struct master *m;
	uint64_t chunk;
	uint64_t serial;      /* of the present FILL: answers to another one are ignored */
	struct row_chunk row; /* as read when the phase began */
	enum phase phase;
	struct part parts[PARTS_MAX];
	unsigned n_parts;
	unsigned outstanding; /* calls and proposals that have not ended */
	uint32_t drop, source; /* source: whom the others copy from, in MEND */
	unsigned unsure; /* rounds of MEND after which it was not clear who had failed */
	bool blamed;	 /* in this one */
	struct raise_plan plan;
	bool filled; /* it began with FILL: for the joining servers' sake */
	int64_t begun_ms;
	int64_t retry_ms;
	struct waiter *waiters;
	UT_hash_handle hh;
};

static void enter_log(struct raise *x);
static void enter_ask(struct raise *x);
static bool ask_leaving(struct raise *x, unsigned n);
static bool better_may_come(struct raise *x);
static bool ask_marked(struct raise *x);
static bool any_marked(struct raise *x);
static int raise_parts(struct raise *x);

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

static void retry_later(struct raise *x, int64_t ms)
{
	x->phase = PHASE_RETRY;
	x->retry_ms = deadline_in(ms);
	waiters_expire(x, 0);
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

static struct cs *part_cs(const struct part *p)
{
	return csreg_find(&p->raise->m->servers, p->server);
}

static uint8_t marks_of(struct raise *x, uint32_t server)
{
	return csreg_marked(&x->m->servers, x->chunk, server) &
	       (MARK_UNCLEAN | MARK_TORN | MARK_DAMAGED);
}

/* Of those in `state` that can be copied from, the smaller the better: unmarked before unclean
 * before torn before absent (the chunk was never written) before damaged; those in doubt, which
 * serve nobody before a raise, after others; then those that are sure to answer. */
static unsigned source_rank(struct part *p, enum part_state state)
{
	unsigned marks = csreg_marked(&p->raise->m->servers, p->raise->chunk, p->server);

	return (marks & MARK_DAMAGED ? 32 : 0) +
	       (state == PART_GOOD && !p->answer.present ? 16 : 0) +
	       (marks & MARK_TORN ? 8 : 0) + (marks & MARK_UNCLEAN ? 4 : 0) +
	       (state == PART_IDLE && (marks & MARK_IN_DOUBT) ? 2 : 0) +
	       (part_cs(p)->state == SERVER_SUSPECT ? 1 : 0);
}

/* The best member to copy from, of equal ones the one with the least to do. */
static struct part *best_source(struct raise *x, enum part_state state)
{
	struct part *best = NULL;
	unsigned best_rank = 0;

	for (unsigned i = 0; i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		unsigned rank;
		if (p->joining || p->state != state || !cs_up(part_cs(p)))
			continue;
		rank = source_rank(p, state);
		if (!best || rank < best_rank ||
		    (rank == best_rank && part_cs(p)->feeding < part_cs(best)->feeding)) {
			best = p;
			best_rank = rank;
		}
	}
	return best;
}

static int pull(struct raise *x, uint32_t server, const struct part *source, uint32_t new_version,
		int64_t timeout_ms, cs_done_fn done, void *arg)
{
	struct csreg *servers = &x->m->servers;
	struct wire_chunk_pull req = {
		.chunk = x->chunk, .source_version = new_version, .new_version = new_version,
		.chunk_bits = x->row.chunk_bits,
		.source = {.server = source->server, .addr = slice_str(part_cs(source)->addr)},
	};
	struct cs *cs = csreg_find(servers, server);

	if (!cs_up(cs))
		return ERR_CLOSED;
	return cs_call(servers, cs, OP_CHUNK_PULL, &req, timeout_ms, done, arg);
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
	struct part *p = x && x->serial == f->serial ? part_of(x, f->server) : NULL;

	fill_count(f, -1);
	if (code < 0)
		log_warn("chunk %016llx: copy to server %u: %s", (unsigned long long)f->chunk,
			 f->server, err_text(code));
	free(f);
	if (!p)
		return;
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
	r = pull(x, server, source, x->row.version, RAISE_FILL_MS, fill_done, f);
	if (r < 0) {
		fill_count(f, -1);
		free(f);
	}
	return r;
}

static void enter_fill(struct raise *x)
{
	struct part *source = best_source(x, PART_IDLE);

	FAULT_POINT(MASTER_RAISE_FILL, "");
	x->phase = PHASE_FILL;
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
		finish(x, r);
}

/* ---- LOG ---- */

static void log_done(struct master *m, void *arg, struct apply_result *result)
{
	struct raise *x = arg;

	x->outstanding--;
	if (!result) {
		finish(x, ERR_CHUNK_PENDING);
	} else if (result->status == 0) {
		enter_ask(x);
	} else if (result->status == ERR_CHUNK_PENDING) {
		enter_log(x); /* another one came first: it is taken over there */
	} else {
		log_info("chunk %016llx: not raised: %s", (unsigned long long)x->chunk,
			 result->text);
		finish(x, result->status);
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
		enter_ask(x);
	else
		finish(x, r);
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
	int r = row_read(x);

	FAULT_POINT(MASTER_RAISE_LOG, "");
	x->phase = PHASE_LOG;
	x->serial = 0;
	if (r < 0) {
		finish(x, r);
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
		finish(x, ERR_NO_SERVERS);
		return;
	}
	x->outstanding++;
	master_propose(x->m, CMD_NUMBER_CHUNK_RAISE, &cmd, log_done, x);
}

/* ---- CONFIRM ---- */

/* What was known against a member is settled, unless it came up after the member was asked, or its
 * own content was what the others were given. */
static void member_settled(struct raise *x, const struct part *p)
{
	uint8_t now = marks_of(x, p->server);

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
		member_settled(x, part_of(x, cmd->members[i].server));
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
		finish(x, 0);
	} else if (result && status == ERR_CHUNK_PENDING) {
		enter_ask(x); /* it was cut again meanwhile */
	} else {
		if (result)
			log_warn("chunk %016llx v%u: not confirmed: %s",
				 (unsigned long long)x->chunk, c->cmd.new_version, result->text);
		retry_later(x, RAISE_RETRY_MS); /* which sees whether it is still pending */
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

static void enter_confirm(struct raise *x)
{
	unsigned good = good_parts(x, false) + good_parts(x, true), wanted = copies_wanted(x);
	struct confirm *c;

	/* Too few without those that leave: they stay. */
	if (good < wanted && ask_leaving(x, wanted - good))
		return;
	x->phase = PHASE_CONFIRM;
	c = calloc(1, sizeof(*c));
	if (!c) {
		retry_later(x, RAISE_RETRY_MS);
		return;
	}
	c->raise = x;
	c->cmd = (struct cmd_chunk_raised){.chunk = x->chunk, .cut = x->row.cut,
					   .new_version = x->row.pending_version};
	confirm_members(x, &c->cmd);
	x->outstanding++;
	master_propose(x->m, CMD_NUMBER_CHUNK_RAISED, &c->cmd, confirm_done, c);
}

/* ---- MEND ---- */

/* A copy between two members failed. Which of them is at fault is seen when both are asked again:
 * to leave out the wrong one could cost the last good replica. */
static void mend_failed(struct raise *x, const struct part *p, int code)
{
	log_warn("chunk %016llx v%u: server %u cannot be brought up to date from %u: %s",
		 (unsigned long long)x->chunk, x->row.pending_version, p->server, x->source,
		 err_text(code));
	if (code == ERR_CHECKSUM || code == ERR_CORRUPT)
		csreg_mark(&x->m->servers, x->chunk, x->source, MARK_DAMAGED);
	else if (!err_is_transport(code))
		return;
	x->blamed |= !p->joining;
}

static void mend_ended(struct raise *x)
{
	if (!x->blamed || x->unsure >= RAISE_UNSURE_MAX) {
		enter_confirm(x);
		return;
	}
	x->unsure++;
	retry_later(x, RAISE_RETRY_MS);
}

static void mend_done(void *arg, int code, struct slice fields)
{
	struct part *p = arg;
	struct raise *x = p->raise;
	struct cursor c = cursor_slice(fields);

	if (code == 0 && wire_chunk_state_get(&c, &p->answer) < 0)
		code = ERR_PROTOCOL;
	p->state = code < 0 ? PART_FAILED : PART_GOOD;
	p->mended = code == 0;
	if (code < 0)
		mend_failed(x, p, code);
	if (--x->outstanding == 0)
		mend_ended(x);
}

static bool same_answer(const struct part *a, const struct part *b)
{
	return a->answer.present == b->answer.present && a->answer.length == b->answer.length &&
	       a->answer.digest == b->answer.digest;
}

/* To be a copy of what is absent, because it was never written: what is here of an older version
 * goes. */
static int delete_old(struct raise *x, struct part *p)
{
	_cleanup_buf_ struct buf list = {0};
	struct wire_have have = {.id = x->chunk, .version = x->row.version};
	struct wire_chunk_delete req;

	WIRE_LIST_PUT(wire_have, &list, &have);
	req.have = buf_slice(&list);
	if (buf_status(&list) < 0 || !cs_up(part_cs(p)))
		return buf_status(&list) < 0 ? ERR_NOMEM : ERR_CLOSED;
	return cs_call(&x->m->servers, part_cs(p), OP_CHUNK_DELETE, &req, RAISE_MEND_MS,
		       mend_done, p);
}

static void mend(struct raise *x, struct part *p, const struct part *source)
{
	if (p->state == PART_FAILED || p->state == PART_IDLE ||
	    (p->state == PART_GOOD && same_answer(p, source) && (!p->marks || p->mended)))
		return;
	if (!source->answer.present && p->state == PART_GOOD) {
		p->mended = true; /* never written: absent everywhere, there is nothing to copy */
		return;
	}
	x->outstanding++;
	if (source->answer.present ? pull(x, p->server, source, x->row.pending_version,
					  RAISE_MEND_MS, mend_done, p) < 0
				   : delete_old(x, p) < 0) {
		x->outstanding--;
		p->state = PART_FAILED;
	}
}

/* No member has the chunk at its version, and it was never written: they have what a late first
 * write left at an older one. That goes, and all begin with nothing. */
static bool mend_from_nothing(struct raise *x)
{
	const struct part nothing = {0};
	bool any = false;

	for (unsigned i = 0; i < x->n_parts; i++)
		any |= x->parts[i].state == PART_BEHIND && x->parts[i].asked;
	if ((x->row.flags & CHUNK_WRITTEN) || !any)
		return false;
	x->source = 0;
	x->blamed = false;
	x->outstanding = 1;
	for (unsigned i = 0; i < x->n_parts; i++)
		if (x->parts[i].state == PART_BEHIND)
			mend(x, &x->parts[i], &nothing);
	if (--x->outstanding == 0)
		mend_ended(x);
	return true;
}

static void enter_mend(struct raise *x)
{
	struct part *source = best_source(x, PART_GOOD);

	FAULT_POINT(MASTER_RAISE_MEND, "");
	/* A chunk that was never written may be absent on members that count. One that has
	 * something of it comes before them, whatever is held against it. */
	if (source && !source->answer.present && any_marked(x))
		source = NULL;
	if (!source && !better_may_come(x) && (ask_marked(x) || mend_from_nothing(x)))
		return;
	x->phase = PHASE_MEND;
	if (!source) {
		log_warn("chunk %016llx v%u: no member can be raised now",
			 (unsigned long long)x->chunk, x->row.version);
		retry_later(x, RAISE_RETRY_MS);
		return;
	}
	x->source = source->server;
	x->blamed = false;
	x->outstanding = 1;
	for (unsigned i = 0; i < x->n_parts; i++)
		if (&x->parts[i] != source)
			mend(x, &x->parts[i], source);
	if (--x->outstanding == 0)
		mend_ended(x);
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

/* Members must be in the row still; a joining server whose copy failed stays out. One that is to
 * leave has to stay while there is no other whose content can count. */
static void ask_prepare(struct raise *x)
{
	bool sound = false;

	for (unsigned i = 0; i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		const struct row_member *list = p->joining ? x->row.joining : x->row.members;
		unsigned n = p->joining ? x->row.n_joining : x->row.n_members;
		bool listed = false;
		for (unsigned k = 0; k < n; k++)
			listed |= list[k].server == p->server;
		p->answer = (struct wire_chunk_state){0};
		p->marks = marks_of(x, p->server);
		p->mended = p->asked = false;
		if (!listed || (p->joining && p->state == PART_FAILED))
			p->state = PART_FAILED;
		else
			p->state = p->joining && !p->filled ? PART_BEHIND : PART_IDLE;
		sound |= p->state == PART_IDLE && !p->joining && !p->leaving && !p->marks &&
			 cs_up(part_cs(p));
	}
	for (unsigned i = 0; i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		p->leaving &= sound;
		if (p->state == PART_IDLE && !p->joining && !p->leaving && p->marks)
			p->state = PART_BEHIND;
	}
}

static bool member_expected(struct raise *x)
{
	for (unsigned i = 0; i < x->n_parts; i++)
		if (!x->parts[i].joining && !x->parts[i].leaving &&
		    csreg_expected(&x->m->servers, x->parts[i].server))
			return true;
	return false;
}

/* Where a member that settles looks for blocks that do not verify on it. */
static void add_others(struct raise *x, const struct part *settle, struct wire_chunk_raise *req)
{
	for (unsigned i = 0; i < x->n_parts && req->n_others < REPLICAS_MAX; i++) {
		const struct part *p = &x->parts[i];
		if (p != settle && !p->joining && cs_up(part_cs(p)))
			req->others[req->n_others++] = (struct wire_replica){
				.server = p->server, .addr = slice_str(part_cs(p)->addr)};
	}
}

static void ask(struct raise *x, struct part *p, bool settle)
{
	int64_t timeout_ms = settle ? RAISE_MEND_MS : x->m->o.raise_timeout_ms;
	struct wire_chunk_raise req = {
		.chunk = x->chunk, .version = x->row.version, .length = x->row.cut,
		.new_version = x->row.pending_version,
		.flags = (x->row.flags & CHUNK_WRITTEN) | (settle ? RAISE_SETTLE : 0),
	};

	if (settle)
		add_others(x, p, &req);
	p->state = PART_ASKED;
	p->asked = true;
	p->mended = settle;
	x->outstanding++;
	if (!cs_up(part_cs(p)) || cs_call(&x->m->servers, part_cs(p), OP_CHUNK_RAISE, &req,
					  timeout_ms, ask_done, p) < 0) {
		x->outstanding--;
		p->state = PART_FAILED;
	}
}

/* How long those are waited for against which nothing is known, before content that is in question
 * counts. The crash of one member must not cost what the others acknowledged, however long they are
 * away; that of several may. */
static int64_t patience_ms(struct raise *x)
{
	unsigned unclean = 0;

	for (unsigned i = 0; i < x->n_parts; i++)
		unclean += (x->parts[i].marks & MARK_UNCLEAN) && cs_up(part_cs(&x->parts[i]));
	return x->m->o.repair_delay_ms * (unclean > 1 ? 1 : RAISE_PATIENCE);
}

static bool better_may_come(struct raise *x)
{
	int64_t patience = patience_ms(x);

	if (clock_ms() - x->begun_ms >= patience)
		return false;
	for (unsigned i = 0; i < x->n_parts; i++) {
		const struct part *p = &x->parts[i];
		if (!p->joining && !p->marks && (p->state == PART_FAILED || !cs_up(part_cs(p))) &&
		    !csreg_lost(&x->m->servers, p->server, patience))
			return true;
	}
	return false;
}

static bool can_be_asked(const struct part *p)
{
	return p->state == PART_BEHIND && p->marks && !p->asked && !p->joining;
}

static bool any_marked(struct raise *x)
{
	for (unsigned i = 0; i < x->n_parts; i++)
		if (can_be_asked(&x->parts[i]) && cs_up(part_cs(&x->parts[i])))
			return true;
	return false;
}

/* No unmarked member is left: the best of the others counts. When all were open at a crash, with
 * blocks that do not verify on it from the others. Damage is never settled: that would make it
 * valid. False when there is none that was not asked yet. */
static bool ask_marked(struct raise *x)
{
	struct part *p;

	for (unsigned i = 0; i < x->n_parts; i++)
		if (can_be_asked(&x->parts[i]))
			x->parts[i].state = PART_IDLE;
	p = best_source(x, PART_IDLE);
	for (unsigned i = 0; i < x->n_parts; i++)
		if (x->parts[i].state == PART_IDLE)
			x->parts[i].state = PART_BEHIND;
	if (!p)
		return false;
	x->outstanding = 1;
	ask(x, p, !(p->marks & MARK_DAMAGED));
	if (--x->outstanding == 0)
		enter_mend(x);
	return true;
}

/* Marked members are not asked but brought up to date like those that join: a raise would make them
 * look whole, and if the master forgot the mark before they are, nobody would know. */
static void enter_ask(struct raise *x)
{
	int r = row_read(x);

	FAULT_POINT(MASTER_RAISE_ASK, "");
	x->phase = PHASE_ASK;
	if (r < 0 || !x->row.pending_version) {
		finish(x, r);
		return;
	}
	if (member_expected(x)) {
		retry_later(x, RAISE_SOON_MS);
		return;
	}
	ask_prepare(x);
	x->outstanding = 1;
	for (unsigned i = 0; i < x->n_parts; i++)
		if (x->parts[i].state == PART_IDLE && !x->parts[i].leaving)
			ask(x, &x->parts[i], false);
	if (--x->outstanding == 0)
		enter_mend(x);
}

/* Up to n of those that were to leave. False when there is none to ask. */
static bool ask_leaving(struct raise *x, unsigned n)
{
	bool asked = false;

	x->phase = PHASE_ASK;
	x->outstanding = 1;
	for (unsigned i = 0; i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		if (n == 0 || !p->leaving || p->state != PART_IDLE || !cs_up(part_cs(p)))
			continue;
		if (p->marks)
			p->state = PART_BEHIND;
		else
			ask(x, p, false);
		asked = true;
		n--;
	}
	if (--x->outstanding == 0 && asked)
		enter_mend(x);
	return asked;
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
	return cs_up(csreg_find(&x->m->servers, server)) && !(marks_of(x, server) & marks);
}

/* Sets up the parts from the row. Negative when there is nobody whose content could count; a
 * pending raise has no choice, and goes on by itself when a member comes back. */
static int raise_parts(struct raise *x)
{
	bool source = false, others = false;
	int r = row_read(x);

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
			part_add(x, x->row.members[i].server, false);
	for (unsigned i = 0; i < x->row.n_joining; i++)
		part_add(x, x->row.joining[i].server, true);
	/* What is pending has its own. */
	for (unsigned i = 0; !x->row.pending_version && i < x->plan.n_joining; i++)
		part_add(x, x->plan.joining[i], true);
	for (unsigned i = 0; i < x->plan.n_leaving; i++)
		if (part_of(x, x->plan.leaving[i]))
			part_of(x, x->plan.leaving[i])->leaving = true;
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
	if (row_read(x) < 0 || x->row.pending_version || drop) {
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
		enter_ask(x);
	else
		finish(x, r == ERR_NO_SERVERS ? 0 : r); /* not pending: it was confirmed */
}

void raise_tick(struct master *m)
{
	uint64_t due[RETRIES_PER_TICK];
	struct raise *x, *next;
	int64_t now = clock_ms();
	unsigned n = 0;

	HASH_ITER(hh, m->raises.by_chunk, x, next) {
		waiters_expire(x, now);
		if (x->phase == PHASE_RETRY && now >= x->retry_ms && n < RETRIES_PER_TICK)
			due[n++] = x->chunk;
	}
	/* By number: what one of them starts may end another. */
	for (unsigned i = 0; i < n; i++) {
		x = raise_find(m, due[i]);
		if (x && x->phase == PHASE_RETRY)
			retry(x);
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
