/* CRC32C (Castagnoli, RFC 3720 appendix B.4) by ISA-L, and the form in which block checksums are
 * stored and sent. */
#ifndef CAIRN_COMMON_CRC_H
#define CAIRN_COMMON_CRC_H

#include <stddef.h>
#include <stdint.h>

/* CRC32C of `len` bytes that follow bytes whose CRC32C is `crc` (0 for none). */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The stored form: CRC32C(bytes padded with zeros to a block) XOR CRC32C(a block of zeros), so
 * that a hole, whose stored checksum is 0, verifies as zeros. len <= BLOCK_BYTES.
 * `data` are the bytes at `offset` of an otherwise zero block (offset + len <= BLOCK_BYTES). */
uint32_t crc_stored(const void *data, size_t offset, size_t len);

/* crc_stored of each block that the bytes [offset, offset+len) of a file touch, 4 bytes
 * little-endian each, into sums. Returns the number of blocks. */
size_t crc_sums(uint8_t *sums, const void *data, uint64_t offset, size_t len);

/* Verifies crc_sums' output: -1 when all match, else the index (from 0) of the first block that
 * does not. n_sums must be crc_sums_count(). */
long crc_sums_check(const uint8_t *sums, const void *data, uint64_t offset, size_t len);

static inline size_t crc_sums_count(uint64_t offset, size_t len)
{
	return len == 0 ? 0 : (size_t)(((offset + len - 1) >> 12) - (offset >> 12) + 1);
}

#endif
