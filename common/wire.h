/* The wire protocol: every message of Cairn, declared once.
 *
 * Who says what to whom
 * ---------------------
 * All connections are TCP; the party that connected sends requests and reads replies, except on
 * a chunkserver's link to the master, where both sides send requests. Replies carry the
 * request's id and come in any order on a master connection, in request order on a chunkserver
 * connection.
 *
 * 1. Connection set-up (common/auth.h): the connecting side says HELLO with its role, features
 *    and a nonce; the other answers with its own nonce and a proof that it knows the cluster's
 *    key; the connecting side says PROVE with its own proof. Nothing else is accepted before.
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
 * 4. To write, a client asks for write locations (CHUNK_FOR_WRITE, which makes the chunk on
 *    first use and first removes dead members), sends WRITE to the head with the rest of the
 *    chain in `chain`; each server forwards the bytes to the next while it receives them,
 *    verifies `sums`, writes, waits for the next one's answer and answers. The tail commits.
 *    Then WROTE tells the master the new end of the file; after it the write is visible
 *    everywhere, and write() returns. fsync sends SYNC along the chain of each chunk written.
 *    When a member fails, its predecessor (or the client, for the head) sends CHUNK_FAULT; the
 *    master raises the chunk's version on the survivors and answers with the new location; the
 *    client sends the write again: the same bytes at the same place.
 *
 * 5. A chunkserver registers (CS_REGISTER), compares what it has with what the master believes
 *    (CS_DIGEST, then CS_REPORT for id ranges that differ, then CS_READY) and sends
 *    CS_HEARTBEAT. On the same connection the master sends it CHUNK_RAISE, CHUNK_PULL,
 *    CHUNK_DELETE and CHUNK_CHECK. Raising: the members rename their replica to the new version
 *    (after cutting it to `length`, for a truncation) and answer with a digest; where digests
 *    differ, CHUNK_PULL brings the others to the first one's content. A repair is the same with an
 *    empty target.
 *
 * Framing
 * -------
 * A message is a header of WIRE_HEADER_BYTES, `fields_bytes` of fields (a record: see
 * common/record.h for the encoding and how versions mix) and `data_bytes` of raw data:
 *
 *     0  u32 magic         "CRN1"
 *     4  u8  version       WIRE_VERSION; another one is refused
 *     5  u8  flags         WIRE_REPLY
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
	WIRE_REPLY = 1, /* flag */
};

enum wire_role { ROLE_CLIENT = 1, ROLE_CHUNKSERVER = 2, ROLE_MASTER = 3 };

/* Feature masks exchanged in HELLO. A peer refuses incompatible bits that it does not know. */
enum {
	WIRE_COMPAT = 0,
	WIRE_INCOMPAT = 0,
};

/* ---- nested records ---- */

/* Who did it: checked by the kernel for mounts; recorded as owner of what is made. */
#define WIRE_CRED(F, S, A, V) \
	F(u32, uid)           \
	F(u32, gid)           \
	F(u32, umask)         \
	A(u32, groups, GROUPS_MAX)

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
	F(u8, chunk_bits)

/* A member of a chunk: `part` is 0 for replicated chunks (reserved for erasure coding). */
#define WIRE_REPLICA(F, S, A, V) \
	F(u32, server)           \
	F(u8, part)              \
	F(str, addr)

/* Replicas are in chain order, head first. id 0: a hole. */
#define WIRE_CHUNK(F, S, A, V) \
	F(u64, index)          \
	F(u64, id)             \
	F(u32, version)        \
	F(u8, flags)           \
	F(blob, token)         \
	V(wire_replica, replicas, REPLICAS_MAX)
enum { CHUNK_WRITTEN = 1, RAISE_SETTLE = 2 }; /* its absence on a server is an error, not zeros */

/* One element of READDIR's `entries` blob, each after a u32 length. */
#define WIRE_DIRENT(F, S, A, V) \
	F(u64, cookie)          \
	F(str, name)            \
	S(wire_attr, attr)

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
	S(wire_scrub, scrub)
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

#define WIRE_SESSION_OPEN(F, S, A, V) \
	F(str, name)                  \
	F(u64, nonce) /* a retry of the opening finds the first session by it */
#define WIRE_SESSION(F, S, A, V) \
	F(u64, session)          \
	F(u32, ttl_ms)           \
	F(u64, root)             \
	F(blob, cluster)
#define WIRE_SESSION_REF(F, S, A, V) F(u64, session)

#define WIRE_INODE_REF(F, S, A, V) \
	S(wire_cred, cred)         \
	F(u64, inode)
#define WIRE_NAME_REF(F, S, A, V) \
	S(wire_cred, cred)        \
	F(u64, parent)            \
	F(str, name)
#define WIRE_ATTR_REPLY(F, S, A, V) S(wire_attr, attr)

#define WIRE_SETATTR(F, S, A, V) \
	S(wire_opid, id)         \
	S(wire_cred, cred)       \
	F(u64, inode)            \
	F(u32, mask)             \
	F(u32, mode)             \
	F(u32, uid)              \
	F(u32, gid)              \
	F(u64, size)             \
	F(when, atime)           \
	F(when, mtime)
enum {
	SET_MODE = 1,
	SET_UID = 2,
	SET_GID = 4,
	SET_SIZE = 8,
	SET_ATIME = 16,
	SET_MTIME = 32,
	SET_ATIME_NOW = 64, /* the master's clock */
	SET_MTIME_NOW = 128,
	SET_ALL = 255,
};

#define WIRE_READDIR(F, S, A, V) \
	S(wire_cred, cred)       \
	F(u64, inode)            \
	F(u64, cookie)           \
	F(u32, max_bytes)
#define WIRE_READDIR_REPLY(F, S, A, V) \
	F(blob, entries)               \
	F(u8, eof)

/* Makes any type of file: the type is in mode. umask is already applied by the caller. */
#define WIRE_MAKE(F, S, A, V) \
	S(wire_opid, id)      \
	S(wire_cred, cred)    \
	F(u64, parent)        \
	F(str, name)          \
	F(u32, mode)          \
	F(u64, rdev)          \
	F(str, target)        \
	F(u8, flags)
enum {
	MAKE_EXCL = 1,	/* an existing name is ERR_EXIST; without: regular files are answered */
	MAKE_CHUNK = 2, /* place the first chunk too, and answer with it */
};
#define WIRE_MAKE_REPLY(F, S, A, V) \
	S(wire_attr, attr)          \
	F(u8, existed)              \
	S(wire_chunk, chunk)

#define WIRE_LINK(F, S, A, V) \
	S(wire_opid, id)      \
	S(wire_cred, cred)    \
	F(u64, inode)         \
	F(u64, parent)        \
	F(str, name)
/* hold: an inode that this session has open: if it loses its last name it lives on until
 * RELEASE or the session's end. 0: none. */
#define WIRE_UNLINK(F, S, A, V) \
	S(wire_opid, id)        \
	S(wire_cred, cred)      \
	F(u64, parent)          \
	F(str, name)            \
	F(u8, dir)              \
	F(u64, hold)
#define WIRE_UNLINK_REPLY(F, S, A, V) \
	F(u64, inode)                 \
	F(u32, nlink)
#define WIRE_RENAME(F, S, A, V) \
	S(wire_opid, id)        \
	S(wire_cred, cred)      \
	F(u64, parent)          \
	F(str, name)            \
	F(u64, new_parent)      \
	F(str, new_name)        \
	F(u32, flags)           \
	F(u64, hold)
enum { RENAME_F_NOREPLACE = 1, RENAME_F_EXCHANGE = 2 }; /* as renameat2(2) */
#define WIRE_RENAME_REPLY(F, S, A, V) \
	F(u64, inode)                 \
	F(u64, replaced)
#define WIRE_RELEASE(F, S, A, V) \
	S(wire_opid, id)         \
	F(u64, inode)
#define WIRE_READLINK_REPLY(F, S, A, V) F(str, target)

#define WIRE_XATTR_SET(F, S, A, V) \
	S(wire_opid, id)           \
	S(wire_cred, cred)         \
	F(u64, inode)              \
	F(str, name)               \
	F(blob, value)             \
	F(u8, flags)
enum { XATTR_F_CREATE = 1, XATTR_F_REPLACE = 2, XATTR_F_REMOVE = 4 }; /* 1, 2: setxattr(2) */
#define WIRE_XATTR_GET(F, S, A, V) \
	S(wire_cred, cred)         \
	F(u64, inode)              \
	F(str, name)
/* For XATTR_LIST: the names, each followed by a NUL. */
#define WIRE_XATTR_REPLY(F, S, A, V) F(blob, value)

#define WIRE_STATFS_REPLY(F, S, A, V) \
	F(u64, total_bytes)           \
	F(u64, free_bytes)            \
	F(u64, inodes)

/* Attributes and the locations of chunks first .. first+count-1, holes included. */
#define WIRE_LOCATE(F, S, A, V) \
	S(wire_cred, cred)      \
	F(u64, inode)           \
	F(u64, first)           \
	F(u32, count)
#define WIRE_LOCATE_REPLY(F, S, A, V) \
	S(wire_attr, attr)            \
	V(wire_chunk, chunks, CHUNKS_PER_LOCATE_MAX)
#define WIRE_CHUNK_FOR_WRITE(F, S, A, V) \
	S(wire_opid, id)                 \
	S(wire_cred, cred)               \
	F(u64, inode)                    \
	F(u64, index)
#define WIRE_CHUNK_REPLY(F, S, A, V) \
	S(wire_attr, attr)           \
	S(wire_chunk, chunk)
/* Bytes offset .. end-1 were committed on their chunks: the size becomes at least `end`. chunks,
 * versions: of those that were written to, in the order of the file. Another one may be there by
 * now, and that one was not written. The first write of a chunk counts only at the version that it
 * has: ERR_CHUNK_VERSION, ERR_CHUNK_PENDING when it was raised or is being raised, and the bytes
 * are written again: a server that had nothing of it when it was raised has made it at the old
 * version. */
#define WIRE_WROTE(F, S, A, V) \
	S(wire_opid, id)       \
	S(wire_cred, cred)     \
	F(u64, inode)          \
	F(u64, offset)         \
	F(u64, end)            \
	A(u64, chunks, WROTE_CHUNKS_MAX) \
	A(u32, versions, WROTE_CHUNKS_MAX)
/* A client or a chain member could not use a member of a chunk. */
#define WIRE_CHUNK_FAULT(F, S, A, V) \
	F(u64, chunk)                \
	F(u32, version)              \
	F(u32, server)               \
	F(u8, writing)               \
	F(i32, reason)               \
	F(str, text)

#define WIRE_CLUSTER_STATUS(F, S, A, V) \
	F(blob, cluster)                \
	F(u64, applied)                 \
	F(u64, durable)                 \
	F(u64, inodes)                  \
	F(u64, chunks)                  \
	F(u64, chunks_under_goal)       \
	F(u64, chunks_pending)          \
	F(u64, garbage)                 \
	F(u32, sessions)                \
	F(blob, servers) /* wire_server_status records, each after a u32 length */ \
	F(u8, held)                     \
	F(u32, repairs)                 \
	F(u32, moves)                   \
	A(u64, queue, REPLICAS_MAX)     \
	S(wire_compare, compare)
/* held: see HOLD. repairs, moves: raises under way to mend and to balance. queue[n]: chunks known
 * to wait for repair that have n live copies. */

/* The master's own walk over all chunks, comparing the digests of the replicas of each. */
#define WIRE_COMPARE(F, S, A, V) \
	F(u64, compared)         \
	F(u64, total)            \
	F(u64, differed)         \
	F(u64, rounds)           \
	F(when, ended)

/* An administrator sets what is wanted of a server; SERVER_DRAINING of master/schema.h. */
enum { SERVER_DRAINING = 1 };
#define WIRE_SERVER_SET(F, S, A, V) \
	F(u32, server)              \
	F(u8, flags)
/* A page of the chunks that are not as they should be, beginning with chunk `from`. */
#define WIRE_FSCK(F, S, A, V) \
	F(u64, from)          \
	F(u32, max_rows)
/* rows: wire_fsck_row records, each after a u32 length. next: where the next page begins, 0 at the
 * end. looked_at: chunks of this page, healthy ones included. held: see HOLD; kept_replicas of
 * kept_chunks: what servers have reported and the state does not know (at least so many). */
#define WIRE_FSCK_REPLY(F, S, A, V) \
	F(blob, rows)               \
	F(u64, next)                \
	F(u64, looked_at)           \
	F(u8, held)                 \
	F(u64, kept_replicas)       \
	F(u64, kept_chunks)
/* live: members that are up and have a good replica now. path: of one name of the file, empty when
 * none was found within bounds; index: of the chunk in the file. states: of the replicas. */
#define WIRE_FSCK_ROW(F, S, A, V) \
	F(u64, chunk)             \
	F(u32, version)           \
	F(u64, inode)             \
	F(u64, index)             \
	F(str, path)              \
	F(u8, problem)            \
	F(u8, live)               \
	F(u8, members)            \
	F(u8, copies)             \
	V(wire_replica, replicas, REPLICAS_MAX) \
	A(u8, states, REPLICAS_MAX)
enum { FSCK_REPLICA_GOOD = 1, FSCK_REPLICA_AWAY = 2, FSCK_REPLICA_DAMAGED = 3,
       FSCK_REPLICA_UNCLEAN = 4 /* to be compared with the others */ };
enum {
	FSCK_MISSING = 1,  /* no live copy: reads fail now */
	FSCK_UNDER_GOAL = 2, /* fewer live copies than wanted */
	FSCK_DAMAGED = 3,  /* enough members, one of them damaged or to be compared */
	FSCK_PENDING = 4,  /* a change of members or length is under way */
};
/* The state as it is in LevelDB: start 1 opens a stable view for this connection, later calls go
 * on; a view that is not asked for a minute is closed (ERR_STALE). ERR_BUSY: others are being
 * taken. rows: pairs of (u32 length, key), (u32 length, value), keys rising. applied, cluster: the
 * entry it is the state of, and whose state it is. */
#define WIRE_BACKUP(F, S, A, V) F(u8, start)
#define WIRE_BACKUP_REPLY(F, S, A, V) \
	F(u64, applied)               \
	F(u8, end)                    \
	F(blob, rows)                 \
	F(blob, cluster)
/* held: nothing that servers have and the state does not know is deleted. Set by an import, cleared
 * by an administrator. */
#define WIRE_HOLD(F, S, A, V) F(u8, held)

/* uuid: of the server's first disk set, made on first start; cluster: empty before the first
 * registration, or the cluster's 16 bytes. addr: where clients reach it. */
#define WIRE_CS_REGISTER(F, S, A, V) \
	F(blob, uuid)                \
	F(blob, cluster)             \
	F(str, addr)                 \
	F(str, rack)                 \
	F(str, host)
/* lease_ms: a server that has had no answer from the master for so long, counted from when it sent
 * the request that was answered last, neither serves nor acknowledges (ERR_LEASE). Shorter than
 * dead_ms. */
#define WIRE_CS_REGISTERED(F, S, A, V) \
	F(u32, server)                 \
	F(blob, cluster)               \
	F(u32, heartbeat_ms)           \
	F(u32, dead_ms)                \
	F(u32, lease_ms)
#define WIRE_CS_HEARTBEAT(F, S, A, V) \
	F(u64, total_bytes)           \
	F(u64, free_bytes)            \
	F(u64, chunks)                \
	F(u32, disks)                 \
	F(u32, disks_bad)             \
	F(u32, load) /* requests in progress */ \
	S(wire_scrub, scrub)
/* Ranges in rising order covering every id this server has; the reply lists those that differ.
 * last: no further CS_DIGEST follows. Ranges not named have no chunk here. */
#define WIRE_CS_DIGEST(F, S, A, V)                \
	F(u64, from_id)                           \
	F(u8, last)                               \
	V(wire_range, ranges, REPORT_RANGES_MAX)
#define WIRE_CS_DIGEST_REPLY(F, S, A, V) A(u64, differ, REPORT_RANGES_MAX)
/* All that this server has in one range. `have`: wire_have records, each after a u32 length. */
#define WIRE_CS_REPORT(F, S, A, V) \
	F(u64, first_id)           \
	F(blob, have)
/* Single chunks found unclean, damaged or lost while running. */
#define WIRE_CS_DAMAGE(F, S, A, V) F(blob, have)

#define CHUNK_LENGTH_KEEP UINT64_MAX
/* From version to new_version, cutting to `length` bytes unless CHUNK_LENGTH_KEEP. Done already
 * is done again harmlessly. A chunk that was never written (flags without CHUNK_WRITTEN) and is
 * absent is answered with length 0. RAISE_SETTLE: every replica was open at a crash and this one
 * counts: a block that does not verify is taken from the first of `others` on which it does, and
 * where there is none it gets the checksum of what it holds. */
#define WIRE_CHUNK_RAISE(F, S, A, V) \
	F(u64, chunk)                \
	F(u32, version)              \
	F(u32, new_version)          \
	F(u64, length)               \
	F(u8, flags)                 \
	V(wire_replica, others, REPLICAS_MAX)
/* What is here of a chunk at this version, for comparison: ERR_BUSY while it is being written. */
#define WIRE_CHUNK_CHECK(F, S, A, V) \
	F(u64, chunk)                \
	F(u32, version)
#define WIRE_CHUNK_STATE(F, S, A, V) \
	F(u8, present)               \
	F(u64, length)               \
	F(u32, digest) /* CRC32C of the checksum table */
/* Become a copy of source's replica at source_version, and be named new_version. */
#define WIRE_CHUNK_PULL(F, S, A, V)  \
	F(u64, chunk)                \
	F(u32, source_version)       \
	F(u32, new_version)          \
	S(wire_replica, source)      \
	F(u8, chunk_bits)
/* have: those to delete, wire_have records each after a u32 length; absent ones are no error. */
#define WIRE_CHUNK_DELETE(F, S, A, V) F(blob, have)

/* offset and len are block-aligned. The data follows the reply's fields. */
#define WIRE_READ(F, S, A, V) \
	F(u64, chunk)         \
	F(u32, version)       \
	F(u32, offset)        \
	F(u32, len)           \
	F(u8, flags)          \
	F(blob, token)
/* STABLE: verified under the range lock. RECOVER (between chunkservers): from a replica that was
 * open at a crash too, at `version` or the next one; only blocks that verify. */
enum { READ_STABLE = 1, READ_RECOVER = 2 };
/* sums: the stored form (common/crc.h) of each block of the data, 4 bytes little-endian each. */
#define WIRE_READ_REPLY(F, S, A, V) F(blob, sums)
/* The data follows. sums: crc_stored() of each touched block's bytes in this message. A first or
 * last block that is covered in part is merged by each replica. */
#define WIRE_WRITE(F, S, A, V) \
	F(u64, chunk)          \
	F(u32, version)        \
	F(u32, offset)         \
	F(u8, flags)           \
	F(u8, chunk_bits)      \
	F(blob, sums)          \
	F(blob, token)         \
	V(wire_replica, chain, REPLICAS_MAX) \
	F(u64, session)        \
	F(u64, seq)
/* session, seq: name this piece of a write, the same when it is sent again; the head does not apply
 * again what it remembers. 0: not remembered. */
enum { WRITE_CREATE = 1, WRITE_SYNC = 2 }; /* make the chunk if absent; sync before answering */
#define WIRE_SYNC(F, S, A, V) \
	F(u64, chunk)         \
	F(u32, version)       \
	F(blob, token)        \
	V(wire_replica, chain, REPLICAS_MAX)
#define WIRE_SUMS(F, S, A, V) \
	F(u64, chunk)         \
	F(u32, version)       \
	F(blob, token)
#define WIRE_SUMS_REPLY(F, S, A, V) \
	F(u64, length)              \
	F(blob, sums)

/* ---- the tables ---- */

/* R(record name, field list): nested records come before those that use them. */
#define WIRE_RECORDS(R)                              \
	R(wire_cred, WIRE_CRED)                      \
	R(wire_opid, WIRE_OPID)                      \
	R(wire_attr, WIRE_ATTR)                      \
	R(wire_replica, WIRE_REPLICA)                \
	R(wire_chunk, WIRE_CHUNK)                    \
	R(wire_dirent, WIRE_DIRENT)                  \
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
	R(wire_fsck, WIRE_FSCK)                      \
	R(wire_fsck_row, WIRE_FSCK_ROW)              \
	R(wire_fsck_reply, WIRE_FSCK_REPLY)          \
	R(wire_backup, WIRE_BACKUP)                  \
	R(wire_backup_reply, WIRE_BACKUP_REPLY)      \
	R(wire_hold, WIRE_HOLD)                      \
	R(wire_cs_register, WIRE_CS_REGISTER)        \
	R(wire_cs_registered, WIRE_CS_REGISTERED)    \
	R(wire_cs_heartbeat, WIRE_CS_HEARTBEAT)      \
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
	R(wire_sync, WIRE_SYNC)                      \
	R(wire_sums, WIRE_SUMS)                      \
	R(wire_sums_reply, WIRE_SUMS_REPLY)

/* M(number, NAME, request record, reply record). 0x00xx connection, 0x01xx client to master,
 * 0x02xx chunkserver to master, 0x03xx master to chunkserver, 0x04xx to a chunkserver's port. */
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
	M(0x0201, CS_REGISTER, wire_cs_register, wire_cs_registered)              \
	M(0x0202, CS_DIGEST, wire_cs_digest, wire_cs_digest_reply)                \
	M(0x0203, CS_REPORT, wire_cs_report, wire_empty)                          \
	M(0x0204, CS_READY, wire_empty, wire_empty)                               \
	M(0x0205, CS_HEARTBEAT, wire_cs_heartbeat, wire_empty)                    \
	M(0x0206, CS_DAMAGE, wire_cs_damage, wire_empty)                          \
	M(0x0301, CHUNK_RAISE, wire_chunk_raise, wire_chunk_state)                \
	M(0x0302, CHUNK_PULL, wire_chunk_pull, wire_chunk_state)                  \
	M(0x0303, CHUNK_DELETE, wire_chunk_delete, wire_empty)                    \
	M(0x0304, CHUNK_CHECK, wire_chunk_check, wire_chunk_state)                \
	M(0x0401, READ, wire_read, wire_read_reply)                               \
	M(0x0402, WRITE, wire_write, wire_empty)                                  \
	M(0x0403, SYNC, wire_sync, wire_empty)                                    \
	M(0x0404, SUMS, wire_sums, wire_sums_reply)

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
