#include "tools/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/limits.h"

const char *text_size(uint64_t bytes, char *ret)
{
	static const char units[] = "KMGTPE";
	uint64_t unit = 1024;
	int i = 0;

	if (bytes < 1024) {
		snprintf(ret, TEXT_SIZE_BYTES, "%" PRIu64, bytes);
		return ret;
	}
	while (i < 5 && bytes / unit >= 1024) {
		unit *= 1024;
		i++;
	}
	/* Tenths, rounded up, without overflow: unit <= 2^60. */
	uint64_t whole = bytes / unit, rest = bytes % unit;
	uint64_t tenths = (rest / 1024 * 10 + (rest % 1024 * 10 + 1023) / 1024 + unit / 1024 - 1) /
			  (unit / 1024);
	if (tenths == 10) {
		whole++;
		tenths = 0;
	}
	if (whole < 10)
		snprintf(ret, TEXT_SIZE_BYTES, "%" PRIu64 ".%" PRIu64 "%c", whole, tenths, units[i]);
	else
		snprintf(ret, TEXT_SIZE_BYTES, "%" PRIu64 "%c", whole + (tenths > 0), units[i]);
	return ret;
}

static char mode_letter(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR: return 'd';
	case S_IFLNK: return 'l';
	case S_IFIFO: return 'p';
	case S_IFSOCK: return 's';
	case S_IFBLK: return 'b';
	case S_IFCHR: return 'c';
	default: return '-';
	}
}

const char *text_mode(uint32_t mode, char *ret)
{
	static const char rwx[] = "rwxrwxrwx";

	ret[0] = mode_letter(mode);
	for (int i = 0; i < 9; i++)
		ret[1 + i] = mode & (0400u >> i) ? rwx[i] : '-';
	if (mode & S_ISUID)
		ret[3] = mode & S_IXUSR ? 's' : 'S';
	if (mode & S_ISGID)
		ret[6] = mode & S_IXGRP ? 's' : 'S';
	if (mode & S_ISVTX)
		ret[9] = mode & S_IXOTH ? 't' : 'T';
	ret[10] = '\0';
	return ret;
}

const char *text_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG: return "regular file";
	case S_IFDIR: return "directory";
	case S_IFLNK: return "symbolic link";
	case S_IFIFO: return "fifo";
	case S_IFSOCK: return "socket";
	case S_IFBLK: return "block device";
	case S_IFCHR: return "character device";
	default: return "unknown";
	}
}

const char *text_time(struct timespec t, char *ret)
{
	struct tm tm;
	size_t n;

	if (!localtime_r(&t.tv_sec, &tm)) {
		snprintf(ret, TEXT_TIME_BYTES, "%lld", (long long)t.tv_sec);
		return ret;
	}
	n = strftime(ret, TEXT_TIME_BYTES, "%Y-%m-%d %H:%M:%S", &tm);
	n += (size_t)snprintf(ret + n, TEXT_TIME_BYTES - n, ".%09ld", t.tv_nsec);
	strftime(ret + n, TEXT_TIME_BYTES - n, " %z", &tm);
	return ret;
}

void text_shell_quote(struct buf *out, const char *s)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789_-./:,=@%+";

	if (*s && strspn(s, plain) == strlen(s)) {
		buf_append(out, s, strlen(s));
		return;
	}
	buf_u8(out, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			buf_append(out, "'\\''", 4);
		else
			buf_u8(out, (uint8_t)*s);
	}
	buf_u8(out, '\'');
}

void text_printable(struct buf *out, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		buf_u8(out, c < 0x20 || c == 0x7f ? '?' : c);
	}
}

/* ---- UTF-8 ---- */

/* The bytes of the valid character at s, or 0. */
static size_t utf8_char(const unsigned char *s, size_t n)
{
	uint32_t code, least;
	size_t len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf) {
		len = 2, code = s[0] & 0x1f, least = 0x80;
	} else if ((s[0] & 0xf0) == 0xe0) {
		len = 3, code = s[0] & 0x0f, least = 0x800;
	} else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
		len = 4, code = s[0] & 0x07, least = 0x10000;
	} else {
		return 0;
	}
	if (n < len)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	return len;
}

size_t text_utf8_prefix(const char *s, size_t n)
{
	size_t at = 0;

	while (at < n) {
		size_t len = utf8_char((const unsigned char *)s + at, n - at);
		if (len == 0)
			break;
		at += len;
	}
	return at;
}

int text_json_name(json_t *object, const char *key, const char *name)
{
	_cleanup_buf_ struct buf text = {0};
	_cleanup_buf_ struct buf hex = {0};
	_cleanup_buf_ struct buf hex_key = {0};
	size_t n = strlen(name), at = 0;

	while (at < n) {
		size_t len = text_utf8_prefix(name + at, n - at);
		buf_append(&text, name + at, len);
		at += len;
		if (at < n) {
			buf_append(&text, "\xef\xbf\xbd", 3);
			at++;
		}
	}
	if (text_utf8_prefix(name, n) < n) {
		for (size_t i = 0; i < n; i++)
			buf_printf(&hex, "%02x", (unsigned char)name[i]);
		buf_printf(&hex_key, "%s_hex", key);
		if (buf_status(&hex) < 0 || buf_status(&hex_key) < 0 ||
		    json_object_set_new(object, buf_str(&hex_key), json_string(buf_str(&hex))))
			return -1;
	}
	if (buf_status(&text) < 0)
		return -1;
	return json_object_set_new(object, key, json_string(buf_str(&text)));
}

/* ---- paths ---- */

char *text_join(const char *dir, const char *name)
{
	size_t n = strlen(dir);
	char *path;

	if (asprintf(&path, "%s%s%s", dir, n > 0 && dir[n - 1] == '/' ? "" : "/", name) < 0)
		return NULL;
	return path;
}

/* The end of the last component and where it starts. */
static size_t base_span(const char *path, size_t *ret_start)
{
	size_t end = strlen(path), start;

	while (end > 1 && path[end - 1] == '/')
		end--;
	for (start = end; start > 0 && path[start - 1] != '/'; start--)
		;
	if (end == 1 && path[0] == '/')
		start = 0;
	*ret_start = start;
	return end;
}

char *text_base(const char *path)
{
	size_t start, end = base_span(path, &start);
	return strndup(path + start, end - start);
}

char *text_dir(const char *path)
{
	size_t start, end = base_span(path, &start);

	if (start == 0)
		return strdup(end > 0 && path[0] == '/' ? "/" : ".");
	for (end = start; end > 1 && path[end - 1] == '/'; end--)
		;
	return strndup(path, end);
}

void text_temp_name(const char *name, uint32_t random, char *ret)
{
	enum { AROUND = 1 + 7 + 8 }; /* "." ".cairn-" and the digits */
	size_t n = strlen(name), cut = NAME_BYTES_MAX - AROUND;

	if (n > cut) {
		/* Not in the middle of a character. */
		size_t whole = text_utf8_prefix(name, cut);
		n = whole + 3 >= cut ? whole : cut;
	}
	snprintf(ret, TEXT_NAME_BYTES, ".%.*s.cairn-%08" PRIx32, (int)n, name, random);
}
