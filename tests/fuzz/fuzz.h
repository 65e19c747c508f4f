/* A fuzz target defines LLVMFuzzerTestOneInput. Built with clang it is a libFuzzer program; without
 * clang tests/fuzz/driver.c runs it on seeded random mutations of its seeds. A target also offers
 * valid inputs to start from: fuzz_seed(i) appends the ith to b, or returns false after the last. */
#ifndef CAIRN_TESTS_FUZZ_H
#define CAIRN_TESTS_FUZZ_H

#include "common/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
bool fuzz_seed(unsigned i, struct buf *b);

#endif
