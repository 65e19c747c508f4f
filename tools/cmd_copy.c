#include <stdlib.h>
#include <string.h>

#include "tools/copy.h"

/* Sets recursive and workers; 0 or the exit status. */
static int copy_options(struct cli *cli, int argc, char **argv, struct copy_request *ret)
{
	static const struct option longs[] = {{"recursive", no_argument, NULL, 'r'},
					      {"jobs", required_argument, NULL, 'j'},
					      {NULL, 0, NULL, 0}};
	int option;

	while ((option = cli_option(cli, argc, argv, "rRj:", longs)) != -1) {
		char *end;
		unsigned long n;
		switch (option) {
		case 'r': case 'R':
			ret->recursive = true;
			break;
		case 'j':
			n = strtoul(optarg, &end, 10);
			if (*end || n < 1 || n > COPY_WORKERS_MAX) {
				cli_complain(cli, "-j", "not a number from 1 to %d",
					     COPY_WORKERS_MAX);
				return CLI_USAGE;
			}
			ret->workers = (unsigned)n;
			break;
		default:
			return cli_usage(cli);
		}
	}
	return argc - optind < 2 ? cli_usage(cli) : 0;
}

static int run(struct cli *cli, int argc, char **argv, bool from_remote, bool to_remote)
{
	struct copy_request request = {.cli = cli, .workers = COPY_WORKERS_DEFAULT};
	struct side local, remote;
	int status = copy_options(cli, argc, argv, &request);

	if (status != 0)
		return status;
	for (int i = optind; i < argc; i++)
		if ((i == argc - 1 ? to_remote : from_remote) && !cli_remote_path(cli, argv[i]))
			return CLI_USAGE;
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	side_init_local(&local);
	side_init_remote(&remote, cli->fs);
	request.from = from_remote ? &remote : &local;
	request.to = to_remote ? &remote : &local;
	return copy_run(&request, argv + optind, argc - optind - 1, argv[argc - 1]);
}

int cmd_put(struct cli *cli, int argc, char **argv)
{
	return run(cli, argc, argv, false, true);
}

int cmd_get(struct cli *cli, int argc, char **argv)
{
	return run(cli, argc, argv, true, false);
}

int cmd_cp(struct cli *cli, int argc, char **argv)
{
	return run(cli, argc, argv, true, true);
}
