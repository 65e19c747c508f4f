/* Reading, writing, truncating, appending: each byte compared with what an array would hold. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <time.h>

#include "tests/posix/suite/suite.h"

enum { AREA = 3 << 20 };

static char model[AREA], back[AREA];

static void fill(char *bytes, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1103515245u + 12345u;
		bytes[i] = (char)(seed >> 16 | 1);
	}
}

static void compare(int fd, long n)
{
	struct stat st;

	want(0, fstat(fd, &st));
	same(st.st_size, n);
	same(want(0, pread(fd, back, sizeof(back), 0)), n);
	for (long i = 0; i < n; i++)
		if (back[i] != model[i])
			suite_fail(__FILE__, __LINE__, "byte %ld is %02x, expected %02x", i,
				   (unsigned char)back[i], (unsigned char)model[i]);
}

/* a: offset, b: length, into a file of c bytes; by each of the writing calls. */
static void write_at(const struct args *x)
{
	long end = x->a + x->b;
	struct iovec v[2] = {{model + x->a, (size_t)x->b / 2},
			     {model + x->a + x->b / 2, (size_t)(x->b - x->b / 2)}};
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));

	fill(model, (size_t)x->c, 1);
	same(want(0, pwrite(fd, model, (size_t)x->c, 0)), x->c);
	fill(model + x->a, (size_t)x->b, 2);
	want(0, lseek(fd, x->a, SEEK_SET));
	if (strcmp(x->s, "write") == 0)
		same(want(0, write(fd, model + x->a, (size_t)x->b)), x->b);
	else if (strcmp(x->s, "pwrite") == 0)
		same(want(0, pwrite(fd, model + x->a, (size_t)x->b, x->a)), x->b);
	else if (strcmp(x->s, "writev") == 0)
		same(want(0, writev(fd, v, 2)), x->b);
	else if (strcmp(x->s, "pwritev") == 0)
		same(want(0, pwritev(fd, v, 2, x->a)), x->b);
	else
		same(want(0, pwritev2(fd, v, 2, x->a, RWF_DSYNC)), x->b);
	if (x->s[0] == 'w')
		same(lseek(fd, 0, SEEK_CUR), end);
	compare(fd, x->b == 0 || end < x->c ? x->c : end);
	want(0, close(fd));
	fd = (int)want(0, open("f", O_RDONLY));
	compare(fd, x->b == 0 || end < x->c ? x->c : end);
}

static void read_at(const struct args *x)
{
	long left = x->a >= x->c ? 0 : x->c - x->a, n = x->b < left ? x->b : left;
	struct iovec v[2] = {{back, (size_t)x->b / 2},
			     {back + x->b / 2, (size_t)(x->b - x->b / 2)}};
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));

	fill(model, (size_t)x->c, 3);
	same(want(0, write(fd, model, (size_t)x->c)), x->c);
	want(0, lseek(fd, x->a, SEEK_SET));
	if (strcmp(x->s, "read") == 0)
		same(want(0, read(fd, back, (size_t)x->b)), n);
	else if (strcmp(x->s, "pread") == 0)
		same(want(0, pread(fd, back, (size_t)x->b, x->a)), n);
	else if (strcmp(x->s, "readv") == 0)
		same(want(0, readv(fd, v, 2)), n);
	else
		same(want(0, preadv(fd, v, 2, x->a)), n);
	that(n == 0 || memcmp(back, model + x->a, (size_t)n) == 0);
	if (x->s[0] == 'r')
		same(lseek(fd, 0, SEEK_CUR), x->a + n);
}

/* From a bytes to b and on to c: what was cut off never comes back. */
static void truncate_twice(const struct args *x)
{
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));

	fill(model, (size_t)x->a, 4);
	same(want(0, write(fd, model, (size_t)x->a)), x->a);
	if (x->s)
		want(0, fsync(fd));
	want(0, ftruncate(fd, x->b));
	if (x->b < x->a)
		memset(model + x->b, 0, sizeof(model) - (size_t)x->b);
	compare(fd, x->b);
	want(0, truncate("f", x->c));
	if (x->c < x->b)
		memset(model + x->c, 0, sizeof(model) - (size_t)x->c);
	compare(fd, x->c);
	want(0, ftruncate(fd, 100));
	want(0, pwrite(fd, "end", 3, 10000));
	memset(model + 100, 0, 9900);
	memcpy(model + 10000, "end", 3);
	if (x->a < 100)
		memset(model + x->a, 0, 100 - (size_t)x->a);
	compare(fd, 10003);
}

static void hole(const struct args *x)
{
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));

	want(0, pwrite(fd, "a", 1, x->a));
	model[x->a] = 'a';
	compare(fd, x->a + 1);
	same(status_of("f").st_size, x->a + 1);
}

/* ---- errors ---- */

static void negative(const struct args *x)
{
	char byte = 0;
	int fd;

	make(T_REG, "f");
	fd = (int)want(0, open("f", O_RDWR));
	want(EINVAL, pread(fd, &byte, 1, -1));
	want(EINVAL, pwrite(fd, &byte, 1, -1));
	want(EINVAL, ftruncate(fd, -1));
	want(EINVAL, truncate("f", -1));
	want(EINVAL, lseek(fd, -1, SEEK_SET));
	want(EINVAL, lseek(fd, -5, SEEK_END));
	want(EINVAL, lseek(fd, -1, SEEK_CUR));
	want(EINVAL, lseek(fd, 0, 99));
	same(lseek(fd, 0, SEEK_CUR), 0);
}

static void bad_address(const struct args *x)
{
	void *volatile nowhere = (void *)8; /* the compiler is not to see it */
	struct iovec v = {nowhere, 10};
	int fd;

	make(T_REG, "f");
	fd = (int)want(0, open("f", O_RDWR));
	want(EFAULT, read(fd, nowhere, 4));
	want(EFAULT, write(fd, nowhere, 4));
	want(EFAULT, readv(fd, &v, 1));
	want(EFAULT, writev(fd, &v, 1));
	same(size_of("f"), 4);
}

static void too_many_vectors(const struct args *x)
{
	static struct iovec v[IOV_MAX + 1];
	int fd;

	make(T_REG, "f");
	fd = (int)want(0, open("f", O_RDWR));
	want(EINVAL, readv(fd, v, IOV_MAX + 1));
	want(EINVAL, writev(fd, v, IOV_MAX + 1));
	same(want(0, writev(fd, v, 0)), 0);
	same(want(0, readv(fd, v, IOV_MAX)), 0);
}

static volatile sig_atomic_t limit_signals;

static void on_limit(int n)
{
	limit_signals++;
}

static void file_size_limit(const struct args *x)
{
	const struct rlimit limit = {1000, 1000};
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));

	signal(SIGXFSZ, on_limit);
	want(0, setrlimit(RLIMIT_FSIZE, &limit));
	same(want(0, pwrite(fd, model, 900, 0)), 900);
	same(want(0, pwrite(fd, model, 200, 900)), 100); /* as much as fits */
	want(EFBIG, pwrite(fd, model, 1, 1000));
	same(limit_signals, 1);
	want(EFBIG, ftruncate(fd, 1001));
	same(limit_signals, 2);
	same(size_of("f"), 1000);
}

static void on_pipe_offset(const struct args *x)
{
	char byte = 0;
	int fd;

	make(T_FIFO, "p");
	fd = (int)want(0, open("p", O_RDWR | O_NONBLOCK));
	want(ESPIPE, lseek(fd, 0, SEEK_SET));
	want(ESPIPE, pread(fd, &byte, 1, 0));
	want(ESPIPE, pwrite(fd, &byte, 1, 0));
	want(EINVAL, ftruncate(fd, 0));
	want(EAGAIN, read(fd, &byte, 1));
	same(want(0, write(fd, "x", 1)), 1);
	same(want(0, read(fd, &byte, 1)), 1);
}

/* ---- appending ---- */

static void append_ignores_offset(const struct args *x)
{
	int a, b;

	put("f", "start");
	a = (int)want(0, open("f", O_WRONLY | O_APPEND));
	b = (int)want(0, open("f", O_WRONLY | O_APPEND));
	want(0, lseek(a, 0, SEEK_SET));
	same(want(0, write(a, "-a", 2)), 2);
	same(lseek(a, 0, SEEK_CUR), 7);
	same(want(0, write(b, "-b", 2)), 2);
	same(want(0, write(a, "-c", 2)), 2);
	holds("f", "start-a-b-c");
	/* Linux: pwrite appends too. */
	same(want(0, pwrite(a, "!", 1, 0)), 1);
	holds("f", "start-a-b-c!");
}

static void append_switched(const struct args *x)
{
	int fd;

	put("f", "12345");
	fd = (int)want(0, open("f", O_RDWR));
	want(0, fcntl(fd, F_SETFL, O_APPEND));
	same(want(0, write(fd, "6", 1)), 1);
	holds("f", "123456");
	want(0, fcntl(fd, F_SETFL, 0));
	same(want(0, pwrite(fd, "x", 1, 0)), 1);
	holds("f", "x23456");
}

static void append_after_truncate(const struct args *x)
{
	int fd;

	put("f", "12345");
	fd = (int)want(0, open("f", O_WRONLY | O_APPEND));
	want(0, truncate("f", 2));
	same(want(0, write(fd, "z", 1)), 1);
	holds("f", "12z");
	want(0, truncate("f", 0));
	same(want(0, write(fd, "z", 1)), 1);
	holds("f", "z");
}

static void append_one(const struct args *x)
{
	char record[64];
	int fd = (int)want(0, open("log", O_WRONLY | O_APPEND));

	memset(record, (int)x->a, sizeof(record));
	for (int i = 0; i < 30; i++)
		same(want(0, write(fd, record, sizeof(record))), (long)sizeof(record));
}

/* Processes append whole records. */
static void append_processes(const struct args *x)
{
	pid_t pids[4];
	int fd = (int)want(0, open("log", O_RDWR | O_CREAT, 0644)), count[4] = {0};

	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			append_one(&(struct args){.a = 'a' + i});
			_exit(0);
		}
	}
	for (int i = 0; i < 4; i++)
		wait_for_child(pids[i]);
	same(want(0, pread(fd, back, sizeof(back), 0)), 4 * 30 * 64);
	for (int r = 0; r < 120; r++) {
		for (int k = 1; k < 64; k++)
			same(back[r * 64 + k], back[r * 64]);
		count[back[r * 64] - 'a']++;
	}
	for (int i = 0; i < 4; i++)
		same(count[i], 30);
}

/* ---- other ways of moving bytes ---- */

static void send_file(const struct args *x)
{
	off_t offset = 10;
	int in, out = (int)want(0, open("out", O_RDWR | O_CREAT, 0644));

	put("in", "0123456789abcdef");
	in = (int)want(0, open("in", O_RDONLY));
	same(want(0, sendfile(out, in, &offset, 100)), 6);
	same(offset, 16);
	same(want(0, sendfile(out, in, NULL, 3)), 3);
	holds("out", "abcdef012");
}

static void splice_both(const struct args *x)
{
	int p[2], in, out = (int)want(0, open("out", O_RDWR | O_CREAT, 0644));

	put("in", "through a pipe");
	in = (int)want(0, open("in", O_RDONLY));
	want(0, pipe(p));
	same(want(0, splice(in, NULL, p[1], NULL, 100, 0)), 14);
	same(want(0, splice(p[0], NULL, out, NULL, 14, 0)), 14);
	holds("out", "through a pipe");
}

static void copy_range(const struct args *x)
{
	off_t from = x->a, to = x->b;
	int in = (int)want(0, open("in", O_RDWR | O_CREAT, 0644));
	int out = (int)want(0, open("out", O_RDWR | O_CREAT, 0644));
	long left = 100000 - x->a, n = x->c < left ? x->c : left, done = 0, r;

	fill(model, 100000, 5);
	same(want(0, write(in, model, 100000)), 100000);
	while (done < n && (r = want(0, copy_file_range(in, &from, out, &to, (size_t)(n - done), 0))) > 0)
		done += r;
	same(done, n);
	same(from, x->a + n);
	same(to, x->b + n);
	memmove(model + x->b, model + x->a, (size_t)n);
	memset(model, 0, (size_t)x->b);
	compare(out, x->b + n);
}

static void copy_range_errors(const struct args *x)
{
	off_t from = 0, to = 2;
	int in, out, dir = (int)want(0, open(".", O_RDONLY));

	put("in", "0123456789");
	in = (int)want(0, open("in", O_RDWR));
	out = (int)want(0, open("in", O_WRONLY | O_APPEND));
	want(EINVAL, copy_file_range(in, &from, in, &to, 5, 0)); /* they overlap */
	want(EINVAL, copy_file_range(in, &from, in, &to, 1, 1));
	want(EBADF, copy_file_range(in, &from, out, &to, 1, 0));
	want(EISDIR, copy_file_range(dir, NULL, in, NULL, 1, 0));
	from = 100;
	same(want(0, copy_file_range(in, &from, in, &to, 5, 0)), 0); /* beyond the end */
	holds("in", "0123456789");
}

/* ---- direct, synchronous ---- */

static void direct(const struct args *x)
{
	char *block = NULL;
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT | O_DIRECT, 0644)), plain;

	same(posix_memalign((void **)&block, 4096, 8192), 0);
	fill(block, 8192, 6);
	memcpy(model, block, 8192);
	same(want(0, pwrite(fd, block, 8192, x->a)), 8192);
	plain = (int)want(0, open("f", O_RDWR));
	memmove(model + x->a, model, 8192);
	if (x->a)
		memset(model, 0, (size_t)x->a);
	compare(plain, x->a + 8192);
	/* What the page cache has, a direct read sees; and the other way round. */
	same(want(0, pwrite(plain, "cached", 6, x->a + 100)), 6);
	same(want(0, pread(fd, block, 4096, x->a)), 4096);
	that(memcmp(block + 100, "cached", 6) == 0);
	memset(block, 'd', 4096);
	same(want(0, pwrite(fd, block, 4096, x->a)), 4096);
	memset(model + x->a, 'd', 4096);
	compare(plain, x->a + 8192);
}

static void sync_flags(const struct args *x)
{
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT | (int)x->a, 0644));

	fill(model, 9000, 7);
	same(want(0, write(fd, model, 9000)), 9000);
	compare(fd, 9000);
}

static void sync_calls(const struct args *x)
{
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));

	same(want(0, write(fd, model, 100)), 100);
	want(0, fsync(fd));
	want(0, fdatasync(fd));
	want(0, sync_file_range(fd, 0, 100, SYNC_FILE_RANGE_WRITE));
	want(0, syncfs(fd));
	want(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	want(0, posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
	compare(fd, 100);
}

/* One byte at a time, one descriptor writing and another reading. */
static void reader_follows(const struct args *x)
{
	int w = (int)want(0, open("f", O_WRONLY | O_CREAT, 0644));
	int r = (int)want(0, open("f", O_RDONLY));
	char byte;

	for (int i = 0; i < 100; i++) {
		same(want(0, read(r, &byte, 1)), 0);
		same(want(0, write(w, "0123456789" + i % 10, 1)), 1);
		same(want(0, read(r, &byte, 1)), 1);
		same(byte, '0' + i % 10);
	}
}

static void big_offset(const struct args *x)
{
	off_t end = (off_t)x->a;
	char bytes[4];
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));

	same(want(0, pwrite(fd, "far", 3, end - 3)), 3);
	same(size_of("f"), end);
	same(want(0, pread(fd, bytes, 4, end - 3)), 3);
	that(memcmp(bytes, "far", 3) == 0);
	same(want(0, pread(fd, bytes, 4, end / 2)), 4);
	that(memcmp(bytes, "\0\0\0\0", 4) == 0);
	same(lseek(fd, 0, SEEK_END), end);
	want(0, ftruncate(fd, 1));
	want(0, ftruncate(fd, end));
	same(want(0, pread(fd, bytes, 4, end - 3)), 3);
	that(memcmp(bytes, "\0\0\0", 3) == 0);
}

void suite_add_data(void)
{
	static const struct args none;
	static const char *const writers[] = {"write", "pwrite", "writev", "pwritev", "pwritev2"};
	static const char *const readers[] = {"read", "pread", "readv", "preadv"};
	static const long spans[][3] = {
		{0, 0, 10}, {0, 1, 0}, {0, 4096, 0}, {0, 4097, 0}, {1, 4095, 100}, {4095, 2, 5000},
		{4096, 4096, 8192}, {5000, 10, 100}, {100, 200000, 0}, {131072, 131072, 65536},
		{1048575, 3, 10}, {0, 2000000, 0}, {999999, 1100000, 1500000},
	};
	static const long cuts[][3] = {
		{0, 5000, 100}, {10, 0, 10}, {5000, 4096, 5000}, {5000, 4095, 9000}, {5000, 4097, 5000},
		{100000, 1, 100000}, {200000, 131072, 200000}, {4096, 4096, 4096}, {8192, 10000, 9000},
		{1500000, 700001, 1400000},
	};
	static const long copies[][3] = {{0, 0, 100000}, {1, 0, 5000}, {0, 1, 5000}, {4096, 8192, 4096},
					 {99999, 0, 10}, {50000, 3, 100000}};

	for (size_t i = 0; i < ARRAY_LEN(spans); i++) {
		struct args x = {.a = spans[i][0], .b = spans[i][1], .c = spans[i][2]};

		for (size_t k = 0; k < ARRAY_LEN(writers); k++) {
			x.s = writers[k];
			suite_add(write_at, x, "%s/%ld_at_%ld_of_%ld", writers[k], x.b, x.a, x.c);
		}
		for (size_t k = 0; k < ARRAY_LEN(readers); k++) {
			x.s = readers[k];
			suite_add(read_at, x, "%s/%ld_at_%ld_of_%ld", readers[k], x.b, x.a, x.c);
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
		struct args x = {.a = cuts[i][0], .b = cuts[i][1], .c = cuts[i][2]};

		suite_add(truncate_twice, x, "truncate/%ld_to_%ld_to_%ld", x.a, x.b, x.c);
		x.s = "synced";
		suite_add(truncate_twice, x, "truncate/synced_%ld_to_%ld_to_%ld", x.a, x.b, x.c);
	}
	for (long at = 1; at < 2000000; at = at * 8 - 1)
		suite_add(hole, (struct args){.a = at}, "write/hole_of_%ld", at);
	suite_add(negative, none, "data/negative");
	suite_add(bad_address, none, "data/bad_address");
	suite_add(too_many_vectors, none, "data/vectors");
	suite_add(file_size_limit, none, "data/file_size_limit");
	suite_add(on_pipe_offset, none, "data/fifo");
	suite_add(append_ignores_offset, none, "append/ignores_offset");
	suite_add(append_switched, none, "append/switched_by_fcntl");
	suite_add(append_after_truncate, none, "append/after_truncate");
	suite_add(append_processes, none, "append/processes");
	suite_add(send_file, none, "sendfile/plain");
	suite_add(splice_both, none, "splice/both_ways");
	for (size_t i = 0; i < ARRAY_LEN(copies); i++)
		suite_add(copy_range, (struct args){.a = copies[i][0], .b = copies[i][1],
						    .c = copies[i][2]},
			  "copy_file_range/%ld_to_%ld_length_%ld", copies[i][0], copies[i][1],
			  copies[i][2]);
	suite_add(copy_range_errors, none, "copy_file_range/errors");
	suite_add(direct, none, "o_direct/at_0");
	suite_add(direct, (struct args){.a = 4096}, "o_direct/at_4096");
	suite_add(sync_flags, (struct args){.a = O_SYNC}, "sync/o_sync");
	suite_add(sync_flags, (struct args){.a = O_DSYNC}, "sync/o_dsync");
	suite_add(sync_calls, none, "sync/calls");
	suite_add(reader_follows, none, "read/follows_writer");
	suite_add(big_offset, (struct args){.a = 1L << 32}, "offset/4_gib");
	suite_add(big_offset, (struct args){.a = (1L << 40) + 5}, "offset/1_tib");
}
