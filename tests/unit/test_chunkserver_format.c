/* chunkserver: the on-disk format and the journal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#include "chunkserver/journal.h"
#include "common/cleanup.h"

/* ---- header and names ---- */

static void test_header(void **state)
{
	struct format_header h = {.chunk = 0x9f3, .chunk_bits = CHUNK_BITS_DEFAULT,
				  .data_offset = format_data_offset(CHUNK_BITS_DEFAULT)};
	_cleanup_buf_ struct buf text = {0};
	uint8_t p[FORMAT_HEADER_BYTES];
	struct format_header got;
	struct err err = {0};

	assert_int_equal(h.data_offset, 69632); /* 512 + 65536, rounded up to a page */
	format_header_put(p, &h);
	assert_int_equal(format_header_get(p, &got, NULL), 0);
	assert_int_equal(got.chunk, 0x9f3);
	assert_int_equal(got.data_offset, h.data_offset);
	format_header_text(&text, &got);
	assert_non_null(strstr(buf_str(&text), "chunk=00000000000009f3"));

	/* Any flipped bit is found, whether it is in a field or in what is reserved. */
	for (size_t bit = 0; bit < FORMAT_HEADER_BYTES * 8; bit += 37) {
		p[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(format_header_get(p, &got, &err), ERR_CORRUPT);
		p[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	/* Intact, but made by a version with features that this one does not know. */
	h.incompat = 1;
	format_header_put(p, &h);
	assert_int_equal(format_header_get(p, &got, NULL), ERR_VERSION);
	/* Intact, but no header that this program writes. */
	h = (struct format_header){.chunk_bits = CHUNK_BITS_MAX + 1, .data_offset = 4096};
	format_header_put(p, &h);
	assert_int_equal(format_header_get(p, &got, NULL), ERR_CORRUPT);
}

static void test_names(void **state)
{
	static const char *const bad[] = {
		"", "00000000000009f3", "00000000000009f3.0000000", "00000000000009f3.000000020",
		"00000000000009F3.00000002", "0000000000000xf3.00000002",
		"00000000000009f3.00000002.new", "00000000000009f3-00000002",
	};
	char name[3 + FORMAT_NAME_BYTES + 1];
	uint64_t chunk;
	uint32_t version;

	format_name_put(name, 0x9f3, 2);
	assert_string_equal(name, "f3/00000000000009f3.00000002");
	assert_true(format_name_get(name + 3, &chunk, &version));
	assert_int_equal(chunk, 0x9f3);
	assert_int_equal(version, 2);
	format_name_put(name, UINT64_MAX, UINT32_MAX);
	assert_true(format_name_get(name + 3, &chunk, &version));
	assert_true(chunk == UINT64_MAX && version == UINT32_MAX);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(format_name_get(bad[i], &chunk, &version));
}

static void test_journal_record(void **state)
{
	struct journal_record r = {.kind = JOURNAL_OPEN, .chunk = 0x9f3, .version = 7,
				   .chunk_bits = 20, .lossy = true, .told = 6}, got;
	struct journal_record life = {.kind = JOURNAL_LIFE, .life = "page cache of yesterday"};
	uint8_t p[JOURNAL_RECORD_BYTES] = {0};

	assert_int_equal(journal_record_get(p, &got), ERR_CORRUPT); /* zeros end a journal */
	journal_record_put(p, &r);
	assert_int_equal(journal_record_get(p, &got), 0);
	assert_true(got.kind == JOURNAL_OPEN && got.chunk == 0x9f3 && got.version == 7);
	assert_int_equal(got.chunk_bits, 20);
	assert_true(got.lossy && got.told == 6);
	p[JOURNAL_RECORD_BYTES - 1] ^= 1;
	assert_int_equal(journal_record_get(p, &got), ERR_CORRUPT);
	journal_record_put(p, &life);
	assert_int_equal(journal_record_get(p, &got), 0);
	assert_true(got.kind == JOURNAL_LIFE && got.chunk == 0 && !got.lossy);
	assert_memory_equal(got.life, life.life, IO_LIFE_BYTES);
}

/* ---- journal ---- */

struct dir {
	char path[64], journal[80];
};

static int setup(void **state)
{
	struct dir *d = calloc(1, sizeof(*d));
	const char *tmp = getenv("TMPDIR");

	if (!d)
		return -1;
	snprintf(d->path, sizeof(d->path), "%.40s/cairn-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(d->path))
		return -1;
	snprintf(d->journal, sizeof(d->journal), "%s/journal", d->path);
	*state = d;
	return 0;
}

static int teardown(void **state)
{
	struct dir *d = *state;
	char new[96];

	snprintf(new, sizeof(new), "%s.new", d->journal);
	unlink(new);
	unlink(d->journal);
	rmdir(d->path);
	free(d);
	return 0;
}

/* Keeps the names that the test lists; counts how often it was asked. */
struct keep {
	uint64_t chunks[4];
	size_t n;
	unsigned asked;
};

static int keep_listed(void *arg, struct journal_names *ret)
{
	struct keep *keep = arg;

	keep->asked++;
	ret->items = calloc(keep->n + 1, sizeof(*ret->items));
	for (size_t i = 0; i < keep->n; i++)
		ret->items[ret->n++] = (struct journal_record){
			.kind = JOURNAL_OPEN, .chunk = keep->chunks[i], .version = 1,
			.chunk_bits = 20};
	return 0;
}

/* What a restart would find, as "9f3.1 9f4.2". */
static char *names_text(const struct dir *d)
{
	static char text[4096];
	struct journal_names names;
	struct journal *j;
	size_t n = 0;

	assert_int_equal(journal_open(&io_real, d->path, &j, &names, NULL), 0);
	text[0] = '\0';
	for (size_t i = 0; i < names.n && n < sizeof(text); i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%llx.%u", i ? " " : "",
				      (unsigned long long)names.items[i].chunk,
				      names.items[i].version);
	free(names.items);
	journal_free(j);
	return text;
}

static struct journal *journal_new(const struct io *io, const struct dir *d)
{
	struct journal_names names;
	struct keep none = {0};
	struct journal *j;

	assert_int_equal(journal_open(io, d->path, &j, &names, NULL), 0);
	free(names.items);
	assert_int_equal(journal_begin(j, keep_listed, &none, false, NULL), 0);
	return j;
}

static void test_journal_life(void **state)
{
	struct dir *d = *state;
	struct keep keep = {.chunks = {0x9f4}, .n = 1}, none = {0};
	struct journal *j = journal_new(&io_real, d);

	assert_string_equal(names_text(d), "");
	assert_int_equal(journal_append(j, 0x9f3, 1, 20, NULL), 0);
	assert_int_equal(journal_append(j, 0x9f4, 2, 20, NULL), 0);
	assert_string_equal(names_text(d), "9f3.1 9f4.2");
	/* What is still open is carried over, and appends go on after it. */
	assert_int_equal(journal_begin(j, keep_listed, &keep, false, NULL), 0);
	assert_int_equal(keep.asked, 1);
	assert_int_equal(journal_append(j, 0x9f5, 3, 20, NULL), 0);
	assert_string_equal(names_text(d), "9f4.1 9f5.3");
	/* A clean stop is not one while something is open. */
	assert_int_equal(journal_begin(j, keep_listed, &keep, true, NULL), 0);
	assert_string_equal(names_text(d), "9f4.1");
	assert_int_equal(journal_begin(j, keep_listed, &none, true, NULL), 0);
	assert_string_equal(names_text(d), "");
	/* A crash after that: only what was opened since counts. */
	assert_int_equal(journal_append(j, 0x9f6, 1, 20, NULL), 0);
	assert_string_equal(names_text(d), "9f6.1");
	journal_free(j);
}

static void test_journal_torn_record(void **state)
{
	struct dir *d = *state;
	struct journal *j = journal_new(&io_real, d);
	_cleanup_fd_ int fd = -1;

	for (uint64_t i = 1; i <= 3; i++)
		assert_int_equal(journal_append(j, i, 1, 20, NULL), 0);
	journal_free(j);
	fd = open(d->journal, O_RDWR);
	assert_int_equal(pwrite(fd, "x", 1, 3 * JOURNAL_RECORD_BYTES + 9), 1);
	assert_string_equal(names_text(d), "1.1 2.1");
}

static void test_journal_before_begin(void **state)
{
	struct dir *d = *state;
	struct journal_names names;
	struct journal *j;

	/* The journal of the crash must not be overwritten before it was evaluated. */
	assert_int_equal(journal_open(&io_real, d->path, &j, &names, NULL), 0);
	assert_int_equal(journal_append(j, 1, 1, 20, NULL), ERR_IO);
	free(names.items);
	journal_free(j);
}

struct appender {
	struct journal *j;
	uint64_t first;
	int result;
};

enum { APPENDERS = 32 };

static atomic_uint begun;

/* On a disk that syncs at once nobody would ever have to share: the others come before it ends. */
static int sync_when_all_have_begun(const struct io *io, int fd)
{
	while (atomic_load(&begun) > 0 && atomic_load(&begun) < APPENDERS)
		sched_yield();
	for (int i = 0; i < 100; i++)
		sched_yield();
	return io_real.fdatasync(&io_real, fd);
}

static void *append_some(void *arg)
{
	struct appender *a = arg;

	atomic_fetch_add(&begun, 1);
	for (uint64_t i = 0; i < 50 && a->result == 0; i++)
		a->result = journal_append(a->j, a->first + i, 1, 20, NULL);
	return NULL;
}

/* Many threads share syncs; nothing is lost and the file grows past what was written ahead. */
static void test_journal_group_commit(void **state)
{
	struct dir *d = *state;
	struct io slow = io_real;
	struct io_faulty faulty;
	struct journal_names names;
	struct appender a[APPENDERS];
	pthread_t threads[APPENDERS];
	unsigned syncs, seen[APPENDERS * 100] = {0};
	struct journal *j;

	slow.fdatasync = sync_when_all_have_begun;
	io_faulty_init(&faulty, &slow);
	syncs = io_faulty_add(&faulty, (struct io_fault){.kind = IO_FDATASYNC, .nth = UINT32_MAX});
	j = journal_new(&faulty.io, d);
	for (unsigned i = 0; i < APPENDERS; i++) {
		a[i] = (struct appender){.j = j, .first = i * 100};
		assert_int_equal(pthread_create(&threads[i], NULL, append_some, &a[i]), 0);
	}
	for (unsigned i = 0; i < APPENDERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(a[i].result, 0);
	}
	assert_true(faulty.seen[syncs] < APPENDERS * 50);
	journal_free(j);
	assert_int_equal(journal_open(&io_real, d->path, &j, &names, NULL), 0);
	assert_int_equal(names.n, APPENDERS * 50);
	for (size_t i = 0; i < names.n; i++)
		assert_int_equal(seen[names.items[i].chunk]++, 0);
	free(names.items);
	journal_free(j);
}

static void test_journal_no_space(void **state)
{
	struct dir *d = *state;
	struct io_faulty faulty;
	struct err err = {0};
	struct journal *j;
	unsigned fault;

	io_faulty_init(&faulty, &io_real);
	j = journal_new(&faulty.io, d);
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = IO_PWRITE, .nth = 2, .eno = ENOSPC,
							 .short_bytes = 10, .match = "journal"});
	assert_int_equal(journal_append(j, 1, 1, 20, NULL), 0);
	assert_int_equal(journal_append(j, 2, 1, 20, &err), ERR_NOSPC);
	assert_int_equal(faulty.fired[fault], 1);
	assert_non_null(strstr(err.text, d->journal));
	/* The half record is overwritten. */
	assert_int_equal(journal_append(j, 3, 1, 20, NULL), 0);
	assert_string_equal(names_text(d), "1.1 3.1");
	journal_free(j);
}

/* After a failed sync nobody knows what is on the disk: only a new journal is trusted. */
static void test_journal_sync_fails(void **state)
{
	struct dir *d = *state;
	struct keep keep = {.chunks = {1}, .n = 1};
	struct io_faulty faulty;
	struct journal *j;
	unsigned fault;

	io_faulty_init(&faulty, &io_real);
	j = journal_new(&faulty.io, d);
	fault = io_faulty_add(&faulty, (struct io_fault){.kind = IO_FDATASYNC, .nth = 2,
							 .eno = EIO, .match = "journal"});
	assert_int_equal(journal_append(j, 1, 1, 20, NULL), 0);
	assert_int_equal(journal_append(j, 2, 1, 20, NULL), ERR_IO);
	assert_int_equal(faulty.fired[fault], 1);
	assert_int_equal(journal_append(j, 3, 1, 20, NULL), ERR_IO);
	assert_int_equal(journal_begin(j, keep_listed, &keep, false, NULL), 0);
	assert_int_equal(journal_append(j, 4, 1, 20, NULL), 0);
	assert_string_equal(names_text(d), "1.1 4.1");
	journal_free(j);
}

/* The old journal stays in use, complete, when the new one cannot be made. */
static void test_journal_begin_fails(void **state)
{
	static const enum io_kind kinds[] = {IO_OPEN, IO_PWRITE, IO_FDATASYNC, IO_RENAME};
	struct dir *d = *state;
	struct keep none = {0};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct io_faulty faulty;
		struct journal *j;
		unsigned fault;
		io_faulty_init(&faulty, &io_real);
		j = journal_new(&faulty.io, d);
		assert_int_equal(journal_append(j, 1, 1, 20, NULL), 0);
		fault = io_faulty_add(&faulty, (struct io_fault){.kind = kinds[i], .nth = 1,
						.eno = ENOSPC, .match = "journal.new"});
		assert_int_equal(journal_begin(j, keep_listed, &none, true, NULL), ERR_NOSPC);
		assert_int_equal(faulty.fired[fault], 1);
		assert_int_equal(journal_append(j, 2, 1, 20, NULL), 0);
		assert_string_equal(names_text(d), "1.1 2.1");
		journal_free(j);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_journal_record),
		cmocka_unit_test_setup_teardown(test_journal_life, setup, teardown),
		cmocka_unit_test_setup_teardown(test_journal_torn_record, setup, teardown),
		cmocka_unit_test_setup_teardown(test_journal_before_begin, setup, teardown),
		cmocka_unit_test_setup_teardown(test_journal_group_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_journal_no_space, setup, teardown),
		cmocka_unit_test_setup_teardown(test_journal_sync_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_journal_begin_fails, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
