#include "chunkserver/store_priv.h"

#include <fcntl.h>
#include <stdio.h>

#include "common/log.h"

/* ---- identity ---- */

struct slice store_uuid(struct store *s)
{
	for (size_t i = 0; i < s->n_disks; i++)
		if (s->disks[i].has_server)
			return slice_of(s->disks[i].server, sizeof(s->disks[i].server));
	return (struct slice){0};
}

struct slice store_cluster(struct store *s)
{
	for (size_t i = 0; i < s->n_disks; i++)
		if (s->disks[i].has_cluster)
			return slice_of(s->disks[i].cluster, sizeof(s->disks[i].cluster));
	return (struct slice){0};
}

int store_join_cluster(struct store *s, struct slice cluster, struct err *err)
{
	for (size_t i = 0; i < s->n_disks; i++) {
		struct disk *disk = &s->disks[i];
		int r = disk->failed ? 0 : disk_join_cluster(s->o.io, disk, cluster, err);
		if (r == ERR_WRONG_CLUSTER || r == ERR_PROTOCOL)
			return r;
		pthread_mutex_lock(&s->lock);
		disk_error(s, disk, r, "write its identity", true);
		pthread_mutex_unlock(&s->lock);
	}
	return 0;
}

/* ---- space ---- */

static uint64_t disk_free(struct store *s, struct disk *disk)
{
	struct io_space space;

	if (disk->failed || s->o.io->space(s->o.io, disk->dir, &space) < 0)
		return 0;
	return space.free_bytes > s->o.reserve_bytes ? space.free_bytes - s->o.reserve_bytes : 0;
}

void store_space(struct store *s, struct wire_cs_heartbeat *ret)
{
	for (size_t i = 0; i < s->n_disks; i++) {
		struct disk *disk = &s->disks[i];
		struct io_space space;
		ret->disks++;
		if (disk->failed || s->o.io->space(s->o.io, disk->dir, &space) < 0) {
			ret->disks_bad++;
			continue;
		}
		ret->total_bytes += space.total_bytes;
		ret->free_bytes += disk_free(s, disk);
	}
	pthread_mutex_lock(&s->lock);
	ret->chunks = HASH_COUNT(s->replicas);
	pthread_mutex_unlock(&s->lock);
}

struct disk *disk_with_most_room(struct store *s, uint64_t bytes)
{
	struct disk *best = NULL;
	uint64_t best_free = 0;

	for (size_t i = 0; i < s->n_disks; i++) {
		uint64_t room = disk_free(s, &s->disks[i]);
		if (room > best_free) {
			best = &s->disks[i];
			best_free = room;
		}
	}
	return best_free > bytes ? best : NULL;
}

/* ---- the scrubber's place ---- */

enum { SCRUB_TEXT_MAX = 128 };

static bool scrub_path(struct store *s, char *ret)
{
	for (size_t i = 0; i < s->n_disks; i++) {
		if (s->disks[i].failed)
			continue;
		snprintf(ret, PATH_ROOM, "%s/scrub", s->disks[i].dir);
		return true;
	}
	return false;
}

void store_scrub_note(struct store *s, uint64_t position, const struct wire_scrub *progress)
{
	char path[PATH_ROOM], text[SCRUB_TEXT_MAX + 1];
	int fd, n;

	if (!scrub_path(s, path))
		return;
	/* Of one length, so that a later note covers an earlier one. */
	n = snprintf(text, sizeof(text), "%016llx %020llu %020llu %020llu %020lld\n",
		     (unsigned long long)position, (unsigned long long)progress->checked,
		     (unsigned long long)progress->bad, (unsigned long long)progress->rounds,
		     (long long)progress->ended.sec);
	fd = s->o.io->open(s->o.io, path, O_WRONLY | O_CREAT, 0600);
	if (fd < 0)
		return;
	s->o.io->pwrite(s->o.io, fd, text, (size_t)n, 0);
	s->o.io->close(s->o.io, fd);
}

void store_scrub_noted(struct store *s, uint64_t *ret_position, struct wire_scrub *ret)
{
	char path[PATH_ROOM], text[SCRUB_TEXT_MAX + 1];
	unsigned long long position, checked, bad, rounds;
	long long ended;
	ssize_t n = 0;
	int fd;

	*ret_position = 0;
	*ret = (struct wire_scrub){0};
	fd = scrub_path(s, path) ? s->o.io->open(s->o.io, path, O_RDONLY, 0) : -1;
	if (fd >= 0) {
		n = s->o.io->pread(s->o.io, fd, text, SCRUB_TEXT_MAX, 0);
		s->o.io->close(s->o.io, fd);
	}
	text[n > 0 ? n : 0] = '\0';
	if (sscanf(text, "%16llx %llu %llu %llu %lld", &position, &checked, &bad, &rounds,
		   &ended) != 5)
		return;
	*ret_position = position;
	*ret = (struct wire_scrub){.checked = checked, .bad = bad, .rounds = rounds,
				   .ended = {.sec = ended}};
}

/* ---- failing ---- */

/* Its replicas are lost from now on. Those in use keep their file until they are released. */
static void disk_fail(struct store *s, struct disk *disk, const char *why)
{
	struct replica *r, *next;
	unsigned lost = 0;

	disk->failed = true;
	HASH_ITER(hh, s->replicas, r, next) {
		if (r->disk != disk)
			continue;
		lost++;
		r->lost = r->damaged = true;
		r->dirty = r->journaled = r->name_dirty = false;
		if (r->users == 0 && !r->alone)
			replica_close(s, r);
	}
	log_error("disk %s: %s: it has failed, with %u chunks", disk->dir, why, lost);
	pthread_cond_broadcast(&s->changed);
	if (s->o.disk_failed)
		s->o.disk_failed(s->o.arg);
}

void disk_error(struct store *s, struct disk *disk, int code, const char *what, bool at_once)
{
	char why[256];

	if (code >= 0 || disk->failed || code == ERR_NOSPC || code == ERR_NOMEM ||
	    code == ERR_DQUOT || code == ERR_MFILE || code == ERR_EXIST)
		return;
	snprintf(why, sizeof(why), "cannot %s: %s", what, err_text(code));
	if (at_once || code == ERR_ROFS || code == ERR_NODEV)
		disk_fail(s, disk, why);
	else if (code == ERR_IO && ++disk->io_errors >= DISK_ERRORS_MAX)
		disk_fail(s, disk, "errors on many chunks");
}

void replica_error(struct store *s, struct replica *r, int code)
{
	if (code != ERR_IO && code != ERR_ROFS && code != ERR_NODEV)
		return;
	/* Bad sectors of one chunk are one error, however often they are met. */
	if (r->io_error && code == ERR_IO)
		return;
	r->io_error = true;
	disk_error(s, r->disk, code, "read or write a chunk", false);
}

void store_disk_error(struct store *s, unsigned disk, int code, bool at_once)
{
	pthread_mutex_lock(&s->lock);
	disk_error(s, &s->disks[disk], code, "write a copy", at_once);
	pthread_mutex_unlock(&s->lock);
}
