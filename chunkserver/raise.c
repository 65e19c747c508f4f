#include "chunkserver/raise.h"

#include "chunkserver/fetch.h"
#include "common/clock.h"
#include "common/crc.h"
#include "common/log.h"

/* The master waits for the answer, and readers for the master. */
enum { RAISE_ALONE_MS = 2000, OTHER_DIAL_MS = 500, OTHER_READ_MS = 3000 };

struct other {
	const struct wire_replica *at;
	struct conn *conn;
	bool given_up;
};

struct others {
	const struct cred *cred;
	const struct wire_chunk_raise *req;
	struct other list[REPLICAS_MAX];
};

static int other_dial(struct others *x, struct other *o, struct err *err)
{
	char addr[ADDR_BYTES_MAX];

	if (o->conn)
		return 0;
	if (o->at->addr.len == 0 || o->at->addr.len >= sizeof(addr))
		return err_set(err, ERR_PROTOCOL, "malformed address");
	memcpy(addr, o->at->addr.data, o->at->addr.len);
	addr[o->at->addr.len] = '\0';
	return conn_dial(addr, x->cred, ROLE_CHUNKSERVER, deadline_in(OTHER_DIAL_MS), &o->conn, err);
}

/* One that does not answer is not asked again: what it has counts less than the time. */
static int other_fetch(struct others *x, struct other *o, uint32_t first, uint32_t n,
		       uint8_t *data, uint8_t *sums)
{
	struct wire_read req = {.chunk = x->req->chunk, .version = x->req->version,
				.offset = first * BLOCK_BYTES, .len = n * BLOCK_BYTES,
				.flags = READ_STABLE | READ_RECOVER};
	struct err err = {0};
	int r = other_dial(x, o, &err);

	if (r == 0)
		r = fetch_blocks(o->conn, &req, data, sums, deadline_in(OTHER_READ_MS), &err);
	if (r == 0 && crc_sums_check(sums, data, 0, req.len) >= 0)
		r = ERR_CHECKSUM;
	if (r < 0 && r != ERR_CHECKSUM) {
		log_info("chunk %016llx: no blocks from server %u: %s",
			 (unsigned long long)x->req->chunk, o->at->server, err_message(&err));
		o->given_up = true;
	}
	return r;
}

static int fetch_from_others(void *arg, uint32_t first, uint32_t n, uint8_t *data, uint8_t *sums)
{
	struct others *x = arg;

	for (unsigned i = 0; i < x->req->n_others; i++)
		if (!x->list[i].given_up && other_fetch(x, &x->list[i], first, n, data, sums) == 0)
			return 0;
	return ERR_CHECKSUM;
}

int raise_chunk(struct store *s, const struct cred *cred,
		const struct wire_chunk_raise *req, struct wire_chunk_state *ret, struct err *err)
{
	struct others x = {.cred = cred, .req = req};
	struct settle_source source = {.fetch = fetch_from_others, .arg = &x};
	int r;

	for (unsigned i = 0; i < req->n_others; i++)
		x.list[i].at = &req->others[i];
	r = store_raise(s, req, req->n_others ? &source : NULL, deadline_in(RAISE_ALONE_MS), ret,
			err);
	for (unsigned i = 0; i < req->n_others; i++)
		conn_free(x.list[i].conn);
	return r;
}
