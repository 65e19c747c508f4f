/* One connection to one replica, with the pieces of a chunk that it was asked for. Used by
 * chunk_read.c, which has one lane and now and then a second one beside it. */
#ifndef CAIRN_CLIENT_LANE_H
#define CAIRN_CLIENT_LANE_H

#include "client/client.h"
#include "client/pieces.h"

enum { READ_WINDOW = 8 }; /* requests in flight on one connection */

/* What is wanted of a chunk. The lanes fill dest. */
struct lane_job {
	struct cairn *fs;
	const struct location *loc;
	uint8_t *dest;
	struct piece pieces[PIECES_MAX];
	bool done[PIECES_MAX];
	unsigned n;
	int64_t deadline_ms;
};

/* Answers come in the order of the requests. The bytes of the answer that is being received go
 * straight to their place (but for blocks that are wanted in part), unless the lane is a second one:
 * then they go to `aside` and are copied when all of them have been verified, since the other lane
 * may be writing to the same place. */
struct lane {
	struct lane_job *job; /* NULL: not open */
	unsigned replica;     /* its index in the location */
	struct conn *conn;
	bool pooled;
	uint8_t *aside;
	bool alone; /* nobody else writes to dest any more */
	bool asked[PIECES_MAX];
	struct {
		unsigned piece;
		bool stable;
		int64_t sent_us;
		uint64_t id; /* of the request */
	} flight[READ_WINDOW + 1];
	unsigned first, n_flight; /* ring */
	int refused;		  /* the server's failure; what is in flight is still received */
	struct err why;
	int64_t moved_us;	  /* when a byte came last, or the oldest request was sent */
	int64_t probed_ms;
	/* The answer that is being received. */
	struct buf fields;
	struct slice sums;
	bool receiving, aside_now, bad;
	uint32_t begin, pos, end; /* of its data, in the chunk */
	uint32_t run_begin, run_end; /* the part that goes to one place */
	uint8_t edge[BLOCK_BYTES];
};

/* Connects (an idle connection, unless fresh) within dial_ms. second: see above. On failure the lane
 * is closed. */
int lane_open(struct lane *l, struct lane_job *job, unsigned replica, bool fresh, bool second,
	      int64_t dial_ms, struct err *err);
/* Asks for what is missing, as far as the window goes. */
int lane_ask(struct lane *l, struct err *err);
/* Something can be received: takes what there is of one answer without waiting for more. 1: a piece
 * was completed; 0: not yet; negative: the lane has ended, with the server's failure, ERR_CHECKSUM
 * (the block did not verify when asked for with READ_STABLE either) or a broken connection. */
int lane_step(struct lane *l, struct err *err);
/* Nothing is in flight. */
static inline bool lane_idle(const struct lane *l)
{
	return l->n_flight == 0;
}
/* Gives the connection back, or closes it when answers are still to come. */
void lane_close(struct lane *l);

static inline const struct location_replica *lane_from(const struct lane *l)
{
	return &l->job->loc->replicas[l->replica];
}

#endif
