/* Exactly once, below the client library: requests are sent raw, their replies are dropped.
 *
 *     retry prepare STATE    makes a session and 64 files, sends 64 renames on one connection and
 *                            closes it without reading; remembers session and numbers in STATE
 *     retry again STATE      (after the master was killed and restarted) sends the same renames
 *                            again with the same numbers; each must get its first answer
 *
 * A rename done twice would fail: its source is gone. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"

enum { RENAMES = 64, ROOT = 1 };

static struct cred cred;

static void die(const char *what, const struct err *err)
{
	fprintf(stderr, "%s: %s\n", what, err_message(err));
	exit(1);
}

static struct conn *dial(void)
{
	struct err err = {0};
	struct conn *c;
	int64_t deadline = deadline_in(30000);

	for (;;) {
		int r = conn_dial(getenv("CAIRN_MASTER"), &cred, ROLE_MASTER,
				  deadline_in(2000), &c, &err);
		if (r == 0)
			return c;
		if (clock_ms() > deadline)
			die("connect", &err);
		usleep(20000);
	}
}

static void put_rename(struct buf *b, uint64_t session, unsigned i)
{
	char from[32], to[32];
	struct wire_rename m = {.id = {.session = session, .seq = 1000 + i, .floor = 1},
				.parent = ROOT, .new_parent = ROOT,
				.flags = RENAME_F_NOREPLACE};

	snprintf(from, sizeof(from), "retry-from-%u", i);
	snprintf(to, sizeof(to), "retry-to-%u", i);
	m.name = slice_str(from);
	m.new_name = slice_str(to);
	if (wire_put_request(b, OP_RENAME, 100 + i, 0, &m, 0) < 0)
		abort();
}

static int prepare(const char *path)
{
	_cleanup_buf_ struct buf fields = {0}, out = {0};
	struct wire_session_open open = {.name = SLICE_LIT("retry"), .nonce = (uint64_t)getpid()};
	struct wire_session session;
	struct err err = {0};
	struct conn *c = dial();
	FILE *f;

	if (conn_call(c, OP_SESSION_OPEN, 0, &open, &session, &fields, deadline_in(10000), &err))
		die("session", &err);
	for (unsigned i = 0; i < RENAMES; i++) {
		char name[32];
		struct wire_make make = {.id = {session.session, 1 + i, 1}, .parent = ROOT,
					 .mode = S_IFREG | 0644, .flags = MAKE_EXCL};
		struct wire_make_reply made;
		snprintf(name, sizeof(name), "retry-from-%u", i);
		make.name = slice_str(name);
		if (conn_call(c, OP_MAKE, 0, &make, &made, &fields, deadline_in(10000), &err))
			die("create", &err);
	}
	for (unsigned i = 0; i < RENAMES; i++)
		put_rename(&out, session.session, i);
	if (conn_send(c, buf_slice(&out), NULL, 0, deadline_in(5000), &err) < 0)
		die("send", &err);
	/* The last name appears: all were executed. Their replies are never read. */
	for (int64_t deadline = deadline_in(10000);;) {
		struct conn *other = dial();
		struct wire_name_ref ref = {.parent = ROOT, .name = SLICE_LIT("retry-to-63")};
		struct wire_attr_reply attr;
		int r = conn_call(other, OP_LOOKUP, 0, &ref, &attr, &fields, deadline_in(5000), &err);
		conn_free(other);
		if (r == 0)
			break;
		if (clock_ms() > deadline)
			die("the last rename", &err);
	}
	conn_free(c);
	f = fopen(path, "we");
	if (!f || fprintf(f, "%" PRIu64 "\n", session.session) < 0 || fclose(f) != 0)
		return 1;
	return 0;
}

static int again(const char *path)
{
	_cleanup_buf_ struct buf fields = {0}, out = {0};
	struct err err = {0};
	struct conn *c = dial();
	uint64_t session = 0;
	unsigned good = 0;
	FILE *f = fopen(path, "re");

	if (!f || fscanf(f, "%" SCNu64, &session) != 1)
		return 1;
	fclose(f);
	for (unsigned i = 0; i < RENAMES; i++)
		put_rename(&out, session, i);
	if (conn_send(c, buf_slice(&out), NULL, 0, deadline_in(5000), &err) < 0)
		die("send", &err);
	for (unsigned i = 0; i < RENAMES; i++) {
		struct wire_rename_reply rep;
		struct wire_header h;
		if (conn_recv(c, &h, &fields, deadline_in(10000), &err) < 0)
			die("receive", &err);
		if (wire_get_reply(&h, buf_slice(&fields), &rep, NULL, &err) == 0 && rep.inode)
			good++;
		else
			fprintf(stderr, "rename %" PRIu64 ": %s\n", h.id - 100, err_message(&err));
	}
	/* And a new number for the same rename is executed: its source is gone. */
	buf_clear(&out);
	{
		struct wire_rename m = {.id = {session, 5000, 1}, .parent = ROOT,
					.new_parent = ROOT, .name = SLICE_LIT("retry-from-0"),
					.new_name = SLICE_LIT("retry-to-0")};
		struct wire_rename_reply rep;
		if (conn_call(c, OP_RENAME, 0, &m, &rep, &fields, deadline_in(5000), &err) !=
		    ERR_NOENT)
			die("a new rename of a name that is gone", &err);
	}
	conn_free(c);
	printf("%u of %u renames got their first answer\n", good, RENAMES);
	return good == RENAMES ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct err err = {0};

	if (argc != 3 || !getenv("CAIRN_MASTER") || !getenv("CAIRN_CREDENTIALS"))
		return 2;
	if (cred_load(&cred, getenv("CAIRN_CREDENTIALS"), NULL, CRED_ROLES_CLIENT, "test", &err) < 0)
		die("key", &err);
	return argv[1][0] == 'p' ? prepare(argv[2]) : again(argv[2]);
}
