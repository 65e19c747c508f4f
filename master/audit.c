#include "master/audit.h"

#include <stdlib.h>
#include <utlist.h>

#include "common/audit.h"
#include "common/cleanup.h"
#include "master/server.h"

enum { REQUEST_TEXT_MAX = 300 };

/* A request whose answer is still to leave. */
struct asked {
	uint64_t id;
	uint16_t op;
	char text[REQUEST_TEXT_MAX];
	struct asked *next;
};

/* What was asked, but for contents: of an xattr nothing but its name is shown. */
static void request_text(uint16_t op, struct slice fields, char *ret)
{
	const struct wire_message *message = wire_message_find(op);
	_cleanup_free_ void *record = message ? malloc(message->request.bytes) : NULL;
	_cleanup_buf_ struct buf text = {0};
	struct cursor c = cursor_slice(fields);
	char *value;

	ret[0] = '\0';
	if (!record || message->request.get(&c, record) < 0)
		return;
	message->request.text(&text, record);
	buf_u8(&text, '\0');
	if (buf_status(&text) < 0)
		return;
	snprintf(ret, REQUEST_TEXT_MAX, "%s", (const char *)text.data);
	value = strstr(ret, " value=");
	if (value)
		*value = '\0';
}

void audit_asked(struct peer *p, const struct wire_header *h, struct slice fields)
{
	struct asked *a = audit_is_open() ? malloc(sizeof(*a)) : NULL;

	if (!a) {
		audit_done("%s by %s", wire_op_name(h->op), p->name);
		return;
	}
	a->id = h->id;
	a->op = h->op;
	request_text(h->op, fields, a->text);
	LL_PREPEND(p->asked, a);
}

void audit_answered(struct peer *p, const struct wire_header *request, int code, const char *text)
{
	struct asked *a;

	LL_FOREACH(p->asked, a) {
		if (a->id == request->id && a->op == request->op)
			break;
	}
	if (!a)
		return;
	audit_done("%s %s by %s:%s%s%s", wire_op_name(a->op), code < 0 ? err_name(code) : "OK", p->name,
		   a->text, code < 0 ? ": " : "",
		   code == 0 ? "" : text && text[0] ? text : err_text(code));
	LL_DELETE(p->asked, a);
	free(a);
}

void audit_gone(struct peer *p)
{
	struct asked *a, *next;

	LL_FOREACH_SAFE(p->asked, a, next) {
		audit_done("%s without an answer by %s:%s", wire_op_name(a->op), p->name, a->text);
		free(a);
	}
	p->asked = NULL;
}

bool audit_is_refusal(int code)
{
	return code == ERR_PERM || code == ERR_ACCES || code == ERR_AUTH || code == ERR_ROFS ||
	       code == ERR_WRONG_CLUSTER;
}

void audit_refusal(const struct peer *p, const struct wire_header *h, struct slice fields, int code,
		   const char *why)
{
	char text[REQUEST_TEXT_MAX];

	request_text(h->op, fields, text);
	audit_refused("%s %s by %s:%s: %s", wire_op_name(h->op), err_name(code), p->name, text,
		      why && why[0] ? why : err_text(code));
}
