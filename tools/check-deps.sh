#!/bin/sh
# The direction of dependencies: common knows nobody; master, chunkserver and client know common
# only; fuse and tools know client and common; only tests know tests. Includes are rooted.
bad=0
check() { # COMPONENT ALLOWED...
	component=$1
	shift
	allowed=$(echo "$component $*" | tr ' ' '|')
	found=$(grep -nE '^#include "' "$component"/*.[ch] | grep -vE "#include \"($allowed)/")
	[ -z "$found" ] || { echo "$found"; bad=1; }
}
check common
check master common
check chunkserver common
check client common
check fuse client common
check tools client common
grep -nE '#include "(tests|master|chunkserver|fuse|tools)/' client/cairn.h && bad=1
# One user of each library that is wrapped.
only() { # HEADER-PATTERN FILE-PATTERN
	found=$(grep -nE "^#include <($1)" ./*/*.[ch] | grep -vE "$2")
	[ -z "$found" ] || { echo "$found"; bad=1; }
}
only 'leveldb/' '^./master/store\.c'
only 'raft' '^./master/rlog\.c'
only 'ini\.h' '^./common/conf\.c'
only 'isa-l' '^./common/crc\.c'
only 'openssl/ssl\.h' '^./common/tls'
[ $bad = 0 ] && echo "check-deps: ok"
exit $bad
