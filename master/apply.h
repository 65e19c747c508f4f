/* Apply: the only code that changes metadata. A function of (state, command): no socket, clock
 * or random number. Live commands, replay after a restart and followers all come through here.
 */
#ifndef CAIRN_MASTER_APPLY_H
#define CAIRN_MASTER_APPLY_H

#include "master/cmd.h"
#include "master/state.h"

enum { APPLY_RAISES_MAX = 4 };

struct apply_result {
	uint16_t number; /* of the command */
	int status;	 /* 0, or the answer is this error */
	char text[128];	 /* the error's text */
	struct buf reply; /* status 0: the encoded reply record of the table */
	/* Chunks for which this command left a raise pending (a cut): the leader carries it out. */
	unsigned n_raises;
	uint64_t raises[APPLY_RAISES_MAX];
	bool reclaim; /* reclaim records were left: the leader proposes RECLAIM for them */
	bool garbage; /* garbage rows were added */
	bool unlocked; /* locks went or became weaker: who waits for one is looked at again */
	uint64_t unlocked_inode; /* 0: of any file */
	bool remapped; /* an export is of another directory or other users than before, or gone */
};
void apply_result_release(struct apply_result *r);

/* Applies the entry at `index`. An index <= the stored one is skipped (replay): returns 1 and
 * changes nothing. 0: applied, the state has moved, ret says what to answer — a refused command
 * is applied too: its answer is remembered. Negative: storage failed or the entry or a row is
 * damaged; the state is unchanged and the process must end, with err's reason. */
int apply_entry(struct state *st, uint64_t index, struct slice entry, struct apply_result *ret,
		struct err *err);

#endif
