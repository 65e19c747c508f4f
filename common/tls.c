#include "common/tls_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <uthash.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"

enum { TLS_FILES = 3, TLS_FILE_BYTES_MAX = 16 << 20 };

static const char *const tls_files[TLS_FILES] = {"identity.pem", "ca.pem", "crl.pem"};

/* What tells that a file was replaced. */
struct stamp {
	struct timespec mtime;
	ino_t inode;
	off_t size;
};

struct remembered {
	char addr[ADDR_BYTES_MAX];
	SSL_SESSION *session;
	UT_hash_handle hh;
};

struct tls {
	char *dir;
	uint16_t role; /* these two never change */
	char cluster[IDENTITY_CLUSTER_BYTES];
	atomic_uint generation; /* counts what was loaded; changed under the lock */
	pthread_mutex_t lock;	/* protects what follows; held for no I/O but a reload's */
	SSL_CTX *ctx;
	struct identity self;
	struct stamp stamps[TLS_FILES];
	int64_t next_look_ms;
	struct remembered *sessions;
};

/* ---- files ---- */

static int ssl_fail(struct err *err, const char *path, const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	int r = err_set(err, ERR_CONFIG, "%s: %s%s%s", path, what, reason ? ": " : "",
			reason ? reason : "");

	ERR_clear_error();
	return r;
}

/* The file's text in a BIO of secure size. private: only its owner may read it. */
static int read_file(const char *path, bool private, BIO **ret, struct err *err)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *text;
	ssize_t n;
	int r = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set_errno(err, errno, "%s", path);
	if (!S_ISREG(st.st_mode) || (private && (st.st_mode & 077) != 0))
		return err_set(err, ERR_CONFIG, "%s: must be a regular file%s", path,
			       private ? " that only its owner can read (chmod 600)" : "");
	if (st.st_size > TLS_FILE_BYTES_MAX)
		return err_set(err, ERR_CONFIG, "%s: too large", path);
	text = malloc((size_t)st.st_size + 1);
	n = text ? read(fd, text, (size_t)st.st_size) : -1;
	if (n < 0) {
		r = err_set_errno(err, text ? errno : ENOMEM, "%s", path);
	} else {
		*ret = BIO_new(BIO_s_mem());
		if (!*ret || BIO_write(*ret, text, (int)n) != (int)n)
			r = err_set(err, ERR_NOMEM, "%s: out of memory", path);
	}
	if (text)
		OPENSSL_cleanse(text, (size_t)st.st_size);
	free(text);
	return r;
}

/* A key with a pass phrase would make a daemon ask at the terminal. */
static int no_pass_phrase(char *text, int room, int writing, void *arg)
{
	return -1;
}

static int load_identity(SSL_CTX *ctx, const char *path, struct identity *ret, struct err *err)
{
	BIO *bio = NULL;
	X509 *cert = NULL;
	EVP_PKEY *key = NULL;
	int r = read_file(path, true, &bio, err);

	if (r == 0) {
		cert = PEM_read_bio_X509(bio, NULL, no_pass_phrase, NULL);
		key = cert ? PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, NULL) : NULL;
		if (!cert || !key || SSL_CTX_use_certificate(ctx, cert) != 1 ||
		    SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1)
			r = ssl_fail(err, path, "no certificate with its private key");
	}
	if (r == 0) {
		*ret = (struct identity){.role = 0};
		r = tls_cert_identity(cert, ret, err);
		if (r < 0)
			r = err_prefix(err, ERR_CONFIG, "%s", path);
	}
	if (r == 0 && X509_cmp_time(X509_get0_notAfter(cert), NULL) <= 0)
		r = err_set(err, ERR_CONFIG, "%s: the certificate's time has ended (cairn ca renew)",
			    path);
	if (r == 0 && tls_cert_until_s(cert) - (int64_t)time(NULL) < TLS_WARN_DAYS * 86400)
		log_warn("%s: the certificate ends in less than %d days (cairn ca renew)", path,
			 TLS_WARN_DAYS);
	EVP_PKEY_free(key);
	X509_free(cert);
	BIO_free(bio);
	return r;
}

static int load_ca(SSL_CTX *ctx, const char *path, struct err *err)
{
	BIO *bio = NULL;
	X509 *cert = NULL;
	int r = read_file(path, false, &bio, err);

	if (r == 0) {
		cert = PEM_read_bio_X509(bio, NULL, no_pass_phrase, NULL);
		if (!cert || X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), cert) != 1)
			r = ssl_fail(err, path, "no certificate");
	}
	X509_free(cert);
	BIO_free(bio);
	return r;
}

/* The signature is checked when the first certificate is: nothing verifies under a forged list. */
static int load_crl(SSL_CTX *ctx, const char *path, struct err *err)
{
	BIO *bio = NULL;
	X509_CRL *crl = NULL;
	int r = read_file(path, false, &bio, err);

	if (r == 0) {
		crl = PEM_read_bio_X509_CRL(bio, NULL, no_pass_phrase, NULL);
		if (!crl || X509_STORE_add_crl(SSL_CTX_get_cert_store(ctx), crl) != 1)
			r = ssl_fail(err, path, "no list of revoked certificates");
	}
	X509_CRL_free(crl);
	BIO_free(bio);
	return r;
}

static SSL_CTX *new_ctx(void)
{
	static const char ciphers[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
				      "TLS_CHACHA20_POLY1305_SHA256";
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());

	if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, ciphers) != 1 ||
	    SSL_CTX_set1_groups_list(ctx, "X25519:P-256") != 1 ||
	    SSL_CTX_set_session_id_context(ctx, (const uint8_t *)"cairn", 5) != 1 ||
	    X509_STORE_set_flags(SSL_CTX_get_cert_store(ctx), X509_V_FLAG_CRL_CHECK |
							      X509_V_FLAG_X509_STRICT) != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
			   tls_conn_on_verify);
	SSL_CTX_set_verify_depth(ctx, 1); /* the authority signs everything itself */
	SSL_CTX_set_max_cert_list(ctx, TLS_CERT_BYTES_MAX);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	/* Accepting, the ticket is the session: nothing is kept. Dialling, tls_remember keeps one. The
	 * tickets' keys are the context's own, so that a reload ends all of them. */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, tls_conn_on_session);
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_timeout(ctx, TLS_TICKET_S);
	return ctx;
}

static void take_stamps(const char *dir, struct stamp *ret)
{
	for (int i = 0; i < TLS_FILES; i++) {
		char path[4096];
		struct stat st;
		ret[i] = (struct stamp){.size = -1};
		if (snprintf(path, sizeof(path), "%s/%s", dir, tls_files[i]) < (int)sizeof(path) &&
		    stat(path, &st) == 0)
			ret[i] = (struct stamp){st.st_mtim, st.st_ino, st.st_size};
	}
}

static bool stamps_equal(const struct stamp *a, const struct stamp *b)
{
	for (int i = 0; i < TLS_FILES; i++)
		if (a[i].mtime.tv_sec != b[i].mtime.tv_sec ||
		    a[i].mtime.tv_nsec != b[i].mtime.tv_nsec || a[i].inode != b[i].inode ||
		    a[i].size != b[i].size)
			return false;
	return true;
}

/* What ctx's authority and list say of cert: an X509_V_ code. */
static int verify(SSL_CTX *ctx, X509 *cert, const char *purpose)
{
	X509_STORE_CTX *store = X509_STORE_CTX_new();
	int code = X509_V_ERR_OUT_OF_MEM;

	if (store && X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(ctx), cert, NULL) == 1 &&
	    X509_STORE_CTX_set_default(store, purpose) == 1) {
		int ok = X509_verify_cert(store);
		code = X509_STORE_CTX_get_error(store);
		if (ok != 1 && code == X509_V_OK)
			code = X509_V_ERR_UNSPECIFIED;
	}
	X509_STORE_CTX_free(store);
	ERR_clear_error();
	return code;
}

/* Files of another authority load, and would refuse the whole cluster. That we are revoked is for others
 * to say. Every certificate is also for dialling. */
static int check_together(SSL_CTX *ctx, const char *dir, struct err *err)
{
	int code = verify(ctx, SSL_CTX_get0_certificate(ctx), "ssl_client");

	if (code == X509_V_OK || code == X509_V_ERR_CERT_REVOKED)
		return 0;
	return err_set(err, ERR_CONFIG, "%s: identity.pem, ca.pem and crl.pem do not belong together: %s",
		       dir, X509_verify_cert_error_string(code));
}

static int load_files(const char *dir, SSL_CTX **ret, struct identity *ret_self, struct err *err)
{
	char path[TLS_FILES][4096];
	SSL_CTX *ctx = new_ctx();
	int r = ctx ? 0 : ssl_fail(err, dir, "OpenSSL");

	for (int i = 0; r == 0 && i < TLS_FILES; i++)
		if (snprintf(path[i], sizeof(path[i]), "%s/%s", dir, tls_files[i]) >=
		    (int)sizeof(path[i]))
			r = err_set(err, ERR_CONFIG, "%s: too long", dir);
	if (r == 0)
		r = load_identity(ctx, path[0], ret_self, err);
	if (r == 0)
		r = load_ca(ctx, path[1], err);
	if (r == 0)
		r = load_crl(ctx, path[2], err);
	if (r == 0)
		r = check_together(ctx, dir, err);
	if (r < 0)
		SSL_CTX_free(ctx);
	else
		*ret = ctx;
	return r;
}

/* ---- remembered sessions; all called with the lock held ---- */

static void forget_sessions(struct tls *t)
{
	struct remembered *s, *next;

	HASH_ITER(hh, t->sessions, s, next) {
		HASH_DEL(t->sessions, s);
		SSL_SESSION_free(s->session);
		free(s);
	}
}

void tls_remember(struct tls *t, const char *addr, unsigned generation, SSL_SESSION *session)
{
	struct remembered *s = NULL;

	pthread_mutex_lock(&t->lock);
	/* One of before a reload would go on with the certificates of then. */
	if (generation == atomic_load(&t->generation)) {
		HASH_FIND_STR(t->sessions, addr, s);
		if (!s && HASH_COUNT(t->sessions) >= TLS_SESSIONS_MAX)
			forget_sessions(t);
		if (!s && (s = calloc(1, sizeof(*s)))) {
			snprintf(s->addr, sizeof(s->addr), "%s", addr);
			HASH_ADD_STR(t->sessions, addr, s);
		}
	}
	if (s) {
		SSL_SESSION_free(s->session);
		s->session = session;
	}
	pthread_mutex_unlock(&t->lock);
	if (!s)
		SSL_SESSION_free(session);
}

void tls_resume(struct tls *t, const char *addr, SSL *ssl)
{
	struct remembered *s;

	pthread_mutex_lock(&t->lock);
	HASH_FIND_STR(t->sessions, addr, s);
	if (s && SSL_SESSION_is_resumable(s->session))
		SSL_set_session(ssl, s->session);
	pthread_mutex_unlock(&t->lock);
}

/* ---- life ---- */

static int reload_locked(struct tls *t, const struct stamp *stamps, struct err *err)
{
	struct identity self;
	SSL_CTX *ctx = NULL;
	int r = load_files(t->dir, &ctx, &self, err);

	/* Also when they are bad: they are looked at again when they change again. */
	memcpy(t->stamps, stamps, sizeof(t->stamps));
	if (r == 0 && (self.role != t->role || strcmp(self.cluster, t->cluster) != 0))
		r = err_set(err, ERR_CONFIG, "%s: now a %s of cluster %s: that needs a restart",
			    t->dir, identity_role_name(self.role), self.cluster);
	if (r < 0) {
		SSL_CTX_free(ctx);
		return r;
	}
	SSL_CTX_free(t->ctx); /* connections keep theirs */
	t->ctx = ctx;
	t->self = self;
	atomic_fetch_add(&t->generation, 1);
	forget_sessions(t);
	return 0;
}

int tls_load(const char *dir, struct tls **ret, struct err *err)
{
	struct tls *t = calloc(1, sizeof(*t));
	int r;

	if (!t || !(t->dir = strdup(dir))) {
		free(t);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	pthread_mutex_init(&t->lock, NULL);
	take_stamps(dir, t->stamps);
	t->next_look_ms = deadline_in(TLS_LOOK_MS);
	r = load_files(dir, &t->ctx, &t->self, err);
	if (r < 0) {
		tls_free(t);
		return r;
	}
	t->role = t->self.role;
	memcpy(t->cluster, t->self.cluster, sizeof(t->cluster));
	*ret = t;
	return 0;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	forget_sessions(t);
	SSL_CTX_free(t->ctx);
	pthread_mutex_destroy(&t->lock);
	free(t->dir);
	free(t);
}

void tls_self(struct tls *t, struct identity *ret)
{
	pthread_mutex_lock(&t->lock);
	*ret = t->self;
	pthread_mutex_unlock(&t->lock);
}

bool tls_self_has_host(struct tls *t, const char *host)
{
	bool has;

	pthread_mutex_lock(&t->lock);
	has = tls_cert_has_host(SSL_CTX_get0_certificate(t->ctx), host);
	pthread_mutex_unlock(&t->lock);
	return has;
}

int tls_reload(struct tls *t, struct err *err)
{
	struct stamp stamps[TLS_FILES];
	int r;

	pthread_mutex_lock(&t->lock);
	take_stamps(t->dir, stamps);
	r = reload_locked(t, stamps, err);
	pthread_mutex_unlock(&t->lock);
	return r;
}

static void look_locked(struct tls *t)
{
	struct stamp stamps[TLS_FILES];
	struct err err = {0};

	t->next_look_ms = deadline_in(TLS_LOOK_MS);
	take_stamps(t->dir, stamps);
	if (stamps_equal(stamps, t->stamps))
		return;
	if (reload_locked(t, stamps, &err) < 0)
		log_warn("changed credentials are not taken over: %s", err_message(&err));
	else
		log_info("credentials in %s are taken over", t->dir);
}

void tls_look(struct tls *t)
{
	pthread_mutex_lock(&t->lock);
	look_locked(t);
	pthread_mutex_unlock(&t->lock);
}

void tls_look_if_due(struct tls *t)
{
	pthread_mutex_lock(&t->lock);
	if (deadline_left(t->next_look_ms) == 0)
		look_locked(t);
	pthread_mutex_unlock(&t->lock);
}

SSL *tls_new_ssl(struct tls *t, unsigned *ret_generation)
{
	SSL *ssl;

	pthread_mutex_lock(&t->lock);
	if (deadline_left(t->next_look_ms) == 0)
		look_locked(t);
	ssl = SSL_new(t->ctx);
	*ret_generation = atomic_load(&t->generation);
	pthread_mutex_unlock(&t->lock);
	return ssl;
}

unsigned tls_generation(const struct tls *t)
{
	return atomic_load(&t->generation);
}

/* ---- certificates ---- */

bool tls_same_cluster(const struct tls *t, const struct identity *id)
{
	return strcmp(t->cluster, id->cluster) == 0;
}

int tls_verify(struct tls *t, X509 *cert, bool server)
{
	SSL_CTX *ctx;
	int code;

	pthread_mutex_lock(&t->lock);
	ctx = t->ctx;
	SSL_CTX_up_ref(ctx);
	pthread_mutex_unlock(&t->lock);
	code = verify(ctx, cert, server ? "ssl_server" : "ssl_client");
	SSL_CTX_free(ctx);
	return code;
}

int tls_cert_identity(X509 *cert, struct identity *ret, struct err *err)
{
	struct identity id = {.role = 0};
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int r = 0;

	for (int i = 0; r >= 0 && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		const ASN1_IA5STRING *uri = name->d.uniformResourceIdentifier;
		if (name->type == GEN_URI)
			r = identity_add_uri(&id, slice_of(ASN1_STRING_get0_data(uri),
							   (size_t)ASN1_STRING_length(uri)));
	}
	GENERAL_NAMES_free(names);
	ERR_clear_error();
	if (r < 0 || id.role == 0)
		return err_set(err, ERR_AUTH, "the certificate does not say who it is for");
	*ret = id;
	return 0;
}

bool tls_cert_has_host(X509 *cert, const char *host)
{
	const unsigned exactly = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_WILDCARDS;

	return X509_check_ip_asc(cert, host, 0) == 1 ||
	       X509_check_host(cert, host, 0, exactly, NULL) == 1;
}

int64_t tls_cert_until_s(X509 *cert)
{
	struct tm tm;

	if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) != 1)
		return 0;
	return (int64_t)timegm(&tm);
}
