/* master: a state goes into a backup file and comes back; damaged files are refused; what an import
 * makes of a state; check, export and import on real databases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "common/backup.h"
#include "common/log.h"
#include "master/master.h"
#include "master/offline.h"
#include "master/schema_check.h"
#include "tests/unit/sample_state.h"

static struct sample sample;

/* The sample as the bytes of a backup file. */
static void write_sample(char **ret, size_t *ret_size)
{
	struct backup_info info = {.applied = sample.index, .cluster = "0123456789abcde"};
	struct backup_writer w;
	struct state_iter *it;
	struct slice key, value;
	FILE *file = open_memstream(ret, ret_size);

	assert_non_null(file);
	assert_int_equal(backup_create_stream(&w, file, &info, NULL), 0);
	assert_int_equal(state_iter_open(sample.st, (struct slice){0}, (struct slice){0}, &it), 0);
	while (state_iter_next(it, &key, &value) == 1)
		assert_int_equal(backup_put(&w, key, value, NULL), 0);
	state_iter_close(it);
	assert_int_equal(backup_finish(&w, NULL), 0);
	backup_release(&w);
	fclose(file);
}

/* Reads all rows; into st if there is one. What backup_read said last. */
static int read_rows(const char *bytes, size_t size, struct state *st, struct backup_info *ret,
		     struct err *err)
{
	FILE *file = fmemopen((void *)bytes, size, "r");
	struct backup_reader reader;
	struct slice key, value;
	int r;

	assert_non_null(file);
	r = backup_read_open(&reader, file, err);
	while (r == 0 && (r = backup_read(&reader, &key, &value, err)) == 1) {
		if (st) {
			state_begin(st);
			state_put(st, key, value);
			state_commit(st);
		}
		r = 0;
	}
	*ret = reader.info;
	backup_read_release(&reader);
	fclose(file);
	return r;
}

static void test_a_state_comes_back_as_it_was(void **state)
{
	_cleanup_buf_ struct buf before = {0}, after = {0};
	struct backup_info info;
	struct state *copy;
	char *bytes;
	size_t size;

	sample_new(&sample);
	write_sample(&bytes, &size);
	assert_int_equal(state_new(NULL, &copy), 0);
	assert_int_equal(read_rows(bytes, size, copy, &info, NULL), 0);
	assert_int_equal(info.applied, sample.index);
	assert_memory_equal(info.cluster, "0123456789abcde", 16);
	schema_dump(sample.st, &before);
	schema_dump(copy, &after);
	assert_string_equal(buf_str(&before), buf_str(&after));
	state_free(copy);
	state_free(sample.st);
	free(bytes);
}

static void test_damaged_files_are_refused(void **state)
{
	struct backup_info info;
	struct err err;
	char *bytes;
	size_t size;

	sample_new(&sample);
	write_sample(&bytes, &size);
	assert_int_equal(read_rows(bytes, size, NULL, &info, NULL), 0);
	for (size_t n = 1; n < size; n += n < 100 ? 1 : 97)
		assert_int_equal(read_rows(bytes, n, NULL, &info, &err), ERR_CORRUPT);
	for (size_t n = 1; n <= 64; n++) /* the end, and a part of the last rows */
		assert_int_equal(read_rows(bytes, size - n, NULL, &info, &err), ERR_CORRUPT);
	for (size_t i = 0; i < size; i += i < 200 || i > size - 200 ? 1 : 31) {
		bytes[i] ^= 0x10;
		assert_true(read_rows(bytes, size, NULL, &info, &err) < 0);
		assert_true(err.text[0]);
		bytes[i] ^= 0x10;
	}
	bytes = realloc(bytes, size + 1);
	bytes[size] = 0;
	assert_int_equal(read_rows(bytes, size + 1, NULL, &info, &err), ERR_CORRUPT);
	assert_non_null(strstr(err.text, "something follows"));
	state_free(sample.st);
	free(bytes);
}

static void test_rows_must_rise(void **state)
{
	struct backup_info info = {0};
	struct backup_writer w;
	char *bytes;
	size_t size;
	FILE *file = open_memstream(&bytes, &size);

	assert_int_equal(backup_create_stream(&w, file, &info, NULL), 0);
	assert_int_equal(backup_put(&w, SLICE_LIT("b"), SLICE_LIT("1"), NULL), 0);
	assert_int_equal(backup_put(&w, SLICE_LIT("b"), SLICE_LIT("2"), NULL), ERR_CORRUPT);
	assert_int_equal(backup_put(&w, SLICE_LIT("a"), SLICE_LIT("3"), NULL), ERR_CORRUPT);
	backup_release(&w);
	fclose(file);
	free(bytes);
}

/* ---- importing ---- */

static struct state *imported(void)
{
	struct import im = {0};
	struct state_iter *it;
	struct slice key, value;
	struct err err = {0};

	assert_int_equal(state_new(NULL, &im.st), 0);
	assert_int_equal(state_iter_open(sample.st, (struct slice){0}, (struct slice){0}, &it), 0);
	state_begin(im.st);
	while (state_iter_next(it, &key, &value) == 1)
		assert_int_equal(import_row(&im, key, value, &err), 0);
	state_iter_close(it);
	assert_int_equal(state_commit(im.st), 0);
	if (import_finish(&im, &err) < 0)
		fail_msg("%s", err.text);
	return im.st;
}

static void assert_no_rows(struct state *st, const char *types)
{
	for (; *types; types++) {
		struct slice key, value;
		struct state_iter *it;
		assert_int_equal(state_iter_open(st, slice_of(types, 1), (struct slice){0}, &it),
				 0);
		if (state_iter_next(it, &key, &value) != 0)
			fail_msg("a row of type %c is left", *types);
		state_iter_close(it);
	}
}

static void assert_sound(struct state *st)
{
	_cleanup_buf_ struct buf report = {0};
	if (schema_check(st, &report, 10) != 0)
		fail_msg("%s", buf_str(&report));
}

static void test_what_an_import_makes_of_a_state(void **state)
{
	_cleanup_buf_ struct buf backing = {0}, old_backing = {0};
	struct row_meta meta, old;
	struct row_inode inode;
	struct row_chunk chunk;
	struct state *st;

	sample_new(&sample);
	st = imported();
	assert_sound(st);
	assert_int_equal(ns_meta(sample.st, &old, &old_backing), 0);
	assert_int_equal(ns_meta(st, &meta, &backing), 0);
	assert_true(old.garbage > 0 && old.sessions > 0);
	assert_int_equal(meta.applied, 0);
	assert_int_equal(meta.held, 1);
	assert_int_equal(meta.sessions, 0);
	assert_int_equal(meta.garbage, 0);
	assert_int_equal(meta.next_inode, old.next_inode + IMPORT_SKIP_IDS);
	assert_int_equal(meta.next_chunk, old.next_chunk + IMPORT_SKIP_IDS);
	assert_int_equal(meta.next_session, old.next_session + IMPORT_SKIP_IDS);
	assert_int_equal(meta.next_server, old.next_server + IMPORT_SKIP_SERVERS);
	assert_true(slice_eq(meta.cluster, old.cluster));
	assert_no_rows(st, "SNrog");
	/* The file that was open without a name has gone with its session; others are there. */
	assert_int_equal(ns_inode(st, SAMPLE_OPEN, &inode, &backing), ERR_NOENT);
	assert_int_equal(ns_inode(st, SAMPLE_FILE, &inode, &backing), 0);
	assert_int_equal(state_get_row_chunk(st, key_chunk(SAMPLE_FEW), &chunk, &backing), 1);
	assert_int_equal(chunk.flags, CHUNK_WRITTEN | CHUNK_RESTORED);
	/* The log begins anew: its first entry is taken. */
	struct sample again = {.st = st};
	struct cmd_session_open open = {.req = {.nonce = 1}};
	sample_apply(&again, CMD_NUMBER_SESSION_OPEN, &open);
	assert_sound(st);
	state_free(st);
	state_free(sample.st);
}

static int adopt(struct state *st, uint64_t index, const struct cmd_chunk_adopt *m)
{
	_cleanup_buf_ struct buf entry = {0};
	struct apply_result result;
	int status;

	assert_int_equal(cmd_put(&entry, CMD_NUMBER_CHUNK_ADOPT, (struct when){0}, m), 0);
	assert_int_equal(apply_entry(st, index, buf_slice(&entry), &result, NULL), 0);
	status = result.status;
	apply_result_release(&result);
	return status;
}

static void test_newer_versions_are_taken_over_once(void **state)
{
	_cleanup_buf_ struct buf backing = {0};
	struct cmd_chunk_adopt m = {.chunk = SAMPLE_FEW, .version = 7, .n_members = 3,
				    .members = {{.server = 4}, {.server = 3}, {.server = 4}}};
	struct cmd_hold off = {.held = 0};
	struct sample after;
	struct row_chunk row;
	struct state *st;

	sample_new(&sample);
	assert_int_equal(adopt(sample.st, sample.index + 1, &m), ERR_BUSY); /* not imported */
	st = imported();
	m.version = 1;
	assert_int_equal(adopt(st, 1, &m), ERR_CHUNK_VERSION);
	m.version = 7;
	m.members[0].server = 99999;
	assert_int_equal(adopt(st, 2, &m), ERR_INVAL);
	m.members[0].server = 4;
	assert_int_equal(adopt(st, 3, &m), 0);
	assert_sound(st);
	assert_int_equal(state_get_row_chunk(st, key_chunk(SAMPLE_FEW), &row, &backing), 1);
	assert_int_equal(row.version, 7);
	assert_int_equal(row.n_members, 2);
	assert_int_equal(row.members[0].server, 4);
	/* It is this state's own now. */
	m.version = 8;
	assert_int_equal(adopt(st, 4, &m), ERR_BUSY);
	/* What was pending in the backup was settled by what the servers did since. */
	m = (struct cmd_chunk_adopt){.chunk = SAMPLE_WHOLE, .version = 2, .n_members = 1,
				     .members = {{.server = 1}}};
	assert_int_equal(adopt(st, 5, &m), 0);
	assert_int_equal(state_get_row_chunk(st, key_chunk(SAMPLE_WHOLE), &row, &backing), 1);
	assert_int_equal(row.pending_version, 0);
	assert_sound(st);
	after = (struct sample){.st = st, .index = 5};
	sample_apply(&after, CMD_NUMBER_HOLD, &off);
	m.chunk = SAMPLE_BIG_CHUNK + CHUNKS_FREED_MAX; /* still there: being freed */
	assert_int_equal(adopt(st, 7, &m), ERR_BUSY);
	state_free(st);
	state_free(sample.st);
}

static void test_a_backup_without_its_first_row(void **state)
{
	struct import im = {0};
	struct err err = {0};

	assert_int_equal(state_new(NULL, &im.st), 0);
	assert_int_equal(import_finish(&im, &err), ERR_CORRUPT);
	state_free(im.st);
}

/* A newer program wrote it: nothing is read into it that may mean something else there, and nothing
 * is written without what only that one knows. */
static void test_a_state_of_a_newer_program_is_refused(void **state)
{
	_cleanup_buf_ struct buf backing = {0}, row = {0}, entry = {0}, before = {0}, after = {0};
	struct cmd_session_open open = {.req = {.name = SLICE_LIT("late"), .nonce = 99}};
	struct apply_result result = {0};
	struct import im = {0};
	struct key key = key_meta();
	struct row_meta meta;
	struct err err = {0};

	sample_new(&sample);
	assert_int_equal(ns_meta(sample.st, &meta, &backing), 0);
	assert_int_equal(schema_level_check(&meta, "it", &err), 0);
	meta.level = SCHEMA_LEVEL + 1;
	assert_int_equal(schema_level_check(&meta, "it", &err), ERR_VERSION);
	assert_non_null(strstr(err.text, "it has feature level"));
	row_meta_put(&row, &meta);
	assert_int_equal(state_new(NULL, &im.st), 0);
	assert_int_equal(import_row(&im, key_slice(&key), buf_slice(&row), &err), ERR_VERSION);
	state_free(im.st);
	state_begin(sample.st);
	state_put_row_meta(sample.st, key, &meta);
	assert_int_equal(state_commit(sample.st), 0);
	schema_dump(sample.st, &before);
	assert_int_equal(cmd_put(&entry, CMD_NUMBER_SESSION_OPEN, (struct when){.sec = 1}, &open), 0);
	assert_int_equal(apply_entry(sample.st, sample.index + 1, buf_slice(&entry), &result, &err),
			 ERR_VERSION);
	schema_dump(sample.st, &after);
	assert_string_equal(buf_str(&before), buf_str(&after));
	apply_result_release(&result);
	state_free(sample.st);
}

/* ---- with files ---- */

static char dir[] = "/tmp/cairn-test-XXXXXX";

static void shell(const char *command)
{
	char full[512];
	snprintf(full, sizeof(full), "cd '%s' && %s", dir, command);
	assert_int_equal(system(full), 0);
}

static void write_backup(const char *path)
{
	char *bytes;
	size_t size;
	FILE *file;

	write_sample(&bytes, &size);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	fclose(file);
	free(bytes);
}

static void test_import_check_export(void **state)
{
	char data[64], backup[64], again[64];
	struct master_options o = {.data_dir = data, .cache_bytes = 8 << 20};
	struct err err = {0};

	log_setup("test", LOG_ERROR);
	assert_non_null(mkdtemp(dir));
	snprintf(data, sizeof(data), "%s/data", dir);
	snprintf(backup, sizeof(backup), "%s/backup", dir);
	snprintf(again, sizeof(again), "%s/again", dir);
	sample_new(&sample);
	write_backup(backup);
	o.import_file = backup;
	shell("head -c 5000 backup >cut");
	o.import_file = again;
	assert_int_equal(offline_import(&o), OFFLINE_FAILED); /* no such file */
	char cut[64];
	snprintf(cut, sizeof(cut), "%s/cut", dir);
	o.import_file = cut;
	assert_int_equal(offline_import(&o), OFFLINE_FAILED);
	shell("[ ! -e data/db ] && [ ! -e data/import.new ]");
	/* What an interrupted import left: no master starts there, the next import goes on. */
	shell("mkdir data/import.new && echo x >data/import.new/000001.log");
	assert_int_equal(offline_unfinished(&o, &err), ERR_BUSY);
	o.import_file = backup;
	assert_int_equal(offline_import(&o), OFFLINE_SOUND);
	assert_int_equal(offline_unfinished(&o, &err), 0);
	assert_int_equal(offline_import(&o), OFFLINE_FAILED); /* not empty now */
	assert_int_equal(offline_check(&o), OFFLINE_SOUND);
	o.export_file = again;
	assert_int_equal(offline_export(&o), OFFLINE_SOUND);
	shell("[ -s again ] && [ ! -e again.new ] && rm -r data");
	/* The exported one can be restored too. */
	o.import_file = again;
	assert_int_equal(offline_import(&o), OFFLINE_SOUND);
	assert_int_equal(offline_check(&o), OFFLINE_SOUND);
	o.data_dir = again; /* a file */
	assert_int_equal(offline_check(&o), OFFLINE_FAILED);
	shell("rm -rf data backup again cut && rmdir \"$PWD\"");
	state_free(sample.st);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_state_comes_back_as_it_was),
		cmocka_unit_test(test_damaged_files_are_refused),
		cmocka_unit_test(test_rows_must_rise),
		cmocka_unit_test(test_what_an_import_makes_of_a_state),
		cmocka_unit_test(test_newer_versions_are_taken_over_once),
		cmocka_unit_test(test_a_backup_without_its_first_row),
		cmocka_unit_test(test_a_state_of_a_newer_program_is_refused),
		cmocka_unit_test(test_import_check_export),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
