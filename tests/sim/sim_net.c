/* Time and connections. Messages of one direction of a connection arrive in order, each some
 * milliseconds after it was sent, or after a stall; a connection that breaks loses what is on the
 * way. */
#include <stdlib.h>

#include "common/cleanup.h"
#include "tests/sim/sim.h"

enum { ARENA_BYTES = 1 << 20, DELAY_MAX_MS = 12 };

/* ---- memory of one seed ---- */

struct arena {
	struct arena *next;
	size_t used;
	uint8_t bytes[ARENA_BYTES];
};
static struct arena *arena;

void *sim_alloc(size_t bytes)
{
	void *p;

	bytes = (bytes + 15) & ~(size_t)15;
	if (!arena || arena->used + bytes > ARENA_BYTES) {
		struct arena *a = malloc(sizeof(*a));
		if (!a || bytes > ARENA_BYTES)
			sim_fail("out of memory");
		a->next = arena;
		a->used = 0;
		arena = a;
	}
	p = arena->bytes + arena->used;
	arena->used += bytes;
	memset(p, 0, bytes);
	return p;
}

static void arena_clear(void)
{
	while (arena && arena->next) {
		struct arena *a = arena;
		arena = a->next;
		free(a);
	}
	if (arena)
		arena->used = 0;
}

/* ---- events: a heap by time, then by the order in which they were made ---- */

struct event {
	int64_t at;
	uint64_t serial, n;
	sim_fn fn;
	void *arg;
};
static struct event *heap;
static size_t heap_n, heap_cap;
static uint64_t heap_serial;

static bool before(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->serial < b->serial;
}

static void at_time(int64_t at, sim_fn fn, void *arg, uint64_t n)
{
	struct event e = {.at = at, .serial = heap_serial++, .n = n, .fn = fn, .arg = arg};
	size_t i = heap_n++;

	if (heap_n > heap_cap) {
		heap_cap = heap_cap ? heap_cap * 2 : 256;
		heap = realloc(heap, heap_cap * sizeof(*heap));
		if (!heap)
			sim_fail("out of memory");
	}
	for (; i > 0 && before(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = e;
}

void sim_after(int64_t ms, sim_fn fn, void *arg, uint64_t n)
{
	at_time(fake_ms + ms, fn, arg, n);
}

static struct event heap_take(void)
{
	struct event top = heap[0], last = heap[--heap_n];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;
		if (child + 1 < heap_n && before(&heap[child + 1], &heap[child]))
			child++;
		if (child >= heap_n || !before(&heap[child], &last))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return top;
}

bool sim_step(int64_t until)
{
	struct event e;

	if (heap_n == 0 || heap[0].at > until) {
		fake_ms = until;
		return false;
	}
	e = heap_take();
	if (e.at > fake_ms)
		fake_ms = e.at;
	sim.steps++;
	e.fn(e.arg, e.n);
	return true;
}

/* ---- connections ---- */

static struct sim_conn *conns;

struct message {
	struct sim_conn *conn;
	uint32_t len;
	uint8_t bytes[];
};

static struct message *message_of(struct sim_conn *c, const struct buf *b)
{
	struct message *msg = sim_alloc(sizeof(*msg) + b->len);

	msg->conn = c;
	msg->len = (uint32_t)b->len;
	memcpy(msg->bytes, b->data, b->len);
	return msg;
}

static void message_open(const struct message *msg, struct wire_header *h, struct slice *fields)
{
	if (wire_header_get(msg->bytes, h, NULL) < 0)
		sim_fail("a message that is none");
	*fields = slice_of(msg->bytes + WIRE_HEADER_BYTES, msg->len - WIRE_HEADER_BYTES);
}

/* When a message sent now arrives, behind the one before it. */
static int64_t arrival(int64_t *last_ms, int64_t stall_ms)
{
	int64_t at = fake_ms + 1 + fake_draw(DELAY_MAX_MS);

	if (at < stall_ms)
		at = stall_ms;
	if (at < *last_ms)
		at = *last_ms;
	return *last_ms = at;
}

static void arrive_up(void *arg, uint64_t n)
{
	struct message *msg = arg;
	struct peer *peer = &msg->conn->peer;
	struct wire_header h;
	struct slice fields;

	if (peer->closing || !sim.master_up)
		return;
	message_open(msg, &h, &fields);
	peer_ref(peer);
	if (msg->conn->server)
		rpc_cs_message(&sim.m, peer, &h, fields);
	else
		rpc_client_message(&sim.m, peer, &h, fields);
	peer_unref(peer);
}

void sim_send_up(struct sim_conn *c, const struct buf *message)
{
	if (!c->closed)
		at_time(arrival(&c->up_ms, c->stall_up_ms), arrive_up, message_of(c, message), 0);
}

static void arrive_down(void *arg, uint64_t n)
{
	struct message *msg = arg;
	struct sim_conn *c = msg->conn;
	struct wire_header h;
	struct slice fields;

	if (c->closed)
		return;
	if (c->server && sim_frozen(c->server)) { /* it waits in the socket */
		at_time(c->server->frozen_ms, arrive_down, msg, 0);
		return;
	}
	message_open(msg, &h, &fields);
	if (c->server)
		sim_server_message(c->server, c, &h, fields);
	else if (c->cacher)
		sim_cacher_message(c->cacher, c, &h, fields);
	else
		sim_client_message(c->client, c, &h, fields);
}

static void on_sent(struct peer *peer, const struct buf *message)
{
	struct sim_conn *c = (struct sim_conn *)peer;
	struct message *msg = message_of(c, message);
	struct wire_header h;
	struct slice fields;

	message_open(msg, &h, &fields);
	if (c->cacher)
		sim_cacher_told(c->cacher, c, &h, fields);
	at_time(arrival(&c->down_ms, c->stall_down_ms), arrive_down, msg, 0);
}

/* The end of a connection reaches the other side as the last message does. */
static void unlinked(void *arg, uint64_t n)
{
	struct sim_conn *c = arg;

	if (c->closed)
		return;
	if (c->server && sim_frozen(c->server)) {
		at_time(c->server->frozen_ms, unlinked, c, 0);
		return;
	}
	c->closed = true;
	if (c->server)
		sim_server_unlinked(c->server, c);
	else if (c->cacher)
		sim_cacher_unlinked(c->cacher, c);
	else
		sim_client_unlinked(c->client, c);
}

static void on_closed(struct peer *peer)
{
	struct sim_conn *c = (struct sim_conn *)peer;

	if (peer->owner)
		cs_unlink(peer->owner);
	rpc_lease_gone(&sim.m, peer);
	at_time(arrival(&c->down_ms, c->stall_down_ms), unlinked, c, 0);
}

static void master_notices(void *arg, uint64_t n)
{
	struct sim_conn *c = arg;

	if (!c->peer.closing)
		peer_close(&c->peer, NULL);
}

void sim_disconnect(struct sim_conn *c, bool silent)
{
	if (!c || c->closed)
		return;
	c->closed = true;
	if (!silent)
		at_time(arrival(&c->up_ms, c->stall_up_ms), master_notices, c, 0);
}

struct sim_conn *sim_connect(struct sim_server *server, struct sim_client *client)
{
	struct sim_conn *c;

	if (!sim.master_up)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		sim_fail("out of memory");
	c->server = server;
	c->client = client;
	c->peer.refs = 1;
	c->peer.next_id = 1;
	c->next = conns;
	conns = c;
	return c;
}

void sim_net_hooks(void)
{
	fake_hooks = (struct fake_hooks){.sent = on_sent, .closed = on_closed,
					 .applied = sim_check_applied};
}

void sim_net_master_gone(void)
{
	for (struct sim_conn *c = conns; c; c = c->next)
		if (!c->peer.closing)
			peer_close(&c->peer, NULL);
}

void sim_net_clear(void)
{
	while (conns) {
		struct sim_conn *c = conns;
		conns = c->next;
		if (c->peer.refs != 1)
			sim_fail("a connection is still referred to");
		peer_unref(&c->peer);
	}
	heap_n = 0;
	heap_serial = 0;
	arena_clear();
}
