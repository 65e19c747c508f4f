#include "common/token.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

enum { HMAC_BYTES = 32, TEXT_MAX = TOKEN_BYTES_MAX + ADDR_BYTES_MAX };

static const char TAG_LABEL[] = "member"; /* no token begins so: TOKEN_FORMAT is not 'm' */

/* The first `want` bytes of HMAC(key, a | b). */
static bool mac(const struct token_key *key, struct slice a, struct slice b, uint8_t *ret,
		size_t want)
{
	uint8_t text[TEXT_MAX], whole[HMAC_BYTES];
	unsigned len = 0;

	if (b.len > sizeof(text) || a.len > sizeof(text) - b.len)
		return false;
	memcpy(text, a.data, a.len);
	if (b.len > 0)
		memcpy(text + a.len, b.data, b.len);
	if (!HMAC(EVP_sha256(), key->secret, sizeof(key->secret), text, a.len + b.len, whole, &len) ||
	    len != sizeof(whole))
		return false;
	memcpy(ret, whole, want);
	return true;
}

bool token_tag(const struct token_key *key, uint32_t server, struct slice addr,
	       uint8_t ret[TOKEN_TAG_BYTES])
{
	uint8_t head[sizeof(TAG_LABEL) + 4];

	memcpy(head, TAG_LABEL, sizeof(TAG_LABEL));
	put_le32(head + sizeof(TAG_LABEL), server);
	return mac(key, slice_of(head, sizeof(head)), addr, ret, TOKEN_TAG_BYTES);
}

uint32_t token_seal(const struct token_key *key, const struct token *t, struct slice holder,
		    uint8_t *ret)
{
	uint32_t len = TOKEN_FIXED_BYTES + t->n_members * TOKEN_TAG_BYTES;

	memset(ret, 0, TOKEN_FIXED_BYTES);
	ret[0] = TOKEN_FORMAT;
	ret[1] = t->rights;
	ret[2] = t->n_members;
	put_le32(ret + 4, t->version);
	put_le64(ret + 8, key->number);
	put_le64(ret + 16, t->chunk);
	put_le64(ret + 24, t->session);
	put_le32(ret + 32, t->expires_ms);
	memcpy(ret + TOKEN_FIXED_BYTES, t->members, t->n_members * TOKEN_TAG_BYTES);
	if (!mac(key, slice_of(ret, len), holder, ret + len, TOKEN_MAC_BYTES))
		return 0;
	return len + TOKEN_MAC_BYTES;
}

bool token_parse(struct slice bytes, struct token *ret)
{
	const uint8_t *p = bytes.data;

	if (bytes.len < TOKEN_FIXED_BYTES + TOKEN_MAC_BYTES || p[0] != TOKEN_FORMAT || p[3] != 0 ||
	    p[2] > REPLICAS_MAX ||
	    bytes.len != (uint32_t)(TOKEN_FIXED_BYTES + p[2] * TOKEN_TAG_BYTES + TOKEN_MAC_BYTES))
		return false;
	*ret = (struct token){
		.rights = p[1], .n_members = p[2], .version = get_le32(p + 4), .key = get_le64(p + 8),
		.chunk = get_le64(p + 16), .session = get_le64(p + 24),
		.expires_ms = get_le32(p + 32),
	};
	memcpy(ret->members, p + TOKEN_FIXED_BYTES, ret->n_members * TOKEN_TAG_BYTES);
	return true;
}

bool token_genuine(const struct token_key *key, struct slice bytes, struct slice holder)
{
	uint32_t len = bytes.len - TOKEN_MAC_BYTES;
	uint8_t want[TOKEN_MAC_BYTES];

	return mac(key, slice_of(bytes.data, len), holder, want, sizeof(want)) &&
	       CRYPTO_memcmp(want, bytes.data + len, sizeof(want)) == 0;
}
