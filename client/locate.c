#include "client/locate.h"

#include <stdlib.h>

#include "client/wait.h"
#include "common/clock.h"
#include "common/cleanup.h"
#include "common/log.h"

enum { LOCATE_BACKOFF_FIRST_MS = 5, LOCATE_BACKOFF_MAX_MS = 500 };

/* The name went away under an open handle: what NFS calls a stale handle. */
static int gone_is_stale(int r, uint64_t inode, struct err *err)
{
	if (r != ERR_NOENT)
		return r;
	return err_set(err, ERR_STALE, "inode %llx is gone", (unsigned long long)inode);
}

/* The chunk that the master waited for was cut away, is still being raised, or has no server now:
 * all of that passes. */
static bool is_passing(int code)
{
	return code == ERR_CHUNK_PENDING || code == ERR_NO_CHUNK || code == ERR_CHUNK_VERSION ||
	       code == ERR_NO_SERVERS;
}

static int locate_ask(struct cairn *fs, uint64_t inode, uint64_t first, uint32_t count,
		      struct wire_locate_reply *ret, struct buf *fields, uint64_t reader,
		      uint8_t *ret_leased, int64_t deadline_ms, struct err *err)
{
	struct backoff pause = {LOCATE_BACKOFF_FIRST_MS, LOCATE_BACKOFF_MAX_MS};
	struct wire_locate req = {.inode = inode, .first = first, .count = count,
				  .session = reader};
	int r;

	inodes_cred(&fs->inodes, &fs->session, inode, false, &req.cred);
	do {
		r = master_call_leased(&fs->master, OP_LOCATE, &req, ret, fields, deadline_ms,
				       NULL, ret_leased, err);
	} while (is_passing(r) && backoff_pause(&pause, deadline_ms));
	if (is_passing(r))
		err_prefix(err, r, "locate chunk %llu of inode %llx", (unsigned long long)first,
			   (unsigned long long)inode);
	return gone_is_stale(r, inode, err);
}

int locate_chunks(struct cairn *fs, uint64_t inode, uint64_t first, uint32_t count,
		  struct wire_locate_reply *ret, struct buf *fields, int64_t deadline_ms,
		  struct err *err)
{
	uint8_t leased;

	/* Named, so as not to wait for what this session holds back itself. */
	return locate_ask(fs, inode, first, count, ret, fields, lease_reader(&fs->lease), &leased,
			  deadline_ms, err);
}

uint64_t locate_next(const struct wire_locate_reply *rep, uint64_t first)
{
	uint64_t next = first + CHUNKS_PER_LOCATE_MAX;
	uint64_t last = (rep->attr.size ? rep->attr.size - 1 : 0) >> rep->attr.chunk_bits;

	if (rep->next > next)
		next = rep->next;
	return next <= last ? next : last + 1;
}

static bool located_make(struct located *l, uint64_t first, uint32_t count)
{
	l->first = first;
	l->n = count;
	l->chunks = count == 1 ? &l->one : calloc(count, sizeof(*l->chunks));
	return l->chunks != NULL;
}

void located_release(struct located *l)
{
	if (l->chunks != &l->one)
		free(l->chunks);
	l->chunks = NULL;
}

/* What the answer tells; chunks that are not named are holes. */
static int located_fill(struct located *l, const struct wire_locate_reply *rep, bool *ret_whole,
			struct err *err)
{
	int r = 0;

	l->attr = rep->attr;
	*ret_whole = true;
	for (unsigned i = 0; i < l->n; i++)
		l->chunks[i] = (struct location){.index = l->first + i};
	for (unsigned i = 0; i < rep->n_chunks && r == 0; i++) {
		uint64_t at = rep->chunks[i].index - l->first;
		if (rep->chunks[i].index < l->first || at >= l->n)
			continue;
		r = location_from_wire(&l->chunks[at], &rep->chunks[i], err);
		/* One whose servers are away just now is asked for again. */
		if (l->chunks[at].id && l->chunks[at].n_replicas == 0)
			*ret_whole = false;
	}
	return r;
}

int locate_for_read(struct cairn *fs, uint64_t inode, uint64_t first, uint32_t count,
		    struct located *ret, int64_t deadline_ms, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct cache *cache = &fs->lease.cache;
	struct wire_locate_reply rep;
	uint64_t ticket;
	uint8_t leased;
	bool whole;
	int r;

	if (!located_make(ret, first, count))
		return err_set(err, ERR_NOMEM, "out of memory");
	if (cache_get_locations(cache, inode, first, count, &ret->attr, ret->chunks))
		return 0;
	ticket = cache_ticket(cache);
	r = locate_ask(fs, inode, first, count, &rep, &fields, lease_reader(&fs->lease), &leased,
		       deadline_ms, err);
	if (r == 0)
		r = located_fill(ret, &rep, &whole, err);
	if (r == 0 && whole && (leased & WIRE_LEASED_INODE))
		cache_put_locations(cache, ticket, &ret->attr, ret->chunks, ret->n);
	if (r < 0)
		located_release(ret);
	return r;
}

int locate_one(struct cairn *fs, uint64_t inode, uint64_t index, struct location *ret,
	       uint64_t *ret_change, int64_t deadline_ms, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_locate_reply rep;
	int r = locate_chunks(fs, inode, index, 1, &rep, &fields, deadline_ms, err);

	if (r < 0)
		return r;
	if (ret_change)
		*ret_change = rep.attr.change;
	for (unsigned i = 0; i < rep.n_chunks; i++)
		if (rep.chunks[i].index == index)
			return location_from_wire(ret, &rep.chunks[i], err);
	*ret = (struct location){.index = index};
	return 0;
}

int locate_for_write(struct cairn *fs, struct inode *inode, uint64_t index,
		     struct location *ret, uint64_t *ret_since, int64_t deadline_ms,
		     struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_chunk_for_write req = {.inode = inode->number, .index = index};
	struct wire_chunk_reply rep;
	int r;

	if (inode_location_get(inode, index, ret, ret_since))
		return 0;
	inodes_cred(&fs->inodes, &fs->session, inode->number, true, &req.cred);
	r = session_mutate(&fs->session, OP_CHUNK_FOR_WRITE, &req, &req.id, &rep, &fields,
			   deadline_ms, err);
	if (r < 0)
		return gone_is_stale(r, inode->number, err);
	if (rep.chunk.id == 0 || rep.chunk.index != index)
		return err_set(err, ERR_PROTOCOL, "CHUNK_FOR_WRITE was answered without a chunk");
	r = location_from_wire(ret, &rep.chunk, err);
	if (r < 0)
		return r;
	if (ret->n_replicas == 0)
		return err_set(err, ERR_NO_SERVERS, "chunk %llx v%u of inode %llx has no server",
			       (unsigned long long)ret->id, ret->version,
			       (unsigned long long)inode->number);
	*ret_since = rep.attr.change;
	inode_location_put(inode, ret, rep.attr.change);
	return 0;
}

int locate_fault(struct cairn *fs, const struct location *loc, uint32_t server, bool writing,
		 int reason, const char *text, int64_t deadline_ms, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_chunk_fault req = {
		.chunk = loc->id, .version = loc->version, .server = server,
		.writing = writing, .reason = reason, .text = slice_str(text),
	};
	struct wire_empty empty;

	if (deadline_is_cut())
		return ERR_TIMEOUT; /* it had not its time: nothing is known against it */
	if (req.text.len > TEXT_BYTES_MAX)
		req.text.len = TEXT_BYTES_MAX;
	log_warn("%s", text);
	return master_call(&fs->master, OP_CHUNK_FAULT, &req, &empty, &fields, deadline_ms, NULL,
			   err);
}
