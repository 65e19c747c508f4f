/* A job is one file; an item is one range of it. The worker that takes a file's first item opens
 * both ends and puts the other ranges at the front of the queue, so that one large file occupies
 * all workers; whoever finishes the last range closes, renames or removes. Ranges are one chunk
 * long, so no two workers write to the same chunk. */
#include "tools/copy_queue.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/cleanup.h"
#include "tools/text.h"

enum {
	RANGE_BYTES = 64 << 20,
	PIECE_BYTES = 8 << 20,
	QUEUE_MAX = 1024, /* files that the walk may be ahead */
	TEMP_TRIES = 16,
	REASON_BYTES = 768,
};

struct job {
	char *src, *dst, *temp;
	struct side_file *in, *out;
	struct stat st;		  /* of the source when it was opened */
	uint64_t size;		  /* as the walk saw it, counted in progress */
	unsigned ranges_left;	  /* protected by the queue's lock */
	bool failed;		  /* protected by the queue's lock */
	char reason[REASON_BYTES]; /* protected by the queue's lock: the first failure */
};

struct item {
	struct item *next;
	struct job *job;
	uint64_t range; /* index; range 0 also begins the job */
};

struct copy_queue {
	const struct copy_request *request;
	struct progress *progress;
	pthread_mutex_t lock;
	pthread_cond_t more, less;
	struct item *head, **tail; /* protected by lock, with the next two */
	size_t n_items;
	bool closed; /* nothing is added any more */
	unsigned busy; /* workers that may still add ranges */
	pthread_t threads[COPY_WORKERS_MAX];
	unsigned n_threads;
};

/* ---- signals ---- */

static volatile sig_atomic_t stopped;
static atomic_bool lost;

static void on_stop(int signal_number)
{
	stopped = 1;
}

bool copy_stopped(void)
{
	return stopped || atomic_load(&lost);
}

bool copy_lost(void)
{
	return atomic_load(&lost);
}

void copy_catch_signals(void)
{
	/* Once: a second one ends the program at once. */
	struct sigaction action = {.sa_handler = on_stop, .sa_flags = (int)SA_RESETHAND};

	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

/* ---- jobs ---- */

static void job_free(struct job *job)
{
	if (!job)
		return;
	free(job->src);
	free(job->dst);
	free(job->temp);
	free(job);
}

static void job_fail(struct copy_queue *q, struct job *job, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void job_fail(struct copy_queue *q, struct job *job, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&q->lock);
	if (!job->failed) {
		va_start(ap, fmt);
		vsnprintf(job->reason, sizeof(job->reason), fmt, ap);
		va_end(ap);
		job->failed = true;
	}
	pthread_mutex_unlock(&q->lock);
}

static bool job_failed(struct copy_queue *q, struct job *job)
{
	bool failed;

	pthread_mutex_lock(&q->lock);
	failed = job->failed;
	pthread_mutex_unlock(&q->lock);
	return failed;
}

char *copy_temp_path(const char *dst)
{
	_cleanup_free_ char *dir = text_dir(dst);
	_cleanup_free_ char *base = text_base(dst);
	char name[TEXT_NAME_BYTES];
	uint32_t random = 0;

	/* Two copies that draw the same number meet at O_EXCL and draw again. */
	if (getrandom(&random, sizeof(random), 0) < 0)
		return NULL;
	if (!dir || !base)
		return NULL;
	text_temp_name(base, random, name);
	return text_join(dir, name);
}

static int job_create(const struct side *to, struct job *job)
{
	int r = -EEXIST;

	for (int i = 0; i < TEMP_TRIES && r == -EEXIST; i++) {
		free(job->temp);
		job->temp = copy_temp_path(job->dst);
		r = job->temp ? to->create(to, job->temp, &job->out) : -ENOMEM;
	}
	if (r < 0) {
		free(job->temp);
		job->temp = NULL;
	}
	return r;
}

/* Opens both ends and spreads the ranges. */
static void job_begin(struct copy_queue *q, struct job *job)
{
	const struct side *from = q->request->from, *to = q->request->to;
	uint64_t ranges;
	int r = from->open(from, job->src, &job->in);

	if (r == 0)
		r = from->fstat(from, job->in, &job->st);
	if (r < 0) {
		job_fail(q, job, "cannot open: %s", side_reason(from, r));
		return;
	}
	r = job_create(to, job);
	if (r < 0) {
		job_fail(q, job, "cannot create %s: %s", job->dst, side_reason(to, r));
		return;
	}
	ranges = ((uint64_t)job->st.st_size + RANGE_BYTES - 1) / RANGE_BYTES;
	pthread_mutex_lock(&q->lock);
	for (uint64_t i = ranges; i-- > 1;) {
		struct item *item = calloc(1, sizeof(*item));
		if (!item) {
			job->failed = true;
			snprintf(job->reason, sizeof(job->reason), "out of memory");
			break;
		}
		*item = (struct item){.next = q->head, .job = job, .range = i};
		if (!q->head)
			q->tail = &item->next;
		q->head = item;
		q->n_items++;
		job->ranges_left++;
	}
	pthread_cond_broadcast(&q->more);
	pthread_mutex_unlock(&q->lock);
}

/* The next bytes: a count, 0 at the source's end, negative when the job has failed. */
static ssize_t job_copy_piece(struct copy_queue *q, struct job *job, uint64_t at, uint64_t end,
			      void *buf)
{
	const struct side *from = q->request->from, *to = q->request->to;
	size_t want = end - at < PIECE_BYTES ? (size_t)(end - at) : PIECE_BYTES;
	ssize_t n;
	int r;

	if (to->fs && to->fs == from->fs && to->copy) {
		n = to->copy(to, job->in, at, job->out, at, (size_t)(end - at));
		if (n < 0)
			job_fail(q, job, "cannot copy at %llu: %s", (unsigned long long)at,
				 side_reason(to, (int)n));
		return n;
	}
	n = from->pread(from, job->in, buf, want, at);
	if (n < 0)
		job_fail(q, job, "cannot read at %llu: %s", (unsigned long long)at,
			 side_reason(from, (int)n));
	if (n <= 0)
		return n;
	r = to->pwrite(to, job->out, buf, (size_t)n, at);
	if (r < 0)
		job_fail(q, job, "cannot write %s at %llu: %s", job->dst, (unsigned long long)at,
			 side_reason(to, r));
	return r < 0 ? r : n;
}

static void job_copy_range(struct copy_queue *q, struct job *job, uint64_t range, void *buf)
{
	uint64_t at = range * RANGE_BYTES, end = at + RANGE_BYTES;
	uint64_t size = (uint64_t)job->st.st_size;

	/* Files of no size may have content all the same (/proc): read until they end. */
	if (size == 0)
		end = UINT64_MAX;
	else if (end > size)
		end = size;
	while (at < end && !job_failed(q, job) && !copy_stopped()) {
		ssize_t n = job_copy_piece(q, job, at, end, buf);
		if (n < 0)
			return;
		if (n == 0)
			break;
		at += (uint64_t)n;
		atomic_fetch_add(&q->progress->bytes_done, (uint64_t)n);
	}
	if (size > 0 && at < end && !copy_stopped())
		job_fail(q, job, "became shorter while it was read");
}

static void job_check_source(struct copy_queue *q, struct job *job)
{
	const struct side *from = q->request->from;
	struct stat now;
	int r = from->fstat(from, job->in, &now);

	if (r < 0)
		job_fail(q, job, "cannot look again: %s", side_reason(from, r));
	else if (now.st_size != job->st.st_size ||
		 now.st_mtim.tv_sec != job->st.st_mtim.tv_sec ||
		 now.st_mtim.tv_nsec != job->st.st_mtim.tv_nsec)
		job_fail(q, job, "changed while it was read");
}

static void job_commit(struct copy_queue *q, struct job *job)
{
	const struct side *to = q->request->to;
	int r = to->finish(to, job->out, &job->st);

	if (r < 0) {
		job_fail(q, job, "cannot finish %s: %s", job->dst, side_reason(to, r));
		return;
	}
	r = to->close(to, job->out);
	job->out = NULL;
	if (r == 0)
		r = to->rename(to, job->temp, job->dst);
	if (r < 0) {
		job_fail(q, job, "cannot put %s in place: %s", job->dst, side_reason(to, r));
		return;
	}
	free(job->temp);
	job->temp = NULL;
}

/* A file has failed. If nobody is there any more, the others need not try one by one, each for as
 * long as the client waits. */
static void look_for_cluster(struct copy_queue *q)
{
	const struct side *sides[] = {q->request->from, q->request->to};

	for (size_t i = 0; i < 2; i++)
		if (sides[i]->lost && !copy_stopped() && sides[i]->lost(sides[i]) &&
		    !atomic_exchange(&lost, true))
			cli_complain(q->request->cli, "cluster", "no server answers: giving up");
}

static void job_end(struct copy_queue *q, struct job *job)
{
	const struct side *from = q->request->from, *to = q->request->to;

	if (copy_stopped() && job->in)
		job_fail(q, job, "interrupted");
	if (job->in && !job_failed(q, job))
		job_check_source(q, job);
	if (job->in && !job_failed(q, job))
		job_commit(q, job);
	if (job_failed(q, job))
		look_for_cluster(q);
	if (job->in)
		from->close(from, job->in);
	if (job->out)
		to->close(to, job->out);
	if (job->temp) {
		int r = to->unlink(to, job->temp);
		if (r < 0)
			cli_complain(q->request->cli, job->temp, "temporary file stays: %s",
				     side_reason(to, r));
	}
	if (job->failed)
		cli_complain(q->request->cli, job->src, "%s", job->reason);
	atomic_fetch_add(&q->progress->files_done, 1);
	job_free(job);
}

/* ---- workers ---- */

static struct item *queue_take(struct copy_queue *q)
{
	struct item *item;

	pthread_mutex_lock(&q->lock);
	while (!q->head && !(q->closed && q->busy == 0))
		pthread_cond_wait(&q->more, &q->lock);
	item = q->head;
	if (item) {
		q->head = item->next;
		if (!q->head)
			q->tail = &q->head;
		q->n_items--;
		q->busy++;
		pthread_cond_signal(&q->less);
	}
	pthread_mutex_unlock(&q->lock);
	return item;
}

static void queue_work(struct copy_queue *q, struct item *item, void *buf)
{
	struct job *job = item->job;
	bool last;

	if (!buf)
		job_fail(q, job, "out of memory");
	if (item->range == 0 && buf && !copy_stopped())
		job_begin(q, job);
	if (!job_failed(q, job) && !copy_stopped())
		job_copy_range(q, job, item->range, buf);
	pthread_mutex_lock(&q->lock);
	last = --job->ranges_left == 0;
	pthread_mutex_unlock(&q->lock);
	if (last)
		job_end(q, job);
	free(item);
	pthread_mutex_lock(&q->lock);
	q->busy--;
	if (q->busy == 0)
		pthread_cond_broadcast(&q->more);
	pthread_mutex_unlock(&q->lock);
}

static void *queue_thread(void *arg)
{
	struct copy_queue *q = arg;
	struct item *item;
	void *buf = NULL;

	if (posix_memalign(&buf, 4096, PIECE_BYTES) != 0)
		buf = NULL; /* then every file fails, told one by one */
	while ((item = queue_take(q)))
		queue_work(q, item, buf);
	free(buf);
	return NULL;
}

struct copy_queue *copy_queue_new(const struct copy_request *request, struct progress *progress)
{
	struct copy_queue *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->request = request;
	q->progress = progress;
	q->tail = &q->head;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->more, NULL);
	pthread_cond_init(&q->less, NULL);
	while (q->n_threads < request->workers &&
	       pthread_create(&q->threads[q->n_threads], NULL, queue_thread, q) == 0)
		q->n_threads++;
	if (q->n_threads == 0) {
		copy_queue_finish(q);
		return NULL;
	}
	return q;
}

int copy_queue_add(struct copy_queue *q, char *src, char *dst, uint64_t size)
{
	struct item *item = calloc(1, sizeof(*item));
	struct job *job = calloc(1, sizeof(*job));

	if (!item || !job) {
		free(item);
		free(job);
		return -ENOMEM;
	}
	*job = (struct job){.src = src, .dst = dst, .size = size, .ranges_left = 1};
	item->job = job;
	atomic_fetch_add(&q->progress->files, 1);
	atomic_fetch_add(&q->progress->bytes, size);
	pthread_mutex_lock(&q->lock);
	while (q->n_items >= QUEUE_MAX)
		pthread_cond_wait(&q->less, &q->lock);
	*q->tail = item;
	q->tail = &item->next;
	q->n_items++;
	pthread_cond_signal(&q->more);
	pthread_mutex_unlock(&q->lock);
	return 0;
}

void copy_queue_finish(struct copy_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closed = true;
	pthread_cond_broadcast(&q->more);
	pthread_mutex_unlock(&q->lock);
	for (unsigned i = 0; i < q->n_threads; i++)
		pthread_join(q->threads[i], NULL);
	pthread_cond_destroy(&q->less);
	pthread_cond_destroy(&q->more);
	pthread_mutex_destroy(&q->lock);
	free(q);
}
