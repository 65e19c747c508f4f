/* raw_port token MASTER CREDENTIALS INODE: what a client is told of a file's first chunk, on one line:
 * its id, version, the access token, and the address of each replica.
 * raw_port read|write|sync|sums|copy ADDR CREDENTIALS CHUNK VERSION [TOKEN [trap]]: one request to a data
 * port, as a client sends it that has asked the master long ago, or never (TOKEN "" or none), or as
 * another chunkserver does, by its credentials. trap: it names a server of our own as the next one of
 * the chain, or as the source of the copy. Prints the outcome's name, "OK" for success; then
 * " DIALLED" if somebody connected to that server. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"
#include "common/crc.h"

enum { WAIT_MS = 10000, ROLES = CRED_ROLES_CLIENT | 1 << ROLE_CHUNKSERVER };

struct request {
	const char *op;
	uint64_t chunk;
	uint32_t version;
	struct slice token;
	struct wire_replica trap; /* without an address: none */
};

static struct slice hex(const char *text, uint8_t *room)
{
	uint32_t n = 0;

	for (; text && n < TOKEN_BYTES_MAX && sscanf(text, "%2hhx", &room[n]) == 1; text += 2)
		n++;
	return slice_of(room, n);
}

/* Sends a message with its data, and takes the head of the answer: data may follow, and is left. */
static int exchange(struct conn *c, struct slice message, const void *data, size_t len,
		    struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_header h;
	int r = conn_send(c, message, data, len, deadline_in(WAIT_MS), err);

	if (r == 0)
		r = conn_recv(c, &h, &fields, deadline_in(WAIT_MS), err);
	return r < 0 ? r : h.status;
}

static int call_read(struct conn *c, const struct request *q, struct err *err)
{
	_cleanup_buf_ struct buf out = {0};
	struct wire_read m = {.chunk = q->chunk, .version = q->version, .len = BLOCK_BYTES,
			      .token = q->token};
	int r = wire_put_request(&out, OP_READ, 1, 0, &m, 0);

	return r < 0 ? r : exchange(c, buf_slice(&out), NULL, 0, err);
}

static int call_write(struct conn *c, const struct request *q, struct err *err)
{
	_cleanup_buf_ struct buf out = {0};
	uint8_t data[BLOCK_BYTES] = "late", sums[4];
	struct wire_write m = {.chunk = q->chunk, .version = q->version, .flags = WRITE_CREATE,
			       .chunk_bits = CHUNK_BITS_DEFAULT, .token = q->token,
			       .sums = slice_of(sums, sizeof(sums))};
	int r;

	crc_sums(sums, data, 0, sizeof(data));
	if (q->trap.addr.len > 0)
		m.chain[m.n_chain++] = q->trap;
	r = wire_put_request(&out, OP_WRITE, 1, 0, &m, sizeof(data));
	return r < 0 ? r : exchange(c, buf_slice(&out), data, sizeof(data), err);
}

static int call(struct conn *c, const struct request *q, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	int64_t deadline = deadline_in(WAIT_MS);
	struct wire_sums sums = {.chunk = q->chunk, .version = q->version, .token = q->token};
	struct wire_sync sync = {.chunk = q->chunk, .version = q->version, .token = q->token};
	struct wire_copy copy = {.source = q->chunk, .source_version = q->version, .len = 1,
				 .source_token = q->token,
				 .to = {.chunk = q->chunk, .version = q->version, .token = q->token,
					.chunk_bits = CHUNK_BITS_DEFAULT, .flags = WRITE_CREATE}};
	struct wire_sums_reply sums_reply;
	struct wire_empty empty;

	if (q->trap.addr.len > 0) {
		sync.chain[sync.n_chain++] = q->trap;
		copy.from[copy.n_from++] = q->trap;
	}
	if (strcmp(q->op, "write") == 0)
		return call_write(c, q, err);
	if (strcmp(q->op, "read") == 0)
		return call_read(c, q, err);
	if (strcmp(q->op, "sums") == 0)
		return conn_call(c, OP_SUMS, 0, &sums, &sums_reply, &fields, deadline, err);
	if (strcmp(q->op, "sync") == 0)
		return conn_call(c, OP_SYNC, 0, &sync, &empty, &fields, deadline, err);
	return conn_call(c, OP_COPY, 0, &copy, &empty, &fields, deadline, err);
}

static int ask_token(const char *master, const struct cred *cred, uint64_t inode, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_locate req = {.inode = inode, .count = 1};
	struct wire_locate_reply rep;
	struct conn *c = NULL;
	int r = conn_dial(master, cred, ROLE_MASTER, deadline_in(WAIT_MS), &c, err);

	if (r == 0)
		r = conn_call(c, OP_LOCATE, 0, &req, &rep, &fields, deadline_in(WAIT_MS), err);
	if (r == 0 && rep.n_chunks == 0)
		r = err_set(err, ERR_NO_CHUNK, "no chunk");
	if (r == 0) {
		printf("%016llx %u ", (unsigned long long)rep.chunks[0].id, rep.chunks[0].version);
		for (unsigned i = 0; i < rep.chunks[0].token.len; i++)
			printf("%02x", rep.chunks[0].token.data[i]);
		for (unsigned i = 0; i < rep.chunks[0].n_replicas; i++)
			printf(" %.*s", (int)rep.chunks[0].replicas[i].addr.len,
			       rep.chunks[0].replicas[i].addr.data);
		putchar('\n');
	}
	conn_free(c);
	return r;
}

static int ask_port(const struct cred *cred, int argc, char **argv, struct err *err)
{
	_cleanup_fd_ int fd = -1;
	uint8_t token[TOKEN_BYTES_MAX];
	char trap[ADDR_BYTES_MAX] = "";
	struct request q = {.op = argv[1], .chunk = strtoull(argv[4], NULL, 16),
			    .version = (uint32_t)strtoul(argv[5], NULL, 10),
			    .token = hex(argc > 6 ? argv[6] : NULL, token)};
	struct conn *c = NULL;
	int r = argc > 7 ? conn_listen("127.0.0.1:0", &fd, trap, err) : 0;

	q.trap = (struct wire_replica){.server = 1, .addr = slice_str(trap)};
	if (r == 0)
		r = conn_dial(argv[2], cred, ROLE_CHUNKSERVER, deadline_in(WAIT_MS), &c, err);
	if (r == 0)
		r = call(c, &q, err);
	printf("%s%s\n", r == 0 ? "OK" : err_name(r),
	       fd >= 0 && poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) > 0 ? " DIALLED" : "");
	conn_free(c);
	return r;
}

int main(int argc, char **argv)
{
	struct cred cred = {0};
	struct err err = {0};
	bool token = argc == 5 && strcmp(argv[1], "token") == 0;
	int r;

	if (!token && argc < 6)
		return 2;
	r = cred_load(&cred, argv[3], NULL, ROLES, "test", &err);
	if (r == 0 && token)
		r = ask_token(argv[2], &cred, strtoull(argv[4], NULL, 0), &err);
	else if (r == 0)
		r = ask_port(&cred, argc, argv, &err);
	if (r < 0)
		fprintf(stderr, "%s\n", err_message(&err));
	cred_release(&cred);
	return token && r < 0;
}
