/* `cairn local down`, `status` and `env`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "tools/local.h"
#include "tools/text.h"

static int load(struct cli *cli, const char *dir, struct local *ret)
{
	struct err err = {0};
	int r = local_load(dir, ret, &err);

	if (r == ERR_NOENT)
		cli_complain(cli, dir, "no local cluster there");
	else if (r < 0)
		cli_complain(cli, dir, "%s", err_message(&err));
	return r;
}

/* ---- down ---- */

static int stop_all(const struct local *l, struct err *err)
{
	struct local_part parts[LOCAL_PARTS_MAX];
	int n = 0, total = local_n_parts(l), r = 0, mounted;

	while (r == 0 && n < total) {
		r = local_part(l, n, &parts[n]);
		n += r == 0;
	}
	if (r < 0)
		err_set(err, r, "out of memory");
	/* Each layer goes before what it stands on: mount, chunkservers, master. */
	mounted = r == 0 && l->mount;
	if (mounted) {
		r = local_unmount(l->mount, err);
		if (r == 0)
			r = local_stop(l, &parts[total - 1], 1, err);
	}
	if (r == 0)
		r = local_stop(l, parts + 1, l->n_chunkservers, err);
	if (r == 0)
		r = local_stop(l, parts, 1, err);
	while (n > 0)
		local_part_release(&parts[--n]);
	return r;
}

int local_down(struct cli *cli, const char *dir)
{
	struct err err = {0};
	struct local l;
	_cleanup_fd_ int lock = -1;
	int r;

	if (load(cli, dir, &l) < 0)
		return CLI_FAILED;
	r = local_lock(dir, &lock, &err);
	if (r == 0)
		r = stop_all(&l, &err);
	if (r < 0)
		cli_complain(cli, "down", "%s", err_message(&err));
	else if (!cli->quiet)
		printf("Stopped. The data stays in %s.\n", l.dir);
	local_release(&l);
	return cli_status(cli);
}

/* ---- status ---- */

static bool part_is_up(const struct local_part *p, pid_t pid)
{
	return pid && (p->kind != LOCAL_MOUNT || local_is_mounted(p->dir));
}

static json_t *part_json(const struct local_part *p, pid_t pid, bool up)
{
	json_t *o = json_pack("{s:s, s:o, s:s, s:s}", "name", p->name, "pid",
			      pid ? json_integer(pid) : json_null(), "addr", p->addr, "state",
			      up ? "up" : "down");
	if (o && text_json_name(o, "dir", p->dir) < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* "-" for no process: a script that hands a 0 to kill(1) would end itself. */
static void print_part(const struct local_part *p, pid_t pid, bool up)
{
	char text[16] = "-";

	if (pid)
		snprintf(text, sizeof(text), "%d", (int)pid);
	printf("%s pid=%s addr=%s dir=%s state=%s\n", p->name, text, p->addr, p->dir,
	       up ? "up" : "down");
}

int local_status(struct cli *cli, const char *dir)
{
	json_t *all = cli->json ? json_array() : NULL;
	bool all_up = true;
	struct local l;

	if (load(cli, dir, &l) < 0) {
		json_decref(all);
		return CLI_FAILED;
	}
	for (int i = 0; i < local_n_parts(&l); i++) {
		struct local_part p;
		pid_t pid;
		bool up;
		if (local_part(&l, i, &p) < 0) {
			cli_complain(cli, dir, "out of memory");
			break;
		}
		pid = local_pid(&l, &p);
		up = part_is_up(&p, pid);
		all_up = all_up && up;
		if (cli->json)
			json_array_append_new(all, part_json(&p, pid, up));
		else
			print_part(&p, pid, up);
		local_part_release(&p);
	}
	local_release(&l);
	if (cli->json)
		cli_print_json(cli, all);
	if (cli_status(cli) != CLI_OK)
		return CLI_FAILED;
	return all_up ? CLI_OK : CLI_NOT_UP;
}

/* ---- env ---- */

int local_env(struct cli *cli, const char *dir)
{
	_cleanup_buf_ struct buf text = {0};
	_cleanup_free_ char *credentials = NULL;
	struct local l;

	if (load(cli, dir, &l) < 0)
		return CLI_FAILED;
	credentials = local_credentials(&l, "admin");
	buf_printf(&text, "export CAIRN_MASTER=");
	text_shell_quote(&text, l.master_addr);
	buf_printf(&text, " CAIRN_CREDENTIALS=");
	text_shell_quote(&text, credentials ? credentials : "");
	local_release(&l);
	if (!credentials || buf_status(&text) < 0)
		cli_complain(cli, dir, "out of memory");
	else
		puts(buf_str(&text));
	return cli_status(cli);
}
