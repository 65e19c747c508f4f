/* Commands of recovery: backup, hold. */
#include <stdio.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/text.h"

int cmd_backup(struct cli *cli, int argc, char **argv)
{
	struct cairn_backup_info info;
	char size[TEXT_SIZE_BYTES];
	const char *path;
	int r;

	if (cli_option(cli, argc, argv, "", NULL) != -1 || optind != argc - 1)
		return cli_usage(cli);
	path = argv[optind];
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	r = cairn_backup(cli->fs, path, &info);
	if (r < 0)
		cli_complain_remote(cli, path, r);
	else if (strcmp(path, "-") == 0 || cli->quiet)
		; /* standard output is the backup */
	else if (cli->json)
		cli_print_json(cli, json_pack("{s:I, s:I, s:I}", "applied",
					      (json_int_t)info.applied, "rows",
					      (json_int_t)info.rows, "bytes",
					      (json_int_t)info.bytes));
	else
		printf("%s: %llu rows, %s, the state after entry %llu\n", path,
		       (unsigned long long)info.rows, text_size(info.bytes, size),
		       (unsigned long long)info.applied);
	return cli_status(cli);
}

int cmd_hold(struct cli *cli, int argc, char **argv)
{
	bool on;
	int r;

	if (cli_option(cli, argc, argv, "", NULL) != -1 || optind != argc - 1)
		return cli_usage(cli);
	on = strcmp(argv[optind], "on") == 0;
	if (!on && strcmp(argv[optind], "off") != 0)
		return cli_usage(cli);
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	r = cairn_hold(cli->fs, on);
	if (r < 0)
		cli_complain_remote(cli, argv[optind], r);
	return cli_status(cli);
}
