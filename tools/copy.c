#include "tools/copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/limits.h"
#include "tools/copy_queue.h"
#include "tools/text.h"

enum { TEMP_TRIES = 16 };

/* A directory whose mode and times are set when all that goes into it is there. */
struct copied_dir {
	struct copied_dir *next; /* made before this one: so children come before parents */
	char *src, *dst;
	struct stat st;
};

struct copy {
	const struct copy_request *request;
	struct copy_queue *queue;
	struct progress progress;
	struct copied_dir *dirs;
	bool same_side;	     /* then a directory may contain its own copy */
	struct stat top_dst; /* the directory that the present source is copied to */
};

struct names {
	char **items;
	size_t n, room;
};

static bool same_inode(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static void complain(struct copy *c, const char *path, const char *what, const struct side *side,
		     int r)
{
	cli_complain(c->request->cli, path, "%s: %s", what, side_reason(side, r));
}

/* ---- links and special files: made under a temporary name too ---- */

static int make_special(struct copy *c, const char *src, const char *temp, const struct stat *st)
{
	const struct side *from = c->request->from, *to = c->request->to;
	char target[SYMLINK_BYTES_MAX + 1];
	ssize_t n;

	if (!S_ISLNK(st->st_mode))
		return to->mknod(to, temp, st->st_mode & (S_IFMT | 07777), st->st_rdev);
	n = from->readlink(from, src, target, sizeof(target));
	if (n < 0) {
		complain(c, src, "cannot read the link", from, (int)n);
		return 1;
	}
	return to->symlink(to, target, temp);
}

static void copy_special(struct copy *c, const char *src, const char *dst, const struct stat *st)
{
	const struct side *to = c->request->to;
	int r = -EEXIST;

	for (int i = 0; i < TEMP_TRIES && r == -EEXIST; i++) {
		_cleanup_free_ char *temp = copy_temp_path(dst);
		r = temp ? make_special(c, src, temp, st) : -ENOMEM;
		if (r != 0)
			continue;
		r = to->set_meta(to, temp, st);
		if (r == 0)
			r = to->rename(to, temp, dst);
		if (r < 0) {
			complain(c, src, "cannot make the copy", to, r);
			to->unlink(to, temp);
			return;
		}
	}
	if (r < 0)
		complain(c, src, "cannot make the copy", to, r);
}

/* ---- directories ---- */

static int add_name(void *arg, const char *name)
{
	struct names *names = arg;

	if (names->n == names->room) {
		size_t room = names->room ? names->room * 2 : 64;
		char **items = realloc(names->items, room * sizeof(*items));
		if (!items)
			return -ENOMEM;
		names->items = items;
		names->room = room;
	}
	names->items[names->n] = strdup(name);
	if (!names->items[names->n])
		return -ENOMEM;
	names->n++;
	return 0;
}

static void names_release(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->items[i]);
	free(names->items);
}

/* Makes dst, or takes the directory that is there. */
static int make_dir(struct copy *c, const char *src, const char *dst)
{
	const struct side *to = c->request->to;
	struct stat st;
	int r = to->mkdir(to, dst, 0700);

	if (r == -EEXIST) {
		r = to->stat(to, dst, true, &st);
		if (r == 0 && !S_ISDIR(st.st_mode))
			r = -ENOTDIR;
	}
	if (r < 0)
		complain(c, src, "cannot make the directory", to, r);
	return r;
}

static int remember_dir(struct copy *c, const char *src, const char *dst, const struct stat *st)
{
	struct copied_dir *dir = calloc(1, sizeof(*dir));

	if (dir) {
		dir->src = strdup(src);
		dir->dst = strdup(dst);
	}
	if (!dir || !dir->src || !dir->dst) {
		if (dir) {
			free(dir->src);
			free(dir->dst);
		}
		free(dir);
		cli_complain(c->request->cli, src, "out of memory");
		return -ENOMEM;
	}
	dir->st = *st;
	dir->next = c->dirs;
	c->dirs = dir;
	return 0;
}

static void finish_dirs(struct copy *c)
{
	const struct side *to = c->request->to;

	while (c->dirs) {
		struct copied_dir *dir = c->dirs;
		int r = to->set_meta(to, dir->dst, &dir->st);
		if (r < 0)
			complain(c, dir->src, "cannot set mode and times of the copy", to, r);
		c->dirs = dir->next;
		free(dir->src);
		free(dir->dst);
		free(dir);
	}
}

static void copy_any(struct copy *c, const char *src, const char *dst, bool top);

static void copy_children(struct copy *c, const char *src, const char *dst)
{
	const struct side *from = c->request->from;
	struct names names = {0};
	int r = from->list(from, src, add_name, &names);

	if (r < 0)
		complain(c, src, "cannot read the directory", from, r);
	for (size_t i = 0; i < names.n && !copy_stopped(); i++) {
		_cleanup_free_ char *child_src = text_join(src, names.items[i]);
		_cleanup_free_ char *child_dst = text_join(dst, names.items[i]);
		if (child_src && child_dst)
			copy_any(c, child_src, child_dst, false);
		else
			cli_complain(c->request->cli, src, "out of memory");
	}
	names_release(&names);
}

static void copy_dir(struct copy *c, const char *src, const char *dst, const struct stat *st,
		     bool top)
{
	const struct side *to = c->request->to;

	if (!c->request->recursive) {
		cli_complain(c->request->cli, src, "is a directory (use -r)");
		return;
	}
	if (!top && c->same_side && same_inode(st, &c->top_dst)) {
		cli_complain(c->request->cli, src, "is the copy itself: left out");
		return;
	}
	if (make_dir(c, src, dst) < 0)
		return;
	if (top && to->stat(to, dst, true, &c->top_dst) < 0)
		memset(&c->top_dst, 0, sizeof(c->top_dst));
	if (remember_dir(c, src, dst, st) == 0)
		copy_children(c, src, dst);
}

static void copy_file(struct copy *c, const char *src, const char *dst, const struct stat *st)
{
	const struct side *to = c->request->to;
	char *own_src, *own_dst;
	struct stat old;

	/* The copy takes the place of what is there: never of a device such as /dev/null. */
	if (to->stat(to, dst, true, &old) == 0) {
		if (!S_ISREG(old.st_mode)) {
			cli_complain(c->request->cli, src, "%s is a %s", dst,
				     text_type(old.st_mode));
			return;
		}
		if (c->same_side && same_inode(st, &old)) {
			cli_complain(c->request->cli, src, "%s is the same file", dst);
			return;
		}
	}
	own_src = strdup(src);
	own_dst = strdup(dst);
	if (!own_src || !own_dst ||
	    copy_queue_add(c->queue, own_src, own_dst, (uint64_t)st->st_size) < 0) {
		free(own_src);
		free(own_dst);
		cli_complain(c->request->cli, src, "out of memory");
	}
}

/* top: named on the command line. A link named there is followed, as cp does, but not with -r. */
static void copy_any(struct copy *c, const char *src, const char *dst, bool top)
{
	const struct side *from = c->request->from;
	struct stat st;
	int r = from->stat(from, src, top && !c->request->recursive, &st);

	if (r < 0)
		complain(c, src, "cannot look at it", from, r);
	else if (S_ISREG(st.st_mode))
		copy_file(c, src, dst, &st);
	else if (S_ISDIR(st.st_mode))
		copy_dir(c, src, dst, &st, top);
	else
		copy_special(c, src, dst, &st);
}

/* ---- the whole ---- */

/* Where `src` goes when dst is a directory: "." and ".." and "/" stand for their content. */
static char *target_of(const char *src, const char *dst)
{
	_cleanup_free_ char *base = text_base(src);

	if (!base)
		return NULL;
	if (strcmp(base, ".") == 0 || strcmp(base, "..") == 0 || strcmp(base, "/") == 0)
		return strdup(dst);
	return text_join(dst, base);
}

static void copy_sources(struct copy *c, char **sources, int n_sources, const char *dst)
{
	const struct side *to = c->request->to;
	struct stat st;
	int r = to->stat(to, dst, true, &st);
	bool into = r == 0 && S_ISDIR(st.st_mode);

	if (r < 0 && r != -ENOENT) {
		complain(c, dst, "cannot look at it", to, r);
		return;
	}
	if (!into && (n_sources > 1 || (dst[0] && dst[strlen(dst) - 1] == '/' && r < 0 &&
					!c->request->recursive))) {
		cli_complain(c->request->cli, dst, "is not a directory");
		return;
	}
	for (int i = 0; i < n_sources && !copy_stopped(); i++) {
		_cleanup_free_ char *target = into ? target_of(sources[i], dst) : strdup(dst);
		if (target)
			copy_any(c, sources[i], target, true);
		else
			cli_complain(c->request->cli, sources[i], "out of memory");
	}
}

int copy_run(const struct copy_request *request, char **sources, int n_sources, const char *dst)
{
	struct copy c = {.request = request,
			 .same_side = !request->from->fs == !request->to->fs};

	copy_catch_signals();
	progress_start(&c.progress, request->cli);
	c.queue = copy_queue_new(request, &c.progress);
	if (c.queue) {
		copy_sources(&c, sources, n_sources, dst);
		copy_queue_finish(c.queue);
		finish_dirs(&c);
	} else {
		cli_complain(request->cli, dst, "cannot start threads");
	}
	progress_stop(&c.progress);
	return copy_stopped() && !copy_lost() ? 130 : cli_status(request->cli);
}
