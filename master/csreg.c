#include "master/csreg.h"

#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"

void csreg_init(struct csreg *reg, int64_t dead_ms)
{
	*reg = (struct csreg){.started_ms = clock_ms(), .dead_ms = dead_ms};
}

struct cs *csreg_find(struct csreg *reg, uint32_t id)
{
	struct cs *cs;
	HASH_FIND(hh, reg->by_id, &id, sizeof(id), cs);
	return cs;
}

struct cs *csreg_add(struct csreg *reg, uint32_t id)
{
	struct cs *cs = csreg_find(reg, id);

	if (cs)
		return cs;
	cs = calloc(1, sizeof(*cs));
	if (!cs)
		return NULL;
	cs->id = id;
	cs->down_ms = clock_ms();
	HASH_ADD(hh, reg->by_id, id, sizeof(cs->id), cs);
	return cs;
}

void csreg_free(struct csreg *reg)
{
	struct cs *cs, *next;
	struct mark *mark, *next_mark;

	HASH_ITER(hh, reg->by_id, cs, next) {
		cs_unlink(cs);
		HASH_DEL(reg->by_id, cs);
		free(cs);
	}
	HASH_ITER(hh, reg->marks, mark, next_mark) {
		HASH_DEL(reg->marks, mark);
		free(mark);
	}
}

enum { TRIES_MAX = 3 };

bool csreg_expected(struct csreg *reg, uint32_t id)
{
	struct cs *cs = csreg_find(reg, id);
	int64_t now = clock_ms();

	if (cs && cs->state == SERVER_REPORTING)
		return now - cs->linked_ms < reg->dead_ms && cs->tries <= TRIES_MAX;
	return (!cs || cs->linked_ms == 0) && now - reg->started_ms < reg->dead_ms;
}

void csreg_blame(struct csreg *reg, uint32_t id, int reason)
{
	struct cs *cs = csreg_find(reg, id);

	if (!cs_up(cs) ||
	    (reason != ERR_UNREACHABLE && reason != ERR_TIMEOUT && reason != ERR_LEASE))
		return;
	if (!cs_blamed(cs))
		log_warn("chunkserver %s (%u): is said not to answer (%s), heard of %lld ms ago",
			 cs->addr, cs->id, err_text(reason),
			 (long long)(clock_ms() - cs->seen_ms));
	cs->blamed_ms = clock_ms();
}

bool cs_absent(const struct csreg *reg, const struct cs *cs)
{
	return !cs_up(cs) || (cs_blamed(cs) && clock_ms() - cs->seen_ms > reg->overdue_ms);
}

bool csreg_lost(struct csreg *reg, uint32_t id, int64_t delay_ms)
{
	struct cs *cs = csreg_find(reg, id);

	if (cs_up(cs) || csreg_expected(reg, id))
		return false;
	return clock_ms() - (cs ? cs->down_ms : reg->started_ms) >= delay_ms;
}

int64_t csreg_heartbeat_ms(const struct csreg *reg, int64_t wanted_ms)
{
	int64_t most = reg->dead_ms / 4;
	return wanted_ms < most ? wanted_ms : most > 0 ? most : 1;
}

void cs_heard(struct cs *cs)
{
	cs->seen_ms = clock_ms();
	if (cs->state == SERVER_SUSPECT) {
		cs->state = SERVER_UP;
		log_info("chunkserver %s (%u): heard of again", cs->addr, cs->id);
	}
}

void cs_ready(struct cs *cs)
{
	cs->state = SERVER_UP;
	cs->tries = 0;
}

/* ---- requests ---- */

int cs_call(struct csreg *reg, struct cs *cs, uint16_t op, const void *record,
	    int64_t timeout_ms, cs_done_fn done, void *arg)
{
	_cleanup_buf_ struct buf out = {0};
	struct cs_request *req;
	int r;

	if (!cs || !cs->peer || cs->peer->closing)
		return ERR_CLOSED;
	req = calloc(1, sizeof(*req));
	if (!req)
		return ERR_NOMEM;
	*req = (struct cs_request){.id = cs->peer->next_id++, .op = op, .done = done, .arg = arg,
				   .deadline_ms = deadline_in(timeout_ms)};
	r = wire_put_request(&out, op, req->id, 0, record, 0);
	if (r < 0) {
		free(req);
		return r;
	}
	HASH_ADD(hh, cs->requests, id, sizeof(req->id), req);
	/* A send that fails closes the peer, which ends the request through cs_unlink. */
	peer_send(cs->peer, &out);
	return 0;
}

static void request_end(struct cs *cs, struct cs_request *req, int code, struct slice fields)
{
	HASH_DEL(cs->requests, req);
	req->done(req->arg, code, fields);
	free(req);
}

void cs_reply(struct cs *cs, const struct wire_header *h, struct slice fields)
{
	struct cs_request *req;

	HASH_FIND(hh, cs->requests, &h->id, sizeof(h->id), req);
	if (!req || req->op != h->op)
		return; /* it was too late */
	if (h->status) {
		struct cursor c = cursor_slice(fields);
		struct wire_failure f;
		if (wire_failure_get(&c, &f) == 0)
			log_info("chunkserver %s: %s: %.*s", cs->addr, wire_op_name(h->op),
				 (int)f.text.len, (const char *)f.text.data);
	}
	request_end(cs, req, h->status < 0 ? err_from_wire(h->status) : h->status ? ERR_PROTOCOL
								      : 0, fields);
}

void cs_working(struct cs *cs, const struct wire_cs_heartbeat *beat)
{
	struct cs_request *req, *next;

	HASH_ITER(hh, cs->requests, req, next) {
		bool in_hand = !beat->tells ||
			       (req->op != OP_CHUNK_PULL && req->op != OP_CHUNK_DELETE);
		for (unsigned i = 0; i < beat->n_working && !in_hand; i++)
			in_hand = beat->working[i] == req->id;
		req->unheard = in_hand ? 0 : req->unheard + 1;
		if (req->unheard < HEARTBEATS_UNTIL_LOST)
			continue;
		log_warn("chunkserver %s (%u): %s was lost on the way, or its answer", cs->addr,
			 cs->id, wire_op_name(req->op));
		req->deadline_ms = 0;
	}
}

void cs_unlink(struct cs *cs)
{
	if (cs->peer)
		cs->peer->owner = NULL;
	cs->peer = NULL;
	if (cs_up(cs))
		cs->down_ms = clock_ms();
	cs->state = SERVER_DOWN;
	/* A request's end may start others, but not on this server: it has no link now. */
	while (cs->requests)
		request_end(cs, cs->requests, ERR_CLOSED, (struct slice){0});
	cs->deleting = false;
}

/* One request that is overdue: what its end starts may change the table. */
static struct cs_request *request_overdue(struct cs *cs, int64_t now)
{
	struct cs_request *req, *next;

	HASH_ITER(hh, cs->requests, req, next) {
		if (now >= req->deadline_ms)
			return req;
	}
	return NULL;
}

/* Requests are failed by their own deadlines; a link, by the silence on it. */
static void silence_check(struct csreg *reg, struct cs *cs, int64_t silent_ms)
{
	if (!cs->peer)
		return;
	if (silent_ms > reg->dead_ms) {
		log_warn("chunkserver %s (%u): silent for %lld ms, taken as down", cs->addr, cs->id,
			 (long long)silent_ms);
		peer_close(cs->peer, NULL);
	} else if (cs->state == SERVER_UP && silent_ms > csreg_suspect_ms(reg)) {
		cs->state = SERVER_SUSPECT;
		log_warn("chunkserver %s (%u): silent for %lld ms, suspect", cs->addr, cs->id,
			 (long long)silent_ms);
	}
}

void csreg_tick(struct csreg *reg)
{
	struct cs *cs, *next;
	int64_t now = clock_ms();

	HASH_ITER(hh, reg->by_id, cs, next) {
		struct cs_request *req;
		while ((req = request_overdue(cs, now)) != NULL)
			request_end(cs, req, ERR_TIMEOUT, (struct slice){0});
		silence_check(reg, cs, now - cs->seen_ms);
	}
}

/* ---- marks ---- */

static void mark_drop(struct csreg *reg, struct mark *mark)
{
	if (reg->next_mark == mark)
		reg->next_mark = mark->hh.next;
	reg->stale_marks -= mark->flags == MARK_STALE;
	HASH_DEL(reg->marks, mark);
	free(mark);
}

void csreg_mark(struct csreg *reg, uint64_t chunk, uint32_t server, uint8_t flags)
{
	struct mark key = {.key = {chunk, server}}, *mark;

	HASH_FIND(hh, reg->marks, &key.key, sizeof(key.key), mark);
	if (!flags) {
		if (mark)
			mark_drop(reg, mark);
		return;
	}
	if (!mark) {
		if (flags == MARK_STALE && reg->stale_marks >= STALE_MARKS_MAX)
			return;
		mark = calloc(1, sizeof(*mark));
		if (!mark)
			return; /* only a hint: the next report brings it again */
		mark->key = key.key;
		HASH_ADD(hh, reg->marks, key, sizeof(mark->key), mark);
	}
	reg->stale_marks += (flags == MARK_STALE) - (mark->flags == MARK_STALE);
	mark->flags = flags;
}

uint8_t csreg_marked(struct csreg *reg, uint64_t chunk, uint32_t server)
{
	struct mark key = {.key = {chunk, server}}, *mark;

	HASH_FIND(hh, reg->marks, &key.key, sizeof(key.key), mark);
	return mark ? mark->flags : 0;
}

void csreg_remove(struct csreg *reg, uint32_t id)
{
	struct cs *cs = csreg_find(reg, id);
	struct mark *mark, *next;
	struct peer *peer = cs ? cs->peer : NULL;

	HASH_ITER(hh, reg->marks, mark, next) {
		if (mark->key.server == id)
			mark_drop(reg, mark);
	}
	if (!cs)
		return;
	cs_unlink(cs);
	if (peer)
		peer_close(peer, "the server was taken off the list");
	HASH_DEL(reg->by_id, cs);
	free(cs);
}
