/* The audit log: who did which administrative operation, and what was refused to whom. One line each,
 *
 *     2026-12-01T12:40:00.123Z SERVER_SET OK by 10.0.0.9:4711 (admin anna, cairn 12): server=1 flags=1
 *
 * in DIR/audit.log, mode 0600, which becomes audit.log.1 and so on when it has grown: at most `keep` old
 * ones of `bytes_max` each are there, so it needs no logrotate and fills no disk. Control characters are
 * shown as \xNN, as in the log; no secret is written. Refused requests of others than administrators are
 * counted beyond AUDIT_REFUSED_MAX in AUDIT_REFUSED_MS, so that a flood of them neither pushes out what
 * was there nor costs anything.
 *
 * One for each process; any thread. Without audit_open nothing is written.
 */
#ifndef CAIRN_COMMON_AUDIT_H
#define CAIRN_COMMON_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

enum { AUDIT_REFUSED_MAX = 20, AUDIT_REFUSED_MS = 1000, AUDIT_LINE_MAX = 1024 };

/* Rows of an option table: int64_t targets. */
#define AUDIT_OPTIONS(bytes_target, keep_target)                                                 \
	{"audit_size", CONF_SIZE, bytes_target, "16M", 4096, INT64_MAX,                          \
	 "the audit log begins a new file at so many bytes"},                                    \
	{"audit_keep", CONF_INT, keep_target, "8", 1, 1000, "and keeps so many old ones"}

/* Before other threads start; again with another directory if it fails. */
int audit_open(const char *dir, int64_t bytes_max, int64_t keep, struct err *err);
void audit_close(void);
/* Whether anything is written at all. */
bool audit_is_open(void);
/* What an administrator did, or tried. */
void audit_done(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* What was refused. */
void audit_refused(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
