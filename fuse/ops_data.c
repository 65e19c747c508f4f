/* Space and holes of files, and copies. */
#include "fuse/ops.h"

void ops_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		   struct fuse_file_info *fi)
{
	struct cairn_file *file;
	int r = ops_file(req, fi, &file);

	inval_change_begin(ops_inval(req), ino);
	if (r == 0)
		r = cairn_fallocate(file, mode, (uint64_t)off, (uint64_t)len);
	inval_change_end(ops_inval(req), ino);
	ops_reply_done(req, r, "fallocate", ino, NULL);
}

void ops_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct cairn_file *file;
	int64_t r = ops_file(req, fi, &file);

	if (r == 0)
		r = cairn_seek(file, (uint64_t)off, whence);
	if (r < 0)
		ops_fail(req, (int)r, "lseek", ino, NULL);
	else
		fuse_reply_lseek(req, r);
}

/* Comes back soon: the caller asks for the rest, and can be interrupted between. */
void ops_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			 struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			 struct fuse_file_info *fi_out, size_t len, int flags)
{
	enum { PART = 1 << 30 }; /* the answer has 32 bits */
	struct cairn_file *in, *out;
	ssize_t n = ops_file(req, fi_in, &in);

	if (n == 0)
		n = ops_file(req, fi_out, &out);
	inval_change_begin(ops_inval(req), ino_out);
	if (n == 0)
		n = cairn_copy_range(in, (uint64_t)off_in, out, (uint64_t)off_out,
				     len < PART ? len : PART);
	inval_change_end(ops_inval(req), ino_out);
	if (n < 0)
		ops_fail(req, (int)n, "copy_file_range", ino_out, NULL);
	else
		fuse_reply_write(req, (size_t)n);
}
