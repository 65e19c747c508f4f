/* What the parts of apply share. Private to apply*.c. */
#ifndef CAIRN_MASTER_APPLY_PRIV_H
#define CAIRN_MASTER_APPLY_PRIV_H

#include "master/apply.h"
#include "master/ns.h"

/* One command being applied. Handlers check everything that can be refused; what they wrote
 * before a refusal is dropped with the transaction. */
struct apply {
	struct state *st;
	struct row_meta meta; /* written back when the command ends */
	struct buf meta_backing;
	struct when now; /* the command's time, never before an earlier command's */
	struct apply_result *res;
};

/* A refusal: the code and words that the client gets. */
int apply_refuse(struct apply *a, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- apply_ns.c: names and inodes ---- */
int apply_format(struct apply *a, const struct cmd_format *m, struct wire_empty *rep);
int apply_make(struct apply *a, const struct cmd_make *m, struct wire_make_reply *rep);
int apply_link(struct apply *a, const struct cmd_link *m, struct wire_attr_reply *rep);
int apply_unlink(struct apply *a, const struct cmd_unlink *m, struct wire_unlink_reply *rep);
int apply_rename(struct apply *a, const struct cmd_rename *m, struct wire_rename_reply *rep);
int apply_setattr(struct apply *a, const struct cmd_setattr *m, struct wire_attr_reply *rep);
int apply_xattr_set(struct apply *a, const struct cmd_xattr_set *m, struct wire_empty *rep);
int apply_release(struct apply *a, const struct cmd_release *m, struct wire_empty *rep);
int apply_wrote(struct apply *a, const struct cmd_wrote *m, struct wire_attr_reply *rep);

/* Forgets that `session` holds `inode` and removes the file if nothing else keeps it. */
int apply_unhold(struct apply *a, uint64_t session, uint64_t inode);

/* ---- apply_chunk.c: chunks, servers, garbage ---- */
int apply_set_policy(struct apply *a, const struct cmd_set_policy *m, struct wire_empty *rep);
int apply_chunk_make(struct apply *a, const struct cmd_chunk_make *m,
		     struct wire_chunk_reply *rep);
int apply_chunk_raise(struct apply *a, const struct cmd_chunk_raise *m, struct wire_empty *rep);
int apply_chunk_raised(struct apply *a, const struct cmd_chunk_raised *m,
		       struct wire_empty *rep);
int apply_garbage(struct apply *a, const struct cmd_garbage *m, struct wire_empty *rep);
int apply_reclaim(struct apply *a, const struct cmd_reclaim *m, struct cmd_closed *rep);
int apply_server_register(struct apply *a, const struct cmd_server_register *m,
			  struct wire_cs_registered *rep);
int apply_server_set(struct apply *a, const struct cmd_server_set *m, struct wire_empty *rep);
int apply_hold(struct apply *a, const struct cmd_hold *m, struct wire_empty *rep);
int apply_chunk_adopt(struct apply *a, const struct cmd_chunk_adopt *m, struct wire_empty *rep);

/* A new chunk of the file at index, with `members`; its `c` row too. */
int chunk_create(struct apply *a, uint64_t inode, const struct row_inode *file, uint64_t index,
		 const struct row_member *members, unsigned n_members, struct wire_chunk *rep);
/* Frees the chunks of a file from index `from` on, at most *budget of them (counted down).
 * 1: none is left; 0: some are; negative. */
int chunks_free_from(struct apply *a, uint64_t inode, uint64_t from, unsigned *budget);
/* Leaves a raise pending that cuts the chunk to `length`. */
int chunk_cut(struct apply *a, uint64_t chunk, uint64_t length);
/* Marks the file's chunks that [offset, end) touches as written: those that the request names. */
int chunks_mark_written(struct apply *a, const struct wire_wrote *req,
			const struct row_inode *file);

/* ---- apply_session.c ---- */
int apply_session_open(struct apply *a, const struct cmd_session_open *m,
		       struct wire_session *rep);
int apply_session_close(struct apply *a, const struct cmd_session_close *m,
			struct cmd_closed *rep);
/* Before a client's mutation: 1 it has an answer already (filled into a->res), 0 go on, negative
 * refusal. */
int session_begin(struct apply *a, const struct wire_opid *id);
/* After it: remembers the answer and forgets those below the floor. */
int session_end(struct apply *a, const struct wire_opid *id);

#endif
