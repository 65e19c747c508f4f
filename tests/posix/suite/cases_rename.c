/* rename: each type over each type, with each flag; trees, loops, parents. */
#include "tests/posix/suite/suite.h"

static int move(const char *from, const char *to, unsigned flags)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

static int expected_over(enum type from, enum type to, unsigned flags)
{
	if (flags == RENAME_EXCHANGE)
		return to == T_NONE ? ENOENT : 0;
	if (to == T_NONE)
		return 0;
	if (flags == RENAME_NOREPLACE)
		return EEXIST;
	if (type_is_dir(from))
		return !type_is_dir(to) ? ENOTDIR : to == T_FULL ? ENOTEMPTY : 0;
	return type_is_dir(to) ? EISDIR : 0;
}

static void rename_over(const struct args *x)
{
	enum type from = (enum type)x->a, to = (enum type)x->b;
	int eno = expected_over(from, to, (unsigned)x->c);
	struct stat a, b = {0};

	want(0, mkdir("p", 0755));
	want(0, mkdir("q", 0755));
	make(from, "p/from");
	make(to, "q/to");
	a = status_of("p/from");
	if (to != T_NONE)
		b = status_of("q/to");
	want(eno, move("p/from", "q/to", (unsigned)x->c));
	if (eno != 0) {
		same(status_of("p/from").st_ino, a.st_ino);
		there(to, "q/to");
		return;
	}
	there(from, "q/to");
	same(status_of("q/to").st_ino, a.st_ino);
	if (x->c == RENAME_EXCHANGE)
		same(status_of("p/from").st_ino, b.st_ino);
	else
		gone("p/from");
	same(status_of("q").st_nlink, 2 + type_is_dir(from) + (to == T_DIRLINK));
	same(status_of("p").st_nlink, 2 + (from == T_DIRLINK) +
		     (x->c == RENAME_EXCHANGE && type_is_dir(to)));
	if (from == T_REG)
		holds("q/to", "data");
	if (from == T_FULL)
		holds("q/to/inside", "inside");
}

static void rename_same_dir(const struct args *x)
{
	struct stat st;

	make((enum type)x->a, "a");
	st = status_of("a");
	want(0, rename("a", "b"));
	gone("a");
	same(status_of("b").st_ino, st.st_ino);
	want(0, rename("b", "b"));
	there((enum type)x->a, "b");
}

static void rename_onto_hard_link(const struct args *x)
{
	make(T_REG, "a");
	want(0, link("a", "b"));
	want(x->a == RENAME_NOREPLACE ? EEXIST : 0, move("a", "b", (unsigned)x->a));
	there(T_REG, "a"); /* does nothing, says POSIX */
	there(T_REG, "b");
	same(status_of("a").st_nlink, 2);
}

static void rename_into_own_tree(const struct args *x)
{
	make(T_DIR, "d");
	make(T_DIR, "d/e");
	make(T_DIR, "d/e/f");
	want(EINVAL, move("d", "d/x", (unsigned)x->a));
	want(EINVAL, move("d", "d/e/f/x", (unsigned)x->a));
	there(T_DIR, "d/e/f");
}

static void rename_exchange_with_parent(const struct args *x)
{
	make(T_DIR, "d");
	make(T_DIR, "d/e");
	want(EINVAL, move("d", "d/e", RENAME_EXCHANGE));
	want(EINVAL, move("d/e", "d", RENAME_EXCHANGE));
}

static void rename_over_parent(const struct args *x)
{
	make(T_DIR, "d");
	make(T_DIR, "d/e");
	want(ENOTEMPTY, rename("d/e", "d"));
}

static void rename_dots(const struct args *x)
{
	make(T_DIR, "d");
	make(T_DIR, "e");
	want(EBUSY, rename(x->a ? "d" : x->s, x->a ? x->s : "x"));
}

static void rename_parent_changes(const struct args *x)
{
	struct stat p;
	int fd;

	make(T_DIR, "a");
	make(T_DIR, "b");
	make(T_DIR, "a/d");
	fd = (int)want(0, open("a/d", O_RDONLY | O_DIRECTORY));
	want(0, rename("a/d", "b/d"));
	want(0, fstatat(fd, "..", &p, 0));
	same(p.st_ino, status_of("b").st_ino);
	same(status_of("b/d/..").st_ino, status_of("b").st_ino);
	same(status_of("a").st_nlink, 2);
	same(status_of("b").st_nlink, 3);
	want(0, fchdir(fd));
	want(0, mkdir("made", 0755));
	there(T_DIR, "../../b/d/made");
}

static void rename_deep(const struct args *x)
{
	make(T_DIR, "a");
	make(T_DIR, "a/b");
	make(T_DIR, "a/b/c");
	put("a/b/c/f", "deep");
	make(T_DIR, "z");
	want(0, rename("a/b", "z/b"));
	holds("z/b/c/f", "deep");
	gone("a/b");
	want(0, rename("z", "a/z"));
	holds("a/z/b/c/f", "deep");
	want(EINVAL, rename("a", "a/z/b/c/a"));
}

static void rename_replaced_open(const struct args *x)
{
	char bytes[10] = "";
	struct stat st;
	int fd;

	put("old", "old");
	put("new", "new");
	fd = (int)want(0, open("old", O_RDWR));
	want(0, rename("new", "old"));
	same(want(0, read(fd, bytes, sizeof(bytes))), 3);
	that(strcmp(bytes, "old") == 0);
	want(0, fstat(fd, &st));
	same(st.st_nlink, 0);
	want(0, pwrite(fd, "still", 5, 0));
	want(0, pread(fd, bytes, 5, 0));
	that(memcmp(bytes, "still", 5) == 0);
	holds("old", "new");
}

static void rename_nlink_of_replaced(const struct args *x)
{
	make(T_REG, "a");
	make(T_REG, "b");
	want(0, link("b", "other"));
	want(0, rename("a", "b"));
	same(status_of("other").st_nlink, 1);
}

static void rename_flags_refused(const struct args *x)
{
	make(T_REG, "a");
	make(T_REG, "b");
	want(EINVAL, move("a", "b", (unsigned)x->a));
	there(T_REG, "a");
}

static void rename_whiteout(const struct args *x)
{
	struct stat st;

	make(T_REG, "a");
	want(0, move("a", "b", RENAME_WHITEOUT));
	there(T_REG, "b");
	st = status_of("a");
	same(st.st_mode & S_IFMT, S_IFCHR);
	same(st.st_rdev, 0);
}

static void rename_into_removed(const struct args *x)
{
	int fd;

	make(T_REG, "a");
	make(T_DIR, "d");
	fd = (int)want(0, open("d", O_RDONLY | O_DIRECTORY));
	want(0, rmdir("d"));
	want(ENOENT, renameat(AT_FDCWD, "a", fd, "a"));
	there(T_REG, "a");
}

static void rename_slashes(const struct args *x)
{
	make(T_DIR, "d");
	make(T_REG, "f");
	want(0, rename("d/", "e/"));
	there(T_DIR, "e");
	want(ENOTDIR, rename("f", "g/"));
	want(ENOTDIR, rename("f/", "g"));
}

static void rename_long(const struct args *x)
{
	char a[NAME_MAX + 1], b[NAME_MAX + 1];

	memset(a, 'a', NAME_MAX);
	memset(b, 'b', NAME_MAX);
	a[NAME_MAX] = b[NAME_MAX] = '\0';
	put(a, "long");
	want(0, rename(a, b));
	holds(b, "long");
	gone(a);
}

void suite_add_rename(void)
{
	static const struct {
		const char *name;
		unsigned flags;
	} kinds[] = {{"rename", 0}, {"noreplace", RENAME_NOREPLACE}, {"exchange", RENAME_EXCHANGE}};
	static const struct args none;

	for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
		for (int from = T_REG; from < TYPES; from++)
			for (int to = T_NONE; to < TYPES; to++)
				suite_add(rename_over,
					  (struct args){.a = from, .b = to, .c = kinds[k].flags},
					  "%s/%s_over_%s", kinds[k].name, type_names[from],
					  type_names[to]);
	for (int t = T_REG; t < TYPES; t++)
		suite_add(rename_same_dir, (struct args){.a = t}, "rename/same_dir_%s", type_names[t]);
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
		suite_add(rename_onto_hard_link, (struct args){.a = kinds[k].flags},
			  "%s/onto_own_hard_link", kinds[k].name);
	suite_add(rename_into_own_tree, none, "rename/into_own_tree");
	suite_add(rename_into_own_tree, (struct args){.a = RENAME_NOREPLACE}, "noreplace/into_own_tree");
	suite_add(rename_exchange_with_parent, none, "exchange/with_parent");
	suite_add(rename_over_parent, none, "rename/over_parent");
	suite_add(rename_dots, (struct args){.s = "d/."}, "rename/from_dot");
	suite_add(rename_dots, (struct args){.s = "d/.."}, "rename/from_dot_dot");
	suite_add(rename_dots, (struct args){.a = 1, .s = "e/."}, "rename/to_dot");
	suite_add(rename_dots, (struct args){.a = 1, .s = "e/.."}, "rename/to_dot_dot");
	suite_add(rename_parent_changes, none, "rename/dot_dot_of_moved");
	suite_add(rename_deep, none, "rename/deep");
	suite_add(rename_replaced_open, none, "rename/replaced_is_open");
	suite_add(rename_nlink_of_replaced, none, "rename/nlink_of_replaced");
	suite_add(rename_flags_refused, (struct args){.a = RENAME_NOREPLACE | RENAME_EXCHANGE},
		  "rename/noreplace_and_exchange");
	suite_add(rename_flags_refused, (struct args){.a = RENAME_EXCHANGE | RENAME_WHITEOUT},
		  "rename/exchange_and_whiteout");
	suite_add(rename_flags_refused, (struct args){.a = 0x100}, "rename/unknown_flag");
	suite_add(rename_whiteout, none, "rename/whiteout");
	suite_add(rename_into_removed, none, "rename/into_removed_dir");
	suite_add(rename_slashes, none, "rename/slashes");
	suite_add(rename_long, none, "rename/names_of_255");
}
