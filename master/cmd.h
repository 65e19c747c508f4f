/* The replicated commands: what a raft entry of Cairn may say. One mutation, one entry.
 *
 * An entry is u16 command number, then cmd_head (after a u32 length), then the command's record
 * (after a u32 length), padded with zeros to a multiple of 8 (raft's rule; decoders stop at the
 * lengths). All that a command's effect depends on is in the command or in the state: the time
 * and the servers chosen for new chunks are put in by the leader that proposes it.
 *
 * Client mutations carry the client's own request record, with its wire_opid.
 */
#ifndef CAIRN_MASTER_CMD_H
#define CAIRN_MASTER_CMD_H

#include "master/schema.h"

enum { HOLDERS_MAX = 128, LINGER_MAX = 32 };

#define CMD_HEAD(F, S, A, V) F(when, time)

/* The first entry of a cluster. */
#define CMD_FORMAT(F, S, A, V) \
	F(blob, cluster)       \
	F(blob, hash_key)      \
	F(u32, copies)         \
	F(u32, uid)            \
	F(u32, gid)
#define CMD_SET_POLICY(F, S, A, V) \
	F(u32, policy)             \
	F(u32, copies)
/* credential, export: as in row_session. */
#define CMD_SESSION_OPEN(F, S, A, V) \
	S(wire_session_open, req)    \
	F(str, credential)           \
	F(str, export)
/* Closed by the client or expired: its replies, held files and nonce go. Files that it held are
 * reclaimed, at most CHUNKS_FREED_MAX chunks at once. `more`: in the reply, if work is left. */
#define CMD_SESSION_CLOSE(F, S, A, V) F(u64, session)
#define CMD_CLOSED(F, S, A, V) F(u8, more)
#define CMD_MAKE(F, S, A, V)                 \
	S(wire_make, req)                    \
	V(row_member, members, REPLICAS_MAX) \
	F(u8, chunk_bits)
#define CMD_LINK(F, S, A, V) S(wire_link, req)
/* holders: other sessions that have the file open which may lose its last name. linger: until LINGER
 * it is kept without any (LINGER_UNHELD), or whether there are any or not: those that hold it may close
 * it while others are about to open it (LINGER_ALL). */
enum { LINGER_UNHELD = 1, LINGER_ALL = 2 };
#define CMD_UNLINK(F, S, A, V)  \
	S(wire_unlink, req)     \
	A(u64, holders, HOLDERS_MAX) \
	F(u8, linger)
#define CMD_RENAME(F, S, A, V)  \
	S(wire_rename, req)     \
	A(u64, holders, HOLDERS_MAX) \
	F(u8, linger)
#define CMD_SETATTR(F, S, A, V) S(wire_setattr, req)
#define CMD_XATTR_SET(F, S, A, V) S(wire_xattr_set, req)
/* holder: whom the master itself (session 0) lets go of the file. */
#define CMD_RELEASE(F, S, A, V) \
	S(wire_release, req)    \
	F(u64, holder)
/* A file without a name is opened by one more session. */
#define CMD_LEASE_OPEN(F, S, A, V) S(wire_lease_open, req)
/* Removes files that nobody holds and that have lingered: of these so many as one command may. */
#define CMD_LINGER(F, S, A, V) A(u64, inodes, LINGER_MAX)
#define CMD_QUOTA_SET(F, S, A, V) S(wire_quota_set, req)
#define CMD_QUOTA_COUNT(F, S, A, V) S(wire_quota_count, req)
#define CMD_EXPORT_SET(F, S, A, V) S(wire_export_set, req)
#define CMD_WROTE(F, S, A, V) S(wire_wrote, req)
/* Makes the chunk at req.index if there is none; else answers with the one that is there. */
#define CMD_CHUNK_MAKE(F, S, A, V)   \
	S(wire_chunk_for_write, req) \
	V(row_member, members, REPLICAS_MAX)
/* Intent: version -> version+1 with `members` (a non-empty subset of the present ones, in chain
 * order) and `joining` (new ones, to be filled). Members left out are dropped when it is
 * confirmed. Refused when version is not the present one or a raise is pending. */
#define CMD_CHUNK_RAISE(F, S, A, V)          \
	F(u64, chunk)                        \
	F(u32, version)                      \
	V(row_member, members, REPLICAS_MAX) \
	V(row_member, joining, REPLICAS_MAX)
/* Confirms: `members` have cut their replicas to `cut` (CHUNK_LENGTH_KEEP: not at all), renamed
 * and synced. Non-empty. lossy: what they have is of a replica that had lost its page cache. Refused
 * with ERR_CHUNK_PENDING when the pending cut is another one by now: the members are asked again. */
#define CMD_CHUNK_RAISED(F, S, A, V)         \
	F(u64, chunk)                        \
	F(u32, new_version)                  \
	V(row_member, members, REPLICAS_MAX) \
	F(u64, cut)                          \
	F(u8, lossy)
enum { CMD_GARBAGE_MAX = 400 };
/* add: chunks this server has and should not, to be deleted not before grace_s seconds from now.
 * done: it has deleted them. */
#define CMD_GARBAGE(F, S, A, V)             \
	F(u32, server)                      \
	F(u8, done)                         \
	V(wire_have, have, CMD_GARBAGE_MAX) \
	F(u32, grace_s)
/* Goes on freeing the chunks of a removed file; the reply says whether more is left. */
#define CMD_RECLAIM(F, S, A, V) F(u64, inode)
#define CMD_SERVER_REGISTER(F, S, A, V) \
	F(blob, uuid)                   \
	F(str, addr)                    \
	F(str, rack)                    \
	F(str, host)                    \
	F(str, holder)
/* What is wanted of a server: SERVER_DRAINING or 0. */
#define CMD_SERVER_SET(F, S, A, V) \
	F(u32, server)             \
	F(u8, flags)
/* Takes a server off the list, and forgets what was to be deleted there; `more`: it is to be said again.
 * Refused with ERR_BUSY while it is a member of any chunk, or about to become one. */
#define CMD_SERVER_REMOVE(F, S, A, V) F(u32, server)
#define CMD_HOLD(F, S, A, V) F(u8, held)
/* While held: a chunk that was not changed since the import (CHUNK_RESTORED) takes over a higher
 * version that `members` have; what was pending then is settled by it. */
#define CMD_CHUNK_ADOPT(F, S, A, V) \
	F(u64, chunk)               \
	F(u32, version)             \
	V(row_member, members, REPLICAS_MAX)

#define CMD_LOCK(F, S, A, V) S(wire_lock, req)

#define CMD_RECORDS(R)                              \
	R(cmd_head, CMD_HEAD)                       \
	R(cmd_format, CMD_FORMAT)                   \
	R(cmd_set_policy, CMD_SET_POLICY)           \
	R(cmd_session_open, CMD_SESSION_OPEN)       \
	R(cmd_session_close, CMD_SESSION_CLOSE)     \
	R(cmd_closed, CMD_CLOSED)   \
	R(cmd_make, CMD_MAKE)                       \
	R(cmd_link, CMD_LINK)                       \
	R(cmd_unlink, CMD_UNLINK)                   \
	R(cmd_rename, CMD_RENAME)                   \
	R(cmd_setattr, CMD_SETATTR)                 \
	R(cmd_xattr_set, CMD_XATTR_SET)             \
	R(cmd_release, CMD_RELEASE)                 \
	R(cmd_wrote, CMD_WROTE)                     \
	R(cmd_chunk_make, CMD_CHUNK_MAKE)           \
	R(cmd_chunk_raise, CMD_CHUNK_RAISE)         \
	R(cmd_chunk_raised, CMD_CHUNK_RAISED)       \
	R(cmd_garbage, CMD_GARBAGE)                 \
	R(cmd_reclaim, CMD_RECLAIM)                 \
	R(cmd_server_register, CMD_SERVER_REGISTER) \
	R(cmd_server_set, CMD_SERVER_SET)           \
	R(cmd_server_remove, CMD_SERVER_REMOVE)     \
	R(cmd_hold, CMD_HOLD)                       \
	R(cmd_chunk_adopt, CMD_CHUNK_ADOPT)         \
	R(cmd_lock, CMD_LOCK)                       \
	R(cmd_lease_open, CMD_LEASE_OPEN)           \
	R(cmd_linger, CMD_LINGER)                   \
	R(cmd_quota_set, CMD_QUOTA_SET)             \
	R(cmd_quota_count, CMD_QUOTA_COUNT)         \
	R(cmd_export_set, CMD_EXPORT_SET)
CMD_RECORDS(RECORD_DECLARE)

/* C(number, NAME, command record, reply record). Numbers are in logs on disk: never reused.
 * For client mutations the reply record is that of the wire message, so that the leader sends
 * the encoded reply as it is. Chunk replies carry server ids and empty addresses: the leader
 * adds the addresses when it sends. */
#define CMD_TABLE(C)                                                            \
	C(1, FORMAT, cmd_format, wire_empty)                                    \
	C(2, SET_POLICY, cmd_set_policy, wire_empty)                            \
	C(3, SESSION_OPEN, cmd_session_open, wire_session)                      \
	C(4, SESSION_CLOSE, cmd_session_close, cmd_closed)              \
	C(10, MAKE, cmd_make, wire_make_reply)                                  \
	C(11, LINK, cmd_link, wire_attr_reply)                                  \
	C(12, UNLINK, cmd_unlink, wire_unlink_reply)                            \
	C(13, RENAME, cmd_rename, wire_rename_reply)                            \
	C(14, SETATTR, cmd_setattr, wire_attr_reply)                            \
	C(15, XATTR_SET, cmd_xattr_set, wire_empty)                             \
	C(16, RELEASE, cmd_release, wire_empty)                                 \
	C(17, WROTE, cmd_wrote, wire_attr_reply)                                \
	C(20, CHUNK_MAKE, cmd_chunk_make, wire_chunk_reply)                     \
	C(21, CHUNK_RAISE, cmd_chunk_raise, wire_empty)                         \
	C(22, CHUNK_RAISED, cmd_chunk_raised, wire_empty)                       \
	C(23, GARBAGE, cmd_garbage, wire_empty)                                 \
	C(24, RECLAIM, cmd_reclaim, cmd_closed)                         \
	C(25, SERVER_REGISTER, cmd_server_register, wire_cs_registered)         \
	C(26, SERVER_SET, cmd_server_set, wire_empty)                           \
	C(27, HOLD, cmd_hold, wire_empty)                                       \
	C(28, CHUNK_ADOPT, cmd_chunk_adopt, wire_empty)                         \
	C(29, SERVER_REMOVE, cmd_server_remove, cmd_closed)                     \
	C(40, LOCK, cmd_lock, wire_lock_reply)                                  \
	C(41, LEASE_OPEN, cmd_lease_open, wire_attr_reply)                      \
	C(42, LINGER, cmd_linger, wire_empty)                                   \
	C(43, QUOTA_SET, cmd_quota_set, wire_empty)                             \
	C(44, QUOTA_COUNT, cmd_quota_count, wire_empty)                         \
	C(45, EXPORT_SET, cmd_export_set, wire_empty)

enum cmd_number {
#define CMD_X_ENUM(number, NAME, record, reply) CMD_NUMBER_##NAME = number,
	CMD_TABLE(CMD_X_ENUM)
#undef CMD_X_ENUM
};

const char *cmd_name(uint16_t number);

/* Encodes one entry; m is the record that the table names for `number`. 0, ERR_NOMEM, or
 * ERR_LIMIT above COMMAND_BYTES_MAX. */
int cmd_put(struct buf *b, uint16_t number, struct when time, const void *m);
/* Splits an entry. 0 or ERR_CORRUPT. */
int cmd_get(struct slice entry, uint16_t *ret_number, struct cmd_head *ret_head,
	    struct cursor *ret_body, struct err *err);
/* One line of text, for dumps of the log and errors. */
void cmd_text(struct buf *b, struct slice entry);

#endif
