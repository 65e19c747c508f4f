/* Words, names and paths of the CLI: pure functions. */
#ifndef CAIRN_TOOLS_TEXT_H
#define CAIRN_TOOLS_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "common/buf.h"

enum {
	TEXT_SIZE_BYTES = 24, /* room for text_size */
	TEXT_MODE_BYTES = 11, /* room for text_mode */
	TEXT_TIME_BYTES = 40, /* room for text_time */
	TEXT_NAME_BYTES = 256,
};

/* "0", "999", "1.5K", "64M", "1.2T": as `ls -h`, rounded up. Returns ret. */
const char *text_size(uint64_t bytes, char *ret);
/* "drwxr-xr-t". Returns ret. */
const char *text_mode(uint32_t mode, char *ret);
/* "regular file", "directory", ... */
const char *text_type(uint32_t mode);
/* "2026-11-24 07:16:04.123456789 +0000", local time. Returns ret. */
const char *text_time(struct timespec t, char *ret);

/* One word for a POSIX shell: 'it'\''s'. */
void text_shell_quote(struct buf *out, const char *s);
/* A name for a terminal: control characters become '?'. */
void text_printable(struct buf *out, const char *s);

/* The length of the longest valid UTF-8 prefix of n bytes. */
size_t text_utf8_prefix(const char *s, size_t n);
/* Names are bytes, JSON is UTF-8: sets `key` to the name with each invalid byte replaced by
 * U+FFFD and, only when there was one, `key`_hex to all its bytes. 0 or -1 (out of memory). */
int text_json_name(json_t *object, const char *key, const char *name);

/* "DIR/NAME", heap; NULL when out of memory. */
char *text_join(const char *dir, const char *name);
/* The last component, without trailing slashes: heap; "/" of the root. NULL: out of memory. */
char *text_base(const char *path);
/* All but the last component: "." when there is none, "/" of the root. */
char *text_dir(const char *path);
/* ".NAME.cairn-XXXXXXXX" with NAME cut so that all fit in 255 bytes. ret: TEXT_NAME_BYTES. */
void text_temp_name(const char *name, uint32_t random, char *ret);

#endif
