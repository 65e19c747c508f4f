#include "master/schema.h"

#include <assert.h>
#include <inttypes.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <pthread.h>

SCHEMA_RECORDS(RECORD_DEFINE)

/* ---- keys ---- */

static struct key key_type(uint8_t type)
{
	struct key k = {.bytes = {type}, .len = 1};
	return k;
}

static void key_u32(struct key *k, uint32_t v)
{
	put_be32(k->bytes + k->len, v);
	k->len += 4;
}

static void key_u64(struct key *k, uint64_t v)
{
	put_be64(k->bytes + k->len, v);
	k->len += 8;
}

static struct key key_1(uint8_t type, uint64_t a)
{
	struct key k = key_type(type);
	key_u64(&k, a);
	return k;
}

static struct key key_2(uint8_t type, uint64_t a, uint64_t b)
{
	struct key k = key_1(type, a);
	key_u64(&k, b);
	return k;
}

static struct key key_server_chunk(uint8_t type, uint32_t server, uint64_t chunk)
{
	struct key k = key_type(type);
	key_u32(&k, server);
	key_u64(&k, chunk);
	return k;
}

struct key key_meta(void) { return key_type(KEY_META); }
struct key key_inode(uint64_t inode) { return key_1(KEY_INODE, inode); }
struct key key_chunk(uint64_t chunk) { return key_1(KEY_CHUNK, chunk); }
struct key key_pending(uint64_t chunk) { return key_1(KEY_PENDING, chunk); }
struct key key_session(uint64_t session) { return key_1(KEY_SESSION, session); }
struct key key_nonce(uint64_t nonce) { return key_1(KEY_NONCE, nonce); }
struct key key_reclaim(uint64_t inode) { return key_1(KEY_RECLAIM, inode); }

struct key key_dentry(uint64_t parent, uint64_t hash)
{
	return key_2(KEY_DENTRY, parent, hash);
}

struct key key_file_chunk(uint64_t inode, uint64_t index)
{
	return key_2(KEY_FILE_CHUNK, inode, index);
}

struct key key_reply(uint64_t session, uint64_t seq)
{
	return key_2(KEY_REPLY, session, seq);
}

struct key key_held(uint64_t session, uint64_t inode)
{
	return key_2(KEY_HELD, session, inode);
}

static struct key key_lock_row(uint8_t type, uint64_t a, uint64_t b, uint64_t owner, uint8_t kind)
{
	struct key k = key_2(type, a, b);
	key_u64(&k, owner);
	k.bytes[k.len++] = kind;
	return k;
}

struct key key_lock(uint64_t inode, uint64_t session, uint64_t owner, uint8_t kind)
{
	return key_lock_row(KEY_LOCK, inode, session, owner, kind);
}

struct key key_session_lock(uint64_t session, uint64_t inode, uint64_t owner, uint8_t kind)
{
	return key_lock_row(KEY_SESSION_LOCK, session, inode, owner, kind);
}

struct key key_on_server(uint32_t server, uint64_t chunk)
{
	return key_server_chunk(KEY_ON_SERVER, server, chunk);
}

struct key key_garbage(uint32_t server, uint64_t chunk)
{
	return key_server_chunk(KEY_GARBAGE, server, chunk);
}

struct key key_policy(uint32_t policy)
{
	struct key k = key_type(KEY_POLICY);
	key_u32(&k, policy);
	return k;
}

struct key key_quota(uint32_t quota)
{
	struct key k = key_type(KEY_QUOTA);
	key_u32(&k, quota);
	return k;
}

struct key key_export(struct slice name)
{
	struct key k = key_type(KEY_EXPORT);

	assert(name.len < IDENTITY_NAME_BYTES);
	memcpy(k.bytes + 1, name.data, name.len);
	k.len += name.len;
	return k;
}

struct key key_server(uint32_t server)
{
	struct key k = key_type(KEY_SERVER);
	key_u32(&k, server);
	return k;
}

struct key key_server_uuid(const uint8_t uuid[UUID_BYTES])
{
	struct key k = key_type(KEY_SERVER_UUID);
	memcpy(k.bytes + 1, uuid, UUID_BYTES);
	k.len += UUID_BYTES;
	return k;
}

struct key key_under_goal(uint8_t copies, uint64_t chunk)
{
	struct key k = key_type(KEY_UNDER_GOAL);
	k.bytes[k.len++] = copies;
	key_u64(&k, chunk);
	return k;
}

struct key key_xattr(uint64_t inode, struct slice name)
{
	struct key k = key_1(KEY_XATTR, inode);
	assert(name.len <= XATTR_NAME_BYTES_MAX);
	if (name.len)
		memcpy(k.bytes + k.len, name.data, name.len);
	k.len += name.len;
	return k;
}

struct key key_prefix(struct key k, uint32_t n)
{
	assert(n <= k.len);
	k.len = n;
	return k;
}

/* ---- the dentry hash ---- */

/* One context for the process, made on first use: fetching an algorithm costs far more than a
 * hash. Only duplicated after that, which is safe from any thread. */
static pthread_once_t siphash_once = PTHREAD_ONCE_INIT;
static EVP_MAC_CTX *siphash_ctx;

static void siphash_make(void)
{
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
	siphash_ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
	EVP_MAC_free(mac);
}

int schema_name_hash(const uint8_t key[HASH_KEY_BYTES], struct slice name, uint64_t *ret)
{
	size_t size = 8, len = 0;
	OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size),
			       OSSL_PARAM_construct_end()};
	uint8_t out[8];
	EVP_MAC_CTX *ctx;
	uint64_t hash;
	int ok;

	pthread_once(&siphash_once, siphash_make);
	ctx = siphash_ctx ? EVP_MAC_CTX_dup(siphash_ctx) : NULL;
	ok = ctx && EVP_MAC_init(ctx, key, HASH_KEY_BYTES, params) &&
	     EVP_MAC_update(ctx, name.data, name.len) &&
	     EVP_MAC_final(ctx, out, &len, sizeof(out)) && len == sizeof(out);
	EVP_MAC_CTX_free(ctx);
	if (!ok)
		return ERR_NOMEM;
	hash = get_le64(out) & INT64_MAX;
	*ret = hash < COOKIE_FIRST ? hash + COOKIE_FIRST : hash;
	return 0;
}

/* ---- printing ---- */

static void value_text(struct buf *b, uint8_t type, struct cursor *c)
{
	union {
#define SCHEMA_X_MEMBER(record, fields) struct record record;
		SCHEMA_RECORDS(SCHEMA_X_MEMBER)
#undef SCHEMA_X_MEMBER
	} u;
#define SCHEMA_CASE(key_type, record)                               \
	case key_type:                                              \
		if (record##_get(c, &u.record) == 0)                \
			record##_text(b, &u.record);                \
		else                                                \
			buf_printf(b, " (does not decode)");        \
		return
	switch (type) {
	SCHEMA_CASE(KEY_META, row_meta);
	SCHEMA_CASE(KEY_POLICY, row_policy);
	SCHEMA_CASE(KEY_INODE, row_inode);
	SCHEMA_CASE(KEY_DENTRY, row_dentries);
	SCHEMA_CASE(KEY_FILE_CHUNK, row_file_chunk);
	SCHEMA_CASE(KEY_CHUNK, row_chunk);
	SCHEMA_CASE(KEY_ON_SERVER, row_on_server);
	SCHEMA_CASE(KEY_GARBAGE, row_on_server);
	SCHEMA_CASE(KEY_SESSION, row_session);
	SCHEMA_CASE(KEY_NONCE, row_session_ref);
	SCHEMA_CASE(KEY_REPLY, row_reply);
	SCHEMA_CASE(KEY_LOCK, row_lock);
	SCHEMA_CASE(KEY_RECLAIM, row_reclaim);
	SCHEMA_CASE(KEY_SERVER, row_server);
	SCHEMA_CASE(KEY_QUOTA, row_quota);
	SCHEMA_CASE(KEY_EXPORT, row_export);
	SCHEMA_CASE(KEY_SERVER_UUID, row_server_ref);
	default:
		buf_printf(b, " ");
		buf_text(b, slice_of(c->p, cursor_left(c)));
	}
#undef SCHEMA_CASE
}

int schema_level_check(const struct row_meta *meta, const char *what, struct err *err)
{
	if (meta->level <= SCHEMA_LEVEL)
		return 0;
	return err_set(err, ERR_VERSION, "%s has feature level %u, this program knows levels up to %d: "
		       "a newer one wrote it", what, meta->level, SCHEMA_LEVEL);
}

void schema_row_text(struct buf *b, struct slice key, struct slice value)
{
	struct cursor k = cursor_slice(key), v = cursor_slice(value);
	const uint8_t *p = cursor_take(&k, 1);
	uint8_t type = p ? *p : 0;

	buf_text(b, slice_of(&type, 1));
	if (type == KEY_ON_SERVER || type == KEY_GARBAGE || type == KEY_SERVER ||
	    type == KEY_POLICY || type == KEY_QUOTA) {
		p = cursor_take(&k, 4);
		if (p)
			buf_printf(b, " %" PRIu32, get_be32(p));
	} else if (type == KEY_UNDER_GOAL) {
		p = cursor_take(&k, 1);
		if (p)
			buf_printf(b, " %u", *p);
	}
	while (type != KEY_SERVER_UUID && type != KEY_EXPORT && (p = cursor_take(&k, 8)) != NULL) {
		buf_printf(b, " %" PRIx64, get_be64(p));
		if (type == KEY_XATTR)
			break;
	}
	if (cursor_left(&k) > 0) {
		buf_printf(b, " \"");
		buf_text(b, slice_of(k.p, cursor_left(&k)));
		buf_printf(b, "\"");
	}
	buf_printf(b, ":");
	value_text(b, type, &v);
}
