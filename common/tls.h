/* TLS 1.3 with certificates of the cluster's authority on both sides: the one user of libssl.
 *
 * A `struct tls` is what a process is and whom it believes: a credentials directory
 *
 *     identity.pem   its certificate and its private key; nobody but the owner may read it
 *     ca.pem         the authority's certificate
 *     crl.pem        what the authority has revoked
 *
 * as `cairn ca issue` makes it. It is shared by all threads of the process. The files are looked at
 * again when TLS_LOOK_MS have passed and a connection is made or a server's timer goes off
 * (tls_look_if_due), and by tls_reload (SIGHUP): renewed certificates and new revocations need no
 * restart. Files that do not load are reported and change nothing.
 *
 * A `struct tls_conn` is one connection's state. It does no I/O: it takes bytes that came and leaves
 * bytes to be sent, and so serves blocking connections (common/conn.h) and the master's loop alike.
 * One thread at a time. There is no partial write, no wish to read while writing and no SIGPIPE in it:
 * what OpenSSL has to say, tickets and key updates included, is in `out` after each call, for the
 * caller to send.
 *
 * Whom a connection believes, on both sides and also when a session is resumed: a certificate that the
 * authority signed, in its time, not revoked, for this purpose, of this cluster; and when dialling, issued
 * for the host that was dialled. Its role is checked by the caller (common/auth.h).
 */
#ifndef CAIRN_COMMON_TLS_H
#define CAIRN_COMMON_TLS_H

#include "common/buf.h"
#include "common/err.h"
#include "common/identity.h"
#include "common/limits.h"

enum {
	TLS_RECORD_BYTES = 16384, /* at most so much is decrypted at a time */
	TLS_LOOK_MS = 5000,
	TLS_TICKET_S = 3600,	    /* a session is resumed within so long, without new signatures */
	TLS_SESSIONS_MAX = 1024,    /* remembered for resumption, one for each address */
	TLS_CERT_BYTES_MAX = 8192,  /* of what a peer shows of itself, before it is believed */
	TLS_WARN_DAYS = 14,	    /* a certificate that ends within these is worth a line */
};

struct tls;
struct ssl_st;

/* ERR_CONFIG when a file is wrong, others may read the key, the certificate has ended, or the files are
 * not of one authority. */
int tls_load(const char *dir, struct tls **ret, struct err *err);
/* Every tls_conn of it is released. NULL is fine. */
void tls_free(struct tls *t);
/* Who we are. Role and cluster never change; the rest is as of now. */
void tls_self(struct tls *t, struct identity *ret);
/* Whether our certificate was issued for this host, a name or an address. */
bool tls_self_has_host(struct tls *t, const char *host);
/* Reads the files now. On failure all stays as it was. */
int tls_reload(struct tls *t, struct err *err);

/* The same if they have changed. */
void tls_look(struct tls *t);
/* The same when TLS_LOOK_MS have passed since the last look. A server calls it from time to time: a
 * revocation is to end connections also when nobody makes a new one. */
void tls_look_if_due(struct tls *t);
/* Counts what was taken over, by whomever. */
unsigned tls_generation(const struct tls *t);

struct tls_conn {
	struct tls *tls;
	struct ssl_st *ssl;
	bool accepting;
	bool done; /* set up; peer is good */
	bool resumed;
	char addr[ADDR_BYTES_MAX]; /* that was dialled */
	struct identity peer;
	char why[160];	     /* why it was refused, when X.509 has no words for it */
	int64_t until_s;     /* the peer's certificate ends */
	unsigned generation; /* of the files that the peer was checked against */
	uint64_t key_bytes;  /* sent with the present key */
	struct slice in;     /* what came and is not taken yet; the caller's memory */
	struct buf out;	     /* to be sent and cleared by the caller */
};

/* addr: what is dialled, "host:port"; NULL: accepting. c may be released even when this failed. */
int tls_conn_init(struct tls_conn *c, struct tls *tls, const char *addr, struct err *err);
void tls_conn_release(struct tls_conn *c);
/* Goes on with the set-up. 1: done; 0: more must come; ERR_AUTH. `out` is to be sent in all cases:
 * it tells the peer why. */
int tls_conn_handshake(struct tls_conn *c, struct err *err);
/* Decrypts up to len bytes. *ret_n 0: more must come. ERR_CLOSED at the peer's end. */
int tls_conn_read(struct tls_conn *c, void *data, size_t len, size_t *ret_n, struct err *err);
/* Encrypts all of it into `out`. */
int tls_conn_write(struct tls_conn *c, const void *data, size_t len, struct err *err);
/* Whether the peer is still good: costs something only after a reload, or when its time has come.
 * ERR_AUTH: close it. */
int tls_conn_recheck(struct tls_conn *c, struct err *err);

#endif
