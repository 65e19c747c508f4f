#include "fuse/options.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/conf.h"

static const char usage_text[] =
	"usage: cairn-mount [MASTERS] MOUNTPOINT [-f] [-d] [-s] [-o option,...]\n"
	"Mounts a Cairn file system. MASTERS is host:port[,host:port...][:/]; without it, and\n"
	"without -o master=, CAIRN_MASTER or /etc/cairn/client.conf name the cluster.\n"
	"\n"
	"  -f                 stay in the foreground\n"
	"  -d                 foreground, with debug output\n"
	"  -s                 one thread (as mount.cairn: ignore unknown options)\n"
	"  -o master=LIST     the masters\n"
	"  -o credentials=PATH  the directory of a certificate, or the file of a shared key\n"
	"                     [CAIRN_CREDENTIALS]\n"
	"  -o timeout=TIME    limit of one operation [30s]\n"
	"  -o readahead=SIZE  per sequential stream, 0 for none [8M]\n"
	"  -o write_buffer=SIZE\n"
	"                     written data that may be held back, such as 64M [0: none]\n"
	"  -o write_buffer_age=TIME\n"
	"                     and for how long [1s]\n"
	"  -o log_level=LEVEL error, warn, info or debug [info]\n"
	"  -o log_file=PATH   where the daemon's log goes\n"
	"  -o core_dumps      allow core files and debuggers: they see the cluster's key\n"
	"  -o relatime, noatime, strictatime\n"
	"                     when reads set the time of access [relatime]\n"
	"  -o nolease         cache nothing: the master is asked for every name and attribute\n"
	"  -o ro,rw,allow_other,noexec,suid,dev,fsname=,auto_unmount,...\n"
	"                     as for every FUSE file system\n"
	"  -h, -V             this text; the version\n";

enum mount_key { KEY_HELP, KEY_VERSION, KEY_FOREGROUND, KEY_DEBUG, KEY_S, KEY_IGNORED,
		 KEY_RELATIME, KEY_NOATIME, KEY_STRICTATIME, KEY_RO, KEY_NOLEASE,
		 KEY_CORE_DUMPS };

struct parse {
	struct mount_options *o;
	bool helper; /* called by mount(8) */
	bool sloppy;
	bool help, version;
	char *positional[2];
	int n_positional;
	char *credentials, *masters, *timeout, *readahead, *buffer, *buffer_age, *log_level, *log_file, *fsname;
	struct err *err;
};

#define PARSE_OPT(template, member) {template, offsetof(struct parse, member), 0}

static const struct fuse_opt mount_templates[] = {
	PARSE_OPT("master=%s", masters),
	PARSE_OPT("credentials=%s", credentials),
	PARSE_OPT("timeout=%s", timeout),
	PARSE_OPT("readahead=%s", readahead),
	PARSE_OPT("write_buffer=%s", buffer),
	PARSE_OPT("write_buffer_age=%s", buffer_age),
	PARSE_OPT("log_level=%s", log_level),
	PARSE_OPT("log_file=%s", log_file),
	PARSE_OPT("fsname=%s", fsname),
	FUSE_OPT_KEY("-h", KEY_HELP),
	FUSE_OPT_KEY("--help", KEY_HELP),
	FUSE_OPT_KEY("-V", KEY_VERSION),
	FUSE_OPT_KEY("--version", KEY_VERSION),
	FUSE_OPT_KEY("-f", KEY_FOREGROUND),
	FUSE_OPT_KEY("-d", KEY_DEBUG),
	FUSE_OPT_KEY("debug", KEY_DEBUG),
	FUSE_OPT_KEY("-s", KEY_S),
	FUSE_OPT_KEY("relatime", KEY_RELATIME),
	FUSE_OPT_KEY("noatime", KEY_NOATIME),
	FUSE_OPT_KEY("strictatime", KEY_STRICTATIME),
	FUSE_OPT_KEY("ro", KEY_RO),
	FUSE_OPT_KEY("nolease", KEY_NOLEASE),
	FUSE_OPT_KEY("core_dumps", KEY_CORE_DUMPS),
	FUSE_OPT_KEY("-n", KEY_IGNORED),
	FUSE_OPT_KEY("-v", KEY_IGNORED),
	/* Ours to decide, and always so: see ops_init. */
	FUSE_OPT_KEY("default_permissions", KEY_IGNORED),
	FUSE_OPT_KEY("max_read=", KEY_IGNORED),
	FUSE_OPT_END,
};

void mount_masters_trim(char *masters)
{
	size_t n = strlen(masters);
	if (n >= 2 && strcmp(masters + n - 2, ":/") == 0)
		masters[n - 2] = '\0';
}

/* Lists end with NULL. */
static bool option_is_one_of(const char *option, const char *const *words,
			     const char *const *prefixes)
{
	for (; *words; words++)
		if (strcmp(option, *words) == 0)
			return true;
	for (; *prefixes; prefixes++)
		if (strncmp(option, *prefixes, strlen(*prefixes)) == 0)
			return true;
	return false;
}

bool mount_option_is_foreign(const char *option)
{
	static const char *const words[] = {"_netdev", "noauto", "auto", "user", "nouser", "users",
					    "owner", "group", "nofail", "defaults", NULL};
	static const char *const prefixes[] = {"x-", "X-", "comment=", "user=", NULL};

	return option_is_one_of(option, words, prefixes);
}

/* What libfuse takes: only used to know what a sloppy call may drop. */
static bool option_is_fuse(const char *option)
{
	static const char *const words[] = {
		"ro", "rw", "allow_other", "allow_root", "auto_unmount", "suid", "nosuid", "dev",
		"nodev", "exec", "noexec", "atime", "noatime", "sync", "async", "dirsync", NULL};
	static const char *const prefixes[] = {"subtype=", "context=", "fscontext=",
					       "defcontext=", "rootcontext=", NULL};

	return option_is_one_of(option, words, prefixes);
}

/* libfuse's callback: -1 error, 0 drop, 1 keep for libfuse. */
static int parse_positional(struct parse *p, const char *arg)
{
	if (p->n_positional == 2) {
		err_set(p->err, ERR_CONFIG, "%s: unexpected argument", arg);
		return -1;
	}
	p->positional[p->n_positional] = strdup(arg);
	if (!p->positional[p->n_positional]) {
		err_set(p->err, ERR_NOMEM, "out of memory");
		return -1;
	}
	p->n_positional++;
	return 0;
}

static int parse_option(struct parse *p, const char *arg)
{
	if (arg[0] == '-') {
		err_set(p->err, ERR_CONFIG, "%s: unknown option", arg);
		return -1;
	}
	if (mount_option_is_foreign(arg) || (p->sloppy && !option_is_fuse(arg)))
		return 0;
	if (!option_is_fuse(arg)) {
		err_set(p->err, ERR_CONFIG, "-o %s: unknown option", arg);
		return -1;
	}
	return 1;
}

static int parse_arg(void *data, const char *arg, int key, struct fuse_args *outargs)
{
	struct parse *p = data;

	switch (key) {
	case FUSE_OPT_KEY_NONOPT: return parse_positional(p, arg);
	case FUSE_OPT_KEY_OPT: return parse_option(p, arg);
	case KEY_HELP: p->help = true; break;
	case KEY_VERSION: p->version = true; break;
	case KEY_FOREGROUND: p->o->foreground = true; break;
	case KEY_DEBUG: p->o->debug = p->o->foreground = true; break;
	case KEY_RELATIME: p->o->atime = CAIRN_ATIME_RELATIVE; break;
	case KEY_STRICTATIME: p->o->atime = CAIRN_ATIME_STRICT; break;
	case KEY_NOATIME: p->o->atime = CAIRN_ATIME_NONE; return 1;
	case KEY_NOLEASE: p->o->no_lease = true; break;
	case KEY_CORE_DUMPS: p->o->core_dumps = true; break;
	case KEY_RO: p->o->read_only = true; return 1;
	case KEY_S: /* known in advance: see parse_init */
		p->o->single_thread = !p->helper;
		break;
	default: break;
	}
	return 0;
}

static void parse_init(struct parse *p, int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');

	p->helper = strncmp(slash ? slash + 1 : argv[0], "mount.", 6) == 0;
	/* -s may come after the -o it is about. */
	for (int i = 1; i < argc; i++)
		if (p->helper && strcmp(argv[i], "-s") == 0)
			p->sloppy = true;
}

/* NULL: not given. 0 becomes -1: none. */
static int parse_bytes(const char *name, const char *text, int64_t *ret, struct err *err)
{
	if (!text)
		return 0;
	if (conf_parse_size(text, ret) < 0)
		return err_set(err, ERR_CONFIG, "-o %s=%s: not a size such as 4M", name, text);
	if (*ret == 0)
		*ret = -1;
	return 0;
}

static int parse_values(struct parse *p, struct err *err)
{
	struct mount_options *o = p->o;

	if (p->timeout && (conf_parse_time(p->timeout, &o->timeout_ms) < 0 || o->timeout_ms == 0))
		return err_set(err, ERR_CONFIG, "-o timeout=%s: not a time such as 5s", p->timeout);
	if (parse_bytes("readahead", p->readahead, &o->readahead_bytes, err) < 0 ||
	    parse_bytes("write_buffer", p->buffer, &o->write_buffer_bytes, err) < 0)
		return ERR_CONFIG;
	if (p->buffer_age &&
	    (conf_parse_time(p->buffer_age, &o->write_buffer_ms) < 0 || o->write_buffer_ms == 0))
		return err_set(err, ERR_CONFIG, "-o write_buffer_age=%s: not a time such as 1s",
			       p->buffer_age);
	o->log_level = o->debug ? LOG_DEBUG : LOG_INFO;
	if (p->log_level && log_level_parse(p->log_level, &o->log_level) < 0)
		return err_set(err, ERR_CONFIG, "-o log_level=%s: not error, warn, info or debug",
			       p->log_level);
	return 0;
}

static int parse_places(struct parse *p, struct err *err)
{
	struct mount_options *o = p->o;
	char *mountpoint;

	if (p->n_positional == 0)
		return err_set(err, ERR_CONFIG, "no mount point given (try -h)");
	mountpoint = p->positional[p->n_positional - 1];
	o->mountpoint = realpath(mountpoint, NULL);
	if (!o->mountpoint)
		return err_set_errno(err, errno, "mount point %s", mountpoint);
	if (p->n_positional == 2) {
		free(p->masters);
		p->masters = p->positional[0];
		p->positional[0] = NULL;
	}
	if (p->masters)
		mount_masters_trim(p->masters);
	o->masters = p->masters;
	o->credentials = p->credentials;
	o->log_file = p->log_file;
	o->fsname = p->fsname;
	p->masters = p->credentials = p->log_file = p->fsname = NULL;
	return 0;
}

int mount_options_fuse_args(struct mount_options *o, const char *masters, struct err *err)
{
	struct fuse_args *args = &o->args;
	char fixed[128];
	_cleanup_free_ char *fsname = NULL;
	_cleanup_free_ char *list = NULL;

	snprintf(fixed, sizeof(fixed), "default_permissions,max_read=%d,subtype=cairn",
		 MOUNT_IO_BYTES);
	if (asprintf(&fsname, "fsname=%s", o->fsname ? o->fsname : masters) < 0) {
		fsname = NULL;
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	/* The user's own subtype= comes later in the list and wins. */
	if (fuse_opt_add_opt_escaped(&list, fsname) < 0 ||
	    fuse_opt_insert_arg(args, 1, list) < 0 || fuse_opt_insert_arg(args, 1, "-o") < 0 ||
	    fuse_opt_insert_arg(args, 1, fixed) < 0 || fuse_opt_insert_arg(args, 1, "-o") < 0 ||
	    (o->debug && fuse_opt_insert_arg(args, 1, "-d") < 0))
		return err_set(err, ERR_NOMEM, "out of memory");
	return 0;
}

static void parse_release(struct parse *p)
{
	free(p->positional[0]);
	free(p->positional[1]);
	free(p->credentials);
	free(p->masters);
	free(p->timeout);
	free(p->readahead);
	free(p->buffer);
	free(p->buffer_age);
	free(p->log_level);
	free(p->log_file);
	free(p->fsname);
}

int mount_options_parse(int argc, char **argv, struct mount_options *ret, struct err *err)
{
	struct parse p = {.o = ret, .err = err};
	int r = 0;

	*ret = (struct mount_options){.args = FUSE_ARGS_INIT(argc, argv),
				      .atime = CAIRN_ATIME_RELATIVE};
	err_clear(err);
	parse_init(&p, argc, argv);
	if (fuse_opt_parse(&ret->args, &p, mount_templates, parse_arg) < 0)
		r = err && err->code ? err->code : err_set(err, ERR_CONFIG, "bad options (try -h)");
	if (r == 0 && (p.help || p.version)) {
		if (p.help)
			fputs(usage_text, stdout);
		else
			printf("cairn-mount %s\n", CAIRN_VERSION);
		r = 1;
	}
	if (r == 0)
		r = parse_values(&p, err);
	if (r == 0)
		r = parse_places(&p, err);
	parse_release(&p);
	if (r < 0)
		mount_options_release(ret);
	return r;
}

void mount_options_release(struct mount_options *o)
{
	free(o->masters);
	free(o->credentials);
	free(o->mountpoint);
	free(o->log_file);
	free(o->fsname);
	fuse_opt_free_args(&o->args);
	*o = (struct mount_options){0};
}
