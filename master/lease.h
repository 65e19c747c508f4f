/* Leases: who may use again what it knows (R), who sends data (W), who holds writes back (B), who has what
 * open (O), per inode and session. The rights' meaning is told in common/wire.h (6). Pure: no socket, no clock; time is
 * passed in. All of it is in RAM: after a restart sessions list what they have (see grace).
 *
 * Invariants
 *  1. While a session has W on an inode, no other session has R on it.
 *  2. A busy inode gets no new R, for nobody. An inode is busy from when a request that changes it
 *     was looked at until it is applied or given up (master/lease_gate.c), so that no R is granted
 *     for a value that is about to change.
 *  3. A request that changes an inode is proposed only when no other session has R on it. R ends by
 *     the answer to a recall, by the end of the session's lease, or by an attach that begins anew:
 *     each of them means that the client uses nothing of it any more.
 *  4. R is granted in the loop turn in which the value was read from the state, and not while a
 *     recall of that inode from that session is unanswered.
 *     W that is granted while its recall is unanswered outlives the answer: the client may have given
 *     it up before it asked, and requests overtake answers.
 *  5. A recall is answered on the link it was sent on, or the link is gone; then it is sent again on
 *     the next one. At most one batch of recalls is under way to a session.
 *  6. A lease ends here not before it ends for the client: the client counts from when it sent its
 *     ping, the master from when it came. When it ended, all of the session's rights end at once and
 *     it must attach anew (`lost`), whatever is heard of it later.
 *     A lease is not renewed any more when a recall has been unanswered for lease_ms, whatever else
 *     is heard of the session: so a recall ends within twice that time.
 *  7. Late data of a writer whose lease ended may still reach chunkservers: its inodes are granted to
 *     nobody for quarantine_ms. The same holds for everything after a restart at which a session
 *     that was known before did not list what it writes.
 *  8. Who may have something open is remembered until it says otherwise: O of a session whose lease
 *     ended stays, and R of it becomes O (it may have opened the file without telling). An attach
 *     that begins anew, or the session's end, settles it.
 *  9. While a session has B on an inode, no other session has R, W or B on it, and no request of others
 *     about its attributes or data is answered. B goes with a recall that says so, with LEASE_PING's
 *     `returned`, and with W. It is not granted while its recall is unanswered or unreturned.
 *  10. R of the session that changes an inode itself is not recalled for that: what its kernel
 *     remembers is right until the change is applied, and follows when the answer has gone through the
 *     client and the kernel. In between another session may see the change, and after it the first
 *     one's other processes would still see what was before. So such an R is `behind` from the proposal
 *     on: nobody else gets R, and a read of another session waits until it is recalled (lease_behind).
 *     It costs nothing while nobody else looks, and one recall when somebody does.
 */
#ifndef CAIRN_MASTER_LEASE_H
#define CAIRN_MASTER_LEASE_H

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "common/limits.h"

enum { LEASE_R = 1, LEASE_W = 2, LEASE_O = 4, LEASE_B = 8 };

struct lease_options {
	int64_t lease_ms, quarantine_ms;
	uint64_t max; /* rights kept at most: the oldest R is recalled for a new one */
};

struct lease_hold;
struct lease_inode {
	uint64_t id;
	unsigned busy;
	unsigned naming; /* of them: requests that give it names or take them, and so read who has it open */
	int64_t quarantine_ms; /* until then no R */
	int64_t asked_ms;      /* a writer was asked to give up W */
	struct lease_hold *holds;
	UT_hash_handle hh;
};

struct lease_session {
	uint64_t id;
	bool cached;   /* it wants leases: after a restart it is waited for */
	bool old;      /* known before the restart, not heard since */
	bool attached; /* not lost: may be granted */
	bool linked;
	bool granted;  /* R or W since its lease was found to have ended */
	int64_t expires_ms;
	struct lease_hold *holds;
	struct lease_hold *queue; /* recalls not sent yet */
	uint64_t batch[LEASES_PER_MESSAGE_MAX]; /* sent, not answered */
	uint8_t batch_what[LEASES_PER_MESSAGE_MAX];
	unsigned n_batch;
	bool recalling;	   /* there is an unanswered recall, since recall_ms */
	int64_t recall_ms;
	UT_hash_handle hh;
};

struct lease_table {
	struct lease_options o;
	struct lease_inode *inodes;
	struct lease_session *sessions;
	struct lease_hold *oldest; /* R, in order of the grant */
	uint64_t count;
	int64_t ticked_ms, grace_ms, uncached_ms;
	int64_t swept_ms; /* when inodes out of quarantine are dropped next; 0: there are none */
	unsigned links;	     /* sessions that have one */
	unsigned waited_for; /* cached sessions that are old; 0 when the grace is over */
	unsigned unsettled;  /* old ones, and those of them that ended without a word */
	bool changed;	     /* what a waiting request waits for may be there now */
	bool queued;	     /* there are recalls to send */
};

void lease_init(struct lease_table *l, const struct lease_options *o, int64_t now);
void lease_free(struct lease_table *l);

/* ---- sessions ---- */

/* old: it was in the state when this master started. */
void lease_session_add(struct lease_table *l, uint64_t session, bool cached, bool old, int64_t now);
/* clean: it said that it ends; nothing of it is under way any more. */
void lease_session_end(struct lease_table *l, uint64_t session, bool clean, int64_t now);
struct lease_session *lease_session_find(struct lease_table *l, uint64_t session);
/* Its link is there or gone. A new link gets the unanswered recalls again. */
void lease_link(struct lease_table *l, struct lease_session *s, bool linked);
/* Heard of on its link: true when its leases go on, false: lost. */
bool lease_renew(struct lease_table *l, struct lease_session *s, int64_t now);
/* The attach that begins anew: what it lists in between is kept, and W and O that are granted from the
 * beginning on, which it may not know of; all else goes at the end. */
void lease_list_begin(struct lease_session *s);
void lease_list(struct lease_table *l, struct lease_session *s, uint64_t inode, uint8_t rights);
void lease_list_end(struct lease_table *l, struct lease_session *s, int64_t now);
/* Ends the leases of those that were not heard of in time, and the grace after a start. */
void lease_tick(struct lease_table *l, int64_t now);
/* Whether requests that change something may be done: false in the grace after a start. */
bool lease_open(const struct lease_table *l);

/* ---- rights ---- */

/* Grants R. False: not now; what the session knows may be used once. */
bool lease_read(struct lease_table *l, uint64_t session, uint64_t inode, int64_t now);
/* Grants W and O. W: nobody else has R (lease_recall returned false). */
void lease_write(struct lease_table *l, uint64_t session, uint64_t inode);
/* Grants B to a session that has W, if nobody else has W and no change is under way; else other writers
 * are asked to give W up. */
bool lease_buffer(struct lease_table *l, uint64_t session, uint64_t inode, int64_t now);
/* What was recalled is flushed. */
void lease_returned(struct lease_table *l, uint64_t session, uint64_t inode);
void lease_opened(struct lease_table *l, uint64_t session, uint64_t inode);
void lease_closed(struct lease_table *l, uint64_t session, uint64_t inode);
bool lease_has(struct lease_table *l, uint64_t session, uint64_t inode, uint8_t right);
/* Those other than `session` that have it open, at most max: how many. */
unsigned lease_holders(struct lease_table *l, uint64_t inode, uint64_t session, uint64_t *ret,
		       unsigned max);
/* The session changes it: its R, if it has one, is behind (10). */
void lease_changes(struct lease_table *l, uint64_t session, uint64_t inode);
/* Counts requests that change it (2). names: it may lose its last name by it, so that who has it open
 * (lease_holders) must stay as it is until then; data and attributes do not matter for that. */
void lease_busy(struct lease_table *l, uint64_t inode, bool names);
void lease_idle(struct lease_table *l, uint64_t inode, bool names);
bool lease_is_naming(struct lease_table *l, uint64_t inode);

/* ---- recalls ---- */

/* Recalls R and B of all but `session`. True: there is some that must be waited for. */
bool lease_recall(struct lease_table *l, uint64_t inode, uint64_t session);
/* A fault of the tests: as if all but `session` had answered a recall, which they were not sent. */
void lease_recall_left_out(struct lease_table *l, uint64_t inode, uint64_t session);
/* The same as lease_recall, without recalling. */
bool lease_blocked(struct lease_table *l, uint64_t inode, uint64_t session);
/* For a read, what stands in its way. Of B only (9). */
bool lease_recall_buffer(struct lease_table *l, uint64_t inode, uint64_t session);
bool lease_is_buffered(struct lease_table *l, uint64_t inode, uint64_t session);
/* And R of others that are behind (10). */
bool lease_behind(struct lease_table *l, uint64_t inode, uint64_t session);
/* The next batch for a session: 0 when there is none, or one is under way. */
unsigned lease_batch(struct lease_table *l, struct lease_session *s);
/* The answer to the batch: one element of flags (RECALLED_*) for each of its inodes; what is
 * missing counts as 0. RECALLED_FLUSHING: B stays, as recalled, until lease_returned. */
void lease_answered(struct lease_table *l, struct lease_session *s, const uint8_t *flags,
		    unsigned n);

#endif
