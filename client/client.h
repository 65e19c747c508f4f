/* What a session and an open file are made of. Internal to client/. */
#ifndef CAIRN_CLIENT_CLIENT_H
#define CAIRN_CLIENT_CLIENT_H

#include "client/cairn.h"
#include "client/hedge.h"
#include "client/inode.h"
#include "client/peer.h"
#include "client/readahead.h"
#include "client/session.h"
#include "common/waits.h"

enum {
	CLIENT_CONNECT_DEFAULT_MS = 1500,
	CLIENT_DISCONNECT_MS = 4000, /* for saying goodbye to the master */
	CLIENT_READAHEAD_DEFAULT = 8 << 20,
};

struct cairn {
	struct auth_key key;
	char name[64];
	int64_t timeout_ms;
	int64_t readahead_bytes; /* 0: none */
	uint64_t salt; /* differs between sessions: where each begins among replicas */
	struct master master;
	struct session session;
	struct peers peers;
	struct hedge hedge;
	struct inodes inodes;
	struct readahead_pool readahead;
	pthread_mutex_t files_lock; /* protects files and their links */
	struct cairn_file *files;   /* all that are open */
};

struct cairn_file {
	struct cairn *fs;
	struct inode *inode;
	int flags; /* of open(2) */
	struct readahead readahead;
	struct cairn_file *next, *prev; /* protected by fs->files_lock */
};

/* The deadline of an operation that begins now. */
int64_t client_deadline(const struct cairn *fs);

/* cred, or the process's own for NULL. */
void client_cred(const struct cairn_cred *cred, struct wire_cred *ret);
void client_attr(const struct wire_attr *from, struct cairn_attr *ret);

/* ---- meta.c: the calls below cairn.h's, with codes of err.h ---- */

int meta_getattr(struct cairn *fs, uint64_t inode, struct wire_attr *ret, int64_t deadline_ms,
		 struct err *err);
int meta_lookup(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		struct slice name, struct wire_attr *ret, struct err *err);
int meta_setattr(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, unsigned mask,
		 const struct cairn_attr *attr, struct wire_attr *ret, struct err *err);
/* ret_chunk, ret_change (may be NULL): the first chunk if one was placed (id 0: none). */
int meta_make(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
	      struct slice name, uint32_t mode, uint64_t rdev, const char *target, unsigned flags,
	      struct wire_attr *ret, bool *ret_existed, struct location *ret_chunk,
	      struct err *err);
int meta_link(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, uint64_t parent,
	      struct slice name, struct wire_attr *ret, struct err *err);
int meta_unlink(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		struct slice name, bool dir, struct err *err);
int meta_rename(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		struct slice name, uint64_t new_parent, struct slice new_name, unsigned flags,
		struct err *err);
/* The number of bytes of the target, NUL-terminated in buf; ERR_RANGE when it does not fit. */
ssize_t meta_readlink(struct cairn *fs, uint64_t inode, char *buf, size_t bytes,
		      struct err *err);
/* The last handle of a held inode was closed. */
int meta_release(struct cairn *fs, uint64_t inode, struct err *err);

/* ---- handle.c ---- */

int handle_open(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, int flags,
		struct cairn_file **ret, struct err *err);
int handle_create(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		  struct slice name, uint32_t mode, int flags, struct wire_attr *ret_attr,
		  struct cairn_file **ret, struct err *err);
int handle_close(struct cairn_file *file, struct err *err);

/* ---- read.c, write.c, sync.c ---- */

/* One LOCATE, and what it tells about of [offset, offset+bytes): a count, 0 at the file's end.
 * *ret_change: of the file when it was asked. */
ssize_t inode_read(struct cairn *fs, uint64_t inode, unsigned chunk_bits, void *buf, size_t bytes,
		   uint64_t offset, int64_t deadline_ms, uint64_t *ret_change, struct err *err);
ssize_t file_pread(struct cairn_file *file, void *buf, size_t bytes, uint64_t offset,
		   struct err *err);
ssize_t file_pwrite(struct cairn_file *file, const void *buf, size_t bytes, uint64_t offset,
		    struct err *err);
int file_sync(struct cairn_file *file, struct err *err);

#endif
