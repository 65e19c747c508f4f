/* Errors: one table for every component.
 *
 * A function that can fail returns 0 or a negative code of this table. Context is added on the
 * way up in `struct err *err`, always the last parameter and allowed to be NULL: the code
 * travels on the wire, the text goes to the log and to the user ("read chunk 9f3 block 12 on
 * 127.0.0.1:7411: checksum mismatch").
 *
 * A row is X(name, number, errno, text). Numbers travel on the wire and are never reused; a
 * number this build does not know becomes ERR_REMOTE. Numbers 1..99 are the caller's mistakes or
 * the file system's ordinary answers; 100.. are Cairn's own conditions.
 */
#ifndef CAIRN_COMMON_ERR_H
#define CAIRN_COMMON_ERR_H

#include <stdarg.h>
#include <stddef.h>

#define ERR_TABLE(X)                                                                        \
	X(PERM, 1, EPERM, "operation not permitted")                                        \
	X(NOENT, 2, ENOENT, "no such file or directory")                                    \
	X(IO, 3, EIO, "input/output error")                                                 \
	X(NOMEM, 4, ENOMEM, "out of memory")                                                \
	X(ACCES, 5, EACCES, "permission denied")                                            \
	X(EXIST, 6, EEXIST, "file exists")                                                  \
	X(XDEV, 7, EXDEV, "cross-device link")                                              \
	X(NOTDIR, 8, ENOTDIR, "not a directory")                                            \
	X(ISDIR, 9, EISDIR, "is a directory")                                               \
	X(INVAL, 10, EINVAL, "invalid argument")                                            \
	X(FBIG, 11, EFBIG, "file too large")                                                \
	X(NOSPC, 12, ENOSPC, "no space left")                                               \
	X(ROFS, 13, EROFS, "read-only file system")                                         \
	X(MLINK, 14, EMLINK, "too many links")                                              \
	X(NAMETOOLONG, 15, ENAMETOOLONG, "file name too long")                              \
	X(NOTEMPTY, 16, ENOTEMPTY, "directory not empty")                                   \
	X(LOOP, 17, ELOOP, "too many levels of symbolic links")                             \
	X(NODATA, 18, ENODATA, "no such attribute")                                         \
	X(RANGE, 19, ERANGE, "result does not fit")                                         \
	X(TOOBIG, 20, E2BIG, "argument too big")                                            \
	X(NOTSUP, 21, EOPNOTSUPP, "operation not supported")                                \
	X(STALE, 22, ESTALE, "stale handle or expired session")                             \
	X(DQUOT, 23, EDQUOT, "quota exceeded")                                              \
	X(BADF, 24, EBADF, "bad file handle")                                               \
	X(INTR, 25, EINTR, "interrupted")                                                   \
	X(AGAIN, 26, EAGAIN, "try again")                                                   \
	X(BUSY, 27, EBUSY, "resource busy")                                                 \
	X(MFILE, 28, EMFILE, "too many open files")                                         \
	X(NODEV, 29, ENODEV, "no such device")                                              \
	X(DEADLK, 32, EDEADLK, "waiting for this lock would be a deadlock")                 \
	X(NOLCK, 33, ENOLCK, "too many locks")                                              \
	X(NXIO, 34, ENXIO, "nothing there")                                                 \
	X(PROTOCOL, 100, EPROTO, "malformed message")                                       \
	X(VERSION, 101, EPROTONOSUPPORT, "incompatible protocol or format version")         \
	X(AUTH, 102, EACCES, "authentication failed")                                       \
	X(TIMEOUT, 103, EIO, "timed out")                                                   \
	X(CLOSED, 104, EIO, "connection closed")                                            \
	X(UNREACHABLE, 105, EIO, "cannot connect")                                          \
	X(CHECKSUM, 106, EIO, "checksum mismatch")                                          \
	X(CORRUPT, 107, EIO, "damaged on-disk state")                                       \
	X(NO_CHUNK, 108, EIO, "chunk is not here")                                          \
	X(CHUNK_VERSION, 109, EIO, "chunk version differs")                                 \
	X(CHUNK_PENDING, 110, EIO, "chunk is being changed")                                \
	X(PEER, 111, EIO, "next server of the chain failed")                                \
	X(NO_SERVERS, 112, EIO, "no chunkserver can serve this")                            \
	X(NOT_LEADER, 113, EIO, "master is not the leader")                                 \
	X(SHUTDOWN, 114, EIO, "server is shutting down")                                    \
	X(REMOTE, 115, EIO, "error of a kind this version does not know")                   \
	X(CONFIG, 116, EINVAL, "bad configuration")                                         \
	X(WRONG_CLUSTER, 117, EACCES, "belongs to another cluster")                         \
	X(LIMIT, 118, EIO, "a limit was reached")                                           \
	X(UNKNOWN_OUTCOME, 119, EIO, "outcome of the operation is not known")               \
	X(LEASE, 120, EIO, "server is out of contact with the master")                      \
	X(SOURCE, 121, EIO, "the source of a copy could not be read")                       \
	X(TOKEN, 122, EACCES, "no valid access token")

enum err_code {
	ERR_OK = 0,
#define ERR_X_ENUM(name, number, eno, text) ERR_##name = -(number),
	ERR_TABLE(ERR_X_ENUM)
#undef ERR_X_ENUM
};

/* Longest context text kept, in bytes with the final NUL; longer texts are cut. */
enum { ERR_TEXT_MAX = 512 };

struct err {
	int code;
	char text[ERR_TEXT_MAX];
};

/* Sets code and text (printf form); returns code, so that `return err_set(...)` works. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set, with the system's words for `eno` appended; the code is err_from_errno(eno). */
int err_set_errno(struct err *err, int eno, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "fmt: " before the present text. Returns `code` and stores it where err has none. */
int err_prefix(struct err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

void err_clear(struct err *err);

/* The text of err if it has one, else the table's text of its code. Never NULL. */
const char *err_message(const struct err *err);

/* The table's text, short name and errno of a code. Total: any int is answered. */
const char *err_text(int code);
const char *err_name(int code);
int err_to_errno(int code);

/* The code for a positive errno value; ERR_IO for those the table has no row for. */
int err_from_errno(int eno);

/* A code as it came from the wire, or ERR_REMOTE where this build does not know it. */
int err_from_wire(int code);

/* True for failures of a server or a path to it: another replica or a retry may do better. */
int err_is_transport(int code);

#endif
