#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
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

/* Control characters become \xNN. Returns the length written; room is at least 5. */
static size_t log_escape(char *out, size_t room, const char *text)
{
	size_t n = 0;

	for (; *text && n + 5 < room; text++) {
		unsigned char c = (unsigned char)*text;
		if (c >= 0x20 && c != 0x7f)
			out[n++] = (char)c;
		else
			n += (size_t)snprintf(out + n, room - n, "\\x%02x", c);
	}
	return n;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char text[LOG_LINE_MAX], line[LOG_LINE_MAX + 128];
	struct when now;
	struct tm tm;
	time_t sec;
	size_t n;
	va_list ap;

	if (level > log_level_current)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	now = clock_now();
	sec = (time_t)now.sec;
	gmtime_r(&sec, &tm);
	n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof(line) - n, ".%03uZ %s %s: ", now.nsec / 1000000,
			      log_words[level], log_name);
	n += log_escape(line + n, sizeof(line) - n - 1, text);
	line[n++] = '\n';
	/* A log that cannot be written has nowhere to say so. */
	if (write(STDERR_FILENO, line, n) < 0)
		return;
}
