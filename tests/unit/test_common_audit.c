/* common: the audit log: its lines, its size, and what a flood of refused requests leaves in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/audit.h"
#include "common/cleanup.h"
#include "common/log.h"

enum { SIZE = 4096, KEEP = 2 };

static char dir[64];

static int setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	log_setup("test", LOG_ERROR);
	snprintf(dir, sizeof(dir), "%.40s/cairn-audit-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	return audit_open(dir, SIZE, KEEP, NULL);
}

static int teardown(void **state)
{
	char cmd[96];

	audit_close();
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd);
}

/* A file's text, to be freed; NULL: there is none. */
static char *read_file(const char *name)
{
	char path[128];
	char *text = calloc(1, 4 * SIZE);
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "r");
	if (!f) {
		free(text);
		return NULL;
	}
	assert_non_null(text);
	assert_true(fread(text, 1, 4 * SIZE - 1, f) < 4 * SIZE - 1);
	fclose(f);
	return text;
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)) != NULL; text += strlen(what))
		n++;
	return n;
}

static void test_one_line_each(void **state)
{
	_cleanup_free_ char *text = NULL;
	char path[128];
	struct stat st;

	audit_done("SERVER_SET OK by %s", "evil\n2026 SERVER_SET OK by somebody else");
	audit_refused("READ by %s", "him");
	text = read_file("audit.log");
	assert_int_equal(count(text, "\n"), 2);
	assert_non_null(strstr(text, "by evil\\x0a2026"));
	assert_non_null(strstr(text, "Z READ by him\n"));
	snprintf(path, sizeof(path), "%s/audit.log", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_goes_on_after_a_restart(void **state)
{
	_cleanup_free_ char *text = NULL;

	audit_done("before");
	audit_close();
	audit_done("between");
	assert_int_equal(audit_open(dir, SIZE, KEEP, NULL), 0);
	audit_done("after");
	text = read_file("audit.log");
	assert_non_null(strstr(text, "before"));
	assert_null(strstr(text, "between"));
	assert_non_null(strstr(text, "after"));
}

static void test_size_is_bounded(void **state)
{
	static const char *const names[] = {"audit.log", "audit.log.1", "audit.log.2"};

	for (unsigned i = 0; i < 1000; i++)
		audit_done("operation %04u", i);
	for (size_t i = 0; i < 3; i++) {
		_cleanup_free_ char *text = read_file(names[i]);
		assert_non_null(text);
		assert_in_range(strlen(text), 1, SIZE);
		/* The newest are kept, in order, and each line is whole. */
		assert_int_equal(count(text, "operation"), count(text, "\n"));
		if (i == 0)
			assert_non_null(strstr(text, "operation 0999\n"));
	}
	assert_null(read_file("audit.log.3"));
}

static void test_a_flood_is_counted(void **state)
{
	_cleanup_free_ char *text = NULL;
	unsigned named, more = 0;

	/* More than are named even if this takes several of the times in which they are counted. */
	for (unsigned i = 0; i < 500; i++)
		audit_refused("flood");
	audit_done("an administrator is heard all the same");
	audit_close();
	text = read_file("audit.log");
	assert_non_null(strstr(text, "an administrator"));
	named = count(text, " flood\n");
	for (const char *p = text; (p = strstr(p, " more refused")) != NULL; p++) {
		const char *number = p;
		while (number[-1] != ' ')
			number--;
		more += (unsigned)strtoul(number, NULL, 10);
	}
	assert_true(named >= AUDIT_REFUSED_MAX && more > 0);
	assert_int_equal(named + more, 500);
}

static void test_without_a_file(void **state)
{
	struct err err = {0};

	audit_close();
	assert_false(audit_is_open());
	audit_done("nothing");
	audit_refused("nothing");
	assert_true(audit_open("/nowhere at all", SIZE, KEEP, &err) < 0);
	assert_false(audit_is_open());
	audit_done("nothing");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_one_line_each),
		T(test_goes_on_after_a_restart),
		T(test_size_is_bounded),
		T(test_a_flood_is_counted),
		T(test_without_a_file),
#undef T
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
