#include "common/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/err.h"

enum { BUF_CAP_MIN = 64 };

void buf_init(struct buf *b)
{
	*b = (struct buf){0};
}

void buf_release(struct buf *b)
{
	if (!b)
		return;
	free(b->data);
	*b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
}

int buf_reserve(struct buf *b, size_t n)
{
	size_t need, cap;
	uint8_t *data;

	if (b->failed)
		return ERR_NOMEM;
	if (n > SIZE_MAX / 2 - b->len) {
		b->failed = true;
		return ERR_NOMEM;
	}
	need = b->len + n;
	if (need <= b->cap)
		return 0;
	cap = b->cap < BUF_CAP_MIN ? BUF_CAP_MIN : b->cap;
	while (cap < need)
		cap *= 2;
	data = realloc(b->data, cap);
	if (!data) {
		b->failed = true;
		return ERR_NOMEM;
	}
	b->data = data;
	b->cap = cap;
	return 0;
}

uint8_t *buf_extend(struct buf *b, size_t n)
{
	uint8_t *p;
	if (buf_reserve(b, n) < 0)
		return NULL;
	p = b->data + b->len;
	b->len += n;
	return p;
}

void buf_append(struct buf *b, const void *data, size_t n)
{
	uint8_t *p = n ? buf_extend(b, n) : NULL;
	if (p)
		memcpy(p, data, n);
}

void buf_append_slice(struct buf *b, struct slice s)
{
	buf_append(b, s.data, s.len);
}

void buf_u8(struct buf *b, uint8_t v)
{
	buf_append(b, &v, 1);
}

#define BUF_DEFINE_INT(suffix, type, width)             \
	void buf_##suffix(struct buf *b, type v)        \
	{                                               \
		uint8_t *p = buf_extend(b, width);      \
		if (p)                                  \
			put_##suffix(p, v);             \
	}
BUF_DEFINE_INT(le16, uint16_t, 2)
BUF_DEFINE_INT(le32, uint32_t, 4)
BUF_DEFINE_INT(le64, uint64_t, 8)
BUF_DEFINE_INT(be32, uint32_t, 4)
BUF_DEFINE_INT(be64, uint64_t, 8)

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || buf_reserve(b, (size_t)n + 1) < 0) {
		b->failed = true;
		return;
	}
	va_start(ap, fmt);
	vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

void buf_text(struct buf *b, struct slice s)
{
	for (uint32_t i = 0; i < s.len; i++) {
		uint8_t c = s.data[i];
		if (c >= 0x20 && c < 0x7f && c != '\\')
			buf_u8(b, c);
		else
			buf_printf(b, "\\x%02x", c);
	}
}

int buf_status(const struct buf *b)
{
	return b->failed ? ERR_NOMEM : 0;
}

const char *buf_str(struct buf *b)
{
	if (buf_reserve(b, 1) < 0)
		return "";
	b->data[b->len] = '\0';
	return (const char *)b->data;
}
