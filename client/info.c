/* What lies behind files and cluster, for `cairn stat` and `cairn status`. */
#include <stdio.h>
#include <stdlib.h>

#include "client/locate.h"
#include "client/result.h"
#include "common/cleanup.h"

static_assert(sizeof(((struct cairn_replica_info *)0)->addr) == ADDR_BYTES_MAX, "addresses fit");
static_assert(sizeof(((struct cairn_status *)0)->queue) == REPLICAS_MAX * sizeof(uint64_t),
	      "the queue fits");
static_assert(sizeof(((struct cairn_chunk_info *)0)->replicas) ==
	      REPLICAS_MAX * sizeof(struct cairn_replica_info), "replicas fit");

static void text_copy(char *to, size_t room, struct slice from)
{
	snprintf(to, room, "%.*s", (int)(from.len < room ? from.len : room),
		 from.data ? (const char *)from.data : "");
}

static void hex_copy(char *to, size_t room, struct slice from)
{
	to[0] = '\0';
	for (uint32_t i = 0; i < from.len && 2 * i + 2 < room; i++)
		snprintf(to + 2 * i, 3, "%02x", from.data[i]);
}

static void chunk_info(const struct wire_chunk *chunk, struct cairn_chunk_info *ret)
{
	*ret = (struct cairn_chunk_info){.index = chunk->index, .count = 1, .id = chunk->id,
					 .version = chunk->version,
					 .written = chunk->flags & CHUNK_WRITTEN,
					 .n_replicas = chunk->n_replicas};
	for (unsigned i = 0; i < chunk->n_replicas; i++) {
		ret->replicas[i].server = chunk->replicas[i].server;
		text_copy(ret->replicas[i].addr, sizeof(ret->replicas[i].addr),
			  chunk->replicas[i].addr);
	}
}

struct chunk_walk {
	cairn_chunk_fn fn;
	void *arg;
	uint64_t told; /* all chunks before this one */
	bool stop;
};

static void tell_chunk(struct chunk_walk *w, const struct cairn_chunk_info *info)
{
	w->stop = w->stop || w->fn(w->arg, info) != 0;
	w->told = info->index + info->count;
}

static void tell_hole(struct chunk_walk *w, uint64_t end)
{
	struct cairn_chunk_info info = {.index = w->told, .count = end - w->told};

	if (w->told < end)
		tell_chunk(w, &info);
}

int cairn_chunks(struct cairn *fs, uint64_t inode, cairn_chunk_fn fn, void *arg)
{
	_cleanup_buf_ struct buf fields = {0};
	struct chunk_walk w = {.fn = fn, .arg = arg};
	struct err err = {0};
	struct wire_locate_reply rep;
	uint64_t first = 0, end;
	int r;

	do {
		r = locate_chunks(fs, inode, first, CHUNKS_PER_LOCATE_MAX, &rep, &fields,
				  client_deadline(fs), &err);
		if (r < 0)
			return (int)result(r, &err);
		/* Behind the end there are only holes, which are not told of. */
		end = rep.attr.size ? ((rep.attr.size - 1) >> rep.attr.chunk_bits) + 1 : 0;
		for (unsigned i = 0; i < rep.n_chunks && !w.stop; i++) {
			struct cairn_chunk_info info;
			if (rep.chunks[i].id == 0 || rep.chunks[i].index >= end)
				continue;
			chunk_info(&rep.chunks[i], &info);
			tell_hole(&w, info.index);
			tell_chunk(&w, &info);
		}
		first = locate_next(&rep, first);
	} while (first < end && !w.stop);
	tell_hole(&w, end);
	return 0;
}

static struct timespec time_of(struct when t)
{
	return (struct timespec){.tv_sec = t.sec, .tv_nsec = t.nsec};
}

static int servers_parse(struct slice list, struct cairn_status *s, struct err *err)
{
	struct cursor c = cursor_slice(list), one;
	size_t n = 0;
	int r;

	while ((r = wire_list_next(&c, &one)) == 1)
		n++;
	if (r < 0 || n > CHUNKSERVERS_MAX)
		return err_set(err, ERR_PROTOCOL, "malformed list of servers");
	s->servers = calloc(n ? n : 1, sizeof(*s->servers));
	if (!s->servers)
		return err_set(err, ERR_NOMEM, "out of memory");
	c = cursor_slice(list);
	while (wire_list_next(&c, &one) == 1) {
		struct cairn_server_info *to = &s->servers[s->n_servers];
		struct wire_server_status from;
		if (wire_server_status_get(&one, &from) < 0)
			return err_set(err, ERR_PROTOCOL, "malformed server status");
		*to = (struct cairn_server_info){
			.id = from.id, .state = from.state, .total_bytes = from.total_bytes,
			.free_bytes = from.free_bytes, .chunks = from.chunks,
			.disks = from.disks, .disks_bad = from.disks_bad,
			.draining = from.draining, .members = from.members,
			.silent_ms = from.silent_ms, .refused = from.refused,
			.scrub = {from.scrub.checked, from.scrub.total, from.scrub.bad,
				  from.scrub.rounds, time_of(from.scrub.ended)}};
		text_copy(to->addr, sizeof(to->addr), from.addr);
		text_copy(to->rack, sizeof(to->rack), from.rack);
		text_copy(to->host, sizeof(to->host), from.host);
		text_copy(to->uuid, sizeof(to->uuid), from.uuid);
		s->n_servers++;
	}
	return 0;
}

int cairn_status(struct cairn *fs, struct cairn_status **ret)
{
	_cleanup_buf_ struct buf fields = {0};
	struct err err = {0};
	struct wire_empty req = {};
	struct wire_cluster_status rep;
	struct cairn_status *s = NULL;
	int r = master_call(&fs->master, OP_CLUSTER_STATUS, &req, &rep, &fields,
			    client_deadline(fs), NULL, &err);

	if (r == 0) {
		s = calloc(1, sizeof(*s));
		r = s ? servers_parse(rep.servers, s, &err) : ERR_NOMEM;
	}
	if (r < 0) {
		cairn_status_free(s);
		return (int)result(r, &err);
	}
	hex_copy(s->cluster, sizeof(s->cluster), rep.cluster);
	s->applied = rep.applied;
	s->durable = rep.durable;
	s->inodes = rep.inodes;
	s->chunks = rep.chunks;
	s->chunks_under_goal = rep.chunks_under_goal;
	s->chunks_pending = rep.chunks_pending;
	s->garbage = rep.garbage;
	s->sessions = rep.sessions;
	s->links = rep.links;
	s->leases = rep.leases;
	s->held = rep.held;
	s->repairs = rep.repairs;
	s->moves = rep.moves;
	memcpy(s->queue, rep.queue, rep.n_queue * sizeof(rep.queue[0]));
	s->compare = (struct cairn_progress){rep.compare.compared, rep.compare.total,
					     rep.compare.differed, rep.compare.rounds,
					     time_of(rep.compare.ended)};
	*ret = s;
	return 0;
}

int cairn_server_drain(struct cairn *fs, uint32_t server, bool drain)
{
	_cleanup_buf_ struct buf fields = {0};
	struct err err = {0};
	struct wire_server_set req = {.server = server, .flags = drain ? SERVER_DRAINING : 0};
	struct wire_empty rep;
	int r = master_call(&fs->master, OP_SERVER_SET, &req, &rep, &fields, client_deadline(fs),
			    NULL, &err);

	return (int)result(r, &err);
}

int cairn_server_remove(struct cairn *fs, uint32_t server)
{
	_cleanup_buf_ struct buf fields = {0};
	struct err err = {0};
	struct wire_server_remove req = {.server = server};
	struct wire_empty rep;
	int r = master_call(&fs->master, OP_SERVER_REMOVE, &req, &rep, &fields,
			    client_deadline(fs), NULL, &err);

	return (int)result(r, &err);
}

void cairn_status_free(struct cairn_status *status)
{
	if (!status)
		return;
	free(status->servers);
	free(status);
}
