/* raw_port read|write ADDR CREDENTIALS CHUNK VERSION [CHUNK_BITS]: one request to a data port, as a
 * client sends it that has asked the master long ago. Prints the outcome's name, "OK" for success. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/conn.h"
#include "common/crc.h"

enum { WAIT_MS = 10000 };

static int call(struct conn *c, char **argv, struct err *err)
{
	struct wire_read read = {.chunk = strtoull(argv[4], NULL, 16), .len = BLOCK_BYTES,
				 .version = (uint32_t)strtoul(argv[5], NULL, 10)};
	struct wire_write write = {.chunk = read.chunk, .version = read.version,
				   .flags = WRITE_CREATE,
				   .chunk_bits = (uint8_t)(argv[6] ? strtoul(argv[6], NULL, 10)
								   : CHUNK_BITS_DEFAULT)};
	bool writes = strcmp(argv[1], "write") == 0;
	struct buf out = {0}, fields = {0};
	uint8_t data[BLOCK_BYTES] = "late", sums[4];
	struct wire_header h;
	int r;

	crc_sums(sums, data, 0, sizeof(data));
	write.sums = slice_of(sums, sizeof(sums));
	r = writes ? wire_put_request(&out, OP_WRITE, 1, 0, &write, sizeof(data))
		   : wire_put_request(&out, OP_READ, 1, 0, &read, 0);
	if (r == 0)
		r = conn_send(c, buf_slice(&out), data, writes ? sizeof(data) : 0,
			      deadline_in(WAIT_MS), err);
	if (r == 0)
		r = conn_recv(c, &h, &fields, deadline_in(WAIT_MS), err);
	if (r == 0)
		r = h.status;
	buf_release(&out);
	buf_release(&fields);
	return r;
}

int main(int argc, char **argv)
{
	struct cred cred;
	struct err err = {0};
	struct conn *c = NULL;
	int r;

	if (argc < 6)
		return 2;
	r = cred_load(&cred, argv[3], NULL, CRED_ROLES_CLIENT, "test", &err);
	if (r == 0)
		r = conn_dial(argv[2], &cred, ROLE_CHUNKSERVER, deadline_in(WAIT_MS), &c, &err);
	if (r == 0)
		r = call(c, argv, &err);
	puts(r == 0 ? "OK" : err_name(r));
	conn_free(c);
	return 0;
}
