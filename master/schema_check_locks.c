/* Locks: `l` and `y`. */
#include "master/schema_check_priv.h"

#include <inttypes.h>

#include "common/cleanup.h"
#include "master/lock.h"

static int check_ranges(struct check *c, const struct lock_claim *owner,
			const struct lock_list *list)
{
	struct lock_claim claim = *owner;
	int r = 0;

	if (list->n == 0)
		check_wrong(c, "a lock of inode %" PRIx64 " has no range", owner->inode);
	for (unsigned i = 0; i < list->n && r >= 0; i++) {
		claim.range = list->ranges[i];
		if (i > 0 && list->ranges[i - 1].end + 1 == claim.range.start &&
		    list->ranges[i - 1].type == claim.range.type)
			check_wrong(c, "a lock of inode %" PRIx64 " is in two parts", owner->inode);
		r = lock_blocker(c->st, &claim, NULL);
		if (r == 1)
			check_wrong(c, "locks of inode %" PRIx64 " conflict", owner->inode);
	}
	return r < 0 ? r : 0;
}

static int check_lock(struct check *c, struct slice key, struct slice value)
{
	struct cursor cur = cursor_slice(value);
	struct lock_claim owner = {.inode = get_be64(key.data + 1),
				   .session = get_be64(key.data + 9),
				   .owner = get_be64(key.data + 17), .kind = key.data[25]};
	struct lock_list list;
	struct row_lock row;
	int r = check_has(c, key_session_lock(owner.session, owner.inode, owner.owner, owner.kind));

	if (r < 0)
		return r;
	if (r == 0)
		check_wrong(c, "a lock of inode %" PRIx64 " is not found by its session",
			    owner.inode);
	if (!seen_find(&c->sessions, owner.session))
		check_wrong(c, "a lock of inode %" PRIx64 " is of session %" PRIx64
			    ", which is not there", owner.inode, owner.session);
	r = row_lock_get(&cur, &row) < 0 ? ERR_CORRUPT : lock_list_get(row.ranges, &list);
	if (r == ERR_CORRUPT) {
		check_wrong(c, "a lock of inode %" PRIx64 " does not decode", owner.inode);
		return 0;
	}
	if (r == 0) {
		r = check_ranges(c, &owner, &list);
		lock_list_release(&list);
	}
	return r == ERR_CORRUPT ? 0 : r; /* another row of the file: it is told of by itself */
}

static int check_session_lock(struct check *c, struct slice key, struct slice value)
{
	uint64_t session = get_be64(key.data + 1), inode = get_be64(key.data + 9);
	int r = check_has(c, key_lock(inode, session, get_be64(key.data + 17), key.data[25]));

	if (r == 0)
		check_wrong(c, "session %" PRIx64 " is to have a lock of inode %" PRIx64
			    ", which is not there", session, inode);
	return r < 0 ? r : 0;
}

int check_locks(struct check *c)
{
	int r = check_each(c, KEY_LOCK, 26, check_lock);

	return r < 0 ? r : check_each(c, KEY_SESSION_LOCK, 26, check_session_lock);
}
