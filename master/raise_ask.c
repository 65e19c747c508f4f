/* The middle of a raise: who takes part, ASK and MEND (master/raise.h). */
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "master/raise_priv.h"

static bool better_may_come(struct raise *x);
static bool ask_marked(struct raise *x);
static bool any_marked(struct raise *x);

/* ---- parts ---- */

struct part *raise_part_of(struct raise *x, uint32_t server)
{
	for (unsigned i = 0; i < x->n_parts; i++)
		if (x->parts[i].server == server)
			return &x->parts[i];
	return NULL;
}

void raise_part_add(struct raise *x, uint32_t server, bool joining)
{
	if (x->n_parts < PARTS_MAX && !raise_part_of(x, server))
		x->parts[x->n_parts++] = (struct part){.raise = x, .server = server,
						       .joining = joining};
}

uint8_t raise_marks_of(struct raise *x, uint32_t server)
{
	return csreg_marked(&x->m->servers, x->chunk, server) &
	       (MARK_UNCLEAN | MARK_TORN | MARK_DAMAGED | MARK_LOSSY);
}

/* Of those in `state` that can be copied from, the smaller the better: unmarked before unclean
 * before torn before lossy (of a torn block only what was being written is in question) before
 * absent (the chunk was never written) before damaged; those in doubt, which serve nobody before a
 * raise, after others; then those that are sure to answer. */
static unsigned source_rank(struct part *p, enum part_state state)
{
	unsigned marks = csreg_marked(&p->raise->m->servers, p->raise->chunk, p->server);

	return (marks & MARK_DAMAGED ? 64 : 0) +
	       (state == PART_GOOD && !p->answer.present ? 32 : 0) +
	       ((marks & MARK_LOSSY) || (state == PART_GOOD && p->answer.lossy) ? 16 : 0) +
	       (marks & MARK_TORN ? 8 : 0) + (marks & MARK_UNCLEAN ? 4 : 0) +
	       (state == PART_IDLE && (marks & MARK_IN_DOUBT) ? 2 : 0) +
	       (part_cs(p)->state == SERVER_SUSPECT ? 1 : 0);
}

static bool same_answer(const struct part *a, const struct part *b)
{
	return a->answer.present == b->answer.present && a->answer.length == b->answer.length &&
	       a->answer.digest == b->answer.digest;
}

/* How many members have what this one has, as far as they have said. */
static unsigned supporters(struct raise *x, const struct part *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < x->n_parts; i++)
		n += x->parts[i].state == PART_GOOD && !x->parts[i].joining &&
		     same_answer(&x->parts[i], p);
	return n;
}

/* Of two that are as good, the one with more who have the same, then the one with less to do. */
static bool is_better(struct raise *x, const struct part *a, const struct part *b)
{
	unsigned for_a = supporters(x, a), for_b = supporters(x, b);

	return for_a != for_b ? for_a > for_b : part_cs(a)->feeding < part_cs(b)->feeding;
}

struct part *raise_best_source(struct raise *x, enum part_state state)
{
	struct part *best = NULL;
	unsigned best_rank = 0;

	for (unsigned i = 0; i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		unsigned rank;
		if (p->joining || p->state != state || !cs_up(part_cs(p)))
			continue;
		rank = source_rank(p, state);
		if (!best || rank < best_rank || (rank == best_rank && is_better(x, p, best))) {
			best = p;
			best_rank = rank;
		}
	}
	return best;
}

int raise_pull(struct raise *x, uint32_t server, const struct part *source, uint32_t new_version,
	       int64_t timeout_ms, cs_done_fn done, void *arg)
{
	struct csreg *servers = &x->m->servers;
	struct wire_chunk_pull req = {
		.chunk = x->chunk, .source_version = new_version, .new_version = new_version,
		.chunk_bits = x->row.chunk_bits, .lossy = source->answer.lossy,
		.source = {.server = source->server, .addr = slice_str(part_cs(source)->addr)},
	};
	struct cs *cs = csreg_find(servers, server);

	if (!cs_up(cs))
		return ERR_CLOSED;
	return cs_call(servers, cs, OP_CHUNK_PULL, &req, timeout_ms, done, arg);
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

/* One good member would be left, and another one is there, but slow: it is asked once more. */
static bool only_slow(struct raise *x)
{
	unsigned good = 0;
	bool slow = false;

	for (unsigned i = 0; i < x->n_parts; i++) {
		const struct part *p = &x->parts[i];
		good += p->state == PART_GOOD;
		slow |= p->late && !p->joining && part_cs(p) && part_cs(p)->state == SERVER_UP;
	}
	return good == 1 && slow;
}

static void mend_ended(struct raise *x)
{
	if ((!x->blamed && !only_slow(x)) || x->unsure >= RAISE_UNSURE_MAX) {
		raise_confirm(x);
		return;
	}
	x->unsure++;
	raise_retry_later(x, RAISE_RETRY_MS);
}

/* A copy to a member under way. Like a fill it outlives the machine's interest in it. */
struct mend {
	struct master *m;
	uint64_t chunk, serial;
	uint32_t server;
};

static void mend_done(void *arg, int code, struct slice fields)
{
	struct mend *mend = arg;
	struct raise *x = raise_find(mend->m, mend->chunk);
	struct part *p = x && x->serial == mend->serial ? raise_part_of(x, mend->server) : NULL;
	const struct part *source = p ? raise_part_of(x, x->source) : NULL;
	struct cursor c = cursor_slice(fields);

	free(mend);
	if (!p)
		return;
	if (code == 0 && wire_chunk_state_get(&c, &p->answer) < 0)
		code = ERR_PROTOCOL;
	/* The source is not what it was when it was asked: all are asked again. */
	if (code == 0 && source && !same_answer(p, source)) {
		code = ERR_BUSY;
		x->blamed = true;
	}
	p->mending = false;
	p->state = code < 0 ? PART_FAILED : PART_GOOD;
	p->mended = code == 0;
	if (code < 0)
		mend_failed(x, p, code);
	if (code < 0 && p->joining)
		repair_copy_failed(x->m, x->chunk, code);
	if (--x->outstanding == 0)
		mend_ended(x);
}

void raise_mend_give_way(struct raise *x, int64_t now)
{
	unsigned good = 0;

	for (unsigned i = 0; i < x->n_parts; i++)
		good += x->parts[i].state == PART_GOOD && !x->parts[i].mending;
	if (x->phase != PHASE_MEND || x->outstanding == 0 || good == 0 ||
	    now - x->copy_ms < (good > 1 ? 1 : 2) * RAISE_GIVE_WAY_MS)
		return;
	log_info("chunk %016llx v%u: copying to a member gives way to who waits for the chunk",
		 (unsigned long long)x->chunk, x->row.pending_version);
	for (unsigned i = 0; i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		if (p->mending)
			p->state = PART_FAILED;
		p->mending = false;
	}
	x->serial = 0;
	x->outstanding = 0;
	mend_ended(x); /* not confirmed if the source is what is at fault */
}

/* To be a copy of what is absent, because it was never written: what is here of an older version
 * goes. */
static int delete_old(struct raise *x, struct part *p, struct mend *arg)
{
	_cleanup_buf_ struct buf list = {0};
	struct wire_have have = {.id = x->chunk, .version = x->row.version};
	struct wire_chunk_delete req;

	WIRE_LIST_PUT(wire_have, &list, &have);
	req.have = buf_slice(&list);
	if (buf_status(&list) < 0 || !cs_up(part_cs(p)))
		return buf_status(&list) < 0 ? ERR_NOMEM : ERR_CLOSED;
	return cs_call(&x->m->servers, part_cs(p), OP_CHUNK_DELETE, &req, RAISE_MEND_MS,
		       mend_done, arg);
}

static int mend_start(struct raise *x, struct part *p, const struct part *source)
{
	struct mend *arg = malloc(sizeof(*arg));
	int r;

	if (!arg)
		return ERR_NOMEM;
	*arg = (struct mend){.m = x->m, .chunk = x->chunk, .serial = x->serial,
			     .server = p->server};
	p->mending = true; /* before the call: a broken link ends it at once */
	r = source->answer.present ? raise_pull(x, p->server, source, x->row.pending_version,
						RAISE_MEND_MS, mend_done, arg)
				   : delete_old(x, p, arg);
	if (r < 0) {
		p->mending = false;
		free(arg);
	}
	return r;
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
	if (mend_start(x, p, source) < 0) {
		x->outstanding--;
		p->state = PART_FAILED;
	}
}

/* outstanding: one, so that the last answer comes after the loop. */
static void mend_begin(struct raise *x)
{
	x->phase = PHASE_MEND;
	x->blamed = false;
	x->serial = ++x->m->raises.fills;
	x->copy_ms = clock_ms();
	x->outstanding = 1;
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
	mend_begin(x);
	for (unsigned i = 0; i < x->n_parts; i++)
		if (x->parts[i].state == PART_BEHIND)
			mend(x, &x->parts[i], &nothing);
	if (--x->outstanding == 0)
		mend_ended(x);
	return true;
}

static void enter_mend(struct raise *x)
{
	struct part *source = raise_best_source(x, PART_GOOD);

	FAULT_POINT(MASTER_RAISE_MEND, "");
	/* To ask takes seconds. Who has come back meanwhile may have lost more than was known of it. */
	for (unsigned i = 0; i < x->n_parts; i++)
		if (!x->parts[i].asked)
			x->parts[i].marks |= raise_marks_of(x, x->parts[i].server);
	/* A chunk that was never written may be absent on members that count. One that has
	 * something of it comes before them, whatever is held against it. */
	if (source && !source->answer.present && any_marked(x))
		source = NULL;
	/* A better one has answered, and its link is gone by now: it is waited for. */
	if (source && !source->mended && raise_marks_of(x, source->server) && better_may_come(x))
		source = NULL;
	if (!source && !better_may_come(x) && (ask_marked(x) || mend_from_nothing(x)))
		return;
	x->phase = PHASE_MEND;
	if (!source) {
		log_warn("chunk %016llx v%u: no member can be raised now",
			 (unsigned long long)x->chunk, x->row.version);
		raise_retry_later(x, RAISE_RETRY_MS);
		return;
	}
	x->source = source->server;
	mend_begin(x);
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
	p->late = code == ERR_TIMEOUT;
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
		p->marks = raise_marks_of(x, p->server);
		p->mended = p->asked = p->late = false;
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

/* Where a member that settles looks for blocks that do not verify on it. One that lost nothing but
 * the order of its last write takes none from one that did: a block may verify there that has
 * forgotten an earlier write. */
static void add_others(struct raise *x, const struct part *settle, struct wire_chunk_raise *req)
{
	for (unsigned i = 0; i < x->n_parts && req->n_others < REPLICAS_MAX; i++) {
		const struct part *p = &x->parts[i];
		if (p != settle && !p->joining && cs_up(part_cs(p)) &&
		    (!(p->marks & MARK_LOSSY) || (settle->marks & MARK_LOSSY)))
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
	if (!part_cs(p) || cs_absent(&x->m->servers, part_cs(p)) ||
	    cs_call(&x->m->servers, part_cs(p), OP_CHUNK_RAISE, &req, timeout_ms, ask_done, p) < 0) {
		x->outstanding--;
		p->state = PART_FAILED;
	}
}

/* Its process was killed; its page cache lived on. Every write that was acknowledged has come to every
 * member, so it is here: what is in question is only what nobody was told. Not so for one with torn
 * blocks: that they were being written is no more than likely. */
static bool only_killed(const struct part *p)
{
	return (p->marks & MARK_UNCLEAN) &&
	       !(p->marks & (MARK_TORN | MARK_LOSSY | MARK_DAMAGED)) && cs_up(part_cs(p));
}

/* How long those are waited for against which nothing is known, before content that is in question
 * counts. The power loss of one member must not cost what the others acknowledged, however long they
 * are away; that of several may. */
static int64_t patience_ms(struct raise *x)
{
	unsigned unclean = 0, killed = 0;

	for (unsigned i = 0; i < x->n_parts; i++) {
		const struct part *p = &x->parts[i];
		unclean += (p->marks & MARK_UNCLEAN) && cs_up(part_cs(p));
		killed += !p->joining && only_killed(p);
	}
	if (killed > 0)
		return RAISE_KILLED_MS;
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
	p = raise_best_source(x, PART_IDLE);
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
void raise_ask(struct raise *x)
{
	int r = raise_row_read(x);

	FAULT_POINT(MASTER_RAISE_ASK, "");
	x->phase = PHASE_ASK;
	if (r < 0 || !x->row.pending_version) {
		raise_finish(x, r);
		return;
	}
	if (member_expected(x)) {
		raise_retry_later(x, RAISE_SOON_MS);
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
bool raise_ask_leaving(struct raise *x, unsigned n)
{
	bool asked = false;

	x->phase = PHASE_ASK;
	x->outstanding = 1;
	for (unsigned i = 0; i < x->n_parts; i++) {
		struct part *p = &x->parts[i];
		if (n == 0 || !p->leaving || p->state != PART_IDLE || !cs_up(part_cs(p)))
			continue;
		p->marks = raise_marks_of(x, p->server); /* it may have crashed since */
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
