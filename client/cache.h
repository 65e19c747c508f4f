/* What a session knows and may use without asking the master: attributes, names and their absence,
 * whole listings, link targets, extended attributes, chunk locations. It lives under the session's
 * right R (common/wire.h, 6), which client/lease.c keeps.
 *
 * The rules
 * ---------
 *  1. Nothing is used unless the lease's time has not run out by the client's clock, looked at at
 *     each use.
 *  2. A recall and the answer that it should undo travel on different connections, so an answer may
 *     come after the recall. Therefore every inode has a stamp (in one of CACHE_BUCKETS, shared): the
 *     moment, counted by `now`, of the last recall or own change. Whoever asks the master takes a
 *     ticket (cache_ticket) before the request is sent; its answer is entered only if it was leased
 *     and no inode that it tells about has a stamp later than the ticket.
 *  3. A change that this session makes itself is not recalled from it. It is announced before the
 *     request is sent (edit_begin, edit_inode, edit_name: what it may change is forgotten) and ended
 *     when its outcome is known (edit_end). In between nothing is entered for these inodes: another
 *     client may have seen the change already, so what was read before must not be used any more; and
 *     at the end the stamp moves, so that an answer from before never contradicts the known outcome.
 *     Then the change's own answer may be entered, with edit_end's ticket, if nothing else happened
 *     to these inodes meanwhile.
 *  4. A change whose outcome is not known (its answer never came) may still be executed later:
 *     edit_doubt keeps its inodes out of the cache for CACHE_DOUBT_MS; a blind one (rule 5) stays
 *     blind as long.
 *  5. A name that is removed or replaced names an inode that is changed too. It is announced when the
 *     name is in the cache. If it is not, or if its directory is recalled meanwhile (somebody gives the
 *     name to another inode), the edit is `blind`: until it has ended no attributes are used or entered
 *     at all, and at the end the inode that the answer tells of is forgotten (edit_also).
 *  6. cache_drop forgets everything and refuses tickets of before. Between cache_stop and cache_start
 *     (while the link is being attached anew) nothing is entered.
 *
 * Any thread. One lock, never held across I/O, waits or callbacks. */
#ifndef CAIRN_CLIENT_CACHE_H
#define CAIRN_CLIENT_CACHE_H

#include <pthread.h>

#include "client/location.h"

enum {
	CACHE_BUCKETS = 4096,
	CACHE_INODES_MAX = 65536,
	CACHE_NAMES_MAX = 262144,	 /* of all directories */
	CACHE_LOCATIONS_MAX = 16384,	 /* of all files */
	CACHE_BYTES_MAX = 64 << 20,	 /* listings, link targets, extended attributes */
	CACHE_LISTING_BYTES_MAX = 8 << 20, /* of one directory */
	CACHE_DOUBT_MS = 60000,
	EDIT_INODES_MAX = 6,
};

/* What an edit may change. */
enum {
	CACHED_ATTR = 1,
	CACHED_DATA = 2,    /* locations */
	CACHED_NAMES = 4,   /* all entries */
	CACHED_LISTING = 8,
	CACHED_XATTRS = 16,
	CACHED_XATTRS_SET = 32, /* those that are there: a write takes capabilities away */
	CACHED_ALL = 255,
};

struct cached;
struct edit;

struct cache {
	pthread_mutex_t lock; /* protects all */
	int64_t until_ms;     /* the lease's end by this client's clock */
	uint64_t now;	      /* counts what stamps are taken of */
	uint64_t floor;	      /* tickets must not be older */
	bool stopped;
	struct { uint64_t stamp; unsigned edits; } buckets[CACHE_BUCKETS];
	struct cached *by_number; /* oldest first */
	size_t n_names, n_locations, n_bytes;
	struct edit *edits;	/* those in progress that change names */
	unsigned blind;		/* of them, those of rule 5 */
	struct cache_doubt *doubts; /* oldest first */
};

/* One change in progress; in the caller's frame. */
struct edit {
	struct cache *cache;
	uint64_t stamp;
	unsigned n;
	struct { uint64_t inode, stamp; bool name; } inodes[EDIT_INODES_MAX];
	bool listed, blind, spoiled;
	struct edit *prev, *next;
};

/* Begins stopped. */
void cache_init(struct cache *c);
void cache_release(struct cache *c);

/* ---- the lease (client/lease.c) ---- */

void cache_until(struct cache *c, int64_t until_ms);
/* How long what is in the cache may be used from now on; 0: not at all. */
int64_t cache_left_ms(struct cache *c);
void cache_drop(struct cache *c);
void cache_stop(struct cache *c);
void cache_start(struct cache *c);
/* R of this inode ends. */
void cache_recall(struct cache *c, uint64_t inode);

/* ---- entering: everything with the ticket of before the request ---- */

uint64_t cache_ticket(struct cache *c);
/* Each returns whether it was entered; the caller looks at WIRE_LEASED_* of the answer first. */
bool cache_put_attr(struct cache *c, uint64_t ticket, const struct wire_attr *attr);
/* inode 0: the name is not there. */
bool cache_put_name(struct cache *c, uint64_t ticket, uint64_t dir, struct slice name,
		    uint64_t inode);
/* This session made the directory: it is empty, and names of which nothing else becomes known are not
 * there. */
bool cache_put_empty(struct cache *c, uint64_t ticket, uint64_t dir);
/* entries: of the whole directory, in cache_entry_put's form; taken over if it returns true. */
bool cache_put_listing(struct cache *c, uint64_t ticket, uint64_t dir, struct buf *entries);
bool cache_put_target(struct cache *c, uint64_t ticket, uint64_t inode, struct slice target);
/* name "": the list of names. absent: ERR_NODATA was said. */
bool cache_put_xattr(struct cache *c, uint64_t ticket, uint64_t inode, struct slice name,
		     struct slice value, bool absent);
/* Attributes and consecutive locations. */
bool cache_put_locations(struct cache *c, uint64_t ticket, const struct wire_attr *attr,
			 const struct location *locs, unsigned n);

/* ---- using ---- */

bool cache_get_attr(struct cache *c, uint64_t inode, struct wire_attr *ret);
/* 1: *ret_inode, 0 when the name is known not to be there; 0: not known. */
int cache_get_name(struct cache *c, uint64_t dir, struct slice name, uint64_t *ret_inode);
/* The attributes and the locations of chunks first .. first+n-1, all or none. */
bool cache_get_locations(struct cache *c, uint64_t inode, uint64_t first, unsigned n,
			 struct wire_attr *ret_attr, struct location *ret);
/* Forgets a location that a server refused, if it is that one. */
void cache_drop_location(struct cache *c, uint64_t inode, const struct location *loc);
/* These copy into buf (cleared first). 1: known; 0: not known; negative: ERR_NODATA, ERR_NOMEM. */
int cache_get_target(struct cache *c, uint64_t inode, struct buf *ret);
int cache_get_xattr(struct cache *c, uint64_t inode, struct slice name, struct buf *ret);
/* A part of the listing: the entries behind `cookie`, about `bytes` of them (entries that share a
 * cookie are not parted); *ret_eof: there are no more. */
int cache_get_listing(struct cache *c, uint64_t dir, uint64_t cookie, size_t bytes,
		      struct buf *ret, bool *ret_eof);

/* An entry of a listing: cookie, inode, mode, name. */
struct cache_entry {
	uint64_t cookie, inode;
	uint32_t mode;
	struct slice name;
};
void cache_entry_put(struct buf *b, const struct cache_entry *e);
/* The entry at *at, which moves behind it. False at the end. */
bool cache_entry_next(struct slice entries, size_t *at, struct cache_entry *ret);

/* ---- own changes ---- */

/* Between begin and the request: everything that it changes. */
void edit_begin(struct edit *e, struct cache *c);
void edit_inode(struct edit *e, uint64_t inode, unsigned what);
/* A name of dir comes, goes or changes, and dir's attributes and listing with it. removes: what has
 * this name now is changed by that. */
void edit_name(struct edit *e, uint64_t dir, struct slice name, bool removes);
/* After the answer, before edit_end: the answer says that this inode was changed (or made) too. */
void edit_also(struct edit *e, uint64_t inode);
/* The ticket for entering what the answer tells, or 0 (then nothing is entered). */
uint64_t edit_end(struct edit *e);
/* Instead of edit_end: the outcome is not known. */
void edit_doubt(struct edit *e);

#endif
