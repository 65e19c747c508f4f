/* LevelDB, and the thread that writes to it. The only user of LevelDB.
 *
 * The loop thread reads at any time; the store thread writes one frozen level of the state after
 * the other, each as one synced WriteBatch. A LevelDB error is sticky and ends the process: the
 * loop learns of it from store_collect().
 */
#ifndef CAIRN_MASTER_STORE_H
#define CAIRN_MASTER_STORE_H

#include "master/state.h"

struct store;

enum store_mode {
	STORE_MAKE,	/* made if it is missing */
	STORE_EXISTING, /* refused if it is missing */
	STORE_NEW,	/* refused if it is there */
};
/* Opens the database in `dir`. Errors name dir and LevelDB's reason: ERR_CORRUPT for damage, ERR_BUSY
 * for a database that another process keeps open for some seconds more, else ERR_IO. */
int store_open(const char *dir, enum store_mode mode, int64_t cache_bytes, struct store **ret,
	       struct err *err);
/* Stops the thread (after a write in progress) and closes. NULL is fine. */
void store_close(struct store *s);

const struct state_base *store_base(struct store *s);

/* The database as it is now, whatever is written later: to be read with store_base()'s iter_row,
 * iter_next and iter_close. What is read does not push other blocks out of the cache. */
int store_view_open(struct store *s, void **ret);

/* Removes a database; absent is no error. */
int store_remove(const char *dir, struct err *err);

/* For programs without a loop, instead of the thread: writes the frozen level of st, synced. */
int store_write(struct store *s, const struct state *st, struct err *err);

/* Starts the thread. `written` is called on it after each batch (also a failed one): it wakes the
 * loop. `applied`: the index that the database holds now. */
int store_start(struct store *s, uint64_t applied, void (*written)(void *arg), void *arg,
		struct err *err);
/* Hands over the frozen level of st, whose last entry is `index`. Loop thread; the store is idle. */
void store_submit(struct store *s, const struct state *st, uint64_t index);
bool store_idle(struct store *s);
/* Loop thread: 1 when the submitted batch is durable (thaw the state), 0 when nothing has ended,
 * negative when writing failed. */
int store_collect(struct store *s, struct err *err);

/* The index up to which the database is durable. Any thread. */
uint64_t store_durable(struct store *s);
/* Waits until that is at least `index`: 0, or ERR_SHUTDOWN / ERR_IO when it never will be. On
 * the loop thread only in batch_all. */
int store_wait_durable(struct store *s, uint64_t index);

#endif
