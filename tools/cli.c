#include "tools/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/cluster.h"
#include "tools/text.h"

enum { OPTIONS_MAX = 24, OPT_MASTER = 1000, OPT_CREDENTIALS, OPT_JSON, OPT_QUIET };

static const struct option global_options[] = {
	{"master", required_argument, NULL, OPT_MASTER},
	{"credentials", required_argument, NULL, OPT_CREDENTIALS},
	{"json", no_argument, NULL, OPT_JSON},
	{"quiet", no_argument, NULL, OPT_QUIET},
};

static bool global_option(struct cli *cli, int option)
{
	switch (option) {
	case OPT_MASTER: cli->master = optarg; return true;
	case OPT_CREDENTIALS: cli->credentials = optarg; return true;
	case OPT_JSON: cli->json = true; return true;
	case OPT_QUIET: cli->quiet = true; return true;
	default: return false;
	}
}

int cli_option(struct cli *cli, int argc, char **argv, const char *shorts,
	       const struct option *longs)
{
	struct option all[OPTIONS_MAX] = {0};
	size_t n = ARRAY_LEN(global_options);
	int option;

	memcpy(all, global_options, sizeof(global_options));
	for (; longs && longs->name && n < OPTIONS_MAX - 1; longs++)
		all[n++] = *longs;
	do {
		option = getopt_long(argc, argv, shorts, all, NULL);
	} while (global_option(cli, option));
	return option;
}

int cli_usage(struct cli *cli)
{
	fprintf(stderr, "usage: cairn %s %s\n", cli->command->name, cli->command->args);
	return CLI_USAGE;
}

int cli_connect(struct cli *cli)
{
	struct cluster cluster;
	struct err err = {0};
	char reason[512] = "";
	int r;

	if (cluster_find("cairn", cli->master, cli->credentials, &cluster, &err) < 0) {
		fprintf(stderr, "cairn: %s\n", err_message(&err));
		return CLI_FAILED;
	}
	struct cairn_options options = {.masters = cluster.masters, .credentials = cluster.credentials,
					.allow_plaintext = cluster.allow_plaintext,
					.timeout_ms = cluster.timeout_ms,
					.readahead_bytes = cluster.readahead_bytes};
	r = cairn_connect(&options, &cli->fs, reason, sizeof(reason));
	if (r < 0)
		fprintf(stderr, "cairn: %s\n", reason);
	cluster_release(&cluster);
	return r < 0 ? CLI_FAILED : CLI_OK;
}

bool cli_remote_path(struct cli *cli, const char *path)
{
	if (path[0] == '/')
		return true;
	cli_complain(cli, path, "paths in the cluster begin with \"/\"");
	return false;
}

void cli_complain(struct cli *cli, const char *path, const char *fmt, ...)
{
	_cleanup_buf_ struct buf line = {0};
	char reason[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	if (atomic_exchange(&cli->line_dirty, false))
		buf_printf(&line, "\r\033[K");
	buf_printf(&line, "cairn: %s ", cli->command->name);
	if (isatty(STDERR_FILENO))
		text_printable(&line, path);
	else
		buf_printf(&line, "%s", path);
	buf_printf(&line, ": %s\n", reason);
	/* One call, so that lines of several threads never mix. */
	fputs(buf_str(&line), stderr);
	atomic_fetch_add(&cli->failures, 1);
}

const char *cli_reason(int r)
{
	/* For ordinary answers the system's words; for others libcairn knows which server, or why; of what
	 * was refused the master says what is missing. */
	switch (-r) {
	case EPERM:
	case EIO: case ESTALE: case ETIMEDOUT: case EPROTO: case EPROTONOSUPPORT: case EBUSY:
		return cairn_error();
	default:
		return strerror(-r);
	}
}

void cli_complain_remote(struct cli *cli, const char *path, int r)
{
	cli_complain(cli, path, "%s", cli_reason(r));
}

int cli_status(struct cli *cli)
{
	if (fflush(stdout) != 0 || ferror(stdout))
		cli_complain(cli, "standard output", "%s", strerror(errno));
	return atomic_load(&cli->failures) ? CLI_FAILED : CLI_OK;
}

void cli_print_json(struct cli *cli, json_t *value)
{
	if (!value || json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) != 0)
		cli_complain(cli, "standard output", "cannot write JSON");
	else
		putchar('\n');
	json_decref(value);
}

void cli_print_name(const char *name)
{
	_cleanup_buf_ struct buf text = {0};

	if (!isatty(STDOUT_FILENO)) {
		fputs(name, stdout);
		return;
	}
	text_printable(&text, name);
	fputs(buf_str(&text), stdout);
}
