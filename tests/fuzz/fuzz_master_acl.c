/* Access control lists: what decodes encodes to the same bytes, and keeps to what a mode can say. */
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "master/acl.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf again = {0};
	struct slice value = slice_of(data, (uint32_t)size);
	uint32_t mode = 0100644, back = 0;
	struct acl acl;

	if (acl_decode(value, &acl) < 0)
		return 0;
	acl_encode(&acl, &again);
	if (!slice_eq(value, buf_slice(&again)))
		abort();
	if (acl.n > 0) {
		acl_follow_mode(&acl, 0751);
		acl_to_mode(&acl, &back);
		acl_inherit(&acl, &mode);
		if (back != 0751 || mode != 0100640)
			abort();
	}
	acl_release(&acl);
	return 0;
}

bool fuzz_seed(unsigned i, struct buf *b)
{
	static struct acl_entry entries[] = {{1, 7, 0}, {2, 6, 9}, {4, 5, 0}, {8, 4, 9},
						   {16, 7, 0}, {32, 1, 0}};
	static struct acl_entry three[] = {{1, 7, 0}, {4, 5, 0}, {32, 1, 0}};

	if (i == 0)
		acl_encode(&(struct acl){6, entries}, b);
	else if (i == 1)
		acl_encode(&(struct acl){3, three}, b);
	return i < 2;
}
