#include "tools/ca.h"

#include <arpa/inet.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/wire.h"

enum { X509_V3 = 2, CRL_V2 = 1 };

int ca_x509_error(struct err *err, const char *what)
{
	char text[256] = "no reason given";
	unsigned long code = ERR_peek_last_error();

	if (code)
		ERR_error_string_n(code, text, sizeof(text));
	ERR_clear_error();
	return err_set(err, ERR_IO, "%s: %s", what, text);
}

EVP_PKEY *ca_key_new(void)
{
	return EVP_EC_gen("P-256");
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *extension;
	bool ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = extension && X509_add_ext(cert, extension, -1) == 1;
	X509_EXTENSION_free(extension);
	return ok;
}

static bool add_name(X509_NAME *name, const char *field, const char *value)
{
	return X509_NAME_add_entry_by_txt(name, field, MBSTRING_ASC, (const uint8_t *)value, -1,
					  -1, 0) == 1;
}

static bool set_serial(ASN1_INTEGER *to, const char *hex)
{
	BIGNUM *bn = NULL;
	bool ok = BN_hex2bn(&bn, hex) > 0 && BN_to_ASN1_INTEGER(bn, to);

	BN_free(bn);
	return ok;
}

static bool set_times(X509 *cert, int64_t from_s, int64_t until_s)
{
	return ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)from_s) &&
	       ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)until_s);
}

X509 *ca_x509_self(EVP_PKEY *key, const char *cluster, int64_t now_s)
{
	X509 *cert = X509_new();
	X509_NAME *name = cert ? X509_get_subject_name(cert) : NULL;

	if (name && X509_set_version(cert, X509_V3) &&
	    set_serial(X509_get_serialNumber(cert), cluster) && add_name(name, "O", cluster) &&
	    add_name(name, "CN", "Cairn cluster authority") && X509_set_issuer_name(cert, name) &&
	    set_times(cert, now_s - CA_SKEW_S, now_s + (int64_t)CA_SELF_DAYS * CA_DAY_S) &&
	    X509_set_pubkey(cert, key) &&
	    add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
	    add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") &&
	    add_extension(cert, cert, NID_subject_key_identifier, "hash") &&
	    X509_sign(cert, key, EVP_sha256()))
		return cert;
	X509_free(cert);
	return NULL;
}

/* Hosts were checked to hold no comma, which would begin another name. */
static void names_text(const struct ca_entry *e, struct buf *out)
{
	char uri[IDENTITY_URI_BYTES];
	uint8_t ip[16];

	identity_uri(&e->id, uri);
	buf_printf(out, "URI:%s", uri);
	if (e->id.export[0]) {
		identity_export_uri(&e->id, uri);
		buf_printf(out, ",URI:%s", uri);
	}
	for (size_t i = 0; i < e->n_hosts; i++) {
		bool is_ip = inet_pton(AF_INET, e->hosts[i], ip) == 1 ||
			     inet_pton(AF_INET6, e->hosts[i], ip) == 1;
		buf_printf(out, ",%s:%s", is_ip ? "IP" : "DNS", e->hosts[i]);
	}
}

X509 *ca_x509_issue(const struct ca *ca, const struct ca_entry *e, EVP_PKEY *key)
{
	bool server = e->id.role == ROLE_MASTER || e->id.role == ROLE_CHUNKSERVER;
	_cleanup_buf_ struct buf names = {0};
	X509 *cert = X509_new();
	X509_NAME *name = cert ? X509_get_subject_name(cert) : NULL;

	names_text(e, &names);
	if (name && buf_status(&names) == 0 && X509_set_version(cert, X509_V3) &&
	    set_serial(X509_get_serialNumber(cert), e->serial) &&
	    add_name(name, "O", e->id.cluster) &&
	    add_name(name, "OU", identity_role_name(e->id.role)) &&
	    add_name(name, "CN", e->id.name) &&
	    X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) &&
	    set_times(cert, e->from_s, e->until_s) && X509_set_pubkey(cert, key) &&
	    add_extension(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") &&
	    add_extension(cert, ca->cert, NID_key_usage, "critical,digitalSignature") &&
	    add_extension(cert, ca->cert, NID_ext_key_usage,
			  server ? "serverAuth,clientAuth" : "clientAuth") &&
	    add_extension(cert, ca->cert, NID_subject_key_identifier, "hash") &&
	    add_extension(cert, ca->cert, NID_authority_key_identifier, "keyid:always") &&
	    add_extension(cert, ca->cert, NID_subject_alt_name, buf_str(&names)) &&
	    X509_sign(cert, ca->key, EVP_sha256()))
		return cert;
	X509_free(cert);
	return NULL;
}

static bool crl_add(X509_CRL *crl, const struct ca_entry *e)
{
	X509_REVOKED *revoked = X509_REVOKED_new();
	ASN1_INTEGER *serial = ASN1_INTEGER_new();
	ASN1_TIME *when = ASN1_TIME_set(NULL, (time_t)e->revoked_s);
	bool ok = revoked && serial && when && set_serial(serial, e->serial) &&
		  X509_REVOKED_set_serialNumber(revoked, serial) &&
		  X509_REVOKED_set_revocationDate(revoked, when) &&
		  X509_CRL_add0_revoked(crl, revoked);

	if (!ok)
		X509_REVOKED_free(revoked);
	ASN1_INTEGER_free(serial);
	ASN1_TIME_free(when);
	return ok;
}

static bool crl_extensions(X509_CRL *crl, const struct ca *ca)
{
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	X509V3_CTX ctx;
	X509_EXTENSION *key_id;
	bool ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, ca->cert, NULL, NULL, crl, 0);
	key_id = X509V3_EXT_conf_nid(NULL, &ctx, NID_authority_key_identifier, "keyid:always");
	ok = key_id && number && X509_CRL_add_ext(crl, key_id, -1) &&
	     ASN1_INTEGER_set_int64(number, ca->crl_number) &&
	     X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, 0) == 1;
	X509_EXTENSION_free(key_id);
	ASN1_INTEGER_free(number);
	return ok;
}

/* A CRL is good for as long as the authority: a cluster does not stop because nobody revoked anything
 * for a month. What protects against an old one is whoever copies the new one. */
X509_CRL *ca_x509_crl(const struct ca *ca, int64_t now_s)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *last = ASN1_TIME_set(NULL, (time_t)(now_s - CA_SKEW_S));
	ASN1_TIME *next = ASN1_TIME_set(NULL, (time_t)(now_s + (int64_t)CA_SELF_DAYS * CA_DAY_S));
	bool ok = crl && last && next && X509_CRL_set_version(crl, CRL_V2) &&
		  X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->cert)) &&
		  X509_CRL_set1_lastUpdate(crl, last) && X509_CRL_set1_nextUpdate(crl, next);

	for (size_t i = 0; ok && i < ca->n; i++)
		if (ca->entries[i].revoked_s)
			ok = crl_add(crl, &ca->entries[i]);
	ok = ok && crl_extensions(crl, ca) && X509_CRL_sort(crl) &&
	     X509_CRL_sign(crl, ca->key, EVP_sha256());
	ASN1_TIME_free(last);
	ASN1_TIME_free(next);
	if (!ok) {
		X509_CRL_free(crl);
		return NULL;
	}
	return crl;
}
