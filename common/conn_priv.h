/* The inside of common/conn.h: conn.c (bytes and messages), conn_setup.c (dialling and accepting). */
#ifndef CAIRN_COMMON_CONN_PRIV_H
#define CAIRN_COMMON_CONN_PRIV_H

#include "common/conn.h"

/* Marks it broken; returns code. */
int conn_break(struct conn *c, int code);
/* The same for the system's reason. */
int conn_lost(struct conn *c, int eno, struct err *err);
/* Waits until poll(2) tells of one of the events. */
int conn_wait(struct conn *c, short events, int64_t deadline_ms, struct err *err);
/* Over TLS: sends what waits in tls->out. */
int conn_flush(struct conn *c, int64_t deadline_ms, struct err *err);
/* At most len bytes of what is there, without waiting: *ret_n 0 when there is nothing. Not from rbuf. */
int conn_read_now(struct conn *c, void *data, size_t len, size_t *ret_n, struct err *err);
/* What the fault file says of a message that came: 1 it is lost, 0, or a broken connection. */
int conn_recv_fault(struct conn *c, const uint8_t *header, const struct wire_header *h,
		    struct err *err);

#endif
