/* What `cairn local` keeps in cluster.json, and which processes it takes for its own. */
#include <setjmp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tools/local.h"

static char dir[4096];

static int set_up(void **state)
{
	const char *tmp = getenv("TMPDIR");
	char sub[4200];

	snprintf(dir, sizeof(dir), "%s/cairn-local-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return -1;
	snprintf(sub, sizeof(sub), "%s/run", dir);
	mkdir(sub, 0700);
	snprintf(sub, sizeof(sub), "%s/log", dir);
	return mkdir(sub, 0700);
}

static void remove_file(const char *name)
{
	char path[4200];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	remove(path);
}

static int tear_down(void **state)
{
	static const char *const names[] = {"run/master-1.pid", "log/master-1.log", "cluster.json",
					    "run", "log", "lock"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		remove_file(names[i]);
	return rmdir(dir);
}

static struct local sample(void)
{
	struct local l = {.dir = realpath(dir, NULL), .n_chunkservers = 2, .replicas = 2,
			  .mount = strdup("/mnt/x y")};

	assert_non_null(l.dir);
	strcpy(l.master_addr, "127.0.0.1:7400");
	strcpy(l.chunkserver_addr[0], "127.0.0.1:7411");
	strcpy(l.chunkserver_addr[1], "127.0.0.1:7412");
	local_flags_add(&l.master_flags, "--log-level=debug");
	local_flags_add(&l.mount_options, "allow_other");
	return l;
}

static void test_saved_and_loaded(void **state)
{
	struct local l = sample(), back;
	struct err err = {0};

	assert_int_equal(local_load(dir, &back, &err), ERR_NOENT);
	assert_int_equal(local_save(&l, &err), 0);
	assert_int_equal(local_load(dir, &back, &err), 0);
	assert_string_equal(back.dir, l.dir);
	assert_int_equal(back.n_chunkservers, 2);
	assert_int_equal(back.replicas, 2);
	assert_string_equal(back.master_addr, "127.0.0.1:7400");
	assert_string_equal(back.chunkserver_addr[1], "127.0.0.1:7412");
	assert_string_equal(back.mount, "/mnt/x y");
	assert_int_equal(back.master_flags.n, 1);
	assert_string_equal(back.master_flags.items[0], "--log-level=debug");
	assert_int_equal(back.chunkserver_flags.n, 0);
	assert_string_equal(back.mount_options.items[0], "allow_other");
	local_release(&back);
	local_release(&l);
}

static void test_refused_states(void **state)
{
	static const char *const bad[] = {
		"", "[]", "{\"version\":1}",
		/* another version */
		"{\"version\":2,\"replicas\":1,\"master\":\"a:1\",\"chunkservers\":[\"b:1\"],"
		"\"master_flags\":[],\"chunkserver_flags\":[],\"mount_options\":[]}",
		/* no chunkserver */
		"{\"version\":1,\"replicas\":1,\"master\":\"a:1\",\"chunkservers\":[],"
		"\"master_flags\":[],\"chunkserver_flags\":[],\"mount_options\":[]}",
		/* an address that is too long */
		"{\"version\":1,\"replicas\":1,\"master\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:1\","
		"\"chunkservers\":[\"b:1\"],\"master_flags\":[],\"chunkserver_flags\":[],"
		"\"mount_options\":[]}",
		/* a flag that is no text */
		"{\"version\":1,\"replicas\":1,\"master\":\"a:1\",\"chunkservers\":[\"b:1\"],"
		"\"master_flags\":[1],\"chunkserver_flags\":[],\"mount_options\":[]}",
	};
	struct local l;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err err = {0};
		assert_true(local_decode(bad[i], &l, &err) < 0);
		assert_true(err.text[0] != '\0');
	}
}

static void test_parts(void **state)
{
	static const char *const names[] = {"master-1", "chunkserver-1", "chunkserver-2",
					    "mount-1"};
	static const char *const addrs[] = {"127.0.0.1:7400", "127.0.0.1:7411", "127.0.0.1:7412",
					    "-"};
	struct local l = sample();

	assert_int_equal(local_n_parts(&l), 4);
	for (int i = 0; i < 4; i++) {
		struct local_part p;
		assert_int_equal(local_part(&l, i, &p), 0);
		assert_string_equal(p.name, names[i]);
		assert_string_equal(p.addr, addrs[i]);
		if (i < 3)
			assert_string_equal(strrchr(p.dir, '/') + 1, names[i]);
		else
			assert_string_equal(p.dir, "/mnt/x y");
		local_part_release(&p);
	}
	local_release(&l);
}

static void test_lock(void **state)
{
	struct err err = {0};
	int a = -1, b = -1;

	assert_int_equal(local_lock(dir, &a, &err), 0);
	assert_int_equal(local_lock(dir, &b, &err), ERR_BUSY);
	close(a);
	assert_int_equal(local_lock(dir, &b, &err), 0);
	close(b);
}

/* A process is ours when its command line names the part's directory: else a pid that the
 * system gave to somebody else would be signalled. */
static void test_processes(void **state)
{
	struct local l = sample();
	struct local_part p;
	struct err err = {0};
	pid_t pid = 0;

	assert_int_equal(local_part(&l, 0, &p), 0);
	assert_int_equal(local_pid(&l, &p), 0);

	/* The shell waits for input that never ends: it lives until it is stopped. */
	char *stranger[] = {(char *)"sh", (char *)"-c", (char *)"trap : HUP; tail -f /dev/null & wait",
			    NULL};
	assert_int_equal(local_spawn(&l, &p, stranger, &pid, &err), 0);
	assert_int_equal(local_pid(&l, &p), 0);
	assert_int_equal(local_stop(&l, &p, 1, &err), 0); /* not ours: left alone */
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	/* It is the leader of its own session, as soon as it has come that far. */
	for (int i = 0; i < 1000 && kill(-pid, SIGKILL) < 0; i++)
		poll(NULL, 0, 5);
	assert_int_equal(waitpid(pid, NULL, 0), pid);

	char *ours[] = {(char *)"tail", (char *)"-f", (char *)"/dev/null", (char *)"--", p.dir, NULL};
	mkdir(p.dir, 0700);
	assert_int_equal(local_spawn(&l, &p, ours, &pid, &err), 0);
	/* Until it has become `tail` its command line is still this program's. */
	for (int i = 0; i < 1000 && local_pid(&l, &p) != pid; i++)
		poll(NULL, 0, 5);
	assert_int_equal(local_pid(&l, &p), pid);
	assert_int_equal(local_stop(&l, &p, 1, &err), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(local_pid(&l, &p), 0);
	rmdir(p.dir);
	local_part_release(&p);
	local_release(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_saved_and_loaded), cmocka_unit_test(test_refused_states),
		cmocka_unit_test(test_parts), cmocka_unit_test(test_lock),
		cmocka_unit_test(test_processes),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
