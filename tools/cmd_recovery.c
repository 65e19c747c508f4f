/* Commands of recovery: backup, hold, fsck. */
#include <stdio.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/text.h"

int cmd_backup(struct cli *cli, int argc, char **argv)
{
	struct cairn_backup_info info;
	char size[TEXT_SIZE_BYTES];
	const char *path;
	int r;

	if (cli_option(cli, argc, argv, "", NULL) != -1 || optind != argc - 1)
		return cli_usage(cli);
	path = argv[optind];
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	r = cairn_backup(cli->fs, path, &info);
	if (r < 0)
		cli_complain_remote(cli, path, r);
	else if (strcmp(path, "-") == 0 || cli->quiet)
		; /* standard output is the backup */
	else if (cli->json)
		cli_print_json(cli, json_pack("{s:I, s:I, s:I}", "applied",
					      (json_int_t)info.applied, "rows",
					      (json_int_t)info.rows, "bytes",
					      (json_int_t)info.bytes));
	else
		printf("%s: %llu rows, %s, the state after entry %llu\n", path,
		       (unsigned long long)info.rows, text_size(info.bytes, size),
		       (unsigned long long)info.applied);
	return cli_status(cli);
}

int cmd_hold(struct cli *cli, int argc, char **argv)
{
	bool on;
	int r;

	if (cli_option(cli, argc, argv, "", NULL) != -1 || optind != argc - 1)
		return cli_usage(cli);
	on = strcmp(argv[optind], "on") == 0;
	if (!on && strcmp(argv[optind], "off") != 0)
		return cli_usage(cli);
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	r = cairn_hold(cli->fs, on);
	if (r < 0)
		cli_complain_remote(cli, argv[optind], r);
	return cli_status(cli);
}

/* ---- fsck ---- */

enum { FSCK_OK = 0, FSCK_BAD = 1, FSCK_LOST = 3, FSCK_UNKNOWN = 4 };

struct fsck {
	struct cli *cli;
	char **paths; /* only what is below one of them; none: all */
	int n_paths;
	json_t *chunks; /* with --json */
	uint64_t found[CAIRN_FSCK_UNCLEAN + 1]; /* by problem */
};

static bool is_below(const char *path, const char *top)
{
	size_t n = strlen(top);

	while (n > 0 && top[n - 1] == '/')
		n--;
	return strncmp(path, top, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static bool is_wanted(const struct fsck *f, const char *path)
{
	for (int i = 0; i < f->n_paths; i++)
		if (is_below(path, f->paths[i]))
			return true;
	return f->n_paths == 0;
}

static const char *problem_word(int problem)
{
	switch (problem) {
	case CAIRN_FSCK_MISSING: return "missing";
	case CAIRN_FSCK_UNDER_GOAL: return "under goal";
	case CAIRN_FSCK_DAMAGED: return "damaged";
	case CAIRN_FSCK_PENDING: return "being changed";
	case CAIRN_FSCK_UNCLEAN: return "to be compared";
	default: return "not well";
	}
}

static const char *replica_word(int state)
{
	switch (state) {
	case CAIRN_REPLICA_GOOD: return "good";
	case CAIRN_REPLICA_AWAY: return "away";
	case CAIRN_REPLICA_DAMAGED: return "damaged";
	case CAIRN_REPLICA_UNCLEAN: return "to be compared";
	default: return "unknown";
	}
}

static void fsck_print(const struct cairn_fsck_chunk *c)
{
	if (c->path[0])
		cli_print_name(c->path);
	else
		printf("(inode %llu, no name found)", (unsigned long long)c->inode);
	printf(": chunk %llu (%016llx v%u) %s: %u of %u copies",
	       (unsigned long long)c->index, (unsigned long long)c->id, c->version,
	       problem_word(c->problem), c->live, c->copies);
	for (unsigned i = 0; i < c->n_replicas; i++)
		printf("%s %s %s", i ? "," : ";", c->replicas[i].addr,
		       replica_word(c->replicas[i].state));
	putchar('\n');
}

static json_t *fsck_json(const struct cairn_fsck_chunk *c)
{
	json_t *replicas = json_array(), *o;
	char id[24];

	for (unsigned i = 0; i < c->n_replicas; i++)
		json_array_append_new(replicas, json_pack(
			"{s:i, s:s, s:s}", "server", (int)c->replicas[i].server, "addr",
			c->replicas[i].addr, "state", replica_word(c->replicas[i].state)));
	snprintf(id, sizeof(id), "%016llx", (unsigned long long)c->id);
	o = json_pack("{s:s, s:i, s:I, s:I, s:s, s:i, s:i, s:o}", "id", id, "version",
		      (int)c->version, "inode", (json_int_t)c->inode, "index",
		      (json_int_t)c->index, "problem", problem_word(c->problem), "live",
		      (int)c->live, "copies", (int)c->copies, "replicas", replicas);
	if (o && c->path[0])
		text_json_name(o, "path", c->path);
	return o;
}

static int fsck_chunk(void *arg, const struct cairn_fsck_chunk *c)
{
	struct fsck *f = arg;

	if (!is_wanted(f, c->path))
		return 0;
	if (c->problem >= 0 && c->problem <= CAIRN_FSCK_UNCLEAN)
		f->found[c->problem]++;
	if (f->chunks)
		json_array_append_new(f->chunks, fsck_json(c));
	else
		fsck_print(c);
	return 0;
}

static void fsck_summary(struct fsck *f, const struct cairn_fsck_summary *s)
{
	if (f->cli->json) {
		cli_print_json(f->cli, json_pack(
			"{s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:o}", "chunks",
			(json_int_t)s->chunks, "missing",
			(json_int_t)f->found[CAIRN_FSCK_MISSING], "under_goal",
			(json_int_t)f->found[CAIRN_FSCK_UNDER_GOAL], "damaged",
			(json_int_t)f->found[CAIRN_FSCK_DAMAGED], "to_be_compared",
			(json_int_t)f->found[CAIRN_FSCK_UNCLEAN], "being_changed",
			(json_int_t)f->found[CAIRN_FSCK_PENDING], "held", s->held,
			"kept_replicas", (json_int_t)s->kept_replicas, "kept_chunks",
			(json_int_t)s->kept_chunks, "not_well", f->chunks));
		return;
	}
	printf("%llu chunks: %llu missing, %llu under goal, %llu damaged, %llu to be compared, "
	       "%llu being changed\n",
	       (unsigned long long)s->chunks, (unsigned long long)f->found[CAIRN_FSCK_MISSING],
	       (unsigned long long)f->found[CAIRN_FSCK_UNDER_GOAL],
	       (unsigned long long)f->found[CAIRN_FSCK_DAMAGED],
	       (unsigned long long)f->found[CAIRN_FSCK_UNCLEAN],
	       (unsigned long long)f->found[CAIRN_FSCK_PENDING]);
	if (s->held)
		printf("held: %llu replicas of %llu chunks that the state does not know are kept "
		       "(cairn hold off)\n", (unsigned long long)s->kept_replicas,
		       (unsigned long long)s->kept_chunks);
}

int cmd_fsck(struct cli *cli, int argc, char **argv)
{
	struct fsck f = {.cli = cli};
	struct cairn_fsck_summary summary;
	int r;

	if (cli_option(cli, argc, argv, "", NULL) != -1)
		return cli_usage(cli);
	f.paths = argv + optind;
	f.n_paths = argc - optind;
	for (int i = 0; i < f.n_paths; i++)
		if (!cli_remote_path(cli, f.paths[i]))
			return CLI_USAGE;
	if (cli_connect(cli) != CLI_OK)
		return FSCK_UNKNOWN;
	if (cli->json)
		f.chunks = json_array();
	r = cairn_fsck(cli->fs, fsck_chunk, &f, &summary);
	if (r < 0) {
		cli_complain_remote(cli, "cluster", r);
		json_decref(f.chunks);
		return FSCK_UNKNOWN;
	}
	fsck_summary(&f, &summary);
	if (cli_status(cli) != CLI_OK)
		return FSCK_UNKNOWN;
	if (f.found[CAIRN_FSCK_MISSING])
		return FSCK_LOST;
	return f.found[CAIRN_FSCK_UNDER_GOAL] || f.found[CAIRN_FSCK_DAMAGED] ||
	       f.found[CAIRN_FSCK_UNCLEAN] ? FSCK_BAD : FSCK_OK;
}
