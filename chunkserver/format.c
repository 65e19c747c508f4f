#include "chunkserver/format.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/crc.h"

enum { HEADER_CRC_OFFSET = FORMAT_HEADER_BYTES - 4 };

void format_header_put(uint8_t *p, const struct format_header *h)
{
	memset(p, 0, FORMAT_HEADER_BYTES);
	put_le32(p, FORMAT_MAGIC);
	put_le16(p + 4, FORMAT_VERSION);
	put_le16(p + 6, FORMAT_HEADER_BYTES);
	put_le64(p + 8, h->chunk);
	put_le32(p + 16, BLOCK_BYTES);
	put_le32(p + 20, h->data_offset);
	put_le64(p + 24, h->incompat);
	put_le64(p + 32, h->compat);
	p[40] = h->chunk_bits;
	put_le32(p + HEADER_CRC_OFFSET, crc32c(0, p, HEADER_CRC_OFFSET));
}

int format_header_get(const uint8_t *p, struct format_header *ret, struct err *err)
{
	struct format_header h;
	uint32_t crc = crc32c(0, p, HEADER_CRC_OFFSET);

	if (get_le32(p) != FORMAT_MAGIC)
		return err_set(err, ERR_CORRUPT, "not a chunk file (magic %08" PRIx32 ")",
			       get_le32(p));
	if (get_le32(p + HEADER_CRC_OFFSET) != crc)
		return err_set(err, ERR_CORRUPT, "header checksum %08" PRIx32 ", computed %08"
			       PRIx32, get_le32(p + HEADER_CRC_OFFSET), crc);
	h.chunk = get_le64(p + 8);
	h.data_offset = get_le32(p + 20);
	h.incompat = get_le64(p + 24);
	h.compat = get_le64(p + 32);
	h.chunk_bits = p[40];
	if (get_le16(p + 4) != FORMAT_VERSION || h.incompat != 0)
		return err_set(err, ERR_VERSION, "format version %u with features %#" PRIx64
			       " is not known to this version", get_le16(p + 4), h.incompat);
	if (h.chunk_bits < CHUNK_BITS_MIN || h.chunk_bits > CHUNK_BITS_MAX ||
	    get_le16(p + 6) != FORMAT_HEADER_BYTES || get_le32(p + 16) != BLOCK_BYTES ||
	    h.data_offset != format_data_offset(h.chunk_bits))
		return err_set(err, ERR_CORRUPT, "header says %u chunk bits, %" PRIu32
			       " block bytes, data at %" PRIu32, h.chunk_bits, get_le32(p + 16),
			       h.data_offset);
	*ret = h;
	return 0;
}

void format_header_text(struct buf *b, const struct format_header *h)
{
	buf_printf(b, "chunk=%016" PRIx64 " chunk_bits=%u data_offset=%" PRIu32
		   " incompat=%#" PRIx64 " compat=%#" PRIx64, h->chunk, h->chunk_bits,
		   h->data_offset, h->incompat, h->compat);
}

void format_name_put(char *ret, uint64_t chunk, uint32_t version)
{
	snprintf(ret, 3 + FORMAT_NAME_BYTES + 1, "%02x/%016" PRIx64 ".%08" PRIx32,
		 (unsigned)(chunk & 0xff), chunk, version);
}

/* Exactly n lower-case digits, so that one chunk has one name. */
static bool format_hex_get(const char *p, int n, uint64_t *ret)
{
	uint64_t v = 0;

	for (int i = 0; i < n; i++) {
		char c = p[i];
		if (c >= '0' && c <= '9')
			v = v << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*ret = v;
	return true;
}

bool format_name_get(const char *name, uint64_t *ret_chunk, uint32_t *ret_version)
{
	uint64_t chunk, version;

	if (strlen(name) != FORMAT_NAME_BYTES || name[16] != '.' ||
	    !format_hex_get(name, 16, &chunk) || !format_hex_get(name + 17, 8, &version))
		return false;
	*ret_chunk = chunk;
	*ret_version = (uint32_t)version;
	return true;
}

void journal_record_put(uint8_t *p, const struct journal_record *r)
{
	memset(p, 0, JOURNAL_RECORD_BYTES);
	put_le32(p + 4, r->kind);
	put_le64(p + 8, r->chunk);
	put_le32(p + 16, r->version);
	p[20] = r->chunk_bits;
	p[21] = r->lossy;
	put_le32(p + 24, r->told);
	if (r->kind == JOURNAL_LIFE)
		memcpy(p + 8, r->life, IO_LIFE_BYTES);
	put_le32(p, crc32c(0, p + 4, JOURNAL_RECORD_BYTES - 4));
}

int journal_record_get(const uint8_t *p, struct journal_record *ret)
{
	struct journal_record r = {
		.kind = get_le32(p + 4), .chunk = get_le64(p + 8), .version = get_le32(p + 16),
		.chunk_bits = p[20], .lossy = p[21], .told = get_le32(p + 24)};

	if (get_le32(p) != crc32c(0, p + 4, JOURNAL_RECORD_BYTES - 4) ||
	    (r.kind != JOURNAL_OPEN && r.kind != JOURNAL_CLEAN && r.kind != JOURNAL_LIFE))
		return ERR_CORRUPT;
	if (r.kind == JOURNAL_LIFE) {
		r = (struct journal_record){.kind = JOURNAL_LIFE};
		memcpy(r.life, p + 8, IO_LIFE_BYTES);
	}
	*ret = r;
	return 0;
}
