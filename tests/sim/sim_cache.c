/* Clients that cache: each has a session with a link, answers from memory what it was leased, and
 * does now and then something that others must be told of first. The rules of common/wire.h (6) are
 * followed here as libcairn does it. What must hold at every step: all that any of them would answer
 * from memory is as it is in the state, and the bytes that it would return are those written last.
 * A client that changes something may lag behind its own change, as the kernel does that asks a mount for it,
 * until the answer has come; but not when anybody else has been told of it (master/lease.h, 10). */
#include <sys/stat.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "master/rpc_client.h"
#include "tests/sim/sim.h"

enum { CACHED_MAX = 64, ANSWER_MS = 14000, DIAL_MS = 300, DATA_MS = 40, LATE_DATA_MS = 20000,
       LEASE_SLACK_MS = 50 };

enum act { ACT_OPEN, ACT_LOOKUP, ACT_GETATTR, ACT_CHMOD, ACT_MAKE, ACT_UNLINK, ACT_RENAME, ACT_LINK,
	   ACT_WRITE };

struct sim_cached {
	uint64_t inode, change;
	uint32_t data;
	bool known, has_data, writes;
};

struct sim_cacher {
	unsigned n;
	uint64_t session, seq, life, incarnation, next_id;
	struct sim_conn *link, *conn;
	uint64_t attach_id, ping_id; /* requests on the link; 0: none */
	int64_t sent_ms, until_ms;
	bool attached;
	unsigned gen[CACHED_MAX], recalls; /* by inode; of all */
	struct sim_cached cached[CACHED_MAX];
	struct { bool known; uint64_t inode; } names[SIM_ALL_NAMES];
	/* the one operation under way */
	bool busy;
	enum act act;
	uint16_t opcode;
	uint64_t call_id, serial, inode;
	unsigned a, b, gen_inode, gen_root, gen_all;
	bool sending; /* data of op inode is on the way */
	struct buf message;
	uint8_t *bytes;
	uint32_t n_bytes;
};

static struct sim_cacher cachers[SIM_CACHERS];
static unsigned last_name;
static bool taught; /* something was learned since the last check */
static uint32_t data_of[CACHED_MAX]; /* by inode: inodes of a seed are few */

static uint64_t slot_of(uint64_t inode)
{
	return inode % CACHED_MAX;
}

static bool usable(const struct sim_cacher *c)
{
	return c->attached && fake_ms < c->until_ms;
}

static void forget(struct sim_cacher *c, uint64_t inode)
{
	struct sim_cached *e = &c->cached[slot_of(inode)];

	e->known = e->has_data = false;
	if (inode == ROOT_INODE)
		memset(c->names, 0, sizeof(c->names));
	c->gen[slot_of(inode)]++;
}

static void forget_all(struct sim_cacher *c)
{
	for (unsigned i = 0; i < CACHED_MAX; i++) {
		forget(c, i);
		c->cached[i].writes = false;
	}
	forget(c, ROOT_INODE);
	c->recalls++;
	c->attached = false;
}

/* Its own change is under way: what it knows may be what was before. */
static bool may_lag(const struct sim_cacher *c)
{
	return c->busy && c->act != ACT_OPEN && c->act != ACT_LOOKUP && c->act != ACT_GETATTR &&
	       c->act != ACT_WRITE;
}

bool sim_cacher_may_lag(void)
{
	for (unsigned i = 0; i < SIM_CACHERS; i++)
		if (may_lag(&cachers[i]))
			return true;
	return false;
}

/* What its change may have changed. Whose last name may have gone is not known: all of it. */
static void forget_changed(struct sim_cacher *c)
{
	for (unsigned i = 0; i < CACHED_MAX; i++)
		if (c->act != ACT_CHMOD || i == slot_of(c->inode))
			forget(c, i);
	if (c->act != ACT_CHMOD)
		forget(c, ROOT_INODE);
}

static bool writing(const struct sim_cacher *c, uint64_t inode)
{
	return c->busy && c->act == ACT_WRITE && slot_of(c->inode) == slot_of(inode);
}

/* ---- the link ---- */

static void link_send(struct sim_cacher *c, uint16_t op, uint64_t id, const void *record)
{
	_cleanup_buf_ struct buf out = {0};

	wire_put_request(&out, op, id, 0, record, 0);
	c->sent_ms = fake_ms;
	sim_send_up(c->link, &out);
}

static void attach(struct sim_cacher *c, bool last)
{
	struct wire_lease_attach req = {.session = c->session, .incarnation = c->incarnation,
					.last = last};

	if (last && c->busy && c->act == ACT_WRITE && c->inode) {
		req.inodes[req.n_inodes++] = c->inode;
		req.flags[req.n_flags++] = LEASE_WRITES;
	}
	c->ping_id = 0;
	c->attach_id = ++c->next_id;
	link_send(c, OP_LEASE_ATTACH, c->attach_id, &req);
}

static void link_up(void *arg, uint64_t life)
{
	struct sim_cacher *c = arg;

	if (c->life != life || !c->session || c->link)
		return;
	c->link = sim_connect(NULL, NULL);
	if (!c->link) {
		sim_after(DIAL_MS, link_up, c, life);
		return;
	}
	c->link->cacher = c;
	attach(c, false);
}

static void link_down(struct sim_cacher *c)
{
	sim_disconnect(c->link, fake_draw(2));
	c->link = NULL;
	c->attach_id = c->ping_id = 0;
	sim_after(1 + fake_draw(DIAL_MS), link_up, c, c->life);
}

void sim_cacher_ping(void)
{
	for (unsigned i = 0; i < SIM_CACHERS; i++) {
		struct sim_cacher *c = &cachers[i];
		struct wire_lease_ping req = {.session = c->session};
		if (!c->link)
			continue;
		if (c->ping_id || c->attach_id) {
			/* Unanswered for too long: over a new link. */
			if (fake_ms - c->sent_ms > 2 * sim.m.o.lease_ms)
				link_down(c);
			continue;
		}
		c->ping_id = ++c->next_id;
		link_send(c, OP_LEASE_PING, c->ping_id, &req);
	}
}

static void session_gone(struct sim_cacher *c)
{
	forget_all(c);
	sim_disconnect(c->link, false);
	c->link = NULL;
	c->session = c->incarnation = 0;
	c->attach_id = c->ping_id = 0;
	c->life++;
}

static void attached(struct sim_cacher *c, const struct wire_lease_attached *rep, bool last)
{
	if (rep->lost) {
		forget_all(c);
		c->incarnation = rep->incarnation;
		attach(c, true);
		return;
	}
	if (last && rep->incarnation != c->incarnation)
		return;
	c->attached = true;
	c->until_ms = c->sent_ms + rep->lease_ms - LEASE_SLACK_MS;
}

static void recalled(struct sim_cacher *c, const struct wire_header *h, struct slice fields)
{
	struct cursor cur = cursor_slice(fields);
	struct wire_lease_recall req;
	struct wire_lease_recalled rep = {0};
	_cleanup_buf_ struct buf out = {0};

	if (wire_lease_recall_get(&cur, &req) < 0)
		sim_fail("a recall that does not decode");
	for (unsigned i = 0; i < req.n_inodes; i++) {
		struct sim_cached *e = &c->cached[slot_of(req.inodes[i])];
		sim_trace("cacher %u: recall %u of inode %llu%s", c->n, req.what[i],
			  (unsigned long long)req.inodes[i],
			  writing(c, req.inodes[i]) ? ", writing" : "");
		if (req.what[i] & RECALL_READ)
			forget(c, req.inodes[i]);
		if ((req.what[i] & RECALL_WRITE) && !writing(c, req.inodes[i]))
			e->writes = false;
		rep.flags[rep.n_flags++] = e->writes || writing(c, req.inodes[i])
						   ? RECALLED_WRITING : 0;
	}
	c->recalls++;
	sim.count.recalls++;
	wire_put_reply(&out, OP_LEASE_RECALL, h->id, 0, &rep, 0);
	sim_send_up(c->link, &out);
}

static void link_message(struct sim_cacher *c, const struct wire_header *h, struct slice fields)
{
	struct cursor cur = cursor_slice(fields);
	struct wire_lease_attached rep;
	struct wire_lease_pong pong;
	bool last = c->incarnation != 0;

	if (!(h->flags & WIRE_REPLY)) {
		recalled(c, h, fields);
	} else if (h->id == c->attach_id) {
		c->attach_id = 0;
		if (h->status)
			session_gone(c);
		else if (wire_lease_attached_get(&cur, &rep) == 0)
			attached(c, &rep, last);
	} else if (h->id == c->ping_id) {
		c->ping_id = 0;
		if (h->status == ERR_STALE || wire_lease_pong_get(&cur, &pong) < 0)
			link_down(c);
		else if (pong.lost) {
			forget_all(c);
			attach(c, false);
		} else if (c->attached)
			c->until_ms = c->sent_ms + sim.m.o.lease_ms - LEASE_SLACK_MS;
	}
}

/* ---- requests ---- */

static void answered(struct sim_cacher *c, const struct wire_header *h, struct slice fields);
static void late(void *arg, uint64_t serial);

static void send_kept(struct sim_cacher *c)
{
	struct buf b = {.data = c->bytes, .len = c->n_bytes};

	if (!c->conn) {
		c->conn = sim_connect(NULL, NULL);
		if (c->conn)
			c->conn->cacher = c;
	}
	if (c->conn)
		sim_send_up(c->conn, &b);
	sim_after(c->conn ? ANSWER_MS : DIAL_MS, late, c, c->call_id);
}

static void late(void *arg, uint64_t call_id)
{
	struct sim_cacher *c = arg;

	if (!c->busy || c->call_id != call_id)
		return;
	sim_disconnect(c->conn, false);
	c->conn = NULL;
	send_kept(c);
}

static void call(struct sim_cacher *c, uint16_t op, const void *record)
{
	_cleanup_buf_ struct buf out = {0};

	c->opcode = op;
	c->call_id = ++c->next_id;
	c->gen_root = c->gen[slot_of(ROOT_INODE)];
	c->gen_inode = c->gen[slot_of(c->inode)];
	c->gen_all = c->recalls;
	wire_put_request(&out, op, c->call_id, 0, record, 0);
	c->bytes = sim_alloc(out.len);
	c->n_bytes = (uint32_t)out.len;
	memcpy(c->bytes, out.data, out.len);
	send_kept(c);
}

void sim_cacher_message(struct sim_cacher *c, struct sim_conn *conn, const struct wire_header *h,
			struct slice fields)
{
	if (conn == c->link) {
		link_message(c, h, fields);
	} else if (conn == c->conn && c->busy && h->id == c->call_id) {
		c->call_id = 0;
		answered(c, h, fields);
	}
}

void sim_cacher_unlinked(struct sim_cacher *c, struct sim_conn *conn)
{
	if (conn == c->link) {
		c->link = NULL;
		c->attach_id = c->ping_id = 0;
		sim_after(1 + fake_draw(DIAL_MS), link_up, c, c->life);
	} else if (conn == c->conn) {
		c->conn = NULL;
		if (c->busy && c->call_id)
			sim_after(1 + fake_draw(DIAL_MS), late, c, c->call_id);
	}
}

/* ---- what answers teach ---- */

static void learn_inode(struct sim_cacher *c, const struct wire_attr *attr)
{
	struct sim_cached *e = &c->cached[slot_of(attr->inode)];

	if (e->known && e->inode != attr->inode)
		return; /* two inodes of one slot: the table of this test is small */
	*e = (struct sim_cached){.inode = attr->inode, .change = attr->change, .known = true,
				 .writes = e->writes, .has_data = S_ISREG(attr->mode),
				 .data = data_of[slot_of(attr->inode)]};
}

static void end(struct sim_cacher *c)
{
	c->busy = c->sending = false;
	c->serial++;
}

static void data_arrives(void *arg, uint64_t serial)
{
	struct sim_cacher *c = arg;
	struct wire_wrote req = {.inode = c->inode};

	if (!c->busy || c->serial != serial)
		return;
	data_of[slot_of(c->inode)]++;
	sim_trace("cacher %u: data of inode %llu arrives", c->n, (unsigned long long)c->inode);
	c->cached[slot_of(c->inode)].has_data = false;
	sim.count.data++;
	forget(c, c->inode);
	req.id = (struct wire_opid){c->session, ++c->seq, c->seq};
	call(c, OP_WROTE, &req);
}

/* W has come, or not; data that is sent may come late. */
static void may_write(struct sim_cacher *c, const struct wire_header *h)
{
	if (h->status || !(h->flags & WIRE_LEASED_WRITE) || !usable(c)) {
		end(c);
		return;
	}
	c->cached[slot_of(c->inode)].writes = true;
	c->sending = true;
	sim_after(1 + fake_draw(fake_draw(10) ? DATA_MS : LATE_DATA_MS), data_arrives, c, c->serial);
}

static void answered(struct sim_cacher *c, const struct wire_header *h, struct slice fields)
{
	struct cursor cur = cursor_slice(fields);
	bool root = (h->flags & WIRE_LEASED_PARENT) && usable(c) &&
		    c->gen_root == c->gen[slot_of(ROOT_INODE)];
	bool unchanged = c->gen_inode == c->gen[slot_of(c->inode)];
	struct wire_session session;
	struct wire_attr_reply rep = {0};
	bool ok = h->status == 0;

	taught = true;
	if (may_lag(c))
		forget_changed(c);
	sim_trace("cacher %u: %s of inode %llu: %d, leased %u", c->n, wire_op_name(h->op),
		  (unsigned long long)c->inode, h->status, h->flags & ~1u);
	if (c->act == ACT_OPEN) {
		if (ok && wire_session_get(&cur, &session) == 0) {
			c->session = session.session;
			c->seq = 0;
			sim_after(1, link_up, c, c->life);
		}
		end(c);
		return;
	}
	if (h->status == ERR_STALE) {
		session_gone(c);
		end(c);
		return;
	}
	if (c->act == ACT_WRITE && c->opcode == OP_LEASE_WRITE) {
		may_write(c, h);
		return;
	}
	/* LOOKUP, GETATTR, SETATTR, LINK, WROTE and MAKE begin with the attributes. */
	if (ok && c->act != ACT_UNLINK && c->act != ACT_RENAME)
		ok = wire_attr_reply_get(&cur, &rep) == 0;
	if (c->act == ACT_LOOKUP && root && (ok || h->status == ERR_NOENT)) {
		c->names[c->a].known = true;
		c->names[c->a].inode = ok ? rep.attr.inode : 0;
	}
	/* Whose inode was not known before: no recall at all may have come since. */
	if (ok && (h->flags & WIRE_LEASED_INODE) && usable(c) &&
	    (rep.attr.inode == c->inode ? unchanged : c->gen_all == c->recalls))
		learn_inode(c, &rep.attr);
	if (c->act == ACT_MAKE && root && ok) {
		c->names[c->a].known = true;
		c->names[c->a].inode = rep.attr.inode;
	}
	end(c);
}

/* ---- operations ---- */

static void begin_change(struct sim_cacher *c)
{
	struct wire_opid id = {c->session, ++c->seq, c->seq};
	struct wire_setattr chmod = {.id = id, .inode = c->inode, .mask = SET_MODE,
				     .mode = fake_draw(512)};
	struct wire_make make = {.id = id, .parent = ROOT_INODE, .name = sim_name(c->a),
				 .mode = S_IFREG | 0644};
	struct wire_unlink unlink = {.id = id, .parent = ROOT_INODE, .name = sim_name(c->a)};
	struct wire_rename rename = {.id = id, .parent = ROOT_INODE, .name = sim_name(c->a),
				     .new_parent = ROOT_INODE, .new_name = sim_name(c->b)};
	struct wire_link link = {.id = id, .inode = c->inode, .parent = ROOT_INODE,
				 .name = sim_name(c->b)};

	switch (c->act) {
	case ACT_CHMOD: call(c, OP_SETATTR, &chmod); break;
	case ACT_MAKE: call(c, OP_MAKE, &make); break;
	case ACT_UNLINK: call(c, OP_UNLINK, &unlink); break;
	case ACT_RENAME: call(c, OP_RENAME, &rename); break;
	default: call(c, OP_LINK, &link);
	}
}

static void begin(struct sim_cacher *c)
{
	struct wire_session_open open = {.name = SLICE_LIT("cacher"), .cached = 1,
					 .nonce = fake_random()};
	struct wire_name_ref lookup = {.parent = ROOT_INODE, .name = sim_name(c->a),
				       .session = c->session};
	struct wire_inode_ref getattr = {.inode = c->inode, .session = c->session};
	struct wire_lease_write write = {.session = c->session, .inode = c->inode};

	switch (c->act) {
	case ACT_OPEN:
		call(c, OP_SESSION_OPEN, &open);
		break;
	case ACT_LOOKUP:
		if (usable(c) && c->names[c->a].known) {
			sim.count.hits++;
			end(c);
		} else {
			call(c, OP_LOOKUP, &lookup);
		}
		break;
	case ACT_GETATTR:
		call(c, OP_GETATTR, &getattr);
		break;
	case ACT_WRITE:
		forget(c, c->inode);
		call(c, OP_LEASE_WRITE, &write);
		break;
	default:
		begin_change(c);
	}
}

static unsigned some_name(void)
{
	return fake_draw(3) ? SIM_NAMES + fake_draw(SIM_ALL_NAMES - SIM_NAMES)
			    : fake_draw(SIM_NAMES);
}

void sim_cacher_act(void)
{
	struct sim_cacher *c = &cachers[fake_draw(SIM_CACHERS)];
	unsigned n = fake_draw(100);

	if (c->busy)
		return;
	c->n = (unsigned)(c - cachers);
	c->a = fake_draw(2) ? some_name() : last_name; /* often the name that others change */
	c->b = some_name();
	last_name = c->a;
	c->inode = sim_file(c->a);
	c->act = !c->session ? ACT_OPEN : n < 45 ? ACT_LOOKUP : n < 60 ? ACT_GETATTR :
		 n < 67 ? ACT_CHMOD : n < 80 ? ACT_WRITE : n < 86 ? ACT_RENAME :
		 n < 90 ? ACT_LINK : n < 94 ? ACT_UNLINK : ACT_MAKE;
	if (!c->inode && (c->act == ACT_GETATTR || c->act == ACT_CHMOD || c->act == ACT_WRITE ||
			  c->act == ACT_LINK))
		c->act = ACT_LOOKUP;
	c->busy = true;
	begin(c);
}

/* Something goes wrong with one of them. */
void sim_cacher_trouble(void)
{
	struct sim_cacher *c = &cachers[fake_draw(SIM_CACHERS)];

	/* Those that send are the more interesting ones. */
	for (unsigned i = 0; i < SIM_CACHERS; i++)
		if (cachers[i].sending && fake_draw(2))
			c = &cachers[i];
	if (c->link && (c->sending || fake_draw(3))) { /* what is sent on its link comes late */
		int64_t until = fake_ms + fake_draw(fake_draw(3) ? 2500 : 12000);
		if (c->sending) /* long enough to lose its lease while data is on the way */
			until = fake_ms + 3000 + fake_draw(9000);
		if (c->sending || fake_draw(2))
			c->link->stall_up_ms = until;
		else
			c->link->stall_down_ms = until;
	} else if (c->link && fake_draw(3)) {
		link_down(c);
	} else if (!c->sending) { /* it dies; its data is not on the way any more */
		sim_disconnect(c->conn, fake_draw(2));
		c->conn = NULL;
		session_gone(c);
		c->call_id = 0;
		end(c);
	}
}

bool sim_cachers_idle(void)
{
	for (unsigned i = 0; i < SIM_CACHERS; i++)
		if (cachers[i].busy)
			return false;
	return true;
}

void sim_cachers_clear(void)
{
	for (unsigned i = 0; i < SIM_CACHERS; i++) {
		sim_disconnect(cachers[i].link, false);
		sim_disconnect(cachers[i].conn, false);
	}
	memset(cachers, 0, sizeof(cachers));
	memset(data_of, 0, sizeof(data_of));
	last_name = 0;
}

/* ---- what must hold ---- */

/* What `c` is told of the name that it asked for, and of an inode, nobody else knows otherwise. */
static void check_name_told(const struct sim_cacher *c, uint64_t inode)
{
	for (unsigned i = 0; i < SIM_CACHERS; i++) {
		const struct sim_cacher *other = &cachers[i];
		if (other != c && usable(other) && other->names[c->a].known &&
		    other->names[c->a].inode != inode)
			sim_fail("client %u is told that name %u is inode %llu, client %u knows %llu", c->n,
				 c->a, (unsigned long long)inode, other->n,
				 (unsigned long long)other->names[c->a].inode);
	}
}

static void check_inode_told(const struct sim_cacher *c, const struct wire_attr *attr)
{
	for (unsigned i = 0; i < SIM_CACHERS; i++) {
		const struct sim_cacher *other = &cachers[i];
		const struct sim_cached *e = &other->cached[slot_of(attr->inode)];
		if (other != c && usable(other) && e->known && e->inode == attr->inode &&
		    e->change != attr->change)
			sim_fail("client %u is told change %llu of inode %llu, client %u knows %llu", c->n,
				 (unsigned long long)attr->change, (unsigned long long)attr->inode, other->n,
				 (unsigned long long)e->change);
	}
}

void sim_cacher_told(const struct sim_cacher *c, const struct sim_conn *conn,
		     const struct wire_header *h, struct slice fields)
{
	struct cursor cur = cursor_slice(fields);
	struct wire_attr_reply rep = {0};
	bool ok = h->status == 0;

	if (conn != c->conn || !c->busy || h->id != c->call_id ||
	    (c->act != ACT_LOOKUP && c->act != ACT_GETATTR) ||
	    (ok && wire_attr_reply_get(&cur, &rep) < 0))
		return;
	if (c->act == ACT_LOOKUP && (ok || h->status == ERR_NOENT))
		check_name_told(c, ok ? rep.attr.inode : 0);
	if (ok)
		check_inode_told(c, &rep.attr);
}

static void check_inode(const struct sim_cacher *c, const struct sim_cached *e)
{
	struct wire_attr attr;

	if (!e->known)
		return;
	if (query_getattr(sim.m.st, e->inode, &attr, NULL) < 0)
		sim_fail("client %u knows inode %llu, which is gone", c->n,
			 (unsigned long long)e->inode);
	if (attr.change != e->change)
		sim_fail("client %u knows change %llu of inode %llu, which is at %llu", c->n,
			 (unsigned long long)e->change, (unsigned long long)e->inode,
			 (unsigned long long)attr.change);
	if (e->has_data && e->data != data_of[slot_of(e->inode)])
		sim_fail("client %u would read old bytes of inode %llu", c->n,
			 (unsigned long long)e->inode);
}

/* Others' leases stand in nobody's way for longer than they may last. */
static void check_waiting(void)
{
	const struct call *w;

	DL_FOREACH(sim.m.waiting, w) {
		int64_t since = w->gate_until_ms - PARK_MS - sim.m.o.lease_ms;
		if (fake_ms - since > 2 * sim.m.o.lease_ms + 2000)
			sim_fail("%s waits for %lld ms", wire_op_name(w->h.op),
				 (long long)(fake_ms - since));
	}
}

void sim_cachers_check(void)
{
	static uint64_t commits, data;

	check_waiting();
	if (!taught && commits == sim.commits && data == sim.count.data)
		return;
	taught = false;
	commits = sim.commits;
	data = sim.count.data;
	for (unsigned i = 0; i < SIM_CACHERS; i++) {
		const struct sim_cacher *c = &cachers[i];
		if (!usable(c) || may_lag(c))
			continue;
		for (unsigned k = 0; k < CACHED_MAX; k++)
			check_inode(c, &c->cached[k]);
		for (unsigned k = 0; k < SIM_ALL_NAMES; k++) {
			if (c->names[k].known && c->names[k].inode != sim_file(k))
				sim_fail("client %u knows name %u as inode %llu, it is %llu", c->n,
					 k, (unsigned long long)c->names[k].inode,
					 (unsigned long long)sim_file(k));
		}
	}
}
