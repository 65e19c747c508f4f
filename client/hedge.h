/* When a second replica is asked for what the first one has not answered yet.
 *
 * A session keeps a histogram of how long servers took to begin their answers to READ. A read that
 * has waited HEDGE_FACTOR times the 95th percentile of that (within HEDGE_MIN_MS..HEDGE_MAX_MS; with
 * few samples HEDGE_FIRST_MS) may ask another replica as well. Since that is most wanted when all
 * servers are slow, when it helps least, reads earn the right: one hedge for each HEDGE_COST reads,
 * and no more than HEDGE_BURST saved up. Safe from any thread. */
#ifndef CAIRN_CLIENT_HEDGE_H
#define CAIRN_CLIENT_HEDGE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	HEDGE_MIN_MS = 10,
	HEDGE_MAX_MS = 1000,
	HEDGE_FIRST_MS = 100,
	HEDGE_FACTOR = 3,
	HEDGE_COST = 20, /* reads for one hedge: 5 % of them */
	HEDGE_BURST = 16,
	HEDGE_SAMPLES_MIN = 64,
	HEDGE_SAMPLES_MAX = 2048, /* then all counts are halved: the past fades */
	HEDGE_BUCKETS = 112,	  /* four for each power of two, in microseconds */
};

struct hedge {
	pthread_mutex_t lock; /* protects what follows */
	uint32_t counts[HEDGE_BUCKETS];
	uint32_t total, unseen; /* unseen: samples since delay_ms was computed */
	int64_t delay_ms;
	uint32_t credit;	/* in reads */
	uint64_t asked;		/* hedges since the beginning */
};

void hedge_init(struct hedge *h);
void hedge_release(struct hedge *h);
/* A server took so long to begin an answer. */
void hedge_sample(struct hedge *h, int64_t us);
/* A read begins: how long it shall wait before it asks a second replica. */
int64_t hedge_delay_ms(struct hedge *h);
/* Whether it may now. */
bool hedge_spend(struct hedge *h);

#endif
