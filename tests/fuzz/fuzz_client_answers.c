/* What a master or a chunkserver answers to a client: locations, and the answers to three READs on one
 * connection, cut and changed as a hostile server would. The bytes that end up in the caller's memory are
 * within it, and those of a piece that is called done were verified. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/lane.h"
#include "client/location.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/crc.h"
#include "tests/fuzz/fuzz.h"

enum { BYTES = 3 * BLOCK_BYTES, OFFSET = 100, WAIT_MS = 5000, SOCKET_BYTES = 128 << 10 };

static void location_check(const struct wire_chunk *chunk)
{
	struct location loc = {0};

	if (location_from_wire(&loc, chunk, NULL) < 0)
		return;
	if (loc.n_replicas > REPLICAS_MAX || loc.token_len > TOKEN_BYTES_MAX)
		abort();
	for (unsigned i = 0; i < loc.n_replicas; i++)
		if (strnlen(loc.replicas[i].addr, ADDR_BYTES_MAX) == ADDR_BYTES_MAX)
			abort();
}

static void locations(const uint8_t *data, size_t size)
{
	_cleanup_free_ struct wire_locate_reply *located = malloc(sizeof(*located));
	struct cursor c = cursor_of(data, size);
	struct wire_chunk_reply one;

	if (located && wire_locate_reply_get(&c, located) == 0)
		for (unsigned i = 0; i < located->n_chunks; i++)
			location_check(&located->chunks[i]);
	c = cursor_of(data, size);
	if (wire_chunk_reply_get(&c, &one) == 0)
		location_check(&one.chunk);
}

/* The answers to what lane_ask has sent: all that the server will ever say. */
static void answers(const uint8_t *data, size_t size)
{
	_cleanup_free_ struct cairn *fs = calloc(1, sizeof(*fs));
	_cleanup_free_ uint8_t *dest = malloc(BYTES);
	struct location loc = {.id = 7, .version = 1, .flags = CHUNK_WRITTEN, .n_replicas = 1};
	struct lane_job job = {.fs = fs, .loc = &loc, .dest = dest, .n = 3,
			       .deadline_ms = deadline_in(WAIT_MS)};
	struct lane lane = {.job = &job, .alone = true};
	struct conn *c = calloc(1, sizeof(*c));
	int fds[2], r;

	if (!fs || !dest || !c || size > SOCKET_BYTES / 2 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) < 0) {
		free(c);
		return;
	}
	for (unsigned i = 0; i < job.n; i++)
		job.pieces[i] = (struct piece){.at = i * BLOCK_BYTES, .len = BLOCK_BYTES,
					       .offset = i * BLOCK_BYTES + (i ? 0 : OFFSET)};
	job.pieces[0].len -= OFFSET;
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &(int){SOCKET_BYTES}, sizeof(int));
	peers_init(&fs->peers, &fs->cred, WAIT_MS);
	hedge_init(&fs->hedge);
	c->fd = fds[0];
	c->next_id = 1;
	c->fields_max = FIELDS_BYTES_MAX;
	lane.conn = c;
	r = lane_ask(&lane, NULL);
	if (write(fds[1], data, size) != (ssize_t)size)
		r = ERR_IO;
	shutdown(fds[1], SHUT_WR);
	while (r >= 0 && lane.n_flight > 0)
		r = lane_step(&lane, NULL);
	lane_close(&lane);
	peers_release(&fs->peers);
	close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 0 && data[0] % 2 == 0)
		locations(data + 1, size - 1);
	else if (size > 0)
		answers(data + 1, size - 1);
	return 0;
}

static bool seed_answers(struct buf *b)
{
	uint8_t block[BLOCK_BYTES] = "content", sums[4];
	struct wire_read_reply rep = {.sums = slice_of(sums, sizeof(sums))};

	crc_sums(sums, block, 0, sizeof(block));
	buf_u8(b, 1);
	for (uint64_t id = 1; id <= 3; id++) {
		if (wire_put_reply(b, OP_READ, id, 0, &rep, sizeof(block)) < 0)
			return false;
		buf_append(b, block, sizeof(block));
	}
	return buf_status(b) == 0;
}

bool fuzz_seed(unsigned i, struct buf *b)
{
	struct wire_locate_reply located = {.n_chunks = 1};
	struct wire_chunk *chunk = &located.chunks[0];

	if (i > 1)
		return false;
	if (i == 1)
		return seed_answers(b);
	*chunk = (struct wire_chunk){.id = 7, .version = 1, .token = SLICE_LIT("token"), .n_replicas = 2,
				     .replicas = {{.server = 1, .addr = SLICE_LIT("10.0.0.1:7411")},
						  {.server = 2, .addr = SLICE_LIT("10.0.0.2:7411")}}};
	buf_u8(b, 0);
	wire_locate_reply_put(b, &located);
	return true;
}
