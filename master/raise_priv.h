/* The inside of the raise machine, shared by its files: raise.c (the beginning and the end, FILL,
 * LOG, CONFIRM) and raise_ask.c (who takes part, ASK, MEND). */
#ifndef CAIRN_MASTER_RAISE_PRIV_H
#define CAIRN_MASTER_RAISE_PRIV_H

#include "master/master.h"

enum { PARTS_MAX = 2 * REPLICAS_MAX, RAISE_SOON_MS = 200 };

enum part_state { PART_IDLE, PART_ASKED, PART_GOOD, PART_BEHIND, PART_FAILED };

/* A server that takes part. BEHIND: it answers, but needs the source's content. */
struct part {
	struct raise *raise;
	uint32_t server;
	bool joining, leaving;
	bool filled;   /* joining: it has a copy of the old version */
	bool asked;
	bool late;     /* it did not answer in time */
	bool mending;  /* a copy to it is under way, in MEND */
	bool mended;   /* it has the content that counts: what was held against it is settled */
	uint8_t marks; /* as they were when it was asked; later ones stand */
	enum part_state state;
	struct wire_chunk_state answer;
};

struct waiter {
	raise_done_fn done;
	void *arg;
	int64_t deadline_ms; /* 0: waits as long as work is done */
	struct waiter *prev, *next;
};

enum phase { PHASE_FILL, PHASE_LOG, PHASE_ASK, PHASE_MEND, PHASE_CONFIRM, PHASE_RETRY };

struct raise {
	struct master *m;
	uint64_t chunk;
	uint64_t serial;      /* of the present FILL or MEND: answers to another one are ignored */
	struct row_chunk row; /* as read when the phase began */
	enum phase phase;
	struct part parts[PARTS_MAX];
	unsigned n_parts;
	unsigned outstanding; /* calls and proposals that have not ended */
	uint32_t drop, source; /* source: whom the others copy from, in MEND */
	unsigned unsure; /* rounds of MEND after which it was not clear who had failed */
	bool blamed;	 /* in this one */
	struct raise_plan plan;
	bool filled; /* it began with FILL: for the joining servers' sake */
	int64_t begun_ms, copy_ms; /* when it began; when its present FILL or MEND did */
	int64_t retry_ms;
	struct waiter *waiters;
	UT_hash_handle hh;
};

static inline struct cs *part_cs(const struct part *p)
{
	return csreg_find(&p->raise->m->servers, p->server);
}

/* ---- raise.c ---- */

struct raise *raise_find(struct master *m, uint64_t chunk);
/* Frees the machine first: those who waited may start another for the same chunk. */
void raise_finish(struct raise *x, int code);
void raise_retry_later(struct raise *x, int64_t ms);
int raise_row_read(struct raise *x);
/* The next phase, with the parts that are good. */
void raise_confirm(struct raise *x);

/* ---- raise_ask.c ---- */

struct part *raise_part_of(struct raise *x, uint32_t server);
void raise_part_add(struct raise *x, uint32_t server, bool joining);
uint8_t raise_marks_of(struct raise *x, uint32_t server);
/* The member to copy from: the best one, of equally good ones what most of them have. */
struct part *raise_best_source(struct raise *x, enum part_state state);
int raise_pull(struct raise *x, uint32_t server, const struct part *source, uint32_t new_version,
	       int64_t timeout_ms, cs_done_fn done, void *arg);
void raise_ask(struct raise *x);
/* Somebody waits: goes on without the copies that are under way, if they have had their time. */
void raise_mend_give_way(struct raise *x, int64_t now);
/* Up to n of those that were to leave. False when there is none to ask. */
bool raise_ask_leaving(struct raise *x, unsigned n);

#endif
