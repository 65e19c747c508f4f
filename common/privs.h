/* What a daemon gives up before it listens to anybody: root's rights, the way back to them through
 * set-id programs, and core files, which would hold the cluster's key.
 *
 * The order in a daemon: read the settings and the key, take the port, make the directories
 * (privs_make_dir), then privs_drop, and only then open files and start threads: what is made in
 * the directories belongs to the user. */
#ifndef CAIRN_COMMON_PRIVS_H
#define CAIRN_COMMON_PRIVS_H

#include <stdbool.h>

#include "common/err.h"

/* The rows of an option table; user_target is a char *, core_target a bool. */
#define PRIVS_OPTIONS(user_target, core_target)                                                  \
	{"user", CONF_STRING, user_target, "", 0, 0,                                             \
	 "when started as root, run as this user once the port and the key are taken; data "     \
	 "directories that are missing are made for it"},                                        \
	{"core_dumps", CONF_BOOL, core_target, "no", 0, 0,                                       \
	 "allow core files and debuggers: they see the cluster's key"}

/* With a user: makes `path` for it if it is not there (mode 0700; its name is on stable storage
 * then). Without (NULL or ""), or when not root: nothing. */
int privs_make_dir(const char *user, const char *path, struct err *err);
/* Becomes `user` (NULL or "": stays who it is) with that user's groups; nothing that is executed
 * later gains rights. ERR_CONFIG: no such user, or only root may become it. */
int privs_drop(const char *user, bool core_dumps, struct err *err);
/* As many open files as the system lets it have. */
void privs_raise_files(void);
/* No core file of this process, no debugger of the same user, from now on. */
void privs_no_core(void);

#endif
