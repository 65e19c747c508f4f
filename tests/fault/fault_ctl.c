/* The shell's hand on common/fault.h.
 *
 *     fault_ctl create FILE
 *     fault_ctl arm FILE POINT ACTION [match=TEXT] [nth=N] [times=N|ever] [arg=N] [path=DIR]
 *                                     prints the slot's number
 *     fault_ctl fired FILE SLOT       how often it struck
 *     fault_ctl disarm FILE [SLOT]    one, or all; prints how often they struck together
 *     fault_ctl clock FILE boot|real MS
 *     fault_ctl clock-reads FILE      reads of a changed clock: boot, real
 *     fault_ctl show FILE             armed slots and points that were passed
 *     fault_ctl points [WHO]          the names of all points, or those of STEP_CLIENT, ...
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fault.h"

static int usage(void)
{
	fprintf(stderr, "usage: fault_ctl create|arm|fired|disarm|clock|clock-reads|show FILE ...\n"
			"       fault_ctl points [WHO]\n");
	return 2;
}

static int complain(const char *what, const char *value)
{
	fprintf(stderr, "fault_ctl: %s: %s\n", what, value);
	return 2;
}

static bool take_value(const char *arg, const char *key, const char **ret)
{
	size_t n = strlen(key);

	if (strncmp(arg, key, n) != 0 || arg[n] != '=')
		return false;
	*ret = arg + n + 1;
	return true;
}

static int arm(struct fault_map *map, int n, char **args)
{
	struct fault_slot s = {.nth = 1, .times = 1};
	int slot;

	if (n < 2)
		return usage();
	s.point = fault_point_find(args[0]);
	s.action = fault_action_find(args[1]);
	if (s.point == FAULT_POINTS)
		return complain("no such point", args[0]);
	if (s.action == FAULT_ACTION_KINDS)
		return complain("no such action", args[1]);
	for (int i = 2; i < n; i++) {
		const char *value;
		if (take_value(args[i], "match", &value))
			snprintf(s.match, sizeof(s.match), "%s", value);
		else if (take_value(args[i], "path", &value))
			snprintf(s.path, sizeof(s.path), "%s", value);
		else if (take_value(args[i], "nth", &value))
			s.nth = strtoull(value, NULL, 0);
		else if (take_value(args[i], "times", &value))
			s.times = strcmp(value, "ever") == 0 ? FAULT_FOR_EVER
							      : strtoull(value, NULL, 0);
		else if (take_value(args[i], "arg", &value))
			s.arg = strtoll(value, NULL, 0);
		else
			return complain("not understood", args[i]);
	}
	slot = fault_arm(map, &s);
	if (slot < 0)
		return complain("no free slot", args[0]);
	printf("%d\n", slot);
	return 0;
}

static int disarm(struct fault_map *map, int n, char **args)
{
	unsigned long long fired = 0;
	unsigned only = n > 0 ? (unsigned)atoi(args[0]) : FAULT_SLOTS;

	for (unsigned i = 0; i < FAULT_SLOTS; i++) {
		if ((n > 0 && i != only) || !atomic_load(&map->slots[i].armed))
			continue;
		fault_disarm(map, i);
		fired += atomic_load(&map->slots[i].fired);
	}
	printf("%llu\n", fired);
	return 0;
}

static int show(struct fault_map *map)
{
	for (unsigned i = 0; i < FAULT_SLOTS; i++) {
		struct fault_slot *s = &map->slots[i];
		if (atomic_load(&s->armed))
			printf("slot %u %s %s \"%s\" seen %llu fired %llu\n", i,
			       fault_point_name(s->point), fault_action_name(s->action), s->match,
			       atomic_load(&s->seen), atomic_load(&s->fired));
	}
	for (unsigned i = 0; i < FAULT_POINTS; i++)
		if (atomic_load(&map->passed[i]))
			printf("passed %s %llu\n", fault_point_name(i),
			       atomic_load(&map->passed[i]));
	return 0;
}

static int points(const char *who)
{
	for (unsigned i = 0; i < FAULT_POINTS; i++)
		if (!who || strcmp(fault_point_who(i), who) == 0)
			printf("%s\n", fault_point_name(i));
	return 0;
}

static int set_clock(struct fault_map *map, int n, char **args)
{
	if (n != 2)
		return usage();
	if (strcmp(args[0], "boot") == 0)
		atomic_store(&map->boot_ms, strtoll(args[1], NULL, 0));
	else if (strcmp(args[0], "real") == 0)
		atomic_store(&map->real_ms, strtoll(args[1], NULL, 0));
	else
		return usage();
	return 0;
}

int main(int argc, char **argv)
{
	struct fault_map *map;
	struct err err = {0};

	if (argc >= 2 && strcmp(argv[1], "points") == 0)
		return points(argc > 2 ? argv[2] : NULL);
	if (argc < 3)
		return usage();
	if (strcmp(argv[1], "create") == 0)
		return fault_file_create(argv[2], &err) < 0 ? complain("create", err.text) : 0;
	if (fault_file_map(argv[2], &map, &err) < 0)
		return complain("map", err.text);
	if (strcmp(argv[1], "arm") == 0)
		return arm(map, argc - 3, argv + 3);
	if (strcmp(argv[1], "disarm") == 0)
		return disarm(map, argc - 3, argv + 3);
	if (strcmp(argv[1], "clock") == 0)
		return set_clock(map, argc - 3, argv + 3);
	if (strcmp(argv[1], "show") == 0)
		return show(map);
	if (strcmp(argv[1], "clock-reads") == 0) {
		printf("%llu %llu\n", atomic_load(&map->boot_read), atomic_load(&map->real_read));
		return 0;
	}
	if (strcmp(argv[1], "fired") == 0 && argc == 4 && (unsigned)atoi(argv[3]) < FAULT_SLOTS) {
		printf("%llu\n", atomic_load(&map->slots[atoi(argv[3])].fired));
		return 0;
	}
	return usage();
}
