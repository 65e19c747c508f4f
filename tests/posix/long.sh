#!/usr/bin/env bash
# The long form of the POSIX tests (`make test-posix`): the suite with its lists of known failures
# taken strictly, the differential test and the history test with new seeds, a directory of a million entries,
# a mount that is cut off, real programs. DIFFER_SEEDS, HISTORY_SECONDS, BIG_DIR and PROGRAMS make it longer or shorter.
cd "$(dirname "$0")/../.." || exit 1
export STRICT=1 DIFFER_SEED=${DIFFER_SEED:-$((RANDOM * 32768 + RANDOM))} DIFFER_SEEDS=${DIFFER_SEEDS:-60}
export HISTORY_SECONDS=${HISTORY_SECONDS:-60} BIG_DIR=${BIG_DIR:-1000000}
status=0
echo "# differential seeds from $DIFFER_SEED"
for t in tests/cluster/test_posix.sh tests/cluster/test_differential.sh tests/cluster/test_history.sh \
	tests/cluster/test_big_dir.sh tests/posix/cut_off.sh tests/posix/programs.sh; do
	bash "$t" | grep -v '^ok .*/' || true # the suite's cases are counted, not listed
	[ "${PIPESTATUS[0]}" = 0 ] || status=1
done
exit $status
