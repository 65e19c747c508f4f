/* Making a database from a backup: see master/offline.h for what becomes of the state. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/backup.h"
#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "master/master.h"
#include "master/offline.h"
#include "master/schema_check.h"

enum { IMPORT_BATCH_BYTES = 4 << 20, IMPORT_FINDINGS_MAX = 20 };
static const char import_aside[] = "import.new";

/* ---- rows ---- */

static int import_damaged(struct err *err, struct slice key)
{
	return err_set(err, ERR_CORRUPT, "the backup's row of type %02x does not decode",
		       key.len ? key.data[0] : 0);
}

static int import_chunk(struct import *im, struct slice key, struct slice value, struct err *err)
{
	struct cursor c = cursor_slice(value);
	struct row_chunk row;

	if (key.len != 9 || row_chunk_get(&c, &row) < 0)
		return import_damaged(err, key);
	row.flags |= CHUNK_RESTORED;
	state_put_row_chunk(im->st, key_chunk(get_be64(key.data + 1)), &row);
	return 0;
}

/* What the rest is built on: checked before it is. */
static int import_meta(struct import *im, struct slice key, struct slice value, struct err *err)
{
	struct cursor c = cursor_slice(value);
	struct row_meta meta;
	int r;

	if (key.len != 1 || row_meta_get(&c, &meta) < 0 || meta.cluster.len != UUID_BYTES ||
	    meta.hash_key.len != HASH_KEY_BYTES || !meta.next_inode)
		return import_damaged(err, key);
	r = schema_level_check(&meta, "the backup", err);
	if (r < 0)
		return r;
	meta.applied = 0;
	meta.garbage = 0;
	meta.held = 1;
	meta.next_inode += IMPORT_SKIP_IDS;
	meta.next_chunk += IMPORT_SKIP_IDS;
	meta.next_session += IMPORT_SKIP_IDS;
	meta.next_server += IMPORT_SKIP_SERVERS;
	state_put_row_meta(im->st, key_meta(), &meta);
	im->has_meta = true;
	return 0;
}

int import_row(struct import *im, struct slice key, struct slice value, struct err *err)
{
	if (key.len == 0 || key.len > SCHEMA_KEY_BYTES_MAX)
		return err_set(err, ERR_CORRUPT, "the backup has a key of %u bytes", key.len);
	switch (key.data[0]) {
	case KEY_META: return import_meta(im, key, value, err);
	case KEY_CHUNK: return import_chunk(im, key, value, err);
	case KEY_GARBAGE: return 0;
	default: state_put(im->st, key, value); return 0;
	}
}

/* ---- the end of the sessions ---- */

/* The first session's id, or 0. */
static int first_session(struct state *st, uint64_t *ret)
{
	uint8_t type = KEY_SESSION;
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(st, slice_of(&type, 1), (struct slice){0}, &it);

	*ret = 0;
	if (r < 0)
		return r;
	r = state_iter_next(it, &key, &value);
	if (r == 1 && key.len == 9)
		*ret = get_be64(key.data + 1);
	state_iter_close(it);
	return r < 0 ? r : 0;
}

/* By the command that ends sessions otherwise, so that files they held open go as they would. Its
 * time is 0: apply takes the state's own. */
static int import_end_sessions(struct import *im, struct err *err)
{
	uint64_t index = 0;

	for (;;) {
		_cleanup_buf_ struct buf entry = {0};
		struct cmd_session_close close = {0};
		struct apply_result result = {0};
		int r = first_session(im->st, &close.session);
		if (r < 0)
			return err_set(err, r, "reading the sessions: %s", err_text(r));
		if (!close.session)
			return 0;
		r = cmd_put(&entry, CMD_NUMBER_SESSION_CLOSE, (struct when){0}, &close);
		if (r == 0)
			r = apply_entry(im->st, ++index, buf_slice(&entry), &result, err);
		if (r == 0 && result.status < 0)
			r = err_set(err, result.status, "ending session %llx: %s",
				    (unsigned long long)close.session, result.text);
		apply_result_release(&result);
		if (r < 0)
			return r;
	}
}

/* Garbage that the end of the sessions has made: like the rest of it, servers will be asked what
 * they have when the state is released. */
static int import_drop_garbage(struct import *im)
{
	uint8_t type = KEY_GARBAGE;

	for (;;) {
		struct key found[256];
		struct state_iter *it;
		struct slice key, value;
		unsigned n = 0;
		int r = state_iter_open(im->st, slice_of(&type, 1), (struct slice){0}, &it);
		if (r < 0)
			return r;
		while (n < ARRAY_LEN(found) && (r = state_iter_next(it, &key, &value)) == 1) {
			memcpy(found[n].bytes, key.data, key.len);
			found[n++].len = key.len;
		}
		state_iter_close(it);
		if (r < 0 || n == 0)
			return r;
		state_begin(im->st);
		for (unsigned i = 0; i < n; i++)
			state_del(im->st, key_slice(&found[i]));
		r = state_commit(im->st);
		if (r < 0)
			return r;
	}
}

int import_finish(struct import *im, struct err *err)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_meta meta;
	int r;

	if (!im->has_meta)
		return err_set(err, ERR_CORRUPT, "the backup lacks its first row");
	r = import_end_sessions(im, err);
	if (r < 0)
		return r;
	r = import_drop_garbage(im);
	if (r == 0)
		r = ns_meta(im->st, &meta, &backing);
	if (r < 0)
		return err_set(err, r, "the restored state: %s", err_text(r));
	meta.applied = 0;
	meta.garbage = 0;
	state_begin(im->st);
	state_put_row_meta(im->st, key_meta(), &meta);
	return state_commit(im->st);
}

/* ---- files ---- */

struct restoring {
	const struct master_options *o;
	char aside[PATH_MAX], db[PATH_MAX];
	struct store *store;
	struct import im;
	struct backup_info info;
};

/* Writes what has gathered. */
static int restoring_flush(struct restoring *x, struct err *err)
{
	int r;

	if (!state_freeze(x->im.st))
		return 0;
	r = store_write(x->store, x->im.st, err);
	state_thaw(x->im.st);
	return r;
}

static int restoring_row(struct restoring *x, struct slice key, struct slice value,
			 struct err *err)
{
	int r;

	state_begin(x->im.st);
	r = import_row(&x->im, key, value, err);
	if (r < 0) {
		state_abort(x->im.st);
		return r;
	}
	r = state_commit(x->im.st);
	if (r < 0)
		return err_set(err, r, "%s", err_text(r));
	return state_active_bytes(x->im.st) > IMPORT_BATCH_BYTES ? restoring_flush(x, err) : 0;
}

static int restoring_read(struct restoring *x, FILE *file, struct err *err)
{
	struct backup_reader reader;
	struct slice key, value;
	int r = backup_read_open(&reader, file, err);

	while (r == 0 && (r = backup_read(&reader, &key, &value, err)) == 1)
		r = restoring_row(x, key, value, err);
	x->info = reader.info;
	backup_read_release(&reader);
	return r;
}

/* The state is what it is, and may be the only one left: what is wrong with it is only told. */
static int restoring_check(struct restoring *x, struct err *err)
{
	_cleanup_buf_ struct buf report = {0};
	int wrong = schema_check(x->im.st, &report, IMPORT_FINDINGS_MAX);

	if (wrong < 0)
		return err_set(err, wrong, "reading the restored state: %s", err_text(wrong));
	if (wrong > 0)
		log_warn("%d things are wrong in this state, as they were in the backup:\n%s",
			 wrong, buf_str(&report));
	return 0;
}

/* Nothing else may be there but what an import that was interrupted has left. */
static int data_dir_empty(const char *path, struct err *err)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	int r = 0;

	if (!dir)
		return err_set_errno(err, errno, "data directory %s", path);
	while (r == 0 && (e = readdir(dir)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    strcmp(e->d_name, import_aside) != 0 && strcmp(e->d_name, "lost+found") != 0)
			r = err_set(err, ERR_EXIST, "%s is not empty, it has \"%s\": a backup is "
				    "restored into an empty directory only", path, e->d_name);
	closedir(dir);
	return r;
}

static int restoring_open(struct restoring *x, struct err *err)
{
	const char *data_dir = x->o->data_dir;
	int r;

	if (snprintf(x->aside, sizeof(x->aside), "%s/%s", data_dir, import_aside) >=
	    (int)sizeof(x->aside))
		return err_set(err, ERR_CONFIG, "data_dir: too long");
	snprintf(x->db, sizeof(x->db), "%s/db", data_dir);
	if (mkdir(data_dir, 0700) < 0 && errno != EEXIST)
		return err_set_errno(err, errno, "data directory %s", data_dir);
	r = data_dir_empty(data_dir, err);
	if (r == 0)
		r = store_remove(x->aside, err);
	if (r == 0)
		r = store_open(x->aside, STORE_NEW, x->o->cache_bytes, &x->store, err);
	if (r == 0)
		r = state_new(store_base(x->store), &x->im.st);
	return r;
}

static int restoring_place(struct restoring *x, struct err *err)
{
	int r;

	state_free(x->im.st);
	store_close(x->store);
	x->im.st = NULL;
	x->store = NULL;
	r = io_real.sync_dir(&io_real, x->aside);
	if (r < 0)
		return err_set(err, r, "sync of %s: %s", x->aside, err_text(r));
	if (rename(x->aside, x->db) < 0)
		return err_set_errno(err, errno, "rename to %s", x->db);
	r = io_real.sync_dir(&io_real, x->o->data_dir);
	return r < 0 ? err_set(err, r, "sync of %s: %s", x->o->data_dir, err_text(r)) : 0;
}

static int import_from(struct restoring *x, FILE *file, struct err *err)
{
	int r = restoring_open(x, err);

	if (r < 0)
		return r;
	r = restoring_read(x, file, err);
	if (r == 0)
		r = import_finish(&x->im, err);
	if (r == 0)
		r = restoring_flush(x, err);
	if (r == 0)
		r = restoring_check(x, err);
	if (r == 0)
		r = restoring_place(x, err);
	state_free(x->im.st);
	store_close(x->store);
	if (r < 0)
		store_remove(x->aside, NULL);
	return r;
}

int offline_import(const struct master_options *o)
{
	bool standard = strcmp(o->import_file, "-") == 0;
	FILE *file = standard ? stdin : fopen(o->import_file, "re");
	struct restoring x = {.o = o};
	struct err err = {0};
	int r;

	if (!file) {
		log_error("%s: %s", o->import_file, strerror(errno));
		return OFFLINE_FAILED;
	}
	r = import_from(&x, file, &err);
	if (!standard)
		fclose(file);
	if (r < 0) {
		log_error("%s: not restored: %s", o->import_file, err_message(&err));
		return OFFLINE_FAILED;
	}
	log_info("%s: restored %llu rows, the state after entry %llu; what servers have and this "
		 "state does not know is kept until it is released", o->import_file,
		 (unsigned long long)x.info.rows, (unsigned long long)x.info.applied);
	return OFFLINE_SOUND;
}

int offline_unfinished(const struct master_options *o, struct err *err)
{
	char aside[PATH_MAX];

	snprintf(aside, sizeof(aside), "%s/%s", o->data_dir, import_aside);
	return access(aside, F_OK) == 0
		       ? err_set(err, ERR_BUSY, "an import into %s was interrupted (%s is there): "
				 "import again, or remove it to begin a new cluster", o->data_dir,
				 import_aside)
		       : 0;
}
