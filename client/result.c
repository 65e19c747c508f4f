#include "client/result.h"

#include <errno.h>
#include <string.h>

#include "client/cairn.h"

static _Thread_local struct err last_failure;

ssize_t result(ssize_t r, const struct err *err)
{
	int eno;

	if (r >= 0)
		return r;
	if (err->text[0])
		last_failure = *err;
	else
		err_set(&last_failure, (int)r, "%s", err_text((int)r));
	eno = err_to_errno((int)r);
	return -(eno > 0 ? eno : EIO);
}

void result_strip(struct err *err, const char *where)
{
	size_t n = strlen(where);

	if (err && strncmp(err->text, where, n) == 0 && err->text[n] == ':' &&
	    err->text[n + 1] == ' ')
		memmove(err->text, err->text + n + 2, strlen(err->text + n + 2) + 1);
}

const char *cairn_error(void)
{
	return err_message(&last_failure);
}

const char *cairn_version(void)
{
	return CAIRN_VERSION;
}
