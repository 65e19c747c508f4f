/* What files of the checker hold: each 32 bytes say which file, which write and which offset they
 * belong to ("F00002a G00000007 O000000001000\n"), so that wrong bytes tell where they come from.
 * Generation 0 is a hole: zeros. */
#ifndef CAIRN_TESTS_CHECKER_CONTENT_H
#define CAIRN_TESTS_CHECKER_CONTENT_H

#include <stddef.h>
#include <stdint.h>

enum { RECORD_BYTES = 32 };

/* The record at `offset`, a multiple of RECORD_BYTES. */
void content_record(uint32_t file, uint32_t gen, uint64_t offset, uint8_t *ret);
/* Bytes offset .. offset+n-1. */
void content_fill(uint32_t file, uint32_t gen, uint64_t offset, uint8_t *ret, size_t n);
/* What n bytes found at `offset` are, in words. */
void content_describe(uint64_t offset, const uint8_t *data, size_t n, char *ret, size_t room);

#endif
