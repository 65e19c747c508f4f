/* Connections that mean no good. Each prints lines and ends with status 0.
 *   flood idle ADDR N        N connections that send a byte of nonsense header a second and never get
 *                            further; "N closed" when the other side has closed them all
 *   flood partial ADDR KEY   authenticated, and says so; a message of which a byte comes every 100 ms;
 *                            "closed"
 *   flood deaf ADDR KEY N    authenticated; asks without reading answers, N requests a write, until it is
 *                            not read from any more ("blocked"), then reads the answers to all requests
 *                            that were sent whole: "resumed"
 * Another outcome within LIMIT_MS: "open". */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/conn.h"

enum { LIMIT_MS = 40000, IDLE_MAX = 2000, DIAL_MS = 5000, PART_MS = 100,
       BLOCKED_MS = 2000 };

static int dial_raw(const char *addr)
{
	char host[ADDR_BYTES_MAX], port[8];
	struct sockaddr_in sa = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || addr_split(addr, host, port, NULL) < 0)
		return -1;
	sa.sin_port = htons((uint16_t)atoi(port));
	if (inet_pton(AF_INET, host, &sa.sin_addr) != 1 ||
	    connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool gone(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static int idle(const char *addr, int n)
{
	static int fds[IDLE_MAX];
	int64_t deadline = deadline_in(LIMIT_MS);
	int closed = 0;

	for (int i = 0; i < n; i++)
		fds[i] = dial_raw(addr);
	puts("flooding");
	fflush(stdout);
	for (int second = 0; closed < n && deadline_left(deadline) > 0; second++) {
		for (int i = 0; i < n; i++) {
			if (fds[i] < 0)
				continue;
			/* The first bytes of a good header: nothing to refuse yet. */
			if (gone(fds[i]) || send(fds[i], &"CRN1"[second % 4], second < 4, 0) < 0) {
				close(fds[i]);
				fds[i] = -1;
			}
		}
		closed = 0;
		for (int i = 0; i < n; i++)
			closed += fds[i] < 0;
		poll(NULL, 0, 1000); /* the pace of the flood, not a wait for something */
	}
	printf("%d closed\n", closed);
	return 0;
}

static void put_request(struct buf *b, uint64_t id)
{
	struct wire_inode_ref ref = {.inode = 1};

	wire_put_request(b, OP_GETATTR, id, 0, &ref, 0);
}

static const char *partial(struct conn *c)
{
	int64_t deadline = deadline_in(LIMIT_MS);
	_cleanup_buf_ struct buf b = {0};

	puts("authenticated");
	fflush(stdout);
	put_request(&b, 1);
	for (size_t i = 0; deadline_left(deadline) > 0; i++) {
		/* The last byte never comes: the pace alone would not end it. */
		if (i + 1 < b.len && conn_send_raw(c, b.data + i, 1, deadline_in(DIAL_MS), NULL) < 0)
			return "closed";
		if (gone(c->fd))
			return "closed";
		poll(NULL, 0, PART_MS);
	}
	return "open";
}

static const char *deaf(struct conn *c, int at_once)
{
	_cleanup_buf_ struct buf b = {0}, fields = {0};
	struct wire_header h;
	int64_t deadline;
	uint64_t sent = 0;
	int r = 0;

	while (r == 0) {
		buf_clear(&b);
		for (int i = 1; i <= at_once; i++)
			put_request(&b, sent + (uint64_t)i);
		r = conn_send(c, buf_slice(&b), NULL, 0, deadline_in(BLOCKED_MS), NULL);
		if (r == 0)
			sent += (uint64_t)at_once;
	}
	if (r != ERR_TIMEOUT)
		return "closed";
	puts("blocked");
	deadline = deadline_in(LIMIT_MS);
	for (uint64_t i = 0; i < sent; i++)
		if (conn_recv(c, &h, &fields, deadline, NULL) < 0)
			return "stuck";
	return "resumed";
}

int main(int argc, char **argv)
{
	struct cred cred;
	struct conn *c = NULL;
	struct err err = {0};

	signal(SIGPIPE, SIG_IGN);
	if (argc != (argc > 1 && strcmp(argv[1], "deaf") == 0 ? 5 : 4))
		return 2;
	if (strcmp(argv[1], "idle") == 0)
		return idle(argv[2], atoi(argv[3]) < IDLE_MAX ? atoi(argv[3]) : IDLE_MAX);
	if (cred_load(&cred, argv[3], NULL, CRED_ROLES_CLIENT, "flood", &err) < 0 ||
	    conn_dial(argv[2], &cred, ROLE_MASTER, deadline_in(DIAL_MS), &c, &err) < 0) {
		fprintf(stderr, "%s\n", err_message(&err));
		return 1;
	}
	puts(strcmp(argv[1], "partial") == 0 ? partial(c) : deaf(c, atoi(argv[4])));
	conn_free(c);
	cred_release(&cred);
	return 0;
}
