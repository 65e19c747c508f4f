/* escape ADDR CREDENTIALS INSIDE FOREIGN FILE
 * escape late ADDR CREDENTIALS FOREIGN
 * escape waits ADDR CREDENTIALS FILE
 *
 * The first: what a client that is confined to an export can do when it says what no libcairn
 * would: inode numbers that it never looked up. INSIDE: a directory of the export; FOREIGN, FILE: a
 * directory of another tenant and a file in it. A line for each attempt: its name and the outcome,
 * "OK" for success. The second: asks for FOREIGN more often than the export's rate allows, says
 * "queued" when all but the first request wait, and then what each of them came to. The third: changes
 * the mode of FILE, says "waiting" when that waits for others' leases, and then what it came to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"

enum { WAIT_MS = 20000, ROOT = 1 };
enum { LATE_MS = 50000, LATE = 60 }; /* as many requests take longer than that, at one a second */

static struct conn *conn;
static uint64_t session, seq;
static struct err why;

static int ask(uint16_t op, const void *req, void *rep)
{
	_cleanup_buf_ struct buf fields = {0};
	return conn_call(conn, op, 0, req, rep, &fields, deadline_in(WAIT_MS), &why);
}

static void tell(const char *name, int r)
{
	printf("%s %s\n", name, r == 0 ? "OK" : err_name(r));
}

static struct wire_opid opid(void)
{
	seq++;
	return (struct wire_opid){.session = session, .seq = seq, .floor = seq};
}

static int getattr(uint64_t inode)
{
	struct wire_inode_ref req = {.inode = inode};
	struct wire_attr_reply rep;
	return ask(OP_GETATTR, &req, &rep);
}

static int lookup(uint64_t parent, const char *name, uint64_t *ret)
{
	struct wire_name_ref req = {.parent = parent, .name = slice_str(name)};
	struct wire_attr_reply rep;
	int r = ask(OP_LOOKUP, &req, &rep);

	*ret = r == 0 ? rep.attr.inode : 0;
	return r;
}

static void reads(uint64_t inside, uint64_t foreign, uint64_t file)
{
	struct wire_readdir list = {.inode = foreign, .max_bytes = 4096};
	struct wire_locate locate = {.inode = file, .count = 1};
	struct wire_inode_ref ref = {.inode = foreign};
	struct wire_xattr_get xattr = {.inode = foreign, .name = SLICE_LIT("user.a")};
	struct wire_readdir_reply listed;
	struct wire_locate_reply located;
	struct wire_xattr_reply value;
	struct wire_statfs_reply space;
	uint64_t up;

	tell("getattr-inside", getattr(inside));
	tell("getattr-foreign", getattr(foreign));
	tell("getattr-none", getattr(UINT64_MAX));
	tell("getattr-root", getattr(ROOT));
	tell("lookup-up", lookup(inside, "..", &up));
	printf("up-is %s\n", up == inside ? "itself" : "another");
	tell("lookup-foreign", lookup(foreign, "secret", &up));
	tell("lookup-foreign-up", lookup(foreign, "..", &up));
	tell("readdir-foreign", ask(OP_READDIR, &list, &listed));
	tell("locate-foreign", ask(OP_LOCATE, &locate, &located));
	tell("xattr-foreign", ask(OP_XATTR_GET, &xattr, &value));
	tell("xattrs-foreign", ask(OP_XATTR_LIST, &ref, &value));
	tell("statfs-foreign", ask(OP_STATFS, &ref, &space));
}

/* What was permitted once is not had again by asking for the answer again. */
static void replays(uint64_t inside)
{
	struct wire_make make = {.id = opid(), .parent = inside, .name = SLICE_LIT("replayed"),
				 .mode = 0100644, .flags = MAKE_CHUNK};
	struct wire_unlink unlink = {.parent = inside, .name = make.name};
	struct wire_unlink_reply gone;
	struct wire_make_reply made;

	for (int i = 0; i < 2; i++) {
		made = (struct wire_make_reply){0};
		tell("make-inside", ask(OP_MAKE, &make, &made));
		printf("with-token %s\n", made.chunk.token.len ? "yes" : "no");
	}
	unlink.id = opid();
	tell("unlink-inside", ask(OP_UNLINK, &unlink, &gone));
}

static void changes(uint64_t inside, uint64_t foreign, uint64_t file)
{
	struct wire_make make = {.parent = foreign, .name = SLICE_LIT("new"), .mode = 0100644};
	struct wire_link link = {.inode = file, .parent = inside, .name = SLICE_LIT("stolen")};
	struct wire_unlink unlink = {.parent = foreign, .name = SLICE_LIT("secret")};
	struct wire_rename out = {.parent = inside, .name = SLICE_LIT("own"), .new_parent = foreign,
				  .new_name = SLICE_LIT("own")};
	struct wire_rename in = {.parent = foreign, .name = SLICE_LIT("secret"), .new_parent = inside,
				 .new_name = SLICE_LIT("secret")};
	struct wire_setattr chmod = {.inode = foreign, .mask = SET_MODE, .mode = 0777};
	struct wire_chunk_for_write write = {.inode = file};
	struct wire_wrote wrote = {.inode = file, .end = 1};
	struct wire_lock lock = {.inode = file, .kind = LOCK_WHOLE, .type = LOCK_EXCLUSIVE,
				 .end = UINT64_MAX};
	struct wire_chunk_fault fault = {.chunk = 1, .version = 1, .server = 1,
					 .reason = ERR_CHECKSUM};
	struct wire_make_reply made;
	struct wire_attr_reply attr;
	struct wire_unlink_reply gone;
	struct wire_rename_reply moved;
	struct wire_chunk_reply chunk;
	struct wire_lock_reply locked;
	struct wire_empty empty;

	make.id = opid();
	tell("make-foreign", ask(OP_MAKE, &make, &made));
	link.id = opid();
	tell("link-in", ask(OP_LINK, &link, &attr));
	unlink.id = opid();
	tell("unlink-foreign", ask(OP_UNLINK, &unlink, &gone));
	out.id = opid();
	tell("rename-out", ask(OP_RENAME, &out, &moved));
	in.id = opid();
	tell("rename-in", ask(OP_RENAME, &in, &moved));
	chmod.id = opid();
	tell("chmod-foreign", ask(OP_SETATTR, &chmod, &attr));
	write.id = opid();
	tell("write-foreign", ask(OP_CHUNK_FOR_WRITE, &write, &chunk));
	wrote.id = opid();
	tell("wrote-foreign", ask(OP_WROTE, &wrote, &attr));
	lock.id = opid();
	tell("lock-foreign", ask(OP_LOCK, &lock, &locked));
	tell("fault-foreign", ask(OP_CHUNK_FAULT, &fault, &empty));
}

/* A file of others that has set-id bits: it has none any more when it is told where to write to it,
 * whether WROTE follows or not. */
static void set_id(uint64_t inside)
{
	struct wire_make make = {.id = opid(), .cred.uid = 1, .parent = inside,
				 .name = SLICE_LIT("set-id"), .mode = 0106777, .flags = MAKE_CHUNK};
	struct wire_unlink unlink = {.parent = inside, .name = make.name};
	struct wire_chunk_for_write write = {.cred.uid = 2};
	struct wire_inode_ref ref = {0};
	struct wire_chunk_reply chunk;
	struct wire_attr_reply now;
	struct wire_unlink_reply gone;
	struct wire_make_reply made = {0};

	tell("make-set-id", ask(OP_MAKE, &make, &made));
	write.inode = ref.inode = made.attr.inode;
	write.id = opid();
	tell("where-to-write", ask(OP_CHUNK_FOR_WRITE, &write, &chunk));
	tell("look", ask(OP_GETATTR, &ref, &now));
	printf("modes %o %o %o\n", made.attr.mode & 07777, chunk.attr.mode & 07777,
	       now.attr.mode & 07777);
	unlink.id = opid();
	tell("unlink-set-id", ask(OP_UNLINK, &unlink, &gone));
}

/* Locks of a file that one of the users may neither read nor write. */
static void locks_of_others(uint64_t inside)
{
	struct wire_make make = {.id = opid(), .cred.uid = 1, .parent = inside,
				 .name = SLICE_LIT("locked"), .mode = 0100600};
	struct wire_unlink unlink = {.parent = inside, .name = make.name};
	struct wire_lock lock = {.cred.uid = 1, .kind = LOCK_RANGE, .type = LOCK_EXCLUSIVE,
				 .end = UINT64_MAX};
	struct wire_lock_test test = {.session = session, .owner = 2, .kind = LOCK_RANGE,
				      .type = LOCK_SHARED, .end = UINT64_MAX, .cred.uid = 2};
	struct wire_lock_wait wait = {.session = session, .owner = 2, .kind = LOCK_RANGE,
				      .type = LOCK_SHARED, .end = UINT64_MAX, .cred.uid = 2};
	struct wire_lock_state held;
	struct wire_lock_reply locked;
	struct wire_unlink_reply gone;
	struct wire_make_reply made = {0};
	struct wire_empty empty;

	tell("make-locked", ask(OP_MAKE, &make, &made));
	lock.inode = test.inode = wait.inode = made.attr.inode;
	lock.id = opid();
	tell("lock", ask(OP_LOCK, &lock, &locked));
	tell("whose-lock", ask(OP_LOCK_TEST, &test, &held));
	tell("wait-for-lock", ask(OP_LOCK_WAIT, &wait, &empty));
	test.cred.uid = 1;
	tell("owner-whose-lock", ask(OP_LOCK_TEST, &test, &held));
	unlink.id = opid();
	tell("unlink-locked", ask(OP_UNLINK, &unlink, &gone));
}

/* What tells of everybody, and what is somebody else's. */
static void others(void)
{
	struct wire_session_ref ref;
	struct wire_cluster_status status;
	struct wire_fsck fsck = {.max_rows = 1};
	struct wire_fsck_reply damage;
	struct wire_quotas quotas = {0};
	struct wire_quotas_reply limits;
	struct wire_locks locks = {0};
	struct wire_locks_reply held;
	struct wire_exports exports = {0};
	struct wire_exports_reply shared;
	struct wire_export_set set = {.name = SLICE_LIT("own"), .inode = ROOT};
	struct wire_empty empty;
	int stolen = ERR_PERM;

	tell("status", ask(OP_CLUSTER_STATUS, &(struct wire_empty){}, &status));
	tell("fsck", ask(OP_FSCK, &fsck, &damage));
	tell("quotas", ask(OP_QUOTAS, &quotas, &limits));
	tell("locks", ask(OP_LOCKS, &locks, &held));
	tell("exports", ask(OP_EXPORTS, &exports, &shared));
	tell("export-set", ask(OP_EXPORT_SET, &set, &empty));
	/* Sessions are numbered: those before ours are others'. One that has ended is ERR_STALE. */
	for (uint64_t s = 1; s < session; s++) {
		int r;
		ref.session = s;
		r = ask(OP_SESSION_PING, &ref, &empty);
		if (r != ERR_PERM && r != ERR_STALE)
			stolen = r;
	}
	tell("other-session", stolen);
}

/* What waits for its turn is looked at as things are then. */
static int late(uint64_t foreign)
{
	_cleanup_buf_ struct buf out = {0}, fields = {0};
	struct wire_inode_ref req = {.inode = foreign, .cred.flags = CRED_KERNEL};
	uint64_t first = conn->next_id;
	int64_t end = deadline_in(LATE_MS);
	struct wire_header h;
	int r = 0;

	for (int i = 0; i < LATE && r == 0; i++)
		r = wire_put_request(&out, OP_GETATTR, conn->next_id++, 0, &req, 0);
	if (r == 0)
		r = conn_send(conn, buf_slice(&out), NULL, 0, end, &why);
	for (uint64_t i = 0; i < LATE && r == 0; i++) {
		struct wire_attr_reply rep;
		r = conn_recv_reply(conn, OP_GETATTR, first + i, &h, &fields, end, &why);
		if (r < 0)
			break;
		tell("late", wire_get_reply(&h, buf_slice(&fields), &rep, NULL, &why));
		if (i == 0)
			puts("queued");
		fflush(stdout);
	}
	if (r < 0)
		fprintf(stderr, "%s\n", err_message(&why));
	return r < 0;
}

/* A request that waits for others is looked at as things are when they are done. */
static int waits(uint64_t file)
{
	_cleanup_buf_ struct buf out = {0}, fields = {0};
	struct wire_setattr req = {.id = opid(), .inode = file, .mask = SET_MODE, .mode = 0640};
	struct wire_session_ref ref = {.session = session};
	uint64_t first = conn->next_id;
	int64_t end = deadline_in(LATE_MS);
	struct wire_attr_reply rep;
	struct wire_header h;
	int r = wire_put_request(&out, OP_SETATTR, conn->next_id++, 0, &req, 0);

	if (r == 0)
		r = wire_put_request(&out, OP_SESSION_PING, conn->next_id++, 0, &ref, 0);
	if (r == 0)
		r = conn_send(conn, buf_slice(&out), NULL, 0, end, &why);
	/* The ping is answered at once, so it comes first if the other one waits. */
	if (r == 0)
		r = conn_recv(conn, &h, &fields, end, &why);
	if (r == 0) {
		puts(h.op == OP_SESSION_PING ? "waiting" : "answered at once");
		fflush(stdout);
	}
	if (r == 0 && h.op == OP_SESSION_PING)
		r = conn_recv_reply(conn, OP_SETATTR, first, &h, &fields, end, &why);
	if (r == 0)
		tell("waited", wire_get_reply(&h, buf_slice(&fields), &rep, NULL, &why));
	else
		fprintf(stderr, "%s\n", err_message(&why));
	return r < 0;
}

static int connect_to(const char *addr, const char *credentials, struct cred *cred)
{
	struct wire_session_open open = {.name = SLICE_LIT("escape"), .nonce = (uint64_t)clock_ms()};
	struct wire_session opened = {0};
	int r = cred_load(cred, credentials, NULL, CRED_ROLES_CLIENT, "escape", &why);

	if (r == 0)
		r = conn_dial(addr, cred, ROLE_MASTER, deadline_in(WAIT_MS), &conn, &why);
	if (r == 0)
		r = ask(OP_SESSION_OPEN, &open, &opened);
	if (r < 0)
		fprintf(stderr, "%s\n", err_message(&why));
	session = opened.session;
	return r;
}

int main(int argc, char **argv)
{
	bool is_late = argc == 5 && strcmp(argv[1], "late") == 0;
	bool is_waits = argc == 5 && strcmp(argv[1], "waits") == 0, is_named = is_late || is_waits;
	uint64_t inside, foreign, file;
	struct cred cred;
	int r = 0;

	if (!is_named && argc != 6)
		return 2;
	if (connect_to(argv[1 + is_named], argv[2 + is_named], &cred) < 0)
		return 1;
	if (is_late) {
		r = late(strtoull(argv[4], NULL, 10));
	} else if (is_waits) {
		r = waits(strtoull(argv[4], NULL, 10));
	} else {
		inside = strtoull(argv[3], NULL, 10);
		foreign = strtoull(argv[4], NULL, 10);
		file = strtoull(argv[5], NULL, 10);
		reads(inside, foreign, file);
		changes(inside, foreign, file);
		replays(inside);
		set_id(inside);
		locks_of_others(inside);
		others();
	}
	if (r == 0)
		ask(OP_SESSION_CLOSE, &(struct wire_session_ref){.session = session},
		    &(struct wire_empty){});
	conn_free(conn);
	cred_release(&cred);
	return r;
}
