#include "client/walk.h"

#include <stdio.h>
#include <sys/stat.h>

/* ---- pure ---- */

struct walk_step walk_next(const char **path)
{
	const char *p = *path + strspn(*path, "/");
	size_t len = strcspn(p, "/");
	struct walk_step step = {.name = slice_of(p, len)};

	p += len;
	step.slash = *p == '/';
	step.last = p[strspn(p, "/")] == '\0';
	*path = p;
	return step;
}

int walk_splice(char ret[3 * WALK_PATH_MAX], const char *target, const char *rest)
{
	size_t a = strlen(target), b = strlen(rest);

	if (a + b >= 3 * WALK_PATH_MAX)
		return ERR_NAMETOOLONG;
	/* rest may lie in ret. */
	memmove(ret + a, rest, b + 1);
	memcpy(ret, target, a);
	return 0;
}

/* ---- walking ---- */

struct walk {
	struct cairn *fs;
	char path[3 * WALK_PATH_MAX];
	const char *rest;
	uint64_t at;
	struct wire_attr attr; /* of `at`, if known */
	bool known;
	unsigned links;
};

static int walk_begin(struct walk *w, struct cairn *fs, uint64_t start, const char *path,
		      struct err *err)
{
	w->fs = fs;
	w->at = start;
	w->known = false;
	w->links = 0;
	w->rest = w->path;
	if (path[0] == '\0')
		return err_set(err, ERR_NOENT, "the path is empty");
	if (strlen(path) >= WALK_PATH_MAX)
		return err_set(err, ERR_NAMETOOLONG, "the path is longer than %d bytes",
			       WALK_PATH_MAX - 1);
	if (path[0] == '/')
		w->at = session_root(&fs->session);
	strcpy(w->path, path);
	return 0;
}

static int walk_attr(struct walk *w, struct err *err)
{
	int r = 0;

	if (!w->known)
		r = meta_getattr(w->fs, w->at, &w->attr, client_deadline(w->fs), err);
	w->known = r == 0;
	return r;
}

static int walk_is_dir(struct walk *w, struct err *err)
{
	int r = walk_attr(w, err);

	if (r == 0 && !S_ISDIR(w->attr.mode))
		r = err_set(err, ERR_NOTDIR, "not a directory");
	return r;
}

static int walk_follow(struct walk *w, uint64_t link, struct err *err)
{
	char target[SYMLINK_BYTES_MAX + 1];
	ssize_t n;

	if (++w->links > WALK_LINKS_MAX)
		return err_set(err, ERR_LOOP, "more than %d symbolic links", WALK_LINKS_MAX);
	n = meta_readlink(w->fs, link, target, sizeof(target), err);
	if (n < 0)
		return (int)n;
	if (n == 0)
		return err_set(err, ERR_NOENT, "an empty symbolic link");
	if (walk_splice(w->path, target, w->rest) < 0)
		return err_set(err, ERR_NAMETOOLONG, "symbolic links make the path too long");
	w->rest = w->path;
	if (target[0] == '/') {
		w->at = session_root(&w->fs->session);
		w->known = false;
	}
	return 0;
}

static bool is_dots(struct slice name)
{
	return slice_eq(name, SLICE_LIT(".")) || slice_eq(name, SLICE_LIT(".."));
}

/* Goes one component on. */
static int walk_one(struct walk *w, const struct walk_step *step, bool follow, struct err *err)
{
	struct wire_attr attr;
	int r;

	if (step->name.len > NAME_BYTES_MAX)
		return err_set(err, ERR_NAMETOOLONG, "a name of %u bytes", step->name.len);
	if (is_dots(step->name)) {
		r = walk_is_dir(w, err);
		/* The root's own is the root, also where it is a directory of a larger whole. */
		if (r == 0 && step->name.len == 2 && w->at != session_root(&w->fs->session)) {
			w->at = w->attr.parent;
			w->known = false;
		}
		return r;
	}
	r = meta_lookup(w->fs, NULL, w->at, step->name, &attr, err);
	if (r < 0)
		return r;
	if (S_ISLNK(attr.mode) && (follow || !step->last || step->slash))
		return walk_follow(w, attr.inode, err);
	w->at = attr.inode;
	w->attr = attr;
	w->known = true;
	return step->slash ? walk_is_dir(w, err) : 0;
}

int walk_to(struct cairn *fs, uint64_t start, const char *path, bool follow,
	    struct wire_attr *ret, struct err *err)
{
	struct walk w;
	int r = walk_begin(&w, fs, start, path, err);

	while (r == 0) {
		struct walk_step step = walk_next(&w.rest);
		if (step.name.len == 0)
			break;
		r = walk_one(&w, &step, follow, err);
	}
	if (r == 0)
		r = walk_attr(&w, err);
	if (r == 0)
		*ret = w.attr;
	return r < 0 ? err_prefix(err, r, "%s", path) : 0;
}

int walk_parent(struct cairn *fs, uint64_t start, const char *path, uint64_t *ret_parent,
		char *ret_name, bool *ret_slash, struct err *err)
{
	struct walk w;
	struct walk_step step;
	int r = walk_begin(&w, fs, start, path, err);

	while (r == 0) {
		step = walk_next(&w.rest);
		if (step.name.len == 0)
			r = err_set(err, ERR_BUSY, "the root has no parent");
		else if (step.last)
			break;
		else
			r = walk_one(&w, &step, true, err);
	}
	if (r == 0 && step.name.len > NAME_BYTES_MAX)
		r = err_set(err, ERR_NAMETOOLONG, "a name of %u bytes", step.name.len);
	if (r == 0 && is_dots(step.name))
		r = err_set(err, ERR_INVAL, "\".\" and \"..\" are no names to change");
	if (r < 0)
		return err_prefix(err, r, "%s", path);
	memcpy(ret_name, step.name.data, step.name.len);
	ret_name[step.name.len] = '\0';
	*ret_parent = w.at;
	*ret_slash = step.slash;
	return 0;
}
