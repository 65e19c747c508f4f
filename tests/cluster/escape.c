/* escape ADDR CREDENTIALS INSIDE FOREIGN FILE: what a client that is confined to an export can do when
 * it says what no libcairn would: inode numbers that it never looked up. INSIDE: a directory of the
 * export; FOREIGN, FILE: a directory of another tenant and a file in it. A line for each attempt: its name
 * and the outcome, "OK" for success. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"

enum { WAIT_MS = 20000, ROOT = 1 };

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

int main(int argc, char **argv)
{
	struct wire_session_open open = {.name = SLICE_LIT("escape"), .nonce = (uint64_t)clock_ms()};
	uint64_t inside, foreign, file;
	struct wire_session opened;
	struct cred cred;
	int r;

	if (argc != 6)
		return 2;
	r = cred_load(&cred, argv[2], NULL, CRED_ROLES_CLIENT, "escape", &why);
	if (r == 0)
		r = conn_dial(argv[1], &cred, ROLE_MASTER, deadline_in(WAIT_MS), &conn, &why);
	if (r == 0)
		r = ask(OP_SESSION_OPEN, &open, &opened);
	if (r < 0) {
		fprintf(stderr, "%s\n", err_message(&why));
		return 1;
	}
	session = opened.session;
	inside = strtoull(argv[3], NULL, 10);
	foreign = strtoull(argv[4], NULL, 10);
	file = strtoull(argv[5], NULL, 10);
	reads(inside, foreign, file);
	changes(inside, foreign, file);
	others();
	ask(OP_SESSION_CLOSE, &(struct wire_session_ref){.session = session}, &(struct wire_empty){});
	conn_free(conn);
	cred_release(&cred);
	return 0;
}
