/* The inside of common/tls.h: tls.c (files, trust, remembered sessions), tls_conn.c (connections). */
#ifndef CAIRN_COMMON_TLS_PRIV_H
#define CAIRN_COMMON_TLS_PRIV_H

#include <openssl/ssl.h>

#include "common/tls.h"

/* A new SSL of the present files, and their generation; looks at the files when it is time. */
SSL *tls_new_ssl(struct tls *t, unsigned *ret_generation);
/* Whether the present files say that cert is good: an X509_V_ code. server: of what was dialled. */
int tls_verify(struct tls *t, X509 *cert, bool server);
bool tls_same_cluster(const struct tls *t, const struct identity *id);
/* Takes over the session (a reference). */
void tls_remember(struct tls *t, const char *addr, unsigned generation, SSL_SESSION *session);
/* Makes ssl try to resume what is remembered of addr. */
void tls_resume(struct tls *t, const char *addr, SSL *ssl);

/* Who a certificate says it is: ERR_AUTH when it does not say exactly one thing. */
int tls_cert_identity(X509 *cert, struct identity *ret, struct err *err);
int64_t tls_cert_until_s(X509 *cert);
/* Whether it was issued for this host, a name or an address, as `cairn ca` writes it. */
bool tls_cert_has_host(X509 *cert, const char *host);
/* Callbacks of an SSL, in tls_conn.c: a certificate of the chain was verified; a ticket came. */
int tls_conn_on_verify(int ok, X509_STORE_CTX *store);
int tls_conn_on_session(SSL *ssl, SSL_SESSION *session);

#endif
