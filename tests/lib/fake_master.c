#include "tests/lib/fake_master.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/crc.h"

struct fake_hooks fake_hooks;

static void die(const char *what)
{
	fprintf(stderr, "%s\n", what);
	abort();
}

/* ---- common/clock.c ---- */

int64_t fake_ms;
int64_t fake_set_s;

int64_t clock_ms(void)
{
	return fake_ms;
}

int64_t clock_us(void)
{
	return fake_ms * 1000;
}

struct when clock_now(void)
{
	return (struct when){.sec = 1000000 + fake_set_s + fake_ms / 1000,
			     .nsec = (uint32_t)(fake_ms % 1000) * 1000000};
}

int deadline_left(int64_t deadline_ms)
{
	return deadline_ms > fake_ms ? (int)(deadline_ms - fake_ms) : 0;
}

/* ---- master/random.c ---- */

static uint64_t rng_state;

void fake_seed(uint64_t seed)
{
	rng_state = seed;
}

uint64_t fake_random(void)
{
	/* splitmix64 (Steele, Lea, Flood 2014): the same stream on every machine. */
	uint64_t z = rng_state += 0x9e3779b97f4a7c15ULL;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

uint32_t fake_draw(uint32_t n)
{
	return (uint32_t)(fake_random() % n);
}

uint64_t random_u64(void *arg)
{
	return fake_random();
}

/* ---- master/server.c ---- */

void peer_send(struct peer *p, const struct buf *message)
{
	if (!p->closing)
		fake_hooks.sent(p, message);
}

void peer_close(struct peer *p, const char *why)
{
	if (p->closing)
		return;
	p->closing = true;
	if (fake_hooks.closed)
		fake_hooks.closed(p);
}

void peer_ref(struct peer *p)
{
	p->refs++;
}

void peer_unref(struct peer *p)
{
	if (--p->refs == 0)
		free(p);
}

/* ---- master/rlog.c ---- */

struct entry {
	struct buf bytes;
	rlog_done_fn done;
	void *arg;
	struct entry *prev, *next;
};

static struct master *master;
static struct entry *entries;
static unsigned n_entries;
static uint64_t last_index;

int rlog_propose(struct rlog *log, struct slice bytes, rlog_done_fn done, void *arg,
		 struct err *err)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e)
		die("out of memory");
	buf_append_slice(&e->bytes, bytes);
	e->done = done;
	e->arg = arg;
	DL_APPEND(entries, e);
	n_entries++;
	return 0;
}

void fake_log_open(struct master *m)
{
	master = m;
	last_index = 0;
	if (state_new(NULL, &m->st) < 0)
		die("out of memory");
}

unsigned fake_log_waiting(void)
{
	return n_entries;
}

static struct entry *entry_take(void)
{
	struct entry *e = entries;

	if (e) {
		DL_DELETE(entries, e);
		n_entries--;
	}
	return e;
}

static void entry_free(struct entry *e)
{
	buf_release(&e->bytes);
	free(e);
}

static void entry_apply(struct entry *e, struct apply_result *ret)
{
	struct err err = {0};
	int r = apply_entry(master->st, ++last_index, buf_slice(&e->bytes), ret, &err);

	if (r != 0)
		die(err.text[0] ? err.text : "an entry was skipped");
	master->applied = last_index;
	if (fake_hooks.applied)
		fake_hooks.applied(ret->number, buf_slice(&e->bytes), ret);
}

bool fake_log_commit(void)
{
	struct entry *e = entry_take();
	struct apply_result result;

	if (!e)
		return false;
	entry_apply(e, &result);
	e->done(e->arg, &result);
	apply_result_release(&result);
	entry_free(e);
	return true;
}

void fake_log_crash(unsigned keep)
{
	struct entry *e;

	for (; (e = entry_take()) != NULL; entry_free(e)) {
		if (keep > 0) {
			struct apply_result result;
			entry_apply(e, &result);
			apply_result_release(&result);
			keep--;
		}
		e->done(e->arg, NULL);
	}
}

void fake_log_close(void)
{
	fake_log_crash(0);
	master = NULL;
}

/* ---- a replica ---- */

bool fake_rotten(const struct fake_replica *r)
{
	for (unsigned i = 0; i < REPLICA_BLOCKS; i++)
		if (r->rotten[i])
			return true;
	return false;
}

/* Of the checksum table: a rotten block still has the checksum that it should have. */
static void state_of(const struct fake_replica *r, struct wire_chunk_state *ret)
{
	*ret = (struct wire_chunk_state){.present = 1, .length = r->length,
					 .digest = crc32c(0, r->block, sizeof(r->block))};
}

void fake_sync(struct fake_replica *r)
{
	memcpy(r->synced, r->block, sizeof(r->synced));
	r->open = false;
}

static void replica_cut(struct fake_replica *r, uint64_t length)
{
	for (unsigned i = 0; i < REPLICA_BLOCKS; i++) {
		if ((uint64_t)i * REPLICA_BLOCK_BYTES >= length) {
			r->block[i] = 0;
			r->rotten[i] = false;
		}
	}
	if (length < r->length)
		r->length = length;
}

int fake_raise(struct fake_replica *r, const struct wire_chunk_raise *req,
	       struct wire_chunk_state *ret)
{
	*ret = (struct wire_chunk_state){0};
	if (!r->present)
		return req->flags & CHUNK_WRITTEN ? ERR_NO_CHUNK : 0;
	if (r->version != req->version && r->version != req->new_version)
		return ERR_CHUNK_VERSION;
	if (r->version == req->new_version && r->changes != r->raised)
		return ERR_CHUNK_VERSION; /* it is in use already: this request comes late */
	if (r->told && r->told <= req->version) { /* confirmed by now */
		r->lossy = false;
		r->told = 0;
	}
	if ((req->flags & RAISE_SETTLE) && r->unclean)
		memset(r->rotten, 0, sizeof(r->rotten)); /* what is there counts from now on */
	replica_cut(r, req->length);
	fake_sync(r);
	r->version = req->new_version;
	r->epoch++;
	r->raised = ++r->changes;
	r->unclean = r->unclean && !(req->flags & RAISE_SETTLE);
	r->in_doubt = false;
	r->damaged = r->damaged && fake_rotten(r);
	state_of(r, ret);
	ret->lossy = r->lossy;
	r->told = r->lossy ? req->new_version : 0;
	return 0;
}

int fake_check(const struct fake_replica *r, uint32_t version, struct wire_chunk_state *ret)
{
	if (!r->present)
		return ERR_NO_CHUNK;
	if (r->version != version)
		return ERR_CHUNK_VERSION;
	state_of(r, ret);
	return 0;
}

int fake_readable(struct fake_replica *r, uint32_t version)
{
	if (!r->present)
		return ERR_NO_CHUNK;
	if (r->version != version)
		return ERR_CHUNK_VERSION;
	if (r->unclean || r->in_doubt)
		return ERR_CHUNK_PENDING;
	if (fake_rotten(r)) {
		r->damaged = true;
		return ERR_CHECKSUM;
	}
	return 0;
}

int fake_pull(struct fake_replica *r, const struct fake_replica *from, uint32_t changes,
	      const struct wire_chunk_pull *req, struct wire_chunk_state *ret)
{
	struct fake_replica old = *r;

	*ret = (struct wire_chunk_state){0};
	/* A late copy never replaces a newer one. */
	if (r->present && (r->version > req->new_version ||
			   (r->version == req->new_version && r->changes != changes)))
		return ERR_CHUNK_VERSION;
	*r = *from;
	r->version = req->new_version;
	r->epoch = old.epoch + 1;
	r->raised = r->changes = old.changes + 1;
	r->unclean = r->damaged = r->in_doubt = false;
	r->lossy = req->lossy;
	r->told = req->lossy ? req->new_version : 0;
	fake_sync(r);
	state_of(r, ret);
	return 0;
}

void fake_delete(struct fake_replica *r, uint32_t version)
{
	if (r->present && r->version <= version)
		*r = (struct fake_replica){.epoch = r->epoch + 1, .changes = r->changes + 1};
}
