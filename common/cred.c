#include "common/cred.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/conn.h"

static uint16_t lowest_role(unsigned roles)
{
	uint16_t role = 0;

	while (roles >>= 1) {
		role++;
		if (roles & 1)
			break;
	}
	return role;
}

static int load_tls(struct cred *cred, const char *path, unsigned roles, struct err *err)
{
	struct identity self;
	int r = tls_load(path, &cred->tls, err);

	if (r < 0)
		return r;
	tls_self(cred->tls, &self);
	if (!(roles & 1u << self.role)) {
		tls_free(cred->tls);
		return err_set(err, ERR_CONFIG, "%s: a certificate of the role %s is not for this "
			       "program", path, identity_role_name(self.role));
	}
	cred->role = self.role;
	return 0;
}

int cred_load(struct cred *ret, const char *path, const char *transport, unsigned roles,
	      const char *name, struct err *err)
{
	struct cred cred = {.role = lowest_role(roles)};
	const char *found;
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return err_set_errno(err, errno, "credentials %s", path);
	found = S_ISDIR(st.st_mode) ? "tls" : "plain";
	if (transport && *transport && strcmp(transport, "tls") != 0 &&
	    strcmp(transport, "plain") != 0)
		return err_set(err, ERR_CONFIG, "transport: \"%s\" is neither tls nor plain",
			       transport);
	if (transport && *transport && strcmp(transport, found) != 0)
		return err_set(err, ERR_CONFIG, "transport = %s: credentials %s is %s", transport,
			       path, S_ISDIR(st.st_mode) ? "a directory of certificates"
							 : "a shared key, not a directory");
	snprintf(cred.name, sizeof(cred.name), "%s", name);
	r = S_ISDIR(st.st_mode) ? load_tls(&cred, path, roles, err)
				: auth_key_load(path, &cred.key, err);
	if (r == 0)
		*ret = cred;
	auth_key_clear(&cred.key);
	return r;
}

void cred_release(struct cred *cred)
{
	tls_free(cred->tls);
	cred->tls = NULL;
	auth_key_clear(&cred->key);
}

static bool is_loopback(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET6) {
		const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr;
		return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
	}
	return addr->sa_family == AF_INET &&
	       ntohl(((const struct sockaddr_in *)(const void *)addr)->sin_addr.s_addr) >> 24 == 127;
}

int cred_check_address(const struct cred *cred, const struct sockaddr *addr, const char *text,
		       struct err *err)
{
	if (cred->tls || cred->allow_plaintext || is_loopback(addr))
		return 0;
	return err_set(err, ERR_CONFIG, "%s: a shared key (transport = plain) encrypts nothing and is "
		       "refused beyond loopback; use certificates (cairn ca), or allow_plaintext = "
		       "yes on a trusted network", text);
}

int cred_check_listener(const struct cred *cred, int fd, const char *text, struct err *err)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return err_set_errno(err, errno, "%s", text);
	return cred_check_address(cred, (struct sockaddr *)&ss, text, err);
}

int cred_check_user(const struct cred *cred, const char *path, const char *user, struct err *err)
{
	struct err why = {0};

	if (!cred->tls || !user || !user[0] || tls_reload(cred->tls, &why) == 0)
		return 0;
	return err_set(err, ERR_CONFIG, "user %s cannot read its credentials, so that none could be "
		       "renewed (chown -R %s %s): %s", user, user, path, err_message(&why));
}

int cred_check_advertised(const struct cred *cred, const char *addr, struct err *err)
{
	char host[ADDR_BYTES_MAX], port[8];
	int r = cred->tls ? addr_split(addr, host, port, err) : 0;

	if (r < 0 || !cred->tls || tls_self_has_host(cred->tls, host))
		return r;
	return err_set(err, ERR_CONFIG, "%s is what others are told to dial, and our certificate is not "
		       "for host %s: set advertise to HOST:PORT with a host that it is for, or have one "
		       "issued for the host that others dial (cairn ca issue --host)", addr, host);
}

int cred_auth_connect(const struct cred *cred, const struct tls_conn *tls, struct auth *ret,
		      struct buf *out, struct err *err)
{
	return tls ? auth_connect_certified(ret, cred->role, cred->name, tls->peer.role, out, err)
		   : auth_connect(ret, &cred->key, cred->role, cred->name, out, err);
}

void cred_auth_accept(const struct cred *cred, const struct tls_conn *tls, struct auth *ret)
{
	if (tls)
		auth_accept_certified(ret, cred->role, tls->peer.role);
	else
		auth_accept(ret, &cred->key, cred->role);
}
