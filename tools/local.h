/* `cairn local`: a whole cluster on this machine, under one directory:
 *
 *     DIR/cluster.json   what it consists of (this header's struct local)
 *     DIR/ca/            the cluster's authority (tools/ca.h)
 *     DIR/tls/NAME/      the credentials of each part, of `admin` for the CLI
 *     DIR/key            with --plain, instead of these two: the shared key
 *     DIR/master-1/      the master's data; DIR/chunkserver-N/ the chunkservers'
 *     DIR/log/NAME.log   what each part says
 *     DIR/run/NAME.pid   its process, when it was started
 *     DIR/lock           held by the `up` or `down` at work
 *
 * A process counts as ours only when it runs and its command line names its part's directory, so
 * that a pid used again by somebody else is never signalled.
 */
#ifndef CAIRN_TOOLS_LOCAL_H
#define CAIRN_TOOLS_LOCAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/limits.h"
#include "tools/cli.h"

enum {
	LOCAL_CHUNKSERVERS_MAX = 64,
	LOCAL_PARTS_MAX = LOCAL_CHUNKSERVERS_MAX + 2,
	LOCAL_FLAGS_MAX = 32,
	LOCAL_NAME_BYTES = 32,
	LOCAL_ADDR_BYTES = 32,
	LOCAL_UP_MS = 30000,   /* limit of all parts together */
	LOCAL_STOP_MS = 10000, /* until SIGKILL */
	LOCAL_UNMOUNT_MS = 5000, /* until the mount is detached from the tree */
};

struct local_flags {
	char *items[LOCAL_FLAGS_MAX]; /* heap */
	size_t n;
};

struct local {
	char *dir; /* absolute; heap */
	int n_chunkservers, replicas;
	bool plain; /* transport */
	char master_addr[LOCAL_ADDR_BYTES]; /* "": not chosen yet */
	char chunkserver_addr[LOCAL_CHUNKSERVERS_MAX][LOCAL_ADDR_BYTES];
	char *mount; /* absolute; heap; NULL: none */
	/* "{dir}" in a flag is the directory of the server that gets it. */
	struct local_flags master_flags, chunkserver_flags, mount_options;
};

enum local_kind { LOCAL_MASTER, LOCAL_CHUNKSERVER, LOCAL_MOUNT };

struct local_part {
	enum local_kind kind;
	int number; /* from 1 */
	char name[LOCAL_NAME_BYTES];
	const char *addr; /* "-" for a mount */
	char *dir;	  /* data directory or mount point; heap */
};

/* ---- local_state.c ---- */

/* Reads DIR/cluster.json. ERR_NOENT when there is none. */
int local_load(const char *dir, struct local *ret, struct err *err);
/* Replaces DIR/cluster.json, durably. */
int local_save(const struct local *l, struct err *err);
/* The file's content. Text is JSON; decode leaves dir alone. */
char *local_encode(const struct local *l);
int local_decode(const char *text, struct local *ret, struct err *err);
void local_release(struct local *l);
int local_flags_add(struct local_flags *flags, const char *flag);
void local_flags_clear(struct local_flags *flags);

/* The parts, master first, mount last. Release each. */
int local_n_parts(const struct local *l);
int local_part(const struct local *l, int index, struct local_part *ret);
void local_part_release(struct local_part *p);
/* DIR/SUB or DIR/SUB/NAMEsuffix; heap, NULL when out of memory. */
char *local_path(const struct local *l, const char *sub, const char *name, const char *suffix);

/* The credentials of the part of that name, or of "admin"; heap, NULL when out of memory. */
char *local_credentials(const struct local *l, const char *name);

/* ---- local_cred.c ---- */

/* Makes what is missing of the authority and the credentials of the parts, and renews what ends soon. */
int local_make_credentials(const struct local *l, struct err *err);

/* ---- local_proc.c ---- */

/* The part's process when it runs, else 0. */
pid_t local_pid(const struct local *l, const struct local_part *p);
/* Starts argv detached, its output appended to the part's log, and writes its pid file. */
int local_spawn(const struct local *l, const struct local_part *p, char *const *argv,
		pid_t *ret_pid, struct err *err);
/* The end of the part's log, on standard error. */
void local_show_log(const struct local *l, const struct local_part *p);
/* SIGTERM to all n parts that run, then waits for them; SIGKILL after LOCAL_STOP_MS. 0, or
 * ERR_TIMEOUT when one did not even go then. */
int local_stop(const struct local *l, const struct local_part *parts, int n, struct err *err);
/* "DIR/NAME" of a program built or installed beside this one, else its bare name for $PATH. */
char *local_program(const char *name);
/* Whether a Cairn file system is mounted there. */
bool local_is_mounted(const char *mountpoint);
/* Unmounts when mounted; lazily when it stays busy. */
int local_unmount(const char *mountpoint, struct err *err);

/* ---- local_up.c, local_down.c: exit statuses ---- */

struct local_up_options {
	int chunkservers, replicas; /* 0: not given */
	bool plain;
	const char *mount;	    /* NULL: not given */
	struct local_flags master_flags, chunkserver_flags, mount_options;
};

int local_up(struct cli *cli, const char *dir, const struct local_up_options *o);
int local_down(struct cli *cli, const char *dir);
int local_status(struct cli *cli, const char *dir);
int local_env(struct cli *cli, const char *dir);
/* Takes DIR/lock: *ret_fd. ERR_BUSY when another one has it. */
int local_lock(const char *dir, int *ret_fd, struct err *err);

#endif
