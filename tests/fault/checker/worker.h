/* A worker: does random work in a directory, remembers what was acknowledged, checks what it reads.
 *
 * Each name is used once, so that a name that is there twice, or not at all, is a violation and not
 * an accident. An operation that failed without saying what happened leaves its names alone from
 * then on ("retired"); at the end they must be in one of the states that it may have left. */
#ifndef CAIRN_TESTS_CHECKER_WORKER_H
#define CAIRN_TESTS_CHECKER_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "tests/fault/checker/backend.h"
#include "tests/fault/checker/model.h"

enum { NODE_PATH_BYTES = 200, BUFFER_BYTES = 1 << 20 };

/* The content that one or several names share. */
struct body {
	struct model *model;
	unsigned refs;
};

enum node_type { NODE_FILE, NODE_DIR, NODE_SYMLINK };

/* A name, and what may be there. */
struct node {
	enum node_type type;
	char path[2][NODE_PATH_BYTES]; /* it is at one of these */
	unsigned n_paths;
	bool may_be_absent;
	bool retired;
	ino_t ino; /* 0: not known */
	struct node *dir; /* NULL: the worker's directory */
	unsigned children; /* names in it, retired ones too */
	struct node *instead; /* of a file replaced by a rename that may have failed: by whom */
	struct body *body; /* files */
	unsigned max_kib;  /* how large the file may become */
	void *file;	   /* an open handle, or NULL */
	struct node *prev, *next;
};

struct counts {
	atomic_ullong operations; /* acknowledged */
	atomic_ullong reads, bytes_read; /* checked against the model */
	atomic_ullong fsyncs;
	atomic_ullong unknown; /* operations with an unknown outcome */
	atomic_ullong violations;
	atomic_ullong longest_ms;
};
extern struct counts counts;

struct worker {
	unsigned number;
	struct backend backend;
	char dir[64];	 /* where it works */
	char prefix[32]; /* of its names */
	uint64_t random;
	unsigned names; /* given so far */
	struct node *nodes;
	unsigned n_files, n_sparse, n_dirs;
	uint64_t power_seen, mounts_seen; /* losses that the models know of */
	int64_t limit_ms; /* no operation may take longer */
	bool failed;	  /* the present step did, with an unknown outcome */
	uint8_t *buffer;  /* BUFFER_BYTES */
	pthread_t thread;
};

/* When all servers lost their power: counted up before anybody can see the result. */
extern atomic_ullong power_losses, mount_losses;

void worker_init(struct worker *w, unsigned number, uint64_t seed, const struct backend *backend,
		 const char *dir, int64_t limit_ms);
/* One operation. False when it failed for want of a server: to be taken slowly. */
bool worker_step(struct worker *w);
/* Closes handles. */
void worker_rest(struct worker *w);
/* Everything the worker knows of, read through `backend`. `wait_ms`: how long an operation is
 * repeated that fails for want of a server. */
void worker_verify(struct worker *w, struct backend *backend, int64_t wait_ms);
void worker_release(struct worker *w);

/* For verify.c. */
void violation(const struct worker *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Whether a failure may come from a fault: the operation may have happened or not. */
bool is_unknown(int r);

#endif
