#include "common/conf.h"

#include <errno.h>
#include <inttypes.h>
#include <ini.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { CONF_NAME_MAX = 64, CONF_WHERE_MAX = 256 };

/* ---- values ---- */

static int conf_number(const char *text, int64_t *ret, const char **ret_end)
{
	char *end;
	long long v;

	if (*text != '-' && (*text < '0' || *text > '9'))
		return ERR_INVAL;
	errno = 0;
	v = strtoll(text, &end, 10);
	if (errno || end == text)
		return ERR_INVAL;
	*ret = v;
	*ret_end = end;
	return 0;
}

int conf_parse_size(const char *text, int64_t *ret)
{
	static const char units[] = "KMGTP";
	const char *end, *unit;
	int64_t v;
	int shift = 0;

	if (conf_number(text, &v, &end) < 0 || v < 0)
		return ERR_INVAL;
	if (*end) {
		unit = strchr(units, *end >= 'a' ? *end - 'a' + 'A' : *end);
		if (!unit || (end[1] != '\0' && strcmp(end + 1, "iB") != 0))
			return ERR_INVAL;
		shift = 10 * (int)(unit - units + 1);
	}
	if (v > INT64_MAX >> shift)
		return ERR_RANGE;
	*ret = v << shift;
	return 0;
}

int conf_parse_time(const char *text, int64_t *ret_ms)
{
	static const struct { const char *unit; int64_t ms; } units[] = {
		{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
	};
	const char *end;
	int64_t v;

	if (conf_number(text, &v, &end) < 0 || v < 0)
		return ERR_INVAL;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].unit) == 0) {
			if (v > INT64_MAX / units[i].ms)
				return ERR_RANGE;
			*ret_ms = v * units[i].ms;
			return 0;
		}
	}
	return ERR_INVAL;
}

int conf_parse_bool(const char *text, bool *ret)
{
	static const char *const words[2][4] = {{"no", "false", "off", "0"},
						{"yes", "true", "on", "1"}};
	for (int v = 0; v < 2; v++) {
		for (int i = 0; i < 4; i++) {
			if (strcasecmp(text, words[v][i]) == 0) {
				*ret = v;
				return 0;
			}
		}
	}
	return ERR_INVAL;
}

/* ---- setting one option ---- */

static void conf_list_clear(struct conf_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct conf_list){0};
}

static int conf_list_add(struct conf_list *list, const char *item, size_t len)
{
	char **items = realloc(list->items, (list->n + 1) * sizeof(*items));
	if (!items)
		return ERR_NOMEM;
	list->items = items;
	items[list->n] = strndup(item, len);
	if (!items[list->n])
		return ERR_NOMEM;
	list->n++;
	return 0;
}

static int conf_set_list(struct conf_list *list, const char *value)
{
	while (*value) {
		size_t len = strcspn(value, ","), start = strspn(value, " \t"), end = len;
		while (end > start && (value[end - 1] == ' ' || value[end - 1] == '\t'))
			end--;
		if (start < end) {
			int r = conf_list_add(list, value + start, end - start);
			if (r < 0)
				return r;
		}
		value += len + (value[len] == ',');
	}
	return 0;
}

static int conf_set_string(char **target, const char *value)
{
	char *copy = strdup(value);
	if (!copy)
		return ERR_NOMEM;
	free(*target);
	*target = copy;
	return 0;
}

static const char *conf_type_words(enum conf_type type)
{
	switch (type) {
	case CONF_INT: return "a whole number";
	case CONF_SIZE: return "a size such as 64K, 16M or 2G";
	case CONF_TIME: return "a time such as 200ms, 5s or 2m";
	case CONF_BOOL: return "yes or no";
	default: return "a text";
	}
}

/* where: "FILE:LINE: key" or "--flag", for the message. */
static int conf_set(const struct conf_option *o, const char *value, const char *where,
		    struct err *err)
{
	const char *end = "";
	int64_t number = 0;
	int r = 0;

	switch (o->type) {
	case CONF_STRING: r = conf_set_string(o->target, value); break;
	case CONF_LIST: r = conf_set_list(o->target, value); break;
	case CONF_BOOL: r = conf_parse_bool(value, o->target); break;
	case CONF_SIZE: r = conf_parse_size(value, &number); break;
	case CONF_TIME: r = conf_parse_time(value, &number); break;
	case CONF_INT: r = conf_number(value, &number, &end); break;
	}
	if (r == ERR_NOMEM)
		return err_set(err, r, "%s: out of memory", where);
	if (r < 0 || *end)
		return err_set(err, ERR_CONFIG, "%s: \"%s\" is not %s", where, value,
			       conf_type_words(o->type));
	if (o->type == CONF_INT || o->type == CONF_SIZE || o->type == CONF_TIME) {
		int64_t max = o->min == 0 && o->max == 0 ? INT64_MAX : o->max;
		if (number < o->min || number > max)
			return err_set(err, ERR_CONFIG, "%s: %s is out of range (%" PRId64
				       " to %" PRId64 "%s)", where, value, o->min, max,
				       o->type == CONF_TIME ? " ms" : "");
		*(int64_t *)o->target = number;
	}
	return 0;
}

static const struct conf_option *conf_find(const struct conf *conf, const char *name)
{
	for (const struct conf_option *o = conf->options; o->name; o++)
		if (strcmp(o->name, name) == 0)
			return o;
	return NULL;
}

/* A list given in a higher place (file over default, flags over file) replaces the lower one. */
static int conf_set_layered(const struct conf *conf, const struct conf_option *o, bool *seen,
			    const char *value, const char *where, struct err *err)
{
	bool *mine = &seen[o - conf->options];
	if (o->type == CONF_LIST && !*mine)
		conf_list_clear(o->target);
	*mine = true;
	return conf_set(o, value, where, err);
}

/* ---- the file ---- */

struct conf_file {
	const struct conf *conf;
	const char *path;
	FILE *file;
	int line; /* of the line handed out last: Debian's inih does not pass it on */
	bool *seen;
	int status;
	struct err *err;
};

static char *conf_file_line(char *str, int num, void *stream)
{
	struct conf_file *f = stream;
	char *line;

	if (f->status < 0)
		return NULL;
	line = fgets(str, num, f->file);
	if (line) {
		f->line++;
		if (!strchr(line, '\n') && !feof(f->file)) {
			f->status = err_set(f->err, ERR_CONFIG, "%s:%d: line too long", f->path,
					    f->line);
			return NULL;
		}
	}
	return line;
}

/* inih's handler: non-zero is success. */
static int conf_file_value(void *user, const char *section, const char *name, const char *value)
{
	struct conf_file *f = user;
	const struct conf_option *o = conf_find(f->conf, name);
	char where[CONF_WHERE_MAX];

	if (f->status < 0)
		return 0;
	if (section[0] && strcmp(section, f->conf->section) != 0)
		f->status = err_set(f->err, ERR_CONFIG, "%s:%d: section [%s] is not [%s]",
				    f->path, f->line, section, f->conf->section);
	else if (!o)
		f->status = err_set(f->err, ERR_CONFIG, "%s:%d: unknown option \"%s\"", f->path,
				    f->line, name);
	else {
		snprintf(where, sizeof(where), "%s:%d: %s", f->path, f->line, name);
		f->status = conf_set_layered(f->conf, o, f->seen, value, where, f->err);
	}
	return f->status == 0;
}

static int conf_load_file(const struct conf *conf, const char *path, bool *seen, struct err *err)
{
	struct conf_file f = {.conf = conf, .path = path, .seen = seen, .err = err};
	int r;

	f.file = fopen(path, "re");
	if (!f.file)
		return err_set_errno(err, errno, "configuration file %s", path);
	r = ini_parse_stream(conf_file_line, &f, conf_file_value, &f);
	if (ferror(f.file) && f.status == 0)
		f.status = err_set(err, ERR_IO, "configuration file %s: cannot read", path);
	fclose(f.file);
	if (f.status == 0 && r > 0)
		f.status = err_set(err, ERR_CONFIG, "%s:%d: not a [section] or key = value line",
				   path, r);
	return f.status;
}

/* ---- flags ---- */

struct conf_args {
	int argc;
	char **argv;
	int at;
};

/* The option that argv[at] names, and its value; moves on. 1 found, 0 not an option. */
static int conf_next_flag(const struct conf *conf, struct conf_args *a, char *ret_name,
			  const char **ret_value, struct err *err)
{
	const char *arg = a->argv[a->at];
	const char *eq = strchr(arg, '=');
	size_t len = eq ? (size_t)(eq - arg) : strlen(arg);
	const struct conf_option *o;

	if (strncmp(arg, "--", 2) != 0 || arg[2] == '\0')
		return 0;
	if (len - 2 >= CONF_NAME_MAX)
		return err_set(err, ERR_CONFIG, "%s: unknown option", arg);
	for (size_t i = 2; i < len; i++)
		ret_name[i - 2] = arg[i] == '-' ? '_' : arg[i];
	ret_name[len - 2] = '\0';
	a->at++;
	*ret_value = eq ? eq + 1 : NULL;
	if (strcmp(ret_name, "help") == 0 || strcmp(ret_name, "version") == 0)
		return 1;
	o = conf_find(conf, ret_name);
	if (!o && strcmp(ret_name, "config") != 0)
		return err_set(err, ERR_CONFIG, "%.*s: unknown option", (int)len, arg);
	if (!*ret_value && o && o->type == CONF_BOOL)
		*ret_value = "yes";
	if (!*ret_value) {
		if (a->at >= a->argc)
			return err_set(err, ERR_CONFIG, "%s: needs a value", arg);
		*ret_value = a->argv[a->at++];
	}
	return 1;
}

static void conf_help(const struct conf *conf)
{
	printf("%s\n\nOptions (each also a key of the file, section [%s]):\n", conf->usage,
	       conf->section);
	for (const struct conf_option *o = conf->options; o->name; o++) {
		char flag[CONF_NAME_MAX];
		snprintf(flag, sizeof(flag), "%s", o->name);
		for (char *p = flag; *p; p++)
			*p = *p == '_' ? '-' : *p;
		printf("  --%-18s %s%s%s%s\n", flag, o->help, o->def ? " [" : "",
		       o->def ? o->def : "", o->def ? "]" : "");
	}
	printf("  --%-18s read this file%s%s%s\n  --%-18s show this\n  --%-18s show the version\n",
	       "config", conf->default_path ? " [" : "",
	       conf->default_path ? conf->default_path : "", conf->default_path ? "]" : "",
	       "help", "version");
}

/* One pass over the flags: the first finds --config, --help and --version, the second sets. */
static int conf_flags(const struct conf *conf, int argc, char **argv, bool *seen,
		      const char **ret_config, int *ret_rest, struct err *err)
{
	struct conf_args a = {.argc = argc, .argv = argv, .at = 1};

	while (a.at < argc) {
		char name[CONF_NAME_MAX], where[CONF_WHERE_MAX];
		const char *value = NULL;
		int r = conf_next_flag(conf, &a, name, &value, err);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		if (strcmp(name, "help") == 0) {
			conf_help(conf);
			return 1;
		}
		if (strcmp(name, "version") == 0) {
			printf("%s %s\n", conf->program, CAIRN_VERSION);
			return 1;
		}
		if (strcmp(name, "config") == 0) {
			*ret_config = value;
			continue;
		}
		if (!seen)
			continue;
		snprintf(where, sizeof(where), "--%s", name);
		for (char *p = where; *p; p++)
			*p = *p == '_' ? '-' : *p;
		r = conf_set_layered(conf, conf_find(conf, name), seen, value, where, err);
		if (r < 0)
			return r;
	}
	if (a.at < argc && strcmp(argv[a.at], "--") == 0)
		a.at++;
	if (a.at < argc && !ret_rest)
		return err_set(err, ERR_CONFIG, "%s: unexpected argument", argv[a.at]);
	if (ret_rest)
		*ret_rest = a.at;
	return 0;
}

int conf_load(const struct conf *conf, int argc, char **argv, int *ret_rest, struct err *err)
{
	const char *path = NULL;
	size_t n = 0;
	bool *seen;
	int r;

	while (conf->options[n].name)
		n++;
	r = conf_flags(conf, argc, argv, NULL, &path, ret_rest, err);
	if (r != 0)
		return r;
	seen = calloc(n + 1, sizeof(*seen));
	if (!seen)
		return err_set(err, ERR_NOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < n; i++)
		if (conf->options[i].def)
			r = conf_set(&conf->options[i], conf->options[i].def, "default", err);
	if (r == 0 && (path || (conf->default_path && access(conf->default_path, F_OK) == 0)))
		r = conf_load_file(conf, path ? path : conf->default_path, seen, err);
	memset(seen, 0, n * sizeof(*seen));
	if (r == 0)
		r = conf_flags(conf, argc, argv, seen, &path, ret_rest, err);
	free(seen);
	return r;
}

void conf_release(const struct conf *conf)
{
	for (const struct conf_option *o = conf->options; o->name; o++) {
		if (o->type == CONF_STRING) {
			free(*(char **)o->target);
			*(char **)o->target = NULL;
		} else if (o->type == CONF_LIST) {
			conf_list_clear(o->target);
		}
	}
}
