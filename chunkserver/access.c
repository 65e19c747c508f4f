#include "chunkserver/access.h"

#include <openssl/crypto.h>

static int refuse(struct err *err, const char *why)
{
	return err_set(err, ERR_TOKEN, "access token: %s", why);
}

/* A token that was not seen yet: into its place, if it is genuine. */
static int token_take(struct access *a, struct access_token *place, struct slice bytes,
		      struct err *err)
{
	struct known_key key;
	struct token t;
	bool genuine;

	if (bytes.len == 0)
		return refuse(err, "none");
	if (!token_parse(bytes, &t))
		return refuse(err, "malformed");
	if (!keys_find(a->keys, t.key, &key))
		return refuse(err, "of a key that is not known here");
	genuine = token_genuine(&key.key, bytes, a->holder);
	if (genuine) {
		memcpy(place->bytes, bytes.data, bytes.len);
		place->len = (uint8_t)bytes.len;
		place->t = t;
		place->until_ms = key.made_ms + t.expires_ms;
	}
	OPENSSL_cleanse(&key, sizeof(key));
	return genuine ? 0 : refuse(err, "forged, or another client's");
}

static bool replica_is(const struct access_member *m, uint64_t key, const struct wire_replica *r)
{
	return m->key == key && m->server == r->server && strlen(m->addr) == r->addr.len &&
	       memcmp(m->addr, r->addr.data, r->addr.len) == 0;
}

/* The tag of a server under the token's key; NULL: it has none. */
static const uint8_t *member_tag(struct access *a, uint64_t key, const struct wire_replica *r)
{
	struct access_member *m;
	struct known_key known;

	if (r->addr.len == 0 || r->addr.len >= sizeof(m->addr))
		return NULL;
	for (unsigned i = 0; i < ACCESS_MEMBERS; i++)
		if (replica_is(&a->members[i], key, r))
			return a->members[i].tag;
	m = &a->members[a->next_member++ % ACCESS_MEMBERS];
	*m = (struct access_member){.server = r->server};
	if (!keys_find(a->keys, key, &known) ||
	    !token_tag(&known.key, r->server, r->addr, m->tag))
		return NULL;
	OPENSSL_cleanse(&known, sizeof(known));
	memcpy(m->addr, r->addr.data, r->addr.len);
	m->key = key;
	return m->tag;
}

static bool is_member(struct access *a, const struct token *t, const struct wire_replica *r)
{
	const uint8_t *tag = member_tag(a, t->key, r);

	for (unsigned i = 0; tag && i < t->n_members; i++)
		if (CRYPTO_memcmp(tag, t->members[i], TOKEN_TAG_BYTES) == 0)
			return true;
	return false;
}

int access_check(struct access *a, const struct access_wish *wish, int64_t now_ms, struct err *err)
{
	struct access_token *seen = &a->tokens[wish->chunk % ACCESS_TOKENS];
	int r = 0;

	a->ran_out = false;
	if (!slice_eq(wish->token, slice_of(seen->bytes, seen->len)) || seen->len == 0)
		r = token_take(a, seen, wish->token, err);
	if (r < 0)
		return r;
	a->ran_out = now_ms >= seen->until_ms;
	if (a->ran_out)
		return refuse(err, "has run out");
	if (seen->t.chunk != wish->chunk || seen->t.version != wish->version)
		return refuse(err, "for another chunk or version");
	if (!(seen->t.rights & wish->rights))
		return refuse(err, "without that right");
	if (wish->session && wish->session != seen->t.session)
		return refuse(err, "of another session");
	for (unsigned i = 0; i < wish->n_servers; i++)
		if (!is_member(a, &seen->t, &wish->servers[i]))
			return refuse(err, "does not name a server that is to be asked");
	return 0;
}
