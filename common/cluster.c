#include "common/cluster.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/conf.h"

static const char cluster_conf_path[] = "/etc/cairn/client.conf";
static const char cluster_credentials[] = "/etc/cairn/tls";

static int cluster_read_conf(const char *program, struct cluster *c, struct err *err)
{
	struct conf_option options[] = {
		{"master", CONF_STRING, &c->masters, NULL, 0, 0, "the masters"},
		{"credentials", CONF_STRING, &c->credentials, NULL, 0, 0, "who we are"},
		{"allow_plaintext", CONF_BOOL, &c->allow_plaintext, "no", 0, 0,
		 "a shared key beyond loopback"},
		{"timeout", CONF_TIME, &c->timeout_ms, NULL, 0, 0, "limit of one operation"},
		{"readahead", CONF_SIZE, &c->readahead_bytes, NULL, 0, 0, "per stream"},
		{NULL, CONF_STRING, NULL, NULL, 0, 0, NULL},
	};
	struct conf conf = {.program = program, .section = "client",
			    .default_path = cluster_conf_path, .usage = "", .options = options};
	char *argv[] = {(char *)program, NULL};

	return conf_load(&conf, 1, argv, NULL, err);
}

/* The higher place wins: flag, then environment; what the file said stays otherwise. */
static int cluster_choose(char **value, const char *given, const char *env)
{
	const char *best = given && *given ? given : getenv(env);
	char *copy;

	if (!best || !*best)
		return 0;
	copy = strdup(best);
	if (!copy)
		return ERR_NOMEM;
	free(*value);
	*value = copy;
	return 0;
}

/* What a command's environment says of the settings that the file has too. */
static int cluster_environment(struct cluster *c, struct err *err)
{
	const char *plain = getenv("CAIRN_ALLOW_PLAINTEXT"), *timeout = getenv("CAIRN_TIMEOUT");

	if (plain && conf_parse_bool(plain, &c->allow_plaintext) < 0)
		return err_set(err, ERR_CONFIG, "CAIRN_ALLOW_PLAINTEXT: \"%s\" is not yes or no",
			       plain);
	if (timeout && conf_parse_time(timeout, &c->timeout_ms) < 0)
		return err_set(err, ERR_CONFIG, "CAIRN_TIMEOUT: \"%s\" is not a time", timeout);
	return 0;
}

static int cluster_fill(const char *program, const char *masters, const char *credentials,
			struct cluster *c, struct err *err)
{
	char *absolute;
	int r = 0;

	/* A file that this user may not read matters only when something is still missing. */
	if (access(cluster_conf_path, R_OK) == 0)
		r = cluster_read_conf(program, c, err);
	if (r < 0)
		return r;
	if (cluster_choose(&c->masters, masters, "CAIRN_MASTER") < 0 ||
	    cluster_choose(&c->credentials, credentials, "CAIRN_CREDENTIALS") < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	r = cluster_environment(c, err);
	if (r < 0)
		return r;
	if (!c->masters || !*c->masters)
		return err_set(err, ERR_CONFIG, "no master known: give HOST:PORT, or set "
			       "CAIRN_MASTER, or \"master\" in %s", cluster_conf_path);
	if ((!c->credentials || !*c->credentials) && access(cluster_credentials, F_OK) == 0 &&
	    cluster_choose(&c->credentials, cluster_credentials, "") < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (!c->credentials || !*c->credentials)
		return err_set(err, ERR_CONFIG, "no credentials known: give them, or set "
			       "CAIRN_CREDENTIALS, or \"credentials\" in %s", cluster_conf_path);
	absolute = realpath(c->credentials, NULL);
	if (absolute) {
		free(c->credentials);
		c->credentials = absolute;
	}
	return 0;
}

int cluster_find(const char *program, const char *masters, const char *credentials,
		 struct cluster *ret, struct err *err)
{
	int r;

	*ret = (struct cluster){0};
	r = cluster_fill(program, masters, credentials, ret, err);
	if (r < 0)
		cluster_release(ret);
	return r;
}

void cluster_release(struct cluster *c)
{
	free(c->masters);
	free(c->credentials);
	*c = (struct cluster){0};
}
