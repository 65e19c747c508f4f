#include "tools/local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char local_usage[] =
	"usage: cairn local up DIR [--chunkservers N] [--replicas N] [--masters N] [--mount MNT]\n"
	"                  [--plain] [--master-flag=FLAG]... [--chunkserver-flag=FLAG]...\n"
	"                  [--mount-option=OPT]...\n"
	"       cairn local down DIR\n"
	"       cairn local status DIR [--json]   (exit status 3: something is down)\n"
	"       cairn local env DIR\n"
	"Connections are TLS, with an authority made in DIR/ca; --plain: a shared key, unencrypted.\n"
	"\"{dir}\" in a FLAG is the directory of the server that gets it.\n";

enum {
	OPT_CHUNKSERVERS = 1, OPT_REPLICAS, OPT_MASTERS, OPT_MOUNT, OPT_MASTER_FLAG,
	OPT_CHUNKSERVER_FLAG, OPT_MOUNT_OPTION, OPT_PLAIN,
};

static const struct option up_longs[] = {
	{"chunkservers", required_argument, NULL, OPT_CHUNKSERVERS},
	{"replicas", required_argument, NULL, OPT_REPLICAS},
	{"masters", required_argument, NULL, OPT_MASTERS},
	{"mount", required_argument, NULL, OPT_MOUNT},
	{"master-flag", required_argument, NULL, OPT_MASTER_FLAG},
	{"chunkserver-flag", required_argument, NULL, OPT_CHUNKSERVER_FLAG},
	{"plain", no_argument, NULL, OPT_PLAIN},
	{"mount-option", required_argument, NULL, OPT_MOUNT_OPTION},
	{NULL, 0, NULL, 0},
};

static int usage(void)
{
	fputs(local_usage, stderr);
	return CLI_USAGE;
}

/* A number from 1 to max, or 0 after a complaint. */
static int number(struct cli *cli, const char *flag, const char *text, int max)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*end || end == text || n < 1 || n > max) {
		cli_complain(cli, flag, "\"%s\" is not a number from 1 to %d", text, max);
		return 0;
	}
	return (int)n;
}

static bool add_flag(struct cli *cli, struct local_flags *flags, const char *value)
{
	if (local_flags_add(flags, value) == 0)
		return true;
	cli_complain(cli, value, "too many flags (at most %d)", LOCAL_FLAGS_MAX);
	return false;
}

/* True when the option was good. */
static bool up_option(struct cli *cli, int option, struct local_up_options *o)
{
	switch (option) {
	case OPT_CHUNKSERVERS:
		return (o->chunkservers = number(cli, "--chunkservers", optarg,
						 LOCAL_CHUNKSERVERS_MAX)) > 0;
	case OPT_REPLICAS:
		return (o->replicas = number(cli, "--replicas", optarg, REPLICAS_MAX)) > 0;
	case OPT_MASTERS:
		if (strcmp(optarg, "1") != 0)
			cli_complain(cli, "--masters", "more than one master is not supported yet");
		return strcmp(optarg, "1") == 0;
	case OPT_PLAIN:
		o->plain = true;
		return true;
	case OPT_MOUNT:
		o->mount = optarg;
		return true;
	case OPT_MASTER_FLAG: return add_flag(cli, &o->master_flags, optarg);
	case OPT_CHUNKSERVER_FLAG: return add_flag(cli, &o->chunkserver_flags, optarg);
	case OPT_MOUNT_OPTION: return add_flag(cli, &o->mount_options, optarg);
	default: return usage() == CLI_OK;
	}
}

static int run_up(struct cli *cli, int argc, char **argv)
{
	struct local_up_options o = {0};
	int option, status = CLI_OK;

	while (status == CLI_OK && (option = cli_option(cli, argc, argv, "", up_longs)) != -1)
		if (!up_option(cli, option, &o))
			status = CLI_USAGE;
	if (status == CLI_OK)
		status = argc - optind == 1 ? local_up(cli, argv[optind], &o) : usage();
	local_flags_clear(&o.master_flags);
	local_flags_clear(&o.chunkserver_flags);
	local_flags_clear(&o.mount_options);
	return status;
}

int cmd_local(struct cli *cli, int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(struct cli *cli, const char *dir);
	} verbs[] = {{"down", local_down}, {"status", local_status}, {"env", local_env}};

	if (argc < 2)
		return usage();
	if (strcmp(argv[1], "up") == 0)
		return run_up(cli, argc - 1, argv + 1);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(argv[1], verbs[i].name) != 0)
			continue;
		if (cli_option(cli, argc - 1, argv + 1, "", NULL) != -1 || argc - 1 - optind != 1)
			return usage();
		return verbs[i].run(cli, argv[1 + optind]);
	}
	return usage();
}
