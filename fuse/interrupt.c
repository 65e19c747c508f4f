#include "fuse/interrupt.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "common/clock.h"
#include "common/wait.h"
#include "fuse/loop.h"

/* How often those are looked at that were told of; EARLY_MAX: interrupts that overtook their request on
 * its way from one thread's read to that thread's entry here. */
enum { LOOK_MS = 20, EARLY_MAX = 16 };

struct interrupts {
	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t told;
	struct interruptible *all;
	unsigned n_signalled;
	uint64_t early[EARLY_MAX];
	unsigned n_early;
	bool stop;
	pthread_t watcher;
};

/* A thread that is to die has SIGKILL pending, whichever signal it was that it does not handle. */
static bool is_dying(uint32_t pid)
{
	uint64_t pending = 0;
	char path[40], line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/status", pid);
	f = fopen(path, "re");
	if (!f)
		return false; /* of another pid name space, or hidden: it has INTERRUPT_AFTER_MS, too */
	while (!found && fgets(line, sizeof(line), f))
		found = sscanf(line, "SigPnd: %" SCNx64, &pending) == 1;
	fclose(f);
	return pending >> (SIGKILL - 1) & 1;
}

/* Again and again until it has ended: the signal may come just before a wait begins. */
static void look(struct interruptible *w, int64_t now)
{
	if (!atomic_load(&w->cut) && now - w->begun_ms < INTERRUPT_AFTER_MS && !is_dying(w->pid))
		return;
	atomic_store(&w->cut, true);
	pthread_kill(w->thread, LOOP_KICK_SIGNAL);
}

static void *watch(void *arg)
{
	struct interrupts *x = arg;
	struct interruptible *w;

	pthread_mutex_lock(&x->lock);
	while (!x->stop) {
		if (x->n_signalled == 0) {
			pthread_cond_wait(&x->told, &x->lock);
			continue;
		}
		DL_FOREACH(x->all, w)
			if (w->signalled)
				look(w, clock_ms());
		wait_until(&x->told, &x->lock, deadline_in(LOOK_MS));
	}
	pthread_mutex_unlock(&x->lock);
	return NULL;
}

struct interrupts *interrupts_new(void)
{
	struct interrupts *x = calloc(1, sizeof(*x));
	sigset_t all, old;
	int r;

	if (!x || wait_cond_init(&x->told) < 0) {
		free(x);
		return NULL;
	}
	pthread_mutex_init(&x->lock, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = pthread_create(&x->watcher, NULL, watch, x);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0) {
		pthread_cond_destroy(&x->told);
		pthread_mutex_destroy(&x->lock);
		free(x);
		return NULL;
	}
	return x;
}

void interrupts_free(struct interrupts *x)
{
	if (!x)
		return;
	pthread_mutex_lock(&x->lock);
	x->stop = true;
	pthread_cond_signal(&x->told);
	pthread_mutex_unlock(&x->lock);
	pthread_join(x->watcher, NULL);
	pthread_cond_destroy(&x->told);
	pthread_mutex_destroy(&x->lock);
	free(x);
}

void interrupts_join(struct interrupts *x, struct interruptible *me)
{
	*me = (struct interruptible){.thread = pthread_self()};
	deadline_cut_by(&me->cut);
	pthread_mutex_lock(&x->lock);
	DL_APPEND(x->all, me);
	pthread_mutex_unlock(&x->lock);
}

void interrupts_leave(struct interrupts *x, struct interruptible *me)
{
	deadline_cut_by(NULL);
	pthread_mutex_lock(&x->lock);
	DL_DELETE(x->all, me);
	pthread_mutex_unlock(&x->lock);
}

/* Lock held. */
static void signalled(struct interrupts *x, struct interruptible *w)
{
	if (w->signalled)
		return;
	w->signalled = true;
	x->n_signalled++;
	pthread_cond_signal(&x->told);
}

void interrupts_begin(struct interrupts *x, struct interruptible *me, uint64_t unique,
		      uint32_t pid)
{
	pthread_mutex_lock(&x->lock);
	me->unique = unique;
	me->pid = pid;
	me->begun_ms = clock_ms();
	for (unsigned i = 0; i < EARLY_MAX; i++) {
		if (x->early[i] != unique || !unique)
			continue;
		x->early[i] = 0;
		signalled(x, me);
	}
	pthread_mutex_unlock(&x->lock);
}

void interrupts_end(struct interrupts *x, struct interruptible *me)
{
	pthread_mutex_lock(&x->lock);
	x->n_signalled -= me->signalled;
	me->signalled = false;
	me->unique = 0;
	atomic_store(&me->cut, false);
	pthread_mutex_unlock(&x->lock);
}

void interrupts_signal(struct interrupts *x, uint64_t unique)
{
	struct interruptible *w;

	pthread_mutex_lock(&x->lock);
	DL_SEARCH_SCALAR(x->all, w, unique, unique);
	if (w)
		signalled(x, w);
	else
		x->early[x->n_early++ % EARLY_MAX] = unique;
	pthread_mutex_unlock(&x->lock);
}
