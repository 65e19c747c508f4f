/* What is durable in the log need not be in LevelDB at once: each batch costs a wake-up of the store thread
 * and a sync beside that of the log. So it is written when it has some size (a larger one would make
 * inserts into the overlay slow: master/state.c), or when it is so old that more would only make the
 * replay after a crash longer. */
#include "common/clock.h"
#include "master/master.h"

enum { BATCH_BYTES = 256 << 10, BATCH_DELAY_MS = 100 };

static bool batch_begin(struct master *m)
{
	m->active_since_ms = 0;
	if (!state_freeze(m->st))
		return false;
	m->storing = m->applied;
	store_submit(m->store, m->st, m->applied);
	return true;
}

void batch_push(struct master *m)
{
	size_t bytes = state_active_bytes(m->st);

	if (bytes == 0 || !store_idle(m->store))
		return;
	if (m->active_since_ms == 0)
		m->active_since_ms = clock_ms();
	if (bytes >= BATCH_BYTES || m->stopping ||
	    clock_ms() >= m->active_since_ms + BATCH_DELAY_MS)
		batch_begin(m);
}

int batch_ended(struct master *m, struct err *err)
{
	int r = store_collect(m->store, err);

	if (r == 1) {
		state_thaw(m->st);
		batch_push(m);
	}
	return r;
}

int batch_all(struct master *m, struct err *err)
{
	do {
		if (store_idle(m->store))
			continue;
		if (store_wait_durable(m->store, m->storing) < 0)
			return err_set(err, ERR_IO, "the database cannot be written");
		if (store_collect(m->store, err) == 1)
			state_thaw(m->st);
	} while (batch_begin(m));
	return 0;
}
