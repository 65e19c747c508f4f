/* The chunkserver's on-disk format.
 *
 * A disk is a directory:
 *     DIR/cairn-disk            identity: text, see below
 *     DIR/lock                  flock(2)ed while a chunkserver uses the disk
 *     DIR/journal               names the chunks open for writing since their last sync
 *     DIR/scrub                 how far the scrubber is: a hint
 *     DIR/chunks/XX/ID.VERSION  the chunks: XX is the id's low byte, ID 16 and VERSION 8 hex digits
 *     DIR/chunks/XX/ID.VERSION.N.new   a copy being pulled; deleted at start-up
 * The version is in the name, so that start-up reads directories, not headers; of two versions
 * of one chunk after a crash the higher counts and the lower is deleted.
 *
 * A chunk file, little-endian:
 *     0      header (FORMAT_HEADER_BYTES):
 *            0  u32 magic "CRNK"     4 u16 format version  6 u16 header bytes
 *            8  u64 chunk id        16 u32 block bytes    20 u32 data offset
 *            24 u64 incompatible features                 32 u64 compatible features
 *            40 u8  chunk bits      41 zeros
 *            64 FORMAT_WRITERS_BYTES reserved: the table of recent writers (exactly-once of
 *               head-ordered writes); zeros now
 *           508 u32 CRC32C of bytes 0..507
 *     512    checksum table: u32 for each block of the chunk's maximal size, the stored form of
 *            common/crc.h; so a block never written has 0, and that verifies as zeros
 *     data offset = the end of the table rounded up to 4096: the data, always whole blocks; a
 *            partial last block is padded with zeros
 * So the header and the first 896 checksums (3.5 MiB of data) share one page; a small chunk
 * costs that page and its data.
 *
 * Identity file: lines "cluster=<32 hex>", "server=<32 hex>", "disk=<32 hex>"; all disks of one
 * chunkserver have one server id. A disk of another cluster is refused.
 *
 * Journal: records of JOURNAL_RECORD_BYTES: u32 CRC32C of the rest, u32 kind (1 open, 2 clean
 * stop, 3 life), then of an open chunk u64 chunk id, u32 version, u8 chunk bits, u8 lossy, zeros to
 * 24, u32 told; of a life its IO_LIFE_BYTES. It is appended to, synced, and begun anew when all its
 * chunks are synced. A record that does not verify ends it.
 * Its first record is the life of the page cache (common/io.h) in which it was begun. Whoever reads
 * it in the same life has lost no byte of what it names, only what was being done. In another life
 * unsynced bytes may be gone: these replicas are lossy. They stay named as such until that was told
 * to the master (told: with which raise, 0: not yet) and the master has gone on from there, so
 * that it can answer an fsync truly.
 *
 * Durability invariants
 *  1. A chunk that may have unsynced bytes is named in the synced journal (journal_open).
 *  2. A name leaves the journal only after the chunk's data, checksums and directory entry were
 *     synced (store_sync, journal_reset).
 *  3. A checksum never covers bytes that were not received with it or verified before merging
 *     (chunk_file_write).
 *  4. A replica answers with the version in its name; a rename to a higher version is synced
 *     before it is acknowledged (store_raise).
 *  5. A pulled copy gets its name only when it is complete, verified and synced (pull_chunk).
 */
#ifndef CAIRN_CHUNKSERVER_FORMAT_H
#define CAIRN_CHUNKSERVER_FORMAT_H

#include "common/buf.h"
#include "common/err.h"
#include "common/io.h"
#include "common/limits.h"

enum {
	FORMAT_MAGIC = 0x4b4e5243, /* "CRNK" */
	FORMAT_VERSION = 1,
	FORMAT_HEADER_BYTES = 512,
	FORMAT_WRITERS_BYTES = 444,
	FORMAT_SUMS_OFFSET = FORMAT_HEADER_BYTES,
	FORMAT_NAME_BYTES = 16 + 1 + 8,
	JOURNAL_RECORD_BYTES = 32,
	JOURNAL_OPEN = 1,
	JOURNAL_CLEAN = 2,
	JOURNAL_LIFE = 3,
};

struct format_header {
	uint64_t chunk;
	uint8_t chunk_bits;
	uint32_t data_offset;
	uint64_t incompat;
	uint64_t compat;
};

static inline uint32_t format_data_offset(uint8_t chunk_bits)
{
	uint32_t table = 4u << (chunk_bits - BLOCK_BITS);
	return (FORMAT_SUMS_OFFSET + table + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
}

/* p: FORMAT_HEADER_BYTES. get: ERR_CORRUPT with the reason, ERR_VERSION for an unknown format. */
void format_header_put(uint8_t *p, const struct format_header *h);
int format_header_get(const uint8_t *p, struct format_header *ret, struct err *err);
void format_header_text(struct buf *b, const struct format_header *h);

/* "XX/ID.VERSION" into ret (at least 3 + FORMAT_NAME_BYTES + 1 bytes). */
void format_name_put(char *ret, uint64_t chunk, uint32_t version);
/* The file name without directory. False if it is not a chunk's name. */
bool format_name_get(const char *name, uint64_t *ret_chunk, uint32_t *ret_version);

struct journal_record {
	uint32_t kind;
	uint64_t chunk;
	uint32_t version;
	uint8_t chunk_bits; /* 0: not known */
	bool lossy;
	uint32_t told;
	bool in_this_life; /* not in the file: known to its reader */
	uint8_t life[IO_LIFE_BYTES]; /* of JOURNAL_LIFE, which has nothing else */
};
void journal_record_put(uint8_t *p, const struct journal_record *r);
int journal_record_get(const uint8_t *p, struct journal_record *ret); /* ERR_CORRUPT */

#endif
