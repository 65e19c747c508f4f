/* The chunks that are not as they should be, and whose they are. Reads the state only; how replicas
 * stand is asked of the caller. Work is bounded: a page ends early when it has looked at enough. */
#ifndef CAIRN_MASTER_QUERY_FSCK_H
#define CAIRN_MASTER_QUERY_FSCK_H

#include "master/ns.h"

enum {
	FSCK_CHUNKS_MAX = 2000,	   /* looked at for one page */
	FSCK_ROWS_MAX = 512,	   /* told in one page */
	FSCK_ROWS_BYTES_MAX = 512 << 10,
	FSCK_NAMES_MAX = 20000,	   /* names looked at for one page, to find paths */
	FSCK_PATH_BYTES_MAX = 4096, /* longer paths are not told */
};

struct fsck_view {
	void *ctx;
	/* FSCK_REPLICA_* of one member. */
	uint8_t (*replica)(void *ctx, uint64_t chunk, uint32_t server);
	/* A server's address; lives as long as the call. */
	const char *(*addr)(void *ctx, uint32_t server);
};

/* ret's lists point into backing. held and what is kept are the caller's to fill. */
int query_fsck(struct state *st, const struct fsck_view *view, const struct wire_fsck *req,
	       struct wire_fsck_reply *ret, struct buf *backing, struct err *err);

/* Appends the path of one name of the inode: 1; 0: none was found with so many names looked at
 * (*budget is counted down), or the path is too long; negative: a storage error. */
int query_path(struct state *st, uint64_t inode, unsigned *budget, struct buf *ret);

#endif
