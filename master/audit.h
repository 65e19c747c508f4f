/* What the master writes into the audit log (common/audit.h): each request of an administrator and each
 * registration of a chunkserver, with its outcome, and what was refused to anybody. What was asked is
 * kept with the connection until the answer leaves. The loop thread. */
#ifndef CAIRN_MASTER_AUDIT_H
#define CAIRN_MASTER_AUDIT_H

#include "common/wire.h"

struct peer;

/* It is to be written when it is answered. */
void audit_asked(struct peer *p, const struct wire_header *h, struct slice fields);
/* An answer leaves. */
void audit_answered(struct peer *p, const struct wire_header *request, int code, const char *text);
/* The connection goes, with it what has no answer. */
void audit_gone(struct peer *p);
/* Whether this answer is one that the administrator may want to know of. */
bool audit_is_refusal(int code);
void audit_refusal(const struct peer *p, const struct wire_header *h, struct slice fields, int code,
		   const char *why);

#endif
