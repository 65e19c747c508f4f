#include "master/offline.h"

#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>

#include "common/backup.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "master/master.h"
#include "master/schema_check.h"

enum { OFFLINE_LINES_MAX = 10000 };

static int offline_open(const struct master_options *o, struct store **ret_store,
			struct state **ret, struct row_meta *ret_meta, struct buf *backing,
			struct err *err)
{
	char db[PATH_MAX];
	int r;

	if (strlen(o->data_dir) > PATH_MAX - 16)
		return err_set(err, ERR_CONFIG, "data_dir: too long");
	snprintf(db, sizeof(db), "%s/db", o->data_dir);
	r = store_open(db, STORE_EXISTING, o->cache_bytes, ret_store, err);
	if (r == ERR_BUSY)
		return err_prefix(err, r, "the master is running");
	if (r == 0)
		r = state_new(store_base(*ret_store), ret);
	if (r < 0)
		return r;
	r = ns_meta(*ret, ret_meta, backing);
	return r < 0 ? err_set(err, r, "database %s: reading its first row: %s", db, err_text(r))
		     : 0;
}

/* ---- check ---- */

struct finding {
	struct buf lines;
	int wrong; /* or negative: it could not be checked, see err */
	struct row_meta meta;
	struct err err;
};

static void check_print(struct finding *f)
{
	fwrite(buf_str(&f->lines), 1, f->lines.len, stdout);
	if (f->wrong > OFFLINE_LINES_MAX)
		printf("and %d more\n", f->wrong - OFFLINE_LINES_MAX);
	if (f->wrong < 0)
		printf("not checked: %s\n", err_message(&f->err));
	else
		printf("%d wrong: state after entry %" PRIu64 " (later ones, if any, are still in "
		       "the log only): %" PRIu64 " inodes, %" PRIu64 " chunks\n", f->wrong,
		       f->meta.applied, f->meta.inodes, f->meta.chunks);
}

static void check_print_json(struct finding *f)
{
	json_t *lines = json_array(), *all;
	char *at = (char *)buf_str(&f->lines), *line;

	/* Lines are plain ASCII: names do not occur in them. */
	while ((line = strsep(&at, "\n")) != NULL && at)
		json_array_append_new(lines, json_string(line));
	all = json_pack("{s:b, s:b, s:i, s:o, s:I, s:I, s:I}", "checked", f->wrong >= 0, "sound",
			f->wrong == 0, "wrong", f->wrong > 0 ? f->wrong : 0, "findings", lines,
			"applied", (json_int_t)f->meta.applied, "inodes",
			(json_int_t)f->meta.inodes,
			"chunks", (json_int_t)f->meta.chunks);
	if (all && f->wrong < 0)
		json_object_set_new(all, "error", json_string(err_message(&f->err)));
	if (!all || json_dumpf(all, stdout, JSON_INDENT(2)) < 0)
		log_error("printing failed");
	putchar('\n');
	json_decref(all);
}

int offline_check(const struct master_options *o)
{
	_cleanup_buf_ struct buf backing = {0};
	struct finding f = {0};
	struct store *store = NULL;
	struct state *st = NULL;
	int r = offline_open(o, &store, &st, &f.meta, &backing, &f.err);

	f.wrong = r;
	if (r == 0) {
		f.wrong = schema_check(st, &f.lines, OFFLINE_LINES_MAX);
		if (f.wrong < 0)
			err_set(&f.err, f.wrong, "reading the database: %s", err_text(f.wrong));
	}
	/* That its files do not read is a finding too, and the last one. */
	if (f.wrong == ERR_CORRUPT) {
		buf_printf(&f.lines, "%s\n", err_message(&f.err));
		f.wrong = 1;
	}
	if (o->json)
		check_print_json(&f);
	else
		check_print(&f);
	state_free(st);
	store_close(store);
	buf_release(&f.lines);
	r = f.wrong < 0 ? OFFLINE_FAILED : f.wrong > 0 ? OFFLINE_WRONG : OFFLINE_SOUND;
	return fflush(stdout) == 0 ? r : OFFLINE_FAILED;
}

/* ---- export ---- */

static int export_rows(struct store *store, const struct row_meta *meta, const char *path,
		       struct backup_info *ret, struct err *err)
{
	const struct state_base *base = store_base(store);
	struct backup_info info = {.applied = meta->applied};
	struct backup_writer w;
	struct slice key, value;
	void *view;
	int r;

	if (meta->cluster.len != UUID_BYTES)
		return err_set(err, ERR_CORRUPT, "the database has no cluster id");
	memcpy(info.cluster, meta->cluster.data, UUID_BYTES);
	r = store_view_open(store, &view);
	if (r < 0)
		return err_set(err, r, "%s", err_text(r));
	r = backup_create(&w, path, &info, err);
	while (r == 0) {
		int more = base->iter_row(view, &key, &value);
		if (more <= 0) {
			r = more < 0 ? err_set(err, more, "reading the database: %s",
					       err_text(more)) : 0;
			break;
		}
		r = backup_put(&w, key, value, err);
		base->iter_next(view);
	}
	base->iter_close(view);
	if (r == 0)
		r = backup_finish(&w, err);
	*ret = w.info;
	backup_release(&w);
	return r;
}

int offline_export(const struct master_options *o)
{
	_cleanup_buf_ struct buf backing = {0};
	struct store *store = NULL;
	struct state *st = NULL;
	struct backup_info info = {0};
	struct row_meta meta;
	struct err err = {0};
	int r = offline_open(o, &store, &st, &meta, &backing, &err);

	if (r == 0)
		r = export_rows(store, &meta, o->export_file, &info, &err);
	state_free(st);
	store_close(store);
	if (r < 0) {
		log_error("%s: not exported: %s", o->export_file, err_message(&err));
		return OFFLINE_FAILED;
	}
	log_info("%s: %" PRIu64 " rows, the state after entry %" PRIu64 "; later ones, if any, are "
		 "in the log only", o->export_file, info.rows, info.applied);
	return OFFLINE_SOUND;
}

/* ---- which ---- */

bool offline_wanted(const struct master_options *o)
{
	return o->check || o->export_file || o->import_file;
}

int offline_run(const struct master_options *o)
{
	if (o->check + (o->export_file != NULL) + (o->import_file != NULL) > 1) {
		log_error("--check, --export and --import: one at a time");
		return OFFLINE_FAILED;
	}
	return o->check ? offline_check(o) : o->export_file ? offline_export(o) : offline_import(o);
}
