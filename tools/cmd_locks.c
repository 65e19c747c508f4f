/* cairn locks: who has locked what, and who waits. */
#include <inttypes.h>
#include <stdio.h>

#include "tools/cli.h"
#include "tools/text.h"

struct locks_list {
	struct cli *cli;
	json_t *rows; /* with --json */
	unsigned n;
};

static const char *kind_name(int kind)
{
	return kind == CAIRN_LOCK_WHOLE ? "flock" : kind == CAIRN_LOCK_RANGE ? "range" : "append";
}

static const char *type_name(int type)
{
	return type == CAIRN_LOCK_EXCLUSIVE ? "exclusive" : "shared";
}

static void print_lock(const struct cairn_lock_info *info)
{
	const struct cairn_lock *lock = &info->lock;
	char end[24] = "end";

	if (lock->end < CAIRN_LOCK_END)
		snprintf(end, sizeof(end), "%" PRIu64, lock->end);
	printf("%-5s %-9s %-5s %10" PRIu64 " %10s %8u %-20s ", kind_name(lock->kind),
	       type_name(lock->type), info->waits ? "waits" : "held", lock->start, end, lock->pid,
	       info->client);
	if (info->path[0])
		cli_print_name(info->path);
	else
		printf("inode %" PRIx64, info->inode);
	printf("\n");
}

static int on_lock(void *arg, const struct cairn_lock_info *info)
{
	const struct cairn_lock *lock = &info->lock;
	struct locks_list *list = arg;
	json_t *row;

	if (!list->rows) {
		if (list->n++ == 0)
			printf("%-5s %-9s %-5s %10s %10s %8s %-20s %s\n", "KIND", "TYPE", "STATE",
			       "FIRST", "LAST", "PID", "CLIENT", "FILE");
		print_lock(info);
		return 0;
	}
	row = json_pack("{s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I}", "kind",
			kind_name(lock->kind), "type", type_name(lock->type), "waits",
			(int)info->waits, "first", (json_int_t)lock->start, "last",
			(json_int_t)lock->end, "pid", (json_int_t)lock->pid, "inode", (json_int_t)info->inode,
			"session", (json_int_t)info->session);
	if (row) {
		text_json_name(row, "client", info->client);
		text_json_name(row, "path", info->path);
	}
	json_array_append_new(list->rows, row);
	return 0;
}

int cmd_locks(struct cli *cli, int argc, char **argv)
{
	struct locks_list list = {.cli = cli};
	int r;

	if (cli_option(cli, argc, argv, "", NULL) != -1 || optind != argc)
		return cli_usage(cli);
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	if (cli->json)
		list.rows = json_array();
	r = cairn_locks(cli->fs, on_lock, &list);
	if (r < 0) {
		cli_complain_remote(cli, "locks", r);
		json_decref(list.rows);
	} else if (list.rows) {
		cli_print_json(cli, list.rows);
	}
	return cli_status(cli);
}
