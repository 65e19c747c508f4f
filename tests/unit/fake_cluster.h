/* A cluster of threads for the client's tests: a master that knows one file in its root, "f", and
 * up to three chunkservers that keep its chunks in memory. What arrives is written into a trace;
 * faults are armed by the test. Included by one .c file each. */
#ifndef CAIRN_TESTS_FAKE_CLUSTER_H
#define CAIRN_TESTS_FAKE_CLUSTER_H

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cairn.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"
#include "common/crc.h"

enum {
	FAKE_SERVERS = 3, FAKE_CONNS = 64, FAKE_CHUNKS = 4, FAKE_FILE = 2,
	FAKE_CHUNK_BITS = 22, FAKE_CHUNK_BYTES = 1 << FAKE_CHUNK_BITS, FAKE_SEQ_MAX = 4096,
	FAKE_SEQS = 16,
};

struct fake_cluster;

/* One listening port and its connections. number 0: the master; 1..: chunkservers. */
struct fake_node {
	struct fake_cluster *cluster;
	unsigned number;
	uint16_t role;
	int fd;
	char addr[ADDR_BYTES_MAX];
	pthread_t acceptor;
	pthread_t threads[FAKE_CONNS];
	int fds[FAKE_CONNS]; /* protected by the cluster's lock; -1: closed */
	unsigned n;
	bool stop, frozen;
	/* What it does wrong. */
	unsigned drop_op, drops; /* does this request, then hangs up without an answer, so often */
	unsigned fail_op, fails; /* answers this request with fail_code, so often */
	int fail_code;
	uint32_t fail_server;
	unsigned slow_op, slow_ms; /* this request waits so long before anything is done */
	unsigned dawdling;	   /* requests that wait so now */
	bool damaged;		 /* READ gives wrong bytes */
	bool damaged_unstable;	 /* the same, but not with READ_STABLE */
	uint64_t seqs[FAKE_SEQS]; /* the numbers of the WRITEs that came: a ring */
	unsigned n_seqs;
	struct cred cred;
	uint8_t *data[FAKE_CHUNKS];
	bool has[FAKE_CHUNKS];
};

struct fake_chunk {
	uint64_t id; /* 0: a hole */
	uint32_t version, settled;
	bool written;
	bool members[FAKE_SERVERS];
};

struct fake_cluster {
	pthread_mutex_t lock; /* protects all below, and the nodes' fields */
	pthread_cond_t changed;
	char dir[64], credentials[96], masters[256];
	struct fake_node master, servers[FAKE_SERVERS];
	struct buf trace;
	uint64_t session; /* the one that is known; sessions are counted up */
	uint64_t executed[FAKE_SEQ_MAX]; /* change counter after the mutation; 0: not executed */
	uint64_t size, change, next_chunk;
	struct fake_chunk chunks[FAKE_CHUNKS];
	bool exists, unlinked;
	/* Leases, for a client that caches: everything is granted, and recalled by the test. */
	struct conn *link;
	bool shared;	 /* others write it, too: no B; and it had an extended attribute once */
	bool lost;	 /* the next ping is told so; the link attaches anew */
	unsigned flushing; /* recalls answered with RECALLED_FLUSHING */
	unsigned returned; /* inodes named so in pings */
	unsigned listed;   /* with LEASE_BUFFERS */
	uint8_t wrote_flags; /* of the last WROTE */
	struct when wrote_mtime;
};

/* What a cached client is granted with any answer about the file. */
enum { FAKE_LEASED = WIRE_LEASED_INODE | WIRE_LEASED_WRITE };

__attribute__((format(printf, 2, 3)))
static void fake_trace(struct fake_cluster *c, const char *fmt, ...)
{
	char text[128];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_append(&c->trace, text, strlen(text));
	buf_u8(&c->trace, '\n');
}

static void fake_trace_clear(struct fake_cluster *c)
{
	pthread_mutex_lock(&c->lock);
	buf_clear(&c->trace);
	pthread_mutex_unlock(&c->lock);
}

/* ---- answers ---- */

static void fake_reply_leased(struct conn *conn, const struct wire_header *h, const void *m,
			      uint8_t leased)
{
	buf_clear(&conn->out);
	wire_put_reply(&conn->out, h->op, h->id, 0, m, 0);
	wire_set_leased(&conn->out, 0, leased);
	conn_send(conn, buf_slice(&conn->out), NULL, 0, deadline_in(5000), NULL);
}

static void fake_reply(struct conn *conn, const struct wire_header *h, const void *m)
{
	fake_reply_leased(conn, h, m, 0);
}

static void fake_fail(struct conn *conn, const struct wire_header *h, int code, uint32_t server)
{
	buf_clear(&conn->out);
	wire_put_failure(&conn->out, h->op, h->id, 0, code, err_text(code), server);
	conn_send(conn, buf_slice(&conn->out), NULL, 0, deadline_in(5000), NULL);
}

static bool fake_armed(unsigned op, unsigned *armed_op, unsigned *left)
{
	if (*armed_op != op || *left == 0)
		return false;
	--*left;
	return true;
}

/* ---- the master ---- */

static struct wire_attr fake_attr(struct fake_cluster *c)
{
	return (struct wire_attr){.inode = FAKE_FILE, .mode = S_IFREG | 0644, .nlink = 1,
				  .bare = !c->shared, .size = c->size, .change = c->change,
				  .chunk_bits = FAKE_CHUNK_BITS};
}

static uint8_t fake_buffer(const struct fake_cluster *c, bool asked)
{
	return asked && !c->shared ? WIRE_LEASED_BUFFER : 0;
}

static struct wire_chunk fake_chunk_wire(struct fake_cluster *c, uint64_t index)
{
	const struct fake_chunk *k = &c->chunks[index];
	struct wire_chunk w = {.index = index, .id = k->id, .version = k->version,
			       .flags = k->written ? CHUNK_WRITTEN : 0,
			       .settled = k->settled};

	for (unsigned i = 0; k->id && i < FAKE_SERVERS; i++)
		if (k->members[i])
			w.replicas[w.n_replicas++] = (struct wire_replica){
				.server = i + 1, .addr = slice_str(c->servers[i].addr)};
	return w;
}

static void fake_chunk_make(struct fake_cluster *c, uint64_t index)
{
	struct fake_chunk *k = &c->chunks[index];

	if (k->id)
		return;
	*k = (struct fake_chunk){.id = c->next_chunk++, .version = 1};
	for (unsigned i = 0; i < FAKE_SERVERS; i++) {
		k->members[i] = c->servers[i].fd >= 0;
		c->servers[i].has[index] = false;
		if (c->servers[i].data[index])
			memset(c->servers[i].data[index], 0, FAKE_CHUNK_BYTES);
	}
}

/* What truncation to 0 by another session does. */
__attribute__((unused)) static void fake_truncate(struct fake_cluster *c)
{
	memset(c->chunks, 0, sizeof(c->chunks));
	c->size = 0;
	c->change++;
}

static void fake_fault(struct fake_cluster *c, const struct wire_chunk_fault *m)
{
	for (unsigned i = 0; i < FAKE_CHUNKS; i++) {
		struct fake_chunk *k = &c->chunks[i];
		if (k->id != m->chunk || k->version != m->version || !m->writing)
			continue;
		k->members[m->server - 1] = false;
		k->version++;
	}
}

/* A mutation: false when the session is not known (answered), or it is a retry. */
static bool fake_first_time(struct fake_cluster *c, struct conn *conn,
			    const struct wire_header *h, const struct wire_opid *id, bool drop,
			    bool *ret_stale)
{
	bool again = id->seq < FAKE_SEQ_MAX && c->executed[id->seq];

	*ret_stale = id->session != c->session;
	fake_trace(c, "%s #%d%s%s", wire_op_name(h->op), (int)id->seq,
		   id->floor > id->seq ? " bad floor" : "",
		   *ret_stale ? " stale" : again ? " again" : "");
	if (*ret_stale && !drop)
		fake_fail(conn, h, ERR_STALE, 0);
	if (!*ret_stale && !again)
		c->executed[id->seq] = c->change + 1;
	return !*ret_stale && !again;
}

#define FAKE_DECODE(record, m)                                          \
	struct record m;                                                \
	struct cursor m##_cursor = cursor_slice(fields);                \
	if (record##_get(&m##_cursor, &m) < 0)                          \
		return false

/* Each handler answers, unless `drop`; false: hang up. Called with the lock held. */
static bool fake_master_mutation(struct fake_cluster *c, struct conn *conn,
				 const struct wire_header *h, struct slice fields, bool drop)
{
	bool stale = false;

	if (h->op == OP_MAKE) {
		FAKE_DECODE(wire_make, m);
		struct wire_make_reply rep = {0};
		if (fake_first_time(c, conn, h, &m.id, drop, &stale)) {
			rep.existed = c->exists;
			c->exists = true;
			if (m.flags & MAKE_CHUNK)
				fake_chunk_make(c, 0);
		}
		rep.attr = fake_attr(c);
		if (!rep.existed)
			rep.chunk = fake_chunk_wire(c, 0);
		if (!stale && !drop)
			fake_reply_leased(conn, h, &rep, FAKE_LEASED |
					  fake_buffer(c, m.flags & MAKE_BUFFER));
	} else if (h->op == OP_CHUNK_FOR_WRITE) {
		FAKE_DECODE(wire_chunk_for_write, m);
		struct wire_chunk_reply rep;
		if (fake_first_time(c, conn, h, &m.id, drop, &stale))
			fake_chunk_make(c, m.index);
		rep.attr = fake_attr(c);
		rep.chunk = fake_chunk_wire(c, m.index);
		if (!stale && !drop)
			fake_reply(conn, h, &rep);
	} else if (h->op == OP_WROTE) {
		FAKE_DECODE(wire_wrote, m);
		struct wire_attr_reply rep;
		if (fake_first_time(c, conn, h, &m.id, drop, &stale)) {
			c->change++;
			if (m.end > c->size)
				c->size = m.end;
			c->wrote_flags = m.flags;
			c->wrote_mtime = m.mtime;
			for (uint64_t i = m.offset >> FAKE_CHUNK_BITS;
			     i <= (m.end - 1) >> FAKE_CHUNK_BITS; i++)
				c->chunks[i].written = c->chunks[i].id != 0;
		}
		rep.attr = fake_attr(c);
		if (!stale && !drop)
			fake_reply_leased(conn, h, &rep, WIRE_LEASED_INODE);
	} else if (h->op == OP_LOCK) {
		FAKE_DECODE(wire_lock, m);
		struct wire_lock_reply rep = {.granted = 1, .attr = fake_attr(c)};
		fake_first_time(c, conn, h, &m.id, drop, &stale);
		if (!stale && !drop)
			fake_reply(conn, h, &rep);
	} else if (h->op == OP_UNLINK) {
		FAKE_DECODE(wire_unlink, m);
		struct wire_unlink_reply rep = {.inode = FAKE_FILE};
		fake_first_time(c, conn, h, &m.id, drop, &stale);
		fake_trace(c, "hold %d", (int)m.hold);
		if (!stale && !drop)
			fake_reply(conn, h, &rep);
	} else if (h->op == OP_RELEASE) {
		FAKE_DECODE(wire_release, m);
		struct wire_empty rep;
		fake_first_time(c, conn, h, &m.id, drop, &stale);
		if (!stale && !drop)
			fake_reply(conn, h, &rep);
	} else {
		fake_fail(conn, h, ERR_NOTSUP, 0);
	}
	return !drop;
}

static bool fake_master_ask(struct fake_cluster *c, struct conn *conn,
			    const struct wire_header *h, struct slice fields)
{
	struct wire_attr_reply attr = {.attr = fake_attr(c)};
	struct wire_empty empty;

	if (h->op == OP_SESSION_OPEN) {
		struct wire_session rep = {.session = ++c->session, .ttl_ms = 60000, .root = 1};
		memset(c->executed, 0, sizeof(c->executed));
		fake_trace(c, "SESSION_OPEN");
		fake_reply(conn, h, &rep);
	} else if (h->op == OP_SESSION_PING) {
		FAKE_DECODE(wire_session_ref, m);
		if (m.session == c->session)
			fake_reply(conn, h, &empty);
		else
			fake_fail(conn, h, ERR_STALE, 0);
	} else if (h->op == OP_LOCATE) {
		FAKE_DECODE(wire_locate, m);
		struct wire_locate_reply rep = {.attr = fake_attr(c)};
		for (uint64_t i = m.first; i < m.first + m.count && i < FAKE_CHUNKS; i++)
			rep.chunks[rep.n_chunks++] = fake_chunk_wire(c, i);
		fake_trace(c, "LOCATE");
		fake_reply(conn, h, &rep);
	} else if (h->op == OP_CHUNK_FAULT) {
		FAKE_DECODE(wire_chunk_fault, m);
		fake_trace(c, "CHUNK_FAULT server %u writing %u %s", m.server, m.writing,
			   err_name(m.reason));
		fake_fault(c, &m);
		fake_reply(conn, h, &empty);
	} else if (h->op == OP_GETATTR || h->op == OP_LOOKUP) {
		fake_trace(c, "%s", wire_op_name(h->op));
		fake_reply_leased(conn, h, &attr, WIRE_LEASED_INODE);
	} else if (h->op == OP_LEASE_WRITE) {
		FAKE_DECODE(wire_lease_write, m);
		fake_reply_leased(conn, h, &attr, FAKE_LEASED | fake_buffer(c, m.buffer));
	} else if (h->op == OP_XATTR_GET) {
		fake_trace(c, "XATTR_GET");
		fake_fail(conn, h, ERR_NODATA, 0);
	} else if (h->op == OP_LEASE_OPEN) {
		fake_reply(conn, h, &attr);
	} else if (h->op == OP_LEASE_ATTACH) {
		FAKE_DECODE(wire_lease_attach, m);
		struct wire_lease_attached rep = {.incarnation = 1, .lease_ms = 4000,
						  .lost = c->lost && !m.last && !m.n_inodes};
		for (unsigned i = 0; i < m.n_flags; i++)
			c->listed += (m.flags[i] & LEASE_BUFFERS) != 0;
		c->lost &= !m.last;
		c->link = conn;
		fake_reply(conn, h, &rep);
	} else if (h->op == OP_LEASE_PING) {
		FAKE_DECODE(wire_lease_ping, m);
		struct wire_lease_pong rep = {.now = {5000, 0}, .lost = c->lost};
		c->returned += m.n_returned;
		fake_reply(conn, h, &rep);
	} else if (h->op == OP_SESSION_CLOSE) {
		fake_reply(conn, h, &empty);
	} else {
		fake_fail(conn, h, ERR_NOTSUP, 0);
	}
	return true;
}

static bool fake_master_message(struct fake_node *node, struct conn *conn,
				const struct wire_header *h, struct slice fields)
{
	struct fake_cluster *c = node->cluster;
	bool drop = fake_armed(h->op, &node->drop_op, &node->drops);

	if (h->flags & WIRE_REPLY) {
		FAKE_DECODE(wire_lease_recalled, m);
		for (unsigned i = 0; i < m.n_flags; i++)
			c->flushing += (m.flags[i] & RECALLED_FLUSHING) != 0;
		return true;
	}

	if (fake_armed(h->op, &node->fail_op, &node->fails)) {
		fake_trace(c, "%s fails", wire_op_name(h->op));
		fake_fail(conn, h, node->fail_code, node->fail_server);
		return true;
	}
	switch (h->op) {
	case OP_MAKE:
	case OP_CHUNK_FOR_WRITE:
	case OP_WROTE:
	case OP_LOCK:
	case OP_UNLINK:
	case OP_RELEASE:
	case OP_SETATTR:
		return fake_master_mutation(c, conn, h, fields, drop);
	default:
		return !drop && fake_master_ask(c, conn, h, fields);
	}
}

/* ---- chunkservers ---- */

static int fake_find(struct fake_cluster *c, uint64_t chunk, uint32_t version, unsigned *ret)
{
	for (*ret = 0; *ret < FAKE_CHUNKS; ++*ret)
		if (c->chunks[*ret].id == chunk)
			return c->chunks[*ret].version == version ? 0 : ERR_CHUNK_VERSION;
	return ERR_NO_CHUNK;
}

static void fake_read(struct fake_node *node, struct conn *conn, const struct wire_header *h,
		      const struct wire_read *m)
{
	struct fake_cluster *c = node->cluster;
	uint8_t sums[DATA_BYTES_MAX / BLOCK_BYTES * 4];
	uint8_t *p;
	bool wrong = node->damaged || (node->damaged_unstable && !(m->flags & READ_STABLE));
	struct wire_read_reply rep;
	unsigned i;
	int r = fake_find(c, m->chunk, m->version, &i);

	fake_trace(c, "READ%s %u+%u on %u", m->flags & READ_STABLE ? " stable" : "", m->offset,
		   m->len, node->number);
	if (r == 0 && !node->has[i])
		r = ERR_NO_CHUNK;
	if (r < 0) {
		fake_fail(conn, h, r, 0);
		return;
	}
	p = node->data[i] + m->offset;
	rep.sums = slice_of(sums, 4 * crc_sums(sums, p, 0, m->len));
	buf_clear(&conn->out);
	wire_put_reply(&conn->out, h->op, h->id, 0, &rep, m->len);
	p[0] ^= wrong;
	conn_send(conn, buf_slice(&conn->out), p, m->len, deadline_in(5000), NULL);
	p[0] ^= wrong;
}

/* Writes on this node and all of the chain at once. */
static int fake_write(struct fake_node *node, const struct wire_header *h,
		      const struct wire_write *m, const uint8_t *data)
{
	struct fake_cluster *c = node->cluster;
	unsigned i;
	int r = fake_find(c, m->chunk, m->version, &i);

	if (m->seq == 0 || m->session == 0)
		fake_trace(c, "WRITE without a name");
	node->seqs[node->n_seqs++ % FAKE_SEQS] = m->seq;
	fake_trace(c, "WRITE %u+%u v%u chain %u on %u%s%s", m->offset, h->data_bytes, m->version,
		   m->n_chain, node->number, m->flags & WRITE_CREATE ? " create" : "",
		   m->flags & WRITE_SYNC ? " sync" : "");
	/* A freed chunk that is not deleted yet takes writes, which go nowhere. */
	if (r == ERR_NO_CHUNK)
		return 0;
	if (r < 0)
		return r;
	if (crc_sums_check(m->sums.data, data, m->offset, h->data_bytes) >= 0)
		return ERR_CHECKSUM;
	for (unsigned n = 0; n <= m->n_chain; n++) {
		struct fake_node *to = n ? &c->servers[m->chain[n - 1].server - 1] : node;
		memcpy(to->data[i] + m->offset, data, h->data_bytes);
		to->has[i] = true;
	}
	return 0;
}

static bool fake_server_message(struct fake_node *node, struct conn *conn,
				const struct wire_header *h, struct slice fields,
				const uint8_t *data)
{
	struct wire_empty empty;
	int r = 0;

	if (fake_armed(h->op, &node->fail_op, &node->fails)) {
		fake_trace(node->cluster, "%s fails on %u", wire_op_name(h->op), node->number);
		fake_fail(conn, h, node->fail_code, node->fail_server);
		return true;
	}
	if (fake_armed(h->op, &node->drop_op, &node->drops)) {
		fake_trace(node->cluster, "%s dropped on %u", wire_op_name(h->op), node->number);
		return false;
	}
	if (h->op == OP_READ) {
		FAKE_DECODE(wire_read, m);
		fake_read(node, conn, h, &m);
		return true;
	}
	if (h->op == OP_WRITE) {
		FAKE_DECODE(wire_write, m);
		r = fake_write(node, h, &m, data);
	} else {
		FAKE_DECODE(wire_sync, m);
		unsigned i;
		fake_trace(node->cluster, "%s v%u on %u", wire_op_name(h->op), m.version,
			   node->number);
		r = fake_find(node->cluster, m.chunk, m.version, &i);
	}
	if (r < 0)
		fake_fail(conn, h, r, 0);
	else
		fake_reply(conn, h, &empty);
	return true;
}

/* ---- connections ---- */

struct fake_link {
	struct fake_node *node;
	unsigned slot;
	int fd;
};

/* The slowness that a test has ordered; a node that stops does not keep the test waiting. */
static void fake_dawdle(struct fake_node *node, unsigned op)
{
	struct fake_cluster *c = node->cluster;
	struct timespec until;

	pthread_mutex_lock(&c->lock);
	clock_gettime(CLOCK_REALTIME, &until);
	if (node->slow_op == op) {
		until.tv_nsec += (long)(node->slow_ms % 1000) * 1000000;
		until.tv_sec += node->slow_ms / 1000 + until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		node->dawdling++;
		while (!node->stop && node->slow_op == op &&
		       pthread_cond_timedwait(&c->changed, &c->lock, &until) == 0)
			;
		node->dawdling--;
	}
	pthread_mutex_unlock(&c->lock);
}

__attribute__((unused)) static bool fake_is_slow(struct fake_node *node, unsigned n)
{
	bool slow;

	pthread_mutex_lock(&node->cluster->lock);
	slow = node->dawdling >= n;
	pthread_mutex_unlock(&node->cluster->lock);
	return slow;
}

static void *fake_serve(void *arg)
{
	struct fake_link link = *(struct fake_link *)arg;
	struct fake_node *node = link.node;
	struct fake_cluster *c = node->cluster;
	_cleanup_buf_ struct buf fields = {0};
	uint8_t *data = malloc(DATA_BYTES_MAX);
	struct conn *conn = NULL;
	struct wire_header h;
	bool go = data && conn_accept(link.fd, &node->cred, deadline_in(5000), &conn, NULL) == 0;

	free(arg);
	while (go && conn_recv(conn, &h, &fields, deadline_in(60000), NULL) == 0) {
		if (h.data_bytes && conn_recv_data(conn, data, h.data_bytes, deadline_in(5000),
						   NULL) < 0)
			break;
		fake_dawdle(node, h.op);
		pthread_mutex_lock(&c->lock);
		go = node->role == ROLE_MASTER
			     ? fake_master_message(node, conn, &h, buf_slice(&fields))
			     : fake_server_message(node, conn, &h, buf_slice(&fields), data);
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_lock(&c->lock);
	node->fds[link.slot] = -1;
	pthread_mutex_unlock(&c->lock);
	conn_free(conn);
	free(data);
	return NULL;
}

static void *fake_accept(void *arg)
{
	struct fake_node *node = arg;
	struct fake_cluster *c = node->cluster;
	struct pollfd p = {.fd = node->fd, .events = POLLIN};

	while (poll(&p, 1, -1) >= 0) {
		int fd = accept(node->fd, NULL, NULL);
		struct fake_link *link;
		bool stop;
		pthread_mutex_lock(&c->lock);
		while (node->frozen && !node->stop)
			pthread_cond_wait(&c->changed, &c->lock);
		stop = node->stop || node->n == FAKE_CONNS;
		if (!stop && fd >= 0) {
			link = malloc(sizeof(*link));
			*link = (struct fake_link){node, node->n, fd};
			node->fds[node->n] = fd;
			pthread_create(&node->threads[node->n++], NULL, fake_serve, link);
		}
		pthread_mutex_unlock(&c->lock);
		if (stop) {
			if (fd >= 0)
				close(fd);
			break;
		}
	}
	return NULL;
}

/* No new connection is answered until it thaws; slow_op does the same to those there are. */
__attribute__((unused)) static void fake_freeze(struct fake_node *node)
{
	pthread_mutex_lock(&node->cluster->lock);
	node->frozen = true;
	pthread_mutex_unlock(&node->cluster->lock);
}

__attribute__((unused)) static void fake_thaw(struct fake_node *node)
{
	pthread_mutex_lock(&node->cluster->lock);
	node->frozen = false;
	pthread_cond_broadcast(&node->cluster->changed);
	pthread_mutex_unlock(&node->cluster->lock);
}

/* Another client wants the file: asks for what (RECALL_) back, on the link. */
__attribute__((unused)) static void fake_recall(struct fake_cluster *c, uint8_t what)
{
	struct wire_lease_recall req = {.session = c->session, .inodes = {FAKE_FILE},
					.what = {what}, .n_inodes = 1, .n_what = 1};

	pthread_mutex_lock(&c->lock);
	buf_clear(&c->link->out);
	wire_put_request(&c->link->out, OP_LEASE_RECALL, 1000, 0, &req, 0);
	conn_send(c->link, buf_slice(&c->link->out), NULL, 0, deadline_in(5000), NULL);
	pthread_mutex_unlock(&c->lock);
}

/* Hangs up on everybody, as a restart does. */
static void fake_hang_up(struct fake_node *node)
{
	pthread_mutex_lock(&node->cluster->lock);
	for (unsigned i = 0; i < node->n; i++)
		if (node->fds[i] >= 0)
			shutdown(node->fds[i], SHUT_RDWR);
	pthread_mutex_unlock(&node->cluster->lock);
}

static void fake_node_start(struct fake_cluster *c, struct fake_node *node, unsigned number)
{
	node->cluster = c;
	node->number = number;
	node->role = number ? ROLE_CHUNKSERVER : ROLE_MASTER;
	assert_int_equal(cred_load(&node->cred, c->credentials, NULL, 1u << node->role, "fake", NULL),
			 0);
	assert_int_equal(conn_listen("127.0.0.1:0", &node->fd, node->addr, NULL), 0);
	for (unsigned i = 0; number && i < FAKE_CHUNKS; i++) {
		node->data[i] = calloc(1, FAKE_CHUNK_BYTES);
		assert_non_null(node->data[i]);
	}
	assert_int_equal(pthread_create(&node->acceptor, NULL, fake_accept, node), 0);
}

/* The node dies: no connection, nobody listens. */
static void fake_node_stop(struct fake_node *node)
{
	if (node->fd < 0)
		return;
	pthread_mutex_lock(&node->cluster->lock);
	node->stop = true;
	pthread_cond_broadcast(&node->cluster->changed);
	pthread_mutex_unlock(&node->cluster->lock);
	shutdown(node->fd, SHUT_RDWR);
	pthread_join(node->acceptor, NULL);
	fake_hang_up(node);
	for (unsigned i = 0; i < node->n; i++)
		pthread_join(node->threads[i], NULL);
	close(node->fd);
	node->fd = -1;
}

/* n_servers of FAKE_SERVERS run. */
static void fake_start(struct fake_cluster *c, unsigned n_servers)
{
	const char *tmp = getenv("TMPDIR");

	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	c->next_chunk = 100;
	c->change = 1;
	snprintf(c->dir, sizeof(c->dir), "%.40s/cairn-fake-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(c->dir));
	snprintf(c->credentials, sizeof(c->credentials), "%s/key", c->dir);
	assert_int_equal(auth_key_create(c->credentials, NULL), 0);
	fake_node_start(c, &c->master, 0);
	snprintf(c->masters, sizeof(c->masters), "%s", c->master.addr);
	for (unsigned i = 0; i < FAKE_SERVERS; i++) {
		c->servers[i].fd = -1;
		if (i < n_servers)
			fake_node_start(c, &c->servers[i], i + 1);
	}
}

static void fake_stop(struct fake_cluster *c)
{
	fake_node_stop(&c->master);
	for (unsigned i = 0; i < FAKE_SERVERS; i++) {
		fake_node_stop(&c->servers[i]);
		for (unsigned k = 0; k < FAKE_CHUNKS; k++)
			free(c->servers[i].data[k]);
	}
	buf_release(&c->trace);
	unlink(c->credentials);
	rmdir(c->dir);
}

/* A client of it; 5 s are plenty for all that a test waits for. */
__attribute__((unused)) static struct cairn *fake_client(struct fake_cluster *c, int64_t readahead)
{
	struct cairn_options o = {.masters = c->masters, .credentials = c->credentials, .name = "test",
				  .timeout_ms = 5000, .readahead_bytes = readahead};
	struct cairn *fs;
	char text[256] = "";

	if (cairn_connect(&o, &fs, text, sizeof(text)) != 0)
		fail_msg("connect: %s", text);
	fake_trace_clear(c);
	return fs;
}

/* A copy, for assertions: one that fails must not leave the lock taken. The caller frees it. */
static char *fake_trace_copy(struct fake_cluster *c)
{
	char *copy;

	pthread_mutex_lock(&c->lock);
	copy = strdup(buf_str(&c->trace));
	pthread_mutex_unlock(&c->lock);
	assert_non_null(copy);
	return copy;
}

__attribute__((unused)) static void assert_trace(struct fake_cluster *c, const char *expected)
{
	char *trace = fake_trace_copy(c);

	fake_trace_clear(c);
	if (strcmp(trace, expected) != 0)
		print_error("trace:\n%s", trace);
	assert_string_equal(trace, expected);
	free(trace);
}

#endif
