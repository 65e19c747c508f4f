/* What the cache stores. */
#include <assert.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "client/cache_priv.h"
#include "common/bytes.h"

enum { ENTRY_HEAD_BYTES = 8 + 8 + 4 + 1, EVICT_STEPS = 64 };

/* ---- inodes ---- */

struct cached *cached_find(struct cache *c, uint64_t number)
{
	struct cached *i;

	HASH_FIND(hh, c->by_number, &number, sizeof(number), i);
	return i;
}

struct cached *cached_make(struct cache *c, uint64_t number)
{
	struct cached *i = cached_find(c, number);

	if (i)
		return i;
	i = calloc(1, sizeof(*i));
	if (!i)
		return NULL;
	i->number = number;
	HASH_ADD(hh, c->by_number, number, sizeof(i->number), i);
	return i;
}

void name_free(struct cache *c, struct cached *i, struct cached_name *n)
{
	HASH_DEL(i->names, n);
	free(n);
	c->n_names--;
}

static void buf_forget(struct cache *c, struct buf *b)
{
	c->n_bytes -= b->len;
	buf_release(b);
}

static void loc_free(struct cache *c, struct cached *i, struct cached_loc *l)
{
	HASH_DEL(i->locs, l);
	free(l);
	c->n_locations--;
}

static void xattr_free(struct cache *c, struct cached *i, struct cached_xattr *x)
{
	HASH_DEL(i->xattrs, x);
	c->n_bytes -= x->len;
	free(x);
}

void cached_forget(struct cache *c, struct cached *i, unsigned what)
{
	struct cached_name *n, *next_name;
	struct cached_loc *l, *next_loc;
	struct cached_xattr *x, *next_xattr;

	if (what & CACHED_ATTR)
		i->has_attr = false;
	if (what & CACHED_DATA)
		HASH_ITER(hh, i->locs, l, next_loc)
			loc_free(c, i, l);
	if (what & CACHED_NAMES) {
		i->complete = false;
		HASH_ITER(hh, i->names, n, next_name)
			name_free(c, i, n);
	}
	if ((what & CACHED_LISTING) && i->has_listing) {
		buf_forget(c, &i->listing);
		i->has_listing = false;
	}
	HASH_ITER(hh, i->xattrs, x, next_xattr)
		if ((what & CACHED_XATTRS) || ((what & CACHED_XATTRS_SET) && !x->absent))
			xattr_free(c, i, x);
}

void cached_free(struct cache *c, struct cached *i)
{
	cached_forget(c, i, CACHED_ALL);
	if (i->has_target)
		buf_forget(c, &i->target);
	HASH_DEL(c->by_number, i);
	free(i);
}

static bool over_limit(const struct cache *c)
{
	return HASH_COUNT(c->by_number) > CACHE_INODES_MAX || c->n_names > CACHE_NAMES_MAX ||
	       c->n_locations > CACHE_LOCATIONS_MAX || c->n_bytes > CACHE_BYTES_MAX;
}

void cache_evict(struct cache *c, const struct cached *keep)
{
	for (int steps = 0; over_limit(c) && HASH_COUNT(c->by_number) > 1; steps++) {
		struct cached *oldest = c->by_number;
		if (oldest != keep && (!oldest->used || steps > EVICT_STEPS)) {
			cached_free(c, oldest);
			continue;
		}
		oldest->used = false;
		HASH_DEL(c->by_number, oldest);
		HASH_ADD(hh, c->by_number, number, sizeof(oldest->number), oldest);
	}
}

/* Lock held. Where an answer about this inode may be stored; NULL: nowhere. */
static struct cached *target_of(struct cache *c, uint64_t ticket, uint64_t inode)
{
	return cache_accepts(c, ticket, inode) ? cached_make(c, inode) : NULL;
}

/* Lock held. What is known of this inode and may be used; NULL: nothing. */
static struct cached *source_of(struct cache *c, uint64_t inode)
{
	struct cached *i = cached_find(c, inode);

	if (!i || !cache_usable(c))
		return NULL;
	i->used = true;
	return i;
}

/* ---- attributes ---- */

bool cache_put_attr(struct cache *c, uint64_t ticket, const struct wire_attr *attr)
{
	struct cached *i;

	pthread_mutex_lock(&c->lock);
	i = target_of(c, ticket, attr->inode);
	if (i) {
		i->attr = *attr;
		i->has_attr = true;
		cache_evict(c, i);
	}
	pthread_mutex_unlock(&c->lock);
	return i != NULL;
}

bool cache_get_attr(struct cache *c, uint64_t inode, struct wire_attr *ret)
{
	struct cached *i;
	bool known;

	pthread_mutex_lock(&c->lock);
	i = c->blind ? NULL : source_of(c, inode);
	known = i && i->has_attr;
	if (known)
		*ret = i->attr;
	pthread_mutex_unlock(&c->lock);
	return known;
}

/* ---- names ---- */

struct cached_name *name_find(struct cached *i, struct slice name)
{
	struct cached_name *n;

	HASH_FIND(hh, i->names, name.data, name.len, n);
	return n;
}

struct cached_name *name_make(struct cache *c, struct cached *i, struct slice name)
{
	struct cached_name *n = name_find(i, name);

	if (n)
		return n;
	n = calloc(1, sizeof(*n) + name.len);
	if (!n)
		return NULL;
	n->len = (uint8_t)name.len;
	memcpy(n->name, name.data, name.len);
	HASH_ADD_KEYPTR(hh, i->names, n->name, n->len, n);
	c->n_names++;
	return n;
}

bool cache_put_name(struct cache *c, uint64_t ticket, uint64_t dir, struct slice name,
		    uint64_t inode)
{
	struct cached_name *n = NULL;
	struct cached *i;

	if (name.len > NAME_BYTES_MAX)
		return false;
	pthread_mutex_lock(&c->lock);
	i = target_of(c, ticket, dir);
	if (i)
		n = name_make(c, i, name);
	if (n) {
		n->inode = inode;
		n->unknown = false;
		cache_evict(c, i);
	}
	pthread_mutex_unlock(&c->lock);
	return n != NULL;
}

bool cache_put_empty(struct cache *c, uint64_t ticket, uint64_t dir)
{
	struct cached *i;

	pthread_mutex_lock(&c->lock);
	i = target_of(c, ticket, dir);
	if (i)
		i->complete = true;
	pthread_mutex_unlock(&c->lock);
	return i != NULL;
}

int cache_get_name(struct cache *c, uint64_t dir, struct slice name, uint64_t *ret_inode)
{
	struct cached_name *n;
	struct cached *i;
	int known = 0;

	if (name.len > NAME_BYTES_MAX)
		return 0; /* it is refused, not absent */
	pthread_mutex_lock(&c->lock);
	i = source_of(c, dir);
	n = i ? name_find(i, name) : NULL;
	if (n ? !n->unknown : i && i->complete) {
		*ret_inode = n ? n->inode : 0;
		known = 1;
	}
	pthread_mutex_unlock(&c->lock);
	return known;
}

/* ---- listings ---- */

void cache_entry_put(struct buf *b, const struct cache_entry *e)
{
	assert(e->name.len <= NAME_BYTES_MAX);
	buf_le64(b, e->cookie);
	buf_le64(b, e->inode);
	buf_le32(b, e->mode);
	buf_u8(b, (uint8_t)e->name.len);
	buf_append(b, e->name.data, e->name.len);
}

bool cache_entry_next(struct slice entries, size_t *at, struct cache_entry *ret)
{
	const uint8_t *p = entries.data + *at;

	if (*at >= entries.len)
		return false;
	ret->cookie = get_le64(p);
	ret->inode = get_le64(p + 8);
	ret->mode = get_le32(p + 16);
	ret->name = slice_of(p + ENTRY_HEAD_BYTES, p[20]);
	*at += ENTRY_HEAD_BYTES + (size_t)p[20];
	return true;
}

bool cache_put_listing(struct cache *c, uint64_t ticket, uint64_t dir, struct buf *entries)
{
	struct cached *i = NULL;

	if (buf_status(entries) < 0 || entries->len > CACHE_LISTING_BYTES_MAX)
		return false;
	pthread_mutex_lock(&c->lock);
	i = target_of(c, ticket, dir);
	if (i) {
		cached_forget(c, i, CACHED_LISTING);
		i->listing = *entries;
		*entries = (struct buf){0};
		i->has_listing = true;
		i->hint_cookie = 0;
		i->hint_at = 0;
		c->n_bytes += i->listing.len;
		cache_evict(c, i);
	}
	pthread_mutex_unlock(&c->lock);
	return i != NULL;
}

/* Where the entries behind cookie begin. */
static size_t listing_seek(const struct cached *i, uint64_t cookie)
{
	struct slice all = buf_slice(&i->listing);
	size_t at = cookie >= i->hint_cookie ? i->hint_at : 0, next = at;
	struct cache_entry e;

	while (cache_entry_next(all, &next, &e) && e.cookie <= cookie)
		at = next;
	return at;
}

int cache_get_listing(struct cache *c, uint64_t dir, uint64_t cookie, size_t bytes,
		      struct buf *ret, bool *ret_eof)
{
	struct cached *i;
	int r = 0;

	buf_clear(ret);
	pthread_mutex_lock(&c->lock);
	i = source_of(c, dir);
	if (i && i->has_listing) {
		struct slice all = buf_slice(&i->listing);
		size_t from = listing_seek(i, cookie), end = from, next = from;
		struct cache_entry e;
		uint64_t last = cookie;
		while (cache_entry_next(all, &next, &e)) {
			if (end - from >= bytes && e.cookie != last)
				break;
			end = next;
			last = e.cookie;
		}
		buf_append(ret, all.data + from, end - from);
		*ret_eof = end == all.len;
		i->hint_cookie = last;
		i->hint_at = end;
		r = buf_status(ret) < 0 ? ERR_NOMEM : 1;
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* ---- link targets, extended attributes ---- */

bool cache_put_target(struct cache *c, uint64_t ticket, uint64_t inode, struct slice target)
{
	struct cached *i;
	bool put;

	pthread_mutex_lock(&c->lock);
	i = target_of(c, ticket, inode);
	put = i && !i->has_target;
	if (put) {
		buf_append(&i->target, target.data, target.len);
		i->has_target = buf_status(&i->target) == 0;
		if (i->has_target)
			c->n_bytes += i->target.len;
		else
			buf_release(&i->target);
		cache_evict(c, i);
	}
	pthread_mutex_unlock(&c->lock);
	return put;
}

int cache_get_target(struct cache *c, uint64_t inode, struct buf *ret)
{
	struct cached *i;
	int r = 0;

	buf_clear(ret);
	pthread_mutex_lock(&c->lock);
	i = source_of(c, inode);
	if (i && i->has_target) {
		buf_append(ret, i->target.data, i->target.len);
		r = buf_status(ret) < 0 ? ERR_NOMEM : 1;
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

bool cache_put_xattr(struct cache *c, uint64_t ticket, uint64_t inode, struct slice name,
		     struct slice value, bool absent)
{
	struct cached_xattr *x = NULL, *old = NULL;
	struct cached *i;

	if (name.len > XATTR_NAME_BYTES_MAX)
		return false;
	pthread_mutex_lock(&c->lock);
	i = target_of(c, ticket, inode);
	if (i)
		x = malloc(sizeof(*x) + name.len + value.len);
	if (x) {
		HASH_FIND(hh, i->xattrs, name.data, name.len, old);
		if (old)
			xattr_free(c, i, old);
		x->absent = absent;
		x->name_len = (uint8_t)name.len;
		x->len = value.len;
		if (name.len > 0)
			memcpy(x->bytes, name.data, name.len);
		if (value.len > 0)
			memcpy(x->bytes + name.len, value.data, value.len);
		HASH_ADD_KEYPTR(hh, i->xattrs, x->bytes, x->name_len, x);
		c->n_bytes += x->len;
		cache_evict(c, i);
	}
	pthread_mutex_unlock(&c->lock);
	return x != NULL;
}

int cache_get_xattr(struct cache *c, uint64_t inode, struct slice name, struct buf *ret)
{
	struct cached_xattr *x = NULL;
	struct cached *i;
	int r = 0;

	buf_clear(ret);
	pthread_mutex_lock(&c->lock);
	i = source_of(c, inode);
	if (i)
		HASH_FIND(hh, i->xattrs, name.data, name.len, x);
	if (x && x->absent) {
		r = ERR_NODATA;
	} else if (x) {
		buf_append(ret, x->bytes + x->name_len, x->len);
		r = buf_status(ret) < 0 ? ERR_NOMEM : 1;
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* ---- locations ---- */

/* Lock held. */
static bool loc_put(struct cache *c, struct cached *i, const struct location *loc)
{
	struct cached_loc *l;

	HASH_FIND(hh, i->locs, &loc->index, sizeof(loc->index), l);
	if (!l) {
		l = malloc(sizeof(*l));
		if (!l)
			return false;
		l->loc.index = loc->index;
		HASH_ADD(hh, i->locs, loc.index, sizeof(l->loc.index), l);
		c->n_locations++;
	}
	l->loc = *loc;
	return true;
}

bool cache_put_locations(struct cache *c, uint64_t ticket, const struct wire_attr *attr,
			 const struct location *locs, unsigned n)
{
	struct cached *i;
	bool put;

	pthread_mutex_lock(&c->lock);
	i = target_of(c, ticket, attr->inode);
	put = i != NULL;
	if (put) {
		i->attr = *attr;
		i->has_attr = true;
	}
	if (put && HASH_COUNT(i->locs) + n > CACHE_LOCATIONS_MAX / 4)
		cached_forget(c, i, CACHED_DATA);
	for (unsigned k = 0; put && k < n; k++)
		put = loc_put(c, i, &locs[k]);
	if (i)
		cache_evict(c, i);
	pthread_mutex_unlock(&c->lock);
	return put;
}

bool cache_get_locations(struct cache *c, uint64_t inode, uint64_t first, unsigned n,
			 struct wire_attr *ret_attr, struct location *ret)
{
	struct cached *i;
	bool all;

	pthread_mutex_lock(&c->lock);
	i = c->blind ? NULL : source_of(c, inode);
	all = i && i->has_attr;
	for (unsigned k = 0; all && k < n; k++) {
		struct cached_loc *l;
		uint64_t index = first + k;
		HASH_FIND(hh, i->locs, &index, sizeof(index), l);
		all = l != NULL;
		if (all)
			ret[k] = l->loc;
	}
	if (all)
		*ret_attr = i->attr;
	pthread_mutex_unlock(&c->lock);
	return all;
}

void cache_drop_location(struct cache *c, uint64_t inode, const struct location *loc)
{
	struct cached_loc *l = NULL;
	struct cached *i;

	pthread_mutex_lock(&c->lock);
	i = cached_find(c, inode);
	if (i)
		HASH_FIND(hh, i->locs, &loc->index, sizeof(loc->index), l);
	if (l && location_same(&l->loc, loc))
		loc_free(c, i, l);
	pthread_mutex_unlock(&c->lock);
}
