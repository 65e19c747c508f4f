/* Reads of the namespace: answered from the applied state, no log entry. Pure, like apply.
 * All return 0 or the answer's error code (ERR_NOENT ...), with err's text for logs. Slices in
 * replies point into `backing`, which the caller owns. Chunk replies carry server ids and empty
 * addresses. */
#ifndef CAIRN_MASTER_QUERY_H
#define CAIRN_MASTER_QUERY_H

#include "master/state.h"

int query_lookup(struct state *st, const struct wire_name_ref *req, struct wire_attr_reply *ret,
		 struct err *err);
int query_getattr(struct state *st, uint64_t inode, struct wire_attr *ret, struct err *err);
/* Whether an entry's inode is leased with the answer. */
struct query_grant {
	bool (*fn)(void *arg, uint64_t inode);
	void *arg;
};
/* Fills ret->entries from req->cookie on, "." and ".." included, up to req->max_bytes (and at
 * least one entry). grant: asked with READDIR_LEASE; NULL: nothing is leased. */
int query_readdir(struct state *st, const struct wire_readdir *req,
		  const struct query_grant *grant, struct wire_readdir_reply *ret,
		  struct buf *backing, struct err *err);
int query_readlink(struct state *st, uint64_t inode, struct wire_readlink_reply *ret,
		   struct buf *backing, struct err *err);
int query_xattr_get(struct state *st, const struct wire_xattr_get *req,
		    struct wire_xattr_reply *ret, struct buf *backing, struct err *err);
/* Names, each with a 0 behind it; of trusted. ones only to those who may know them. */
int query_xattr_list(struct state *st, const struct wire_inode_ref *req,
		     struct wire_xattr_reply *ret, struct buf *backing, struct err *err);
/* *ret_pending (may be NULL): a chunk of the range with a pending raise, or 0: the caller waits
 * for it and asks again. */
int query_locate(struct state *st, const struct wire_locate *req, struct wire_locate_reply *ret,
		 uint64_t *ret_pending, struct err *err);
/* The chunk at an index for writing: 1 found, 0 none there yet, negative. */
int query_chunk_at(struct state *st, uint64_t inode, uint64_t index, struct wire_chunk *ret,
		   uint64_t *ret_pending, struct err *err);
/* The least of what the quotas around an inode still let in, in bytes; UINT64_MAX: none limits it. */
uint64_t query_quota_left(struct state *st, uint64_t inode);
/* The remembered answer of a mutation: 1 and ret (slices into backing), 0 when it was never
 * applied, ERR_STALE when the session is unknown. */
int query_reply(struct state *st, const struct wire_opid *id, struct row_reply *ret,
		struct buf *backing, struct err *err);

#endif
