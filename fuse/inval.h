/* What the kernel may remember, and telling it when it must not any more.
 *
 * The rules
 * ---------
 *  1. A time-out is never longer than what libcairn promises (attr_ms, name_ms of cairn_attr) less
 *     INVAL_MARGIN_MS, and 0 without a promise.
 *  2. A recall and a reply may cross. Every inode has a stamp in its bucket. A handler takes a ticket
 *     before it asks libcairn (inval_ticket). The reply is written under the bucket's lock, with
 *     time-outs of 0 if the stamp is later than the ticket. A recall sets the stamp under the same
 *     lock and tells the kernel after it: so it finds every reply with a time-out written already.
 *  3. Written is not applied: the kernel takes a reply some time later, perhaps after it was told.
 *     Names are safe because the kernel notes its epoch before it sends the request: a recall that
 *     concerns the names of a directory moves the epoch (FUSE_NOTIFY_INC_EPOCH, Linux 6.16), after
 *     which no name of before is used unasked. A kernel without it gets no time-outs for names.
 *     The epoch is the whole mount's. So names of a directory that was recalled get no time-outs until
 *     it has been left alone for a while, each time longer: two mounts that share a directory ask
 *     their daemons for its names, and keep those of all others in their kernels.
 *  4. Attributes are safe because the kernel notes its attr_version before LOOKUP and GETATTR and drops
 *     an answer that an invalidation has overtaken, if it had the inode then. So replies of these two
 *     only carry time-outs, and LOOKUP's only for an inode that is `confirmed`: the kernel has sent
 *     a request about it since it was looked up. (Others apply what they carry unconditionally.)
 *  5. Attributes are invalidated without the pages (offset -1), which waits for no page. The daemon never
 *     drops pages itself: it would wait in the kernel for pages that are locked until a request is
 *     answered, and a process that waits so cannot be killed; its /dev/fuse stays open, and everybody
 *     else on the mount waits for ever. The reader drops them: read(2) with invalid attributes asks for
 *     them (a GETATTR that names the handle; that of stat(2) does not), and the kernel drops the pages
 *     when mtime differs from the last answer (FUSE_CAP_AUTO_INVAL_DATA).
 *  6. Whether pages are old is not told by mtime: it can be set back, and bytes change before it does. So
 *     every node counts (`moved`) what may have made them old: recalls, own changes, pages that were read
 *     without a lease. A read's answer tells an mtime that is wrong by some nanoseconds, different for
 *     each count, until one such answer has been out for INVAL_SETTLE_MS; without a lease each answer counts.
 *     No time-out goes with it, so that stat(2) asks, and is told the truth; and while that lasts nothing
 *     else gives the attributes of an open file a time-out, since a read would not ask then.
 *  7. An open keeps the pages only if the file's `change` is that of the open before and they are not old
 *     by rule 6. One that drops them settles that, if nobody else has the file open for reading.
 *  8. Handles that write have no pages (fuse/ops_file.c), nor have those that read while this mount has
 *     the file open for writing: the kernel drops the answer to a read's question that a write of its own
 *     has overtaken, and with it what the answer would have told of pages and size. What is mapped, or read
 *     by splice(2), follows another mount's change at the next read or open of the file on this mount.
 *  9. READDIRPLUS tells many names and attributes at once, and the kernel notes the epoch only when it takes
 *     them, and no version for inodes that are new to it: a page is *in limbo* until it was taken for
 *     certain. The kernel takes it under the directory's lock, shared. So it has been taken when the
 *     next request for the same open directory comes, or one for which the kernel holds that lock
 *     exclusively (it changes the directory). A recall of the directory, or of an inode that is known by
 *     that page alone, waits for one of these, or for a thread that asks the kernel to forget a name of
 *     the directory, which takes the lock too. The recall does not ask for it itself: it may be held
 *     by a change that waits for this very recall, whose request then is the proof. (There is none
 *     if the directory itself is being removed or renamed; there the lease's end bounds the wait.)
 *     Names and attributes of a page are those that libcairn knows while the buckets are locked.
 * 10. The kernel's copy of a listing is kept from one open to the next if the directory's `change` is the
 *     same and what the kernel has of the entries lasts: otherwise a READDIRPLUS brings all that in one.
 *
 * Any thread. A bucket's lock is held while a reply is written, and over nothing else that waits. */
#ifndef CAIRN_FUSE_INVAL_H
#define CAIRN_FUSE_INVAL_H

#include "fuse/fuse.h"

#include <stdbool.h>
#include <stdint.h>

#include "client/cairn.h"

enum {
	INVAL_MARGIN_MS = 200,
	INVAL_TIMEOUT_MAX_MS = 60000,
	INVAL_SETTLE_MS = 2000, /* rule 6 */
	/* Rule 3: how long a directory is taken for shared after a recall. */
	INVAL_SHARED_FIRST_MS = 250,
	INVAL_SHARED_MAX_MS = 60000,
};

struct inval;

/* caching false: all time-outs 0, nobody is told anything. NULL: out of memory. */
struct inval *inval_new(bool caching);
/* After the session has ended and libcairn is disconnected. NULL is fine. */
void inval_free(struct inval *v);
/* When the session is mounted. */
void inval_start(struct inval *v, struct fuse_session *session, uint64_t root);
/* Before the session is destroyed: the kernel is told nothing any more. */
void inval_stop(struct inval *v, int64_t within_ms);

/* For cairn_options: NULL-safe functions of cairn_watch; arg is the struct inval. */
void inval_recalled(void *arg, const uint64_t *inodes, unsigned n);
void inval_dropped(void *arg);

uint64_t inval_ticket(struct inval *v);

/* A reply about one node's attributes, between begin and end: the time-out in ms. lasting: rule 4
 * allows one. */
int64_t inval_attr_begin(struct inval *v, uint64_t ticket, const struct cairn_attr *attr,
			 bool lasting);
/* The same for read(2): rule 6; attr->mtime is what the kernel is to be told. */
int64_t inval_read_begin(struct inval *v, uint64_t ticket, struct cairn_attr *attr);
void inval_attr_end(struct inval *v, uint64_t inode);

/* A reply that tells a name, between begin and end; looked_up: it is LOOKUP's (rule 4). attr->inode 0: the
 * name is not there. The reply counts as a lookup of the inode, unless inval_entry_undo follows
 * inval_entry_end because it did not reach the kernel. */
struct inval_entry {
	uint64_t parent, inode;
	int64_t name_ms, attr_ms;
};
void inval_entry_begin(struct inval *v, uint64_t ticket, uint64_t parent,
		       const struct cairn_attr *attr, bool looked_up, struct inval_entry *ret);
void inval_entry_end(struct inval *v, const struct inval_entry *e);
void inval_entry_undo(struct inval *v, const struct inval_entry *e);
void inval_forget(struct inval *v, uint64_t inode, uint64_t n);

/* A page of a directory with what its names lead to (rule 9). Between begin and end: inval_page_entry for each
 * name of cairn_known, the reply, and nothing that waits. */
struct inval_page {
	uint64_t parent;
	uint64_t stamp;	  /* names the page for inval_page_taken; 0: no need */
	uint64_t *inodes; /* that it counts as looked up */
	unsigned n, cap;
};
void inval_page_begin(struct inval *v, uint64_t parent, struct inval_page *ret);
/* The time-outs. False: out of memory, tell the name alone. */
bool inval_page_entry(struct inval *v, struct inval_page *page, const struct cairn_attr *attr,
		      int64_t *ret_name_ms, int64_t *ret_attr_ms);
/* written false: it did not reach the kernel. */
void inval_page_end(struct inval *v, struct inval_page *page, bool written);
/* The kernel has taken this page. */
void inval_page_taken(struct inval *v, uint64_t parent, uint64_t stamp);
/* The kernel has sent a request for which it holds the directory's lock exclusively. */
void inval_dir_locked(struct inval *v, uint64_t dir);

/* The directory is opened with this change counter (0: not known): whether the kernel may answer from its
 * copy of the listing (rule 10). */
bool inval_dir_opened(struct inval *v, uint64_t inode, uint64_t change);

/* What a handle is for; PAGES: it reads through the kernel's pages. */
enum inval_use { INVAL_PAGES, INVAL_READS, INVAL_WRITES };
/* Whether the mount has it open for writing: then a handle that reads must not use pages (rule 8). */
bool inval_is_written(struct inval *v, uint64_t inode);
/* It was opened when it had this change counter: whether the kernel may keep the pages. */
bool inval_opened(struct inval *v, uint64_t inode, uint64_t change, enum inval_use use);
/* The same for a reply that tells a name and opens the file it names, between inval_entry_begin and the
 * reply: after it the kernel may have closed the file already. */
void inval_entry_opened(struct inval *v, const struct inval_entry *e, uint64_t change,
			enum inval_use use);
void inval_closed(struct inval *v, uint64_t inode, enum inval_use use);
/* Pages were read, with this ticket from before; leased: what they hold could not change until now. */
void inval_filled(struct inval *v, uint64_t ticket, uint64_t inode, bool leased);
/* The mount's own changes of data, around the call of libcairn. */
void inval_change_begin(struct inval *v, uint64_t inode);
void inval_change_end(struct inval *v, uint64_t inode);
/* We changed attributes that the kernel does not know of. */
void inval_attr_now(struct inval *v, uint64_t inode);

#endif
