/* mmap_dirty FILE TEXT: writes TEXT at the start of FILE through a shared mapping, says "ready",
 * and keeps the page dirty, without msync or close, until it is killed. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = argc == 3 ? open(argv[1], O_RDWR) : -1;
	char *map;

	if (fd < 0) {
		perror("mmap_dirty");
		return 1;
	}
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		perror("mmap_dirty: mmap");
		return 1;
	}
	memcpy(map, argv[2], strlen(argv[2]));
	puts("ready");
	fflush(stdout);
	pause();
	return 0;
}
