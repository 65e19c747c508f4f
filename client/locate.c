#include "client/locate.h"

#include "client/wait.h"
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

int locate_chunks(struct cairn *fs, uint64_t inode, uint64_t first, uint32_t count,
		  struct wire_locate_reply *ret, struct buf *fields, int64_t deadline_ms,
		  struct err *err)
{
	struct backoff pause = {LOCATE_BACKOFF_FIRST_MS, LOCATE_BACKOFF_MAX_MS};
	struct wire_locate req = {.inode = inode, .first = first, .count = count};
	int r;

	client_cred(NULL, &req.cred);
	do {
		r = master_call(&fs->master, OP_LOCATE, &req, ret, fields, deadline_ms, NULL, err);
	} while (is_passing(r) && backoff_pause(&pause, deadline_ms));
	if (is_passing(r))
		err_prefix(err, r, "locate chunk %llu of inode %llx", (unsigned long long)first,
			   (unsigned long long)inode);
	return gone_is_stale(r, inode, err);
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
	client_cred(NULL, &req.cred);
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

	if (req.text.len > TEXT_BYTES_MAX)
		req.text.len = TEXT_BYTES_MAX;
	log_warn("%s", text);
	return master_call(&fs->master, OP_CHUNK_FAULT, &req, &empty, &fields, deadline_ms, NULL,
			   err);
}
