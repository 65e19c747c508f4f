#include "common/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct err_row {
	int code;
	int eno;
	const char *name;
	const char *text;
};

static const struct err_row err_rows[] = {
	{0, 0, "OK", "success"},
#define ERR_X_ROW(name, number, eno, text) {-(number), eno, #name, text},
	ERR_TABLE(ERR_X_ROW)
#undef ERR_X_ROW
};

static const struct err_row *err_row_find(int code)
{
	for (size_t i = 0; i < sizeof(err_rows) / sizeof(err_rows[0]); i++)
		if (err_rows[i].code == code)
			return &err_rows[i];
	return NULL;
}

const char *err_text(int code)
{
	const struct err_row *row = err_row_find(code);
	return row ? row->text : "unknown error";
}

const char *err_name(int code)
{
	const struct err_row *row = err_row_find(code);
	return row ? row->name : "UNKNOWN";
}

int err_to_errno(int code)
{
	const struct err_row *row = err_row_find(code);
	return row ? row->eno : EIO;
}

int err_from_errno(int eno)
{
	/* Several codes share EIO and EACCES; the table's first row of an errno is the plain one. */
	for (size_t i = 0; i < sizeof(err_rows) / sizeof(err_rows[0]); i++)
		if (err_rows[i].eno == eno)
			return err_rows[i].code;
	return ERR_IO;
}

int err_from_wire(int code)
{
	return err_row_find(code) ? code : ERR_REMOTE;
}

int err_is_transport(int code)
{
	return code == ERR_TIMEOUT || code == ERR_CLOSED || code == ERR_UNREACHABLE ||
	       code == ERR_SHUTDOWN || code == ERR_NOT_LEADER;
}

void err_clear(struct err *err)
{
	if (err) {
		err->code = 0;
		err->text[0] = '\0';
	}
}

const char *err_message(const struct err *err)
{
	return err->text[0] ? err->text : err_text(err->code);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	if (err) {
		va_list ap;
		err->code = code;
		va_start(ap, fmt);
		vsnprintf(err->text, sizeof(err->text), fmt, ap);
		va_end(ap);
	}
	return code;
}

int err_set_errno(struct err *err, int eno, const char *fmt, ...)
{
	int code = err_from_errno(eno);
	if (err) {
		va_list ap;
		char reason[128];
		size_t n;
		err->code = code;
		va_start(ap, fmt);
		vsnprintf(err->text, sizeof(err->text), fmt, ap);
		va_end(ap);
		n = strlen(err->text);
		snprintf(err->text + n, sizeof(err->text) - n, ": %s",
			 strerror_r(eno, reason, sizeof(reason)));
	}
	return code;
}

int err_prefix(struct err *err, int code, const char *fmt, ...)
{
	if (err) {
		va_list ap;
		char old[ERR_TEXT_MAX];
		size_t n;
		snprintf(old, sizeof(old), "%s", err->text[0] ? err->text : err_text(code));
		if (!err->code)
			err->code = code;
		va_start(ap, fmt);
		vsnprintf(err->text, sizeof(err->text), fmt, ap);
		va_end(ap);
		n = strlen(err->text);
		snprintf(err->text + n, sizeof(err->text) - n, ": %s", old);
	}
	return code;
}
