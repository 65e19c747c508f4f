#include "common/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

static struct {
	pthread_mutex_t lock; /* protects all below */
	char dir[PATH_MAX - 64];
	int fd; /* -1: not open */
	int64_t bytes, bytes_max, keep;
	bool failed; /* it was told in the log that it cannot be written */
	unsigned n_refused; /* until refused_until_ms */
	int64_t refused_until_ms;
} audit = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

/* nth 0: the present one. */
static void file_name(int64_t nth, char *ret)
{
	if (nth == 0)
		snprintf(ret, PATH_MAX, "%s/audit.log", audit.dir);
	else
		snprintf(ret, PATH_MAX, "%s/audit.log.%lld", audit.dir, (long long)nth);
}

static int file_open(struct err *err)
{
	char path[PATH_MAX];
	struct stat st;

	file_name(0, path);
	audit.fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (audit.fd < 0 || fstat(audit.fd, &st) < 0)
		return err_set_errno(err, errno, "audit log %s", path);
	audit.bytes = st.st_size;
	return 0;
}

/* The oldest one goes. */
static void rotate(void)
{
	char from[PATH_MAX], to[PATH_MAX];

	close(audit.fd);
	audit.fd = -1;
	for (int64_t i = audit.keep; i-- > 0;) {
		file_name(i, from);
		file_name(i + 1, to);
		if (rename(from, to) < 0 && errno != ENOENT)
			log_error("rename %s: %s", from, strerror(errno));
	}
}

/* Lock held. A failure is told once, until it works again. */
static void put_line(const char *text)
{
	char line[AUDIT_LINE_MAX + LOG_TIME_BYTES + 8];
	struct err err = {0};
	ssize_t done = -1;
	size_t n = log_time(line);

	n += log_escape(line + n, sizeof(line) - n - 1, text);
	line[n++] = '\n';
	if (audit.fd >= 0 && audit.bytes + (int64_t)n > audit.bytes_max && audit.bytes > 0)
		rotate();
	if (audit.fd >= 0 || file_open(&err) == 0) {
		done = write(audit.fd, line, n);
		if (done < 0)
			err_set_errno(&err, errno, "audit log in %s", audit.dir);
		else
			audit.bytes += done;
	}
	if (done < 0 && !audit.failed)
		log_error("%s", err_message(&err));
	audit.failed = done < 0;
}

int audit_open(const char *dir, int64_t bytes_max, int64_t keep, struct err *err)
{
	int r;

	if (strlen(dir) >= sizeof(audit.dir))
		return err_set(err, ERR_CONFIG, "audit log: the directory's name is too long");
	snprintf(audit.dir, sizeof(audit.dir), "%s", dir);
	audit.bytes_max = bytes_max;
	audit.keep = keep;
	r = file_open(err);
	if (r < 0)
		audit.dir[0] = '\0';
	return r;
}

bool audit_is_open(void)
{
	bool is_open;

	pthread_mutex_lock(&audit.lock);
	is_open = audit.dir[0];
	pthread_mutex_unlock(&audit.lock);
	return is_open;
}

/* Those that were not named, when their time is over. Lock held. */
static void refused_count(int64_t now_ms)
{
	char text[64];

	if (audit.n_refused == 0 || now_ms < audit.refused_until_ms)
		return;
	if (audit.n_refused > AUDIT_REFUSED_MAX) {
		snprintf(text, sizeof(text), "%u more refused", audit.n_refused - AUDIT_REFUSED_MAX);
		put_line(text);
	}
	audit.n_refused = 0;
}

void audit_close(void)
{
	pthread_mutex_lock(&audit.lock);
	if (audit.dir[0])
		refused_count(INT64_MAX);
	if (audit.fd >= 0)
		close(audit.fd);
	audit.fd = -1;
	audit.dir[0] = '\0';
	audit.n_refused = 0;
	pthread_mutex_unlock(&audit.lock);
}

void audit_done(const char *fmt, ...)
{
	char text[AUDIT_LINE_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&audit.lock);
	if (audit.dir[0])
		put_line(text);
	pthread_mutex_unlock(&audit.lock);
}

void audit_refused(const char *fmt, ...)
{
	char text[AUDIT_LINE_MAX];
	int64_t now_ms = clock_ms();
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&audit.lock);
	if (audit.dir[0]) {
		refused_count(now_ms);
		if (audit.n_refused == 0)
			audit.refused_until_ms = now_ms + AUDIT_REFUSED_MS;
		if (audit.n_refused++ < AUDIT_REFUSED_MAX)
			put_line(text);
	}
	pthread_mutex_unlock(&audit.lock);
}
