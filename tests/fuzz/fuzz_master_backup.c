/* Backup files: reading any bytes, once as they are and once with every checksum made right, so
 * that what lies behind them is reached; rows that are read are restored into a state. */
#include <stdio.h>
#include <stdlib.h>

#include "common/backup.h"
#include "common/cleanup.h"
#include "common/crc.h"
#include "master/apply.h"
#include "master/offline.h"
#include "tests/fuzz/fuzz.h"

static void restore(const uint8_t *data, size_t size)
{
	FILE *file = size ? fmemopen((void *)data, size, "r") : NULL;
	struct backup_reader reader;
	struct import im = {0};
	struct slice key, value;
	int r;

	if (!file || state_new(NULL, &im.st) < 0)
		abort();
	state_begin(im.st);
	r = backup_read_open(&reader, file, NULL);
	while (r == 0 && (r = backup_read(&reader, &key, &value, NULL)) == 1)
		r = import_row(&im, key, value, NULL);
	if (r == 0 && state_commit(im.st) == 0)
		import_finish(&im, NULL);
	backup_read_release(&reader);
	state_free(im.st);
	fclose(file);
}

/* Header and blocks get the checksums that fit. */
static void mend(uint8_t *data, size_t size)
{
	size_t at = BACKUP_HEADER_BYTES;

	if (size < at)
		return;
	put_le32(data + 36, crc32c(0, data, 36));
	while (size - at >= 12) {
		uint32_t bytes = get_le32(data + at + 4);
		if (bytes > size - at - 12)
			return;
		put_le32(data + at + 8 + bytes, crc32c(0, data + at, 8 + bytes));
		at += 12 + bytes;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ uint8_t *copy = malloc(size + 1);

	if (!copy || size == 0)
		return 0;
	memcpy(copy, data, size);
	restore(copy, size);
	mend(copy, size);
	restore(copy, size);
	return 0;
}

/* A cluster with a file that a session holds open without a name. */
static void seed_state(struct state *st)
{
	struct cmd_format format = {.cluster = SLICE_LIT("0123456789abcdef"),
				    .hash_key = SLICE_LIT("fedcba9876543210"), .copies = 1};
	struct cmd_server_register server = {.uuid = SLICE_LIT("server-uuid-0001"),
					     .addr = SLICE_LIT("127.0.0.1:1")};
	struct cmd_session_open open = {.req = {.nonce = 1}};
	struct cmd_make make = {.req = {.id = {1, 1, 1}, .parent = 1, .name = SLICE_LIT("n"),
					.mode = 0100644, .flags = MAKE_CHUNK},
				.n_members = 1, .members = {{.server = 1}}};
	struct cmd_unlink unlink = {.req = {.id = {1, 2, 1}, .parent = 1, .name = SLICE_LIT("n"),
					    .hold = 2}};
	const struct { uint16_t number; const void *m; } all[] = {
		{CMD_NUMBER_FORMAT, &format}, {CMD_NUMBER_SERVER_REGISTER, &server},
		{CMD_NUMBER_SESSION_OPEN, &open}, {CMD_NUMBER_MAKE, &make},
		{CMD_NUMBER_UNLINK, &unlink},
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		_cleanup_buf_ struct buf entry = {0};
		struct apply_result result;
		if (cmd_put(&entry, all[i].number, (struct when){.sec = 1}, all[i].m) < 0 ||
		    apply_entry(st, i + 1, buf_slice(&entry), &result, NULL) < 0 || result.status)
			abort();
		apply_result_release(&result);
	}
}

bool fuzz_seed(unsigned i, struct buf *b)
{
	struct backup_info info = {.applied = 5};
	struct backup_writer w;
	struct slice key, value;
	struct state_iter *it;
	struct state *st;
	char *bytes = NULL;
	size_t size = 0;
	FILE *file;

	if (i > 0 || state_new(NULL, &st) < 0)
		return false;
	seed_state(st);
	file = open_memstream(&bytes, &size);
	if (!file || backup_create_stream(&w, file, &info, NULL) < 0 ||
	    state_iter_open(st, (struct slice){0}, (struct slice){0}, &it) < 0)
		abort();
	while (state_iter_next(it, &key, &value) == 1)
		backup_put(&w, key, value, NULL);
	state_iter_close(it);
	if (backup_finish(&w, NULL) < 0)
		abort();
	backup_release(&w);
	fclose(file);
	buf_append(b, bytes, size);
	free(bytes);
	state_free(st);
	return true;
}
