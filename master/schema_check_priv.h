/* What the parts of schema_check share. Private to schema_check*.c. */
#ifndef CAIRN_MASTER_SCHEMA_CHECK_PRIV_H
#define CAIRN_MASTER_SCHEMA_CHECK_PRIV_H

#include "master/schema_check.h"

/* What is remembered of the rows of a type, in the order of their ids: that is the order in which
 * they are read. Each element begins with its id. */
struct seen_table {
	uint8_t *rows;
	size_t width, n, cap;
	size_t last; /* where the last one was found: the next is often behind it */
};

enum {
	SEEN_UNLINKED = 1, /* nlink 0 */
	SEEN_NAMED = 2,
	SEEN_HELD = 4,
	SEEN_ON_PATH = 8, /* of the walk up to the root that is under way */
	SEEN_REACHED = 16,
	SEEN_LOST = 32, /* its walk did not end at the root */
	SEEN_BARE = 64,
};
struct seen_inode {
	uint64_t id, parent;
	uint64_t blocks; /* less those of its `c` rows */
	/* nlink, less the names found (directories: nlink - 2, less the sub-directories) */
	int32_t left;
	uint8_t flags, type, chunk_bits; /* type: mode >> 12 */
};
enum { SEEN_GOAL_REACHED = 0xff };
struct seen_chunk {
	uint64_t id;
	uint64_t members; /* sum of member_digest(), less those of the `s` rows found */
	int32_t refs;	  /* less the `c` rows found */
	uint8_t under_goal; /* the number of copies that its `u` row shall have */
	uint8_t pending;    /* 1: it shall have a `p` row */
};
struct seen_session {
	uint64_t id, nonce, floor;
};
struct seen_server {
	uint64_t id;
	uint8_t uuid[UUID_BYTES];
};
struct seen_quota {
	uint64_t id, inode;
	uint64_t parent;
	uint64_t blocks, inodes; /* as the row has them, less what is counted there */
};
struct seen_policy {
	uint64_t id;
	uint64_t copies;
};
static_assert(sizeof(struct seen_inode) == 32 && sizeof(struct seen_chunk) == 24 &&
	      sizeof(struct seen_session) == 24, "the memory that schema_check.h promises");

struct check {
	struct state *st;
	struct buf *report;
	unsigned max;
	int wrong;
	struct row_meta meta;
	struct seen_table inodes, chunks, sessions, servers, policies, quotas;
	uint64_t under_goal, pending, garbage, nonces, uuids; /* rows seen */
	uint64_t xattrs_of, xattrs; /* how many the inode looked at last has */
};

void check_wrong(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Calls fn for each row of a type. A key of another length than key_len (0: any), is reported and
 * left out. fn returns 0 or negative: a storage error, which ends the check. */
typedef int (*check_row_fn)(struct check *c, struct slice key, struct slice value);
int check_each(struct check *c, uint8_t type, uint32_t key_len, check_row_fn fn);
/* 1 when there is a row, 0, or negative. */
int check_has(struct check *c, struct key key);

/* A new element, zero but for its id; ids rise. NULL: out of memory. */
void *seen_add(struct seen_table *t, uint64_t id);
void *seen_find(struct seen_table *t, uint64_t id);

/* schema_check_names.c: `i`, `d`, `x`, `o`, `R`; invariants 1, 5. */
int check_names(struct check *c);
/* schema_check_quotas.c: `q`; invariant 11. see_quotas before the inodes, which are counted by
 * check_quota_inode, check_quotas at the end. */
int see_quotas(struct check *c);
void check_quota_inode(struct check *c, uint64_t inode, const struct row_inode *row);
int check_quotas(struct check *c);
/* `e`; invariant 12. */
int check_exports(struct check *c);
/* schema_check_locks.c: `l`, `y`; invariant 9. */
int check_locks(struct check *c);
/* schema_check_chunks.c: `k`, `c`, `s`, `u`, `p`, `g`; invariants 2 to 7. */
int check_chunks(struct check *c);

#endif
