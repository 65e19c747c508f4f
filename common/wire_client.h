/* What clients and the master say to each other: sessions, names, attributes, locations, leases,
 * locks. A part of common/wire.h, which tells the dialogue and has the tables; include that. */
#ifndef CAIRN_COMMON_WIRE_CLIENT_H
#define CAIRN_COMMON_WIRE_CLIENT_H

#define WIRE_SESSION_OPEN(F, S, A, V) \
	F(str, name)                  \
	F(u64, nonce) /* a retry of the opening finds the first session by it */ \
	F(u8, cached) /* it will attach a link and wants leases */
/* root: the directory that is the client's `/`. checked: what a kernel has checked is checked again, so
 * that requests must tell the groups of whoever asks. */
#define WIRE_SESSION(F, S, A, V) \
	F(u64, session)          \
	F(u32, ttl_ms)           \
	F(u64, root)             \
	F(blob, cluster)         \
	F(u8, checked)
#define WIRE_SESSION_REF(F, S, A, V) F(u64, session)

/* session, here and in other reads: who wants a lease with the answer; 0: nobody. access: with
 * GETATTR, ERR_ACCES unless that is permitted too: of ACCESS_. */
#define WIRE_INODE_REF(F, S, A, V) \
	S(wire_cred, cred)         \
	F(u64, inode)              \
	F(u64, session)            \
	F(u8, access)
enum { ACCESS_EXEC = 1, ACCESS_WRITE = 2, ACCESS_READ = 4 };
#define WIRE_NAME_REF(F, S, A, V) \
	S(wire_cred, cred)        \
	F(u64, parent)            \
	F(str, name)              \
	F(u64, session)
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
	SET_ACCESSED = 256, /* alone: the atime, of a read; if the clock is ahead of it */
	SET_ALL = 511,
};

#define WIRE_READDIR(F, S, A, V) \
	S(wire_cred, cred)       \
	F(u64, inode)            \
	F(u64, cookie)           \
	F(u32, max_bytes)        \
	F(u64, session)          \
	F(u8, flags)
/* NAMES: the entries are wire_name, which costs the master no inode. LEASE: R of what the entries name
 * comes too, as each of them tells (`leased`): their names are leased with the directory. */
enum { READDIR_NAMES = 1, READDIR_LEASE = 2 };
#define WIRE_READDIR_REPLY(F, S, A, V) \
	F(blob, entries)               \
	F(u8, eof)                     \
	S(wire_attr, attr) /* of the directory */

/* Makes any type of file: the type is in mode. cred.umask counts unless the directory has a default
 * access control list. */
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
	MAKE_TMPFILE = 4, /* a regular file without a name (`name` is empty), held by the session */
	MAKE_BUFFER = 8,  /* grant B of a new file */
};
/* parent, here, in UNLINK and in RENAME within one directory: as the directory is now, with
 * WIRE_LEASED_PARENT. */
#define WIRE_MAKE_REPLY(F, S, A, V) \
	S(wire_attr, attr)          \
	F(u8, existed)              \
	S(wire_chunk, chunk)        \
	S(wire_attr, parent)

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
/* attr, here and in RENAME: of what lost its last name; inode 0 if nothing did. */
#define WIRE_UNLINK_REPLY(F, S, A, V) \
	F(u64, inode)                 \
	F(u32, nlink)                 \
	S(wire_attr, attr)            \
	S(wire_attr, parent)
#define WIRE_RENAME(F, S, A, V) \
	S(wire_opid, id)        \
	S(wire_cred, cred)      \
	F(u64, parent)          \
	F(str, name)            \
	F(u64, new_parent)      \
	F(str, new_name)        \
	F(u32, flags)           \
	F(u64, hold)
enum { RENAME_F_NOREPLACE = 1, RENAME_F_EXCHANGE = 2, RENAME_F_WHITEOUT = 4 }; /* renameat2(2) */
#define WIRE_RENAME_REPLY(F, S, A, V) \
	F(u64, inode)                 \
	F(u64, replaced)              \
	F(u32, nlink) /* what names the replaced one has left */ \
	S(wire_attr, attr)            \
	S(wire_attr, parent)
#define WIRE_RELEASE(F, S, A, V) \
	S(wire_opid, id)         \
	F(u64, inode)
#define WIRE_READLINK_REPLY(F, S, A, V) \
	F(str, target)                  \
	S(wire_attr, attr)

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
	F(str, name)               \
	F(u64, session)
/* For XATTR_LIST: the names, each followed by a NUL. */
#define WIRE_XATTR_REPLY(F, S, A, V) F(blob, value)

/* Of the cluster, or of the quotas that the inode is counted in where they are tighter. */
#define WIRE_STATFS_REPLY(F, S, A, V) \
	F(u64, total_bytes)           \
	F(u64, free_bytes)            \
	F(u64, inodes)                \
	F(u64, inodes_max) /* 0: no limit */

/* Attributes and the locations of chunks first .. first+count-1, holes included. next: when the last of
 * them is a hole, the first chunk behind them that may be none, LOCATE_NO_MORE if all are; 0: not
 * told (by an older master, too). */
#define LOCATE_NO_MORE UINT64_MAX
#define WIRE_LOCATE(F, S, A, V) \
	S(wire_cred, cred)      \
	F(u64, inode)           \
	F(u64, first)           \
	F(u32, count)           \
	F(u64, session)
#define WIRE_LOCATE_REPLY(F, S, A, V) \
	S(wire_attr, attr)            \
	V(wire_chunk, chunks, CHUNKS_PER_LOCATE_MAX) \
	F(u64, next)
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
	A(u32, versions, WROTE_CHUNKS_MAX) \
	F(u8, flags)           \
	F(when, mtime)         \
	A(u64, runs, 2 * WROTE_RUNS_MAX)
/* APPEND: ERR_AGAIN unless the session has LOCK_APPEND and the file ends at `offset`; APPEND_END: gives
 * the lock back too. KEEP_SIZE: the size stays.
 * The blocks that were written are the file's own from then on: they count in `blocks`. HOLE: zeros
 * were written (or there was nothing to write to: no chunks), and the whole blocks of the range are
 * given back. SET_ASIDE: nothing was written, and all blocks of the range become the file's own.
 * HELD: these are writes of before, held back under B: ERR_LEASE when the session has lost W. `mtime` is
 * when the last of them was done, by the master's clock (LEASE_PONG): what the client has told already.
 * KEEP_TIMES: the times were set since. KEEP_PRIV: mode and owner were set since, so that set-id bits and
 * capabilities stay. runs: pairs of offset and end, in order, of what was written; none: all of it. */
enum {
	WROTE_APPEND = 1,
	WROTE_APPEND_END = 2,
	WROTE_KEEP_SIZE = 4,
	WROTE_HOLE = 8,
	WROTE_SET_ASIDE = 16,
	WROTE_HELD = 32,
	WROTE_KEEP_TIMES = 64,
	WROTE_KEEP_PRIV = 128,
};
/* A client or a chain member could not use a member of a chunk. */
#define WIRE_CHUNK_FAULT(F, S, A, V) \
	F(u64, chunk)                \
	F(u32, version)              \
	F(u32, server)               \
	F(u8, writing)               \
	F(i32, reason)               \
	F(str, text)

/* incarnation: that of the master which this client attached to last, 0: none. inodes, flags: what
 * it has open (LEASE_OPENED), sends data for at this moment (LEASE_WRITES) and holds writes of back
 * (LEASE_BUFFERS). */
#define WIRE_LEASE_ATTACH(F, S, A, V)       \
	F(u64, session)                     \
	F(u64, incarnation)                 \
	A(u64, inodes, LEASES_PER_MESSAGE_MAX) \
	A(u8, flags, LEASES_PER_MESSAGE_MAX) \
	F(u8, last)
enum { LEASE_OPENED = 1, LEASE_WRITES = 2, LEASE_BUFFERS = 4 };
#define WIRE_LEASE_ATTACHED(F, S, A, V) \
	F(u64, incarnation)             \
	F(u32, lease_ms)                \
	F(u8, lost)
/* Keeps the session and its leases. closed: open ones of the master's knowledge that are not open
 * any more. returned: their B was recalled, and nothing is held back any more. */
#define WIRE_LEASE_PING(F, S, A, V) \
	F(u64, session)             \
	A(u64, closed, LEASES_PER_MESSAGE_MAX) \
	A(u64, returned, LEASES_PER_MESSAGE_MAX)
/* now: the time at the master. full: servers have little room left: what is held back might find none. */
#define WIRE_LEASE_PONG(F, S, A, V) \
	F(u8, lost)                 \
	F(when, now)                \
	F(u8, full)
/* W for a file that exists: the answer has its attributes as they are then. buffer: B too, if nobody
 * else has W. */
#define WIRE_LEASE_WRITE(F, S, A, V) \
	F(u64, session)              \
	F(u64, inode)                \
	F(u8, buffer)                \
	S(wire_cred, cred)
/* O, for an open(2) that R does not cover. A file without a name can be opened for a while after
 * it lost its last one, and is then held until RELEASE; ERR_STALE afterwards. */
#define WIRE_LEASE_OPEN(F, S, A, V) \
	S(wire_opid, id)            \
	F(u64, inode)
/* One element of `what` for each of `inodes`: of RECALL_. The reply has one element
 * of `flags` for each, in the same order. */
#define WIRE_LEASE_RECALL(F, S, A, V)          \
	F(u64, session)                        \
	A(u64, inodes, LEASES_PER_MESSAGE_MAX) \
	A(u8, what, LEASES_PER_MESSAGE_MAX)
enum { RECALL_READ = 1, RECALL_WRITE = 2, RECALL_BUFFER = 4 };
#define WIRE_LEASE_RECALLED(F, S, A, V) A(u8, flags, LEASES_PER_MESSAGE_MAX)
enum { RECALLED_OPEN = 1, RECALLED_WRITING = 2, RECALLED_FLUSHING = 4 };

/* Locks on files, across all clients. Held by (session, owner): for LOCK_RANGE `owner` is a process
 * (fcntl) or an open file description (OFD), for LOCK_WHOLE an open file description (flock). The two
 * kinds do not see each other. start..end are the first and the last byte.
 * LOCK sets or (LOCK_FREE) gives back, as fcntl(2) does: ranges of one owner split and merge, a range
 * may change its type. granted 0: another owner's lock is in the way; of LOCK_WHOLE the old one is
 * gone then, as flock(2) has it.
 * LOCK_APPEND (owner 0) is what a session has while it appends: the answer has the file's attributes,
 * and with them where the end is. WROTE gives it back; without a WROTE what may have been written is
 * cut off as a truncation would do it, so that nothing of it comes later. */
#define WIRE_LOCK(F, S, A, V) \
	S(wire_opid, id)      \
	F(u64, inode)         \
	F(u64, owner)         \
	F(u8, kind)           \
	F(u8, type)           \
	F(u64, start)         \
	F(u64, end)           \
	F(u32, pid)           \
	S(wire_cred, cred)
enum { LOCK_RANGE = 1, LOCK_WHOLE = 2, LOCK_APPEND = 3 };
enum { LOCK_FREE = 0, LOCK_SHARED = 1, LOCK_EXCLUSIVE = 2 };
#define WIRE_LOCK_REPLY(F, S, A, V) \
	F(u8, granted)              \
	S(wire_attr, attr)
/* Answered when LOCK may succeed; or ERR_DEADLK; or ERR_AGAIN, after LOCK_TOLD_MS at the latest: ask
 * again. It changes nothing, so it may be lost or sent twice. waited_ms: since it was wanted first:
 * who waits longest is answered first. */
#define WIRE_LOCK_WAIT(F, S, A, V) \
	F(u64, session)            \
	F(u64, inode)              \
	F(u64, owner)              \
	F(u8, kind)                \
	F(u8, type)                \
	F(u64, start)              \
	F(u64, end)                \
	F(u8, flags)               \
	F(u64, waited_ms)          \
	S(wire_cred, cred)
enum { LOCK_NO_DEADLOCK = 1 }; /* OFD locks and flock take no part in the search for deadlocks */
/* The LOCK_WAIT with this request id, of this connection, is answered with ERR_INTR if it waits. */
#define WIRE_LOCK_CANCEL(F, S, A, V) F(u64, request)
/* A lock that is in the way of this one. type LOCK_FREE: none is. */
#define WIRE_LOCK_TEST(F, S, A, V) \
	F(u64, session)            \
	F(u64, inode)              \
	F(u64, owner)              \
	F(u8, kind)                \
	F(u8, type)                \
	F(u64, start)              \
	F(u64, end)                \
	S(wire_cred, cred)
#define WIRE_LOCK_STATE(F, S, A, V) \
	F(u64, session)             \
	F(u32, pid)                 \
	F(u8, type)                 \
	F(u64, start)               \
	F(u64, end)
/* All locks, a page at a time: `from` is empty or the `next` of the page before; `next` empty: the
 * end. rows: wire_lock_row records, each after a u32 length. */
#define WIRE_LOCKS(F, S, A, V) F(blob, from)
#define WIRE_LOCKS_REPLY(F, S, A, V) \
	F(blob, rows)                \
	F(blob, next)
#define WIRE_LOCK_ROW(F, S, A, V) \
	F(u64, inode)             \
	F(str, path)              \
	F(u64, session)           \
	F(str, client)            \
	F(u64, owner)             \
	F(u32, pid)               \
	F(u8, kind)               \
	F(u8, type)               \
	F(u64, start)             \
	F(u64, end)               \
	F(u8, waits) /* it is wanted, not held */

#endif
