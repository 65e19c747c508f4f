/* Makes one replica differ from the others with checksums that are right, as a bug or a disk that
 * gives back old blocks would: forge FILE BLOCK inverts the bytes of a block in a chunk file and
 * stores their checksum. The chunkserver does not run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chunkserver/chunk_file.h"
#include "common/crc.h"

static int forge(const char *path, uint32_t block, struct err *err)
{
	const char *name = strrchr(path, '/');
	uint8_t data[BLOCK_BYTES], sum[4];
	struct chunk_file f;
	uint64_t chunk;
	uint32_t version;
	size_t len;
	bool torn;
	int r;

	if (!format_name_get(name ? name + 1 : path, &chunk, &version))
		return err_set(err, ERR_INVAL, "%s: not a chunk's name", path);
	r = chunk_file_open(&io_real, path, chunk, &f, err);
	if (r < 0)
		return r;
	r = chunk_file_read(&f, block * BLOCK_BYTES, BLOCK_BYTES, data, sum, &len, err);
	if (r == 0 && len != BLOCK_BYTES)
		r = err_set(err, ERR_INVAL, "%s: has no block %u", path, block);
	for (size_t i = 0; i < BLOCK_BYTES; i++)
		data[i] ^= 0xff;
	crc_sums(sum, data, 0, BLOCK_BYTES);
	if (r == 0)
		r = chunk_file_write(&f, data, block * BLOCK_BYTES, BLOCK_BYTES, sum, &torn, err);
	if (r == 0)
		r = chunk_file_sync(&f, err);
	chunk_file_close(&f);
	return r;
}

int main(int argc, char **argv)
{
	struct err err = {0};

	if (argc != 3) {
		fprintf(stderr, "usage: forge FILE BLOCK\n");
		return 2;
	}
	if (forge(argv[1], (uint32_t)strtoul(argv[2], NULL, 0), &err) < 0) {
		fprintf(stderr, "forge: %s\n", err_message(&err));
		return 1;
	}
	return 0;
}
