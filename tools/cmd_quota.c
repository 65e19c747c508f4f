/* cairn quota: limits of what may lie in a directory. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/text.h"

struct limits {
	uint64_t bytes, inodes;
	bool bytes_given, inodes_given;
};

/* "10", "10K" (1024), ...; 0: no limit. */
static bool parse_number(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGTP";
	const char *unit;
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || errno)
		return false;
	if (!*end)
		return true;
	unit = strchr(units, toupper((unsigned char)*end));
	if (!unit || end[1])
		return false;
	for (const char *u = units; u <= unit; u++) {
		if (*ret > UINT64_MAX / 1024)
			return false;
		*ret *= 1024;
	}
	return true;
}

/* ---- telling ---- */

struct quota_list {
	json_t *rows; /* with --json */
	unsigned n;
};

static const char *limit_text(uint64_t limit, bool size, char *ret)
{
	if (!limit)
		return "-";
	if (size)
		return text_size(limit, ret);
	snprintf(ret, TEXT_SIZE_BYTES, "%" PRIu64, limit);
	return ret;
}

static int on_quota(void *arg, const struct cairn_quota *q)
{
	char used[TEXT_SIZE_BYTES], bytes[TEXT_SIZE_BYTES], inodes[TEXT_SIZE_BYTES];
	struct quota_list *list = arg;
	json_t *row;

	list->n++;
	if (list->rows) {
		row = json_pack("{s:I, s:I, s:I, s:I, s:I, s:b}", "bytes", (json_int_t)q->bytes,
				"bytes_max", (json_int_t)q->bytes_max, "inodes", (json_int_t)q->inodes,
				"inodes_max", (json_int_t)q->inodes_max, "inode", (json_int_t)q->inode,
				"removed", q->inode == 0);
		if (row)
			text_json_name(row, "path", q->path);
		json_array_append_new(list->rows, row);
		return 0;
	}
	if (list->n == 1)
		printf("%10s %10s %12s %12s %s\n", "USED", "LIMIT", "INODES", "LIMIT", "DIRECTORY");
	printf("%10s %10s %12" PRIu64 " %12s ", text_size(q->bytes, used),
	       limit_text(q->bytes_max, true, bytes), q->inodes,
	       limit_text(q->inodes_max, false, inodes));
	if (q->path[0])
		cli_print_name(q->path);
	else
		printf(q->inode ? "inode %" PRIx64 : "(removed)", q->inode);
	printf("\n");
	return 0;
}

/* Of one inode, or all (0). */
static int tell(struct cli *cli, const char *path, uint64_t inode)
{
	struct quota_list list = {.rows = cli->json ? json_array() : NULL};
	int r = cairn_quotas(cli->fs, inode, on_quota, &list);

	if (r < 0) {
		cli_complain_remote(cli, path, r);
		json_decref(list.rows);
	} else if (list.rows) {
		cli_print_json(cli, list.rows);
	}
	return cli_status(cli);
}

/* ---- setting ---- */

static int on_own(void *arg, const struct cairn_quota *q)
{
	*(struct cairn_quota *)arg = *q;
	return 1; /* the innermost one is enough */
}

/* A limit that is not given stays as it is. */
static int set(struct cli *cli, uint64_t inode, const struct limits *l)
{
	struct cairn_quota own = {0};
	int r = cairn_quotas(cli->fs, inode, on_own, &own);

	if (r < 0)
		return r;
	if (own.inode != inode)
		own = (struct cairn_quota){0};
	return cairn_quota_set(cli->fs, inode, l->bytes_given ? l->bytes : own.bytes_max,
			       l->inodes_given ? l->inodes : own.inodes_max);
}

static int options(struct cli *cli, int argc, char **argv, struct limits *ret)
{
	enum { OPT_BYTES = 256, OPT_INODES };
	static const struct option longs[] = {{"bytes", required_argument, NULL, OPT_BYTES},
					      {"inodes", required_argument, NULL, OPT_INODES},
					      {NULL, 0, NULL, 0}};
	int option;

	while ((option = cli_option(cli, argc, argv, "", longs)) != -1) {
		bool good = false;
		if (option == OPT_BYTES)
			good = ret->bytes_given = parse_number(optarg, &ret->bytes);
		else if (option == OPT_INODES)
			good = ret->inodes_given = parse_number(optarg, &ret->inodes);
		if (!good)
			return cli_usage(cli);
	}
	return CLI_OK;
}

static int on_path(struct cli *cli, const char *verb, const char *path, const struct limits *l)
{
	struct cairn_attr attr;
	int r = cairn_resolve(cli->fs, path, true, &attr);

	if (r == 0 && strcmp(verb, "get") == 0)
		return tell(cli, path, attr.inode);
	if (r == 0)
		r = strcmp(verb, "set") == 0 ? set(cli, attr.inode, l)
					     : cairn_quota_remove(cli->fs, attr.inode);
	if (r < 0)
		cli_complain_remote(cli, path, r);
	return cli_status(cli);
}

int cmd_quota(struct cli *cli, int argc, char **argv)
{
	struct limits limits = {0};
	int r = options(cli, argc, argv, &limits), n = argc - optind;
	const char *verb = n > 0 ? argv[optind] : "", *path = n > 1 ? argv[optind + 1] : NULL;
	bool is_set = strcmp(verb, "set") == 0, list = strcmp(verb, "list") == 0;

	if (r != CLI_OK)
		return r;
	if ((!is_set && !list && strcmp(verb, "get") != 0 && strcmp(verb, "remove") != 0) ||
	    n != (list ? 1 : 2) || (limits.bytes_given || limits.inodes_given) != is_set)
		return cli_usage(cli);
	if (path && !cli_remote_path(cli, path))
		return cli_status(cli);
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	return list ? tell(cli, "quotas", 0) : on_path(cli, verb, path, &limits);
}
