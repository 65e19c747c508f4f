/* Configuration files and values. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/conf.h"
#include "tests/fuzz/fuzz.h"

static char *text;
static int64_t number, size_value, time_value;
static bool flag;
static struct conf_list list;
static const struct conf_option options[] = {
	{"text", CONF_STRING, &text, "x", 0, 0, ""},
	{"number", CONF_INT, &number, "1", -5, 5, ""},
	{"size", CONF_SIZE, &size_value, "1K", 0, 0, ""},
	{"time", CONF_TIME, &time_value, "1s", 0, 0, ""},
	{"flag", CONF_BOOL, &flag, "no", 0, 0, ""},
	{"list", CONF_LIST, &list, "a,b", 0, 0, ""},
	{0},
};
static const struct conf conf = {"fuzz", "fuzz", NULL, "fuzz", options};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_fd_ int fd = memfd_create("conf", 0);
	char path[64];
	char *argv[] = {(char *)(uintptr_t)"fuzz", (char *)(uintptr_t)"--config", path};
	struct err err = {0};

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	/* A refusal always says why. */
	if (conf_load(&conf, 3, argv, NULL, &err) < 0 && !err.text[0])
		abort();
	conf_release(&conf);
	return 0;
}

bool fuzz_seed(unsigned i, struct buf *b)
{
	static const char *const seeds[] = {
		"[fuzz]\ntext = hello\nnumber = 3\nsize = 64M\n",
		"time = 5s\nflag = yes\nlist = a, b,c\n; remark\n",
	};
	if (i >= ARRAY_LEN(seeds))
		return false;
	buf_append(b, seeds[i], strlen(seeds[i]));
	return true;
}
