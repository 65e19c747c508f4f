/* What a process connects with: a certificate (transport tls) or the cluster's shared key (plain).
 *
 * One path names either: a directory is a credentials directory (common/tls.h), a file the shared key
 * (common/auth.h). Nothing is encrypted with a shared key, and it does not tell roles apart: whoever
 * has it may do everything. So it is for one machine; beyond loopback it is refused unless
 * allow_plaintext says that the network is trusted.
 *
 * Immutable after cred_load, but for the certificates behind `tls`; shared by all threads.
 */
#ifndef CAIRN_COMMON_CRED_H
#define CAIRN_COMMON_CRED_H

#include "common/auth.h"
#include "common/tls.h"

struct sockaddr;

struct cred {
	struct tls *tls;     /* NULL: plain */
	struct auth_key key; /* plain */
	uint16_t role;	     /* ours, as the peer is told: ROLE_ */
	bool allow_plaintext;
	char name[64];	     /* what we call ourselves, for the peer's log */
};

enum { CRED_ROLES_CLIENT = 1 << ROLE_CLIENT | 1 << ROLE_ADMIN };

/* roles: a bit 1 << ROLE_ for each role that the certificate may have; with a shared key we are the
 * lowest of them. transport: "tls" or "plain" when path must be of that kind, or NULL or "". */
int cred_load(struct cred *ret, const char *path, const char *transport, unsigned roles,
	      const char *name, struct err *err);
/* Every connection made with it is closed. Zeros are fine. */
void cred_release(struct cred *cred);

/* Whether this may be spoken with that address. ERR_CONFIG, with advice. */
int cred_check_address(const struct cred *cred, const struct sockaddr *addr, const char *text,
		       struct err *err);
/* The same of the address that a socket listens on. */
int cred_check_listener(const struct cred *cred, int fd, const char *text, struct err *err);/* After privs_drop: whether user (NULL or "": no change of user) can read path again, as each later
 * reload must. ERR_CONFIG, with advice. */
int cred_check_user(const struct cred *cred, const char *path, const char *user, struct err *err);
/* Whether peers that dial this address, which we tell them, will believe our certificate. ERR_CONFIG,
 * with advice. */
int cred_check_advertised(const struct cred *cred, const char *addr, struct err *err);

/* Begins the set-up messages of a connection, of which tls is the state (NULL: plain). auth keeps
 * pointers to cred. */
int cred_auth_connect(const struct cred *cred, const struct tls_conn *tls, struct auth *ret,
		      struct buf *out, struct err *err);
void cred_auth_accept(const struct cred *cred, const struct tls_conn *tls, struct auth *ret);

#endif
