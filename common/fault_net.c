#include "common/fault_net.h"

#include <stdio.h>

bool fault_message(enum fault_point point, const uint8_t *header, const char *peer, unsigned mask,
		   struct fault *ret)
{
	struct wire_header h;
	char text[ADDR_BYTES_MAX + 128];

	if (wire_header_get(header, &h, NULL) < 0)
		return false;
	snprintf(text, sizeof(text), "%s %s %s %s", h.flags & WIRE_REPLY ? "reply" : "request",
		 wire_op_name(h.op), point == FAULT_NET_SEND ? "to" : "from", peer);
	return fault_take(point, text, mask, ret);
}
