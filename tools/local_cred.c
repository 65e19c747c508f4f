/* The credentials of a local cluster: with no work for anybody, so that nobody needs to do without. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/auth.h"
#include "common/cleanup.h"
#include "tools/ca.h"
#include "tools/local.h"
#include "tools/text.h"

static const char *const loopback[] = {"127.0.0.1", "::1", "localhost"};

static int make_key(const struct local *l, struct err *err)
{
	_cleanup_free_ char *key = local_path(l, "key", NULL, NULL);

	if (!key)
		return err_set(err, ERR_NOMEM, "out of memory");
	return access(key, F_OK) == 0 ? 0 : auth_key_create(key, err);
}

static int issue(struct ca *ca, const char *name, uint16_t role, const char *out, int64_t now_s,
		 struct err *err)
{
	bool server = role == ROLE_MASTER || role == ROLE_CHUNKSERVER;
	struct ca_request req = {.role = role, .name = name, .hosts = loopback,
				 .n_hosts = server ? ARRAY_LEN(loopback) : 0, .now_s = now_s,
				 .lifetime_s = (int64_t)CA_ISSUE_DAYS * CA_DAY_S, .out = out};
	const struct ca_entry *e;

	return ca_issue(ca, &req, &e, err);
}

/* Its certificate: a first one, or another one when it ends soon or its files were removed. */
static int certify(const struct local *l, struct ca *ca, const char *name, uint16_t role,
		   struct err *err)
{
	_cleanup_free_ char *out = local_credentials(l, name);
	_cleanup_free_ char *file = out ? text_join(out, "identity.pem") : NULL;
	_cleanup_free_ char *which = NULL;
	int64_t now_s = (int64_t)time(NULL);
	const struct ca_entry *e;
	struct err none = {0};
	size_t index;

	if (!file || asprintf(&which, "%s/%s", identity_role_name(role), name) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (ca_find(ca, which, now_s, &index, &none) < 0)
		return issue(ca, name, role, out, now_s, err);
	if (access(file, F_OK) == 0 &&
	    ca->entries[index].until_s - now_s > (int64_t)CA_SOON_DAYS * CA_DAY_S)
		return 0;
	return ca_renew(ca, index, now_s, 0, &e, err);
}

static int certify_parts(const struct local *l, struct ca *ca, struct err *err)
{
	static const uint16_t roles[] = {[LOCAL_MASTER] = ROLE_MASTER,
					 [LOCAL_CHUNKSERVER] = ROLE_CHUNKSERVER,
					 [LOCAL_MOUNT] = ROLE_CLIENT};
	int r = certify(l, ca, "admin", ROLE_ADMIN, err);

	for (int i = 0; r == 0 && i < local_n_parts(l); i++) {
		struct local_part p;
		r = local_part(l, i, &p);
		if (r < 0)
			return err_set(err, r, "out of memory");
		r = certify(l, ca, p.name, roles[p.kind], err);
		local_part_release(&p);
	}
	return r;
}

int local_make_credentials(const struct local *l, struct err *err)
{
	_cleanup_free_ char *dir = local_path(l, "ca", NULL, NULL);
	_cleanup_free_ char *state = local_path(l, "ca", "ca.json", NULL);
	_cleanup_free_ char *tls = local_path(l, "tls", NULL, NULL);
	struct ca ca;
	int r = 0;

	if (l->plain)
		return make_key(l, err);
	if (!dir || !state || !tls)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (mkdir(tls, 0700) < 0 && errno != EEXIST)
		return err_set_errno(err, errno, "%s", tls);
	if (access(state, F_OK) < 0)
		r = ca_init(dir, (int64_t)time(NULL), err);
	if (r == 0)
		r = ca_open(dir, &ca, err);
	if (r < 0)
		return r;
	r = certify_parts(l, &ca, err);
	ca_close(&ca);
	return r;
}
