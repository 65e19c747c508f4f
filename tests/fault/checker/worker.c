#include "tests/fault/checker/worker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "common/clock.h"
#include "tests/fault/checker/content.h"

enum {
	FILES_MAX = 14, SPARSE_MAX = 2, DIRS_MAX = 4,
	SMALL_KIB = 64, MEDIUM_KIB = 3072, SPARSE_KIB = 200 << 10,
	CHUNK_BYTES = 64 << 20, /* the default chunk size */
	NEAR_BORDER_BYTES = 100000,
};

struct counts counts;
atomic_ullong power_losses, mount_losses;

static atomic_uint file_numbers;

/* ---- what is wrong ---- */

void violation(const struct worker *w, const char *fmt, ...)
{
	char text[MODEL_TEXT_BYTES + 512];
	struct when now = clock_now();
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	atomic_fetch_add(&counts.violations, 1);
	printf("VIOLATION at %lld.%03u: worker %u (%s): %s\n", (long long)now.sec,
	       now.nsec / 1000000, w->number, w->backend.ops->name, text);
	fflush(stdout);
}

bool is_unknown(int r)
{
	static const int list[] = {EIO, ETIMEDOUT, ENOTCONN, ECONNABORTED, ESTALE, ENOSPC, EAGAIN,
				   ENODEV, EBADF, EBUSY};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		if (r == -list[i])
			return true;
	return false;
}

/* ---- choosing ---- */

static uint64_t random_below(struct worker *w, uint64_t n)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random % n;
}

static bool chance(struct worker *w, unsigned percent)
{
	return random_below(w, 100) < percent;
}

/* A name that is what its number says, of one type; NULL when there is none. */
static struct node *choose(struct worker *w, enum node_type type, const struct node *but)
{
	struct node *n, *found = NULL;
	unsigned seen = 0;

	DL_FOREACH(w->nodes, n) {
		if (n->type == type && !n->retired && n != but && random_below(w, ++seen) == 0)
			found = n;
	}
	return found;
}

/* ---- names ---- */

static struct node *node_new(struct worker *w, enum node_type type)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		abort();
	n->type = type;
	n->n_paths = 1;
	DL_APPEND(w->nodes, n);
	return n;
}

static void fresh_path(struct worker *w, const struct node *dir, char *ret)
{
	const char *at = dir ? dir->path[0] : w->dir;
	int n = snprintf(ret, NODE_PATH_BYTES, "%s/%s%u", at, w->prefix, w->names++);
	assert(n < NODE_PATH_BYTES);
}

/* A directory to work in, the worker's own as a rule. */
static struct node *choose_dir(struct worker *w)
{
	return chance(w, 40) ? choose(w, NODE_DIR, NULL) : NULL;
}

static void node_place(struct worker *w, struct node *n, struct node *dir)
{
	fresh_path(w, dir, n->path[0]);
	n->dir = dir;
	if (dir)
		dir->children++;
}

static void count_live(struct worker *w, const struct node *n, int by)
{
	if (n->type == NODE_FILE) {
		w->n_files += (unsigned)by;
		if (n->max_kib > MEDIUM_KIB)
			w->n_sparse += (unsigned)by;
	} else if (n->type == NODE_DIR) {
		w->n_dirs += (unsigned)by;
	}
}

static void node_close(struct worker *w, struct node *n)
{
	if (n->file)
		w->backend.ops->close(n->file);
	n->file = NULL;
}

static void node_retire(struct worker *w, struct node *n)
{
	node_close(w, n);
	if (!n->retired)
		count_live(w, n, -1);
	n->retired = true;
}

static void body_drop(struct body *b)
{
	if (!b || --b->refs > 0)
		return;
	model_free(b->model);
	free(b);
}

/* It is gone for certain. */
static void node_remove(struct worker *w, struct node *n)
{
	struct node *other;

	node_retire(w, n);
	if (n->dir)
		n->dir->children--;
	body_drop(n->body);
	DL_FOREACH(w->nodes, other) {
		if (other->instead == n)
			other->instead = NULL;
	}
	DL_DELETE(w->nodes, n);
	free(n);
}

static struct body *body_new(void)
{
	struct body *b = calloc(1, sizeof(*b));

	if (!b)
		abort();
	b->model = model_new(atomic_fetch_add(&file_numbers, 1) + 1);
	b->refs = 1;
	return b;
}

/* ---- an operation's time and outcome ---- */

static void took(struct worker *w, const char *what, const char *path, int64_t begun)
{
	int64_t ms = clock_ms() - begun;
	unsigned long long longest = atomic_load(&counts.longest_ms);

	while ((unsigned long long)ms > longest &&
	       !atomic_compare_exchange_weak(&counts.longest_ms, &longest, (unsigned long long)ms))
		;
	if (ms > w->limit_ms)
		violation(w, "%s of %s took %lld ms", what, path, (long long)ms);
}

/* After every server lost power, what was not fsynced may be as it was. */
static void learn_power(struct worker *w)
{
	uint64_t now = atomic_load(&power_losses), mounts = atomic_load(&mount_losses);
	bool client_lost = mounts != w->mounts_seen && w->backend.ops == &backend_mount;
	struct node *n;

	if (now == w->power_seen && !client_lost)
		return;
	DL_FOREACH(w->nodes, n) {
		if (n->body && now != w->power_seen)
			model_power_lost(n->body->model);
		if (n->body && client_lost)
			model_sync_failed(n->body->model);
	}
	w->power_seen = now;
	w->mounts_seen = mounts;
}

enum outcome { DONE, UNKNOWN, WRONG };

static enum outcome outcome(struct worker *w, const char *what, const char *path, int64_t begun,
			    int64_t r)
{
	took(w, what, path, begun);
	if (r >= 0) {
		atomic_fetch_add(&counts.operations, 1);
		return DONE;
	}
	if (is_unknown((int)r)) {
		w->failed = true;
		atomic_fetch_add(&counts.unknown, 1);
		return UNKNOWN;
	}
	violation(w, "%s of %s: %s", what, path, strerror((int)-r));
	return WRONG;
}

/* ---- making and removing ---- */

static void do_create(struct worker *w)
{
	struct node *n = node_new(w, NODE_FILE);
	unsigned kind = (unsigned)random_below(w, 10);
	struct stat st;
	int64_t begun;
	int r;

	n->max_kib = kind < 6 ? SMALL_KIB : kind < 9 || w->n_sparse >= SPARSE_MAX ? MEDIUM_KIB
										  : SPARSE_KIB;
	n->body = body_new();
	node_place(w, n, choose_dir(w));
	count_live(w, n, 1);
	begun = clock_ms();
	r = w->backend.ops->open(&w->backend, n->path[0], O_RDWR | O_CREAT | O_EXCL, &n->file);
	if (outcome(w, "create", n->path[0], begun, r) != DONE) {
		n->may_be_absent = true;
		node_retire(w, n);
		return;
	}
	if (w->backend.ops->fstat(n->file, &st) == 0)
		n->ino = st.st_ino;
}

/* Directories and symbolic links. */
static void do_make(struct worker *w, enum node_type type)
{
	struct node *n = node_new(w, type);
	int64_t begun;
	int r;

	node_place(w, n, type == NODE_DIR ? NULL : choose_dir(w));
	count_live(w, n, 1);
	begun = clock_ms();
	r = type == NODE_DIR ? w->backend.ops->mkdir(&w->backend, n->path[0])
			     : w->backend.ops->symlink(&w->backend, n->path[0], n->path[0]);
	if (outcome(w, type == NODE_DIR ? "mkdir" : "symlink", n->path[0], begun, r) != DONE) {
		n->may_be_absent = true;
		node_retire(w, n);
	}
}

static void do_link(struct worker *w)
{
	struct node *of = choose(w, NODE_FILE, NULL), *n;
	int64_t begun;
	int r;

	if (!of)
		return;
	n = node_new(w, NODE_FILE);
	n->body = of->body;
	n->body->refs++;
	n->ino = of->ino;
	n->max_kib = of->max_kib;
	node_place(w, n, choose_dir(w));
	count_live(w, n, 1);
	begun = clock_ms();
	r = w->backend.ops->link(&w->backend, of->path[0], n->path[0]);
	if (outcome(w, "link", n->path[0], begun, r) != DONE) {
		n->may_be_absent = true;
		node_retire(w, n);
	}
}

static void do_remove(struct worker *w, enum node_type type)
{
	struct node *n = choose(w, type, NULL);
	int64_t begun;
	int r;

	if (!n || n->children > 0)
		return;
	node_close(w, n);
	begun = clock_ms();
	r = type == NODE_DIR ? w->backend.ops->rmdir(&w->backend, n->path[0])
			     : w->backend.ops->unlink(&w->backend, n->path[0]);
	if (outcome(w, "remove", n->path[0], begun, r) == DONE) {
		node_remove(w, n);
		return;
	}
	n->may_be_absent = true;
	node_retire(w, n);
}

/* To a name that is free. */
static void do_rename(struct worker *w)
{
	struct node *n = choose(w, chance(w, 15) ? NODE_DIR : NODE_FILE, NULL);
	char to[NODE_PATH_BYTES];
	int64_t begun;
	int r;

	if (!n || n->children > 0)
		return;
	fresh_path(w, n->dir, to);
	begun = clock_ms();
	r = w->backend.ops->rename(&w->backend, n->path[0], to);
	if (outcome(w, "rename", n->path[0], begun, r) == DONE) {
		memcpy(n->path[0], to, sizeof(to));
		return;
	}
	memcpy(n->path[1], to, sizeof(to));
	n->n_paths = 2;
	node_retire(w, n);
}

/* Over another file. */
static void do_replace(struct worker *w)
{
	struct node *n = choose(w, NODE_FILE, NULL), *old = choose(w, NODE_FILE, n);
	int64_t begun;
	int r;

	/* Two names of one file: rename does nothing then. */
	if (!n || !old || n->body == old->body || !n->ino || !old->ino)
		return;
	node_close(w, old);
	begun = clock_ms();
	r = w->backend.ops->rename(&w->backend, n->path[0], old->path[0]);
	if (outcome(w, "rename over", old->path[0], begun, r) == DONE) {
		memcpy(n->path[0], old->path[0], sizeof(n->path[0]));
		if (n->dir)
			n->dir->children--;
		n->dir = old->dir;
		if (n->dir)
			n->dir->children++;
		node_remove(w, old);
		return;
	}
	memcpy(n->path[1], old->path[0], sizeof(n->path[1]));
	n->n_paths = 2;
	/* Its directory must not go while it may be in it. */
	if (old->dir)
		old->dir->children++;
	old->may_be_absent = true;
	old->instead = n;
	node_retire(w, old);
	node_retire(w, n);
}

/* ---- content ---- */

static bool node_open(struct worker *w, struct node *n)
{
	int64_t begun = clock_ms();

	if (n->file)
		return true;
	return outcome(w, "open", n->path[0], begun,
		       w->backend.ops->open(&w->backend, n->path[0], O_RDWR, &n->file)) == DONE;
}

static size_t choose_len(struct worker *w, uint64_t max)
{
	static const uint32_t limits[] = {100, 100, 5000, 5000, 70000, BUFFER_BYTES};
	uint64_t limit = limits[random_below(w, 6)], len;

	if (limit > max)
		limit = max;
	len = random_below(w, limit) + 1;
	return (size_t)(len > 4096 && chance(w, 40) ? len & ~4095ull : len);
}

static uint64_t choose_offset(struct worker *w, const struct node *n, size_t len)
{
	uint64_t max = (uint64_t)n->max_kib * 1024, offset;

	if (n->max_kib > MEDIUM_KIB && chance(w, 80)) {
		uint64_t border = (1 + random_below(w, max / CHUNK_BYTES)) * CHUNK_BYTES;
		offset = border - NEAR_BORDER_BYTES + random_below(w, 2 * NEAR_BORDER_BYTES);
	} else {
		offset = random_below(w, max - len + 1);
	}
	return chance(w, 30) ? offset & ~4095ull : offset;
}

static void sync_node(struct worker *w, struct node *n)
{
	int64_t begun = clock_ms();

	if (!node_open(w, n))
		return;
	if (outcome(w, "fsync", n->path[0], begun, w->backend.ops->fsync(n->file)) == DONE) {
		atomic_fetch_add(&counts.fsyncs, 1);
		model_synced(n->body->model);
	} else {
		model_sync_failed(n->body->model);
		node_close(w, n);
	}
}

static void look_at_size(struct worker *w, struct node *n)
{
	char why[MODEL_TEXT_BYTES];
	int64_t begun = clock_ms();
	struct stat st;

	if (!node_open(w, n))
		return;
	if (outcome(w, "fstat", n->path[0], begun, w->backend.ops->fstat(n->file, &st)) != DONE) {
		node_close(w, n);
		return;
	}
	if (model_saw_size(n->body->model, (uint64_t)st.st_size, why) < 0)
		violation(w, "%s: %s", n->path[0], why);
}

/* False: too much is uncertain about it. */
static bool ready_to_change(struct worker *w, struct node *n)
{
	if (model_crowded(n->body->model)) {
		sync_node(w, n);
		look_at_size(w, n);
	}
	return !model_crowded(n->body->model) && node_open(w, n);
}

static void write_node(struct worker *w, struct node *n, void *file, uint64_t offset, size_t len)
{
	uint32_t write = model_next_write(n->body->model);
	int64_t begun;
	ssize_t r;

	content_fill(model_file(n->body->model), write, offset, w->buffer, len);
	begun = clock_ms();
	r = w->backend.ops->pwrite(file, w->buffer, len, offset);
	if (outcome(w, "write", n->path[0], begun, r) == WRONG)
		return;
	model_wrote(n->body->model, write, offset, r < 0 ? 0 : (size_t)r, len);
	if (r < 0)
		node_close(w, n);
}

static void do_write(struct worker *w)
{
	struct node *n = choose(w, NODE_FILE, NULL);
	size_t len;

	if (!n || !ready_to_change(w, n))
		return;
	len = choose_len(w, (uint64_t)n->max_kib * 1024);
	write_node(w, n, n->file, choose_offset(w, n, len), len);
}

static void do_append(struct worker *w)
{
	struct node *n = choose(w, NODE_FILE, NULL);
	int64_t begun;
	void *file;

	if (!n || !ready_to_change(w, n) || !model_size_known(n->body->model) ||
	    model_size_max(n->body->model) > (uint64_t)n->max_kib * 1024)
		return;
	begun = clock_ms();
	if (outcome(w, "open", n->path[0], begun,
		    w->backend.ops->open(&w->backend, n->path[0], O_WRONLY | O_APPEND, &file)) !=
	    DONE)
		return;
	write_node(w, n, file, model_size_max(n->body->model), choose_len(w, 70000));
	w->backend.ops->close(file);
}

static void do_truncate(struct worker *w)
{
	struct node *n = choose(w, NODE_FILE, NULL);
	uint64_t max, size;
	int64_t begun;
	int r;

	if (!n || !ready_to_change(w, n))
		return;
	max = model_size_max(n->body->model);
	size = chance(w, 20) ? 0 : random_below(w, max + (chance(w, 30) ? 20000 : 1));
	begun = clock_ms();
	r = w->backend.ops->ftruncate(n->file, size);
	if (outcome(w, "truncate", n->path[0], begun, r) == WRONG)
		return;
	model_truncated(n->body->model, size, r == 0);
	if (r < 0)
		node_close(w, n);
}

static void do_read(struct worker *w)
{
	struct node *n = choose(w, NODE_FILE, NULL);
	char why[MODEL_TEXT_BYTES];
	uint64_t offset, power = w->power_seen;
	int64_t begun;
	size_t len;
	ssize_t r;

	if (!n || !node_open(w, n))
		return;
	len = choose_len(w, BUFFER_BYTES);
	offset = n->max_kib > MEDIUM_KIB ? choose_offset(w, n, len)
					 : random_below(w, model_size_max(n->body->model) + 100);
	begun = clock_ms();
	r = w->backend.ops->pread(n->file, w->buffer, len, offset);
	learn_power(w);
	if (outcome(w, "read", n->path[0], begun, r) != DONE) {
		node_close(w, n);
		return;
	}
	atomic_fetch_add(&counts.reads, 1);
	atomic_fetch_add(&counts.bytes_read, (unsigned long long)r);
	if (model_read(n->body->model, offset, len, w->buffer, (size_t)r, why) < 0)
		violation(w, "%s: %s", n->path[0], why);
	/* It may have been answered before the loss, and then tells nothing of what came after. */
	if (w->power_seen != power)
		model_power_lost(n->body->model);
}

static void do_sync(struct worker *w)
{
	struct node *n = choose(w, NODE_FILE, NULL);
	if (n)
		sync_node(w, n);
}

static void do_stat(struct worker *w)
{
	struct node *n = choose(w, NODE_FILE, NULL);
	if (n)
		look_at_size(w, n);
}

/* ---- the mix ---- */

bool worker_step(struct worker *w)
{
	unsigned what = (unsigned)random_below(w, 100);

	w->failed = false;
	learn_power(w);
	if (w->n_files < 3 || (what < 8 && w->n_files < FILES_MAX))
		do_create(w);
	else if (what < 34)
		do_write(w);
	else if (what < 42)
		do_append(w);
	else if (what < 64)
		do_read(w);
	else if (what < 72)
		do_sync(w);
	else if (what < 78)
		do_truncate(w);
	else if (what < 83)
		do_rename(w);
	else if (what < 86)
		do_replace(w);
	else if (what < 90)
		do_remove(w, NODE_FILE);
	else if (what < 92 && w->n_dirs < DIRS_MAX)
		do_make(w, NODE_DIR);
	else if (what < 93)
		do_remove(w, NODE_DIR);
	else if (what < 95 && w->n_files < FILES_MAX)
		do_link(w);
	else if (what < 96)
		do_make(w, NODE_SYMLINK);
	else if (what < 97)
		do_remove(w, NODE_SYMLINK);
	else
		do_stat(w);
	learn_power(w);
	return !w->failed;
}

void worker_init(struct worker *w, unsigned number, uint64_t seed, const struct backend *backend,
		 const char *dir, int64_t limit_ms)
{
	*w = (struct worker){.number = number, .backend = *backend, .limit_ms = limit_ms};
	w->random = (seed + 1) * 0x9e3779b97f4a7c15ull ^ (number + 1) * 0xbf58476d1ce4e5b9ull;
	w->random |= 1;
	w->buffer = malloc(BUFFER_BYTES);
	if (!w->buffer)
		abort();
	snprintf(w->dir, sizeof(w->dir), "%s", dir);
	snprintf(w->prefix, sizeof(w->prefix), "w%u-", number);
}

void worker_rest(struct worker *w)
{
	struct node *n;

	DL_FOREACH(w->nodes, n)
		node_close(w, n);
}

void worker_release(struct worker *w)
{
	struct node *n, *next;

	DL_FOREACH_SAFE(w->nodes, n, next) {
		body_drop(n->body);
		free(n);
	}
	free(w->buffer);
}
