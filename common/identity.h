/* Who a process is, as its certificate says: a URI among the certificate's alternative names,
 *
 *     cairn://CLUSTER/ROLE/NAME       such as cairn://3f0c…/chunkserver/rack2-7
 *     cairn://CLUSTER/export/NAME     beside it: the credential is good for that export only
 *
 * CLUSTER is the authority's random id of 32 hexadecimal digits; ROLE is master, chunkserver,
 * client or admin; names are of [A-Za-z0-9._-]. Nothing needs quoting, so that there is one
 * spelling of each identity. Pure functions.
 */
#ifndef CAIRN_COMMON_IDENTITY_H
#define CAIRN_COMMON_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"

enum {
	IDENTITY_CLUSTER_BYTES = 33, /* with the NUL, as all of these */
	IDENTITY_NAME_BYTES = 64,
	IDENTITY_URI_BYTES = 128,
};

struct identity {
	char cluster[IDENTITY_CLUSTER_BYTES];
	uint16_t role; /* ROLE_ of common/wire.h */
	char name[IDENTITY_NAME_BYTES];
	char export[IDENTITY_NAME_BYTES]; /* "": not limited to one */
};

/* "master"…; NULL for a number that is no role. */
const char *identity_role_name(uint16_t role);
/* 0 for a word that is no role. */
uint16_t identity_role_parse(const char *word);
/* 1 to 63 characters of [A-Za-z0-9._-], the first one not a dot or a dash. */
bool identity_name_ok(const char *name);
bool identity_cluster_ok(const char *cluster);

/* ret: IDENTITY_URI_BYTES. */
void identity_uri(const struct identity *id, char *ret);
void identity_export_uri(const struct identity *id, char *ret);
/* Takes one URI of a certificate into id, which begins as zeros. 1: it was one of ours; 0: another
 * kind of URI; ERR_AUTH: it begins like ours and is malformed, or contradicts what came before. */
int identity_add_uri(struct identity *id, struct slice uri);

#endif
