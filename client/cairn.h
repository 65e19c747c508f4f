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
 * written data does from cairn_fsync() on. A session may be told to hold written data back for a second, as a
 * kernel does for a local disk: see write_buffer_bytes.
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

enum { CAIRN_ROOT = 1, CAIRN_GROUPS_MAX = 64 }; /* the cluster's root: see cairn_root */

/* ---- sessions ---- */

struct cairn;

/* For a program that has caches above libcairn. Called on a thread of libcairn, on which other clients
 * wait: the functions return when the caller's own caches have forgotten what they had of these inodes
 * (their attributes, and the names in them), and must not call libcairn. dropped: all that they had. */
struct cairn_watch {
	void *arg;
	void (*recalled)(void *arg, const uint64_t *inodes, unsigned n);
	void (*dropped)(void *arg);
};

struct cairn_options {
	const char *masters;   /* "host:port[,host:port...]"; required */
	/* Who we are; required: a directory as `cairn ca issue` makes it (TLS), or the file of the
	 * cluster's shared key, which encrypts nothing. */
	const char *credentials;
	bool allow_plaintext;  /* a shared key is refused beyond loopback without this */
	const char *name;      /* shown in the servers' logs; NULL: program and pid */
	int64_t timeout_ms;    /* limit of every operation; 0: 30,000 */
	int64_t connect_ms;    /* limit of one connection attempt; 0: 1,500 */
	int64_t readahead_bytes; /* per sequential stream; 0: 8 MiB; negative: none */
	/* Writes that may be held back under a lease (needs `cache`), bytes of all files together (0 or
	 * negative: none), and for how long (0: 1,000). */
	int64_t write_buffer_bytes, write_buffer_ms;
	bool cache; /* answer from memory, under leases of the master: for long-lived sessions */
	const struct cairn_watch *watch; /* copied; NULL: none */
	int atime; /* CAIRN_ATIME_: whether reads set the time of the last access */
	/* Who may do what was checked before libcairn is called, as a kernel does for a file system
	 * that it has mounted. Else the master checks: modes, access control lists, owners. */
	bool kernel_checks;
};
/* RELATIVE: when it is not later than the last change, or a day old (mount(8), relatime). */
enum { CAIRN_ATIME_NONE = 0, CAIRN_ATIME_RELATIVE = 1, CAIRN_ATIME_STRICT = 2 };

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

/* The inode of this session's `/`: the cluster's root, or the directory that the credential is limited
 * to (an export), of which nothing above is seen. */
CAIRN_API uint64_t cairn_root(struct cairn *fs);
/* Whether the master checks who may do what even if a kernel has (cairn_options.kernel_checks): then a
 * cairn_cred must have its groups. */
CAIRN_API bool cairn_is_checked(struct cairn *fs);

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
	/* For how many ms from the call on the attributes, and the name by which it was found, stay as
	 * they are unless the watch (cairn_options) is told otherwise; 0: no promise. */
	int64_t attr_ms, name_ms;
};

/* What cairn_setattr sets. */
enum {
	CAIRN_SET_MODE = 1, CAIRN_SET_UID = 2, CAIRN_SET_GID = 4, CAIRN_SET_SIZE = 8,
	CAIRN_SET_ATIME = 16, CAIRN_SET_MTIME = 32,
	CAIRN_SET_ATIME_NOW = 64, CAIRN_SET_MTIME_NOW = 128,
};

CAIRN_API void cairn_attr_to_stat(const struct cairn_attr *attr, struct stat *ret);

/* ---- inode calls: cred first, names are single components of 1..255 bytes ---- */

/* On -ENOENT *ret is empty but for name_ms. */
CAIRN_API int cairn_lookup(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
			   const char *name, struct cairn_attr *ret);
/* Of what this session removed itself, too (nlink 0), for a while. */
CAIRN_API int cairn_getattr(struct cairn *fs, uint64_t inode, struct cairn_attr *ret);
/* Whether what is known of the inode is leased now: it stays as it is until the watch (cairn_options) is
 * told, or this session changes it. */
CAIRN_API bool cairn_leased(struct cairn *fs, uint64_t inode);
CAIRN_API int cairn_setattr(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
			    unsigned mask, const struct cairn_attr *attr, struct cairn_attr *ret);
/* Directory, fifo, socket, device, symlink (target) or regular file, by the type in mode. The
 * umask of cred counts, unless the directory has a default access control list. flags: O_EXCL as in open(2): without it an
 * existing regular file is answered when a regular file was asked for; others are -EEXIST. */
CAIRN_API int cairn_make(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
			 const char *name, uint32_t mode, uint64_t rdev, const char *target,
			 int flags, struct cairn_attr *ret);
CAIRN_API int cairn_link_inode(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
			       uint64_t parent, const char *name, struct cairn_attr *ret);
/* dir: rmdir instead of unlink. A file that this session has open lives on until its close. */
CAIRN_API int cairn_unlink_at(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
			      const char *name, bool dir);
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT of renameat2(2). */
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

/* Some of the entries behind `cookie`, from memory where they are known: at least one unless nothing
 * follows. Of attr only the inode and the type in mode. attrs: attributes are fetched too where many are
 * not known, for cairn_known. Returns 1 when nothing follows those given, 0 otherwise. */
CAIRN_API int cairn_list(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
			 uint64_t cookie, bool attrs, cairn_dirent_fn fn, void *arg);
/* What cairn_lookup would find, if that is known here under a lease: nobody is asked. */
CAIRN_API bool cairn_known(struct cairn *fs, uint64_t parent, const char *name,
			   struct cairn_attr *ret);
/* The same for cairn_getattr. */
CAIRN_API bool cairn_known_inode(struct cairn *fs, uint64_t inode, struct cairn_attr *ret);

/* As getxattr(2) and friends: bytes 0 asks for the size. flags: XATTR_CREATE, XATTR_REPLACE. Access
 * control lists are system.posix_acl_access and _default, in the kernel's form; the mode follows
 * them, they follow the mode. */
CAIRN_API ssize_t cairn_getxattr_inode(struct cairn *fs, const struct cairn_cred *cred,
				       uint64_t inode, const char *name, void *buf, size_t bytes);
CAIRN_API ssize_t cairn_listxattr_inode(struct cairn *fs, uint64_t inode, char *buf, size_t bytes);
CAIRN_API int cairn_setxattr_inode(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
				   const char *name, const void *value, size_t bytes, int flags);
CAIRN_API int cairn_removexattr_inode(struct cairn *fs, const struct cairn_cred *cred,
				      uint64_t inode, const char *name);

struct cairn_statfs {
	uint64_t total_bytes, free_bytes; /* raw bytes divided by the number of copies */
	uint64_t inodes;
	uint64_t inodes_max; /* 0: no limit */
};
/* Of the cluster, whatever quotas there are. */
CAIRN_API int cairn_statfs(struct cairn *fs, struct cairn_statfs *ret);
/* Of the quotas that the inode is counted in, where they are tighter. */
CAIRN_API int cairn_statfs_at(struct cairn *fs, uint64_t inode, struct cairn_statfs *ret);

/* ---- quotas of directories ---- */

/* Limits for all that lies in a directory: bytes of blocks and inodes; 0: none. A change that goes
 * beyond them is -EDQUOT. What is in it already is counted before these return; done again, they
 * finish what was interrupted. -ENODATA: it has no quota. */
CAIRN_API int cairn_quota_set(struct cairn *fs, uint64_t inode, uint64_t bytes_max,
			      uint64_t inodes_max);
CAIRN_API int cairn_quota_remove(struct cairn *fs, uint64_t inode);
struct cairn_quota {
	uint32_t id;
	uint64_t inode; /* 0: it was removed, and its content is not all counted elsewhere yet */
	char path[4097]; /* empty: not found */
	uint64_t bytes_max, inodes_max, bytes, inodes;
};
typedef int (*cairn_quota_fn)(void *arg, const struct cairn_quota *quota); /* not 0: stops */
/* Those that an inode is counted in, the innermost first; inode 0: all. */
CAIRN_API int cairn_quotas(struct cairn *fs, uint64_t inode, cairn_quota_fn fn, void *arg);

/* ---- exports ---- */

/* For administrators. The directory that a credential issued for `name` (cairn ca issue --export) sees as all there is. */
struct cairn_export {
	char name[64]; /* 1 to 63 of [A-Za-z0-9._-], the first one not a dot or a dash */
	uint64_t inode;
	char path[4097]; /* told by cairn_exports; empty: the directory is gone */
	bool read_only;
	int squash;	   /* CAIRN_SQUASH_ */
	uint32_t uid, gid; /* who is squashed becomes these */
	/* Of all clients of the export together; 0: no limit. Requests to the master a second, beyond
	 * which they wait; sessions at once, beyond which -EIO. */
	uint32_t rate_max, sessions_max;
	uint32_t sessions; /* now */
};
/* NONE: who asks is believed, a client host's root is root here. ROOT: but that. ALL: everybody. */
enum { CAIRN_SQUASH_NONE = 0, CAIRN_SQUASH_ROOT = 1, CAIRN_SQUASH_ALL = 2 };
/* Makes it. Its directory gets a quota without limits, if it has none, and what is in there is counted, by
 * which is known what lies in the export; done again, this finishes what was interrupted. */
CAIRN_API int cairn_export_add(struct cairn *fs, const struct cairn_export *export);
/* Changes all of it but the name, at once for its clients, too. -ENODATA: the directory has no quota. */
CAIRN_API int cairn_export_set(struct cairn *fs, const struct cairn_export *export);
/* Its clients are refused from now on. -ENODATA: there is none of that name. */
CAIRN_API int cairn_export_remove(struct cairn *fs, const char *name);
typedef int (*cairn_export_fn)(void *arg, const struct cairn_export *export); /* not 0: stops */
CAIRN_API int cairn_exports(struct cairn *fs, cairn_export_fn fn, void *arg);

/* ---- files ---- */

struct cairn_file;

/* flags: O_RDONLY, O_WRONLY, O_RDWR, O_APPEND, O_TRUNC, O_SYNC, O_DSYNC, O_NOATIME. */
CAIRN_API int cairn_open_inode(struct cairn *fs, const struct cairn_cred *cred, uint64_t inode,
			       int flags, struct cairn_file **ret);
/* Creates (O_EXCL: it must be new) and opens in one round trip. */
CAIRN_API int cairn_create_at(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
			      const char *name, uint32_t mode, int flags, struct cairn_attr *ret_attr,
			      struct cairn_file **ret);
/* O_TMPFILE: a new file without a name, of the kind that `parent` makes. It goes at its close
 * unless cairn_link_inode() gave it a name. */
CAIRN_API int cairn_tmpfile(struct cairn *fs, const struct cairn_cred *cred, uint64_t parent,
			    uint32_t mode, int flags, struct cairn_attr *ret_attr,
			    struct cairn_file **ret);
CAIRN_API uint64_t cairn_file_inode(const struct cairn_file *file);
/* The file's change counter when it was opened. */
CAIRN_API uint64_t cairn_file_change(const struct cairn_file *file);
/* Positioned; count of bytes read: less than asked only at the end of the file. */
CAIRN_API ssize_t cairn_pread(struct cairn_file *file, void *buf, size_t bytes, uint64_t offset);
/* All bytes, or an error (then a prefix may have been written). With O_APPEND the offset is the
 * end of the file, and what is appended by other clients meanwhile comes before or after it. */
CAIRN_API ssize_t cairn_pwrite(struct cairn_file *file, const void *buf, size_t bytes,
			       uint64_t offset);
/* Appends a record exactly once, whatever fails on the way, and tells where it is: records of all
 * clients of the file follow each other, whole and without gaps. The file need not be O_APPEND. After
 * an error the record is not there, but for -ESTALE, -EIO and -ETIMEDOUT: then it may be, once. */
CAIRN_API int cairn_record_append(struct cairn_file *file, const void *buf, size_t bytes,
				  uint64_t *ret_offset);
/* As fallocate(2): mode 0 and FALLOC_FL_KEEP_SIZE (only checks that there is room), PUNCH_HOLE with
 * KEEP_SIZE, ZERO_RANGE with or without it; others are -EOPNOTSUPP. */
CAIRN_API int cairn_fallocate(struct cairn_file *file, int mode, uint64_t offset, uint64_t bytes);
/* As copy_file_range(2), both files of one session: how many bytes were copied, fewer than asked at the
 * end of `in`, when it takes long, or when an error came later; 0 at its end. The chunkservers copy among themselves, and
 * holes of whole chunks stay holes. -EINVAL: overlapping ranges of one file. */
CAIRN_API ssize_t cairn_copy_range(struct cairn_file *in, uint64_t offset_in, struct cairn_file *out,
				   uint64_t offset_out, size_t bytes);
/* As lseek(2) with SEEK_DATA or SEEK_HOLE, to the block; -ENXIO: at or beyond the end, or no data. */
CAIRN_API int64_t cairn_seek(struct cairn_file *file, uint64_t offset, int whence);
/* After it returns 0, the bytes are on stable storage on every replica. */
CAIRN_API int cairn_fsync(struct cairn_file *file);
/* What close(2) tells: -EIO, -ENOSPC, ... once, when bytes that this file or another one of the same inode
 * had written were lost since. Waits for nothing, unless servers are nearly full. */
CAIRN_API int cairn_flush(struct cairn_file *file);
CAIRN_API int cairn_ftruncate(struct cairn_file *file, uint64_t size);
/* Closed in any case; the error is cairn_flush's. */
CAIRN_API int cairn_close(struct cairn_file *file);

/* ---- locks ---- */

/* Across all clients, held by (session, owner) until they are given back, the session ends, or the
 * owner's file is closed (cairn_unlock_owner, cairn_unlock_handle: the caller says so). RANGE:
 * fcntl(2)'s, WHOLE: flock(2)'s; they do not see each other. */
enum { CAIRN_LOCK_RANGE = 1, CAIRN_LOCK_WHOLE = 2 };
enum { CAIRN_UNLOCK = 0, CAIRN_LOCK_SHARED = 1, CAIRN_LOCK_EXCLUSIVE = 2 };
#define CAIRN_LOCK_END ((uint64_t)INT64_MAX) /* the last byte that a file can have */
struct cairn_lock {
	uint64_t owner;	 /* the caller's name for who holds it */
	uint64_t handle; /* the caller's name for the open file through which it is set */
	int kind, type;
	uint64_t start, end; /* first and last byte; WHOLE: 0 and CAIRN_LOCK_END */
	uint32_t pid;	     /* told to cairn_lock_test of this session, and to administrators */
	bool no_deadlock;    /* takes no part in the search for deadlocks (OFD locks) */
};
/* -EAGAIN: another owner's lock is in the way; flock's old lock is gone then, as in Linux. */
CAIRN_API int cairn_lock(struct cairn *fs, uint64_t inode, const struct cairn_lock *lock);
/* What is in the way: ret->type CAIRN_UNLOCK: nothing. pid 0: it belongs to another session. */
CAIRN_API int cairn_lock_test(struct cairn *fs, uint64_t inode, const struct cairn_lock *lock,
			      struct cairn_lock *ret);
/* An owner has closed a file: its RANGE locks go. No message where it has none. */
CAIRN_API int cairn_unlock_owner(struct cairn *fs, uint64_t inode, uint64_t owner);
/* An open file is closed for good: what was set through it and is still there goes. */
CAIRN_API int cairn_unlock_handle(struct cairn *fs, uint64_t inode, uint64_t handle);

/* Waiting: done(arg, r) is called once, from another thread: r 0, -EDEADLK, -EINTR (cancelled) or
 * another negative errno. It must not call cairn_lock_wait_cancel. The wait is gone after it.
 * new: NULL when out of memory; start: always leads to done, even after a cancel; cancel: any
 * thread, any time before done returns. */
struct cairn_lock_wait;
typedef void (*cairn_lock_fn)(void *arg, int r);
CAIRN_API struct cairn_lock_wait *cairn_lock_wait_new(struct cairn *fs, uint64_t inode,
						      const struct cairn_lock *lock,
						      cairn_lock_fn done, void *arg);
CAIRN_API void cairn_lock_wait_start(struct cairn_lock_wait *wait);
CAIRN_API void cairn_lock_wait_cancel(struct cairn_lock_wait *wait);
/* Cancels all and returns when their done() were called; later ones are cancelled at once. */
CAIRN_API void cairn_lock_waits_end(struct cairn *fs);

struct cairn_lock_info {
	uint64_t inode, session;
	const char *path, *client; /* "" when not known; until fn returns */
	bool waits; /* it is wanted, not held */
	struct cairn_lock lock;
};
typedef int (*cairn_lock_info_fn)(void *arg, const struct cairn_lock_info *info);
/* Those wanted, then those held by all clients; ends when fn returns non-zero. */
CAIRN_API int cairn_locks(struct cairn *fs, cairn_lock_info_fn fn, void *arg);

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
	uint64_t index, id; /* id 0: a hole, of `count` chunks */
	uint64_t count;	    /* else 1 */
	uint32_t version;
	bool written;
	unsigned n_replicas;
	struct cairn_replica_info replicas[8];
};
/* All chunks of a file in order; another value than 0 ends it. */
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
	uint64_t refused;   /* requests of clients without a valid access token, since it started */
	uint32_t disks, disks_bad;
	struct cairn_progress scrub; /* of its replicas */
};
struct cairn_status {
	char cluster[40];
	uint64_t applied, durable; /* raft indices */
	uint64_t inodes, chunks, chunks_under_goal, chunks_pending, garbage;
	uint32_t sessions, links; /* links: sessions that cache */
	uint64_t leases;
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
/* Takes a server off the list that was drained or is lost for good. -EBUSY: it runs, or files are to
 * have copies there still; -ENOENT. */
CAIRN_API int cairn_server_remove(struct cairn *fs, uint32_t server);

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
	CAIRN_FSCK_DAMAGED = 3,	   /* one of the copies is damaged */
	CAIRN_FSCK_PENDING = 4,	   /* it is being changed */
	CAIRN_FSCK_UNCLEAN = 5,	   /* a copy was open at a crash: it is compared before it is used */
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
