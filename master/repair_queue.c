#include "master/repair.h"

#include <stdlib.h>
#include <utlist.h>

#include "common/clock.h"

static struct repair_entry **list_of(struct repair_queue *q, const struct repair_entry *e)
{
	switch (e->state) {
	case REPAIR_READY: return &q->ready[e->live];
	case REPAIR_WAIT_AGAIN: return &q->waiting[0];
	case REPAIR_WAIT_RETRY: return &q->waiting[1];
	case REPAIR_RUNNING: break;
	}
	return NULL;
}

static void put(struct repair_queue *q, struct repair_entry *e)
{
	struct repair_entry **list = list_of(q, e);

	if (list) {
		DL_APPEND(*list, e);
		q->live[e->live]++;
	}
}

static void take(struct repair_queue *q, struct repair_entry *e)
{
	struct repair_entry **list = list_of(q, e);

	if (list) {
		DL_DELETE(*list, e);
		q->live[e->live]--;
	}
}

struct repair_entry *repair_queue_find(struct repair_queue *q, uint64_t chunk)
{
	struct repair_entry *e;
	HASH_FIND(hh, q->by_chunk, &chunk, sizeof(chunk), e);
	return e;
}

void repair_queue_remove(struct repair_queue *q, struct repair_entry *e)
{
	take(q, e);
	HASH_DEL(q->by_chunk, e);
	free(e);
}

/* Makes room for a chunk with `live` copies at the cost of the last one with more. */
static bool make_room(struct repair_queue *q, unsigned live)
{
	q->overflowed = true;
	for (unsigned more = REPAIR_LIVE_MAX; more > live; more--) {
		if (q->ready[more]) {
			repair_queue_remove(q, q->ready[more]->prev); /* the head's: the last one */
			return true;
		}
	}
	return false;
}

struct repair_entry *repair_queue_add(struct repair_queue *q, uint64_t chunk, unsigned live)
{
	struct repair_entry *e;

	if (HASH_COUNT(q->by_chunk) >= REPAIR_QUEUE_MAX && !make_room(q, live))
		return NULL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	*e = (struct repair_entry){.chunk = chunk, .state = REPAIR_READY, .live = (uint8_t)live,
				   .since_ms = clock_ms()};
	HASH_ADD(hh, q->by_chunk, chunk, sizeof(e->chunk), e);
	put(q, e);
	return e;
}

void repair_queue_set(struct repair_queue *q, struct repair_entry *e,
		      enum repair_entry_state state, unsigned live)
{
	take(q, e);
	e->state = state;
	e->live = (uint8_t)live;
	e->due_ms = deadline_in(state == REPAIR_WAIT_RETRY ? REPAIR_RETRY_MS : REPAIR_AGAIN_MS);
	put(q, e);
}

unsigned repair_queue_first(const struct repair_queue *q, uint64_t *ret_chunks, unsigned max)
{
	unsigned n = 0;

	for (unsigned live = 1; live <= REPAIR_LIVE_MAX; live++)
		for (struct repair_entry *e = q->ready[live]; e && n < max; e = e->next)
			ret_chunks[n++] = e->chunk;
	return n;
}

/* All of one list wait for the same time, so they are in the order of their ends. */
unsigned repair_queue_due(const struct repair_queue *q, uint64_t *ret_chunks, unsigned max)
{
	int64_t now = clock_ms();
	unsigned n = 0;

	for (unsigned i = 0; i < 2; i++)
		for (struct repair_entry *e = q->waiting[i]; e && now >= e->due_ms && n < max;
		     e = e->next)
			ret_chunks[n++] = e->chunk;
	return n;
}

uint64_t repair_queue_waiting(const struct repair_queue *q)
{
	uint64_t n = 0;

	for (unsigned live = 0; live <= REPAIR_LIVE_MAX; live++)
		n += q->live[live];
	return n;
}

void repair_queue_free(struct repair_queue *q)
{
	struct repair_entry *e, *next;

	HASH_ITER(hh, q->by_chunk, e, next)
		repair_queue_remove(q, e);
}
