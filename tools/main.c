/* cairn: the command line of a cluster. A command is a row of the table and a function. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "tools/cli.h"

static const struct command commands[] = {
	{"put", "[-r] [-j N] SRC... /DST", "copy local files into the cluster", cmd_put},
	{"get", "[-r] [-j N] /SRC... DST", "copy files out of the cluster", cmd_get},
	{"ls", "[-l] [-a] [/PATH...]", "list directories", cmd_ls},
	{"stat", "/PATH...", "show attributes, chunks and where their copies are", cmd_stat},
	{"cat", "/PATH...", "write files to standard output", cmd_cat},
	{"mkdir", "[-p] /PATH...", "make directories", cmd_mkdir},
	{"rm", "[-r] [-f] /PATH...", "remove files and trees", cmd_rm},
	{"mv", "/SRC... /DST", "rename or move", cmd_mv},
	{"cp", "[-r] [-j N] /SRC... /DST", "copy inside the cluster", cmd_cp},
	{"ln", "[-s] TARGET /NAME", "make a hard or symbolic link", cmd_ln},
	{"chmod", "MODE /PATH...", "set permissions (octal)", cmd_chmod},
	{"du", "[-s] [-h] [/PATH...]", "space used by trees, in KiB", cmd_du},
	{"df", "[-h]", "space of the cluster, in KiB", cmd_df},
	{"status", "", "state of the master and of each server", cmd_status},
	{"drain", "[--wait|--cancel] SERVER", "empty a server (its number, address or uuid)",
	 cmd_drain},
	{"remove", "SERVER", "take a server off the list: drained and stopped, or lost", cmd_remove},
	{"fsck", "[/PATH...]", "files whose chunks lack copies, are damaged or are missing", cmd_fsck},
	{"backup", "FILE", "write the metadata to a local file (for cairn-master --import)",
	 cmd_backup},
	{"hold", "on|off", "after an import: whether what the metadata does not know is kept",
	 cmd_hold},
	{"quota", "set|get|list|remove [PATH]", "limits of directories: --bytes N[KMGTP], --inodes N",
	 cmd_quota},
	{"export", "add NAME PATH|set NAME|list|remove NAME", "directories with credentials of their own:\n"
	 "                                             --ro --rw --root-squash --all-squash\n"
	 "                                             --no-root-squash --anon UID:GID --sessions N\n"
	 "                                             --rate N", cmd_export},
	{"locks", "", "locks of all clients on files, and who waits for one", cmd_locks},
	{"ca", "init|issue|list|revoke|renew ...", "the cluster's certificate authority", cmd_ca},
	{"local", "up|down|status|env DIR [options]", "a whole cluster on this machine",
	 cmd_local},
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void help(FILE *out)
{
	fprintf(out, "usage: cairn [--master HOST:PORT[,...]] [--credentials PATH] [--json] [--quiet] "
		     "COMMAND ...\n\n");
	for (int i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-7s %-34s %s\n", commands[i].name, commands[i].args,
			commands[i].help);
	fprintf(out,
		"\nPaths in the cluster are absolute. The cluster is found by --master and\n"
		"--credentials (the directory of a certificate, or the file of a shared key), else\n"
		"CAIRN_MASTER and CAIRN_CREDENTIALS, else /etc/cairn/client.conf.\n"
		"--json: output for programs of ls, stat, du, df, status, drain, fsck,\n"
		"backup, quota, export, locks and local. A name that\n"
		"is not UTF-8 has U+FFFD for each bad byte and stands in full in NAME_hex beside it.\n"
		"cairn COMMAND --help tells about one command.\n"
		"Exit status: 0 done, 1 something failed, 2 bad usage. Of fsck: 0 all copies are there\n"
		"and good, 1 some are not, 3 a chunk has no good copy, 4 it could not be found out.\n");
}

static const struct command *find_command(const char *name)
{
	for (int i = 0; i < N_COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/* Whether a command's own help is asked for. A file of that name is written ./--help, or after "--". */
static bool wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0)
			return true;
	return false;
}

static void command_help(const struct command *c)
{
	if (c->run == cmd_ca) { /* one line would not tell enough */
		fputs(ca_usage, stdout);
		return;
	}
	printf("usage: cairn %s %s\n\n%c%s.\n\n"
	       "Also: --master HOST:PORT[,...], --credentials PATH, --json, --quiet (see cairn --help).\n",
	       c->name, c->args, toupper((unsigned char)c->help[0]), c->help + 1);
}

/* The options before the command's name. -1: go on; else the exit status. */
static int global_options(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"help", no_argument, NULL, 'h'},
					      {"version", no_argument, NULL, 'V'},
					      {NULL, 0, NULL, 0}};
	int option;

	while ((option = cli_option(cli, argc, argv, "+hVq", longs)) != -1) {
		switch (option) {
		case 'h': help(stdout); return CLI_OK;
		case 'V': printf("cairn %s\n", cairn_version()); return CLI_OK;
		case 'q': cli->quiet = true; break;
		default: fprintf(stderr, "try: cairn --help\n"); return CLI_USAGE;
		}
	}
	return -1;
}

int main(int argc, char **argv)
{
	static const struct command none = {.name = "", .args = "COMMAND ..."};
	struct cli cli = {.command = &none};
	int status = global_options(&cli, argc, argv);

	if (status >= 0)
		return status;
	if (optind == argc) {
		help(stderr);
		return CLI_USAGE;
	}
	argc -= optind;
	argv += optind;
	if (strcmp(argv[0], "help") == 0) {
		help(stdout);
		return CLI_OK;
	}
	cli.command = find_command(argv[0]);
	if (!cli.command) {
		fprintf(stderr, "cairn: %s: no such command (try cairn --help)\n", argv[0]);
		return CLI_USAGE;
	}
	if (wants_help(argc, argv)) {
		command_help(cli.command);
		return cli_status(&cli);
	}
	optind = 0; /* glibc: start over */
	status = cli.command->run(&cli, argc, argv);
	cairn_disconnect(cli.fs);
	return status;
}
