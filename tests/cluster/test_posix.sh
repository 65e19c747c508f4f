#!/usr/bin/env bash
# The POSIX suite, on an ext4 first, where every case has to pass, then on a mount. What does not
# pass there yet stands in tests/posix/todo, what FUSE forbids in tests/posix/fuse-limits.
. "$(dirname "$0")/../lib/cluster.sh"
. "$(dirname "$0")/../lib/posix.sh"

LISTS=$(cd "$(dirname "$0")/../posix" && pwd)
posix_local 256M
posix_cluster

on_ext4() { "$TESTS_BIN/posix_suite" "$LOCAL" --jobs 2 >"$WORK/ext4" || ! grep '^not ok' "$WORK/ext4"; }
check "the suite passes on ext4" on_ext4
# Its lines are this test's: one for each case.
"$TESTS_BIN/posix_suite" "$MNT" --jobs 2 --known "$LISTS/todo" --known "$LISTS/fuse-limits" ${STRICT:+--strict}
case $? in
0) ;;
1) FAILED=$((FAILED + 1)) ;;
*) check "the suite runs" false ;;
esac
check "and leaves nothing behind" sh -c "[ -z \"\$(ls -A '$MNT')\" ]"
posix_unmount
