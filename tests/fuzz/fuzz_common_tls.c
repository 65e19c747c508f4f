/* A peer's certificate: who it says it is, of hostile DER. And the URIs in it by themselves. */
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "common/tls_priv.h"
#include "common/wire.h"
#include "tests/fuzz/fuzz.h"

/* What comes in must be spelled in the one way there is. */
static void check_identity(const struct identity *id)
{
	char uri[IDENTITY_URI_BYTES];
	struct identity again = {.role = 0};

	if (!identity_cluster_ok(id->cluster) || !identity_name_ok(id->name) ||
	    !identity_role_name(id->role) || (id->export[0] && !identity_name_ok(id->export)))
		abort();
	identity_uri(id, uri);
	if (identity_add_uri(&again, slice_str(uri)) != 1 || again.role != id->role)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *at = data;
	X509 *cert = d2i_X509(NULL, &at, (long)size);
	struct identity id = {.role = 0};

	if (cert) {
		if (tls_cert_identity(cert, &id, NULL) == 0)
			check_identity(&id);
		tls_cert_until_s(cert);
	}
	X509_free(cert);
	id = (struct identity){.role = 0};
	if (identity_add_uri(&id, slice_of(data, size)) == 1 && id.role)
		check_identity(&id);
	return 0;
}

/* Always the same bytes: a fixed key, fixed times, and signatures (Ed25519) without randomness. */
static bool seed_cert(struct buf *b)
{
	static const char names[] =
		"URI:cairn://0123456789abcdef0123456789abcdef/client/alice,"
		"URI:cairn://0123456789abcdef0123456789abcdef/export/home,IP:127.0.0.1,DNS:a.example";
	static const uint8_t secret[32] = "no secret: it signs a fuzz seed";
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, sizeof(secret));
	X509 *cert = X509_new();
	X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
	unsigned char *der = NULL;
	int n = -1;

	if (key && cert && san && X509_add_ext(cert, san, -1) && X509_set_pubkey(cert, key) &&
	    ASN1_TIME_set(X509_getm_notBefore(cert), 1900000000) &&
	    ASN1_TIME_set(X509_getm_notAfter(cert), 1931536000) && X509_sign(cert, key, NULL))
		n = i2d_X509(cert, &der);
	if (n > 0)
		buf_append(b, der, (size_t)n);
	OPENSSL_free(der);
	X509_EXTENSION_free(san);
	X509_free(cert);
	EVP_PKEY_free(key);
	return n > 0;
}

bool fuzz_seed(unsigned i, struct buf *b)
{
	static struct buf cert; /* asked for before each run */

	if (cert.len == 0 && !seed_cert(&cert))
		abort();
	if (i == 0)
		buf_append_slice(b, buf_slice(&cert));
	if (i == 1)
		buf_printf(b, "cairn://0123456789abcdef0123456789abcdef/master/m");
	return i <= 1;
}
