/* Commands about names: mkdir, rm, mv, ln, chmod. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/limits.h"
#include "tools/cli.h"
#include "tools/text.h"

/* ---- mkdir ---- */

static mode_t mode_for_dirs(void)
{
	mode_t mask = umask(0);
	umask(mask);
	return 0777 & ~mask;
}

/* Makes each missing directory on the way, and takes those that are there. */
static int make_path(struct cli *cli, const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = strdup(path);
	struct stat st;
	int r = 0;

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; r == 0 && p[-1]; p++) {
		char c = *p;
		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (p[-1] != '/')
			r = cairn_mkdir(cli->fs, copy, mode);
		if (r == -EEXIST) {
			r = cairn_stat(cli->fs, copy, &st);
			if (r == 0 && !S_ISDIR(st.st_mode))
				r = -EEXIST;
		}
		*p = c;
		if (c == '\0')
			break;
	}
	return r;
}

int cmd_mkdir(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"parents", no_argument, NULL, 'p'},
					      {NULL, 0, NULL, 0}};
	mode_t mode = mode_for_dirs();
	bool parents = false;
	int option;

	while ((option = cli_option(cli, argc, argv, "p", longs)) != -1) {
		if (option != 'p')
			return cli_usage(cli);
		parents = true;
	}
	if (optind == argc)
		return cli_usage(cli);
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	for (int i = optind; i < argc; i++) {
		int r;
		if (!cli_remote_path(cli, argv[i]))
			continue;
		r = parents ? make_path(cli, argv[i], mode) : cairn_mkdir(cli->fs, argv[i], mode);
		if (r < 0)
			cli_complain_remote(cli, argv[i], r);
	}
	return cli_status(cli);
}

/* ---- rm ---- */

struct remove {
	struct cli *cli;
	bool recursive, force;
};

/* Names are collected a page at a time and removed before the next page is asked for. */
struct page {
	char *names[512];
	size_t n;
};

static int page_add(void *arg, const char *name, uint64_t cookie, const struct cairn_attr *attr)
{
	struct page *page = arg;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	page->names[page->n] = strdup(name);
	if (!page->names[page->n])
		return -ENOMEM;
	return ++page->n == ARRAY_LEN(page->names);
}

static int remove_at(struct remove *rm, uint64_t parent, const char *name, const char *path);

/* Removes what is in the directory; the number of names that would not go. */
static unsigned remove_children(struct remove *rm, uint64_t inode, const char *path)
{
	unsigned failed = 0;
	bool go_on = true;

	while (go_on && failed == 0) {
		struct page *page = calloc(1, sizeof(*page));
		int r = page ? cairn_readdir(rm->cli->fs, NULL, inode, 0, page_add, page) : -ENOMEM;
		if (r < 0) {
			cli_complain_remote(rm->cli, path, r);
			failed++;
		}
		go_on = page && page->n > 0;
		for (size_t i = 0; page && i < page->n; i++) {
			_cleanup_free_ char *child = text_join(path, page->names[i]);
			if (!child || remove_at(rm, inode, page->names[i], child) < 0)
				failed++;
			free(page->names[i]);
		}
		free(page);
	}
	return failed;
}

/* Told when it fails. */
static int remove_at(struct remove *rm, uint64_t parent, const char *name, const char *path)
{
	struct cairn *fs = rm->cli->fs;
	struct cairn_attr attr;
	int r = cairn_lookup(fs, NULL, parent, name, &attr);

	if (r == 0 && S_ISDIR(attr.mode)) {
		if (!rm->recursive)
			r = -EISDIR;
		else if (remove_children(rm, attr.inode, path) > 0)
			return -ENOTEMPTY;
		else
			r = cairn_unlink_at(fs, NULL, parent, name, true);
	} else if (r == 0) {
		r = cairn_unlink_at(fs, NULL, parent, name, false);
	}
	if (r == -ENOENT && rm->force)
		r = 0;
	if (r < 0)
		cli_complain_remote(rm->cli, path, r);
	return r;
}

static void remove_path(struct remove *rm, const char *path)
{
	char name[NAME_BYTES_MAX + 1];
	_cleanup_free_ char *base = text_base(path);
	uint64_t parent;
	int r;

	if (!base || strcmp(base, "/") == 0 || strcmp(base, ".") == 0 || strcmp(base, "..") == 0) {
		cli_complain(rm->cli, path, base ? "refused" : "out of memory");
		return;
	}
	r = cairn_resolve_parent(rm->cli->fs, path, &parent, name);
	if (r == 0)
		remove_at(rm, parent, name, path);
	else if (r != -ENOENT || !rm->force)
		cli_complain_remote(rm->cli, path, r);
}

int cmd_rm(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"recursive", no_argument, NULL, 'r'},
					      {"force", no_argument, NULL, 'f'},
					      {NULL, 0, NULL, 0}};
	struct remove rm = {.cli = cli};
	int option;

	while ((option = cli_option(cli, argc, argv, "rRf", longs)) != -1) {
		if (option == 'r' || option == 'R')
			rm.recursive = true;
		else if (option == 'f')
			rm.force = true;
		else
			return cli_usage(cli);
	}
	if (optind == argc)
		return rm.force ? CLI_OK : cli_usage(cli);
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	for (int i = optind; i < argc; i++)
		if (cli_remote_path(cli, argv[i]))
			remove_path(&rm, argv[i]);
	return cli_status(cli);
}

/* ---- mv, ln ---- */

/* dst, or dst/BASE when it is a directory. Heap; NULL after a complaint. */
static char *target_for(struct cli *cli, const char *src, const char *dst, bool need_dir)
{
	_cleanup_free_ char *base = text_base(src);
	struct stat st;
	int r = cairn_stat(cli->fs, dst, &st);
	char *target;

	if (r < 0 && r != -ENOENT) {
		cli_complain_remote(cli, dst, r);
		return NULL;
	}
	if (need_dir && (r < 0 || !S_ISDIR(st.st_mode))) {
		cli_complain(cli, dst, "is not a directory");
		return NULL;
	}
	target = !base ? NULL : r == 0 && S_ISDIR(st.st_mode) ? text_join(dst, base) : strdup(dst);
	if (!target)
		cli_complain(cli, dst, "out of memory");
	return target;
}

int cmd_mv(struct cli *cli, int argc, char **argv)
{
	const char *dst = argv[argc - 1];

	if (cli_option(cli, argc, argv, "", NULL) != -1 || argc - optind < 2)
		return cli_usage(cli);
	dst = argv[argc - 1];
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	for (int i = optind; i < argc - 1; i++) {
		_cleanup_free_ char *target = NULL;
		int r;
		if (!cli_remote_path(cli, argv[i]) || !cli_remote_path(cli, dst))
			continue;
		target = target_for(cli, argv[i], dst, argc - optind > 2);
		r = target ? cairn_rename(cli->fs, argv[i], target) : 0;
		if (r < 0)
			cli_complain_remote(cli, argv[i], r);
	}
	return cli_status(cli);
}

int cmd_ln(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"symbolic", no_argument, NULL, 's'},
					      {NULL, 0, NULL, 0}};
	_cleanup_free_ char *name = NULL;
	bool symbolic = false;
	int option, r;

	while ((option = cli_option(cli, argc, argv, "s", longs)) != -1) {
		if (option != 's')
			return cli_usage(cli);
		symbolic = true;
	}
	if (argc - optind != 2)
		return cli_usage(cli);
	if ((!symbolic && !cli_remote_path(cli, argv[optind])) ||
	    !cli_remote_path(cli, argv[optind + 1]))
		return CLI_USAGE;
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	name = target_for(cli, argv[optind], argv[optind + 1], false);
	if (name) {
		r = symbolic ? cairn_symlink(cli->fs, argv[optind], name)
			     : cairn_link(cli->fs, argv[optind], name);
		if (r < 0)
			cli_complain_remote(cli, name, r);
	}
	return cli_status(cli);
}

/* ---- chmod ---- */

int cmd_chmod(struct cli *cli, int argc, char **argv)
{
	unsigned long mode;
	char *end;

	if (cli_option(cli, argc, argv, "", NULL) != -1 || argc - optind < 2)
		return cli_usage(cli);
	mode = strtoul(argv[optind], &end, 8);
	if (*end || end == argv[optind] || mode > 07777) {
		cli_complain(cli, argv[optind], "not an octal mode");
		return CLI_USAGE;
	}
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	for (int i = optind + 1; i < argc; i++) {
		int r;
		if (!cli_remote_path(cli, argv[i]))
			continue;
		r = cairn_chmod(cli->fs, argv[i], (mode_t)mode);
		if (r < 0)
			cli_complain_remote(cli, argv[i], r);
	}
	return cli_status(cli);
}
