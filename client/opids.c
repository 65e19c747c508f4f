#include "client/opids.h"

#include <assert.h>
#include <string.h>

static_assert(SESSION_WINDOW_MAX % 64 == 0, "the window is whole words");

void opids_init(struct opids *o)
{
	memset(o, 0, sizeof(*o));
	o->next = o->floor = 1;
}

static uint64_t *opids_word(struct opids *o, uint64_t seq)
{
	return &o->answered[seq % SESSION_WINDOW_MAX / 64];
}

bool opids_take(struct opids *o, uint64_t *ret_seq)
{
	if (o->next - o->floor >= SESSION_WINDOW_MAX)
		return false;
	*opids_word(o, o->next) &= ~(1ULL << o->next % 64);
	*ret_seq = o->next++;
	return true;
}

bool opids_done(struct opids *o, uint64_t seq)
{
	uint64_t old = o->floor;

	assert(seq >= o->floor && seq < o->next);
	*opids_word(o, seq) |= 1ULL << seq % 64;
	while (o->floor < o->next && (*opids_word(o, o->floor) & 1ULL << o->floor % 64))
		o->floor++;
	return o->floor != old;
}
