#include "client/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/client.h"
#include "client/result.h"
#include "common/cleanup.h"
#include "common/log.h"

void locks_init(struct locks *l)
{
	pthread_mutex_init(&l->lock, NULL);
	pthread_mutex_init(&l->line.lock, NULL);
	l->line.wake_fd = -1;
}

static void record_free(struct locks *l, struct lock_record *r)
{
	HASH_DEL(l->records, r);
	free(r->handles);
	free(r);
}

void locks_release(struct locks *l)
{
	struct lock_record *r, *next;

	lock_line_end(&l->line);
	HASH_ITER(hh, l->records, r, next)
		record_free(l, r);
	if (l->line.wake_fd >= 0)
		close(l->line.wake_fd);
	pthread_mutex_destroy(&l->line.lock);
	pthread_mutex_destroy(&l->lock);
}

/* ---- records ---- */

static struct lock_record *record_find(struct locks *l, const struct lock_record_key *key)
{
	struct lock_record *r;

	HASH_FIND(hh, l->records, key, sizeof(*key), r);
	return r;
}

static bool record_has(const struct lock_record *r, uint64_t handle)
{
	for (unsigned i = 0; i < r->n_handles; i++)
		if (r->handles[i] == handle)
			return true;
	return false;
}

static int record_handle(struct lock_record *r, uint64_t handle)
{
	uint64_t *p;

	if (record_has(r, handle))
		return 0;
	p = realloc(r->handles, (r->n_handles + 1) * sizeof(*p));
	if (!p)
		return ERR_NOMEM;
	r->handles = p;
	p[r->n_handles++] = handle;
	return 0;
}

/* Before a lock is asked for: from now on it may be held. */
static int record_use(struct locks *l, uint64_t inode, const struct cairn_lock *lock)
{
	struct lock_record_key key = {inode, lock->owner, (uint64_t)lock->kind};
	struct lock_record *r;
	int code;

	pthread_mutex_lock(&l->lock);
	r = record_find(l, &key);
	if (!r) {
		r = calloc(1, sizeof(*r));
		if (r) {
			r->key = key;
			HASH_ADD(hh, l->records, key, sizeof(r->key), r);
		}
	}
	code = r ? record_handle(r, lock->handle) : ERR_NOMEM;
	if (r)
		r->uses++;
	pthread_mutex_unlock(&l->lock);
	return code;
}

/* Everything of this record was given back, unless something was asked for since. */
static void record_end(struct locks *l, const struct lock_record_key *key, uint64_t uses)
{
	struct lock_record *r;

	pthread_mutex_lock(&l->lock);
	r = record_find(l, key);
	if (r && r->uses == uses)
		record_free(l, r);
	pthread_mutex_unlock(&l->lock);
}

static uint64_t record_uses(struct locks *l, const struct lock_record_key *key)
{
	struct lock_record *r;
	uint64_t uses;

	pthread_mutex_lock(&l->lock);
	r = record_find(l, key);
	uses = r ? r->uses : 0;
	pthread_mutex_unlock(&l->lock);
	return uses;
}

/* ---- asking the master ---- */

int lock_attempt(struct cairn *fs, uint64_t inode, const struct cairn_lock *lock, struct err *err)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_lock req = {.inode = inode, .owner = lock->owner, .kind = (uint8_t)lock->kind,
				.type = (uint8_t)lock->type, .start = lock->start,
				.end = lock->end, .pid = lock->pid};
	struct lock_record_key key = {inode, lock->owner, (uint64_t)lock->kind};
	bool all = lock->type == CAIRN_UNLOCK && lock->start == 0 && lock->end >= CAIRN_LOCK_END;
	struct wire_lock_reply rep;
	uint64_t uses = 0;
	int r = 0;

	if (lock->type != CAIRN_UNLOCK)
		r = record_use(&fs->locks, inode, lock);
	else
		uses = record_uses(&fs->locks, &key);
	if (r < 0)
		return err_set(err, r, "out of memory");
	if (lock->type == CAIRN_UNLOCK && uses == 0 && lock->kind != LOCK_APPEND)
		return 0; /* nothing can be held */
	inodes_cred(&fs->inodes, &fs->session, inode, lock->type == CAIRN_LOCK_EXCLUSIVE, &req.cred);
	r = session_mutate(&fs->session, OP_LOCK, &req, &req.id, &rep, &fields,
			   client_deadline(fs), err);
	if (r < 0)
		return err_prefix(err, r, "lock inode %llx", (unsigned long long)inode);
	if (!rep.granted)
		return err_set(err, ERR_AGAIN, "inode %llx is locked", (unsigned long long)inode);
	if (all)
		record_end(&fs->locks, &key, uses);
	return 0;
}

int cairn_lock(struct cairn *fs, uint64_t inode, const struct cairn_lock *lock)
{
	struct err err = {0};
	return (int)result(lock_attempt(fs, inode, lock, &err), &err);
}

int cairn_lock_test(struct cairn *fs, uint64_t inode, const struct cairn_lock *lock,
		    struct cairn_lock *ret)
{
	_cleanup_buf_ struct buf fields = {0};
	struct wire_lock_test req = {
		.inode = inode, .owner = lock->owner, .kind = (uint8_t)lock->kind,
		.type = (uint8_t)lock->type, .start = lock->start, .end = lock->end};
	struct wire_lock_state rep = {0};
	struct err err = {0};
	int r;

	req.session = session_id(&fs->session);
	inodes_cred(&fs->inodes, &fs->session, inode, false, &req.cred);
	r = master_call(&fs->master, OP_LOCK_TEST, &req, &rep, &fields, client_deadline(fs), NULL,
			&err);
	if (r < 0)
		return (int)result(r, &err);
	*ret = (struct cairn_lock){.kind = lock->kind, .type = rep.type, .start = rep.start,
				   .end = rep.end};
	if (rep.session == req.session)
		ret->pid = rep.pid;
	return 0;
}

/* ---- closing ---- */

static int unlock_all(struct cairn *fs, const struct lock_record_key *key)
{
	struct cairn_lock lock = {.owner = key->owner, .kind = (int)key->kind,
				  .type = CAIRN_UNLOCK, .end = CAIRN_LOCK_END};
	struct err err = {0};

	return (int)result(lock_attempt(fs, key->inode, &lock, &err), &err);
}

int cairn_unlock_owner(struct cairn *fs, uint64_t inode, uint64_t owner)
{
	struct lock_record_key key = {inode, owner, CAIRN_LOCK_RANGE};

	return record_uses(&fs->locks, &key) ? unlock_all(fs, &key) : 0;
}

/* The next record of this handle: false when there is none. */
static bool record_of_handle(struct locks *l, uint64_t inode, uint64_t handle,
			     struct lock_record_key *ret)
{
	struct lock_record *r, *next;
	bool found = false;

	pthread_mutex_lock(&l->lock);
	HASH_ITER(hh, l->records, r, next) {
		if (r->key.inode != inode || !record_has(r, handle))
			continue;
		for (unsigned i = 0; i < r->n_handles; i++)
			if (r->handles[i] == handle)
				r->handles[i--] = r->handles[--r->n_handles];
		*ret = r->key;
		found = true;
		break;
	}
	pthread_mutex_unlock(&l->lock);
	return found;
}

int cairn_unlock_handle(struct cairn *fs, uint64_t inode, uint64_t handle)
{
	struct lock_record_key key;
	int r = 0, first = 0;

	while (record_of_handle(&fs->locks, inode, handle, &key)) {
		r = unlock_all(fs, &key);
		if (r < 0 && first == 0)
			first = r;
	}
	return first;
}

/* ---- the list ---- */

static int locks_page(struct slice rows, cairn_lock_info_fn fn, void *arg, struct err *err)
{
	struct cursor c = cursor_slice(rows), row;
	int r;

	while ((r = wire_list_next(&c, &row)) == 1) {
		char path[4097] = "", client[TEXT_BYTES_MAX + 1] = "";
		struct wire_lock_row m;
		struct cairn_lock_info info;
		if (wire_lock_row_get(&row, &m) < 0)
			return err_set(err, ERR_PROTOCOL, "malformed list of locks");
		if (m.path.len < sizeof(path))
			memcpy(path, m.path.data ? (const char *)m.path.data : "", m.path.len);
		if (m.client.len < sizeof(client))
			memcpy(client, m.client.data ? (const char *)m.client.data : "",
			       m.client.len);
		info = (struct cairn_lock_info){
			.inode = m.inode, .session = m.session, .path = path, .client = client,
			.waits = m.waits,
			.lock = {.owner = m.owner, .kind = m.kind, .type = m.type,
				 .start = m.start, .end = m.end, .pid = m.pid}};
		if (fn(arg, &info) != 0)
			return 1;
	}
	return r < 0 ? err_set(err, r, "malformed list of locks") : 0;
}

int cairn_locks(struct cairn *fs, cairn_lock_info_fn fn, void *arg)
{
	_cleanup_buf_ struct buf from = {0};
	struct err err = {0};
	int r;

	do {
		_cleanup_buf_ struct buf fields = {0};
		struct wire_locks req = {.from = buf_slice(&from)};
		struct wire_locks_reply rep;
		r = master_call(&fs->master, OP_LOCKS, &req, &rep, &fields, client_deadline(fs),
				NULL, &err);
		if (r == 0)
			r = locks_page(rep.rows, fn, arg, &err);
		if (r != 0)
			break;
		buf_clear(&from);
		buf_append_slice(&from, rep.next);
	} while (from.len > 0);
	return r < 0 ? (int)result(r, &err) : 0;
}
