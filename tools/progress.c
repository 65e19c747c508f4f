#include "tools/progress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "tools/text.h"

enum { PERIOD_MS = 250, LINE_BYTES = 160 };

void progress_text(uint64_t files_done, uint64_t files, uint64_t bytes_done, uint64_t bytes,
		   int64_t elapsed_ms, char *ret, size_t room)
{
	char done[TEXT_SIZE_BYTES], all[TEXT_SIZE_BYTES], speed[TEXT_SIZE_BYTES];
	unsigned percent = bytes ? (unsigned)((double)bytes_done * 100 / (double)bytes) : 100;
	double per_second = elapsed_ms > 0 ? (double)bytes_done * 1000 / (double)elapsed_ms : 0;

	snprintf(ret, room, "%llu/%llu files, %s/%s %u%%, %s/s", (unsigned long long)files_done,
		 (unsigned long long)files, text_size(bytes_done, done), text_size(bytes, all),
		 percent > 100 ? 100 : percent, text_size((uint64_t)per_second, speed));
}

static void progress_show(struct progress *p)
{
	char line[LINE_BYTES];

	progress_text(atomic_load(&p->files_done), atomic_load(&p->files),
		      atomic_load(&p->bytes_done), atomic_load(&p->bytes),
		      clock_ms() - p->start_ms, line, sizeof(line));
	atomic_store(&p->cli->line_dirty, true);
	fprintf(stderr, "\r\033[K%s", line);
}

static void *progress_thread(void *arg)
{
	struct progress *p = arg;
	bool stop = false;

	while (!stop) {
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += PERIOD_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		pthread_mutex_lock(&p->lock);
		if (!p->stop)
			pthread_cond_timedwait(&p->wake, &p->lock, &until);
		stop = p->stop;
		pthread_mutex_unlock(&p->lock);
		progress_show(p);
	}
	fputc('\n', stderr);
	atomic_store(&p->cli->line_dirty, false);
	return NULL;
}

void progress_start(struct progress *p, struct cli *cli)
{
	*p = (struct progress){.cli = cli, .start_ms = clock_ms()};
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	if (!cli->quiet && isatty(STDERR_FILENO))
		p->running = pthread_create(&p->thread, NULL, progress_thread, p) == 0;
}

void progress_stop(struct progress *p)
{
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	if (p->running)
		pthread_join(p->thread, NULL);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
}
