/* A store on real directories, for the tests of the chunkserver: opened, crashed, written and read
 * through its interface, damaged behind its back. Include cmocka.h first. */
#ifndef CAIRN_TESTS_STORE_FIXTURE_H
#define CAIRN_TESTS_STORE_FIXTURE_H

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chunkserver/store.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/crc.h"
#include "common/log.h"

enum { BITS = 20, CHUNK = 0x1234, DISKS = 3 };

static char root[64], disk[96];
static char disks[DISKS][96]; /* disk is disks[0] */
static struct store *store;
static struct io_faulty faulty;
static unsigned damage_reports, disk_failures;

static inline void on_damaged(void *arg, const struct wire_have *have)
{
	damage_reports++;
}

static inline void on_disk_failed(void *arg)
{
	disk_failures++;
}

static inline int open_disks(size_t n, struct err *err)
{
	char *dirs[DISKS] = {disks[0], disks[1], disks[2]};
	struct store_options o = {.io = &faulty.io, .dirs = dirs, .n_dirs = n,
				  .damaged = on_damaged, .disk_failed = on_disk_failed};
	return store_open(&o, &store, err);
}

static inline int open_store(struct err *err)
{
	return open_disks(1, err);
}

/* Nothing is open after it. */
static inline int setup_dirs(void **state)
{
	log_setup("test", LOG_ERROR);
	snprintf(root, sizeof(root), "%s/cairn-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR")
									     : "/tmp");
	assert_non_null(mkdtemp(root));
	for (unsigned i = 0; i < DISKS; i++)
		snprintf(disks[i], sizeof(disks[i]), "%s/disk%u", root, i);
	snprintf(disk, sizeof(disk), "%s", disks[0]);
	io_faulty_init(&faulty, &io_real);
	damage_reports = disk_failures = 0;
	store = NULL;
	return 0;
}

static inline int setup(void **state)
{
	struct err err = {0};

	setup_dirs(state);
	if (open_store(&err) != 0)
		fail_msg("%s", err.text);
	return 0;
}

static inline int teardown(void **state)
{
	char cmd[128];

	if (store)
		store_close(store);
	store = NULL;
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", root);
	return system(cmd);
}

/* As after kill -9: what the store would have said at a clean stop is not said. `meanwhile`: a
 * shell command that does to $f, the chunk's file, what a power loss does. */
static inline void crash_with(const char *meanwhile)
{
	char cmd[600];
	struct err err = {0};

	/* The journal as it is now survives; the clean stop writes another one. */
	snprintf(cmd, sizeof(cmd), "cp '%s/journal' '%s/journal.kept'", disk, root);
	assert_int_equal(system(cmd), 0);
	store_close(store);
	snprintf(cmd, sizeof(cmd), "cp '%s/journal.kept' '%s/journal'; f=$(ls %s/chunks/*/*); %s",
		 root, disk, disk, meanwhile);
	assert_int_equal(system(cmd), 0);
	if (open_store(&err) != 0)
		fail_msg("%s", err.text);
}

static inline void crash(void)
{
	crash_with(":");
}

static inline int write_chunk(uint64_t chunk, uint32_t version, uint32_t block, uint8_t fill,
			      struct err *err)
{
	uint8_t data[BLOCK_BYTES], sum[4];
	struct replica *r;
	struct chunk_file f;
	bool torn;
	int res = store_acquire(store, chunk, version, BITS, deadline_in(1000), &r, &f, err);

	if (res < 0)
		return res;
	memset(data, fill, sizeof(data));
	crc_sums(sum, data, 0, sizeof(data));
	res = store_will_write(store, r, err);
	if (res == 0) {
		res = chunk_file_write(&f, data, block * BLOCK_BYTES, BLOCK_BYTES, sum, &torn, err);
		store_did_write(store, r);
	}
	store_release(store, r);
	return res;
}

static inline int write_block(uint32_t block, uint8_t fill, struct err *err)
{
	return write_chunk(CHUNK, 1, block, fill, err);
}

/* As READ does it: what does not verify or cannot be read is damage. */
static inline int read_chunk(uint64_t chunk, uint32_t version, uint32_t block, uint8_t *ret_fill,
			     struct err *err)
{
	uint8_t data[BLOCK_BYTES], sum[4];
	struct replica *r;
	struct chunk_file f;
	size_t len;
	int res = store_acquire(store, chunk, version, 0, deadline_in(1000), &r, &f, err);

	if (res < 0)
		return res;
	res = chunk_file_read(&f, block * BLOCK_BYTES, BLOCK_BYTES, data, sum, &len, err);
	if (res < 0)
		store_damaged(store, r, res);
	else
		*ret_fill = len ? data[0] : 0;
	store_release(store, r);
	return res;
}

static inline int read_block(uint32_t version, uint32_t block, uint8_t *ret_fill, struct err *err)
{
	return read_chunk(CHUNK, version, block, ret_fill, err);
}

/* Bytes at a place of the chunk's data, behind the store's back. */
static inline void overwrite(uint32_t version, uint32_t offset, const char *bytes)
{
	char path[200], name[64];
	int fd;

	format_name_put(name, CHUNK, version);
	snprintf(path, sizeof(path), "%s/chunks/%s", disk, name);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, strlen(bytes), format_data_offset(BITS) + offset),
			 strlen(bytes));
	close(fd);
}

static inline uint8_t flags_now(void)
{
	_cleanup_free_ struct wire_have *list = NULL;
	size_t n;

	assert_int_equal(store_list(store, &list, &n), 0);
	assert_int_equal(n, 1);
	return list[0].flags;
}

#endif
