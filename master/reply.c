/* Answers to a peer's requests, for whatever sends them. */
#include "common/cleanup.h"
#include "common/wire.h"
#include "master/audit.h"
#include "master/server.h"

static void peer_send_or_close(struct peer *p, struct buf *out, int r, uint8_t leased)
{
	if (r == 0 && leased)
		wire_set_leased(out, 0, leased);
	if (r < 0)
		peer_close(p, err_text(r));
	else
		peer_send(p, out);
}

void peer_reply_leased(struct peer *p, const struct wire_header *request, const void *reply,
		       uint8_t leased)
{
	_cleanup_buf_ struct buf out = {0};
	int r = wire_put_reply(&out, request->op, request->id, request->trace, reply, 0);
	audit_answered(p, request, 0, NULL);
	peer_send_or_close(p, &out, r, leased);
}

void peer_reply(struct peer *p, const struct wire_header *request, const void *reply)
{
	peer_reply_leased(p, request, reply, 0);
}

void peer_reply_raw(struct peer *p, const struct wire_header *request, struct slice fields,
		    uint8_t leased)
{
	_cleanup_buf_ struct buf out = {0};
	int r = wire_put_reply_raw(&out, request->op, request->id, request->trace, fields);
	audit_answered(p, request, 0, NULL);
	peer_send_or_close(p, &out, r, leased);
}

void peer_fail_leased(struct peer *p, const struct wire_header *request, int code,
		      const char *text, uint8_t leased)
{
	_cleanup_buf_ struct buf out = {0};
	int r = wire_put_failure(&out, request->op, request->id, request->trace, code,
				 text && text[0] ? text : err_text(code), 0);
	audit_answered(p, request, code, text);
	peer_send_or_close(p, &out, r, leased);
}

void peer_fail(struct peer *p, const struct wire_header *request, int code, const char *text)
{
	peer_fail_leased(p, request, code, text, 0);
}
