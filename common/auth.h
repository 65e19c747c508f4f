/* Connection set-up: both sides prove that they know the cluster's shared key.
 *
 *     connecting side                         accepting side
 *     HELLO  role, masks, nonce_c     ->
 *                                     <-      CHALLENGE role, masks, nonce_s,
 *                                             HMAC-SHA256(key, "cairn accept" | T)
 *     PROVE  HMAC-SHA256(key,         ->
 *            "cairn connect" | T)
 *                                     <-      (empty reply)
 *
 * T is the HELLO's fields as they were sent, then the challenge's role, masks and nonce: so
 * neither a role nor a mask can be changed on the way, a proof is good for one connection, and
 * one side's proof is never the other's. Proofs are compared in constant time. There is no
 * encryption: this is the transport for trusted networks.
 *
 * Over TLS (common/tls.h) certificates have proved all that before the first byte. HELLO and CHALLENGE
 * still go to and fro, without nonces and proofs, for names and masks; each side's role is what its
 * certificate says, and a HELLO or CHALLENGE that says otherwise is refused. Without a key, and without
 * a certified role, nobody gets in.
 *
 * The state machine is pure: it is fed messages and appends what to send, and serves blocking
 * connections (common/conn.h) and the master's loop alike.
 */
#ifndef CAIRN_COMMON_AUTH_H
#define CAIRN_COMMON_AUTH_H

#include "common/wire.h"

enum { AUTH_NONCE_BYTES = 32, AUTH_PROOF_BYTES = 32 };

struct auth_key {
	uint8_t bytes[KEY_BYTES_MAX];
	size_t len;
};

/* Key file: one line of hexadecimal digits. Refused (ERR_CONFIG) when others than the owner may
 * read it, or when it is shorter than KEY_BYTES_MIN bytes. */
int auth_key_load(const char *path, struct auth_key *ret, struct err *err);
/* Makes a new random key of 32 bytes in a new file, mode 0600. ERR_EXIST if it is there. */
int auth_key_create(const char *path, struct err *err);
void auth_key_clear(struct auth_key *key);

enum auth_state { AUTH_START, AUTH_WAIT_HELLO, AUTH_WAIT_CHALLENGE, AUTH_WAIT_PROVE,
		  AUTH_WAIT_DONE, AUTH_DONE, AUTH_FAILED };

struct auth {
	const struct auth_key *key; /* not owned; NULL: certificates speak for the peer */
	uint16_t certified_role;    /* the peer's, when key is NULL */
	enum auth_state state;
	uint16_t role;		    /* ours */
	uint16_t peer_role;	    /* good when AUTH_DONE */
	char peer_name[64];	    /* what the peer calls itself, for logs only */
	uint64_t peer_compat;
	struct buf transcript;
	uint8_t nonce[AUTH_NONCE_BYTES];
};

/* name: shown in the peer's log. connect: appends HELLO to out. 0 or negative. */
int auth_connect(struct auth *a, const struct auth_key *key, uint16_t role, const char *name,
		 struct buf *out, struct err *err);
void auth_accept(struct auth *a, const struct auth_key *key, uint16_t role);
/* The same over TLS. peer_role: what the peer's certificate says. */
int auth_connect_certified(struct auth *a, uint16_t role, const char *name, uint16_t peer_role,
			   struct buf *out, struct err *err);
void auth_accept_certified(struct auth *a, uint16_t role, uint16_t peer_role);
/* Feeds one message (its checksum already checked). Appends an answer to out, also on failure
 * (then send it and close). 1: set up; 0: go on; negative: refused. */
int auth_step(struct auth *a, const struct wire_header *h, struct slice fields, struct buf *out,
	      struct err *err);
void auth_release(struct auth *a);

#endif
