#include "client/hedge.h"

#include <assert.h>
#include <string.h>

enum { UNSEEN_MAX = 32 };

static_assert(HEDGE_MIN_MS < HEDGE_FIRST_MS && HEDGE_FIRST_MS < HEDGE_MAX_MS, "limits of the delay");

void hedge_init(struct hedge *h)
{
	memset(h, 0, sizeof(*h));
	pthread_mutex_init(&h->lock, NULL);
	h->delay_ms = HEDGE_FIRST_MS;
	h->credit = HEDGE_BURST * HEDGE_COST;
}

void hedge_release(struct hedge *h)
{
	pthread_mutex_destroy(&h->lock);
}

/* Bucket i covers [lower(i), lower(i + 1)): the leading bit and the two that follow it. */
static unsigned bucket_of(uint64_t us)
{
	unsigned log, i;

	if (us < 4)
		return (unsigned)us;
	log = 63 - (unsigned)__builtin_clzll(us);
	i = log * 4 + (unsigned)(us >> (log - 2) & 3) - 4;
	return i < HEDGE_BUCKETS ? i : HEDGE_BUCKETS - 1;
}

static uint64_t bucket_lower(unsigned i)
{
	return i < 4 ? i : (4ULL + i % 4) << (i / 4 - 1);
}

static int64_t delay_from(const struct hedge *h)
{
	uint32_t seen = 0, most = h->total - h->total / 20;
	unsigned i = 0;
	int64_t ms;

	if (h->total < HEDGE_SAMPLES_MIN)
		return HEDGE_FIRST_MS;
	while (i < HEDGE_BUCKETS && (seen += h->counts[i]) < most)
		i++;
	ms = (int64_t)bucket_lower(i + 1) * HEDGE_FACTOR / 1000;
	return ms < HEDGE_MIN_MS ? HEDGE_MIN_MS : ms > HEDGE_MAX_MS ? HEDGE_MAX_MS : ms;
}

void hedge_sample(struct hedge *h, int64_t us)
{
	pthread_mutex_lock(&h->lock);
	h->counts[bucket_of(us > 0 ? (uint64_t)us : 0)]++;
	h->unseen++;
	if (++h->total >= HEDGE_SAMPLES_MAX) {
		h->total = 0;
		for (unsigned i = 0; i < HEDGE_BUCKETS; i++)
			h->total += h->counts[i] /= 2;
	}
	pthread_mutex_unlock(&h->lock);
}

int64_t hedge_delay_ms(struct hedge *h)
{
	int64_t ms;

	pthread_mutex_lock(&h->lock);
	if (h->credit < HEDGE_BURST * HEDGE_COST)
		h->credit++;
	if (h->unseen >= UNSEEN_MAX) {
		h->delay_ms = delay_from(h);
		h->unseen = 0;
	}
	ms = h->delay_ms;
	pthread_mutex_unlock(&h->lock);
	return ms;
}

bool hedge_spend(struct hedge *h)
{
	bool may;

	pthread_mutex_lock(&h->lock);
	may = h->credit >= HEDGE_COST;
	if (may) {
		h->credit -= HEDGE_COST;
		h->asked++;
	}
	pthread_mutex_unlock(&h->lock);
	return may;
}
