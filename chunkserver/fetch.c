#include "chunkserver/fetch.h"

#include "common/cleanup.h"

/* *ret_len: fewer bytes than were asked for only at the replica's end. */
static int fetch(struct conn *from, const struct wire_read *req, uint8_t *data, uint8_t *sums,
		 uint32_t *ret_len, int64_t deadline_ms, struct err *err)
{
	_cleanup_buf_ struct buf out = {0}, fields = {0};
	struct wire_read_reply rep;
	struct wire_header h;
	int r = wire_put_request(&out, OP_READ, from->next_id++, 0, req, 0);

	if (r == 0)
		r = conn_send(from, buf_slice(&out), NULL, 0, deadline_ms, err);
	if (r == 0)
		r = conn_recv(from, &h, &fields, deadline_ms, err);
	if (r == 0)
		r = wire_get_reply(&h, buf_slice(&fields), &rep, NULL, err);
	if (r < 0)
		return r;
	if (h.data_bytes > req->len || h.data_bytes % BLOCK_BYTES ||
	    rep.sums.len != h.data_bytes / BLOCK_BYTES * 4) {
		from->broken = true;
		return err_set(err, ERR_PROTOCOL, "%s: malformed answer to READ", from->peer);
	}
	r = conn_recv_data(from, data, h.data_bytes, deadline_ms, err);
	if (r == 0 && sums)
		memcpy(sums, rep.sums.data, rep.sums.len);
	*ret_len = h.data_bytes;
	return r;
}

int fetch_blocks(struct conn *from, const struct wire_read *req, uint8_t *data, uint8_t *sums,
		 int64_t deadline_ms, struct err *err)
{
	uint32_t len;
	int r = fetch(from, req, data, sums, &len, deadline_ms, err);

	if (r == 0 && len < req->len)
		r = err_set(err, ERR_CHECKSUM, "%s: sent %u bytes of chunk %016llx for %u",
			    from->peer, len, (unsigned long long)req->chunk, req->len);
	return r;
}

int fetch_padded(struct conn *from, const struct wire_read *req, uint8_t *data, uint8_t *sums,
		 int64_t deadline_ms, struct err *err)
{
	uint32_t len;
	int r = fetch(from, req, data, sums, &len, deadline_ms, err);

	if (r < 0)
		return r;
	memset(data + len, 0, req->len - len);
	if (sums)
		memset(sums + len / BLOCK_BYTES * 4, 0, (req->len - len) / BLOCK_BYTES * 4);
	return 0;
}
