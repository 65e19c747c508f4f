/* POSIX access control lists, through their extended attributes. */
#include <endian.h>
#include <sys/xattr.h>

#include "tests/posix/suite/suite.h"

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

struct acl {
	unsigned char bytes[4 + 8 * 20];
	size_t n;
};

/* Text: "u:7,u40001:6,g:5,g40010:4,m:7,o:0". */
static struct acl acl_of(const char *text)
{
	struct acl acl = {.bytes = {2, 0, 0, 0}, .n = 4};

	while (*text) {
		char kind = *text++;
		uint32_t id = *text == ':' ? 0xffffffffu : (uint32_t)strtoul(text, (char **)&text, 10);
		bool named = id != 0xffffffffu;
		uint16_t tag = kind == 'u' ? (named ? USER : USER_OBJ)
			     : kind == 'g' ? (named ? GROUP : GROUP_OBJ) : kind == 'm' ? MASK : OTHER;
		uint16_t bits = (uint16_t)strtoul(text + 1, (char **)&text, 8);

		tag = htole16(tag);
		bits = htole16(bits);
		id = htole32(id);
		memcpy(acl.bytes + acl.n, &tag, 2);
		memcpy(acl.bytes + acl.n + 2, &bits, 2);
		memcpy(acl.bytes + acl.n + 4, &id, 4);
		acl.n += 8;
		text += *text == ',';
	}
	return acl;
}

static long acl_set(const char *path, const char *name, const char *text)
{
	struct acl acl = acl_of(text);

	return setxattr(path, name, acl.bytes, acl.n, 0);
}

static void acl_is(const char *path, const char *name, const char *text)
{
	struct acl acl = acl_of(text);
	unsigned char back[400];

	same(want(0, getxattr(path, name, back, sizeof(back))), (long)acl.n);
	if (memcmp(back, acl.bytes, acl.n) != 0)
		suite_fail(__FILE__, __LINE__, "the ACL of %s is not %s", path, text);
}

static void set_get(const struct args *x)
{
	make((enum type)x->a, "t");
	want(0, acl_set("t", ACCESS, "u:7,u40001:6,g:5,g40010:4,m:7,o:1"));
	acl_is("t", ACCESS, "u:7,u40001:6,g:5,g40010:4,m:7,o:1");
	same(status_of("t").st_mode & 0777, 0771); /* the mask is shown as the group's */
	want(0, chmod("t", 0640));
	acl_is("t", ACCESS, "u:6,u40001:6,g:5,g40010:4,m:4,o:0");
	want(0, removexattr("t", ACCESS));
	want(ENODATA, getxattr("t", ACCESS, NULL, 0));
}

/* One that says no more than a mode is a mode. */
static void minimal(const struct args *x)
{
	make(T_REG, "f");
	want(0, acl_set("f", ACCESS, "u:7,g:5,o:4"));
	same(status_of("f").st_mode & 07777, 0754);
	want(ENODATA, getxattr("f", ACCESS, NULL, 0));
}

static void refused(const struct args *x)
{
	make(T_REG, "f");
	make(T_DIR, "d");
	want((int)x->a, acl_set(x->b ? "d" : "f", x->b ? DEFAULT : ACCESS, x->s));
	want(ENODATA, getxattr(x->b ? "d" : "f", x->b ? DEFAULT : ACCESS, NULL, 0));
}

static void default_on_file(const struct args *x)
{
	make(T_REG, "f");
	want(EACCES, acl_set("f", DEFAULT, "u:7,g:5,o:4"));
}

static void on_link(const struct args *x)
{
	struct acl acl = acl_of("u:7,g:5,o:4");

	make(T_LINK, "l");
	want(EOPNOTSUPP, lsetxattr("l", ACCESS, acl.bytes, acl.n, 0));
}

/* Who may read: x.s an ACL, a the uid, b the gid, c whether. */
static void permits(const struct args *x)
{
	const char *text = x->s;
	bool may = x->c != 0;

	put("f", "x");
	want(0, chown("f", 40050, 40051));
	want(0, acl_set("f", ACCESS, text));
	user((uid_t)x->a, (gid_t)x->b, 0);
	want(may ? 0 : EACCES, open("f", O_RDONLY));
	want(may ? 0 : EACCES, access("f", R_OK));
}

static void inherit(const struct args *x)
{
	static const char text[] = "u:7,u40001:7,g:5,m:7,o:1";

	make(T_DIR, "d");
	want(0, acl_set("d", DEFAULT, text));
	umask(077); /* does not count with a default ACL */
	want(0, mkdir("d/sub", 0770));
	acl_is("d/sub", DEFAULT, text);
	acl_is("d/sub", ACCESS, "u:7,u40001:7,g:5,m:7,o:0");
	want(0, open("d/f", O_CREAT | O_RDWR, 0664));
	acl_is("d/f", ACCESS, "u:6,u40001:7,g:5,m:6,o:0");
	same(status_of("d/f").st_mode & 07777, 0660);
	want(ENODATA, getxattr("d/f", DEFAULT, NULL, 0));
	want(0, mkfifo("d/p", 0666));
	acl_is("d/p", ACCESS, "u:6,u40001:7,g:5,m:6,o:0");
	want(0, symlink("x", "d/l"));
}

static void inherit_minimal(const struct args *x)
{
	make(T_DIR, "d");
	want(0, acl_set("d", DEFAULT, "u:7,g:5,o:0"));
	umask(0);
	want(0, open("d/f", O_CREAT | O_RDWR, 0666));
	same(status_of("d/f").st_mode & 07777, 0640);
	want(ENODATA, getxattr("d/f", ACCESS, NULL, 0));
}

static void by_others(const struct args *x)
{
	make(T_REG, "f");
	want(0, chmod("f", 0666));
	user(ALICE, TEAM, 0);
	want(EPERM, acl_set("f", ACCESS, "u:7,g:5,o:4"));
}

static void default_removed(const struct args *x)
{
	make(T_DIR, "d");
	want(0, acl_set("d", DEFAULT, "u:7,g:5,o:0"));
	want(0, removexattr("d", DEFAULT));
	want(ENODATA, getxattr("d", DEFAULT, NULL, 0));
	umask(022);
	want(0, open("d/f", O_CREAT | O_RDWR, 0666));
	same(status_of("d/f").st_mode & 07777, 0644);
}

static void clears_setgid(const struct args *x)
{
	make(T_REG, "f");
	want(0, chown("f", ALICE, CREW));
	want(0, chmod("f", 02755));
	user(ALICE, TEAM, 0);
	want(0, acl_set("f", ACCESS, "u:7,g:5,o:5"));
	same(status_of("f").st_mode & 07777, 0755);
}

void suite_add_acls(void)
{
	static const struct args none;
	static const struct { const char *text; long uid, gid, may; } rights[] = {
		{"u:7,u40001:4,g:0,m:7,o:0", ALICE, TEAM, 1},
		{"u:7,u40001:0,g:7,m:7,o:7", ALICE, TEAM, 0},
		{"u:7,u40001:4,g:0,m:0,o:0", ALICE, TEAM, 0},
		{"u:7,u40001:4,g:0,m:3,o:7", ALICE, TEAM, 0},
		{"u:7,g:0,g40010:4,m:7,o:0", ALICE, TEAM, 1},
		{"u:7,g:0,g40010:0,m:7,o:7", ALICE, TEAM, 0},
		{"u:7,g:0,g40010:4,m:7,o:0", BOB, CREW, 0},
		{"u:7,g:0,g40010:0,m:7,o:4", BOB, CREW, 1},
		{"u:0,u40001:7,g:7,m:7,o:7", 40050, TEAM, 0},
		{"u:4,u40001:0,g:0,m:0,o:0", 40050, TEAM, 1},
		{"u:0,g:4,g40010:0,m:7,o:0", ALICE, 40051, 1},
		{"u:0,g:4,g40010:0,m:0,o:7", ALICE, 40051, 0},
	};
	static const char *const wrong[] = {"u:7", "u:7,g:5", "u:7,g:5,o:4,o:4", "u:7,u40001:4,g:5,o:4",
					    "u:7,g:5,m:7", "g:5,u:7,o:4"};

	suite_add(set_get, (struct args){.a = T_REG}, "acl/set_file");
	suite_add(set_get, (struct args){.a = T_DIR}, "acl/set_dir");
	suite_add(set_get, (struct args){.a = T_FIFO}, "acl/set_fifo");
	suite_add(minimal, none, "acl/minimal");
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		for (int d = 0; d < 2; d++)
			suite_add(refused, (struct args){.a = EINVAL, .b = d, .s = wrong[i]},
				  "acl/refused_%s_%zu", d ? "default" : "access", i);
	suite_add(default_on_file, none, "acl/default_on_file");
	suite_add(on_link, none, "acl/on_link");
	for (size_t i = 0; i < ARRAY_LEN(rights); i++)
		suite_add(permits, (struct args){.s = rights[i].text, .a = rights[i].uid,
						 .b = rights[i].gid, .c = rights[i].may},
			  "acl/permits_%s_to_%ld_%ld", rights[i].text, rights[i].uid, rights[i].gid);
	suite_add(inherit, none, "acl/inherit");
	suite_add(inherit_minimal, none, "acl/inherit_minimal");
	suite_add(by_others, none, "acl/set_by_others");
	suite_add(default_removed, none, "acl/default_removed");
	suite_add(clears_setgid, none, "acl/clears_setgid");
}
