/* The command line of cairn-mount: as people expect of a FUSE program, and as mount(8) calls its
 * helpers (mount.cairn MASTERS MOUNTPOINT [-sfnv] -o options). */
#ifndef CAIRN_FUSE_OPTIONS_H
#define CAIRN_FUSE_OPTIONS_H

#include "fuse/fuse.h"

#include <stdbool.h>
#include <stdint.h>

#include "client/cairn.h"
#include "common/err.h"
#include "common/log.h"

enum { MOUNT_IO_BYTES = 1 << 20 }; /* largest read and write request */

struct mount_options {
	char *masters;	  /* NULL: not given */
	char *credentials;	  /* NULL: not given */
	char *mountpoint; /* absolute, resolved */
	char *log_file;	  /* where a daemon's log goes; NULL: nowhere */
	char *fsname;	  /* NULL: not given */
	int64_t timeout_ms;	 /* 0: not given */
	int64_t readahead_bytes; /* 0: not given; negative: none */
	int64_t write_buffer_bytes; /* the same */
	int64_t write_buffer_ms; /* 0: not given */
	enum log_level log_level;
	bool foreground, debug, single_thread, read_only;
	bool no_lease; /* cache nothing */
	bool core_dumps;
	int atime; /* CAIRN_ATIME_ */
	struct fuse_args args; /* what libfuse is to see, but for what _fuse_args adds */
};

/* 0; 1 when --help or --version was answered (exit 0); negative: refused, err says what. */
int mount_options_parse(int argc, char **argv, struct mount_options *ret, struct err *err);
/* Adds to args what libfuse is told whatever the user said. masters: shown as the source. */
int mount_options_fuse_args(struct mount_options *o, const char *masters, struct err *err);
void mount_options_release(struct mount_options *o);

/* "host:port,...:/" as fstab has it: cuts the ":/" off, in place. */
void mount_masters_trim(char *masters);
/* Whether `option` (one of an -o list) is for mount(8), fstab or systemd and not for us. */
bool mount_option_is_foreign(const char *option);

#endif
