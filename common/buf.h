/* A growable byte buffer.
 *
 * Owner: the caller; buf_init/buf_release, or zero-initialise. Failure to grow is remembered in
 * `failed` and every later append does nothing, so that a sequence of appends is checked once,
 * with buf_status(). Not thread-safe. */
#ifndef CAIRN_COMMON_BUF_H
#define CAIRN_COMMON_BUF_H

#include "common/bytes.h"

struct buf {
	uint8_t *data;
	size_t len;
	size_t cap;
	bool failed;
};

void buf_init(struct buf *b);
void buf_release(struct buf *b);
/* Empties it and forgets a failure; keeps the memory. */
void buf_clear(struct buf *b);

/* Room for n more bytes at the end, already counted in len; NULL when out of memory. The
 * pointer is good until the next append. */
uint8_t *buf_extend(struct buf *b, size_t n);
/* Makes sure n more bytes can be appended without growing; 0 or ERR_NOMEM. */
int buf_reserve(struct buf *b, size_t n);
void buf_append(struct buf *b, const void *data, size_t n);
void buf_append_slice(struct buf *b, struct slice s);
void buf_u8(struct buf *b, uint8_t v);
void buf_le16(struct buf *b, uint16_t v);
void buf_le32(struct buf *b, uint32_t v);
void buf_le64(struct buf *b, uint64_t v);
void buf_be32(struct buf *b, uint32_t v);
void buf_be64(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Appends bytes as text: printable ones as they are, others as \xNN. */
void buf_text(struct buf *b, struct slice s);

/* 0, or ERR_NOMEM when any append since the last clear failed. */
int buf_status(const struct buf *b);
static inline struct slice buf_slice(const struct buf *b)
{
	return slice_of(b->data, b->len);
}
/* The content as a C string (a NUL is kept after the end); "" when empty or failed. */
const char *buf_str(struct buf *b);

#endif
