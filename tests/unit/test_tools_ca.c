/* The cluster's authority: what it issues verifies, what it revokes does not, what it wrote it reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "common/wire.h"
#include "tools/ca.h"

enum { NOW_S = 1900000000 }; /* any time: nothing here looks at a clock */

static char dir[256];

static int set_up(void **state)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/cairn-ca-XXXXXX", tmp ? tmp : "/tmp");
	return mkdtemp(dir) && ca_init(dir, NOW_S, NULL) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[300];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static X509 *read_cert(const char *where)
{
	char path[512];
	X509 *cert;
	FILE *f;

	snprintf(path, sizeof(path), "%s/identity.pem", where);
	f = fopen(path, "r");
	assert_non_null(f);
	cert = PEM_read_X509(f, NULL, NULL, NULL);
	fclose(f);
	assert_non_null(cert);
	return cert;
}

static X509_CRL *read_crl(const char *where)
{
	char path[512];
	X509_CRL *crl;
	FILE *f;

	snprintf(path, sizeof(path), "%s/crl.pem", where);
	f = fopen(path, "r");
	assert_non_null(f);
	crl = PEM_read_X509_CRL(f, NULL, NULL, NULL);
	fclose(f);
	assert_non_null(crl);
	return crl;
}

/* What OpenSSL says of the certificate in `where` at that time: an X509_V_ code. */
static int judge(const struct ca *ca, const char *where, int64_t at_s, int purpose)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509 *cert = read_cert(where);
	X509_CRL *crl = read_crl(ca->dir);
	int code;

	X509_STORE_add_cert(store, ca->cert);
	X509_STORE_add_crl(store, crl);
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_X509_STRICT);
	X509_STORE_set_purpose(store, purpose);
	X509_STORE_CTX_init(ctx, store, cert, NULL);
	X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx), (time_t)at_s);
	X509_verify_cert(ctx);
	code = X509_STORE_CTX_get_error(ctx);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	X509_CRL_free(crl);
	X509_free(cert);
	return code;
}

static const struct ca_entry *give(struct ca *ca, uint16_t role, const char *name, int64_t lifetime_s)
{
	struct ca_request req = {.role = role, .name = name, .now_s = NOW_S, .lifetime_s = lifetime_s};
	const struct ca_entry *e;

	assert_int_equal(ca_issue(ca, &req, &e, NULL), 0);
	return e;
}

static void test_issue(void **state)
{
	static const char *const hosts[] = {"10.1.2.3", "fe80::1", "a.example"};
	struct ca_request req = {.role = ROLE_CHUNKSERVER, .name = "cs-1", .hosts = hosts,
				 .n_hosts = 3, .now_s = NOW_S, .lifetime_s = 1000};
	const struct ca_entry *e;
	struct ca ca;
	X509 *cert;

	assert_int_equal(ca_open(dir, &ca, NULL), 0);
	assert_int_equal(ca_issue(&ca, &req, &e, NULL), 0);
	cert = read_cert(e->out);
	assert_int_equal(X509_check_ip_asc(cert, "10.1.2.3", 0), 1);
	assert_int_equal(X509_check_ip_asc(cert, "fe80::1", 0), 1);
	assert_int_equal(X509_check_host(cert, "a.example", 0, 0, NULL), 1);
	assert_int_equal(X509_check_host(cert, "b.example", 0, 0, NULL), 0);
	X509_free(cert);
	assert_int_equal(judge(&ca, e->out, NOW_S, X509_PURPOSE_SSL_SERVER), X509_V_OK);
	assert_int_equal(judge(&ca, e->out, NOW_S, X509_PURPOSE_SSL_CLIENT), X509_V_OK);
	assert_int_equal(judge(&ca, e->out, NOW_S + 1001, X509_PURPOSE_SSL_SERVER),
			 X509_V_ERR_CERT_HAS_EXPIRED);
	/* A client can only be one. */
	e = give(&ca, ROLE_CLIENT, "alice", 1000);
	assert_int_equal(judge(&ca, e->out, NOW_S, X509_PURPOSE_SSL_CLIENT), X509_V_OK);
	assert_int_equal(judge(&ca, e->out, NOW_S, X509_PURPOSE_SSL_SERVER),
			 X509_V_ERR_INVALID_PURPOSE);
	ca_close(&ca);
}

static void test_refused(void **state)
{
	static const char *const bad_host[] = {"a,URI:cairn://x"};
	const struct { struct ca_request req; int want; } cases[] = {
		{{.role = 9, .name = "x"}, ERR_INVAL},
		{{.role = ROLE_CLIENT, .name = ""}, ERR_INVAL},
		{{.role = ROLE_CLIENT, .name = "a/b"}, ERR_INVAL},
		{{.role = ROLE_CLIENT, .name = "../a"}, ERR_INVAL},
		{{.role = ROLE_CLIENT, .name = "a,b"}, ERR_INVAL},
		{{.role = ROLE_MASTER, .name = "m", .hosts = bad_host, .n_hosts = 1}, ERR_INVAL},
		{{.role = ROLE_MASTER, .name = "a_b"}, ERR_INVAL}, /* no host name, and none given */
		{{.role = ROLE_CLIENT, .name = "c", .hosts = bad_host, .n_hosts = 1}, ERR_INVAL},
		{{.role = ROLE_MASTER, .name = "m", .export = "home"}, ERR_INVAL},
		{{.role = ROLE_CLIENT, .name = "c", .export = "a/b"}, ERR_INVAL},
		{{.role = ROLE_CLIENT, .name = "taken"}, ERR_EXIST},
	};
	const struct ca_entry *e;
	struct ca ca;
	size_t n;

	assert_int_equal(ca_init(dir, NOW_S, NULL), ERR_EXIST);
	assert_int_equal(ca_open(dir, &ca, NULL), 0);
	give(&ca, ROLE_CLIENT, "taken", 1000);
	n = ca.n;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct ca_request req = cases[i].req;
		req.now_s = NOW_S;
		req.lifetime_s = 1000;
		assert_int_equal(ca_issue(&ca, &req, &e, NULL), cases[i].want);
		assert_int_equal(ca.n, n);
	}
	ca_close(&ca);
}

static void test_revoke_and_renew(void **state)
{
	const struct ca_entry *e;
	char first[CA_SERIAL_BYTES];
	unsigned n = 0;
	struct ca ca;
	size_t index;

	assert_int_equal(ca_open(dir, &ca, NULL), 0);
	give(&ca, ROLE_CLIENT, "bob", 1000);
	give(&ca, ROLE_ADMIN, "bob", 5000);
	/* One name, two roles: which one is to be said. */
	assert_int_equal(ca_find(&ca, "bob", NOW_S, &index, NULL), ERR_INVAL);
	assert_int_equal(ca_revoke(&ca, "bob", NOW_S, &n, NULL), ERR_INVAL);
	assert_int_equal(ca_find(&ca, "client/bob", NOW_S, &index, NULL), 0);
	strcpy(first, ca.entries[index].serial);
	assert_int_equal(ca_renew(&ca, index, NOW_S + 900, 0, &e, NULL), 0);
	assert_int_equal(e->until_s, NOW_S + 1900);
	assert_string_not_equal(e->serial, first);
	assert_string_equal(ca_entry_state(&ca.entries[index], NOW_S + 900), "replaced");
	assert_int_equal(judge(&ca, e->out, NOW_S + 1800, X509_PURPOSE_SSL_CLIENT), X509_V_OK);
	/* A new process finds both, and a revocation takes both. */
	ca_close(&ca);
	assert_int_equal(ca_open(dir, &ca, NULL), 0);
	assert_int_equal(ca_revoke(&ca, "client/bob", NOW_S + 950, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_int_equal(ca_find(&ca, "client/bob", NOW_S + 950, &index, NULL), ERR_NOENT);
	assert_int_equal(ca_find(&ca, "bob", NOW_S + 950, &index, NULL), 0);
	/* Again, in case it had failed half-way: the lists are written anew, while there is one to be on. */
	for (size_t i = 0; i < ca.n; i++) {
		char path[600];
		snprintf(path, sizeof(path), "%s/crl.pem", ca.entries[i].out);
		unlink(path);
	}
	assert_int_equal(ca_revoke(&ca, "client/bob", NOW_S + 950, &n, NULL), 0);
	assert_int_equal(n, 0);
	assert_int_equal(ca_revoke(&ca, "client/bob", NOW_S + 9500, &n, NULL), ERR_NOENT);
	assert_int_equal(judge(&ca, ca.entries[index].out, NOW_S + 950, X509_PURPOSE_SSL_CLIENT),
			 X509_V_OK);
	for (size_t i = 0; i < ca.n; i++)
		if (ca.entries[i].id.role == ROLE_CLIENT && strcmp(ca.entries[i].id.name, "bob") == 0)
			assert_int_equal(judge(&ca, ca.entries[i].out, NOW_S + 950,
					       X509_PURPOSE_SSL_CLIENT), X509_V_ERR_CERT_REVOKED);
	ca_close(&ca);
}

static void test_state_damaged(void **state)
{
	char path[300];
	struct ca ca;

	snprintf(path, sizeof(path), "%s/ca.json", dir);
	assert_int_equal(truncate(path, 20), 0);
	assert_int_equal(ca_open(dir, &ca, NULL), ERR_CORRUPT);
	unlink(path);
	assert_int_equal(ca_open(dir, &ca, NULL), ERR_NOENT);
}

static void test_uris(void **state)
{
	static const char *const good[] = {
		"cairn://0123456789abcdef0123456789abcdef/master/m",
		"cairn://0123456789abcdef0123456789abcdef/export/e.1",
	};
	static const char *const bad[] = {
		"cairn://", "cairn://0123456789abcdef0123456789abcdef", "cairn:///master/m",
		"cairn://0123456789abcdef0123456789abcdef/master", "cairn://0123456789ABCDEF0123456789abcdef/master/m",
		"cairn://0123456789abcdef0123456789abcdef/master/", "cairn://0123456789abcdef0123456789abcdef/boss/m",
		"cairn://0123456789abcdef0123456789abcdef/master/a/b", "cairn://0123456789abcdef0123456789abcdef/master/a b",
		"cairn://0123456789abcdef0123456789abcde/master/m", "cairn://0123456789abcdef0123456789abcdef//m",
	};
	struct identity id = {.role = 0};
	char uri[IDENTITY_URI_BYTES];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct identity none = {.role = 0};
		assert_int_equal(identity_add_uri(&none, slice_str(bad[i])), ERR_AUTH);
	}
	assert_int_equal(identity_add_uri(&id, SLICE_LIT("https://example")), 0);
	assert_int_equal(identity_add_uri(&id, slice_of("cairn://\0x", 10)), ERR_AUTH);
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(identity_add_uri(&id, slice_str(good[i])), 1);
	identity_uri(&id, uri);
	assert_string_equal(uri, good[0]);
	identity_export_uri(&id, uri);
	assert_string_equal(uri, good[1]);
	/* One identity in a certificate, of one cluster. */
	assert_int_equal(identity_add_uri(&id, slice_str(good[0])), ERR_AUTH);
	assert_int_equal(identity_add_uri(&id, slice_str(good[1])), ERR_AUTH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_issue, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_revoke_and_renew, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_state_damaged, set_up, tear_down),
		cmocka_unit_test(test_uris),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
