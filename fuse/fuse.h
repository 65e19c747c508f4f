/* libfuse's low-level interface, at the version this program is written for. */
#ifndef CAIRN_FUSE_FUSE_H
#define CAIRN_FUSE_FUSE_H

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 14)
#include <fuse3/fuse_lowlevel.h>

#endif
