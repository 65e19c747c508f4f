/* Commands about space: du, df. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "tools/cli.h"
#include "tools/text.h"

/* ---- du ---- */

struct du {
	struct cli *cli;
	bool summary, human;
	json_t *all; /* with --json */
	uint64_t *linked; /* inodes with several links, counted once: an open-addressed set */
	size_t n_linked, room_linked;
};

struct du_sum {
	uint64_t bytes, apparent, files, dirs;
};

struct du_dir {
	struct du *du;
	struct du_sum *sum;
	char **names; /* of directories */
	uint64_t *inodes;
	size_t n, room;
};

static size_t set_slot(const uint64_t *set, size_t room, uint64_t inode)
{
	size_t at = (size_t)(inode * 0x9e3779b97f4a7c15ULL) & (room - 1);

	while (set[at] && set[at] != inode)
		at = (at + 1) & (room - 1);
	return at;
}

/* 1 when it was not there yet, 0 when it was, -ENOMEM. */
static int linked_add(struct du *du, uint64_t inode)
{
	size_t at;

	if (du->n_linked * 2 >= du->room_linked) {
		size_t room = du->room_linked ? du->room_linked * 2 : 256;
		uint64_t *set = calloc(room, sizeof(*set));
		if (!set)
			return -ENOMEM;
		for (size_t i = 0; i < du->room_linked; i++)
			if (du->linked[i])
				set[set_slot(set, room, du->linked[i])] = du->linked[i];
		free(du->linked);
		du->linked = set;
		du->room_linked = room;
	}
	at = set_slot(du->linked, du->room_linked, inode);
	if (du->linked[at])
		return 0;
	du->linked[at] = inode;
	du->n_linked++;
	return 1;
}

static int du_count(struct du *du, struct du_sum *sum, const struct cairn_attr *attr)
{
	if (!S_ISDIR(attr->mode) && attr->nlink > 1) {
		int r = linked_add(du, attr->inode);
		if (r <= 0)
			return r;
	}
	sum->bytes += attr->blocks * 512;
	sum->apparent += attr->size;
	if (S_ISDIR(attr->mode))
		sum->dirs++;
	else
		sum->files++;
	return 0;
}

static int du_add_dir(struct du_dir *d, const char *name, const struct cairn_attr *attr)
{
	if (d->n == d->room) {
		size_t room = d->room ? d->room * 2 : 16;
		char **names = realloc(d->names, room * sizeof(*names));
		if (names)
			d->names = names;
		uint64_t *inodes = realloc(d->inodes, room * sizeof(*inodes));
		if (inodes)
			d->inodes = inodes;
		if (!names || !inodes)
			return -ENOMEM;
		d->room = room;
	}
	d->names[d->n] = strdup(name);
	if (!d->names[d->n])
		return -ENOMEM;
	d->inodes[d->n++] = attr->inode;
	return du_count(d->du, d->sum, attr);
}

static int du_entry(void *arg, const char *name, uint64_t cookie, const struct cairn_attr *attr)
{
	struct du_dir *d = arg;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	return S_ISDIR(attr->mode) ? du_add_dir(d, name, attr) : du_count(d->du, d->sum, attr);
}

static void du_print(struct du *du, const char *path, const struct du_sum *sum)
{
	char size[TEXT_SIZE_BYTES];

	if (du->all) {
		json_t *o = json_pack("{s:I, s:I, s:I, s:I}", "bytes", (json_int_t)sum->bytes,
				      "apparent_bytes", (json_int_t)sum->apparent, "files",
				      (json_int_t)sum->files, "directories",
				      (json_int_t)sum->dirs);
		if (!o || text_json_name(o, "path", path) < 0 ||
		    json_array_append(du->all, o) < 0)
			cli_complain(du->cli, path, "out of memory");
		json_decref(o);
		return;
	}
	if (du->human)
		printf("%s\t", text_size(sum->bytes, size));
	else
		printf("%llu\t", (unsigned long long)(sum->bytes + 1023) / 1024);
	cli_print_name(path);
	putchar('\n');
}

/* Adds the directory's content to *sum; the directory itself is counted by its parent. */
static void du_walk(struct du *du, uint64_t inode, const char *path, struct du_sum *sum, bool top)
{
	struct du_dir d = {.du = du, .sum = sum};
	int r = cairn_readdir(du->cli->fs, NULL, inode, 0, du_entry, &d);

	if (r == 0)
		r = -ENOMEM; /* only du_entry stops early */
	if (r < 0)
		cli_complain_remote(du->cli, path, r);
	for (size_t i = 0; i < d.n; i++) {
		_cleanup_free_ char *child = text_join(path, d.names[i]);
		struct du_sum below = {0};
		if (child)
			du_walk(du, d.inodes[i], child, &below, false);
		else
			cli_complain(du->cli, path, "out of memory");
		sum->bytes += below.bytes;
		sum->apparent += below.apparent;
		sum->files += below.files;
		sum->dirs += below.dirs;
		free(d.names[i]);
	}
	free(d.names);
	free(d.inodes);
	if (top || !du->summary)
		du_print(du, path, sum);
}

static void du_path(struct du *du, const char *path)
{
	struct cairn_attr attr;
	struct du_sum sum = {0};
	int r = cairn_resolve(du->cli->fs, path, false, &attr);

	if (r == 0)
		r = du_count(du, &sum, &attr);
	if (r < 0)
		cli_complain_remote(du->cli, path, r);
	else if (S_ISDIR(attr.mode))
		du_walk(du, attr.inode, path, &sum, true);
	else
		du_print(du, path, &sum);
}

int cmd_du(struct cli *cli, int argc, char **argv)
{
	struct du du = {.cli = cli};
	int option;

	while ((option = cli_option(cli, argc, argv, "sh", NULL)) != -1) {
		if (option == 's')
			du.summary = true;
		else if (option == 'h')
			du.human = true;
		else
			return cli_usage(cli);
	}
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	if (cli->json)
		du.all = json_array();
	if (optind == argc)
		du_path(&du, "/");
	for (int i = optind; i < argc; i++)
		if (cli_remote_path(cli, argv[i]))
			du_path(&du, argv[i]);
	free(du.linked);
	if (cli->json)
		cli_print_json(cli, du.all);
	return cli_status(cli);
}

/* ---- df ---- */

static const char *space_text(uint64_t bytes, bool human, char *ret)
{
	if (human)
		return text_size(bytes, ret);
	snprintf(ret, TEXT_SIZE_BYTES, "%llu", (unsigned long long)bytes / 1024);
	return ret;
}

int cmd_df(struct cli *cli, int argc, char **argv)
{
	char total[TEXT_SIZE_BYTES], used[TEXT_SIZE_BYTES], avail[TEXT_SIZE_BYTES];
	struct cairn_statfs s;
	uint64_t used_bytes;
	bool human = false;
	int option, r;

	while ((option = cli_option(cli, argc, argv, "h", NULL)) != -1) {
		if (option != 'h')
			return cli_usage(cli);
		human = true;
	}
	if (optind != argc)
		return cli_usage(cli);
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	r = cairn_statfs(cli->fs, &s);
	if (r < 0) {
		cli_complain_remote(cli, "/", r);
		return cli_status(cli);
	}
	used_bytes = s.total_bytes > s.free_bytes ? s.total_bytes - s.free_bytes : 0;
	if (cli->json) {
		cli_print_json(cli, json_pack("{s:I, s:I, s:I, s:I}", "total_bytes",
					      (json_int_t)s.total_bytes, "used_bytes",
					      (json_int_t)used_bytes, "free_bytes",
					      (json_int_t)s.free_bytes, "inodes",
					      (json_int_t)s.inodes));
		return cli_status(cli);
	}
	printf("%14s %14s %14s %5s %12s\n", human ? "Size" : "1K-blocks", "Used", "Available",
	       "Use%", "Inodes");
	printf("%14s %14s %14s %4.0f%% %12llu\n", space_text(s.total_bytes, human, total),
	       space_text(used_bytes, human, used), space_text(s.free_bytes, human, avail),
	       s.total_bytes ? (double)used_bytes * 100 / (double)s.total_bytes : 0.0,
	       (unsigned long long)s.inodes);
	return cli_status(cli);
}
