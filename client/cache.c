/* The cache's lease, its stamps and own changes; what is stored is in cache_data.c. */
#include "client/cache.h"

#include <assert.h>
#include <stdlib.h>
#include <utlist.h>

#include "client/cache_priv.h"
#include "common/clock.h"
#include "common/fault.h"

/* The buckets of a change in doubt (rule 4) count it as in progress until then. */
struct cache_doubt {
	int64_t until_ms;
	bool blind; /* so is the cache, until then (rule 5) */
	unsigned n;
	unsigned buckets[EDIT_INODES_MAX];
	struct cache_doubt *next;
};

void cache_init(struct cache *c)
{
	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	c->now = c->floor = 1;
	c->stopped = true;
}

static void cache_clear(struct cache *c)
{
	struct cached *i, *next;

	HASH_ITER(hh, c->by_number, i, next)
		cached_free(c, i);
}

void cache_release(struct cache *c)
{
	struct cache_doubt *d, *next;

	cache_clear(c);
	assert(!c->n_names && !c->n_locations && !c->n_bytes && !c->edits);
	LL_FOREACH_SAFE(c->doubts, d, next)
		free(d);
	pthread_mutex_destroy(&c->lock);
}

/* ---- the lease ---- */

/* A fault that makes a step be left out, for the tests that must notice. */
static bool left_out(enum fault_point point)
{
	struct fault none;

	return fault_map && fault_take(point, "", 1U << FAULT_DO_DROP, &none);
}

bool cache_usable(const struct cache *c)
{
	if (c->stopped || !c->until_ms)
		return false;
	return clock_ms() < c->until_ms || left_out(FAULT_CLIENT_LEASE_TIME);
}

void cache_until(struct cache *c, int64_t until_ms)
{
	pthread_mutex_lock(&c->lock);
	c->until_ms = until_ms;
	pthread_mutex_unlock(&c->lock);
}

int64_t cache_left_ms(struct cache *c)
{
	int64_t left = 0;

	pthread_mutex_lock(&c->lock);
	if (!c->stopped)
		left = c->until_ms - clock_ms();
	pthread_mutex_unlock(&c->lock);
	return left > 0 ? left : 0;
}

void cache_drop(struct cache *c)
{
	pthread_mutex_lock(&c->lock);
	cache_clear(c);
	c->floor = ++c->now;
	pthread_mutex_unlock(&c->lock);
}

void cache_stop(struct cache *c)
{
	pthread_mutex_lock(&c->lock);
	cache_clear(c);
	c->floor = ++c->now;
	c->stopped = true;
	c->until_ms = 0;
	pthread_mutex_unlock(&c->lock);
}

void cache_start(struct cache *c)
{
	pthread_mutex_lock(&c->lock);
	c->floor = ++c->now;
	c->stopped = false;
	pthread_mutex_unlock(&c->lock);
}

static void edit_make_blind(struct edit *e)
{
	if (!e->blind)
		e->cache->blind++;
	e->blind = true;
}

/* The entries of dir may be different from now on: those who are changing one of them do not know
 * what it names. */
static void names_moved(struct cache *c, uint64_t dir, const struct edit *by)
{
	struct edit *e;

	DL_FOREACH(c->edits, e)
		for (unsigned i = 0; i < e->n; i++)
			if (e != by && e->inodes[i].name && e->inodes[i].inode == dir)
				edit_make_blind(e);
}

void cache_recall(struct cache *c, uint64_t inode)
{
	struct cached *i;

	if (left_out(FAULT_CLIENT_LEASE_DROP))
		return;
	pthread_mutex_lock(&c->lock);
	c->buckets[cache_bucket(inode)].stamp = ++c->now;
	names_moved(c, inode, NULL);
	i = cached_find(c, inode);
	if (i)
		cached_free(c, i);
	pthread_mutex_unlock(&c->lock);
}

/* ---- tickets ---- */

static void bucket_end(struct cache *c, unsigned bucket)
{
	assert(c->buckets[bucket].edits > 0);
	c->buckets[bucket].edits--;
	c->buckets[bucket].stamp = ++c->now;
}

static void doubts_end(struct cache *c)
{
	struct cache_doubt *d;

	while ((d = c->doubts) != NULL && clock_ms() >= d->until_ms) {
		for (unsigned i = 0; i < d->n; i++)
			bucket_end(c, d->buckets[i]);
		if (d->blind) {
			/* It may have changed any of them. */
			cache_clear(c);
			c->floor = ++c->now;
			c->blind--;
		}
		LL_DELETE(c->doubts, d);
		free(d);
	}
}

uint64_t cache_ticket(struct cache *c)
{
	uint64_t ticket;

	pthread_mutex_lock(&c->lock);
	doubts_end(c);
	ticket = c->now;
	pthread_mutex_unlock(&c->lock);
	return ticket;
}

bool cache_accepts(struct cache *c, uint64_t ticket, uint64_t inode)
{
	unsigned b = cache_bucket(inode);

	return ticket && !c->stopped && !c->blind && ticket >= c->floor &&
	       c->buckets[b].edits == 0 && ticket >= c->buckets[b].stamp;
}

/* ---- own changes ---- */

void edit_begin(struct edit *e, struct cache *c)
{
	memset(e, 0, sizeof(*e));
	e->cache = c;
	e->stamp = cache_ticket(c);
}

/* Lock held. */
static void edit_add(struct edit *e, uint64_t inode, unsigned what, bool name)
{
	struct cache *c = e->cache;
	struct cached *i = cached_find(c, inode);
	unsigned b = cache_bucket(inode), at = 0;

	if (i)
		cached_forget(c, i, what);
	while (at < e->n && e->inodes[at].inode != inode)
		at++;
	if (at == e->n) {
		assert(e->n < EDIT_INODES_MAX);
		e->inodes[at].inode = inode;
		e->inodes[at].name = false;
		e->n++;
		if (c->buckets[b].edits++ > 0)
			e->spoiled = true;
		for (unsigned k = 0; k < at; k++)
			if (cache_bucket(e->inodes[k].inode) == b)
				e->spoiled = true; /* by itself: rare, costs an entry */
	} else if (c->buckets[b].stamp != e->inodes[at].stamp) {
		e->spoiled = true;
	}
	e->inodes[at].name |= name;
	e->inodes[at].stamp = c->buckets[b].stamp = ++c->now;
}

void edit_inode(struct edit *e, uint64_t inode, unsigned what)
{
	pthread_mutex_lock(&e->cache->lock);
	edit_add(e, inode, what, false);
	pthread_mutex_unlock(&e->cache->lock);
}

/* What it names is not known until that is entered again; other names stay as they are. */
static void name_changes(struct cache *c, struct cached *dir, struct slice name)
{
	struct cached_name *n;

	if (name.len > NAME_BYTES_MAX)
		return; /* nothing comes of that */
	n = dir->complete ? name_make(c, dir, name) : name_find(dir, name);
	if (n && dir->complete)
		n->unknown = true;
	else if (n)
		name_free(c, dir, n);
	else
		dir->complete = false; /* out of memory, if it was */
}

void edit_name(struct edit *e, uint64_t dir, struct slice name, bool removes)
{
	struct cache *c = e->cache;
	struct cached_name *n = NULL;
	uint64_t named = 0;
	struct cached *i;
	bool known = false;

	pthread_mutex_lock(&c->lock);
	i = cached_find(c, dir);
	if (i)
		n = name_find(i, name);
	if (n ? !n->unknown : i && i->complete) {
		known = cache_usable(c);
		named = n ? n->inode : 0;
	}
	if (i)
		name_changes(c, i, name);
	edit_add(e, dir, CACHED_ATTR | CACHED_LISTING, true);
	names_moved(c, dir, e);
	if (!e->listed)
		DL_APPEND(c->edits, e);
	e->listed = true;
	if (removes && named)
		edit_add(e, named, CACHED_ATTR | CACHED_LISTING, false);
	if (removes && !known)
		edit_make_blind(e);
	pthread_mutex_unlock(&c->lock);
}

void edit_also(struct edit *e, uint64_t inode)
{
	struct cache *c = e->cache;
	unsigned b = cache_bucket(inode);
	struct cached *i;

	if (!inode)
		return;
	pthread_mutex_lock(&c->lock);
	i = cached_find(c, inode);
	if (i)
		cached_free(c, i);
	for (unsigned k = 0; k < e->n; k++)
		if (e->inodes[k].inode == inode) {
			pthread_mutex_unlock(&c->lock);
			return;
		}
	if (c->buckets[b].edits > 0 || c->buckets[b].stamp > e->stamp)
		e->spoiled = true;
	c->buckets[b].stamp = ++c->now;
	pthread_mutex_unlock(&c->lock);
}

/* Lock held. */
static void edit_unlist(struct edit *e)
{
	if (e->listed)
		DL_DELETE(e->cache->edits, e);
	if (e->blind)
		e->cache->blind--;
	e->listed = e->blind = false;
}

uint64_t edit_end(struct edit *e)
{
	struct cache *c = e->cache;
	bool clean = !e->spoiled;
	uint64_t ticket;

	pthread_mutex_lock(&c->lock);
	for (unsigned i = 0; i < e->n; i++) {
		unsigned b = cache_bucket(e->inodes[i].inode);
		if (c->buckets[b].edits > 1 || c->buckets[b].stamp != e->inodes[i].stamp)
			clean = false;
		bucket_end(c, b);
	}
	edit_unlist(e);
	if (e->stamp < c->floor)
		clean = false;
	ticket = clean ? c->now : 0;
	pthread_mutex_unlock(&c->lock);
	return ticket;
}

void edit_doubt(struct edit *e)
{
	struct cache_doubt *d = calloc(1, sizeof(*d));
	struct cache *c = e->cache;

	pthread_mutex_lock(&c->lock);
	if (e->blind)
		c->blind++;
	/* Out of memory: these inodes, or all, stay out of the cache for good. */
	if (d)
		d->blind = e->blind;
	edit_unlist(e);
	for (unsigned i = 0; d && i < e->n; i++)
		d->buckets[d->n++] = cache_bucket(e->inodes[i].inode);
	if (d) {
		d->until_ms = clock_ms() + CACHE_DOUBT_MS;
		LL_APPEND(c->doubts, d);
	}
	pthread_mutex_unlock(&c->lock);
}
