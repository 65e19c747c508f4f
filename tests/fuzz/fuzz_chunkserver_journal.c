/* A journal as a crash, or somebody with the disk, may have left it: what it names is what its records
 * say, each verified, and nothing is taken for of this life that does not follow its mark. */
#include <stdlib.h>
#include <string.h>

#include "chunkserver/journal.h"
#include "tests/fuzz/fuzz.h"

/* A file system of one file, for reading. */
struct one_file {
	struct io io;
	const uint8_t *data;
	size_t size;
};

static int file_open(const struct io *io, const char *path, int flags, mode_t mode)
{
	return strcmp(path, "d/journal") == 0 ? 3 : ERR_NOENT;
}

static int file_close(const struct io *io, int fd)
{
	return 0;
}

static ssize_t file_pread(const struct io *io, int fd, void *data, size_t n, uint64_t offset)
{
	const struct one_file *f = (const struct one_file *)io;
	size_t left = offset < f->size ? f->size - (size_t)offset : 0;

	n = n < left ? n : left;
	memcpy(data, f->data + (left ? offset : 0), n);
	return (ssize_t)n;
}

static int file_life(const struct io *io, const char *path, uint8_t ret[IO_LIFE_BYTES])
{
	memset(ret, 'l', IO_LIFE_BYTES);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct one_file f = {.io = {.open = file_open, .close = file_close, .pread = file_pread,
				    .life = file_life}, .data = data, .size = size};
	struct journal_names names = {0};
	struct journal *j;

	if (journal_open(&f.io, "d", &j, &names, NULL) < 0)
		return 0;
	if (names.n > size / JOURNAL_RECORD_BYTES)
		abort();
	for (size_t i = 0; i < names.n; i++)
		if (names.items[i].kind != JOURNAL_OPEN ||
		    (!names.items[i].in_this_life && !names.items[i].lossy))
			abort();
	free(names.items);
	journal_free(j);
	return 0;
}

/* A life, chunks, perhaps a clean stop, chunks. */
bool fuzz_seed(unsigned i, struct buf *b)
{
	for (unsigned at = 0; i < 4 && at < 6; at++) {
		struct journal_record r = {.kind = JOURNAL_OPEN, .chunk = at, .version = i + 1,
					   .chunk_bits = CHUNK_BITS_MIN};
		if (at == 0) {
			r.kind = JOURNAL_LIFE;
			memset(r.life, i % 2 ? 'l' : 'x', IO_LIFE_BYTES);
		}
		if (at == 3 && i >= 2)
			r.kind = JOURNAL_CLEAN;
		journal_record_put(buf_extend(b, JOURNAL_RECORD_BYTES), &r);
	}
	return i < 4;
}
