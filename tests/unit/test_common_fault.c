/* common: faults on demand, as a test arms them in the file that a process has mapped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"
#include "common/fault.h"
#include "common/io.h"
#include "common/log.h"

static char dir[64], path[96];
static struct fault_map *outside; /* the test's mapping: another one than the process's */

static int setup(void **state)
{
	struct err err = {0};

	log_setup("test", LOG_ERROR);
	snprintf(dir, sizeof(dir), "%s/cairn-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR")
									    : "/tmp");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/me", dir);
	setenv("CAIRN_FAULTS", dir, 1);
	assert_int_equal(fault_file_create(path, &err), 0);
	assert_int_equal(fault_setup("me", &err), 0);
	assert_int_equal(fault_file_map(path, &outside, &err), 0);
	assert_non_null(fault_map);
	assert_ptr_not_equal(fault_map, outside);
	return 0;
}

static int teardown(void **state)
{
	char cmd[128];

	fault_map = NULL;
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd);
}

static unsigned arm(const char *point, const char *action, const char *match, uint64_t nth,
		    uint64_t times, int64_t arg)
{
	struct fault_slot s = {.point = fault_point_find(point),
			       .action = fault_action_find(action),
			       .nth = nth, .times = times, .arg = arg};
	int i;

	assert_true(s.point < FAULT_POINTS && s.action < FAULT_ACTION_KINDS);
	snprintf(s.match, sizeof(s.match), "%s", match);
	i = fault_arm(outside, &s);
	assert_true(i >= 0);
	return (unsigned)i;
}

static unsigned long long fired(unsigned slot)
{
	return atomic_load(&outside->slots[slot].fired);
}

static void test_nothing_without_a_file(void **state)
{
	struct err err = {0};

	fault_map = NULL;
	assert_int_equal(fault_setup("nobody", &err), 0);
	assert_null(fault_map);
	FAULT_POINT(CS_SYNC, "");
	assert_ptr_equal(io_system(), &io_real);
	/* One that is there and useless is refused. */
	assert_int_equal(truncate(path, 100), 0);
	assert_true(fault_setup("me", &err) < 0);
	assert_non_null(strstr(err.text, path));
}

static void test_nth_times_match(void **state)
{
	unsigned mask = 1u << FAULT_DO_ERROR, slot = arm("io.pwrite", "error", "disk2", 3, 2, EIO);
	struct fault f;

	for (int i = 1; i <= 6; i++) {
		bool struck = fault_take(FAULT_IO_PWRITE, "/disk2/x", mask, &f);
		assert_int_equal(struck, i == 3 || i == 4);
		assert_false(fault_take(FAULT_IO_PWRITE, "/disk1/x", mask, &f));
		assert_false(fault_take(FAULT_IO_PREAD, "/disk2/x", mask, &f));
	}
	assert_int_equal(fired(slot), 2);
	assert_int_equal(atomic_load(&outside->slots[slot].seen), 6);
	assert_int_equal(atomic_load(&outside->passed[FAULT_IO_PWRITE]), 12);
	/* What a point cannot do does not count as done. */
	fault_disarm(outside, slot);
	slot = arm("io.pwrite", "drop", "", 1, 1, 0);
	assert_false(fault_take(FAULT_IO_PWRITE, "/disk2/x", mask, &f));
	assert_int_equal(fired(slot), 0);
}

static void test_crash_counts_survive(void **state)
{
	unsigned slot = arm("cs.write.locked", "crash", "tail", 2, 1, 0);
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		FAULT_POINT(CS_WRITE_LOCKED, "tail");
		FAULT_POINT(CS_WRITE_LOCKED, "head");
		FAULT_POINT(CS_WRITE_LOCKED, "tail");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(fired(slot), 1);
}

static void test_delay(void **state)
{
	unsigned slot = arm("cs.sync", "delay", "", 1, 1, 60);
	int64_t begun = clock_ms();

	FAULT_POINT(CS_SYNC, "");
	assert_true(clock_ms() - begun >= 60);
	assert_int_equal(fired(slot), 1);
}

static void test_clocks(void **state)
{
	int64_t ms = clock_ms();
	struct when now = clock_now();

	atomic_store(&outside->boot_ms, 3600000);
	atomic_store(&outside->real_ms, -3600000);
	assert_in_range(clock_ms() - ms, 3600000, 3600000 + 60000);
	assert_in_range(clock_us() / 1000 - ms, 3600000, 3600000 + 60000);
	assert_in_range(now.sec - clock_now().sec, 3600 - 60, 3600);
	assert_int_equal(atomic_load(&outside->boot_read), 2);
	assert_int_equal(atomic_load(&outside->real_read), 1);
}

static void test_io(void **state)
{
	const struct io *io = io_system();
	unsigned slots[4];
	char file[128], got[16] = "";
	int fd;

	snprintf(file, sizeof(file), "%s/file", dir);
	slots[0] = arm("io.open", "error", "file", 1, 1, EMFILE);
	assert_int_equal(io->open(io, file, O_RDWR | O_CREAT, 0600), ERR_MFILE);
	fd = io->open(io, file, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	slots[1] = arm("io.pwrite", "short", "file", 1, 1, 3);
	assert_int_equal(io->pwrite(io, fd, "abcdef", 6, 0), ERR_IO);
	assert_int_equal(io->pread(io, fd, got, 6, 0), 3);
	assert_memory_equal(got, "abc", 3);
	slots[2] = arm("io.pwrite", "flip", "file", 1, 1, 8);
	assert_int_equal(io->pwrite(io, fd, "abcdef", 6, 0), 0);
	assert_int_equal(io->pread(io, fd, got, 6, 0), 6);
	assert_memory_equal(got, "accdef", 6);
	slots[3] = arm("io.fdatasync", "lost", "file", 1, 1, 0);
	assert_int_equal(io->fdatasync(io, fd), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(fired(slots[i]), 1);
	io->close(io, fd);
}

/* Two ends of a socket, as connections that are set up. */
static void conn_pair(struct conn *ret_a, struct conn *ret_b)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	*ret_a = (struct conn){.fd = fds[0], .peer = "b", .fields_max = FIELDS_BYTES_MAX};
	*ret_b = (struct conn){.fd = fds[1], .peer = "a", .fields_max = FIELDS_BYTES_MAX};
}

static void send_write(struct conn *c, uint64_t id, const char *data)
{
	_cleanup_buf_ struct buf out = {0};
	struct wire_write m = {.chunk = id};
	size_t n = strlen(data);

	assert_int_equal(wire_put_request(&out, OP_WRITE, id, 0, &m, (uint32_t)n), 0);
	assert_int_equal(conn_send(c, buf_slice(&out), data, n, deadline_in(1000), NULL), 0);
}

static void expect_write(struct conn *c, uint64_t id, const char *data)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_header h;
	char got[16] = "";

	assert_int_equal(conn_recv(c, &h, &fields, deadline_in(1000), NULL), 0);
	assert_int_equal(h.id, id);
	assert_int_equal(conn_recv_data(c, got, h.data_bytes, deadline_in(1000), NULL), 0);
	assert_string_equal(got, data);
}

static void test_messages(void **state)
{
	unsigned drop = arm("net.send", "drop", "request WRITE to b", 1, 1, 0);
	unsigned twice, flip, cut;
	_cleanup_buf_ struct buf fields = {0};
	struct conn a, b;
	struct err err = {0};

	conn_pair(&a, &b);
	send_write(&a, 1, "lost");
	send_write(&a, 2, "kept");
	expect_write(&b, 2, "kept");
	twice = arm("net.send", "twice", "request WRITE", 1, 1, 0);
	send_write(&a, 3, "two");
	expect_write(&b, 3, "two");
	expect_write(&b, 3, "two");
	flip = arm("net.send", "flip", "request WRITE", 1, 1, 1);
	send_write(&a, 4, "one");
	expect_write(&b, 4, "mne");
	cut = arm("net.recv", "cut", "request WRITE from a", 1, 1, 0);
	send_write(&a, 5, "cut");
	assert_int_equal(conn_recv(&b, &(struct wire_header){0}, &fields, deadline_in(1000), &err),
			 ERR_CLOSED);
	assert_int_equal(fired(drop) + fired(twice) + fired(flip) + fired(cut), 4);
	close(a.fd);
	close(b.fd);
}

/* The data of a lost message is lost with it, however it is sent. */
static void test_lost_in_pieces(void **state)
{
	_cleanup_buf_ struct buf out = {0};
	struct wire_write m = {.chunk = 1};
	struct conn a, b;

	arm("net.send", "drop", "request WRITE", 1, 1, 0);
	conn_pair(&a, &b);
	assert_int_equal(wire_put_request(&out, OP_WRITE, 1, 0, &m, 8), 0);
	assert_int_equal(conn_send(&a, buf_slice(&out), NULL, 0, deadline_in(1000), NULL), 0);
	assert_int_equal(conn_send_raw(&a, "abcde", 5, deadline_in(1000), NULL), 0);
	assert_int_equal(conn_send_raw(&a, "fgh", 3, deadline_in(1000), NULL), 0);
	send_write(&a, 2, "next");
	expect_write(&b, 2, "next");
	close(a.fd);
	close(b.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_without_a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nth_times_match, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash_counts_survive, setup, teardown),
		cmocka_unit_test_setup_teardown(test_delay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clocks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_io, setup, teardown),
		cmocka_unit_test_setup_teardown(test_messages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_in_pieces, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
