/* What chunkservers say to the master, to each other and to clients. A part of common/wire.h, which
 * tells the dialogue and has the tables; include that. */
#ifndef CAIRN_COMMON_WIRE_CS_H
#define CAIRN_COMMON_WIRE_CS_H

/* uuid: of the server's first disk set, made on first start; cluster: empty before the first
 * registration, or the cluster's 16 bytes. addr: where clients reach it. */
#define WIRE_CS_REGISTER(F, S, A, V) \
	F(blob, uuid)                \
	F(blob, cluster)             \
	F(str, addr)                 \
	F(str, rack)                 \
	F(str, host)
/* A key of access tokens (common/token.h), made age_ms ago. */
#define WIRE_TOKEN_KEY(F, S, A, V) \
	F(u64, number)             \
	F(u64, age_ms)             \
	F(blob, secret)
enum { WIRE_TOKEN_KEYS_MAX = 3 };
/* lease_ms: a server that has had no answer from the master for so long, counted from when it sent
 * the request that was answered last, neither serves nor acknowledges (ERR_LEASE). Shorter than
 * dead_ms. */
#define WIRE_CS_REGISTERED(F, S, A, V) \
	F(u32, server)                 \
	F(blob, cluster)               \
	F(u32, heartbeat_ms)           \
	F(u32, dead_ms)                \
	F(u32, lease_ms)               \
	V(wire_token_key, keys, WIRE_TOKEN_KEYS_MAX)
/* tells: `working` has the ids of all CHUNK_PULLs and CHUNK_DELETEs that are in hand here. One that the
 * master has asked for and that is not among them in three heartbeats was lost, or its answer was. */
enum { WORKING_MAX = 256, HEARTBEATS_UNTIL_LOST = 3 };
#define WIRE_CS_HEARTBEAT(F, S, A, V) \
	F(u64, total_bytes)           \
	F(u64, free_bytes)            \
	F(u64, chunks)                \
	F(u32, disks)                 \
	F(u32, disks_bad)             \
	F(u32, load) /* requests in progress */ \
	S(wire_scrub, scrub)          \
	F(u8, tells)                  \
	A(u64, working, WORKING_MAX)  \
	F(u64, refused) /* requests for want of a valid access token, since it started */
/* The keys of access tokens that clients may come with now or soon. */
#define WIRE_CS_BEAT(F, S, A, V) V(wire_token_key, keys, WIRE_TOKEN_KEYS_MAX)
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
	F(u32, digest) /* CRC32C of the checksum table */ \
	F(u8, lossy) /* of a raise: unsynced bytes may be gone; said until it is confirmed */
/* Become a copy of source's replica at source_version, and be named new_version. lossy: so was the
 * source, in the raise to new_version that this belongs to; the copy says so too, as long as that
 * is not confirmed. */
#define WIRE_CHUNK_PULL(F, S, A, V)  \
	F(u64, chunk)                \
	F(u32, source_version)       \
	F(u32, new_version)          \
	S(wire_replica, source)      \
	F(u8, chunk_bits)            \
	F(u8, lossy)
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
/* As a WRITE `to` the head without data and sums, of `len` bytes that the head reads itself, from its
 * own replica of another chunk (or another part of the same) or from one of `from`, verified. On
 * it goes as WRITEs, so every replica gets the same bytes. ERR_SOURCE: they cannot be had there. */
#define WIRE_COPY(F, S, A, V) \
	S(wire_write, to)     \
	F(u32, len)           \
	F(u64, source)        \
	F(u32, source_version) \
	F(u32, source_offset) \
	F(blob, source_token) \
	V(wire_replica, from, REPLICAS_MAX)
#define WIRE_SYNC(F, S, A, V) \
	F(u64, chunk)         \
	F(u32, version)       \
	F(blob, token)        \
	V(wire_replica, chain, REPLICAS_MAX)
#define WIRE_SUMS(F, S, A, V) \
	F(u64, chunk)         \
	F(u32, version)       \
	F(blob, token)
/* hidden: a bit for each block, or empty: its checksum is that of zeros, and yet it is not zeros. */
#define WIRE_SUMS_REPLY(F, S, A, V) \
	F(u64, length)              \
	F(blob, sums)               \
	F(blob, hidden)

#endif
