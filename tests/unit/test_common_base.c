/* common: crc, conf, io, log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/conf.h"
#include "common/crc.h"
#include "common/err.h"
#include "common/io.h"
#include "common/limits.h"
#include "common/log.h"

/* ---- crc ---- */

static void test_crc_known_values(void **state)
{
	static const uint8_t zeros[BLOCK_BYTES];
	uint8_t ones[32];

	memset(ones, 0xff, sizeof(ones));
	/* RFC 3720 B.4 and the check value of the CRC catalogue. */
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa);
	assert_int_equal(crc32c(0, ones, 32), 0x62a8ab43);
	assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
	assert_int_equal(crc_stored(zeros, 0, BLOCK_BYTES), 0);
	assert_int_equal(crc_stored(zeros, 100, 0), 0);
}

static void test_crc_sums(void **state)
{
	enum { LEN = 3 * BLOCK_BYTES };
	_cleanup_free_ uint8_t *data = malloc(LEN);
	uint8_t sums[16], block[BLOCK_BYTES] = {0};

	for (int i = 0; i < LEN; i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(crc_sums_count(100, LEN), 4);
	assert_int_equal(crc_sums_count(0, LEN), 3);
	assert_int_equal(crc_sums_count(4095, 2), 2);
	assert_int_equal(crc_sums_count(5, 0), 0);
	assert_int_equal(crc_sums(sums, data, 100, LEN), 4);
	memcpy(block + 100, data, BLOCK_BYTES - 100);
	assert_int_equal(get_le32(sums), crc_stored(block, 0, BLOCK_BYTES));
	assert_int_equal(crc_sums_check(sums, data, 100, LEN), -1);
	data[BLOCK_BYTES]++;
	assert_int_equal(crc_sums_check(sums, data, 100, LEN), 1);
}

/* ---- conf ---- */

static char *opt_dir;
static int64_t opt_count, opt_size, opt_time;
static bool opt_flag;
static struct conf_list opt_list;
static const struct conf_option options[] = {
	{"data_dir", CONF_STRING, &opt_dir, "/var/lib/x", 0, 0, "where"},
	{"count", CONF_INT, &opt_count, "3", 1, 9, "how many"},
	{"size", CONF_SIZE, &opt_size, "64M", 0, 0, "how big"},
	{"time", CONF_TIME, &opt_time, "5s", 10, 100000, "how long"},
	{"flag", CONF_BOOL, &opt_flag, "no", 0, 0, "whether"},
	{"list", CONF_LIST, &opt_list, "a, b", 0, 0, "which"},
	{0},
};
static const struct conf conf = {"prog", "sect", NULL, "usage", options};

static int load_flags(struct err *err, const char *a, const char *b)
{
	char *argv[] = {(char *)(uintptr_t)"prog", (char *)(uintptr_t)a, (char *)(uintptr_t)b};
	conf_release(&conf);
	return conf_load(&conf, b ? 3 : a ? 2 : 1, argv, NULL, err);
}

static int load_file(struct err *err, const char *text)
{
	char path[] = "/tmp/cairn-test-XXXXXX";
	int fd = mkstemp(path), r;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	r = load_flags(err, "--config", path);
	unlink(path);
	return r;
}

static void test_conf_layers(void **state)
{
	struct err err = {0};

	assert_int_equal(load_flags(&err, NULL, NULL), 0);
	assert_string_equal(opt_dir, "/var/lib/x");
	assert_int_equal(opt_size, 64 << 20);
	assert_int_equal(opt_time, 5000);
	assert_int_equal(opt_list.n, 2);
	assert_string_equal(opt_list.items[1], "b");
	assert_int_equal(load_file(&err, "; remark\n[sect]\ndata_dir = /y\ncount=7\nlist = c\n"
					 "flag = on\n"), 0);
	assert_string_equal(opt_dir, "/y");
	assert_int_equal(opt_count, 7);
	assert_true(opt_flag);
	assert_int_equal(opt_list.n, 1);
	assert_int_equal(load_flags(&err, "--data-dir=/z", "--flag"), 0);
	assert_string_equal(opt_dir, "/z");
	assert_true(opt_flag);
	assert_int_equal(load_flags(&err, "--time", "250ms"), 0);
	assert_int_equal(opt_time, 250);
}

static void test_conf_refuses(void **state)
{
	static const struct { const char *text, *want; } files[] = {
		{"[sect]\nnonsense = 1\n", ":2: unknown option \"nonsense\""},
		{"[sect]\n\ncount = many\n", ":3: count: \"many\" is not a whole number"},
		{"count = 10\n", ":1: count: 10 is out of range (1 to 9)"},
		{"[other]\ncount = 1\n", ":2: section [other] is not [sect]"},
		{"[sect]\ncount\n", ":2: not a [section] or key = value line"},
		{"time = 1y\n", ":1: time: \"1y\" is not a time"},
		{"size = 1Q\n", ":1: size: \"1Q\" is not a size"},
		{"flag = maybe\n", ":1: flag: \"maybe\" is not yes or no"},
	};
	struct err err = {0};

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		assert_int_equal(load_file(&err, files[i].text), ERR_CONFIG);
		if (!strstr(err.text, files[i].want))
			fail_msg("%s: got \"%s\"", files[i].want, err.text);
	}
	assert_int_equal(load_flags(&err, "--nope", NULL), ERR_CONFIG);
	assert_string_equal(err.text, "--nope: unknown option");
	assert_int_equal(load_flags(&err, "--count", NULL), ERR_CONFIG);
	assert_int_equal(load_flags(&err, "--count=0", NULL), ERR_CONFIG);
	assert_int_equal(load_flags(&err, "stray", NULL), ERR_CONFIG);
	assert_int_equal(load_flags(&err, "--config", "/nonexistent/x.conf"), ERR_NOENT);
	assert_non_null(strstr(err.text, "/nonexistent/x.conf"));
	conf_release(&conf);
}

/* ---- io ---- */

static void test_io_faults_strike_and_are_counted(void **state)
{
	char dir[] = "/tmp/cairn-test-XXXXXX", path[64];
	struct io_faulty f;
	const struct io *io = &f.io;
	unsigned third, full;
	int fd;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/file", dir);
	io_faulty_init(&f, &io_real);
	third = io_faulty_add(&f, (struct io_fault){.kind = IO_PWRITE, .nth = 3, .eno = EIO,
						    .short_bytes = 2, .match = "file"});
	full = io_faulty_add(&f, (struct io_fault){.kind = IO_FDATASYNC, .nth = 2, .eno = ENOSPC,
						   .sticky = true});
	fd = io->open(io, path, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(io->pwrite(io, fd, "abc", 3, 0), 0);
	assert_int_equal(io->pwrite(io, fd, "def", 3, 3), 0);
	assert_int_equal(io->pwrite(io, fd, "ghi", 3, 6), ERR_IO);
	assert_int_equal(f.fired[third], 1);
	assert_int_equal(io->size(io, fd), 8); /* the short write left two bytes */
	assert_int_equal(io->pwrite(io, fd, "ghi", 3, 6), 0);
	assert_int_equal(io->fdatasync(io, fd), 0);
	assert_int_equal(io->fdatasync(io, fd), ERR_NOSPC);
	assert_int_equal(io->fdatasync(io, fd), ERR_NOSPC);
	assert_int_equal(f.fired[full], 2);
	assert_int_equal(io->close(io, fd), 0);
	assert_int_equal(io->unlink(io, path), 0);
	assert_int_equal(io->unlink(io, path), ERR_NOENT);
	rmdir(dir);
}

/* ---- log ---- */

static void test_log_lines_cannot_be_forged(void **state)
{
	char path[] = "/tmp/cairn-test-XXXXXX", text[512] = {0};
	int fd = mkstemp(path), saved = dup(STDERR_FILENO);

	assert_true(fd >= 0 && saved >= 0);
	log_setup("tester", LOG_INFO);
	dup2(fd, STDERR_FILENO);
	log_warn("name \"%s\"", "x\n2026 error tester: forged");
	log_debug("not shown");
	dup2(saved, STDERR_FILENO);
	assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
	assert_non_null(strstr(text, "Z warn tester: name \"x\\x0a2026 error"));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	assert_null(strstr(text, "not shown"));
	close(fd);
	close(saved);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc_known_values),
		cmocka_unit_test(test_crc_sums),
		cmocka_unit_test(test_conf_layers),
		cmocka_unit_test(test_conf_refuses),
		cmocka_unit_test(test_io_faults_strike_and_are_counted),
		cmocka_unit_test(test_log_lines_cannot_be_forged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
