/* What client/cache.c and client/cache_data.c share. */
#ifndef CAIRN_CLIENT_CACHE_PRIV_H
#define CAIRN_CLIENT_CACHE_PRIV_H

#include <uthash.h>

#include "client/cache.h"

struct cached_name {
	uint64_t inode;
	bool unknown; /* of a `complete` directory: this session changes it, or has changed it */
	UT_hash_handle hh;
	uint8_t len;
	char name[];
};

struct cached_loc {
	struct location loc;
	UT_hash_handle hh; /* by loc.index */
};

struct cached_xattr {
	UT_hash_handle hh;
	bool absent;
	uint8_t name_len;
	uint32_t len;
	uint8_t bytes[]; /* name, value */
};

/* All that is known of one inode. */
struct cached {
	uint64_t number;
	UT_hash_handle hh;
	bool used; /* since it was looked at for eviction last */
	bool has_attr, has_listing, has_target;
	bool complete; /* a directory: names that are not here are not there */
	struct wire_attr attr;
	struct cached_name *names;
	struct cached_loc *locs;
	struct cached_xattr *xattrs;
	struct buf listing, target;
	uint64_t hint_cookie; /* the listing's entry behind this cookie begins at hint_at */
	size_t hint_at;
};

static inline unsigned cache_bucket(uint64_t inode)
{
	return (unsigned)((inode * 0x9e3779b97f4a7c15ULL) >> 52) % CACHE_BUCKETS;
}

/* All with the lock held. */
struct cached *cached_find(struct cache *c, uint64_t number);
/* NULL when out of memory. Old ones go when there are too many. */
struct cached *cached_make(struct cache *c, uint64_t number);
/* Forgets `what` (CACHED_*). */
void cached_forget(struct cache *c, struct cached *i, unsigned what);
void cached_free(struct cache *c, struct cached *i);
void name_free(struct cache *c, struct cached *i, struct cached_name *n);
struct cached_name *name_find(struct cached *i, struct slice name);
/* The same, made if need be; NULL when out of memory. */
struct cached_name *name_make(struct cache *c, struct cached *i, struct slice name);
/* Makes room while a limit is passed; `keep` stays. */
void cache_evict(struct cache *c, const struct cached *keep);
bool cache_usable(const struct cache *c);
/* Whether an answer with this ticket may be entered for the inode. */
bool cache_accepts(struct cache *c, uint64_t ticket, uint64_t inode);

#endif
