#include "common/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"

struct fault_map *fault_map;

static const char fault_magic[8] = "CRNFLT1";
enum { EXT4_GOING_FLAGS_NOLOGFLUSH = 2 };
#define EXT4_IOC_SHUTDOWN _IOR('X', 125, uint32_t) /* Linux fs/ext4/ext4.h */

static const struct {
	const char *name, *who;
} points[] = {
#define FAULT_X_ROW(name, text, who) {text, #who},
	FAULT_TABLE(FAULT_X_ROW)
#undef FAULT_X_ROW
};
static const char *const actions[] = {
#define FAULT_X_ROW(name, text) text,
	FAULT_ACTIONS(FAULT_X_ROW)
#undef FAULT_X_ROW
};

/* ---- names ---- */

const char *fault_point_name(enum fault_point point)
{
	return point < FAULT_POINTS ? points[point].name : "?";
}

const char *fault_point_who(enum fault_point point)
{
	return point < FAULT_POINTS ? points[point].who : "?";
}

const char *fault_action_name(enum fault_action action)
{
	return action < FAULT_ACTION_KINDS ? actions[action] : "?";
}

enum fault_point fault_point_find(const char *name)
{
	unsigned i = 0;
	while (i < FAULT_POINTS && strcmp(points[i].name, name) != 0)
		i++;
	return (enum fault_point)i;
}

enum fault_action fault_action_find(const char *name)
{
	unsigned i = 0;
	while (i < FAULT_ACTION_KINDS && strcmp(actions[i], name) != 0)
		i++;
	return (enum fault_action)i;
}

/* ---- the file ---- */

int fault_file_create(const char *path, struct err *err)
{
	_cleanup_free_ struct fault_map *map = calloc(1, sizeof(*map));
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (!map)
		return err_set(err, ERR_NOMEM, "out of memory");
	memcpy(map->magic, fault_magic, sizeof(map->magic));
	map->bytes = sizeof(*map);
	if (fd < 0 || write(fd, map, sizeof(*map)) != (ssize_t)sizeof(*map))
		return err_set_errno(err, errno, "fault file %s", path);
	return 0;
}

int fault_file_map(const char *path, struct fault_map **ret, struct err *err)
{
	_cleanup_fd_ int fd = open(path, O_RDWR | O_CLOEXEC);
	struct fault_map *map;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set_errno(err, errno, "fault file %s", path);
	if (st.st_size != (off_t)sizeof(*map))
		return err_set(err, ERR_INVAL, "fault file %s: made by another version", path);
	map = mmap(NULL, sizeof(*map), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return err_set_errno(err, errno, "fault file %s", path);
	if (memcmp(map->magic, fault_magic, sizeof(map->magic)) != 0 ||
	    map->bytes != sizeof(*map)) {
		munmap(map, sizeof(*map));
		return err_set(err, ERR_INVAL, "fault file %s: made by another version", path);
	}
	*ret = map;
	return 0;
}

int fault_setup(const char *name, struct err *err)
{
	const char *dir = getenv("CAIRN_FAULTS");
	_cleanup_free_ char *path = NULL;
	int r;

	if (!dir)
		return 0;
	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		path = NULL;
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return 0;
	r = fault_file_map(path, &fault_map, err);
	if (r == 0)
		log_warn("faults are injected as %s says", path);
	return r;
}

int fault_arm(struct fault_map *map, const struct fault_slot *slot)
{
	for (unsigned i = 0; i < FAULT_SLOTS; i++) {
		struct fault_slot *s = &map->slots[i];
		if (atomic_load(&s->armed))
			continue;
		s->point = slot->point;
		s->action = slot->action;
		memcpy(s->match, slot->match, sizeof(s->match));
		memcpy(s->path, slot->path, sizeof(s->path));
		s->nth = slot->nth;
		s->times = slot->times;
		s->arg = slot->arg;
		atomic_store(&s->seen, 0);
		atomic_store(&s->fired, 0);
		atomic_store_explicit(&s->armed, 1, memory_order_release);
		return (int)i;
	}
	return ERR_LIMIT;
}

void fault_disarm(struct fault_map *map, unsigned index)
{
	if (index < FAULT_SLOTS)
		atomic_store(&map->slots[index].armed, 0);
}

/* ---- striking ---- */

static void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

/* What was not synced there is gone at the next mount, as after a power cut. */
static void power_off(const char *path)
{
	uint32_t flags = EXT4_GOING_FLAGS_NOLOGFLUSH;
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, EXT4_IOC_SHUTDOWN, &flags) < 0)
		log_error("fault: no power off of %s: %s", path, strerror(errno));
}

static void sleep_ms(int64_t ms)
{
	struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

/* A slot whose point, text and turn this is, counted; or NULL. */
static struct fault_slot *take_slot(enum fault_point point, const char *text, unsigned mask)
{
	for (unsigned i = 0; i < FAULT_SLOTS; i++) {
		struct fault_slot *s = &fault_map->slots[i];
		uint64_t n;
		if (!atomic_load_explicit(&s->armed, memory_order_acquire) || s->point != point ||
		    !(mask & 1u << s->action) || (s->match[0] && !strstr(text, s->match)))
			continue;
		n = atomic_fetch_add(&s->seen, 1) + 1;
		if (n < s->nth || n - s->nth >= s->times)
			continue;
		atomic_fetch_add(&s->fired, 1);
		return s;
	}
	return NULL;
}

bool fault_take(enum fault_point point, const char *text, unsigned mask, struct fault *ret)
{
	struct fault_slot *s;

	if (!fault_map)
		return false;
	atomic_fetch_add(&fault_map->passed[point], 1);
	mask |= 1u << FAULT_DO_CRASH | 1u << FAULT_DO_DELAY | 1u << FAULT_DO_POWEROFF;
	s = take_slot(point, text, mask);
	if (!s)
		return false;
	switch (s->action) {
	case FAULT_DO_POWEROFF:
		power_off(s->path);
		die();
		break;
	case FAULT_DO_CRASH:
		die();
		break;
	case FAULT_DO_DELAY:
		sleep_ms(s->arg);
		return false;
	default:
		break;
	}
	*ret = (struct fault){(enum fault_action)s->action, s->arg};
	return true;
}
