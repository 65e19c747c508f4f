/* What client/lease.c and client/lease_link.c share. */
#ifndef CAIRN_CLIENT_LEASE_PRIV_H
#define CAIRN_CLIENT_LEASE_PRIV_H

#include <uthash.h>

#include "client/lease.h"

enum { WRITERS_MAX = 8192 };

/* W of one inode: protected by the lease's lock. Stays while busy. */
struct writer {
	uint64_t inode;
	UT_hash_handle hh;
	unsigned busy; /* operations between begin and end */
	bool held;
	bool listed; /* to be named when the link is attached anew */
	/* B: */
	bool buffers;
	unsigned holding; /* what is between lease_buffer_begin and lease_buffer_end */
	bool returning;	  /* recalled or lost: to be returned when nothing is held back any more */
	bool lists_buffer;
	int64_t refused_ms; /* not asked for again before */
};

/* Lock held. */
struct writer *writer_find(struct lease *l, uint64_t inode);
/* Lock held. All was lost: idle rights are gone; those in use are to be listed. */
void writers_lose(struct lease *l);
/* The answer to a recall of W, B or both (RECALL_*): RECALLED_*. */
uint8_t writer_recalled(struct lease *l, uint64_t inode, uint8_t what);

/* The link's thread; arg is the lease. */
void *lease_link(void *arg);
void lease_wake(struct lease *l);

#endif
