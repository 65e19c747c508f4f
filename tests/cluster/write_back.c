/* write_back FILE OFFSET: has the kernel write FILE from OFFSET on to the disk, and nothing before
 * OFFSET: what the page cache may do by itself at any moment (sync_file_range(2)). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	int fd = argc == 3 ? open(argv[1], O_RDWR) : -1;

	if (fd < 0 || sync_file_range(fd, strtoll(argv[2], NULL, 10), 0,
				      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				      SYNC_FILE_RANGE_WAIT_AFTER) < 0) {
		fprintf(stderr, "write_back: %s\n", strerror(errno));
		return 1;
	}
	return 0;
}
