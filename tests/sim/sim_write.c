/* A write on its way along the chain, as in chunkserver/serve.c: each server locks the blocks,
 * hands the bytes on, applies them, and answers when the next one has answered. One that cannot
 * tell whether all have it is in doubt until the next raise, which also ends the locks. */
#include "tests/sim/sim.h"

enum { HOP_MAX_MS = 15, HOP_WAIT_MS = 2500, LOCK_WAIT_MS = 2000, LOCK_AGAIN_MS = 10 };

struct sim_hop {
	struct sim_write *w;
	unsigned i;
	struct sim_server *server;
	uint64_t life;
	uint32_t epoch;
	int64_t lock_until_ms;
	bool locked, applied, down_known, ended;
	bool faulted; /* the master was told of the next one's failure */
	int code, down;	      /* its own part, and what the next one said */
	uint32_t down_server; /* with ERR_PEER */
};

struct sim_write {
	struct sim_client *client;
	uint64_t op;
	sim_wrote_fn done;
	bool told, create;
	uint32_t number;
	uint64_t chunk;
	uint32_t version;
	unsigned first, last, n;
	struct sim_hop hops[REPLICAS_MAX];
	struct sim_write *next;
};

static struct sim_write *writes;

static struct sim_slot *slot_of(const struct sim_hop *h)
{
	return &h->server->slots[h->w->chunk];
}

/* ---- answers ---- */

static void hop_finish(struct sim_hop *h);

static void client_hears(void *arg, uint64_t packed)
{
	struct sim_write *w = arg;

	if (w->told)
		return;
	w->told = true;
	w->done(w->client, w->op, (int)(int32_t)(packed >> 32), (uint32_t)packed);
}

static void hop_hears(void *arg, uint64_t packed)
{
	struct sim_hop *h = arg;
	int code = (int)(int32_t)(packed >> 32);
	uint32_t server = (uint32_t)packed;

	if (h->life != h->server->life || h->down_known || h->ended)
		return;
	if (sim_frozen(h->server)) {
		sim_after(h->server->frozen_ms - fake_ms, hop_hears, h, packed);
		return;
	}
	h->down_known = true;
	/* What is about the chunk goes up as it is; the rest is the next server's failure. */
	if (code < 0 && code != ERR_PEER && code != ERR_CHUNK_VERSION &&
	    code != ERR_CHUNK_PENDING) {
		server = h->w->hops[h->i + 1].server->id;
		sim_server_fault(h->server, h->w->chunk, h->w->version, server, code);
		h->faulted = true;
		code = ERR_PEER;
	}
	h->down = code;
	h->down_server = server;
	if (h->applied)
		hop_finish(h);
}

static uint64_t pack(int code, uint32_t server)
{
	return (uint64_t)(uint32_t)code << 32 | server;
}

static void tell_up(struct sim_hop *h, int64_t ms, int code, uint32_t server)
{
	if (h->i == 0)
		sim_after(ms, client_hears, h->w, pack(code, server));
	else
		sim_after(ms, hop_hears, &h->w->hops[h->i - 1], pack(code, server));
}

static bool lock_holds(const struct sim_hop *h)
{
	return h->locked && slot_of(h)->r.epoch == h->epoch;
}

static void unlock(struct sim_hop *h)
{
	for (unsigned b = h->w->first; b <= h->w->last; b++)
		if (slot_of(h)->lock[b] == h)
			slot_of(h)->lock[b] = NULL;
	h->locked = false;
}

static void hop_finish(struct sim_hop *h)
{
	h->ended = true;
	if (h->i + 1 < h->w->n && (h->code < 0 || h->down < 0) && lock_holds(h)) {
		slot_of(h)->r.in_doubt = true;
		if (!h->faulted)
			sim_server_tells(h->server, h->w->chunk);
	}
	unlock(h);
	sim_touched(h->w->chunk);
	tell_up(h, 1 + fake_draw(HOP_MAX_MS), h->code < 0 ? h->code : h->down,
		h->code < 0 ? 0 : h->down_server);
}

/* ---- a server's part ---- */

static int acquire(struct sim_hop *h, bool create)
{
	struct fake_replica *r = &slot_of(h)->r;

	if (!r->present && create) {
		*r = (struct fake_replica){.present = true, .version = h->w->version,
					   .epoch = r->epoch + 1, .changes = r->changes + 1};
		sim_touched(h->w->chunk);
	}
	if (!r->present)
		return ERR_NO_CHUNK;
	if (r->version != h->w->version)
		return ERR_CHUNK_VERSION;
	return r->unclean ? ERR_CHUNK_PENDING : 0;
}

static void hop_apply(void *arg, uint64_t n)
{
	struct sim_hop *h = arg;
	struct fake_replica *r = &slot_of(h)->r;

	if (h->life != h->server->life)
		return;
	if (sim_frozen(h->server)) {
		sim_after(h->server->frozen_ms - fake_ms, hop_apply, h, 0);
		return;
	}
	h->applied = true;
	h->code = acquire(h, false);
	if (h->code == 0 && !lock_holds(h))
		h->code = ERR_CHUNK_VERSION; /* raised meanwhile */
	if (h->code == 0) {
		uint64_t length = (h->w->last + 1) * (uint64_t)REPLICA_BLOCK_BYTES;
		r->open = true;
		r->changes++;
		for (unsigned b = h->w->first; b <= h->w->last; b++) {
			r->block[b] = h->w->number;
			r->rotten[b] = false;
		}
		if (length > r->length)
			r->length = length;
	}
	if (h->i + 1 == h->w->n || h->down_known)
		hop_finish(h);
}

static void hop_arrives(void *arg, uint64_t n);

static bool lock(struct sim_hop *h)
{
	struct sim_slot *s = slot_of(h);

	for (unsigned b = h->w->first; b <= h->w->last; b++)
		if (s->lock[b] && s->lock[b] != h && s->lock[b]->epoch == s->r.epoch)
			return false;
	for (unsigned b = h->w->first; b <= h->w->last; b++)
		s->lock[b] = h;
	h->locked = true;
	h->epoch = s->r.epoch;
	return true;
}

static void down_late(void *arg, uint64_t n)
{
	hop_hears(arg, pack(ERR_TIMEOUT, 0));
}

static void hop_arrives(void *arg, uint64_t n)
{
	struct sim_hop *h = arg;

	if (!h->life) {
		h->life = h->server->life;
		h->lock_until_ms = fake_ms + LOCK_WAIT_MS;
		if (!h->server->running) {
			tell_up(h, 1, ERR_UNREACHABLE, 0);
			h->ended = true;
		}
	}
	if (h->ended || h->life != h->server->life)
		return;
	if (sim_frozen(h->server)) {
		sim_after(h->server->frozen_ms - fake_ms, hop_arrives, h, 0);
		return;
	}
	h->code = acquire(h, h->w->create);
	if (h->code == 0 && !lock(h)) {
		if (fake_ms < h->lock_until_ms) {
			sim_after(LOCK_AGAIN_MS, hop_arrives, h, 0);
			return;
		}
		h->code = ERR_CHUNK_PENDING;
	}
	if (h->code < 0) {
		h->ended = true;
		tell_up(h, 1 + fake_draw(HOP_MAX_MS), h->code, 0);
		return;
	}
	if (h->i + 1 < h->w->n) {
		sim_after(1 + fake_draw(HOP_MAX_MS), hop_arrives, &h->w->hops[h->i + 1], 0);
		sim_after(HOP_WAIT_MS * (int64_t)(h->w->n - h->i - 1), down_late, h, 0);
	}
	sim_after(fake_draw(HOP_MAX_MS), hop_apply, h, 0);
}

static void client_late(void *arg, uint64_t n)
{
	struct sim_write *w = arg;
	client_hears(w, pack(ERR_TIMEOUT, 0));
}

void sim_write(struct sim_client *c, uint64_t op, uint32_t number, const struct wire_chunk *chunk,
	       unsigned first, unsigned last, sim_wrote_fn done)
{
	struct sim_write *w = sim_alloc(sizeof(*w));

	*w = (struct sim_write){.client = c, .op = op, .done = done, .number = number,
				.chunk = chunk->id, .version = chunk->version, .first = first,
				.last = last, .next = writes,
				.create = !(chunk->flags & CHUNK_WRITTEN)};
	writes = w;
	for (unsigned i = 0; i < chunk->n_replicas; i++) {
		struct sim_server *s = sim_server_of(chunk->replicas[i].server);
		if (!s)
			sim_fail("a location names server %u, which there is not",
				 chunk->replicas[i].server);
		w->hops[w->n] = (struct sim_hop){.w = w, .i = w->n, .server = s};
		w->n++;
	}
	sim_after(1 + fake_draw(HOP_MAX_MS), hop_arrives, &w->hops[0], 0);
	sim_after(HOP_WAIT_MS * ((int64_t)w->n + 1), client_late, w, 0);
}

bool sim_write_uncommitted_block(const struct sim_slot *slot, unsigned block)
{
	const struct sim_hop *h = slot->lock[block];
	return h && h->applied && h->epoch == slot->r.epoch;
}

bool sim_write_locked(const struct sim_slot *slot)
{
	for (unsigned b = 0; b < REPLICA_BLOCKS; b++)
		if (slot->lock[b] && slot->lock[b]->epoch == slot->r.epoch)
			return true;
	return false;
}

bool sim_write_uncommitted(const struct sim_slot *slot)
{
	for (unsigned b = 0; b < REPLICA_BLOCKS; b++)
		if (sim_write_uncommitted_block(slot, b))
			return true;
	return false;
}

void sim_write_server_died(struct sim_server *s)
{
	for (struct sim_write *w = writes; w; w = w->next)
		for (unsigned i = 0; i < w->n; i++)
			if (w->hops[i].server == s && w->hops[i].life && !w->hops[i].ended) {
				w->hops[i].ended = true;
				tell_up(&w->hops[i], 1 + fake_draw(5), ERR_CLOSED, 0);
			}
}

void sim_write_clear(void)
{
	writes = NULL;
}
