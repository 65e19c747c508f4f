/* The command line of cairn-mount, as users, fstab and mount(8) write it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "fuse/options.h"

static char mountpoint[4096];

static int set_up(void **state)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(mountpoint, sizeof(mountpoint), "%s/cairn-options-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(mountpoint))
		return -1;
	/* What the options hold is the resolved path. */
	char *path = realpath(mountpoint, NULL);
	if (!path)
		return -1;
	snprintf(mountpoint, sizeof(mountpoint), "%s", path);
	free(path);
	return 0;
}

static int tear_down(void **state)
{
	return rmdir(mountpoint);
}

/* MNT stands for the mount point. */
static int parse(struct mount_options *ret, struct err *err, int argc, const char **words)
{
	char *argv[16];
	int r;

	for (int i = 0; i < argc; i++)
		argv[i] = strdup(strcmp(words[i], "MNT") == 0 ? mountpoint : words[i]);
	argv[argc] = NULL;
	*err = (struct err){0};
	r = mount_options_parse(argc, argv, ret, err);
	for (int i = 0; i < argc; i++)
		free(argv[i]);
	return r;
}
#define PARSE(...)                                                                   \
	parse(&o, &err, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), \
	      (const char *[]){__VA_ARGS__})

/* All that libfuse gets to see, in one line. */
static const char *fuse_line(const struct mount_options *o)
{
	static char line[1024];

	line[0] = '\0';
	for (int i = 1; i < o->args.argc; i++) {
		size_t n = strlen(line);
		snprintf(line + n, sizeof(line) - n, "%s%s", i > 1 ? " " : "", o->args.argv[i]);
	}
	return line;
}

static void test_plain(void **state)
{
	struct mount_options o;
	struct err err;

	assert_int_equal(PARSE("cairn-mount", "h:1,i:2:/", "MNT", "-f"), 0);
	assert_string_equal(o.masters, "h:1,i:2");
	assert_string_equal(o.mountpoint, mountpoint);
	assert_true(o.foreground);
	assert_false(o.debug);
	assert_false(o.single_thread);
	assert_null(o.credentials);
	assert_int_equal(o.timeout_ms, 0);
	assert_int_equal(o.log_level, LOG_INFO);
	mount_options_release(&o);
}

static void test_own_options(void **state)
{
	struct mount_options o;
	struct err err;

	assert_int_equal(PARSE("cairn-mount", "MNT", "-s", "-o",
			       "master=h:1,credentials=/k,timeout=1500ms,log_level=warn", "-o",
			       "readahead=0,log_file=/l"), 0);
	assert_string_equal(o.masters, "h:1");
	assert_string_equal(o.credentials, "/k");
	assert_string_equal(o.log_file, "/l");
	assert_int_equal(o.timeout_ms, 1500);
	assert_int_equal(o.readahead_bytes, -1);
	assert_int_equal(o.log_level, LOG_WARN);
	assert_true(o.single_thread);
	assert_false(o.foreground);
	mount_options_release(&o);

	assert_int_equal(PARSE("cairn-mount", "MNT", "-d", "-oreadahead=2M"), 0);
	assert_int_equal(o.readahead_bytes, 2 << 20);
	assert_true(o.foreground && o.debug);
	assert_int_equal(o.log_level, LOG_DEBUG);
	mount_options_release(&o);
}

/* When reads set the time of access, and what of that the kernel is told too. */
static void test_access_times(void **state)
{
	struct mount_options o;
	struct err err;

	assert_int_equal(PARSE("cairn-mount", "MNT"), 0);
	assert_int_equal(o.atime, CAIRN_ATIME_RELATIVE);
	assert_false(o.read_only);
	mount_options_release(&o);
	assert_int_equal(PARSE("cairn-mount", "MNT", "-o", "strictatime"), 0);
	assert_int_equal(o.atime, CAIRN_ATIME_STRICT);
	assert_string_equal(fuse_line(&o), "");
	mount_options_release(&o);
	assert_int_equal(PARSE("cairn-mount", "MNT", "-o", "relatime,noatime,ro"), 0);
	assert_int_equal(o.atime, CAIRN_ATIME_NONE);
	assert_true(o.read_only);
	assert_string_equal(fuse_line(&o), "-o noatime,ro");
	mount_options_release(&o);
}

/* What libfuse gets: the user's standard options and ours, none of fstab's. */
static void test_passed_on(void **state)
{
	struct mount_options o;
	struct err err;

	assert_int_equal(PARSE("cairn-mount", "h:1,i:2:/", "MNT", "-o",
			       "rw,_netdev,noauto,user,x-systemd.automount,comment=x,defaults,"
			       "nosuid,allow_other,default_permissions,max_read=4096"), 0);
	assert_string_equal(fuse_line(&o), "-o rw,nosuid,allow_other");
	assert_int_equal(mount_options_fuse_args(&o, o.masters, &err), 0);
	assert_string_equal(fuse_line(&o),
			    "-o default_permissions,max_read=1048576,subtype=cairn "
			    "-o fsname=h:1\\,i:2 -o rw,nosuid,allow_other");
	mount_options_release(&o);

	assert_int_equal(PARSE("cairn-mount", "MNT", "-o", "fsname=mine,ro"), 0);
	assert_int_equal(mount_options_fuse_args(&o, "h:1", &err), 0);
	assert_non_null(strstr(fuse_line(&o), "fsname=mine"));
	assert_null(strstr(fuse_line(&o), "h:1"));
	mount_options_release(&o);
}

/* mount(8): "mount.cairn SPEC DIR [-sfnv] -o options"; -s is "sloppy" there. */
static void test_mount_helper(void **state)
{
	struct mount_options o;
	struct err err;

	assert_int_equal(PARSE("/sbin/mount.cairn", "h:1:/", "MNT", "-o", "rw,strange,ro=never",
			       "-s", "-n", "-v"), 0);
	assert_string_equal(o.masters, "h:1");
	assert_false(o.single_thread);
	assert_string_equal(fuse_line(&o), "-o rw");
	mount_options_release(&o);

	assert_int_equal(PARSE("/sbin/mount.cairn", "h:1:/", "MNT", "-o", "rw,strange"),
			 ERR_CONFIG);
	assert_string_equal(err.text, "-o strange: unknown option");
}

static void test_refused(void **state)
{
	struct mount_options o;
	struct err err;

	assert_int_equal(PARSE("cairn-mount"), ERR_CONFIG);
	assert_int_equal(PARSE("cairn-mount", "a:1", "MNT", "more"), ERR_CONFIG);
	assert_string_equal(err.text, "more: unexpected argument");
	assert_int_equal(PARSE("cairn-mount", "MNT", "-x"), ERR_CONFIG);
	assert_int_equal(PARSE("cairn-mount", "MNT", "-o", "timeout=soon"), ERR_CONFIG);
	assert_int_equal(PARSE("cairn-mount", "MNT", "-o", "timeout=0"), ERR_CONFIG);
	assert_int_equal(PARSE("cairn-mount", "MNT", "-o", "readahead=-1"), ERR_CONFIG);
	assert_int_equal(PARSE("cairn-mount", "MNT", "-o", "log_level=loud"), ERR_CONFIG);
	assert_int_equal(PARSE("cairn-mount", "/does/not/exist"), ERR_NOENT);
	assert_non_null(strstr(err.text, "/does/not/exist"));
}

static void test_masters_trim(void **state)
{
	static const char *const cases[][2] = {
		{"h:1:/", "h:1"}, {"h:1", "h:1"}, {"[::1]:7:/", "[::1]:7"}, {":/", ""}, {"/", "/"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[32];
		snprintf(text, sizeof(text), "%s", cases[i][0]);
		mount_masters_trim(text);
		assert_string_equal(text, cases[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain), cmocka_unit_test(test_own_options),
		cmocka_unit_test(test_plain), cmocka_unit_test(test_access_times),
		cmocka_unit_test(test_passed_on), cmocka_unit_test(test_mount_helper),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_masters_trim),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
