#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/limits.h"
#include "tools/attr.h"
#include "tools/cli.h"
#include "tools/text.h"

enum { CAT_BYTES = 8 << 20 };

/* ---- stat ---- */

static int print_chunk(void *arg, const struct cairn_chunk_info *c)
{
	if (c->id == 0) {
		printf("  Chunk %llu", (unsigned long long)c->index);
		if (c->count > 1)
			printf(" to %llu", (unsigned long long)(c->index + c->count - 1));
		puts(": hole");
		return 0;
	}
	printf("  Chunk %llu: %016llx version %u%s, %u replica%s:", (unsigned long long)c->index,
	       (unsigned long long)c->id, c->version, c->written ? "" : " (not written)",
	       c->n_replicas, c->n_replicas == 1 ? "" : "s");
	for (unsigned i = 0; i < c->n_replicas; i++)
		printf(" %u@%s", c->replicas[i].server, c->replicas[i].addr);
	putchar('\n');
	return 0;
}

static int chunk_json(void *arg, const struct cairn_chunk_info *c)
{
	json_t *array = arg, *replicas = json_array();
	char id[20];

	snprintf(id, sizeof(id), "%016llx", (unsigned long long)c->id);
	for (unsigned i = 0; i < c->n_replicas; i++)
		json_array_append_new(replicas, json_pack("{s:i, s:s}", "server",
							  (int)c->replicas[i].server, "addr",
							  c->replicas[i].addr));
	return json_array_append_new(array, json_pack("{s:I, s:I, s:s, s:b, s:i, s:b, s:o}", "index",
						      (json_int_t)c->index, "count",
						      (json_int_t)c->count, "id", id, "hole",
						      c->id == 0, "version", (int)c->version,
						      "written", (int)c->written, "replicas",
						      replicas)) != 0;
}

static void print_stat(struct cli *cli, const char *path, const struct cairn_attr *a)
{
	char mode[TEXT_MODE_BYTES], when[TEXT_TIME_BYTES], target[SYMLINK_BYTES_MAX + 1];

	fputs("  File: ", stdout);
	cli_print_name(path);
	if (S_ISLNK(a->mode) && cairn_readlink_inode(cli->fs, a->inode, target, sizeof(target)) >= 0) {
		fputs(" -> ", stdout);
		cli_print_name(target);
	}
	printf("\n  Size: %-15llu Blocks: %-10llu %s\n", (unsigned long long)a->size,
	       (unsigned long long)a->blocks, text_type(a->mode));
	printf(" Inode: %-15llu Links: %u\n", (unsigned long long)a->inode, a->nlink);
	printf("Access: (%04o/%s)  Uid: %u  Gid: %u\n", a->mode & 07777, text_mode(a->mode, mode),
	       a->uid, a->gid);
	printf("Access: %s\n", text_time(a->atime, when));
	printf("Modify: %s\n", text_time(a->mtime, when));
	printf("Change: %s\n", text_time(a->ctime, when));
	printf(" Birth: %s\n", text_time(a->btime, when));
}

static void stat_path(struct cli *cli, const char *path, json_t *all)
{
	struct cairn_attr attr;
	int r = cairn_resolve(cli->fs, path, false, &attr);

	if (r == 0 && all) {
		json_t *o = attr_to_json(cli->fs, &attr), *chunks = json_array();
		if (o)
			text_json_name(o, "path", path);
		if (S_ISREG(attr.mode))
			r = cairn_chunks(cli->fs, attr.inode, chunk_json, chunks);
		json_object_set_new(o, "chunks", chunks);
		if (r >= 0 && json_array_append(all, o) < 0)
			r = -ENOMEM;
		json_decref(o);
	} else if (r == 0) {
		print_stat(cli, path, &attr);
		if (S_ISREG(attr.mode))
			r = cairn_chunks(cli->fs, attr.inode, print_chunk, NULL);
	}
	if (r < 0)
		cli_complain_remote(cli, path, r);
}

int cmd_stat(struct cli *cli, int argc, char **argv)
{
	json_t *all = NULL;

	if (cli_option(cli, argc, argv, "", NULL) != -1 || optind == argc)
		return cli_usage(cli);
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	if (cli->json)
		all = json_array();
	for (int i = optind; i < argc; i++)
		if (cli_remote_path(cli, argv[i]))
			stat_path(cli, argv[i], all);
	if (cli->json)
		cli_print_json(cli, all);
	return cli_status(cli);
}

/* ---- cat ---- */

static int write_all(const char *data, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = write(STDOUT_FILENO, data, bytes);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			bytes -= (size_t)n;
		}
	}
	return 0;
}

/* 0; negative when standard output does not take more. */
static int cat_path(struct cli *cli, const char *path, char *buf)
{
	struct cairn_file *file;
	uint64_t at = 0;
	int r = cairn_open(cli->fs, path, O_RDONLY, 0, &file);

	if (r < 0) {
		cli_complain_remote(cli, path, r);
		return 0;
	}
	for (;;) {
		ssize_t n = cairn_pread(file, buf, CAT_BYTES, at);
		if (n < 0)
			cli_complain_remote(cli, path, (int)n);
		if (n <= 0)
			break;
		r = write_all(buf, (size_t)n);
		if (r < 0) {
			cli_complain(cli, "standard output", "%s", strerror(-r));
			break;
		}
		at += (uint64_t)n;
	}
	cairn_close(file);
	return r;
}

int cmd_cat(struct cli *cli, int argc, char **argv)
{
	char *buf;

	if (cli_option(cli, argc, argv, "", NULL) != -1 || optind == argc)
		return cli_usage(cli);
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	buf = malloc(CAT_BYTES);
	if (!buf)
		cli_complain(cli, "cat", "out of memory");
	for (int i = optind; buf && i < argc; i++)
		if (cli_remote_path(cli, argv[i]) && cat_path(cli, argv[i], buf) < 0)
			break;
	free(buf);
	return cli_status(cli);
}
