#include "common/privs.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"

static int find_user(const char *user, struct passwd **ret, struct err *err)
{
	errno = 0;
	*ret = getpwnam(user);
	if (*ret)
		return 0;
	return errno ? err_set_errno(err, errno, "user \"%s\"", user)
		     : err_set(err, ERR_CONFIG, "user: there is no user \"%s\"", user);
}

int privs_make_dir(const char *user, const char *path, struct err *err)
{
	char parent[PATH_MAX];
	struct passwd *pw;
	int r;

	if (!user || !user[0] || geteuid() != 0)
		return 0;
	r = find_user(user, &pw, err);
	if (r < 0)
		return r;
	if (mkdir(path, 0700) < 0)
		return errno == EEXIST ? 0 : err_set_errno(err, errno, "data directory %s", path);
	if (chown(path, pw->pw_uid, pw->pw_gid) < 0)
		return err_set_errno(err, errno, "data directory %s for user %s", path, user);
	if (snprintf(parent, sizeof(parent), "%s/..", path) >= (int)sizeof(parent))
		return err_set(err, ERR_CONFIG, "data directory %s: too long", path);
	r = io_real.sync_dir(&io_real, parent);
	return r < 0 ? err_set(err, r, "sync of %s: %s", parent, err_text(r)) : 0;
}

static int become(const struct passwd *pw, struct err *err)
{
	if (geteuid() == pw->pw_uid)
		return 0;
	if (geteuid() != 0)
		return err_set(err, ERR_CONFIG, "user: only root can become \"%s\"", pw->pw_name);
	if (initgroups(pw->pw_name, pw->pw_gid) < 0 ||
	    setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0 ||
	    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0)
		return err_set_errno(err, errno, "user: become \"%s\"", pw->pw_name);
	/* A way back would mean that the kernel kept something: better not to run at all. */
	if (setuid(0) == 0)
		return err_set(err, ERR_CONFIG, "user: root's rights could not be given up");
	return 0;
}

int privs_drop(const char *user, bool core_dumps, struct err *err)
{
	struct passwd *pw;
	int r = 0;

	if (user && user[0]) {
		r = find_user(user, &pw, err);
		if (r == 0)
			r = become(pw, err);
	}
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = err_set_errno(err, errno, "no new privileges");
	if (r < 0)
		return r;
	/* After a change of user the kernel has cleared it. */
	if (core_dumps)
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	else
		privs_no_core();
	return 0;
}

void privs_raise_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warn("open files stay limited: %s", strerror(errno));
}

void privs_no_core(void)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		log_warn("core files cannot be switched off: they would hold the cluster's key");
}
