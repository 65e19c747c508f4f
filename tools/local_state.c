#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "tools/local.h"
#include "tools/text.h"

enum { STATE_VERSION = 1 };

/* ---- lists of flags ---- */

int local_flags_add(struct local_flags *flags, const char *flag)
{
	if (flags->n == LOCAL_FLAGS_MAX)
		return ERR_LIMIT;
	flags->items[flags->n] = strdup(flag);
	if (!flags->items[flags->n])
		return ERR_NOMEM;
	flags->n++;
	return 0;
}

void local_flags_clear(struct local_flags *flags)
{
	for (size_t i = 0; i < flags->n; i++)
		free(flags->items[i]);
	flags->n = 0;
}

static json_t *flags_json(const struct local_flags *flags)
{
	json_t *array = json_array();

	for (size_t i = 0; i < flags->n; i++)
		json_array_append_new(array, json_string(flags->items[i]));
	return array;
}

static int flags_decode(json_t *array, struct local_flags *ret)
{
	size_t i;
	json_t *item;

	json_array_foreach(array, i, item) {
		int r = json_is_string(item) ? local_flags_add(ret, json_string_value(item))
					     : ERR_CONFIG;
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the file ---- */

char *local_encode(const struct local *l)
{
	json_t *servers = json_array(), *o;
	char *text;

	for (int i = 0; i < l->n_chunkservers; i++)
		json_array_append_new(servers, json_string(l->chunkserver_addr[i]));
	o = json_pack("{s:i, s:i, s:s, s:s, s:o, s:o, s:o, s:o}", "version", STATE_VERSION,
		      "replicas", l->replicas, "transport", l->plain ? "plain" : "tls", "master", l->master_addr, "chunkservers", servers,
		      "master_flags", flags_json(&l->master_flags), "chunkserver_flags",
		      flags_json(&l->chunkserver_flags), "mount_options",
		      flags_json(&l->mount_options));
	/* Not UTF-8, not in JSON: such a mount point is refused by local_up. */
	if (o && l->mount && json_object_set_new(o, "mount", json_string(l->mount)) < 0) {
		json_decref(o);
		o = NULL;
	}
	text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
	json_decref(o);
	return text;
}

static int addr_decode(const char *text, char *ret)
{
	if (strlen(text) >= LOCAL_ADDR_BYTES)
		return ERR_CONFIG;
	strcpy(ret, text);
	return 0;
}

static int decode_object(json_t *o, struct local *ret)
{
	json_t *servers, *master_flags, *chunkserver_flags, *mount_options, *server;
	/* Clusters made before there was a choice are plain. */
	const char *master, *mount = NULL, *transport = "plain";
	int version;
	size_t i;

	if (json_unpack(o, "{s:i, s:i, s:s, s:o, s:o, s:o, s:o, s?s, s?s}", "version", &version,
			"replicas", &ret->replicas, "master", &master, "chunkservers", &servers,
			"master_flags", &master_flags, "chunkserver_flags", &chunkserver_flags,
			"mount_options", &mount_options, "mount", &mount, "transport", &transport) < 0)
		return ERR_CONFIG;
	if (version != STATE_VERSION)
		return ERR_VERSION;
	if (json_array_size(servers) < 1 || json_array_size(servers) > LOCAL_CHUNKSERVERS_MAX ||
	    ret->replicas < 1 || ret->replicas > REPLICAS_MAX ||
	    addr_decode(master, ret->master_addr) < 0)
		return ERR_CONFIG;
	json_array_foreach(servers, i, server) {
		if (!json_is_string(server) ||
		    addr_decode(json_string_value(server), ret->chunkserver_addr[i]) < 0)
			return ERR_CONFIG;
	}
	ret->n_chunkservers = (int)json_array_size(servers);
	ret->plain = strcmp(transport, "plain") == 0;
	if (!ret->plain && strcmp(transport, "tls") != 0)
		return ERR_CONFIG;
	if (mount && !(ret->mount = strdup(mount)))
		return ERR_NOMEM;
	if (flags_decode(master_flags, &ret->master_flags) < 0 ||
	    flags_decode(chunkserver_flags, &ret->chunkserver_flags) < 0 ||
	    flags_decode(mount_options, &ret->mount_options) < 0)
		return ERR_CONFIG;
	return 0;
}

int local_decode(const char *text, struct local *ret, struct err *err)
{
	json_error_t where;
	json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, &where);
	int r;

	*ret = (struct local){0};
	if (!o)
		return err_set(err, ERR_CONFIG, "line %d: %s", where.line, where.text);
	r = decode_object(o, ret);
	json_decref(o);
	if (r < 0) {
		local_release(ret);
		return err_set(err, r, "not the description of a local cluster");
	}
	return 0;
}

static int read_file(const char *path, struct buf *ret, struct err *err)
{
	enum { STEP = 4096, MAX = 1 << 20 };
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_set_errno(err, errno, "%s", path);
	for (;;) {
		uint8_t *room = ret->len < MAX ? buf_extend(ret, STEP) : NULL;
		ssize_t n;
		if (!room)
			return err_set(err, ERR_CONFIG, "%s: too large", path);
		n = read(fd, room, STEP);
		if (n < 0)
			return err_set_errno(err, errno, "%s", path);
		ret->len -= STEP - (size_t)n;
		if (n == 0)
			return 0;
	}
}

int local_load(const char *dir, struct local *ret, struct err *err)
{
	_cleanup_free_ char *path = text_join(dir, "cluster.json");
	_cleanup_buf_ struct buf text = {0};
	int r;

	*ret = (struct local){0};
	if (!path)
		return err_set(err, ERR_NOMEM, "out of memory");
	r = read_file(path, &text, err);
	if (r < 0)
		return r;
	buf_u8(&text, 0);
	if (buf_status(&text) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	r = local_decode((const char *)text.data, ret, err);
	if (r < 0)
		return err_prefix(err, r, "%s", path);
	ret->dir = realpath(dir, NULL);
	if (!ret->dir) {
		local_release(ret);
		return err_set_errno(err, errno, "%s", dir);
	}
	return 0;
}

int local_save(const struct local *l, struct err *err)
{
	_cleanup_free_ char *path = local_path(l, "cluster.json", NULL, NULL);
	_cleanup_free_ char *temp = local_path(l, "cluster.json.new", NULL, NULL);
	_cleanup_free_ char *text = local_encode(l);
	FILE *file;
	bool ok;

	if (!path || !temp || !text)
		return err_set(err, ERR_NOMEM, "out of memory");
	file = fopen(temp, "we");
	if (!file)
		return err_set_errno(err, errno, "%s", temp);
	ok = fprintf(file, "%s\n", text) > 0 && fflush(file) == 0 && fsync(fileno(file)) == 0;
	ok = fclose(file) == 0 && ok;
	if (!ok || rename(temp, path) < 0)
		return err_set_errno(err, errno, "%s", path);
	return 0;
}

void local_release(struct local *l)
{
	free(l->dir);
	free(l->mount);
	local_flags_clear(&l->master_flags);
	local_flags_clear(&l->chunkserver_flags);
	local_flags_clear(&l->mount_options);
	*l = (struct local){0};
}

int local_lock(const char *dir, int *ret_fd, struct err *err)
{
	_cleanup_free_ char *path = text_join(dir, "lock");
	int fd;

	if (!path)
		return err_set(err, ERR_NOMEM, "out of memory");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set_errno(err, errno, "%s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int eno = errno;
		close(fd);
		if (eno == EWOULDBLOCK)
			return err_set(err, ERR_BUSY, "%s: another cairn local is at work there",
				       dir);
		return err_set_errno(err, eno, "%s", path);
	}
	*ret_fd = fd;
	return 0;
}

/* ---- parts ---- */

int local_n_parts(const struct local *l)
{
	return 1 + l->n_chunkservers + (l->mount ? 1 : 0);
}

int local_part(const struct local *l, int index, struct local_part *ret)
{
	struct local_part p = {.kind = LOCAL_CHUNKSERVER, .number = index};

	if (index == 0) {
		p.kind = LOCAL_MASTER;
		p.number = 1;
		p.addr = l->master_addr;
		snprintf(p.name, sizeof(p.name), "master-1");
	} else if (index <= l->n_chunkservers) {
		p.addr = l->chunkserver_addr[index - 1];
		snprintf(p.name, sizeof(p.name), "chunkserver-%d", index);
	} else {
		p.kind = LOCAL_MOUNT;
		p.number = 1;
		p.addr = "-";
		snprintf(p.name, sizeof(p.name), "mount-1");
	}
	p.dir = p.kind == LOCAL_MOUNT ? strdup(l->mount) : local_path(l, p.name, NULL, NULL);
	if (!p.dir)
		return ERR_NOMEM;
	*ret = p;
	return 0;
}

void local_part_release(struct local_part *p)
{
	free(p->dir);
	p->dir = NULL;
}

char *local_path(const struct local *l, const char *sub, const char *name, const char *suffix)
{
	char *path;

	if (asprintf(&path, "%s/%s%s%s%s", l->dir, sub, name ? "/" : "", name ? name : "",
		     suffix ? suffix : "") < 0)
		return NULL;
	return path;
}

char *local_credentials(const struct local *l, const char *name)
{
	return l->plain ? local_path(l, "key", NULL, NULL) : local_path(l, "tls", name, NULL);
}
