/* cairn ca: the cluster's certificate authority (tools/ca.h). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/conf.h"
#include "tools/ca.h"
#include "tools/cli.h"
#include "tools/text.h"

static const char ca_default_dir[] = "/etc/cairn/ca";
const char ca_usage[] =
	"usage: cairn ca init\n"
	"       cairn ca issue --role master|chunkserver|client|admin --name NAME\n"
	"                [--host NAME-OR-ADDRESS]... [--export EXPORT] [--lifetime TIME] [--out DIR]\n"
	"       cairn ca list [--json]\n"
	"       cairn ca revoke NAME|ROLE/NAME|SERIAL\n"
	"       cairn ca renew NAME|ROLE/NAME|SERIAL... [--lifetime TIME]\n"
	"       cairn ca renew --all [--within TIME] [--lifetime TIME]\n"
	"The authority is in --ca DIR [/etc/cairn/ca]. `issue` makes a credentials directory\n"
	"(DIR/issued/ROLE-NAME, or --out) to be copied to where it is used. A server is issued for the\n"
	"names and addresses it is dialled by (--host; else NAME). A client that is issued for an EXPORT\n"
	"(cairn export) sees nothing else. TIME: 365d, 12h, 30s.\n";

enum { OPT_CA = 1, OPT_ROLE, OPT_NAME, OPT_HOST, OPT_EXPORT, OPT_LIFETIME, OPT_OUT, OPT_ALL,
       OPT_WITHIN };

static const struct option ca_longs[] = {
	{"ca", required_argument, NULL, OPT_CA},
	{"role", required_argument, NULL, OPT_ROLE},
	{"name", required_argument, NULL, OPT_NAME},
	{"host", required_argument, NULL, OPT_HOST},
	{"export", required_argument, NULL, OPT_EXPORT},
	{"lifetime", required_argument, NULL, OPT_LIFETIME},
	{"out", required_argument, NULL, OPT_OUT},
	{"all", no_argument, NULL, OPT_ALL},
	{"within", required_argument, NULL, OPT_WITHIN},
	{NULL, 0, NULL, 0},
};

struct ca_args {
	struct cli *cli;
	const char *verb, *dir;
	const char *role, *name, *export, *out;
	const char *hosts[CA_HOSTS_MAX];
	size_t n_hosts;
	int64_t lifetime_s, within_s; /* 0: not given */
	bool all;
	int64_t now_s;
	char **rest; /* what is no option */
	int n_rest;
};

static int usage(void)
{
	fputs(ca_usage, stderr);
	return CLI_USAGE;
}

static const char *date(int64_t s, char *ret, size_t room)
{
	time_t t = (time_t)s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || strftime(ret, room, "%Y-%m-%d %H:%M:%SZ", &tm) == 0)
		snprintf(ret, room, "?");
	return ret;
}

static void tell_issued(const struct ca_args *a, const struct ca_entry *e)
{
	char until[32];

	if (!a->cli->quiet)
		printf("%s/%s: good until %s, serial %s, in %s\n", identity_role_name(e->id.role),
		       e->id.name, date(e->until_s, until, sizeof(until)), e->serial, e->out);
}

/* ---- the verbs: 0 or negative ---- */

static int ca_do_init(struct ca_args *a, struct err *err)
{
	int r = ca_init(a->dir, a->now_s, err);

	if (r == 0 && !a->cli->quiet)
		printf("Authority in %s. Whoever can read ca.key there can be anybody in the cluster.\n",
		       a->dir);
	return r;
}

static int ca_do_issue(struct ca_args *a, struct ca *ca, struct err *err)
{
	struct ca_request req = {
		.role = a->role ? identity_role_parse(a->role) : 0, .name = a->name ? a->name : "",
		.export = a->export, .hosts = a->hosts, .n_hosts = a->n_hosts, .now_s = a->now_s,
		.lifetime_s = a->lifetime_s ? a->lifetime_s : (int64_t)CA_ISSUE_DAYS * CA_DAY_S,
		.out = a->out,
	};
	const struct ca_entry *e;
	int r = ca_issue(ca, &req, &e, err);

	if (r == 0)
		tell_issued(a, e);
	return r;
}

static json_t *entry_json(const struct ca_entry *e, int64_t now_s)
{
	json_t *hosts = json_array();

	for (size_t i = 0; i < e->n_hosts; i++)
		json_array_append_new(hosts, json_string(e->hosts[i]));
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:I, s:I}", "serial", e->serial, "role",
			 identity_role_name(e->id.role), "name", e->id.name, "export", e->id.export,
			 "hosts", hosts, "state", ca_entry_state(e, now_s), "from",
			 (json_int_t)e->from_s, "until", (json_int_t)e->until_s);
}

static int ca_do_list(struct ca_args *a, const struct ca *ca)
{
	json_t *rows = a->cli->json ? json_array() : NULL;
	char until[32];

	if (!rows)
		printf("%-11s %-24s %-8s %-20s %5s  %s\n", "ROLE", "NAME", "STATE", "UNTIL", "DAYS",
		       "SERIAL");
	for (size_t i = 0; i < ca->n; i++) {
		const struct ca_entry *e = &ca->entries[i];
		int64_t left = e->until_s - a->now_s;
		if (rows)
			json_array_append_new(rows, entry_json(e, a->now_s));
		else
			printf("%-11s %-24s %-8s %-20s %5" PRId64 "  %s\n",
			       identity_role_name(e->id.role), e->id.name,
			       ca_entry_state(e, a->now_s), date(e->until_s, until, sizeof(until)),
			       left > 0 ? left / CA_DAY_S : 0, e->serial);
	}
	if (rows)
		cli_print_json(a->cli, json_pack("{s:s, s:o}", "cluster", ca->cluster, "issued", rows));
	return 0;
}

static int ca_do_revoke(struct ca_args *a, struct ca *ca, struct err *err)
{
	unsigned n = 0;
	int r = ca_revoke(ca, a->rest[0], a->now_s, &n, err);

	if (r < 0 || a->cli->quiet)
		return r;
	if (n == 0)
		printf("%s was revoked before: the list is written again.", a->rest[0]);
	else
		printf("%u certificate%s revoked.", n, n == 1 ? "" : "s");
	printf(" Copy %s/crl.pem into the credentials directory of every server; they look at it every "
	       "few seconds, and at once on SIGHUP.\n", ca->dir);
	return r;
}

static int renew_one(struct ca_args *a, struct ca *ca, size_t index, struct err *err)
{
	const struct ca_entry *e;
	int r = ca_renew(ca, index, a->now_s, a->lifetime_s, &e, err);

	if (r == 0)
		tell_issued(a, e);
	return r;
}

static int ca_do_renew(struct ca_args *a, struct ca *ca, struct err *err)
{
	int64_t within = a->within_s ? a->within_s : (int64_t)CA_SOON_DAYS * CA_DAY_S;
	size_t n = ca->n, index;
	int r = 0;

	for (int i = 0; r == 0 && i < a->n_rest; i++) {
		r = ca_find(ca, a->rest[i], a->now_s, &index, err);
		if (r == 0)
			r = renew_one(a, ca, index, err);
	}
	/* What a renewal adds is at the end, and not looked at. */
	for (size_t i = 0; r == 0 && a->all && i < n; i++)
		if (strcmp(ca_entry_state(&ca->entries[i], a->now_s), "valid") == 0 &&
		    ca->entries[i].until_s - a->now_s <= within)
			r = renew_one(a, ca, i, err);
	return r;
}

/* ---- arguments ---- */

static bool take_time(struct ca_args *a, const char *flag, int64_t *ret_s)
{
	int64_t ms;

	if (conf_parse_time(optarg, &ms) == 0 && ms >= 1000) {
		*ret_s = ms / 1000;
		return true;
	}
	cli_complain(a->cli, flag, "\"%s\" is not a time such as 365d, 12h or 30s", optarg);
	return false;
}

static bool ca_option(struct ca_args *a, int option)
{
	switch (option) {
	case OPT_CA: a->dir = optarg; return true;
	case OPT_ROLE: a->role = optarg; return true;
	case OPT_NAME: a->name = optarg; return true;
	case OPT_EXPORT: a->export = optarg; return true;
	case OPT_OUT: a->out = optarg; return true;
	case OPT_ALL: a->all = true; return true;
	case OPT_LIFETIME: return take_time(a, "--lifetime", &a->lifetime_s);
	case OPT_WITHIN: return take_time(a, "--within", &a->within_s);
	case OPT_HOST:
		if (a->n_hosts == CA_HOSTS_MAX) {
			cli_complain(a->cli, "--host", "more than %d", CA_HOSTS_MAX);
			return false;
		}
		a->hosts[a->n_hosts++] = optarg;
		return true;
	default: return usage() == CLI_OK;
	}
}

static bool args_fit(const struct ca_args *a)
{
	if (strcmp(a->verb, "issue") == 0)
		return a->n_rest == 0 && a->role && a->name;
	if (strcmp(a->verb, "revoke") == 0)
		return a->n_rest == 1;
	if (strcmp(a->verb, "renew") == 0)
		return a->all ? a->n_rest == 0 : a->n_rest > 0;
	return a->n_rest == 0 && (strcmp(a->verb, "init") == 0 || strcmp(a->verb, "list") == 0);
}

static int ca_run(struct ca_args *a, struct err *err)
{
	struct ca ca;
	int r;

	if (strcmp(a->verb, "init") == 0)
		return ca_do_init(a, err);
	r = ca_open(a->dir, &ca, err);
	if (r < 0)
		return r;
	if (strcmp(a->verb, "issue") == 0)
		r = ca_do_issue(a, &ca, err);
	else if (strcmp(a->verb, "revoke") == 0)
		r = ca_do_revoke(a, &ca, err);
	else if (strcmp(a->verb, "renew") == 0)
		r = ca_do_renew(a, &ca, err);
	else
		r = ca_do_list(a, &ca);
	ca_close(&ca);
	return r;
}

int cmd_ca(struct cli *cli, int argc, char **argv)
{
	struct ca_args a = {.cli = cli, .dir = ca_default_dir, .now_s = (int64_t)time(NULL)};
	struct err err = {0};
	int option;

	while ((option = cli_option(cli, argc, argv, "", ca_longs)) != -1)
		if (!ca_option(&a, option))
			return CLI_USAGE;
	if (optind == argc)
		return usage();
	a.verb = argv[optind];
	a.rest = argv + optind + 1;
	a.n_rest = argc - optind - 1;
	if (!args_fit(&a))
		return usage();
	if (ca_run(&a, &err) < 0)
		cli_complain(cli, a.verb, "%s", err_message(&err));
	return cli_status(cli);
}
