/* Faults of single messages (common/fault.h), for those who send and receive them. */
#ifndef CAIRN_COMMON_FAULT_NET_H
#define CAIRN_COMMON_FAULT_NET_H

#include "common/fault.h"
#include "common/wire.h"

/* What strikes the message that begins at `header` (WIRE_HEADER_BYTES) at FAULT_NET_SEND or
 * FAULT_NET_RECV. fault_map is not NULL. */
bool fault_message(enum fault_point point, const uint8_t *header, const char *peer, unsigned mask,
		   struct fault *ret);

#endif
