/* Extended attributes: flags, sizes, names, types. */
#include <sys/xattr.h>

#include "tests/posix/suite/suite.h"

static char big[70000];

static void on_type(const struct args *x)
{
	enum type type = (enum type)x->a;
	bool user_space = strncmp(x->s, "user.", 5) == 0;
	bool allowed = !user_space || type == T_REG || type_is_dir(type);
	char value[10];

	make(type, "t");
	want(allowed ? 0 : EPERM, lsetxattr("t", x->s, "value", 5, 0));
	if (!allowed)
		return;
	same(want(0, lgetxattr("t", x->s, value, sizeof(value))), 5);
	that(memcmp(value, "value", 5) == 0);
	want(0, lremovexattr("t", x->s));
	want(ENODATA, lgetxattr("t", x->s, value, sizeof(value)));
}

static void flags(const struct args *x)
{
	char value[10];
	int eno = x->a == XATTR_CREATE && x->b ? EEXIST : x->a == XATTR_REPLACE && !x->b ? ENODATA
		: x->a == (XATTR_CREATE | XATTR_REPLACE) ? (x->b ? EEXIST : ENODATA) : 0;

	make(T_REG, "f");
	if (x->b)
		want(0, setxattr("f", "user.a", "old", 3, 0));
	want(eno, setxattr("f", "user.a", "new!", 4, (int)x->a));
	if (eno == 0)
		same(want(0, getxattr("f", "user.a", value, sizeof(value))), 4);
	else if (x->b)
		same(want(0, getxattr("f", "user.a", value, sizeof(value))), 3);
	else
		want(ENODATA, getxattr("f", "user.a", value, sizeof(value)));
}

static void size(const struct args *x)
{
	static char back[70000];

	make((enum type)x->b, "f");
	memset(big, 'v', sizeof(big));
	want(0, setxattr("f", "user.a", big, (size_t)x->a, 0));
	same(want(0, getxattr("f", "user.a", NULL, 0)), x->a);
	same(want(0, getxattr("f", "user.a", back, sizeof(back))), x->a);
	that(x->a == 0 || memcmp(back, big, (size_t)x->a) == 0);
	if (x->a > 1)
		want(ERANGE, getxattr("f", "user.a", back, (size_t)x->a - 1));
}

static void errors(const struct args *x)
{
	char name[300] = "user.", value[10];

	make(T_REG, "f");
	want(E2BIG, setxattr("f", "user.a", big, XATTR_SIZE_MAX + 1, 0));
	memset(name + 5, 'n', 251);
	want(ERANGE, setxattr("f", name, "v", 1, 0));
	want(ERANGE, setxattr("f", "", "v", 1, 0));
	want(EOPNOTSUPP, setxattr("f", "unknown.a", "v", 1, 0));
	want(EOPNOTSUPP, setxattr("f", "plain", "v", 1, 0));
	want(EINVAL, setxattr("f", "user.a", "v", 1, 77));
	want(ENODATA, removexattr("f", "user.a"));
	want(ENODATA, getxattr("f", "user.a", value, sizeof(value)));
	name[255] = '\0';
	want(0, setxattr("f", name, "v", 1, 0)); /* 255 bytes with the prefix */
	same(want(0, getxattr("f", name, value, sizeof(value))), 1);
}

static void list(const struct args *x)
{
	char names[200];
	long n;

	make(T_REG, "f");
	same(want(0, listxattr("f", NULL, 0)), 0);
	want(0, setxattr("f", "user.one", "1", 1, 0));
	want(0, setxattr("f", "user.two", "2", 1, 0));
	want(0, setxattr("f", "trusted.three", "3", 1, 0));
	n = want(0, listxattr("f", names, sizeof(names)));
	same(n, 9 + 9 + 14);
	same(want(0, listxattr("f", NULL, 0)), n);
	want(ERANGE, listxattr("f", names, (size_t)n - 1));
	that(memmem(names, (size_t)n, "user.one", 9));
	that(memmem(names, (size_t)n, "user.two", 9));
	that(memmem(names, (size_t)n, "trusted.three", 14));
	want(0, removexattr("f", "user.one"));
	same(want(0, listxattr("f", names, sizeof(names))), 9 + 14);
}

static void many(const struct args *x)
{
	char name[30], value[30];

	make(T_REG, "f");
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "user.name%d", i);
		want(0, setxattr("f", name, name, strlen(name), 0));
	}
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "user.name%d", i);
		same(want(0, getxattr("f", name, value, sizeof(value))), (long)strlen(name));
		that(memcmp(name, value, strlen(name)) == 0);
		want(0, removexattr("f", name));
	}
	same(listxattr("f", NULL, 0), 0);
}

static void follows_inode(const struct args *x)
{
	char value[10];
	int fd;

	make(T_REG, "f");
	want(0, setxattr("f", "user.a", "v", 1, 0));
	want(0, link("f", "g"));
	want(0, rename("f", "h"));
	same(want(0, getxattr("g", "user.a", value, 10)), 1);
	fd = (int)want(0, open("h", O_RDWR));
	want(0, unlink("g"));
	want(0, unlink("h"));
	same(want(0, fgetxattr(fd, "user.a", value, 10)), 1);
	want(0, fsetxattr(fd, "user.b", "w", 1, 0));
	want(0, fremovexattr(fd, "user.a"));
	make(T_REG, "f"); /* a new one has none */
	want(ENODATA, getxattr("f", "user.a", value, 10));
}

static void binary(const struct args *x)
{
	char value[256], back[256];

	make(T_REG, "f");
	for (int i = 0; i < 256; i++)
		value[i] = (char)i;
	want(0, setxattr("f", "user.bytes", value, 256, 0));
	same(want(0, getxattr("f", "user.bytes", back, 256)), 256);
	that(memcmp(value, back, 256) == 0);
	want(0, setxattr("f", "user.bytes", "", 0, 0));
	same(want(0, getxattr("f", "user.bytes", back, 256)), 0);
}

/* Capabilities go when somebody writes, for root too. */
static void capability(const struct args *x)
{
	static const unsigned char v2[20] = {1, 0, 0, 2, 0, 4};
	char value[40];
	int fd;

	make(T_REG, "f");
	want(0, setxattr("f", "security.capability", v2, sizeof(v2), 0));
	same(want(0, getxattr("f", "security.capability", value, 40)), 20);
	if (x->a == 0) {
		fd = (int)want(0, open("f", O_WRONLY));
		want(0, write(fd, "x", 1));
	} else if (x->a == 1) {
		want(0, truncate("f", 0));
	} else {
		want(0, chown("f", ALICE, TEAM));
	}
	want(ENODATA, getxattr("f", "security.capability", value, 40));
}

static void of_sticky_dir(const struct args *x)
{
	make(T_DIR, "d");
	want(0, chmod("d", 01777));
	user(ALICE, TEAM, 0);
	want(EPERM, setxattr("d", "user.a", "v", 1, 0)); /* only its owner */
}

void suite_add_xattrs(void)
{
	static const struct args none;
	static const char *const spaces[] = {"user.a", "trusted.a", "security.a"};
	static const long sizes[] = {0, 1, 255, 1000, 3000};

	for (size_t s = 0; s < ARRAY_LEN(spaces); s++)
		for (int t = T_REG; t < TYPES; t++)
			suite_add(on_type, (struct args){.a = t, .s = spaces[s]}, "xattr/%s_%s",
				  spaces[s], type_names[t]);
	for (int f = 0; f < 4; f++)
		for (int exists = 0; exists < 2; exists++)
			suite_add(flags, (struct args){.a = f, .b = exists}, "xattr/flags_%d_%s", f,
				  exists ? "there" : "missing");
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		for (int t = T_REG; t <= T_DIR; t++)
			suite_add(size, (struct args){.a = sizes[i], .b = t}, "xattr/size_%ld_%s",
				  sizes[i], type_names[t]);
	suite_add(errors, none, "xattr/errors");
	suite_add(list, none, "xattr/list");
	suite_add(many, none, "xattr/many");
	suite_add(follows_inode, none, "xattr/follows_inode");
	suite_add(binary, none, "xattr/binary");
	suite_add(capability, none, "xattr/capability_write");
	suite_add(capability, (struct args){.a = 1}, "xattr/capability_truncate");
	suite_add(capability, (struct args){.a = 2}, "xattr/capability_chown");
	suite_add(of_sticky_dir, none, "xattr/user_of_sticky_dir");
}
