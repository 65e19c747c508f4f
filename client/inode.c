#include "client/inode.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>

#include "client/wait.h"

struct cached_location {
	struct location loc;
	UT_hash_handle hh;
};

/* Who opened it last, for reading and for writing. */
struct opener {
	struct cairn_cred cred[2];
	bool known[2];
};

/* ---- the table ---- */

void inodes_init(struct inodes *t)
{
	memset(t, 0, sizeof(*t));
	pthread_mutex_init(&t->lock, NULL);
}

static void locations_clear(struct inode *inode)
{
	struct cached_location *c, *next;

	HASH_ITER(hh, inode->locations, c, next) {
		HASH_DEL(inode->locations, c);
		free(c);
	}
}

static void inode_free(struct inode *inode)
{
	locations_clear(inode);
	free(inode->dirty);
	free(inode->openers);
	pthread_mutex_destroy(&inode->lock);
	pthread_cond_destroy(&inode->append_ended);
	free(inode);
}

void inodes_release(struct inodes *t)
{
	struct inode *inode, *next;

	HASH_ITER(hh, t->by_number, inode, next) {
		assert(inode->refs == 0);
		HASH_DEL(t->by_number, inode);
		inode_free(inode);
	}
	pthread_mutex_destroy(&t->lock);
}

static struct inode *inode_new(uint64_t number, uint8_t chunk_bits)
{
	struct inode *inode = calloc(1, sizeof(*inode));

	if (!inode || wait_cond_init(&inode->append_ended) < 0) {
		free(inode);
		return NULL;
	}
	inode->number = number;
	inode->chunk_bits = chunk_bits;
	inode->loss_seen = true;
	pthread_mutex_init(&inode->lock, NULL);
	return inode;
}

/* Called with the table's lock held. */
static struct inode *inode_ref(struct inodes *t, uint64_t number)
{
	struct inode *inode;

	HASH_FIND(hh, t->by_number, &number, sizeof(number), inode);
	if (inode && inode->refs++ == 0) {
		t->n_open++;
		t->n_closed--;
	}
	return inode;
}

struct inode *inode_open(struct inodes *t, uint64_t number, uint8_t chunk_bits, bool fresh)
{
	struct inode *inode;

	pthread_mutex_lock(&t->lock);
	inode = inode_ref(t, number);
	if (!inode)
		inode = inode_new(number, chunk_bits);
	if (inode && inode->refs == 0) {
		inode->refs = 1;
		if (t->forgot && !fresh)
			inode->dirty_all = ++inode->mark;
		HASH_ADD(hh, t->by_number, number, sizeof(inode->number), inode);
		t->n_open++;
	}
	pthread_mutex_unlock(&t->lock);
	return inode;
}

struct inode *inode_find(struct inodes *t, uint64_t number)
{
	struct inode *inode;

	pthread_mutex_lock(&t->lock);
	HASH_FIND(hh, t->by_number, &number, sizeof(number), inode);
	if (inode && inode->refs == 0)
		inode = NULL;
	if (inode)
		inode->refs++;
	pthread_mutex_unlock(&t->lock);
	return inode;
}

int inode_opened_by(struct inode *inode, const struct cairn_cred *cred, int flags)
{
	int mode = flags & O_ACCMODE, r = 0;

	if (!cred)
		return 0;
	pthread_mutex_lock(&inode->lock);
	if (!inode->openers)
		inode->openers = calloc(1, sizeof(*inode->openers));
	if (!inode->openers)
		r = ERR_NOMEM;
	for (int writing = 0; writing < 2 && r == 0; writing++) {
		if (mode == (writing ? O_RDONLY : O_WRONLY))
			continue;
		inode->openers->cred[writing] = *cred;
		inode->openers->known[writing] = true;
	}
	pthread_mutex_unlock(&inode->lock);
	return r;
}

void inodes_cred(struct inodes *t, struct session *s, uint64_t number, bool writing,
		 struct wire_cred *ret)
{
	struct inode *inode = NULL;
	struct cairn_cred cred;
	bool known = false;

	if (session_is_checked(s)) {
		pthread_mutex_lock(&t->lock);
		HASH_FIND(hh, t->by_number, &number, sizeof(number), inode);
		if (inode) {
			pthread_mutex_lock(&inode->lock);
			const struct opener *o = inode->openers;
			bool as = o && o->known[writing] ? writing : !writing;
			known = o && o->known[as];
			if (known)
				cred = o->cred[as];
			pthread_mutex_unlock(&inode->lock);
		}
		pthread_mutex_unlock(&t->lock);
	}
	session_cred(s, known ? &cred : NULL, ret);
}

bool inodes_any_open(struct inodes *t)
{
	bool any;

	pthread_mutex_lock(&t->lock);
	any = t->n_open > 0;
	pthread_mutex_unlock(&t->lock);
	return any;
}

/* The table keeps a closed dirty inode; above the limit the longest known one is forgotten. */
static void inodes_keep_closed(struct inodes *t)
{
	struct inode *inode, *next;

	if (++t->n_closed <= INODES_CLOSED_MAX)
		return;
	HASH_ITER(hh, t->by_number, inode, next) {
		if (inode->refs > 0)
			continue;
		HASH_DEL(t->by_number, inode);
		inode_free(inode);
		t->n_closed--;
		t->forgot = true;
		return;
	}
}

bool inode_close(struct inodes *t, struct inode *inode)
{
	uint64_t number = inode->number;
	bool release, told;

	pthread_mutex_lock(&t->lock);
	assert(inode->refs > 0);
	if (--inode->refs > 0) {
		pthread_mutex_unlock(&t->lock);
		return false;
	}
	t->n_open--;
	release = inode->held;
	told = inode->told;
	inode->told = false;
	inode->held = false;
	/* Nobody else has it now, so its own lock is not needed. What is wholly dirty once one was
	 * forgotten will be so again when it is opened. */
	if (inode->gone || (inode->n_dirty == 0 && inode->loss_seen &&
			    (!inode->dirty_all || t->forgot))) {
		HASH_DEL(t->by_number, inode);
		inode_free(inode);
	} else {
		locations_clear(inode);
		inodes_keep_closed(t);
	}
	pthread_mutex_unlock(&t->lock);
	if (told && t->closed)
		t->closed(t->closed_arg, number);
	return release;
}

void inode_hold(struct inodes *t, struct inode *inode, bool gone)
{
	pthread_mutex_lock(&t->lock);
	inode->held = true;
	inode->gone |= gone;
	pthread_mutex_unlock(&t->lock);
}

bool inode_tell_open(struct inodes *t, uint64_t number)
{
	struct inode *inode;
	bool open;

	pthread_mutex_lock(&t->lock);
	HASH_FIND(hh, t->by_number, &number, sizeof(number), inode);
	open = inode && inode->refs > 0;
	if (open)
		inode->told = true;
	pthread_mutex_unlock(&t->lock);
	return open;
}

int inodes_tell_open(struct inodes *t, uint64_t **ret, size_t *ret_n)
{
	struct inode *inode, *next;
	uint64_t *list;
	size_t n = 0;

	pthread_mutex_lock(&t->lock);
	list = calloc(t->n_open + 1, sizeof(*list));
	HASH_ITER(hh, t->by_number, inode, next) {
		if (!list || inode->refs == 0)
			continue;
		inode->told = true;
		list[n++] = inode->number;
	}
	pthread_mutex_unlock(&t->lock);
	if (!list)
		return ERR_NOMEM;
	*ret = list;
	*ret_n = n;
	return 0;
}

bool inode_append_begin(struct inode *inode, int64_t deadline_ms)
{
	bool mine;

	pthread_mutex_lock(&inode->lock);
	while (inode->appending &&
	       wait_until(&inode->append_ended, &inode->lock, deadline_ms))
		;
	mine = !inode->appending;
	inode->appending = true;
	pthread_mutex_unlock(&inode->lock);
	return mine;
}

void inode_append_end(struct inode *inode)
{
	pthread_mutex_lock(&inode->lock);
	inode->appending = false;
	pthread_cond_signal(&inode->append_ended);
	pthread_mutex_unlock(&inode->lock);
}

/* ---- write locations ---- */

static struct cached_location *cached_find(struct inode *inode, uint64_t index)
{
	struct cached_location *c;

	HASH_FIND(hh, inode->locations, &index, sizeof(index), c);
	return c;
}

static void cached_del(struct inode *inode, struct cached_location *c)
{
	HASH_DEL(inode->locations, c);
	free(c);
}

static bool own_has(const struct inode *inode, uint64_t change)
{
	for (unsigned i = 0; i < INODE_OWN_MAX; i++)
		if (inode->own[i] == change)
			return true;
	return false;
}

/* Every change in (since, to] was our own. */
static bool explained(const struct inode *inode, uint64_t since, uint64_t to)
{
	if (to < since || to - since > INODE_OWN_MAX)
		return false;
	for (uint64_t c = since + 1; c <= to; c++)
		if (!own_has(inode, c))
			return false;
	return true;
}

bool inode_location_get(struct inode *inode, uint64_t index, struct location *ret,
			uint64_t *ret_since)
{
	struct cached_location *c;

	pthread_mutex_lock(&inode->lock);
	c = cached_find(inode, index);
	if (c) {
		*ret = c->loc;
		*ret_since = inode->known;
	}
	pthread_mutex_unlock(&inode->lock);
	return c != NULL;
}

static void cached_store(struct inode *inode, const struct location *loc)
{
	struct cached_location *c = cached_find(inode, loc->index);

	if (!c) {
		if (HASH_COUNT(inode->locations) >= INODE_LOCATIONS_MAX)
			cached_del(inode, inode->locations);
		c = calloc(1, sizeof(*c));
		if (!c)
			return; /* not cached, then */
		c->loc.index = loc->index;
		HASH_ADD(hh, inode->locations, loc.index, sizeof(c->loc.index), c);
	}
	c->loc = *loc;
}

void inode_location_put(struct inode *inode, const struct location *loc, uint64_t change)
{
	pthread_mutex_lock(&inode->lock);
	if (!inode->locations || (change >= inode->known &&
				  !explained(inode, inode->known, change))) {
		locations_clear(inode);
		inode->known = change;
	} else if (change > inode->known) {
		inode->known = change;
	} else if (!explained(inode, change, inode->known)) {
		/* An answer from before somebody else's change, which the others survived. */
		pthread_mutex_unlock(&inode->lock);
		return;
	}
	cached_store(inode, loc);
	pthread_mutex_unlock(&inode->lock);
}

void inode_location_drop(struct inode *inode, const struct location *loc)
{
	struct cached_location *c;

	pthread_mutex_lock(&inode->lock);
	c = cached_find(inode, loc->index);
	if (c && location_same(&c->loc, loc))
		cached_del(inode, c);
	pthread_mutex_unlock(&inode->lock);
}

void inode_locations_cut(struct inode *inode, uint64_t from_index)
{
	struct cached_location *c, *next;

	pthread_mutex_lock(&inode->lock);
	HASH_ITER(hh, inode->locations, c, next)
		if (c->loc.index >= from_index)
			cached_del(inode, c);
	pthread_mutex_unlock(&inode->lock);
}

static void own_put(struct inode *inode, uint64_t change)
{
	inode->own[inode->own_at++ % INODE_OWN_MAX] = change;
}

void inode_changed(struct inode *inode, uint64_t change)
{
	pthread_mutex_lock(&inode->lock);
	own_put(inode, change);
	pthread_mutex_unlock(&inode->lock);
}

bool inode_wrote(struct inode *inode, uint64_t since, uint64_t change)
{
	bool ok;

	pthread_mutex_lock(&inode->lock);
	own_put(inode, change);
	ok = explained(inode, since, change);
	if (!ok)
		locations_clear(inode);
	else if (explained(inode, inode->known, change))
		inode->known = change;
	pthread_mutex_unlock(&inode->lock);
	return ok;
}

void inode_written(struct inode *inode, uint64_t index, uint64_t id)
{
	struct cached_location *c;

	pthread_mutex_lock(&inode->lock);
	c = cached_find(inode, index);
	if (c && c->loc.id == id)
		c->loc.flags |= CHUNK_WRITTEN;
	pthread_mutex_unlock(&inode->lock);
}

/* ---- unsynced chunks ---- */

/* The place of index among the dirty ones, or where it would be. */
static size_t dirty_find(const struct inode *inode, uint64_t index)
{
	size_t lo = 0, hi = inode->n_dirty;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (inode->dirty[mid].index < index)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool dirty_grow(struct inode *inode)
{
	size_t cap = inode->dirty_cap ? inode->dirty_cap * 2 : 4;
	struct dirty *p;

	if (inode->n_dirty < inode->dirty_cap)
		return true;
	if (inode->n_dirty >= INODE_DIRTY_MAX)
		return false;
	p = realloc(inode->dirty, cap * sizeof(*p));
	if (!p)
		return false;
	inode->dirty = p;
	inode->dirty_cap = cap;
	return true;
}

/* A write more, to an entry that is there. */
static void dirty_again(struct dirty *d, uint64_t mark, uint64_t chunk, uint32_t version)
{
	d->mark = mark;
	if (d->chunk != chunk || version < d->version) {
		/* Of another chunk, which is gone, nothing can be synced any more. */
		d->chunk = chunk;
		d->version = version;
	}
}

void inode_dirty_mark(struct inode *inode, uint64_t index, uint64_t chunk, uint32_t version)
{
	size_t at;

	pthread_mutex_lock(&inode->lock);
	inode->mark++;
	at = dirty_find(inode, index);
	if (at < inode->n_dirty && inode->dirty[at].index == index) {
		dirty_again(&inode->dirty[at], inode->mark, chunk, version);
	} else if (dirty_grow(inode)) {
		memmove(inode->dirty + at + 1, inode->dirty + at,
			(inode->n_dirty - at) * sizeof(*inode->dirty));
		inode->dirty[at] = (struct dirty){index, inode->mark, chunk, version};
		inode->n_dirty++;
	} else {
		inode->dirty_all = inode->mark;
	}
	pthread_mutex_unlock(&inode->lock);
}

void inode_fail(struct inode *inode, int code)
{
	pthread_mutex_lock(&inode->lock);
	inode->losses++;
	inode->loss_code = code;
	inode->loss_seen = false;
	pthread_mutex_unlock(&inode->lock);
}

void inode_lost(struct inode *inode)
{
	inode_fail(inode, ERR_IO);
}

unsigned inode_losses_sample(struct inode *inode)
{
	unsigned n;

	pthread_mutex_lock(&inode->lock);
	n = inode->losses - !inode->loss_seen;
	pthread_mutex_unlock(&inode->lock);
	return n;
}

int inode_losses_check(struct inode *inode, atomic_uint *seen)
{
	int code = 0;

	pthread_mutex_lock(&inode->lock);
	if (atomic_exchange(seen, inode->losses) != inode->losses) {
		code = inode->loss_code;
		inode->loss_seen = true;
	}
	pthread_mutex_unlock(&inode->lock);
	return code;
}

int inode_dirty_list(struct inode *inode, struct dirty **ret, size_t *ret_n, uint64_t *ret_all)
{
	struct dirty *list = NULL;
	int r = 0;

	pthread_mutex_lock(&inode->lock);
	if (inode->n_dirty > 0) {
		list = malloc(inode->n_dirty * sizeof(*list));
		if (list)
			memcpy(list, inode->dirty, inode->n_dirty * sizeof(*list));
		else
			r = ERR_NOMEM;
	}
	if (r == 0) {
		*ret = list;
		*ret_n = inode->n_dirty;
		*ret_all = inode->dirty_all;
	}
	pthread_mutex_unlock(&inode->lock);
	return r;
}

void inode_clean(struct inode *inode, const struct dirty *d)
{
	size_t at;

	pthread_mutex_lock(&inode->lock);
	at = dirty_find(inode, d->index);
	if (at < inode->n_dirty && inode->dirty[at].index == d->index &&
	    inode->dirty[at].mark == d->mark) {
		inode->n_dirty--;
		memmove(inode->dirty + at, inode->dirty + at + 1,
			(inode->n_dirty - at) * sizeof(*inode->dirty));
	}
	pthread_mutex_unlock(&inode->lock);
}

void inode_clean_all(struct inode *inode, uint64_t all)
{
	pthread_mutex_lock(&inode->lock);
	if (inode->dirty_all == all)
		inode->dirty_all = 0;
	pthread_mutex_unlock(&inode->lock);
}
