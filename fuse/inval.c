#include "fuse/inval.h"

#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>

#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/wait.h"

enum {
	BUCKETS = 256,
	NOTIFY_INC_EPOCH = 8, /* as linux/fuse.h has it since Linux 6.16 */
	LATE_MS = 2000,	      /* how long after its time-out the kernel may have applied a reply */
	LIMBO_MAX = 16,	      /* pages of one directory */
	SHARED_MAX = 8,	      /* of a bucket: the one left alone for longest is forgotten */
	SETTLE_MS = 10000,    /* by then the lease of whoever does not answer a recall has ended */
	SETTLE_RETRY_MS = 20,
	LISTING_LASTS_MS = 1000, /* rule 10: at least so long */
};

struct node {
	uint64_t inode;
	UT_hash_handle hh;
	uint64_t lookups; /* that the kernel has not given back */
	bool confirmed;	  /* rule 4 */
	bool opened;	  /* it may have pages */
	unsigned writers; /* handles that write */
	unsigned readers; /* handles that read through them */
	uint64_t change;  /* at the latest open */
	uint64_t moved, told; /* rule 6: the count, and that of the latest answer to a read */
	int64_t told_ms;
	int64_t attr_until_ms, names_until_ms; /* what it may remember */
	uint64_t page_of, page; /* the directory and the page that it is known by, or 0 (rule 9) */
	uint64_t *limbo;	/* stamps of this directory's pages in limbo */
	unsigned n_limbo;
	bool settling; /* a thread asks for its lock */
};

/* A directory that others change (rule 3). Not in its node: with the epoch the kernel drops the directory
 * itself, and its node goes. */
struct shared {
	uint64_t inode; /* 0: none */
	int64_t until_ms, lasts_ms;
};

struct bucket {
	pthread_mutex_t lock; /* protects what follows */
	uint64_t stamp;
	struct shared shared[SHARED_MAX];
	struct node *nodes;
};

struct inval {
	bool caching;
	_Atomic uint64_t root; /* the kernel calls it FUSE_ROOT_ID; set before requests come */
	atomic_bool epochs; /* the kernel has them */
	atomic_ullong now;
	atomic_ulong n_recalls, n_epochs; /* for the log */
	struct bucket buckets[BUCKETS];
	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t told;
	struct fuse_session *session; /* NULL: not mounted */
	unsigned telling;	      /* threads that tell the kernel something now */
};

static struct bucket *bucket_of(struct inval *v, uint64_t inode)
{
	return &v->buckets[(inode * 0x9e3779b97f4a7c15ULL) >> 56];
}

/* Lock held. */
static struct node *node_find(struct bucket *b, uint64_t inode)
{
	struct node *n;

	HASH_FIND(hh, b->nodes, &inode, sizeof(inode), n);
	return n;
}

static struct node *node_make(const struct inval *v, struct bucket *b, uint64_t inode)
{
	struct node *n = node_find(b, inode);

	if (n)
		return n;
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL; /* no time-outs for it */
	n->inode = inode;
	n->confirmed = inode == v->root;
	HASH_ADD(hh, b->nodes, inode, sizeof(n->inode), n);
	return n;
}

static struct shared *shared_find(struct bucket *b, uint64_t inode)
{
	for (unsigned i = 0; i < SHARED_MAX; i++)
		if (b->shared[i].inode == inode)
			return &b->shared[i];
	return NULL;
}

static void node_free(struct bucket *b, struct node *n)
{
	HASH_DEL(b->nodes, n);
	free(n->limbo);
	free(n);
}

static bool left_out(enum fault_point point)
{
	struct fault none;

	return fault_map && fault_take(point, "", 1U << FAULT_DO_DROP, &none);
}

/* ---- life cycle ---- */

struct inval *inval_new(bool caching)
{
	struct inval *v = calloc(1, sizeof(*v));

	if (!v || wait_cond_init(&v->told) < 0) {
		free(v);
		return NULL;
	}
	v->caching = caching;
	atomic_store(&v->now, 1);
	for (unsigned i = 0; i < BUCKETS; i++)
		pthread_mutex_init(&v->buckets[i].lock, NULL);
	pthread_mutex_init(&v->lock, NULL);
	return v;
}

void inval_free(struct inval *v)
{
	struct node *n, *next;

	if (!v)
		return;
	for (unsigned i = 0; i < BUCKETS; i++) {
		HASH_ITER(hh, v->buckets[i].nodes, n, next)
			node_free(&v->buckets[i], n);
		pthread_mutex_destroy(&v->buckets[i].lock);
	}
	pthread_mutex_destroy(&v->lock);
	pthread_cond_destroy(&v->told);
	free(v);
}

/* The session, to which session_put must follow; NULL: there is none. */
static struct fuse_session *session_get(struct inval *v)
{
	struct fuse_session *session;

	pthread_mutex_lock(&v->lock);
	session = v->session;
	v->telling += session != NULL;
	pthread_mutex_unlock(&v->lock);
	return session;
}

static void session_put(struct inval *v)
{
	pthread_mutex_lock(&v->lock);
	v->telling--;
	pthread_cond_broadcast(&v->told);
	pthread_mutex_unlock(&v->lock);
}

/* ---- telling the kernel ---- */

static uint64_t kernel_id(const struct inval *v, uint64_t inode)
{
	return inode == v->root ? FUSE_ROOT_ID : inode;
}

/* False: this kernel has no epochs. */
static bool epoch_move(struct fuse_session *session)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = NOTIFY_INC_EPOCH};

	return write(fuse_session_fd(session), &out, sizeof(out)) >= 0 ||
	       (errno != EINVAL && errno != ENOSYS);
}

static void tell_names(struct inval *v)
{
	struct fuse_session *session = session_get(v);

	if (!session)
		return;
	if (!left_out(FAULT_FUSE_INVAL_EPOCH))
		epoch_move(session);
	atomic_fetch_add(&v->n_epochs, 1);
	session_put(v);
}

/* Never waits for pages. */
static void tell_attr(struct inval *v, uint64_t inode)
{
	struct fuse_session *session = session_get(v);

	if (!session)
		return;
	if (!left_out(FAULT_FUSE_INVAL_ATTR))
		fuse_lowlevel_notify_inval_inode(session, kernel_id(v, inode), -1, 0);
	session_put(v);
}

void inval_start(struct inval *v, struct fuse_session *session, uint64_t root)
{
	bool epochs = v->caching && epoch_move(session);

	v->root = root;
	pthread_mutex_lock(&v->lock);
	v->session = session;
	pthread_mutex_unlock(&v->lock);
	atomic_store(&v->epochs, epochs);
	if (v->caching && !epochs)
		log_warn("this kernel is older than 6.16: it asks for every name");
}

void inval_stop(struct inval *v, int64_t within_ms)
{
	int64_t end = deadline_in(within_ms);

	log_info("%lu recalls, the kernel's epoch moved %lu times", atomic_load(&v->n_recalls),
		 atomic_load(&v->n_epochs));

	pthread_mutex_lock(&v->lock);
	v->session = NULL;
	while (v->telling > 0 && wait_until(&v->told, &v->lock, end))
		;
	pthread_mutex_unlock(&v->lock);
}

/* ---- pages in limbo (rule 9) ---- */

/* Lock held. That page is taken; alone false: those of before too. True: there were some. */
static bool limbo_end(struct node *n, uint64_t stamp, bool alone)
{
	unsigned left = 0, all = n->n_limbo;

	for (unsigned i = 0; i < all; i++)
		if (alone ? n->limbo[i] != stamp : n->limbo[i] > stamp)
			n->limbo[left++] = n->limbo[i];
	n->n_limbo = left;
	return left < all;
}

static void pages_taken(struct inval *v, uint64_t dir, uint64_t stamp, bool alone)
{
	struct bucket *b = bucket_of(v, dir);
	struct node *n;
	bool any;

	pthread_mutex_lock(&b->lock);
	n = node_find(b, dir);
	any = n && limbo_end(n, stamp, alone);
	pthread_mutex_unlock(&b->lock);
	if (!any)
		return;
	pthread_mutex_lock(&v->lock);
	pthread_cond_broadcast(&v->told);
	pthread_mutex_unlock(&v->lock);
}

void inval_page_taken(struct inval *v, uint64_t parent, uint64_t stamp)
{
	if (stamp)
		pages_taken(v, parent, stamp, true);
}

void inval_dir_locked(struct inval *v, uint64_t dir)
{
	pages_taken(v, dir, atomic_load(&v->now), false);
}

/* v->lock held. page 0: any of them. *ret_ask: the caller is the one to ask for the directory's lock. */
static bool in_limbo(struct inval *v, uint64_t dir, uint64_t page, bool *ret_ask)
{
	struct bucket *b = bucket_of(v, dir);
	bool found = false;
	struct node *n;

	pthread_mutex_lock(&b->lock);
	n = node_find(b, dir); /* not there: the kernel has nothing of it */
	for (unsigned i = 0; n && i < n->n_limbo; i++)
		found |= !page || n->limbo[i] == page;
	*ret_ask = found && !n->settling;
	if (*ret_ask)
		n->settling = true;
	pthread_mutex_unlock(&b->lock);
	return found;
}

static void settle_end(struct inval *v, uint64_t dir)
{
	struct bucket *b = bucket_of(v, dir);
	struct node *n;

	pthread_mutex_lock(&b->lock);
	n = node_find(b, dir);
	if (n)
		n->settling = false;
	pthread_mutex_unlock(&b->lock);
}

struct settle {
	struct inval *v;
	struct fuse_session *session;
	uint64_t dir;
};

/* Waits in the kernel for the directory's lock. A thread for each directory: one may have to wait for a
 * change that waits for the recall of another one. */
static void *settle_main(void *arg)
{
	static const char name[] = ".cairn-none"; /* if there is one, it is only looked up again */
	struct settle s = *(struct settle *)arg;
	uint64_t before = atomic_load(&s.v->now);

	free(arg);
	fuse_lowlevel_notify_inval_entry(s.session, kernel_id(s.v, s.dir), name, sizeof(name) - 1);
	settle_end(s.v, s.dir);
	pages_taken(s.v, s.dir, before, false);
	session_put(s.v);
	return NULL;
}

static void settle_start(struct inval *v, uint64_t dir)
{
	struct settle *s = malloc(sizeof(*s));
	pthread_t thread;

	if (s) {
		*s = (struct settle){v, session_get(v), dir};
		if (s->session && pthread_create(&thread, NULL, settle_main, s) == 0) {
			pthread_detach(thread);
			return;
		}
		if (s->session)
			session_put(v);
	}
	free(s);
	settle_end(v, dir);
}

/* Until that page of the directory (0: each that is in limbo now) has been taken. */
static void settle(struct inval *v, uint64_t dir, uint64_t page)
{
	int64_t end = deadline_in(SETTLE_MS);
	bool ask;

	if (left_out(FAULT_FUSE_INVAL_LIMBO))
		return;
	pthread_mutex_lock(&v->lock);
	while (v->session && in_limbo(v, dir, page, &ask)) {
		if (ask) {
			pthread_mutex_unlock(&v->lock);
			settle_start(v, dir);
			pthread_mutex_lock(&v->lock);
		}
		if (clock_ms() >= end) {
			log_warn("directory %llx stays locked", (unsigned long long)dir);
			break;
		}
		if (!ask)
			wait_until(&v->told, &v->lock, deadline_in(SETTLE_RETRY_MS));
	}
	pthread_mutex_unlock(&v->lock);
}

/* ---- recalls ---- */

struct to_tell {
	bool attr, names;
	bool limbo;		/* pages of it are */
	uint64_t page_of, page; /* it is known by that one alone */
};

/* Lock held. What the kernel may remember of it, which it will not any more. */
static struct to_tell node_forgets(struct node *n)
{
	int64_t now = clock_ms();
	struct to_tell t = {.attr = n->attr_until_ms + LATE_MS > now,
			    .names = n->names_until_ms + LATE_MS > now, .limbo = n->n_limbo > 0};

	if (t.attr && !n->confirmed) {
		t.page_of = n->page_of;
		t.page = n->page;
	}
	n->attr_until_ms = n->names_until_ms = 0;
	n->moved++;
	return t;
}

/* Lock held. Others change this directory (rule 3); names: the kernel had some of it. */
static void dir_shared(struct bucket *b, uint64_t inode, bool names)
{
	int64_t now = clock_ms();
	struct shared *s = shared_find(b, inode);

	if (names && left_out(FAULT_FUSE_INVAL_EPOCH))
		return; /* all of the rule is left out */
	if (!names && (!s || now >= s->until_ms))
		return;
	if (!s) {
		s = &b->shared[0];
		for (unsigned i = 1; i < SHARED_MAX; i++)
			if (b->shared[i].until_ms < s->until_ms)
				s = &b->shared[i];
		*s = (struct shared){.inode = inode};
	}
	if (names)
		s->lasts_ms = now < s->until_ms + INVAL_SHARED_MAX_MS && s->lasts_ms
				      ? 2 * s->lasts_ms : INVAL_SHARED_FIRST_MS;
	if (s->lasts_ms > INVAL_SHARED_MAX_MS)
		s->lasts_ms = INVAL_SHARED_MAX_MS;
	s->until_ms = now + s->lasts_ms;
}

static struct to_tell recall_one(struct inval *v, uint64_t inode, bool by_others)
{
	struct bucket *b = bucket_of(v, inode);
	struct to_tell t = {0};
	struct node *n;

	pthread_mutex_lock(&b->lock);
	b->stamp = atomic_fetch_add(&v->now, 1) + 1;
	n = node_find(b, inode);
	if (n)
		t = node_forgets(n);
	if (by_others)
		dir_shared(b, inode, t.names);
	pthread_mutex_unlock(&b->lock);
	return t;
}

/* When what is in limbo has been taken the kernel can be told. */
static void tell_wait(struct inval *v, uint64_t inode, const struct to_tell *t)
{
	if (t->names && t->limbo)
		settle(v, inode, 0);
	if (t->page)
		settle(v, t->page_of, t->page);
}

void inval_recalled(void *arg, const uint64_t *inodes, unsigned n)
{
	struct inval *v = arg;
	bool names = false;

	atomic_fetch_add(&v->n_recalls, n);
	for (unsigned i = 0; i < n; i++) {
		struct to_tell t = recall_one(v, inodes[i], true);
		tell_wait(v, inodes[i], &t);
		names |= t.names;
		if (t.attr)
			tell_attr(v, inodes[i]);
	}
	if (names)
		tell_names(v);
}

struct dropped {
	uint64_t inode;
	struct to_tell tell;
};

/* Lock held. Those of the bucket that the kernel may remember something of; NULL: out of memory, they end
 * by themselves with the lease. */
static struct dropped *bucket_forgets(struct bucket *b, unsigned *ret_n, bool *names)
{
	struct dropped *list = calloc(HASH_COUNT(b->nodes) + 1, sizeof(*list));
	struct node *n, *next;

	*ret_n = 0;
	HASH_ITER(hh, b->nodes, n, next) {
		struct to_tell t = node_forgets(n);
		*names |= t.names;
		if ((t.attr || t.names) && list)
			list[(*ret_n)++] = (struct dropped){n->inode, t};
	}
	return list;
}

void inval_dropped(void *arg)
{
	struct inval *v = arg;
	bool names = false;

	for (unsigned i = 0; i < BUCKETS; i++) {
		struct bucket *b = &v->buckets[i];
		struct dropped *list;
		unsigned n;
		pthread_mutex_lock(&b->lock);
		b->stamp = atomic_fetch_add(&v->now, 1) + 1;
		list = bucket_forgets(b, &n, &names);
		pthread_mutex_unlock(&b->lock);
		for (unsigned k = 0; k < n; k++) {
			tell_wait(v, list[k].inode, &list[k].tell);
			if (list[k].tell.attr)
				tell_attr(v, list[k].inode);
		}
		free(list);
	}
	if (names)
		tell_names(v);
}

/* ---- replies ---- */

uint64_t inval_ticket(struct inval *v)
{
	return atomic_load(&v->now);
}

static int64_t timeout_ms(const struct inval *v, const struct bucket *b, uint64_t ticket,
			  int64_t promised_ms)
{
	int64_t ms = promised_ms - INVAL_MARGIN_MS;

	if (!v->caching || b->stamp > ticket || ms <= 0)
		return 0;
	return ms < INVAL_TIMEOUT_MAX_MS ? ms : INVAL_TIMEOUT_MAX_MS;
}

/* Lock held. Rule 3. */
static bool names_last(struct inval *v, const struct node *dir)
{
	const struct shared *s = shared_find(bucket_of(v, dir->inode), dir->inode);

	return atomic_load(&v->epochs) && (!s || clock_ms() >= s->until_ms);
}

/* Nothing that is in the kernel's pages is old. */
static bool is_settled(const struct node *n)
{
	return n->told == n->moved && clock_ms() >= n->told_ms + INVAL_SETTLE_MS;
}

static void until(int64_t *until_ms, int64_t ms)
{
	if (ms > 0 && clock_ms() + ms > *until_ms)
		*until_ms = clock_ms() + ms;
}

int64_t inval_attr_begin(struct inval *v, uint64_t ticket, const struct cairn_attr *attr,
			 bool lasting)
{
	struct bucket *b = bucket_of(v, attr->inode);
	struct node *n;
	int64_t ms = 0;

	pthread_mutex_lock(&b->lock);
	n = attr->inode == v->root ? node_make(v, b, attr->inode) : node_find(b, attr->inode);
	if (n) {
		n->confirmed = true;
		if (lasting && (n->readers == 0 || is_settled(n)))
			ms = timeout_ms(v, b, ticket, attr->attr_ms);
		until(&n->attr_until_ms, ms);
	}
	return ms;
}

/* An mtime that differs from the true one and from that of every count near this one. */
static void mtime_shift(struct timespec *mtime, uint64_t count)
{
	const long second = 1000000000;

	mtime->tv_nsec = (mtime->tv_nsec + 1 + (long)(count % (uint64_t)(second - 2))) % second;
}

int64_t inval_read_begin(struct inval *v, uint64_t ticket, struct cairn_attr *attr)
{
	struct bucket *b = bucket_of(v, attr->inode);
	struct node *n;
	int64_t ms;

	pthread_mutex_lock(&b->lock);
	n = node_find(b, attr->inode);
	ms = n ? timeout_ms(v, b, ticket, attr->attr_ms) : 0;
	if (!v->caching || left_out(FAULT_FUSE_INVAL_PAGES))
		return ms;
	if (!n) {
		mtime_shift(&attr->mtime, atomic_fetch_add(&v->now, 1));
		return 0;
	}
	n->confirmed = true;
	if (ms == 0)
		n->moved++;
	else if (is_settled(n)) {
		until(&n->attr_until_ms, ms);
		return ms;
	}
	if (n->told != n->moved)
		n->told_ms = clock_ms();
	n->told = n->moved;
	mtime_shift(&attr->mtime, n->moved);
	return 0;
}

void inval_attr_end(struct inval *v, uint64_t inode)
{
	pthread_mutex_unlock(&bucket_of(v, inode)->lock);
}

/* Both, in the order of their addresses; b may be a, or NULL. */
static void lock_two(struct bucket *a, struct bucket *b)
{
	if (b && b < a) {
		struct bucket *t = a;
		a = b;
		b = t;
	}
	pthread_mutex_lock(&a->lock);
	if (b && b != a)
		pthread_mutex_lock(&b->lock);
}

void inval_entry_begin(struct inval *v, uint64_t ticket, uint64_t parent,
		       const struct cairn_attr *attr, bool looked_up, struct inval_entry *ret)
{
	struct bucket *dir = bucket_of(v, parent);
	struct bucket *own = attr->inode ? bucket_of(v, attr->inode) : NULL;
	struct node *p, *n;

	*ret = (struct inval_entry){.parent = parent, .inode = attr->inode};
	lock_two(dir, own);
	p = parent == v->root ? node_make(v, dir, parent) : node_find(dir, parent);
	if (p && names_last(v, p)) {
		ret->name_ms = timeout_ms(v, dir, ticket, attr->name_ms);
		until(&p->names_until_ms, ret->name_ms);
	}
	n = own ? node_make(v, own, attr->inode) : NULL;
	if (!n)
		return;
	n->lookups++;
	if (looked_up && n->confirmed && (n->readers == 0 || is_settled(n)))
		ret->attr_ms = timeout_ms(v, own, ticket, attr->attr_ms);
	until(&n->attr_until_ms, ret->attr_ms);
}

void inval_entry_end(struct inval *v, const struct inval_entry *e)
{
	struct bucket *dir = bucket_of(v, e->parent);
	struct bucket *own = e->inode ? bucket_of(v, e->inode) : NULL;

	pthread_mutex_unlock(&dir->lock);
	if (own && own != dir)
		pthread_mutex_unlock(&own->lock);
}

void inval_entry_undo(struct inval *v, const struct inval_entry *e)
{
	if (e->inode)
		inval_forget(v, e->inode, 1);
}

void inval_forget(struct inval *v, uint64_t inode, uint64_t n_lookups)
{
	struct bucket *b = bucket_of(v, inode);
	struct node *n;

	pthread_mutex_lock(&b->lock);
	n = node_find(b, inode);
	if (n)
		n->lookups -= n_lookups < n->lookups ? n_lookups : n->lookups;
	if (n && n->lookups == 0 && inode != v->root)
		node_free(b, n);
	pthread_mutex_unlock(&b->lock);
}

/* ---- pages ---- */

static void lock_all(struct inval *v)
{
	for (unsigned i = 0; i < BUCKETS; i++)
		pthread_mutex_lock(&v->buckets[i].lock);
}

static void unlock_all(struct inval *v)
{
	for (unsigned i = 0; i < BUCKETS; i++)
		pthread_mutex_unlock(&v->buckets[i].lock);
}

/* Lock held. */
static bool limbo_add(struct node *n, uint64_t stamp)
{
	if (!n->limbo)
		n->limbo = calloc(LIMBO_MAX, sizeof(n->limbo[0]));
	if (!n->limbo || n->n_limbo == LIMBO_MAX)
		return false;
	n->limbo[n->n_limbo++] = stamp;
	return true;
}

void inval_page_begin(struct inval *v, uint64_t parent, struct inval_page *ret)
{
	struct bucket *b = bucket_of(v, parent);
	uint64_t stamp = atomic_fetch_add(&v->now, 1) + 1;
	struct node *p;

	*ret = (struct inval_page){.parent = parent};
	lock_all(v);
	p = parent == v->root ? node_make(v, b, parent) : node_find(b, parent);
	if (p && v->caching && limbo_add(p, stamp))
		ret->stamp = stamp;
}

/* Room for one more. */
static bool page_room(struct inval_page *page)
{
	unsigned cap = page->cap ? 2 * page->cap : 256;
	uint64_t *more;

	if (page->n < page->cap)
		return true;
	more = realloc(page->inodes, cap * sizeof(*more));
	if (!more)
		return false;
	page->inodes = more;
	page->cap = cap;
	return true;
}

bool inval_page_entry(struct inval *v, struct inval_page *page, const struct cairn_attr *attr,
		      int64_t *ret_name_ms, int64_t *ret_attr_ms)
{
	const uint64_t ticket = UINT64_MAX; /* what is known now has not been recalled */
	struct bucket *dir = bucket_of(v, page->parent), *own = bucket_of(v, attr->inode);
	struct node *p = node_find(dir, page->parent), *n = NULL;

	*ret_name_ms = *ret_attr_ms = 0;
	if (page_room(page))
		n = node_make(v, own, attr->inode);
	if (!n)
		return false;
	n->lookups++;
	page->inodes[page->n++] = attr->inode;
	if (!page->stamp || !p)
		return true;
	if (names_last(v, p)) {
		*ret_name_ms = timeout_ms(v, dir, ticket, attr->name_ms);
		until(&p->names_until_ms, *ret_name_ms);
	}
	if (n->readers == 0 || is_settled(n))
		*ret_attr_ms = timeout_ms(v, own, ticket, attr->attr_ms);
	until(&n->attr_until_ms, *ret_attr_ms);
	if (!n->confirmed) {
		n->page_of = page->parent;
		n->page = page->stamp;
	}
	return true;
}

void inval_page_end(struct inval *v, struct inval_page *page, bool written)
{
	struct node *p = node_find(bucket_of(v, page->parent), page->parent);

	if (!written || page->n == 0) {
		if (p)
			limbo_end(p, page->stamp, true);
		page->stamp = 0;
	}
	unlock_all(v);
	for (unsigned i = 0; !written && i < page->n; i++)
		inval_forget(v, page->inodes[i], 1);
	free(page->inodes);
	page->inodes = NULL;
}

bool inval_dir_opened(struct inval *v, uint64_t inode, uint64_t change)
{
	struct bucket *b = bucket_of(v, inode);
	struct node *n;
	bool keep = false;

	pthread_mutex_lock(&b->lock);
	n = inode == v->root ? node_make(v, b, inode) : node_find(b, inode);
	if (n) {
		keep = v->caching && change && n->opened && n->change == change &&
		       clock_ms() + LISTING_LASTS_MS < n->names_until_ms;
		n->confirmed = true;
		n->opened = change != 0;
		n->change = change;
	}
	pthread_mutex_unlock(&b->lock);
	return keep;
}

/* ---- what was opened or changed ---- */

/* Its bucket is locked. Whether the kernel may keep the pages. */
static bool node_opened(struct inval *v, struct node *n, uint64_t change, enum inval_use use)
{
	bool keep = v->caching && n->opened && n->change == change && is_settled(n);

	if (!keep && n->readers == 0) {
		n->told = n->moved;
		n->told_ms = clock_ms() - INVAL_SETTLE_MS;
	}
	n->confirmed = n->opened = true;
	n->change = change;
	n->readers += use == INVAL_PAGES;
	n->writers += use == INVAL_WRITES;
	return keep;
}

bool inval_opened(struct inval *v, uint64_t inode, uint64_t change, enum inval_use use)
{
	struct bucket *b = bucket_of(v, inode);
	struct node *n;
	bool keep;

	pthread_mutex_lock(&b->lock);
	n = node_find(b, inode);
	keep = n && node_opened(v, n, change, use);
	pthread_mutex_unlock(&b->lock);
	return keep;
}

void inval_entry_opened(struct inval *v, const struct inval_entry *e, uint64_t change,
			enum inval_use use)
{
	struct node *n = node_find(bucket_of(v, e->inode), e->inode);

	if (n)
		node_opened(v, n, change, use);
}

void inval_closed(struct inval *v, uint64_t inode, enum inval_use use)
{
	struct bucket *b = bucket_of(v, inode);
	struct node *n;

	pthread_mutex_lock(&b->lock);
	n = node_find(b, inode);
	if (n) {
		n->readers -= use == INVAL_PAGES && n->readers > 0;
		n->writers -= use == INVAL_WRITES && n->writers > 0;
	}
	pthread_mutex_unlock(&b->lock);
}

bool inval_is_written(struct inval *v, uint64_t inode)
{
	struct bucket *b = bucket_of(v, inode);
	struct node *n;
	bool is;

	pthread_mutex_lock(&b->lock);
	n = node_find(b, inode);
	is = n && n->writers > 0;
	pthread_mutex_unlock(&b->lock);
	return is;
}

void inval_filled(struct inval *v, uint64_t ticket, uint64_t inode, bool leased)
{
	struct bucket *b = bucket_of(v, inode);
	struct node *n;

	pthread_mutex_lock(&b->lock);
	n = node_find(b, inode);
	if (n && (!leased || b->stamp > ticket))
		n->moved++;
	pthread_mutex_unlock(&b->lock);
}

static bool has_readers(struct inval *v, uint64_t inode)
{
	struct bucket *b = bucket_of(v, inode);
	struct node *n;
	bool has;

	pthread_mutex_lock(&b->lock);
	n = node_find(b, inode);
	has = n && n->readers > 0;
	pthread_mutex_unlock(&b->lock);
	return has;
}

void inval_change_begin(struct inval *v, uint64_t inode)
{
	if (has_readers(v, inode))
		inval_attr_now(v, inode);
}

void inval_change_end(struct inval *v, uint64_t inode)
{
	if (has_readers(v, inode))
		recall_one(v, inode, false);
}

void inval_attr_now(struct inval *v, uint64_t inode)
{
	struct to_tell t;

	if (!v->caching)
		return;
	t = recall_one(v, inode, false);
	tell_wait(v, inode, &t);
	if (t.attr)
		tell_attr(v, inode);
	if (t.names)
		tell_names(v);
}
