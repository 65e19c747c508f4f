/* A client of a fake cluster with two servers, for tests of libcairn; included once by a test. */
#ifndef CAIRN_TESTS_UNIT_CLIENT_FIXTURE_H
#define CAIRN_TESTS_UNIT_CLIENT_FIXTURE_H

#include "client/client.h"
#include "tests/unit/fake_cluster.h"

static struct fake_cluster c;
static struct cairn *fs;

static int setup(void **state)
{
	fake_start(&c, 2);
	fs = fake_client(&c, -1);
	return 0;
}

static int teardown(void **state)
{
	cairn_disconnect(fs);
	fake_stop(&c);
	return 0;
}

#endif
