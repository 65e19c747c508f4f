#include "client/peer.h"

#include <stdlib.h>
#include <uthash.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/waits.h"

/* One for each address ever used; there are at most CHUNKSERVERS_MAX servers. */
struct peer {
	char addr[ADDR_BYTES_MAX];
	struct conn *idle[PEER_IDLE_MAX];
	unsigned n_idle;
	int64_t avoid_until_ms; /* 0: works as far as we know */
	int64_t slow_until_ms;
	int64_t took_us, took_at_ms; /* smoothed time to the beginning of an answer */
	UT_hash_handle hh;
};

void peers_init(struct peers *p, const struct cred *cred, int64_t connect_ms)
{
	*p = (struct peers){.cred = cred, .connect_ms = connect_ms};
	pthread_mutex_init(&p->lock, NULL);
}

void peers_release(struct peers *p)
{
	struct peer *peer, *next;

	HASH_ITER(hh, p->by_addr, peer, next) {
		HASH_DEL(p->by_addr, peer);
		for (unsigned i = 0; i < peer->n_idle; i++)
			conn_free(peer->idle[i]);
		free(peer);
	}
	pthread_mutex_destroy(&p->lock);
}

/* Called with the lock held. NULL when out of memory: then nothing is remembered. */
static struct peer *peer_find(struct peers *p, const char *addr, bool make)
{
	struct peer *peer;

	HASH_FIND_STR(p->by_addr, addr, peer);
	if (peer || !make)
		return peer;
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return NULL;
	memcpy(peer->addr, addr, strnlen(addr, ADDR_BYTES_MAX - 1));
	HASH_ADD_STR(p->by_addr, addr, peer);
	return peer;
}

/* The most recently used idle connection, or NULL. */
static struct conn *peer_pop(struct peers *p, const char *addr)
{
	struct conn *c = NULL;
	struct peer *peer;

	pthread_mutex_lock(&p->lock);
	peer = peer_find(p, addr, false);
	if (peer && peer->n_idle > 0)
		c = peer->idle[--peer->n_idle];
	pthread_mutex_unlock(&p->lock);
	return c;
}

static bool peer_avoided(struct peers *p, const char *addr)
{
	struct peer *peer;
	bool avoided;

	pthread_mutex_lock(&p->lock);
	peer = peer_find(p, addr, false);
	avoided = peer && peer->avoid_until_ms && deadline_left(peer->avoid_until_ms) > 0;
	pthread_mutex_unlock(&p->lock);
	return avoided;
}

int peers_take(struct peers *p, const char *addr, bool fresh, int64_t deadline_ms,
	       struct conn **ret, bool *ret_pooled, struct err *err)
{
	int64_t limit = deadline_in(p->connect_ms < PEER_DIAL_MS ? p->connect_ms : PEER_DIAL_MS);
	struct conn *c;
	int r;

	*ret_pooled = false;
	while ((c = peer_pop(p, addr))) {
		/* An idle connection has nothing to say: what can be read is its end. */
		if (!fresh && !conn_readable(c)) {
			*ret = c;
			*ret_pooled = true;
			return 0;
		}
		conn_free(c);
	}
	r = conn_dial(addr, p->cred, ROLE_CHUNKSERVER, limit < deadline_ms ? limit : deadline_ms, &c,
		      err);
	if (r < 0) {
		/* An application is told "permission denied", of whom and why only the log. */
		if (r == ERR_AUTH && err && !peer_avoided(p, addr))
			log_warn("chunkserver %s", err_message(err));
		peers_mark(p, addr, false);
		return r;
	}
	conn_watch(c);
	*ret = c;
	return 0;
}

void peers_put(struct peers *p, struct conn *c)
{
	struct peer *peer;

	if (!c)
		return;
	if (!conn_broken(c)) {
		pthread_mutex_lock(&p->lock);
		peer = peer_find(p, c->peer, true);
		if (peer && peer->n_idle < PEER_IDLE_MAX) {
			peer->idle[peer->n_idle++] = c;
			c = NULL;
		}
		pthread_mutex_unlock(&p->lock);
	}
	conn_free(c);
}

void peers_mark(struct peers *p, const char *addr, bool works)
{
	struct peer *peer;

	if (!works && deadline_is_cut())
		return; /* it had not its time */
	pthread_mutex_lock(&p->lock);
	peer = peer_find(p, addr, !works);
	if (peer)
		peer->avoid_until_ms = works ? 0 : deadline_in(PEER_AVOID_MS);
	pthread_mutex_unlock(&p->lock);
}

void peers_took(struct peers *p, const char *addr, int64_t us)
{
	struct peer *peer;

	pthread_mutex_lock(&p->lock);
	peer = peer_find(p, addr, true);
	if (peer) {
		bool fresh = clock_ms() - peer->took_at_ms > PEER_AVOID_MS;
		peer->took_us = fresh ? us : peer->took_us + (us - peer->took_us) / 8;
		peer->took_at_ms = clock_ms();
	}
	pthread_mutex_unlock(&p->lock);
}

void peers_slow(struct peers *p, const char *addr)
{
	struct peer *peer;

	pthread_mutex_lock(&p->lock);
	peer = peer_find(p, addr, true);
	if (peer)
		peer->slow_until_ms = deadline_in(PEER_AVOID_MS);
	pthread_mutex_unlock(&p->lock);
}

/* Negative: not known, or too long ago. */
static int64_t recent_us(const struct peer *peer, int64_t now)
{
	return peer && now - peer->took_at_ms <= PEER_AVOID_MS ? peer->took_us : -1;
}

void peers_health(struct peers *p, const char *const *addrs, unsigned n, enum peer_health *ret)
{
	int64_t now = clock_ms(), best = -1;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < n; i++) {
		int64_t us = recent_us(peer_find(p, addrs[i], false), now);
		if (us >= 0 && (best < 0 || us < best))
			best = us;
	}
	for (unsigned i = 0; i < n; i++) {
		const struct peer *peer = peer_find(p, addrs[i], false);
		int64_t us = recent_us(peer, now);
		ret[i] = PEER_GOOD;
		if (peer && (peer->slow_until_ms > now ||
			     us > best * PEER_SLOW_FACTOR + PEER_SLOW_US))
			ret[i] = PEER_SLOW;
		if (peer && peer->avoid_until_ms > now)
			ret[i] = PEER_FAILED;
	}
	pthread_mutex_unlock(&p->lock);
}
