#include "tests/fault/checker/content.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void hex(uint8_t *to, unsigned digits, uint64_t v)
{
	for (unsigned i = digits; i-- > 0; v >>= 4)
		to[i] = (uint8_t)"0123456789abcdef"[v & 15];
}

void content_record(uint32_t file, uint32_t gen, uint64_t offset, uint8_t *ret)
{
	if (gen == 0) {
		memset(ret, 0, RECORD_BYTES);
		return;
	}
	ret[0] = 'F';
	hex(ret + 1, 6, file);
	ret[7] = ' ';
	ret[8] = 'G';
	hex(ret + 9, 8, gen);
	ret[17] = ' ';
	ret[18] = 'O';
	hex(ret + 19, 12, offset);
	ret[31] = '\n';
}

void content_fill(uint32_t file, uint32_t gen, uint64_t offset, uint8_t *ret, size_t n)
{
	while (n > 0) {
		uint8_t record[RECORD_BYTES];
		size_t skip = offset % RECORD_BYTES;
		size_t part = RECORD_BYTES - skip < n ? RECORD_BYTES - skip : n;
		content_record(file, gen, offset - skip, record);
		memcpy(ret, record + skip, part);
		ret += part;
		offset += part;
		n -= part;
	}
}

void content_describe(uint64_t offset, const uint8_t *data, size_t n, char *ret, size_t room)
{
	size_t skip = (RECORD_BYTES - offset % RECORD_BYTES) % RECORD_BYTES, zeros = 0;
	char record[RECORD_BYTES + 1] = "";
	uint32_t file, gen;
	uint64_t at;

	while (zeros < n && data[zeros] == 0)
		zeros++;
	if (zeros > 0) {
		snprintf(ret, room, "%zu zeros%s", zeros, zeros == n ? " to the end" : "");
		return;
	}
	if (n >= skip + RECORD_BYTES)
		memcpy(record, data + skip, RECORD_BYTES);
	if (sscanf(record, "F%6" SCNx32 " G%8" SCNx32 " O%12" SCNx64, &file, &gen, &at) == 3)
		snprintf(ret, room, "bytes of file %" PRIx32 ", write %" PRIu32 ", offset %" PRIu64,
			 file, gen, at);
	else
		snprintf(ret, room, "\"%.*s\"", (int)(n < 32 ? n : 32), (const char *)data);
}
