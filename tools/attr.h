/* Attributes as JSON, for ls and stat. */
#ifndef CAIRN_TOOLS_ATTR_H
#define CAIRN_TOOLS_ATTR_H

#include <jansson.h>

#include "client/cairn.h"

/* {"inode", "type", "mode" (octal text), "nlink", "uid", "gid", "size", "blocks", "atime", ...
 * (seconds with nanoseconds as text), "target" of a symbolic link}. NULL: out of memory. */
json_t *attr_to_json(struct cairn *fs, const struct cairn_attr *attr);

#endif
