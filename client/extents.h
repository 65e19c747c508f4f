/* Bytes of a file that are held back: ranges in order, which neither overlap nor cross a multiple of
 * `unit`; what is written to one range, or next to it in the same unit, becomes one. Pure.
 * Zero-initialise; extents_clear frees. */
#ifndef CAIRN_CLIENT_EXTENTS_H
#define CAIRN_CLIENT_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct extent {
	uint64_t offset; /* in the file */
	size_t len, cap;
	uint8_t *data;
};

struct extents {
	struct extent *v; /* by offset */
	size_t n, cap;
	size_t bytes; /* of memory */
};

/* len > 0; unit: a power of two. ERR_NOMEM: a part may have been put. */
int extents_put(struct extents *e, const void *data, size_t len, uint64_t offset, size_t unit);
/* Copies [offset, offset+len) if all of it is there. */
bool extents_get(const struct extents *e, void *dest, size_t len, uint64_t offset);
/* Whether a byte of the range is there. */
bool extents_touch(const struct extents *e, size_t len, uint64_t offset);
/* Where the last one ends; 0: there is none. */
uint64_t extents_end(const struct extents *e);
void extents_clear(struct extents *e);

#endif
