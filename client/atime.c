/* Times of access. The master's clock sets them; this clock only tells when a day has passed. */
#include "client/client.h"
#include "common/clock.h"

enum { RELATIVE_S = 24 * 3600 };

static bool is_due(const struct cairn *fs, const struct wire_attr *attr)
{
	switch (fs->atime) {
	case CAIRN_ATIME_NONE: return false;
	case CAIRN_ATIME_STRICT: return true;
	default:
		return when_cmp(attr->atime, attr->mtime) <= 0 ||
		       when_cmp(attr->atime, attr->ctime) <= 0 ||
		       time(NULL) - attr->atime.sec >= RELATIVE_S;
	}
}

void atime_read(struct cairn *fs, const struct wire_attr *attr)
{
	struct cairn_attr none = {0};
	struct wire_attr got;

	if (is_due(fs, attr))
		meta_setattr(fs, NULL, attr->inode, SET_ACCESSED, &none, &got, NULL);
}

void atime_read_cached(struct cairn *fs, uint64_t inode)
{
	struct wire_attr attr;

	if (fs->atime == CAIRN_ATIME_NONE || !cache_get_attr(&fs->lease.cache, inode, &attr))
		return;
	writeback_attr(&fs->writeback, &attr);
	atime_read(fs, &attr);
}
