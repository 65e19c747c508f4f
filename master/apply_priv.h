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

/* The first keys that begin with the prefix, at most max: how many, or negative. */
int apply_keys(struct apply *a, const struct key *prefix, struct key *ret, unsigned max);

/* ---- apply_attr.c: attributes ---- */

/* content: its times of change too, not only the attributes'. */
void apply_touch(struct apply *a, struct row_inode *row, bool content);
/* ERR_NOENT, with words, when it is gone. */
int apply_inode_get(struct apply *a, uint64_t inode, struct row_inode *ret, struct buf *backing);
void apply_inode_put(struct apply *a, uint64_t inode, const struct row_inode *row);
int apply_xattrs_remove(struct apply *a, uint64_t inode);
int apply_setattr(struct apply *a, const struct cmd_setattr *m, struct wire_attr_reply *rep);
int apply_xattr_set(struct apply *a, const struct cmd_xattr_set *m, struct wire_empty *rep);
int apply_wrote(struct apply *a, const struct cmd_wrote *m, struct wire_attr_reply *rep);
/* Before cred is told where to write: what access_strips() says goes. */
int apply_strip(struct apply *a, const struct wire_cred *cred, uint64_t inode,
		struct row_inode *row);

/* ---- apply_acl.c: access control lists ---- */

/* A new inode's mode, by the umask or the directory's default list, and the lists that it gets from
 * there. Before the row is put. */
int apply_inherit(struct apply *a, const struct wire_cred *cred, uint64_t parent, uint64_t inode,
		  struct row_inode *row);
/* After a chmod. */
int apply_acl_follow_mode(struct apply *a, uint64_t inode, const struct row_inode *row);
/* Sets or removes a list; changes the row's mode, which the caller puts. 1: there was none to remove, and
 * nothing is changed. */
int apply_acl_set(struct apply *a, const struct wire_xattr_set *req, struct row_inode *row);

/* ---- apply_ns.c: names and inodes ---- */
int apply_format(struct apply *a, const struct cmd_format *m, struct wire_empty *rep);
int apply_make(struct apply *a, const struct cmd_make *m, struct wire_make_reply *rep);
int apply_link(struct apply *a, const struct cmd_link *m, struct wire_attr_reply *rep);
int apply_unlink(struct apply *a, const struct cmd_unlink *m, struct wire_unlink_reply *rep);
int apply_rename(struct apply *a, const struct cmd_rename *m, struct wire_rename_reply *rep);
int apply_release(struct apply *a, const struct cmd_release *m, struct wire_empty *rep);
int apply_lease_open(struct apply *a, const struct cmd_lease_open *m,
		     struct wire_attr_reply *rep);
int apply_linger(struct apply *a, const struct cmd_linger *m, struct wire_empty *rep);

/* ---- apply_end.c ---- */
/* Who keeps a file that loses its last name: the asking session (its `hold`), others that have it
 * open, or else everybody for a while. */
struct keepers {
	uint64_t session, hold;
	const uint64_t *others;
	unsigned n_others;
	uint8_t linger; /* LINGER_* */
};

/* One name less. At the last one the file goes, unless it is kept. */
int inode_unname(struct apply *a, uint64_t inode, struct row_inode *row,
		 const struct keepers *keepers);

/* Whether anything keeps a file without a name. */
int apply_is_held(struct apply *a, uint64_t inode);
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
int apply_server_remove(struct apply *a, const struct cmd_server_remove *m,
			struct cmd_closed *rep);
int apply_hold(struct apply *a, const struct cmd_hold *m, struct wire_empty *rep);
int apply_chunk_adopt(struct apply *a, const struct cmd_chunk_adopt *m, struct wire_empty *rep);

/* A new chunk of the file at index, with `members`; its `c` row too. */
int chunk_create(struct apply *a, uint64_t inode, const struct row_inode *file, uint64_t index,
		 const struct row_member *members, unsigned n_members, struct wire_chunk *rep);
/* Frees the chunks of a file from index `from` on, at most *budget of them (counted down). file:
 * what its blocks are counted in; NULL: it is gone. keep_space: its blocks stay its own all the same.
 * 1: none is left; 0: some are; negative. */
int chunks_free_from(struct apply *a, uint64_t inode, struct row_inode *file, uint64_t from,
		     bool keep_space, unsigned *budget);
/* Leaves a raise pending that cuts the chunk to `length`. */
int chunk_cut(struct apply *a, uint64_t chunk, uint64_t length);
/* Marks the file's chunks that [offset, end) touches as written: those that the request names. */
int chunks_mark_written(struct apply *a, const struct wire_wrote *req,
			const struct row_inode *file);

/* ---- apply_space.c: the blocks that are a file's own ---- */

/* After a WROTE; counts in the file's row, which the caller puts. */
int space_wrote(struct apply *a, const struct wire_wrote *req, struct row_inode *file);
/* Gives back what lies behind `size` in the chunk that it goes through. */
int space_cut(struct apply *a, uint64_t inode, struct row_inode *file, uint64_t size);

/* What was written beyond the file's end and not told goes, and what comes late of it. 1: done,
 * 0: there is more of it, negative. */
int file_fence(struct apply *a, uint64_t inode);

/* ---- apply_quota.c ---- */
int apply_quota_set(struct apply *a, const struct cmd_quota_set *m, struct wire_empty *rep);
int apply_quota_count(struct apply *a, const struct cmd_quota_count *m, struct wire_empty *rep);
/* So many more blocks and inodes are counted in a quota and those around it: ERR_DQUOT when one grows
 * beyond its limit. */
int quota_charge(struct apply *a, uint32_t project, int64_t blocks, int64_t inodes);
/* ERR_DQUOT when not one more block may be written there. */
int quota_room(struct apply *a, uint32_t project);
/* An inode that got a name in `dir` instead of its old one: it is counted there (its row is changed, the
 * caller puts it). ERR_DQUOT, ERR_XDEV. */
int quota_rehome(struct apply *a, uint64_t inode, struct row_inode *file, uint64_t dir);
/* Its row is removed, its blocks with it. */
int quota_inode_gone(struct apply *a, uint64_t inode, const struct row_inode *row);

/* ---- apply_export.c ---- */
int apply_export_set(struct apply *a, const struct cmd_export_set *m, struct wire_empty *rep);
/* 1: an export is of that directory; 0; negative. */
int export_is_of(struct apply *a, uint64_t inode);
/* A session (a new one, or one that was opened before) is for an export ("": none): *ret_root, *ret_checked
 * as in wire_session, untouched without one. ERR_PERM: there is none of that name; ERR_LIMIT: it has as
 * many sessions as it may. */
int export_enter(struct apply *a, struct slice name, bool is_new, uint64_t *ret_root,
		 uint8_t *ret_checked);

/* ---- apply_lock.c ---- */
int apply_lock(struct apply *a, const struct cmd_lock *m, struct wire_lock_reply *rep);
/* Drops locks of a session, at most `max` owners' in files: how many, 0: none is left. */
int locks_drop(struct apply *a, uint64_t session, unsigned max);
/* For a WROTE that appends: the session has the right to it and the file ends where it begins. */
int append_check(struct apply *a, const struct wire_wrote *req, const struct row_inode *file);
void append_end(struct apply *a, const struct wire_wrote *req);

/* ---- apply_session.c ---- */
int apply_session_open(struct apply *a, const struct cmd_session_open *m,
		       struct wire_session *rep);
int apply_session_close(struct apply *a, const struct cmd_session_close *m,
			struct cmd_closed *rep);
bool session_is_there(struct apply *a, uint64_t session);
/* Before a client's mutation: 1 it has an answer already (filled into a->res), 0 go on, negative
 * refusal. */
int session_begin(struct apply *a, const struct wire_opid *id);
/* After it: remembers the answer and forgets those below the floor. */
int session_end(struct apply *a, const struct wire_opid *id);

#endif
