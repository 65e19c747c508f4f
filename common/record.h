/* Records: one field list gives struct, encoder, decoder and printer.
 *
 * Wire messages (common/wire.h), replicated commands (master/cmd.h) and LevelDB values
 * (master/schema.h) are all records. A field list is a macro of four arguments:
 *
 *     #define FIELDS_PAGE(F, S, A, V)
 *         F(u64, inode)                  one scalar (below)
 *         S(wire_attr, attr)             one nested record
 *         A(u32, groups, GROUPS_MAX)     up to MAX scalars: `n_groups`, `groups[]`
 *         V(wire_replica, replicas, 8)   up to MAX nested records
 *
 * Scalars: u8 u16 u32 u64 i32 i64; `when` (i64 seconds, u32 nanoseconds); `str` and `blob`
 * (u32 length, bytes: a struct slice that points into the bytes that were decoded, so it lives
 * as long as they do).
 *
 * Encoding: little-endian, fields in order, no padding; arrays have a u16 count; a nested record
 * has a u32 length before it. Versions mix by one rule at every level: a decoder skips what
 * follows the fields it knows, and reads as zero the fields that the bytes end before. So fields
 * are only ever added at the end of a list. A record that ends inside a field, or an array
 * longer than its limit, is ERR_PROTOCOL.
 */
#ifndef CAIRN_COMMON_RECORD_H
#define CAIRN_COMMON_RECORD_H

#include "common/buf.h"
#include "common/bytes.h"

struct when {
	int64_t sec;
	uint32_t nsec;
};

#define RECORD_CTYPE_u8 uint8_t
#define RECORD_CTYPE_u16 uint16_t
#define RECORD_CTYPE_u32 uint32_t
#define RECORD_CTYPE_u64 uint64_t
#define RECORD_CTYPE_i32 int32_t
#define RECORD_CTYPE_i64 int64_t
#define RECORD_CTYPE_when struct when
#define RECORD_CTYPE_str struct slice
#define RECORD_CTYPE_blob struct slice

#define RECORD_SCALARS(X) X(u8) X(u16) X(u32) X(u64) X(i32) X(i64) X(when) X(str) X(blob)

/* The scalar codecs. get: 0 or ERR_PROTOCOL; at the end of the bytes, 0 and a zero value. */
#define RECORD_X_DECLARE(t)                                              \
	void record_put_##t(struct buf *b, const RECORD_CTYPE_##t *v);   \
	int record_get_##t(struct cursor *c, RECORD_CTYPE_##t *ret);     \
	void record_text_##t(struct buf *b, const RECORD_CTYPE_##t *v);
RECORD_SCALARS(RECORD_X_DECLARE)
#undef RECORD_X_DECLARE

/* Helpers of the generated code. */
size_t record_open_nested(struct buf *b);
void record_close_nested(struct buf *b, size_t mark);
int record_get_nested(struct cursor *c, struct cursor *ret);
int record_get_count(struct cursor *c, uint16_t max, uint16_t *ret);

/* struct NAME and its three functions:
 *   void NAME_put(struct buf *, const struct NAME *)      check buf_status() afterwards
 *   int  NAME_get(struct cursor *, struct NAME *ret)      0 or ERR_PROTOCOL
 *   void NAME_text(struct buf *, const struct NAME *)     "field=value field=value …" */
#define RECORD_DECLARE(NAME, FIELDS)                                     \
	struct NAME {                                                    \
		FIELDS(RECORD_SF, RECORD_SS, RECORD_SA, RECORD_SV)       \
	};                                                               \
	void NAME##_put(struct buf *b, const struct NAME *m);            \
	int NAME##_get(struct cursor *c, struct NAME *ret);              \
	void NAME##_text(struct buf *b, const struct NAME *m);
#define RECORD_SF(t, n) RECORD_CTYPE_##t n;
#define RECORD_SS(r, n) struct r n;
#define RECORD_SA(t, n, max)  \
	uint16_t n_##n;       \
	RECORD_CTYPE_##t n[max];
#define RECORD_SV(r, n, max)  \
	uint16_t n_##n;       \
	struct r n[max];

#define RECORD_DEFINE(NAME, FIELDS)                                                     \
	void NAME##_put(struct buf *b, const struct NAME *m)                            \
	{                                                                               \
		(void)b;                                                                \
		(void)m;                                                                \
		FIELDS(RECORD_PF, RECORD_PS, RECORD_PA, RECORD_PV)                      \
	}                                                                               \
	int NAME##_get(struct cursor *c, struct NAME *ret)                              \
	{                                                                               \
		int r = 0;                                                              \
		memset(ret, 0, sizeof(*ret));                                           \
		FIELDS(RECORD_GF, RECORD_GS, RECORD_GA, RECORD_GV)                      \
		(void)c;                                                                \
		return r;                                                               \
	}                                                                               \
	void NAME##_text(struct buf *b, const struct NAME *m)                           \
	{                                                                               \
		(void)b;                                                                \
		(void)m;                                                                \
		FIELDS(RECORD_TF, RECORD_TS, RECORD_TA, RECORD_TV)                      \
	}
/* The same functions behind untyped pointers, for tables of records. A struct record_codec of NAME
 * is RECORD_CODEC(NAME), in a file that has RECORD_UNTYPED(NAME, FIELDS): one thin set of functions
 * a record, so that calls are made through pointers of their own type. */
struct record_codec {
	void (*put)(struct buf *b, const void *m);
	int (*get)(struct cursor *c, void *ret);
	void (*text)(struct buf *b, const void *m);
	size_t bytes; /* sizeof the struct */
};
#define RECORD_UNTYPED(NAME, FIELDS)                                                           \
	static void __attribute__((unused)) NAME##_put_any(struct buf *b, const void *m)      \
	{                                                                                     \
		NAME##_put(b, m);                                                             \
	}                                                                                     \
	static int __attribute__((unused)) NAME##_get_any(struct cursor *c, void *ret)        \
	{                                                                                     \
		return NAME##_get(c, ret);                                                    \
	}                                                                                     \
	static void __attribute__((unused)) NAME##_text_any(struct buf *b, const void *m)     \
	{                                                                                     \
		NAME##_text(b, m);                                                            \
	}
#define RECORD_CODEC(NAME) {NAME##_put_any, NAME##_get_any, NAME##_text_any, sizeof(struct NAME)}

#define RECORD_PF(t, n) record_put_##t(b, &m->n);
#define RECORD_PS(r_, n)                                \
	{                                               \
		size_t mark = record_open_nested(b);    \
		r_##_put(b, &m->n);                     \
		record_close_nested(b, mark);           \
	}
#define RECORD_PA(t, n, max)                            \
	buf_le16(b, m->n_##n);                          \
	for (uint16_t i = 0; i < m->n_##n; i++)         \
		record_put_##t(b, &m->n[i]);
#define RECORD_PV(r_, n, max)                                   \
	buf_le16(b, m->n_##n);                                  \
	for (uint16_t i = 0; i < m->n_##n; i++) {               \
		size_t mark = record_open_nested(b);            \
		r_##_put(b, &m->n[i]);                          \
		record_close_nested(b, mark);                   \
	}
#define RECORD_GF(t, n)                          \
	if (r == 0)                              \
		r = record_get_##t(c, &ret->n);
#define RECORD_GS(r_, n)                                        \
	if (r == 0) {                                           \
		struct cursor sub;                              \
		r = record_get_nested(c, &sub);                 \
		if (r == 0)                                     \
			r = r_##_get(&sub, &ret->n);            \
	}
#define RECORD_GA(t, n, max)                                            \
	if (r == 0)                                                     \
		r = record_get_count(c, (max), &ret->n_##n);            \
	for (uint16_t i = 0; r == 0 && i < ret->n_##n; i++)             \
		r = record_get_##t(c, &ret->n[i]);
#define RECORD_GV(r_, n, max)                                           \
	if (r == 0)                                                     \
		r = record_get_count(c, (max), &ret->n_##n);            \
	for (uint16_t i = 0; r == 0 && i < ret->n_##n; i++) {           \
		struct cursor sub;                                      \
		r = record_get_nested(c, &sub);                         \
		if (r == 0)                                             \
			r = r_##_get(&sub, &ret->n[i]);                 \
	}
#define RECORD_TF(t, n)                 \
	buf_printf(b, " %s=", #n);      \
	record_text_##t(b, &m->n);
#define RECORD_TS(r_, n)                \
	buf_printf(b, " %s={", #n);     \
	r_##_text(b, &m->n);            \
	buf_printf(b, " }");
#define RECORD_TA(t, n, max)                            \
	buf_printf(b, " %s=[", #n);                     \
	for (uint16_t i = 0; i < m->n_##n; i++) {       \
		buf_printf(b, i ? "," : "");            \
		record_text_##t(b, &m->n[i]);           \
	}                                               \
	buf_printf(b, "]");
#define RECORD_TV(r_, n, max)                           \
	buf_printf(b, " %s=[", #n);                     \
	for (uint16_t i = 0; i < m->n_##n; i++) {       \
		buf_printf(b, "{");                     \
		r_##_text(b, &m->n[i]);                 \
		buf_printf(b, " }");                    \
	}                                               \
	buf_printf(b, "]");

#endif
