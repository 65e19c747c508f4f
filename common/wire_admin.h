/* What administrators ask the master. A part of common/wire.h, which tells the dialogue and has the
 * tables; include that. */
#ifndef CAIRN_COMMON_WIRE_ADMIN_H
#define CAIRN_COMMON_WIRE_ADMIN_H

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
	S(wire_compare, compare)        \
	F(u64, leases) /* rights of sessions on inodes */ \
	F(u32, links) /* sessions that have one */
/* held: see HOLD. repairs, moves: raises under way to mend and to balance. queue[n]: chunks known
 * to wait for repair that have n live copies. */

/* The master's own walk over all chunks, comparing the digests of the replicas of each. */
#define WIRE_COMPARE(F, S, A, V) \
	F(u64, compared)         \
	F(u64, total)            \
	F(u64, differed)         \
	F(u64, rounds)           \
	F(when, ended)

/* An administrator takes a server off the list: one that was drained or is lost for good. ERR_BUSY
 * while it runs, or chunks are to have a copy there. If it comes back all the same, it is new. */
#define WIRE_SERVER_REMOVE(F, S, A, V) F(u32, server)
/* An administrator sets what is wanted of a server; SERVER_DRAINING of master/schema.h. */
enum { SERVER_DRAINING = 1 };
#define WIRE_SERVER_SET(F, S, A, V) \
	F(u32, server)              \
	F(u8, flags)
/* Limits of what may lie in a directory: bytes of blocks, inodes (0: none); QUOTA_REMOVE: the directory
 * has none any more. What is in it already is counted by QUOTA_COUNT: names in a directory that is
 * counted itself are counted with it; so for all directories from the top down. What is made
 * meanwhile is counted where it is made. */
#define WIRE_QUOTA_SET(F, S, A, V) \
	F(u64, inode)              \
	F(u64, bytes_max)          \
	F(u64, inodes_max)         \
	F(u8, flags)
enum { QUOTA_REMOVE = 1 };
enum { QUOTA_COUNT_MAX = 256 };
#define WIRE_QUOTA_COUNT(F, S, A, V) \
	F(u64, parent)               \
	A(str, names, QUOTA_COUNT_MAX)
/* inode: of a quota's directory or of anything that is counted in one; 0: all quotas, from id `from`
 * on. rows: wire_quota records, each after a u32 length; of an inode the innermost one first, then
 * those around it. next: where the next page begins, 0 at the end. */
#define WIRE_QUOTAS(F, S, A, V) \
	F(u64, inode)           \
	F(u32, from)
#define WIRE_QUOTAS_REPLY(F, S, A, V) \
	F(blob, rows)                 \
	F(u32, next)
#define WIRE_QUOTA(F, S, A, V) \
	F(u32, id)             \
	F(u64, inode) /* 0: it is being removed */ \
	F(str, path)           \
	F(u64, bytes_max)      \
	F(u64, inodes_max)     \
	F(u64, bytes)          \
	F(u64, inodes)
/* Makes, changes or (REMOVE) removes an export: the directory that certificates for `name` see as all
 * there is. It must have a quota, by which is known what lies in it. uid, gid: who root is (ROOT_SQUASH),
 * or everybody (ALL_SQUASH). sessions_max at once and rate_max requests a second, of all its clients
 * together; 0: no limit. */
#define WIRE_EXPORT_SET(F, S, A, V) \
	F(str, name)                \
	F(u64, inode)               \
	F(u8, flags)                \
	F(u32, uid)                 \
	F(u32, gid)                 \
	F(u32, sessions_max)        \
	F(u32, rate_max)
enum { EXPORT_READ_ONLY = 1, EXPORT_ROOT_SQUASH = 2, EXPORT_ALL_SQUASH = 4, EXPORT_REMOVE = 128 };
/* From name `from` on. rows: wire_export records, each after a u32 length. next: where the next page
 * begins, empty at the end. */
#define WIRE_EXPORTS(F, S, A, V) F(str, from)
#define WIRE_EXPORTS_REPLY(F, S, A, V) \
	F(blob, rows)                  \
	F(str, next)
#define WIRE_EXPORT(F, S, A, V) \
	F(str, name)            \
	F(u64, inode)           \
	F(str, path) /* empty: the directory is gone */ \
	F(u8, flags)            \
	F(u32, uid)             \
	F(u32, gid)             \
	F(u32, sessions_max)    \
	F(u32, rate_max)        \
	F(u32, sessions)
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
	FSCK_DAMAGED = 3,  /* enough members, one of them damaged */
	FSCK_PENDING = 4,  /* a change of members or length is under way */
	FSCK_UNCLEAN = 5,  /* enough members, none damaged, one to be compared with the others */
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

#endif
