#include "common/identity.h"

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/wire.h"

static const char scheme[] = "cairn://";
static const struct { uint16_t role; const char *name; } roles[] = {
	{ROLE_MASTER, "master"}, {ROLE_CHUNKSERVER, "chunkserver"},
	{ROLE_CLIENT, "client"}, {ROLE_ADMIN, "admin"},
};

const char *identity_role_name(uint16_t role)
{
	for (size_t i = 0; i < ARRAY_LEN(roles); i++)
		if (roles[i].role == role)
			return roles[i].name;
	return NULL;
}

uint16_t identity_role_parse(const char *word)
{
	for (size_t i = 0; i < ARRAY_LEN(roles); i++)
		if (strcmp(roles[i].name, word) == 0)
			return roles[i].role;
	return 0;
}

bool identity_name_ok(const char *name)
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t n = strlen(name);

	return n > 0 && n < IDENTITY_NAME_BYTES && strspn(name, good) == n && name[0] != '.' &&
	       name[0] != '-';
}

bool identity_cluster_ok(const char *cluster)
{
	return strlen(cluster) == IDENTITY_CLUSTER_BYTES - 1 &&
	       strspn(cluster, "0123456789abcdef") == IDENTITY_CLUSTER_BYTES - 1;
}

void identity_uri(const struct identity *id, char *ret)
{
	const char *role = identity_role_name(id->role);
	snprintf(ret, IDENTITY_URI_BYTES, "%s%s/%s/%s", scheme, id->cluster, role ? role : "?",
		 id->name);
}

void identity_export_uri(const struct identity *id, char *ret)
{
	snprintf(ret, IDENTITY_URI_BYTES, "%s%s/export/%s", scheme, id->cluster, id->export);
}

/* Cuts the next part off, up to `until` or the end; false when it does not fit room. */
static bool next_part(char **at, char until, char *ret, size_t room)
{
	char *end = until ? strchr(*at, until) : *at + strlen(*at);

	if (!end || (size_t)(end - *at) >= room)
		return false;
	memcpy(ret, *at, (size_t)(end - *at));
	ret[end - *at] = '\0';
	*at = end + (until != '\0');
	return true;
}

int identity_add_uri(struct identity *id, struct slice uri)
{
	char text[IDENTITY_URI_BYTES], *at = text + strlen(scheme);
	char cluster[IDENTITY_CLUSTER_BYTES], word[16], name[IDENTITY_NAME_BYTES];
	bool is_export;

	if (uri.len < strlen(scheme) || memcmp(uri.data, scheme, strlen(scheme)) != 0)
		return 0;
	/* A NUL inside would hide what follows it. */
	if (uri.len >= sizeof(text) || memchr(uri.data, '\0', uri.len))
		return ERR_AUTH;
	memcpy(text, uri.data, uri.len);
	text[uri.len] = '\0';
	if (!next_part(&at, '/', cluster, sizeof(cluster)) ||
	    !next_part(&at, '/', word, sizeof(word)) || !next_part(&at, '\0', name, sizeof(name)))
		return ERR_AUTH;
	is_export = strcmp(word, "export") == 0;
	if (!identity_cluster_ok(cluster) || !identity_name_ok(name) ||
	    (!is_export && !identity_role_parse(word)))
		return ERR_AUTH;
	if ((id->cluster[0] && strcmp(id->cluster, cluster) != 0) ||
	    (is_export ? id->export[0] != '\0' : id->role != 0))
		return ERR_AUTH;
	memcpy(id->cluster, cluster, sizeof(cluster));
	if (is_export) {
		memcpy(id->export, name, sizeof(name));
	} else {
		id->role = identity_role_parse(word);
		memcpy(id->name, name, sizeof(name));
	}
	return 1;
}
