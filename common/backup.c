#include "common/backup.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/crc.h"
#include "common/io.h"

static const char backup_magic[8] = "CRNBKUP1";

static int key_cmp(struct slice a, struct slice b)
{
	uint32_t n = a.len < b.len ? a.len : b.len;
	int r = n ? memcmp(a.data, b.data, n) : 0;
	return r ? r : (a.len > b.len) - (a.len < b.len);
}

/* ---- writing ---- */

static int backup_write(struct backup_writer *w, const struct buf *bytes, struct err *err)
{
	if (buf_status(bytes) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (fwrite(bytes->data, 1, bytes->len, w->file) != bytes->len)
		return err_set_errno(err, errno, "writing the backup");
	return 0;
}

static void block_begin(struct buf *b, uint32_t type)
{
	buf_clear(b);
	buf_le32(b, type);
	buf_le32(b, 0);
}

static int block_end(struct backup_writer *w, struct err *err)
{
	if (buf_status(&w->block) == 0) {
		put_le32(w->block.data + 4, (uint32_t)(w->block.len - 8));
		buf_le32(&w->block, crc32c(0, w->block.data, w->block.len));
	}
	return backup_write(w, &w->block, err);
}

static void backup_temporary(const struct backup_writer *w, char *ret)
{
	snprintf(ret, PATH_MAX, "%s.new", w->path);
}

static int backup_header(struct backup_writer *w, const struct backup_info *info, struct err *err)
{
	struct buf header = {0};
	int r;

	w->info = *info;
	w->info.rows = w->info.bytes = 0;
	buf_append(&header, backup_magic, sizeof(backup_magic));
	buf_le32(&header, BACKUP_VERSION);
	buf_append(&header, w->info.cluster, BACKUP_CLUSTER_BYTES);
	buf_le64(&header, w->info.applied);
	if (buf_status(&header) == 0)
		buf_le32(&header, crc32c(0, header.data, header.len));
	r = backup_write(w, &header, err);
	buf_release(&header);
	block_begin(&w->block, BACKUP_ROWS);
	return r;
}

int backup_create_stream(struct backup_writer *w, FILE *file, const struct backup_info *info,
			 struct err *err)
{
	*w = (struct backup_writer){.file = file};
	return backup_header(w, info, err);
}

int backup_create(struct backup_writer *w, const char *path, const struct backup_info *info,
		  struct err *err)
{
	char temporary[PATH_MAX];

	if (strcmp(path, "-") == 0)
		return backup_create_stream(w, stdout, info, err);
	*w = (struct backup_writer){0};
	if (strlen(path) > PATH_MAX - 8)
		return err_set(err, ERR_NAMETOOLONG, "path of the backup: too long");
	w->path = strdup(path);
	if (!w->path)
		return err_set(err, ERR_NOMEM, "out of memory");
	backup_temporary(w, temporary);
	w->file = fopen(temporary, "we");
	if (!w->file)
		return err_set_errno(err, errno, "%s", temporary);
	return backup_header(w, info, err);
}

int backup_put(struct backup_writer *w, struct slice key, struct slice value, struct err *err)
{
	int r = 0;

	if (w->info.rows > 0 && key_cmp(buf_slice(&w->last_key), key) >= 0)
		return err_set(err, ERR_CORRUPT, "rows are out of order");
	if ((uint64_t)key.len + value.len + 8 > BACKUP_BLOCK_BYTES_MAX - BACKUP_BLOCK_BYTES)
		return err_set(err, ERR_LIMIT, "a row of %u bytes", value.len);
	buf_clear(&w->last_key);
	buf_append_slice(&w->last_key, key);
	buf_le32(&w->block, key.len);
	buf_append_slice(&w->block, key);
	buf_le32(&w->block, value.len);
	buf_append_slice(&w->block, value);
	w->info.rows++;
	w->info.bytes += key.len + value.len;
	if (w->block.len > BACKUP_BLOCK_BYTES) {
		r = block_end(w, err);
		block_begin(&w->block, BACKUP_ROWS);
	}
	return r;
}

/* The file is in place only when all of it is on stable storage. */
static int backup_place(struct backup_writer *w, struct err *err)
{
	char temporary[PATH_MAX], parent[PATH_MAX];
	int r;

	if (fsync(fileno(w->file)) < 0)
		return err_set_errno(err, errno, "sync of %s", w->path);
	backup_temporary(w, temporary);
	if (rename(temporary, w->path) < 0)
		return err_set_errno(err, errno, "rename to %s", w->path);
	snprintf(parent, sizeof(parent), "%s", w->path);
	r = io_real.sync_dir(&io_real, dirname(parent));
	return r < 0 ? err_set(err, r, "sync of the directory of %s: %s", w->path, err_text(r)) : 0;
}

int backup_finish(struct backup_writer *w, struct err *err)
{
	int r = w->block.len > 8 ? block_end(w, err) : 0;

	block_begin(&w->block, BACKUP_END);
	buf_le64(&w->block, w->info.rows);
	if (r == 0)
		r = block_end(w, err);
	if (r == 0 && fflush(w->file) != 0)
		r = err_set_errno(err, errno, "writing the backup");
	if (r == 0 && w->path)
		r = backup_place(w, err);
	if (r == 0 && w->path) {
		fclose(w->file);
		w->file = NULL;
	}
	return r;
}

void backup_release(struct backup_writer *w)
{
	if (w->file && w->path) {
		char temporary[PATH_MAX];
		fclose(w->file);
		backup_temporary(w, temporary);
		unlink(temporary);
	}
	free(w->path);
	buf_release(&w->block);
	buf_release(&w->last_key);
	*w = (struct backup_writer){0};
}

/* ---- reading ---- */

static int backup_damaged(const struct backup_reader *r, struct err *err, const char *what)
{
	return err_set(err, ERR_CORRUPT, "the backup is damaged behind row %llu: %s",
		       (unsigned long long)r->info.rows, what);
}

/* Exactly n bytes into the block buffer, behind what is there. */
static int backup_take(struct backup_reader *r, size_t n, struct err *err)
{
	uint8_t *to = buf_extend(&r->block, n);

	if (!to)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (fread(to, 1, n, r->file) == n)
		return 0;
	if (ferror(r->file))
		return err_set_errno(err, errno, "reading the backup");
	return backup_damaged(r, err, "it ends too early");
}

int backup_read_open(struct backup_reader *r, FILE *file, struct err *err)
{
	const uint8_t *p;
	int s;

	*r = (struct backup_reader){.file = file};
	s = backup_take(r, BACKUP_HEADER_BYTES, err);
	if (s < 0)
		return s == ERR_CORRUPT ? err_set(err, s, "this is no backup") : s;
	p = r->block.data;
	if (memcmp(p, backup_magic, sizeof(backup_magic)) != 0)
		return err_set(err, ERR_CORRUPT, "this is no backup");
	if (get_le32(p + 36) != crc32c(0, p, 36))
		return backup_damaged(r, err, "checksum of its header");
	if (get_le32(p + 8) != BACKUP_VERSION)
		return err_set(err, ERR_VERSION, "backup of format %u; this program knows %u",
			       get_le32(p + 8), BACKUP_VERSION);
	memcpy(r->info.cluster, p + 12, BACKUP_CLUSTER_BYTES);
	r->info.applied = get_le64(p + 28);
	return 0;
}

/* The next block of rows, or the end: 1 or 0. */
static int backup_block(struct backup_reader *r, struct err *err)
{
	uint32_t type, bytes;
	int s;

	buf_clear(&r->block);
	s = backup_take(r, 8, err);
	if (s < 0)
		return s;
	type = get_le32(r->block.data);
	bytes = get_le32(r->block.data + 4);
	if ((type != BACKUP_ROWS || bytes > BACKUP_BLOCK_BYTES_MAX) &&
	    (type != BACKUP_END || bytes != 8))
		return backup_damaged(r, err, "head of a block");
	s = backup_take(r, bytes + 4, err);
	if (s < 0)
		return s;
	if (get_le32(r->block.data + 8 + bytes) != crc32c(0, r->block.data, 8 + bytes))
		return backup_damaged(r, err, "checksum of a block");
	r->rows = cursor_of(r->block.data + 8, bytes);
	if (type == BACKUP_ROWS)
		return 1;
	if (get_le64(r->block.data + 8) != r->info.rows)
		return backup_damaged(r, err, "rows are missing");
	if (fgetc(r->file) != EOF)
		return backup_damaged(r, err, "something follows its end");
	return ferror(r->file) ? err_set(err, ERR_IO, "reading the backup") : 0;
}

static bool take_slice(struct cursor *c, struct slice *ret)
{
	const uint8_t *p = cursor_take(c, 4);
	uint32_t n = p ? get_le32(p) : 0;

	p = p ? cursor_take(c, n) : NULL;
	*ret = slice_of(p, n);
	return p != NULL;
}

int backup_read(struct backup_reader *r, struct slice *ret_key, struct slice *ret_value,
		struct err *err)
{
	while (!r->ended && cursor_left(&r->rows) == 0) {
		int s = backup_block(r, err);
		if (s < 0)
			return s;
		r->ended = s == 0;
	}
	if (r->ended)
		return 0;
	if (!take_slice(&r->rows, ret_key) || !take_slice(&r->rows, ret_value) ||
	    (r->info.rows > 0 && key_cmp(buf_slice(&r->last_key), *ret_key) >= 0))
		return backup_damaged(r, err, "rows are malformed or out of order");
	buf_clear(&r->last_key);
	buf_append_slice(&r->last_key, *ret_key);
	if (buf_status(&r->last_key) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	r->info.rows++;
	r->info.bytes += ret_key->len + ret_value->len;
	return 1;
}

void backup_read_release(struct backup_reader *r)
{
	buf_release(&r->block);
	buf_release(&r->last_key);
	*r = (struct backup_reader){0};
}
