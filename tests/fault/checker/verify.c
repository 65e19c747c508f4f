/* Reading back everything that a worker knows of. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "common/clock.h"
#include "tests/fault/checker/worker.h"

enum { AGAIN_MS = 50, HOLE_LOOK_BYTES = 64 << 10 };

/* Whether a failed look is to be repeated: for want of a server, until the deadline. */
static bool again(int64_t r, int64_t deadline)
{
	if (r >= 0 || !is_unknown((int)r) || clock_ms() >= deadline)
		return false;
	poll(NULL, 0, AGAIN_MS);
	return true;
}

static int look(struct backend *b, const char *path, struct stat *ret, int64_t wait_ms)
{
	int64_t deadline = deadline_in(wait_ms);
	int r;

	do {
		r = b->ops->lstat(b, path, ret);
	} while (again(r, deadline));
	return r;
}

/* ---- content ---- */

static int read_piece(struct worker *w, struct backend *b, struct node *n, void *file,
		      uint64_t offset, size_t len, int64_t wait_ms)
{
	char why[MODEL_TEXT_BYTES];
	int64_t deadline = deadline_in(wait_ms);
	ssize_t r;

	do {
		r = b->ops->pread(file, w->buffer, len, offset);
	} while (again(r, deadline));
	if (r < 0) {
		violation(w, "%s: cannot be read at %llu through %s: %s (%s)", n->path[0],
			  (unsigned long long)offset, b->ops->name, strerror((int)-r),
			  cairn_error());
		return -1;
	}
	atomic_fetch_add(&counts.reads, 1);
	atomic_fetch_add(&counts.bytes_read, (unsigned long long)r);
	if (model_read(n->body->model, offset, len, w->buffer, (size_t)r, why) < 0) {
		violation(w, "%s through %s: %s", n->path[0], b->ops->name, why);
		return -1;
	}
	return 0;
}

/* All but the inside of large holes. */
static void read_all(struct worker *w, struct backend *b, struct node *n, void *file,
		     int64_t wait_ms)
{
	struct model *m = n->body->model;
	uint64_t at = 0, from, to, size = model_size_max(m);
	int r = 0;

	while (r == 0 && at < size) {
		if (!model_next_data(m, at, &from, &to))
			from = size;
		/* The beginning and the end of a hole. */
		if (from > at)
			r = read_piece(w, b, n, file, at, HOLE_LOOK_BYTES, wait_ms);
		if (r == 0 && from > at + HOLE_LOOK_BYTES)
			r = read_piece(w, b, n, file, from - HOLE_LOOK_BYTES, HOLE_LOOK_BYTES,
				       wait_ms);
		at = from;
		while (r == 0 && at < size && at < to) {
			uint64_t part = to - at < BUFFER_BYTES ? to - at : BUFFER_BYTES;
			r = read_piece(w, b, n, file, at, (size_t)part, wait_ms);
			at += part;
		}
	}
}

static void verify_file(struct worker *w, struct backend *b, struct node *n, const char *path,
			int64_t wait_ms)
{
	char why[MODEL_TEXT_BYTES];
	int64_t deadline = deadline_in(wait_ms);
	struct stat st;
	void *file;
	int r;

	do {
		r = b->ops->open(b, path, O_RDONLY, &file);
	} while (again(r, deadline));
	if (r < 0) {
		violation(w, "%s: cannot be opened through %s: %s", path, b->ops->name,
			  strerror(-r));
		return;
	}
	r = look(b, path, &st, wait_ms);
	if (r == 0 && model_saw_size(n->body->model, (uint64_t)st.st_size, why) < 0)
		violation(w, "%s through %s: %s", path, b->ops->name, why);
	else if (r == 0)
		read_all(w, b, n, file, wait_ms);
	else
		violation(w, "%s: %s", path, strerror(-r));
	b->ops->close(file);
}

/* ---- names ---- */

static bool right_type(const struct node *n, const struct stat *st)
{
	return n->type == NODE_FILE  ? S_ISREG(st->st_mode)
	       : n->type == NODE_DIR ? S_ISDIR(st->st_mode)
				     : S_ISLNK(st->st_mode);
}

/* Where it is: the index of its path, -1 nowhere. */
static int find_node(struct worker *w, struct backend *b, struct node *n, int64_t wait_ms)
{
	int found = -1;

	for (unsigned i = 0; i < n->n_paths; i++) {
		struct stat st;
		int r = look(b, n->path[i], &st, wait_ms);
		if (r < 0 && r != -ENOENT)
			violation(w, "%s: cannot be looked at through %s: %s", n->path[i],
				  b->ops->name, strerror(-r));
		/* Another file may have the name: of a rename that failed. */
		if (r < 0 || (n->ino && st.st_ino != n->ino))
			continue;
		if (!right_type(n, &st))
			violation(w, "%s is of another type", n->path[i]);
		else if (found >= 0)
			violation(w, "%s and %s are both there", n->path[0], n->path[1]);
		else
			found = (int)i;
	}
	return found;
}

static void verify_node(struct worker *w, struct backend *b, struct node *n, int64_t wait_ms)
{
	char target[NODE_PATH_BYTES];
	int at = find_node(w, b, n, wait_ms);

	if (at < 0) {
		if (!n->may_be_absent)
			violation(w, "%s is not there any more (through %s)", n->path[0],
				  b->ops->name);
		else if (n->instead && find_node(w, b, n->instead, wait_ms) != 1)
			violation(w, "%s was replaced by nothing", n->path[0]);
		return;
	}
	if (n->type == NODE_FILE)
		verify_file(w, b, n, n->path[at], wait_ms);
	if (n->type == NODE_SYMLINK && !n->retired) {
		ssize_t r = b->ops->readlink(b, n->path[0], target, sizeof(target));
		if (!is_unknown((int)r) && (r != (ssize_t)strlen(n->path[0]) ||
					    memcmp(target, n->path[0], (size_t)r) != 0))
			violation(w, "%s: wrong target", n->path[0]);
	}
}

/* ---- listings ---- */

struct listing {
	struct worker *w;
	const char *dir;
	char (*names)[NODE_PATH_BYTES];
	size_t n;
};

static int note_name(void *arg, const char *name)
{
	struct listing *l = arg;

	if (strncmp(name, l->w->prefix, strlen(l->w->prefix)) != 0)
		return 0; /* another worker's */
	if ((l->n & (l->n - 1)) == 0) {
		l->names = realloc(l->names, (l->n ? 2 * l->n : 1) * sizeof(*l->names));
		if (!l->names)
			abort();
	}
	snprintf(l->names[l->n++], NODE_PATH_BYTES, "%s/%s", l->dir, name);
	return 0;
}

static bool known_name(struct worker *w, const char *path)
{
	struct node *n;

	DL_FOREACH(w->nodes, n) {
		for (unsigned i = 0; i < n->n_paths; i++)
			if (strcmp(n->path[i], path) == 0)
				return true;
	}
	return false;
}

/* Every name that is there is one we know of, and is there once. */
static void verify_dir(struct worker *w, struct backend *b, const char *dir, int64_t wait_ms)
{
	struct listing l = {.w = w, .dir = dir};
	int64_t deadline = deadline_in(wait_ms);
	int r;

	do {
		l.n = 0;
		r = b->ops->list(b, dir, note_name, &l);
	} while (again(r, deadline));
	if (r < 0)
		violation(w, "%s: cannot be listed through %s: %s", dir, b->ops->name,
			  strerror(-r));
	for (size_t i = 0; r == 0 && i < l.n; i++) {
		if (!known_name(w, l.names[i]))
			violation(w, "%s is there, and was never made or was removed", l.names[i]);
		for (size_t k = 0; k < i; k++)
			if (strcmp(l.names[i], l.names[k]) == 0)
				violation(w, "%s is listed twice", l.names[i]);
	}
	free(l.names);
}

void worker_verify(struct worker *w, struct backend *backend, int64_t wait_ms)
{
	struct node *n;

	verify_dir(w, backend, w->dir, wait_ms);
	DL_FOREACH(w->nodes, n) {
		if (n->type == NODE_DIR && !n->retired)
			verify_dir(w, backend, n->path[0], wait_ms);
		verify_node(w, backend, n, wait_ms);
	}
}
