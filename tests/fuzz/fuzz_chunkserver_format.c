/* Chunk headers, file names and journal records: what decodes encodes to the same bytes' meaning. */
#include <stdlib.h>
#include <string.h>

#include "chunkserver/format.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[300], again[64];
	struct format_header h;
	struct journal_record j;
	uint64_t chunk;
	uint32_t version;
	size_t n = size < sizeof(name) - 1 ? size : sizeof(name) - 1;

	if (size >= FORMAT_HEADER_BYTES && format_header_get(data, &h, NULL) == 0 &&
	    (h.chunk_bits < CHUNK_BITS_MIN || h.chunk_bits > CHUNK_BITS_MAX))
		abort();
	if (size >= JOURNAL_RECORD_BYTES)
		journal_record_get(data, &j);
	memcpy(name, data, n);
	name[n] = '\0';
	if (format_name_get(name, &chunk, &version)) {
		format_name_put(again, chunk, version);
		if (strcmp(again + 3, name) != 0)
			abort();
	}
	return 0;
}

bool fuzz_seed(unsigned i, struct buf *b)
{
	struct format_header h = {.chunk = 7, .chunk_bits = 26,
				  .data_offset = format_data_offset(26)};
	struct journal_record j = {.kind = JOURNAL_OPEN, .chunk = 7, .version = 2};
	char name[64];

	if (i == 0)
		format_header_put(buf_extend(b, FORMAT_HEADER_BYTES), &h);
	else if (i == 1)
		journal_record_put(buf_extend(b, JOURNAL_RECORD_BYTES), &j);
	else if (i == 2) {
		format_name_put(name, 0x1234, 5);
		buf_append(b, name + 3, strlen(name + 3));
	}
	return i < 3;
}
