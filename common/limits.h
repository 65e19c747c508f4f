/* Every limit of Cairn, in one place, checked against each other at compile time.
 * A value is checked where it is written and where it is read. */
#ifndef CAIRN_COMMON_LIMITS_H
#define CAIRN_COMMON_LIMITS_H

#include <assert.h>

enum {
	/* Namespace (POSIX and Linux limits). */
	NAME_BYTES_MAX = 255,
	SYMLINK_BYTES_MAX = 4095,
	XATTR_NAME_BYTES_MAX = 255,
	XATTR_VALUE_BYTES_MAX = 65536,
	XATTR_LIST_BYTES_MAX = 65536,
	NLINK_MAX = 1000000,
	GROUPS_MAX = 64,

	/* Chunks. */
	BLOCK_BYTES = 4096, /* unit of the checksum */
	BLOCK_BITS = 12,
	CHUNK_BITS_MIN = 16,
	CHUNK_BITS_MAX = 26,
	CHUNK_BITS_DEFAULT = 26, /* 64 MiB */
	REPLICAS_MAX = 8,
	WROTE_RUNS_MAX = 128,  /* ranges of a file that one WROTE tells of, at most */
	WROTE_CHUNKS_MAX = 64, /* written to by one write(2) of a client, at most */

	/* Messages. */
	FIELDS_BYTES_MAX = 1 << 20, /* fields section of a message */
	DATA_BYTES_MAX = 1 << 20,   /* raw data that follows: one read or write piece */
	AUTH_FIELDS_BYTES_MAX = 1024, /* before a peer is authenticated */
	SUMS_BYTES_MAX = (1 << (CHUNK_BITS_MAX - BLOCK_BITS)) * 4,
	ADDR_BYTES_MAX = 128,
	TOKEN_BYTES_MAX = 128, /* access tokens of chunks */
	TEXT_BYTES_MAX = 512, /* error texts, rack and host names */
	CHUNKS_PER_LOCATE_MAX = 32,
	READDIR_BYTES_MAX = 256 << 10,
	REPORT_ENTRIES_MAX = 16384,
	DISKS_MAX = 64,

	/* Master: what one command may touch, what one session may have unanswered. */
	COMMAND_KEYS_MAX = 1000,
	COMMAND_BYTES_MAX = 1 << 20, /* one raft entry must fit a segment */
	CHUNKS_FREED_MAX = 32,       /* by one command; more is left to a reclaim record */
	XATTRS_MAX = 256,            /* of one inode */
	SESSION_WINDOW_MAX = 4096,
	CHUNKSERVERS_MAX = 4096,
	LEASES_PER_MESSAGE_MAX = 256,
	LOCK_RANGES_MAX = 2048, /* of one owner in one file */

	KEY_BYTES_MIN = 16, /* of the cluster's shared key */
	KEY_BYTES_MAX = 256,
};

/* The kernel's largest offset, and so ours. */
#define FILE_BYTES_MAX ((1ULL << 63) - 1)

static_assert(1 << BLOCK_BITS == BLOCK_BYTES, "block size");
static_assert(DATA_BYTES_MAX % BLOCK_BYTES == 0, "a piece is whole blocks");
static_assert(SUMS_BYTES_MAX <= FIELDS_BYTES_MAX / 2, "a checksum table fits a message");
static_assert(READDIR_BYTES_MAX <= FIELDS_BYTES_MAX / 2, "a directory page fits a message");
static_assert(XATTR_VALUE_BYTES_MAX <= FIELDS_BYTES_MAX / 2, "an xattr fits a message");
/* A chunk that goes: its row, the file's row, two index rows, and for each member an `s` and a `g`
 * row. Beside them: a file's attributes, 64 old answers and a few rows. */
static_assert(CHUNKS_FREED_MAX * (4 + 2 * REPLICAS_MAX) + XATTRS_MAX + 100 <= COMMAND_KEYS_MAX,
	      "a removed file fits one command");

#endif
