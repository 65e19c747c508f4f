/* Reading the namespace rows: shared by apply (which writes them) and query (which answers from
 * them). Functions return 0 or a negative code; storage errors are ERR_CORRUPT and the like. */
#ifndef CAIRN_MASTER_NS_H
#define CAIRN_MASTER_NS_H

#include "master/state.h"

/* The inode's row: ERR_NOENT when there is none. The target points into backing. */
int ns_inode(struct state *st, uint64_t inode, struct row_inode *ret, struct buf *backing);
void ns_attr(uint64_t inode, const struct row_inode *row, struct wire_attr *ret);

/* A name that may be made, looked up or removed: 1..NAME_BYTES_MAX bytes, no '/', no NUL, not
 * "." or "..". ERR_NAMETOOLONG, ERR_NOENT (empty) or ERR_INVAL. */
int ns_name_check(struct slice name);

/* The name of an extended attribute: ERR_RANGE (empty, too long), ERR_INVAL (a NUL in it, nothing
 * after the prefix), ERR_NOTSUP (of no kind that is kept). */
int ns_xattr_name_check(struct slice name);

/* The mode of a file without what goes when others change its content or owner (Linux fs/attr.c,
 * notify_change), and the attribute that goes with it. */
uint32_t ns_drop_set_id(uint32_t mode);
#define XATTR_CAPABILITY SLICE_LIT("security.capability")

struct acl;
/* One of the inode's two access control lists: 1 in *ret (acl_release() it), 0: it has none. */
int ns_acl(struct state *st, uint64_t inode, struct slice name, struct acl *ret);

/* The names of one hash, and where among them `name` is (-1: not there). */
struct ns_slot {
	struct key key;
	struct row_dentries row;
	struct buf backing; /* ns_slot_release() */
	int at;
};
int ns_slot_find(struct state *st, const struct row_meta *meta, uint64_t parent,
		 struct slice name, struct ns_slot *ret);
void ns_slot_release(struct ns_slot *slot);

int ns_meta(struct state *st, struct row_meta *ret, struct buf *backing);
/* 1 when the directory has no entry, 0 when it has, negative. */
int ns_dir_empty(struct state *st, uint64_t inode);

/* How many blocks of this part of a file are its own. */
uint32_t ns_space_blocks(const struct row_file_chunk *ref);

/* The chunk's row as clients see it; addresses stay empty. */
void ns_chunk(uint64_t chunk, uint64_t index, const struct row_chunk *row, struct wire_chunk *ret);

#endif
