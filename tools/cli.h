/* What every command of `cairn` shares: the global options, the session, how failures are told. */
#ifndef CAIRN_TOOLS_CLI_H
#define CAIRN_TOOLS_CLI_H

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdatomic.h>

#include "client/cairn.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_NOT_UP = 3 };

struct command;

struct cli {
	const struct command *command; /* the one that runs */
	const char *master, *credentials; /* as given, or NULL */
	bool json, quiet;
	struct cairn *fs;	/* after cli_connect; closed by main */
	atomic_uint failures;	/* complaints so far */
	atomic_bool line_dirty; /* a progress line stands on the terminal */
};

struct command {
	const char *name;
	const char *args; /* synopsis after the name */
	const char *help;
	int (*run)(struct cli *cli, int argc, char **argv); /* argv[0]: the name. Exit status. */
};

/* The next option of a command as getopt_long (longs may be NULL), the global ones taken care of;
 * -1 at the end; '?' for a bad one (already told). */
int cli_option(struct cli *cli, int argc, char **argv, const char *shorts,
	       const struct option *longs);
/* Tells how the command is used; CLI_USAGE. */
int cli_usage(struct cli *cli);
/* Sets fs. 0, or CLI_FAILED with the reason told. */
int cli_connect(struct cli *cli);
/* Remote paths are absolute. When this one is not, says so and returns false. */
bool cli_remote_path(struct cli *cli, const char *path);

/* "cairn: COMMAND PATH: REASON", counted. Any thread. */
void cli_complain(struct cli *cli, const char *path, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The words for what a libcairn call of this thread answered: negative errno. */
const char *cli_reason(int r);
void cli_complain_remote(struct cli *cli, const char *path, int r);
/* CLI_OK or CLI_FAILED by the complaints, after flushing stdout. */
int cli_status(struct cli *cli);
/* Prints and frees (NULL: out of memory). */
void cli_print_json(struct cli *cli, json_t *value);
/* A name or path on standard output: as it is, or made harmless on a terminal. */
void cli_print_name(const char *name);

int cmd_put(struct cli *cli, int argc, char **argv);
int cmd_get(struct cli *cli, int argc, char **argv);
int cmd_cp(struct cli *cli, int argc, char **argv);
int cmd_ls(struct cli *cli, int argc, char **argv);
int cmd_stat(struct cli *cli, int argc, char **argv);
int cmd_cat(struct cli *cli, int argc, char **argv);
int cmd_mkdir(struct cli *cli, int argc, char **argv);
int cmd_rm(struct cli *cli, int argc, char **argv);
int cmd_mv(struct cli *cli, int argc, char **argv);
int cmd_ln(struct cli *cli, int argc, char **argv);
int cmd_chmod(struct cli *cli, int argc, char **argv);
int cmd_du(struct cli *cli, int argc, char **argv);
int cmd_df(struct cli *cli, int argc, char **argv);
int cmd_status(struct cli *cli, int argc, char **argv);
int cmd_drain(struct cli *cli, int argc, char **argv);
int cmd_remove(struct cli *cli, int argc, char **argv);
int cmd_backup(struct cli *cli, int argc, char **argv);
int cmd_hold(struct cli *cli, int argc, char **argv);
int cmd_fsck(struct cli *cli, int argc, char **argv);
int cmd_quota(struct cli *cli, int argc, char **argv);
int cmd_export(struct cli *cli, int argc, char **argv);
int cmd_locks(struct cli *cli, int argc, char **argv);
int cmd_ca(struct cli *cli, int argc, char **argv);
extern const char ca_usage[];
int cmd_local(struct cli *cli, int argc, char **argv);

#endif
