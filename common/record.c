#include "common/record.h"

#include <assert.h>
#include <inttypes.h>

#include "common/err.h"

/* A field that the bytes end before reads as zero; one that they end inside is an error. */
#define RECORD_DEFINE_INT(t, width, put, get, fmt)                                      \
	void record_put_##t(struct buf *b, const RECORD_CTYPE_##t *v)                   \
	{                                                                               \
		uint8_t *p = buf_extend(b, width);                                      \
		if (p)                                                                  \
			put;                                                            \
	}                                                                               \
	int record_get_##t(struct cursor *c, RECORD_CTYPE_##t *ret)                     \
	{                                                                               \
		const uint8_t *p;                                                       \
		if (cursor_left(c) == 0) {                                              \
			*ret = 0;                                                       \
			return 0;                                                       \
		}                                                                       \
		p = cursor_take(c, width);                                              \
		if (!p)                                                                 \
			return ERR_PROTOCOL;                                            \
		*ret = (RECORD_CTYPE_##t)get;                                           \
		return 0;                                                               \
	}                                                                               \
	void record_text_##t(struct buf *b, const RECORD_CTYPE_##t *v)                  \
	{                                                                               \
		buf_printf(b, "%" fmt, *v);                                             \
	}
RECORD_DEFINE_INT(u8, 1, *p = *v, *p, PRIu8)
RECORD_DEFINE_INT(u16, 2, put_le16(p, *v), get_le16(p), PRIu16)
RECORD_DEFINE_INT(u32, 4, put_le32(p, *v), get_le32(p), PRIu32)
RECORD_DEFINE_INT(u64, 8, put_le64(p, *v), get_le64(p), PRIu64)
RECORD_DEFINE_INT(i32, 4, put_le32(p, (uint32_t)*v), get_le32(p), PRId32)
RECORD_DEFINE_INT(i64, 8, put_le64(p, (uint64_t)*v), get_le64(p), PRId64)

void record_put_when(struct buf *b, const struct when *v)
{
	buf_le64(b, (uint64_t)v->sec);
	buf_le32(b, v->nsec);
}

int record_get_when(struct cursor *c, struct when *ret)
{
	const uint8_t *p;

	*ret = (struct when){0};
	if (cursor_left(c) == 0)
		return 0;
	p = cursor_take(c, 12);
	if (!p)
		return ERR_PROTOCOL;
	ret->sec = (int64_t)get_le64(p);
	ret->nsec = get_le32(p + 8);
	return ret->nsec < 1000000000 ? 0 : ERR_PROTOCOL;
}

void record_text_when(struct buf *b, const struct when *v)
{
	buf_printf(b, "%" PRId64 ".%09" PRIu32, v->sec, v->nsec);
}

void record_put_blob(struct buf *b, const struct slice *v)
{
	buf_le32(b, v->len);
	buf_append_slice(b, *v);
}

int record_get_blob(struct cursor *c, struct slice *ret)
{
	const uint8_t *p;
	uint32_t len;

	*ret = (struct slice){0};
	if (cursor_left(c) == 0)
		return 0;
	p = cursor_take(c, 4);
	if (!p)
		return ERR_PROTOCOL;
	len = get_le32(p);
	p = cursor_take(c, len);
	if (!p)
		return ERR_PROTOCOL;
	*ret = slice_of(p, len);
	return 0;
}

void record_text_blob(struct buf *b, const struct slice *v)
{
	enum { SHOWN_MAX = 32 };
	struct slice head = *v;

	if (head.len > SHOWN_MAX)
		head.len = SHOWN_MAX;
	buf_printf(b, "(%" PRIu32 ")", v->len);
	buf_text(b, head);
	if (head.len < v->len)
		buf_printf(b, "...");
}

void record_put_str(struct buf *b, const struct slice *v)
{
	record_put_blob(b, v);
}

int record_get_str(struct cursor *c, struct slice *ret)
{
	return record_get_blob(c, ret);
}

void record_text_str(struct buf *b, const struct slice *v)
{
	buf_printf(b, "\"");
	buf_text(b, *v);
	buf_printf(b, "\"");
}

size_t record_open_nested(struct buf *b)
{
	size_t mark = b->len;
	buf_le32(b, 0);
	return mark;
}

void record_close_nested(struct buf *b, size_t mark)
{
	if (b->failed)
		return;
	assert(b->len >= mark + 4);
	put_le32(b->data + mark, (uint32_t)(b->len - mark - 4));
}

int record_get_nested(struct cursor *c, struct cursor *ret)
{
	struct slice s;
	int r = record_get_blob(c, &s);
	if (r < 0)
		return r;
	/* An absent record reads as an empty one; keep the pointers valid for arithmetic. */
	*ret = s.data ? cursor_slice(s) : (struct cursor){c->p, c->p};
	return 0;
}

int record_get_count(struct cursor *c, uint16_t max, uint16_t *ret)
{
	uint16_t n;
	int r = record_get_u16(c, &n);
	if (r < 0)
		return r;
	if (n > max)
		return ERR_PROTOCOL;
	*ret = n;
	return 0;
}
