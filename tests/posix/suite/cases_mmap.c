/* Mappings, against reads, writes and truncations of the same file. */
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include "tests/posix/suite/suite.h"

static char *map_file(int fd, size_t n, int protection, int flags)
{
	char *p = mmap(NULL, n, protection, flags, fd, 0);

	if (p == MAP_FAILED)
		suite_fail(__FILE__, __LINE__, "mmap: %s", strerror(errno));
	return p;
}

static int file_of(long n)
{
	static char data[100000];
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));

	memset(data, 'd', sizeof(data));
	same(want(0, write(fd, data, (size_t)n)), n);
	return fd;
}

static void map_reads(const struct args *x)
{
	int fd = file_of(10000);
	char *p = map_file(fd, 10000, PROT_READ, (int)x->a);

	same(p[0], 'd');
	same(p[9999], 'd');
	same(p[10000], 0); /* behind the end, in the last page */
}

static void map_shared_write(const struct args *x)
{
	int fd = file_of(8192);
	char *p = map_file(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED), byte;

	p[5000] = 'm';
	same(want(0, pread(fd, &byte, 1, 5000)), 1);
	same(byte, 'm');
	same(want(0, pwrite(fd, "w", 1, 6000)), 1);
	same(p[6000], 'w');
	want(0, msync(p, 8192, x->a ? MS_SYNC : MS_ASYNC));
	want(0, munmap(p, 8192));
	same(want(0, pread(fd, &byte, 1, 5000)), 1);
	same(byte, 'm');
	close(fd);
	fd = (int)want(0, open("f", O_RDONLY));
	same(want(0, pread(fd, &byte, 1, 5000)), 1);
	same(byte, 'm');
}

static void map_private(const struct args *x)
{
	int fd = file_of(4096);
	char *p = map_file(fd, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE), byte;

	p[0] = 'p';
	same(want(0, pread(fd, &byte, 1, 0)), 1);
	same(byte, 'd');
}

static void map_outlives_close(const struct args *x)
{
	int fd = file_of(4096);
	char *p = map_file(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED), byte;

	close(fd);
	p[7] = 'z';
	if (x->a)
		want(0, unlink("f"));
	else
		want(0, rename("f", "g"));
	same(p[0], 'd');
	want(0, msync(p, 4096, MS_SYNC));
	munmap(p, 4096);
	if (x->a)
		return;
	fd = (int)want(0, open("g", O_RDONLY));
	same(want(0, pread(fd, &byte, 1, 7)), 1);
	same(byte, 'z');
}

static sigjmp_buf jump;

static void on_bus(int n)
{
	siglongjmp(jump, 1);
}

static void map_behind_end(const struct args *x)
{
	int fd = file_of(8192);
	char *volatile p = map_file(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED);
	volatile bool struck = false;

	same(p[8191], 'd');
	want(0, ftruncate(fd, 100));
	signal(SIGBUS, on_bus);
	if (sigsetjmp(jump, 1) == 0)
		p[5000] = 'x';
	else
		struck = true;
	that(struck);
	same(p[200], 0); /* cut off, in the page that is left */
	want(0, ftruncate(fd, 8192));
	same(p[5000], 0);
	same(p[200], 0);
}

static void map_modes(const struct args *x)
{
	int r, w;

	make(T_REG, "f");
	r = (int)want(0, open("f", O_RDONLY));
	w = (int)want(0, open("f", O_WRONLY));
	that(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, r, 0) == MAP_FAILED && errno == EACCES);
	that(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, r, 0) != MAP_FAILED);
	that(mmap(NULL, 4096, PROT_READ, MAP_SHARED, w, 0) == MAP_FAILED && errno == EACCES);
	that(mmap(NULL, 4096, PROT_READ, MAP_SHARED, r, 5) == MAP_FAILED && errno == EINVAL);
	r = (int)want(0, open(".", O_RDONLY));
	that(mmap(NULL, 4096, PROT_READ, MAP_SHARED, r, 0) == MAP_FAILED && errno == ENODEV);
}

static void map_child(const struct args *x)
{
	((char *)x->p)[100] = 'c';
}

static void map_shared_with_child(const struct args *x)
{
	int fd = file_of(4096);
	char *p = map_file(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);

	in_child(map_child, &(struct args){.p = p});
	same(p[100], 'c');
}

static void map_sparse(const struct args *x)
{
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));
	char *p, byte;

	want(0, ftruncate(fd, 1 << 20));
	p = map_file(fd, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED);
	same(p[500000], 0);
	p[700000] = 'h';
	want(0, msync(p, 1 << 20, MS_SYNC));
	want(0, fsync(fd));
	same(want(0, pread(fd, &byte, 1, 700000)), 1);
	same(byte, 'h');
	same(size_of("f"), 1 << 20);
}

static void map_execute(const struct args *x)
{
	char *p;
	int fd = file_of(4096);

	p = map_file(fd, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE);
	same(p[0], 'd');
}

static void map_read_into(const struct args *x)
{
	int fd = file_of(8192), other = (int)want(0, open("g", O_RDWR | O_CREAT, 0644));
	char *p = map_file(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED);

	/* From a mapping of the file into itself and another file. */
	same(want(0, write(other, p, 8192)), 8192);
	same(want(0, pread(other, p + 4096, 10, 0)), 10);
	same(want(0, pwrite(fd, p, 4096, 4096)), 4096);
	same(p[4096], 'd');
	same(size_of("g"), 8192);
}

void suite_add_mmap(void)
{
	static const struct args none;

	suite_add(map_reads, (struct args){.a = MAP_SHARED}, "mmap/read_shared");
	suite_add(map_reads, (struct args){.a = MAP_PRIVATE}, "mmap/read_private");
	suite_add(map_shared_write, none, "mmap/write_shared_async");
	suite_add(map_shared_write, (struct args){.a = 1}, "mmap/write_shared_sync");
	suite_add(map_private, none, "mmap/write_private");
	suite_add(map_outlives_close, none, "mmap/outlives_close");
	suite_add(map_outlives_close, (struct args){.a = 1}, "mmap/outlives_unlink");
	suite_add(map_behind_end, none, "mmap/behind_end");
	suite_add(map_modes, none, "mmap/modes");
	suite_add(map_shared_with_child, none, "mmap/shared_with_child");
	suite_add(map_sparse, none, "mmap/sparse");
	suite_add(map_execute, none, "mmap/execute");
	suite_add(map_read_into, none, "mmap/read_into");
}
