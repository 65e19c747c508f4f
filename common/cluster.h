/* Where a program finds its cluster: what was given to it, else CAIRN_MASTER and CAIRN_CREDENTIALS,
 * else /etc/cairn/client.conf (section [client]: master, credentials, allow_plaintext, timeout,
 * readahead); credentials are then in /etc/cairn/tls. CAIRN_ALLOW_PLAINTEXT and CAIRN_TIMEOUT go
 * before the file too. */
#ifndef CAIRN_COMMON_CLUSTER_H
#define CAIRN_COMMON_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct cluster {
	char *masters;	  /* "host:port[,host:port...]" */
	char *credentials; /* directory of a certificate or file of a shared key; absolute when it
			    * exists, so that it survives a chdir */
	bool allow_plaintext;
	int64_t timeout_ms;	 /* 0: the library's default */
	int64_t readahead_bytes; /* 0: the library's default; negative: none */
};

/* masters, credentials: what the user gave, or NULL. ERR_CONFIG when one is nowhere to be found or
 * the file does not parse. On failure ret is empty. */
int cluster_find(const char *program, const char *masters, const char *credentials,
		 struct cluster *ret, struct err *err);
void cluster_release(struct cluster *c);

#endif
