/* mmap_dirty FILE TEXT PAGES: writes TEXT at the start of every second of the first PAGES pages of
 * FILE through a shared mapping, says "ready", and keeps them dirty, without msync or close, until it
 * is killed. Pages that are not neighbours are written back by a request each. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };

int main(int argc, char **argv)
{
	size_t pages = argc == 4 ? (size_t)atoi(argv[3]) : 0;
	int fd = pages ? open(argv[1], O_RDWR) : -1;
	char *map;

	if (fd < 0) {
		perror("mmap_dirty");
		return 1;
	}
	map = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		perror("mmap_dirty: mmap");
		return 1;
	}
	for (size_t i = 0; i < pages; i += 2)
		memcpy(map + i * PAGE, argv[2], strlen(argv[2]));
	puts("ready");
	fflush(stdout);
	pause();
	return 0;
}
