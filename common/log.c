#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"

enum { LOG_LINE_MAX = 2048, LOG_NAME_MAX = 64 };

enum log_level log_level_current = LOG_INFO;
static char log_name[LOG_NAME_MAX] = "cairn";
static const char *const log_words[] = {"error", "warn", "info", "debug"};

void log_setup(const char *name, enum log_level level)
{
	snprintf(log_name, sizeof(log_name), "%s", name);
	log_level_current = level;
}

int log_level_parse(const char *text, enum log_level *ret)
{
	for (int i = LOG_ERROR; i <= LOG_DEBUG; i++) {
		if (strcmp(text, log_words[i]) == 0) {
			*ret = (enum log_level)i;
			return 0;
		}
	}
	return ERR_INVAL;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char text[LOG_LINE_MAX], line[LOG_LINE_MAX + 128];
	size_t n;
	va_list ap;

	if (level > log_level_current)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	n = log_time(line);
	n += (size_t)snprintf(line + n, sizeof(line) - n, "%s %s: ", log_words[level], log_name);
	n += log_escape(line + n, sizeof(line) - n - 1, text);
	line[n++] = '\n';
	/* A log that cannot be written has nowhere to say so. */
	if (write(STDERR_FILENO, line, n) < 0)
		return;
}
