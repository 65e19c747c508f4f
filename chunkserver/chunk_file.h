/* One chunk file: block-checksummed reading, writing and cutting (format.h).
 *
 * All file work goes through struct io. A chunk_file has no state that changes, so several
 * threads may use one; the caller (store.h) sees to it that writes to one block do not overlap
 * and that nothing else runs during chunk_file_truncate. Error texts name the chunk and the
 * block. */
#ifndef CAIRN_CHUNKSERVER_CHUNK_FILE_H
#define CAIRN_CHUNKSERVER_CHUNK_FILE_H

#include "chunkserver/format.h"
#include "common/io.h"

enum {
	/* Blocks that one message can touch: a piece that begins and ends inside a block. */
	PIECE_BLOCKS_MAX = DATA_BYTES_MAX / BLOCK_BYTES + 1,
	PIECE_BYTES_MAX = PIECE_BLOCKS_MAX * BLOCK_BYTES,
};

struct chunk_file {
	const struct io *io;
	int fd;
	uint64_t chunk;
	uint8_t chunk_bits;
	uint32_t data_offset;
};

static inline uint32_t chunk_file_blocks_max(const struct chunk_file *f)
{
	return 1u << (f->chunk_bits - BLOCK_BITS);
}

/* Makes a new file (ERR_EXIST if it is there) with its header; removes it again on failure. */
int chunk_file_create(const struct io *io, const char *path, uint64_t chunk, uint8_t chunk_bits,
		      struct chunk_file *ret, struct err *err);
/* The first n bytes of a chunk's file: ERR_CORRUPT when the header does not verify or names another
 * chunk, ERR_VERSION for an unknown format. */
int chunk_file_header(const uint8_t *header, size_t n, uint64_t chunk, struct format_header *ret,
		      struct err *err);
/* Errors as chunk_file_header, or of the file. */
int chunk_file_open(const struct io *io, const char *path, uint64_t chunk,
		    struct chunk_file *ret, struct err *err);
/* Gives a file its header when a power loss has left it none (zeros, or no file at all); what else
 * is there stays. ERR_CORRUPT when there is another header. */
int chunk_file_renew(const struct io *io, const char *path, uint64_t chunk, uint8_t chunk_bits,
		     struct err *err);
void chunk_file_close(struct chunk_file *f);

/* Bytes of data: whole blocks. */
int chunk_file_length(const struct chunk_file *f, uint64_t *ret, struct err *err);
/* The checksums of blocks first .. first+n-1, 4 bytes each; the blocks must be in the table. */
int chunk_file_sums(const struct chunk_file *f, uint32_t first, uint32_t n, uint8_t *ret,
		    struct err *err);
/* Of the first n blocks, whose checksums these are: which have the checksum of zeros and hold
 * something else. A bit each, in ret (CHUNK_HIDDEN_BYTES). 1 when there is any, 0. */
enum { CHUNK_HIDDEN_BYTES = 1 << (CHUNK_BITS_MAX - BLOCK_BITS - 3) };
int chunk_file_hidden(const struct chunk_file *f, uint32_t n, const uint8_t *sums, uint8_t *ret,
		      struct err *err);
/* CRC32C of the whole checksum table. */
int chunk_file_digest(const struct chunk_file *f, uint32_t *ret, struct err *err);

/* Writes bytes offset .. offset+len-1. `blocks` begins at the border of the block that `offset`
 * is in, holds the bytes at their place, and has room up to the end of the last block: the rest
 * of the first and last block is filled in from the file. `sums` are those of the message and
 * were verified. ERR_CHECKSUM: an old block to be merged does not verify, nothing was written.
 * After other failures each block is either old or new and verifies, unless *ret_torn. */
int chunk_file_write(const struct chunk_file *f, uint8_t *blocks, uint32_t offset, uint32_t len,
		     const uint8_t *sums, bool *ret_torn, struct err *err);
/* Reads whole blocks (offset and len are aligned) and verifies them: *ret_len bytes of data and
 * a checksum for each block; less than len at the end of the file. ERR_CHECKSUM. */
int chunk_file_read(const struct chunk_file *f, uint32_t offset, uint32_t len, uint8_t *data,
		    uint8_t *sums, size_t *ret_len, struct err *err);
/* Cuts to `length` bytes if it is longer; syncs. May be repeated after a crash at any point. A
 * partial last block that does not verify is cut too, and still does not verify. */
int chunk_file_truncate(const struct chunk_file *f, uint64_t length, struct err *err);
/* Reads all blocks; *ret_bad: how many do not verify, err then names the first. */
int chunk_file_verify(const struct chunk_file *f, uint32_t *ret_bad, struct err *err);
int chunk_file_sync(const struct chunk_file *f, struct err *err);

#endif
