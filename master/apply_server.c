/* The list of chunkservers. */
#include "master/apply_priv.h"

#include "common/cleanup.h"

int apply_server_register(struct apply *a, const struct cmd_server_register *m,
			  struct wire_cs_registered *rep)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_server row = {.uuid = m->uuid, .addr = m->addr, .rack = m->rack,
				 .host = m->host, .holder = m->holder};
	struct row_server_ref ref;
	int r;

	if (m->uuid.len != UUID_BYTES || m->addr.len >= ADDR_BYTES_MAX ||
	    m->rack.len > TEXT_BYTES_MAX || m->host.len > TEXT_BYTES_MAX ||
	    m->holder.len >= IDENTITY_NAME_BYTES)
		return ERR_INVAL;
	r = state_get_row_server_ref(a->st, key_server_uuid(m->uuid.data), &ref, &backing);
	if (r < 0)
		return r;
	if (r == 0) {
		if (a->meta.next_server > CHUNKSERVERS_MAX)
			return apply_refuse(a, ERR_LIMIT, "too many chunkservers");
		ref.server = a->meta.next_server++;
		state_put_row_server_ref(a->st, key_server_uuid(m->uuid.data), &ref);
	} else {
		struct row_server before;
		r = state_get_row_server(a->st, key_server(ref.server), &before, &backing);
		if (r <= 0)
			return r < 0 ? r : ERR_CORRUPT;
		row.flags = before.flags; /* what an administrator set stays */
		/* Who has a certificate of another name has not its disks, whatever he says. With a shared
		 * key nobody has a name. */
		if (before.holder.len && m->holder.len && !slice_eq(before.holder, m->holder))
			return apply_refuse(a, ERR_PERM, "this server is %.*s's, not %.*s's",
					    (int)before.holder.len, (const char *)before.holder.data,
					    (int)m->holder.len, (const char *)m->holder.data);
		if (!m->holder.len)
			row.holder = before.holder;
	}
	state_put_row_server(a->st, key_server(ref.server), &row);
	*rep = (struct wire_cs_registered){.server = ref.server, .cluster = a->meta.cluster};
	return 0;
}

int apply_server_set(struct apply *a, const struct cmd_server_set *m, struct wire_empty *rep)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_server row;
	int r = state_get_row_server(a->st, key_server(m->server), &row, &backing);

	if (r < 0)
		return r;
	if (r == 0)
		return apply_refuse(a, ERR_NOENT, "there is no chunkserver %u", m->server);
	if (m->flags & ~SERVER_DRAINING)
		return ERR_INVAL;
	row.flags = m->flags;
	state_put_row_server(a->st, key_server(m->server), &row);
	return 0;
}

/* ---- taking one off the list ---- */

/* Whether a row's key begins with the first n bytes of this one. */
static int any_row(struct apply *a, struct key key, uint32_t n)
{
	struct key prefix = key_prefix(key, n);
	struct state_iter *it;
	struct slice found, value;
	int r = state_iter_open(a->st, key_slice(&prefix), (struct slice){0}, &it);

	if (r < 0)
		return r;
	r = state_iter_next(it, &found, &value);
	state_iter_close(it);
	return r;
}

/* Whether a raise that is not confirmed would make it a member. */
static int is_joining(struct apply *a, uint32_t server)
{
	uint8_t type = KEY_PENDING;
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(a->st, slice_of(&type, 1), (struct slice){0}, &it), found = 0;

	if (r < 0)
		return r;
	while (!found && (r = state_iter_next(it, &key, &value)) == 1) {
		_cleanup_buf_ struct buf backing = {0};
		struct row_chunk row;
		r = state_get_row_chunk(a->st, key_chunk(get_be64(key.data + 1)), &row, &backing);
		if (r != 1)
			break;
		for (unsigned i = 0; i < row.n_joining; i++)
			found |= row.joining[i].server == server;
	}
	state_iter_close(it);
	return r < 0 ? r : found;
}

/* What was to be deleted there goes with it. 1: all is forgotten, 0: there is more. */
static int garbage_forget_some(struct apply *a, uint32_t server)
{
	struct key prefix = key_prefix(key_garbage(server, 0), 5);
	uint64_t found[CMD_GARBAGE_MAX];
	struct state_iter *it;
	struct slice key, value;
	unsigned n = 0;
	int r = state_iter_open(a->st, key_slice(&prefix), (struct slice){0}, &it);

	if (r < 0)
		return r;
	while ((r = state_iter_next(it, &key, &value)) == 1 && n < CMD_GARBAGE_MAX)
		found[n++] = get_be64(key.data + 5);
	state_iter_close(it);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < n; i++) {
		struct key row = key_garbage(server, found[i]);
		state_del(a->st, key_slice(&row));
	}
	a->meta.garbage -= n;
	return r == 0;
}

int apply_server_remove(struct apply *a, const struct cmd_server_remove *m, struct cmd_closed *rep)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key key = key_server(m->server), uuid;
	struct row_server row;
	int r = state_get_row_server(a->st, key, &row, &backing);

	if (r <= 0)
		return r < 0 ? r : apply_refuse(a, ERR_NOENT, "there is no chunkserver %u",
						m->server);
	r = any_row(a, key_on_server(m->server, 0), 5);
	if (r == 0)
		r = is_joining(a, m->server);
	if (r == 1)
		return apply_refuse(a, ERR_BUSY, "chunkserver %u is a member of chunks", m->server);
	if (r == 0)
		r = garbage_forget_some(a, m->server);
	if (r < 0)
		return r;
	rep->more = r == 0;
	if (r == 0)
		return 0;
	uuid = key_server_uuid(row.uuid.data);
	state_del(a->st, key_slice(&uuid));
	state_del(a->st, key_slice(&key));
	return 0;
}
