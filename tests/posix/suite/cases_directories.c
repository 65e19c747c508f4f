/* Reading directories: complete, each name once, stable while others come and go. */
#include <dirent.h>

#include "tests/posix/suite/suite.h"

enum { MANY = 700 };

static void name_of(char *name, int i)
{
	snprintf(name, 40, "entry-with-a-long-name-%05d", i);
}

static void fill_dir(int n)
{
	char name[60];

	want(0, mkdir("d", 0755));
	for (int i = 0; i < n; i++) {
		strcpy(name, "d/");
		name_of(name + 2, i);
		want(0, mknod(name, S_IFREG | 0644, 0));
	}
}

static int index_of(const char *name)
{
	const char *dash = strrchr(name, '-');

	return dash && strncmp(name, "entry-", 6) == 0 ? atoi(dash + 1) : -1;
}

/* Counts each entry; others are counted in the last place. */
static void read_all(DIR *dir, int *seen, int n)
{
	struct dirent *e;

	while ((errno = 0, e = readdir(dir))) {
		int i = index_of(e->d_name);
		seen[i >= 0 && i < n ? i : n]++;
	}
	same(errno, 0);
}

static DIR *open_dir(const char *path)
{
	DIR *dir = opendir(path);

	if (!dir)
		suite_fail(__FILE__, __LINE__, "opendir %s: %s", path, strerror(errno));
	return dir;
}

static void dir_complete(const struct args *x)
{
	static int seen[MANY + 1];
	int n = (int)x->a;
	DIR *dir;

	fill_dir(n);
	dir = open_dir("d");
	read_all(dir, seen, n);
	for (int i = 0; i < n; i++)
		same(seen[i], 1);
	same(seen[n], 2); /* . and .. */
	rewinddir(dir);
	read_all(dir, seen, n);
	for (int i = 0; i < n; i++)
		same(seen[i], 2);
	closedir(dir);
}

static void dir_types(const struct args *x)
{
	struct dirent *e;
	bool found = false;
	DIR *dir;

	make((enum type)x->a, "t");
	dir = open_dir(".");
	while ((e = readdir(dir)))
		if (strcmp(e->d_name, "t") == 0) {
			found = true;
			same(e->d_type, IFTODT(type_format((enum type)x->a)));
			same(e->d_ino, status_of("t").st_ino);
		}
	that(found);
}

static void dir_dots(const struct args *x)
{
	struct dirent *e;
	DIR *dir;
	int dots = 0;

	make(T_DIR, "d");
	dir = open_dir("d");
	while ((e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0)
			same(e->d_ino, status_of("d").st_ino);
		else if (strcmp(e->d_name, "..") == 0)
			same(e->d_ino, status_of(".").st_ino);
		else
			suite_fail(__FILE__, __LINE__, "an entry %s", e->d_name);
		same(e->d_type, DT_DIR);
		dots++;
	}
	same(dots, 2);
}

/* While half is read, every second entry goes and new ones come: those that stay come once. */
static void dir_changing(const struct args *x)
{
	static int seen[MANY + 1];
	char name[60] = "d/";
	struct dirent *e;
	DIR *dir;

	fill_dir(MANY);
	dir = open_dir("d");
	for (int i = 0; i < MANY / 2 && (e = readdir(dir)); i++) {
		int k = index_of(e->d_name);
		seen[k >= 0 ? k : MANY]++;
	}
	for (int i = 1; i < MANY; i += 2) {
		name_of(name + 2, i);
		want(0, unlink(name));
		name_of(name + 2, MANY + i);
		want(0, mknod(name, S_IFREG | 0644, 0));
	}
	read_all(dir, seen, MANY);
	for (int i = 0; i < MANY; i += 2)
		same(seen[i], 1);
	for (int i = 1; i < MANY; i += 2)
		that(seen[i] <= 1);
	/* From the start: exactly what is there. */
	memset(seen, 0, sizeof(seen));
	rewinddir(dir);
	read_all(dir, seen, MANY);
	for (int i = 0; i < MANY; i++)
		same(seen[i], i % 2 == 0);
	same(seen[MANY], MANY / 2 + 2);
}

/* Deleting all while reading: rm -r. */
static void dir_delete_while_reading(const struct args *x)
{
	struct dirent *e;
	DIR *dir;

	fill_dir(MANY);
	dir = open_dir("d");
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.')
			want(0, unlinkat(dirfd(dir), e->d_name, 0));
	want(0, rmdir("d"));
}

static void dir_seek(const struct args *x)
{
	static char names[MANY + 2][60];
	static long places[MANY + 2];
	struct dirent *e;
	DIR *dir;
	int n = 0;

	fill_dir(MANY);
	dir = open_dir("d");
	for (; (places[n] = telldir(dir), e = readdir(dir)); n++)
		strcpy(names[n], e->d_name);
	same(n, MANY + 2);
	if (x->a) { /* the places hold while others go */
		char name[80];
		for (int i = 0; i < n; i += 3)
			if (names[i][0] != '.') {
				strcpy(name, "d/");
				strcat(name, names[i]);
				want(0, unlink(name));
			}
	}
	for (int i = n - 1; i >= 0; i -= 7) {
		if (x->a && i % 3 == 0)
			continue;
		seekdir(dir, places[i]);
		e = readdir(dir);
		that(e);
		if (strcmp(e->d_name, names[i]) != 0)
			suite_fail(__FILE__, __LINE__, "at place %d: %s, expected %s", i, e->d_name,
				   names[i]);
	}
}

static void dir_removed(const struct args *x)
{
	struct stat st;
	DIR *dir;

	make(T_DIR, "d");
	dir = open_dir("d");
	want(0, rmdir("d"));
	that(!readdir(dir));
	want(0, fstat(dirfd(dir), &st));
	same(st.st_nlink, 0);
	want(ENOENT, openat(dirfd(dir), "x", O_CREAT | O_RDWR, 0644));
	want(ENOENT, fstatat(dirfd(dir), "x", &st, 0));
}

static void dir_two_readers(const struct args *x)
{
	static int a[MANY + 1], b[MANY + 1];
	DIR *one, *two;
	struct dirent *e;

	fill_dir(MANY);
	one = open_dir("d");
	two = open_dir("d");
	for (int i = 0; i < 100; i++) {
		e = readdir(one);
		that(e);
		a[index_of(e->d_name) >= 0 ? index_of(e->d_name) : MANY]++;
	}
	read_all(two, b, MANY);
	read_all(one, a, MANY);
	for (int i = 0; i < MANY; i++) {
		same(a[i], 1);
		same(b[i], 1);
	}
}

static void dir_sees_change(const struct args *x)
{
	static int seen[10];
	DIR *dir;

	fill_dir(3);
	dir = open_dir("d");
	read_all(dir, seen, 9);
	want(0, mknod("d/entry-9-00003", S_IFREG | 0644, 0));
	want(0, unlink("d/entry-with-a-long-name-00000"));
	memset(seen, 0, sizeof(seen));
	rewinddir(dir);
	read_all(dir, seen, 9);
	same(seen[0], 0);
	same(seen[1], 1);
	same(seen[3], 1);
}

static void dir_fsync(const struct args *x)
{
	int fd = (int)want(0, open(".", O_RDONLY | O_DIRECTORY));

	put("f", "x");
	want(0, fsync(fd));
	want(0, rename("f", "g"));
	want(0, fsync(fd));
	holds("g", "x");
}

static void dir_deep(const struct args *x)
{
	for (int i = 0; i < 200; i++) {
		want(0, mkdir("deep", 0755));
		want(0, chdir("deep"));
	}
	put("f", "at the bottom");
	holds("f", "at the bottom");
	for (int i = 0; i < 200; i++) {
		want(0, remove(i == 0 ? "f" : "deep"));
		want(0, chdir(".."));
	}
	want(0, rmdir("deep"));
}

static void dir_getcwd(const struct args *x)
{
	char before[PATH_MAX], after[PATH_MAX];

	want(0, mkdir("a", 0755));
	want(0, chdir("a"));
	that(getcwd(before, sizeof(before)));
	want(0, rename("../a", "../b"));
	that(getcwd(after, sizeof(after)));
	that(strcmp(before + strlen(before) - 2, "/a") == 0);
	that(strcmp(after + strlen(after) - 2, "/b") == 0);
	want(0, rmdir("../b"));
	that(!getcwd(after, sizeof(after)) && errno == ENOENT);
}

void suite_add_directories(void)
{
	static const struct args none;

	for (int n = 0; n <= MANY; n = n < 3 ? n + 1 : n < 100 ? n * 5 : n * 2)
		suite_add(dir_complete, (struct args){.a = n}, "readdir/complete_%d", n);
	suite_add(dir_complete, (struct args){.a = MANY}, "readdir/complete_%d", MANY);
	for (int t = T_REG; t < TYPES; t++)
		suite_add(dir_types, (struct args){.a = t}, "readdir/type_%s", type_names[t]);
	suite_add(dir_dots, none, "readdir/dots");
	suite_add(dir_changing, none, "readdir/changing");
	suite_add(dir_delete_while_reading, none, "readdir/delete_while_reading");
	suite_add(dir_seek, none, "readdir/seek");
	suite_add(dir_seek, (struct args){.a = 1}, "readdir/seek_after_removal");
	suite_add(dir_removed, none, "readdir/removed");
	suite_add(dir_two_readers, none, "readdir/two_readers");
	suite_add(dir_sees_change, none, "readdir/rewind_sees_change");
	suite_add(dir_fsync, none, "fsync/directory");
	suite_add(dir_deep, none, "mkdir/deep");
	suite_add(dir_getcwd, none, "getcwd/moved");
}
