/* Backup files: the whole metadata of a cluster, portable.
 *
 * Written by cairn-master --export and by `cairn backup`, read by cairn-master --import. What the
 * rows mean is said in master/schema.h; here they are keys and values.
 *
 * All integers are little-endian. A file is a header, blocks of rows, and an end:
 *
 *     header    0  8 bytes       "CRNBKUP1"
 *               8  u32           format version, BACKUP_VERSION
 *              12  16 bytes      the cluster's id
 *              28  u64           applied: the log entry that this is the state after
 *              36  u32           CRC32C of bytes 0..35
 *     block     0  u32           BACKUP_ROWS
 *               4  u32           bytes of rows, <= BACKUP_BLOCK_BYTES_MAX
 *               8  rows          each: u32 length, key, u32 length, value; keys rise
 *                  u32           CRC32C of all of the block before it
 *     end       0  u32           BACKUP_END
 *               4  u32           8
 *               8  u64           the number of rows
 *                  u32           CRC32C as above
 *
 * Nothing follows the end. So a file that was cut, lost a block, or has a flipped bit is refused.
 * Not thread-safe.
 */
#ifndef CAIRN_COMMON_BACKUP_H
#define CAIRN_COMMON_BACKUP_H

#include <stdio.h>

#include "common/buf.h"
#include "common/err.h"

enum {
	BACKUP_VERSION = 1,
	BACKUP_CLUSTER_BYTES = 16,
	BACKUP_HEADER_BYTES = 40,
	BACKUP_ROWS = 1,
	BACKUP_END = 2,
	BACKUP_BLOCK_BYTES = 256 << 10, /* a writer ends a block above it */
	BACKUP_BLOCK_BYTES_MAX = 4 << 20,
};

struct backup_info {
	uint8_t cluster[BACKUP_CLUSTER_BYTES];
	uint64_t applied;
	uint64_t rows;	/* so far */
	uint64_t bytes; /* of keys and values so far */
};

/* ---- writing ---- */

/* Zero: nothing is open. */
struct backup_writer {
	FILE *file;
	char *path; /* NULL: the file is the caller's */
	struct buf block, last_key;
	struct backup_info info;
};

/* Writes to a stream of the caller. info: cluster and applied are taken. */
int backup_create_stream(struct backup_writer *w, FILE *file, const struct backup_info *info,
			 struct err *err);
/* Begins PATH.new, or writes to standard output for "-". */
int backup_create(struct backup_writer *w, const char *path, const struct backup_info *info,
		  struct err *err);
/* Keys must rise: ERR_CORRUPT otherwise. */
int backup_put(struct backup_writer *w, struct slice key, struct slice value, struct err *err);
/* The end. A file is on stable storage under its name when this returns 0; a stream is flushed. */
int backup_finish(struct backup_writer *w, struct err *err);
/* Removes what was not finished. Any state. */
void backup_release(struct backup_writer *w);

/* ---- reading ---- */

struct backup_reader {
	FILE *file; /* not owned */
	struct buf block, last_key;
	struct cursor rows; /* of the block */
	bool ended;
	struct backup_info info;
};

/* Reads the header. ERR_CORRUPT: not a backup, or a damaged one; ERR_VERSION: of a later format. */
int backup_read_open(struct backup_reader *r, FILE *file, struct err *err);
/* 1 and a row (slices good until the next call); 0: the end was reached and the file is whole;
 * ERR_CORRUPT, ERR_IO or ERR_NOMEM. */
int backup_read(struct backup_reader *r, struct slice *ret_key, struct slice *ret_value,
		struct err *err);
void backup_read_release(struct backup_reader *r);

#endif
