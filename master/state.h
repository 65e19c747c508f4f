/* The state that apply works on: an ordered map of bytes to bytes, in levels.
 *
 *     txn      writes of the command being applied; dropped if the command is refused
 *     active   writes of commands applied since the last freeze
 *     frozen   writes being put into LevelDB by the store thread (immutable)
 *     base     LevelDB (or nothing, in tests and the simulation)
 *
 * A read sees the first level that knows the key. Freezing turns active into frozen; when the
 * store thread has written it durably, it is dropped. So apply and reads never wait for a disk
 * write, and LevelDB is written in large synced batches, each with its applied index: what is
 * in LevelDB is always the exact state after some raft entry.
 *
 * Belongs to the master's loop thread. The store thread reads the frozen level only.
 */
#ifndef CAIRN_MASTER_STATE_H
#define CAIRN_MASTER_STATE_H

#include "master/schema.h"

/* What lies below. Functions return 1 found, 0 not, or negative (a storage error). */
struct state_base {
	void *ctx;
	int (*get)(void *ctx, struct slice key, struct buf *ret); /* replaces ret's content */
	/* A forward iterator over a stable view, at the first key >= start. */
	int (*iter_open)(void *ctx, struct slice start, void **ret);
	/* 1 and the present row (slices good until next/close), 0 at the end. */
	int (*iter_row)(void *iter, struct slice *ret_key, struct slice *ret_value);
	void (*iter_next)(void *iter);
	void (*iter_close)(void *iter);
};

struct state;
int state_new(const struct state_base *base, struct state **ret); /* base NULL: memory only */
void state_free(struct state *st);

/* 1 and the value (replaces ret's content), 0 absent, negative: storage error or ERR_NOMEM. */
int state_get(struct state *st, struct slice key, struct buf *ret);
/* Writes go to the open transaction. Out of memory is remembered: see state_error. */
void state_put(struct state *st, struct slice key, struct slice value);
void state_del(struct state *st, struct slice key);

void state_begin(struct state *st);
/* txn into active. A failure since state_begin() (see state_error) makes it fail. */
int state_commit(struct state *st);
void state_abort(struct state *st);
/* The first failure of a read or a write since state_begin(), or 0: tells a storage error from
 * an answer with the same code. */
int state_error(const struct state *st);
/* Keys written by the open transaction: apply asserts COMMAND_KEYS_MAX. */
size_t state_txn_keys(const struct state *st);

/* Iterates the rows whose key begins with `prefix`, from the first key >= start (start.len 0:
 * from the prefix). Sees all levels, txn included; do not write while an iterator is open. */
struct state_iter;
int state_iter_open(struct state *st, struct slice prefix, struct slice start,
		    struct state_iter **ret);
/* 1 and a row (slices good until the next call), 0 at the end, negative. */
int state_iter_next(struct state_iter *it, struct slice *ret_key, struct slice *ret_value);
void state_iter_close(struct state_iter *it); /* NULL is fine */

/* Bytes held by active: the caller stops proposing above a limit. */
size_t state_active_bytes(const struct state *st);
/* active becomes frozen; false when there is nothing to freeze or frozen is still in use. */
bool state_freeze(struct state *st);
/* Visits frozen in key order; value.data NULL: deleted. Any thread while frozen. */
void state_frozen_visit(const struct state *st,
			void (*fn)(void *arg, struct slice key, struct slice value), void *arg);
/* Drops frozen: it is durable in base. */
void state_thaw(struct state *st);

/* Typed reads of single rows: 1, 0, or negative (ERR_CORRUPT for a row that does not decode).
 * Slices in the record point into `backing`. */
#define STATE_X_DECLARE(record, fields) \
	int state_get_##record(struct state *st, struct key key, struct record *ret, \
			       struct buf *backing);
SCHEMA_RECORDS(STATE_X_DECLARE)
#undef STATE_X_DECLARE
#define STATE_X_DECLARE(record, fields) \
	void state_put_##record(struct state *st, struct key key, const struct record *row);
SCHEMA_RECORDS(STATE_X_DECLARE)
#undef STATE_X_DECLARE

#endif
