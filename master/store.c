#include "master/store.h"

#include <errno.h>
#include <leveldb/c.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"

enum {
	STORE_BLOOM_BITS = 10,
	STORE_WRITE_BUFFER_BYTES = 16 << 20,
	/* A killed process holds its lock until the kernel has taken it apart. */
	STORE_LOCK_WAIT_MS = 5000,
	STORE_LOCK_POLL_MS = 20,
};

struct store {
	leveldb_t *db;
	leveldb_options_t *options;
	leveldb_cache_t *cache;
	leveldb_filterpolicy_t *filter;
	leveldb_readoptions_t *read, *scan; /* scan: leaves the cache alone */
	leveldb_writeoptions_t *write;
	struct state_base base;

	pthread_t thread;
	bool started;
	void (*written)(void *arg);
	void *written_arg;

	/* Protected by lock. */
	pthread_mutex_t lock;
	pthread_cond_t wake;	/* the thread waits for work */
	pthread_cond_t durable_moved;
	const struct state *batch; /* being written, or NULL */
	uint64_t batch_index;
	bool batch_done;
	uint64_t durable;
	bool stopping;
	char failure[ERR_TEXT_MAX]; /* "" while all is well */
};

/* ---- reads ---- */

static bool is_locked(const char *error)
{
	return strncmp(error, "IO error: lock ", 15) == 0;
}

/* LevelDB tells what happened in words only. */
static int store_failed(struct err *err, const char *what, char *reason)
{
	int code = is_locked(reason) ? ERR_BUSY
		   : strncmp(reason, "Corruption", 10) == 0 ? ERR_CORRUPT : ERR_IO;

	err_set(err, code, "%s: %s", what, reason);
	leveldb_free(reason);
	return code;
}

static int base_get(void *ctx, struct slice key, struct buf *ret)
{
	struct store *s = ctx;
	char *error = NULL, *value;
	size_t len;

	value = leveldb_get(s->db, s->read, (const char *)key.data, key.len, &len, &error);
	if (error) {
		leveldb_free(error);
		return ERR_CORRUPT;
	}
	if (!value)
		return 0;
	buf_clear(ret);
	buf_append(ret, value, len);
	leveldb_free(value);
	return buf_status(ret) < 0 ? ERR_NOMEM : 1;
}

static int base_iter_open(void *ctx, struct slice start, void **ret)
{
	struct store *s = ctx;
	leveldb_iterator_t *it = leveldb_create_iterator(s->db, s->read);

	if (start.len)
		leveldb_iter_seek(it, (const char *)start.data, start.len);
	else
		leveldb_iter_seek_to_first(it);
	*ret = it;
	return 0;
}

static int base_iter_row(void *iter, struct slice *ret_key, struct slice *ret_value)
{
	char *error = NULL;
	size_t len;

	/* LevelDB steps over a block that does not read and goes on with the next one: what follows
	 * is no answer to anything. */
	leveldb_iter_get_error(iter, &error);
	if (error) {
		leveldb_free(error);
		return ERR_CORRUPT;
	}
	if (!leveldb_iter_valid(iter))
		return 0;
	ret_key->data = (const uint8_t *)leveldb_iter_key(iter, &len);
	ret_key->len = (uint32_t)len;
	ret_value->data = (const uint8_t *)leveldb_iter_value(iter, &len);
	ret_value->len = (uint32_t)len;
	return 1;
}

static void base_iter_next(void *iter)
{
	leveldb_iter_next(iter);
}

static void base_iter_close(void *iter)
{
	leveldb_iter_destroy(iter);
}

int store_view_open(struct store *s, void **ret)
{
	leveldb_iterator_t *it = leveldb_create_iterator(s->db, s->scan);

	leveldb_iter_seek_to_first(it);
	*ret = it;
	return 0;
}

const struct state_base *store_base(struct store *s)
{
	return &s->base;
}

/* ---- life ---- */

static leveldb_t *db_open(const leveldb_options_t *options, const char *dir, char **error)
{
	int64_t give_up = deadline_in(STORE_LOCK_WAIT_MS);

	for (;;) {
		leveldb_t *db = leveldb_open(options, dir, error);
		if (!*error || !is_locked(*error) || clock_ms() >= give_up)
			return db;
		leveldb_free(*error);
		*error = NULL;
		poll(NULL, 0, STORE_LOCK_POLL_MS);
	}
}

int store_open(const char *dir, enum store_mode mode, int64_t cache_bytes, struct store **ret,
	       struct err *err)
{
	struct store *s = calloc(1, sizeof(*s));
	char *error = NULL;

	if (!s)
		return err_set(err, ERR_NOMEM, "out of memory");
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wake, NULL);
	pthread_cond_init(&s->durable_moved, NULL);
	s->base = (struct state_base){.ctx = s, .get = base_get, .iter_open = base_iter_open,
				      .iter_row = base_iter_row, .iter_next = base_iter_next,
				      .iter_close = base_iter_close};
	s->options = leveldb_options_create();
	s->cache = leveldb_cache_create_lru((size_t)cache_bytes);
	s->filter = leveldb_filterpolicy_create_bloom(STORE_BLOOM_BITS);
	s->read = leveldb_readoptions_create();
	s->scan = leveldb_readoptions_create();
	s->write = leveldb_writeoptions_create();
	leveldb_options_set_create_if_missing(s->options, mode != STORE_EXISTING);
	leveldb_options_set_error_if_exists(s->options, mode == STORE_NEW);
	leveldb_options_set_paranoid_checks(s->options, 1);
	leveldb_options_set_cache(s->options, s->cache);
	leveldb_options_set_filter_policy(s->options, s->filter);
	leveldb_options_set_write_buffer_size(s->options, STORE_WRITE_BUFFER_BYTES);
	leveldb_readoptions_set_verify_checksums(s->read, 1);
	leveldb_readoptions_set_verify_checksums(s->scan, 1);
	leveldb_readoptions_set_fill_cache(s->scan, 0);
	leveldb_writeoptions_set_sync(s->write, 1);
	s->db = db_open(s->options, dir, &error);
	if (error) {
		char what[ERR_TEXT_MAX];
		int r;
		snprintf(what, sizeof(what), "database %s does not open", dir);
		r = store_failed(err, what, error);
		store_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

int store_remove(const char *dir, struct err *err)
{
	leveldb_options_t *options = leveldb_options_create();
	char *error = NULL;

	leveldb_destroy_db(options, dir, &error);
	leveldb_options_destroy(options);
	return error ? store_failed(err, "removing a database", error) : 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	if (s->started) {
		pthread_mutex_lock(&s->lock);
		s->stopping = true;
		pthread_cond_broadcast(&s->wake);
		pthread_cond_broadcast(&s->durable_moved);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
	}
	if (s->db)
		leveldb_close(s->db);
	leveldb_options_destroy(s->options);
	leveldb_filterpolicy_destroy(s->filter);
	leveldb_cache_destroy(s->cache);
	leveldb_readoptions_destroy(s->read);
	leveldb_readoptions_destroy(s->scan);
	leveldb_writeoptions_destroy(s->write);
	pthread_cond_destroy(&s->wake);
	pthread_cond_destroy(&s->durable_moved);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- the thread ---- */

static void batch_row(void *arg, struct slice key, struct slice value)
{
	leveldb_writebatch_t *batch = arg;

	if (value.data)
		leveldb_writebatch_put(batch, (const char *)key.data, key.len,
				       (const char *)value.data, value.len);
	else
		leveldb_writebatch_delete(batch, (const char *)key.data, key.len);
}

/* NULL, or LevelDB's reason: leveldb_free() it. */
static char *write_frozen(struct store *s, const struct state *st)
{
	leveldb_writebatch_t *batch = leveldb_writebatch_create();
	char *error = NULL;

	state_frozen_visit(st, batch_row, batch);
	FAULT_POINT(MASTER_STORE_WRITE, "");
	leveldb_write(s->db, s->write, batch, &error);
	FAULT_POINT(MASTER_STORE_WRITTEN, "");
	leveldb_writebatch_destroy(batch);
	return error;
}

int store_write(struct store *s, const struct state *st, struct err *err)
{
	char *error = write_frozen(s, st);
	return error ? store_failed(err, "writing the database", error) : 0;
}

static void *store_thread(void *arg)
{
	struct store *s = arg;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		char *error;
		while ((!s->batch || s->batch_done) && !s->stopping)
			pthread_cond_wait(&s->wake, &s->lock);
		if (!s->batch || s->batch_done)
			break;
		pthread_mutex_unlock(&s->lock);
		error = write_frozen(s, s->batch);
		pthread_mutex_lock(&s->lock);
		if (error)
			snprintf(s->failure, sizeof(s->failure), "%s", error);
		else
			s->durable = s->batch_index;
		leveldb_free(error);
		s->batch_done = true;
		pthread_cond_broadcast(&s->durable_moved);
		pthread_mutex_unlock(&s->lock);
		s->written(s->written_arg);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

int store_start(struct store *s, uint64_t applied, void (*written)(void *arg), void *arg,
		struct err *err)
{
	int r;

	s->written = written;
	s->written_arg = arg;
	s->durable = applied;
	r = pthread_create(&s->thread, NULL, store_thread, s);
	if (r != 0)
		return err_set_errno(err, r, "store thread");
	s->started = true;
	return 0;
}

void store_submit(struct store *s, const struct state *st, uint64_t index)
{
	pthread_mutex_lock(&s->lock);
	s->batch = st;
	s->batch_index = index;
	s->batch_done = false;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

bool store_idle(struct store *s)
{
	bool idle;

	pthread_mutex_lock(&s->lock);
	idle = s->batch == NULL;
	pthread_mutex_unlock(&s->lock);
	return idle;
}

int store_collect(struct store *s, struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if (s->failure[0]) {
		r = err_set(err, ERR_IO, "writing the database: %s", s->failure);
	} else if (s->batch && s->batch_done) {
		s->batch = NULL;
		r = 1;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

uint64_t store_durable(struct store *s)
{
	uint64_t index;

	pthread_mutex_lock(&s->lock);
	index = s->durable;
	pthread_mutex_unlock(&s->lock);
	return index;
}

int store_wait_durable(struct store *s, uint64_t index)
{
	int r;

	pthread_mutex_lock(&s->lock);
	while (s->durable < index && !s->stopping && !s->failure[0])
		pthread_cond_wait(&s->durable_moved, &s->lock);
	r = s->durable >= index ? 0 : s->failure[0] ? ERR_IO : ERR_SHUTDOWN;
	pthread_mutex_unlock(&s->lock);
	return r;
}
