/* cairn_fsck. The master names most files; where a directory is so large that it gave up, the names
 * are looked for here: a directory is read once for all files of it that follow each other. */
#include <stdio.h>
#include <stdlib.h>

#include "client/client.h"
#include "client/result.h"
#include "common/cleanup.h"

static_assert(sizeof(((struct cairn_fsck_chunk *)0)->replicas) ==
	      REPLICAS_MAX * sizeof(struct cairn_fsck_replica), "replicas fit");
static_assert((int)CAIRN_FSCK_MISSING == FSCK_MISSING && (int)CAIRN_FSCK_UNCLEAN == FSCK_UNCLEAN &&
	      (int)CAIRN_REPLICA_GOOD == FSCK_REPLICA_GOOD &&
	      (int)CAIRN_REPLICA_UNCLEAN == FSCK_REPLICA_UNCLEAN, "the numbers of the wire");

struct dir_name {
	uint64_t inode;
	char *name;
};

struct fsck {
	struct cairn *fs;
	cairn_fsck_fn fn;
	void *arg;
	/* The directory that was read last: its path, and its names by inode. */
	uint64_t dir;
	struct buf dir_path;
	struct dir_name *names;
	size_t n, cap;
};

/* ---- names ---- */

static int by_inode(const void *a, const void *b)
{
	const struct dir_name *x = a, *y = b;
	return (x->inode > y->inode) - (x->inode < y->inode);
}

static void names_clear(struct fsck *f)
{
	for (size_t i = 0; i < f->n; i++)
		free(f->names[i].name);
	f->n = 0;
	f->dir = 0;
	buf_clear(&f->dir_path);
}

static int names_add(void *arg, const char *name, uint64_t cookie, const struct cairn_attr *attr)
{
	struct fsck *f = arg;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	if (f->n == f->cap) {
		size_t cap = f->cap ? 2 * f->cap : 256;
		struct dir_name *names = realloc(f->names, cap * sizeof(*names));
		if (!names)
			return 1;
		f->names = names;
		f->cap = cap;
	}
	f->names[f->n].inode = attr->inode;
	f->names[f->n].name = strdup(name);
	return f->names[f->n].name ? (f->n++, 0) : 1;
}

struct wanted {
	uint64_t inode;
	char name[NAME_BYTES_MAX + 1];
};

static int wanted_name(void *arg, const char *name, uint64_t cookie, const struct cairn_attr *attr)
{
	struct wanted *w = arg;

	if (attr->inode != w->inode || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	snprintf(w->name, sizeof(w->name), "%s", name);
	return 1;
}

/* The path of a directory, "" for the root: from its end on, so in front of what is there. */
static bool dir_path(struct cairn *fs, uint64_t dir, struct buf *ret)
{
	while (dir != CAIRN_ROOT) {
		struct cairn_attr attr;
		struct wanted w = {.inode = dir};
		_cleanup_buf_ struct buf longer = {0};
		if (cairn_getattr(fs, dir, &attr) < 0 ||
		    cairn_readdir(fs, NULL, attr.parent, 0, wanted_name, &w) < 0 || !w.name[0])
			return false;
		buf_printf(&longer, "/%s", w.name);
		buf_append_slice(&longer, buf_slice(ret));
		buf_clear(ret);
		buf_append_slice(ret, buf_slice(&longer));
		dir = attr.parent;
	}
	return buf_status(ret) == 0;
}

static bool dir_load(struct fsck *f, uint64_t dir)
{
	if (f->dir == dir)
		return true;
	names_clear(f);
	if (!dir_path(f->fs, dir, &f->dir_path) ||
	    cairn_readdir(f->fs, NULL, dir, 0, names_add, f) != 1) {
		names_clear(f);
		return false;
	}
	f->dir = dir;
	qsort(f->names, f->n, sizeof(*f->names), by_inode);
	return true;
}

/* Leaves ret empty when the file has no name, or none where it was last put. */
static void find_path(struct fsck *f, uint64_t inode, struct buf *ret)
{
	struct dir_name key = {.inode = inode}, *found;
	struct cairn_attr attr;

	if (cairn_getattr(f->fs, inode, &attr) < 0 || attr.nlink == 0 ||
	    !dir_load(f, attr.parent))
		return;
	found = f->n ? bsearch(&key, f->names, f->n, sizeof(key), by_inode) : NULL;
	if (found)
		buf_printf(ret, "%s/%s", buf_str(&f->dir_path), found->name);
}

/* ---- pages ---- */

/* 1: fn wants no more. */
static int fsck_row(struct fsck *f, const struct wire_fsck_row *row)
{
	_cleanup_buf_ struct buf path = {0};
	struct cairn_fsck_chunk out = {
		.id = row->chunk, .inode = row->inode, .index = row->index,
		.version = row->version, .problem = row->problem, .live = row->live,
		.copies = row->copies, .n_replicas = row->n_replicas,
	};

	for (unsigned i = 0; i < row->n_replicas; i++) {
		struct slice addr = row->replicas[i].addr;
		out.replicas[i].server = row->replicas[i].server;
		out.replicas[i].state = i < row->n_states ? row->states[i] : 0;
		snprintf(out.replicas[i].addr, sizeof(out.replicas[i].addr), "%.*s",
			 (int)(addr.len < ADDR_BYTES_MAX ? addr.len : ADDR_BYTES_MAX),
			 addr.data ? (const char *)addr.data : "");
	}
	buf_append_slice(&path, row->path);
	if (path.len == 0)
		find_path(f, row->inode, &path);
	if (buf_status(&path) < 0)
		return ERR_NOMEM;
	out.path = buf_str(&path);
	return f->fn(f->arg, &out) != 0;
}

static int fsck_rows(struct fsck *f, struct slice rows, struct err *err)
{
	struct cursor c = cursor_slice(rows), one;
	int r;

	while ((r = wire_list_next(&c, &one)) == 1) {
		struct wire_fsck_row row;
		if (wire_fsck_row_get(&one, &row) < 0)
			return err_set(err, ERR_PROTOCOL, "malformed row");
		r = fsck_row(f, &row);
		if (r != 0)
			return r;
	}
	return r;
}

int cairn_fsck(struct cairn *fs, cairn_fsck_fn fn, void *arg, struct cairn_fsck_summary *ret)
{
	struct fsck f = {.fs = fs, .fn = fn, .arg = arg};
	struct wire_fsck req = {0};
	struct err err = {0};
	int r;

	*ret = (struct cairn_fsck_summary){0};
	do {
		_cleanup_buf_ struct buf fields = {0};
		struct wire_fsck_reply rep;
		r = master_call(&fs->master, OP_FSCK, &req, &rep, &fields, client_deadline(fs),
				NULL, &err);
		if (r == 0)
			r = fsck_rows(&f, rep.rows, &err);
		if (r != 0)
			break;
		ret->chunks += rep.looked_at;
		ret->held = rep.held;
		ret->kept_replicas = rep.kept_replicas;
		ret->kept_chunks = rep.kept_chunks;
		req.from = rep.next;
	} while (req.from != 0);
	names_clear(&f);
	free(f.names);
	buf_release(&f.dir_path);
	return (int)result(r < 0 ? r : 0, &err);
}
