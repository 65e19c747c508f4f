/* libcairn: the Cairn distributed file system for programs.
 *
 * A `struct cairn` is a session with one cluster; a `struct cairn_file` is an open file. Both may
 * be used from several threads at once. Functions return 0 or a non-negative count, or a
 * negative errno value (-ENOENT); cairn_error() then tells more: which chunk on which server.
 * They block, but no longer than the configured time-out, after which they fail with -EIO or
 * -ETIMEDOUT. A signal does not interrupt them.
 *
 * Coherence: a completed write, create, rename or unlink is seen by every other client at once.
 * Durability: a completed namespace operation survives the loss of any one server and power loss;
 * written data does from cairn_fsync() on.
 *
 * Two layers: inode calls (what a FUSE daemon needs; names are single components) and path calls
 * (absolute paths, "/" separated, symlinks followed as by the system call of the same name).
 */
#ifndef CAIRN_H
#define CAIRN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CAIRN_API __attribute__((visibility("default")))

enum { CAIRN_ROOT = 1, CAIRN_GROUPS_MAX = 64 };

/* ---- sessions ---- */

struct cairn;

struct cairn_options {
	const char *masters;   /* "host:port[,host:port...]"; required */
	const char *key_file;  /* the cluster's shared key; required */
	const char *name;      /* shown in the servers' logs; NULL: program and pid */
	int64_t timeout_ms;    /* limit of every operation; 0: 30,000 */
	int64_t connect_ms;    /* limit of one connection attempt; 0: 1,500 */
	int64_t readahead_bytes; /* per sequential stream; 0: 8 MiB; negative: none */
};

/* Connects and opens a session. On failure *ret is NULL and errbuf (may be NULL) holds a line
 * that names the master and the reason. */
CAIRN_API int cairn_connect(const struct cairn_options *options, struct cairn **ret,
			    char *errbuf, size_t errbuf_bytes);
/* For a program that must end now: calls under way that wait for the master fail with -EIO, later
 * ones do at once. Any thread; only cairn_disconnect is of use afterwards. */
CAIRN_API void cairn_abort(struct cairn *fs);
/* Closes the session and all files still open, within a few seconds also when the master cannot be
 * reached (the session then ends by expiry). NULL is fine. */
CAIRN_API void cairn_disconnect(struct cairn *fs);

/* The text of the calling thread's last failure; never NULL. */
CAIRN_API const char *cairn_error(void);
CAIRN_API const char *cairn_version(void);

/* ---- types ---- */

/* Who does it. A NULL cred is the process's own effective ids, groups and a umask of 0. */
struct cairn_cred {
	uint32_t uid, gid, umask;
	uint32_t n_groups;
	uint32_t groups[CAIRN_GROUPS_MAX];
};

struct cairn_attr {
	uint64_t inode;
	uint32_t mode; /* type and permissions, as st_mode */
	uint32_t nlink;
	uint32_t uid, gid;
	uint64_t rdev;
	uint64_t size;
	uint64_t blocks; /* of 512 bytes */
	struct timespec atime, mtime, ctime, btime;
	uint64_t change; /* grows with every change of data or attributes */
	uint64_t parent; /* of a directory: its `..` */
};

/* What cairn_setattr sets. */
enum {
	CAIRN_SET_MODE = 1, CAIRN_SET_UID = 2, CAIRN_SET_GID = 4, CAIRN_SET_SIZE = 8,
	CAIRN_SET_ATIME = 16, CAIRN_SET_MTIME = 32,
	CAIRN_SET_ATIME_NOW = 64, CAIRN_SET_MTIME_NOW = 128,
};

CAIRN_API void cairn_attr_to_stat(const struct cairn_attr *attr, struct stat *ret);

/* ---- inode calls: cred first, names are single components of 1..255 bytes ---- */

CAIRN_API int cairn_lookup(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
			   const char *name, struct cairn_attr *ret);
CAIRN_API int cairn_getattr(struct cairn *fs, uint64_t inode, struct cairn_attr *ret);
CAIRN_API int cairn_setattr(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
			    unsigned mask, const struct cairn_attr *attr, struct cairn_attr *ret);
/* Directory, fifo, socket, device, symlink (target) or regular file, by the type in mode. The
 * mode is used as given: apply the umask before. flags: O_EXCL as in open(2): without it an
 * existing regular file is answered when a regular file was asked for; others are -EEXIST. */
CAIRN_API int cairn_make(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
			 const char *name, uint32_t mode, uint64_t rdev, const char *target,
			 int flags, struct cairn_attr *ret);
CAIRN_API int cairn_link_inode(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
			       uint64_t parent, const char *name, struct cairn_attr *ret);
/* dir: rmdir instead of unlink. A file that this session has open lives on until its close. */
CAIRN_API int cairn_unlink_at(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
			      const char *name, bool dir);
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE of renameat2(2). */
CAIRN_API int cairn_rename_at(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
			      const char *name, uint64_t new_parent, const char *new_name,
			      unsigned flags);
/* The target, NUL-terminated; the number of its bytes, or -ERANGE when it does not fit. */
CAIRN_API ssize_t cairn_readlink_inode(struct cairn *fs, uint64_t inode, char *buf, size_t bytes);

/* Calls fn for each entry from `cookie` on (0: the start; an entry's cookie: after it), "." and
 * ".." included, until the end or until fn returns non-zero. Returns 1 at the end, 0 when fn
 * stopped it. */
typedef int (*cairn_dirent_fn)(void *arg, const char *name, uint64_t cookie,
			       const struct cairn_attr *attr);
CAIRN_API int cairn_readdir(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
			    uint64_t cookie, cairn_dirent_fn fn, void *arg);

/* As getxattr(2) and friends: bytes 0 asks for the size. flags: XATTR_CREATE, XATTR_REPLACE. */
CAIRN_API ssize_t cairn_getxattr_inode(struct cairn *fs, uint64_t inode, const char *name,
				       void *buf, size_t bytes);
CAIRN_API ssize_t cairn_listxattr_inode(struct cairn *fs, uint64_t inode, char *buf, size_t bytes);
CAIRN_API int cairn_setxattr_inode(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
				   const char *name, const void *value, size_t bytes, int flags);
CAIRN_API int cairn_removexattr_inode(struct cairn *fs, const struct cairn_cred *cred,
				      uint64_t inode, const char *name);

struct cairn_statfs {
	uint64_t total_bytes, free_bytes; /* raw bytes divided by the number of copies */
	uint64_t inodes;
};
CAIRN_API int cairn_statfs(struct cairn *fs, struct cairn_statfs *ret);

/* ---- files ---- */

struct cairn_file;

/* flags: O_RDONLY, O_WRONLY, O_RDWR, O_APPEND, O_TRUNC, O_SYNC, O_DSYNC. */
CAIRN_API int cairn_open_inode(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
			       int flags, struct cairn_file **ret);
/* Creates (O_EXCL: it must be new) and opens in one round trip. */
CAIRN_API int cairn_create_at(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
			      const char *name, uint32_t mode, int flags, struct cairn_attr *ret_attr,
			      struct cairn_file **ret);
CAIRN_API uint64_t cairn_file_inode(const struct cairn_file *file);
/* Positioned; count of bytes read: less than asked only at the end of the file. */
CAIRN_API ssize_t cairn_pread(struct cairn_file *file, void *buf, size_t bytes, uint64_t offset);
/* All bytes, or an error (then a prefix may have been written). With O_APPEND the offset is the
 * end of the file as the master knows it: appends of one session follow each other; of
 * two sessions that append at the same moment one may still overwrite the other. */
CAIRN_API ssize_t cairn_pwrite(struct cairn_file *file, const void *buf, size_t bytes,
			       uint64_t offset);
/* After it returns 0, the bytes are on stable storage on every replica. */
CAIRN_API int cairn_fsync(struct cairn_file *file);
CAIRN_API int cairn_ftruncate(struct cairn_file *file, uint64_t size);
CAIRN_API int cairn_close(struct cairn_file *file);

/* ---- path calls ---- */

CAIRN_API int cairn_resolve(struct cairn *fs, const char *path, bool follow,
			    struct cairn_attr *ret);
/* The directory of the last component, and that component (a copy, NAME_MAX+1 bytes). */
CAIRN_API int cairn_resolve_parent(struct cairn *fs, const char *path, uint64_t *ret_parent,
				   char *ret_name);
CAIRN_API int cairn_open(struct cairn *fs, const char *path, int flags, mode_t mode,
			 struct cairn_file **ret); /* O_CREAT, O_EXCL too */
CAIRN_API int cairn_stat(struct cairn *fs, const char *path, struct stat *ret);
CAIRN_API int cairn_lstat(struct cairn *fs, const char *path, struct stat *ret);
CAIRN_API int cairn_fstat(struct cairn_file *file, struct stat *ret);
CAIRN_API int cairn_mkdir(struct cairn *fs, const char *path, mode_t mode);
CAIRN_API int cairn_rmdir(struct cairn *fs, const char *path);
CAIRN_API int cairn_unlink(struct cairn *fs, const char *path);
CAIRN_API int cairn_rename(struct cairn *fs, const char *from, const char *to);
CAIRN_API int cairn_link(struct cairn *fs, const char *from, const char *to);
CAIRN_API int cairn_symlink(struct cairn *fs, const char *target, const char *path);
CAIRN_API ssize_t cairn_readlink(struct cairn *fs, const char *path, char *buf, size_t bytes);
CAIRN_API int cairn_truncate(struct cairn *fs, const char *path, uint64_t size);
CAIRN_API int cairn_chmod(struct cairn *fs, const char *path, mode_t mode);
CAIRN_API int cairn_chown(struct cairn *fs, const char *path, uid_t uid, gid_t gid);
CAIRN_API int cairn_utimens(struct cairn *fs, const char *path, const struct timespec times[2]);
CAIRN_API int cairn_append(struct cairn *fs, const char *path, const void *buf, size_t bytes);

/* ---- looking behind: for `cairn stat` and `cairn status` ---- */

struct cairn_replica_info {
	uint32_t server;
	char addr[128];
};
struct cairn_chunk_info {
	uint64_t index, id; /* id 0: a hole */
	uint32_t version;
	bool written;
	unsigned n_replicas;
	struct cairn_replica_info replicas[8];
};
typedef int (*cairn_chunk_fn)(void *arg, const struct cairn_chunk_info *chunk);
CAIRN_API int cairn_chunks(struct cairn *fs, uint64_t inode, cairn_chunk_fn fn, void *arg);

/* SUSPECT: silent for longer than it should be; it still counts, but gets nothing new. */
enum { CAIRN_SERVER_DOWN = 0, CAIRN_SERVER_REPORTING = 1, CAIRN_SERVER_UP = 2,
       CAIRN_SERVER_SUSPECT = 3 };
/* A walk that checks: `checked` of `total` in its present round, `bad` found so far, `rounds` ended,
 * the last one at `ended` (0: none). */
struct cairn_progress {
	uint64_t checked, total, bad, rounds;
	struct timespec ended;
};
struct cairn_server_info {
	uint32_t id;
	int state;
	bool draining;
	char addr[128], rack[64], host[64], uuid[40];
	uint64_t total_bytes, free_bytes, chunks;
	uint64_t members;   /* chunks of which it is to have a copy: what a drain has left */
	uint64_t silent_ms; /* since it was heard of last */
	uint32_t disks, disks_bad;
	struct cairn_progress scrub; /* of its replicas */
};
struct cairn_status {
	char cluster[40];
	uint64_t applied, durable; /* raft indices */
	uint64_t inodes, chunks, chunks_under_goal, chunks_pending, garbage;
	uint32_t sessions;
	bool held;		/* nothing is deleted that an imported state does not know */
	uint32_t repairs, moves; /* chunks being mended, chunks being moved for balance */
	uint64_t queue[8];	/* chunks that wait for repair and have n live copies */
	struct cairn_progress compare; /* of replicas with each other; bad: they differed */
	size_t n_servers;
	struct cairn_server_info *servers;
};
CAIRN_API int cairn_status(struct cairn *fs, struct cairn_status **ret);
CAIRN_API void cairn_status_free(struct cairn_status *status);
/* Whether a server is to be emptied: it serves what it has until that is replaced elsewhere, and
 * gets nothing new. Done when `members` of its status is 0. -ENOENT: there is no such server. */
CAIRN_API int cairn_server_drain(struct cairn *fs, uint32_t server, bool drain);

/* ---- recovery ---- */

struct cairn_backup_info {
	uint64_t applied; /* the log entry that it is the state after */
	uint64_t rows, bytes;
};
/* Writes the metadata as the master has it on disk now to a local file ("-": standard output),
 * while the master goes on; `cairn-master --import` restores it. The file is whole and on stable storage
 * when this returns 0, and not there otherwise. -EBUSY: other backups are being taken. */
CAIRN_API int cairn_backup(struct cairn *fs, const char *path, struct cairn_backup_info *ret);

/* A chunk that is not as it should be. */
enum {
	CAIRN_FSCK_MISSING = 1,	   /* no good copy is there now: reading fails */
	CAIRN_FSCK_UNDER_GOAL = 2, /* fewer copies than wanted */
	CAIRN_FSCK_DAMAGED = 3,	   /* one of the copies is damaged or to be compared */
	CAIRN_FSCK_PENDING = 4,	   /* it is being changed */
};
enum { CAIRN_REPLICA_GOOD = 1, CAIRN_REPLICA_AWAY = 2, CAIRN_REPLICA_DAMAGED = 3,
       CAIRN_REPLICA_UNCLEAN = 4 /* to be compared with the others */ };
struct cairn_fsck_replica {
	uint32_t server;
	int state;
	char addr[128];
};
struct cairn_fsck_chunk {
	uint64_t id, inode, index; /* index: of the chunk in the file */
	uint32_t version;
	const char *path; /* of one name of the file; "" when it has none that was found */
	int problem;
	unsigned live, copies; /* good ones that are there, and how many are wanted */
	unsigned n_replicas;
	struct cairn_fsck_replica replicas[8];
};
struct cairn_fsck_summary {
	uint64_t chunks; /* looked at */
	bool held;	 /* see cairn_hold */
	uint64_t kept_replicas, kept_chunks; /* not known to the metadata: at least so many */
};
/* Looks at every chunk, as the master knows it now, and calls fn for those that are not well, in
 * the order of their ids. Ends with 0 when fn returns non-zero. */
typedef int (*cairn_fsck_fn)(void *arg, const struct cairn_fsck_chunk *chunk);
CAIRN_API int cairn_fsck(struct cairn *fs, cairn_fsck_fn fn, void *arg,
			 struct cairn_fsck_summary *ret);

/* While the cluster is held (after an import it is), nothing is deleted from servers that the
 * metadata does not know. */
CAIRN_API int cairn_hold(struct cairn *fs, bool on);

#ifdef __cplusplus
}
#endif

#endif
