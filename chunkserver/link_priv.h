/* The inside of the link, shared by its files: link.c (the thread that owns the connection) and
 * link_work.c (the master's commands, and the threads that carry them out). */
#ifndef CAIRN_CHUNKSERVER_LINK_PRIV_H
#define CAIRN_CHUNKSERVER_LINK_PRIV_H

#include <pthread.h>

#include "chunkserver/link.h"
#include "common/conn.h"

/* Copies and deletions may take long, and the master takes a server that is late with a raise for a
 * failed one: some workers are kept free of the former. */
enum { LINK_WORKERS = 6, LINK_SLOW_MAX = 4, LINK_QUEUE_MAX = 4096, LINK_BACKOFF_MIN_MS = 100,
       LINK_BACKOFF_MAX_MS = 500, LINK_IO_MS = 5000, LINK_REPORT_MS = 30000 };

struct item {
	struct wire_header h; /* commands */
	uint64_t came;	      /* of a command: store_moment() then */
	struct buf bytes;     /* a command's fields, or an encoded message to send */
	struct item *prev, *next;
};

struct queue {
	struct item *items;
	unsigned n;
};

/* A fault that the master has not answered yet. */
struct chain_fault {
	uint64_t id; /* of the request it was sent with last; 0: not sent */
	struct wire_chunk_fault m;
	struct chain_fault *prev, *next;
};

enum { SENT_MAX = 16 };

struct link {
	struct link_options o;
	struct store *store;
	struct conn *conn; /* the link thread's */
	uint32_t heartbeat_ms, lease_ms;
	int64_t answered_ms; /* when the last answer came */
	bool serving;	     /* it has registered and reported */
	/* The requests sent last, and when: an answer renews the lease from then. */
	struct { uint64_t id; int64_t ms; } sent[SENT_MAX];
	unsigned n_sent;
	pthread_t thread, workers[LINK_WORKERS];
	unsigned n_workers;
	int wake_fd; /* eventfd: the out queue has something, or stop */
	/* Protected by lock. */
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct queue commands, slow, out;
	unsigned slow_running;
	uint64_t running[LINK_SLOW_MAX]; /* the ids of these; 0: free */
	struct chain_fault *faults; /* oldest first */
	unsigned n_faults;
	uint64_t generation; /* of the connection: answers to an older one are dropped */
	bool up, stopping;
	bool report_due; /* all is to be reported anew */
	unsigned damages;     /* CS_DAMAGEs of this link that were not answered */
	uint64_t last_damage; /* the id of the last one */
	uint64_t next_id;
};

/* ---- link.c ---- */

void link_item_free(struct item *i);
/* Takes the item, also when there is no room for it: false. */
bool link_queue_add(struct queue *q, struct item *i);
struct item *link_queue_take(struct queue *q);
/* There is something to send. */
void link_wake(struct link *l);

/* ---- link_work.c ---- */

/* Queues a command that has come. */
void link_take_command(struct link *l, const struct wire_header *h, const struct buf *fields);
/* A thread that carries them out; arg: the link. */
void *link_worker(void *arg);
/* What is in hand of the slow commands. Lock held. */
void link_working(struct link *l, struct wire_cs_heartbeat *ret);

#endif
