#include "common/tls_priv.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/conn.h"

/* AES-GCM is not to be used for more than 2^24.5 records with one key (RFC 8446, 5.5), and OpenSSL
 * does not count: that is 380 GiB of full records. Well before, the key is changed. */
static const uint64_t KEY_BYTES = 32ull << 30;

/* ---- the two ends of OpenSSL's byte stream ---- */

static int bio_write(BIO *bio, const char *data, int len)
{
	struct tls_conn *c = BIO_get_data(bio);

	buf_append(&c->out, data, (size_t)len);
	return buf_status(&c->out) < 0 ? -1 : len;
}

static int bio_read(BIO *bio, char *data, int len)
{
	struct tls_conn *c = BIO_get_data(bio);
	size_t n = c->in.len < (size_t)len ? c->in.len : (size_t)len;

	BIO_clear_retry_flags(bio);
	if (n == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(data, c->in.data, n);
	c->in = slice_of(c->in.data + n, c->in.len - n);
	return (int)n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method;

static void make_bio_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "cairn");

	if (m && BIO_meth_set_write(m, bio_write) && BIO_meth_set_read(m, bio_read) &&
	    BIO_meth_set_ctrl(m, bio_ctrl))
		bio_method = m;
}

static BIO *new_bio(struct tls_conn *c)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	BIO *bio;

	pthread_once(&once, make_bio_method);
	bio = bio_method ? BIO_new(bio_method) : NULL;
	if (bio) {
		BIO_set_data(bio, c);
		BIO_set_init(bio, 1);
	}
	return bio;
}

/* ---- life ---- */

int tls_conn_init(struct tls_conn *c, struct tls *tls, const char *addr, struct err *err)
{
	BIO *bio;

	*c = (struct tls_conn){.tls = tls, .accepting = !addr};
	c->ssl = tls_new_ssl(tls, &c->generation);
	bio = c->ssl ? new_bio(c) : NULL;
	if (!bio) {
		ERR_clear_error();
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	SSL_set_bio(c->ssl, bio, bio); /* takes it over */
	SSL_set_app_data(c->ssl, c);
	if (addr) {
		snprintf(c->addr, sizeof(c->addr), "%s", addr);
		SSL_set_connect_state(c->ssl);
		tls_resume(tls, addr, c->ssl);
	} else {
		SSL_set_accept_state(c->ssl);
	}
	return 0;
}

void tls_conn_release(struct tls_conn *c)
{
	/* Nothing depends on an orderly end: every message tells its length. Without this OpenSSL would
	 * take the session for broken and never resume it. */
	if (c->ssl)
		SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(c->ssl);
	buf_release(&c->out);
	c->ssl = NULL;
}

int tls_conn_on_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_conn *c = SSL_get_app_data(ssl);

	if (c->accepting)
		return 0;
	tls_remember(c->tls, c->addr, c->generation, session);
	return 1; /* taken over */
}

/* ---- failures ---- */

/* Alerts that speak of our certificate: asking again will not help. */
static bool alert_is_refusal(int reason)
{
	switch (reason - SSL_AD_REASON_OFFSET) {
	case SSL_AD_BAD_CERTIFICATE: case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED: case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_UNKNOWN: case SSL_AD_UNKNOWN_CA: case SSL_AD_ACCESS_DENIED:
	case SSL_AD_CERTIFICATE_REQUIRED: case SSL_AD_PROTOCOL_VERSION:
		return true;
	default:
		return false;
	}
}

static int bad_cert(const struct tls_conn *c, const char *why, struct err *err)
{
	if (!c->peer.role)
		return err_set(err, ERR_AUTH, "its certificate: %s", why);
	return err_set(err, ERR_AUTH, "its certificate (%s/%s): %s", identity_role_name(c->peer.role),
		       c->peer.name, why);
}

static int conn_fail(struct tls_conn *c, int result, struct err *err)
{
	unsigned long code = ERR_peek_error();
	int kind = SSL_get_error(c->ssl, result);
	long verdict = SSL_get_verify_result(c->ssl);
	const char *reason = code ? ERR_reason_error_string(code) : NULL;
	int r;

	if (kind == SSL_ERROR_ZERO_RETURN)
		r = err_set(err, ERR_CLOSED, "connection closed");
	else if (verdict != X509_V_OK)
		r = bad_cert(c, c->why[0] ? c->why : X509_verify_cert_error_string(verdict), err);
	else if (alert_is_refusal(ERR_GET_REASON(code)))
		r = err_set(err, ERR_AUTH, "it refuses our certificate: %s", reason ? reason : "?");
	else
		r = err_set(err, c->done ? ERR_CLOSED : ERR_AUTH, "TLS: %s", reason ? reason : "?");
	ERR_clear_error();
	return r;
}

/* ---- who it is ---- */

static int check_host(const struct tls_conn *c, X509 *cert, struct err *err)
{
	char host[ADDR_BYTES_MAX], port[8];
	int r = addr_split(c->addr, host, port, err);

	if (r < 0)
		return r;
	if (tls_cert_has_host(cert, host))
		return 0;
	return err_set(err, ERR_AUTH, "its certificate (%s/%s) is not for host %s",
		       identity_role_name(c->peer.role), c->peer.name, host);
}

/* Whether it is somebody of this cluster, as far as X.509 does not know. */
static int check_who(struct tls_conn *c, X509 *cert, struct err *err)
{
	int r = tls_cert_identity(cert, &c->peer, err);

	if (r == 0 && !tls_same_cluster(c->tls, &c->peer))
		r = err_set(err, ERR_AUTH, "it is of cluster %s", c->peer.cluster);
	return r;
}

/* During the handshake, so that TLS tells the peer. */
int tls_conn_on_verify(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_conn *c = SSL_get_app_data(ssl);
	struct err err = {0};

	/* What it says of itself, for the log only: nothing of it is believed. */
	if (!ok)
		tls_cert_identity(X509_STORE_CTX_get0_cert(store), &c->peer, NULL);
	if (!ok || X509_STORE_CTX_get_error_depth(store) > 0)
		return ok;
	if (check_who(c, X509_STORE_CTX_get_current_cert(store), &err) == 0)
		return 1;
	snprintf(c->why, sizeof(c->why), "%.*s", (int)sizeof(c->why) - 1, err.text);
	X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
	return 0;
}

static int admit(struct tls_conn *c, struct err *err)
{
	X509 *cert = SSL_get0_peer_certificate(c->ssl);
	int verdict = X509_V_OK, r;

	if (!cert)
		return err_set(err, ERR_AUTH, "it has no certificate");
	/* A ticket remembers a certificate that was good once. */
	if (c->resumed)
		verdict = tls_verify(c->tls, cert, !c->accepting);
	if (verdict != X509_V_OK)
		return bad_cert(c, X509_verify_cert_error_string(verdict), err);
	r = check_who(c, cert, err);
	if (r == 0 && !c->accepting)
		r = check_host(c, cert, err);
	c->until_s = tls_cert_until_s(cert);
	return r;
}

/* A fatal alert as a record: content type, version, length, level, description. */
static const uint8_t handshake_failure[] = {0x15, 3, 3, 0, 2, 2, SSL_AD_HANDSHAKE_FAILURE};

int tls_conn_handshake(struct tls_conn *c, struct err *err)
{
	int n, r;

	ERR_clear_error();
	n = SSL_do_handshake(c->ssl);
	if (n != 1 && SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ)
		return 0;
	if (n != 1) {
		r = conn_fail(c, n, err);
		/* To bytes that are no TLS at all OpenSSL says nothing. Who speaks plainly shall know. */
		if (c->out.len == 0)
			buf_append(&c->out, handshake_failure, sizeof(handshake_failure));
		return r;
	}
	c->resumed = SSL_session_reused(c->ssl);
	r = admit(c, err);
	if (r < 0)
		return r;
	c->done = true;
	return 1;
}

int tls_conn_recheck(struct tls_conn *c, struct err *err)
{
	unsigned generation = tls_generation(c->tls);
	int verdict;

	if (generation == c->generation && (int64_t)time(NULL) < c->until_s)
		return 0;
	verdict = tls_verify(c->tls, SSL_get0_peer_certificate(c->ssl), !c->accepting);
	if (verdict != X509_V_OK)
		return bad_cert(c, X509_verify_cert_error_string(verdict), err);
	c->generation = generation;
	return 0;
}

/* ---- data ---- */

int tls_conn_read(struct tls_conn *c, void *data, size_t len, size_t *ret_n, struct err *err)
{
	int n;

	*ret_n = 0;
	ERR_clear_error();
	if (SSL_read_ex(c->ssl, data, len, ret_n) == 1)
		return 0;
	*ret_n = 0;
	n = SSL_get_error(c->ssl, 0);
	return n == SSL_ERROR_WANT_READ ? 0 : conn_fail(c, 0, err);
}

int tls_conn_write(struct tls_conn *c, const void *data, size_t len, struct err *err)
{
	size_t written;

	if (len == 0)
		return 0;
	ERR_clear_error();
	c->key_bytes += len;
	if (c->key_bytes > KEY_BYTES) {
		c->key_bytes = len;
		SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
	}
	/* `out` takes everything, so it is all or a failure. */
	if (SSL_write_ex(c->ssl, data, len, &written) != 1 || written != len)
		return conn_fail(c, 0, err);
	return 0;
}
