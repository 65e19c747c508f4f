/* libfuse has such a loop, but no way to get at requests that it does not know (fuse/raw.h), and it
 * clones /dev/fuse for each thread, which ties the answer of a request to the thread that read it. */
#include "fuse/loop.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "fuse/interrupt.h"
#include "fuse/raw.h"

enum { KICK_NS = 5000000 };

struct worker {
	struct loop *loop;
	atomic_bool waits; /* for a request */
	pthread_t thread;
	struct fuse_buf buf; /* its memory is made by the first receive */
	struct interruptible me;
	struct worker *next;
};

struct loop {
	struct fuse_session *session;
	struct mount *mount;
	uint64_t root;
	struct interrupts *interrupts;
	unsigned max_threads;
	const _Atomic int64_t *stop_ms;
	sem_t ended; /* posted by a worker that ends */
	pthread_mutex_t lock; /* protects what follows */
	struct worker *workers;
	unsigned n_workers, n_idle;
	int error;
};

static int worker_start(struct loop *l);

static bool is_ending(const struct loop *l)
{
	return fuse_session_exited(l->session) || atomic_load(l->stop_ms) != 0;
}

/* To stop is to do what is queued. Whoever answers a request finds in the queue what the kernel held
 * back because of it, so that the last thread to end leaves nothing there. */
static bool goes_on(const struct loop *l)
{
	struct pollfd queue = {.fd = fuse_session_fd(l->session), .events = POLLIN};

	if (fuse_session_exited(l->session))
		return false;
	if (!is_ending(l))
		return true;
	return clock_ms() < atomic_load(l->stop_ms) && poll(&queue, 1, 0) == 1 &&
	       (queue.revents & POLLIN);
}

/* FORGETs are many and done at once: no reason to start a thread. */
static bool is_forget(const struct fuse_buf *buf)
{
	struct fuse_in_header head;

	if (buf->size < sizeof(head))
		return false;
	memcpy(&head, buf->mem, sizeof(head));
	return head.opcode == FUSE_FORGET || head.opcode == FUSE_BATCH_FORGET;
}

/* The kernel's name for the root is FUSE_ROOT_ID; ours is the inode that the session begins at. */
static void root_by_its_name(struct worker *w)
{
	uint64_t root = w->loop->root, id;
	uint8_t *p = w->buf.mem;
	struct fuse_in_header head;

	if (root == FUSE_ROOT_ID || w->buf.size < sizeof(head))
		return;
	memcpy(&head, p, sizeof(head));
	if (head.nodeid == FUSE_ROOT_ID)
		memcpy(p + offsetof(struct fuse_in_header, nodeid), &root, sizeof(root));
	/* The one other place of a directory: fuse_rename_in and fuse_rename2_in begin with it. */
	if ((head.opcode != FUSE_RENAME && head.opcode != FUSE_RENAME2) ||
	    w->buf.size < sizeof(head) + sizeof(id))
		return;
	memcpy(&id, p + sizeof(head), sizeof(id));
	if (id == FUSE_ROOT_ID)
		memcpy(p + sizeof(head), &root, sizeof(root));
}

/* What the interrupts are to know of a request; it goes its way all the same. */
static void note_request(struct worker *w)
{
	struct interrupts *x = w->loop->interrupts;
	struct fuse_in_header head;
	struct fuse_interrupt_in in;

	if (w->buf.size < sizeof(head))
		return;
	memcpy(&head, w->buf.mem, sizeof(head));
	if (head.opcode == FUSE_INTERRUPT && w->buf.size >= sizeof(head) + sizeof(in)) {
		memcpy(&in, (const uint8_t *)w->buf.mem + sizeof(head), sizeof(in));
		interrupts_signal(x, in.unique);
	}
	interrupts_begin(x, &w->me, head.unique, head.pid);
}

static void worker_serve(struct worker *w)
{
	struct loop *l = w->loop;
	bool busy = !is_forget(&w->buf);

	if (busy) {
		pthread_mutex_lock(&l->lock);
		if (--l->n_idle == 0 && l->n_workers < l->max_threads &&
		    !is_ending(l) && worker_start(l) < 0)
			log_warn("cannot start another thread: going on with %u", l->n_workers);
		pthread_mutex_unlock(&l->lock);
	}
	note_request(w);
	root_by_its_name(w);
	if (!raw_process(l->session, l->mount, &w->buf))
		fuse_session_process_buf(l->session, &w->buf);
	interrupts_end(l->interrupts, &w->me);
	if (busy) {
		pthread_mutex_lock(&l->lock);
		l->n_idle++;
		pthread_mutex_unlock(&l->lock);
	}
}

/* At the loop's end a signal ends its wait for a request (workers_end). */
static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct loop *l = w->loop;
	int r = 1;

	interrupts_join(l->interrupts, &w->me);
	while (r > 0 && goes_on(l)) {
		atomic_store(&w->waits, true);
		r = fuse_session_receive_buf(l->session, &w->buf);
		atomic_store(&w->waits, false);
		if (r == -EINTR)
			r = 1;
		else if (r > 0)
			worker_serve(w);
	}
	if (r < 0) {
		pthread_mutex_lock(&l->lock);
		l->error = r;
		pthread_mutex_unlock(&l->lock);
		fuse_session_exit(l->session);
	}
	interrupts_leave(l->interrupts, &w->me);
	sem_post(&l->ended);
	return NULL;
}

/* l->lock is held, or no thread runs yet. */
static int worker_start(struct loop *l)
{
	struct worker *w = calloc(1, sizeof(*w));
	sigset_t all, old;
	int r;

	if (!w)
		return -ENOMEM;
	w->loop = l;
	/* Other signals are for the other threads. */
	sigfillset(&all);
	sigdelset(&all, LOOP_KICK_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = pthread_create(&w->thread, NULL, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0) {
		free(w);
		return -r;
	}
	w->next = l->workers;
	l->workers = w;
	l->n_workers++;
	l->n_idle++;
	return 0;
}

/* Again and again: the signal may come just before the wait begins. Not pthread_cancel: glibc unwinds
 * past what AddressSanitizer keeps of the stack, which it then takes for an error. */
static void worker_join(struct worker *w)
{
	struct timespec until;

	do {
		if (atomic_load(&w->waits))
			pthread_kill(w->thread, LOOP_KICK_SIGNAL);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += KICK_NS;
		if (until.tv_nsec >= 1000000000L) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000L;
		}
	} while (pthread_clockjoin_np(w->thread, NULL, CLOCK_MONOTONIC, &until) == ETIMEDOUT);
}

static void workers_end(struct loop *l)
{
	struct worker *w, *next;

	/* Nobody starts another one once the loop is ending and the lock was free. */
	pthread_mutex_lock(&l->lock);
	pthread_mutex_unlock(&l->lock);
	for (w = l->workers; w; w = next) {
		next = w->next;
		worker_join(w);
		free(w->buf.mem);
		free(w);
	}
}

int loop_run(struct fuse_session *session, struct mount *mount, unsigned max_threads,
	     const _Atomic int64_t *stop_ms)
{
	struct loop l = {.session = session, .mount = mount, .root = cairn_root(mount->fs),
			 .max_threads = max_threads, .stop_ms = stop_ms};
	int r;

	l.interrupts = interrupts_new();
	if (!l.interrupts)
		return -ENOMEM;
	sem_init(&l.ended, 0, 0);
	pthread_mutex_init(&l.lock, NULL);
	pthread_mutex_lock(&l.lock);
	r = worker_start(&l);
	pthread_mutex_unlock(&l.lock);
	while (r == 0 && !is_ending(&l))
		sem_wait(&l.ended);
	workers_end(&l);
	interrupts_free(l.interrupts);
	if (r == 0)
		r = l.error;
	pthread_mutex_destroy(&l.lock);
	sem_destroy(&l.ended);
	fuse_session_reset(session);
	return r;
}
