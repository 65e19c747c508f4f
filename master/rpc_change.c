/* Mutations: what each of them changes, and its command. */
#include "master/rpc_client.h"

#include <sys/stat.h>

#include "common/cleanup.h"
#include "master/lock.h"

/* The inode that a name stands for now, or 0. */
static uint64_t named(struct master *m, uint64_t parent, struct slice name)
{
	struct wire_name_ref ref = {.parent = parent, .name = name};
	struct wire_attr_reply rep = {0};

	return query_lookup(m->st, &ref, &rep, NULL) == 0 ? rep.attr.inode : 0;
}

/* The inode that may lose its last name: others that have it open hold it from then on. Without
 * holders it stays for a while, if there are others that may be about to open it. */
static uint16_t holders_of(struct call *c, uint64_t inode, uint64_t *holders, uint8_t *linger)
{
	struct lease_table *l = &c->m->leases;
	struct lease_session *own = lease_session_find(l, c->session);

	*linger = c->m->o.orphan_linger_ms > 0 && l->links > (own && own->linked) ? LINGER_UNHELD : 0;
	return inode ? (uint16_t)lease_holders(l, inode, c->session, holders, HOLDERS_MAX) : 0;
}

void on_make(struct call *c, struct slice fields)
{
	struct cmd_make cmd = {0};
	uint64_t existing;
	bool wait = false;
	int code;
	CALL_DECODE_CRED(wire_make, req, req.id.session);

	if (answered_before(c, &req.id) || !call_may(c, access_make(c->m->st, &req)))
		return;
	if (req.name.len) {
		/* What is there already is only read. */
		existing = named(c->m, req.parent, req.name);
		if (existing && (!gate_read(c, fields, req.id.session, req.parent) ||
				 !gate_read(c, fields, req.id.session, existing)))
			return;
		gate_name(c, req.parent, req.name);
		gate_mark(c, req.parent);
		if (!existing)
			gate_add(c, req.parent);
		c->parent = req.parent;
	}
	if (!gate_enter(c, fields, req.id.session))
		return;
	c->buffer = req.flags & MAKE_BUFFER;
	cmd.req = req;
	/* No server for a first chunk is no reason to refuse the name: an empty file needs none. */
	if ((req.flags & MAKE_CHUNK) && S_ISREG(req.mode))
		cmd.n_members = place_new(c->m, cmd.members, &code, &wait);
	if (wait)
		cmd.n_members = 0;
	call_propose(c, fields, CMD_NUMBER_MAKE, &cmd);
}

void on_link(struct call *c, struct slice fields)
{
	struct cmd_link cmd = {0};
	struct wire_attr attr;
	CALL_DECODE_CRED(wire_link, req, req.id.session);

	if (answered_before(c, &req.id) || !call_may(c, access_link(c->m->st, &req)))
		return;
	gate_name(c, req.parent, req.name);
	gate_add(c, req.parent);
	gate_add_named(c, req.inode);
	c->inode = req.inode;
	c->parent = req.parent;
	if (!gate_enter(c, fields, req.id.session))
		return;
	/* Without a name it was held by the log; with one its maker still has it open. */
	if (query_getattr(c->m->st, req.inode, &attr, NULL) == 0 && attr.nlink == 0)
		lease_opened(&c->m->leases, req.id.session, req.inode);
	cmd.req = req;
	call_propose(c, fields, CMD_NUMBER_LINK, &cmd);
}

void on_unlink(struct call *c, struct slice fields)
{
	struct cmd_unlink cmd = {0};
	uint64_t inode;
	CALL_DECODE_CRED(wire_unlink, req, req.id.session);

	if (answered_before(c, &req.id) || !call_may(c, access_unlink(c->m->st, &req)))
		return;
	inode = named(c->m, req.parent, req.name);
	if (!inode && !gate_read(c, fields, req.id.session, req.parent))
		return;
	gate_name(c, req.parent, req.name);
	gate_mark(c, req.parent);
	if (inode) {
		gate_add(c, req.parent);
		gate_add_named(c, inode);
	}
	c->parent = req.parent;
	if (!gate_enter(c, fields, req.id.session))
		return;
	cmd.req = req;
	cmd.n_holders = holders_of(c, inode, cmd.holders, &cmd.linger);
	call_propose(c, fields, CMD_NUMBER_UNLINK, &cmd);
}

void on_rename(struct call *c, struct slice fields)
{
	struct cmd_rename cmd = {0};
	uint64_t to;
	CALL_DECODE_CRED(wire_rename, req, req.id.session);

	if (answered_before(c, &req.id) || !call_may(c, access_rename(c->m->st, &req)))
		return;
	to = named(c->m, req.new_parent, req.new_name);
	gate_name(c, req.parent, req.name);
	gate_name(c, req.new_parent, req.new_name);
	gate_add(c, req.parent);
	gate_add(c, req.new_parent);
	gate_add_named(c, named(c->m, req.parent, req.name));
	gate_add_named(c, to);
	if (req.parent == req.new_parent)
		c->parent = req.parent;
	if (!gate_enter(c, fields, req.id.session))
		return;
	cmd.req = req;
	cmd.n_holders = holders_of(c, req.flags & RENAME_F_EXCHANGE ? 0 : to, cmd.holders,
				   &cmd.linger);
	/* The name is there all the time: whoever has looked it up must be able to open what it stood
	 * for, also another process of the same mount. (The kernel looks up anew, but only once.) */
	if (to && c->m->o.orphan_linger_ms > 0 && c->m->leases.links > 0)
		cmd.linger = LINGER_ALL;
	call_propose(c, fields, CMD_NUMBER_RENAME, &cmd);
}

/* It must not overtake the unlink that will hold the file for this session. */
void on_release(struct call *c, struct slice fields)
{
	struct cmd_release cmd = {0};
	CALL_DECODE(wire_release, req);

	if (!call_owns(c, req.id.session) || answered_before(c, &req.id))
		return;
	c->gate.opens = req.inode;
	if (!gate_enter(c, fields, req.id.session))
		return;
	cmd.req = req;
	call_propose(c, fields, CMD_NUMBER_RELEASE, &cmd);
}

void on_xattr_set(struct call *c, struct slice fields)
{
	struct cmd_xattr_set cmd = {0};
	CALL_DECODE_CRED(wire_xattr_set, req, req.id.session);

	if (answered_before(c, &req.id) || !call_may(c, access_xattr_set(c->m->st, &req)))
		return;
	gate_add(c, req.inode);
	if (!gate_enter(c, fields, req.id.session))
		return;
	cmd.req = req;
	call_propose(c, fields, CMD_NUMBER_XATTR_SET, &cmd);
}

/* A writer has W: nobody is in its way. One that lost it meanwhile recalls as others do. */
void on_wrote(struct call *c, struct slice fields)
{
	struct cmd_wrote cmd = {0};
	CALL_DECODE_CRED(wire_wrote, req, req.id.session);

	if (answered_before(c, &req.id) || !call_may(c, access_wrote(c->m->st, &req)))
		return;
	c->inode = req.inode;
	gate_add(c, req.inode);
	if (!gate_enter(c, fields, req.id.session))
		return;
	if ((req.flags & WROTE_HELD) &&
	    !lease_has(&c->m->leases, req.id.session, req.inode, LEASE_W)) {
		call_fail(c, ERR_LEASE, "the right to write has ended");
		return;
	}
	cmd.req = req;
	call_propose(c, fields, CMD_NUMBER_WROTE, &cmd);
}

/* One that is refused as things are now needs no entry, unless it gives up another lock. Locks are
 * not cached by anybody: nothing is recalled, unless the end of an append cuts chunks off. */
void on_lock(struct call *c, struct slice fields)
{
	struct cmd_lock cmd = {0};
	struct wire_lock_reply no = {0};
	CALL_DECODE_CRED(wire_lock, req, req.id.session);

	if (answered_before(c, &req.id) || !call_may(c, access_lock(c->m->st, &req)))
		return;
	if (req.kind == LOCK_APPEND && req.type != LOCK_FREE &&
	    (c->scope.row.flags & EXPORT_READ_ONLY)) {
		call_fail(c, ERR_ROFS, NULL);
		return;
	}
	if (req.kind == LOCK_APPEND && req.type == LOCK_FREE) {
		c->inode = req.inode;
		gate_add(c, req.inode);
		if (!gate_enter(c, fields, req.id.session))
			return;
	} else if (req.kind == LOCK_APPEND && !gate_read(c, fields, req.id.session, req.inode)) {
		return; /* its answer tells where the file ends */
	}
	cmd.req = req;
	if (req.kind != LOCK_WHOLE && lock_is_blocked(c->m->st, &req) == 1)
		peer_reply(c->peer, &c->h, &no);
	else
		call_propose(c, fields, CMD_NUMBER_LOCK, &cmd);
}

/* ---- attributes ---- */

/* How far a truncation may go in one command: 1: to *ret first; 0: all the way; negative. */
static int setattr_step(struct master *m, const struct wire_setattr *req, uint64_t *ret)
{
	_cleanup_buf_ struct buf backing = {0};
	uint64_t last[CHUNKS_FREED_MAX], n = 0;
	struct row_inode row;
	struct state_iter *it;
	struct slice key, value;
	struct key prefix, start;
	int r = ns_inode(m->st, req->inode, &row, &backing);

	if (r < 0 || !S_ISREG(row.mode) || req->size > row.size)
		return 0; /* apply gives the answer */
	start = key_file_chunk(req->inode, (req->size >> row.chunk_bits) +
					       (req->size % (1ULL << row.chunk_bits) != 0));
	prefix = key_prefix(start, 9);
	r = state_iter_open(m->st, key_slice(&prefix), key_slice(&start), &it);
	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1)
		last[n++ % CHUNKS_FREED_MAX] = get_be64(key.data + 9);
	state_iter_close(it);
	if (r < 0 || n <= CHUNKS_FREED_MAX)
		return r;
	/* What lies behind the end goes first, at the size that the file has. */
	*ret = last[n % CHUNKS_FREED_MAX] << row.chunk_bits;
	if (*ret > row.size)
		*ret = row.size;
	return 1;
}

static void setattr_step_done(struct master *m, void *arg, struct apply_result *result)
{
	struct call *c = arg;

	gate_leave(c);
	/* It is getting on: what it waits for next has its own time. */
	c->gate_until_ms = 0;
	if (result && result->status == 0)
		call_resume(c);
	else
		call_fail(c, result ? result->status : ERR_SHUTDOWN, result ? result->text : NULL);
	call_free(c);
}

void on_setattr(struct call *c, struct slice fields)
{
	struct cmd_setattr cmd = {0};
	uint64_t step;
	CALL_DECODE_CRED(wire_setattr, req, req.id.session);

	if (answered_before(c, &req.id) || !call_may(c, access_setattr(c->m->st, &req)))
		return;
	cmd.req = req;
	c->inode = req.inode;
	gate_add(c, req.inode);
	if (!gate_enter(c, fields, req.id.session))
		return;
	if ((req.mask & SET_SIZE) && setattr_step(c->m, &req, &step) == 1) {
		struct call *kept = call_keep(c, fields);
		if (!kept) {
			call_fail(c, ERR_NOMEM, NULL);
			return;
		}
		gate_changes(c);
		kept->gate = c->gate;
		c->gate = (struct gate){0};
		/* From the tail, as the master's own command; then the request again. */
		cmd.req = (struct wire_setattr){.inode = req.inode, .mask = SET_SIZE, .size = step};
		master_propose(c->m, CMD_NUMBER_SETATTR, &cmd, setattr_step_done, kept);
		return;
	}
	call_propose(c, fields, CMD_NUMBER_SETATTR, &cmd);
}
