/* libfuse answers INIT itself. Reading and writing /dev/fuse go through functions of ours, which add
 * to its first answer what the kernel offered in its first request. */
#include "fuse/init.h"

#include <linux/fuse.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { DIRECT_IO_ALLOW_MMAP = 1 << 4 }; /* in flags2, as linux/fuse.h has it since Linux 6.6 */

/* INIT is the first request and is answered before another one is read. */
static atomic_bool answered, direct_mmap;

static bool is_offered(const void *request, size_t bytes)
{
	struct fuse_in_header head;
	struct fuse_init_in in;

	if (bytes < sizeof(head) + sizeof(in))
		return false;
	memcpy(&head, request, sizeof(head));
	memcpy(&in, (const char *)request + sizeof(head), sizeof(in));
	return head.opcode == FUSE_INIT && (in.flags & FUSE_INIT_EXT) &&
	       (in.flags2 & DIRECT_IO_ALLOW_MMAP);
}

static ssize_t init_read(int fd, void *buf, size_t bytes, void *arg)
{
	ssize_t n = read(fd, buf, bytes);

	if (n > 0 && !atomic_load(&answered))
		atomic_store(&direct_mmap, is_offered(buf, (size_t)n));
	return n;
}

static ssize_t init_writev(int fd, struct iovec *iov, int count, void *arg)
{
	struct fuse_init_out out;
	struct iovec changed[2];

	if (atomic_exchange(&answered, true) || !atomic_load(&direct_mmap))
		return writev(fd, iov, count);
	if (count != 2 || iov[1].iov_len < sizeof(out)) { /* an error */
		atomic_store(&direct_mmap, false);
		return writev(fd, iov, count);
	}
	memcpy(&out, iov[1].iov_base, sizeof(out));
	out.flags |= FUSE_INIT_EXT;
	out.flags2 |= DIRECT_IO_ALLOW_MMAP;
	changed[0] = iov[0];
	changed[1] = (struct iovec){&out, sizeof(out)};
	return writev(fd, changed, 2);
}

int init_watch(struct fuse_session *session)
{
	const struct fuse_custom_io io = {.read = init_read, .writev = init_writev};

	return fuse_session_custom_io(session, &io, fuse_session_fd(session));
}

bool init_direct_mmap(void)
{
	return atomic_load(&direct_mmap);
}
