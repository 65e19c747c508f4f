#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/limits.h"
#include "tools/attr.h"
#include "tools/cli.h"
#include "tools/text.h"

struct entry {
	char *name;
	struct cairn_attr attr;
};

struct listing {
	bool all;
	struct entry *entries;
	size_t n, room;
};

struct ls_options {
	bool all, lengthy;
};

static int listing_add(void *arg, const char *name, uint64_t cookie, const struct cairn_attr *attr)
{
	struct listing *l = arg;

	if (name[0] == '.' && !l->all)
		return 0;
	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : 64;
		struct entry *entries = realloc(l->entries, room * sizeof(*entries));
		if (!entries)
			return -ENOMEM;
		l->entries = entries;
		l->room = room;
	}
	l->entries[l->n].name = strdup(name);
	if (!l->entries[l->n].name)
		return -ENOMEM;
	l->entries[l->n++].attr = *attr;
	return 0;
}

static void listing_release(struct listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->entries[i].name);
	free(l->entries);
}

static int entry_cmp(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

/* ---- the long form ---- */

struct widths {
	int nlink, owner, group, size;
};

static const char *owner_name(uint32_t uid, char *buf, size_t room)
{
	const struct passwd *pw = getpwuid(uid);

	snprintf(buf, room, pw ? "%s" : "%.0s%u", pw ? pw->pw_name : "", uid);
	return buf;
}

static const char *group_name(uint32_t gid, char *buf, size_t room)
{
	const struct group *gr = getgrgid(gid);

	snprintf(buf, room, gr ? "%s" : "%.0s%u", gr ? gr->gr_name : "", gid);
	return buf;
}

static const char *size_or_device(const struct cairn_attr *a, char *buf, size_t room)
{
	if (S_ISBLK(a->mode) || S_ISCHR(a->mode))
		snprintf(buf, room, "%u, %u", major(a->rdev), minor(a->rdev));
	else
		snprintf(buf, room, "%llu", (unsigned long long)a->size);
	return buf;
}

static void widen(int *width, const char *text)
{
	int n = (int)strlen(text);
	if (n > *width)
		*width = n;
}

static struct widths measure(const struct listing *l)
{
	struct widths w = {0};
	char buf[64];

	for (size_t i = 0; i < l->n; i++) {
		const struct cairn_attr *a = &l->entries[i].attr;
		snprintf(buf, sizeof(buf), "%u", a->nlink);
		widen(&w.nlink, buf);
		widen(&w.owner, owner_name(a->uid, buf, sizeof(buf)));
		widen(&w.group, group_name(a->gid, buf, sizeof(buf)));
		widen(&w.size, size_or_device(a, buf, sizeof(buf)));
	}
	return w;
}

/* As ls: the time of day of the last half year, else the year. */
static const char *short_time(time_t t, char *buf, size_t room)
{
	time_t now = time(NULL);
	struct tm tm;

	if (!localtime_r(&t, &tm))
		snprintf(buf, room, "%lld", (long long)t);
	else
		strftime(buf, room, t <= now && now - t < 182 * 86400L ? "%b %e %H:%M"
								       : "%b %e  %Y", &tm);
	return buf;
}

static void print_long(struct cli *cli, const struct entry *e, const struct widths *w)
{
	const struct cairn_attr *a = &e->attr;
	char mode[TEXT_MODE_BYTES], owner[64], group[64], size[64], when[64];
	char target[SYMLINK_BYTES_MAX + 1];

	printf("%s %*u %-*s %-*s %*s %s ", text_mode(a->mode, mode), w->nlink, a->nlink, w->owner,
	       owner_name(a->uid, owner, sizeof(owner)), w->group,
	       group_name(a->gid, group, sizeof(group)), w->size,
	       size_or_device(a, size, sizeof(size)),
	       short_time(a->mtime.tv_sec, when, sizeof(when)));
	cli_print_name(e->name);
	if (S_ISLNK(a->mode)) {
		ssize_t n = cairn_readlink_inode(cli->fs, a->inode, target, sizeof(target));
		if (n < 0) {
			putchar('\n');
			cli_complain_remote(cli, e->name, (int)n);
			return;
		}
		fputs(" -> ", stdout);
		cli_print_name(target);
	}
	putchar('\n');
}

static void print_listing(struct cli *cli, const struct listing *l, const struct ls_options *o,
			  bool total)
{
	struct widths w = {0};
	uint64_t blocks = 0;

	if (o->lengthy)
		w = measure(l);
	for (size_t i = 0; i < l->n; i++)
		blocks += l->entries[i].attr.blocks;
	if (o->lengthy && total)
		printf("total %llu\n", (unsigned long long)(blocks + 1) / 2);
	for (size_t i = 0; i < l->n; i++) {
		if (o->lengthy) {
			print_long(cli, &l->entries[i], &w);
		} else {
			cli_print_name(l->entries[i].name);
			putchar('\n');
		}
	}
}

static json_t *listing_json(struct cli *cli, const char *path, const struct listing *l)
{
	json_t *object = json_object(), *array = json_array();
	bool ok = object && array && text_json_name(object, "path", path) == 0;

	for (size_t i = 0; ok && i < l->n; i++) {
		json_t *e = attr_to_json(cli->fs, &l->entries[i].attr);
		ok = e && text_json_name(e, "name", l->entries[i].name) == 0;
		ok = json_array_append_new(array, e) == 0 && ok;
	}
	if (ok && json_object_set_new(object, "entries", array) == 0)
		return object;
	json_decref(object);
	if (!ok)
		json_decref(array);
	return NULL;
}

/* A directory's entries; anything else as the only one. ret is the caller's to release. */
static int list_path(struct cli *cli, const char *path, const struct ls_options *o,
		     struct listing *ret, bool *ret_dir)
{
	struct cairn_attr attr;
	int r = cairn_resolve(cli->fs, path, !o->lengthy, &attr);

	*ret = (struct listing){.all = o->all};
	if (r < 0)
		return r;
	*ret_dir = S_ISDIR(attr.mode);
	if (*ret_dir) {
		r = cairn_readdir(cli->fs, NULL, attr.inode, 0, listing_add, ret);
		if (r == 0)
			r = -ENOMEM; /* only listing_add stops early */
	} else {
		ret->all = true;
		r = listing_add(ret, path, 0, &attr);
	}
	if (r > 0)
		qsort(ret->entries, ret->n, sizeof(*ret->entries), entry_cmp);
	return r < 0 ? r : 0;
}

int cmd_ls(struct cli *cli, int argc, char **argv)
{
	struct ls_options o = {0};
	char *root[] = {(char *)"/"};
	json_t *all = NULL;
	bool printed = false;
	int option, n;

	while ((option = cli_option(cli, argc, argv, "la", NULL)) != -1) {
		if (option == 'l')
			o.lengthy = true;
		else if (option == 'a')
			o.all = true;
		else
			return cli_usage(cli);
	}
	n = argc - optind;
	argv = n > 0 ? argv + optind : root;
	n = n > 0 ? n : 1;
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	if (cli->json)
		all = json_array();
	for (int i = 0; i < n; i++) {
		struct listing l = {0};
		bool dir = false;
		int r;
		if (!cli_remote_path(cli, argv[i]))
			continue;
		r = list_path(cli, argv[i], &o, &l, &dir);
		if (r < 0) {
			cli_complain_remote(cli, argv[i], r);
		} else if (cli->json) {
			if (json_array_append_new(all, listing_json(cli, argv[i], &l)) < 0)
				cli_complain(cli, argv[i], "out of memory");
		} else {
			if (dir && n > 1) {
				fputs(printed ? "\n" : "", stdout);
				cli_print_name(argv[i]);
				fputs(":\n", stdout);
			}
			print_listing(cli, &l, &o, dir);
			printed = true;
		}
		listing_release(&l);
	}
	if (cli->json)
		cli_print_json(cli, all);
	return cli_status(cli);
}
