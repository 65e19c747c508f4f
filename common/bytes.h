/* Little-endian (wire, disk) and big-endian (LevelDB keys) integers, and a read cursor that
 * carries its remaining length. No struct is ever cast onto a buffer. */
#ifndef CAIRN_COMMON_BYTES_H
#define CAIRN_COMMON_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes owned by somebody else; not NUL-terminated. */
struct slice {
	const uint8_t *data;
	uint32_t len;
};

#define SLICE_LIT(s) ((struct slice){(const uint8_t *)(s), (uint32_t)(sizeof(s) - 1)})

static inline struct slice slice_str(const char *s)
{
	return (struct slice){(const uint8_t *)s, (uint32_t)strlen(s)};
}

static inline struct slice slice_of(const void *data, size_t len)
{
	return (struct slice){(const uint8_t *)data, (uint32_t)len};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool slice_starts(struct slice s, struct slice prefix)
{
	return s.len >= prefix.len && memcmp(s.data, prefix.data, prefix.len) == 0;
}

static inline void put_le16(uint8_t *p, uint16_t v) { v = htole16(v); memcpy(p, &v, 2); }
static inline void put_le32(uint8_t *p, uint32_t v) { v = htole32(v); memcpy(p, &v, 4); }
static inline void put_le64(uint8_t *p, uint64_t v) { v = htole64(v); memcpy(p, &v, 8); }
static inline void put_be32(uint8_t *p, uint32_t v) { v = htobe32(v); memcpy(p, &v, 4); }
static inline void put_be64(uint8_t *p, uint64_t v) { v = htobe64(v); memcpy(p, &v, 8); }
static inline uint16_t get_le16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return le16toh(v); }
static inline uint32_t get_le32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return le32toh(v); }
static inline uint64_t get_le64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return le64toh(v); }
static inline uint32_t get_be32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return be32toh(v); }
static inline uint64_t get_be64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return be64toh(v); }

/* Reads forward through bytes it does not own; never past `end`. */
struct cursor {
	const uint8_t *p;
	const uint8_t *end;
};

static inline struct cursor cursor_of(const void *data, size_t len)
{
	return (struct cursor){(const uint8_t *)data, (const uint8_t *)data + len};
}

static inline struct cursor cursor_slice(struct slice s)
{
	return cursor_of(s.data, s.len);
}

static inline size_t cursor_left(const struct cursor *c)
{
	return (size_t)(c->end - c->p);
}

/* The next n bytes, or NULL (and no move) when fewer are left. */
static inline const uint8_t *cursor_take(struct cursor *c, size_t n)
{
	const uint8_t *p = c->p;
	if (cursor_left(c) < n)
		return NULL;
	c->p += n;
	return p;
}

#endif
