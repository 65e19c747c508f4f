/* The wire protocol: every message of Cairn, declared once (the fields also in wire_admin.h,
 * wire_client.h and wire_cs.h).
 *
 * Who says what to whom
 * ---------------------
 * All connections are TCP, with TLS inside unless a shared key is used; the party that connected sends requests and reads replies, except on
 * a chunkserver's or a session's link to the master, where both sides send requests. Replies carry the
 * request's id and come in any order on a master connection, in request order on a chunkserver
 * connection.
 *
 * 1. Connection set-up (common/auth.h): the connecting side says HELLO with its role, features
 *    and a nonce; the other answers with its own nonce and a proof that it knows the cluster's
 *    key; the connecting side says PROVE with its own proof. Nothing else is accepted before. Over
 *    TLS (common/tls.h) certificates have proved more than that: HELLO and its answer carry names
 *    and features only, and there is no PROVE.
 *
 * 2. A client opens a session at the master (SESSION_OPEN), keeps it alive (SESSION_PING) and
 *    sends namespace requests. Each mutation carries wire_opid: session, a sequence number and
 *    the lowest sequence still unanswered. A mutation sent again with the same number gets the
 *    first answer; one of an expired session gets ERR_STALE and is not executed.
 *
 * 3. To read, a client asks the master for locations (LOCATE), then sends READ to a replica.
 *    The reply carries the stored checksum of each 4 KiB block and raw block-aligned data; the
 *    client verifies. READ is answered in whole blocks; what lies past the chunk file's end is
 *    left out, and is zeros. On a mismatch the client asks again with READ_STABLE, which makes
 *    the server verify under its range lock; if that fails too the client takes the next
 *    replica. It reports with CHUNK_FAULT.
 *
 *    Locations carry an access token (common/token.h), which the client shows with every request to a
 *    chunkserver. One that has run out is ERR_TOKEN, and the client asks the master anew.
 *
 * 4. To write, a client asks for write locations (CHUNK_FOR_WRITE, which makes the chunk on
 *    first use and first removes dead members), sends WRITE to the head with the rest of the
 *    chain in `chain`; each server forwards the bytes to the next while it receives them,
 *    verifies `sums`, writes, waits for the next one's answer and answers. The tail commits.
 *    Then WROTE tells the master the new end of the file; after it the write is visible
 *    everywhere, and write() returns. fsync sends SYNC along the chain of each chunk written; a write
 *    that it would follow at once asks for that itself (WRITE_SYNC).
 *    When a member fails, its predecessor (or the client, for the head) sends CHUNK_FAULT; the
 *    master raises the chunk's version on the survivors and answers with the new location; the
 *    client sends the write again: the same bytes at the same place.
 *    A client that copies from file to file sends the head COPY instead of WRITE: the head gets the
 *    bytes from the source's replicas, nearest first, and passes them on.
 *
 * 5. A chunkserver registers (CS_REGISTER), compares what it has with what the master believes
 *    (CS_DIGEST, then CS_REPORT for id ranges that differ, then CS_READY) and sends
 *    CS_HEARTBEAT. On the same connection the master sends it CHUNK_RAISE, CHUNK_PULL,
 *    CHUNK_DELETE and CHUNK_CHECK. Raising: the members rename their replica to the new version
 *    (after cutting it to `length`, for a truncation) and answer with a digest; where digests
 *    differ, CHUNK_PULL brings the others to the first one's content. A repair is the same with an
 *    empty target.
 *
 * 6. Leases let a client answer from memory. A session that wants them says so when it is opened
 *    (`cached`) and keeps one connection, its link, on which it sends LEASE_ATTACH and LEASE_PING and
 *    on which the master sends LEASE_RECALL. Per inode and session there are three rights:
 *    - R, what is known of the inode may be used again: attributes, xattrs, link target, chunk
 *      locations; of a directory also its entries, their absence and the listing. It comes with any
 *      answer, by WIRE_LEASED_INODE or WIRE_LEASED_PARENT in the reply's header (failures included: a
 *      name that is not there is leased by its parent). Reads name the session that wants it. READDIR
 *      brings it for what the directory names too, if asked to.
 *    - W, data may be sent to chunkservers: before the first WRITE of a file, by WIRE_LEASED_WRITE in
 *      the reply to MAKE (of a new file), CHUNK_FOR_WRITE or LEASE_WRITE. Several sessions may have
 *      it; nobody else has R then.
 *    - B, its only writer: it may hold completed writes back. With W, by WIRE_LEASED_BUFFER in the reply
 *      to MAKE (of a new file) or LEASE_WRITE (that asks for it). Nobody else has R or W then, and what
 *      others ask of the file waits, questions too, until what was held back is with the master.
 *    - O, has it open: it outlives its last name. Known from LEASE_OPEN or the answer to a recall.
 *    What others have of what a request changes is recalled before the request is done. An answered
 *    recall promises: what was known of that inode is forgotten, in the kernel too, and no answer to
 *    a request that was sent before the recall came will be remembered: recalls and answers travel on
 *    different connections. The same for W (RECALL_WRITE): it is given up unless a write is in
 *    progress or a request that may bring it is unanswered (RECALLED_WRITING). A recall of B
 *    (RECALL_BUFFER) is answered at once, too: B is gone, or (RECALLED_FLUSHING) the client flushes now
 *    and names the inode in a later LEASE_PING (`returned`); B is not granted anew before that.
 *    LEASE_ATTACH twice: first without a list; `lost` in the answer (a new session, a new incarnation
 *    of the master, a lease that ran out) tells the client to forget everything first and then to
 *    list, in one or more LEASE_ATTACH with the new incarnation, what it has open, writes now and holds
 *    back (a new master does not know of it: until all have attached, questions wait); the
 *    one with `last` ends it. Without `lost` all is as before. Leases are usable until lease_ms after
 *    the client SENT the last answered LEASE_ATTACH (the one that ended it) or LEASE_PING; the master
 *    counts from when it came. LEASE_PING that is answered `lost`, or refused with ERR_STALE (not this
 *    session's link): attach anew. An inode named in `closed` is not opened again before the answer.
 *
 * Framing
 * -------
 * A message is a header of WIRE_HEADER_BYTES, `fields_bytes` of fields (a record: see
 * common/record.h for the encoding and how versions mix) and `data_bytes` of raw data:
 *
 *     0  u32 magic         "CRN1"
 *     4  u8  version       WIRE_VERSION; another one is refused
 *     5  u8  flags         WIRE_REPLY, in replies WIRE_LEASED_*
 *     6  u16 opcode
 *     8  u64 request id    chosen by the sender of the request
 *    16  u32 fields_bytes  <= FIELDS_BYTES_MAX
 *    20  u32 data_bytes    <= DATA_BYTES_MAX
 *    24  i32 status        replies: 0 or a code of common/err.h; requests: 0
 *    28  u64 trace id      0 or chosen by the client; copied into what a request causes
 *    36  u32 crc           CRC32C of bytes 0..35 and the fields
 *
 * A reply with a status other than 0 carries one field list, wire_failure, whatever its opcode.
 * Raw data is covered by the block checksums that travel in the fields.
 *
 * Numbers (opcodes, roles, flags) are never reused.
 */
#ifndef CAIRN_COMMON_WIRE_H
#define CAIRN_COMMON_WIRE_H

#include "common/err.h"
#include "common/limits.h"
#include "common/record.h"

enum {
	WIRE_MAGIC = 0x314e5243, /* "CRN1" as little-endian bytes */
	WIRE_VERSION = 1,
	WIRE_HEADER_BYTES = 40,
	WIRE_REPLY = 1, /* flags */
	WIRE_LEASED_INODE = 2,
	WIRE_LEASED_PARENT = 4,
	WIRE_LEASED_WRITE = 8,
	WIRE_LEASED_BUFFER = 16,
};

/* ADMIN: a client that may also do what concerns the whole cluster. With a shared key every client may. */
enum wire_role { ROLE_CLIENT = 1, ROLE_CHUNKSERVER = 2, ROLE_MASTER = 3, ROLE_ADMIN = 4 };

/* Feature masks exchanged in HELLO. A peer refuses incompatible bits that it does not know. */
enum {
	WIRE_COMPAT = 0,
	WIRE_INCOMPAT = 0,
};

/* ---- nested records ---- */

/* Who asks: owner of what is made, and who must be permitted (master/access.h). KERNEL, said by the
 * client: a kernel has checked that already; then groups come only with XATTR_SET of an access control
 * list. CHECK and `within` are the leader's word, in commands: apply is to check; every inode that is
 * named must be counted in that quota, which is an export's (0: anywhere). */
#define WIRE_CRED(F, S, A, V) \
	F(u32, uid)           \
	F(u32, gid)           \
	F(u32, umask)         \
	A(u32, groups, GROUPS_MAX) \
	F(u8, flags)          \
	F(u32, within)
enum { CRED_KERNEL = 1, CRED_CHECK = 2 };

/* Names a mutation for exactly-once: see (2) above. seq counts from 1. */
#define WIRE_OPID(F, S, A, V) \
	F(u64, session)       \
	F(u64, seq)           \
	F(u64, floor)

/* `change` grows with every change of data or attributes; `blocks` is in 512-byte units. */
#define WIRE_ATTR(F, S, A, V) \
	F(u64, inode)         \
	F(u32, mode)          \
	F(u32, nlink)         \
	F(u32, uid)           \
	F(u32, gid)           \
	F(u64, rdev)          \
	F(u64, size)          \
	F(u64, blocks)        \
	F(when, atime)        \
	F(when, mtime)        \
	F(when, ctime)        \
	F(when, btime)        \
	F(u64, change)        \
	F(u64, parent)        \
	F(u32, project)       \
	F(u32, policy)        \
	F(u8, chunk_bits)     \
	F(u8, bare) /* it has no extended attributes; 0: it may have some */

/* A member of a chunk: `part` is 0 for replicated chunks (reserved for erasure coding). */
#define WIRE_REPLICA(F, S, A, V) \
	F(u32, server)           \
	F(u8, part)              \
	F(str, addr)

/* Replicas are in chain order, head first. id 0: a hole. settled: the version that the chunk got when
 * its content was settled last with a loss: every replica that could count had lost its page cache
 * (a power loss), so what was written at lower versions and not synced may be gone. 0: never. */
#define WIRE_CHUNK(F, S, A, V) \
	F(u64, index)          \
	F(u64, id)             \
	F(u32, version)        \
	F(u8, flags)           \
	F(blob, token)         \
	V(wire_replica, replicas, REPLICAS_MAX) \
	F(u32, settled)        \
	F(u32, blocks) /* of this part of the file that are its own, in LOCATE */
enum { CHUNK_WRITTEN = 1, RAISE_SETTLE = 2 }; /* its absence on a server is an error, not zeros */

/* One element of READDIR's `entries` blob, each after a u32 length; with READDIR_NAMES a wire_name.
 * leased: R of the inode came with it. type: the S_IFMT bits. */
#define WIRE_DIRENT(F, S, A, V) \
	F(u64, cookie)          \
	F(str, name)            \
	S(wire_attr, attr)      \
	F(u8, leased)
#define WIRE_NAME(F, S, A, V) \
	F(u64, cookie)        \
	F(u64, inode)         \
	F(u32, type)          \
	F(str, name)

/* One element of CLUSTER_STATUS. */
#define WIRE_SERVER_STATUS(F, S, A, V) \
	F(u32, id)                     \
	F(str, uuid)                   \
	F(str, addr)                   \
	F(str, rack)                   \
	F(u8, state)                   \
	F(u64, total_bytes)            \
	F(u64, free_bytes)             \
	F(u64, chunks)                 \
	F(u32, disks)                  \
	F(u32, disks_bad)              \
	F(str, host)                   \
	F(u8, draining)                \
	F(u64, silent_ms) /* since it was heard of last */ \
	F(u64, members) /* chunks of which it is a member: what a drain has left */ \
	S(wire_scrub, scrub) \
	F(u64, refused) /* as in CS_HEARTBEAT */
/* SUSPECT: silent for longer than it should be, not yet for dead_after. It still counts as a
 * member, but gets nothing new and readers are sent to others first. */
enum { SERVER_DOWN = 0, SERVER_REPORTING = 1, SERVER_UP = 2, SERVER_SUSPECT = 3 };

/* How far a chunkserver's scrubber is. `checked` of `total` replicas in the present round; `bad`:
 * damaged ones found since it started; `rounds` that ended, the last one at `ended` (0: none). */
#define WIRE_SCRUB(F, S, A, V) \
	F(u64, checked)        \
	F(u64, total)          \
	F(u64, bad)            \
	F(u64, rounds)         \
	F(when, ended)

/* An entry of a chunkserver's report; an element of CS_REPORT's and CHUNK_DELETE's lists. */
#define WIRE_HAVE(F, S, A, V) \
	F(u64, id)            \
	F(u32, version)       \
	F(u8, flags)
enum {
	HAVE_UNCLEAN = 1, /* was open at a crash: must be compared with the other replicas */
	HAVE_DAMAGED = 2, /* checksum mismatch or unreadable */
	HAVE_TORN = 4,	  /* with UNCLEAN: blocks that were being written then do not verify */
	HAVE_IN_DOUBT = 8, /* has a write that the others may not have; a raise settles it */
	HAVE_LOSSY = 16, /* with UNCLEAN: unsynced bytes may be gone, as after a power loss */
};

/* The chunks with first_id <= id < first_id + REPORT_RANGE_IDS. */
#define WIRE_RANGE(F, S, A, V) \
	F(u64, first_id)       \
	F(u32, count)          \
	F(u64, digest)
enum { REPORT_RANGE_IDS = 4096, REPORT_RANGES_MAX = 1024 };

/* One chunk's share in a range's digest: a range's digest is the XOR over its chunks. Both sides
 * compute it; all flags enter: the master's own are 0. */
uint64_t wire_have_digest(uint64_t id, uint32_t version, uint8_t flags);

/* ---- messages ---- */

#define WIRE_EMPTY(F, S, A, V)
#define WIRE_FAILURE(F, S, A, V) \
	F(str, text)             \
	F(u32, server) /* the chain member that failed, with ERR_PEER */

#define WIRE_HELLO(F, S, A, V) \
	F(u16, role)           \
	F(str, name)           \
	F(u64, compat)         \
	F(u64, incompat)       \
	F(blob, nonce)         \
	F(blob, cluster)
#define WIRE_CHALLENGE(F, S, A, V) \
	F(u16, role)               \
	F(u64, compat)             \
	F(u64, incompat)           \
	F(blob, nonce)             \
	F(blob, proof)
#define WIRE_PROVE(F, S, A, V) F(blob, proof)

/* The others are in files of their own, by who speaks. */
#include "common/wire_admin.h"
#include "common/wire_client.h"
#include "common/wire_cs.h"

/* ---- the tables ---- */

/* R(record name, field list): nested records come before those that use them. */
#define WIRE_RECORDS(R)                              \
	R(wire_cred, WIRE_CRED)                      \
	R(wire_opid, WIRE_OPID)                      \
	R(wire_attr, WIRE_ATTR)                      \
	R(wire_replica, WIRE_REPLICA)                \
	R(wire_chunk, WIRE_CHUNK)                    \
	R(wire_dirent, WIRE_DIRENT)                  \
	R(wire_name, WIRE_NAME)                      \
	R(wire_scrub, WIRE_SCRUB)                    \
	R(wire_compare, WIRE_COMPARE)                \
	R(wire_server_status, WIRE_SERVER_STATUS)    \
	R(wire_have, WIRE_HAVE)                      \
	R(wire_range, WIRE_RANGE)                    \
	R(wire_empty, WIRE_EMPTY)                    \
	R(wire_failure, WIRE_FAILURE)                \
	R(wire_hello, WIRE_HELLO)                    \
	R(wire_challenge, WIRE_CHALLENGE)            \
	R(wire_prove, WIRE_PROVE)                    \
	R(wire_session_open, WIRE_SESSION_OPEN)      \
	R(wire_session, WIRE_SESSION)                \
	R(wire_session_ref, WIRE_SESSION_REF)        \
	R(wire_inode_ref, WIRE_INODE_REF)            \
	R(wire_name_ref, WIRE_NAME_REF)              \
	R(wire_attr_reply, WIRE_ATTR_REPLY)          \
	R(wire_setattr, WIRE_SETATTR)                \
	R(wire_readdir, WIRE_READDIR)                \
	R(wire_readdir_reply, WIRE_READDIR_REPLY)    \
	R(wire_make, WIRE_MAKE)                      \
	R(wire_make_reply, WIRE_MAKE_REPLY)          \
	R(wire_link, WIRE_LINK)                      \
	R(wire_unlink, WIRE_UNLINK)                  \
	R(wire_unlink_reply, WIRE_UNLINK_REPLY)      \
	R(wire_rename, WIRE_RENAME)                  \
	R(wire_rename_reply, WIRE_RENAME_REPLY)      \
	R(wire_release, WIRE_RELEASE)                \
	R(wire_readlink_reply, WIRE_READLINK_REPLY)  \
	R(wire_xattr_set, WIRE_XATTR_SET)            \
	R(wire_xattr_get, WIRE_XATTR_GET)            \
	R(wire_xattr_reply, WIRE_XATTR_REPLY)        \
	R(wire_statfs_reply, WIRE_STATFS_REPLY)      \
	R(wire_locate, WIRE_LOCATE)                  \
	R(wire_locate_reply, WIRE_LOCATE_REPLY)      \
	R(wire_chunk_for_write, WIRE_CHUNK_FOR_WRITE) \
	R(wire_chunk_reply, WIRE_CHUNK_REPLY)        \
	R(wire_wrote, WIRE_WROTE)                    \
	R(wire_chunk_fault, WIRE_CHUNK_FAULT)        \
	R(wire_cluster_status, WIRE_CLUSTER_STATUS)  \
	R(wire_server_set, WIRE_SERVER_SET)          \
	R(wire_server_remove, WIRE_SERVER_REMOVE)    \
	R(wire_quota_set, WIRE_QUOTA_SET)            \
	R(wire_quota_count, WIRE_QUOTA_COUNT)        \
	R(wire_quotas, WIRE_QUOTAS)                  \
	R(wire_quotas_reply, WIRE_QUOTAS_REPLY)      \
	R(wire_quota, WIRE_QUOTA)                    \
	R(wire_export_set, WIRE_EXPORT_SET)          \
	R(wire_exports, WIRE_EXPORTS)                \
	R(wire_exports_reply, WIRE_EXPORTS_REPLY)    \
	R(wire_export, WIRE_EXPORT)                  \
	R(wire_fsck, WIRE_FSCK)                      \
	R(wire_fsck_row, WIRE_FSCK_ROW)              \
	R(wire_fsck_reply, WIRE_FSCK_REPLY)          \
	R(wire_backup, WIRE_BACKUP)                  \
	R(wire_backup_reply, WIRE_BACKUP_REPLY)      \
	R(wire_hold, WIRE_HOLD)                      \
	R(wire_lease_attach, WIRE_LEASE_ATTACH)      \
	R(wire_lease_attached, WIRE_LEASE_ATTACHED)  \
	R(wire_lease_ping, WIRE_LEASE_PING)          \
	R(wire_lease_pong, WIRE_LEASE_PONG)          \
	R(wire_lease_write, WIRE_LEASE_WRITE)        \
	R(wire_lease_open, WIRE_LEASE_OPEN)          \
	R(wire_lease_recall, WIRE_LEASE_RECALL)      \
	R(wire_lease_recalled, WIRE_LEASE_RECALLED)  \
	R(wire_cs_register, WIRE_CS_REGISTER)        \
	R(wire_token_key, WIRE_TOKEN_KEY)            \
	R(wire_cs_registered, WIRE_CS_REGISTERED)    \
	R(wire_cs_heartbeat, WIRE_CS_HEARTBEAT)      \
	R(wire_cs_beat, WIRE_CS_BEAT)                \
	R(wire_cs_digest, WIRE_CS_DIGEST)            \
	R(wire_cs_digest_reply, WIRE_CS_DIGEST_REPLY) \
	R(wire_cs_report, WIRE_CS_REPORT)            \
	R(wire_cs_damage, WIRE_CS_DAMAGE)            \
	R(wire_chunk_raise, WIRE_CHUNK_RAISE)        \
	R(wire_chunk_state, WIRE_CHUNK_STATE)        \
	R(wire_chunk_pull, WIRE_CHUNK_PULL)          \
	R(wire_chunk_delete, WIRE_CHUNK_DELETE)      \
	R(wire_chunk_check, WIRE_CHUNK_CHECK)        \
	R(wire_read, WIRE_READ)                      \
	R(wire_read_reply, WIRE_READ_REPLY)          \
	R(wire_write, WIRE_WRITE)                    \
	R(wire_copy, WIRE_COPY)                      \
	R(wire_sync, WIRE_SYNC)                      \
	R(wire_sums, WIRE_SUMS)                      \
	R(wire_sums_reply, WIRE_SUMS_REPLY)          \
	R(wire_lock, WIRE_LOCK)                      \
	R(wire_lock_reply, WIRE_LOCK_REPLY)          \
	R(wire_lock_wait, WIRE_LOCK_WAIT)            \
	R(wire_lock_cancel, WIRE_LOCK_CANCEL)        \
	R(wire_lock_test, WIRE_LOCK_TEST)            \
	R(wire_lock_state, WIRE_LOCK_STATE)          \
	R(wire_locks, WIRE_LOCKS)                    \
	R(wire_locks_reply, WIRE_LOCKS_REPLY)        \
	R(wire_lock_row, WIRE_LOCK_ROW)

/* M(number, NAME, request record, reply record). 0x00xx connection, 0x01xx client to master,
 * 0x02xx chunkserver to master, 0x03xx master to chunkserver, 0x04xx to a chunkserver's port,
 * 0x05xx master to client. */
#define WIRE_MESSAGES(M)                                                          \
	M(0x0001, HELLO, wire_hello, wire_challenge)                              \
	M(0x0002, PROVE, wire_prove, wire_empty)                                  \
	M(0x0101, SESSION_OPEN, wire_session_open, wire_session)                  \
	M(0x0102, SESSION_PING, wire_session_ref, wire_empty)                     \
	M(0x0103, SESSION_CLOSE, wire_session_ref, wire_empty)                    \
	M(0x0110, LOOKUP, wire_name_ref, wire_attr_reply)                         \
	M(0x0111, GETATTR, wire_inode_ref, wire_attr_reply)                       \
	M(0x0112, SETATTR, wire_setattr, wire_attr_reply)                         \
	M(0x0113, READDIR, wire_readdir, wire_readdir_reply)                      \
	M(0x0114, MAKE, wire_make, wire_make_reply)                               \
	M(0x0115, LINK, wire_link, wire_attr_reply)                               \
	M(0x0116, UNLINK, wire_unlink, wire_unlink_reply)                         \
	M(0x0117, RENAME, wire_rename, wire_rename_reply)                         \
	M(0x0118, RELEASE, wire_release, wire_empty)                              \
	M(0x0119, READLINK, wire_inode_ref, wire_readlink_reply)                  \
	M(0x011a, XATTR_SET, wire_xattr_set, wire_empty)                          \
	M(0x011b, XATTR_GET, wire_xattr_get, wire_xattr_reply)                    \
	M(0x011c, XATTR_LIST, wire_inode_ref, wire_xattr_reply)                   \
	M(0x011d, STATFS, wire_inode_ref, wire_statfs_reply)                      \
	M(0x0120, LOCATE, wire_locate, wire_locate_reply)                         \
	M(0x0121, CHUNK_FOR_WRITE, wire_chunk_for_write, wire_chunk_reply)        \
	M(0x0122, WROTE, wire_wrote, wire_attr_reply)                             \
	M(0x0123, CHUNK_FAULT, wire_chunk_fault, wire_empty)                      \
	M(0x0130, CLUSTER_STATUS, wire_empty, wire_cluster_status)                \
	M(0x0131, SERVER_SET, wire_server_set, wire_empty)                        \
	M(0x0132, FSCK, wire_fsck, wire_fsck_reply)                               \
	M(0x0133, BACKUP, wire_backup, wire_backup_reply)                         \
	M(0x0134, HOLD, wire_hold, wire_empty)                                    \
	M(0x0135, SERVER_REMOVE, wire_server_remove, wire_empty)                  \
	M(0x0136, QUOTA_SET, wire_quota_set, wire_empty)                          \
	M(0x0137, QUOTA_COUNT, wire_quota_count, wire_empty)                      \
	M(0x0138, QUOTAS, wire_quotas, wire_quotas_reply)                         \
	M(0x0139, EXPORT_SET, wire_export_set, wire_empty)                        \
	M(0x013a, EXPORTS, wire_exports, wire_exports_reply)                      \
	M(0x0140, LEASE_ATTACH, wire_lease_attach, wire_lease_attached)           \
	M(0x0141, LEASE_PING, wire_lease_ping, wire_lease_pong)                   \
	M(0x0142, LEASE_WRITE, wire_lease_write, wire_attr_reply)                 \
	M(0x0143, LEASE_OPEN, wire_lease_open, wire_attr_reply)                   \
	M(0x0150, LOCK, wire_lock, wire_lock_reply)                               \
	M(0x0151, LOCK_WAIT, wire_lock_wait, wire_empty)                          \
	M(0x0152, LOCK_CANCEL, wire_lock_cancel, wire_empty)                      \
	M(0x0153, LOCK_TEST, wire_lock_test, wire_lock_state)                     \
	M(0x0154, LOCKS, wire_locks, wire_locks_reply)                            \
	M(0x0201, CS_REGISTER, wire_cs_register, wire_cs_registered)              \
	M(0x0202, CS_DIGEST, wire_cs_digest, wire_cs_digest_reply)                \
	M(0x0203, CS_REPORT, wire_cs_report, wire_empty)                          \
	M(0x0204, CS_READY, wire_empty, wire_empty)                               \
	M(0x0205, CS_HEARTBEAT, wire_cs_heartbeat, wire_cs_beat)                  \
	M(0x0206, CS_DAMAGE, wire_cs_damage, wire_empty)                          \
	M(0x0301, CHUNK_RAISE, wire_chunk_raise, wire_chunk_state)                \
	M(0x0302, CHUNK_PULL, wire_chunk_pull, wire_chunk_state)                  \
	M(0x0303, CHUNK_DELETE, wire_chunk_delete, wire_empty)                    \
	M(0x0304, CHUNK_CHECK, wire_chunk_check, wire_chunk_state)                \
	M(0x0401, READ, wire_read, wire_read_reply)                               \
	M(0x0402, WRITE, wire_write, wire_empty)                                  \
	M(0x0403, SYNC, wire_sync, wire_empty)                                    \
	M(0x0404, SUMS, wire_sums, wire_sums_reply)                               \
	M(0x0405, COPY, wire_copy, wire_empty)                                    \
	M(0x0501, LEASE_RECALL, wire_lease_recall, wire_lease_recalled)

enum wire_op {
#define WIRE_X_ENUM(number, NAME, req, rep) OP_##NAME = number,
	WIRE_MESSAGES(WIRE_X_ENUM)
#undef WIRE_X_ENUM
};

WIRE_RECORDS(RECORD_DECLARE)

struct wire_header {
	uint8_t version;
	uint8_t flags;
	uint16_t op;
	uint64_t id;
	uint32_t fields_bytes;
	uint32_t data_bytes;
	int32_t status;
	uint64_t trace;
	uint32_t crc;
};

/* One row of the message table: the codecs of a request and its reply, by opcode. */
struct wire_message {
	uint16_t op;
	const char *name;
	struct record_codec request;
	struct record_codec reply;
};

/* The row of an opcode, or NULL. The rows are constant and shared. */
const struct wire_message *wire_message_find(uint16_t op);
const struct wire_message *wire_messages(size_t *ret_n);
/* "LOOKUP", or "?". */
const char *wire_op_name(uint16_t op);

/* Header at p (WIRE_HEADER_BYTES). Checks magic, version and lengths, so that the caller may
 * allocate; the checksum is checked by wire_check() once the fields are there.
 * 0, ERR_PROTOCOL or ERR_VERSION. */
int wire_header_get(const uint8_t *p, struct wire_header *ret, struct err *err);
int wire_check(const uint8_t *header, const struct wire_header *h, struct slice fields,
	       struct err *err);

/* Appends a whole message (header and fields) to b; the caller sends data_bytes after it.
 * `m` is the record that `put` encodes. 0, ERR_NOMEM, or ERR_LIMIT when the fields are too long. */
int wire_put_request(struct buf *b, uint16_t op, uint64_t id, uint64_t trace, const void *m,
		     uint32_t data_bytes);
int wire_put_reply(struct buf *b, uint16_t op, uint64_t id, uint64_t trace, const void *m,
		   uint32_t data_bytes);
/* A reply that says no. server: see wire_failure. */
int wire_put_failure(struct buf *b, uint16_t op, uint64_t id, uint64_t trace, int code,
		     const char *text, uint32_t server);
/* A reply whose fields are encoded already. */
int wire_put_reply_raw(struct buf *b, uint16_t op, uint64_t id, uint64_t trace,
		       struct slice fields);

/* Sets WIRE_LEASED_* in the reply whose header begins at `start` of b, the last message in b. */
void wire_set_leased(struct buf *b, size_t start, uint8_t leased);

/* Decodes the reply's fields into ret (a struct of the opcode's reply record): 0, or the status
 * the peer sent with its text in err, or ERR_PROTOCOL. *ret_server (may be NULL) is the member
 * named by a failure. */
int wire_get_reply(const struct wire_header *h, struct slice fields, void *ret,
		   uint32_t *ret_server, struct err *err);

/* Lists inside a blob: each record after a u32 length. put appends one; next reads one:
 * 1, 0 at the end, or ERR_PROTOCOL. */
#define WIRE_LIST_PUT(record, b, m)                                  \
	do {                                                         \
		size_t wire_mark = record_open_nested(b);            \
		record##_put(b, m);                                  \
		record_close_nested(b, wire_mark);                   \
	} while (0)
int wire_list_next(struct cursor *c, struct cursor *ret);

/* The message as a line of text, for logs, errors and tests. */
void wire_text(struct buf *b, const struct wire_header *h, struct slice fields);

#endif
