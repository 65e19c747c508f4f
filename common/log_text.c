/* What a line of a log looks like. Apart from log.c, which a test may replace. */
#include <stdio.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"

size_t log_time(char *ret)
{
	struct when now = clock_now();
	time_t sec = (time_t)now.sec;
	struct tm tm;
	size_t n;

	gmtime_r(&sec, &tm);
	n = strftime(ret, LOG_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
	return n + (size_t)snprintf(ret + n, LOG_TIME_BYTES - n, ".%03uZ ", now.nsec / 1000000);
}

size_t log_escape(char *out, size_t room, const char *text)
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
