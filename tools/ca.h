/* The cluster's certificate authority: `cairn ca`. One directory, 0700, its files 0600:
 *
 *     DIR/ca.pem, ca.key    its own certificate and key (EC P-256)
 *     DIR/crl.pem           what was revoked; written anew by each revocation
 *     DIR/ca.json           what was issued (struct ca below)
 *     DIR/lock              held while something changes
 *     DIR/issued/ROLE-NAME/ a credentials directory: what the one it is for needs (common/tls.h)
 *         identity.pem      certificate and key, in one file, so that a renewal replaces both at once
 *         ca.pem, crl.pem   copies
 *
 * A credentials directory is copied to where it is used. The authority's directory itself belongs on
 * a machine that is not part of the cluster: whoever has it can be anybody.
 *
 * Times are seconds since 1970 (UTC). Functions return 0 or a negative code of common/err.h.
 */
#ifndef CAIRN_TOOLS_CA_H
#define CAIRN_TOOLS_CA_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "common/err.h"
#include "common/identity.h"

enum {
	CA_SERIAL_BYTES = 41, /* 160 bits in hexadecimal, with the NUL */
	CA_HOSTS_MAX = 16,
	CA_HOST_BYTES = 128,
	CA_DAY_S = 86400,
	CA_SELF_DAYS = 3650,  /* of the authority's own certificate and of a CRL */
	CA_ISSUE_DAYS = 365,
	CA_SOON_DAYS = 30,    /* `renew --all` renews what ends within these */
	CA_SKEW_S = 300,      /* certificates begin so long ago: clocks differ */
};

/* One certificate that was issued. */
struct ca_entry {
	char serial[CA_SERIAL_BYTES];
	struct identity id;
	char hosts[CA_HOSTS_MAX][CA_HOST_BYTES]; /* names and addresses it may be dialled by */
	size_t n_hosts;
	int64_t from_s, until_s;
	int64_t revoked_s; /* 0: is not */
	bool replaced;	   /* by a renewal; good until it ends all the same */
	char *out;	   /* the credentials directory, absolute; heap */
};

struct ca {
	char *dir; /* absolute; heap */
	int lock_fd;
	char cluster[IDENTITY_CLUSTER_BYTES];
	int64_t crl_number;
	struct ca_entry *entries; /* heap, oldest first */
	size_t n;
	X509 *cert;
	EVP_PKEY *key;
};

struct ca_request {
	uint16_t role;
	const char *name, *export; /* export: NULL or "": none */
	const char *const *hosts;  /* of servers; none given: NAME */
	size_t n_hosts;
	int64_t now_s, lifetime_s;
	const char *out; /* NULL: DIR/issued/ROLE-NAME */
};

/* Makes an authority in dir, which is made or empty. ERR_EXIST when there is one. */
int ca_init(const char *dir, int64_t now_s, struct err *err);
/* Opens it, and locks it against other changes until ca_close. */
int ca_open(const char *dir, struct ca *ret, struct err *err);
void ca_close(struct ca *ca);

/* ERR_EXIST when that role and name has a certificate that is good. *ret lives until the next change. */
int ca_issue(struct ca *ca, const struct ca_request *req, const struct ca_entry **ret,
	     struct err *err);
/* which: NAME, ROLE/NAME or a serial number. Revokes all good certificates of it, and writes the CRL
 * here and into the credentials directories that are still where they were made. *ret_n 0: all were
 * revoked before, perhaps by a call that failed half-way, and the CRL is written again. */
int ca_revoke(struct ca *ca, const char *which, int64_t now_s, unsigned *ret_n, struct err *err);
/* A new certificate and key in place of the entry's, as long-lived as that was (lifetime_s 0). */
int ca_renew(struct ca *ca, size_t index, int64_t now_s, int64_t lifetime_s,
	     const struct ca_entry **ret, struct err *err);
/* The newest good entry that `which` names. ERR_NOENT; ERR_INVAL when it names several roles. */
int ca_find(const struct ca *ca, const char *which, int64_t now_s, size_t *ret_index,
	    struct err *err);
/* "valid", "expired", "revoked" or "replaced". */
const char *ca_entry_state(const struct ca_entry *e, int64_t now_s);

/* ---- ca_x509.c: the only part that builds certificates ---- */

EVP_PKEY *ca_key_new(void);
/* All return NULL when OpenSSL fails; ca_x509_error tells what it said. */
X509 *ca_x509_self(EVP_PKEY *key, const char *cluster, int64_t now_s);
/* Signs e's certificate for `key`. Its serial, id, hosts and times are set. */
X509 *ca_x509_issue(const struct ca *ca, const struct ca_entry *e, EVP_PKEY *key);
X509_CRL *ca_x509_crl(const struct ca *ca, int64_t now_s);
int ca_x509_error(struct err *err, const char *what);

#endif
