/* fallocate, SEEK_HOLE and SEEK_DATA, st_blocks. */
#include <linux/falloc.h>

#include "tests/posix/suite/suite.h"

static int new_file(long bytes)
{
	static char data[1 << 20];
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));

	memset(data, 'd', sizeof(data));
	same(want(0, write(fd, data, (size_t)bytes)), bytes);
	return fd;
}

static void expect(int fd, long from, long to, char c)
{
	static char data[1 << 20];

	same(want(0, pread(fd, data, (size_t)(to - from), from)), to - from);
	for (long i = 0; i < to - from; i++)
		if (data[i] != c)
			suite_fail(__FILE__, __LINE__, "byte %ld is %02x, expected %02x", from + i,
				   (unsigned char)data[i], (unsigned char)c);
}

/* a: offset, b: length, in a file of c bytes; s tells the mode. */
static void allocate(const struct args *x)
{
	bool keep = strstr(x->s, "keep") != NULL, zero = strstr(x->s, "zero") != NULL;
	bool punch = strstr(x->s, "punch") != NULL;
	int mode = (keep || punch ? FALLOC_FL_KEEP_SIZE : 0) | (zero ? FALLOC_FL_ZERO_RANGE : 0) |
		   (punch ? FALLOC_FL_PUNCH_HOLE : 0), fd = new_file(x->c);
	long end = x->a + x->b, size = mode & FALLOC_FL_KEEP_SIZE || end < x->c ? x->c : end;
	long zero_end = end < x->c ? end : x->c;

	want(0, fallocate(fd, mode, x->a, x->b));
	same(size_of("f"), size);
	if (!zero && !punch) {
		expect(fd, 0, x->c, 'd');
	} else {
		expect(fd, 0, x->a < x->c ? x->a : x->c, 'd');
		if (zero_end > x->a)
			expect(fd, x->a, zero_end, 0);
		if (end < x->c)
			expect(fd, end, x->c, 'd');
	}
	if (size > x->c)
		expect(fd, x->c, size, 0);
}

static void allocate_errors(const struct args *x)
{
	int fd = new_file(100), reader = (int)want(0, open("f", O_RDONLY)), pipe;

	want(EINVAL, fallocate(fd, 0, -1, 10));
	want(EINVAL, fallocate(fd, 0, 0, 0));
	want(EINVAL, fallocate(fd, 0, 0, -1));
	want(EFBIG, fallocate(fd, 0, LONG_MAX - 5, 10));
	want(EBADF, fallocate(reader, 0, 0, 10));
	want(EOPNOTSUPP, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
	make(T_FIFO, "p");
	pipe = (int)want(0, open("p", O_RDWR));
	want(ESPIPE, fallocate(pipe, 0, 0, 10));
	same(size_of("f"), 100);
}

static void allocate_posix(const struct args *x)
{
	int fd = new_file(10);

	same(posix_fallocate(fd, 5, 10000), 0);
	same(size_of("f"), 10005);
	expect(fd, 10, 10005, 0);
	expect(fd, 0, 10, 'd');
}

/* ---- holes ---- */

static void seek_rules(const struct args *x)
{
	int fd = new_file(1000);

	same(want(0, lseek(fd, 0, SEEK_DATA)), 0);
	same(want(0, lseek(fd, 999, SEEK_DATA)), 999);
	same(want(0, lseek(fd, 0, SEEK_HOLE)), 1000);
	want(ENXIO, lseek(fd, 1000, SEEK_DATA));
	want(ENXIO, lseek(fd, 1000, SEEK_HOLE));
	want(ENXIO, lseek(fd, -1, SEEK_DATA));
	want(0, ftruncate(fd, 0));
	want(ENXIO, lseek(fd, 0, SEEK_HOLE));
}

/* A hole of a MiB between data: a file system need not tell it, but this one and ext4 do. */
static void seek_hole(const struct args *x)
{
	long at = 1 << 20, hole, data;
	int fd = new_file(4096);

	want(0, pwrite(fd, "x", 1, at));
	hole = want(0, lseek(fd, 0, SEEK_HOLE));
	data = want(0, lseek(fd, hole, SEEK_DATA));
	that(hole >= 4096 && hole < at);
	that(data > hole && data <= at);
	same(want(0, lseek(fd, at, SEEK_HOLE)), at + 1);
}

static void seek_only_hole(const struct args *x)
{
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));

	want(0, ftruncate(fd, 1 << 20));
	want(ENXIO, lseek(fd, 0, SEEK_DATA));
	same(want(0, lseek(fd, 5, SEEK_HOLE)), 5);
}

static void seek_punched(const struct args *x)
{
	int fd = new_file(1 << 20);

	want(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 262144, 524288));
	same(want(0, lseek(fd, 0, SEEK_HOLE)), 262144);
	same(want(0, lseek(fd, 262144, SEEK_DATA)), 786432);
}

/* ---- blocks ---- */

static void blocks(const struct args *x)
{
	int fd = (int)want(0, open("f", O_RDWR | O_CREAT, 0644));
	long written;

	same(status_of("f").st_blocks, 0);
	want(0, ftruncate(fd, 1 << 20));
	same(status_of("f").st_blocks, 0);
	want(0, pwrite(fd, "x", 1, 600000));
	want(0, fsync(fd));
	written = status_of("f").st_blocks;
	that(written > 0 && written * 512 < 1 << 19);
	want(0, ftruncate(fd, 0));
	same(status_of("f").st_blocks, 0);
}

static void blocks_of_data(const struct args *x)
{
	int fd = new_file(1 << 20);

	want(0, fsync(fd));
	that(status_of("f").st_blocks >= (1 << 20) / 512);
	that(status_of("f").st_blocks < (2 << 20) / 512);
}

static void blocks_punched(const struct args *x)
{
	int fd = new_file(1 << 20);
	long before;

	want(0, fsync(fd));
	before = status_of("f").st_blocks;
	want(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 19));
	that(status_of("f").st_blocks < before);
}

/* Set aside is not written, and counts all the same; behind the end too. */
static void blocks_set_aside(const struct args *x)
{
	int fd = new_file(4096);
	long before = status_of("f").st_blocks;

	want(0, fallocate(fd, FALLOC_FL_KEEP_SIZE, 65536, 1 << 19));
	same(size_of("f"), 4096);
	that(status_of("f").st_blocks >= before + (1 << 19) / 512);
	want(0, fallocate(fd, 0, 0, 1 << 20));
	that(status_of("f").st_blocks >= (1 << 20) / 512);
	want(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 1 << 19));
	that(status_of("f").st_blocks <= (1 << 19) / 512);
	want(0, ftruncate(fd, 4096));
	same(status_of("f").st_blocks, before);
	expect(fd, 0, 4096, 'd');
}

/* Zeros that were written are no hole. */
static void blocks_of_zeros(const struct args *x)
{
	static const char zeros[65536];
	int fd = new_file(0);

	for (int i = 0; i < 4; i++)
		same(want(0, write(fd, zeros, sizeof(zeros))), sizeof(zeros));
	want(0, fsync(fd));
	that(status_of("f").st_blocks >= 4 * 65536 / 512);
	want(0, fallocate(fd, FALLOC_FL_ZERO_RANGE, 65536, 65536));
	that(status_of("f").st_blocks >= 4 * 65536 / 512);
	want(0, ftruncate(fd, 65536));
	that(status_of("f").st_blocks >= 65536 / 512 && status_of("f").st_blocks < 2 * 65536 / 512);
}

/* Every second piece of 64 KiB. */
static void blocks_scattered(const struct args *x)
{
	static char piece[65536];
	int fd = new_file(0);
	long all = 16 * 65536 / 512;

	memset(piece, 's', sizeof(piece));
	for (int i = 15; i >= 0; i--)
		same(want(0, pwrite(fd, piece, sizeof(piece), i * 2 * 65536L)), sizeof(piece));
	want(0, fsync(fd));
	that(status_of("f").st_blocks >= all && status_of("f").st_blocks < all + 128);
	for (int i = 0; i < 15; i++)
		same(want(0, pwrite(fd, piece, sizeof(piece), (i * 2 + 1) * 65536L)), sizeof(piece));
	want(0, fsync(fd));
	that(status_of("f").st_blocks >= 31 * 128 && status_of("f").st_blocks < 31 * 128 + 128);
}

/* Files with another name or none. */
static void blocks_of_names(const struct args *x)
{
	int fd = new_file(65536);

	want(0, fsync(fd));
	want(0, link("f", "g"));
	want(0, rename("f", "h"));
	that(status_of("g").st_blocks >= 128 && status_of("h").st_blocks == status_of("g").st_blocks);
	want(0, symlink("some/where", "s"));
	same(status_of("s").st_blocks, 0);
}

void suite_add_space(void)
{
	static const struct args none;
	static const char *const modes[] = {"allocate", "allocate_keep", "zero", "zero_keep", "punch"};
	static const long spans[][3] = {{0, 4096, 8192}, {0, 1, 10}, {5, 3, 10}, {4096, 4096, 10},
					{100, 9000, 20000}, {4000, 5000, 6000}, {0, 300000, 200000},
					{65536, 65536, 262144}};

	for (size_t m = 0; m < ARRAY_LEN(modes); m++)
		for (size_t i = 0; i < ARRAY_LEN(spans); i++)
			suite_add(allocate, (struct args){.a = spans[i][0], .b = spans[i][1],
							  .c = spans[i][2], .s = modes[m]},
				  "fallocate/%s_%ld_at_%ld_of_%ld", modes[m], spans[i][1], spans[i][0],
				  spans[i][2]);
	suite_add(allocate_errors, none, "fallocate/errors");
	suite_add(allocate_posix, none, "fallocate/posix");
	suite_add(seek_rules, none, "seek/rules");
	suite_add(seek_hole, none, "seek/hole");
	suite_add(seek_only_hole, none, "seek/only_hole");
	suite_add(seek_punched, none, "seek/punched");
	suite_add(blocks, none, "blocks/sparse");
	suite_add(blocks_of_data, none, "blocks/data");
	suite_add(blocks_punched, none, "blocks/punched");
	suite_add(blocks_set_aside, none, "blocks/set_aside");
	suite_add(blocks_of_zeros, none, "blocks/zeros");
	suite_add(blocks_scattered, none, "blocks/scattered");
	suite_add(blocks_of_names, none, "blocks/names");
}
