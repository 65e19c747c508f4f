#include "tools/ca.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/wire.h"
#include "tools/text.h"

/* ---- files ---- */

/* Replaces DIR/NAME at once, mode 0600, durably. */
static int write_file(const char *dir, const char *name, struct slice text, struct err *err)
{
	_cleanup_free_ char *path = text_join(dir, name), *temp = NULL;
	_cleanup_fd_ int fd = -1, dir_fd = -1;

	if (!path || asprintf(&temp, "%s.new", path) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	/* A left-over with other permissions is not written into. */
	unlink(temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write(fd, text.data, text.len) != (ssize_t)text.len || fsync(fd) < 0 ||
	    rename(temp, path) < 0)
		return err_set_errno(err, errno, "write %s", path);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0 || fsync(dir_fd) < 0)
		return err_set_errno(err, errno, "sync of %s", dir);
	return 0;
}

static int make_dir(const char *path, struct err *err)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_set_errno(err, errno, "%s", path);
	return 0;
}

/* What was written into a memory BIO goes to a file; the BIO, which may have held a key, is wiped. */
static int write_bio(const char *dir, const char *name, BIO *bio, bool ok, struct err *err)
{
	char *text = NULL;
	long len = ok && bio ? BIO_get_mem_data(bio, &text) : 0;
	int r = len > 0 ? write_file(dir, name, slice_of(text, (size_t)len), err)
			: ca_x509_error(err, name);

	if (len > 0)
		OPENSSL_cleanse(text, (size_t)len);
	BIO_free(bio);
	return r;
}

static int write_cert(const char *dir, const char *name, X509 *cert, struct err *err)
{
	BIO *bio = BIO_new(BIO_s_mem());
	return write_bio(dir, name, bio, bio && PEM_write_bio_X509(bio, cert), err);
}

static int write_identity(const char *dir, const char *name, X509 *cert, EVP_PKEY *key,
			  struct err *err)
{
	BIO *bio = BIO_new(BIO_s_mem());
	bool ok = bio && (!cert || PEM_write_bio_X509(bio, cert)) &&
		  PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
	return write_bio(dir, name, bio, ok, err);
}

static int write_crl(const char *dir, X509_CRL *crl, struct err *err)
{
	BIO *bio = BIO_new(BIO_s_mem());
	return write_bio(dir, "crl.pem", bio, bio && PEM_write_bio_X509_CRL(bio, crl), err);
}

static FILE *open_file(const struct ca *ca, const char *name, struct err *err)
{
	_cleanup_free_ char *path = text_join(ca->dir, name);
	FILE *file = path ? fopen(path, "re") : NULL;

	if (!file)
		err_set_errno(err, path ? errno : ENOMEM, "%s/%s", ca->dir, name);
	return file;
}

/* ---- the list of what was issued ---- */

static json_t *entry_encode(const struct ca_entry *e)
{
	json_t *hosts = json_array();

	for (size_t i = 0; i < e->n_hosts; i++)
		json_array_append_new(hosts, json_string(e->hosts[i]));
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:b, s:s}", "serial", e->serial,
			 "role", identity_role_name(e->id.role), "name", e->id.name, "export",
			 e->id.export, "hosts", hosts, "from", (json_int_t)e->from_s, "until",
			 (json_int_t)e->until_s, "revoked", (json_int_t)e->revoked_s, "replaced",
			 (int)e->replaced, "directory", e->out);
}

static bool take_text(char *to, size_t room, const char *text)
{
	return snprintf(to, room, "%s", text) < (int)room;
}

static bool entry_decode(const char *cluster, json_t *json, struct ca_entry *e)
{
	const char *serial, *role, *name, *export, *out;
	json_int_t from, until, revoked;
	json_t *hosts;
	int replaced;

	if (json_unpack(json, "{s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:b, s:s}", "serial",
			&serial, "role", &role, "name", &name, "export", &export, "hosts", &hosts,
			"from", &from, "until", &until, "revoked", &revoked, "replaced", &replaced,
			"directory", &out) != 0)
		return false;
	e->id.role = identity_role_parse(role);
	e->from_s = from;
	e->until_s = until;
	e->revoked_s = revoked;
	e->replaced = replaced;
	e->n_hosts = json_array_size(hosts);
	if (!e->id.role || !identity_name_ok(name) || (export[0] && !identity_name_ok(export)) ||
	    e->n_hosts > CA_HOSTS_MAX || !take_text(e->serial, sizeof(e->serial), serial))
		return false;
	take_text(e->id.cluster, sizeof(e->id.cluster), cluster);
	take_text(e->id.name, sizeof(e->id.name), name);
	take_text(e->id.export, sizeof(e->id.export), export);
	for (size_t i = 0; i < e->n_hosts; i++) {
		const char *host = json_string_value(json_array_get(hosts, i));
		if (!host || !take_text(e->hosts[i], CA_HOST_BYTES, host))
			return false;
	}
	e->out = strdup(out);
	return e->out != NULL;
}

static int ca_save(const struct ca *ca, struct err *err)
{
	json_t *issued = json_array();
	json_t *root = json_pack("{s:i, s:s, s:I, s:o}", "format", 1, "cluster", ca->cluster,
				 "crl_number", (json_int_t)ca->crl_number, "issued", issued);
	char *text;
	int r;

	for (size_t i = 0; i < ca->n; i++)
		json_array_append_new(issued, entry_encode(&ca->entries[i]));
	text = root && json_array_size(issued) == ca->n ? json_dumps(root, JSON_INDENT(1)) : NULL;
	r = text ? write_file(ca->dir, "ca.json", slice_str(text), err)
		 : err_set(err, ERR_NOMEM, "out of memory");
	free(text);
	json_decref(root);
	return r;
}

static struct ca_entry *add_entry(struct ca *ca)
{
	struct ca_entry *entries = realloc(ca->entries, (ca->n + 1) * sizeof(*entries));

	if (!entries)
		return NULL;
	ca->entries = entries;
	entries[ca->n] = (struct ca_entry){0};
	return &entries[ca->n++];
}

static int ca_decode(struct ca *ca, json_t *root, struct err *err)
{
	json_t *issued, *item;
	const char *cluster;
	json_int_t number;
	size_t i;
	int format;

	if (json_unpack(root, "{s:i, s:s, s:I, s:o}", "format", &format, "cluster", &cluster,
			"crl_number", &number, "issued", &issued) != 0 ||
	    format != 1 || !identity_cluster_ok(cluster))
		return err_set(err, ERR_CORRUPT, "%s/ca.json is not the state of an authority",
			       ca->dir);
	take_text(ca->cluster, sizeof(ca->cluster), cluster);
	ca->crl_number = number;
	json_array_foreach(issued, i, item) {
		struct ca_entry *e = add_entry(ca);
		if (!e)
			return err_set(err, ERR_NOMEM, "out of memory");
		if (!entry_decode(cluster, item, e))
			return err_set(err, ERR_CORRUPT, "%s/ca.json: entry %zu is malformed",
				       ca->dir, i + 1);
	}
	return 0;
}

static int ca_load_state(struct ca *ca, struct err *err)
{
	FILE *file = open_file(ca, "ca.json", err);
	json_error_t why;
	json_t *root;
	int r;

	if (!file)
		return err_prefix(err, ERR_NOENT, "no authority here (cairn ca init)");
	root = json_loadf(file, JSON_REJECT_DUPLICATES, &why);
	fclose(file);
	r = root ? ca_decode(ca, root, err)
		 : err_set(err, ERR_CORRUPT, "%s/ca.json: line %d: %s", ca->dir, why.line, why.text);
	json_decref(root);
	return r;
}

static int ca_load_keys(struct ca *ca, struct err *err)
{
	FILE *file = open_file(ca, "ca.pem", err);

	if (!file)
		return err->code;
	ca->cert = PEM_read_X509(file, NULL, NULL, NULL);
	fclose(file);
	file = open_file(ca, "ca.key", err);
	if (!file)
		return err->code;
	ca->key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
	fclose(file);
	if (!ca->cert || !ca->key || X509_check_private_key(ca->cert, ca->key) != 1)
		return ca_x509_error(err, "the authority's certificate and key");
	return 0;
}

/* ---- life ---- */

static int ca_lock(struct ca *ca, struct err *err)
{
	_cleanup_free_ char *path = text_join(ca->dir, "lock");

	if (!path)
		return err_set(err, ERR_NOMEM, "out of memory");
	ca->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (ca->lock_fd < 0 || flock(ca->lock_fd, LOCK_EX) < 0)
		return err_set_errno(err, errno, "%s", path);
	return 0;
}

static int ca_begin(const char *dir, struct ca *ca, struct err *err)
{
	struct err local = {0};

	*ca = (struct ca){.lock_fd = -1, .dir = realpath(dir, NULL)};
	if (!ca->dir)
		return err_set_errno(err, errno, "authority in %s", dir);
	return ca_lock(ca, err ? err : &local);
}

/* Whoever runs on this machine looks at its copy by itself. One that cannot be written keeps none of the
 * others from it: the first failure is told at the end. */
static int write_crl_copies(const struct ca *ca, X509_CRL *crl, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < ca->n; i++) {
		struct err *first = r == 0 ? err : NULL;
		int one = 0;
		if (access(ca->entries[i].out, W_OK) == 0)
			one = write_crl(ca->entries[i].out, crl, first);
		r = r < 0 ? r : one;
	}
	return r;
}

static int write_ca_crl(struct ca *ca, int64_t now_s, struct err *err)
{
	X509_CRL *crl;
	int r;

	ca->crl_number++;
	crl = ca_x509_crl(ca, now_s);
	r = crl ? write_crl(ca->dir, crl, err) : ca_x509_error(err, "make a CRL");
	if (r == 0)
		r = write_crl_copies(ca, crl, err);
	X509_CRL_free(crl);
	return r;
}

static int ca_make(struct ca *ca, int64_t now_s, struct err *err)
{
	uint8_t random[(IDENTITY_CLUSTER_BYTES - 1) / 2];
	int r;

	if (RAND_bytes(random, sizeof(random)) != 1)
		return ca_x509_error(err, "random bytes");
	random[0] = (random[0] & 0x7f) | 0x40; /* as a serial number: positive and of full length */
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(ca->cluster + 2 * i, 3, "%02x", random[i]);
	ca->key = ca_key_new();
	ca->cert = ca->key ? ca_x509_self(ca->key, ca->cluster, now_s) : NULL;
	if (!ca->cert)
		return ca_x509_error(err, "make the authority's certificate");
	r = write_identity(ca->dir, "ca.key", NULL, ca->key, err);
	if (r == 0)
		r = write_cert(ca->dir, "ca.pem", ca->cert, err);
	if (r == 0)
		r = write_ca_crl(ca, now_s, err);
	return r < 0 ? r : ca_save(ca, err); /* last: until then there is none */
}

/* /etc/cairn, for the default. */
static int make_parent(const char *dir, struct err *err)
{
	_cleanup_free_ char *path = strdup(dir);

	if (!path)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (mkdir(dirname(path), 0755) < 0 && errno != EEXIST)
		return err_set_errno(err, errno, "%s", path);
	return 0;
}

int ca_init(const char *dir, int64_t now_s, struct err *err)
{
	_cleanup_free_ char *state = text_join(dir, "ca.json");
	struct ca ca;
	int r = state ? make_parent(dir, err) : err_set(err, ERR_NOMEM, "out of memory");

	if (r == 0)
		r = make_dir(dir, err);

	if (r < 0)
		return r;
	r = ca_begin(dir, &ca, err);
	if (r == 0 && access(state, F_OK) == 0)
		r = err_set(err, ERR_EXIST, "%s: there is an authority already", dir);
	if (r == 0)
		r = ca_make(&ca, now_s, err);
	ca_close(&ca);
	return r;
}

int ca_open(const char *dir, struct ca *ret, struct err *err)
{
	struct err local = {0};
	int r;

	if (!err)
		err = &local;
	r = ca_begin(dir, ret, err);
	if (r == 0)
		r = ca_load_state(ret, err);
	if (r == 0)
		r = ca_load_keys(ret, err);
	if (r < 0)
		ca_close(ret);
	return r;
}

void ca_close(struct ca *ca)
{
	for (size_t i = 0; i < ca->n; i++)
		free(ca->entries[i].out);
	free(ca->entries);
	X509_free(ca->cert);
	EVP_PKEY_free(ca->key);
	if (ca->lock_fd >= 0)
		close(ca->lock_fd);
	free(ca->dir);
	*ca = (struct ca){.lock_fd = -1};
}

/* ---- issuing ---- */

const char *ca_entry_state(const struct ca_entry *e, int64_t now_s)
{
	if (e->revoked_s)
		return "revoked";
	if (e->until_s <= now_s)
		return "expired";
	return e->replaced ? "replaced" : "valid";
}

static bool is_good(const struct ca_entry *e, int64_t now_s)
{
	return !e->revoked_s && e->until_s > now_s;
}

/* A host goes into a text that OpenSSL parses: nothing in it may begin another name there. */
static bool host_ok(const char *host)
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
	uint8_t ip[16];
	size_t n = strlen(host);

	return n > 0 && n < CA_HOST_BYTES && host[0] != '-' && host[0] != '.' &&
	       (strspn(host, good) == n || inet_pton(AF_INET6, host, ip) == 1);
}

static int fill_hosts(struct ca_entry *e, const struct ca_request *req, struct err *err)
{
	bool server = req->role == ROLE_MASTER || req->role == ROLE_CHUNKSERVER;

	if (!server && req->n_hosts > 0)
		return err_set(err, ERR_INVAL, "only masters and chunkservers have hosts");
	if (req->n_hosts > CA_HOSTS_MAX)
		return err_set(err, ERR_INVAL, "more than %d hosts", CA_HOSTS_MAX);
	for (size_t i = 0; i < req->n_hosts; i++) {
		if (!host_ok(req->hosts[i]))
			return err_set(err, ERR_INVAL, "\"%s\" is neither the name nor the address of "
				       "a host", req->hosts[i]);
		take_text(e->hosts[e->n_hosts++], CA_HOST_BYTES, req->hosts[i]);
	}
	if (server && req->n_hosts == 0) {
		if (!host_ok(req->name))
			return err_set(err, ERR_INVAL, "\"%s\" is not the name of a host: give "
				       "--host", req->name);
		take_text(e->hosts[e->n_hosts++], CA_HOST_BYTES, req->name);
	}
	return 0;
}

static int new_serial(char *ret, struct err *err)
{
	uint8_t random[(CA_SERIAL_BYTES - 1) / 2];

	if (RAND_bytes(random, sizeof(random)) != 1)
		return ca_x509_error(err, "random bytes");
	random[0] = (random[0] & 0x7f) | 0x40;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(ret + 2 * i, 3, "%02x", random[i]);
	return 0;
}

static int fill_entry(const struct ca *ca, const struct ca_request *req, struct ca_entry *e,
		      struct err *err)
{
	const char *export = req->export ? req->export : "";

	if (!identity_role_name(req->role))
		return err_set(err, ERR_INVAL, "roles are master, chunkserver, client and admin");
	if (!identity_name_ok(req->name))
		return err_set(err, ERR_INVAL, "\"%s\": names are 1 to %d of a-z A-Z 0-9 . _ -",
			       req->name, IDENTITY_NAME_BYTES - 1);
	if (export[0] && (req->role != ROLE_CLIENT || !identity_name_ok(export)))
		return err_set(err, ERR_INVAL, "--export is the name of an export, for clients");
	if (req->lifetime_s < 1 || req->lifetime_s > (int64_t)CA_SELF_DAYS * CA_DAY_S)
		return err_set(err, ERR_INVAL, "a lifetime is 1 s to %d days", CA_SELF_DAYS);
	e->id.role = req->role;
	take_text(e->id.cluster, sizeof(e->id.cluster), ca->cluster);
	take_text(e->id.name, sizeof(e->id.name), req->name);
	take_text(e->id.export, sizeof(e->id.export), export);
	e->from_s = req->now_s - CA_SKEW_S;
	e->until_s = req->now_s + req->lifetime_s;
	return fill_hosts(e, req, err);
}

static char *default_out(const struct ca *ca, const struct ca_entry *e, struct err *err)
{
	_cleanup_free_ char *issued = text_join(ca->dir, "issued");
	char *path;

	if (!issued || make_dir(issued, err) < 0 ||
	    asprintf(&path, "%s/%s-%s", issued, identity_role_name(e->id.role), e->id.name) < 0)
		return NULL;
	return path;
}

static int set_out(const struct ca *ca, const char *out, struct ca_entry *e, struct err *err)
{
	_cleanup_free_ char *path = out ? strdup(out) : default_out(ca, e, err);
	int r = path ? make_dir(path, err) : err_set(err, ERR_NOMEM, "no credentials directory");

	if (r < 0)
		return r;
	e->out = realpath(path, NULL);
	return e->out ? 0 : err_set_errno(err, errno, "%s", path);
}

/* The list is saved before the files: a certificate that is not on it could not be revoked. */
static int write_credentials(struct ca *ca, const struct ca_entry *e, struct err *err)
{
	EVP_PKEY *key = ca_key_new();
	X509 *cert = key ? ca_x509_issue(ca, e, key) : NULL;
	X509_CRL *crl = ca_x509_crl(ca, e->from_s + CA_SKEW_S);
	int r = cert && crl ? ca_save(ca, err) : ca_x509_error(err, "make a certificate");

	if (r == 0)
		r = write_cert(e->out, "ca.pem", ca->cert, err);
	if (r == 0)
		r = write_crl(e->out, crl, err);
	if (r == 0)
		r = write_identity(e->out, "identity.pem", cert, key, err);
	EVP_PKEY_free(key);
	X509_free(cert);
	X509_CRL_free(crl);
	return r;
}

static int issue(struct ca *ca, const struct ca_request *req, const struct ca_entry **ret,
		 struct err *err)
{
	struct ca_entry *e = add_entry(ca);
	int r = e ? fill_entry(ca, req, e, err) : err_set(err, ERR_NOMEM, "out of memory");

	if (r == 0)
		r = new_serial(e->serial, err);
	if (r == 0)
		r = set_out(ca, req->out, e, err);
	if (r == 0)
		r = write_credentials(ca, e, err);
	if (r == 0)
		*ret = e;
	else if (e && !e->out)
		ca->n--; /* nothing was made */
	return r;
}

int ca_issue(struct ca *ca, const struct ca_request *req, const struct ca_entry **ret,
	     struct err *err)
{
	for (size_t i = 0; i < ca->n; i++) {
		const struct ca_entry *e = &ca->entries[i];
		if (e->id.role == req->role && strcmp(e->id.name, req->name) == 0 &&
		    is_good(e, req->now_s))
			return err_set(err, ERR_EXIST, "%s/%s has a certificate already: renew or "
				       "revoke it", identity_role_name(req->role), req->name);
	}
	return issue(ca, req, ret, err);
}

/* ---- finding, revoking, renewing ---- */

static bool matches(const struct ca_entry *e, const char *which)
{
	const char *role = identity_role_name(e->id.role);
	size_t n = strlen(role);

	return strcmp(e->serial, which) == 0 || strcmp(e->id.name, which) == 0 ||
	       (strncmp(which, role, n) == 0 && which[n] == '/' &&
		strcmp(which + n + 1, e->id.name) == 0);
}

int ca_find(const struct ca *ca, const char *which, int64_t now_s, size_t *ret_index,
	    struct err *err)
{
	const struct ca_entry *found = NULL;

	for (size_t i = 0; i < ca->n; i++) {
		const struct ca_entry *e = &ca->entries[i];
		if (!matches(e, which) || !is_good(e, now_s))
			continue;
		if (found && found->id.role != e->id.role)
			return err_set(err, ERR_INVAL, "\"%s\" is the name of several roles: write "
				       "ROLE/NAME", which);
		found = e;
	}
	if (!found)
		return err_set(err, ERR_NOENT, "\"%s\": no certificate that is good has this name or "
			       "serial number", which);
	*ret_index = (size_t)(found - ca->entries);
	return 0;
}

static bool is_revoked(const struct ca *ca, const char *which, int64_t now_s)
{
	for (size_t i = 0; i < ca->n; i++)
		if (matches(&ca->entries[i], which) && ca->entries[i].revoked_s &&
		    ca->entries[i].until_s > now_s)
			return true;
	return false;
}

int ca_revoke(struct ca *ca, const char *which, int64_t now_s, unsigned *ret_n, struct err *err)
{
	unsigned n = 0;
	size_t index;
	int r = ca_find(ca, which, now_s, &index, err), saved;

	/* Perhaps one that failed half-way: it is completed. */
	if (r == ERR_NOENT && is_revoked(ca, which, now_s))
		r = 0;
	if (r < 0)
		return r;
	for (size_t i = 0; i < ca->n; i++) {
		if (matches(&ca->entries[i], which) && is_good(&ca->entries[i], now_s)) {
			ca->entries[i].revoked_s = now_s;
			n++;
		}
	}
	/* First where it cannot be forgotten: the CRL can be made again from it. */
	r = ca_save(ca, err);
	if (r < 0)
		return r;
	r = write_ca_crl(ca, now_s, err);
	saved = ca_save(ca, r < 0 ? NULL : err); /* the CRL's number */
	*ret_n = n;
	return r < 0 ? r : saved;
}

int ca_renew(struct ca *ca, size_t index, int64_t now_s, int64_t lifetime_s,
	     const struct ca_entry **ret, struct err *err)
{
	struct ca_entry old = ca->entries[index]; /* `out` stays the list's, which may move */
	const char *hosts[CA_HOSTS_MAX];
	struct ca_request req = {
		.role = old.id.role, .name = old.id.name, .export = old.id.export,
		.hosts = hosts, .n_hosts = old.n_hosts, .now_s = now_s,
		.lifetime_s = lifetime_s ? lifetime_s : old.until_s - old.from_s - CA_SKEW_S,
		.out = old.out,
	};
	int r;

	for (size_t i = 0; i < old.n_hosts; i++)
		hosts[i] = old.hosts[i];
	ca->entries[index].replaced = true;
	r = issue(ca, &req, ret, err);
	if (r < 0)
		ca->entries[index].replaced = false;
	return r;
}
