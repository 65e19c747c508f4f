/* Logging to standard error: one line an event,
 *     2026-11-24T07:16:04.123Z warn chunkserver-2: chunk 9f3 v2 ...
 * Lines of several threads never mix (one write(2) each). Control characters in the text are
 * shown as \xNN, so that a hostile name cannot forge a line. Chunks are written %016lx, always
 * with the server when there is one. No secret is ever logged. */
#ifndef CAIRN_COMMON_LOG_H
#define CAIRN_COMMON_LOG_H

#include <stddef.h>

enum log_level { LOG_ERROR = 0, LOG_WARN = 1, LOG_INFO = 2, LOG_DEBUG = 3 };

/* Call once, before other threads start. name: shown in each line; copied. */
void log_setup(const char *name, enum log_level level);
int log_level_parse(const char *text, enum log_level *ret); /* "error" "warn" "info" "debug" */
extern enum log_level log_level_current;

/* For lines of the same look elsewhere: the time and a space, without a NUL (ret: LOG_TIME_BYTES); text with
 * its control characters as \xNN, cut to room (at least 5). Both return the length. */
enum { LOG_TIME_BYTES = 32 };
size_t log_time(char *ret);
size_t log_escape(char *out, size_t room, const char *text);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                          \
	do {                                                    \
		if (log_level_current >= LOG_DEBUG)             \
			log_write(LOG_DEBUG, __VA_ARGS__);      \
	} while (0)

#endif
