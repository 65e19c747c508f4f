/* What a session and an open file are made of. Internal to client/. */
#ifndef CAIRN_CLIENT_CLIENT_H
#define CAIRN_CLIENT_CLIENT_H

#include <stdatomic.h>

#include "client/cairn.h"
#include "client/extents.h"
#include "client/gone.h"
#include "client/hedge.h"
#include "client/inode.h"
#include "client/lease.h"
#include "client/lock.h"
#include "client/peer.h"
#include "client/readahead.h"
#include "client/session.h"
#include "client/writeback.h"
#include "common/waits.h"

enum {
	CLIENT_CONNECT_DEFAULT_MS = 1500,
	CLIENT_DISCONNECT_MS = 4000, /* for saying goodbye to the master */
	CLIENT_READAHEAD_DEFAULT = 8 << 20,
};

struct cairn {
	struct cred cred;
	char name[64];
	int64_t timeout_ms;
	int64_t readahead_bytes; /* 0: none */
	int atime; /* CAIRN_ATIME_ */
	uint64_t salt; /* differs between sessions: where each begins among replicas */
	struct master master;
	struct session session;
	struct peers peers;
	struct hedge hedge;
	struct inodes inodes;
	struct gone gone;
	struct lease lease;
	struct locks locks;
	struct writeback writeback;
	struct readahead_pool readahead;
	pthread_mutex_t files_lock; /* protects files and their links */
	struct cairn_file *files;   /* all that are open */
};

struct cairn_file {
	struct cairn *fs;
	struct inode *inode;
	int flags; /* of open(2) */
	uint64_t change; /* of the file when it was opened */
	atomic_uint losses; /* of its inode's, that it was told of */
	struct readahead readahead;
	struct cairn_file *next, *prev; /* protected by fs->files_lock */
};

/* The deadline of an operation that begins now. */
int64_t client_deadline(const struct cairn *fs);

/* ---- atime.c ---- */

/* `attr` was right when the inode was read: sets its time of access if the session's policy wants
 * that. What goes wrong is not told: the read was well. */
void atime_read(struct cairn *fs, const struct wire_attr *attr);
/* The same for what was read from memory. */
void atime_read_cached(struct cairn *fs, uint64_t inode);

void client_attr(const struct wire_attr *from, struct cairn_attr *ret);
/* What of an answer is in the cache: it may be used until it is recalled. */
struct held {
	bool attr, name;
};
/* Sets attr_ms and name_ms. */
void client_held(struct cairn *fs, struct cairn_attr *attr, const struct held *held);

/* ---- meta.c: the calls below cairn.h's, with codes of err.h ---- */

int meta_getattr(struct cairn *fs, uint64_t inode, struct wire_attr *ret, int64_t deadline_ms,
		 struct err *err);
int meta_getattr_held(struct cairn *fs, uint64_t inode, struct wire_attr *ret, bool *ret_held,
		      int64_t deadline_ms, struct err *err);
/* Of a file that is to be opened with these flags: ERR_ACCES when that is not permitted, unless a kernel
 * has checked it. */
int meta_getattr_to_open(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, int flags,
			 struct wire_attr *ret, struct err *err);
/* held->name also with ERR_NOENT. */
int meta_lookup_held(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		     struct slice name, struct wire_attr *ret, struct held *held, struct err *err);
int meta_lookup(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		struct slice name, struct wire_attr *ret, struct err *err);
int meta_setattr(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, unsigned mask,
		 const struct cairn_attr *attr, struct wire_attr *ret, struct err *err);
/* held, ret_chunk (may be NULL): the first chunk if one was placed (id 0: none). */
int meta_make(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
	      struct slice name, uint32_t mode, uint64_t rdev, const char *target, unsigned flags,
	      struct wire_attr *ret, bool *ret_existed, struct location *ret_chunk,
	      struct held *held, struct err *err);
int meta_link(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, uint64_t parent,
	      struct slice name, struct wire_attr *ret, struct held *held, struct err *err);
int meta_unlink(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		struct slice name, bool dir, struct err *err);
int meta_rename(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		struct slice name, uint64_t new_parent, struct slice new_name, unsigned flags,
		struct err *err);
/* The number of bytes of the target, NUL-terminated in buf; ERR_RANGE when it does not fit. */
ssize_t meta_readlink(struct cairn *fs, uint64_t inode, char *buf, size_t bytes,
		      struct err *err);
/* Whether a write would take a capability (security.capability) away; also when that is not known. */
bool meta_has_capability(struct cairn *fs, uint64_t inode);
/* The last handle of a held inode was closed. */
int meta_release(struct cairn *fs, uint64_t inode, struct err *err);

/* ---- handle.c ---- */

int handle_open(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode, int flags,
		struct cairn_file **ret, struct err *err);
int handle_create(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
		  struct slice name, uint32_t mode, int flags, struct wire_attr *ret_attr,
		  struct held *ret_held, struct cairn_file **ret, struct err *err);
int handle_close(struct cairn_file *file, struct err *err);

/* ---- read.c, write.c, sync.c ---- */

/* One LOCATE, and what it tells about of [offset, offset+bytes): a count, 0 at the file's end.
 * *ret_stamp: of the first of them when it was asked. */
ssize_t inode_read(struct cairn *fs, uint64_t inode, unsigned chunk_bits, void *buf, size_t bytes,
		   uint64_t offset, int64_t deadline_ms, struct readahead_stamp *ret_stamp,
		   struct err *err);
ssize_t file_pread(struct cairn_file *file, void *buf, size_t bytes, uint64_t offset,
		   struct err *err);
ssize_t file_pwrite(struct cairn_file *file, const void *buf, size_t bytes, uint64_t offset,
		    struct err *err);
/* What was held back is sent, with flags (WROTE_HELD and others) and mtime of WROTE; *ret: the answer's
 * attributes, set when something was told to the master, also before a failure. sync: a sync of the file
 * follows. */
int inode_write_held(struct cairn *fs, struct inode *inode, const struct extents *held,
		     uint8_t flags, struct when mtime, bool sync, struct wire_attr *ret,
		     struct err *err);
int file_sync(struct cairn_file *file, struct err *err);
/* For close(2): waits for nothing unless servers are full; 0, or a loss that this file was not told of. */
int file_flush(struct cairn_file *file, struct err *err);
/* What is held back of it is with the servers. ERR_TIMEOUT. */
int file_settle(struct cairn_file *file, struct err *err);
/* 0, or a loss that this file was not told of. */
int file_told(struct cairn_file *file, struct err *err);
/* flags: of WROTE. WROTE_APPEND: offset is the file's end and the session may append (append.c).
 */
int file_write_at(struct cairn_file *file, const uint8_t *data, size_t bytes, uint64_t offset,
		  uint8_t flags, int64_t deadline_ms, struct err *err);
/* The same with bytes that the servers copy: within one chunk of the file. ERR_SOURCE as chunk_copy. */
struct copy_source;
int file_copy_at(struct cairn_file *file, const struct copy_source *from, size_t bytes,
		 uint64_t offset, int64_t deadline_ms, struct err *err);
/* space.c: what lies in [from, end) of the file's present size reads as zeros. Of a hole the blocks are
 * given back. */
int file_zero(struct cairn_file *file, uint64_t from, uint64_t end, bool hole, struct err *err);
/* A WROTE without bytes: blocks that are set aside or given back, and, without WROTE_KEEP_SIZE, an end
 * that the file reaches at least: it is not cut when another client has made it longer. */
int file_tell(struct cairn_file *file, uint64_t offset, uint64_t end, uint8_t flags,
	      int64_t deadline_ms, struct err *err);
/* append.c: where it went is in *ret_offset. */
int file_append(struct cairn_file *file, const uint8_t *data, size_t bytes, uint64_t *ret_offset,
		struct err *err);

#endif
