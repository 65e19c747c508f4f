/* Directory quotas: setting them, counting what was in the directory before, telling. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/client.h"
#include "client/result.h"
#include "common/cleanup.h"

static int quota_ask(struct cairn *fs, uint16_t op, const void *req, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_empty rep;

	return master_call(&fs->master, op, req, &rep, &fields, client_deadline(fs), NULL, err);
}

/* ---- counting ---- */

/* A directory's names, some at a time; its sub-directories are left for later. */
struct count {
	struct cairn *fs;
	struct wire_quota_count req;
	struct buf names; /* their bytes; slices point into it when it is complete */
	uint32_t lens[QUOTA_COUNT_MAX];
	uint64_t *dirs; /* still to be looked into: a stack */
	size_t n_dirs, cap;
	uint64_t cookie;
	int failed;
};

static int dirs_push(struct count *c, uint64_t inode)
{
	if (c->n_dirs == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 64;
		uint64_t *dirs = realloc(c->dirs, cap * sizeof(*dirs));
		if (!dirs)
			return ERR_NOMEM;
		c->dirs = dirs;
		c->cap = cap;
	}
	c->dirs[c->n_dirs++] = inode;
	return 0;
}

static int on_name(void *arg, const char *name, uint64_t cookie, const struct cairn_attr *attr)
{
	struct count *c = arg;

	if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
		c->lens[c->req.n_names++] = (uint32_t)strlen(name);
		buf_append(&c->names, name, strlen(name));
		if (S_ISDIR(attr->mode))
			c->failed = dirs_push(c, attr->inode);
	}
	c->cookie = cookie;
	return c->failed < 0 || c->req.n_names == QUOTA_COUNT_MAX;
}

static int count_names(struct count *c, struct err *err)
{
	uint32_t at = 0;

	if (c->failed < 0 || buf_status(&c->names) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	for (unsigned i = 0; i < c->req.n_names; i++) {
		c->req.names[i] = slice_of(c->names.data + at, c->lens[i]);
		at += c->lens[i];
	}
	return c->req.n_names ? quota_ask(c->fs, OP_QUOTA_COUNT, &c->req, err) : 0;
}

/* A directory that went meanwhile is no failure. */
static int count_dir(struct count *c, uint64_t dir, struct err *err)
{
	c->cookie = 0;
	for (;;) {
		bool end;
		int r;
		buf_clear(&c->names);
		c->req = (struct wire_quota_count){.parent = dir};
		r = cairn_readdir(c->fs, NULL, dir, c->cookie, on_name, c);
		if (r == -ENOENT || r == -ESTALE)
			return 0;
		end = r == 1;
		if (r < 0)
			return err_set(err, err_from_errno(-r), "directory %llx: %s",
				       (unsigned long long)dir, cairn_error());
		r = count_names(c, err);
		if (r == ERR_NOENT)
			return 0;
		if (r < 0 || end)
			return r;
	}
}

/* From the top down: what is made meanwhile in a directory that is counted is counted with it. */
static int count_below(struct cairn *fs, uint64_t inode, struct err *err)
{
	struct count *c = calloc(1, sizeof(*c));
	int r = c ? 0 : err_set(err, ERR_NOMEM, "out of memory");

	if (!c)
		return r;
	c->fs = fs;
	r = dirs_push(c, inode);
	while (r == 0 && c->n_dirs > 0)
		r = count_dir(c, c->dirs[--c->n_dirs], err);
	buf_release(&c->names);
	free(c->dirs);
	free(c);
	return r;
}

/* ---- the calls ---- */

int cairn_quota_set(struct cairn *fs, uint64_t inode, uint64_t bytes_max, uint64_t inodes_max)
{
	struct wire_quota_set req = {.inode = inode, .bytes_max = bytes_max, .inodes_max = inodes_max};
	struct err err = {0};
	int r = quota_ask(fs, OP_QUOTA_SET, &req, &err);

	if (r == 0)
		r = count_below(fs, inode, &err);
	return (int)result(r, &err);
}

int cairn_quota_remove(struct cairn *fs, uint64_t inode)
{
	struct wire_quota_set req = {.inode = inode, .flags = QUOTA_REMOVE};
	struct err err = {0};
	int r = quota_ask(fs, OP_QUOTA_SET, &req, &err);

	if (r == 0)
		r = count_below(fs, inode, &err);
	return (int)result(r, &err);
}

static int quotas_page(struct slice rows, cairn_quota_fn fn, void *arg, struct err *err)
{
	struct cursor list = cursor_slice(rows), item;
	int r;

	while ((r = wire_list_next(&list, &item)) == 1) {
		struct cairn_quota q = {0};
		struct wire_quota row;
		if (wire_quota_get(&item, &row) < 0)
			return err_set(err, ERR_PROTOCOL, "a malformed quota");
		q = (struct cairn_quota){.id = row.id, .inode = row.inode, .bytes_max = row.bytes_max,
					 .inodes_max = row.inodes_max, .bytes = row.bytes,
					 .inodes = row.inodes};
		if (row.path.len < sizeof(q.path))
			memcpy(q.path, row.path.data, row.path.len);
		r = fn(arg, &q);
		if (r != 0)
			return r;
	}
	return r < 0 ? err_set(err, r, "a malformed list of quotas") : 0;
}

int cairn_quotas(struct cairn *fs, uint64_t inode, cairn_quota_fn fn, void *arg)
{
	struct wire_quotas req = {.inode = inode};
	struct err err = {0};
	int r;

	do {
		_cleanup_buf_ struct buf fields = {0};
		struct wire_quotas_reply rep;
		r = master_call(&fs->master, OP_QUOTAS, &req, &rep, &fields, client_deadline(fs), NULL,
				&err);
		if (r == 0)
			r = quotas_page(rep.rows, fn, arg, &err);
		if (r != 0)
			break;
		req.from = rep.next;
	} while (req.from);
	return r < 0 ? (int)result(r, &err) : 0;
}
