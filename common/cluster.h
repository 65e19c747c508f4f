/* Where a program finds its cluster: what was given to it, else CAIRN_MASTER and CAIRN_KEY_FILE,
 * else /etc/cairn/client.conf (section [client]: master, key_file, timeout, readahead). */
#ifndef CAIRN_COMMON_CLUSTER_H
#define CAIRN_COMMON_CLUSTER_H

#include <stdint.h>

#include "common/err.h"

struct cluster {
	char *masters;	  /* "host:port[,host:port...]" */
	char *key_file;	  /* absolute when it exists, so that it survives a chdir */
	int64_t timeout_ms;	 /* 0: the library's default */
	int64_t readahead_bytes; /* 0: the library's default; negative: none */
};

/* masters, key_file: what the user gave, or NULL. ERR_CONFIG when one is nowhere to be found or
 * the file does not parse. On failure ret is empty. */
int cluster_find(const char *program, const char *masters, const char *key_file,
		 struct cluster *ret, struct err *err);
void cluster_release(struct cluster *c);

#endif
