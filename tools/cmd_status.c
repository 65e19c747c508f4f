/* cairn status: how the cluster and its servers are. cairn drain: emptying one of them.
 * cairn remove: taking it off the list. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/cli.h"
#include "tools/text.h"

enum { COPIES = sizeof(((struct cairn_status *)0)->queue) / sizeof(uint64_t) };

static const char *state_word(const struct cairn_server_info *v)
{
	switch (v->state) {
	case CAIRN_SERVER_UP: return "up";
	case CAIRN_SERVER_SUSPECT: return "suspect";
	case CAIRN_SERVER_REPORTING: return "reporting";
	default: return "down";
	}
}

/* ---- status ---- */

static json_t *progress_json(const struct cairn_progress *p)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "checked", (json_int_t)p->checked, "total",
			 (json_int_t)p->total, "bad", (json_int_t)p->bad, "rounds",
			 (json_int_t)p->rounds, "ended", (json_int_t)p->ended.tv_sec);
}

static json_t *server_json(const struct cairn_server_info *v)
{
	return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:i, s:i, "
			 "s:I, s:o}", "id", (int)v->id, "state", state_word(v), "addr", v->addr, "rack",
			 v->rack, "host", v->host, "uuid", v->uuid, "draining", v->draining,
			 "members", (json_int_t)v->members, "silent_ms",
			 (json_int_t)v->silent_ms, "total_bytes", (json_int_t)v->total_bytes,
			 "free_bytes", (json_int_t)v->free_bytes, "chunks", (json_int_t)v->chunks,
			 "disks", (int)v->disks, "disks_bad", (int)v->disks_bad, "refused",
			 (json_int_t)v->refused, "scrub", progress_json(&v->scrub));
}

static json_t *status_json(const struct cairn_status *s)
{
	json_t *servers = json_array(), *queue = json_array();

	for (size_t i = 0; i < s->n_servers; i++)
		json_array_append_new(servers, server_json(&s->servers[i]));
	for (size_t i = 0; i < COPIES; i++)
		json_array_append_new(queue, json_integer((json_int_t)s->queue[i]));
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:I, s:i, s:b, s:i, s:i, s:o, "
			 "s:o, s:o}", "cluster", s->cluster, "applied", (json_int_t)s->applied,
			 "durable", (json_int_t)s->durable, "inodes", (json_int_t)s->inodes,
			 "chunks", (json_int_t)s->chunks, "chunks_under_goal",
			 (json_int_t)s->chunks_under_goal, "chunks_pending",
			 (json_int_t)s->chunks_pending, "garbage", (json_int_t)s->garbage,
			 "sessions", (int)s->sessions, "leases", (json_int_t)s->leases,
			 "links", (int)s->links, "held", s->held, "repairs",
			 (int)s->repairs, "moves", (int)s->moves, "queue", queue, "compare",
			 progress_json(&s->compare), "servers", servers);
}

static void repair_print(const struct cairn_status *s)
{
	const char *between = "; waiting, by live copies:";

	printf("Chunks being mended: %u; being moved: %u", s->repairs, s->moves);
	for (size_t i = 0; i < COPIES; i++) {
		if (s->queue[i] == 0)
			continue;
		printf("%s %zu: %llu", between, i, (unsigned long long)s->queue[i]);
		between = ",";
	}
	putchar('\n');
}

/* "Scrubbing: 12 of 400 chunks read in this round, 0 bad, last round ended ..." */
static void progress_print(const char *what, const char *done, const struct cairn_progress *p)
{
	char time[TEXT_TIME_BYTES];

	printf("%s: %llu of %llu chunks %s in this round, %llu bad", what,
	       (unsigned long long)p->checked, (unsigned long long)p->total, done,
	       (unsigned long long)p->bad);
	if (p->rounds)
		printf(", last round ended %s", text_time(p->ended, time));
	else
		printf(", no round ended yet");
}

static void server_print(const struct cairn_server_info *v)
{
	char total[TEXT_SIZE_BYTES], avail[TEXT_SIZE_BYTES];

	printf("%6u %-10s %-22s %8s %8s %10llu %u", v->id, state_word(v), v->addr,
	       text_size(v->total_bytes, total), text_size(v->free_bytes, avail),
	       (unsigned long long)v->chunks, v->disks);
	if (v->disks_bad)
		printf(" (%u bad)", v->disks_bad);
	if (v->state != CAIRN_SERVER_UP)
		printf(", silent for %.1f s", (double)v->silent_ms / 1000);
	if (v->draining)
		printf(", draining: %llu chunks left", (unsigned long long)v->members);
	if (v->refused)
		printf(", %llu requests refused for want of a token", (unsigned long long)v->refused);
	if (v->scrub.total || v->scrub.rounds)
		progress_print(", scrubbing", "read", &v->scrub);
	putchar('\n');
}

static void status_print(const struct cairn_status *s)
{
	printf("Cluster %s: %llu inodes, %llu chunks, %u sessions\n", s->cluster,
	       (unsigned long long)s->inodes, (unsigned long long)s->chunks, s->sessions);
	printf("Leases: %llu; clients that cache: %u\n", (unsigned long long)s->leases,
	       s->links);
	printf("Log applied to %llu, durable in the state to %llu\n",
	       (unsigned long long)s->applied, (unsigned long long)s->durable);
	printf("Chunks below their goal: %llu; being changed: %llu; to be deleted: %llu\n",
	       (unsigned long long)s->chunks_under_goal, (unsigned long long)s->chunks_pending,
	       (unsigned long long)s->garbage);
	repair_print(s);
	if (s->compare.total || s->compare.rounds) {
		progress_print("Comparing replicas", "compared", &s->compare);
		putchar('\n');
	}
	if (s->held)
		printf("Held: the state was imported; what it does not know is not deleted\n");
	printf("\n%6s %-10s %-22s %8s %8s %10s %s\n", "SERVER", "STATE", "ADDRESS", "SIZE", "FREE",
	       "CHUNKS", "DISKS");
	for (size_t i = 0; i < s->n_servers; i++)
		server_print(&s->servers[i]);
}

int cmd_status(struct cli *cli, int argc, char **argv)
{
	struct cairn_status *s;
	int r;

	if (cli_option(cli, argc, argv, "", NULL) != -1 || optind != argc)
		return cli_usage(cli);
	if (cli_connect(cli) != CLI_OK)
		return CLI_FAILED;
	r = cairn_status(cli->fs, &s);
	if (r < 0) {
		cli_complain_remote(cli, "cluster", r);
	} else {
		if (cli->json)
			cli_print_json(cli, status_json(s));
		else
			status_print(s);
		cairn_status_free(s);
	}
	return cli_status(cli);
}

/* ---- drain ---- */

enum { DRAIN_LOOK_US = 200000 };

static const struct cairn_server_info *find_server(const struct cairn_status *s, const char *name)
{
	const struct cairn_server_info *found = NULL;

	for (size_t i = 0; i < s->n_servers; i++) {
		const struct cairn_server_info *v = &s->servers[i];
		char id[16];
		snprintf(id, sizeof(id), "%u", v->id);
		if (strcmp(name, id) == 0 || strcmp(name, v->uuid) == 0)
			return v;
		/* An address may have been another server's once: the living one is meant. */
		if (strcmp(name, v->addr) == 0 && (!found || v->state == CAIRN_SERVER_UP))
			found = v;
	}
	return found;
}

/* A copy of the server's present status; CLI_FAILED when it cannot be had, with the reason told. */
static int look_at(struct cli *cli, const char *name, struct cairn_server_info *ret)
{
	const struct cairn_server_info *v;
	struct cairn_status *s;
	int r = cairn_status(cli->fs, &s);

	if (r < 0) {
		cli_complain_remote(cli, name, r);
		return CLI_FAILED;
	}
	v = find_server(s, name);
	if (v)
		*ret = *v;
	else
		cli_complain(cli, name, "no such chunkserver (see cairn status)");
	cairn_status_free(s);
	return v ? CLI_OK : CLI_FAILED;
}

static void drain_print(struct cli *cli, const struct cairn_server_info *v)
{
	if (cli->json)
		cli_print_json(cli, server_json(v));
	else if (v->draining)
		printf("server %u (%s): draining, %llu chunks left\n", v->id, v->addr,
		       (unsigned long long)v->members);
	else
		printf("server %u (%s): not draining\n", v->id, v->addr);
}

/* Until it is empty or somebody has called it off. */
static int drain_wait(struct cli *cli, const char *name, struct cairn_server_info *v)
{
	bool terminal = isatty(STDOUT_FILENO) && !cli->json && !cli->quiet;

	while (v->draining && v->members > 0) {
		if (terminal) {
			printf("\r%llu chunks left ", (unsigned long long)v->members);
			fflush(stdout);
		}
		usleep(DRAIN_LOOK_US);
		if (look_at(cli, name, v) != CLI_OK)
			return CLI_FAILED;
	}
	if (terminal)
		printf("\r%20s\r", "");
	if (v->draining)
		return CLI_OK;
	cli_complain(cli, name, "the draining was called off");
	return CLI_FAILED;
}

int cmd_drain(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"wait", no_argument, NULL, 'w'},
					      {"cancel", no_argument, NULL, 'c'},
					      {NULL, 0, NULL, 0}};
	struct cairn_server_info server;
	bool wait = false, cancel = false;
	int option, r;

	while ((option = cli_option(cli, argc, argv, "wc", longs)) != -1) {
		if (option == 'w')
			wait = true;
		else if (option == 'c')
			cancel = true;
		else
			return cli_usage(cli);
	}
	if (optind != argc - 1 || (wait && cancel))
		return cli_usage(cli);
	if (cli_connect(cli) != CLI_OK || look_at(cli, argv[optind], &server) != CLI_OK)
		return CLI_FAILED;
	r = cairn_server_drain(cli->fs, server.id, !cancel);
	if (r < 0) {
		cli_complain_remote(cli, argv[optind], r);
		return cli_status(cli);
	}
	if (look_at(cli, argv[optind], &server) != CLI_OK ||
	    (wait && drain_wait(cli, argv[optind], &server) != CLI_OK))
		return CLI_FAILED;
	drain_print(cli, &server);
	return cli_status(cli);
}

/* ---- remove ---- */

int cmd_remove(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{NULL, 0, NULL, 0}};
	struct cairn_server_info server;
	int r;

	if (cli_option(cli, argc, argv, "", longs) != -1 || optind != argc - 1)
		return cli_usage(cli);
	if (cli_connect(cli) != CLI_OK || look_at(cli, argv[optind], &server) != CLI_OK)
		return CLI_FAILED;
	r = cairn_server_remove(cli->fs, server.id);
	if (r < 0)
		cli_complain_remote(cli, argv[optind], r);
	return r < 0 ? CLI_FAILED : CLI_OK;
}
