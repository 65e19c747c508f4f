/* POSIX access control lists as Linux has them: see tests/lib/cases.h. */
#include <stdint.h>
#include <sys/xattr.h>

#include "tests/lib/cases.h"

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

enum { NAMED = 12011, OTHER = 12012, NAMED_GROUP = 12013, OWNER = 12014 };
enum { U_OBJ = 1, U = 2, G_OBJ = 4, G = 8, MASK = 16, O = 32 };

struct entry {
	uint16_t tag, perm;
	uint32_t id;
};
static const char *at(int dir, const char *name)
{
	static char paths[4][512];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "/proc/self/fd/%d/%s", dir, name);
	return path;
}

static uint16_t tag_of(char c)
{
	static const struct { char c; uint16_t tag; } tags[] = {
		{'u', U_OBJ}, {'U', U}, {'g', G_OBJ}, {'G', G}, {'m', MASK}, {'o', O}};

	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
		if (tags[i].c == c)
			return tags[i].tag;
	return 0;
}

/* list: as list_of() tells it. */
static int set_list(const char *name, const char *kind, const char *list)
{
	unsigned char value[512] = {2};
	size_t bytes = 4;
	int used;
	char c;

	for (; sscanf(list, " %c%n", &c, &used) == 1; list += used) {
		struct entry e = {.tag = tag_of(c), .id = UINT32_MAX};
		list += used;
		if (e.tag == U || e.tag == G)
			sscanf(list, "%u:%hu%n", &e.id, &e.perm, &used);
		else
			sscanf(list, "%hu%n", &e.perm, &used);
		memcpy(value + bytes, &e, sizeof(e));
		bytes += sizeof(e);
	}
	return setxattr(at(here, name), kind, value, bytes, 0);
}

/* The list as a word, as seen through the other mount: "u6 U12011:6 g4 m6 o0". */
static const char *list_of(const char *name, const char *kind)
{
	static char text[4][256];
	static unsigned next;
	char *out = text[next++ % 4];
	unsigned char value[1024];
	ssize_t n = getxattr(at(there, name), kind, value, sizeof(value));

	out[0] = '\0';
	if (n < 0)
		return errno == ENODATA ? "none" : strerror(errno);
	for (ssize_t i = 4; i + 8 <= n; i += 8) {
		char *end = out + strlen(out);
		struct entry e;
		memcpy(&e, value + i, sizeof(e));
		end += sprintf(end, i > 4 ? " " : "");
		if (e.tag == U || e.tag == G)
			sprintf(end, "%c%u:%u", e.tag == U ? 'U' : 'G', e.id, e.perm);
		else
			sprintf(end, "%c%u", e.tag == U_OBJ ? 'u' : e.tag == G_OBJ ? 'g' :
				e.tag == MASK ? 'm' : 'o', e.perm);
	}
	return out;
}

#define IS(name, kind, text)                                          \
	do {                                                          \
		if (!CHECK(strcmp(list_of(name, kind), text) == 0))   \
			printf("#   it is: %s\n", list_of(name, kind)); \
	} while (0)

static int read_f(void) { return openat(there, "f", O_RDONLY); }
static int write_f(void) { return openat(there, "f", O_WRONLY); }
static int touch_in_d(void) { return touch(there, "d/by", 0666); }
static int set_minimal(void)
{
	return set_list("f", ACCESS, "u7 g5 o5");
}

static void decide(void)
{
	WORKS(touch(here, "f", 0640));
	WORKS(set_list("f", ACCESS, "u6 U12011:6 g4 G12013:4 m6 o0"));
	IS("f", ACCESS, "u6 U12011:6 g4 G12013:4 m6 o0");
	CHECK(mode_of(there, "f") == 0660);
	WORKS(as_user(NAMED, NAMED, 0, read_f));
	WORKS(as_user(NAMED, NAMED, 0, write_f));
	FAILS(as_user(OTHER, OTHER, 0, read_f), EACCES);
	WORKS(as_user(OTHER, OTHER, NAMED_GROUP, read_f));
	FAILS(as_user(OTHER, OTHER, NAMED_GROUP, write_f), EACCES);
	/* The mask limits what is given by name; chmod changes it. */
	WORKS(fchmodat(here, "f", 0640, 0));
	IS("f", ACCESS, "u6 U12011:6 g4 G12013:4 m4 o0");
	FAILS(as_user(NAMED, NAMED, 0, write_f), EACCES);
	WORKS(as_user(NAMED, NAMED, 0, read_f));
	WORKS(fchmodat(here, "f", 0604, 0));
	WORKS(as_user(OTHER, OTHER, 0, read_f));
	WORKS(removexattr(at(here, "f"), ACCESS));
	IS("f", ACCESS, "none");
	WORKS(as_user(NAMED, NAMED, 0, read_f));
	FAILS(as_user(OTHER, OTHER, 0, set_minimal), EPERM);
}

static void equivalents(void)
{
	WORKS(touch(here, "f", 0600));
	WORKS(set_minimal());
	IS("f", ACCESS, "none");
	CHECK(mode_of(there, "f") == 0755);
	FAILS(set_list("f", ACCESS, "u7 g5"), EINVAL);
	FAILS(set_list("f", ACCESS, "u7 U12011:7 g5 o5"), EINVAL);
	FAILS(setxattr(at(here, "f"), ACCESS, "x", 1, 0), EINVAL);
	FAILS(set_list("f", DEFAULT, "u7 g5 o5"),
	      EACCES);
	WORKS(removexattr(at(here, "f"), ACCESS));
}

static void inherit(void)
{
	struct stat st;
	int fd;

	WORKS(mkdirat(here, "d", 0777));
	WORKS(set_list("d", DEFAULT, "u7 U12011:7 g5 m7 o1"));
	umask(077); /* has no say where there is a default list */
	WORKS(mkdirat(here, "d/sub", 0775));
	WORKS(touch(here, "d/f", 0664));
	WORKS(mkfifoat(here, "d/p", 0600));
	WORKS(symlinkat("f", here, "d/s"));
	fd = openat(here, "d", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
	umask(022);
	CHECK(fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0660);
	close(fd);
	IS("d/sub", DEFAULT, "u7 U12011:7 g5 m7 o1");
	IS("d/sub", ACCESS, "u7 U12011:7 g5 m7 o1");
	CHECK(mode_of(there, "d/sub") == 0771);
	IS("d/f", ACCESS, "u6 U12011:7 g5 m6 o0");
	IS("d/f", DEFAULT, "none");
	CHECK(mode_of(there, "d/f") == 0660 && mode_of(there, "d/p") == 0600);
	CHECK(S_ISLNK(stat_of(there, "d/s").st_mode));
	/* A default list that says no more than a mode. */
	WORKS(set_list("d", DEFAULT, "u7 g5 o0"));
	IS("d", DEFAULT, "u7 g5 o0");
	WORKS(touch(here, "d/plain", 0666));
	IS("d/plain", ACCESS, "none");
	CHECK(mode_of(there, "d/plain") == 0640);
	WORKS(removexattr(at(here, "d"), DEFAULT));
	WORKS(removexattr(at(here, "d"), DEFAULT));
	WORKS(touch(here, "d/masked", 0666));
	CHECK(mode_of(there, "d/masked") == 0644);
}

static void directories(void)
{
	WORKS(mkdirat(here, "d", 0755));
	FAILS(as_user(NAMED, NAMED, 0, touch_in_d), EACCES);
	WORKS(set_list("d", ACCESS, "u7 U12011:7 g5 m7 o5"));
	WORKS(as_user(NAMED, NAMED, 0, touch_in_d));
	CHECK(stat_of(here, "d/by").st_uid == NAMED);
}

static void set_gid(void)
{
	WORKS(touch(here, "f", 0755));
	WORKS(fchownat(here, "f", OWNER, NAMED_GROUP, 0));
	WORKS(fchmodat(here, "f", 02755, 0));
	WORKS(as_user(OWNER, OWNER, NAMED_GROUP, set_minimal));
	CHECK(mode_of(there, "f") == 02755);
	WORKS(as_user(OWNER, OWNER, 0, set_minimal));
	CHECK(mode_of(there, "f") == 0755);
}

static const struct fs_case cases[] = {
	{"decide", decide, true}, {"equivalents", equivalents, false}, {"inherit", inherit, false},
	{"directories", directories, true}, {"set_gid", set_gid, true},
};

int main(int argc, char **argv)
{
	return cases_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
