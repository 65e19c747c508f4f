#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tools/progress.h"
#include "tools/text.h"

static void test_size(void **state)
{
	static const struct { uint64_t bytes; const char *text; } cases[] = {
		{0, "0"}, {1023, "1023"}, {1024, "1.0K"}, {1025, "1.1K"}, {1536, "1.5K"},
		{10239, "10K"}, {10241, "11K"}, {1 << 20, "1.0M"}, {(1 << 20) + 1, "1.1M"},
		{64 << 20, "64M"}, {3ULL << 40, "3.0T"}, {UINT64_MAX, "16E"},
	};
	char text[TEXT_SIZE_BYTES];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(text_size(cases[i].bytes, text), cases[i].text);
}

static void test_mode(void **state)
{
	static const struct { uint32_t mode; const char *text; } cases[] = {
		{S_IFREG | 0644, "-rw-r--r--"}, {S_IFDIR | 01777, "drwxrwxrwt"},
		{S_IFREG | 04755, "-rwsr-xr-x"}, {S_IFREG | 02640, "-rw-r-S---"},
		{S_IFLNK | 0777, "lrwxrwxrwx"}, {S_IFIFO, "p---------"},
		{S_IFDIR | 01000, "d--------T"},
	};
	char text[TEXT_MODE_BYTES];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(text_mode(cases[i].mode, text), cases[i].text);
}

static void test_shell_quote(void **state)
{
	static const char *const cases[][2] = {
		{"plain/path-1.2", "plain/path-1.2"}, {"", "''"}, {"a b", "'a b'"},
		{"it's", "'it'\\''s'"}, {"$(reboot)", "'$(reboot)'"}, {"a\nb", "'a\nb'"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf b = {0};
		text_shell_quote(&b, cases[i][0]);
		assert_string_equal(buf_str(&b), cases[i][1]);
		buf_release(&b);
	}
}

static void test_utf8(void **state)
{
	static const struct { const char *s; size_t prefix; } cases[] = {
		{"abc", 3}, {"\xc3\xa4x", 3}, {"a\xff", 1}, {"\xc3", 0}, {"\xc0\x80", 0},
		{"\xed\xa0\x80", 0} /* surrogate */, {"\xf4\x90\x80\x80", 0} /* > 10ffff */,
		{"\xe2\x82\xac", 3}, {"\xe0\x80\x80", 0} /* overlong */, {"\xf0\x9f\x98\x80", 4},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(text_utf8_prefix(cases[i].s, strlen(cases[i].s)), cases[i].prefix);
}

static void test_json_name(void **state)
{
	json_t *o = json_object();

	assert_int_equal(text_json_name(o, "name", "\xc3\xa4"), 0);
	assert_string_equal(json_string_value(json_object_get(o, "name")), "\xc3\xa4");
	assert_null(json_object_get(o, "name_hex"));

	assert_int_equal(text_json_name(o, "name", "a\xff\xfe" "b"), 0);
	assert_string_equal(json_string_value(json_object_get(o, "name")),
			    "a\xef\xbf\xbd\xef\xbf\xbd" "b");
	assert_string_equal(json_string_value(json_object_get(o, "name_hex")), "61fffe62");
	json_decref(o);
}

static void test_paths(void **state)
{
	static const struct { const char *path, *dir, *base; } cases[] = {
		{"/a/b", "/a", "b"}, {"/a", "/", "a"}, {"/", "/", "/"}, {"a", ".", "a"},
		{"a/b/", "a", "b"}, {"//x", "/", "x"}, {"/a//b//", "/a", "b"}, {".", ".", "."},
	};
	char *joined;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *dir = text_dir(cases[i].path), *base = text_base(cases[i].path);
		assert_string_equal(dir, cases[i].dir);
		assert_string_equal(base, cases[i].base);
		free(dir);
		free(base);
	}
	joined = text_join("/", "a");
	assert_string_equal(joined, "/a");
	free(joined);
	joined = text_join("/d", "a");
	assert_string_equal(joined, "/d/a");
	free(joined);
}

static void test_temp_name(void **state)
{
	char name[TEXT_NAME_BYTES], lengthy[256];

	text_temp_name("file", 0xbeef, name);
	assert_string_equal(name, ".file.cairn-0000beef");
	memset(lengthy, 'n', 255);
	lengthy[255] = '\0';
	text_temp_name(lengthy, 1, name);
	assert_int_equal(strlen(name), 255);
	assert_string_equal(name + 255 - 15, ".cairn-00000001");
	/* "\u00e4" twice as many bytes: never cut in its middle. */
	for (int i = 0; i < 254; i += 2)
		memcpy(lengthy + i, "\xc3\xa4", 2);
	lengthy[254] = '\0';
	text_temp_name(lengthy, 1, name);
	assert_true(strlen(name) <= 255);
	assert_int_equal(text_utf8_prefix(name, strlen(name)), strlen(name));
}

static void test_progress(void **state)
{
	char line[160];

	progress_text(3, 10, 1 << 20, 4 << 20, 500, line, sizeof(line));
	assert_string_equal(line, "3/10 files, 1.0M/4.0M 25%, 2.0M/s");
	progress_text(0, 0, 0, 0, 0, line, sizeof(line));
	assert_string_equal(line, "0/0 files, 0/0 100%, 0/s");
	/* A file that grew while it was copied. */
	progress_text(1, 1, 20, 10, 1000, line, sizeof(line));
	assert_string_equal(line, "1/1 files, 20/10 100%, 20/s");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size), cmocka_unit_test(test_mode),
		cmocka_unit_test(test_shell_quote), cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_json_name), cmocka_unit_test(test_paths),
		cmocka_unit_test(test_temp_name), cmocka_unit_test(test_progress),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
