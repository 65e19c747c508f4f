/* File operations behind a table, so that tests can make the nth one fail.
 *
 * The chunkserver does all its file work through a `struct io`. Functions return 0 or a
 * non-negative result, or a negative code of common/err.h (from errno). io_real is the system;
 * io_faulty (io_faulty.c) wraps another and fails chosen calls. The tables are immutable after
 * set-up and used from any thread.
 */
#ifndef CAIRN_COMMON_IO_H
#define CAIRN_COMMON_IO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum io_kind {
	IO_OPEN, IO_CLOSE, IO_PREAD, IO_PWRITE, IO_FDATASYNC, IO_FTRUNCATE, IO_SIZE, IO_RENAME,
	IO_UNLINK, IO_MKDIR, IO_SYNC_DIR, IO_SPACE, IO_LIST, IO_KINDS
};

/* The life of the page cache under a path: this boot of the kernel and this mount of the file
 * system. Bytes that were written in one life and not synced are there as long as it lasts,
 * whatever happens to processes; in another one they may be gone. */
enum { IO_LIFE_BYTES = 24 };

struct io_space {
	uint64_t total_bytes;
	uint64_t free_bytes; /* for an unprivileged user */
};

/* Called for each name of a directory but "." and ".."; negative stops the listing. */
typedef int (*io_list_fn)(void *arg, const char *name);

struct io {
	int (*open)(const struct io *io, const char *path, int flags, mode_t mode); /* fd */
	int (*close)(const struct io *io, int fd);
	/* Exactly n bytes, or fewer only at the end of the file. */
	ssize_t (*pread)(const struct io *io, int fd, void *data, size_t n, uint64_t offset);
	/* All n bytes, or an error. */
	int (*pwrite)(const struct io *io, int fd, const void *data, size_t n, uint64_t offset);
	int (*fdatasync)(const struct io *io, int fd);
	int (*ftruncate)(const struct io *io, int fd, uint64_t size);
	/* Makes n bytes within the file a hole: they read as zeros. ERR_NOTSUP where there are none. */
	int (*punch)(const struct io *io, int fd, uint64_t offset, size_t n);
	int64_t (*size)(const struct io *io, int fd);
	int (*rename)(const struct io *io, const char *from, const char *to);
	int (*unlink)(const struct io *io, const char *path);
	int (*mkdir)(const struct io *io, const char *path, mode_t mode);
	int (*sync_dir)(const struct io *io, const char *path);
	int (*space)(const struct io *io, const char *path, struct io_space *ret);
	int (*list)(const struct io *io, const char *path, io_list_fn fn, void *arg);
	int (*life)(const struct io *io, const char *path, uint8_t ret[IO_LIFE_BYTES]);
};

extern const struct io io_real;
/* For programs: io_real, or a table that does what the mapped fault file says (common/fault.h).
 * Call once, after fault_setup(). */
const struct io *io_system(void);

/* One fault: the nth call (from 1) of `kind` whose path or file's path contains `match` (NULL:
 * any) fails with errno `eno`; with sticky, all later ones too. short_bytes > 0 with IO_PWRITE:
 * that many bytes are written first. */
struct io_fault {
	enum io_kind kind;
	unsigned nth;
	int eno;
	bool sticky;
	size_t short_bytes;
	const char *match;
};

enum { IO_FAULTS_MAX = 8 };

struct io_faulty {
	struct io io; /* pass &f->io */
	const struct io *below;
	struct io_fault faults[IO_FAULTS_MAX];
	atomic_uint seen[IO_FAULTS_MAX];
	atomic_uint fired[IO_FAULTS_MAX]; /* how often each fault struck: assert on it */
	unsigned n_faults;
	bool mapped; /* the fault file is asked too */
	uint64_t life; /* changed by a test: from then on another life, as after a power loss */
};

void io_faulty_init(struct io_faulty *f, const struct io *below);
/* Returns the fault's index in fired[]. */
unsigned io_faulty_add(struct io_faulty *f, struct io_fault fault);

#endif
