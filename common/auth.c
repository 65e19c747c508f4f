#include "common/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"

enum { AUTH_NEW_KEY_BYTES = 32 };

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Reads the key file's text; its permissions are checked on the open descriptor. */
static int auth_key_read(const char *path, char *text, size_t room, size_t *ret_len,
			 struct err *err)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set_errno(err, errno, "key file %s", path);
	if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0)
		return err_set(err, ERR_CONFIG, "key file %s: must be a regular file that only "
			       "its owner can read (chmod 600)", path);
	n = read(fd, text, room);
	if (n < 0)
		return err_set_errno(err, errno, "key file %s", path);
	*ret_len = (size_t)n;
	return 0;
}

int auth_key_load(const char *path, struct auth_key *ret, struct err *err)
{
	char text[2 * KEY_BYTES_MAX + 2];
	struct auth_key key = {.len = 0};
	size_t len = 0;
	int r = auth_key_read(path, text, sizeof(text), &len, err);

	if (r < 0)
		return r;
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	if (len % 2 != 0 || len / 2 < KEY_BYTES_MIN || len / 2 > KEY_BYTES_MAX)
		r = ERR_CONFIG;
	for (size_t i = 0; r == 0 && i < len / 2; i++) {
		int hi = hex_value(text[2 * i]), lo = hex_value(text[2 * i + 1]);
		if (hi < 0 || lo < 0)
			r = ERR_CONFIG;
		else
			key.bytes[key.len++] = (uint8_t)(hi << 4 | lo);
	}
	if (r == 0)
		*ret = key;
	else
		err_set(err, r, "key file %s: must be one line of %d to %d hexadecimal digits",
			path, 2 * KEY_BYTES_MIN, 2 * KEY_BYTES_MAX);
	OPENSSL_cleanse(text, sizeof(text));
	auth_key_clear(&key);
	return r;
}

int auth_key_create(const char *path, struct err *err)
{
	uint8_t bytes[AUTH_NEW_KEY_BYTES];
	char text[2 * AUTH_NEW_KEY_BYTES + 2];
	_cleanup_fd_ int fd = -1;
	int r = 0;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return err_set(err, ERR_IO, "no random bytes for a new key");
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	text[sizeof(text) - 2] = '\n';
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, sizeof(text) - 1) != (ssize_t)sizeof(text) - 1 ||
	    fsync(fd) < 0)
		r = err_set_errno(err, errno, "make key file %s", path);
	OPENSSL_cleanse(text, sizeof(text));
	OPENSSL_cleanse(bytes, sizeof(bytes));
	return r;
}

void auth_key_clear(struct auth_key *key)
{
	OPENSSL_cleanse(key, sizeof(*key));
}

void auth_release(struct auth *a)
{
	buf_release(&a->transcript);
}

static int auth_proof(const struct auth *a, const char *label, uint8_t ret[AUTH_PROOF_BYTES])
{
	_cleanup_buf_ struct buf text = {0};
	unsigned len = 0;

	buf_append(&text, label, strlen(label) + 1);
	buf_append_slice(&text, buf_slice(&a->transcript));
	if (buf_status(&text) < 0)
		return ERR_NOMEM;
	if (!HMAC(EVP_sha256(), a->key->bytes, (int)a->key->len, text.data, text.len, ret, &len) ||
	    len != AUTH_PROOF_BYTES)
		return ERR_AUTH;
	return 0;
}

static bool auth_proof_ok(const struct auth *a, const char *label, struct slice proof)
{
	uint8_t want[AUTH_PROOF_BYTES];
	return auth_proof(a, label, want) == 0 && proof.len == AUTH_PROOF_BYTES &&
	       CRYPTO_memcmp(want, proof.data, AUTH_PROOF_BYTES) == 0;
}

/* The challenge without its proof is the second half of the transcript. */
static void auth_transcript_challenge(struct auth *a, const struct wire_challenge *c)
{
	struct wire_challenge bare = *c;
	bare.proof = (struct slice){0};
	wire_challenge_put(&a->transcript, &bare);
}

static int auth_fail(struct auth *a, struct err *err, int code, const char *why)
{
	a->state = AUTH_FAILED;
	return err_set(err, code, "%s", why);
}

static int auth_begin(struct auth *a, const char *name, struct buf *out, struct err *err)
{
	struct wire_hello hello = {.role = a->role, .compat = WIRE_COMPAT, .incompat = WIRE_INCOMPAT,
				   .name = slice_str(name)};
	int r;

	if (hello.name.len >= sizeof(a->peer_name))
		hello.name.len = sizeof(a->peer_name) - 1;
	if (a->key) {
		if (RAND_bytes(a->nonce, sizeof(a->nonce)) != 1)
			return auth_fail(a, err, ERR_IO, "no random bytes");
		hello.nonce = slice_of(a->nonce, sizeof(a->nonce));
	}
	wire_hello_put(&a->transcript, &hello);
	r = buf_status(&a->transcript);
	if (r == 0)
		r = wire_put_request(out, OP_HELLO, 1, 0, &hello, 0);
	if (r < 0)
		return auth_fail(a, err, r, "out of memory");
	a->state = AUTH_WAIT_CHALLENGE;
	return 0;
}

int auth_connect(struct auth *a, const struct auth_key *key, uint16_t role, const char *name,
		 struct buf *out, struct err *err)
{
	*a = (struct auth){.key = key, .state = AUTH_START, .role = role};
	return auth_begin(a, name, out, err);
}

int auth_connect_certified(struct auth *a, uint16_t role, const char *name, uint16_t peer_role,
			   struct buf *out, struct err *err)
{
	*a = (struct auth){.certified_role = peer_role, .state = AUTH_START, .role = role};
	return auth_begin(a, name, out, err);
}

void auth_accept(struct auth *a, const struct auth_key *key, uint16_t role)
{
	*a = (struct auth){.key = key, .state = AUTH_WAIT_HELLO, .role = role};
}

void auth_accept_certified(struct auth *a, uint16_t role, uint16_t peer_role)
{
	*a = (struct auth){.certified_role = peer_role, .state = AUTH_WAIT_HELLO, .role = role};
}

/* The peer says of itself what its certificate says; a role of 0 is nobody's. */
static int auth_check_certified(struct auth *a, struct err *err)
{
	if (a->certified_role == 0 || a->peer_role != a->certified_role)
		return auth_fail(a, err, ERR_AUTH, "its certificate is for another role");
	return 0;
}

static void auth_keep_name(struct auth *a, struct slice name)
{
	size_t n = name.len < sizeof(a->peer_name) ? name.len : sizeof(a->peer_name) - 1;
	memcpy(a->peer_name, name.data ? name.data : (const uint8_t *)"", n);
	a->peer_name[n] = '\0';
}

/* Over TLS nothing is left to be proved. */
static int auth_welcome(struct auth *a, const struct wire_header *h, struct buf *out,
			struct err *err)
{
	struct wire_challenge ch = {.role = a->role, .compat = WIRE_COMPAT,
				    .incompat = WIRE_INCOMPAT};
	int r = auth_check_certified(a, err);

	if (r < 0)
		return r;
	r = wire_put_reply(out, OP_HELLO, h->id, 0, &ch, 0);
	if (r < 0)
		return auth_fail(a, err, r, err_text(r));
	a->state = AUTH_DONE;
	return 1;
}

static int auth_challenge(struct auth *a, const struct wire_header *h, struct slice fields,
			  struct buf *out, struct err *err)
{
	struct wire_challenge ch = {.role = a->role, .compat = WIRE_COMPAT,
				    .incompat = WIRE_INCOMPAT};
	uint8_t proof[AUTH_PROOF_BYTES];
	int r;

	if (RAND_bytes(a->nonce, sizeof(a->nonce)) != 1)
		return auth_fail(a, err, ERR_IO, "no random bytes");
	ch.nonce = slice_of(a->nonce, sizeof(a->nonce));
	buf_append_slice(&a->transcript, fields);
	auth_transcript_challenge(a, &ch);
	r = buf_status(&a->transcript);
	if (r == 0)
		r = auth_proof(a, "cairn accept", proof);
	ch.proof = slice_of(proof, sizeof(proof));
	if (r == 0)
		r = wire_put_reply(out, OP_HELLO, h->id, 0, &ch, 0);
	if (r < 0)
		return auth_fail(a, err, r, err_text(r));
	a->state = AUTH_WAIT_PROVE;
	return 0;
}

static int auth_on_hello(struct auth *a, const struct wire_header *h, struct slice fields,
			 struct buf *out, struct err *err)
{
	struct cursor c = cursor_slice(fields);
	struct wire_hello hello;

	if (wire_hello_get(&c, &hello) < 0 ||
	    hello.nonce.len != (a->key ? AUTH_NONCE_BYTES : 0))
		return auth_fail(a, err, ERR_PROTOCOL, "malformed HELLO");
	if (hello.incompat & ~(uint64_t)WIRE_INCOMPAT)
		return auth_fail(a, err, ERR_VERSION, "peer needs features unknown here");
	a->peer_role = hello.role;
	a->peer_compat = hello.compat;
	auth_keep_name(a, hello.name);
	return a->key ? auth_challenge(a, h, fields, out, err) : auth_welcome(a, h, out, err);
}

static int auth_on_challenge(struct auth *a, const struct wire_header *h, struct slice fields,
			     struct buf *out, struct err *err)
{
	struct wire_challenge ch;
	struct wire_prove prove;
	uint8_t proof[AUTH_PROOF_BYTES];
	int r = wire_get_reply(h, fields, &ch, NULL, err);

	if (r < 0) {
		a->state = AUTH_FAILED;
		return r;
	}
	if (ch.nonce.len != (a->key ? AUTH_NONCE_BYTES : 0))
		return auth_fail(a, err, ERR_PROTOCOL, "malformed CHALLENGE");
	if (ch.incompat & ~(uint64_t)WIRE_INCOMPAT)
		return auth_fail(a, err, ERR_VERSION, "peer needs features unknown here");
	a->peer_role = ch.role;
	a->peer_compat = ch.compat;
	if (!a->key) {
		r = auth_check_certified(a, err);
		a->state = r < 0 ? AUTH_FAILED : AUTH_DONE;
		return r < 0 ? r : 1;
	}
	auth_transcript_challenge(a, &ch);
	if (buf_status(&a->transcript) < 0)
		return auth_fail(a, err, ERR_NOMEM, "out of memory");
	if (!auth_proof_ok(a, "cairn accept", ch.proof))
		return auth_fail(a, err, ERR_AUTH, "the server does not know our key");
	r = auth_proof(a, "cairn connect", proof);
	prove.proof = slice_of(proof, sizeof(proof));
	if (r == 0)
		r = wire_put_request(out, OP_PROVE, 2, 0, &prove, 0);
	if (r < 0)
		return auth_fail(a, err, r, err_text(r));
	a->state = AUTH_WAIT_DONE;
	return 0;
}

static int auth_on_prove(struct auth *a, const struct wire_header *h, struct slice fields,
			 struct buf *out, struct err *err)
{
	struct cursor c = cursor_slice(fields);
	struct wire_prove prove;
	struct wire_empty empty;
	int r;

	if (wire_prove_get(&c, &prove) < 0)
		return auth_fail(a, err, ERR_PROTOCOL, "malformed PROVE");
	if (!auth_proof_ok(a, "cairn connect", prove.proof))
		return auth_fail(a, err, ERR_AUTH, "wrong key");
	r = wire_put_reply(out, OP_PROVE, h->id, 0, &empty, 0);
	if (r < 0)
		return auth_fail(a, err, r, err_text(r));
	a->state = AUTH_DONE;
	return 1;
}

static int auth_on_done(struct auth *a, const struct wire_header *h, struct slice fields,
			struct err *err)
{
	struct wire_empty empty;
	int r = wire_get_reply(h, fields, &empty, NULL, err);
	a->state = r < 0 ? AUTH_FAILED : AUTH_DONE;
	return r < 0 ? r : 1;
}

/* The message that each waiting state expects. */
static bool auth_expects(enum auth_state state, const struct wire_header *h)
{
	bool reply = h->flags & WIRE_REPLY;

	switch (state) {
	case AUTH_WAIT_HELLO:
		return h->op == OP_HELLO && !reply;
	case AUTH_WAIT_CHALLENGE:
		return h->op == OP_HELLO && reply;
	case AUTH_WAIT_PROVE:
		return h->op == OP_PROVE && !reply;
	case AUTH_WAIT_DONE:
		return h->op == OP_PROVE && reply;
	default:
		return false;
	}
}

int auth_step(struct auth *a, const struct wire_header *h, struct slice fields, struct buf *out,
	      struct err *err)
{
	struct err local = {0};
	int r;

	if (!err)
		err = &local;
	if (!auth_expects(a->state, h) || h->data_bytes > 0 ||
	    h->fields_bytes > AUTH_FIELDS_BYTES_MAX)
		r = auth_fail(a, err, ERR_PROTOCOL, "unexpected message during connection set-up");
	else if (a->state == AUTH_WAIT_HELLO)
		r = auth_on_hello(a, h, fields, out, err);
	else if (a->state == AUTH_WAIT_CHALLENGE)
		r = auth_on_challenge(a, h, fields, out, err);
	else if (a->state == AUTH_WAIT_PROVE)
		r = auth_on_prove(a, h, fields, out, err);
	else
		r = auth_on_done(a, h, fields, err);
	/* The accepting side says why; the connecting side just leaves. */
	if (r < 0 && !(h->flags & WIRE_REPLY) && wire_message_find(h->op))
		wire_put_failure(out, h->op, h->id, 0, r, err->text, 0);
	return r;
}
