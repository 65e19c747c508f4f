/* The link to the master: registration, report, heartbeats, and the master's commands.
 *
 * One thread owns the connection. Others hand it messages (link_damage, link_fault, answers of
 * commands) through a queue. Commands run on a few worker threads, so that heartbeats go on while
 * a chunk is copied. A master that does not answer heartbeats for as long as the lease lasts is
 * taken for gone: the connection is given up and another is tried, as after a broken one. */
#ifndef CAIRN_CHUNKSERVER_LINK_H
#define CAIRN_CHUNKSERVER_LINK_H

#include "chunkserver/keys.h"
#include "chunkserver/lease.h"
#include "chunkserver/store.h"
#include "common/cred.h"
#include "common/conf.h"

struct link;

struct link_options {
	const struct conf_list *masters;
	const struct cred *cred; /* not owned */
	const char *addr, *rack, *host;
	struct lease *lease;	/* renewed here */
	struct keys *keys;	/* told here */
	int64_t report_interval_ms; /* how often everything is compared with the master */
	unsigned (*load)(void); /* requests in progress */
	uint64_t (*refused)(void); /* for want of a valid token, so far */
	void (*scrub)(struct wire_scrub *ret); /* how far it is */
};

int link_start(const struct link_options *options, struct store *store, struct link **ret,
	       struct err *err);
void link_stop(struct link *l);

/* Any thread; never blocks. Dropped while there is no link: the next report says it again, as it does
 * when a master does not answer. */
void link_damage(struct link *l, const struct wire_have *have);
/* As link_damage; but the last FAULTS_MAX are kept until the master has answered, over broken
 * links. */
enum { FAULTS_MAX = 256 };
void link_fault(struct link *l, uint64_t chunk, uint32_t version, uint32_t server, int reason);

/* Everything here is told anew, as at registration: what the master believes and is not so differs
 * in a digest. */
void link_report_anew(struct link *l);

#endif
