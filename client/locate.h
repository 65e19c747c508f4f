/* Asking the master where a file's chunks are, and telling it which server failed. */
#ifndef CAIRN_CLIENT_LOCATE_H
#define CAIRN_CLIENT_LOCATE_H

#include "client/client.h"

/* Attributes and chunks first .. first+count-1 (count <= CHUNKS_PER_LOCATE_MAX) of a file; the
 * slices in ret live in `fields`. What passes (a chunk being raised, or cut away meanwhile) is
 * waited for. A file that is gone is ERR_STALE. */
int locate_chunks(struct cairn *fs, uint64_t inode, uint64_t first, uint32_t count,
		  struct wire_locate_reply *ret, struct buf *fields, int64_t deadline_ms,
		  struct err *err);
/* Where to go on after an answer for CHUNKS_PER_LOCATE_MAX chunks from `first` on: what lies between
 * is holes. At the file's end or behind it: that was all. */
uint64_t locate_next(const struct wire_locate_reply *rep, uint64_t first);
/* As locate_chunks for one chunk. A hole has id 0. */
int locate_one(struct cairn *fs, uint64_t inode, uint64_t index, struct location *ret,
	       uint64_t *ret_change, int64_t deadline_ms, struct err *err);
/* The write location of a chunk, which is made if there is none: from the inode's cache, else
 * from the master (and cached). *ret_since: see client/inode.h. */
int locate_for_write(struct cairn *fs, struct inode *inode, uint64_t index,
		     struct location *ret, uint64_t *ret_since, int64_t deadline_ms,
		     struct err *err);

/* What a read needs: attributes, and the locations of chunks `first` and the n-1 after it, holes
 * included. Owner: the caller; located_release. */
struct located {
	struct wire_attr attr;
	uint64_t first;
	unsigned n;
	struct location *chunks, one;
};
/* As locate_chunks, from the cache where that knows all of it. *ret must have been zeroed or released. */
int locate_for_read(struct cairn *fs, uint64_t inode, uint64_t first, uint32_t count,
		    struct located *ret, int64_t deadline_ms, struct err *err);
void located_release(struct located *l);

/* Tells the master (and the log) that `server` could not be used for this chunk, for `reason`; the
 * text says all of it. When writing,
 * the answer comes when the chunk's version has been raised without it. */
int locate_fault(struct cairn *fs, const struct location *loc, uint32_t server, bool writing,
		 int reason, const char *text, int64_t deadline_ms, struct err *err);

#endif
