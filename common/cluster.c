#include "common/cluster.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/conf.h"

static const char cluster_conf_path[] = "/etc/cairn/client.conf";

static int cluster_read_conf(const char *program, struct cluster *c, struct err *err)
{
	struct conf_option options[] = {
		{"master", CONF_STRING, &c->masters, NULL, 0, 0, "the masters"},
		{"key_file", CONF_STRING, &c->key_file, NULL, 0, 0, "the cluster's shared key"},
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

static int cluster_fill(const char *program, const char *masters, const char *key_file,
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
	    cluster_choose(&c->key_file, key_file, "CAIRN_KEY_FILE") < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (!c->masters || !*c->masters)
		return err_set(err, ERR_CONFIG, "no master known: give HOST:PORT, or set "
			       "CAIRN_MASTER, or \"master\" in %s", cluster_conf_path);
	if (!c->key_file || !*c->key_file)
		return err_set(err, ERR_CONFIG, "no key file known: give one, or set "
			       "CAIRN_KEY_FILE, or \"key_file\" in %s", cluster_conf_path);
	absolute = realpath(c->key_file, NULL);
	if (absolute) {
		free(c->key_file);
		c->key_file = absolute;
	}
	return 0;
}

int cluster_find(const char *program, const char *masters, const char *key_file,
		 struct cluster *ret, struct err *err)
{
	int r;

	*ret = (struct cluster){0};
	r = cluster_fill(program, masters, key_file, ret, err);
	if (r < 0)
		cluster_release(ret);
	return r;
}

void cluster_release(struct cluster *c)
{
	free(c->masters);
	free(c->key_file);
	*c = (struct cluster){0};
}
