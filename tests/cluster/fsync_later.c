/* Keeps files open and does what its standard input says, one line each; answers "0" or an errno's
 * number. Plain system calls: what is tested is the mount.
 *
 *     open NAME        opens (or makes) it once more; later lines mean the latest one
 *     write NAME TEXT  at offset 0
 *     append NAME TEXT
 *     sync NAME        fsync */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FILES_MAX = 256 };
static struct {
	char name[256];
	int fd;
} files[FILES_MAX];
static unsigned n_files;

static int find(const char *name)
{
	for (unsigned i = n_files; i-- > 0;)
		if (strcmp(files[i].name, name) == 0)
			return files[i].fd;
	return -1;
}

static int file_open(const char *name)
{
	int fd = n_files < FILES_MAX ? open(name, O_RDWR | O_CREAT, 0644) : -1;

	if (fd < 0)
		return -1;
	snprintf(files[n_files].name, sizeof(files[n_files].name), "%s", name);
	files[n_files++].fd = fd;
	return 0;
}

static int put(int fd, const char *text, off_t at)
{
	size_t n = strlen(text);
	return at < 0 || pwrite(fd, text, n, at) != (ssize_t)n ? -1 : 0;
}

int main(void)
{
	char line[1024], what[16], name[256], text[512];

	while (fgets(line, sizeof(line), stdin)) {
		int r = -1, n = sscanf(line, "%15s %255s %511s", what, name, text);
		errno = EINVAL;
		if (n == 2 && strcmp(what, "open") == 0)
			r = file_open(name);
		else if (n == 3 && strcmp(what, "write") == 0)
			r = put(find(name), text, 0);
		else if (n == 3 && strcmp(what, "append") == 0)
			r = put(find(name), text, lseek(find(name), 0, SEEK_END));
		else if (n == 2 && strcmp(what, "sync") == 0)
			r = fsync(find(name));
		printf("%d\n", r < 0 ? errno : 0);
		fflush(stdout);
	}
	return 0;
}
