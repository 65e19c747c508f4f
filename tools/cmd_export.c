/* cairn export: directories that credentials of their own see as all there is. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/text.h"

enum { ANON = 65534, OPT_RW = 256, OPT_RO, OPT_ROOT_SQUASH, OPT_ALL_SQUASH, OPT_NO_SQUASH, OPT_ANON,
       OPT_SESSIONS, OPT_RATE };

static const struct option longs[] = {
	{"rw", no_argument, NULL, OPT_RW},
	{"ro", no_argument, NULL, OPT_RO},
	{"root-squash", no_argument, NULL, OPT_ROOT_SQUASH},
	{"all-squash", no_argument, NULL, OPT_ALL_SQUASH},
	{"no-root-squash", no_argument, NULL, OPT_NO_SQUASH},
	{"anon", required_argument, NULL, OPT_ANON},
	{"sessions", required_argument, NULL, OPT_SESSIONS},
	{"rate", required_argument, NULL, OPT_RATE},
	{NULL, 0, NULL, 0},
};

/* What is asked for: `given` has a bit for each field of `to` that is to change. */
enum { GIVEN_READ_ONLY = 1, GIVEN_SQUASH = 2, GIVEN_ANON = 4, GIVEN_SESSIONS = 8, GIVEN_RATE = 16 };
struct wish {
	struct cairn_export to;
	unsigned given;
};

static bool parse_u32(const char *text, const char **ret_end, uint32_t *ret)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	*ret = (uint32_t)n;
	*ret_end = end;
	return isdigit((unsigned char)text[0]) && !errno && n < UINT32_MAX;
}

static bool parse_number(const char *text, uint32_t *ret)
{
	const char *end;
	return parse_u32(text, &end, ret) && !*end;
}

/* UID:GID */
static bool parse_anon(const char *text, struct cairn_export *ret)
{
	const char *end;
	return parse_u32(text, &end, &ret->uid) && *end == ':' && parse_number(end + 1, &ret->gid);
}

static void wish_flag(struct wish *w, int option)
{
	if (option == OPT_RW || option == OPT_RO) {
		w->to.read_only = option == OPT_RO;
		w->given |= GIVEN_READ_ONLY;
		return;
	}
	w->to.squash = option == OPT_ALL_SQUASH	   ? CAIRN_SQUASH_ALL
		       : option == OPT_ROOT_SQUASH ? CAIRN_SQUASH_ROOT
						   : CAIRN_SQUASH_NONE;
	w->given |= GIVEN_SQUASH;
}

static bool wish_option(struct wish *w, int option)
{
	switch (option) {
	case OPT_ANON: w->given |= GIVEN_ANON; return parse_anon(optarg, &w->to);
	case OPT_SESSIONS: w->given |= GIVEN_SESSIONS; return parse_number(optarg, &w->to.sessions_max);
	case OPT_RATE: w->given |= GIVEN_RATE; return parse_number(optarg, &w->to.rate_max);
	case OPT_RW: case OPT_RO: case OPT_ROOT_SQUASH: case OPT_ALL_SQUASH: case OPT_NO_SQUASH:
		wish_flag(w, option);
		return true;
	default: return false;
	}
}

static void wish_apply(const struct wish *w, struct cairn_export *x)
{
	if (w->given & GIVEN_READ_ONLY)
		x->read_only = w->to.read_only;
	if (w->given & GIVEN_SQUASH)
		x->squash = w->to.squash;
	if (w->given & GIVEN_ANON) {
		x->uid = w->to.uid;
		x->gid = w->to.gid;
	}
	if (w->given & GIVEN_SESSIONS)
		x->sessions_max = w->to.sessions_max;
	if (w->given & GIVEN_RATE)
		x->rate_max = w->to.rate_max;
}

/* ---- telling ---- */

static const char *const squash_words[] = {"no_root_squash", "root_squash", "all_squash"};

struct export_list {
	json_t *rows; /* with --json */
	unsigned n;
};

static void list_json(json_t *rows, const struct cairn_export *x)
{
	json_t *row = json_pack("{s:s, s:b, s:s, s:i, s:i, s:I, s:I, s:I, s:I}", "name", x->name,
				"read_only", x->read_only, "squash", squash_words[x->squash], "uid",
				(int)x->uid, "gid", (int)x->gid, "sessions", (json_int_t)x->sessions,
				"sessions_max", (json_int_t)x->sessions_max, "rate_max",
				(json_int_t)x->rate_max, "inode", (json_int_t)x->inode);

	if (row)
		text_json_name(row, "path", x->path);
	json_array_append_new(rows, row);
}

static int on_export(void *arg, const struct cairn_export *x)
{
	struct export_list *list = arg;

	if (list->rows) {
		list_json(list->rows, x);
		return 0;
	}
	if (list->n++ == 0)
		printf("%-16s %-2s %-14s %11s %8s %8s %8s %s\n", "NAME", "", "IDS", "ANON", "SESSIONS",
		       "LIMIT", "RATE", "DIRECTORY");
	printf("%-16s %-2s %-14s %5" PRIu32 ":%-5" PRIu32 " %8" PRIu32 " %8" PRIu32 " %8" PRIu32 " ",
	       x->name, x->read_only ? "ro" : "rw", squash_words[x->squash], x->uid, x->gid,
	       x->sessions, x->sessions_max, x->rate_max);
	if (x->path[0])
		cli_print_name(x->path);
	else
		printf("(gone)");
	printf("\n");
	return 0;
}

static int tell(struct cli *cli)
{
	struct export_list list = {.rows = cli->json ? json_array() : NULL};
	int r = cairn_exports(cli->fs, on_export, &list);

	if (r < 0) {
		cli_complain_remote(cli, "exports", r);
		json_decref(list.rows);
	} else if (list.rows) {
		cli_print_json(cli, list.rows);
	}
	return cli_status(cli);
}

/* ---- changing ---- */

/* On success `name` of the argument is the whole of what is there. */
static int on_find(void *arg, const struct cairn_export *x)
{
	struct cairn_export *want = arg;

	if (strcmp(want->name, x->name) != 0)
		return 0;
	*want = *x;
	return 1;
}

static int find(struct cli *cli, struct cairn_export *x, bool *ret_there)
{
	int r;

	x->inode = 0;
	r = cairn_exports(cli->fs, on_find, x);
	*ret_there = x->inode != 0;
	return r < 0 ? r : 0;
}

static int add(struct cli *cli, const char *path, const struct wish *w, struct cairn_export *x)
{
	struct cairn_attr attr;
	bool there;
	int r = find(cli, x, &there);

	if (r == 0 && there)
		return -EEXIST;
	if (r == 0)
		r = cairn_resolve(cli->fs, path, true, &attr);
	if (r < 0)
		return r;
	/* A client host's root is nobody unless it is asked for. */
	x->squash = CAIRN_SQUASH_ROOT;
	x->uid = x->gid = ANON;
	x->inode = attr.inode;
	wish_apply(w, x);
	return cairn_export_add(cli->fs, x);
}

/* What is not given stays. */
static int set(struct cli *cli, const struct wish *w, struct cairn_export *x)
{
	bool there;
	int r = find(cli, x, &there);

	if (r < 0 || !there)
		return r < 0 ? r : -ENODATA;
	wish_apply(w, x);
	return cairn_export_set(cli->fs, x);
}

static bool verb_fits(const char *verb, int n, const struct wish *w)
{
	if (strcmp(verb, "add") == 0)
		return n == 3;
	if (strcmp(verb, "set") == 0)
		return n == 2 && w->given;
	return !w->given && (strcmp(verb, "list") == 0 ? n == 1 : strcmp(verb, "remove") == 0 && n == 2);
}

int cmd_export(struct cli *cli, int argc, char **argv)
{
	struct cairn_export x = {0};
	struct wish w = {0};
	const char *verb;
	int option, n, r;

	while ((option = cli_option(cli, argc, argv, "", longs)) != -1)
		if (!wish_option(&w, option))
			return cli_usage(cli);
	n = argc - optind;
	verb = n > 0 ? argv[optind] : "";
	if (!verb_fits(verb, n, &w) || (n > 1 && strlen(argv[optind + 1]) >= sizeof(x.name)))
		return cli_usage(cli);
	if (n == 3 && !cli_remote_path(cli, argv[optind + 2]))
		return cli_status(cli);
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	if (n == 1)
		return tell(cli);
	strcpy(x.name, argv[optind + 1]);
	if (n == 3)
		r = add(cli, argv[optind + 2], &w, &x);
	else if (strcmp(verb, "set") == 0)
		r = set(cli, &w, &x);
	else
		r = cairn_export_remove(cli->fs, x.name);
	if (r < 0)
		cli_complain_remote(cli, x.name, r);
	return cli_status(cli);
}
