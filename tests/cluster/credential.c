/* What a credential is allowed: credential ADDR CREDENTIALS WANT CLAIM OP. Dials ADDR, which is to be a
 * WANT, says of itself that it is a CLAIM, and sends one request: prints OK or the error's name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"

enum { WAIT_MS = 10000, ALL_ROLES = 0x1e, ROOT = 1 };

static int send_op(struct conn *c, const char *op, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_inode_ref ref = {.inode = ROOT};
	struct wire_attr_reply attr;
	struct wire_make make = {.parent = ROOT, .name = SLICE_LIT("made"), .mode = 0100644};
	struct wire_server_set set = {.server = 1, .flags = SERVER_DRAINING};
	struct wire_make_reply made;
	struct wire_empty empty;

	if (strcmp(op, "getattr") == 0)
		return conn_call(c, OP_GETATTR, 0, &ref, &attr, &fields, deadline_in(WAIT_MS), err);
	if (strcmp(op, "make") == 0)
		return conn_call(c, OP_MAKE, 0, &make, &made, &fields, deadline_in(WAIT_MS), err);
	if (strcmp(op, "drain") == 0)
		return conn_call(c, OP_SERVER_SET, 0, &set, &empty, &fields, deadline_in(WAIT_MS), err);
	return strcmp(op, "none") == 0 ? 0 : err_set(err, ERR_INVAL, "%s: no such request", op);
}

int main(int argc, char **argv)
{
	struct err err = {0};
	struct conn *c = NULL;
	struct cred cred;
	int r;

	if (argc != 6)
		return 2;
	r = cred_load(&cred, argv[2], NULL, ALL_ROLES, "credential", &err);
	if (r == 0) {
		cred.role = identity_role_parse(argv[4]);
		r = conn_dial(argv[1], &cred, identity_role_parse(argv[3]), deadline_in(WAIT_MS), &c,
			      &err);
	}
	if (r == 0)
		r = send_op(c, argv[5], &err);
	puts(r == 0 ? "OK" : err_name(r));
	if (r < 0)
		fprintf(stderr, "%s\n", err_message(&err));
	conn_free(c);
	cred_release(&cred);
	return 0;
}
