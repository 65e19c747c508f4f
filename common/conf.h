/* Configuration: a table of options; each is a key of the INI file (inih) and a flag.
 *
 * Order: defaults, then the file (--config FILE, or the default path if it exists), then flags.
 * `data_dir = /x` in the file is `--data-dir=/x` or `--data-dir /x` as a flag; a boolean's flag
 * may stand alone. The file's section must be the program's own or none. An unknown key, a
 * value that does not parse or is out of range is refused: "FILE:LINE: key: reason" or
 * "--flag: reason" (ERR_CONFIG).
 */
#ifndef CAIRN_COMMON_CONF_H
#define CAIRN_COMMON_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

enum conf_type {
	CONF_STRING, /* char *, heap */
	CONF_LIST,   /* struct conf_list: comma-separated, and repeatable */
	CONF_INT,    /* int64_t, min..max */
	CONF_SIZE,   /* int64_t bytes: 64, 4K, 1M, 2G, 1T */
	CONF_TIME,   /* int64_t ms: 200ms, 5s, 2m, 1h; a bare number is seconds */
	CONF_BOOL,   /* bool: yes/no, true/false, on/off, 1/0 */
};

struct conf_list {
	char **items;
	size_t n;
};

struct conf_option {
	const char *name; /* as in the file: lower case, underscores */
	enum conf_type type;
	void *target;
	const char *def;  /* NULL: empty */
	int64_t min, max; /* CONF_INT, CONF_SIZE, CONF_TIME; both 0: any >= 0 */
	const char *help;
};

/* The end of a table is a row whose name is NULL. */
struct conf {
	const char *program;	   /* "cairn-master" */
	const char *section;	   /* "master" */
	const char *default_path;  /* "/etc/cairn/master.conf", or NULL */
	const char *usage;	   /* one paragraph for --help */
	const struct conf_option *options;
};

/* Fills the targets. 0; 1 when --help or --version was answered on stdout (exit 0 then);
 * negative: refused, err says what. *ret_rest: index in argv of the first argument that is not
 * an option; when ret_rest is NULL such an argument is refused. */
int conf_load(const struct conf *conf, int argc, char **argv, int *ret_rest, struct err *err);
/* Frees strings and lists of the targets. */
void conf_release(const struct conf *conf);

/* The value parsers, for other users. */
int conf_parse_size(const char *text, int64_t *ret);
int conf_parse_time(const char *text, int64_t *ret_ms);
int conf_parse_bool(const char *text, bool *ret);

#endif
