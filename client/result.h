/* The one place where codes of common/err.h become errno values of the public interface, and
 * where the text of a thread's last failure is kept for cairn_error(). */
#ifndef CAIRN_CLIENT_RESULT_H
#define CAIRN_CLIENT_RESULT_H

#include <sys/types.h>

#include "common/err.h"

/* r as it is when it is not negative; else -errno, and err's text becomes the calling thread's
 * last failure (err may have no text: then the table's). */
ssize_t result(ssize_t r, const struct err *err);

/* Takes "WHERE: " off the start of err's text, for a caller that goes on to say where. */
void result_strip(struct err *err, const char *where);

#endif
