/* write_back OFFSET FILE...: has the kernel write each FILE from OFFSET on to the disk, and nothing
 * before OFFSET: what the page cache may do by itself at any moment (sync_file_range(2)). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int write_back(const char *path, off_t from)
{
	unsigned flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
			 SYNC_FILE_RANGE_WAIT_AFTER;
	int fd = open(path, O_RDWR);

	if (fd < 0 || sync_file_range(fd, from, 0, flags) < 0) {
		fprintf(stderr, "write_back %s: %s\n", path, strerror(errno));
		return -1;
	}
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	for (int i = 2; i < argc; i++)
		if (write_back(argv[i], strtoll(argv[1], NULL, 10)) < 0)
			return 1;
	return 0;
}
