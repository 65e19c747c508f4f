/* The master's state: every LevelDB key and value.
 *
 * Keys begin with a one-byte type and go on with big-endian integers, so that what is read
 * together lies together. Values are records (common/record.h): a newer build may add fields at
 * the end of one, an older one skips them.
 *
 *     M                          meta           counters, applied index, cluster identity
 *     P policy:4                 policy         how many copies
 *     i inode:8                  inode          attributes; the target of a symlink
 *     d parent:8 hash:8          dentries       names whose keyed hash this is (nearly always one)
 *     c inode:8 index:8          file_chunk     the chunk at this index of the file
 *     k chunk:8                  chunk          version, members in chain order, marks
 *     s server:4 chunk:8         on_server      the version this server should have
 *     u copies:1 chunk:8         empty          fewer members than the goal: the repair queue
 *     p chunk:8                  empty          a version raise is pending
 *     g server:4 chunk:8         on_server      to be deleted from this server
 *     x inode:8 name             bytes          extended attribute
 *     S session:8                session
 *     N nonce:8                  session_ref    the session that this opening made
 *     r session:8 seq:8          reply          first answer of a mutation
 *     o session:8 inode:8        empty          unlinked, held open by this session
 *     o 0:8 inode:8              linger         unlinked, for others about to open it
 *     l inode:8 session:8 owner:8 kind:1   lock   what one owner has locked of a file
 *     y session:8 inode:8 owner:8 kind:1   empty  the same, to be found by session
 *     R inode:8                  reclaim        a removed file whose chunks are being freed
 *     q quota:4                  quota          limits of a directory and what is used of them
 *     e name                     export         a directory that some certificates see as all there is
 *     v server:4                 server
 *     V uuid:16                  server_ref
 *
 * Invariants (checked by schema_check in tests, and by the simulation)
 *  1. A dentry's inode exists; an inode's nlink is the number of dentries naming it (files), or
 *     2 + the number of its sub-directories; an inode with nlink 0 has an `o` row.
 *  2. `c` rows name existing chunks, or no chunk and then blocks that are set aside; a chunk's refs is
 *     the number of `c` rows naming it; a chunk with refs 0 has no row.
 *  3. `s` rows are exactly the (member, chunk) pairs of all chunk rows, with the chunk's version
 *     (while a raise is pending: the old version).
 *  4. A chunk has a `u` row exactly when it has fewer members than its policy's copies, keyed by
 *     that number; a `p` row exactly when pending_version != 0, which is then version + 1.
 *  5. Versions never fall; inode, chunk, session and server ids are never reused.
 *  6. A written chunk keeps at least one member: the last one is never dropped.
 *  7. A (server, chunk) pair is never in both `s` and `g`.
 *  8. meta.applied is the index of the last raft entry applied, in the same batch as its effects.
 *  9. `l` and `y` rows are pairs, of sessions that exist; an owner's ranges rise, do not touch when
 *     they are of one type, and none conflicts with another owner's.
 * 10. An inode's blocks are those of its `c` rows, added up.
 * 11. What a quota has used is the inodes, and their blocks, whose `project` it is or is below it; a
 *     quota that has used nothing has no row; a directory that a quota names has it as its project.
 * 12. An export's directory has a quota of its own, unless it is gone.
 */
#ifndef CAIRN_MASTER_SCHEMA_H
#define CAIRN_MASTER_SCHEMA_H

#include "common/identity.h"
#include "common/wire.h"

enum {
	KEY_META = 'M', KEY_POLICY = 'P', KEY_INODE = 'i', KEY_DENTRY = 'd', KEY_FILE_CHUNK = 'c',
	KEY_CHUNK = 'k', KEY_ON_SERVER = 's', KEY_UNDER_GOAL = 'u', KEY_PENDING = 'p',
	KEY_GARBAGE = 'g', KEY_XATTR = 'x', KEY_SESSION = 'S', KEY_NONCE = 'N', KEY_REPLY = 'r',
	KEY_LOCK = 'l', KEY_SESSION_LOCK = 'y', KEY_HELD = 'o', KEY_RECLAIM = 'R',
	KEY_SERVER = 'v', KEY_SERVER_UUID = 'V', KEY_QUOTA = 'q', KEY_EXPORT = 'e',
};

enum {
	ROOT_INODE = 1,
	/* Feature level: what apply does follows meta.level. A program opens states of its own level and
	 * older ones. Fields added at the end of a row read as zero in older states, but a program that
	 * does not know them leaves them out of what it writes: from the first release on, whatever an
	 * older program would lose or get wrong raises the level. */
	SCHEMA_LEVEL = 1,
	DENTRIES_PER_HASH_MAX = 8,
	HASH_KEY_BYTES = 16,
	SPACE_MAP_BYTES_MAX = 1 << (CHUNK_BITS_MAX - BLOCK_BITS - 3),
	UUID_BYTES = 16,
	CHUNK_RESTORED = 128, /* of row_chunk.flags, in the state only */
	COOKIE_FIRST = 3, /* smaller readdir cookies: 0 start, 1 ".", 2 ".." */
	SCHEMA_KEY_BYTES_MAX = 9 + XATTR_NAME_BYTES_MAX,
};

#define ROW_META(F, S, A, V)                                              \
	F(u32, level)                                                     \
	F(u64, applied)                                                   \
	F(when, time) /* the latest time any command carried */           \
	F(blob, cluster) /* UUID_BYTES */                                 \
	F(blob, hash_key) /* HASH_KEY_BYTES, of the dentry hash */        \
	F(u64, next_inode)                                                \
	F(u64, next_chunk)                                                \
	F(u64, next_session)                                              \
	F(u32, next_server)                                               \
	F(u64, inodes)                                                    \
	F(u64, chunks)                                                    \
	F(u64, under_goal)                                                \
	F(u64, pending)                                                   \
	F(u64, garbage)                                                   \
	F(u32, sessions)                                                  \
	F(u8, held) /* imported: what the state does not know is kept (HOLD) */ \
	F(u32, next_quota) /* 0: as 1 */
#define ROW_POLICY(F, S, A, V) F(u32, copies)
/* change: grows by one with every change of attributes or data. parent: directories: the `..`;
 * others: the directory of the first name (a hint for naming files in reports). project: the innermost
 * quota that it is counted in, 0: none. */
#define ROW_INODE(F, S, A, V) \
	F(u32, mode)          \
	F(u32, nlink)         \
	F(u32, uid)           \
	F(u32, gid)           \
	F(u64, rdev)          \
	F(u64, size)          \
	F(when, atime)        \
	F(when, mtime)        \
	F(when, ctime)        \
	F(when, btime)        \
	F(u64, change)        \
	F(u64, parent)        \
	F(u32, project)       \
	F(u32, policy)        \
	F(u8, chunk_bits)     \
	F(str, target)        \
	F(u64, blocks) /* of BLOCK_BYTES, its own: what st_blocks tells */ \
	F(u8, bare)    /* it never had an extended attribute, so nobody need ask for one */
#define ROW_DENTRY(F, S, A, V) \
	F(str, name)           \
	F(u64, inode)          \
	F(u32, type) /* the S_IFMT bits */
#define ROW_DENTRIES(F, S, A, V) V(row_dentry, entries, DENTRIES_PER_HASH_MAX)
/* solid, map: which blocks of this part of the file are its own: the first `solid`, and those with a
 * bit in map (bit 0: the first block; none below `solid`; no zero bytes at its end). chunk 0: blocks
 * were set aside (fallocate) and nothing was written yet. */
#define ROW_FILE_CHUNK(F, S, A, V) \
	F(u64, chunk)              \
	F(u32, solid)              \
	F(blob, map)
#define ROW_MEMBER(F, S, A, V) \
	F(u32, server)         \
	F(u8, part)
/* inode, index: the file it was made for (a hint for reports). cut: the length of a pending
 * truncation, CHUNK_LENGTH_KEEP for none. CHUNK_RESTORED: imported, no raise was begun since; a
 * replica of a higher version is of the time after the backup and may be taken over (CHUNK_ADOPT).
 * joining: servers that a pending raise adds: they hold no valid replica before it is confirmed. */
#define ROW_CHUNK(F, S, A, V)                     \
	F(u32, version)                           \
	F(u8, flags) /* CHUNK_WRITTEN, CHUNK_RESTORED */ \
	F(u32, refs)                              \
	F(u32, policy)                            \
	F(u8, chunk_bits)                         \
	F(u64, inode)                             \
	F(u64, index)                             \
	F(u32, pending_version)                   \
	F(u64, cut)                               \
	V(row_member, members, REPLICAS_MAX)      \
	V(row_member, joining, REPLICAS_MAX)      \
	F(u32, settled) /* as in wire_chunk: <= version */
/* not_before: of a `g` row: it is not deleted earlier. */
#define ROW_ON_SERVER(F, S, A, V) \
	F(u32, version)           \
	F(when, not_before)
#define ROW_SESSION(F, S, A, V) \
	F(str, name)            \
	F(u64, nonce)           \
	F(u64, floor) /* replies below it are forgotten: there is no `r` row */ \
	F(u8, closing) /* its operations are refused */ \
	F(u8, cached) /* it attaches a link: waited for after a restart */ \
	F(str, credential) /* "role/name" of the certificate that it belongs to; empty: of whoever has the key */ \
	F(str, export) /* that the certificate is for; empty: for all */
#define ROW_LINGER(F, S, A, V) F(when, since)
#define ROW_SESSION_REF(F, S, A, V) F(u64, session)
/* status 0: fields is the encoded reply record; else fields is the error text. */
#define ROW_REPLY(F, S, A, V) \
	F(i32, status)        \
	F(blob, fields)
#define ROW_RECLAIM(F, S, A, V) F(u64, from_index)
#define ROW_SERVER(F, S, A, V) \
	F(blob, uuid)          \
	F(str, addr)           \
	F(str, rack)           \
	F(str, host)           \
	F(u8, flags) /* SERVER_DRAINING: empty it, place nothing there */ \
	F(str, holder) /* the name in the certificate that it registers with; "": none yet */
/* ranges: of LOCK_RANGE_BYTES each, see master/lock.h; never none. pid: who set it last. */
#define ROW_LOCK(F, S, A, V) \
	F(u32, pid)          \
	F(blob, ranges)
#define ROW_SERVER_REF(F, S, A, V) F(u32, server)
/* inode: the directory, 0: it is gone, or the quota was removed, and what was counted in it is not all
 * counted elsewhere yet. parent: the quota around it, 0: none. bytes_max, inodes_max: 0: no limit. */
#define ROW_QUOTA(F, S, A, V) \
	F(u64, inode)         \
	F(u32, parent)        \
	F(u64, bytes_max)     \
	F(u64, inodes_max)    \
	F(u64, blocks)        \
	F(u64, inodes)

/* As in wire_export_set. */
#define ROW_EXPORT(F, S, A, V) \
	F(u64, inode)          \
	F(u8, flags)           \
	F(u32, uid)            \
	F(u32, gid)            \
	F(u32, sessions_max)   \
	F(u32, rate_max)

#define SCHEMA_RECORDS(R)                    \
	R(row_meta, ROW_META)                \
	R(row_policy, ROW_POLICY)            \
	R(row_inode, ROW_INODE)              \
	R(row_dentry, ROW_DENTRY)            \
	R(row_dentries, ROW_DENTRIES)        \
	R(row_file_chunk, ROW_FILE_CHUNK)    \
	R(row_member, ROW_MEMBER)            \
	R(row_chunk, ROW_CHUNK)              \
	R(row_on_server, ROW_ON_SERVER)      \
	R(row_session, ROW_SESSION)          \
	R(row_linger, ROW_LINGER)            \
	R(row_session_ref, ROW_SESSION_REF)  \
	R(row_reply, ROW_REPLY)              \
	R(row_reclaim, ROW_RECLAIM)          \
	R(row_server, ROW_SERVER)            \
	R(row_server_ref, ROW_SERVER_REF)    \
	R(row_quota, ROW_QUOTA)              \
	R(row_export, ROW_EXPORT)            \
	R(row_lock, ROW_LOCK)
SCHEMA_RECORDS(RECORD_DECLARE)

/* A key built on the stack. */
struct key {
	uint8_t bytes[SCHEMA_KEY_BYTES_MAX];
	uint32_t len;
};
static inline struct slice key_slice(const struct key *k)
{
	return slice_of(k->bytes, k->len);
}

struct key key_meta(void);
struct key key_policy(uint32_t policy);
struct key key_inode(uint64_t inode);
struct key key_dentry(uint64_t parent, uint64_t hash);
struct key key_file_chunk(uint64_t inode, uint64_t index);
struct key key_chunk(uint64_t chunk);
struct key key_on_server(uint32_t server, uint64_t chunk);
struct key key_under_goal(uint8_t copies, uint64_t chunk);
struct key key_pending(uint64_t chunk);
struct key key_garbage(uint32_t server, uint64_t chunk);
struct key key_xattr(uint64_t inode, struct slice name); /* name.len <= XATTR_NAME_BYTES_MAX */
struct key key_session(uint64_t session);
struct key key_nonce(uint64_t nonce);
struct key key_reply(uint64_t session, uint64_t seq);
struct key key_held(uint64_t session, uint64_t inode);
struct key key_lock(uint64_t inode, uint64_t session, uint64_t owner, uint8_t kind);
struct key key_session_lock(uint64_t session, uint64_t inode, uint64_t owner, uint8_t kind);
struct key key_reclaim(uint64_t inode);
struct key key_server(uint32_t server);
struct key key_quota(uint32_t quota);
struct key key_export(struct slice name); /* name.len < IDENTITY_NAME_BYTES */
struct key key_server_uuid(const uint8_t uuid[UUID_BYTES]);
/* The first n bytes of a key: the prefix of a range. key_prefix(key_dentry(p, 0), 9): all of p. */
struct key key_prefix(struct key k, uint32_t n);

/* The keyed 63-bit hash of a name, which is also its readdir cookie: COOKIE_FIRST .. 2^63-1.
 * SipHash-2-4 (Aumasson, Bernstein 2012) by OpenSSL. */
int schema_name_hash(const uint8_t key[HASH_KEY_BYTES], struct slice name, uint64_t *ret);

/* ERR_VERSION: the state, called `what` in the text, is of a newer program. */
int schema_level_check(const struct row_meta *meta, const char *what, struct err *err);

/* One row as a line of text, any type; for dumps, errors and tests. */
void schema_row_text(struct buf *b, struct slice key, struct slice value);

#endif
