/* chunkserver: the link to the master. Orders are as old as their coming; what the master was told and
 * did not hear is told again. The master is this test, on a socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "chunkserver/link_priv.h"
#include "tests/unit/store_fixture.h"

enum { WAIT_MS = 20000, BEAT_MS = 20, LEASE_MS = 600000 };

/* ---- orders ---- */

static void queue_delete(struct link *l)
{
	_cleanup_buf_ struct buf list = {0}, fields = {0};
	struct wire_have have = {.id = CHUNK, .version = UINT32_MAX};
	struct wire_header h = {.op = OP_CHUNK_DELETE, .id = 7};
	struct wire_chunk_delete req;

	WIRE_LIST_PUT(wire_have, &list, &have);
	req.have = buf_slice(&list);
	wire_chunk_delete_put(&fields, &req);
	link_take_command(l, &h, &fields);
}

/* The status of the answer that a worker gives to what is queued. */
static int work(struct link *l)
{
	struct pollfd p = {.fd = l->wake_fd, .events = POLLIN};
	struct wire_header h;
	struct item *answer;
	pthread_t worker;
	uint64_t count;

	assert_int_equal(pthread_create(&worker, NULL, link_worker, l), 0);
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(read(l->wake_fd, &count, sizeof(count)), sizeof(count));
	pthread_mutex_lock(&l->lock);
	l->stopping = true;
	pthread_cond_broadcast(&l->work);
	answer = link_queue_take(&l->out);
	pthread_mutex_unlock(&l->lock);
	pthread_join(worker, NULL);
	assert_non_null(answer);
	assert_int_equal(wire_header_get(answer->bytes.data, &h, NULL), 0);
	link_item_free(answer);
	return h.status;
}

/* It waits while the chunk is given up and brought back, by others who are no slower than it. */
static void test_an_order_is_as_old_as_its_coming(void **state)
{
	struct link l = {.store = store, .up = true, .wake_fd = eventfd(0, EFD_NONBLOCK)};
	struct wire_chunk_raise raise = {.chunk = CHUNK, .version = 1, .new_version = 2,
					 .length = CHUNK_LENGTH_KEEP, .flags = CHUNK_WRITTEN};
	struct wire_chunk_state answer;
	struct err err = {0};
	uint8_t fill;

	pthread_mutex_init(&l.lock, NULL);
	pthread_cond_init(&l.work, NULL);
	assert_int_equal(write_block(0, 7, &err), 0);
	queue_delete(&l);
	assert_int_equal(store_raise(store, &raise, NULL, deadline_in(WAIT_MS), &answer, &err), 0);
	assert_int_equal(work(&l), ERR_BUSY);
	assert_int_equal(read_block(2, 0, &fill, &err), 0);
	/* One that comes now is obeyed. */
	l.stopping = false;
	queue_delete(&l);
	assert_int_equal(work(&l), 0);
	assert_int_equal(read_block(2, 0, &fill, &err), ERR_NO_CHUNK);
	close(l.wake_fd);
	pthread_mutex_destroy(&l.lock);
	pthread_cond_destroy(&l.work);
}

/* ---- a master ---- */

static struct cred cs_cred, master_cred;
static struct lease lease;
static struct keys keys;
static struct link *link_here;
static struct conn *conn; /* to the chunkserver */
static unsigned beats, digests, damages; /* heard so far */
static unsigned deaf;			 /* to so many CS_DAMAGEs */

static unsigned no_load(void)
{
	return 0;
}

static uint64_t none_refused(void)
{
	return 0;
}

static void no_scrub(struct wire_scrub *ret)
{
	*ret = (struct wire_scrub){0};
}

static void reply(const struct wire_header *h, const void *m)
{
	_cleanup_buf_ struct buf out = {0};
	struct err err = {0};

	wire_put_reply(&out, h->op, h->id, 0, m, 0);
	if (conn_send(conn, buf_slice(&out), NULL, 0, deadline_in(WAIT_MS), &err) != 0)
		fail_msg("%s", err.text);
}

/* One message is heard, and answered: its opcode. */
static uint16_t serve_one(void)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_cs_registered registered = {.server = 1, .cluster = SLICE_LIT("0123456789abcdef"),
						.heartbeat_ms = BEAT_MS, .dead_ms = LEASE_MS,
						.lease_ms = LEASE_MS};
	struct wire_cs_digest_reply differ = {0};
	struct wire_cs_beat beat = {0};
	struct wire_empty empty;
	struct wire_header h;
	struct err err = {0};

	if (conn_recv(conn, &h, &fields, deadline_in(WAIT_MS), &err) != 0)
		fail_msg("%s", err.text);
	beats += h.op == OP_CS_HEARTBEAT;
	digests += h.op == OP_CS_DIGEST;
	damages += h.op == OP_CS_DAMAGE;
	if (h.op == OP_CS_REGISTER)
		reply(&h, &registered);
	else if (h.op == OP_CS_HEARTBEAT)
		reply(&h, &beat);
	else if (h.op == OP_CS_DIGEST)
		reply(&h, &differ);
	else if (h.op == OP_CS_DAMAGE && deaf > 0)
		deaf--;
	else
		reply(&h, &empty);
	return h.op;
}

static void serve_beats(unsigned n)
{
	for (unsigned until = beats + n; beats < until;)
		serve_one();
}

static void start_link(void)
{
	static char addr[ADDR_BYTES_MAX];
	static char *masters[] = {addr};
	static struct conf_list list = {masters, 1};
	struct link_options o = {.masters = &list, .cred = &cs_cred, .addr = "127.0.0.1:1",
				 .rack = "", .host = "", .lease = &lease, .keys = &keys,
				 .report_interval_ms = 3600000, .load = no_load,
				 .refused = none_refused, .scrub = no_scrub};
	struct pollfd p = {.events = POLLIN};
	struct err err = {0};
	int fd;

	cs_cred = (struct cred){.key.len = 32, .role = ROLE_CHUNKSERVER, .name = "test"};
	master_cred = cs_cred;
	master_cred.role = ROLE_MASTER;
	assert_int_equal(conn_listen("127.0.0.1:0", &p.fd, addr, &err), 0);
	assert_int_equal(link_start(&o, store, &link_here, &err), 0);
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	fd = accept(p.fd, NULL, NULL);
	close(p.fd);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (conn_accept(fd, &master_cred, deadline_in(WAIT_MS), &conn, &err) != 0)
		fail_msg("%s", err.text);
	while (serve_one() != OP_CS_READY)
		;
}

static int setup_link(void **state)
{
	int r = setup(state);

	keys_init(&keys);
	beats = digests = damages = deaf = 0;
	start_link();
	return r;
}

/* The link is broken first, so that nobody on it waits for an answer. */
static int teardown_link(void **state)
{
	conn_free(conn);
	link_stop(link_here);
	keys_release(&keys);
	return teardown(state);
}

/* The link stays up: nothing else would make it say so before the next full report. */
static void test_damage_that_the_master_did_not_hear_is_reported(void **state)
{
	struct wire_have have = {.id = CHUNK, .version = 1, .flags = HAVE_DAMAGED};
	unsigned before = digests;

	/* What is answered is not said again. */
	link_damage(link_here, &have);
	while (serve_one() != OP_CS_DAMAGE)
		;
	serve_beats(5);
	assert_int_equal(digests, before);
	/* Of two, one is lost. */
	deaf = 1;
	link_damage(link_here, &have);
	link_damage(link_here, &have);
	serve_beats(50);
	assert_int_equal(deaf, 0);
	assert_int_equal(damages, 3);
	assert_int_equal(digests, before + 1);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_an_order_is_as_old_as_its_coming),
		cmocka_unit_test_setup_teardown(test_damage_that_the_master_did_not_hear_is_reported,
						setup_link, teardown_link),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
