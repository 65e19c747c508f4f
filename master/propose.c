/* Proposals: a command's way into the log, and what an applied one asks the leader to carry out. */
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "master/master.h"

struct pending {
	struct master *m;
	void (*done)(struct master *m, void *arg, struct apply_result *result);
	void *arg;
	uint16_t number;
};

/* What an applied command asks the leader to carry out. */
static void carry_out(struct master *m, const struct apply_result *result)
{
	for (unsigned i = 0; i < result->n_raises; i++)
		raise_start(m, result->raises[i], 0, NULL, NULL);
	if (result->unlocked)
		rpc_lock_changed(m, result->unlocked_inode);
	m->garbage_due |= result->garbage;
	m->reclaim_due |= result->reclaim;
}

static void proposed(void *arg, struct apply_result *result)
{
	struct pending *p = arg;
	struct master *m = p->m;

	m->in_flight--;
	FAULT_POINT(MASTER_COMMITTED, cmd_name(p->number));
	if (result && !m->stopping)
		carry_out(m, result);
	p->done(m, p->arg, result);
	free(p);
}

void master_propose(struct master *m, uint16_t number, const void *record,
		    void (*done)(struct master *m, void *arg, struct apply_result *result),
		    void *arg)
{
	_cleanup_buf_ struct buf entry = {0};
	struct pending *p = malloc(sizeof(*p));
	struct err err = {0};
	int r = cmd_put(&entry, number, clock_now(), record);

	if (!p || r < 0 || m->stopping) {
		free(p);
		done(m, arg, NULL);
		return;
	}
	*p = (struct pending){.m = m, .done = done, .arg = arg, .number = number};
	m->in_flight++;
	FAULT_POINT(MASTER_PROPOSE, cmd_name(number));
	r = rlog_propose(m->log, buf_slice(&entry), proposed, p, &err);
	if (r < 0) {
		log_error("%s: not proposed: %s", cmd_name(number), err.text);
		m->in_flight--;
		free(p);
		done(m, arg, NULL);
	}
}

static void nobody(struct master *m, void *arg, struct apply_result *result)
{
}

void master_propose_quietly(struct master *m, uint16_t number, const void *record)
{
	master_propose(m, number, record, nobody, NULL);
}
